//! Plugins of the node (NRI), made here, over the engine's socket: what they hear, what they change, and what
//! they cost when they do not behave.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::collections::BTreeMap;
use std::sync::mpsc;

use nri::api::{
    ContainerAdjustment, ContainerEviction, ContainerRequest, ContainerState, ContainerUpdate,
    CreateContainerResponse, Hook, Hooks, KeyValue, LinuxContainerAdjustment, LinuxContainerUpdate,
    LinuxDevice, LinuxMemory, LinuxNamespace, LinuxResources, Mount, OptionalInt, OptionalInt64,
    OptionalString, PodRequest, PosixRlimit, StopContainerResponse, SynchronizeRequest,
    UpdateContainerRequest, UpdateContainerResponse, UpdateContainersRequest,
};
use testkit::NodeOptions;
use testkit::nri::{Answer, Answers, Call, Plugin};
use tonic::Code;

use crate::common::{World, inside, refused, world, world_on};
use crate::crash::{alone, ended, kill_supervisor};

fn quiet() -> Box<Answers> {
    Box::new(|_: &Call| None)
}

/// Answers one method, and the others as plugins do that want nothing.
fn only(method: &'static str, answer: Answer) -> Box<Answers> {
    Box::new(move |call: &Call| (call.method == method).then(|| answer.clone()))
}

fn adjust(adjust: ContainerAdjustment) -> Answer {
    Answer::of(&CreateContainerResponse {
        adjust: Some(adjust),
        ..CreateContainerResponse::default()
    })
}

fn of_linux(linux: LinuxContainerAdjustment) -> Answer {
    adjust(ContainerAdjustment {
        linux: Some(linux),
        ..ContainerAdjustment::default()
    })
}

fn memory(limit: i64) -> LinuxResources {
    LinuxResources {
        memory: Some(LinuxMemory {
            limit: Some(OptionalInt64 { value: limit }),
            ..LinuxMemory::default()
        }),
        ..LinuxResources::default()
    }
}

/// A plugin that has joined.
fn join(world: &World, index: &str, answers: Box<Answers>) -> Plugin {
    let joined = || world.node.log().matches("an NRI plugin has joined").count();
    let before = joined();
    let socket = world.node.path("nri.sock");
    let plugin = Plugin::connect(&socket, (index, "test", 0), answers).unwrap();
    while joined() == before {
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    plugin
}

#[test]
fn a_plugin_hears_every_step_once_and_in_order() {
    world(async |world| {
        let plugin = join(world, "10", quiet());
        let pod = world.pod("a").await;
        let id = world.sleeper(&pod, "c").await;
        world.stop(&id, 0).await.unwrap();
        world.remove(&id).await.unwrap();
        // One that ends by itself.
        let ends = world.run(&pod, world.script("ends", "exit 3")).await;
        let ended = |call: &Call| {
            let said: ContainerRequest = call.message();
            let container = said.container.unwrap();
            (call.method == "StopContainer" && container.id == ends).then_some(container)
        };
        let container = loop {
            let calls = plugin.calls();
            let of_containers = calls.iter().filter(|call| call.method == "StopContainer");
            if let Some(found) = of_containers.filter_map(ended).next() {
                break found;
            }
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        };
        assert_eq!(container.state(), ContainerState::ContainerStopped);
        assert_eq!(container.exit_code, 3);
        world.stop_pod(&pod).await.unwrap();
        world.stop_pod(&pod).await.unwrap();
        world.remove_pod(&pod).await.unwrap();
        let life = ["CreateContainer", "PostCreateContainer", "StartContainer"];
        let first = [
            &life[..],
            &["PostStartContainer", "StopContainer", "RemoveContainer"],
        ]
        .concat();
        // The end of the second may be seen before its start is told to be done.
        let mut methods = plugin.methods().split_off(2);
        methods.retain(|one| one != "ValidateContainerAdjustment");
        assert_eq!(methods.remove(0), "RunPodSandbox");
        assert_eq!(methods.drain(..first.len()).collect::<Vec<_>>(), first);
        assert_eq!(methods.drain(..life.len()).collect::<Vec<_>>(), life);
        let mut both: Vec<String> = methods.drain(..2).collect();
        both.sort();
        assert_eq!(both, ["PostStartContainer", "StopContainer"]);
        assert_eq!(
            methods,
            ["StopPodSandbox", "RemoveContainer", "RemovePodSandbox"]
        );
        let said: PodRequest = plugin.calls()[2].message();
        let told = said.pod.unwrap();
        assert_eq!((told.name.as_str(), told.id.as_str()), ("a", pod.as_str()));
        assert!(told.pid > 0 && !told.ips.is_empty());
        let said: ContainerRequest = plugin.wait("StartContainer").unwrap().message();
        let told = said.container.unwrap();
        assert_eq!((told.name.as_str(), told.id.as_str()), ("c", id.as_str()));
        assert_eq!(told.state(), ContainerState::ContainerCreated);
        assert!(told.env.contains(&"FROM_IMAGE=yes".to_owned()));
    });
}

#[test]
fn a_container_is_made_as_plugins_want_it() {
    world(async |world| {
        let source = world.node.path("from-plugin");
        std::fs::create_dir(&source).unwrap();
        std::fs::write(source.join("file"), "mounted").unwrap();
        let hooked = world.node.path("hooked");
        let adjustment = ContainerAdjustment {
            annotations: BTreeMap::from([("from".to_owned(), "plugin".to_owned())]),
            env: vec![
                KeyValue {
                    key: "NEW".into(),
                    value: "yes".into(),
                },
                KeyValue {
                    key: "-FROM_IMAGE".into(),
                    value: String::new(),
                },
            ],
            mounts: vec![Mount {
                destination: "/plugin".into(),
                r#type: "bind".into(),
                source: source.display().to_string(),
                options: vec!["bind".into(), "ro".into()],
            }],
            hooks: Some(Hooks {
                create_runtime: vec![Hook {
                    path: "/bin/sh".into(),
                    args: vec![
                        "sh".into(),
                        "-c".into(),
                        format!("echo hook > {}", hooked.display()),
                    ],
                    ..Hook::default()
                }],
                ..Hooks::default()
            }),
            rlimits: vec![PosixRlimit {
                r#type: "RLIMIT_NOFILE".into(),
                hard: 77,
                soft: 66,
            }],
            linux: Some(LinuxContainerAdjustment {
                devices: vec![LinuxDevice {
                    path: "/dev/of-plugin".into(),
                    r#type: "c".into(),
                    major: 1,
                    minor: 3,
                    ..LinuxDevice::default()
                }],
                resources: Some(memory(64 << 20)),
                oom_score_adj: Some(OptionalInt { value: 500 }),
                sysctl: BTreeMap::from([(
                    "net.ipv4.ip_unprivileged_port_start".into(),
                    "7".into(),
                )]),
                ..LinuxContainerAdjustment::default()
            }),
            ..ContainerAdjustment::default()
        };
        let _plugin = join(world, "10", only("CreateContainer", adjust(adjustment)));
        let pod = world.pod("a").await;
        let script = "echo $NEW-$FROM_IMAGE; cat /plugin/file; echo; ulimit -n; cat /proc/self/oom_score_adj; \
                      cat /proc/sys/net/ipv4/ip_unprivileged_port_start; echo x > /dev/of-plugin && echo written; \
                      touch /plugin/x 2>/dev/null || echo read-only";
        let said = inside(world, &pod, "c", script, |_| ()).await;
        let lines: Vec<&str> = said.lines().collect();
        assert_eq!(
            lines,
            ["yes-", "mounted", "66", "500", "7", "written", "read-only"]
        );
        assert_eq!(std::fs::read_to_string(hooked).unwrap(), "hook\n");
        let id = &world.container_ids(cri::ContainerFilter::default()).await[0];
        let limits = world
            .status(id)
            .await
            .unwrap()
            .resources
            .unwrap()
            .linux
            .unwrap();
        assert_eq!(
            (limits.memory_limit_in_bytes, limits.oom_score_adj),
            (64 << 20, 500)
        );
    });
}

#[test]
fn what_floe_cannot_do_is_refused_by_its_name_and_leaves_nothing() {
    world(async |world| {
        let (change, changes) = mpsc::channel::<Answer>();
        let answers =
            move |call: &Call| (call.method == "CreateContainer").then(|| changes.recv().unwrap());
        let plugin = join(world, "10", Box::new(answers));
        let pod = world.pod("a").await;
        let class = LinuxContainerAdjustment {
            resources: Some(LinuxResources {
                blockio_class: Some(OptionalString {
                    value: "slow".into(),
                }),
                ..LinuxResources::default()
            }),
            ..LinuxContainerAdjustment::default()
        };
        let path = LinuxContainerAdjustment {
            cgroups_path: "/elsewhere".into(),
            ..LinuxContainerAdjustment::default()
        };
        let users = LinuxContainerAdjustment {
            namespaces: vec![LinuxNamespace {
                r#type: "user".into(),
                path: String::new(),
            }],
            ..LinuxContainerAdjustment::default()
        };
        for (linux, code, words) in [
            (class, Code::Unimplemented, "\"slow\""),
            (path, Code::InvalidArgument, "cgroups_path"),
            (users, Code::Unimplemented, "user namespace"),
        ] {
            change.send(of_linux(linux)).unwrap();
            let made = world.create(&pod, world.container("c", &["sh"])).await;
            refused(made, code, &[words]);
        }
        change.send(Answer::Refusal(2, "not today".into())).unwrap();
        let made = world.create(&pod, world.container("c", &["sh"])).await;
        refused(made, Code::FailedPrecondition, &["10-test", "not today"]);
        let ids = world.container_ids(cri::ContainerFilter::default()).await;
        assert_eq!(ids, Vec::<String>::new());
        let methods = plugin.methods();
        let gone = methods.iter().filter(|one| *one == "RemoveContainer");
        assert_eq!(gone.count(), 4);
        change.send(Answer::nothing()).unwrap();
        world
            .create(&pod, world.container("c", &["sh"]))
            .await
            .unwrap();
    });
}

#[test]
fn nothing_is_seen_before_plugins_have_let_it_be_made() {
    world(async |world| {
        let (release, released) = mpsc::channel::<()>();
        let answers = move |call: &Call| {
            if ["RunPodSandbox", "CreateContainer"].contains(&call.method.as_str()) {
                released.recv().unwrap();
            }
            None
        };
        let plugin = join(world, "10", Box::new(answers));
        let config = world.pod_config("a");
        let run = async {
            let id = world.try_pod(&config).await;
            id.unwrap()
        };
        let look = async {
            while plugin.methods().len() < 3 {
                tokio::time::sleep(std::time::Duration::from_millis(5)).await;
            }
            let seen = world.pod_ids(cri::PodSandboxFilter::default()).await;
            release.send(()).unwrap();
            seen
        };
        let (id, seen) = tokio::join!(run, look);
        assert_eq!(seen, Vec::<String>::new());
        assert_eq!(world.pod_ids(cri::PodSandboxFilter::default()).await, [id]);
        plugin.wait("RunPodSandbox").unwrap();
        release.send(()).unwrap();
        release.send(()).unwrap();
        let pod = world.pod("b").await;
        let create = world.create(&pod, world.container("c", &["sh"]));
        create.await.unwrap();
    });
}

#[test]
fn a_plugin_that_hangs_costs_one_deadline() {
    let options = |_: &testkit::Registry| NodeOptions {
        nri: "nri_plugin_request_timeout = \"300ms\"\n".into(),
        ..NodeOptions::default()
    };
    world_on(options, async |world| {
        let hangs = join(world, "10", only("CreateContainer", Answer::Silence));
        let well = join(world, "20", quiet());
        let pod = world.pod("a").await;
        world.sleeper(&pod, "c").await;
        hangs.wait_for_end().unwrap();
        world.sleeper(&pod, "d").await;
        assert_eq!(
            hangs.methods().last().map(String::as_str),
            Some("CreateContainer")
        );
        let told = well.methods();
        let told = told.iter().filter(|one| *one == "CreateContainer");
        assert_eq!(told.count(), 2);
    });
}

#[test]
fn the_next_engine_tells_plugins_what_there_is() {
    world(async |world| {
        let first = join(world, "10", quiet());
        let pod = world.pod("a").await;
        let lives = world.sleeper(&pod, "lives").await;
        let ended = world.run(&pod, world.script("ended", "exit 0")).await;
        world.ended(&ended).await;
        world.node.kill().unwrap();
        first.wait_for_end().unwrap();
        world.serve_again().await;
        let plugin = join(world, "10", quiet());
        let said: SynchronizeRequest = plugin.wait("Synchronize").unwrap().message();
        let pods: Vec<&str> = said.pods.iter().map(|one| one.id.as_str()).collect();
        assert_eq!(pods, [pod.as_str()]);
        let containers: Vec<&str> = said.containers.iter().map(|one| one.id.as_str()).collect();
        assert_eq!(containers, [lives.as_str()]);
        assert_eq!(said.containers[0].state(), ContainerState::ContainerRunning);
        // What it was not told of is none of its concern.
        world.remove(&ended).await.unwrap();
        world.stop(&lives, 0).await.unwrap();
        world.remove(&lives).await.unwrap();
        let heard = plugin.methods().split_off(2);
        assert_eq!(heard, ["StopContainer", "RemoveContainer"]);
    });
}

#[test]
fn limits_are_what_plugins_make_of_them() {
    world(async |world| {
        let double = |call: &Call| {
            if call.method != "UpdateContainer" {
                return None;
            }
            let asked: UpdateContainerRequest = call.message();
            let limit = asked.linux_resources?.memory?.limit?.value;
            let update = ContainerUpdate {
                container_id: asked.container?.id,
                linux: Some(LinuxContainerUpdate {
                    resources: Some(memory(2 * limit)),
                }),
                ignore_failure: false,
            };
            let update = vec![update];
            Some(Answer::of(&UpdateContainerResponse {
                update,
                evict: Vec::new(),
            }))
        };
        let mut plugin = join(world, "10", Box::new(double));
        let pod = world.pod("a").await;
        let id = world.sleeper(&pod, "c").await;
        let request = cri::UpdateContainerResourcesRequest {
            container_id: id.clone(),
            linux: Some(cri::LinuxContainerResources {
                memory_limit_in_bytes: 64 << 20,
                ..Default::default()
            }),
            ..Default::default()
        };
        world
            .runtime()
            .update_container_resources(request)
            .await
            .unwrap();
        let limit = async |world: &World| {
            let status = world.status(&id).await.unwrap();
            status
                .resources
                .unwrap()
                .linux
                .unwrap()
                .memory_limit_in_bytes
        };
        assert_eq!(limit(world).await, 128 << 20);
        plugin.wait("PostUpdateContainer").unwrap();
        // Unasked.
        let wish = |resources, evict: &[&str]| UpdateContainersRequest {
            update: vec![ContainerUpdate {
                container_id: id.clone(),
                linux: Some(LinuxContainerUpdate {
                    resources: Some(resources),
                }),
                ignore_failure: false,
            }],
            evict: evict
                .iter()
                .map(|id| ContainerEviction {
                    container_id: (*id).to_owned(),
                    reason: "test".into(),
                })
                .collect(),
        };
        assert_eq!(
            plugin.update(&wish(memory(96 << 20), &[])).unwrap().failed,
            []
        );
        assert_eq!(limit(world).await, 96 << 20);
        let read =
            "cat /sys/fs/cgroup/memory/memory.limit_in_bytes /sys/fs/cgroup/memory.max 2>/dev/null";
        let seen = world.exec(&id, &["sh", "-c", read], 10).await.unwrap();
        assert_eq!(
            String::from_utf8(seen.stdout).unwrap().trim(),
            (96 << 20).to_string()
        );
        plugin.update(&wish(memory(96 << 20), &[&id])).unwrap();
        let state = world.status(&id).await.unwrap().state;
        assert_eq!(state, cri::ContainerState::ContainerExited as i32);
    });
}

#[test]
fn the_end_of_one_container_can_change_another_of_its_pod() {
    world(async |world| {
        let (say, said) = mpsc::channel::<String>();
        let answers = move |call: &Call| {
            (call.method == "StopContainer").then(|| {
                let update = said.try_recv().map(|container_id| ContainerUpdate {
                    container_id,
                    linux: Some(LinuxContainerUpdate {
                        resources: Some(memory(80 << 20)),
                    }),
                    ignore_failure: false,
                });
                Answer::of(&StopContainerResponse {
                    update: update.into_iter().collect(),
                })
            })
        };
        let _plugin = join(world, "10", Box::new(answers));
        let pod = world.pod("a").await;
        let stays = world.sleeper(&pod, "stays").await;
        let ends = world.sleeper(&pod, "ends").await;
        say.send(stays.clone()).unwrap();
        world.stop(&ends, 0).await.unwrap();
        // Whoever hears of the end first tells the plugins; a stop does not wait for the other.
        let limited = async || {
            let status = world.status(&stays).await.unwrap();
            let limits = status.resources.unwrap().linux.unwrap();
            (limits.memory_limit_in_bytes == 80 << 20).then_some(())
        };
        world.until("the other has the limit", limited).await;
    });
}

#[test]
fn a_container_that_plugins_put_into_another_cgroup_is_ended_there_without_its_supervisor() {
    let elsewhere = |call: &Call| {
        (call.method == "CreateContainer").then(|| {
            let pod = call.message::<ContainerRequest>().pod;
            let pod = pod.and_then(|pod| pod.linux).unwrap().cgroups_path;
            of_linux(LinuxContainerAdjustment {
                cgroups_path: format!("{pod}/elsewhere"),
                ..LinuxContainerAdjustment::default()
            })
        })
    };
    world(async |world| {
        let _plugin = join(world, "10", Box::new(elsewhere));
        let pod = world.pod("a").await;
        let sleeper = alone(world.config("c", &["sleep", "1000"]));
        let id = world.run(&pod, sleeper).await;
        let pid = world.info(&id).await["pid"].as_i64().unwrap();
        let cgroup = std::fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap();
        assert!(cgroup.contains("/elsewhere"), "{cgroup}");
        kill_supervisor(world, &pod).await;
        world.stop_pod(&pod).await.unwrap();
        ended(world, pid).await;
        world.remove_pod(&pod).await.unwrap();
    });
}

#[test]
fn the_administrators_rules_hold_for_plugins() {
    let options = |_: &testkit::Registry| {
        NodeOptions {
        nri: "[crio.nri.default_validator]\nnri_enable_default_validator = true\n\
              nri_validator_reject_namespace_adjustment = true\nnri_validator_required_plugins = [\"test\"]\n"
            .into(),
        ..NodeOptions::default()
    }
    };
    world_on(options, async |world| {
        let pod = world.pod("a").await;
        let made = world.create(&pod, world.container("c", &["sh"])).await;
        refused(
            made,
            Code::PermissionDenied,
            &["required plugins are not here: test"],
        );
        let plugin = join(world, "10", quiet());
        world
            .create(&pod, world.container("c", &["sh"]))
            .await
            .unwrap();
        drop(plugin);
        let users = LinuxContainerAdjustment {
            namespaces: vec![LinuxNamespace {
                r#type: "-network".into(),
                path: String::new(),
            }],
            ..LinuxContainerAdjustment::default()
        };
        let _plugin = join(world, "11", only("CreateContainer", of_linux(users)));
        let made = world.create(&pod, world.container("d", &["sh"])).await;
        refused(made, Code::PermissionDenied, &["network by 11-test"]);
    });
}
