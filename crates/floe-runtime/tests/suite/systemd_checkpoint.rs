//! checkpoint and restore of a container whose cgroup is systemd's: the scope goes with the one and
//! comes back with the other. Needs systemd, as `systemd.rs` says, and criu.

use crate::support::criu::{COUNTING, checkpoint, count, counts_on};
use crate::support::soon;
use crate::support::systemd::{Scope, shows};
use serde_json::json;

#[test]
fn a_checkpoint_is_restored_into_a_scope_with_its_limits() {
    needs_systemd!();
    needs_criu!();
    let mut scope = Scope::new();
    scope.lab.script(COUNTING);
    std::os::unix::fs::symlink("busybox", scope.lab.rootfs("bin/mv")).unwrap();
    scope.lab.config["root"]["readonly"] = json!(false);
    scope.limits(json!({ "pids": { "limit": 20 } }));
    scope.run();
    soon("its first number", || count(&scope.lab) > 2);
    for _ in 0..2 {
        checkpoint(&scope.lab, &[]).ok();
        scope.is_gone();
        let reached = count(&scope.lab);
        scope.call(&["restore", "-d", "c"]).ok();
        counts_on(&scope.lab, reached);
        shows(
            &scope.unit,
            &[("ActiveState", "active"), ("TasksMax", "20")],
        );
        assert_eq!(scope.file(&["pids.max"]), "20");
        let pid = scope.lab.pid("c");
        let own = std::fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap();
        for line in own.lines() {
            assert!(line.ends_with(&format!(":/{}", scope.path)), "{own}");
        }
        scope.lab.call(&["exec", "c", "true"]).ok();
    }
    // Images of another make: nothing may be left of the try.
    scope.delete();
    std::fs::write(scope.lab.dir.join("bundle/checkpoint/inventory.img"), "x").unwrap();
    let failed = scope.call(&["restore", "-d", "c"]);
    assert_ne!(failed.code, 0);
    assert!(failed.err.contains("criu"), "{failed:?}");
    scope.is_gone();
}
