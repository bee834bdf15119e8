//! Paths of a caller who means no good, and what is left of what was begun.

use std::fs;
use std::io::Write;
use std::os::unix::fs::{PermissionsExt, symlink};

use super::*;

fn refused<T: std::fmt::Debug>(result: Result<T>) -> String {
    match result.unwrap_err() {
        Error::Invalid { field, reason } => format!("{field}: {reason}"),
        other => panic!("{other}"),
    }
}

#[test]
fn a_new_file_is_there_whole_or_not_at_all() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a.tar");
    let file = NewFile::begin("location", &path).unwrap();
    file.file().write_all(b"half").unwrap();
    drop(file);
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
    let file = NewFile::begin("location", &path).unwrap();
    file.file().write_all(b"whole").unwrap();
    file.commit().unwrap();
    assert_eq!(fs::read(&path).unwrap(), b"whole");
    let mode = fs::metadata(&path).unwrap().permissions().mode();
    assert_eq!(mode & 0o7777, 0o600);
    assert!(refused(NewFile::begin("location", &path)).contains("exists already"));
}

#[test]
fn one_that_comes_to_be_meanwhile_is_not_replaced() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a.tar");
    let file = NewFile::begin("location", &path).unwrap();
    symlink("/nowhere", &path).unwrap();
    assert!(file.commit().is_err());
    assert!(fs::symlink_metadata(&path).unwrap().is_symlink());
}

#[test]
fn a_path_that_is_no_new_file_of_ones_own_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    symlink("/nowhere", at("dangling")).unwrap();
    symlink(dir.path(), at("loop")).unwrap();
    fs::create_dir(at("open")).unwrap();
    fs::set_permissions(at("open"), PermissionsExt::from_mode(0o777)).unwrap();
    fs::write(at("file"), "").unwrap();
    for (path, words) in [
        ("relative.tar".into(), "absolute"),
        ("/".into(), "names no file"),
        (at("x/"), "names no file"),
        (at("open/../a.tar"), "\"..\""),
        (at("dangling"), "exists already"),
        (at("missing/a.tar"), "no directory"),
        (at("file/a.tar"), "no directory"),
        (at("loop/a.tar"), "no directory"),
        (at("open/a.tar"), "others may change"),
        (at(&"n".repeat(300)), ""),
    ] {
        let path: std::path::PathBuf = path;
        let result = NewFile::begin("location", &path);
        match words {
            "" => assert!(result.is_err(), "{path:?}"),
            words => {
                let reason = refused(result);
                assert!(reason.contains(words), "{path:?}: {reason}");
            }
        }
    }
    // What others may add to and not change is fine, as /tmp is.
    fs::set_permissions(at("open"), PermissionsExt::from_mode(0o1777)).unwrap();
    NewFile::begin("location", &at("open/a.tar")).unwrap();
}

#[test]
fn a_directory_must_be_empty_and_the_callers_own_and_is_empty_again_after_a_failure() {
    let dir = tempfile::tempdir().unwrap();
    let own = dir.path().join("own");
    fs::create_dir(&own).unwrap();
    fs::set_permissions(&own, PermissionsExt::from_mode(0o700)).unwrap();
    let open = || EmptyDirectory::open("output_path", &own);
    let made = open().unwrap();
    fs::create_dir_all(made.path().join("containers/0")).unwrap();
    fs::write(made.path().join("containers/0/x"), "x").unwrap();
    symlink("/etc", made.path().join("link")).unwrap();
    drop(made);
    assert_eq!(fs::read_dir(&own).unwrap().count(), 0);
    let made = open().unwrap();
    fs::write(made.path().join("kept"), "x").unwrap();
    made.keep().unwrap();
    assert!(refused(open()).contains("kept"));
    fs::remove_file(own.join("kept")).unwrap();
    symlink(&own, dir.path().join("link")).unwrap();
    for path in [dir.path().join("link"), dir.path().join("missing")] {
        let reason = refused(EmptyDirectory::open("output_path", &path));
        assert!(reason.contains("no directory"), "{reason}");
    }
    for mode in [0o770, 0o707, 0o1777] {
        fs::set_permissions(&own, PermissionsExt::from_mode(mode)).unwrap();
        assert!(refused(open()).contains("others"), "{mode:o}");
    }
}
