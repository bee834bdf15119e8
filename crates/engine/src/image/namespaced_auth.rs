//! Credentials that kubelet's credential provider leaves for one pull of one namespace
//! (`namespaced_auth_dir`, crio-credential-provider): `NAMESPACE-SHA256(NAME).json`, an auth.json. Used once: it is
//! moved out of the way of other pulls first, and gone when this one has ended.

use std::path::{Path, PathBuf};

use distribution::AuthFiles;
use image::Reference;
use sha2::{Digest, Sha256};

use crate::disk;
use crate::error::{Error, Result};

/// Where files are while they are used, below the directory.
const IN_USE: &str = "in-use";

/// An auth.json of one pull. Dropped, it is removed.
#[derive(Debug)]
pub(super) struct NamespacedAuth(PathBuf);

impl NamespacedAuth {
    /// Takes the file of a namespace for an image, if there is one.
    ///
    /// # Errors
    /// A directory that cannot be changed; the file is gone then, too.
    pub(super) fn take(dir: &Path, namespace: &str, image: &Reference) -> Result<Option<Self>> {
        // A name of Kubernetes' has neither; it becomes one of a file.
        if dir.as_os_str().is_empty() || namespace.is_empty() || namespace.contains(['/', '\0']) {
            return Ok(None);
        }
        let name = disk::hex(&Sha256::digest(image.repository().to_string()));
        let found = dir.join(format!("{namespace}-{name}.json"));
        if !found.is_file() {
            return Ok(None);
        }
        let taken = || {
            let used = dir.join(IN_USE);
            disk::make_dir(&used)?;
            let own = used.join(format!("{namespace}-{name}-{}.json", disk::new_id()?));
            std::fs::rename(&found, &own).map_err(Error::io("move", &found))?;
            Ok(Self(own))
        };
        let taken = taken();
        if taken.is_err() {
            let _ = std::fs::remove_file(&found);
        }
        taken.map(Some)
    }

    /// To look credentials up in.
    pub(super) fn files(&self) -> AuthFiles {
        AuthFiles::only(&self.0)
    }
}

impl Drop for NamespacedAuth {
    fn drop(&mut self) {
        if let Err(error) = std::fs::remove_file(&self.0) {
            tracing::warn!(path = %self.0.display(), %error, "credentials of a pull stay");
        }
    }
}

#[cfg(test)]
mod tests {
    use distribution::Credentials;

    use super::*;

    #[test]
    fn the_file_of_a_namespace_and_image_is_used_once_and_by_nobody_else() {
        let dir = tempfile::tempdir().unwrap();
        let image: Reference = "registry.local/team/image:1".parse().unwrap();
        // sha256 of registry.local/team/image, as the credential provider names it.
        let name = Sha256::digest("registry.local/team/image");
        let name: String = name.iter().map(|byte| format!("{byte:02x}")).collect();
        let file = dir.path().join(format!("ns-{name}.json"));
        let text = r#"{"auths":{"registry.local":{"auth":"YTpi"}}}"#;
        std::fs::write(&file, text).unwrap();
        let take = |namespace: &str, image: &Reference| {
            NamespacedAuth::take(dir.path(), namespace, image).unwrap()
        };
        assert!(take("other", &image).is_none() && take("", &image).is_none());
        assert!(take("../ns", &image).is_none());
        let other: Reference = "registry.local/team/other:1".parse().unwrap();
        assert!(take("ns", &other).is_none());
        let own = take("ns", &image).unwrap();
        assert!(take("ns", &image).is_none(), "taken twice");
        let found = own.files().lookup(&image).unwrap();
        assert_eq!(found, Credentials::basic("a", "b"));
        drop(own);
        let left = std::fs::read_dir(dir.path().join(IN_USE)).unwrap();
        assert_eq!(left.count(), 0);
    }
}
