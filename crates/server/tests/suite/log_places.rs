//! CRI: container logs. The format that kubelet reads, ReopenContainerLog, and what stays.

use crate::common::{log, refused, world};
use cri::*;
use tonic::Code;

#[test]
fn a_last_line_without_an_end_is_kept() {
    world(async |world| {
        let pod = world.pod("a").await;
        let config = world.container("talker", &["printf", "one\\ntwo"]);
        let id = world.run(&pod, config.clone()).await;
        assert_eq!(
            log::read(world.ended(&id).await.log_path).text(),
            "one\ntwo\n"
        );
    });
}

#[test]
fn the_log_of_what_does_not_run_cannot_be_reopened_and_no_file_is_made() {
    world(async |world| {
        let pod = world.pod("a").await;
        let config = world.container("short", &["true"]);
        let id = world.run(&pod, config.clone()).await;
        let log = world.ended(&id).await.log_path;
        std::fs::remove_file(&log).unwrap();
        let reopen = |container_id: &str| ReopenContainerLogRequest {
            container_id: container_id.into(),
        };
        let outcome = world.runtime().reopen_container_log(reopen(&id)).await;
        refused(outcome, Code::FailedPrecondition, &[&id]);
        assert!(!std::path::Path::new(&log).exists());
        let outcome = world
            .runtime()
            .reopen_container_log(reopen("0123456789abcdef"))
            .await;
        refused(outcome, Code::NotFound, &["0123456789abcdef"]);
    });
}

#[test]
fn a_log_stays_when_its_container_and_pod_go() {
    world(async |world| {
        let pod = world.pod("a").await;
        let config = world.container("talker", &["echo", "keep me"]);
        let id = world.run(&pod, config.clone()).await;
        let log = world.ended(&id).await.log_path;
        world.remove(&id).await.unwrap();
        world.remove_pod(&pod.id).await.unwrap();
        assert_eq!(log::read(log).0[0].text, "keep me");
    });
}

#[test]
fn a_log_path_that_leads_out_of_the_pods_directory_is_refused() {
    world(async |world| {
        let pod = world.pod("a").await;
        let mut config = world.container("talker", &["true"]);
        for path in ["../escaped.log", "/tmp/escaped.log"] {
            config.log_path = path.into();
            refused(
                world.create(&pod, config.clone()).await,
                Code::InvalidArgument,
                &["log_path"],
            );
        }
    });
}

#[test]
fn a_log_directory_that_is_missing_is_a_clear_error_or_made_never_a_lost_log() {
    world(async |world| {
        let mut config = world.pod_config("a");
        config.log_directory = world.node.path("logs/not/there").display().to_string();
        let pod = crate::common::Pod {
            id: world.try_pod(&config).await.unwrap(),
            config,
        };
        let config = world.container("talker", &["echo", "where"]);
        match world.create(&pod, config.clone()).await {
            Ok(id) => {
                world.start(&id).await.unwrap();
                assert_eq!(
                    log::read(world.ended(&id).await.log_path).0[0].text,
                    "where"
                );
            }
            Err(status) => {
                assert!(
                    status.message().contains("logs/not/there"),
                    "{}",
                    status.message()
                );
                assert_eq!(
                    world.container_ids(ContainerFilter::default()).await.len(),
                    0
                );
            }
        }
    });
}
