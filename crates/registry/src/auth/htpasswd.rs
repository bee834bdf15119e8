//! Users from an htpasswd file with bcrypt hashes (RFC 7617).
//!
//! Must never work more or less for a user who does not exist than for a wrong password, nor hash on an
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

/// Costs of bcrypt that are taken. One login at the highest takes seconds.
const COSTS: std::ops::RangeInclusive<u32> = 4..=17;

/// The salt of hashes that are made for their work only.
const NO_SALT: [u8; 16] = [0x55; 16];

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
    users: HashMap<String, Hash>,
    /// The highest of the users' costs: what each attempt costs.
    cost: u32,
    right: HashSet<Digest>,
}

/// A user's password, hashed.
#[derive(Debug, Clone)]
struct Hash {
    text: String,
    cost: u32,
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
        let (user, password) = credentials.and_then(parse).ok_or_else(|| refused(None))?;
        let proof = Digest::of(format!("{}\0{user}\0{password}", self.salt).as_bytes());
        let (hash, cost) = {
            let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
            self.refresh(&mut known);
            if known.right.contains(&proof) {
                return Ok(());
            }
            (known.users.get(&user).cloned(), known.cost)
        };
        // Held until the work is done, also when the client has left. The semaphore is never closed.
        let turn = Arc::clone(&self.hashing).acquire_owned().await.ok();
        let work = move || {
            let _turn = turn;
            is_right(&password, hash.as_ref(), cost, &mut |_| {})
        };
        if !tokio::task::spawn_blocking(work).await? {
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

/// User and password of an `Authorization` header.
fn parse(credentials: &str) -> Option<(String, String)> {
    let bytes = BASE64_STANDARD.decode(credentials).ok()?;
    let text = String::from_utf8(bytes).ok()?;
    let (user, password) = text.split_once(':')?;
    Some((user.to_owned(), password.to_owned()))
}

/// The user that credentials are of.
pub(super) fn user(credentials: &str) -> Option<String> {
    parse(credentials).map(|(user, _)| format!("user {user}"))
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
        // One that is damaged would be refused at once, and so tell who is in the file.
        let parts: bcrypt::HashParts = hash
            .parse()
            .map_err(|e| bad(format!("line {number}: {e}")))?;
        let cost = parts.get_cost();
        if !COSTS.contains(&cost) {
            let (least, most) = (COSTS.start(), COSTS.end());
            return Err(bad(format!(
                "line {number}: the cost is {cost}, not one of {least} to {most}"
            )));
        }
        let text = hash.to_owned();
        users.insert(user.to_owned(), Hash { text, cost });
    }
    let cost = users.values().map(|hash| hash.cost).max();
    Ok(Known {
        modified: Some(modified),
        users,
        cost: cost.unwrap_or(*COSTS.start()),
        right: HashSet::new(),
    })
}

/// Whether a password is that of the hash. The work is the same with any hash and with none: that of one
/// hash of this `cost`, which is the highest there is. `hashed` is told the cost of each.
fn is_right(password: &str, hash: Option<&Hash>, cost: u32, hashed: &mut dyn FnMut(u32)) -> bool {
    // A cost of n is the work of 2^n rounds, and 2^c + 2^c + 2^(c+1) + ... + 2^(n-1) = 2^n.
    let (right, rest) = match hash {
        Some(hash) => {
            hashed(hash.cost);
            let right = bcrypt::verify(password, &hash.text).is_ok_and(|right| right);
            (right, hash.cost..cost)
        }
        None => (false, cost..cost + 1),
    };
    for cost in rest {
        hashed(cost);
        // Done for the time that it takes.
        let _ = std::hint::black_box(bcrypt::hash_with_salt(password, cost, NO_SALT));
    }
    right
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

    fn work(password: &str, hash: Option<&Hash>, cost: u32) -> (bool, u64) {
        let mut rounds = 0;
        let right = is_right(password, hash, cost, &mut |cost| rounds += 1u64 << cost);
        (right, rounds)
    }

    #[test]
    fn an_unknown_user_and_a_wrong_password_are_the_same_work_whatever_the_costs() {
        let hash = |cost| Hash {
            text: bcrypt::hash("right", cost).unwrap(),
            cost,
        };
        let highest = 7;
        for cost in [4, 5, highest] {
            let hash = hash(cost);
            assert_eq!(work("wrong", Some(&hash), highest), (false, 1 << highest));
            assert_eq!(work("right", Some(&hash), highest), (true, 1 << highest));
        }
        assert_eq!(work("right", None, highest), (false, 1 << highest));
        assert_eq!(
            work("a\0b", None, highest).1,
            work("a\0b", Some(&hash(4)), highest).1
        );
    }

    #[test]
    fn the_work_is_that_of_the_files_highest_cost_and_damaged_hashes_are_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("users");
        let line = |user: &str, cost| format!("{user}:{}\n", bcrypt::hash("x", cost).unwrap());
        std::fs::write(&path, line("a", 4) + &line("b", 6)).unwrap();
        assert_eq!(read(&path).unwrap().cost, 6);
        for (bad, words) in [
            ("c:$2y$05$short".to_owned(), "line 2: "),
            (
                line("c", 4).replace("$04$", "$31$"),
                "line 2: the cost is 31",
            ),
        ] {
            std::fs::write(&path, line("a", 4) + &bad).unwrap();
            let error = read(&path).unwrap_err().to_string();
            assert!(error.contains(words), "{error}");
        }
    }
}
