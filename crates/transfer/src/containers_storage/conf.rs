//! storage.conf(5): where the store is, how it is laid out, and which other stores are read beside it.
//!
//! Keys that matter only to writers and mounts are not looked at.

use std::env;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::place::Specifier;
use super::tree;
use crate::error::{Error, Result};

const SYSTEM: [&str; 2] = [
    "/etc/containers/storage.conf",
    "/usr/share/containers/storage.conf",
];

/// A store and those beside it.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Setting {
    /// The name of the driver; what is there decides when nobody says.
    pub(super) driver: Option<String>,
    pub(super) graphroot: PathBuf,
    /// Where images are kept apart from containers.
    pub(super) imagestore: Option<PathBuf>,
    /// Stores that are only read.
    pub(super) additional: Vec<PathBuf>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct RawFile {
    storage: RawStorage,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct RawStorage {
    driver: String,
    graphroot: String,
    rootless_storage_path: String,
    imagestore: String,
    options: RawOptions,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct RawOptions {
    additionalimagestores: Vec<String>,
}

impl Setting {
    /// The store of a name, or that of this machine and user.
    pub(super) fn of(specifier: Option<&Specifier>) -> Result<Setting> {
        match specifier {
            Some(specifier) => Ok(Setting {
                driver: specifier.driver.clone(),
                graphroot: specifier.graphroot.clone(),
                imagestore: None,
                additional: stores(&specifier.options),
            }),
            None => {
                let root = rustix::process::geteuid().is_root();
                let var = |name: &str| env::var(name).ok().filter(|value| !value.is_empty());
                Setting::configured(root, var)
            }
        }
    }

    /// What the first storage.conf that exists says, and `STORAGE_DRIVER` and `STORAGE_OPTS`.
    fn configured(root: bool, var: impl Fn(&str) -> Option<String>) -> Result<Setting> {
        let own = || {
            let config = var("XDG_CONFIG_HOME").map(PathBuf::from);
            let config = config.or_else(|| Some(Path::new(&var("HOME")?).join(".config")))?;
            Some(config.join("containers/storage.conf"))
        };
        let named = var("CONTAINERS_STORAGE_CONF").map(PathBuf::from);
        let own = named.clone().or_else(|| own().filter(|_| !root));
        let system = SYSTEM.map(PathBuf::from).into_iter();
        let system = system.filter(|_| named.is_none());
        let (file, raw) = first(own.iter().cloned().chain(system))?;
        let text = |text: String| Some(text).filter(|text| !text.is_empty());
        let path = |text: String| {
            let path = PathBuf::from(expanded(&text, &var));
            // Policies know the store by where it really is.
            fs::canonicalize(&path).unwrap_or_else(|_| Path::new("/").join(tree::plain(&path)))
        };
        // The system's store is not the user's, unless the user says so.
        let graphroot = text(raw.graphroot).filter(|_| root || file == own);
        let graphroot = graphroot.or_else(|| text(raw.rootless_storage_path).filter(|_| !root));
        let usual = || match root {
            true => Some(PathBuf::from("/var/lib/containers/storage")),
            false => {
                let data = var("XDG_DATA_HOME").map(PathBuf::from);
                let data = data.or_else(|| Some(Path::new(&var("HOME")?).join(".local/share")))?;
                Some(data.join("containers/storage"))
            }
        };
        let nowhere = || {
            Error::place(
                "containers-storage",
                "no directory is known: $HOME is not set",
            )
        };
        let additional = match var("STORAGE_OPTS") {
            Some(options) => stores(options.split(',')),
            None => raw
                .options
                .additionalimagestores
                .iter()
                .map(PathBuf::from)
                .collect(),
        };
        Ok(Setting {
            driver: var("STORAGE_DRIVER").or(text(raw.driver)),
            graphroot: graphroot.map(path).or_else(usual).ok_or_else(nowhere)?,
            imagestore: text(raw.imagestore).map(PathBuf::from),
            additional,
        })
    }
}

/// The first of the files that exists, and what it says; nothing when there is none.
fn first(files: impl Iterator<Item = PathBuf>) -> Result<(Option<PathBuf>, RawStorage)> {
    for file in files {
        match fs::read_to_string(&file) {
            Ok(text) => {
                let raw: RawFile = toml::from_str(&text)
                    .map_err(|error| Error::place(file.display(), error.to_string()))?;
                return Ok((Some(file), raw.storage));
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(Error::io("read", file)(error)),
        }
    }
    Ok(Default::default())
}

/// The stores among a driver's options, such as `overlay.imagestore=/shared`.
fn stores(options: impl IntoIterator<Item = impl AsRef<str>>) -> Vec<PathBuf> {
    let store = |option: &str| {
        let (key, value) = option.split_once('=')?;
        let key = key.trim().rsplit('.').next()?;
        matches!(key, "imagestore" | "additionalimagestore").then(|| PathBuf::from(value.trim()))
    };
    let options = options.into_iter();
    options
        .filter_map(|option| store(option.as_ref()))
        .collect()
}

/// With `$NAME` and `${NAME}` replaced.
fn expanded(text: &str, var: impl Fn(&str) -> Option<String>) -> String {
    let value = |name: &str| match name {
        "UID" => Some(rustix::process::getuid().as_raw().to_string()),
        name => var(name),
    };
    let mut parts = text.split('$');
    let mut whole = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let (name, rest) = match part.strip_prefix('{').and_then(|part| part.split_once('}')) {
            Some(braced) => braced,
            None => {
                let end = part.find(|c: char| !c.is_ascii_alphanumeric() && c != '_');
                part.split_at(end.unwrap_or(part.len()))
            }
        };
        whole += &value(name).unwrap_or_default();
        whole += rest;
    }
    whole
}

#[cfg(test)]
mod tests {
    use super::*;

    fn setting(root: bool, conf: &str, vars: &[(&str, &str)]) -> Result<Setting> {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("storage.conf");
        fs::write(&file, conf).unwrap();
        Setting::configured(root, |name| match name {
            "CONTAINERS_STORAGE_CONF" => file.to_str().map(str::to_owned),
            name => {
                let found = vars.iter().find(|(key, _)| *key == name);
                found.map(|(_, value)| (*value).to_owned())
            }
        })
    }

    const CONF: &str = r#"
[storage]
driver = "overlay"
runroot = "/run/x"
graphroot = "/srv/$NAME/${NAME}x"
rootless_storage_path = "$HOME/c/$UID"
imagestore = "/images"
[storage.options]
additionalimagestores = ["/one", "/two"]
mount_program = "/usr/bin/fuse-overlayfs"
[storage.options.overlay]
mountopt = "nodev"
"#;

    #[test]
    fn a_storage_conf_says_where_stores_are() {
        let root = setting(true, CONF, &[("NAME", "n")]).unwrap();
        assert_eq!(root.driver.as_deref(), Some("overlay"));
        assert_eq!(root.graphroot, Path::new("/srv/n/nx"));
        assert_eq!(root.imagestore.as_deref(), Some(Path::new("/images")));
        assert_eq!(root.additional, [Path::new("/one"), Path::new("/two")]);
        let vars = [
            ("HOME", "/home/me"),
            ("STORAGE_DRIVER", "vfs"),
            ("STORAGE_OPTS", "vfs.imagestore=/three,x"),
        ];
        let user = setting(false, CONF, &vars).unwrap();
        assert_eq!(user.driver.as_deref(), Some("vfs"));
        let uid = rustix::process::getuid().as_raw().to_string();
        let apart = CONF.replace("graphroot =", "#");
        let apart = setting(false, &apart, &vars).unwrap();
        assert_eq!(apart.graphroot, Path::new("/home/me/c").join(uid));
        assert_eq!(user.graphroot, Path::new("/srv/x"));
        assert_eq!(user.additional, [Path::new("/three")]);
    }

    #[test]
    fn what_nobody_says_is_the_usual_place() {
        let root = setting(true, "", &[]).unwrap();
        assert_eq!(root.graphroot, Path::new("/var/lib/containers/storage"));
        assert_eq!((root.driver, root.additional), (None, Vec::new()));
        let user = setting(false, "", &[("HOME", "/h")]).unwrap();
        assert_eq!(
            user.graphroot,
            Path::new("/h/.local/share/containers/storage")
        );
        let error = setting(false, "", &[]).unwrap_err().to_string();
        assert!(error.contains("$HOME"), "{error}");
        let error = setting(true, "[storage", &[]).unwrap_err().to_string();
        assert!(error.contains("storage.conf"), "{error}");
    }
}
