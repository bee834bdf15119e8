use tar::{Builder, EntryType, Header};

use super::*;

/// Unpacks an archive of a file of that type and name, which is written as it stands.
fn unpacked(kind: EntryType, name: &str) -> Result<tempfile::TempDir> {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("archive.tar");
    let mut tar = Builder::new(fs::File::create(&path).unwrap());
    let mut header = Header::new_ustar();
    header.as_mut_bytes()[..name.len()].copy_from_slice(name.as_bytes());
    header.set_entry_type(kind);
    header.set_link_name("/etc/passwd").unwrap();
    header.set_size(if kind == EntryType::Regular { 8 } else { 0 });
    header.set_mode(0o644);
    header.set_cksum();
    let contents = match kind {
        EntryType::Regular => &b"contents"[..],
        _ => b"",
    };
    tar.append(&header, contents).unwrap();
    tar.into_inner().unwrap();
    let into = tempfile::tempdir().unwrap();
    unpack(&path, into.path()).map(|()| into)
}

#[test]
fn files_of_a_layout_are_unpacked() {
    for name in ["./oci-layout", "blobs/sha256/0", "./blobs/sha256/0"] {
        let into = unpacked(EntryType::Regular, name).unwrap();
        let read = fs::read(into.path().join(name)).unwrap();
        assert_eq!(read, b"contents", "{name}");
    }
}

#[test]
fn what_is_no_file_of_a_layout_is_refused() {
    for (kind, name) in [
        (EntryType::Regular, "../outside"),
        (EntryType::Regular, "/outside"),
        (EntryType::Regular, "blobs/../../outside"),
        (EntryType::Symlink, "blobs"),
        (EntryType::Link, "blobs"),
        (EntryType::Fifo, "blobs/pipe"),
        (EntryType::Directory, "a/b/c/d/e"),
    ] {
        let error = unpacked(kind, name).unwrap_err().to_string();
        assert!(
            error.contains("is not a file of an image layout"),
            "{error}"
        );
    }
}
