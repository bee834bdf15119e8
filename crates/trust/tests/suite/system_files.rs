//! The policy that Debian's packages put into `/etc/containers` is understood as it is.

use std::path::Path;

use trust::Policy;

#[test]
fn the_packaged_policy_is_read() {
    let path = Path::new("/etc/containers/policy.json");
    if !path.exists() {
        return eprintln!("SKIP: {} does not exist here", path.display());
    }
    Policy::open(path).unwrap();
}
