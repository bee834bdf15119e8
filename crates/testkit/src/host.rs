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
