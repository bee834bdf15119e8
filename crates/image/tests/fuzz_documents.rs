//! Hostile references, manifests and configs: nothing panics, and what is accepted is what it
//! was read as.

#![allow(missing_docs, clippy::unwrap_used, reason = "test code")]

#[path = "support/fuzz.rs"]
mod fuzz;
#[path = "support/targets.rs"]
mod targets;

const HEX: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

#[test]
fn a_reference_that_is_accepted_is_written_and_read_as_the_same() {
    let digest = format!("a.example/b@sha256:{HEX}");
    let both = format!("[::1]:5000/a/b:tag@sha256:{HEX}");
    let corpus: [&[u8]; 7] = [
        b"busybox",
        b"library/busybox:1.36",
        b"registry.example:5000/some/deep_path/na__me-x:v1.2-rc.1",
        digest.as_bytes(),
        both.as_bytes(),
        b"localhost/x:latest",
        b"index.docker.io/library/x",
    ];
    fuzz::run(60_000, &corpus, targets::reference);
}

#[test]
fn a_manifest_that_is_accepted_has_one_kind_and_says_the_same_when_written_again() {
    let config = format!(
        r#"{{"mediaType":"application/vnd.oci.image.config.v1+json","digest":"sha256:{HEX}","size":2}}"#
    );
    let layer = format!(
        r#"{{"mediaType":"application/vnd.oci.image.layer.v1.tar+gzip","digest":"sha256:{HEX}","size":9,"annotations":{{"a":"b"}}}}"#
    );
    let manifest = format!(
        r#"{{"schemaVersion":2,"mediaType":"application/vnd.oci.image.manifest.v1+json","config":{config},"layers":[{layer}],"subject":{config},"annotations":null}}"#
    );
    let docker = manifest.replace("oci.image.manifest.v1", "docker.distribution.manifest.v2");
    let index = format!(
        r#"{{"schemaVersion":2,"manifests":[{{"mediaType":"application/vnd.oci.image.manifest.v1+json","digest":"sha256:{HEX}","size":7,"platform":{{"os":"linux","architecture":"arm","variant":"v7","os.features":null}}}}]}}"#
    );
    let one = r#"{"schemaVersion":1,"fsLayers":[],"history":[]}"#;
    let corpus = [
        manifest.as_bytes(),
        docker.as_bytes(),
        index.as_bytes(),
        one.as_bytes(),
    ];
    fuzz::run(40_000, &corpus, targets::manifest);
}

#[test]
fn configs_digests_and_media_types_are_read_or_refused() {
    let config = format!(
        r#"{{"architecture":"amd64","os":"linux","created":"2024-01-02T03:04:05Z","config":{{"Env":["A=b"],"Cmd":"sh","Labels":null,"Volumes":{{"/v":{{}}}}}},"rootfs":{{"type":"layers","diff_ids":["sha256:{HEX}"]}},"history":[{{"empty_layer":true}}]}}"#
    );
    let digest = format!("sha256:{HEX}");
    let corpus: [&[u8]; 3] = [
        config.as_bytes(),
        digest.as_bytes(),
        b"application/vnd.oci.image.manifest.v1+json; charset=utf-8",
    ];
    fuzz::run(40_000, &corpus, targets::config);
}
