//! Layers that are compressed in another way on their way, or come as the archive that the source has of them.

use futures_util::FutureExt;
use image::{Compression, Descriptor, MediaType};

use super::Copy;
use crate::chunks;
use crate::convert::Format;
use crate::error::Result;
use crate::recode::{self, Recoded};
use crate::target::Use;

impl Copy<'_> {
    /// A layer as it is compressed at the target.
    pub(super) async fn recoded(
        &self,
        layer: &Descriptor,
        for_what: Use<'_>,
        to: Compression,
    ) -> Result<Descriptor> {
        let diff_id = match for_what {
            Use::Layer(diff_id) => diff_id.cloned(),
            Use::Config => None,
        };
        let family = match layer.media_type.as_str().contains(".docker.") {
            true if to != Compression::Zstd => Format::Docker,
            _ => Format::Oci,
        };
        let media_type = family.layer(to).unwrap_or(MediaType::OciLayer);
        if let (Compression::None, Some(diff_id)) = (to, &diff_id)
            && let Some(size) = self.source.archive(diff_id)?
        {
            let plain = Descriptor {
                media_type,
                digest: diff_id.clone(),
                size,
                urls: Vec::new(),
                ..layer.clone()
            };
            self.put_archive(&plain, for_what).await?;
            return Ok(plain);
        }
        let chunks = chunks::verified(self.watched(layer).await?, layer);
        let digest = layer.digest.clone();
        let recoded: Recoded =
            recode::recode(chunks, digest, diff_id, to, self.options.level).await?;
        let descriptor = Descriptor {
            media_type,
            digest: recoded.digest.clone(),
            size: recoded.size,
            urls: Vec::new(),
            ..layer.clone()
        };
        if !self.target.has_blob(&descriptor, for_what, None).await? {
            let open = || recoded.chunks().boxed();
            self.target.put_blob(&descriptor, for_what, &open).await?;
        }
        Ok(descriptor)
    }

    /// Puts a layer's archive: nothing is decompressed for it.
    async fn put_archive(&self, archive: &Descriptor, for_what: Use<'_>) -> Result<()> {
        if self.target.has_blob(archive, for_what, None).await? {
            return Ok(());
        }
        let open = || {
            let open = async { Ok(chunks::verified(self.source.blob(archive).await?, archive)) };
            open.boxed()
        };
        self.target.put_blob(archive, for_what, &open).await
    }
}
