//! The messages as they travel; made from `proto/` by `build.rs`. Nothing outside this crate sees them.
#![allow(unreachable_pub, reason = "generated code is public")]
#![allow(
    missing_docs,
    reason = "fields are named as the wire's definitions name them"
)]

mod messages {
    include!(concat!(env!("OUT_DIR"), "/messages.rs"));
}
pub(crate) mod cgroups_v1 {
    include!(concat!(env!("OUT_DIR"), "/cgroups_v1.rs"));
}
pub(crate) mod cgroups_v2 {
    include!(concat!(env!("OUT_DIR"), "/cgroups_v2.rs"));
}

pub(crate) use messages::*;
