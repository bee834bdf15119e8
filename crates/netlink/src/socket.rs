//! The netlink socket: sends requests, matches acknowledgements to them, and turns the kernel's
//! refusals into errors that name the object. netlink(7).
//!
//! A list that changed while it was read (NLM_F_DUMP_INTR) and an answer that found no room (ENOBUFS)
//! are asked for again, for a limited time. Must never take a message that is not the kernel's.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags, netlink as protocol, recv, send, sockopt};

use crate::message::Request;
use crate::part::{F_DUMP_INTR, F_MULTI, NLMSG_DONE, NLMSG_ERROR, Parts};
use crate::{Error, Result, sys};

/// Kernel parts are at most this big (and dumps are cut to the size offered).
const RECEIVE: usize = 32 << 10;

/// Requests that do not depend on each other go out in datagrams of about this many bytes, and of at
/// most this many requests: their acknowledgements have to fit into the queue.
const DATAGRAM: usize = 64 << 10;
const REQUESTS: usize = 128;

/// What the kernel counts besides the message itself.
const OVERHEAD: usize = 1 << 10;

/// How long a list is asked for again before that is given up.
const LIMIT: Duration = Duration::from_secs(10);
/// Longest pause between two attempts.
const PAUSE: Duration = Duration::from_millis(50);

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

/// Requests that go out together, and what is remembered of each until it is answered.
#[derive(Default)]
struct Letter {
    wire: Vec<u8>,
    /// The number of the first; the others follow it.
    first: u32,
    pending: Vec<Pending>,
}

struct Pending {
    operation: &'static str,
    object: String,
    accepted: Option<i32>,
    answered: bool,
}

/// How a list was read.
enum Listed<T> {
    Whole(Vec<T>),
    /// Not all of it can be relied on, for this reason.
    Cut(&'static str),
}

impl Socket {
    fn new(opened: io::Result<OwnedFd>) -> Result<Socket> {
        let fd = opened.map_err(failed("open"))?;
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

    /// Sends requests that do not depend on being sent at once, however many, and waits for every
    /// acknowledgement. The kernel goes on after a refusal; the first one is returned.
    pub fn send(&mut self, requests: Vec<Request>) -> Result<()> {
        let mut refused = Ok(());
        let mut requests = requests.into_iter().peekable();
        while requests.peek().is_some() {
            let mut letter = Letter::default();
            while letter.pending.len() < REQUESTS && letter.wire.len() < DATAGRAM {
                let Some(request) = requests.next() else {
                    break;
                };
                self.enclose(request, &mut letter)?;
            }
            match self.post(letter) {
                Err(error @ Error::Refused { .. }) => refused = refused.and(Err(error)),
                other => other?,
            }
        }
        refused
    }

    /// Sends requests that the kernel has to see as one: the batch of an nftables transaction.
    pub fn send_whole(&mut self, requests: Vec<Request>) -> Result<()> {
        let mut letter = Letter::default();
        for request in requests {
            self.enclose(request, &mut letter)?;
        }
        self.make_room(letter.wire.len())?;
        self.post(letter)
    }

    /// Sends one request.
    pub fn send_one(&mut self, request: Request) -> Result<()> {
        self.send(vec![request])
    }

    /// Asks for one object and hands its payload (fixed header and attributes) to `read`.
    pub fn get<T>(
        &mut self,
        request: Request,
        mut read: impl FnMut(&[u8]) -> Option<T>,
    ) -> Result<T> {
        let found = self.ask(&request, &mut read)?;
        let missing = || request.unanswered("a field is missing");
        found.into_iter().next().ok_or_else(missing)
    }

    /// Asks for all objects of a kind, and returns what `read` makes of each one's payload. It may be
    /// called more than once for an object, when the list changes while it is read.
    pub fn dump<T>(
        &mut self,
        request: Request,
        mut read: impl FnMut(&[u8]) -> Option<T>,
    ) -> Result<Vec<T>> {
        self.ask(&request, &mut read)
    }

    /// Asks until there is an answer that can be relied on.
    fn ask<T>(
        &mut self,
        request: &Request,
        read: &mut dyn FnMut(&[u8]) -> Option<T>,
    ) -> Result<Vec<T>> {
        let until = Instant::now() + LIMIT;
        let mut pause = Duration::from_millis(1);
        loop {
            let why = match self.exchange(request, read, until)? {
                Listed::Whole(found) => return Ok(found),
                Listed::Cut(why) => why,
            };
            if Instant::now() >= until {
                return Err(request.unanswered(why));
            }
            std::thread::sleep(pause);
            pause = (pause * 2).min(PAUSE);
            self.drain(request, until)?;
        }
    }

    /// Sends a request whose answer is objects: one, or several and an end mark.
    fn exchange<T>(
        &mut self,
        request: &Request,
        read: &mut dyn FnMut(&[u8]) -> Option<T>,
        until: Instant,
    ) -> Result<Listed<T>> {
        let mut letter = Letter::default();
        self.enclose(request.clone(), &mut letter)?;
        self.transmit(&letter.wire)?;
        let mut found = Vec::new();
        let mut interrupted = false;
        loop {
            let length = match self.receive() {
                Ok(Some(length)) => length,
                Ok(None) => return Err(request.unanswered("there is none")),
                Err(error) if error.is_overflow() => return Ok(Listed::Cut(OVERFLOW)),
                Err(error) => return Err(error),
            };
            for part in Parts(&self.buffer[..length]) {
                if part.sequence != letter.first {
                    continue;
                }
                interrupted |= part.flags & F_DUMP_INTR != 0;
                match part.kind {
                    NLMSG_DONE | NLMSG_ERROR => {
                        return match part.refusal() {
                            // A list that was given up before is still being ended.
                            Some((source, _)) if is(&source, Errno::BUSY) => {
                                Ok(Listed::Cut("another list is still being read"))
                            }
                            Some((source, detail)) => Err(request.refused(source, detail)),
                            None if interrupted => Ok(Listed::Cut(INTERRUPTED)),
                            None => Ok(Listed::Whole(found)),
                        };
                    }
                    _ => found.extend(read(part.payload)),
                }
                if part.flags & F_MULTI == 0 {
                    return Ok(Listed::Whole(found));
                }
            }
            if Instant::now() >= until {
                return Err(request.unanswered("it does not end"));
            }
        }
    }

    /// Takes what is left of an answer.
    fn drain(&mut self, request: &Request, until: Instant) -> Result<()> {
        while Instant::now() < until {
            match self.receive() {
                Ok(None) => return Ok(()),
                Ok(Some(_)) => {}
                Err(error) if error.is_overflow() => {}
                Err(error) => return Err(error),
            }
        }
        Err(request.unanswered("it does not end"))
    }

    /// Writes a request into a letter.
    fn enclose(&mut self, request: Request, letter: &mut Letter) -> Result<()> {
        if request.message.is_too_long() {
            return Err(request.refused(Errno::MSGSIZE.into(), None));
        }
        self.sequence = self.sequence.wrapping_add(1);
        if letter.pending.is_empty() {
            letter.first = self.sequence;
        }
        letter.pending.push(Pending {
            operation: request.operation,
            object: request.object,
            accepted: request.accepted,
            answered: !request.message.is_acknowledged(),
        });
        request.message.write(self.sequence, &mut letter.wire);
        Ok(())
    }

    /// Lets a datagram of this length through: the kernel refuses one that is larger than the
    /// socket's send buffer, which is a limit and no memory.
    fn make_room(&self, length: usize) -> Result<()> {
        let wanted = length.saturating_add(OVERHEAD);
        let room = || sockopt::socket_send_buffer_size(&self.fd).map_err(call("look at"));
        if room()? >= wanted {
            return Ok(());
        }
        if sockopt::set_socket_send_buffer_size_force(&self.fd, wanted).is_err() {
            sockopt::set_socket_send_buffer_size(&self.fd, wanted).map_err(call("enlarge"))?;
        }
        match room()? >= wanted {
            true => Ok(()),
            // Without CAP_NET_ADMIN the system's limit holds (net.core.wmem_max).
            false => Err(call("send a change this large")(Errno::MSGSIZE)),
        }
    }

    fn transmit(&self, wire: &[u8]) -> Result<()> {
        loop {
            match send(&self.fd, wire, SendFlags::empty()) {
                Ok(_) => return Ok(()),
                Err(Errno::INTR) => {}
                Err(errno) => return Err(call("send")(errno)),
            }
        }
    }

    /// The next datagram's length, or `None` when the queue is empty.
    fn receive(&mut self) -> Result<Option<usize>> {
        let flags = RecvFlags::DONTWAIT | RecvFlags::TRUNC;
        loop {
            match recv(&self.fd, self.buffer.as_mut_slice(), flags) {
                // With TRUNC this is the length that it had.
                Ok((_, length)) if length > self.buffer.len() => {
                    return Err(call("receive an answer this large")(Errno::MSGSIZE));
                }
                Ok((_, length)) => return Ok(Some(length)),
                Err(Errno::AGAIN) => return Ok(None),
                Err(Errno::INTR) => {}
                Err(errno) => return Err(call("receive")(errno)),
            }
        }
    }

    /// Sends a letter and reads acknowledgements until the queue is empty.
    fn post(&mut self, letter: Letter) -> Result<()> {
        let Letter {
            wire,
            first,
            mut pending,
        } = letter;
        self.transmit(&wire)?;
        drop(wire);
        let mut refusal = None;
        let mut lost = false;
        loop {
            let length = match self.receive() {
                Ok(Some(length)) => length,
                Ok(None) => break,
                // What is in the queue still counts.
                Err(error) if error.is_overflow() => {
                    lost = true;
                    continue;
                }
                Err(error) => return Err(error),
            };
            for part in Parts(&self.buffer[..length]) {
                let index = part.sequence.wrapping_sub(first) as usize;
                let (Some(request), NLMSG_ERROR) = (pending.get_mut(index), part.kind) else {
                    continue;
                };
                request.answered = true;
                let Some((source, detail)) = part.refusal() else {
                    continue;
                };
                if request.accepted.is_some() && source.raw_os_error() == request.accepted {
                    continue;
                }
                refusal.get_or_insert_with(|| Error::Refused {
                    operation: request.operation,
                    object: request.object.clone(),
                    source,
                    detail,
                });
            }
        }
        if let Some(error) = refusal {
            return Err(error);
        }
        match pending.into_iter().find(|request| !request.answered) {
            None => Ok(()),
            Some(request) => Err(Error::Answer {
                operation: request.operation,
                object: request.object,
                what: if lost { OVERFLOW } else { "there is none" },
            }),
        }
    }
}

const OVERFLOW: &str = "it was lost: the socket's queue overflowed";
const INTERRUPTED: &str = "the list changes faster than it can be read";

fn is(error: &io::Error, errno: Errno) -> bool {
    error.raw_os_error() == Some(errno.raw_os_error())
}

/// For `map_err`: a failed call of this socket.
fn failed(operation: &'static str) -> impl FnOnce(io::Error) -> Error {
    move |source| Error::Socket { operation, source }
}

/// The same, for rustix's errors.
fn call(operation: &'static str) -> impl FnOnce(Errno) -> Error {
    move |errno| failed(operation)(errno.into())
}
