//! The commands of a node's administrator, in the words of `crio`: config, check, wipe, status, version.

use crate::cli::machine;

#[test]
fn the_configuration_is_printed_validated_and_migrated() {
    machine(|floe| {
        let default = floe.floe(&["config", "--default"]).ok();
        assert!(default.contains("\npids_limit = 0\n"), "{default}");
        assert!(
            default.contains("# Greatest number of processes"),
            "{default}"
        );
        let own = floe.floe(&["config"]).ok();
        let root = format!("\nroot = \"{}\"\n", floe.node.path("root").display());
        assert!(own.contains(&root), "{own}");
        assert!(own.contains("\n# pids_limit = 0\n"), "{own}");
        let file = floe.node.path("new.toml");
        let path = file.display().to_string();
        std::fs::write(&file, &own).expect("write");
        assert!(
            floe.floe(&["config", "validate", &path])
                .ok()
                .contains("can be used")
        );
        floe.floe(&["config", "validate"]).ok();
        std::fs::write(&file, "[crio.runtime]\nno_such = 1\n").expect("write");
        let said = floe.floe(&["config", "validate", &path]);
        assert_eq!(said.code, 0);
        assert!(said.err.contains("new.toml:2"), "{said:?}");
        for (text, place) in [
            ("[crio.runtime]\n\npids_limit = 'x'\n", "new.toml:3"),
            ("[crio\n", "new.toml:1"),
            ("[crio.runtime]\nseccomp_profile = '/no/such'\n", "/no/such"),
        ] {
            std::fs::write(&file, text).expect("write");
            floe.floe(&["config", "validate", &path])
                .failed(1, &[place]);
        }
        std::fs::write(
            &file,
            "[crio.network]\nplugin_dir = '/p'\n[crio.runtime]\nmanage_ns_lifecycle = true\n",
        )
        .expect("write");
        let said = floe.floe(&["config", "migrate", &path]);
        assert!(said.out.contains("plugin_dirs = [\"/p\"]"), "{said:?}");
        assert!(!said.out.contains("manage_ns_lifecycle"), "{said:?}");
        assert!(said.err.contains("new.toml:2"), "{said:?}");
    });
}

#[test]
fn a_running_engine_says_how_it_is() {
    machine(|floe| {
        floe.floe(&["status", "info"])
            .failed(125, &["connect to the engine"]);
        floe.node.serve().expect("serve");
        let info = floe.floe(&["status", "info"]).ok();
        assert!(info.contains("cgroup driver: cgroupfs"), "{info}");
        assert!(info.contains("  0:0:4294967295"), "{info}");
        let config = floe.floe(&["status", "config"]).ok();
        assert!(config.contains("[crio.runtime]"), "{config}");
        let id = floe.background("user", "sleep 1000");
        let socket = floe.node.socket().display().to_string();
        let told = floe
            .floe(&["status", "-s", &socket, "containers", "-i", id.trim()])
            .ok();
        assert!(told.contains("name: "), "{told}");
        assert!(told.ends_with("\nips:"), "no network: {told}");
        floe.floe(&["status", "containers", "--id", "0123"])
            .failed(125, &["0123"]);
        floe.floe(&["status", "containers", "--id", "../x"])
            .failed(125, &["no id"]);
        assert!(floe.floe(&["status", "goroutines"]).ok().contains("floe"));
        floe.floe(&["rm", "-f", "-t", "0", "user"]).ok();
        floe.node.terminate().expect("terminate");
    });
}

#[test]
fn the_version_is_told_as_text_and_json() {
    machine(|floe| {
        let text = floe.floe(&["version"]).ok();
        assert!(text.starts_with("Version:"), "{text}");
        let said = floe.floe(&["version", "--json"]).ok();
        let told: serde_json::Value = serde_json::from_str(&said).expect("JSON");
        assert_eq!(told["version"], env!("CARGO_PKG_VERSION"));
        assert_eq!(told["seccompEnabled"], true);
        let said = floe.floe(&["version", "-v"]).ok();
        assert!(said.contains("CriVersion:"), "{said}");
    });
}

#[test]
fn a_store_is_checked_and_wiped_but_never_under_an_engine_or_a_container() {
    machine(|floe| {
        floe.floe(&["pull", "-q", &floe.image]).ok();
        assert!(
            floe.floe(&["check", "--quick"])
                .ok()
                .contains("all is well")
        );
        floe.node.serve().expect("serve");
        for words in [&["wipe"][..], &["wipe", "--force"]] {
            floe.floe(words).failed(125, &["an engine serves at"]);
        }
        floe.node.terminate().expect("terminate");
        floe.background("user", "sleep 1000");
        floe.floe(&["wipe"]).ok();
        assert!(floe.floe(&["ps", "-q"]).ok().lines().count() == 1);
        floe.floe(&["wipe", "--force"])
            .failed(125, &["have not ended", "floe rm"]);
        floe.floe(&["stop", "-t", "0", "user"]).ok();
        floe.floe(&["wipe", "-f"]).ok();
        assert_eq!(floe.floe(&["ps", "-a", "-q"]).ok(), "");
        assert_eq!(floe.floe(&["images", "-q"]).ok(), "");
        assert!(floe.floe(&["check"]).ok().contains("all is well"));
    });
}
