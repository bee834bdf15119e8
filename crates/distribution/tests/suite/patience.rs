//! How long a registry is waited for, and what is said when it was in vain.

use std::io;
use std::time::Duration;

use crate::support::{
    self, NOBODY, Reply, Request, Server, client, config, failure, flaw, insecure, layer, manifest,
    noise, only_manifest, pull, refusal,
};
use bytes::Bytes;
use distribution::{BlobBody, Client, ClientConfig, Credentials, Error, Offer, ProtocolFlaw};
use futures_util::stream::{self, StreamExt};
use image::{MediaType, Reference};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

fn silent(_: &Request) -> Reply {
    Reply {
        silent: true,
        ..Reply::default()
    }
}

/// Settings that wait for little.
fn hasty(registries: &str) -> ClientConfig {
    ClientConfig {
        answer_timeout: Duration::from_millis(200),
        stall_timeout: Duration::from_millis(300),
        ..config(registries)
    }
}

#[tokio::test]
async fn an_answer_that_does_not_begin_is_waited_for_twice_and_no_more() {
    let server = Server::start(silent).await;
    let client = Client::new(hasty(&insecure(&server)));
    let error = failure(client.manifest(&server.reference("x"), NOBODY).await);
    assert!(error.is_timeout(), "{error}");
    assert!(error.to_string().contains("no answer within"), "{error}");
    assert_eq!(server.log().len(), 2);
    let error = failure(client.tags(&server.reference("x"), NOBODY).await);
    assert!(error.is_timeout(), "{error}");
    let error = failure(pull(&client, &server.source(), &layer(b"x")).await);
    assert!(error.is_timeout(), "{error}");
    assert_eq!(server.log().len(), 6);
}

#[tokio::test]
async fn a_token_service_that_does_not_answer_is_waited_for_twice_and_no_more() {
    let tokens = Server::start(silent).await;
    let realm = format!("Bearer realm=\"http://{}/token\"", tokens.domain());
    let server = Server::start(move |_| Reply::status(401).with("WWW-Authenticate", &realm)).await;
    let client = Client::new(hasty(&insecure(&server)));
    let error = failure(client.manifest(&server.reference("x"), NOBODY).await);
    assert!(error.is_timeout(), "{error}");
    assert!(error.to_string().contains("token for"), "{error}");
    assert_eq!(tokens.log().len(), 2);
}

#[tokio::test]
async fn a_blob_that_comes_drop_by_drop_is_given_up() {
    let body = noise(100_000);
    let content = body.clone();
    let server = Server::start(move |request| {
        let from = request.range().unwrap_or_default();
        let range = format!("bytes {from}-{}/{}", content.len() - 1, content.len());
        let drip = Some(Duration::from_millis(20));
        match from {
            0 => Reply {
                drip,
                ..Reply::ok(content.clone())
            },
            _ => Reply {
                status: 206,
                drip,
                ..Reply::ok(&content[from..])
            }
            .with("Content-Range", range),
        }
    })
    .await;
    let client = Client::new(hasty(&insecure(&server)));
    let error = failure(pull(&client, &server.source(), &layer(&body)).await);
    assert!(error.is_timeout(), "{error}");
    assert!(error.to_string().contains("too slowly"), "{error}");
    assert_eq!(server.log().len(), 3);
}

#[tokio::test]
async fn a_reader_that_takes_its_time_does_not_make_a_blob_slow() {
    let body = noise(1 << 20);
    let content = body.clone();
    let server = Server::start(move |_| Reply::ok(content.clone())).await;
    let client = Client::new(hasty(&insecure(&server)));
    let mut blob = client
        .blob(&server.source(), &layer(&body), NOBODY)
        .await
        .unwrap();
    let mut all = Vec::new();
    while let Some(chunk) = blob.next().await {
        all.extend_from_slice(&chunk.unwrap());
        if all.len() < 50_000 {
            tokio::time::sleep(Duration::from_millis(400)).await;
        }
    }
    assert!(all == body);
    assert_eq!(server.log().len(), 1);
}

/// A registry with a mirror before it.
fn mirrored(mirror: &Server, own: &Server) -> String {
    format!(
        "[[registry]]\nprefix = \"registry.example\"\nlocation = \"{}/own\"\ninsecure = true\n\
         [[registry.mirror]]\nlocation = \"{}/m\"\ninsecure = true\n",
        own.domain(),
        mirror.domain()
    )
}

#[tokio::test]
async fn a_mirror_that_was_waited_for_in_vain_is_passed_over_for_a_while() {
    let mirror = Server::start(silent).await;
    let own = Server::start(only_manifest).await;
    let client = Client::new(hasty(&mirrored(&mirror, &own)));
    for tag in ["1", "2", "3"] {
        let name = Reference::parse(&format!("registry.example/x:{tag}")).unwrap();
        let fetched = client.manifest(&name, NOBODY).await.unwrap();
        assert!(!fetched.source.mirror);
    }
    // Both tries of the first, and none for the others.
    assert_eq!(mirror.log().len(), 2);
    assert_eq!(own.log().len(), 3);
}

#[tokio::test]
async fn a_mirror_that_only_failed_is_asked_again() {
    let mirror = Server::start(|_| Reply::status(404)).await;
    let own = Server::start(only_manifest).await;
    let client = Client::new(config(&mirrored(&mirror, &own)));
    let name = Reference::parse("registry.example/x:1").unwrap();
    client.manifest(&name, NOBODY).await.unwrap();
    client.manifest(&name, NOBODY).await.unwrap();
    assert_eq!(mirror.log().len(), 2);
}

#[tokio::test]
async fn what_belongs_to_an_image_is_asked_for_where_the_image_was() {
    let mirror = Server::start(|request| match request.nth {
        0 => only_manifest(request),
        _ => Reply::status(500),
    })
    .await;
    let own = Server::start(only_manifest).await;
    let client = Client::new(config(&mirrored(&mirror, &own)));
    let name = Reference::parse("registry.example/x:1").unwrap();
    let top = client.manifest(&name, NOBODY).await.unwrap();
    assert!(top.source.mirror);
    let beside = client
        .manifest_beside(&top.source, &name, &top.digest, NOBODY)
        .await
        .unwrap();
    assert!(beside.source.mirror);
    // Another time the mirror fails, and the registry itself has it.
    let beside = client
        .manifest_beside(&top.source, &name, &top.digest, NOBODY)
        .await
        .unwrap();
    assert!(!beside.source.mirror);
}

#[tokio::test]
async fn an_upload_may_take_long_as_long_as_it_goes_on() {
    let server = Server::start(|request| match request.method.as_str() {
        "POST" => Reply::status(202).with("Location", "/v2/x/blobs/uploads/1"),
        "HEAD" => Reply::status(404),
        _ => Reply::status(201),
    })
    .await;
    let body = noise(100_000);
    let pieces: Vec<Bytes> = body.chunks(10_000).map(Bytes::copy_from_slice).collect();
    let slow = stream::iter(pieces).then(|piece| async move {
        tokio::time::sleep(Duration::from_millis(100)).await;
        Ok::<_, io::Error>(piece)
    });
    let client = Client::new(hasty(&insecure(&server)));
    let (to, blob) = (server.reference("x"), layer(&body));
    let pushed = client.push_blob(&to, &blob, BlobBody::stream(slow), NOBODY);
    pushed.await.unwrap();
    let requests = server.requests();
    assert!(requests.last().unwrap().body == body);
    let puts = requests.iter().filter(|request| request.method == "PUT");
    assert_eq!(puts.count(), 1, "{:?}", server.log());
}

/// Opens every upload, and reads no byte of what is put there.
async fn full(listener: TcpListener) {
    let mut kept = Vec::new();
    while let Ok((mut stream, _)) = listener.accept().await {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            match stream.read_u8().await {
                Ok(byte) => head.push(byte),
                Err(_) => break,
            }
        }
        let answer = match head.split(|byte| *byte == b' ').next() {
            Some(b"POST") => {
                "HTTP/1.1 202 X\r\nLocation: /v2/x/blobs/uploads/1\r\nContent-Length: 0\r\n\
                 Connection: close\r\n\r\n"
            }
            Some(b"HEAD" | b"GET") => {
                "HTTP/1.1 404 X\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
            }
            _ => {
                kept.push(stream);
                continue;
            }
        };
        // A client that went away gets none.
        let _ = stream.write_all(answer.as_bytes()).await;
    }
}

#[tokio::test]
async fn a_registry_that_takes_nothing_is_given_up() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let domain = listener.local_addr().unwrap().to_string();
    let server = tokio::spawn(full(listener));
    let registries = format!("[[registry]]\nlocation = \"{domain}\"\ninsecure = true\n");
    let client = Client::new(hasty(&registries));
    let body = Bytes::from(noise(32 << 20));
    let (to, blob) = (
        Reference::parse(&format!("{domain}/x")).unwrap(),
        layer(&body),
    );
    let offered = client.offer_blob(&to, None, &blob.digest, NOBODY).await;
    let Offer::Missing(opened) = offered.unwrap() else {
        panic!("it has nothing")
    };
    let content = || async {
        let body = body.clone();
        Ok(stream::once(async move { Ok(body) }).boxed())
    };
    let error = failure(
        client
            .push_blob_from(&to, &blob, opened, content, NOBODY)
            .await,
    );
    assert!(error.is_timeout(), "{error}");
    server.abort();
}

#[tokio::test]
async fn a_page_for_people_is_called_one_wherever_a_document_should_be() {
    let page =
        || Reply::ok("<!DOCTYPE html><title>Sign in</title>").with("Content-Type", "text/html");
    let server = Server::start(move |_| page()).await;
    let client = client(&server);
    let name = server.reference("x");
    let tokens = Server::start(move |_| page()).await;
    let realm = format!("Bearer realm=\"http://{}/token\"", tokens.domain());
    let asks = Server::start(move |_| Reply::status(401).with("WWW-Authenticate", &realm)).await;
    let user = Credentials::basic("u", "p");
    for error in [
        failure(client.manifest(&name, NOBODY).await),
        failure(client.tags(&name, NOBODY).await),
        failure(client.log_in(&server.domain(), &user).await),
        failure(
            support::client(&asks)
                .manifest(&asks.reference("x"), NOBODY)
                .await,
        ),
    ] {
        assert_eq!(flaw(&error), ProtocolFlaw::WebPage);
        assert!(error.to_string().contains("web page"), "{error}");
    }
}

/// Answers TLS as web servers do that know plain HTTP only: with words, or not at all.
async fn plain(listener: TcpListener, words: &'static str) {
    while let Ok((mut stream, _)) = listener.accept().await {
        let mut hello = [0; 4096];
        let _ = stream.read(&mut hello).await;
        let _ = stream.write_all(words.as_bytes()).await;
    }
}

#[tokio::test]
async fn a_registry_without_tls_is_told_from_one_that_is_away() {
    let client = Client::new(config(""));
    for answer in ["HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n", ""] {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let domain = listener.local_addr().unwrap().to_string();
        let server = tokio::spawn(plain(listener, answer));
        let name = Reference::parse(&format!("{domain}/x")).unwrap();
        let error = failure(client.manifest(&name, NOBODY).await).to_string();
        for words in [
            "does not speak TLS",
            "--tls-verify=false",
            "insecure = true",
        ] {
            assert!(error.contains(words), "{words}: {error}");
        }
        server.abort();
    }
    let server = Server::start(only_manifest).await;
    let gone = server.reference("x");
    drop(server);
    let error = failure(client.manifest(&gone, NOBODY).await).to_string();
    assert!(!error.contains("TLS"), "{error}");
}

#[tokio::test]
async fn the_registrys_words_about_too_many_requests_are_shown() {
    let server = Server::start(|_| Reply {
        status: 429,
        ..Reply::ok(r#"{"errors":[{"code":"TOOMANYREQUESTS","message":"pay\u001b[31m us"}]}"#)
    })
    .await;
    let error = refusal(&server).await;
    assert!(error.to_string().contains("pay [31m us"), "{error}");
}

#[tokio::test]
async fn an_endless_list_of_tags_is_cut_off() {
    let long = "t".repeat(100);
    let tags = serde_json::to_vec(&vec![long; 30_000]).unwrap();
    let page = [&b"{\"tags\":"[..], &tags, b"}"].concat();
    let server = Server::start(move |request| {
        let next = format!("</v2/x/tags/list?last={}>; rel=\"next\"", request.nth);
        Reply::ok(page.clone()).with("Link", next)
    })
    .await;
    let error = failure(client(&server).tags(&server.reference("x"), NOBODY).await);
    assert!(matches!(&error, Error::TooLarge { .. }), "{error}");
    assert!(server.log().len() < 30);
}

#[tokio::test]
async fn answers_of_every_kind_in_any_order_end() {
    let replies = [401_u16, 429, 503, 500, 401, 503, 429, 500];
    for turn in 0..replies.len() {
        let server = Server::start(move |request| {
            let status = replies[(request.nth + turn) % replies.len()];
            Reply::status(status)
                .with("WWW-Authenticate", "Basic realm=\"x\"")
                .with("Retry-After", 0)
        })
        .await;
        let user = Credentials::basic("u", "p");
        let settled = client(&server)
            .manifest(&server.reference("x"), &user)
            .await;
        assert!(settled.is_err());
        // Three tries, each of which may be asked to log in.
        assert!(server.log().len() <= 6, "{:?}", server.log());
    }
    // And success after all of them is success.
    let server = Server::start(move |request| match request.nth {
        0 => Reply::status(401).with("WWW-Authenticate", "Basic realm=\"x\""),
        1 => Reply::status(429).with("Retry-After", 0),
        2 => Reply::status(503),
        _ => Reply::manifest(&MediaType::OciManifest, manifest()),
    })
    .await;
    let user = Credentials::basic("u", "p");
    let fetched = client(&server)
        .manifest(&server.reference("x"), &user)
        .await;
    assert!(fetched.is_ok(), "{:?}", server.log());
}
