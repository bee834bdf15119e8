//! A connection to systemd's manager over D-Bus: the system bus, systemd's own socket where there
//! is no bus, or the user's bus (D-Bus specification, "Authentication Protocol", "Server
//! Addresses"; org.freedesktop.systemd1(5)).
//!
//! Blocking, one call after the other, every wait bounded by [`PATIENCE`]. Keeps no connection for
//! later, and starts no bus.

use std::ffi::OsString;
use std::io::{Read, Write};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStringExt;
use std::os::unix::net::{SocketAddr, UnixStream};
use std::time::{Duration, Instant};

use super::marshal::{Call, ERROR, METHOD_RETURN, Message, PREFIX, SIGNAL, Value};
use crate::cgroup::error::Error;

/// How long systemd may take for a call or a job.
pub(super) const PATIENCE: Duration = Duration::from_secs(30);
/// How long to wait before asking again what nobody was there to answer.
pub(super) const PAUSE: Duration = Duration::from_millis(50);

/// What the bus answers in the place of a systemd that is being executed anew (`daemon-reexec`, an
/// update of its package): nobody has the name, or who had it left with the question.
const AWAY: [&str; 4] = [
    "org.freedesktop.DBus.Error.NoReply",
    "org.freedesktop.DBus.Error.ServiceUnknown",
    "org.freedesktop.DBus.Error.NameHasNoOwner",
    "org.freedesktop.DBus.Error.Disconnected",
];

const SYSTEM_BUS: &str = "unix:path=/run/dbus/system_bus_socket";
const PRIVATE: &str = "unix:path=/run/systemd/private";

const MANAGER: Call<'static> = Call {
    destination: "org.freedesktop.systemd1",
    path: "/org/freedesktop/systemd1",
    interface: "org.freedesktop.systemd1.Manager",
    member: "",
};
const PROPERTIES: &str = "org.freedesktop.DBus.Properties";
const BUS: Call<'static> = Call {
    destination: "org.freedesktop.DBus",
    path: "/org/freedesktop/DBus",
    interface: "org.freedesktop.DBus",
    member: "",
};
const JOB_REMOVED: &str =
    "type='signal',interface='org.freedesktop.systemd1.Manager',member='JobRemoved'";

/// What systemd answers to a call that it refuses.
#[derive(Debug)]
pub(super) struct Refusal {
    /// D-Bus's name of it.
    pub(super) name: String,
    /// systemd's words.
    pub(super) words: String,
}

/// See the module.
#[derive(Debug)]
pub(super) struct Bus {
    stream: UnixStream,
    address: String,
    serial: u32,
    /// What came in and was not asked for yet.
    unread: Vec<u8>,
    /// Jobs that ended, with their results, while something else was waited for.
    ended: Vec<(String, String)>,
    /// systemd was away, and something was asked again that it may have done already.
    pub(super) asked_again: bool,
}

impl Bus {
    /// Connects to the manager of the system, or to the caller's own.
    ///
    /// # Errors
    /// A host without systemd, and one whose bus cannot be reached.
    pub(super) fn connect(user: bool) -> Result<Bus, Error> {
        if user {
            return Bus::open(&user_address()?, true);
        }
        let address = std::env::var("DBUS_SYSTEM_BUS_ADDRESS").ok();
        let address = address.filter(|address| !address.is_empty());
        let bus = Bus::open(address.as_deref().unwrap_or(SYSTEM_BUS), true);
        // Nobody but root may talk to systemd itself.
        if bus.is_err() && rustix::process::geteuid().is_root() {
            return Bus::open(PRIVATE, false).or(bus);
        }
        bus
    }

    /// `bus`: there is one between us and systemd, which wants to be greeted.
    pub(super) fn open(address: &str, bus: bool) -> Result<Bus, Error> {
        let stream = dial(address)?;
        let timeout = stream.set_write_timeout(Some(PATIENCE));
        timeout.map_err(|error| failed(address, said(&error)))?;
        let mut opened = Bus {
            stream,
            address: address.to_owned(),
            serial: 0,
            unread: Vec::new(),
            ended: Vec::new(),
            asked_again: false,
        };
        opened.authenticate()?;
        if bus {
            opened.must(call(BUS, "Hello"), &[])?;
            opened.must(call(BUS, "AddMatch"), &[Value::text(JOB_REMOVED)])?;
        }
        Ok(opened)
    }

    /// Calls a method of the manager; again, if that is away for the moment.
    pub(super) fn manager(
        &mut self,
        member: &'static str,
        arguments: &[Value],
    ) -> Result<Result<Message, Refusal>, Error> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let answer = self.call(call(MANAGER, member), arguments)?;
            let away = matches!(&answer, Err(refusal) if AWAY.contains(&refusal.name.as_str()));
            if !away || Instant::now() >= deadline {
                return Ok(answer);
            }
            self.asked_again = true;
            std::thread::sleep(PAUSE);
        }
    }

    /// A property of the manager that is a text.
    pub(super) fn property(&mut self, name: &str) -> Result<String, Error> {
        let get = Call {
            interface: PROPERTIES,
            ..call(MANAGER, "Get")
        };
        let arguments = [Value::text(MANAGER.interface), Value::text(name)];
        let answer = self.must(get, &arguments)?;
        let mut body = answer.body();
        let text = match body.signature().as_deref() {
            Some("s") => body.text(),
            _ => None,
        };
        text.ok_or_else(|| self.failed(format!("{name} of the manager is not a text")))
    }

    /// Waits until a job has ended; returns its result, which is `done` or what went wrong.
    pub(super) fn ended(&mut self, job: &str) -> Result<String, Error> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(at) = self.ended.iter().position(|(ended, _)| ended == job) {
                return Ok(self.ended.swap_remove(at).1);
            }
            let message = self.receive(deadline)?;
            self.note(&message);
        }
    }

    fn must(&mut self, call: Call<'_>, arguments: &[Value]) -> Result<Message, Error> {
        let answer = self.call(call, arguments)?;
        answer.map_err(|refusal| self.failed(format!("{}: {}", call.member, refusal.words)))
    }

    fn call(
        &mut self,
        call: Call<'_>,
        arguments: &[Value],
    ) -> Result<Result<Message, Refusal>, Error> {
        self.serial += 1;
        let serial = self.serial;
        self.send(&call.bytes(serial, arguments))?;
        let deadline = Instant::now() + PATIENCE;
        loop {
            let message = self.receive(deadline)?;
            match message.kind {
                METHOD_RETURN if message.reply_to == serial => return Ok(Ok(message)),
                ERROR if message.reply_to == serial => {
                    let words = message.body().text().unwrap_or_default();
                    let name = message.error;
                    return Ok(Err(Refusal { name, words }));
                }
                _ => self.note(&message),
            }
        }
    }

    /// Remembers a job that ended. Signals of other kinds may come as well: nobody waits for them.
    fn note(&mut self, message: &Message) {
        if message.kind != SIGNAL || message.member != "JobRemoved" {
            return;
        }
        let mut body = message.body();
        let number = body.u32();
        if let (Some(_), Some(job), Some(_), Some(result)) =
            (number, body.text(), body.text(), body.text())
        {
            self.ended.push((job, result));
        }
    }

    /// EXTERNAL: who we are the kernel tells, so that it also holds inside a user namespace. Said in
    /// one go; nothing of it depends on what is answered.
    fn authenticate(&mut self) -> Result<(), Error> {
        self.send(b"\0AUTH EXTERNAL\r\nDATA\r\nBEGIN\r\n")?;
        let deadline = Instant::now() + PATIENCE;
        for wanted in ["DATA", "OK "] {
            let mut line = Vec::new();
            while !line.ends_with(b"\r\n") && line.len() < 1024 {
                let mut byte = [0];
                self.read(&mut byte, deadline)?;
                line.push(byte[0]);
            }
            let line = String::from_utf8_lossy(&line);
            if !line.starts_with(wanted) {
                let said = line.trim_end();
                return Err(self.failed(format!("authentication: it answers {said:?}")));
            }
        }
        Ok(())
    }

    fn send(&mut self, bytes: &[u8]) -> Result<(), Error> {
        self.stream
            .write_all(bytes)
            .map_err(|error| self.failed(said(&error)))
    }

    fn receive(&mut self, deadline: Instant) -> Result<Message, Error> {
        let mut bytes = vec![0; PREFIX];
        self.read(&mut bytes, deadline)?;
        let damaged = "it sends what is no message of D-Bus";
        let Some(length) = Message::length(&bytes) else {
            return Err(self.failed(damaged));
        };
        bytes.resize(length, 0);
        self.read(&mut bytes[PREFIX..], deadline)?;
        Message::parse(&bytes).ok_or_else(|| self.failed(damaged))
    }

    /// Fills the buffer.
    fn read(&mut self, buffer: &mut [u8], deadline: Instant) -> Result<(), Error> {
        while self.unread.len() < buffer.len() {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                let reason = format!("no answer within {} seconds", PATIENCE.as_secs());
                return Err(self.failed(reason));
            }
            let mut chunk = [0; 1024];
            let result = self
                .stream
                .set_read_timeout(Some(left))
                .and_then(|()| self.stream.read(&mut chunk));
            match result {
                Ok(0) => return Err(self.failed("it has closed the connection")),
                Ok(count) => self.unread.extend(&chunk[..count]),
                Err(error) => match error.kind() {
                    // The deadline decides.
                    std::io::ErrorKind::WouldBlock | std::io::ErrorKind::Interrupted => {}
                    _ => return Err(self.failed(said(&error))),
                },
            }
        }
        let rest = self.unread.split_off(buffer.len());
        buffer.copy_from_slice(&self.unread);
        self.unread = rest;
        Ok(())
    }

    fn failed(&self, reason: impl Into<String>) -> Error {
        failed(&self.address, reason)
    }
}

fn call(of: Call<'static>, member: &'static str) -> Call<'static> {
    Call { member, ..of }
}

fn failed(address: &str, reason: impl Into<String>) -> Error {
    Error::Bus {
        address: address.to_owned(),
        reason: reason.into(),
    }
}

fn said(error: &std::io::Error) -> String {
    error
        .raw_os_error()
        .map_or_else(|| error.to_string(), crate::errno_text)
}

/// The bus of the user's session.
fn user_address() -> Result<String, Error> {
    let set = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
    if let Some(address) = set("DBUS_SESSION_BUS_ADDRESS") {
        return Ok(address);
    }
    let path = set("XDG_RUNTIME_DIR").map(|dir| format!("{dir}/bus"));
    match path.filter(|path| std::path::Path::new(path).exists()) {
        Some(path) => Ok(format!("unix:path={}", path.replace('%', "%25"))),
        None => Err(failed(
            "the user's bus",
            "neither DBUS_SESSION_BUS_ADDRESS nor a bus in XDG_RUNTIME_DIR is there: is there a \
             session of this user, with dbus-user-session installed?",
        )),
    }
}

/// Connects to the first address of a list that answers.
fn dial(addresses: &str) -> Result<UnixStream, Error> {
    let mut reason = "it is not an address unix:path=… or unix:abstract=…".to_owned();
    for address in addresses.split(';') {
        let Some(keys) = address.strip_prefix("unix:") else {
            continue;
        };
        for (key, value) in keys.split(',').filter_map(|pair| pair.split_once('=')) {
            let value = unescape(value);
            let address = match key {
                "path" => SocketAddr::from_pathname(OsString::from_vec(value)),
                "abstract" => SocketAddr::from_abstract_name(value),
                _ => continue,
            };
            match address.and_then(|address| UnixStream::connect_addr(&address)) {
                Ok(stream) => return Ok(stream),
                Err(error) => reason = format!("connect: {}", said(&error)),
            }
        }
    }
    Err(failed(addresses, reason))
}

/// Addresses write bytes of some kinds as `%XX`.
fn unescape(value: &str) -> Vec<u8> {
    let mut parts = value.split('%');
    let mut out = parts.next().unwrap_or_default().as_bytes().to_vec();
    for part in parts {
        match part.get(..2).map(|code| u8::from_str_radix(code, 16)) {
            Some(Ok(byte)) => {
                out.push(byte);
                out.extend(&part.as_bytes()[2..]);
            }
            _ => out.extend([b"%", part.as_bytes()].concat()),
        }
    }
    out
}

#[cfg(test)]
mod tests;
