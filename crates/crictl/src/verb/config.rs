//! `config`: crictl.yaml, shown and changed.

use clap::Args;

use super::World;
use crate::failure::{Context, Failure, Outcome};
use crate::file::{Config, KEYS};
use crate::say;
use crate::table::Table;

/// Options of `config`.
#[derive(Debug, Args)]
pub(crate) struct ConfigArgs {
    /// Show the value of a key
    #[arg(long, value_name = "KEY")]
    get: Option<String>,
    /// Set keys; several may stand in one word, with commas between
    #[arg(long, value_name = "KEY=VALUE")]
    set: Vec<String>,
    /// Show all keys
    #[arg(long)]
    list: bool,
    /// A key to set, and its value: runtime-endpoint, image-endpoint, timeout, debug, pull-image-on-create,
    /// disable-pull-on-run, max-retries
    #[arg(value_name = "KEY VALUE")]
    words: Vec<String>,
}

pub(crate) fn config(world: &World, args: &ConfigArgs) -> Outcome {
    let path = &world.settings.file;
    let mut config = Config::read(path)
        .context("load config file")?
        .unwrap_or_default();
    if let Some(key) = &args.get {
        let value = config.get(key)?;
        say::print(&format!("{}\n", say::shown(&value)));
        return Ok(());
    }
    if !args.set.is_empty() {
        for option in args.set.iter().flat_map(|words| words.split(',')) {
            let pair = option.split_once('=');
            let pair = pair.filter(|(_, value)| !value.contains('='));
            let (key, value) = pair
                .ok_or_else(|| Failure::new(format!("incorrectly specified option: {option}")))?;
            config.set(key, value)?;
        }
        return config.write(path);
    }
    if args.list {
        let mut table = Table::default();
        table.row(["KEY", "VALUE"]);
        for key in KEYS {
            table.row([key, &config.get(key)?]);
        }
        say::clear_screen();
        say::print(&table.text());
        return Ok(());
    }
    let Some(key) = args.words.first().filter(|key| !key.is_empty()) else {
        return Err(Failure::Help);
    };
    let value = args.words.get(1).map_or("", String::as_str);
    say::info(&format!(
        "No --get, --set or --list provided, setting key {key:?} to value {value:?}"
    ));
    config
        .set(key, value)
        .context(format!("set {key:?} to {value:?}"))?;
    config.write(path)
}
