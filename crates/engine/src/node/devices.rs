//! Device nodes of this node, as config.json has them.

use std::fs::Metadata;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::Path;

use runtime::spec;

/// The device that a file is, to be at `path` inside; `None`: it is none.
pub(crate) fn of(found: &Metadata, path: &Path) -> Option<spec::Device> {
    let kind = match found.file_type() {
        kind if kind.is_char_device() => "c",
        kind if kind.is_block_device() => "b",
        _ => return None,
    };
    Some(spec::Device {
        path: path.to_owned(),
        kind: kind.into(),
        major: Some(i64::from(libc::major(found.rdev()))),
        minor: Some(i64::from(libc::minor(found.rdev()))),
        file_mode: Some(found.mode() & 0o777),
        uid: Some(found.uid()),
        gid: Some(found.gid()),
    })
}

/// A device of the node as a bind mount: what a container with a user namespace, whose root makes no device nodes,
/// gets in place of one.
pub(crate) fn bound(source: &Path, node: &spec::Device) -> spec::Mount {
    let options = ["bind", "rprivate", "nosuid", "noexec", "rw"];
    spec::Mount {
        destination: node.path.clone(),
        kind: Some("bind".into()),
        source: Some(source.to_owned()),
        options: options.map(str::to_owned).to_vec(),
        ..spec::Mount::default()
    }
}
