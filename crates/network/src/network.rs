//! The crate's face: puts a pod on the network, takes it off again, and tells how the network is.
//! Verbs only; what they do is in `cni` (configuration chains) and `plugins`.

use std::collections::{BTreeSet, HashSet};
use std::fs::File;
use std::io::ErrorKind;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use base::lock;

use crate::cni::chain::Chain;
use crate::cni::plugin::{Call, Valid};
use crate::cni::record::{Memory, Record, Records};
use crate::cni::{List, Loader};
use crate::host::Host;
use crate::ipam::store::LeaseDir;
use crate::joined::leases;
use crate::plugins::loopback;
use crate::pod::Pod;
use crate::readiness::{Asked, not_ready};
use crate::rtnetlink::link;
use crate::sys::netns::Netns;
use crate::{Attached, Attachment, Error, InterfaceStats, NetworkConfig, NotReady, Result, sysctl};

/// How long a plugin program may take: less than kubelet waits for a pod.
const PLUGIN_TIMEOUT: Duration = Duration::from_secs(90);
/// How long a moment without pods that come and go is waited for to collect garbage.
const COLLECTS_WITHIN: Duration = Duration::from_secs(10);

/// The pod network of one engine. Shared between threads by reference.
#[derive(Debug)]
pub struct Network {
    config: NetworkConfig,
    pub(crate) loader: Loader,
    pub(crate) host: Host,
    records: Records,
    asked: Asked,
}

impl Network {
    /// A network with these settings. Touches nothing yet. On a kernel without IPv6 the built-in
    /// network goes without its IPv6 subnet, with one warning.
    pub fn new(mut config: NetworkConfig) -> Self {
        if !sysctl::has_ipv6() && config.subnets.iter().any(|subnet| subnet.addr().is_ipv6()) {
            tracing::warn!("the kernel has no IPv6: pods get IPv4 addresses only");
            config.subnets.retain(|subnet| subnet.addr().is_ipv4());
        }
        Network {
            loader: Loader::new(&config, PLUGIN_TIMEOUT),
            host: Host::new(&config),
            records: Records::new(config.state_dir.join("results")),
            config,
            asked: Asked::default(),
        }
    }

    /// The same network with another time limit for plugin programs (90 s if nothing is said).
    pub fn with_plugin_timeout(mut self, limit: Duration) -> Self {
        self.loader = Loader::new(&self.config, limit);
        self
    }

    /// The settings it was made with.
    pub fn config(&self) -> &NetworkConfig {
        &self.config
    }

    /// Puts the pod on the network. When it fails, nothing is left behind. What an earlier attempt
    /// with the same id has left is cleared first.
    ///
    /// # Errors
    /// [`Error::NotReady`] when no network can be used; [`Error::Exhausted`] without a free address;
    /// [`Error::PortTaken`] when another pod has a host port; else what the plugin that failed has
    /// to say.
    pub fn setup(&self, attachment: &Attachment<'_>) -> Result<Attached> {
        let start = Instant::now();
        check(attachment)?;
        check_ports(attachment)?;
        let path = attachment.netns.ok_or_else(|| Error::Request {
            id: attachment.id.to_owned(),
            reason: "has no network namespace",
        })?;
        let pod = Pod::open(path)?;
        let mut chain = self.loader.current(&self.config)?;
        if attachment.is_particular() {
            chain = Arc::new(self.with_wishes(&chain.list, attachment.ips, attachment.mac)?);
        }
        let _stays = self.not_collecting(&chain)?;
        if !matches!(self.records.read(attachment.id)?, Memory::None) {
            self.take_off(attachment, false)?;
        }
        warn_about_bandwidth(attachment, &chain.list);
        let call = Call {
            attachment,
            pod: Some(&pod),
            host: &self.host,
        };
        let mut record = Record::new(attachment, &chain.list);
        self.records.write(&record)?;
        let mut begun = Begun::new(&self.records, attachment.id, &chain, call);
        loopback::bring_up(&pod)?;
        let result = chain.add(&call, &mut begun.started)?;
        let attached = result.attached(&chain.list.name, attachment.ifname);
        if attached.ips.is_empty() {
            return Err(Error::NoAddress {
                network: chain.list.name.clone(),
            });
        }
        record.result = Some(result);
        self.records.write(&record)?;
        begun.commit();
        tracing::info!(
            pod = attachment.id,
            network = attached.network,
            ips = ?attached.ips,
            elapsed = ?start.elapsed(),
            "pod is on the network"
        );
        Ok(attached)
    }

    /// Takes the pod off the network. Succeeds for a pod that is not on it, and when its namespace
    /// is gone; the id is all that is needed.
    ///
    /// # Errors
    /// [`Error::Teardown`] with everything that could not be removed; calling again tries again.
    pub fn teardown(&self, attachment: &Attachment<'_>) -> Result<()> {
        // Without a network nothing is collected.
        let chain = self.current().ok();
        let _stays = chain.map(|chain| self.not_collecting(&chain)).transpose()?;
        self.take_off(attachment, true)
    }

    /// Takes the pod off the network of the configuration alone, where it is on others as well.
    ///
    /// # Errors
    /// As [`Network::teardown`].
    pub fn leave_configured(&self, id: &str, netns: Option<&Path>) -> Result<()> {
        let chain = self.current().ok();
        let _stays = chain.map(|chain| self.not_collecting(&chain)).transpose()?;
        let attachment = Attachment {
            netns,
            ..Attachment::of(id)
        };
        self.take_off(&attachment, false)?;
        self.delete_links(netns)
    }

    fn take_off(&self, attachment: &Attachment<'_>, whole: bool) -> Result<()> {
        let start = Instant::now();
        check(attachment)?;
        let id = attachment.id;
        let pod = match attachment.netns.map(Pod::open).transpose() {
            Err(Error::Netns { source, .. }) if is_gone(&source) => None,
            other => other?,
        };
        let memory = self.records.read(id)?;
        let joined = self.joined_names(id)?;
        let mut errors = match whole {
            true => self.leave_all(id, attachment.netns, &joined),
            false => Vec::new(),
        };
        errors.extend(match &memory {
            Memory::Record(record) => self.undo(record, attachment.netns, pod.as_ref()),
            // All that it had was on networks that have told.
            Memory::None if !joined.is_empty() => Vec::new(),
            Memory::Damaged => self.undo_by_id(attachment, pod.as_ref(), true, whole),
            Memory::None => self.undo_by_id(attachment, pod.as_ref(), false, whole),
        });
        if errors.is_empty() {
            errors.extend(self.records.remove(id).err());
        }
        if !errors.is_empty() {
            return Err(Error::Teardown {
                id: id.to_owned(),
                errors,
            });
        }
        if !matches!(memory, Memory::None) {
            tracing::info!(pod = id, elapsed = ?start.elapsed(), "pod is off the network");
        }
        Ok(())
    }

    /// Whether the pod has a record: there is none before [`Network::setup`] and after a
    /// [`Network::teardown`] that has succeeded. Where it was lost, a teardown looks for the pod's id
    /// among the addresses of all pods, which is not for every removal.
    ///
    /// # Errors
    /// [`Error::File`] when the state directory cannot be searched.
    pub fn remembers(&self, id: &str) -> Result<bool> {
        check(&Attachment::of(id))?;
        Ok(self.records.has(id)? || !self.joined_names(id)?.is_empty())
    }

    pub(crate) fn configured_record(&self, id: &str) -> Result<Memory> {
        self.records.read(id)
    }

    /// Runs DEL with the configuration and the result that the pod was set up with.
    pub(crate) fn undo(
        &self,
        record: &Record,
        path: Option<&Path>,
        pod: Option<&Pod>,
    ) -> Vec<Error> {
        let list = match List::parse(record.list.clone(), "record", self.loader.places()) {
            Ok(list) => list,
            Err(error) => return vec![error],
        };
        let (chain, mut errors) = Chain::build_what_can_be(list);
        let attachment = record.attachment(path);
        let call = Call {
            attachment: &attachment,
            pod,
            host: &self.host,
        };
        errors.extend(chain.del(&call, record.result.as_ref()));
        errors
    }

    /// For a pod without a readable record: what bears its id is taken away. The current network's
    /// DEL is run too if the pod `was_there`, or has an address: it would be slow for every pod that
    /// is taken off twice.
    fn undo_by_id(
        &self,
        attachment: &Attachment<'_>,
        pod: Option<&Pod>,
        was_there: bool,
        whole: bool,
    ) -> Vec<Error> {
        let id = attachment.id;
        let mut known = match self.lease_dirs() {
            Ok(dirs) => dirs,
            Err(error) => return vec![error],
        };
        // What it has on others stays, where it stays on them.
        let others = leases(&self.config);
        known.retain(|dir| whole || !dir.path().starts_with(&others));
        let has_address = |dir: &LeaseDir| {
            dir.leases()
                .is_ok_and(|leases| leases.iter().any(|(_, owner)| owner == id))
        };
        let mut errors = Vec::new();
        if was_there || known.iter().any(has_address) {
            match self.current() {
                Ok(chain) => {
                    let call = Call {
                        attachment,
                        pod,
                        host: &self.host,
                    };
                    errors.extend(chain.del(&call, None));
                }
                Err(error) => tracing::warn!(pod = id, %error, "taken off by its id only"),
            }
        }
        errors.extend(known.iter().filter_map(|dir| dir.release_all(id).err()));
        let released = self
            .host
            .existing_table()
            .and_then(|(table, mut socket)| table.release(&mut socket, id));
        errors.extend(released.err());
        errors
    }

    /// The lease directories of all networks below the state directory.
    fn lease_dirs(&self) -> Result<Vec<LeaseDir>> {
        let mut dirs = Vec::new();
        for leases in [&self.loader.places().leases, &leases(&self.config)] {
            let entries = match std::fs::read_dir(leases) {
                Err(error) if error.kind() == ErrorKind::NotFound => continue,
                other => other.map_err(Error::file("list", leases))?,
            };
            for entry in entries {
                let entry = entry.map_err(Error::file("list", leases))?;
                dirs.push(LeaseDir::new(entry.path()));
            }
        }
        Ok(dirs)
    }

    /// Whether the pod's network is still as `setup` left it (CNI's CHECK).
    ///
    /// # Errors
    /// What is not; [`Error::Request`] for a pod that is not attached.
    pub fn check(&self, attachment: &Attachment<'_>) -> Result<()> {
        check(attachment)?;
        let absent = |reason| Error::Request {
            id: attachment.id.to_owned(),
            reason,
        };
        let Memory::Record(record) = self.records.read(attachment.id)? else {
            return Err(absent("is not attached"));
        };
        let result = record
            .result
            .as_ref()
            .ok_or_else(|| absent("is only half attached"))?;
        let pod = attachment.netns.map(Pod::open).transpose()?;
        let list = List::parse(record.list.clone(), "record", self.loader.places())?;
        let attachment = record.attachment(attachment.netns);
        let call = Call {
            attachment: &attachment,
            pod: pod.as_ref(),
            host: &self.host,
        };
        Chain::build(list)?.check(&call, result)
    }

    /// What `setup` gave the pod, also after a restart; `None` for a pod that is not attached.
    ///
    /// # Errors
    /// [`Error::File`] when the record cannot be read.
    pub fn attached(&self, id: &str) -> Result<Option<Attached>> {
        check(&Attachment::of(id))?;
        Ok(match self.records.read(id)? {
            Memory::Record(record) => record.attached(),
            Memory::Damaged | Memory::None => None,
        })
    }

    /// Ids of all pods with something on the network, half-made ones included: what is not a live
    /// pod's can be given to [`Network::teardown`].
    ///
    /// # Errors
    /// [`Error::File`] when the state directory cannot be read.
    pub fn attachments(&self) -> Result<Vec<String>> {
        let mut ids: BTreeSet<String> = self.records.ids()?.into_iter().collect();
        ids.extend(self.joined_ids()?);
        for dir in self.lease_dirs()? {
            ids.extend(dir.leases()?.into_iter().map(|(_, owner)| owner));
        }
        Ok(ids.into_iter().collect())
    }

    /// Ids of all pods that have a host port, whether or not anything else of them is known: the
    /// state directory may have been removed under the kernel's tables.
    ///
    /// # Errors
    /// [`Error::Netlink`] when the kernel does not say.
    pub fn port_owners(&self) -> Result<BTreeSet<String>> {
        let (table, mut socket) = self.host.existing_table()?;
        table.all_owners(&mut socket)
    }

    /// Whether pods can be put on the network now: a configuration loads, what it needs is installed, and
    /// its plugins say that they are ready (STATUS). They are not asked again within two seconds, and
    /// by one caller at a time: others get the last answer meanwhile.
    ///
    /// # Errors
    /// [`NotReady`] with the reason.
    pub fn status(&self) -> Result<(), NotReady> {
        let chain = self.current().map_err(not_ready)?;
        if !chain.runs_programs() {
            return Ok(());
        }
        self.asked.status(&chain)
    }

    /// Has plugins take away what they keep of attachments that are nobody's (GC): those of pods without a record
    /// here are. No pod is put on the network or taken off it meanwhile, as the specification wants it. Returns
    /// what failed.
    ///
    /// # Errors
    /// [`Error::NotReady`] when no network can be used; [`Error::File`] when records cannot be listed, or
    /// pods come and go all the time.
    pub fn collect_garbage(&self) -> Result<Vec<Error>> {
        let chain = self.current()?;
        if !chain.collects() {
            return Ok(Vec::new());
        }
        let _alone = self.collecting(lock::Kind::Exclusive, COLLECTS_WITHIN)?;
        let mut valid = Vec::new();
        for id in self.records.ids()? {
            if let Memory::Record(record) = self.records.read(&id)? {
                let ifname = record.attachment(None).ifname.to_owned();
                valid.push(Valid { id, ifname });
            }
        }
        Ok(chain.gc(&valid))
    }

    /// Keeps garbage from being collected, if it ever is, until the lock is dropped.
    fn not_collecting(&self, chain: &Chain) -> Result<Option<File>> {
        match chain.collects() {
            true => self
                .collecting(lock::Kind::Shared, PLUGIN_TIMEOUT)
                .map(Some),
            false => Ok(None),
        }
    }

    fn collecting(&self, kind: lock::Kind, limit: Duration) -> Result<File> {
        let path = self.config.state_dir.join("collecting.lock");
        let failed = Error::file("lock", &path);
        let locked = std::fs::create_dir_all(&self.config.state_dir)
            .and_then(|()| lock::path_within(&path, kind, limit));
        locked
            .and_then(|file| file.ok_or_else(|| lock::timed_out(limit)))
            .map_err(failed)
    }

    fn current(&self) -> Result<Arc<Chain>> {
        self.loader.current(&self.config)
    }

    /// A network namespace for a pod, in which nothing is but a loopback interface that is down. It goes with
    /// its last holder.
    ///
    /// # Errors
    /// What the kernel says: too many namespaces, or no right to make one.
    pub fn new_namespace() -> std::io::Result<OwnedFd> {
        Netns::make()
    }

    /// Whether [`Network::setup`] with the configuration of now may start a plugin program, which is told a
    /// path of the pod's network namespace and may keep it.
    ///
    /// # Errors
    /// [`Error::NotReady`] when no network can be used.
    pub fn runs_programs(&self) -> Result<bool> {
        Ok(self.current()?.runs_programs())
    }

    /// Brings up loopback in a network namespace that gets no other network.
    ///
    /// # Errors
    /// [`Error::Netns`] or [`Error::Netlink`].
    pub fn loopback_only(netns: &Path) -> Result<()> {
        loopback::bring_up(&Pod::open(netns)?)
    }

    /// Counters of all interfaces of a network namespace but the loopback one.
    ///
    /// # Errors
    /// [`Error::Netns`] when the namespace is gone.
    pub fn interface_stats(netns: &Path) -> Result<Vec<InterfaceStats>> {
        link::stats(&mut *Pod::open(netns)?.socket()?)
    }

    /// Removes the bridge of the built-in network and the nftables table. Bridges that a
    /// configuration file names are left alone.
    ///
    /// # Errors
    /// [`Error::InUse`] while a pod is attached.
    pub fn destroy(&self) -> Result<()> {
        let _lock = self.host.lock()?;
        let pods = self.attachments()?;
        if !pods.is_empty() {
            return Err(Error::InUse { pods });
        }
        self.host.destroy(&self.config.bridge)
    }
}

/// Whether a namespace's file is not there, or the process that it is of has just ended.
fn is_gone(error: &std::io::Error) -> bool {
    error.kind() == ErrorKind::NotFound || error.raw_os_error() == Some(libc::ESRCH)
}

/// What can be checked before anything is touched.
pub(crate) fn check(attachment: &Attachment<'_>) -> Result<()> {
    let wrong = |reason| {
        Err(Error::Request {
            id: attachment.id.to_owned(),
            reason,
        })
    };
    let id = attachment.id;
    let plain = |c: char| c.is_ascii_alphanumeric() || "_.-".contains(c);
    if id.is_empty() || id.len() > 127 || id.starts_with('.') || !id.chars().all(plain) {
        return wrong("the id must be 1 to 127 letters, digits, '_', '.' or '-'");
    }
    let ifname = attachment.ifname;
    if ifname.is_empty() || ifname.len() > 15 || ifname.contains(['/', ':', ' ']) || ifname == "lo"
    {
        return wrong("the interface name is not valid");
    }
    Ok(())
}

/// As many as there are ports of the three protocols.
const PORTS_MAX: usize = 3 * 65_535;

/// Checks that no host port is asked for twice. `None` as the host's address is both families' "any".
pub(crate) fn check_ports(attachment: &Attachment<'_>) -> Result<()> {
    let count = attachment.port_mappings.len();
    if count > PORTS_MAX {
        return Err(Error::TooManyPorts {
            id: attachment.id.to_owned(),
            count,
            max: PORTS_MAX,
        });
    }
    let mut seen = HashSet::new();
    for mapping in attachment.port_mappings {
        let any = [Ipv4Addr::UNSPECIFIED.into(), Ipv6Addr::UNSPECIFIED.into()];
        let hosts: &[IpAddr] = mapping.host_ip.as_ref().map_or(&any, std::slice::from_ref);
        let taken = hosts
            .iter()
            .any(|host| !seen.insert((mapping.protocol, mapping.host_port, *host)));
        if taken && mapping.host_port != 0 {
            return Err(Error::PortTwice {
                id: attachment.id.to_owned(),
                mapping: *mapping,
            });
        }
    }
    Ok(())
}

/// A limit that no plugin of the network can keep is not kept, as with other runtimes; but said.
fn warn_about_bandwidth(attachment: &Attachment<'_>, list: &List) {
    let limits = [
        "kubernetes.io/ingress-bandwidth",
        "kubernetes.io/egress-bandwidth",
    ];
    let asked = limits
        .iter()
        .any(|limit| attachment.annotations.contains_key(*limit));
    if asked && !list.has_capability("bandwidth") {
        tracing::warn!(
            pod = attachment.id,
            network = list.name,
            "bandwidth limits are ignored: no plugin of the network has the capability"
        );
    }
}

/// A setup under way, with its record written. Dropped before `commit`, it takes down what the
/// plugins have done; the record stays only if some of it could not be, for `teardown` to try again.
pub(crate) struct Begun<'a> {
    records: &'a Records,
    name: &'a str,
    chain: &'a Chain,
    call: Call<'a>,
    pub(crate) started: usize,
    done: bool,
}

impl<'a> Begun<'a> {
    /// Nothing is done yet, and the record of this name is written.
    pub(crate) fn new(
        records: &'a Records,
        name: &'a str,
        chain: &'a Chain,
        call: Call<'a>,
    ) -> Self {
        Begun {
            records,
            name,
            chain,
            call,
            started: 0,
            done: false,
        }
    }

    pub(crate) fn commit(mut self) {
        self.done = true;
    }
}

impl Drop for Begun<'_> {
    fn drop(&mut self) {
        if self.done {
            return;
        }
        let pod = self.call.attachment.id;
        let mut errors = self.chain.undo(&self.call, self.started);
        if errors.is_empty() {
            errors.extend(self.records.remove(self.name).err());
        }
        for error in errors {
            tracing::warn!(pod, %error, "undoing a failed network setup");
        }
    }
}
