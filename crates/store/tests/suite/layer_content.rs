//! What a layer's entries become: names, owners, modes, times, attributes, links, holes, whiteouts.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fs;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::common::tar::Entry;
use crate::common::{Layer, Sandbox, Tar, expect_success, unpack};
use rustix::fs::lgetxattr;

fn xattr(path: &Path, name: &str) -> Option<Vec<u8>> {
    let mut value = [0u8; 256];
    match lgetxattr(path, name, &mut value) {
        Ok(length) => Some(value[..length].to_vec()),
        Err(rustix::io::Errno::NODATA) => None,
        Err(e) => panic!("{}: {name}: {e}", path.display()),
    }
}

fn is_opaque(path: &Path) -> bool {
    xattr(path, "trusted.overlay.opaque").as_deref() == Some(b"y")
}

fn is_whiteout(path: &Path) -> bool {
    let metadata = path.symlink_metadata().unwrap();
    metadata.file_type().is_char_device() && metadata.rdev() == 0
}

#[test]
fn owners_modes_and_times_are_kept() {
    let sandbox = Sandbox::new();
    let archive = Tar::new()
        .entry(&Entry::new(b'5', "./").mode(0o751).owner(7, 8))
        .entry(&Entry::new(b'5', "tmp").mode(0o1777))
        .pax(&[
            ("mtime", b"1234567890.123456789"),
            ("uid", b"3000000"),
            ("gid", b"4000000"),
        ])
        .entry(&Entry::new(b'0', "tmp/su").mode(0o4755).data("x"))
        .entry(&Entry::new(b'5', "tmp/sg").mode(0o2775).owner(1, 2))
        .file("tmp/sg/plain", "")
        .pax(&[("mtime", b"-1.5")])
        .entry(&Entry::new(b'2', "tmp/link").link("nowhere").owner(5, 6))
        .entry(&Entry::new(b'6', "tmp/fifo").mode(0o640).owner(9, 10))
        .finish();
    let layer = unpack(&sandbox.store, &archive);
    let stat = |path: &str| {
        let metadata = layer.join(path).symlink_metadata().unwrap();
        (
            metadata.mode() & 0o7777,
            metadata.uid(),
            metadata.gid(),
            metadata.mtime(),
            metadata.mtime_nsec(),
        )
    };
    assert_eq!(stat(""), (0o751, 7, 8, 1_000_000_000, 0));
    assert_eq!(stat("tmp"), (0o1777, 0, 0, 1_000_000_000, 0));
    assert_eq!(
        stat("tmp/su"),
        (0o4755, 3_000_000, 4_000_000, 1_234_567_890, 123_456_789)
    );
    assert_eq!(stat("tmp/sg"), (0o2775, 1, 2, 1_000_000_000, 0));
    assert_eq!(
        stat("tmp/sg/plain"),
        (0o644, 0, 0, 1_000_000_000, 0),
        "not its parent's group"
    );
    assert_eq!(stat("tmp/link"), (0o777, 5, 6, -2, 500_000_000));
    assert_eq!(stat("tmp/fifo"), (0o640, 9, 10, 1_000_000_000, 0));
    assert!(
        layer
            .join("tmp/fifo")
            .metadata()
            .unwrap()
            .file_type()
            .is_fifo()
    );
}

#[test]
fn extended_attributes_are_set_where_an_image_may() {
    let sandbox = Sandbox::new();
    // cap_net_raw+ep, version 2.
    let capability = [
        1, 0, 0, 2, 0, 0x20, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,
    ];
    let archive = Tar::new()
        .pax(&[
            ("SCHILY.xattr.security.capability", &capability),
            ("SCHILY.xattr.user.note", b"bin\0ary"),
            (
                "SCHILY.xattr.security.selinux",
                b"system_u:object_r:bin_t:s0",
            ),
            ("SCHILY.xattr.trusted.other", b"x"),
        ])
        .entry(&Entry::new(b'0', "ping").owner(3, 4).mode(0o755).data("elf"))
        .pax(&[("SCHILY.xattr.user.dir", b"d")])
        .dir("d")
        .finish();
    let layer = unpack(&sandbox.store, &archive);
    let ping = layer.join("ping");
    assert_eq!(xattr(&ping, "security.capability").unwrap(), capability);
    assert_eq!(xattr(&ping, "user.note").unwrap(), b"bin\0ary");
    assert_eq!(xattr(&ping, "trusted.other"), None);
    assert_eq!(xattr(&layer.join("d"), "user.dir").unwrap(), b"d");
}

#[test]
fn long_names_of_both_kinds_are_read() {
    let sandbox = Sandbox::new();
    let name = |letter: &str| format!("{}/{}", letter.repeat(150), letter.repeat(150));
    let archive = Tar::new()
        .entry(&Entry::new(b'L', "././@LongLink").data(name("a") + "\0"))
        .file("short", "gnu")
        .entry(&Entry::new(b'L', "././@LongLink").data("link\0"))
        .entry(&Entry::new(b'K', "././@LongLink").data(name("k") + "\0"))
        .symlink("short", "short")
        .pax(&[("path", name("p").as_bytes())])
        .file("short", "pax")
        .entry(&Entry::new(b'0', "end").patch(345, "pre/fix").data("ustar"))
        .entry(&Entry::new(b'g', "global").data("22 comment=of no meaning\n"))
        .file("./after/./global//", "g")
        .finish();
    let layer = unpack(&sandbox.store, &archive);
    let read = |path: &str| fs::read_to_string(layer.join(path)).unwrap();
    assert_eq!(read(&name("a")), "gnu");
    assert_eq!(
        fs::read_link(layer.join("link")).unwrap(),
        PathBuf::from(name("k"))
    );
    assert_eq!(read(&name("p")), "pax");
    assert_eq!(read("pre/fix/end"), "ustar");
    assert_eq!(read("after/global"), "g");
}

#[test]
fn parents_that_are_not_mentioned_are_made() {
    let sandbox = Sandbox::new();
    let archive = Tar::new()
        .entry(&Entry::new(b'0', "/a/b/c").owner(9, 9).data("x"))
        .finish();
    let layer = unpack(&sandbox.store, &archive);
    for dir in ["a", "a/b"] {
        let metadata = layer.join(dir).metadata().unwrap();
        assert_eq!(
            (metadata.mode() & 0o7777, metadata.uid()),
            (0o755, 0),
            "{dir}"
        );
    }
}

#[test]
fn a_linked_parent_is_where_the_link_points_below_the_root() {
    let sandbox = Sandbox::new();
    let archive = Tar::new()
        .dir("usr/lib")
        .symlink("lib", "usr/lib")
        .symlink("abs", "/usr/lib")
        .symlink("later", "not/../yet/there")
        .file("lib/a", "")
        .file("abs/b", "")
        .file("later/c", "")
        .hard_link("lib/d", "abs/a")
        .finish();
    let layer = unpack(&sandbox.store, &archive);
    assert!(layer.join("usr/lib/a").exists() && layer.join("usr/lib/b").exists());
    assert!(layer.join("yet/there/c").exists());
    assert_eq!(layer.join("usr/lib/d").metadata().unwrap().nlink(), 2);
}

#[test]
fn later_entries_replace_earlier_ones() {
    let sandbox = Sandbox::new();
    let archive = Tar::new()
        .file("twice", "old")
        .file("twice", "new")
        .dir("becomes-file")
        .file("becomes-file/x/y", "")
        .file("becomes-file", "file")
        .file("becomes-dir", "file")
        .file("becomes-link", "file")
        .symlink("becomes-link", "target")
        .entry(&Entry::new(b'5', "becomes-dir").mode(0o700))
        .file("becomes-dir/x", "inside")
        .dir("stays")
        .file("stays/x", "kept")
        .entry(&Entry::new(b'5', "stays").mode(0o711))
        .file("one", "linked")
        .hard_link("two", "one")
        .hard_link("two", "one")
        .hard_link("one", "one")
        .file("two", "own")
        .finish();
    let layer = unpack(&sandbox.store, &archive);
    let read = |path: &str| fs::read_to_string(layer.join(path)).unwrap();
    assert_eq!(read("twice"), "new");
    assert_eq!(read("becomes-file"), "file");
    assert_eq!(read("becomes-dir/x"), "inside");
    assert_eq!(
        layer.join("becomes-dir").metadata().unwrap().mode() & 0o7777,
        0o700
    );
    assert_eq!(
        fs::read_link(layer.join("becomes-link")).unwrap(),
        Path::new("target")
    );
    assert_eq!(read("stays/x"), "kept");
    assert_eq!(
        layer.join("stays").metadata().unwrap().mode() & 0o7777,
        0o711
    );
    assert_eq!(
        (read("one"), read("two")),
        ("linked".to_owned(), "own".to_owned())
    );
}

#[test]
fn whiteouts_become_overlayfs_marks() {
    let sandbox = Sandbox::new();
    let archive = Tar::new()
        .file("etc/.wh.gone", "")
        .file("opaque/.wh..wh..opq", "")
        .file("opaque/new", "")
        .file(".wh..wh.plnk/3.4", "")
        .file(".wh..wh.aufs", "")
        .file(".wh.replaced", "")
        .dir("replaced")
        .file("replaced/own", "")
        .file("first/own", "")
        .file(".wh.first", "")
        .file(".wh.implied", "")
        .file("implied/own", "")
        .file(".wh.file", "")
        .file("file", "own")
        .file("other", "own")
        .file(".wh.other", "")
        .finish();
    let layer = unpack(&sandbox.store, &archive);
    assert!(is_whiteout(&layer.join("etc/gone")));
    assert!(is_opaque(&layer.join("opaque")));
    assert!(!is_opaque(&layer.join("etc")));
    for dir in ["replaced", "first", "implied"] {
        assert!(is_opaque(&layer.join(dir)), "{dir} hides what is below");
        assert!(layer.join(dir).join("own").exists(), "{dir}");
    }
    for file in ["file", "other"] {
        assert_eq!(fs::read_to_string(layer.join(file)).unwrap(), "own");
    }
    let names = fs::read_dir(&layer)
        .unwrap()
        .map(|entry| entry.unwrap().file_name());
    assert!(
        names
            .into_iter()
            .all(|name| !name.to_string_lossy().starts_with(".wh."))
    );
}

#[test]
fn files_with_holes_are_read_in_every_format_of_gnu_tar() {
    let sandbox = Sandbox::new();
    let source = tempfile::tempdir().unwrap();
    // Data in many places, so that the maps go over one block; a hole at the end.
    let mut content = vec![0u8; 4 << 20];
    for piece in 0..60 {
        content[piece * 65536 + 4096..][..4096].fill(b'a' + (piece % 26) as u8);
    }
    let path = source.path().join("holes");
    let file = fs::File::create(&path).unwrap();
    for piece in 0..60 {
        let offset = piece * 65536 + 4096;
        std::os::unix::fs::FileExt::write_all_at(&file, &content[offset..][..4096], offset as u64)
            .unwrap();
    }
    file.set_len(content.len() as u64).unwrap();
    let formats: &[&[&str]] = &[
        &["--format=gnu"],
        &["--format=posix", "--sparse-version=0.0"],
        &["--format=posix", "--sparse-version=0.1"],
        &["--format=posix", "--sparse-version=1.0"],
    ];
    for format in formats {
        let mut tar = Command::new("tar");
        tar.args(*format)
            .arg("--sparse")
            .arg("-C")
            .arg(source.path())
            .args(["-cf", "-", "holes"]);
        let archive = expect_success(&mut tar).stdout;
        assert!(
            archive.len() < content.len() / 4,
            "{format:?}: not stored with holes"
        );
        let layer = unpack(&sandbox.store, &archive);
        let unpacked = layer.join("holes");
        assert!(fs::read(&unpacked).unwrap() == content, "{format:?}");
        assert!(
            unpacked.metadata().unwrap().blocks() * 512 < 1 << 20,
            "{format:?}: holes are filled"
        );
    }
}

#[test]
fn gnu_tars_own_archives_come_out_as_they_went_in() {
    let sandbox = Sandbox::new();
    let source = tempfile::tempdir().unwrap();
    let script = "mkdir -p d/e && echo hello > d/e/f && ln d/e/f d/hard && ln -s ../x d/soft \
        && mkfifo d/pipe && chown 12:34 d/e/f && chmod 4711 d/e/f && touch -d @1.25 d/e/f \
        && chmod 1770 d && touch -d @77 d/e d";
    expect_success(
        Command::new("sh")
            .args(["-ec", script])
            .current_dir(source.path()),
    );
    for format in ["v7", "oldgnu", "gnu", "ustar", "posix"] {
        let mut tar = Command::new("tar");
        tar.arg(format!("--format={format}"));
        if format == "v7" {
            tar.arg("--exclude=pipe");
        }
        tar.arg("-C").arg(source.path()).args(["-cf", "-", "d"]);
        let layer = unpack(&sandbox.store, &expect_success(&mut tar).stdout);
        let file = layer.join("d/e/f").metadata().unwrap();
        assert_eq!(
            (file.mode() & 0o7777, file.uid(), file.gid(), file.nlink()),
            (0o4711, 12, 34, 2),
            "{format}"
        );
        assert_eq!(file.mtime(), 1, "{format}");
        assert_eq!(
            file.mtime_nsec(),
            if format == "posix" { 250_000_000 } else { 0 }
        );
        let dir = layer.join("d").metadata().unwrap();
        assert_eq!((dir.mode() & 0o7777, dir.mtime()), (0o1770, 77), "{format}");
        assert_eq!(
            fs::read_link(layer.join("d/soft")).unwrap(),
            Path::new("../x")
        );
    }
}

#[test]
fn all_compressions_are_read_whatever_the_media_type_says() {
    let archive = Tar::new().file("x", "content").finish();
    let plain = Layer::plain(&archive);
    let gzip = Layer::gzip(&archive);
    let zstd = Layer::zstd(&archive);
    // Two members, and frames: as pigz, eStargz and zstd:chunked write them.
    let half = archive.len() / 2;
    let members = [
        crate::common::gzip(&archive[..half]),
        crate::common::gzip(&archive[half..]),
    ]
    .concat();
    let frames =
        [&archive[..half], &archive[half..]].map(|half| zstd::encode_all(half, 3).unwrap());
    let skippable = [
        &[0x50, 0x2a, 0x4d, 0x18, 4, 0, 0, 0, 1, 2, 3, 4][..],
        &frames.concat(),
    ]
    .concat();
    let odd = [
        Layer::of(&archive, members, image::MediaType::DockerLayerGzip),
        Layer::of(&archive, skippable, image::MediaType::OciLayerZstd),
        Layer::of(&archive, gzip.bytes.clone(), image::MediaType::OciLayerZstd),
        Layer::of(&archive, zstd.bytes.clone(), image::MediaType::OciLayer),
    ];
    for layer in [plain, gzip, zstd].into_iter().chain(odd) {
        let sandbox = Sandbox::new();
        let record = crate::common::put(&sandbox.store, &[layer], &["example.com/x:1"], "x");
        let content = sandbox.store.read_file(&record, "/x", 100).unwrap();
        assert_eq!(content.as_deref(), Some(&b"content"[..]));
    }
}

#[test]
fn what_follows_the_end_of_the_archive_counts_for_its_digest() {
    let sandbox = Sandbox::new();
    let mut archive = Tar::new().file("x", "y").finish();
    archive.extend(vec![0; 10240]);
    archive.extend(b"ignored, but hashed");
    let layer = unpack(&sandbox.store, &archive);
    assert_eq!(fs::read_to_string(layer.join("x")).unwrap(), "y");
    // An archive that just stops after its last entry is complete as well.
    let layer = unpack(&sandbox.store, &Tar::new().file("z", "").unfinished());
    assert!(layer.join("z").exists());
    let layer = unpack(&sandbox.store, &[]);
    assert_eq!(fs::read_dir(layer).unwrap().count(), 0);
}

#[test]
fn the_device_nodes_of_every_container_are_made_with_their_numbers() {
    let sandbox = Sandbox::new();
    let node = |name: &str, major: &[u8], minor: &[u8]| {
        Entry::new(b'3', name)
            .mode(0o666)
            .patch(329, major)
            .patch(337, minor)
    };
    let archive = Tar::new()
        .dir("dev")
        .entry(&node("dev/null", b"0000001\0", b"0000003\0"))
        .entry(&node("dev/console", b"0000005\0", b"0000001\0"))
        .finish();
    let layer = unpack(&sandbox.store, &archive);
    for (name, number) in [("dev/null", 0x103), ("dev/console", 0x501)] {
        let metadata = layer.join(name).symlink_metadata().unwrap();
        assert!(metadata.file_type().is_char_device(), "{name}");
        assert_eq!((metadata.rdev(), metadata.mode() & 0o7777), (number, 0o666));
    }
}
