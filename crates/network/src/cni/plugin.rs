//! What every plugin of a chain can do, whether built in or a program.
//!
//! Life cycle: a plugin object is made from its configuration, which is checked then and never again;
//! `add` puts one pod's part of the network up, given what the plugins before it did; `del` takes it
//! down, and must succeed for what is half there or gone. `del` is also the undo of a failed `add`.

use std::fmt::Debug;

use serde::Serialize;

use super::result::CniResult;
use crate::host::Host;
use crate::pod::Pod;
use crate::{Attachment, Error, Result};

/// For whom a plugin works.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Call<'a> {
    /// The pod.
    pub(crate) attachment: &'a Attachment<'a>,
    /// Its network namespace; `None` when it is gone.
    pub(crate) pod: Option<&'a Pod>,
    /// The host's side.
    pub(crate) host: &'a Host,
}

impl Call<'_> {
    /// The pod's namespace, which `add` cannot do without.
    pub(crate) fn pod(&self) -> Result<&Pod> {
        self.pod.ok_or_else(|| Error::Request {
            id: self.attachment.id.to_owned(),
            reason: "has no network namespace",
        })
    }
}

/// An attachment that is there, as GC names it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Valid {
    /// The pod's id.
    #[serde(rename = "containerID")]
    pub(crate) id: String,
    /// The interface inside.
    pub(crate) ifname: String,
}

/// A plugin with its checked configuration.
pub(crate) trait Plugin: Debug + Send + Sync {
    /// Its type, for logs.
    fn kind(&self) -> &str;

    /// Whether it may start a program, which is told a path of the network namespace and may keep it.
    fn runs_programs(&self) -> bool {
        false
    }

    /// Puts its part of the pod's network up. Returns the result so far, its own part included.
    fn add(&self, call: &Call<'_>, previous: Option<CniResult>) -> Result<CniResult>;

    /// Takes its part down. `result` is that of the whole chain; `None` when `add` never finished.
    fn del(&self, call: &Call<'_>, result: Option<&CniResult>) -> Result<()>;

    /// Whether it can serve an `add` now (STATUS, since 1.1.0).
    fn status(&self) -> Result<()> {
        Ok(())
    }

    /// Takes away what it keeps of attachments that are not among these (GC, since 1.1.0).
    fn gc(&self, valid: &[Valid]) -> Result<()> {
        let _ = valid;
        Ok(())
    }

    /// Makes again what the host has lost of its part: rules that somebody has flushed. floe's own, as CNI has no
    /// verb for it.
    fn reload(&self, call: &Call<'_>, result: &CniResult) -> Result<()> {
        let _ = (call, result);
        Ok(())
    }

    /// Whether its part is still as `add` left it.
    fn check(&self, call: &Call<'_>, result: &CniResult) -> Result<()>;
}
