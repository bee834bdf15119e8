//! What a cached list must never get wrong: it says what the files say, whoever changed them and however,
//! and reads nothing that has not changed. The supervisors are sleeping processes, the records are real.

use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use serde_json::json;

use crate::config::Config;
use crate::container::record::ContainerRecord;
use crate::container::{ContainerFilter, ContainerSpec, ContainerState, ResolvedUser};
use crate::disk;
use crate::engine::Engine;
use crate::events::{Happening, Notice, Subscription};
use crate::pod::record::{PodRecord, Stage};
use crate::pod::{PodFilter, PodSpec, PodState};

/// An engine that watches, another on the same roots that does not, and what changes the records.
struct World {
    watching: Engine,
    reading: Engine,
    supervisor: Child,
    _dir: tempfile::TempDir,
}

impl World {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let open = || {
            let mut config = Config::default();
            config.root_table.root = dir.path().join("root");
            config.root_table.runroot = dir.path().join("run");
            config.runtime.cgroup_parent = format!("/floe-view-{}", std::process::id());
            Engine::open(config).unwrap()
        };
        let world = Self {
            watching: open(),
            reading: open(),
            supervisor: Command::new("sleep")
                .arg("1000")
                .stdout(Stdio::null())
                .spawn()
                .unwrap(),
            _dir: dir,
        };
        world.watching.watch().unwrap();
        world
    }

    /// As RunPodSandbox does: in a directory of another name, renamed.
    fn pod(&self) -> String {
        let id = disk::new_id().unwrap();
        let staging = self.reading.layout().pods().join("hash.new");
        disk::make_dir(&staging.join("containers")).unwrap();
        self.pod_record(&id, Stage::Made { ips: Vec::new() })
            .write(&staging)
            .unwrap();
        std::fs::rename(&staging, self.dir(&id)).unwrap();
        let pid = i32::try_from(self.supervisor.id()).unwrap();
        let start = base::process::start(pid).unwrap();
        let info = json!({"pid": pid, "start_time": start, "version": "0.1.0", "pod_init": null});
        disk::write_json(&self.dir(&id).join("supervisor.json"), &info).unwrap();
        id
    }

    fn pod_record(&self, id: &str, stage: Stage) -> PodRecord {
        PodRecord {
            id: id.to_owned(),
            created_at: 7,
            stage,
            handler: String::new(),
            cgroup: self.reading.node().cgroups().own_pod(id),
            owns_cgroup: true,
            cgroup_prefix: "crio".into(),
            maker: None,
            spec: PodSpec::default(),
            steps: Vec::new(),
            kept: Default::default(),
        }
    }

    fn dir(&self, pod: &str) -> PathBuf {
        self.reading.layout().pod(pod)
    }

    fn bundle(&self, pod: &str, id: &str) -> PathBuf {
        self.reading.layout().container(pod, id)
    }

    fn container(&self, pod: &str) -> String {
        let id = disk::new_id().unwrap();
        let bundle = self.bundle(pod, &id);
        disk::make_dir(&bundle).unwrap();
        self.state(pod, &id, &json!("created"));
        let record = ContainerRecord {
            id: id.clone(),
            pod_id: pod.to_owned(),
            created_at: 8,
            image_id: String::new(),
            image_ref: String::new(),
            log_path: None,
            user: ResolvedUser::default(),
            stop_signal: libc::SIGTERM,
            cgroup: format!("{}/crio-{id}", self.reading.node().cgroups().own_pod(pod)),
            handler: String::new(),
            args: Vec::new(),
            spec: ContainerSpec::default(),
            kept: Default::default(),
        };
        record.write(&bundle).unwrap();
        id
    }

    /// As a supervisor writes it.
    fn state(&self, pod: &str, id: &str, status: &serde_json::Value) {
        let state = json!({
            "version": 1, "id": id, "status": status, "pid": 1, "created_at_ns": 8, "cgroup": "x",
        });
        disk::write_json(&self.bundle(pod, id).join("state.json"), &state).unwrap();
    }

    /// Both engines say the same, and this.
    fn states(&self) -> (Vec<PodState>, Vec<ContainerState>) {
        let say = |engine: &Engine| {
            let pods = engine.pods(&PodFilter::default()).unwrap();
            let containers = engine.containers(&ContainerFilter::default()).unwrap();
            let seen: Vec<String> = pods
                .iter()
                .map(|pod| format!("{pod:?}"))
                .chain(containers.iter().map(|one| format!("{one:?}")))
                .collect();
            let states = pods.iter().map(|pod| pod.state).collect();
            let of_containers = containers.iter().map(|one| one.state.clone()).collect();
            let mut seen = seen;
            seen.sort();
            (seen, states, of_containers)
        };
        let (cached, pods, containers) = say(&self.watching);
        assert_eq!(cached, say(&self.reading).0);
        (pods, containers)
    }
}

impl Drop for World {
    fn drop(&mut self) {
        let _ = self.supervisor.kill();
        let _ = self.supervisor.wait();
    }
}

fn running() -> serde_json::Value {
    json!({"running": {"started_at": 9}})
}

fn exited() -> serde_json::Value {
    json!({"exited": {
        "started_at": 9, "finished_at": 10, "exit_code": 3, "oom_killed": false, "message": null,
    }})
}

#[test]
fn a_list_after_each_change_says_what_the_files_say() {
    let mut world = World::new();
    assert_eq!(world.states(), (vec![], vec![]));
    let pod = world.pod();
    assert_eq!(world.states().0, [PodState::Ready]);
    let id = world.container(&pod);
    assert_eq!(world.states().1, [ContainerState::Created]);
    world.state(&pod, &id, &running());
    assert_eq!(
        world.states().1,
        [ContainerState::Running { started_at: 9 }]
    );
    assert_eq!(world.watching.container(&id[..12]).unwrap().pod_id, pod);
    world.state(&pod, &id, &exited());
    assert!(matches!(
        world.states().1[..],
        [ContainerState::Exited { exit_code: 3, .. }]
    ));
    // Half made, and being removed.
    disk::make_dir(&world.bundle(&pod, &disk::new_id().unwrap())).unwrap();
    assert_eq!(world.states().1.len(), 1);
    let other = world.container(&pod);
    assert_eq!(world.states().1.len(), 2);
    disk::remove_object(&world.bundle(&pod, &other), crate::handler::release).unwrap();
    assert_eq!(world.states().1.len(), 1);
    world
        .pod_record(&pod, Stage::Stopped)
        .write(&world.dir(&pod))
        .unwrap();
    assert_eq!(world.states().0, [PodState::NotReady]);
    disk::remove_object(&world.dir(&pod), crate::handler::release).unwrap();
    assert_eq!(world.states(), (vec![], vec![]));
    assert!(world.watching.container(&id).is_err());
    // The whole directory goes and comes.
    let again = world.pod();
    world.states();
    let pods = world.reading.layout().pods();
    std::fs::rename(&pods, pods.with_extension("old")).unwrap();
    disk::make_dir(&pods).unwrap();
    assert_eq!(world.states(), (vec![], vec![]));
    std::fs::remove_dir(&pods).unwrap();
    std::fs::rename(pods.with_extension("old"), &pods).unwrap();
    assert_eq!(world.states().0, [PodState::Ready]);
    world.supervisor.kill().unwrap();
    world.supervisor.wait().unwrap();
    assert_eq!(world.states().0, [PodState::NotReady], "{again}");
}

#[test]
fn a_supervisor_that_is_killed_is_known_without_any_file_that_changes() {
    let mut world = World::new();
    let pod = world.pod();
    let id = world.container(&pod);
    world.state(&pod, &id, &running());
    assert_eq!(world.states().0, [PodState::Ready]);
    world.supervisor.kill().unwrap();
    world.supervisor.wait().unwrap();
    let (pods, containers) = world.states();
    assert_eq!(pods, [PodState::NotReady]);
    // Nobody is in its cgroup.
    assert!(matches!(
        containers[..],
        [ContainerState::Exited { exit_code: 137, .. }]
    ));
}

#[test]
fn damage_is_seen_at_once_and_so_is_its_repair() {
    let world = World::new();
    let (pod, id) = {
        let pod = world.pod();
        let id = world.container(&pod);
        (pod, id)
    };
    assert_eq!(world.states().0, [PodState::Ready]);
    for file in ["state.json", "container.json"] {
        let path = world.bundle(&pod, &id).join(file);
        let good = std::fs::read(&path).unwrap();
        // In its place, as no record is written.
        std::fs::write(&path, "{").unwrap();
        assert_eq!(world.states().0, [PodState::NotReady], "{file}");
        std::fs::write(&path, &good).unwrap();
        assert_eq!(world.states().0, [PodState::Ready], "{file}");
        std::fs::remove_file(&path).unwrap();
        std::fs::create_dir(&path).unwrap();
        assert_eq!(world.states().0, [PodState::NotReady], "{file}");
        std::fs::remove_dir(&path).unwrap();
        disk::write_file(&path, &good, 0o600).unwrap();
        assert_eq!(world.states().0, [PodState::Ready], "{file}");
    }
    let path = world.dir(&pod).join("pod.json");
    std::fs::write(&path, "[]").unwrap();
    assert_eq!(world.states().0, [PodState::NotReady]);
    assert!(world.watching.pod(&pod).unwrap().damaged);
    std::fs::remove_file(&path).unwrap();
    std::os::unix::fs::symlink("/dev/zero", &path).unwrap();
    assert_eq!(world.states().0, [PodState::NotReady]);
}

#[test]
fn changes_too_many_for_the_kernel_to_remember_are_all_read() {
    let world = World::new();
    let pod = world.pod();
    let id = world.container(&pod);
    assert_eq!(world.states().1, [ContainerState::Created]);
    let limit = std::fs::read_to_string("/proc/sys/fs/inotify/max_queued_events").unwrap();
    let limit: usize = limit.trim().parse().unwrap();
    // Two at a time, so that none is like the last one; then one that the queue has no room for.
    for _ in 0..=limit / 2 {
        for name in ["a", "b"] {
            drop(std::fs::File::create(world.dir(&pod).join(name)).unwrap());
        }
    }
    world.state(&pod, &id, &running());
    let other = world.pod();
    let (pods, containers) = world.states();
    assert_eq!(pods.len(), 2, "{other}");
    assert_eq!(containers, [ContainerState::Running { started_at: 9 }]);
}

/// Bytes that this thread has read by system calls.
fn bytes_read() -> u64 {
    let io = std::fs::read_to_string("/proc/thread-self/io").unwrap();
    let line = io.lines().find_map(|line| line.strip_prefix("rchar: "));
    line.unwrap().parse().unwrap()
}

#[test]
fn a_list_reads_no_file_that_has_not_changed() {
    let world = World::new();
    let mut last = (String::new(), String::new());
    for _ in 0..50 {
        let pod = world.pod();
        let id = world.container(&pod);
        last = (pod, id);
    }
    let list = || {
        let before = bytes_read();
        let after_nothing = bytes_read() - before;
        let before = bytes_read();
        let pods = world.watching.pods(&PodFilter::default()).unwrap();
        let containers = world
            .watching
            .containers(&ContainerFilter::default())
            .unwrap();
        assert_eq!((pods.len(), containers.len()), (50, 50));
        bytes_read() - before - after_nothing
    };
    assert!(list() > 50 * 100, "the first reads all");
    assert_eq!(list(), 0);
    world.state(&last.0, &last.1, &running());
    let one = list();
    assert!((100..10_000).contains(&one), "{one} bytes for one change");
    assert_eq!(list(), 0);
}

async fn told(subscription: &mut Subscription, count: usize) -> Vec<(Happening, bool)> {
    let mut all = Vec::new();
    while all.len() < count {
        match subscription.next().await.unwrap() {
            Notice::Event(event) => all.push((event.what, event.container_id.is_some())),
            other => panic!("{other:?}"),
        }
    }
    all
}

fn block_on<T>(future: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        let limit = std::time::Duration::from_secs(60);
        tokio::time::timeout(limit, future)
            .await
            .expect("no event came")
    })
}

#[test]
fn a_subscriber_learns_the_present_and_then_each_step_whoever_took_it() {
    use Happening::{Created, Deleted, Started, Stopped};
    let world = World::new();
    let first = world.pod();
    block_on(async {
        let mut subscription = world.watching.subscribe().unwrap();
        match subscription.next().await.unwrap() {
            Notice::Present(views) => {
                assert_eq!(views.len(), 1);
                assert_eq!(views[0].pod.as_ref().unwrap().id, first);
            }
            other => panic!("{other:?}"),
        }
        // Nobody lists: the hub hears of it by itself.
        let id = world.container(&first);
        assert_eq!(told(&mut subscription, 1).await, [(Created, true)]);
        world.state(&first, &id, &running());
        world.state(&first, &id, &exited());
        assert_eq!(
            told(&mut subscription, 2).await,
            [(Started, true), (Stopped, true)]
        );
        let second = world.pod();
        let made = told(&mut subscription, 2).await;
        assert!(
            made.contains(&(Created, false)) && made.contains(&(Started, false)) || {
                // Its record came first, and its supervisor a moment later.
                made == [(Created, false), (Stopped, false)]
                    && told(&mut subscription, 1).await == [(Started, false)]
            }
        );
        disk::remove_object(&world.dir(&first), crate::handler::release).unwrap();
        assert_eq!(
            told(&mut subscription, 2).await,
            [(Deleted, true), (Stopped, false)]
        );
        match subscription.next().await.unwrap() {
            Notice::Event(event) => {
                assert_eq!(event.what, Deleted);
                assert!(event.views.pod.is_none());
                assert_eq!(event.pod.as_ref().unwrap().id, first);
            }
            other => panic!("{other:?}"),
        }
        let mut late = world.watching.subscribe().unwrap();
        match late.next().await.unwrap() {
            Notice::Present(views) => assert_eq!(views[0].pod.as_ref().unwrap().id, second),
            other => panic!("{other:?}"),
        }
    });
}

#[test]
fn a_slow_subscriber_holds_up_nobody_and_learns_what_it_missed_and_the_present() {
    let world = World::new();
    let pod = world.pod();
    let id = world.container(&pod);
    block_on(async {
        let mut slow = world.watching.subscribe().unwrap();
        let mut quick = world.watching.subscribe().unwrap();
        for subscription in [&mut slow, &mut quick] {
            let first = subscription.next().await.unwrap();
            assert!(matches!(first, Notice::Present(_)));
        }
        let doomed = world.pod();
        for _ in 0..600 {
            world.container(&doomed);
        }
        let mut all = Vec::new();
        while all
            .iter()
            .filter(|one| **one == (Happening::Created, true))
            .count()
            < 600
        {
            all.extend(told(&mut quick, 1).await);
        }
        disk::remove_object(&world.dir(&doomed), crate::handler::release).unwrap();
        while all.last() != Some(&(Happening::Deleted, false)) {
            all.extend(told(&mut quick, 1).await);
        }
        let missed = match slow.next().await.unwrap() {
            Notice::Gap { missed } => missed,
            other => panic!("{other:?}"),
        };
        assert_eq!(missed, all.len() as u64 - 1024);
        match slow.next().await.unwrap() {
            Notice::Present(views) => assert_eq!(views[0].containers[0].id, id),
            other => panic!("{other:?}"),
        }
        world.state(&pod, &id, &running());
        assert_eq!(told(&mut slow, 1).await, [(Happening::Started, true)]);
    });
}
