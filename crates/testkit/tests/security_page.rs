//! docs/security.md names the test of each promise: each of them must be there, by crate, file and name.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::path::{Path, PathBuf};

/// The files that a name's crate and modules may mean, the longest path first, with what is left of it.
fn places<'n>(crates: &Path, name: &'n str) -> Vec<(PathBuf, Option<&'n str>)> {
    let (of, rest) = name.split_once("::").unwrap();
    let root = crates.join(of);
    let whole = rest.replace("::", "/");
    let files = |path: &str| {
        [
            root.join(format!("tests/{path}.rs")),
            root.join(format!("tests/suite/{path}.rs")),
            root.join(format!("src/{path}.rs")),
            root.join(format!("src/{path}/mod.rs")),
        ]
    };
    let mut places: Vec<(PathBuf, Option<&str>)> = Vec::new();
    places.extend(files(&whole).map(|path| (path, None)));
    if let Some((modules, last)) = rest.rsplit_once("::") {
        let modules = modules.replace("::", "/");
        places.extend(files(&modules).map(|path| (path, Some(last))));
        // A test module may stand in the file of what it tests.
        if let Some(above) = modules.strip_suffix("/tests") {
            places.extend(files(above).map(|path| (path, Some(last))));
        }
    }
    places
}

fn is_there(crates: &Path, name: &str) -> bool {
    places(crates, name).into_iter().any(|(path, function)| {
        let Ok(text) = std::fs::read_to_string(path) else {
            return false;
        };
        match function {
            None => text.contains("#[test]") || text.contains("#[tokio::test"),
            Some("tests") => text.contains("mod tests"),
            Some(function) => text.contains(&format!("fn {function}(")),
        }
    })
}

#[test]
fn every_test_that_the_pages_of_promises_name_is_there() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let pages = ["docs/security.md", "docs/cri-fields.md"];
    let pages = pages.map(|page| std::fs::read_to_string(root.join(page)).unwrap());
    let pages = pages.concat();
    let crates = root.join("crates");
    let mut names: Vec<&str> = pages
        .lines()
        .filter(|line| line.starts_with('|'))
        .flat_map(|line| line.split('`').skip(1).step_by(2))
        .filter(|word| word.contains("::") && !word.contains(' '))
        .collect();
    assert!(names.len() > 40, "{names:?}");
    names.retain(|name| !is_there(&crates, name));
    assert!(names.is_empty(), "no such tests: {names:#?}");
}
