//! What must hold for any file and any value: parsers answer and do not fall, and what is printed as YAML is read
//! as the same.

use serde_json::{Value, json};

use crate::log::line;
use crate::{config, file, mutator, yaml};

#[test]
fn no_configuration_does_harm() {
    let corpus: &[&[u8]] = &[
        br#"{"metadata": {"name": "a", "namespace": "b", "attempt": 2}, "linux": {"sysctls": {"a": "b"}}}"#,
        b"metadata:\n  name: a\n  uid: 'x'\nport_mappings:\n- {protocol: TCP, host_port: 80}\nlabels: {a: 1}\n",
        b"linux: {security_context: {namespace_options: {pid: NODE, network: 1}, run_as_user: {value: 7}}}",
        b"base: &base {name: a}\nmetadata: *base\nenvs: [{key: a, value: b}]\n",
    ];
    mutator::run(1_500, corpus, |bytes| {
        let text = String::from_utf8_lossy(bytes);
        // Whether it is taken or not is its own affair.
        let _ = config::parse::<cri::PodSandboxConfig>(&text);
        let _ = config::parse::<cri::ContainerConfig>(&text);
    });
    let corpus: &[&[u8]] = &[
        b"runtime-endpoint: unix:///a\ntimeout: 3\ndebug: true # yes\n",
        b"{image-endpoint: '', max-retries: -1}",
    ];
    mutator::run(1_500, corpus, |bytes| {
        let _ = file::Config::parse(String::from_utf8_lossy(bytes).into_owned());
    });
}

#[test]
fn no_line_of_a_log_does_harm() {
    let corpus: &[&[u8]] = &[
        b"2026-01-02T03:04:05.123456789Z stdout F a line\n",
        b"2026-01-02T03:04:05+01:00 stderr P:x part\n",
        br#"{"log":"a\n","stream":"stdout","time":"2026-01-02T03:04:05.6Z"}"#,
    ];
    mutator::run(5_000, corpus, |bytes| {
        let _ = line::parse(bytes);
    });
}

#[test]
fn every_text_is_read_as_it_was_written() {
    let corpus: &[&[u8]] = &[
        b"plain",
        b"one: two # three",
        b"- a\n- b\n",
        b"it's \"quoted\" & *starred",
        b"0x1f 1e3 12:30 2026-01-02 null ~",
        b"  leading and trailing  \n\n",
        b"a long text of many words that does not fit into the width of a line, so that it is broken somewhere",
    ];
    mutator::run(3_000, corpus, |bytes| {
        let text = String::from_utf8_lossy(bytes).into_owned();
        let value = json!({"key": text, "list": [text, {"a": text}], "other": {&*text: 1}});
        let written = yaml::text(&value);
        let read: Result<Value, _> = serde_saphyr::from_str(&written);
        match read {
            Ok(read) => assert_eq!(read, value, "{written:?}"),
            Err(error) => panic!("{error}: {written:?}"),
        }
    });
}
