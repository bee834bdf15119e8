//! Tests of the configuration: what is read, in which order, and what is said of the rest.

use std::path::Path;

use super::*;

fn load(text: &str) -> Result<(Config, Vec<UnusedKey>)> {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), text).unwrap();
    Config::load(&Sources {
        file: Some(file.path().into()),
        dir: None,
    })
}

#[test]
fn a_crio_file_is_read_and_unused_keys_are_named_with_their_line() {
    let (config, unknown) = load(
        "[crio]\nroot = \"/a\"\n[crio.runtime]\nconmon = \"/usr/bin/conmon\"\ncgroup_manager = \"cgroupfs\"\n",
    )
    .unwrap();
    assert_eq!(config.root_table.root, Path::new("/a"));
    assert_eq!(unknown.len(), 1);
    assert_eq!(
        (unknown[0].key.as_str(), unknown[0].line),
        ("runtime.conmon", 4)
    );
    assert!(!unknown[0].matters());
    assert_eq!(summary(&unknown), None);
}

#[test]
fn floe_tables_win_over_crio_tables() {
    let (config, unknown) =
        load("[crio.api]\nlisten = \"/c.sock\"\n[floe.api]\nlisten = \"/f.sock\"\n").unwrap();
    assert_eq!(config.api.listen, Path::new("/f.sock"));
    assert_eq!(unknown, []);
}

#[test]
fn a_value_of_the_wrong_type_or_range_stops_the_start_with_its_name() {
    let error = load("[crio.runtime]\npids_limit = \"many\"\n")
        .unwrap_err()
        .to_string();
    assert!(error.contains("crio.runtime.pids_limit"), "{error}");
    let error = load("[crio.runtime]\ncgroup_manager = \"magic\"\n")
        .unwrap_err()
        .to_string();
    assert!(error.contains("magic"), "{error}");
    let error = load("[crio]\nroot = \"relative\"\n")
        .unwrap_err()
        .to_string();
    assert!(error.contains("root"), "{error}");
}

#[test]
fn a_key_that_stands_in_several_tables_is_named_with_its_own_line() {
    let (_, unused) = load(
        "[crio.metrics]\nenable = true\nenable_metrics = false\n[crio.tracing]\n  enable = 1\n\
         [crio.runtime.runtimes.runc]\nmonitor_path = \"\"\n[crio.runtime]\n\
         runtime_path = \"\" # runtime_path\n\"selinux\" = true\n[crio]\nnew.key = 'runtime_path = 1'\n",
    )
    .unwrap();
    let lines: Vec<(&str, usize)> = unused.iter().map(|u| (u.key.as_str(), u.line)).collect();
    assert_eq!(
        lines,
        [
            ("metrics.enable", 2),
            ("tracing.enable", 5),
            ("runtime.runtimes.runc.monitor_path", 7),
            ("runtime.selinux", 10),
            ("new.key", 12),
        ]
    );
    let line = summary(&unused).unwrap();
    assert!(line.starts_with("4 keys of the configuration"), "{line}");
    assert!(line.contains(":10): floe sets labels"), "{line}");
    assert!(line.contains("new.key ("), "{line}");
    assert!(!line.contains('\n'));
}

#[test]
fn many_keys_without_effect_are_one_line() {
    let keys: String = (0..60).map(|n| format!("key{n} = 1\n")).collect();
    let (_, unused) = load(&format!("[crio]\n{keys}")).unwrap();
    assert_eq!(unused.len(), 60);
    let line = summary(&unused).unwrap();
    assert!(line.contains("and 55 more"), "{line}");
    assert_eq!(line.matches("no such key").count(), 5);
}

/// What `crio config --default` of CRI-O 1.30 and later writes, with nothing commented out.
const CRIO_DEFAULT: &str = include_str!("tests/crio-default.toml");

#[test]
fn every_key_of_crios_own_configuration_is_known() {
    let (_, unused) = load(CRIO_DEFAULT).unwrap();
    let unknown: Vec<String> = unused
        .iter()
        .filter(|key| key.why == Why::Unknown)
        .map(ToString::to_string)
        .collect();
    assert_eq!(unknown, Vec::<String>::new());
    assert!(unused.len() > 40);
    assert_eq!(
        summary(&unused),
        None,
        "CRI-O's defaults change nothing here"
    );
}

/// All that CRI-O 1.37 reads: the tags of its structs, in its source.
const CRIO_KEYS: &str = include_str!("tests/crio-1.37-keys.txt");

#[test]
fn every_key_that_cri_o_1_37_reads_is_acted_on_or_has_a_reason() {
    let used = Config::known_keys();
    assert!(CRIO_KEYS.lines().count() > 140);
    for key in CRIO_KEYS.lines() {
        let why = super::crio::why(key, &toml::Value::from("another"));
        assert!(
            used.contains(key) || why != Some(Why::Unknown),
            "{key} is not known"
        );
    }
}

#[test]
fn every_option_of_crio_is_a_key_and_says_what_a_file_would() {
    let used = Config::known_keys();
    let said = |word: Word, name: &str, text: &str| Said {
        word,
        name: name.to_owned(),
        values: vec![text.to_owned()],
    };
    let none = || Sources {
        file: Some("/dev/null".into()),
        dir: Some("".into()),
    };
    for (index, word) in WORDS.iter().enumerate() {
        let key = word.dotted();
        let why = super::crio::why(&key, &toml::Value::from("another"));
        assert!(used.contains(&key) || why != Some(Why::Unknown), "{key}");
        let before = &WORDS[..index];
        assert!(
            before.iter().all(|other| other.option != word.option
                && other.dotted() != key
                && (other.environment() != word.environment() || word.environment().is_none())),
            "{key} twice"
        );
        // Of the type that the key has: another would be refused.
        let text = match word.kind {
            Kind::Switch => "true",
            Kind::Number => "70000000",
            Kind::List | Kind::Text => continue,
        };
        let loaded = Config::load_with(&none(), &[said(*word, "--it", text)]);
        if let Err(error) = loaded {
            assert!(!error.to_string().contains("invalid type"), "{error}");
        }
    }
    let of = |option: &str| *WORDS.iter().find(|word| word.option == option).unwrap();
    let all = [
        said(of("pids-limit"), "CONTAINER_PIDS_LIMIT", "5"),
        said(of("pids-limit"), "--pids-limit", "7"),
        said(of("default-env"), "--default-env", "A=b, C=d"),
        said(of("conmon-env"), "--conmon-env", "x"),
        said(of("selinux"), "CONTAINER_SELINUX", "1"),
    ];
    let (config, unused) = Config::load_with(&none(), &all).unwrap();
    assert_eq!(config.runtime.pids_limit, 7);
    assert_eq!(config.runtime.default_env, ["A=b", "C=d"]);
    let said_of: Vec<String> = unused
        .iter()
        .filter(|key| key.matters())
        .map(ToString::to_string)
        .collect();
    assert_eq!(said_of.len(), 1);
    assert!(said_of[0].starts_with("runtime.selinux (CONTAINER_SELINUX): "));
    for (option, text) in [
        ("pids-limit", "many"),
        ("cgroup-manager", "magic"),
        ("selinux", "2"),
    ] {
        let wrong = [said(of(option), &format!("--{option}"), text)];
        let error = Config::load_with(&none(), &wrong).unwrap_err().to_string();
        assert!(error.contains(&format!("--{option}")), "{error}");
    }
}

#[test]
fn drop_ins_beside_the_file_are_read_in_lexical_order() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("crio.conf");
    let drop_ins = dir.path().join("crio.conf.d");
    std::fs::create_dir_all(drop_ins.join("15-more")).unwrap();
    let write = |name: &str, text: &str| std::fs::write(drop_ins.join(name), text).unwrap();
    std::fs::write(
        &file,
        "[crio]\nroot = \"/main\"\nrunroot = \"/main\"\nlog_dir = \"/main\"\n",
    )
    .unwrap();
    write("20-last", "[crio]\nroot = \"/20\"\n");
    write(
        "10-first.conf",
        "[crio]\nroot = \"/10\"\nrunroot = \"/10\"\nlog_dir = \"/10\"\n",
    );
    write("15-more/x.toml", "[crio]\nrunroot = \"/15\"\n");
    write(".30-editor.swp", "not TOML");
    let load = |dir: Option<PathBuf>| {
        let file = Some(file.clone());
        Config::load(&Sources { file, dir }).unwrap().0.root_table
    };
    let beside = load(None);
    assert_eq!(beside.root, Path::new("/20"));
    assert_eq!(beside.runroot, Path::new("/15"));
    assert_eq!(beside.log_dir, Path::new("/10"));
    assert_eq!(load(Some(PathBuf::new())).root, Path::new("/main"));
    let other = dir.path().join("other");
    std::fs::create_dir(&other).unwrap();
    std::fs::write(other.join("x"), "[crio]\nroot = \"/other\"\n").unwrap();
    assert_eq!(load(Some(other.clone())).root, Path::new("/other"));
    assert_eq!(
        load(Some(dir.path().join("absent"))).root,
        Path::new("/main")
    );
    std::fs::write(other.join("y"), "[crio\n").unwrap();
    let error = Config::load(&Sources {
        file: Some(file.clone()),
        dir: Some(other),
    });
    let error = error.unwrap_err().to_string();
    assert!(error.contains("/other/y:1"), "{error}");
}

#[test]
fn log_dir_stands_where_crio_has_it_and_where_floe_had_it() {
    let dir = |text: &str| load(text).unwrap().0.root_table.log_dir;
    assert_eq!(dir("[crio]\nlog_dir = \"/a\"\n"), Path::new("/a"));
    assert_eq!(dir("[crio.runtime]\nlog_dir = \"/b\"\n"), Path::new("/b"));
    let both = "[crio]\nlog_dir = \"/a\"\n[crio.runtime]\nlog_dir = \"/b\"\n";
    assert_eq!(dir(both), Path::new("/a"));
    assert_eq!(load(both).unwrap().1, []);
}

#[test]
fn an_empty_value_is_the_default_as_it_is_for_crio() {
    let (config, _) = load(
        "[crio]\nroot = \"\"\nrunroot = \"\"\nlog_dir = \"\"\n[crio.api]\nlisten = \"\"\n\
         grpc_max_send_msg_size = 0\ngrpc_max_recv_msg_size = -1\n\
         [crio.network]\nnetwork_dir = \"\"\nplugin_dirs = [\"\"]\nplugin_dir = \"/p\"\n",
    )
    .unwrap();
    let default = Config::default();
    assert_eq!(config.root_table, default.root_table);
    assert_eq!(config.api, default.api);
    assert_eq!(config.network.network_dir, default.network.network_dir);
    let mut dirs = default.network.plugin_dirs;
    dirs.push("/p".into());
    assert_eq!(config.network.plugin_dirs, dirs);
}
