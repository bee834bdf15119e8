//! The Container Network Interface: configuration lists, chains of plugins, results, and running the
//! plugins that are not built in. CNI specification 1.1.0, <https://www.cni.dev/docs/spec/>.

pub(crate) mod chain;
pub(crate) mod exec;
pub(crate) mod external;
mod list;
mod loader;
mod old_result;
pub(crate) mod plugin;
pub(crate) mod record;
pub(crate) mod result;

pub(crate) use list::{List, Places, is_true};
pub(crate) use loader::Loader;
