//! CRI: ExecSync.

use crate::common::{refused, security, world};
use cri::*;
use tonic::Code;

#[test]
fn a_command_ended_by_a_signal_gives_128_and_the_signal() {
    world(async |world| {
        let pod = world.pod("a").await;
        let id = world.sleeper(&pod, "sleeper").await;
        let answer = world
            .exec(&id, &["sh", "-c", "kill -TERM $$"], 20)
            .await
            .unwrap();
        assert_eq!(answer.exit_code, 143);
    });
}

#[test]
fn a_command_runs_as_the_container_does() {
    world(async |world| {
        let pod = world.pod("a").await;
        let mut config = world.container("sleeper", &["sleep", "1000"]);
        config.working_dir = "/home".into();
        config.envs = vec![KeyValue {
            key: "GREETING".into(),
            value: b"moin".to_vec(),
        }];
        security(&mut config).run_as_user = Some(Int64Value { value: 33 });
        security(&mut config).no_new_privs = true;
        let id = world.run(&pod, config.clone()).await;
        let script = "id -u; pwd; echo $GREETING; grep NoNewPrivs /proc/self/status | tr -d '\\t'";
        assert_eq!(
            world.said(&id, &["sh", "-c", script]).await,
            "33\n/home\nmoin\nNoNewPrivs:1"
        );
    });
}

#[test]
fn a_request_that_cannot_be_meant_names_its_field() {
    world(async |world| {
        let pod = world.pod("a").await;
        let id = world.sleeper(&pod, "sleeper").await;
        refused(
            world.exec(&id, &[], 0).await,
            Code::InvalidArgument,
            &["cmd"],
        );
        refused(
            world.exec(&id, &["true"], -1).await,
            Code::InvalidArgument,
            &["timeout"],
        );
        refused(
            world.exec("", &["true"], 0).await,
            Code::InvalidArgument,
            &["container_id"],
        );
    });
}

#[test]
fn many_commands_run_at_once() {
    world(async |world| {
        let pod = world.pod("a").await;
        let id = world.sleeper(&pod, "sleeper").await;
        let mut tasks = tokio::task::JoinSet::new();
        for number in 0..16 {
            let (mut runtime, container_id) = (world.runtime(), id.clone());
            tasks.spawn(async move {
                let cmd = crate::common::words(&["sh", "-c", &format!("sleep 0.1; echo {number}")]);
                let answer = runtime
                    .exec_sync(ExecSyncRequest {
                        container_id,
                        cmd,
                        timeout: 60,
                    })
                    .await
                    .unwrap()
                    .into_inner();
                Ok::<_, tonic::Status>((number, answer))
            });
        }
        while let Some(done) = tasks.join_next().await {
            let (number, answer) = done.unwrap().unwrap();
            assert_eq!(
                String::from_utf8(answer.stdout).unwrap(),
                format!("{number}\n")
            );
        }
        let processes = world.said(&id, &["ps"]).await;
        assert!(!processes.contains('Z'), "zombies are left: {processes}");
    });
}
