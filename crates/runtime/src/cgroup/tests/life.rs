//! From create to delete.

use super::*;

#[test]
fn a_path_must_name_something_below_the_root() {
    for (path, want) in [
        ("", "root"),
        ("/", "root"),
        ("./.", "root"),
        ("a/../../b", ".."),
        ("a\nb", "line break"),
    ] {
        let error = Cgroup::create(path, None).expect_err(path).to_string();
        assert!(error.contains(want), "{error}");
    }
    assert_eq!(checked("//a/./b/").expect("valid"), "a/b");
}

#[test]
fn a_cgroup_is_made_in_every_hierarchy_and_deleted_without_a_trace() {
    let scratch = Scratch::new();
    let cgroup = Cgroup::create(&format!("/{}/pod/container", scratch.0), None).expect("create");
    assert_eq!(cgroup.missing(), [] as [PathBuf; 0]);
    let directories = cgroup.directories();
    assert_eq!(
        directories.len(),
        Hierarchies::of_host().expect("cgroups").all.len()
    );
    assert!(directories.iter().all(|directory| directory.path.is_dir()));
    assert_eq!(
        Cgroup::open(cgroup.path()).expect("open").directories(),
        directories
    );
    cgroup.delete().expect("delete");
    assert!(directories.iter().all(|directory| !directory.path.exists()));
    assert!(Cgroup::open(cgroup.path()).is_err_and(|error| error.is_not_found()));
    cgroup.delete().expect("deleting what is gone");
    let top = Cgroup::open(&scratch.0).expect("the parent stays");
    top.delete().expect("delete");
    assert!(!scratch.left());
}

#[test]
fn a_limit_that_cannot_be_set_leaves_nothing_behind_and_says_field_value_and_cause() {
    let scratch = Scratch::new();
    let cpu = crate::spec::Cpu {
        cpus: Some("4000".into()),
        ..Default::default()
    };
    let resources = Resources {
        cpu: Some(cpu),
        ..Default::default()
    };
    let error =
        Cgroup::create(&format!("{}/a/b", scratch.0), Some(&resources)).expect_err("no such cpu");
    let said = error.to_string();
    assert!(
        said.starts_with("set linux.resources.cpu.cpus: write \"4000\" to /"),
        "{said}"
    );
    assert!(said.contains("cpuset.cpus: "), "{said}");
    assert!(!scratch.left());
}

#[test]
fn an_occupied_or_frozen_cgroup_is_refused_and_kept() {
    everywhere().into_iter().for_each(refuse_in);
}

fn refuse_in(hierarchies: &'static Hierarchies) {
    let scratch = Scratch::new();
    let cgroup = Cgroup::create_in(hierarchies, &scratch.0, None).expect("create");
    let process = Process::start(&cgroup, "read line");
    match Cgroup::create_in(hierarchies, &scratch.0, None) {
        Err(Error::Occupied { pids, .. }) => assert_eq!(pids, [process.pid()]),
        other => panic!("{other:?}"),
    }
    assert_eq!(process.end().0, 1);
    cgroup.freeze().expect("freeze");
    assert!(matches!(
        Cgroup::create_in(hierarchies, &scratch.0, None),
        Err(Error::Frozen { .. })
    ));
    cgroup.thaw().expect("thaw");
    Cgroup::create_in(hierarchies, &scratch.0, None).expect("an empty one is taken over");
}

#[test]
fn processes_are_found_in_sub_cgroups_and_by_their_own_joining() {
    let scratch = Scratch::new();
    let cgroup = Cgroup::create(&scratch.0, None).expect("create");
    // v2 wants processes in leaves only, if a controller is enabled.
    let leaf = |name: &str| Cgroup::create(&format!("{}/{name}", scratch.0), None);
    let (beside, below) = (
        leaf("beside").expect("create"),
        leaf("below").expect("create"),
    );
    let (inside, deeper) = (
        Process::start(&beside, "read line"),
        Process::start(&below, "read line"),
    );
    let mut pids = cgroup.processes().expect("processes");
    pids.sort_unstable();
    let mut want = [inside.pid(), deeper.pid()];
    want.sort_unstable();
    assert_eq!(pids, want);
    let told = std::fs::read_to_string(format!("/proc/{}/cgroup", deeper.pid())).expect("proc");
    for line in told.lines() {
        // The kernel shows paths as seen from our own cgroup root, so only the end is sure.
        assert!(line.ends_with(&format!("/{}/below", scratch.0)), "{line}");
    }
    beside.add(deeper.pid()).expect("add");
    assert_eq!(below.processes().expect("processes"), [] as [i32; 0]);
}

#[test]
fn kill_all_reaches_frozen_and_nested_and_forking_processes() {
    everywhere().into_iter().for_each(kill_in);
}

fn kill_in(hierarchies: &'static Hierarchies) {
    let scratch = Scratch::new();
    let cgroup = Cgroup::create_in(hierarchies, &scratch.0, None).expect("create");
    // v2 wants processes in leaves only, if a controller is enabled.
    let leaf = |name: &str| {
        let path = format!("{}/{name}", scratch.0);
        Cgroup::create_in(hierarchies, &path, None).expect("create")
    };
    let quiet = Process::start(&leaf("a"), "read line");
    let forking = Process::start(&leaf("b"), "while :; do (:); done");
    cgroup.freeze().expect("freeze");
    assert!(cgroup.is_frozen().expect("state"));
    cgroup.kill_all().expect("kill");
    assert_eq!(quiet.end().0, -libc::SIGKILL);
    assert_eq!(forking.end().0, -libc::SIGKILL);
    cgroup.delete().expect("delete, with what is below");
    assert!(!scratch.left());
    cgroup.kill_all().expect("killing in what is gone");
}

/// A container that may make cgroups makes them as deep as it likes.
#[test]
fn what_is_nested_very_deeply_is_killed_and_deleted() {
    everywhere().into_iter().for_each(deep_in);
}

fn deep_in(hierarchies: &'static Hierarchies) {
    let scratch = Scratch::new();
    let cgroup = Cgroup::create_in(hierarchies, &scratch.0, None).expect("create");
    let path = format!("{}{}", scratch.0, "/d".repeat(300));
    let bottom = Cgroup::create_in(hierarchies, &path, None).expect("create");
    let process = Process::start(&bottom, "read line");
    assert_eq!(cgroup.processes().expect("processes").len(), 1);
    cgroup.kill_all().expect("kill");
    assert_eq!(process.end().0, -libc::SIGKILL);
    cgroup.delete().expect("delete");
    assert!(!scratch.left());
}

#[test]
fn a_signal_goes_to_all_and_waits_for_the_thaw() {
    everywhere().into_iter().for_each(signal_in);
}

fn signal_in(hierarchies: &'static Hierarchies) {
    let scratch = Scratch::new();
    let cgroup = Cgroup::create_in(hierarchies, &scratch.0, None).expect("create");
    let script = "trap 'echo got; exit 3' USR1; echo ready; while :; do sleep 0.01; done";
    let mut processes = [
        Process::start(&cgroup, script),
        Process::start(&cgroup, script),
    ];
    for process in &mut processes {
        let mut line = [0; 6];
        std::io::Read::read_exact(process.0.stdout.as_mut().expect("stdout"), &mut line)
            .expect("ready");
    }
    cgroup.freeze().expect("freeze");
    cgroup.signal_all(libc::SIGUSR1).expect("signal");
    assert!(cgroup.is_frozen().expect("still frozen"));
    assert!(
        processes
            .iter_mut()
            .all(|process| process.0.try_wait().expect("wait").is_none())
    );
    cgroup.thaw().expect("thaw");
    for process in processes {
        assert_eq!(process.end(), (3, "got".to_owned()));
    }
}

#[test]
fn deleting_an_occupied_cgroup_names_who_is_in_it() {
    everywhere().into_iter().for_each(delete_occupied_in);
}

fn delete_occupied_in(hierarchies: &'static Hierarchies) {
    let scratch = Scratch::new();
    let cgroup = Cgroup::create_in(hierarchies, &scratch.0, None).expect("create");
    let process = Process::start(&cgroup, "read line");
    match cgroup.delete() {
        Err(Error::Busy { pids, .. }) => assert_eq!(pids, [process.pid()]),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_cgroup_can_be_cloned_into() {
    let scratch = Scratch::new();
    let cgroup = Cgroup::create(&scratch.0, None).expect("create");
    let has_v2 = Hierarchies::of_host().expect("cgroups").unified().is_some();
    assert_eq!(cgroup.v2_directory().expect("open").is_some(), has_v2);
}

#[test]
fn stats_count_what_processes_used() {
    if !on_v1(&[Controller::Cpuacct, Controller::Memory, Controller::Pids]) {
        return;
    }
    let scratch = Scratch::new();
    let memory = crate::spec::Memory {
        limit: Some(64 << 20),
        ..Default::default()
    };
    let pids = Some(crate::spec::Pids { limit: Some(9) });
    let cgroup = scratch.create(&Resources {
        memory: Some(memory),
        pids,
        ..Default::default()
    });
    let process = Process::start(
        &cgroup,
        "i=0; while [ $i -lt 20000 ]; do i=$((i+1)); done; echo; read line",
    );
    let mut line = [0; 1];
    let mut process = process;
    std::io::Read::read_exact(process.0.stdout.as_mut().expect("stdout"), &mut line).expect("busy");
    let stats = cgroup.stats().expect("stats");
    let (cpu, memory) = (stats.cpu.expect("cpu"), stats.memory.expect("memory"));
    assert!(cpu.usage > 0, "{cpu:?}");
    assert!(
        memory.usage > 0 && memory.working_set <= memory.usage,
        "{memory:?}"
    );
    assert_eq!((memory.limit, memory.oom_kills), (Some(64 << 20), 0));
    assert_eq!(
        stats.pids,
        Some(PidsStats {
            current: 1,
            limit: Some(9)
        })
    );
    let none = Cgroup::create(&format!("{}/none", scratch.0), None)
        .expect("create")
        .stats()
        .expect("stats");
    assert_eq!(none.memory.expect("memory").limit, None);
    assert_eq!(none.pids.expect("pids").limit, None);
}

#[test]
fn a_meter_reads_the_same_with_files_that_it_keeps_and_sees_that_its_cgroup_is_gone() {
    if !on_v1(&[Controller::Cpuacct, Controller::Memory, Controller::Pids]) {
        return;
    }
    let scratch = Scratch::new();
    let memory = crate::spec::Memory {
        limit: Some(64 << 20),
        ..Default::default()
    };
    let cgroup = scratch.create(&Resources {
        memory: Some(memory),
        ..Default::default()
    });
    let process = Process::start(&cgroup, "read line");
    let path = cgroup.path().to_owned();
    for of in [Of::Container, Of::Pod] {
        let mut meter = Meter::new(&path, of).expect("meter");
        let once = meter.read().expect("read");
        assert_eq!(meter.open_files(), 0);
        meter.keep(true);
        meter.read().expect("read");
        let kept = meter.open_files();
        assert!(kept > 2, "{kept}");
        let again = meter.read().expect("read");
        assert_eq!(meter.open_files(), kept);
        let limit = |basics: &Basics| basics.memory.expect("memory").limit;
        assert_eq!(
            (limit(&once), limit(&again)),
            (Some(64 << 20), limit(&once))
        );
        assert_eq!(once.tasks, again.tasks);
        assert_eq!(once.tasks, (of == Of::Pod).then_some(1));
        assert_eq!(once.pressure.is_some(), again.pressure.is_some());
    }
    let mut meter = Meter::new(&path, Of::Container).expect("meter");
    meter.keep(true);
    meter.read().expect("read");
    drop(process);
    cgroup.delete().expect("delete");
    assert!(meter.read().expect_err("it is gone").is_not_found());
    assert_eq!(meter.open_files(), 0);
    Cgroup::create(&path, None).expect("another of that name");
    assert_eq!(
        meter.read().expect("read").memory.expect("memory").limit,
        None
    );
}
