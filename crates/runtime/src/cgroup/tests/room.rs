//! Room for a lower limit of memory.

use std::io::Read;
use std::time::Duration;

use super::fake::Fake;
use super::*;

const WITHIN: Duration = Duration::from_secs(10);

fn in_use(outcome: Result<(), Error>) -> u64 {
    match outcome {
        Err(Error::MemoryInUse { usage, .. }) => usage,
        other => panic!("{other:?}"),
    }
}

#[test]
fn v2_is_asked_for_what_is_too_much_and_for_nothing_else() {
    let fake = Fake::v2(&[("memory.current", "10000000\n"), ("memory.reclaim", "")]);
    fake.cgroup.make_room(10_000_000, WITHIN).expect("fits");
    assert_eq!(fake.read("memory.reclaim"), "");
    // This one gives nothing back.
    let usage = in_use(fake.cgroup.make_room(4_000_000, WITHIN));
    assert_eq!(usage, 10_000_000);
    assert_eq!(fake.read("memory.reclaim"), "6000000");
    let old = Fake::v2(&[("memory.current", "10000000\n")]);
    assert_eq!(in_use(old.cgroup.make_room(1, WITHIN)), 10_000_000);
}

#[test]
fn what_a_process_needs_stays_and_is_told_and_its_page_cache_goes() {
    let scratch = Scratch::new();
    let cgroup = scratch.create(&Resources::default());
    let file = std::env::temp_dir().join(format!("{}.cache", scratch.0));
    let script = format!(
        "dd if=/dev/zero of={0} bs=1M count=32; sync {0}; \
         x=$(dd if=/dev/zero bs=1M count=8 | tr '\\0' x); echo; read line",
        file.display()
    );
    let mut process = Process::start(&cgroup, &script);
    let stdout = process.0.stdout.as_mut().expect("stdout");
    stdout.read_exact(&mut [0]).expect("ready");
    let used = in_use(cgroup.make_room(1 << 20, WITHIN));
    assert!(used > 8 << 20, "{used}");
    assert!(process.0.try_wait().expect("wait").is_none());
    cgroup.make_room(1 << 40, WITHIN).expect("fits");
    // Not where files are in memory, as in the virtual machine.
    if on_v1(&[Controller::Memory]) {
        assert!(used < 32 << 20, "{used}");
    }
    std::fs::remove_file(file).expect("remove");
}
