//! What a client's streams are connected to: a process, as whoever runs it hands it over.

use std::fmt;
use std::io;
use std::os::fd::OwnedFd;
use std::pin::Pin;

use tokio::io::unix::AsyncFd;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, Interest};

/// A running process and its streams. Dropping it ends what the caller wants ended with its client.
pub struct Process {
    /// Takes what the client writes to stdin; dropped when the client ends it.
    pub stdin: Option<Sink>,
    /// Its stdout, or what its terminal shows.
    pub stdout: Option<Source>,
    /// Its stderr; with a terminal there is none.
    pub stderr: Option<Source>,
    /// Sets the size of its terminal.
    pub resize: Option<Resize>,
    /// How it ends; what went wrong with it otherwise, in words for the client.
    pub exit: Pin<Box<dyn Future<Output = Result<i32, String>> + Send>>,
}

/// Sets a terminal's size.
pub type Resize = Box<dyn Fn(Size) + Send + Sync>;

/// The size of a terminal, in characters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Size {
    /// Columns.
    pub width: u16,
    /// Rows.
    pub height: u16,
}

/// Where a process's output comes from.
pub enum Source {
    /// A pipe. When the process has ended, what is in it then is its output, and what its children
    /// write later is not waited for.
    Pipe(OwnedFd),
    /// A terminal's master side. The same; the kernel may still be moving the last of it.
    Terminal(OwnedFd),
    /// Bytes that end by themselves.
    Reader(Box<dyn AsyncRead + Send + Unpin>),
}

/// Where a process's input goes.
pub enum Sink {
    /// A pipe or a terminal's master side.
    Fd(OwnedFd),
    /// Anything else.
    Writer(Box<dyn AsyncWrite + Send + Unpin>),
}

impl fmt::Debug for Process {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Process").finish_non_exhaustive()
    }
}

/// A [`Source`] that is read.
pub(crate) enum Reading {
    Fd {
        fd: AsyncFd<OwnedFd>,
        terminal: bool,
    },
    Reader(Box<dyn AsyncRead + Send + Unpin>),
}

/// A [`Sink`] that is written.
pub(crate) enum Writing {
    Fd(AsyncFd<OwnedFd>),
    Writer(Box<dyn AsyncWrite + Send + Unpin>),
}

fn nonblocking(fd: OwnedFd, interest: Interest) -> io::Result<AsyncFd<OwnedFd>> {
    base::file::never_wait(&fd)?;
    // SAFETY: an owned descriptor is open, and the same one, until it is dropped.
    Ok(unsafe { AsyncFd::register_with_interest(fd, interest) }?)
}

impl Reading {
    pub(crate) fn new(source: Source) -> io::Result<Self> {
        let fd = |fd, terminal| {
            let fd = nonblocking(fd, Interest::READABLE)?;
            Ok(Self::Fd { fd, terminal })
        };
        match source {
            Source::Pipe(pipe) => fd(pipe, false),
            Source::Terminal(master) => fd(master, true),
            Source::Reader(reader) => Ok(Self::Reader(reader)),
        }
    }

    /// Waits for bytes; 0 at the end. Cancel-safe.
    pub(crate) async fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Fd { fd, .. } => loop {
                let mut ready = fd.readable().await?;
                if let Ok(read) = ready.try_io(|fd| read(fd.get_ref(), into)) {
                    return read;
                }
            },
            Self::Reader(reader) => reader.read(into).await,
        }
    }

    /// What is there now, of a process that has ended; 0 when there is nothing.
    pub(crate) fn read_now(&mut self, into: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Fd { fd, .. } => match read(fd.get_ref(), into) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(0),
                read => read,
            },
            Self::Reader(_) => Ok(0),
        }
    }

    /// What remains of it ends by itself.
    pub(crate) fn ends_by_itself(&self) -> bool {
        matches!(self, Self::Reader(_))
    }

    pub(crate) fn is_terminal(&self) -> bool {
        matches!(self, Self::Fd { terminal: true, .. })
    }
}

fn read(fd: &OwnedFd, into: &mut [u8]) -> io::Result<usize> {
    loop {
        match rustix::io::read(fd, &mut *into) {
            Err(rustix::io::Errno::INTR) => {}
            // The end of a terminal: nobody has its other side open.
            Err(rustix::io::Errno::IO) => return Ok(0),
            read => return Ok(read?),
        }
    }
}

impl Writing {
    pub(crate) fn new(sink: Sink) -> io::Result<Self> {
        match sink {
            Sink::Fd(fd) => nonblocking(fd, Interest::WRITABLE).map(Self::Fd),
            Sink::Writer(writer) => Ok(Self::Writer(writer)),
        }
    }

    /// Writes all of it, waiting while the process takes none.
    pub(crate) async fn write(&mut self, mut bytes: &[u8]) -> io::Result<()> {
        match self {
            Self::Fd(fd) => {
                while !bytes.is_empty() {
                    let mut ready = fd.writable().await?;
                    let written = ready.try_io(|fd| Ok(rustix::io::write(fd.get_ref(), bytes)?));
                    if let Ok(written) = written {
                        bytes = bytes.get(written?..).unwrap_or_default();
                    }
                }
                Ok(())
            }
            Self::Writer(writer) => {
                writer.write_all(bytes).await?;
                writer.flush().await
            }
        }
    }
}
