//! A test must never drive an old program and call it the new one. Beside each program cargo writes
//! the names of the files that it was made of, as a makefile's rule (`floe.d` for `floe`): here they are
//! compared by time, as cargo does it, once for each process.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::SystemTime;

use crate::Error;

/// The programs that were found to be fresh.
static FRESH: Mutex<BTreeSet<PathBuf>> = Mutex::new(BTreeSet::new());

/// # Errors
/// A source that is younger than the program, by name. A program without a list of its sources was
/// not built here, and is taken as it is.
pub(crate) fn check(program: &Path) -> Result<(), Error> {
    let mut fresh = FRESH.lock().unwrap_or_else(PoisonError::into_inner);
    if fresh.contains(program) {
        return Ok(());
    }
    let built = modified(program)?;
    let rule = program.with_extension("d");
    let rule = match std::fs::read_to_string(&rule) {
        Ok(rule) => rule,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => String::new(),
        Err(error) => return Err(format!("{}: {error}", rule.display()).into()),
    };
    for source in sources(&rule) {
        // One that is gone was renamed, and its new name is in a file that was changed.
        if modified(&source).is_ok_and(|changed| changed > built) {
            return Err(format!(
                "{} is older than {}: run cargo build --workspace",
                program.display(),
                source.display()
            )
            .into());
        }
    }
    fresh.insert(program.to_owned());
    Ok(())
}

fn modified(path: &Path) -> Result<SystemTime, Error> {
    let metadata = std::fs::metadata(path);
    let time = metadata.and_then(|metadata| metadata.modified());
    time.map_err(|error| format!("{}: {error}", path.display()).into())
}

/// What stands after the colon, where a space in a name is escaped.
fn sources(rule: &str) -> Vec<PathBuf> {
    let Some((_, names)) = rule.split_once(": ") else {
        return Vec::new();
    };
    let names = names.trim_end().replace("\\ ", "\0");
    let names = names.split_whitespace();
    names
        .map(|name| PathBuf::from(name.replace('\0', " ")))
        .collect()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_program_older_than_a_source_is_refused_by_name() {
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str| dir.path().join(name);
        std::fs::write(path("a file.rs"), "").unwrap();
        std::fs::write(path("program"), "").unwrap();
        let rule = format!(
            "{}: /gone.rs {}\n",
            path("program").display(),
            path("a file.rs").display().to_string().replace(' ', "\\ ")
        );
        std::fs::write(path("program.d"), rule).unwrap();
        let source = std::fs::File::options()
            .write(true)
            .open(path("a file.rs"))
            .unwrap();
        let built = modified(&path("program")).unwrap();
        source.set_modified(built + Duration::from_secs(1)).unwrap();
        let refused = check(&path("program")).unwrap_err().to_string();
        assert!(refused.contains("a file.rs"), "{refused}");
        source.set_modified(built).unwrap();
        check(&path("program")).unwrap();
    }

    #[test]
    fn the_programs_of_this_build_have_lists_of_sources() {
        let floe = crate::program("floe").unwrap();
        let rule = std::fs::read_to_string(floe.with_extension("d")).unwrap();
        let sources = sources(&rule);
        assert!(
            sources
                .iter()
                .any(|path| path.ends_with("floe/src/main.rs"))
        );
        assert!(sources.iter().all(|path| path.is_absolute()));
    }
}
