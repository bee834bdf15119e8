//! Running out of memory.

use std::os::fd::AsFd;

use rustix::event::{PollFd, PollFlags, poll};

use super::*;

fn readable(watch: &OomWatch) -> bool {
    let mut fds = [PollFd::from_borrowed_fd(watch.as_fd(), PollFlags::IN)];
    let now = rustix::event::Timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    poll(&mut fds, Some(&now)).expect("poll") == 1
}

#[test]
fn a_process_killed_for_memory_is_told_from_one_killed_otherwise() {
    let scratch = Scratch::new();
    let memory = crate::spec::Memory {
        limit: Some(16 << 20),
        swap: Some(16 << 20),
        ..Default::default()
    };
    let cgroup = scratch.create(&Resources {
        memory: Some(memory),
        ..Default::default()
    });
    let watch = cgroup.oom_events().expect("watch");
    let innocent = Process::start(&cgroup, "kill -KILL $$");
    assert_eq!(innocent.end().0, -libc::SIGKILL);
    assert!(!watch.oom_killed() && !readable(&watch));
    let greedy = Process::start(&cgroup, "exec dd if=/dev/zero of=/dev/null bs=64M count=1");
    assert_eq!(greedy.end().0, -libc::SIGKILL);
    assert!(readable(&watch) && watch.oom_killed());
    watch.clear();
    assert!(!readable(&watch));
    assert_eq!(
        cgroup
            .stats()
            .expect("stats")
            .memory
            .expect("memory")
            .oom_kills,
        1
    );
    cgroup.delete().expect("delete");
    assert!(watch.oom_killed(), "the last answer outlives the cgroup");
}

#[test]
fn what_nobody_has_read_before_the_cgroup_went_is_counted_above_it() {
    let scratch = Scratch::new();
    let memory = crate::spec::Memory {
        limit: Some(16 << 20),
        swap: Some(16 << 20),
        ..Default::default()
    };
    let limits = Resources {
        memory: Some(memory),
        ..Default::default()
    };
    let below = Cgroup::create(&format!("{}/a", scratch.0), Some(&limits)).expect("create");
    let above = Cgroup::open(&scratch.0).expect("open");
    if above.oom_kills_below().is_none() {
        assert!(!is_unified(), "cgroup v2 counts");
        return;
    }
    let watch = below.oom_events().expect("watch");
    let greedy = Process::start(&below, "exec dd if=/dev/zero of=/dev/null bs=64M count=1");
    assert_eq!(greedy.end().0, -libc::SIGKILL);
    assert!(!watch.is_lost(), "it is there");
    below.delete().expect("delete");
    assert_eq!(watch.kills(), 0);
    assert!(watch.is_lost());
    assert_eq!(above.oom_kills_below(), Some(1));
}
