//! Checkpoints that mean no good: links, pipes, files of others, and manifests that lie.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;

use rustix::fs::{CWD, Mode, mkfifoat};
use serde_json::{Value, json};

use super::*;

fn checkpoint() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    let part = dir.path().join("containers/0");
    fs::create_dir_all(part.join("checkpoint")).unwrap();
    fs::write(part.join("checkpoint/inventory.img"), "x").unwrap();
    fs::write(part.join("rootfs-diff.tar"), "").unwrap();
    fs::write(part.join("spec.dump"), r#"{"ociVersion": "1.0.2"}"#).unwrap();
    write(dir.path(), &manifest());
    dir
}

fn manifest() -> Value {
    let member = json!({"name": "c", "image_id": "i", "tty": false, "stdin": false});
    json!({"version": 1, "containers": [member]})
}

fn write(dir: &Path, manifest: &Value) {
    fs::write(dir.join("manifest.json"), manifest.to_string()).unwrap();
}

fn reason(dir: &Path) -> String {
    let read = Source::open(dir).and_then(|source| {
        let part = source.part(0)?;
        source.shm()?;
        part.difference()?;
        part.spec()
    });
    match read {
        Ok(_) => "none".to_owned(),
        Err(Error::Invalid { field, reason }) => format!("{field}: {reason}"),
        Err(other) => panic!("{other}"),
    }
}

#[test]
fn a_whole_checkpoint_is_read() {
    let dir = checkpoint();
    assert_eq!(reason(dir.path()), "none");
    let source = Source::open(dir.path()).unwrap();
    assert_eq!(source.manifest.containers[0].name, "c");
    let part = source.part(0).unwrap();
    assert!(part.images_path().join("inventory.img").exists());
}

#[test]
fn links_pipes_and_what_others_may_change_are_refused() {
    let secret = tempfile::tempdir().unwrap();
    fs::write(secret.path().join("rootfs-diff.tar"), "secret").unwrap();
    for (place, what) in [
        ("manifest.json", "link"),
        ("shm.tar", "link"),
        ("containers", "link"),
        ("containers/0", "link"),
        ("containers/0/rootfs-diff.tar", "link"),
        ("containers/0/spec.dump", "link"),
        ("containers/0/checkpoint", "link"),
        ("containers/0/checkpoint/pages-1.img", "link"),
        ("containers/0/checkpoint/inventory.img", "pipe"),
        ("containers/0/rootfs-diff.tar", "pipe"),
        ("containers/0/checkpoint/inventory.img", "open"),
        ("containers/0/checkpoint", "open"),
        ("containers/0/checkpoint/inventory.img", "theirs"),
        ("containers/0/checkpoint/more", "directory"),
        ("", "open"),
    ] {
        let dir = checkpoint();
        let path = dir.path().join(place);
        if what != "open" && what != "theirs" {
            let _ = fs::remove_dir_all(&path);
            let _ = fs::remove_file(&path);
        }
        match what {
            "link" => symlink(secret.path(), &path).unwrap(),
            "pipe" => mkfifoat(CWD, &path, Mode::RUSR).unwrap(),
            "directory" => fs::create_dir(&path).unwrap(),
            "theirs" => std::os::unix::fs::chown(&path, Some(1234), None).unwrap(),
            _ => {
                let mode = fs::metadata(&path).unwrap().permissions().mode() | 0o020;
                fs::set_permissions(&path, PermissionsExt::from_mode(mode)).unwrap();
            }
        }
        let reason = reason(dir.path());
        assert!(
            reason.starts_with("checkpoint_path: "),
            "{place} {what}: {reason}"
        );
    }
}

#[test]
fn a_manifest_that_lies_is_refused() {
    let member = manifest()["containers"][0].clone();
    for (change, words) in [
        (json!({"version": 2, "containers": [member]}), "version 2"),
        (json!({"version": 1, "containers": []}), "no containers"),
        (
            json!({"version": 1, "containers": [member, member]}),
            "one twice",
        ),
        (
            json!({"version": 1, "containers": [{"name": 7}]}),
            "invalid type",
        ),
        (
            json!({"version": 1, "containers": [member], "shm": true}),
            "shm.tar",
        ),
        (json!([]), "manifest.json"),
    ] {
        let dir = checkpoint();
        write(dir.path(), &change);
        let reason = reason(dir.path());
        assert!(reason.contains(words), "{change}: {reason}");
    }
    let dir = checkpoint();
    fs::remove_file(dir.path().join("manifest.json")).unwrap();
    assert!(reason(dir.path()).contains("no checkpoint is there"));
    let file = fs::File::create(dir.path().join("manifest.json")).unwrap();
    file.set_len(1 << 30).unwrap();
    assert!(reason(dir.path()).contains("manifest.json"));
}
