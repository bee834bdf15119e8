//! Blobs and manifests from registries that break, lie, stall and never end.

use std::time::Duration;

use crate::support::{
    self, NOBODY, Reply, Server, client, config, failure, flaw, insecure, layer, manifest, noise,
    only_manifest, pull, refusal,
};
use distribution::{Client, Error, ProtocolFlaw, Retry};
use image::{Digest, ManifestFlaw, MediaType};

fn partial(body: &[u8], from: usize) -> Reply {
    let range = format!("bytes {from}-{}/{}", body.len() - 1, body.len());
    Reply {
        status: 206,
        ..Reply::ok(&body[from..])
    }
    .with("Content-Range", range)
}

#[tokio::test]
async fn a_broken_download_goes_on_where_it_stopped() {
    let body = noise(1 << 20);
    let content = body.clone();
    let server = Server::start(move |request| match request.range() {
        None => Reply {
            cut: Some(300_000),
            ..Reply::ok(content.clone())
        },
        Some(from) if request.nth < 4 => Reply {
            cut: Some(150_000),
            ..partial(&content, from)
        },
        Some(from) => partial(&content, from),
    })
    .await;
    assert_eq!(
        pull(&client(&server), &server.source(), &layer(&body))
            .await
            .unwrap(),
        body
    );
    let ranges: Vec<_> = server
        .requests()
        .iter()
        .map(support::Request::range)
        .collect();
    // More breaks than tries: each made progress, and so began the count anew.
    assert_eq!(
        ranges,
        [
            None,
            Some(300_000),
            Some(450_000),
            Some(600_000),
            Some(750_000)
        ]
    );
}

#[tokio::test]
async fn a_server_without_ranges_is_read_again_from_the_start() {
    let body = noise(500_000);
    let content = body.clone();
    let server = Server::start(move |request| match request.nth {
        0 => Reply {
            cut: Some(200_001),
            ..Reply::ok(content.clone())
        },
        _ => Reply::ok(content.clone()),
    })
    .await;
    assert_eq!(
        pull(&client(&server), &server.source(), &layer(&body))
            .await
            .unwrap(),
        body
    );
    assert_eq!(server.log().len(), 2);
}

#[tokio::test]
async fn a_download_that_never_gets_on_is_given_up() {
    let body = noise(100_000);
    let content = body.clone();
    let server = Server::start(move |request| match request.range() {
        None => Reply {
            cut: Some(10),
            ..Reply::ok(content.clone())
        },
        Some(from) => Reply {
            cut: Some(10),
            ..partial(&content, from)
        },
    })
    .await;
    let error = failure(pull(&client(&server), &server.source(), &layer(&body)).await);
    assert!(
        matches!(
            &error,
            Error::Truncated {
                expected: 100_000,
                received: 30,
                ..
            }
        ),
        "{error}"
    );
    assert_eq!(server.log().len(), 3);
}

#[tokio::test]
async fn a_wrong_range_is_not_taken_for_the_rest() {
    let body = noise(100_000);
    let content = body.clone();
    let server = Server::start(move |request| match request.range() {
        None => Reply {
            cut: Some(10_000),
            ..Reply::ok(content.clone())
        },
        Some(from) => partial(&content, from + 1),
    })
    .await;
    let error = failure(pull(&client(&server), &server.source(), &layer(&body)).await);
    assert_eq!(flaw(&error), ProtocolFlaw::Range);
}

#[tokio::test]
async fn other_bytes_than_promised_are_an_error_at_the_end() {
    let server = Server::start(|_| Reply::ok("evil bytes")).await;
    let error = failure(pull(&client(&server), &server.source(), &layer(b"good bytes")).await);
    let Error::Image(image::Error::DigestMismatch {
        expected,
        actual,
        subject,
    }) = &error
    else {
        panic!("{error}")
    };
    assert_eq!(
        (expected, actual),
        (&Digest::of(b"good bytes"), &Digest::of(b"evil bytes"))
    );
    assert!(subject.contains(&server.domain()), "{subject}");
    let unverified = client(&server)
        .blob_unverified(&server.source(), &layer(b"good bytes"), NOBODY)
        .await;
    assert_eq!(
        support::collect(unverified.unwrap()).await.unwrap(),
        b"evil bytes"
    );
}

#[tokio::test]
async fn a_wrong_length_is_known_before_the_first_byte() {
    let server = Server::start(|_| Reply::ok("12345")).await;
    let client = client(&server);
    let error = failure(pull(&client, &server.source(), &layer(b"1234")).await);
    assert!(
        matches!(&error, Error::TooLarge { limit: 4, .. }),
        "{error}"
    );
    let error = failure(pull(&client, &server.source(), &layer(b"123456")).await);
    assert!(
        matches!(
            &error,
            Error::Truncated {
                expected: 6,
                received: 5,
                ..
            }
        ),
        "{error}"
    );
}

#[tokio::test]
async fn an_endless_body_is_cut_off() {
    let server = Server::start(|_| Reply {
        endless: true,
        ..Reply::status(200)
    })
    .await;
    let client = client(&server);
    let error = failure(pull(&client, &server.source(), &layer(&noise(100_000))).await);
    assert!(
        matches!(&error, Error::TooLarge { limit: 100_000, .. }),
        "{error}"
    );
    let error = failure(client.manifest(&server.reference("x"), NOBODY).await);
    assert!(
        matches!(
            &error,
            Error::TooLarge {
                limit: 4_194_304,
                ..
            }
        ),
        "{error}"
    );
}

#[tokio::test]
async fn a_stalled_connection_is_replaced() {
    let body = noise(300_000);
    let content = body.clone();
    let server = Server::start(move |request| match request.range() {
        None => Reply {
            body: content[..100_000].to_vec(),
            length: Some(content.len()),
            stall: true,
            ..Reply::ok("")
        },
        Some(from) => partial(&content, from),
    })
    .await;
    let mut settings = config(&insecure(&server));
    settings.stall_timeout = Duration::from_millis(200);
    assert_eq!(
        pull(&Client::new(settings), &server.source(), &layer(&body))
            .await
            .unwrap(),
        body
    );
}

#[tokio::test]
async fn an_empty_blob_is_a_blob() {
    let server = Server::start(|_| Reply::ok("")).await;
    assert_eq!(
        pull(&client(&server), &server.source(), &layer(b""))
            .await
            .unwrap(),
        b""
    );
}

#[tokio::test]
async fn too_many_requests_are_tried_again_as_the_server_asks() {
    let server = Server::start(|request| match request.nth {
        0 => Reply::status(429).with("Retry-After", 1),
        _ => only_manifest(request),
    })
    .await;
    assert!(
        client(&server)
            .manifest(&server.reference("x"), NOBODY)
            .await
            .is_ok()
    );

    // A date in the past is now; another server's overload is waited for like too many requests.
    let server = Server::start(|request| match request.nth {
        0 => Reply::status(503).with("Retry-After", "Wed, 21 Oct 2015 07:28:00 GMT"),
        1 => Reply::status(429).with("Retry-After", "0"),
        _ => only_manifest(request),
    })
    .await;
    let slow = Client::new(distribution::ClientConfig {
        // Its own pauses would take this test beyond all patience.
        retry: Retry {
            attempts: 3,
            first_delay: Duration::from_secs(3600),
            max_delay: Duration::from_secs(3600),
        },
        ..config(&insecure(&server))
    });
    assert!(slow.manifest(&server.reference("x"), NOBODY).await.is_ok());

    let server = Server::start(|_| Reply::status(429).with("Retry-After", 3600)).await;
    let error = refusal(&server).await;
    let hour = Some(Duration::from_secs(3600));
    assert!(
        matches!(&error, Error::RateLimited { retry_after, .. } if *retry_after == hour),
        "{error}"
    );
    assert_eq!(server.log().len(), 1, "an hour is not waited for");
}

#[tokio::test]
async fn a_failing_server_is_tried_a_few_times() {
    let server = Server::start(|request| match request.nth {
        0 => Reply::status(503),
        1 => Reply {
            cut: Some(3),
            ..only_manifest(request)
        },
        _ => only_manifest(request),
    })
    .await;
    assert!(
        client(&server)
            .manifest(&server.reference("x"), NOBODY)
            .await
            .is_ok()
    );

    let server = Server::start(|_| Reply {
        status: 500,
        ..Reply::ok("database is on fire")
    })
    .await;
    let error = refusal(&server).await;
    assert!(
        matches!(&error, Error::ServerError { status: 500, .. }),
        "{error}"
    );
    assert!(error.to_string().contains("database is on fire"), "{error}");
    assert_eq!(server.log().len(), 3);
}

#[tokio::test]
async fn a_registry_that_is_down_is_unreachable_at_once() {
    let gone = Server::start(only_manifest).await;
    let (registries, name) = (insecure(&gone), gone.reference("x"));
    drop(gone);
    let client = Client::new(config(&registries));
    let error = failure(client.manifest(&name, NOBODY).await);
    assert!(matches!(&error, Error::Unreachable { .. }), "{error}");
    assert!(error.to_string().contains("Connection refused"), "{error}");
}

#[tokio::test]
async fn a_manifest_must_have_the_digest_asked_for_or_announced() {
    let server = Server::start(|request| match request.path.as_str() {
        "/v2/lying/manifests/latest" => {
            only_manifest(request).with("Docker-Content-Digest", Digest::of(b"other"))
        }
        "/v2/odd/manifests/latest" => {
            only_manifest(request).with("Docker-Content-Digest", "sha256:../..")
        }
        _ => only_manifest(request),
    })
    .await;
    let client = client(&server);
    let asked = server.reference("x").with_digest(Digest::of(b"other"));
    for name in [asked, server.reference("lying")] {
        let error = failure(client.manifest(&name, NOBODY).await);
        assert!(
            matches!(&error, Error::Image(image::Error::DigestMismatch { .. })),
            "{name}: {error}"
        );
    }
    let error = failure(client.manifest(&server.reference("odd"), NOBODY).await);
    assert_eq!(flaw(&error), ProtocolFlaw::ContentDigest);
    let sha512 = Digest::of_with(image::Algorithm::Sha512, &manifest());
    let good = client
        .manifest(&server.reference("x").with_digest(sha512.clone()), NOBODY)
        .await
        .unwrap();
    assert_eq!(good.digest, sha512);
}

#[tokio::test]
async fn what_is_no_manifest_is_refused() {
    let server = Server::start(|request| match request.path.as_str() {
        "/v2/old/manifests/latest" => Reply::manifest(&MediaType::DockerSchemaOneSigned, "{}")
            .with("Docker-Content-Digest", Digest::of(b"without signatures")),
        "/v2/html/manifests/latest" => Reply::ok("<html>").with("Content-Type", "text/html"),
        "/v2/endless/manifests/latest" => Reply {
            endless: true,
            ..Reply::ok("")
        },
        "/v2/deep/manifests/latest" => Reply::manifest(
            &MediaType::OciManifest,
            format!(
                r#"{{"schemaVersion":2,"config":{}"#,
                r#"{"a":"#.repeat(200_000)
            ),
        ),
        _ => Reply {
            length: Some(5 << 20),
            ..Reply::ok(vec![b' '; 5 << 20])
        },
    })
    .await;
    let client = client(&server);
    let error = failure(client.manifest(&server.reference("old"), NOBODY).await);
    assert!(
        matches!(
            &error,
            Error::Image(image::Error::Manifest {
                reason: ManifestFlaw::SchemaOne
            })
        ),
        "{error}"
    );
    let error = failure(client.manifest(&server.reference("html"), NOBODY).await);
    let flaw = ProtocolFlaw::WebPage;
    assert!(
        matches!(&error, Error::Protocol { flaw: seen, .. } if *seen == flaw),
        "{error}"
    );
    let error = failure(client.manifest(&server.reference("deep"), NOBODY).await);
    assert!(
        matches!(&error, Error::Image(image::Error::Json { .. })),
        "{error}"
    );
    for name in ["huge", "endless"] {
        let error = failure(client.manifest(&server.reference(name), NOBODY).await);
        assert!(matches!(&error, Error::TooLarge { .. }), "{error}");
    }
}

#[tokio::test]
async fn a_manifest_that_comes_drop_by_drop_is_given_up() {
    let server = Server::start(|_| Reply {
        drip: Some(Duration::from_millis(20)),
        ..Reply::ok(vec![b' '; 1 << 20])
    })
    .await;
    let client = Client::new(distribution::ClientConfig {
        stall_timeout: Duration::from_millis(200),
        retry: Retry {
            attempts: 1,
            ..Retry::default()
        },
        ..config(&insecure(&server))
    });
    let error = failure(client.manifest(&server.reference("x"), NOBODY).await);
    assert!(error.to_string().contains("too slowly"), "{error}");
}

/// The first and the last byte of a range that has both.
fn both_ends(request: &support::Request) -> Option<(usize, usize)> {
    let (from, to) = request
        .header("range")
        .strip_prefix("bytes=")?
        .split_once('-')?;
    Some((from.parse().ok()?, to.parse().ok()?))
}

const LARGE: usize = (64 << 20) + 5;

fn part(body: &[u8], from: usize, to: usize) -> Reply {
    let range = format!("bytes {from}-{to}/{}", body.len());
    Reply {
        status: 206,
        ..Reply::ok(&body[from..=to])
    }
    .with("Content-Range", range)
}

#[tokio::test]
async fn a_large_blob_comes_in_parts_that_survive_breaks() {
    let body = noise(LARGE);
    let content = body.clone();
    let broken = std::sync::atomic::AtomicBool::new(false);
    let server = Server::start(move |request| {
        let (from, to) = both_ends(request).unwrap();
        let once = || !broken.swap(true, std::sync::atomic::Ordering::Relaxed);
        match from == 4 << 20 && once() {
            true => Reply {
                cut: Some(1_000_000),
                ..part(&content, from, to)
            },
            false => part(&content, from, to),
        }
    })
    .await;
    let pulled = pull(&client(&server), &server.source(), &layer(&body)).await;
    assert!(pulled.unwrap() == body);
    let mut ranges: Vec<_> = server.requests().iter().filter_map(both_ends).collect();
    ranges.sort_unstable();
    assert_eq!(ranges.len(), 18, "{ranges:?}");
    assert_eq!(ranges[0], (0, (4 << 20) - 1));
    assert!(
        ranges.contains(&((4 << 20) + 1_000_000, (8 << 20) - 1)),
        "{ranges:?}"
    );
    assert_eq!(ranges[17], (64 << 20, LARGE - 1));
}

#[tokio::test]
async fn a_large_blob_comes_whole_from_a_server_without_ranges() {
    let body = noise(LARGE);
    let content = body.clone();
    let server = Server::start(move |request| match request.nth {
        0 => Reply {
            cut: Some(10_000_000),
            ..Reply::ok(content.clone())
        },
        _ => Reply::ok(content.clone()),
    })
    .await;
    let pulled = pull(&client(&server), &server.source(), &layer(&body)).await;
    assert!(pulled.unwrap() == body);
    assert_eq!(server.log().len(), 2);
}

#[tokio::test]
async fn parts_that_are_others_than_those_asked_for_are_refused() {
    let body = noise(LARGE);
    for flaw in ["shifted", "whole", "longer", "shorter", "other bytes"] {
        let content = body.clone();
        let server = Server::start(move |request| {
            let (from, to) = both_ends(request).unwrap();
            match flaw {
                _ if from == 0 => part(&content, from, to),
                "shifted" => part(&content, from + 1, to),
                "whole" => Reply::ok(content.clone()),
                "longer" => part(&content, from, content.len().min(to + 2) - 1),
                "shorter" => part(&content, from, to - 1),
                _ => {
                    let mut reply = part(&content, from, to);
                    reply.body[0] ^= 1;
                    reply
                }
            }
        })
        .await;
        let error = failure(pull(&client(&server), &server.source(), &layer(&body)).await);
        let expected = match flaw {
            "shifted" | "whole" => matches!(
                &error,
                Error::Protocol {
                    flaw: ProtocolFlaw::Range,
                    ..
                }
            ),
            "longer" => matches!(&error, Error::TooLarge { .. }),
            "shorter" => matches!(&error, Error::Truncated { .. }),
            _ => matches!(&error, Error::Image(image::Error::DigestMismatch { .. })),
        };
        assert!(expected, "{flaw}: {error}");
    }
}
