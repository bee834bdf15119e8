//! The loopback plugin: brings `lo` up in the pod. Every pod gets that, whether its network's
//! configuration names the plugin or not. CNI plugins: main/loopback.

use super::Built;
use super::pod_link::LOOPBACK;
use crate::Result;
use crate::cni::plugin::{Call, Plugin};
use crate::cni::result::CniResult;
use crate::pod::Pod;
use crate::rtnetlink::link;

/// Nothing to configure.
#[derive(Debug)]
struct Loopback;

/// The plugin.
pub(crate) fn build() -> Built {
    Built::Yes(Box::new(Loopback))
}

/// Brings the pod's loopback link up; its addresses come by themselves.
pub(crate) fn bring_up(pod: &Pod) -> Result<()> {
    Ok(pod
        .socket()?
        .send_one(link::up(LOOPBACK, "lo in the pod"))?)
}

impl Plugin for Loopback {
    fn kind(&self) -> &str {
        "loopback"
    }

    fn add(&self, call: &Call<'_>, previous: Option<CniResult>) -> Result<CniResult> {
        bring_up(call.pod()?)?;
        Ok(previous.unwrap_or_default())
    }

    fn del(&self, _call: &Call<'_>, _result: Option<&CniResult>) -> Result<()> {
        Ok(())
    }

    fn check(&self, _call: &Call<'_>, _result: &CniResult) -> Result<()> {
        Ok(())
    }
}
