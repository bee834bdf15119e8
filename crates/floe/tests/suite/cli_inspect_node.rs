//! What scripts ask of containers, images and the node itself, and podman's options before the command.

use crate::cli::machine;

fn json(text: &str) -> serde_json::Value {
    serde_json::from_str(text).expect("JSON")
}

#[test]
fn containers_and_images_are_inspected_by_name_without_a_transport() {
    machine(|floe| {
        let options = [
            "-d", "--name", "one", "-l", "k=v", "-w", "/tmp", "-e", "A=1", "--memory", "64m",
        ];
        let id = floe.run(&options, &["sleep", "1000"]).ok();
        let format =
            |format: &str, name: &str| floe.floe(&["inspect", "--format", format, name]).ok();
        assert_eq!(format("{{.State.Running}}", "one"), "true");
        assert_eq!(
            format("{{.State.Status}} {{.Id}}", "one"),
            format!("running {id}")
        );
        assert_eq!(
            format("{{.Config.Labels.k}} {{.Config.WorkingDir}}", &id[..10]),
            "v /tmp"
        );
        assert_eq!(
            format("{{.HostConfig.Memory}} {{.HostConfig.NetworkMode}}", "one"),
            format!("{} none", 64 << 20)
        );
        let pid: i32 = format("{{.State.Pid}}", "one").parse().expect("a number");
        assert!(std::path::Path::new(&format!("/proc/{pid}")).exists());
        floe.run(&["--name", "two"], &["sh", "-c", "exit 3"]);
        assert_eq!(
            format("{{.State.Running}} {{.State.ExitCode}}", "two"),
            "false 3"
        );
        assert_eq!(
            floe.floe(&["inspect", "--latest", "--format", "{{.Name}}"])
                .ok(),
            "two"
        );

        let image = json(&floe.floe(&["inspect", &floe.image]).ok());
        assert_eq!(image[0]["RepoTags"][0], floe.image);
        assert_eq!(
            image[0]["Config"]["Cmd"],
            serde_json::json!(["echo", "default"])
        );
        assert_eq!(format("{{.Id}}", &floe.image), format("{{.Image}}", "one"));
        let both = json(&floe.floe(&["inspect", "one", &floe.image]).ok());
        assert_eq!(both.as_array().map(Vec::len), Some(2));
        // With a transport it is skopeo's.
        let there = json(
            &floe
                .floe(&["inspect", &format!("floe:{}", floe.image)])
                .ok(),
        );
        assert_eq!(there["Os"], "linux");
        floe.floe(&["inspect", "none"])
            .failed(125, &["no such object: \"none\""]);
        floe.floe(&["inspect", "--type", "container", &floe.image])
            .failed(125, &["no such container"]);
        floe.floe(&["inspect", "--type", "image", "one"])
            .failed(125, &["image not known"]);
        floe.floe(&["inspect", "docker-daemon:x"])
            .failed(125, &["is not offered"]);

        let exists = |what: &str, name: &str| floe.floe(&[what, "exists", name]).code;
        assert_eq!(
            (exists("container", "one"), exists("container", "none")),
            (0, 1)
        );
        assert_eq!(
            (exists("image", &floe.image), exists("image", "none")),
            (0, 1)
        );
        assert_eq!((exists("pod", "x"), exists("volume", "x")), (1, 1));
        floe.floe(&["container", "rm", "-f", "-t", "0", "--filter", "label=k"])
            .ok();
        assert_eq!(floe.listed(&["-a"]), ["two"]);
        floe.floe(&["container", "rm", "--latest"]).ok();
        assert_eq!(floe.floe(&["container", "ls", "-a", "-q"]).ok(), "");
    });
}

#[test]
fn what_scripts_begin_and_end_with_works() {
    machine(|floe| {
        assert_eq!(
            floe.floe(&["info", "--format", "{{.Host.OCIRuntime.Name}}"])
                .ok(),
            "floe"
        );
        let info = json(&floe.floe(&["info"]).ok());
        assert_eq!(info["host"]["ociRuntime"]["name"], "floe");
        assert_eq!(
            info["store"]["graphRoot"],
            floe.node.path("root").display().to_string()
        );
        assert!(
            info["host"]["memTotal"]
                .as_u64()
                .is_some_and(|bytes| bytes > 1 << 20)
        );
        let version = env!("CARGO_PKG_VERSION");
        for format in ["{{.Server.Version}}", "{{.Client.Version}}"] {
            assert_eq!(floe.floe(&["version", "--format", format]).ok(), version);
        }
        for words in [
            &["pod", "rm", "-t", "0", "--all", "--force", "--ignore"][..],
            &["rm", "-t", "0", "--all", "--force", "--ignore"],
            &["network", "prune", "--force"],
            &["volume", "rm", "-a"],
            &["volume", "prune", "-f"],
        ] {
            assert_eq!(floe.floe(words).ok(), "", "{words:?}");
        }
        floe.floe(&["pod", "rm", "x"])
            .failed(1, &["no pod with name or ID x found: no such pod"]);
        floe.floe(&["volume", "rm", "x"])
            .failed(1, &["no volume with name \"x\" found: no such volume"]);
    });
}

#[test]
fn podmans_options_stand_before_the_command() {
    machine(|floe| {
        let taken = [
            "--events-backend",
            "none",
            "--storage-driver",
            "vfs",
            "--storage-opt",
            "a=b",
            "--log-level",
            "debug",
            "--runtime-flag",
            "--debug",
            "--tmpdir",
            "/tmp",
            "--runtime",
            "floe",
        ];
        let manager =
            floe.floe(&[&taken[..], &["info", "--format", "{{.Host.CgroupManager}}"]].concat());
        assert_eq!(manager.ok(), "cgroupfs");
        let said = floe.floe(&["--noout", "version"]);
        assert_eq!((said.code, said.out.as_str()), (0, ""));
        floe.floe(&["--runtime", "/usr/bin/none", "images"])
            .failed(125, &["/usr/bin/none", "runtime handler"]);
        floe.floe(&["--cgroup-manager", "mine", "images"])
            .failed(125, &["cgroupfs, systemd"]);
        // Nothing is known of this registry there: it is asked over TLS, which it does not speak.
        let conf = floe.node.path("other.conf");
        std::fs::write(&conf, "").expect("write");
        let conf = conf.display().to_string();
        let image = format!("docker://{}", floe.image);
        let insecure = floe.floe(&["--registries-conf", &conf, "inspect", &image]);
        let usual = floe.floe(&["inspect", &image]);
        assert_eq!(usual.code, 0, "{usual:?}");
        // The node's own list of insecure registries still holds for it.
        let none = floe.node.path("none.conf").display().to_string();
        floe.floe(&["--registries-conf", &none, "inspect", &image])
            .failed(125, &[&none]);
        assert!(
            insecure.code == 0 || insecure.err.contains("TLS"),
            "{insecure:?}"
        );
    });
}

#[test]
fn images_are_pushed_and_saved_as_podman_is_told_to() {
    machine(|floe| {
        floe.floe(&["pull", "-q", &floe.image]).ok();
        let (digest, to) = (
            floe.node.path("digest"),
            format!("{}/pushed:1", floe.registry.host()),
        );
        let file = digest.display().to_string();
        let push = [
            "push",
            "-q",
            "--digestfile",
            &file,
            "--compression-format",
            "zstd",
            "--force-compression",
            "--retry",
            "0",
        ];
        floe.floe(&[&push[..], &[&floe.image, &to]].concat()).ok();
        let there = format!("docker://{to}");
        let raw = floe.floe(&["inspect", "--raw", &there]).out;
        assert_eq!(
            std::fs::read_to_string(&digest).expect("read"),
            image::Digest::of(raw.as_bytes()).to_string()
        );
        let kind = |raw: &str| {
            json(raw)["layers"][0]["mediaType"]
                .as_str()
                .unwrap_or_default()
                .to_owned()
        };
        assert!(kind(&raw).ends_with("tar+zstd"), "{raw}");
        floe.floe(&["push", "--encryption-key", "x", &floe.image, &to])
            .failed(125, &["--encryption-key is not offered"]);
        let save = |name: &str, options: &[&str]| {
            let path = floe.node.path(name).display().to_string();
            floe.floe(&[&["save", "-q", "-o", &path][..], options, &[&floe.image]].concat())
                .ok();
            path
        };
        let place = format!(
            "oci:{}",
            save("plain", &["--format", "oci-dir", "--uncompressed"])
        );
        assert!(kind(&floe.floe(&["inspect", "--raw", &place]).out).ends_with(".tar"));
        // Twice is the same, byte for byte.
        let [one, two] =
            ["one.tar", "two.tar"].map(|name| std::fs::read(save(name, &[])).expect("read"));
        assert!(one == two);
    });
}
