//! `containers-storage:` as a source: stores that Debian's skopeo and podman make, read by floe.

mod cli;

use std::fs;
use std::os::unix::fs::{MetadataExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread::sleep;
use std::time::Duration;

use cli::signed::signed;
use cli::{Machine, Said, machine};
use image::Digest;
use serde_json::{Value, json};
use testkit::images::{self, Entry};

/// A program that mounts things, where nobody else sees them.
fn apart(program: &str) -> Command {
    let mut command = Command::new("unshare");
    command.args(["--mount", program]);
    command
}

fn skopeo(arguments: &[&str]) -> Said {
    let mut command = apart("skopeo");
    command.arg("--insecure-policy").args(arguments);
    command.output().expect("skopeo is installed").into()
}

fn json(text: &str) -> Value {
    serde_json::from_str(text).expect("JSON")
}

/// A tar with what is hard to put together again.
fn odd_layer() -> images::Layer {
    let mut tar = tar::Builder::new(Vec::new());
    let mut add = |path: &[u8], kind: tar::EntryType, data: &[u8]| {
        let mut header = tar::Header::new_gnu();
        header.as_mut_bytes()[..path.len()].copy_from_slice(path);
        header.set_entry_type(kind);
        header.set_mode(0o4755);
        header.set_uid(1000);
        header.set_gid(70_000);
        header.set_mtime(1_234_567_890);
        header.set_size(data.len() as u64);
        header.set_cksum();
        tar.append(&header, data).expect("append");
    };
    add(b"./", tar::EntryType::Directory, b"");
    add(b"/abs/../plain", tar::EntryType::Regular, b"1");
    add(b"dir/\xff\xfe", tar::EntryType::Regular, b"not UTF-8");
    add(b"dir/.wh.gone", tar::EntryType::Regular, b"");
    add(b"dir/.wh..wh..opq", tar::EntryType::Regular, b"");
    add(b"pipe", tar::EntryType::Fifo, b"");
    add(b"holes", tar::EntryType::Regular, &[0; 1 << 20]);
    tar.append_pax_extensions([("SCHILY.xattr.user.floe", &b"value"[..])])
        .expect("append");
    let mut header = tar::Header::new_ustar();
    header.set_mode(0o600);
    header.set_size(5);
    tar.append_data(&mut header, "with/xattr", &b"hello"[..])
        .expect("append");
    // What comes after the end belongs to the layer.
    let mut tar = tar.into_inner().expect("a tar");
    tar.extend([0; 4096]);
    tar
}

fn plain_layer() -> images::Layer {
    let long = format!("dir/{}/file", "long".repeat(40));
    images::layer(&[
        Entry::Dir("dir", 0o700),
        Entry::File(&long, 0o644, b"deep"),
        Entry::File("dir/gone", 0o644, &[7; 100_000]),
        Entry::Hardlink("dir/again", "dir/gone"),
        Entry::Symlink("link", "/dir"),
        Entry::Symlink("out", "../../../../etc"),
    ])
    .expect("a layer")
}

/// A store of other tools on this machine.
struct Foreign<'m> {
    floe: &'m Machine,
    driver: &'static str,
    root: PathBuf,
    run: PathBuf,
}

impl Foreign<'_> {
    fn new<'m>(floe: &'m Machine, driver: &'static str, name: &str) -> Foreign<'m> {
        let (root, run) = (floe.node.path(name), floe.node.path(&format!("{name}-run")));
        Foreign {
            floe,
            driver,
            root,
            run,
        }
    }

    fn place(&self, image: &str) -> String {
        let (root, run) = (self.root.display(), self.run.display());
        format!("containers-storage:[{}@{root}+{run}]{image}", self.driver)
    }

    /// Has skopeo store an image of the registry.
    fn fill(&self, from: &str, name: &str) {
        let from = format!("docker://{}/{from}", self.floe.registry.host());
        let arguments = ["copy", "-q", "--src-tls-verify=false"];
        skopeo(&[&arguments[..], &[&from, &self.place(name)]].concat()).ok();
    }

    fn dir(&self, name: &str) -> String {
        format!("dir:{}", self.floe.node.path(name).display())
    }

    fn copy(&self, image: &str, to: &str) -> Said {
        self.floe.floe(&["copy", "-q", &self.place(image), to])
    }

    /// Each file below the root with what a write would change.
    fn state(&self) -> Vec<(PathBuf, i64, i64, u64)> {
        let mut found = Vec::new();
        let mut left = vec![self.root.clone()];
        while let Some(path) = left.pop() {
            let stat = fs::symlink_metadata(&path).expect("stat");
            if stat.is_dir() {
                let entries = fs::read_dir(&path).expect("read");
                left.extend(entries.map(|entry| entry.expect("an entry").path()));
            }
            found.push((path, stat.ctime(), stat.ctime_nsec(), stat.size()));
        }
        found.sort();
        found
    }

    fn edit(&self, file: &str, change: impl Fn(&mut Value)) {
        let path = self.root.join(format!("{}-{file}", self.driver));
        let mut value = json(&fs::read_to_string(&path).expect("read"));
        change(&mut value);
        fs::write(&path, value.to_string()).expect("write");
    }
}

impl Machine {
    fn push_layers(&self, name: &str, layers: &[images::Layer]) -> Digest {
        let tokio = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .expect("an async runtime");
        let host = self.registry.host();
        let client = images::client(&[&host]).expect("a client");
        let name = format!("{host}/{name}");
        let pushed = images::push(&client, &name, layers, json!({ "Cmd": ["x"] }));
        tokio.block_on(pushed).expect("push")
    }
}

#[test]
fn layers_have_the_bytes_that_they_had_and_nothing_is_written() {
    machine(|floe| {
        let layers = [
            plain_layer(),
            odd_layer(),
            images::busybox().expect("busybox"),
        ];
        let digests = layers.each_ref().map(|tar| Digest::of(tar).to_string());
        let original = floe.push_layers("odd:1", &layers).to_string();
        for driver in ["overlay", "vfs"] {
            let store = Foreign::new(floe, driver, driver);
            store.fill("odd:1", "localhost/odd:1");
            let before = store.state();
            let ours = store.dir(&format!("ours-{driver}"));
            store.copy("localhost/odd:1", &ours).ok();
            let manifest = json(&floe.floe(&["inspect", "--raw", &ours]).ok());
            let found = manifest["layers"].as_array().expect("layers").iter();
            let plain = "application/vnd.oci.image.layer.v1.tar";
            let expected = digests.iter().map(|digest| (plain, digest.as_str()));
            let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
            let found: Vec<_> = found
                .map(|layer| (text(&layer["mediaType"]), text(&layer["digest"])))
                .collect();
            let found = found.iter().map(|(kind, digest)| (&**kind, &**digest));
            assert!(found.eq(expected), "{driver}: {manifest}");
            // The name means what it did; what skopeo says of it floe says too.
            let about = ["inspect", &store.place("localhost/odd:1")];
            let (mine, theirs) = (json(&floe.floe(&about).ok()), json(&skopeo(&about).ok()));
            for key in ["Name", "Digest", "Layers", "Created", "Os"] {
                assert_eq!(mine[key], theirs[key], "{driver}: {key}");
            }
            assert_eq!(mine["Digest"], original.as_str());
            assert_eq!(store.state(), before, "{driver}");
            // skopeo reads the copy, and puts the same tars together.
            let theirs = store.dir(&format!("theirs-{driver}"));
            skopeo(&["copy", "-q", &store.place("localhost/odd:1"), &theirs]).ok();
            let hex = |digest: &String| digest.trim_start_matches("sha256:").to_owned();
            for name in digests.iter().map(hex) {
                let [ours, theirs] = [&ours, &theirs]
                    .map(|dir| fs::read(Path::new(&dir[4..]).join(&name)).expect("a layer"));
                assert!(ours == theirs, "{driver}: {name}");
            }
            skopeo(&["inspect", &ours]).ok();
        }
    });
}

#[test]
fn a_link_of_a_layer_leads_where_it_leads_in_a_container() {
    machine(|floe| {
        let layer = images::layer(&[
            Entry::Dir("dir", 0o755),
            Entry::Symlink("link", "/dir"),
            Entry::File("link/through", 0o644, b"through a link"),
        ]);
        let layer = layer.expect("a layer");
        floe.push_layers("link:1", std::slice::from_ref(&layer));
        let store = Foreign::new(floe, "overlay", "store");
        store.fill("link:1", "localhost/link:1");
        store.copy("localhost/link:1", &store.dir("out")).ok();
        let name = format!("out/{}", Digest::of(&layer).hex());
        assert!(fs::read(floe.node.path(&name)).expect("the layer") == layer);
    });
}

#[test]
fn a_copy_is_compressed_for_a_registry_and_runs() {
    machine(|floe| {
        let store = Foreign::new(floe, "overlay", "store");
        store.fill("cli/busybox:1", "example.com/box:1");
        let there = format!("docker://{}/from/storage:1", floe.registry.host());
        store.copy("example.com/box:1", &there).ok();
        let seen = json(&skopeo(&["inspect", "--raw", "--tls-verify=false", &there]).ok());
        let layer = &seen["layers"][0]["mediaType"];
        assert_eq!(layer, "application/vnd.oci.image.layer.v1.tar+gzip");
        store
            .copy("example.com/box:1", "floe:example.com/box:1")
            .ok();
        let words = ["run", "--rm", "--network", "none", "example.com/box:1"];
        assert_eq!(floe.floe(&words).ok(), "default");
        // An archive of Docker's holds plain layers, and so does the store.
        let archive = format!("docker-archive:{}", floe.node.path("a.tar").display());
        store.copy("example.com/box:1", &archive).ok();
        skopeo(&["inspect", &archive]).ok();
        let kept = [
            "copy",
            "-q",
            "--preserve-digests",
            &store.place("example.com/box:1"),
        ];
        floe.floe(&[&kept[..], &[&store.dir("kept")]].concat())
            .failed(125, &["digests cannot be preserved", "without compression"]);
    });
}

#[test]
fn what_podman_built_is_copied_as_it_is() {
    machine(|floe| {
        let store = Foreign::new(floe, "overlay", "podman");
        let context = floe.node.path("context");
        fs::create_dir(&context).expect("make a directory");
        fs::write(context.join("f"), "data").expect("write");
        fs::write(
            context.join("Containerfile"),
            "FROM scratch\nCOPY f /f\nLABEL a=b\n",
        )
        .expect("write");
        let mut podman = apart("podman");
        podman.args([
            "--storage-driver",
            "overlay",
            "--events-backend",
            "none",
            "--root",
        ]);
        podman.arg(&store.root).arg("--runroot").arg(&store.run);
        podman.arg("--tmpdir").arg(floe.node.path("podman-tmp"));
        podman.args(["build", "--network", "none", "-t", "built:1"]);
        let built = podman.arg(&context).output().expect("podman is installed");
        let id = Said::from(built).ok();
        let id = id.lines().last().expect("an ID").to_owned();
        let whole = ["--preserve-digests", &store.place("localhost/built:1")];
        let copy =
            |options: &[&str], to: &str| floe.floe(&[&["copy", "-q"], options, &[to]].concat());
        copy(&whole, &store.dir("built")).ok();
        let original = floe.floe(&["inspect", "--raw", whole[1]]).ok();
        assert_eq!(
            floe.floe(&["inspect", "--raw", &store.dir("built")]).ok(),
            original
        );
        copy(&[&store.place(&id[..12])], &store.dir("by-id")).ok();
        assert_eq!(
            floe.floe(&["inspect", "--raw", &store.dir("by-id")]).ok(),
            original
        );
    });
}

#[test]
fn names_mean_what_they_mean_to_skopeo() {
    machine(|floe| {
        let store = Foreign::new(floe, "vfs", "store");
        let digest = floe.push_layers("one:1", &[plain_layer()]).to_string();
        let other = floe.push_layers("two:1", &[odd_layer()]).to_string();
        store.fill("one:1", "docker.io/library/one:1");
        store.fill("two:1", "localhost/two:latest");
        let images = fs::read_to_string(store.root.join("vfs-images/images.json")).expect("read");
        let images = json(&images);
        let id = images[0]["id"].as_str().expect("an ID");
        let named = |name: &str| floe.floe(&["inspect", "-f", "{{.Digest}}", &store.place(name)]);
        for name in [
            "one:1".to_owned(),
            "library/one:1".into(),
            "docker.io/one:1".into(),
            format!("one@{digest}"),
            format!("one:other@{digest}"),
            format!("@{id}"),
            format!("@{}", &id[..5]),
            id.to_owned(),
            id[..3].to_owned(),
            format!("one@{id}"),
            format!("one:1@{}", &id[..7]),
            format!("one@{digest}@{id}"),
        ] {
            let asked = ["inspect", "--format", "{{.Digest}}", &store.place(&name)];
            assert_eq!(skopeo(&asked).ok(), digest, "{name}");
            assert_eq!(named(&name).ok(), digest, "{name}");
        }
        assert_eq!(named("localhost/two").ok(), other);
        for (name, why) in [
            ("two", "no such image"),
            ("one:2", "no such image"),
            (&format!("localhost/two@{id}"), "no such image"),
            (&format!("one@{other}"), "no such image"),
            (&format!("@{}", "0".repeat(64)), "no such image"),
            ("one@zz", "neither a digest nor the ID"),
            (&id[..2], "no such image"),
            ("ONE", "ONE"),
        ] {
            let asked = ["inspect", &store.place(name)];
            assert_ne!(skopeo(&asked).code, 0, "{name}");
            floe.floe(&asked).failed(125, &[why]);
        }
    });
}

#[test]
fn storage_conf_says_where_the_store_and_those_beside_it_are() {
    machine(|floe| {
        let digest = floe.push_layers("one:1", &[plain_layer()]).to_string();
        let shared = Foreign::new(floe, "overlay", "shared");
        shared.fill("one:1", "localhost/shared:1");
        let store = Foreign::new(floe, "overlay", "store");
        store.fill("cli/busybox:1", "localhost/own:1");
        let conf = floe.node.path("storage.conf");
        let text = format!(
            "[storage]\ndriver = 'overlay'\nrunroot = {:?}\ngraphroot = {:?}\n\
             [storage.options]\nadditionalimagestores = [{:?}]\n",
            store.run, store.root, shared.root
        );
        fs::write(&conf, text).expect("write");
        let asked = [
            "inspect",
            "-n",
            "-f",
            "{{.Digest}}",
            "containers-storage:localhost/shared:1",
        ];
        let with = |mut command: Command| -> Said {
            command.env("CONTAINERS_STORAGE_CONF", &conf);
            command.output().expect("run").into()
        };
        assert_eq!(with(floe.command(&asked)).ok(), digest);
        let mut theirs = apart("skopeo");
        theirs.args(asked);
        assert_eq!(with(theirs).ok(), digest);
        let own = [
            "copy",
            "-q",
            "containers-storage:localhost/own:1",
            &store.dir("own"),
        ];
        with(floe.command(&own)).ok();
        let options = store.place("localhost/shared:1").replace(
            ']',
            &format!(":overlay.imagestore={}]", shared.root.display()),
        );
        let copied = floe.floe(&["copy", "-q", &options, &store.dir("shared-copy")]);
        copied.ok();
        // Without a driver, what is there decides.
        let bare = format!(
            "containers-storage:[{}]localhost/own:1",
            store.root.display()
        );
        floe.floe(&["inspect", &bare]).ok();
    });
}

#[test]
fn an_index_that_was_kept_with_its_image_is_read() {
    machine(|floe| {
        let host = floe.registry.host();
        let inner = floe.push_layers("list:inner", &[plain_layer()]).to_string();
        let list = format!("{host}/list:1");
        floe.floe(&["manifest", "create", "made"]).ok();
        floe.floe(&[
            "manifest",
            "add",
            "made",
            &format!("docker://{host}/list:inner"),
        ])
        .ok();
        floe.floe(&[
            "manifest",
            "push",
            "--all",
            "made",
            &format!("docker://{list}"),
        ])
        .ok();
        let digest = floe.floe(&[
            "inspect",
            "-n",
            "-f",
            "{{.Digest}}",
            &format!("docker://{list}"),
        ]);
        let digest = digest.ok();
        assert_ne!(digest, inner);
        let store = Foreign::new(floe, "vfs", "store");
        store.fill(
            &format!("list@{digest}"),
            &format!("localhost/list@{digest}"),
        );
        let place = store.place(&format!("localhost/list@{digest}"));
        let asked = ["inspect", "--raw", &place];
        let raw = floe.floe(&asked).ok();
        assert_eq!(raw, skopeo(&asked).ok());
        assert_eq!(Digest::of(raw.as_bytes()).to_string(), digest);
        floe.floe(&["copy", "-q", &place, &store.dir("out")]).ok();
        let manifest = floe.floe(&["inspect", "--raw", &store.dir("out")]).ok();
        let layer = Digest::of(&plain_layer()).to_string();
        assert_eq!(json(&manifest)["layers"][0]["digest"], layer.as_str());
    });
}

#[test]
fn a_manifest_list_takes_images_from_there() {
    machine(|floe| {
        let store = Foreign::new(floe, "vfs", "store");
        store.fill("cli/busybox:1", "localhost/box:1");
        floe.floe(&["manifest", "create", "made"]).ok();
        floe.floe(&["manifest", "add", "made", &store.place("localhost/box:1")])
            .ok();
        let there = format!("docker://{}/from/list:1", floe.registry.host());
        floe.floe(&["manifest", "push", "--all", "made", &there])
            .ok();
        let copied = [
            "copy",
            "-q",
            "--src-tls-verify=false",
            &there,
            &store.dir("back"),
        ];
        skopeo(&copied).ok();
        let index = json(&floe.floe(&["inspect", "--raw", &there]).ok());
        let listed = &index["manifests"][0];
        let manifest = floe.floe(&["inspect", "--raw", &store.dir("back")]).ok();
        assert_eq!(
            listed["digest"],
            Digest::of(manifest.as_bytes()).to_string()
        );
    });
}

#[test]
fn a_store_that_lies_is_not_believed() {
    machine(|floe| {
        floe.push_layers("one:1", &[plain_layer()]);
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
