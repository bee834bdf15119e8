//! ExecSync: a command in a running container, its output and its end.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use crate::common::{secured, world};
use tonic::Code;

#[test]
fn output_and_exit_code_come_back_stream_by_stream() {
    world(async |world| {
        let pod = world.pod("a").await;
        let id = world.run(&pod, world.config("c", &["sleep", "1000"])).await;
        let script = "echo out; echo err >&2; printf cut; exit 5";
        let answer = world.exec(&id, &["sh", "-c", script], 10).await.unwrap();
        assert_eq!(answer.stdout, b"out\ncut");
        assert_eq!(answer.stderr, b"err\n");
        assert_eq!(answer.exit_code, 5);
        let killed = world
            .exec(&id, &["sh", "-c", "kill -9 $$"], 10)
            .await
            .unwrap();
        assert_eq!(killed.exit_code, 137);
    });
}

#[test]
fn a_command_that_takes_too_long_is_killed_and_the_deadline_is_exceeded() {
    world(async |world| {
        let pod = world.pod("a").await;
        let id = world.run(&pod, world.config("c", &["sleep", "1000"])).await;
        let late = world.exec(&id, &["sleep", "777"], 1).await.unwrap_err();
        assert_eq!(late.code(), Code::DeadlineExceeded);
        world
            .until("the command is gone", async || {
                let processes = world.exec(&id, &["ps"], 10).await.unwrap().stdout;
                (!String::from_utf8(processes).unwrap().contains("777")).then_some(())
            })
            .await;
    });
}

#[test]
fn a_child_that_keeps_the_streams_open_does_not_hold_the_answer() {
    world(async |world| {
        let pod = world.pod("a").await;
        let id = world.run(&pod, world.config("c", &["sleep", "1000"])).await;
        let script = "sleep 600 & echo done";
        let answer = world.exec(&id, &["sh", "-c", script], 60).await.unwrap();
        assert_eq!(answer.stdout, b"done\n");
    });
}

#[test]
fn a_program_that_is_not_there_is_named() {
    world(async |world| {
        let pod = world.pod("a").await;
        let id = world.run(&pod, world.config("c", &["sleep", "1000"])).await;
        let refused = world.exec(&id, &["no-such-program"], 10).await;
        let status = refused.unwrap_err();
        assert_eq!(status.code(), Code::InvalidArgument);
        let expected = format!("exec in container {id}: ");
        assert!(status.message().starts_with(&expected), "{status:?}");
        assert!(status.message().contains("no-such-program"), "{status:?}");
        let empty = world.exec(&id, &[], 10).await.unwrap_err();
        assert_eq!(empty.code(), Code::InvalidArgument);
        assert!(empty.message().contains("cmd"), "{empty:?}");
    });
}

#[test]
fn only_a_running_container_takes_commands() {
    world(async |world| {
        let pod = world.pod("a").await;
        let created = world
            .create(&pod, world.config("created", &["sleep", "1000"]))
            .await
            .unwrap();
        let refused = world.exec(&created, &["true"], 10).await.unwrap_err();
        assert_eq!(refused.code(), Code::FailedPrecondition);
        let ended = world.run(&pod, world.config("ended", &["true"])).await;
        world.ended(&ended).await;
        let refused = world.exec(&ended, &["true"], 10).await.unwrap_err();
        assert_eq!(refused.code(), Code::FailedPrecondition);
        let unknown = world
            .exec(&"0".repeat(64), &["true"], 10)
            .await
            .unwrap_err();
        assert_eq!(unknown.code(), Code::NotFound);
        let negative = world.exec(&created, &["true"], -1).await.unwrap_err();
        assert_eq!(negative.code(), Code::InvalidArgument);
    });
}

#[test]
fn output_beyond_what_a_client_takes_is_discarded_and_the_command_ends_well() {
    world(async |world| {
        let pod = world.pod("a").await;
        let id = world.run(&pod, world.config("c", &["sleep", "1000"])).await;
        // What kubelet and crictl accept.
        let mut client = world.runtime().max_decoding_message_size(16 << 20);
        let mut exec = async |script: &str| {
            let request = cri::ExecSyncRequest {
                container_id: id.clone(),
                cmd: ["sh", "-c", script].map(str::to_owned).to_vec(),
                timeout: 60,
            };
            client.exec_sync(request).await.unwrap().into_inner()
        };
        let both = "head -c 20971520 /dev/zero; head -c 20971520 /dev/zero >&2";
        let answer = exec(both).await;
        let kept = answer.stdout.len() + answer.stderr.len();
        assert_eq!(answer.stdout.len(), answer.stderr.len());
        assert!(kept < 16 << 20 && kept > 15 << 20, "{kept}");
        assert_eq!(answer.exit_code, 0);
        let one = "head -c 20971520 /dev/zero; echo why >&2";
        let answer = exec(one).await;
        assert!(answer.stdout.len() > 15 << 20, "{}", answer.stdout.len());
        assert_eq!(answer.stderr, b"why\n");
    });
}

#[test]
fn a_command_runs_as_the_containers_user_with_its_environment() {
    world(async |world| {
        let pod = world.pod("a").await;
        let mut config = secured(world.config("c", &["sleep", "1000"]), |context| {
            context.run_as_user = Some(cri::Int64Value { value: 1234 });
            context.no_new_privs = true;
        });
        config.envs = vec![cri::KeyValue {
            key: "MINE".into(),
            value: b"yes".into(),
        }];
        config.working_dir = "/tmp".into();
        let id = world.run(&pod, config).await;
        let script = "id -u; echo $MINE; pwd; grep -c NoNewPrivs:.1 /proc/self/status";
        let answer = world.exec(&id, &["sh", "-c", script], 10).await.unwrap();
        assert_eq!(
            String::from_utf8(answer.stdout).unwrap(),
            "1234\nyes\n/tmp\n1\n"
        );
    });
}
