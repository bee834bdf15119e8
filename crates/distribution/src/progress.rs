//! What happens to a blob on its way, for whoever watches.

use std::fmt;
use std::sync::Arc;

use image::Descriptor;

/// A step of a blob.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BlobStep {
    /// It begins to move.
    Begun,
    /// It is there already and does not move.
    There,
    /// So many of its bytes have come. It goes back when a broken connection made it begin again.
    At(u64),
    /// It is where it should be.
    Done,
}

/// Who is told of every [`BlobStep`], from several tasks; nobody by default.
#[derive(Clone, Default)]
pub struct BlobWatch(Option<Arc<Tell>>);

type Tell = dyn Fn(&Descriptor, BlobStep) + Send + Sync;

impl BlobWatch {
    /// Tells `tell`.
    pub fn to(tell: impl Fn(&Descriptor, BlobStep) + Send + Sync + 'static) -> BlobWatch {
        BlobWatch(Some(Arc::new(tell)))
    }

    /// Tells whoever watches.
    pub fn tell(&self, blob: &Descriptor, step: BlobStep) {
        if let Some(tell) = &self.0 {
            tell(blob, step);
        }
    }
}

impl fmt::Debug for BlobWatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("BlobWatch(…)")
    }
}
