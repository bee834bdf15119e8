//! Does anything of an engine remain? Processes, mounts, cgroups and files that carry its
//! private directory's name.

use std::path::Path;

/// What remains that mentions `mark` (a private directory or cgroup parent): one line each.
#[must_use]
pub fn find(mark: &Path, cgroup: &str) -> Vec<String> {
    let mark = mark.display().to_string();
    let mut found: Vec<String> = processes(&mark)
        .into_iter()
        .map(|(pid, line)| format!("process {pid} {line}"))
        .collect();
    let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    found.extend(
        mounts
            .lines()
            .filter(|line| line.contains(&mark))
            .map(|line| format!("mount {line}")),
    );
    let hierarchies = std::fs::read_dir("/sys/fs/cgroup")
        .into_iter()
        .flatten()
        .flatten();
    let roots = hierarchies
        .map(|entry| entry.path())
        .chain(["/sys/fs/cgroup".into()]);
    found.extend(
        roots
            .map(|root| root.join(cgroup.trim_start_matches('/')))
            .filter(|path| path.is_dir())
            .map(|path| format!("cgroup {}", path.display())),
    );
    found
}

/// Processes whose command line mentions `mark`: process id and command line.
#[must_use]
pub fn processes(mark: &str) -> Vec<(u32, String)> {
    let own = std::process::id();
    let entries = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    entries
        .filter_map(|entry| {
            let pid: u32 = entry.file_name().to_str()?.parse().ok()?;
            let line = std::fs::read(entry.path().join("cmdline")).ok()?;
            let line = String::from_utf8_lossy(&line).replace('\0', " ");
            (pid != own && line.contains(mark)).then_some((pid, line))
        })
        .collect()
}

/// Detaches every mount below `dir`, the innermost first.
pub fn unmount_below(dir: &Path) {
    let mark = format!(" {}/", dir.display());
    let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    for line in mounts.lines().rev().filter(|line| line.contains(&mark)) {
        if let Some(target) = line.split(' ').nth(4) {
            let _ = rustix::mount::unmount(target, rustix::mount::UnmountFlags::DETACH);
        }
    }
}
