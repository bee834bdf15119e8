//! Who is asked what, and in which order.

use nri::api::{
    ContainerAdjustment, ContainerEviction, ContainerRequest, ContainerUpdate,
    CreateContainerResponse, KeyValue, PodRequest, StateChangeEvent, StopContainerResponse,
    SynchronizeRequest, UpdateContainersRequest, ValidateContainerAdjustmentRequest,
    ValidateContainerAdjustmentResponse,
};
use nri::{Event, Validator};
use testkit::nri::{Answer, Call};

use crate::{Node, World, container, pod};

fn quiet() -> Box<testkit::nri::Answers> {
    Box::new(|_: &Call| None)
}

fn env(key: &str, value: &str) -> Answer {
    Answer::of(&CreateContainerResponse {
        adjust: Some(ContainerAdjustment {
            env: vec![KeyValue {
                key: key.to_owned(),
                value: value.to_owned(),
            }],
            ..ContainerAdjustment::default()
        }),
        ..CreateContainerResponse::default()
    })
}

/// Answers one method.
fn only(method: &'static str, answer: Answer) -> Box<testkit::nri::Answers> {
    Box::new(move |call: &Call| (call.method == method).then(|| answer.clone()))
}

#[test]
fn nobody_is_asked_where_nobody_is() {
    let world = World::new();
    assert!(!world.nri.is_used() && !world.nri.wants(Event::RunPodSandbox));
    let plugin = world.plugin(("10", "a", Event::RunPodSandbox.bit()), quiet());
    assert!(world.nri.wants(Event::RunPodSandbox) && !world.nri.wants(Event::StopContainer));
    world.nri.run_pod(pod("p")).unwrap();
    world.nri.stop_pod(pod("p")).unwrap();
    assert_eq!(
        plugin.methods(),
        ["Configure", "Synchronize", "RunPodSandbox"]
    );
    let said: PodRequest = plugin.calls()[2].message();
    assert_eq!(said.pod.unwrap().id, "p");
    drop(plugin);
    while world.nri.is_used() {
        std::thread::yield_now();
    }
}

#[test]
fn a_plugin_that_comes_is_told_what_there_is_and_what_it_wants_changed_is() {
    let node = Node {
        pods: vec![pod("p")],
        ..Node::default()
    };
    let large = nri::api::Container {
        args: vec!["x".repeat(3 << 20)],
        ..container("large")
    };
    *node.containers.lock().unwrap() = vec![container("c"), large.clone(), large];
    let world = World::with(node, |_| ());
    let plugin = world.plugin(("10", "a", 0), quiet());
    let calls = plugin.calls();
    let parts: Vec<SynchronizeRequest> = calls[1..].iter().map(Call::message).collect();
    assert_eq!(
        parts.iter().map(|part| part.more).collect::<Vec<_>>(),
        [true, false]
    );
    assert_eq!((parts[0].pods.len(), parts[0].containers.len()), (1, 2));
    // It hears of the end of what it was told of, and of nothing else.
    world.nri.container_stopped(pod("p"), container("c"));
    world.nri.container_stopped(pod("p"), container("c"));
    world.nri.remove_container(pod("p"), container("c"));
    world.nri.remove_container(pod("p"), container("other"));
    assert_eq!(plugin.methods()[3..], ["StopContainer", "RemoveContainer"]);
}

#[test]
fn each_plugin_sees_what_those_before_it_have_made_of_the_container() {
    let world = World::new();
    let second = world.plugin(("20", "b", 0), only("CreateContainer", env("B", "2")));
    let first = world.plugin(("10", "a", 0), only("CreateContainer", env("A", "1")));
    let created = world
        .nri
        .create_container(pod("p"), container("c"))
        .unwrap();
    let names: Vec<_> = created
        .adjust
        .env
        .iter()
        .map(|one| one.key.as_str())
        .collect();
    assert_eq!(names, ["A", "B"]);
    let seen = |plugin: &testkit::nri::Plugin| {
        let call = plugin.wait("CreateContainer").unwrap();
        call.message::<ContainerRequest>().container.unwrap().env
    };
    assert_eq!(seen(&first), [""; 0]);
    assert_eq!(seen(&second), ["A=1"]);
}

#[test]
fn a_refusal_is_the_callers_and_takes_back_what_was_told() {
    let world = World::new();
    let first = world.plugin(("10", "a", 0), quiet());
    let refusal = Answer::Refusal(2, "not today".to_owned());
    let second = world.plugin(("20", "b", 0), only("RunPodSandbox", refusal.clone()));
    let error = world.nri.run_pod(pod("p")).unwrap_err().to_string();
    assert_eq!(error, "NRI plugin 20-b refuses RunPodSandbox: not today");
    let told = ["RunPodSandbox", "StopPodSandbox", "RemovePodSandbox"];
    assert_eq!(first.methods()[2..], told);
    drop(second);
    let third = world.plugin(("30", "c", 0), only("CreateContainer", refusal));
    assert!(
        world
            .nri
            .create_container(pod("p"), container("c"))
            .is_err()
    );
    let told = ["CreateContainer", "StopContainer", "RemoveContainer"];
    assert_eq!(first.methods()[5..], told);
    assert_eq!(third.methods()[2..], told);
}

#[test]
fn two_that_want_different_things_make_no_container() {
    let world = World::new();
    let _a = world.plugin(("10", "a", 0), only("CreateContainer", env("A", "1")));
    let _b = world.plugin(("20", "b", 0), only("CreateContainer", env("A", "2")));
    let error = world
        .nri
        .create_container(pod("p"), container("c"))
        .unwrap_err();
    assert_eq!(
        error.to_string(),
        "NRI plugins 20-b and 10-a both set Env \"A\""
    );
}

#[test]
fn validators_see_who_wants_what_and_can_reject_it() {
    let world = World::new();
    let _a = world.plugin(("10", "a", 0), only("CreateContainer", env("A", "1")));
    let reject = ValidateContainerAdjustmentResponse {
        reject: true,
        reason: "no A".to_owned(),
    };
    let event = Event::ValidateContainerAdjustment;
    let answers = only(event.method(), Answer::of(&reject));
    let validator = world.plugin(("90", "v", event.bit()), answers);
    let error = world
        .nri
        .create_container(pod("p"), container("c"))
        .unwrap_err();
    assert_eq!(
        error.to_string(),
        "NRI validator 90-v rejects the container: no A"
    );
    let call = validator.wait(event.method()).unwrap();
    let asked: ValidateContainerAdjustmentRequest = call.message();
    let owners = &asked.owners.unwrap().owners["c"].compound[&6].owners;
    assert_eq!(owners["A"], "10-a");
    assert_eq!(asked.plugins.len(), 2);
    assert!(asked.container.unwrap().env.is_empty());
}

#[test]
fn the_built_in_validator_holds_without_any_plugin() {
    let world = World::with(Node::default(), |settings| {
        settings.validator = Some(Validator {
            required_plugins: vec!["a".to_owned()],
            ..Validator::default()
        });
    });
    assert!(world.nri.wants(Event::CreateContainer));
    let error = world
        .nri
        .create_container(pod("p"), container("c"))
        .unwrap_err();
    assert!(
        error
            .to_string()
            .contains("required plugins are not here: a")
    );
    let _a = world.plugin(("10", "a", 0), quiet());
    world
        .nri
        .create_container(pod("p"), container("c"))
        .unwrap();
}

#[test]
fn plugins_of_before_are_told_in_their_way() {
    let world = World::new();
    let old = |call: &Call| {
        let known = ["Configure", "Synchronize", "StateChange", "CreateContainer"];
        let unknown = || Answer::Refusal(12, "no such method".to_owned());
        (!known.contains(&call.method.as_str())).then(unknown)
    };
    let events = Event::RunPodSandbox.bit() | Event::StartContainer.bit();
    let plugin = world.plugin(("10", "old", events), Box::new(old));
    world.nri.run_pod(pod("p")).unwrap();
    world.nri.start_container(pod("p"), container("c")).unwrap();
    let calls = plugin.calls();
    let told: Vec<StateChangeEvent> = calls[3..].iter().map(Call::message).collect();
    let events: Vec<i32> = told.iter().map(|said| said.event).collect();
    assert_eq!(
        events,
        [Event::RunPodSandbox as i32, Event::StartContainer as i32]
    );
    assert_eq!(told[1].container.as_ref().unwrap().id, "c");
}

#[test]
fn a_plugin_can_ask_for_other_limits_and_evictions_at_any_time() {
    let world = World::new();
    let mut plugin = world.plugin(("10", "a", 0), quiet());
    let update = |id: &str, ignore_failure| ContainerUpdate {
        container_id: id.to_owned(),
        linux: None,
        ignore_failure,
    };
    let wish = UpdateContainersRequest {
        update: vec![
            update("c", false),
            update("refuses", false),
            update("refuses", true),
        ],
        evict: vec![ContainerEviction {
            container_id: "d".to_owned(),
            reason: "too loud".to_owned(),
        }],
    };
    let failed = plugin.update(&wish).unwrap().failed;
    assert_eq!(failed, [update("refuses", false)]);
    assert_eq!(*world.node.updated.lock().unwrap(), [update("c", false)]);
    assert_eq!(*world.node.evicted.lock().unwrap(), ["d"]);
    // As with the end of another.
    let answer = StopContainerResponse {
        update: vec![update("e", false)],
    };
    let _other = world.plugin(("20", "b", 0), only("StopContainer", Answer::of(&answer)));
    world
        .nri
        .create_container(pod("p"), container("c"))
        .unwrap();
    world.nri.container_stopped(pod("p"), container("c"));
    let ids: Vec<String> = (world.node.updated.lock().unwrap().iter())
        .map(|update| update.container_id.clone())
        .collect();
    assert_eq!(ids, ["c", "e"]);
}

#[test]
fn the_end_is_told() {
    let world = World::new();
    let plugin = world.plugin(("10", "a", 0), quiet());
    world.nri.end();
    plugin.wait("Shutdown").unwrap();
    plugin.wait_for_end().unwrap();
    assert!(!world.socket.exists());
}
