//! Short names: what `busybox` means on this node (containers-registries.conf(5), "short-name resolution").
//!
//! Must never fall back to a registry that the administrator did not name.

use image::Reference;
use image::reference::is_qualified;

use super::{Registries, ShortNameMode};
use crate::error::{Error, Result};

/// Why a short name has no meaning.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ShortNameFlaw {
    /// No alias and nowhere to search.
    #[error(
        "registries.conf has no alias for it and no unqualified-search-registries; \
         give the full name, as in docker.io/library/busybox"
    )]
    NowhereToSearch,
    /// More than one registry may be meant, and the mode wants a person to say which.
    #[error("it may be in {}, and short-name-mode is enforcing; give the full name", .0.join(", "))]
    Ambiguous(Vec<String>),
}

impl Registries {
    /// The references that `name` may stand for, in the order to try them.
    ///
    /// A name with its registry stands for itself. A short one stands for its alias or else for
    /// that name in each search registry. Neither tag nor digest is added. Errors with
    /// a bad reference, or [`Error::ShortName`].
    pub fn candidates(&self, name: &str) -> Result<Vec<Reference>> {
        let as_hub = Reference::parse(name)?;
        if is_qualified(name) {
            return Ok(vec![as_hub]);
        }
        let (bare, suffix) = name.split_at(name.find([':', '@']).unwrap_or(name.len()));
        if let Some(target) = self.aliases.get(bare) {
            return Ok(vec![Reference::parse(&format!("{target}{suffix}"))?]);
        }
        let flaw = match self.search.as_slice() {
            [] => ShortNameFlaw::NowhereToSearch,
            [_, _, ..] if self.mode == ShortNameMode::Enforcing => {
                ShortNameFlaw::Ambiguous(self.search.clone())
            }
            registries => {
                return registries
                    .iter()
                    .map(|host| Ok(Reference::parse(&format!("{host}/{name}"))?))
                    .collect();
            }
        };
        Err(Error::ShortName {
            name: name.to_owned(),
            flaw,
        })
    }
}
