//! The basics of one cgroup, read as often as somebody asks.

use super::files::Files;
use super::{Basics, cpu, memory, pids, pressure};
use crate::cgroup::error::Error;
use crate::cgroup::hierarchy::Hierarchies;
use crate::cgroup::{Cgroup, checked};

/// Which cgroup's figures these are: not all that can be counted is wanted of each.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Of {
    /// A container's: also swap.
    Container,
    /// A pod's: also how many tasks there are.
    Pod,
}

/// Reads the [`Basics`] of one cgroup.
#[derive(Debug)]
pub struct Meter {
    cgroup: Cgroup,
    of: Of,
    files: Files,
}

impl Meter {
    /// Of the cgroup at `path`, relative to the hierarchies' roots; it is not looked for yet.
    ///
    /// # Errors
    /// A path that could leave the hierarchies, or a host without cgroups.
    pub fn new(path: &str, of: Of) -> Result<Self, Error> {
        let hierarchies = Hierarchies::of_host()?;
        Ok(Self {
            cgroup: Cgroup {
                present: vec![true; hierarchies.all.len()],
                path: checked(path)?,
                ..Cgroup::none(hierarchies)
            },
            of,
            files: Files::default(),
        })
    }

    /// Keeps the files open from one reading to the next, or closes them.
    pub fn keep(&mut self, keep: bool) {
        match (keep, self.files.open()) {
            (true, 0) => self.files = Files::kept(),
            (true, _) => {}
            (false, _) => self.files = Files::default(),
        }
    }

    /// How many files are open between two readings.
    #[must_use]
    pub fn open_files(&self) -> usize {
        self.files.open()
    }

    /// What the cgroup uses now.
    ///
    /// # Errors
    /// [`Error::NotFound`] of one that is gone; a file that cannot be read.
    pub fn read(&mut self) -> Result<Basics, Error> {
        let basics = match self.read_once() {
            // What is kept was of one that is gone: another may be there.
            Err(Error::NotFound { .. }) if self.files.open() > 0 => {
                self.files.close();
                self.read_once()?
            }
            other => other?,
        };
        match (&basics.cpu_usage, &basics.memory) {
            // Not counted on this host, or not there.
            (None, None) => {
                self.files.close();
                Cgroup::open(&self.cgroup.path).map(|_| basics)
            }
            _ => Ok(basics),
        }
    }

    fn read_once(&mut self) -> Result<Basics, Error> {
        let (cgroup, files) = (&self.cgroup, &mut self.files);
        Ok(Basics {
            cpu_usage: cpu::read_usage(cgroup, files)?,
            memory: memory::read_basics(cgroup, files, self.of == Of::Container)?,
            tasks: match self.of {
                Of::Container => None,
                Of::Pod => pids::read_current(cgroup, files)?,
            },
            pressure: pressure::read(cgroup, files)?,
        })
    }
}
