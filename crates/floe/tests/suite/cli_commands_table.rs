//! docs/commands.md says what the program has: each row is held against its help, and against what it answers.

use std::collections::{BTreeMap, BTreeSet};

use crate::cli::{Machine, Said, machine};

/// A section of the document.
#[derive(Debug)]
struct Section {
    /// The other tool's words, such as `skopeo copy`.
    words: Vec<String>,
    /// The state of each option.
    options: BTreeMap<String, String>,
}

/// The words between back quotes.
fn quoted(text: &str) -> impl Iterator<Item = &str> {
    text.split('`').skip(1).step_by(2)
}

fn sections() -> Vec<Section> {
    let text = include_str!("../../../../docs/commands.md");
    let mut all: Vec<Section> = Vec::new();
    for line in text.lines() {
        if let Some(title) = line.strip_prefix("### `") {
            let words = title.split('`').next().expect("a title").split(' ');
            all.push(Section {
                words: words.map(str::to_owned).collect(),
                options: BTreeMap::new(),
            });
        }
        if line.starts_with("The options of `") {
            let mut words = quoted(line);
            let other = words.next().expect("a section");
            let mut known = all.iter();
            let same = known.find(|section| section.words.join(" ") == other);
            let mut options = same.expect("a section before this").options.clone();
            options.retain(|option, _| !line.contains(&format!("`{option}`")));
            all.last_mut().expect("a section").options = options;
        }
        let cells: Vec<&str> = line.split(" | ").collect();
        let ([first, state, ..], Some(section)) = (&cells[..], all.last_mut()) else {
            continue;
        };
        for option in quoted(first).filter(|word| word.starts_with("--")) {
            let state = state.trim_end_matches(['|', ' ']).trim();
            let before = section.options.insert(option.to_owned(), state.to_owned());
            assert!(before.is_none(), "{:?} has {option} twice", section.words);
        }
    }
    all
}

/// The long options that a help describes, with the other names of each.
fn described(help: &str) -> BTreeSet<String> {
    let mut all = BTreeSet::new();
    for line in help.lines().map(str::trim_start) {
        let long = match line.split_once(", ") {
            Some((short, rest)) if short.len() == 2 && short.starts_with('-') => rest,
            _ => line,
        };
        let name = long
            .split([' ', '[', '=', '<', ','])
            .next()
            .unwrap_or_default();
        if name.starts_with("--") && name.len() > 2 {
            all.insert(name.trim_end_matches("...").to_owned());
        }
        if let Some((_, names)) = line.split_once("[alias") {
            let names = names.split([' ', ',', ']', ':']);
            all.extend(
                names
                    .filter(|name| name.starts_with("--"))
                    .map(str::to_owned),
            );
        }
    }
    all.remove("--help");
    all
}

impl Machine {
    /// The program by the name that a section is about; podman's words are floe's.
    fn by_words(&self, words: &[&str]) -> Said {
        match words {
            ["podman", rest @ ..] => self.floe(rest),
            [name @ ("skopeo" | "buildah"), rest @ ..] => {
                let link = self.node.path(name);
                let mut command = std::process::Command::new(link);
                command.env("FLOE_CONFIG", self.node.config());
                command.args(rest).output().expect("run").into()
            }
            ["crictl", rest @ ..] => {
                let mut command = std::process::Command::new(self.node.path("crictl"));
                command.env_remove("CRI_CONFIG_FILE");
                command.args(rest).output().expect("run").into()
            }
            other => panic!("nothing is known of {other:?}"),
        }
    }
}

#[test]
fn the_table_of_commands_says_what_the_program_does() {
    machine(|floe| {
        let _links = (floe.as_skopeo(), floe.as_buildah());
        let _other = floe.crictl(&floe.node.socket());
        let sections = sections();
        assert!(sections.len() > 10, "the table was not read");
        let global: BTreeMap<&str, BTreeSet<String>> = sections
            .iter()
            .filter(|section| section.words.len() == 1)
            .map(|section| {
                let known = section.options.keys().cloned();
                (section.words[0].as_str(), known.collect())
            })
            .collect();
        for section in &sections {
            let words: Vec<&str> = section.words.iter().map(String::as_str).collect();
            let help = floe.by_words(&[&words[..], &["--help"]].concat()).ok();
            let help = described(&help);
            for (option, state) in &section.options {
                let offered = help.contains(option);
                match state.as_str() {
                    "works" | "differs" | "floe's own" => {
                        assert!(offered, "{words:?} has no {option}, which is {state}");
                    }
                    "not offered" => {
                        assert!(!offered, "{words:?} has {option}");
                        // With a value, and without for one that has none.
                        let valued = format!("{option}=x");
                        let refusal = format!("{option} is not offered: ");
                        let refused = [valued.as_str(), option].iter().any(|word| {
                            let said = floe.by_words(&[&words[..], &[word]].concat());
                            said.code != 0 && said.err.contains(&refusal)
                        });
                        assert!(refused, "{words:?} {option} is not refused by its name");
                    }
                    other => panic!("{words:?} {option}: what is {other:?}?"),
                }
            }
            let of_all = global.get(words[0]);
            let unknown: Vec<&String> = help
                .iter()
                .filter(|option| !section.options.contains_key(*option))
                .filter(|option| {
                    words.len() == 1 || of_all.is_none_or(|all| !all.contains(*option))
                })
                .collect();
            assert_eq!(unknown, [""; 0], "{words:?}: not in the table");
        }
    });
}
