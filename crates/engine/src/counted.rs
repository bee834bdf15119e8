//! What `scripts/counts.sh` counts the instructions of, for the example `counts`: the decisions of a container's
//! start and a list, of a sample that is the same on every machine. No part of the API.

use std::path::Path;

use image::config::ContainerConfig;

use crate::config::Runtime;
use crate::container::record::ContainerRecord;
use crate::container::{ContainerSpec, Profile, ResolvedUser, Resources, Security};
use crate::disk::Layout;
use crate::error::Result;
use crate::handler::supervisor::orphaned::Ended;
use crate::oci::{self, Inputs};
use crate::pod::record::{PodRecord, Stage};
use crate::pod::{NamespaceMode, PodSpec};
use crate::record::{UnknownFields, ended};

/// A pod with one container, as kubelet asks for it.
#[derive(Debug)]
pub struct Sample {
    pod: PodRecord,
    container: ContainerRecord,
}

impl Sample {
    /// The pod and container of that number.
    #[must_use]
    pub fn new(number: u32) -> Self {
        let (pod_id, id) = (
            format!("{number:064x}"),
            format!("{:064x}", number + 1_000_000),
        );
        let cgroup = format!("/kubepods/burstable/pod{number}");
        let created_at = 1_796_000_000_000_000_000 + i64::from(number);
        let container = ContainerRecord {
            cgroup: format!("{cgroup}/crio-{id}"),
            id,
            pod_id: pod_id.clone(),
            created_at,
            image_id: "1".repeat(64),
            image_ref: format!("registry.example/team/web@sha256:{}", "2".repeat(64)),
            log_path: Some("/var/log/pods/default_web_1/web/0.log".into()),
            user: ResolvedUser {
                uid: 1000,
                gid: 1000,
                groups: vec![1000, 2000],
            },
            stop_signal: 15,
            handler: "floe".into(),
            args: vec!["/bin/web".into(), "--listen=:8080".into()],
            spec: container(number),
            kept: UnknownFields::default(),
        };
        let pod = PodRecord {
            id: pod_id,
            created_at,
            stage: Stage::Made { ips: Vec::new() },
            handler: "floe".into(),
            cgroup,
            owns_cgroup: true,
            cgroup_prefix: "crio".into(),
            maker: None,
            spec: PodSpec {
                name: format!("web-{number}"),
                uid: format!("0c0ffee0-0000-0000-0000-{number:012}"),
                namespace: "default".into(),
                log_directory: Some("/var/log/pods/default_web_1".into()),
                labels: labels(number),
                ..PodSpec::default()
            },
            steps: Vec::new(),
            kept: UnknownFields::default(),
        };
        Self { pod, container }
    }

    /// Builds config.json of a plain node and writes it out.
    ///
    /// # Errors
    /// What would be wrong with the sample.
    pub fn config_json(&self, runtime: &Runtime) -> Result<Vec<u8>> {
        let image = ContainerConfig::default();
        let inputs = Inputs {
            runtime,
            entry: None,
            pod: &self.pod,
            container: &self.container,
            image: &image,
            cdi_devices: &[],
        };
        oci::on_plain_node(&inputs)
    }

    /// Writes both records below a runroot.
    ///
    /// # Errors
    /// A file or directory that cannot be made.
    pub fn write(&self, runroot: &Path) -> Result<()> {
        let layout = Layout::create(runroot)?;
        let pod = layout.pod(&self.pod.id);
        let bundle = layout.container(&self.pod.id, &self.container.id);
        std::fs::create_dir_all(&bundle).map_err(crate::Error::io("make", &bundle))?;
        self.pod.write(&pod)?;
        self.container.write(&bundle)
    }

    /// Writes down that the container has ended: nobody looks at this machine's cgroups then.
    ///
    /// # Errors
    /// A file that cannot be made.
    pub fn end(&self, runroot: &Path) -> Result<()> {
        let bundle = Layout::create(runroot)?.container(&self.pod.id, &self.container.id);
        let ended = Ended {
            finished_at: self.container.created_at + 1,
            oom_killed: false,
        };
        ended::write(&bundle.join("ended.json"), &ended)
    }
}

fn labels(number: u32) -> std::collections::BTreeMap<String, String> {
    let label = |key: &str, value: String| (key.to_owned(), value);
    [
        label("app", "web".into()),
        label("io.kubernetes.pod.name", format!("web-{number}")),
        label("io.kubernetes.pod.namespace", "default".into()),
        label("io.kubernetes.container.name", "web".into()),
    ]
    .into()
}

fn container(number: u32) -> ContainerSpec {
    let mut security = Security {
        add_capabilities: vec!["NET_ADMIN".into()],
        drop_capabilities: vec!["MKNOD".into()],
        masked_paths: ["/proc/kcore", "/proc/keys", "/sys/firmware"]
            .map(String::from)
            .to_vec(),
        readonly_paths: ["/proc/sys", "/proc/bus"].map(String::from).to_vec(),
        no_new_privs: true,
        seccomp: Profile::RuntimeDefault,
        ..Security::default()
    };
    security.namespaces.pid = NamespaceMode::Container;
    ContainerSpec {
        name: "web".into(),
        image: "1".repeat(64),
        user_specified_image: "registry.example/team/web:1".into(),
        command: vec!["/bin/web".into()],
        args: vec!["--listen=:8080".into()],
        env: (0..20)
            .map(|at| (format!("WEB_SERVICE_PORT_{at}"), format!("10.96.0.{at}")))
            .collect(),
        labels: labels(number),
        log_path: Some("web/0.log".into()),
        resources: Resources {
            cpu_period: 100_000,
            cpu_quota: 50_000,
            cpu_shares: 512,
            memory_limit: 64 << 20,
            ..Resources::default()
        },
        security,
        ..ContainerSpec::default()
    }
}
