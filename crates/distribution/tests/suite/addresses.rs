//! Which addresses of a host are tried (RFC 8305), and which ones no registry may lead to.

use std::net::{Ipv6Addr, SocketAddr, TcpStream};
use std::process::Command;
use std::time::Duration;

use crate::support::{NOBODY, Reply, Request, Server, config, failure, layer, only_manifest};
use distribution::{BlobBody, Client, ClientConfig, Error, ProtocolFlaw};
use image::Reference;
use rustix::net::{AddressFamily, SocketType, bind, listen, socket};
use tokio::net::TcpListener;

const EVERYONE_INSECURE: &str = "[[registry]]\nprefix = \"*.lan.test\"\ninsecure = true\n";

/// A client that knows these hosts and no name server.
fn client(hosts: &str) -> (tempfile::TempDir, Client) {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("hosts");
    std::fs::write(&file, hosts).unwrap();
    let client = Client::new(ClientConfig {
        hosts_file: file,
        resolv_conf: dir.path().join("absent"),
        // Who waits for a dead address as long as that is seen here.
        connect_timeout: Duration::from_secs(3600),
        ..config(EVERYONE_INSECURE)
    });
    (dir, client)
}

#[tokio::test]
async fn a_dead_ipv6_address_does_not_keep_anybody_from_the_ipv4_one() {
    testkit::net::isolate().unwrap();
    let server = Server::start(only_manifest).await;
    // A queue of one that nobody empties: all further connections are left unanswered.
    let dead = socket(AddressFamily::INET6, SocketType::STREAM, None).unwrap();
    let address = SocketAddr::from((Ipv6Addr::LOCALHOST, server.port));
    bind(&dead, &address).unwrap();
    listen(&dead, 0).unwrap();
    let _queued = TcpStream::connect(address).unwrap();
    let (_dir, client) = client("::1 r.lan.test\n127.0.0.1 r.lan.test\n");
    let name = Reference::parse(&format!("r.lan.test:{}/x", server.port)).unwrap();
    let pull = client.manifest(&name, NOBODY);
    let pulled = tokio::time::timeout(Duration::from_secs(60), pull).await;
    pulled.expect("by the other address").unwrap();
}

/// A network in which 192.0.2.1 is a registry that is not on this machine, as far as anybody can see.
async fn elsewhere(handler: impl Fn(&Request) -> Reply + Send + Sync + 'static) -> Server {
    testkit::net::isolate().unwrap();
    let added = Command::new("ip")
        .args(["address", "add", "192.0.2.1/32", "dev", "lo"])
        .status();
    assert!(added.unwrap().success());
    let listener = TcpListener::bind("192.0.2.1:0").await.unwrap();
    Server::start_on(listener, handler, None)
}

#[tokio::test]
async fn a_redirect_to_a_name_of_this_machine_or_a_metadata_service_is_not_followed() {
    let registry = elsewhere(|request| {
        let target = request.path.rsplit('/').next().unwrap().replace('-', ":");
        Reply::status(307).with("Location", format!("http://{target}/latest/meta-data"))
    })
    .await;
    let local = Server::start(only_manifest).await;
    let (_dir, client) = client(
        "192.0.2.1 r.lan.test cdn.lan.test\n169.254.169.254 meta.lan.test\n127.0.0.1 me.lan.test\n",
    );
    for host in ["meta.lan.test", "me.lan.test"] {
        let tag = format!("{host}-{}", local.port);
        let name = format!("r.lan.test:{}/x:{tag}", registry.port);
        let name = Reference::parse(&name).unwrap();
        let error = failure(client.manifest(&name, NOBODY).await).to_string();
        assert!(
            error.contains(host) && error.contains("where no registry may lead"),
            "{error}"
        );
    }
    assert!(local.log().is_empty(), "{:?}", local.log());
    // Another name of an ordinary address is followed.
    let tag = format!("cdn.lan.test-{}", registry.port);
    let name = Reference::parse(&format!("r.lan.test:{}/x:{tag}", registry.port)).unwrap();
    let error = failure(client.manifest(&name, NOBODY).await);
    let followed = registry.log();
    let followed = followed.iter().any(|line| line == "GET /latest/meta-data");
    assert!(followed, "{error}");
}

#[tokio::test]
async fn a_registry_of_this_machine_may_lead_to_others_on_it() {
    let storage = Server::start(only_manifest).await;
    let place = format!("http://storage.lan.test:{}/manifests/1", storage.port);
    let registry = Server::start(move |_| Reply::status(307).with("Location", &place)).await;
    let (_dir, client) = client("127.0.0.1 r.lan.test storage.lan.test\n");
    let name = Reference::parse(&format!("r.lan.test:{}/x", registry.port)).unwrap();
    client.manifest(&name, NOBODY).await.unwrap();
}

#[tokio::test]
async fn uploads_and_logins_are_not_sent_to_metadata_services() {
    let metadata = "http://169.254.169.254/latest";
    let registry = elsewhere(move |request| {
        if request.path.contains("/private/") {
            let challenge = format!("Bearer realm=\"{metadata}\"");
            return Reply::status(401).with("WWW-Authenticate", challenge);
        }
        match request.method.as_str() {
            "HEAD" => Reply::status(404),
            _ => Reply::status(202).with("Location", metadata),
        }
    })
    .await;
    let (_dir, client) = client("192.0.2.1 r.lan.test\n");
    let name = |path: &str| {
        let name = format!("r.lan.test:{}/{path}", registry.port);
        Reference::parse(&name).unwrap()
    };
    let body = BlobBody::Bytes("layer".into());
    let pushed = client
        .push_blob(&name("x"), &layer(b"layer"), body, NOBODY)
        .await;
    let pulled = client.manifest(&name("private/x"), NOBODY).await;
    for (error, expected) in [
        (failure(pushed), ProtocolFlaw::UploadLocation),
        (failure(pulled), ProtocolFlaw::Realm),
    ] {
        assert!(
            matches!(&error, Error::Protocol { flaw, .. } if *flaw == expected),
            "{error}"
        );
    }
}
