//! The store is an OCI image layout: Debian's skopeo and umoci read what floe wrote.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fs;
use std::process::Command;

use crate::common::{Layer, Sandbox, Tar, expect_success, installed, put};

const NAME: &str = "docker.io/library/sample:1.2";

fn sample(sandbox: &Sandbox) -> store::ImageRecord {
    let bottom = Tar::new()
        .file("etc/a", "bottom")
        .file("etc/b", "bottom")
        .symlink("l", "etc/a");
    let top = Tar::new()
        .file("etc/.wh.b", "")
        .file("etc/c", "top")
        .hard_link("etc/d", "etc/c");
    let layers = [Layer::gzip(&bottom.finish()), Layer::zstd(&top.finish())];
    put(
        &sandbox.store,
        &layers,
        &[NAME, "example.com:5000/other/name:v1"],
        "sample",
    )
}

#[test]
fn skopeo_inspects_and_copies_what_is_in_the_store() {
    if !installed("skopeo") {
        return;
    }
    let sandbox = Sandbox::new();
    let record = sample(&sandbox);
    // index.json follows in the background.
    sandbox.store.settle().unwrap();
    for name in [NAME, "example.com:5000/other/name:v1"] {
        let source = format!("oci:{}:{name}", sandbox.root().display());
        let inspect = expect_success(Command::new("skopeo").args(["inspect", &source]));
        let told: serde_json::Value = serde_json::from_slice(&inspect.stdout).unwrap();
        assert_eq!(told["Digest"], record.manifest_digest.to_string());
        assert_eq!(told["Layers"].as_array().unwrap().len(), 2);
        let target = sandbox.dir.path().join(name.replace(['/', ':'], "_"));
        let to = format!("dir:{}", target.display());
        expect_success(Command::new("skopeo").args(["copy", "--insecure-policy", &source, &to]));
        let manifest = fs::read(target.join("manifest.json")).unwrap();
        assert!(record.manifest_digest.matches(&manifest));
        assert!(target.join(&record.id).exists(), "the config");
    }
}

#[test]
fn umoci_lists_and_unpacks_what_is_in_the_store() {
    if !installed("umoci") || !installed("skopeo") {
        return;
    }
    let sandbox = Sandbox::new();
    let layout = sandbox.root().to_str().unwrap();
    let archive = Tar::new()
        .file("etc/a", "bottom")
        .file("etc/b", "bottom")
        .finish();
    let top = Tar::new()
        .file("etc/.wh.b", "")
        .file("etc/c", "top")
        .finish();
    // Debian's umoci knows neither zstd nor names with slashes.
    put(
        &sandbox.store,
        &[Layer::gzip(&archive), Layer::gzip(&top)],
        &[NAME],
        "sample",
    );
    // index.json follows in the background.
    sandbox.store.settle().unwrap();
    let list = expect_success(Command::new("umoci").args(["list", "--layout", layout]));
    assert_eq!(String::from_utf8(list.stdout).unwrap().trim(), NAME);
    let copy = sandbox.dir.path().join("copy");
    let (from, to) = (
        format!("oci:{layout}:{NAME}"),
        format!("oci:{}:x", copy.display()),
    );
    expect_success(Command::new("skopeo").args(["copy", "--insecure-policy", &from, &to]));
    let bundle = sandbox.dir.path().join("bundle");
    let image = format!("{}:x", copy.display());
    expect_success(
        Command::new("umoci")
            .args(["unpack", "--image", &image])
            .arg(&bundle),
    );
    let rootfs = bundle.join("rootfs/etc");
    assert_eq!(fs::read_to_string(rootfs.join("a")).unwrap(), "bottom");
    assert_eq!(fs::read_to_string(rootfs.join("c")).unwrap(), "top");
    assert!(!rootfs.join("b").exists());
}
