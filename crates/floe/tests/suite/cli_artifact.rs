//! `floe artifact referrers`, and registries' warnings shown.

use std::io::{Read, Write};
use std::net::TcpListener;

use crate::cli::machine;
use image::{Descriptor, Digest, Manifest, MediaType};
use serde_json::Value;

#[test]
fn what_is_pushed_about_an_image_is_listed_with_it() {
    machine(|floe| {
        let image = format!("docker://{}", floe.image);
        let raw = floe.floe(&["inspect", "--raw", &image]).out;
        // An artifact about it, in a directory.
        let dir = floe.node.path("artifact");
        std::fs::create_dir(&dir).expect("create");
        let empty = Descriptor::of(MediaType::OciEmpty, b"{}");
        let mut manifest =
            Manifest::new(MediaType::OciManifest, empty.clone(), vec![empty.clone()]);
        manifest.artifact_type = Some("application/vnd.example.note".into());
        manifest.subject = Some(Descriptor::of(MediaType::OciManifest, raw.as_bytes()));
        let bytes = serde_json::to_vec(&manifest).expect("JSON");
        let files = [
            (
                "version".to_owned(),
                &b"Directory Transport Version: 1.1\n"[..],
            ),
            (empty.digest.hex().to_owned(), b"{}"),
            ("manifest.json".to_owned(), &bytes),
        ];
        for (name, content) in files {
            std::fs::write(dir.join(name), content).expect("write");
        }
        let list = |options: &[&str]| {
            let mut words = vec!["artifact", "referrers"];
            words.extend(options);
            words.push(&image);
            let index: Value = serde_json::from_str(&floe.floe(&words).ok()).expect("JSON");
            index["manifests"].as_array().cloned().unwrap_or_default()
        };
        assert_eq!(list(&[]), [Value::Null; 0]);
        let place = format!("docker://{}/cli/busybox:note", floe.registry.host());
        floe.floe(&["copy", "-q", &format!("dir:{}", dir.display()), &place])
            .ok();
        let found = list(&[]);
        assert_eq!(found.len(), 1);
        assert_eq!(found[0]["digest"], Digest::of(&bytes).to_string());
        assert_eq!(found[0]["artifactType"], "application/vnd.example.note");
        assert_eq!(
            list(&["--artifact-type", "application/vnd.example.note"]).len(),
            1
        );
        assert_eq!(list(&["--artifact-type", "other/type"]).len(), 0);
        floe.floe(&["artifact", "referrers", "dir:/x"])
            .failed(125, &["docker://"]);
    });
}

#[test]
fn what_a_registry_warns_of_is_shown_once() {
    machine(|floe| {
        let listener = TcpListener::bind("127.0.0.1:0").expect("bind");
        let host = listener.local_addr().expect("an address").to_string();
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let mut stream = stream.expect("a connection");
                let mut head = [0; 4096];
                let _ = stream.read(&mut head);
                let body = br#"{"name":"x","tags":["1"]}"#;
                let _ = write!(
                    stream,
                    "HTTP/1.1 200 OK\r\nConnection: close\r\nWarning: 299 - \"closing down\"\r\nContent-Length: {}\r\n\r\n",
                    body.len()
                );
                let _ = stream.write_all(body);
            }
        });
        let place = format!("docker://{host}/x");
        let said = floe.floe(&["list-tags", "--tls-verify=false", &place]);
        assert_eq!(said.err, format!("Warning: {host}: closing down\n"));
        said.ok();
    });
}
