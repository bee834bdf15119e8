//! The Distribution spec's push, pull and discovery against Debian's docker-registry.

use crate::support::real::RealRegistry;
use crate::support::{self, NOBODY, collect, config, failure, noise};
use bytes::Bytes;
use distribution::{BlobBody, Client, Credentials, Error};
use image::{AnyManifest, Descriptor, Digest, Index, Manifest, MediaType, Platform};

fn platform(text: &str) -> Option<Platform> {
    Platform::parse(text)
}

/// Pushes an image of one config and one layer; returns the descriptor of its manifest.
async fn push_image(
    client: &Client,
    registry: &RealRegistry,
    name: &str,
    layer: &[u8],
) -> Descriptor {
    let target = registry.reference(name);
    let config_bytes = format!(
        r#"{{"architecture":"amd64","os":"linux","x":{}}}"#,
        layer.len()
    );
    let config = Descriptor::of(MediaType::OciConfig, config_bytes.as_bytes());
    let layer_descriptor = Descriptor::of(MediaType::OciLayer, layer);
    let body = BlobBody::Bytes(Bytes::from(config_bytes));
    assert!(
        client
            .push_blob(&target, &config, body, NOBODY)
            .await
            .unwrap()
    );
    let reader = std::io::Cursor::new(layer.to_vec());
    assert!(
        client
            .push_blob(&target, &layer_descriptor, BlobBody::reader(reader), NOBODY)
            .await
            .unwrap()
    );
    let manifest = Manifest::new(MediaType::OciManifest, config, vec![layer_descriptor]);
    let bytes = serde_json::to_vec(&manifest).unwrap();
    let descriptor = Descriptor::of(MediaType::OciManifest, &bytes);
    let digest = client
        .push_manifest(&target, &MediaType::OciManifest, bytes.into(), NOBODY)
        .await
        .unwrap();
    assert_eq!(digest, descriptor.digest);
    descriptor
}

#[tokio::test]
async fn an_image_comes_back_as_it_was_pushed() {
    let Some(registry) = RealRegistry::start(false) else {
        return;
    };
    let client = Client::new(config(&registry.insecure()));
    let layer = noise(3 << 20);
    let pushed = push_image(&client, &registry, "team/app:v1", &layer).await;

    let name = registry.reference("team/app:v1");
    let pulled = client.manifest(&name, NOBODY).await.unwrap();
    assert_eq!(pulled.digest, pushed.digest);
    assert_eq!(pulled.media_type, MediaType::OciManifest);
    let AnyManifest::Manifest(manifest) = &pulled.parsed else {
        panic!("{pulled:?}");
    };
    let descriptor = &manifest.layers[0];
    let stream = client
        .blob(&pulled.source, descriptor, NOBODY)
        .await
        .unwrap();
    assert_eq!(stream.size(), layer.len() as u64);
    assert_eq!(collect(stream).await.unwrap(), layer);

    let by_digest = name.without_tag().with_digest(pushed.digest.clone());
    assert_eq!(
        client.manifest(&by_digest, NOBODY).await.unwrap().bytes,
        pulled.bytes
    );
    let both = name.with_digest(pushed.digest.clone());
    assert_eq!(
        client.manifest(&both, NOBODY).await.unwrap().digest,
        pushed.digest
    );

    assert!(
        client
            .blob_exists(&name, &descriptor.digest, NOBODY)
            .await
            .unwrap()
    );
    assert!(
        !client
            .blob_exists(&name, &Digest::of(b"other"), NOBODY)
            .await
            .unwrap()
    );
    let again = BlobBody::Bytes(layer.into());
    assert!(
        !client
            .push_blob(&name, descriptor, again, NOBODY)
            .await
            .unwrap(),
        "what is there is not sent again"
    );
}

#[tokio::test]
async fn an_index_comes_back_with_what_it_points_to() {
    let Some(registry) = RealRegistry::start(false) else {
        return;
    };
    let client = Client::new(config(&registry.insecure()));
    let mut amd64 = push_image(&client, &registry, "multi:a", b"for amd64").await;
    let mut arm64 = push_image(&client, &registry, "multi:b", b"for arm64!").await;
    amd64.platform = platform("linux/amd64");
    arm64.platform = platform("linux/arm64/v8");
    let index = Index {
        schema_version: 2,
        media_type: Some(MediaType::OciIndex),
        artifact_type: None,
        manifests: vec![arm64.clone(), amd64.clone()],
        subject: None,
        annotations: Default::default(),
    };
    let name = registry.reference("multi");
    let bytes = Bytes::from(serde_json::to_vec(&index).unwrap());
    client
        .push_manifest(&name, &MediaType::OciIndex, bytes.clone(), NOBODY)
        .await
        .unwrap();

    let fetched = client.manifest(&name, NOBODY).await.unwrap();
    assert_eq!(fetched.bytes, bytes);
    let AnyManifest::Index(found) = &fetched.parsed else {
        panic!("{fetched:?}");
    };
    assert_eq!(found.manifests, [arm64, amd64]);
    for entry in &found.manifests {
        let image = client.manifest_beside(&fetched.source, &name, &entry.digest, NOBODY);
        let image = image.await.unwrap();
        assert_eq!(image.descriptor().digest, entry.digest);
        assert!(matches!(image.parsed, AnyManifest::Manifest(_)));
    }

    let mut tags = client.tags(&name, NOBODY).await.unwrap();
    tags.sort();
    assert_eq!(tags, ["a", "b", "latest"]);
}

#[tokio::test]
async fn what_does_not_exist_is_not_found() {
    let Some(registry) = RealRegistry::start(false) else {
        return;
    };
    let client = Client::new(config(&registry.insecure()));
    let name = registry.reference("no/such:image");
    let error = failure(client.manifest(&name, NOBODY).await);
    assert!(matches!(&error, Error::NotFound { .. }), "{error}");
    let expected = format!(
        "manifest {name}: not found at http://{}: manifest unknown",
        registry.domain()
    );
    assert_eq!(error.to_string(), expected);
    let source = distribution::Source {
        reference: name.clone(),
        insecure: true,
        mirror: false,
    };
    let error = failure(support::pull(&client, &source, &support::layer(b"nothing")).await);
    assert!(matches!(&error, Error::NotFound { .. }), "{error}");
    assert!(matches!(
        failure(client.tags(&name, NOBODY).await),
        Error::NotFound { .. }
    ));
}

#[tokio::test]
async fn a_blob_with_another_digest_is_refused_by_the_registry() {
    let Some(registry) = RealRegistry::start(false) else {
        return;
    };
    let client = Client::new(config(&registry.insecure()));
    let name = registry.reference("x");
    let wrong = Descriptor::new(MediaType::OciLayer, Digest::of(b"other"), 5);
    let error = failure(
        client
            .push_blob(&name, &wrong, BlobBody::Bytes("bytes".into()), NOBODY)
            .await,
    );
    assert!(
        matches!(&error, Error::UnexpectedStatus { status: 400, .. }),
        "{error}"
    );
    let lying = name.with_digest(Digest::of(b"other"));
    let error = failure(
        client
            .push_manifest(&lying, &MediaType::OciManifest, "{}".into(), NOBODY)
            .await,
    );
    assert!(
        matches!(&error, Error::Image(image::Error::DigestMismatch { .. })),
        "{error}"
    );
}

#[tokio::test]
async fn a_login_is_needed_where_the_registry_wants_one() {
    let Some(registry) = RealRegistry::start(true) else {
        return;
    };
    let client = Client::new(config(&registry.insecure()));
    let name = registry.reference("private:1");
    let ali = Credentials::basic("ali", "opensesame");
    let bytes = Bytes::from(support::manifest());
    for (content, descriptor) in [
        ("{}", "application/vnd.oci.image.config.v1+json"),
        ("layer", "a/b"),
    ] {
        let descriptor = Descriptor::of(descriptor.into(), content.as_bytes());
        client
            .push_blob(&name, &descriptor, BlobBody::Bytes(content.into()), &ali)
            .await
            .unwrap();
    }
    client
        .push_manifest(&name, &MediaType::OciManifest, bytes.clone(), &ali)
        .await
        .unwrap();
    assert_eq!(client.manifest(&name, &ali).await.unwrap().bytes, bytes);

    for other in [
        Credentials::Anonymous,
        Credentials::Stored,
        Credentials::basic("ali", "wrong"),
    ] {
        let error = failure(client.manifest(&name, &other).await);
        assert!(
            matches!(&error, Error::Unauthorized { status: 401, .. }),
            "{other:?}: {error}"
        );
        assert!(!error.to_string().contains("wrong"), "{error}");
    }
}

#[tokio::test]
async fn a_login_is_found_in_the_auth_file() {
    let Some(registry) = RealRegistry::start(true) else {
        return;
    };
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("auth.json");
    // "ali:opensesame"
    let text = format!(
        r#"{{"auths":{{"{}":{{"auth":"YWxpOm9wZW5zZXNhbWU="}}}}}}"#,
        registry.domain()
    );
    std::fs::write(&file, text).unwrap();
    let mut settings = config(&registry.insecure());
    settings.auth = distribution::AuthFiles::only(file);
    let client = Client::new(settings);
    let error = failure(
        client
            .manifest(&registry.reference("none"), &Credentials::Stored)
            .await,
    );
    assert!(matches!(&error, Error::NotFound { .. }), "{error}");
    let error = failure(client.manifest(&registry.reference("none"), NOBODY).await);
    assert!(matches!(&error, Error::Unauthorized { .. }), "{error}");
}

#[tokio::test]
async fn localhost_needs_no_name_server() {
    let Some(registry) = RealRegistry::start(false) else {
        return;
    };
    let domain = format!("localhost:{}", registry.port);
    let mut settings = config(&format!(
        "[[registry]]\nlocation = \"{domain}\"\ninsecure = true\n"
    ));
    let dir = tempfile::tempdir().unwrap();
    let resolv_conf = dir.path().join("resolv.conf");
    settings.resolv_conf.clone_from(&resolv_conf);
    settings.hosts_file = dir.path().join("hosts");
    let client = Client::new(settings);
    let name = image::Reference::parse(&format!("{domain}/none")).unwrap();
    let error = failure(client.manifest(&name, NOBODY).await);
    assert!(matches!(&error, Error::NotFound { .. }), "{error}");
    let name = image::Reference::parse("registry.example/none").unwrap();
    let error = failure(client.manifest(&name, NOBODY).await);
    assert!(matches!(&error, Error::Unreachable { .. }), "{error}");
    assert!(
        error.to_string().contains(resolv_conf.to_str().unwrap()),
        "{error}"
    );
}
