//! `COPY` and `ADD`: from words to files in a stage's root file system (Dockerfile reference, "COPY", "ADD").

use std::os::fd::AsFd;

use containerfile::{Copy, Ignore, Pattern, Text};
use image::{Digest, Hasher};
use rustix::fs::{Gid, Mode, Uid};

use crate::archive;
use crate::error::Failed;
use crate::mode::Change;
use crate::put::{self, Given, Put};
use crate::select::{self, Filter, Source, join};
use crate::state::{State, clean};
use crate::tree::Tree;

/// Larger files of users are refused rather than read.
const USERS: u64 = 8 << 20;
/// Of files that came from elsewhere than a disk.
const FETCHED: u32 = 0o600;
const DOCUMENT: u32 = 0o644;
const NO_TREE: &str = "there is nothing to copy from";

/// A `COPY` or `ADD` whose words are values.
#[derive(Debug)]
pub(crate) struct Order {
    /// Whether archives are unpacked, and URLs fetched.
    pub(crate) is_add: bool,
    pub(crate) items: Vec<Item>,
    /// Absolute; with a `/` at its end if it was written so.
    pub(crate) target: String,
    pub(crate) chown: Option<String>,
    pub(crate) mode: Option<Change>,
    pub(crate) parents: bool,
    pub(crate) filter: Filter,
    /// The source's owners are kept.
    pub(crate) keep_owners: bool,
    /// `--unpack`.
    pub(crate) unpack: Option<bool>,
}

/// What is copied.
#[derive(Debug)]
pub(crate) enum Item {
    /// Files of the source.
    Files {
        /// The word, with its wildcards.
        word: String,
    },
    /// A here-document.
    Document { name: String, content: String },
    /// Something that was fetched.
    Fetched {
        /// The name of the file, if the target is a directory.
        name: String,
        content: std::fs::File,
        digest: Digest,
        /// When it was changed, in seconds since 1970.
        modified: i64,
    },
}

/// The sources and the target of an instruction as values.
pub(crate) fn values(
    state: &State,
    escape: char,
    copy: &Copy,
) -> Result<(Vec<String>, String), Failed> {
    let values = copy
        .arguments
        .sources
        .iter()
        .map(|source| state.word(escape, source));
    let target = state.word(escape, &copy.arguments.target)?;
    if target.is_empty() {
        return Err("the target is empty".into());
    }
    Ok((values.collect::<Result<_, _>>()?, target))
}

/// The value of a flag.
pub(crate) fn flag(
    state: &State,
    escape: char,
    copy: &Copy,
    name: &str,
) -> Result<Option<String>, Failed> {
    let text: Option<&Text> = copy.flags.get(name);
    text.map(|text| state.word(escape, text)).transpose()
}

impl Order {
    /// What an instruction says, without its sources.
    pub(crate) fn new(
        state: &State,
        escape: char,
        copy: &Copy,
        target: &str,
        is_add: bool,
    ) -> Result<Order, Failed> {
        let absolute = state.absolute(target);
        let target = match target.ends_with('/') || target.ends_with("/.") || target == "." {
            true => format!("{}/", clean(&absolute).trim_end_matches('/')),
            false => clean(&absolute),
        };
        let mode = flag(state, escape, copy, "chmod")?;
        let exclude = copy
            .flags
            .all("exclude")
            .map(|text| state.word(escape, text));
        let exclude = exclude.collect::<Result<Vec<_>, _>>()?;
        let exclude =
            Ignore::of(exclude.iter().map(String::as_str)).map_err(|flaw| flaw.to_string())?;
        let unpack = match flag(state, escape, copy, "unpack")?.as_deref() {
            None if copy.flags.is_set("unpack") => Some(true),
            None => None,
            Some("true") => Some(true),
            Some("false") => Some(false),
            Some(other) => return Err(format!("--unpack={other} is neither true nor false").into()),
        };
        Ok(Order {
            is_add,
            items: Vec::new(),
            target,
            chown: flag(state, escape, copy, "chown")?,
            mode: mode.as_deref().map(Change::parse).transpose()?,
            parents: copy.flags.is_set("parents"),
            filter: Filter {
                ignore: Ignore::default(),
                exclude,
            },
            keep_owners: false,
            unpack,
        })
    }

    /// A digest of all that decides about the result but the root file system.
    pub(crate) fn digest(&self, tree: Option<&Tree>) -> Result<Digest, Failed> {
        let mut hasher = Digest::hasher();
        // Who a name is depends on the root file system, which has a digest of its own.
        let said = format!(
            "{}\0{}\0{:?}\0{:?}\0{}\0{:?}\0",
            self.is_add, self.target, self.chown, self.mode, self.parents, self.unpack
        );
        hasher.update(said.as_bytes());
        let given = Given {
            owner: None,
            keep_owners: self.keep_owners,
            mode: self.mode,
        };
        for item in &self.items {
            self.digest_of(tree, item, &given, &mut hasher)?;
        }
        Ok(hasher.finish())
    }

    fn digest_of(
        &self,
        tree: Option<&Tree>,
        item: &Item,
        given: &Given,
        hasher: &mut Hasher,
    ) -> Result<(), Failed> {
        match item {
            Item::Files { word } => {
                let tree = tree.ok_or(NO_TREE)?;
                for source in select::sources(tree, &self.filter, word)? {
                    let name = if self.parents {
                        &source.path
                    } else {
                        &source.name
                    };
                    hasher.update(format!("files\0{}\0{name}\0", source.is_directory).as_bytes());
                    let mut add = |found: &select::Found<'_>| put::digest(hasher, found, given);
                    select::walk(tree, &self.filter, &source, &mut add)?;
                }
            }
            Item::Document { name, content } => {
                hasher.update(format!("document\0{name}\0{}\0{content}", content.len()).as_bytes());
            }
            Item::Fetched { name, digest, .. } => {
                hasher.update(format!("fetched\0{name}\0{digest}\0").as_bytes());
            }
        }
        Ok(())
    }

    /// What is copied, in the word that the history has for it.
    pub(crate) fn kind(&self, tree: Option<&Tree>) -> Result<&'static str, Failed> {
        match (&self.items[..], tree) {
            ([Item::Files { word }], Some(tree)) => {
                let found = select::sources(tree, &self.filter, word)?;
                Ok(match &found[..] {
                    [only] if only.is_directory => "dir",
                    [_] => "file",
                    _ => "multi",
                })
            }
            ([_], _) => Ok("file"),
            _ => Ok("multi"),
        }
    }

    /// Copies from `tree` to `root`.
    pub(crate) fn run(
        &self,
        tree: Option<&Tree>,
        root: &Tree,
        unpacker: &archive::Unpacker<'_>,
    ) -> Result<(), Failed> {
        let given = Given {
            owner: self
                .chown
                .as_deref()
                .map(|owner| who(root, owner))
                .transpose()?,
            keep_owners: self.keep_owners,
            mode: self.mode,
        };
        let mut several = self.items.len() > 1;
        let mut all = Vec::new();
        for item in &self.items {
            if let Item::Files { word } = item {
                let tree = tree.ok_or(NO_TREE)?;
                let found = select::sources(tree, &self.filter, word)?;
                several |= found.len() > 1 || Pattern::is_one(word) && self.parents;
                all.extend(
                    found
                        .into_iter()
                        .map(|source| (tree, word.as_str(), source)),
                );
            }
        }
        if several
            && !self.target.ends_with('/')
            && !self.parents
            && !is_directory(root, &self.target)?
        {
            return Err(
                "with more than one source, the target must be a directory and end with a /".into(),
            );
        }
        for (tree, word, source) in &all {
            self.files(tree, root, word, source, &given, unpacker)?;
        }
        for item in &self.items {
            self.other(root, item, &given, unpacker)?;
        }
        Ok(())
    }

    fn files(
        &self,
        tree: &Tree,
        root: &Tree,
        word: &str,
        source: &Source,
        given: &Given,
        unpacker: &archive::Unpacker<'_>,
    ) -> Result<(), Failed> {
        let (target, name) = match self.parents {
            true => (
                with_parents(&self.target, word, source),
                source.name.clone(),
            ),
            false if source.is_directory => (self.target.clone(), String::new()),
            false => self.place(root, &source.name)?,
        };
        if !source.is_directory && self.is_add && self.unpack != Some(false) {
            let file = tree.open(
                &source.path,
                rustix::fs::OFlags::RDONLY | rustix::fs::OFlags::NONBLOCK,
            );
            let file = std::fs::File::from(file.map_err(Failed::io("open", word))?);
            if unpacker.unpack(file, root, &self.target, given)? {
                return Ok(());
            }
        }
        let file = (!source.is_directory).then_some(name.as_str());
        let mut put = Put::new(root, &target, file, *given)?;
        select::walk(tree, &self.filter, source, &mut |found| put.put(found))?;
        put.finish()
    }

    /// Directory and name of a file that is called `name` where the target is a directory.
    fn place(&self, root: &Tree, name: &str) -> Result<(String, String), Failed> {
        if self.target.ends_with('/') || is_directory(root, &self.target)? {
            return Ok((self.target.clone(), name.to_owned()));
        }
        let (parent, name) = self.target.rsplit_once('/').unwrap_or(("", &self.target));
        Ok((parent.to_owned(), name.to_owned()))
    }

    fn other(
        &self,
        root: &Tree,
        item: &Item,
        given: &Given,
        unpacker: &archive::Unpacker<'_>,
    ) -> Result<(), Failed> {
        let owner = given.owner.unwrap_or((0, 0));
        let mode = |usual: u32| given.mode.map_or(usual, |change| change.of(usual, false));
        match item {
            Item::Files { .. } => Ok(()),
            Item::Document { name, content } => {
                let (parent, name) = self.place(root, name)?;
                put::put_bytes(
                    root,
                    &parent,
                    &name,
                    content.as_bytes(),
                    (mode(DOCUMENT), owner, now()),
                )
            }
            Item::Fetched {
                name,
                content,
                modified,
                ..
            } => {
                let again = || {
                    let mut file = content.try_clone()?;
                    std::io::Seek::rewind(&mut file)?;
                    Ok::<_, std::io::Error>(file)
                };
                let file = again().map_err(Failed::io("read", name))?;
                if self.unpack == Some(true)
                    && unpacker.unpack(
                        file.try_clone().map_err(Failed::io("read", name))?,
                        root,
                        &self.target,
                        given,
                    )?
                {
                    return Ok(());
                }
                let (parent, name) = self.place(root, name)?;
                let file = again().map_err(Failed::io("read", &name))?;
                put::put_file(
                    root,
                    &parent,
                    &name,
                    file,
                    (mode(FETCHED), owner, *modified),
                )
            }
        }
    }
}

fn now() -> i64 {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    now.map_or(0, |now| i64::try_from(now.as_secs()).unwrap_or(i64::MAX))
}

fn is_directory(root: &Tree, path: &str) -> Result<bool, Failed> {
    root.is_directory(path).map_err(Failed::io("look at", path))
}

/// Where a source goes with `--parents`: what is above it, from `./` in its word on, is kept.
fn with_parents(target: &str, word: &str, source: &Source) -> String {
    let from = match word.find("/./") {
        Some(at) => clean(&word[..at]),
        None => String::new(),
    };
    let from = from.trim_start_matches('/');
    let path = source.path.strip_prefix(from).unwrap_or(&source.path);
    let path = path.trim_start_matches('/');
    let kept = match source.is_directory {
        true => path,
        false => path.rsplit_once('/').map_or("", |(above, _)| above),
    };
    join(target.trim_end_matches('/'), kept)
}

/// Who `USER[:GROUP]` is in a root file system.
pub(crate) fn who(root: &Tree, text: &str) -> Result<(u32, u32), Failed> {
    let read = |path: &str| -> Result<String, Failed> {
        let bytes = root.read(path, USERS).map_err(Failed::io("read", path))?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    };
    // A number alone is the group's as well.
    if let Ok(number) = text.parse::<u32>()
        && number != u32::MAX
    {
        return Ok((number, number));
    }
    let user = engine::resolve_user(read("etc/passwd")?, read("etc/group")?, text)?;
    Ok((user.uid, user.gid))
}

/// Makes a working directory, as its user's if it is missing.
pub(crate) fn make_directory(root: &Tree, path: &str, owner: (u32, u32)) -> Result<bool, Failed> {
    if is_directory(root, path)? {
        return Ok(false);
    }
    let made = crate::tree::Made {
        mode: 0o755,
        uid: 0,
        gid: 0,
    };
    let resolved = root
        .resolve(path, Some(made))
        .map_err(Failed::io("make", path))?;
    let dir = root
        .plain_directory(&resolved)
        .map_err(Failed::io("open", path))?;
    let own = || {
        rustix::fs::fchown(
            dir.as_fd(),
            Some(Uid::from_raw(owner.0)),
            Some(Gid::from_raw(owner.1)),
        )?;
        rustix::fs::fchmod(&dir, Mode::from_raw_mode(0o755))
    };
    own().map_err(Failed::io("make", path))?;
    Ok(true)
}
