//! Words of registries, archives and images that a terminal would obey: they are shown, not sent.

use crate::cli::fake::{Answer, Fake};
use crate::cli::{Machine, Said, machine};
use serde_json::{Value, json};

/// Clears the screen, renames the window, and pretends to be floe; in seven bits and in eight.
const HOSTILE: &str = "\u{1b}[2J\u{9b}31m\u{1b}]0;x\u{7}\r\nError: gone\u{202e}";

/// Nothing that a terminal would obey.
#[track_caller]
fn harmless(said: &Said) {
    for text in [&said.out, &said.err] {
        let obeyed = |c: char| (c.is_control() && c != '\n') || c == '\u{202e}';
        assert!(!text.contains(obeyed), "{text:?}");
        assert!(!text.contains("\nError: gone"), "{text:?}");
    }
}

impl Machine {
    /// An image whose history, labels, environment and command are hostile, in a directory; its place.
    fn hostile_image(&self) -> String {
        let made = self.node.path("hostile");
        let place = format!("dir:{}", made.display());
        let original = format!("docker://{}", self.image);
        self.floe(&["copy", "-q", &original, &place]).ok();
        let read = |name: &str| -> Value {
            let bytes = std::fs::read(made.join(name)).expect("read");
            serde_json::from_slice(&bytes).expect("JSON")
        };
        let mut manifest = read("manifest.json");
        let old = manifest["config"]["digest"].as_str().expect("a digest");
        let mut config = read(&old[7..]);
        config["history"] = json!([{ "created_by": HOSTILE, "comment": HOSTILE }]);
        config["author"] = HOSTILE.into();
        config["config"]["Labels"] = json!({ "label": HOSTILE, HOSTILE: "x" });
        let config = serde_json::to_vec(&config).expect("JSON");
        let digest = image::Digest::of(&config);
        std::fs::write(made.join(digest.hex()), &config).expect("write");
        manifest["config"]["digest"] = digest.to_string().into();
        manifest["config"]["size"] = config.len().into();
        manifest["annotations"] = json!({ "a": HOSTILE });
        let manifest = serde_json::to_vec(&manifest).expect("JSON");
        std::fs::write(made.join("manifest.json"), manifest).expect("write");
        place
    }
}

#[test]
fn an_images_own_words_are_shown_and_not_sent_to_the_terminal() {
    machine(|floe| {
        let place = floe.hostile_image();
        let name = "example.com/hostile:1";
        floe.floe(&["copy", "-q", &place, &format!("floe:{name}")])
            .ok();
        for verb in [
            vec!["history", "--no-trunc", name],
            vec!["history", "--format", "json", name],
            vec!["inspect", &place],
            vec!["inspect", "--config", &place],
            vec!["images", "--format", "json"],
        ] {
            let said = floe.floe(&verb);
            assert_eq!(said.code, 0, "{verb:?}: {said:?}");
            harmless(&said);
        }
        let seen = floe.floe(&["inspect", &place]).ok();
        let seen: Value = serde_json::from_str(&seen).expect("JSON");
        assert_eq!(seen["Labels"]["label"], HOSTILE);
        // A program gets what was asked for, a person sees it.
        let label = ["inspect", "--format", "{{.Labels.label}}", &place];
        assert_eq!(floe.floe(&label).out.trim_end_matches('\n'), HOSTILE);
        let (shown, code) = floe.on_terminal(&label).end();
        assert_eq!(code, 0, "{shown:?}");
        assert!(shown.contains("\\u{1b}[2J\\u{9b}31m"), "{shown:?}");
        assert!(
            !shown.contains(['\u{1b}', '\u{9b}', '\u{202e}']),
            "{shown:?}"
        );

        let args = [
            "run",
            "-d",
            "--name",
            "c",
            "--network",
            "none",
            name,
            "sh",
            "-c",
        ];
        floe.floe(&[&args[..], &["sleep 100", HOSTILE]].concat())
            .ok();
        harmless(&floe.floe(&["ps", "--no-trunc"]));
        floe.floe(&["rm", "--force", "c"]).ok();
    });
}

#[test]
fn errors_that_quote_others_do_not_obey_them() {
    machine(|floe| {
        let layout = floe.node.path("layout");
        let place = |name: &str| format!("oci:{}{name}", layout.display());
        let image = format!("docker://{}", floe.image);
        for name in [":one", ":two"] {
            floe.floe(&["copy", "-q", &image, &place(name)]).ok();
        }
        let index = layout.join("index.json");
        let text = std::fs::read_to_string(&index).expect("read");
        let hostile = serde_json::to_string(HOSTILE).expect("JSON");
        let text = text.replace("\"one\"", &hostile);
        std::fs::write(&index, text).expect("write");
        let said = floe.floe(&["inspect", &place("")]);
        harmless(&said);
        said.failed(125, &["more than one image", "\\u{1b}[2J"]);
        let said = floe.floe(&["load", "-i", &layout.display().to_string()]);
        harmless(&said);

        let error = json!({ "errors": [{ "code": "DENIED", "message": HOSTILE }] });
        let warned = format!("Warning: 299 - \"going {}\"", "\u{9b}2J");
        let fake = Fake::start(move |path| match path.ends_with("/tags/list") {
            true => Answer::of(200, json!({ "tags": ["1", HOSTILE] }).to_string()),
            false => Answer::of(403, error.to_string()).with(&warned),
        });
        let tls = "--tls-verify=false";
        let name = format!("docker://{}/x", fake.host);
        let said = floe.floe(&["inspect", tls, &format!("{name}:1")]);
        harmless(&said);
        said.failed(125, &["access denied", "gone"]);
        let said = floe.floe(&["list-tags", tls, &name]);
        harmless(&said);
        let tags: Value = serde_json::from_str(&said.ok()).expect("JSON");
        assert_eq!(tags["Tags"][1], HOSTILE);
    });
}
