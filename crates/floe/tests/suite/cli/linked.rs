//! floe under another program's name, by a symbolic link.

use std::path::{Path, PathBuf};
use std::process::Command;

use super::{Machine, Said};

/// The link, and the machine that it is used on.
pub(crate) struct Linked<'m>(&'m Machine, PathBuf);

impl Machine {
    /// floe under the name `skopeo`.
    pub(crate) fn as_skopeo(&self) -> Linked<'_> {
        self.linked("skopeo")
    }

    /// floe under the name `buildah`.
    pub(crate) fn as_buildah(&self) -> Linked<'_> {
        self.linked("buildah")
    }

    fn linked(&self, name: &str) -> Linked<'_> {
        let link = self.node.path(name);
        let program = testkit::program("floe").expect("floe is built");
        std::os::unix::fs::symlink(program, &link).expect("link");
        Linked(self, link)
    }
}

impl Linked<'_> {
    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(&self.1);
        command.env("FLOE_CONFIG", self.0.node.config());
        command.args(arguments);
        command
    }

    pub(crate) fn run(&self, arguments: &[&str]) -> Said {
        self.command(arguments).output().expect("run").into()
    }

    pub(crate) fn run_in(&self, dir: &Path, arguments: &[&str]) -> Said {
        let mut command = self.command(arguments);
        command.current_dir(dir).output().expect("run").into()
    }
}
