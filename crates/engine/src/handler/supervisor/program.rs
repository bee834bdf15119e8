//! The program `floe-runtime`, which supervises pods: as configured, beside the running program, or on
//! PATH. Looked for once: a file that is replaced later is found by its path.

use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use crate::error::{Error, Result};

/// The key of the configuration.
const KEY: &str = "crio.runtime.runtime_path";

/// Where the program is.
#[derive(Debug)]
pub(crate) struct Program {
    /// Empty: to be looked for.
    configured: PathBuf,
    found: OnceLock<PathBuf>,
}

impl Program {
    pub(crate) fn new(configured: &Path) -> Self {
        Self {
            configured: configured.to_owned(),
            found: OnceLock::new(),
        }
    }

    /// # Errors
    /// It is not where it should be.
    pub(crate) fn find(&self) -> Result<&Path> {
        if let Some(found) = self.found.get() {
            return Ok(found);
        }
        let path = self.look()?;
        Ok(self.found.get_or_init(|| path))
    }

    fn look(&self) -> Result<PathBuf> {
        let wrong = |reason: String| Error::Config {
            origin: KEY.into(),
            reason,
        };
        if !self.configured.as_os_str().is_empty() {
            return match self.configured.is_file() {
                true => Ok(self.configured.clone()),
                false => Err(wrong(format!(
                    "{} is not a file",
                    self.configured.display()
                ))),
            };
        }
        let beside = std::env::current_exe()
            .ok()
            .and_then(|exe| Some(exe.parent()?.join("floe-runtime")));
        let path = std::env::var_os("PATH").unwrap_or_default();
        let on_path = std::env::split_paths(&path).map(|dir| dir.join("floe-runtime"));
        beside
            .into_iter()
            .chain(on_path)
            .find(|candidate| candidate.is_file())
            .ok_or_else(|| {
                wrong("floe-runtime is neither beside this program nor on PATH".to_owned())
            })
    }
}
