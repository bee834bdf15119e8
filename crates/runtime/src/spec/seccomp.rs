//! config-linux.md, seccomp.

use std::borrow::Cow;
use std::fmt;

use serde::de::{Deserializer, Error, SeqAccess, Visitor};
use serde::{Deserialize, Serialize};

use super::null_is_default;
use crate::seccomp;

/// A system call filter. Names are libseccomp's.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Seccomp {
    /// For calls that no rule matches: `SCMP_ACT_ERRNO`, …
    pub default_action: String,
    /// errno of that action.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub default_errno_ret: Option<u32>,
    /// `SCMP_ARCH_X86_64`, …
    #[serde(
        skip_serializing_if = "Vec::is_empty",
        deserialize_with = "null_is_default"
    )]
    pub architectures: Vec<String>,
    /// `SECCOMP_FILTER_FLAG_LOG`, …; absent is not the same as empty.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub flags: Option<Vec<String>>,
    /// Socket of the agent that gets notifications.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub listener_path: String,
    /// Sent to the agent as it is.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub listener_metadata: String,
    /// Rules, in order.
    #[serde(
        skip_serializing_if = "Vec::is_empty",
        deserialize_with = "null_is_default"
    )]
    pub syscalls: Vec<SeccompSyscall>,
}

/// One rule.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct SeccompSyscall {
    /// The calls.
    #[serde(deserialize_with = "names")]
    pub names: Vec<Cow<'static, str>>,
    /// What to do.
    pub action: String,
    /// errno of that action.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub errno_ret: Option<u32>,
    /// Conditions.
    #[serde(
        skip_serializing_if = "Vec::is_empty",
        deserialize_with = "null_is_default"
    )]
    pub args: Vec<SeccompArg>,
}

/// A condition on one argument.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct SeccompArg {
    /// 0 to 5
    pub index: u32,
    /// Compared with; the mask for `SCMP_CMP_MASKED_EQ`.
    pub value: u64,
    /// Compared with after masking.
    pub value_two: u64,
    /// `SCMP_CMP_EQ`, …
    pub op: String,
}

/// The names of a rule. A profile has hundreds in one, and is read for each container: the list does not
/// grow by doubling, and names that the kernel's table has are taken from there instead of being copied.
fn names<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<Cow<'static, str>>, D::Error> {
    /// A rule of more is the one that allows the most.
    const FEW: usize = 16;
    const MANY: usize = 512;
    struct Reader;
    impl<'de> Visitor<'de> for Reader {
        type Value = Vec<Cow<'static, str>>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("names of system calls")
        }

        fn visit_unit<E: Error>(self) -> Result<Self::Value, E> {
            Ok(Vec::new())
        }

        fn visit_seq<A: SeqAccess<'de>>(self, mut read: A) -> Result<Self::Value, A::Error> {
            let mut names = Vec::new();
            while let Some(CallName(name)) = read.next_element()? {
                if names.len() == FEW {
                    names.reserve_exact(MANY);
                }
                names.push(name);
            }
            Ok(names)
        }
    }
    deserializer.deserialize_any(Reader)
}

struct CallName(Cow<'static, str>);

impl<'de> Deserialize<'de> for CallName {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Reader;
        impl Visitor<'_> for Reader {
            type Value = CallName;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("the name of a system call")
            }

            fn visit_str<E: Error>(self, name: &str) -> Result<CallName, E> {
                let known = seccomp::known_name(name).map(Cow::Borrowed);
                Ok(CallName(
                    known.unwrap_or_else(|| Cow::Owned(name.to_owned())),
                ))
            }
        }
        deserializer.deserialize_str(Reader)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_calls_are_taken_as_they_are_and_known_ones_are_not_copied() {
        let text = r#"{"names":["read","no_such_call","openat2",""],"action":"SCMP_ACT_ALLOW"}"#;
        let rule: SeccompSyscall = serde_json::from_str(text).unwrap();
        assert_eq!(rule.names, ["read", "no_such_call", "openat2", ""]);
        let copied = rule.names.iter().map(|name| matches!(name, Cow::Owned(_)));
        assert_eq!(copied.collect::<Vec<_>>(), [false, true, false, true]);
        assert_eq!(serde_json::to_string(&rule).unwrap(), text);
        let none: SeccompSyscall = serde_json::from_str(r#"{"names":null}"#).unwrap();
        assert!(none.names.is_empty());
        assert!(serde_json::from_str::<SeccompSyscall>(r#"{"names":[7]}"#).is_err());
    }
}
