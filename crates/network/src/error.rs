//! The errors of this crate: what was done, to which object, and the cause in the system's words.
//! Built where the facts are known; callers match on the variant, people read the message.

use std::io;
use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use crate::PortMapping;

/// Result with this crate's [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why the network cannot take pods, in words for the node's operator.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{reason}")]
pub struct NotReady {
    /// What is missing or wrong, and where.
    pub reason: String,
}

/// Anything that can go wrong with a pod's network.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A netlink request failed.
    #[error(transparent)]
    Netlink(#[from] netlink::Error),
    /// A network namespace could not be opened or entered.
    #[error("network namespace {}: {operation}: {source}", .path.display())]
    Netns {
        /// The namespace's path.
        path: PathBuf,
        /// What failed.
        operation: &'static str,
        /// The errno.
        source: io::Error,
    },
    /// A file operation failed.
    #[error("{operation} {}: {source}", .path.display())]
    File {
        /// What was done ("write").
        operation: &'static str,
        /// To which file.
        path: PathBuf,
        /// The errno.
        source: io::Error,
    },
    /// A CNI configuration cannot be used.
    #[error("network {network:?}: {field}: {reason}")]
    Config {
        /// Name of the network, or the file before a name is known.
        network: String,
        /// The key that is wrong, as a path into the JSON.
        field: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The request itself cannot be met.
    #[error("pod {id:?}: {reason}")]
    Request {
        /// The pod.
        id: String,
        /// What is wrong with the request.
        reason: &'static str,
    },
    /// All addresses of a range are in use.
    #[error("network {network:?}: no free address in {ranges}: {} has a file for each one in use", .dir.display())]
    Exhausted {
        /// Name of the network.
        network: String,
        /// The ranges that were searched.
        ranges: String,
        /// Where addresses in use are kept.
        dir: PathBuf,
    },
    /// An address that is asked for is in use.
    #[error("requested ip address {ip} is already allocated to container ID {owner}")]
    AddressTaken {
        /// The address.
        ip: IpAddr,
        /// Whose it is.
        owner: String,
    },
    /// An address that is asked for is in none of the network's subnets.
    #[error("requested static ip {ip} not in any subnet on network {network}")]
    NotInNetwork {
        /// Name of the network.
        network: String,
        /// The address.
        ip: IpAddr,
    },
    /// The plugins of a network gave the pod no address.
    #[error("network {network:?}: its plugins gave the pod no IP address")]
    NoAddress {
        /// Name of the network.
        network: String,
    },
    /// A host port leads to another pod already.
    #[error("host port {mapping} is already in use by pod {owner:?}")]
    PortTaken {
        /// The mapping that was asked for.
        mapping: PortMapping,
        /// The pod that has it.
        owner: String,
    },
    /// One request maps a host port twice.
    #[error("pod {id:?}: host port {mapping} is asked for twice")]
    PortTwice {
        /// The pod.
        id: String,
        /// The second mapping of the port.
        mapping: PortMapping,
    },
    /// One request maps more host ports than there are.
    #[error("pod {id:?}: {count} host ports are asked for, and {max} is the most")]
    TooManyPorts {
        /// The pod.
        id: String,
        /// How many it wants.
        count: usize,
        /// How many it may have.
        max: usize,
    },
    /// A plugin is neither built in nor installed.
    #[error("network {network:?}: plugin {plugin:?} is not built in and not found in {dirs}{}", Detail(.reason))]
    PluginMissing {
        /// Name of the network.
        network: String,
        /// The plugin's type.
        plugin: String,
        /// Where it was looked for.
        dirs: String,
        /// For a plugin that is built in: what it cannot do.
        reason: Option<String>,
    },
    /// A plugin could not be run.
    #[error("network {network:?}: plugin {plugin:?} {command}: {operation}: {source}")]
    PluginRun {
        /// Name of the network.
        network: String,
        /// The plugin's type.
        plugin: String,
        /// `CNI_COMMAND`.
        command: &'static str,
        /// What failed ("start").
        operation: &'static str,
        /// The errno.
        source: io::Error,
    },
    /// A plugin took too long and was killed.
    #[error("network {network:?}: plugin {plugin:?} {command}: no answer within {} s, killed", .limit.as_secs())]
    PluginTimeout {
        /// Name of the network.
        network: String,
        /// The plugin's type.
        plugin: String,
        /// `CNI_COMMAND`.
        command: &'static str,
        /// The time it had.
        limit: Duration,
    },
    /// A plugin failed.
    #[error("network {network:?}: plugin {plugin:?} {command} failed ({}): {message}{}", How(*.code), Detail(.details))]
    PluginFailed {
        /// Name of the network.
        network: String,
        /// The plugin's type.
        plugin: String,
        /// `CNI_COMMAND`.
        command: &'static str,
        /// CNI error code, or the exit status when the plugin printed no error; `None` when a signal
        /// ended it.
        code: Option<u32>,
        /// The plugin's message.
        message: String,
        /// The plugin's details, where it gave some.
        details: Option<String>,
    },
    /// A plugin's result could not be understood.
    #[error("network {network:?}: plugin {plugin:?} {command}: cannot read its result: {source}")]
    PluginResult {
        /// Name of the network.
        network: String,
        /// The plugin's type.
        plugin: String,
        /// `CNI_COMMAND`.
        command: &'static str,
        /// What is wrong with the JSON.
        source: serde_json::Error,
    },
    /// The bridge cannot be removed while pods use it.
    #[error("network still in use by {} pod(s): {}", .pods.len(), .pods.join(", "))]
    InUse {
        /// Ids of the attached pods.
        pods: Vec<String>,
    },
    /// No network can be used.
    #[error(transparent)]
    NotReady(#[from] NotReady),
    /// Clean-up went on past failures; these remain.
    #[error("{} part(s) of the network of pod {id:?} could not be removed: {}", .errors.len(), Joined(.errors))]
    Teardown {
        /// The pod.
        id: String,
        /// What failed, in order.
        errors: Vec<Error>,
    },
}

impl Error {
    /// Whether the request itself is at fault: the same one will never be met.
    #[must_use]
    pub fn is_request(&self) -> bool {
        matches!(
            self,
            Error::Request { .. }
                | Error::PortTwice { .. }
                | Error::TooManyPorts { .. }
                | Error::NotInNetwork { .. }
        )
    }

    /// The errno of a refused netlink request, for callers that take one of them as an answer.
    pub(crate) fn errno(&self) -> Option<i32> {
        match self {
            Error::Netlink(error) => error.errno(),
            _ => None,
        }
    }

    /// An answer of the kernel that lacks what was asked for.
    pub(crate) fn answer(
        operation: &'static str,
        object: impl Into<String>,
        what: &'static str,
    ) -> Self {
        Error::Netlink(netlink::Error::Answer {
            operation,
            object: object.into(),
            what,
        })
    }

    /// A [`Error::File`] for `map_err`.
    pub(crate) fn file(
        operation: &'static str,
        path: impl Into<PathBuf>,
    ) -> impl FnOnce(io::Error) -> Error {
        let path = path.into();
        move |source| Error::File {
            operation,
            path,
            source,
        }
    }

    /// A [`Error::Config`].
    pub(crate) fn config(
        network: &str,
        field: impl Into<String>,
        reason: impl Into<String>,
    ) -> Error {
        Error::Config {
            network: network.to_owned(),
            field: field.into(),
            reason: reason.into(),
        }
    }
}

/// Prints " (TEXT)" for an explanation that may be missing.
struct Detail<'a>(&'a Option<String>);

impl std::fmt::Display for Detail<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.0 {
            Some(text) if !text.is_empty() => write!(f, " ({text})"),
            _ => Ok(()),
        }
    }
}

/// Prints how a plugin said that it failed.
struct How(Option<u32>);

impl std::fmt::Display for How {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.0 {
            Some(code) => write!(f, "code {code}"),
            None => f.write_str("killed"),
        }
    }
}

/// Prints several errors on one line.
struct Joined<'a>(&'a [Error]);

impl std::fmt::Display for Joined<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for (index, error) in self.0.iter().enumerate() {
            if index > 0 {
                f.write_str("; ")?;
            }
            write!(f, "{error}")?;
        }
        Ok(())
    }
}
