//! Short names, mirrors, registries.conf and who is asked in which order: by the command line.

use crate::cli::{Machine, machine};
use testkit::Registry;

/// Makes short names mean these registries, in order, all of them over plain HTTP.
fn search(floe: &Machine, hosts: &[&str]) {
    let mut text = format!("unqualified-search-registries = {hosts:?}\n");
    for host in hosts {
        text += &format!("[[registry]]\nlocation = \"{host}\"\ninsecure = true\n");
    }
    std::fs::write(floe.node.path("registries.conf"), text).expect("write");
}

#[test]
fn a_short_name_says_what_each_registry_came_to() {
    machine(|floe| {
        let empty = Registry::start().expect("a registry");
        let own = floe.registry.host();
        // Nobody listens on port 1.
        search(floe, &["127.0.0.1:1", &empty.host(), &own]);
        floe.floe(&["pull", "no/such:1"]).failed(
            125,
            &[
                "127.0.0.1:1/no/such:1",
                "Connection refused",
                &format!("{}/no/such:1", empty.host()),
                &format!("{own}/no/such:1"),
                "manifest unknown",
            ],
        );
        // And the one that has it is found behind the others.
        floe.floe(&["pull", "-q", "cli/busybox:1"]).ok();
    });
}

#[test]
fn a_policy_that_refuses_is_the_last_word_on_a_short_name() {
    machine(|floe| {
        let own = floe.registry.host();
        let other = Registry::start().expect("a registry");
        let policy = serde_json::json!({
            "default": [{ "type": "insecureAcceptAnything" }],
            "transports": { "docker": { own.clone(): [{ "type": "reject" }] } },
        });
        std::fs::write(floe.node.path("policy.json"), policy.to_string()).expect("write");
        search(floe, &[&own, &other.host()]);
        let said = floe.floe(&["pull", "cli/busybox:1"]);
        assert!(!said.err.contains(&other.host()), "{}", said.err);
        said.failed(125, &["policy.json", &own]);
    });
}

#[test]
fn verbs_that_start_nothing_need_no_runtime() {
    machine(|floe| {
        let config = std::fs::read_to_string(floe.node.config()).expect("read");
        let absent = floe.node.path("absent/floe-runtime").display().to_string();
        let set = format!("runtime_path = {absent:?}");
        let lines = config
            .lines()
            .map(|line| match line.contains("runtime_path") {
                true => set.as_str(),
                false => line,
            });
        let lines: Vec<&str> = lines.collect();
        std::fs::write(floe.node.config(), lines.join("\n")).expect("write");
        floe.floe(&["pull", "-q", &floe.image]).ok();
        floe.floe(&["tag", &floe.image, "example.com/x:1"]).ok();
        floe.floe(&["images"]).ok();
        floe.floe(&["ps", "--all"]).ok();
        floe.floe(&["run", "--rm", "--network", "none", &floe.image])
            .failed(125, &[&absent]);
        floe.floe(&["rmi", "--force", &floe.image]).ok();
    });
}

#[test]
fn a_relative_root_is_below_the_working_directory() {
    machine(|floe| {
        let dir = floe.node.path("here");
        std::fs::create_dir(&dir).expect("create");
        let within = |arguments: &[&str]| {
            let mut command = floe.command(arguments);
            crate::cli::Said::from(command.current_dir(&dir).output().expect("run floe"))
        };
        let roots = ["--root", "own/root", "--runroot", "own/run"];
        let pull = [&roots[..], &["pull", "-q", &floe.image]].concat();
        let id = within(&pull).ok();
        assert!(dir.join("own/root/index.json").exists());
        let absolute = dir.join("own/root").display().to_string();
        let images = ["--root", absolute.as_str(), "images", "-q", "--no-trunc"];
        let listed = floe.floe(&images).ok();
        assert!(listed.contains(&id), "{listed}");
        let run = ["run", "--rm", "--network", "none", &floe.image];
        assert_eq!(within(&[&roots[..], &run].concat()).ok(), "default");
        let shared = ["--additional-store", "own/root", "images", "-q"];
        assert!(!within(&shared).ok().is_empty());
    });
}

#[test]
fn unknown_keys_of_registries_conf_are_told_once_with_their_place() {
    machine(|floe| {
        let file = floe.node.path("registries.conf");
        let text = std::fs::read_to_string(&file).expect("read");
        let text =
            format!("colour = \"blue\"\n{text}[[registry]]\nlocation = \"x.example\"\nsize = 3\n");
        let size = text.lines().count();
        std::fs::write(&file, text).expect("write");
        let image = format!("docker://{}", floe.image);
        let absent = floe.node.path("absent").display().to_string();
        for verb in [
            vec!["inspect", &image],
            vec!["images"],
            vec!["load", "-i", &absent],
        ] {
            let said = floe.floe(&verb);
            for (line, key) in [(1, "colour"), (size, "size")] {
                let place = format!("Warning: {}:{line}: unknown key {key:?}", file.display());
                assert_eq!(said.err.matches(&place).count(), 1, "{verb:?}: {said:?}");
            }
        }
    });
}
