//! Why a command failed: what a person is told and the exit code. What can be done about it is told to
//! the commands that try again.

use crate::output;

/// floe itself failed (podman's code for that).
pub(crate) const FAILED: u8 = 125;

/// Why a command failed, in words, and the exit code that says so.
#[derive(Debug)]
pub(crate) struct Failure {
    pub(crate) message: String,
    pub(crate) code: u8,
    nature: Nature,
}

/// What may be done about a failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Nature {
    /// What was asked for is not there: an image, a container.
    Missing,
    /// Another try may help.
    Passing,
    /// Anything else.
    Lasting,
}

impl Failure {
    pub(crate) fn new(message: impl Into<String>) -> Self {
        Self {
            message: message.into(),
            code: FAILED,
            nature: Nature::Lasting,
        }
    }

    /// What was asked for is not there.
    pub(crate) fn missing(message: impl Into<String>) -> Self {
        Self {
            nature: Nature::Missing,
            ..Self::new(message)
        }
    }

    pub(crate) fn is_missing(&self) -> bool {
        self.nature == Nature::Missing
    }

    pub(crate) fn nature(&self) -> Nature {
        self.nature
    }

    pub(crate) fn with_code(mut self, code: u8) -> Self {
        self.code = code;
        self
    }
}

impl std::fmt::Display for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // Errors quote what registries and archives say.
        f.write_str(&output::lines(&self.message))
    }
}

impl From<build::Error> for Failure {
    fn from(error: build::Error) -> Self {
        Self::new(error.to_string())
    }
}

impl From<engine::Error> for Failure {
    fn from(error: engine::Error) -> Self {
        Self::new(error.to_string())
    }
}

impl From<image::Error> for Failure {
    fn from(error: image::Error) -> Self {
        Self::new(error.to_string())
    }
}

impl From<trust::Error> for Failure {
    fn from(error: trust::Error) -> Self {
        Self::new(error.to_string())
    }
}

impl From<distribution::Error> for Failure {
    fn from(error: distribution::Error) -> Self {
        let nature = nature(&error);
        Self {
            nature,
            ..Self::new(error.to_string())
        }
    }
}

/// What a registry's failure is, where it is the one that decides.
fn nature(error: &distribution::Error) -> Nature {
    use distribution::Error as E;
    match error.deciding() {
        E::NotFound { at, .. } if at.subject.starts_with("manifest ") => Nature::Missing,
        E::Unreachable { .. }
        | E::ServerError { .. }
        | E::RateLimited { .. }
        | E::Truncated { .. } => Nature::Passing,
        _ => Nature::Lasting,
    }
}

impl From<trust::SignatureFlaw> for Failure {
    fn from(flaw: trust::SignatureFlaw) -> Self {
        Self::new(flaw.to_string())
    }
}

impl From<store::Error> for Failure {
    fn from(error: store::Error) -> Self {
        Self::new(error.to_string())
    }
}

impl From<registry::Error> for Failure {
    fn from(error: registry::Error) -> Self {
        Self::new(error.to_string())
    }
}

impl From<transfer::Error> for Failure {
    fn from(error: transfer::Error) -> Self {
        let nature = match &error {
            transfer::Error::Registry(error) => nature(error),
            transfer::Error::Missing { .. } => Nature::Missing,
            _ => Nature::Lasting,
        };
        Self {
            nature,
            ..Self::new(error.to_string())
        }
    }
}

impl From<std::io::Error> for Failure {
    fn from(error: std::io::Error) -> Self {
        Self::new(error.to_string())
    }
}
