//! CRI: the life of containers. Create, Start, Stop, Remove, Status, List and Stream; what a
//! container may be asked to be is in `cri_container_config.rs`.

use crate::common::{refused, world};
use cri::*;
use tonic::Code;

#[test]
fn a_file_that_cannot_be_executed_shows_as_126() {
    world(async |world| {
        let pod = world.pod("a").await;
        let config = world.container("main", &["/etc/passwd"]);
        let id = world.create(&pod, config.clone()).await.unwrap();
        assert!(world.start(&id).await.is_err());
        assert_eq!(world.status(&id).await.unwrap().exit_code, 126);
    });
}

#[test]
fn a_running_container_is_removed_with_its_processes_and_its_name_is_free() {
    world(async |world| {
        let pod = world.pod("a").await;
        let config = world.container("main", &["sh", "-c", "sleep 1234567 & sleep 1234567"]);
        let id = world.run(&pod, config.clone()).await;
        world.remove(&id).await.unwrap();
        assert_eq!(testkit::leftovers::processes("sleep 1234567"), []);
        assert_ne!(world.create(&pod, config.clone()).await.unwrap(), id);
    });
}

#[test]
fn a_container_that_was_never_started_can_be_stopped_and_removed() {
    world(async |world| {
        let pod = world.pod("a").await;
        let config = world.container("main", &["sleep", "1000"]);
        let id = world.create(&pod, config.clone()).await.unwrap();
        world.stop(&id, 1).await.unwrap();
        world.remove(&id).await.unwrap();
        assert_eq!(
            world.container_ids(ContainerFilter::default()).await.len(),
            0
        );
    });
}

#[test]
fn lists_and_streams_show_the_image_as_asked_for_and_by_the_id_that_pull_gave() {
    world(async |world| {
        let pod = world.pod("a").await;
        let image = world.image.clone();
        let image_id = world.pull(&image).await.unwrap();
        let id = world.sleeper(&pod, "main").await;
        let request = ListContainersRequest { filter: None };
        let listed = world
            .runtime()
            .list_containers(request)
            .await
            .unwrap()
            .into_inner()
            .containers;
        assert_eq!(listed.len(), 1);
        assert_eq!((&listed[0].id, &listed[0].pod_sandbox_id), (&id, &pod.id));
        assert_eq!(listed[0].image_id, image_id);
        assert_eq!(listed[0].image.clone().unwrap_or_default().image, image);
        let mut stream = world
            .runtime()
            .stream_containers(StreamContainersRequest::default())
            .await
            .unwrap()
            .into_inner();
        let mut streamed = Vec::new();
        while let Some(chunk) = stream.message().await.unwrap() {
            streamed.extend(chunk.containers);
        }
        assert_eq!(streamed, listed);
        let status = world.status(&id).await.unwrap();
        assert_eq!(status.image_id, image_id);
        assert!(
            status.image_ref.contains("@sha256:"),
            "{}",
            status.image_ref
        );
    });
}

#[test]
fn a_container_may_be_made_from_an_image_by_id_tag_or_digest() {
    world(async |world| {
        let pod = world.pod("a").await;
        let tag = world.image.clone();
        let record = world.image_status(&tag).await.unwrap().expect("no image");
        let names = [record.id.clone(), tag, record.repo_digests[0].clone()];
        for (number, name) in names.iter().enumerate() {
            let mut config = world.container(&format!("c{number}"), &["true"]);
            config.image = Some(crate::common::image_spec(name));
            let id = world.run(&pod, config.clone()).await;
            let status = world.ended(&id).await;
            assert_eq!(
                (status.exit_code, status.image_id),
                (0, record.id.clone()),
                "{name}"
            );
        }
    });
}

#[test]
fn a_request_that_cannot_be_meant_names_its_field_and_leaves_no_container() {
    world(async |world| {
        let pod = world.pod("a").await;
        let usual = world.container("main", &["true"]);
        let changed = |change: &dyn Fn(&mut ContainerConfig)| {
            let mut config = usual.clone();
            change(&mut config);
            config
        };
        let mount = |mount: Mount| changed(&|config| config.mounts = vec![mount.clone()]);
        let usual_mount = Mount {
            container_path: "/mnt".into(),
            host_path: "/tmp".into(),
            ..Default::default()
        };
        let cases = [
            (changed(&|config| config.metadata = None), "metadata"),
            (changed(&|config| config.image = None), "image"),
            (
                changed(&|config| config.image = Some(ImageSpec::default())),
                "image",
            ),
            (changed(&|config| config.stop_signal = 1000), "stop_signal"),
            (
                mount(Mount {
                    container_path: String::new(),
                    ..usual_mount.clone()
                }),
                "container_path",
            ),
            (
                mount(Mount {
                    host_path: "relative".into(),
                    ..usual_mount.clone()
                }),
                "host_path",
            ),
            (
                mount(Mount {
                    propagation: 9,
                    ..usual_mount.clone()
                }),
                "propagation",
            ),
            (
                mount(Mount {
                    recursive_read_only: true,
                    ..usual_mount
                }),
                "recursive_read_only",
            ),
        ];
        for (config, field) in cases {
            refused(
                world.create(&pod, config.clone()).await,
                Code::InvalidArgument,
                &[field],
            );
        }
        let empty = CreateContainerRequest {
            pod_sandbox_id: pod.id.clone(),
            ..Default::default()
        };
        refused(
            world.runtime().create_container(empty).await,
            Code::InvalidArgument,
            &["config"],
        );
        assert_eq!(
            world.container_ids(ContainerFilter::default()).await.len(),
            0
        );
    });
}
