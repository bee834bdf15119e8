//! The crate's face: puts a pod on the network, takes it off again, and tells how the network is.
//! Verbs only; what they do is in `cni` (configuration chains) and `plugins`.

use std::path::Path;

use crate::{Attached, Attachment, Error, InterfaceStats, NetworkConfig, NotReady, Result};

/// The pod network of one engine. Shared between threads by reference.
#[derive(Debug)]
pub struct Network {
    config: NetworkConfig,
}

impl Network {
    /// A network with these settings. Touches nothing yet.
    pub fn new(config: NetworkConfig) -> Self {
        Network { config }
    }

    /// The settings it was made with.
    pub fn config(&self) -> &NetworkConfig {
        &self.config
    }

    /// Puts the pod on the network. When it fails, nothing is left behind.
    ///
    /// # Errors
    /// [`Error::NotReady`] when no network can be used; else what the plugin that failed has to say.
    pub fn setup(&self, attachment: &Attachment<'_>) -> Result<Attached> {
        let _ = attachment;
        Err(Error::NotReady(NotReady {
            reason: "the network is not built yet".to_owned(),
        }))
    }

    /// Takes the pod off the network. Succeeds for a pod that is not on it, and when its namespace
    /// is gone; the id is all that is needed.
    ///
    /// # Errors
    /// [`Error::Teardown`] with everything that could not be removed; calling again tries again.
    pub fn teardown(&self, attachment: &Attachment<'_>) -> Result<()> {
        let _ = attachment;
        Ok(())
    }

    /// What `setup` gave the pod, also after a restart; `None` for a pod that is not attached.
    ///
    /// # Errors
    /// [`Error::File`] when the record cannot be read.
    pub fn attached(&self, id: &str) -> Result<Option<Attached>> {
        let _ = id;
        Ok(None)
    }

    /// Ids of all pods with something on the network, half-made ones included: what is not a live
    /// pod's can be given to [`Network::teardown`].
    ///
    /// # Errors
    /// [`Error::File`] when the state directory cannot be read.
    pub fn attachments(&self) -> Result<Vec<String>> {
        Ok(Vec::new())
    }

    /// Whether pods can be put on the network now.
    ///
    /// # Errors
    /// [`NotReady`] with the reason.
    pub fn status(&self) -> Result<(), NotReady> {
        Ok(())
    }

    /// Counters of all interfaces of a network namespace but the loopback one.
    ///
    /// # Errors
    /// [`Error::Netns`] when the namespace is gone.
    pub fn interface_stats(netns: &Path) -> Result<Vec<InterfaceStats>> {
        let _ = netns;
        Ok(Vec::new())
    }

    /// Removes the bridge of the built-in network and the nftables table.
    ///
    /// # Errors
    /// [`Error::InUse`] while a pod is attached.
    pub fn destroy(&self) -> Result<()> {
        Ok(())
    }
}
