//! Pods of a RuntimeClass whose containers an OCI program makes: runc and crun, where they are installed.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::path::{Path, PathBuf};

use crate::common::{World, log, world_with};

/// A program as a runtime handler of that name, with a place of its own for its state.
fn with_program(name: &str, test: impl AsyncFnOnce(&mut World, &str)) {
    let dirs = ["/usr/bin", "/usr/sbin", "/usr/local/bin", "/usr/local/sbin"];
    let mut files = dirs.iter().map(|dir| Path::new(dir).join(name));
    let Some(mut path) = files.find(|file| file.exists()) else {
        eprintln!("SKIP: needs {name} (Debian: {name})");
        return;
    };
    // crun takes a host with both kinds of cgroups only if v2 has no controllers.
    if name == "crun" && Path::new("/sys/fs/cgroup/unified/cgroup.controllers").exists() {
        let own = Path::new(env!("CARGO_MANIFEST_DIR"));
        path = own.join("../engine/tests/handlers/crun-without-v2");
        path = path.canonicalize().unwrap();
    }
    let state = format!("floe-{name}-{}", std::process::id());
    let state: PathBuf = std::env::temp_dir().join(state);
    let config = format!(
        "[crio.runtime.runtimes.{name}]\nruntime_path = {path:?}\nruntime_type = \"oci\"\nruntime_root = {state:?}\n"
    );
    world_with(config, async |world| test(world, name).await);
    if let Ok(left) = std::fs::read_dir(&state) {
        assert_eq!(left.count(), 0, "what {name} knows");
        std::fs::remove_dir(&state).unwrap();
    }
}

async fn a_pod_lives_with_the_engine_killed_in_between(world: &mut World, handler: &str) {
    let status = world.runtime().status(cri::StatusRequest::default()).await;
    let handlers = status.unwrap().into_inner().runtime_handlers;
    assert!(
        handlers.iter().any(|one| one.name == handler),
        "{handlers:?}"
    );
    let pod = world
        .try_pod_by(handler, &world.pod_config("a"))
        .await
        .unwrap();
    let told = world.pod_status(&pod).await.unwrap();
    assert_eq!(told.runtime_handler, handler);
    let script = "trap 'echo bye; exit 7' TERM; echo $$ $(hostname); while :; do sleep 0.05; done";
    let id = world
        .run(&pod, world.container("c", &["sh", "-c", script]))
        .await;
    let ends = world
        .run(&pod, world.script("ends", "sleep 0.3; exit 5"))
        .await;
    let pid = world.info(&id).await["pid"].clone();
    world.node.kill().unwrap();
    world.serve_again().await;
    assert_eq!(world.info(&id).await["pid"], pid);
    assert_eq!(world.ended(&ends).await.exit_code, 5);
    let said = world
        .exec(&id, &["sh", "-c", "cat; echo $HOME; exit 3"], 10)
        .await
        .unwrap();
    assert_eq!((said.exit_code, &*said.stdout), (3, &b"/root\n"[..]));
    let missing = world.exec(&id, &["/no/such/program"], 10).await;
    assert!(missing.is_err() || missing.unwrap().exit_code != 0);
    let request = cri::ContainerStatsRequest {
        container_id: id.clone(),
    };
    let stats = world.runtime().container_stats(request).await.unwrap();
    let stats = stats.into_inner().stats.unwrap();
    let memory = stats.memory.unwrap().working_set_bytes.unwrap();
    assert!(memory.value > 0);
    crate::pod_stats::are_told(world, &pod, &id).await;
    crate::metrics::are_told(world, &id).await;
    world.stop(&id, 30).await.unwrap();
    let ended = world.ended(&id).await;
    assert_eq!(ended.exit_code, 7);
    let written = log::read(&ended.log_path).of("stdout");
    assert!(
        written.starts_with("1 ") && written.ends_with("bye\n"),
        "{written}"
    );
    world.remove(&id).await.unwrap();
    world.stop_pod(&pod).await.unwrap();
    world.remove_pod(&pod).await.unwrap();
}

async fn a_dead_supervisor_leaves_nothing_of_its_containers(world: &mut World, handler: &str) {
    let pod = world
        .try_pod_by(handler, &world.pod_config("a"))
        .await
        .unwrap();
    let id = world.run(&pod, world.config("c", &["sleep", "1000"])).await;
    let pid = world.info(&id).await["pid"].as_i64().unwrap();
    let record = world
        .node
        .path("run/pods")
        .join(&pod)
        .join("supervisor.json");
    let record: serde_json::Value =
        serde_json::from_slice(&std::fs::read(record).unwrap()).unwrap();
    let supervisor = i32::try_from(record["pid"].as_i64().unwrap()).unwrap();
    let supervisor = rustix::process::Pid::from_raw(supervisor).unwrap();
    rustix::process::kill_process(supervisor, rustix::process::Signal::KILL).unwrap();
    world.remove_pod(&pod).await.unwrap();
    assert!(!Path::new(&format!("/proc/{pid}/root")).exists());
}

#[test]
fn a_pod_of_runc_lives_with_the_engine_killed_in_between() {
    with_program("runc", a_pod_lives_with_the_engine_killed_in_between);
}

#[test]
fn a_pod_of_crun_lives_with_the_engine_killed_in_between() {
    with_program("crun", a_pod_lives_with_the_engine_killed_in_between);
}

#[test]
fn a_dead_supervisor_of_runc_leaves_nothing_of_its_containers() {
    with_program("runc", a_dead_supervisor_leaves_nothing_of_its_containers);
}

#[test]
fn a_dead_supervisor_of_crun_leaves_nothing_of_its_containers() {
    with_program("crun", a_dead_supervisor_leaves_nothing_of_its_containers);
}

#[test]
fn a_handler_whose_program_is_missing_is_refused_by_its_key() {
    let config = "[crio.runtime.runtimes.gone]\nruntime_path = \"/no/such/runtime\"\n";
    world_with(config.to_owned(), async |world| {
        let refused = world.try_pod_by("gone", &world.pod_config("a")).await;
        let refused = refused.unwrap_err();
        let words = refused.message();
        assert!(words.contains("runtimes.gone.runtime_path"), "{words}");
        assert!(words.contains("/no/such/runtime"), "{words}");
        // Others go on.
        world.pod("b").await;
    });
}
