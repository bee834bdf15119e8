//! The resolver's loop: questions over UDP and TCP, answered from names or asked elsewhere. One thread, which waits
//! for nothing but all of its sockets at once; what is asked elsewhere has a limit in number and in time, and whoever
//! asks for more waits for nobody: he gets no answer, and asks again.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::process::ExitCode;

use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::message::{
    A, AAAA, Bad, NO_ERROR, NO_SUCH_NAME, PTR, Query, REFUSED, Record, SERVER_FAILURE, TCP_MAX,
    UDP_MAX,
};
use super::names::{Names, of_the_host};
use super::upstream::Namespaces;

/// As many questions are asked elsewhere at a time, over UDP and over TCP.
const ASKED_MAX: usize = 256;
const STREAMS_MAX: usize = 32;
/// How long a server has, before the next one is asked.
const SERVER_LIMIT: Duration = Duration::from_millis(2500);
/// As many servers are asked one after the other.
const SERVERS_MAX: usize = 3;
/// How long a connection lives.
const STREAM_LIMIT: Duration = Duration::from_secs(10);
/// A question over UDP is no longer; an answer of a server may be.
const QUESTION_MAX: usize = 4096;

/// One pod's resolver.
pub(super) struct Resolver {
    udp: UdpSocket,
    tcp: TcpListener,
    names: Names,
    namespaces: Namespaces,
    /// Servers that the pod asked for.
    servers: Vec<IpAddr>,
    /// Readable once the pod's supervisor has ended.
    supervisor: OwnedFd,
    asked: Vec<Asked>,
    streams: Vec<Stream>,
    /// Which of several addresses is the first.
    turn: usize,
}

/// A question that a server was asked over UDP.
struct Asked {
    query: Query,
    packet: Vec<u8>,
    client: SocketAddr,
    socket: UdpSocket,
    /// Who is asked after this one.
    next: Vec<IpAddr>,
    until: Instant,
}

/// A client over TCP, and the server that is asked for it.
struct Stream {
    client: TcpStream,
    state: State,
    until: Instant,
}

enum State {
    /// What came of the question: its length and itself.
    Reading(Vec<u8>),
    /// The server is sent the rest of this, and then says something.
    Asking {
        server: TcpStream,
        question: Vec<u8>,
        answer: Vec<u8>,
    },
    /// The rest of the answer.
    Answering(Vec<u8>),
    Done,
}

/// What becomes of a question.
enum Answer {
    /// This is said.
    Here(Vec<u8>),
    /// One of these is asked.
    Elsewhere(Vec<IpAddr>),
}

impl Resolver {
    pub(super) fn new(
        udp: UdpSocket,
        tcp: TcpListener,
        names: Names,
        namespaces: Namespaces,
        servers: Vec<IpAddr>,
        supervisor: OwnedFd,
    ) -> io::Result<Self> {
        udp.set_nonblocking(true)?;
        tcp.set_nonblocking(true)?;
        Ok(Resolver {
            udp,
            tcp,
            names,
            namespaces,
            servers,
            supervisor,
            asked: Vec::new(),
            streams: Vec::new(),
            turn: 0,
        })
    }

    /// Answers until it is killed, or its pod's supervisor has ended.
    pub(super) fn run(mut self) -> ExitCode {
        loop {
            match self.wait() {
                Ok(false) => {}
                Ok(true) => return ExitCode::SUCCESS,
                // No memory for the kernel's list: a moment later there may be.
                Err(_) => std::thread::sleep(Duration::from_millis(50)),
            }
            self.take_questions();
            self.take_streams();
            self.take_answers();
            let mut streams = std::mem::take(&mut self.streams);
            streams.iter_mut().for_each(|stream| self.go_on(stream));
            streams.retain(|stream| !matches!(stream.state, State::Done));
            self.streams.extend(streams);
        }
    }

    /// Waits for any socket, or for a limit; true: for nothing any more, as the supervisor has ended.
    fn wait(&self) -> rustix::io::Result<bool> {
        let mut fds = vec![
            PollFd::new(&self.supervisor, PollFlags::IN),
            PollFd::new(&self.udp, PollFlags::IN),
        ];
        if self.streams.len() < STREAMS_MAX {
            fds.push(PollFd::new(&self.tcp, PollFlags::IN));
        }
        fds.extend(
            self.asked
                .iter()
                .map(|one| PollFd::new(&one.socket, PollFlags::IN)),
        );
        fds.extend(self.streams.iter().filter_map(|stream| {
            let (fd, flags) = stream.awaited()?;
            Some(PollFd::from_borrowed_fd(fd, flags))
        }));
        let limits = self.asked.iter().map(|one| one.until);
        let limits = limits.chain(self.streams.iter().map(|stream| stream.until));
        let left = limits.min().map(|until| {
            // A little more, so that it is over then.
            let left = until.saturating_duration_since(Instant::now()) + Duration::from_millis(1);
            Timespec::try_from(left).unwrap_or(Timespec {
                tv_sec: 1,
                tv_nsec: 0,
            })
        });
        match poll(&mut fds, left.as_ref()) {
            Ok(_) => Ok(!fds[0].revents().is_empty()),
            Err(rustix::io::Errno::INTR) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// What a question comes to.
    fn answer(&mut self, query: &Query, most: usize) -> Answer {
        if let Some(ips) = self.names.addresses(&query.name) {
            let v4 = match query.kind {
                A => Some(true),
                AAAA => Some(false),
                _ => None,
            };
            let mut records: Vec<Record> = ips
                .into_iter()
                .filter(|ip| v4 == Some(ip.is_ipv4()))
                .map(Record::Address)
                .collect();
            if !records.is_empty() {
                self.turn = self.turn.wrapping_add(1);
                let first = self.turn % records.len();
                records.rotate_left(first);
            }
            return Answer::Here(query.answer(NO_ERROR, &records, most));
        }
        if query.kind == PTR
            && let Some(ip) = query.reverse()
        {
            let names = self.names.names(ip);
            if !names.is_empty() {
                let records: Vec<Record> = names.into_iter().map(Record::Name).collect();
                return Answer::Here(query.answer(NO_ERROR, &records, most));
            }
        }
        if Names::is_ours(&query.name) {
            return Answer::Here(query.answer(NO_SUCH_NAME, &[], most));
        }
        let elsewhere = self.names.elsewhere();
        if elsewhere.nowhere {
            return Answer::Here(query.answer(NO_SUCH_NAME, &[], most));
        }
        let mut servers = self.servers.clone();
        if servers.is_empty() {
            servers = elsewhere.servers;
        }
        if servers.is_empty() {
            servers = of_the_host();
        }
        servers.truncate(SERVERS_MAX);
        match servers.is_empty() {
            true => Answer::Here(query.answer(REFUSED, &[], most)),
            false => Answer::Elsewhere(servers),
        }
    }

    /// Takes the questions that have come over UDP.
    fn take_questions(&mut self) {
        let mut buffer = [0u8; QUESTION_MAX];
        // So that answers are not held up by whoever asks all the time.
        for _ in 0..64 {
            let Ok((length, client)) = self.udp.recv_from(&mut buffer) else {
                return;
            };
            let packet = &buffer[..length];
            let query = match Query::parse(packet) {
                Ok(query) => query,
                Err(Bad::Silent) => continue,
                Err(Bad::Answer(answer)) => {
                    let _ = self.udp.send_to(&answer, client);
                    continue;
                }
            };
            match self.answer(&query, UDP_MAX) {
                Answer::Here(answer) => {
                    let _ = self.udp.send_to(&answer, client);
                }
                Answer::Elsewhere(servers) if self.asked.len() < ASKED_MAX => {
                    self.ask(query, packet.to_vec(), client, servers);
                }
                Answer::Elsewhere(_) => {}
            }
        }
    }

    /// Asks the first of the servers that can be.
    fn ask(&mut self, query: Query, packet: Vec<u8>, client: SocketAddr, mut servers: Vec<IpAddr>) {
        while !servers.is_empty() {
            let server = servers.remove(0);
            let socket = self.namespaces.udp(server).and_then(|socket| {
                socket.send(&packet)?;
                Ok(socket)
            });
            if let Ok(socket) = socket {
                self.asked.push(Asked {
                    query,
                    packet,
                    client,
                    socket,
                    next: servers,
                    until: Instant::now() + SERVER_LIMIT,
                });
                return;
            }
        }
        let answer = query.answer(SERVER_FAILURE, &[], UDP_MAX);
        let _ = self.udp.send_to(&answer, client);
    }

    /// Passes on what servers have answered, and asks the next where one does not.
    fn take_answers(&mut self) {
        let mut buffer = vec![0u8; 0];
        let now = Instant::now();
        for mut one in std::mem::take(&mut self.asked) {
            buffer.resize(TCP_MAX, 0);
            let failed = loop {
                match one.socket.recv(&mut buffer) {
                    Ok(length) if one.query.is_answered_by(&buffer[..length]) => {
                        let _ = self.udp.send_to(&buffer[..length], one.client);
                        break None;
                    }
                    // Of nobody who was asked.
                    Ok(_) => {}
                    Err(error) if error.kind() == ErrorKind::WouldBlock => {
                        break Some(one.until <= now);
                    }
                    Err(error) if error.kind() == ErrorKind::Interrupted => {}
                    Err(_) => break Some(true),
                }
            };
            match failed {
                None => {}
                Some(false) => self.asked.push(one),
                Some(true) => {
                    let next = std::mem::take(&mut one.next);
                    self.ask(one.query, one.packet, one.client, next);
                }
            }
        }
    }

    fn take_streams(&mut self) {
        while self.streams.len() < STREAMS_MAX {
            let Ok((client, _)) = self.tcp.accept() else {
                return;
            };
            if client.set_nonblocking(true).is_ok() {
                self.streams.push(Stream {
                    client,
                    state: State::Reading(Vec::new()),
                    until: Instant::now() + STREAM_LIMIT,
                });
            }
        }
    }

    /// Goes on with a client as far as it can.
    fn go_on(&mut self, stream: &mut Stream) {
        if stream.until <= Instant::now() {
            stream.state = State::Done;
        }
        loop {
            let state = std::mem::replace(&mut stream.state, State::Done);
            let (state, again) = match state {
                State::Reading(mut read) => {
                    match whole(&mut stream.client, &mut read, QUESTION_MAX) {
                        Ok(true) => (self.begin(&read[2..]), true),
                        Ok(false) => (State::Reading(read), false),
                        Err(_) => (State::Done, false),
                    }
                }
                State::Asking {
                    mut server,
                    mut question,
                    mut answer,
                } => match exchange(&mut server, &mut question, &mut answer) {
                    Ok(true) => (State::Answering(answer), true),
                    Ok(false) => (
                        State::Asking {
                            server,
                            question,
                            answer,
                        },
                        false,
                    ),
                    Err(_) => (State::Done, false),
                },
                State::Answering(mut rest) => match send(&mut stream.client, &mut rest) {
                    Ok(true) => (State::Reading(Vec::new()), true),
                    Ok(false) => (State::Answering(rest), false),
                    Err(_) => (State::Done, false),
                },
                State::Done => (State::Done, false),
            };
            stream.state = state;
            if !again {
                return;
            }
        }
    }

    /// What a question over TCP comes to.
    fn begin(&mut self, packet: &[u8]) -> State {
        let query = match Query::parse(packet) {
            Ok(query) => query,
            Err(Bad::Silent) => return State::Done,
            Err(Bad::Answer(answer)) => return State::Answering(framed(&answer)),
        };
        let servers = match self.answer(&query, TCP_MAX) {
            Answer::Here(answer) => return State::Answering(framed(&answer)),
            Answer::Elsewhere(servers) => servers,
        };
        let server = servers
            .into_iter()
            .find_map(|server| self.namespaces.tcp(server).ok());
        match server {
            Some(server) => State::Asking {
                server: server.into(),
                question: framed(packet),
                answer: Vec::new(),
            },
            None => State::Answering(framed(&query.answer(SERVER_FAILURE, &[], TCP_MAX))),
        }
    }
}

impl Stream {
    /// Which socket it waits for.
    fn awaited(&self) -> Option<(BorrowedFd<'_>, PollFlags)> {
        match &self.state {
            State::Reading(_) => Some((self.client.as_fd(), PollFlags::IN)),
            State::Asking {
                server, question, ..
            } if question.is_empty() => Some((server.as_fd(), PollFlags::IN)),
            State::Asking { server, .. } => Some((server.as_fd(), PollFlags::OUT)),
            State::Answering(_) => Some((self.client.as_fd(), PollFlags::OUT)),
            State::Done => None,
        }
    }
}

/// A message with its length before it.
fn framed(message: &[u8]) -> Vec<u8> {
    let length = u16::try_from(message.len()).unwrap_or(u16::MAX);
    [&length.to_be_bytes()[..], &message[..usize::from(length)]].concat()
}

/// Sends a question, and reads its answer; true: it is whole.
fn exchange(
    server: &mut TcpStream,
    question: &mut Vec<u8>,
    answer: &mut Vec<u8>,
) -> io::Result<bool> {
    if !question.is_empty() && !send(server, question)? {
        return Ok(false);
    }
    whole(server, answer, TCP_MAX)
}

/// Reads a message with its length before it, and no byte more; true: it is whole.
fn whole(from: &mut TcpStream, read: &mut Vec<u8>, most: usize) -> io::Result<bool> {
    loop {
        let wanted = match read[..] {
            [high, low, ..] => 2 + usize::from(u16::from_be_bytes([high, low])),
            _ => 2,
        };
        if wanted > 2 + most {
            return Err(ErrorKind::InvalidData.into());
        }
        if read.len() >= 2 && read.len() == wanted {
            return Ok(true);
        }
        let begun = read.len();
        read.resize(wanted, 0);
        let got = from.read(&mut read[begun..]);
        read.truncate(begun + got.as_ref().copied().unwrap_or(0));
        match got {
            Ok(0) => return Err(ErrorKind::UnexpectedEof.into()),
            Ok(_) => {}
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(false),
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

/// Sends what is left; true: nothing is.
fn send(to: &mut TcpStream, rest: &mut Vec<u8>) -> io::Result<bool> {
    while !rest.is_empty() {
        match to.write(rest) {
            Ok(0) => return Err(ErrorKind::WriteZero.into()),
            Ok(sent) => {
                rest.drain(..sent);
            }
            Err(error)
                if matches!(
                    error.kind(),
                    ErrorKind::WouldBlock | ErrorKind::NotConnected
                ) =>
            {
                return Ok(false);
            }
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(true)
}
