//! Images in the store, and getting them there. The nouns are here; `pull.rs` fetches, `trust.rs` says
//! what may be used.

mod laid;
mod namespaced_auth;
mod progress;
mod pull;
mod query;
mod trust;
mod watched;

pub use laid::LaidImages;
pub use progress::{Asker, PullState, Pulled};
pub(crate) use pull::Fetcher;
pub use pull::client_config;
pub(crate) use pull::registries_files;
pub use trust::policy;

/// How to authenticate at a registry.
pub use distribution::Credentials;
/// Who watches the blobs of an image come, and what is to be seen.
pub use distribution::{BlobStep, BlobWatch};
/// What an image's containers start with, and how it was made.
pub use image::ImageConfig;
/// An image in the store.
pub use store::ImageRecord;

/// A request to fetch an image.
#[derive(Debug, Clone, Default)]
pub struct PullRequest {
    /// A reference: short names are tried against the unqualified-search registries.
    pub image: String,
    /// Credentials of the request; `None` looks into the auth files.
    pub credentials: Option<Credentials>,
    /// The pod that needs it, if one does. Its namespace may have a policy of its own.
    pub pod: Asker,
    /// Who is told how it goes on.
    pub watch: BlobWatch,
}
