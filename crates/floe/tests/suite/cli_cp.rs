//! `floe cp` and `floe export`: files between containers and this machine, and no link that leads from one to the
//! other.

use std::os::unix::fs::{MetadataExt, PermissionsExt};

use crate::cli::{Machine, machine};

impl Machine {
    fn cp(&self, from: &str, to: &str) -> crate::cli::Said {
        self.floe(&["cp", from, to])
    }

    fn here(&self, name: &str) -> String {
        self.node.path(name).display().to_string()
    }

    fn in_box(&self, script: &str) -> String {
        self.floe(&["exec", "box", "sh", "-c", script]).ok()
    }
}

#[test]
fn files_and_directories_come_where_cp_has_them() {
    machine(|floe| {
        floe.background("box", "sleep 1000");
        let (file, tree) = (floe.here("file"), floe.here("tree"));
        std::fs::write(&file, "text").unwrap();
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o750)).unwrap();
        std::fs::create_dir_all(format!("{tree}/sub")).unwrap();
        std::fs::write(format!("{tree}/sub/leaf"), "leaf").unwrap();
        floe.in_box("mkdir /there");
        floe.cp(&file, "box:/there").ok();
        floe.cp(&file, "box:/there/renamed").ok();
        floe.cp(&tree, "box:/there").ok();
        floe.cp(&tree, "box:/fresh").ok();
        floe.cp(&format!("{tree}/."), "box:/there").ok();
        let list = "cd /; find there fresh -type f | sort; stat -c %a /there/renamed";
        assert_eq!(
            floe.in_box(list),
            "fresh/sub/leaf\nthere/file\nthere/renamed\nthere/sub/leaf\nthere/tree/sub/leaf\n750"
        );
        let back = floe.here("back");
        floe.cp("box:/there", &back).ok();
        assert_eq!(
            std::fs::read(format!("{back}/tree/sub/leaf")).unwrap(),
            b"leaf"
        );
        floe.cp("box:there/file", &floe.here("one")).ok();
        assert_eq!(
            std::fs::metadata(floe.here("one")).unwrap().mode() & 0o777,
            0o750
        );
        floe.cp("box:/nope", &back)
            .failed(125, &["\"/nope\" could not be found on container box"]);
        floe.cp(&floe.here("nope"), "box:/")
            .failed(125, &["could not be found on the host"]);
        floe.cp(&tree, "box:/there/file")
            .failed(125, &["destination must be a directory"]);
        floe.cp(&file, "box:/not/there/").failed(125, &[]);
        floe.in_box("mkdir -p /kinds/file/x");
        floe.cp(&file, "box:/kinds").failed(125, &["/kinds/file"]);
        floe.floe(&["cp", "--overwrite", &file, "box:/kinds"]).ok();
        assert_eq!(floe.in_box("cat /kinds/file"), "text");
        floe.cp(&file, "nobody:/")
            .failed(125, &["no such container"]);
    });
}

#[test]
fn what_does_not_run_is_copied_as_well() {
    machine(|floe| {
        let image = floe.image.clone();
        floe.floe(&[
            "create",
            "--name",
            "a",
            "--user",
            "7:8",
            &image,
            "sh",
            "-c",
            "cat /file; stat -c %u:%g /file",
        ])
        .ok();
        let file = floe.here("file");
        std::fs::write(&file, "text\n").unwrap();
        floe.cp(&file, "a:/file").ok();
        assert_eq!(floe.floe(&["start", "-a", "a"]).ok(), "text\n7:8");
        floe.floe(&["create", "--name", "b", &image]).ok();
        floe.cp("a:/file", "b:/etc/copied").ok();
        floe.cp("b:/etc/copied", &floe.here("out")).ok();
        assert_eq!(std::fs::read(floe.here("out")).unwrap(), b"text\n");
        // A volume is where the container will see it.
        let with_volume = ["create", "--name", "c", "-v", "kept:/data", &image];
        floe.floe(&with_volume).ok();
        floe.cp(&file, "c:/data/in").ok();
        let kept = floe.node.path("root/volumes/kept/_data/in");
        assert_eq!(std::fs::read(kept).unwrap(), b"text\n");
        floe.cp("c:/data/.", &floe.here("of-volume")).ok();
        assert!(std::path::Path::new(&floe.here("of-volume/in")).exists());
        let archive = floe.here("all.tar");
        floe.floe(&["export", "-o", &archive, "b"]).ok();
        let mut archive = tar::Archive::new(std::fs::File::open(&archive).unwrap());
        let names = archive.entries().unwrap();
        let names: Vec<String> = names
            .map(|entry| entry.unwrap().path().unwrap().display().to_string())
            .collect();
        assert!(names.contains(&"etc/copied".to_owned()), "{names:?}");
        assert!(names.contains(&"bin/busybox".to_owned()), "{names:?}");
    });
}

#[test]
fn no_link_leads_out_of_either_side() {
    machine(|floe| {
        floe.background("box", "sleep 1000");
        let secret = floe.here("secret");
        std::fs::write(&secret, "of this machine").unwrap();
        floe.in_box(&format!(
            "mkdir -p /out; ln -s {secret} /link; ln -s ../../../../../../..{secret} /up; mkfifo /out/fifo; \
             ln -s / /root-of-it; ln -s /nowhere /out/dangling"
        ));
        // To where a link leads is inside of the container.
        floe.cp("box:/link", &floe.here("got"))
            .failed(125, &["could not be found"]);
        floe.cp("box:/up", &floe.here("got"))
            .failed(125, &["could not be found"]);
        let new = floe.here("new");
        std::fs::write(&new, "written").unwrap();
        floe.cp(&new, "box:/root-of-it/placed").ok();
        assert_eq!(floe.in_box("cat /placed"), "written");
        floe.cp(&new, "box:/link").ok();
        assert_eq!(std::fs::read_to_string(&secret).unwrap(), "of this machine");
        // A fifo is copied, and never opened; a dangling link is one.
        floe.cp("box:/out", &floe.here("taken")).ok();
        let link = std::fs::read_link(floe.here("taken/dangling")).unwrap();
        assert_eq!(link.to_str(), Some("/nowhere"));
    });
}

#[test]
fn archives_on_standard_streams() {
    machine(|floe| {
        use std::io::Write;
        use std::process::Stdio;
        floe.background("box", "sleep 1000");
        floe.in_box("mkdir /d; echo one > /d/f");
        let out = floe.command(&["cp", "box:/d", "-"]).output().unwrap();
        let mut archive = tar::Archive::new(&out.stdout[..]);
        let names: Vec<String> = archive
            .entries()
            .unwrap()
            .map(|entry| entry.unwrap().path().unwrap().display().to_string())
            .collect();
        assert_eq!(names, ["d", "d/f"]);
        let mut takes = floe
            .command(&["cp", "-", "box:/tmp2"])
            .stdin(Stdio::piped())
            .spawn()
            .unwrap();
        takes.stdin.take().unwrap().write_all(&out.stdout).unwrap();
        let said = crate::cli::Said::from(takes.wait_with_output().unwrap());
        said.failed(125, &["could not be found"]);
        floe.in_box("mkdir /tmp2");
        let mut takes = floe
            .command(&["cp", "-", "box:/tmp2"])
            .stdin(Stdio::piped())
            .spawn()
            .unwrap();
        takes.stdin.take().unwrap().write_all(&out.stdout).unwrap();
        crate::cli::Said::from(takes.wait_with_output().unwrap()).ok();
        assert_eq!(floe.in_box("cat /tmp2/d/f"), "one");
    });
}

#[test]
fn processes_and_what_they_use_are_shown() {
    machine(|floe| {
        floe.background("box", "sleep 1000 & exec sleep 2000");
        crate::cli::until("both run", || {
            floe.floe(&["top", "box"]).out.matches("sleep").count() == 2
        });
        let table = floe.floe(&["top", "box"]).ok();
        assert!(table.starts_with("USER  PID  PPID  %CPU"), "{table}");
        let few = floe.floe(&["top", "box", "pid,comm"]).ok();
        let first: Vec<&str> = few
            .lines()
            .nth(1)
            .unwrap()
            .split_ascii_whitespace()
            .collect();
        assert_eq!(first, ["1", "sleep"]);
        floe.floe(&["top", "box", "nonsense"])
            .failed(125, &["unknown descriptor: nonsense"]);
        let once = ["stats", "--no-stream", "--format", "{{.Name}} {{.PIDS}}"];
        assert_eq!(floe.floe(&once).ok(), "box 2");
        floe.floe(&["update", "--memory", "64m", "--pids-limit", "50", "box"])
            .ok();
        let limits = "{{.HostConfig.Memory}} {{.HostConfig.PidsLimit}}";
        let told = floe.floe(&["inspect", "--format", limits, "box"]).ok();
        assert_eq!(told, format!("{} 50", 64 << 20));
        floe.floe(&["stop", "-t", "0", "box"]).ok();
        floe.floe(&["top", "box"]).failed(125, &[]);
        floe.floe(&["update", "--memory", "32m", "--restart", "always", "box"])
            .ok();
        floe.floe(&["start", "box"]).ok();
        let told = floe.floe(&["inspect", "--format", limits, "box"]).ok();
        assert_eq!(told, format!("{} 50", 32 << 20));
    });
}
