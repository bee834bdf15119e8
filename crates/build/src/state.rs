//! What a stage has come to: the configuration of its image, its layers and their history; and the instructions that
//! change the configuration alone.

use containerfile::{CommandLine, Expander, HealthCheck, Kind, Text};
use image::config::{ContainerConfig, History};
use image::{Descriptor, Digest, Platform};
use serde_json::json;

use crate::error::Failed;
use crate::variables::{Given, Scope, set_in, value_in};

/// What programs find where an image says nothing.
const PATH: &str = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// A layer of an image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Layer {
    pub(crate) blob: Descriptor,
    pub(crate) diff_id: Digest,
}

/// A stage as far as it is built.
#[derive(Debug, Clone)]
pub(crate) struct State {
    pub(crate) config: ContainerConfig,
    pub(crate) author: Option<String>,
    pub(crate) platform: Platform,
    pub(crate) layers: Vec<Layer>,
    pub(crate) history: Vec<History>,
    /// Of those, how many came with the base.
    pub(crate) inherited: usize,
    /// The image that it stands on: its name and its manifest's digest.
    pub(crate) base: Option<(String, String)>,
    pub(crate) scope: Scope,
    /// `CMD` was said in this stage: an `ENTRYPOINT` leaves it.
    command_is_own: bool,
}

impl State {
    /// A stage on nothing.
    pub(crate) fn scratch(platform: Platform, scope: Scope) -> State {
        let config = ContainerConfig {
            env: vec![PATH.to_owned()],
            ..ContainerConfig::default()
        };
        State {
            config,
            author: None,
            platform,
            layers: Vec::new(),
            history: Vec::new(),
            inherited: 0,
            base: None,
            scope,
            command_is_own: false,
        }
    }

    /// A stage on another one.
    pub(crate) fn on(other: &State, scope: Scope) -> State {
        State {
            scope,
            command_is_own: false,
            inherited: other.history.len(),
            ..other.clone()
        }
    }

    pub(crate) fn diff_ids(&self) -> Vec<Digest> {
        self.layers
            .iter()
            .map(|layer| layer.diff_id.clone())
            .collect()
    }

    /// A variable as instructions see it: the environment hides arguments.
    pub(crate) fn variable(&self, name: &str) -> Option<String> {
        value_in(&self.config.env, name).or_else(|| self.scope.argument(name))
    }

    pub(crate) fn word(&self, escape: char, text: &Text) -> Result<String, Failed> {
        let lookup = |name: &str| self.variable(name);
        Ok(Expander::new(escape, &lookup).word(text)?)
    }

    fn words(&self, escape: char, text: &Text) -> Result<Vec<String>, Failed> {
        let lookup = |name: &str| self.variable(name);
        Ok(Expander::new(escape, &lookup).words(text)?)
    }

    fn pairs(&self, escape: char, pairs: &[(Text, Text)]) -> Result<Vec<(String, String)>, Failed> {
        let pairs = pairs.iter().map(|(key, value)| {
            let key = self.word(escape, key)?;
            match key.is_empty() || key.contains('\0') {
                true => Err("a name is empty".into()),
                false => Ok((key, self.word(escape, value)?)),
            }
        });
        pairs.collect()
    }

    /// The words that a command line is executed as.
    pub(crate) fn command(&self, command: &CommandLine) -> Vec<String> {
        match command {
            CommandLine::Exec(words) => words.clone(),
            CommandLine::Shell(line) => self.shell().into_iter().chain([line.clone()]).collect(),
        }
    }

    /// The shell of lines.
    pub(crate) fn shell(&self) -> Vec<String> {
        match self.config.shell.is_empty() {
            true => vec!["/bin/sh".to_owned(), "-c".to_owned()],
            false => self.config.shell.clone(),
        }
    }

    /// A path in the image, by its working directory.
    pub(crate) fn absolute(&self, path: &str) -> String {
        match path.starts_with('/') {
            true => path.to_owned(),
            false => format!("{}/{path}", self.config.working_dir.trim_end_matches('/')),
        }
    }

    /// Does what an instruction says of the configuration.
    pub(crate) fn configure(
        &mut self,
        given: &Given,
        escape: char,
        kind: &Kind,
    ) -> Result<(), Failed> {
        match kind {
            Kind::Arg(arguments) => {
                for (name, default) in arguments {
                    let default = default
                        .as_ref()
                        .map(|text| self.word(escape, text))
                        .transpose()?;
                    self.scope.declare(given, name, default)?;
                }
            }
            Kind::Cmd(command) => {
                self.config.cmd = self.command(command);
                self.command_is_own = true;
            }
            Kind::Entrypoint(command) => {
                self.config.entrypoint = self.command(command);
                if !self.command_is_own {
                    self.config.cmd.clear();
                }
            }
            Kind::Env(pairs) => {
                for (name, value) in self.pairs(escape, pairs)? {
                    set_in(&mut self.config.env, &name, &value)?;
                }
            }
            Kind::Label(pairs) => {
                let pairs = self.pairs(escape, pairs)?;
                self.config.labels.extend(pairs);
            }
            Kind::Expose(ports) => {
                for text in ports {
                    for port in self.words(escape, text)? {
                        self.config.exposed_ports.insert(exposed(&port)?, json!({}));
                    }
                }
            }
            Kind::Volume(paths) => {
                for path in paths {
                    let path = self.word(escape, path)?;
                    if path.is_empty() {
                        return Err("the path of a volume is empty".into());
                    }
                    self.config.volumes.insert(self.absolute(&path), json!({}));
                }
            }
            Kind::User(user) => self.config.user = self.word(escape, user)?,
            Kind::StopSignal(signal) => self.config.stop_signal = Some(self.word(escape, signal)?),
            Kind::Maintainer(author) => self.author = Some(author.clone()),
            Kind::OnBuild(trigger) => self.config.on_build.push(trigger.clone()),
            Kind::Shell(words) => self.config.shell = words.clone(),
            Kind::HealthCheck(check) => self.config.healthcheck = Some(health_check(check)),
            Kind::Workdir(path) => {
                let path = self.word(escape, path)?;
                if path.is_empty() {
                    return Err("the path is empty".into());
                }
                self.config.working_dir = clean(&self.absolute(&path));
            }
            Kind::Add(_) | Kind::Copy(_) | Kind::Run(_) | Kind::From(_) => {
                return Err("it changes more than the configuration".into());
            }
        }
        Ok(())
    }
}

/// An absolute path without empty parts, `.` and `..`.
pub(crate) fn clean(path: &str) -> String {
    let mut parts: Vec<&str> = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop()),
            part => parts.push(part),
        }
    }
    format!("/{}", parts.join("/"))
}

/// `80`, `80/udp`, `80-82/tcp`.
fn exposed(text: &str) -> Result<String, Failed> {
    let (ports, protocol) = text.split_once('/').unwrap_or((text, "tcp"));
    let protocol = protocol.to_ascii_lowercase();
    let numbers: Vec<Option<u16>> = ports.splitn(2, '-').map(|port| port.parse().ok()).collect();
    let valid = match numbers[..] {
        [Some(port)] => port > 0,
        [Some(first), Some(last)] => first > 0 && first <= last,
        _ => false,
    };
    match valid && matches!(protocol.as_str(), "tcp" | "udp" | "sctp") {
        true => Ok(format!("{ports}/{protocol}")),
        false => Err(format!("{text:?} is no port").into()),
    }
}

fn health_check(check: &HealthCheck) -> serde_json::Value {
    let HealthCheck::Command {
        command,
        interval,
        timeout,
        start_period,
        start_interval,
        retries,
    } = check
    else {
        return json!({ "Test": ["NONE"] });
    };
    let test: Vec<&str> = match command {
        CommandLine::Shell(line) => vec!["CMD-SHELL", line],
        CommandLine::Exec(words) => ["CMD"]
            .into_iter()
            .chain(words.iter().map(String::as_str))
            .collect(),
    };
    let mut value = json!({ "Test": test });
    let times = [
        ("Interval", interval),
        ("Timeout", timeout),
        ("StartPeriod", start_period),
        ("StartInterval", start_interval),
    ];
    for (name, time) in times {
        if let Some(time) = time.filter(|time| !time.is_zero()) {
            value[name] = json!(base::time::nanoseconds(time));
        }
    }
    if let Some(retries) = retries.filter(|retries| *retries > 0) {
        value["Retries"] = json!(retries);
    }
    value
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    fn configured(lines: &[&str]) -> Result<State, String> {
        let platform = Platform::new("linux", "amd64");
        let arguments = BTreeMap::from([("GIVEN".to_owned(), "by the build".to_owned())]);
        let given = Given::new(arguments, &platform);
        let mut state = State::scratch(platform, Scope::default());
        for line in lines {
            let instruction =
                containerfile::parse_instruction("F", line).map_err(|e| e.to_string())?;
            let done = state.configure(&given, '\\', &instruction.kind);
            done.map_err(|failed| format!("{failed:?}"))?;
        }
        Ok(state)
    }

    #[test]
    fn the_configuration_is_what_instructions_say() {
        let state = configured(&[
            "ARG GIVEN",
            "ARG A=x B",
            "ENV A=1 B=\"$A $GIVEN\" PATH=/bin:$PATH",
            "ENV A=2 C=$A",
            "WORKDIR /w//x/../y",
            "WORKDIR z",
            "EXPOSE 80 53/UDP 90-91",
            "VOLUME [\"/data\", \"rel\"]",
            "USER ${NOBODY:-nobody}",
            "LABEL a.b=\"c d\" e=$C",
            "CMD echo $A",
            "ENTRYPOINT [\"x\"]",
            "SHELL [\"/bin/ash\", \"-ec\"]",
            "HEALTHCHECK --interval=5s --retries=2 CMD true",
            "STOPSIGNAL SIGINT",
            "MAINTAINER me",
            "ONBUILD RUN x",
        ])
        .unwrap();
        let config = &state.config;
        assert_eq!(
            config.env[0],
            "PATH=/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
        );
        assert_eq!(config.env[1..], ["A=2", "B=x by the build", "C=1"]);
        assert_eq!(config.working_dir, "/w/y/z");
        let ports: Vec<_> = config.exposed_ports.keys().collect();
        assert_eq!(ports, ["53/udp", "80/tcp", "90-91/tcp"]);
        let volumes: Vec<_> = config.volumes.keys().collect();
        assert_eq!(volumes, ["/data", "/w/y/z/rel"]);
        assert_eq!(
            (config.user.as_str(), config.labels["e"].as_str()),
            ("nobody", "1")
        );
        assert_eq!(
            (config.cmd.join("|"), config.entrypoint.join("|")),
            ("/bin/sh|-c|echo $A".into(), "x".into())
        );
        let check = config.healthcheck.as_ref().unwrap();
        assert_eq!(
            check.to_string(),
            "{\"Interval\":5000000000,\"Retries\":2,\"Test\":[\"CMD-SHELL\",\"true\"]}"
        );
        assert_eq!(
            (state.author.as_deref(), config.on_build[0].as_str()),
            (Some("me"), "RUN x")
        );
    }

    #[test]
    fn an_entrypoint_takes_the_command_of_the_base_away() {
        let platform = Platform::new("linux", "amd64");
        let mut base = State::scratch(platform.clone(), Scope::default());
        base.config.cmd = vec!["base".into()];
        let mut state = State::on(&base, Scope::default());
        let given = Given::new(BTreeMap::new(), &platform);
        let entrypoint = Kind::Entrypoint(CommandLine::Exec(vec!["e".into()]));
        state.configure(&given, '\\', &entrypoint).unwrap();
        assert!(state.config.cmd.is_empty());
    }

    #[test]
    fn what_means_nothing_is_refused() {
        for (line, why) in [
            ("EXPOSE web", "no port"),
            ("EXPOSE 80/icmp", "no port"),
            ("EXPOSE 9-8", "no port"),
            ("WORKDIR $none", "empty"),
            ("VOLUME $none", "empty"),
            ("ENV $none=x", "empty"),
            ("ENV A=${none:?must be}", "must be"),
        ] {
            let error = configured(&[line]).unwrap_err();
            assert!(error.contains(why), "{line}: {error}");
        }
        let bomb: Vec<String> = (0..40)
            .map(|_| "ENV A=${A:-xxxxxxxx}${A:-xxxxxxxx}".to_owned())
            .collect();
        let bomb: Vec<&str> = bomb.iter().map(String::as_str).collect();
        assert!(configured(&bomb).unwrap_err().contains("too long"));
    }
}
