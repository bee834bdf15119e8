//! OCI artifacts: pulled, listed and removed like images, and mounted as the files that they are.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::os::unix::fs::MetadataExt;

use crate::common::{World, image_spec, pod_security, refused, secured, world};
use crate::user_namespaces::{FIRST, users};
use cri::*;
use testkit::images::{ArtifactFile, client, push_artifact};
use tonic::Code;

const TITLE: &str = "org.opencontainers.image.title";
const MODEL: &str = "org.cncf.model.filepath";
const KIND: &str = "application/vnd.cncf.model.manifest.v1+json";
const RAW: &str = "application/vnd.cncf.model.weight.v1.raw";

fn file<'a>(key: &'a str, name: &'a str, content: &'a [u8]) -> ArtifactFile<'a> {
    ArtifactFile {
        media_type: RAW,
        named: Some((key, name)),
        content,
    }
}

async fn push(world: &World, name: &str, files: &[ArtifactFile<'_>]) -> (String, image::Digest) {
    let host = world.registry.host();
    let name = format!("{host}/{name}");
    let client = client(&[&host]).unwrap();
    let digest = push_artifact(&client, &name, KIND, files).await.unwrap();
    (name, digest)
}

fn with(world: &World, name: &str, artifact: &str, mounts: &[(&str, &str)]) -> ContainerConfig {
    let mount = |(place, sub_path): &(&str, &str)| Mount {
        container_path: (*place).into(),
        readonly: true,
        image: Some(image_spec(artifact)),
        image_sub_path: (*sub_path).into(),
        ..Default::default()
    };
    ContainerConfig {
        mounts: mounts.iter().map(mount).collect(),
        ..world.container(name, &["sleep", "1000"])
    }
}

async fn sh(world: &World, id: &str, script: &str) -> String {
    world.said(id, &["sh", "-c", script]).await
}

#[test]
fn an_artifact_is_pulled_listed_shown_and_removed_like_an_image_and_runs_nothing() {
    world(async |world| {
        let (name, digest) = push(world, "test/model:1", &[file(TITLE, "w", b"weights")]).await;
        let id = world.pull(&name).await.unwrap();
        assert_eq!(id, digest.hex());
        let shown = world.image_status(&name).await.unwrap().unwrap();
        assert_eq!(shown.id, id);
        assert_eq!(shown.repo_tags, [name.as_str()]);
        let by_digest = format!("{}@{digest}", name.strip_suffix(":1").unwrap());
        assert_eq!(shown.repo_digests, [by_digest.as_str()]);
        assert_eq!(shown.size, b"weights{}".len() as u64);
        let listed = world.image_list().await;
        assert!(listed.iter().any(|image| image.id == id), "{listed:?}");
        for query in [by_digest.as_str(), &id, &id[..12]] {
            let found = world.image_status(query).await.unwrap();
            assert_eq!(found.unwrap().id, id, "{query}");
        }
        assert_eq!(world.pull(&name).await.unwrap(), id, "a second time");
        let pod = world.pod("a").await;
        let mut config = world.container("c", &["sh"]);
        config.image = Some(image_spec(&name));
        let asked = world.create(&pod, config).await;
        refused(asked, Code::InvalidArgument, &["config.image", "artifact"]);
        // It is found again, and whole, by the next engine.
        world.node.kill().unwrap();
        world.serve_again().await;
        assert!(world.image_status(&id).await.unwrap().is_some());
        world.remove_image(&name).await.unwrap();
        assert!(world.image_status(&id).await.unwrap().is_none());
        world.remove_image(&name).await.unwrap();
    });
}

#[test]
fn its_files_have_the_names_of_their_annotations_and_are_there_once() {
    world(async |world| {
        let files = [
            file(TITLE, "config.json", b"{}\n"),
            file(MODEL, "weights/1.safetensors", b"first\n"),
            file(MODEL, "weights/deep/2.safetensors", b"second\n"),
            ArtifactFile {
                named: None,
                ..file("", "", b"nameless")
            },
        ];
        let (name, _) = push(world, "test/model:1", &files).await;
        let id = world.pull(&name).await.unwrap();
        let pod = world.pod("a").await;
        let mounts = [
            ("/all", ""),
            ("/weights", "weights"),
            ("/one", "weights/1.safetensors"),
        ];
        let config = secured(with(world, "c", &name, &mounts), |security| {
            security.run_as_user = Some(Int64Value { value: 33 });
        });
        let container = world.run(&pod, config).await;
        let found = "cd /all; find . -type f | sort; cat config.json weights/1* weights/deep/2*; \
                     ls /weights; cat /one; touch /all/x /one 2>&1 | wc -l";
        let said = sh(world, &container, found).await;
        let expected = "./config.json\n./weights/1.safetensors\n./weights/deep/2.safetensors\n\
                        {}\nfirst\nsecond\n1.safetensors\ndeep\nfirst\n2";
        assert_eq!(said, expected);
        // The very file of the store.
        let blob = image::Digest::of(b"first\n");
        let blob = world.node.path("root/blobs/sha256").join(blob.hex());
        let links = std::fs::metadata(&blob).unwrap().nlink();
        assert_eq!(links, 1 + mounts.len() as u64);
        let status = world.remove_image(&name).await.unwrap_err();
        assert_eq!(status.code(), Code::FailedPrecondition, "{status:?}");
        let mount = &world.status(&container).await.unwrap().mounts[1];
        assert_eq!(mount.image.as_ref().unwrap().image_ref, id);
        world.remove(&container).await.unwrap();
        // What a container had is deleted beside requests.
        world
            .until("only the store has the file", async || {
                (std::fs::metadata(&blob).unwrap().nlink() == 1).then_some(())
            })
            .await;
        world.remove_image(&name).await.unwrap();
        assert!(!blob.exists());
    });
}

#[test]
fn root_of_a_pod_with_its_own_users_owns_the_files_of_an_artifact() {
    world(async |world| {
        let (name, _) = push(world, "test/model:1", &[file(TITLE, "d/w", b"weights")]).await;
        world.pull(&name).await.unwrap();
        let users = users(FIRST);
        let mut config = world.pod_config("a");
        let security = pod_security(&mut config);
        let options = security.namespace_options.get_or_insert_default();
        options.userns_options = users.clone();
        let pod = world.pod_of(config).await;
        let config = secured(with(world, "c", &name, &[("/all", "")]), |security| {
            let options = security.namespace_options.get_or_insert_default();
            options.userns_options = users;
        });
        let id = world.run(&pod, config).await;
        let owners = sh(world, &id, "stat -c %u:%g /all/d /all/d/w; cat /all/d/w").await;
        assert_eq!(owners, "0:0\n0:0\nweights");
    });
}

#[test]
fn names_that_lead_elsewhere_or_are_missing_are_refused_and_leave_nothing() {
    world(async |world| {
        let long = "x".repeat(300);
        let bad: [(&str, &[(&str, &str)]); 8] = [
            ("absolute", &[(TITLE, "/etc/passwd")]),
            ("up", &[(TITLE, "ok"), (MODEL, "a/../../up")]),
            ("control", &[(TITLE, "a\nb")]),
            ("long", &[(TITLE, &long)]),
            ("twice", &[(TITLE, "a"), (MODEL, "a")]),
            ("both", &[(TITLE, "a"), (TITLE, "a/b")]),
            ("nameless", &[("other", "a")]),
            ("directory", &[(TITLE, "a/")]),
        ];
        let pod = world.pod("a").await;
        for (what, names) in bad {
            let contents: Vec<String> = (0..names.len()).map(|n| format!("{what}{n}")).collect();
            let files = names.iter().zip(&contents);
            let files = files.map(|((key, name), content)| file(key, name, content.as_bytes()));
            let files: Vec<_> = files.collect();
            let (name, _) = push(world, &format!("bad/{what}:1"), &files).await;
            world.pull(&name).await.unwrap();
            let asked = world
                .create(&pod, with(world, what, &name, &[("/all", "")]))
                .await;
            let status = asked.unwrap_err();
            assert_eq!(status.code(), Code::InvalidArgument, "{what}: {status:?}");
            let said = status.message();
            assert!(
                said.starts_with("ImageVolumeMountFailed: "),
                "{what}: {said}"
            );
        }
        let left = std::fs::read_dir(world.node.path("root/containers")).unwrap();
        assert_eq!(left.count(), 0);
    });
}
