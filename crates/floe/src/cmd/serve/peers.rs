//! `peers_listen`: the layers of this node's store, read-only, for its peers.

use std::path::Path;
use std::sync::Arc;

use engine::Engine;
use engine::crates::transfer::{Peers, Standing};
use image::{Digest, Reference};
use registry::{
    Arrival, Arriving, AuthOptions, Limits, Options, Server, TlsOptions, TlsRules, What,
};
use tracing::info;

use crate::failure::Failure;

/// Connections of peers at once.
const CONNECTIONS: usize = 256;

/// What the engine says of blobs on their way, in the registry's words.
#[derive(Debug)]
struct OnTheirWay(Arc<Peers>);

impl Arriving for OnTheirWay {
    fn arrival(&self, repository: &Reference, digest: &Digest, agent: Option<&str>) -> Arrival {
        match self.0.standing(repository, digest, agent) {
            Standing::Unknown => Arrival::Unknown,
            Standing::Coming => Arrival::Coming,
            Standing::Here => Arrival::Here,
        }
    }
}

/// Serves peers until the process ends, if the configuration wants that.
///
/// # Errors
/// An address or a certificate that cannot be used.
pub(super) async fn serve(engine: &Engine) -> Result<(), Failure> {
    let image = &engine.config().image;
    let listen = image.peers_socket().map_err(Failure::new)?;
    let (Some(listen), Some(peers)) = (listen, engine.peers()) else {
        return Ok(());
    };
    let given = |path: &Path| (!path.as_os_str().is_empty()).then(|| path.to_owned());
    let tls = given(&image.peers_tls_cert).zip(given(&image.peers_tls_key));
    let is_tls = tls.is_some();
    let server = Server::bind(Options {
        what: What::Peers(engine.store().clone(), Arc::new(OnTheirWay(peers))),
        listen,
        metrics: None,
        tls: tls.map(|(certificate, key)| TlsOptions {
            certificate,
            key,
            client_ca: given(&image.peers_tls_ca),
            rules: TlsRules::default(),
        }),
        auth: AuthOptions::default(),
        read_only: true,
        sparse: false,
        limits: Limits {
            connections: CONNECTIONS,
            ..Limits::default()
        },
    });
    let server = server.await?;
    info!(address = %server.address()?, tls = is_tls, "serving layers to peers");
    tokio::spawn(server.run(std::future::pending()));
    Ok(())
}
