//! Containers as kubelet asks for them, and as it gets them back.

use super::*;

fn config() -> cri::ContainerConfig {
    cri::ContainerConfig {
        metadata: Some(cri::ContainerMetadata {
            name: "app".into(),
            attempt: 1,
        }),
        image: Some(cri::ImageSpec {
            image: "e".repeat(64),
            user_specified_image: "registry.example/app:1".into(),
            ..Default::default()
        }),
        ..Default::default()
    }
}

fn with(change: impl FnOnce(&mut cri::ContainerConfig)) -> Result<ContainerSpec, Error> {
    let mut config = config();
    change(&mut config);
    spec(Some(config))
}

fn with_security(
    change: impl FnOnce(&mut cri::LinuxContainerSecurityContext),
) -> Result<Security, Error> {
    let mut context = cri::LinuxContainerSecurityContext::default();
    change(&mut context);
    let security_context = Some(context);
    let linux = cri::LinuxContainerConfig {
        security_context,
        ..Default::default()
    };
    with(|config| config.linux = Some(linux)).map(|spec| spec.security)
}

fn made(state: ContainerState) -> Container {
    Container {
        paused: false,
        restarts: 0,
        id: "a".repeat(64),
        pod_id: "b".repeat(64),
        spec: spec(Some(config())).unwrap(),
        state,
        created_at: 1,
        pid: None,
        image_id: "e".repeat(64),
        image_ref: "registry.example/app@sha256:00".into(),
        log_path: Some("/logs/app/1.log".into()),
        log_loss: engine::handler::LogLoss::default(),
        user: engine::container::ResolvedUser {
            uid: 1000,
            gid: 1000,
            groups: vec![1000, 7],
        },
        stop_signal: 15,
        cgroup: "/pod/app".into(),
        args: Vec::new(),
        bundle: "/run/bundle".into(),
        handler: "floe".into(),
    }
}

fn refused(result: Result<impl std::fmt::Debug, Error>, field: &str) {
    let error = result.unwrap_err();
    assert_eq!(error.kind(), engine::Kind::InvalidArgument);
    assert!(
        error.to_string().contains(field),
        "{error} should name {field}"
    );
}

#[test]
fn name_and_image_must_be_given() {
    refused(spec(None), "config");
    refused(with(|config| config.metadata = None), "config.metadata");
    refused(
        with(|config| config.metadata.as_mut().unwrap().name.clear()),
        "metadata.name",
    );
    refused(with(|config| config.image = None), "config.image");
    refused(
        with(|config| config.image.as_mut().unwrap().image.clear()),
        "image.image",
    );
}

fn image_volume(change: impl Fn(&mut cri::Mount)) -> Result<ContainerSpec, Error> {
    let mut mount = cri::Mount {
        container_path: "/data".into(),
        readonly: true,
        image: Some(cri::ImageSpec {
            image: "sha256:1".into(),
            user_specified_image: "model:1".into(),
            ..Default::default()
        }),
        ..Default::default()
    };
    change(&mut mount);
    with(|config| config.mounts = vec![mount])
}

#[test]
fn an_image_volume_is_read_only_and_its_sub_path_is_below_its_root() {
    let spec = image_volume(|mount| mount.image_sub_path = "./a/./b/".into()).unwrap();
    let volume = spec.mounts[0].image.as_ref().unwrap();
    assert_eq!(volume.sub_path, Path::new("a/b"));
    assert_eq!(volume.named_image(), "model:1");
    let whole = image_volume(|mount| mount.image_sub_path = ".".into()).unwrap();
    let volume = whole.mounts[0].image.as_ref().unwrap();
    assert_eq!(volume.sub_path, Path::new(""));
    let wrong = |change: &dyn Fn(&mut cri::Mount), part: &str| {
        refused(image_volume(change), &format!("config.mounts[0].{part}"));
    };
    wrong(&|mount| mount.readonly = false, "readonly");
    wrong(&|mount| mount.host_path = "/srv".into(), "host_path");
    wrong(
        &|mount| mount.image = Some(Default::default()),
        "image.image",
    );
    for path in ["/a", "..", "a/../b", "a\0"] {
        wrong(
            &|mount| mount.image_sub_path = path.into(),
            "image_sub_path",
        );
    }
    let without_image = |mount: &mut cri::Mount| {
        (mount.image, mount.host_path) = (None, "/srv".into());
        mount.image_sub_path = "a".into();
    };
    wrong(&without_image, "image_sub_path");
}

#[test]
fn options_of_a_mount_are_known_or_refused_by_name() {
    let options = |words: &[&str]| {
        let words: Vec<String> = words.iter().map(|word| (*word).into()).collect();
        image_volume(|mount| mount.mount_options.clone_from(&words))
    };
    let spec = options(&["noexec", "nodev", "noexec"]).unwrap();
    assert_eq!(spec.mounts[0].options, ["noexec", "nodev"]);
    for bad in ["exec", "", "noexec,nodev", "rw"] {
        let asked = options(&["nosuid", bad]);
        refused(asked, "config.mounts[0].mount_options[1]");
    }
}

#[test]
fn a_mount_is_checked_before_anything_is_made() {
    let mount = |change: &dyn Fn(&mut cri::Mount)| {
        let mut mount = cri::Mount {
            container_path: "/data".into(),
            host_path: "/srv".into(),
            readonly: true,
            ..Default::default()
        };
        change(&mut mount);
        with(|config| config.mounts = vec![mount])
    };
    assert!(
        mount(&|mount| mount.recursive_read_only = true)
            .unwrap()
            .mounts[0]
            .recursive_read_only
    );
    refused(
        mount(&|mount| mount.host_path = "relative".into()),
        "config.mounts[0].host_path",
    );
    refused(
        mount(&|mount| mount.container_path.clear()),
        "config.mounts[0].container_path",
    );
    refused(
        mount(&|mount| mount.propagation = 9),
        "config.mounts[0].propagation",
    );
    let writable =
        |mount: &mut cri::Mount| (mount.recursive_read_only, mount.readonly) = (true, false);
    refused(mount(&writable), "config.mounts[0].recursive_read_only");
    let shared = |mount: &mut cri::Mount| {
        mount.recursive_read_only = true;
        mount.propagation = cri::MountPropagation::PropagationBidirectional.into();
    };
    refused(mount(&shared), "config.mounts[0].recursive_read_only");
}

#[test]
fn a_variable_has_a_name_and_a_value_of_any_bytes_but_zero() {
    let variable = |key: &str, value: &[u8]| {
        let variable = cri::KeyValue {
            key: key.into(),
            value: value.into(),
        };
        with(|config| config.envs = vec![variable])
    };
    assert_eq!(
        variable("A", b"1=2").unwrap().env,
        [("A".to_owned(), "1=2".to_owned())]
    );
    refused(variable("", b"1"), "config.envs[0].key");
    refused(variable("A=B", b"1"), "config.envs[0].key");
    assert_eq!(
        variable("A", b"\xff").unwrap().binary_env,
        [("A".to_owned(), b"\xff".to_vec())]
    );
    refused(variable("A", b"a\0b"), "config.envs[0].value");
}

#[test]
fn the_last_value_of_a_variable_wins_whatever_it_is_made_of() {
    let values = |values: &[&[u8]]| {
        let variable = |value: &&[u8]| cri::KeyValue {
            key: "A".into(),
            value: value.to_vec(),
        };
        let spec = with(|config| config.envs = values.iter().map(variable).collect()).unwrap();
        (spec.env, spec.binary_env)
    };
    let text = (vec![("A".to_owned(), "t".to_owned())], Vec::new());
    let binary = (Vec::new(), vec![("A".to_owned(), b"\xfe".to_vec())]);
    assert_eq!(values(&[b"\xff", b"t"]), text);
    assert_eq!(values(&[b"t", b"\xff", b"\xfe"]), binary);
}

#[test]
fn a_log_stays_in_the_pods_directory() {
    let log = |path: &str| with(|config| config.log_path = path.into());
    assert_eq!(log("").unwrap().log_path, None);
    assert_eq!(log("app/0.log").unwrap().log_path, Some("app/0.log".into()));
    refused(log("/etc/passwd"), "config.log_path");
    refused(log("../0.log"), "config.log_path");
    refused(log("app/../../0.log"), "config.log_path");
}

#[test]
fn a_group_needs_a_user_and_a_user_has_one_name() {
    let number = |value| Some(cri::Int64Value { value });
    refused(
        with_security(|context| context.run_as_group = number(1)),
        "run_as_group",
    );
    refused(
        with_security(|context| context.run_as_user = number(-5)),
        "run_as_user",
    );
    let both = |context: &mut cri::LinuxContainerSecurityContext| {
        context.run_as_user = number(1);
        context.run_as_username = "nobody".into();
    };
    refused(with_security(both), "run_as_username");
    let named = with_security(|context| {
        context.run_as_username = "nobody".into();
        context.run_as_group = number(7);
        context.supplemental_groups_policy = cri::SupplementalGroupsPolicy::Strict.into();
    });
    let named = named.unwrap();
    assert_eq!(
        (named.run_as_username.as_str(), named.run_as_group),
        ("nobody", Some(7))
    );
    assert!(named.strict_groups);
}

#[test]
fn devices_have_both_paths_and_known_permissions() {
    let device = |permissions: &str, host_path: &str| {
        let device = cri::Device {
            container_path: "/dev/a".into(),
            host_path: host_path.into(),
            permissions: permissions.into(),
        };
        with(|config| config.devices = vec![device])
    };
    assert_eq!(device("rw", "/dev/null").unwrap().devices.len(), 1);
    refused(device("rx", "/dev/null"), "config.devices[0].permissions");
    refused(device("rw", ""), "config.devices[0].host_path");
}

#[test]
fn a_state_shows_only_the_times_that_it_has() {
    let created = status(made(ContainerState::Created));
    assert_eq!((created.started_at, created.finished_at), (0, 0));
    assert_eq!(created.state(), cri::ContainerState::ContainerCreated);
    let running = status(made(ContainerState::Running { started_at: 5 }));
    assert_eq!((running.started_at, running.finished_at), (5, 0));
    let exited = status(made(ContainerState::Exited {
        started_at: 5,
        finished_at: 9,
        exit_code: 137,
        reason: "OOMKilled",
        message: "out of memory".into(),
    }));
    assert_eq!(
        (exited.started_at, exited.finished_at, exited.exit_code),
        (5, 9, 137)
    );
    assert_eq!(
        (exited.reason.as_str(), exited.message.as_str()),
        ("OOMKilled", "out of memory")
    );
}

#[test]
fn a_status_names_the_image_as_its_author_did_and_the_signal_that_stops() {
    let status = status(made(ContainerState::Created));
    assert_eq!(
        status.image.as_ref().unwrap().image,
        "registry.example/app:1"
    );
    assert_eq!(status.image_id, "e".repeat(64));
    assert_eq!(status.stop_signal(), cri::Signal::Sigterm);
    assert_eq!(status.log_path, "/logs/app/1.log");
    let user = status.user.unwrap().linux.unwrap();
    assert_eq!(
        (user.uid, user.gid, user.supplemental_groups),
        (1000, 1000, vec![1000, 7])
    );
}

#[test]
fn verbose_info_has_what_debugging_tools_read() {
    let container = Container {
        pid: Some(42),
        ..made(ContainerState::Running { started_at: 1 })
    };
    let info = info(&container, &json!({ "ociVersion": "1.3.0" }));
    let info: Value = serde_json::from_str(&info["info"]).unwrap();
    assert_eq!(info["pid"], 42);
    assert_eq!(info["privileged"], false);
    assert_eq!(info["sandboxID"], "b".repeat(64));
    assert_eq!(info["runtimeSpec"]["ociVersion"], "1.3.0");
}

#[test]
fn a_filter_asks_for_containers_of_cris_own_pods_only() {
    let asked = cri::ContainerFilter {
        id: "abc".into(),
        state: Some(cri::ContainerStateValue {
            state: cri::ContainerState::ContainerExited.into(),
        }),
        pod_sandbox_id: "def".into(),
        label_selector: BTreeMap::from([("a".to_owned(), "b".to_owned())]),
    };
    let filter = filter(Some(asked)).unwrap();
    assert_eq!(filter.id.as_deref(), Some("abc"));
    assert_eq!(filter.pod_id.as_deref(), Some("def"));
    assert_eq!(filter.state, Some(StateKind::Exited));
    assert_eq!((filter.labels.len(), filter.origin), (1, Some(Origin::Cri)));
}

/// CRI says of both profiles what their absence means, and not the same.
#[test]
fn a_container_that_names_no_apparmor_profile_has_the_default_one() {
    let of = |context: cri::LinuxContainerSecurityContext| {
        let security = security(context).unwrap();
        (security.apparmor, security.seccomp)
    };
    let absent = of(cri::LinuxContainerSecurityContext::default());
    assert_eq!(absent, (Profile::RuntimeDefault, Profile::Unconfined));
    let unconfined = cri::SecurityProfile {
        profile_type: cri::security_profile::ProfileType::Unconfined.into(),
        localhost_ref: String::new(),
    };
    let asked = of(cri::LinuxContainerSecurityContext {
        apparmor: Some(unconfined),
        ..cri::LinuxContainerSecurityContext::default()
    });
    assert_eq!(asked.0, Profile::Unconfined);
}
