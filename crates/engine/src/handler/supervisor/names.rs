//! The resolver of a pod's names: a companion of its supervisor, by the supervisor's own program.

use std::ffi::OsString;
use std::time::Duration;

use supervisor::Client;
use supervisor::protocol::Companion;

use super::super::deadline::Deadline;
use super::super::{NamesPlan, PodRef};
use super::pod::failed;
use crate::error::{Error, Result};

/// The exit code of one that finds another.
const RUNS: i32 = 3;

/// Begins it, unless it runs.
pub(super) fn begin(pod: PodRef<'_>, plan: &NamesPlan<'_>, limit: Duration) -> Result<()> {
    let until = Deadline::after(limit);
    // Sockets to the node's servers are of the node's network, which this process is in while it waits.
    let node = format!("/proc/{}/ns/net", std::process::id());
    let mut argv: Vec<OsString> = vec!["/proc/self/exe".into(), "resolve".into()];
    argv.extend([plan.state.into(), pod.id.into(), node.into()]);
    argv.extend(plan.servers.iter().map(|server| server.to_string().into()));
    let companion = Companion {
        argv,
        env: Default::default(),
        dir: "/".into(),
        stdin: Vec::new(),
        limit: until.left(),
    };
    let asked = Client::connect_within(pod.dir, until.left())
        .and_then(|mut client| client.run_companion(&companion));
    let exit = asked.map_err(failed("begin the resolver of pod", pod))?;
    match exit.code {
        0 | RUNS if !exit.timed_out => Ok(()),
        code => Err(Error::Refused(format!(
            "the resolver of pod {} could not be begun (exit code {code}): {}",
            pod.id,
            String::from_utf8_lossy(&exit.stderr).trim()
        ))),
    }
}
