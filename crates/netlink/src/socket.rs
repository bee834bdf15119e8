//! The netlink socket: sends a batch in one system call, matches acknowledgements to requests, and
//! turns the kernel's refusals into errors that name the object.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags, netlink as protocol, recv, send};

use crate::attribute::{Attributes, text_of};
use crate::message::{HEADER, Request};
use crate::{Error, Result, sys};

const NLMSG_ERROR: u16 = 2;
const NLMSG_DONE: u16 = 3;
/// The acknowledgement carries extended error attributes.
const F_ACK_TLVS: u16 = 0x200;
const NLMSGERR_ATTR_MSG: u16 = 1;

/// Kernel parts are at most this big (and dumps are cut to the size offered).
const RECEIVE: usize = 32 << 10;

/// A netlink socket of one protocol, bound for life to the namespace it was opened in.
#[derive(Debug)]
pub struct Socket {
    fd: OwnedFd,
    sequence: u32,
    buffer: Vec<u8>,
}

impl AsFd for Socket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// What is remembered of a sent request until it is answered.
struct Pending {
    sequence: u32,
    operation: &'static str,
    object: String,
    accepted: Option<i32>,
    answered: bool,
}

impl Socket {
    fn new(opened: io::Result<OwnedFd>) -> Result<Socket> {
        let fd = opened.map_err(|source| Error::Socket {
            operation: "open",
            source,
        })?;
        Ok(Socket {
            fd,
            sequence: 0,
            buffer: vec![0; RECEIVE],
        })
    }

    /// rtnetlink in the calling thread's namespace.
    pub fn route() -> Result<Socket> {
        Self::new(sys::open(None))
    }

    /// Netfilter in the calling thread's namespace.
    pub fn netfilter() -> Result<Socket> {
        Self::new(sys::open(Some(protocol::NETFILTER)))
    }

    /// Sends all requests at once and waits for every acknowledgement. The kernel goes on after a
    /// refusal; the first one is returned.
    pub fn send(&mut self, requests: Vec<Request>) -> Result<()> {
        if requests.is_empty() {
            return Ok(());
        }
        let mut wire = Vec::with_capacity(256 * requests.len());
        let mut pending = Vec::with_capacity(requests.len());
        for request in requests {
            self.sequence = self.sequence.wrapping_add(1);
            pending.push(Pending {
                sequence: self.sequence,
                operation: request.operation,
                object: request.object,
                accepted: request.accepted,
                answered: !request.message.is_acknowledged(),
            });
            request.message.write(self.sequence, &mut wire);
        }
        self.transmit(&wire)?;
        self.collect(pending)
    }

    /// Sends one request.
    pub fn send_one(&mut self, request: Request) -> Result<()> {
        self.send(vec![request])
    }

    /// Asks for one object and hands its payload (fixed header and attributes) to `read`.
    pub fn get<T>(&mut self, request: Request, read: impl FnOnce(&[u8]) -> Option<T>) -> Result<T> {
        let mut read = Some(read);
        let (operation, object) = (request.operation, request.object.clone());
        let mut found = None;
        self.exchange(request, |payload| {
            if let Some(read) = read.take() {
                found = read(payload);
            }
        })?;
        found.ok_or(Error::Answer {
            operation,
            object,
            what: "a field is missing",
        })
    }

    /// Asks for all objects of a kind and hands each one's payload to `each`.
    pub fn dump(&mut self, request: Request, mut each: impl FnMut(&[u8])) -> Result<()> {
        self.exchange(request, |payload| each(payload))
    }

    /// Sends a request whose answer is objects: one, or several and an end mark.
    fn exchange(&mut self, request: Request, mut each: impl FnMut(&[u8])) -> Result<()> {
        self.sequence = self.sequence.wrapping_add(1);
        let sequence = self.sequence;
        let (operation, object) = (request.operation, request.object);
        let mut wire = Vec::with_capacity(256);
        request.message.write(sequence, &mut wire);
        self.transmit(&wire)?;
        loop {
            let Some(length) = self.receive()? else {
                return Err(Error::Answer {
                    operation,
                    object,
                    what: "there is none",
                });
            };
            let mut multi = false;
            for part in Parts(&self.buffer[..length]) {
                if part.sequence != sequence {
                    continue;
                }
                match part.kind {
                    NLMSG_DONE => return Ok(()),
                    NLMSG_ERROR => {
                        return match part.refusal() {
                            None => Ok(()),
                            Some((source, detail)) => Err(Error::Refused {
                                operation,
                                object,
                                source,
                                detail,
                            }),
                        };
                    }
                    _ => each(part.payload),
                }
                multi |= part.flags & F_MULTI != 0;
            }
            if !multi {
                return Ok(());
            }
        }
    }

    fn transmit(&self, wire: &[u8]) -> Result<()> {
        match send(&self.fd, wire, SendFlags::empty()) {
            Ok(_) => Ok(()),
            Err(errno) => Err(Error::Socket {
                operation: "send",
                source: errno.into(),
            }),
        }
    }

    /// The next datagram's length, or `None` when the queue is empty.
    fn receive(&mut self) -> Result<Option<usize>> {
        loop {
            match recv(&self.fd, self.buffer.as_mut_slice(), RecvFlags::DONTWAIT) {
                Ok((_, length)) => return Ok(Some(length.min(self.buffer.len()))),
                Err(Errno::AGAIN) => return Ok(None),
                Err(Errno::INTR) => {}
                Err(errno) => {
                    return Err(Error::Socket {
                        operation: "receive",
                        source: errno.into(),
                    });
                }
            }
        }
    }

    /// Reads acknowledgements until the queue is empty.
    fn collect(&mut self, mut pending: Vec<Pending>) -> Result<()> {
        let mut first = None;
        while let Some(length) = self.receive()? {
            for part in Parts(&self.buffer[..length]) {
                let request = pending.iter_mut().find(|one| one.sequence == part.sequence);
                let (Some(request), NLMSG_ERROR) = (request, part.kind) else {
                    continue;
                };
                request.answered = true;
                let Some((source, detail)) = part.refusal() else {
                    continue;
                };
                if request.accepted.is_some() && source.raw_os_error() == request.accepted {
                    continue;
                }
                first.get_or_insert_with(|| Error::Refused {
                    operation: request.operation,
                    object: request.object.clone(),
                    source,
                    detail,
                });
            }
        }
        if let Some(error) = first {
            return Err(error);
        }
        match pending.into_iter().find(|request| !request.answered) {
            None => Ok(()),
            Some(request) => Err(Error::Answer {
                operation: request.operation,
                object: request.object,
                what: "there is none",
            }),
        }
    }
}

const F_MULTI: u16 = 0x2;

/// One message of a datagram.
struct Part<'a> {
    kind: u16,
    flags: u16,
    sequence: u32,
    payload: &'a [u8],
}

impl Part<'_> {
    /// The errno and explanation of an NLMSG_ERROR; `None` for an acknowledgement.
    fn refusal(&self) -> Option<(io::Error, Option<String>)> {
        let code = i32::from_ne_bytes(self.payload.get(..4)?.try_into().ok()?);
        if code == 0 {
            return None;
        }
        let detail = (self.flags & F_ACK_TLVS != 0)
            .then(|| Attributes::after(self.payload, 4 + HEADER).get(NLMSGERR_ATTR_MSG))
            .flatten()
            .map(text_of);
        Some((io::Error::from_raw_os_error(code.wrapping_neg()), detail))
    }
}

/// Iterator over the messages of a datagram.
struct Parts<'a>(&'a [u8]);

impl<'a> Iterator for Parts<'a> {
    type Item = Part<'a>;

    fn next(&mut self) -> Option<Part<'a>> {
        let length = u32::from_ne_bytes(self.0.get(0..4)?.try_into().ok()?) as usize;
        let part = Part {
            kind: u16::from_ne_bytes(self.0.get(4..6)?.try_into().ok()?),
            flags: u16::from_ne_bytes(self.0.get(6..8)?.try_into().ok()?),
            sequence: u32::from_ne_bytes(self.0.get(8..12)?.try_into().ok()?),
            payload: self.0.get(HEADER..length)?,
        };
        self.0 = self.0.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some(part)
    }
}
