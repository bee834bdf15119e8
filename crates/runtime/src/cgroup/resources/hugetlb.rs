//! Huge pages, by page size.

use rustix::io::Errno;

use super::Field;
use crate::cgroup::Cgroup;
use crate::cgroup::error::Error;
use crate::cgroup::hierarchy::{Controller, Version};
use crate::spec::HugepageLimit;

const LIMIT: Field = Field {
    name: "linux.resources.hugepageLimits",
    controller: Controller::Hugetlb,
};

/// Sets what is given, for pages in use and, where the kernel knows the difference, reserved.
pub(super) fn apply(cgroup: &Cgroup, limits: &[HugepageLimit]) -> Result<(), Error> {
    for HugepageLimit {
        page_size: size,
        limit,
    } in limits
    {
        let dir = match cgroup.dir_of(LIMIT.controller) {
            Some(dir) => dir,
            // Without the controller nothing is counted, and no pages are what none is asked of.
            None if *limit == 0 => continue,
            None => return Err(LIMIT.missing(format!("{limit} ({size})"))),
        };
        if size.is_empty() || !size.bytes().all(|b| b.is_ascii_alphanumeric()) {
            return Err(LIMIT.invalid(format!("{size:?}"), "a page size reads like 2MB"));
        }
        let end = match dir.version() {
            Version::V1 => "limit_in_bytes",
            Version::V2 => "max",
        };
        let file = format!("hugetlb.{size}.{end}");
        match dir.write(&file, &limit.to_string()) {
            Ok(()) => {}
            Err(Errno::NOENT)
                if dir.version() == Version::V1 || super::enabled(&dir, LIMIT.controller) =>
            {
                return Err(LIMIT.invalid(
                    format!("{limit} ({size})"),
                    "this kernel has no pages of that size",
                ));
            }
            Err(errno) => return Err(LIMIT.refused(&dir, &file, limit.to_string(), errno)),
        }
        let reserved = format!("hugetlb.{size}.rsvd.{end}");
        match dir.write(&reserved, &limit.to_string()) {
            // Linux 5.7 brought it.
            Ok(()) | Err(Errno::NOENT) => {}
            Err(errno) => return Err(LIMIT.refused(&dir, &reserved, limit.to_string(), errno)),
        }
    }
    Ok(())
}
