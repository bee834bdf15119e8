//! What the image store warns of, for people: `floe serve` has a log, all other commands standard error.
//!
//! Must never show a control character: names in a warning come from images.

use std::fmt::{Debug, Write};

use tracing::field::{Field, Visit};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::layer::{Context, Layer, SubscriberExt};
use tracing_subscriber::util::SubscriberInitExt;

use crate::progress;

/// Shows the store's warnings from now on.
pub(crate) fn of_the_store() {
    // Who has a log already has the warnings there.
    let _ = tracing_subscriber::registry().with(Shown).try_init();
}

struct Shown;

impl<S: Subscriber> Layer<S> for Shown {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let metadata = event.metadata();
        let module = metadata.target().split("::").next();
        if *metadata.level() > Level::WARN || module != Some("store") {
            return;
        }
        let mut words = Words::default();
        event.record(&mut words);
        let line = format!("{}{}", words.message, words.fields);
        progress::note(&format!("Warning: {}", image::printable(&line)));
    }
}

#[derive(Default)]
struct Words {
    message: String,
    fields: String,
}

impl Visit for Words {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        // Writing to a string does not fail.
        let _ = match field.name() {
            "message" => write!(self.message, "{value:?}"),
            name => write!(self.fields, " ({name} {value:?})"),
        };
    }
}
