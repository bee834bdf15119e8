//! Hostile layers made from good ones: no panic, nothing outside the layer's directory, and a layer
//! that is refused leaves the store as it was.

#![allow(clippy::unwrap_used, missing_docs, reason = "test code")]

#[path = "../../../image/tests/support/fuzz.rs"]
mod fuzz;

use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

use crate::common::hostile::{Hostile, sum_up};
use crate::common::tar::Entry;
use crate::common::{Layer, Sandbox, Tar};
use fuzz::Numbers;
use image::MediaType;
use store::Check;

/// Archives with every kind of entry that there is.
fn corpus() -> Vec<Vec<u8>> {
    let plain = Tar::new()
        .dir("etc")
        .file("etc/file", "content")
        .symlink("link", "etc/file")
        .hard_link("hard", "etc/file")
        .entry(
            &Entry::new(b'3', "null")
                .mode(0o666)
                .patch(329, "0000001\0")
                .patch(337, "0000003\0"),
        )
        .entry(&Entry::new(b'6', "fifo"))
        .file("etc/.wh.gone", "")
        .file("etc/.wh..wh..opq", "");
    let pax = Tar::new()
        .pax(&[
            ("path", b"a/long/path/from/pax"),
            ("mtime", b"1700000000.5"),
            ("uid", b"1000"),
            ("SCHILY.xattr.user.x", b"value"),
        ])
        .file("short", "x")
        .pax(&[("size", b"3"), ("linkpath", b"../../../outside")])
        .symlink("up", "x");
    let sparse = Tar::new()
        .pax(&[
            ("GNU.sparse.major", b"1"),
            ("GNU.sparse.minor", b"0"),
            ("GNU.sparse.name", b"sparse"),
            ("GNU.sparse.realsize", b"100000"),
        ])
        .file(
            "GNUSparseFile.0/sparse",
            [b"1\n4096\n3\n".as_slice(), &[0; 503], b"abc"].concat(),
        );
    let gnu = Tar::new()
        .entry(&Entry::new(b'L', "././@LongLink").data(format!("{}\0", "n/".repeat(80) + "name")))
        .file("short", "long name")
        .entry(&Entry::new(b'K', "././@LongLink").data(b"a/very/long/target\0"))
        .symlink("to", "short")
        .entry(&Entry::new(b'g', "pax_global").data(b"19 comment=global x\n"));
    [plain, pax, sparse, gnu].map(Tar::finish).into()
}

#[test]
fn hostile_layers_are_unpacked_below_their_root_or_refused_and_leave_nothing() {
    let hostile = Hostile::new();
    let corpus = corpus();
    let mut numbers = Numbers::new(fuzz::seed());
    let (mut taken, mut refused) = (0, 0);
    for round in 0..fuzz::rounds(400) {
        let mut archive = fuzz::mutate(&mut numbers, &corpus);
        if numbers.below(4) > 0 {
            sum_up(&mut archive);
        }
        let how = numbers.below(3);
        let unpacked = catch_unwind(AssertUnwindSafe(|| hostile.unpack(&archive, how)));
        match unpacked {
            Ok(true) => taken += 1,
            Ok(false) => refused += 1,
            Err(panic) => {
                eprintln!("round {round}: {}", archive.escape_ascii());
                resume_unwind(panic);
            }
        }
    }
    assert!(
        taken > 20 && refused > 20,
        "{taken} taken, {refused} refused: the mutator does too much or too little"
    );
    let report = hostile.store.check(Check::default()).unwrap();
    assert!(report.findings.is_empty(), "{report:?}");
    assert_eq!(report.layers, 0);
    let left: Vec<_> = fs::read_dir(hostile.sandbox.dir.path())
        .unwrap()
        .map(|e| e.unwrap().file_name())
        .collect();
    assert_eq!(left.len(), 2, "{left:?}");
}

#[test]
fn hostile_compressed_streams_are_refused_or_right() {
    let sandbox = Sandbox::new();
    let store = &sandbox.store;
    let archive = Tar::new()
        .dir("etc")
        .file("etc/file", "content".repeat(500))
        .finish();
    let (gzip, zstd) = (Layer::gzip(&archive), Layer::zstd(&archive));
    let corpus = [gzip.bytes.clone(), zstd.bytes.clone()];
    let mut numbers = Numbers::new(fuzz::seed());
    for round in 0..fuzz::rounds(300) {
        let bytes = fuzz::mutate(&mut numbers, &corpus);
        let media_type = match numbers.below(2) {
            0 => MediaType::OciLayerGzip,
            _ => MediaType::OciLayerZstd,
        };
        let lease = store.lease().unwrap();
        // The blob is what its descriptor says; the content may be anything.
        let layer = Layer::of(&archive, bytes, media_type);
        if layer.add(store, &lease).is_ok() {
            assert!(store.has_layer(&layer.diff_id).unwrap(), "round {round}");
        }
        drop(lease);
        store.gc().unwrap();
    }
    assert_eq!(store.check(Check::default()).unwrap().layers, 0);
}
