//! Images made to do harm, through the whole program: each is run or refused, with the image and the reason.

use crate::cli::machine;
use testkit::images::{self, Entry, Layer};

fn layers(count: usize) -> Vec<Layer> {
    let mut layers = vec![images::busybox().expect("busybox-static")];
    layers.extend((1..count).map(|n| {
        let name = format!("f{n}");
        images::layer(&[Entry::File(&name, 0o644, b"x")]).expect("a layer")
    }));
    layers
}

#[test]
fn as_many_layers_as_the_kernel_takes_run_and_one_more_is_refused_at_the_pull() {
    machine(|floe| {
        let name = format!("{}/hostile/many:1", floe.registry.host());
        floe.push_layers(&name, &layers(501), serde_json::json!({}));
        floe.floe(&["pull", "-q", &name])
            .failed(125, &[&name, "501 layers", "500 at most"]);
        assert_eq!(floe.floe(&["images", "-q"]).ok(), "");
        floe.push_layers(&name, &layers(500), serde_json::json!({}));
        floe.floe(&["pull", "-q", &name]).ok();
        let run = [
            "run",
            "--rm",
            "--network",
            "none",
            &name,
            "/bin/sh",
            "-c",
            "ls /f1 /f499",
        ];
        assert_eq!(floe.floe(&run).ok(), "/f1\n/f499");
    });
}

#[test]
fn an_image_with_a_container_store_inside_runs_and_says_what_was_left_out() {
    machine(|floe| {
        let mut tar = tar::Builder::new(Vec::new());
        let mut node = |name: &str, kind, major| {
            let mut header = tar::Header::new_ustar();
            header.set_path(name).expect("a name");
            header.set_entry_type(kind);
            header.set_mode(0o600);
            header.set_size(0);
            header.set_device_major(major).expect("a number");
            header.set_device_minor(0).expect("a number");
            header.set_cksum();
            tar.append(&header, std::io::empty()).expect("append");
        };
        // A whiteout of a layer of the inner store, and a disk.
        node(
            "var/lib/containers/overlay/l/diff/bin/sh",
            tar::EntryType::Char,
            0,
        );
        node("bin/busybox", tar::EntryType::Char, 0);
        node("dev/sda", tar::EntryType::Block, 8);
        let inner = tar.into_inner().expect("a layer");
        let name = format!("{}/hostile/inner:1", floe.registry.host());
        let layers = [images::busybox().expect("busybox-static"), inner];
        floe.push_layers(&name, &layers, serde_json::json!({}));
        let said = floe.floe(&["pull", "-q", &name]);
        assert_eq!(said.code, 0, "{}", said.err);
        let warnings: Vec<&str> = said
            .err
            .lines()
            .filter(|line| line.contains("left out"))
            .collect();
        assert!(
            matches!(warnings.as_slice(), [one] if one.contains(&name) && one.contains("\"dev/sda\"")),
            "{warnings:?}"
        );
        let run = [
            "run",
            "--rm",
            "--network",
            "none",
            &name,
            "/bin/sh",
            "-c",
            "ls -d /dev/sda /bin/busybox",
        ];
        let said = floe.floe(&run);
        assert!(
            said.out.trim() == "/bin/busybox" && said.err.contains("/dev/sda"),
            "{said:?}"
        );
    });
}
