//! A node with a place for signatures, a key, and the policy that asks for it.

use std::path::PathBuf;

use testkit::Gnupg;

use super::World;

/// What signs images, and where the signatures are.
pub(crate) struct Trust {
    pub(crate) gpg: Gnupg,
    /// The fingerprint of the key that the policy asks for.
    pub(crate) key: String,
    /// The file with that key.
    pub(crate) keyring: PathBuf,
    signatures: PathBuf,
}

impl Trust {
    pub(crate) fn new(world: &World) -> Trust {
        let gpg = Gnupg::new().unwrap();
        let key = gpg.key("signer", "ed25519", "never").unwrap();
        let (keyring, signatures) = (world.node.path("key.gpg"), world.node.path("sigs"));
        std::fs::write(&keyring, gpg.export(&key).unwrap()).unwrap();
        let places = signatures.display();
        let places = format!("default-docker: {{lookaside: 'file://{places}'}}");
        std::fs::write(world.node.path("registries.d/test.yaml"), places).unwrap();
        Trust {
            gpg,
            key,
            keyring,
            signatures,
        }
    }

    /// A policy that asks for a signature by the key.
    pub(crate) fn policy(&self) -> String {
        let keyring = self.keyring.display();
        format!(
            r#"{{"default":[{{"type":"signedBy","keyType":"GPGKeys","keyPath":"{keyring}"}}]}}"#
        )
    }

    /// Signs what is `by_digest` for the name `image`, in place of a former signature.
    pub(crate) fn sign(&self, key: &str, image: &str, by_digest: &str) {
        let (_, path) = by_digest.split_once('/').unwrap();
        let (_, digest) = by_digest.split_once('@').unwrap();
        let content = format!(
            r#"{{"critical":{{"identity":{{"docker-reference":"{image}"}},"image":{{"docker-manifest-digest":"{digest}"}},"type":"atomic container signature"}},"optional":{{}}}}"#
        );
        let dir = self.signatures.join(path.replace("sha256:", "sha256="));
        std::fs::create_dir_all(&dir).unwrap();
        let signature = self.gpg.sign(key, content.as_bytes()).unwrap();
        std::fs::write(dir.join("signature-1"), signature).unwrap();
    }
}
