//! v2 control files by name, as the configuration writes them.

use std::collections::BTreeMap;

use super::Field;
use crate::cgroup::Cgroup;
use crate::cgroup::error::Error;
use crate::cgroup::hierarchy::Controller;

/// The controller is in the file's name; this one is only for messages.
const UNIFIED: Field = Field {
    name: "linux.resources.unified",
    controller: Controller::Misc,
};

/// Writes each file. A host that has v1 hierarchies cannot keep the promise of all of them.
pub(super) fn apply(cgroup: &Cgroup, files: &BTreeMap<String, String>) -> Result<(), Error> {
    if files.is_empty() {
        return Ok(());
    }
    let shown = |name: &str, value: &str| format!("{name:?}: {value:?}");
    for (name, value) in files {
        if name.contains('/') || name.is_empty() || name.starts_with("cgroup.procs") {
            return Err(
                UNIFIED.invalid(shown(name, value), "it must be the name of a control file")
            );
        }
        let unified = cgroup
            .hierarchies
            .only_unified()
            .then(|| cgroup.dirs().next())
            .flatten();
        let Some(dir) = unified else {
            return Err(UNIFIED.unsupported(
                shown(name, value),
                "this is an invalid configuration for a host that uses cgroup v1",
            ));
        };
        if !dir.has(name) {
            let reason = "the kernel has no such file, or its controller is not enabled here";
            return Err(UNIFIED.unsupported(shown(name, value), reason));
        }
        // Several lines are several settings (io.max); the kernel takes one a time.
        for line in value.lines() {
            UNIFIED.write(&dir, name, line)?;
        }
    }
    Ok(())
}
