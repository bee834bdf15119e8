//! Any bytes as a layer's archive; the last one says how it is compressed. Needs root, as the store does.
#![no_main]

#[path = "../../crates/store/tests/suite/common/mod.rs"]
mod common;

use std::sync::LazyLock;

use common::hostile::{Hostile, sum_up};

static HOSTILE: LazyLock<Hostile> = LazyLock::new(Hostile::new);

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let Some((how, archive)) = bytes.split_last() else {
        return;
    };
    let mut archive = archive.to_vec();
    sum_up(&mut archive);
    HOSTILE.unpack(&archive, usize::from(*how));
});
