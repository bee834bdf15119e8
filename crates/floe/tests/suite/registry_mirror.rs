//! `floe registry serve --store`: a node's images, pulled by its peers.

use crate::cli::served::Served;
use crate::cli::{Machine, Said, machine};
use distribution::Credentials;
use image::{Digest, MediaType, Platform, Reference};
use serde_json::{Value, json};
use testkit::images;

const PEER: &str = "docker.io/library/peer";

/// A peer of the machine: the same configuration, with a store of its own and a mirror for
/// docker.io.
struct Peer<'a>(&'a Machine);

impl Peer<'_> {
    fn floe(&self, arguments: &[&str]) -> Said {
        let root = self.0.node.path("peer-root").display().to_string();
        let run = self.0.node.path("peer-run").display().to_string();
        let roots = ["--root", &root, "--runroot", &run];
        self.0.floe(&[&roots[..], arguments].concat())
    }
}

/// Lets clients of this machine ask a mirror for docker.io's images, in the path as floe does.
fn mirror(machine: &Machine, served: &Served) {
    let path = machine.node.path("registries.conf");
    let conf = std::fs::read_to_string(&path).expect("registries.conf");
    let host = served.host();
    let more = format!(
        "[[registry]]\nprefix = \"docker.io\"\nlocation = \"docker.io\"\n\
         [[registry.mirror]]\nlocation = \"{host}/docker.io\"\ninsecure = true\n"
    );
    std::fs::write(&path, conf + &more).expect("write registries.conf");
}

#[test]
fn peers_pull_what_a_node_has_and_can_change_nothing() {
    machine(|floe| {
        floe.floe(&["pull", &floe.image]).ok();
        floe.floe(&["tag", &floe.image, &format!("{PEER}:1")]).ok();
        let served = floe.serve(&["--store"]);
        mirror(floe, &served);
        let peer = Peer(floe);
        peer.floe(&["pull", &format!("{PEER}:1")]).ok();
        let said = peer
            .floe(&["run", "--rm", "--network", "none", "peer:1"])
            .ok();
        assert_eq!(said, "default");

        let there = served.docker("docker.io/library/peer:1");
        let layout = format!("oci:{}:x", floe.node.path("layout").display());
        let output = std::process::Command::new("skopeo")
            .args([
                "--insecure-policy",
                "copy",
                "-q",
                "--src-tls-verify=false",
                &there,
                &layout,
            ])
            .output();
        Said::from(output.expect("skopeo is installed")).ok();
        let tags = floe.floe(&[
            "list-tags",
            "--tls-verify=false",
            &served.docker("docker.io/library/peer"),
        ]);
        assert!(tags.ok().contains("\"1\""));

        for path in [
            "/v2/docker.io/library/peer/manifests/1",
            "/v2/docker.io/library/peer/blobs/uploads/",
        ] {
            for method in ["PUT", "POST", "DELETE", "PATCH"] {
                let answer = served.ask(method, path, "content-length: 0\r\n");
                assert!(
                    [404, 405].contains(&answer.code),
                    "{method} {path}: {answer:?}"
                );
            }
        }
        floe.floe(&["rmi", "--force", "peer:1"]).ok();
        assert_eq!(
            served.get("/v2/docker.io/library/peer/manifests/1").code,
            404
        );
    });
}

#[test]
fn a_mirror_is_asked_with_the_registry_beside_the_name_too() {
    machine(|floe| {
        floe.floe(&["pull", &floe.image]).ok();
        floe.floe(&["tag", &floe.image, &format!("{PEER}:1")]).ok();
        let served = floe.serve(&["--store"]);
        let manifest = served.get("/v2/library/peer/manifests/1?ns=docker.io");
        assert_eq!(manifest.code, 200, "{manifest:?}");
        assert_eq!(manifest.header("oci-namespace"), "docker.io");
        let parsed: Value = serde_json::from_str(&manifest.body).expect("JSON");
        let layer = parsed["layers"][0]["digest"]
            .as_str()
            .expect("a layer")
            .to_owned();
        let blob = served.ask(
            "HEAD",
            &format!("/v2/library/peer/blobs/{layer}?ns=docker.io"),
            "",
        );
        assert_eq!(blob.code, 200);
        assert_eq!(blob.header("docker-content-digest"), layer);
        // The registry with a port, which no path can hold.
        let (host, name) = floe.image.split_once('/').expect("a registry");
        let (name, tag) = name.split_once(':').expect("a tag");
        let other = served.get(&format!("/v2/{name}/manifests/{tag}?ns={host}"));
        assert_eq!(other.body, manifest.body);
        // Another registry's image is not this one's.
        for path in [
            "/v2/library/peer/manifests/1?ns=quay.io".to_owned(),
            format!("/v2/library/peer/blobs/{layer}?ns=quay.io"),
            format!("/v2/quay.io/library/peer/blobs/{layer}"),
            format!("/v2/library/peer/manifests/{layer}?ns=docker.io"),
        ] {
            assert_eq!(served.get(&path).code, 404, "{path}");
        }
        assert_eq!(served.get("/v2/library/peer/manifests/1?ns=../x").code, 400);
        let catalog = served.get("/v2/_catalog").body;
        assert!(catalog.contains("\"docker.io/library/peer\""), "{catalog}");
        let home = served.get("/").body;
        let link = format!("href=\"/repository/{name}?ns={host}\"");
        assert!(home.contains(&link), "no {link} in {home}");
        let page = served.get(&format!("/repository/{name}?ns={host}"));
        assert!(page.body.contains(&layer), "{page:?}");
        let page = served.get("/repository/docker.io/library/peer").body;
        assert!(page.contains(&layer) && page.contains("linux/"), "{page}");
    });
}

#[test]
fn a_tag_that_came_by_an_index_is_served_by_the_index() {
    machine(|floe| {
        let host = floe.registry.host();
        let name = format!("{host}/cli/busybox");
        let client = images::client(&[&host]).expect("a client");
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build();
        let runtime = runtime.expect("an async runtime");
        let inspected = floe
            .floe(&["inspect", "--raw", &format!("docker://{}", floe.image)])
            .ok();
        let manifest = Digest::of(inspected.as_bytes());
        let here = Platform::host();
        let other = Digest::of(b"for another machine");
        let entry = |digest: &Digest, size: usize, architecture: &str| {
            json!({ "mediaType": "application/vnd.oci.image.manifest.v1+json", "digest": digest, "size": size,
                "platform": { "os": "linux", "architecture": architecture } })
        };
        let index = json!({ "schemaVersion": 2, "mediaType": "application/vnd.oci.image.index.v1+json",
            "manifests": [entry(&manifest, inspected.len(), &here.architecture)] });
        let index = serde_json::to_vec(&index).expect("JSON");
        let index_digest = Digest::of(&index);
        let reference = Reference::parse(&format!("{name}:multi")).expect("a reference");
        let pushed = client.push_manifest(
            &reference,
            &MediaType::OciIndex,
            index.into(),
            &Credentials::Anonymous,
        );
        runtime.block_on(pushed).expect("push the index");
        floe.floe(&["pull", &format!("{name}:multi")]).ok();

        let served = floe.serve(&["--store"]);
        let answer = served.get(&format!("/v2/cli/busybox/manifests/multi?ns={host}"));
        assert_eq!(answer.code, 200, "{answer:?}");
        assert_eq!(
            answer.header("content-type"),
            "application/vnd.oci.image.index.v1+json"
        );
        assert_eq!(
            answer.header("docker-content-digest"),
            index_digest.to_string()
        );
        let answer = served.get(&format!("/v2/cli/busybox/manifests/{manifest}?ns={host}"));
        assert_eq!(
            answer.header("content-type"),
            "application/vnd.oci.image.manifest.v1+json"
        );
        let answer = served.get(&format!("/v2/cli/busybox/manifests/{other}?ns={host}"));
        assert_eq!(answer.code, 404, "an image that the node does not have");
    });
}

#[test]
fn containerd_pulls_through_the_mirror_and_pushes_to_a_registry() {
    machine(|floe| {
        floe.floe(&["pull", &floe.image]).ok();
        floe.floe(&["tag", &floe.image, &format!("{PEER}:1")]).ok();
        let mirror = floe.serve(&["--store"]);
        let hosts = floe.node.path("hosts/docker.io");
        std::fs::create_dir_all(&hosts).expect("make the hosts directory");
        let text = format!(
            "server = \"http://{0}\"\n[host.\"http://{0}\"]\ncapabilities = [\"pull\", \"resolve\"]\n",
            mirror.host()
        );
        std::fs::write(hosts.join("hosts.toml"), text).expect("write hosts.toml");
        let containerd = testkit::Containerd::start("pause").expect("containerd");
        let ctr = |arguments: &[&str]| {
            let mut command = std::process::Command::new("ctr");
            command
                .arg("--address")
                .arg(containerd.dir().join("containerd.sock"));
            Said::from(command.args(arguments).output().expect("ctr is installed")).ok()
        };
        let hosts = floe.node.path("hosts").display().to_string();
        let name = format!("{PEER}:1");
        ctr(&[
            "images",
            "pull",
            "--snapshotter",
            "native",
            "--hosts-dir",
            &hosts,
            &name,
        ]);
        let listed = ctr(&["images", "list", "-q"]);
        assert_eq!(listed, name);
        let served = floe.serve(&[&floe.node.path("registry").display().to_string()]);
        let pushed = format!("{}/pushed/peer:1", served.host());
        ctr(&["images", "push", "--plain-http", &pushed, &name]);
        let digest = |place: &str| {
            let words = [
                "inspect",
                "--tls-verify=false",
                "--no-tags",
                "--format",
                "{{.Digest}}",
                place,
            ];
            floe.floe(&words).ok()
        };
        let original = format!("docker://{}", floe.image);
        assert_eq!(digest(&served.docker("pushed/peer:1")), digest(&original));
    });
}
