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
        let config = std::fs::read_to_string(floe.node.config()).expect("read");
        let key = "[crio.image]\nunpacked_images = [\"*cli/busybox*\"]\n";
        let config = config.replacen("[crio.image]\n", key, 1);
        std::fs::write(floe.node.config(), config).expect("write");
        floe.floe(&["pull", "-q", &floe.image]).ok();
        assert_eq!(forms(floe), ["unpacked"]);
        assert_eq!(floe.run(&["--rm"], &[]).ok(), "default");
    });
}
