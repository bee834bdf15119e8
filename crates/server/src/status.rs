//! Errors to gRPC statuses: the one place. kubelet acts on few codes (NOT_FOUND: treat as gone;
//! DEADLINE_EXCEEDED: a probe timed out; UNIMPLEMENTED: do without). The reason of a failed pull it
//! takes from the word that the message begins with, and it looks for that word only in errors of
//! code UNKNOWN: of all others it reads the code first.

use engine::{Error, Kind};
use tonic::{Code, Status};

/// The status of an engine's error, with its message.
pub(crate) fn of(error: Error) -> Status {
    match word(&error) {
        Some(word) => Status::unknown(format!("{word}: {error}")),
        None => Status::new(code(error.kind()), error.to_string()),
    }
}

/// The status of an RPC that is in the schema and not built.
pub(crate) fn unimplemented(rpc: &str) -> Status {
    Status::unimplemented(format!("{rpc} is not implemented by this version of floe"))
}

/// The status of work that ended without an outcome: it panicked.
pub(crate) fn lost(rpc: &str) -> Status {
    Status::internal(format!("{rpc} failed inside floe: its log has more"))
}

/// The status of an RPC that comes when serving has ended.
pub(crate) fn ending(rpc: &str) -> Status {
    Status::unavailable(format!("{rpc}: floe is ending; try again"))
}

fn code(kind: Kind) -> Code {
    match kind {
        Kind::NotFound => Code::NotFound,
        Kind::AlreadyExists => Code::AlreadyExists,
        Kind::InvalidArgument => Code::InvalidArgument,
        Kind::FailedPrecondition => Code::FailedPrecondition,
        Kind::PermissionDenied => Code::PermissionDenied,
        Kind::Unavailable => Code::Unavailable,
        Kind::ResourceExhausted => Code::ResourceExhausted,
        Kind::DeadlineExceeded => Code::DeadlineExceeded,
        Kind::Unimplemented => Code::Unimplemented,
        Kind::Internal => Code::Internal,
    }
}

/// The word by which kubelet knows why an image is not there.
fn word(error: &Error) -> Option<&'static str> {
    match error {
        Error::Pull { .. } if error.is_policy() => Some("SignatureValidationFailed"),
        Error::Pull { .. } if error.kind() == Kind::Unavailable => Some("RegistryUnavailable"),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_absent_is_not_found_by_the_name_the_user_wrote() {
        let status = of(Error::NotFound {
            what: "pod",
            name: "abc".into(),
        });
        assert_eq!(status.code(), Code::NotFound);
        assert!(status.message().contains("abc"), "{}", status.message());
    }

    #[test]
    fn a_probe_that_ran_out_of_time_is_deadline_exceeded() {
        let status = of(Error::ExecTimeout {
            id: "c".into(),
            seconds: 3,
        });
        assert_eq!(status.code(), Code::DeadlineExceeded);
    }

    #[test]
    fn a_bad_field_is_named() {
        let status = of(Error::Invalid {
            field: "config.metadata".into(),
            reason: "is missing".into(),
        });
        assert_eq!(status.code(), Code::InvalidArgument);
        assert_eq!(status.message(), "config.metadata: is missing");
    }

    #[test]
    fn an_rpc_that_is_not_built_says_its_name() {
        let status = unimplemented("CheckpointContainer");
        assert_eq!(status.code(), Code::Unimplemented);
        assert!(status.message().contains("CheckpointContainer"));
    }
}
