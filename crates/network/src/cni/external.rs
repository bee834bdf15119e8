//! Plugins that are programs: environment, input and output as the CNI specification has them
//! (section 2, execution protocol), for chains and for address management (section 4).

use std::collections::BTreeMap;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use base::size::quantity;
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::chain::GC_SINCE;
use super::exec::{self, Failure};
use super::list::{List, is_true};
use super::plugin::{Call, Plugin, Valid};
use super::result::CniResult;
use crate::pod::Pod;
use crate::{Attachment, Dns, Error, PortMapping, Result};

/// How long a plugin may think about whether it is ready: whoever asks for a node's status waits for it.
const STATUS_LIMIT: Duration = Duration::from_secs(10);
/// How long a plugin may collect garbage: no pod comes or goes meanwhile.
const GC_LIMIT: Duration = Duration::from_secs(20);

/// An installed plugin program with its configuration.
#[derive(Debug)]
pub(crate) struct External {
    kind: String,
    program: PathBuf,
    path: String,
    config: Map<String, Value>,
    network: String,
    version: String,
    limit: Duration,
}

/// What a plugin prints when it fails.
#[derive(Debug, Deserialize)]
struct Refusal {
    code: u32,
    #[serde(default)]
    msg: String,
    #[serde(default)]
    details: Option<String>,
}

impl External {
    /// Finds the program of this type. `lacks` says, for a plugin that is built in, why the program
    /// is needed.
    pub(crate) fn find(
        kind: &str,
        config: Map<String, Value>,
        list: &List,
        lacks: Option<String>,
    ) -> Result<External> {
        if kind.is_empty() || kind.contains('/') || kind.starts_with('.') {
            return Err(Error::config(
                &list.name,
                "type",
                format!("{kind:?} is not a plugin's name"),
            ));
        }
        let dirs = &list.places.plugin_dirs;
        let path = dirs
            .iter()
            .map(|dir| dir.to_string_lossy())
            .collect::<Vec<_>>()
            .join(":");
        let program = dirs
            .iter()
            .map(|dir| dir.join(kind))
            .find(|program| program.is_file());
        let program = program.ok_or_else(|| Error::PluginMissing {
            network: list.name.clone(),
            plugin: kind.to_owned(),
            dirs: path.clone(),
            reason: lacks,
        })?;
        Ok(External {
            kind: kind.to_owned(),
            program,
            path,
            config,
            network: list.name.clone(),
            version: list.version.clone(),
            limit: list.places.plugin_timeout,
        })
    }

    /// Runs it for another plugin, to get addresses.
    pub(crate) fn delegate_add(&self, call: &Call<'_>) -> Result<CniResult> {
        self.add(call, None)
    }

    /// Runs it for another plugin, to give the addresses back.
    pub(crate) fn delegate_del(&self, call: &Call<'_>) -> Result<()> {
        self.run("DEL", call, None).map(drop)
    }

    /// The configuration as the program reads it, without what is one attachment's.
    fn base_input(&self) -> Map<String, Value> {
        let mut config = self.config.clone();
        config.insert("cniVersion".to_owned(), Value::from(self.version.as_str()));
        config.insert("name".to_owned(), Value::from(self.network.as_str()));
        config
    }

    fn input(&self, call: &Call<'_>, previous: Option<&CniResult>) -> serde_json::Result<Vec<u8>> {
        let mut config = self.base_input();
        if let Some(previous) = previous {
            config.insert("prevResult".to_owned(), previous.write(&self.version)?);
        }
        let runtime = runtime_config(&config, call.attachment);
        if !runtime.is_empty() {
            config.insert("runtimeConfig".to_owned(), Value::Object(runtime));
        }
        serde_json::to_vec(&config)
    }

    fn run(
        &self,
        command: &'static str,
        call: &Call<'_>,
        previous: Option<&CniResult>,
    ) -> Result<Vec<u8>> {
        let input = self.input(call, previous);
        let input = input.map_err(|source| self.unreadable(command, source))?;
        let attachment = call.attachment;
        check_arguments(attachment)?;
        let netns = call.pod.map(Pod::path).unwrap_or(Path::new(""));
        let environment = [
            ("CNI_COMMAND", command.to_owned()),
            ("CNI_CONTAINERID", attachment.id.to_owned()),
            ("CNI_NETNS", netns.to_string_lossy().into_owned()),
            ("CNI_IFNAME", attachment.ifname.to_owned()),
            ("CNI_ARGS", arguments(attachment)),
            ("CNI_PATH", self.path.clone()),
        ];
        self.execute(command, &environment, &input, self.limit)
    }

    /// Asks it something that is about no attachment.
    fn ask(
        &self,
        command: &'static str,
        config: &Map<String, Value>,
        limit: Duration,
    ) -> Result<()> {
        let input = serde_json::to_vec(config);
        let input = input.map_err(|source| self.unreadable(command, source))?;
        let environment = [
            ("CNI_COMMAND", command.to_owned()),
            ("CNI_PATH", self.path.clone()),
        ];
        self.execute(command, &environment, &input, limit).map(drop)
    }

    fn execute(
        &self,
        command: &'static str,
        environment: &[(&str, String)],
        input: &[u8],
        limit: Duration,
    ) -> Result<Vec<u8>> {
        let (network, plugin) = (|| self.network.clone(), || self.kind.clone());
        let output = exec::run(&self.program, environment, input, limit);
        let output = output.map_err(|failure| match failure {
            Failure::Run(operation, source) => Error::PluginRun {
                network: network(),
                plugin: plugin(),
                command,
                operation,
                source,
            },
            Failure::Timeout => Error::PluginTimeout {
                network: network(),
                plugin: plugin(),
                command,
                limit,
            },
        })?;
        if output.status.success() {
            Ok(output.stdout)
        } else {
            Err(self.refusal(command, &output))
        }
    }

    /// The error a plugin printed, or else what it said on standard error.
    fn refusal(&self, command: &'static str, output: &exec::Output) -> Error {
        let refusal: Option<Refusal> = serde_json::from_slice(&output.stdout).ok();
        let (code, message, details) = match refusal {
            Some(refusal) => (Some(refusal.code), plain(&refusal.msg), refusal.details),
            None => {
                let words = plain(String::from_utf8_lossy(&output.stderr).trim());
                let message = match output.status.signal() {
                    _ if words.is_empty() => output.status.to_string(),
                    Some(_) => format!("{}: {words}", output.status),
                    None => words,
                };
                let code = output.status.code().map(i32::unsigned_abs);
                (code, message, None)
            }
        };
        Error::PluginFailed {
            network: self.network.clone(),
            plugin: self.kind.clone(),
            command,
            code,
            message,
            details: details.as_deref().map(plain),
        }
    }

    fn unreadable(&self, command: &'static str, source: serde_json::Error) -> Error {
        Error::PluginResult {
            network: self.network.clone(),
            plugin: self.kind.clone(),
            command,
            source,
        }
    }

    /// Whether its version of the specification has STATUS and GC.
    fn is_since_1_1(&self) -> bool {
        self.version == GC_SINCE
    }

    /// Whether its version of the specification has a CHECK, and a result for DEL.
    fn is_since_0_4(&self) -> bool {
        !["0.1.", "0.2.", "0.3."]
            .iter()
            .any(|old| self.version.starts_with(old))
    }
}

impl Plugin for External {
    fn kind(&self) -> &str {
        &self.kind
    }

    fn runs_programs(&self) -> bool {
        true
    }

    fn add(&self, call: &Call<'_>, previous: Option<CniResult>) -> Result<CniResult> {
        call.pod()?;
        let output = self.run("ADD", call, previous.as_ref())?;
        CniResult::parse(&output, &self.version).map_err(|source| self.unreadable("ADD", source))
    }

    fn del(&self, call: &Call<'_>, result: Option<&CniResult>) -> Result<()> {
        let result = result.filter(|_| self.is_since_0_4());
        self.run("DEL", call, result).map(drop)
    }

    fn status(&self) -> Result<()> {
        match self.is_since_1_1() {
            true => self.ask("STATUS", &self.base_input(), self.limit.min(STATUS_LIMIT)),
            false => Ok(()),
        }
    }

    fn gc(&self, valid: &[Valid]) -> Result<()> {
        if !self.is_since_1_1() {
            return Ok(());
        }
        let mut config = self.base_input();
        config.insert("cni.dev/valid-attachments".to_owned(), json!(valid));
        // The name that drafts of the specification had, which plugins of today read.
        config.insert("cni.dev/attachments".to_owned(), json!(valid));
        self.ask("GC", &config, self.limit.min(GC_LIMIT))
    }

    fn check(&self, call: &Call<'_>, result: &CniResult) -> Result<()> {
        if !self.is_since_0_4() {
            return Ok(());
        }
        self.run("CHECK", call, Some(result)).map(drop)
    }
}

/// Longest part of a plugin's words that an error repeats.
const WORDS_MAX: usize = 2048;

/// A plugin's words as they may stand in a log, an event or on a terminal.
fn plain(words: &str) -> String {
    let mut plain = String::new();
    for c in words.chars() {
        if plain.len() >= WORDS_MAX {
            plain.push_str(" ...");
            break;
        }
        match c {
            '\n' | '\t' => plain.push(' '),
            c if c.is_control() => plain.extend(c.escape_default()),
            c => plain.push(c),
        }
    }
    plain
}

/// A name with a semicolon would be more than one argument.
fn check_arguments(attachment: &Attachment<'_>) -> Result<()> {
    let values = [attachment.namespace, attachment.name, attachment.uid];
    let is_bad = |c: char| c == ';' || c.is_control();
    match values.iter().any(|value| value.contains(is_bad)) {
        false => Ok(()),
        true => Err(Error::Request {
            id: attachment.id.to_owned(),
            reason: "its name, namespace and uid cannot be told to a CNI plugin: one has a ';' or a control character",
        }),
    }
}

/// `CNI_ARGS`, with the keys that every Kubernetes runtime sets.
fn arguments(attachment: &Attachment<'_>) -> String {
    format!(
        "IgnoreUnknown=1;K8S_POD_NAMESPACE={};K8S_POD_NAME={};K8S_POD_INFRA_CONTAINER_ID={};K8S_POD_UID={}",
        attachment.namespace, attachment.name, attachment.id, attachment.uid
    )
}

/// `runtimeConfig`: what the pod wants, of the things the plugin says it can do.
fn runtime_config(config: &Map<String, Value>, attachment: &Attachment<'_>) -> Map<String, Value> {
    let mut runtime = Map::new();
    let capabilities = config.get("capabilities").and_then(Value::as_object);
    let can = |name: &str| {
        capabilities
            .and_then(|all| all.get(name))
            .is_some_and(is_true)
    };
    let ports: Vec<Value> = attachment
        .port_mappings
        .iter()
        .filter(|one| one.host_port != 0)
        .map(port)
        .collect();
    if can("portMappings") && !ports.is_empty() {
        runtime.insert("portMappings".to_owned(), Value::Array(ports));
    }
    let annotations = attachment.annotations;
    if can("bandwidth")
        && let Some(bandwidth) = bandwidth(annotations)
    {
        runtime.insert("bandwidth".to_owned(), bandwidth);
    }
    if can("dns")
        && let Some(dns) = attachment.dns.filter(|dns| **dns != Dns::default())
    {
        let wish = json!({
            "servers": dns.nameservers, "searches": dns.search, "options": dns.options,
        });
        runtime.insert("dns".to_owned(), wish);
    }
    if can("cgroupPath") && !attachment.cgroup.is_empty() {
        runtime.insert("cgroupPath".to_owned(), Value::from(attachment.cgroup));
    }
    const ANNOTATIONS: &str = "io.kubernetes.cri.pod-annotations";
    if can(ANNOTATIONS) && !annotations.is_empty() {
        runtime.insert(ANNOTATIONS.to_owned(), json!(annotations));
    }
    runtime
}

fn port(mapping: &PortMapping) -> Value {
    json!({
        "hostPort": mapping.host_port,
        "containerPort": mapping.container_port,
        "protocol": mapping.protocol,
        "hostIP": mapping.host_ip.map(|ip| ip.to_string()).unwrap_or_default(),
    })
}

/// Kubernetes' annotations in bits per second. The burst is the largest there is: none is asked for.
fn bandwidth(annotations: &BTreeMap<String, String>) -> Option<Value> {
    let mut object = Map::new();
    for direction in ["ingress", "egress"] {
        let text = annotations.get(&format!("kubernetes.io/{direction}-bandwidth"));
        if let Some(rate) = text.and_then(|text| quantity(text)) {
            object.insert(format!("{direction}Rate"), Value::from(rate));
            object.insert(format!("{direction}Burst"), Value::from(i32::MAX));
        }
    }
    (!object.is_empty()).then_some(Value::Object(object))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runtime_config_holds_only_what_the_plugin_can_do() {
        let mapping = PortMapping {
            host_port: 8080,
            container_port: 80,
            protocol: crate::Protocol::Tcp,
            host_ip: None,
        };
        let declared = PortMapping {
            host_port: 0,
            ..mapping
        };
        let annotations = BTreeMap::from([
            (
                "kubernetes.io/ingress-bandwidth".to_owned(),
                "10M".to_owned(),
            ),
            (
                "kubernetes.io/egress-bandwidth".to_owned(),
                "much".to_owned(),
            ),
        ]);
        let dns = Dns {
            nameservers: vec!["192.0.2.53".to_owned()],
            search: vec!["example".to_owned()],
            options: vec!["ndots:5".to_owned()],
            ..Dns::default()
        };
        let attachment = Attachment {
            port_mappings: &[mapping, declared],
            annotations: &annotations,
            dns: Some(&dns),
            cgroup: "/kubepods/pod1",
            ..Attachment::of("pod")
        };
        let of = |json: Value| {
            runtime_config(
                &Map::from_iter([("capabilities".to_owned(), json)]),
                &attachment,
            )
        };
        assert!(of(json!({})).is_empty());
        let dns = of(json!({"dns": true, "cgroupPath": true}));
        assert_eq!(
            Value::Object(dns),
            json!({
                "dns": { "servers": ["192.0.2.53"], "searches": ["example"], "options": ["ndots:5"] },
                "cgroupPath": "/kubepods/pod1",
            })
        );
        let all = of(json!({"portMappings": true, "bandwidth": true}));
        assert_eq!(
            Value::Object(all),
            json!({
                "portMappings": [{"hostPort":8080,"containerPort":80,"protocol":"tcp","hostIP":""}],
                "bandwidth": {"ingressRate": 10_000_000, "ingressBurst": i32::MAX},
            })
        );
    }
}
