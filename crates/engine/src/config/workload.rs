//! `[crio.runtime.workloads.NAME]`: resources that containers of marked pods get, whatever their requests say.
//! crio.conf(5).

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// The period of the kernel, and the least one and least quota that it takes, in µs.
const PERIOD: u64 = 100_000;
const LEAST: i64 = 1000;

/// `[crio.runtime.workloads.NAME]`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Workload {
    /// The name of the annotation that makes a pod one of these, whatever its value.
    pub activation_annotation: String,
    /// `PREFIX/CONTAINER` is the annotation of a pod with other resources for one container, as JSON.
    pub annotation_prefix: String,
    /// Beginnings of the names of pods' annotations that reach the runtime, beside those of its handler.
    pub allowed_annotations: Vec<String>,
    /// What each container gets: `cpushares`, `cpuset`, `cpuquota` and `cpuperiod` (µs), `cpulimit` (thousandths
    /// of a processor, instead of `cpuquota`). 0 and empty: what its request says.
    pub resources: WorkloadResources,
}

/// Resources of a workload's containers; 0 and empty are unset.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct WorkloadResources {
    /// Relative weight.
    pub cpushares: u64,
    /// µs in a period.
    pub cpuquota: i64,
    /// In µs.
    pub cpuperiod: u64,
    /// Processors, as a list of ranges.
    pub cpuset: String,
    /// Thousandths of a processor.
    pub cpulimit: i64,
}

impl Workload {
    /// The workload of a pod, by its annotations; the first by name of several.
    pub(crate) fn of<'a>(
        all: &'a BTreeMap<String, Self>,
        annotations: &BTreeMap<String, String>,
    ) -> Option<&'a Self> {
        let mut all = all.values();
        all.find(|workload| annotations.contains_key(&workload.activation_annotation))
    }

    /// What a container of the pod gets.
    ///
    /// # Errors
    /// An annotation that is not the JSON of resources, by its name.
    pub(crate) fn resources(
        &self,
        annotations: &BTreeMap<String, String>,
        container: &str,
    ) -> Result<WorkloadResources, (String, String)> {
        let name = format!("{}/{container}", self.annotation_prefix);
        let defaults = &self.resources;
        let mut own = match annotations.get(&name) {
            None => WorkloadResources::default(),
            Some(text) => {
                let read: Result<WorkloadResources, _> = serde_json::from_str(text);
                let checked = read.map_err(|e| e.to_string());
                let checked = checked.and_then(|own| own.check().map(|()| own));
                checked.map_err(|why| (name, why))?
            }
        };
        own.cpuset = or(own.cpuset, defaults.cpuset.clone());
        own.cpushares = or(own.cpushares, defaults.cpushares);
        own.cpuperiod = or(own.cpuperiod, defaults.cpuperiod);
        own.cpuquota = or(own.cpuquota, defaults.cpuquota);
        own.cpulimit = or(own.cpulimit, defaults.cpulimit);
        if own.cpulimit != 0 {
            let period = or(own.cpuperiod, PERIOD);
            let period = i64::try_from(period).unwrap_or(i64::MAX);
            own.cpuquota = own.cpulimit.saturating_mul(period).max(0) / 1000;
            own.cpuquota = own.cpuquota.max(LEAST);
        }
        Ok(own)
    }

    /// Checks what types cannot say; `name` is the workload's.
    pub(super) fn validate(&self, name: &str) -> Result<(), String> {
        let key = format!("crio.runtime.workloads.{name}");
        if self.activation_annotation.is_empty() {
            return Err(format!("{key}.activation_annotation: is empty"));
        }
        let checked = self.resources.check();
        checked.map_err(|why| format!("{key}.resources: {why}"))
    }
}

/// What is set; unset (0, empty) it is the default.
fn or<T: Default + PartialEq>(own: T, default: T) -> T {
    if own == T::default() { default } else { own }
}

/// Is it a list of processors such as `0-3,7`?
pub(super) fn is_cpu_list(text: &str) -> bool {
    let is_range = |range: &str| {
        let (low, high) = range.split_once('-').unwrap_or((range, range));
        let number = |text: &str| text.parse::<u32>().ok();
        number(low)
            .zip(number(high))
            .is_some_and(|(low, high)| low <= high)
    };
    text.split(',').all(is_range)
}

impl WorkloadResources {
    fn check(&self) -> Result<(), String> {
        if !self.cpuset.is_empty() && !is_cpu_list(&self.cpuset) {
            return Err(format!("cpuset {:?} is no list of processors", self.cpuset));
        }
        if self.cpuperiod != 0 && self.cpuperiod < LEAST.unsigned_abs() {
            return Err(format!("cpuperiod {} is below {LEAST} µs", self.cpuperiod));
        }
        if self.cpuquota < -1 || self.cpulimit < 0 {
            return Err("cpuquota or cpulimit is negative".to_owned());
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn workload() -> Workload {
        Workload {
            activation_annotation: "target.workload.openshift.io/management".into(),
            annotation_prefix: "resources.workload.openshift.io".into(),
            resources: WorkloadResources {
                cpushares: 2,
                cpuset: "0-1".into(),
                ..WorkloadResources::default()
            },
            ..Workload::default()
        }
    }

    fn annotations(text: &str) -> BTreeMap<String, String> {
        BTreeMap::from([
            (
                "target.workload.openshift.io/management".to_owned(),
                "{}".to_owned(),
            ),
            (
                "resources.workload.openshift.io/web".to_owned(),
                text.to_owned(),
            ),
        ])
    }

    #[test]
    fn a_containers_own_annotation_wins_over_the_workloads_resources() {
        let own = annotations(r#"{"cpushares": 1024, "cpulimit": 2500, "cpuperiod": 50000}"#);
        let workload = workload();
        let web = workload.resources(&own, "web").unwrap();
        assert_eq!((web.cpushares, web.cpuset.as_str()), (1024, "0-1"));
        assert_eq!((web.cpuquota, web.cpuperiod), (125_000, 50_000));
        assert_eq!(
            workload.resources(&own, "other").unwrap(),
            workload.resources
        );
        let little = annotations(r#"{"cpulimit": 1}"#);
        assert_eq!(workload.resources(&little, "web").unwrap().cpuquota, LEAST);
    }

    #[test]
    fn only_pods_with_the_annotation_are_of_a_workload() {
        let all = BTreeMap::from([("management".to_owned(), workload())]);
        assert!(Workload::of(&all, &annotations("{}")).is_some());
        assert!(Workload::of(&all, &BTreeMap::new()).is_none());
    }

    #[test]
    fn what_is_no_resource_is_refused_by_its_name() {
        for text in [
            "[",
            r#"{"cpushares": -1}"#,
            r#"{"cpuset": "a-b"}"#,
            r#"{"cpuset": "3-1"}"#,
            r#"{"cpuperiod": 5}"#,
        ] {
            let (name, why) = workload().resources(&annotations(text), "web").unwrap_err();
            assert_eq!(name, "resources.workload.openshift.io/web", "{why}");
        }
        let mut bad = workload();
        bad.resources.cpuset = "x".into();
        assert!(
            bad.validate("w")
                .unwrap_err()
                .starts_with("crio.runtime.workloads.w.resources")
        );
        assert!(
            Workload::default()
                .validate("w")
                .unwrap_err()
                .contains("activation_annotation")
        );
    }
}
