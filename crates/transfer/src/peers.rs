//! Blobs from the node's peers: other nodes that serve their stores (`floe serve` with `peers_listen`).
//!
//! A layer is asked for at the peers before the registry. So that many nodes that pull an image at once fetch it about
//! once, each knows what it wants and how far it is:
//!
//! ```text
//!  asks its peers ──"later"──▶ waits, and asks again        Asking
//!        │ nobody has it, nor is before us
//!        ▼
//!  fetches it from the registry                              Fetching
//!        │
//!        ▼
//!  has it: serves it, also before the image is whole         Here
//! ```
//!
//! Of two that ask at the same time, the one whose id is the first for this blob goes to the registry, and tells the
//! other "later" (429). So nodes wait in one order only, and for one that fetches: never in a circle.
//!
//! Manifests are always asked of the registry, with the credentials of whoever pulls: a peer gives blobs alone, and only
//! under the repository under which it has them. Peers may lie: what they send is not checked here, but by whoever takes
//! it, as with a registry, and [`Wants::leave`] is told. Must never wait for a peer without a limit.

use std::collections::HashMap;
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use distribution::{AuthFiles, Client, ClientConfig, Credentials, Registries, Retry, Source};
use futures_util::StreamExt;
use image::{Descriptor, Digest, Reference};

use crate::chunks::Chunks;

/// Where peers listen if nobody says.
pub const PORT: u16 = 5001;
/// Peers that are asked for a blob at most.
const ASKED: usize = 32;
/// How often a peer that says "later" is asked again.
const AGAIN: Duration = Duration::from_millis(250);
/// After which time peers of whom none has it are asked a second time, before the registry is.
const SURE: Duration = Duration::from_millis(30);
/// How long peers that say "later" are waited for: so long, and a second more for so many bytes.
const WAIT: Duration = Duration::from_secs(20);
const BYTES_A_SECOND: u64 = 4 << 20;
/// A peer that sends less is slow, after it had that time.
const LEAST_A_SECOND: u64 = 256 << 10;
const PATIENCE: Duration = Duration::from_secs(10);
/// For how long a peer is passed over that did not answer, was slow, or sent something else.
const PASSED_OVER: Duration = Duration::from_secs(60);
/// For how long the addresses of names hold.
const ADDRESSES: Duration = Duration::from_secs(30);
/// Peers that one blob may be tried with in vain.
const TRIES: usize = 3;

/// Who the peers are.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PeerOptions {
    /// `HOST[:PORT]`, or `IP[:PORT]`: all addresses of a name are peers.
    pub places: Vec<String>,
    /// A directory with the CAs of peers (`*.crt`) and our certificate (`*.cert`, `*.key`); without it they
    /// speak plain HTTP.
    pub certs: Option<std::path::PathBuf>,
    /// Our own blobs can be had by others: a node that serves nothing must not be waited for.
    pub serves: bool,
}

/// The peers of this node, and what it wants of them.
pub struct Peers {
    options: PeerOptions,
    /// Who we are to them.
    node: String,
    client: Client,
    addresses: Mutex<Option<(Instant, Vec<SocketAddr>)>>,
    passed_over: Mutex<HashMap<SocketAddr, Instant>>,
    wanted: Mutex<HashMap<Key, Wanted>>,
    bytes: Arc<AtomicU64>,
}

/// A blob of a repository.
type Key = (String, Digest);

#[derive(Debug, Clone, Copy)]
struct Wanted {
    state: State,
    /// Pulls that want it.
    pulls: usize,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Asking,
    Fetching,
    Here,
}

/// How a blob of this node stands for a peer that asks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// It does not come here, or comes from whoever asks.
    Unknown,
    /// It comes: ask later.
    Coming,
    /// It is here, and its image perhaps not yet.
    Here,
}

impl fmt::Debug for Peers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Peers")
            .field("options", &self.options)
            .finish_non_exhaustive()
    }
}

impl Peers {
    /// Nobody is asked yet. `node` is who we are to them, a word that nobody else has; `settings` say how to reach
    /// the network.
    pub fn new(options: PeerOptions, node: String, settings: &ClientConfig) -> Self {
        let client = Client::new(ClientConfig {
            registries: Registries::default(),
            auth: AuthFiles::default(),
            certs_dirs: Vec::new(),
            cert_dir: options.certs.clone(),
            ca_bundles: Vec::new(),
            ca_dirs: Vec::new(),
            connect_timeout: Duration::from_secs(3),
            answer_timeout: PATIENCE,
            stall_timeout: PATIENCE,
            retry: Retry {
                attempts: 1,
                ..Retry::default()
            },
            user_agent: format!("floe/{} node/{node}", env!("CARGO_PKG_VERSION")),
            locations: None,
            proxies: Default::default(),
            ..settings.clone()
        });
        Self {
            options,
            node,
            client,
            addresses: Mutex::default(),
            passed_over: Mutex::default(),
            wanted: Mutex::default(),
            bytes: Arc::default(),
        }
    }

    /// Bytes that have come from peers.
    pub fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }

    /// How a blob stands for the peer with this `User-Agent`, if it is one.
    pub fn standing(
        &self,
        repository: &Reference,
        digest: &Digest,
        user_agent: Option<&str>,
    ) -> Standing {
        let asker = user_agent
            .and_then(|agent| agent.split_once(" node/"))
            .map(|(_, node)| node);
        let wanted = lock(&self.wanted);
        let state = wanted
            .get(&(repository.name(), digest.clone()))
            .map(|wanted| wanted.state);
        match (state, asker) {
            (Some(State::Here), _) if self.options.serves => Standing::Here,
            // Others are no peers, and would not know what to wait for; we ourselves wait for nobody.
            (_, None) => Standing::Unknown,
            (_, Some(asker)) if asker == self.node || !self.options.serves => Standing::Unknown,
            (Some(State::Fetching), _) => Standing::Coming,
            (Some(State::Asking), Some(asker))
                if rank(digest, &self.node) < rank(digest, asker) =>
            {
                Standing::Coming
            }
            _ => Standing::Unknown,
        }
    }

    /// The peers, in the order in which all nodes ask for this blob.
    async fn ranked(&self, digest: &Digest) -> Vec<SocketAddr> {
        let mut peers = self.addresses().await;
        peers.sort_by_cached_key(|peer| rank(digest, &peer.to_string()));
        peers.truncate(ASKED);
        let mut passed_over = lock(&self.passed_over);
        let now = Instant::now();
        passed_over.retain(|_, until| *until > now);
        peers.retain(|peer| !passed_over.contains_key(peer));
        peers
    }

    async fn addresses(&self) -> Vec<SocketAddr> {
        if let Some((at, known)) = &*lock(&self.addresses)
            && at.elapsed() < ADDRESSES
        {
            return known.clone();
        }
        let mut found = Vec::new();
        for place in &self.options.places {
            let (host, port) = split(place);
            match host.parse::<IpAddr>() {
                Ok(address) => found.push(SocketAddr::new(address, port)),
                Err(_) => match self.client.addresses(host).await {
                    Ok(all) => found.extend(all.into_iter().map(|one| SocketAddr::new(one, port))),
                    Err(error) => tracing::debug!(host, error, "no peers by this name"),
                },
            }
        }
        found.sort_unstable();
        found.dedup();
        *lock(&self.addresses) = Some((Instant::now(), found.clone()));
        found
    }

    fn pass_over(&self, peer: SocketAddr, why: &str) {
        tracing::info!(%peer, why, "a peer is passed over for a minute");
        lock(&self.passed_over).insert(peer, Instant::now() + PASSED_OVER);
    }

    fn source(&self, peer: SocketAddr, repository: &Reference) -> Option<Source> {
        // A registry with a port cannot stand in a path.
        let registry = repository.domain().replace(':', "__");
        let name = format!("{peer}/{registry}/{}", repository.path());
        Some(Source {
            reference: Reference::parse(&name).ok()?,
            insecure: self.options.certs.is_none(),
            mirror: true,
        })
    }
}

/// What one pull wants of the peers; they are told it until this is dropped.
#[derive(Debug)]
pub(crate) struct Wants {
    peers: Arc<Peers>,
    repository: Reference,
    blobs: Mutex<HashMap<Digest, Used>>,
}

/// Who a blob comes from.
#[derive(Debug, Default)]
struct Used {
    peer: Option<SocketAddr>,
    failures: usize,
}

impl Wants {
    pub(crate) fn new(peers: Arc<Peers>, repository: &Reference) -> Self {
        Self {
            peers,
            repository: repository.repository(),
            blobs: Mutex::default(),
        }
    }

    fn key(&self, digest: &Digest) -> Key {
        (self.repository.name(), digest.clone())
    }

    /// The blob from a peer; `None`: the registry is to be asked. Waits for peers that will have it.
    pub(crate) async fn blob(&self, descriptor: &Descriptor) -> Option<Chunks> {
        let digest = &descriptor.digest;
        if !self.begin(digest) {
            return None;
        }
        let until = Instant::now() + WAIT + Duration::from_secs(descriptor.size / BYTES_A_SECOND);
        let mut sure = self.peers.options.places.is_empty();
        loop {
            let mut later = false;
            for peer in self.peers.ranked(digest).await {
                let Some(source) = self.peers.source(peer, &self.repository) else {
                    continue;
                };
                let asked =
                    self.peers
                        .client
                        .blob_unverified(&source, descriptor, &Credentials::Anonymous);
                match asked.await {
                    Ok(stream) => {
                        self.note(digest, Some(peer));
                        let chunks = stream.map(|chunk| chunk.map_err(std::io::Error::other));
                        return Some(paced(chunks.boxed(), Arc::clone(&self.peers.bytes)));
                    }
                    Err(distribution::Error::RateLimited { .. }) => later = true,
                    Err(distribution::Error::NotFound { .. }) => {}
                    Err(error) => self.peers.pass_over(peer, &error.to_string()),
                }
            }
            if Instant::now() >= until || (!later && sure) {
                self.set(digest, State::Fetching);
                return None;
            }
            // One that began to ask meanwhile may be before us: it must not be two that go to the registry.
            sure = !later;
            tokio::time::sleep(if later { AGAIN } else { SURE }).await;
        }
    }

    /// Tells the peers that we want it; false: they are not to be asked.
    fn begin(&self, digest: &Digest) -> bool {
        let mut blobs = lock(&self.blobs);
        if let Some(used) = blobs.get(digest) {
            if used.failures >= TRIES {
                drop(blobs);
                self.set(digest, State::Fetching);
                return false;
            }
            return true;
        }
        blobs.insert(digest.clone(), Used::default());
        drop(blobs);
        let mut wanted = lock(&self.peers.wanted);
        let entry = wanted.entry(self.key(digest)).or_insert(Wanted {
            state: State::Asking,
            pulls: 0,
        });
        entry.pulls += 1;
        true
    }

    fn note(&self, digest: &Digest, peer: Option<SocketAddr>) {
        lock(&self.blobs).entry(digest.clone()).or_default().peer = peer;
    }

    fn set(&self, digest: &Digest, state: State) {
        if let Some(wanted) = lock(&self.peers.wanted).get_mut(&self.key(digest))
            && wanted.state != State::Here
        {
            wanted.state = state;
        }
    }

    /// The blob is in the store.
    pub(crate) fn arrived(&self, digest: &Digest) {
        self.set(digest, State::Here);
    }

    /// The blob did not come whole, or was another: was it a peer's? That one is passed over, and the next is asked.
    pub(crate) fn leave(&self, digest: &Digest, why: &str) -> bool {
        let mut blobs = lock(&self.blobs);
        let Some(used) = blobs.get_mut(digest) else {
            return false;
        };
        let Some(peer) = used.peer.take() else {
            return false;
        };
        used.failures += 1;
        drop(blobs);
        self.peers.pass_over(peer, why);
        true
    }
}

impl Drop for Wants {
    fn drop(&mut self) {
        let mut wanted = lock(&self.peers.wanted);
        for digest in lock(&self.blobs).keys() {
            let key = (self.repository.name(), digest.clone());
            if let Some(entry) = wanted.get_mut(&key) {
                entry.pulls -= 1;
                if entry.pulls == 0 {
                    wanted.remove(&key);
                }
            }
        }
    }
}

/// Counts what comes, and ends with an error where it is too little.
fn paced(chunks: Chunks, counter: Arc<AtomicU64>) -> Chunks {
    let (begun, mut bytes) = (Instant::now(), 0_u64);
    let paced = chunks.map(move |chunk| {
        let chunk = chunk?;
        bytes += chunk.len() as u64;
        counter.fetch_add(chunk.len() as u64, Ordering::Relaxed);
        let took = begun.elapsed();
        match took > PATIENCE && bytes / took.as_secs().max(1) < LEAST_A_SECOND {
            true => Err(std::io::Error::other("the peer is slow")),
            false => Ok(chunk),
        }
    });
    paced.boxed()
}

/// Where somebody stands for a blob: the least is the first.
fn rank(digest: &Digest, who: &str) -> String {
    Digest::of(format!("{digest} {who}").as_bytes())
        .hex()
        .to_owned()
}

/// Host and port of `HOST[:PORT]`, `IP[:PORT]` or `[IPV6][:PORT]`.
fn split(place: &str) -> (&str, u16) {
    if place.parse::<IpAddr>().is_ok() {
        return (place, PORT);
    }
    let (host, port) = match place.rsplit_once(':') {
        Some((host, port)) if !port.ends_with(']') => (host, port.parse().unwrap_or(PORT)),
        _ => (place, PORT),
    };
    (host.trim_start_matches('[').trim_end_matches(']'), port)
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn peers(node: &str) -> Arc<Peers> {
        let options = PeerOptions {
            serves: true,
            ..PeerOptions::default()
        };
        Arc::new(Peers::new(
            options,
            node.to_owned(),
            &ClientConfig::default(),
        ))
    }

    fn repository() -> Reference {
        Reference::parse("127.0.0.1:5000/test/x:1").unwrap()
    }

    #[test]
    fn places_are_hosts_and_addresses_with_or_without_a_port() {
        assert_eq!(split("node-1"), ("node-1", PORT));
        assert_eq!(split("node-1:80"), ("node-1", 80));
        assert_eq!(split("10.0.0.1"), ("10.0.0.1", PORT));
        assert_eq!(split("10.0.0.1:7"), ("10.0.0.1", 7));
        assert_eq!(split("fd00::1"), ("fd00::1", PORT));
        assert_eq!(split("[fd00::1]:7"), ("fd00::1", 7));
        assert_eq!(split("[fd00::1]"), ("fd00::1", PORT));
    }

    #[test]
    fn a_registry_with_a_port_can_stand_in_a_peers_path() {
        let peers = peers("one");
        for (peer, name) in [
            ("10.0.0.1:5001", "10.0.0.1:5001/127.0.0.1__5000/test/x"),
            ("[fd00::1]:5001", "[fd00::1]:5001/127.0.0.1__5000/test/x"),
        ] {
            let source = peers.source(peer.parse().unwrap(), &repository()).unwrap();
            assert_eq!(source.reference.name(), name);
        }
    }

    #[tokio::test]
    async fn of_two_that_ask_one_goes_to_the_registry_and_the_other_waits_until_it_has_it() {
        let (one, other) = (peers("one"), peers("other"));
        let digest = Digest::of(b"layer");
        let descriptor = Descriptor::new(image::MediaType::OciLayer, digest.clone(), 5);
        let agent = |peers: &Peers| format!("floe/1 node/{}", peers.node);
        let ask =
            |at: &Peers, from: &Peers| at.standing(&repository(), &digest, Some(&agent(from)));
        assert_eq!(ask(&one, &other), Standing::Unknown);
        let wants = [
            Wants::new(Arc::clone(&one), &repository()),
            Wants::new(Arc::clone(&other), &repository()),
        ];
        assert!(wants.iter().all(|wants| wants.begin(&digest)));
        let both = [ask(&one, &other), ask(&other, &one)];
        assert!(
            both.contains(&Standing::Coming) && both.contains(&Standing::Unknown),
            "{both:?}"
        );
        // Nobody but a peer waits, and nobody for itself.
        assert_eq!(
            one.standing(&repository(), &digest, Some("curl/8")),
            Standing::Unknown
        );
        assert_eq!(ask(&one, &one), Standing::Unknown);
        // There are no peers to ask: it is the registry's turn, whatever the order.
        assert!(wants[0].blob(&descriptor).await.is_none());
        assert_eq!(ask(&one, &other), Standing::Coming);
        wants[0].arrived(&digest);
        assert_eq!(ask(&one, &other), Standing::Here);
        let elsewhere = Reference::parse("127.0.0.1:5000/other/x").unwrap();
        assert_eq!(
            one.standing(&elsewhere, &digest, Some(&agent(&other))),
            Standing::Unknown
        );
        drop(wants);
        assert_eq!(ask(&one, &other), Standing::Unknown);
        assert!(lock(&one.wanted).is_empty());
    }

    #[test]
    fn a_peer_that_fails_is_left_and_after_some_the_registry_is_asked() {
        let peers = peers("one");
        let wants = Wants::new(Arc::clone(&peers), &repository());
        let digest = Digest::of(b"layer");
        assert!(wants.begin(&digest));
        assert!(!wants.leave(&digest, "none was used"));
        for number in 0..TRIES {
            let peer = SocketAddr::from(([10, 0, 0, number as u8], 1));
            assert!(wants.begin(&digest));
            wants.note(&digest, Some(peer));
            assert!(wants.leave(&digest, "it lied"));
            assert!(lock(&peers.passed_over).contains_key(&peer));
        }
        assert!(!wants.begin(&digest));
    }
}
