//! `floe buildah`, and floe by the name buildah: working containers from their first step to their image, and what they
//! cannot reach.

use std::fs;
use std::os::unix::fs::{MetadataExt, symlink};
use std::path::PathBuf;
use std::process::Child;

use serde_json::Value;

use crate::cli::{Machine, Said, machine};

fn json(text: &str) -> Value {
    serde_json::from_str(text).expect("JSON")
}

impl Machine {
    pub(crate) fn buildah(&self, arguments: &[&str]) -> Said {
        self.floe(&[&["buildah"], arguments].concat())
    }

    /// A command in a working container, without a network.
    pub(crate) fn in_working(&self, options: &[&str], container: &str, script: &str) -> Said {
        let run = [&["run", "--network", "none"], options].concat();
        self.buildah(&[&run[..], &[container, "--", "sh", "-c", script]].concat())
    }

    pub(crate) fn begun(&self, arguments: &[&str]) -> Child {
        let mut command = self.command(&[&["buildah"], arguments].concat());
        command.spawn().expect("start floe")
    }

    /// A file of the test's.
    pub(crate) fn written(&self, name: &str, content: &str) -> String {
        let path = self.node.path(name);
        fs::create_dir_all(path.parent().expect("a parent")).expect("make");
        fs::write(&path, content).expect("write");
        path.display().to_string()
    }

    pub(crate) fn names_of_working(&self) -> Vec<String> {
        let list = json(&self.buildah(&["containers", "--json"]).ok());
        let names = list.as_array().expect("a list").iter();
        names
            .map(|one| one["containername"].as_str().expect("a name").to_owned())
            .collect()
    }

    pub(crate) fn nothing_is_left_of_working(&self) {
        assert_eq!(self.names_of_working(), [""; 0]);
        let count =
            |part: &str| fs::read_dir(self.node.path("root").join(part)).map_or(0, Iterator::count);
        assert_eq!([count("containers"), count("mounts")], [0, 0]);
    }
}

#[test]
fn containers_are_made_listed_and_removed_in_buildahs_words() {
    machine(|floe| {
        let link = floe.as_buildah();
        let buildah = |arguments: &[&str]| link.run(arguments);
        assert!(
            buildah(&["--version"])
                .ok()
                .starts_with("buildah version 1.")
        );
        let image = floe.image.clone();
        assert_eq!(
            buildah(&["from", "-q", &image]).ok(),
            "busybox-working-container"
        );
        assert_eq!(
            buildah(&["from", &image]).ok(),
            "busybox-working-container-1"
        );
        let id_file = floe.node.path("cid");
        let id_file = id_file.to_str().unwrap();
        assert_eq!(
            buildah(&["from", "--name", "s", "--cidfile", id_file, "scratch"]).ok(),
            "s"
        );
        buildah(&["from", "--name", "s", "scratch"]).failed(
            125,
            &[
                "creating container: the container name \"s\" is already in use by ",
                "that name is already in use",
            ],
        );
        buildah(&["from", "--pull-never", "localhost/none"]).failed(125, &["image not known"]);
        let id = fs::read_to_string(id_file).unwrap();
        let table = buildah(&["containers"]).ok();
        let lines: Vec<&str> = table.lines().collect();
        assert_eq!(
            lines[0],
            "CONTAINER ID  BUILDER  IMAGE ID     IMAGE NAME                       CONTAINER NAME"
        );
        assert_eq!(lines.len(), 4);
        let wanted = format!(
            "{:.12}     *                  scratch                          s",
            id
        );
        assert_eq!(lines[3], wanted);
        let filtered = ["containers", "-q", "--filter", "name=s,ancestor=scratch"];
        assert_eq!(buildah(&filtered).ok(), id);

        let work = "busybox-working-container";
        buildah(&["rename", work, "s"]).failed(
            125,
            &["The container name \"s\" is already in use by container"],
        );
        buildah(&["rename", work, "w"]).ok();
        buildah(&["rmi", &image])
            .failed(125, &["image used by ", "image is in use by a container"]);
        let removed = buildah(&["rm", "w", "none"]);
        assert_eq!((removed.code, removed.out.trim().len()), (125, 64));
        assert!(
            removed
                .err
                .contains("removing container \"none\": container not known"),
            "{}",
            removed.err
        );
        let rest = buildah(&["rm", "--all"]).ok();
        assert!(
            rest.lines().count() == 2 && rest.lines().any(|one| one == id),
            "{rest}"
        );
        let completion = buildah(&["completion", "bash"]).ok();
        assert!(completion.contains("--workingdir"), "{completion}");
        for (wrong, words) in [
            (&["rm"][..], "container ID must be specified"),
            (
                &["rm", "-a", "x"],
                "when using the --all switch, you may not pass any containers names or IDs",
            ),
            (&["run"], "container ID must be specified"),
            (&["run", "x"], "command must be specified"),
            (
                &["run", "x", "y"],
                "reading build container \"x\": container not known",
            ),
            (&["copy", "x"], "src must be specified"),
            (
                &["from"],
                "an image name (or \"scratch\") must be specified",
            ),
            (&["inspect", "x"], "x: image not known"),
            (&["umount"], "at least one container ID must be specified"),
            (&["commit", "x", "--none"], "unexpected argument '--none'"),
            (
                &["config", "--hostname", "x", "y"],
                "--hostname is not offered",
            ),
            (
                &["--userns-uid-map", "x", "rm"],
                "--userns-uid-map is not offered",
            ),
            (&["unshare"], "please use unshare with rootless"),
        ] {
            buildah(wrong).failed(125, &[words]);
        }
        floe.nothing_is_left_of_working();
    });
}

#[test]
fn an_image_has_what_was_copied_run_and_configured_by_hand() {
    machine(|floe| {
        let link = floe.as_buildah();
        let buildah = |arguments: &[&str]| link.run(arguments);
        let image = floe.image.clone();
        buildah(&["from", "-q", &image]).ok();
        let work = "busybox-working-container";
        let script = floe.written("context/script", "#!/bin/sh\necho said\n");
        floe.written("context/dir/one", "1");
        floe.written("context/.containerignore", "dir/two\n");
        floe.written("context/dir/two", "2");
        let context = floe.node.path("context");
        let copied = buildah(&[
            "copy", "--chmod", "755", "--chown", "7:8", work, &script, "/opt/",
        ])
        .ok();
        assert_eq!(
            (copied.len(), copied.chars().all(|c| c.is_ascii_hexdigit())),
            (64, true)
        );
        let contextdir = format!("--contextdir={}", context.display());
        assert_eq!(
            buildah(&["copy", "-q", &contextdir, work, "dir", "/data"]).ok(),
            ""
        );
        buildah(&[
            "config",
            "--workingdir",
            "/data",
            "--env",
            "A=1",
            "--env",
            "B=$A-$PATH",
            work,
        ])
        .ok();
        // Commands see what is configured, and what is theirs alone.
        let ran = link.run(&[
            "run", "--net", "none", "-e", "C=3", "--add-history", work, "--", "sh", "-c",
            "/opt/script; stat -c '%u %g %a' /opt/script; pwd; ls; echo $A $B $C > made; echo $FROM",
        ]);
        assert_eq!(ran.ok(), "said\n7 8 755\n/data\none\nimage");
        let failed = floe.in_working(&["--user", "7:8"], work, "id -u; exit 9");
        assert_eq!((failed.code, failed.out.as_str()), (9, "7\n"));
        assert!(
            failed.err.contains("while running runtime: exit status 9"),
            "{}",
            failed.err
        );
        floe.in_working(&["--valid-exit-codes", "0,9"], work, "exit 9")
            .ok();

        let configured = [
            "config",
            "--cmd",
            "a 'b c'",
            "--entrypoint",
            "[\"/opt/script\"]",
            "--label",
            "l=m",
            "--label",
            "gone=1",
            "--port",
            "80",
            "--port",
            "53/udp",
            "--user",
            "7:8",
            "--annotation",
            "an=1",
            "--author",
            "me",
            "--created-by",
            "hands",
            "--history-comment",
            "by hand",
            "--stop-signal",
            "SIGINT",
            "--volume",
            "/v",
            "--env",
            "FROM-",
            "--healthcheck",
            "CMD true",
            "--healthcheck-interval",
            "5s",
            work,
        ];
        let said = buildah(&configured);
        assert!(said.err.contains(
            "HEALTHCHECK is not supported for OCI image format, CMD true will be ignored"
        ));
        said.ok();
        buildah(&["config", "--label", "gone-", "--port", "80-", work]).ok();
        let of = |format: &str| buildah(&["inspect", "--format", format, work]).ok();
        assert_eq!(
            of("{{.OCIv1.Config.Cmd}} {{.FromImage}}"),
            format!("[a b c] {image}")
        );
        assert_eq!(
            of("{{index .Docker.Config.Labels \"l\"}} {{.OCIv1.Config.User}}"),
            "m 7:8"
        );
        let all = json(&buildah(&["inspect", work]).ok());
        assert_eq!(all["OCIv1"]["config"]["Env"][2], "B=1-/bin");
        assert_eq!(
            all["Docker"]["config"]["Healthcheck"]["Interval"],
            5_000_000_000_u64
        );
        assert_eq!(
            (&all["Container"], &all["Type"]),
            (&work.into(), &"buildah 0.0.1".into())
        );

        // A commit leaves the container as it is.
        let first = buildah(&["commit", "-q", "--timestamp", "7", work, "made"]).ok();
        let again = buildah(&["commit", "-q", "--timestamp", "7", work]).ok();
        assert_eq!(first, again, "the same container makes the same image");
        let made = json(&buildah(&["inspect", "--type", "image", "made"]).ok());
        let (config, annotations) = (&made["OCIv1"], &made["ImageAnnotations"]);
        assert_eq!(config["created"], "1970-01-01T00:00:07Z");
        assert_eq!(config["config"]["Cmd"], serde_json::json!(["a", "b c"]));
        assert_eq!(
            config["config"]["ExposedPorts"],
            serde_json::json!({ "53/udp": {} })
        );
        assert_eq!(config["config"]["Labels"], serde_json::json!({ "l": "m" }));
        assert_eq!(config["config"].get("Healthcheck"), None);
        let history = config["history"].as_array().unwrap();
        let [.., step, last] = &history[..] else {
            panic!("{history:?}")
        };
        assert!(
            step["created_by"]
                .as_str()
                .unwrap()
                .starts_with("/bin/sh -c sh -c /opt/script;")
        );
        assert_eq!(
            (&last["created_by"], &last["comment"]),
            (&"hands".into(), &"by hand".into())
        );
        assert_eq!(
            (
                &annotations["an"],
                &annotations["org.opencontainers.image.base.name"]
            ),
            (&"1".into(), &image.as_str().into())
        );
        let ran = floe.floe(&[
            "run",
            "--rm",
            "--network",
            "none",
            "--entrypoint",
            "cat",
            "localhost/made",
            "made",
        ]);
        assert_eq!(ran.ok(), "1 1-/bin 3");
        // What a container is mounted on is in no layer.
        floe.buildah(&["from", "--name", "look", "made"]).ok();
        let at = PathBuf::from(floe.buildah(&["mount", "look"]).ok());
        let there = [
            "opt/script",
            "etc/hosts",
            "etc/resolv.conf",
            "run/.containerenv",
        ]
        .map(|path| at.join(path).exists());
        assert_eq!(there, [true, false, false, false]);
        buildah(&["rm", "look"]).ok();

        // Docker's form keeps the rest; squashed it is one layer.
        let docker = buildah(&["commit", "-q", "--squash", "-f", "docker", work, "flat"]).ok();
        let flat = json(&buildah(&["inspect", "--type", "image", &docker]).ok());
        assert_eq!(
            flat["Docker"]["config"]["Healthcheck"]["Test"],
            serde_json::json!(["CMD", "true"])
        );
        let layers = flat["OCIv1"]["rootfs"]["diff_ids"]
            .as_array()
            .unwrap()
            .len();
        assert_eq!(layers, 1);
        buildah(&["rm", work]).ok();
        floe.nothing_is_left_of_working();
    });
}

#[test]
fn a_commit_goes_elsewhere_and_commands_have_what_from_was_told() {
    machine(|floe| {
        let image = floe.image.clone();
        let buildah = |arguments: &[&str]| floe.buildah(arguments);
        let shared = floe.written("shared/file", "shared");
        let shared = std::path::Path::new(&shared).parent().unwrap().display();
        let volume = format!("{shared}:/shared:ro");
        let from = [
            "from",
            "-q",
            "--name",
            "s",
            "--network",
            "none",
            "--add-host",
            "far:1.2.3.4",
            "--cap-drop",
            "CHOWN",
        ];
        buildah(&[&from[..], &["--volume", &volume, "--memory", "64m", &image]].concat()).ok();
        let script = "grep far /etc/hosts; cat /shared/file; chown 1 /bin || echo no; ls /sys/class/net; grep -c ' /t tmpfs' /proc/mounts";
        let mount = "type=tmpfs,dst=/t";
        let said = buildah(&["run", "--mount", mount, "s", "--", "sh", "-c", script]);
        assert_eq!(said.out, "1.2.3.4\tfar\nsharedno\nlo\n1\n", "{said:?}");
        let capable = buildah(&[
            "run",
            "--cap-add",
            "CHOWN",
            "s",
            "--",
            "sh",
            "-c",
            "chown 1 /bin && chown 0 /bin && echo yes",
        ]);
        assert_eq!(
            (capable.code, capable.out.as_str()),
            (0, "yes\n"),
            "{capable:?}"
        );
        // A terminal where there is one, and none where it is not wanted.
        for (option, wanted) in [("--terminal", "is one"), ("--tty=false", "is none")] {
            let script = "test -t 0 && echo is one || echo is none";
            let run = floe.on_terminal(&["buildah", "run", option, "s", "sh", "-c", script]);
            let (said, code) = run.end();
            assert!(said.contains(wanted) && code == 0, "{option}: {said}");
        }
        let before = floe.floe(&["images", "-q"]).ok();
        let layout = format!("oci:{}:x", floe.node.path("layout").display());
        let iid = floe.node.path("iid");
        let iid = iid.to_str().unwrap();
        assert_eq!(
            buildah(&["commit", "-q", "--iidfile", iid, "s", &layout]).ok(),
            ""
        );
        assert!(fs::read_to_string(iid).unwrap().starts_with("sha256:"));
        assert_eq!(floe.floe(&["images", "-q"]).ok(), before);
        floe.floe(&["inspect", &layout]).ok();
        let pushed = format!("docker://{}/by/hand:1", floe.registry.host());
        buildah(&["commit", "-q", "--manifest", "list", "--rm", "s", &pushed]).ok();
        floe.floe(&["inspect", &pushed]).ok();
        assert_eq!(
            json(&buildah(&["manifest", "inspect", "list"]).ok())["manifests"]
                .as_array()
                .unwrap()
                .len(),
            1
        );
        floe.nothing_is_left_of_working();
    });
}

#[test]
fn links_of_containers_and_contexts_lead_nowhere_outside() {
    machine(|floe| {
        let image = floe.image.clone();
        floe.buildah(&["from", "--name", "c", "-q", &image]).ok();
        let outside = floe.node.path("outside");
        fs::create_dir(&outside).unwrap();
        let shown = outside.display();
        floe.in_working(
            &[],
            "c",
            &format!("ln -s {shown} /way; ln -s /../../../..{shown} /up; echo in > /in"),
        )
        .ok();
        let file = floe.written("file", "f");
        for target in ["/way/x", "/up/y", "/way/../up/z"] {
            floe.buildah(&["copy", "-q", "c", &file, target]).ok();
        }
        floe.buildah(&["config", "--workingdir", "/way", "c"]).ok();
        floe.buildah(&["copy", "-q", "c", &file]).ok();
        assert_eq!(
            fs::read_dir(&outside).unwrap().count(),
            0,
            "it was written outside"
        );
        // Of a context and of another container neither links nor .. lead out.
        let secret = floe.written("secret", "secret");
        let context = floe.node.path("context");
        fs::create_dir(&context).unwrap();
        symlink(&secret, context.join("link")).unwrap();
        let contextdir = format!("--contextdir={}", context.display());
        for source in ["link", "../secret", "/../secret"] {
            floe.buildah(&["copy", "-q", &contextdir, "c", source, "/got"])
                .failed(
                    125,
                    &[
                        "adding content to container \"c\"",
                        "no such file or directory",
                    ],
                );
        }
        floe.in_working(&[], "c", &format!("ln -s {secret} /secret"))
            .ok();
        floe.buildah(&["from", "--name", "other", "-q", &image])
            .ok();
        floe.buildah(&["copy", "-q", "--from", "c", "other", "/secret", "/got"])
            .failed(125, &["no such file"]);
        floe.buildah(&["copy", "-q", "--from", "c", "other", "/in", "/got"])
            .ok();
        floe.buildah(&[
            "copy",
            "-q",
            "--from",
            &image,
            "other",
            "/bin/busybox",
            "/box",
        ])
        .ok();
        assert_eq!(
            floe.in_working(&[], "other", "cat /got; ls /box").ok(),
            "in\n/box"
        );
        // An archive that is added is unpacked, and its owners are its own.
        let tar = floe.node.path("a.tar");
        let packed = std::process::Command::new("tar")
            .args(["--owner=5", "--group=6", "-C"])
            .arg(floe.node.dir())
            .arg("-cf")
            .arg(&tar)
            .arg("file")
            .status();
        assert!(packed.unwrap().success());
        floe.buildah(&["add", "-q", "other", tar.to_str().unwrap(), "/unpacked/"])
            .ok();
        let at = PathBuf::from(floe.buildah(&["mount", "other"]).ok());
        let found = fs::metadata(at.join("unpacked/file")).unwrap();
        assert_eq!((found.uid(), found.gid()), (5, 6));
        floe.buildah(&["umount", "-a"]).ok();
        floe.buildah(&["prune", "-a", "-f"]).ok();
        floe.nothing_is_left_of_working();
        assert_eq!(floe.floe(&["images", "-q"]).ok(), "");
    });
}

#[test]
fn what_buildahs_own_tests_say_with_every_command_is_taken_and_names_are_as_there() {
    machine(|floe| {
        let link = floe.as_buildah();
        let none = floe.written("mounts.conf", "# nothing\n");
        let some = floe.written("some.conf", "/a:/b\n");
        let policy = floe.node.path("policy.json").display().to_string();
        let before = [
            "--registries-conf-dir",
            "/none",
            "--short-name-alias-conf",
            "/none",
        ];
        let said = |arguments: &[&str]| link.run(&[&before[..], arguments].concat());
        let after = [
            "--default-mounts-file",
            &none,
            "--signature-policy",
            &policy,
        ];
        let from = |image: &str| said(&[&["from", "--pull=false"], &after[..], &[image]].concat());
        assert_eq!(from("scratch").ok(), "working-container");
        let refused = ["from", "--default-mounts-file", &some, "scratch"];
        said(&refused).failed(125, &["\"/a:/b\"", "--volume"]);
        let context = floe.written("context/file", "x");
        let context = context.strip_suffix("/file").expect("its directory");
        let copy = [
            "copy",
            "-q",
            "--contextdir",
            context,
            "working-container",
            context,
            "/there",
        ];
        said(&copy).ok();
        let place = format!("dir:{}", floe.node.path("image").display());
        for to in ["containers-storage:first", &place] {
            said(&["commit", "-q", "working-container", to]).ok();
        }
        said(&["tag", "first", "second"]).ok();
        for (image, name) in [
            ("containers-storage:first", "first-working-container"),
            ("second", "second-working-container"),
            (&place, "dir-working-container"),
        ] {
            assert_eq!(from(image).ok(), name, "{image}");
            let script = ["mount", name];
            let root = PathBuf::from(said(&script).ok());
            assert_eq!(fs::read(root.join("there/file")).expect("copied"), b"x");
            said(&["umount", name]).ok();
        }
        let same = ["rename", "dir-working-container", "dir-working-container"];
        said(&same).failed(125, &["the same name as its current name"]);
        let id = format!("sha256:{}", "1".repeat(64));
        said(&["from", &id]).failed(125, &["image not known"]);
        from("localhost/none").failed(125, &["image not known"]);
        let info = [
            "info",
            "--format",
            "{{.host.OCIRuntime}} {{.store.ImageStore.number}}",
        ];
        assert_eq!(said(&info).ok(), "floe 2");
        said(&["rmi", "first", "second"]).failed(125, &["in use by a container"]);
        said(&["rmi", "none"]).failed(125, &["none: image not known"]);
        said(&["rm", "--all"]).ok();
    });
}
