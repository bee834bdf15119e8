//! Pods of a RuntimeClass whose containers an OCI program makes: runc and crun, where they are installed.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use crate::common::{World, log, pod_security, world_with};
use crate::user_namespaces::{range, users};

/// Where a program is on this machine.
fn find(name: &str) -> Option<PathBuf> {
    let dirs = ["/usr/bin", "/usr/sbin", "/usr/local/bin", "/usr/local/sbin"];
    let mut files = dirs.iter().map(|dir| Path::new(dir).join(name));
    let Some(mut path) = files.find(|file| file.exists()) else {
        eprintln!("SKIP: needs {name} (Debian: {name})");
        return None;
    };
    // crun takes a host with both kinds of cgroups only if v2 has no controllers.
    if name == "crun" && Path::new("/sys/fs/cgroup/unified/cgroup.controllers").exists() {
        let own = Path::new(env!("CARGO_MANIFEST_DIR"));
        path = own.join("../engine/tests/handlers/crun-without-v2");
        path = path.canonicalize().unwrap();
    }
    Some(path)
}

/// A program as a runtime handler of that name, with a place of its own for its state.
pub(crate) fn with_program(name: &str, test: impl AsyncFnOnce(&mut World, &str)) {
    let Some(path) = find(name) else { return };
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

/// crun that says what only later versions say, and can.
fn talkative(program: &Path) -> String {
    let says = r#"{"linux":{"namespaces":["user"],"mountExtensions":{"idmap":{"enabled":true}}}}"#;
    format!(
        "#!/bin/sh\nfor word in \"$@\"; do\n[ \"$word\" = features ] && echo '{says}' && exit\ndone\nexec {} \"$@\"\n",
        program.display()
    )
}

#[test]
fn a_pod_of_crun_has_a_user_namespace_and_volumes_with_its_ids() {
    let Some(crun) = find("crun") else { return };
    let dir = tempfile::tempdir().unwrap();
    let program = dir.path().join("later-crun");
    std::fs::write(&program, talkative(&crun)).unwrap();
    std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).unwrap();
    let state = dir.path().join("state");
    let config = format!(
        "[crio.runtime.runtimes.later]\nruntime_path = {program:?}\nruntime_type = \"oci\"\nruntime_root = {state:?}\n"
    );
    world_with(config, async |world| {
        // As /run is: what is below is floe's to open.
        let way = std::fs::Permissions::from_mode(0o711);
        std::fs::set_permissions(world.node.path(""), way).unwrap();
        let (range, users) = (range(2_500_000), users(2_500_000));
        let mut config = world.pod_config("a");
        let options = pod_security(&mut config)
            .namespace_options
            .get_or_insert_default();
        options.userns_options = users;
        let pod = world.try_pod_by("later", &config).await.unwrap();
        let volume = world.node.path("volume");
        std::fs::create_dir(&volume).unwrap();
        let script = "cut -c1-30 /proc/self/uid_map; echo x >/new && echo y >/data/new && stat -c %u / /data /new /data/new";
        let mut container = world.container("c", &["sh", "-c", script]);
        container.mounts = vec![cri::Mount {
            container_path: "/data".into(),
            host_path: volume.display().to_string(),
            uid_mappings: range.clone(),
            gid_mappings: range,
            ..Default::default()
        }];
        let (code, said) = world.ran(&pod, container).await;
        assert_eq!(code, 0, "{said}");
        assert!(
            said.contains("2500000") && said.ends_with("0\n0\n0\n0"),
            "{said}"
        );
        assert_eq!(std::fs::metadata(volume.join("new")).unwrap().uid(), 0);
        // Everybody may pass through, and sees nothing.
        let mode = |name: &str| std::fs::metadata(world.node.path(name)).unwrap().mode() & 0o007;
        assert_eq!(
            (mode("run"), mode("run/pods"), mode("run/names")),
            (1, 1, 0)
        );
        world.remove_pod(&pod).await.unwrap();
    });
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
