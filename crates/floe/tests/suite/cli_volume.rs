//! `floe volume`, and volumes in containers: named and anonymous ones, what they begin with, and their end.

use testkit::images;

use crate::cli::{Machine, machine};

impl Machine {
    fn volume(&self, arguments: &[&str]) -> crate::cli::Said {
        self.floe(&[&["volume"], arguments].concat())
    }

    fn volumes(&self) -> Vec<String> {
        let list = self.volume(&["ls", "-q"]).ok();
        list.lines().map(str::to_owned).collect()
    }

    /// An image with a directory of its own at /data, and with volumes declared.
    fn with_data(&self, volumes: serde_json::Value) -> String {
        let name = format!("{}/cli/data:1", self.registry.host());
        let mut layer = tar::Builder::new(Vec::new());
        let mut add = |path: &str, kind, size: usize, mode, uid, text: &[u8]| {
            let mut header = tar::Header::new_gnu();
            header.set_entry_type(kind);
            header.set_size(size as u64);
            header.set_mode(mode);
            header.set_uid(uid);
            header.set_gid(9);
            layer.append_data(&mut header, path, text).unwrap();
        };
        add("data/", tar::EntryType::Directory, 0, 0o750, 7, b"");
        add("data/file", tar::EntryType::Regular, 4, 0o640, 8, b"text");
        let mut link = tar::Header::new_gnu();
        link.set_entry_type(tar::EntryType::Symlink);
        link.set_size(0);
        layer.append_link(&mut link, "out", "/etc").unwrap();
        let layers = [
            images::busybox().expect("busybox-static"),
            layer.into_inner().unwrap(),
        ];
        let config = serde_json::json!({ "Env": ["PATH=/bin"], "Volumes": volumes });
        self.push_layers(&name, &layers, config);
        name
    }
}

#[test]
fn volumes_are_made_listed_and_removed() {
    machine(|floe| {
        assert_eq!(floe.volume(&["create", "one", "-l", "a=1"]).ok(), "one");
        floe.volume(&["create", "one"])
            .failed(125, &["volume already exists"]);
        floe.volume(&["create", "--ignore", "one"]).ok();
        let random = floe.volume(&["create"]).ok();
        assert_eq!(random.len(), 64);
        for bad in ["-x", "a/b", ".hidden", "ä"] {
            floe.volume(&["create", "--", bad])
                .failed(125, &["names must match"]);
        }
        floe.volume(&["create", "-o", "type=nfs", "two"])
            .failed(125, &["type", "not offered"]);
        assert_eq!(floe.volume(&["ls", "-q", "-f", "label=a"]).ok(), "one");
        assert_eq!(
            floe.volume(&["ls", "-q", "-f", "anonymous=true"]).ok(),
            random
        );
        let table = floe.volume(&["ls"]).ok();
        assert!(table.starts_with("DRIVER  VOLUME NAME"), "{table}");
        let place = floe
            .volume(&["inspect", "-f", "{{.Mountpoint}}", "one"])
            .ok();
        assert_eq!(
            place,
            floe.node.path("root/volumes/one/_data").to_str().unwrap()
        );
        assert_eq!(floe.volume(&["exists", "one"]).code, 0);
        assert_eq!(floe.volume(&["exists", "two"]).code, 1);
        floe.volume(&["rm", "two"]).failed(1, &["no such volume"]);
        assert_eq!(floe.volume(&["prune", "-f"]).ok(), random);
        assert_eq!(floe.volume(&["rm", "-a"]).ok(), "one");
        assert_eq!(floe.volumes(), [""; 0]);
    });
}

#[test]
fn a_volume_begins_with_what_the_image_has_and_is_shared_and_stays() {
    machine(|floe| {
        let image = floe.with_data(serde_json::json!({}));
        let run = |options: &[&str], script: &str| {
            let all = [
                &["run", "--rm", "--network", "none"],
                options,
                &[&image, "sh", "-c", script],
            ];
            floe.floe(&all.concat())
        };
        let looks = "stat -c '%u:%g %a' /data /data/file; cat /data/file";
        let said = run(&["-v", "kept:/data"], looks).ok();
        assert_eq!(said, "7:9 750\n8:9 640\ntext");
        run(
            &["-v", "kept:/other"],
            "echo more > /other/more; rm /other/file",
        )
        .ok();
        // Once only: what was removed does not come back.
        assert_eq!(run(&["-v", "kept:/data:ro"], "ls /data").ok(), "more");
        run(&["-v", "kept:/data:ro"], "touch /data/x").failed(1, &["Read-only"]);
        assert_eq!(run(&["-v", "bare:/data:nocopy"], "ls /data").ok(), "");
        let mount = [
            "--mount",
            "type=volume,src=user,dst=/fresh",
            "--user",
            "33:44",
        ];
        assert_eq!(run(&mount, "stat -c %u:%g /fresh").ok(), "33:44");
        // A link of the image leads nowhere but into the image.
        run(&["-v", "link:/out"], "true").ok();
        let here = floe.node.path("root/volumes/link/_data/passwd");
        assert_ne!(std::fs::read(here).ok(), std::fs::read("/etc/passwd").ok());
        assert_eq!(floe.volumes(), ["bare", "kept", "link", "user"]);
    });
}

#[test]
fn anonymous_volumes_go_with_their_container_if_that_is_wanted() {
    machine(|floe| {
        let image = floe.with_data(serde_json::json!({ "/data": {}, "/more": {} }));
        let create = |options: &[&str]| {
            let all = [
                &["create", "--network", "none"],
                options,
                &[&image, "sleep", "1000"],
            ];
            floe.floe(&all.concat()).ok()
        };
        create(&["--name", "a", "-v", "/own"]);
        assert_eq!(floe.volumes().len(), 3);
        let kinds = floe
            .floe(&[
                "inspect",
                "--format",
                "{{range .Mounts}}{{.Type}} {{end}}",
                "a",
            ])
            .ok();
        assert_eq!(kinds, "volume volume volume");
        create(&[
            "--name",
            "b",
            "--volumes-from",
            "a:ro",
            "--image-volume",
            "ignore",
        ]);
        assert_eq!(floe.volumes().len(), 3);
        floe.floe(&["start", "a", "b"]).ok();
        floe.floe(&["exec", "a", "sh", "-c", "echo x > /own/x"])
            .ok();
        assert_eq!(
            floe.floe(&["exec", "b", "cat", "/own/x", "/data/file"])
                .ok(),
            "x\ntext"
        );
        floe.floe(&["stop", "-t", "0", "-a"]).ok();
        // The other uses them still.
        floe.floe(&["rm", "-v", "a"]).ok();
        assert_eq!(floe.volumes().len(), 3);
        floe.floe(&["rm", "-v", "b"]).ok();
        assert_eq!(floe.volumes(), [""; 0]);
        let run = [
            "run",
            "--rm",
            "--network",
            "none",
            &image,
            "touch",
            "/data/x",
        ];
        floe.floe(&run).ok();
        assert_eq!(floe.volumes(), [""; 0]);
        let fails = [
            "run",
            "--name",
            "c",
            "--network",
            "none",
            &image,
            "nothing-like-it",
        ];
        assert_eq!(floe.floe(&fails).code, 127);
    });
}

#[test]
fn one_that_is_used_stays_and_its_content_goes_in_and_out() {
    machine(|floe| {
        let run = ["-d", "--name", "box", "-v", "data:/data"];
        floe.run(&run, &["sh", "-c", "echo text > /data/f; exec sleep 1000"])
            .ok();
        let written = floe.node.path("root/volumes/data/_data/f");
        crate::cli::until("it is written", || {
            std::fs::read(&written).is_ok_and(|text| text == b"text\n")
        });
        floe.volume(&["rm", "data"])
            .failed(2, &["volume is being used"]);
        assert_eq!(floe.volume(&["prune", "-f", "--all"]).ok(), "");
        assert_eq!(floe.floe(&["ps", "-q", "-f", "volume=data"]).ok().len(), 12);
        let archive = floe.node.path("data.tar");
        let archive = archive.to_str().unwrap();
        floe.volume(&["export", "-o", archive, "data"]).ok();
        floe.volume(&["create", "copy"]).ok();
        floe.volume(&["import", "copy", archive]).ok();
        let copied = floe.node.path("root/volumes/copy/_data/f");
        assert_eq!(std::fs::read(copied).unwrap(), b"text\n");
        floe.volume(&["import", "copy", "/not/there"])
            .failed(125, &["/not/there"]);
        floe.volume(&["rm", "-f", "-t", "0", "data"]).ok();
        assert_eq!(floe.listed(&["-a"]), [""; 0]);
        assert_eq!(floe.volumes(), ["copy"]);
    });
}
