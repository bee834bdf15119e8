//! Image volumes (CRI Mount.image, image_sub_path) and options of mounts (mount_options).
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use crate::common::{World, image_spec, pod_security, refused, secured, world};
use crate::programs::with_program;
use crate::user_namespaces::{FIRST, range, users};
use cri::*;
use testkit::images::{Entry, layer};
use tonic::Code;

/// An image with a program, plain files and links that lead out of it; its name and id.
async fn data(world: &World) -> (String, String) {
    let program = std::fs::read("/bin/busybox").unwrap();
    let tar = layer(&[
        Entry::Dir("bin", 0o755),
        Entry::File("bin/echo", 0o755, &program),
        Entry::Dir("models", 0o755),
        Entry::Dir("models/a", 0o755),
        Entry::File("models/a/weights", 0o644, b"of a\n"),
        Entry::Symlink("models/latest", "/models/a"),
        Entry::Symlink("host", "/etc/hostname"),
        Entry::Symlink("up", "../../../../../../etc/passwd"),
        Entry::Symlink("loop", "loop"),
        Entry::Symlink("magic", "/proc/1/root"),
    ])
    .unwrap();
    let name = world
        .push("test/data:1", &[tar], serde_json::json!({}))
        .await;
    let id = world.pull(&name).await.unwrap();
    (name, id)
}

/// As kubelet sends one: the image by its id, and as its author wrote it.
pub(crate) fn volume(place: &str, (name, id): &(String, String), sub_path: &str) -> Mount {
    Mount {
        container_path: place.into(),
        readonly: true,
        image: Some(ImageSpec {
            user_specified_image: name.clone(),
            ..image_spec(id)
        }),
        image_sub_path: sub_path.into(),
        ..Default::default()
    }
}

pub(crate) fn with(world: &World, name: &str, mounts: Vec<Mount>) -> ContainerConfig {
    ContainerConfig {
        mounts,
        ..world.container(name, &["sleep", "1000"])
    }
}

async fn sh(world: &World, id: &str, script: &str) -> String {
    world.said(id, &["sh", "-c", script]).await
}

/// What the engine sees mounted below its state directory, of volumes.
fn mounted(world: &World) -> Vec<String> {
    let pid = world.node.engine_pid().unwrap();
    let table = std::fs::read_to_string(format!("/proc/{pid}/mountinfo")).unwrap();
    // Other tests have theirs.
    let own = world.node.path("run").display().to_string();
    let lines = table
        .lines()
        .filter(|line| line.contains("/volumes/") && line.contains(&own));
    lines.map(str::to_owned).collect()
}

/// The layers of volumes that the store holds.
fn held(world: &World) -> usize {
    let all = std::fs::read_dir(world.node.path("root/containers")).unwrap();
    let names = all.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    names.filter(|name| name.starts_with("volume-")).count()
}

#[test]
fn a_volume_has_the_files_of_its_image_and_nobody_writes_them() {
    world(async |world| {
        let image = data(world).await;
        let pod = world.pod("a").await;
        let mounts = vec![
            volume("/all", &image, ""),
            volume("/some", &image, "models/a"),
            volume("/followed", &image, "models/latest"),
            volume("/etc/weights", &image, "models/latest/weights"),
        ];
        let id = world.run(&pod, with(world, "c", mounts)).await;
        let all = "ls /all; cat /all/models/a/weights /some/weights /followed/weights /etc/weights; \
                   /all/bin/echo runs";
        assert_eq!(
            sh(world, &id, all).await,
            "bin\nhost\nloop\nmagic\nmodels\nup\nof a\nof a\nof a\nof a\nruns"
        );
        for write in [
            "touch /all/x",
            "rm /some/weights",
            "echo >/etc/weights",
            "mount -o remount,rw /all",
        ] {
            let answer = world.exec(&id, &["sh", "-c", write], 10).await.unwrap();
            assert_ne!(answer.exit_code, 0, "{write}");
        }
        let flags = sh(world, &id, "grep ' /all ' /proc/mounts").await;
        for flag in ["ro,", "nosuid", "nodev"] {
            assert!(flags.contains(flag), "{flags}");
        }
        assert!(!flags.contains("noexec"), "{flags}");
        let status = world.status(&id).await.unwrap();
        for (mount, sub_path) in status.mounts.iter().zip(["", "models/a"]) {
            let shown = mount.image.as_ref().unwrap();
            assert_eq!((&shown.image, &shown.image_ref), (&image.1, &image.1));
            assert_eq!(shown.user_specified_image, image.0);
            assert_eq!(mount.image_sub_path, sub_path);
            assert!(mount.readonly && mount.host_path.is_empty(), "{mount:?}");
        }
        // The node has them only while the container is made.
        assert_eq!(mounted(world), [""; 0]);
        world.remove_pod(&pod).await.unwrap();
        assert_eq!(held(world), 0);
    });
}

#[test]
fn a_sub_path_that_is_not_there_or_leads_out_of_the_image_is_refused_and_leaves_nothing() {
    world(async |world| {
        let image = data(world).await;
        let pod = world.pod("a").await;
        for (place, sub_path) in [
            "nothing",
            "host",
            "up",
            "loop",
            "magic",
            "models/a/weights/x",
        ]
        .iter()
        .enumerate()
        {
            let name = format!("c{place}");
            let mounts = vec![
                volume("/good", &image, "models"),
                volume("/bad", &image, sub_path),
            ];
            let status = world
                .create(&pod, with(world, &name, mounts))
                .await
                .unwrap_err();
            assert_eq!(
                status.code(),
                Code::InvalidArgument,
                "{sub_path}: {status:?}"
            );
            let said = status.message();
            assert!(said.starts_with("ImageVolumeMountFailed: "), "{said}");
            assert!(said.contains(sub_path) && said.contains(&image.0), "{said}");
        }
        let unknown = (image.0.clone(), "f".repeat(64));
        let config = with(world, "unknown", vec![volume("/bad", &unknown, "")]);
        let status = world.create(&pod, config).await.unwrap_err();
        assert_eq!(status.code(), Code::NotFound, "{status:?}");
        assert!(
            status.message().starts_with("ImageVolumeMountFailed: "),
            "{status:?}"
        );
        let mut writable = volume("/bad", &image, "");
        writable.readonly = false;
        let asked = world
            .create(&pod, with(world, "writable", vec![writable]))
            .await;
        refused(asked, Code::InvalidArgument, &["config.mounts[0].readonly"]);
        assert_eq!((mounted(world), held(world)), (Vec::new(), 0));
        let listed = world.container_ids(ContainerFilter::default()).await;
        assert_eq!(listed, [""; 0]);
    });
}

#[test]
fn an_image_stays_for_as_long_as_a_volume_shows_it_also_after_a_kill_of_the_engine() {
    world(async |world| {
        let image = data(world).await;
        let pod = world.pod("a").await;
        let mounts = vec![volume("/all", &image, "")];
        let id = world.run(&pod, with(world, "c", mounts)).await;
        world.node.kill().unwrap();
        world.serve_again().await;
        let status = world.remove_image(&image.0).await.unwrap_err();
        assert_eq!(status.code(), Code::FailedPrecondition, "{status:?}");
        assert!(status.message().contains(&id), "{status:?}");
        assert_eq!(sh(world, &id, "cat /all/models/a/weights").await, "of a");
        assert_eq!(
            world.status(&id).await.unwrap().mounts[0]
                .image
                .as_ref()
                .unwrap()
                .image,
            image.1
        );
        world.remove(&id).await.unwrap();
        assert_eq!(held(world), 0);
        world.remove_image(&image.0).await.unwrap();
        assert!(world.image_status(&image.1).await.unwrap().is_none());
    });
}

#[test]
fn a_kill_while_volumes_are_mounted_leaves_none_on_the_node() {
    world(async |world| {
        let image = data(world).await;
        let pod = world.pod("a").await;
        let mut cut = 0;
        for round in 0..24_u64 {
            let mounts = (0..40).map(|place| volume(&format!("/{place}"), &image, "models"));
            let config = with(world, &format!("c{round}"), mounts.collect());
            let making = world.create(&pod, config);
            let limit = std::time::Duration::from_millis(2 * round);
            cut += usize::from(tokio::time::timeout(limit, making).await.is_err());
            world.node.kill().unwrap();
            world.serve_again().await;
            assert_eq!(mounted(world), [""; 0], "round {round}");
            for id in world.container_ids(ContainerFilter::default()).await {
                world.remove(&id).await.unwrap();
            }
            assert_eq!(held(world), 0, "round {round}");
        }
        assert!(cut > 0, "no kill came in between");
    });
}

#[test]
fn root_of_a_pod_with_its_own_users_owns_the_files_of_its_volumes() {
    world(async |world| {
        let image = data(world).await;
        let (ids, users) = (range(FIRST), users(FIRST));
        let mut config = world.pod_config("a");
        pod_security(&mut config)
            .namespace_options
            .get_or_insert_default()
            .userns_options = users.clone();
        let pod = world.pod_of(config).await;
        let mapped = |name: &str, mut mounts: Vec<Mount>, ids: &[IdMapping]| {
            for mount in &mut mounts {
                (mount.uid_mappings, mount.gid_mappings) = (ids.to_vec(), ids.to_vec());
            }
            secured(with(world, name, mounts), |security| {
                let options = security.namespace_options.get_or_insert_default();
                options.userns_options = users.clone();
            })
        };
        let mounts = || {
            vec![
                volume("/all", &image, ""),
                volume("/some", &image, "models/a"),
                volume("/weights", &image, "models/a/weights"),
            ]
        };
        for (name, ids) in [("plain", &[][..]), ("mapped", &ids)] {
            let id = world.run(&pod, mapped(name, mounts(), ids)).await;
            let owners =
                "stat -c %u:%g /all /all/bin/echo /some/weights /weights | sort -u; cat /weights";
            assert_eq!(sh(world, &id, owners).await, "0:0\nof a", "{name}");
        }
        let other = [IdMapping {
            host_id: 3_000_000,
            ..ids[0]
        }];
        let asked = world.create(&pod, mapped("other", mounts(), &other)).await;
        refused(asked, Code::InvalidArgument, &["uidMappings"]);
        assert_eq!(mounted(world), [""; 0]);
        world.remove_pod(&pod).await.unwrap();
        assert_eq!(held(world), 0);
    });
}

#[test]
fn options_of_a_mount_hold_for_it() {
    world(async |world| {
        let status = world.runtime().status(StatusRequest::default()).await;
        let handlers = status.unwrap().into_inner().runtime_handlers;
        let features = handlers.iter().map(|one| one.features.as_ref().unwrap());
        assert!(features.clone().count() > 0 && features.clone().all(|one| one.mount_options));
        let image = data(world).await;
        let path = world.node.path("volume");
        std::fs::create_dir(&path).unwrap();
        std::fs::copy("/bin/busybox", path.join("echo")).unwrap();
        let host = |place: &str, options: &[&str]| Mount {
            container_path: place.into(),
            host_path: path.display().to_string(),
            mount_options: options.iter().map(|word| (*word).into()).collect(),
            ..Default::default()
        };
        let mut of_image = volume("/image", &image, "bin");
        of_image.mount_options = vec!["noexec".into()];
        let mounts = vec![
            host("/plain", &[]),
            host("/noexec", &["noexec"]),
            host("/all", &["nosuid", "nodev", "noexec", "nosuid"]),
            of_image,
        ];
        let pod = world.pod("a").await;
        let id = world.run(&pod, with(world, "c", mounts)).await;
        for (place, runs) in [
            ("plain", true),
            ("noexec", false),
            ("all", false),
            ("image", false),
        ] {
            let program = format!("/{place}/echo");
            let answer = world.exec(&id, &[&program, "x"], 10).await;
            let ran = answer.is_ok_and(|answer| answer.exit_code == 0);
            assert_eq!(ran, runs, "{place}");
        }
        let flags = sh(world, &id, "grep ' /all ' /proc/mounts; touch /all/new").await;
        for flag in ["nosuid", "nodev", "noexec"] {
            assert!(flags.contains(flag), "{flags}");
        }
        let shown = world.status(&id).await.unwrap().mounts;
        assert_eq!(shown[2].mount_options, ["nosuid", "nodev", "noexec"]);
        for bad in ["exec", "noatime", "size=1"] {
            let config = with(world, "bad", vec![host("/bad", &[bad])]);
            refused(
                world.create(&pod, config).await,
                Code::InvalidArgument,
                &["config.mounts[0].mount_options[0]"],
            );
        }
    });
}

fn by_program(name: &str) {
    with_program(name, async |world, name| {
        let image = data(world).await;
        let pod = world.try_pod_by(name, &world.pod_config("a")).await;
        let pod = pod.unwrap();
        let mut of_image = volume("/image", &image, "bin");
        of_image.mount_options = vec!["noexec".into()];
        let mounts = vec![
            of_image,
            volume("/weights", &image, "models/latest/weights"),
        ];
        let id = world.run(&pod, with(world, "c", mounts)).await;
        let seen = sh(world, &id, "ls /image; cat /weights").await;
        assert_eq!(seen, "echo\nof a");
        let flags = sh(world, &id, "grep ' /image ' /proc/mounts").await;
        assert!(flags.contains("ro,") && flags.contains("noexec"), "{flags}");
        assert_eq!(mounted(world), [""; 0]);
        world.remove_pod(&pod).await.unwrap();
        assert_eq!(held(world), 0);
    });
}

#[test]
fn volumes_and_options_reach_containers_that_runc_makes() {
    by_program("runc");
}

#[test]
fn volumes_and_options_reach_containers_that_crun_makes() {
    by_program("crun");
}
