use tar::{Builder, EntryType, Header};

use super::*;

#[test]
fn names_of_an_archive_are_words_only() {
    assert_eq!(plain("./a//b/../c"), "a/c");
    assert_eq!(plain("/../../etc"), "etc");
}

/// An entry of an archive: its type, name, link and contents.
type Made<'a> = (EntryType, &'a str, &'a str, &'a str);

const FILE: EntryType = EntryType::Regular;
const LINK: EntryType = EntryType::Symlink;

/// A tar file; its directory goes with the first value.
fn made(entries: &[Made<'_>]) -> (tempfile::TempDir, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("archive.tar");
    let mut tar = Builder::new(File::create(&path).unwrap());
    for (kind, name, link, contents) in entries {
        let mut header = Header::new_gnu();
        header.set_entry_type(*kind);
        header.set_size(contents.len() as u64);
        header.set_mode(0o644);
        match link.is_empty() {
            true => tar.append_data(&mut header, name, contents.as_bytes()),
            false => tar.append_link(&mut header, name, link),
        }
        .unwrap();
    }
    tar.into_inner().unwrap();
    (dir, path)
}

#[test]
fn contents_are_found_by_every_name_that_leads_to_them() {
    let (_dir, path) = made(&[
        (FILE, "one/layer.tar", "", "contents"),
        (LINK, "two/layer.tar", "../one/layer.tar", ""),
        (EntryType::Link, "three/layer.tar", "two/layer.tar", ""),
        (EntryType::Fifo, "pipe", "", ""),
    ]);
    let archive = Archive::open(&path).unwrap();
    for name in ["one/layer.tar", "./two/layer.tar", "three//layer.tar"] {
        assert_eq!(archive.read(name, 100).unwrap(), b"contents", "{name}");
    }
    assert!(!archive.has("pipe"));
    let error = archive.read("one/layer.tar", 7).unwrap_err().to_string();
    assert!(error.contains("more than 7 bytes"), "{error}");
}

#[test]
fn links_of_an_archive_in_a_circle_lead_nowhere() {
    let (_dir, path) = made(&[(LINK, "a", "b", ""), (LINK, "b", "a", "")]);
    let error = Archive::open(&path)
        .unwrap()
        .read("a", 100)
        .unwrap_err()
        .to_string();
    assert!(error.contains("there is no file"), "{error}");
}

#[test]
fn a_damaged_archive_is_refused_with_the_place_of_the_damage() {
    let (_dir, path) = made(&[(FILE, "a", "", "one"), (FILE, "b", "", "two")]);
    let whole = std::fs::read(&path).unwrap();
    std::fs::write(&path, &whole[..1200]).unwrap();
    let error = Archive::open(&path).unwrap_err().to_string();
    let wanted = "the archive is damaged: byte 1200: it ends in the middle";
    assert!(error.contains(wanted), "{error}");
}

#[test]
fn names_that_would_fill_the_memory_are_refused() {
    let long = "n".repeat(4000);
    let entries: Vec<Made<'_>> = vec![(FILE, &long, "", ""); MAX_NAMES / long.len() + 1];
    let (_dir, path) = made(&entries);
    let error = Archive::open(&path).unwrap_err().to_string();
    assert!(error.contains("the names in it are more than"), "{error}");
}
