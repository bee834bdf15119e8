//! Lists as scripts read them: templates, filters, sorting, and what scripts begin and end with.

use crate::cli::machine;

#[test]
fn containers_are_listed_in_the_words_of_a_template() {
    machine(|floe| {
        let one = floe.background("one", "sleep 1000");
        floe.run(&["--name", "two", "-l", "k=v"], &["sh", "-c", "exit 3"]);
        let ps = |options: &[&str]| floe.floe(&[&["ps"][..], options].concat());
        let said = ps(&["--all", "--external", "--format", "{{.ID}} {{.Names}}"]).ok();
        let lines: Vec<&str> = said.lines().collect();
        assert_eq!(lines[0], format!("{} one", &one[..12]));
        assert!(lines[1].ends_with(" two"), "{said}");
        assert_eq!(ps(&["--no-trunc", "--format", "{{.ID}}"]).ok(), one);
        let said = ps(&[
            "-a",
            "--format",
            "table {{.Names}} {{.State}} {{.ExitCode}}",
        ])
        .ok();
        let lines: Vec<String> = said
            .lines()
            .map(|line| line.split_whitespace().collect::<Vec<_>>().join(" "))
            .collect();
        assert_eq!(
            lines,
            ["NAMES STATE EXIT CODE", "one running 0", "two exited 3"]
        );
        assert_eq!(ps(&["--noheading"]).ok().lines().count(), 1);
        ps(&["--format", "{{.NoSuch}}"]).failed(125, &["NoSuch"]);

        let names = |filter: &[&str]| {
            let words = [&["-a", "--format", "{{.Names}}"][..], filter].concat();
            ps(&words).ok()
        };
        for (filter, expected) in [
            (&["--filter", "name=on"][..], "one"),
            (&["--filter", "name=o"], "one\ntwo"),
            (&["-f", "status=exited"], "two"),
            (&["-f", "status=exited", "-f", "status=running"], "one\ntwo"),
            (&["-f", "exited=3"], "two"),
            (&["-f", "exited=4"], ""),
            (&["-f", "label=k"], "two"),
            (&["-f", "label=k=v", "-f", "name=one"], ""),
            (&["-f", "label!=k"], "one"),
            (&["-f", "before=two"], "one"),
            (&["-f", "since=one"], "two"),
            (&["-f", "ancestor=busybox"], "one\ntwo"),
            (&["-f", "ancestor=busy"], ""),
            (&["--latest"], "two"),
            (&["-n", "1"], "two"),
            (&["--sort", "names"], "one\ntwo"),
            (&["--sort", "status"], "two\none"),
        ] {
            assert_eq!(names(filter), expected, "{filter:?}");
        }
        assert_eq!(
            names(&["-f", &format!("ancestor={}", floe.image)]),
            "one\ntwo"
        );
        assert_eq!(names(&["-f", &format!("id={}", &one[..8])]), "one");
        ps(&["-f", "colour=red"]).failed(125, &["colour is an invalid filter"]);
        ps(&["--watch", "1"]).failed(125, &["--watch is not offered"]);

        floe.floe(&["rm", "one"]).failed(2, &["running or paused containers cannot be removed without force: container state improper"]);
        floe.floe(&["rm", "none"]).failed(
            1,
            &["no container with ID or name \"none\" found: no such container"],
        );
        floe.floe(&["logs", "none"])
            .failed(125, &["no such container"]);
        floe.floe(&["rm", "-t", "0", "--all", "--force", "--ignore"])
            .ok();
        assert_eq!(ps(&["-a", "-q"]).ok(), "");
    });
}

#[test]
fn images_are_listed_in_the_words_of_a_template() {
    machine(|floe| {
        let id = floe.floe(&["pull", "-q", &floe.image]).ok();
        floe.floe(&["tag", &floe.image, "localhost/mine:2"]).ok();
        let images = |options: &[&str]| floe.floe(&[&["images"][..], options].concat());
        let said = images(&["--all", "--format", "{{.Repository}}:{{.Tag}} {{.ID}}"]).ok();
        let short = &id[..12];
        let mut lines: Vec<&str> = said.lines().collect();
        lines.sort_unstable();
        let mut expected = [
            format!("{} {short}", floe.image),
            format!("localhost/mine:2 {short}"),
        ];
        expected.sort();
        assert_eq!(lines, expected);
        let said = images(&["-n", "--format", "table {{.Repository}}"]).ok();
        assert!(said.contains("localhost/mine"), "{said}");
        assert_eq!(images(&["--noheading"]).ok().lines().count(), 2);
        let found = |filter: &str| images(&["-q", "--filter", filter]).ok() == short;
        for (filter, fits) in [
            ("reference=mine", true),
            ("reference=localhost/*", true),
            ("reference=min", false),
            ("dangling=true", false),
            ("dangling=false", true),
            ("label=none", false),
            ("readonly=false", true),
        ] {
            assert_eq!(found(filter), fits, "{filter}");
        }
        images(&["--filter", "colour=red"]).failed(125, &["colour=red"]);
        floe.floe(&["rmi", "none"]).failed(1, &["image not known"]);
        floe.floe(&["rmi", "--ignore", "--no-prune", "none"]).ok();
        floe.floe(&["rmi", "--all", "--force"]).ok();
        assert_eq!(images(&["-q"]).ok(), "");
    });
}

#[test]
fn images_are_pulled_as_podman_is_told_to() {
    machine(|floe| {
        let private = testkit::Registry::start_private().expect("a registry");
        let there = format!("{}/x:1", private.host());
        let to = format!("docker://{there}");
        let from = format!("docker://{}", floe.image);
        let copy = [
            "copy",
            "-q",
            "--dest-tls-verify=false",
            "--dest-creds",
            "floe:secret",
        ];
        floe.floe(&[&copy[..], &[&from, &to]].concat()).ok();
        let pull = |options: &[&str], image: &str| {
            floe.floe(&[&["pull", "-q"][..], options, &[image]].concat())
        };
        pull(&["--tls-verify=false"], &there).failed(125, &["access denied"]);
        let id = pull(
            &[
                "--tls-verify=false",
                "--creds",
                "floe:secret",
                "--retry",
                "1",
            ],
            &there,
        )
        .ok();
        assert_eq!(pull(&["--policy", "never"], &there).ok(), id);
        assert_eq!(pull(&["--policy", "missing"], &there).ok(), id);
        assert_eq!(pull(&["--policy", "newer"], &there).ok(), id);
        pull(&["--policy", "never"], "localhost/none").failed(125, &["image not known"]);
        floe.floe(&["rmi", &there]).ok();
        // From an archive, and all tags of a repository.
        let archive = format!("docker-archive:{}", floe.node.path("a.tar").display());
        let named = format!("{archive}:localhost/archived:1");
        floe.floe(&["copy", "-q", &from, &named]).ok();
        assert_eq!(pull(&[], &archive).ok(), id);
        assert_eq!(
            floe.floe(&["images", "--format", "{{.Repository}}"]).ok(),
            "localhost/archived"
        );
        floe.push(&floe.image.replace(":1", ":2"), &["echo", "2"]);
        let repository = floe.image.trim_end_matches(":1");
        assert_eq!(pull(&["--all-tags"], repository).ok().lines().count(), 2);
        pull(&["--all-tags"], &floe.image).failed(125, &["--all-tags"]);
        pull(
            &["--platform", "linux/s390x"],
            &format!("docker://{}", floe.image),
        )
        .ok();
        pull(&["--decryption-key", "x"], &there).failed(125, &["--decryption-key is not offered"]);
    });
}

#[test]
fn logs_and_commands_find_the_newest_container_and_its_time() {
    machine(|floe| {
        floe.run(&["-d", "--name", "one"], &["sleep", "1000"]).ok();
        floe.run(&["--name", "two"], &["echo", "said"]).ok();
        let logs = |options: &[&str]| floe.floe(&[&["logs"][..], options].concat());
        assert_eq!(logs(&["--latest", "--names"]).ok(), "two said");
        assert_eq!(logs(&["--since", "1h", "--tail", "-1", "two"]).ok(), "said");
        assert_eq!(logs(&["--until", "1h", "two"]).ok(), "");
        logs(&["--since", "soon", "two"]).failed(125, &["soon"]);
        logs(&["--color", "two"]).failed(125, &["--color is not offered"]);
        logs(&[]).failed(125, &["CONTAINER"]);
        floe.floe(&["rm", "two"]).ok();
        let (env, cid) = (floe.node.path("env"), floe.node.path("cid"));
        std::fs::write(&env, "A=of a file\nB=2\n").expect("write");
        let one = floe.floe(&["ps", "--no-trunc", "-q"]).ok();
        std::fs::write(&cid, one).expect("write");
        let [env, cid] = [env, cid].map(|path| path.display().to_string());
        let words = ["sh", "-c", "echo $A $B"];
        let exec = |options: &[&str]| floe.floe(&[&["exec"][..], options, &words].concat());
        assert_eq!(
            exec(&["--env-file", &env, "-e", "B=3", "one"]).ok(),
            "of a file 3"
        );
        assert_eq!(exec(&["--latest", "-e", "A=1"]).ok(), "1");
        assert_eq!(exec(&["--cidfile", &cid, "-e", "A=1"]).ok(), "1");
        exec(&["--no-session", "one"]).failed(125, &["--no-session is not offered"]);
        floe.floe(&["rm", "-f", "-t", "0", "one"]).ok();
    });
}
