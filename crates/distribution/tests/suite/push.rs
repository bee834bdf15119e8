//! What a push asks for besides sending bytes: mounts from other repositories, deletion, and the types
//! of manifests, some of it against Debian's docker-registry.

use crate::support::real::RealRegistry;
use crate::support::{self, NOBODY, Reply, Server, client, config, failure, layer, only_manifest};
use bytes::Bytes;
use distribution::{BlobBody, Client, ClientConfig, Credentials, Error, Offer, Source};
use futures_util::StreamExt;
use image::{AnyManifest, Descriptor, Digest, Index, Manifest, MediaType, Platform};

#[tokio::test]
async fn a_blob_is_mounted_from_another_repository_without_being_sent() {
    let Some(registry) = RealRegistry::start(false) else {
        return;
    };
    let client = Client::new(config(&registry.insecure()));
    let (from, to) = (
        registry.reference("team/from"),
        registry.reference("team/to"),
    );
    let blob = layer(b"layer");
    let body = BlobBody::Bytes("layer".into());
    client.push_blob(&from, &blob, body, NOBODY).await.unwrap();
    let offer = async |digest: &Digest| {
        let offered = client.offer_blob(&to, Some(&from), digest, NOBODY).await;
        offered.unwrap()
    };
    assert!(matches!(offer(&blob.digest).await, Offer::Mounted));
    assert!(client.blob_exists(&to, &blob.digest, NOBODY).await.unwrap());
    let missing = Digest::of(b"missing");
    assert!(matches!(offer(&missing).await, Offer::Missing(_)));
    assert!(!client.blob_exists(&to, &missing, NOBODY).await.unwrap());
}

/// Pushes `layer` to `to` of a server, which may have it in `from`; the requests that were made.
async fn pushed(server: &Server, client: &Client, from: Option<&str>) -> Vec<String> {
    let before = server.log().len();
    let (to, from) = (
        server.reference("to"),
        from.map(|name| server.reference(name)),
    );
    let blob = layer(b"layer");
    let offered = client.offer_blob(&to, from.as_ref(), &blob.digest, NOBODY);
    if let Offer::Missing(opened) = offered.await.unwrap() {
        let open = || async {
            let bytes = Ok(Bytes::from_static(b"layer"));
            Ok(futures_util::stream::iter([bytes]).boxed())
        };
        let push = client.push_blob_from(&to, &blob, opened, open, NOBODY);
        push.await.unwrap();
    }
    server.log().split_off(before)
}

#[tokio::test]
async fn the_upload_of_a_registry_that_mounts_nothing_is_used_or_ended() {
    for (there, last) in [
        (404, "PUT /v2/to/blobs/uploads/1"),
        (200, "DELETE /v2/to/blobs/uploads/1"),
    ] {
        let server = Server::start(move |request| match request.method.as_str() {
            "POST" => Reply::status(202).with("Location", "/v2/to/blobs/uploads/1"),
            "HEAD" => Reply::status(there),
            _ => Reply::status(204),
        })
        .await;
        let log = pushed(&server, &client(&server), Some("from")).await;
        let digest = Digest::of(b"layer");
        let head = format!("HEAD /v2/to/blobs/{digest}");
        assert_eq!(log, ["POST /v2/to/blobs/uploads/", head.as_str(), last]);
        let post = &server.requests()[0];
        assert_eq!(post.query, format!("mount={digest}&from=from"));
    }
}

#[tokio::test]
async fn a_registry_that_refuses_a_mount_gets_the_blob() {
    for status in [401, 403, 404, 405, 500] {
        let server = Server::start(move |request| match request.method.as_str() {
            "POST" if request.query.is_empty() => {
                Reply::status(202).with("Location", "/v2/to/blobs/uploads/1")
            }
            "POST" => Reply::status(status),
            "HEAD" => Reply::status(404),
            _ => Reply::status(201),
        })
        .await;
        let log = pushed(&server, &client(&server), Some("from")).await;
        let last = log.last().map(String::as_str);
        assert_eq!(last, Some("PUT /v2/to/blobs/uploads/1"), "{status}");
    }
}

#[tokio::test]
async fn a_blob_is_mounted_from_where_this_machine_has_seen_it() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(|request| match request.method.as_str() {
        "GET" => Reply::ok("layer"),
        "POST" if request.query.contains("mount=") => Reply::status(201),
        "POST" => Reply::status(202).with("Location", "/v2/to/blobs/uploads/1"),
        "HEAD" => Reply::status(404),
        _ => Reply::status(201),
    })
    .await;
    let settings = || ClientConfig {
        locations: Some(dir.path().to_owned()),
        ..config(&support::insecure(&server))
    };
    let log = pushed(&server, &Client::new(settings()), None).await;
    assert_eq!(log.len(), 3, "nothing is known, and it is sent: {log:?}");
    // One process reads it from a repository, and another one pushes it to a second.
    let source = Source {
        reference: server.reference("seen"),
        ..server.source()
    };
    let reader = Client::new(settings());
    let read = support::pull(&reader, &source, &layer(b"layer")).await;
    assert_eq!(read.unwrap(), b"layer");
    let log = pushed(&server, &Client::new(settings()), None).await;
    assert_eq!(log, ["POST /v2/to/blobs/uploads/"]);
    let last = server.requests().pop().unwrap();
    assert!(last.query.ends_with("&from=seen"), "{}", last.query);
}

#[tokio::test]
async fn the_token_for_a_mount_may_read_the_other_repository() {
    for credentials in [
        Credentials::basic("ali", "sesame"),
        Credentials::IdentityToken("rt".to_owned()),
    ] {
        let server = Server::start(|request| match request.path.as_str() {
            "/token" => Reply::ok(r#"{"token":"t"}"#),
            _ if request.header("authorization") == "Bearer t" => Reply::status(201),
            _ => {
                let realm = format!("Bearer realm=\"http://{}/token\"", request.header("host"));
                Reply::status(401).with("WWW-Authenticate", realm)
            }
        })
        .await;
        let (to, from) = (server.reference("to"), server.reference("from"));
        let digest = Digest::of(b"layer");
        let client = client(&server);
        let offered = client.offer_blob(&to, Some(&from), &digest, &credentials);
        assert!(matches!(offered.await.unwrap(), Offer::Mounted));
        let requests = server.requests();
        let asked = requests.iter().find(|request| request.path == "/token");
        let asked = asked.unwrap();
        let words = format!("{}{}", asked.query, String::from_utf8_lossy(&asked.body));
        let scopes: Vec<_> = url::form_urlencoded::parse(words.as_bytes())
            .filter(|(name, _)| name == "scope")
            .map(|(_, scope)| scope.into_owned())
            .collect();
        let scopes = scopes.join(" ");
        assert_eq!(scopes, "repository:to:pull,push repository:from:pull");
    }
}

#[tokio::test]
async fn a_tag_and_a_digest_are_deleted_by_digest() {
    let Some(registry) = RealRegistry::start(false) else {
        return;
    };
    let client = Client::new(config(&registry.insecure()));
    let put = async |tag: &str, platform: &str| {
        let name = registry.reference(&format!("x:{tag}"));
        let text = format!(r#"{{"architecture":"{platform}","os":"linux"}}"#);
        let config = Descriptor::of(MediaType::OciConfig, text.as_bytes());
        let body = BlobBody::Bytes(text.into());
        client
            .push_blob(&name, &config, body, NOBODY)
            .await
            .unwrap();
        let manifest = Manifest::new(MediaType::OciManifest, config, Vec::new());
        let bytes = Bytes::from(serde_json::to_vec(&manifest).unwrap());
        let pushed = client.push_manifest(&name, &MediaType::OciManifest, bytes, NOBODY);
        (name.clone(), pushed.await.unwrap())
    };
    let (by_tag, digest) = put("a", "amd64").await;
    assert_eq!(client.delete(&by_tag, NOBODY).await.unwrap(), digest);
    let (again, second) = put("b", "arm64").await;
    let by_digest = again.without_tag().with_digest(second.clone());
    assert_eq!(client.delete(&by_digest, NOBODY).await.unwrap(), second);
    for gone in [&by_tag, &again, &by_digest] {
        let error = failure(client.manifest(gone, NOBODY).await);
        assert!(matches!(&error, Error::NotFound { .. }), "{error}");
        let error = failure(client.delete(gone, NOBODY).await);
        assert!(matches!(&error, Error::NotFound { .. }), "{error}");
    }
}

#[tokio::test]
async fn dockers_manifests_and_lists_come_back_as_what_they_are() {
    let Some(registry) = RealRegistry::start(false) else {
        return;
    };
    let client = Client::new(config(&registry.insecure()));
    let name = registry.reference("docker:1");
    let content = r#"{"architecture":"arm64","os":"linux"}"#;
    let config = Descriptor::of(MediaType::DockerConfig, content.as_bytes());
    let body = BlobBody::Bytes(content.into());
    client
        .push_blob(&name, &config, body, NOBODY)
        .await
        .unwrap();
    let manifest = Manifest::new(MediaType::DockerManifest, config, Vec::new());
    let bytes = Bytes::from(serde_json::to_vec(&manifest).unwrap());
    let mut entry = Descriptor::of(MediaType::DockerManifest, &bytes);
    entry.platform = Platform::parse("linux/arm64");
    let by_digest = name.without_tag().with_digest(entry.digest.clone());
    let pushed = client.push_manifest(&by_digest, &MediaType::DockerManifest, bytes, NOBODY);
    pushed.await.unwrap();
    let list = Index {
        schema_version: 2,
        media_type: Some(MediaType::DockerManifestList),
        artifact_type: None,
        manifests: vec![entry.clone()],
        subject: None,
        annotations: Default::default(),
    };
    let bytes = Bytes::from(serde_json::to_vec(&list).unwrap());
    let kind = MediaType::DockerManifestList;
    let pushed = client.push_manifest(&name, &kind, bytes, NOBODY);
    pushed.await.unwrap();

    let fetched = client.manifest(&name, NOBODY).await.unwrap();
    assert_eq!(fetched.media_type, MediaType::DockerManifestList);
    assert!(matches!(fetched.parsed, AnyManifest::Index(_)));
    let image = client.manifest_beside(&fetched.source, &name, &entry.digest, NOBODY);
    let image = image.await.unwrap();
    assert_eq!(image.media_type, MediaType::DockerManifest);
    assert_eq!(image.digest, entry.digest);
}

#[tokio::test]
async fn a_registry_is_told_which_manifests_are_understood() {
    let server = Server::start(only_manifest).await;
    let pulled = client(&server)
        .manifest(&server.reference("x"), NOBODY)
        .await;
    pulled.unwrap();
    let [request] = server.requests().try_into().unwrap();
    let accepted: Vec<_> = request.header("accept").split(", ").collect();
    for kind in [
        MediaType::OciManifest,
        MediaType::OciIndex,
        MediaType::DockerManifest,
        MediaType::DockerManifestList,
    ] {
        assert!(accepted.contains(&kind.as_str()), "{accepted:?}");
    }
    assert_eq!(accepted.len(), 4, "schema 1 is not asked for: {accepted:?}");
}
