//! CRI: container logs. The format that kubelet reads, ReopenContainerLog, and what stays.

use crate::common::{log_lines, log_text, refused, run};
use cri::*;
use tonic::Code;

#[test]
fn a_last_line_without_an_end_is_kept() {
    run(async |world| {
        let pod = world.pod("a").await?;
        let config = world.container("talker", &["printf", "one\\ntwo"]).await?;
        let id = world.run(&pod, &config).await?;
        assert_eq!(log_text(world.exited(&id).await?.log_path)?, "one\ntwo\n");
        Ok(())
    });
}

#[test]
fn the_log_of_what_does_not_run_cannot_be_reopened_and_no_file_is_made() {
    run(async |world| {
        let pod = world.pod("a").await?;
        let config = world.container("short", &["true"]).await?;
        let id = world.run(&pod, &config).await?;
        let log = world.exited(&id).await?.log_path;
        std::fs::remove_file(&log)?;
        let reopen = |container_id: &str| ReopenContainerLogRequest {
            container_id: container_id.into(),
        };
        let outcome = world.cri.runtime.reopen_container_log(reopen(&id)).await;
        refused(outcome, Code::FailedPrecondition, &[&id]);
        assert!(!std::path::Path::new(&log).exists());
        let outcome = world
            .cri
            .runtime
            .reopen_container_log(reopen("0123456789abcdef"))
            .await;
        refused(outcome, Code::NotFound, &["0123456789abcdef"]);
        Ok(())
    });
}

#[test]
fn a_log_stays_when_its_container_and_pod_go() {
    run(async |world| {
        let pod = world.pod("a").await?;
        let config = world.container("talker", &["echo", "keep me"]).await?;
        let id = world.run(&pod, &config).await?;
        let log = world.exited(&id).await?.log_path;
        world.remove(&id).await?;
        world.remove_pod(&pod.id).await?;
        assert_eq!(log_lines(log)?[0].text, "keep me");
        Ok(())
    });
}

#[test]
fn a_log_path_that_leads_out_of_the_pods_directory_is_refused() {
    run(async |world| {
        let pod = world.pod("a").await?;
        let mut config = world.container("talker", &["true"]).await?;
        for path in ["../escaped.log", "/tmp/escaped.log"] {
            config.log_path = path.into();
            refused(
                world.create(&pod, &config).await,
                Code::InvalidArgument,
                &["log_path"],
            );
        }
        Ok(())
    });
}

#[test]
fn a_log_directory_that_is_missing_is_a_clear_error_or_made_never_a_lost_log() {
    run(async |world| {
        let mut config = world.pod_config("a");
        config.log_directory = world.node.path("logs/not/there").display().to_string();
        let pod = crate::common::Pod {
            id: world.run_pod(&config).await?,
            config,
        };
        let config = world.container("talker", &["echo", "where"]).await?;
        match world.run(&pod, &config).await {
            Ok(id) => assert_eq!(
                log_lines(world.exited(&id).await?.log_path)?[0].text,
                "where"
            ),
            Err(status) => {
                assert!(
                    status.message().contains("logs/not/there"),
                    "{}",
                    status.message()
                );
                assert_eq!(
                    world.container_ids(ContainerFilter::default()).await?.len(),
                    0
                );
            }
        }
        Ok(())
    });
}
