//! `floe secret`, and secrets in containers: as files and variables, after the secret has gone, and never shown.

use crate::cli::{Machine, Said, machine, until};

const WORD: &str = "correct-horse";

impl Machine {
    fn secret(&self, arguments: &[&str]) -> Said {
        self.floe(&[&["secret"], arguments].concat())
    }

    /// Makes one of a file; its id.
    fn made(&self, name: &str, data: &[u8], options: &[&str]) -> String {
        let file = self.node.path("secret-data");
        std::fs::write(&file, data).expect("write");
        let file = file.to_str().expect("text");
        self.secret(&[&["create"], options, &[name, file]].concat())
            .ok()
    }
}

#[test]
fn secrets_are_made_listed_and_removed_and_are_not_printed() {
    machine(|floe| {
        let id = floe.made("key", WORD.as_bytes(), &["-l", "a=1"]);
        assert_eq!(id.len(), 25, "{id}");
        let file = floe.node.path("secret-data");
        let file = file.to_str().expect("text");
        floe.secret(&["create", "key", file])
            .failed(125, &["key: secret name in use"]);
        assert_eq!(floe.secret(&["create", "--ignore", "key", file]).ok(), id);
        let inspected = floe.secret(&["inspect", "key"]).ok();
        let json: serde_json::Value = serde_json::from_str(&inspected).expect("JSON");
        assert_eq!(json[0]["ID"], id);
        assert_eq!(json[0]["Spec"]["Name"], "key");
        assert_eq!(json[0]["Spec"]["Labels"]["a"], "1");
        assert!(!inspected.contains(WORD), "{inspected}");
        let shown = ["inspect", "--showsecret", "-f", "{{.SecretData}}", &id[..8]];
        assert_eq!(floe.secret(&shown).ok(), WORD);
        assert!(
            floe.secret(&["inspect", "--pretty", "key"])
                .ok()
                .contains("Name:")
        );
        let other = floe.made("other", b"x", &[]);
        let table = floe.secret(&["ls"]).ok();
        assert!(
            table.starts_with("ID  ") && table.contains("other"),
            "{table}"
        );
        assert_eq!(floe.secret(&["ls", "-q", "-f", "name=other"]).ok(), other);
        let names = floe
            .secret(&["ls", "--format", "{{.Name}} {{.Driver}}"])
            .ok();
        assert_eq!(names, "key file\nother file");
        // Another one in its place has another id.
        let replaced = floe.made("key", b"new", &["--replace"]);
        assert_ne!(replaced, id);
        assert_eq!(floe.secret(&["exists", &id]).code, 1);
        assert_eq!(floe.secret(&["exists", "key"]).code, 0);
        assert_eq!(floe.secret(&["rm", "key"]).ok(), replaced);
        floe.secret(&["rm", "key"]).failed(125, &["no such secret"]);
        assert_eq!(floe.secret(&["rm", "--ignore", "key"]).ok(), "");
        assert_eq!(floe.secret(&["rm", "-a"]).ok(), other);
        assert_eq!(floe.secret(&["ls", "-q"]).ok(), "");
    });
}

#[test]
fn hostile_names_and_sizes_are_refused_and_what_a_kill_left_goes() {
    machine(|floe| {
        let file = floe.node.path("data");
        std::fs::write(&file, "x").expect("write");
        let file = file.to_str().expect("text").to_owned();
        for bad in ["a/b", "a=b", "a,b", "", &"x".repeat(254)] {
            floe.secret(&["create", "--", bad, &file])
                .failed(125, &["between 1 and 253 characters"]);
        }
        // A name is no path.
        let id = floe.secret(&["create", "--", "..", &file]).ok();
        assert_eq!(floe.secret(&["rm", ".."]).ok(), id);
        std::fs::write(&file, "").expect("write");
        floe.secret(&["create", "empty", &file])
            .failed(125, &["must have 1 to 512000 bytes"]);
        std::fs::write(&file, vec![b'x'; 512_001]).expect("write");
        floe.secret(&["create", "long", &file])
            .failed(125, &["must have 1 to 512000 bytes"]);
        floe.secret(&["create", "device", "/dev/zero"])
            .failed(125, &["must have 1 to 512000 bytes"]);
        floe.secret(&["create", "-d", "pass", "x", &file])
            .failed(125, &["pass"]);
        let half = floe.node.path("root/secrets").join("0".repeat(25));
        let gone = floe.node.path("root/secrets/.gone-x");
        for dir in [&half, &gone] {
            std::fs::create_dir_all(dir).expect("a directory");
        }
        assert_eq!(floe.secret(&["ls", "-q"]).ok(), "");
        floe.made("one", b"x", &[]);
        assert!(!half.exists() && !gone.exists());
    });
}

#[test]
fn a_container_has_files_and_variables_and_keeps_them() {
    machine(|floe| {
        floe.made("key", WORD.as_bytes(), &[]);
        floe.made("bytes", &[1, 255, 10], &[]);
        let script = "cat /run/secrets/key; echo; stat -c '%a %u %g' /etc/other; echo \"$key $NAME\"; \
                      (echo x > /run/secrets/key) 2>/dev/null || echo kept; printf %s \"$B\" | od -An -tx1; \
                      [ -e /again ] || { touch /again; exit 3; }";
        let options = [
            "--name",
            "box",
            "--secret",
            "key",
            "--secret",
            "source=key,type=mount,target=/etc/other,uid=7,gid=8,mode=0440",
            "--secret",
            "key,type=env",
            "--secret",
            "key,type=env,target=NAME",
            "--secret",
            "bytes,type=env,target=B",
        ];
        let expected = format!("{WORD}\n440 7 8\n{WORD} {WORD}\nkept\n 01 ff 0a\n");
        let said = floe.run(&options, &["sh", "-c", script]);
        assert_eq!((said.code, said.out.as_str()), (3, expected.as_str()));
        floe.secret(&["rm", "-a"]).ok();
        assert_eq!(floe.floe(&["start", "-a", "box"]).ok(), expected.trim());
        // As after a boot.
        std::fs::remove_dir_all(floe.node.path("run")).expect("remove");
        assert_eq!(floe.floe(&["start", "-a", "box"]).ok(), expected.trim());
        let inspected = floe.floe(&["inspect", "box"]).ok();
        assert!(!inspected.contains(WORD), "{inspected}");
        let names = [
            "inspect",
            "-f",
            "{{range .Config.Secrets}}{{.Name}} {{end}}",
            "box",
        ];
        assert_eq!(floe.floe(&names).ok(), "key key key key bytes");
        floe.floe(&["commit", "box", "localhost/of-box"]).ok();
        let saved = floe.floe(&["inspect", "localhost/of-box"]).ok();
        assert!(!saved.contains(WORD), "{saved}");
        floe.floe(&["rm", "box"]).ok();
        let left = floe.node.path("root/containers");
        until("its copies are gone", || {
            std::fs::read_dir(&left).is_ok_and(|left| left.count() == 0)
        });
        let image = floe.image.clone();
        let run = |secret: &str| {
            floe.floe(&[
                "run",
                "--rm",
                "--network",
                "none",
                "--secret",
                secret,
                &image,
                "true",
            ])
        };
        run("key").failed(125, &["no such secret"]);
        floe.made("key", b"a\0b", &[]);
        run("key,type=env").failed(125, &["NUL"]);
        run("key,type=socket").failed(125, &["type socket is invalid"]);
        run("key,mode=9").failed(125, &["no number"]);
        run("type=env").failed(125, &["no source"]);
        assert_eq!(floe.listed(&["-a"]), [""; 0]);
    });
}
