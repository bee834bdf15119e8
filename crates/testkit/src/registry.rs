//! Debian's docker-registry on loopback, with its storage in a private directory.

use std::net::{TcpListener, TcpStream};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use tempfile::TempDir;

use crate::Error;

/// bcrypt of `secret`.
const SECRET: &str = "$2b$04$l7ehwwnP93K9r9E19eIBe.dudrHKD.nOApuV2j5NO1DLmby9EYiiG";

/// A running registry; ended and removed when dropped.
#[derive(Debug)]
pub struct Registry {
    process: Child,
    port: u16,
    _dir: TempDir,
}

impl Registry {
    /// Starts one in the calling thread's network and waits until it answers.
    ///
    /// # Errors
    /// docker-registry is not installed or does not come up within 10 s.
    pub fn start() -> Result<Self, Error> {
        Self::start_with(|_| Ok(String::new()))
    }

    /// As [`Registry::start`], for the user `floe` with the password `secret` only.
    ///
    /// # Errors
    /// As [`Registry::start`].
    pub fn start_private() -> Result<Self, Error> {
        Self::start_with(|dir| {
            let users = dir.join("htpasswd");
            std::fs::write(&users, format!("floe:{SECRET}\n"))?;
            let users = users.display();
            Ok(format!(
                "auth: {{htpasswd: {{realm: floe, path: {users}}}}}\n"
            ))
        })
    }

    fn start_with(more: impl FnOnce(&Path) -> Result<String, Error>) -> Result<Self, Error> {
        let dir = tempfile::Builder::new()
            .prefix("floe-registry-")
            .tempdir()?;
        let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
        let config = dir.path().join("config.yml");
        std::fs::write(
            &config,
            format!(
                "version: 0.1\nlog: {{level: error}}\nstorage: {{filesystem: {{rootdirectory: {}}}, delete: {{enabled: true}}}}\nhttp: {{addr: \"127.0.0.1:{port}\"}}\n{}",
                dir.path().join("data").display(),
                more(dir.path())?
            ),
        )?;
        let mut command = Command::new("docker-registry");
        command
            .arg("serve")
            .arg(&config)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        let process = die_with_parent(&mut command)
            .spawn()
            .map_err(|e| format!("docker-registry (Debian's package of that name): {e}"))?;
        let registry = Self {
            process,
            port,
            _dir: dir,
        };
        for _ in 0..200 {
            if TcpStream::connect(("127.0.0.1", port)).is_ok() {
                return Ok(registry);
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        Err("docker-registry did not come up within 10 s".into())
    }

    /// `127.0.0.1:PORT`
    #[must_use]
    pub fn host(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Lets a child end when the thread that starts it is gone, however that ends.
pub(crate) fn die_with_parent(command: &mut Command) -> &mut Command {
    let set = || {
        // SAFETY: prctl(PR_SET_PDEATHSIG) takes plain integers.
        let done = unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) };
        if done == 0 {
            Ok(())
        } else {
            Err(std::io::Error::last_os_error())
        }
    };
    // SAFETY: the closure makes one system call that is allowed between fork and exec.
    unsafe { command.pre_exec(set) }
}
