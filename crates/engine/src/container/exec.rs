//! Commands in a running container, and joining a container's streams: what the command line
//! does, with the caller's own files. `exec_sync.rs` is CRI's way.

use std::time::Duration;

use supervisor::{
    AttachOptions, Attachment, Error as Failure, ExecRequest, ExecSession, ExecStdio,
};

use super::{Container, Security};
use crate::engine::Engine;
use crate::error::{Error, Result};
use crate::oci;

impl Engine {
    /// Starts `command` in the container with the caller's own files or a terminal.
    ///
    /// # Errors
    /// An unknown container or one that does not run, or a command that cannot be executed.
    pub fn exec(
        &self,
        id: &str,
        command: &[String],
        limit: Option<Duration>,
        options: &ExecOptions,
        stdio: ExecStdio,
    ) -> Result<ExecSession> {
        let terminal = matches!(stdio, ExecStdio::Terminal(_));
        let (container, mut request) =
            self.exec_request(id, command, limit, |process| options.apply(process))?;
        if let Some(user) = &options.user {
            self.apply_user(user, &container, &mut request.process)?;
        }
        request.process.terminal = terminal;
        let supervisor = self.supervisor(&container.pod_id)?;
        supervisor
            .exec(&container.id, &request, stdio)
            .map_err(|source| exec_failed(&container.id, source))
    }

    /// The container, which runs, and what its supervisor is to be asked.
    pub(super) fn exec_request(
        &self,
        id: &str,
        command: &[String],
        timeout: Option<Duration>,
        change: impl FnOnce(&mut runtime::spec::Process),
    ) -> Result<(Container, ExecRequest)> {
        let container = self.running_container("exec in", id)?;
        let mut process = oci::exec_process(&container, command)?;
        change(&mut process);
        Ok((container, ExecRequest { process, timeout }))
    }

    /// Joins a container's streams; before start, so that nothing is missed.
    ///
    /// # Errors
    /// An unknown container or one that has ended.
    pub fn attach(&self, id: &str, options: AttachOptions) -> Result<Attachment> {
        let container = self.container(id)?;
        self.supervisor(&container.pod_id)?
            .attach(&container.id, options)
            .map_err(|source| Error::Supervisor {
                verb: "attach to container",
                id: container.id,
                source,
            })
    }

    fn apply_user(
        &self,
        user: &str,
        container: &Container,
        process: &mut runtime::spec::Process,
    ) -> Result<()> {
        let image = self.image(&container.image_id)?;
        let security = Security {
            user: user.to_owned(),
            image_groups: true,
            ..Security::default()
        };
        let resolved = crate::user::resolve(self.store(), &image, &security)?;
        process.user.uid = resolved.uid;
        process.user.gid = resolved.gid;
        process.user.additional_gids = resolved.groups;
        Ok(())
    }
}

/// What a person may change for one exec.
#[derive(Debug, Clone, Default)]
pub struct ExecOptions {
    /// `NAME=VALUE`, added to the container's.
    pub env: Vec<String>,
    /// Working directory; `None`: the container's.
    pub working_dir: Option<String>,
    /// All capabilities.
    pub privileged: bool,
    /// `USER[:GROUP]`, names or numbers of the image; `None`: the container's.
    pub user: Option<String>,
}

impl ExecOptions {
    fn apply(&self, process: &mut runtime::spec::Process) {
        process.env.extend(self.env.iter().cloned());
        process.binary_env.retain(|old| {
            let mut names = self.env.iter().filter_map(|entry| entry.split('=').next());
            names.all(|name| name != old.name)
        });
        if let Some(dir) = &self.working_dir {
            process.cwd.clone_from(dir);
        }
        if self.privileged {
            process.capabilities = Some(oci::all_capabilities());
        }
    }
}

/// Why a command was not run, or was lost.
pub(super) fn exec_failed(id: &str, source: Failure) -> Error {
    match source {
        Failure::Start { message, exit_code } => Error::Exec {
            id: id.to_owned(),
            message,
            exit_code: u8::try_from(exit_code).unwrap_or(u8::MAX),
        },
        source => Error::Supervisor {
            verb: "exec in container",
            id: id.to_owned(),
            source,
        },
    }
}
