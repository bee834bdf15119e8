//! config.md, process.terminal: the console socket, the terminal inside, and the foreground.

use std::fs::File;
use std::io::Write;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixListener;
use std::process::Stdio;

use crate::support::{Lab, read_until, receive, soon};
use rustix::fs::{Mode, OFlags};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{Winsize, tcgetwinsize, tcsetwinsize};
use serde_json::json;

fn with_terminal(script: &str) -> Lab {
    let mut lab = Lab::sh(script);
    lab.config["process"]["terminal"] = json!(true);
    lab
}

#[test]
fn the_master_side_goes_to_the_console_socket() {
    needs_host!();
    let mut lab =
        with_terminal("tty; stat -c '%u %F' $(tty); stty size; read line; echo got $line");
    lab.config["process"]["consoleSize"] = json!({ "height": 33, "width": 77 });
    lab.config["process"]["user"] = json!({ "uid": 1000, "gid": 1000 });
    let path = lab.dir.join("console.sock");
    let listener = UnixListener::bind(&path).unwrap();
    lab.call(&["create", "--console-socket", path.to_str().unwrap(), "c"])
        .ok();
    let (mut master, name) = receive(&listener);
    assert!(!name.is_empty());
    lab.call(&["start", "c"]).ok();
    let text = read_until(&mut master, "33 77");
    assert!(
        text.contains("/dev/pts/0\r\n1000 character special file\r\n33 77"),
        "{text}"
    );
    master.write_all(b"hello\n").unwrap();
    assert!(read_until(&mut master, "got hello").contains("got hello"));
    soon("its end", || lab.status("c") == "stopped");
}

#[test]
fn dev_console_is_the_terminal_and_it_is_the_controlling_one() {
    needs_host!();
    let lab = with_terminal(
        "echo console >/dev/console; echo control >/dev/tty; ls -l /proc/self/fd/0 | grep -c pts",
    );
    let path = lab.dir.join("console.sock");
    let listener = UnixListener::bind(&path).unwrap();
    lab.call(&["run", "-d", "--console-socket", path.to_str().unwrap(), "c"])
        .ok();
    let (mut master, _) = receive(&listener);
    let text = read_until(&mut master, "control\r\n1\r\n");
    assert_eq!(text, "console\r\ncontrol\r\n1\r\n");
}

#[test]
fn a_terminal_without_anybody_to_take_it_is_refused() {
    needs_host!();
    let lab = with_terminal("true");
    lab.call(&["create", "c"]).fails("cannot allocate tty");
    lab.call(&["run", "-d", "c"]).fails("cannot allocate tty");
    let absent = lab.dir.join("no.sock").display().to_string();
    lab.call(&["run", "-d", "--console-socket", &absent, "c"])
        .fails(&format!("console socket {absent}"));
    lab.is_clean().unwrap();
}

#[test]
fn a_foreground_terminal_works_without_a_terminal_outside() {
    needs_host!();
    let lab = with_terminal("tty; echo some; exit 3");
    let done = lab.run();
    assert_eq!((done.code, done.out.as_str()), (3, "/dev/pts/0\nsome\n"));
    lab.is_clean().unwrap();
}

/// A terminal of the host: both sides.
fn terminal() -> (File, OwnedFd) {
    let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC).unwrap();
    grantpt(&master).unwrap();
    unlockpt(&master).unwrap();
    let name = ptsname(&master, Vec::new()).unwrap();
    let slave = rustix::fs::open(
        &name,
        OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC,
        Mode::empty(),
    )
    .unwrap();
    (master.into(), slave)
}

#[test]
fn the_callers_terminal_gives_size_and_input_and_is_as_before_in_the_end() {
    needs_host!();
    let lab = with_terminal("stty size; read line; echo \"<$line>\"; exit 4");
    let (mut master, slave) = terminal();
    let size = Winsize {
        ws_row: 21,
        ws_col: 84,
        ws_xpixel: 0,
        ws_ypixel: 0,
    };
    tcsetwinsize(&slave, size).unwrap();
    let before = rustix::termios::tcgetattr(&slave).unwrap();
    let (mut command, ..) = lab.command(&["run", "c"]);
    let ours = || Stdio::from(slave.try_clone().unwrap());
    let mut run = command
        .stdin(ours())
        .stdout(ours())
        .stderr(ours())
        .spawn()
        .unwrap();
    let text = read_until(&mut master, "21 84");
    assert!(text.contains("21 84"), "{text}");
    master.write_all(b"typed\r").unwrap();
    let text = read_until(&mut master, "<typed>");
    assert!(text.contains("<typed>"), "{text}");
    assert_eq!(run.wait().unwrap().code(), Some(4));
    let after = rustix::termios::tcgetattr(&slave).unwrap();
    assert_eq!(after.local_modes, before.local_modes);
    assert_eq!(tcgetwinsize(slave.as_fd()).unwrap().ws_row, 21);
}

#[test]
fn exec_with_a_terminal_has_one_of_the_containers() {
    needs_host!();
    let mut lab = Lab::new();
    lab.sleeper("c");
    let done = lab.call(&["exec", "-t", "c", "sh", "-c", "tty; exit 8"]);
    assert_eq!((done.code, done.out.as_str()), (8, "/dev/pts/0\n"));
    let path = lab.dir.join("console.sock");
    let listener = UnixListener::bind(&path).unwrap();
    lab.call(&[
        "exec",
        "-d",
        "-t",
        "--console-socket",
        path.to_str().unwrap(),
        "c",
        "echo",
        "detached",
    ])
    .ok();
    let (mut master, _) = receive(&listener);
    assert!(read_until(&mut master, "detached").contains("detached"));
}

#[test]
fn much_output_comes_through_whole() {
    needs_host!();
    let lab = with_terminal("seq 1 20000");
    let out = lab.run().ok();
    assert_eq!(out.lines().count(), 20_000);
    assert!(out.ends_with("20000\n"));
}
