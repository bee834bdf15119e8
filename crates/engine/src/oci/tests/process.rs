//! What a container runs and may use: environment, identity, limits.

use super::*;

#[test]
fn limits_of_resources_are_written_as_asked_and_zero_is_unset() {
    table(
        "/linux/resources/memory",
        &[(
            "with swap",
            |w| {
                w.container.spec.resources.memory_limit = 1 << 20;
                w.container.spec.resources.memory_swap_limit = 2 << 20;
            },
            json!({"limit": 1 << 20, "swap": 2 << 20}),
        )],
    );
    table(
        "/linux/resources/cpu",
        &[(
            "all",
            |w| {
                let asked = &mut w.container.spec.resources;
                (asked.cpu_shares, asked.cpu_quota, asked.cpu_period) = (512, 5000, 10_000);
                asked.cpuset_cpus = "0-1".into();
                asked.cpuset_mems = "0".into();
            },
            json!({"shares": 512, "quota": 5000, "period": 10000, "cpus": "0-1", "mems": "0"}),
        )],
    );
    table(
        "/linux/resources/pids",
        &[
            ("none", |_| {}, Value::Null),
            (
                "the configuration's",
                |w| w.runtime.pids_limit = 9,
                json!({"limit": 9}),
            ),
            (
                "the request's wins",
                |w| {
                    w.runtime.pids_limit = 9;
                    w.container.spec.resources.pids_limit = 5;
                },
                json!({"limit": 5}),
            ),
        ],
    );
    table(
        "/linux/resources/hugepageLimits",
        &[(
            "two sizes",
            |w| {
                w.container.spec.resources.hugepage_limits =
                    vec![("2MB".into(), 4 << 20), ("1GB".into(), 0)];
            },
            json!([{"pageSize": "2MB", "limit": 4 << 20}, {"pageSize": "1GB", "limit": 0}]),
        )],
    );
    table(
        "/linux/resources/unified",
        &[(
            "files of v2",
            |w| {
                let file = ("memory.high".to_owned(), "1".to_owned());
                w.container.spec.resources.unified = [file].into();
            },
            json!({"memory.high": "1"}),
        )],
    );
    table(
        "/process/oomScoreAdj",
        &[
            ("plain", |_| {}, json!(0)),
            (
                "out of range",
                |w| w.container.spec.resources.oom_score_adj = -5000,
                json!(-1000),
            ),
        ],
    );
    table(
        "/process/rlimits",
        &[
            ("none", |_| {}, Value::Null),
            (
                "the configuration's",
                |w| w.runtime.default_ulimits = strings(&["nofile=1024:2048"]),
                json!([{"type": "RLIMIT_NOFILE", "soft": 1024, "hard": 2048}]),
            ),
        ],
    );
    table(
        "/linux/cgroupsPath",
        &[("its own", |_| {}, json!("/floe/pod1/crio-c1"))],
    );
}

#[test]
fn the_environment_is_merged_by_name_and_the_request_wins() {
    const PATH: &str = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
    table(
        "/process/env",
        &[
            ("plain", |_| {}, json!([PATH, "HOSTNAME=host1"])),
            (
                "a terminal",
                |w| w.container.spec.tty = true,
                json!([PATH, "TERM=xterm", "HOSTNAME=host1"]),
            ),
            (
                "configuration, image, request",
                |w| {
                    w.runtime.default_env = strings(&["A=config", "B=config", "C=config"]);
                    w.image.env = strings(&["B=image", "C=image", "PATH=/bin"]);
                    w.container.spec.env = vec![("C".into(), "a=b".into())];
                },
                json!([
                    "PATH=/bin",
                    "HOSTNAME=host1",
                    "A=config",
                    "B=image",
                    "C=a=b"
                ]),
            ),
        ],
    );
}

#[test]
fn the_user_and_the_directory_are_the_requests_or_the_images() {
    table(
        "/process/user",
        &[
            ("root", |_| {}, json!({"uid": 0, "gid": 0})),
            (
                "with groups",
                |w| {
                    w.container.user = ResolvedUser {
                        uid: 1000,
                        gid: 100,
                        groups: vec![100, 4242],
                    };
                },
                json!({"uid": 1000, "gid": 100, "additionalGids": [100, 4242]}),
            ),
        ],
    );
    table(
        "/process/cwd",
        &[
            ("none", |_| {}, json!("/")),
            (
                "the image's",
                |w| w.image.working_dir = "app".into(),
                json!("/app"),
            ),
            (
                "the request's",
                |w| {
                    w.image.working_dir = "/app".into();
                    w.container.spec.working_dir = "/work".into();
                },
                json!("/work"),
            ),
        ],
    );
}

#[test]
fn nothing_of_a_request_becomes_a_hook_or_a_host_name() {
    for pointer in ["/hooks", "/hostname", "/linux/sysctl"] {
        // Sysctls belong to namespaces: the pod sets them, before any container is there.
        table(
            pointer,
            &[(
                "a pod with all of that",
                |w| {
                    w.pod.spec.hostname = "name".into();
                    let sysctl = ("net.ipv4.ip_forward".to_owned(), "1".to_owned());
                    w.pod.spec.sysctls = [sysctl].into();
                    let hook = ("io.example/hook".to_owned(), "/bin/sh".to_owned());
                    w.container.spec.annotations = [hook].into();
                },
                Value::Null,
            )],
        );
    }
    table(
        "/annotations",
        &[(
            "those of the pod that the handler lets through, and its own",
            |w| {
                w.entry = Some(RuntimeEntry {
                    allowed_annotations: strings(&["io.example.ok"]),
                    default_annotations: [("io.example.default".into(), "d".into())].into(),
                    ..RuntimeEntry::default()
                });
                let pair = |key: &str, value: &str| (key.to_owned(), value.to_owned());
                let of_pod = [pair("io.example.ok.a", "1"), pair("io.example.no", "2")];
                w.pod.spec.annotations = of_pod.into();
            },
            json!({
                "io.example.default": "d",
                "io.example.ok.a": "1",
                "io.kubernetes.cri-o.ContainerID": "c1",
                "io.kubernetes.cri-o.ContainerType": "container",
                "io.kubernetes.cri-o.Image": "sha256:1",
                "io.kubernetes.cri-o.SandboxID": "pod1",
            }),
        )],
    );
    const PROPERTY: &str = "org.systemd.property.ExecStopPost";
    table(
        "/annotations",
        &[(
            "none of a request speaks of the unit, whatever is allowed; what is said of that is the engine's",
            |w| {
                let pair = |key: &str, value: &str| (key.to_owned(), value.to_owned());
                w.entry = Some(RuntimeEntry {
                    allowed_annotations: strings(&["", PROPERTY]),
                    default_annotations: [pair("org.systemd.property.After", "['x.service']")]
                        .into(),
                    ..RuntimeEntry::default()
                });
                w.pod.cgroup = "/a.slice".into();
                w.container.cgroup = "/a.slice/crio-c1.scope".into();
                let bad = [
                    pair(PROPERTY, "true"),
                    pair("run.oci.systemd.subgroup", "../x"),
                ];
                w.pod.spec.annotations = bad.clone().into();
                w.container.spec.annotations = bad.into();
                let grace = pair("io.kubernetes.pod.terminationGracePeriod", "30");
                w.container.spec.annotations.extend([grace]);
            },
            json!({
                "io.kubernetes.cri-o.ContainerID": "c1",
                "io.kubernetes.cri-o.ContainerType": "container",
                "io.kubernetes.cri-o.Image": "sha256:1",
                "io.kubernetes.cri-o.SandboxID": "pod1",
                "io.kubernetes.pod.terminationGracePeriod": "30",
                "org.systemd.property.After": "['x.service']",
                "org.systemd.property.CollectMode": "'inactive-or-failed'",
                "org.systemd.property.DefaultDependencies": "true",
                "org.systemd.property.TimeoutStopUSec": "uint64 30000000",
                "run.oci.systemd.subgroup": "",
            }),
        )],
    );
    table(
        "/annotations/io.example~1hook",
        &[(
            "it stays what it is",
            |w| {
                let hook = ("io.example/hook".to_owned(), "/bin/sh".to_owned());
                w.container.spec.annotations = [hook].into();
            },
            json!("/bin/sh"),
        )],
    );
}
