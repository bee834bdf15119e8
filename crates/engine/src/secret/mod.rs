//! Secrets: bytes with a name beside the images, which people's containers are given as files or as variables.
//!
//! ```text
//! root/secrets/ID/secret.json
//! root/secrets/ID/data
//! root/secrets/.gone-ID/       what is being removed
//! ```
//! A directory without a record is half made, and counts as none. A container has a copy of its own from its making
//! on (`lay.rs`), so that a secret may change or go while it is used.
//!
//! Must never be in a record, a message, a log or what is shown of a container: only its name and id are.

mod lay;
pub(crate) mod record;

use std::collections::BTreeMap;
use std::path::PathBuf;

use base::file::{Lasts, replace};

use self::record::SecretRecord;
use crate::disk::{self, Reservation};
use crate::engine::Engine;
use crate::error::{Error, Result};

/// The most bytes of a secret.
pub const MAX_DATA: usize = 512_000;
/// The longest name, in bytes.
const MAX_NAME: usize = 253;
/// So many digits of hexadecimal are an id.
const ID: usize = 25;
const DATA: &str = "data";
/// What the name of a directory begins with that is being removed.
const GONE: &str = ".gone-";

/// A secret to be made.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SecretSpec {
    /// Its name: up to 253 bytes without `=`, `/`, `,` and NUL.
    pub name: String,
    /// Labels.
    pub labels: BTreeMap<String, String>,
    /// Options of the driver, which knows none: kept as they are given.
    pub options: BTreeMap<String, String>,
}

/// A secret as it is shown.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Secret {
    /// 25 hexadecimal digits.
    pub id: String,
    /// Its name.
    pub name: String,
    /// Nanoseconds since 1970.
    pub created_at: i64,
    /// Labels.
    pub labels: BTreeMap<String, String>,
    /// As they were given.
    pub options: BTreeMap<String, String>,
}

/// A secret that a container is given.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SecretUse {
    /// Its id when the container was asked for.
    pub id: String,
    /// Its name then.
    pub name: String,
    /// Where the container finds it.
    pub place: SecretPlace,
}

/// Where a container finds a secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SecretPlace {
    /// A file that nobody can write to.
    File {
        /// Absolute path inside.
        path: PathBuf,
        /// Its owner.
        uid: u32,
        /// Its group.
        gid: u32,
        /// Its mode, such as 0o444.
        mode: u32,
    },
    /// A variable of the process, by this name.
    Variable(String),
}

impl Engine {
    fn secrets_dir(&self) -> PathBuf {
        self.config().root_table.root.join("secrets")
    }

    /// Held by who makes or removes one.
    fn secrets_turn(&self) -> Result<Reservation> {
        Reservation::lock(&self.layout().names(), &["secrets"])
    }

    /// Makes a secret of 1 to [`MAX_DATA`] bytes; with `replace`, in place of one that has the name.
    ///
    /// # Errors
    /// A name that is taken or invalid, too few or too many bytes, or what cannot be written: nothing has changed then.
    pub fn create_secret(&self, spec: &SecretSpec, data: &[u8], replaces: bool) -> Result<Secret> {
        check_name(&spec.name)?;
        if data.is_empty() || data.len() > MAX_DATA {
            let reason = format!("it must have 1 to {MAX_DATA} bytes");
            return Err(Error::invalid("secret data", reason));
        }
        disk::make_dir(&self.secrets_dir())?;
        let _turn = self.secrets_turn()?;
        self.clear_secrets()?;
        let all = self.secrets()?;
        let former = all.into_iter().find(|secret| secret.name == spec.name);
        if let Some(former) = former.as_ref().filter(|_| !replaces) {
            return Err(Error::NameTaken {
                what: "secret",
                name: spec.name.clone(),
                holder: former.id.clone(),
            });
        }
        let mut id = disk::new_id()?;
        id.truncate(ID);
        let dir = self.secrets_dir().join(&id);
        disk::make_dir(&dir)?;
        let file = dir.join(DATA);
        replace(&file, data, 0o600, Lasts::Always).map_err(Error::io("write", &file))?;
        let record = SecretRecord {
            id,
            name: spec.name.clone(),
            created_at: disk::now_ns(),
            labels: spec.labels.clone(),
            options: spec.options.clone(),
            kept: Default::default(),
        };
        record.write(&dir)?;
        if let Some(former) = former {
            self.discard_secret(&former.id)?;
        }
        Ok(record.view())
    }

    /// A secret by its name, its id, or the beginning of an id that no other has.
    ///
    /// # Errors
    /// [`Error::Ambiguous`], or a directory that cannot be read.
    pub fn secret(&self, query: &str) -> Result<Option<Secret>> {
        let all = self.secrets()?;
        if let Some(named) = all.iter().find(|secret| secret.name == query) {
            return Ok(Some(named.clone()));
        }
        let begun = all
            .into_iter()
            .filter(|secret| !query.is_empty() && secret.id.starts_with(query));
        let mut begun: Vec<Secret> = begun.collect();
        match begun.len() {
            0 | 1 => Ok(begun.pop()),
            count => Err(Error::Ambiguous {
                what: "secret",
                name: query.to_owned(),
                count,
            }),
        }
    }

    /// All secrets, by name. One whose record cannot be read is a warning, and not there.
    ///
    /// # Errors
    /// A directory that cannot be read.
    pub fn secrets(&self) -> Result<Vec<Secret>> {
        let mut all = Vec::new();
        for id in disk::entries(&self.secrets_dir())? {
            let dir = self.secrets_dir().join(&id);
            match SecretRecord::read(&dir) {
                _ if id.starts_with(GONE) => {}
                Ok(record) => all.extend(record.map(SecretRecord::view)),
                Err(error) => disk::warn_once(&dir, &error),
            }
        }
        all.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(all)
    }

    /// What is secret, for who is given it.
    ///
    /// # Errors
    /// [`Error::NotFound`] when it has gone, or what cannot be read.
    pub fn secret_data(&self, id: &str) -> Result<Vec<u8>> {
        let gone = || Error::NotFound {
            what: "secret",
            name: id.to_owned(),
        };
        if !is_id(id) {
            return Err(gone());
        }
        let file = self.secrets_dir().join(id).join(DATA);
        let read = base::file::read_bounded(&file, MAX_DATA as u64);
        read.map_err(Error::io("read", &file))?.ok_or_else(gone)
    }

    /// Removes a secret; containers keep what they were given. False: there is none of that id.
    ///
    /// # Errors
    /// What cannot be removed.
    pub fn remove_secret(&self, id: &str) -> Result<bool> {
        if !is_id(id) {
            return Ok(false);
        }
        let _turn = self.secrets_turn()?;
        self.discard_secret(id)
    }

    /// The caller has the turn. Needs no space, and may be asked again after a kill in the middle.
    fn discard_secret(&self, id: &str) -> Result<bool> {
        let dir = self.secrets_dir().join(id);
        let gone = self.secrets_dir().join(format!("{GONE}{id}"));
        match std::fs::rename(&dir, &gone) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(false),
            renamed => renamed.map_err(Error::io("rename", &dir))?,
        }
        disk::remove_tree(&gone)?;
        Ok(true)
    }

    /// Removes what killed processes have left. The caller has the turn.
    fn clear_secrets(&self) -> Result<()> {
        for name in disk::entries(&self.secrets_dir())? {
            let dir = self.secrets_dir().join(&name);
            let half = is_id(&name) && matches!(SecretRecord::read(&dir), Ok(None));
            if name.starts_with(GONE) || half {
                disk::remove_tree(&dir)?;
            }
        }
        Ok(())
    }
}

fn is_id(text: &str) -> bool {
    text.len() == ID && text.bytes().all(|byte| byte.is_ascii_hexdigit())
}

/// podman's rule.
fn check_name(name: &str) -> Result<()> {
    let fits = (1..=MAX_NAME).contains(&name.len()) && !name.contains(['=', '/', ',', '\0']);
    match fits {
        true => Ok(()),
        false => {
            let reason = format!(
                "{name:?} can not include '=', '/', ',', or the NULL ('\\0') and be between 1 and {MAX_NAME} characters"
            );
            Err(Error::invalid("secret name", reason))
        }
    }
}
