//! Containers over CRI: their life, and what their processes find inside.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::collections::BTreeMap;

use crate::common::{World, secured, world};
use tonic::Code;

/// The ids of the containers that a filter gives.
async fn listed(world: &World, filter: cri::ContainerFilter) -> Vec<String> {
    let request = cri::ListContainersRequest {
        filter: Some(filter),
    };
    let answer = world.runtime().list_containers(request).await.unwrap();
    let mut ids: Vec<String> = answer
        .into_inner()
        .containers
        .into_iter()
        .map(|c| c.id)
        .collect();
    ids.sort();
    ids
}

#[test]
fn a_container_goes_from_created_to_running_to_exited_with_its_times_and_code() {
    world(async |world| {
        let pod = world.pod("a").await;
        let marker = world.node.path("started");
        let mut config = world.script("c", "touch /out/started; sleep 0.3; exit 7");
        config.mounts = vec![bind(world.node.dir(), "/out", false)];
        let id = world.create(&pod, config).await.unwrap();
        let created = world.status(&id).await.unwrap();
        assert_eq!(created.state(), cri::ContainerState::ContainerCreated);
        assert!(created.created_at > 0);
        assert_eq!((created.started_at, created.finished_at), (0, 0));
        assert!(!marker.exists(), "create must not run the process");
        world.start(&id).await.unwrap();
        let ended = world.ended(&id).await;
        assert!(marker.exists());
        assert_eq!((ended.exit_code, ended.reason.as_str()), (7, "Error"));
        assert!(ended.created_at <= ended.started_at && ended.started_at < ended.finished_at);
        assert_eq!(ended.image_id, world.image_id);
    });
}

fn bind(from: &std::path::Path, to: &str, readonly: bool) -> cri::Mount {
    cri::Mount {
        host_path: from.display().to_string(),
        container_path: to.to_owned(),
        readonly,
        ..Default::default()
    }
}

#[test]
fn success_is_completed() {
    world(async |world| {
        let pod = world.pod("a").await;
        let (_, status) = world.output(&pod, world.config("c", &["true"])).await;
        assert_eq!((status.exit_code, status.reason.as_str()), (0, "Completed"));
    });
}

#[test]
fn a_program_that_is_not_there_fails_the_start_and_says_so_in_the_status() {
    world(async |world| {
        let pod = world.pod("a").await;
        let id = world
            .create(&pod, world.config("c", &["no-such-program"]))
            .await
            .unwrap();
        let error = world.start(&id).await.unwrap_err();
        assert!(error.message().contains("no-such-program"), "{error:?}");
        let status = world.status(&id).await.unwrap();
        assert_eq!(status.state(), cri::ContainerState::ContainerExited);
        assert_eq!(
            (status.exit_code, status.reason.as_str()),
            (127, "StartError")
        );
        assert!(status.message.contains("no-such-program"), "{status:?}");
        world.remove(&id).await.unwrap();
    });
}

#[test]
fn a_container_that_is_not_there_has_no_start_and_no_status() {
    world(async |world| {
        let nobody = "0".repeat(64);
        assert_eq!(
            world.start(&nobody).await.unwrap_err().code(),
            Code::NotFound
        );
        assert_eq!(
            world.status(&nobody).await.unwrap_err().code(),
            Code::NotFound
        );
    });
}

/// Ends with 3 at SIGTERM, once `/ready` is there.
const POLITE: &str = "trap 'exit 3' TERM; touch /ready; while :; do sleep 0.05; done";

#[test]
fn stop_asks_first_and_kills_when_the_grace_is_over() {
    world(async |world| {
        let pod = world.pod("a").await;
        let polite = world.script("polite", POLITE);
        let polite = world.run(&pod, polite).await;
        let stubborn = world.script("stubborn", "trap '' TERM; while :; do sleep 0.05; done");
        let stubborn = world.run(&pod, stubborn).await;
        // A trap that is not set yet would make the polite one die of the signal.
        world.written(&polite, "/ready").await;
        world.stop(&polite, 60).await.unwrap();
        assert_eq!(world.status(&polite).await.unwrap().exit_code, 3);
        world.stop(&stubborn, 1).await.unwrap();
        assert_eq!(world.status(&stubborn).await.unwrap().exit_code, 137);
        for _ in 0..2 {
            world.stop(&stubborn, 0).await.unwrap();
        }
        world.stop(&"0".repeat(64), 0).await.unwrap();
        assert_eq!(
            world.stop("", 0).await.unwrap_err().code(),
            Code::InvalidArgument
        );
    });
}

#[test]
fn a_later_stop_with_less_patience_shortens_the_first() {
    world(async |world| {
        let pod = world.pod("a").await;
        let config = world.script(
            "c",
            "trap '' TERM; touch /ready; while :; do sleep 0.05; done",
        );
        let id = world.run(&pod, config).await;
        world.written(&id, "/ready").await;
        let patient = world.stop(&id, 3600);
        let impatient = async {
            tokio::time::sleep(std::time::Duration::from_millis(200)).await;
            world.stop(&id, 0).await
        };
        let (first, second) = tokio::join!(patient, impatient);
        first.unwrap();
        second.unwrap();
        assert_eq!(world.status(&id).await.unwrap().exit_code, 137);
    });
}

#[test]
fn the_stop_signal_of_the_request_is_sent_and_shown() {
    world(async |world| {
        let pod = world.pod("a").await;
        let mut config = world.script(
            "c",
            "trap 'exit 4' USR1; trap '' TERM; touch /ready; while :; do sleep 0.05; done",
        );
        config.stop_signal = cri::Signal::Sigusr1.into();
        let id = world.run(&pod, config).await;
        world.written(&id, "/ready").await;
        world.stop(&id, 60).await.unwrap();
        let status = world.status(&id).await.unwrap();
        assert_eq!(status.exit_code, 4);
        assert_eq!(status.stop_signal(), cri::Signal::Sigusr1);
    });
}

#[test]
fn remove_takes_a_running_container_and_keeps_its_log() {
    world(async |world| {
        let pod = world.pod("a").await;
        let id = world
            .run(&pod, world.script("c", "echo here; sleep 1000"))
            .await;
        let log = world.status(&id).await.unwrap().log_path;
        world
            .until("the line is in the log", async || {
                std::fs::read_to_string(&log)
                    .unwrap()
                    .contains("here")
                    .then_some(())
            })
            .await;
        for _ in 0..2 {
            world.remove(&id).await.unwrap();
        }
        assert!(std::path::Path::new(&log).exists());
        assert_eq!(world.status(&id).await.unwrap_err().code(), Code::NotFound);
    });
}

#[test]
fn the_same_name_in_a_pod_gives_the_same_container_and_is_free_after_removal() {
    world(async |world| {
        let pod = world.pod("a").await;
        let config = world.config("c", &["sleep", "1000"]);
        let id = world.create(&pod, config.clone()).await.unwrap();
        assert_eq!(world.create(&pod, config.clone()).await.unwrap(), id);
        world.remove(&id).await.unwrap();
        assert_ne!(world.create(&pod, config).await.unwrap(), id);
    });
}

#[test]
fn the_images_defaults_hold_where_the_request_is_silent() {
    world(async |world| {
        let pod = world.pod("a").await;
        let mut config = world.config("c", &[]);
        config.args = vec![
            "sh".into(),
            "-c".into(),
            "echo $FROM_IMAGE $MINE; pwd; echo $HOME".into(),
        ];
        config.envs = vec![cri::KeyValue {
            key: "MINE".into(),
            value: b"a b".into(),
        }];
        config.working_dir = "/var/deep".into();
        let (output, status) = world.output(&pod, config).await;
        assert_eq!(status.exit_code, 0, "{status:?}");
        assert_eq!(output, "yes a b\n/var/deep\n/root\n");
    });
}

#[test]
fn user_group_and_further_groups_are_as_asked_and_shown() {
    world(async |world| {
        let pod = world.pod("a").await;
        let number = |value| Some(cri::Int64Value { value });
        let numeric = secured(world.script("numeric", "id -u; id -g; id -G"), |context| {
            context.run_as_user = number(1234);
            context.run_as_group = number(2345);
            context.supplemental_groups = vec![10, 20];
        });
        let (output, status) = world.output(&pod, numeric).await;
        assert_eq!(output, "1234\n2345\n2345 10 20\n");
        let shown = status.user.unwrap().linux.unwrap();
        assert_eq!((shown.uid, shown.gid), (1234, 2345));
        let named = secured(world.script("named", "id -u; id -G"), |context| {
            context.run_as_username = "www-data".into();
        });
        assert_eq!(world.output(&pod, named).await.0, "33\n33 4242\n");
        let strict = secured(world.script("strict", "id -u; id -G"), |context| {
            context.run_as_username = "www-data".into();
            context.supplemental_groups_policy = cri::SupplementalGroupsPolicy::Strict.into();
        });
        assert_eq!(world.output(&pod, strict).await.0, "33\n33\n");
        let nobody = secured(world.config("nobody", &["id"]), |context| {
            context.run_as_username = "not-in-passwd".into();
        });
        let refused = world.create(&pod, nobody).await.unwrap_err();
        assert!(refused.message().contains("not-in-passwd"), "{refused:?}");
    });
}

#[test]
fn confinement_is_given() {
    world(async |world| {
        let pod = world.pod("a").await;
        let script = "touch /file 2>/dev/null && echo writable; grep NoNewPrivs /proc/self/status; \
                      grep CapEff /proc/self/status; ls /proc/acpi 2>/dev/null; cat /proc/kcore | head -c 1 | wc -c; \
                      echo 1 2>/dev/null > /proc/sys/kernel/pid_max || echo readonly";
        let config = secured(world.script("c", script), |context| {
            context.readonly_rootfs = true;
            context.no_new_privs = true;
            context.capabilities = Some(cri::Capability {
                drop_capabilities: vec!["ALL".into()],
                add_capabilities: vec!["NET_RAW".into()],
                ..Default::default()
            });
            context.masked_paths = vec!["/proc/kcore".into(), "/proc/acpi".into()];
            context.readonly_paths = vec!["/proc/sys".into()];
        });
        let (output, _) = world.output(&pod, config).await;
        assert_eq!(
            output,
            "NoNewPrivs:\t1\nCapEff:\t0000000000002000\n0\nreadonly\n"
        );
    });
}

#[test]
fn a_privileged_container_needs_a_privileged_pod() {
    world(async |world| {
        let plain = world.pod("plain").await;
        let privileged =
            |context: &mut cri::LinuxContainerSecurityContext| context.privileged = true;
        let script = "grep Seccomp: /proc/self/status; ls /dev | wc -l";
        let config = secured(world.script("c", script), privileged);
        let refused = world.create(&plain, config.clone()).await.unwrap_err();
        assert_eq!(refused.code(), Code::InvalidArgument, "{refused:?}");
        let mut pod = world.pod_config("privileged");
        let context = cri::LinuxSandboxSecurityContext {
            privileged: true,
            ..Default::default()
        };
        pod.linux = Some(cri::LinuxPodSandboxConfig {
            security_context: Some(context),
            ..Default::default()
        });
        let pod = world.try_pod(&pod).await.unwrap();
        let (output, status) = world.output(&pod, config).await;
        assert_eq!(status.exit_code, 0);
        assert!(output.starts_with("Seccomp:\t0\n"), "{output}");
    });
}

#[test]
fn a_seccomp_profile_that_is_not_there_is_an_error_that_names_it() {
    world(async |world| {
        let pod = world.pod("a").await;
        let profile = |kind: cri::security_profile::ProfileType, name: &str| {
            Some(cri::SecurityProfile {
                profile_type: kind.into(),
                localhost_ref: name.into(),
            })
        };
        use cri::security_profile::ProfileType::{Localhost, RuntimeDefault};
        let dir = tempfile::tempdir().unwrap();
        let absent = dir.path().join("profile.json").display().to_string();
        let missing = secured(world.config("missing", &["true"]), |context| {
            context.seccomp = profile(Localhost, &absent);
        });
        let refused = world.create(&pod, missing).await.unwrap_err();
        assert!(refused.message().contains(&absent), "{refused:?}");
        let default = secured(
            world.script("default", "grep Seccomp: /proc/self/status"),
            |context| {
                context.seccomp = profile(RuntimeDefault, "");
            },
        );
        assert_eq!(world.output(&pod, default).await.0, "Seccomp:\t2\n");
    });
}

#[test]
fn bind_mounts_show_the_nodes_files_and_keep_read_only() {
    world(async |world| {
        let pod = world.pod("a").await;
        let shared = world.node.path("shared");
        std::fs::create_dir(&shared).unwrap();
        std::fs::write(shared.join("in"), "from the node\n").unwrap();
        let mut config =
            world.script("c", "cat /rw/in; echo back > /rw/out; echo no 2>/dev/null > /ro/in || echo refused; cat /one");
        config.mounts = vec![
            bind(&shared, "/rw", false),
            bind(&shared, "/ro", true),
            bind(&shared.join("in"), "/one", true),
        ];
        let (output, status) = world.output(&pod, config).await;
        assert_eq!(output, "from the node\nrefused\nfrom the node\n");
        assert_eq!(
            std::fs::read_to_string(shared.join("out")).unwrap(),
            "back\n"
        );
        assert_eq!(status.mounts.len(), 3);
        assert!(status.mounts[1].readonly);
    });
}

#[test]
fn limits_are_in_force_and_shown() {
    world(async |world| {
        let pod = world.pod("a").await;
        let mut config = world.config("c", &["sleep", "1000"]);
        let limits = cri::LinuxContainerResources {
            memory_limit_in_bytes: 64 << 20,
            cpu_period: 100_000,
            cpu_quota: 50_000,
            cpu_shares: 512,
            ..Default::default()
        };
        config.linux = Some(cri::LinuxContainerConfig {
            resources: Some(limits.clone()),
            ..Default::default()
        });
        let id = world.run(&pod, config).await;
        assert_eq!(
            world.status(&id).await.unwrap().resources.unwrap().linux,
            Some(limits)
        );
        let request = cri::ContainerStatsRequest {
            container_id: id.clone(),
        };
        let stats = world
            .runtime()
            .container_stats(request)
            .await
            .unwrap()
            .into_inner();
        let memory = stats.stats.unwrap().memory.unwrap();
        let available =
            memory.available_bytes.unwrap().value + memory.working_set_bytes.unwrap().value;
        assert_eq!(available, 64 << 20);
    });
}

#[test]
fn a_container_that_the_kernel_kills_for_memory_says_so() {
    world(async |world| {
        let pod = world.pod("a").await;
        let mut config = world.config(
            "c",
            &["dd", "if=/dev/zero", "of=/dev/null", "bs=256M", "count=1"],
        );
        let limits = cri::LinuxContainerResources {
            memory_limit_in_bytes: 16 << 20,
            memory_swap_limit_in_bytes: 16 << 20,
            ..Default::default()
        };
        config.linux = Some(cri::LinuxContainerConfig {
            resources: Some(limits),
            ..Default::default()
        });
        let (_, status) = world.output(&pod, config).await;
        assert_eq!(
            (status.exit_code, status.reason.as_str()),
            (137, "OOMKilled")
        );
    });
}

#[test]
fn conditions_of_a_filter_are_anded() {
    world(async |world| {
        let pods = [world.pod("a").await, world.pod("b").await];
        let label = |value: &str| BTreeMap::from([("app".to_owned(), value.to_owned())]);
        let mut config = world.config("c", &["sleep", "1000"]);
        config.labels = label("one");
        let created = world.create(&pods[0], config.clone()).await.unwrap();
        config.labels = label("two");
        let running = world.run(&pods[1], config).await;
        let state = Some(cri::ContainerStateValue {
            state: cri::ContainerState::ContainerRunning.into(),
        });
        let by_state = cri::ContainerFilter {
            state,
            ..Default::default()
        };
        assert_eq!(
            listed(world, by_state.clone()).await,
            std::slice::from_ref(&running)
        );
        let by_pod = cri::ContainerFilter {
            pod_sandbox_id: pods[0].id.clone(),
            ..Default::default()
        };
        assert_eq!(listed(world, by_pod).await, std::slice::from_ref(&created));
        let by_label = cri::ContainerFilter {
            label_selector: label("two"),
            ..Default::default()
        };
        assert_eq!(listed(world, by_label).await, [running]);
        let by_id = cri::ContainerFilter {
            id: created[..10].into(),
            ..Default::default()
        };
        assert_eq!(listed(world, by_id).await, std::slice::from_ref(&created));
        let both = cri::ContainerFilter {
            id: created,
            ..by_state
        };
        assert!(listed(world, both).await.is_empty());
    });
}

#[test]
fn verbose_status_has_the_pid_and_the_runtime_spec() {
    world(async |world| {
        let pod = world.pod("a").await;
        let id = world.run(&pod, world.config("c", &["sleep", "1000"])).await;
        let info = world.info(&id).await;
        assert_eq!(info["sandboxID"], *pod);
        let pid = info["pid"].as_i64().unwrap();
        let command = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap();
        assert_eq!(command, b"sleep\x001000\x00");
        assert_eq!(info["runtimeSpec"]["process"]["args"][0], "sleep");
    });
}

#[test]
fn ids_may_be_cut_short_as_long_as_they_fit_one() {
    world(async |world| {
        let pod = world.pod("a").await;
        let id = world
            .run(&pod[..12], world.config("c", &["sleep", "1000"]))
            .await;
        assert_eq!(world.status(&id[..12]).await.unwrap().id, id);
        world.stop(&id[..12], 0).await.unwrap();
        world.remove(&id[..12]).await.unwrap();
        assert_eq!(world.status(&id).await.unwrap_err().code(), Code::NotFound);
    });
}

#[test]
fn a_container_needs_a_pod_and_an_image_that_exist() {
    world(async |world| {
        let pod = world.pod("a").await;
        let homeless = world
            .create(&"0".repeat(64), world.config("c", &["true"]))
            .await;
        assert_eq!(homeless.unwrap_err().code(), Code::NotFound);
        let mut config = world.config("c", &["true"]);
        config.image = Some(crate::common::image_spec("127.0.0.1:1/not/pulled:1"));
        let refused = world.create(&pod, config).await.unwrap_err();
        assert_eq!(refused.code(), Code::NotFound);
        assert!(refused.message().contains("not/pulled"), "{refused:?}");
        assert!(
            listed(world, cri::ContainerFilter::default())
                .await
                .is_empty()
        );
    });
}

#[test]
fn a_start_that_is_asked_again_succeeds_while_the_container_runs() {
    world(async |world| {
        let pod = world.pod("a").await;
        let id = world.run(&pod, world.config("c", &["sleep", "1000"])).await;
        world.start(&id).await.unwrap();
        // Two at once: one of them finds it running, or on its way.
        let twice = world.create(&pod, world.config("d", &["sleep", "1000"]));
        let twice = twice.await.unwrap();
        let (one, other) = tokio::join!(world.start(&twice), world.start(&twice));
        one.unwrap();
        other.unwrap();
        world.stop(&id, 0).await.unwrap();
        let refused = world.start(&id).await.unwrap_err();
        assert_eq!(refused.code(), tonic::Code::FailedPrecondition);
    });
}

#[test]
fn values_of_any_bytes_reach_container_and_exec_unchanged() {
    world(async |world| {
        let pod = world.pod("a").await;
        let value: Vec<u8> = (1..=255).collect();
        let variable = |key: &str, value: &[u8]| cri::KeyValue {
            key: key.into(),
            value: value.to_vec(),
        };
        // Under its name once it is whole: whoever reads it may come before the script has written it.
        let script = "cat /proc/self/environ > /new; mv /new /env; sleep 1000";
        let mut config = world.script("c", script);
        config.envs = vec![
            variable("KEY", &value),
            variable("FROM_IMAGE", b"\xff"),
            variable("TEXT", "\u{fffd}é".as_bytes()),
        ];
        let id = world.run(&pod, config).await;
        world.written(&id, "/env").await;
        let expected = [
            [b"KEY=", value.as_slice()].concat(),
            b"FROM_IMAGE=\xff".to_vec(),
            "TEXT=\u{fffd}é".as_bytes().to_vec(),
        ];
        for file in ["/env", "/proc/self/environ"] {
            let seen = world.exec(&id, &["cat", file], 10).await.unwrap().stdout;
            let seen: Vec<&[u8]> = seen.split(|byte| *byte == 0).collect();
            for entry in &expected {
                let same = seen.iter().filter(|seen| *seen == entry);
                assert_eq!(same.count(), 1, "{entry:?} in {file}");
            }
            let of_image = seen
                .iter()
                .filter(|entry| entry.starts_with(b"FROM_IMAGE="));
            assert_eq!(of_image.count(), 1, "{file}");
        }
        let status = world.status(&id).await.unwrap();
        assert_eq!(status.state(), cri::ContainerState::ContainerRunning);
    });
}
