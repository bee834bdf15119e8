//! CheckpointContainer, CheckpointPod and RestorePod as far as they need no criu that works: what is refused, by
//! which code, and that nothing is left of it. `systemd_checkpoint.rs` has the rest.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;

use crate::common::{World, refused, world, world_with};
use testkit::host::no_criu;
use tonic::{Code, Status};

/// Restores are allowed.
pub(crate) const RESTORES: &str =
    "[crio.checkpoint_restore]\ncontainer_level_enabled = \"checkpoint_restore\"";

pub(crate) async fn checkpoint(world: &World, id: &str, location: &Path) -> Result<(), Status> {
    let request = cri::CheckpointContainerRequest {
        container_id: id.to_owned(),
        location: location.display().to_string(),
        timeout: 0,
    };
    world
        .runtime()
        .checkpoint_container(request)
        .await
        .map(drop)
}

pub(crate) async fn checkpoint_pod(
    world: &World,
    pod: &str,
    ids: &[&str],
    directory: &Path,
) -> Result<(), Status> {
    let request = cri::CheckpointPodRequest {
        pod_sandbox_id: pod.to_owned(),
        output_path: directory.display().to_string(),
        container_ids: ids.iter().map(|id| (*id).to_owned()).collect(),
        options: Default::default(),
    };
    world.runtime().checkpoint_pod(request).await.map(drop)
}

/// A directory as kubelet would make it.
pub(crate) fn directory(world: &World, name: &str) -> std::path::PathBuf {
    let path = world.node.path(name);
    std::fs::create_dir(&path).unwrap();
    std::fs::set_permissions(&path, PermissionsExt::from_mode(0o700)).unwrap();
    path
}

pub(crate) fn names(directory: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(directory).unwrap();
    let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let mut names: Vec<String> = names.collect();
    names.sort();
    names
}

/// Nothing that was put together is left.
pub(crate) fn is_tidy(world: &World) {
    let staging = world.node.path("root").join("checkpoints");
    if staging.exists() {
        assert_eq!(names(&staging), Vec::<String>::new());
    }
}

#[test]
fn a_container_that_is_unknown_or_does_not_run_is_refused_by_its_code() {
    world(async |world| {
        let at = world.node.path("a.tar");
        refused(
            checkpoint(world, "nobody", &at).await,
            Code::NotFound,
            &["nobody"],
        );
        refused(
            checkpoint(world, "", &at).await,
            Code::InvalidArgument,
            &["container_id"],
        );
        let pod = world.pod("a").await;
        let made = world
            .create(&pod, world.container("c", &["true"]))
            .await
            .unwrap();
        let told = checkpoint(world, &made, &at).await;
        refused(told, Code::FailedPrecondition, &["not started"]);
        world.start(&made).await.unwrap();
        world.ended(&made).await;
        let told = checkpoint(world, &made, &at).await;
        refused(told, Code::FailedPrecondition, &["exited"]);
        let late = cri::CheckpointContainerRequest {
            container_id: made,
            location: at.display().to_string(),
            timeout: -1,
        };
        let told = world.runtime().checkpoint_container(late).await;
        refused(told, Code::InvalidArgument, &["timeout", "negative"]);
        assert!(!at.exists());
    });
}

#[test]
fn a_location_must_be_a_new_file_of_an_absolute_path() {
    world(async |world| {
        let pod = world.pod("a").await;
        let id = world.sleeper(&pod, "c").await;
        let there = world.node.path("there.tar");
        std::fs::write(&there, "kept").unwrap();
        let link = world.node.path("link.tar");
        symlink(&there, &link).unwrap();
        for (location, words) in [
            (Path::new(""), "empty"),
            (Path::new("relative.tar"), "absolute"),
            (&there, "exists already"),
            (&link, "exists already"),
            (&world.node.path("missing/a.tar"), "no directory"),
            (&world.node.path("logs/../a.tar"), "\"..\""),
        ] {
            let told = checkpoint(world, &id, location).await;
            refused(told, Code::InvalidArgument, &["location", words]);
        }
        assert_eq!(std::fs::read(&there).unwrap(), b"kept");
        is_tidy(world);
    });
}

#[test]
fn a_pod_is_written_down_with_exactly_its_running_containers_into_an_empty_directory() {
    world(async |world| {
        let pod = world.pod("a").await;
        let (c, d) = (
            world.sleeper(&pod, "c").await,
            world.sleeper(&pod, "d").await,
        );
        let over = world.run(&pod, world.container("over", &["true"])).await;
        world.ended(&over).await;
        let other = world.pod("b").await;
        let theirs = world.sleeper(&other, "e").await;
        let at = directory(world, "checkpoint");
        let invalid = Code::InvalidArgument;
        for (ids, code, words) in [
            (&[][..], invalid, "empty"),
            (&[c.as_str()], invalid, d.as_str()),
            (&[&c, &d, &c], invalid, "twice"),
            (&[&c, &d, &theirs], invalid, "another pod"),
            (&[&c, &d, &over], Code::FailedPrecondition, "exited"),
            (&[&c, &d[..12]], invalid, "no whole id"),
        ] {
            let told = checkpoint_pod(world, &pod, ids, &at).await;
            refused(told, code, &[words]);
        }
        let all = [c.as_str(), &d];
        let told = checkpoint_pod(world, "nobody", &all, &at).await;
        refused(told, Code::NotFound, &["nobody"]);
        std::fs::write(at.join("x"), "").unwrap();
        for (directory, words) in [
            (at.as_path(), "not empty"),
            (Path::new("relative"), "absolute"),
            (&world.node.path("missing"), "no directory"),
        ] {
            let told = checkpoint_pod(world, &pod, &all, directory).await;
            refused(told, invalid, &["output_path", words]);
        }
        std::fs::remove_file(at.join("x")).unwrap();
        let request = cri::CheckpointPodRequest {
            pod_sandbox_id: pod.to_string(),
            output_path: at.display().to_string(),
            container_ids: all.map(str::to_owned).into(),
            options: [("leave-running".to_owned(), "x".to_owned())].into(),
        };
        let told = world.runtime().checkpoint_pod(request).await;
        refused(told, invalid, &["options", "leave-running"]);
        assert_eq!(names(&at), Vec::<String>::new());
        // None of them has been held up.
        for id in all {
            world.exec(id, &["true"], 60).await.unwrap();
        }
    });
}

#[test]
fn a_criu_that_fails_is_told_in_its_words_and_everything_runs_on() {
    if no_criu().is_none() {
        eprintln!("SKIP: criu works here: systemd_checkpoint.rs is for that");
        return;
    }
    if !Path::new("/usr/sbin/criu").exists() {
        eprintln!("SKIP: needs criu (Debian: criu)");
        return;
    }
    world(async |world| {
        let pod = world.pod("a").await;
        let id = world.sleeper(&pod, "c").await;
        let at = world.node.path("a.tar");
        let told = checkpoint(world, &id, &at).await;
        refused(told, Code::Internal, &["checkpoint", &id, "criu"]);
        assert!(!at.exists());
        let at = directory(world, "checkpoint");
        let told = checkpoint_pod(world, &pod, &[&id], &at).await;
        refused(told, Code::Internal, &["checkpoint", &id, "criu"]);
        assert_eq!(names(&at), Vec::<String>::new());
        is_tidy(world);
        world.exec(&id, &["true"], 60).await.unwrap();
    });
}

#[test]
fn what_is_switched_off_is_unimplemented_and_status_says_so() {
    let off = "enable_criu_support = false".to_owned();
    let config = format!("[crio.runtime]\n{off}");
    // The table is there already: the key goes to the other name of it.
    let config = config.replace("[crio.", "[floe.");
    world_with(config, async |world| {
        let pod = world.pod("a").await;
        let id = world.sleeper(&pod, "c").await;
        let told = checkpoint(world, &id, &world.node.path("a.tar")).await;
        refused(told, Code::Unimplemented, &["enable_criu_support"]);
        let told = world
            .runtime()
            .status(cri::StatusRequest { verbose: true })
            .await;
        let info = told.unwrap().into_inner().info;
        let said: serde_json::Value = serde_json::from_str(&info["checkpoint"]).unwrap();
        assert_eq!(said["level"], "none");
    });
}

#[test]
fn a_restore_is_refused_where_it_is_off_and_without_a_checkpoint() {
    world(async |world| {
        let request = cri::RestorePodRequest {
            checkpoint_path: directory(world, "nothing").display().to_string(),
            config: Some(world.pod_config("a")),
            ..Default::default()
        };
        let told = world.runtime().restore_pod(request).await;
        refused(told, Code::Unimplemented, &["container_level_enabled"]);
    });
    world_with(RESTORES.to_owned(), async |world| {
        let restore = async |change: &dyn Fn(&mut cri::RestorePodRequest)| {
            let mut request = cri::RestorePodRequest {
                checkpoint_path: world.node.path("empty").display().to_string(),
                config: Some(world.pod_config("a")),
                ..Default::default()
            };
            change(&mut request);
            world.runtime().restore_pod(request).await
        };
        directory(world, "empty");
        let invalid = Code::InvalidArgument;
        refused(
            restore(&|_| ()).await,
            invalid,
            &["checkpoint_path", "no checkpoint"],
        );
        let told = restore(&|request| request.checkpoint_path.clear());
        refused(told.await, invalid, &["checkpoint_path", "empty"]);
        let told = restore(&|request| request.config = None);
        refused(told.await, invalid, &["config"]);
        let told = restore(&|request| request.runtime_handler = "nobody".into());
        refused(told.await, invalid, &["nobody"]);
        let told = restore(&|request| drop(request.options.insert("x".into(), "y".into())));
        refused(told.await, invalid, &["options"]);
        assert_eq!(
            world.pod_ids(cri::PodSandboxFilter::default()).await.len(),
            0
        );
    });
}
