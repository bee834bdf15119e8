//! A configuration written out: as the keys alone, or with what each means, which is what its struct's
//! documentation says.

use toml::{Table, Value};

use super::Config;

/// Where the structs of the tables are documented.
const SOURCES: [&str; 8] = [
    include_str!("tracing.rs"),
    include_str!("compat.rs"),
    include_str!("checkpoint.rs"),
    include_str!("metrics.rs"),
    include_str!("nri.rs"),
    include_str!("tables.rs"),
    include_str!("runtimes.rs"),
    include_str!("workload.rs"),
];

/// Tables of entries that somebody named, and the struct of each entry.
const LISTS: [(&str, &str); 2] = [("runtimes", "RuntimeEntry"), ("workloads", "Workload")];

impl Config {
    /// All keys and values, as a file of its own that reads as the same configuration.
    ///
    /// # Errors
    /// A value that TOML cannot express.
    pub fn to_toml(&self) -> Result<String, String> {
        let whole = Table::from_iter([("crio".to_owned(), self.value()?)]);
        toml::to_string(&whole).map_err(|e| e.to_string())
    }

    /// The same with a comment for each key, table by table. With `all`, the keys that have their default are
    /// written like the others; without, as comments.
    ///
    /// # Errors
    /// A value that TOML cannot express.
    pub fn to_commented_toml(&self, all: bool) -> Result<String, String> {
        let (values, defaults) = (self.value()?, Self::default().value()?);
        let mut text = String::from(
            "# The configuration of floe: crio.conf's tables and keys. docs/configuration.md has more.\n",
        );
        let mut tables = vec![(
            "crio".to_owned(),
            "Root".to_owned(),
            &values,
            Some(&defaults),
        )];
        while let Some((name, noun, value, default)) = tables.pop() {
            let is_entry = LISTS.iter().any(|(_, entry)| *entry == noun);
            let (inner, own): (Vec<_>, Vec<_>) = value
                .as_table()
                .into_iter()
                .flatten()
                .partition(|(_, value)| value.is_table() && !is_entry);
            text.push_str(&format!("\n[{name}]\n"));
            for (key, value) in own {
                let is_default = default.and_then(|table| table.get(key)) == Some(value);
                let mark = if is_default && !all { "# " } else { "" };
                for line in documentation(&noun, key) {
                    text.push_str(&format!("# {line}\n"));
                }
                text.push_str(&format!("{mark}{} = {value}\n\n", quoted(key)));
            }
            for (key, value) in inner.into_iter().rev() {
                let name = format!("{name}.{key}");
                match LISTS.iter().find(|(list, _)| list == key) {
                    Some((_, noun)) => {
                        let entries = value.as_table().into_iter().flatten().rev();
                        tables.extend(entries.map(|(key, value)| {
                            (
                                format!("{name}.{}", quoted(key)),
                                (*noun).to_owned(),
                                value,
                                None,
                            )
                        }));
                    }
                    None => {
                        let default = default.and_then(|table| table.get(key));
                        tables.push((name, capitalized(key), value, default));
                    }
                }
            }
        }
        Ok(text)
    }

    fn value(&self) -> Result<Value, String> {
        Value::try_from(self).map_err(|e| e.to_string())
    }
}

/// The struct of a table: as it is called, word by word.
fn capitalized(table: &str) -> String {
    let word = |word: &str| -> String {
        let mut letters = word.chars();
        let first = letters.next().map(|first| first.to_ascii_uppercase());
        first.into_iter().chain(letters).collect()
    };
    table.split('_').map(word).collect()
}

fn quoted(key: &str) -> String {
    let is_bare = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
    match !key.is_empty() && key.chars().all(is_bare) {
        true => key.to_owned(),
        false => Value::from(key).to_string(),
    }
}

/// The lines that document a field of a struct.
fn documentation(noun: &str, field: &str) -> Vec<&'static str> {
    let begin = format!("pub struct {noun} {{");
    let mut found = Vec::new();
    for source in SOURCES {
        let mut lines = source.lines().skip_while(|line| *line != begin).skip(1);
        for line in lines.by_ref().map(str::trim) {
            if line.starts_with('}') {
                break;
            }
            if let Some(words) = line.strip_prefix("///") {
                found.push(words.trim());
            } else if line.starts_with(&format!("pub {field}:")) {
                return found;
            } else if !line.starts_with("#[") {
                found.clear();
            }
        }
        found.clear();
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{RuntimeEntry, Sources};

    fn read(text: &str) -> Config {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), text).unwrap();
        let (config, unused) = Config::load(&Sources {
            file: Some(file.path().into()),
            dir: None,
        })
        .unwrap();
        assert_eq!(unused, []);
        config
    }

    fn unusual() -> Config {
        let mut config = Config::default();
        config.root_table.root = "/a \"b\"".into();
        config.runtime.default_env = vec!["A=\n".into()];
        let mut entry = RuntimeEntry::default();
        entry.default_annotations.insert("a.b/c".into(), "d".into());
        config.runtime.runtimes.insert("my kata".into(), entry);
        config
    }

    #[test]
    fn what_is_written_reads_as_the_same() {
        for config in [Config::default(), unusual()] {
            assert_eq!(read(&config.to_toml().unwrap()), config);
            for all in [true, false] {
                let text = config.to_commented_toml(all).unwrap();
                assert_eq!(read(&text), config, "{text}");
            }
        }
    }

    #[test]
    fn every_key_says_what_it_means() {
        let text = unusual().to_commented_toml(true).unwrap();
        let lines: Vec<&str> = text.lines().collect();
        let undocumented: Vec<&&str> = lines
            .windows(2)
            .filter(|pair| pair[1].contains(" = ") && !pair[1].starts_with('#'))
            .filter(|pair| !pair[0].starts_with("# "))
            .map(|pair| &pair[1])
            .collect();
        assert_eq!(undocumented, Vec::<&&str>::new());
    }

    #[test]
    fn what_is_not_the_default_is_seen_at_a_glance() {
        let text = unusual().to_commented_toml(false).unwrap();
        let set = text
            .lines()
            .filter(|line| !line.starts_with('#') && line.contains(" = "));
        let set: Vec<&str> = set.collect();
        assert!(
            set.iter().any(|line| line.starts_with("root = ")),
            "{set:?}"
        );
        assert!(
            !set.iter().any(|line| line.starts_with("runroot = ")),
            "{set:?}"
        );
    }
}
