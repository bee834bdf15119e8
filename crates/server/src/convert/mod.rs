//! CRI's types to the engine's and back, a file per noun. Pure: nothing here touches the node.
//!
//! A request that cannot be meant is refused with the name of its field, as the schema writes it;
//! what floe has not built yet is refused too, never ignored, when it would change what a container
//! may do. Windows' parts are ignored.

pub(crate) mod check;
pub(crate) mod container;
pub(crate) mod image;
pub(crate) mod metrics;
pub(crate) mod pod;
pub(crate) mod security;
pub(crate) mod signal;
pub(crate) mod stats;
pub(crate) mod timeline;

pub(crate) use check::no_windows;
pub(crate) use security::resources;

use engine::Error;

/// A request whose `field` cannot be accepted.
pub(crate) fn invalid(field: impl Into<String>, reason: impl Into<String>) -> Error {
    Error::Invalid {
        field: field.into(),
        reason: reason.into(),
    }
}

/// A part of a request that must be there.
pub(crate) fn required<T>(field: &str, value: Option<T>) -> Result<T, Error> {
    value.ok_or_else(|| invalid(field, "is missing"))
}

/// A text that must not be empty.
pub(crate) fn not_empty(field: &str, value: String) -> Result<String, Error> {
    if value.is_empty() {
        Err(invalid(field, "must not be empty"))
    } else {
        Ok(value)
    }
}

/// The value of an enum that `number` stands for.
pub(crate) fn known<T: TryFrom<i32>>(field: &str, number: i32) -> Result<T, Error> {
    T::try_from(number).map_err(|_| invalid(field, format!("{number} is not a value of this enum")))
}

/// A text where empty means that there is none.
pub(crate) fn given(text: String) -> Option<String> {
    Some(text).filter(|text| !text.is_empty())
}
