//! registries.conf as administrators write it, and as they get it wrong.

use super::*;

const SHA: &str = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

fn flaw(text: &str) -> RegistriesFlaw {
    match Registries::parse(text) {
        Err(Error::Registries { flaw, .. }) => flaw,
        other => panic!("{text} gave {other:?}"),
    }
}

fn resolve(registries: &Registries, name: &str) -> Vec<String> {
    let sources = registries
        .resolve(&Reference::parse(name).unwrap())
        .unwrap();
    let shown = |source: &Source| {
        let insecure = if source.insecure { " insecure" } else { "" };
        let mirror = if source.mirror { " mirror" } else { "" };
        format!("{}{insecure}{mirror}", source.reference)
    };
    sources.iter().map(shown).collect()
}

#[test]
fn without_configuration_an_image_is_where_it_says() {
    let registries = Registries::default();
    assert_eq!(
        resolve(&registries, "busybox"),
        ["docker.io/library/busybox"]
    );
    assert_eq!(
        resolve(&registries, "localhost:5000/x:1"),
        ["localhost:5000/x:1"]
    );
}

#[test]
fn mirrors_come_first_in_order_and_the_location_last() {
    let registries = Registries::parse(
        r#"
        [[registry]]
        prefix = "registry.k8s.io"
        location = "origin.example/k8s/"
        [[registry.mirror]]
        location = "127.0.0.1:5000"
        insecure = true
        [[registry.mirror]]
        location = "mirror.example/deep/down"
        "#,
    )
    .unwrap();
    let expected = [
        "127.0.0.1:5000/e2e/busybox:1 insecure mirror",
        "mirror.example/deep/down/e2e/busybox:1 mirror",
        "origin.example/k8s/e2e/busybox:1",
    ];
    assert_eq!(
        resolve(&registries, "registry.k8s.io/e2e/busybox:1"),
        expected
    );
    let pushed = registries
        .push_target(&Reference::parse("registry.k8s.io/x:1").unwrap())
        .unwrap();
    assert_eq!(
        pushed,
        Source::direct(Reference::parse("registry.k8s.io/x:1").unwrap())
    );
}

#[test]
fn the_longest_prefix_wins() {
    let registries = Registries::parse(
        r#"
        [[registry]]
        location = "example.com"
        insecure = true
        [[registry]]
        prefix = "example.com/team"
        location = "team.example"
        [[registry]]
        prefix = "*.Example.com"
        blocked = true
        [[registry]]
        prefix = "*.ok.example.com"
        "#,
    )
    .unwrap();
    assert_eq!(
        resolve(&registries, "example.com/x"),
        ["example.com/x insecure"]
    );
    assert_eq!(
        resolve(&registries, "example.com/team/x:1"),
        ["team.example/x:1"]
    );
    assert_eq!(
        resolve(&registries, "example.com/teamwork:1"),
        ["example.com/teamwork:1 insecure"]
    );
    assert_eq!(
        resolve(&registries, "example.community/x"),
        ["example.community/x"]
    );
    assert_eq!(
        resolve(&registries, "a.ok.example.com:80/x"),
        ["a.ok.example.com:80/x"]
    );
    assert_eq!(
        resolve(&registries, "other.com/a.example.com/x"),
        ["other.com/a.example.com/x"]
    );
    for blocked in [
        "a.example.com/x",
        "A.EXAMPLE.com/x",
        "b.a.example.com:5000/x:y",
    ] {
        let reference = Reference::parse(blocked).unwrap();
        let pull = registries.resolve(&reference).unwrap_err();
        assert!(
            matches!(&pull, Error::Blocked { prefix, .. } if prefix == "*.example.com"),
            "{pull}"
        );
        assert!(registries.push_target(&reference).is_err());
    }
}

#[test]
fn mirrors_may_be_for_digests_or_tags_only() {
    let registries = Registries::parse(
        r#"
        [[registry]]
        location = "a.example"
        mirror-by-digest-only = true
        [[registry.mirror]]
        location = "m.example"
        [[registry]]
        location = "b.example"
        [[registry.mirror]]
        location = "d.example"
        pull-from-mirror = "digest-only"
        [[registry.mirror]]
        location = "t.example"
        pull-from-mirror = "tag-only"
        "#,
    )
    .unwrap();
    assert_eq!(resolve(&registries, "a.example/x:1"), ["a.example/x:1"]);
    assert_eq!(
        resolve(&registries, "b.example/x:1"),
        ["t.example/x:1 mirror", "b.example/x:1"]
    );
    let by_digest = format!("x@{SHA}");
    assert_eq!(
        resolve(&registries, &format!("a.example/{by_digest}")),
        [
            format!("m.example/{by_digest} mirror"),
            format!("a.example/{by_digest}")
        ]
    );
    assert_eq!(
        resolve(&registries, &format!("b.example/{by_digest}")),
        [
            format!("d.example/{by_digest} mirror"),
            format!("b.example/{by_digest}")
        ]
    );
}

#[test]
fn short_names_are_aliases_or_searched() {
    let text = r#"
        unqualified-search-registries = ["docker.io", "quay.io", "localhost:5000"]
        [aliases]
        "fedora" = "registry.fedoraproject.org/fedora"
        "team/app" = "quay.io/team/app"
        "#;
    let registries = Registries::parse(text).unwrap();
    let shown = |name: &str| -> Vec<String> {
        registries
            .candidates(name)
            .unwrap()
            .iter()
            .map(ToString::to_string)
            .collect()
    };
    assert_eq!(shown("fedora:40"), ["registry.fedoraproject.org/fedora:40"]);
    assert_eq!(
        shown(&format!("fedora@{SHA}")),
        [format!("registry.fedoraproject.org/fedora@{SHA}")]
    );
    assert_eq!(shown("team/app"), ["quay.io/team/app"]);
    assert_eq!(
        shown("x:1"),
        ["docker.io/library/x:1", "quay.io/x:1", "localhost:5000/x:1"]
    );
    assert_eq!(shown("quay.io/x"), ["quay.io/x"]);
    assert_eq!(shown("localhost/x"), ["localhost/x"]);

    let strict = Registries::parse(&format!("short-name-mode = \"enforcing\"\n{text}")).unwrap();
    let error = strict.candidates("x").unwrap_err();
    assert!(
        matches!(
            &error,
            Error::ShortName {
                flaw: ShortNameFlaw::Ambiguous(_),
                ..
            }
        ),
        "{error}"
    );
    assert!(strict.candidates("fedora").is_ok());
    let error = Registries::default().candidates("busybox").unwrap_err();
    assert!(
        matches!(
            &error,
            Error::ShortName {
                flaw: ShortNameFlaw::NowhereToSearch,
                ..
            }
        ),
        "{error}"
    );
}

#[test]
fn mistakes_are_named() {
    let registry = |body: &str| format!("[[registry]]\n{body}\n");
    assert_eq!(
        flaw("[registries.search]\nregistries = [\"docker.io\"]"),
        RegistriesFlaw::VersionOne
    );
    assert_eq!(flaw(&registry("insecure = true")), RegistriesFlaw::Nameless);
    let url = "https://example.com".to_owned();
    assert_eq!(
        flaw(&registry("location = \"https://example.com\"")),
        RegistriesFlaw::Scheme(url)
    );
    for bad in [
        "hostonly",
        "a b",
        "example.com/UP",
        "example.com/x:tag",
        "ex..com",
        "a.b?c",
        "",
    ] {
        let text = format!("unqualified-search-registries = [{bad:?}]");
        assert_eq!(flaw(&text), RegistriesFlaw::Location(bad.to_owned()));
    }
    assert!(matches!(
        flaw(&registry("location = \"*.example.com\"")),
        RegistriesFlaw::Wildcard(_)
    ));
    assert!(matches!(
        flaw(&registry("prefix = \"a.*.example.com\"")),
        RegistriesFlaw::Wildcard(_)
    ));
    assert!(matches!(
        flaw("short-name-mode = \"maybe\""),
        RegistriesFlaw::Value {
            key: "short-name-mode",
            ..
        }
    ));
    let mirror = registry(
        "location=\"a.b\"\n[[registry.mirror]]\nlocation=\"c.d\"\npull-from-mirror=\"no\"",
    );
    assert!(matches!(
        flaw(&mirror),
        RegistriesFlaw::Value {
            key: "pull-from-mirror",
            ..
        }
    ));
    let both = mirror
        .replace("\"no\"", "\"all\"")
        .replace("\"a.b\"", "\"a.b\"\nmirror-by-digest-only=true");
    assert_eq!(flaw(&both), RegistriesFlaw::MirrorModes("a.b".into()));
    let twice = registry("location=\"a.b\"\nblocked=true") + &registry("location=\"a.b\"");
    assert_eq!(
        flaw(&twice),
        RegistriesFlaw::Conflict {
            prefix: "a.b".into(),
            key: "blocked"
        }
    );
    assert_eq!(
        flaw("[aliases]\n\"a.b/x\" = \"c.d/x\""),
        RegistriesFlaw::AliasName("a.b/x".into())
    );
    assert_eq!(
        flaw("[aliases]\n\"x:1\" = \"c.d/x\""),
        RegistriesFlaw::AliasName("x:1".into())
    );
    assert!(matches!(
        flaw("[aliases]\n\"x\" = \"y\""),
        RegistriesFlaw::AliasTarget { .. }
    ));
    let syntax = Registries::parse("[[registry]]\nlocation = 5\n").unwrap_err();
    assert!(
        matches!(syntax, Error::Toml { .. }) && syntax.to_string().contains("line 2"),
        "{syntax}"
    );
}

#[test]
fn a_rewritten_name_must_still_be_a_name() {
    let registries = Registries::parse("[[registry]]\nprefix=\"a.b\"\nlocation=\"c.d/x\"").unwrap();
    let long = Reference::parse(&format!("a.b/{}", "y".repeat(254))).unwrap();
    let error = registries.resolve(&long).unwrap_err();
    assert!(matches!(error, Error::Rewrite { .. }), "{error}");
}

#[test]
fn drop_ins_are_read_in_lexical_order_and_replace_by_name() {
    let dir = tempfile::tempdir().unwrap();
    let dropins = dir.path().join("conf.d");
    fs::create_dir(&dropins).unwrap();
    let write = |name: &str, text: &str| fs::write(dir.path().join(name), text).unwrap();
    write(
        "registries.conf",
        "unqualified-search-registries=[\"a.a\"]\n[[registry]]\nlocation=\"x.y\"\ninsecure=true\n\
        [aliases]\n\"one\"=\"a.a/one\"\n\"two\"=\"a.a/two\"",
    );
    write(
        "conf.d/20-b.conf",
        "[[registry]]\nlocation=\"x.y\"\n[[registry.mirror]]\nlocation=\"late.y\"",
    );
    write(
        "conf.d/10-a.conf",
        "unqualified-search-registries=[\"b.b\"]\n[[registry]]\nlocation=\"x.y\"\nblocked=true\n\
        [aliases]\n\"one\"=\"\"\n\"two\"=\"b.b/two\"",
    );
    write("conf.d/30.txt", "this is not TOML");
    write("cache.conf", "[aliases]\n\"three\"=\"c.c/three\"");
    let mut paths = RegistriesPaths {
        file: dir.path().join("registries.conf"),
        file_required: true,
        dropin_dirs: vec![dropins.clone(), dir.path().join("missing")],
        alias_cache: Some(dir.path().join("cache.conf")),
    };
    let registries = Registries::load(&paths).unwrap();
    assert_eq!(registries.search(), ["b.b"]);
    assert_eq!(resolve(&registries, "x.y/z"), ["late.y/z mirror", "x.y/z"]);
    assert_eq!(
        registries.candidates("one").unwrap()[0].to_string(),
        "b.b/one"
    );
    assert_eq!(
        registries.candidates("two").unwrap()[0].to_string(),
        "b.b/two"
    );
    assert_eq!(
        registries.candidates("three").unwrap()[0].to_string(),
        "c.c/three"
    );

    write("conf.d/40.conf", "[[registry]\n");
    let error = Registries::load(&paths).unwrap_err();
    assert!(error.to_string().contains("40.conf"), "{error}");
    fs::remove_file(dropins.join("40.conf")).unwrap();
    paths.file = dir.path().join("absent.conf");
    assert!(matches!(Registries::load(&paths), Err(Error::Read { .. })));
    paths.file_required = false;
    assert!(Registries::load(&paths).is_ok());
}

#[test]
fn the_environment_may_name_the_file() {
    let none = RegistriesPaths::from_env(|_| None);
    assert_eq!(none, RegistriesPaths::system());
    let named = RegistriesPaths::from_env(|name| {
        (name == "CONTAINERS_REGISTRIES_CONF").then(|| "/x.conf".into())
    });
    assert_eq!(
        (named.file.to_str(), named.file_required),
        (Some("/x.conf"), true)
    );
}
