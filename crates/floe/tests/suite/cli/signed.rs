//! What the tests of signatures share: a machine with keys, places for signatures, and policies.

use std::path::{Path, PathBuf};
use std::process::Command;

use testkit::Gnupg;

use super::{Machine, Said, machine};

/// A machine with a key of GnuPG's, a sigstore key pair and a lookaside directory.
pub(crate) struct Signed<'m> {
    pub(crate) floe: &'m mut Machine,
    pub(crate) gpg: Gnupg,
    pub(crate) key: String,
}

pub(crate) fn signed(test: impl FnOnce(&Signed<'_>)) {
    machine(|floe| {
        let gpg = Gnupg::new().expect("a home for gpg");
        let key = gpg.key("signer", "ed25519", "never").expect("a key");
        let public = gpg.export(&key).expect("the public key");
        std::fs::write(floe.node.path("public.gpg"), public).expect("write the key");
        std::fs::write(floe.node.path("passphrase"), "secret\nrest\n").expect("write");
        let world = Signed { floe, gpg, key };
        world.registries_d("");
        let pass = world.file("passphrase");
        world
            .run(&[
                "generate-sigstore-key",
                "--passphrase-file",
                &pass,
                "--output-prefix",
                &world.file("cosign"),
            ])
            .ok();
        test(&world);
    });
}

impl Signed<'_> {
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.floe.node.path(name)
    }

    pub(crate) fn file(&self, name: &str) -> String {
        self.path(name).display().to_string()
    }

    pub(crate) fn docker(&self, name: &str) -> String {
        format!("docker://{}/{name}", self.floe.registry.host())
    }

    pub(crate) fn original(&self) -> String {
        format!("docker://{}", self.floe.image)
    }

    /// floe with the keys of this test.
    pub(crate) fn run(&self, arguments: &[&str]) -> Said {
        let mut command = self.floe.command(arguments);
        command.env("GNUPGHOME", self.gpg.home());
        command.output().expect("run floe").into()
    }

    /// Debian's skopeo with the keys of this test; the policy is the node's.
    pub(crate) fn skopeo(&self, arguments: &[&str]) -> Said {
        let output = Command::new("skopeo")
            .args([
                "--policy",
                &self.file("policy.json"),
                "--registries.d",
                &self.file("registries.d"),
            ])
            .args(arguments)
            .env("GNUPGHOME", self.gpg.home())
            .env("CONTAINERS_REGISTRIES_CONF", self.path("registries.conf"))
            .output();
        output.expect("skopeo is installed").into()
    }

    /// Says where signatures are: a directory of the test, and what `more` says.
    pub(crate) fn registries_d(&self, more: &str) {
        let text = format!(
            "default-docker:\n  lookaside: file://{}\n{more}",
            self.file("sigs")
        );
        // skopeo of Debian 12 knows the former names only.
        let text = format!("{text}  sigstore: file://{}\n", self.file("sigs"));
        std::fs::write(self.path("registries.d/test.yaml"), text).expect("write registries.d");
    }

    pub(crate) fn attach(&self) {
        self.registries_d("  use-sigstore-attachments: true\n");
    }

    /// Asks for this requirement of images of registries, and lets in all others.
    pub(crate) fn demand(&self, requirement: &str) {
        let text = format!(
            r#"{{"default":[{{"type":"insecureAcceptAnything"}}],"transports":{{"docker":{{"":[{requirement}]}}}}}}"#
        );
        std::fs::write(self.path("policy.json"), text).expect("write the policy");
    }

    pub(crate) fn demand_gpg(&self) {
        let key = self.file("public.gpg");
        self.demand(&format!(
            r#"{{"type":"signedBy","keyType":"GPGKeys","keyPath":"{key}"}}"#
        ));
    }

    pub(crate) fn demand_cosign(&self) {
        let key = self.file("cosign.pub");
        self.demand(&format!(r#"{{"type":"sigstoreSigned","keyPath":"{key}"}}"#));
    }

    pub(crate) fn cosign_flags(&self) -> [String; 4] {
        [
            "--sign-by-sigstore-private-key".into(),
            self.file("cosign.private"),
            "--sign-passphrase-file".into(),
            self.file("passphrase"),
        ]
    }

    /// Copies with these flags, to wherever; no signature is asked for at the source.
    pub(crate) fn copy(&self, flags: &[&str], from: &str, to: &str) -> Said {
        let mut arguments = vec!["copy", "-q", "--insecure-policy"];
        arguments.extend(flags);
        arguments.extend([from, to]);
        self.run(&arguments)
    }

    pub(crate) fn copy_cosign(&self, from: &str, to: &str) {
        let flags = self.cosign_flags();
        let flags: Vec<&str> = flags.iter().map(String::as_str).collect();
        self.copy(&flags, from, to).ok();
    }

    pub(crate) fn name(&self, name: &str) -> String {
        format!("{}/{name}", self.floe.registry.host())
    }

    /// Pulls, and checks that the image was refused for this reason and that nothing is in the store.
    #[track_caller]
    pub(crate) fn refused(&self, name: &str, words: &[&str]) {
        let full = self.name(name);
        self.refused_by(name, &[&[&*full], words].concat());
    }

    /// The same, where the image is not what is to blame.
    #[track_caller]
    pub(crate) fn refused_by(&self, name: &str, words: &[&str]) {
        self.run(&["pull", &self.name(name)]).failed(125, words);
        assert_eq!(files(&self.path("root/blobs")), Vec::<PathBuf>::new());
        assert_eq!(files(&self.path("root/layers")), Vec::<PathBuf>::new());
    }
}

/// All files below a directory.
pub(crate) fn files(dir: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let Ok(entries) = std::fs::read_dir(dir) else {
        return found;
    };
    for entry in entries {
        let path = entry.expect("an entry").path();
        match path.is_dir() {
            true => found.extend(files(&path)),
            false => found.push(path),
        }
    }
    found
}
