//! Nodes that are each other's peers: one image is fetched about once, peers that fail or lie are left, and none gives
//! what the asking node could not get itself.

use std::net::TcpListener;
use std::time::Duration;

use testkit::{Clients, Node, NodeOptions, Registry};

use crate::common::bad_registry::{BadRegistry, Fault};
use crate::common::{World, image_spec, world_on};

/// Ports of loopback that nobody has.
fn ports(count: usize) -> Vec<u16> {
    let held: Vec<TcpListener> = (0..count)
        .map(|_| TcpListener::bind("127.0.0.1:0").unwrap())
        .collect();
    held.iter()
        .map(|one| one.local_addr().unwrap().port())
        .collect()
}

/// A node that asks these peers, and listens itself if it has a port.
fn options(registry: &str, peers: &[String], listen: Option<u16>) -> NodeOptions {
    let listen = listen.map_or(String::new(), |port| {
        format!("peers_listen = \"127.0.0.1:{port}\"\n")
    });
    NodeOptions {
        insecure: vec![registry.to_owned()],
        config: format!("[floe.image]\npeers = {peers:?}\n{listen}"),
        ..NodeOptions::default()
    }
}

fn addresses(ports: &[u16]) -> Vec<String> {
    ports
        .iter()
        .map(|port| format!("127.0.0.1:{port}"))
        .collect()
}

async fn pull(clients: &Clients, image: &str) -> Result<(), tonic::Status> {
    let request = cri::PullImageRequest {
        image: Some(image_spec(image)),
        ..Default::default()
    };
    clients.images.clone().pull_image(request).await.map(drop)
}

/// Further nodes of a test; each is cleaned at its end.
struct Fleet(Vec<Node>);

impl Fleet {
    fn start(registry: &str, ports: &[u16]) -> Self {
        let peers = addresses(ports);
        let nodes = ports
            .iter()
            .map(|port| options(registry, &peers, Some(*port)));
        Self(
            nodes
                .map(|options| Node::start(&options).unwrap())
                .collect(),
        )
    }
}

impl Drop for Fleet {
    fn drop(&mut self) {
        for node in &mut self.0 {
            if let Err(error) = node.clean() {
                eprintln!("{error}");
                assert!(std::thread::panicking(), "a node left something behind");
            }
        }
    }
}

#[test]
fn five_nodes_that_pull_an_image_at_once_fetch_it_about_once() {
    world_on(
        |_: &Registry| NodeOptions::default(),
        async |_: &mut World| {
            let registry = BadRegistry::start(Fault::Held).unwrap();
            let fleet = Fleet::start(&registry.host, &ports(5));
            let image = registry.image();
            let mut pulls = Vec::new();
            for node in &fleet.0 {
                let (clients, image) = (node.clients().await.unwrap(), image.clone());
                pulls.push(tokio::spawn(async move { pull(&clients, &image).await }));
            }
            // All are on their way while the first one waits for the registry.
            tokio::time::sleep(Duration::from_secs(3)).await;
            registry.release();
            for pull in pulls {
                pull.await.unwrap().unwrap();
            }
            let fetched = registry.layers();
            assert!((1..=2).contains(&fetched), "{fetched} times");
        },
    );
}

#[test]
fn a_node_that_comes_later_gets_layers_from_its_peers_and_the_manifest_from_the_registry_alone() {
    world_on(
        |_: &Registry| NodeOptions::default(),
        async |_: &mut World| {
            let registry = BadRegistry::start(Fault::Held).unwrap();
            registry.release();
            let fleet = Fleet::start(&registry.host, &ports(2));
            let (first, second) = (&fleet.0[0], &fleet.0[1]);
            let image = registry.image();
            pull(&first.clients().await.unwrap(), &image).await.unwrap();
            assert_eq!(registry.layers(), 1);
            registry.refuse(true);
            // Whom the registry does not let in gets nothing of a peer.
            let clients = second.clients().await.unwrap();
            pull(&clients, &image).await.unwrap_err();
            registry.refuse(false);
            pull(&clients, &image).await.unwrap();
            assert_eq!(registry.layers(), 1);
        },
    );
}

#[test]
fn a_peer_gives_blobs_of_the_repositories_that_it_has_and_takes_nothing() {
    world_on(
        |_: &Registry| NodeOptions::default(),
        async |_: &mut World| {
            let registry = BadRegistry::start(Fault::Held).unwrap();
            registry.release();
            let listen = ports(1);
            let fleet = Fleet::start(&registry.host, &listen);
            pull(&fleet.0[0].clients().await.unwrap(), &registry.image())
                .await
                .unwrap();
            let host = registry.host.replace(':', "__");
            let asked = |method: &str, repository: &str| {
                let path = format!("/v2/{repository}/blobs/{}", registry.layer());
                http(listen[0], method, &path)
            };
            assert_eq!(asked("HEAD", &format!("{host}/bad/image")), 200);
            assert_eq!(asked("HEAD", &format!("{host}/other/image")), 404);
            assert_eq!(asked("HEAD", "docker.io/bad/image"), 404);
            assert!(asked("DELETE", &format!("{host}/bad/image")) >= 400);
            assert!(
                http(
                    listen[0],
                    "POST",
                    &format!("/v2/{host}/bad/image/blobs/uploads/")
                ) >= 400
            );
        },
    );
}

/// The status of an answer.
fn http(port: u16, method: &str, path: &str) -> u16 {
    use std::io::{Read, Write};
    let mut stream = std::net::TcpStream::connect(("127.0.0.1", port)).unwrap();
    let request = format!(
        "{method} {path} HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
    );
    stream.write_all(request.as_bytes()).unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).unwrap();
    String::from_utf8_lossy(&answer[9..12]).parse().unwrap()
}

#[test]
fn peers_that_lie_break_off_say_nothing_or_are_not_there_are_left_for_the_registry() {
    world_on(
        |_: &Registry| NodeOptions::default(),
        async |_: &mut World| {
            let registry = BadRegistry::start(Fault::Held).unwrap();
            registry.release();
            // One that stops in the middle for ever is left after ten seconds.
            let faults = [
                Fault::OtherBytes,
                Fault::Truncated,
                Fault::Held,
                Fault::Status(500),
            ];
            let bad = faults.map(|fault| BadRegistry::start(fault).unwrap());
            for (fault, peer) in faults.iter().zip(&bad) {
                let gone = format!("127.0.0.1:{}", ports(1)[0]);
                let peers = [gone, peer.host.clone()];
                let mut node = Node::start(&options(&registry.host, &peers, None)).unwrap();
                let before = registry.layers();
                let clients = node.clients().await.unwrap();
                pull(&clients, &registry.image()).await.unwrap();
                assert_eq!(registry.layers(), before + 1, "{fault:?}");
                let log = node.log();
                assert_eq!(
                    log.matches("a peer is passed over").count(),
                    2,
                    "{fault:?}: {log}"
                );
                node.clean().unwrap();
            }
        },
    );
}

/// Who signs certificates of nodes.
struct Authority(rcgen::CertifiedIssuer<'static, rcgen::KeyPair>);

impl Authority {
    fn new() -> Self {
        let mut params = rcgen::CertificateParams::default();
        params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        let key = rcgen::KeyPair::generate().unwrap();
        Self(rcgen::CertifiedIssuer::self_signed(params, key).unwrap())
    }

    /// A directory as `peers_certs_dir` is: a node's certificate, its key, and the CA of the others.
    fn certify(&self, trusted: &Self) -> tempfile::TempDir {
        let key = rcgen::KeyPair::generate().unwrap();
        let params = rcgen::CertificateParams::new(["127.0.0.1".to_owned()]).unwrap();
        let certificate = params.signed_by(&key, &self.0).unwrap();
        let dir = tempfile::tempdir().unwrap();
        for (name, text) in [
            ("ca.crt", trusted.0.pem()),
            ("node.cert", certificate.pem()),
            ("node.key", key.serialize_pem()),
        ] {
            std::fs::write(dir.path().join(name), text).unwrap();
        }
        dir
    }
}

/// The keys of a node that speaks TLS to its peers, and listens if it has a port.
fn over_tls(certs: &std::path::Path, listen: Option<u16>) -> String {
    let file = |name: &str| certs.join(name).display().to_string();
    let mut keys = format!("peers_certs_dir = {certs:?}\n");
    if listen.is_some() {
        for (key, name) in [("cert", "node.cert"), ("key", "node.key"), ("ca", "ca.crt")] {
            keys += &format!("peers_tls_{key} = {:?}\n", file(name));
        }
    }
    keys
}

#[test]
fn peers_by_name_know_each_other_by_certificates_and_no_other_gets_anything() {
    world_on(
        |_: &Registry| NodeOptions::default(),
        async |_: &mut World| {
            let registry = BadRegistry::start(Fault::Held).unwrap();
            registry.release();
            let (ours, theirs) = (Authority::new(), Authority::new());
            let port = ports(1)[0];
            // All addresses of the name are peers; nobody listens on the others.
            let name = [format!("localhost:{port}")];
            let start = |certs: &std::path::Path, peers: &[String], listen| {
                let mut options = options(&registry.host, peers, listen);
                options.config += &over_tls(certs, listen);
                Node::start(&options).unwrap()
            };
            let (first, second) = (ours.certify(&ours), ours.certify(&ours));
            let stranger = theirs.certify(&ours);
            let mut fleet = Fleet(vec![start(first.path(), &[], Some(port))]);
            fleet.0.push(start(second.path(), &name, None));
            fleet.0.push(start(stranger.path(), &name, None));
            for (node, fetched) in fleet.0.iter().zip([1, 1, 2]) {
                let clients = node.clients().await.unwrap();
                pull(&clients, &registry.image()).await.unwrap();
                assert_eq!(registry.layers(), fetched, "{}", node.log());
            }
            let log = fleet.0[2].log();
            assert!(log.contains("a peer is passed over"), "{log}");
        },
    );
}
