use std::path::Path;

use runtime::spec;
use serde_json::{Value, json};

use super::*;

fn device(edits: Value) -> Value {
    json!({
        "cdiVersion": "1.1.0",
        "kind": "vendor.example/gpu",
        "devices": [{ "name": "0", "containerEdits": edits }],
    })
}

fn dirs() -> (tempfile::TempDir, [PathBuf; 2]) {
    let root = tempfile::tempdir().unwrap();
    let dirs = ["etc", "run"].map(|name| root.path().join(name));
    dirs.iter()
        .for_each(|dir| std::fs::create_dir(dir).unwrap());
    (root, dirs)
}

fn put(dir: &Path, name: &str, content: &Value) {
    std::fs::write(dir.join(name), content.to_string()).unwrap();
}

fn names(names: &[&str]) -> Vec<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

fn env_of(edits: Edits) -> Vec<String> {
    let mut config = spec::Spec::default();
    edits.make(&mut config, true);
    config.process.unwrap_or_default().env
}

#[test]
fn a_file_that_is_not_as_the_specification_says_is_no_file() {
    let env = json!({ "env": ["A=1"] });
    let with = |change: &dyn Fn(&mut Value)| {
        let mut spec = device(env.clone());
        change(&mut spec);
        spec
    };
    let edit = |edits: Value| with(&|spec| spec["devices"][0]["containerEdits"] = edits.clone());
    let of = |version: &str, edits: Value| {
        let mut spec = edit(edits);
        spec["cdiVersion"] = version.into();
        spec["devices"][0]["name"] = "zero".into();
        spec
    };
    let rdt = |rdt: Value| json!({ "intelRdt": rdt });
    let bad = [
        (with(&|spec| spec["cdiVersion"] = "2.0.0".into()), "2.0.0"),
        (with(&|spec| spec["kind"] = "gpu".into()), "VENDOR/CLASS"),
        (with(&|spec| spec["kind"] = "1vendor/gpu".into()), "letter"),
        (with(&|spec| spec["kind"] = "vendor/gpu-".into()), "end"),
        (
            with(&|spec| spec["kind"] = "ven dor/gpu".into()),
            "character",
        ),
        (with(&|spec| spec["devices"] = json!([])), "no devices"),
        (with(&|spec| spec["devices"][0]["name"] = "".into()), "name"),
        (
            with(&|spec| spec["devices"][0]["name"] = "a=b".into()),
            "character",
        ),
        (with(&|spec| spec["surprise"] = 1.into()), "surprise"),
        (
            with(&|spec| {
                let first = spec["devices"][0].clone();
                spec["devices"].as_array_mut().unwrap().push(first);
            }),
            "twice",
        ),
        (edit(json!({})), "no containerEdits"),
        (edit(json!({ "env": ["A"] })), "NAME=VALUE"),
        (edit(json!({ "deviceNodes": [{ "path": "" }] })), "no path"),
        (
            edit(json!({ "deviceNodes": [{ "path": "/dev/a", "type": "x" }] })),
            "type",
        ),
        (
            edit(json!({ "deviceNodes": [{ "path": "/dev/a", "permissions": "rx" }] })),
            "permissions",
        ),
        (
            edit(json!({ "hooks": [{ "hookName": "never", "path": "/a" }] })),
            "stage",
        ),
        (
            edit(json!({ "hooks": [{ "hookName": "poststop", "path": "a" }] })),
            "absolute",
        ),
        (
            edit(json!({ "mounts": [{ "hostPath": "", "containerPath": "/a" }] })),
            "path",
        ),
        (
            edit(json!({ "netDevices": [{ "hostInterfaceName": "a", "name": "" }] })),
            "name",
        ),
        (edit(rdt(json!({ "closID": "../a" }))), "closID"),
        (
            of(
                "1.0.0",
                json!({ "netDevices": [{ "hostInterfaceName": "a", "name": "b" }] }),
            ),
            "1.1.0",
        ),
        (of("1.0.0", rdt(json!({ "schemata": ["L3:0=f"] }))), "1.1.0"),
        (of("0.6.0", rdt(json!({}))), "0.7.0"),
        (of("0.6.0", json!({ "additionalGids": [7] })), "0.7.0"),
        (
            of(
                "0.4.0",
                json!({ "deviceNodes": [{ "path": "/a", "hostPath": "/b" }] }),
            ),
            "0.5.0",
        ),
        (
            of(
                "0.3.0",
                json!({ "mounts": [{ "hostPath": "/a", "containerPath": "/a", "type": "bind" }] }),
            ),
            "0.4.0",
        ),
    ];
    for (spec, word) in bad {
        let reason = CdiSpec::parse(&spec.to_string()).unwrap_err();
        assert!(reason.contains(word), "{spec}: {reason}");
    }
    CdiSpec::parse(&device(env).to_string()).unwrap();
    let yaml = "cdiVersion: 0.3.0\nkind: v.example/net\ndevices:\n- name: a\n  containerEdits:\n    env: [A=1]\n";
    CdiSpec::parse(yaml).unwrap();
}

#[test]
fn names_come_from_the_field_and_from_annotations_each_once() {
    let notes = |value: &str| {
        [
            ("cdi.k8s.io/plugin_1".to_owned(), value.to_owned()),
            ("other".to_owned(), "no device".to_owned()),
        ]
        .into()
    };
    let asked = requested(
        names(&["v.example/a=1"]),
        &notes("v.example/a=1,v.example/b=x:2"),
    );
    assert_eq!(asked.unwrap(), ["v.example/a=1", "v.example/b=x:2"]);
    for bad in ["", "v.example/a", "v.example/a=1,", "a=1", "v.example/a=-1"] {
        let error = requested(Vec::new(), &notes(bad)).unwrap_err().to_string();
        assert!(error.contains("cdi.k8s.io/plugin_1"), "{bad:?}: {error}");
    }
    let many = (0..=MAX_DEVICES).map(|number| format!("v.example/a={number}"));
    assert!(requested(many, &BTreeMap::new()).is_err());
}

#[test]
fn a_later_directory_wins_and_a_name_that_is_there_twice_is_not_known() {
    let (_root, dirs) = dirs();
    let one = |value: &str| device(json!({ "env": [format!("FROM={value}")] }));
    let asked = names(&["vendor.example/gpu=0"]);
    put(&dirs[0], "a.json", &one("etc"));
    assert_eq!(env_of(look(&dirs, &asked, false).unwrap()), ["FROM=etc"]);
    put(&dirs[0], "b.yaml", &one("etc-b"));
    let error = look(&dirs, &asked, false).unwrap_err().to_string();
    assert!(
        error.contains("unresolvable CDI devices vendor.example/gpu=0"),
        "{error}"
    );
    assert!(
        error.contains("b.yaml: vendor.example/gpu=0 is also in another file"),
        "{error}"
    );
    // It is read again: what was mended is seen.
    put(&dirs[1], "c.json", &one("run"));
    assert_eq!(env_of(look(&dirs, &asked, false).unwrap()), ["FROM=run"]);
}

#[test]
fn a_damaged_file_takes_only_its_own_devices_away_and_is_named() {
    let (_root, dirs) = dirs();
    put(&dirs[0], "good.json", &device(json!({ "env": ["GOOD=1"] })));
    std::fs::write(dirs[0].join("bad.json"), "{").unwrap();
    std::fs::write(dirs[0].join("notes.txt"), "not one of them").unwrap();
    std::fs::create_dir(dirs[0].join("dir.json")).unwrap();
    let big = std::fs::File::create(dirs[0].join("big.yaml")).unwrap();
    big.set_len(MAX_FILE + 1).unwrap();
    rustix::fs::mkfifoat(rustix::fs::CWD, dirs[0].join("fifo.json"), 0o600.into()).unwrap();
    look(&dirs, &names(&["vendor.example/gpu=0"]), false).unwrap();
    let error = look(
        &dirs,
        &names(&["other.example/gpu=1", "vendor.example/gpu=7"]),
        false,
    );
    let error = error.unwrap_err().to_string();
    for word in [
        "other.example/gpu=1, vendor.example/gpu=7",
        "bad.json",
        "big.yaml",
        "fifo.json",
    ] {
        assert!(error.contains(word), "{word}: {error}");
    }
    assert!(!error.contains("notes.txt"), "{error}");
    // Directories that are not there have nothing.
    let none = [PathBuf::from("/nowhere/at/all")];
    assert!(look(&none, &names(&["vendor.example/gpu=0"]), false).is_err());
    look(&none, &[], false).unwrap();
}

#[test]
fn everything_that_a_device_says_is_in_the_configuration() {
    let (_root, dirs) = dirs();
    let mut spec = device(json!({
        "env": ["PATH=/gpu", "NEW=1"],
        "deviceNodes": [
            { "path": "/dev/gpu", "hostPath": "/dev/null", "permissions": "rw" },
            { "path": "/dev/made", "type": "b", "major": 7, "minor": 9, "uid": 3, "fileMode": 0o640 },
        ],
        "mounts": [
            { "hostPath": "/usr/lib/gpu.so", "containerPath": "/usr/lib/gpu.so", "options": ["ro", "bind"] },
            { "hostPath": "/opt", "containerPath": "/opt", "options": ["rbind"] },
        ],
        "hooks": [{ "hookName": "createContainer", "path": "/bin/gpu-hook", "args": ["gpu-hook", "x"], "timeout": 5 }],
        "netDevices": [{ "hostInterfaceName": "ib0", "name": "net1" }],
        "intelRdt": { "closID": "fast", "enableMonitoring": true },
        "additionalGids": [0, 44, 44],
    }));
    spec["containerEdits"] = json!({ "env": ["ONCE=1"], "additionalGids": [45] });
    let second = json!({ "name": "1", "containerEdits": { "env": ["SECOND=1"] } });
    spec["devices"].as_array_mut().unwrap().push(second);
    put(&dirs[0], "gpu.json", &spec);
    let asked = names(&["vendor.example/gpu=0", "vendor.example/gpu=1"]);
    let mount = |at: &str| spec::Mount {
        destination: at.into(),
        ..spec::Mount::default()
    };
    let mut config = spec::Spec {
        process: Some(spec::Process {
            env: names(&["PATH=/bin"]),
            user: spec::User {
                uid: 1000,
                gid: 0,
                ..spec::User::default()
            },
            ..spec::Process::default()
        }),
        mounts: vec![mount("/usr/lib/gpu.so"), mount("/")],
        ..spec::Spec::default()
    };
    look(&dirs, &asked, false).unwrap().make(&mut config, true);
    let process = config.process.unwrap();
    assert_eq!(process.env, ["PATH=/gpu", "ONCE=1", "NEW=1", "SECOND=1"]);
    assert_eq!(process.user.additional_gids, [45, 44]);
    let places: Vec<_> = config
        .mounts
        .iter()
        .map(|mount| &mount.destination)
        .collect();
    assert_eq!(
        places,
        [
            Path::new("/"),
            Path::new("/opt"),
            Path::new("/usr/lib/gpu.so")
        ]
    );
    assert_eq!(config.mounts[2].options, ["ro", "bind"]);
    let hooks = config.hooks.unwrap().create_container;
    assert_eq!((hooks[0].args.len(), hooks[0].timeout), (2, Some(5)));
    let linux = config.linux.unwrap();
    assert_eq!(linux.net_devices["ib0"].name.as_deref(), Some("net1"));
    assert_eq!(linux.intel_rdt.unwrap().clos_id.as_deref(), Some("fast"));
    let null = &linux.devices[0];
    assert_eq!(
        (null.kind.as_str(), null.major, null.minor),
        ("c", Some(1), Some(3))
    );
    // Nobody said an owner: the container's user, where that is not root.
    assert_eq!(
        (null.uid, null.gid, null.file_mode),
        (Some(1000), None, Some(0o666))
    );
    let made = &linux.devices[1];
    assert_eq!(
        (made.uid, made.major, made.file_mode),
        (Some(3), Some(7), Some(0o640))
    );
    let rules = linux.resources.unwrap().devices;
    let access: Vec<_> = rules
        .iter()
        .map(|rule| rule.access.as_deref().unwrap())
        .collect();
    assert_eq!(access, ["rw", "rwm"]);
}

#[test]
fn a_device_node_that_is_not_there_fails_by_name() {
    let (_root, dirs) = dirs();
    for (edits, word) in [
        (
            json!({ "deviceNodes": [{ "path": "/dev/no-such" }] }),
            "/dev/no-such",
        ),
        (
            json!({ "deviceNodes": [{ "path": "/etc/passwd" }] }),
            "no device",
        ),
        (
            json!({ "deviceNodes": [{ "path": "/dev/null", "type": "b" }] }),
            "type c",
        ),
    ] {
        put(&dirs[0], "gpu.json", &device(edits));
        let error = look(&dirs, &names(&["vendor.example/gpu=0"]), false);
        let error = error.unwrap_err().to_string();
        assert!(
            error.contains("vendor.example/gpu=0: ") && error.contains(word),
            "{error}"
        );
    }
}

#[test]
fn root_of_a_user_namespace_gets_the_nodes_devices_bound_and_no_others() {
    let (_root, dirs) = dirs();
    let nodes = |minor: i64| {
        json!({ "deviceNodes": [
            { "path": "/dev/gpu0", "hostPath": "/dev/zero", "permissions": "r" },
            { "path": "/dev/gpu1", "hostPath": "/dev/zero", "type": "c", "major": 1, "minor": minor },
            { "path": "/dev/pipe", "type": "p" },
        ] })
    };
    let asked = names(&["vendor.example/gpu=0"]);
    put(&dirs[0], "gpu.json", &device(nodes(5)));
    let users = spec::Namespace {
        kind: spec::NamespaceKind::User,
        path: None,
    };
    let mut config = spec::Spec {
        linux: Some(spec::Linux {
            namespaces: vec![users],
            ..spec::Linux::default()
        }),
        ..spec::Spec::default()
    };
    look(&dirs, &asked, true).unwrap().make(&mut config, true);
    let linux = config.linux.unwrap();
    let made: Vec<&Path> = linux.devices.iter().map(|one| one.path.as_path()).collect();
    assert_eq!(made, [Path::new("/dev/pipe")]);
    let bound: Vec<_> = config
        .mounts
        .iter()
        .map(|mount| (mount.destination.to_str(), mount.source.as_deref()))
        .collect();
    let zero = Some(Path::new("/dev/zero"));
    assert_eq!(
        bound,
        [(Some("/dev/gpu0"), zero), (Some("/dev/gpu1"), zero)]
    );
    assert_eq!(linux.resources.unwrap().devices.len(), 2);
    put(&dirs[0], "gpu.json", &device(nodes(6)));
    look(&dirs, &asked, false).unwrap();
    let error = look(&dirs, &asked, true).unwrap_err().to_string();
    assert!(
        error.contains("another device than its file says"),
        "{error}"
    );
}
