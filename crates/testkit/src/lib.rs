//! What the integration tests, the quickstart and the benchmarks share: a private network, a
//! registry on loopback, images made here, and a private engine driven over its CRI socket.
//! Everything it starts it ends, by pid; everything it makes it removes, and says what it could
//! not. Not part of the product.

pub mod calls;
mod containerd;
pub mod disk;
mod freshness;
mod gnupg;
pub mod host;
pub mod images;
pub mod kill;
pub mod leftovers;
pub mod net;
mod node;
pub mod nri;
mod registry;

use std::path::PathBuf;

pub use containerd::Containerd;
pub use gnupg::Gnupg;
pub use node::{Clients, Node, NodeOptions, connect};
pub use registry::Registry;

/// Anything that goes wrong while a test world is made; tests unwrap it.
pub type Error = Box<dyn std::error::Error + Send + Sync>;

/// Names the `floe-runtime` that tests drive instead of the one beside them: `make test` has them drive the
/// build that ships (`scripts/runtime.sh`).
const RUNTIME: &str = "FLOE_TEST_RUNTIME";

/// The path of one of the project's programs, built beside the running test or example; of `floe-runtime`, the
/// one that `FLOE_TEST_RUNTIME` names, if it does.
///
/// # Errors
/// It has not been built, or something that it is made of was changed since.
pub fn program(name: &str) -> Result<PathBuf, Error> {
    match named() {
        Some(named) if name == "floe-runtime" => freshness::check(&named).map(|()| named),
        _ => beside(name),
    }
}

/// The `floe-runtime` that its own tests drive: as [`program`] has it, or else `own`, which cargo built for
/// them.
///
/// # Errors
/// As [`program`].
pub fn runtime(own: &str) -> Result<PathBuf, Error> {
    match named() {
        Some(named) => freshness::check(&named).map(|()| named),
        None => Ok(own.into()),
    }
}

fn named() -> Option<PathBuf> {
    let named = std::env::var_os(RUNTIME).filter(|path| !path.is_empty());
    named.map(PathBuf::from)
}

fn beside(name: &str) -> Result<PathBuf, Error> {
    let me = std::env::current_exe()?;
    let path = me
        .ancestors()
        .skip(1)
        .take(3)
        .map(|dir| dir.join(name))
        .find(|path| path.is_file())
        .ok_or_else(|| {
            format!(
                "{name} is not built beside {}: run cargo build --workspace",
                me.display()
            )
        })?;
    freshness::check(&path)?;
    Ok(path)
}
