//! What systemd calls a container's cgroup, and where it puts it: `linux.cgroupsPath` read as
//! `slice:prefix:name`, and annotations (systemd.slice(5), systemd.scope(5)).
//!
//! Asks nobody but, for the user's own manager, where that is itself.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};

use super::bus::Bus;
use super::gvariant;
use super::marshal::Value;
use crate::cgroup::error::Error;
use crate::spec::Spec;

const FIELD: &str = "linux.cgroupsPath";
const PROPERTY: &str = "org.systemd.property.";
const SUBGROUP: &str = "run.oci.systemd.subgroup";
/// The beginning of all that crun is told so of systemd.
const CRUNS: &str = "run.oci.systemd.";
const SLICE: &str = ".slice";
const SCOPE: &str = ".scope";

/// A property of a unit.
pub(super) type Property = (Cow<'static, str>, Value);

/// A unit of systemd whose cgroup is a container's or a pod's: a scope, or a slice.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Unit {
    pub(super) name: String,
    /// The slice that it is in.
    pub(super) slice: String,
    /// Of the manager of a user, not of the system.
    #[serde(default)]
    pub(super) user: bool,
    /// Its cgroup, below the hierarchies' roots, without leading slash.
    pub(super) path: String,
    /// Where its processes are below its cgroup, if not in itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) subgroup: Option<String>,
    /// systemd forgets it by itself once nobody is in it, also when it has failed.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(super) collected: bool,
    /// What annotations ask for; of interest only when it is started.
    #[serde(skip)]
    pub(super) properties: Vec<Property>,
}

impl Unit {
    /// The unit of a container: `linux.cgroupsPath` names it, else its id; with what the
    /// annotations `org.systemd.property.*` and `run.oci.systemd.subgroup` say.
    ///
    /// # Errors
    /// A path of another form, a property that is none, a host without systemd.
    pub fn of_container(spec: &Spec, id: &str) -> Result<Unit, Error> {
        let path = spec
            .linux
            .as_ref()
            .and_then(|linux| linux.cgroups_path.as_deref());
        let path = path.filter(|path| !path.is_empty());
        let mut unit = match path {
            Some(path) => Unit::named(path)?,
            None => Unit::named(&format!(":runc:{id}"))?,
        };
        unit.properties = spec
            .annotations
            .iter()
            .filter_map(|(name, value)| {
                let property = name.strip_prefix(PROPERTY)?;
                Some(
                    property_of(property, value).map_err(|reason| Error::Annotation {
                        name: name.clone(),
                        value: value.clone(),
                        reason,
                    }),
                )
            })
            .collect::<Result<_, _>>()?;
        let subgroup = spec.annotations.get(SUBGROUP);
        unit.subgroup = subgroup.filter(|name| !name.is_empty()).cloned();
        Ok(unit)
    }

    /// The unit that `slice:prefix:name` names: `prefix-name.scope`, or a name that is a slice's. Of
    /// the caller's own manager, if systemd is somebody else's.
    ///
    /// # Errors
    /// A text of another form, a host without systemd.
    pub fn named(path: &str) -> Result<Unit, Error> {
        let user = super::is_somebody_elses()?;
        let parts: Vec<&str> = path.split(':').collect();
        let [slice, prefix, name] = parts[..] else {
            return Err(wrong(
                path,
                "expected cgroupsPath to be of format \"slice:prefix:name\" for systemd cgroups",
            ));
        };
        let slice = match slice {
            "" if user => "user.slice",
            "" => "system.slice",
            slice => slice,
        };
        let above =
            slice_path(slice).ok_or_else(|| wrong(path, "the slice's name is not valid"))?;
        let (name, below) = if name.ends_with(SLICE) {
            let below = slice_path(name).filter(|below| !below.is_empty());
            let below = below.ok_or_else(|| wrong(path, "the slice's name is not valid"))?;
            (name.to_owned(), below)
        } else {
            let name = format!("{prefix}-{name}.scope");
            let below = format!("{above}/{name}");
            (name, below)
        };
        if name.contains(['/', '\0']) {
            return Err(wrong(path, "the name of a unit has no slash"));
        }
        let root = match user {
            true => Bus::connect(true)?.property("ControlGroup")?,
            false => String::new(),
        };
        Ok(Unit {
            path: format!("{root}/{below}").trim_matches('/').to_owned(),
            name,
            slice: slice.to_owned(),
            user,
            subgroup: None,
            collected: false,
            properties: Vec::new(),
        })
    }

    /// The unit of the system whose cgroup that path is, below the hierarchies' roots: a scope in its
    /// slice, or a slice; `None` for a path that is no unit's. systemd forgets it by itself once nobody
    /// is in it, so that only a slice is stopped when its cgroup is removed. Asks nobody.
    #[must_use]
    pub fn at(path: &str) -> Option<Unit> {
        let path = path.trim_matches('/');
        let (above, name) = path.rsplit_once('/').unwrap_or(("", path));
        let slice = match above.rsplit_once('/') {
            _ if above.is_empty() => "-.slice",
            Some((_, last)) => last,
            None => above,
        };
        let right = match name.ends_with(SLICE) {
            true => slice_path(name).as_deref() == Some(path),
            false => name.ends_with(SCOPE) && slice_path(slice).as_deref() == Some(above),
        };
        right.then(|| Unit {
            name: name.to_owned(),
            slice: slice.to_owned(),
            user: false,
            path: path.to_owned(),
            subgroup: None,
            collected: true,
            properties: Vec::new(),
        })
    }

    /// The scope of a container of a pod that `linux.cgroupsPath` names, as [`Unit::at`] has it. What
    /// annotations say is not heeded: whoever makes the pod writes them.
    ///
    /// # Errors
    /// A text of another form.
    pub fn of_pod(path: &str) -> Result<Unit, Error> {
        let parts: Vec<&str> = path.split(':').collect();
        let [slice, prefix, name] = parts[..] else {
            return Err(wrong(path, "it is not slice:prefix:name"));
        };
        let above =
            slice_path(slice).ok_or_else(|| wrong(path, "the slice's name is not valid"))?;
        let unit = Unit::at(&format!("{above}/{prefix}-{name}{SCOPE}"));
        unit.ok_or_else(|| wrong(path, "it names no scope"))
    }

    /// Does an annotation of config.json speak of a container's unit, as runtimes that have systemd make it
    /// understand it? Whoever may write one is as good as root of the host (CRI-O's CVE-2024-3154).
    #[must_use]
    pub fn is_annotation(name: &str) -> bool {
        name.starts_with(PROPERTY) || name.starts_with(CRUNS)
    }

    /// The scope as `linux.cgroupsPath` names it: `slice:prefix:name`; `None` for another name.
    #[must_use]
    pub fn cgroups_path(&self) -> Option<String> {
        let (prefix, name) = self.name.strip_suffix(SCOPE)?.split_once('-')?;
        Some(format!("{}:{prefix}:{name}", self.slice))
    }

    /// As systemd calls it.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Where its processes are, below the hierarchies' roots.
    #[must_use]
    pub fn cgroup_path(&self) -> String {
        match &self.subgroup {
            Some(below) => format!("{}/{below}", self.path),
            None => self.path.clone(),
        }
    }

    /// A slice, and not a scope.
    #[must_use]
    pub fn is_slice(&self) -> bool {
        self.name.ends_with(SLICE)
    }
}

fn wrong(path: &str, reason: &str) -> Error {
    Error::InvalidValue {
        field: FIELD,
        value: format!("{path:?}"),
        reason: reason.to_owned(),
    }
}

/// Where a slice is, below the hierarchies' roots: `a-b.slice` in `a.slice`. Empty for the root; `None`
/// for what is no slice's name.
#[must_use]
pub fn slice_path(slice: &str) -> Option<String> {
    let name = slice.strip_suffix(SLICE)?;
    if name == "-" {
        return Some(String::new());
    }
    if name.contains('/') || name.split('-').any(str::is_empty) {
        return None;
    }
    let ends = name.match_indices('-').map(|(at, _)| at);
    let names = ends
        .chain([name.len()])
        .map(|end| format!("{}{SLICE}", &name[..end]));
    Some(names.collect::<Vec<_>>().join("/"))
}

/// A property as an annotation writes it. systemd documents times as `…Sec` and takes them as
/// `…USec`, in microseconds.
fn property_of(name: &str, text: &str) -> Result<Property, String> {
    if name.len() < 3 || !name.bytes().all(|byte| byte.is_ascii_alphabetic()) {
        return Err("a property has a name of at least three letters".to_owned());
    }
    let value = gvariant::parse(text)?;
    let time = name
        .strip_suffix("Sec")
        .filter(|stem| stem.ends_with(|c: char| c.is_ascii_lowercase()));
    let Some(stem) = time else {
        return Ok((name.to_owned().into(), value));
    };
    let Value::Fixed(kind @ (b'y' | b'n' | b'q' | b'i' | b'u' | b'x' | b't' | b'd'), bits) = value
    else {
        return Err("a time is a number".to_owned());
    };
    let micros = match kind {
        b'd' => Some(f64::from_bits(bits) * 1e6)
            .filter(|micros| (0.0..u64::MAX as f64).contains(micros))
            .map(|micros| micros as u64),
        // A negative number, as its bits, is too large.
        _ => bits.checked_mul(1_000_000),
    };
    let micros = micros.ok_or("the time is out of range")?;
    Ok((format!("{stem}USec").into(), Value::u64(micros)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slice_is_in_the_slices_that_its_name_tells() {
        for (slice, path) in [
            ("system.slice", Some("system.slice")),
            ("a-b-c.slice", Some("a.slice/a-b.slice/a-b-c.slice")),
            ("-.slice", Some("")),
            (".slice", None),
            ("-a.slice", None),
            ("a--b.slice", None),
            ("a-.slice", None),
            ("a/b.slice", None),
            ("a.scope", None),
            ("-", None),
        ] {
            assert_eq!(slice_path(slice).as_deref(), path, "{slice}");
        }
    }

    #[test]
    fn a_path_that_a_unit_has_names_it_and_no_other_does() {
        let id = "0123abc";
        for (path, name, slice) in [
            (
                "/a.slice/a-b.slice/crio-0123abc.scope",
                "crio-0123abc.scope",
                "a-b.slice",
            ),
            (
                "system.slice/crio-0123abc.scope",
                "crio-0123abc.scope",
                "system.slice",
            ),
            ("/a.slice/a-b.slice", "a-b.slice", "a.slice"),
            ("/a.slice", "a.slice", "-.slice"),
        ] {
            let unit = Unit::at(path).unwrap();
            assert_eq!((unit.name(), unit.slice.as_str()), (name, slice), "{path}");
            assert_eq!(unit.cgroup_path(), path.trim_start_matches('/'));
            let again = unit.cgroups_path();
            assert_eq!(again.is_some(), !unit.is_slice());
            if let Some(text) = again {
                assert_eq!(text, format!("{slice}:crio:{id}"));
                assert_eq!(Unit::of_pod(&text).unwrap(), unit);
            }
        }
        for path in [
            "",
            "/",
            "/floe/pod-1/crio-1",
            "/a-b.slice",
            "/a.slice/b.slice",
            "/a.slice/crio-1",
            "/a/crio-1.scope",
            "/b.slice/a-b.slice/crio-1.scope",
            "/a.slice/a-.slice",
        ] {
            assert_eq!(Unit::at(path), None, "{path}");
        }
        for text in [
            "",
            "a",
            "a.slice:b",
            "a:b:c",
            "a.slice:b:c/d",
            "a.slice:b/c:d",
            "a.slice:b:c:d",
        ] {
            assert!(Unit::of_pod(text).is_err(), "{text}");
        }
    }

    #[test]
    fn times_of_annotations_become_microseconds() {
        let usec = |name: &'static str, value: u64| Ok((name.into(), Value::u64(value)));
        assert_eq!(
            property_of("TimeoutStopSec", "5"),
            usec("TimeoutStopUSec", 5_000_000)
        );
        assert_eq!(
            property_of("TimeoutStopSec", "double 0.5"),
            usec("TimeoutStopUSec", 500_000)
        );
        assert_eq!(
            property_of("TimeoutStopUSec", "uint64 7"),
            usec("TimeoutStopUSec", 7)
        );
        // Nothing but the suffix, and no small letter before it.
        for name in ["Sec", "FooUSec"] {
            let same = Ok((name.into(), Value::Fixed(b'i', 1)));
            assert_eq!(property_of(name, "1"), same);
        }
        for (value, words) in [
            ("'5'", "a time is a number"),
            ("true", "a time is a number"),
            ("-1", "out of range"),
            ("uint64 18446744073709551615", "out of range"),
            ("double -1", "out of range"),
        ] {
            let error = property_of("TimeoutStopSec", value).unwrap_err();
            assert!(error.contains(words), "{value}: {error}");
        }
    }

    #[test]
    fn names_of_properties_are_letters() {
        for name in ["", "ab", "Foo.Bar", "Foo-Bar", "Föö"] {
            let error = property_of(name, "1").unwrap_err();
            assert!(error.contains("at least three letters"), "{name}: {error}");
        }
    }
}
