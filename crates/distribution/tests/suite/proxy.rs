//! Proxies from the environment: who is asked through them, and who is not.

use std::ffi::OsString;

use crate::support::{self, NOBODY, Reply, Server, config, failure, only_manifest};
use distribution::{Client, ClientConfig, Error, Proxies};
use image::Reference;

/// `proxy:pass word`
const AUTHORIZATION: &str = "Basic cHJveHk6cGFzcyB3b3Jk";

/// A client of insecure registries at `*.lan.test`, none of which is in the DNS, with these variables.
fn client(variables: &[(&str, String)]) -> Client {
    let find = |name: &str| {
        let mut all = variables.iter();
        all.find(|(known, _)| *known == name)
            .map(|(_, text)| OsString::from(text))
    };
    let registries = "[[registry]]\nprefix = \"*.lan.test\"\ninsecure = true\n";
    // Gone when the client is used, and its name is not given out again.
    let absent = tempfile::tempdir().unwrap().path().to_owned();
    Client::new(ClientConfig {
        proxies: Proxies::from_env(find),
        resolv_conf: absent.join("resolv.conf"),
        hosts_file: absent.join("hosts"),
        ..config(registries)
    })
}

async fn pull(client: &Client, name: &str) -> Result<(), Error> {
    let name = Reference::parse(name).unwrap();
    client.manifest(&name, NOBODY).await.map(drop)
}

/// A proxy that answers itself what it is asked for over plain HTTP, and opens no tunnel.
async fn proxy() -> Server {
    Server::start(|request| match request.method.as_str() {
        "CONNECT" => Reply::status(403),
        _ if request.header("proxy-authorization") != AUTHORIZATION => Reply::status(407),
        _ => only_manifest(request),
    })
    .await
}

#[tokio::test]
async fn registries_are_asked_through_the_environments_proxies() {
    let (plain, secure) = (proxy().await, proxy().await);
    let client = client(&[
        (
            "http_proxy",
            format!("http://proxy:pass%20word@{}/", plain.domain()),
        ),
        ("HTTPS_PROXY", secure.domain()),
    ]);
    pull(&client, "registry.lan.test:5000/x:1").await.unwrap();
    assert_eq!(secure.log(), ["CONNECT registry.lan.test:5000"]);
    assert_eq!(
        plain.log(),
        ["GET http://registry.lan.test:5000/v2/x/manifests/1"]
    );
}

#[tokio::test]
async fn what_no_proxy_names_and_this_machine_are_asked_directly() {
    let (proxy, server) = (proxy().await, Server::start(only_manifest).await);
    let registries = format!(
        "[[registry]]\nprefix = \"*.lan.test\"\ninsecure = true\n{}",
        support::insecure(&server)
    );
    let variables = |name: &str| {
        let text = match name {
            "NO_PROXY" => ".direct.lan.test, 10.0.0.0/8".to_owned(),
            "HTTP_PROXY" | "HTTPS_PROXY" => proxy.domain(),
            _ => return None,
        };
        Some(OsString::from(text))
    };
    let dir = tempfile::tempdir().unwrap();
    let hosts = dir.path().join("hosts");
    std::fs::write(&hosts, "127.0.0.1 a.direct.lan.test\n").unwrap();
    let client = Client::new(ClientConfig {
        proxies: Proxies::from_env(variables),
        hosts_file: hosts,
        ..config(&registries)
    });
    pull(&client, &format!("a.direct.lan.test:{}/x", server.port))
        .await
        .unwrap();
    pull(&client, &format!("{}/x", server.domain()))
        .await
        .unwrap();
    assert!(proxy.log().is_empty(), "{:?}", proxy.log());
    let error = failure(pull(&client, "direct.lan.test:1/x").await);
    assert!(!proxy.log().is_empty(), "{error}");
}

#[tokio::test]
async fn a_proxy_that_fails_or_cannot_be_used_is_not_gone_around() {
    let server = proxy().await;
    let client_of = |text: &str| client(&[("HTTPS_PROXY", text.to_owned())]);
    for (text, expected) in [
        (server.domain().as_str(), "tunnel"),
        ("gopher://proxy.test", "gopher is no known kind of proxy"),
    ] {
        let name = "registry.other.example/x";
        let error = failure(pull(&client_of(text), name).await).to_string();
        assert!(error.contains(expected), "{error}");
        assert!(!error.contains("resolv.conf"), "asked directly: {error}");
    }
}

/// Takes one client by SOCKS 5 without a login and answers it as a registry; the host asked for.
async fn socks(listener: tokio::net::TcpListener) -> String {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let (mut stream, _) = listener.accept().await.unwrap();
    let mut greeting = [0; 2];
    stream.read_exact(&mut greeting).await.unwrap();
    let mut methods = vec![0; greeting[1].into()];
    stream.read_exact(&mut methods).await.unwrap();
    stream.write_all(&[5, 0]).await.unwrap();
    let mut request = [0; 5];
    stream.read_exact(&mut request).await.unwrap();
    assert_eq!(request[..4], [5, 1, 0, 3], "connect to a name");
    let mut name = vec![0; usize::from(request[4]) + 2];
    stream.read_exact(&mut name).await.unwrap();
    // It cannot: that is all that needs to be known.
    stream
        .write_all(&[5, 4, 0, 1, 0, 0, 0, 0, 0, 0])
        .await
        .unwrap();
    name.truncate(name.len() - 2);
    String::from_utf8(name).unwrap()
}

#[tokio::test]
async fn a_socks_proxy_is_spoken_to_as_one_and_asked_by_name() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = format!("socks5://{}", listener.local_addr().unwrap());
    let client = client(&[("HTTPS_PROXY", address)]);
    let asked = tokio::spawn(socks(listener));
    let error = failure(pull(&client, "registry.example/x").await);
    assert_eq!(asked.await.unwrap(), "registry.example", "{error}");
}
