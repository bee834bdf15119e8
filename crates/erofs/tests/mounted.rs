//! What the kernel sees in an image: everything that the tree has, and nothing else.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::collections::BTreeMap;
use std::ffi::CString;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::FileExt;
use std::path::Path;

use erofs::{Attributes, Content, Extent, Tree};
use rustix::fs::{AtFlags, Dir, Mode, OFlags, makedev, openat, readlinkat, statat};
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, fsconfig_create, fsconfig_set_flag,
    fsconfig_set_string, fsmount, fsopen,
};

/// An image and what it points to, mounted; nothing of it is seen outside of this process.
struct Mounted {
    root: OwnedFd,
    _dir: tempfile::TempDir,
}

impl Mounted {
    /// `None` where the kernel does not mount files, or nobody here may mount.
    fn new(tree: &Tree, data: &[u8]) -> Option<Self> {
        let dir = tempfile::tempdir().unwrap();
        let (image, device) = (dir.path().join("image"), dir.path().join("data"));
        std::fs::write(&device, data).unwrap();
        let mut file = File::create(&image).unwrap();
        let summary = erofs::write(tree, data.len() as u64, &mut file).unwrap();
        assert_eq!(file.metadata().unwrap().len(), summary.bytes);
        match mount(&image, &device) {
            Ok(root) => Some(Self { root, _dir: dir }),
            Err(error) => {
                println!("SKIP: images of EROFS in files cannot be mounted here: {error}");
                None
            }
        }
    }
}

fn mount(image: &Path, device: &Path) -> rustix::io::Result<OwnedFd> {
    let context = fsopen("erofs", FsOpenFlags::FSOPEN_CLOEXEC)?;
    fsconfig_set_string(context.as_fd(), "source", image)?;
    fsconfig_set_string(context.as_fd(), "device", device)?;
    fsconfig_set_flag(context.as_fd(), "ro")?;
    fsconfig_create(context.as_fd()).inspect_err(|_| {
        let mut words = [0; 4096];
        while let Ok(length @ 1..) = rustix::io::read(&context, &mut words) {
            println!("{}", String::from_utf8_lossy(&words[..length]));
        }
    })?;
    fsmount(
        context.as_fd(),
        FsMountFlags::FSMOUNT_CLOEXEC,
        MountAttrFlags::MOUNT_ATTR_RDONLY,
    )
}

fn attributes(mode: u16) -> Attributes {
    Attributes {
        mode,
        uid: 1000,
        gid: 70_000,
        mtime: (1_700_000_000, 123_456_789),
        xattrs: Vec::new(),
    }
}

fn names(dir: BorrowedFd<'_>) -> Vec<Vec<u8>> {
    let mut names: Vec<Vec<u8>> = Dir::read_from(dir)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().to_bytes().to_vec())
        .filter(|name| name != b"." && name != b"..")
        .collect();
    names.sort();
    names
}

fn open(dir: impl AsFd, name: &[u8], flags: OFlags) -> OwnedFd {
    openat(dir, name, flags | OFlags::NOFOLLOW, Mode::empty()).unwrap()
}

fn content(dir: impl AsFd, name: &[u8]) -> Vec<u8> {
    let mut all = Vec::new();
    File::from(open(dir, name, OFlags::RDONLY))
        .read_to_end(&mut all)
        .unwrap();
    all
}

#[test]
fn files_have_their_content_and_holes() {
    let mut tree = Tree::new(attributes(0o755));
    let root = tree.root();
    let data: Vec<u8> = (0..64 << 10)
        .map(|at| (at / 512) as u8 ^ at as u8)
        .collect();
    let mut expected: BTreeMap<Vec<u8>, Vec<u8>> = BTreeMap::new();
    for (number, size) in [0, 1, 511, 512, 513, 4095, 4096, 5000, 20_000]
        .into_iter()
        .enumerate()
    {
        let name = format!("file-{size}").into_bytes();
        let at = 512 * (number + 3);
        let extents: Box<[Extent]> = match size {
            0 => Box::new([]),
            _ => Box::new([Extent {
                offset: 0,
                at: at as u64,
                length: size as u64,
            }]),
        };
        let size_of = size as u64;
        let content = Content::File {
            size: size_of,
            extents,
        };
        tree.insert(root, &name, attributes(0o644), content)
            .unwrap();
        expected.insert(name, data[at..at + size].to_vec());
    }
    let sparse = Content::File {
        size: 30_000,
        extents: Box::new([
            Extent {
                offset: 4096,
                at: 1024,
                length: 4096,
            },
            Extent {
                offset: 12_288,
                at: 9216,
                length: 512,
            },
            Extent {
                offset: 28_672,
                at: 512,
                length: 1328,
            },
        ]),
    };
    let mut holes = vec![0; 30_000];
    holes[4096..8192].copy_from_slice(&data[1024..5120]);
    holes[12_288..12_800].copy_from_slice(&data[9216..9728]);
    holes[28_672..].copy_from_slice(&data[512..1840]);
    tree.insert(root, b"sparse", attributes(0o644), sparse)
        .unwrap();
    expected.insert(b"sparse".to_vec(), holes);

    let Some(mounted) = Mounted::new(&tree, &data) else {
        return;
    };
    let all = open(&mounted.root, b".", OFlags::RDONLY);
    let seen: Vec<Vec<u8>> = names(all.as_fd());
    assert_eq!(seen, expected.keys().cloned().collect::<Vec<_>>());
    for (name, expected) in &expected {
        assert!(content(&mounted.root, name) == *expected, "{name:?}");
    }
    let file = File::from(open(&mounted.root, b"sparse", OFlags::RDONLY));
    let mut part = [0; 100];
    file.read_exact_at(&mut part, 28_700).unwrap();
    assert_eq!(part, data[540..640]);
}

#[test]
fn a_file_larger_than_any_block_number_of_32_bits_has_its_size() {
    let mut tree = Tree::new(attributes(0o755));
    let root = tree.root();
    let size = 5 << 40;
    let content = Content::File {
        size,
        extents: Box::new([]),
    };
    tree.insert(root, b"hole", attributes(0o644), content)
        .unwrap();
    let Some(mounted) = Mounted::new(&tree, b"") else {
        return;
    };
    let mut file = File::from(open(&mounted.root, b"hole", OFlags::RDONLY));
    assert_eq!(file.metadata().unwrap().len(), size);
    file.seek(SeekFrom::Start(size - 10)).unwrap();
    let mut end = Vec::new();
    file.read_to_end(&mut end).unwrap();
    assert_eq!(end, [0; 10]);
}

#[test]
fn every_type_has_its_attributes_links_and_targets() {
    let mut tree = Tree::new(attributes(0o1777));
    let root = tree.root();
    let long = vec![b'x'; 4095];
    let types: [(&[u8], Content, u32); 8] = [
        (b"dir", Content::Directory, 0o040_000),
        (
            b"link",
            Content::Symlink(b"../to".as_slice().into()),
            0o120_000,
        ),
        (b"long", Content::Symlink(long.as_slice().into()), 0o120_000),
        (b"char", Content::CharacterDevice(259, 1_000_000), 0o020_000),
        (b"whiteout", Content::CharacterDevice(0, 0), 0o020_000),
        (b"block", Content::BlockDevice(7, 3), 0o060_000),
        (b"fifo", Content::Fifo, 0o010_000),
        (b"socket", Content::Socket, 0o140_000),
    ];
    for (name, content, _) in &types {
        tree.insert(root, name, attributes(0o4711), content.clone())
            .unwrap();
    }
    let fifo = tree.child(root, b"fifo").unwrap();
    let dir = tree.child(root, b"dir").unwrap();
    tree.link(dir, b"again", fifo).unwrap();
    tree.attributes_mut(fifo).mtime = (-5, 7);
    let Some(mounted) = Mounted::new(&tree, b"") else {
        return;
    };
    for (name, content, kind) in &types {
        let stat = statat(&mounted.root, *name, AtFlags::SYMLINK_NOFOLLOW).unwrap();
        let name = String::from_utf8_lossy(name);
        assert_eq!(stat.st_mode, kind | 0o4711, "{name}");
        assert_eq!((stat.st_uid, stat.st_gid), (1000, 70_000), "{name}");
        let device = match content {
            Content::CharacterDevice(major, minor) | Content::BlockDevice(major, minor) => {
                makedev(*major, *minor)
            }
            _ => 0,
        };
        assert_eq!(stat.st_rdev, device, "{name}");
        if *name != *"fifo" {
            assert_eq!(
                (stat.st_mtime, stat.st_mtime_nsec),
                (1_700_000_000, 123_456_789),
                "{name}"
            );
        }
    }
    let of = |name: &[u8]| readlinkat(&mounted.root, name, Vec::new()).unwrap();
    assert_eq!(of(b"link"), CString::new("../to").unwrap());
    assert_eq!(of(b"long"), CString::new(long).unwrap());
    let stat = |path: &str| statat(&mounted.root, path, AtFlags::SYMLINK_NOFOLLOW).unwrap();
    let (first, second) = (stat("fifo"), stat("dir/again"));
    assert_eq!((first.st_ino, first.st_nlink), (second.st_ino, 2));
    assert_eq!((first.st_mtime, first.st_mtime_nsec), (-5, 7));
    assert_eq!(stat("dir/..").st_ino, stat(".").st_ino);
    assert_eq!((stat(".").st_nlink, stat("dir").st_nlink), (3, 2));
}

#[test]
fn xattrs_are_read_back_and_acls_hold() {
    let acl: Vec<u8> = [
        &[2, 0, 0, 0][..],
        &[1, 0, 7, 0, 255, 255, 255, 255],
        &[4, 0, 5, 0, 255, 255, 255, 255],
        &[32, 0, 4, 0, 255, 255, 255, 255],
    ]
    .concat();
    let capability = [1, 0, 0, 2, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    let large = vec![b'v'; 60_000];
    let all: [(&[u8], &[u8]); 5] = [
        (b"security.capability", &capability),
        (b"system.posix_acl_access", &acl),
        (b"trusted.overlay.opaque", b"y"),
        (b"user.large", &large),
        (b"user.empty", b""),
    ];
    let mut tree = Tree::new(attributes(0o755));
    let root = tree.root();
    let mut with = attributes(0o755);
    with.xattrs = all
        .iter()
        .map(|(name, value)| ((*name).into(), (*value).into()))
        .collect();
    tree.insert(root, b"dir", with.clone(), Content::Directory)
        .unwrap();
    let link = Content::Symlink(b"there".as_slice().into());
    let mut of_link = attributes(0o777);
    of_link.xattrs = vec![(b"trusted.a".as_slice().into(), vec![b'a'; 430].into())];
    tree.insert(root, b"link", of_link, link).unwrap();
    let Some(mounted) = Mounted::new(&tree, b"") else {
        return;
    };
    let dir = open(&mounted.root, b"dir", OFlags::RDONLY);
    for (name, value) in all {
        let mut found = vec![0; 65_536];
        let length = rustix::fs::fgetxattr(&dir, name, &mut found).unwrap();
        assert!(
            found[..length] == *value,
            "{}",
            String::from_utf8_lossy(name)
        );
    }
    assert_eq!(
        readlinkat(&mounted.root, "link", Vec::new()).unwrap(),
        CString::new("there").unwrap()
    );
}

#[test]
fn directories_of_any_size_find_and_list_their_names() {
    let mut tree = Tree::new(attributes(0o755));
    let root = tree.root();
    for (dir, count) in [("empty", 0), ("few", 3), ("edge", 31), ("many", 20_000)] {
        let dir = tree
            .insert(root, dir.as_bytes(), attributes(0o755), Content::Directory)
            .unwrap();
        for number in 0..count {
            let name = format!("{:x<width$}{number}", "!", width = number % 250);
            tree.insert(dir, name.as_bytes(), attributes(0o600), Content::Fifo)
                .unwrap();
        }
    }
    // Names that stand before and between the two that every directory has.
    for name in ["!", "-", "...", "..a", ".a"] {
        tree.insert(root, name.as_bytes(), attributes(0o600), Content::Fifo)
            .unwrap();
    }
    let Some(mounted) = Mounted::new(&tree, b"") else {
        return;
    };
    let mut dirs = vec![(root, open(&mounted.root, b".", OFlags::RDONLY))];
    let mut seen = 0;
    while let Some((id, fd)) = dirs.pop() {
        let expected: Vec<Vec<u8>> = tree.children(id).map(|(name, _)| name.to_vec()).collect();
        assert_eq!(names(fd.as_fd()), expected);
        for (name, child) in tree.children(id) {
            seen += 1;
            statat(&fd, name, AtFlags::SYMLINK_NOFOLLOW).unwrap();
            if tree.is_directory(child) {
                dirs.push((child, open(&fd, name, OFlags::RDONLY)));
            }
        }
        assert!(statat(&fd, "no such name", AtFlags::SYMLINK_NOFOLLOW).is_err());
    }
    assert_eq!(seen, 20_043);
}

#[test]
fn the_same_tree_gives_the_same_bytes_and_a_full_disk_is_an_error() {
    let mut tree = Tree::new(attributes(0o755));
    let root = tree.root();
    for number in 0..10_000 {
        let name = format!("{number}");
        tree.insert(root, name.as_bytes(), attributes(0o600), Content::Fifo)
            .unwrap();
    }
    let write = || {
        let mut out = Vec::new();
        erofs::write(&tree, 0, &mut out).unwrap();
        out
    };
    assert!(write() == write());
    struct Full;
    impl Write for Full {
        fn write(&mut self, _: &[u8]) -> std::io::Result<usize> {
            Err(std::io::ErrorKind::StorageFull.into())
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }
    let error = erofs::write(&tree, 0, &mut Full).unwrap_err();
    assert!(matches!(error, erofs::Error::Write(_)), "{error}");
}
