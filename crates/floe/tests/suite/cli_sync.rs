//! `floe sync`, beside Debian's `skopeo sync`.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;

use crate::cli::fake::{Answer, Fake};
use crate::cli::{Machine, Said, machine};
use serde_json::Value;

fn json(text: &str) -> Value {
    serde_json::from_str(text).expect("JSON")
}

impl Machine {
    /// Debian's skopeo in floe's place.
    fn skopeo(&self, arguments: &[&str]) -> Said {
        let mut command = Command::new("skopeo");
        command.args(["--insecure-policy"]).args(arguments);
        command.args(["--src-tls-verify=false", "--dest-tls-verify=false"]);
        command.output().expect("skopeo is installed").into()
    }

    fn dir(&self, name: &str) -> String {
        self.node.path(name).display().to_string()
    }

    /// `HOST/cli/busybox` with the tags 1, 1.5 and 2.
    fn repository(&self) -> String {
        for tag in ["1.5", "2"] {
            self.push(
                &self.image.replace(":1", &format!(":{tag}")),
                &["echo", tag],
            );
        }
        format!("{}/cli/busybox", self.registry.host())
    }

    fn tags(&self, repository: &str) -> Vec<String> {
        let tags = json(
            &self
                .floe(&["list-tags", &format!("docker://{repository}")])
                .ok(),
        );
        let mut tags: Vec<_> = tags["Tags"]
            .as_array()
            .cloned()
            .unwrap_or_default()
            .iter()
            .filter_map(|tag| tag.as_str().map(str::to_owned))
            .collect();
        tags.sort();
        tags
    }
}

/// Every file below a directory, with its content but for what two copies may differ in.
fn tree(dir: &Path) -> BTreeMap<String, u64> {
    let mut all = BTreeMap::new();
    let mut left = vec![dir.to_owned()];
    while let Some(at) = left.pop() {
        for entry in std::fs::read_dir(&at).expect("read") {
            let entry = entry.expect("an entry");
            let path = entry.path();
            if path.is_dir() {
                left.push(path);
                continue;
            }
            let name = path.strip_prefix(dir).expect("below").display().to_string();
            let size = match name.ends_with("version") {
                true => 0,
                false => entry.metadata().expect("stat").len(),
            };
            all.insert(name, size);
        }
    }
    all
}

#[test]
fn a_repository_goes_to_a_directory_as_skopeo_brings_it_there_and_back() {
    machine(|floe| {
        let repository = floe.repository();
        for scoped in [false, true] {
            let (ours, theirs) = (format!("ours-{scoped}"), format!("theirs-{scoped}"));
            let with = |dir: &str| {
                let mut arguments = vec!["sync", "--src", "docker", "--dest", "dir"];
                arguments.extend(scoped.then_some("--scoped"));
                arguments.extend([repository.as_str(), dir]);
                arguments
                    .iter()
                    .map(|word| (*word).to_owned())
                    .collect::<Vec<_>>()
            };
            let words = with(&floe.dir(&ours));
            let said = floe.floe(&words.iter().map(String::as_str).collect::<Vec<_>>());
            assert_eq!(said.code, 0, "{said:?}");
            let last = said.err.trim_end();
            assert!(last.ends_with("Synced 3 images from 1 sources"), "{last}");
            let words = with(&floe.dir(&theirs));
            floe.skopeo(&words.iter().map(String::as_str).collect::<Vec<_>>())
                .ok();
            assert_eq!(tree(&floe.node.path(&ours)), tree(&floe.node.path(&theirs)));
        }
        // Back from the directory, with an ending.
        let target = format!("{}/back", floe.registry.host());
        let back = [
            "sync",
            "-s",
            "dir",
            "-d",
            "docker",
            "--append-suffix",
            "-mirror",
        ];
        let mut ours = back.to_vec();
        let dir = floe.dir("theirs-false");
        ours.extend([dir.as_str(), &target]);
        floe.floe(&ours).ok();
        let tags = floe.tags(&format!("{target}/busybox"));
        assert_eq!(tags, ["1-mirror", "1.5-mirror", "2-mirror"]);
        // What is there is not overwritten.
        let again = [
            "sync",
            "-s",
            "docker",
            "-d",
            "dir",
            &repository,
            &floe.dir("ours-false"),
        ];
        floe.floe(&again).failed(125, &["there already"]);
    });
}

#[test]
fn a_list_in_yaml_means_what_it_means_to_skopeo() {
    machine(|floe| {
        floe.repository();
        let private = testkit::Registry::start_private().expect("a registry");
        let secret = format!("docker://{}/secret:7", private.host());
        let creds = ["--dest-creds", "floe:secret", "--dest-tls-verify=false"];
        let mut copy = vec!["copy", "-q"];
        copy.extend(creds);
        let original = format!("docker://{}", floe.image);
        copy.extend([original.as_str(), &secret]);
        floe.floe(&copy).ok();
        let list = format!(
            "{}:\n    tls-verify: false\n    images:\n        cli/busybox:\n            - \"2\"\n    \
             images-by-tag-regex:\n        cli/busybox: ^1\\.\n{}:\n    tls-verify: false\n    \
             credentials:\n        username: floe\n        password: secret\n    images:\n        secret: []\n",
            floe.registry.host(),
            private.host(),
        );
        let file = floe.dir("list.yaml");
        std::fs::write(&file, list).expect("write");
        let (ours, theirs) = (floe.dir("ours"), floe.dir("theirs"));
        let dry = ["sync", "--dry-run", "-s", "yaml", "-d", "dir", &file, &ours];
        let said = floe.floe(&dry);
        assert_eq!(said.code, 0, "{said:?}");
        let from = format!("docker://{}/cli/busybox:2", floe.registry.host());
        let line = format!("from=\"{from}\" to=\"dir:{ours}/busybox:2\"");
        assert!(said.err.contains(&line), "{said:?}");
        assert_eq!(said.err.matches("Would have copied image ref").count(), 3);
        assert!(
            said.err.contains("Would have synced 3 images from"),
            "{said:?}"
        );
        assert!(!Path::new(&ours).exists());
        floe.floe(&["sync", "-s", "yaml", "-d", "dir", "--scoped", &file, &ours])
            .ok();
        floe.skopeo(&[
            "sync", "-s", "yaml", "-d", "dir", "--scoped", &file, &theirs,
        ])
        .ok();
        assert_eq!(tree(Path::new(&ours)), tree(Path::new(&theirs)));
        assert_eq!(
            tree(Path::new(&ours))
                .keys()
                .filter(|name| name.ends_with("version"))
                .count(),
            3
        );
    });
}

#[test]
fn versions_of_a_list_are_taken_there_and_brought_back() {
    machine(|floe| {
        let repository = floe.repository();
        for tag in ["latest", "v1.5.3", "1.6.0-rc.1", "2.1"] {
            let to = format!("docker://{repository}:{tag}");
            floe.floe(&["copy", "-q", &format!("docker://{}", floe.image), &to])
                .ok();
        }
        let host = floe.registry.host();
        let list = |constraint: &str| {
            let list =
                format!("{host}:\n    images-by-semver:\n        cli/busybox: {constraint:?}\n");
            let file = floe.dir("list.yaml");
            std::fs::write(&file, list).expect("write");
            file
        };
        let (dir, back) = (floe.dir("out"), format!("{host}/back"));
        for (constraint, tags) in [
            (">=1.5, <2", &["1.5", "v1.5.3"][..]),
            ("~1.6.0-0 || 2.1", &["1.6.0-rc.1", "2.1"]),
        ] {
            let file = list(constraint);
            floe.floe(&["sync", "-s", "yaml", "-d", "dir", &file, &dir])
                .ok();
            floe.floe(&["sync", "-s", "dir", "-d", "docker", &dir, &back])
                .ok();
            let found = floe.tags(&format!("{back}/busybox"));
            assert!(
                tags.iter().all(|tag| found.contains(&(*tag).to_owned())),
                "{found:?}"
            );
            std::fs::remove_dir_all(&dir).expect("remove it");
        }
        let found = floe.tags(&format!("{back}/busybox"));
        assert_eq!(found, ["1.5", "1.6.0-rc.1", "2.1", "v1.5.3"]);

        let file = list(">=x y");
        floe.floe(&["sync", "-s", "yaml", "-d", "dir", &file, &dir])
            .failed(125, &["cli/busybox", ">=x y"]);
        assert!(!Path::new(&dir).exists());
    });
}

#[test]
fn one_tag_of_a_registry_goes_to_another_and_failures_can_be_passed_over() {
    machine(|floe| {
        let repository = floe.repository();
        let to = testkit::Registry::start().expect("a registry");
        let target = format!("{}/mirror", to.host());
        let insecure = ["--dest-tls-verify=false", "-s", "docker", "-d", "docker"];
        let mut one = vec!["sync"];
        one.extend(insecure);
        let (tag, scoped) = (format!("{repository}:1.5"), format!("{target}/x"));
        one.extend([tag.as_str(), &target]);
        floe.floe(&one).ok();
        let seen = |name: &str| {
            let place = format!("docker://{name}");
            let inspect = [
                "inspect",
                "--no-tags",
                "--tls-verify=false",
                "--format",
                "{{.Digest}}",
                &place,
            ];
            floe.floe(&inspect)
        };
        assert_eq!(seen(&format!("{target}/busybox:1.5")), seen(&tag));
        assert_ne!(seen(&format!("{target}/busybox:1")).code, 0);
        let list = format!(
            "{host}:\n  images:\n    cli/missing: [\"1\"]\n    cli/busybox: [\"1\"]\n    none: []\n",
            host = floe.registry.host()
        );
        let file = floe.dir("list.yaml");
        std::fs::write(&file, list).expect("write");
        let with = |more: &[&str]| {
            let mut words = vec![
                "sync",
                "--dest-tls-verify=false",
                "-s",
                "yaml",
                "-d",
                "docker",
            ];
            words.extend(more);
            words.extend([file.as_str(), &scoped]);
            floe.floe(&words)
        };
        with(&[]).failed(125, &["none"]);
        let said = with(&["--keep-going"]);
        assert!(
            said.err.contains("cli/missing:1") && said.err.contains("2 of the"),
            "{said:?}"
        );
        assert_eq!(said.code, 125);
        assert_eq!(seen(&format!("{scoped}/busybox:1")).code, 0);
        floe.floe(&["sync", "-s", "dir", "-d", "dir", "/x", "/y"])
            .failed(125, &["copy the files"]);
        floe.floe(&[
            "sync",
            "-s",
            "dir",
            "-d",
            "docker",
            &floe.dir("cni"),
            &target,
        ])
        .failed(125, &["no image in it"]);
    });
}

#[test]
fn what_is_no_tag_is_passed_over_and_what_fails_does_not_stop_the_rest() {
    machine(|floe| {
        let fake = Fake::start(|path| match path.ends_with("/tags/list") {
            true => Answer::of(200, r#"{"tags":["1","no tag","\u001b[31m",".x","2"]}"#),
            false => Answer::of(404, ""),
        });
        let source = format!("{}/x", fake.host);
        let to = floe.dir("out");
        let sync = [
            "sync",
            "--src-tls-verify=false",
            "-s",
            "docker",
            "-d",
            "dir",
        ];
        let said = floe.floe(&[&sync[..], &["--dry-run", &source, &to]].concat());
        assert!(said.err.contains("\"no tag\" is no tag"), "{said:?}");
        assert!(!said.err.contains('\u{1b}'), "{said:?}");
        let told = &said.err;
        assert!(told.contains("x:1") && told.contains("x:2"), "{told}");
        assert!(told.contains("Would have synced 2 images"), "{told}");

        // One item of a list that is none does not cost the others.
        let list = format!(
            "{host}:\n  credentials: {{}}\n  images:\n    cli/busybox: [\"no tag\", \"1\"]\n\
             b.example:\n",
            host = floe.registry.host()
        );
        let file = floe.dir("list.yaml");
        std::fs::write(&file, list).expect("write");
        let sync = [
            "sync",
            "--keep-going",
            "-s",
            "yaml",
            "-d",
            "dir",
            &file,
            &to,
        ];
        floe.floe(&sync).failed(125, &["no tag", "1 of the"]);
        assert!(Path::new(&to).join("busybox:1/manifest.json").exists());

        // Nor does a directory that cannot be an image's name.
        let images = floe.node.path("images");
        let image = format!("docker://{}", floe.image);
        for name in ["a B", "ok"] {
            std::fs::create_dir_all(images.join(name)).expect("create");
            let place = format!("dir:{}", images.join(name).display());
            floe.floe(&["copy", "-q", &image, &place]).ok();
        }
        let target = format!("{}/from-dir", floe.registry.host());
        let images = images.display().to_string();
        let sync = [
            "sync",
            "--keep-going",
            "-s",
            "dir",
            "-d",
            "docker",
            &images,
            &target,
        ];
        floe.floe(&sync).failed(125, &["a B", "1 of the"]);
        assert_eq!(floe.tags(&format!("{target}/ok")), ["latest"]);
    });
}

#[test]
fn under_the_name_skopeo_sync_is_skopeos() {
    machine(|floe| {
        let link = floe.node.path("skopeo");
        let program = testkit::program("floe").expect("floe is built");
        std::os::unix::fs::symlink(program, &link).expect("link");
        let mut command = Command::new(&link);
        command.env("FLOE_CONFIG", floe.node.config());
        command.args([
            "--insecure-policy",
            "sync",
            "--src",
            "docker",
            "--dest",
            "dir",
            "--all",
        ]);
        command.args([&floe.image, &floe.dir("synced")]);
        let said = Said::from(command.output().expect("run"));
        said.ok();
        assert!(floe.node.path("synced/busybox:1/manifest.json").exists());
    });
}
