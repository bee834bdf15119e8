//! `floe copy` and `inspect` of indexes and compressed layers, beside Debian's skopeo.

use crate::cli::places::{json, skopeo};
use crate::cli::{Machine, machine};
use serde_json::Value;

#[test]
fn layers_of_zstd_make_an_oci_image_and_never_one_of_dockers() {
    machine(|floe| {
        let docker = floe.at("dir", "docker");
        let original = format!("docker://{}", floe.image);
        floe.floe(&["copy", "-q", "--format", "v2s2", &original, &docker])
            .ok();
        let zstd = ["copy", "-q", "--dest-compress-format", "zstd"];
        for (number, to) in [floe.docker("zstd:1"), floe.at("oci", "zstd:x")]
            .iter()
            .enumerate()
        {
            floe.floe(&[&zstd[..], &[&docker, to]].concat()).ok();
            let manifest = json(&floe.floe(&["inspect", "--raw", to]).ok());
            let config = &manifest["config"]["mediaType"];
            assert_eq!(config, "application/vnd.oci.image.config.v1+json");
            let kinds = manifest["layers"].as_array().expect("layers").iter();
            for kind in kinds.map(|layer| &layer["mediaType"]) {
                assert_eq!(kind, "application/vnd.oci.image.layer.v1.tar+zstd");
            }
            let theirs = floe.at("dir", &format!("theirs-{number}"));
            let read = ["copy", "-q", "--src-tls-verify=false", to, &theirs];
            skopeo(&read).ok();
        }
        for to in [
            vec!["--format", "v2s2", &floe.at("dir", "refused")],
            vec![&floe.at("docker-archive", "refused.tar")],
        ] {
            let said =
                floe.floe(&[&zstd[..], &to[..to.len() - 1], &[&docker, to[to.len() - 1]]].concat());
            said.failed(125, &["no layers of zstd", "gzip"]);
        }
    });
}

#[test]
fn an_index_is_copied_for_one_platform_or_whole() {
    machine(|floe| {
        let index = floe.docker("multi:1");
        push_index(floe);
        let one = floe.at("dir", "one");
        let other = ["copy", "-q", "--override-arch", "s390x", &index, &one];
        floe.floe(&other).ok();
        let config = json(&floe.floe(&["inspect", "--config", &one]).ok());
        assert_eq!(config["architecture"], "s390x");
        let missing = ["copy", "-q", "--override-arch", "mips", &index, &one];
        floe.floe(&missing).failed(125, &["mips", "s390x"]);
        for (transport, name) in [("oci", "all:x"), ("dir", "all-dir")] {
            let all = floe.at(transport, name);
            floe.floe(&["copy", "-q", "--all", &index, &all]).ok();
            let raw = floe.floe(&["inspect", "--raw", &all]).ok();
            assert_eq!(json(&raw)["manifests"].as_array().map(Vec::len), Some(2));
            let whole = skopeo(&[
                "copy",
                "-q",
                "--all",
                &all,
                &floe.at("dir", &format!("{transport}-2")),
            ]);
            whole.ok();
            let back = floe.docker(&format!("back/{transport}:1"));
            floe.floe(&["copy", "-q", "--all", "--preserve-digests", &all, &back])
                .ok();
            assert_eq!(floe.digest(&back), floe.digest(&index));
        }
        let archive = floe.at("docker-archive", "all.tar");
        floe.floe(&["copy", "-q", "--all", &index, &archive])
            .failed(125, &["cannot hold the images of an index"]);
        let moved = floe.docker("multi:2");
        floe.floe(&["copy", "-q", "--multi-arch", "index-only", &index, &moved])
            .ok();
        assert_eq!(floe.digest(&moved), floe.digest(&index));
    });
}

/// Two images for two architectures under one name.
fn push_index(floe: &Machine) {
    let original = format!("docker://{}", floe.image);
    let dir = floe.node.path("multi");
    let place = format!("oci:{}", dir.display());
    for architecture in ["amd64", "s390x"] {
        // Only the statement differs; the layers need not fit it.
        let made = floe.node.path(architecture);
        floe.floe(&["copy", "-q", &original, &format!("dir:{}", made.display())])
            .ok();
        let manifest = std::fs::read(made.join("manifest.json")).expect("a manifest");
        let mut manifest: Value = serde_json::from_slice(&manifest).expect("JSON");
        let old = manifest["config"]["digest"].as_str().expect("a digest")[7..].to_owned();
        let config = std::fs::read(made.join(old)).expect("a config");
        let mut config: Value = serde_json::from_slice(&config).expect("JSON");
        config["architecture"] = architecture.into();
        let config = serde_json::to_vec(&config).expect("JSON");
        let digest = image::Digest::of(&config);
        std::fs::write(made.join(digest.hex()), &config).expect("write");
        manifest["config"]["digest"] = digest.to_string().into();
        manifest["config"]["size"] = config.len().into();
        let manifest = serde_json::to_vec(&manifest).expect("JSON");
        std::fs::write(made.join("manifest.json"), manifest).expect("write");
        let named = format!("{place}:{architecture}");
        floe.floe(&["copy", "-q", &format!("dir:{}", made.display()), &named])
            .ok();
    }
    let listed = std::fs::read(dir.join("index.json")).expect("an index");
    let mut index: Value = serde_json::from_slice(&listed).expect("JSON");
    for entry in index["manifests"].as_array_mut().expect("a list") {
        let name = entry["annotations"]["org.opencontainers.image.ref.name"].take();
        entry["platform"] = serde_json::json!({ "os": "linux", "architecture": name });
        entry
            .as_object_mut()
            .expect("an object")
            .remove("annotations");
    }
    let index = serde_json::to_vec(&index).expect("JSON");
    let digest = image::Digest::of(&index);
    std::fs::write(dir.join("blobs/sha256").join(digest.hex()), &index).expect("write");
    let top = serde_json::json!({ "schemaVersion": 2, "manifests": [{
        "mediaType": "application/vnd.oci.image.index.v1+json",
        "digest": digest.to_string(), "size": index.len(),
    }]});
    std::fs::write(dir.join("index.json"), top.to_string()).expect("write");
    floe.floe(&["copy", "-q", "--all", &place, &floe.docker("multi:1")])
        .ok();
}

#[test]
fn the_store_keeps_the_index_that_an_image_was_chosen_from() {
    machine(|floe| {
        push_index(floe);
        let index = floe.docker("multi:1");
        let digest = floe.digest(&index);
        let pinned = format!("{}/multi@{digest}", floe.registry.host());
        let stored = format!("floe:{}/multi:1", floe.registry.host());
        floe.floe(&["copy", "-q", &index, &stored]).ok();
        // Nobody asks a registry for what is to be tagged.
        floe.floe(&["tag", &pinned, "example.com/found:1"]).ok();
        let id = floe.floe(&["images", "-q", &pinned]).ok();
        floe.floe(&["rmi", "--force", &id]).ok();
        floe.floe(&["tag", &pinned, "example.com/found:2"])
            .failed(125, &["multi"]);
        let by_digest = floe.docker(&format!("multi@{digest}"));
        floe.floe(&["copy", "-q", &by_digest, &format!("floe:{pinned}")])
            .ok();
        floe.floe(&["tag", &pinned, "example.com/found:3"]).ok();
        // Converted, it is no image of that index any more.
        let other = format!("floe:{}/other:1", floe.registry.host());
        floe.floe(&["copy", "-q", "--format", "v2s2", &index, &other])
            .ok();
        let converted = format!("{}/other@{digest}", floe.registry.host());
        floe.floe(&["tag", &converted, "example.com/found:4"])
            .failed(125, &["other"]);
    });
}

#[test]
fn the_digest_of_an_index_is_its_own_wherever_it_is() {
    machine(|floe| {
        push_index(floe);
        let index = floe.docker("multi:1");
        let digest = floe.digest(&index);
        for place in [floe.at("oci", "all:x"), floe.at("dir", "all-dir")] {
            floe.floe(&["copy", "-q", "--all", &index, &place]).ok();
            assert_eq!(floe.digest(&place), digest, "{place}");
            let theirs = skopeo(&["inspect", "--format", "{{.Digest}}", &place]).ok();
            assert_eq!(theirs, digest, "{place}");
        }
    });
}
