//! GetContainerEvents: every step, once, to everybody who is connected, with the statuses that kubelet's
//! evented PLEG takes over; and nobody waits for a slow client.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::time::Duration;

use crate::common::{World, world, world_with};
use cri::ContainerEventType::{
    ContainerCreatedEvent as Created, ContainerDeletedEvent as Deleted,
    ContainerStartedEvent as Started, ContainerStoppedEvent as Stopped,
};
use tonic::{Code, Status, Streaming};

type Events = Streaming<cri::ContainerEventResponse>;

async fn connect(world: &World) -> Result<Events, Status> {
    let request = cri::GetEventsRequest {};
    let answer = world.runtime().get_container_events(request).await?;
    Ok(answer.into_inner())
}

async fn next(events: &mut Events) -> Result<cri::ContainerEventResponse, Status> {
    let limit = Duration::from_secs(60);
    let told = tokio::time::timeout(limit, events.message()).await;
    let told = told.expect("no event came")?;
    Ok(told.expect("the stream has ended"))
}

/// What is told next, as kind and id.
async fn step(events: &mut Events) -> (cri::ContainerEventType, String) {
    let event = next(events).await.unwrap();
    (event.container_event_type(), event.container_id)
}

/// A container that never ran was created and deleted, and nothing else but perhaps seen ended.
async fn passing(events: &mut Events, id: &str) {
    assert_eq!(step(events).await, (Created, id.to_owned()));
    passed(events, id).await;
}

async fn passed(events: &mut Events, id: &str) {
    let mut told = step(events).await;
    if told.0 == Stopped {
        assert_eq!(told.1, id);
        told = step(events).await;
    }
    assert_eq!(told, (Deleted, id.to_owned()));
}

fn now() -> i64 {
    let now = std::time::SystemTime::now();
    let since = now.duration_since(std::time::UNIX_EPOCH).unwrap();
    i64::try_from(since.as_nanos()).unwrap()
}

#[test]
fn each_step_comes_once_and_in_order_with_the_statuses_of_its_moment() {
    world(async |world: &mut World| {
        let mut events = connect(world).await.unwrap();
        let begun = now();
        let pod = world.pod("a").await;
        let id = world.run(&pod, world.script("c", "exit 7")).await;
        world.ended(&id).await;
        world.remove(&id).await.unwrap();
        let slow = world.run(&pod, world.script("d", "sleep 1000")).await;
        world.stop_pod(&pod).await.unwrap();
        world.remove_pod(&pod).await.unwrap();
        let expected = [
            (Created, pod.as_str()),
            (Started, &pod),
            (Created, &id),
            (Started, &id),
            (Stopped, &id),
            (Deleted, &id),
            (Created, &slow),
            (Started, &slow),
            (Stopped, &slow),
            (Stopped, &pod),
            (Deleted, &slow),
            (Deleted, &pod),
        ];
        let mut before = begun;
        for (kind, of) in expected {
            let event = next(&mut events).await.unwrap();
            assert_eq!(
                (event.container_event_type(), event.container_id.as_str()),
                (kind, of)
            );
            assert!(event.created_at >= before, "{event:?}");
            before = event.created_at;
            let seen = event.pod_sandbox_status.unwrap();
            assert_eq!(
                (seen.id.as_str(), pod.as_str()),
                (&*pod.id, seen.id.as_str())
            );
            assert_eq!(seen.metadata.unwrap().uid, "uid-of-a");
            let container = event.containers_statuses.iter().find(|one| one.id == of);
            match (kind, of == pod.as_str()) {
                (Created | Started | Stopped, false) => {
                    let status = container.unwrap();
                    assert_eq!(status.image_id, world.image_id);
                    if kind == Stopped && of == id {
                        assert_eq!(status.state(), cri::ContainerState::ContainerExited);
                        assert_eq!(status.exit_code, 7);
                    }
                }
                (Deleted, false) => assert!(container.is_none()),
                (Stopped | Deleted, true) => {
                    let state = cri::PodSandboxState::SandboxNotready;
                    assert_eq!(cri::PodSandboxState::try_from(seen.state), Ok(state));
                }
                (Created | Started, true) => assert!(!seen.network.unwrap().ip.is_empty()),
            }
        }
        assert!(before <= now());
    });
}

#[test]
fn a_pod_that_is_removed_while_all_runs_has_ended_before() {
    world(async |world: &mut World| {
        let pod = world.pod("a").await;
        let id = world.run(&pod, world.script("c", "sleep 1000")).await;
        let mut events = connect(world).await.unwrap();
        world.remove_pod(&pod).await.unwrap();
        let mut told = Vec::new();
        while told.last() != Some(&(Deleted, pod.id.clone())) {
            told.push(step(&mut events).await);
        }
        for of in [&id, &pod.id] {
            let steps = told.iter().filter(|(_, whose)| whose == of);
            let kinds: Vec<_> = steps.map(|(kind, _)| *kind).collect();
            assert_eq!(kinds, [Stopped, Deleted], "{told:?}");
        }
    });
}

#[test]
fn every_client_gets_every_event_and_those_of_people_are_not_among_them() {
    world(async |world: &mut World| {
        let mut all = Vec::new();
        for _ in 0..5 {
            all.push(connect(world).await.unwrap());
        }
        let image = world.image.clone();
        let words = ["run", "--rm", "--network", "none", &image, "true"];
        let ran = world.node.floe(&words).unwrap().output().unwrap();
        assert!(ran.status.success(), "{ran:?}");
        let pod = world.pod("a").await;
        let mut ids = Vec::new();
        for number in 0..10 {
            let config = world.config(&format!("c{number}"), &["true"]);
            ids.push(world.create(&pod, config).await.unwrap());
            world.remove(&ids[number]).await.unwrap();
        }
        for events in &mut all {
            assert_eq!(step(events).await, (Created, pod.id.clone()));
            assert_eq!(step(events).await, (Started, pod.id.clone()));
            for id in &ids {
                passing(events, id).await;
            }
        }
    });
}

#[test]
fn a_client_that_reads_nothing_holds_up_nobody_and_is_told_to_list() {
    world(async |world: &mut World| {
        let mut deaf = connect(world).await.unwrap();
        let mut quick = connect(world).await.unwrap();
        let pod = world.pod("a").await;
        let mut told = 2;
        assert_eq!(step(&mut quick).await.0, Created);
        assert_eq!(step(&mut quick).await.0, Started);
        let mut config = world.config("c", &["true"]);
        config.annotations = [("a".to_owned(), "x".repeat(60_000))].into();
        let id = world.create(&pod, config).await.unwrap();
        assert_eq!(step(&mut quick).await, (Created, id.clone()));
        // A thousand wait in the engine; before that some are on their way to the client.
        let containers = world.node.path(&format!("run/pods/{pod}/containers"));
        let record = std::fs::read_to_string(containers.join(&id).join("container.json")).unwrap();
        for number in 0..600 {
            let copy = format!("{number:064}");
            let dir = containers.join(&copy);
            std::fs::create_dir(&dir).unwrap();
            let new = dir.join("container.json.new");
            std::fs::write(&new, record.replace(&id, &copy)).unwrap();
            std::fs::rename(new, dir.join("container.json")).unwrap();
            assert_eq!(step(&mut quick).await, (Created, copy.clone()));
            std::fs::remove_dir_all(&dir).unwrap();
            passed(&mut quick, &copy).await;
            told += 2;
        }
        let mut heard = 0;
        let end = loop {
            match next(&mut deaf).await {
                Ok(_) => heard += 1,
                Err(status) => break status,
            }
        };
        assert_eq!(end.code(), Code::Aborted, "{end:?}");
        assert!(end.message().contains("list"), "{end:?}");
        assert!(heard < told);
        // It lists and connects again.
        let mut again = connect(world).await.unwrap();
        assert_eq!(world.container_ids(Default::default()).await, [id]);
        let id = world.create(&pod, world.config("d", &["true"])).await;
        assert_eq!(step(&mut again).await, (Created, id.unwrap()));
    });
}

#[test]
fn streams_end_with_the_server_and_what_happened_meanwhile_is_had_by_lists() {
    world(async |world: &mut World| {
        let pod = world.pod("a").await;
        let script = "while [ ! -e /logs/go ]; do sleep 0.05; done; exit 3";
        let mut config = world.script("c", script);
        config.mounts = vec![cri::Mount {
            container_path: "/logs".into(),
            host_path: pod.config.log_directory.clone(),
            ..Default::default()
        }];
        let id = world.run(&pod, config).await;
        let mut events = connect(world).await.unwrap();
        world.node.terminate().unwrap();
        let end = next(&mut events).await.unwrap_err();
        assert_eq!(end.code(), Code::Unavailable, "{end:?}");
        assert!(end.message().contains("ending"), "{end:?}");
        std::fs::write(
            std::path::Path::new(&pod.config.log_directory).join("go"),
            "",
        )
        .unwrap();
        world.serve_again().await;
        let mut events = connect(world).await.unwrap();
        assert_eq!(world.ended(&id).await.exit_code, 3);
        world.remove(&id).await.unwrap();
        // Whether it ended before the connection or after it, its end is told once at most.
        let mut told = vec![step(&mut events).await];
        if told[0].0 == Stopped {
            told.push(step(&mut events).await);
        }
        assert_eq!(told.last(), Some(&(Deleted, id)));
    });
}

#[test]
fn only_so_many_clients_are_subscribed_and_one_that_leaves_makes_room() {
    world(async |world: &mut World| {
        let mut all = Vec::new();
        let refused = loop {
            match connect(world).await {
                Ok(events) => all.push(events),
                Err(refused) => break refused,
            }
        };
        assert_eq!(refused.code(), Code::ResourceExhausted, "{refused:?}");
        assert_eq!(all.len(), 64);
        all.pop();
        let mut late = world
            .until("a place is free", async || connect(world).await.ok())
            .await;
        let pod = world.pod("a").await;
        assert_eq!(step(&mut late).await, (Created, pod.id.clone()));
        assert_eq!(step(&mut all[0]).await, (Created, pod.id.clone()));
    });
}

async fn pod_status(world: &World, id: &str) -> cri::PodSandboxStatusResponse {
    let request = cri::PodSandboxStatusRequest {
        pod_sandbox_id: id.to_owned(),
        verbose: false,
    };
    let answer = world.runtime().pod_sandbox_status(request).await;
    answer.unwrap().into_inner()
}

#[test]
fn a_pods_status_has_its_containers_and_the_time_that_events_compare_with() {
    world(async |world: &mut World| {
        let pod = world.pod("a").await;
        let other = world.pod("b").await;
        let id = world.run(&pod, world.script("c", "sleep 1000")).await;
        world.sleeper(&other, "d").await;
        let before = now();
        let answer = pod_status(world, &pod).await;
        let ids: Vec<&str> = answer
            .containers_statuses
            .iter()
            .map(|one| one.id.as_str())
            .collect();
        assert_eq!(ids, [&id]);
        assert!((before..=now()).contains(&answer.timestamp));
    });
}

#[test]
fn events_that_the_configuration_does_not_want_are_refused_by_its_key() {
    let config = "[floe.runtime]\nenable_pod_events = false\n";
    world_with(config.to_owned(), async |world: &mut World| {
        let refused = connect(world).await.unwrap_err();
        assert_eq!(refused.code(), Code::FailedPrecondition);
        assert!(
            refused.message().contains("enable_pod_events"),
            "{refused:?}"
        );
        let pod = world.pod("a").await;
        world.run(&pod, world.script("c", "sleep 1000")).await;
        let answer = pod_status(world, &pod).await;
        assert!(answer.containers_statuses.is_empty() && answer.timestamp == 0);
    });
}
