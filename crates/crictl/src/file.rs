//! crictl.yaml: read and written as crictl does it. A mapping of seven keys; comments and the order of keys
//! outlive a change, as it is made to the lines.

use std::fs::File;
use std::io::{ErrorKind, Read, Write};
use std::path::Path;

use crate::failure::{Context, Failure, Outcome};

/// What is read of the file.
const MOST: u64 = 1 << 20;

/// The keys, in crictl's order.
pub(crate) const KEYS: [&str; 7] = [
    "runtime-endpoint",
    "image-endpoint",
    "timeout",
    "debug",
    "pull-image-on-create",
    "disable-pull-on-run",
    "max-retries",
];

/// The file's settings; what is not there is empty, no, or 0, as with crictl.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(crate) struct Config {
    pub(crate) runtime_endpoint: String,
    pub(crate) image_endpoint: String,
    /// Seconds.
    pub(crate) timeout: i64,
    pub(crate) debug: bool,
    pub(crate) pull_image_on_create: bool,
    pub(crate) disable_pull_on_run: bool,
    pub(crate) max_retries: i64,
    /// The file as it is written.
    text: String,
}

impl Config {
    /// Reads a file; `None` if there is none.
    pub(crate) fn read(path: &Path) -> Outcome<Option<Self>> {
        let file = match File::open(path) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            file => file.context(path.display())?,
        };
        let mut text = String::new();
        file.take(MOST + 1)
            .read_to_string(&mut text)
            .context(path.display())?;
        if text.len() as u64 > MOST {
            return Err(Failure::new(format!(
                "{} has more than {MOST} bytes",
                path.display()
            )));
        }
        Self::parse(text).map(Some)
    }

    pub(crate) fn parse(text: String) -> Outcome<Self> {
        let keys: Option<serde_json::Map<String, serde_json::Value>> =
            serde_saphyr::from_str(&text).map_err(|error| {
                Failure::new(error.to_string().lines().next().unwrap_or_default())
            })?;
        let mut config = Self::default();
        for (key, value) in keys.unwrap_or_default() {
            let value = match value {
                serde_json::Value::String(text) => text,
                serde_json::Value::Null => String::new(),
                other => other.to_string(),
            };
            config
                .take(&key, &value)
                .context(format!("parsing config option '{key}'"))?
                .then_some(())
                .ok_or_else(|| Failure::new(format!("Config option '{key}' is not valid")))?;
        }
        config.text = text;
        Ok(config)
    }

    /// Sets a key without writing it; false: there is no such key.
    fn take(&mut self, key: &str, value: &str) -> Outcome<bool> {
        match key {
            "runtime-endpoint" => self.runtime_endpoint = value.to_owned(),
            "image-endpoint" => self.image_endpoint = value.to_owned(),
            "timeout" => self.timeout = number(value)?,
            "debug" => self.debug = truth(value)?,
            "pull-image-on-create" => self.pull_image_on_create = truth(value)?,
            "disable-pull-on-run" => self.disable_pull_on_run = truth(value)?,
            "max-retries" => self.max_retries = number(value)?,
            _ => return Ok(false),
        }
        Ok(true)
    }

    /// The value of a key.
    pub(crate) fn get(&self, key: &str) -> Outcome<String> {
        Ok(match key {
            "runtime-endpoint" => self.runtime_endpoint.clone(),
            "image-endpoint" => self.image_endpoint.clone(),
            "timeout" => self.timeout.to_string(),
            "debug" => self.debug.to_string(),
            "pull-image-on-create" => self.pull_image_on_create.to_string(),
            "disable-pull-on-run" => self.disable_pull_on_run.to_string(),
            "max-retries" => self.max_retries.to_string(),
            _ => return Err(unknown(key)),
        })
    }

    /// Sets a key.
    pub(crate) fn set(&mut self, key: &str, value: &str) -> Outcome {
        let known = self
            .take(key, value)
            .context(format!("parse {key} value '{value}'"))?;
        known.then_some(()).ok_or_else(|| unknown(key))
    }

    /// Writes all keys, beside what the file had already.
    pub(crate) fn write(&self, path: &Path) -> Outcome {
        let mut lines: Vec<String> = self.text.lines().map(str::to_owned).collect();
        for key in KEYS {
            let value = self.get(key)?;
            let value = match key {
                "runtime-endpoint" | "image-endpoint" => crate::yaml::scalar(&value),
                _ => value,
            };
            let line = format!("{key}: {value}");
            let has_key = |line: &String| {
                let rest = line.strip_prefix(key);
                rest.is_some_and(|rest| rest.trim_start().starts_with(':'))
            };
            match lines.iter_mut().find(|line| has_key(line)) {
                Some(known) => {
                    let comment = known.find(" #").map(|at| known[at..].to_owned());
                    *known = line + &comment.unwrap_or_default();
                }
                None => lines.push(line),
            }
        }
        if let Some(dir) = path.parent().filter(|dir| !dir.as_os_str().is_empty()) {
            std::fs::create_dir_all(dir).context(dir.display())?;
        }
        let text = lines.join("\n") + "\n";
        // What cannot be read again is not written.
        Self::parse(text.clone()).context(format!("{}: write it by hand", path.display()))?;
        replace(path, &text, 0o600).context(path.display())
    }
}

/// The whole of it or nothing: by a file beside it.
pub(crate) fn replace(path: &Path, text: &str, mode: u32) -> std::io::Result<()> {
    use std::os::unix::fs::OpenOptionsExt;
    let mut name = path.as_os_str().to_owned();
    name.push(format!(".{}.new", std::process::id()));
    let mut options = File::options();
    let mut file = options
        .write(true)
        .create_new(true)
        .mode(mode)
        .open(&name)?;
    let written = file
        .write_all(text.as_bytes())
        .and_then(|()| file.sync_all())
        .and_then(|()| std::fs::rename(&name, path));
    if written.is_err() {
        // The failure that is told is the first one.
        let _ = std::fs::remove_file(&name);
    }
    written
}

fn unknown(key: &str) -> Failure {
    Failure::new(format!("no configuration option named {key}"))
}

fn number(value: &str) -> Outcome<i64> {
    value
        .parse()
        .map_err(|_| Failure::new(format!("{value:?} is no number")))
}

/// Go's words for yes and no.
fn truth(value: &str) -> Outcome<bool> {
    match value {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Ok(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Ok(false),
        _ => Err(Failure::new(format!("{value:?} is neither true nor false"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_read_and_unknown_ones_are_no_file() {
        let text = "runtime-endpoint: unix:///a.sock # mine\ntimeout: 7\ndebug: true\n";
        let config = Config::parse(text.to_owned()).unwrap();
        assert_eq!(config.runtime_endpoint, "unix:///a.sock");
        assert_eq!((config.timeout, config.debug), (7, true));
        assert_eq!(Config::parse(String::new()).unwrap(), Config::default());
        for (text, words) in [
            ("nothing: 1", "Config option 'nothing' is not valid"),
            ("timeout: x", "parsing config option 'timeout'"),
            ("debug: 3", "parsing config option 'debug'"),
        ] {
            let Err(Failure::Said(why)) = Config::parse(text.to_owned()) else {
                panic!("{text} was taken");
            };
            assert!(why.contains(words), "{why}");
        }
    }

    #[test]
    fn a_change_keeps_comments_and_order() {
        let dir = std::env::temp_dir().join(format!("crictl-file-{}", std::process::id()));
        let path = dir.join("crictl.yaml");
        let text = "# of this node\ndebug: false\nruntime-endpoint: unix:///a # mine\n";
        let mut config = Config::parse(text.to_owned()).unwrap();
        config.set("debug", "true").unwrap();
        config.write(&path).unwrap();
        let written = std::fs::read_to_string(&path).unwrap();
        let read = Config::read(&path).unwrap().unwrap();
        std::fs::remove_dir_all(&dir).unwrap();
        assert!(
            written
                .starts_with("# of this node\ndebug: true\nruntime-endpoint: unix:///a # mine\n"),
            "{written}"
        );
        assert!(written.contains("\nimage-endpoint: \"\"\n"), "{written}");
        assert!(read.debug);
        assert!(config.set("x", "1").is_err());
    }
}
