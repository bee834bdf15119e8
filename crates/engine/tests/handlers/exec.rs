//! Commands in a running container.

use std::io::{Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

use engine::container::ExecOptions;
use engine::{Error, ExecStdio, Kind};
use rustix::event::{PollFd, PollFlags, poll};

use crate::world::World;

fn running(world: &World<'_>) -> String {
    let pod = world.pod("a");
    world.run(&pod, "c", "exec sleep 1000")
}

pub(crate) fn a_command_gives_its_output_and_its_code(world: &mut World<'_>) {
    let id = running(world);
    let said = world
        .exec(&id, &["sh", "-c", "echo out; echo err >&2; exit 5"], None)
        .unwrap();
    assert_eq!(
        (said.stdout, said.stderr),
        (b"out\n".into(), b"err\n".into())
    );
    assert_eq!(said.exit_code, 5);
    let killed = world.exec(&id, &["sh", "-c", "kill -9 $$"], None).unwrap();
    assert_eq!(killed.exit_code, 137);
    // More than any pipe holds.
    let script = "head -c 3000000 /dev/zero | tr '\\0' x";
    let much = world.exec(&id, &["sh", "-c", script], None).unwrap();
    assert_eq!((much.stdout.len(), much.exit_code), (3_000_000, 0));
}

pub(crate) fn a_command_that_is_not_there_is_refused_with_its_code(world: &mut World<'_>) {
    let id = running(world);
    let error = world.exec(&id, &["no-such-program"], None).unwrap_err();
    match &error {
        Error::Exec { exit_code, .. } => assert_eq!(*exit_code, 127, "{error}"),
        _ => panic!("{error}"),
    }
    assert!(error.to_string().contains("no-such-program"), "{error}");
}

pub(crate) fn a_command_that_takes_too_long_is_killed(world: &mut World<'_>) {
    let id = running(world);
    let limit = Some(Duration::from_millis(300));
    let error = world.exec(&id, &["sleep", "777"], limit).unwrap_err();
    assert_eq!(error.kind(), Kind::DeadlineExceeded, "{error}");
    world.until(|| gone(world, &id, "sleep 777"));
}

pub(crate) fn a_command_that_nobody_waits_for_is_killed(world: &mut World<'_>) {
    let id = running(world);
    let words = ["sleep".to_owned(), "778".to_owned()];
    let exec = world.engine.exec_sync(&id, &words, None).unwrap();
    world.wait(async {
        let some = Duration::from_millis(500);
        tokio::time::timeout(some, exec.finish()).await.unwrap_err();
    });
    world.until(|| gone(world, &id, "sleep 778"));
}

fn gone(world: &World<'_>, id: &str, words: &str) -> Option<()> {
    let seen = world.exec(id, &["ps", "-o", "args"], None).unwrap().stdout;
    (!String::from_utf8_lossy(&seen).contains(words)).then_some(())
}

pub(crate) fn a_command_needs_a_running_container(world: &mut World<'_>) {
    let pod = world.pod("a");
    let id = world.create(&pod, "c", "true");
    let refused = |expected| {
        let error = world.exec(&id, &["true"], None).unwrap_err();
        assert_eq!(error.kind(), expected, "{error}");
    };
    refused(Kind::FailedPrecondition);
    world.engine.start_container(&id).unwrap();
    world.ended(&id);
    refused(Kind::FailedPrecondition);
    world.engine.remove_container(&id).unwrap();
    refused(Kind::NotFound);
}

pub(crate) fn a_session_has_the_callers_files_or_a_terminal(world: &mut World<'_>) {
    let id = running(world);
    let (mut read, write) = std::io::pipe().unwrap();
    let null = || OwnedFd::from(std::fs::File::open("/dev/null").unwrap());
    let stdio = ExecStdio::Fds([null(), write.into(), null()]);
    let exec = |words: &[&str], stdio| {
        let words: Vec<String> = words.iter().map(|word| (*word).to_owned()).collect();
        let options = ExecOptions::default();
        world
            .engine
            .exec(&id, &words, None, &options, stdio)
            .unwrap()
    };
    let session = exec(&["echo", "mine"], stdio);
    let mut said = String::new();
    read.read_to_string(&mut said).unwrap();
    assert_eq!(said, "mine\n");
    assert_eq!(session.wait().unwrap().code, 0);
    // Some programs leave it to their callers to set the size, which then comes a moment late.
    let words = ["sh", "-c", "read go; exec stty size"];
    let mut session = exec(&words, ExecStdio::Terminal(Some((33, 99))));
    let mut console = std::fs::File::from(session.console.take().unwrap());
    console.write_all(b"\n").unwrap();
    let mut fds = [PollFd::from_borrowed_fd(session.as_fd(), PollFlags::IN)];
    poll(&mut fds, None).unwrap();
    assert_eq!(session.wait().unwrap().code, 0);
    let mut bytes = Vec::new();
    // EIO is how a terminal says that nobody has its other side open.
    let _ = console.read_to_end(&mut bytes);
    assert!(bytes.ends_with(b"33 99\r\n"), "{bytes:?}");
}
