//! What the inspect endpoints answer, in CRI-O's words (its pkg/types).

use std::fmt::Write;

use base::time::rfc3339_nanos;
use engine::image::Asker;
use engine::pod::{NamespaceMode, PodState};
use engine::{Container, Engine, Pod};
use hyper::StatusCode;
use serde_json::json;

use super::{Answer, refused};
use crate::convert::timeline::timeline;
use crate::node;
use crate::work::Work;

const JSON: &str = "application/json";

/// Threads of this process that are told at most.
const THREADS: usize = 2000;

/// `/config`: the configuration in force.
pub(super) fn config(engine: &Engine) -> Answer {
    let written = engine.config().to_toml();
    let written = written.map_err(|why| (StatusCode::INTERNAL_SERVER_ERROR, why))?;
    Ok(("application/toml", written))
}

/// `/info`
pub(super) fn info(engine: &Engine) -> (&'static str, String) {
    let all = json!([{ "container_id": 0, "host_id": 0, "size": u32::MAX }]);
    let info = json!({
        "storage_driver": "overlay",
        "storage_image": "",
        "storage_root": engine.config().root_table.root,
        "cgroup_driver": engine.node().cgroups().manager().name(),
        "default_id_mappings": { "uids": all, "gids": all },
        "runtime": "floe",
        "version": env!("CARGO_PKG_VERSION"),
    });
    (JSON, info.to_string())
}

/// `/containers/ID`
pub(super) async fn container(work: &Work, id: &str) -> Answer {
    let id = id.to_owned();
    let found = work.read("inspect", move |engine| {
        let container = engine.container(&id)?;
        let pod = engine.pod(&container.pod_id)?;
        Ok(described(engine, &container, &pod))
    });
    let described = found.await.map_err(|status| refused(&status))?;
    Ok((JSON, described.to_string()))
}

fn described(engine: &Engine, container: &Container, pod: &Pod) -> serde_json::Value {
    // The file system itself is mounted inside alone: this is where its changes are.
    let root = node::writable_layers(engine).join(&container.id);
    json!({
        "name": container.spec.name,
        "pid": container.pid.unwrap_or_default(),
        "image": container.spec.named_image(),
        "image_ref": container.image_ref,
        "created_time": container.created_at,
        "labels": container.spec.labels,
        "annotations": container.spec.annotations,
        "crio_annotations": {},
        "log_path": container.log_path.clone().unwrap_or_default(),
        "root": root,
        "sandbox": container.pod_id,
        "ip_addresses": pod.ips,
        "host_network": pod.spec.namespaces.network == NamespaceMode::Node,
    })
}

/// `/pods/ID`: not among CRI-O's.
pub(super) async fn pod(work: &Work, id: &str) -> Answer {
    let id = id.to_owned();
    let found = work.read("inspect", move |engine| {
        let (pod, containers, _) = engine.pod_views(&id)?;
        let pulls = engine.pulls_of(&pod.spec);
        let ids: Vec<&str> = containers.iter().map(|one| one.id.as_str()).collect();
        Ok(json!({
            "id": pod.id,
            "name": pod.spec.name,
            "namespace": pod.spec.namespace,
            "uid": pod.spec.uid,
            "ready": pod.state == PodState::Ready,
            "pid": pod.supervisor_pid.unwrap_or_default(),
            "ip_addresses": pod.ips,
            "containers": ids,
            "timeline": timeline(&pod, &containers, &pulls),
        }))
    });
    let described = found.await.map_err(|status| refused(&status))?;
    Ok((JSON, described.to_string()))
}

/// `/pulls`: how running pulls stand. Not among CRI-O's.
pub(super) fn pulls(engine: &Engine) -> (&'static str, String) {
    let of = |asker: &Asker| json!({ "namespace": asker.namespace, "name": asker.name, "uid": asker.uid });
    let running = engine.pulls();
    let shown = running.iter().map(|pull| {
        json!({
            "image": pull.image,
            "since": String::from_utf8_lossy(&rfc3339_nanos(pull.since)),
            "seconds": pull.lasts.as_secs_f64(),
            "bytes": pull.bytes,
            "total_bytes": pull.total,
            "layers_done": pull.layers_done,
            "layers": pull.layers,
            "pods": pull.askers.iter().map(of).collect::<Vec<_>>(),
        })
    });
    (JSON, serde_json::Value::Array(shown.collect()).to_string())
}

/// `/pause/ID`
pub(super) async fn pause(work: &Work, id: &str) -> Answer {
    let paused = work.change_container("Pause", id.to_owned(), |engine, id| {
        engine.pause_container(id)
    });
    done(paused.await)
}

/// `/unpause/ID`
pub(super) async fn resume(work: &Work, id: &str) -> Answer {
    let resumed = work.change_container("Unpause", id.to_owned(), |engine, id| {
        engine.resume_container(id)
    });
    done(resumed.await)
}

fn done(outcome: Result<(), tonic::Status>) -> Answer {
    outcome.map_err(|status| refused(&status))?;
    Ok(("text/html", "200 OK".to_owned()))
}

/// `/debug/threads`: the threads of this process and what each waits for in the kernel.
pub(super) fn threads() -> (&'static str, String) {
    let mut text = String::new();
    let tasks = std::fs::read_dir("/proc/self/task").into_iter().flatten();
    for task in tasks.flatten().take(THREADS) {
        let read = |name: &str| {
            let read = std::fs::read_to_string(task.path().join(name));
            read.unwrap_or_default().trim().to_owned()
        };
        // The state is what follows the name, which may hold anything.
        let stat = read("stat");
        let state = stat.rsplit_once(')').map_or("", |(_, rest)| rest.trim());
        let state = state.split(' ').next().unwrap_or_default();
        let wait = match read("wchan") {
            none if none.is_empty() || none == "0" => "-".to_owned(),
            wait => wait,
        };
        let (name, number) = (read("comm"), task.file_name());
        // Writing to a string does not fail.
        let _ = writeln!(text, "{} {name} {state} {wait}", number.display());
    }
    ("text/plain; charset=utf-8", text)
}
