//! `--systemd-cgroup`: what a container's unit is called, where it is, and names that are taken or
//! none. Needs systemd, as `systemd.rs` says.

use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use crate::support::soon;
use crate::support::systemd::{Scope, directories, either, file, show, shows, systemctl};
use serde_json::json;

/// A scope of somebody else, with one process, ended with this.
struct Other(Child);

impl Other {
    fn new(unit: &str, options: &[&str]) -> Other {
        let child = Command::new("systemd-run")
            .args(["--quiet", "--scope", "--unit", unit])
            .args(options)
            .args(["sleep", "1000"])
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        Other(child)
    }
}

impl Drop for Other {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn a_sub_group_holds_the_processes_and_goes_with_the_scope() {
    needs_systemd!();
    let mut scope = Scope::new();
    scope.lab.config["annotations"] = json!({ "run.oci.systemd.subgroup": "container" });
    scope.limits(json!({ "pids": { "limit": 20 } }));
    scope.run();
    let below = format!("{}/container", scope.path);
    let pid = scope.lab.pid("c");
    let own = std::fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap();
    let ours: Vec<&str> = own.lines().filter(|line| !line.contains(&below)).collect();
    assert_eq!(ours, Vec::<&str>::new(), "{own}");
    shows(&scope.unit, &[("TasksMax", "20")]);
    for path in [&scope.path, &below] {
        assert_eq!(file(path, &["pids.max"]), "20", "{path}");
    }
    scope.lab.call(&["exec", "c", "true"]).ok();
    scope.lab.call(&["update", "--pids-limit", "25", "c"]).ok();
    for path in [&scope.path, &below] {
        soon("the update", || file(path, &["pids.max"]) == "25");
    }
    scope.lab.call(&["pause", "c"]).ok();
    scope.lab.call(&["resume", "c"]).ok();
    scope.delete();
    scope.lab.config["annotations"] = json!({ "run.oci.systemd.subgroup": "" });
    scope.run();
    assert_eq!(directories(&below), Vec::<PathBuf>::new());
    scope.delete();
    scope.lab.config["annotations"] = json!({ "run.oci.systemd.subgroup": "../.." });
    scope.call(&["run", "c"]).fails("contains \"..\"");
    scope.is_gone();
}

#[test]
fn a_slice_is_where_its_name_says() {
    needs_systemd!();
    let mut scope = Scope::new();
    let name = scope.lab.name().replace('-', "_");
    let slice = format!("{name}-b.slice");
    let path = format!("{name}.slice/{slice}");
    scope.at(&slice, &path, "c");
    scope.run();
    shows(
        &scope.unit,
        &[
            ("Slice", slice.as_str()),
            ("ControlGroup", &format!("/{}", scope.path)),
        ],
    );
    assert!(directories(&scope.path).len() >= either(1, 5));
    scope.delete();
    systemctl(&["stop", &format!("{name}.slice")]);
}

#[test]
fn a_container_may_be_a_slice_itself() {
    needs_systemd!();
    let mut scope = Scope::new();
    let name = scope.lab.name().replace('-', "_");
    let slice = format!("{name}-x.slice");
    scope.at(&format!("{name}.slice"), "", &slice);
    scope.unit = slice;
    scope.path = format!("{name}.slice/{}", scope.unit);
    scope.limits(json!({ "pids": { "limit": 20 } }));
    scope.run();
    shows(
        &scope.unit,
        &[
            ("TasksMax", "20"),
            ("ControlGroup", &format!("/{}", scope.path)),
        ],
    );
    let pid = scope.lab.pid("c");
    let own = std::fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap();
    for line in own.lines() {
        assert!(line.ends_with(&scope.path), "{own}");
    }
    assert_eq!(scope.file(&["pids.max"]), "20");
    scope.delete();
    systemctl(&["stop", &format!("{name}.slice")]);
}

#[test]
fn without_a_path_or_a_slice_the_unit_is_named_and_placed_as_runc_does() {
    needs_systemd!();
    let mut scope = Scope::new();
    let id = scope.lab.name().to_owned();
    scope.at("", "system.slice", &id);
    scope.run();
    shows(&scope.unit, &[("Slice", "system.slice")]);
    scope.delete();
    scope.lab.config["linux"]
        .as_object_mut()
        .unwrap()
        .remove("cgroupsPath");
    scope.unit = format!("runc-{id}.scope");
    scope.path = format!("system.slice/{}", scope.unit);
    scope.call(&["run", "-d", &id]).ok();
    shows(
        &scope.unit,
        &[("Slice", "system.slice"), ("ActiveState", "active")],
    );
    scope.lab.call(&["delete", "--force", &id]).ok();
    scope.is_gone();
}

#[test]
fn a_path_that_names_no_unit_is_refused() {
    needs_systemd!();
    let mut scope = Scope::new();
    for (path, words) in [
        (
            "/a/b",
            "expected cgroupsPath to be of format \"slice:prefix:name\"",
        ),
        ("system.slice:a:b:c", "expected cgroupsPath to be of format"),
        ("system.slice/x.slice:a:b", "the slice's name is not valid"),
        ("system:a:b", "the slice's name is not valid"),
        ("a--b.slice:a:b", "the slice's name is not valid"),
        ("system.slice:a:b/../c", "the name of a unit has no slash"),
        ("system.slice:a:b c", "start unit \"a-b c.scope\""),
    ] {
        scope.lab.config["linux"]["cgroupsPath"] = json!(path);
        scope.call(&["run", "c"]).fails(words);
        scope.lab.is_clean().unwrap();
    }
}

#[test]
fn a_name_that_is_taken_is_refused_and_its_owner_lives() {
    needs_systemd!();
    let mut scope = Scope::new();
    let mut other = Other::new(&scope.unit, &["--slice", "system.slice"]);
    soon("the other's start", || {
        show(&scope.unit, "ActiveState") == "active"
    });
    soon("the other's process", || {
        !scope.file(&["cgroup.procs"]).is_empty()
    });
    scope
        .call(&["run", "c"])
        .fails("container's cgroup is not empty: 1 process(es) found");
    // In another slice the cgroup would be free, but the name is not.
    let name = scope.lab.name().to_owned();
    scope.at("user.slice", "user.slice", &name);
    scope.call(&["run", "c"]).fails(&format!(
        "start unit \"{}\": Unit {} ",
        scope.unit, scope.unit
    ));
    assert!(other.0.try_wait().unwrap().is_none());
    shows(
        &scope.unit,
        &[("ActiveState", "active"), ("Slice", "system.slice")],
    );
    drop(other);
    soon("the other's end", || {
        show(&scope.unit, "LoadState") == "not-found"
    });
    scope.run();
    scope.delete();
}

#[test]
fn a_unit_that_has_failed_makes_room_for_a_new_one_of_its_name() {
    needs_systemd!();
    let scope = Scope::new();
    let other = Other::new(&scope.unit, &["-p", "RuntimeMaxSec=300ms"]);
    soon("the other's failure", || {
        show(&scope.unit, "ActiveState") == "failed"
    });
    drop(other);
    scope.run();
    shows(&scope.unit, &[("ActiveState", "active")]);
    scope.delete();
}
