//! Debian's docker-registry, one per test, with its own directory and port.

use std::fs;
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use image::Reference;

/// `opensesame`, as htpasswd writes it.
const HTPASSWD: &str = "ali:$2b$04$abcdefghijklmnopqrstuuFuhxWRTXIsURoluSTZ1N4tYaWGn9oOi\n";

/// A running docker-registry. Ends when it is dropped.
pub struct RealRegistry {
    pub port: u16,
    child: Child,
    _dir: tempfile::TempDir,
}

impl RealRegistry {
    /// Starts one; `None`, with the reason on stderr, where the program is not installed.
    pub fn start(login: bool) -> Option<RealRegistry> {
        let program = Path::new("/usr/bin/docker-registry");
        if !program.exists() {
            eprintln!("SKIP: Debian's docker-registry is not installed");
            return None;
        }
        // The port is free when it is chosen; another test may take it before the registry does.
        (0..10)
            .find_map(|_| RealRegistry::try_start(program, login))
            .or_else(|| panic!("no docker-registry came up"))
    }

    fn try_start(program: &Path, login: bool) -> Option<RealRegistry> {
        let dir = tempfile::tempdir().unwrap();
        let port = TcpListener::bind("127.0.0.1:0")
            .unwrap()
            .local_addr()
            .unwrap()
            .port();
        let path = |name: &str| dir.path().join(name).display().to_string();
        let mut config = format!(
            "version: 0.1\nlog: {{level: error}}\nstorage: {{filesystem: {{rootdirectory: {}}}, delete: {{enabled: true}}}}\n\
             http: {{addr: '127.0.0.1:{port}'}}\n",
            path("data")
        );
        if login {
            fs::write(path("htpasswd"), HTPASSWD).unwrap();
            config += &format!(
                "auth: {{htpasswd: {{realm: test, path: {}}}}}\n",
                path("htpasswd")
            );
        }
        fs::write(path("config.yml"), config).unwrap();
        let log = fs::File::create(path("log")).unwrap();
        let mut command = Command::new(program);
        command
            .args(["serve", &path("config.yml")])
            .stdin(Stdio::null());
        let child = command
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .unwrap();
        let mut registry = RealRegistry {
            port,
            child,
            _dir: dir,
        };
        for _ in 0..1000 {
            if TcpStream::connect(("127.0.0.1", port)).is_ok() {
                return Some(registry);
            }
            if registry.child.try_wait().unwrap().is_some() {
                return None;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        None
    }

    pub fn domain(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    pub fn reference(&self, rest: &str) -> Reference {
        Reference::parse(&format!("{}/{rest}", self.domain())).unwrap()
    }

    pub fn insecure(&self) -> String {
        format!(
            "[[registry]]\nlocation = \"{}\"\ninsecure = true\n",
            self.domain()
        )
    }
}

impl Drop for RealRegistry {
    fn drop(&mut self) {
        // It may have ended by itself; there is nobody to tell.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
