//! CRI: what a container may be asked to be. Command, environment, user, mounts, devices and stop
//! signal, each seen from inside.

use crate::common::{World, image_spec, inside, log, refused, security, words, world};
use cri::*;
use tonic::Code;

#[test]
fn command_and_args_replace_the_images_as_kubernetes_says() {
    world(async |world| {
        let layers = [testkit::images::busybox().unwrap()];
        let config = serde_json::json!({ "Entrypoint": ["echo", "entry"], "Cmd": ["cmd"], "Env": ["PATH=/bin"] });
        let image = world.push("test/echo:1", &layers, config).await;
        world.pull(&image).await.unwrap();
        let pod = world.pod("a").await;
        let cases: [(&str, &[&str], &[&str], &str); 4] = [
            ("neither", &[], &[], "entry cmd"),
            ("args", &[], &["mine"], "entry mine"),
            ("command", &["echo", "my", "own"], &[], "my own"),
            ("both", &["echo", "my"], &["args"], "my args"),
        ];
        for (name, command, args, expected) in cases {
            let mut config = world.container(name, command);
            config.args = words(args);
            config.image = Some(image_spec(&image));
            assert_eq!(
                world.ran(&pod, config.clone()).await,
                (0, expected.to_owned()),
                "{name}"
            );
        }
    });
}

#[test]
fn environment_and_working_directory_are_the_images_with_the_requests_on_top() {
    world(async |world| {
        let pod = world.pod("a").await;
        let change = |config: &mut ContainerConfig| {
            config.working_dir = "/made/for/this".into();
            config.envs = vec![
                KeyValue {
                    key: "ONE".into(),
                    value: b"1 = eins".to_vec(),
                },
                KeyValue {
                    key: "TWICE".into(),
                    value: b"first".to_vec(),
                },
                KeyValue {
                    key: "TWICE".into(),
                    value: b"second".to_vec(),
                },
            ];
        };
        let script = "echo $FROM_IMAGE; echo $ONE; echo $TWICE; pwd; echo $HOME";
        let said = inside(world, &pod, "main", script, change).await;
        assert_eq!(said, "yes\n1 = eins\nsecond\n/made/for/this\n/root");
    });
}

#[test]
fn a_numeric_user_takes_group_and_groups_from_the_image_unless_told_otherwise() {
    world(async |world| {
        let pod = world.pod("a").await;
        let ids = "id -u; id -g; id -G";
        let merged = inside(world, &pod, "merged", ids, |config| {
            security(config).run_as_user = Some(Int64Value { value: 33 });
            security(config).supplemental_groups = vec![1234];
        });
        let merged = merged.await;
        let mut lines = merged.lines();
        assert_eq!((lines.next(), lines.next()), (Some("33"), Some("33")));
        let groups: Vec<&str> = lines.next().unwrap_or_default().split(' ').collect();
        assert!(
            groups.contains(&"1234") && groups.contains(&"4242"),
            "{groups:?}"
        );
        let strict = inside(world, &pod, "strict", ids, |config| {
            let security = security(config);
            security.run_as_user = Some(Int64Value { value: 33 });
            security.run_as_group = Some(Int64Value { value: 55 });
            security.supplemental_groups = vec![1234];
            security.supplemental_groups_policy = SupplementalGroupsPolicy::Strict.into();
        });
        assert_eq!(strict.await, "33\n55\n55 1234");
    });
}

#[test]
fn a_user_by_name_is_looked_up_in_the_image_and_shown_in_the_status() {
    world(async |world| {
        let pod = world.pod("a").await;
        let mut config = world.container("main", &["sleep", "1000"]);
        security(&mut config).run_as_username = "www-data".into();
        let id = world.run(&pod, config.clone()).await;
        assert_eq!(world.said(&id, &["id", "-u"]).await, "33");
        let user = world
            .status(&id)
            .await
            .unwrap()
            .user
            .and_then(|user| user.linux)
            .expect("no user");
        assert_eq!((user.uid, user.gid), (33, 33));
        assert!(user.supplemental_groups.contains(&4242), "{user:?}");
        config.metadata = Some(ContainerMetadata {
            name: "ghost".into(),
            attempt: 0,
        });
        security(&mut config).run_as_username = "ghost".into();
        refused(
            world.create(&pod, config.clone()).await,
            Code::InvalidArgument,
            &["ghost"],
        );
    });
}

#[test]
fn a_group_without_a_user_and_two_users_are_refused() {
    world(async |world| {
        let pod = world.pod("a").await;
        let mut config = world.container("main", &["true"]);
        security(&mut config).run_as_group = Some(Int64Value { value: 5 });
        refused(
            world.create(&pod, config.clone()).await,
            Code::InvalidArgument,
            &["run_as_group"],
        );
        security(&mut config).run_as_user = Some(Int64Value { value: 5 });
        security(&mut config).run_as_username = "www-data".into();
        refused(
            world.create(&pod, config.clone()).await,
            Code::InvalidArgument,
            &["run_as_user"],
        );
    });
}

#[test]
fn host_paths_are_mounted_as_asked_for_and_shown_in_the_status() {
    world(async |world| {
        let pod = world.pod("a").await;
        let data = world.node.path("data");
        std::fs::create_dir(&data).unwrap();
        std::fs::write(data.join("file"), "of the node").unwrap();
        std::os::unix::fs::symlink(&data, world.node.path("link")).unwrap();
        let mount = |container_path: &str, host_path: std::path::PathBuf, readonly| Mount {
            container_path: container_path.into(),
            host_path: host_path.display().to_string(),
            readonly,
            ..Default::default()
        };
        let mounts = vec![
            mount("/rw", data.clone(), false),
            mount("/ro", world.node.path("link"), true),
            mount("/one/file", data.join("file"), false),
        ];
        let script = "cat /ro/file /one/file; echo; echo inside > /rw/new; touch /ro/x 2>&1; true";
        let mut config = world.container("main", &["sh", "-c", script]);
        config.mounts = mounts.clone();
        let id = world.run(&pod, config.clone()).await;
        let status = world.ended(&id).await;
        let text = log::read(&status.log_path).text();
        assert!(
            text.starts_with("of the nodeof the node\n") && text.contains("Read-only file system"),
            "{text}"
        );
        assert_eq!(
            std::fs::read_to_string(data.join("new")).unwrap(),
            "inside\n"
        );
        assert_eq!(status.mounts, mounts);
    });
}

#[test]
fn a_missing_source_of_a_mount_is_an_error_until_somebody_makes_it() {
    world(async |world| {
        let pod = world.pod("a").await;
        let (missing, dangling) = (world.node.path("missing"), world.node.path("dangling"));
        std::os::unix::fs::symlink(world.node.path("nowhere"), &dangling).unwrap();
        let config = |world: &World, host: &std::path::Path| {
            let mut config = world.container("main", &["ls", "/data"]);
            config.mounts = vec![Mount {
                container_path: "/data".into(),
                host_path: host.display().to_string(),
                ..Default::default()
            }];
            config
        };
        for host in [&missing, &dangling] {
            let outcome = world.create(&pod, config(world, host)).await;
            let named = host.display().to_string();
            let words = ["mounts[/data].host_path", &named];
            refused(outcome, Code::InvalidArgument, &words);
        }
        assert!(!missing.exists() && !world.node.path("nowhere").exists());
        std::fs::create_dir(&missing).unwrap();
        std::fs::write(missing.join("late"), "").unwrap();
        let id = world.run(&pod, config(world, &missing)).await;
        let status = world.ended(&id).await;
        assert_eq!(log::read(&status.log_path).text(), "late\n");
    });
}

#[test]
fn recursive_read_only_reaches_what_is_mounted_below() {
    world(async |world| {
        let pod = world.pod("a").await;
        let mount = Mount {
            container_path: "/host-dev".into(),
            host_path: "/dev".into(),
            readonly: true,
            recursive_read_only: true,
            ..Default::default()
        };
        let script = "touch /host-dev/shm/x 2>&1 || true";
        let said = inside(world, &pod, "main", script, |config| {
            config.mounts = vec![mount]
        })
        .await;
        assert!(said.contains("Read-only file system"), "{said}");
    });
}

#[test]
fn a_device_of_the_node_is_given_with_its_permissions() {
    world(async |world| {
        let pod = world.pod("a").await;
        let device = Device {
            container_path: "/dev/my-full".into(),
            host_path: "/dev/full".into(),
            permissions: "rw".into(),
        };
        let script = "echo x > /dev/my-full; head -c 4 /dev/my-full | wc -c";
        let said = inside(world, &pod, "main", script, |config| {
            config.devices = vec![device.clone()]
        })
        .await;
        assert!(
            said.contains("No space left on device") && said.ends_with('4'),
            "{said}"
        );
        let mut config = world.container("bad", &["true"]);
        config.devices = vec![Device {
            permissions: "x".into(),
            ..device.clone()
        }];
        refused(
            world.create(&pod, config.clone()).await,
            Code::InvalidArgument,
            &["permissions"],
        );
        config.devices = vec![Device {
            host_path: "/dev/no-such".into(),
            ..device
        }];
        refused(
            world.create(&pod, config.clone()).await,
            Code::InvalidArgument,
            &["/dev/no-such"],
        );
    });
}

#[test]
fn the_stop_signal_is_the_requests_or_the_images_or_term() {
    world(async |world| {
        let layers = [testkit::images::busybox().unwrap()];
        let config =
            serde_json::json!({ "Cmd": ["sh"], "Env": ["PATH=/bin"], "StopSignal": "SIGUSR2" });
        let image = world.push("test/signal:1", &layers, config).await;
        world.pull(&image).await.unwrap();
        let pod = world.pod("a").await;
        let script = "for s in TERM USR1 USR2; do trap \"echo $s; exit 0\" $s; done; echo ready; \
                      while :; do sleep 0.05; done";
        let cases = [
            (
                "term",
                None,
                Signal::RuntimeDefault,
                Signal::Sigterm,
                "TERM",
            ),
            (
                "image",
                Some(&image),
                Signal::RuntimeDefault,
                Signal::Sigusr2,
                "USR2",
            ),
            (
                "request",
                Some(&image),
                Signal::Sigusr1,
                Signal::Sigusr1,
                "USR1",
            ),
        ];
        for (name, image, asked, shown, received) in cases {
            let mut config = world.container(name, &["sh", "-c", script]);
            config.stop_signal = asked.into();
            if let Some(image) = image {
                config.image = Some(image_spec(image));
            }
            let id = world.run(&pod, config.clone()).await;
            let status = world.status(&id).await.unwrap();
            assert_eq!(status.stop_signal(), shown, "{name}");
            while log::read(&status.log_path).0.is_empty() {
                tokio::time::sleep(std::time::Duration::from_millis(10)).await;
            }
            world.stop(&id, 60).await.unwrap();
            assert_eq!(log::read(&status.log_path).0[1].text, received, "{name}");
        }
    });
}
