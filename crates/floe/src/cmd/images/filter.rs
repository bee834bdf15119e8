//! `--filter` of `floe images` and `floe image prune`: podman's keys.

use engine::Engine;
use engine::image::ImageRecord;
use regex::Regex;

use crate::clock;
use crate::failure::Failure;

/// What an image must be like.
pub(crate) enum Filter {
    Before(i64),
    Since(i64),
    Label {
        key: String,
        value: Option<String>,
        wanted: bool,
    },
    Dangling(bool),
    Id(String),
    /// A name, in which `*` stands for anything.
    Reference(Regex),
    ReadOnly(bool),
}

impl Filter {
    pub(crate) fn parse(engine: &Engine, text: &str) -> Result<Filter, Failure> {
        let flawed = || {
            Failure::new(format!(
                "filter {text:?}: write until=TIME, before=IMAGE, since=IMAGE, label=KEY[=VALUE], \
                 label!=KEY[=VALUE], reference=NAME, id=ID, readonly=BOOL or dangling=BOOL"
            ))
        };
        let (name, value) = text.split_once('=').ok_or_else(|| {
            Failure::new(format!(
                "invalid image filter {text:?}: must be in the format \"filter=value or filter!=value\""
            ))
        })?;
        let created =
            |image: &str| -> Result<i64, Failure> { Ok(engine.image(image)?.created.unwrap_or(0)) };
        match name {
            "until" => Ok(Filter::Before(clock::until(value)?)),
            "before" => Ok(Filter::Before(created(value)?)),
            "since" | "after" => Ok(Filter::Since(created(value)?)),
            "dangling" => Ok(Filter::Dangling(value.parse().map_err(|_| flawed())?)),
            "readonly" => Ok(Filter::ReadOnly(value.parse().map_err(|_| flawed())?)),
            "id" => Ok(Filter::Id(value.trim_start_matches("sha256:").to_owned())),
            "reference" => Ok(Filter::Reference(glob(value).map_err(|_| flawed())?)),
            "label" | "label!" => {
                let (key, value) = match value.split_once('=') {
                    Some((key, value)) => (key, Some(value.to_owned())),
                    None => (value, None),
                };
                Ok(Filter::Label {
                    key: key.to_owned(),
                    value,
                    wanted: name == "label",
                })
            }
            _ => Err(flawed()),
        }
    }

    pub(crate) fn fits(&self, engine: &Engine, image: &ImageRecord) -> engine::Result<bool> {
        Ok(match self {
            // Of an image that does not say when it was made, nobody can say that it is old.
            Filter::Before(time) => image.created.is_some_and(|created| created < *time),
            Filter::Since(time) => image.created.is_some_and(|created| created > *time),
            Filter::Dangling(dangling) => image.names.is_empty() == *dangling,
            Filter::ReadOnly(read_only) => image.read_only == *read_only,
            Filter::Id(begin) => image.id.starts_with(begin),
            Filter::Reference(name) => image.names.iter().any(|one| {
                let (repository, _) = one.rsplit_once(':').unwrap_or((one, ""));
                let short = |text: &str| text.rsplit('/').next().unwrap_or_default().to_owned();
                let forms = [
                    one.clone(),
                    repository.to_owned(),
                    short(one),
                    short(repository),
                ];
                forms.iter().any(|form| name.is_match(form))
            }),
            Filter::Label { key, value, wanted } => {
                let config = engine.image_config(image)?;
                let label = config.config.labels.get(key);
                let has = label.is_some_and(|found| value.as_ref().is_none_or(|v| v == found));
                has == *wanted
            }
        })
    }
}

/// A pattern of shells, for whole names.
fn glob(pattern: &str) -> Result<Regex, regex::Error> {
    let body = regex::escape(pattern)
        .replace("\\*", ".*")
        .replace("\\?", ".");
    Regex::new(&format!("^{body}$"))
}
