//! Plugins that hang, lie, flood or break the protocol: each costs itself its connection and others nothing.

use std::io::Write;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use nri::api::{RegisterPluginRequest, SynchronizeResponse, UpdateContainersRequest};
use testkit::nri::{Answer, Call, Plugin};

use crate::{Node, World, container, pod};

/// Answers as plugins do that want nothing, but one method with that.
fn but(method: &'static str, answer: Answer) -> Box<testkit::nri::Answers> {
    Box::new(move |call: &Call| (call.method == method).then(|| answer.clone()))
}

fn short() -> World {
    World::with(Node::default(), |settings| {
        settings.request_timeout = Duration::from_millis(300);
        settings.registration_timeout = Duration::from_millis(300);
    })
}

#[test]
fn one_that_hangs_is_hung_up_on_and_not_asked_again() {
    let world = short();
    let hangs = world.plugin(("10", "a", 0), but("RunPodSandbox", Answer::Silence));
    let well = world.plugin(("20", "b", 0), but("", Answer::nothing()));
    world.nri.run_pod(pod("p")).unwrap();
    hangs.wait_for_end().unwrap();
    world.nri.run_pod(pod("q")).unwrap();
    assert_eq!(hangs.methods()[2..], ["RunPodSandbox"]);
    assert_eq!(well.methods()[2..], ["RunPodSandbox", "RunPodSandbox"]);
}

#[test]
fn one_that_breaks_the_protocol_is_hung_up_on() {
    let world = World::new();
    // A piece, a frame and a message that are too long, a kind that nobody asked for, garbage.
    let frame = |length: u32, kind: u8| {
        let header = [&length.to_be_bytes()[..], &[0, 0, 0, 5, kind, 0]].concat();
        [&[0, 0, 0, 1, 0, 0, 0, 10][..], &header].concat()
    };
    let of_garbage = [
        &[0, 0, 0, 1, 0, 0, 0, 13][..],
        &[0, 0, 0, 3, 0, 0, 0, 5, 2, 0, 0xff, 0xff, 0xff],
    ]
    .concat();
    let all = [
        [0, 0, 0, 1, 0xff, 0, 0, 0].to_vec(),
        frame(u32::MAX, 2),
        frame((1 << 20) + 1, 2),
        frame(0, 1),
        frame(0, 9),
        of_garbage,
    ];
    for bytes in all {
        let words = format!("{bytes:?}");
        let bad = world.plugin(("10", "a", 0), but("RunPodSandbox", Answer::Bytes(bytes)));
        world.nri.run_pod(pod("p")).unwrap();
        assert!(bad.wait_for_end().is_ok(), "{words}");
    }
    // A message that is none, in a frame that is one.
    let bad = Answer::Message(vec![0xff; 100]);
    let bad = world.plugin(("10", "a", 0), but("CreateContainer", bad));
    world
        .nri
        .create_container(pod("p"), container("c"))
        .unwrap();
    bad.wait_for_end().unwrap();
}

#[test]
fn a_message_in_a_message_without_end_is_no_message() {
    let world = World::new();
    // Each level is its own tag and length; the deepest is a field that nobody knows, as groups.
    let nested = vec![0x7b; 500_000];
    let bad = world.plugin(
        ("10", "a", 0),
        but("CreateContainer", Answer::Message(nested)),
    );
    world
        .nri
        .create_container(pod("p"), container("c"))
        .unwrap();
    bad.wait_for_end().unwrap();
}

#[test]
fn who_does_not_register_keeps_nobody_out() {
    let world = short();
    let silent: Vec<UnixStream> = (0..8)
        .map(|_| UnixStream::connect(&world.socket).unwrap())
        .collect();
    let well = world.plugin(("20", "b", 0), but("", Answer::nothing()));
    world.nri.run_pod(pod("p")).unwrap();
    assert_eq!(well.methods()[2..], ["RunPodSandbox"]);
    drop(silent);
}

#[test]
fn a_name_that_is_none_is_refused() {
    let world = World::new();
    for (index, name) in [("1", "a"), ("10", ""), ("10", "../x")] {
        let plugin = Plugin::connect(&world.socket, (index, name, 0), but("", Answer::nothing()));
        let answer = plugin.unwrap().answer().unwrap();
        assert_eq!(answer.status.unwrap().code, 3, "{index} {name}");
    }
}

#[test]
fn what_cannot_be_subscribed_to_is_refused() {
    let world = World::new();
    let of = ("10", "a", 1 << 20);
    let plugin = Plugin::connect(&world.socket, of, but("", Answer::nothing())).unwrap();
    plugin.wait_for_end().unwrap();
    assert_eq!(plugin.methods(), ["Configure"]);
}

#[test]
fn one_that_cannot_be_told_in_parts_does_not_join() {
    let node = Node::default();
    let large = nri::api::Container {
        args: vec!["x".repeat(3 << 20)],
        ..container("large")
    };
    *node.containers.lock().unwrap() = vec![large.clone(), large];
    let world = World::with(node, |_| ());
    let never = Answer::of(&SynchronizeResponse::default());
    let of = ("10", "a", 0);
    let plugin = Plugin::connect(&world.socket, of, but("Synchronize", never)).unwrap();
    plugin.wait_for_end().unwrap();
    assert!(!world.nri.is_used());
}

#[test]
fn one_that_floods_is_refused_what_is_too_much_and_keeps_its_place() {
    let world = World::new();
    let mut plugin = world.plugin(("10", "a", 0), but("", Answer::nothing()));
    plugin.answer().unwrap();
    for _ in 0..2000 {
        plugin
            .ask("UpdateContainers", &UpdateContainersRequest::default())
            .unwrap();
    }
    let codes = (0..2000).map(|_| {
        plugin
            .answer()
            .unwrap()
            .status
            .map_or(0, |status| status.code)
    });
    assert!(codes.into_iter().all(|code| [0, 8].contains(&code)));
    plugin
        .ask("RegisterPlugin", &RegisterPluginRequest::default())
        .unwrap();
    assert_eq!(plugin.answer().unwrap().status.unwrap().code, 3);
    plugin
        .ask("NoSuch", &UpdateContainersRequest::default())
        .unwrap();
    assert_eq!(plugin.answer().unwrap().status.unwrap().code, 12);
    world.nri.run_pod(pod("p")).unwrap();
    plugin.wait("RunPodSandbox").unwrap();
}

#[test]
fn one_that_does_not_read_is_hung_up_on() {
    let world = short();
    let mut socket = UnixStream::connect(&world.socket).unwrap();
    let register = RegisterPluginRequest {
        plugin_name: "a".to_owned(),
        plugin_idx: "10".to_owned(),
        nri_version: String::new(),
    };
    // Each question has an answer, which nobody takes.
    let frames = testkit::nri::question("RegisterPlugin", &register);
    let until = std::iter::repeat_with(|| socket.write_all(&frames)).find(Result::is_err);
    assert!(until.is_some());
    assert!(!world.nri.is_used());
}

#[test]
fn what_is_made_while_a_plugin_joins_is_not_missed_by_it() {
    let world = Arc::new(World::new());
    let in_flight = world.nri.begin();
    let joined = Arc::new(AtomicBool::new(false));
    let (other, flag) = (Arc::clone(&world), Arc::clone(&joined));
    let joining = std::thread::spawn(move || {
        let plugin = other.plugin(("10", "a", 0), but("", Answer::nothing()));
        flag.store(true, Ordering::Release);
        plugin
    });
    // It is made: only then does the plugin hear what there is.
    world.node.containers.lock().unwrap().push(container("c"));
    assert!(!joined.load(Ordering::Acquire));
    drop(in_flight);
    let plugin = joining.join().unwrap();
    let call = plugin.wait("Synchronize").unwrap();
    let told: nri::api::SynchronizeRequest = call.message();
    assert_eq!(told.containers.len(), 1);
}
