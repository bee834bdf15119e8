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
    let cgroup = scratch.create(&small());
    let watch = cgroup.oom_events().expect("watch");
    let innocent = Process::start(&cgroup, "kill -KILL $$");
    assert_eq!(innocent.end().0, -libc::SIGKILL);
    assert!(!watch.oom_killed() && !readable(&watch));
    let greedy = Process::start(&cgroup, GREEDY);
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

fn small() -> Resources {
    let memory = crate::spec::Memory {
        limit: Some(16 << 20),
        swap: Some(16 << 20),
        ..Default::default()
    };
    Resources {
        memory: Some(memory),
        ..Default::default()
    }
}

/// Runs a script in a small cgroup until it is killed, and removes it before anybody has read a count.
fn killed_and_gone(scratch: &Scratch, script: &str, listens: bool) -> OomWatch {
    let below = Cgroup::create(&format!("{}/a", scratch.0), Some(&small())).expect("create");
    let watch = below.oom_events().expect("watch");
    let process = Process::start(&below, script);
    assert_eq!(process.end().0, -libc::SIGKILL);
    if listens {
        // inotify's word comes a while later.
        let waiting = std::time::Instant::now();
        while !watch.clear() && waiting.elapsed() < std::time::Duration::from_secs(2) {
            std::thread::sleep(std::time::Duration::from_millis(2));
        }
        assert_eq!(watch.unread(), Unread::Nothing, "it is there");
    }
    below.delete().expect("delete");
    assert_eq!(watch.kills(), 0);
    watch
}

const GREEDY: &str = "exec dd if=/dev/zero of=/dev/null bs=64M count=1";

#[test]
fn what_nobody_has_read_before_the_cgroup_went_is_counted_above_it() {
    let scratch = Scratch::new();
    let above = scratch.create(&Resources::default());
    let watch = killed_and_gone(&scratch, GREEDY, false);
    if above.oom_kills_below().is_none() {
        assert!(!is_unified(), "cgroup v2 counts");
        // Its eventfd says so; whether the removal is signalled already is another matter.
        assert_ne!(watch.unread(), Unread::Nothing);
        return;
    }
    assert_ne!(watch.unread(), Unread::Nothing);
    assert_eq!(above.oom_kills_below(), Some(1));
}

#[test]
fn memory_that_ran_out_while_somebody_listened_is_known_when_the_cgroup_went() {
    let scratch = Scratch::new();
    let watch = killed_and_gone(&scratch, GREEDY, true);
    assert_eq!(watch.unread(), Unread::Likely);
}

#[test]
fn a_cgroup_that_went_after_another_death_is_no_likely_want_of_memory() {
    let scratch = Scratch::new();
    let watch = killed_and_gone(&scratch, "kill -KILL $$", false);
    for _ in 0..50 {
        // Its removal is signalled on v1, a while later.
        assert_ne!(watch.unread(), Unread::Likely);
        std::thread::sleep(std::time::Duration::from_millis(2));
    }
}
