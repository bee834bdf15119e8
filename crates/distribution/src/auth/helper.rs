//! Credential helpers: `docker-credential-NAME` programs that keep logins somewhere safer than a file
//! (the docker-credential-helpers protocol: a verb as argument, JSON or a server on standard input).
//!
//! Must never wait for a helper without end, and never show what it prints but for its message.

use std::collections::HashMap;
use std::ffi::OsString;
use std::fmt;
use std::io::{Read, Write};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use super::{AuthFlaw, Credentials};

/// A helper may ask a person, but not for ever.
const PATIENCE: Duration = Duration::from_secs(60);
/// The most that a helper may print.
const MAX_ANSWER: u64 = 1 << 20;
/// The most of a helper's message that is shown.
const MAX_MESSAGE: usize = 200;
/// The user name that says that the secret is an identity token.
const TOKEN: &str = "<token>";
/// How long an answer is good for: a pull asks for each blob.
const FRESH: Duration = Duration::from_secs(60);

/// A helper program.
#[derive(Debug, Clone)]
pub(super) struct Helper {
    name: String,
    /// Where to look for it, instead of `$PATH`.
    path: Option<OsString>,
}

/// A login, as helpers write it.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Login {
    #[serde(rename = "ServerURL", default)]
    server: String,
    username: String,
    secret: String,
}

/// What helpers say about a server that they have nothing for, each in its own way.
fn means_none(message: &str) -> bool {
    let message = message.to_ascii_lowercase();
    [
        "credentials not found",
        "not found in native keychain",
        "no credentials",
        "no usernames",
    ]
    .iter()
    .any(|none| message.contains(none))
}

impl Helper {
    pub(super) fn new(name: &str, path: Option<OsString>) -> Helper {
        Helper {
            name: name.to_owned(),
            path,
        }
    }

    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// Whether there is such a program.
    pub(super) fn is_installed(&self) -> bool {
        let program = format!("docker-credential-{}", self.name);
        let path = self.path.clone().or_else(|| std::env::var_os("PATH"));
        let path = path.unwrap_or_default();
        std::env::split_paths(&path).any(|dir| dir.join(&program).is_file())
    }

    /// The login for a server, if the helper has one.
    pub(super) fn get(&self, server: &str) -> Result<Option<Credentials>, AuthFlaw> {
        let (good, answer) = self.run("get", server, server.as_bytes())?;
        if !good {
            let message = shown(&answer);
            return match means_none(&message) {
                true => Ok(None),
                false => Err(self.flaw(server, message)),
            };
        }
        let login: Login = serde_json::from_slice(&answer)
            .map_err(|_| self.flaw(server, "it does not answer with a login".into()))?;
        Ok(Some(match login.username.as_str() {
            "" if login.secret.is_empty() => return Ok(None),
            TOKEN => Credentials::IdentityToken(login.secret),
            _ => Credentials::basic(login.username, login.secret),
        }))
    }

    /// Keeps a login.
    pub(super) fn store(&self, server: &str, user: &str, secret: &str) -> Result<(), AuthFlaw> {
        let login = Login {
            server: server.to_owned(),
            username: user.to_owned(),
            secret: secret.to_owned(),
        };
        let input =
            serde_json::to_vec(&login).map_err(|error| self.flaw(server, error.to_string()))?;
        match self.run("store", server, &input)? {
            (true, _) => Ok(()),
            (false, answer) => Err(self.flaw(server, shown(&answer))),
        }
    }

    /// Forgets a login; `false` when there is none.
    pub(super) fn erase(&self, server: &str) -> Result<bool, AuthFlaw> {
        // Helpers erase what they do not have without a word.
        if self.get(server)?.is_none() {
            return Ok(false);
        }
        match self.run("erase", server, server.as_bytes())? {
            (true, _) => Ok(true),
            (false, answer) => Err(self.flaw(server, shown(&answer))),
        }
    }

    /// The servers that the helper has logins for.
    pub(super) fn list(&self) -> Result<Vec<String>, AuthFlaw> {
        let (good, answer) = self.run("list", "", b"")?;
        let servers: Option<HashMap<String, String>> = match good {
            true => serde_json::from_slice(&answer).ok(),
            false => return Err(self.flaw("", shown(&answer))),
        };
        let servers =
            servers.ok_or_else(|| self.flaw("", "it does not answer with a list".into()))?;
        Ok(servers.into_keys().collect())
    }

    fn flaw(&self, registry: &str, why: String) -> AuthFlaw {
        AuthFlaw::Helper {
            registry: registry.to_owned(),
            helper: self.name.clone(),
            why,
        }
    }

    /// Whether it ended well, and its standard output.
    fn run(&self, verb: &str, server: &str, input: &[u8]) -> Result<(bool, Vec<u8>), AuthFlaw> {
        let failed = |what: &str, why: &dyn fmt::Display| {
            self.flaw(
                server,
                format!("{what} docker-credential-{}: {why}", self.name),
            )
        };
        let plain = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
        if self.name.is_empty() || !self.name.chars().all(plain) {
            return Err(self.flaw(server, "that is no name of a program".into()));
        }
        let mut command = Command::new(format!("docker-credential-{}", self.name));
        if let Some(path) = &self.path {
            command.env("PATH", path);
        }
        command
            .arg(verb)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::inherit());
        let child = command.spawn().map_err(|error| failed("run", &error))?;
        Running(child)
            .finish(input)
            .map_err(|error| failed("talk to", &error))
    }
}

/// A helper that is killed when nobody waits for it any more.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        // It has ended already when all went well.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Running {
    fn finish(mut self, input: &[u8]) -> std::io::Result<(bool, Vec<u8>)> {
        if let Some(mut stdin) = self.0.stdin.take() {
            // One that does not want to know says why on its standard output.
            let _ = stdin.write_all(input);
        }
        let stdout = self.0.stdout.take();
        let (sender, receiver) = mpsc::channel();
        thread::spawn(move || {
            let mut answer = Vec::new();
            let read = match stdout {
                Some(stdout) => stdout.take(MAX_ANSWER).read_to_end(&mut answer),
                None => Ok(0),
            };
            // The other side may have lost its patience.
            let _ = sender.send(read.map(|_| answer));
        });
        let late = || std::io::Error::new(std::io::ErrorKind::TimedOut, "it does not answer");
        let answer = receiver.recv_timeout(PATIENCE).map_err(|_| late())??;
        let end = Instant::now() + PATIENCE;
        loop {
            match self.0.try_wait()? {
                Some(status) => return Ok((status.success(), answer)),
                None if Instant::now() > end => return Err(late()),
                None => thread::sleep(Duration::from_millis(2)),
            }
        }
    }
}

/// A helper's message on one clean line.
fn shown(answer: &[u8]) -> String {
    let text = String::from_utf8_lossy(answer);
    let line = text
        .trim()
        .chars()
        .map(|c| if c.is_control() { ' ' } else { c });
    let line: String = line.take(MAX_MESSAGE).collect();
    match line.is_empty() {
        true => "it fails without a word".into(),
        false => line,
    }
}

/// Answers of helpers, by helper and server. Clones share it; for comparison it does not count.
#[derive(Clone, Default)]
pub(super) struct Answers(Arc<Mutex<HashMap<(String, String), Answer>>>);

type Answer = (Instant, Option<Credentials>);

impl Answers {
    /// What was answered a short while ago.
    pub(super) fn known(&self, helper: &Helper, server: &str) -> Option<Option<Credentials>> {
        let answers = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let (when, answer) = answers.get(&(helper.name.clone(), server.to_owned()))?;
        (when.elapsed() < FRESH).then(|| answer.clone())
    }

    pub(super) fn remember(&self, helper: &Helper, server: &str, answer: Option<Credentials>) {
        let mut answers = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        answers.insert(
            (helper.name.clone(), server.to_owned()),
            (Instant::now(), answer),
        );
    }
}

/// Shows no login.
impl fmt::Debug for Answers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Answers(…)")
    }
}

impl PartialEq for Answers {
    fn eq(&self, _: &Answers) -> bool {
        true
    }
}

impl Eq for Answers {}
