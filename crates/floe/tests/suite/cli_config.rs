//! The configuration as commands and the server take it: drop-ins, what is said of keys without effect, and
//! where registries.conf is.

use crate::cli::{Said, machine};

#[test]
fn a_persons_commands_say_nothing_of_keys_without_effect_and_the_server_one_line() {
    machine(|floe| {
        let file = floe.node.config();
        let config = std::fs::read_to_string(&file).expect("read");
        let keys: String = (0..60)
            .map(|number| format!("key{number} = true\n"))
            .collect();
        std::fs::write(&file, format!("{config}\n[crio.metrics]\nx = 1\n[crio.tracing]\n{keys}[crio.runtime.nothing.a]\n{keys}")).expect("write");
        let said = floe.floe(&["images"]);
        assert_eq!((said.code, said.err.as_str()), (0, ""));
        assert_eq!(floe.floe(&["ps"]).err, "");
        floe.node.serve().expect("serve");
        floe.node.terminate().expect("terminate");
        let log = floe.node.log();
        let warnings: Vec<&str> = log
            .lines()
            .filter(|line| line.contains("WARN") && line.contains("configuration"))
            .collect();
        assert_eq!(warnings.len(), 1, "{log}");
        assert!(
            warnings[0].contains("121 keys of the configuration"),
            "{}",
            warnings[0]
        );
        assert!(warnings[0].contains("and 116 more"), "{}", warnings[0]);
        let details = log
            .matches("DEBUG a key of the configuration has no effect")
            .count();
        assert_eq!(details, 121, "at debug, each");
    });
}

#[test]
fn drop_ins_beside_the_file_count_unless_they_are_switched_off() {
    machine(|floe| {
        let file = floe.node.config();
        let dir = format!("{}.d", file.display());
        std::fs::create_dir(&dir).expect("create");
        std::fs::write(
            format!("{dir}/10-bad"),
            "[crio.runtime]\npids_limit = 'many'\n",
        )
        .expect("write");
        floe.floe(&["images"])
            .failed(125, &["crio.runtime.pids_limit"]);
        floe.floe(&["-d", "", "images"]).ok();
        floe.floe(&["--config-dir", "", "images"]).ok();
        floe.floe(&["-d", "", "serve", "-d", &dir])
            .failed(125, &["crio.runtime.pids_limit"]);
        std::fs::write(format!("{dir}/20-good"), "[crio.runtime]\npids_limit = 7\n")
            .expect("write");
        floe.floe(&["images"]).ok();
    });
}

#[test]
fn the_environments_registries_conf_counts_for_the_engine_and_the_commands_alike() {
    machine(|floe| {
        let file = floe.node.config();
        let config = std::fs::read_to_string(&file).expect("read");
        let without: Vec<&str> = config
            .lines()
            .filter(|line| !line.starts_with("registries_conf"))
            .collect();
        std::fs::write(&file, without.join("\n")).expect("write");
        let other = floe.node.path("other.conf");
        std::fs::write(
            &other,
            "[[registry]]\nlocation = 'blocked.example'\nblocked = true\n",
        )
        .expect("write");
        let with = |conf: &std::path::Path, arguments: &[&str]| -> Said {
            let mut command = floe.node.floe(arguments).expect("floe");
            command.env("CONTAINERS_REGISTRIES_CONF", conf);
            command.output().expect("run").into()
        };
        let image = "blocked.example/x:1";
        with(&other, &["pull", image]).failed(125, &["blocked"]);
        with(&other, &["inspect", &format!("docker://{image}")]).failed(125, &["blocked"]);
        let absent = floe.node.path("absent.conf");
        with(&absent, &["pull", image]).failed(125, &["absent.conf"]);
        with(&absent, &["inspect", &format!("docker://{image}")]).failed(125, &["absent.conf"]);
    });
}

#[test]
fn the_options_and_variables_of_crio_are_taken_and_named_where_they_are_wrong() {
    machine(|floe| {
        for (words, named) in [
            (&["--pids-limit", "many"][..], "--pids-limit"),
            (&["--cgroup-manager=magic"], "--cgroup-manager"),
            (&["--enable-metrics=perhaps"], "--enable-metrics"),
            (
                &["--log-size-max", "-1", "--default-ulimits", "x"],
                "--default-ulimits",
            ),
            (
                &[
                    "--enable-metrics",
                    "--metrics-socket",
                    "relative",
                    "--conmon",
                    "/c",
                ],
                "--metrics-socket",
            ),
        ] {
            let all = [&["serve"], words].concat();
            floe.floe(&all).failed(125, &[named]);
        }
        floe.floe(&["serve", "--no-such-option"])
            .failed(125, &["--no-such-option"]);
        let with = |variable: &str, text: &str, more: &[&str]| {
            let mut command = floe.node.floe(&[&["serve"], more].concat()).expect("floe");
            Said::from(command.env(variable, text).output().expect("run"))
        };
        with("CONTAINER_PIDS_LIMIT", "many", &[]).failed(125, &["CONTAINER_PIDS_LIMIT"]);
        with("STREAM_IDLE_TIMEOUT", "soon", &[]).failed(125, &["STREAM_IDLE_TIMEOUT"]);
        let variable = "CONTAINER_CGROUP_MANAGER";
        let over = with(variable, "magic", &["--cgroup-manager", "sorcery"]);
        over.failed(125, &["--cgroup-manager", "sorcery"]);
        // A person's commands are not the engine.
        let mut command = floe.node.floe(&["images"]).expect("floe");
        let said = command.env("CONTAINER_PIDS_LIMIT", "many").output();
        Said::from(said.expect("run")).ok();
    });
}
