//! `run`: a command on a working container, in a pod of its own that goes with it.

use engine::Engine;
use engine::container::Filesystem;
use rustix::fs::FileType;
use store::Access;

use super::{Working, words};
use crate::Commands;
use crate::error::{Failed, Result};
use crate::pods::Pods;
use crate::run::{self, Command, Places};
use crate::source;
use crate::stage::Mounts;
use crate::state::clean;

/// A command, and what it is run as.
#[derive(Debug)]
pub struct Running<'a> {
    /// The program and its arguments.
    pub words: Vec<String>,
    /// Variables besides those of the container.
    pub environment: Vec<(String, String)>,
    /// Another user than the container's.
    pub user: Option<String>,
    /// Another directory than the container's.
    pub working_dir: Option<String>,
    /// It has a terminal.
    pub tty: bool,
    /// What confines it, its network, and what is mounted.
    pub commands: &'a Commands,
    /// File systems in memory.
    pub filesystems: Vec<Filesystem>,
}

impl Working {
    /// Makes a container of the command, which `attend` starts and waits for by its ID. Nothing of it is left then but
    /// what it has written.
    ///
    /// # Errors
    /// A user that is not there, and what the engine and the store say.
    pub fn run<T>(
        &mut self,
        engine: &Engine,
        running: Running<'_>,
        attend: impl FnOnce(&str) -> T,
    ) -> Result<T> {
        self.ran(engine, running, attend).map_err(words)
    }

    fn ran<T>(
        &mut self,
        engine: &Engine,
        running: Running<'_>,
        attend: impl FnOnce(&str) -> T,
    ) -> std::result::Result<T, Failed> {
        let root = self.own.root().clone();
        let root = &root;
        let mut state = self.record.state();
        if let Some(user) = running.user {
            state.config.user = user;
        }
        if let Some(dir) = running.working_dir {
            state.config.working_dir = clean(&state.absolute(&dir));
        }
        let tree = source::mounted(root, Access::Durable)?;
        let user = run::user(&tree, &state.config.user)?;
        let commands = running.commands;
        let places = Places::make(&tree, &targets(commands, &running.filesystems))?;
        // The container mounts it itself.
        drop(tree);
        self.keep_places(places.paths())?;
        let mounts = Mounts::of_command(running.filesystems, running.environment);
        let command = Command {
            words: running.words,
            network: commands.network,
            arguments: Vec::new(),
            state: &state,
            user,
            mounts: &mounts,
        };
        let mut spec = run::spec(commands, std::iter::empty(), &command);
        spec.tty = running.tty;
        spec.stdin = true;
        spec.stdin_once = true;
        let pods = Pods::new(engine, commands);
        let ended = pods.of(command.network).and_then(|pod| {
            let id = engine.create_container_on(&pod, spec, root)?;
            Ok(attend(&id))
        });
        // With the pod the command goes, and what it had mounted.
        drop(pods);
        root.forget_volatile()?;
        places.remove(&source::mounted(root, Access::Durable)?);
        self.keep_places(Vec::new())?;
        ended
    }

    /// Writes down what a kill would leave, where that is another than before.
    fn keep_places(&mut self, places: Vec<String>) -> std::result::Result<(), Failed> {
        if self.record.places == places {
            return Ok(());
        }
        self.record.places = places;
        self.save().map_err(|e| Failed::Words(e.to_string()))
    }

    /// Takes away what a killed command was mounted on.
    pub(super) fn forget_places(&mut self) -> Result<()> {
        if self.record.places.is_empty() {
            return Ok(());
        }
        let root = source::mounted(self.own.root(), Access::Durable).map_err(words)?;
        Places::forget(&root, &self.record.places);
        drop(root);
        self.keep_places(Vec::new()).map_err(words)
    }
}

/// Where something is mounted, and as what.
fn targets(commands: &Commands, filesystems: &[Filesystem]) -> Vec<(String, FileType)> {
    let own = filesystems
        .iter()
        .map(|one| (&one.container_path, FileType::Directory));
    let shown = commands.mounts.iter().map(|mount| {
        let kind = match mount.host_path.is_file() {
            true => FileType::RegularFile,
            false => FileType::Directory,
        };
        (&mount.container_path, kind)
    });
    let all = own.chain(shown);
    all.filter_map(|(path, kind)| Some((path.to_str()?.to_owned(), kind)))
        .collect()
}
