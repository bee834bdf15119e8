//! The pod's side: its network namespace, and one netlink socket inside it for all plugins.

use std::cell::{RefCell, RefMut};
use std::path::Path;

use crate::Result;
use crate::sys::netns::Netns;
use netlink::Socket;

/// A pod's open network namespace.
#[derive(Debug)]
pub(crate) struct Pod {
    netns: Netns,
    socket: RefCell<Option<Socket>>,
}

impl Pod {
    /// Opens the namespace at `path`.
    pub(crate) fn open(path: &Path) -> Result<Pod> {
        Ok(Pod {
            netns: Netns::open(path)?,
            socket: RefCell::new(None),
        })
    }

    /// The namespace.
    pub(crate) fn netns(&self) -> &Netns {
        &self.netns
    }

    /// Where it was opened.
    pub(crate) fn path(&self) -> &Path {
        self.netns.path()
    }

    /// rtnetlink inside the pod, opened when first asked for. To be given back before it is asked for
    /// again.
    pub(crate) fn socket(&self) -> Result<RefMut<'_, Socket>> {
        let mut socket = self.socket.borrow_mut();
        if socket.is_none() {
            *socket = Some(self.netns.run(Socket::route)??);
        }
        Ok(RefMut::map(socket, |socket| match socket {
            Some(socket) => socket,
            None => unreachable!("it was opened above"),
        }))
    }
}
