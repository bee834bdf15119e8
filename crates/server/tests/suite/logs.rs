//! Container logs: the CRI format, nothing lost, and rotation as kubelet does it.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::os::unix::fs::PermissionsExt;

use crate::common::{log, world, world_with};
use tonic::Code;

#[test]
fn both_streams_are_in_one_file_line_by_line() {
    world(async |world| {
        let pod = world.pod("a").await;
        let id = world
            .run(
                &pod,
                world.script("c", "echo one; echo two >&2; echo; printf end"),
            )
            .await;
        let status = world.ended(&id).await;
        assert_eq!(
            status.log_path,
            world.node.path("logs/a/c.log").display().to_string()
        );
        let log = log::read(&status.log_path);
        assert_eq!(log.of("stdout"), "one\n\nend\n");
        assert_eq!(log.of("stderr"), "two\n");
        let times: Vec<&String> = log.0.iter().map(|line| &line.time).collect();
        assert!(times.is_sorted(), "{times:?}");
    });
}

#[test]
fn a_long_line_is_cut_into_parts_that_make_it_up() {
    world(async |world| {
        let pod = world.pod("a").await;
        let script = "head -c 30000 /dev/zero | tr '\\0' x; echo; echo short";
        let (output, status) = world.output(&pod, world.script("c", script)).await;
        let log = log::read(&status.log_path);
        assert!(
            log.0.iter().any(|line| !line.full),
            "no line is marked as a part"
        );
        assert_eq!(output, format!("{}\nshort\n", "x".repeat(30000)));
    });
}

#[test]
fn a_lot_of_output_is_all_there_when_the_exit_is_reported() {
    world(async |world| {
        let pod = world.pod("a").await;
        let (output, _) = world.output(&pod, world.script("c", "seq 1 200000")).await;
        assert_eq!(output.lines().count(), 200_000);
        assert!(output.ends_with("199999\n200000\n"));
    });
}

#[test]
fn a_terminal_is_all_stdout() {
    world(async |world| {
        let pod = world.pod("a").await;
        let mut config = world.script("c", "test -t 1 && echo tty; echo err >&2");
        config.tty = true;
        let id = world.run(&pod, config).await;
        let status = world.ended(&id).await;
        let log = log::read(&status.log_path);
        assert_eq!(log.of("stdout").replace('\r', ""), "tty\nerr\n");
        assert_eq!(log.of("stderr"), "");
    });
}

#[test]
fn after_rotation_lines_go_to_the_new_file() {
    world(async |world| {
        let pod = world.pod("a").await;
        let script =
            "echo before; while ! test -e /tmp/go; do sleep 0.05; done; echo after; sleep 1000";
        let id = world.run(&pod, world.script("c", script)).await;
        let log = world.status(&id).await.unwrap().log_path;
        let holds = async |path: &str, text: &str| {
            world
                .until(&format!("{path} holds {text:?}"), async || {
                    let there = std::fs::read_to_string(path).unwrap_or_default();
                    there.contains(text).then_some(())
                })
                .await;
        };
        holds(&log, "before").await;
        let rotated = format!("{log}.1");
        std::fs::rename(&log, &rotated).unwrap();
        let request = cri::ReopenContainerLogRequest {
            container_id: id.clone(),
        };
        world.runtime().reopen_container_log(request).await.unwrap();
        assert!(
            std::path::Path::new(&log).exists(),
            "the new file is there when the call returns"
        );
        world.exec(&id, &["touch", "/tmp/go"], 10).await.unwrap();
        holds(&log, "after").await;
        assert_eq!(log::read(&rotated).of("stdout"), "before\n");
        assert_eq!(log::read(&log).of("stdout"), "after\n");
    });
}

#[test]
fn the_log_of_an_ended_container_is_not_opened_anew() {
    world(async |world| {
        let pod = world.pod("a").await;
        let id = world.run(&pod, world.config("c", &["true"])).await;
        let log = world.ended(&id).await.log_path;
        std::fs::remove_file(&log).unwrap();
        let request = cri::ReopenContainerLogRequest { container_id: id };
        let refused = world
            .runtime()
            .reopen_container_log(request)
            .await
            .unwrap_err();
        assert_eq!(refused.code(), Code::FailedPrecondition);
        assert!(!std::path::Path::new(&log).exists());
        let request = cri::ReopenContainerLogRequest {
            container_id: "0".repeat(64),
        };
        let unknown = world
            .runtime()
            .reopen_container_log(request)
            .await
            .unwrap_err();
        assert_eq!(unknown.code(), Code::NotFound);
    });
}

#[test]
fn a_pod_without_a_log_directory_has_one_of_its_own_that_only_root_reads() {
    world(async |world| {
        let mut logs = Vec::new();
        for name in ["a", "b"] {
            let mut config = world.pod_config(name);
            config.log_directory.clear();
            let pod = world.try_pod(&config).await.unwrap();
            let (output, status) = world.output(&pod, world.script("c", "echo x")).await;
            assert_eq!(output, "x\n");
            let own = world.node.path("logs").join(&pod);
            assert_eq!(status.log_path, own.join("c.log").display().to_string());
            let mode = std::fs::metadata(&own).unwrap().permissions().mode();
            assert_eq!(mode & 0o7777, 0o700);
            logs.push((pod, own));
        }
        let (pod, own) = &logs[0];
        std::fs::remove_file(own.join("c.log")).unwrap();
        world.remove_pod(pod).await.unwrap();
        assert!(!own.exists(), "an empty directory of floe's own stays");
    });
}

#[test]
fn a_pods_log_directory_is_made_if_it_is_not_there() {
    world(async |world| {
        let mut config = world.pod_config("a");
        let dir = world.node.path("logs/made/here");
        config.log_directory = dir.display().to_string();
        let pod = world.try_pod(&config).await.unwrap();
        let mode = std::fs::metadata(&dir).unwrap().permissions().mode();
        assert_eq!(mode & 0o7777, 0o700);
        world.output(&pod, world.script("c", "echo x")).await;
        let mut config = world.pod_config("b");
        std::fs::write(world.node.path("logs/file"), "").unwrap();
        config.log_directory = world.node.path("logs/file").display().to_string();
        assert!(world.try_pod(&config).await.is_err());
    });
}

#[test]
fn no_link_below_the_log_directory_is_followed() {
    world(async |world| {
        let pod = world.pod("a").await;
        let dir = world.node.path("logs/a");
        let outside = world.node.path("outside");
        std::fs::create_dir(&outside).unwrap();
        std::os::unix::fs::symlink(&outside, dir.join("away")).unwrap();
        std::os::unix::fs::symlink(outside.join("file"), dir.join("link.log")).unwrap();
        for path in ["away/0.log", "link.log"] {
            let mut config = world.script("c", "echo secret");
            config.log_path = path.to_owned();
            let refused = world.create(&pod, config).await.unwrap_err();
            assert!(refused.message().contains("link"), "{refused}");
        }
        assert_eq!(std::fs::read_dir(&outside).unwrap().count(), 0);
        // A directory that becomes a link before the log is opened anew.
        std::fs::create_dir(dir.join("real")).unwrap();
        let mut config = world.config("c", &["sleep", "1000"]);
        config.log_path = "real/0.log".to_owned();
        let id = world.run(&pod, config).await;
        std::fs::rename(dir.join("real"), dir.join("old")).unwrap();
        std::os::unix::fs::symlink(&outside, dir.join("real")).unwrap();
        let request = cri::ReopenContainerLogRequest { container_id: id };
        let reopened = world.runtime().reopen_container_log(request).await;
        assert!(reopened.is_err());
        assert_eq!(std::fs::read_dir(&outside).unwrap().count(), 0);
    });
}

#[test]
fn a_container_without_a_log_path_keeps_none() {
    world(async |world| {
        let pod = world.pod("a").await;
        let mut config = world.script("c", "echo lost");
        config.log_path.clear();
        let id = world.run(&pod, config).await;
        let status = world.ended(&id).await;
        assert_eq!(status.log_path, "");
        assert_eq!(
            std::fs::read_dir(world.node.path("logs/a"))
                .unwrap()
                .count(),
            0
        );
    });
}

#[test]
fn a_flood_leaves_the_log_below_its_limit_also_without_an_engine_and_what_is_missing_is_counted() {
    let config = "[floe.runtime]\nlog_limit = 65536\n\
                  [crio.metrics]\nenable_metrics = true\nmetrics_port = 19091\n";
    world_with(config.to_owned(), async |world| {
        let pod = world.pod("a").await;
        let flood = "sleep 0.5; yes | head -n 100000; touch /tmp/over; sleep 1000";
        let id = world.run(&pod, world.script("c", flood)).await;
        let path = world.status(&id).await.unwrap().log_path;
        world.node.kill().unwrap();
        let is_full = |path: &str| {
            let text = std::fs::read_to_string(path).unwrap_or_default();
            text.contains("lost from here on: it has reached its limit of 65536 bytes")
        };
        world
            .until("the log is full", async || is_full(&path).then_some(()))
            .await;
        world.serve_again().await;
        world
            .until("all is written", async || {
                let there = world.exec(&id, &["test", "-e", "/tmp/over"], 10).await;
                (there.unwrap().exit_code == 0).then_some(())
            })
            .await;
        assert!(std::fs::metadata(&path).unwrap().len() <= 65536);
        let kept = log::read(&path).of("stdout").lines().count();
        let rotated = format!("{path}.1");
        std::fs::rename(&path, &rotated).unwrap();
        let request = cri::ReopenContainerLogRequest {
            container_id: id.clone(),
        };
        world.runtime().reopen_container_log(request).await.unwrap();
        let missing = 100_000 - kept;
        let note = &log::read(&path).0[0];
        let expected = format!("floe: {missing} lines of this log were lost here: it has reached");
        assert!(note.full && note.stream == "stderr", "{note:?}");
        assert!(note.text.starts_with(&expected), "{note:?}");
        let loss = world.info(&id).await["logLoss"].clone();
        let bytes = 2 * missing;
        let expected = serde_json::json!({ "lines": missing, "bytes": bytes, "now": null });
        assert_eq!(loss, expected);
        let page = crate::metrics::page(19091);
        for (of, count) in [("lines", missing), ("bytes", bytes)] {
            let sample = format!("container_runtime_crio_containers_log_lost_{of}_total {count}\n");
            assert!(page.contains(&sample), "{page}");
        }
    });
}
