//! Capabilities: names to numbers, and giving a thread exactly the five sets that the
//! specification asks for (runtime-spec config.md, "process.capabilities"; capabilities(7)).
//!
//! Never prints and never adds a capability: what the environment cannot give is left out and
//! returned as a [`Warning`]; what cannot be *taken away* is an error.

use std::fmt;

use rustix::io::Errno;
use rustix::thread::{self, CapabilitySet, CapabilitySets};

use crate::spec;

/// Names without the `CAP_` prefix; the index is the kernel's number.
const NAMES: [&str; 41] = [
    "CHOWN",
    "DAC_OVERRIDE",
    "DAC_READ_SEARCH",
    "FOWNER",
    "FSETID",
    "KILL",
    "SETGID",
    "SETUID",
    "SETPCAP",
    "LINUX_IMMUTABLE",
    "NET_BIND_SERVICE",
    "NET_BROADCAST",
    "NET_ADMIN",
    "NET_RAW",
    "IPC_LOCK",
    "IPC_OWNER",
    "SYS_MODULE",
    "SYS_RAWIO",
    "SYS_CHROOT",
    "SYS_PTRACE",
    "SYS_PACCT",
    "SYS_ADMIN",
    "SYS_BOOT",
    "SYS_NICE",
    "SYS_RESOURCE",
    "SYS_TIME",
    "SYS_TTY_CONFIG",
    "MKNOD",
    "LEASE",
    "AUDIT_WRITE",
    "AUDIT_CONTROL",
    "SETFCAP",
    "MAC_OVERRIDE",
    "MAC_ADMIN",
    "SYSLOG",
    "WAKE_ALARM",
    "BLOCK_SUSPEND",
    "AUDIT_READ",
    "PERFMON",
    "BPF",
    "CHECKPOINT_RESTORE",
];

/// The kernel refused to take a capability away or to install the sets.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The current sets cannot be read.
    #[error("capget: {0}")]
    Read(#[source] Errno),
    /// A capability stays in the bounding set (CAP_SETPCAP is missing).
    #[error("drop {} from the bounding set: {errno}", Shown(*.number))]
    DropBounding {
        /// Number of the capability.
        number: u8,
        /// The cause.
        #[source]
        errno: Errno,
    },
    /// capset(2) failed.
    #[error("set effective, permitted and inheritable capabilities: {0}")]
    Apply(#[source] Errno),
    /// The ambient set cannot be emptied.
    #[error("clear the ambient capabilities: {0}")]
    ClearAmbient(#[source] Errno),
}

/// Which of the five sets is meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// The limit of what execve(2) can grant.
    Bounding,
    /// What is checked.
    Effective,
    /// What may become effective.
    Permitted,
    /// What is kept over execve(2) of a program with file capabilities.
    Inheritable,
    /// What is kept over execve(2) of any other program.
    Ambient,
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Kind::Bounding => "bounding",
            Kind::Effective => "effective",
            Kind::Permitted => "permitted",
            Kind::Inheritable => "inheritable",
            Kind::Ambient => "ambient",
        })
    }
}

/// A capability that was asked for and is not given; the process runs without it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Warning {
    /// The name is none that this program or this kernel knows.
    Unknown {
        /// As written in the configuration.
        name: String,
    },
    /// The caller does not have it, so it cannot pass it on.
    Unavailable {
        /// The set it was asked for.
        kind: Kind,
        /// Number of the capability.
        number: u8,
    },
    /// Permitted and not in the bounding set: execve(2) takes them away.
    OutOfBounds {
        /// All of them.
        set: Set,
    },
}

impl Warning {
    /// Is it of the ambient set, which can lack what the others have?
    pub(crate) fn is_ambient(&self) -> bool {
        matches!(
            self,
            Warning::Unavailable {
                kind: Kind::Ambient,
                ..
            }
        )
    }
}

impl fmt::Display for Warning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Warning::Unknown { name } => write!(f, "ignoring unknown capability {name:?}"),
            Warning::Unavailable {
                kind: Kind::Ambient,
                number,
            } => write!(
                f,
                "can't raise ambient capability {}: it is not both permitted and inheritable",
                Shown(*number)
            ),
            Warning::Unavailable { kind, number } => write!(
                f,
                "{} is not available here and is left out of the {kind} set",
                Shown(*number)
            ),
            Warning::OutOfBounds { set } => {
                f.write_str("not in the bounding set, so that the program goes without:")?;
                set.iter()
                    .try_for_each(|number| write!(f, " {}", Shown(number)))
            }
        }
    }
}

/// A capability number, displayed as its name.
struct Shown(u8);

impl fmt::Display for Shown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match name(self.0) {
            Some(name) => write!(f, "CAP_{name}"),
            None => write!(f, "capability {}", self.0),
        }
    }
}

/// A set of capabilities; bit n stands for capability number n.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Set(u64);

impl Set {
    /// The set with nothing in it.
    pub const EMPTY: Set = Set(0);

    /// The set of the given numbers; numbers above 63 do not exist and are ignored.
    pub fn of(numbers: impl IntoIterator<Item = u8>) -> Set {
        Set(numbers
            .into_iter()
            .filter(|n| *n < 64)
            .fold(0, |bits, n| bits | 1 << n))
    }

    /// Every capability that the running kernel knows.
    pub fn all() -> Set {
        Set((1 << (u32::from(last()) + 1)) - 1)
    }

    /// Whether `number` is in the set.
    pub fn contains(self, number: u8) -> bool {
        number < 64 && self.0 & (1 << number) != 0
    }

    /// The numbers in the set, ascending.
    pub fn iter(self) -> impl Iterator<Item = u8> {
        (0..64u8).filter(move |n| self.contains(*n))
    }

    /// What is in both sets.
    pub fn intersection(self, other: Set) -> Set {
        Set(self.0 & other.0)
    }

    /// What is in either set.
    pub fn union(self, other: Set) -> Set {
        Set(self.0 | other.0)
    }

    /// What is in this set and not in the other.
    pub fn difference(self, other: Set) -> Set {
        Set(self.0 & !other.0)
    }

    fn flag(number: u8) -> CapabilitySet {
        CapabilitySet::from_bits_retain(1 << number)
    }
}

/// The number of a capability by name: with or without `CAP_`, in any case. Names that the
/// running kernel does not know still have a number.
pub fn number(name: &str) -> Option<u8> {
    let bare = match name.get(..4) {
        Some(prefix) if prefix.eq_ignore_ascii_case("CAP_") => &name[4..],
        _ => name,
    };
    NAMES
        .iter()
        .position(|known| known.eq_ignore_ascii_case(bare))
        .and_then(|n| u8::try_from(n).ok())
}

/// The name of a capability, without `CAP_`.
pub fn name(number: u8) -> Option<&'static str> {
    NAMES.get(usize::from(number)).copied()
}

/// The highest capability number that the running kernel knows. Asked of prctl(2) rather than
/// of /proc, which a container's init may not have.
pub fn last() -> u8 {
    static LAST: std::sync::OnceLock<u8> = std::sync::OnceLock::new();
    *LAST.get_or_init(|| {
        let known = |n: u8| thread::capability_is_in_bounding_set(Set::flag(n)).is_ok();
        // Known is what is below some number.
        let (mut below, mut above) = (0, 63);
        while below + 1 < above {
            let middle = u8::midpoint(below, above);
            match known(middle) {
                true => below = middle,
                false => above = middle,
            }
        }
        below
    })
}

/// The five sets of a process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Sets {
    /// See [`Kind::Bounding`].
    pub bounding: Set,
    /// See [`Kind::Effective`].
    pub effective: Set,
    /// See [`Kind::Permitted`].
    pub permitted: Set,
    /// See [`Kind::Inheritable`].
    pub inheritable: Set,
    /// See [`Kind::Ambient`].
    pub ambient: Set,
}

impl Sets {
    /// Reads the names of a specification. A set that is absent is empty; each unknown name gives
    /// one warning, however often it is written.
    pub fn parse(capabilities: &spec::Capabilities) -> (Sets, Vec<Warning>) {
        let mut warnings = Vec::new();
        let mut read = |names: &[String]| {
            let mut set = Set::EMPTY;
            for name in names {
                match number(name).filter(|n| *n <= last()) {
                    Some(number) => set = set.union(Set::of([number])),
                    None => {
                        let warning = Warning::Unknown { name: name.clone() };
                        if !warnings.contains(&warning) {
                            warnings.push(warning);
                        }
                    }
                }
            }
            set
        };
        let sets = Sets {
            bounding: read(&capabilities.bounding),
            effective: read(&capabilities.effective),
            permitted: read(&capabilities.permitted),
            inheritable: read(&capabilities.inheritable),
            ambient: read(&capabilities.ambient),
        };
        (sets, warnings)
    }

    /// What is asked for and lost by execve(2), which keeps of the permitted set only what is bounding or
    /// ambient.
    pub fn out_of_bounds(&self) -> Option<Warning> {
        let kept = self.bounding.union(self.ambient);
        let set = self.permitted.union(self.effective).difference(kept);
        (set != Set::EMPTY).then_some(Warning::OutOfBounds { set })
    }

    /// The sets of the calling thread.
    pub fn current() -> Result<Sets, Error> {
        let have = thread::capabilities(None).map_err(Error::Read)?;
        let held = |test: fn(CapabilitySet) -> Result<bool, Errno>| {
            Set::of((0..=last()).filter(|n| matches!(test(Set::flag(*n)), Ok(true))))
        };
        Ok(Sets {
            bounding: held(thread::capability_is_in_bounding_set),
            effective: Set(have.effective.bits()),
            permitted: Set(have.permitted.bits()),
            inheritable: Set(have.inheritable.bits()),
            ambient: held(thread::capability_is_in_ambient_set),
        })
    }

    /// Drops from the calling thread's bounding set all that is not in `self.bounding`. Needs
    /// CAP_SETPCAP, so it comes before the change of user. A capability asked for and not in the
    /// set any more is a warning.
    pub fn drop_bounding(&self) -> Result<Vec<Warning>, Error> {
        let mut missing = Set::EMPTY;
        for number in 0..=last() {
            if self.bounding.contains(number) {
                if !is_bounding(number) {
                    missing = missing.union(Set::of([number]));
                }
                continue;
            }
            match thread::remove_capability_from_bounding_set(Set::flag(number)) {
                // Who may drop none does well with what is not there.
                Err(errno) if is_bounding(number) => {
                    return Err(Error::DropBounding { number, errno });
                }
                _ => {}
            }
        }
        Ok(unavailable(Kind::Bounding, missing))
    }

    /// Sets effective, permitted, inheritable and ambient of the calling thread, after the change
    /// of user (with PR_SET_KEEPCAPS held over it). What the thread does not have is left out and
    /// returned.
    pub fn apply(&self) -> Result<Vec<Warning>, Error> {
        let have = thread::capabilities(None).map_err(Error::Read)?;
        let permitted = self.permitted.intersection(Set(have.permitted.bits()));
        let effective = self.effective.intersection(permitted);
        // What is new there must be permitted and bounding.
        let kept = self.inheritable.intersection(Set(have.inheritable.bits()));
        let new = self.inheritable.intersection(Set(have.permitted.bits()));
        let new = Set::of(new.difference(kept).iter().filter(|n| is_bounding(*n)));
        let inheritable = kept.union(new);
        let bits = |set: Set| CapabilitySet::from_bits_retain(set.0);
        let sets = CapabilitySets {
            effective: bits(effective),
            permitted: bits(permitted),
            inheritable: bits(inheritable),
        };
        thread::set_capabilities(None, sets).map_err(Error::Apply)?;
        let mut warnings = unavailable(Kind::Permitted, self.permitted.difference(permitted));
        warnings.extend(unavailable(
            Kind::Effective,
            self.effective.difference(effective),
        ));
        warnings.extend(unavailable(
            Kind::Inheritable,
            self.inheritable.difference(inheritable),
        ));
        warnings.extend(unavailable(Kind::Ambient, self.raise_ambient()?));
        Ok(warnings)
    }

    /// Replaces the ambient set and returns what could not be raised.
    fn raise_ambient(&self) -> Result<Set, Error> {
        match thread::clear_ambient_capability_set() {
            // A kernel before 4.3 has no ambient set; nothing can be in it.
            Ok(()) | Err(Errno::INVAL) => {}
            Err(errno) => return Err(Error::ClearAmbient(errno)),
        }
        let refused =
            |n: &u8| thread::configure_capability_in_ambient_set(Set::flag(*n), true).is_err();
        Ok(Set::of(self.ambient.iter().filter(refused)))
    }
}

/// Is it in the calling thread's bounding set? Not if the kernel does not know it.
fn is_bounding(number: u8) -> bool {
    matches!(
        thread::capability_is_in_bounding_set(Set::flag(number)),
        Ok(true)
    )
}

fn unavailable(kind: Kind, missing: Set) -> Vec<Warning> {
    missing
        .iter()
        .map(|number| Warning::Unavailable { kind, number })
        .collect()
}

#[cfg(test)]
mod tests;
