//! What the options of `buildah config` do to a record, and what the history and a person are told of it.

use std::collections::BTreeMap;

use build::working::Record;
use serde_json::{Value, json};

use super::{Args, Health};
use crate::cmd::import::change;
use crate::failure::Failure;

/// Lines for the history, and warnings.
type Told = (Vec<String>, Vec<String>);

impl Args {
    /// Changes all that was asked for.
    pub(super) fn apply(&self, record: &mut Record) -> Result<Told, Failure> {
        let mut told = Told::default();
        self.platform(record);
        self.people(record, &mut told)?;
        self.environment(record, &mut told)?;
        self.commands(record, &mut told)?;
        if let Some(line) = self.health.apply(&mut record.config.healthcheck)? {
            told.0.push(line);
        }
        self.lists(record, &mut told);
        if record.format == "oci" {
            self.warn_of_docker(&mut told.1);
        }
        Ok(told)
    }

    fn platform(&self, record: &mut Record) {
        let platform = &mut record.platform;
        if let Some(arch) = &self.arch {
            platform.architecture.clone_from(arch);
        }
        if let Some(os) = &self.os {
            platform.os.clone_from(os);
        }
        let set = |to: &mut Option<String>, given: &Option<String>| {
            if let Some(given) = given {
                *to = Some(given.clone()).filter(|given| !given.is_empty());
            }
        };
        set(&mut platform.variant, &self.variant);
        set(&mut platform.os_version, &self.os_version);
        for feature in &self.os_feature {
            match removal(feature) {
                Some("") => platform.os_features.clear(),
                Some(name) => platform.os_features.retain(|one| one != name),
                None if platform.os_features.contains(feature) => {}
                None => platform.os_features.push(feature.clone()),
            }
        }
        set(&mut record.author, &self.author);
        set(&mut record.created_by, &self.created_by);
        set(&mut record.comment, &self.history_comment);
    }

    fn people(&self, record: &mut Record, told: &mut Told) -> Result<(), Failure> {
        let config = &mut record.config;
        if let Some(user) = &self.user {
            config.user.clone_from(user);
            told.0.push(format!("USER {user}"));
        }
        if let Some(shell) = &self.shell {
            config.shell = words("--shell", shell)?;
            told.0.push(format!("SHELL {shell}"));
        }
        if let Some(signal) = &self.stop_signal {
            config.stop_signal = Some(signal.clone()).filter(|signal| !signal.is_empty());
            told.0.push(format!("STOPSIGNAL {signal}"));
        }
        if let Some(dir) = &self.workingdir {
            config.working_dir.clone_from(dir);
            told.0.push(format!("WORKDIR {dir}"));
        }
        for instruction in &self.onbuild {
            config.on_build.push(instruction.clone());
            told.0.push(format!("ONBUILD {instruction}"));
        }
        Ok(())
    }

    fn environment(&self, record: &mut Record, told: &mut Told) -> Result<(), Failure> {
        let env = &mut record.config.env;
        let is = |name: &str| {
            let begin = format!("{name}=");
            move |entry: &String| entry.starts_with(&begin)
        };
        for text in &self.env {
            let (name, value) = match (text.split_once('='), removal(text)) {
                (Some((name, value)), _) => (name, expanded(value, env, &mut told.1)),
                (None, Some("")) => {
                    env.clear();
                    continue;
                }
                (None, Some(name)) => {
                    let is_it = is(name);
                    env.retain(|entry| !is_it(entry));
                    continue;
                }
                (None, None) => {
                    let value = std::env::var(text).ok().filter(|value| !value.is_empty());
                    let missing = || Failure::new(format!("setting env {text:?}: no value given"));
                    (text.as_str(), value.ok_or_else(missing)?)
                }
            };
            if name.is_empty() || name.contains('\0') || value.contains('\0') {
                return Err(Failure::new(format!("--env {text:?} is not NAME=VALUE")));
            }
            let is_it = is(name);
            let entry = format!("{name}={value}");
            match env.iter_mut().find(|entry| is_it(entry)) {
                Some(old) => *old = entry,
                None => env.push(entry),
            }
        }
        if !self.env.is_empty() {
            told.0.push(format!("ENV {}", self.env.join(" ")));
        }
        Ok(())
    }

    fn commands(&self, record: &mut Record, told: &mut Told) -> Result<(), Failure> {
        let config = &mut record.config;
        if let Some(text) = &self.entrypoint {
            let list = list(text);
            let cmd = config.cmd.join(" ");
            let what = match (text.trim().is_empty(), &list) {
                (true, _) => "",
                (false, Some(_)) => "and will be passed to entrypoint as a parameter",
                (false, None) => "but will be ignored because of entrypoint settings",
            };
            if !cmd.is_empty() && !what.is_empty() && self.cmd.is_none() {
                told.1.push(format!("cmd {cmd:?} exists {what}"));
            }
            config.entrypoint = match text.trim().is_empty() {
                true => Vec::new(),
                false => list.unwrap_or_else(|| ["/bin/sh", "-c", text].map(str::to_owned).into()),
            };
            told.0.push(format!("ENTRYPOINT {text}"));
        }
        if let Some(text) = &self.cmd {
            config.cmd = match list(text) {
                Some(list) => list,
                None => words("--cmd", text)?,
            };
            told.0.push(format!("CMD {text}"));
        }
        Ok(())
    }

    fn lists(&self, record: &mut Record, told: &mut Told) {
        let config = &mut record.config;
        change_keys(&mut config.exposed_ports, &self.port);
        change_keys(&mut config.volumes, &self.volume);
        change_pairs(&mut config.labels, &self.label);
        for key in &self.unsetlabel {
            config.labels.remove(key);
        }
        change_pairs(&mut record.annotations, &self.annotation);
        for key in &self.unsetannotation {
            record.annotations.remove(key);
        }
        if !self.port.is_empty() {
            told.0.push(format!("EXPOSE {}", self.port.join(" ")));
        }
        let volumes = self.volume.iter().map(|path| format!("VOLUME {path}"));
        told.0.extend(volumes);
        if !self.label.is_empty() {
            told.0.push(format!("LABEL {}", self.label.join(" ")));
        }
    }

    /// What an image of OCI's form has no place for.
    fn warn_of_docker(&self, warnings: &mut Vec<String>) {
        let mut ignored = |word: &str, what: &str| {
            warnings.push(format!(
                "{word} is not supported for OCI image format, {what} will be ignored. Must use `docker` format"
            ));
        };
        if let Some(shell) = self.shell.as_deref().filter(|shell| !shell.is_empty()) {
            ignored("SHELL", &format!("[{shell}]"));
        }
        for instruction in &self.onbuild {
            ignored("ONBUILD", instruction);
        }
        if let Some(check) = &self.health.healthcheck {
            ignored("HEALTHCHECK", check);
        }
    }
}

/// What a value asks to be taken away: empty is all.
fn removal(text: &str) -> Option<&str> {
    text.strip_suffix('-')
}

fn change_keys(all: &mut BTreeMap<String, Value>, texts: &[String]) {
    for text in texts.iter().filter(|text| !text.is_empty()) {
        match removal(text) {
            Some("") => all.clear(),
            Some(key) => drop(all.remove(key)),
            None => drop(all.insert(text.clone(), json!({}))),
        }
    }
}

fn change_pairs(all: &mut BTreeMap<String, String>, texts: &[String]) {
    for text in texts {
        match (text.split_once('='), removal(text)) {
            (Some((key, value)), _) => drop(all.insert(key.to_owned(), value.to_owned())),
            (None, Some("")) => all.clear(),
            (None, Some(key)) => drop(all.remove(key)),
            (None, None) => drop(all.insert(text.clone(), String::new())),
        }
    }
}

fn list(text: &str) -> Option<Vec<String>> {
    serde_json::from_str(text).ok()
}

fn words(option: &str, text: &str) -> Result<Vec<String>, Failure> {
    change::words(text).map_err(|why| Failure::new(format!("parsing {option} {text:?}: {why}")))
}

/// A value with `$NAME` and `${NAME}` replaced by what the container's environment says; of what it does not say, the
/// name stays.
fn expanded(value: &str, env: &[String], warnings: &mut Vec<String>) -> String {
    let mut text = String::new();
    let mut rest = value;
    while let Some((before, after)) = rest.split_once('$') {
        text.push_str(before);
        let (name, behind) = name(after);
        rest = behind;
        if name.is_empty() {
            text.push('$');
            continue;
        }
        let begin = format!("{name}=");
        match env.iter().find_map(|entry| entry.strip_prefix(&begin)) {
            Some(value) => text.push_str(value),
            None => {
                warnings.push(format!(
                    "error expanding variable {name:?}: no value set in configuration"
                ));
                text.push_str(name);
            }
        }
    }
    text + rest
}

/// The name that a text behind a `$` begins with, and what is behind it.
fn name(text: &str) -> (&str, &str) {
    if let Some(rest) = text.strip_prefix('{') {
        return rest.split_once('}').unwrap_or(("", text));
    }
    let end = text
        .find(|c: char| !c.is_ascii_alphanumeric() && c != '_')
        .unwrap_or(text.len());
    text.split_at(end)
}

impl Health {
    /// Changes the check, and says what the history is to say.
    fn apply(&self, check: &mut Option<Value>) -> Result<Option<String>, Failure> {
        let times = [
            ("interval", "Interval", self.healthcheck_interval),
            ("start-period", "StartPeriod", self.healthcheck_start_period),
            (
                "start-interval",
                "StartInterval",
                self.healthcheck_start_interval,
            ),
            ("timeout", "Timeout", self.healthcheck_timeout),
        ];
        let said = times.iter().any(|(_, _, time)| time.is_some());
        if self.healthcheck.is_none() && self.healthcheck_retries.is_none() && !said {
            return Ok(None);
        }
        const USUAL: u64 = 30_000_000_000;
        let usual =
            || json!({ "Test": ["NONE"], "Interval": USUAL, "Timeout": USUAL, "Retries": 3 });
        let mut new = check.clone().filter(Value::is_object).unwrap_or_else(usual);
        let mut options = String::new();
        for (option, key, time) in times {
            if let Some(time) = time {
                new[key] = json!(base::time::nanoseconds(time));
                options.push_str(&format!(
                    "--{option}={} ",
                    time.as_secs_f64().to_string() + "s"
                ));
            }
        }
        if let Some(retries) = self.healthcheck_retries {
            new["Retries"] = json!(retries);
            options.push_str(&format!("--retries={retries} "));
        }
        if let Some(text) = &self.healthcheck {
            let test = words("--healthcheck", text)?;
            if test.is_empty() {
                *check = None;
                return Ok(Some("HEALTHCHECK NONE".to_owned()));
            }
            new["Test"] = json!(test);
        }
        *check = Some(new);
        let text = self.healthcheck.as_deref().unwrap_or_default();
        Ok(Some(format!("HEALTHCHECK {options}{text}")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn variables_are_what_the_container_says() {
        let env = ["A=1".to_owned(), "PATH=/bin".to_owned()];
        let mut warnings = Vec::new();
        for (text, wanted) in [
            ("$A", "1"),
            ("${A}x$PATH:/y", "1x/bin:/y"),
            ("a$", "a$"),
            ("$NONE/x", "NONE/x"),
            ("${A", "${A"),
        ] {
            assert_eq!(expanded(text, &env, &mut warnings), wanted, "{text}");
        }
        assert_eq!(warnings.len(), 1);
    }

    #[test]
    fn a_trailing_dash_takes_away() {
        let mut labels = BTreeMap::from([("a".to_owned(), "1".to_owned())]);
        let texts = |texts: &[&str]| {
            texts
                .iter()
                .map(|text| (*text).to_owned())
                .collect::<Vec<_>>()
        };
        change_pairs(&mut labels, &texts(&["b=2-", "c", "a-"]));
        assert_eq!(labels.keys().collect::<Vec<_>>(), ["b", "c"]);
        assert_eq!(labels["b"], "2-");
        change_pairs(&mut labels, &texts(&["-"]));
        assert!(labels.is_empty());
    }
}
