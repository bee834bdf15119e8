//! Containers that their pod's supervisor holds still for a connection, and has criu write down.

use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::path::Path;

use supervisor::{Client, Dump, Error as Failure};

use super::super::{Frozen, PodRef};
use super::pod::connect;
use crate::checkpoint::Cancel;
use crate::error::{Error, Result};

const VERB: &str = "checkpoint";

/// See the module.
#[derive(Debug)]
struct Held {
    client: Client,
    pod: String,
    cancel: Cancel,
}

/// Freezes containers of a pod. A cancel hangs up, upon which the supervisor lets them go on.
pub(super) fn freeze(pod: PodRef<'_>, ids: &[String], cancel: &Cancel) -> Result<Box<dyn Frozen>> {
    let failed = |source| failed(pod.id, source);
    let mut client = connect(pod, cancel.left())?;
    let socket = UnixStream::from(client.hang_up_handle().map_err(failed)?);
    // Of a connection that is closed already nothing is left to end.
    cancel.then(move || drop(socket.shutdown(Shutdown::Both)));
    client.freeze(ids, cancel.left()).map_err(failed)?;
    Ok(Box::new(Held {
        client,
        pod: pod.id.to_owned(),
        cancel: cancel.clone(),
    }))
}

fn failed(id: &str, source: Failure) -> Error {
    Error::Supervisor {
        verb: VERB,
        id: id.to_owned(),
        source,
    }
}

impl Frozen for Held {
    fn dump(&mut self, container: &str, images: &Path, work: &Path, criu: &Path) -> Result<()> {
        let dump = Dump {
            id: container.to_owned(),
            images: images.to_owned(),
            work: work.to_owned(),
            criu: criu.to_owned(),
        };
        let written = self.client.dump(&dump, self.cancel.left());
        written.map_err(|source| failed(container, source))
    }

    fn thaw(&mut self) -> Result<()> {
        self.client
            .thaw()
            .map_err(|source| failed(&self.pod, source))
    }
}
