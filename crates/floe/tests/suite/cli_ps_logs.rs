//! `floe ps` and `floe logs`.

use crate::cli::{Machine, machine, until};

#[test]
fn ps_shows_what_runs_and_with_all_what_has_ended() {
    machine(|floe| {
        let id = floe.background("runs", "sleep 1000");
        floe.run(&["--name", "ended"], &["sh", "-c", "exit 3"]);
        assert_eq!(floe.listed(&[]), ["runs"]);
        let mut all = floe.listed(&["-a"]);
        all.sort();
        assert_eq!(all, ["ended", "runs"]);
        let table = floe.floe(&["ps", "-a"]).ok();
        let row = |name: &str| {
            let mut rows = table.lines();
            let row = rows.rfind(|row| row.ends_with(name));
            row.unwrap_or_default().to_owned()
        };
        assert!(table.starts_with("CONTAINER ID"), "{table}");
        assert!(row("runs").starts_with(&id[..12]), "{table}");
        assert!(row("runs").contains("Up "), "{table}");
        assert!(row("runs").contains("sh -c sleep 1000"), "{table}");
        assert!(row("ended").contains("Exited (3) "), "{table}");
        floe.run(&["--name", "own"], &[]);
        let table = floe.floe(&["ps", "-a"]).ok();
        assert!(table.contains("echo default"), "{table}");
        let json = floe.floe(&["ps", "-a", "--format", "json"]).ok();
        assert!(json.contains("\"default\""), "{json}");
        assert_eq!(floe.floe(&["ps", "-q"]).ok(), id[..12]);
        assert_eq!(floe.floe(&["ps", "-q", "--no-trunc"]).ok(), id);
    });
}

#[test]
fn logs_are_both_streams_in_order_and_can_be_cut() {
    machine(|floe| {
        let script = "echo one; echo two >&2; echo three; echo four";
        floe.run(&["--name", "talker"], &["sh", "-c", script]);
        let said = floe.floe(&["logs", "talker"]);
        assert_eq!((said.code, said.out.as_str()), (0, "one\nthree\nfour\n"));
        assert_eq!(said.err, "two\n");
        // Which of two streams is read first is not said: one alone has an order.
        floe.run(&["--name", "plain"], &["sh", "-c", "echo one; echo two"]);
        let last = floe.floe(&["logs", "--tail", "1", "plain"]);
        assert_eq!((last.out.as_str(), last.err.as_str()), ("two\n", ""));
        floe.run(&["--name", "open"], &["sh", "-c", "echo one; printf two"]);
        let last = floe.floe(&["logs", "--tail", "1", "open"]);
        assert_eq!(last.out.trim_end(), "two");
        let none = floe.floe(&["logs", "--tail", "0", "talker"]);
        assert_eq!((none.out.as_str(), none.err.as_str()), ("", ""));
        let timed = floe.floe(&["logs", "-t", "talker"]).out;
        let (time, text) = timed
            .lines()
            .next()
            .unwrap_or_default()
            .split_once(' ')
            .unwrap_or_default();
        assert!(time.starts_with("20") && time.contains('T'), "{timed}");
        assert_eq!(text, "one");
        floe.floe(&["logs", "nobody"])
            .failed(125, &["nobody", "no such container"]);
    });
}

#[test]
fn a_link_in_the_place_of_a_log_is_not_read() {
    machine(|floe| {
        let id = floe.run(&["-d"], &["echo", "said"]).ok();
        until("it is logged", || floe.floe(&["logs", &id]).out == "said\n");
        let dir = floe.node.path("root/containers").join(&id);
        let logs = std::fs::read_dir(&dir)
            .expect("the container's directory")
            .flatten();
        let mut logs = logs.map(|entry| entry.path());
        let log = logs.find(|path| path.extension().is_some_and(|end| end == "log"));
        let log = log.expect("a log");
        std::fs::remove_file(&log).expect("remove the log");
        std::os::unix::fs::symlink("/etc/passwd", &log).expect("a link");
        floe.floe(&["logs", &id]).failed(125, &["open log"]);
    });
}

#[test]
fn following_a_log_ends_with_the_container() {
    machine(|floe| {
        floe.background("talker", "echo begin; sleep 1; echo end");
        let said = floe.floe(&["logs", "-f", "talker"]);
        assert_eq!((said.code, said.out.as_str()), (0, "begin\nend\n"));
    });
}

#[test]
fn kubelets_pods_are_shown_with_all_and_pod_only() {
    machine(|floe| {
        as_kubelet_does(floe);
        assert_eq!(floe.listed(&["-a"]), [""; 0]);
        until("it is shown", || {
            let table = floe.floe(&["ps", "--all", "--pod"]).ok();
            table.contains("from-kubelet") && table.contains("kubelets-pod")
        });
    });
}

#[test]
fn verbs_take_kubelets_containers_by_namespace_pod_and_name() {
    machine(|floe| {
        as_kubelet_does(floe);
        let name = "default/kubelets-pod/from-kubelet";
        let there = |words: &[&str]| floe.floe(words).ok();
        until("the process is there", || {
            there(&["top", name, "comm"]).contains("sleep")
        });
        assert_eq!(there(&["exec", name, "echo", "inside"]), "inside");
        assert_eq!(
            there(&["inspect", "-f", "{{.State.Running}}", name]),
            "true"
        );
        let file = floe.node.path("file");
        std::fs::write(&file, "from the node").expect("write");
        let file = file.to_str().expect("text");
        // A path with slashes is a place, unless what stands before the colon is a container.
        there(&["cp", file, &format!("{name}:/put")]);
        assert_eq!(there(&["exec", name, "cat", "/put"]), "from the node");
        assert!(there(&["diff", name]).contains("A /put"));
        there(&["commit", name, "localhost/of-kubelet"]);
        let entry = ["run", "--rm", "--network", "none", "--entrypoint", "cat"];
        let run = [&entry[..], &["localhost/of-kubelet", "/put"]].concat();
        assert_eq!(there(&run), "from the node");
        assert!(there(&["stats", "--no-stream", name]).contains("from-kubelet"));
        let place = there(&["mount", name]);
        assert!(std::path::Path::new(&place).join("put").exists());
        there(&["unmount", name]);
        floe.floe(&["logs", name]).failed(125, &["keeps no log"]);
        floe.floe(&["exec", "default/kubelets-pod/none", "true"])
            .failed(125, &["no such container"]);
        floe.floe(&["exec", "other/kubelets-pod/from-kubelet", "true"])
            .failed(125, &["no such container"]);
    });
}

/// Serves CRI, and makes one pod with one container that runs.
fn as_kubelet_does(floe: &mut Machine) {
    floe.node.serve().expect("serve CRI");
    let tokio = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("an async runtime");
    let image = floe.image.clone();
    tokio.block_on(async {
        let mut cri = floe.node.clients().await.expect("CRI clients");
        kubelets_container(&mut cri, &image).await;
    });
}

/// One pod with one container, as kubelet makes them.
async fn kubelets_container(cri: &mut testkit::Clients, image: &str) {
    let image = Some(cri::ImageSpec {
        image: image.to_owned(),
        ..Default::default()
    });
    let pull = cri::PullImageRequest {
        image: image.clone(),
        ..Default::default()
    };
    cri.images.pull_image(pull).await.expect("pull");
    let pod = cri::PodSandboxConfig {
        metadata: Some(cri::PodSandboxMetadata {
            name: "kubelets-pod".into(),
            namespace: "default".into(),
            uid: "1".into(),
            attempt: 0,
        }),
        ..Default::default()
    };
    let run = cri::RunPodSandboxRequest {
        config: Some(pod.clone()),
        ..Default::default()
    };
    let pod_sandbox_id = cri.runtime.run_pod_sandbox(run).await.expect("run a pod");
    let pod_sandbox_id = pod_sandbox_id.into_inner().pod_sandbox_id;
    let create = cri::CreateContainerRequest {
        pod_sandbox_id,
        config: Some(cri::ContainerConfig {
            metadata: Some(cri::ContainerMetadata {
                name: "from-kubelet".into(),
                attempt: 0,
            }),
            image,
            command: vec!["sleep".into(), "1000".into()],
            ..Default::default()
        }),
        sandbox_config: Some(pod),
    };
    let made = cri.runtime.create_container(create).await.expect("create");
    let start = cri::StartContainerRequest {
        container_id: made.into_inner().container_id,
    };
    cri.runtime.start_container(start).await.expect("start");
}
