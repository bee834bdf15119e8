//! `Store::check`: every kind of damage is found by name, repaired where it can be, and a sound store
//! has none.

#![allow(clippy::unwrap_used, missing_docs, reason = "test code")]

use std::fs;
use std::os::unix::fs::symlink;
use std::path::PathBuf;

use crate::common::{Layer, Sandbox, Tar, put};
use image::Digest;
use store::{Check, Flaw, ImageRecord, Outcome, Report, Subject};

const LOOK: Check = Check {
    quick: false,
    repair: false,
};
const QUICK: Check = Check {
    quick: true,
    repair: false,
};
const REPAIR: Check = Check {
    quick: false,
    repair: true,
};

fn layer(content: &str) -> Layer {
    let tar = Tar::new()
        .dir("etc")
        .file("etc/file", content)
        .pax(&[("SCHILY.xattr.user.mark", b"kept")])
        .file("twice", "linked")
        .hard_link("again", "twice")
        .symlink("link", "/etc/file");
    Layer::gzip(&tar.finish())
}

/// A store with an image of two layers.
fn sandbox() -> (Sandbox, ImageRecord, [Layer; 2]) {
    let sandbox = Sandbox::unpacked();
    let layers = [layer("lower"), layer("upper")];
    let record = put(&sandbox.store, &layers, &["example.com/a:1"], "a");
    sandbox.store.settle().unwrap();
    (sandbox, record, layers)
}

fn blob(sandbox: &Sandbox, digest: &Digest) -> PathBuf {
    sandbox.root().join("blobs/sha256").join(digest.hex())
}

/// `subject: flaw` of each finding.
fn said(report: &Report) -> Vec<String> {
    let lines = report.findings.iter();
    lines
        .map(|finding| format!("{}: {}", finding.subject, finding.flaw))
        .collect()
}

#[track_caller]
fn repaired(sandbox: &Sandbox) {
    let report = sandbox.store.check(REPAIR).unwrap();
    assert!(!report.findings.is_empty());
    assert!(!report.is_damaged(), "{report:?}");
    let left = sandbox.store.check(LOOK).unwrap();
    assert!(left.findings.is_empty(), "{:?}", said(&left));
}

#[test]
fn a_sound_store_has_no_findings_and_is_not_changed() {
    let (sandbox, record, _) = sandbox();
    sandbox
        .store
        .create_writable_layer("busy", &record)
        .unwrap();
    let before = sandbox.listing();
    for check in [LOOK, QUICK, REPAIR] {
        let report = sandbox.store.check(check).unwrap();
        assert_eq!(said(&report), [""; 0]);
        assert_eq!((report.images, report.layers, report.blobs), (1, 2, 4));
    }
    assert_eq!(sandbox.listing(), before);
}

#[test]
fn a_layers_blob_that_is_damaged_takes_its_image_away_to_be_pulled_again() {
    for flaw in ["changed", "shorter", "missing", "a link"] {
        let (sandbox, record, layers) = sandbox();
        let path = blob(&sandbox, &layers[0].descriptor.digest);
        let mut bytes = fs::read(&path).unwrap();
        match flaw {
            "changed" => {
                let middle = bytes.len() / 2;
                bytes[middle] ^= 1;
                fs::write(&path, bytes).unwrap();
            }
            "shorter" => fs::write(&path, &bytes[1..]).unwrap(),
            "missing" => fs::remove_file(&path).unwrap(),
            _ => {
                fs::rename(&path, sandbox.dir.path().join("elsewhere")).unwrap();
                symlink(sandbox.dir.path().join("elsewhere"), &path).unwrap();
            }
        }
        let report = sandbox.store.check(LOOK).unwrap();
        let [finding] = report.findings.as_slice() else {
            panic!("{flaw}: {:?}", said(&report));
        };
        assert_eq!(
            finding.subject,
            Subject::Blob(layers[0].descriptor.digest.clone())
        );
        let right = match &finding.flaw {
            Flaw::Digest => flaw == "changed",
            Flaw::Size { .. } => flaw == "shorter",
            Flaw::Missing => flaw == "missing",
            Flaw::Kind => flaw == "a link",
            _ => false,
        };
        assert!(right && report.is_damaged(), "{flaw}: {finding:?}");
        let quick = sandbox.store.check(QUICK).unwrap();
        assert_eq!(quick.findings.is_empty(), flaw == "changed", "{flaw}");
        repaired(&sandbox);
        assert!(sandbox.store.find(&record.id).unwrap().is_none(), "{flaw}");
        put(&sandbox.store, &layers, &["example.com/a:1"], "a");
        assert_eq!(said(&sandbox.store.check(LOOK).unwrap()), [""; 0], "{flaw}");
    }
}

#[test]
fn a_config_is_written_again_and_a_layer_unpacked_again() {
    let (sandbox, record, layers) = sandbox();
    fs::remove_file(sandbox.root().join("blobs/sha256").join(&record.id)).unwrap();
    repaired(&sandbox);
    let top = crate::common::top_of(&sandbox.store, &record);
    let damages: [(&str, &dyn Fn()); 5] = [
        ("etc/file", &|| {
            fs::write(top.join("etc/file"), "UPPER").unwrap()
        }),
        ("extra", &|| fs::write(top.join("extra"), "x").unwrap()),
        ("twice", &|| {
            fs::remove_file(top.join("twice")).unwrap();
            fs::write(top.join("twice"), "linked").unwrap();
        }),
        ("link", &|| {
            fs::remove_file(top.join("link")).unwrap();
            symlink("/etc/shadow", top.join("link")).unwrap();
        }),
        ("etc", &|| {
            use std::os::unix::fs::PermissionsExt;
            fs::set_permissions(top.join("etc"), fs::Permissions::from_mode(0o700)).unwrap();
        }),
    ];
    for (name, damage) in damages {
        damage();
        assert_eq!(
            said(&sandbox.store.check(QUICK).unwrap()),
            [""; 0],
            "{name}"
        );
        let report = sandbox.store.check(LOOK).unwrap();
        let [finding] = report.findings.as_slice() else {
            panic!("{name}: {:?}", said(&report));
        };
        // The other name of a hard link differs as well.
        let differs = matches!(&finding.flaw, Flaw::Differs(path) if path == name || (name == "twice" && path == "again"));
        assert!(differs, "{name}: {finding:?}");
        repaired(&sandbox);
        let file = sandbox
            .store
            .read_file(&record, "/link", 100)
            .unwrap()
            .unwrap();
        assert_eq!(file, b"upper", "{name}");
    }
    fs::remove_dir_all(&top).unwrap();
    let report = sandbox.store.check(QUICK).unwrap();
    let diff_id = layers[1].diff_id.clone();
    assert!(matches!(&report.findings[0].subject, Subject::Layer(_, id) if *id == diff_id));
    repaired(&sandbox);
    assert!(sandbox.store.find(&record.id).unwrap().is_some());
}

#[test]
fn what_a_container_stands_on_is_kept_and_said() {
    let (sandbox, record, layers) = sandbox();
    sandbox
        .store
        .create_writable_layer("busy", &record)
        .unwrap();
    let top = crate::common::top_of(&sandbox.store, &record);
    fs::write(top.join("etc/file"), "UPPER").unwrap();
    fs::remove_file(blob(&sandbox, &layers[0].descriptor.digest)).unwrap();
    let report = sandbox.store.check(REPAIR).unwrap();
    assert_eq!(report.findings.len(), 2, "{:?}", said(&report));
    for finding in &report.findings {
        assert!(
            matches!(&finding.outcome, Outcome::Kept(why) if why.contains("container busy")),
            "{finding:?}"
        );
    }
    assert!(report.is_damaged());
    assert_eq!(fs::read(top.join("etc/file")).unwrap(), b"UPPER");
    sandbox.store.remove_writable_layer("busy").unwrap();
    repaired(&sandbox);
}

#[test]
fn what_belongs_to_nothing_is_found_and_removed() {
    let (sandbox, record, _) = sandbox();
    let root = sandbox.root();
    let orphans = [
        "blobs/sha256/e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
        "blobs/sha512/rubbish",
        "layers/77/etc",
        "containers/lost/upper",
        "tmp/1-1-00000000-3/half",
    ];
    for orphan in orphans {
        fs::create_dir_all(root.join(orphan)).unwrap();
    }
    sandbox
        .store
        .create_writable_layer("gone", &record)
        .unwrap();
    fs::remove_dir_all(root.join("containers/gone")).unwrap();
    let mut lines = said(&sandbox.store.check(QUICK).unwrap());
    lines.sort();
    let root_text = root.display().to_string();
    let lines: Vec<String> = lines
        .iter()
        .map(|line| line.replace(&root_text, "ROOT"))
        .collect();
    let orphan = "nothing of the store belongs to it";
    assert_eq!(
        lines,
        [
            format!(
                "ROOT/blobs/sha256/e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855: {orphan}"
            ),
            format!("ROOT/blobs/sha512/rubbish: {orphan}"),
            format!("ROOT/layers/77: {orphan}"),
            "ROOT/tmp/1-1-00000000-3: a process that has ended left it half made".into(),
            "writable layer of container gone: a command that was killed has not finished removing it".into(),
            format!("writable layer of container lost: {orphan}"),
        ]
    );
    repaired(&sandbox);
    for orphan in orphans {
        assert!(!root.join(orphan).exists(), "{orphan}");
    }
    assert!(sandbox.store.find("example.com/a:1").unwrap().is_some());
}

#[test]
fn names_that_the_index_lacks_are_written() {
    let (sandbox, ..) = sandbox();
    let index = sandbox.root().join("index.json");
    let whole = fs::read(&index).unwrap();
    fs::write(&index, r#"{"schemaVersion":2,"manifests":[]}"#).unwrap();
    let report = sandbox.store.check(QUICK).unwrap();
    assert!(said(&report)[0].contains("index.json"), "{report:?}");
    repaired(&sandbox);
    assert_eq!(fs::read(&index).unwrap(), whole);
}

#[test]
fn a_check_beside_others_who_add_and_remove_finds_nothing() {
    let (sandbox, ..) = sandbox();
    let store = &sandbox.store;
    let done = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        for worker in 0..3 {
            let done = &done;
            scope.spawn(move || {
                let other = store::Store::open(store.root()).unwrap();
                for round in 0..40 {
                    let name = format!("{worker}-{round}");
                    let image = put(&other, &[layer(&name)], &[], &name);
                    other.create_writable_layer(&name, &image).unwrap();
                    other.remove_writable_layer(&name).unwrap();
                    other.remove(&image.id).unwrap();
                    other.gc().unwrap();
                }
                done.store(true, std::sync::atomic::Ordering::Relaxed);
            });
        }
        while !done.load(std::sync::atomic::Ordering::Relaxed) {
            let report = store.check(QUICK).unwrap();
            assert_eq!(said(&report), [""; 0]);
        }
    });
}
