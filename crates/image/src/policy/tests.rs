//! What a policy permits, and that a broken one permits nothing.

use super::*;

fn policy(text: &str) -> Result<Policy> {
    Policy::parse(Path::new("/p.json"), text)
}

fn flaw(text: &str) -> PolicyFlaw {
    match policy(text) {
        Err(Error::Policy { flaw, .. }) => flaw,
        other => panic!("{text} gave {other:?}"),
    }
}

fn check(policy: &Policy, name: &str) -> Result<()> {
    policy.check(&Reference::parse(name).unwrap())
}

#[test]
fn the_most_specific_scope_decides() {
    let policy = policy(
        r#"{"default":[{"type":"reject"}],"transports":{
            "docker-daemon":{"":[{"type":"reject"}]},
            "docker":{
                "":[{"type":"insecureAcceptAnything"}],
                "docker.io":[{"type":"reject"}],
                "docker.io/library":[{"type":"insecureAcceptAnything"}],
                "docker.io/library/busybox:bad":[{"type":"reject"}],
                "*.example.com":[{"type":"reject"}],
                "a.b.example.com:5000/ok":[{"type":"insecureAcceptAnything"}]}}}"#,
    )
    .unwrap();
    for (name, accepted) in [
        ("quay.io/x", true),
        ("docker.io/foo/bar", false),
        ("busybox", true),
        ("busybox:bad", false),
        ("busybox:good", true),
        ("a.b.example.com/x", false),
        ("a.b.example.com:5000/x", false),
        ("a.b.example.com:5000/ok/x:1", true),
        ("example.com/x", true),
    ] {
        let result = check(&policy, name);
        match result {
            Ok(()) => assert!(accepted, "{name} was accepted"),
            Err(Error::PolicyRejected { .. }) => assert!(!accepted, "{name} was rejected"),
            Err(other) => panic!("{name}: {other}"),
        }
    }
}

#[test]
fn a_signature_that_is_asked_for_and_cannot_be_checked_refuses() {
    for kind in ["signedBy", "sigstoreSigned", "signedBaseLayer"] {
        let text = format!(
            r#"{{"default":[{{"type":"insecureAcceptAnything"}}],"transports":{{"docker":{{
                "quay.io":[{{"type":"insecureAcceptAnything"}},{{"type":"{kind}","keyPath":"/k"}}]}}}}}}"#
        );
        let policy = policy(&text).unwrap();
        let error = check(&policy, "quay.io/x:1").unwrap_err();
        assert!(
            matches!(&error, Error::SignatureUnsupported { requirement, .. } if *requirement == kind)
        );
        assert!(
            error.to_string().contains("/p.json") && error.to_string().contains("quay.io/x:1"),
            "{error}"
        );
        assert!(check(&policy, "ghcr.io/x").is_ok());
    }
}

#[test]
fn all_requirements_must_be_met() {
    let both = r#"{"default":[{"type":"insecureAcceptAnything"},{"type":"reject"}]}"#;
    assert!(
        matches!(check(&policy(both).unwrap(), "x"), Err(Error::PolicyRejected { scope, .. }) if scope == "default")
    );
}

#[test]
fn what_is_not_understood_is_an_error() {
    assert!(matches!(flaw(""), PolicyFlaw::Json(_)));
    assert!(matches!(flaw("{}"), PolicyFlaw::Json(_)));
    assert!(matches!(
        flaw(r#"{"default":[{"type":"reject"}],"transport":{}}"#),
        PolicyFlaw::Json(_)
    ));
    assert!(matches!(
        flaw(r#"{"default":[{"type":"reject"}],"default":[{"type":"reject"}]}"#),
        PolicyFlaw::Json(_)
    ));
    let twice = r#"{"default":[{"type":"reject"}],"transports":{"docker":{"a":[{"type":"reject"}],"a":[{"type":"insecureAcceptAnything"}]}}}"#;
    assert!(matches!(flaw(twice), PolicyFlaw::Json(text) if text.contains("twice")));
    assert_eq!(
        flaw(r#"{"default":[]}"#),
        PolicyFlaw::Empty("default".into())
    );
    let unknown = PolicyFlaw::Kind {
        scope: "default".into(),
        kind: "sometimes".into(),
    };
    assert_eq!(flaw(r#"{"default":[{"type":"sometimes"}]}"#), unknown);
    assert!(matches!(
        flaw(r#"{"default":[{}]}"#),
        PolicyFlaw::Kind { .. }
    ));
    let key = r#"{"default":[{"type":"insecureAcceptAnything","keyPath":"/k"}]}"#;
    assert!(matches!(flaw(key), PolicyFlaw::Key { .. }));
}

#[test]
fn no_file_accepts_and_a_named_file_must_exist() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("policy.json");
    let accepting = Policy::load(std::slice::from_ref(&path)).unwrap();
    assert!(check(&accepting, "x").is_ok());
    assert!(matches!(Policy::open(&path), Err(Error::Read { .. })));
    std::fs::write(&path, "{").unwrap();
    assert!(matches!(Policy::load(&[path]), Err(Error::Policy { .. })));
}
