//! Debian's engines with `floe-runtime` where they have runc: podman over conmon, containerd over
//! its runc.v2 shim. Private roots, state, sockets and mount namespaces throughout.

use std::fmt::Write as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use crate::support::{Lab, program, soon};

/// Ends the test if a program is missing.
macro_rules! needs_program {
    ($($name:literal),*) => {
        $(if Command::new($name).arg("--version").output().is_err() {
            eprintln!("SKIP: needs {} (scripts/install-deps.sh installs it)", $name);
            return;
        })*
    };
}

/// Runs a script of podman commands in one mount namespace of its own, in which cgroups are not
/// hybrid (podman refuses that) and podman's locks are its own. `$podman` and `$run` are set.
fn podman(lab: &Lab, script: &str) -> String {
    let (dir, name, program) = (lab.dir.display(), lab.name(), program());
    let mut whole = format!(
        "umount /sys/fs/cgroup/unified 2>/dev/null\n\
         mount -t tmpfs none /dev/shm\n\
         podman='podman --root {dir}/podman --runroot {dir}/podman-run --tmpdir {dir}/podman-tmp \
         --cgroup-manager cgroupfs --events-backend file --storage-driver vfs \
         --runtime {program} --runtime-flag root={dir}/state'\n\
         run=\"$podman run --network none --cgroup-parent /{name} --cgroups no-conmon\"\n\
         tar -C {dir}/bundle/rootfs -c . | $podman import -q - lab:1 >/dev/null || exit 1\n"
    );
    whole.push_str(script);
    // Whatever the script did, its exit code stays.
    let _ = write!(
        whole,
        "\ncode=$?\n$podman rm -fa -t 0 >/dev/null\n$podman pod rm -fa -t 0 >/dev/null\n\
         # conmon of a pod's infra container ends a moment later\n\
         for i in $(seq 100); do\n\
         find /sys/fs/cgroup/*/{name} -mindepth 1 -depth -type d -exec rmdir {{}} + 2>/dev/null && break\n\
         sleep 0.05\ndone\nexit $code\n"
    );
    drop(lab.command(&[]));
    let output = Command::new("timeout")
        .args(["120", "unshare", "-m", "sh", "-c", &whole])
        .stdin(Stdio::null())
        .output()
        .unwrap();
    // conmon has another podman clean up after each exec, which makes its directories anew if need be: the
    // lab could not be removed, or would be there again.
    soon("podman's clean-ups end", || lab.processes().is_empty());
    let err = String::from_utf8_lossy(&output.stderr);
    let out = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{out}\n{err}");
    out
}

#[test]
fn podman_runs_containers_and_their_exit_codes_and_errors_are_its_own() {
    needs_host!();
    needs_program!("podman", "conmon");
    let lab = Lab::new();
    let out = podman(
        &lab,
        "$run --rm lab:1 echo hello\n\
         $run --rm lab:1 sh -c 'exit 7'; echo code $?\n\
         $run --rm lab:1 nope 2>&1 | grep -o 'OCI runtime attempted to invoke a command that was not found'\n\
         $run --rm lab:1 nope 2>/dev/null; echo code $?\n\
         $run --rm --memory 64m --pids-limit 20 lab:1 true; echo code $?",
    );
    assert_eq!(
        out,
        "hello\ncode 7\nOCI runtime attempted to invoke a command that was not found\ncode 127\ncode 0\n"
    );
}

/// The words of the runtime are those that podman's users know, and its exit codes come of them.
#[test]
fn podman_tells_why_a_program_cannot_be_started_in_runcs_words() {
    needs_host!();
    needs_program!("podman", "conmon");
    let lab = Lab::new();
    // As runc is known to podman: by name, with its errors read from a log in JSON.
    let program = program();
    let conf = format!(
        "[engine]\nruntime_supports_json = [\"floe\"]\n[engine.runtimes]\nfloe = [\"{program}\"]\n"
    );
    let file = lab.dir.join("containers.conf");
    std::fs::write(&file, conf).unwrap();
    let named = format!(
        "export CONTAINERS_CONF={}\n\
         podman=$(echo \"$podman\" | sed 's:--runtime [^ ]*:--runtime floe:')\n\
         run=$(echo \"$run\" | sed 's:--runtime [^ ]*:--runtime floe:')\n",
        file.display()
    );
    let out = podman(
        &lab,
        &(named
            + "$run --rm lab:1 nope 2>&1; echo code $?\n\
         $run --rm lab:1 /etc 2>&1; echo code $?\n\
         $run --rm lab:1 /nope 2>&1; echo code $?\n\
         $run -d --name s lab:1 sleep 1000 >/dev/null || exit 1\n\
         $podman exec s nope 2>&1; echo code $?\n\
         $podman exec s /etc 2>&1; echo code $?"),
    );
    let lines: Vec<&str> = out.lines().collect();
    assert_eq!(lines.len(), 10, "{out}");
    let start = "unable to start container process: ";
    for (line, words, code) in [
        (
            0,
            format!("create failed: {start}exec: \"nope\": executable file not found in $PATH"),
            "127",
        ),
        (
            2,
            format!("create failed: {start}exec: \"/etc\": permission denied"),
            "126",
        ),
        (
            4,
            format!("create failed: {start}exec: \"/nope\": stat /nope: no such file or directory"),
            "127",
        ),
        (
            6,
            format!("exec failed: {start}exec: \"nope\": executable file not found in $PATH"),
            "127",
        ),
        (
            8,
            format!("exec failed: {start}exec: \"/etc\": permission denied"),
            "126",
        ),
    ] {
        assert!(lines[line].contains(&words), "{words}: {out}");
        assert_eq!(lines[line + 1], format!("code {code}"), "{out}");
    }
}

#[test]
fn podman_execs_pauses_counts_and_removes() {
    needs_host!();
    needs_program!("podman", "conmon");
    let lab = Lab::new();
    let out = podman(
        &lab,
        "$run -d --name s lab:1 sleep 1000 >/dev/null || exit 1\n\
         $podman exec s echo in exec\n\
         $podman exec s sh -c 'exit 5'; echo code $?\n\
         $podman exec s nope 2>/dev/null; echo code $?\n\
         $podman stats --no-stream --format '{{.Name}} {{.PIDS}}'\n\
         $podman top s comm | tail -1\n\
         $podman pause s; $podman inspect -f '{{.State.Status}}' s; $podman unpause s\n\
         $podman kill s; $podman wait s",
    );
    assert_eq!(
        out,
        "in exec\ncode 5\ncode 127\ns 1\nsleep\ns\npaused\ns\ns\n137\n"
    );
}

#[test]
fn podman_checks_the_health_of_a_container() {
    needs_host!();
    needs_program!("podman", "conmon");
    let lab = Lab::new();
    // Without an interval podman asks for no timer of systemd's.
    let out = podman(
        &lab,
        "$run -d --name h --health-cmd 'test -e /tmp/well' --health-interval disable --health-retries 1 \
         lab:1 sleep 1000 >/dev/null || exit 1\n\
         $podman healthcheck run h >/dev/null; echo code $?\n\
         $podman exec h touch /tmp/well; $podman healthcheck run h; echo code $?\n\
         $podman inspect -f '{{.State.Healthcheck.Status}}' h 2>/dev/null || \
         $podman inspect -f '{{.State.Health.Status}}' h",
    );
    assert_eq!(out, "code 1\ncode 0\nhealthy\n");
}

#[test]
fn podman_gives_a_container_a_terminal() {
    needs_host!();
    needs_program!("podman", "conmon", "script");
    let lab = Lab::new();
    // podman may lose the last words of a container that ends at once, so it stays a moment.
    let out = podman(
        &lab,
        "(sleep 1; echo hi; sleep 1) | script -qec \"$run --rm -it lab:1 sh -c \
         'test -t 0 && test -t 1 && tty; read word; echo got \\$word; sleep 1'\" /dev/null",
    );
    assert!(
        out.contains("/dev/pts/0\r\n") && out.contains("got hi\r\n"),
        "{out}"
    );
}

#[test]
fn podman_makes_a_pod_whose_containers_share_their_namespaces() {
    needs_host!();
    needs_program!("podman", "conmon");
    let lab = Lab::new();
    let out = podman(
        &lab,
        &format!(
            "$podman pod create --name p --network none --cgroup-parent /{} \
             --infra-image lab:1 --infra-command '/bin/sleep 1000' >/dev/null || exit 1\n\
             one='for n in net ipc uts; do readlink /proc/self/ns/$n; done'\n\
             for i in 1 2; do $podman run --rm --pod p --cgroups no-conmon lab:1 sh -c \"$one\"; done\n\
             $podman pod rm -f -t 0 p >/dev/null",
            lab.name()
        ),
    );
    let lines: Vec<&str> = out.lines().collect();
    assert_eq!(lines.len(), 6, "{out}");
    assert_eq!(lines[..3], lines[3..]);
}

/// Debian's containerd without its CRI plugin, on private directories.
struct Containerd<'a> {
    lab: &'a Lab,
    process: Child,
}

impl<'a> Containerd<'a> {
    fn start(lab: &'a Lab) -> Self {
        let dir = lab.dir.display();
        let config = format!(
            "version = 2\nroot = '{dir}/ctd/root'\nstate = '{dir}/ctd/state'\n\
             disabled_plugins = ['io.containerd.grpc.v1.cri']\n\
             [grpc]\naddress = '{dir}/ctd/sock'\n[ttrpc]\naddress = '{dir}/ctd/sock.ttrpc'\n"
        );
        std::fs::create_dir(lab.dir.join("ctd")).unwrap();
        let file = lab.dir.join("ctd/config.toml");
        std::fs::write(&file, config).unwrap();
        let process = Command::new("containerd")
            .arg("--config")
            .arg(file)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let started = Self { lab, process };
        soon("containerd serves", || {
            started.ctr(&["version"]).0 == Some(0)
        });
        started
    }

    /// Exit code, and both outputs.
    fn ctr(&self, arguments: &[&str]) -> (Option<i32>, String) {
        let output = Command::new("timeout")
            .args(["60", "ctr", "-a"])
            .arg(self.lab.dir.join("ctd/sock"))
            .args(arguments)
            .stdin(Stdio::null())
            .output()
            .unwrap();
        let text = [output.stdout, output.stderr].concat();
        (output.status.code(), String::from_utf8(text).unwrap())
    }

    fn run(&self, how: &str, id: &str, command: &[&str]) -> (Option<i32>, String) {
        let path = |dir: &Path| dir.to_str().unwrap().to_owned();
        let (state, rootfs) = (
            path(&self.lab.dir.join("state")),
            path(&self.lab.rootfs("")),
        );
        let cgroup = format!("/{}/{id}", self.lab.name());
        let options = [
            "run",
            how,
            "--runtime",
            "io.containerd.runc.v2",
            "--runc-binary",
            program(),
            "--runc-root",
            &state,
            "--cgroup",
            &cgroup,
            "--rootfs",
            &rootfs,
            id,
        ];
        self.ctr(&[&options, command].concat())
    }
}

impl Drop for Containerd<'_> {
    fn drop(&mut self) {
        // Containers first: their shims end with them.
        for id in ["a", "b", "e", "d"] {
            let _ = self.ctr(&["task", "rm", "-f", id]);
            let _ = self.ctr(&["container", "rm", id]);
        }
        let _ = self.process.kill();
        let _ = self.process.wait();
        // The state directory of its namespace "default" is the shim's.
        let _ = std::fs::remove_dir(self.lab.dir.join("state/default"));
    }
}

#[test]
fn containerd_runs_execs_pauses_and_removes_through_its_shim() {
    needs_host!();
    needs_program!("containerd", "ctr");
    let lab = Lab::new();
    let containerd = Containerd::start(&lab);
    let done = |code: i32, text: &str| (Some(code), text.to_owned());
    let run = |how: &str, id: &str, command: &[&str]| containerd.run(how, id, command);
    assert_eq!(
        run("--rm", "a", &["/bin/echo", "hello"]),
        done(0, "hello\n")
    );
    assert_eq!(run("--rm", "b", &["/bin/sh", "-c", "exit 7"]).0, Some(7));
    let (code, text) = run("--rm", "e", &["/bin/nope"]);
    assert_eq!(code, Some(1));
    assert!(
        text.contains("OCI runtime create failed: ") && text.contains("/bin/nope"),
        "{text}"
    );
    assert_eq!(run("-d", "d", &["/bin/sleep", "1000"]), done(0, ""));
    let task = |arguments: &[&str]| containerd.ctr(&[&["task"], arguments].concat());
    let exec = ["exec", "--exec-id", "x", "d", "/bin/echo", "in exec"];
    assert_eq!(task(&exec), done(0, "in exec\n"));
    assert_eq!(
        task(&["exec", "--exec-id", "y", "d", "/bin/nope"]).0,
        Some(1)
    );
    assert_eq!(task(&["pause", "d"]).0, Some(0));
    assert!(task(&["ls"]).1.contains("PAUSED"));
    assert_eq!(task(&["resume", "d"]).0, Some(0));
    assert_eq!(task(&["ps", "d"]).1.lines().count(), 2);
    assert_eq!(task(&["kill", "-s", "KILL", "d"]).0, Some(0));
    soon("its end", || task(&["ls"]).1.contains("STOPPED"));
    // Its exit code is that of the task: killed.
    let _ = task(&["rm", "d"]);
    assert!(!lab.dir.join("state/default/d").exists());
    assert!(lab.cgroups("d").is_empty());
}
