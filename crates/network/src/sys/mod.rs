//! The system calls that neither std nor rustix covers in the shape needed here. The only place with
//! `unsafe`; nothing here knows about pods.

pub(crate) mod ethtool;
pub(crate) mod lock;
pub(crate) mod netns;
