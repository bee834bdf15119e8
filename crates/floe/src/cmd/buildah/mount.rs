//! `buildah mount` and `buildah umount`: working containers at a place of the node's, for a person to write to.

use std::process::ExitCode;

use build::working;
use engine::Engine;
use serde_json::{Value, json};

use crate::cmd::for_each;
use crate::failure::Failure;
use crate::{output, remote};

/// Options of `buildah mount`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Print JSON
    #[arg(long)]
    json: bool,
    /// Accepted for buildah's sake
    #[arg(long, hide = true)]
    notruncate: bool,
    /// Names or ids; without any, what is mounted is listed
    #[arg(value_name = "CONTAINER")]
    containers: Vec<String>,
}

/// Options of `buildah umount`.
#[derive(Debug, clap::Args)]
pub(crate) struct UmountArgs {
    /// All of them
    #[arg(long, short)]
    all: bool,
    /// Names or ids
    #[arg(value_name = "CONTAINER")]
    containers: Vec<String>,
}

pub(crate) fn mount(engine: &Engine, args: &Args) -> Result<ExitCode, Failure> {
    let mut mounted = Vec::new();
    let (alone, listed) = (args.containers.len() == 1, args.containers.is_empty());
    let code = match listed {
        true => {
            for one in working::list(engine)? {
                if let Some(path) = working::mounted_at(engine, &one.id)? {
                    mounted.push((one.name().to_owned(), path));
                }
            }
            Ok(ExitCode::SUCCESS)
        }
        false => for_each(&args.containers, |name| {
            let path = super::open(engine, name)?.mount()?;
            mounted.push((name.to_owned(), path));
            Ok(())
        }),
    };
    if args.json {
        let one = |(name, path): &(String, std::path::PathBuf)| match alone {
            true => json!({ "mountPoint": path }),
            false => json!({ "container": name, "mountPoint": path }),
        };
        let list: Vec<Value> = mounted.iter().map(one).collect();
        remote::print_json(&list)?;
        return code;
    }
    for (name, path) in &mounted {
        match alone {
            true => println!("{}", path.display()),
            false => println!("{} {}", output::shown(name), path.display()),
        }
    }
    code
}

pub(crate) fn umount(engine: &Engine, args: &UmountArgs) -> Result<ExitCode, Failure> {
    let mut wanted = args.containers.clone();
    match (args.all, wanted.is_empty()) {
        (false, true) => {
            return Err(Failure::new("at least one container ID must be specified"));
        }
        (true, false) => {
            return Err(Failure::new(
                "when using the --all switch, you may not pass any container IDs",
            ));
        }
        (true, true) => {
            wanted = working::list(engine)?
                .into_iter()
                .map(|one| one.id)
                .collect()
        }
        (false, false) => {}
    }
    for_each(&wanted, |name| {
        let failed =
            |why: String| Failure::new(format!("error unmounting container {name}: {why}"));
        let found = working::find(engine, name)?;
        let found = found.ok_or_else(|| failed("container not known".to_owned()))?;
        if working::mounted_at(engine, &found.id)?.is_none() {
            return Ok(());
        }
        let working = super::open(engine, &found.id)?;
        if working.unmount().map_err(|e| failed(e.to_string()))? {
            println!("{}", found.id);
        }
        Ok(())
    })
}
