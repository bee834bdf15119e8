//! A person's terminal or pipes joined to a container's streams: `floe run` in the foreground and
//! `floe exec -t`. Signals go on to the container, the terminal's size follows, and the terminal
//! is as it was afterwards.

use std::fs::File;
use std::io::{IsTerminal, Read, Write};
use std::os::fd::AsFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use engine::handler::HangUp;
use engine::{AttachEvent, AttachInput, AttachOptions, AttachOutput, Engine, ExecSession, Stream};
use rustix::event::{PollFd, PollFlags, poll};
use signal_hook::consts::{SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGUSR1, SIGUSR2, SIGWINCH};
use signal_hook::iterator::Signals;

use crate::detach::{Keys, Watch};
use crate::failure::Failure;
use crate::terminal;

/// A container's streams, joined before it starts so that nothing is missed.
pub(crate) struct Session {
    engine: Engine,
    container: String,
    output: AttachOutput,
    input: Arc<Mutex<AttachInput>>,
    hang_up: Arc<dyn HangUp>,
    interactive: bool,
    tty: bool,
    keys: Keys,
    left: Arc<AtomicBool>,
}

/// How a session ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum End {
    /// The container has ended with that code.
    Exited(u8),
    /// The person has left it.
    Left,
}

impl Session {
    pub(crate) fn open(
        engine: &Engine,
        container: &str,
        interactive: bool,
        tty: bool,
    ) -> Result<Self, Failure> {
        let options = AttachOptions {
            stdin: interactive,
            stdout: true,
            stderr: true,
        };
        let (output, input, hang_up) = engine.attach(container, options)?.parts();
        Ok(Self {
            engine: engine.clone(),
            container: container.to_owned(),
            output,
            input: Arc::new(Mutex::new(input)),
            hang_up: hang_up.into(),
            interactive,
            tty,
            keys: Keys::default(),
            left: Arc::default(),
        })
    }

    /// The keys by which a person at a terminal leaves it.
    pub(crate) fn leave_by(self, keys: Keys) -> Self {
        Self { keys, ..self }
    }

    /// Copies until the container has ended or was left, and passes signals on if `signals`.
    pub(crate) fn run(mut self, signals: bool) -> Result<End, Failure> {
        let raw = if self.tty {
            terminal::Raw::enter()?
        } else {
            None
        };
        self.follow_signals(signals)?;
        if self.tty {
            self.resize();
        }
        if self.interactive {
            self.feed();
        }
        let exit = self.copy();
        drop(raw);
        exit
    }

    fn copy(&mut self) -> Result<End, Failure> {
        loop {
            let event = match self.output.read() {
                Err(_) if self.left.load(Ordering::Acquire) => return Ok(End::Left),
                event => event?,
            };
            match event {
                AttachEvent::Output(Stream::Stdout, bytes) => write(std::io::stdout(), &bytes)?,
                AttachEvent::Output(Stream::Stderr, bytes) => write(std::io::stderr(), &bytes)?,
                AttachEvent::Exit(state) => {
                    let code = engine::exit_code(&state);
                    return Ok(End::Exited(code.unwrap_or(crate::failure::FAILED)));
                }
            }
        }
    }

    /// Standard input to the container, on a thread that ends with the process.
    fn feed(&self) {
        let input = Arc::clone(&self.input);
        let (hang_up, left) = (Arc::clone(&self.hang_up), Arc::clone(&self.left));
        // Only who types leaves: bytes of a pipe are the container's.
        let mut watch = Watch::new(match self.tty {
            true => self.keys.clone(),
            false => Keys::default(),
        });
        std::thread::spawn(move || {
            let mut buffer = [0_u8; 32 * 1024];
            let mut stdin = std::io::stdin();
            loop {
                let read = stdin.read(&mut buffer);
                let mut input = input.lock().unwrap_or_else(PoisonError::into_inner);
                let sent = match read {
                    Ok(count) if count > 0 => {
                        let (passed, is_left) = watch.pass(&buffer[..count]);
                        let sent = input.send(&passed);
                        if is_left {
                            left.store(true, Ordering::Release);
                            hang_up.hang_up();
                            return;
                        }
                        sent
                    }
                    Err(e) if e.kind() == std::io::ErrorKind::Interrupted => Ok(()),
                    _ => {
                        let _ = input.close();
                        return;
                    }
                };
                if sent.is_err() {
                    return;
                }
            }
        });
    }

    fn follow_signals(&self, all: bool) -> Result<(), Failure> {
        let followed = [SIGWINCH, SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGUSR1, SIGUSR2];
        let mut signals = Signals::new(if all { &followed } else { &followed[..1] })?;
        let (engine, container) = (self.engine.clone(), self.container.clone());
        let (input, tty) = (Arc::clone(&self.input), self.tty);
        std::thread::spawn(move || {
            for signal in &mut signals {
                if signal != SIGWINCH {
                    // A container that has ended meanwhile needs no signal.
                    let _ = engine.signal_container(&container, signal);
                } else if tty {
                    resize(&input);
                }
            }
        });
        Ok(())
    }

    fn resize(&self) {
        resize(&self.input);
    }
}

fn resize(input: &Mutex<AttachInput>) {
    if let Some((rows, columns)) = terminal::size() {
        let _ = input
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .resize(rows, columns);
    }
}

/// Waits for an exec'd command, copying its terminal if it has one; returns its exit code.
pub(crate) fn exec(mut session: ExecSession, interactive: bool) -> Result<u8, Failure> {
    let Some(console) = session.console.take() else {
        return code(&session);
    };
    let raw = terminal::Raw::enter()?;
    let console = File::from(console);
    rustix::fs::fcntl_setfl(&console, rustix::fs::OFlags::NONBLOCK)
        .map_err(std::io::Error::from)?;
    follow_size(&console)?;
    if interactive {
        let mut to = console.try_clone()?;
        std::thread::spawn(move || copy_input(&mut to));
    }
    copy_console(&session, &console)?;
    drop(raw);
    code(&session)
}

fn code(session: &ExecSession) -> Result<u8, Failure> {
    let exit = session.wait()?;
    Ok(u8::try_from(exit.code).unwrap_or(crate::failure::FAILED))
}

fn follow_size(console: &File) -> Result<(), Failure> {
    if !std::io::stdin().is_terminal() {
        return Ok(());
    }
    let console = console.try_clone()?;
    let mut signals = Signals::new([SIGWINCH])?;
    std::thread::spawn(move || {
        for _ in &mut signals {
            if let Some((ws_row, ws_col)) = terminal::size() {
                let size = rustix::termios::Winsize {
                    ws_row,
                    ws_col,
                    ws_xpixel: 0,
                    ws_ypixel: 0,
                };
                let _ = rustix::termios::tcsetwinsize(&console, size);
            }
        }
    });
    Ok(())
}

/// Standard input to a console that does not block.
fn copy_input(console: &mut File) {
    let mut buffer = [0_u8; 4096];
    let mut stdin = std::io::stdin();
    while let Ok(count @ 1..) = stdin.read(&mut buffer) {
        let mut rest = &buffer[..count];
        while !rest.is_empty() {
            match console.write(rest) {
                Ok(written) => rest = &rest[written..],
                Err(e) if e.kind() == std::io::ErrorKind::WouldBlock => {
                    let mut fds = [PollFd::from_borrowed_fd(console.as_fd(), PollFlags::OUT)];
                    let _ = poll(&mut fds, None);
                }
                Err(_) => return,
            }
        }
    }
}

/// The console's output, until the command has ended and nothing is left to read.
fn copy_console(session: &ExecSession, mut console: &File) -> Result<(), Failure> {
    let mut buffer = [0_u8; 32 * 1024];
    loop {
        let mut fds = [
            PollFd::from_borrowed_fd(session.as_fd(), PollFlags::IN),
            PollFd::from_borrowed_fd(console.as_fd(), PollFlags::IN),
        ];
        match poll(&mut fds, None) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(e) => return Err(std::io::Error::from(e).into()),
        }
        let ended = !fds[0].revents().is_empty();
        loop {
            match console.read(&mut buffer) {
                Ok(0) => return Ok(()),
                Ok(count) => write(std::io::stdout(), &buffer[..count])?,
                Err(e) if e.kind() == std::io::ErrorKind::WouldBlock => break,
                Err(e) if e.kind() == std::io::ErrorKind::Interrupted => {}
                // EIO: nobody has the other side any more.
                Err(_) => return Ok(()),
            }
        }
        if ended {
            return Ok(());
        }
    }
}

fn write(mut to: impl Write, bytes: &[u8]) -> std::io::Result<()> {
    to.write_all(bytes)?;
    to.flush()
}
