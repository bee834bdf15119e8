//! config-linux.md, seccomp.

use serde::{Deserialize, Serialize};

use super::null_is_default;

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
    #[serde(deserialize_with = "null_is_default")]
    pub names: Vec<String>,
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
