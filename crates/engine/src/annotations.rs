//! Annotations of pods on which the engine itself acts, in CRI-O's words: `NAME.crio.io`, or the older
//! `io.kubernetes.cri-o.NAME`. One holds only where the pod's runtime handler or its workload allows the
//! spelling that it has; what its value may not be is refused by its name.

use std::collections::BTreeMap;

use crate::config::{Runtime, RuntimeEntry, Workload};
use crate::error::{Error, Result};

/// An annotation: as it is called now, and before.
pub(crate) type Name = (&'static str, &'static str);

/// Size of /dev/shm, a quantity.
pub(crate) const SHM_SIZE: Name = ("shm-size.crio.io", "io.kubernetes.cri-o.ShmSize");
/// A user namespace for the pod: `auto`, or `auto:size=N`.
pub(crate) const USERNS_MODE: Name = ("userns-mode.crio.io", "io.kubernetes.cri-o.userns-mode");
/// `PATH[:PATH][:MODE]`, with commas between them.
pub(crate) const DEVICES: Name = ("devices.crio.io", "io.kubernetes.cri-o.Devices");
/// `/CONTAINER`: `FILE=VALUE` of cgroup v2, semicolons between them, values in base64 or as they are.
pub(crate) const UNIFIED: Name = (
    "unified-cgroup.crio.io",
    "io.kubernetes.cri-o.UnifiedCgroup",
);
/// Up to four octal digits.
pub(crate) const UMASK: Name = ("umask.crio.io", "io.kubernetes.cri-o.umask");
/// `true`: /sys/fs/cgroup may be written to, on cgroup v2.
pub(crate) const CGROUP_RW: Name = (
    "cgroup2-mount-hierarchy-rw.crio.io",
    "io.kubernetes.cri-o.cgroup2-mount-hierarchy-rw",
);
/// `true`: no `GOMAXPROCS` is given.
pub(crate) const SKIP_GOMAXPROCS: Name = ("skip-gomaxprocs.crio.io", "skip-gomaxprocs.crio.io");
/// The name of an emptyDir of the pod in which its logs shall be seen.
pub(crate) const LINK_LOGS: Name = ("link-logs.crio.io", "io.kubernetes.cri-o.LinkLogs");

/// Calls that the seccomp profile refuses are counted, and with the value `stop` the container is killed for them.
pub(crate) const SECCOMP_NOTIFIER: Name = (
    "seccomp-notifier-action.crio.io",
    "io.kubernetes.cri-o.seccompNotifierAction",
);

/// What CRI-O acts on and floe does not, and what a pod that asks for it goes without.
const UNBUILT: [(Name, &str); 9] = [
    (
        ("cpu-load-balancing.crio.io", "cpu-load-balancing.crio.io"),
        "the scheduler balances its processors",
    ),
    (
        ("cpu-quota.crio.io", "cpu-quota.crio.io"),
        "its quota of processor time holds",
    ),
    (
        ("irq-load-balancing.crio.io", "irq-load-balancing.crio.io"),
        "interrupts reach its processors",
    ),
    (
        ("cpu-c-states.crio.io", "cpu-c-states.crio.io"),
        "its processors sleep as the node's do",
    ),
    (
        ("cpu-freq-governor.crio.io", "cpu-freq-governor.crio.io"),
        "its processors are clocked as the node's are",
    ),
    (
        ("cpu-shared.crio.io", "cpu-shared.crio.io"),
        "it has no processors but its own",
    ),
    (
        (
            "seccomp-profile.crio.io",
            "seccomp-profile.kubernetes.cri-o.io",
        ),
        "no seccomp profile is fetched as an image, and the one of its request holds",
    ),
    (
        ("disable-fips.crio.io", "io.kubernetes.cri-o.DisableFIPS"),
        "the node's FIPS mode is seen",
    ),
    (
        (
            "try-skip-volume-selinux-label.crio.io",
            "io.kubernetes.cri-o.TrySkipVolumeSELinuxLabel",
        ),
        "a volume that has the label already is never relabelled",
    ),
];

/// What CRI-O allows on a handler that no entry speaks of.
const ALLOWED_UNSAID: [&str; 2] = ["io.containers.trace-syscall", DEVICES.0];

/// A pod's annotations, and which of them are allowed.
pub(crate) struct Asked<'a> {
    of_pod: &'a BTreeMap<String, String>,
    entry: Option<&'a [String]>,
    workload: &'a [String],
}

impl<'a> Asked<'a> {
    /// Those of a pod whose handler has that entry.
    pub(crate) fn new(
        runtime: &'a Runtime,
        entry: Option<&'a RuntimeEntry>,
        of_pod: &'a BTreeMap<String, String>,
    ) -> Self {
        let workload = Workload::of(&runtime.workloads, of_pod);
        Self {
            of_pod,
            entry: entry.map(|entry| entry.allowed_annotations.as_slice()),
            workload: workload.map_or(&[], |workload| &workload.allowed_annotations),
        }
    }

    fn allows(&self, key: &str) -> bool {
        let begins = |begin: &String| key.starts_with(begin.as_str());
        let of_entry = match self.entry {
            Some(allowed) => allowed.iter().any(begins),
            None => ALLOWED_UNSAID.iter().any(|begin| key.starts_with(begin)),
        };
        of_entry || self.workload.iter().any(begins)
    }

    fn found(&self, key: &str) -> Option<(&'a str, &'a str)> {
        let (key, value) = self.of_pod.get_key_value(key)?;
        self.allows(key).then_some((key.as_str(), value.as_str()))
    }

    /// The annotation that is there and allowed, with its value; the newer spelling first.
    pub(crate) fn get(&self, name: Name) -> Option<(&'a str, &'a str)> {
        if self.of_pod.is_empty() {
            return None;
        }
        self.found(name.0).or_else(|| self.found(name.1))
    }

    /// Is it there, allowed, and `true`?
    pub(crate) fn is_true(&self, name: Name) -> bool {
        self.get(name).is_some_and(|(_, value)| value == "true")
    }

    /// The one of a container, `NAME/CONTAINER` or as it once was, `NAME.CONTAINER`.
    pub(crate) fn of_container(&self, name: Name, container: &str) -> Option<(&'a str, &'a str)> {
        if self.of_pod.is_empty() {
            return None;
        }
        let spelled = |name: &str| {
            let found = self.found(&format!("{name}/{container}"));
            found.or_else(|| self.found(&format!("{name}.{container}")))
        };
        spelled(name.0).or_else(|| spelled(name.1))
    }

    /// Those that are there and allowed, and on which floe does not act: each with what is so instead.
    pub(crate) fn unbuilt(&self) -> Vec<(&'a str, &'static str)> {
        let of = |(name, instead): &(Name, &'static str)| {
            let keys = self.of_pod.keys();
            let its = keys.filter(|key| {
                [name.0, name.1].iter().any(|name| {
                    let rest = key.strip_prefix(name);
                    rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
                })
            });
            let allowed = its.filter(|key| self.allows(key));
            let all: Vec<_> = allowed.map(|key| (key.as_str(), *instead)).collect();
            all
        };
        match self.of_pod.is_empty() {
            true => Vec::new(),
            false => UNBUILT.iter().flat_map(of).collect(),
        }
    }
}

/// An error about an annotation's value.
pub(crate) fn wrong(key: &str, reason: impl std::fmt::Display) -> Error {
    Error::invalid(format!("annotations[{key}]"), reason.to_string())
}

/// `unified-cgroup.crio.io/CONTAINER` as files of cgroup v2 and their values.
///
/// # Errors
/// What is not `FILE=VALUE`.
pub(crate) fn unified(key: &str, text: &str) -> Result<Vec<(String, String)>> {
    use base64::Engine as _;
    let one = |entry: &str| {
        let (file, value) = entry
            .split_once('=')
            .ok_or_else(|| wrong(key, format!("{entry:?} is not FILE=VALUE")))?;
        let decoded = base64::engine::general_purpose::STANDARD.decode(value);
        let decoded = decoded.ok().and_then(|bytes| String::from_utf8(bytes).ok());
        let value = decoded.unwrap_or_else(|| value.to_owned());
        Ok((file.to_owned(), value))
    };
    let entries = text.split(';').filter(|entry| !entry.is_empty());
    entries.map(one).collect()
}

/// A file mode creation mask.
///
/// # Errors
/// What is not up to four octal digits.
pub(crate) fn umask(key: &str, text: &str) -> Result<u32> {
    let is_one = (1..=4).contains(&text.len()) && text.bytes().all(|c| c.is_ascii_digit());
    let read = is_one.then(|| u32::from_str_radix(text, 8).ok()).flatten();
    read.ok_or_else(|| wrong(key, format!("{text:?} is not up to four octal digits")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        let own = pairs.iter().map(|(key, value)| (*key, *value));
        own.map(|(key, value)| (key.to_owned(), value.to_owned()))
            .collect()
    }

    fn entry(allowed: &[&str]) -> RuntimeEntry {
        RuntimeEntry {
            allowed_annotations: allowed.iter().map(|begin| (*begin).to_owned()).collect(),
            ..RuntimeEntry::default()
        }
    }

    #[test]
    fn an_annotation_holds_only_in_a_spelling_that_is_allowed() {
        let runtime = Runtime::default();
        let pod = map(&[(UMASK.0, "022"), (UMASK.1, "077")]);
        for (allowed, value) in [
            (&[][..], None),
            (&["shm-size.crio.io"], None),
            (&[UMASK.0], Some("022")),
            (&[UMASK.1], Some("077")),
            (&[UMASK.0, UMASK.1], Some("022")),
        ] {
            let entry = entry(allowed);
            let asked = Asked::new(&runtime, Some(&entry), &pod);
            let found = asked.get(UMASK).map(|(_, value)| value);
            assert_eq!(found, value, "{allowed:?}");
        }
        // Without an entry, what CRI-O's default handler has.
        let pod = map(&[(UMASK.0, "022"), (DEVICES.0, "/dev/fuse")]);
        let asked = Asked::new(&runtime, None, &pod);
        assert_eq!(asked.get(UMASK), None);
        assert_eq!(asked.get(DEVICES), Some((DEVICES.0, "/dev/fuse")));
    }

    #[test]
    fn a_workload_allows_its_pods_more() {
        let mut runtime = Runtime::default();
        let workload = Workload {
            activation_annotation: "w".into(),
            allowed_annotations: vec![UMASK.0.into()],
            ..Workload::default()
        };
        runtime.workloads.insert("w".into(), workload);
        let entry = entry(&[]);
        let of = |pod: &BTreeMap<String, String>| {
            let asked = Asked::new(&runtime, Some(&entry), pod);
            asked.get(UMASK).is_some()
        };
        assert!(of(&map(&[("w", ""), (UMASK.0, "0")])));
        assert!(!of(&map(&[(UMASK.0, "0")])));
    }

    #[test]
    fn those_of_a_container_have_its_name_behind() {
        let runtime = Runtime::default();
        let entry = entry(&["unified-cgroup.crio.io"]);
        for (key, found) in [
            ("unified-cgroup.crio.io/web", true),
            ("unified-cgroup.crio.io.web", true),
            ("unified-cgroup.crio.io/other", false),
            ("unified-cgroup.crio.io", false),
        ] {
            let pod = map(&[(key, "memory.high=1")]);
            let asked = Asked::new(&runtime, Some(&entry), &pod);
            let got = asked.of_container(UNIFIED, "web");
            assert_eq!(got.is_some(), found, "{key}");
        }
    }

    #[test]
    fn what_is_not_built_is_named_if_it_is_allowed() {
        let runtime = Runtime::default();
        let pod = map(&[
            ("cpu-quota.crio.io/web", "disable"),
            ("irq-load-balancing.crio.io", "disable"),
            ("cpu-quota.crio.iox", "1"),
        ]);
        let named = |allowed: &[&str]| {
            let entry = entry(allowed);
            let asked = Asked::new(&runtime, Some(&entry), &pod);
            let named = asked.unbuilt().into_iter().map(|(key, _)| key.to_owned());
            named.collect::<Vec<_>>()
        };
        assert_eq!(named(&[]), Vec::<String>::new());
        assert_eq!(named(&["cpu-quota.crio.io"]), ["cpu-quota.crio.io/web"]);
        assert_eq!(
            named(&["cpu-quota.crio.io", "irq-load-balancing.crio.io"]),
            ["cpu-quota.crio.io/web", "irq-load-balancing.crio.io"]
        );
    }

    #[test]
    fn values_are_read_as_cri_o_reads_them_and_others_are_none() {
        assert_eq!(umask("u", "022").unwrap(), 0o22);
        for bad in ["", "8", "00000", "-1", "0x1"] {
            let error = umask("umask.crio.io", bad).unwrap_err().to_string();
            assert!(error.contains("annotations[umask.crio.io]"), "{error}");
        }
        let read = unified("u", "memory.high=MTAw;cpu.weight=7;;").unwrap();
        let pair = |file: &str, value: &str| (file.to_owned(), value.to_owned());
        assert_eq!(read, [pair("memory.high", "100"), pair("cpu.weight", "7")]);
        assert!(unified("u", "memory.high").is_err());
    }
}
