//! policy.json at the command line: what has not the signatures that it asks for is refused, by name,
//! and nothing of it stays.

use std::path::PathBuf;
use std::process::Command;

use crate::cli::Said;
use crate::cli::signed::{Signed, files, signed};

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
        let Ok(trust::Signature::Sigstore(attachment)) = trust::Signature::from_file(&bytes) else {
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
fn an_image_without_a_signature_for_its_name_by_the_right_key_is_refused() {
    signed(|world| {
        let original = world.original();
        let other = world.gpg.key("other", "ed25519", "never").expect("a key");
        let gpg = ["--sign-by", &*world.key];
        let identity = [gpg[0], gpg[1], "--sign-identity", "example.com/other:1"];
        for (flags, name) in [
            (&[][..], "un/signed:1"),
            (&gpg, "moved/tag:1"),
            (&identity, "other/name:1"),
            (&["--sign-by", &other], "other/key:1"),
        ] {
            world.copy(flags, &original, &world.docker(name)).ok();
        }
        // The tag moves to another image, which nobody has signed.
        let moved = world.name("moved/tag:1");
        world.floe.push(&moved, &["echo", "other"]);
        world.demand_gpg();
        let absent = ["signedBy", "public.gpg", "no signature exists"];
        world.refused("un/signed:1", &absent);
        world.refused("moved/tag:1", &absent);
        let words = ["example.com/other:1", "matchRepoDigestOrExact"];
        world.refused("other/name:1", &words);
        let words = ["not made by one of the keys", &*world.key, &*other];
        world.refused("other/key:1", &words);
        // `run` gets no image in another way.
        let name = world.name("un/signed:1");
        let run = ["run", "--rm", "--network", "none", &*name];
        world.run(&run).failed(125, &absent);
    });
}

/// A signed image, and the place for a signature of another, unsigned one: `wrong/image:1`.
fn beside_another(world: &Signed<'_>) -> (PathBuf, PathBuf) {
    let (right, wrong) = (world.docker("right/image:1"), world.docker("wrong/image:1"));
    let flags = ["--sign-by", &*world.key];
    world.copy(&flags, &world.original(), &right).ok();
    let signature = files(&world.path("sigs/right")).remove(0);
    let name = world.name("wrong/image:1");
    world.floe.push(&name, &["echo", "wrong"]);
    let digest = world.run(&["inspect", "--format", "{{.Digest}}", &wrong]);
    let digest = digest.ok().replace(':', "=");
    let dir = world.path(&format!("sigs/wrong/image@{digest}"));
    std::fs::create_dir_all(&dir).expect("make the place");
    (signature, dir.join("signature-1"))
}

#[test]
fn a_signature_of_another_image_is_refused() {
    signed(|world| {
        let (signature, beside) = beside_another(world);
        std::fs::copy(&signature, beside).expect("copy");
        world.demand_gpg();
        world.refused("wrong/image:1", &["right/image:1"]);
        // Even where the name does not matter.
        world.demand(&format!(
            r#"{{"type":"signedBy","keyType":"GPGKeys","keyPath":"{}","signedIdentity":{{"type":"exactRepository","dockerRepository":"{}"}}}}"#,
            world.file("public.gpg"),
            world.name("right/image"),
        ));
        world.refused("wrong/image:1", &["digest", "this one has another"]);
        let name = world.name("right/image:1");
        world.run(&["pull", "-q", &name]).ok();
    });
}

#[test]
fn signatures_that_are_broken_or_out_of_reach_are_refused() {
    signed(|world| {
        let (signature, beside) = beside_another(world);
        world.demand_gpg();
        let bytes = std::fs::read(&signature).expect("read");
        let large = vec![0xa3; (4 << 20) + 1];
        for (bytes, words) in [
            (&bytes[..bytes.len() / 2], "OpenPGP message"),
            (&large, "longer than 4194304 bytes"),
            (b"hello", "neither an OpenPGP message nor"),
            (b"", "neither an OpenPGP message nor"),
        ] {
            std::fs::write(&beside, bytes).expect("write");
            world.refused("wrong/image:1", &[words]);
        }
        let text = "default-docker: {lookaside: 'http://127.0.0.1:1/sigs'}\n";
        std::fs::write(world.path("registries.d/test.yaml"), text).expect("write");
        world.refused("right/image:1", &["127.0.0.1:1", "cannot reach"]);
        std::fs::write(world.path("registries.d/test.yaml"), "docker: [").expect("write");
        world.refused_by("right/image:1", &["registries.d/test.yaml: line 1"]);
        world.registries_d("");
    });
}

#[test]
fn what_is_loaded_must_be_let_in_too() {
    signed(|world| {
        let archive = world.file("image.tar");
        let place = format!("docker-archive:{archive}:example.com/x:1");
        world.copy(&[], &world.original(), &place).ok();
        let text = r#"{"default":[{"type":"reject"}],"transports":{"dir":{"":[{"type":"insecureAcceptAnything"}]}}}"#;
        std::fs::write(world.path("policy.json"), text).expect("write the policy");
        let words = [&*archive, "rejected", "policy.json"];
        world.run(&["load", "-i", &archive]).failed(125, &words);
        assert_eq!(world.run(&["images", "-q"]).ok(), "");
        let target = format!("dir:{}", world.file("dir"));
        let copy = ["copy", &*place, &target];
        world.run(&copy).failed(125, &words);
        assert!(!world.path("dir").exists());
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
fn sync_and_manifest_push_take_only_what_the_policy_lets_in() {
    signed(|world| {
        let flags = ["--sign-by", &*world.key];
        let original = world.original();
        let good = world.docker("good/image:1");
        world.copy(&flags, &original, &good).ok();
        world.demand_gpg();
        let absent = "no signature exists";
        let sync = |name: &str| {
            let (name, dir) = (world.name(name), world.file("synced"));
            let arguments = ["sync", "--src", "docker", "--dest", "dir", &*name, &dir];
            world.run(&arguments)
        };
        sync("cli/busybox:1").failed(125, &["cli/busybox", absent]);
        assert_eq!(files(&world.path("synced")), Vec::<PathBuf>::new());
        sync("good/image:1").ok();
        assert!(world.path("synced/image:1/signature-1").exists());

        let push = |list: &str, image: &str| {
            world.run(&["manifest", "create", list]).ok();
            world.run(&["manifest", "add", list, image]).ok();
            world.run(&["manifest", "push", list, &world.docker(list)])
        };
        push("bad:1", &original).failed(125, &["cli/busybox", absent]);
        push("fine:1", &good).ok();
    });
}
