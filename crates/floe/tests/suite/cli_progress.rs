//! What a person sees while an image moves: bars on a terminal of any size, plain lines elsewhere, nothing
//! with `-q`; and how each layer ended.

use std::collections::BTreeSet;

use crate::cli::screen::seen;
use crate::cli::{Machine, machine};
use testkit::images::{self, Entry};

const LAYERS: usize = 8;

/// An image of small layers; the digests of its config and its layers.
fn push(floe: &Machine) -> (String, String, Vec<String>) {
    let name = format!("{}/progress/x:1", floe.registry.host());
    let layers: Vec<_> = (0..LAYERS)
        .map(|number| {
            let content = format!("{number}").repeat(100_000);
            images::layer(&[Entry::File("file", 0o644, content.as_bytes())]).expect("a layer")
        })
        .collect();
    floe.push_layers(&name, &layers, serde_json::json!({}));
    let raw = floe.floe(&["inspect", "--raw", &format!("docker://{name}")]);
    let manifest: serde_json::Value = serde_json::from_str(&raw.ok()).expect("JSON");
    let digest = |blob: &serde_json::Value| blob["digest"].as_str().expect("a digest").to_owned();
    let layers = manifest["layers"].as_array().expect("a list").iter();
    let layers = layers.map(digest).collect();
    (name, digest(&manifest["config"]), layers)
}

fn short(digest: &str) -> &str {
    &digest[7..19]
}

/// What a pull has to leave on a terminal.
fn pulled(image: &str, config: &str, layers: &[String], how: &str) -> Vec<String> {
    let begun = format!("Trying to pull {image}...");
    let config_line = format!("Copying config {} done", short(config));
    let layers = layers
        .iter()
        .map(|layer| format!("Copying blob {} {how}", short(layer)));
    let id = config[7..].to_owned();
    layers.chain([begun, config_line, id]).collect()
}

/// Lines on a terminal of so many columns, in any order.
fn wrapped(lines: &[String], columns: u16) -> Vec<String> {
    let rows = lines.iter().flat_map(|line| {
        let chars: Vec<char> = line.chars().collect();
        let rows: Vec<_> = chars
            .chunks(columns.into())
            .map(String::from_iter)
            .collect();
        rows
    });
    sorted(rows.collect())
}

fn sorted(mut rows: Vec<String>) -> Vec<String> {
    rows.iter_mut()
        .for_each(|row| row.truncate(row.trim_end().len()));
    rows.retain(|row| !row.is_empty());
    rows.sort();
    rows
}

#[test]
fn terminals_of_any_size_show_bars_and_in_the_end_how_each_layer_ended() {
    machine(|floe| {
        let (image, config, layers) = push(floe);
        for (size, bar) in [((30, 100), "B / "), ((4, 24), "% blob"), ((50, 9), "% blo")] {
            let root = floe
                .node
                .path(&format!("root-{}", size.1))
                .display()
                .to_string();
            let arguments = ["--root", root.as_str(), "pull", &image];
            for how in ["done", "skipped: already exists"] {
                let (output, code) = floe.on_terminal_of(size, &arguments).end();
                assert_eq!(code, 0, "{output}");
                assert_eq!(output.contains(bar), how == "done", "{output:?}");
                let lines = seen(&output.replace('\n', "\r\n"), size);
                let expected = pulled(&image, &config, &layers, how);
                assert_eq!(
                    sorted(lines),
                    wrapped(&expected, size.1),
                    "{size:?}: {output:?}"
                );
            }
        }
    });
}

#[test]
fn a_copy_shows_the_same_on_standard_output_and_a_failure_leaves_no_bar() {
    machine(|floe| {
        let (image, _, layers) = push(floe);
        let from = format!("docker://{image}");
        let to = format!("dir:{}", floe.node.path("copy").display());
        let (output, code) = floe.on_terminal(&["copy", &from, &to]).end();
        assert_eq!(code, 0, "{output}");
        let lines: BTreeSet<_> = seen(&output.replace('\n', "\r\n"), (30, 100))
            .into_iter()
            .collect();
        for layer in &layers {
            let line = format!("Copying blob {} done", short(layer));
            assert!(lines.contains(&line), "no {line:?} in {lines:?}");
        }
        assert!(
            lines.contains("Writing manifest to image destination"),
            "{lines:?}"
        );

        let blob = floe.node.path("copy").join(&layers[3][7..]);
        std::fs::write(&blob, "damaged").expect("write");
        let target = format!("dir:{}", floe.node.path("again").display());
        let (output, code) = floe.on_terminal(&["copy", &to, &target]).end();
        assert_eq!(code, 125, "{output}");
        let lines = seen(&output.replace('\n', "\r\n"), (30, 100));
        let ended = |line: &String| line.ends_with(" done") || line.is_empty();
        let error = lines.iter().find(|line| !ended(line)).expect("an error");
        assert!(error.starts_with("Error: "), "{lines:?}");
    });
}

#[test]
fn without_a_terminal_there_are_plain_lines_and_with_q_there_is_nothing() {
    machine(|floe| {
        let (image, config, layers) = push(floe);
        let root = floe.node.path("other").display().to_string();
        let said = floe.floe(&["pull", &image]);
        assert_eq!(said.out.trim(), &config[7..]);
        let mut lines: Vec<_> = said.err.lines().collect();
        lines.sort_unstable();
        let mut expected: Vec<_> = layers
            .iter()
            .map(|layer| format!("Copying blob {layer}"))
            .collect();
        expected.push(format!("Copying config {config}"));
        expected.push(format!("Trying to pull {image}..."));
        expected.sort();
        assert_eq!(lines, expected);
        let said = floe.floe(&["--root", &root, "pull", "-q", &image]);
        assert_eq!((said.out.trim(), said.err.as_str()), (&config[7..], ""));
        let run = ["run", "--rm", "--network", "none", "-q", &floe.image];
        let said = floe.floe(&run);
        assert_eq!((said.out.as_str(), said.err.as_str()), ("default\n", ""));
        let (from, to) = (format!("docker://{image}"), format!("{image}-copy"));
        let to = format!("docker://{to}");
        let said = floe.floe(&["copy", "-q", &from, &to]);
        assert_eq!((said.out.as_str(), said.err.as_str()), ("", ""));
        let said = floe.floe(&["copy", &from, &to]);
        for layer in &layers {
            let line = format!("Copying blob {layer} skipped: already exists");
            assert!(said.out.contains(&line), "no {line:?} in {said:?}");
        }
        let (output, code) = floe
            .on_terminal(&["--root", &root, "pull", "-q", &image])
            .end();
        assert_eq!((output.trim(), code), (&config[7..], 0));
    });
}
