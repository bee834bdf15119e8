//! Options of every command, and the configuration and engine that they mean.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use clap::Args;
use clap::builder::{OsStringValueParser, TypedValueParser};
use engine::config::{BUILT_IN, CgroupManager, Said, Sources, UnusedKey};
use engine::{Config, Engine, ExitProgram};

use crate::failure::Failure;

/// Options of every command.
#[derive(Debug, Clone, Default, Args)]
pub(crate) struct Global {
    /// Configuration file (crio.conf's tables and keys) [default: /etc/floe/floe.toml, if it exists]
    #[arg(long, short = 'c', env = "FLOE_CONFIG", value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
    /// Directory whose files are read after the configuration file, in lexical order; '' for none
    /// [default: the one beside the file: FILE.d, if it exists]
    #[arg(long, short = 'd', env = "FLOE_CONFIG_DIR", value_name = "DIR", value_parser = path_or_empty())]
    pub(crate) config_dir: Option<PathBuf>,
    /// Directory of the image store, instead of the configuration's
    #[arg(long, global = true, value_name = "DIR")]
    pub(crate) root: Option<PathBuf>,
    /// Directory of the state of pods and containers, instead of the configuration's
    #[arg(long, global = true, value_name = "DIR")]
    pub(crate) runroot: Option<PathBuf>,
    /// Root of another store, whose images are seen and never written (may be given more than once)
    #[arg(long, global = true, value_name = "DIR")]
    pub(crate) additional_store: Vec<PathBuf>,
    /// registries.conf, instead of the configuration's; not on floe's own command line
    #[arg(skip)]
    pub(crate) registries_conf: Option<PathBuf>,
    /// Drop-ins of registries.conf; not on floe's own command line
    #[arg(skip)]
    pub(crate) registries_conf_dir: Option<PathBuf>,
    /// Short names that a user has chosen; not on floe's own command line
    #[arg(skip)]
    pub(crate) short_name_alias_conf: Option<PathBuf>,
    /// policy.json; not on floe's own command line
    #[arg(skip)]
    pub(crate) signature_policy: Option<PathBuf>,
    /// podman's `--cgroup-manager`
    #[arg(skip)]
    pub(crate) cgroup_manager: Option<String>,
    /// podman's `--runtime`
    #[arg(skip)]
    pub(crate) runtime: Option<String>,
    /// podman's `--hooks-dir`
    #[arg(skip)]
    pub(crate) hooks_dir: Vec<PathBuf>,
    /// The CRI socket, instead of the configuration's; of `floe serve` only
    #[arg(skip)]
    pub(crate) listen: Option<PathBuf>,
    /// What of TLS may be used; not on floe's own command line
    #[arg(skip)]
    pub(crate) tls_details: Option<PathBuf>,
    /// What stands before floe's own name in the `User-Agent`; not on floe's own command line
    #[arg(skip)]
    pub(crate) user_agent_prefix: Option<String>,
    /// What crio's options and variables say of the configuration; of `floe serve` only
    #[arg(skip)]
    pub(crate) said: Vec<Said>,
    /// Whether certificates are checked where a command does not say; not on floe's own command line
    #[arg(skip)]
    pub(crate) tls_verify: Option<bool>,
}

/// What is written on the command line counts from the working directory.
fn absolute(path: &Path) -> Result<PathBuf, Failure> {
    std::path::absolute(path).map_err(|e| Failure::new(format!("{}: {e}", path.display())))
}

/// A path that may be empty.
pub(crate) fn path_or_empty() -> impl TypedValueParser<Value = PathBuf> {
    OsStringValueParser::new().map(PathBuf::from)
}

impl Global {
    /// The configuration with this command line's changes. Of keys without effect only `floe serve`
    /// speaks: a person's command is not about them.
    pub(crate) fn config(&self) -> Result<Config, Failure> {
        Ok(self.configured()?.0)
    }

    /// The files of the configuration.
    pub(crate) fn sources(&self) -> Sources {
        Sources {
            file: self.config.clone(),
            dir: self.config_dir.clone(),
        }
    }

    /// The same, with the keys without effect.
    pub(crate) fn configured(&self) -> Result<(Config, Vec<UnusedKey>), Failure> {
        let (mut config, unused) = Config::load_with(&self.sources(), &self.said)?;
        if let Some(root) = &self.root {
            config.root_table.root = absolute(root)?;
        }
        if let Some(runroot) = &self.runroot {
            config.root_table.runroot = absolute(runroot)?;
        }
        if let Some(listen) = &self.listen {
            config.api.listen.clone_from(listen);
        }
        if let Some(file) = &self.registries_conf {
            if !file.is_file() {
                let why = format!("registries.conf {}: no such file", file.display());
                return Err(Failure::new(why));
            }
            config.image.registries_conf = absolute(file)?;
        }
        let image = &mut config.image;
        for (said, key) in [
            (&self.registries_conf_dir, &mut image.registries_conf_dir),
            (
                &self.short_name_alias_conf,
                &mut image.short_name_alias_conf,
            ),
            (&self.signature_policy, &mut image.signature_policy),
        ] {
            if let Some(path) = said {
                *key = absolute(path)?;
            }
        }
        match self.cgroup_manager.as_deref() {
            Some("systemd") => config.runtime.cgroup_manager = CgroupManager::Systemd,
            Some(_) => config.runtime.cgroup_manager = CgroupManager::Cgroupfs,
            None => {}
        }
        if let Some(handler) = &self.runtime {
            let known = handler == BUILT_IN || config.runtime.runtimes.contains_key(handler);
            if !known {
                return Err(Failure::new(format!(
                    "--runtime {handler:?} is no runtime handler: write {BUILT_IN:?}, or the name of one of \
                     [crio.runtime.runtimes] in floe.toml"
                )));
            }
            config.runtime.default_runtime.clone_from(handler);
        }
        if !self.hooks_dir.is_empty() {
            config.runtime.hooks_dir.clone_from(&self.hooks_dir);
        }
        for store in &self.additional_store {
            let store = absolute(store)?;
            config.root_table.additionalimagestores.push(store);
        }
        Ok((config, unused))
    }

    /// An engine whose containers end with what has made them: nothing is due at their end.
    pub(crate) fn open_for_build(&self) -> Result<Engine, Failure> {
        Ok(Engine::open(self.config()?)?)
    }

    pub(crate) fn open(&self) -> Result<Engine, Failure> {
        let engine = Engine::open(self.config()?)?;
        engine.set_exit_program(self.exit_program(engine.config()));
        Ok(engine)
    }

    /// This program, for what is due at the end of containers: with the same configuration.
    fn exit_program(&self, config: &Config) -> ExitProgram {
        let own = std::env::current_exe().unwrap_or_else(|_| PathBuf::from("floe"));
        let mut argv: Vec<OsString> = vec![own.into()];
        let mut option = |name: &str, value: &Path| argv.extend([name.into(), value.into()]);
        if let Some(file) = self.config.as_deref().and_then(|file| absolute(file).ok()) {
            option("--config", &file);
        }
        if let Some(dir) = &self.config_dir {
            let dir = match dir.as_os_str().is_empty() {
                true => dir.clone(),
                false => absolute(dir).unwrap_or_else(|_| dir.clone()),
            };
            option("--config-dir", &dir);
        }
        option("--root", &config.root_table.root);
        option("--runroot", &config.root_table.runroot);
        for store in &self.additional_store {
            if let Ok(store) = absolute(store) {
                option("--additional-store", &store);
            }
        }
        if let Some(manager) = &self.cgroup_manager {
            option("--cgroup-manager", Path::new(manager));
        }
        argv.extend(["container".into(), "cleanup".into()]);
        let keep = |name: &str| Some((name.to_owned(), std::env::var_os(name)?));
        ExitProgram {
            argv,
            env: ["PATH", "HOME", "TZDIR"]
                .into_iter()
                .filter_map(keep)
                .collect(),
        }
    }
}
