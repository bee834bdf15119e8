//! `containers-storage:`: stores that lie, that somebody writes to, or that are not understood, and what
//! a policy says of their images.

use std::fs;
use std::os::unix::fs::{MetadataExt, symlink};
use std::path::Path;
use std::process::Command;
use std::thread::sleep;
use std::time::Duration;

use crate::cli::foreign::{Foreign, plain_layer};
use crate::cli::signed::signed;
use crate::cli::{Said, machine};
use image::Digest;
use testkit::images;

#[test]
fn a_store_that_lies_is_not_believed() {
    machine(|floe| {
        floe.push_here("one:1", &[plain_layer()]);
        let digest = Digest::of(&plain_layer());
        type Lie = fn(&Foreign<'_>, &Path);
        let lies: [(&str, Lie, &[&str]); 11] = [
            (
                "other",
                |_, diff| fs::write(diff.join("dir/gone"), [8; 100_000]).unwrap(),
                &["sha256"],
            ),
            (
                "short",
                |_, diff| fs::write(diff.join("dir/gone"), "8").unwrap(),
                &["dir/gone", "shorter"],
            ),
            (
                "lost",
                |_, diff| fs::remove_file(diff.join("dir/gone")).unwrap(),
                &["dir/gone", "No such file"],
            ),
            (
                "link",
                |_, diff| {
                    fs::remove_file(diff.join("dir/gone")).unwrap();
                    symlink("/bin/busybox", diff.join("dir/gone")).unwrap();
                },
                &["dir/gone", "no regular file"],
            ),
            (
                "outside",
                |_, diff| {
                    // What the link means outside of the layer has the right content.
                    let away = diff.parent().unwrap().join("away");
                    fs::rename(diff.join("dir"), &away).unwrap();
                    symlink(&away, diff.join("dir")).unwrap();
                },
                &["file dir/", "No such file"],
            ),
            (
                "pipe",
                |_, diff| {
                    fs::remove_file(diff.join("dir/gone")).unwrap();
                    let made = Command::new("mkfifo").arg(diff.join("dir/gone")).status();
                    assert!(made.unwrap().success());
                },
                &["dir/gone", "no regular file"],
            ),
            (
                "digest",
                |store, _| {
                    store.edit("layers/layers.json", |all| {
                        all[0]["diff-digest"] = Digest::of(b"x").to_string().into();
                    })
                },
                &["the config says"],
            ),
            (
                "size",
                |store, _| {
                    store.edit("layers/layers.json", |all| {
                        all[0]["diff-size"] = 1000.into()
                    })
                },
                &["more of it than of the layer"],
            ),
            (
                "loop",
                |store, _| {
                    store.edit("layers/layers.json", |all| {
                        all[0]["parent"] = all[0]["id"].clone();
                    })
                },
                &["not in the store"],
            ),
            (
                "climb",
                |store, _| {
                    store.edit("layers/layers.json", |all| {
                        let id = format!("../../../../{}", all[0]["id"].as_str().unwrap());
                        all[0]["id"] = id.clone().into();
                        store.edit("images/images.json", |images| {
                            images[0]["layer"] = id.clone().into()
                        });
                    })
                },
                &["Invalid cross-device link"],
            ),
            (
                "parts",
                |store, _| {
                    store.edit("layers/layers.json", |all| {
                        all[0]["diff-size"] = (-1).into()
                    })
                },
                &["size is not recorded"],
            ),
        ];
        for (name, lie, words) in lies {
            for driver in ["overlay", "vfs"] {
                let store = Foreign::new(floe, driver, &format!("{name}-{driver}"));
                store.fill("one:1", "localhost/one:1");
                let below = match driver {
                    "overlay" => format!("overlay/{}/diff", digest.hex()),
                    _ => format!("vfs/dir/{}", digest.hex()),
                };
                lie(&store, &store.root.join(below));
                let out = floe.node.path("out.tar");
                let to = format!("oci-archive:{}", out.display());
                store.copy("localhost/one:1", &to).failed(125, words);
                assert!(!out.exists(), "{name}");
            }
        }
    });
}

#[test]
fn what_is_not_there_or_not_built_says_so() {
    machine(|floe| {
        let store = Foreign::new(floe, "overlay", "store");
        let root = store.root.display();
        store.fill("cli/busybox:1", "localhost/box:1");
        let inspect = |place: &str| floe.floe(&["inspect", place]);
        let other = format!("containers-storage:[btrfs@{root}]x");
        inspect(&other).failed(125, &["\"btrfs\" is not supported", "overlay and vfs"]);
        let none = format!("containers-storage:[{}]x", floe.node.path("run").display());
        inspect(&none).failed(125, &["No such file"]);
        fs::create_dir(store.root.join("vfs-images")).expect("make a directory");
        let unclear = format!("containers-storage:[{root}]x");
        inspect(&unclear).failed(125, &["several drivers (overlay, vfs)"]);
        let original = format!("docker://{}", floe.image);
        floe.floe(&["copy", &original, &store.place("new:1")])
            .failed(125, &["does not write to them"]);
        let layer = Digest::of(&images::busybox().expect("busybox"));
        let layer = store.root.join("overlay").join(layer.hex());
        fs::create_dir(layer.join("composefs-data")).expect("make a directory");
        let refused = store.copy("localhost/box:1", &store.dir("out"));
        refused.failed(125, &["composefs is not supported"]);
        fs::remove_dir(layer.join("composefs-data")).expect("remove it");
        let split = store.root.join("overlay-layers");
        let split = split.join(format!(
            "{}.tar-split.gz",
            layer.file_name().unwrap().display()
        ));
        fs::remove_file(split).expect("remove it");
        let refused = store.copy("localhost/box:1", &store.dir("out2"));
        refused.failed(125, &["no tar-split data"]);
    });
}

#[test]
fn a_reader_waits_for_a_writer() {
    machine(|floe| {
        let store = Foreign::new(floe, "vfs", "store");
        store.fill("cli/busybox:1", "localhost/box:1");
        for lock in ["vfs-images/images.lock", "vfs-layers/layers.lock"] {
            let file = fs::OpenOptions::new()
                .write(true)
                .open(store.root.join(lock));
            let file = file.expect("a lock file");
            rustix::fs::fcntl_lock(&file, rustix::fs::FlockOperation::LockExclusive).expect("lock");
            let asked = [
                "inspect",
                "-f",
                "{{.Name}}",
                &store.place("localhost/box:1"),
            ];
            let mut reader = floe.command(&asked).spawn().expect("run floe");
            // The kernel lists who waits, and for which file.
            let inode = format!(":{} ", file.metadata().expect("stat").ino());
            let waits = || {
                let locks = fs::read_to_string("/proc/locks").expect("read");
                let mut lines = locks.lines();
                lines.any(|line| line.contains("->") && line.contains(&inode))
            };
            while !waits() {
                assert_eq!(reader.try_wait().expect("wait"), None, "{lock}");
                sleep(Duration::from_millis(5));
            }
            drop(file);
            let said = Said::from(reader.wait_with_output().expect("wait"));
            assert_eq!(said.ok(), "localhost/box");
        }
    });
}

#[test]
fn policies_and_signatures_hold_there() {
    signed(|world| {
        let name = world.name("sig/box:1");
        let there = world.docker("sig/box:1");
        world
            .copy(&["--sign-by", &world.key], &world.original(), &there)
            .ok();
        let root = world.file("store");
        let place = format!("containers-storage:[vfs@{root}+{root}-run]{name}");
        world
            .skopeo(&["copy", "-q", "--src-tls-verify=false", &there, &place])
            .ok();
        let copy = |options: &[&str], to: &str| {
            let to = format!("dir:{}", world.file(to));
            world.run(&[&["copy", "-q"], options, &[&place, &to]].concat())
        };
        copy(&["--insecure-policy"], "a").failed(125, &["--remove-signatures"]);
        let policy = |scope: &str, rule: &str| {
            let rule = rule.replace("KEY", &world.file("public.gpg"));
            let text = format!(
                r#"{{"default": [{{"type": "reject"}}], "transports": {{"containers-storage": {{{scope:?}: [{rule}]}}}}}}"#
            );
            fs::write(world.path("storage-policy.json"), text).expect("write");
            world.file("storage-policy.json")
        };
        let without =
            |policy: &str, to: &str| copy(&["--remove-signatures", "--policy", policy], to);
        let by_key = r#"{"type": "signedBy", "keyType": "GPGKeys", "keyPath": "KEY"}"#;
        let scopes = [
            format!("[vfs@{root}]{name}"),
            format!("[vfs@{root}]{}", name.trim_end_matches(":1")),
            format!("[vfs@{root}]"),
            format!("[{root}]"),
            String::new(),
        ];
        for (number, scope) in scopes.iter().enumerate() {
            without(&policy(scope, by_key), &format!("let-in-{number}")).ok();
        }
        let elsewhere = policy(&format!("[overlay@{root}]"), by_key);
        without(&elsewhere, "b").failed(125, &["reject"]);
        fs::copy(world.path("cosign.pub"), world.path("public.gpg")).expect("copy");
        without(&policy("", by_key), "c").failed(125, &["signedBy"]);
    });
}
