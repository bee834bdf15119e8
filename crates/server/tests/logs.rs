//! Container logs: the CRI format, nothing lost, and rotation as kubelet does it.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod common;

use common::{log, world};
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
