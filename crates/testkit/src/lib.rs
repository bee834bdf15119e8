//! What the integration tests, the quickstart and the benchmarks share: a private network, a
//! registry on loopback, images made here, and a private engine driven over its CRI socket.
//! Everything it starts it ends, by pid; everything it makes it removes, and says what it could
//! not. Not part of the product.

mod containerd;
pub mod disk;
mod freshness;
mod gnupg;
pub mod images;
pub mod kill;
pub mod leftovers;
pub mod net;
mod node;
mod registry;

use std::path::PathBuf;

pub use containerd::Containerd;
pub use gnupg::Gnupg;
pub use node::{Clients, Node, NodeOptions};
pub use registry::Registry;

/// Anything that goes wrong while a test world is made; tests unwrap it.
pub type Error = Box<dyn std::error::Error + Send + Sync>;

/// The path of one of the project's programs, built beside the running test or example.
///
/// # Errors
/// It has not been built, or something that it is made of was changed since.
pub fn program(name: &str) -> Result<PathBuf, Error> {
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
