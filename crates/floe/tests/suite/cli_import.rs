//! `floe import`, `history` and `image prune`, beside Debian's podman.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::process::Stdio;

use crate::cli::{Machine, Said, machine};
use serde_json::Value;

fn json(text: &str) -> Value {
    serde_json::from_str(text).expect("JSON")
}

impl Machine {
    /// A tar file of a busybox.
    fn tar(&self, name: &str) -> String {
        let file = self.node.path(name);
        let layer = testkit::images::busybox().expect("busybox-static");
        std::fs::write(&file, layer).expect("write");
        file.display().to_string()
    }

    fn config(&self, image: &str) -> Value {
        json(
            &self
                .floe(&["inspect", "--config", &format!("floe:{image}")])
                .ok(),
        )
    }

    fn images(&self) -> Vec<String> {
        let ids = self.floe(&["images", "-q", "--no-trunc"]).ok();
        ids.lines().map(|id| id[7..].to_owned()).collect()
    }
}

const CHANGES: &[&str] = &[
    "-c",
    r#"CMD ["echo","imported"]"#,
    "-c",
    "ENV PATH=/bin",
    "-c",
    "LABEL who=me",
    "-c",
    "EXPOSE 80",
    "-c",
    "VOLUME /data",
    "-c",
    "WORKDIR /tmp",
    "-c",
    "USER 1:2",
    "-m",
    "a remark",
];

#[test]
fn an_imported_tar_is_the_image_that_podman_makes_of_it_and_runs() {
    machine(|floe| {
        let tar = floe.tar("root.tar");
        let mut arguments = vec!["import", "-q"];
        arguments.extend(CHANGES);
        arguments.extend([tar.as_str(), "example.com/imported:1"]);
        let id = floe.floe(&arguments).ok();
        assert!(id.starts_with("sha256:"), "{id}");
        let ours = floe.config("example.com/imported:1");
        floe.podman().run(&arguments).ok();
        let place = floe.node.path("theirs");
        let place = format!("dir:{}", place.display());
        floe.podman()
            .run(&["push", "-q", "example.com/imported:1", &place])
            .ok();
        let theirs = json(&floe.floe(&["inspect", "--config", &place]).ok());
        for key in ["config", "rootfs", "os", "architecture"] {
            assert_eq!(ours[key], theirs[key], "{key}");
        }
        for key in ["comment", "created_by"] {
            assert_eq!(ours["history"][0][key], theirs["history"][0][key], "{key}");
        }
        let run = ["run", "--rm", "--network", "none", "example.com/imported:1"];
        assert_eq!(floe.floe(&run).ok(), "imported");
        floe.floe(&["import", "-q", &tar, "short"]).ok();
        let names = floe
            .floe(&["images", "--format", "json", "localhost/short:latest"])
            .ok();
        assert_eq!(json(&names)[0]["Names"][0], "localhost/short:latest");
    });
}

#[test]
fn a_tar_comes_from_standard_input_or_a_url_compressed_or_not() {
    machine(|floe| {
        let tar = std::fs::read(floe.tar("root.tar")).expect("read");
        let mut import = floe.command(&["import", "-q", "-", "example.com/stdin:1"]);
        let mut import = import.stdin(Stdio::piped()).spawn().expect("start");
        import
            .stdin
            .take()
            .expect("stdin")
            .write_all(&tar)
            .expect("write");
        let said = Said::from(import.wait_with_output().expect("wait"));
        said.ok();
        let plain = floe.config("example.com/stdin:1")["rootfs"].clone();

        let gzip = floe.node.path("root.tar.gz");
        let packed = std::process::Command::new("gzip")
            .args(["-kc"])
            .arg(floe.node.path("root.tar"))
            .output();
        std::fs::write(&gzip, packed.expect("gzip").stdout).expect("write");
        let url = serve(std::fs::read(&gzip).expect("read"), 1);
        let said = floe.floe(&["import", &url, "example.com/url:1"]);
        assert!(said.err.contains("Downloading from"), "{said:?}");
        said.ok();
        assert_eq!(floe.config("example.com/url:1")["rootfs"], plain);
        for image in ["stdin", "url"] {
            let run = [
                "run",
                "--rm",
                "--network",
                "none",
                &format!("example.com/{image}:1"),
                "/bin/echo",
                "x",
            ];
            assert_eq!(floe.floe(&run).ok(), "x", "{image}");
        }
    });
}

/// A web server on loopback that answers `times` requests with these bytes.
fn serve(bytes: Vec<u8>, times: usize) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").expect("bind");
    let url = format!("http://{}/root", listener.local_addr().expect("an address"));
    std::thread::spawn(move || {
        for stream in listener.incoming().take(times) {
            let mut stream = stream.expect("a connection");
            let mut head = [0; 4096];
            let _ = stream.read(&mut head);
            let _ = write!(
                stream,
                "HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n",
                bytes.len()
            );
            let _ = stream.write_all(&bytes);
        }
    });
    url
}

#[test]
fn what_cannot_be_imported_is_refused_with_the_reason_and_leaves_nothing() {
    machine(|floe| {
        let tar = floe.tar("root.tar");
        let none = floe.node.path("no/such").display().to_string();
        floe.floe(&["import", &none]).failed(125, &[&none]);
        floe.floe(&["import", "-c", "FOO x", &tar])
            .failed(125, &["FOO"]);
        floe.floe(&["import", &tar, "UPPER"])
            .failed(125, &["UPPER"]);
        let xz = floe.node.path("root.xz");
        std::fs::write(&xz, b"\xfd7zXZ\0 and more").expect("write");
        floe.floe(&["import", &xz.display().to_string()])
            .failed(125, &["root.xz", "xz"]);
        let garbage = floe.node.path("garbage");
        std::fs::write(&garbage, vec![b'x'; 4096]).expect("write");
        floe.floe(&["import", &garbage.display().to_string()])
            .failed(125, &["tar"]);
        floe.floe(&["import", "http://127.0.0.1:9/x"])
            .failed(125, &["127.0.0.1:9"]);
        let cut = floe.node.path("cut.tar");
        let whole = std::fs::read(&tar).expect("read");
        std::fs::write(&cut, &whole[..whole.len() / 2]).expect("write");
        floe.floe(&["import", &cut.display().to_string()])
            .failed(125, &["layer"]);
        assert_eq!(floe.images(), [""; 0]);
    });
}

#[test]
fn history_tells_each_step_with_its_size_newest_first() {
    machine(|floe| {
        let tar = floe.tar("root.tar");
        let name = "example.com/history:1";
        let mut arguments = vec!["import", "-q"];
        arguments.extend(CHANGES);
        arguments.extend([tar.as_str(), name]);
        let id = floe.floe(&arguments).ok()[7..].to_owned();
        floe.podman().run(&arguments).ok();
        let theirs = json(
            &floe
                .podman()
                .run(&["history", "--format", "json", name])
                .ok(),
        );
        let ours = json(&floe.floe(&["history", "--format", "json", name]).ok());
        for key in ["CreatedBy", "comment"] {
            assert_eq!(ours[0][key], theirs[0][key], "{key}");
        }
        assert_eq!(ours[0]["id"], id);
        assert_eq!(ours[0]["tags"][0], name);
        let busybox = std::fs::metadata("/bin/busybox").expect("busybox").len();
        assert!(ours[0]["size"].as_u64() >= Some(busybox), "{ours}");
        let table = floe.floe(&["history", name]).ok();
        let head: Vec<_> = table
            .lines()
            .next()
            .unwrap_or_default()
            .split_whitespace()
            .collect();
        let expected = floe.podman().run(&["history", name]).ok();
        let expected: Vec<_> = expected
            .lines()
            .next()
            .unwrap_or_default()
            .split_whitespace()
            .collect();
        assert_eq!(head, expected);
        assert!(
            table.contains("...") && table.contains("a remark"),
            "{table}"
        );
        assert_eq!(floe.floe(&["history", "-q", name]).ok(), id[..12]);
        assert_eq!(floe.floe(&["history", "-q", "--no-trunc", name]).ok(), id);
        let format = ["history", "--format", "{{.Comment}}", name];
        assert_eq!(floe.floe(&format).ok(), "a remark");
        let format = [
            "history",
            "--format",
            r"table {{.Comment}}\t{{len .ID}}",
            name,
        ];
        assert_eq!(floe.floe(&format).ok(), "COMMENT   2\na remark  12");
        let whole = floe
            .floe(&["image", "history", "--no-trunc", "--human=false", name])
            .ok();
        let created = ours[0]["created"].as_str().unwrap_or_default();
        assert!(whole.contains(created) && !whole.contains("..."), "{whole}");
        floe.floe(&["history", "nothing"]).failed(125, &["nothing"]);
    });
}

#[test]
fn prune_removes_only_what_nothing_uses_and_only_when_somebody_agrees() {
    machine(|floe| {
        let tar = floe.tar("root.tar");
        let import = |label: &str, name: &[&str]| {
            let label = format!("LABEL {label}");
            let mut arguments = vec!["import", "-q", "-c", &label, &tar];
            arguments.extend(name);
            floe.floe(&arguments).ok()[7..].to_owned()
        };
        let dangling = import("kind=dangling", &[]);
        let other = import("kind=other", &[]);
        let named = import("kind=named", &["example.com/named:1"]);
        floe.background("user", "sleep 1000");
        let with = |answer: &str, arguments: &[&str]| {
            let mut prune = floe.command(arguments);
            let mut prune = prune.stdin(Stdio::piped()).spawn().expect("start");
            prune
                .stdin
                .take()
                .expect("stdin")
                .write_all(answer.as_bytes())
                .expect("write");
            Said::from(prune.wait_with_output().expect("wait"))
        };
        let said = with("n\n", &["image", "prune"]).ok();
        assert!(
            said.contains("[y/N]") && !said.contains(&dangling),
            "{said}"
        );
        with("", &["image", "prune"]).failed(125, &["--force"]);
        assert_eq!(floe.images().len(), 4);
        let filter = ["image", "prune", "-f", "--filter", "label=kind=dangling"];
        assert_eq!(floe.floe(&filter).ok(), dangling);
        let until = ["image", "prune", "-f", "--filter", "until=24h"];
        assert_eq!(floe.floe(&until).ok(), "");
        let without = ["image", "prune", "-f", "--filter", "label!=kind"];
        assert_eq!(floe.floe(&without).ok(), "");
        assert!(with("y\n", &["image", "prune"]).ok().ends_with(&other));
        assert_eq!(floe.floe(&["image", "prune", "-af"]).ok(), named);
        assert_eq!(floe.images().len(), 1, "the one that a container uses");
        floe.floe(&["image", "prune", "-f", "--filter", "colour=red"])
            .failed(125, &["colour=red"]);
        floe.floe(&["rm", "-f", "-t", "0", "user"]).ok();
        floe.floe(&["image", "prune", "-af"]).ok();
        assert_eq!(floe.images(), [""; 0]);
    });
}

#[test]
fn archives_in_xz_and_bzip2_are_loaded_copied_and_imported_and_what_is_none_keeps_its_bytes() {
    machine(|floe| {
        floe.floe(&["pull", "-q", &floe.image]).ok();
        let saved = floe.node.path("saved.tar").display().to_string();
        floe.floe(&["save", "-q", "-o", &saved, &floe.image]).ok();
        let layout = floe.node.path("layout.tar").display().to_string();
        let from = format!("floe:{}", floe.image);
        floe.floe(&[
            "copy",
            "-q",
            &from,
            &format!("oci-archive:{layout}:example.com/l:1"),
        ])
        .ok();
        let root = floe.tar("root.tar");
        let id = floe.images().remove(0);
        floe.floe(&["rmi", &floe.image]).ok();
        for (program, ending) in [("xz", "xz"), ("bzip2", "bz2")] {
            for file in [&saved, &layout, &root] {
                let status = std::process::Command::new(program)
                    .args(["-k", "-1", file])
                    .status();
                assert!(status.expect("it is installed").success());
            }
            for archive in [&saved, &layout] {
                floe.floe(&["load", "-q", "-i", &format!("{archive}.{ending}")])
                    .ok();
                assert_eq!(floe.images(), [id.as_str()], "{archive} {ending}");
                floe.floe(&["rmi", &id]).ok();
            }
            let place = format!("docker-archive:{saved}.{ending}");
            floe.floe(&["copy", "-q", &place, "floe:example.com/c:1"])
                .ok();
            floe.floe(&["rmi", "example.com/c:1"]).ok();
            let name = format!("example.com/{program}:1");
            floe.floe(&["import", &format!("{root}.{ending}"), &name])
                .ok();
            let run = ["run", "--rm", "--network", "none", &name, "/bin/echo", "x"];
            assert_eq!(floe.floe(&run).ok(), "x");
            floe.floe(&["rmi", &name]).ok();
        }
        let secret = floe.node.path("secret").display().to_string();
        std::fs::write(&secret, "root:$6$secret\u{1b}[2J\n".repeat(100)).expect("write");
        for arguments in [
            ["load", "-q", "-i", &secret].as_slice(),
            &[
                "copy",
                "-q",
                &format!("docker-archive:{secret}"),
                "floe:example.com/c:1",
            ],
            &[
                "copy",
                "-q",
                &format!("oci-archive:{secret}"),
                "floe:example.com/c:1",
            ],
        ] {
            let said = floe.floe(arguments);
            assert!(
                !said.err.contains("$6$") && !said.err.contains('\u{1b}'),
                "{}",
                said.err
            );
            said.failed(125, &["no tar archive"]);
        }
    });
}
