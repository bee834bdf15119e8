//! Working containers: an image that a person builds by hand, step by step (buildah's `from`, `run`, `copy`, `config`,
//! `commit`). Each is a writable layer of the store that outlives its commands, and a record beside it.
//!
//! ```text
//! make ─▶ open: a lock ─▶ run, put, config ─▶ commit: an image ─▶ remove
//! ```
//! What writes has the container's lock, and before it what a killed command left running on it is ended. Must never
//! have two writers on one layer, nor need anything but the store to remove one, whatever its record says.

mod commit;
mod put;
mod record;
mod run;

use std::time::Duration;

use engine::Engine;
use image::{Digest, Platform};
use store::{ImageRecord, WorkingContainer};

use crate::error::{Error, Failed, Result};
use crate::image_of::history;
use crate::stage::of_image;
use crate::variables::Scope;

pub use commit::Committing;
pub use put::{Origin, Put};
pub use record::{BaseImage, Record};
pub use run::Running;

/// What stands for no image.
pub const SCRATCH: &str = "scratch";
/// How long a command waits for another one that uses the same container.
const PATIENCE: Duration = Duration::from_secs(60);
/// The same of a removal, which nobody wants to wait for.
const BRIEFLY: Duration = Duration::from_secs(10);

/// What a new one stands on.
#[derive(Debug)]
pub struct Beginning<'a> {
    /// The image, and what it is called; `None`: nothing.
    pub image: Option<(&'a str, &'a ImageRecord)>,
    /// The name that is wanted; `None`: one of the image's.
    pub name: Option<&'a str>,
    /// What it is for, where it stands on nothing.
    pub platform: Platform,
    /// `oci` or `docker`.
    pub format: &'a str,
    /// Options of its commands, as they were said.
    pub commands: Vec<String>,
}

/// One of a list.
#[derive(Debug)]
pub struct Listed {
    /// Its ID.
    pub id: String,
    /// What is written down of it, or why that cannot be read.
    pub record: std::result::Result<Record, String>,
}

impl Listed {
    /// Its name; one whose record cannot be read goes by its ID.
    pub fn name(&self) -> &str {
        self.record.as_ref().map_or(&self.id, |record| &record.name)
    }
}

/// A working container that nobody else uses meanwhile.
#[derive(Debug)]
pub struct Working {
    /// What is written down of it: changed by [`Working::save`].
    pub record: Record,
    own: WorkingContainer,
}

/// Makes one and returns its name.
///
/// # Errors
/// A name that is taken, and what the store says.
pub fn make(engine: &Engine, from: &Beginning<'_>) -> Result<Record> {
    crate::clear(engine)?;
    let store = engine.store();
    let lease = store.lease()?;
    let mut record = match from.image {
        Some((name, image)) => {
            if !store.hold_image(&lease, image)? {
                return Err(Error::Request(format!(
                    "{name}: the image was removed meanwhile"
                )));
            }
            let state = of_image(engine, name, image, Scope::default()).map_err(words)?;
            Record::of_image(state, image)
        }
        None => Record::of_nothing(from.platform.clone()),
    };
    record.format = from.format.to_owned();
    record.commands.clone_from(&from.commands);
    let names = store.lock_working_containers()?;
    let all = list(engine)?;
    record.name = match from.name {
        Some(name) => name.to_owned(),
        None => unused(
            &all,
            &usual_name(from.image.map(|(said, image)| (said, &image.names[..]))),
        ),
    };
    if let Some(holder) = all.iter().find(|one| one.name() == record.name) {
        return Err(Error::Request(format!(
            "creating container: the container name {:?} is already in use by {}. You have to remove that container to \
             be able to reuse that name: that name is already in use",
            record.name, holder.id
        )));
    }
    let owner = store::Store::owner_text()?;
    record.id = Digest::of(format!("{owner} {} {}", record.created, record.name).as_bytes())
        .hex()
        .to_owned();
    let layers: Vec<Digest> = record
        .layers
        .iter()
        .map(|one| one.diff_id.clone())
        .collect();
    let image = from.image.map(|(_, image)| image);
    store.make_working_container(&names, &record.id, (&layers, image), &record.written()?)?;
    Ok(record)
}

/// What one is called that nobody gave a name: after that name of its image that was said, or else its first one, without
/// registry, tag and digest. One without names is called after what was said, of `TRANSPORT:PLACE` the transport.
fn usual_name(image: Option<(&str, &[String])>) -> String {
    let Some((said, names)) = image else {
        return "working-container".to_owned();
    };
    let meant = names.iter().find(|name| name.contains(said));
    let last = match meant.or(names.first()) {
        Some(name) => {
            let last = name.rsplit('/').next().unwrap_or_default();
            last.split(['@', ':']).next().unwrap_or_default()
        }
        None => match whole_id(said) {
            Some(id) => &id[..12],
            None => said.split([':', '/']).next().unwrap_or_default(),
        },
    };
    format!("{last}-working-container")
}

/// The id in hexadecimal, where a name is one as a whole; no registry knows such a name.
pub fn whole_id(name: &str) -> Option<&str> {
    let id = name.strip_prefix("sha256:").unwrap_or(name);
    let is_id = id.len() == 64 && id.bytes().all(|byte| byte.is_ascii_hexdigit());
    is_id.then_some(id)
}

fn unused(all: &[Listed], wanted: &str) -> String {
    let is_taken = |name: &str| all.iter().any(|one| one.name() == name);
    let numbered = (1..=all.len()).map(|number| format!("{wanted}-{number}"));
    let mut names = std::iter::once(wanted.to_owned()).chain(numbered);
    // One more name than there are containers.
    names
        .find(|name| !is_taken(name))
        .unwrap_or_else(|| wanted.to_owned())
}

/// All of them, the oldest first.
///
/// # Errors
/// A store that cannot be read.
pub fn list(engine: &Engine) -> Result<Vec<Listed>> {
    let store = engine.store();
    let mut all = Vec::new();
    for id in store.working_containers()? {
        let record = match store.working_record(&id) {
            Ok(Some(bytes)) => Record::read(&bytes),
            // Gone since.
            Ok(None) => continue,
            Err(error) => Err(error.to_string()),
        };
        all.push(Listed { id, record });
    }
    all.sort_by_key(|one| {
        one.record
            .as_ref()
            .map_or(i64::MAX, |record| record.created)
    });
    Ok(all)
}

/// The one of a name, an ID, or the unambiguous beginning of an ID; `None` when there is none.
///
/// # Errors
/// A store that cannot be read.
pub fn find(engine: &Engine, text: &str) -> Result<Option<Listed>> {
    let mut all = list(engine)?;
    if let Some(place) = all
        .iter()
        .position(|one| one.name() == text || one.id == text)
    {
        return Ok(Some(all.swap_remove(place)));
    }
    all.retain(|one| !text.is_empty() && one.id.starts_with(text));
    Ok(all.pop().filter(|_| all.is_empty()))
}

/// Opens the one that is called so, when nobody else uses it any more.
///
/// # Errors
/// [`Error::NoContainer`], a record that cannot be read, and one that is in use for long.
pub fn open(engine: &Engine, text: &str) -> Result<Working> {
    let unknown = || Error::NoContainer {
        name: text.to_owned(),
        reason: "container not known".to_owned(),
    };
    let found = find(engine, text)?.ok_or_else(unknown)?;
    let own = engine.store().lock_working_container(&found.id, PATIENCE);
    let own = match own {
        Err(store::Error::Busy { seconds, .. }) => Err(Error::NoContainer {
            name: text.to_owned(),
            reason: format!(
                "another command has used it for more than {seconds} s: wait until that has ended"
            ),
        }),
        other => Ok(other?.ok_or_else(unknown)?),
    }?;
    // What a killed command left running on it must not go on.
    crate::clear(engine)?;
    let record = Record::read(&own.record()?).map_err(|reason| Error::NoContainer {
        name: text.to_owned(),
        reason: format!("{reason}; remove it with rm"),
    })?;
    let mut working = Working { record, own };
    working.forget_places()?;
    Ok(working)
}

/// Gives one another name.
///
/// # Errors
/// As [`open`], and a name that is taken.
pub fn rename(engine: &Engine, text: &str, name: &str) -> Result<()> {
    let mut working = open(engine, text)?;
    let _names = engine.store().lock_working_containers()?;
    if working.record.name == name {
        return Err(Error::Request(
            "renaming a container with the same name as its current name".to_owned(),
        ));
    }
    if let Some(holder) = list(engine)?.iter().find(|one| one.name() == name) {
        return Err(Error::Request(format!(
            "The container name {name:?} is already in use by container {:?}",
            holder.id
        )));
    }
    working.record.name = name.to_owned();
    working.save()
}

/// Removes one, also when its record cannot be read; its ID.
///
/// # Errors
/// [`Error::NoContainer`] when there is none, one whose command runs, and what the store says.
pub fn remove(engine: &Engine, text: &str) -> Result<String> {
    let unknown = || Error::NoContainer {
        name: text.to_owned(),
        reason: "container not known".to_owned(),
    };
    let found = find(engine, text)?.ok_or_else(unknown)?;
    // On a full disk as well, whatever cannot be tidied.
    let _ = crate::clear(engine);
    match engine.store().lock_working_container(&found.id, BRIEFLY) {
        Err(store::Error::Busy { .. }) => Err(Error::NoContainer {
            name: text.to_owned(),
            reason: "a command of it still runs: end that first".to_owned(),
        }),
        // What it stands on may be lost, which must not keep it.
        _ => {
            engine.store().remove_working_container(&found.id)?;
            Ok(found.id)
        }
    }
}

/// Where one is mounted for a person.
///
/// # Errors
/// A store that cannot be read.
pub fn mounted_at(engine: &Engine, id: &str) -> Result<Option<std::path::PathBuf>> {
    Ok(engine.store().working_mount(id)?)
}

impl Working {
    /// Writes down what it is now, durably.
    ///
    /// # Errors
    /// What the store says.
    pub fn save(&self) -> Result<()> {
        Ok(self.own.write_record(&self.record.written()?)?)
    }

    /// Has the history of its images say what was done, in these words.
    pub fn remember(&mut self, words: String) {
        let mut line = history(None, words, None, true);
        line.author.clone_from(&self.record.author);
        self.record.steps.push(line);
    }

    /// Mounts it for a person, who may write to it, and says where.
    ///
    /// # Errors
    /// What the store says.
    pub fn mount(&self) -> Result<std::path::PathBuf> {
        Ok(self.own.mount()?)
    }

    /// Takes that back; `false` when it was not mounted.
    ///
    /// # Errors
    /// Somebody who uses the mount.
    pub fn unmount(&self) -> Result<bool> {
        Ok(self.own.unmount()?)
    }

    /// Removes it.
    ///
    /// # Errors
    /// What the store says.
    pub fn remove(self) -> Result<()> {
        Ok(self.own.remove()?)
    }
}

/// A failure that no line of a file is named with.
fn words(failed: Failed) -> Error {
    match failed {
        Failed::Words(words) => Error::Request(words),
        Failed::Exit(code) => Error::Request(format!("exit status {code}")),
        Failed::Interrupted => Error::Interrupted,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named(name: &str) -> Listed {
        let mut record = Record::of_nothing(Platform::new("linux", "amd64"));
        record.name = name.to_owned();
        Listed {
            id: "1".repeat(64),
            record: Ok(record),
        }
    }

    #[test]
    fn a_container_is_called_after_its_image() {
        let one = "docker.io/library/busybox:latest";
        let id = "1".repeat(64);
        for (said, names, wanted) in [
            ("busybox", &[one][..], "busybox-working-container"),
            ("y:2", &[one, "localhost/y:2"], "y-working-container"),
            (
                "b",
                &["localhost:5000/a/b@sha256:00"],
                "b-working-container",
            ),
            ("dir:/a/b:c", &[], "dir-working-container"),
            (
                "docker-archive:/a/b",
                &["localhost/x:1"],
                "x-working-container",
            ),
            (&id, &[], "111111111111-working-container"),
        ] {
            let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
            assert_eq!(usual_name(Some((said, &names))), wanted, "{said}");
        }
        assert_eq!(usual_name(None), "working-container");
        let all = [named("x"), named("x-1"), named("y")];
        assert_eq!(unused(&all, "x"), "x-2");
        assert_eq!(unused(&all, "z"), "z");
    }
}
