//! config-linux.md, seccomp: SCMP_ACT_NOTIFY with a real agent, which answers system calls.

use std::io::IoSliceMut;
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::net::UnixListener;
use std::thread::JoinHandle;

use crate::support::Lab;
use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, recvmsg};
use serde_json::{Value, json};

/// What an agent got: the state, and the numbers of the calls it answered.
struct Got {
    state: Value,
    calls: Vec<i32>,
}

/// Takes one listener and answers its calls with this errno until nobody makes any more.
fn agent(lab: &Lab, errno: i32) -> JoinHandle<Got> {
    let listener = UnixListener::bind(lab.dir.join("agent.sock")).unwrap();
    std::thread::spawn(move || {
        let (connection, _) = listener.accept().unwrap();
        let mut bytes = vec![0; 65536];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let received = recvmsg(
            &connection,
            &mut [IoSliceMut::new(&mut bytes)],
            &mut control,
            RecvFlags::CMSG_CLOEXEC,
        )
        .unwrap();
        let mut fds = control.drain().filter_map(|message| match message {
            RecvAncillaryMessage::ScmRights(fds) => Some(fds),
            _ => None,
        });
        let notify = fds.next().unwrap().next().unwrap();
        let state = serde_json::from_slice(&bytes[..received.bytes]).unwrap();
        let calls = std::iter::from_fn(|| answer(&notify, errno)).collect();
        Got { state, calls }
    })
}

/// Answers one call (seccomp_unotify(2)); `None` when all processes of the filter have ended.
fn answer(notify: &OwnedFd, errno: i32) -> Option<i32> {
    let mut poll = [rustix::event::PollFd::new(
        notify,
        rustix::event::PollFlags::IN,
    )];
    rustix::event::poll(&mut poll, None).unwrap();
    if !poll[0].revents().contains(rustix::event::PollFlags::IN) {
        return None;
    }
    // SAFETY: an all-zero seccomp_notif is valid, and the kernel wants it so.
    let mut call: libc::seccomp_notif = unsafe { std::mem::zeroed() };
    // SAFETY: the request's argument is a seccomp_notif, which lives here.
    let got = unsafe { libc::ioctl(notify.as_raw_fd(), 0xc050_2100, &raw mut call) };
    if got != 0 {
        return None;
    }
    let reply = libc::seccomp_notif_resp {
        id: call.id,
        val: 0,
        error: -errno,
        flags: 0,
    };
    // SAFETY: the request's argument is a seccomp_notif_resp, which lives here.
    unsafe { libc::ioctl(notify.as_raw_fd(), 0xc018_2101, &raw const reply) };
    Some(call.data.nr)
}

fn lab() -> Lab {
    let mut lab = Lab::new();
    lab.config["linux"]["seccomp"] = json!({
        "defaultAction": "SCMP_ACT_ALLOW",
        "architectures": ["SCMP_ARCH_X86_64"],
        "listenerPath": lab.dir.join("agent.sock"),
        "listenerMetadata": "of this test",
        "syscalls": [{ "names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_NOTIFY" }],
    });
    lab.config["annotations"] = json!({ "a": "b" });
    lab
}

#[test]
fn an_agent_decides_calls_and_knows_whose_they_are() {
    needs_host!();
    for no_new_privileges in [true, false] {
        let mut lab = lab();
        lab.config["process"]["noNewPrivileges"] = json!(no_new_privileges);
        let agent = agent(&lab, libc::EXDEV);
        let done = lab
            .script("mkdir /tmp/x; test -d /tmp/x || echo none")
            .run();
        assert!(done.err.contains("Invalid cross-device link"), "{done:?}");
        assert_eq!(done.ok(), "none\n");
        let got = agent.join().unwrap();
        assert_eq!(got.calls, [i32::try_from(libc::SYS_mkdir).unwrap()]);
        assert_eq!(got.state["fds"], json!(["seccompFd"]));
        assert_eq!(got.state["metadata"], "of this test");
        assert_eq!(got.state["state"]["id"], "c");
        assert_eq!(got.state["state"]["status"], "creating");
        assert_eq!(got.state["state"]["annotations"], json!({ "a": "b" }));
        assert_eq!(got.state["state"]["pid"], got.state["pid"]);
    }
}

#[test]
fn an_exec_has_a_listener_of_its_own() {
    needs_host!();
    let mut lab = lab();
    let socket = lab.dir.join("agent.sock");
    let first = agent(&lab, libc::EXDEV);
    lab.sleeper("c");
    std::fs::remove_file(&socket).unwrap();
    let second = agent(&lab, libc::EDQUOT);
    let done = lab.call(&["exec", "c", "mkdir", "/tmp/x"]);
    done.fails("quota exceeded");
    let got = second.join().unwrap();
    assert_eq!(got.calls.len(), 1);
    assert_eq!(got.state["state"]["pid"], json!(lab.pid("c")));
    assert_eq!(got.state["state"]["status"], "running");
    assert_ne!(got.state["pid"], json!(lab.pid("c")));
    lab.call(&["delete", "--force", "c"]).ok();
    assert_eq!(first.join().unwrap().calls, [0; 0]);
}

#[test]
fn without_an_agent_nothing_runs() {
    needs_host!();
    let mut lab = lab();
    lab.run().fails("failed to connect with seccomp agent");
    lab.config["linux"]["seccomp"]["listenerPath"] = json!("");
    lab.run().fails("SCMP_ACT_NOTIFY needs an agent");
    lab.config["linux"]["seccomp"]["syscalls"][0]["names"] = json!(["write"]);
    lab.run().fails("cannot be used for the write syscall");
    lab.config["linux"]["seccomp"]["syscalls"] = json!([]);
    lab.run()
        .fails("linux.seccomp.listenerMetadata: needs a listenerPath");
    lab.is_clean().unwrap();
}
