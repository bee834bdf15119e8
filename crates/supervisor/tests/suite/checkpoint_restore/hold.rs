//! Containers that are frozen for a client: all at one moment, and never longer than that client is there.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::support::{Container, Pod, eventually};
use supervisor::{Client, Dump, Error, ExecRequest, ExecStdio, Status};
use testkit::host::criu;

const LONG: Duration = Duration::from_secs(1000);
/// Time enough to freeze, and not to wait for.
const SHORT: Duration = Duration::from_secs(3);
const SOON: Duration = Duration::from_millis(100);

/// A container that counts in a file of its own.
pub(crate) fn counting(pod: &Pod, id: &str) -> Container {
    let script = format!(
        "exec </dev/null; i=0; while true; do i=$((i+1)); echo $i >/tmp/{id}.new; \
         mv /tmp/{id}.new /tmp/{id}; usleep 5000; done"
    );
    let container = pod.running(id, &script);
    eventually("its first number", || count(pod, id) > 2);
    container
}

pub(crate) fn count(pod: &Pod, id: &str) -> u64 {
    let text = std::fs::read_to_string(pod.dir().join("rootfs/tmp").join(id));
    text.unwrap_or_default().trim().parse().unwrap_or(0)
}

#[track_caller]
pub(crate) fn goes_on(pod: &Pod, id: &str) {
    let from = count(pod, id);
    eventually("more numbers", || count(pod, id) > from + 2);
}

/// Nothing of it runs, as the kernel says.
fn is_frozen(container: &Container) -> bool {
    let path = container.config["linux"]["cgroupsPath"].as_str().unwrap();
    let cgroup = runtime::cgroup::Cgroup::open(path).unwrap();
    cgroup.has_stopped().unwrap()
}

pub(crate) fn ids(names: &[&str]) -> Vec<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

fn dump(pod: &Pod, id: &str, criu: &Path) -> Dump {
    let work = pod.dir().join(format!("written-{id}"));
    std::fs::create_dir_all(&work).unwrap();
    Dump {
        id: id.into(),
        images: work.join("checkpoint"),
        work,
        criu: criu.to_owned(),
    }
}

#[track_caller]
fn was_let_go(client: &mut Client) {
    match client.thaw() {
        Err(Error::State { state, .. }) => assert!(state.contains("any longer"), "{state}"),
        other => panic!("{other:?}"),
    }
}

#[test]
fn all_stand_still_until_they_are_let_go_on_and_are_said_to_run() {
    needs_host!();
    let pod = Pod::new();
    let (a, b) = (counting(&pod, "a"), counting(&pod, "b"));
    let mut client = pod.client();
    client.freeze(&ids(&["a", "b"]), LONG).unwrap();
    assert!(is_frozen(&a) && is_frozen(&b));
    for container in [&a, &b] {
        assert!(matches!(container.state().status, Status::Running { .. }));
    }
    client.thaw().unwrap();
    assert!(!is_frozen(&a) && !is_frozen(&b));
    goes_on(&pod, "a");
    goes_on(&pod, "b");
    was_let_go(&mut client);
    // The same client may ask again.
    client.freeze(&ids(&["b"]), LONG).unwrap();
    assert!(is_frozen(&b) && !is_frozen(&a));
    client.thaw().unwrap();
}

#[test]
fn they_go_on_when_the_client_is_gone_and_when_its_time_is_over() {
    needs_host!();
    let pod = Pod::new();
    let container = counting(&pod, "a");
    let mut client = pod.client();
    client.freeze(&ids(&["a"]), LONG).unwrap();
    drop(client);
    eventually("it is let go on", || !is_frozen(&container));
    goes_on(&pod, "a");
    let mut client = pod.client();
    client.freeze(&ids(&["a"]), SHORT).unwrap();
    eventually("its time is over", || !is_frozen(&container));
    goes_on(&pod, "a");
    was_let_go(&mut client);
}

#[test]
fn one_that_is_stopped_lets_all_go_on() {
    needs_host!();
    let pod = Pod::new();
    counting(&pod, "a");
    let other = counting(&pod, "b");
    let mut client = pod.client();
    client.freeze(&ids(&["a", "b"]), LONG).unwrap();
    let ended = pod.client().stop("a", libc::SIGKILL, LONG).unwrap();
    assert!(ended.status.is_exited());
    assert!(!is_frozen(&other));
    goes_on(&pod, "b");
    was_let_go(&mut client);
    client.freeze(&ids(&["b"]), LONG).unwrap();
    pod.client().delete("b", true).unwrap();
    was_let_go(&mut client);
}

#[test]
fn what_cannot_be_frozen_is_refused_and_nothing_is() {
    needs_host!();
    let pod = Pod::new();
    let a = counting(&pod, "a");
    pod.run("over", "true");
    pod.container("made", "true").create(&pod);
    for (names, words) in [
        (&["a", "over"][..], "exited"),
        (&["a", "made"], "not started"),
        (&["a", "a"], "twice"),
        (&["a", "nobody"], "does not exist"),
        (&[], "0 containers"),
    ] {
        let error = pod.client().freeze(&ids(names), LONG).unwrap_err();
        assert!(error.to_string().contains(words), "{names:?}: {error}");
        assert!(!is_frozen(&a));
    }
    let mut client = pod.client();
    client.freeze(&ids(&["a"]), LONG).unwrap();
    assert!(client.freeze(&ids(&["a"]), LONG).is_err());
    let other = pod.client().freeze(&ids(&["a"]), LONG).unwrap_err();
    assert!(other.to_string().contains("already"), "{other}");
    for refused in [
        pod.client().pause("a").unwrap_err(),
        exec(&pod, "a").unwrap_err(),
    ] {
        assert!(refused.to_string().contains("written down"), "{refused}");
    }
    let criu = PathBuf::from("criu");
    for (mut who, request) in [
        (pod.client(), dump(&pod, "a", &criu)),
        (client, dump(&pod, "made", &criu)),
    ] {
        let error = who.dump(&request, LONG).unwrap_err();
        assert!(error.to_string().contains("not frozen"), "{error}");
    }
    goes_on(&pod, "a");
}

fn exec(pod: &Pod, id: &str) -> Result<(), Error> {
    let process = serde_json::json!({"cwd": "/", "args": ["/bin/true"]});
    let request = ExecRequest {
        process: serde_json::from_value(process).unwrap(),
        timeout: None,
    };
    let null = || {
        std::fs::File::options()
            .read(true)
            .write(true)
            .open("/dev/null")
    };
    let streams = [null().unwrap(), null().unwrap(), null().unwrap()].map(Into::into);
    let session = pod.client().exec(id, &request, ExecStdio::Fds(streams));
    session.map(drop)
}

#[test]
fn a_criu_that_is_not_there_is_named_and_the_container_stays_frozen_until_it_is_let_go_on() {
    needs_host!();
    let pod = Pod::new();
    let a = counting(&pod, "a");
    let mut client = pod.client();
    client.freeze(&ids(&["a"]), LONG).unwrap();
    let request = dump(&pod, "a", Path::new("/no/such/criu"));
    let error = client.dump(&request, LONG).unwrap_err();
    assert!(error.to_string().contains("/no/such/criu"), "{error}");
    assert!(is_frozen(&a));
    client.thaw().unwrap();
    goes_on(&pod, "a");
}

/// A program in the place of criu that says nothing and does not end.
pub(crate) fn silent(pod: &Pod) -> PathBuf {
    let path = pod.dir().join("silent");
    let text = "#!/bin/sh\nsleep 1000 &\nwait\n";
    std::fs::write(&path, text).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
    path
}

#[test]
fn a_criu_that_does_not_end_is_killed_when_the_time_is_over_or_the_client_leaves() {
    needs_host!();
    let pod = Pod::new();
    let a = counting(&pod, "a");
    let request = dump(&pod, "a", &silent(&pod));
    let mut client = pod.client();
    client.freeze(&ids(&["a"]), SHORT).unwrap();
    let error = client.dump(&request, LONG).unwrap_err();
    assert!(error.to_string().contains("time for its"), "{error}");
    assert!(!is_frozen(&a));
    goes_on(&pod, "a");
    let mut client = pod.client();
    eventually("it may be frozen again", || {
        client.freeze(&ids(&["a"]), LONG).is_ok()
    });
    let handle = std::os::unix::net::UnixStream::from(client.hang_up_handle().unwrap());
    let dumping = std::thread::spawn(move || client.dump(&request, LONG));
    std::thread::sleep(SOON);
    handle.shutdown(std::net::Shutdown::Both).unwrap();
    assert!(dumping.join().unwrap().unwrap_err().is_gone());
    eventually("it is let go on", || !is_frozen(&a));
    goes_on(&pod, "a");
    // Nothing of what was killed is left.
    let mut client = pod.client();
    eventually("it may be frozen again", || {
        client.freeze(&ids(&["a"]), LONG).is_ok()
    });
}

#[test]
fn criu_writes_down_what_is_frozen_and_it_goes_on() {
    needs_criu!();
    let pod = Pod::new();
    let all = [counting(&pod, "a"), counting(&pod, "b")];
    let mut client = pod.client();
    client.freeze(&ids(&["a", "b"]), LONG).unwrap();
    let reached = [count(&pod, "a"), count(&pod, "b")];
    for id in ["a", "b"] {
        let request = dump(&pod, id, &criu());
        client.dump(&request, LONG).unwrap();
        assert!(request.images.join("inventory.img").exists());
        assert!(request.work.join("dump.log").exists());
        assert!(all.iter().all(is_frozen), "{id}");
    }
    assert_eq!(reached, [count(&pod, "a"), count(&pod, "b")]);
    client.thaw().unwrap();
    goes_on(&pod, "a");
    goes_on(&pod, "b");
}

/// A container with so much memory that criu is at it for a while.
fn large(pod: &Pod) -> Container {
    let script = "exec </dev/null; x=0123456789abcdef; n=0; \
        while [ $n -lt 22 ]; do x=$x$x; n=$((n+1)); done; i=0; \
        while true; do i=$((i+1)); echo $i >/tmp/a.new; mv /tmp/a.new /tmp/a; usleep 5000; done";
    let container = pod.running("a", script);
    eventually("its first number", || count(pod, "a") > 2);
    container
}

#[test]
fn a_container_survives_that_criu_is_killed_over_its_memory() {
    needs_criu!();
    let pod = Pod::new();
    let container = large(&pod);
    for _ in 0..3 {
        let request = dump(&pod, "a", &criu());
        let mut client = pod.client();
        eventually("it may be frozen again", || {
            client.freeze(&ids(&["a"]), LONG).is_ok()
        });
        let handle = std::os::unix::net::UnixStream::from(client.hang_up_handle().unwrap());
        let images = request.images.clone();
        let dumping = std::thread::spawn(move || client.dump(&request, LONG));
        // Its memory is being written.
        eventually("pages are written", || {
            let entries = std::fs::read_dir(&images).into_iter().flatten().flatten();
            let mut pages =
                entries.filter(|one| one.file_name().to_string_lossy().starts_with("pages-"));
            pages.any(|one| one.metadata().is_ok_and(|it| it.len() > 1 << 20))
        });
        handle.shutdown(std::net::Shutdown::Both).unwrap();
        assert!(dumping.join().unwrap().is_err());
        std::fs::remove_dir_all(&images).unwrap();
        eventually("it is let go on", || !is_frozen(&container));
        goes_on(&pod, "a");
    }
}
