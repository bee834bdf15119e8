//! Which files `COPY` and `ADD` mean: wildcards, what is kept out, and the tree below a directory.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use containerfile::{Ignore, Pattern};
use rustix::fs::{AtFlags, FileType, Stat, statat};
use rustix::io::Errno;

use crate::error::Failed;
use crate::tree::{self, Tree};

/// The most that one wildcard may mean.
const MATCHES: usize = 100_000;
/// The longest path below a source.
const PATH: usize = 4000;

/// A file or directory that is copied.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Source {
    /// Below the root, without links and `..`.
    pub(crate) path: String,
    /// As it was asked for, for the target's name: a link has its own.
    pub(crate) name: String,
    pub(crate) is_directory: bool,
}

/// Something that is to be copied: read while it is shown.
pub(crate) struct Found<'a> {
    /// Below the target; empty is the target itself.
    pub(crate) below: &'a str,
    /// The directory that it is in.
    pub(crate) parent: BorrowedFd<'a>,
    /// Its name there.
    pub(crate) name: &'a str,
    pub(crate) stat: Stat,
}

/// What of a tree is seen.
#[derive(Debug, Default)]
pub(crate) struct Filter {
    /// Of the context, by paths from its root.
    pub(crate) ignore: Ignore,
    /// `--exclude`, by paths from the root or from the source.
    pub(crate) exclude: Ignore,
}

impl Filter {
    fn hides(&self, path: &str, below: &str) -> bool {
        self.ignore.ignores(path)
            || self.exclude.ignores(path)
            || !below.is_empty() && self.exclude.ignores(below)
    }

    fn may_show_below(&self) -> bool {
        self.ignore.has_exceptions() || self.exclude.has_exceptions()
    }
}

/// The files that a word means, sorted: one, or those that fit a wildcard.
pub(crate) fn sources(tree: &Tree, filter: &Filter, word: &str) -> Result<Vec<Source>, Failed> {
    let wanted = crate::state::clean(word);
    let wanted = wanted.trim_start_matches('/');
    let failed = |e: Errno| Failed::io("look for", word)(e);
    let mut found: Vec<String> = match Pattern::is_one(wanted) {
        true => matching(tree, wanted)?,
        false => vec![wanted.to_owned()],
    };
    found.sort_unstable();
    let mut all = Vec::new();
    for path in found {
        let hidden = !path.is_empty() && filter.hides(&path, "");
        let stat = tree.stat(&path).map_err(failed)?;
        match stat {
            // A directory may have something that is seen.
            Some(stat)
                if !hidden
                    || filter.may_show_below() && tree::kind(&stat) == FileType::Directory =>
            {
                let resolved = tree.resolve(&path, None).map_err(failed)?;
                all.push(Source {
                    is_directory: tree::kind(&stat) == FileType::Directory,
                    name: path.rsplit('/').next().unwrap_or_default().to_owned(),
                    path: resolved,
                });
            }
            _ => {}
        }
    }
    match all.is_empty() {
        true => Err(format!(
            "{word:?}: no such file or directory, or it is kept out by an ignore file"
        )
        .into()),
        false => Ok(all),
    }
}

/// The paths that fit a wildcard, part by part.
fn matching(tree: &Tree, wanted: &str) -> Result<Vec<String>, Failed> {
    let mut found = vec![String::new()];
    for part in wanted.split('/') {
        let mut next = Vec::new();
        let pattern = Pattern::new(part).map_err(|flaw| flaw.to_string())?;
        for path in &found {
            if part == "**" {
                next.push(path.clone());
                directories(tree, path, &mut next)?;
                continue;
            }
            if !Pattern::is_one(part) {
                next.push(join(path, part));
                continue;
            }
            let Ok(dir) = tree.open(path, rustix::fs::OFlags::DIRECTORY) else {
                continue;
            };
            let names = tree::names(dir.as_fd()).map_err(Failed::io("read", path))?;
            let fitting = names.iter().filter(|name| pattern.matches(name));
            next.extend(fitting.map(|name| join(path, name)));
            if next.len() > MATCHES {
                return Err(format!("{wanted:?} means more than {MATCHES} files").into());
            }
        }
        next.sort_unstable();
        next.dedup();
        found = next;
    }
    Ok(found)
}

/// All directories below one.
fn directories(tree: &Tree, top: &str, all: &mut Vec<String>) -> Result<(), Failed> {
    let mut left = vec![top.to_owned()];
    while let Some(path) = left.pop() {
        let Ok(dir) = tree.plain_directory(&path) else {
            continue;
        };
        for name in tree::names(dir.as_fd()).map_err(Failed::io("read", &path))? {
            let stat = statat(&dir, name.as_str(), AtFlags::SYMLINK_NOFOLLOW);
            if stat.is_ok_and(|stat| tree::kind(&stat) == FileType::Directory) {
                let below = join(&path, &name);
                if below.len() > PATH || all.len() > MATCHES {
                    return Err(format!(
                        "below {top:?} are too many directories, or too deep ones"
                    )
                    .into());
                }
                left.push(below.clone());
                all.push(below);
            }
        }
    }
    Ok(())
}

pub(crate) fn join(path: &str, name: &str) -> String {
    match path.is_empty() {
        true => name.to_owned(),
        false => format!("{path}/{name}"),
    }
}

/// Shows everything of a source: itself first, directories before what is in them, by their names. A directory that is
/// hidden is shown when something below it is.
pub(crate) fn walk(
    tree: &Tree,
    filter: &Filter,
    source: &Source,
    show: &mut dyn FnMut(&Found<'_>) -> Result<(), Failed>,
) -> Result<(), Failed> {
    let (parent, name) = match source.path.rsplit_once('/') {
        Some((parent, name)) => (parent, name),
        None => ("", source.path.as_str()),
    };
    let changed = |e: Errno| Failed::io("open", &source.path)(e);
    let parent: OwnedFd = tree.plain_directory(parent).map_err(changed)?;
    let name = if name.is_empty() { "." } else { name };
    let stat = statat(&parent, name, AtFlags::SYMLINK_NOFOLLOW).map_err(changed)?;
    show(&Found {
        below: "",
        parent: parent.as_fd(),
        name,
        stat,
    })?;
    if tree::kind(&stat) != FileType::Directory {
        return Ok(());
    }
    let mut walk = Walk {
        tree,
        filter,
        source,
        pending: Vec::new(),
    };
    walk.run(show)
}

struct Walk<'a> {
    tree: &'a Tree,
    filter: &'a Filter,
    source: &'a Source,
    /// Hidden directories on the way, not shown yet.
    pending: Vec<String>,
}

impl Walk<'_> {
    fn run(
        &mut self,
        show: &mut dyn FnMut(&Found<'_>) -> Result<(), Failed>,
    ) -> Result<(), Failed> {
        let mut left = vec![String::new()];
        while let Some(below) = left.pop() {
            let at = join(&self.source.path, &below);
            let at = at.trim_end_matches('/');
            let failed = |op: &'static str| Failed::io(op, at);
            self.pending
                .retain(|hidden| below == *hidden || below.starts_with(&format!("{hidden}/")));
            let dir = match self.tree.plain_directory(at) {
                Err(Errno::NOENT) => continue,
                other => other.map_err(failed("open"))?,
            };
            let names = tree::names(dir.as_fd()).map_err(Failed::io("read", at))?;
            let mut deeper = Vec::new();
            for name in names {
                let next = join(&below, &name);
                if next.len() > PATH {
                    return Err(format!("{at:?} has paths that are too long").into());
                }
                let stat = match statat(&dir, name.as_str(), AtFlags::SYMLINK_NOFOLLOW) {
                    Err(Errno::NOENT) => continue,
                    other => other.map_err(failed("stat"))?,
                };
                let is_directory = tree::kind(&stat) == FileType::Directory;
                if self.filter.hides(&join(at, &name), &next) {
                    if is_directory && self.filter.may_show_below() {
                        self.pending.push(next.clone());
                        deeper.push(next);
                    }
                    continue;
                }
                self.show_pending(&next, show)?;
                show(&Found {
                    below: &next,
                    parent: dir.as_fd(),
                    name: &name,
                    stat,
                })?;
                if is_directory {
                    deeper.push(next);
                }
            }
            left.extend(deeper.into_iter().rev());
        }
        Ok(())
    }

    /// The hidden directories above something that is seen.
    fn show_pending(
        &mut self,
        seen: &str,
        show: &mut dyn FnMut(&Found<'_>) -> Result<(), Failed>,
    ) -> Result<(), Failed> {
        let above = |hidden: &String| seen.starts_with(&format!("{hidden}/"));
        let mut due: Vec<String> = self
            .pending
            .iter()
            .filter(|hidden| above(hidden))
            .cloned()
            .collect();
        due.sort_unstable();
        self.pending.retain(|hidden| !above(hidden));
        for hidden in due {
            let path = join(&self.source.path, &hidden);
            let (parent, name) = path.rsplit_once('/').unwrap_or(("", &path));
            let parent = self
                .tree
                .plain_directory(parent)
                .map_err(Failed::io("open", &path))?;
            let stat = statat(&parent, name, AtFlags::SYMLINK_NOFOLLOW)
                .map_err(Failed::io("stat", &path))?;
            show(&Found {
                below: &hidden,
                parent: parent.as_fd(),
                name,
                stat,
            })?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::fs::{Mode, OFlags};
    use std::fs;
    use std::os::unix::fs::symlink;

    fn tree() -> (tempfile::TempDir, Tree) {
        let dir = tempfile::tempdir().unwrap();
        for path in [
            "a.txt",
            "b.txt",
            "src/main.c",
            "src/main.o",
            "src/deep/x.c",
            "hidden/seen/file",
            "hidden/file",
        ] {
            let path = dir.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, "x").unwrap();
        }
        symlink("src", dir.path().join("link")).unwrap();
        symlink("/etc", dir.path().join("src/etc")).unwrap();
        let flags = OFlags::RDONLY | OFlags::DIRECTORY;
        let fd = rustix::fs::open(dir.path(), flags, Mode::empty()).unwrap();
        (dir, Tree::new(fd))
    }

    fn filter(ignore: &[&str], exclude: &[&str]) -> Filter {
        Filter {
            ignore: Ignore::of(ignore.iter().copied()).unwrap(),
            exclude: Ignore::of(exclude.iter().copied()).unwrap(),
        }
    }

    fn paths(tree: &Tree, filter: &Filter, word: &str) -> Vec<String> {
        let found = sources(tree, filter, word).unwrap();
        found.into_iter().map(|source| source.path).collect()
    }

    #[test]
    fn words_mean_files_and_wildcards_several() {
        let (_dir, tree) = tree();
        let all = Filter::default();
        assert_eq!(paths(&tree, &all, "a.txt"), ["a.txt"]);
        assert_eq!(paths(&tree, &all, "./x/../*.txt"), ["a.txt", "b.txt"]);
        assert_eq!(paths(&tree, &all, "../../s*/*.c"), ["src/main.c"]);
        assert_eq!(paths(&tree, &all, "**/*.c"), ["src/deep/x.c", "src/main.c"]);
        assert_eq!(paths(&tree, &all, "link"), ["src"]);
        assert_eq!(paths(&tree, &all, "."), [""]);
        assert_eq!(paths(&tree, &filter(&["b*"], &[]), "*.txt"), ["a.txt"]);
        // A link out of the tree leads within it, where nothing is.
        assert!(sources(&tree, &all, "src/etc").is_err());
        for missing in ["none", "*.go", "src/etc/passwd"] {
            assert!(sources(&tree, &all, missing).is_err(), "{missing}");
        }
        assert!(sources(&tree, &filter(&["a.txt"], &[]), "a.txt").is_err());
    }

    fn walked(tree: &Tree, filter: &Filter, word: &str) -> Vec<String> {
        let source = sources(tree, filter, word).unwrap().remove(0);
        let mut all = Vec::new();
        let mut show = |found: &Found<'_>| {
            all.push(found.below.to_owned());
            Ok(())
        };
        walk(tree, filter, &source, &mut show).unwrap();
        all
    }

    #[test]
    fn a_tree_is_shown_without_what_is_kept_out() {
        let (_dir, tree) = tree();
        let all = walked(&tree, &Filter::default(), "src");
        assert_eq!(all, ["", "deep", "etc", "main.c", "main.o", "deep/x.c"]);
        let some = walked(
            &tree,
            &filter(
                &["hidden", "!hidden/seen", "**/*.txt", "link"],
                &["*.o", "deep"],
            ),
            ".",
        );
        let hidden = ["", "src", "hidden", "hidden/seen", "hidden/seen/file"];
        assert_eq!(some[..hidden.len()], hidden);
        let seen = [
            "src/deep",
            "src/etc",
            "src/main.c",
            "src/main.o",
            "src/deep/x.c",
        ];
        assert_eq!(some[hidden.len()..], seen);
        let excluded = walked(&tree, &filter(&[], &["*.o", "deep"]), "src");
        assert_eq!(excluded, ["", "etc", "main.c"]);
    }
}
