//! Root file systems that are mounted for a person or a builder.

use std::fs;
use std::path::Path;

use rustix::mount::{UnmountFlags, mount_bind, unmount};
use store::{Access, Error, ImageRecord, Store};

use crate::common::{Layer, Tar, put, role};

fn image(store: &Store) -> ImageRecord {
    let layer = Layer::gzip(&Tar::new().file("etc/file", "image").finish());
    put(store, &[layer], &["example.com/x:1"], "x")
}

fn names(store: &Store, directory: &str) -> usize {
    fs::read_dir(store.root().join(directory)).map_or(0, Iterator::count)
}

#[test]
fn an_image_is_mounted_for_reading_and_stays_until_it_is_unmounted() {
    if !crate::common::in_private_mounts(
        "an_image_is_mounted_for_reading_and_stays_until_it_is_unmounted",
    ) {
        return;
    }
    let (_, dir) = role().unwrap();
    let store = Store::open(&dir.join("store")).unwrap();
    let record = image(&store);
    let place = store.mount_image(&record).unwrap();
    assert_eq!(store.mount_image(&record).unwrap(), place);
    assert_eq!(
        store.mounts().unwrap(),
        [(record.id.clone(), place.clone())]
    );
    assert_eq!(fs::read_to_string(place.join("etc/file")).unwrap(), "image");
    let refused = fs::write(place.join("x"), "").unwrap_err();
    assert_eq!(refused.kind(), std::io::ErrorKind::ReadOnlyFilesystem);
    // No container, and no reason to keep the image's name; its layers stay as long as they are needed.
    assert!(store.writable_layer_ids().unwrap().is_empty());
    store.remove(&record.id).unwrap();
    store.gc().unwrap();
    assert_eq!(fs::read_to_string(place.join("etc/file")).unwrap(), "image");
    // Another process sees it, and takes it back; a busy one stays.
    let other = Store::open(store.root()).unwrap();
    let used = fs::File::open(place.join("etc/file")).unwrap();
    let busy = other.unmount(&record.id).unwrap_err();
    assert!(busy.to_string().contains("busy"), "{busy}");
    drop(used);
    assert!(other.unmount(&record.id).unwrap());
    assert!(!other.unmount(&record.id).unwrap());
    assert!(other.mounts().unwrap().is_empty());
    other.gc().unwrap();
    drop(other);
    drop(store);
    let store = Store::open(&dir.join("store")).unwrap();
    let left = ["mounts", "containers", "tmp"].map(|directory| names(&store, directory));
    assert_eq!((left, names(&store, "layers")), ([0; 3], 1));
}

#[test]
fn a_container_is_mounted_and_what_is_written_there_is_its_own() {
    if !crate::common::in_private_mounts(
        "a_container_is_mounted_and_what_is_written_there_is_its_own",
    ) {
        return;
    }
    let (_, dir) = role().unwrap();
    let store = Store::open(&dir.join("store")).unwrap();
    let record = image(&store);
    assert_eq!(store.mount_container("c1", Access::ReadOnly).unwrap(), None);
    let root = store.create_writable_layer("c1", &record).unwrap();
    let place = store
        .mount_container("c1", Access::Durable)
        .unwrap()
        .unwrap();
    fs::write(place.join("etc/new"), "written").unwrap();
    assert!(store.unmount("c1").unwrap());
    assert!(!place.exists());
    let place = store
        .mount_container("c1", Access::ReadOnly)
        .unwrap()
        .unwrap();
    assert_eq!(
        fs::read_to_string(place.join("etc/new")).unwrap(),
        "written"
    );
    assert!(fs::write(place.join("etc/new"), "").is_err());
    let mut archive = Vec::new();
    let done = root.write_difference(&mut archive).unwrap();
    assert_eq!(done.bytes, 7);
    // A container that goes takes its mount with it, whoever looks at it.
    let _used = fs::File::open(place.join("etc/new")).unwrap();
    store.remove_writable_layer("c1").unwrap();
    assert!(!place.exists() && store.mounts().unwrap().is_empty());
    assert!(!store.unmount("../layers").unwrap());
}

#[test]
fn what_a_kill_or_a_reboot_leaves_goes_with_the_next_collection() {
    if !crate::common::in_private_mounts(
        "what_a_kill_or_a_reboot_leaves_goes_with_the_next_collection",
    ) {
        return;
    }
    let (_, dir) = role().unwrap();
    let store = Store::open(&dir.join("store")).unwrap();
    let record = image(&store);
    let place = store.mount_image(&record).unwrap();
    let container = store.create_writable_layer("c1", &record).unwrap();
    let mounted = store
        .mount_container("c1", Access::ReadOnly)
        .unwrap()
        .unwrap();
    store.gc().unwrap();
    assert_eq!(store.mounts().unwrap().len(), 2, "what is mounted stays");
    // As after a reboot, and after a kill between the directory and what it is for.
    for place in [&place, &mounted] {
        unmount(place, UnmountFlags::DETACH).unwrap();
    }
    fs::create_dir(place.with_file_name("image-0123")).unwrap();
    store.gc().unwrap();
    assert_eq!(names(&store, "mounts"), 0);
    assert_eq!(
        store.container_root("c1").unwrap(),
        Some(container),
        "the container stays"
    );
    let report = store.check(store::Check::default()).unwrap();
    assert!(report.findings.is_empty(), "{:?}", report.findings);
    assert_eq!(store.mount_image(&record).unwrap(), place);
    store.unmount(&record.id).unwrap();
}

#[test]
fn a_mount_that_fails_leaves_nothing() {
    if !crate::common::in_private_mounts("a_mount_that_fails_leaves_nothing") {
        return;
    }
    let (_, dir) = role().unwrap();
    let store = Store::open(&dir.join("store")).unwrap();
    let record = image(&store);
    store.create_writable_layer("c1", &record).unwrap();
    fs::remove_dir_all(store.root().join("containers/c1/work")).unwrap();
    let failed = store.mount_container("c1", Access::Durable).unwrap_err();
    assert!(matches!(failed, Error::Io { .. }), "{failed}");
    assert_eq!(names(&store, "mounts"), 0);
    // Something else that is mounted there is nobody's to take.
    let place = store.mount_image(&record).unwrap();
    let inner = place.join("etc");
    mount_bind(Path::new("/tmp"), &inner).unwrap();
    assert!(store.unmount(&record.id).is_err());
    unmount(&inner, UnmountFlags::empty()).unwrap();
    assert!(store.unmount(&record.id).unwrap());
}
