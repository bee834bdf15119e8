//! A network's plugins in order: ADD runs them forwards, DEL runs them backwards and never stops
//! half-way. CNI specification, section 3 (execution of network configurations).

use super::list::List;
use super::plugin::{Call, Plugin, Valid};
use super::result::CniResult;
use crate::plugins::build;
use crate::{Error, Result};

/// The version of the specification that brought GC and STATUS, and the last one that there is.
pub(super) const GC_SINCE: &str = "1.1.0";

/// The plugins of a network, all checked.
#[derive(Debug)]
pub(crate) struct Chain {
    /// The configuration.
    pub(crate) list: List,
    plugins: Vec<Box<dyn Plugin>>,
}

impl Chain {
    /// Checks every plugin's configuration, and that the programs needed are installed.
    pub(crate) fn build(list: List) -> Result<Chain> {
        let plugins = list
            .plugins
            .iter()
            .map(|one| build(one, &list))
            .collect::<Result<_>>()?;
        Ok(Chain { list, plugins })
    }

    /// As far as it can be built, with what cannot: for taking down what an older configuration, or
    /// a program that is no longer installed, has put up.
    pub(crate) fn build_what_can_be(list: List) -> (Chain, Vec<Error>) {
        let mut plugins = Vec::new();
        let mut errors = Vec::new();
        for one in &list.plugins {
            match build(one, &list) {
                Ok(plugin) => plugins.push(plugin),
                Err(error) => errors.push(error),
            }
        }
        (Chain { list, plugins }, errors)
    }

    /// Whether any of its plugins may start a program.
    pub(crate) fn runs_programs(&self) -> bool {
        self.plugins.iter().any(|plugin| plugin.runs_programs())
    }

    /// Runs every plugin's ADD; `started` counts those begun, the failing one included.
    pub(crate) fn add(&self, call: &Call<'_>, started: &mut usize) -> Result<CniResult> {
        let mut result = None;
        for plugin in &self.plugins {
            *started += 1;
            tracing::debug!(
                pod = call.attachment.id,
                plugin = plugin.kind(),
                "network setup"
            );
            result = Some(plugin.add(call, result)?);
        }
        Ok(result.unwrap_or_default())
    }

    /// Runs DEL of the first `started` plugins, the last one first; returns what failed.
    pub(crate) fn undo(&self, call: &Call<'_>, started: usize) -> Vec<Error> {
        del(&self.plugins[..started.min(self.plugins.len())], call, None)
    }

    /// Runs every plugin's DEL, the last one first; returns what failed.
    pub(crate) fn del(&self, call: &Call<'_>, result: Option<&CniResult>) -> Vec<Error> {
        del(&self.plugins, call, result)
    }

    /// Runs every plugin's STATUS, up to the first that is not ready.
    pub(crate) fn status(&self) -> Result<()> {
        self.plugins.iter().try_for_each(|plugin| plugin.status())
    }

    /// Whether there is anybody who collects garbage (GC).
    pub(crate) fn collects(&self) -> bool {
        self.runs_programs() && !self.list.disable_gc && self.list.version == GC_SINCE
    }

    /// Runs every plugin's GC; returns what failed.
    pub(crate) fn gc(&self, valid: &[Valid]) -> Vec<Error> {
        let plugins = self.plugins.iter();
        plugins
            .filter_map(|plugin| plugin.gc(valid).err())
            .collect()
    }

    /// Has every plugin make again what the host has lost of its part.
    pub(crate) fn reload(&self, call: &Call<'_>, result: &CniResult) -> Result<()> {
        self.plugins
            .iter()
            .try_for_each(|plugin| plugin.reload(call, result))
    }

    /// Runs every plugin's CHECK.
    pub(crate) fn check(&self, call: &Call<'_>, result: &CniResult) -> Result<()> {
        if self.list.disable_check {
            return Ok(());
        }
        self.plugins
            .iter()
            .try_for_each(|plugin| plugin.check(call, result))
    }
}

fn del(plugins: &[Box<dyn Plugin>], call: &Call<'_>, result: Option<&CniResult>) -> Vec<Error> {
    plugins
        .iter()
        .rev()
        .filter_map(|plugin| plugin.del(call, result).err())
        .collect()
}
