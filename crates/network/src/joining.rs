//! Putting a pod on a network that people have made, and taking it off again: beside what `network.rs` does for the
//! one network that the configuration gives every pod. The same promises hold: what fails leaves nothing behind, and
//! what a kill has left is found by the pod's id.

use std::fs;
use std::io::ErrorKind;
use std::net::IpAddr;
use std::path::Path;
use std::time::Instant;

use ipnet::IpNet;

use crate::cni::List;
use crate::cni::chain::Chain;
use crate::cni::plugin::Call;
use crate::cni::record::{Memory, Record, Records};
use crate::ipam::store::LeaseDir;
use crate::joined::leases;
use crate::network::{Begun, Network, check, check_ports};
use crate::plugins::loopback;
use crate::pod::Pod;
use crate::rtnetlink::{address, link};
use crate::{Attached, Attachment, Error, OwnNetwork, Result};

impl Network {
    /// Puts the pod on a network of people's own, by the interface that the attachment names. When it fails,
    /// nothing is left behind. What an earlier attempt with the same id and network has left is cleared first.
    ///
    /// # Errors
    /// As [`Network::setup`]; [`Error::AddressTaken`] and [`Error::NotInNetwork`] of what is asked for.
    pub fn join(&self, attachment: &Attachment<'_>, network: &OwnNetwork) -> Result<Attached> {
        let start = Instant::now();
        check(attachment)?;
        check_ports(attachment)?;
        let path = attachment.netns.ok_or_else(|| Error::Request {
            id: attachment.id.to_owned(),
            reason: "has no network namespace",
        })?;
        let pod = Pod::open(path)?;
        let mut list = network.list(self.config(), self.loader.places())?;
        if attachment.is_particular() {
            crate::joined::ask(&mut list, attachment.ips, attachment.mac)?;
        }
        let records = self.joined_records(attachment.id);
        if !matches!(records.read(&network.name)?, Memory::None) {
            self.leave(attachment.id, Some(path), &network.name)?;
        }
        let call = Call {
            attachment,
            pod: Some(&pod),
            host: &self.host,
        };
        let chain = Chain::build(list)?;
        let mut record = Record::new(attachment, &chain.list);
        records.write_as(&network.name, &record)?;
        let mut begun = Begun::new(&records, &network.name, &chain, call);
        loopback::bring_up(&pod)?;
        let result = chain.add(&call, &mut begun.started)?;
        let attached = result.attached(&network.name, attachment.ifname);
        record.result = Some(result);
        records.write_as(&network.name, &record)?;
        begun.commit();
        tracing::info!(
            pod = attachment.id,
            network = network.name,
            ips = ?attached.ips,
            elapsed = ?start.elapsed(),
            "pod has joined a network"
        );
        Ok(attached)
    }

    /// Takes the pod off such a network. Succeeds for a pod that is not on it, and when its namespace is gone.
    ///
    /// # Errors
    /// [`Error::Teardown`] with everything that could not be removed; calling again tries again.
    pub fn leave(&self, id: &str, netns: Option<&Path>, network: &str) -> Result<()> {
        let mut errors = self.leave_one(id, netns, network);
        errors.extend(self.delete_links(netns).err());
        match errors.is_empty() {
            true => Ok(()),
            false => Err(Error::Teardown {
                id: id.to_owned(),
                errors,
            }),
        }
    }

    /// Deletes links that were cut off, at once: their namespace is there, and stays.
    pub(crate) fn delete_links(&self, netns: Option<&Path>) -> Result<()> {
        match netns {
            Some(_) => self.host.delete_retired(&mut *self.host.route()?).map(drop),
            None => Ok(()),
        }
    }

    /// Takes the pod off these networks, which are all of this kind that it is on; returns what failed.
    pub(crate) fn leave_all(&self, id: &str, netns: Option<&Path>, names: &[String]) -> Vec<Error> {
        if names.is_empty() {
            self.joined_records(id).forget_dir();
        }
        names
            .iter()
            .flat_map(|name| self.leave_one(id, netns, name))
            .collect()
    }

    fn leave_one(&self, id: &str, netns: Option<&Path>, network: &str) -> Vec<Error> {
        let records = self.joined_records(id);
        // Nobody is led to addresses that are about to be others'.
        if let Err(error) = self.forget_names(network, id) {
            return vec![error];
        }
        let pod = netns.and_then(|path| Pod::open(path).ok());
        let mut errors = match records.read(network) {
            Ok(Memory::Record(record)) => self.undo(&record, netns, pod.as_ref()),
            Ok(Memory::Damaged) => {
                let dir = LeaseDir::new(leases(self.config()).join(network));
                dir.release_all(id).err().into_iter().collect()
            }
            Ok(Memory::None) => Vec::new(),
            Err(error) => vec![error],
        };
        if errors.is_empty() {
            errors.extend(records.remove(network).err());
            records.forget_dir();
        }
        errors
    }

    /// Makes again what the host had of a pod's networks, where it has lost it: somebody has flushed its rules, or a
    /// firewall was loaded anew.
    ///
    /// # Errors
    /// What the kernel refuses, and a host port that another has meanwhile.
    pub fn reload(&self, id: &str, netns: &Path) -> Result<()> {
        check(&Attachment::of(id))?;
        let joined = self.joined_records(id);
        let mut records = vec![self.configured_record(id)?];
        for name in joined.ids()? {
            records.push(joined.read(&name)?);
        }
        let pod = Pod::open(netns)?;
        for memory in records {
            let Memory::Record(record) = memory else {
                continue;
            };
            let Some(result) = &record.result else {
                continue;
            };
            let list = List::parse(record.list.clone(), "record", self.loader.places())?;
            let attachment = record.attachment(Some(netns));
            let call = Call {
                attachment: &attachment,
                pod: Some(&pod),
                host: &self.host,
            };
            Chain::build(list)?.reload(&call, result)?;
        }
        Ok(())
    }

    /// What the pod has on each such network, in the order of the networks' names.
    ///
    /// # Errors
    /// [`Error::File`] when the records cannot be read.
    pub fn joined(&self, id: &str) -> Result<Vec<Attached>> {
        check(&Attachment::of(id))?;
        let records = self.joined_records(id);
        let mut all = Vec::new();
        for name in records.ids()? {
            if let Memory::Record(record) = records.read(&name)? {
                all.extend(record.attached());
            }
        }
        Ok(all)
    }

    /// Removes what the host has of a network that no pod is on: its bridge and its rules.
    ///
    /// # Errors
    /// [`Error::Netlink`] when the kernel refuses.
    pub fn destroy_network(&self, network: &OwnNetwork) -> Result<()> {
        // A link that others are beside is the host's own.
        if network.macvlan.is_none() {
            let nets = network.nets();
            self.host.destroy_network(&network.bridge, &nets)?;
        }
        self.forget_network(&network.name)?;
        let leases = leases(self.config()).join(&network.name);
        match fs::remove_dir_all(&leases) {
            Err(error) if error.kind() != ErrorKind::NotFound => {
                Err(Error::file("remove", &leases)(error))
            }
            _ => Ok(()),
        }
    }

    /// The addresses of the host's own links, with their prefixes.
    ///
    /// # Errors
    /// [`Error::Netlink`] when the kernel does not say.
    pub fn host_addresses(&self) -> Result<Vec<IpNet>> {
        address::all(&mut *self.host.route()?)
    }

    /// Has the host a link of this name?
    ///
    /// # Errors
    /// [`Error::Netlink`] when the kernel does not say.
    pub fn has_link(&self, name: &str) -> Result<bool> {
        Ok(link::by_name(&mut *self.host.route()?, name)?.is_some())
    }

    /// Ids of all pods that are on such networks, half-made ones included.
    pub(crate) fn joined_ids(&self) -> Result<Vec<String>> {
        let dir = self.config().state_dir.join("joined");
        let entries = match fs::read_dir(&dir) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
            other => other.map_err(Error::file("list", &dir))?,
        };
        let mut ids = Vec::new();
        for entry in entries {
            let name = entry.map_err(Error::file("list", &dir))?.file_name();
            ids.extend(name.to_str().map(str::to_owned));
        }
        Ok(ids)
    }

    /// The names of those that the pod is on, half-made ones included.
    pub(crate) fn joined_names(&self, id: &str) -> Result<Vec<String>> {
        let records = self.joined_records(id);
        match records.is_there() {
            true => records.ids(),
            false => Ok(Vec::new()),
        }
    }

    pub(crate) fn joined_records(&self, id: &str) -> Records {
        Records::new(self.config().state_dir.join("joined")).below(id)
    }

    /// The list of the network that every pod gets, with what an attachment asks of its interface.
    pub(crate) fn with_wishes(
        &self,
        list: &List,
        ips: &[IpAddr],
        mac: Option<crate::Mac>,
    ) -> Result<Chain> {
        let mut list = list.clone();
        crate::joined::ask(&mut list, ips, mac)?;
        Chain::build(list)
    }
}
