//! What the tests of checkpoint and restore share: a container that counts, and is gone or goes on.

use serde_json::json;

use super::{Done, Lab, soon};

/// A container that counts in a file of its own and has no stream outside.
pub const COUNTING: &str = "exec </dev/null >/dev/null 2>&1; i=0; \
    while true; do i=$((i+1)); echo $i >/tmp/new; mv /tmp/new /tmp/count; usleep 50000; done";

/// A container that counts, and runs.
pub fn counting() -> Lab {
    let mut lab = Lab::sh(COUNTING);
    std::os::unix::fs::symlink("busybox", lab.rootfs("bin/mv")).unwrap();
    lab.config["root"]["readonly"] = json!(false);
    lab.call(&["run", "-d", "c"]).ok();
    soon("its first number", || count(&lab) > 2);
    lab
}

pub fn count(lab: &Lab) -> u32 {
    let text = std::fs::read_to_string(lab.rootfs("tmp/count")).unwrap_or_default();
    text.trim().parse().unwrap_or(0)
}

/// It counts, and goes on from where it was.
#[track_caller]
pub fn counts_on(lab: &Lab, from: u32) {
    soon("more numbers", || count(lab) > from + 2);
    // One that had begun anew would not be there yet.
    assert!(count(lab) < from + 1000, "{} after {from}", count(lab));
}

pub fn checkpoint(lab: &Lab, options: &[&str]) -> Done {
    lab.call(&[&["checkpoint"][..], options, &["c"]].concat())
}

pub fn restore(lab: &Lab, options: &[&str]) -> Done {
    lab.call(&[&["restore", "-d"][..], options, &["c"]].concat())
}

/// The container is gone but for its images.
#[track_caller]
pub fn is_gone(lab: &Lab) {
    lab.call(&["state", "c"]).fails("container does not exist");
    lab.is_clean().unwrap();
}
