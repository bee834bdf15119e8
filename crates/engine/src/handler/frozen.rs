//! Containers that stand still, to be written down as they are at one moment.

use std::fmt::Debug;
use std::path::Path;

use crate::error::Result;

/// Containers of one pod that are frozen. They go on when this is dropped, when the time is over that it was
/// asked for with, or when this process dies: whoever froze them sees to it.
pub trait Frozen: Send + Debug {
    /// Writes the memory of one of them down: criu's images to `images`, which is made, its log and figures to
    /// `work`. It stands still afterwards, too.
    ///
    /// # Errors
    /// One that has ended, that is not frozen any longer, or that criu cannot write down.
    fn dump(&mut self, container: &str, images: &Path, work: &Path, criu: &Path) -> Result<()>;

    /// Lets them go on.
    ///
    /// # Errors
    /// They went on before: what was written is not of one moment.
    fn thaw(&mut self) -> Result<()>;
}
