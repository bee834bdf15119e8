//! What of skopeo's command line is seldom used, and what of it is refused: beside Debian's skopeo where that
//! has it.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;
use std::sync::{Arc, Mutex};

use crate::cli::fake::{Answer, Fake};
use crate::cli::places::{json, skopeo};
use crate::cli::signed::signed;
use crate::cli::{Machine, Said, machine};

/// The names of all files below a directory.
fn names(dir: &Path) -> BTreeSet<String> {
    let mut all = BTreeSet::new();
    let mut left = vec![dir.to_owned()];
    while let Some(at) = left.pop() {
        for entry in std::fs::read_dir(&at).expect("read") {
            let path = entry.expect("an entry").path();
            match path.is_dir() {
                true => left.push(path),
                false => {
                    let name = path.strip_prefix(dir).expect("below");
                    all.insert(name.display().to_string());
                }
            }
        }
    }
    all
}

impl Machine {
    fn file(&self, name: &str) -> String {
        self.node.path(name).display().to_string()
    }

    fn original(&self) -> String {
        format!("docker://{}", self.image)
    }
}

#[test]
fn an_image_in_an_archive_has_as_many_names_as_it_is_given() {
    machine(|floe| {
        let places = ["ours", "theirs"].map(|name| floe.file(name));
        let copy = |place: &str| {
            let to = format!("docker-archive:{place}:example.com/a:1");
            let more = [
                "--additional-tag",
                "b:2",
                "--additional-tag=example.com/c:3",
            ];
            [&["copy", "-q", "--src-tls-verify=false"][..], &more]
                .concat()
                .iter()
                .map(|word| (*word).to_owned())
                .chain([floe.original(), to])
                .collect::<Vec<_>>()
        };
        let words = |place: &str| copy(place);
        let ours = words(&places[0]);
        floe.floe(&ours.iter().map(String::as_str).collect::<Vec<_>>())
            .ok();
        let theirs = words(&places[1]);
        skopeo(&theirs.iter().map(String::as_str).collect::<Vec<_>>()).ok();
        let [ours, theirs] = places.map(|place| {
            let place = format!("docker-archive:{place}");
            json(&floe.floe(&["list-tags", &place]).ok())
        });
        assert_eq!(ours, theirs);
        assert_eq!(ours["Tags"].as_array().map(Vec::len), Some(3), "{ours}");

        // One without a name is listed by its place, as skopeo's newest does.
        let place = format!("docker-archive:{}", floe.file("nameless"));
        floe.floe(&["copy", "-q", &floe.original(), &place]).ok();
        let tags = json(&floe.floe(&["list-tags", &place]).ok());
        assert_eq!(tags["Tags"], serde_json::json!(["@0"]));

        let to = format!("dir:{}", floe.file("dir"));
        let tag = |tag: &str, to: &str| {
            floe.floe(&["copy", "--additional-tag", tag, &floe.original(), to])
        };
        tag("b:2", &to).failed(125, &["docker-archive: only"]);
        let to = format!("docker-archive:{}", floe.file("none"));
        tag("b", &to).failed(125, &["must be a name with a tag"]);
        assert!(!Path::new(&floe.file("none")).exists());
    });
}

#[test]
fn layouts_share_their_blobs_where_they_are_told_to() {
    machine(|floe| {
        let skopeo_floe = floe.as_skopeo();
        let (shared, layout) = (floe.file("shared"), floe.file("layout"));
        let to = format!("oci:{layout}:x");
        let copy = ["copy", "-q", "--dest-shared-blob-dir", &shared];
        skopeo_floe
            .run(&[&copy[..], &[&floe.original(), &to]].concat())
            .ok();
        assert_eq!(names(&Path::new(&layout).join("blobs")), BTreeSet::new());
        assert!(names(Path::new(&shared)).len() >= 3);
        // Debian's skopeo finds them there, and floe what that left.
        let (theirs, ours) = (floe.file("theirs"), floe.file("ours"));
        let from = ["copy", "-q", "--src-shared-blob-dir", &shared];
        skopeo(&[&from[..], &[&to, &format!("oci:{theirs}:x")]].concat()).ok();
        skopeo_floe
            .run(&[&from[..], &[&to, &format!("oci:{ours}:x")]].concat())
            .ok();
        assert_eq!(names(Path::new(&ours)), names(Path::new(&theirs)));
        let raw =
            |options: &[&str]| floe.floe(&[&["inspect", "--raw"][..], options, &[&to]].concat());
        assert_eq!(
            raw(&["--shared-blob-dir", &shared]).ok(),
            skopeo(&["inspect", "--raw", "--shared-blob-dir", &shared, &to]).ok()
        );
        assert_ne!(raw(&[]).code, 0);
    });
}

#[test]
fn plain_layers_stay_plain_in_a_layout_that_accepts_them() {
    machine(|floe| {
        let archive = format!("docker-archive:{}", floe.file("archive"));
        floe.floe(&["copy", "-q", &floe.original(), &archive]).ok();
        let layers = |name: &str, options: &[&str]| {
            let to = format!("oci:{}", floe.file(name));
            floe.floe(&[&["copy", "-q"][..], options, &[&archive, &to]].concat())
                .ok();
            let raw = json(&floe.floe(&["inspect", "--raw", &to]).ok());
            raw["layers"][0]["mediaType"]
                .as_str()
                .expect("a type")
                .to_owned()
        };
        let plain = "application/vnd.oci.image.layer.v1.tar";
        assert_eq!(layers("gzip", &[]), format!("{plain}+gzip"));
        let accept = [
            "--dest-oci-accept-uncompressed-layers",
            "--image-parallel-copies",
            "1",
        ];
        assert_eq!(layers("plain", &accept), plain);
        let to = format!("oci:{}", floe.file("theirs"));
        skopeo(&["copy", "-q", accept[0], &archive, &to]).ok();
        let of = |name: &str| {
            let place = format!("oci:{}", floe.file(name));
            json(&floe.floe(&["inspect", &place]).ok())["Layers"].clone()
        };
        assert_eq!(of("plain"), of("theirs"));
    });
}

#[test]
fn layers_come_into_a_new_directory_as_skopeos() {
    machine(|floe| {
        let ours = floe.as_skopeo();
        let image = floe.original();
        let config = json(&floe.floe(&["inspect", "--raw", &image]).ok());
        let layer = config["layers"][0]["digest"]
            .as_str()
            .expect("a digest")
            .to_owned();
        let hex = layer.trim_start_matches("sha256:");
        for (round, wanted) in [&[][..], &[layer.as_str()], &[hex]].into_iter().enumerate() {
            let dirs = ["a", "b"].map(|name| floe.node.path(&format!("{name}{round}")));
            dirs.iter()
                .for_each(|dir| std::fs::create_dir(dir).expect("create"));
            let words = [&["layers", "--tls-verify=false", &image][..], wanted].concat();
            let said = ours.run_in(&dirs[0], &words);
            assert!(said.err.contains("DEPRECATED"), "{said:?}");
            said.ok();
            let theirs = Command::new("skopeo")
                .args(&words)
                .current_dir(&dirs[1])
                .output();
            Said::from(theirs.expect("skopeo is installed")).ok();
            let [ours, theirs] = dirs.map(|dir| {
                let inner: Vec<_> = std::fs::read_dir(dir).expect("read").collect();
                assert_eq!(inner.len(), 1);
                let inner = inner[0].as_ref().expect("an entry").path();
                assert!(
                    inner
                        .file_name()
                        .is_some_and(|name| name.to_string_lossy().starts_with("layers-"))
                );
                names(&inner)
            });
            assert_eq!(ours, theirs, "{wanted:?}");
        }
        let dir = floe.node.path("none");
        std::fs::create_dir(&dir).expect("create");
        let none = "0".repeat(64);
        ours.run_in(&dir, &["layers", "--tls-verify=false", &image, &none])
            .failed(2, &["no layer"]);
        assert_eq!(names(&dir), BTreeSet::new());
        assert_eq!(std::fs::read_dir(&dir).expect("read").count(), 0);
    });
}

#[test]
fn digests_are_those_of_skopeo_for_whatever_is_in_the_file() {
    machine(|floe| {
        let dir = floe.file("schema1");
        let copy = ["copy", "-q", "--src-tls-verify=false", "--format", "v2s1"];
        skopeo(&[&copy[..], &[&floe.original(), &format!("dir:{dir}")]].concat()).ok();
        let empty = floe.file("empty");
        std::fs::write(&empty, "").expect("write");
        let odd = floe.file("odd");
        std::fs::write(&odd, b"\xff{").expect("write");
        let raw = floe.file("raw");
        std::fs::write(&raw, floe.floe(&["inspect", "--raw", &floe.original()]).out)
            .expect("write");
        for file in [&format!("{dir}/manifest.json"), &empty, &odd, &raw] {
            let ours = floe.floe(&["manifest-digest", file]).ok();
            assert_eq!(ours, skopeo(&["manifest-digest", file]).ok(), "{file}");
        }
        let signed = std::fs::read_to_string(format!("{dir}/manifest.json")).expect("read");
        assert!(
            signed.contains("\"signatures\""),
            "nothing was tested: {signed}"
        );
    });
}

#[test]
fn a_signature_is_shown_unverified_as_skopeo_shows_it() {
    signed(|world| {
        let (manifest, signature) = (world.file("manifest"), world.file("signature"));
        std::fs::write(&manifest, "").expect("write");
        // Of an empty manifest, too.
        world
            .run(&[
                "standalone-sign",
                &manifest,
                "example.com/x:1",
                &world.key,
                "-o",
                &signature,
            ])
            .ok();
        let verb = "untrusted-signature-dump-without-verification";
        let mut ours = json(&world.run(&[verb, &signature]).ok());
        let mut theirs = json(&skopeo(&[verb, &signature]).ok());
        // The same moment, which skopeo tells in the machine's own zone.
        for said in [&mut ours, &mut theirs] {
            let time = said["UntrustedTimestamp"].take();
            assert_eq!(time.as_str().map(|time| &time[..3]), Some("202"), "{time}");
        }
        assert_eq!(ours, theirs);
        world
            .run(&[
                "standalone-verify",
                &manifest,
                "example.com/x:1",
                &world.key,
                &signature,
            ])
            .ok();
        world.run(&[verb, &manifest]).failed(125, &[&manifest]);
    });
}

#[test]
fn what_floe_does_not_do_is_refused_by_its_name() {
    machine(|floe| {
        let skopeo = floe.as_skopeo();
        let to = format!("dir:{}", floe.file("to"));
        let image = floe.original();
        for (option, words) in [
            (
                &["--encryption-key", "jwe:x"][..],
                "--encryption-key is not offered",
            ),
            (&["--encrypt-layer=-1"], "--encrypt-layer is not offered"),
            (&["--decryption-key=x"], "--decryption-key is not offered"),
            (
                &["--sign-by-sigstore", "x"],
                "--sign-by-sigstore-private-key signs",
            ),
            (&["--sign-by-sq-fingerprint", "x"], "--sign-by signs"),
            (&["--dest-compress-format", "zstd:chunked"], "not offered"),
            (&["--format", "v2s1"], "not offered"),
            (&["--no-such-flag"], "--no-such-flag"),
            (&["--src-cred", "x"], "--src-creds"),
        ] {
            let words_of = [&["copy"][..], option, &[&image, &to]].concat();
            skopeo.run(&words_of).failed(1, &[words]);
        }
        for place in [
            "docker-daemon:x:1",
            "sif:x",
            "atomic:x/y",
            "ostree:x",
            "tarball:x",
        ] {
            let transport = place.split(':').next().expect("a transport");
            skopeo
                .run(&["inspect", place])
                .failed(1, &[transport, "is not offered"]);
        }
        skopeo
            .run(&["experimental-image-proxy", "--sockfd", "3"])
            .failed(1, &["is not offered"]);
        assert!(!Path::new(&floe.file("to")).exists());
    });
}

#[test]
fn the_version_and_completions_are_skopeos() {
    machine(|floe| {
        let skopeo = floe.as_skopeo();
        for option in ["--version", "-v"] {
            let said = skopeo.run(&[option]).ok();
            let number = said.strip_prefix("skopeo version ").expect("its words");
            assert!(number.starts_with("1."), "{said}");
        }
        let said = skopeo.run(&["completion", "bash"]).ok();
        assert!(said.contains("skopeo") && said.contains("--additional-tag"));
    });
}

#[test]
fn only_signed_images_come_in_if_that_is_required() {
    signed(|world| {
        let skopeo = world.floe.as_skopeo();
        let policy = world.file("policy.json");
        let require = |policy: &str, from: &str, to: &str| {
            let to = format!("dir:{}", world.file(to));
            let places = world.file("registries.d");
            let options = [
                "--policy",
                policy,
                "--registries.d",
                &places,
                "--require-signed",
            ];
            let mut command = skopeo.command(&options);
            command
                .args(["copy", "-q", from, &to])
                .env("GNUPGHOME", world.gpg.home());
            Said::from(command.output().expect("run"))
        };
        let lax = world.file("lax.json");
        std::fs::write(&lax, r#"{"default":[{"type":"insecureAcceptAnything"}]}"#).expect("write");
        require(&lax, &world.original(), "lax").failed(1, &["a signature is required"]);
        let signed = world.docker("signed/x:1");
        world
            .run(&[
                "copy",
                "-q",
                "--sign-by",
                &world.key,
                &world.original(),
                &signed,
            ])
            .ok();
        world.demand_gpg();
        require(&policy, &signed, "signed").ok();
        require(&policy, &world.original(), "unsigned").failed(1, &["no signature"]);
        skopeo
            .run(&[
                "--insecure-policy",
                "--require-signed",
                "copy",
                "dir:/a",
                "dir:/b",
            ])
            .failed(1, &["mutually exclusive"]);
    });
}

#[test]
fn registries_are_told_who_asks_and_tls_is_narrowed() {
    machine(|floe| {
        let skopeo = floe.as_skopeo();
        let seen = Arc::new(Mutex::new(Vec::new()));
        let kept = seen.clone();
        let fake = Fake::start_heads(move |_, head| {
            let mut kept = kept.lock().expect("nobody panics with it");
            kept.extend(
                head.iter()
                    .filter(|line| line.starts_with("user-agent"))
                    .cloned(),
            );
            Answer::of(200, r#"{"tags":["1"]}"#)
        });
        let repository = format!("docker://{}/x", fake.host);
        let list = ["list-tags", "--tls-verify=false", &repository];
        skopeo
            .run(&[&["--user-agent-prefix", "mine/7"][..], &list].concat())
            .ok();
        let seen = seen.lock().expect("nobody panics with it").clone();
        assert!(
            seen.iter().any(|line| line.contains("mine/7 floe/")),
            "{seen:?}"
        );

        let details = floe.file("tls.yaml");
        let with = |text: &str| {
            std::fs::write(&details, text).expect("write");
            skopeo.run(&[&["--tls-details", &details][..], &list].concat())
        };
        with("minVersion: \"1.3\"\n").ok();
        with("minVersion: \"1.9\"\n").failed(1, &[&details, "1.9"]);
        with("cipherSuites: []\n").failed(1, &["no cipher suite"]);
    });
}

#[test]
fn configurations_are_shown_as_skopeo_shows_them() {
    machine(|floe| {
        let image = floe.original();
        let inspect = |format: &[&str]| {
            let words = [
                &["inspect", "--tls-verify=false", "--config"][..],
                format,
                &[&image],
            ]
            .concat();
            (floe.floe(&words), skopeo(&words))
        };
        let (ours, theirs) = inspect(&[]);
        assert_eq!(ours.ok(), theirs.ok());
        for format in [
            "{{.Architecture}}/{{.OS}}",
            "{{.Config.Cmd}}",
            "{{range .Config.Env}}{{.}} {{end}}",
            "{{index .Config.Env 0}}",
            "{{len .RootFS.DiffIDs}}",
            "{{range .RootFS.DiffIDs}}{{.}}{{end}}",
            "{{.RootFS.Type}}",
            "{{.Config.WorkingDir}}{{.Config.User}}{{.Author}}",
            "{{if .Config.Labels}}some{{else}}none{{end}}",
        ] {
            let (ours, theirs) = inspect(&["--format", format]);
            assert_eq!(ours.ok(), theirs.ok(), "{format}");
        }
        floe.floe(&["inspect", "--raw", "--format", "{{.Name}}", &image])
            .failed(125, &["raw output does not support format option"]);
        for format in [
            "{{.Created}}",
            "{{.Labels}} {{.Env}}",
            "{{.Os}} {{len .Layers}}",
        ] {
            let words = ["inspect", "--tls-verify=false", "--format", format, &image];
            assert_eq!(floe.floe(&words).ok(), skopeo(&words).ok(), "{format}");
        }
        // What an image does not say is null, and no empty list.
        let bare = format!("{}/cli/bare:1", floe.registry.host());
        let layers = [testkit::images::busybox().expect("busybox-static")];
        floe.push_layers(&bare, &layers, serde_json::json!({}));
        let bare = format!("docker://{bare}");
        let words = ["inspect", "--tls-verify=false", &bare];
        let (ours, theirs) = (json(&floe.floe(&words).ok()), json(&skopeo(&words).ok()));
        assert_eq!(
            (&ours["Env"], &ours["Labels"]),
            (&theirs["Env"], &theirs["Labels"])
        );
        assert!(ours["Env"].is_null(), "{ours}");
        let about = ["inspect", "--tls-verify=false", "-f", "json", &image];
        assert_eq!(json(&floe.floe(&about).ok())["Os"], "linux");
    });
}

#[test]
fn a_login_goes_into_a_file_as_docker_reads_it() {
    machine(|floe| {
        let private = testkit::Registry::start_private().expect("a registry");
        let host = private.host();
        let file = floe.file("config.json");
        std::fs::write(&file, r#"{"psFormat":"x"}"#).expect("write");
        let login = [
            "login",
            "--tls-verify=false",
            "--compat-auth-file",
            &file,
            "-u",
            "floe",
            "-p",
            "secret",
        ];
        let said = floe
            .floe(&[&login[..], &["--verbose", &format!("https://{host}/v1/")]].concat())
            .ok();
        assert_eq!(said, format!("Used:  {file}\nLogin Succeeded!"));
        let written = json(&std::fs::read_to_string(&file).expect("read"));
        assert!(written["auths"][&host]["auth"].is_string(), "{written}");
        assert_eq!(written["psFormat"], "x");
        floe.floe(&[&login[..], &[&format!("{host}/name")]].concat())
            .failed(125, &["registries only"]);
        floe.floe(&[&login[..], &["--authfile", "/x", &host]].concat())
            .failed(125, &["cannot be used with"]);
        let logout = [
            "logout",
            "--tls-verify=false",
            "--compat-auth-file",
            &file,
            &host,
        ];
        let said = floe.floe(&logout).ok();
        assert_eq!(said, format!("Removed login credentials for {host}"));
    });
}
