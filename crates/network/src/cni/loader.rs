//! Finding the network to use: the first valid file of the configuration directory, the one that
//! was asked for by name, or the built-in bridge when there is no file. Read again when a file has
//! changed. Must never fall back to the built-in network because a file is wrong.

use std::fs;
use std::io::ErrorKind;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use serde_json::Value;

use super::chain::Chain;
use super::list::{List, Places, is_name, is_true};
use crate::{Error, NetworkConfig, NotReady, Result};

/// What tells one state of the directory from another.
type Fingerprint = Vec<(PathBuf, Option<SystemTime>, u64, u64)>;

/// No configuration is as long.
const FILE_MAX: u64 = 4 << 20;
/// Plugins of one network's folder, and folders.
const FOLDER_MAX: usize = 256;

/// The configuration directory and what was last read from it.
#[derive(Debug)]
pub(crate) struct Loader {
    places: Arc<Places>,
    last: Mutex<Option<(Fingerprint, Arc<Chain>)>>,
}

impl Loader {
    /// Nothing is read yet.
    pub(crate) fn new(config: &NetworkConfig, plugin_timeout: Duration) -> Self {
        Loader {
            places: Places::new(config, plugin_timeout),
            last: Mutex::new(None),
        }
    }

    /// Surroundings of all lists.
    pub(crate) fn places(&self) -> &Arc<Places> {
        &self.places
    }

    /// The network to put pods on now.
    pub(crate) fn current(&self, config: &NetworkConfig) -> Result<Arc<Chain>> {
        let (files, folders) = files_and_folders(&config.conf_dir)?;
        let mut fingerprint = files.clone();
        fingerprint.extend(folders);
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((known, chain)) = &*last
            && *known == fingerprint
        {
            return Ok(chain.clone());
        }
        let chain = Arc::new(self.load(config, &files)?);
        *last = Some((fingerprint, chain.clone()));
        Ok(chain)
    }

    fn load(&self, config: &NetworkConfig, files: &Fingerprint) -> Result<Chain> {
        let wanted = config.default_network.as_deref();
        let mut refused = Vec::new();
        for (path, ..) in files {
            match self.read(path) {
                Ok(list) if wanted.is_some_and(|wanted| wanted != list.name) => {}
                Ok(list) => match Chain::build(list) {
                    Ok(chain) => return Ok(chain),
                    Err(error) => refused.push(format!("{}: {error}", path.display())),
                },
                Err(error) => refused.push(format!("{}: {error}", path.display())),
            }
        }
        let built_in = match wanted {
            Some(wanted) => wanted == NetworkConfig::BUILT_IN,
            None => files.is_empty(),
        };
        if built_in {
            return Chain::build(List::built_in(config, &self.places)?);
        }
        let what = match wanted {
            Some(wanted) => format!("no valid CNI network {wanted:?}"),
            None => "no valid CNI network".to_owned(),
        };
        let dir = config.conf_dir.display();
        let why = if refused.is_empty() {
            String::new()
        } else {
            format!(": {}", refused.join("; "))
        };
        Err(NotReady {
            reason: format!("{what} found in {dir}{why}"),
        }
        .into())
    }

    fn read(&self, path: &Path) -> Result<List> {
        let text = read(path)?;
        let source = path.file_name().unwrap_or_default().to_string_lossy();
        let mut value = serde_json::from_slice(&text)
            .map_err(|error| Error::config(&source, "JSON", error.to_string()))?;
        self.add_plugins_of_folder(path, &mut value)?;
        List::parse(value, &source, &self.places)
    }

    /// Appends the plugins that lie as files in the folder of the network's name beside its list, unless the
    /// list has `loadOnlyInlinedPlugins` (CNI specification 1.1.0, section 1).
    fn add_plugins_of_folder(&self, path: &Path, list: &mut Value) -> Result<()> {
        let Some(object) = list.as_object_mut() else {
            return Ok(());
        };
        let inlined_only = object.get("loadOnlyInlinedPlugins").is_some_and(is_true);
        let name = object.get("name").and_then(Value::as_str);
        let (Some(name), Some(dir)) = (name.filter(|name| is_name(name)), path.parent()) else {
            return Ok(());
        };
        if inlined_only || object.contains_key("type") {
            return Ok(());
        }
        let name = name.to_owned();
        for (file, ..) in folder_files(&dir.join(&name))? {
            let text = read(&file)?;
            let plugin: Value = serde_json::from_slice(&text).map_err(|error| {
                let source = file.file_name().unwrap_or_default().to_string_lossy();
                Error::config(&name, format!("{source}: JSON"), error.to_string())
            })?;
            let plugins = object
                .entry("plugins")
                .or_insert_with(|| Value::Array(Vec::new()));
            if let Some(plugins) = plugins.as_array_mut() {
                plugins.push(plugin);
            }
        }
        Ok(())
    }
}

fn read(path: &Path) -> Result<Vec<u8>> {
    base::file::read_linked(path, FILE_MAX)
        .and_then(|text| text.ok_or_else(|| ErrorKind::NotFound.into()))
        .map_err(Error::file("read", path))
}

/// The directory's configuration files in the order of their names, whichever extension they have (a
/// `00-multus.conf` comes before a `10-calico.conflist`), and what lies in the folders of networks. None when it
/// does not exist.
fn files_and_folders(dir: &Path) -> Result<(Fingerprint, Fingerprint)> {
    let (files, dirs) = look(dir, &["conflist", "conf", "json"])?;
    let mut below = Vec::new();
    for dir in dirs.iter().take(FOLDER_MAX) {
        below.extend(folder_files(dir)?);
    }
    below.sort();
    Ok((files, below))
}

/// The plugins' files of a network's folder, in the order of their names; none when it does not exist.
fn folder_files(dir: &Path) -> Result<Fingerprint> {
    let (mut files, _) = look(dir, &["conf"])?;
    files.truncate(FOLDER_MAX);
    Ok(files)
}

/// The files of a directory with one of these extensions, and its directories.
fn look(dir: &Path, extensions: &[&str]) -> Result<(Fingerprint, Vec<PathBuf>)> {
    let (mut files, mut dirs) = (Vec::new(), Vec::new());
    let entries = match fs::read_dir(dir) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok((files, dirs)),
        other => other.map_err(Error::file("list", dir))?,
    };
    for entry in entries {
        let path = entry.map_err(Error::file("list", dir))?.path();
        let extension = path.extension().and_then(|extension| extension.to_str());
        let is_wanted = extension.is_some_and(|extension| extensions.contains(&extension));
        // Follows links, as configuration is often mounted. What vanishes meanwhile is left out.
        let Ok(metadata) = fs::metadata(&path) else {
            continue;
        };
        if metadata.is_dir() {
            dirs.push(path);
        } else if is_wanted && metadata.is_file() {
            let (changed, length, file) =
                (metadata.modified().ok(), metadata.len(), metadata.ino());
            files.push((path, changed, length, file));
        }
    }
    files.sort();
    dirs.sort();
    Ok((files, dirs))
}
