//! skopeo's flags around a copy: who to be, how often to try, how long, by which configuration; and its
//! exit codes.

use std::sync::atomic::{AtomicUsize, Ordering};

use crate::cli::fake::{Answer, Fake};
use crate::cli::machine;
use serde_json::json;

#[test]
fn what_is_not_found_has_skopeos_exit_code() {
    machine(|floe| {
        let skopeo = floe.as_skopeo();
        let host = floe.registry.host();
        let layout = floe.node.path("layout");
        let layout = |name: &str| format!("oci:{}:{name}", layout.display());
        let image = format!("docker://{}", floe.image);
        skopeo.run(&["copy", "-q", &image, &layout("x")]).ok();
        let missing = format!("docker://{host}/cli/busybox:none");
        let store = floe.node.path("graph").display().to_string();
        for (verb, place) in [
            ("inspect", missing.as_str()),
            ("delete", &missing),
            ("inspect", &layout("none")),
            ("inspect", "floe:example.com/none:1"),
        ] {
            let said = skopeo.run(&[verb, place]);
            assert_eq!(said.code, 2, "{verb} {place}: {said:?}");
        }
        let to = format!("dir:{store}");
        assert_eq!(skopeo.run(&["copy", &missing, &to]).code, 2);
        // Under its own name floe has its own code.
        floe.floe(&["inspect", &missing])
            .failed(125, &["manifest unknown"]);
        let absent = format!("dir:{}", floe.node.path("absent").display());
        for place in ["docker://127.0.0.1:1/x", &absent] {
            assert_eq!(skopeo.run(&["inspect", place]).code, 1, "{place}");
        }
    });
}

#[test]
fn a_registry_that_comes_up_late_is_tried_as_often_as_asked() {
    machine(|floe| {
        let asked = AtomicUsize::new(0);
        let fake = Fake::start(move |_| match asked.fetch_add(1, Ordering::Relaxed) {
            // Each try asks a few times by itself.
            0..9 => Answer::of(503, "").with("Retry-After: 0"),
            _ => Answer::of(200, r#"{"tags":["1"]}"#),
        });
        let repository = format!("docker://{}/x", fake.host);
        let tls = "--tls-verify=false";
        floe.floe(&["list-tags", tls, &repository])
            .failed(125, &["503"]);
        let retry = ["--retry-times", "3", "--retry-delay", "10ms"];
        let said = floe.floe(&[&["list-tags", tls][..], &retry, &[&repository]].concat());
        assert!(said.err.contains("trying again in 10ms"), "{said:?}");
        assert!(said.ok().contains("\"1\""));
        // What is not there does not come by asking again.
        let missing = format!("docker://{}", floe.image.replace(":1", ":none"));
        let said = floe.floe(&[&["inspect"][..], &retry, &[&missing]].concat());
        assert!(!said.err.contains("trying again"), "{said:?}");
        // Nobody listens on port 1.
        let to = format!("dir:{}", floe.node.path("to").display());
        let away = "docker://127.0.0.1:1/x";
        let said = floe.floe(&[&["copy"][..], &retry, &[away, &to]].concat());
        assert_eq!(said.err.matches("trying again").count(), 3, "{said:?}");
    });
}

#[test]
fn who_to_be_is_said_in_skopeos_ways_for_either_side() {
    machine(|floe| {
        let private = testkit::Registry::start_private().expect("a registry");
        let from = format!("docker://{}", floe.image);
        let to = format!("docker://{}/x:1", private.host());
        let tls = "--dest-tls-verify=false";
        let copy =
            |who: &[&str]| floe.floe(&[&["copy", "-q", tls][..], who, &[&from, &to]].concat());
        copy(&["--dest-username", "floe", "--dest-password", "wrong"])
            .failed(125, &["access denied"]);
        copy(&["--dest-username", "floe", "--dest-password", "secret"]).ok();
        copy(&["--dest-username", "floe"]).failed(125, &["--dest-password"]);
        copy(&[
            "--dest-creds",
            "a:b",
            "--dest-username",
            "floe",
            "--dest-password",
            "x",
        ])
        .failed(125, &["cannot be used with"]);
        let inspect = |who: &[&str]| {
            let verb = ["inspect", "--tls-verify=false"];
            floe.floe(&[&verb[..], who, &[&to]].concat())
        };
        inspect(&["--username", "floe", "--password", "secret"]).ok();
        assert_ne!(inspect(&[]).code, 0);

        let seen = std::sync::Arc::new(std::sync::Mutex::new(Vec::new()));
        let kept = seen.clone();
        let fake = Fake::start_heads(move |path, head| {
            let mut kept = kept.lock().expect("nobody panics with it");
            let lines = head.iter().filter(|line| line.starts_with("authorization"));
            kept.extend(lines.cloned());
            match path.ends_with("/tags/list")
                && head.iter().any(|line| line.ends_with("Bearer abc"))
            {
                true => Answer::of(200, r#"{"tags":["1"]}"#),
                false => Answer::of(401, "").with(
                    "WWW-Authenticate: Bearer realm=\"https://tokens.example/\",service=\"x\"",
                ),
            }
        });
        let repository = format!("docker://{}/x", fake.host);
        let token = ["list-tags", "--tls-verify=false", "--registry-token", "abc"];
        floe.floe(&[&token[..], &[&repository]].concat()).ok();
        let seen = seen.lock().expect("nobody panics with it");
        assert!(
            seen.iter().all(|line| line.ends_with("Bearer abc")),
            "{seen:?}"
        );
    });
}

#[test]
fn global_options_hold_for_the_command_behind_them() {
    machine(|floe| {
        let skopeo = floe.as_skopeo();
        let image = format!("docker://{}", floe.image);
        // Without a word about this registry it is asked over TLS, which it does not speak.
        let conf = floe.node.path("other.conf");
        std::fs::write(&conf, "").expect("write");
        let conf = conf.display().to_string();
        let strict = ["--registries-conf", &conf];
        let inspect = ["inspect", &image];
        skopeo
            .run(&[&strict[..], &inspect].concat())
            .failed(1, &["TLS"]);
        skopeo
            .run(&[&strict[..], &["--tls-verify=false"], &inspect].concat())
            .ok();
        let said = [
            &strict[..],
            &["--tls-verify=false", "inspect", "--tls-verify=true", &image],
        ]
        .concat();
        skopeo.run(&said).failed(1, &["TLS"]);
        let absent = floe.node.path("absent.conf").display().to_string();
        skopeo
            .run(&["--registries-conf", &absent, "inspect", &image])
            .failed(1, &[&absent]);

        let silent = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
        let away = format!("docker://{}/x", silent.local_addr().expect("an address"));
        skopeo
            .run(&["--command-timeout", "300ms", "inspect", &away])
            .failed(1, &["300ms", "--command-timeout"]);
        skopeo
            .run(&["--command-timeout", "5m", "inspect", &image])
            .ok();
        skopeo
            .run(&["--command-timeout", "soon", "inspect", &image])
            .failed(1, &["1m30s"]);
    });
}

#[test]
fn digests_are_told_by_the_algorithm_and_in_the_file_that_are_asked_for() {
    machine(|floe| {
        let image = format!("docker://{}", floe.image);
        let raw = floe.floe(&["inspect", "--raw", &image]).out;
        let of = |algorithm: &str| {
            let format = ["--no-tags", "--format", "{{.Digest}}"];
            let verb = ["inspect", "--manifest-digest", algorithm];
            floe.floe(&[&verb[..], &format, &[&image]].concat()).ok()
        };
        let sha512 = image::Digest::of_with(image::Algorithm::Sha512, raw.as_bytes());
        assert_eq!(of("sha512"), sha512.to_string());
        assert_eq!(of("sha256"), image::Digest::of(raw.as_bytes()).to_string());

        let (file, to) = (floe.node.path("digests"), floe.node.path("synced"));
        let list = json!({ floe.registry.host(): { "images": { "cli/busybox": ["1"] } } });
        let yaml = floe.node.path("list.yaml");
        std::fs::write(&yaml, list.to_string()).expect("write");
        let [file, to, yaml] = [file, to, yaml].map(|path| path.display().to_string());
        let sync = [
            "sync",
            "--src",
            "yaml",
            "--dest",
            "dir",
            "--digestfile",
            &file,
            &yaml,
            &to,
        ];
        floe.floe(&sync).ok();
        let digests = std::fs::read_to_string(&file).expect("read");
        let digest = image::Digest::of(raw.as_bytes());
        assert_eq!(digests, format!("{digest} dir:{to}/busybox:1\n"));
    });
}
