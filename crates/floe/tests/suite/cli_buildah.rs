//! `floe buildah`, and floe by the name buildah: working containers from their first step to their image, what becomes of
//! them when commands are killed, and what they cannot reach.

use std::fs;
use std::os::unix::fs::{MetadataExt, symlink};
use std::path::PathBuf;
use std::process::{Child, Stdio};

use serde_json::Value;
use testkit::kill::{End, Stops, kill_at};

use crate::cli::{Machine, Said, machine, until};

fn json(text: &str) -> Value {
    serde_json::from_str(text).expect("JSON")
}

impl Machine {
    fn buildah(&self, arguments: &[&str]) -> Said {
        self.floe(&[&["buildah"], arguments].concat())
    }

    /// A command in a working container, without a network.
    fn in_working(&self, options: &[&str], container: &str, script: &str) -> Said {
        let run = [&["run", "--network", "none"], options].concat();
        self.buildah(&[&run[..], &[container, "--", "sh", "-c", script]].concat())
    }

    fn begun(&self, arguments: &[&str]) -> Child {
        let mut command = self.command(&[&["buildah"], arguments].concat());
        command.spawn().expect("start floe")
    }

    /// A file of the test's.
    fn written(&self, name: &str, content: &str) -> String {
        let path = self.node.path(name);
        fs::create_dir_all(path.parent().expect("a parent")).expect("make");
        fs::write(&path, content).expect("write");
        path.display().to_string()
    }

    fn names_of_working(&self) -> Vec<String> {
        let list = json(&self.buildah(&["containers", "--json"]).ok());
        let names = list.as_array().expect("a list").iter();
        names
            .map(|one| one["containername"].as_str().expect("a name").to_owned())
            .collect()
    }

    fn nothing_is_left_of_working(&self) {
        assert_eq!(self.names_of_working(), [""; 0]);
        let count =
            |part: &str| fs::read_dir(self.node.path("root").join(part)).map_or(0, Iterator::count);
        assert_eq!([count("containers"), count("mounts")], [0, 0]);
    }
}

#[test]
fn an_image_is_made_by_hand_with_buildahs_words() {
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

        // Docker's form keeps the rest; squashed it is one layer; elsewhere it leaves nothing here.
        let docker = buildah(&["commit", "-q", "--squash", "-f", "docker", work, "flat"]).ok();
        let flat = json(&buildah(&["inspect", "--type", "image", &docker]).ok());
        assert_eq!(
            flat["Docker"]["config"]["Healthcheck"]["Test"],
            serde_json::json!(["CMD", "true"])
        );
        assert_eq!(
            flat["OCIv1"]["rootfs"]["diff_ids"]
                .as_array()
                .unwrap()
                .len(),
            1
        );
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
        buildah(&[
            "commit",
            "-q",
            "--manifest",
            "list",
            "--rm",
            "busybox-working-container-1",
            &pushed,
        ])
        .ok();
        floe.floe(&["inspect", &pushed]).ok();
        assert_eq!(
            json(&buildah(&["manifest", "inspect", "list"]).ok())["manifests"]
                .as_array()
                .unwrap()
                .len(),
            1
        );
        assert_eq!(floe.names_of_working(), [work, "s"]);

        buildah(&["rename", work, "s"]).failed(
            125,
            &["The container name \"s\" is already in use by container"],
        );
        buildah(&["rename", work, "w"]).ok();
        buildah(&["rmi", &image]).failed(2, &["image used by ", "image is in use by a container"]);
        let removed = buildah(&["rm", "w", "none"]);
        assert_eq!((removed.code, removed.out.trim().len()), (125, 64));
        assert!(
            removed
                .err
                .contains("removing container \"none\": container not known"),
            "{}",
            removed.err
        );
        assert_eq!(buildah(&["rm", "--all"]).ok(), id);
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
fn a_mount_is_the_container_itself_and_commands_wait_for_each_other() {
    machine(|floe| {
        let image = floe.image.clone();
        let id_of = |name: &str| {
            floe.buildah(&["containers", "-q", "--filter", &format!("name={name}")])
                .ok()
        };
        floe.buildah(&["from", "--name", "c", "-q", &image]).ok();
        let at = PathBuf::from(floe.buildah(&["mount", "c"]).ok());
        assert!(at.starts_with(floe.node.dir()), "{at:?}");
        assert_eq!(floe.buildah(&["mount"]).ok(), format!("c {}", at.display()));
        // What is written at the mount, by commands and by copies is one and the same, at once.
        fs::write(at.join("by-hand"), "hand").unwrap();
        let said = floe.in_working(
            &[],
            "c",
            "cat /by-hand; echo command > /by-command; rm /by-hand",
        );
        assert_eq!(said.ok(), "hand");
        let file = floe.written("x", "copied");
        floe.buildah(&["copy", "-q", "c", &file, "/by-copy"]).ok();
        let read = |name: &str| fs::read_to_string(at.join(name)).ok();
        assert_eq!(read("by-command").as_deref(), Some("command\n"));
        assert_eq!(
            (read("by-copy").as_deref(), read("by-hand")),
            (Some("copied"), None)
        );
        floe.buildah(&["commit", "-q", "c", "mounted"]).ok();
        assert_eq!(
            floe.floe(&[
                "run",
                "--rm",
                "--network",
                "none",
                "localhost/mounted",
                "cat",
                "/by-copy"
            ])
            .ok(),
            "copied"
        );

        // A busy one stays and says so; it is taken back, and again is no error.
        let held = fs::File::open(at.join("bin")).unwrap();
        floe.buildah(&["umount", "c"])
            .failed(125, &["error unmounting container c"]);
        drop(held);
        assert_eq!(floe.buildah(&["umount", "c"]).ok(), id_of("c"));
        assert_eq!(floe.buildah(&["umount", "c"]).ok(), "");

        // The second command begins when the first has ended.
        let door = floe.node.path("door");
        fs::create_dir(&door).unwrap();
        let volume = format!("{}:/door", door.display());
        let script = "touch /door/in; until [ -e /door/go ]; do sleep 0.05; done; touch /first";
        let first = floe.begun(&[
            "run",
            "--network",
            "none",
            "-v",
            &volume,
            "c",
            "sh",
            "-c",
            script,
        ]);
        until("the first runs", || door.join("in").exists());
        let second = floe.begun(&["run", "--network", "none", "c", "--", "ls", "/first"]);
        fs::write(door.join("go"), "").unwrap();
        for child in [first, second] {
            Said::from(child.wait_with_output().unwrap()).ok();
        }

        // Of a command that is killed nothing goes on, and the container stays.
        let script = "echo $$ > /door/pid; touch /kept; sleep 1000";
        let mut killed = floe.begun(&[
            "run",
            "--network",
            "none",
            "-v",
            &volume,
            "c",
            "sh",
            "-c",
            script,
        ]);
        until("the command runs", || {
            fs::read_to_string(door.join("pid")).is_ok_and(|pid| !pid.is_empty())
        });
        killed.kill().unwrap();
        killed.wait().unwrap();
        assert_eq!(
            floe.in_working(&[], "c", "ls /kept; ps | grep -c '[s]leep 1000'")
                .out,
            "/kept\n0\n"
        );
        // Also when it is removed while it is mounted.
        floe.buildah(&["mount", "c"]).ok();
        floe.buildah(&["rm", "c"]).ok();
        floe.nothing_is_left_of_working();
    });
}

#[test]
fn a_working_container_outlives_engines_collections_and_its_image() {
    machine(|floe| {
        let image = floe.image.clone();
        floe.floe(&["pull", "-q", &image]).ok();
        floe.buildah(&["from", "--name", "kept", &image]).ok();
        floe.in_working(&[], "kept", "echo kept > /kept").ok();
        // Killed while it is made, one is there or not, whatever else an engine and a collection clear away.
        let from = ["buildah", "from", "--name", "new", image.as_str()];
        let traced = || {
            let mut command = floe.command(&from);
            command.stdout(Stdio::null()).stderr(Stdio::null());
            command
        };
        let counted = kill_at(&mut traced(), Stops::Writes, usize::MAX).expect("trace floe");
        let End::Finished { stops } = counted else {
            panic!("it was killed")
        };
        floe.buildah(&["rm", "new"]).ok();
        for stop in (0..stops).step_by((stops / 12).max(1)) {
            kill_at(&mut traced(), Stops::Writes, stop).expect("trace floe");
            let names = floe.names_of_working();
            assert!(
                names == ["kept"] || names == ["kept", "new"],
                "{stop}: {names:?}"
            );
            if names.len() == 2 {
                floe.in_working(&[], "new", "true").ok();
                floe.buildah(&["rm", "new"]).ok();
            }
            // Its name is free again.
            floe.buildah(&["from", "--name", "new", &image]).ok();
            floe.buildah(&["rm", "new"]).ok();
            let left = fs::read_dir(floe.node.path("root/containers"))
                .unwrap()
                .count();
            assert_eq!(left, 1, "{stop}");
        }
        assert_eq!(floe.in_working(&[], "kept", "cat /kept").ok(), "kept");
        floe.buildah(&["rm", "-a"]).ok();
        floe.nothing_is_left_of_working();
    });
}

#[test]
fn what_an_engine_clears_away_is_no_working_container() {
    machine(|floe| {
        let image = floe.image.clone();
        floe.buildah(&["from", "--name", "kept", "-q", &image]).ok();
        floe.in_working(&[], "kept", "echo kept > /kept").ok();
        floe.node.serve().expect("the engine starts");
        floe.node.kill().expect("the engine ends");
        // kubelet's collection of images asks nobody.
        floe.floe(&["image", "prune", "-a", "-f"]).ok();
        floe.floe(&["system", "prune", "-a", "-f"]).ok();
        floe.floe(&["images", "-q"]).ok();
        assert_eq!(floe.names_of_working(), ["kept"]);
        assert_eq!(floe.in_working(&[], "kept", "cat /kept").ok(), "kept");
        floe.buildah(&["commit", "-q", "kept", "later"]).ok();
        assert_eq!(
            floe.floe(&[
                "run",
                "--rm",
                "--network",
                "none",
                "localhost/later",
                "cat",
                "/kept"
            ])
            .ok(),
            "kept"
        );
        floe.floe(&["system", "check"]).ok();
        // A record that nobody can read is listed, and can be removed.
        let dir = fs::read_dir(floe.node.path("root/containers"))
            .unwrap()
            .next()
            .unwrap()
            .unwrap()
            .path();
        fs::write(dir.join("working.json"), "{\"version\": 9}").unwrap();
        let said = floe.buildah(&["containers", "-q"]);
        let id = dir
            .file_name()
            .unwrap()
            .to_str()
            .unwrap()
            .strip_prefix("build-container-")
            .unwrap();
        assert_eq!(said.out.trim(), id);
        assert!(said.err.contains("needs a newer floe"), "{}", said.err);
        floe.buildah(&["run", id, "true"])
            .failed(125, &["needs a newer floe", "remove it with rm"]);
        assert_eq!(floe.buildah(&["rm", &id[..12]]).ok(), id);
        floe.floe(&["rmi", "-a", "-f"]).ok();
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
