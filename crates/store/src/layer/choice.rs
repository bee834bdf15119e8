//! Which form new layers have: what is wanted, and what can be had here.

use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};

use super::{Form, indexed, seal};
use crate::Store;

/// Which form new layers are to have.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum WantedForm {
    /// The one that is pulled and removed fastest, where it can be had.
    #[default]
    Best,
    /// This one. Where it cannot be had, a warning says why.
    Named(Form),
}

impl From<Form> for WantedForm {
    fn from(form: Form) -> WantedForm {
        WantedForm::Named(form)
    }
}

impl std::str::FromStr for WantedForm {
    type Err = String;

    /// `auto`, or the name of a form.
    fn from_str(text: &str) -> Result<WantedForm, String> {
        match (text, text.parse()) {
            ("auto", _) => Ok(WantedForm::Best),
            (_, Ok(form)) => Ok(WantedForm::Named(form)),
            _ => Err(format!("{text:?} is none of auto, unpacked and erofs")),
        }
    }
}

/// The choice of a handle, which may change while it is used.
#[derive(Debug, Default)]
pub(crate) struct Choice {
    wanted: Mutex<WantedForm>,
    /// Why this store cannot have layers that are mounted as files, or `None`, once that was tried.
    lacking: OnceLock<Option<String>>,
    /// That a warning has said so.
    warned: OnceLock<()>,
    /// Whether it can have the files of such layers sealed.
    pub(super) seals: seal::Ability,
}

impl Choice {
    fn wanted(&self) -> MutexGuard<'_, WantedForm> {
        self.wanted.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Store {
    /// Sets the form of the layers that this handle adds; until then it is the best. Where the kernel, the rights of
    /// this process or the file system of the store do not allow it, they are unpacked, and one warning says why if
    /// the form was named.
    pub fn set_layer_form(&self, form: impl Into<WantedForm>) {
        *self.0.form.wanted() = form.into();
    }

    /// The form that layers get which are added now.
    pub fn form_of_new_layers(&self) -> Form {
        let wanted = *self.0.form.wanted();
        let can = match wanted {
            WantedForm::Best => self.lacking().is_none(),
            WantedForm::Named(form) => form == Form::Erofs && self.can_have(form),
        };
        match can {
            true => Form::Erofs,
            false => Form::Directory,
        }
    }

    /// Whether layers can have this form here; if not, a warning has said why.
    pub fn can_have(&self, form: Form) -> bool {
        let lacking = match form {
            Form::Directory => None,
            Form::Erofs => self.lacking(),
        };
        if let Some(why) = lacking {
            self.0.form.warned.get_or_init(|| {
                tracing::warn!("store: layers are unpacked and not mounted as files: {why}");
            });
        }
        lacking.is_none()
    }

    /// Why layers cannot be mounted as files here.
    fn lacking(&self) -> Option<&str> {
        let try_it = || match indexed::probe(self) {
            Ok(()) => None,
            Err(error) => {
                tracing::debug!("store: layers are unpacked and not mounted as files: {error}");
                Some(error.to_string())
            }
        };
        self.0.form.lacking.get_or_init(try_it).as_deref()
    }
}
