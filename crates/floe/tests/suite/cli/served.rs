//! `floe registry serve` on a test's machine, and plain HTTP to ask it.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::{Child, Stdio};

use super::Machine;

/// A registry that serves until it is dropped.
pub(crate) struct Served {
    child: Child,
    address: SocketAddr,
}

/// What a server answered.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) code: u16,
    head: String,
    pub(crate) body: String,
}

impl Machine {
    /// Serves what the arguments say on a port that the kernel chooses.
    pub(crate) fn serve(&self, arguments: &[&str]) -> Served {
        let mut words = vec!["registry", "serve", "--listen", "127.0.0.1:0"];
        words.extend(arguments);
        let mut command = self.command(&words);
        let mut child = command.stdout(Stdio::null()).spawn().expect("start floe");
        let mut log = BufReader::new(child.stderr.take().expect("its log"));
        let mut said = String::new();
        let address = loop {
            let begin = said.len();
            if log.read_line(&mut said).expect("read the log") == 0 {
                let _ = child.wait();
                panic!("floe registry serve ended: {said}");
            }
            let address = said[begin..].trim().rsplit_once("address=");
            if let Some(address) = address.and_then(|(_, address)| address.parse().ok()) {
                break address;
            }
        };
        // A log that nobody reads would stop the server.
        std::thread::spawn(move || std::io::copy(&mut log, &mut std::io::sink()));
        Served { child, address }
    }
}

impl Served {
    /// `127.0.0.1:PORT`
    pub(crate) fn host(&self) -> String {
        self.address.to_string()
    }

    pub(crate) fn docker(&self, name: &str) -> String {
        format!("docker://{}/{name}", self.address)
    }

    /// Asks with headers, each with its line end.
    pub(crate) fn ask(&self, method: &str, path: &str, headers: &str) -> Answer {
        let mut stream = TcpStream::connect(self.address).expect("connect");
        write!(
            stream,
            "{method} {path} HTTP/1.1\r\nhost: {}\r\nconnection: close\r\n{headers}\r\n",
            self.address
        )
        .expect("ask");
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).expect("read the answer");
        let answer = String::from_utf8_lossy(&answer);
        let (head, body) = answer.split_once("\r\n\r\n").expect("an answer");
        Answer {
            code: head[9..12].parse().expect("a status"),
            head: head.to_lowercase(),
            body: body.to_owned(),
        }
    }

    pub(crate) fn get(&self, path: &str) -> Answer {
        self.ask("GET", path, "")
    }
}

impl Answer {
    #[track_caller]
    pub(crate) fn header(&self, name: &str) -> &str {
        let mut lines = self.head.lines();
        let found = lines.find_map(|line| line.strip_prefix(&format!("{name}: ")));
        found.unwrap_or_else(|| panic!("no {name} in {}", self.head))
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
