//! Looking for a cgroup by its name alone, where no record of its place can be read. Never waits, and
//! looks at a bounded number of cgroups.

use super::Cgroup;
use super::dir::Dir;
use super::error::Error;
use super::hierarchy::Hierarchies;

/// How many cgroups of one hierarchy are looked at.
const MOST: usize = 100_000;

impl Cgroup {
    /// The path of a cgroup whose last name is one that `is_it` says is, below the hierarchies' roots.
    ///
    /// # Errors
    /// A host without cgroups.
    pub fn find(is_it: impl Fn(&str) -> bool) -> Result<Option<String>, Error> {
        for hierarchy in &Hierarchies::of_host()?.all {
            let path = String::new();
            let mut left = vec![Dir { hierarchy, path }];
            let mut seen = 0;
            while let Some(dir) = left.pop() {
                // One that is gone meanwhile has no children.
                let children = dir.children().unwrap_or_default();
                seen += children.len();
                for child in children {
                    let last = child.path.rsplit('/').next();
                    if last.is_some_and(&is_it) {
                        return Ok(Some(child.path));
                    }
                    if seen < MOST {
                        left.push(child);
                    }
                }
            }
        }
        Ok(None)
    }
}
