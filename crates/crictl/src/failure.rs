//! Why a verb failed: the words, and with which code the program ends. crictl's codes are 1 for whatever
//! failed, and 0 where it shows its help instead; `validate` and `bench`, which are not crictl's, have 2 for what
//! could not be begun.

use std::fmt::Display;

use tonic::Status;

/// Why a verb has not done what was asked.
#[derive(Debug)]
pub(crate) enum Failure {
    /// Told as crictl's log tells errors.
    Said(String),
    /// Told as it is.
    Plain(String),
    /// Words are missing or too many: the verb's help says what it wants. No failure, for crictl.
    Help,
    /// The same, and the program ends with this code.
    Coded(u8, String),
    /// The person has interrupted what would have gone on for ever.
    Over,
}

/// What verbs give.
pub(crate) type Outcome<T = ()> = Result<T, Failure>;

impl Failure {
    /// One that is told as crictl's log tells errors.
    pub(crate) fn new(words: impl Display) -> Self {
        Self::Said(words.to_string())
    }
}

impl From<Status> for Failure {
    /// As grpc-go writes errors: scripts look for `code = NotFound`.
    fn from(status: Status) -> Self {
        let code = code(status.code());
        Self::Said(format!(
            "rpc error: code = {code} desc = {}",
            status.message()
        ))
    }
}

impl From<std::io::Error> for Failure {
    fn from(error: std::io::Error) -> Self {
        Self::new(error)
    }
}

/// grpc-go's names.
pub(crate) fn code(code: tonic::Code) -> &'static str {
    use tonic::Code as C;
    match code {
        C::Ok => "OK",
        C::Cancelled => "Canceled",
        C::Unknown => "Unknown",
        C::InvalidArgument => "InvalidArgument",
        C::DeadlineExceeded => "DeadlineExceeded",
        C::NotFound => "NotFound",
        C::AlreadyExists => "AlreadyExists",
        C::PermissionDenied => "PermissionDenied",
        C::ResourceExhausted => "ResourceExhausted",
        C::FailedPrecondition => "FailedPrecondition",
        C::Aborted => "Aborted",
        C::OutOfRange => "OutOfRange",
        C::Unimplemented => "Unimplemented",
        C::Internal => "Internal",
        C::Unavailable => "Unavailable",
        C::DataLoss => "DataLoss",
        C::Unauthenticated => "Unauthenticated",
    }
}

/// What was being done when something failed.
pub(crate) trait Context<T> {
    /// Puts words before those of the failure.
    fn context(self, words: impl Display) -> Outcome<T>;
}

impl<T, E: Into<Failure>> Context<T> for Result<T, E> {
    fn context(self, words: impl Display) -> Outcome<T> {
        self.map_err(|error| match error.into() {
            Failure::Said(why) => Failure::Said(format!("{words}: {why}")),
            other => other,
        })
    }
}

/// The failures of several things that were done at once, as one.
pub(crate) fn all(outcomes: impl IntoIterator<Item = Outcome>) -> Outcome {
    let mut words = Vec::new();
    for outcome in outcomes {
        match outcome {
            Ok(()) => {}
            Err(Failure::Said(why)) => words.push(why),
            Err(other) => return Err(other),
        }
    }
    match words.is_empty() {
        true => Ok(()),
        false => Err(Failure::Said(words.join("\n"))),
    }
}
