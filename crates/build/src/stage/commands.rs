//! The step `RUN`.

use containerfile::Run;

use super::{Stage, command_said};
use crate::error::Failed;
use crate::run::{self, Command, Places};

impl Stage<'_, '_> {
    pub(super) fn run(&mut self, run: &Run, text: &str) -> Result<(), Failed> {
        for (flag, why) in [
            (
                "security",
                "commands have the capabilities and profiles of the build (--cap-add, --security-opt)",
            ),
            ("device", "devices are not given to single steps"),
        ] {
            if run.flags.get(flag).is_some() {
                return Err(format!("--{flag} is not offered: {why}").into());
            }
        }
        let network = run
            .flags
            .get("network")
            .map(|text| self.word(text))
            .transpose()?;
        let network = run::network(network.as_deref(), self.build.request.commands.network)?;
        let words = run::words(&self.state, run);
        if words.is_empty() || words.iter().any(|word| word.contains('\0')) {
            return Err("it has no command that can be executed".into());
        }
        let arguments = self.state.scope.arguments(&self.state.config.env);
        let said = command_said(&arguments, text);
        let user = self.state.config.user.clone();
        let mut key = self.key("run");
        for word in &words {
            key.add(word);
        }
        key.add(&format!(
            "{network:?} {user:?} {:?}",
            self.state.config.working_dir
        ));
        key.add(&format!("{:?} {arguments:?}", self.state.config.env));
        let orders = self.mount_orders(run, &mut key)?;
        self.layered(key, said, |stage| {
            let mounts = stage.mounts(&orders)?;
            let root = stage.root()?;
            let user = run::user(root, &user)?;
            let places = Places::make(root, &mounts.targets)?;
            // Nothing may be mounted but by the container.
            stage.tree = None;
            if let Some(working) = &stage.working {
                let command = Command {
                    words,
                    network,
                    arguments,
                    state: &stage.state,
                    user,
                    mounts: &mounts,
                };
                let ran = stage.build.execute(&command, working.root());
                working.root().forget_volatile()?;
                ran?;
            }
            places.remove(stage.root()?);
            Ok(true)
        })
    }
}
