//! A hostile policy: nothing panics, and nothing unsigned is taken for signed.

#[path = "../../../image/tests/support/fuzz.rs"]
mod fuzz;
#[path = "support/targets.rs"]
mod targets;

#[test]
fn a_policy_is_read_or_refused_and_takes_nothing_unsigned_for_signed() {
    let signed = br#"{"default":[{"type":"reject"}],"transports":{"docker":{"a.example/b":[{"type":"signedBy","keyType":"GPGKeys","keyData":"eA==","signedIdentity":{"type":"remapIdentity","prefix":"a.example","signedPrefix":"b.example"}}],"*.a.example":[{"type":"sigstoreSigned","keyPath":"/k","signedIdentity":{"type":"matchRepository"}}]}}}"#;
    let open = br#"{"default":[{"type":"insecureAcceptAnything"}],"transports":{"docker-daemon":{"":[{"type":"insecureAcceptAnything"}]}}}"#;
    fuzz::run(20_000, &[signed, open], targets::policy);
}
