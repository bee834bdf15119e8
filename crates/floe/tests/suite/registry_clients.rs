//! `floe registry serve` with the clients that people use: Debian's skopeo and podman, and floe.

use std::process::Command;

use crate::cli::{Machine, Said, machine};
use serde_json::Value;

fn skopeo(arguments: &[&str]) -> Said {
    let output = Command::new("skopeo")
        .arg("--insecure-policy")
        .args(arguments)
        .output();
    output.expect("skopeo is installed").into()
}

/// podman on private roots of the test's machine.
fn podman(machine: &Machine, arguments: &[&str]) -> Said {
    let mut command = Command::new("podman");
    for (flag, place) in [("--root", "podman-root"), ("--runroot", "podman-run")] {
        command.arg(flag).arg(machine.node.path(place));
    }
    command.args([
        "--storage-driver",
        "vfs",
        "--cgroup-manager",
        "cgroupfs",
        "--events-backend",
        "none",
    ]);
    let output = command.args(arguments).output();
    output.expect("podman is installed").into()
}

fn digest(place: &str) -> String {
    skopeo(&[
        "inspect",
        "--tls-verify=false",
        "--no-tags",
        "--format",
        "{{.Digest}}",
        place,
    ])
    .ok()
}

#[test]
fn skopeo_copies_in_both_directions_lists_inspects_and_deletes() {
    machine(|floe| {
        let served = floe.serve(&[&floe.node.path("registry").display().to_string()]);
        let original = format!("docker://{}", floe.image);
        let (one, two) = (served.docker("team/app:1"), served.docker("team/app:2"));
        let plain = [
            "copy",
            "-q",
            "--src-tls-verify=false",
            "--dest-tls-verify=false",
        ];
        let copy = |options: &[&str], from: &str, to: &str| {
            skopeo(&[&plain[..], options, &[from, to]].concat()).ok();
        };
        copy(&[], &original, &one);
        assert_eq!(digest(&one), digest(&original));
        copy(&["--format", "v2s2"], &original, &two);
        let tags = skopeo(&[
            "list-tags",
            "--tls-verify=false",
            &served.docker("team/app"),
        ])
        .ok();
        let tags: Value = serde_json::from_str(&tags).expect("JSON");
        assert_eq!(tags["Tags"], serde_json::json!(["1", "2"]));
        let dir = format!("dir:{}", floe.node.path("back").display());
        copy(&[], &two, &dir);
        assert_eq!(digest(&dir), digest(&two));
        // A second repository gets the layers without sending them.
        copy(&[], &one, &served.docker("other/app:1"));
        skopeo(&["delete", "--tls-verify=false", &one]).ok();
        let gone = skopeo(&["inspect", "--tls-verify=false", &one]);
        // By these words skopeo tells "there is no such image" (its code 2, where it has one) from a
        // failure: of a repository that nobody knows, too.
        let never = served.docker("never/was:1");
        let never = skopeo(&["inspect", "--tls-verify=false", &never]);
        for said in [&gone, &never] {
            assert!(
                said.code != 0 && said.err.contains("manifest unknown"),
                "{said:?}"
            );
        }
        assert_eq!(never.code, gone.code);
        assert_eq!(digest(&served.docker("other/app:1")), digest(&original));
    });
}

#[test]
fn floe_copies_in_both_directions_lists_inspects_and_deletes() {
    machine(|floe| {
        let served = floe.serve(&[&floe.node.path("registry").display().to_string()]);
        let original = format!("docker://{}", floe.image);
        let there = served.docker("team/app:1");
        let plain = "--tls-verify=false";
        floe.floe(&["copy", "-q", plain, &original, &there]).ok();
        let digest = |place: &str| {
            floe.floe(&[
                "inspect",
                plain,
                "--no-tags",
                "--format",
                "{{.Digest}}",
                place,
            ])
            .ok()
        };
        assert_eq!(digest(&there), digest(&original));
        let tags = floe
            .floe(&["list-tags", plain, &served.docker("team/app")])
            .ok();
        assert!(tags.contains("\"1\""), "{tags}");
        let layout = format!("oci:{}:x", floe.node.path("layout").display());
        floe.floe(&["copy", "-q", plain, &there, &layout]).ok();
        assert_eq!(digest(&layout), digest(&original));
        floe.floe(&["delete", plain, &there]).ok();
        floe.floe(&["inspect", plain, &there]).failed(125, &["not"]);
    });
}

#[test]
fn a_container_runs_from_an_image_that_was_pushed_here() {
    machine(|floe| {
        let served = floe.serve(&[&floe.node.path("registry").display().to_string()]);
        let image = format!("{}/team/app:1", served.host());
        let more = format!(
            "[[registry]]\nlocation = \"{}\"\ninsecure = true\n",
            served.host()
        );
        let path = floe.node.path("registries.conf");
        let conf = std::fs::read_to_string(&path).expect("registries.conf");
        std::fs::write(&path, conf + &more).expect("write registries.conf");
        floe.floe(&["pull", &floe.image]).ok();
        floe.floe(&["tag", &floe.image, &image]).ok();
        floe.floe(&["push", &image]).ok();
        floe.floe(&["rmi", "--force", &image]).ok();
        let said = floe
            .floe(&["run", "--rm", "--network", "none", &image])
            .ok();
        assert_eq!(said, "default");
    });
}

#[test]
fn podman_pushes_and_pulls() {
    machine(|floe| {
        let served = floe.serve(&[&floe.node.path("registry").display().to_string()]);
        let archive = floe.node.path("image.tar").display().to_string();
        let original = format!("docker://{}", floe.image);
        let named = format!("docker-archive:{archive}:localhost/app:1");
        floe.floe(&["copy", "-q", &original, &named]).ok();
        let image = format!("{}/team/app:1", served.host());
        podman(floe, &["load", "-q", "-i", &archive]).ok();
        podman(
            floe,
            &[
                "push",
                "-q",
                "--tls-verify=false",
                "localhost/app:1",
                &image,
            ],
        )
        .ok();
        let id = podman(floe, &["images", "-q", "--no-trunc", "localhost/app:1"]).ok();
        podman(floe, &["rmi", "--all", "--force"]).ok();
        podman(floe, &["pull", "-q", "--tls-verify=false", &image]).ok();
        assert_eq!(
            podman(floe, &["images", "-q", "--no-trunc", &image]).ok(),
            id
        );
        podman(floe, &["rmi", "--all", "--force"]).ok();
    });
}

#[test]
fn a_client_logs_in_with_the_password_of_an_htpasswd_file() {
    machine(|floe| {
        let users = floe.node.path("users");
        // bcrypt of `secret`
        let line = "floe:$2b$04$l7ehwwnP93K9r9E19eIBe.dudrHKD.nOApuV2j5NO1DLmby9EYiiG\n";
        std::fs::write(&users, line).expect("write the users");
        let dir = floe.node.path("registry").display().to_string();
        let served = floe.serve(&[&dir, "--auth-htpasswd", &users.display().to_string()]);
        let original = format!("docker://{}", floe.image);
        let there = served.docker("team/app:1");
        let plain = [
            "copy",
            "-q",
            "--src-tls-verify=false",
            "--dest-tls-verify=false",
        ];
        let (from, to) = (original.as_str(), there.as_str());
        let copy = |options: &[&'static str]| [&plain[..], options, &[from, to]].concat();
        let refused = skopeo(&copy(&[]));
        assert!(
            refused.err.contains("authentication required"),
            "{refused:?}"
        );
        skopeo(&copy(&["--dest-creds", "floe:secret"])).ok();
        floe.floe(&copy(&["--dest-creds", "floe:wrong"]))
            .failed(125, &["401"]);
        floe.floe(&copy(&["--dest-creds", "floe:secret"])).ok();
    });
}

#[test]
fn gc_runs_beside_the_server_and_says_what_it_removed() {
    machine(|floe| {
        let dir = floe.node.path("registry").display().to_string();
        let served = floe.serve(&[&dir]);
        let there = served.docker("team/app:1");
        let original = format!("docker://{}", floe.image);
        floe.floe(&["copy", "-q", "--dest-tls-verify=false", &original, &there])
            .ok();
        let kept = floe.floe(&["registry", "gc", &dir, "--grace", "0s"]).ok();
        assert_eq!(kept, "removed 0 blobs (0 bytes), 0 uploads, 0 repositories");
        floe.floe(&["delete", "--tls-verify=false", &there]).ok();
        let young = floe.floe(&["registry", "gc", &dir]).ok();
        assert!(young.starts_with("removed 0 blobs"), "{young}");
        let dry = floe
            .floe(&["registry", "gc", &dir, "--grace", "0s", "--dry-run"])
            .ok();
        assert!(dry.starts_with("would remove 3 blobs ("), "{dry}");
        let gone = floe.floe(&["registry", "gc", &dir, "--grace", "0s"]).ok();
        assert!(gone.starts_with("removed 3 blobs ("), "{gone}");
        let none = floe.node.path("none").display().to_string();
        floe.floe(&["registry", "gc", &none])
            .failed(125, &["not a floe registry"]);
    });
}
