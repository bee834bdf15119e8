//! Hostile references, manifests, configs and files: nothing panics, and what is accepted is what it
//! was read as.

#![allow(missing_docs, clippy::unwrap_used, reason = "test code")]

#[path = "support/fuzz.rs"]
mod fuzz;

use image::{AnyManifest, Digest, ImageConfig, MediaType, Platform, Reference, Registries};

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
    fuzz::run(60_000, &corpus, |bytes| {
        let Ok(text) = std::str::from_utf8(bytes) else {
            return;
        };
        let Ok(reference) = Reference::parse(text) else {
            return;
        };
        let written = reference.to_string();
        assert_eq!(Reference::parse(&written).unwrap(), reference);
        let plain = |c: char| c.is_ascii_graphic() && !r#"\"<>?#%&{}"#.contains(c);
        assert!(
            written.chars().all(plain),
            "{written:?} goes into URLs and file names"
        );
        assert!(
            reference
                .path()
                .split('/')
                .all(|part| !matches!(part, "" | "." | ".."))
        );
        assert!(!reference.domain().is_empty() && !reference.domain().contains('/'));
    });
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
    let host = Platform::host();
    fuzz::run(40_000, &corpus, |bytes| {
        for kind in [
            None,
            Some(MediaType::OciManifest),
            Some(MediaType::OciIndex),
        ] {
            let Ok(parsed) = AnyManifest::parse(kind.as_ref().map(MediaType::as_str), bytes) else {
                continue;
            };
            let (written, index) = match &parsed {
                AnyManifest::Manifest(manifest) => (serde_json::to_vec(manifest).unwrap(), false),
                AnyManifest::Index(index) => {
                    // An entry or an error, and no panic.
                    let _ = index.choose(&host);
                    (serde_json::to_vec(index).unwrap(), true)
                }
            };
            let media_type = parsed.media_type();
            assert_eq!(media_type.is_index(), index, "{media_type}");
            if let Some(kind) = &kind {
                assert_eq!(kind.is_index(), index);
            }
            assert_eq!(AnyManifest::parse(None, &written).unwrap(), parsed);
        }
    });
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
    fuzz::run(40_000, &corpus, |bytes| {
        if let Ok(config) = ImageConfig::parse(bytes) {
            let written = serde_json::to_vec(&config).unwrap();
            assert_eq!(ImageConfig::parse(&written).unwrap(), config);
        }
        let Ok(text) = std::str::from_utf8(bytes) else {
            return;
        };
        if let Ok(digest) = Digest::parse(text) {
            assert_eq!(digest.to_string(), text);
            assert!(
                digest.hex().bytes().all(|b| b.is_ascii_hexdigit()),
                "it is a file name"
            );
        }
        let media_type = MediaType::from_header(text);
        assert!(!(media_type.is_manifest() && media_type.is_index()));
    });
}

#[test]
fn registries_conf_is_read_or_refused() {
    let registries = br#"unqualified-search-registries = ["a.example"]
short-name-mode = "enforcing"
[[registry]]
prefix = "*.example.com/x"
location = "b.example/y"
blocked = false
[[registry.mirror]]
location = "c.example"
insecure = true
pull-from-mirror = "digest-only"
[aliases]
"x" = "a.example/x"
"#;
    let name = Reference::parse("a.example/b/c:1").unwrap();
    fuzz::run(15_000, &[registries], |bytes| {
        let Ok(text) = std::str::from_utf8(bytes) else {
            return;
        };
        if let Ok(registries) = Registries::parse(text) {
            let _ = registries.resolve(&name);
            let _ = registries.candidates("x");
        }
    });
}
