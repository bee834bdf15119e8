//! Volumes: directories with a name beside the images, which people's containers share and which outlive them.
//!
//! ```text
//! root/volumes/NAME/volume.json
//! root/volumes/NAME/_data/        what containers see
//! root/volumes/.gone-NAME/        what is being removed
//! ```
//! A directory without a record is half made, and counts as none.

mod begin;
pub(crate) mod record;
mod remove;

use std::collections::BTreeMap;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

use store::Usage;

use self::record::VolumeRecord;
use crate::container::ContainerFilter;
use crate::disk::{self, Reservation};
use crate::engine::Engine;
use crate::error::{Error, Result};

/// The longest name of a directory, less what is put before it.
const MAX_NAME: usize = 240;
/// The directory in a volume's that containers see.
const DATA: &str = "_data";
/// What the name of a directory begins with that is being removed.
const GONE: &str = ".gone-";

/// A volume to be made.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct VolumeSpec {
    /// Its name, `[a-zA-Z0-9][a-zA-Z0-9_.-]*`; empty: one at random, of an anonymous volume.
    pub name: String,
    /// Labels.
    pub labels: BTreeMap<String, String>,
    /// Of the driver: `o` with `uid=`, `gid=` and `nocopy`; nothing else is known.
    pub options: BTreeMap<String, String>,
}

/// A volume as it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Volume {
    /// Its name.
    pub name: String,
    /// The directory that containers see.
    pub mountpoint: PathBuf,
    /// Nanoseconds since 1970.
    pub created_at: i64,
    /// Labels.
    pub labels: BTreeMap<String, String>,
    /// As they were given.
    pub options: BTreeMap<String, String>,
    /// It was made for one container, and goes with it.
    pub anonymous: bool,
    /// User and group that were asked for.
    pub owner: Option<(u32, u32)>,
    /// A container has used it: what its image has there was copied, where that is wanted.
    pub begun: bool,
}

impl Engine {
    fn volume_dirs(&self) -> PathBuf {
        self.config().root_table.root.join("volumes")
    }

    fn volume_dir(&self, name: &str) -> PathBuf {
        self.volume_dirs().join(name)
    }

    /// Held by who makes, begins or removes a volume of that name.
    fn volume_turn(&self, name: &str) -> Result<Reservation> {
        Reservation::lock(&self.layout().names(), &["volume", name])
    }

    /// Makes a volume.
    ///
    /// # Errors
    /// A name that is taken or invalid, or an option that is not known.
    pub fn create_volume(&self, spec: &VolumeSpec) -> Result<Volume> {
        let anonymous = spec.name.is_empty();
        let name = match anonymous {
            true => disk::new_id()?,
            false => spec.name.clone(),
        };
        check_name(&name)?;
        let asked = Asked::parse(&spec.options)?;
        let _turn = self.volume_turn(&name)?;
        let dir = self.volume_dir(&name);
        if VolumeRecord::read(&dir)?.is_some() {
            return Err(Error::NameTaken {
                what: "volume",
                name: name.clone(),
                holder: "a volume".into(),
            });
        }
        // Half made by who was killed.
        disk::remove_tree(&dir)?;
        disk::make_dir(&self.volume_dirs())?;
        disk::make_dir(&dir.join(DATA))?;
        let open = std::os::unix::fs::PermissionsExt::from_mode(0o755);
        let data = dir.join(DATA);
        std::fs::set_permissions(&data, open).map_err(Error::io("change the mode of", &data))?;
        if let Some((user, group)) = asked.owner {
            let given = std::os::unix::fs::chown(&data, Some(user), Some(group));
            given.map_err(Error::io("give", &data))?;
        }
        let record = VolumeRecord {
            name,
            created_at: disk::now_ns(),
            labels: spec.labels.clone(),
            options: spec.options.clone(),
            anonymous,
            owner: asked.owner,
            no_copy: asked.no_copy,
            begun: false,
            kept: Default::default(),
        };
        record.write(&dir)?;
        Ok(record.view(&dir))
    }

    /// The volume of that name, made if there is none.
    ///
    /// # Errors
    /// As [`Engine::create_volume`].
    pub fn use_volume(&self, name: &str) -> Result<Volume> {
        loop {
            if let Some(volume) = self.volume(name)? {
                return Ok(volume);
            }
            let spec = VolumeSpec {
                name: name.to_owned(),
                ..VolumeSpec::default()
            };
            match self.create_volume(&spec) {
                // Another was faster.
                Err(Error::NameTaken { .. }) => {}
                made => return made,
            }
        }
    }

    /// A volume by its name.
    ///
    /// # Errors
    /// A record that cannot be read.
    pub fn volume(&self, name: &str) -> Result<Option<Volume>> {
        if check_name(name).is_err() {
            return Ok(None);
        }
        let dir = self.volume_dir(name);
        Ok(VolumeRecord::read(&dir)?.map(|record| record.view(&dir)))
    }

    /// All volumes, by name. One whose record cannot be read is a warning, and not there.
    ///
    /// # Errors
    /// A directory that cannot be read.
    pub fn volumes(&self) -> Result<Vec<Volume>> {
        let mut all = Vec::new();
        for name in disk::entries(&self.volume_dirs())? {
            match self.volume(&name) {
                Ok(volume) => all.extend(volume),
                Err(error) => disk::warn_once(&self.volume_dir(&name), &error),
            }
        }
        all.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(all)
    }

    /// What a volume takes on disk now, by a walk over all of it.
    ///
    /// # Errors
    /// A directory that cannot be read.
    pub fn volume_usage(&self, volume: &Volume) -> Result<Usage> {
        let failed = Error::io("read", &volume.mountpoint);
        let top = std::fs::File::open(&volume.mountpoint);
        top.and_then(|top| Usage::of_directory(top.as_fd()))
            .map_err(failed)
    }

    /// The ids of containers that use a volume.
    ///
    /// # Errors
    /// Records that cannot be read.
    pub fn users_of_volume(&self, name: &str) -> Result<Vec<String>> {
        let containers = self.containers(&ContainerFilter::default())?;
        let uses = containers.iter().filter(|container| {
            let mut mounts = container.spec.mounts.iter();
            mounts.any(|mount| mount.volume.as_ref().is_some_and(|of| of.name == name))
        });
        Ok(uses.map(|container| container.id.clone()).collect())
    }
}

/// What the options of the driver say.
#[derive(Debug, Default)]
struct Asked {
    owner: Option<(u32, u32)>,
    no_copy: bool,
}

impl Asked {
    fn parse(options: &BTreeMap<String, String>) -> Result<Self> {
        let (mut asked, mut user, mut group) = (Self::default(), None, None);
        for (key, value) in options {
            let unknown = |what: &str| {
                let reason =
                    format!("{what} is not offered: volumes are directories beside the images");
                Err(Error::invalid(format!("volume option {key}"), reason))
            };
            if key != "o" {
                return unknown(value);
            }
            for option in value.split(',').filter(|option| !option.is_empty()) {
                let number = |text: &str| {
                    text.parse::<u32>().map_err(|_| {
                        Error::invalid("volume option o", format!("{option:?} is not a number"))
                    })
                };
                match option.split_once('=') {
                    Some(("uid", text)) => user = Some(number(text)?),
                    Some(("gid", text)) => group = Some(number(text)?),
                    None if option == "nocopy" => asked.no_copy = true,
                    None if option == "copy" => asked.no_copy = false,
                    _ => return unknown(option),
                }
            }
        }
        if user.is_some() || group.is_some() {
            asked.owner = Some((user.unwrap_or(0), group.unwrap_or(0)));
        }
        Ok(asked)
    }
}

fn check_name(name: &str) -> Result<()> {
    let further = |byte: u8| byte.is_ascii_alphanumeric() || b"_.-".contains(&byte);
    let begins = name
        .as_bytes()
        .first()
        .is_some_and(u8::is_ascii_alphanumeric);
    if begins && name.bytes().all(further) && name.len() <= MAX_NAME {
        return Ok(());
    }
    Err(Error::invalid(
        "volume name",
        format!("{name:?}: names must match [a-zA-Z0-9][a-zA-Z0-9_.-]*: invalid argument"),
    ))
}

/// The directory of a volume that containers see.
fn data(dir: &Path) -> PathBuf {
    dir.join(DATA)
}
