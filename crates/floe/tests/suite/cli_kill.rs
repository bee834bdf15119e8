//! `floe run` and `floe rm` are killed before and after system calls. Whatever was half done: the next
//! start of the engine clears it away, with its names, cgroups and processes, and what was done stays.

use std::path::Path;
use std::process::{Command, Stdio};

use crate::cli::{Machine, machine};
use testkit::kill::{End, Stops, kill_at};

impl Machine {
    /// What is there of pods: directories, names, cgroups below the node's, and supervisors.
    fn rests(&self) -> [Vec<String>; 4] {
        let entries = |dir: &Path| -> Vec<String> {
            let entries = std::fs::read_dir(dir).into_iter().flatten().flatten();
            let mut names: Vec<String> = entries
                .map(|entry| entry.file_name().to_string_lossy().into_owned())
                .collect();
            names.sort();
            names
        };
        let run = self.node.path("run");
        let cgroups = Command::new("find")
            .args(["/sys/fs/cgroup", "-type", "d", "-path"])
            .arg(format!("*{}/*", self.node.cgroup()))
            .output()
            .expect("find cgroups");
        let cgroups = String::from_utf8_lossy(&cgroups.stdout).into_owned();
        let pods = entries(&run.join("pods"));
        let supervisors = testkit::leftovers::processes("floe-runtime supervise ");
        let ours = |line: &str| line.contains(&self.node.dir().display().to_string());
        let of_this_node = |(pid, line): &(u32, String)| {
            let log = std::fs::read_link(format!("/proc/{pid}/fd/2")).unwrap_or_default();
            ours(&log.display().to_string()) || pods.iter().any(|pod| line.contains(pod))
        };
        let alive = supervisors.into_iter().filter(of_this_node);
        [
            pods.clone(),
            entries(&run.join("names")),
            cgroups.lines().map(str::to_owned).collect(),
            alive.map(|(pid, line)| format!("{pid} {line}")).collect(),
        ]
    }

    /// Starts the engine, which clears away what is half made, and ends it.
    fn recover(&mut self) {
        self.node.serve().expect("the engine starts");
        self.node.kill().expect("the engine ends");
    }

    /// After a kill at `place`: what there is, is whole, and can be removed to the last trace.
    fn whole_and_removable(&mut self, place: &str) {
        self.recover();
        let [pods, names, cgroups, supervisors] = self.rests();
        assert!(pods.len() <= 1, "{place}: {pods:?}");
        // The first process of a container that was not started yet looks like its supervisor.
        assert!(
            supervisors.len() <= 2 * pods.len(),
            "{place}: {supervisors:?}"
        );
        if pods.is_empty() {
            assert!(names.is_empty(), "{place}: names {names:?}");
            assert!(cgroups.is_empty(), "{place}: cgroups {cgroups:?}");
        }
        let removed = self.floe(&["rm", "--force", "--time", "0", "--all", "--pods"]);
        assert_eq!(removed.code, 0, "{place}: {removed:?}");
        let nothing: [Vec<String>; 4] = Default::default();
        assert_eq!(self.rests(), nothing, "{place}");
    }

    /// What is left of pods on networks: records, addresses and names.
    fn left_on_networks(&self) -> Vec<String> {
        let network = self.node.path("run/network");
        let list = Command::new("find")
            .current_dir(&network)
            .args([
                "joined",
                "joined-networks",
                "names",
                "results",
                "-type",
                "f",
            ])
            .output()
            .expect("find");
        let list = String::from_utf8_lossy(&list.stdout).into_owned();
        let stays = ["/lock", "/last_reserved_ip.0", "/settings", "/new"];
        let mut left: Vec<String> = list.lines().map(str::to_owned).collect();
        left.retain(|path| !stays.iter().any(|end| path.ends_with(end)));
        left
    }

    fn traced(&self, arguments: &[&str]) -> Command {
        let mut command = self.command(arguments);
        command.stdout(Stdio::null()).stderr(Stdio::null());
        command
    }
}

#[test]
fn a_run_killed_at_a_system_call_leaves_nothing_half_made() {
    machine(|floe| {
        let image = floe.image.clone();
        floe.floe(&["pull", "-q", &image]).ok();
        let arguments = ["run", "-d", "--name", "x", &image, "sleep", "1000"];
        let counted = kill_at(&mut floe.traced(&arguments), Stops::Calls, usize::MAX);
        let End::Finished { stops } = counted.expect("trace floe") else {
            panic!("it was killed");
        };
        floe.whole_and_removable("unharmed");
        eprintln!("{stops} stops");
        for stop in (0..stops).step_by(stops / 40) {
            let end = kill_at(&mut floe.traced(&arguments), Stops::Calls, stop);
            end.expect("trace floe");
            floe.whole_and_removable(&format!("run killed at {stop}"));
        }
    });
}

#[test]
fn a_removal_killed_at_a_system_call_can_be_finished() {
    machine(|floe| {
        let image = floe.image.clone();
        floe.floe(&["pull", "-q", &image]).ok();
        let run = ["run", "-d", "--name", "x", &image, "sleep", "1000"];
        let remove = ["rm", "--force", "--time", "0", "x"];
        floe.floe(&run).ok();
        let counted = kill_at(&mut floe.traced(&remove), Stops::Calls, usize::MAX);
        let End::Finished { stops } = counted.expect("trace floe") else {
            panic!("it was killed");
        };
        floe.whole_and_removable("unharmed");
        for stop in (0..stops).step_by(stops / 40) {
            floe.floe(&run).ok();
            let end = kill_at(&mut floe.traced(&remove), Stops::Calls, stop);
            end.expect("trace floe");
            floe.recover();
            let removed = floe.floe(&["rm", "--force", "--time", "0", "--all", "--pods"]);
            assert_eq!(removed.code, 0, "killed at {stop}: {removed:?}");
            let nothing: [Vec<String>; 4] = Default::default();
            assert_eq!(floe.rests(), nothing, "killed at {stop}");
        }
    });
}

#[test]
fn a_run_on_networks_killed_at_a_system_call_leaves_nothing_on_them() {
    machine(|floe| {
        let image = floe.image.clone();
        floe.floe(&["pull", "-q", &image]).ok();
        floe.network(&["create", "one"]).ok();
        floe.network(&["create", "two"]).ok();
        let run = [
            "run",
            "-d",
            "--name",
            "x",
            "--network",
            "one:alias=y",
            "--network",
            "two",
            &image,
            "sleep",
            "1000",
        ];
        let counted = kill_at(&mut floe.traced(&run), Stops::Calls, usize::MAX);
        let End::Finished { stops } = counted.expect("trace floe") else {
            panic!("it was killed");
        };
        floe.whole_and_removable("unharmed");
        let nothing: [String; 0] = [];
        for stop in (0..stops).step_by(stops / 25) {
            let end = kill_at(&mut floe.traced(&run), Stops::Calls, stop);
            end.expect("trace floe");
            floe.whole_and_removable(&format!("run killed at {stop}"));
            assert_eq!(floe.left_on_networks(), nothing, "run killed at {stop}");
        }
        floe.network(&["rm", "one", "two"]).ok();
    });
}

#[test]
fn a_connect_killed_at_a_system_call_leaves_a_container_that_is_on_the_network_or_not() {
    machine(|floe| {
        let image = floe.image.clone();
        floe.network(&["create", "one"]).ok();
        let run = ["run", "-d", "--name", "x", &image, "sleep", "1000"];
        let connect = ["network", "connect", "one", "x"];
        floe.floe(&run).ok();
        let counted = kill_at(&mut floe.traced(&connect), Stops::Calls, usize::MAX);
        let End::Finished { stops } = counted.expect("trace floe") else {
            panic!("it was killed");
        };
        floe.floe(&["rm", "-f", "-t", "0", "x"]).ok();
        let nothing: [String; 0] = [];
        for stop in (0..stops).step_by(stops / 20) {
            floe.floe(&run).ok();
            let end = kill_at(&mut floe.traced(&connect), Stops::Calls, stop);
            end.expect("trace floe");
            // Whatever it is on, it comes to it with its next start.
            floe.floe(&["stop", "-t", "0", "x"]).ok();
            floe.floe(&["start", "x"]).ok();
            let on = floe.floe(&["ps", "--format", "{{.Networks}}"]).ok();
            let links = floe.floe(&["exec", "x", "ls", "/sys/class/net"]).ok();
            let links = links.split_whitespace().count() - 1;
            assert_eq!(links, on.split(',').count(), "killed at {stop}: {on}");
            floe.floe(&["rm", "-f", "-t", "0", "x"]).ok();
            assert_eq!(floe.left_on_networks(), nothing, "connect killed at {stop}");
        }
        floe.network(&["rm", "one"]).ok();
    });
}
