//! The CRI log: what a container writes is in its log, in order, with the right tags, and
//! complete before its exit is told.

use crate::support::{Pod, code, eventually};
use serde_json::json;
use supervisor::{ContainerState, Error};

/// The text of one stream, put together again from full and partial lines.
fn text(lines: &[String], stream: &str) -> String {
    let mut text = String::new();
    for line in lines
        .iter()
        .filter_map(|line| line.strip_prefix(stream)?.strip_prefix(' '))
    {
        let (tag, part) = line.split_once(' ').unwrap();
        text.push_str(part);
        if tag == "F" {
            text.push('\n');
        }
    }
    text
}

#[test]
fn both_streams_are_logged_under_their_names_with_times_that_do_not_go_back() {
    needs_host!();
    let pod = Pod::new();
    let (container, state) = pod.run("c", "echo one; echo two >&2; echo three");
    assert_eq!(code(&state), 0);
    let lines = container.log_lines();
    assert_eq!(text(&lines, "stdout"), "one\nthree\n");
    assert_eq!(text(&lines, "stderr"), "two\n");
    let log = std::fs::read_to_string(container.dir.join("0.log")).unwrap();
    let times: Vec<&str> = log.lines().map(|line| &line[..30]).collect();
    assert!(
        times.is_sorted() && times.iter().all(|time| time.ends_with('Z')),
        "{times:?}"
    );
}

#[test]
fn a_line_that_comes_in_two_pieces_is_one_full_line() {
    needs_host!();
    let pod = Pod::new();
    let (container, _) = pod.run(
        "c",
        r"printf foo; sleep 0.2; echo bar; printf 'x\r'; sleep 0.2; printf '\ny\r\n'",
    );
    let lines = container.log_lines();
    assert_eq!(lines, ["stdout F foobar", "stdout F x\r", "stdout F y\r"]);
}

#[test]
fn the_last_line_is_kept_without_its_newline() {
    needs_host!();
    let pod = Pod::new();
    let (container, _) = pod.run("c", "printf end");
    assert_eq!(container.log_lines(), ["stdout F end"]);
}

#[test]
fn all_of_a_large_output_is_there_when_the_exit_is_told() {
    needs_host!();
    let pod = Pod::new();
    let (container, _) = pod.run(
        "c",
        "seq 1 300000; yes x | head -n 20000 | tr -d '\\n'; echo",
    );
    let expected: String = (1..=300_000)
        .map(|n| format!("{n}\n"))
        .chain(["x".repeat(20_000), "\n".into()])
        .collect();
    assert!(text(&container.log_lines(), "stdout") == expected);
}

#[test]
fn a_terminals_output_is_all_stdout() {
    needs_host!();
    let pod = Pod::new();
    let mut container = pod.container(
        "c",
        "echo one; echo two >&2; test -t 0 && test -t 1 && echo tty",
    );
    container.request.terminal = true;
    container.create(&pod);
    pod.client().start("c").unwrap();
    assert_eq!(code(&pod.client().wait("c").unwrap()), 0);
    assert_eq!(
        text(&container.log_lines(), "stdout"),
        "one\r\ntwo\r\ntty\r\n"
    );
}

#[test]
fn a_child_left_behind_does_not_delay_the_exit_and_is_still_logged() {
    needs_host!();
    let pod = Pod::with(|setup| setup.shared_pid = true);
    let (container, state) = pod.run("c", "(sleep 0.3; echo late) & echo early");
    assert_eq!(code(&state), 0);
    assert_eq!(container.log_lines(), ["stdout F early"]);
    eventually("the late line", || container.log_lines().len() == 2);
    assert_eq!(container.log_lines()[1], "stdout F late");
}

#[test]
fn a_child_left_behind_that_writes_without_end_does_not_delay_the_exit() {
    needs_host!();
    let pod = Pod::with(|setup| setup.shared_pid = true);
    let mut container = pod.container("c", "yes & sleep 0.1; exit 4");
    container.request.log = None;
    container.create(&pod);
    pod.client().start("c").unwrap();
    assert_eq!(code(&pod.client().wait("c").unwrap()), 4);
    pod.client().delete("c", false).unwrap();
}

#[test]
fn reopen_makes_a_new_file_before_it_returns_and_loses_nothing() {
    needs_host!();
    let pod = Pod::new();
    let container = pod.running(
        "c",
        "echo before; while ! test -e /tmp/go; do sleep 0.01; done; echo after",
    );
    eventually("the first line", || container.log_lines().len() == 1);
    std::fs::rename(container.dir.join("0.log"), container.dir.join("0.log.old")).unwrap();
    pod.client().reopen_log("c").unwrap();
    assert!(container.dir.join("0.log").exists());
    std::fs::write(pod.dir().join("rootfs/tmp/go"), "").unwrap();
    pod.client().wait("c").unwrap();
    assert_eq!(container.log_lines(), ["stdout F after"]);
    let old = std::fs::read_to_string(container.dir.join("0.log.old")).unwrap();
    assert!(old.ends_with("stdout F before\n"), "{old}");
}

#[test]
fn reopen_of_a_container_that_does_not_run_is_an_error_and_makes_no_file() {
    needs_host!();
    let pod = Pod::new();
    let (container, _) = pod.run("c", "true");
    std::fs::remove_file(container.dir.join("0.log")).unwrap();
    let error = pod.client().reopen_log("c").unwrap_err();
    assert!(matches!(error, Error::State { .. }), "{error:?}");
    assert!(!container.dir.join("0.log").exists());
}

#[test]
fn a_log_that_cannot_be_made_fails_the_create_and_leaves_nothing() {
    needs_host!();
    let pod = Pod::new();
    let mut container = pod.container("c", "true");
    container.write_config();
    let elsewhere = pod.dir().join("elsewhere");
    std::os::unix::fs::symlink(&elsewhere, container.dir.join("link.log")).unwrap();
    for (name, reason) in [
        ("link.log", "is a symbolic link"),
        ("no/dir/0.log", "No such file or directory"),
    ] {
        container.request.log.as_mut().unwrap().path = container.dir.join(name);
        let error = pod.client().create(&container.request).unwrap_err();
        assert!(
            error.to_string().contains(reason) && error.to_string().contains(name),
            "{error}"
        );
        assert_eq!(ContainerState::read(&container.dir).unwrap(), None);
    }
    assert!(!elsewhere.exists());
    assert!(pod.client().wait("c").unwrap_err().is_not_found());
}

#[test]
fn a_create_that_fails_later_takes_its_log_file_back() {
    needs_host!();
    let pod = Pod::new();
    let mut container = pod.container("c", "true");
    let absent = pod.dir().join("no/rootfs");
    container.config["root"] = json!({"path": absent});
    container.request.rootfs = supervisor::RootfsSource::Path(absent);
    container.write_config();
    pod.client().create(&container.request).unwrap_err();
    assert!(!container.dir.join("0.log").exists());
    assert_eq!(ContainerState::read(&container.dir).unwrap(), None);
    let cgroup = container.config["linux"]["cgroupsPath"].as_str().unwrap();
    assert!(runtime::cgroup::Cgroup::open(cgroup).is_err());
}

#[test]
fn a_log_with_a_limit_never_grows_past_it() {
    needs_host!();
    let pod = Pod::new();
    let mut container = pod.container("c", "seq 1 20000; echo last");
    container.request.log.as_mut().unwrap().max_size = Some(200_000);
    container.create(&pod);
    pod.client().start("c").unwrap();
    pod.client().wait("c").unwrap();
    assert_eq!(
        container.log_lines().last().map(String::as_str),
        Some("stdout F last")
    );
    assert!(
        std::fs::metadata(container.dir.join("0.log"))
            .unwrap()
            .len()
            <= 3_000_000
    );
}
