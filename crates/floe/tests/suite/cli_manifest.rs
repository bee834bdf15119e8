//! `floe manifest`: lists put together, changed, pushed and removed, beside Debian's podman.

use crate::cli::{Machine, machine};
use serde_json::Value;

fn json(text: &str) -> Value {
    serde_json::from_str(text).expect("JSON")
}

impl Machine {
    /// A stored image of a busybox for this architecture, which says `words`.
    fn import(&self, name: &str, arch: &str, words: &str) {
        let file = self.node.path("root.tar");
        let layer = testkit::images::busybox().expect("busybox-static");
        std::fs::write(&file, layer).expect("write");
        let change = format!(r#"CMD ["/bin/echo","{words}"]"#);
        let file = file.display().to_string();
        self.floe(&["import", "-q", "--arch", arch, "-c", &change, &file, name])
            .ok();
    }

    fn raw(&self, name: &str) -> Value {
        json(
            &self
                .floe(&["inspect", "--raw", &format!("docker://{name}")])
                .ok(),
        )
    }

    fn entries(&self, list: &str) -> Vec<Value> {
        let list = json(&self.floe(&["manifest", "inspect", list]).ok());
        list["manifests"].as_array().cloned().unwrap_or_default()
    }

    fn of_registry(&self, name: &str) -> String {
        format!("{}/{name}", self.registry.host())
    }
}

/// This machine's architecture by Go's name.
fn host() -> String {
    image::Platform::host().architecture
}

#[test]
fn a_list_of_stored_and_registry_images_is_pushed_whole_and_pulled_by_platform() {
    machine(|floe| {
        floe.import("example.com/local:1", "s390x", "for another machine");
        let list = floe.of_registry("lists/app:1");
        assert_eq!(floe.floe(&["manifest", "create", &list]).ok(), list);
        floe.floe(&["manifest", "add", &list, "example.com/local:1"])
            .ok();
        floe.floe(&[
            "manifest",
            "add",
            &list,
            &format!("docker://{}", floe.image),
        ])
        .ok();
        let platforms: Vec<_> = floe
            .entries(&list)
            .iter()
            .map(|entry| entry["platform"]["architecture"].clone())
            .collect();
        assert_eq!(platforms, ["s390x", &host()]);
        let digest = floe.node.path("digest").display().to_string();
        floe.floe(&["manifest", "push", "-q", "--digestfile", &digest, &list])
            .ok();
        let raw = floe.raw(&list);
        assert_eq!(raw["mediaType"], "application/vnd.oci.image.index.v1+json");
        let text = floe
            .floe(&["inspect", "--raw", &format!("docker://{list}")])
            .out;
        let written = std::fs::read_to_string(digest).expect("a digest");
        assert_eq!(written, image::Digest::of(text.as_bytes()).to_string());
        floe.floe(&["pull", "-q", &list]).ok();
        assert_eq!(
            floe.floe(&["run", "--rm", "--network", "none", &list]).ok(),
            "default"
        );
        let other = [
            "inspect",
            "--override-arch",
            "s390x",
            "--config",
            &format!("docker://{list}"),
        ];
        let config = json(&floe.floe(&other).ok());
        assert_eq!(config["config"]["Cmd"][1], "for another machine");
        let skopeo = std::process::Command::new("skopeo")
            .args(["inspect", "--raw", "--tls-verify=false"])
            .arg(format!("docker://{list}"))
            .output()
            .expect("skopeo is installed");
        assert_eq!(String::from_utf8_lossy(&skopeo.stdout), text);
    });
}

#[test]
fn a_list_says_of_an_image_what_podman_says_of_it() {
    machine(|floe| {
        let archive = floe.node.path("image.tar");
        let archive = format!("docker-archive:{}", archive.display());
        floe.floe(&["copy", "-q", &format!("docker://{}", floe.image), &archive])
            .ok();
        let add = |list: &str| {
            [
                "manifest",
                "add",
                "--arch",
                "arm64",
                "--variant",
                "v8",
                "--os",
                "linux",
                "--annotation",
                "a=b",
                list,
            ]
            .map(str::to_owned)
            .to_vec()
        };
        let mut entries = Vec::new();
        for podman in [true, false] {
            let run = |arguments: &[&str]| match podman {
                true => floe.podman().run(arguments),
                false => floe.floe(arguments),
            };
            run(&["manifest", "create", "example.com/l:1"]).ok();
            let mut add = add("example.com/l:1");
            add.push(archive.clone());
            run(&add.iter().map(String::as_str).collect::<Vec<_>>()).ok();
            let inspected = json(&run(&["manifest", "inspect", "example.com/l:1"]).ok());
            let mut entry = inspected["manifests"][0].clone();
            // Each makes the archive's manifest in its own way.
            for key in ["digest", "size", "mediaType"] {
                entry.as_object_mut().expect("an object").remove(key);
            }
            entries.push(entry);
        }
        assert_eq!(entries[0], entries[1]);
    });
}

#[test]
fn entries_are_annotated_taken_out_and_kept_apart() {
    machine(|floe| {
        floe.import("example.com/one:1", &host(), "one");
        floe.import("example.com/two:1", &host(), "two");
        floe.floe(&[
            "manifest",
            "create",
            "mine",
            "example.com/one:1",
            "example.com/two:1",
        ])
        .ok();
        let digests: Vec<String> = floe
            .entries("localhost/mine:latest")
            .iter()
            .map(|entry| entry["digest"].as_str().unwrap_or_default().to_owned())
            .collect();
        assert_eq!(digests.len(), 2);
        floe.floe(&[
            "manifest",
            "annotate",
            "--os-version",
            "10",
            "--annotation",
            "k=v",
            "mine",
            &digests[0],
        ])
        .ok();
        floe.floe(&[
            "manifest",
            "annotate",
            "--arch",
            "riscv64",
            "mine",
            "example.com/two:1",
        ])
        .ok();
        let entries = floe.entries("mine");
        assert_eq!(entries[0]["platform"]["os.version"], "10");
        assert_eq!(entries[0]["annotations"]["k"], "v");
        assert_eq!(entries[1]["platform"]["architecture"], "riscv64");
        // The same image again changes nothing but what is said about it.
        floe.floe(&["manifest", "add", "mine", "example.com/one:1"])
            .ok();
        assert_eq!(floe.entries("mine").len(), 2);
        floe.floe(&["manifest", "remove", "mine", &digests[0]]).ok();
        assert_eq!(floe.entries("mine").len(), 1);
        floe.floe(&["manifest", "remove", "mine", &digests[0]])
            .failed(125, &[&digests[0], "not in the list"]);
        floe.floe(&["manifest", "create", "mine"])
            .failed(125, &["already in use", "--amend"]);
        floe.floe(&["manifest", "create", "--amend", "mine", "example.com/one:1"])
            .ok();
        assert_eq!(floe.entries("mine").len(), 2);
        assert_eq!(floe.floe(&["manifest", "exists", "mine"]).code, 0);
        let said = floe.floe(&["manifest", "rm", "mine"]).ok();
        assert_eq!(said, "Untagged: localhost/mine:latest");
        assert_eq!(floe.floe(&["manifest", "exists", "mine"]).code, 1);
        floe.floe(&["manifest", "rm", "mine"])
            .failed(125, &["mine"]);
        floe.floe(&["manifest", "add", "mine", "example.com/one:1"])
            .failed(125, &["mine", "no manifest list"]);
    });
}

#[test]
fn a_list_can_be_dockers_and_of_other_lists_and_fails_by_name_when_an_image_is_gone() {
    machine(|floe| {
        floe.import("example.com/one:1", &host(), "one");
        floe.import("example.com/two:1", "s390x", "two");
        floe.floe(&[
            "manifest",
            "create",
            "l",
            "example.com/one:1",
            "example.com/two:1",
        ])
        .ok();
        let docker = floe.of_registry("lists/docker:1");
        floe.floe(&["manifest", "push", "-q", "-f", "v2s2", "l", &docker])
            .ok();
        let raw = floe.raw(&docker);
        let kind = "application/vnd.docker.distribution.manifest.list.v2+json";
        assert_eq!(raw["mediaType"], kind);
        let place = format!("docker://{docker}");
        floe.floe(&["manifest", "create", "--all", "whole", &place])
            .ok();
        assert_eq!(floe.entries("whole").len(), 2);
        floe.floe(&["manifest", "create", "mine", &place]).ok();
        assert_eq!(floe.entries("mine")[0]["platform"]["architecture"], host());
        let dir = floe.node.path("dir");
        let dir = format!("dir:{}", dir.display());
        floe.floe(&["manifest", "push", "-q", "--rm", "whole", &dir])
            .ok();
        assert_eq!(floe.floe(&["manifest", "exists", "whole"]).code, 1);
        let skopeo = std::process::Command::new("skopeo")
            .args(["--insecure-policy", "copy", "-q", "--all", &dir])
            .arg(format!("oci:{}:x", floe.node.path("copied").display()))
            .output()
            .expect("skopeo is installed");
        assert!(skopeo.status.success(), "{skopeo:?}");
        floe.floe(&["rmi", "example.com/two:1"]).ok();
        let never = floe.of_registry("lists/never:1");
        floe.floe(&["manifest", "push", "-q", "l", &never])
            .failed(125, &["no such image"]);
        floe.floe(&["inspect", &format!("docker://{never}")])
            .failed(125, &["never:1"]);
    });
}
