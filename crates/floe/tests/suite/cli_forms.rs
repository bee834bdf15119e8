//! Layers that are an archive and an index (`layer_form = "erofs"`), as people see them: everything that reads an
//! image reads it as well, and nothing stays mounted.

use std::path::PathBuf;

use crate::cli::{Machine, machine};
use testkit::images;

/// Runs a test on a machine where layers have that form; says so where they cannot.
fn with_indexed_layers(test: impl FnOnce(&mut Machine)) {
    machine(|floe| {
        floe.set_layer_form("erofs");
        floe.floe(&["pull", "-q", &floe.image]).ok();
        match forms(floe).iter().all(|form| *form == "erofs") {
            true => test(floe),
            false => println!("SKIP: layers cannot be mounted as files here"),
        }
        floe.floe(&["rm", "-f", "-a", "-t", "0"]).ok();
        assert_eq!(mounted(floe), Vec::<PathBuf>::new());
    });
}

/// Gives the node's configuration a key of its table of images.
fn set_image_key(floe: &Machine, key: &str) {
    let config = std::fs::read_to_string(floe.node.config()).expect("read");
    let key = format!("[crio.image]\n{key}\n");
    let config = config.replacen("[crio.image]\n", &key, 1);
    std::fs::write(floe.node.config(), config).expect("write");
}

/// The forms of the layers in the store, as they lie there.
fn forms(floe: &Machine) -> Vec<&'static str> {
    let layers = std::fs::read_dir(floe.node.path("root/layers")).expect("read");
    let names = layers.map(|entry| entry.expect("read").file_name());
    let names = names.filter_map(|name| name.into_string().ok().filter(|name| name != "0"));
    let form = |name: String| match name.ends_with(".erofs") {
        true => "erofs",
        false => "unpacked",
    };
    names.map(form).collect()
}

fn mounted(floe: &Machine) -> Vec<PathBuf> {
    let root = floe.node.path("root");
    let all = std::fs::read_to_string("/proc/self/mountinfo").expect("read");
    let places = all.lines().filter_map(|line| line.split(' ').nth(4));
    let places = places.map(PathBuf::from);
    places.filter(|place| place.starts_with(&root)).collect()
}

#[test]
fn containers_run_on_them_and_share_a_mount_that_goes_with_the_last() {
    with_indexed_layers(|floe| {
        assert_eq!(floe.run(&["--rm"], &[]).ok(), "default");
        assert_eq!(mounted(floe), Vec::<PathBuf>::new());
        floe.background("one", "sleep 1000");
        floe.background("two", "sleep 1000");
        assert_eq!(mounted(floe).len(), 1);
        let wrote = "cp /bin/busybox /tmp/busybox && rm /bin/busybox && /tmp/busybox echo wrote";
        let said = floe.floe(&["exec", "one", "/bin/sh", "-c", wrote]).ok();
        assert_eq!(said, "wrote");
        let other = floe
            .floe(&["exec", "two", "/bin/busybox", "echo", "whole"])
            .ok();
        assert_eq!(other, "whole");
        floe.floe(&["rm", "-f", "-t", "0", "one"]).ok();
        assert_eq!(mounted(floe).len(), 1);
        let other = floe
            .floe(&["exec", "two", "/bin/busybox", "echo", "whole"])
            .ok();
        assert_eq!(other, "whole");
    });
}

#[test]
fn what_reads_an_image_reads_them_too() {
    with_indexed_layers(|floe| {
        let passwd = b"me:x:1234:99::/home:/bin/sh\n";
        let layer = images::layer(&[images::Entry::File("etc/passwd", 0o644, passwd)]);
        let image = format!("{}/cli/users:1", floe.registry.host());
        let layers = [images::busybox().expect("busybox"), layer.expect("a layer")];
        let config = serde_json::json!({ "Cmd": ["id", "-u"], "Env": ["PATH=/bin"], "User": "me" });
        floe.push_layers(&image, &layers, config);
        floe.floe(&["pull", "-q", &image]).ok();
        let run = ["run", "--network", "none", "--name", "user", &image];
        assert_eq!(floe.floe(&run).ok(), "1234");
        let archive = floe.node.path("saved.tar").display().to_string();
        floe.floe(&[
            "copy",
            &format!("floe:{image}"),
            &format!("oci-archive:{archive}"),
        ])
        .ok();
        floe.floe(&["system", "check"]).ok();
        floe.floe(&["rm", "-f", "user"]).ok();
        floe.floe(&["rmi", &image]).ok();
        floe.floe(&[
            "copy",
            &format!("oci-archive:{archive}"),
            &format!("floe:{image}"),
        ])
        .ok();
        assert_eq!(
            floe.floe(&["run", "--rm", "--network", "none", &image])
                .ok(),
            "1234"
        );
        assert!(forms(floe).iter().all(|form| *form == "erofs"));
    });
}

#[test]
fn layers_are_converted_but_for_those_that_a_container_stands_on() {
    with_indexed_layers(|floe| {
        let convert = |form| floe.floe(&["system", "convert", "--form", form]);
        floe.background("user", "sleep 1000");
        let said = convert("unpacked");
        assert!(said.out.contains("stands on it"), "{said:?}");
        assert_eq!(said.code, 125, "{said:?}");
        floe.floe(&["rm", "-f", "-t", "0", "user"]).ok();
        for form in ["unpacked", "erofs"] {
            let said = convert(form).ok();
            assert!(said.starts_with("Converted 1 of 1 layers"), "{said}");
            assert_eq!(forms(floe), [form]);
            assert_eq!(floe.run(&["--rm"], &[]).ok(), "default");
            floe.floe(&["system", "check"]).ok();
        }
        convert("round").failed(125, &["round"]);
    });
}

#[test]
fn images_that_the_configuration_names_are_unpacked() {
    with_indexed_layers(|floe| {
        floe.floe(&["rmi", &floe.image]).ok();
        set_image_key(floe, "unpacked_images = [\"*cli/busybox*\"]");
        floe.floe(&["pull", "-q", &floe.image]).ok();
        assert_eq!(forms(floe), ["unpacked"]);
        assert_eq!(floe.run(&["--rm"], &[]).ok(), "default");
    });
}

#[test]
fn images_are_saved_and_pushed_from_the_archive_where_no_blob_is_kept() {
    with_indexed_layers(|floe| {
        floe.floe(&["rmi", &floe.image]).ok();
        set_image_key(floe, "keep_blobs = \"until-unpacked\"");
        floe.floe(&["pull", "-q", &floe.image]).ok();
        let place = format!("floe:{}", floe.image);
        let (diff_ids, layers) = identities(floe, &place);
        let blob = |digest: &str| floe.node.path("root/blobs/sha256").join(&digest[7..]);
        assert!(!blob(&layers[0]).exists());
        for transport in ["docker-archive", "oci-archive"] {
            let file = floe.node.path(transport).display().to_string();
            let save = ["save", "-q", "--format", transport, "-o", &file];
            floe.floe(&[&save[..], &[&floe.image]].concat()).ok();
            let saved = format!("{transport}:{file}");
            assert_eq!(identities(floe, &saved).0, diff_ids, "{transport}");
            let again = format!("floe:{}/again/{transport}:1", floe.registry.host());
            let run = ["run", "--rm", "--network", "none", &again[5..]];
            floe.floe(&["copy", &saved, &again]).ok();
            assert_eq!(floe.floe(&run).ok(), "default", "{transport}");
        }
        let pushed = format!("docker://{}/again/pushed:1", floe.registry.host());
        floe.floe(&["push", "-q", &floe.image, &pushed]).ok();
        let (same, compressed) = identities(floe, &pushed);
        assert_eq!(same, diff_ids);
        assert_ne!(compressed, diff_ids, "a registry gets it compressed");
        // What must not change its digest cannot be had so.
        let dir = format!("dir:{}", floe.node.path("dir").display());
        floe.floe(&["copy", "--preserve-digests", &place, &dir])
            .failed(125, &["without compression only"]);
        // An unpacked layer has no archive, and says what would bring its blob back.
        floe.floe(&["system", "convert", "--form", "unpacked"]).ok();
        floe.floe(&["copy", &place, &dir])
            .failed(125, &["keep_blobs"]);
    });
}

/// The digests of an image's layers as its config has them, and as its manifest has them.
fn identities(floe: &Machine, place: &str) -> (Vec<String>, Vec<String>) {
    let read = |what: &[&str]| {
        let said = floe.floe(&[&["inspect", "--raw"], what, &[place]].concat());
        serde_json::from_str::<serde_json::Value>(&said.ok()).expect("JSON")
    };
    let text = |value: &serde_json::Value| value.as_str().expect("a digest").to_owned();
    let list = |value: &serde_json::Value| value.as_array().expect("a list").clone();
    let config = read(&["--config"]);
    let diff_ids = list(&config["rootfs"]["diff_ids"]);
    let manifest = read(&[]);
    let layers = list(&manifest["layers"]);
    (
        diff_ids.iter().map(text).collect(),
        layers.iter().map(|layer| text(&layer["digest"])).collect(),
    )
}

#[test]
fn images_of_an_additional_store_are_mounted_by_the_store_that_runs_them() {
    with_indexed_layers(|floe| {
        floe.floe(&["rmi", &floe.image]).ok();
        let far = floe.node.path("far").display().to_string();
        floe.floe(&["pull", "-q", "--root", &far, &floe.image]).ok();
        let with = |arguments: &[&str]| {
            let all = [&["--additional-store", far.as_str()], arguments].concat();
            floe.floe(&all).ok()
        };
        let run = ["run", "--network", "none", "-d", "--name"];
        for name in ["one", "two"] {
            with(&[&run[..], &[name, &floe.image, "sleep", "1000"]].concat());
        }
        let places = mounted(floe);
        assert_eq!(places.len(), 1, "{places:?}");
        let said = with(&["exec", "one", "/bin/busybox", "echo", "runs"]);
        assert_eq!(said, "runs");
        let image = format!("type=image,source={},dst=/i,subpath=bin", floe.image);
        let read = ["run", "--rm", "--network", "none", "--mount", &image];
        let said = with(&[&read[..], &[&floe.image, "/i/busybox", "echo", "read"]].concat());
        assert_eq!(said, "read");
        with(&["rm", "-f", "-t", "0", "one", "two"]);
        assert_eq!(mounted(floe), Vec::<PathBuf>::new());
    });
}
