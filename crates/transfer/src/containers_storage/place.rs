//! The name of an image in a store of podman, buildah or CRI-O, as containers-transports(5) writes it:
//! `[[DRIVER@]GRAPHROOT[+RUNROOT][:OPTIONS]]IMAGE`.
//!
//! Parsing only: what `IMAGE` means, only the store can tell.

use std::fmt;
use std::path::{Path, PathBuf};

use super::tree;

/// An image in a store of other tools.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoragePlace {
    /// Without it, the store that storage.conf(5) names.
    pub(super) store: Option<Specifier>,
    /// A name, `@ID`, or both.
    pub(super) image: String,
}

/// Which store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Specifier {
    pub(super) driver: Option<String>,
    pub(super) graphroot: PathBuf,
    /// Of no use to a reader.
    runroot: Option<PathBuf>,
    /// `DRIVER.KEY=VALUE`.
    pub(super) options: Vec<String>,
}

impl StoragePlace {
    /// Reads what comes after `containers-storage:`, or says what is wrong with it.
    pub(crate) fn parse(text: &str) -> Result<StoragePlace, String> {
        let (store, image) = match text.strip_prefix('[') {
            None => (None, text),
            Some(rest) => {
                let (store, image) = rest.split_once(']').ok_or("its [ has no ]")?;
                (Some(Specifier::parse(store)?), image)
            }
        };
        if image.is_empty() {
            return Err("it names no image".into());
        }
        Ok(StoragePlace {
            store,
            image: image.to_owned(),
        })
    }
}

impl Specifier {
    fn parse(text: &str) -> Result<Specifier, String> {
        let (driver, rest) = match text.split_once('@') {
            Some(("", _)) => return Err("no driver stands before the @".into()),
            Some((driver, rest)) => (Some(driver.to_owned()), rest),
            None => (None, text),
        };
        let (paths, options) = rest.split_once(':').unwrap_or((rest, ""));
        let (graphroot, runroot) = match paths.split_once('+') {
            Some((graphroot, runroot)) => (graphroot, Some(PathBuf::from(runroot))),
            None => (paths, None),
        };
        let graphroot = PathBuf::from(graphroot);
        let absolute = |path: &Path| path.is_absolute();
        if !absolute(&graphroot) || !runroot.as_deref().is_none_or(absolute) {
            return Err("the directories of a store are absolute paths".into());
        }
        // Policies know a store by its directory: it has one name.
        let graphroot = Path::new("/").join(tree::plain(&graphroot));
        let options = options.split(',').filter(|option| !option.is_empty());
        Ok(Specifier {
            driver,
            graphroot,
            runroot,
            options: options.map(str::to_owned).collect(),
        })
    }
}

impl fmt::Display for StoragePlace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(store) = &self.store {
            f.write_str("[")?;
            if let Some(driver) = &store.driver {
                write!(f, "{driver}@")?;
            }
            write!(f, "{}", store.graphroot.display())?;
            if let Some(runroot) = &store.runroot {
                write!(f, "+{}", runroot.display())?;
            }
            if !store.options.is_empty() {
                write!(f, ":{}", store.options.join(","))?;
            }
            f.write_str("]")?;
        }
        f.write_str(&self.image)
    }
}
