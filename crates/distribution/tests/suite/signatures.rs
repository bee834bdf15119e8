//! Signatures of images in registries: where they are looked for, how much of them is read, and where
//! they are kept.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use crate::support::{Reply, Request, Server, config, failure, insecure};
use distribution::{Client, ClientConfig, Credentials, Error, Source};
use image::{Descriptor, Digest, Manifest, MediaType, Reference};
use trust::signature::Attachment;
use trust::{RegistriesD, Signature};

const TYPE: &str = "application/vnd.dev.cosign.simplesigning.v1+json";

fn registries_d(text: &str) -> RegistriesD {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("a.yaml"), text).unwrap();
    RegistriesD::load(&[dir.path().to_owned()]).unwrap()
}

fn client(server: &Server, registries: &str) -> Client {
    Client::new(ClientConfig {
        registries_d: registries_d(registries),
        ..config(&insecure(server))
    })
}

/// Signatures beside the image, on the same server, below `/sigs`.
fn beside(server: &Server) -> Client {
    let url = format!("http://{}/sigs", server.domain());
    client(server, &format!("default-docker: {{lookaside: '{url}'}}"))
}

/// Signatures attached to the image, and none elsewhere.
fn attached(server: &Server) -> Client {
    let text = "default-docker: {lookaside: 'file:///nowhere', use-sigstore-attachments: true}";
    client(server, text)
}

fn source(server: &Server) -> Source {
    Source {
        insecure: true,
        ..Source::direct(server.reference("a/b:1"))
    }
}

fn digest() -> Digest {
    Digest::of(b"manifest")
}

async fn ask(client: &Client, server: &Server) -> Result<Vec<Signature>, Error> {
    let nobody = Credentials::basic("user", "secret");
    client.signatures(&source(server), &digest(), &nobody).await
}

#[tokio::test]
async fn signatures_beside_an_image_are_read_one_by_one_until_one_is_missing() {
    let server = Server::start(|request| {
        assert_eq!(
            request.header("authorization"),
            "",
            "a login that is not for it"
        );
        match request.path.rsplit_once('-').unwrap().1 {
            "1" => Reply::ok([0xc4, 1]),
            "2" => Reply::ok(
                *b"\0sigstore-json\n{\"mimeType\":\"a\",\"payload\":\"eA==\",\"annotations\":{}}",
            ),
            _ => Reply::status(404),
        }
    })
    .await;
    let found = ask(&beside(&server), &server).await.unwrap();
    assert_eq!(found[0], Signature::Simple(vec![0xc4, 1]));
    assert!(matches!(&found[1], Signature::Sigstore(one) if one.payload == b"x"));
    let place = format!("/sigs/a/b@sha256={}", digest().hex());
    let wanted = (1..4).map(|number| format!("GET {place}/signature-{number}"));
    assert_eq!(server.log(), wanted.collect::<Vec<_>>());
}

#[tokio::test]
async fn signatures_without_end_or_measure_are_refused() {
    let endless = Server::start(|_| Reply::ok([0xc4])).await;
    let error = failure(ask(&beside(&endless), &endless).await).to_string();
    assert!(error.contains("more than 128 signatures"), "{error}");

    let large = Server::start(|_| Reply {
        endless: true,
        ..Reply::ok([0xc4])
    })
    .await;
    let error = failure(ask(&beside(&large), &large).await);
    assert!(
        matches!(error, Error::TooLarge { limit, .. } if limit == 4 << 20),
        "{error}"
    );

    let broken = Server::start(|_| Reply::ok(*b"<html>hello</html>")).await;
    let error = failure(ask(&beside(&broken), &broken).await).to_string();
    assert!(
        error.contains("signature-1") && error.contains("neither"),
        "{error}"
    );
}

#[tokio::test]
async fn a_place_that_fails_is_not_a_place_without_signatures() {
    for status in [403, 500] {
        let server = Server::start(move |_| Reply::status(status)).await;
        failure(ask(&beside(&server), &server).await);
    }
    let server = Server::start(|_| Reply::status(404)).await;
    let gone = client(
        &server,
        "default-docker: {lookaside: 'http://127.0.0.1:1/'}",
    );
    let error = failure(ask(&gone, &server).await);
    assert!(matches!(error, Error::Unreachable { .. }), "{error}");
    let leads_away =
        Server::start(|_| Reply::status(302).with("Location", "file:///etc/passwd")).await;
    let error = failure(ask(&beside(&leads_away), &leads_away).await);
    assert!(matches!(error, Error::Redirect { .. }), "{error}");
}

fn layer(payload: &[u8]) -> Descriptor {
    let mut layer = Descriptor::of(TYPE.into(), payload);
    layer.annotations = BTreeMap::from([("key".to_owned(), "value".to_owned())]);
    layer
}

/// A registry with attachments: these layers, whose blobs all have this content.
fn attachments(layers: Vec<Descriptor>, content: &'static [u8]) -> impl Fn(&Request) -> Reply {
    let config = Descriptor::of(MediaType::OciConfig, b"{}");
    let manifest = Manifest::new(MediaType::OciManifest, config, layers);
    let manifest = serde_json::to_vec(&manifest).unwrap();
    let tag = format!("/manifests/sha256-{}.sig", digest().hex());
    move |request| match request.path.contains("/blobs/") {
        true => Reply::ok(content),
        false if request.path.ends_with(&tag) => {
            Reply::manifest(&MediaType::OciManifest, manifest.clone())
        }
        false => Reply::status(404),
    }
}

#[tokio::test]
async fn attachments_are_the_layers_of_a_tag_and_only_read_where_that_is_said() {
    let server = Server::start(attachments(vec![layer(b"payload")], b"payload")).await;
    let found = ask(&attached(&server), &server).await.unwrap();
    let [Signature::Sigstore(one)] = found.as_slice() else {
        panic!("{found:?}");
    };
    assert_eq!(
        (one.media_type.as_str(), &*one.payload),
        (TYPE, &b"payload"[..])
    );
    assert_eq!(one.annotations["key"], "value");

    let before = server.log().len();
    let text = "default-docker: {lookaside: 'file:///nowhere'}";
    assert!(
        ask(&client(&server, text), &server)
            .await
            .unwrap()
            .is_empty()
    );
    assert_eq!(server.log().len(), before);

    let none = Server::start(|_| Reply::status(404)).await;
    assert!(ask(&attached(&none), &none).await.unwrap().is_empty());
}

#[tokio::test]
async fn attachments_that_are_too_many_too_large_or_others_than_said_are_refused() {
    let mut large = layer(b"payload");
    large.size = (4 << 20) + 1;
    let other: &[u8] = b"PAYLOAD";
    for (layers, content, words) in [
        (
            vec![layer(b"payload"); 129],
            &b"payload"[..],
            "more than 128",
        ),
        (vec![large], b"payload", "more than 4194304"),
        (vec![layer(b"payload")], other, "digest mismatch"),
        (vec![layer(b"payload")], b"pay", "sent only 3 of 7 bytes"),
    ] {
        let server = Server::start(attachments(layers, content)).await;
        let error = failure(ask(&attached(&server), &server).await).to_string();
        assert!(error.contains(words), "{error}");
    }
    let index = Server::start(|_| {
        let index = br#"{"schemaVersion":2,"mediaType":"application/vnd.oci.image.index.v1+json","manifests":[]}"#;
        Reply::manifest(&MediaType::OciIndex, *index)
    })
    .await;
    let error = failure(ask(&attached(&index), &index).await).to_string();
    assert!(
        error.contains(".sig") && error.contains("neither"),
        "{error}"
    );
}

#[tokio::test]
async fn a_mirror_is_asked_for_its_own_signatures() {
    let mirror = Server::start(attachments(vec![layer(b"payload")], b"payload")).await;
    let own = Server::start(|_| Reply::status(500)).await;
    let client = attached(&own);
    let source = Source {
        mirror: true,
        ..source(&mirror)
    };
    let found = client
        .signatures(&source, &digest(), &Credentials::Anonymous)
        .await;
    assert_eq!(found.unwrap().len(), 1);
    assert!(own.log().is_empty());
}

fn simple(byte: u8) -> Signature {
    Signature::Simple(vec![0xc4, byte])
}

async fn keep(
    client: &Client,
    reference: &Reference,
    signatures: &[Signature],
) -> Result<(), Error> {
    let nobody = Credentials::Anonymous;
    client
        .push_signatures(reference, &digest(), signatures, &nobody)
        .await
}

#[tokio::test]
async fn simple_signatures_are_kept_as_files_in_place_of_the_former() {
    let server = Server::start(|_| Reply::status(500)).await;
    let dir = tempfile::tempdir().unwrap();
    let staging = format!(
        "default-docker: {{lookaside: 'http://127.0.0.1:1/', lookaside-staging: 'file://{}'}}",
        dir.path().display()
    );
    let (client, reference) = (client(&server, &staging), server.reference("a/b:1"));
    keep(&client, &reference, &[simple(1), simple(2), simple(3)])
        .await
        .unwrap();
    keep(&client, &reference, &[simple(4)]).await.unwrap();
    let place = dir.path().join(format!("a/b@sha256={}", digest().hex()));
    let names: Vec<_> = std::fs::read_dir(&place)
        .unwrap()
        .map(|entry| entry.unwrap().file_name())
        .collect();
    assert_eq!(names, ["signature-1"]);
    assert_eq!(std::fs::read(place.join("signature-1")).unwrap(), [0xc4, 4]);
    assert!(server.log().is_empty());

    let url = beside(&server);
    let error = failure(keep(&url, &reference, &[simple(1)]).await).to_string();
    assert!(error.contains("lookaside-staging"), "{error}");
}

#[tokio::test]
async fn attached_signatures_are_pushed_beside_those_that_are_there() {
    let pushed: Arc<Mutex<Vec<u8>>> = Arc::default();
    let seen = Arc::clone(&pushed);
    let there = attachments(vec![layer(b"payload")], b"payload");
    let server = Server::start(move |request| match request.method.as_str() {
        "PUT" if request.path.contains("/manifests/") => {
            *seen.lock().unwrap() = request.body.clone();
            Reply::status(201)
        }
        "PUT" => Reply::status(201),
        "POST" => Reply::status(202).with("Location", "/upload"),
        "HEAD" => Reply::status(404),
        _ => there(request),
    })
    .await;
    let one = |payload: &[u8]| {
        let layer = layer(payload);
        Signature::Sigstore(Attachment {
            media_type: TYPE.into(),
            payload: payload.to_vec(),
            annotations: layer.annotations,
        })
    };
    let reference = server.reference("a/b:1");
    let both = [one(b"payload"), one(b"another")];
    keep(&attached(&server), &reference, &both).await.unwrap();
    let manifest: Manifest = serde_json::from_slice(&pushed.lock().unwrap()).unwrap();
    assert_eq!(manifest.layers, [layer(b"payload"), layer(b"another")]);

    let error = failure(keep(&beside(&server), &reference, &both).await).to_string();
    assert!(error.contains("use-sigstore-attachments"), "{error}");
}
