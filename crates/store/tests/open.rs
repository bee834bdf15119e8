//! Opening a store: also one that others open at the same time.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::sync::Barrier;

use store::Store;

#[test]
fn a_new_store_is_opened_by_all_who_come_first_at_the_same_time() {
    for _ in 0..20 {
        let dir = tempfile::tempdir().unwrap();
        let together = Barrier::new(8);
        std::thread::scope(|scope| {
            let opened: Vec<_> = (0..8)
                .map(|_| {
                    scope.spawn(|| {
                        together.wait();
                        Store::open(dir.path()).map(|store| store.images().unwrap().len())
                    })
                })
                .collect();
            for one in opened {
                assert_eq!(one.join().unwrap().unwrap(), 0);
            }
        });
    }
}
