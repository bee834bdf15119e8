//! The files that a reading of a cgroup takes, each read once and with one read(2); kept open until the
//! next reading if that is wanted: to open and close one costs four times what reading it does.

use std::os::fd::OwnedFd;

use rustix::fs::OFlags;
use rustix::io::Errno;

use crate::cgroup::dir::{self, Dir};
use crate::cgroup::error::Error;
use crate::cgroup::hierarchy::Hierarchy;

/// The files of one cgroup.
#[derive(Debug, Default)]
pub(super) struct Files {
    keep: bool,
    kept: Vec<Kept>,
}

#[derive(Debug)]
struct Kept {
    hierarchy: &'static Hierarchy,
    name: String,
    /// `None`: this host has no such file, or counts nothing in it.
    file: Option<OwnedFd>,
}

impl Files {
    /// Files that stay open from one reading to the next.
    pub(super) fn kept() -> Self {
        Self {
            keep: true,
            ..Self::default()
        }
    }

    /// How many are open.
    pub(super) fn open(&self) -> usize {
        self.kept.iter().filter(|one| one.file.is_some()).count()
    }

    /// Closes all.
    pub(super) fn close(&mut self) {
        self.kept.clear();
    }

    /// What a control file says; `None` if it is not there, or does not count now.
    pub(super) fn text(&mut self, dir: &Dir<'static>, name: &str) -> Result<Option<String>, Error> {
        let is_it = |one: &&Kept| std::ptr::eq(one.hierarchy, dir.hierarchy) && one.name == name;
        if let Some(kept) = self.kept.iter().find(is_it) {
            return match &kept.file {
                None => Ok(None),
                Some(file) => said(dir, name, dir::read_record(file)),
            };
        }
        let file = match dir.open(name, OFlags::RDONLY) {
            Ok(file) => file,
            Err(Errno::NOENT) => return Ok(None),
            Err(errno) => return Err(dir.error("open", name, errno)),
        };
        let text = said(dir, name, dir::read_record(&file))?;
        if self.keep {
            self.kept.push(Kept {
                hierarchy: dir.hierarchy,
                name: name.to_owned(),
                file: text.is_some().then_some(file),
            });
        }
        Ok(text)
    }

    /// A file that holds one number, `None` if it is missing; v2's "max" is no number.
    pub(super) fn number(&mut self, dir: &Dir<'static>, name: &str) -> Result<Option<u64>, Error> {
        let Some(text) = self.text(dir, name)? else {
            return Ok(None);
        };
        match text.trim() {
            "max" => Ok(None),
            number => number
                .parse()
                .map(Some)
                .map_err(|_| dir.parse_error(name, &text)),
        }
    }

    /// A file of lines `name value`.
    pub(super) fn table(&mut self, dir: &Dir<'static>, name: &str) -> Result<Option<Table>, Error> {
        Ok(self.text(dir, name)?.map(Table))
    }
}

fn said(dir: &Dir<'_>, name: &str, text: Result<String, Errno>) -> Result<Option<String>, Error> {
    match text {
        Ok(text) => Ok(Some(text)),
        // Pressure files exist and answer EOPNOTSUPP when accounting is switched off.
        Err(Errno::OPNOTSUPP) => Ok(None),
        Err(Errno::NODEV) => Err(Error::NotFound {
            path: dir.path.clone(),
        }),
        Err(errno) => Err(dir.error("read", name, errno)),
    }
}

/// Lines `name value`.
#[derive(Debug, Default)]
pub(super) struct Table(String);

impl Table {
    /// The value of a name, 0 if it is not listed.
    pub(super) fn get(&self, name: &str) -> u64 {
        self.find(name).unwrap_or(0)
    }

    pub(super) fn find(&self, name: &str) -> Option<u64> {
        let value = |line: &str| line.strip_prefix(name)?.strip_prefix(' ')?.parse().ok();
        self.0.lines().find_map(value)
    }
}
