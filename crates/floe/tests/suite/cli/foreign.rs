//! Stores of other tools, as Debian's skopeo fills them.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::process::Command;

use image::Digest;
use serde_json::{Value, json};
use testkit::images::{self, Entry};

use super::{Machine, Said};

/// A program that mounts things, where nobody else sees them.
pub(crate) fn apart(program: &str) -> Command {
    let mut command = Command::new("unshare");
    command.args(["--mount", program]);
    command
}

pub(crate) fn skopeo(arguments: &[&str]) -> Said {
    let mut command = apart("skopeo");
    command.arg("--insecure-policy").args(arguments);
    command.output().expect("skopeo is installed").into()
}

pub(crate) fn json(text: &str) -> Value {
    serde_json::from_str(text).expect("JSON")
}

/// A tar with what is hard to put together again.
pub(crate) fn odd_layer() -> images::Layer {
    let mut tar = tar::Builder::new(Vec::new());
    let mut add = |path: &[u8], kind: tar::EntryType, data: &[u8]| {
        let mut header = tar::Header::new_gnu();
        header.as_mut_bytes()[..path.len()].copy_from_slice(path);
        header.set_entry_type(kind);
        header.set_mode(0o4755);
        header.set_uid(1000);
        header.set_gid(70_000);
        header.set_mtime(1_234_567_890);
        header.set_size(data.len() as u64);
        header.set_cksum();
        tar.append(&header, data).expect("append");
    };
    add(b"./", tar::EntryType::Directory, b"");
    add(b"/abs/../plain", tar::EntryType::Regular, b"1");
    add(b"dir/\xff\xfe", tar::EntryType::Regular, b"not UTF-8");
    add(b"dir/.wh.gone", tar::EntryType::Regular, b"");
    add(b"dir/.wh..wh..opq", tar::EntryType::Regular, b"");
    add(b"pipe", tar::EntryType::Fifo, b"");
    add(b"holes", tar::EntryType::Regular, &[0; 1 << 20]);
    tar.append_pax_extensions([("SCHILY.xattr.user.floe", &b"value"[..])])
        .expect("append");
    let mut header = tar::Header::new_ustar();
    header.set_mode(0o600);
    header.set_size(5);
    tar.append_data(&mut header, "with/xattr", &b"hello"[..])
        .expect("append");
    // What comes after the end belongs to the layer.
    let mut tar = tar.into_inner().expect("a tar");
    tar.extend([0; 4096]);
    tar
}

pub(crate) fn plain_layer() -> images::Layer {
    let long = format!("dir/{}/file", "long".repeat(40));
    images::layer(&[
        Entry::Dir("dir", 0o700),
        Entry::File(&long, 0o644, b"deep"),
        Entry::File("dir/gone", 0o644, &[7; 100_000]),
        Entry::Hardlink("dir/again", "dir/gone"),
        Entry::Symlink("link", "/dir"),
        Entry::Symlink("out", "../../../../etc"),
    ])
    .expect("a layer")
}

/// A store of other tools on this machine.
pub(crate) struct Foreign<'m> {
    floe: &'m Machine,
    driver: &'static str,
    pub(crate) root: PathBuf,
    pub(crate) run: PathBuf,
}

impl Foreign<'_> {
    pub(crate) fn new<'m>(floe: &'m Machine, driver: &'static str, name: &str) -> Foreign<'m> {
        let (root, run) = (floe.node.path(name), floe.node.path(&format!("{name}-run")));
        Foreign {
            floe,
            driver,
            root,
            run,
        }
    }

    pub(crate) fn place(&self, image: &str) -> String {
        let (root, run) = (self.root.display(), self.run.display());
        format!("containers-storage:[{}@{root}+{run}]{image}", self.driver)
    }

    /// Has skopeo store an image of the registry.
    pub(crate) fn fill(&self, from: &str, name: &str) {
        let from = format!("docker://{}/{from}", self.floe.registry.host());
        let arguments = ["copy", "-q", "--src-tls-verify=false"];
        skopeo(&[&arguments[..], &[&from, &self.place(name)]].concat()).ok();
    }

    pub(crate) fn dir(&self, name: &str) -> String {
        format!("dir:{}", self.floe.node.path(name).display())
    }

    pub(crate) fn copy(&self, image: &str, to: &str) -> Said {
        self.floe.floe(&["copy", "-q", &self.place(image), to])
    }

    /// Each file below the root with what a write would change.
    pub(crate) fn state(&self) -> Vec<(PathBuf, i64, i64, u64)> {
        let mut found = Vec::new();
        let mut left = vec![self.root.clone()];
        while let Some(path) = left.pop() {
            let stat = fs::symlink_metadata(&path).expect("stat");
            if stat.is_dir() {
                let entries = fs::read_dir(&path).expect("read");
                left.extend(entries.map(|entry| entry.expect("an entry").path()));
            }
            found.push((path, stat.ctime(), stat.ctime_nsec(), stat.size()));
        }
        found.sort();
        found
    }

    pub(crate) fn edit(&self, file: &str, change: impl Fn(&mut Value)) {
        let path = self.root.join(format!("{}-{file}", self.driver));
        let mut value = json(&fs::read_to_string(&path).expect("read"));
        change(&mut value);
        fs::write(&path, value.to_string()).expect("write");
    }
}

impl Machine {
    /// Pushes an image of these layers to the test's registry.
    pub(crate) fn push_here(&self, name: &str, layers: &[images::Layer]) -> Digest {
        let name = format!("{}/{name}", self.registry.host());
        self.push_layers(&name, layers, json!({ "Cmd": ["x"] }))
    }
}
