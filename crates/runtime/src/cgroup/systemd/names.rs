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
const SLICE: &str = ".slice";

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
        let above = expand(slice).ok_or_else(|| wrong(path, "the slice's name is not valid"))?;
        let (name, below) = if name.ends_with(SLICE) {
            let below = expand(name).filter(|below| !below.is_empty());
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
            properties: Vec::new(),
        })
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

    pub(super) fn is_slice(&self) -> bool {
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

/// Where a slice is: `a-b.slice` in `a.slice`. Empty for the root; `None` for what is no slice.
fn expand(slice: &str) -> Option<String> {
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
            assert_eq!(expand(slice).as_deref(), path, "{slice}");
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
