//! `floe login` and `logout`: files and credential helpers, beside Debian's skopeo.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

use crate::cli::{Said, machine};

#[test]
fn a_login_is_tried_kept_used_and_forgotten() {
    machine(|floe| {
        let private = testkit::Registry::start_private().expect("a registry");
        let (host, file) = (private.host(), floe.node.path("auth.json"));
        let file = file.display().to_string();
        let login = |password: &str| {
            let options = ["login", "--tls-verify=false", "--authfile", &file];
            let mut arguments = options.to_vec();
            arguments.extend(["-u", "floe", "-p", password, &host]);
            floe.floe(&arguments)
        };
        login("wrong").failed(125, &[&host]);
        assert!(!std::path::Path::new(&file).exists());
        assert_eq!(login("secret").ok(), "Login Succeeded!");
        let user = ["login", "--get-login", "--authfile", &file, &host];
        assert_eq!(floe.floe(&user).ok(), "floe");
        let (from, to) = (
            format!("docker://{}", floe.image),
            format!("docker://{host}/x:1"),
        );
        let copy = |authfile: &str| {
            let tls = "--dest-tls-verify=false";
            floe.floe(&["copy", "-q", tls, "--dest-authfile", authfile, &from, &to])
        };
        copy(&file).ok();
        let creds = [
            "inspect",
            "--tls-verify=false",
            "--creds",
            "floe:secret",
            &to,
        ];
        floe.floe(&creds).ok();
        let nobody = ["inspect", "--tls-verify=false", "--no-creds", &to];
        floe.floe(&nobody).failed(125, &[&host]);
        let logout = ["logout", "--authfile", &file, &host];
        floe.floe(&logout).ok();
        floe.floe(&logout).failed(125, &["not logged into"]);
        copy(&file).failed(125, &[&host]);
    });
}

#[test]
fn registries_are_reached_through_the_environments_proxy() {
    use std::io::{BufRead, BufReader, Write};
    machine(|floe| {
        let proxy = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = proxy.local_addr().expect("an address").to_string();
        let asked = std::thread::spawn(move || {
            let (stream, _) = proxy.accept().expect("a client");
            let mut request = String::new();
            let mut lines = BufReader::new(&stream);
            lines.read_line(&mut request).expect("a request");
            (&stream)
                .write_all(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n")
                .expect("an answer");
            request
        });
        let mut command = floe.command(&["inspect", "docker://registry.invalid/x"]);
        command
            .env("https_proxy", &address)
            .env_remove("HTTPS_PROXY");
        let said = Said::from(command.output().expect("run floe"));
        said.failed(125, &["registry.invalid", "tunnel"]);
        let asked = asked.join().expect("the proxy was asked");
        assert_eq!(asked.trim(), "CONNECT registry.invalid:443 HTTP/1.1");
    });
}

/// A credential helper that keeps each login in a file of its directory.
const HELPER: &str = r#"#!/bin/sh
cd "$(dirname "$0")"
echo "$1" >> calls
case "$1" in
store) cat > login; sed -n 's/.*"ServerURL":"\([^"]*\)".*/\1/p' login > server;;
get) read server; [ "$server" = "$(cat server 2>/dev/null)" ] && cat login ||
  { echo 'credentials not found in native keychain'; exit 1; };;
erase) rm login server;;
list) [ -e server ] && echo "{\"$(cat server)\":\"x\"}" || echo '{}';;
esac
"#;

/// Makes a helper in a directory of its own; returns `$PATH` with it.
fn install(dir: &Path, name: &str, script: &str) -> String {
    fs::create_dir(dir).expect("create");
    let program = dir.join(format!("docker-credential-{name}"));
    fs::write(&program, script).expect("write");
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).expect("chmod");
    let path = std::env::var("PATH").unwrap_or_default();
    format!("{}:{path}", dir.display())
}

#[test]
fn a_login_goes_to_the_credential_helper_and_comes_from_it_for_skopeo_too() {
    machine(|floe| {
        let private = testkit::Registry::start_private().expect("a registry");
        let (host, dir) = (private.host(), floe.node.path("helper"));
        let path = install(&dir, "test", HELPER);
        let file = floe.node.path("auth.json");
        let with = |mut command: Command| -> Said {
            command.env("PATH", &path).env("REGISTRY_AUTH_FILE", &file);
            command.output().expect("run").into()
        };
        let said = |arguments: &[&str]| with(floe.command(arguments));
        let place = format!("docker://{host}/x:1");
        for config in [
            format!(r#"{{"credHelpers":{{"{host}":"test"}}}}"#),
            r#"{"credsStore":"test"}"#.into(),
        ] {
            fs::write(&file, &config).expect("write");
            fs::write(dir.join("calls"), "").expect("write");
            said(&[
                "login",
                "--tls-verify=false",
                "-u",
                "floe",
                "-p",
                "secret",
                &host,
            ])
            .ok();
            assert_eq!(
                fs::read_to_string(&file).expect("read"),
                config,
                "no secret in it"
            );
            assert_eq!(said(&["login", "--get-login", &host]).ok(), "floe");
            let copy = [
                "copy",
                "-q",
                "--dest-tls-verify=false",
                &format!("docker://{}", floe.image),
                &place,
            ];
            said(&copy).ok();
            let calls = fs::read_to_string(dir.join("calls")).expect("calls");
            let gets = calls.lines().filter(|call| *call == "get").count();
            assert!(
                gets <= 3,
                "one for each registry that a command asks, not for each blob: {calls}"
            );
            // For skopeo a helper is one registry's.
            if config.contains("credHelpers") {
                let mut skopeo = Command::new("skopeo");
                skopeo.args(["inspect", "--tls-verify=false", &place]);
                with(skopeo).ok();
            }
            said(&["logout", &host]).ok();
            assert!(!dir.join("login").exists());
            said(&["logout", &host]).failed(125, &["not logged into"]);
            said(&copy).failed(125, &[&host]);
            said(&[
                "login",
                "--tls-verify=false",
                "-u",
                "floe",
                "-p",
                "secret",
                &host,
            ])
            .ok();
            said(&["logout", "--all"]).ok();
            assert!(!dir.join("login").exists());
        }
        fs::write(&file, format!(r#"{{"credHelpers":{{"{host}":"absent"}}}}"#)).expect("write");
        said(&["inspect", "--tls-verify=false", &place])
            .failed(125, &["docker-credential-absent", &host]);
    });
}

#[test]
fn credential_helpers_of_registries_conf_keep_logins_in_their_order_as_for_skopeo() {
    machine(|floe| {
        let private = testkit::Registry::start_private().expect("a registry");
        let (host, dir) = (private.host(), floe.node.path("helper"));
        let path = install(&dir, "kept", HELPER);
        let (conf, file) = (
            floe.node.path("registries.conf"),
            floe.node.path("auth.json"),
        );
        let with = |mut command: Command| -> Said {
            command.env("PATH", &path).env("REGISTRY_AUTH_FILE", &file);
            command.output().expect("run").into()
        };
        let said = |arguments: &[&str]| with(floe.command(arguments));
        let skopeo = |arguments: &[&str]| {
            let mut command = Command::new("skopeo");
            command.arg("--registries-conf").arg(&conf).args(arguments);
            with(command)
        };
        let order = |helpers: &str| {
            let mut text = format!("credential-helpers = [{helpers}]\n");
            for host in [&host, &floe.registry.host()] {
                text += &format!("[[registry]]\nlocation = {host:?}\ninsecure = true\n");
            }
            fs::write(&conf, text).expect("write");
        };
        let login = ["login", "-u", "floe", "-p", "secret"];
        let here = || (dir.join("login").exists(), file.exists());
        let place = format!("docker://{host}/x:1");
        let push = ["copy", "-q", &format!("docker://{}", floe.image), &place];

        // The first that works keeps it: what is not there does not, nor does a helper keep namespaces.
        order(r#""absent", "kept", "containers-auth.json""#);
        said(&[&login[..], &[&host]].concat()).ok();
        assert_eq!(here(), (true, false));
        assert_eq!(said(&["login", "--get-login", &host]).ok(), "floe");
        assert_eq!(skopeo(&["login", "--get-login", &host]).ok(), "floe");
        let namespace = format!("{host}/names");
        said(&[&login[..], &[&namespace]].concat()).ok();
        assert_eq!(here(), (true, true));
        assert!(
            fs::read_to_string(&file)
                .expect("read")
                .contains(&namespace)
        );

        // What one has, another need not.
        fs::remove_file(&file).expect("remove it");
        order(r#""kept""#);
        said(&push).ok();
        skopeo(&["inspect", &place]).ok();
        said(&[&login[..], &[&namespace]].concat()).failed(125, &["kept", "whole registries"]);
        said(&["logout", &host]).ok();
        assert_eq!(here(), (false, false));
        said(&["logout", &host]).failed(125, &["not logged into"]);
        said(&push).failed(125, &[&host]);

        // skopeo's login is floe's, wherever the order puts it.
        for helpers in [
            r#""kept", "containers-auth.json""#,
            r#""containers-auth.json", "kept""#,
        ] {
            order(helpers);
            fs::write(&file, "{}").expect("write");
            skopeo(&[&login[..], &[&host]].concat()).ok();
            assert_eq!(here().0, helpers.starts_with("\"kept"));
            said(&push).ok();
            said(&["logout", "--all"]).ok();
            assert!(!here().0);
            said(&push).failed(125, &[&host]);
        }
        order(r#""absent""#);
        said(&push).failed(125, &["docker-credential-absent"]);
        said(&[&login[..], &[&host]].concat()).failed(125, &["docker-credential-absent"]);
        said(&["logout", "--all"]).ok();
    });
}
