//! The program itself: found on PATH inside the container as a shell would, with runc's words
//! when it cannot be, and executed.

use std::collections::HashMap;
use std::convert::Infallible;
use std::ffi::CString;
use std::os::fd::BorrowedFd;
use std::os::unix::fs::PermissionsExt;

use rustix::fs::{Access, AtFlags, CWD, accessat};
use rustix::io::Errno;

use super::{Stop, files, identity};
use crate::error::InitFailure;
use crate::seccomp::Filter;
use crate::spec::{BinaryVariable, Process};
use crate::sys;

/// What is to be executed.
pub(crate) struct Program {
    name: String,
    arguments: Vec<CString>,
    environment: Vec<CString>,
    words: Vec<String>,
    path: String,
}

impl Program {
    /// What `process` asks for; what it lacks comes from the container's files.
    pub(super) fn new(process: &Process, warnings: &mut Vec<String>) -> Result<Self, InitFailure> {
        let text = |text: &String| {
            CString::new(text.as_str())
                .map_err(|_| InitFailure::because("a NUL byte in args or env"))
        };
        let bytes = |variable: &BinaryVariable| {
            let name = variable.name.as_bytes();
            CString::new([name, b"=", &variable.value].concat())
                .map_err(|_| InitFailure::because("a NUL byte in floeBinaryEnv"))
        };
        let binary = &process.binary_env;
        let mut environment = last_wins(&process.env);
        environment.retain(|entry| {
            let same = |variable: &BinaryVariable| entry.split('=').next() == Some(&variable.name);
            !binary.iter().any(same)
        });
        let has_home = |variable: &BinaryVariable| variable.name == "HOME";
        if !binary.iter().any(has_home)
            && !environment.iter().any(|entry| {
                entry
                    .strip_prefix("HOME=")
                    .is_some_and(|home| !home.is_empty())
            })
        {
            environment.retain(|entry| !entry.starts_with("HOME="));
            environment.push(format!("HOME={}", files::home(process.user.uid, warnings)));
        }
        let path = environment
            .iter()
            .find_map(|entry| entry.strip_prefix("PATH="))
            .unwrap_or_default()
            .to_owned();
        Ok(Self {
            name: process.args.first().cloned().unwrap_or_default(),
            arguments: process.args.iter().map(text).collect::<Result<_, _>>()?,
            environment: environment
                .iter()
                .map(text)
                .chain(binary.iter().map(bytes))
                .collect::<Result<_, _>>()?,
            words: environment,
            path,
        })
    }

    /// With which environment, HOME included.
    pub(super) fn environment(&self) -> &[String] {
        &self.words
    }

    /// The file to execute.
    pub(super) fn find(&self) -> Result<String, InitFailure> {
        let refused = |errno: Errno, words: &str| InitFailure {
            message: format!("exec: {:?}: {words}", self.name),
            errno: Some(errno.raw_os_error()),
        };
        if self.name.contains('/') {
            return match executable(&self.name) {
                Ok(()) => Ok(self.name.clone()),
                Err(Errno::NOENT) => Err(refused(
                    Errno::NOENT,
                    &format!("stat {}: no such file or directory", self.name),
                )),
                // An engine gives 126 for these words.
                Err(Errno::ISDIR) => Err(refused(
                    Errno::ISDIR,
                    "permission denied (it is a directory)",
                )),
                Err(errno) => Err(InitFailure::new(
                    format_args!("exec: {:?}", self.name),
                    errno,
                )),
            };
        }
        let mut denied = false;
        // Without PATH nothing is found: the working directory is not searched unasked.
        for dir in self.path.split(':').filter(|_| !self.path.is_empty()) {
            let candidate = if dir.is_empty() {
                format!("./{}", self.name)
            } else {
                format!("{dir}/{}", self.name)
            };
            match executable(&candidate) {
                Ok(()) => return Ok(candidate),
                Err(errno) => denied |= errno == Errno::ACCESS,
            }
        }
        if denied {
            Err(refused(Errno::ACCESS, "permission denied"))
        } else {
            Err(refused(Errno::NOENT, "executable file not found in $PATH"))
        }
    }

    /// Loads the filter that waited for the very end: with no_new_privs, and without a listener.
    pub(super) fn load_filter(&self, filter: Option<&Filter>) -> Result<(), InitFailure> {
        let last = |_: &&Filter| rustix::thread::no_new_privs().unwrap_or(false);
        match filter.filter(last).filter(|filter| !filter.notifies()) {
            Some(filter) => identity::load_last(filter),
            None => Ok(()),
        }
    }

    /// Becomes the program.
    pub(crate) fn execute(&self, filter: Option<&Filter>) -> Result<Infallible, Stop> {
        let path = self.find().map_err(Stop::NotExecuted)?;
        let file = CString::new(path.as_str()).unwrap_or_default();
        self.load_filter(filter)?;
        let errno = sys::execve(&file, &self.arguments, &self.environment);
        Err(Stop::NotExecuted(InitFailure::new(
            format_args!("exec {path}"),
            errno,
        )))
    }
}

/// May this user execute it?
fn executable(path: &str) -> Result<(), Errno> {
    let meta =
        std::fs::metadata(path).map_err(|e| Errno::from_io_error(&e).unwrap_or(Errno::NOENT))?;
    if meta.is_dir() {
        return Err(Errno::ISDIR);
    }
    if !meta.is_file() {
        return Err(Errno::ACCESS);
    }
    match accessat(CWD, path, Access::EXEC_OK, AtFlags::EACCESS) {
        // A filter that does not know the call; then the mode has to tell.
        Err(Errno::NOSYS | Errno::PERM) if meta.permissions().mode() & 0o111 != 0 => Ok(()),
        Err(Errno::NOSYS | Errno::PERM) => Err(Errno::ACCESS),
        other => other,
    }
}

/// Of several entries of one name the last one counts, at the place of the first.
fn last_wins(env: &[String]) -> Vec<String> {
    let mut kept: Vec<&String> = Vec::with_capacity(env.len());
    let mut places: HashMap<&str, usize> = HashMap::with_capacity(env.len());
    for entry in env {
        let Some((name, _)) = entry.split_once('=') else {
            continue;
        };
        match places.get(name) {
            Some(place) => kept[*place] = entry,
            None => {
                places.insert(name, kept.len());
                kept.push(entry);
            }
        }
    }
    kept.into_iter().cloned().collect()
}

/// Makes these the standard streams.
pub(crate) fn replace_stdio(streams: [BorrowedFd<'_>; 3]) -> Result<(), InitFailure> {
    let [stdin, stdout, stderr] = streams;
    rustix::stdio::dup2_stdin(stdin)
        .and_then(|()| rustix::stdio::dup2_stdout(stdout))
        .and_then(|()| rustix::stdio::dup2_stderr(stderr))
        .map_err(InitFailure::at("connect standard streams"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_of_equal_names_counts_and_entries_without_a_value_go() {
        let env = ["A=1", "B=2", "A=3", "broken"].map(String::from);
        assert_eq!(last_wins(&env), ["A=3", "B=2"]);
    }

    #[test]
    fn a_missing_program_is_told_in_runcs_words() {
        let find = |name: &str| {
            let process = Process {
                args: vec![name.into()],
                env: vec!["PATH=/bin:/usr/bin".into()],
                ..Process::default()
            };
            Program::new(&process, &mut Vec::new()).unwrap().find()
        };
        assert_eq!(
            find("no-such-program").unwrap_err().message,
            "exec: \"no-such-program\": executable file not found in $PATH"
        );
        // Nothing can be made there.
        let absent = format!("/proc/{}/no-such", std::process::id());
        assert_eq!(
            find(&absent).unwrap_err().message,
            format!("exec: \"{absent}\": stat {absent}: no such file or directory")
        );
        assert!(
            find("/etc/passwd")
                .unwrap_err()
                .message
                .contains("permission denied")
        );
        assert!(find("sh").is_ok());
    }
}
