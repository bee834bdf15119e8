//! Signing and trust from the command line: `copy`, `push`, `pull`, `run`, `standalone-sign`,
//! `standalone-verify`, `generate-sigstore-key`, beside Debian's skopeo in both directions.

mod cli;

use std::path::{Path, PathBuf};
use std::process::Command;

use cli::{Machine, Said, machine};
use testkit::Gnupg;

/// A machine with a key of GnuPG's, a sigstore key pair and a lookaside directory.
struct Signed<'m> {
    floe: &'m mut Machine,
    gpg: Gnupg,
    key: String,
}

fn signed(test: impl FnOnce(&Signed<'_>)) {
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
    fn path(&self, name: &str) -> PathBuf {
        self.floe.node.path(name)
    }

    fn file(&self, name: &str) -> String {
        self.path(name).display().to_string()
    }

    fn docker(&self, name: &str) -> String {
        format!("docker://{}/{name}", self.floe.registry.host())
    }

    fn original(&self) -> String {
        format!("docker://{}", self.floe.image)
    }

    /// floe with the keys of this test.
    fn run(&self, arguments: &[&str]) -> Said {
        let mut command = self.floe.command(arguments);
        command.env("GNUPGHOME", self.gpg.home());
        command.output().expect("run floe").into()
    }

    /// Debian's skopeo with the keys of this test; the policy is the node's.
    fn skopeo(&self, arguments: &[&str]) -> Said {
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
    fn registries_d(&self, more: &str) {
        let text = format!(
            "default-docker:\n  lookaside: file://{}\n{more}",
            self.file("sigs")
        );
        // skopeo of Debian 12 knows the former names only.
        let text = format!("{text}  sigstore: file://{}\n", self.file("sigs"));
        std::fs::write(self.path("registries.d/test.yaml"), text).expect("write registries.d");
    }

    fn attach(&self) {
        self.registries_d("  use-sigstore-attachments: true\n");
    }

    /// Asks for this requirement of images of registries, and lets in all others.
    fn demand(&self, requirement: &str) {
        let text = format!(
            r#"{{"default":[{{"type":"insecureAcceptAnything"}}],"transports":{{"docker":{{"":[{requirement}]}}}}}}"#
        );
        std::fs::write(self.path("policy.json"), text).expect("write the policy");
    }

    fn demand_gpg(&self) {
        let key = self.file("public.gpg");
        self.demand(&format!(
            r#"{{"type":"signedBy","keyType":"GPGKeys","keyPath":"{key}"}}"#
        ));
    }

    fn demand_cosign(&self) {
        let key = self.file("cosign.pub");
        self.demand(&format!(r#"{{"type":"sigstoreSigned","keyPath":"{key}"}}"#));
    }

    fn cosign_flags(&self) -> [String; 4] {
        [
            "--sign-by-sigstore-private-key".into(),
            self.file("cosign.private"),
            "--sign-passphrase-file".into(),
            self.file("passphrase"),
        ]
    }

    /// Copies with these flags, to wherever; no signature is asked for at the source.
    fn copy(&self, flags: &[&str], from: &str, to: &str) -> Said {
        let mut arguments = vec!["copy", "-q", "--insecure-policy"];
        arguments.extend(flags);
        arguments.extend([from, to]);
        self.run(&arguments)
    }

    fn copy_cosign(&self, from: &str, to: &str) {
        let flags = self.cosign_flags();
        let flags: Vec<&str> = flags.iter().map(String::as_str).collect();
        self.copy(&flags, from, to).ok();
    }

    fn name(&self, name: &str) -> String {
        format!("{}/{name}", self.floe.registry.host())
    }

    /// Pulls, and checks that it was refused for this reason and that nothing is in the store.
    #[track_caller]
    fn refused(&self, name: &str, words: &[&str]) {
        let name = self.name(name);
        let mut all = vec![name.as_str()];
        all.extend(words);
        self.run(&["pull", &name]).failed(125, &all);
        assert_eq!(self.run(&["images", "-q"]).ok(), "");
        assert_eq!(files(&self.path("root/blobs")), Vec::<PathBuf>::new());
    }
}

/// All files below a directory.
fn files(dir: &Path) -> Vec<PathBuf> {
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

#[test]
fn an_image_that_floe_signs_with_gpg_is_let_in_by_floe_and_by_skopeo() {
    signed(|world| {
        let there = world.docker("gpg/busybox:1");
        world
            .copy(&["--sign-by", &world.key], &world.original(), &there)
            .ok();
        assert_eq!(files(&world.path("sigs")).len(), 1);
        world.demand_gpg();
        let target = world.file("by-skopeo");
        world
            .skopeo(&[
                "copy",
                "-q",
                "--src-tls-verify=false",
                &there,
                &format!("dir:{target}"),
            ])
            .ok();
        assert!(Path::new(&target).join("signature-1").exists());
        world.run(&["pull", &world.name("gpg/busybox:1")]).ok();
        let said = world.run(&[
            "run",
            "--rm",
            "--network",
            "none",
            &world.name("gpg/busybox:1"),
        ]);
        assert_eq!(said.ok(), "default");
    });
}

#[test]
fn an_image_that_skopeo_signs_with_gpg_is_let_in_by_floe() {
    signed(|world| {
        let there = world.docker("skopeo/busybox:1");
        let flags = [
            "copy",
            "-q",
            "--src-tls-verify=false",
            "--dest-tls-verify=false",
            "--sign-by",
            &world.key,
        ];
        let mut arguments = flags.to_vec();
        let original = world.original();
        arguments.extend([original.as_str(), &there]);
        world.skopeo(&arguments).ok();
        world.demand_gpg();
        world
            .run(&["pull", "-q", &world.name("skopeo/busybox:1")])
            .ok();
        let dir = format!("dir:{}", world.file("dir"));
        world.run(&["copy", "-q", &there, &dir]).ok();
        assert!(world.path("dir/signature-1").exists());
    });
}

#[test]
fn an_image_that_is_signed_with_a_sigstore_key_is_let_in_by_that_key() {
    signed(|world| {
        world.attach();
        let there = world.docker("sig/busybox:1");
        world.copy_cosign(&world.original(), &there);
        world.demand_cosign();
        world
            .run(&["pull", "-q", &world.name("sig/busybox:1")])
            .ok();
        let dir = format!("dir:{}", world.file("dir"));
        world.run(&["copy", "-q", &there, &dir]).ok();
        // A second signature goes beside the first.
        world.copy_cosign(&world.original(), &there);
        let tags = world.run(&["list-tags", &there.replace(":1", "")]).ok();
        let tag = tags
            .split('"')
            .find(|word| word.ends_with(".sig"))
            .expect("a tag of signatures");
        let manifest = world
            .run(&["inspect", "--raw", &there.replace(":1", &format!(":{tag}"))])
            .ok();
        assert_eq!(
            manifest
                .matches("dev.cosignproject.cosign/signature")
                .count(),
            2,
            "{manifest}"
        );
        // OpenSSL verifies what floe has signed.
        let bytes = std::fs::read(world.path("dir/signature-1")).expect("a signature");
        let Ok(image::Signature::Sigstore(attachment)) = image::Signature::from_file(&bytes) else {
            panic!("it is no attachment");
        };
        let base64 = &attachment.annotations["dev.cosignproject.cosign/signature"];
        std::fs::write(world.path("payload"), &attachment.payload).expect("write");
        std::fs::write(world.path("sig.b64"), base64).expect("write");
        let script = format!(
            "cd {} && openssl base64 -A -d -in sig.b64 -out sig && openssl dgst -sha256 -verify cosign.pub -signature sig payload",
            world.floe.node.path("").display()
        );
        let said = Command::new("sh")
            .args(["-c", &script])
            .output()
            .expect("openssl is installed");
        assert_eq!(Said::from(said).ok(), "Verified OK");
    });
}

#[test]
fn what_is_not_signed_as_the_policy_asks_is_refused_and_leaves_nothing() {
    signed(|world| {
        let original = world.original();
        let gpg = ["--sign-by", world.key.as_str()];
        world
            .copy(&[], &original, &world.docker("un/signed:1"))
            .ok();
        world
            .copy(&gpg, &original, &world.docker("moved/tag:1"))
            .ok();
        // The tag moves to another image, which nobody has signed.
        world
            .floe
            .push(&world.name("moved/tag:1"), &["echo", "other"]);
        let identity = [
            "--sign-by",
            world.key.as_str(),
            "--sign-identity",
            "example.com/other:1",
        ];
        world
            .copy(&identity, &original, &world.docker("other/name:1"))
            .ok();
        world.demand_gpg();
        world.refused(
            "un/signed:1",
            &["signedBy", "public.gpg", "no signature exists"],
        );
        world.refused("moved/tag:1", &["no signature exists"]);
        world.refused(
            "other/name:1",
            &["example.com/other:1", "matchRepoDigestOrExact"],
        );

        // Signed by somebody else.
        let other = world.gpg.key("other", "ed25519", "never").expect("a key");
        let by_other = ["--sign-by", other.as_str()];
        world
            .copy(&by_other, &original, &world.docker("other/key:1"))
            .ok();
        world.refused(
            "other/key:1",
            &["not made by one of the keys", &world.key, &other],
        );

        // The signature of one image put beside another.
        let [signature] = &files(&world.path("sigs/other"))[..1] else {
            panic!("no signature");
        };
        let digest = world
            .run(&["inspect", "--format", "{{.Digest}}", &original])
            .ok();
        assert!(
            signature
                .display()
                .to_string()
                .contains(&digest.replace(':', "="))
        );
        world
            .copy(&gpg, &original, &world.docker("right/image:1"))
            .ok();
        let right = files(&world.path("sigs/right")).remove(0);
        world
            .floe
            .push(&world.name("wrong/image:1"), &["echo", "wrong"]);
        let place = world.docker("wrong/image:1");
        let digest = world
            .run(&["inspect", "--format", "{{.Digest}}", &place])
            .ok();
        let beside = world.path(&format!("sigs/wrong/image@{}", digest.replace(':', "=")));
        std::fs::create_dir_all(&beside).expect("make");
        std::fs::copy(&right, beside.join("signature-1")).expect("copy");
        world.refused("wrong/image:1", &["right/image:1"]);
        world.demand(&format!(
            r#"{{"type":"signedBy","keyType":"GPGKeys","keyPath":"{}","signedIdentity":{{"type":"exactRepository","dockerRepository":"{}"}}}}"#,
            world.file("public.gpg"),
            world.name("right/image"),
        ));
        world.refused("wrong/image:1", &["digest", "this one has another"]);

        // Cut short, and too large.
        let bytes = std::fs::read(&right).expect("read");
        std::fs::write(beside.join("signature-1"), &bytes[..bytes.len() / 2]).expect("write");
        world.refused("wrong/image:1", &["OpenPGP message"]);
        std::fs::write(beside.join("signature-1"), vec![0xa3; (4 << 20) + 1]).expect("write");
        let name = world.name("wrong/image:1");
        world
            .run(&["pull", &name])
            .failed(125, &["signature-1", "more than 4194304 bytes"]);
        std::fs::write(beside.join("signature-1"), b"hello").expect("write");
        world.refused(
            "wrong/image:1",
            &["signature-1", "neither an OpenPGP message nor"],
        );

        // Places that do not answer.
        let text = "default-docker: {lookaside: 'http://127.0.0.1:1/sigs'}\n";
        std::fs::write(world.path("registries.d/test.yaml"), text).expect("write");
        world.refused("right/image:1", &["127.0.0.1:1", "cannot reach"]);
    });
}

#[test]
fn copies_keep_signatures_or_say_why_not() {
    signed(|world| {
        world.attach();
        let (first, second) = (world.docker("keep/a:1"), world.docker("keep/b:1"));
        let identity = world.name("keep/b:1");
        world
            .copy(
                &["--sign-by", &world.key, "--sign-identity", &identity],
                &world.original(),
                &first,
            )
            .ok();
        world.copy(&[], &first, &second).ok();
        world.demand_gpg();
        world.run(&["pull", "-q", &identity]).ok();

        // Through a directory, with a second signature of the other kind.
        let dir = format!("dir:{}", world.file("dir"));
        let flags = world.cosign_flags();
        let mut with = vec!["--sign-identity", "example.com/x:1"];
        with.extend(flags.iter().map(String::as_str));
        world.copy(&with, &second, &dir).ok();
        for (number, kind) in [(1, &b"\xa3"[..]), (2, b"\0sigstore-json\n{")] {
            let bytes =
                std::fs::read(world.path(&format!("dir/signature-{number}"))).expect("read");
            assert!(bytes.starts_with(&kind[..1]), "{number}");
        }
        let third = world.docker("keep/c:1");
        world.copy(&[], &dir, &third).ok();
        world.demand(&format!(
            r#"{{"type":"sigstoreSigned","keyPath":"{}","signedIdentity":{{"type":"exactReference","dockerReference":"example.com/x:1"}}}}"#,
            world.file("cosign.pub"),
        ));
        world.run(&["pull", "-q", &world.name("keep/c:1")]).ok();

        // Where there is no room for them, they stay behind only when that is said.
        let layout = format!("oci:{}:x", world.file("layout"));
        world
            .copy(&[], &first, &layout)
            .failed(125, &["cannot hold", "--remove-signatures"]);
        world.copy(&["--remove-signatures"], &first, &layout).ok();
        let docker = ["--format", "v2s2"];
        world
            .copy(&docker, &first, &world.docker("keep/d:1"))
            .failed(125, &["no longer fit", "--remove-signatures"]);
        world
            .copy(&["--sign-by", &world.key], &world.original(), &layout)
            .failed(125, &["cannot be signed", "--sign-identity"][1..].as_ref());
        let signing = [
            "--sign-by",
            world.key.as_str(),
            "--sign-identity",
            "example.com/x:1",
        ];
        world
            .copy(&signing, &world.original(), &layout)
            .failed(125, &["cannot be signed there"]);
        world
            .copy(&signing[..2], &world.original(), &dir)
            .failed(125, &["--sign-identity"]);

        // A registry that is not said to have attachments gets none.
        world.registries_d("");
        let flags: Vec<&str> = flags.iter().map(String::as_str).collect();
        world
            .copy(&flags, &world.original(), &world.docker("keep/e:1"))
            .failed(125, &["keep/e:1", "use-sigstore-attachments"]);
    });
}

#[test]
fn push_signs_too() {
    signed(|world| {
        world.run(&["pull", "-q", &world.floe.image]).ok();
        let name = world.name("pushed/x:1");
        world
            .run(&[
                "push",
                "-q",
                "--sign-by",
                &world.key,
                &world.floe.image,
                &name,
            ])
            .ok();
        let nobody = "0123456789ABCDEF";
        world
            .run(&["push", "--sign-by", nobody, &world.floe.image, &name])
            .failed(125, &["gpg failed", nobody]);
        world.run(&["rmi", "-f", &world.floe.image]).ok();
        world.demand_gpg();
        world.run(&["pull", "-q", &name]).ok();
        world.run(&["rmi", &name]).ok();
        world.refused("cli/busybox:1", &["no signature exists"]);
    });
}

#[test]
fn every_image_of_an_index_is_signed_and_checked() {
    signed(|world| {
        // skopeo makes an index with one image: floe signs both.
        let manifest = world.run(&["inspect", "--raw", &world.original()]).ok();
        let dir = world.path("index");
        let place = format!("dir:{}", dir.display());
        world.copy(&[], &world.original(), &place).ok();
        let digest = image::Digest::of(manifest.as_bytes());
        let name = dir.join(format!("{}.manifest.json", digest.hex()));
        std::fs::rename(dir.join("manifest.json"), name).expect("rename");
        let index = format!(
            r#"{{"schemaVersion":2,"mediaType":"application/vnd.oci.image.index.v1+json","manifests":[{{"mediaType":"application/vnd.oci.image.manifest.v1+json","digest":"{digest}","size":{},"platform":{{"architecture":"amd64","os":"linux"}}}}]}}"#,
            manifest.len()
        );
        std::fs::write(dir.join("manifest.json"), &index).expect("write");
        let there = world.docker("multi/x:1");
        world
            .copy(&["--all", "--sign-by", &world.key], &place, &there)
            .ok();
        let signatures = files(&world.path("sigs/multi"));
        assert_eq!(signatures.len(), 2, "{signatures:?}");
        world.demand_gpg();
        world.run(&["pull", "-q", &world.name("multi/x:1")]).ok();
        world.run(&["rmi", &world.name("multi/x:1")]).ok();
        let target = format!("dir:{}", world.file("whole"));
        world.run(&["copy", "-q", "--all", &there, &target]).ok();
        assert!(world.path("whole/signature-1").exists());
        assert!(
            world
                .path(&format!("whole/{}.signature-1", digest.hex()))
                .exists()
        );
        world
            .skopeo(&[
                "copy",
                "-q",
                "--all",
                "--src-tls-verify=false",
                &there,
                &format!("dir:{}", world.file("theirs")),
            ])
            .ok();
        // Without the image's own, that of the index is not enough, as skopeo has it.
        let own = signatures
            .iter()
            .find(|path| path.display().to_string().contains(digest.hex()));
        std::fs::remove_file(own.expect("a signature of the image")).expect("remove");
        world.refused("multi/x:1", &["no signature exists"]);
    });
}

#[test]
fn standalone_signatures_are_those_of_skopeo() {
    signed(|world| {
        let manifest = world.run(&["inspect", "--raw", &world.original()]).ok();
        std::fs::write(world.path("m.json"), manifest).expect("write");
        let (file, ours, theirs) = (
            world.file("m.json"),
            world.file("ours"),
            world.file("theirs"),
        );
        let name = "example.com/x:1";
        world
            .run(&["standalone-sign", "-o", &ours, &file, name, &world.key])
            .ok();
        world
            .skopeo(&["standalone-sign", "-o", &theirs, &file, name, &world.key])
            .ok();
        world
            .skopeo(&["standalone-verify", &file, name, &world.key, &ours])
            .ok();
        let said = world
            .run(&["standalone-verify", &file, name, &world.key, &theirs])
            .ok();
        assert!(
            said.contains("Signature verified") && said.contains(&world.key),
            "{said}"
        );
        let keys = world.file("public.gpg");
        let flag = ["standalone-verify", "--public-key-file", &keys];
        world
            .run(&[&flag[..], &[&file, name, "any", &ours]].concat())
            .ok();

        let verify = |manifest: &str, name: &str, key: &str| {
            world.run(&[&flag[..], &[manifest, name, key, &ours]].concat())
        };
        verify(&file, "example.com/x:2", "any").failed(125, &["example.com/x:1"]);
        verify(&file, name, &"0".repeat(40)).failed(125, &["not made by"]);
        std::fs::write(world.path("other.json"), r#"{"schemaVersion":2,"config":{"mediaType":"application/vnd.oci.image.config.v1+json","digest":"sha256:44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a","size":2},"layers":[]}"#).expect("write");
        verify(&world.file("other.json"), name, "any").failed(125, &["this one has another"]);
        world
            .run(&[
                "standalone-sign",
                "-o",
                &ours,
                &file,
                "example.com/x",
                &world.key,
            ])
            .failed(125, &["tag or digest"]);
        world
            .run(&[
                "standalone-sign",
                "-o",
                &ours,
                &file,
                name,
                "nobody@nowhere",
            ])
            .failed(125, &["gpg failed"]);
    });
}

#[test]
fn keys_are_never_written_over_and_open_only_with_their_passphrase() {
    signed(|world| {
        let pass = world.file("passphrase");
        let prefix = world.file("cosign");
        world
            .run(&[
                "generate-sigstore-key",
                "--passphrase-file",
                &pass,
                "--output-prefix",
                &prefix,
            ])
            .failed(125, &["cosign.private", "is there already"]);
        std::fs::write(world.path("wrong"), "wrong\n").expect("write");
        world.attach();
        let flags = world.cosign_flags();
        let (key, wrong) = (flags[1].as_str(), world.file("wrong"));
        let with = |key: &str, pass: &str| {
            let flags = [
                "--sign-by-sigstore-private-key",
                key,
                "--sign-passphrase-file",
                pass,
            ];
            world.copy(&flags, &world.original(), &world.docker("k/x:1"))
        };
        with(key, &wrong).failed(
            125,
            &["cosign.private", "the passphrase does not open the key"],
        );
        with(&world.file("cosign.pub"), &pass).failed(125, &["cosign.pub", "PUBLIC KEY"]);
        with(&world.file("none"), &pass).failed(125, &["none", "No such file"]);
        let both = [
            "--sign-by",
            "x",
            "--sign-by-sigstore-private-key",
            key,
            "--sign-passphrase-file",
            &pass,
        ];
        world
            .copy(&both, &world.original(), &world.docker("k/x:1"))
            .failed(125, &["two keys"]);
        // On a terminal the passphrase is asked for, and not shown.
        let mut terminal = world.floe.on_terminal(&[
            "copy",
            "--insecure-policy",
            "--sign-by-sigstore-private-key",
            key,
            &world.original(),
            &world.docker("k/x:1"),
        ]);
        terminal.wait_for("Passphrase");
        terminal.type_in("secret\n");
        let (shown, code) = terminal.end();
        assert_eq!(code, 0, "{shown}");
        assert!(!shown.contains("secret"), "{shown}");
        world.demand_cosign();
        world.run(&["pull", "-q", &world.name("k/x:1")]).ok();
    });
}

#[test]
fn under_the_name_skopeo_the_same_flags_work() {
    signed(|world| {
        let link = world.path("skopeo");
        let program = testkit::program("floe").expect("floe is built");
        std::os::unix::fs::symlink(program, &link).expect("link");
        let run = |arguments: &[&str]| -> Said {
            let output = Command::new(&link)
                .args([
                    "--policy",
                    &world.file("policy.json"),
                    "--registries.d",
                    &world.file("registries.d"),
                ])
                .args(arguments)
                .env("GNUPGHOME", world.gpg.home())
                .env("FLOE_CONFIG", world.floe.node.config())
                .output();
            output.expect("run").into()
        };
        let there = world.docker("named/skopeo:1");
        run(&[
            "copy",
            "-q",
            "--sign-by",
            &world.key,
            &world.original(),
            &there,
        ])
        .ok();
        world.demand_gpg();
        let dir = format!("dir:{}", world.file("dir"));
        run(&["copy", "-q", &there, &dir]).ok();
        run(&["copy", "-q", &world.original(), &dir]).failed(1, &["no signature exists"]);
        let missing = Command::new(&link)
            .args(["--registries.d", "/nowhere", "copy", "dir:/a", "dir:/b"])
            .output();
        Said::from(missing.expect("run")).failed(1, &["/nowhere"]);
    });
}
