//! Keys of crio.conf that change what containers get: hook directories, workloads, the time zone, pinned images
//! and insecure registries.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use testkit::NodeOptions;

use crate::common::{World, world, world_on, world_with};
use crate::reload::RELOADED;

/// Writes an executable script.
fn program(path: &Path, script: &str) {
    std::fs::write(path, format!("#!/bin/sh\n{script}\n")).unwrap();
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755)).unwrap();
}

#[test]
fn hooks_of_a_directory_run_for_the_containers_that_they_are_for() {
    let dir = tempfile::tempdir().unwrap();
    let hooks = dir.path().join("hooks.d");
    let config = format!("[floe.runtime]\nhooks_dir = ['{}']\n", hooks.display());
    world_with(config, async |world: &mut World| {
        let said = dir.path().join("said");
        let hook = dir.path().join("hook");
        program(
            &hook,
            &format!("cat > /dev/null; echo \"$1 $WORD\" >> {}", said.display()),
        );
        std::fs::create_dir(&hooks).unwrap();
        let file = |name: &str, when: &str, stages: &str| {
            let text = format!(
                r#"{{"version": "1.0.0", "hook": {{"path": "{0}", "args": ["hook", "{name}"], "env": ["WORD=w"]}},
                    "when": {when}, "stages": {stages}}}"#,
                hook.display()
            );
            std::fs::write(hooks.join(format!("{name}.json")), text).unwrap();
        };
        file("all", r#"{"always": true}"#, r#"["prestart", "poststop"]"#);
        file(
            "marked",
            r#"{"annotations": {"^test/hook$": "^yes$"}}"#,
            r#"["createRuntime"]"#,
        );
        world.logged(RELOADED, 1).await;
        let pod = world.pod("a").await;
        let run = async |world: &World, name: &str, marked: &str| {
            let _ = std::fs::remove_file(&said);
            let mut config = world.script(name, "true");
            config.annotations.insert("test/hook".into(), marked.into());
            let (code, _) = world.ran(&pod, config).await;
            assert_eq!(code, 0);
            let all = std::fs::read_to_string(&said).unwrap_or_default();
            let mut all: Vec<String> = all.lines().map(str::to_owned).collect();
            all.sort();
            all
        };
        let with = run(world, "with", "yes").await;
        assert!(with.contains(&"marked w".to_owned()), "{with:?}");
        assert!(with.contains(&"all w".to_owned()), "{with:?}");
        let without = run(world, "without", "no").await;
        assert!(!without.contains(&"marked w".to_owned()), "{without:?}");
        assert!(without.contains(&"all w".to_owned()), "{without:?}");
        // One that cannot be used changes nothing, and is named.
        std::fs::write(hooks.join("bad.json"), "{").unwrap();
        world
            .until("the bad hook is named", async || {
                let log = world.node.log();
                (log.contains("stays as it was") && log.contains("bad.json")).then_some(())
            })
            .await;
        assert!(
            run(world, "still", "yes")
                .await
                .contains(&"marked w".to_owned())
        );
        std::fs::remove_dir_all(&hooks).unwrap();
    });
}

#[test]
fn containers_of_a_workload_get_its_resources_and_their_own_annotations() {
    let config = "[crio.runtime.workloads.management]\nactivation_annotation = 'test/management'\n\
                  annotation_prefix = 'resources.test'\nresources = { cpushares = 7, cpuset = '0' }\n";
    world_with(config.to_owned(), async |world: &mut World| {
        let mut marked = world.pod_config("marked");
        marked
            .annotations
            .insert("test/management".into(), String::new());
        marked.annotations.insert(
            "resources.test/own".into(),
            r#"{"cpushares": 9, "cpulimit": 500}"#.into(),
        );
        marked
            .annotations
            .insert("resources.test/bad".into(), "[".into());
        let pod = world.pod_of(marked).await;
        let plain = world.pod("plain").await;
        let cpu = async |world: &World, pod: &crate::common::Pod, name: &str| {
            let id = world.sleeper(pod, name).await;
            world.info(&id).await["runtimeSpec"]["linux"]["resources"]["cpu"].clone()
        };
        let defaults = cpu(world, &pod, "c").await;
        assert_eq!(
            (defaults["shares"].as_u64(), defaults["cpus"].as_str()),
            (Some(7), Some("0"))
        );
        let own = cpu(world, &pod, "own").await;
        assert_eq!(
            (own["shares"].as_u64(), own["quota"].as_i64()),
            (Some(9), Some(50_000))
        );
        let none = cpu(world, &plain, "c").await;
        assert_ne!(none["shares"].as_u64(), Some(7));
        let refused = world
            .create(&pod, world.script("bad", "true"))
            .await
            .unwrap_err();
        assert_eq!(refused.code(), tonic::Code::InvalidArgument);
        assert!(
            refused.message().contains("resources.test/bad"),
            "{refused}"
        );
    });
}

#[test]
fn containers_have_the_time_zone_unless_they_mount_one() {
    let zone = ["Asia/Tokyo", "Etc/UTC", "UTC"]
        .into_iter()
        .find(|zone| Path::new("/usr/share/zoneinfo").join(zone).is_file());
    let Some(zone) = zone else {
        eprintln!("SKIP: no tzdata on this node");
        return;
    };
    let config = format!("[floe.runtime]\ntimezone = '{zone}'\n");
    world_with(config, async |world: &mut World| {
        let pod = world.pod("a").await;
        let (code, said) = world
            .ran(&pod, world.script("c", "md5sum < /etc/localtime"))
            .await;
        assert_eq!(code, 0, "{said}");
        let sum = |path: &Path| {
            let file = std::fs::File::open(path).unwrap();
            let sum = std::process::Command::new("md5sum")
                .stdin(file)
                .output()
                .unwrap();
            String::from_utf8(sum.stdout).unwrap().trim().to_owned()
        };
        assert_eq!(
            said.trim(),
            sum(&Path::new("/usr/share/zoneinfo").join(zone))
        );
        let mut own = world.script("own", "md5sum < /etc/localtime");
        let file = world.node.path("own");
        std::fs::write(&file, "mine").unwrap();
        own.mounts.push(cri::Mount {
            container_path: "/etc/localtime".into(),
            host_path: file.display().to_string(),
            ..cri::Mount::default()
        });
        assert_eq!(world.ran(&pod, own).await.1.trim(), sum(&file));
    });
}

#[test]
fn pinned_images_are_said_to_be_and_follow_the_configuration() {
    world(async |world: &mut World| {
        let pinned = async |world: &World| {
            let all = world.image_list().await;
            all.iter().map(|image| image.pinned).collect::<Vec<_>>()
        };
        assert_eq!(pinned(world).await, [false]);
        let dir = world.node.path("floe.toml.d");
        std::fs::create_dir(&dir).unwrap();
        let exact = world.image.clone();
        for (number, (pattern, is_pinned)) in [
            (exact.as_str(), true),
            ("*BusyBox*", true),
            ("busybox", false),
            ("127.0.0.1*", true),
        ]
        .into_iter()
        .enumerate()
        {
            let text = format!("[crio.image]\npinned_images = ['{pattern}', '']\n");
            std::fs::write(dir.join("new"), text).unwrap();
            std::fs::rename(dir.join("new"), dir.join("10.toml")).unwrap();
            let reloaded = || world.node.log().matches("crio.image.pinned_images").count();
            world
                .until("it is reloaded", async || {
                    (reloaded() > number).then_some(())
                })
                .await;
            assert_eq!(pinned(world).await, [is_pinned], "{pattern}");
            let status = world.image_status(&exact).await.unwrap().unwrap();
            assert_eq!(status.pinned, is_pinned, "{pattern}");
        }
    });
}

#[test]
fn an_insecure_registry_is_reached_over_plain_http() {
    let options = |registry: &testkit::Registry| NodeOptions {
        config: format!(
            "[floe.image]\ninsecure_registries = ['{}']\n",
            registry.host()
        ),
        ..NodeOptions::default()
    };
    world_on(options, async |world: &mut World| {
        // The test's own registries.conf has it, too: without, the key alone counts.
        let file = world.node.path("registries.conf");
        std::fs::write(&file, "").unwrap();
        world.logged(RELOADED, 1).await;
        let image = world.image.clone();
        world.remove_image(&image).await.unwrap();
        world.pull(&image).await.unwrap();
    });
}
