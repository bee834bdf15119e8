//! What each verb of CRI costs the engine, in counts that a busy machine does not change: calls to the
//! kernel, files opened, waits for the disk. With 10 pods and with ten times as many: what grows with
//! the number of pods is seen here before it is felt.

use std::collections::BTreeMap;

use cri::*;
use testkit::calls::{Calls, Tracer};

use crate::common::{World, world};

const FEW: usize = 10;
const MANY: usize = 100;
/// Each verb's least count of so many rounds is taken: what else the engine does falls into some.
const ROUNDS: usize = 3;
/// What may differ between two rounds, and is not for each pod.
const SLACK: u64 = 12;

/// At most: calls, files opened. Of lists, for each container listed besides.
const LIMITS: [(&str, u64, u64); 10] = [
    ("RunPodSandbox", 214, 32),
    ("CreateContainer", 196, 32),
    ("StartContainer", 105, 15),
    ("ListContainers", 30, 2),
    ("ListContainerStats", 60, 4),
    ("ListPodSandboxStats", 60, 4),
    ("StopContainer", 28, 2),
    ("RemoveContainer", 252, 37),
    ("StopPodSandbox", 136, 16),
    ("RemovePodSandbox", 205, 27),
];
/// What ListContainerStats may cost for each container: its files are open since the first.
const STATS: (u64, u64) = (9, 0);
/// And ListPodSandboxStats for each pod with one container: also the table of its network's interfaces.
const POD_STATS: (u64, u64) = (20, 1);

type Table = BTreeMap<&'static str, Calls>;

#[test]
fn no_verb_costs_more_for_the_pods_that_are_there_already() {
    world(async |world| {
        let pid = world.node.engine_pid().unwrap();
        let mut tables = Vec::new();
        for pods in [FEW, MANY] {
            fill(world, pods).await;
            let mut tracer = match Tracer::attach(pid) {
                Ok(tracer) => tracer,
                Err(error) => {
                    eprintln!("SKIP: {error}");
                    return;
                }
            };
            tables.push(measure(world, &mut tracer, pods).await);
        }
        let [few, many] = &tables[..] else {
            unreachable!("two were measured")
        };
        let mut wrong = Vec::new();
        for (verb, calls, opened) in LIMITS {
            let (few, many) = (&few[verb], &many[verb]);
            println!("{verb}: {}, {} of many:{many}", few.all(), many.all());
            let (each, files) = match verb {
                "ListContainerStats" => STATS,
                "ListPodSandboxStats" => POD_STATS,
                _ => (0, 0),
            };
            for (pods, one) in [(FEW, few), (MANY, many)] {
                // The container of the round itself is listed, too.
                let listed = pods as u64 + 1;
                if one.all() > calls + each * listed || one.opened() > opened + files * listed {
                    wrong.push(format!("{verb} among {pods} pods: {},{one}", one.all()));
                }
                if one.synced() > 0 {
                    wrong.push(format!("{verb} waits for the disk:{one}"));
                }
            }
            let more = SLACK + each * (MANY - FEW) as u64;
            if many.all() > few.all() + more {
                wrong.push(format!("{verb} grows from{few}\nto{many}"));
            }
        }
        assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    });
}

/// Makes pods with a container each, until there are so many.
async fn fill(world: &World, pods: usize) {
    for number in world.pod_ids(PodSandboxFilter::default()).await.len()..pods {
        let pod = world.pod(&format!("p{number}")).await;
        world.sleeper(&pod, "c").await;
    }
}

/// The life of one pod more, a few times.
async fn measure(world: &World, tracer: &mut Tracer, pods: usize) -> Table {
    let mut table = Table::new();
    // What lists and others keep is made.
    list(world).await;
    for round in 0..ROUNDS {
        let mut note = async |verb: &'static str| {
            let calls = tracer.calls().await.unwrap();
            let least = table.entry(verb).or_insert_with(|| calls.clone());
            if calls.all() < least.all() {
                *least = calls;
            }
        };
        note("before").await;
        let pod = world.pod(&format!("of-{pods}-{round}")).await;
        note("RunPodSandbox").await;
        let config = world.container("c", &["sh", "-c", "trap 'exit 0' TERM; sleep 1000 & wait"]);
        let id = world.create(&pod, config).await.unwrap();
        note("CreateContainer").await;
        world.start(&id).await.unwrap();
        note("StartContainer").await;
        list(world).await;
        note("before").await;
        list(world).await;
        note("ListContainers").await;
        // The first measures writable layers, which is not done again for 10 s.
        assert_eq!(stats(world).await, pods + 1);
        note("before").await;
        stats(world).await;
        note("ListContainerStats").await;
        assert_eq!(pod_stats(world).await, pods + 1);
        note("before").await;
        pod_stats(world).await;
        note("ListPodSandboxStats").await;
        world.stop(&id, 10).await.unwrap();
        note("StopContainer").await;
        world.remove(&id).await.unwrap();
        note("RemoveContainer").await;
        world.stop_pod(&pod).await.unwrap();
        note("StopPodSandbox").await;
        world.remove_pod(&pod).await.unwrap();
        note("RemovePodSandbox").await;
    }
    table
}

async fn stats(world: &World) -> usize {
    let all = ListContainerStatsRequest::default();
    let answer = world.runtime().list_container_stats(all).await.unwrap();
    answer.into_inner().stats.len()
}

async fn pod_stats(world: &World) -> usize {
    let all = ListPodSandboxStatsRequest::default();
    let answer = world.runtime().list_pod_sandbox_stats(all).await.unwrap();
    answer.into_inner().stats.len()
}

async fn list(world: &World) {
    let all = ListContainersRequest::default();
    world.runtime().list_containers(all).await.unwrap();
}
