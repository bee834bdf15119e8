//! The hooks that run after the fact (OCI runtime-spec, config.md, "POSIX-platform Hooks"):
//! poststart and poststop. Those before are the runtime's. A poststart hook that fails ends the
//! container; of poststop's it is a warning.
//! A hook holds up the whole pod for as long as it takes; few containers have one.

use runtime::hooks::{HookState, run, run_all};
use runtime::spec::Spec;

use super::container::Container;
use super::create::read_spec;
use super::diagnose;

/// Does a container have a hook that the supervisor must call?
pub(super) fn wanted(spec: &Spec) -> bool {
    spec.hooks
        .as_ref()
        .is_some_and(|hooks| !hooks.poststart.is_empty() || !hooks.poststop.is_empty())
}

/// Calls the hooks for a program that was just executed; why one failed, if one did.
pub(super) fn poststart(container: &Container) -> Result<(), String> {
    call(container, "poststart", "running")
}

/// Calls the hooks for a container that was just removed.
pub(super) fn poststop(container: &Container) {
    if let Err(reason) = call(container, "poststop", "stopped") {
        diagnose(format_args!("container {}: {reason}", container.id()));
    }
}

fn call(container: &Container, kind: &'static str, status: &'static str) -> Result<(), String> {
    if !container.hooks {
        return Ok(());
    }
    read_spec(&container.dir)
        .map_err(|error| error.to_string())
        .and_then(|spec| {
            let state = HookState::new(
                container.id(),
                status,
                container.state.pid,
                &container.dir,
                &spec,
            );
            let Some(hooks) = &spec.hooks else {
                return Ok(());
            };
            if kind == "poststart" {
                return run(kind, &hooks.poststart, &state).map_err(|error| error.to_string());
            }
            let failed = run_all(kind, &hooks.poststop, &state);
            match failed.is_empty() {
                true => Ok(()),
                false => Err(failed
                    .iter()
                    .map(ToString::to_string)
                    .collect::<Vec<_>>()
                    .join("; ")),
            }
        })
}
