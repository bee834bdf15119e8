//! Reads a profile: the specification's words become numbers, and everything that can be wrong
//! with them is found here (runtime-spec config-linux.md, "seccomp").
//!
//! Decides nothing about the program; a parsed profile is always compilable, except for length.

use rustix::io::Errno;

use super::arch::Arch;
use super::names::Name;
use super::{Error, load};
use crate::spec;

/// The actions understood, as the specification writes them.
pub const ACTIONS: [&str; 9] = [
    "SCMP_ACT_ALLOW",
    "SCMP_ACT_ERRNO",
    "SCMP_ACT_KILL",
    "SCMP_ACT_KILL_PROCESS",
    "SCMP_ACT_KILL_THREAD",
    "SCMP_ACT_LOG",
    "SCMP_ACT_NOTIFY",
    "SCMP_ACT_TRACE",
    "SCMP_ACT_TRAP",
];

/// The comparisons understood, as the specification writes them.
pub const OPERATORS: [&str; 7] = [
    "SCMP_CMP_EQ",
    "SCMP_CMP_GE",
    "SCMP_CMP_GT",
    "SCMP_CMP_LE",
    "SCMP_CMP_LT",
    "SCMP_CMP_MASKED_EQ",
    "SCMP_CMP_NE",
];

/// The flags understood, as the specification writes them.
pub const FLAGS: [&str; 4] = [
    "SECCOMP_FILTER_FLAG_LOG",
    "SECCOMP_FILTER_FLAG_SPEC_ALLOW",
    "SECCOMP_FILTER_FLAG_TSYNC",
    "SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV",
];

/// The highest errno the kernel lets a filter return (MAX_ERRNO).
const MAX_ERRNO: u32 = 4095;

/// What a filter returns to the kernel (SECCOMP_RET_*, with its data).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Verdict(pub(super) u32);

impl Verdict {
    pub(super) const KILL_PROCESS: Verdict = Verdict(0x8000_0000);
    const KILL_THREAD: Verdict = Verdict(0);
    const TRAP: Verdict = Verdict(0x0003_0000);
    const NOTIFY: Verdict = Verdict(0x7fc0_0000);
    const LOG: Verdict = Verdict(0x7ffc_0000);
    pub(super) const ALLOW: Verdict = Verdict(0x7fff_0000);

    pub(super) const fn errno(errno: u32) -> Verdict {
        Verdict(0x0005_0000 | errno)
    }

    const fn trace(data: u32) -> Verdict {
        Verdict(0x7ff0_0000 | data)
    }

    /// "This kernel has no such call": what programs expect of calls newer than the profile.
    pub(super) fn enosys() -> Verdict {
        Verdict::errno(Errno::NOSYS.raw_os_error().unsigned_abs())
    }

    /// Whether a call that nobody thought of goes on: allowed, logged, or left to a tracer.
    pub(super) fn permissive(self) -> bool {
        self == Verdict::ALLOW
            || self == Verdict::LOG
            || self.0 & 0xffff_0000 == Verdict::trace(0).0
    }

    fn parse(action: &str, errno: Option<u32>) -> Result<Verdict, Error> {
        let data = |max: u32| match errno {
            Some(errno) if errno > max => Err(Error::ErrnoTooLarge {
                errno,
                action: action.to_owned(),
                max,
            }),
            given => Ok(given.unwrap_or(Errno::PERM.raw_os_error().unsigned_abs())),
        };
        let verdict = match action {
            "SCMP_ACT_ERRNO" => return Ok(Verdict::errno(data(MAX_ERRNO)?)),
            "SCMP_ACT_TRACE" => return Ok(Verdict::trace(data(u32::from(u16::MAX))?)),
            "SCMP_ACT_KILL" | "SCMP_ACT_KILL_THREAD" => Verdict::KILL_THREAD,
            "SCMP_ACT_KILL_PROCESS" => Verdict::KILL_PROCESS,
            "SCMP_ACT_TRAP" => Verdict::TRAP,
            "SCMP_ACT_ALLOW" => Verdict::ALLOW,
            "SCMP_ACT_LOG" => Verdict::LOG,
            "SCMP_ACT_NOTIFY" => Verdict::NOTIFY,
            _ => {
                return Err(Error::UnknownAction {
                    name: action.to_owned(),
                });
            }
        };
        match errno {
            Some(errno) => Err(Error::ErrnoWithoutUse {
                errno,
                action: action.to_owned(),
            }),
            None => Ok(verdict),
        }
    }
}

/// A comparison of one argument with constants.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Compare {
    Equal(u64),
    NotEqual(u64),
    Less(u64),
    LessOrEqual(u64),
    Greater(u64),
    GreaterOrEqual(u64),
    Masked { mask: u64, value: u64 },
}

/// A comparison and the argument (0 to 5) it is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Condition {
    pub(super) argument: u32,
    pub(super) compare: Compare,
}

/// One entry of `syscalls`.
#[derive(Debug)]
pub(super) struct Rule<'a> {
    pub(super) names: Vec<Name<'a>>,
    pub(super) verdict: Verdict,
    /// Any of these matches, all of whose conditions must hold; empty: always matches.
    pub(super) alternatives: Vec<Vec<Condition>>,
}

/// A profile in numbers.
#[derive(Debug)]
pub(super) struct Profile<'a> {
    pub(super) architectures: Vec<Arch>,
    pub(super) default: Verdict,
    pub(super) rules: Vec<Rule<'a>>,
    pub(super) flags: u64,
}

impl<'a> Profile<'a> {
    /// Reads `profile` for a kernel of architecture `native`.
    pub(super) fn parse(profile: &'a spec::Seccomp, native: Arch) -> Result<Profile<'a>, Error> {
        let default = Verdict::parse(&profile.default_action, profile.default_errno_ret)?;
        if default == Verdict::NOTIFY {
            return Err(Error::NotifyByDefault);
        }
        let mut architectures = vec![native];
        for name in &profile.architectures {
            if let Some(arch) = Arch::parse(name)?
                && native.family().contains(&arch)
                && !architectures.contains(&arch)
            {
                architectures.push(arch);
            }
        }
        let rules = profile.syscalls.iter().enumerate();
        let rules = rules
            .map(|(index, entry)| Rule::parse(index, entry))
            .collect::<Result<Vec<_>, _>>()?;
        Ok(Profile {
            architectures,
            default,
            rules,
            flags: flags(profile)?,
        })
    }
}

impl<'a> Rule<'a> {
    fn parse(index: usize, entry: &'a spec::SeccompSyscall) -> Result<Rule<'a>, Error> {
        let verdict = Verdict::parse(&entry.action, entry.errno_ret)?;
        let first = match entry.names.first() {
            Some(first) if entry.names.iter().all(|name| !name.is_empty()) => first,
            _ => return Err(Error::NoNames { index }),
        };
        if verdict == Verdict::NOTIFY && entry.names.iter().any(|name| name == "write") {
            return Err(Error::NotifyOnWrite);
        }
        let conditions = entry.args.iter().map(|arg| condition(arg, first));
        let conditions = conditions.collect::<Result<Vec<_>, _>>()?;
        Ok(Rule {
            names: entry.names.iter().map(|name| Name::new(name)).collect(),
            verdict,
            alternatives: alternatives(conditions),
        })
    }

    pub(super) fn notifies(&self) -> bool {
        self.verdict == Verdict::NOTIFY
    }
}

/// All conditions of an entry must hold, except when two are about one argument: then each is a
/// rule of its own, as Docker's first profiles meant it and as every runtime has kept it.
fn alternatives(conditions: Vec<Condition>) -> Vec<Vec<Condition>> {
    let mut seen = 0u8;
    let mut repeated = false;
    for condition in &conditions {
        repeated |= seen & (1 << condition.argument) != 0;
        seen |= 1 << condition.argument;
    }
    match conditions {
        none if none.is_empty() => Vec::new(),
        each if repeated => each.into_iter().map(|condition| vec![condition]).collect(),
        all => vec![all],
    }
}

fn condition(arg: &spec::SeccompArg, syscall: &str) -> Result<Condition, Error> {
    if arg.index > 5 {
        return Err(Error::ArgumentIndex {
            index: arg.index,
            syscall: syscall.to_owned(),
        });
    }
    let value = arg.value;
    let compare = match arg.op.as_str() {
        "SCMP_CMP_EQ" => Compare::Equal(value),
        "SCMP_CMP_NE" => Compare::NotEqual(value),
        "SCMP_CMP_LT" => Compare::Less(value),
        "SCMP_CMP_LE" => Compare::LessOrEqual(value),
        "SCMP_CMP_GT" => Compare::Greater(value),
        "SCMP_CMP_GE" => Compare::GreaterOrEqual(value),
        "SCMP_CMP_MASKED_EQ" => Compare::Masked {
            mask: value,
            value: arg.value_two,
        },
        name => {
            let (name, syscall) = (name.to_owned(), syscall.to_owned());
            return Err(Error::UnknownOperator { name, syscall });
        }
    };
    Ok(Condition {
        argument: arg.index,
        compare,
    })
}

/// The flags to load with. A profile that does not say gets SPEC_ALLOW: the mitigation it turns
/// off costs far more than it protects here, and kernels since 5.16 leave it off anyway.
fn flags(profile: &spec::Seccomp) -> Result<u64, Error> {
    let Some(names) = &profile.flags else {
        return Ok(load::SPEC_ALLOW);
    };
    names.iter().try_fold(0, |flags, name| match name.as_str() {
        "SECCOMP_FILTER_FLAG_TSYNC" => Ok(flags | load::TSYNC),
        "SECCOMP_FILTER_FLAG_LOG" => Ok(flags | load::LOG),
        "SECCOMP_FILTER_FLAG_SPEC_ALLOW" => Ok(flags | load::SPEC_ALLOW),
        "SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV" => Ok(flags | load::WAIT_KILLABLE_RECV),
        _ => Err(Error::UnknownFlag { name: name.clone() }),
    })
}
