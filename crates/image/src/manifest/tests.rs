//! Manifests as registries really send them, and as an attacker would.

use super::*;

const HEX: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

fn entry(digit: char, platform: &str) -> String {
    let hex = digit.to_string().repeat(64);
    format!(
        r#"{{"mediaType":"{}","digest":"sha256:{hex}","size":7{platform}}}"#,
        MediaType::OciManifest
    )
}

fn platform(os: &str, architecture: &str, variant: &str) -> String {
    let variant = if variant.is_empty() {
        String::new()
    } else {
        format!(r#","variant":"{variant}""#)
    };
    format!(r#","platform":{{"os":"{os}","architecture":"{architecture}"{variant}}}"#)
}

fn index(entries: &[String]) -> Index {
    let text = format!(
        r#"{{"schemaVersion":2,"manifests":[{}]}}"#,
        entries.join(",")
    );
    match AnyManifest::parse(Some(MediaType::OciIndex.as_str()), text.as_bytes()).unwrap() {
        AnyManifest::Index(index) => index,
        AnyManifest::Manifest(_) => panic!("an index was read as a manifest"),
    }
}

fn chosen(index: &Index, wanted: &str) -> Option<char> {
    index
        .choose(&Platform::parse(wanted).unwrap())
        .ok()?
        .digest
        .hex()
        .chars()
        .next()
}

#[test]
fn an_entry_is_chosen_by_the_features_of_the_operating_system_that_are_there() {
    let entry = |first: char, features: &str| {
        let digest = format!("{first}{}", "0".repeat(63));
        format!(
            r#"{{"mediaType":"{}","size":1,"digest":"sha256:{digest}","platform":
                {{"os":"linux","architecture":"amd64","os.features":{features}}}}}"#,
            MediaType::OciManifest
        )
    };
    let both = [
        entry('a', r#"["lazy"]"#),
        entry('b', "[]"),
        entry('c', "null"),
    ];
    let choose = |entries: &[String], features: &[&str]| {
        let mut wanted = Platform::new("linux", "amd64");
        wanted.os_features = features.iter().map(|f| (*f).to_owned()).collect();
        let index = index(entries);
        index.choose(&wanted).unwrap().digest.hex().chars().next()
    };
    assert_eq!(choose(&both, &[]), Some('b'));
    assert_eq!(choose(&both, &["other"]), Some('b'));
    assert_eq!(choose(&both, &["other", "lazy"]), Some('a'));
    let more = [
        both[1].clone(),
        both[0].clone(),
        entry('d', r#"["lazy","x"]"#),
    ];
    assert_eq!(choose(&more, &["lazy", "x"]), Some('d'));
    assert_eq!(choose(&more, &["lazy"]), Some('a'));
    // What nobody has to have is no reason to find nothing.
    assert_eq!(choose(&both[..1], &[]), Some('a'));
}

fn flaw(content_type: Option<&str>, text: &str) -> ManifestFlaw {
    match AnyManifest::parse(content_type, text.as_bytes()) {
        Err(Error::Manifest { reason }) => reason,
        other => panic!("{text} gave {other:?}"),
    }
}

fn docker_manifest() -> String {
    format!(
        r#"{{"schemaVersion":2,"mediaType":"{}",
            "config":{{"mediaType":"{}","size":2,"digest":"sha256:{HEX}"}},
            "layers":[{{"mediaType":"{}","size":40,"digest":"sha256:{HEX}","urls":null}}]}}"#,
        MediaType::DockerManifest,
        MediaType::DockerConfig,
        MediaType::DockerLayerGzip
    )
}

#[test]
fn docker_and_oci_manifests_are_read() {
    let parsed = AnyManifest::parse(
        Some("application/json; charset=utf-8"),
        docker_manifest().as_bytes(),
    );
    let AnyManifest::Manifest(manifest) = parsed.unwrap() else {
        panic!("not a manifest")
    };
    assert_eq!(manifest.config.media_type, MediaType::DockerConfig);
    assert_eq!(
        manifest.layers[0].media_type.compression(),
        Some(Compression::Gzip)
    );
    assert_eq!(manifest.content_size(), 42);
    let again = serde_json::to_string(&manifest).unwrap();
    assert_eq!(
        AnyManifest::parse(None, again.as_bytes()).unwrap(),
        AnyManifest::Manifest(manifest)
    );
}

#[test]
fn the_first_entry_that_fits_best_is_chosen() {
    let index = index(&[
        entry('0', &platform("unknown", "unknown", "")),
        entry('1', &platform("windows", "amd64", "")),
        entry('2', &platform("linux", "arm", "v5")),
        entry('3', &platform("linux", "arm", "v7")),
        entry('4', &platform("linux", "arm64", "v8")),
        entry('5', &platform("linux", "amd64", "")),
        entry('6', &platform("linux", "amd64", "")),
        entry('7', ""),
    ]);
    assert_eq!(chosen(&index, "linux/amd64"), Some('5'));
    assert_eq!(chosen(&index, "linux/arm64"), Some('4'));
    assert_eq!(chosen(&index, "linux/arm/v7"), Some('3'));
    assert_eq!(chosen(&index, "linux/arm/v6"), Some('2'));
    assert_eq!(chosen(&index, "linux/arm/v8"), Some('3'));
    assert_eq!(chosen(&index, "linux/s390x"), None);
    let error = index
        .choose(&Platform::new("linux", "s390x"))
        .unwrap_err()
        .to_string();
    assert!(
        error.contains("linux/s390x") && error.contains("linux/arm/v7"),
        "{error}"
    );
}

#[test]
fn an_only_entry_without_platform_is_taken() {
    assert_eq!(chosen(&index(&[entry('1', "")]), "linux/amd64"), Some('1'));
    assert_eq!(
        chosen(&index(&[entry('1', ""), entry('2', "")]), "linux/amd64"),
        None
    );
    assert_eq!(chosen(&index(&[]), "linux/amd64"), None);
}

#[test]
fn schema_one_is_refused_by_name() {
    let old = r#"{"schemaVersion":1,"name":"x","fsLayers":[],"history":[]}"#;
    assert_eq!(flaw(None, old), ManifestFlaw::SchemaOne);
    assert_eq!(
        flaw(Some(MediaType::DockerSchemaOneSigned.as_str()), "{}"),
        ManifestFlaw::SchemaOne
    );
}

#[test]
fn confused_documents_are_refused() {
    let both = docker_manifest().replace("\"config\"", "\"manifests\":[],\"config\"");
    assert_eq!(flaw(None, &both), ManifestFlaw::Ambiguous);
    let oci = Some(MediaType::OciManifest.as_str());
    assert!(matches!(
        flaw(oci, &docker_manifest()),
        ManifestFlaw::MediaTypeConflict { .. }
    ));
    assert_eq!(
        flaw(oci, r#"{"schemaVersion":2,"manifests":[]}"#),
        ManifestFlaw::Shapeless
    );
    assert_eq!(
        flaw(None, r#"{"schemaVersion":2}"#),
        ManifestFlaw::Shapeless
    );
    assert_eq!(
        flaw(None, r#"{"schemaVersion":3,"manifests":[]}"#),
        ManifestFlaw::SchemaVersion(3)
    );
    assert_eq!(flaw(None, "{}"), ManifestFlaw::SchemaVersion(0));
    let html = flaw(Some("text/html"), r#"{"schemaVersion":2,"manifests":[]}"#);
    assert_eq!(html, ManifestFlaw::MediaType("text/html".into()));
}

#[test]
fn broken_json_is_an_error_not_a_panic() {
    for text in [
        "",
        "null",
        "[]",
        "{",
        "\"x\"",
        "\u{0}",
        "{\"schemaVersion\":\"2\"}",
        r#"{"schemaVersion":2,"schemaVersion":2,"manifests":[]}"#,
        r#"{"schemaVersion":2,"manifests":[{"mediaType":"x","digest":"sha256:../../x","size":1}]}"#,
        r#"{"schemaVersion":2,"manifests":[{"mediaType":"x","size":1}]}"#,
        r#"{"schemaVersion":2,"config":{},"layers":[]}"#,
    ] {
        let result = AnyManifest::parse(None, text.as_bytes());
        assert!(
            matches!(result, Err(Error::Json { .. })),
            "{text:?} gave {result:?}"
        );
    }
    let negative = docker_manifest().replace("\"size\":40", "\"size\":-40");
    assert!(AnyManifest::parse(None, negative.as_bytes()).is_err());
    let deep = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
    assert!(AnyManifest::parse(None, deep.as_bytes()).is_err());
}

#[test]
fn unknown_media_types_are_kept() {
    assert_eq!(MediaType::from("a/b").to_string(), "a/b");
    assert_eq!(MediaType::from("a/b").compression(), None);
    assert_eq!(
        MediaType::from_header("Application/VND.oci.image.index.v1+JSON ; x=y"),
        MediaType::OciIndex
    );
}
