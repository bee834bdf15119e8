//! `floe copy`, `inspect`, `list-tags`, `delete`, `save`, `load`, `push`, `tag`: images between all
//! places, beside Debian's skopeo.

use std::process::Command;

use crate::cli::places::{json, skopeo};
use crate::cli::{Said, machine};
use serde_json::Value;

#[test]
fn every_transport_is_written_for_skopeo_and_read_back_from_it() {
    machine(|floe| {
        let original = format!("docker://{}", floe.image);
        let layers = json(&floe.floe(&["inspect", &original]).ok())["Layers"].clone();
        for (transport, name, kept) in [
            ("oci", "layout:x/y:1", true),
            ("dir", "dir", true),
            ("oci-archive", "oci.tar:v1", true),
            ("docker-archive", "docker.tar:example.com/x/y:1", false),
        ] {
            let ours = floe.at(transport, name);
            floe.floe(&["copy", &original, &ours]).ok();
            let theirs = floe.at("dir", &format!("theirs-{transport}"));
            skopeo(&["copy", "-q", &ours, &theirs]).ok();
            let seen = json(&skopeo(&["inspect", &ours]).ok());
            assert_eq!(seen["Layers"] == layers, kept, "{transport}");

            let by_skopeo = floe.at(transport, &format!("by-skopeo-{name}"));
            skopeo(&[
                "copy",
                "-q",
                "--src-tls-verify=false",
                &original,
                &by_skopeo,
            ])
            .ok();
            let back = floe.docker(&format!("back/{transport}:1"));
            floe.floe(&["copy", "-q", &by_skopeo, &back]).ok();
            let seen = json(&skopeo(&["inspect", "--tls-verify=false", &back]).ok());
            assert_eq!(seen["Os"], "linux", "{transport}");
            if kept {
                assert_eq!(seen["Layers"], layers, "{transport}");
                assert_eq!(floe.digest(&back), floe.digest(&original), "{transport}");
            }
        }
    });
}

#[test]
fn copied_images_run_whatever_their_form() {
    machine(|floe| {
        let original = format!("docker://{}", floe.image);
        for (number, options) in [
            &[
                "--dest-compress-format",
                "zstd",
                "--dest-force-compress-format",
            ][..],
            &["--dest-decompress"],
            &["--format", "v2s2"],
        ]
        .iter()
        .enumerate()
        {
            let dir = floe.at("dir", &format!("form-{number}"));
            let mut arguments = vec!["copy", "-q"];
            arguments.extend(*options);
            arguments.extend([original.as_str(), &dir]);
            floe.floe(&arguments).ok();
            let name = format!("example.com/form:{number}");
            floe.floe(&["copy", "-q", &dir, &format!("floe:{name}")])
                .ok();
            let said = floe.floe(&["run", "--rm", "--network", "none", &name]);
            assert_eq!(said.ok(), "default", "{options:?}");
        }
    });
}

#[test]
fn zstd_stays_oci_and_dockers_form_gets_gzip() {
    machine(|floe| {
        let original = format!("docker://{}", floe.image);
        let zstd = floe.at("dir", "zstd");
        let options = [
            "--dest-compress-format",
            "zstd",
            "--dest-force-compress-format",
        ];
        let mut arguments = vec!["copy", "-q"];
        arguments.extend(options);
        arguments.extend([original.as_str(), &zstd]);
        floe.floe(&arguments).ok();
        let manifest = json(&floe.floe(&["inspect", "--raw", &zstd]).ok());
        let layer = &manifest["layers"][0]["mediaType"];
        assert_eq!(layer, "application/vnd.oci.image.layer.v1.tar+zstd");
        let docker = floe.at("dir", "docker");
        floe.floe(&["copy", "-q", "--format", "v2s2", &zstd, &docker])
            .ok();
        let manifest = json(&floe.floe(&["inspect", "--raw", &docker]).ok());
        let layer = &manifest["layers"][0]["mediaType"];
        assert_eq!(layer, "application/vnd.docker.image.rootfs.diff.tar.gzip");
        skopeo(&["copy", "-q", &docker, &floe.at("oci", "again:x")]).ok();
        let kept = floe.at("dir", "kept");
        floe.floe(&[
            "copy",
            "-q",
            "--preserve-digests",
            "--format",
            "v2s2",
            &original,
            &kept,
        ])
        .failed(125, &["digests cannot be preserved"]);
    });
}

#[test]
fn inspect_says_what_skopeo_says() {
    machine(|floe| {
        let name = format!("docker://{}", floe.image);
        let mut ours = json(&floe.floe(&["inspect", &name]).ok());
        let theirs = json(&skopeo(&["inspect", "--tls-verify=false", &name]).ok());
        // Newer than Debian's skopeo.
        assert_eq!(ours["LayersData"][0]["Digest"], ours["Layers"][0]);
        let object = ours.as_object_mut().expect("an object");
        if theirs.get("LayersData").is_none() {
            object.remove("LayersData");
        }
        assert_eq!(ours, theirs);
        let raw = ["inspect", "--raw", &name];
        let theirs = skopeo(&["inspect", "--tls-verify=false", "--raw", &name]);
        assert_eq!(floe.floe(&raw).out, theirs.out);
        let config = json(&floe.floe(&["inspect", "--config", &name]).ok());
        assert_eq!(
            config["config"]["Cmd"],
            serde_json::json!(["echo", "default"])
        );
        let format = [
            "inspect",
            "--config",
            "--format",
            "{{.OS}}/{{.Architecture}}",
            &name,
        ];
        assert!(floe.floe(&format).ok().starts_with("linux/"));
        let manifest = floe.node.path("manifest");
        std::fs::write(&manifest, floe.floe(&raw).out).expect("write");
        let manifest = manifest.display().to_string();
        assert_eq!(
            floe.floe(&["manifest-digest", &manifest]).ok(),
            floe.digest(&name)
        );
    });
}

#[test]
fn tags_are_listed_and_images_deleted() {
    machine(|floe| {
        let second = floe.image.replace(":1", ":2");
        floe.push(&second, &["echo", "other"]);
        let repository = floe.docker("cli/busybox");
        let tags = json(&floe.floe(&["list-tags", &repository]).ok());
        // In the registry's own order.
        let mut listed = tags["Tags"].as_array().cloned().unwrap_or_default();
        listed.sort_by_key(Value::to_string);
        assert_eq!(listed, ["1", "2"]);
        floe.floe(&["delete", &format!("docker://{second}")]).ok();
        let tags = json(&floe.floe(&["list-tags", &repository]).ok());
        assert_eq!(tags["Tags"], serde_json::json!(["1"]));
        floe.floe(&["delete", &format!("docker://{second}")])
            .failed(125, &["busybox:2", "manifest unknown"]);
        floe.floe(&["delete", "dir:/tmp"])
            .failed(125, &["docker://"]);
        floe.floe(&["list-tags", &format!("docker://{second}")])
            .failed(125, &["without tag"]);
    });
}

#[test]
fn what_is_saved_is_loaded_again_with_its_name() {
    machine(|floe| {
        floe.floe(&["pull", "-q", &floe.image]).ok();
        let name = "example.com/mine:3";
        floe.floe(&["tag", &floe.image, name]).ok();
        floe.floe(&["rmi", &floe.image]).ok();
        let id = floe.floe(&["images", "-q"]).ok();
        for format in ["docker-archive", "oci-archive", "oci-dir", "docker-dir"] {
            let file = floe.node.path(format).display().to_string();
            floe.floe(&["save", "-q", "--format", format, "-o", &file, name])
                .ok();
            floe.floe(&["rmi", name]).ok();
            let loaded = floe.floe(&["load", "-q", "-i", &file]).ok();
            assert_eq!(floe.floe(&["images", "-q"]).ok(), id, "{format}");
            match format {
                // Which keeps no names.
                "docker-dir" => assert!(loaded.contains(&id), "{loaded}"),
                _ => assert_eq!(loaded, format!("Loaded image: {name}"), "{format}"),
            }
        }
        floe.floe(&["tag", &id, name]).ok();
        let mut save = floe.command(&["save", name]);
        let archive = save.output().expect("save").stdout;
        floe.floe(&["rmi", name]).ok();
        let archived = floe.node.path("archived.tar");
        std::fs::write(&archived, archive).expect("write");
        let mut load = floe.command(&["load", "-q"]);
        load.stdin(std::fs::File::open(archived).expect("open"));
        let said = Said::from(load.output().expect("load"));
        assert_eq!(said.ok(), format!("Loaded image: {name}"));
    });
}

#[test]
fn several_images_go_into_one_archive_that_podman_and_floe_load() {
    machine(|floe| {
        let second = floe.image.replace(":1", ":2");
        floe.push(&second, &["echo", "second"]);
        floe.floe(&["pull", "-q", &floe.image, &second]).ok();
        let (one, more, two) = (
            "example.com/one:1",
            "example.com/one:more",
            "example.com/two:1",
        );
        floe.floe(&["tag", &floe.image, one, more]).ok();
        floe.floe(&["tag", &second, two]).ok();
        let file = floe.node.path("several.tar").display().to_string();
        floe.floe(&["save", "-q", "-m", "-o", &file, one, two, more])
            .ok();
        let listed = json(
            &floe
                .floe(&["list-tags", &format!("docker-archive:{file}")])
                .ok(),
        );
        assert_eq!(listed["Tags"], serde_json::json!([one, more, two]));
        let loaded = floe.podman().run(&["load", "-q", "-i", &file]).ok();
        for name in [one, more, two] {
            assert!(loaded.contains(name), "{loaded}");
        }
        let by_podman = floe.node.path("by-podman.tar").display().to_string();
        floe.podman()
            .run(&["save", "-q", "-m", "-o", &by_podman, one, two])
            .ok();
        for archive in [&file, &by_podman] {
            floe.floe(&["rmi", "-f", &floe.image, one, more, &second, two]);
            floe.floe(&["load", "-q", "-i", archive]).ok();
            for (name, says) in [(one, "default"), (two, "second")] {
                let run = ["run", "--rm", "--network", "none", name];
                assert_eq!(floe.floe(&run).ok(), says, "{archive}");
            }
        }
        let names = floe.node.path("names.tar").display().to_string();
        floe.floe(&["save", "-q", "-o", &names, one, "example.com/other:5"])
            .ok();
        let listed = json(
            &floe
                .floe(&["list-tags", &format!("docker-archive:{names}")])
                .ok(),
        );
        assert_eq!(
            listed["Tags"],
            serde_json::json!([one, "example.com/other:5"])
        );
        floe.floe(&[
            "save",
            "-m",
            "--format",
            "oci-archive",
            "-o",
            &floe.at("dir", "x.tar")[4..],
            one,
            two,
        ])
        .failed(125, &["docker-archive"]);
        floe.floe(&[
            "save",
            "-m",
            "-o",
            &floe.node.path("never.tar").display().to_string(),
            one,
            "nothing",
        ])
        .failed(125, &["nothing"]);
        assert!(!floe.node.path("never.tar").exists());
    });
}

#[test]
fn push_sends_what_is_in_the_store() {
    machine(|floe| {
        let digest = floe.digest(&format!("docker://{}", floe.image));
        floe.floe(&["pull", "-q", &floe.image]).ok();
        let pushed = format!("{}/pushed:1", floe.registry.host());
        floe.floe(&["push", "-q", &floe.image, &pushed]).ok();
        assert_eq!(floe.digest(&format!("docker://{pushed}")), digest);
        let second = pushed.replace(":1", ":2");
        floe.floe(&["tag", &floe.image, &second]).ok();
        floe.floe(&["push", "-q", &second]).ok();
        assert_eq!(floe.digest(&format!("docker://{second}")), digest);
        floe.floe(&["push", "nothing:1"])
            .failed(125, &["nothing:1"]);
    });
}

#[test]
fn what_is_wrong_with_a_place_is_said_and_nothing_is_left_of_it() {
    machine(|floe| {
        let original = format!("docker://{}", floe.image);
        floe.floe(&["copy", "busybox", &floe.at("dir", "x")])
            .failed(125, &["names no transport"]);
        floe.floe(&["copy", &original, "ftp:x"])
            .failed(125, &["no transport \"ftp\""]);
        floe.floe(&["copy", &floe.at("dir", "none"), &floe.at("dir", "x")])
            .failed(125, &["/none/manifest.json"]);
        let full = floe.node.path("full");
        std::fs::create_dir(&full).expect("create");
        std::fs::write(full.join("mine"), "precious").expect("write");
        floe.floe(&["copy", &original, &format!("dir:{}", full.display())])
            .failed(125, &["not empty"]);
        assert_eq!(std::fs::read_dir(&full).expect("read").count(), 1);
        let damaged = floe.at("dir", "damaged");
        // Compressed anew: the registry has no such blobs that it could take instead.
        let zstd = ["--dest-compress-format", "zstd"];
        let options = [
            "copy",
            "-q",
            zstd[0],
            zstd[1],
            "--dest-force-compress-format",
        ];
        floe.floe(&[&options[..], &[&original, &damaged]].concat())
            .ok();
        let layers = json(&floe.floe(&["inspect", &damaged]).ok());
        let layer = layers["Layers"][0].as_str().expect("a digest")[7..].to_owned();
        let layer = floe.node.path("damaged").join(layer);
        let mut bytes = std::fs::read(&layer).expect("read");
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        std::fs::write(&layer, bytes).expect("write");
        let archive = floe.node.path("never.tar");
        for place in [
            format!("docker-archive:{}", archive.display()),
            format!("oci-archive:{}:x", archive.display()),
            floe.at("oci", "never:x"),
            floe.docker("never:1"),
            "floe:never:1".to_owned(),
        ] {
            let said = floe.floe(&["copy", "-q", &damaged, &place]);
            assert_eq!(said.code, 125, "{place}: {said:?}");
        }
        assert!(!archive.exists());
        assert!(!floe.node.path("never/index.json").exists());
        assert_eq!(floe.floe(&["images", "-q"]).ok(), "");
    });
}

#[test]
fn policy_json_decides_what_may_be_copied() {
    machine(|floe| {
        let host = floe.registry.host();
        let policy = serde_json::json!({
            "default": [{ "type": "insecureAcceptAnything" }],
            "transports": { "docker": { host: [{ "type": "reject" }] } },
        });
        let file = floe.node.path("strict.json");
        std::fs::write(&file, policy.to_string()).expect("write");
        let file = file.display().to_string();
        let (from, to) = (format!("docker://{}", floe.image), floe.at("dir", "x"));
        floe.floe(&["copy", "--policy", &file, &from, &to])
            .failed(125, &["strict.json"]);
        floe.floe(&[
            "copy",
            "-q",
            "--policy",
            &file,
            "--insecure-policy",
            &from,
            &to,
        ])
        .ok();
    });
}

#[test]
fn under_the_name_skopeo_it_takes_skopeos_command_line() {
    machine(|floe| {
        let link = floe.node.path("skopeo");
        let program = testkit::program("floe").expect("floe is built");
        std::os::unix::fs::symlink(program, &link).expect("link");
        let as_skopeo = |arguments: &[&str]| -> Said {
            let mut command = Command::new(&link);
            command.env("FLOE_CONFIG", floe.node.config());
            command.args(arguments).output().expect("run").into()
        };
        let (from, to) = (format!("docker://{}", floe.image), floe.at("dir", "x"));
        let policy = floe.node.path("reject.json");
        std::fs::write(&policy, r#"{"default":[{"type":"reject"}]}"#).expect("write");
        let policy = policy.display().to_string();
        as_skopeo(&["--policy", &policy, "copy", &from, &to]).failed(1, &["reject.json"]);
        as_skopeo(&["--policy", &policy, "--insecure-policy", "copy", &from, &to]).ok();
        let told = as_skopeo(&["inspect", &to]).ok();
        assert_eq!(json(&told)["Os"], "linux");
        let other = ["--override-arch", "mips", "inspect", "--config", &from];
        assert_eq!(
            as_skopeo(&other).code,
            0,
            "not an index: there is no choice"
        );
        as_skopeo(&["ps"]).failed(1, &["ps"]);
        as_skopeo(&["inspect", &floe.at("dir", "none")]).failed(1, &["/none"]);
    });
}
