//! `containers-storage:` as a source: stores that Debian's skopeo and podman make, read by floe.

use std::fs;
use std::path::Path;
use std::process::Command;

use crate::cli::foreign::{Foreign, apart, json, odd_layer, plain_layer, skopeo};
use crate::cli::{Said, machine};
use image::Digest;
use serde_json::Value;
use testkit::images::{self, Entry};

#[test]
fn layers_have_the_bytes_that_they_had_and_nothing_is_written() {
    machine(|floe| {
        let layers = [
            plain_layer(),
            odd_layer(),
            images::busybox().expect("busybox"),
        ];
        let digests = layers.each_ref().map(|tar| Digest::of(tar).to_string());
        let original = floe.push_here("odd:1", &layers).to_string();
        for driver in ["overlay", "vfs"] {
            let store = Foreign::new(floe, driver, driver);
            store.fill("odd:1", "localhost/odd:1");
            let before = store.state();
            let ours = store.dir(&format!("ours-{driver}"));
            store.copy("localhost/odd:1", &ours).ok();
            let manifest = json(&floe.floe(&["inspect", "--raw", &ours]).ok());
            let found = manifest["layers"].as_array().expect("layers").iter();
            let plain = "application/vnd.oci.image.layer.v1.tar";
            let expected = digests.iter().map(|digest| (plain, digest.as_str()));
            let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
            let found: Vec<_> = found
                .map(|layer| (text(&layer["mediaType"]), text(&layer["digest"])))
                .collect();
            let found = found.iter().map(|(kind, digest)| (&**kind, &**digest));
            assert!(found.eq(expected), "{driver}: {manifest}");
            // The name means what it did; what skopeo says of it floe says too.
            let about = ["inspect", &store.place("localhost/odd:1")];
            let (mine, theirs) = (json(&floe.floe(&about).ok()), json(&skopeo(&about).ok()));
            for key in ["Name", "Digest", "Layers", "Created", "Os"] {
                assert_eq!(mine[key], theirs[key], "{driver}: {key}");
            }
            assert_eq!(mine["Digest"], original.as_str());
            assert_eq!(store.state(), before, "{driver}");
            // skopeo reads the copy, and puts the same tars together.
            let theirs = store.dir(&format!("theirs-{driver}"));
            skopeo(&["copy", "-q", &store.place("localhost/odd:1"), &theirs]).ok();
            let hex = |digest: &String| digest.trim_start_matches("sha256:").to_owned();
            for name in digests.iter().map(hex) {
                let [ours, theirs] = [&ours, &theirs]
                    .map(|dir| fs::read(Path::new(&dir[4..]).join(&name)).expect("a layer"));
                assert!(ours == theirs, "{driver}: {name}");
            }
            skopeo(&["inspect", &ours]).ok();
        }
    });
}

#[test]
fn a_link_of_a_layer_leads_where_it_leads_in_a_container() {
    machine(|floe| {
        let layer = images::layer(&[
            Entry::Dir("dir", 0o755),
            Entry::Symlink("link", "/dir"),
            Entry::File("link/through", 0o644, b"through a link"),
        ]);
        let layer = layer.expect("a layer");
        floe.push_here("link:1", std::slice::from_ref(&layer));
        let store = Foreign::new(floe, "overlay", "store");
        store.fill("link:1", "localhost/link:1");
        store.copy("localhost/link:1", &store.dir("out")).ok();
        let name = format!("out/{}", Digest::of(&layer).hex());
        assert!(fs::read(floe.node.path(&name)).expect("the layer") == layer);
    });
}

#[test]
fn a_copy_is_compressed_for_a_registry_and_runs() {
    machine(|floe| {
        let store = Foreign::new(floe, "overlay", "store");
        store.fill("cli/busybox:1", "example.com/box:1");
        let there = format!("docker://{}/from/storage:1", floe.registry.host());
        store.copy("example.com/box:1", &there).ok();
        let seen = json(&skopeo(&["inspect", "--raw", "--tls-verify=false", &there]).ok());
        let layer = &seen["layers"][0]["mediaType"];
        assert_eq!(layer, "application/vnd.oci.image.layer.v1.tar+gzip");
        store
            .copy("example.com/box:1", "floe:example.com/box:1")
            .ok();
        let words = ["run", "--rm", "--network", "none", "example.com/box:1"];
        assert_eq!(floe.floe(&words).ok(), "default");
        // An archive of Docker's holds plain layers, and so does the store.
        let archive = format!("docker-archive:{}", floe.node.path("a.tar").display());
        store.copy("example.com/box:1", &archive).ok();
        skopeo(&["inspect", &archive]).ok();
        let kept = [
            "copy",
            "-q",
            "--preserve-digests",
            &store.place("example.com/box:1"),
        ];
        floe.floe(&[&kept[..], &[&store.dir("kept")]].concat())
            .failed(125, &["digests cannot be preserved", "without compression"]);
    });
}

#[test]
fn what_podman_built_is_copied_as_it_is() {
    machine(|floe| {
        let store = Foreign::new(floe, "overlay", "podman");
        let context = floe.node.path("context");
        fs::create_dir(&context).expect("make a directory");
        fs::write(context.join("f"), "data").expect("write");
        fs::write(
            context.join("Containerfile"),
            "FROM scratch\nCOPY f /f\nLABEL a=b\n",
        )
        .expect("write");
        let mut podman = apart("podman");
        podman.args([
            "--storage-driver",
            "overlay",
            "--events-backend",
            "none",
            "--root",
        ]);
        podman.arg(&store.root).arg("--runroot").arg(&store.run);
        podman.arg("--tmpdir").arg(floe.node.path("podman-tmp"));
        podman.args(["build", "--network", "none", "-t", "built:1"]);
        let built = podman.arg(&context).output().expect("podman is installed");
        let id = Said::from(built).ok();
        let id = id.lines().last().expect("an ID").to_owned();
        let whole = ["--preserve-digests", &store.place("localhost/built:1")];
        let copy =
            |options: &[&str], to: &str| floe.floe(&[&["copy", "-q"], options, &[to]].concat());
        copy(&whole, &store.dir("built")).ok();
        let original = floe.floe(&["inspect", "--raw", whole[1]]).ok();
        assert_eq!(
            floe.floe(&["inspect", "--raw", &store.dir("built")]).ok(),
            original
        );
        copy(&[&store.place(&id[..12])], &store.dir("by-id")).ok();
        assert_eq!(
            floe.floe(&["inspect", "--raw", &store.dir("by-id")]).ok(),
            original
        );
    });
}

#[test]
fn names_mean_what_they_mean_to_skopeo() {
    machine(|floe| {
        let store = Foreign::new(floe, "vfs", "store");
        let digest = floe.push_here("one:1", &[plain_layer()]).to_string();
        let other = floe.push_here("two:1", &[odd_layer()]).to_string();
        store.fill("one:1", "docker.io/library/one:1");
        store.fill("two:1", "localhost/two:latest");
        let images = fs::read_to_string(store.root.join("vfs-images/images.json")).expect("read");
        let images = json(&images);
        let id = images[0]["id"].as_str().expect("an ID");
        let named = |name: &str| floe.floe(&["inspect", "-f", "{{.Digest}}", &store.place(name)]);
        for name in [
            "one:1".to_owned(),
            "library/one:1".into(),
            "docker.io/one:1".into(),
            format!("one@{digest}"),
            format!("one:other@{digest}"),
            format!("@{id}"),
            format!("@{}", &id[..5]),
            id.to_owned(),
            id[..3].to_owned(),
            format!("one@{id}"),
            format!("one:1@{}", &id[..7]),
            format!("one@{digest}@{id}"),
        ] {
            let asked = ["inspect", "--format", "{{.Digest}}", &store.place(&name)];
            assert_eq!(skopeo(&asked).ok(), digest, "{name}");
            assert_eq!(named(&name).ok(), digest, "{name}");
        }
        assert_eq!(named("localhost/two").ok(), other);
        for (name, why) in [
            ("two", "no such image"),
            ("one:2", "no such image"),
            (&format!("localhost/two@{id}"), "no such image"),
            (&format!("one@{other}"), "no such image"),
            (&format!("@{}", "0".repeat(64)), "no such image"),
            ("one@zz", "neither a digest nor the ID"),
            (&id[..2], "no such image"),
            ("ONE", "ONE"),
        ] {
            let asked = ["inspect", &store.place(name)];
            assert_ne!(skopeo(&asked).code, 0, "{name}");
            floe.floe(&asked).failed(125, &[why]);
        }
    });
}

#[test]
fn storage_conf_says_where_the_store_and_those_beside_it_are() {
    machine(|floe| {
        let digest = floe.push_here("one:1", &[plain_layer()]).to_string();
        let shared = Foreign::new(floe, "overlay", "shared");
        shared.fill("one:1", "localhost/shared:1");
        let store = Foreign::new(floe, "overlay", "store");
        store.fill("cli/busybox:1", "localhost/own:1");
        let conf = floe.node.path("storage.conf");
        let text = format!(
            "[storage]\ndriver = 'overlay'\nrunroot = {:?}\ngraphroot = {:?}\n\
             [storage.options]\nadditionalimagestores = [{:?}]\n",
            store.run, store.root, shared.root
        );
        fs::write(&conf, text).expect("write");
        let asked = [
            "inspect",
            "-n",
            "-f",
            "{{.Digest}}",
            "containers-storage:localhost/shared:1",
        ];
        let with = |mut command: Command| -> Said {
            command.env("CONTAINERS_STORAGE_CONF", &conf);
            command.output().expect("run").into()
        };
        assert_eq!(with(floe.command(&asked)).ok(), digest);
        let mut theirs = apart("skopeo");
        theirs.args(asked);
        assert_eq!(with(theirs).ok(), digest);
        let own = [
            "copy",
            "-q",
            "containers-storage:localhost/own:1",
            &store.dir("own"),
        ];
        with(floe.command(&own)).ok();
        let options = store.place("localhost/shared:1").replace(
            ']',
            &format!(":overlay.imagestore={}]", shared.root.display()),
        );
        let copied = floe.floe(&["copy", "-q", &options, &store.dir("shared-copy")]);
        copied.ok();
        // Without a driver, what is there decides.
        let bare = format!(
            "containers-storage:[{}]localhost/own:1",
            store.root.display()
        );
        floe.floe(&["inspect", &bare]).ok();
    });
}

#[test]
fn an_index_that_was_kept_with_its_image_is_read() {
    machine(|floe| {
        let host = floe.registry.host();
        let inner = floe.push_here("list:inner", &[plain_layer()]).to_string();
        let list = format!("{host}/list:1");
        floe.floe(&["manifest", "create", "made"]).ok();
        floe.floe(&[
            "manifest",
            "add",
            "made",
            &format!("docker://{host}/list:inner"),
        ])
        .ok();
        floe.floe(&[
            "manifest",
            "push",
            "--all",
            "made",
            &format!("docker://{list}"),
        ])
        .ok();
        let digest = floe.floe(&[
            "inspect",
            "-n",
            "-f",
            "{{.Digest}}",
            &format!("docker://{list}"),
        ]);
        let digest = digest.ok();
        assert_ne!(digest, inner);
        let store = Foreign::new(floe, "vfs", "store");
        store.fill(
            &format!("list@{digest}"),
            &format!("localhost/list@{digest}"),
        );
        let place = store.place(&format!("localhost/list@{digest}"));
        let asked = ["inspect", "--raw", &place];
        let raw = floe.floe(&asked).ok();
        assert_eq!(raw, skopeo(&asked).ok());
        assert_eq!(Digest::of(raw.as_bytes()).to_string(), digest);
        floe.floe(&["copy", "-q", &place, &store.dir("out")]).ok();
        let manifest = floe.floe(&["inspect", "--raw", &store.dir("out")]).ok();
        let layer = Digest::of(&plain_layer()).to_string();
        assert_eq!(json(&manifest)["layers"][0]["digest"], layer.as_str());
    });
}

#[test]
fn a_manifest_list_takes_images_from_there() {
    machine(|floe| {
        let store = Foreign::new(floe, "vfs", "store");
        store.fill("cli/busybox:1", "localhost/box:1");
        floe.floe(&["manifest", "create", "made"]).ok();
        floe.floe(&["manifest", "add", "made", &store.place("localhost/box:1")])
            .ok();
        let there = format!("docker://{}/from/list:1", floe.registry.host());
        floe.floe(&["manifest", "push", "--all", "made", &there])
            .ok();
        let copied = [
            "copy",
            "-q",
            "--src-tls-verify=false",
            &there,
            &store.dir("back"),
        ];
        skopeo(&copied).ok();
        let index = json(&floe.floe(&["inspect", "--raw", &there]).ok());
        let listed = &index["manifests"][0];
        let manifest = floe.floe(&["inspect", "--raw", &store.dir("back")]).ok();
        assert_eq!(
            listed["digest"],
            Digest::of(manifest.as_bytes()).to_string()
        );
    });
}
