//! A layer of the files that a build has written, as they lie in its writable layer: an upper directory of overlayfs
//! is what a lower one is. Must never take what something may still write to: its caller sees to that.

use image::{Descriptor, Digest};

use super::{Form, Fresh};
use crate::error::{Error, Result};
use crate::extract::{Omissions, Unpacked};
use crate::keep::record_dropped;
use crate::layout::{TempDir, TempFile};
use crate::lease::Lease;
use crate::{KeepBlobs, Store, tree};

impl Store {
    /// Adds a layer whose blob is `file`, and whose files the writable layer `container` has. The digests are of
    /// those very files.
    pub(crate) fn adopt_layer(
        &self,
        lease: &Lease,
        blob: &Descriptor,
        diff_id: &Digest,
        file: TempFile<'_>,
        container: &str,
    ) -> Result<()> {
        let has_blob = self.hold_blob(lease, &blob.digest)?;
        let has_layer = self.hold_layer(lease, diff_id)?;
        let fresh = match has_layer {
            true => None,
            false => Some(self.taken(container)?),
        };
        let keep = self.keep_blobs() != KeepBlobs::UntilUnpacked;
        if keep && !has_blob {
            self.publish_blob(blob, Some(file))?;
        } else if !keep {
            self.db().write(crate::db::Durability::Ordered, |tx| {
                record_dropped(tx, &blob.digest.to_string(), blob.size)
            })?;
        }
        match fresh {
            Some(fresh) => self.publish_layer(lease, blob, diff_id, fresh),
            None => Ok(()),
        }
    }

    fn taken(&self, container: &str) -> Result<Fresh<'_>> {
        let layout = self.layout();
        let path = self.root().join("containers").join(container).join("upper");
        let dir = TempDir::take(layout, layout.containers(), container, "upper", &path)?;
        let usage = tree::usage(dir.fd()).map_err(Error::sys("walk", dir.path()))?;
        Ok(Fresh {
            dir,
            form: Form::Directory,
            seal: None,
            facts: Unpacked {
                usage,
                opaque: false,
                omissions: Omissions::default(),
                implied: Vec::new(),
            },
        })
    }
}
