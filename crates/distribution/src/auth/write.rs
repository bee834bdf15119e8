//! Writing logins to an auth.json (containers-auth.json(5)).
//!
//! What else the file holds stays as it is; the file is replaced at once or not at all, and only
//! its owner can read it. Where it names a credential helper, the login goes there and not into it.

use std::fs;
use std::io;
use std::path::Path;
use std::time::Duration;

use base::file::{Lasts, replace};
use base::lock;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use image::reference::with_small_host;
use serde_json::{Map, Value, json};

use super::helper::Helper;
use super::{AuthFiles, AuthFlaw, Keeper, RUNTIME_FILES, RawFile, keepers, parse, several};
use crate::error::{Error, Result};

/// How long others may change the file before us.
const LOCK_TIMEOUT: Duration = Duration::from_secs(30);

impl AuthFiles {
    /// Where logins are written that nobody named a file for: the first of the files whose directory is
    /// there or can be made by whoever runs this.
    pub fn for_writing(&self) -> Option<&Path> {
        let uid = rustix::process::getuid();
        let usable = |file: &&Path| {
            let own = !file.starts_with(RUNTIME_FILES);
            own || uid.is_root() || file.parent().is_some_and(Path::is_dir)
        };
        self.files().find(usable)
    }
}

/// Stores the login of a registry or namespace (`host[:port][/path]`) with the first keeper that takes
/// it, of the `order` of registries.conf (empty: the file alone). The file's own helper for the registry
/// stands for the file. Helpers take no namespaces.
pub fn store(
    order: &[String],
    file: &Path,
    key: &str,
    username: &str,
    password: &str,
) -> Result<()> {
    let key = &with_small_host(key);
    let mut failures = Vec::new();
    for keeper in keepers(order, &None) {
        let stored = match keeper {
            Keeper::Files => store_in_file(file, key, username, password),
            Keeper::Helper(helper) => match key.contains('/') {
                true => Err(namespaced(&helper, key)),
                false => helper.store(key, username, password),
            }
            .map_err(Error::CredentialHelper),
        };
        match stored {
            Ok(()) => return Ok(()),
            Err(error) => failures.push(error),
        }
    }
    Err(several(failures))
}

fn namespaced(helper: &Helper, key: &str) -> AuthFlaw {
    AuthFlaw::Helper {
        registry: key.to_owned(),
        helper: helper.name().to_owned(),
        why: "it keeps logins of whole registries only".into(),
    }
}

fn store_in_file(file: &Path, key: &str, username: &str, password: &str) -> Result<()> {
    if let Some(helper) = helper(file, key)? {
        return helper
            .store(key, username, password)
            .map_err(|flaw| flawed(file, flaw));
    }
    let auth = STANDARD.encode(format!("{username}:{password}"));
    change(file, |auths| {
        auths.insert(key.to_owned(), json!({ "auth": auth }));
        true
    })
    .map(drop)
}

/// Forgets the login of a registry or namespace with every keeper of the `order`, and in the file with
/// its helper; `false` when there is none. Errors at the end, when one fails.
pub fn forget(order: &[String], file: &Path, key: &str) -> Result<bool> {
    let key = &with_small_host(key);
    everywhere(order, |keeper| match keeper {
        Keeper::Files => forget_in_file(file, key),
        Keeper::Helper(_) if key.contains('/') => Ok(false),
        Keeper::Helper(helper) => helper.erase(key).map_err(Error::CredentialHelper),
    })
}

fn forget_in_file(file: &Path, key: &str) -> Result<bool> {
    let erased = match helper(file, key)? {
        Some(helper) => helper.erase(key).map_err(|flaw| flawed(file, flaw))?,
        None => false,
    };
    if !file.exists() {
        return Ok(erased);
    }
    let removed = change(file, |auths| {
        let before = auths.len();
        auths.retain(|other, _| with_small_host(other) != *key);
        auths.len() < before
    });
    Ok(removed? || erased)
}

/// Forgets every login of all keepers; of a helper that is not installed there are none. Errors at the
/// end, when one fails.
pub fn forget_all(order: &[String], file: &Path) -> Result<bool> {
    everywhere(order, |keeper| match keeper {
        Keeper::Files => forget_all_in_file(file),
        Keeper::Helper(helper) if !helper.is_installed() => Ok(false),
        Keeper::Helper(helper) => erase_all(&helper).map_err(Error::CredentialHelper),
    })
}

/// Whether any keeper did something.
fn everywhere(order: &[String], forget: impl Fn(Keeper) -> Result<bool>) -> Result<bool> {
    let mut any = false;
    let mut failures = Vec::new();
    for keeper in keepers(order, &None) {
        match forget(keeper) {
            Ok(done) => any |= done,
            Err(error) => failures.push(error),
        }
    }
    match failures.is_empty() {
        true => Ok(any),
        false => Err(several(failures)),
    }
}

fn erase_all(helper: &Helper) -> Result<bool, AuthFlaw> {
    let mut any = false;
    for server in helper.list()? {
        any |= helper.erase(&server)?;
    }
    Ok(any)
}

/// Forgets the logins of the file, and those of its helpers: of one for certain registries theirs, of
/// the common one all.
fn forget_all_in_file(file: &Path) -> Result<bool> {
    let raw = read(file)?;
    // First what needs nobody's help.
    let mut any = file.exists()
        && change(file, |auths| {
            let any = !auths.is_empty();
            auths.clear();
            any
        })?;
    for (registry, name) in raw.cred_helpers.iter().filter(|(_, name)| !name.is_empty()) {
        let helper = Helper::new(name, None);
        any |= helper.erase(registry).map_err(|flaw| flawed(file, flaw))?;
    }
    if let Some(helper) = raw.common_helper(&None) {
        any |= erase_all(&helper).map_err(|flaw| flawed(file, flaw))?;
    }
    Ok(any)
}

/// The helper that keeps the logins of a registry, as helpers know no namespaces.
fn helper(file: &Path, key: &str) -> Result<Option<Helper>> {
    let raw = read(file)?;
    let own = raw.helper(key, &None);
    Ok(own.or_else(|| raw.common_helper(&None).filter(|_| !key.contains('/'))))
}

fn read(file: &Path) -> Result<RawFile> {
    match fs::read(file) {
        Ok(text) => parse(&text).map_err(|flaw| flawed(file, flaw)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(RawFile::default()),
        Err(source) => Err(Error::Read {
            path: file.to_owned(),
            source,
        }),
    }
}

fn flawed(file: &Path, flaw: AuthFlaw) -> Error {
    Error::Auth {
        path: file.to_owned(),
        flaw,
    }
}

/// Changes the logins of the file, one process after the other.
fn change(file: &Path, change: impl FnOnce(&mut Map<String, Value>) -> bool) -> Result<bool> {
    let failed = |source| Error::Read {
        path: file.to_owned(),
        source,
    };
    let unwritten = |source| Error::Write {
        path: file.to_owned(),
        source,
    };
    // A link stays one: what it leads to is replaced.
    let followed = fs::canonicalize(file);
    let file = followed.as_deref().unwrap_or(file);
    let _locked = match file.parent() {
        Some(dir) => {
            let dir = match dir.as_os_str().is_empty() {
                true => Path::new("."),
                false => dir,
            };
            fs::create_dir_all(dir).map_err(unwritten)?;
            Some(locked(dir).map_err(unwritten)?)
        }
        None => None,
    };
    let text = match fs::read(file) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => b"{}".to_vec(),
        Err(error) => return Err(failed(error)),
    };
    let flawed = |line, column| flawed(file, AuthFlaw::Json { line, column });
    let mut whole: Value = match text.iter().all(u8::is_ascii_whitespace) {
        true => json!({}),
        false => serde_json::from_slice(&text).map_err(|e| flawed(e.line(), e.column()))?,
    };
    let object = whole.as_object_mut().ok_or_else(|| flawed(1, 1))?;
    let auths = object.entry("auths").or_insert_with(|| json!({}));
    let auths = auths.as_object_mut().ok_or_else(|| flawed(1, 1))?;
    let changed = change(auths);
    if changed {
        let text = serde_json::to_vec_pretty(&whole).map_err(|e| unwritten(e.into()))?;
        replace(file, &text, 0o600, Lasts::Always).map_err(unwritten)?;
    }
    Ok(changed)
}

/// Waits until nobody else changes a file of the directory, which the lock is on so that no file is left
/// behind.
fn locked(dir: &Path) -> io::Result<fs::File> {
    let opened = fs::File::open(dir)?;
    lock::or_timeout(&opened, lock::Kind::Exclusive, LOCK_TIMEOUT)?;
    Ok(opened)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use image::Reference;

    use super::*;
    use crate::Credentials;

    #[test]
    fn a_login_is_found_again_and_all_else_stays() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("new/auth.json");
        store(&[], &file, "a.example", "me", "pass:word").unwrap();
        let mode = fs::metadata(&file).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        let found = AuthFiles::only(&file)
            .lookup(&Reference::parse("a.example/x").unwrap())
            .unwrap();
        assert_eq!(found, Credentials::basic("me", "pass:word"));
        let text = r#"{"auths":{"a":{"auth":"x"}},"credHelpers":{"b":"c"},"more":[1]}"#;
        fs::write(&file, text).unwrap();
        assert!(forget(&[], &file, "a").unwrap());
        assert!(!forget(&[], &file, "a").unwrap());
        store(&[], &file, "d/e", "u", "p").unwrap();
        let whole: Value = serde_json::from_slice(&fs::read(&file).unwrap()).unwrap();
        assert_eq!(whole["more"], json!([1]));
        assert_eq!(whole["credHelpers"]["b"], "c");
        assert_eq!(whole["auths"].as_object().unwrap().len(), 1);
        let error = forget_all(&[], &file).unwrap_err().to_string();
        assert!(error.contains("docker-credential-c"), "{error}");
        let whole: Value = serde_json::from_slice(&fs::read(&file).unwrap()).unwrap();
        assert!(whole["auths"].as_object().unwrap().is_empty());
        fs::write(&file, r#"{"auths":{"a":{"auth":"x"}}}"#).unwrap();
        assert!(forget_all(&[], &file).unwrap());
        assert_eq!(fs::read_dir(dir.path().join("new")).unwrap().count(), 1);
    }

    #[test]
    fn logins_that_are_made_at_once_are_all_kept() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("new/config.json");
        std::thread::scope(|scope| {
            for number in 0..30 {
                let file = &file;
                scope.spawn(move || store(&[], file, &format!("r{number}.example"), "u", "p"));
            }
        });
        let count = || -> usize {
            let whole: Value = serde_json::from_slice(&fs::read(&file).unwrap()).unwrap();
            whole["auths"].as_object().unwrap().len()
        };
        assert_eq!(count(), 30);
        std::thread::scope(|scope| {
            for number in 0..20 {
                let file = &file;
                scope.spawn(move || forget(&[], file, &format!("r{number}.example")));
            }
        });
        assert_eq!(count(), 10);
        assert_eq!(fs::read_dir(dir.path().join("new")).unwrap().count(), 1);
    }

    #[test]
    fn a_link_to_the_file_stays_one_and_nothing_is_made_to_forget_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let (real, link) = (dir.path().join("real.json"), dir.path().join("link.json"));
        fs::write(&real, "{}").unwrap();
        std::os::unix::fs::symlink(&real, &link).unwrap();
        store(&[], &link, "a.example", "u", "p").unwrap();
        assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
        assert!(fs::read_to_string(&real).unwrap().contains("a.example"));
        let none = dir.path().join("none/auth.json");
        assert!(!forget(&[], &none, "a.example").unwrap());
        assert!(!forget_all(&[], &none).unwrap());
        assert!(!none.parent().unwrap().exists());
    }

    #[test]
    fn a_file_that_is_not_understood_is_not_replaced() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("auth.json");
        for text in ["[]", "{", r#"{"auths": 1}"#] {
            fs::write(&file, text).unwrap();
            assert!(store(&[], &file, "a", "u", "p").is_err());
            assert_eq!(fs::read_to_string(&file).unwrap(), text);
        }
    }
}
