//! What podman's options of run make of a container, and what is refused of them.

use crate::cli::machine;
use testkit::images::{self, Entry};

/// The words of a shell script, run with these options.
macro_rules! shell {
    ($floe:expr, $options:expr, $script:expr) => {
        $floe
            .run(&[&["--rm"][..], &$options].concat(), &["sh", "-c", $script])
            .ok()
    };
}

#[test]
fn the_environment_comes_from_files_and_from_here() {
    machine(|floe| {
        let file = floe.node.path("env");
        std::fs::write(
            &file,
            "# none\n\nA=of the file\nB=kept\nFLOE_TEST_C\nFLOE_TEST_D*\n",
        )
        .expect("write");
        let file = file.display().to_string();
        let script = "echo $A,$B,$FLOE_TEST_C,$FLOE_TEST_D1,$FROM,$http_proxy";
        let with = |options: &[&str]| {
            let words = [
                &["run", "--rm", "--network", "none"][..],
                options,
                &[&floe.image, "/bin/sh", "-c", script],
            ];
            let mut command = floe.command(&words.concat());
            command
                .env("FLOE_TEST_C", "c")
                .env("FLOE_TEST_D1", "d")
                .env("http_proxy", "http://p");
            crate::cli::Said::from(command.output().expect("run floe")).ok()
        };
        assert_eq!(
            with(&["--env-file", &file, "-e", "A=1"]),
            "1,kept,c,d,image,http://p"
        );
        assert_eq!(with(&["--http-proxy=false"]), ",,,,image,");
        assert_eq!(
            with(&["--env-host", "--unsetenv", "FROM"]),
            ",,c,d,,http://p"
        );
        assert_eq!(
            with(&["--unsetenv-all", "--http-proxy=false", "-e", "A=1"]),
            "1,,,,,"
        );
        floe.run(&["--env-file", "/no/such"], &["true"])
            .failed(125, &["/no/such"]);
    });
}

#[test]
fn file_systems_in_memory_are_where_they_are_asked_for() {
    machine(|floe| {
        let tmpfs = [
            "--tmpfs",
            "/m:size=1m,mode=700",
            "--mount",
            "type=tmpfs,dst=/n,tmpfs-size=2m,ro",
        ];
        let script =
            "grep -E ' /[mn] ' /proc/mounts; touch /m/x; touch /n/x 2>/dev/null || echo read-only";
        let said = shell!(floe, tmpfs, script);
        let mut mounts: Vec<&str> = said.lines().collect();
        mounts[..2].sort_unstable();
        assert!(
            mounts[0].contains("/m tmpfs rw,nosuid,nodev") && mounts[0].contains("size=1024k"),
            "{said}"
        );
        assert!(mounts[0].contains("mode=700"), "{said}");
        assert!(
            mounts[1].contains("/n tmpfs ro") && mounts[1].contains("size=2048k"),
            "{said}"
        );
        assert_eq!(mounts[2], "read-only");
        // What the image has there is copied into it.
        let said = shell!(floe, ["--tmpfs", "/www"], "cat /www/*; touch /www/x");
        assert!(said.contains("hello from a pod"), "{said}");
        let said = shell!(
            floe,
            ["--mount", "type=tmpfs,dst=/www,notmpcopyup"],
            "ls /www"
        );
        assert_eq!(said, "");
        // A root that is not writable leaves some directories so.
        let script = "touch /run/x /tmp/x /var/tmp/x && touch /x 2>/dev/null || echo read-only";
        assert_eq!(shell!(floe, ["--read-only"], script), "read-only");
        floe.run(
            &["--rm", "--read-only", "--read-only-tmpfs=false"],
            &["touch", "/tmp/x"],
        )
        .failed(1, &["Read-only"]);
        floe.run(
            &["--tmpfs", "/m", "--mount", "type=tmpfs,dst=/m"],
            &["true"],
        )
        .failed(125, &["duplicate mount destination"]);
        floe.run(&["--tmpfs", "/m:size=big"], &["true"])
            .failed(125, &["size=big"]);
        assert_eq!(floe.listed(&["-a"]), [""; 0]);
    });
}

#[test]
fn directories_and_images_are_mounted_by_their_words() {
    machine(|floe| {
        let dir = floe.node.path("dir");
        std::fs::create_dir(&dir).expect("create");
        std::fs::write(dir.join("there"), "on the node").expect("write");
        let bind = format!("type=bind,src={},dst=/d,ro,noexec", dir.display());
        let said = shell!(
            floe,
            ["--mount", &bind],
            "cat /d/there; echo; grep -c ' /d .*ro,.*noexec' /proc/mounts; touch /d/x 2>/dev/null || echo no"
        );
        assert_eq!(said, "on the node\n1\nno");
        let image = format!("{}/cli/files:1", floe.registry.host());
        let files = [
            Entry::Dir("data", 0o755),
            Entry::File("data/f", 0o644, b"of an image"),
        ];
        let layers = [images::layer(&files).expect("a layer")];
        floe.push_layers(&image, &layers, serde_json::json!({}));
        let mount = format!("type=image,source={image},dst=/i,subpath=data");
        assert_eq!(shell!(floe, ["--mount", &mount], "cat /i/f"), "of an image");
        floe.run(&["--mount", "type=glob,src=/v,dst=/v"], &["true"])
            .failed(125, &["glob is not offered"]);
    });
}

#[test]
fn limits_reach_the_process_and_its_cgroup() {
    machine(|floe| {
        let options = [
            "--ulimit",
            "nofile=100:200",
            "--umask",
            "0077",
            "--oom-score-adj",
            "77",
        ];
        let said = shell!(
            floe,
            options,
            "ulimit -n; ulimit -Hn; umask; cat /proc/self/oom_score_adj"
        );
        assert_eq!(said, "100\n200\n0077\n77");
        assert_eq!(shell!(floe, [""; 0], "umask"), "0022");
        let options = [
            "--memory",
            "64m",
            "--memory-reservation",
            "32m",
            "--cpu-shares",
            "200",
            "--cpu-period=50000",
            "--cpu-quota=25000",
            "--pids-limit",
            "0",
            "--cpuset-cpus",
            "0",
        ];
        let script = "cd /sys/fs/cgroup; for f in memory/memory.soft_limit_in_bytes memory.low cpu/cpu.shares cpu.weight cpu/cpu.cfs_quota_us cpu.max pids/pids.max pids.max cpuset/cpuset.cpus cpuset.cpus; do [ -f $f ] && cat $f; done; true";
        let said = shell!(floe, options, script);
        let lines: Vec<&str> = said.lines().collect();
        assert_eq!(lines[0], (32 << 20).to_string(), "{said}");
        assert!(lines[2].starts_with("25000"), "{said}");
        assert_eq!(lines[3..], ["max", "0"], "{said}");
        assert!(shell!(floe, ["--shm-size", "3m"], "df -k /dev/shm").contains("3072"));
        for bad in [
            &["--ulimit", "files=1"][..],
            &["--memory-swap", "1m", "--memory", "2m"],
            &["--cpus", "1", "--cpu-quota", "1000"],
            &["--oom-score-adj", "2000"],
            &["--umask", "9"],
            &["--device-read-bps", "/etc/passwd:1m"],
        ] {
            let said = floe.run(bad, &["true"]);
            assert_eq!(said.code, 125, "{bad:?}: {said:?}");
        }
        assert_eq!(floe.listed(&["-a"]), [""; 0]);
    });
}

#[test]
fn identity_and_confinement_are_as_asked() {
    machine(|floe| {
        let image = format!("{}/cli/groups:1", floe.registry.host());
        let group = [
            Entry::Dir("etc", 0o755),
            Entry::File("etc/group", 0o644, b"more:x:41:\n"),
        ];
        let layers = [
            images::busybox().expect("busybox-static"),
            images::layer(&group).expect("a layer"),
        ];
        floe.push_layers(&image, &layers, serde_json::json!({ "Env": ["PATH=/bin"] }));
        let run = |options: &[&str], script: &str| {
            let words = [
                &["run", "--rm", "--network", "none"][..],
                options,
                &[&image, "sh", "-c", script],
            ];
            floe.floe(&words.concat())
        };
        assert_eq!(
            run(&["--group-add", "more", "--group-add", "7"], "id -G").ok(),
            "0 7 41"
        );
        run(&["--group-add", "nobody-here"], "true")
            .failed(125, &["unable to find group nobody-here"]);
        let caps = |options: &[&str]| run(options, "grep CapEff /proc/self/status").ok();
        assert_eq!(caps(&["--cap-drop", "ALL"]), "CapEff:\t0000000000000000");
        assert_eq!(
            caps(&["--cap-drop=all", "--cap-add=chown,NET_BIND_SERVICE"]),
            "CapEff:\t0000000000000401"
        );
        let device = run(
            &["--device", "/dev/null:/dev/mine:r"],
            "test -c /dev/mine && echo there",
        )
        .ok();
        assert_eq!(device, "there");
        run(&["--device", "/no/such"], "true").failed(125, &["/no/such"]);
        let masked = "cat /proc/kcore 2>/dev/null | head -c 1 | wc -c; test -w /proc/sys/kernel/shmmax && echo writable";
        assert_eq!(run(&["--security-opt", "mask=/bin"], "/bin/true").code, 127);
        let said = run(&["--security-opt", "unmask=ALL"], masked).ok();
        assert!(
            !said.starts_with('0') || said.contains("writable"),
            "{said}"
        );
        // An init looks after what the command leaves; it is not the first process itself.
        assert_eq!(run(&[], "echo $$").ok(), "1");
        assert_ne!(run(&["--init"], "echo $$").ok(), "1");
        let map = run(&["--uidmap", "0:200000:1000"], "cat /proc/self/uid_map").ok();
        let words: Vec<&str> = map.split_whitespace().collect();
        assert_eq!(words, ["0", "200000", "1000"]);
    });
}

#[test]
fn names_and_files_of_the_network_are_as_asked() {
    machine(|floe| {
        let options = [
            "--add-host",
            "one;two:10.1.2.3",
            "--add-host",
            "six:[fd00::1]",
            "-h",
            "box",
            "--dns",
            "10.9.9.9",
            "--dns-search",
            "a.b",
            "--dns-option",
            "ndots:3",
        ];
        let said = shell!(
            floe,
            options,
            "hostname; cat /etc/resolv.conf; grep -E 'one|two|six' /etc/hosts"
        );
        assert_eq!(
            said,
            "box\nsearch a.b\nnameserver 10.9.9.9\noptions ndots:3\n10.1.2.3\tone\n10.1.2.3\ttwo\nfd00::1\tsix"
        );
        let script = "grep -c ' /etc/' /proc/mounts";
        let said = floe.run(
            &["--rm", "--no-hosts", "--no-hostname", "--dns", "none"],
            &["sh", "-c", script],
        );
        assert_eq!(said.out.trim(), "0", "{said:?}");
        for bad in ["x", "x:y", "x y:1.2.3.4", ":1.2.3.4", "x:host-gateway"] {
            let said = floe.run(&["--add-host", bad], &["true"]);
            assert_eq!(said.code, 125, "{bad}: {said:?}");
        }
    });
}

#[test]
fn files_tell_what_was_made_and_names_are_taken_over() {
    machine(|floe| {
        let path = |name: &str| floe.node.path(name).display().to_string();
        let [cid, pid, monitor] = ["cid", "pid", "monitor"].map(path);
        let options = [
            "-d",
            "--name",
            "one",
            "--cidfile",
            &cid,
            "--pidfile",
            &pid,
            "--conmon-pidfile",
            &monitor,
        ];
        let id = floe.run(&options, &["sleep", "1000"]).ok();
        assert_eq!(std::fs::read_to_string(&cid).expect("read"), id);
        for file in [&pid, &monitor] {
            let number = std::fs::read_to_string(file).expect("read");
            assert!(
                std::path::Path::new("/proc").join(&number).exists(),
                "{file}: {number}"
            );
        }
        floe.run(&["--cidfile", &cid], &["true"])
            .failed(125, &["container id file exists", &cid]);
        // The file of one that never was is gone again.
        let other = path("other");
        floe.run(&["--cidfile", &other, "--name", "one"], &["true"])
            .failed(125, &["--replace"]);
        assert!(!std::path::Path::new(&other).exists());
        let second = floe
            .run(
                &["-d", "--name", "one", "--replace", "--stop-timeout", "0"],
                &["sh", "-c", "trap '' TERM; sleep 1000"],
            )
            .ok();
        assert_ne!(second, id);
        assert_eq!(floe.listed(&["-a"]), ["one"]);
        // It was made to be waited for no longer.
        floe.floe(&["stop", "one"]).ok();
        floe.floe(&["rm", "--cidfile", &cid])
            .failed(1, &["no container with ID or name", "no such container"]);
        floe.floe(&["rm", "--ignore", "--cidfile", &cid, "one"])
            .ok();
        floe.floe(&["rm", "-t", "0", "--all", "--force", "--ignore"])
            .ok();
        assert_eq!(floe.listed(&["-a"]), [""; 0]);
    });
}

#[test]
fn labels_annotations_and_logs_are_kept_as_asked() {
    machine(|floe| {
        let file = floe.node.path("labels");
        std::fs::write(&file, "# none\na=of the file\nb\n").expect("write");
        let file = file.display().to_string();
        let options = [
            "-d",
            "--name",
            "x",
            "--label-file",
            &file,
            "-l",
            "a=1",
            "--annotation",
            "k=v",
            "--log-driver",
            "none",
        ];
        floe.run(&options, &["sh", "-c", "echo said; sleep 1000"])
            .ok();
        let list = floe.floe(&["ps", "--format", "json"]).ok();
        let list: serde_json::Value = serde_json::from_str(&list).expect("JSON");
        assert_eq!(list[0]["Labels"], serde_json::json!({ "a": "1", "b": "" }));
        let said = floe.floe(&["logs", "x"]);
        assert!(!said.out.contains("said"), "{said:?}");
        floe.floe(&["rm", "-f", "-t", "0", "x"]).ok();
        // Words of an entry point, and an image that is gone afterwards.
        // What stands behind the image is the command's, also where it looks like an option of run.
        let said = floe.run(&["--rm", "--entrypoint", "sh"], &["-c", "echo $0", "-v"]);
        assert_eq!(said.ok(), "-v");
        let said = floe.run(&["--rm", "--entrypoint", r#"["echo", "a b"]"#], &["c"]);
        assert_eq!(said.ok(), "a b c");
        floe.run(&["--rmi"], &["true"]).ok();
        assert_eq!(floe.floe(&["images", "-q"]).ok(), "");
    });
}

#[test]
fn what_is_not_offered_is_refused_before_anything_is_made() {
    machine(|floe| {
        for (option, words) in [
            (
                &["--preserve-fds", "3"][..],
                "--preserve-fds is not offered",
            ),
            (&["--restart", "sometimes"], "unless-stopped"),
            (&["--timeout", "soon"], "--timeout"),
            (
                &["--ip", "10.0.0.9"],
                "--ip can only be set when the network mode is bridge",
            ),
            (&["--userns", "keep-id"], "--uidmap"),
            (&["--pid", "container:x"], "private and host"),
            (&["--platform", "linux/s390x"], "s390x is not offered"),
            (&["--memorry", "1m"], "--memory"),
        ] {
            floe.run(option, &["true"]).failed(125, &[words]);
        }
        assert_eq!(floe.floe(&["images", "-q"]).ok(), "");
        // What happens anyway is taken.
        let taken = [
            "--rm",
            "--restart",
            "no",
            "--no-healthcheck",
            "--cgroups=enabled",
            "--systemd=false",
            "--image-volume=ignore",
            "--uts",
            "private",
            "--cgroupns",
            "private",
            "--disable-content-trust",
            "--expose",
            "80",
            "--platform",
            "linux/amd64",
        ];
        if cfg!(target_arch = "x86_64") {
            assert_eq!(floe.run(&taken, &[]).ok(), "default");
        }
    });
}

#[test]
fn all_ports_that_an_image_names_are_published() {
    machine(|floe| {
        let image = format!("{}/cli/ports:1", floe.registry.host());
        let layers = [images::busybox().expect("busybox-static")];
        let config = serde_json::json!({ "Env": ["PATH=/bin"], "ExposedPorts": { "80/tcp": {}, "53/udp": {} } });
        floe.push_layers(&image, &layers, config);
        let options = [
            "run", "-d", "--name", "web", "-P", "--expose", "90-91", "-p", "18095:91",
        ];
        floe.floe(&[&options[..], &[&image, "httpd", "-f", "-h", "/www"]].concat())
            .ok();
        let ports = floe
            .floe(&[
                "inspect",
                "--format",
                "{{json .NetworkSettings.Ports}}",
                "web",
            ])
            .ok();
        let ports: serde_json::Value = serde_json::from_str(&ports).expect("JSON");
        let of = |port: &str| {
            ports[port][0]["HostPort"]
                .as_str()
                .and_then(|port| port.parse::<u16>().ok())
        };
        for port in ["80/tcp", "53/udp", "90/tcp"] {
            assert!(of(port).is_some_and(|port| port > 1024), "{port}: {ports}");
        }
        assert_eq!(of("91/tcp"), Some(18095));
        let body = testkit::net::http_get([127, 0, 0, 1].into(), of("80/tcp").expect("a port"));
        assert_eq!(body.expect("it answers"), "hello from a pod\n");
        floe.floe(&["rm", "-f", "-t", "0", "web"]).ok();
    });
}
