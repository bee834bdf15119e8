//! Listing tags (distribution-spec, "Content discovery"), page by page.
//!
//! Must never follow a next page to another registry, nor an endless list.

use image::Reference;
use image::manifest::null_default;
use reqwest::header::{CONTENT_TYPE, LINK};
use reqwest::{Method, Url};
use serde::Deserialize;

use super::answer::is_page;
use super::exchange::{Ask, Repo, Target};
use super::{Client, PULL, endpoint};
use crate::auth::Credentials;
use crate::error::{Error, ProtocolFlaw, Result};

const PAGE_SIZE: usize = 1000;
const MAX_PAGES: usize = 1000;
const MAX_PAGE_BYTES: u64 = 4 << 20;
/// The most that all pages may be: some hundred thousand tags.
const MAX_BYTES: u64 = 64 << 20;

#[derive(Deserialize)]
struct Page {
    #[serde(default, deserialize_with = "null_default")]
    tags: Vec<String>,
}

impl Client {
    /// Whether the registry `host[:port]` lets these credentials in. Errors as any request does,
    /// with [`Error::Unauthorized`] when it does not.
    pub async fn log_in(&self, host: &str, credentials: &Credentials) -> Result<()> {
        // Any repository of the registry does: none is asked for.
        let reference = Reference::parse(&format!("{host}/x"))?;
        let repo = Repo {
            actions: "",
            ..self.inner.push_repo(&reference, credentials).await?
        };
        let ask = Ask::new(Method::GET, Target::Root, format!("login to {host}"));
        let answer = self.inner.ask(&repo, &ask).await?;
        // Whatever serves pages lets everybody in.
        if answer
            .header(CONTENT_TYPE.as_str())
            .is_some_and(|kind| kind.starts_with("text/html"))
        {
            return Err(Error::Protocol {
                at: answer.at,
                flaw: ProtocolFlaw::WebPage,
            });
        }
        Ok(())
    }

    /// All tags of the repository of `reference`, from the registry itself and not a mirror.
    pub async fn tags(
        &self,
        reference: &Reference,
        credentials: &Credentials,
    ) -> Result<Vec<String>> {
        let sources = self.inner.config.registries.resolve(reference)?;
        let repo = match sources.last() {
            Some(own) => self.inner.repo(own, credentials, PULL).await?,
            None => return Ok(Vec::new()),
        };
        let subject = format!("tags of {}", reference.name());
        let mut tags = Vec::new();
        let mut left = MAX_BYTES;
        let mut target = Target::Api(format!("tags/list?n={PAGE_SIZE}"));
        for _ in 0..MAX_PAGES {
            let ask = Ask::new(Method::GET, target, subject.clone());
            let page = self.inner.ask_bytes(&repo, &ask, MAX_PAGE_BYTES).await?;
            let broken = |flaw| Error::Protocol {
                at: page.at.clone(),
                flaw,
            };
            left = left
                .checked_sub(page.bytes.len() as u64)
                .ok_or_else(|| Error::TooLarge {
                    at: page.at.clone(),
                    limit: MAX_BYTES,
                })?;
            let flaw = match is_page(&page.bytes) {
                true => ProtocolFlaw::WebPage,
                false => ProtocolFlaw::Tags,
            };
            let list: Page = serde_json::from_slice(&page.bytes).map_err(|_| broken(flaw))?;
            tags.extend(list.tags);
            let link = page.headers.get(LINK).and_then(|value| value.to_str().ok());
            match link.and_then(next_link) {
                None => return Ok(tags),
                Some(link) => {
                    target = Target::Url(
                        next_page(&page.url, link).ok_or_else(|| broken(ProtocolFlaw::NextPage))?,
                    )
                }
            }
        }
        let at = crate::error::At {
            subject: subject.into(),
            endpoint: reference.domain().into(),
        };
        Err(Error::Protocol {
            at,
            flaw: ProtocolFlaw::NextPage,
        })
    }
}

pub(super) fn next_page(from: &Url, link: &str) -> Option<Url> {
    let url = from.join(link).ok()?;
    (endpoint::origin(&url) == endpoint::origin(from)).then_some(url)
}

/// The target of `<…>; rel="next"`.
pub(super) fn next_link(header: &str) -> Option<&str> {
    let links = header
        .split(',')
        .filter_map(|link| link.trim().strip_prefix('<')?.split_once('>'));
    let next = |parameters: &str| {
        parameters
            .split(';')
            .any(|one| matches!(one.trim(), "rel=next" | r#"rel="next""#))
    };
    links
        .into_iter()
        .find(|(_, parameters)| next(parameters))
        .map(|(target, _)| target)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_next_page_stays_at_the_registry() {
        assert_eq!(
            next_link(r#"</v2/a/tags/list?last=x&n=2>; rel="next""#),
            Some("/v2/a/tags/list?last=x&n=2")
        );
        assert_eq!(next_link(r#"<a>; rel="prev", <b>; rel=next"#), Some("b"));
        assert_eq!(next_link("nonsense"), None);
        let from = Url::parse("https://a.example/v2/x/tags/list").unwrap();
        assert!(next_page(&from, "/v2/x/tags/list?last=y").is_some());
        assert_eq!(next_page(&from, "https://b.example/v2/"), None);
        assert_eq!(next_page(&from, "http://a.example/v2/"), None);
    }
}
