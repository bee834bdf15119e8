//! Taking in a layer when something goes wrong: lies, cuts, full disks, kills, and company.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::io::{self, Read, Write};
use std::process::Stdio;
use std::time::Duration;

use crate::common::{Layer, Sandbox, Tar, child, role};
use image::{Descriptor, Digest};
use store::{Error, LayerError, Store};

/// Content that does not compress.
fn noise(length: usize, seed: u64) -> Vec<u8> {
    let mut state = seed | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()
    };
    (0..length.div_ceil(8))
        .flat_map(|_| next())
        .take(length)
        .collect()
}

fn sample(length: usize) -> Layer {
    Layer::gzip(
        &Tar::new()
            .dir("d")
            .file("d/noise", noise(length, 1))
            .file("end", "x")
            .finish(),
    )
}

/// Adds bytes that are not what they should be, and checks that nothing is left.
#[track_caller]
fn fails(descriptor: &Descriptor, diff_id: &Digest, reader: impl Read) -> Error {
    let sandbox = Sandbox::new();
    let before = sandbox.listing();
    let lease = sandbox.store.lease().unwrap();
    let error = sandbox
        .store
        .add_layer(&lease, descriptor, diff_id, reader)
        .unwrap_err();
    assert_eq!(sandbox.listing(), before, "{error}");
    assert!(!sandbox.store.has_layer(diff_id).unwrap());
    assert!(!sandbox.store.has_blob(&descriptor.digest).unwrap());
    assert!(
        error.to_string().contains(descriptor.digest.hex()),
        "{error}"
    );
    error
}

#[test]
fn a_registry_that_lies_about_a_digest_is_told_so() {
    let asked = sample(300_000);
    // A good layer, but another one; a damaged one, which is no gzip in the middle; noise.
    let other = Layer::gzip(&Tar::new().file("evil", noise(299_990, 7)).finish());
    let mut padded = other.bytes.clone();
    padded.resize(asked.bytes.len(), 0);
    let mut damaged = asked.bytes.clone();
    damaged[150_000..150_100].fill(0);
    let mut flipped = asked.bytes.clone();
    *flipped.last_mut().unwrap() ^= 1;
    for bytes in [padded, damaged, flipped, noise(asked.bytes.len(), 5)] {
        let error = fails(&asked.descriptor, &asked.diff_id, bytes.as_slice());
        let Error::DigestMismatch { expected, actual } = &error else {
            panic!("{error}")
        };
        assert_eq!(
            (expected, actual),
            (&asked.descriptor.digest, &Digest::of(&bytes))
        );
    }
}

#[test]
fn too_few_and_too_many_bytes_are_told() {
    let layer = sample(300_000);
    let size = layer.descriptor.size;
    for cut in [0, 10, 5000, layer.bytes.len() - 1] {
        let error = fails(&layer.descriptor, &layer.diff_id, &layer.bytes[..cut]);
        assert!(
            matches!(error, Error::SizeMismatch { expected, actual, .. } if expected == size && actual == cut as u64),
            "{error}"
        );
    }
    // An endless source ends at the first byte too many.
    let endless = layer.bytes.as_slice().chain(io::repeat(0));
    let error = fails(&layer.descriptor, &layer.diff_id, endless);
    assert!(
        matches!(error, Error::SizeMismatch { actual, .. } if actual > size),
        "{error}"
    );
}

#[test]
fn a_diff_id_that_is_not_the_contents_is_told() {
    let layer = sample(1000);
    let claimed = Digest::of(b"something else");
    let error = fails(&layer.descriptor, &claimed, layer.bytes.as_slice());
    let Error::Layer {
        source: LayerError::DiffId { expected, actual },
        ..
    } = &error
    else {
        panic!("{error}")
    };
    assert_eq!((expected, actual), (&claimed, &layer.diff_id));
}

#[test]
fn a_good_digest_of_bad_content_names_the_flaw() {
    let mut damaged = sample(300_000).bytes;
    damaged[150_000..150_100].fill(0);
    let layer = Layer::of(b"", damaged, image::MediaType::OciLayerGzip);
    let error = fails(&layer.descriptor, &layer.diff_id, layer.bytes.as_slice());
    assert!(
        matches!(
            error,
            Error::Layer {
                source: LayerError::Decompress(_),
                ..
            }
        ),
        "{error}"
    );
    let xz = Layer::of(b"", b"\xfd7zXZ\0\0\0".to_vec(), image::MediaType::OciLayer);
    let error = fails(&xz.descriptor, &xz.diff_id, xz.bytes.as_slice());
    assert!(
        error.to_string().contains("xz is not a layer format"),
        "{error}"
    );
}

#[test]
fn an_error_of_the_source_is_passed_on() {
    struct Broken;
    impl Read for Broken {
        fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
            Err(io::Error::new(
                io::ErrorKind::ConnectionReset,
                "the registry hung up",
            ))
        }
    }
    let layer = sample(500_000);
    let reader = layer.bytes[..200_000].chain(Broken);
    let error = fails(&layer.descriptor, &layer.diff_id, reader);
    assert!(
        matches!(&error, Error::BlobRead { source, .. } if source.kind() == io::ErrorKind::ConnectionReset)
    );
    assert!(
        error.to_string().contains("the registry hung up"),
        "{error}"
    );
}

#[test]
fn what_is_there_is_not_read_again() {
    struct Untouched;
    impl Read for Untouched {
        fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
            panic!("read although it is there");
        }
    }
    let sandbox = Sandbox::new();
    let lease = sandbox.store.lease().unwrap();
    let layer = sample(1000);
    // First the blob alone, then unpacked from it.
    sandbox
        .store
        .add_blob(&lease, &layer.descriptor, layer.bytes.as_slice())
        .unwrap();
    assert!(!sandbox.store.hold_layer(&lease, &layer.diff_id).unwrap());
    for _ in 0..2 {
        sandbox
            .store
            .add_layer(&lease, &layer.descriptor, &layer.diff_id, Untouched)
            .unwrap();
        assert!(sandbox.store.hold_layer(&lease, &layer.diff_id).unwrap());
    }
    sandbox
        .store
        .add_blob(&lease, &layer.descriptor, Untouched)
        .unwrap();
    // The same content compressed otherwise: a new blob, but no second copy unpacked.
    let archive = Tar::new().file("same", noise(1000, 3)).finish();
    let (gzip, zstd) = (Layer::gzip(&archive), Layer::zstd(&archive));
    gzip.add(&sandbox.store, &lease).unwrap();
    zstd.add(&sandbox.store, &lease).unwrap();
    assert!(sandbox.store.has_blob(&zstd.descriptor.digest).unwrap());
    assert_eq!(
        std::fs::read_dir(sandbox.root().join("layers"))
            .unwrap()
            .count(),
        3
    );
}

#[test]
fn a_blob_whose_file_is_gone_is_fetched_again() {
    let sandbox = Sandbox::new();
    let lease = sandbox.store.lease().unwrap();
    let layer = sample(1000);
    sandbox
        .store
        .add_blob(&lease, &layer.descriptor, layer.bytes.as_slice())
        .unwrap();
    let path = sandbox
        .root()
        .join("blobs/sha256")
        .join(layer.descriptor.digest.hex());
    std::fs::remove_file(&path).unwrap();
    layer.add(&sandbox.store, &lease).unwrap();
    assert_eq!(std::fs::read(&path).unwrap(), layer.bytes);
}

#[test]
fn two_handles_of_one_process_do_not_get_in_each_others_way() {
    let sandbox = Sandbox::new();
    let other = Store::open(sandbox.root()).unwrap();
    let (first, second) = (sample(300_000), sample(400_000));
    std::thread::scope(|scope| {
        for (store, layer) in [(&sandbox.store, first), (&other, second)] {
            scope.spawn(move || layer.add(store, &store.lease().unwrap()).unwrap());
        }
    });
}

#[test]
fn threads_that_add_the_same_layer_all_succeed() {
    let sandbox = Sandbox::new();
    let layer = sample(200_000);
    std::thread::scope(|scope| {
        for _ in 0..6 {
            scope.spawn(|| {
                let lease = sandbox.store.lease().unwrap();
                layer.add(&sandbox.store, &lease).unwrap();
                assert!(sandbox.store.has_layer(&layer.diff_id).unwrap());
            });
        }
    });
    assert_one_layer(&sandbox.store);
}

#[track_caller]
fn assert_one_layer(store: &Store) {
    let count = |dir: &str| std::fs::read_dir(store.root().join(dir)).unwrap().count();
    // The empty layer is always there.
    assert_eq!(
        (count("layers"), count("blobs/sha256"), count("tmp")),
        (2, 1, 0)
    );
}

#[test]
fn processes_that_pull_the_same_image_all_succeed() {
    let layer = sample(400_000);
    if let Some((_, root)) = role() {
        let store = Store::open(&root).unwrap();
        crate::common::put(&store, &[layer], &["example.com/same:1"], "same");
        return;
    }
    let sandbox = Sandbox::new();
    let test = "processes_that_pull_the_same_image_all_succeed";
    let start = |_| {
        child(test, "pull", sandbox.root())
            .stdout(Stdio::null())
            .spawn()
            .unwrap()
    };
    let children: Vec<_> = (0..4).map(start).collect();
    for mut child in children {
        assert!(child.wait().unwrap().success());
    }
    let record = sandbox.store.find("example.com/same:1").unwrap().unwrap();
    assert_eq!(
        sandbox
            .store
            .read_file(&record, "end", 10)
            .unwrap()
            .unwrap(),
        b"x"
    );
    sandbox.store.gc().unwrap();
    let count = |dir: &str| std::fs::read_dir(sandbox.root().join(dir)).unwrap().count();
    assert_eq!(
        (count("layers"), count("blobs/sha256"), count("tmp")),
        (2, 3, 0)
    );
}

/// Gives half of a layer, says so, and then waits to be killed.
struct Stalling<'a>(&'a [u8]);

impl Read for Stalling<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.0.is_empty() {
            println!("stalled");
            io::stdout().flush()?;
            std::thread::sleep(Duration::from_secs(300));
        }
        self.0.read(buffer)
    }
}

#[test]
fn what_a_killed_process_left_is_removed_and_the_retry_succeeds() {
    let layer = sample(2_000_000);
    if let Some((_, root)) = role() {
        let store = Store::open(&root).unwrap();
        let lease = store.lease().unwrap();
        let half = Stalling(&layer.bytes[..1_600_000]);
        let _ = store.add_layer(&lease, &layer.descriptor, &layer.diff_id, half);
        return;
    }
    let sandbox = Sandbox::new();
    let before = sandbox.listing();
    let test = "what_a_killed_process_left_is_removed_and_the_retry_succeeds";
    let mut victim = child(test, "stall", sandbox.root())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = io::BufRead::lines(io::BufReader::new(victim.stdout.take().unwrap()));
    assert!(lines.any(|line| line.unwrap().contains("stalled")));
    // It is alive: neither opening nor collecting touches what it has.
    let tmp = sandbox.root().join("tmp");
    let halves = || std::fs::read_dir(&tmp).unwrap().count();
    assert_eq!(halves(), 2, "a blob and a directory");
    Store::open(sandbox.root()).unwrap().gc().unwrap();
    assert_eq!(halves(), 2);
    victim.kill().unwrap();
    victim.wait().unwrap();
    // Dropping a handle waits for what it began.
    drop(Store::open(sandbox.root()).unwrap());
    assert_eq!(sandbox.listing(), before);
    let store = Store::open(sandbox.root()).unwrap();
    store.gc().unwrap();
    assert_eq!(sandbox.listing(), before);
    crate::common::put(&store, &[layer], &["example.com/retry:1"], "retry");
}

#[test]
fn a_full_disk_is_told_and_leaves_nothing() {
    let test = "a_full_disk_is_told_and_leaves_nothing";
    if !crate::common::in_private_mounts(test) {
        return;
    }
    let (_, root) = role().unwrap();
    let options = c"size=8m,mode=0700";
    rustix::mount::mount(
        "tmpfs",
        &root,
        "tmpfs",
        rustix::mount::MountFlags::empty(),
        options,
    )
    .unwrap();
    let store = Store::open(&root.join("store")).unwrap();
    let small = sample(1000);
    let record = crate::common::put(
        &store,
        std::slice::from_ref(&small),
        &["example.com/small:1"],
        "s",
    );
    let free = || rustix::fs::statvfs(&root).unwrap().f_bavail;
    let before = free();
    // Once the unpacked file does not fit, once not even the blob does.
    let zeros = Layer::gzip(&Tar::new().file("big/zeros", vec![0; 20 << 20]).finish());
    for layer in [zeros, sample(12 << 20)] {
        let lease = store.lease().unwrap();
        let error = layer.add(&store, &lease).unwrap_err();
        assert!(error.is_no_space(), "{error:?}");
        let text = error.to_string();
        assert!(text.contains("No space left on device"), "{text}");
        assert!(text.contains(layer.descriptor.digest.hex()), "{text}");
        drop(lease);
        assert_eq!(
            std::fs::read_dir(root.join("store/tmp")).unwrap().count(),
            0
        );
        // The database's own log may have grown by a few pages.
        assert!(before - free() < 100, "{} blocks are lost", before - free());
    }
    assert_eq!(store.read_file(&record, "end", 10).unwrap().unwrap(), b"x");
    rustix::mount::unmount(&root, rustix::mount::UnmountFlags::DETACH).unwrap();
}
