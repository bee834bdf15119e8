//! A disk that is full or read-only: what removes works and gives space back, and the engine starts.

use crate::cli::{Machine, machine};
use testkit::disk::{self, Kind, SmallDisk};
use testkit::images::{self, Entry};

/// Disks, and what is left on each.
fn full_disks() -> impl Iterator<Item = (Kind, u64)> {
    let kinds = [Kind::Tmpfs, Kind::Ext4].into_iter();
    kinds.flat_map(|kind| [0, 64 << 10, 1 << 20].map(|free| (kind, free)))
}

/// An image with a megabyte of its own and many directories.
fn push_large(floe: &Machine, name: &str) -> String {
    let name = format!("{}/full/{name}:1", floe.registry.host());
    let noise: Vec<u8> = (0..1_u64 << 20).map(|n| (n * n % 251) as u8).collect();
    let dirs: Vec<String> = (0..300).map(|n| format!("d{n}/e")).collect();
    let mut entries = vec![
        Entry::File("large", 0o644, &noise),
        Entry::File("name", 0o644, name.as_bytes()),
    ];
    entries.extend(dirs.iter().map(|dir| Entry::File(dir, 0o644, b"x")));
    let layer = images::layer(&entries).expect("a layer");
    floe.push_layers(&name, &[layer], serde_json::json!({}));
    name
}

#[test]
fn what_removes_works_on_a_full_disk_and_gives_the_space_back_when_it_answers() {
    machine(|floe| {
        disk::private_mounts().expect("private mounts");
        let large = push_large(floe, "large");
        let nameless = push_large(floe, "nameless");
        let digest = floe
            .floe(&[
                "inspect",
                "--no-tags",
                "--format",
                "{{.Digest}}",
                &format!("docker://{nameless}"),
            ])
            .ok();
        let (repository, _) = nameless.rsplit_once(':').expect("a tag");
        for (kind, free) in full_disks() {
            let place = format!("{kind:?} with {free} bytes free");
            let disk = SmallDisk::mount(kind, &floe.node.path("root"), 32).expect("a disk");
            for image in [&large, &floe.image, &format!("{repository}@{digest}")] {
                floe.floe(&["pull", "-q", image]).ok();
            }
            for name in ["one", "two"] {
                floe.background(
                    name,
                    "dd if=/dev/zero of=/written bs=64k count=16 2>&-; sleep 1000",
                );
            }
            crate::cli::until("it has written", || {
                floe.floe(&["exec", "two", "test", "-s", "/written"]).code == 0
            });
            disk.fill(free).expect("fill the disk");
            let said = floe.floe(&["rm", "-f", "-t", "0", "one"]);
            assert_eq!(said.code, 0, "{place}: {}", said.err);
            assert_eq!(floe.listed(&["-a"]), ["two"], "{place}");
            disk.fill(free).expect("fill the disk");
            let said = floe.floe(&["rmi", &large]);
            assert_eq!(said.code, 0, "{place}: {}", said.err);
            let now = disk.free().expect("free");
            assert!(now >= free + (1 << 20), "{place}: {now} bytes are free");
            disk.fill(free).expect("fill the disk");
            let said = floe.floe(&["image", "prune", "-f"]);
            assert_eq!(said.code, 0, "{place}: {}", said.err);
            assert!(disk.free().expect("free") >= free + (1 << 20), "{place}");
            assert_eq!(
                floe.floe(&["images", "-q"]).ok().lines().count(),
                1,
                "{place}"
            );
            disk.fill(0).expect("fill the disk");
            floe.floe(&["rm", "-f", "-t", "0", "two"]).ok();
            floe.floe(&["rmi", &floe.image]).ok();
            let left = floe.floe(&["system", "check"]).ok();
            assert!(
                left.contains("0 images, 0 layers and 0 blobs"),
                "{place}: {left}"
            );
        }
    });
}

#[test]
fn the_engine_starts_and_removes_pods_when_store_and_run_directory_are_full() {
    machine(|floe| {
        disk::private_mounts().expect("private mounts");
        for (kind, free) in full_disks() {
            let place = format!("{kind:?} with {free} bytes free");
            let root = SmallDisk::mount(kind, &floe.node.path("root"), 24).expect("a disk");
            let run = SmallDisk::mount(kind, &floe.node.path("run"), 24).expect("a disk");
            floe.floe(&["pull", "-q", &floe.image]).ok();
            floe.background("one", "sleep 1000");
            // Half made, by an engine that was killed; SQLite's shared memory has to be made again, too.
            std::fs::create_dir_all(floe.node.path("root/containers/half/upper")).expect("half");
            std::fs::remove_file(floe.node.path("root/meta.sqlite-shm")).expect("remove");
            root.fill(free).expect("fill the disk");
            run.fill(free).expect("fill the disk");
            floe.node
                .serve()
                .unwrap_or_else(|error| panic!("{place}: {error}"));
            assert!(!floe.node.path("root/containers/half").exists(), "{place}");
            assert_eq!(floe.listed(&[]), ["one"], "{place}");
            let said = floe.floe(&["stop", "-t", "0", "one"]);
            assert_eq!(said.code, 0, "{place}: {}", said.err);
            let said = floe.floe(&["rm", "-f", "-t", "0", "one"]);
            assert_eq!(said.code, 0, "{place}: {}", said.err);
            floe.floe(&["rmi", &floe.image]).ok();
            floe.node.terminate().expect("end the engine");
            assert!(
                std::fs::read_dir(floe.node.path("run/pods"))
                    .expect("pods")
                    .next()
                    .is_none()
            );
            drop((root, run));
        }
    });
}

#[test]
fn a_read_only_store_and_run_directory_are_served_as_they_are() {
    machine(|floe| {
        disk::private_mounts().expect("private mounts");
        for kind in [Kind::Tmpfs, Kind::Ext4] {
            let root = SmallDisk::mount(kind, &floe.node.path("root"), 24).expect("a disk");
            let run = SmallDisk::mount(kind, &floe.node.path("run"), 24).expect("a disk");
            floe.floe(&["pull", "-q", &floe.image]).ok();
            let all = floe.floe(&["images"]).ok();
            // What the last engine did not get to.
            std::fs::create_dir_all(floe.node.path("root/containers/half/upper")).expect("half");
            std::fs::create_dir_all(floe.node.path("run/pods/half")).expect("half");
            root.make_read_only().expect("read-only");
            run.make_read_only().expect("read-only");
            floe.node
                .serve()
                .unwrap_or_else(|error| panic!("{kind:?}: {error}"));
            assert!(
                floe.node.log().contains("is read-only"),
                "{}",
                floe.node.log()
            );
            assert_eq!(floe.floe(&["images"]).ok(), all);
            assert_eq!(floe.listed(&["-a"]), [""; 0]);
            floe.floe(&["inspect", &format!("floe:{}", floe.image)])
                .ok();
            floe.floe(&["rmi", &floe.image])
                .failed(125, &["Read-only file system"]);
            floe.floe(&["tag", &floe.image, "example.com/x:1"])
                .failed(125, &["Read-only"]);
            floe.node.terminate().expect("end the engine");
            drop((root, run));
        }
    });
}
