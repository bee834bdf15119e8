//! What `crictl exec`, `attach`, `port-forward`, `logs` and `events` carry, over both transports.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::process::{Child, Stdio};
use std::sync::{Arc, Mutex};

use rustix::process::Signal;

use crate::cli::crictl::{Crictl, served};
use crate::cli::{Said, signal, until};

const TRANSPORTS: [&str; 2] = ["spdy", "websocket"];

/// Runs with this standard input.
fn with_input(crictl: &Crictl, words: &[&str], input: &[u8]) -> Said {
    let mut child = crictl
        .command(words)
        .stdin(Stdio::piped())
        .spawn()
        .expect("start");
    let mut stdin = child.stdin.take().expect("its input");
    stdin.write_all(input).expect("write");
    drop(stdin);
    child.wait_with_output().expect("wait").into()
}

#[test]
fn exec_has_input_output_and_the_words_for_exit_codes() {
    served(|_, crictl| {
        let (_, id) = crictl.started("exec", "sleep 1000");
        for transport in TRANSPORTS {
            let exec = ["exec", "-r", transport];
            let run = |words: &[&str]| crictl.run(&[&exec[..], words].concat());
            let said = run(&[&id, "sh", "-c", "echo out; echo err >&2"]);
            assert_eq!((said.code, &*said.out, &*said.err), (0, "out\n", "err\n"));
            let words = [
                &exec[..],
                &["-i", &id, "sh", "-c", "cat | wc -c; echo over"],
            ]
            .concat();
            let said = with_input(crictl, &words, &vec![b'x'; 1_000_000]);
            assert_eq!(said.ok(), "1000000\nover", "{transport}");
            let said = run(&[&id, "sh", "-c", "exit 7"]);
            let words =
                format!("execing command in container {id}: command terminated with exit code 7");
            said.failed(1, &[&words]);
            run(&[&id, "/nosuch"]).failed(1, &["execing command in container", "/nosuch"]);
            // Without -i nothing of standard input is taken.
            assert_eq!(run(&[&id, "cat"]).ok(), "");
        }
        crictl
            .run(&["exec", "nosuch", "true"])
            .failed(1, &["code = NotFound"]);
    });
}

#[test]
fn exec_sync_prints_both_outputs_and_tells_of_failures() {
    served(|_, crictl| {
        let (_, id) = crictl.started("sync", "sleep 1000");
        let said = crictl.run(&["exec", "-s", &id, "sh", "-c", "echo out; echo err >&2"]);
        assert_eq!((said.code, &*said.out), (0, "out\n\nerr\n\n"));
        let said = crictl.run(&["exec", "--sync", &id, "sh", "-c", "echo why >&2; exit 4"]);
        said.failed(
            1,
            &["synchronously: command 'sh -c echo why >&2; exit 4' exited with 4: why"],
        );
        let said = crictl.run(&["exec", "-s", "--timeout", "1", &id, "sleep", "1000"]);
        said.failed(1, &["code = DeadlineExceeded"]);
        // All containers that fit, with their ids above what they say.
        let said = crictl.ok(&["exec", "-s", "--name", "^sync$", "echo", "here"]);
        assert_eq!(said, format!("{id}:\nhere"));
        let said = crictl.ok(&["exec", "-s", "-q", "--latest", "echo", "here"]);
        assert_eq!(said, "here");
        let said = crictl.run(&["exec", "-e", "-q", &id, "false"]);
        assert_eq!(said.code, 0);
    });
}

#[test]
fn a_terminal_has_its_size_and_is_left_by_its_keys() {
    served(|floe, crictl| {
        let (_, id) = crictl.started("tty", "sleep 1000");
        let endpoint = crictl.endpoint();
        for transport in TRANSPORTS {
            let words = [
                "cri", "-r", &endpoint, "-t", "60s", "exec", "-r", transport, "-it", &id, "sh",
            ];
            let mut shell = floe.on_terminal_of((37, 111), &words);
            shell.wait_for("# ");
            shell.type_in("test -t 0 && stty size; echo is-$((40+2))\n");
            shell.wait_for("37 111");
            shell.wait_for("is-42");
            shell.type_in("exit 0\n");
            let (seen, code) = shell.end();
            assert_eq!(code, 0, "{seen}");
            let mut shell = floe.on_terminal(&words);
            shell.wait_for("# ");
            shell.type_in("\u{10}\u{11}");
            let (seen, code) = shell.end();
            assert_eq!(code, 0, "{seen}");
        }
        crictl
            .run(&["exec", "-it", &id, "sh"])
            .failed(1, &["input is not a terminal"]);
    });
}

#[test]
fn attach_joins_a_container_that_reads_its_input() {
    served(|_, crictl| {
        let pod_config = crictl.pod_config("attach");
        let pod = crictl.ok(&["runp", &pod_config]);
        for transport in TRANSPORTS {
            let config = serde_json::json!({
                "metadata": {"name": transport},
                "image": {"image": crictl.image},
                "command": ["sh", "-c", "while read line; do echo got $line; done; exit 6"],
                "log_path": format!("{transport}.log"),
                "stdin": true,
                "stdin_once": true,
                "linux": {},
            });
            let config = crictl.file("attach-container.json", &config.to_string());
            let id = crictl.ok(&["create", &pod, &config, &pod_config]);
            crictl.ok(&["start", &id]);
            let said = with_input(
                crictl,
                &["attach", "-i", "-r", transport, &id],
                b"one\ntwo\n",
            );
            assert_eq!(said.out, "got one\ngot two\n", "{}", said.err);
        }
    });
}

/// The lines that a running crictl prints.
fn reader(child: &mut Child) -> BufReader<std::process::ChildStdout> {
    BufReader::new(child.stdout.take().expect("its output"))
}

fn line(reader: &mut impl BufRead) -> String {
    let mut line = String::new();
    reader.read_line(&mut line).expect("read");
    line.trim_end().to_owned()
}

#[test]
fn ports_lead_into_the_pod() {
    served(|_, crictl| {
        let (pod, _) = crictl.started("web", "exec httpd -f -p 8080 -h /www");
        for transport in TRANSPORTS {
            let words = [
                "port-forward",
                "--transport",
                transport,
                &pod,
                ":8080",
                ":99",
            ];
            let mut child = crictl.command(&words).spawn().expect("start");
            let mut said = reader(&mut child);
            // Both families, for each of the two.
            let lines: Vec<String> = (0..4).map(|_| line(&mut said)).collect();
            let port = |line: &str| -> u16 {
                let rest = line.strip_prefix("Forwarding from ").expect("words");
                let (address, _) = rest.split_once(" -> ").expect("an arrow");
                address
                    .rsplit(':')
                    .next()
                    .and_then(|port| port.parse().ok())
                    .expect("a port")
            };
            assert!(
                lines[0].starts_with("Forwarding from 127.0.0.1:") && lines[0].ends_with("-> 8080"),
                "{lines:?}"
            );
            assert!(lines[1].starts_with("Forwarding from [::1]:"), "{lines:?}");
            let get = |port: u16| {
                let mut stream = TcpStream::connect(("127.0.0.1", port)).expect("connect");
                // Whoever has no server there is left at once.
                let _ = stream.write_all(b"GET / HTTP/1.0\r\n\r\n");
                let mut answer = Vec::new();
                let _ = stream.read_to_end(&mut answer);
                String::from_utf8_lossy(&answer).into_owned()
            };
            until("the pod's server answers", || {
                get(port(&lines[0])).ends_with("hello from a pod\n")
            });
            assert_eq!(get(port(&lines[2])), "");
            // The others live on.
            assert!(get(port(&lines[0])).ends_with("hello from a pod\n"));
            signal(&child, Signal::INT);
            let output = child.wait_with_output().expect("wait");
            let err = String::from_utf8_lossy(&output.stderr).into_owned();
            assert!(err.contains("an error occurred forwarding"), "{err}");
            assert_eq!(output.status.code(), Some(0));
        }
        crictl
            .run(&["port-forward", &pod, "x"])
            .failed(1, &["port forward: error parsing local port 'x'"]);
        crictl
            .run(&["port-forward", "nosuch", "80"])
            .failed(1, &["code = NotFound"]);
    });
}

#[test]
fn logs_are_read_chosen_and_followed() {
    served(|_, crictl| {
        let script = "echo one; echo two >&2; printf part; sleep 0.2; echo ' and rest'; \
            until test -e /tmp/go; do sleep 0.05; done; echo last";
        let (_, id) = crictl.started("logs", script);
        until("it has written", || {
            crictl.run(&["logs", &id]).out.contains("and rest")
        });
        let said = crictl.run(&["logs", &id]);
        assert_eq!((&*said.out, &*said.err), ("one\npart and rest\n", "two\n"));
        assert_eq!(crictl.run(&["logs", "-s", "stderr", &id]).out, "");
        assert_eq!(crictl.run(&["logs", "-s", "stderr", &id]).err, "two\n");
        assert_eq!(
            crictl
                .run(&["logs", "-s", "stdout", "--limit-bytes", "5", &id])
                .out,
            "one\np"
        );
        assert_eq!(
            crictl.ok(&["logs", "--since", "2100-01-01T00:00:00Z", &id]),
            ""
        );
        assert!(crictl.ok(&["logs", "--since", "1h", &id]).contains("one"));
        let stamped = crictl.ok(&["logs", "-t", &id]);
        let (time, text) = stamped
            .lines()
            .next()
            .and_then(|line| line.split_once(' '))
            .expect("a time");
        assert!(time.starts_with("20") && time.contains('T'), "{stamped}");
        assert_eq!(text, "one");
        crictl
            .run(&["logs", "--tail", "1", "-s", "stdout", &id])
            .failed(1, &["mutually exclusive"]);
        crictl
            .run(&["logs", "-s", "x", &id])
            .failed(1, &["invalid stream"]);
        crictl
            .run(&["logs", "-p", &id])
            .failed(1, &["previous terminated container logs not found"]);
        assert_eq!(
            crictl.run(&["logs", "--reopen", "--tail", "0", &id]).code,
            0
        );

        let mut follower = crictl.command(&["logs", "-f", &id]).spawn().expect("start");
        let mut said = reader(&mut follower);
        // What was written before the file was opened again is not in it.
        crictl.ok(&["exec", "-s", &id, "touch", "/tmp/go"]);
        until("the last line is there", || line(&mut said) == "last");
        let output = follower.wait_with_output().expect("wait");
        assert_eq!(output.status.code(), Some(0));
        assert_eq!(crictl.run(&["logs", "--tail", "1", &id]).out, "last\n");
    });
}

#[test]
fn events_come_as_they_happen_until_one_has_enough() {
    served(|_, crictl| {
        let template = "{{.containerId}} {{.containerEventType}}";
        let words = ["events", "-o", "go-template", "--template", template];
        let mut child = crictl.command(&words).spawn().expect("start");
        let said = reader(&mut child);
        let heard = Arc::new(Mutex::new(String::new()));
        let hears = Arc::clone(&heard);
        let hearing = std::thread::spawn(move || {
            for line in said.lines() {
                let line = line.expect("a line");
                hears.lock().expect("a lock").push_str(&format!("{line}\n"));
            }
        });
        let has = |words: &str| heard.lock().expect("a lock").contains(words);
        // Nobody is told what was before they asked: something happens until they have.
        let probe = crictl.pod_config("probe");
        until("it is subscribed", || {
            let pod = crictl.ok(&["runp", &probe]);
            crictl.ok(&["rmp", "-f", &pod]);
            has("_EVENT\n")
        });
        let (pod, id) = crictl.started("events", "sleep 1000");
        until("it has started", || {
            has(&format!("{id} CONTAINER_STARTED_EVENT\n"))
        });
        crictl.ok(&["stopp", &pod]);
        until("it has stopped", || {
            has(&format!("{id} CONTAINER_STOPPED_EVENT\n"))
        });
        signal(&child, Signal::INT);
        let output = child.wait_with_output().expect("wait");
        hearing.join().expect("the reader");
        Said::from(output).failed(1, &["interrupted: context canceled"]);
        crictl
            .run(&["events", "-o", "json", "--template", "x"])
            .failed(1, &["template can't be used with \\\"json\\\" format"]);
    });
}
