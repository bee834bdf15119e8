//! HTTP clients by what they must believe: one connection pool for all ordinary registries, one for
//! insecure ones, and one for each registry with certificates of its own.
//!
//! Must never send a request through a pool whose TLS settings are another registry's. The clients know
//! no limit of time but that of connecting: `patience.rs` has the others.

use std::collections::HashMap;
use std::error::Error as StdError;
use std::net::IpAddr;
use std::sync::{Mutex, OnceLock, PoisonError};

use reqwest::Url;
use rustls::RootCertStore;

use super::dns::Dns;
use super::endpoint::cert_names;
use super::{ClientConfig, tls};
use crate::error::{Error, Result};

/// Makes and keeps the HTTP clients.
pub(super) struct Transport {
    dns: Dns,
    roots: OnceLock<RootCertStore>,
    pools: Mutex<HashMap<Key, reqwest::Client>>,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Key {
    insecure: bool,
    /// A registry leads here: names must not be this machine's.
    guarded: bool,
    /// The registry with certificates of its own, and their state.
    host: Option<(String, u64)>,
}

impl Transport {
    pub(super) fn new(config: &ClientConfig) -> Transport {
        let dns = Dns::new(config.hosts_file.clone(), config.resolv_conf.clone());
        Transport {
            dns,
            roots: OnceLock::new(),
            pools: Mutex::default(),
        }
    }

    /// The addresses of a host.
    pub(super) async fn addresses(&self, host: &str) -> Result<Vec<IpAddr>, String> {
        self.dns.addresses(host).await
    }

    /// The client for requests to `url`; a `guarded` one is of a registry's choice.
    pub(super) fn client(
        &self,
        config: &ClientConfig,
        url: &Url,
        insecure: bool,
        guarded: bool,
    ) -> Result<reqwest::Client> {
        let names = cert_names(url);
        let certs = match url.scheme() {
            "https" => tls::HostCerts::find(&config.certs_dirs, config.cert_dir.as_ref(), &names)?,
            _ => None,
        };
        let host = certs
            .as_ref()
            .and_then(|certs| Some((names.first()?.clone(), certs.stamp)));
        let key = Key {
            insecure,
            guarded,
            host,
        };
        let mut pools = self.pools.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(client) = pools.get(&key) {
            return Ok(client.clone());
        }
        let none = RootCertStore::empty();
        let roots = if insecure { &none } else { self.roots(config)? };
        let tls = tls::config(&config.tls, roots, certs.as_ref(), insecure)?;
        let client = self.build(config, &key, tls)?;
        // Replaced certificates make their old pool useless.
        pools.retain(|old, _| match (&old.host, &key.host) {
            (Some((old, _)), Some((new, _))) => old != new,
            _ => true,
        });
        pools.insert(key, client.clone());
        Ok(client)
    }

    fn roots(&self, config: &ClientConfig) -> Result<&RootCertStore> {
        if let Some(roots) = self.roots.get() {
            return Ok(roots);
        }
        let roots = tls::system_roots(&config.ca_bundles, &config.ca_dirs)?;
        Ok(self.roots.get_or_init(|| roots))
    }

    fn build(
        &self,
        config: &ClientConfig,
        key: &Key,
        tls: rustls::ClientConfig,
    ) -> Result<reqwest::Client> {
        let dns = match key.guarded {
            true => self.dns.guarded(),
            false => self.dns.clone(),
        };
        let builder = reqwest::Client::builder()
            .user_agent(config.user_agent.clone())
            .redirect(reqwest::redirect::Policy::none())
            .connect_timeout(config.connect_timeout)
            .no_proxy()
            .proxy(config.proxies.rule()?)
            .dns_resolver(dns)
            .tls_backend_preconfigured(tls);
        builder.build().map_err(|error| Error::Setup {
            cause: chain(&error),
        })
    }
}

/// What the network said, from the outside to the inside. The outermost layers only repeat the URL.
pub(super) fn chain(error: &reqwest::Error) -> String {
    let mut parts: Vec<String> = Vec::new();
    let mut next: Option<&dyn StdError> = error.source();
    while let Some(inner) = next {
        let text = inner.to_string();
        if parts.last().is_none_or(|last| !last.ends_with(&text)) {
            parts.push(text);
        }
        next = inner.source();
    }
    if error.is_timeout() && parts.is_empty() {
        parts.push("nothing came in time".to_owned());
    }
    if parts.is_empty() {
        error.to_string()
    } else {
        parts.join(": ")
    }
}
