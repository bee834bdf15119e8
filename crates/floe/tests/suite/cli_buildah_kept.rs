//! Working containers as they are kept (`floe buildah`): what is mounted and run at once is one, and what kills, engines,
//! collections and full disks leave is there or gone.

use std::fs;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use testkit::disk::{self, Kind, SmallDisk};
use testkit::kill::{End, Stops, kill_at};

use crate::cli::{Machine, Said, machine, until};

/// A command that is to be killed.
fn traced(floe: &Machine, arguments: &[&str]) -> Command {
    let mut command = floe.command(arguments);
    command.stdout(Stdio::null()).stderr(Stdio::null());
    command
}

/// How often a command can be killed, which comes to its end here.
fn stops(floe: &Machine, arguments: &[&str]) -> usize {
    match kill_at(&mut traced(floe, arguments), Stops::Writes, usize::MAX).expect("trace floe") {
        End::Finished { stops } => stops,
        End::Killed => panic!("it was killed"),
    }
}

#[test]
fn a_mount_is_the_container_itself_and_commands_wait_for_each_other() {
    machine(|floe| {
        let image = floe.image.clone();
        let id_of = |name: &str| {
            floe.buildah(&["containers", "-q", "--filter", &format!("name={name}")])
                .ok()
        };
        floe.buildah(&["from", "--name", "c", "-q", &image]).ok();
        let at = PathBuf::from(floe.buildah(&["mount", "c"]).ok());
        assert!(at.starts_with(floe.node.dir()), "{at:?}");
        assert_eq!(floe.buildah(&["mount"]).ok(), format!("c {}", at.display()));
        // What is written at the mount, by commands and by copies is one and the same, at once.
        fs::write(at.join("by-hand"), "hand").unwrap();
        let said = floe.in_working(
            &[],
            "c",
            "cat /by-hand; echo command > /by-command; rm /by-hand",
        );
        assert_eq!(said.ok(), "hand");
        let file = floe.written("x", "copied");
        floe.buildah(&["copy", "-q", "c", &file, "/by-copy"]).ok();
        let read = |name: &str| fs::read_to_string(at.join(name)).ok();
        assert_eq!(read("by-command").as_deref(), Some("command\n"));
        assert_eq!(
            (read("by-copy").as_deref(), read("by-hand")),
            (Some("copied"), None)
        );
        floe.buildah(&["commit", "-q", "c", "mounted"]).ok();
        assert_eq!(
            floe.floe(&[
                "run",
                "--rm",
                "--network",
                "none",
                "localhost/mounted",
                "cat",
                "/by-copy"
            ])
            .ok(),
            "copied"
        );

        // A busy one stays and says so; it is taken back, and again is no error.
        let held = fs::File::open(at.join("bin")).unwrap();
        floe.buildah(&["umount", "c"])
            .failed(125, &["error unmounting container c"]);
        drop(held);
        assert_eq!(floe.buildah(&["umount", "c"]).ok(), id_of("c"));
        assert_eq!(floe.buildah(&["umount", "c"]).ok(), "");

        // The second command begins when the first has ended.
        let door = floe.node.path("door");
        fs::create_dir(&door).unwrap();
        let volume = format!("{}:/door", door.display());
        let script = "touch /door/in; until [ -e /door/go ]; do sleep 0.05; done; touch /first";
        let first = floe.begun(&[
            "run",
            "--network",
            "none",
            "-v",
            &volume,
            "c",
            "sh",
            "-c",
            script,
        ]);
        until("the first runs", || door.join("in").exists());
        let second = floe.begun(&["run", "--network", "none", "c", "--", "ls", "/first"]);
        fs::write(door.join("go"), "").unwrap();
        for child in [first, second] {
            Said::from(child.wait_with_output().unwrap()).ok();
        }

        // Of a command that is killed nothing goes on, and the container stays.
        let script = "echo $$ > /door/pid; touch /kept; sleep 1000";
        let mut killed = floe.begun(&[
            "run",
            "--network",
            "none",
            "-v",
            &volume,
            "c",
            "sh",
            "-c",
            script,
        ]);
        until("the command runs", || {
            fs::read_to_string(door.join("pid")).is_ok_and(|pid| !pid.is_empty())
        });
        killed.kill().unwrap();
        killed.wait().unwrap();
        assert_eq!(
            floe.in_working(&[], "c", "ls /kept; ps | grep -c '[s]leep 1000'")
                .out,
            "/kept\n0\n"
        );
        // Nor is what it was mounted on in an image.
        let at = PathBuf::from(floe.buildah(&["mount", "c"]).ok());
        assert!(at.join("kept").exists() && !at.join("etc/hosts").exists());
        assert!(!at.join("door").exists() && !at.join("run").exists());
        // It is removed while it is mounted.
        floe.buildah(&["rm", "c"]).ok();
        floe.nothing_is_left_of_working();
    });
}

#[test]
fn what_is_killed_while_it_is_made_or_removed_is_there_or_gone() {
    machine(|floe| {
        let image = floe.image.clone();
        floe.floe(&["pull", "-q", &image]).ok();
        floe.buildah(&["from", "--name", "kept", &image]).ok();
        floe.in_working(&[], "kept", "echo kept > /kept").ok();
        let from = ["buildah", "from", "--name", "new", image.as_str()];
        let remove = ["buildah", "rm", "new"];
        let (of_from, of_remove) = (stops(floe, &from), stops(floe, &remove));
        let both = [(&from[..], of_from), (&remove[..], of_remove)];
        for (command, count) in both {
            for stop in (0..count).step_by((count / 10).max(1)) {
                if command == remove {
                    floe.floe(&from).ok();
                }
                kill_at(&mut traced(floe, command), Stops::Writes, stop).expect("trace floe");
                let place = format!("{} killed at {stop}", command[1]);
                let names = floe.names_of_working();
                if names == ["kept", "new"] {
                    floe.in_working(&[], "new", "true").ok();
                    floe.floe(&remove).ok();
                }
                // Its name is free again, whatever was left.
                floe.floe(&from).ok();
                assert_eq!(floe.names_of_working(), ["kept", "new"], "{place}");
                floe.floe(&remove).ok();
                let left = fs::read_dir(floe.node.path("root/containers")).unwrap();
                assert_eq!(left.count(), 1, "{place}");
            }
        }
        assert_eq!(floe.in_working(&[], "kept", "cat /kept").ok(), "kept");
        floe.buildah(&["rm", "-a"]).ok();
        floe.nothing_is_left_of_working();
    });
}

#[test]
fn what_an_engine_clears_away_is_no_working_container() {
    machine(|floe| {
        let image = floe.image.clone();
        floe.buildah(&["from", "--name", "kept", "-q", &image]).ok();
        floe.in_working(&[], "kept", "echo kept > /kept").ok();
        for who in ["image", "system"] {
            floe.floe(&[who, "prune", "-a", "-f"]).ok();
        }
        assert_ne!(floe.floe(&["images", "-q"]).ok(), "");
        // kubelet's collection of images asks nobody.
        floe.node.serve().expect("the engine starts");
        let endpoint = format!("unix://{}", floe.node.socket().display());
        floe.floe(&["cri", "-r", &endpoint, "rmi", &image]).ok();
        floe.node.kill().expect("the engine ends");
        assert_eq!(floe.floe(&["images", "-q"]).ok(), "");
        assert_eq!(floe.names_of_working(), ["kept"]);
        assert_eq!(floe.in_working(&[], "kept", "cat /kept").ok(), "kept");
        floe.buildah(&["commit", "-q", "kept", "later"]).ok();
        assert_eq!(
            floe.floe(&[
                "run",
                "--rm",
                "--network",
                "none",
                "localhost/later",
                "cat",
                "/kept"
            ])
            .ok(),
            "kept"
        );
        floe.floe(&["system", "check"]).ok();
        // A record that nobody can read is listed, and can be removed.
        let dir = fs::read_dir(floe.node.path("root/containers"))
            .unwrap()
            .next()
            .unwrap()
            .unwrap()
            .path();
        fs::write(dir.join("working.json"), "{\"version\": 9}").unwrap();
        let said = floe.buildah(&["containers", "-q"]);
        let id = dir
            .file_name()
            .unwrap()
            .to_str()
            .unwrap()
            .strip_prefix("build-container-")
            .unwrap();
        assert_eq!(said.out.trim(), id);
        assert!(said.err.contains("needs a newer floe"), "{}", said.err);
        floe.buildah(&["run", id, "true"])
            .failed(125, &["needs a newer floe", "remove it with rm"]);
        assert_eq!(floe.buildah(&["rm", &id[..12]]).ok(), id);
        floe.floe(&["rmi", "-a", "-f"]).ok();
        floe.nothing_is_left_of_working();
    });
}

#[test]
fn a_working_container_is_removed_on_a_full_disk_and_one_that_has_no_room_is_none() {
    machine(|floe| {
        disk::private_mounts().expect("private mounts");
        for kind in [Kind::Tmpfs, Kind::Ext4] {
            let disk = SmallDisk::mount(kind, &floe.node.path("root"), 32).expect("a disk");
            let image = floe.image.clone();
            floe.buildah(&["from", "-q", "--name", "c", &image]).ok();
            floe.in_working(&[], "c", "dd if=/dev/zero of=/written bs=64k count=16 2>&-")
                .ok();
            floe.buildah(&["mount", "c"]).ok();
            disk.fill(0).expect("fill the disk");
            let said = floe.buildah(&["from", "--name", "d", &image]);
            assert_eq!(
                (said.code, said.out.as_str()),
                (125, ""),
                "{kind:?}: {said:?}"
            );
            assert_eq!(floe.names_of_working(), ["c"], "{kind:?}");
            let said = floe.buildah(&["rm", "c"]);
            assert_eq!(said.code, 0, "{kind:?}: {}", said.err);
            assert!(disk.free().expect("free") >= 1 << 20, "{kind:?}");
            floe.nothing_is_left_of_working();
            floe.floe(&["rmi", "-a"]).ok();
        }
    });
}
