//! config.md, process.scheduler, ioPriority and execCPUAffinity; config-linux.md, personality,
//! memoryPolicy and time namespaces with their offsets.

use crate::support::Lab;
use serde_json::json;

/// The 41st field of /proc/PID/stat is the scheduling policy, the 19th the nice value.
fn stat(lab: &Lab, field: usize) -> String {
    let text = std::fs::read_to_string(format!("/proc/{}/stat", lab.pid("c"))).unwrap();
    let (_, after) = text.rsplit_once(") ").unwrap();
    after.split(' ').nth(field - 3).unwrap().to_owned()
}

#[test]
fn the_scheduler_and_the_io_priority_are_set() {
    needs_host!();
    let mut lab = Lab::new();
    lab.config["process"]["scheduler"] = json!({ "policy": "SCHED_BATCH", "nice": 7 });
    lab.config["process"]["ioPriority"] = json!({ "class": "IOPRIO_CLASS_IDLE", "priority": 0 });
    lab.sleeper("c");
    assert_eq!(
        (stat(&lab, 41).as_str(), stat(&lab, 19).as_str()),
        ("3", "7")
    );
    // SAFETY: takes integers.
    let io = unsafe { libc::syscall(libc::SYS_ioprio_get, 1, lab.pid("c")) };
    assert_eq!(io >> 13, 3);
    lab.call(&["delete", "--force", "c"]).ok();
}

#[test]
fn what_cannot_be_scheduled_so_is_refused_by_field() {
    needs_host!();
    let refused = |part: &str, field: &str, value: serde_json::Value| {
        let mut lab = Lab::new();
        lab.config[part][field] = value;
        lab.run().fails(&format!("{part}.{field}"));
    };
    refused("process", "scheduler", json!({ "policy": "SCHED_FAST" }));
    refused(
        "process",
        "scheduler",
        json!({ "policy": "SCHED_FIFO", "priority": 1000 }),
    );
    refused(
        "process",
        "ioPriority",
        json!({ "class": "IOPRIO_CLASS_BE", "priority": 9 }),
    );
    refused("process", "execCPUAffinity", json!({ "final": "3-1" }));
    refused("linux", "personality", json!({ "domain": "MINIX" }));
    refused("linux", "memoryPolicy", json!({ "mode": "MPOL_BIND" }));
    refused(
        "linux",
        "timeOffsets",
        json!({ "monotonic": { "secs": 1 } }),
    );
}

#[test]
fn the_personality_is_set_for_the_program_and_for_execs() {
    needs_host!();
    let mut lab = Lab::new();
    lab.config["linux"]["personality"] = json!({ "domain": "LINUX32" });
    lab.sleeper("c");
    let personality = format!("/proc/{}/personality", lab.pid("c"));
    assert_eq!(
        std::fs::read_to_string(personality).unwrap().trim(),
        "00000008"
    );
    let exec = ["exec", "c", "cat", "/proc/self/personality"];
    assert_eq!(lab.call(&exec).ok().trim(), "00000008");
    lab.call(&["delete", "--force", "c"]).ok();
}

#[test]
fn an_exec_runs_on_the_cpus_it_is_given() {
    needs_host!();
    let mut lab = Lab::new();
    lab.config["process"]["execCPUAffinity"] = json!({ "initial": "0", "final": "0" });
    lab.sleeper("c");
    let own = |pid: &str| {
        let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
        let line = status
            .lines()
            .find(|line| line.starts_with("Cpus_allowed_list"));
        line.unwrap().split_whitespace().last().unwrap().to_owned()
    };
    // The container's own process is not an exec.
    assert_eq!(own(&lab.pid("c").to_string()), own("self"));
    let exec = [
        "exec",
        "c",
        "grep",
        "Cpus_allowed_list",
        "/proc/self/status",
    ];
    assert!(lab.call(&exec).ok().trim().ends_with("\t0"));
    lab.call(&["delete", "--force", "c"]).ok();
}

#[test]
fn a_time_namespace_has_its_own_clocks_also_for_execs() {
    needs_host!();
    if !std::path::Path::new("/proc/self/ns/time").exists() {
        eprintln!("SKIP: this kernel has no time namespaces");
        return;
    }
    let mut lab = Lab::new();
    let namespaces = lab.config["linux"]["namespaces"].as_array_mut().unwrap();
    namespaces.push(json!({ "type": "time" }));
    lab.config["linux"]["timeOffsets"] = json!({
        "monotonic": { "secs": 172_800, "nanosecs": 0 },
        "boottime": { "secs": 864_000 },
    });
    lab.sleeper("c");
    let uptime = |text: &str| text.split('.').next().unwrap().parse::<u64>().unwrap();
    let outside = uptime(&std::fs::read_to_string("/proc/uptime").unwrap());
    let inside = uptime(&lab.call(&["exec", "c", "cat", "/proc/uptime"]).ok());
    assert!(
        (864_000..864_060).contains(&(inside - outside)),
        "{inside} {outside}"
    );
    let own = std::fs::read_link(format!("/proc/{}/ns/time", lab.pid("c"))).unwrap();
    assert_ne!(own, std::fs::read_link("/proc/self/ns/time").unwrap());
    let seen = lab
        .call(&["exec", "c", "readlink", "/proc/self/ns/time"])
        .ok();
    assert_eq!(seen.trim(), own.to_str().unwrap());
    // Another container joins it by its path.
    let mut other = Lab::new();
    let path = format!("/proc/{}/ns/time", lab.pid("c"));
    let namespaces = other.config["linux"]["namespaces"].as_array_mut().unwrap();
    namespaces.push(json!({ "type": "time", "path": path }));
    assert_eq!(
        other.prints("readlink /proc/self/ns/time").trim(),
        seen.trim()
    );
    lab.call(&["delete", "--force", "c"]).ok();
}

#[test]
fn a_container_has_all_cpus_of_its_cgroup_whatever_its_caller_has() {
    needs_host!();
    let mut lab = Lab::new();
    lab.script("grep Cpus_allowed_list /proc/self/status");
    let all = lab.run().ok();
    let (mut command, out, _) = lab.command(&["run", "c"]);
    let program = command.get_program().to_owned();
    let arguments: Vec<_> = command.get_args().map(ToOwned::to_owned).collect();
    command = std::process::Command::new("taskset");
    command.args(["-c", "0"]).arg(program).args(arguments);
    command
        .current_dir(lab.dir.join("bundle"))
        .stdin(std::process::Stdio::null());
    command.stdout(std::fs::File::create(&out).unwrap());
    assert!(command.status().unwrap().success());
    assert_eq!(std::fs::read_to_string(out).unwrap(), all);
}
