//! Where blobs were seen at registries, so that a push has a registry take them from there instead of
//! sending them: one file for each registry, with a line for each blob, the newest last.
//!
//! A help and no truth: whatever is wrong or missing in it costs a request at most. Must never grow
//! without bound, and never make anything fail.

use std::collections::HashMap;
use std::fs::{DirBuilder, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use base::file::{Lasts, replace};
use image::{Digest, Reference};

/// The most that the file of a registry may be, in bytes: some thousand blobs.
const MAX_FILE: u64 = 1 << 20;
/// Repositories remembered for a blob.
const MAX_PLACES: usize = 3;

/// What is known, by registry.
pub(super) struct Locations {
    /// Where the files are; without it only this process remembers.
    dir: Option<PathBuf>,
    known: Mutex<HashMap<String, Known>>,
}

/// The repositories that have a blob, the newest last.
type Known = HashMap<Digest, Vec<String>>;

impl Locations {
    pub(super) fn new(dir: Option<PathBuf>) -> Locations {
        Locations {
            dir,
            known: Mutex::default(),
        }
    }

    /// Another repository of the same registry that has had the blob.
    pub(super) fn find(&self, wanted: &Reference, digest: &Digest) -> Option<Reference> {
        let domain = wanted.domain();
        let path = self.with(domain, |known| {
            let places = known.get(digest)?.iter().rev();
            let mut others = places.filter(|path| *path != wanted.path());
            others.next().cloned()
        })?;
        Reference::parse(&format!("{domain}/{path}")).ok()
    }

    /// Remembers that a repository has a blob.
    pub(super) fn remember(&self, place: &Reference, digest: &Digest) {
        let (domain, path) = (place.domain(), place.path());
        let fresh = self.with(domain, |known| add(known, digest.clone(), path));
        let Some(dir) = self.dir.as_ref().filter(|_| fresh) else {
            return;
        };
        if let Err(error) = append(dir, domain, &format!("{digest} {path}\n")) {
            tracing::debug!("{}: {error}", dir.display());
        }
    }

    fn with<T>(&self, domain: &str, look: impl FnOnce(&mut Known) -> T) -> T {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let known = known.entry(domain.to_owned()).or_insert_with(|| {
            let dir = self.dir.as_ref();
            dir.map_or_else(Known::new, |dir| parse(&read(&dir.join(domain))))
        });
        look(known)
    }
}

/// Whether it was not known.
fn add(known: &mut Known, digest: Digest, path: &str) -> bool {
    let places = known.entry(digest).or_default();
    if places.iter().any(|known| known == path) {
        return false;
    }
    places.push(path.to_owned());
    if places.len() > MAX_PLACES {
        places.remove(0);
    }
    true
}

/// A line that was cut off, or is none, is passed over.
fn parse(text: &str) -> Known {
    let mut known = Known::new();
    for (digest, path) in text.lines().filter_map(|line| line.split_once(' ')) {
        if let Ok(digest) = Digest::parse(digest) {
            add(&mut known, digest, path);
        }
    }
    known
}

/// The newest part of a file; nothing when there is none.
fn read(file: &Path) -> String {
    let mut bytes = Vec::new();
    let open = OpenOptions::new().read(true).open(file);
    let read = open.and_then(|file| file.take(2 * MAX_FILE).read_to_end(&mut bytes));
    match read {
        Ok(_) => String::from_utf8(bytes).unwrap_or_default(),
        Err(_) => String::new(),
    }
}

fn append(dir: &Path, domain: &str, line: &str) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(dir)?;
    let path = dir.join(domain);
    let mut options = OpenOptions::new();
    let mut file = options.append(true).create(true).mode(0o600).open(&path)?;
    file.write_all(line.as_bytes())?;
    if file.metadata()?.len() <= MAX_FILE {
        return Ok(());
    }
    // The newer half goes on. What others add meanwhile is lost, and will be seen again.
    let text = read(&path);
    let half = text.len() / 2;
    let start = text.bytes().skip(half).position(|byte| byte == b'\n');
    let kept = start.map_or("", |start| text.get(half + start + 1..).unwrap_or_default());
    replace(&path, kept.as_bytes(), 0o600, Lasts::UntilBoot)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn reference(text: &str) -> Reference {
        Reference::parse(text).unwrap()
    }

    #[test]
    fn another_process_finds_what_was_remembered() {
        let dir = tempfile::tempdir().unwrap();
        let files = dir.path().join("made/when/needed");
        let digest = Digest::of(b"blob");
        let first = Locations::new(Some(files.clone()));
        let wanted = reference("a.example:5000/wanted");
        assert_eq!(first.find(&wanted, &digest), None);
        for name in ["wanted", "old", "new", "new"] {
            first.remember(&reference(&format!("a.example:5000/{name}")), &digest);
        }
        first.remember(&reference("b.example/other"), &digest);
        fs::write(
            files.join("odd.example"),
            format!("{digest} ../x\nnonsense\n{digest}"),
        )
        .unwrap();
        let second = Locations::new(Some(files));
        let found = second.find(&wanted, &digest).unwrap();
        assert_eq!(found, reference("a.example:5000/new"));
        assert_eq!(second.find(&wanted, &Digest::of(b"other")), None);
        assert_eq!(second.find(&reference("odd.example/x"), &digest), None);
    }

    #[test]
    fn a_file_keeps_its_newer_half_when_it_is_full() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.example");
        let line = |number: u32| format!("{} x/y\n", Digest::of(&number.to_be_bytes()));
        let lines = (MAX_FILE / line(0).len() as u64) as u32;
        let full: String = (0..lines).map(line).collect();
        fs::write(&path, full).unwrap();
        let locations = Locations::new(Some(dir.path().to_owned()));
        locations.remember(&reference("a.example/x/y"), &Digest::of(b"last"));
        let left = fs::metadata(&path).unwrap().len();
        assert!(left > MAX_FILE / 3 && left < MAX_FILE * 2 / 3, "{left}");
        let again = Locations::new(Some(dir.path().to_owned()));
        let find = |digest| again.find(&reference("a.example/z"), &digest);
        assert!(find(Digest::of(b"last")).is_some());
        assert!(find(Digest::of(&(lines - 1).to_be_bytes())).is_some());
        assert!(find(Digest::of(&0_u32.to_be_bytes())).is_none());
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_place_that_cannot_be_written_is_no_error() {
        let locations = Locations::new(Some("/proc/no/such".into()));
        let digest = Digest::of(b"blob");
        locations.remember(&reference("a.example/x"), &digest);
        assert!(locations.find(&reference("a.example/y"), &digest).is_some());
    }
}
