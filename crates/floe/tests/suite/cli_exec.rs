//! `floe exec`.

use std::io::Write;
use std::process::Stdio;

use crate::cli::machine;

#[test]
fn a_command_runs_inside_and_its_code_is_floes() {
    machine(|floe| {
        floe.background("box", "sleep 1000");
        let said = floe.floe(&["exec", "box", "sh", "-c", "echo out; echo err >&2; exit 6"]);
        assert_eq!(
            (said.code, said.out.as_str(), said.err.as_str()),
            (6, "out\n", "err\n")
        );
        let options = ["exec", "-e", "A=1", "-w", "/tmp", "-u", "7:8", "box"];
        let mut arguments = options.to_vec();
        arguments.extend(["sh", "-c", "echo $A; pwd; id -u; id -g"]);
        assert_eq!(floe.floe(&arguments).ok(), "1\n/tmp\n7\n8");
        floe.floe(&["exec", "box", "no-such"])
            .failed(127, &["no-such"]);
        floe.floe(&["exec", "box", "/etc/passwd"])
            .failed(126, &["permission denied"]);
    });
}

#[test]
fn what_does_not_run_takes_no_command() {
    machine(|floe| {
        floe.run(&["--name", "ended"], &["true"]).ok();
        floe.floe(&["exec", "ended", "true"])
            .failed(125, &["exited"]);
        floe.floe(&["exec", "nobody", "true"])
            .failed(125, &["no such container"]);
        floe.floe(&["exec", "ended"]).failed(125, &["COMMAND"]);
    });
}

#[test]
fn standard_input_goes_through() {
    machine(|floe| {
        floe.background("box", "sleep 1000");
        let mut child = floe
            .command(&["exec", "-i", "box", "cat"])
            .stdin(Stdio::piped())
            .spawn()
            .expect("start floe");
        let bytes = vec![b'x'; 300_000];
        let mut stdin = child.stdin.take().expect("stdin");
        let writer = std::thread::spawn(move || stdin.write_all(&bytes));
        let output = child.wait_with_output().expect("wait for floe");
        writer.join().expect("the writer").expect("write");
        assert_eq!(
            (output.status.code(), output.stdout.len()),
            (Some(0), 300_000)
        );
    });
}

#[test]
fn a_terminal_is_a_terminal_inside() {
    machine(|floe| {
        floe.background("box", "sleep 1000");
        let script = "tty; stty size; read line; echo got $line; exit 5";
        let mut terminal = floe.on_terminal(&["exec", "-it", "box", "sh", "-c", script]);
        terminal.wait_for("30 100");
        terminal.type_in("words\n");
        let (shown, code) = terminal.end();
        assert!(
            shown.contains("/dev/pts/") && shown.contains("got words"),
            "{shown}"
        );
        assert_eq!(code, 5);
    });
}

#[test]
fn the_shortest_unambiguous_id_is_enough() {
    machine(|floe| {
        let id = floe.background("box", "sleep 1000");
        assert_eq!(floe.floe(&["exec", &id[..6], "echo", "hi"]).ok(), "hi");
        floe.floe(&["exec", "", "true"]).failed(125, &[]);
    });
}

#[test]
fn a_command_in_the_background_goes_on_without_who_began_it() {
    machine(|floe| {
        floe.background("box", "sleep 1000");
        let script = "sleep 0.5; echo done > /done";
        let id = floe.floe(&["exec", "-d", "box", "sh", "-c", script]).ok();
        assert_eq!(id.len(), 64);
        crate::cli::until("it is done", || {
            floe.floe(&["exec", "box", "cat", "/done"]).out == "done\n"
        });
        floe.floe(&["exec", "-d", "box", "nothing-like-it"])
            .failed(127, &["nothing-like-it"]);
        floe.floe(&["exec", "-d", "nobody", "true"])
            .failed(125, &["no such container"]);
        floe.floe(&["exec", "box"]).failed(
            125,
            &["must provide a non-empty command to start an exec session"],
        );
    });
}
