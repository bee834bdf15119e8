//! Why a build fails.

/// Why a build failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The Containerfile is wrong.
    #[error(transparent)]
    Containerfile(#[from] containerfile::Error),
    /// A step failed.
    #[error("building at STEP {text:?}: {reason}\n{file}:{line}")]
    Step {
        /// The Containerfile.
        file: String,
        /// The line of the instruction.
        line: usize,
        /// The instruction.
        text: String,
        /// What happened.
        reason: String,
        /// How its command ended, if that is what failed.
        exit: Option<i32>,
    },
    /// What was asked for cannot be built.
    #[error("{0}")]
    Request(String),
    /// A working container that is not there, or cannot be used.
    #[error("reading build container {name:?}: {reason}")]
    NoContainer {
        /// As it was asked for.
        name: String,
        /// Why.
        reason: String,
    },
    /// Somebody has stopped the build.
    #[error("the build was interrupted")]
    Interrupted,
    /// The store.
    #[error(transparent)]
    Store(#[from] store::Error),
    /// The engine.
    #[error(transparent)]
    Engine(#[from] engine::Error),
}

/// The result of a build.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why a step failed, before it is said which.
#[derive(Debug)]
pub(crate) enum Failed {
    Words(String),
    Exit(i32),
    Interrupted,
}

impl Failed {
    /// A failed system call on something.
    pub(crate) fn io<E: std::fmt::Display>(op: &str, path: &str) -> impl FnOnce(E) -> Failed {
        move |e| Failed::Words(format!("{op} {path:?}: {e}"))
    }

    pub(crate) fn at(self, file: &str, line: usize, text: &str) -> Error {
        let (reason, exit) = match self {
            Failed::Words(words) => (words, None),
            Failed::Exit(code) => (
                format!("while running runtime: exit status {code}"),
                Some(code),
            ),
            Failed::Interrupted => return Error::Interrupted,
        };
        Error::Step {
            file: file.to_owned(),
            line,
            text: text.to_owned(),
            reason,
            exit,
        }
    }
}

impl From<String> for Failed {
    fn from(words: String) -> Failed {
        Failed::Words(words)
    }
}

impl From<&str> for Failed {
    fn from(words: &str) -> Failed {
        Failed::Words(words.to_owned())
    }
}

impl From<store::Error> for Failed {
    fn from(error: store::Error) -> Failed {
        Failed::Words(error.to_string())
    }
}

impl From<engine::Error> for Failed {
    fn from(error: engine::Error) -> Failed {
        Failed::Words(error.to_string())
    }
}
