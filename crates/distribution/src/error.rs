//! The one error type of this crate: what was asked, of whom, and why it failed.
//!
//! Never holds a credential: messages are logged and shown to users.

use std::fmt;
use std::io;
use std::path::PathBuf;
use std::time::Duration;

use image::ReferenceFlaw;

use crate::auth::AuthFlaw;
use crate::registries::{RegistriesFlaw, ShortNameFlaw, Source};

/// Result of this crate's fallible functions.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What was asked, and of whom.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct At {
    /// The thing asked for, in words: `manifest docker.io/library/busybox:1`.
    pub subject: Box<str>,
    /// The registry: `https://registry-1.docker.io`.
    pub endpoint: Box<str>,
}

/// One place that was asked in vain.
#[derive(Debug)]
pub struct Attempt {
    /// The image by its name there.
    pub source: Source,
    /// Why it failed.
    pub error: Error,
}

impl fmt::Display for Attempt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = if self.source.mirror {
            "mirror"
        } else {
            "registry"
        };
        write!(
            f,
            "[{kind} {}] {}",
            self.source.reference.domain(),
            self.error
        )
    }
}

/// Why an image could not be found, fetched or sent.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A name or a document of an image.
    #[error(transparent)]
    Image(#[from] image::Error),
    /// A policy or signature.
    #[error(transparent)]
    Trust(#[from] trust::Error),
    /// A configuration file or directory cannot be read.
    #[error("cannot read {}: {source}", path.display())]
    Read {
        /// The file or directory.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A file cannot be written.
    #[error("cannot write {}: {source}", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A registries.conf is not TOML, or has a value of the wrong type.
    #[error("invalid {}: {source}", path.display())]
    Toml {
        /// The file.
        path: PathBuf,
        /// What the parser met, with the line.
        source: Box<toml::de::Error>,
    },
    /// A registries.conf is well-formed TOML and yet cannot be used.
    #[error("invalid {}: {flaw}", path.display())]
    Registries {
        /// The file.
        path: PathBuf,
        /// Which rule it breaks.
        flaw: RegistriesFlaw,
    },
    /// registries.conf forbids the registry.
    #[error("{reference}: registry {prefix} is blocked by registries.conf")]
    Blocked {
        /// The image asked for.
        reference: String,
        /// The prefix of the blocking entry.
        prefix: String,
    },
    /// registries.conf rewrites the reference to something that is none.
    #[error("{reference}: registries.conf rewrites it to {rewritten:?}, which is invalid: {flaw}")]
    Rewrite {
        /// The image asked for.
        reference: String,
        /// What it became.
        rewritten: String,
        /// What is wrong with that.
        flaw: ReferenceFlaw,
    },
    /// A name without registry stands for no image, or for too many.
    #[error("short name {name:?}: {flaw}")]
    ShortName {
        /// The name as given.
        name: String,
        /// Why it has no meaning here.
        flaw: ShortNameFlaw,
    },
    /// An auth.json cannot be used.
    #[error("invalid {}: {flaw}", path.display())]
    Auth {
        /// The file.
        path: PathBuf,
        /// What is wrong; never shows a secret.
        flaw: AuthFlaw,
    },
    /// A credential helper of registries.conf fails.
    #[error("{0}")]
    CredentialHelper(AuthFlaw),
    /// Of the places where logins are kept, none that works has one, and these fail.
    #[error("{}", .0.iter().map(Error::to_string).collect::<Vec<_>>().join("; "))]
    Logins(Vec<Error>),
    /// The registry does not have it.
    #[error("{}: not found at {}{}", at.subject, at.endpoint, after(detail))]
    NotFound {
        /// What, and where.
        at: At,
        /// What the registry said.
        detail: String,
    },
    /// The registry, or its token service, wants other credentials (401, 403).
    #[error("{}: access denied by {} ({status}){}", at.subject, at.endpoint, after(detail))]
    Unauthorized {
        /// What, and where.
        at: At,
        /// The HTTP status.
        status: u16,
        /// What the registry said.
        detail: String,
    },
    /// Too many requests (429), after all retries.
    #[error("{}: too many requests to {}{}{}", at.subject, at.endpoint, wait(retry_after), after(detail))]
    RateLimited {
        /// What, and where.
        at: At,
        /// How long the registry wants us to wait.
        retry_after: Option<Duration>,
        /// What the registry said.
        detail: String,
    },
    /// The registry failed (5xx), after all retries.
    #[error("{}: {} fails with status {status}{}", at.subject, at.endpoint, after(detail))]
    ServerError {
        /// What, and where.
        at: At,
        /// The HTTP status.
        status: u16,
        /// What the registry said.
        detail: String,
    },
    /// An answer that has no meaning here.
    #[error("{}: {} answers with unexpected status {status}{}", at.subject, at.endpoint, after(detail))]
    UnexpectedStatus {
        /// What, and where.
        at: At,
        /// The HTTP status.
        status: u16,
        /// What the registry said.
        detail: String,
    },
    /// No answer: the name does not resolve, nobody listens, the certificate is bad, the connection
    /// broke, or nothing came in time.
    #[error("{}: cannot reach {}: {cause}", at.subject, at.endpoint)]
    Unreachable {
        /// What, and where.
        at: At,
        /// What the network said, from the outside to the inside.
        cause: String,
        /// Nothing came in time.
        timed_out: bool,
    },
    /// The content ended too soon, after all retries.
    #[error("{}: {} sent only {received} of {expected} bytes{}", at.subject, at.endpoint, after(cause))]
    Truncated {
        /// What, and where.
        at: At,
        /// The size that it has to have.
        expected: u64,
        /// How many bytes came.
        received: u64,
        /// What the network said at last.
        cause: String,
        /// It came too slowly.
        timed_out: bool,
    },
    /// More bytes than there may be.
    #[error("{}: {} sends more than {limit} bytes", at.subject, at.endpoint)]
    TooLarge {
        /// What, and where.
        at: At,
        /// The most that it may be.
        limit: u64,
    },
    /// A redirect that is not followed.
    #[error("{}: {} redirects to {target}: {flaw}", at.subject, at.endpoint)]
    Redirect {
        /// What, and where.
        at: At,
        /// Where to, without its query.
        target: String,
        /// Why it is not followed.
        flaw: RedirectFlaw,
    },
    /// An answer that breaks the Distribution or the token protocol.
    #[error("{}: {} breaks the protocol: {flaw}", at.subject, at.endpoint)]
    Protocol {
        /// What, and where.
        at: At,
        /// How.
        flaw: ProtocolFlaw,
    },
    /// Neither a mirror nor the registry itself had it.
    #[error("{reference}: {}", attempts.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "))]
    AllSourcesFailed {
        /// The image asked for.
        reference: String,
        /// What was tried, in order; the last is the registry itself.
        attempts: Vec<Attempt>,
    },
    /// A certificate or key cannot be used.
    #[error("invalid certificate or key {}: {cause}", path.display())]
    Certificate {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        cause: String,
    },
    /// A containers-tls-details.yaml(5) cannot be used.
    #[error("invalid TLS details {}: {cause}", path.display())]
    TlsDetails {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        cause: String,
    },
    /// The HTTP client cannot be made.
    #[error("cannot set up the HTTP client: {cause}")]
    Setup {
        /// What is wrong.
        cause: String,
    },
    /// The content to push cannot be read.
    #[error("{}: cannot read the content to push: {source}", at.subject)]
    PushContent {
        /// What, and where to.
        at: At,
        /// What the reader said.
        source: io::Error,
    },
}

impl Error {
    /// The error that decides what the whole means: where several sources were asked, that of the
    /// registry itself, which is asked last.
    pub fn deciding(&self) -> &Error {
        match self {
            Error::AllSourcesFailed { attempts, .. } => attempts
                .last()
                .map_or(self, |attempt| attempt.error.deciding()),
            other => other,
        }
    }

    /// Whether somebody was waited for in vain.
    pub fn is_timeout(&self) -> bool {
        matches!(
            self,
            Error::Unreachable {
                timed_out: true,
                ..
            } | Error::Truncated {
                timed_out: true,
                ..
            }
        )
    }
}

/// Why a redirect is not followed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RedirectFlaw {
    /// More than five in a row.
    #[error("too many redirects")]
    TooMany,
    /// No or no valid `Location`.
    #[error("it says no valid place")]
    NoLocation,
    /// `file:`, `ftp:` and the like.
    #[error("only http and https are followed")]
    Scheme,
    /// From https to http.
    #[error("it would leave https")]
    Downgrade,
    /// From elsewhere to this machine or its metadata service.
    #[error("it leads to an address of this machine or link")]
    Local,
    /// A request that changes something.
    #[error("only reads are redirected")]
    Write,
}

/// How an answer breaks a protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ProtocolFlaw {
    /// 401 without a challenge that is understood.
    #[error("it asks for a login in no known way (neither Bearer nor Basic)")]
    Challenge,
    /// A page for people where a document should be.
    #[error(
        "it answers with a web page: perhaps it is no registry, or a login page or proxy stands before \
         it (look at the registry's name and port, and at HTTPS_PROXY and NO_PROXY)"
    )]
    WebPage,
    /// The challenge's realm is no usable URL.
    #[error("its token service is not at a valid https address")]
    Realm,
    /// The token service's answer is not understood.
    #[error("its token service's answer has no token")]
    Token,
    /// The rest of a blob begins at the wrong place.
    #[error("it sends another range than was asked for")]
    Range,
    /// An upload without a place to put it.
    #[error("it gives no valid place for the upload")]
    UploadLocation,
    /// The list of tags is not JSON of the known shape.
    #[error("its list of tags is malformed")]
    Tags,
    /// The list of referrers is no index.
    #[error("its list of referrers is no image index")]
    Referrers,
    /// The next page of a list is elsewhere, or there is no end of pages.
    #[error("the next page of its list is not at a valid place")]
    NextPage,
    /// A `Docker-Content-Digest` that is no digest.
    #[error("its Docker-Content-Digest is invalid")]
    ContentDigest,
}

fn after(text: &str) -> String {
    if text.is_empty() {
        String::new()
    } else {
        format!(": {text}")
    }
}

fn wait(delay: &Option<Duration>) -> String {
    delay.map_or_else(String::new, |delay| {
        format!(": it asks to wait {} s", delay.as_secs())
    })
}
