//! A restored process keeps what confined it when it was written down. So a restore is refused where the new
//! request confines otherwise, with the name of what differs: a laxer checkpoint never gets past a stricter pod.
//! What the kernel says of the processes is looked at besides, before they go on (the supervisor's `confined.rs`).

use runtime::spec::Spec;
use serde_json::{Value, json};

/// Parts of a config.json that must be the same, as JSON pointers, with the request's name for them.
const SAME: [(&str, &str); 13] = [
    ("/process/user", "security_context.run_as_user and groups"),
    ("/process/capabilities", "security_context.capabilities"),
    ("/process/noNewPrivileges", "security_context.no_new_privs"),
    ("/process/apparmorProfile", "security_context.apparmor"),
    ("/process/selinuxLabel", "security_context.selinux_options"),
    ("/linux/seccomp", "security_context.seccomp"),
    ("/linux/maskedPaths", "security_context.masked_paths"),
    ("/linux/readonlyPaths", "security_context.readonly_paths"),
    ("/linux/devices", "devices"),
    ("/linux/mountLabel", "security_context.selinux_options"),
    ("/linux/rootfsPropagation", "mounts.propagation"),
    ("/root/readonly", "security_context.readonly_rootfs"),
    ("/process/terminal", "tty"),
];

/// What of the request confines otherwise than the container was confined, or mounts elsewhere.
pub(super) fn difference(was: &Spec, now: &Spec) -> Option<&'static str> {
    let (was, now) = (json!(was), json!(now));
    let differs = |(at, name): &(&str, &'static str)| {
        let value = |of: &Value| of.pointer(at).cloned().filter(|value| !is_nothing(value));
        (value(&was) != value(&now)).then_some(*name)
    };
    if let Some(name) = SAME.iter().find_map(differs) {
        return Some(name);
    }
    if mounts(&was) != mounts(&now) {
        return Some("mounts");
    }
    (namespaces(&was) != namespaces(&now)).then_some("security_context.namespace_options")
}

/// Absent, as its writer may leave it out.
fn is_nothing(value: &Value) -> bool {
    match value {
        Value::Null | Value::Bool(false) => true,
        Value::Array(all) => all.is_empty(),
        Value::String(text) => text.is_empty(),
        Value::Object(all) => all.is_empty(),
        _ => false,
    }
}

/// Places and options; sources are the request's alone.
fn mounts(spec: &Value) -> Vec<Value> {
    let all = spec.pointer("/mounts").and_then(Value::as_array);
    let place = |mount: &Value| {
        let part = |name: &str| mount.get(name).cloned().unwrap_or_default();
        json!([part("destination"), part("type"), part("options")])
    };
    all.into_iter().flatten().map(place).collect()
}

/// Kinds, and whether each is the container's own.
fn namespaces(spec: &Value) -> Vec<Value> {
    let all = spec.pointer("/linux/namespaces").and_then(Value::as_array);
    let kind = |one: &Value| json!([one.get("type"), one.get("path").is_some()]);
    let mut kinds: Vec<Value> = all.into_iter().flatten().map(kind).collect();
    kinds.sort_by_key(ToString::to_string);
    kinds
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec(change: impl FnOnce(&mut Value)) -> Spec {
        let mut spec = json!({
            "ociVersion": "1.0.2",
            "root": {"path": "rootfs"},
            "process": {
                "args": ["x"], "cwd": "/", "user": {"uid": 5, "gid": 6},
                "capabilities": {"bounding": ["CAP_CHOWN"]}, "noNewPrivileges": true,
            },
            "mounts": [
                {"destination": "/proc", "type": "proc", "source": "proc"},
                {"destination": "/data", "type": "bind", "source": "/a", "options": ["bind", "ro"]},
            ],
            "linux": {
                "namespaces": [{"type": "pid"}, {"type": "network", "path": "/proc/1/ns/net"}],
                "seccomp": {"defaultAction": "SCMP_ACT_ERRNO"},
                "maskedPaths": ["/proc/kcore"], "readonlyPaths": ["/proc/sys"],
                "cgroupsPath": "/a",
            },
        });
        change(&mut spec);
        serde_json::from_value(spec).unwrap()
    }

    #[test]
    fn a_request_that_confines_otherwise_is_named() {
        let was = spec(|_| ());
        for (at, value, name) in [
            ("/process/user/uid", json!(0), "run_as_user"),
            (
                "/process/capabilities/bounding",
                json!(["CAP_KILL"]),
                "capabilities",
            ),
            ("/process/noNewPrivileges", json!(false), "no_new_privs"),
            ("/linux/seccomp", json!(null), "seccomp"),
            (
                "/linux/seccomp/defaultAction",
                json!("SCMP_ACT_ALLOW"),
                "seccomp",
            ),
            ("/linux/maskedPaths", json!([]), "masked_paths"),
            (
                "/linux/readonlyPaths/0",
                json!("/proc/bus"),
                "readonly_paths",
            ),
            ("/mounts/1/options", json!(["bind"]), "mounts"),
            ("/mounts/1/destination", json!("/other"), "mounts"),
            (
                "/linux/namespaces/0",
                json!({"type": "ipc"}),
                "namespace_options",
            ),
            (
                "/linux/namespaces/0",
                json!({"type": "pid", "path": "/x"}),
                "namespace_options",
            ),
        ] {
            let now = spec(|spec| *spec.pointer_mut(at).unwrap() = value);
            let told = difference(&was, &now).unwrap_or("nothing");
            assert!(told.contains(name), "{at}: {told}");
            assert_eq!(difference(&now, &was), Some(told));
        }
        let readonly = spec(|spec| spec["root"]["readonly"] = json!(true));
        assert_eq!(
            difference(&was, &readonly),
            Some("security_context.readonly_rootfs")
        );
    }

    #[test]
    fn names_places_and_sizes_are_the_requests() {
        let was = spec(|_| ());
        for (at, value) in [
            ("/mounts/1/source", json!("/b")),
            ("/linux/cgroupsPath", json!("/b")),
            ("/linux/namespaces/1/path", json!("/proc/2/ns/net")),
            ("/process/args", json!(["y"])),
            ("/process/cwd", json!("/tmp")),
        ] {
            let now = spec(|spec| *spec.pointer_mut(at).unwrap() = value);
            assert_eq!(difference(&was, &now), None, "{at}");
        }
    }
}
