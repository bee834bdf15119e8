//! What subscribers are told: each change once and in order, what was missed, and the present state;
//! and that one who does not read holds nobody up.

use std::time::Duration;

use crate::support::{Pod, code, eventually};
use serde_json::json;
use supervisor::{Error, Event, Happening, News, Present, Status, Subscription};

const LONG: Duration = Duration::from_secs(30);

fn present(subscription: &mut Subscription) -> Present {
    match subscription.next(LONG).unwrap().unwrap() {
        News::Present(present) => present,
        News::Event(event) => panic!("{event:?}"),
    }
}

fn event(subscription: &mut Subscription) -> Event {
    match subscription.next(LONG).unwrap().unwrap() {
        News::Event(event) => event,
        News::Present(present) => panic!("{present:?}"),
    }
}

#[test]
fn each_step_of_a_life_is_told_once_in_order_and_after_it_is_on_disk() {
    needs_host!();
    let pod = Pod::new();
    let mut subscription = pod.client().subscribe(None).unwrap();
    assert_eq!(present(&mut subscription), Present::default());
    let container = pod.container("c", "while ! test -e /tmp/go; do sleep 0.01; done; exit 7");
    container.create(&pod);
    let created = event(&mut subscription);
    assert_eq!((created.seq, created.what), (1, Happening::Created));
    assert_eq!(created.container.unwrap(), container.state());
    pod.client().start("c").unwrap();
    let started = event(&mut subscription);
    assert_eq!((started.seq, started.what), (2, Happening::Started));
    assert_eq!(started.container.unwrap(), container.state());
    pod.client().pause("c").unwrap();
    assert_eq!(event(&mut subscription).what, Happening::Paused);
    pod.client().resume("c").unwrap();
    assert_eq!(event(&mut subscription).what, Happening::Resumed);
    std::fs::write(pod.dir().join("rootfs/tmp/go"), "").unwrap();
    let exited = event(&mut subscription);
    assert_eq!((exited.seq, exited.what), (5, Happening::Exited));
    let state = exited.container.unwrap();
    assert_eq!(code(&state), 7);
    assert_eq!(state, container.state());
    pod.client().delete("c", false).unwrap();
    assert_eq!(event(&mut subscription).what, Happening::Deleted);
    pod.client().shutdown().unwrap();
    let ending = event(&mut subscription);
    assert_eq!((ending.seq, ending.what), (7, Happening::PodEnding));
    assert_eq!(ending.container, None);
    let end = subscription.next(LONG).unwrap_err();
    assert!(matches!(end, Error::Gone { .. }), "{end:?}");
}

#[test]
fn who_comes_back_is_told_what_it_missed() {
    needs_host!();
    let pod = Pod::new();
    let mut first = pod.client().subscribe(None).unwrap();
    assert_eq!(present(&mut first).seq, 0);
    drop(first);
    pod.run("c", "exit 3");
    let mut again = pod.client().subscribe(Some(0)).unwrap();
    let now = present(&mut again);
    assert_eq!((now.seq, now.gap, now.containers.len()), (3, false, 1));
    assert_eq!(code(&now.containers[0]), 3);
    let missed: Vec<Happening> = (0..3).map(|_| event(&mut again).what).collect();
    assert_eq!(
        missed,
        [Happening::Created, Happening::Started, Happening::Exited]
    );
    let mut later = pod.client().subscribe(Some(2)).unwrap();
    assert!(!present(&mut later).gap);
    assert_eq!(event(&mut later).seq, 3);
    assert_eq!(later.next(Duration::from_millis(50)).unwrap(), None);
}

/// Changes the state of a running container so often that its first events are not kept.
fn many_changes(pod: &Pod) {
    let mut client = pod.client();
    for _ in 0..100 {
        client.pause("c").unwrap();
        client.resume("c").unwrap();
    }
}

#[test]
fn events_that_are_not_kept_any_more_are_a_gap_with_the_present_state() {
    needs_host!();
    let pod = Pod::new();
    pod.running("c", "sleep 1000");
    many_changes(&pod);
    let mut subscription = pod.client().subscribe(Some(1)).unwrap();
    let now = present(&mut subscription);
    assert_eq!((now.seq, now.gap), (202, true));
    assert!(matches!(now.containers[0].status, Status::Running { .. }));
    // Those that are kept come all the same, in order and without a hole.
    let first = event(&mut subscription).seq;
    assert!((3..202).contains(&first), "{first}");
    for seq in first + 1..=202 {
        assert_eq!(event(&mut subscription).seq, seq);
    }
    pod.client().pause("c").unwrap();
    assert_eq!(event(&mut subscription).seq, 203);
}

#[test]
fn a_subscriber_who_reads_nothing_holds_nobody_up_and_learns_that_it_missed_some() {
    needs_host!();
    let pod = Pod::new();
    pod.running("c", "sleep 1000");
    let mut slow = pod.client().subscribe(None).unwrap();
    assert_eq!(present(&mut slow).seq, 2);
    // More than the socket holds.
    for _ in 0..3 {
        many_changes(&pod);
    }
    let (mut last, mut missed) = (2, 0);
    while last < 602 {
        match slow.next(LONG).unwrap().unwrap() {
            News::Event(event) => {
                assert_eq!(event.seq, last + 1, "a hole that was not told");
                last = event.seq;
            }
            News::Present(present) => {
                assert!(present.gap && present.seq > last);
                missed += present.seq - last;
                last = present.seq;
            }
        }
    }
    assert!(missed > 0, "all of it fitted into the socket");
}

#[test]
fn subscribers_are_few_and_leave_their_place() {
    needs_host!();
    let pod = Pod::new();
    let mut all: Vec<Subscription> = (0..16)
        .map(|_| pod.client().subscribe(None).unwrap())
        .collect();
    for one in &mut all {
        present(one);
    }
    let refused = pod.client().subscribe(None).unwrap().next(LONG);
    assert!(refused.unwrap_err().to_string().contains("16 clients"));
    drop(all.pop());
    eventually("a place for another", || {
        let mut one = pod.client().subscribe(None).unwrap();
        one.next(LONG).is_ok()
    });
}

#[test]
fn an_oom_kill_is_told_while_the_container_lives() {
    needs_host!();
    if !oom_can_be_watched() {
        eprintln!("SKIP: no memory controller");
        return;
    }
    let pod = Pod::new();
    let mut subscription = pod.client().subscribe(None).unwrap();
    present(&mut subscription);
    let script = "tail /dev/zero; while :; do sleep 1; done";
    let mut container = pod.container("c", script);
    container.config["linux"]["resources"] = json!({"memory": {"limit": 16 << 20}});
    container.create(&pod);
    pod.client().start("c").unwrap();
    let told: Vec<Happening> = (0..3).map(|_| event(&mut subscription).what).collect();
    assert_eq!(
        told,
        [
            Happening::Created,
            Happening::Started,
            Happening::OutOfMemory
        ]
    );
    assert!(matches!(container.state().status, Status::Running { .. }));
    // Told once.
    pod.client().stop("c", libc::SIGKILL, LONG).unwrap();
    assert_eq!(event(&mut subscription).what, Happening::Exited);
}

fn oom_can_be_watched() -> bool {
    let name = format!("floe-sv-oom-{}", std::process::id());
    let Ok(cgroup) = runtime::cgroup::Cgroup::create(&name, None) else {
        return false;
    };
    let can = cgroup.oom_events().is_ok();
    cgroup.delete().unwrap();
    can
}
