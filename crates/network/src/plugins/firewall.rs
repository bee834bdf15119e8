//! The firewall plugin: lets forwarded packets of pods pass. floe's own table drops none, so there is
//! nothing to do unless another program drops them by policy; and that no table but its own can
//! change, so that the plugin program, which writes into that chain, is needed then.
//! CNI plugins: meta/firewall. Chains of the old iptables kernel interface (not nftables) are not
//! seen.

use serde_json::{Map, Value};

use super::{Built, unknown_key};
use crate::cni::List;
use crate::cni::external::External;
use crate::cni::plugin::{Call, Plugin, Valid};
use crate::cni::result::CniResult;
use crate::nft::foreign::dropping_forward_chain;
use crate::{Error, Result};

/// Keys that only matter to the program.
const KNOWN: [&str; 4] = [
    "backend",
    "iptablesAdminChainName",
    "firewalldZone",
    "ingressPolicy",
];

/// The plugin, and the program in case it is needed.
#[derive(Debug)]
struct Firewall {
    network: String,
    program: Option<External>,
}

/// Checks a configuration of type firewall.
pub(crate) fn build(config: &Map<String, Value>, list: &List) -> Result<Built> {
    let policy = config
        .get("ingressPolicy")
        .and_then(Value::as_str)
        .unwrap_or_default();
    if !matches!(policy, "" | "open") {
        return Ok(Built::Lacks(format!(
            "ingressPolicy {policy:?} is not built in"
        )));
    }
    if let Some(key) = unknown_key(config, &KNOWN) {
        return Ok(Built::Lacks(key));
    }
    let program = match External::find("firewall", config.clone(), list, None) {
        Ok(program) => Some(program),
        Err(Error::PluginMissing { .. }) => None,
        Err(error) => return Err(error),
    };
    Ok(Built::Yes(Box::new(Firewall {
        network: list.name.clone(),
        program,
    })))
}

impl Plugin for Firewall {
    fn kind(&self) -> &str {
        "firewall"
    }

    fn runs_programs(&self) -> bool {
        self.program.is_some()
    }

    fn add(&self, call: &Call<'_>, previous: Option<CniResult>) -> Result<CniResult> {
        let Some(chain) = dropping_forward_chain(&mut *call.host.netfilter()?)? else {
            return Ok(previous.unwrap_or_default());
        };
        match &self.program {
            Some(program) => program.add(call, previous),
            None => Err(Error::config(
                &self.network,
                "firewall",
                format!(
                    "the nftables chain {chain} drops forwarded packets by policy, and the plugin \
                     program \"firewall\" that could add to it is not installed"
                ),
            )),
        }
    }

    fn del(&self, call: &Call<'_>, result: Option<&CniResult>) -> Result<()> {
        // The policy may have changed since: the program knows whether it has left something.
        match &self.program {
            Some(program) if dropping_forward_chain(&mut *call.host.netfilter()?)?.is_some() => {
                program.del(call, result)
            }
            _ => Ok(()),
        }
    }

    fn status(&self) -> Result<()> {
        self.program.as_ref().map_or(Ok(()), Plugin::status)
    }

    fn gc(&self, valid: &[Valid]) -> Result<()> {
        self.program
            .as_ref()
            .map_or(Ok(()), |program| program.gc(valid))
    }

    fn check(&self, _call: &Call<'_>, _result: &CniResult) -> Result<()> {
        Ok(())
    }
}
