//! What a test needs of the machine.

use std::path::Path;

/// Says why containers cannot be tested here, if they cannot: they need root, a shell, and `programs`, each with
/// Debian's package of it.
#[must_use]
pub fn cannot_run(programs: &[(&str, &str)]) -> Option<String> {
    if !rustix::process::geteuid().is_root() {
        return Some("needs root".into());
    }
    let all = [("/bin/busybox", "busybox-static")];
    let lacking = |(path, _): &&(&str, &str)| !Path::new(path).exists();
    let (path, package) = all.iter().chain(programs).find(lacking)?;
    Some(format!("needs {path} (Debian: {package})"))
}

/// Ends a test that cannot run on this host, with its reason, which `scripts/skips.sh` counts. Beside root and
/// busybox it may need programs: `needs_host!("/usr/bin/NAME" from "PACKAGE")`.
#[macro_export]
macro_rules! needs_host {
    ($($path:literal from $package:literal)*) => {
        if let Some(reason) = $crate::host::cannot_run(&[$(($path, $package)),*]) {
            eprintln!("SKIP: {reason}");
            return;
        }
    };
}

/// Where criu is, or would be.
#[must_use]
pub fn criu() -> std::path::PathBuf {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let mut found = std::env::split_paths(&path).map(|dir| dir.join("criu"));
    let found = found.find(|file| file.is_file());
    found.unwrap_or_else(|| "/usr/sbin/criu".into())
}

/// Why criu does not work here, in its own words, if it does not: it starts on few kernels.
#[must_use]
pub fn no_criu() -> Option<String> {
    match std::process::Command::new(criu()).arg("check").output() {
        Err(_) => Some("needs criu (Debian: criu)".into()),
        Ok(output) if !output.status.success() => {
            let said = String::from_utf8_lossy(&output.stderr).into_owned();
            let last = said.lines().last().unwrap_or_default().to_owned();
            Some(format!("criu does not work here: {last}"))
        }
        Ok(_) => None,
    }
}

/// As [`needs_host`], and ends a test where criu does not work.
#[macro_export]
macro_rules! needs_criu {
    () => {
        $crate::needs_host!();
        if let Some(reason) = $crate::host::no_criu() {
            eprintln!("SKIP: {reason}");
            return;
        }
    };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_machine_lacks_is_said_with_its_package() {
        // Who is not root is told that first.
        if let Some(reason) = cannot_run(&[]) {
            eprintln!("SKIP: {reason}");
            return;
        }
        assert_eq!(cannot_run(&[("/bin/busybox", "busybox-static")]), None);
        let reason = cannot_run(&[("/bin/busybox", "busybox-static"), ("/no/program", "none")]);
        assert_eq!(reason.unwrap(), "needs /no/program (Debian: none)");
    }
}
