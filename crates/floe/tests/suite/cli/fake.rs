//! A registry of a few lines of HTTP on loopback that answers what a test says. Its threads end with it.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;

/// What is answered.
#[derive(Debug, Clone)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    /// Lines of the head, each with its end.
    pub(crate) head: String,
    pub(crate) body: Vec<u8>,
}

impl Answer {
    pub(crate) fn of(status: u16, body: impl Into<Vec<u8>>) -> Answer {
        Answer {
            status,
            head: String::new(),
            body: body.into(),
        }
    }

    pub(crate) fn with(mut self, line: &str) -> Answer {
        self.head += line;
        self.head += "\r\n";
        self
    }
}

type Handler = dyn Fn(&str, &[String]) -> Answer + Send + Sync;

/// The registry.
pub(crate) struct Fake {
    pub(crate) host: String,
}

impl Fake {
    /// Answers each request by its path.
    pub(crate) fn start(answer: impl Fn(&str) -> Answer + Send + Sync + 'static) -> Fake {
        Fake::start_heads(move |path, _| answer(path))
    }

    /// The same by its path and the lines of its head.
    pub(crate) fn start_heads(
        answer: impl Fn(&str, &[String]) -> Answer + Send + Sync + 'static,
    ) -> Fake {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let host = listener.local_addr().expect("an address").to_string();
        let answer: Arc<Handler> = Arc::new(answer);
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let answer = Arc::clone(&answer);
                std::thread::spawn(move || serve(&stream, &*answer));
            }
        });
        Fake { host }
    }
}

/// One request, one answer, end of connection. A client that hangs up is no concern.
fn serve(mut stream: &TcpStream, answer: &Handler) {
    let mut first = [0];
    // TLS is not spoken here.
    if stream.read_exact(&mut first).is_err() || first == [0x16] {
        let _ = stream.shutdown(std::net::Shutdown::Both);
        return;
    }
    let mut lines = BufReader::new(stream).lines().map_while(Result::ok);
    let request = lines.next().unwrap_or_default();
    let head: Vec<String> = lines.take_while(|line| !line.is_empty()).collect();
    let path = request.split(' ').nth(1).unwrap_or_default();
    let path = path.split('?').next().unwrap_or_default();
    let Answer { status, head, body } = answer(path, &head);
    let length = body.len();
    let head = format!(
        "HTTP/1.1 {status} Whatever\r\nContent-Length: {length}\r\nConnection: close\r\n{head}\r\n"
    );
    let _ = stream.write_all(head.as_bytes());
    // What the first byte belongs to tells HEAD from GET.
    if first != *b"H" {
        let _ = stream.write_all(&body);
    }
}
