//! containers-tls-details.yaml(5): which versions, ciphers and groups of TLS may be used.
//!
//! Must only ever narrow what rustls allows by itself.

use std::path::Path;

use base::file::read_text;
use rustls::crypto::{CryptoProvider, ring};
use rustls::{NamedGroup, SupportedProtocolVersion, version};
use serde::Deserialize;

use crate::error::{Error, Result};

/// No such file is larger.
const MAX_FILE: u64 = 1 << 20;

static NEWEST: [&SupportedProtocolVersion; 1] = [&version::TLS13];

/// What of TLS may be used; by default all that is safe.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase", default)]
pub struct TlsDetails {
    /// The least version: 1.0 to 1.3. Nothing below 1.2 is ever spoken.
    min_version: Option<String>,
    /// Cipher suites by their IANA names.
    cipher_suites: Option<Vec<String>>,
    /// Groups by their IANA names.
    named_groups: Option<Vec<String>>,
}

impl TlsDetails {
    /// Reads a file. Names of what this program does not have anyway are passed over.
    ///
    /// # Errors
    /// [`Error::TlsDetails`] for a file that cannot be read or understood, or that leaves nothing to be used.
    pub fn open(path: &Path) -> Result<TlsDetails> {
        let flawed = |cause: String| Error::TlsDetails {
            path: path.to_owned(),
            cause,
        };
        let text = read_text(path, MAX_FILE).map_err(|error| flawed(error.to_string()))?;
        let text = text.ok_or_else(|| flawed("no such file".into()))?;
        let read = match text.trim().is_empty() {
            true => None,
            false => serde_saphyr::from_str(&text).map_err(|error| flawed(error.to_string()))?,
        };
        let details: TlsDetails = read.unwrap_or_default();
        let versions = details.versions().ok_or_else(|| {
            let version = details.min_version.as_deref().unwrap_or_default();
            flawed(format!(
                "minVersion {version:?} is none of 1.0, 1.1, 1.2 and 1.3"
            ))
        })?;
        let provider = details.provider();
        let usable = |version: &&SupportedProtocolVersion| {
            let mut suites = provider.cipher_suites.iter();
            suites.any(|suite| suite.version().version == version.version)
        };
        match versions.iter().any(usable) && !provider.kx_groups.is_empty() {
            true => Ok(details),
            false => Err(flawed(
                "it leaves no cipher suite or group that can be used".into(),
            )),
        }
    }

    /// The versions that may be spoken; `None` when the least is none.
    fn versions(&self) -> Option<&'static [&'static SupportedProtocolVersion]> {
        match self.min_version.as_deref() {
            None | Some("1.0" | "1.1" | "1.2") => Some(rustls::ALL_VERSIONS),
            Some("1.3") => Some(&NEWEST),
            Some(_) => None,
        }
    }

    /// The versions that may be spoken.
    pub(super) fn allowed(&self) -> &'static [&'static SupportedProtocolVersion] {
        self.versions().unwrap_or(&[])
    }

    /// ring with what may be used of it.
    pub(super) fn provider(&self) -> CryptoProvider {
        let mut provider = ring::default_provider();
        if let Some(allowed) = &self.cipher_suites {
            provider.cipher_suites.retain(|suite| {
                // rustls tells the suites of 1.3 apart in its names, and IANA does not.
                let name = format!("{:?}", suite.suite()).replace("TLS13_", "TLS_");
                allowed.contains(&name)
            });
        }
        if let Some(allowed) = &self.named_groups {
            provider
                .kx_groups
                .retain(|group| allowed.iter().any(|name| name == group_name(group.name())));
        }
        provider
    }
}

/// IANA's name of a group that ring has.
fn group_name(group: NamedGroup) -> &'static str {
    match group {
        NamedGroup::X25519 => "x25519",
        NamedGroup::secp256r1 => "secp256r1",
        NamedGroup::secp384r1 => "secp384r1",
        _ => "",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn open(text: &str) -> Result<TlsDetails> {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), text).unwrap();
        TlsDetails::open(file.path())
    }

    #[test]
    fn what_may_be_used_is_narrowed() {
        let all = open("").unwrap();
        assert_eq!(all.allowed().len(), 2);
        let whole = ring::default_provider();
        assert_eq!(
            all.provider().cipher_suites.len(),
            whole.cipher_suites.len()
        );
        let some = "minVersion: \"1.3\"\ncipherSuites: [TLS_AES_128_GCM_SHA256, TLS_MADE_UP]\nnamedGroups: [secp384r1]\n";
        let some = open(some).unwrap();
        assert_eq!(some.allowed().len(), 1);
        let provider = some.provider();
        assert_eq!(
            (provider.cipher_suites.len(), provider.kx_groups.len()),
            (1, 1)
        );
        assert_eq!(provider.kx_groups[0].name(), NamedGroup::secp384r1);
    }

    #[test]
    fn what_cannot_be_meant_is_an_error() {
        for (text, why) in [
            ("minVersion: \"2\"", "none of 1.0"),
            ("cipherSuites: []", "leaves no"),
            ("namedGroups: [x448]", "leaves no"),
            // A suite of 1.2 alone, and 1.3 at least.
            (
                "minVersion: \"1.3\"\ncipherSuites: [TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256]",
                "leaves no",
            ),
            ("minimum: \"1.2\"", "minimum"),
            ("[", ""),
        ] {
            let error = open(text).unwrap_err().to_string();
            assert!(error.contains(why), "{text}: {error}");
        }
        assert!(TlsDetails::open(Path::new("/no/such")).is_err());
    }
}
