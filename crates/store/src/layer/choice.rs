//! Which form new layers have: what is wanted, and what can be had here.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};

use super::{Form, indexed};
use crate::Store;

/// The choice of a handle, which may change while it is used.
#[derive(Debug, Default)]
pub(crate) struct Choice {
    erofs: AtomicBool,
    /// Whether this store can have layers that are mounted as files, once that was tried.
    can: OnceLock<bool>,
}

impl Store {
    /// Sets the form of the layers that this handle adds. Where the kernel, the rights of this process or the file
    /// system of the store do not allow it, they are unpacked, and one warning says why.
    pub fn set_layer_form(&self, form: Form) {
        let erofs = match form {
            Form::Directory => false,
            Form::Erofs => true,
        };
        self.0.form.erofs.store(erofs, Ordering::Relaxed);
    }

    /// The form that layers get which are added now.
    pub fn form_of_new_layers(&self) -> Form {
        match self.0.form.erofs.load(Ordering::Relaxed) && self.can_have(Form::Erofs) {
            true => Form::Erofs,
            false => Form::Directory,
        }
    }

    /// Whether layers can have this form here; if not, a warning has said why.
    pub fn can_have(&self, form: Form) -> bool {
        match form {
            Form::Directory => true,
            Form::Erofs => self.can_mount_layers(),
        }
    }

    fn can_mount_layers(&self) -> bool {
        *self.0.form.can.get_or_init(|| match indexed::probe(self) {
            Ok(()) => true,
            Err(error) => {
                tracing::warn!("store: layers are unpacked and not mounted as files: {error}");
                false
            }
        })
    }
}
