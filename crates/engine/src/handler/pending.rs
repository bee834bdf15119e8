//! An answer that is still to come.

use std::pin::Pin;

use crate::error::{Error, Result};

/// What is waited for without a thread. Needs tokio's reactor.
pub type Pending<T> = Pin<Box<dyn Future<Output = Result<T>> + Send>>;

/// Waits on the caller's thread, which is none of a runtime's.
///
/// # Errors
/// The future's own, or a lack of descriptors.
pub fn wait<T>(pending: impl Future<Output = Result<T>>) -> Result<T> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(Error::io("make", "event loop"))?
        .block_on(pending)
}
