//! `floe events`: what happens while it looks, whoever does it.

use std::io::{BufRead, BufReader};
use std::process::{Child, Stdio};

use crate::cli::{Machine, machine, until};

/// A `floe events` that looks already, and what it has said since.
struct Looking(Child, std::sync::mpsc::Receiver<String>);

impl Machine {
    fn looking(&self, options: &[&str]) -> Looking {
        let mut command = self.command(&[&["events"], options].concat());
        let mut child = command.stdout(Stdio::piped()).spawn().expect("run floe");
        let out = child.stdout.take().expect("piped");
        let (send, lines) = std::sync::mpsc::channel();
        std::thread::spawn(move || {
            for line in BufReader::new(out).lines().map_while(Result::ok) {
                if send.send(line).is_err() {
                    break;
                }
            }
        });
        let looking = Looking(child, lines);
        until("it looks", || {
            self.floe(&[
                "create",
                "--network",
                "none",
                "--name",
                "probe",
                &self.image,
            ])
            .ok();
            self.floe(&["rm", "probe"]).ok();
            looking.1.try_recv().is_ok()
        });
        looking
    }
}

impl Looking {
    /// The lines up to the one that ends so, without those of the probe.
    fn until(&self, end: &str) -> Vec<String> {
        let mut all = Vec::new();
        while !all.last().is_some_and(|line: &String| line.ends_with(end)) {
            let limit = std::time::Duration::from_secs(60);
            let line = self
                .1
                .recv_timeout(limit)
                .unwrap_or_else(|_| panic!("no {end:?} after {all:?}"));
            if !line.contains("probe") {
                all.push(line);
            }
        }
        all
    }
}

impl Drop for Looking {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn each_step_in_a_life_is_told_once_in_order_to_those_who_ask_for_it() {
    machine(|floe| {
        let format = "{{.Type}} {{.Name}} {{.Status}}{{with .ContainerExitCode}} {{.}}{{end}}";
        let looking = floe.looking(&["--format", format]);
        let run = [
            "run",
            "-d",
            "--network",
            "none",
            "--name",
            "c",
            "--label",
            "a=b",
            &floe.image,
        ];
        let script = [
            "sh",
            "-c",
            "while [ ! -e /end ]; do sleep 0.1; done; exit 3",
        ];
        floe.floe(&[&run[..], &script].concat()).ok();
        floe.floe(&["pause", "c"]).ok();
        floe.floe(&["unpause", "c"]).ok();
        floe.floe(&["exec", "c", "touch", "/end"]).ok();
        floe.floe(&["wait", "c"]).ok();
        floe.floe(&["rm", "c"]).ok();
        floe.floe(&["pod", "create", "--network", "none", "p"]).ok();
        floe.floe(&["pod", "rm", "p"]).ok();
        let words = ["create", "start", "pause", "unpause", "died 3", "remove"];
        let wanted: Vec<String> = words
            .iter()
            .map(|word| format!("container c {word}"))
            .collect();
        let told = looking.until("pod p remove");
        let of_container: Vec<&String> = told.iter().filter(|line| line.contains(" c ")).collect();
        assert_eq!(of_container, wanted.iter().collect::<Vec<_>>(), "{told:?}");
        assert!(
            !told.iter().any(|line| line.starts_with("pod c")),
            "{told:?}"
        );
    });
}

#[test]
fn an_event_is_a_line_for_a_person_or_json_and_filters_choose() {
    machine(|floe| {
        let plain = floe.looking(&["--filter", "event=died", "--filter", "event=remove"]);
        let json = floe.looking(&[
            "--format",
            "json",
            "--filter",
            "event=create",
            "--filter",
            "event=died",
        ]);
        floe.floe(&[
            "run",
            "--rm",
            "--network",
            "none",
            "--name",
            "c",
            "--label",
            "a=b",
            &floe.image,
            "true",
        ])
        .ok();
        let told = plain.until("a=b)");
        let [line] = &told[..] else {
            panic!("{told:?}")
        };
        assert!(line.contains(" +0000 UTC container died "), "{line}");
        assert!(
            line.contains("name=c, ") && line.contains("containerExitCode=0"),
            "{line}"
        );
        let told = json.until("}");
        let value: serde_json::Value = serde_json::from_str(&told[0]).expect("JSON");
        assert_eq!(
            (&value["Status"], &value["Attributes"]["a"]),
            (&"create".into(), &"b".into())
        );
        floe.floe(&["events", "--until", "1s", "--filter", "container=c"])
            .ok();
        floe.floe(&["events", "--stream=false"])
            .failed(125, &["not offered", "floe ps -a"]);
        floe.floe(&["events", "--since", "1h"])
            .failed(125, &["not offered"]);
        floe.floe(&["events", "--filter", "type=image"])
            .failed(125, &["container and pod"]);
        floe.floe(&["events", "--filter", "x=y"])
            .failed(125, &["invalid filter"]);
    });
}
