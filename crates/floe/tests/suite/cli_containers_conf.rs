//! containers.conf: what containers are made with where the command line does not say.

use crate::cli::{Machine, Said, machine};

impl Machine {
    /// `floe` with these files in place of the machine's, and after all others.
    fn with_conf(&self, files: (&str, Option<&str>), arguments: &[&str]) -> Said {
        let mut command = self.command(arguments);
        let write = |name: &str, text: &str| {
            let path = self.node.path(name);
            std::fs::write(&path, text).expect("write");
            path
        };
        command.env("CONTAINERS_CONF", write("containers.conf", files.0));
        if let Some(text) = files.1 {
            command.env("CONTAINERS_CONF_OVERRIDE", write("override.conf", text));
        }
        command.output().expect("run floe").into()
    }

    /// What a script prints in a container that is made with this table.
    fn in_conf(&self, table: &str, options: &[&str], script: &str) -> String {
        let text = format!("[containers]\n{table}\n[engine]\nruntime = \"crun\"\n");
        let run = [&["run", "--rm", "--network", "none"], options].concat();
        let words = [&run[..], &[&self.image, "sh", "-c", script]].concat();
        self.with_conf((&text, None), &words).ok()
    }
}

#[test]
fn what_the_command_line_does_not_say_the_file_does() {
    machine(|floe| {
        let table = "env = [\"A=file\", \"FROM=file\", \"B=file\"]\numask = \"0027\"\ntz = \"UTC\"\n\
                     default_ulimits = [\"nofile=500:600\", \"cpu=50:60\"]\nshm_size = \"2m\"\npids_limit = 77\n\
                     default_sysctls = [\"net.ipv4.ip_default_ttl=77\", \"kernel.shm_rmid_forced=1\"]\n\
                     default_capabilities = [\"CHOWN\", \"CAP_KILL\"]\nannotations = [\"x=file\"]\n\
                     dns_servers = [\"192.0.2.9\"]";
        let script = "echo $A $FROM $B; umask; ulimit -n; ulimit -t; df -k /dev/shm | tail -1 | awk '{print $2}'; \
                      cat /proc/sys/net/ipv4/ip_default_ttl /proc/sys/kernel/shm_rmid_forced; \
                      grep CapEff /proc/self/status; cat /etc/resolv.conf";
        let said = floe.in_conf(table, &["-e", "B=said"], script);
        let lines: Vec<&str> = said.lines().collect();
        // The image's own hides the file's.
        assert_eq!(
            lines[..4],
            ["file image said", "0027", "500", "50"],
            "{said}"
        );
        assert_eq!(lines[4..7], ["2048", "77", "1"], "{said}");
        assert!(lines[7].ends_with("0000000000000021"), "{said}");
        assert!(lines[8..].contains(&"nameserver 192.0.2.9"), "{said}");
        let options = [
            "--ulimit",
            "nofile=400",
            "--umask",
            "0077",
            "--shm-size",
            "1m",
            "--sysctl",
            "net.ipv4.ip_default_ttl=66",
            "--cap-add",
            "mknod",
            "--cap-drop",
            "kill",
            "--dns",
            "192.0.2.7",
        ];
        let said = floe.in_conf(table, &options, script);
        let lines: Vec<&str> = said.lines().collect();
        assert_eq!(
            lines[..4],
            ["file image file", "0077", "400", "50"],
            "{said}"
        );
        assert_eq!(lines[4..7], ["1024", "66", "1"], "{said}");
        assert!(lines[7].ends_with("0000000008000001"), "{said}");
        assert!(!said.contains("192.0.2.9"), "{said}");
        // The node's network is the node's.
        let host = "default_sysctls = [\"net.ipv4.ip_default_ttl=77\"]";
        let text = format!("[containers]\n{host}\n");
        let run = ["run", "--rm", "--network", "host", &floe.image, "true"];
        floe.with_conf((&text, None), &run).ok();
    });
}

#[test]
fn mounts_of_the_file_are_where_nothing_else_is_and_stay_with_the_container() {
    machine(|floe| {
        let here = floe.node.path("here");
        std::fs::create_dir(&here).expect("a directory");
        std::fs::write(here.join("file"), "text").expect("write");
        let here = here.display();
        let table = format!(
            "volumes = [\"{here}:/there:ro\", \"{here}:/other\"]\nmounts = [\"type=tmpfs,dst=/memory\"]\nenv = [\"A=1\"]"
        );
        let script = "cat /there/file; grep -c ' /memory tmpfs' /proc/mounts; ls /other";
        let said = floe.in_conf(&table, &["--tmpfs", "/other"], script);
        assert_eq!(said, "text1");
        let text = format!("[containers]\n{table}\n");
        let image = floe.image.clone();
        let create = [
            "create",
            "--network",
            "none",
            "--name",
            "box",
            &image,
            "sh",
            "-c",
            "cat /there/file; echo $A",
        ];
        floe.with_conf((&text, None), &create).ok();
        assert_eq!(floe.floe(&["start", "-a", "box"]).ok(), "text1");
    });
}

#[test]
fn a_later_file_wins_and_one_that_is_none_is_named() {
    machine(|floe| {
        let image = floe.image.clone();
        let run = [
            "run",
            "--rm",
            "--network",
            "none",
            &image,
            "sh",
            "-c",
            "echo $A $B",
        ];
        let first = "[containers]\nenv = [\"A=1\"]\n";
        let replaces = Some("[containers]\nenv = [\"B=2\"]\n");
        assert_eq!(floe.with_conf((first, replaces), &run).ok(), "2");
        let adds = Some("[containers]\nenv = [\"B=2\", {append=true}]\n");
        assert_eq!(floe.with_conf((first, adds), &run).ok(), "1 2");
        floe.with_conf((first, Some("[containers\n")), &run)
            .failed(125, &["override.conf"]);
        floe.with_conf(("[containers]\nenv = 7\n", None), &run)
            .failed(125, &["containers.conf"]);
        let mut command = floe.command(&run);
        command.env("CONTAINERS_CONF", "/not/there");
        let said = Said::from(command.output().expect("run floe"));
        said.failed(125, &["/not/there", "no such file"]);
        floe.with_conf(("[containers]\numask = \"9\"\n", None), &run)
            .failed(125, &["umask"]);
        assert_eq!(floe.listed(&["-a"]), [""; 0]);
    });
}

#[test]
fn a_pods_network_is_not_a_containers_to_change_by_the_file_either() {
    machine(|floe| {
        let image = floe.image.clone();
        floe.floe(&["pod", "create", "--network", "none", "p"]).ok();
        let text = "[containers]\nenv = [\"A=file\"]\ndns_servers = [\"192.0.2.9\"]\n";
        let script = "echo $A; grep -c 192.0.2.9 /etc/resolv.conf";
        let run = ["run", "--rm", "--pod", "p", &image, "sh", "-c", script];
        let said = floe.with_conf((text, None), &run);
        assert_eq!((said.code, &*said.out), (1, "file\n0\n"), "{}", said.err);
        floe.floe(&["pod", "rm", "-f", "p"]).ok();
    });
}
