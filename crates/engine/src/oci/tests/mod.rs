//! Tables: a small change of a plain pod, and what becomes of config.json. Nothing here looks at the
//! machine that the tests run on.

mod configured;
mod confinement;
mod place;
mod process;

use serde_json::{Value, json};

use super::devices::{Asked, Found};
use super::mounts::Source;
use super::*;
use crate::config::Runtime;
use crate::container::{Device, Mount, Profile, Propagation, ResolvedUser};
use crate::handler::Namespaces;
use crate::pod::record::Stage;
use crate::pod::{IdMapping, UserMode};
use crate::record::UnknownFields;

/// A plain container of a plain pod on a plain node.
struct World {
    runtime: Runtime,
    entry: Option<RuntimeEntry>,
    pod: PodRecord,
    container: ContainerRecord,
    image: ContainerConfig,
    host: Host,
}

fn world() -> World {
    let ns = |name: &str| Some(format!("/proc/7/ns/{name}").into());
    World {
        runtime: Runtime::default(),
        entry: None,
        pod: PodRecord {
            id: "pod1".into(),
            created_at: 0,
            stage: Stage::Made { ips: Vec::new() },
            handler: String::new(),
            cgroup: "/floe/pod1".into(),
            owns_cgroup: true,
            cgroup_prefix: "crio".into(),
            maker: None,
            spec: crate::pod::PodSpec::default(),
            steps: Vec::new(),
            kept: UnknownFields::default(),
        },
        container: ContainerRecord {
            id: "c1".into(),
            pod_id: "pod1".into(),
            created_at: 0,
            image_id: "sha256:1".into(),
            image_ref: "x".into(),
            log_path: None,
            user: ResolvedUser::default(),
            stop_signal: 15,
            cgroup: "/floe/pod1/crio-c1".into(),
            handler: String::new(),
            args: vec!["sh".into()],
            spec: crate::container::ContainerSpec::default(),
            kept: UnknownFields::default(),
        },
        image: ContainerConfig::default(),
        host: Host {
            hostname: "host1".into(),
            namespaces: Namespaces {
                network: ns("net"),
                uts: ns("uts"),
                ipc: ns("ipc"),
                pid: None,
                users: None,
            },
            pod_dir: "/run/floe/pods/pod1".into(),
            pod_files: vec!["resolv.conf", "hostname"],
            last_capability: 40,
            ..Host::default()
        },
    }
}

impl World {
    fn config(&self) -> Result<Value> {
        let inputs = Inputs {
            cdi_devices: &[],
            runtime: &self.runtime,
            entry: self.entry.as_ref(),
            pod: &self.pod,
            container: &self.container,
            image: &self.image,
        };
        check(&inputs)?;
        Ok(serde_json::to_value(config(&inputs, &self.host)?).unwrap())
    }

    fn privileged(&mut self) {
        self.pod.spec.privileged = true;
        self.container.spec.security.privileged = true;
    }

    fn mounts(&mut self, path: &str, change: impl Fn(&mut Mount, &mut Source)) {
        let mut mount = Mount {
            container_path: path.into(),
            host_path: "/src".into(),
            ..Mount::default()
        };
        let mut source = Source {
            path: "/src".into(),
            missing: false,
            shared: false,
            read_only: false,
            unmapped: None,
        };
        change(&mut mount, &mut source);
        self.container.spec.mounts.push(mount);
        self.host.sources.push(source);
    }
}

type Row = (&'static str, fn(&mut World), Value);

/// What each row's config.json has at `pointer`; null is nothing.
#[track_caller]
fn table(pointer: &str, rows: &[Row]) {
    for (name, change, wanted) in rows {
        let mut world = world();
        change(&mut world);
        let config = world.config().unwrap();
        let found = config.pointer(pointer).cloned().unwrap_or(Value::Null);
        assert_eq!(found, *wanted, "{name}: {pointer}");
    }
}

type Refusal = (&'static str, fn(&mut World), &'static str);

/// Requests that are refused, and a word of the reason.
#[track_caller]
fn refused(rows: &[Refusal]) {
    for (name, change, word) in rows {
        let mut world = world();
        change(&mut world);
        let error = world.config().unwrap_err();
        assert_eq!(error.kind(), crate::error::Kind::InvalidArgument, "{name}");
        assert!(error.to_string().contains(word), "{name}: {error}");
    }
}

fn strings(words: &[&str]) -> Vec<String> {
    words.iter().map(|word| (*word).to_owned()).collect()
}

fn kinds(config: &Value) -> Vec<Value> {
    let all = config["linux"]["namespaces"].as_array().unwrap();
    all.iter().map(|one| one["type"].clone()).collect()
}

fn device(path: &str, major: i64, minor: i64) -> spec::Device {
    spec::Device {
        path: path.into(),
        kind: "c".into(),
        major: Some(major),
        minor: Some(minor),
        file_mode: Some(0o660),
        uid: Some(0),
        gid: Some(5),
    }
}

/// A device that is asked for and is at `source` on the node.
fn asked(source: &str, node: spec::Device) -> Asked {
    Asked {
        source: source.into(),
        node,
    }
}

fn options(config: &Value, path: &str) -> Vec<Value> {
    let all = config["mounts"].as_array().unwrap();
    let found: Vec<_> = all.iter().filter(|m| m["destination"] == path).collect();
    assert_eq!(found.len(), 1, "{path} in {all:?}");
    found[0]["options"].as_array().unwrap().clone()
}
