//! Open netlink sockets for the next request: opening one costs as much as a request, and closing one
//! of netfilter's waits for the kernel to have freed what was deleted.

use std::ops::{Deref, DerefMut};
use std::sync::{Mutex, PoisonError};

use crate::Result;
use netlink::Socket;

/// Sockets of one protocol, all in the namespace of the threads that use the pool.
#[derive(Debug)]
pub(crate) struct Pool {
    open: fn() -> netlink::Result<Socket>,
    idle: Mutex<Vec<Socket>>,
}

/// A socket that goes back to its pool when dropped.
#[derive(Debug)]
pub(crate) struct Borrowed<'a> {
    pool: &'a Pool,
    /// Present until the drop.
    socket: Option<Socket>,
}

impl Pool {
    /// An empty pool.
    pub(crate) fn new(open: fn() -> netlink::Result<Socket>) -> Self {
        Pool {
            open,
            idle: Mutex::default(),
        }
    }

    /// A socket nobody else uses.
    pub(crate) fn get(&self) -> Result<Borrowed<'_>> {
        let idle = self
            .idle
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .pop();
        let socket = match idle {
            Some(socket) => socket,
            None => (self.open)()?,
        };
        Ok(Borrowed {
            pool: self,
            socket: Some(socket),
        })
    }
}

impl Deref for Borrowed<'_> {
    type Target = Socket;
    fn deref(&self) -> &Socket {
        match &self.socket {
            Some(socket) => socket,
            None => unreachable!("only drop takes the socket"),
        }
    }
}

impl DerefMut for Borrowed<'_> {
    fn deref_mut(&mut self) -> &mut Socket {
        match &mut self.socket {
            Some(socket) => socket,
            None => unreachable!("only drop takes the socket"),
        }
    }
}

impl Drop for Borrowed<'_> {
    fn drop(&mut self) {
        let mut idle = self
            .pool
            .idle
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        idle.extend(self.socket.take());
    }
}
