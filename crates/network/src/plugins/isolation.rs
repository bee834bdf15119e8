//! floe's own plugin for networks that people make: keeps the network's bridge apart from the others
//! (`nft::isolation`). In no CNI configuration of others.

use serde::Deserialize;
use serde_json::{Map, Value};

use super::Built;
use crate::cni::List;
use crate::cni::plugin::{Call, Plugin};
use crate::cni::result::CniResult;
use crate::nft::isolation::{self, Apart};
use crate::rtnetlink::link;
use crate::{Error, Result};

/// Its type.
pub(crate) const KIND: &str = "floe-isolation";

#[derive(Debug, Deserialize)]
struct Config {
    bridge: String,
    apart: Words,
}

/// The words of the configuration.
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Words {
    Open,
    Normal,
    Strict,
    Internal,
}

#[derive(Debug)]
struct Isolation {
    bridge: String,
    apart: Apart,
}

/// Checks a configuration of this type.
pub(crate) fn build(config: &Map<String, Value>, list: &List) -> Result<Built> {
    let config = Config::deserialize(Value::Object(config.clone()))
        .map_err(|error| Error::config(&list.name, KIND, error.to_string()))?;
    Ok(Built::Yes(Box::new(Isolation {
        bridge: config.bridge,
        apart: match config.apart {
            Words::Open => Apart::Open,
            Words::Normal => Apart::Normal,
            Words::Strict => Apart::Strict,
            Words::Internal => Apart::Internal,
        },
    })))
}

impl Plugin for Isolation {
    fn kind(&self) -> &str {
        KIND
    }

    fn add(&self, call: &Call<'_>, previous: Option<CniResult>) -> Result<CniResult> {
        let result = previous.unwrap_or_default();
        self.reload(call, &result)?;
        Ok(result)
    }

    fn reload(&self, call: &Call<'_>, _result: &CniResult) -> Result<()> {
        let mut socket = call.host.route()?;
        let missing = || Error::answer("look up link", self.bridge.clone(), "it is not there");
        let bridge = link::by_name(&mut socket, &self.bridge)?.ok_or_else(missing)?;
        let (table, mut netfilter) = call.host.table()?;
        isolation::keep(&mut netfilter, table.name(), &self.bridge, self.apart)?;
        // The bridge was made as one that is kept apart.
        if self.apart == Apart::Open {
            socket.send_one(link::set_group(
                bridge.index,
                &self.bridge,
                self.apart.group(),
            ))?;
        }
        Ok(())
    }

    fn del(&self, _call: &Call<'_>, _result: Option<&CniResult>) -> Result<()> {
        Ok(())
    }

    fn check(&self, _call: &Call<'_>, _result: &CniResult) -> Result<()> {
        Ok(())
    }
}
