//! What happens to containers, as it happens.

use clap::Args;

use super::World;
use crate::failure::{Context, Failure, Outcome};
use crate::{json, output};

/// Options of `events`.
#[derive(Debug, Args)]
pub(crate) struct EventsArgs {
    /// json, yaml or go-template
    #[arg(long, short, value_name = "FORMAT", default_value = "json")]
    output: String,
    /// The template of go-template
    #[arg(long, default_value = "", hide_default_value = true)]
    template: String,
    #[arg(hide = true)]
    words: Vec<String>,
}

pub(crate) async fn events(world: &World, args: &EventsArgs) -> Outcome {
    if !args.words.is_empty() {
        return Err(Failure::Help);
    }
    match args.output.as_str() {
        "json" | "yaml" if !args.template.is_empty() => {
            let format = &args.output;
            let why = format!("template can't be used with {format:?} format");
            return Err(Failure::new(why));
        }
        "json" | "yaml" | "go-template" => {}
        other => return Err(Failure::new(format!("don't support {other:?} format"))),
    }
    let runtime = world.runtime().await?;
    let told = async {
        let request = cri::GetEventsRequest::default();
        let mut stream = runtime
            .call_within(None, async |mut client| {
                client.get_container_events(request).await
            })
            .await?;
        while let Some(event) = stream.message().await? {
            match args.output.as_str() {
                "json" => output::as_json(&event)?,
                "yaml" => output::as_yaml(&event)?,
                _ => output::templated(&args.template, &json::value(&event)?, world.render)?,
            }
        }
        Ok::<(), Failure>(())
    };
    told.await.context("getting container events")
}
