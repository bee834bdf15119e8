//! What a store costs must not depend on how many images it holds: counted in bytes that the thread
//! reads, not in time.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::path::Path;

use crate::common::{Layer, Sandbox, Tar, describe};
use store::{Store, Usage};

const FEW: usize = 400;
const MANY: usize = 1600;

/// Bytes that this thread has read by system calls: the database's pages and directories' names.
fn bytes_read() -> u64 {
    let io = std::fs::read_to_string("/proc/thread-self/io").unwrap();
    let line = io.lines().find_map(|line| line.strip_prefix("rchar: "));
    line.unwrap().parse().unwrap()
}

/// What a call reads that finds nothing in memory.
fn cost(root: &Path, call: impl FnOnce(&Store)) -> u64 {
    let store = Store::open(root).unwrap();
    let before = bytes_read();
    call(&store);
    bytes_read() - before
}

fn layer(name: &str) -> Layer {
    Layer::plain(&Tar::new().file(name, name).finish())
}

/// What each verb reads: looking up, adding, measuring, removing.
fn costs(store: &Store, number: usize) -> [(&'static str, u64); 5] {
    let (root, lease) = (store.root(), store.lease().unwrap());
    let (layer, name) = (layer("new"), format!("example.com/{number}:1"));
    layer.add(store, &lease).unwrap();
    let new = describe(&[layer], &[&name], &number.to_string());
    let put = cost(root, |store| drop(store.put_image(&lease, new).unwrap()));
    drop(lease);
    let id = store.find(&name).unwrap().unwrap().id;
    let find = cost(root, |store| assert!(store.find(&name).unwrap().is_some()));
    let usage = cost(root, |store| assert!(store.usage().unwrap().bytes > 0));
    let remove = cost(root, |store| assert!(store.remove(&id).unwrap()));
    let gc = cost(root, |store| {
        assert_ne!(store.gc().unwrap(), Usage::default())
    });
    [
        ("put_image", put),
        ("find", find),
        ("usage", usage),
        ("remove", remove),
        ("gc", gc),
    ]
}

/// Adds images that share a layer, up to so many.
fn fill(store: &Store, numbers: std::ops::Range<usize>) {
    let (layer, lease) = (layer("shared"), store.lease().unwrap());
    layer.add(store, &lease).unwrap();
    for number in numbers {
        let name = format!("example.com/{number}:1");
        let new = describe(std::slice::from_ref(&layer), &[&name], &number.to_string());
        store.put_image(&lease, new).unwrap();
    }
}

#[test]
fn an_image_costs_the_same_among_few_and_among_many() {
    let sandbox = Sandbox::new();
    let store = &sandbox.store;
    fill(store, 0..FEW);
    // The first collection of a boot looks at everything.
    store.gc().unwrap();
    let few = costs(store, MANY + 1);
    fill(store, FEW..MANY);
    let many = costs(store, MANY + 2);
    for ((what, few), (_, many)) in few.into_iter().zip(many) {
        // A few pages more: the trees of the database are deeper.
        let most = 2 * few + 64 * 1024;
        assert!(
            many <= most,
            "{what}: {few} bytes among few, {many} among many"
        );
    }
}

#[test]
fn what_failed_or_dead_pulls_leave_is_collected_without_a_look_at_everything() {
    let sandbox = Sandbox::new();
    let store = &sandbox.store;
    fill(store, 0..1);
    store.gc().unwrap();
    let known = sandbox.listing();
    let stray = sandbox.root().join("layers/777");
    std::fs::create_dir(&stray).unwrap();
    let lease = store.lease().unwrap();
    layer("added").add(store, &lease).unwrap();
    drop(lease);
    assert_ne!(store.gc().unwrap(), Usage::default());
    // Nobody walked over the directories, or it had found this one.
    assert!(stray.exists());
    std::fs::remove_dir(&stray).unwrap();
    assert_eq!(sandbox.listing(), known);
}
