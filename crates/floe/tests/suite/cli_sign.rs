//! Signing from the command line: `copy`, `push`, `standalone-sign`, `standalone-verify`,
//! `generate-sigstore-key`, beside Debian's skopeo in both directions.

use std::path::Path;
use std::process::Command;

use crate::cli::Said;
use crate::cli::signed::{files, signed};

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
fn copies_keep_signatures_of_both_kinds() {
    signed(|world| {
        world.attach();
        let (first, second) = (world.docker("keep/a:1"), world.docker("keep/b:1"));
        let identity = world.name("keep/b:1");
        let flags = ["--sign-by", &*world.key, "--sign-identity", &identity];
        world.copy(&flags, &world.original(), &first).ok();
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
            let file = world.path(&format!("dir/signature-{number}"));
            assert!(std::fs::read(file).expect("read").starts_with(kind));
        }
        world.copy(&[], &dir, &world.docker("keep/c:1")).ok();
        world.demand(&format!(
            r#"{{"type":"sigstoreSigned","keyPath":"{}","signedIdentity":{{"type":"exactReference","dockerReference":"example.com/x:1"}}}}"#,
            world.file("cosign.pub"),
        ));
        let name = world.name("keep/c:1");
        world.run(&["pull", "-q", &name]).ok();
    });
}

#[test]
fn signatures_that_find_no_room_stay_behind_only_when_that_is_said() {
    signed(|world| {
        let (signed, original) = (world.docker("keep/a:1"), world.original());
        let by = ["--sign-by", &*world.key];
        world.copy(&by, &original, &signed).ok();
        let layout = format!("oci:{}:x", world.file("layout"));
        let dir = format!("dir:{}", world.file("dir"));
        let room = world.copy(&[], &signed, &layout);
        room.failed(125, &["cannot hold", "--remove-signatures"]);
        world.copy(&["--remove-signatures"], &signed, &layout).ok();
        let changed = world.copy(&["--format", "v2s2"], &signed, &world.docker("keep/d:1"));
        changed.failed(125, &["no longer fit", "--remove-signatures"]);

        // What is to be signed needs a name, and a place for the signature.
        let nameless = ["--sign-identity"];
        world.copy(&by, &original, &layout).failed(125, &nameless);
        world.copy(&by, &original, &dir).failed(125, &nameless);
        let named = [by[0], by[1], "--sign-identity", "example.com/x:1"];
        let nowhere = world.copy(&named, &original, &layout);
        nowhere.failed(125, &["cannot be signed there"]);
        // A registry that is not said to have attachments gets none.
        let flags = world.cosign_flags();
        let flags: Vec<&str> = flags.iter().map(String::as_str).collect();
        let attached = world.copy(&flags, &original, &world.docker("keep/e:1"));
        attached.failed(125, &["keep/e:1", "use-sigstore-attachments"]);
    });
}

#[test]
fn floes_store_keeps_signatures_and_gives_them_on() {
    signed(|world| {
        let (signed, attached) = (world.docker("kept/gpg:1"), world.docker("kept/cosign:1"));
        world.attach();
        world
            .copy(&["--sign-by", &world.key], &world.original(), &signed)
            .ok();
        world.copy_cosign(&world.original(), &attached);
        for (place, name) in [(&signed, "gpg"), (&attached, "cosign")] {
            let stored = format!("floe:localhost/{name}:1");
            world.copy(&[], place, &stored).ok();
            let dir = format!("dir:{}", world.file(name));
            world.copy(&[], &stored, &dir).ok();
            assert!(world.path(name).join("signature-1").exists(), "{name}");
        }
        // Signed on the way into the store, for the name that it gets there.
        let own = "floe:localhost/own:1";
        world
            .copy(
                &["--sign-by", &world.key, "--remove-signatures"],
                &signed,
                own,
            )
            .ok();
        let dir = format!("dir:{}", world.file("own"));
        world.copy(&[], own, &dir).ok();
        assert!(world.path("own/signature-1").exists());
        world.demand_gpg();
        // Another name than the one that was signed is no trust for it.
        let elsewhere = world.docker("kept/elsewhere:1");
        world.copy(&[], own, &elsewhere).ok();
        world
            .run(&["pull", "-q", &world.name("kept/elsewhere:1")])
            .failed(125, &["localhost/own:1"]);
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
        // A directory that is not there is one without files.
        let none = world.file("none");
        run(&[
            "--registries.d",
            &none,
            "copy",
            "-q",
            &world.original(),
            &dir,
        ])
        .failed(1, &["no signature exists"]);
    });
}
