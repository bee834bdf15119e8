//! What can go wrong in the engine, as values a face (CRI or command line) can act on.
//! One place turns [`Kind`] into a gRPC code (crate `server`) or an exit code (crate `floe`);
//! nothing here knows of either.

use std::path::PathBuf;

/// The engine's result.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// The class of a failure: all that a caller may need to decide what to do next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// The named pod, container or image does not exist.
    NotFound,
    /// The name is taken by another object.
    AlreadyExists,
    /// The request can never succeed as it is.
    InvalidArgument,
    /// The object is in the wrong state for the verb.
    FailedPrecondition,
    /// Credentials are missing, wrong, or the policy refuses.
    PermissionDenied,
    /// A registry, the network or a pod's supervisor does not answer now; a later try may succeed.
    Unavailable,
    /// No space, no address or a quota is used up.
    ResourceExhausted,
    /// The time that the caller gave is over.
    DeadlineExceeded,
    /// What is asked for is not built.
    Unimplemented,
    /// Anything else: a fault of the host or of floe.
    Internal,
}

/// A failure of an engine verb. The message names what, which and why.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No object of that kind answers to that name.
    #[error("{what} {name:?} does not exist")]
    NotFound {
        /// `pod`, `container` or `image`.
        what: &'static str,
        /// The name or id as the user wrote it.
        name: String,
    },
    /// A short id or name fits more than one object.
    #[error("{what} {name:?} is ambiguous: it fits {count} objects; give more of the id")]
    Ambiguous {
        /// `pod`, `container` or `image`.
        what: &'static str,
        /// The prefix as the user wrote it.
        name: String,
        /// How many objects it fits.
        count: usize,
    },
    /// The name is taken.
    #[error(
        "{what} name {name:?} is in use by {holder}: remove that one first or choose another name"
    )]
    NameTaken {
        /// `pod` or `container`.
        what: &'static str,
        /// The name asked for.
        name: String,
        /// The id of the object that has it.
        holder: String,
    },
    /// A field of the request cannot be accepted.
    #[error("{field}: {reason}")]
    Invalid {
        /// The field, as the specification of the request names it.
        field: String,
        /// Why.
        reason: String,
    },
    /// The verb does not fit the state.
    #[error("cannot {verb} {what} {id}: it is {state}")]
    State {
        /// The verb.
        verb: &'static str,
        /// `pod` or `container`.
        what: &'static str,
        /// Its id.
        id: String,
        /// The state it is in, in words.
        state: String,
    },
    /// An image cannot be removed while containers use it.
    #[error("image {image} is in use by container {container}: remove the container first")]
    ImageInUse {
        /// The image as named.
        image: String,
        /// One container that uses it.
        container: String,
    },
    /// A volume cannot be removed while containers use it.
    #[error("volume {name} is being used by the following container(s): {}: volume is being used", users.join(", "))]
    VolumeInUse {
        /// The volume.
        name: String,
        /// The ids of the containers.
        users: Vec<String>,
    },
    /// A network cannot be removed while pods are to be on it.
    #[error(
        "{name:?} has associated containers with it. Use -f to forcibly delete containers and pods: network is being used"
    )]
    NetworkInUse {
        /// The network.
        name: String,
    },
    /// What is asked for cannot be, in the words that people's scripts compare.
    #[error("{0}")]
    Refused(String),
    /// The files of an image could not be mounted as a volume. kubelet counts these by the first word.
    #[error("ImageVolumeMountFailed: image {image}: {source}")]
    ImageVolume {
        /// The image as named.
        image: String,
        /// Why.
        source: Box<Error>,
    },
    /// What is asked for is beyond the pod's runtime handler.
    #[error("the runtime handler {handler:?} does not support {what}")]
    Lacking {
        /// The handler's name.
        handler: String,
        /// What it lacks.
        what: std::borrow::Cow<'static, str>,
    },
    /// The pod's runtime handler is not in the configuration any more.
    #[error(
        "the pod's runtime handler {handler:?} is not configured any more: add it again, or remove the pod"
    )]
    HandlerGone {
        /// The handler's name.
        handler: String,
    },
    /// A feature of the request that is not built.
    #[error("{0} is not supported by this version of floe")]
    Unsupported(String),
    /// The time of a verb is over, or its caller has left. What it did is taken back.
    #[error("{verb} {id}: {why}")]
    TimeOver {
        /// The verb.
        verb: &'static str,
        /// The pod or container.
        id: String,
        /// Which of both, in words.
        why: String,
    },
    /// Checkpoints need criu.
    #[error("criu is not installed, or not on PATH: checkpoints need it (Debian: criu)")]
    NoCriu,
    /// The exec'd command did not end in time and was killed.
    #[error("exec in container {id}: the command did not end within {seconds} s and was killed")]
    ExecTimeout {
        /// The container.
        id: String,
        /// The limit in seconds.
        seconds: u64,
    },
    /// The container's program could not be started.
    #[error("start container {id}: {message}")]
    Start {
        /// The container.
        id: String,
        /// The runtime's words.
        message: String,
        /// 127 not found, 126 not executable, 128 anything else.
        exit_code: u8,
    },
    /// A command could not be executed in a container.
    #[error("exec in container {id}: {message}")]
    Exec {
        /// The container.
        id: String,
        /// The runtime's words.
        message: String,
        /// 127 not found, 126 not executable, 128 anything else.
        exit_code: u8,
    },
    /// More calls of one kind are under way in a pod than it may have.
    #[error("pod {pod} is busy: {count} {what} are under way in it already; try again later")]
    Busy {
        /// The pod.
        pod: String,
        /// How many.
        count: usize,
        /// Of what.
        what: &'static str,
    },
    /// A file or directory operation failed.
    #[error("{operation} {path}: {source}")]
    Io {
        /// The operation, such as `write`.
        operation: &'static str,
        /// On what.
        path: PathBuf,
        /// The cause.
        source: std::io::Error,
    },
    /// A record on disk is not what floe writes.
    #[error("read {path}: {reason}")]
    Record {
        /// The record.
        path: PathBuf,
        /// Why it cannot be read.
        reason: String,
    },
    /// The configuration cannot be used.
    #[error("configuration {origin}: {reason}")]
    Config {
        /// The file, and line if known.
        origin: String,
        /// Why.
        reason: String,
    },
    /// The pod's network could not be made or taken down.
    #[error("network of pod {pod}: {source}")]
    Network {
        /// The pod.
        pod: String,
        /// The cause.
        source: Box<network::Error>,
    },
    /// The pod supervisor or the runtime below it failed.
    #[error("{verb} {id}: {source}")]
    Supervisor {
        /// What was tried.
        verb: &'static str,
        /// The pod or container.
        id: String,
        /// The cause.
        source: supervisor::Error,
    },
    /// A shim or its program failed.
    #[error(transparent)]
    Shim(shim::Error),
    /// A plugin of the node does not let it be done.
    #[error(transparent)]
    Plugin(nri::Error),
    /// The cgroup of a container could not be read or changed.
    #[error("cgroup of {id}: {source}")]
    Cgroup {
        /// The container or pod.
        id: String,
        /// The cause.
        source: runtime::cgroup::Error,
    },
    /// The image store failed.
    #[error("image store: {0}")]
    Store(#[from] store::Error),
    /// An image could not be fetched.
    #[error("pull {image}: {source}")]
    Pull {
        /// The reference as the user wrote it.
        image: String,
        /// The cause.
        source: Box<distribution::Error>,
    },
    /// No registry that a short name may mean has given the image.
    #[error("{name}: {}", failures.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "))]
    PullShort {
        /// The name as the user wrote it.
        name: String,
        /// What each registry that was asked came to, in order; never empty.
        failures: Vec<Error>,
    },
}

impl Error {
    /// The class of the failure.
    #[must_use]
    pub fn kind(&self) -> Kind {
        match self {
            Self::NotFound { .. } => Kind::NotFound,
            Self::NameTaken { .. } => Kind::AlreadyExists,
            Self::Ambiguous { .. } | Self::Invalid { .. } | Self::Refused(_) => {
                Kind::InvalidArgument
            }
            Self::State { .. }
            | Self::ImageInUse { .. }
            | Self::VolumeInUse { .. }
            | Self::NetworkInUse { .. }
            | Self::HandlerGone { .. }
            | Self::NoCriu => Kind::FailedPrecondition,
            Self::Unsupported(_) | Self::Lacking { .. } => Kind::Unimplemented,
            Self::ExecTimeout { .. } | Self::TimeOver { .. } => Kind::DeadlineExceeded,
            Self::Exec { .. } => Kind::InvalidArgument,
            Self::ImageVolume { source, .. } => source.kind(),
            Self::Busy { .. } => Kind::ResourceExhausted,
            Self::Supervisor { source, .. } => supervisor_kind(source),
            Self::Shim(error) => shim_kind(error),
            Self::Plugin(error) => plugin_kind(error),
            Self::Cgroup { source, .. } => cgroup_kind(source),
            Self::Network { source, .. } => network_kind(source),
            Self::Pull { source, .. } => image_kind(source),
            // Where one is away, the image may be there.
            Self::PullShort { failures, .. } => {
                let last = failures.last().map_or(Kind::NotFound, Error::kind);
                let mut kinds = failures.iter().map(Error::kind);
                match last == Kind::NotFound && kinds.any(|kind| kind == Kind::Unavailable) {
                    true => Kind::Unavailable,
                    false => last,
                }
            }
            Self::Store(error) if error.is_no_space() => Kind::ResourceExhausted,
            Self::Store(store::Error::Artifact { .. }) => Kind::InvalidArgument,
            Self::Store(error) if error.is_busy() => Kind::Unavailable,
            Self::Io { source, .. } if source.raw_os_error() == Some(libc::ENOSPC) => {
                Kind::ResourceExhausted
            }
            Self::Io { source, .. } if source.kind() == std::io::ErrorKind::TimedOut => {
                Kind::Unavailable
            }
            Self::Start { .. }
            | Self::Io { .. }
            | Self::Record { .. }
            | Self::Config { .. }
            | Self::Store(_) => Kind::Internal,
        }
    }

    /// Does the supervisor say that the verb does not fit the container's state? It may be on its
    /// way to another state, of which no record tells yet.
    #[must_use]
    pub fn is_supervisors_state(&self) -> bool {
        matches!(
            self,
            Self::Supervisor {
                source: supervisor::Error::State { .. },
                ..
            }
        )
    }

    /// Did the signature policy refuse the image? Kubelet shows that apart from other refusals.
    #[must_use]
    pub fn is_policy(&self) -> bool {
        if let Self::PullShort { failures, .. } = self {
            return failures.last().is_some_and(Self::is_policy);
        }
        matches!(self, Self::Pull { source, .. } if matches!(
            source.deciding(),
            distribution::Error::Trust(error) if error.is_refusal()
        ))
    }

    /// Is what was read not what floe writes? A lack of files or memory is no damage.
    pub(crate) fn is_damage(&self) -> bool {
        let lasting = |source: &std::io::Error| {
            let code = source.raw_os_error().unwrap_or(0);
            ![libc::EMFILE, libc::ENFILE, libc::ENOMEM, libc::EINTR].contains(&code)
        };
        match self {
            Self::Record { .. } => true,
            Self::Io { source, .. } => lasting(source),
            Self::Supervisor { source, .. } => matches!(source, supervisor::Error::Record { .. }),
            _ => false,
        }
    }

    /// A field that cannot be accepted.
    pub(crate) fn invalid(field: impl Into<String>, reason: impl Into<String>) -> Self {
        Self::Invalid {
            field: field.into(),
            reason: reason.into(),
        }
    }

    /// An I/O failure with its place.
    pub(crate) fn io(
        operation: &'static str,
        path: impl Into<PathBuf>,
    ) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.into();
        move |source| Self::Io {
            operation,
            path,
            source,
        }
    }
}

/// What the configuration asks of a cgroup, or the host cannot do.
fn cgroup_kind(error: &runtime::cgroup::Error) -> Kind {
    use runtime::cgroup::Error as E;
    match error {
        E::MemoryInUse { .. } => Kind::FailedPrecondition,
        error if error.is_of_request() => Kind::InvalidArgument,
        _ => Kind::Internal,
    }
}

fn network_kind(error: &network::Error) -> Kind {
    use network::Error as E;
    match error {
        _ if error.is_request() => Kind::InvalidArgument,
        E::PortTaken { .. } => Kind::FailedPrecondition,
        E::Exhausted { .. } => Kind::ResourceExhausted,
        E::File { source, .. } if source.raw_os_error() == Some(libc::ENOSPC) => {
            Kind::ResourceExhausted
        }
        E::NotReady(_) => Kind::Unavailable,
        _ => Kind::Internal,
    }
}

/// A supervisor knows of states and bad requests what the engine's records cannot tell. Its silence
/// must not look like the deadline of a probe, upon which kubelet kills.
fn supervisor_kind(error: &supervisor::Error) -> Kind {
    use supervisor::Error as E;
    match error {
        E::Silent { .. } | E::Gone { .. } => Kind::Unavailable,
        E::State { .. } => Kind::FailedPrecondition,
        E::Invalid { .. } | E::Sysctl { .. } => Kind::InvalidArgument,
        E::Unsupported { .. } => Kind::Unimplemented,
        // The request names a place in a directory that its client has not made.
        E::Io {
            operation, source, ..
        } if operation == "create log" => match source.raw_os_error() {
            Some(libc::ENOENT | libc::ENOTDIR | libc::EISDIR | libc::ENAMETOOLONG) => {
                Kind::InvalidArgument
            }
            _ => Kind::Internal,
        },
        _ => Kind::Internal,
    }
}

/// A shim knows of states and bad requests what the engine's records cannot tell. Its silence is no
/// deadline, as a supervisor's is none.
fn shim_kind(error: &shim::Error) -> Kind {
    use shim::{Code, Error as E};
    match error {
        E::Silent { .. } | E::Gone { .. } => Kind::Unavailable,
        E::Refused { code, .. } => match code {
            Code::InvalidArgument | Code::OutOfRange => Kind::InvalidArgument,
            Code::NotFound | Code::AlreadyExists | Code::FailedPrecondition => {
                Kind::FailedPrecondition
            }
            Code::ResourceExhausted => Kind::ResourceExhausted,
            Code::Unavailable => Kind::Unavailable,
            Code::Unimplemented => Kind::Unimplemented,
            _ => Kind::Internal,
        },
        _ => Kind::Internal,
    }
}

/// A validator is a policy; what plugins want otherwise may be another thing at the next try.
fn plugin_kind(error: &nri::Error) -> Kind {
    use nri::Error as E;
    match error {
        E::Rejected { .. } => Kind::PermissionDenied,
        E::Refused { .. } | E::Conflict { .. } => Kind::FailedPrecondition,
        _ => Kind::Internal,
    }
}

fn image_kind(error: &distribution::Error) -> Kind {
    use distribution::Error as E;
    match error.deciding() {
        E::NotFound { .. } | E::Image(image::Error::PlatformMissing { .. }) => Kind::NotFound,
        E::Unauthorized { .. } | E::Blocked { .. } => Kind::PermissionDenied,
        E::Trust(error) if error.is_refusal() => Kind::PermissionDenied,
        E::RateLimited { .. } => Kind::ResourceExhausted,
        E::ServerError { .. } | E::Unreachable { .. } | E::Truncated { .. } => Kind::Unavailable,
        E::Image(image::Error::Reference { .. } | image::Error::Digest { .. })
        | E::ShortName { .. } => Kind::InvalidArgument,
        _ => Kind::Internal,
    }
}
