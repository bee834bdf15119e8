//! CRI: PullImage from registries that are down, refuse, break or lie, and of layers that reach out
//! of their root: a clear error, and nothing left behind.

use crate::common::bad_registry::{BadRegistry, Fault};
use crate::common::{image_spec, refused, world, world_on};
use cri::*;
use serde_json::json;
use testkit::{NodeOptions, Registry};
use tonic::{Code, Status};

#[test]
fn a_registry_that_is_down_is_said_with_the_word_that_kubelet_looks_for() {
    // Nobody listens on port 1.
    let options = |_: &Registry| NodeOptions {
        insecure: vec!["127.0.0.1:1".into()],
        ..NodeOptions::default()
    };
    world_on(options, async |world| {
        // kubelet reads the word only from an error of code UNKNOWN.
        let status = world
            .pull("127.0.0.1:1/test/app:1")
            .await
            .expect_err("nobody listens there");
        assert_eq!(status.code(), Code::Unknown, "{}", status.message());
        assert!(
            status.message().starts_with("RegistryUnavailable: "),
            "{}",
            status.message()
        );
        assert!(
            status.message().contains("127.0.0.1:1"),
            "{}",
            status.message()
        );
    });
}

/// Pulls from a bad registry and checks that nothing remains of the attempt.
fn pull_badly(fault: Fault, check: impl FnOnce(Status)) {
    let bad = std::cell::OnceCell::new();
    let options = |_: &Registry| {
        let registry = bad.get_or_init(|| BadRegistry::start(fault).expect("start a bad registry"));
        NodeOptions {
            insecure: vec![registry.host.clone()],
            ..NodeOptions::default()
        }
    };
    world_on(options, async |world| {
        let image = bad.get().expect("no registry").image();
        let status = world
            .pull(&image)
            .await
            .expect_err("this image cannot be had");
        assert_eq!(
            world.image_list().await.len(),
            1,
            "more than the world's own"
        );
        check(status);
    });
}

#[test]
fn a_registry_that_wants_a_login_is_permission_denied() {
    pull_badly(Fault::Status(401), |status| {
        refused::<()>(Err(status), Code::PermissionDenied, &["bad/image"])
    });
}

#[test]
fn a_registry_that_is_asked_too_often_says_so() {
    pull_badly(Fault::Status(429), |status| {
        assert!(
            status.message().contains("too many requests"),
            "{}",
            status.message()
        );
    });
}

#[test]
fn a_registry_that_fails_is_unavailable() {
    pull_badly(Fault::Status(500), |status| {
        assert!(
            status.message().starts_with("RegistryUnavailable: "),
            "{}",
            status.message()
        );
        refused::<()>(Err(status), Code::Unknown, &["500", "bad/image"]);
    });
}

#[test]
fn a_layer_that_is_not_what_its_digest_says_is_refused() {
    pull_badly(Fault::OtherBytes, |status| {
        assert!(
            status.message().contains("digest mismatch"),
            "{}",
            status.message()
        );
    });
}

#[test]
fn a_layer_that_is_not_what_the_configuration_says_is_refused() {
    pull_badly(Fault::OtherLayer, |status| {
        assert!(status.message().contains("sha256:"), "{}", status.message());
    });
}

#[test]
fn a_layer_that_ends_too_soon_is_an_error() {
    pull_badly(Fault::Truncated, |status| {
        assert!(status.message().contains("bytes"), "{}", status.message());
    });
}

#[test]
fn credentials_reach_the_registry_and_never_the_log() {
    let bad = std::cell::OnceCell::new();
    let options = |_: &Registry| {
        let registry =
            bad.get_or_init(|| BadRegistry::start(Fault::Status(401)).expect("start a registry"));
        NodeOptions {
            insecure: vec![registry.host.clone()],
            ..NodeOptions::default()
        }
    };
    world_on(options, async |world| {
        let bad = bad.get().expect("no registry");
        let auth = AuthConfig {
            username: "ann".into(),
            password: "s3cr3t-word".into(),
            ..Default::default()
        };
        let request = PullImageRequest {
            image: Some(image_spec(&bad.image())),
            auth: Some(auth),
            ..Default::default()
        };
        let status = world
            .images()
            .pull_image(request)
            .await
            .expect_err("the login is wrong");
        assert_eq!(status.code(), Code::PermissionDenied, "{status}");
        // base64 of ann:s3cr3t-word
        assert!(
            bad.authorizations()
                .iter()
                .any(|header| header.contains("YW5uOnMzY3IzdC13b3Jk"))
        );
        for secret in ["s3cr3t-word", "YW5uOnMzY3IzdC13b3Jk"] {
            assert!(!world.node.log().contains(secret) && !status.message().contains(secret));
        }
    });
}

/// A tar entry whose name no honest tool would write.
fn raw_entry(
    tar: &mut tar::Builder<Vec<u8>>,
    name: &str,
    kind: tar::EntryType,
    target: &str,
    data: &[u8],
) {
    let mut header = tar::Header::new_gnu();
    let fields = header.as_gnu_mut().expect("a GNU header");
    fields.name[..name.len()].copy_from_slice(name.as_bytes());
    fields.linkname[..target.len()].copy_from_slice(target.as_bytes());
    header.set_entry_type(kind);
    header.set_mode(0o644);
    header.set_size(data.len() as u64);
    header.set_cksum();
    tar.append(&header, data).expect("write to memory");
}

/// Writes a layer that means harm.
type Hostile<'a> = &'a dyn Fn(&mut tar::Builder<Vec<u8>>);

#[test]
fn a_layer_that_reaches_out_of_its_root_is_refused_or_kept_inside() {
    world(async |world| {
        let outside = world.node.path("outside");
        std::fs::create_dir(&outside).unwrap();
        let target = outside.display().to_string();
        let hostile: [(&str, Hostile<'_>); 4] = [
            ("dots", &|tar| {
                let name = format!(
                    "{}/pwned",
                    "../".repeat(12).trim_end_matches('/').to_owned() + &target
                );
                raw_entry(tar, &name, tar::EntryType::Regular, "", b"x");
            }),
            ("absolute", &|tar| {
                raw_entry(
                    tar,
                    &format!("{target}/pwned"),
                    tar::EntryType::Regular,
                    "",
                    b"x",
                )
            }),
            ("symlink", &|tar| {
                raw_entry(tar, "link", tar::EntryType::Symlink, &target, b"");
                raw_entry(tar, "link/pwned", tar::EntryType::Regular, "", b"x");
            }),
            ("hardlink", &|tar| {
                raw_entry(
                    tar,
                    "stolen",
                    tar::EntryType::Link,
                    "../../../../../../../../../etc/shadow",
                    b"",
                );
            }),
        ];
        for (name, write) in hostile {
            let mut tar = tar::Builder::new(Vec::new());
            write(&mut tar);
            let image = world
                .push(
                    &format!("hostile/{name}:1"),
                    &[tar.into_inner().unwrap()],
                    json!({}),
                )
                .await;
            let pulled = world.pull(&image).await;
            assert_eq!(
                std::fs::read_dir(&outside).unwrap().count(),
                0,
                "{name} has written outside"
            );
            if matches!(name, "dots" | "hardlink") {
                let status = pulled.expect_err("a name with .. is refused");
                assert!(
                    status.message().contains("leads out of the root"),
                    "{}",
                    status.message()
                );
                assert_eq!(world.image_status(&image).await.unwrap(), None);
            }
        }
    });
}

#[test]
fn a_device_node_of_the_host_in_a_layer_is_left_out_with_a_warning() {
    world(async |world| {
        let mut tar = tar::Builder::new(Vec::new());
        raw_entry(&mut tar, "disk", tar::EntryType::Block, "", b"");
        let image = world
            .push("hostile/device:1", &[tar.into_inner().unwrap()], json!({}))
            .await;
        world.pull(&image).await.unwrap();
        let log = world.node.log();
        let warned = log
            .lines()
            .find(|line| line.contains("left out \"disk\": it is a block device"));
        let warned = warned.expect("no warning");
        assert!(
            warned.contains("WARN") && warned.contains(&image) && warned.contains("layer sha256:"),
            "{warned}"
        );
        let layers = std::fs::read_dir(world.node.path("root/layers")).unwrap();
        for layer in layers {
            assert!(!layer.unwrap().path().join("disk").exists());
        }
    });
}
