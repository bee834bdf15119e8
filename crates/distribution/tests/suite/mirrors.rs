//! registries.conf at work: mirrors in order, rewriting, blocking, and errors that name each place.

use crate::support::{self, NOBODY, Reply, Server, config, failure, only_manifest};
use distribution::{Client, Error};
use image::Reference;

fn mirrored(mirrors: &[&Server], own: &Server) -> String {
    let mut text = format!(
        "[[registry]]\nprefix = \"registry.k8s.io\"\nlocation = \"{}/k8s\"\ninsecure = true\n",
        own.domain()
    );
    for mirror in mirrors {
        text += &format!(
            "[[registry.mirror]]\nlocation = \"{}/m\"\ninsecure = true\n",
            mirror.domain()
        );
    }
    text
}

#[tokio::test]
async fn the_first_source_that_has_it_is_used() {
    let empty = Server::start(|_| Reply::status(404)).await;
    let full = Server::start(only_manifest).await;
    let own = Server::start(only_manifest).await;
    let client = Client::new(config(&mirrored(&[&empty, &full], &own)));
    let name = Reference::parse("registry.k8s.io/e2e/x:1").unwrap();
    let fetched = client.manifest(&name, NOBODY).await.unwrap();
    assert_eq!(fetched.source.reference, full.reference("m/e2e/x:1"));
    assert!(fetched.source.mirror && fetched.source.insecure);
    assert_eq!(empty.log(), ["GET /v2/m/e2e/x/manifests/1"]);
    assert!(own.log().is_empty());
}

#[tokio::test]
async fn the_location_itself_comes_last() {
    let broken = Server::start(|_| Reply::status(500)).await;
    let own = Server::start(only_manifest).await;
    let client = Client::new(config(&mirrored(&[&broken], &own)));
    let name = Reference::parse("registry.k8s.io/x").unwrap();
    let fetched = client.manifest(&name, NOBODY).await.unwrap();
    assert_eq!(fetched.source.reference, own.reference("k8s/x:latest"));
    assert!(!fetched.source.mirror);
}

#[tokio::test]
async fn a_failure_names_every_place_and_its_reason() {
    let first = Server::start(|_| Reply::status(500)).await;
    let second = Server::start(only_manifest).await;
    let own = Server::start(|_| Reply::status(404)).await;
    let registries = mirrored(&[&first, &second], &own);
    let gone = second.domain();
    drop(second);
    let client = Client::new(config(&registries));
    let name = Reference::parse("registry.k8s.io/x:1").unwrap();
    let error = failure(client.manifest(&name, NOBODY).await);
    assert!(
        matches!(error.deciding(), Error::NotFound { .. }),
        "{error}"
    );
    let Error::AllSourcesFailed { attempts, .. } = &error else {
        panic!("{error}")
    };
    assert_eq!(attempts.len(), 3);
    let text = error.to_string();
    assert!(text.starts_with("registry.k8s.io/x:1: "), "{text}");
    for part in [
        &first.domain(),
        "500",
        &gone,
        "Connection refused",
        &own.domain(),
        "not found",
    ] {
        assert!(text.contains(part), "{part} is missing: {text}");
    }
}

#[tokio::test]
async fn a_blocked_registry_is_not_contacted() {
    let server = Server::start(only_manifest).await;
    let blocked = format!(
        "[[registry]]\nlocation = \"{}\"\nblocked = true\n",
        server.domain()
    );
    let client = Client::new(config(&blocked));
    let name = server.reference("x");
    assert!(matches!(
        failure(client.manifest(&name, NOBODY).await),
        Error::Blocked { .. }
    ));
    assert!(matches!(
        failure(client.tags(&name, NOBODY).await),
        Error::Blocked { .. }
    ));
    let pushed = client
        .push_manifest(&name, &image::MediaType::OciManifest, "{}".into(), NOBODY)
        .await;
    assert!(matches!(failure(pushed), Error::Blocked { .. }));
    assert!(server.log().is_empty());
}

#[tokio::test]
async fn plain_http_is_not_spoken_unless_it_is_allowed() {
    let server = Server::start(only_manifest).await;
    let client = Client::new(config(""));
    let error = failure(client.manifest(&server.reference("x"), NOBODY).await);
    assert!(matches!(&error, Error::Unreachable { .. }), "{error}");
    assert!(error.to_string().contains("https://"), "{error}");
    assert!(server.log().is_empty());
}

#[tokio::test]
async fn tags_come_page_by_page() {
    let server = Server::start(|request| match request.query.as_str() {
        "n=1000" => Reply::ok(r#"{"name":"x","tags":["a","b"]}"#)
            .with("Link", r#"</v2/x/tags/list?last=b&n=1000>; rel="next""#),
        "last=b&n=1000" => Reply::ok(r#"{"name":"x","tags":["c"]}"#),
        _ => Reply::status(400),
    })
    .await;
    let client = support::client(&server);
    assert_eq!(
        client.tags(&server.reference("x"), NOBODY).await.unwrap(),
        ["a", "b", "c"]
    );
}
