//! Manifests, indexes and configs that mean harm, or are merely odd: they are used as what they say, or
//! refused in words, and cost a bounded time.

use std::path::{Path, PathBuf};

use crate::cli::{Machine, Said, machine};
use serde_json::{Value, json};
use testkit::images::{self, Entry};

const INDEX: &str = "application/vnd.oci.image.index.v1+json";

/// Not a panic, and nothing of what only a bug says.
#[track_caller]
fn in_words(said: &Said) {
    let broken = ["panicked", "overflow", "unwrap"];
    let broken = broken.iter().any(|word| said.err.contains(word));
    assert!(!broken && said.code != 101 && said.code != -1, "{said:?}");
}

/// An image layout on this machine that documents are put into by hand.
struct Layout(PathBuf);

impl Layout {
    /// With the test's image; and the entry for it.
    fn new(floe: &Machine, name: &str) -> (Layout, Value) {
        let dir = floe.node.path(name);
        let place = format!("oci:{}:x", dir.display());
        let image = format!("docker://{}", floe.image);
        floe.floe(&["copy", "-q", &image, &place]).ok();
        let index = std::fs::read(dir.join("index.json")).expect("read");
        let mut index: Value = serde_json::from_slice(&index).expect("JSON");
        let mut entry = index["manifests"][0].take();
        entry
            .as_object_mut()
            .expect("an object")
            .remove("annotations");
        (Layout(dir), entry)
    }

    fn place(&self) -> String {
        format!("oci:{}", self.0.display())
    }

    fn blob(&self, bytes: &[u8], media_type: &str) -> Value {
        let digest = image::Digest::of(bytes);
        let path = self.0.join("blobs/sha256").join(digest.hex());
        std::fs::write(path, bytes).expect("write");
        json!({ "mediaType": media_type, "digest": digest.to_string(), "size": bytes.len() })
    }

    /// An index of these entries, and the entry for it.
    fn index(&self, entries: &[Value]) -> Value {
        let index = json!({ "schemaVersion": 2, "mediaType": INDEX, "manifests": entries });
        self.blob(&serde_json::to_vec(&index).expect("JSON"), INDEX)
    }

    fn top(&self, entry: &Value) {
        let index = json!({ "schemaVersion": 2, "manifests": [entry] });
        std::fs::write(self.0.join("index.json"), index.to_string()).expect("write");
    }
}

#[test]
fn an_index_that_says_the_same_without_end_costs_what_it_holds() {
    machine(|floe| {
        let (layout, image) = Layout::new(floe, "layout");
        let mut entry = image;
        for _ in 0..3 {
            entry = layout.index(&vec![entry; 3000]);
        }
        layout.top(&entry);
        let to = floe.node.path("all");
        let to = format!("dir:{}", to.display());
        let said = floe.floe(&["copy", "--all", &layout.place(), &to]);
        let copied = said.ok();
        assert_eq!(copied.matches("Copying image").count(), 3, "{copied}");
        // And the copy means the same.
        let raw = floe.floe(&["inspect", "--raw", &to]).ok();
        let raw: Value = serde_json::from_str(&raw).expect("JSON");
        assert_eq!(raw["manifests"].as_array().map(Vec::len), Some(3000));
    });
}

#[test]
fn indexes_that_lead_on_and_on_are_refused() {
    machine(|floe| {
        let (layout, image) = Layout::new(floe, "layout");
        let mut entry = image;
        for _ in 0..6 {
            entry = layout.index(&[entry]);
        }
        layout.top(&entry);
        let to = format!("dir:{}", floe.node.path("to").display());
        for verb in [
            vec!["copy", "-q", &layout.place(), &to],
            vec!["copy", "-q", "--all", &layout.place(), &to],
            vec!["inspect", &layout.place()],
            vec!["load", "-i", &layout.0.display().to_string()],
        ] {
            let said = floe.floe(&verb);
            in_words(&said);
            assert!(
                said.code == 125 && said.err.contains("deep"),
                "{verb:?}: {said:?}"
            );
        }
    });
}

#[test]
fn an_index_that_lies_about_a_size_is_refused() {
    machine(|floe| {
        let (layout, mut image) = Layout::new(floe, "layout");
        image["size"] = 1.into();
        layout.top(&layout.index(&[image]));
        let to = format!("dir:{}", floe.node.path("to").display());
        for verb in [
            &["copy", "-q", &layout.place(), &to][..],
            &["inspect", &layout.place()],
            &["copy", "-q", "--all", &layout.place(), &to],
        ] {
            let said = floe.floe(verb);
            in_words(&said);
            assert!(
                said.code == 125 && said.err.contains(" has 1 bytes, and it has "),
                "{verb:?}: {said:?}"
            );
        }
    });
}

#[test]
fn an_index_within_an_index_is_pulled_copied_and_found_again() {
    machine(|floe| {
        let (layout, image) = Layout::new(floe, "layout");
        let top = layout.index(&[layout.index(&[image])]);
        layout.top(&top);
        let digest = top["digest"].as_str().expect("a digest");
        let name = format!("{}/nested", floe.registry.host());
        let place = format!("docker://{name}:1");
        floe.floe(&["copy", "-q", "--all", &layout.place(), &place])
            .ok();
        let pinned = format!("{name}@{digest}");
        floe.floe(&["pull", "-q", &pinned]).ok();
        floe.floe(&["tag", &pinned, "example.com/x:1"]).ok();
        floe.floe(&["rmi", "--force", "example.com/x:1"]).ok();
        floe.floe(&["copy", "-q", &place, &format!("floe:{name}:1")])
            .ok();
        let said = floe.floe(&["run", "--rm", "--network", "none", &format!("{name}:1")]);
        assert_eq!(said.ok(), "default");
    });
}

/// The image with another config, in a directory.
fn with_config(floe: &Machine, name: &str, change: impl FnOnce(&mut Value)) -> String {
    let made = floe.node.path(name);
    let place = format!("dir:{}", made.display());
    let original = format!("docker://{}", floe.image);
    floe.floe(&["copy", "-q", &original, &place]).ok();
    let read = |path: &Path| -> Value {
        serde_json::from_slice(&std::fs::read(path).expect("read")).expect("JSON")
    };
    let mut manifest = read(&made.join("manifest.json"));
    let old = manifest["config"]["digest"].as_str().expect("a digest")[7..].to_owned();
    let mut config = read(&made.join(old));
    change(&mut config);
    let config = serde_json::to_vec(&config).expect("JSON");
    let digest = image::Digest::of(&config);
    std::fs::write(made.join(digest.hex()), &config).expect("write");
    manifest["config"]["digest"] = digest.to_string().into();
    manifest["config"]["size"] = config.len().into();
    let manifest = serde_json::to_vec(&manifest).expect("JSON");
    std::fs::write(made.join("manifest.json"), manifest).expect("write");
    place
}

#[test]
fn users_that_cannot_be_are_refused_by_name() {
    machine(|floe| {
        for (number, user) in [
            "4294967296",
            "-1",
            "0:99999999999",
            "99999999999999999999999999",
            "no\u{0}body",
            "no\nsuch",
            ":",
            "0:no-such-group",
        ]
        .iter()
        .enumerate()
        {
            let name = format!("user-{number}");
            let place = with_config(floe, &name, |config| {
                config["config"]["User"] = (*user).into();
            });
            let stored = format!("example.com/user:{number}");
            floe.floe(&["copy", "-q", &place, &format!("floe:{stored}")])
                .ok();
            let said = floe.floe(&["run", "--rm", "--network", "none", &stored, "true"]);
            in_words(&said);
            assert_eq!(said.code, 125, "{user:?}: {said:?}");
            floe.floe(&["inspect", &place]).ok();
        }
    });
}

#[test]
fn odd_environments_and_labels_are_taken_as_they_are_or_refused() {
    machine(|floe| {
        for (number, env) in ["A\u{0}B=1", "=x", "NAME", "X\nY=1", "", "A=\u{0}"]
            .iter()
            .enumerate()
        {
            let place = with_config(floe, &format!("env-{number}"), |config| {
                config["config"]["Env"] = json!(["PATH=/bin", env]);
                config["config"]["Labels"] = json!({ *env: env, "a\u{0}b": "c\nd" });
                config["config"]["WorkingDir"] = "/a/../../b".into();
            });
            let stored = format!("example.com/env:{number}");
            let copied = floe.floe(&["copy", "-q", &place, &format!("floe:{stored}")]);
            in_words(&copied);
            let said = floe.floe(&["run", "--rm", "--network", "none", &stored, "true"]);
            in_words(&said);
            // What the kernel cannot have ends in words; the rest runs.
            let expected = if env.contains('\u{0}') { 125 } else { 0 };
            assert_eq!(said.code, expected, "{env:?}: {said:?}");
            in_words(&floe.floe(&["inspect", &place]));
            in_words(&floe.floe(&["ps", "--all", "--format", "json"]));
        }
    });
}

#[test]
fn counts_that_do_not_fit_are_refused() {
    machine(|floe| {
        let few = with_config(floe, "few", |config| {
            config["rootfs"]["diff_ids"] = json!([]);
        });
        let first = format!("sha256:{}", "0".repeat(64));
        let many = with_config(floe, "many", |config| {
            config["rootfs"]["diff_ids"] = json!(vec![first; 50_000]);
        });
        for place in [few, many] {
            let said = floe.floe(&["copy", "-q", &place, "floe:example.com/odd:1"]);
            in_words(&said);
            assert_eq!(said.code, 125, "{said:?}");
        }
        assert_eq!(floe.floe(&["images", "-q"]).ok(), "");
    });
}

#[test]
fn an_image_of_five_hundred_layers_is_moved_and_run_or_refused_in_words() {
    machine(|floe| {
        let name = format!("{}/many/layers:1", floe.registry.host());
        let mut layers = vec![images::busybox().expect("busybox-static")];
        for number in 1..500 {
            let (path, text) = (format!("layer-{number}"), number.to_string());
            let file = Entry::File(&path, 0o644, text.as_bytes());
            layers.push(images::layer(&[file]).expect("a layer"));
        }
        let config = json!({ "Cmd": ["cat", "/layer-499"], "Env": ["PATH=/bin"] });
        floe.push_layers(&name, &layers, config);
        let to = format!("oci:{}:x", floe.node.path("layout").display());
        floe.floe(&["copy", "-q", &format!("docker://{name}"), &to])
            .ok();
        floe.floe(&["pull", "-q", &name]).ok();
        let said = floe.floe(&["run", "--rm", "--network", "none", &name]);
        in_words(&said);
        match said.code {
            0 => assert_eq!(said.out.trim(), "499"),
            _ => assert!(said.err.contains("layers"), "{said:?}"),
        }
        floe.floe(&["rmi", &name]).ok();
    });
}
