//! Streams that a runtime serves with TLS, as crictl comes to them.

use std::process::Command;

use crate::cli::crictl::{Crictl, served};
use crate::cli::{Machine, machine};

/// An authority, and a certificate of it for `localhost`, which serves both sides.
fn certificates(floe: &Machine, name: &str) {
    let script = format!(
        "set -e; mkdir {name}; cd {name}
         new='-newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes'
         openssl req -x509 $new -keyout ca.key -out ca.pem -subj /CN={name} -days 30
         openssl req $new -keyout key.pem -out request -subj /CN=localhost
         echo 'subjectAltName = DNS:localhost' > names
         openssl x509 -req -in request -CA ca.pem -CAkey ca.key -out cert.pem -extfile names -days 30"
    );
    let mut command = Command::new("sh");
    command.args(["-c", &script]).current_dir(floe.node.dir());
    let made = command.output().expect("openssl is installed");
    assert!(made.status.success(), "{made:?}");
}

/// Has floe serve its streams with that certificate.
fn serve(floe: &mut Machine, more: &str) {
    let config = std::fs::read_to_string(floe.node.config()).expect("read");
    let dir = floe.node.path("ours").display().to_string();
    let keys = format!(
        "[crio.api]\nstream_enable_tls = true\nstream_tls_cert = \"{dir}/cert.pem\"\n\
         stream_tls_key = \"{dir}/key.pem\"\n{more}"
    );
    let config = config.replacen("[crio.api]\n", &keys, 1);
    std::fs::write(floe.node.config(), config).expect("write");
    floe.node.serve().expect("serve");
}

fn started(floe: &Machine) -> (Crictl, String) {
    let crictl = floe.crictl(&floe.node.socket());
    crictl.ok(&["pull", &floe.image]);
    let (_, id) = crictl.started("tls", "sleep 1000");
    (crictl, id)
}

#[test]
fn a_stream_with_tls_is_trusted_as_the_runtime_is() {
    machine(|floe| {
        certificates(floe, "ours");
        serve(floe, "");
        let (crictl, id) = started(floe);
        for transport in ["spdy", "websocket"] {
            let said = crictl.run(&["exec", "-r", transport, &id, "echo", "here"]);
            assert_eq!(said.ok(), "here", "{transport}");
        }
        crictl.ok(&["rmp", "-f", "-a"]);
    });
}

#[test]
fn authorities_and_certificates_are_checked_where_they_are_given() {
    machine(|floe| {
        certificates(floe, "ours");
        certificates(floe, "other");
        let authority = floe.node.path("ours/ca.pem").display().to_string();
        serve(floe, &format!("stream_tls_ca = \"{authority}\"\n"));
        let (crictl, id) = started(floe);
        let file = |name: &str| floe.node.path(name).display().to_string();
        let run = |flags: &[&str]| {
            let words = [&["exec"][..], flags, &[&id, "echo", "here"]].concat();
            crictl.run(&words)
        };
        let [ca, certificate, key] = ["ours/ca.pem", "ours/cert.pem", "ours/key.pem"].map(file);
        let ours = [
            "--tls-ca",
            &ca,
            "--tls-cert",
            &certificate,
            "--tls-key",
            &key,
        ];
        assert_eq!(run(&ours).ok(), "here");
        assert_eq!(
            run(&[&ours[..], &["--transport", "websocket"]].concat()).ok(),
            "here"
        );
        // The runtime asks who comes.
        assert_eq!(run(&[]).code, 1);
        let other = file("other/ca.pem");
        let unknown = [
            "--tls-ca",
            &other,
            "--tls-cert",
            &certificate,
            "--tls-key",
            &key,
        ];
        run(&unknown).failed(1, &["connect to the stream at", "certificate"]);
        let named = [&ours[..], &["--tls-sni", "elsewhere.example"]].concat();
        run(&named).failed(1, &["connect to the stream at", "certificate"]);
        run(&["--tls-ca", &ca]).failed(1, &["--tls-cert and --tls-key are required"]);
        let missing = [
            "--tls-ca",
            "/nosuch",
            "--tls-cert",
            &certificate,
            "--tls-key",
            &key,
        ];
        run(&missing).failed(1, &["TLS of the stream: /nosuch"]);
        crictl.ok(&["rmp", "-f", "-a"]);
    });
}

#[test]
fn a_stream_without_tls_needs_no_flags() {
    served(|_, crictl| {
        let (_, id) = crictl.started("plain", "sleep 1000");
        let said = crictl.run(&["exec", "--tls-sni", "anything", &id, "echo", "here"]);
        assert_eq!(said.ok(), "here");
    });
}
