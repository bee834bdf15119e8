//! Files of a container that the runtime looks into, and what a container can make of them: nothing
//! keeps a create or an exec waiting, and nothing is read that is no file.

use std::io::Write;
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::process::Child;
use std::time::{Duration, Instant};

use crate::support::{self, Lab};
use rustix::fs::{CWD, FileType, Mode, mknodat};
use serde_json::json;

/// Far longer than any of these calls takes.
const LIMIT: Duration = Duration::from_secs(30);

/// The exit code of a call that must end by itself.
#[track_caller]
fn ends(mut call: Child) -> Option<i32> {
    let deadline = Instant::now() + LIMIT;
    loop {
        if let Some(status) = call.try_wait().unwrap() {
            return status.code();
        }
        if Instant::now() > deadline {
            call.kill().unwrap();
            call.wait().unwrap();
            panic!("it waits for the container");
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Calls the program: exit code, output, errors.
#[track_caller]
fn call(lab: &Lab, arguments: &[&str]) -> (Option<i32>, String, String) {
    let (mut command, out, err) = lab.command(arguments);
    let code = ends(command.spawn().unwrap());
    let read = |path| std::fs::read_to_string(path).unwrap();
    (code, read(out), read(err))
}

fn fifo(path: &Path) {
    mknodat(CWD, path, FileType::Fifo, Mode::from_raw_mode(0o666), 0).unwrap();
}

const HOME: &str = "echo $HOME";

#[test]
fn an_exec_does_not_wait_for_a_passwd_that_its_container_has_made_a_pipe() {
    needs_host!();
    let mut lab = Lab::new();
    lab.sleeper("c");
    for make in [
        "mkfifo /etc/passwd",
        "mkdir /etc/passwd",
        "ln -s /dev/zero /etc/passwd",
        "mknod /etc/passwd c 1 5",
    ] {
        let make = make.replace("mkfifo /etc/passwd", "mknod /etc/passwd p");
        let script = format!("rm -rf /etc/passwd; {make}");
        lab.call(&["exec", "c", "sh", "-c", &script]).ok();
        let (code, out, err) = call(&lab, &["exec", "c", "sh", "-c", HOME]);
        assert_eq!((code, out.as_str()), (Some(0), "/\n"), "{make}: {err}");
        assert!(
            err.contains("level=warning") && err.contains("it is not a regular file"),
            "{make}: {err}"
        );
    }
}

#[test]
fn a_create_does_not_wait_for_a_passwd_of_a_volume() {
    needs_host!();
    let mut lab = Lab::new();
    let etc = lab.dir.join("etc");
    std::fs::create_dir(&etc).unwrap();
    lab.mount("/etc", "bind", etc.to_str().unwrap(), &["bind"]);
    lab.script(HOME);
    let passwd = etc.join("passwd");
    fifo(&passwd);
    assert_eq!(call(&lab, &["run", "c"]).1, "/\n");
    std::fs::remove_file(&passwd).unwrap();
    let socket = UnixListener::bind(&passwd).unwrap();
    assert_eq!(call(&lab, &["run", "c"]).1, "/\n");
    drop(socket);
    std::fs::remove_file(&passwd).unwrap();
    mknodat(
        CWD,
        &passwd,
        FileType::CharacterDevice,
        Mode::from_raw_mode(0o666),
        rustix::fs::makedev(1, 8),
    )
    .unwrap();
    let (code, out, err) = call(&lab, &["run", "c"]);
    assert_eq!((code, out.as_str()), (Some(0), "/\n"), "{err}");
    assert!(err.contains("it is not a regular file"), "{err}");
}

#[test]
fn a_passwd_of_200_megabytes_is_not_read_whole() {
    needs_host!();
    let mut lab = Lab::new();
    let mut passwd = std::fs::File::create(lab.rootfs("etc/passwd")).unwrap();
    passwd.write_all(b"first:x:7:7::/first:\n").unwrap();
    passwd.set_len(200 << 20).unwrap();
    std::io::Seek::seek(&mut passwd, std::io::SeekFrom::End(0)).unwrap();
    passwd.write_all(b"\nlast:x:8:8::/last:\n").unwrap();
    // What it reads it must hold somewhere: it may not hold that much.
    lab.config["process"]["rlimits"] =
        json!([{ "type": "RLIMIT_AS", "soft": 64 << 20, "hard": 64 << 20 }]);
    lab.config["process"]["user"] = json!({ "uid": 7, "gid": 7 });
    lab.script(HOME);
    assert_eq!(call(&lab, &["run", "c"]).1, "/first\n");
    lab.config["process"]["user"] = json!({ "uid": 8, "gid": 8 });
    let (_, out, err) = call(&lab, &["run", "c"]);
    assert_eq!(out, "/\n");
    assert!(
        err.contains("only its first 8388608 bytes are read"),
        "{err}"
    );
}

#[test]
fn a_passwd_that_grows_while_it_is_read_holds_up_nothing() {
    needs_host!();
    let mut lab = Lab::new();
    lab.config["process"]["args"] = json!([
        "sh",
        "-c",
        "while :; do echo u:x:9:9::/home: >>/etc/passwd; [ -s /etc/passwd ] && touch /tmp/ready; done"
    ]);
    lab.call(&["run", "-d", "c"]).ok();
    support::soon("the writer", || lab.rootfs("tmp/ready").exists());
    for _ in 0..5 {
        let (code, out, err) = call(&lab, &["exec", "--user", "5:5", "c", "sh", "-c", HOME]);
        assert_eq!((code, out.as_str()), (Some(0), "/\n"), "{err}");
    }
}

#[test]
fn a_terminal_comes_only_from_a_devpts() {
    needs_host!();
    let mut lab = Lab::new();
    // The image's own /dev/pts, with a pipe in it, in the place of the device.
    lab.config["mounts"]
        .as_array_mut()
        .unwrap()
        .retain(|mount| mount["destination"] != "/dev/pts");
    let pts = lab.dir.join("pts");
    std::fs::create_dir(&pts).unwrap();
    lab.mount("/dev/pts", "bind", pts.to_str().unwrap(), &["bind"]);
    lab.sleeper("c");
    let refused = |what: &str| {
        let (code, _, err) = call(&lab, &["exec", "-t", "c", "true"]);
        assert_eq!(code, Some(255), "{what}");
        assert!(
            err.contains("/dev/pts/ptmx is not the terminal device"),
            "{what}: {err}"
        );
    };
    fifo(&pts.join("ptmx"));
    refused("a pipe");
    std::fs::remove_file(pts.join("ptmx")).unwrap();
    std::os::unix::fs::symlink("/dev/null", pts.join("ptmx")).unwrap();
    refused("another device");
    std::fs::remove_file(pts.join("ptmx")).unwrap();
    // The right numbers in a file system that has no terminals of the container.
    mknodat(
        CWD,
        pts.join("ptmx"),
        FileType::CharacterDevice,
        Mode::from_raw_mode(0o666),
        rustix::fs::makedev(5, 2),
    )
    .unwrap();
    refused("a node of another file system");
}

#[test]
fn what_stands_in_the_place_of_dev_null_is_not_opened() {
    needs_host!();
    let mut lab = Lab::new();
    lab.sleeper("c");
    let exec = |arguments: &[&str]| call(&lab, &[&["exec", "c", "sh", "-c"], arguments].concat());
    assert_eq!(exec(&["rm /dev/null; mknod /dev/null p"]).0, Some(0));
    // Its standard input is the host's null device, and stays that.
    let (code, out, err) = exec(&["stat -Lc %F /proc/self/fd/0"]);
    assert_eq!(
        (code, out.as_str()),
        (Some(0), "character special file\n"),
        "{err}"
    );
}
