//! Finding a pod's supervisor, also where its record cannot be read, and one that has not come so far
//! as to write it. What tells of its life is the lock that its process holds from before it is
//! executed until it has ended; what tells its pid is the record, or else its socket.

use std::fs::File;
use std::path::Path;
use std::time::{Duration, Instant};

use base::lock;
use rustix::net::sockopt::socket_peercred;

use crate::address;
use crate::error::{Error, Result};
use crate::info::{LOCK_FILE, SupervisorInfo};

/// How often to look whether a supervisor that starts has come up.
const STEP: Duration = Duration::from_millis(5);
/// How long one that could not be started may take to end.
const ENDING: Duration = Duration::from_secs(1);

/// The lock of the supervisor that is about to be started. It goes when the last process that was
/// given it has ended or closed it, which takes one that failed a moment.
pub(super) fn lock(dir: &Path) -> Result<File> {
    match try_lock(dir, ENDING)? {
        (file, true) => Ok(file),
        _ => Err(Error::SetUp {
            part: "the supervisor's lock".to_owned(),
            reason: "another supervisor of the pod lives".to_owned(),
        }),
    }
}

fn try_lock(dir: &Path, limit: Duration) -> Result<(File, bool)> {
    let path = dir.join(LOCK_FILE);
    let file = lock::open(&path).map_err(Error::io("open", &path))?;
    match lock::within(&file, lock::Kind::Exclusive, limit) {
        Ok(got) => Ok((file, got)),
        Err(error) => Err(Error::io("lock", path)(error)),
    }
}

/// The supervisor of the pod in `dir`, if one lives. One that is just starting is waited for, up to
/// `patience`.
///
/// # Errors
/// One that starts and does not come up; a directory that cannot be read.
pub fn find(dir: &Path, patience: Duration) -> Result<Option<SupervisorInfo>> {
    let until = Instant::now() + patience;
    loop {
        match SupervisorInfo::read(dir) {
            Ok(Some(info)) => return Ok(Some(info).filter(SupervisorInfo::is_alive)),
            Err(Error::Record { .. }) => return listener(dir),
            Err(error) => return Err(error),
            Ok(None) => {}
        }
        // Asked in this order: whoever starts writes its record before it could let go.
        let free = !dir.join(LOCK_FILE).exists() || try_lock(dir, Duration::ZERO)?.1;
        if let Some(info) = listener(dir)? {
            return Ok(Some(info));
        }
        if free {
            return Ok(None);
        }
        if Instant::now() >= until {
            return Err(Error::SetUp {
                part: "supervisor".to_owned(),
                reason: format!("it starts, and was not ready within {patience:?}"),
            });
        }
        std::thread::sleep(STEP);
    }
}

/// Who listens on the pod's socket.
fn listener(dir: &Path) -> Result<Option<SupervisorInfo>> {
    let socket = match address::connect(dir, super::ANSWER_LIMIT) {
        Ok(socket) => socket,
        Err(Error::Gone { .. }) => return Ok(None),
        Err(error) => return Err(error),
    };
    let peer = socket_peercred(&socket).map_err(Error::io("ask who listens in", dir.to_owned()))?;
    Ok(SupervisorInfo::of_process(peer.pid.as_raw_nonzero().get()))
}
