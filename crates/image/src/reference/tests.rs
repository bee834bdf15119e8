//! The reference grammar, with the nasty inputs that registries and users produce.

use super::*;

const SHA: &str = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

fn flaw(input: &str) -> ReferenceFlaw {
    match Reference::parse(input) {
        Err(Error::Reference { flaw, .. }) => flaw,
        other => panic!("{input:?} gave {other:?}"),
    }
}

#[track_caller]
fn check(input: &str, canonical: &str, familiar: &str) {
    let reference = Reference::parse(input).unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(
        reference.to_string(),
        canonical,
        "canonical form of {input}"
    );
    assert_eq!(reference.familiar(), familiar, "familiar form of {input}");
    assert_eq!(
        Reference::parse(canonical).unwrap(),
        reference,
        "{canonical} is a fixed point"
    );
    assert_eq!(
        Reference::parse(familiar).unwrap(),
        reference,
        "{familiar} reads back"
    );
}

#[test]
fn short_names_are_docker_hub_library_names() {
    check("busybox", "docker.io/library/busybox", "busybox");
    check(
        "busybox:1.36",
        "docker.io/library/busybox:1.36",
        "busybox:1.36",
    );
    check("library/busybox", "docker.io/library/busybox", "busybox");
    check("docker.io/busybox", "docker.io/library/busybox", "busybox");
    check(
        "index.docker.io/busybox:x",
        "docker.io/library/busybox:x",
        "busybox:x",
    );
    check("foo/bar", "docker.io/foo/bar", "foo/bar");
    check("library/a/b", "docker.io/library/a/b", "library/a/b");
    check(
        "localhost:5000",
        "docker.io/library/localhost:5000",
        "localhost:5000",
    );
}

#[test]
fn registries_are_hosts_with_ports_and_addresses() {
    for name in [
        "localhost/x",
        "localhost:5000/x:y",
        "127.0.0.1:5000/a/b/c:1",
        "[::1]:5000/x",
        "[fd00:1:2::3]/repo:tag",
        "registry.k8s.io/pause:3.10",
        "a.b-c.example:65000/x-y--z_1__2.3",
        "Uppercase/x",
        "xn--n3h.com/myimage:xn--n3h.com",
    ] {
        check(name, name, name);
    }
}

#[test]
fn a_tag_and_a_digest_may_both_be_there() {
    let both = format!("busybox:1.36@{SHA}");
    check(&both, &format!("docker.io/library/{both}"), &both);
    let reference = Reference::parse(&both).unwrap();
    assert_eq!(reference.tag(), Some("1.36"));
    assert_eq!(reference.digest().unwrap().to_string(), SHA);
    assert_eq!(
        reference.repository().to_string(),
        "docker.io/library/busybox"
    );
    assert_eq!(
        reference.without_tag().to_string(),
        format!("docker.io/library/busybox@{SHA}")
    );
    assert_eq!(reference.without_digest().familiar(), "busybox:1.36");
}

#[test]
fn latest_is_added_only_where_nothing_is_said() {
    let latest = |text: &str| Reference::parse(text).unwrap().or_latest().familiar();
    assert_eq!(latest("busybox"), "busybox:latest");
    assert_eq!(latest("busybox:1"), "busybox:1");
    assert_eq!(latest(&format!("busybox@{SHA}")), format!("busybox@{SHA}"));
}

#[test]
fn image_ids_are_no_names() {
    let id = "a3ed95caeb02ffe68cdd9fd84406680ae93d633cb16422d00e8a7c22955b46d4";
    assert_eq!(flaw(id), ReferenceFlaw::Identifier);
    assert!(Reference::parse(&format!("foo/{id}")).is_ok());
    assert!(Reference::parse(&id[1..]).is_ok());
}

#[test]
fn a_registry_in_capitals_is_the_same_registry() {
    check("EXAMPLE.com/x:V1", "example.com/x:V1", "example.com/x:V1");
    check("MyHost:5000/x", "myhost:5000/x", "myhost:5000/x");
    check("LocalHost/x", "localhost/x", "localhost/x");
    check("Index.Docker.IO/x", "docker.io/library/x", "x");
    check("[FD00::1]:5000/x", "[fd00::1]:5000/x", "[fd00::1]:5000/x");
}

#[test]
fn capitals_are_refused_in_repositories() {
    for input in [
        "Busybox",
        "foo/Bar",
        "example.com/Foo:x",
        "example.com:80/foo/BAR",
    ] {
        assert_eq!(flaw(input), ReferenceFlaw::Uppercase, "{input}");
    }
}

#[test]
fn lengths_are_bounded() {
    let path = "a/".repeat(127) + "a";
    assert!(Reference::parse(&format!("example.com/{path}")).is_ok());
    assert_eq!(
        flaw(&format!("example.com/{path}b")),
        ReferenceFlaw::TooLong
    );
    let tag = "t".repeat(128);
    assert!(Reference::parse(&format!("busybox:{tag}")).is_ok());
    assert_eq!(flaw(&format!("busybox:{tag}t")), ReferenceFlaw::Tag);
    assert_eq!(flaw(&"a".repeat(1 << 20)), ReferenceFlaw::TooLong);
}

#[test]
fn broken_names_say_what_is_broken() {
    use ReferenceFlaw::*;
    for (input, expected) in [
        ("", Empty),
        (":latest", Empty),
        ("example.com/", Empty),
        ("example.com/:x", Empty),
        ("-busybox", Path),
        ("busybox-", Path),
        ("a..b/c/d", Domain),
        ("a//b", Path),
        ("/a", Path),
        ("a/", Path),
        ("a___b", Path),
        ("a._b", Path),
        ("../etc/passwd", Domain),
        ("example.com/../x", Path),
        ("example.com/./x", Path),
        ("a b", Path),
        ("a\n", Path),
        ("a\0", Path),
        ("a%2fb", Path),
        ("a?b", Path),
        ("a#b", Path),
        ("büsybox", Path),
        ("ﬀoo/ＡＢ", Path),
        ("busybox:", Tag),
        ("busybox:.x", Tag),
        ("busybox:-x", Tag),
        ("busybox:a/b", Domain),
        ("busybox:a:b", Tag),
        ("busybox:é", Tag),
        ("-a.com/x", Domain),
        ("a..com/x", Domain),
        ("a_b.com/x", Domain),
        ("example.com:/x", Domain),
        ("example.com:80a/x", Domain),
        ("example.com:1:2/x", Domain),
        ("[::1/x", Domain),
        ("[::1]x/x", Domain),
        ("[]:5/x", Domain),
        ("[::g]/x", Domain),
        ("user@example.com/x", Domain),
        ("https://example.com/x", Domain),
        ("busybox@", Digest(DigestFlaw::NoAlgorithm)),
        ("busybox@sha256:abc", Digest(DigestFlaw::Length)),
        (
            "busybox@md5:d41d8cd98f00b204e9800998ecf8427e",
            Digest(DigestFlaw::Algorithm),
        ),
    ] {
        assert_eq!(flaw(input), expected, "{input:?}");
    }
    assert_eq!(
        flaw(&format!("busybox@{SHA}@{SHA}")),
        Digest(DigestFlaw::Character)
    );
    assert_eq!(flaw(&format!("@{SHA}")), Empty);
}

#[test]
fn a_new_tag_is_checked() {
    let reference = Reference::parse("busybox").unwrap();
    assert_eq!(reference.with_tag("v1").unwrap().familiar(), "busybox:v1");
    assert!(reference.with_tag("a/b").is_err());
    assert!(reference.with_tag("").is_err());
}

#[test]
fn the_familiar_form_never_means_another_image() {
    let id = "a3ed95caeb02ffe68cdd9fd84406680ae93d633cb16422d00e8a7c22955b46d4";
    for name in [
        "docker.io/localhost/x",
        "docker.io/a.b/c",
        &format!("docker.io/library/{id}"),
    ] {
        let reference = Reference::parse(name).unwrap();
        assert_eq!(
            Reference::parse(&reference.familiar()).unwrap(),
            reference,
            "{name}"
        );
    }
}

#[test]
fn random_text_never_panics_and_what_parses_reads_back() {
    const PIECES: [&str; 24] = [
        "a",
        "B",
        "0",
        ".",
        "-",
        "_",
        "__",
        "/",
        ":",
        "@",
        "[",
        "]",
        "::1",
        "localhost",
        "docker.io",
        "library",
        "index.docker.io",
        "sha256:",
        SHA,
        "é",
        " ",
        "latest",
        "5000",
        "\0",
    ];
    let mut state = 42_u64;
    let mut random = |below: usize| {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(state >> 33).unwrap() % below
    };
    let mut parsed = 0;
    for _ in 0..50_000 {
        let length = 1 + random(8);
        let text: String = (0..length).map(|_| PIECES[random(PIECES.len())]).collect();
        if let Ok(reference) = Reference::parse(&text) {
            parsed += 1;
            assert_eq!(
                Reference::parse(&reference.to_string()).unwrap(),
                reference,
                "{text:?}"
            );
            assert_eq!(
                Reference::parse(&reference.familiar()).unwrap(),
                reference,
                "{text:?}"
            );
        }
    }
    assert!(
        parsed > 1000,
        "only {parsed} texts parsed: the test has lost its point"
    );
}
