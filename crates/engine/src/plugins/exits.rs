//! Containers that end by themselves: one thread that hears all events and tells plugins of ends. It runs while
//! there is a plugin that wants to be told.

use std::sync::PoisonError;

use crate::engine::Engine;
use crate::error::Result;
use crate::events::{Happening, Notice, Subscription};
use crate::handler;

/// Sees to it that the thread runs, if any wants to be told.
pub(super) fn hear(engine: &Engine) {
    let hearing = engine.plugins().hearing.lock();
    let mut hearing = hearing.unwrap_or_else(PoisonError::into_inner);
    if *hearing || !engine.hears_of_ends() {
        return;
    }
    let subscribed = engine.subscribe().and_then(|events| {
        let own = engine.clone();
        std::thread::Builder::new()
            .name("nri-exits".to_owned())
            .spawn(move || listen(&own, events))
            .map_err(crate::Error::io("start", "a thread"))
    });
    match subscribed {
        Ok(_) => *hearing = true,
        Err(error) => tracing::warn!(%error, "plugins hear of ends only when they are asked for"),
    }
}

fn listen(engine: &Engine, mut events: Subscription) {
    if let Err(error) = handler::wait(follow(engine, &mut events)) {
        tracing::warn!(%error, "plugins hear of ends only when they are asked for");
        let hearing = engine.plugins().hearing.lock();
        *hearing.unwrap_or_else(PoisonError::into_inner) = false;
    }
}

/// Until there is no plugin any more that wants to be told.
async fn follow(engine: &Engine, events: &mut Subscription) -> Result<()> {
    loop {
        let notice = events.next().await?;
        {
            let hearing = engine.plugins().hearing.lock();
            let mut hearing = hearing.unwrap_or_else(PoisonError::into_inner);
            if !engine.hears_of_ends() {
                *hearing = false;
                return Ok(());
            }
        }
        match notice {
            Notice::Present(pods) => {
                let all = pods.iter().flat_map(|pod| &pod.containers);
                all.for_each(|container| engine.tell_end(container));
            }
            Notice::Event(event) if event.what == Happening::Stopped => {
                let mut all = event.views.containers.iter();
                let ended = all.find(|one| Some(&*one.id) == event.container_id.as_deref());
                if let Some(container) = ended {
                    engine.tell_end(container);
                }
            }
            Notice::Event(_) | Notice::Gap { .. } => {}
        }
    }
}
