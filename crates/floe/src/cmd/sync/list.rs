//! The YAML file of `sync` (skopeo-sync(1)): registries, their images, and how to get at them.
//!
//! Must never pass over a key that it does not know: an image that was meant would be missing.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use crate::failure::Failure;

/// What to take from one registry.
#[derive(Debug, Default, PartialEq, Deserialize)]
#[serde(default, rename_all = "kebab-case", deny_unknown_fields)]
pub(super) struct Registry {
    /// Tags and digests by repository; none: all tags.
    pub(super) images: BTreeMap<String, Option<Vec<String>>>,
    /// A regular expression for tags, by repository.
    pub(super) images_by_tag_regex: BTreeMap<String, String>,
    /// A constraint for tags that are versions, by repository.
    pub(super) images_by_semver: BTreeMap<String, String>,
    pub(super) credentials: Option<Login>,
    pub(super) tls_verify: Option<bool>,
    pub(super) cert_dir: Option<PathBuf>,
}

/// Who to be there.
#[derive(Default, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Login {
    pub(super) username: String,
    pub(super) password: String,
}

impl Registry {
    /// `USER:PASSWORD`; nothing for credentials without either.
    pub(super) fn creds(&self) -> Option<String> {
        let login = self.credentials.as_ref()?;
        let given = !login.username.is_empty() || !login.password.is_empty();
        given.then(|| format!("{}:{}", login.username, login.password))
    }
}

impl std::fmt::Debug for Login {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Login({:?}, …)", self.username)
    }
}

/// Reads the file: what to take by registry.
pub(super) fn read(file: &Path) -> Result<BTreeMap<String, Registry>, Failure> {
    let text = std::fs::read_to_string(file)
        .map_err(|e| Failure::new(format!("read {}: {e}", file.display())))?;
    parse(&text).map_err(|why| Failure::new(format!("{}: {why}", file.display())))
}

fn parse(text: &str) -> Result<BTreeMap<String, Registry>, String> {
    let read: BTreeMap<String, Option<Registry>> =
        serde_saphyr::from_str(text).map_err(|error| error.to_string())?;
    let all = read.into_iter();
    Ok(all
        .map(|(host, registry)| (host, registry.unwrap_or_default()))
        .collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_is_read_as_skopeo_documents_it() {
        let all = parse(
            r#"
registry.example.com:
    images:
        busybox: []
        alpine:
        redis:
            - "1.0"
            - sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855
    images-by-tag-regex:
        nginx: ^1\.13\.[12]-alpine-perl$
    images-by-semver:
        alpine: ">= 3.12.0"
    credentials:
        username: john
        password: this is a secret
    tls-verify: true
    cert-dir: /home/john/certs
quay.example:
    tls-verify: false
    images:
        coreos/etcd:
            - latest
"#,
        )
        .unwrap();
        let first = &all["registry.example.com"];
        assert_eq!(first.images["busybox"], Some(Vec::new()));
        assert_eq!(first.images["alpine"], None);
        assert_eq!(first.images["redis"].as_ref().map(Vec::len), Some(2));
        assert_eq!(
            first.images_by_tag_regex["nginx"],
            r"^1\.13\.[12]-alpine-perl$"
        );
        assert_eq!(first.images_by_semver["alpine"], ">= 3.12.0");
        assert_eq!(
            first.credentials.as_ref().map(|c| c.username.as_str()),
            Some("john")
        );
        assert!(!format!("{first:?}").contains("secret"));
        assert_eq!(first.tls_verify, Some(true));
        assert_eq!(
            first.cert_dir.as_deref(),
            Some(Path::new("/home/john/certs"))
        );
        assert_eq!(all["quay.example"].tls_verify, Some(false));
    }

    #[test]
    fn a_registry_may_say_little() {
        let all =
            parse("a.example:\n    credentials: {}\n    images: {x: []}\nb.example:\n").unwrap();
        assert_eq!(all["a.example"].creds(), None);
        assert_eq!(all["b.example"], Registry::default());
        let all = parse("a.example: {credentials: {username: me}}").unwrap();
        assert_eq!(all["a.example"].creds().as_deref(), Some("me:"));
    }

    #[test]
    fn what_is_not_understood_is_an_error_that_names_it() {
        let error = parse("a.example:\n    images-by-date:\n        x: '>1'\n").unwrap_err();
        assert!(error.contains("images-by-date"), "{error}");
        assert!(parse("a.example: [x]").is_err());
        assert!(parse("a.example: {images: {x: 1}}").is_err());
    }
}
