//! What the types of `[crio.runtime]` cannot say.

use std::path::Path;

use super::device::parse_device;
use super::tables::{Runtime, absolute};
use super::workload::is_cpu_list;

impl Runtime {
    /// What containers get of devices, mounts and processors.
    pub(super) fn check_containers(&self) -> Result<(), String> {
        for device in &self.additional_devices {
            parse_device(device)
                .map_err(|why| format!("crio.runtime.additional_devices: {why}"))?;
        }
        for (key, path) in [
            ("default_mounts_file", &self.default_mounts_file),
            ("bind_mount_prefix", &self.bind_mount_prefix),
            ("blockio_config_file", &self.blockio_config_file),
        ] {
            if !path.as_os_str().is_empty() {
                absolute(&format!("crio.runtime.{key}"), path)?;
            }
        }
        if let Err(error) = regex::bytes::Regex::new(&self.log_filter) {
            return Err(format!("crio.runtime.log_filter: {error}"));
        }
        if self.min_injected_gomaxprocs < 0 {
            return Err("crio.runtime.min_injected_gomaxprocs: is negative".to_owned());
        }
        let (cpus, key) = (&self.infra_ctr_cpuset, "crio.runtime.infra_ctr_cpuset");
        match cpus.is_empty() || is_cpu_list(cpus) {
            true => Ok(()),
            false => Err(format!("{key}: {cpus:?} is no list of processors")),
        }
    }

    /// Whose seccomp profile privileged containers have, if they have one.
    #[must_use]
    pub fn privileged_profile(&self) -> Option<&str> {
        let path = self.privileged_seccomp_profile.as_str();
        Some(path).filter(|path| !matches!(*path, "" | "unconfined"))
    }

    /// It becomes a path below the directory of all zones.
    pub(super) fn check_timezone(&self) -> Result<(), String> {
        let normal = |part| matches!(part, std::path::Component::Normal(_));
        match Path::new(&self.timezone).components().all(normal) {
            true => Ok(()),
            false => Err(format!(
                "crio.runtime.timezone: {:?} is no name of a zone",
                self.timezone
            )),
        }
    }

    /// The level that `log_level` names in CRI-O's words; `None` if there is none of that name.
    #[must_use]
    pub fn log_filter_of_level(&self) -> Option<&'static str> {
        Some(match self.log_level.as_str() {
            "panic" | "fatal" | "error" => "error",
            "warn" | "warning" => "warn",
            "" | "info" => "info",
            "debug" => "debug",
            "trace" => "trace",
            _ => return None,
        })
    }
}
