//! mounts.conf: what every container gets mounted, line by line, `PATH ON THE NODE:PATH INSIDE` (CRI-O's
//! `default_mounts_file`, podman's containers-mounts.conf(5)). CRI-O copies what is there; here it is bound,
//! read-only, so that it is as the node has it.

use std::path::{Path, PathBuf};

use base::file::read_linked;

use crate::error::{Error, Result};

/// The most that such a file may be, in bytes.
const FILE_MAX: u64 = 1 << 20;
/// The most mounts that it may name.
const MOST: usize = 256;

/// A mount of every container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Pair {
    /// On the node, without links.
    pub(super) source: PathBuf,
    /// Inside.
    pub(super) target: PathBuf,
}

/// Reads the file that the configuration names. A source that is not there is passed over, as by CRI-O: the
/// files of distributions name what only some nodes have. Not taken unless it is named, as CRI-O takes those of
/// distributions: below what is bound read-only nothing else can be mounted, such as a pod's token.
///
/// # Errors
/// A line that is none, or a file that is named and cannot be read.
pub(super) fn read(named: &Path) -> Result<Vec<Pair>> {
    if named.as_os_str().is_empty() {
        return Ok(Vec::new());
    }
    let wrong = |reason: String| Error::Config {
        origin: named.display().to_string(),
        reason,
    };
    let text = read_linked(named, FILE_MAX).map_err(|e| wrong(e.to_string()))?;
    let text = text.ok_or_else(|| wrong("there is no such file".to_owned()))?;
    let pairs = parse(&String::from_utf8_lossy(&text)).map_err(wrong)?;
    let there = |pair: Pair| {
        let source = pair.source.canonicalize().ok()?;
        Some(Pair { source, ..pair })
    };
    Ok(pairs.into_iter().filter_map(there).collect())
}

fn parse(text: &str) -> std::result::Result<Vec<Pair>, String> {
    let mut all = Vec::new();
    for (index, line) in text.lines().enumerate() {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let (source, target) = line.split_once(':').unwrap_or((line, line));
        let (source, target) = (PathBuf::from(source), PathBuf::from(target));
        if !source.is_absolute() || !target.is_absolute() {
            let number = index + 1;
            return Err(format!("line {number}: {line:?} is not PATH:PATH"));
        }
        all.push(Pair { source, target });
    }
    match all.len() > MOST {
        true => Err(format!("more than {MOST} mounts")),
        false => Ok(all),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_two_absolute_paths_and_what_is_not_there_is_passed_over() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("mounts.conf");
        let own = dir.path().canonicalize().unwrap();
        let text = format!("# a\n\n{}:/run/secrets\n/no/such:/x\n", own.display());
        std::fs::write(&file, text).unwrap();
        let pair = Pair {
            source: own,
            target: "/run/secrets".into(),
        };
        assert_eq!(read(&file).unwrap(), [pair]);
        for bad in ["a:/b", "/a:b", "/a:/b\nx"] {
            std::fs::write(&file, bad).unwrap();
            let error = read(&file).unwrap_err().to_string();
            assert!(error.contains("mounts.conf"), "{error}");
        }
        std::fs::remove_file(&file).unwrap();
        let error = read(&file).unwrap_err().to_string();
        assert!(error.contains("no such file"), "{error}");
    }
}
