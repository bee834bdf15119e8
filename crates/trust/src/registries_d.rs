//! registries.d (containers-registries.d(5)): where the signatures of a registry's images are.
//!
//! As other tools read it: one directory, all its `*.yaml`; a place that two files speak of is an
//! error. Keys that are not known are left alone, as the format has it.

use std::collections::{BTreeMap, HashMap};
use std::ffi::OsString;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use base::file::read_text;
use image::Reference;
use image::reference::with_small_host;
use serde::Deserialize;
use url::Url;

use crate::error::{Error, Result};
use crate::policy::docker_scopes;

/// Where the system keeps signatures when no file says anything.
const BUILT_IN: &str = "file:///var/lib/containers/sigstore";
/// No file of this kind is larger.
const MAX_FILE: u64 = 1 << 20;

/// Where signatures are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RegistriesD {
    default: Place,
    docker: HashMap<String, Place>,
    built_in: String,
}

/// What a file says of one scope.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "kebab-case")]
struct Place {
    lookaside: Option<String>,
    lookaside_staging: Option<String>,
    /// The former names of the same.
    sigstore: Option<String>,
    sigstore_staging: Option<String>,
    use_sigstore_attachments: Option<bool>,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
struct File {
    default_docker: Option<Place>,
    docker: Option<BTreeMap<String, Option<Place>>>,
}

impl Default for RegistriesD {
    /// As without any file.
    fn default() -> RegistriesD {
        RegistriesD {
            default: Place::default(),
            docker: HashMap::new(),
            built_in: BUILT_IN.to_owned(),
        }
    }
}

impl RegistriesD {
    /// Reads the first of `dirs` that exists. Errors with [`Error::Read`] or [`Error::RegistriesD`].
    pub fn load(dirs: &[PathBuf]) -> Result<RegistriesD> {
        let mut all = RegistriesD::default();
        for dir in dirs {
            let Some(files) = files(dir)? else { continue };
            let mut origins = HashMap::new();
            for path in files {
                all.read(&path, &mut origins)?;
            }
            break;
        }
        Ok(all)
    }

    /// The same, with signatures below this directory where no file says anything.
    #[must_use]
    pub fn with_built_in(mut self, dir: &Path) -> RegistriesD {
        if let Ok(url) = Url::from_file_path(dir) {
            self.built_in = url.to_string();
        }
        self
    }

    /// Where the files may be: the user's directory and then the system's. `var` looks up a variable.
    pub fn default_dirs(var: impl Fn(&str) -> Option<OsString>) -> Vec<PathBuf> {
        let config = var("XDG_CONFIG_HOME").map(PathBuf::from);
        let home = || var("HOME").map(|home| Path::new(&home).join(".config"));
        let user = config
            .or_else(home)
            .map(|dir| dir.join("containers/registries.d"));
        user.into_iter()
            .chain([PathBuf::from("/etc/containers/registries.d")])
            .collect()
    }

    fn read(&mut self, path: &Path, origins: &mut HashMap<String, PathBuf>) -> Result<()> {
        let flawed = |why: String| Error::RegistriesD {
            path: path.to_owned(),
            why,
        };
        let read = read_text(path, MAX_FILE).map_err(|source| Error::Read {
            path: path.to_owned(),
            source,
        })?;
        // One that has gone since it was listed is none.
        let Some(text) = read else { return Ok(()) };
        if text.trim().is_empty() {
            return Ok(());
        }
        let file: Option<File> =
            serde_saphyr::from_str(&text).map_err(|error| flawed(first_line(&error)))?;
        let Some(file) = file else { return Ok(()) };
        let mut claim = |scope: &str| match origins.insert(scope.to_owned(), path.to_owned()) {
            Some(other) => Err(flawed(format!("{scope} is in {} already", other.display()))),
            None => Ok(()),
        };
        if let Some(place) = file.default_docker {
            claim("default-docker")?;
            self.default = place;
        }
        for (scope, place) in file.docker.unwrap_or_default() {
            claim(&format!("docker: {scope:?}"))?;
            self.docker
                .insert(with_small_host(&scope), place.unwrap_or_default());
        }
        Ok(())
    }

    /// What the most specific scope says that says anything about it.
    fn find<T>(&self, reference: &Reference, says: impl Fn(&Place) -> Option<T>) -> Option<T> {
        let scopes = docker_scopes(reference).into_iter();
        let places = scopes.filter_map(|scope| self.docker.get(&scope));
        places.chain([&self.default]).find_map(says)
    }

    /// The URL of the directory with the signatures of the manifest `NAME@sha256=HEX`, without the
    /// end from `@` on; for writing where `write`. Errors when what the files say is no URL.
    pub fn lookaside(&self, reference: &Reference, write: bool) -> Result<Url> {
        let says = |place: &Place| {
            let read = place.lookaside.as_ref().or(place.sigstore.as_ref());
            let staging = place.lookaside_staging.as_ref();
            let staging = staging.or(place.sigstore_staging.as_ref());
            let said = if write { staging.or(read) } else { read };
            said.filter(|text| !text.is_empty()).cloned()
        };
        let text = self.find(reference, says);
        let text = text.unwrap_or_else(|| self.built_in.clone());
        let path = reference.path();
        let url = Url::parse(&format!("{}/{path}", text.trim_end_matches('/')));
        let usable = url.ok().filter(|url| match url.scheme() {
            "http" | "https" => url.has_host(),
            "file" => url.to_file_path().is_ok(),
            _ => false,
        });
        usable.ok_or_else(|| Error::SignaturePlace {
            reference: reference.to_string(),
            why: format!("registries.d says {text:?}, which is no file, http or https URL"),
        })
    }

    /// Whether signatures are attached to the image in the registry, too.
    pub fn use_attachments(&self, reference: &Reference) -> bool {
        self.find(reference, |place| place.use_sigstore_attachments)
            .unwrap_or(false)
    }
}

/// The files of a directory in lexical order; `None` when it is not there.
fn files(dir: &Path) -> Result<Option<Vec<PathBuf>>> {
    let failed = |source| Error::Read {
        path: dir.to_owned(),
        source,
    };
    let entries = match fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(failed(error)),
    };
    let mut paths = Vec::new();
    for entry in entries {
        let path = entry.map_err(failed)?.path();
        if path
            .extension()
            .is_some_and(|extension| extension == "yaml")
        {
            paths.push(path);
        }
    }
    paths.sort();
    Ok(Some(paths))
}

/// What the parser met and where, without the picture of it that follows.
fn first_line(error: &serde_saphyr::Error) -> String {
    let text = error.to_string();
    let line = text.lines().next().unwrap_or_default();
    line.strip_prefix("error: ").unwrap_or(line).to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn dir(files: &[(&str, &str)]) -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        for (name, text) in files {
            fs::write(dir.path().join(name), text).unwrap();
        }
        dir
    }

    fn load(files: &[(&str, &str)]) -> Result<RegistriesD> {
        RegistriesD::load(&[dir(files).path().to_owned()])
    }

    #[test]
    fn the_most_specific_scope_that_says_something_decides() {
        let found = load(&[
            ("a.yaml", "default-docker:\n  lookaside: https://all.example/sigs/\n  use-sigstore-attachments: true\n"),
            ("b.yaml", "# comment\ndocker:\n  a.example:\n    sigstore: file:///old\n    lookaside-staging: file:///new\n  a.example/x/y:\n    use-sigstore-attachments: false\n  '*.example.org':\n    lookaside: http://w.example:81\n  a.example/x/y:2:\n"),
            ("c.conf", "not read"),
            ("d.yaml", "\n"),
        ])
        .unwrap();
        for (name, url, staging, attached) in [
            (
                "b.example/n:1",
                "https://all.example/sigs/n",
                "https://all.example/sigs/n",
                true,
            ),
            ("a.example/n:1", "file:///old/n", "file:///new/n", true),
            (
                "a.example/x/y:1",
                "file:///old/x/y",
                "file:///new/x/y",
                false,
            ),
            (
                "q.example.org/n",
                "http://w.example:81/n",
                "http://w.example:81/n",
                true,
            ),
        ] {
            let reference = Reference::parse(name).unwrap();
            assert_eq!(found.lookaside(&reference, false).unwrap().as_str(), url);
            assert_eq!(found.lookaside(&reference, true).unwrap().as_str(), staging);
            assert_eq!(found.use_attachments(&reference), attached, "{name}");
        }
    }

    #[test]
    fn without_files_signatures_are_where_other_tools_keep_them() {
        let empty = tempfile::tempdir().unwrap();
        let none = RegistriesD::load(&[empty.path().join("none")]).unwrap();
        let reference = Reference::parse("busybox").unwrap();
        assert_eq!(
            none.lookaside(&reference, false).unwrap().as_str(),
            "file:///var/lib/containers/sigstore/library/busybox"
        );
        assert!(!none.use_attachments(&reference));
    }

    #[test]
    fn only_the_first_directory_that_exists_is_read() {
        let (one, two) = (
            dir(&[("a.yaml", "default-docker: {lookaside: 'file:///one'}")]),
            dir(&[("a.yaml", "docker: {a.example: {lookaside: 'file:///two'}}")]),
        );
        let dirs = [
            one.path().join("absent"),
            one.path().to_owned(),
            two.path().to_owned(),
        ];
        let reference = Reference::parse("a.example/n").unwrap();
        let found = RegistriesD::load(&dirs).unwrap();
        assert_eq!(
            found.lookaside(&reference, false).unwrap().as_str(),
            "file:///one/n"
        );
    }

    #[test]
    fn what_is_said_twice_or_wrongly_is_an_error() {
        for (files, words) in [
            (
                &[
                    ("a.yaml", "default-docker: {}"),
                    ("b.yaml", "default-docker: {}"),
                ][..],
                "already",
            ),
            (
                &[
                    ("a.yaml", "docker: {a.b: {}}"),
                    ("b.yaml", "docker: {a.b: {}}"),
                ],
                "already",
            ),
            (&[("a.yaml", "docker: [")], "a.yaml"),
            (
                &[(
                    "a.yaml",
                    "docker: {a.b: {use-sigstore-attachments: perhaps}}",
                )],
                "a.yaml",
            ),
        ] {
            let error = load(files).unwrap_err().to_string();
            assert!(error.contains(words), "{error}");
        }
        let odd = load(&[("a.yaml", "default-docker: {lookaside: 'ftp://x/y'}")]).unwrap();
        let error = odd
            .lookaside(&Reference::parse("a.b/c").unwrap(), false)
            .unwrap_err();
        assert!(error.to_string().contains("ftp://x/y"), "{error}");
    }
}
