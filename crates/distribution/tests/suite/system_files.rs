//! The registries.conf that Debian's packages put into `/etc/containers` is understood as it is.

use std::path::Path;

use distribution::{Registries, RegistriesPaths};
use image::Reference;

#[test]
fn the_packaged_registries_conf_and_its_short_names_are_read() {
    let shortnames = Path::new("/etc/containers/registries.conf.d/shortnames.conf");
    if !shortnames.exists() {
        return eprintln!("SKIP: {} does not exist here", shortnames.display());
    }
    let paths = RegistriesPaths {
        alias_cache: None,
        ..RegistriesPaths::system()
    };
    let registries = Registries::load(&paths).unwrap();
    let fedora = registries.candidates("fedora:40").unwrap();
    assert_eq!(
        fedora,
        [Reference::parse("registry.fedoraproject.org/fedora:40").unwrap()]
    );
}
