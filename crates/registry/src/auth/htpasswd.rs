//! Users from an htpasswd file with bcrypt hashes (RFC 7617).
//!
//! Must never spend less time on a user who does not exist than on a wrong password, nor hash on an
//! async thread. A password that was right is remembered, salted and hashed, until the file changes.

use std::collections::{HashMap, HashSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use image::Digest;
use tokio::sync::Semaphore;

use crate::error::{Error, Result};
use crate::name::UploadId;

const CHALLENGE: &str = "Basic realm=\"floe registry\", charset=\"UTF-8\"";

/// bcrypt of nothing that anyone knows: what unknown users are checked against.
const NOBODY: &str = "$2b$10$CCCCCCCCCCCCCCCCCCCCC.E5YPO9kmyuRGyh0XouQYb4YMJKvyOeW";

/// Passwords hashed at once: hashing is slow on purpose, and the rest must go on.
const AT_ONCE: usize = 2;

/// Remembered logins; more than any sane number of users.
const REMEMBERED: usize = 4096;

/// The users of a file.
#[derive(Debug)]
pub(crate) struct Users {
    path: PathBuf,
    salt: String,
    hashing: Arc<Semaphore>,
    known: Mutex<Known>,
}

#[derive(Debug)]
struct Known {
    modified: Option<SystemTime>,
    users: HashMap<String, String>,
    right: HashSet<Digest>,
}

impl Users {
    pub(super) fn open(path: &Path) -> Result<Users> {
        Ok(Users {
            path: path.to_owned(),
            salt: UploadId::random().to_string(),
            hashing: Arc::new(Semaphore::new(AT_ONCE)),
            known: Mutex::new(read(path)?),
        })
    }

    pub(super) async fn check(&self, credentials: Option<&str>) -> Result<()> {
        let (user, password) = credentials
            .and_then(|text| BASE64_STANDARD.decode(text).ok())
            .and_then(|bytes| String::from_utf8(bytes).ok())
            .and_then(|text| {
                text.split_once(':')
                    .map(|(u, p)| (u.to_owned(), p.to_owned()))
            })
            .ok_or_else(|| refused(None))?;
        let proof = Digest::of(format!("{}\0{user}\0{password}", self.salt).as_bytes());
        let hash = {
            let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
            self.refresh(&mut known);
            if known.right.contains(&proof) {
                return Ok(());
            }
            known.users.get(&user).cloned()
        };
        let exists = hash.is_some();
        let hash = hash.unwrap_or_else(|| NOBODY.to_owned());
        // The semaphore is never closed.
        let _turn = self.hashing.acquire().await.ok();
        let right = tokio::task::spawn_blocking(move || bcrypt::verify(password, &hash)).await?;
        if !exists || !right.is_ok_and(|right| right) {
            return Err(refused(Some("wrong user or password")));
        }
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if known.right.len() >= REMEMBERED {
            known.right.clear();
        }
        known.right.insert(proof);
        Ok(())
    }

    /// Reads the file again when it has changed; what cannot be read leaves the users as they were.
    fn refresh(&self, known: &mut Known) {
        let modified = fs::metadata(&self.path)
            .and_then(|file| file.modified())
            .ok();
        if modified == known.modified {
            return;
        }
        match read(&self.path) {
            Ok(new) => *known = new,
            Err(e) => tracing::warn!("users stay as they were: {e}"),
        }
    }
}

fn read(path: &Path) -> Result<Known> {
    let bad = |reason: String| Error::Setting {
        what: "htpasswd file",
        path: path.to_owned(),
        reason,
    };
    let modified = fs::metadata(path).and_then(|file| file.modified());
    let modified = modified.map_err(|e| bad(e.to_string()))?;
    let text = fs::read_to_string(path).map_err(|e| bad(e.to_string()))?;
    let mut users = HashMap::new();
    for (number, line) in (1..).zip(text.lines().map(str::trim)) {
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let (user, hash) = line
            .split_once(':')
            .ok_or_else(|| bad(format!("line {number} is not user:hash")))?;
        if !["$2a$", "$2b$", "$2x$", "$2y$"]
            .iter()
            .any(|kind| hash.starts_with(kind))
        {
            return Err(bad(format!(
                "line {number}: only bcrypt hashes (htpasswd -B) are supported"
            )));
        }
        users.insert(user.to_owned(), hash.to_owned());
    }
    Ok(Known {
        modified: Some(modified),
        users,
        right: HashSet::new(),
    })
}

fn refused(reason: Option<&str>) -> Error {
    Error::Unauthorized {
        challenge: CHALLENGE.to_owned(),
        reason: reason.map(str::to_owned),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_is_a_hash_that_costs_time() {
        // A malformed one would be refused at once, and tell who exists.
        assert!(!bcrypt::verify("x", NOBODY).unwrap());
    }
}
