//! `floe login` and `logout`: files and credential helpers, beside Debian's skopeo.

mod cli;

use std::process::Command;

use cli::{Said, machine};

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

#[test]
fn a_login_goes_to_the_credential_helper_and_comes_from_it_for_skopeo_too() {
    use std::os::unix::fs::PermissionsExt;
    machine(|floe| {
        let private = testkit::Registry::start_private().expect("a registry");
        let (host, dir) = (private.host(), floe.node.path("helper"));
        std::fs::create_dir(&dir).expect("create");
        let program = dir.join("docker-credential-test");
        std::fs::write(&program, HELPER).expect("write");
        std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).expect("chmod");
        let path = format!(
            "{}:{}",
            dir.display(),
            std::env::var("PATH").unwrap_or_default()
        );
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
            std::fs::write(&file, &config).expect("write");
            std::fs::write(dir.join("calls"), "").expect("write");
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
                std::fs::read_to_string(&file).expect("read"),
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
            let calls = std::fs::read_to_string(dir.join("calls")).expect("calls");
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
        std::fs::write(&file, format!(r#"{{"credHelpers":{{"{host}":"absent"}}}}"#))
            .expect("write");
        said(&["inspect", "--tls-verify=false", &place])
            .failed(125, &["docker-credential-absent", &host]);
    });
}
