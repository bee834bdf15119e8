//! Logins and redirects: who gets to see which credentials.

use crate::support::{
    self, NOBODY, Reply, Request, Server, client, config, failure, flaw, insecure, layer,
    only_manifest, pull, refusal,
};
use distribution::{Client, Credentials, Error, ProtocolFlaw, RedirectFlaw};

/// `ali:sesame`
const ALI: &str = "Basic YWxpOnNlc2FtZQ==";

fn challenge(port: u16, more: &str) -> Reply {
    let value = format!(r#"Bearer realm="http://127.0.0.1:{port}/token",service="here"{more}"#);
    Reply::status(401).with("WWW-Authenticate", value)
}

fn port(request: &Request) -> u16 {
    request
        .header("host")
        .rsplit(':')
        .next()
        .unwrap()
        .parse()
        .unwrap()
}

/// A registry and its token service. The token says who got it and for what.
fn with_tokens(request: &Request) -> Reply {
    if request.path == "/token" {
        let who = match (
            request.header("authorization"),
            String::from_utf8_lossy(&request.body),
        ) {
            (ALI, _) => "ali",
            ("", body)
                if body.contains("refresh_token=rt")
                    && body.contains("grant_type=refresh_token") =>
            {
                "rt"
            }
            ("", body) if body.is_empty() => "nobody",
            _ => return Reply::status(401),
        };
        return Reply::ok(format!(
            r#"{{"access_token":"token-of-{who}","expires_in":300}}"#
        ));
    }
    match request.header("authorization") {
        "Bearer token-of-ali" | "Bearer token-of-rt" | "Bearer given" => {
            match request.path.contains("/blobs/") {
                true => Reply::ok("layer"),
                false => only_manifest(request),
            }
        }
        "Bearer token-of-nobody" if request.path.starts_with("/v2/public/") => {
            only_manifest(request)
        }
        "Bearer token-of-nobody" => Reply::status(403),
        _ => challenge(port(request), ""),
    }
}

#[tokio::test]
async fn a_token_is_fetched_once_for_all_requests_of_a_repository() {
    let server = Server::start(with_tokens).await;
    let client = client(&server);
    let ali = Credentials::basic("ali", "sesame");
    let fetched = client
        .manifest(&server.reference("private/x"), &ali)
        .await
        .unwrap();
    for _ in 0..3 {
        let stream = client
            .blob(&fetched.source, &layer(b"layer"), &ali)
            .await
            .unwrap();
        assert_eq!(support::collect(stream).await.unwrap(), b"layer");
    }
    let log = server.log();
    assert_eq!(
        log.iter().filter(|line| *line == "GET /token").count(),
        1,
        "{log:?}"
    );
    assert_eq!(
        log.len(),
        6,
        "the login is sent along once it is known: {log:?}"
    );
    let asked = server
        .requests()
        .into_iter()
        .find(|request| request.path == "/token")
        .unwrap();
    let query: Vec<_> = asked.query.split('&').collect();
    assert!(
        query.contains(&"scope=repository%3Aprivate%2Fx%3Apull"),
        "{query:?}"
    );
    assert!(
        query.contains(&"service=here") && query.contains(&"account=ali"),
        "{query:?}"
    );
}

#[tokio::test]
async fn one_callers_token_is_not_anothers() {
    let server = Server::start(with_tokens).await;
    let client = client(&server);
    let name = server.reference("private/x");
    let ali = Credentials::basic("ali", "sesame");
    assert!(client.manifest(&name, &ali).await.is_ok());
    let error = failure(client.manifest(&name, NOBODY).await);
    assert!(
        matches!(&error, Error::Unauthorized { status: 403, .. }),
        "{error}"
    );
    let error = failure(
        client
            .manifest(&name, &Credentials::basic("ali", "guess"))
            .await,
    );
    assert!(
        matches!(&error, Error::Unauthorized { status: 401, .. }),
        "{error}"
    );
    assert!(
        error.to_string().contains("/token") || error.to_string().contains("token for"),
        "{error}"
    );
    assert!(
        client
            .manifest(&server.reference("public/x"), NOBODY)
            .await
            .is_ok()
    );
}

#[tokio::test]
async fn identity_and_registry_tokens_are_used_as_what_they_are() {
    let server = Server::start(with_tokens).await;
    let client = client(&server);
    let name = server.reference("private/x");
    assert!(
        client
            .manifest(&name, &Credentials::IdentityToken("rt".into()))
            .await
            .is_ok()
    );
    let posts = server
        .log()
        .iter()
        .filter(|line| *line == "POST /token")
        .count();
    assert_eq!(posts, 1);
    assert!(
        client
            .manifest(&name, &Credentials::RegistryToken("given".into()))
            .await
            .is_ok()
    );
    let error = failure(
        client
            .manifest(&name, &Credentials::RegistryToken("stale".into()))
            .await,
    );
    assert!(matches!(&error, Error::Unauthorized { .. }), "{error}");
}

#[tokio::test]
async fn a_token_that_is_refused_is_replaced_once() {
    let server = Server::start(|request| match (request.path.as_str(), request.nth) {
        ("/token", nth) => Reply::ok(format!(r#"{{"token":"t{nth}"}}"#)),
        (_, _)
            if request.header("authorization") == "Bearer t0"
                && request.path.contains("second") =>
        {
            challenge(port(request), r#",error="invalid_token""#)
        }
        (_, _) if request.header("authorization").starts_with("Bearer t") => only_manifest(request),
        _ => challenge(port(request), ""),
    })
    .await;
    let client = client(&server);
    assert!(
        client
            .manifest(&server.reference("x:first"), NOBODY)
            .await
            .is_ok()
    );
    assert!(
        client
            .manifest(&server.reference("x:second"), NOBODY)
            .await
            .is_ok()
    );
    let tokens = server
        .log()
        .iter()
        .filter(|line| *line == "GET /token")
        .count();
    assert_eq!(tokens, 2);
}

#[tokio::test]
async fn a_login_in_no_known_way_is_an_error() {
    let server = Server::start(|_| Reply::status(401).with("WWW-Authenticate", "Negotiate")).await;
    let error = refusal(&server).await;
    assert_eq!(flaw(&error), ProtocolFlaw::Challenge);
    let server = Server::start(|request| match request.path.as_str() {
        "/token" => Reply::ok("{}"),
        _ => challenge(port(request), ""),
    })
    .await;
    let error = refusal(&server).await;
    assert_eq!(flaw(&error), ProtocolFlaw::Token);
    let server = Server::start(|_| {
        Reply::status(401).with("WWW-Authenticate", "Bearer realm=\"file:///etc/x\"")
    })
    .await;
    let error = refusal(&server).await;
    assert_eq!(flaw(&error), ProtocolFlaw::Realm);
}

#[tokio::test]
async fn redirects_are_followed_without_credentials() {
    let storage = Server::start(|_| Reply::ok("layer")).await;
    let place = format!("http://{}/bucket/layer?signature=1", storage.domain());
    let server = Server::start(move |request| match request.header("authorization") {
        ALI => Reply::status(307).with("Location", &place),
        _ => Reply::status(401).with("WWW-Authenticate", "Basic realm=x"),
    })
    .await;
    let ali = Credentials::basic("ali", "sesame");
    let stream = client(&server)
        .blob(&server.source(), &layer(b"layer"), &ali)
        .await
        .unwrap();
    assert_eq!(support::collect(stream).await.unwrap(), b"layer");
    let [asked] = storage.requests().try_into().unwrap();
    assert_eq!(
        (asked.path.as_str(), asked.query.as_str()),
        ("/bucket/layer", "signature=1")
    );
    assert_eq!(
        asked.header("authorization"),
        "",
        "the other host saw the password"
    );
}

#[tokio::test]
async fn a_redirect_back_does_not_bring_the_credentials_back() {
    let server = Server::start(|request| match request.path.as_str() {
        "/v2/secret" if !request.header("authorization").is_empty() => Reply::ok("layer"),
        "/v2/secret" => Reply::status(403),
        _ if request.header("authorization").is_empty() => {
            Reply::status(401).with("WWW-Authenticate", "Basic realm=x")
        }
        _ => Reply::status(302).with("Location", request.header("x-never")),
    })
    .await;
    let home = format!("http://{}/v2/secret", server.domain());
    let bounce = Server::start(move |_| Reply::status(302).with("Location", &home)).await;
    let away = format!("http://{}/", bounce.domain());
    let registry = Server::start(move |request| match request.header("authorization") {
        ALI => Reply::status(302).with("Location", &away),
        _ => Reply::status(401).with("WWW-Authenticate", "Basic realm=x"),
    })
    .await;
    let ali = Credentials::basic("ali", "sesame");
    let error = failure(
        client(&registry)
            .blob(&registry.source(), &layer(b"layer"), &ali)
            .await
            .map(|_| ()),
    );
    assert!(
        matches!(&error, Error::Unauthorized { status: 403, .. }),
        "{error}"
    );
}

#[tokio::test]
async fn bad_redirects_are_refused() {
    let server = Server::start(|request| {
        let target = match request.path.rsplit('/').next().unwrap() {
            "file" => "file:///etc/passwd".to_owned(),
            "loop" => request.path.clone(),
            _ => return Reply::status(302),
        };
        Reply::status(302).with("Location", target)
    })
    .await;
    let client = client(&server);
    for (tag, expected) in [
        ("file", RedirectFlaw::Scheme),
        ("loop", RedirectFlaw::TooMany),
        ("nowhere", RedirectFlaw::NoLocation),
    ] {
        let error = failure(
            client
                .manifest(&server.reference(&format!("x:{tag}")), NOBODY)
                .await,
        );
        assert!(
            matches!(&error, Error::Redirect { flaw, .. } if *flaw == expected),
            "{tag}: {error}"
        );
    }
    let loops = server
        .log()
        .iter()
        .filter(|line| line.ends_with("/loop"))
        .count();
    assert_eq!(loops, 6, "the first and five redirects");
}

#[tokio::test]
async fn a_write_is_not_redirected() {
    let server = Server::start(|request| match request.method.as_str() {
        "HEAD" => Reply::status(404),
        _ => Reply::status(307).with("Location", "/elsewhere"),
    })
    .await;
    let body = distribution::BlobBody::Bytes("layer".into());
    let pushed = client(&server)
        .push_blob(&server.reference("x"), &layer(b"layer"), body, NOBODY)
        .await;
    let error = failure(pushed);
    assert!(
        matches!(
            &error,
            Error::Redirect {
                flaw: RedirectFlaw::Write,
                ..
            }
        ),
        "{error}"
    );
}

#[tokio::test]
async fn a_mirror_never_sees_the_registrys_credentials() {
    let mirror =
        Server::start(|_| Reply::status(401).with("WWW-Authenticate", "Basic realm=x")).await;
    let server = Server::start(|request| match request.header("authorization") {
        ALI => only_manifest(request),
        _ => Reply::status(401).with("WWW-Authenticate", "Basic realm=x"),
    })
    .await;
    let registries = format!(
        "{}[[registry.mirror]]\nlocation = \"{}\"\ninsecure = true\n",
        insecure(&server),
        mirror.domain()
    );
    let client = Client::new(config(&registries));
    let ali = Credentials::basic("ali", "sesame");
    let fetched = client.manifest(&server.reference("x"), &ali).await.unwrap();
    assert!(!fetched.source.mirror);
    assert!(
        mirror
            .requests()
            .iter()
            .all(|request| request.header("authorization").is_empty())
    );
    assert!(!mirror.requests().is_empty());
}

#[tokio::test]
async fn an_insecure_registry_is_tried_over_https_only_until_it_is_known() {
    let server = Server::start(only_manifest).await;
    let client = client(&server);
    for _ in 0..2 {
        assert!(
            client
                .manifest(&server.reference("x"), NOBODY)
                .await
                .is_ok()
        );
    }
    let error = failure(pull(&client, &server.source(), &layer(b"none")).await);
    assert!(
        error
            .to_string()
            .contains(&format!("http://{}", server.domain())),
        "{error}"
    );
}
