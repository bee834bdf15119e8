//! auth.json in all its dialects.

use super::*;

fn find(text: &str, name: &str) -> Result<Option<Credentials>, AuthFlaw> {
    let found = parse(text.as_bytes())
        .and_then(|file| file.find(&Reference::parse(name).unwrap(), &None, &|_, _| Ok(None)));
    Ok(match found? {
        Found::Credentials(credentials) => Some(credentials),
        Found::Nothing => None,
        Found::Unknown => panic!("a helper would be asked for {name}"),
    })
}

fn user(text: &str, name: &str) -> Option<String> {
    match find(text, name).unwrap() {
        Some(Credentials::Basic { username, password }) => Some(format!("{username}:{password}")),
        None => None,
        other => panic!("{other:?}"),
    }
}

fn auths(entries: &[(&str, &str)]) -> String {
    let entry =
        |(key, login): &(&str, &str)| format!(r#""{key}":{{"auth":"{}"}}"#, STANDARD.encode(login));
    format!(
        r#"{{"auths":{{{}}}}}"#,
        entries.iter().map(entry).collect::<Vec<_>>().join(",")
    )
}

#[test]
fn the_longest_key_wins() {
    let text = auths(&[
        ("a.example", "host:1"),
        ("a.example/team", "team:2"),
        ("a.example/team/app", "app:3"),
        ("A.example:5000", "port:4"),
    ]);
    assert_eq!(user(&text, "a.example/x:tag").as_deref(), Some("host:1"));
    assert_eq!(
        user(&text, "a.example/team/other").as_deref(),
        Some("team:2")
    );
    assert_eq!(
        user(&text, "a.example/team/app:v1").as_deref(),
        Some("app:3")
    );
    assert_eq!(
        user(&text, "a.example/team/app/more").as_deref(),
        Some("app:3")
    );
    assert_eq!(user(&text, "a.example/teamwork").as_deref(), Some("host:1"));
    assert_eq!(user(&text, "a.example:5000/x").as_deref(), Some("port:4"));
    assert_eq!(user(&text, "A.EXAMPLE/x").as_deref(), Some("host:1"));
    assert_eq!(user(&text, "b.a.example/x"), None);
}

#[test]
fn docker_hub_has_many_keys() {
    for key in [
        "docker.io",
        "https://index.docker.io/v1/",
        "index.docker.io",
        "registry-1.docker.io",
    ] {
        assert_eq!(
            user(&auths(&[(key, "me:pw:with:colons")]), "busybox").as_deref(),
            Some("me:pw:with:colons"),
            "{key}"
        );
    }
    assert_eq!(
        user(&auths(&[("https://a.example/v2/", "me:pw")]), "a.example/x").as_deref(),
        Some("me:pw")
    );
    assert_eq!(
        user(&auths(&[("docker.io/library/busybox", "me:pw")]), "busybox").as_deref(),
        Some("me:pw")
    );
}

#[test]
fn tokens_are_read() {
    let text = r#"{"auths":{"a.example":{"auth":"MDAwOg==","identitytoken":"idt"},"b.example":{"registrytoken":"rt"}}}"#;
    assert_eq!(
        find(text, "a.example/x").unwrap(),
        Some(Credentials::IdentityToken("idt".into()))
    );
    assert_eq!(
        find(text, "b.example/x").unwrap(),
        Some(Credentials::RegistryToken("rt".into()))
    );
}

#[test]
fn errors_name_the_entry_and_never_the_secret() {
    let entry = |auth: &str| format!(r#"{{"auths":{{"a.example":{{"auth":"{auth}"}}}}}}"#);
    for (text, part) in [
        (entry("c2VjcmV0"), "user:password"),
        (entry("!secret!"), "base64"),
        (r#"{"auths":{"a.example":"secret"}}"#.to_owned(), "line 1"),
        ("secret".to_owned(), "line 1"),
    ] {
        let error = find(&text, "a.example/x").unwrap_err().to_string();
        assert!(
            error.contains(part) && !error.contains("secret") && !error.contains("c2Vj"),
            "{error}"
        );
    }
    assert_eq!(find("  \n", "a.example/x").unwrap(), None);
    assert_eq!(find("{}", "a.example/x").unwrap(), None);
    assert!(!format!("{:?}", Credentials::basic("u", "hunter2")).contains("hunter2"));
}

#[test]
fn files_are_asked_in_order() {
    let dir = tempfile::tempdir().unwrap();
    let file = |name: &str, text: String| {
        let path = dir.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, text).unwrap();
    };
    file("run/containers/auth.json", auths(&[("a.example", "run:1")]));
    file(
        "home/.docker/config.json",
        auths(&[("a.example", "docker:2"), ("b.example", "docker:2")]),
    );
    file("own.json", auths(&[("c.example", "own:3")]));
    let var = |name: &str| match name {
        "XDG_RUNTIME_DIR" => Some(dir.path().join("run").into_os_string()),
        "HOME" => Some(dir.path().join("home").into_os_string()),
        _ => None,
    };
    let files = AuthFiles::from_env(var);
    let lookup = |files: &AuthFiles, name: &str| files.lookup(&Reference::parse(name).unwrap());
    assert_eq!(
        lookup(&files, "a.example/x").unwrap(),
        Credentials::basic("run", "1")
    );
    assert_eq!(
        lookup(&files, "b.example/x").unwrap(),
        Credentials::basic("docker", "2")
    );
    assert_eq!(
        lookup(&files, "c.example/x").unwrap(),
        Credentials::Anonymous
    );
    let named = AuthFiles::from_env(|name| match name {
        "REGISTRY_AUTH_FILE" => Some(dir.path().join("own.json").into_os_string()),
        other => var(other),
    });
    assert_eq!(
        lookup(&named, "c.example/x").unwrap(),
        Credentials::basic("own", "3")
    );
    assert_eq!(
        lookup(&named, "a.example/x").unwrap(),
        Credentials::Anonymous
    );
    let missing = lookup(
        &AuthFiles::only(dir.path().join("none.json")),
        "a.example/x",
    );
    assert!(matches!(missing, Err(Error::Read { .. })), "{missing:?}");
}

/// A helper in a directory of its own, which keeps each login in a file there.
fn with_helper(script: &str) -> (tempfile::TempDir, std::path::PathBuf) {
    use std::os::unix::fs::PermissionsExt;
    let dir = tempfile::tempdir().unwrap();
    let program = dir.path().join("docker-credential-test");
    fs::write(
        &program,
        format!("#!/bin/sh\ncd {}\n{script}\n", dir.path().display()),
    )
    .unwrap();
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
    let file = dir.path().join("auth.json");
    (dir, file)
}

const ANSWER: &str = r#"read server
echo "$1 $server" >> log
case "$server" in
a.example) echo '{"ServerURL":"a.example","Username":"ali","Secret":"sesame"}';;
t.example) echo '{"ServerURL":"","Username":"<token>","Secret":"refresh"}';;
https://index.docker.io/v1/) echo '{"Username":"hub","Secret":"s"}';;
bad.example) echo 'no lock
for you'; exit 1;;
mad.example) echo 'secret words';;
*) echo 'credentials not found in native keychain'; exit 1;;
esac"#;

fn asked(files: &AuthFiles, name: &str) -> Result<Credentials, String> {
    let found = files.lookup(&Reference::parse(name).unwrap());
    found.map_err(|error| error.to_string())
}

#[test]
fn a_registrys_helper_and_the_common_one_are_asked_and_answers_are_kept_for_a_while() {
    let (dir, file) = with_helper(ANSWER);
    let path = format!("{}:/usr/bin:/bin", dir.path().display());
    let text = r#"{"auths":{"f.example":{"auth":"YTpi"}},"credHelpers":{"a.example":"test","bad.example":"test","mad.example":"test","gone.example":"none","odd.example":"../x"},"credsStore":"test"}"#;
    fs::write(&file, text).unwrap();
    let files = AuthFiles::only(&file).with_helpers_in(path);
    let reference = Reference::parse("a.example/x/y").unwrap();
    assert_eq!(
        files.lookup_now(&reference).unwrap(),
        None,
        "it has to be asked"
    );
    let ali = Credentials::basic("ali", "sesame");
    assert_eq!(asked(&files, "a.example/x/y"), Ok(ali.clone()));
    assert_eq!(files.lookup_now(&reference).unwrap(), Some(ali.clone()));
    assert_eq!(asked(&files, "a.example/z"), Ok(ali));
    assert_eq!(
        fs::read_to_string(dir.path().join("log")).unwrap(),
        "get a.example\n"
    );
    assert_eq!(
        asked(&files, "t.example/x"),
        Ok(Credentials::IdentityToken("refresh".into()))
    );
    assert_eq!(asked(&files, "busybox"), Ok(Credentials::basic("hub", "s")));
    assert_eq!(
        asked(&files, "f.example/x"),
        Ok(Credentials::basic("a", "b")),
        "of the file"
    );
    assert_eq!(asked(&files, "none.example/x"), Ok(Credentials::Anonymous));
    let bad = asked(&files, "bad.example/x").unwrap_err();
    assert!(
        bad.contains("\"test\" for \"bad.example\"") && bad.contains("no lock for you"),
        "{bad}"
    );
    let mad = asked(&files, "mad.example/x").unwrap_err();
    assert!(
        mad.contains("does not answer with a login") && !mad.contains("secret"),
        "{mad}"
    );
    let gone = asked(&files, "gone.example/x").unwrap_err();
    assert!(gone.contains("docker-credential-none"), "{gone}");
    let odd = asked(&files, "odd.example/x").unwrap_err();
    assert!(odd.contains("no name of a program"), "{odd}");
    assert!(!format!("{files:?}").contains("sesame"));
}

#[test]
fn a_common_helper_that_is_not_installed_matters_only_where_somebody_logged_in() {
    let (dir, file) = with_helper("");
    let text = r#"{"auths":{"a.example":{}},"credsStore":"desktop"}"#;
    fs::write(&file, text).unwrap();
    let files = AuthFiles::only(&file).with_helpers_in(dir.path());
    assert_eq!(asked(&files, "b.example/x"), Ok(Credentials::Anonymous));
    let error = asked(&files, "a.example/x").unwrap_err();
    assert!(error.contains("docker-credential-desktop"), "{error}");
}

#[test]
fn helpers_of_registries_conf_are_asked_in_their_order_and_failures_only_matter_at_the_end() {
    let (dir, file) = with_helper(ANSWER);
    let path = format!("{}:/usr/bin:/bin", dir.path().display());
    let text = r#"{"auths":{"a.example":{"auth":"YTpi"},"bad.example/x":{"auth":"YTpi"},"c.example":{"auth":"-"}}}"#;
    fs::write(&file, text).unwrap();
    let files = AuthFiles::only(&file).with_helpers_in(path);
    let order = |names: &[&str]| {
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        files.in_order(&names)
    };
    let (of_file, of_helper) = (
        Credentials::basic("a", "b"),
        Credentials::basic("ali", "sesame"),
    );
    let both = order(&["test", AUTH_FILES]);
    let reference = Reference::parse("a.example/x").unwrap();
    assert_eq!(
        both.lookup_now(&reference).unwrap(),
        None,
        "it has to be asked"
    );
    assert_eq!(asked(&both, "a.example/x"), Ok(of_helper.clone()));
    assert_eq!(
        asked(&order(&[AUTH_FILES, "test"]), "a.example/x"),
        Ok(of_file.clone())
    );
    assert_eq!(
        asked(&order(&["test"]), "none.example/x"),
        Ok(Credentials::Anonymous)
    );
    assert_eq!(asked(&order(&[]), "a.example/x"), Ok(of_file.clone()));
    assert_eq!(
        asked(&both, "bad.example/x"),
        Ok(of_file),
        "the helper fails"
    );
    let absent = order(&["absent", "test"]);
    assert_eq!(asked(&absent, "a.example/x"), Ok(of_helper));
    let error = asked(&absent, "none.example/x").unwrap_err();
    assert!(error.contains("docker-credential-absent"), "{error}");
    let error = asked(&both, "bad.example/y").unwrap_err();
    assert!(error.contains("no lock for you"), "{error}");
    let error = asked(&order(&["absent", AUTH_FILES]), "c.example/x").unwrap_err();
    assert!(
        error.contains("docker-credential-absent") && error.contains("base64"),
        "{error}"
    );
}

#[test]
fn hostile_auth_files_are_read_or_refused_without_showing_what_they_hold() {
    let corpus: [&[u8]; 2] = [
        br#"{"auths":{"https://index.docker.io/v1/":{"auth":"YTpzZWNyZXQ="},"a.example/b":{"identitytoken":"secret"},"c.example":{"username":"u","password":"secret"}},"credHelpers":{"d.example":"x"},"credsStore":""}"#,
        br#"{"auths":{"a.example":{"registrytoken":"secret"}}}"#,
    ];
    let names =
        ["busybox", "a.example/b/c", "c.example/x"].map(|name| Reference::parse(name).unwrap());
    crate::mutator::run(20_000, &corpus, |bytes| {
        for name in &names {
            let found = parse(bytes).and_then(|file| file.find(name, &None, &|_, _| Ok(None)));
            match found {
                Ok(Found::Credentials(credentials)) => {
                    assert!(!format!("{credentials:?}").contains("secret"));
                }
                Ok(_) => {}
                Err(flaw) => {
                    let words = flaw.to_string();
                    assert!(
                        !words.contains("\"secret\"") || words.starts_with("entry"),
                        "{words}"
                    );
                }
            }
        }
    });
}
