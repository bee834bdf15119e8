//! `--filter` of `floe network ls` and `prune`.

use engine::Engine;
use engine::networks::{DEFAULT_NETWORK, Network};

use crate::clock;
use crate::failure::Failure;
use crate::filters::{Filters, fits_name, has_label};

/// Reads `KEY=VALUE`, with keys in any case; of what is to be removed, some keys say nothing.
pub(super) fn filters(given: &[String], prunes: bool) -> Result<Filters, Failure> {
    let small = |text: &String| match text.split_once('=') {
        Some((key, value)) => format!("{}={value}", key.to_lowercase()),
        None => text.clone(),
    };
    let given: Vec<String> = given.iter().map(small).collect();
    Filters::parse(&given, |key, value| match key {
        "label" | "label!" => Ok(()),
        "until" => clock::until(value).map(drop),
        "name" | "id" | "driver" if !prunes => Ok(()),
        "dangling" if !prunes => match value.parse::<bool>() {
            Ok(_) => Ok(()),
            Err(_) => Err(Failure::new(format!(
                "invalid dangling filter value {value:?}"
            ))),
        },
        _ => Err(Failure::new(format!("invalid filter {key:?}"))),
    })
}

/// Is a network one of them?
pub(super) fn fits(engine: &Engine, network: &Network, filters: &Filters) -> Result<bool, Failure> {
    filters.match_all(|key, value| matches(engine, network, key, value))
}

fn matches(engine: &Engine, network: &Network, key: &str, value: &str) -> Result<bool, Failure> {
    let spec = &network.spec;
    Ok(match key {
        "name" => fits_name(value, &spec.name)?,
        "id" => network.id.starts_with(value),
        "driver" => value == spec.driver.word(),
        "label" => has_label(&spec.labels, value),
        "label!" => !has_label(&spec.labels, value),
        "until" => network.created_at < clock::until(value)?.saturating_mul(1_000_000_000),
        _ => {
            let dangling =
                spec.name != DEFAULT_NETWORK && engine.users_of_network(&spec.name)?.is_empty();
            value.parse() == Ok(dangling)
        }
    })
}
