//! A supervisor that is there and says nothing: every step of its clients ends at a limit. The
//! supervisor here is a socket that nobody reads.
use std::os::unix::net::UnixListener;
use std::path::PathBuf;
use std::time::Duration;

use supervisor::{Call, Client, Error};

const LIMIT: Duration = Duration::from_millis(50);

struct Silent {
    dir: PathBuf,
    _listener: UnixListener,
}

impl Silent {
    fn new(name: &str) -> Self {
        let dir = std::env::temp_dir().join(format!("floe-silent-{name}-{}", std::process::id()));
        std::fs::create_dir(&dir).unwrap();
        let listener = UnixListener::bind(dir.join("supervisor.sock")).unwrap();
        // A short queue: for the test of its end.
        rustix::net::listen(&listener, 4).unwrap();
        Self {
            dir,
            _listener: listener,
        }
    }

    fn client(&self) -> Client {
        Client::connect_within(&self.dir, LIMIT).unwrap()
    }
}

impl Drop for Silent {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.dir);
    }
}

fn silent<T: std::fmt::Debug>(outcome: Result<T, Error>) {
    let error = outcome.unwrap_err();
    assert!(error.is_silent() && !error.is_gone(), "{error:?}");
}

#[test]
fn an_answer_that_does_not_come_is_silence_at_the_limit() {
    let supervisor = Silent::new("answer");
    silent(supervisor.client().start("c"));
    silent(supervisor.client().stop("c", 15, LIMIT));
    silent(supervisor.client().delete("c", true));
    silent(supervisor.client().reopen_log("c"));
    silent(supervisor.client().shutdown());
}

#[test]
fn a_request_that_is_not_taken_is_silence_at_the_limit() {
    let supervisor = Silent::new("request");
    silent(supervisor.client().start(&"c".repeat(3 << 20)));
}

#[test]
fn a_full_queue_of_clients_is_silence_at_the_limit_and_a_later_try_for_who_does_not_block() {
    let supervisor = Silent::new("queue");
    let mut clients = Vec::new();
    let refused = loop {
        match Client::connect_within(&supervisor.dir, LIMIT) {
            Ok(client) => clients.push(client),
            Err(error) => break error,
        }
        assert!(clients.len() < 50, "the queue has no end");
    };
    assert!(refused.is_silent(), "{refused:?}");
    assert!(Call::connect(&supervisor.dir).unwrap().is_none());
}

#[test]
fn no_supervisor_is_gone_not_silent() {
    let dir = std::env::temp_dir();
    assert!(Client::connect(&dir).unwrap_err().is_gone());
    assert!(Call::connect(&dir).unwrap_err().is_gone());
}
