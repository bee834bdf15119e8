//! Commands in a running container, and joining a container's streams: what the command line
//! does, with the caller's own files. `exec_sync.rs` is CRI's way.

use std::time::Duration;

use super::{Container, Security};
use crate::engine::Engine;
use crate::error::Result;
use crate::handler::{AttachOptions, Attachment, Command, ExecSession, ExecStdio, LIMIT};
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
        let (container, mut command) =
            self.command(id, command, limit, |process| options.apply(process))?;
        if let Some(user) = &options.user {
            self.apply_user(user, &container, &mut command.process)?;
        }
        command.process.terminal = terminal;
        self.with_handler(&container, |handler, at| {
            handler.exec_session(at, command, stdio, LIMIT)
        })
    }

    /// The container, which runs, and the command as its handler is to be asked for it.
    pub(super) fn command(
        &self,
        id: &str,
        command: &[String],
        limit: Option<Duration>,
        change: impl FnOnce(&mut runtime::spec::Process),
    ) -> Result<(Container, Command)> {
        let container = self.running_container("exec in", id)?;
        let mut process = oci::exec_process(&container, command)?;
        change(&mut process);
        Ok((container, Command { process, limit }))
    }

    /// Joins a container's streams; before start, so that nothing is missed.
    ///
    /// # Errors
    /// An unknown container or one that has ended.
    pub fn attach(&self, id: &str, options: AttachOptions) -> Result<Attachment> {
        let container = self.container(id)?;
        self.with_handler(&container, |handler, at| handler.attach(at, options, LIMIT))
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
