//! `floe build`: what Containerfiles make, beside Debian's podman, and what they cannot reach.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::cli::{Machine, Said, machine, until};

fn json(text: &str) -> Value {
    serde_json::from_str(text).expect("JSON")
}

impl Machine {
    /// A context with these files.
    fn context(&self, name: &str, files: &[(&str, &str)]) -> PathBuf {
        let dir = self.node.path(name);
        for (path, content) in files {
            let path = dir.join(path);
            fs::create_dir_all(path.parent().expect("a parent")).expect("make");
            fs::write(&path, content).expect("write");
        }
        dir
    }

    fn build(&self, context: &Path, options: &[&str]) -> Said {
        let context = context.display().to_string();
        let mut arguments = vec!["build", "--network", "none"];
        arguments.extend(options);
        arguments.push(&context);
        self.floe(&arguments)
    }

    fn built(&self, name: &str, options: &[&str], files: &[(&str, &str)]) -> Said {
        let context = self.context(&format!("context-{name}"), files);
        self.build(&context, &[&["-q", "-t", name], options].concat())
    }

    fn config_of(&self, image: &str) -> Value {
        json(
            &self
                .floe(&[
                    "inspect",
                    "--config",
                    &format!("floe:localhost/{image}:latest"),
                ])
                .ok(),
        )
    }

    /// What a command in a container of it prints.
    fn says(&self, image: &str, script: &str) -> String {
        let run = [
            "run",
            "--rm",
            "--network",
            "none",
            "--entrypoint",
            "/bin/busybox",
            image,
            "sh",
            "-c",
            script,
        ];
        self.floe(&run).ok()
    }

    /// The files of an image without those of its layers' own: mode, owner, size and target of each.
    fn files(&self, place: &str) -> BTreeMap<String, String> {
        let dir = self.node.path("files");
        let _ = fs::remove_dir_all(&dir);
        let to = format!("dir:{}", dir.display());
        self.floe(&["copy", "-q", place, &to]).ok();
        let manifest = json(&fs::read_to_string(dir.join("manifest.json")).expect("read"));
        let mut all = BTreeMap::new();
        for layer in manifest["layers"].as_array().expect("layers") {
            let digest = layer["digest"].as_str().expect("a digest");
            let file = dir.join(digest.strip_prefix("sha256:").expect("sha256"));
            let listed = std::process::Command::new("tar")
                .args(["--numeric-owner", "-tvf"])
                .arg(file)
                .output()
                .expect("tar");
            for line in String::from_utf8(listed.stdout).expect("UTF-8").lines() {
                let words: Vec<&str> = line.split_whitespace().collect();
                let name = words[5].trim_start_matches("./").to_owned();
                let mut facts = format!("{} {}", words[0], words[1]);
                if name
                    .rsplit('/')
                    .next()
                    .is_some_and(|name| name.starts_with(".wh."))
                {
                    facts.clear();
                } else if !words[0].starts_with('d') {
                    facts.push_str(&format!(" {} {}", words[2], words[6..].join(" ")));
                }
                all.insert(name, facts);
            }
        }
        // The root itself, and what containers are mounted on, which only podman leaves.
        let places = [
            "",
            "dev/",
            "proc/",
            "sys/",
            "run/",
            "etc/hosts",
            "etc/hostname",
            "etc/resolv.conf",
        ];
        all.retain(|name, _| !places.contains(&name.as_str()));
        all
    }

    fn nothing_is_left(&self) {
        assert_eq!(self.listed(&["-a"]), [""; 0]);
        let count =
            |part: &str| fs::read_dir(self.node.path("root").join(part)).map_or(0, Iterator::count);
        assert_eq!([count("containers"), count("mounts")], [0, 0]);
        // What is deleted in the background by a command that ends is by the next.
        until("the rest is deleted", || {
            self.listed(&["-a"]);
            count("tmp") == 0
        });
    }
}

const DOCUMENTS: &str = r#"COPY <<EOF <<'RAW' /documents/
value of C: $C
EOF
not of $C
RAW
RUN <<EOF
echo script of $A > script
cat > more <<INNER
inner
INNER
EOF
"#;

const WHOLE: &str = r#"ARG BASE
ARG GREETING=hello
FROM ${BASE} AS one
ARG GREETING
ENV A=1 B="two words" C=$GREETING
RUN echo "$GREETING $B" > /said && mkdir -p /d/e && ln -s /said /d/link && chmod 4755 /d/e
RUN ["/bin/sh", "-c", "echo exec > /exec"]

FROM $BASE AS unused
RUN false

FROM one
WORKDIR /work/here
COPY a.txt sub ./
COPY --chown=7:8 --chmod=0640 a.txt /owned/
COPY --from=one /d /copied
COPY *.txt /texts/
RUN rm /exec && touch -d @7 old
ADD packed.tar.gz /unpacked/
ADD --chown=5 a.txt /added/as
EXPOSE 80 53/udp
VOLUME /data
LABEL one=1 "two words"="x y"
USER 1:2
STOPSIGNAL SIGINT
CMD ["x", "$A"]
ENTRYPOINT e $B
MAINTAINER me
"#;

fn whole_context(floe: &Machine) -> PathBuf {
    let context = floe.context(
        "whole",
        &[
            ("Containerfile", WHOLE),
            ("a.txt", "a\n"),
            ("b.txt", "b\n"),
            ("sub/deep/file", "deep\n"),
            ("sub/kept out.o", "object\n"),
            (".containerignore", "# objects\n**/*.o\n"),
            ("in/x/one", "one\n"),
            ("in/two", "two\n"),
        ],
    );
    symlink("deep/file", context.join("sub/link")).expect("link");
    fs::set_permissions(context.join("b.txt"), fs::Permissions::from_mode(0o755)).expect("chmod");
    let tar = std::process::Command::new("tar")
        .args([
            "-czf",
            "packed.tar.gz",
            "-C",
            "in",
            "--owner=3",
            "--group=4",
            ".",
        ])
        .current_dir(&context)
        .status();
    assert!(tar.expect("tar").success());
    context
}

#[test]
fn a_containerfile_makes_the_image_that_podman_makes_of_it() {
    machine(|floe| {
        let context = whole_context(floe);
        let shown = context.display().to_string();
        let base = format!("BASE={}", floe.image);
        let said = floe.build(&context, &["-t", "whole", "--build-arg", &base]);
        for line in [
            "[1/3] STEP 2/5: ARG GREETING\n",
            "[3/3] STEP 2/",
            "[3/3] COMMIT localhost/whole:latest\n",
            "Successfully tagged localhost/whole:latest\n",
        ] {
            assert!(
                said.out.contains(line),
                "no {line:?}: {}{}",
                said.out,
                said.err
            );
        }
        assert!(!said.out.contains("[2/3]"), "{}", said.out);
        let id = said.ok().lines().last().expect("an id").to_owned();
        assert_eq!(id.len(), 64, "{id}");

        let podman = floe.podman();
        let theirs = ["build", "-q", "--isolation", "chroot", "--tls-verify=false"];
        podman
            .run(&[&theirs[..], &["-t", "whole", "--build-arg", &base, &shown]].concat())
            .ok();
        let place = format!("dir:{}", floe.node.path("theirs").display());
        podman.run(&["push", "-q", "whole", &place]).ok();
        let ours = floe.files("floe:localhost/whole:latest");
        let theirs = floe.files(&place);
        let names: BTreeSet<&String> = ours.keys().chain(theirs.keys()).collect();
        let differ = names
            .into_iter()
            .filter(|name| ours.get(*name) != theirs.get(*name));
        let differ: Vec<_> = differ
            .map(|name| (name, ours.get(name), theirs.get(name)))
            .collect();
        assert!(differ.is_empty(), "{differ:#?}");

        let ours = floe.config_of("whole");
        let mut theirs = json(&floe.floe(&["inspect", "--config", &place]).ok());
        let labels = theirs["config"]["Labels"].as_object_mut().expect("labels");
        labels.remove("io.buildah.version");
        for key in ["config", "os", "architecture", "author"] {
            assert_eq!(ours[key], theirs[key], "{key}");
        }
        let said = |config: &Value| -> Vec<String> {
            let lines = config["history"].as_array().expect("history").iter();
            let lines =
                lines.map(|line| line["created_by"].as_str().unwrap_or_default().to_owned());
            // What was copied has a digest of each tool's own.
            lines
                .map(
                    |line| match line.split_once(" in /").or(line.split_once(" in .")) {
                        Some((copied, to)) if copied.contains("#(nop)") => {
                            format!("{} {to}", copied.split(':').next().unwrap_or_default())
                        }
                        _ => line,
                    },
                )
                .collect()
        };
        let (ours, theirs) = (said(&ours), said(&theirs));
        for line in theirs
            .iter()
            .filter(|line| line.contains("RUN") || line.contains("ENV") || line.contains("COPY"))
        {
            assert!(ours.contains(line), "{line}: {ours:#?}");
        }
        floe.nothing_is_left();
    });
}

#[test]
fn here_documents_are_files_scripts_and_input() {
    machine(|floe| {
        let file = format!(
            "FROM {}\nENV A=1 C=hello\nWORKDIR /work/here\n{DOCUMENTS}",
            floe.image
        );
        floe.built("documents", &[], &[("Containerfile", &file)])
            .ok();
        let script = "cat /documents/EOF /documents/RAW script more";
        let expected = "value of C: hello\nnot of $C\nscript of 1\ninner";
        assert_eq!(floe.says("documents", script), expected);
        floe.nothing_is_left();
    });
}

#[test]
fn layers_are_of_steps_of_stages_or_one() {
    machine(|floe| {
        let file = format!(
            "FROM {} AS one\nRUN echo 1 > /one\nRUN echo 2 > /two\nENV X=1\nFROM one\nRUN rm /one\n",
            floe.image
        );
        let files = [("Containerfile", file.as_str())];
        for (name, options, layers) in [
            ("steps", &[][..], 4),
            ("stages", &["--layers=false"][..], 3),
            ("squash", &["--squash"][..], 3),
            ("all", &["--squash-all"][..], 1),
        ] {
            floe.built(name, options, &files).ok();
            let config = floe.config_of(name);
            assert_eq!(
                config["rootfs"]["diff_ids"].as_array().map(Vec::len),
                Some(layers),
                "{name}"
            );
            let history = config["history"].as_array().expect("history");
            let with_layers = history
                .iter()
                .filter(|line| line["empty_layer"] != true)
                .count();
            assert_eq!(with_layers, layers, "{name}: {history:#?}");
            assert_eq!(
                floe.says(name, "cat /two; test -e /one || echo gone; echo $X"),
                "2\ngone\n1"
            );
        }
        floe.nothing_is_left();
    });
}

#[test]
fn a_docker_image_keeps_what_an_oci_image_has_not() {
    machine(|floe| {
        let file = format!(
            "FROM {}\nHEALTHCHECK --interval=5s CMD true\nSHELL [\"/bin/sh\", \"-ec\"]\nONBUILD RUN echo built > /onbuild\n",
            floe.image
        );
        let said = floe.built("oci", &[], &[("Containerfile", &file)]);
        assert!(
            said.err
                .contains("HEALTHCHECK is not supported for OCI image format"),
            "{said:?}"
        );
        assert!(floe.config_of("oci")["config"]["Healthcheck"].is_null());
        floe.built(
            "docker",
            &["--format", "docker"],
            &[("Containerfile", &file)],
        )
        .ok();
        let config = &floe.config_of("docker")["config"];
        assert_eq!(config["Healthcheck"]["Test"][0], "CMD-SHELL");
        assert_eq!(config["OnBuild"][0], "RUN echo built > /onbuild");
        let raw = floe
            .floe(&["inspect", "--raw", "floe:localhost/docker:latest"])
            .ok();
        assert_eq!(
            json(&raw)["mediaType"],
            "application/vnd.docker.distribution.manifest.v2+json"
        );
        floe.built(
            "child",
            &["--pull=never"],
            &[("Containerfile", "FROM localhost/docker\n")],
        )
        .ok();
        assert_eq!(floe.says("child", "cat /onbuild"), "built");
        floe.nothing_is_left();
    });
}

#[test]
fn what_fails_says_where_and_leaves_nothing() {
    machine(|floe| {
        let from = format!("FROM {}\n", floe.image);
        for (name, file, code, words) in [
            (
                "exit",
                "RUN echo out; exit 7\n",
                7,
                &[
                    "building at STEP \"RUN echo out; exit 7\": while running runtime: exit status 7",
                    "Containerfile:2",
                ][..],
            ),
            (
                "absent",
                "RUN [\"/no/such\"]\n",
                125,
                &["Containerfile:2", "/no/such"],
            ),
            (
                "copy",
                "\nCOPY none /x\n",
                125,
                &["Containerfile:3", "\"none\": no such file"],
            ),
            (
                "word",
                "RUNN x\n",
                125,
                &[
                    "Containerfile:2: unknown instruction \"RUNN\" (did you mean RUN?)",
                    "2 | RUNN x",
                ],
            ),
            (
                "user",
                "RUN true\nUSER ghost\nRUN true\n",
                125,
                &["Containerfile:4", "ghost"],
            ),
            ("stage", "COPY --from=9 / /\n", 125, &["Containerfile:2"]),
            (
                "several",
                "COPY a b /c\n",
                125,
                &["must be a directory and end with a /"],
            ),
        ] {
            let file = format!("{from}{file}");
            let said = floe.built(name, &[], &[("Containerfile", &file), ("a", ""), ("b", "")]);
            assert_eq!(said.code, code, "{said:?}");
            for word in words {
                assert!(said.err.contains(word), "no {word:?} in {}", said.err);
            }
            floe.nothing_is_left();
        }
        let none = floe.context("empty", &[("x", "")]);
        floe.build(&none, &[])
            .failed(125, &["no Containerfile or Dockerfile"]);
    });
}

/// CVE-2024-1753, CVE-2024-9407, CVE-2024-11218, CVE-2026-44517, CVE-2026-55686: links of the context, of a stage and of
/// the image, in sources, targets and working directories.
#[test]
fn no_link_of_a_context_a_stage_or_an_image_leads_to_the_node() {
    machine(|floe| {
        let secret = floe.node.path("secret");
        fs::create_dir(&secret).expect("make");
        fs::write(secret.join("file"), "secret of the node").expect("write");
        let shown = secret.display().to_string();
        let link = format!(
            "RUN mkdir -p /up && ln -s {shown} /out && ln -s ../../../../../../..{shown} /up/out\n"
        );
        let from = format!("FROM {}\n{link}", floe.image);
        for (name, steps) in [
            ("context", "COPY out/file /got\n"),
            ("context-file", "COPY file /got\n"),
            ("dots", "COPY ../../../../../secret/file /got\n"),
            ("stage", "FROM scratch\nCOPY --from=0 /out/file /got\n"),
            (
                "stage-up",
                "FROM scratch\nCOPY --from=0 /up/out/file /got\n",
            ),
        ] {
            let file = format!("{from}{steps}");
            let context = floe.context(&format!("context-{name}"), &[("Containerfile", &file)]);
            symlink(&secret, context.join("out")).expect("link");
            symlink(secret.join("file"), context.join("file")).expect("link");
            let said = floe.build(&context, &["-q", "-t", name]);
            said.failed(125, &["no such file"]);
        }
        // What is written through a link goes to the image's own directory of that name.
        let file = format!(
            "{from}COPY mine /out/file\nCOPY mine /up/out/more\nWORKDIR /out/made\nRUN echo x > here\n"
        );
        floe.built("target", &[], &[("Containerfile", &file), ("mine", "mine")])
            .ok();
        assert_eq!(
            floe.says(
                "target",
                &format!("cat {shown}/file {shown}/more {shown}/made/here")
            ),
            "mineminex"
        );
        assert_eq!(
            fs::read_to_string(secret.join("file")).expect("read"),
            "secret of the node"
        );
        assert_eq!(fs::read_dir(&secret).expect("read").count(), 1);
        floe.nothing_is_left();
    });
}

#[test]
fn an_archive_leads_nowhere_out_of_its_target() {
    machine(|floe| {
        let context = floe.context(
            "bad",
            &[(
                "Containerfile",
                &format!("FROM {}\nADD bad.tar /in/\n", floe.image),
            )],
        );
        let mut tar = tar::Builder::new(fs::File::create(context.join("bad.tar")).expect("create"));
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(tar::EntryType::Symlink);
        header.set_size(0);
        tar.append_link(&mut header, "out", "/").expect("append");
        let mut header = tar::Header::new_gnu();
        header.set_size(4);
        header.set_mode(0o644);
        tar.append_data(&mut header, "out/escaped", &b"file"[..])
            .expect("append");
        tar.finish().expect("finish");
        // The link leads to the root of what is unpacked, or is refused.
        let said = floe.build(&context, &["-q", "-t", "bad"]);
        if said.code == 0 {
            assert_eq!(
                floe.says("bad", "test -e /escaped || echo inside"),
                "inside"
            );
        } else {
            said.failed(125, &["Containerfile:2"]);
        }
        assert!(!Path::new("/escaped").exists());
        floe.nothing_is_left();
    });
}

#[test]
fn what_a_killed_build_leaves_goes_with_the_next() {
    machine(|floe| {
        let file = format!("FROM {}\nRUN echo begun; sleep 1000\n", floe.image);
        let context = floe.context("slow", &[("Containerfile", &file)]);
        let shown = context.display().to_string();
        let mut killed = floe.command(&["build", "--network", "none", &shown]);
        let mut killed = killed.spawn().expect("start");
        let containers = floe.node.path("root/containers");
        let running = || {
            let listed = floe.floe(&["ps", "-q"]).ok();
            !listed.is_empty()
        };
        until("the command runs", running);
        killed.kill().expect("kill");
        killed.wait().expect("wait");
        assert!(running(), "it was gone before anybody looked");
        assert_ne!(fs::read_dir(&containers).expect("read").count(), 0);
        floe.built(
            "next",
            &[],
            &[("Containerfile", &format!("FROM {}\n", floe.image))],
        )
        .ok();
        floe.nothing_is_left();
        // Ctrl-C takes everything back itself.
        let mut stopped = floe
            .command(&["build", "--network", "none", &shown])
            .spawn()
            .expect("start");
        until("the command runs", running);
        crate::cli::signal(&stopped, rustix::process::Signal::INT);
        assert_eq!(stopped.wait().expect("wait").code(), Some(130));
        floe.nothing_is_left();
    });
}

#[test]
fn steps_are_found_again_by_what_they_depend_on() {
    machine(|floe| {
        let file = |run: &str| {
            format!(
                "FROM {}\nARG V=1\nWORKDIR /w\nCOPY a /a\nLABEL x=y\nRUN {run}\nENV E=1\n",
                floe.image
            )
        };
        let context = floe.context(
            "cached",
            &[("Containerfile", &file("echo $V > /v")), ("a", "a")],
        );
        let build = |options: &[&str]| {
            let said = floe.build(&context, &[&["-t", "cached"], options].concat());
            let cached = said.out.matches("--> Using cache").count();
            (cached, said.ok().lines().last().expect("an id").to_owned())
        };
        let (cached, first) = build(&[]);
        assert_eq!(cached, 0);
        // Times of files do not matter.
        fs::write(context.join("a"), "a").expect("write");
        assert_eq!(build(&[]), (3, first.clone()));
        // Nor do the images themselves.
        floe.floe(&["rmi", "cached"]).ok();
        floe.floe(&["system", "prune", "-f"]);
        assert_eq!(build(&[]), (3, first.clone()));
        let (cached, other) = build(&["--build-arg", "V=2"]);
        assert_eq!(cached, 2);
        assert_ne!(other, first);
        assert_eq!(floe.says("cached", "cat /v"), "2");
        assert_eq!(build(&["--no-cache"]).0, 0);
        assert_eq!(build(&["--cache-ttl", "0"]).0, 0);
        assert_eq!(build(&["--cache-ttl", "1h"]).0, 3);
        fs::write(context.join("a"), "b").expect("write");
        assert_eq!(build(&[]).0, 1);
        assert_eq!(floe.says("cached", "cat /a /v"), "b1");
        fs::write(context.join("Containerfile"), file("echo other > /v")).expect("write");
        assert_eq!(build(&[]).0, 2);
        // A step that failed is not found again.
        fs::write(
            context.join("Containerfile"),
            file("echo half > /half; exit 3"),
        )
        .expect("write");
        for _ in 0..2 {
            floe.build(&context, &[]).failed_with(3);
        }
        floe.nothing_is_left();
    });
}

impl Said {
    #[track_caller]
    fn failed_with(&self, code: i32) {
        assert_eq!(self.code, code, "{}{}", self.out, self.err);
    }
}

#[test]
fn mounts_of_a_step_show_files_caches_memory_and_secrets_and_leave_nothing() {
    machine(|floe| {
        let from = format!("FROM {}", floe.image);
        let file = format!(
            "{from} AS tools\nRUN mkdir /tools && echo tool > /tools/it\n{from}\n\
             RUN --mount=target=/ctx --mount=from=tools,source=/tools,target=/deep/er/tools \\\n\
             cat /ctx/a /deep/er/tools/it > /seen; touch /ctx/x || echo read-only >> /seen\n\
             RUN --mount=type=cache,target=/cache,mode=0711 echo $(cat /cache/n) > /before; echo more >> /cache/n; stat -c %a /cache > /mode\n\
             RUN --mount=type=tmpfs,target=/memory,size=1m touch /memory/x && stat -f -c %T /memory > /kind\n\
             RUN --mount=type=secret,id=key --mount=type=secret,id=key,env=KEY,target=/own,mode=0440,uid=5 \\\n\
             test $(cat /run/secrets/key) = $KEY && stat -c '%a %u' /run/secrets/key /own > /modes\n\
             RUN --mount=type=secret,id=none test ! -e /run/secrets/none\n"
        );
        let context = floe.context("mounts", &[("Containerfile", &file), ("a", "file\n")]);
        let secret = floe.node.path("key");
        fs::write(&secret, "sesame").expect("write");
        let secret = format!("id=key,src={}", secret.display());
        let said = floe.build(&context, &["-t", "mounts", "--secret", &secret]);
        assert!(!format!("{said:?}").contains("sesame"), "{said:?}");
        said.ok();
        let seen = "cat /seen /before /mode /kind /modes; ls -d /ctx /deep /cache /memory /run/secrets /own";
        let run = [
            "run",
            "--rm",
            "--network",
            "none",
            "mounts",
            "sh",
            "-c",
            seen,
        ];
        let seen = floe.floe(&run).out;
        assert_eq!(seen, "file\ntool\nread-only\n\n711\ntmpfs\n400 0\n440 5\n");
        // The cache is there for the next, and another secret is no reason to do it again.
        let file = file.replace("/before", "/again");
        fs::write(context.join("Containerfile"), file).expect("write");
        floe.build(&context, &["-q", "-t", "again", "--secret", &secret])
            .ok();
        assert_eq!(floe.says("again", "cat /again"), "more");
        for (mount, why) in [
            (
                "type=secret,id=none,required",
                "the secret none is required",
            ),
            ("type=ssh", "not offered"),
            ("type=bind,target=/x,rw", "not offered"),
            ("type=bind,target=/x,source=none", "no such file"),
        ] {
            let file = format!("{from}\nRUN --mount={mount} true\n");
            floe.built("bad", &[], &[("Containerfile", &file)])
                .failed(125, &[why, "Containerfile:2"]);
        }
        assert_eq!(
            fs::read_dir(floe.node.path("run/builds")).map_or(0, Iterator::count),
            0
        );
        floe.nothing_is_left();
    });
}

/// CVE-2024-1753 and CVE-2024-11218: a mount's source that is a link to the node.
#[test]
fn no_mount_of_a_step_shows_the_node() {
    machine(|floe| {
        let secret = floe.node.path("secret");
        fs::create_dir(&secret).expect("make");
        fs::write(secret.join("file"), "secret").expect("write");
        let shown = secret.display().to_string();
        let from = format!(
            "FROM {}\nRUN mkdir -p {shown} && ln -s {shown} /out && ln -s / /root-of\n",
            floe.image
        );
        for (name, mount, expected) in [
            ("stage", "from=0,source=/out,target=/m", 0),
            ("stage-root", "from=0,source=/root-of,target=/m", 0),
            ("context", "source=out,target=/m", 125),
            ("context-up", "source=../secret,target=/m", 125),
        ] {
            let file = format!(
                "{from}FROM {}\nRUN --mount={mount} test ! -e /m/file -a ! -e /m{shown}/file\n",
                floe.image
            );
            let context = floe.context(&format!("context-{name}"), &[("Containerfile", &file)]);
            symlink(&secret, context.join("out")).expect("link");
            floe.build(&context, &["-q"]).failed_with(expected);
        }
        // A target that is a link of the image leads to the image's own.
        let file = format!(
            "{from}RUN --mount=target=/out test -e /out/Containerfile && test -e {shown}/Containerfile\n"
        );
        floe.built("target", &[], &[("Containerfile", &file)]).ok();
        assert_eq!(fs::read_dir(&secret).expect("read").count(), 1);
        floe.nothing_is_left();
    });
}

#[test]
fn what_a_container_has_written_is_shown_and_becomes_an_image() {
    machine(|floe| {
        let script = "echo x > /new; mkdir /d; echo y > /d/f; rm /bin/vi; echo z >> /bin/cat; ln -s /new /link";
        let run = [
            "run",
            "--name",
            "work",
            "--network",
            "none",
            "-e",
            "E=1",
            "-l",
            "l=1",
            "-w",
            "/d",
        ];
        floe.floe(&[&run[..], &[&floe.image, "sh", "-c", script]].concat())
            .ok();
        let expected = "C /bin\nC /bin/cat\nD /bin/vi\nA /d\nA /d/f\nA /link\nA /new";
        let shown = floe.floe(&["diff", "work"]).ok();
        let own: Vec<&str> = shown
            .lines()
            .filter(|line| !line.contains("/etc"))
            .collect();
        assert_eq!(own.join("\n"), expected);
        let json = json(&floe.floe(&["diff", "--format", "json", "work"]).ok());
        assert_eq!(json["deleted"][0], "/bin/vi");
        let commit = [
            "commit",
            "-q",
            "-f",
            "docker",
            "-c",
            "CMD [\"other\"]",
            "-m",
            "a remark",
            "-a",
            "me",
            "work",
            "made",
        ];
        let id = floe.floe(&commit).ok();
        let config = floe.config_of("made");
        assert_eq!(
            (&config["author"], &config["config"]["Cmd"][0]),
            (&"me".into(), &"other".into())
        );
        assert_eq!(
            (
                &config["config"]["WorkingDir"],
                &config["config"]["Labels"]["l"]
            ),
            (&"/d".into(), &"1".into())
        );
        let env = config["config"]["Env"].as_array().expect("env");
        assert!(env.contains(&"E=1".into()), "{env:?}");
        let last = config["history"]
            .as_array()
            .and_then(|lines| lines.last())
            .expect("history");
        assert_eq!(last["comment"], "a remark");
        assert_eq!(id.len(), 64);
        assert_eq!(
            floe.says("made", "cat /new /d/f /link; test -e /bin/vi || echo gone"),
            "x\ny\nx\ngone"
        );
        floe.floe(&["commit", "-q", "--squash", "work", "flat"])
            .ok();
        assert_eq!(
            floe.config_of("flat")["rootfs"]["diff_ids"]
                .as_array()
                .map(Vec::len),
            Some(1)
        );
        floe.floe(&["commit", "--include-volumes", "work"])
            .failed(125, &["not offered"]);
        floe.floe(&["diff", "nobody"])
            .failed(125, &["no such container"]);
        floe.floe(&["rm", "work"]).ok();
    });
}
