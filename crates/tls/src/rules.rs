//! Which versions and cipher suites are spoken: at the most what rustls holds for safe, TLS 1.2 and 1.3
//! with forward secrecy and authenticated encryption.

use rustls::crypto::CryptoProvider;
use rustls::{ProtocolVersion, SupportedCipherSuite, SupportedProtocolVersion, version};

/// The least that a client has to speak.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Rules {
    /// TLS 1.2 is refused.
    only_13: bool,
    /// The suites of TLS 1.2 that are left, by their names at IANA; `None`: all. Those of 1.3 are not chosen
    /// among, as with Go's servers.
    suites: Option<Vec<String>>,
}

impl Rules {
    /// As Kubernetes and CRI-O write them: `VersionTLS12` or `VersionTLS13`, and names of suites as Go has
    /// them; empty: no wish. An older version is never spoken, and neither is a suite that rustls does not have:
    /// both are passed over with a warning. Without any suite of TLS 1.2 that is left, only 1.3 is spoken.
    ///
    /// # Errors
    /// In words: no name of a version.
    pub fn parse(least: &str, suites: &[String]) -> Result<Self, String> {
        let only_13 = match least {
            "" | "VersionTLS12" => false,
            "VersionTLS13" => true,
            "VersionTLS10" | "VersionTLS11" => {
                tracing::warn!(asked = least, "TLS before 1.2 is not spoken");
                false
            }
            _ => {
                return Err(format!(
                    "{least:?} is neither VersionTLS12 nor VersionTLS13"
                ));
            }
        };
        if suites.is_empty() {
            return Ok(Self {
                only_13,
                suites: None,
            });
        }
        let all = rustls::crypto::ring::default_provider().cipher_suites;
        let known = |name: &String| all.iter().find(|suite| is_named(suite, name));
        let (mut chosen, mut unknown) = (Vec::new(), Vec::new());
        for name in suites {
            match known(name).map(SupportedCipherSuite::suite) {
                Some(suite) => chosen.extend(suite.as_str().map(str::to_owned)),
                None => unknown.push(name.as_str()),
            }
        }
        if !unknown.is_empty() {
            tracing::warn!(
                suites = unknown.join(", "),
                "cipher suites that are not spoken"
            );
        }
        Ok(Self {
            only_13,
            suites: Some(chosen),
        })
    }

    /// The provider with what is left.
    pub(crate) fn provider(&self) -> CryptoProvider {
        let mut provider = rustls::crypto::ring::default_provider();
        if let Some(chosen) = &self.suites {
            provider
                .cipher_suites
                .retain(|suite| is_13(suite) || chosen.iter().any(|name| is_named(suite, name)));
        }
        provider
    }

    /// The versions that are left.
    pub(crate) fn versions(
        &self,
        provider: &CryptoProvider,
    ) -> &'static [&'static SupportedProtocolVersion] {
        match self.only_13 || provider.cipher_suites.iter().all(is_13) {
            true => NEWEST,
            false => rustls::DEFAULT_VERSIONS,
        }
    }
}

static NEWEST: &[&SupportedProtocolVersion] = &[&version::TLS13];

fn is_13(suite: &SupportedCipherSuite) -> bool {
    suite.version().version == ProtocolVersion::TLSv1_3
}

/// rustls marks the names of TLS 1.3, and Go has two that lack their hash.
fn is_named(suite: &SupportedCipherSuite, name: &str) -> bool {
    let own = suite.suite().as_str().unwrap_or_default();
    let rest = |name: &str| -> Option<String> {
        let rest = name.strip_prefix("TLS13_").or(name.strip_prefix("TLS_"))?;
        let whole = match rest.ends_with("CHACHA20_POLY1305") {
            true => format!("{rest}_SHA256"),
            false => rest.to_owned(),
        };
        Some(whole)
    };
    rest(own).is_some_and(|own| rest(name) == Some(own))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use rustls::pki_types::ServerName;
    use rustls::{ClientConfig, ClientConnection, RootCertStore, ServerConnection};

    use super::*;
    use crate::TlsOptions;

    const RSA: &str = "TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256";
    const AES_128: &str = "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256";
    const AES_256: &str = "TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384";

    /// A server with these rules, and clients of it.
    struct Lab {
        server: TlsOptions,
        roots: Arc<RootCertStore>,
        _dir: tempfile::TempDir,
    }

    impl Lab {
        fn new(least: &str, suites: &[&str]) -> Self {
            let dir = tempfile::tempdir().unwrap();
            let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
            let (certificate, key) = (dir.path().join("cert.pem"), dir.path().join("key.pem"));
            std::fs::write(&certificate, made.cert.pem()).unwrap();
            std::fs::write(&key, made.signing_key.serialize_pem()).unwrap();
            let mut roots = RootCertStore::empty();
            roots.add(made.cert.der().clone()).unwrap();
            let suites: Vec<String> = suites.iter().map(|&name| name.to_owned()).collect();
            let server = TlsOptions {
                certificate,
                key,
                client_ca: None,
                rules: Rules::parse(least, &suites).unwrap(),
            };
            Self {
                server,
                roots: Arc::new(roots),
                _dir: dir,
            }
        }

        /// What a client that has these versions gets.
        fn spoken(
            &self,
            versions: &[&'static SupportedProtocolVersion],
        ) -> Result<(ProtocolVersion, String), rustls::Error> {
            let provider = Arc::new(rustls::crypto::ring::default_provider());
            let config = ClientConfig::builder_with_provider(provider)
                .with_protocol_versions(versions)
                .unwrap()
                .with_root_certificates(Arc::clone(&self.roots))
                .with_no_client_auth();
            let name = ServerName::try_from("localhost").unwrap();
            let mut client = ClientConnection::new(Arc::new(config), name).unwrap();
            let mut server = ServerConnection::new(self.server.config(&[]).unwrap()).unwrap();
            while client.is_handshaking() || server.is_handshaking() {
                let mut bytes = Vec::new();
                client.write_tls(&mut bytes).unwrap();
                server.read_tls(&mut &bytes[..]).unwrap();
                server.process_new_packets()?;
                bytes.clear();
                server.write_tls(&mut bytes).unwrap();
                client.read_tls(&mut &bytes[..]).unwrap();
                client.process_new_packets()?;
            }
            let suite = server.negotiated_cipher_suite().unwrap().suite();
            let suite = suite.as_str().unwrap().to_owned();
            Ok((server.protocol_version().unwrap(), suite))
        }
    }

    const OLD: &[&SupportedProtocolVersion] = &[&version::TLS12];
    const NEW: &[&SupportedProtocolVersion] = &[&version::TLS13];

    #[test]
    fn without_a_wish_both_versions_are_spoken_and_with_one_the_older_is_refused() {
        let lab = Lab::new("", &[]);
        assert_eq!(lab.spoken(OLD).unwrap().0, ProtocolVersion::TLSv1_2);
        assert_eq!(lab.spoken(NEW).unwrap().0, ProtocolVersion::TLSv1_3);
        let lab = Lab::new("VersionTLS13", &[]);
        lab.spoken(OLD).unwrap_err();
        assert_eq!(lab.spoken(NEW).unwrap().0, ProtocolVersion::TLSv1_3);
    }

    #[test]
    fn of_the_suites_of_1_2_only_those_that_are_named_are_spoken() {
        for suite in [AES_128, AES_256] {
            let lab = Lab::new("VersionTLS12", &[RSA, suite]);
            assert_eq!(lab.spoken(OLD).unwrap().1, suite);
            assert_eq!(lab.spoken(NEW).unwrap().0, ProtocolVersion::TLSv1_3);
        }
        let lab = Lab::new("", &["TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305"]);
        let spoken = lab.spoken(OLD).unwrap().1;
        assert_eq!(spoken, "TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256");
    }

    #[test]
    fn without_a_suite_of_1_2_that_can_be_spoken_only_1_3_is() {
        for named in ["TLS_RSA_WITH_AES_128_CBC_SHA", "TLS_AES_128_GCM_SHA256"] {
            let lab = Lab::new("VersionTLS12", &[named]);
            lab.spoken(OLD).unwrap_err();
            assert_eq!(lab.spoken(NEW).unwrap().0, ProtocolVersion::TLSv1_3);
        }
    }

    #[test]
    fn what_is_no_version_is_refused() {
        let error = Rules::parse("TLS1.3", &[]).unwrap_err();
        assert!(error.contains("\"TLS1.3\""), "{error}");
        assert_eq!(Rules::parse("VersionTLS10", &[]).unwrap(), Rules::default());
    }
}
