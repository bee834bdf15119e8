//! `floe cri` and crictl's command line: a pod's life, and all that is listed and shown of it, in every form.

use serde_json::json;

use crate::cli::crictl::served;
use crate::cli::until;

#[test]
fn a_pod_lives_from_configurations_by_crictls_words() {
    served(|floe, crictl| {
        let (pod, container) = crictl.started(
            "life",
            "trap 'exit 3' TERM; echo up; while :; do sleep 0.1; done",
        );
        // The configuration's own words have come to the runtime, under either name.
        let endpoint = crictl.endpoint();
        let words = ["cri", "-r", &endpoint, "-t", "60s", "inspectp", "-q", &pod];
        let by_floe: serde_json::Value =
            serde_json::from_str(&floe.floe(&words).ok()).expect("JSON");
        assert_eq!(by_floe, crictl.json(&["inspectp", "-q", &pod]));
        assert_eq!(by_floe["status"]["metadata"]["uid"], "uid-life");
        assert_eq!(by_floe["status"]["annotations"]["note"], "a <b>");
        assert_eq!(by_floe["status"]["state"], "SANDBOX_READY");

        // What runs is not removed, and what is removed takes its log along.
        let log = floe.node.path("logs/life/life.0.log");
        until("it has set its trap", || {
            crictl.run(&["logs", &container]).out == "up\n"
        });
        let why = format!("container \\\"{container}\\\" is running, please stop it first");
        crictl
            .run(&["rm", &container])
            .failed(1, &["level=error", &why]);
        let why = format!("pod sandbox \\\"{pod}\\\" is running, please stop it first");
        crictl.run(&["rmp", &pod]).failed(1, &[&why]);
        assert_eq!(
            crictl.ok(&["stop", "--timeout", "20", &container]),
            container
        );
        let status = crictl.json(&["inspect", "-q", &container]);
        assert_eq!(status["status"]["exitCode"], 3);
        assert_eq!(crictl.ok(&["rm", &container]), container);
        assert!(!log.exists(), "the log outlived its container");
        assert_eq!(
            crictl.ok(&["stopp", &pod]),
            format!("Stopped sandbox {pod}")
        );
        assert_eq!(crictl.ok(&["rmp", &pod]), format!("Removed sandbox {pod}"));
        assert_eq!(crictl.ok(&["pods", "-q"]), "");
        // Who removes all of nothing is told so, and has not failed.
        let said = crictl.run(&["rmp", "-a"]);
        assert_eq!(
            (said.code, said.err.contains("No pods to remove")),
            (0, true)
        );
    });
}

#[test]
fn run_makes_a_pod_and_a_container_and_rm_keeps_logs_if_asked() {
    served(|floe, crictl| {
        let pod_config = crictl.pod_config("both");
        let config = crictl.container_config("both", "echo said");
        let id = crictl.ok(&["run", "--no-pull", &config, &pod_config]);
        until("it has ended", || {
            crictl.ok(&["ps", "-q", "--state", "exited"]) == id
        });
        let log = floe.node.path("logs/both/both.0.log");
        std::fs::write(log.with_extension("log.1"), "rotated").expect("write");
        assert_eq!(crictl.ok(&["rm", "--keep-logs", &id]), id);
        assert!(log.exists());
        // A configuration that is none makes no pod.
        let broken = crictl.file("broken.json", r#"{"metadata": {"name": "x"}}"#);
        let other = crictl.pod_config("other");
        let said = crictl.run(&["run", "--no-pull", &broken, &other]);
        said.failed(
            1,
            &["running container: creating container failed: image is not set"],
        );
        assert_eq!(crictl.ok(&["pods", "--name", "other", "-q"]), "");
    });
}

#[test]
fn lists_are_crictls_tables_and_protojson() {
    served(|_, crictl| {
        let (pod, container) = crictl.started("listed", "sleep 1000");
        let table = crictl.ok(&["ps"]);
        let mut lines = table.lines();
        let header = "CONTAINER           IMAGE                       CREATED                  STATE               \
            NAME                ATTEMPT             POD ID              POD                 NAMESPACE";
        let columns = |line: &str| {
            let words = line
                .split("  ")
                .map(str::trim)
                .filter(|word| !word.is_empty());
            words.map(str::to_owned).collect::<Vec<_>>()
        };
        assert_eq!(columns(lines.next().expect("a header")), columns(header));
        let row = columns(lines.next().expect("a row"));
        let image = row[1].clone();
        assert!(
            crictl.image.contains(&image) || image.len() == 13,
            "{row:?}"
        );
        assert!(row[2].ends_with(" ago"), "{row:?}");
        let expected = [
            "Running",
            "listed",
            "0",
            &pod[..13],
            "the-pod",
            "the-namespace",
        ];
        assert_eq!(
            (&row[0][..], &row[3..]),
            (&container[..13], &expected.map(str::to_owned)[..])
        );
        assert_eq!(lines.next(), None);

        let list = crictl.json(&["ps", "-o", "json"]);
        let one = &list["containers"][0];
        assert_eq!(one["id"], container.as_str());
        assert_eq!(one["podSandboxId"], pod.as_str());
        assert_eq!(one["state"], "CONTAINER_RUNNING");
        assert_eq!(one["annotations"], json!({}));
        let made: u64 = one["createdAt"]
            .as_str()
            .expect("text")
            .parse()
            .expect("a number");
        assert!(made > 1_700_000_000_000_000_000);
        let yaml = crictl.ok(&["ps", "-o", "yaml"]);
        assert!(
            yaml.starts_with("containers:\n- annotations: {}\n"),
            "{yaml}"
        );
        assert!(
            yaml.contains(&format!("  createdAt: \"{made}\"\n")),
            "{yaml}"
        );

        let pods = crictl.ok(&["pods", "--no-trunc"]);
        let row = columns(pods.lines().nth(1).expect("a row"));
        let expected = ["Ready", "listed", "default", "1", "(default)"];
        assert_eq!(
            (&row[0][..], &row[2..]),
            (&pod[..], &expected.map(str::to_owned)[..])
        );
        let pods = crictl.json(&["pods", "-o", "json"]);
        assert_eq!(pods["items"][0]["labels"], json!({"app": "listed"}));
        let verbose = crictl.ok(&["pods", "-v"]);
        assert!(verbose.contains("Labels:\n\tapp -> listed\n"), "{verbose}");
        let verbose = crictl.ok(&["ps", "-v"]);
        assert!(
            verbose.contains(&format!("ID: {container}\nPodID: {pod}\n")),
            "{verbose}"
        );
        crictl
            .run(&["ps", "-o", "xml"])
            .failed(1, &["unsupported output format"]);
    });
}

#[test]
fn filters_choose_by_state_label_name_and_age() {
    served(|_, crictl| {
        let (pod, first) = crictl.started("one", "sleep 1000");
        let pod_config = crictl.pod_config("one");
        let config = crictl.container_config("two", "sleep 1000");
        let second = crictl.ok(&["create", &pod, &config, &pod_config]);
        let ids = |words: &[&str]| {
            let listed = crictl.ok(&[&["ps", "-q"], words].concat());
            let ids: Vec<String> = listed.lines().map(str::to_owned).collect();
            ids
        };
        assert_eq!(ids(&[]), [first.as_str()]);
        assert_eq!(ids(&["-a"]), [second.as_str(), first.as_str()]);
        assert_eq!(ids(&["--latest"]), [second.as_str()]);
        assert_eq!(ids(&["--last", "1"]), [second.as_str()]);
        assert_eq!(ids(&["--state", "Created"]), [second.as_str()]);
        assert_eq!(ids(&["-a", "--label", "role=one"]), [first.as_str()]);
        assert_eq!(ids(&["-a", "--name", "^tw"]), [second.as_str()]);
        assert_eq!(ids(&["-a", "--namespace", "^other"]), [""; 0]);
        assert_eq!(ids(&["-a", "--pod", &pod]).len(), 2);
        assert_eq!(ids(&["-a", "--pod", &pod[..10]]).len(), 2);
        assert_eq!(ids(&["--id", &first[..8]]), [first.as_str()]);
        assert_eq!(ids(&["-a", "--image", &crictl.image]).len(), 2);
        assert_eq!(ids(&["-a", "--image", "example.com/other"]), [""; 0]);
        assert_eq!(
            crictl.ok(&["pods", "-q", "--label", "app=one", "--state", "ready"]),
            pod
        );
        assert_eq!(crictl.ok(&["pods", "-q", "--state", "notready"]), "");
        // Go's own forms of options.
        assert_eq!(ids(&["-all=true", "-name", "two"]), [second.as_str()]);
        for (words, why) in [
            (
                ["--state", "asleep"],
                "--state should be one of created, running, exited or unknown",
            ),
            (["--label", "x"], "incorrectly specified label: x"),
            (["--name", "("], "invalid regular expression"),
        ] {
            crictl
                .run(&[&["ps"][..], &words].concat())
                .failed(1, &[why]);
        }
    });
}

#[test]
fn inspect_has_every_form_and_ids_by_their_beginning() {
    served(|_, crictl| {
        let (pod, container) = crictl.started("seen", "sleep 1000");
        let whole = crictl.json(&["inspect", &container[..12]]);
        assert_eq!(whole["status"]["id"], container.as_str());
        assert_eq!(whole["status"]["finishedAt"], "0001-01-01T00:00:00Z");
        assert_eq!(whole["status"]["stopSignal"], "SIGTERM");
        let made = whole["status"]["createdAt"].as_str().expect("a time");
        assert!(made.contains('T') && made.ends_with('Z'), "{made}");
        assert!(
            whole["info"]["pid"].as_u64().is_some_and(|pid| pid > 1),
            "{whole}"
        );
        let quiet = crictl.json(&["inspect", "-q", &container]);
        assert_eq!(quiet["info"], json!(null));
        let template = "{{.status.metadata.name}} {{.info.pid}} {{index .status.labels \"role\"}}";
        let said = crictl.ok(&[
            "inspect",
            "-o",
            "go-template",
            "--template",
            template,
            &container,
        ]);
        assert_eq!(said, format!("seen {} seen", whole["info"]["pid"]));
        let said = crictl.run(&[
            "inspect",
            "-o",
            "go-template",
            "--template",
            "{{.status.nosuch}}",
            &container,
        ]);
        said.failed(1, &["map has no entry for key \\\"nosuch\\\""]);
        let table = crictl.ok(&["inspect", "-o", "table", "-q", &container]);
        assert!(table.contains("\nState: CONTAINER_RUNNING\n"), "{table}");
        let yaml = crictl.ok(&["inspect", "-o", "yaml", "-q", &container]);
        assert!(yaml.starts_with("status:\n  annotations: {}\n"), "{yaml}");
        // Several are a list, and without ids the filters choose.
        let two = crictl.json(&["inspect", "-q", &container, &container]);
        assert_eq!(two.as_array().map(Vec::len), Some(2));
        let chosen = crictl.json(&["inspect", "-q", "--name", "seen"]);
        assert_eq!(chosen["status"]["id"], container.as_str());
        let of_pod = crictl.json(&["inspectp", &pod]);
        assert_eq!(of_pod["status"]["state"], "SANDBOX_READY");
        assert!(
            of_pod["status"]["network"]["ip"]
                .as_str()
                .is_some_and(|ip| !ip.is_empty())
        );
        let image = crictl.json(&["inspecti", &crictl.image]);
        assert_eq!(image["status"]["repoTags"], json!([crictl.image]));
        crictl.run(&["inspect", "nosuch"]).failed(
            1,
            &["get the status of containers: get container status: rpc error: code = NotFound desc = "],
        );
        crictl
            .run(&["inspecti", "nosuch"])
            .failed(1, &["no such image \\\"nosuch\\\" present"]);
    });
}

#[test]
fn images_are_listed_filtered_and_removed() {
    served(|floe, crictl| {
        let other = floe.image.replace("busybox:1", "other:2");
        floe.push(&other, &["true"]);
        let said = crictl.ok(&["pull", &other]);
        assert!(said.starts_with("Image is up to date for "), "{said}");
        let ids = |words: &[&str]| crictl.ok(&[&["images", "-q"], words].concat());
        assert_eq!(ids(&[]).lines().count(), 2);
        assert_eq!(ids(&[&other]).lines().count(), 1);
        assert_eq!(ids(&["--filter", "reference=.*/other"]).lines().count(), 1);
        assert_eq!(ids(&["-f", "dangling=true"]), "");
        crictl
            .run(&["images", "-f", "x=1"])
            .failed(1, &["unknown filter flag: x=1"]);
        let table = crictl.ok(&["images", "--digests", "--pinned"]);
        let (header, row) = table.split_once('\n').expect("rows");
        let columns: Vec<&str> = header
            .split("  ")
            .map(str::trim)
            .filter(|one| !one.is_empty())
            .collect();
        assert_eq!(
            columns,
            ["IMAGE", "TAG", "DIGEST", "IMAGE ID", "SIZE", "PINNED"]
        );
        assert!(
            row.contains(" MB") || row.contains("MB ") || row.contains("kB "),
            "{row}"
        );
        let json = crictl.json(&["images", "-o", "json"]);
        assert!(json["images"][0]["size"].is_string(), "{json}");
        assert_eq!(json["images"][0]["pinned"], false);

        // What a container has stays when all unused goes.
        crictl.started("user", "sleep 1000");
        let said = crictl.ok(&["rmi", "--prune"]);
        assert_eq!(said, format!("Deleted: {other}"));
        assert_eq!(ids(&[]).lines().count(), 1);
        crictl
            .run(&["rmi", "nosuch"])
            .failed(1, &["no such image nosuch"]);
        let usage = crictl.json(&["imagefsinfo"]);
        let used = &usage["status"]["imageFilesystems"][0]["usedBytes"]["value"];
        assert!(
            used.as_str()
                .is_some_and(|used| used.parse::<u64>().is_ok()),
            "{usage}"
        );
        let table = crictl.ok(&["imagefsinfo", "-o", "table"]);
        assert!(
            table.contains("Image Filesystem \nTimeStamp[0]: "),
            "{table}"
        );
    });
}

#[test]
fn the_runtime_says_what_it_is_and_what_is_used() {
    served(|_, crictl| {
        let version = crictl.ok(&["version"]);
        let lines: Vec<&str> = version.lines().collect();
        assert_eq!(lines[0], "Version:  0.1.0");
        assert_eq!(lines[1], "RuntimeName:  floe");
        let info = crictl.json(&["info"]);
        let conditions = info["status"]["conditions"].as_array().expect("conditions");
        let ready = conditions.iter().find(|one| one["type"] == "RuntimeReady");
        assert_eq!(
            ready.map(|one| &one["status"]),
            Some(&json!(true)),
            "{info}"
        );
        let handlers = &info["runtimeHandlers"][0]["features"];
        assert_eq!(handlers["user_namespaces"], true, "{info}");
        assert!(info["config"].is_object(), "{info}");
        let ready = "{{range .status.conditions}}{{.type}}={{.status}} {{end}}";
        let said = crictl.ok(&["info", "-o", "go-template", "--template", ready]);
        assert!(said.contains("RuntimeReady=true"), "{said}");
        assert_eq!(crictl.ok(&["runtime-config"]), "cgroup driver:   CGROUPFS");
        let said = crictl.run(&["update-runtime-config", "--pod-cidr", "10.9.0.0/16"]);
        assert_eq!(
            (
                said.code,
                said.err.contains("Runtime config successfully updated")
            ),
            (0, true)
        );

        let (pod, container) = crictl.started("busy", "while :; do :; done");
        let stats = crictl.ok(&["stats", "-a"]);
        assert!(stats.starts_with("CONTAINER  "), "{stats}");
        let row = stats.lines().nth(1).expect("a row");
        assert!(
            row.starts_with(&container[..13]) && row.contains("busy"),
            "{stats}"
        );
        let stats = crictl.json(&["stats", "-o", "json", &container]);
        assert_eq!(stats["stats"][0]["attributes"]["id"], container.as_str());
        let stats = crictl.ok(&["statsp", "--seconds", "1"]);
        assert!(
            stats
                .lines()
                .nth(1)
                .is_some_and(|row| row.contains(&pod[..13])),
            "{stats}"
        );
        let stats = crictl.json(&["statsp", "-o", "json", "--id", &pod]);
        assert_eq!(stats["stats"][0]["attributes"]["metadata"]["name"], "busy");
        assert!(crictl.json(&["metricdescs"])["descriptors"].is_array());
        assert!(crictl.json(&["metricsp"])["podMetrics"].is_array());
        assert_eq!(
            crictl.ok(&["update", "--cpu-share", "512", &container]),
            container
        );
        let status = crictl.json(&["inspect", "-q", &container]);
        assert_eq!(status["status"]["resources"]["linux"]["cpuShares"], "512");
    });
}

#[test]
fn checkpoints_are_asked_of_the_runtime_and_what_fails_leaves_nothing() {
    served(|floe, crictl| {
        let (pod, id) = crictl.started("frozen", "sleep 1000");
        let archive = floe.node.path("checkpoint.tar");
        let directory = floe.node.path("checkpoint");
        let at = |path: &std::path::Path| path.display().to_string();
        crictl
            .run(&["checkpoint", &id])
            .failed(1, &["Use --export=/path/to/checkpoint.tar"]);
        crictl
            .run(&["checkpointp", &pod])
            .failed(1, &["Use --export=/path/to/directory"]);
        let one = crictl.run(&["checkpoint", "--export", &at(&archive), &id]);
        let all = crictl.run(&["checkpointp", "--export", &at(&directory), &pod[..12]]);
        match testkit::host::no_criu() {
            None => {
                assert_eq!(one.ok(), id);
                assert_eq!(all.ok(), pod[..12]);
                assert!(archive.exists() && directory.is_dir());
            }
            Some(_) => {
                let why =
                    format!("checkpointing the container \\\"{id}\\\" failed: rpc error: code = ");
                one.failed(1, &[&why]);
                all.failed(1, &["checkpointing the pod", "rpc error: code = "]);
                assert!(!archive.exists() && !directory.exists());
            }
        }
        std::fs::create_dir_all(directory.join("mine")).expect("make");
        let all = crictl.run(&["checkpointp", "--export", &at(&directory), &pod]);
        all.failed(1, &["is not empty"]);
        assert!(directory.join("mine").is_dir());
        crictl
            .run(&["checkpointp", "-e", "/x", "nosuch"])
            .failed(1, &["code = NotFound"]);
        crictl
            .run(&["restorep", "/nosuch"])
            .failed(1, &["give --config=pod-config.json"]);
        let config = crictl.pod_config("again");
        let said = crictl.run(&["restorep", "--config", &config, "--label", "a=b", "/nosuch"]);
        said.failed(1, &["restoring the pod: rpc error: code = "]);
        assert_eq!(crictl.ok(&["pods", "-q"]), pod);
    });
}
