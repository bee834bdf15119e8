//! `copy` and `add`: files of this machine, of an image or of another working container.

use std::os::fd::OwnedFd;

use containerfile::Ignore;
use engine::Engine;
use store::{Access, Lease};

use super::{Working, find, words};
use crate::Surroundings;
use crate::archive::Unpacker;
use crate::copy::{Item, Order};
use crate::error::{Error, Failed, Result};
use crate::mode::Change;
use crate::select::Filter;
use crate::source;
use crate::stage::fetched;
use crate::state::clean;
use crate::tree::Tree;

/// Where files are copied from.
#[derive(Debug)]
pub enum Origin {
    /// A directory of this machine that is the root of all paths.
    Directory(OwnedFd),
    /// A working container, or an image.
    Named(String),
}

/// What is copied, and how.
#[derive(Debug)]
pub struct Put {
    /// Archives are unpacked.
    pub is_add: bool,
    /// Where from.
    pub origin: Origin,
    /// What of it is not seen.
    pub ignore: Ignore,
    /// Paths from the root of the origin, with wildcards; and URLs.
    pub sources: Vec<String>,
    /// Where to, from the container's directory; `None`: that itself.
    pub target: Option<String>,
    /// `USER[:GROUP]` that get the files.
    pub chown: Option<String>,
    /// Their mode.
    pub chmod: Option<String>,
    /// What is above the sources is kept.
    pub parents: bool,
    /// Patterns of what is left out.
    pub exclude: Vec<String>,
    /// The digest that what is fetched must have.
    pub checksum: Option<String>,
    /// What the history is to say that has been done, if it is to.
    pub remember: bool,
}

impl Working {
    /// Copies, and says what: the digest of it in hexadecimal.
    ///
    /// # Errors
    /// Sources that are not there, and what cannot be written.
    pub fn put(&mut self, engine: &Engine, around: &dyn Surroundings, put: &Put) -> Result<String> {
        let failed = |failed: Failed| match words(failed) {
            Error::Request(words) => Error::Request(format!(
                "adding content to container {:?}: {words}",
                self.record.name
            )),
            other => other,
        };
        let (digest, said) = self.done(engine, around, put).map_err(failed)?;
        if put.remember {
            self.remember(said);
            self.save()?;
        }
        Ok(digest)
    }

    fn done(
        &self,
        engine: &Engine,
        around: &dyn Surroundings,
        put: &Put,
    ) -> std::result::Result<(String, String), Failed> {
        let lease = engine.store().lease()?;
        let state = self.record.state();
        let several = put.sources.len() > 1;
        let target = put.target.as_deref().unwrap_or("");
        let absolute = clean(&state.absolute(target));
        let is_directory = several || target.is_empty() || target.ends_with('/') || target == ".";
        let exclude = Ignore::of(put.exclude.iter().map(String::as_str));
        let exclude = exclude.map_err(|flaw| flaw.to_string())?;
        let mut order = Order {
            is_add: put.is_add,
            items: Vec::new(),
            target: match is_directory {
                true => format!("{}/", absolute.trim_end_matches('/')),
                false => absolute,
            },
            chown: put.chown.clone(),
            mode: put.chmod.as_deref().map(Change::parse).transpose()?,
            parents: put.parents,
            filter: Filter {
                ignore: put.ignore.clone(),
                exclude,
            },
            keep_owners: matches!(put.origin, Origin::Named(_)),
            unpack: None,
        };
        for word in &put.sources {
            let is_url = word.starts_with("http://") || word.starts_with("https://");
            order.items.push(match is_url {
                true => fetched(around, word, put.checksum.as_deref())?,
                false => Item::Files { word: word.clone() },
            });
        }
        let tree = tree(engine, around, &lease, &put.origin)?;
        let digest = order.digest(Some(&tree))?;
        let kind = order.kind(Some(&tree))?;
        let root = source::mounted(self.own.root(), Access::Durable)?;
        let unpacker = Unpacker {
            store: engine.store(),
        };
        order.run(Some(&tree), &root, &unpacker)?;
        let word = if put.is_add { "ADD" } else { "COPY" };
        let said = format!(
            "/bin/sh -c #(nop) {word} {kind}:{} in {} ",
            digest.hex(),
            order.target
        );
        Ok((digest.hex().to_owned(), said))
    }
}

/// The files that are copied, as they are now.
fn tree(
    engine: &Engine,
    around: &dyn Surroundings,
    lease: &Lease,
    origin: &Origin,
) -> std::result::Result<Tree, Failed> {
    let name = match origin {
        Origin::Directory(directory) => {
            let directory = directory.try_clone();
            return Ok(Tree::new(
                directory.map_err(Failed::io("open", "the context"))?,
            ));
        }
        Origin::Named(name) => name,
    };
    let store = engine.store();
    let found = find(engine, name).map_err(|e| e.to_string())?;
    if let Some(root) = found
        .map(|found| store.working_root(&found.id))
        .transpose()?
        .flatten()
    {
        return source::mounted(&root, Access::ReadOnly);
    }
    let image = around.image(name, None)?;
    if !store.hold_image(lease, &image)? {
        return Err(format!("the image {name} was removed meanwhile").into());
    }
    source::mounted(&store.image_root(&image)?, Access::ReadOnly)
}
