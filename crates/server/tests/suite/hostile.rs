//! Requests and images that mean harm, or are only large: refused by field, or served in time that
//! grows with their size; nothing of an image is obeyed but what the image-spec says.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::path::Path;

use crate::common::{World, secured, world};
use testkit::images::{self, Entry};
use tonic::Code;

fn device(host: &Path, container: &str) -> cri::Device {
    cri::Device {
        host_path: host.display().to_string(),
        container_path: container.to_owned(),
        permissions: "rwm".to_owned(),
    }
}

fn make_null(path: &Path) {
    let kind = rustix::fs::FileType::CharacterDevice;
    let device = rustix::fs::makedev(1, 3);
    rustix::fs::mknodat(rustix::fs::CWD, path, kind, 0o666.into(), device).unwrap();
}

#[test]
fn devices_of_a_whole_directory_are_given_and_no_link_below_it_is_followed() {
    world(async |world| {
        let pod = world.pod("a").await;
        let dir = world.node.path("devices");
        std::fs::create_dir_all(dir.join("below")).unwrap();
        make_null(&dir.join("one"));
        make_null(&dir.join("below/two"));
        for (to, name) in [(".", "loop"), ("/proc/self/fd", "fd"), ("/dev", "dev")] {
            std::os::unix::fs::symlink(to, dir.join(name)).unwrap();
        }
        let mut config = world.script("c", "cd /dev/given && find . -type c | sort; echo x > one");
        config.devices = vec![device(&dir, "/dev/given")];
        let (output, status) = world.output(&pod, config).await;
        assert_eq!(
            (output.as_str(), status.exit_code),
            ("./below/two\n./one\n", 0)
        );
        // The node's own /dev, with its links to /proc, to a place of its own and in place.
        let mut config = world.script("d", "ls /dev/node; test -c /dev/null && echo well");
        config.devices = vec![
            device(Path::new("/dev"), "/dev/node"),
            device(Path::new("/dev"), "/dev"),
        ];
        let (output, status) = world.output(&pod, config).await;
        assert_eq!(status.exit_code, 0, "{status:?}");
        let names: Vec<&str> = output.lines().collect();
        assert!(
            names.contains(&"zero") && names.contains(&"well"),
            "{output}"
        );
        assert!(
            !names.contains(&"fd") && !names.contains(&"stdin"),
            "{output}"
        );
    });
}

#[test]
fn too_many_devices_are_refused_by_field() {
    world(async |world| {
        let pod = world.pod("a").await;
        let dir = world.node.path("devices");
        std::fs::create_dir(&dir).unwrap();
        for number in 0..5000 {
            make_null(&dir.join(number.to_string()));
        }
        let mut config = world.config("c", &["true"]);
        config.devices = vec![device(&dir, "/dev/many")];
        let refused = world.create(&pod, config.clone()).await.unwrap_err();
        assert_eq!(refused.code(), Code::InvalidArgument, "{refused}");
        assert!(refused.message().contains("devices"), "{refused}");
        config.devices = vec![device(Path::new("/dev/null"), "/dev/x"); 20_000];
        let refused = world.create(&pod, config).await.unwrap_err();
        assert_eq!(refused.code(), Code::InvalidArgument, "{refused}");
        assert!(world.pod_status(&pod).await.is_ok());
    });
}

#[test]
fn thousands_of_variables_reach_the_container_and_each_exec() {
    world(async |world| {
        let pod = world.pod("a").await;
        let mut config = world.script(
            "c",
            "env | grep -c SERVICE_; echo $SERVICE_6999; sleep 1000",
        );
        let variable = |key: String, value: &str| cri::KeyValue {
            key,
            value: value.as_bytes().to_vec(),
        };
        // As the service links of a large namespace; each of the first ten comes twice.
        let names = (0..7000).chain(0..10);
        config.envs = names
            .map(|number| variable(format!("SERVICE_{number}"), "tcp://10.0.0.1:80"))
            .collect();
        let id = world.run(&pod, config).await;
        let exec = async |script: &str| {
            let said = world.exec(&id, &["sh", "-c", script], 60).await.unwrap();
            String::from_utf8(said.stdout).unwrap()
        };
        assert_eq!(exec("env | grep -c SERVICE_").await, "7000\n");
        assert_eq!(
            exec("echo $SERVICE_0 $FROM_IMAGE").await,
            "tcp://10.0.0.1:80 yes\n"
        );
        let log = world.status(&id).await.unwrap().log_path;
        let log = crate::common::log::read(log).of("stdout");
        assert_eq!(log, "7000\ntcp://10.0.0.1:80\n");
    });
}

#[test]
fn pods_of_more_than_can_be_meant_are_refused_by_field() {
    world(async |world| {
        let mut config = world.pod_config("a");
        let sysctls = (0..10_000).map(|number| (format!("net.ipv4.x{number}"), "1".to_owned()));
        config.linux.get_or_insert_default().sysctls = sysctls.collect();
        let refused = world.try_pod(&config).await.unwrap_err();
        assert_eq!(refused.code(), Code::InvalidArgument, "{refused}");
        assert!(refused.message().contains("sysctls"), "{refused}");
        let mut config = world.pod_config("a");
        let value = "1 ".repeat(4000);
        config.linux.get_or_insert_default().sysctls =
            [("net.ipv4.ip_local_port_range".to_owned(), value)].into();
        let refused = world.try_pod(&config).await.unwrap_err();
        assert_eq!(refused.code(), Code::InvalidArgument, "{refused}");
        world.pod("a").await;
    });
}

/// An image of busybox and these files, with this configuration, on the node.
async fn image(
    world: &World,
    name: &str,
    entries: &[Entry<'_>],
    config: serde_json::Value,
) -> String {
    let name = format!("{}/hostile/{name}:1", world.registry.host());
    let client = images::client(&[&world.registry.host()]).unwrap();
    let layers = [images::busybox().unwrap(), images::layer(entries).unwrap()];
    images::push(&client, &name, &layers, config).await.unwrap();
    world.pull(&name).await.unwrap();
    name
}

#[test]
fn an_images_labels_and_variables_are_never_obeyed() {
    world(async |world| {
        let pod = world.pod("a").await;
        let keys = [
            "io.kubernetes.cri-o.Volumes",
            "io.kubernetes.cri-o.ContainerID",
            "io.kubernetes.cri-o.SandboxID",
            "io.kubernetes.cri-o.userns-mode",
            "io.kubernetes.cri-o.Devices",
            "io.kubernetes.cri-o.TrySkipVolumeSELinuxLabel",
            "io.kubernetes.container.name",
            "io.containerd.image.config.stop-signal",
            "run.oci.hooks.stderr",
            "run.oci.handler",
            "org.systemd.property.CPUWeight",
            "module.wasm.image/variant",
        ];
        let mut labels: serde_json::Map<String, serde_json::Value> = keys
            .iter()
            .map(|key| ((*key).to_owned(), "/etc".into()))
            .collect();
        labels.insert("line\nbreak".to_owned(), "x\nroot:x:0:0".into());
        let config = serde_json::json!({
            "Labels": labels,
            "Env": [
                "PATH=/bin",
                "HOME=/x\nevil:x:0:0::/:/bin/sh",
                "LD_PRELOAD=/evil.so",
                "LD_LIBRARY_PATH=/evil",
                "io.kubernetes.cri-o.Volumes=/etc",
                "NOTIFY_SOCKET=/evil",
            ],
            "WorkingDir": "/work\ndir",
            "Cmd": ["sh"],
        });
        let name = image(world, "labels", &[Entry::Dir("etc", 0o755)], config).await;
        let mut config = world.script("c", "grep -c evil /etc/passwd; echo \"$HOME\"; pwd");
        config.image = Some(crate::common::image_spec(&name));
        let id = world.run(&pod, config).await;
        let status = world.ended(&id).await;
        let said = crate::common::log::read(&status.log_path).of("stdout");
        assert_eq!(said, "0\n/x\nevil:x:0:0::/:/bin/sh\n/work\ndir\n");
        assert!(status.labels.is_empty() && status.annotations.is_empty());
        let spec = &world.info(&id).await["runtimeSpec"];
        let annotations = spec["annotations"].as_object().unwrap();
        for (key, value) in annotations {
            assert_ne!(value, "/etc", "{key}");
            assert!(!key.contains('\n'), "{key}");
        }
        assert_eq!(annotations["io.kubernetes.cri-o.ContainerID"], id.as_str());
        assert!(spec["hooks"].is_null() || spec["hooks"] == serde_json::json!({}));
        assert!(!std::path::Path::new("/work\ndir").exists());
    });
}

#[test]
fn a_working_directory_is_made_inside_the_root_wherever_its_path_leads() {
    world(async |world| {
        let pod = world.pod("a").await;
        let outside = world.node.path("outside");
        std::fs::create_dir(&outside).unwrap();
        let up = "../".repeat(20);
        let target = format!(
            "{up}{}",
            outside.display().to_string().trim_start_matches('/')
        );
        let absolute = outside.display().to_string();
        let links = [
            Entry::Symlink("up", &target),
            Entry::Symlink("out", &absolute),
        ];
        for (name, dir) in [
            ("up", "/up/made".to_owned()),
            ("out", "/out/made".to_owned()),
            ("dots", format!("/{target}/made")),
        ] {
            let config = serde_json::json!({ "WorkingDir": dir, "Env": ["PATH=/bin"] });
            let named = image(world, name, &links, config).await;
            let mut config = world.config(name, &["pwd"]);
            config.image = Some(crate::common::image_spec(&named));
            // Refused or made inside: the node sees nothing of it.
            if let Ok(id) = world.create(&pod, config).await
                && world.start(&id).await.is_ok()
            {
                world.ended(&id).await;
            }
            assert_eq!(std::fs::read_dir(&outside).unwrap().count(), 0, "{dir}");
        }
    });
}

#[test]
fn a_user_that_the_image_spec_does_not_know_is_refused_and_never_root() {
    world(async |world| {
        let pod = world.pod("a").await;
        for (number, user) in ["+0", ":", ":0", "0:", "0x0", "-0", "root\n"]
            .iter()
            .enumerate()
        {
            let config = serde_json::json!({ "User": user, "Env": ["PATH=/bin"] });
            let name = image(world, &format!("user-{number}"), &[], config).await;
            let mut config = world.config("c", &["true"]);
            config.image = Some(crate::common::image_spec(&name));
            let refused = world.create(&pod, config).await.unwrap_err();
            assert_eq!(refused.code(), Code::InvalidArgument, "{user:?}: {refused}");
        }
    });
}

#[test]
fn the_groups_of_an_images_user_come_along_as_kubelets_policy_says() {
    world(async |world| {
        let pod = world.pod("a").await;
        let files = [
            Entry::Dir("etc", 0o755),
            Entry::File("etc/passwd", 0o644, b"root:x:0:0::/:\nwww:x:33:34::/:\n"),
            Entry::File("etc/group", 0o644, b"more:x:41:www\nusers:x:100:\n"),
        ];
        let config = serde_json::json!({ "User": "www:users", "Env": ["PATH=/bin"] });
        let name = image(world, "groups", &files, config).await;
        for (policy, groups) in [
            (cri::SupplementalGroupsPolicy::Merge, "100 5 41\n"),
            (cri::SupplementalGroupsPolicy::Strict, "100 5\n"),
        ] {
            let config = world.config(&format!("{policy:?}").to_lowercase(), &["id", "-G"]);
            let mut config = secured(config, |security| {
                security.set_supplemental_groups_policy(policy);
                security.supplemental_groups = vec![5];
            });
            config.image = Some(crate::common::image_spec(&name));
            assert_eq!(world.output(&pod, config).await.0, groups, "{policy:?}");
        }
    });
}

#[test]
fn the_pods_shared_memory_is_not_for_programs() {
    world(async |world| {
        let pod = world.pod("a").await;
        let script = "grep ' /dev/shm ' /proc/mounts; ls -ld /dev/shm; cp /bin/sh /dev/shm/x && /dev/shm/x -c true";
        let (output, status) = world.output(&pod, world.script("c", script)).await;
        for option in ["nosuid", "nodev", "noexec", "drwxrwxrwt"] {
            assert!(output.contains(option), "no {option} in {output}");
        }
        assert_eq!(status.exit_code, 126);
    });
}
