//! Several processes at once: nobody is told that the database is locked, nothing is lost, and a process
//! that is stopped holds others up no longer than the limit.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::io::{BufRead, BufReader, Read, Write};
use std::process::Stdio;
use std::time::Duration;

use crate::common::{Layer, Sandbox, Tar, child, expect_success, put, role};
use rustix::process::{Pid, Signal, kill_process};
use store::{Error, Limits, Store};

fn layer(name: &str) -> Layer {
    Layer::gzip(&Tar::new().file(name, vec![b'x'; 3000]).finish())
}

#[test]
fn a_process_that_is_stopped_with_a_lock_makes_others_fail_at_the_limit_and_not_hang() {
    const TEST: &str =
        "a_process_that_is_stopped_with_a_lock_makes_others_fail_at_the_limit_and_not_hang";
    if let Some((_, root)) = role() {
        let mut database = rusqlite::Connection::open(root.join("meta.sqlite")).unwrap();
        let keep = rusqlite::config::DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE;
        database.set_db_config(keep, true).unwrap();
        let immediate = rusqlite::TransactionBehavior::Immediate;
        let _tx = database.transaction_with_behavior(immediate).unwrap();
        println!("holds");
        std::io::stdout().flush().unwrap();
        let _ = std::io::stdin().read(&mut [0]);
        return;
    }
    let sandbox = Sandbox::new();
    let record = put(&sandbox.store, &[layer("x")], &["example.com/x:1"], "x");
    sandbox.store.settle().unwrap();
    let mut holder = child(TEST, "hold", sandbox.root())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(holder.stdout.take().unwrap()).lines();
    assert!(lines.any(|line| line.unwrap().contains("holds")));
    let pid = Pid::from_child(&holder);
    kill_process(pid, Signal::STOP).unwrap();
    let limits = Limits {
        lock_wait: Duration::from_millis(300),
        ..Limits::default()
    };
    let store = Store::open_with(sandbox.root(), limits).unwrap();
    assert_eq!(store.images().unwrap(), std::slice::from_ref(&record));
    for error in [
        store.tag(&record.id, "example.com/y:1").unwrap_err(),
        store.lease().map(drop).unwrap_err(),
        store.remove(&record.id).map(drop).unwrap_err(),
        store.gc().map(drop).unwrap_err(),
    ] {
        assert!(
            matches!(error, Error::Busy { .. }) && error.is_busy(),
            "{error}"
        );
        assert!(
            error
                .to_string()
                .contains("another process has had it locked"),
            "{error}"
        );
    }
    kill_process(pid, Signal::CONT).unwrap();
    holder.kill().unwrap();
    holder.wait().unwrap();
    store.tag(&record.id, "example.com/y:1").unwrap();
}

#[test]
fn a_held_lock_of_the_index_is_waited_for_no_longer_than_the_limit() {
    let sandbox = Sandbox::new();
    let limits = Limits {
        lock_wait: Duration::from_millis(200),
        ..Limits::default()
    };
    let store = Store::open_with(sandbox.root(), limits).unwrap();
    let lock = std::fs::File::open(sandbox.root().join("index.lock")).unwrap();
    rustix::fs::flock(&lock, rustix::fs::FlockOperation::LockExclusive).unwrap();
    put(&store, &[layer("x")], &["example.com/x:1"], "x");
    let error = store.settle().unwrap_err();
    assert!(error.is_busy(), "{error}");
    drop(lock);
    store.settle().unwrap();
}

#[test]
fn processes_that_add_name_and_remove_the_same_images_all_succeed_and_lose_nothing() {
    const TEST: &str =
        "processes_that_add_name_and_remove_the_same_images_all_succeed_and_lose_nothing";
    if let Some((role, root)) = role() {
        let store = Store::open(&root).unwrap();
        for round in 0..25 {
            // Some layers are everybody's, one is of this process alone.
            let layers = [
                layer("all"),
                layer(&format!("round {}", round % 3)),
                layer(&role),
            ];
            let names = [
                format!("example.com/{role}:{round}"),
                format!("example.com/shared:{}", round % 2),
            ];
            let names: Vec<&str> = names.iter().map(String::as_str).collect();
            let lease = store.lease().unwrap();
            for layer in &layers {
                layer.add(&store, &lease).unwrap();
            }
            let image = crate::common::describe(&layers, &names, &format!("{}", round % 4));
            let record = store.put_image(&lease, image).unwrap();
            drop(lease);
            if round % 2 == 0 {
                store.untag(names[0]).unwrap();
            }
            if round % 3 == 0 {
                store.remove(&record.id).unwrap();
            }
            store.gc().unwrap();
        }
        put(
            &store,
            &[layer("all"), layer("kept")],
            &[&format!("example.com/kept:{role}")],
            &role,
        );
        return;
    }
    let sandbox = Sandbox::new();
    let roles: Vec<String> = (0..8).map(|n| format!("p{n}")).collect();
    std::thread::scope(|scope| {
        for role in &roles {
            let root = sandbox.root();
            scope.spawn(move || expect_success(&mut child(TEST, role, root)));
        }
    });
    for role in &roles {
        let name = format!("example.com/kept:{role}");
        let record = sandbox.store.find(&name).unwrap().unwrap();
        assert!(
            sandbox
                .store
                .read_file(&record, "kept", 9000)
                .unwrap()
                .is_some()
        );
    }
    sandbox.store.gc().unwrap();
    let report = sandbox.store.check(store::Check::default()).unwrap();
    assert!(report.findings.is_empty(), "{:?}", report.findings);
}
