//! Pages for people: repositories, and the tags of one with platforms, sizes and layers. Plain HTML.
//!
//! Names, media types and platforms come from hostile clients: every text passes [`escape`], and
//! there is no script for anything to run in.

use std::fmt::Write;
use std::io::Read;
use std::sync::Arc;

use hyper::StatusCode;
use hyper::header::{CACHE_CONTROL, HeaderValue};
use image::{AnyManifest, Descriptor, Digest, Index, Manifest};
use serde::Deserialize;

use super::query::{Page, encode};
use super::{Answer, App, Asked, json};
use crate::contents::{Contents, StoredManifest};
use crate::error::{Error, Result};
use crate::name::{Name, Target};

const HTML: &str = "text/html; charset=utf-8";

/// Repositories on a page.
const REPOSITORIES: usize = 200;
/// Tags on a page: each is read from the disk.
const TAGS: usize = 20;
/// Layers or images shown of one tag.
const PARTS: usize = 50;
/// No config that says its platform is larger.
const LARGEST_CONFIG: u64 = 4 << 20;

const STYLE: &str = "\
body{font:16px/1.5 system-ui,sans-serif;max-width:70rem;margin:2rem auto;padding:0 1rem;color:#222;background:#fff}\
a{color:#0b5cad}h1{font-size:1.5rem;overflow-wrap:anywhere}h2{font-size:1.1rem;margin:2rem 0 .3rem;overflow-wrap:anywhere}\
table{border-collapse:collapse;width:100%}td,th{text-align:left;padding:.2rem .8rem .2rem 0;border-bottom:1px solid #ddd;vertical-align:top}\
td.size{text-align:right;white-space:nowrap}code{font-size:.85rem;overflow-wrap:anywhere}p.note{color:#666}\
@media(prefers-color-scheme:dark){body{color:#ddd;background:#181818}a{color:#7ab8f5}td,th{border-color:#444}}";

/// The style sheet of all pages.
pub(super) fn style() -> Answer {
    let mut answer = json(StatusCode::OK, "text/css; charset=utf-8", STYLE.into());
    let day = HeaderValue::from_static("max-age=86400");
    answer.headers_mut().insert(CACHE_CONTROL, day);
    answer
}

/// `GET /`
pub(super) async fn home(app: &App, asked: &Asked<'_>) -> Result<Answer> {
    let page = Page {
        n: REPOSITORIES,
        last: asked.query.get("last"),
    };
    let list = app.read(|contents| contents.repositories()).await?;
    let count = list.len();
    let (list, more) = page.cut(list);
    let mut html = String::new();
    match count {
        0 => html.push_str("<p>There is nothing here yet.</p>"),
        1 => html.push_str("<p class=note>1 repository</p>"),
        _ => html.push_str(&format!("<p class=note>{count} repositories</p>")),
    }
    html.push_str("<ul>");
    for name in &list {
        let (link, name) = (escape(&link(name)), escape(name));
        html.push_str(&format!("<li><a href=\"{link}\">{name}</a></li>"));
    }
    html.push_str("</ul>");
    next(&mut html, "/?", more, list.last());
    Ok(document("Repositories", &html))
}

/// Where the page of a repository is. A registry with a port fits in no path: a mirror has it
/// beside.
fn link(name: &str) -> String {
    match name.split_once('/') {
        Some((host, path)) if host.contains(':') => {
            format!("/repository/{path}?ns={}", encode(host))
        }
        _ => format!("/repository/{name}"),
    }
}

/// `GET /repository/NAME`
pub(super) async fn repository(app: &Arc<App>, name: Name, asked: &Asked<'_>) -> Result<Answer> {
    let last = asked.query.get("last").map(str::to_owned);
    let title = name.to_string();
    let host = asked.query.get("ns").filter(|_| app.mirror);
    let host = host
        .map(|host| format!("ns={}&", encode(host)))
        .unwrap_or_default();
    let html = app.read(move |contents| {
        let page = Page {
            n: TAGS,
            last: last.as_deref(),
        };
        let (tags, more) = page.cut(contents.tags(&name)?);
        let mut html = "<p><a href=\"/\">All repositories</a></p>".to_owned();
        if tags.is_empty() {
            html.push_str("<p>There are no tags here.</p>");
        }
        for tag in &tags {
            match contents.manifest(&name, &Target::Tag(tag.clone())) {
                Ok(found) => show(contents, &name, tag, &found, &mut html),
                // It went meanwhile.
                Err(Error::ManifestUnknown { .. }) => {}
                Err(error) => return Err(error),
            }
        }
        let path = format!("/repository/{name}?{host}");
        next(&mut html, &path, more, tags.last());
        Ok(html)
    });
    Ok(document(&title, &html.await?))
}

fn show(
    contents: &dyn Contents,
    name: &Name,
    tag: &str,
    found: &StoredManifest,
    html: &mut String,
) {
    let (tag, digest) = (escape(tag), found.digest.to_string());
    html.push_str(&format!(
        "<h2>{tag}</h2><p><code>{}</code></p>",
        escape(&digest)
    ));
    match AnyManifest::parse(Some(&found.media_type), &found.bytes) {
        Ok(AnyManifest::Index(index)) => show_index(contents, name, &index, html),
        Ok(AnyManifest::Manifest(manifest)) => show_image(contents, name, &manifest, html),
        Err(error) => html.push_str(&format!("<p>{}</p>", escape(&error.to_string()))),
    }
}

fn show_index(contents: &dyn Contents, name: &Name, index: &Index, html: &mut String) {
    html.push_str("<table><tr><th>Platform<th>Size<th>Manifest</tr>");
    for entry in index.manifests.iter().take(PARTS) {
        let platform = entry.platform.as_ref().map(ToString::to_string);
        let platform = platform.unwrap_or_else(|| "any".to_owned());
        row(
            html,
            &platform,
            image_size(contents, name, &entry.digest),
            &entry.digest,
        );
    }
    html.push_str("</table>");
    rest(html, index.manifests.len());
}

fn show_image(contents: &dyn Contents, name: &Name, manifest: &Manifest, html: &mut String) {
    let platform = platform(contents, name, &manifest.config);
    let what = match (&manifest.artifact_type, platform) {
        (Some(artifact), _) => artifact.clone(),
        (None, Some(platform)) => platform,
        (None, None) => manifest.config.media_type.to_string(),
    };
    let (what, total) = (escape(&what), size(manifest.content_size()));
    let count = manifest.layers.len();
    html.push_str(&format!("<p>{what}, {total}, layers: {count}</p>"));
    html.push_str("<table><tr><th>Layer<th>Size<th>Digest</tr>");
    for layer in manifest.layers.iter().take(PARTS) {
        row(
            html,
            layer.media_type.as_str(),
            Some(layer.size),
            &layer.digest,
        );
    }
    html.push_str("</table>");
    rest(html, count);
}

fn row(html: &mut String, what: &str, bytes: Option<u64>, digest: &Digest) {
    let (what, digest) = (escape(what), escape(&digest.to_string()));
    let bytes = bytes.map(size).unwrap_or_default();
    html.push_str(&format!(
        "<tr><td>{what}<td class=size>{bytes}<td><code>{digest}</code></tr>"
    ));
}

fn rest(html: &mut String, count: usize) {
    if let Some(more) = count.checked_sub(PARTS).filter(|more| *more > 0) {
        html.push_str(&format!("<p class=note>and {more} more</p>"));
    }
}

fn next(html: &mut String, path: &str, more: bool, last: Option<&String>) {
    if let (true, Some(last)) = (more, last) {
        let (path, last) = (escape(path), escape(&encode(last)));
        html.push_str(&format!("<p><a href=\"{path}last={last}\">Next</a></p>"));
    }
}

/// The sum of an image's config and layers, if it is here.
fn image_size(contents: &dyn Contents, name: &Name, digest: &Digest) -> Option<u64> {
    let found = contents
        .manifest(name, &Target::Digest(digest.clone()))
        .ok()?;
    match AnyManifest::parse(Some(&found.media_type), &found.bytes).ok()? {
        AnyManifest::Manifest(manifest) => Some(manifest.content_size()),
        AnyManifest::Index(_) => None,
    }
}

/// What the config says it is for, if it is an image's.
fn platform(contents: &dyn Contents, name: &Name, config: &Descriptor) -> Option<String> {
    #[derive(Deserialize)]
    struct Config {
        os: String,
        architecture: String,
        variant: Option<String>,
    }
    if config.size > LARGEST_CONFIG {
        return None;
    }
    let (file, _) = contents.blob(name, &config.digest).ok()?;
    let mut bytes = Vec::new();
    file.take(LARGEST_CONFIG).read_to_end(&mut bytes).ok()?;
    let config: Config = serde_json::from_slice(&bytes).ok()?;
    let variant = config.variant.map(|variant| format!("/{variant}"));
    let (os, architecture) = (config.os, config.architecture);
    Some(format!(
        "{os}/{architecture}{}",
        variant.unwrap_or_default()
    ))
}

fn document(title: &str, content: &str) -> Answer {
    let title = escape(title);
    let html = format!(
        "<!doctype html><html lang=en><head><meta charset=utf-8>\
         <meta name=viewport content=\"width=device-width\"><title>{title}</title>\
         <link rel=stylesheet href=\"/style.css\"></head><body><h1>{title}</h1>{content}</body></html>"
    );
    json(StatusCode::OK, HTML, html.into_bytes())
}

/// Makes any text harmless between tags and in quoted attributes.
fn escape(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for character in text.chars().take(1000) {
        match character {
            '<' => safe.push_str("&lt;"),
            '>' => safe.push_str("&gt;"),
            '&' => safe.push_str("&amp;"),
            '"' => safe.push_str("&quot;"),
            '\'' => safe.push_str("&#39;"),
            // Also what turns the direction of writing around.
            c if c.is_control()
                || matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}') =>
            {
                // Writing to a String cannot fail.
                let _ = write!(safe, "{}", c.escape_unicode());
            }
            c => safe.push(c),
        }
    }
    safe
}

/// Bytes as people read them.
fn size(bytes: u64) -> String {
    const UNITS: [&str; 5] = ["kB", "MB", "GB", "TB", "PB"];
    if bytes < 1000 {
        return format!("{bytes} B");
    }
    let mut value = bytes as f64 / 1000.0;
    let mut unit = 0;
    while value >= 999.95 && unit + 1 < UNITS.len() {
        value /= 1000.0;
        unit += 1;
    }
    format!("{value:.1} {}", UNITS[unit])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_text_becomes_markup() {
        assert_eq!(
            escape("<script>alert('x' + \"&\")</script>\u{202e}\n"),
            "&lt;script&gt;alert(&#39;x&#39; + &quot;&amp;&quot;)&lt;/script&gt;\\u{202e}\\u{a}"
        );
        assert_eq!(escape(&"x".repeat(5000)).len(), 1000);
    }

    #[test]
    fn sizes_are_rounded_for_people() {
        assert_eq!(size(0), "0 B");
        assert_eq!(size(999), "999 B");
        assert_eq!(size(1500), "1.5 kB");
        assert_eq!(size(999_999), "1.0 MB");
        assert_eq!(size(u64::MAX), "18446.7 PB");
    }
}
