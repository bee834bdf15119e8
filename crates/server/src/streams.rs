//! The streams of CRI's Exec, Attach and PortForward: the crate `streaming` moves them, the engine runs
//! what they belong to. Must never let a client's patience hold a thread that lists need.

use std::fs::File;
use std::io::{self, Read, Write};
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use engine::config::Api;
use engine::container::{ExecStreams, WantedStreams};
use engine::handler::{AttachInput, AttachOutput, HangUp};
use engine::{AttachEvent, AttachOptions, Engine, Error, Stream};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::pipe::{PipeFlags, pipe_with};
use rustix::termios::{Winsize, tcsetwinsize};
use streaming::{
    Attach, Backend, Exec, Full, Process, Resize, Server, Sink, Size, Source, Streams, Urls,
};
use tls::{Rules, TlsOptions};
use tokio::net::TcpStream;
use tokio::sync::oneshot;
use tonic::Status;

use crate::convert::{check, invalid};
use crate::work::Work;

/// How much is moved at once between an attached container and its client.
const PIECE: usize = 32 << 10;

/// Ports that one request may name.
const PORTS: usize = 64;

/// The stack of a thread that moves bytes.
const STACK: usize = 128 << 10;

/// The server of streams as the configuration says, and who gives out its URLs.
///
/// # Errors
/// An address that cannot be had, or files of TLS that cannot be used.
pub(crate) async fn bind(work: Work, api: &Api) -> Result<(Server<Runner>, Urls), StreamsError> {
    let invalid = StreamsError::Setting;
    let address = api.stream_socket().map_err(invalid)?;
    let rules = Rules::parse(&api.tls_min_version, &api.tls_cipher_suites);
    let files = TlsOptions {
        certificate: api.stream_tls_cert.clone(),
        key: api.stream_tls_key.clone(),
        client_ca: Some(api.stream_tls_ca.clone()).filter(|ca| !ca.as_os_str().is_empty()),
        rules: rules.map_err(|reason| invalid(format!("crio.api.tls_min_version: {reason}")))?,
    };
    let tls = api.stream_enable_tls.then(|| files.config(&["http/1.1"]));
    let options = streaming::Options {
        address,
        tls: tls.transpose()?,
        idle: api.stream_idle().map_err(invalid)?,
    };
    let bound = Server::bind(options, Arc::new(Runner { work })).await;
    bound.map_err(|source| StreamsError::Listen { address, source })
}

/// Why streams cannot be served.
#[derive(Debug, thiserror::Error)]
pub enum StreamsError {
    /// A value of the configuration that cannot be used.
    #[error("{0}")]
    Setting(String),
    /// A file of TLS.
    #[error(transparent)]
    Tls(#[from] tls::Error),
    /// The address.
    #[error("listen for streams on {address}: {source}")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// The cause.
        source: io::Error,
    },
}

/// What a client of Exec wants.
///
/// # Errors
/// Streams that do not go together.
pub(crate) fn exec(request: &cri::ExecRequest) -> Result<Streams, Error> {
    together(Streams {
        stdin: request.stdin,
        stdout: request.stdout,
        stderr: request.stderr,
        tty: request.tty,
    })
}

/// What a client of Attach wants.
///
/// # Errors
/// As [`exec`].
pub(crate) fn attach(request: &cri::AttachRequest) -> Result<Streams, Error> {
    together(Streams {
        stdin: request.stdin,
        stdout: request.stdout,
        stderr: request.stderr,
        tty: request.tty,
    })
}

fn together(streams: Streams) -> Result<Streams, Error> {
    if streams.tty && streams.stderr {
        return Err(invalid("stderr", "a terminal has no stderr"));
    }
    if !(streams.stdin || streams.stdout || streams.stderr) {
        return Err(invalid(
            "stdin",
            "one of stdin, stdout and stderr must be wanted",
        ));
    }
    Ok(streams)
}

/// Ports of PortForward.
///
/// # Errors
/// A number that is no port, or more of them than [`PORTS`].
pub(crate) fn ports(ports: &[i32]) -> Result<Vec<u16>, Error> {
    check::at_most("port", ports, PORTS)?;
    let port = |&port: &i32| {
        let known = u16::try_from(port).ok().filter(|&port| port > 0);
        known.ok_or_else(|| invalid("port", format!("{port} is no port")))
    };
    ports.iter().map(port).collect()
}

/// The status of one stream too many.
pub(crate) fn full(full: Full) -> Status {
    Status::resource_exhausted(full.to_string())
}

/// Runs what clients of streams ask for.
#[derive(Debug)]
pub(crate) struct Runner {
    work: Work,
}

impl Backend for Runner {
    async fn exec(&self, exec: &Exec) -> Result<Process, String> {
        let wanted = WantedStreams {
            stdin: exec.streams.stdin,
            stdout: exec.streams.stdout,
            stderr: exec.streams.stderr,
            terminal: exec.streams.tty,
        };
        let (container, command) = (exec.container.clone(), exec.command.clone());
        let begin = move |engine: &Engine| engine.exec_streams(&container, &command, wanted);
        let begun = self.work.begin_in("Exec", &exec.container, begin).await;
        let begun = begun.map_err(|status| status.message().to_owned())?;
        command_process(begun, exec.streams).await
    }

    async fn attach(&self, attach: &Attach) -> Result<Process, String> {
        let options = AttachOptions {
            stdin: attach.streams.stdin,
            stdout: attach.streams.stdout,
            stderr: attach.streams.stderr,
        };
        let container = attach.container.clone();
        let begin = move |engine: &Engine| engine.attach(&container, options);
        let attached = self.work.begin_in("Attach", &attach.container, begin).await;
        let attached = attached.map_err(|status| status.message().to_owned())?;
        let (output, input, hang_up) = attached.parts();
        attached_process(output, input, hang_up, attach.streams)
            .map_err(|error| format!("attach to container: {error}"))
    }

    async fn connect(&self, pod: &str, port: u16) -> Result<TcpStream, String> {
        let id = pod.to_owned();
        let begin = move |engine: &Engine| engine.port(&id, port);
        let begun = self.work.begin("PortForward", pod.to_owned(), begin).await;
        let begun = begun.map_err(|status| status.message().to_owned())?;
        let connected = begun.await.map_err(|error| error.to_string())?;
        let stream = std::net::TcpStream::from(connected);
        let stream = stream.set_nonblocking(true).map(|()| stream);
        stream
            .and_then(TcpStream::from_std)
            .map_err(|error| format!("port {port} of the pod: {error}"))
    }
}

/// A command as its client's streams see it, once it is executed.
async fn command_process(begun: ExecStreams, wanted: Streams) -> Result<Process, String> {
    let exit = begun.started.await.map_err(|error| error.to_string())?;
    let exit = Box::pin(async move {
        let ended = exit.await.map_err(|error| error.to_string())?;
        Ok(ended.code)
    });
    let Some(console) = begun.console else {
        return Ok(Process {
            stdin: begun.stdin.map(Sink::Fd),
            stdout: begun.stdout.map(Source::Pipe),
            stderr: begun.stderr.map(Source::Pipe),
            resize: None,
            exit,
        });
    };
    let twin = || console.try_clone().map_err(|error| error.to_string());
    Ok(Process {
        stdin: wanted.stdin.then(twin).transpose()?.map(Sink::Fd),
        resize: Some(resize_of(twin()?)),
        stdout: Some(Source::Terminal(console)),
        stderr: None,
        exit,
    })
}

fn resize_of(console: OwnedFd) -> Resize {
    Box::new(move |size: Size| {
        let size = Winsize {
            ws_col: size.width,
            ws_row: size.height,
            ws_xpixel: 0,
            ws_ypixel: 0,
        };
        // A terminal whose command has ended has no size.
        let _ = tcsetwinsize(&console, size);
    })
}

/// Ends an attached connection when its client is gone.
struct Guard(Box<dyn HangUp>);

impl Drop for Guard {
    fn drop(&mut self) {
        self.0.hang_up();
    }
}

/// An attached container as its client's streams see it: two threads move the bytes, and end with it.
fn attached_process(
    output: AttachOutput,
    input: AttachInput,
    hang_up: Box<dyn HangUp>,
    wanted: Streams,
) -> io::Result<Process> {
    let guard = Guard(hang_up);
    let (stdout, to_stdout) = pipe_if(wanted.stdout)?;
    let (stderr, to_stderr) = pipe_if(wanted.stderr)?;
    let (from_stdin, stdin) = pipe_if(wanted.stdin)?;
    let (from_sizes, sizes) = pipe_if(true)?;
    let (ended, exit) = oneshot::channel();
    thread("attach-out", move || {
        let code = copy_output(output, [to_stdout, to_stderr]);
        // The client may have left.
        let _ = ended.send(code);
    })?;
    thread("attach-in", move || {
        copy_input(input, from_stdin, from_sizes)
    })?;
    Ok(Process {
        stdin: stdin.map(Sink::Fd),
        stdout: stdout.map(Source::Pipe),
        stderr: stderr.map(Source::Pipe),
        resize: sizes.map(send_sizes),
        exit: Box::pin(async move {
            let _guard = guard;
            let code = exit
                .await
                .unwrap_or_else(|_| Err("the connection is lost".to_owned()));
            // The container's end is not the failure of whoever looked on.
            code.map(|()| 0)
        }),
    })
}

/// A pipe's two ends, to be read and to be written, if it is wanted.
fn pipe_if(wanted: bool) -> io::Result<(Option<OwnedFd>, Option<OwnedFd>)> {
    if !wanted {
        return Ok((None, None));
    }
    let (read, write) = pipe_with(PipeFlags::CLOEXEC)?;
    Ok((Some(read), Some(write)))
}

fn thread(name: &str, work: impl FnOnce() + Send + 'static) -> io::Result<()> {
    let thread = std::thread::Builder::new().name(name.to_owned());
    thread.stack_size(STACK).spawn(work).map(drop)
}

/// Moves a container's output until it has ended, or its client has left.
fn copy_output(mut output: AttachOutput, to: [Option<OwnedFd>; 2]) -> Result<(), String> {
    let [mut stdout, mut stderr] = to.map(|to| to.map(File::from));
    loop {
        match output.read().map_err(|error| error.to_string())? {
            AttachEvent::Output(stream, bytes) => {
                let to = match stream {
                    Stream::Stdout => &mut stdout,
                    Stream::Stderr => &mut stderr,
                };
                if let Some(file) = to
                    && file.write_all(&bytes).is_err()
                {
                    // This stream is not read any more.
                    *to = None;
                }
            }
            AttachEvent::Exit(_) => return Ok(()),
        }
    }
}

/// Moves a client's input and sizes to a container until both have ended.
fn copy_input(mut input: AttachInput, stdin: Option<OwnedFd>, sizes: Option<OwnedFd>) {
    let (mut stdin, mut sizes) = (stdin.map(File::from), sizes.map(File::from));
    let mut buffer = vec![0; PIECE];
    while stdin.is_some() || sizes.is_some() {
        let Ok([has_input, has_size]) = wait_for([&stdin, &sizes]) else {
            return;
        };
        let mut moved = Ok(());
        if has_input && let Some(file) = &mut stdin {
            moved = match file.read(&mut buffer) {
                Ok(length) if length > 0 => input.send(&buffer[..length]),
                _ => {
                    stdin = None;
                    input.close()
                }
            };
        }
        if has_size && let Some(file) = &mut sizes {
            let mut size = [0; 4];
            match file.read_exact(&mut size) {
                Ok(()) => {
                    let [a, b, c, d] = size;
                    let (rows, cols) = (u16::from_le_bytes([a, b]), u16::from_le_bytes([c, d]));
                    moved = moved.and_then(|()| input.resize(rows, cols));
                }
                Err(_) => sizes = None,
            }
        }
        if moved.is_err() {
            // The container has ended, or its sandbox has; the output says so.
            return;
        }
    }
}

/// Waits until at least one of these has news, its end included.
fn wait_for(files: [&Option<File>; 2]) -> io::Result<[bool; 2]> {
    let mut news = [false; 2];
    let mut polled: Vec<(usize, PollFd<'_>)> = Vec::with_capacity(2);
    for (number, file) in files.into_iter().enumerate() {
        polled.extend(
            file.iter()
                .map(|file| (number, PollFd::new(file, PollFlags::IN))),
        );
    }
    let mut fds: Vec<PollFd<'_>> = polled.iter().map(|(_, fd)| fd.clone()).collect();
    rustix::io::retry_on_intr(|| poll(&mut fds, None))?;
    for ((number, _), fd) in polled.iter().zip(&fds) {
        news[*number] = !fd.revents().is_empty();
    }
    Ok(news)
}

/// Sends rows and columns, four bytes each time; a container that takes none misses some.
fn send_sizes(pipe: OwnedFd) -> Resize {
    if let Err(error) = base::file::never_wait(&pipe) {
        tracing::warn!(%error, "sizes of a client's terminal may wait");
    }
    Box::new(move |size: Size| {
        let [a, b] = size.height.to_le_bytes();
        let [c, d] = size.width.to_le_bytes();
        let _ = rustix::io::write(&pipe, &[a, b, c, d]);
    })
}
