//! A file on the web, such as a root file system to import: no registry, nobody to be there.
//!
//! Must never send stored credentials: whoever names the URL need not own the host.

use bytes::Bytes;
use futures_util::Stream;
use futures_util::stream::try_unfold;
use image::Reference;
use reqwest::{Method, Url};

use super::Client;
use super::exchange::{Ask, Repo, Target};
use super::patience::Pace;
use crate::auth::Credentials;
use crate::error::{Error, Result};
use crate::registries::Source;

impl Client {
    /// The bytes at an `http` or `https` URL, of any number. The connection is made, and an error of
    /// the server known, when this returns; a stream that breaks off is an error.
    pub async fn file(
        &self,
        url: &str,
    ) -> Result<impl Stream<Item = Result<Bytes>> + Send + use<>> {
        let invalid = |cause: &str| Error::Setup {
            cause: format!("{url:?}: {cause}"),
        };
        let parsed = Url::parse(url).map_err(|error| invalid(&error.to_string()))?;
        let host = parsed.host_str().ok_or_else(|| invalid("it has no host"))?;
        if !matches!(parsed.scheme(), "http" | "https") {
            return Err(invalid("only http and https are supported"));
        }
        // The path is of no importance: no token is asked for.
        let reference = Reference::parse(&match parsed.port() {
            Some(port) => format!("{host}:{port}/file"),
            None => format!(
                "{host}:{}/file",
                parsed.port_or_known_default().unwrap_or(443)
            ),
        })?;
        let repo = Repo {
            source: Source {
                insecure: parsed.scheme() == "http",
                ..Source::direct(reference)
            },
            credentials: Credentials::Anonymous,
            actions: "",
            from: None,
        };
        let ask = Ask {
            patient: true,
            ..Ask::new(Method::GET, Target::Own(parsed), format!("file {url}"))
        };
        let answer = self.inner.ask(&repo, &ask).await?;
        let expected = answer.response.content_length();
        let state = (answer, 0_u64, Pace::new(&self.inner.config));
        Ok(try_unfold(
            state,
            move |(mut answer, received, mut pace)| async move {
                match pace.chunk(&mut answer.response).await {
                    Ok(Some(chunk)) => {
                        let received = received.saturating_add(chunk.len() as u64);
                        Ok(Some((chunk, (answer, received, pace))))
                    }
                    Ok(None) => Ok(None),
                    Err(broken) => Err(Error::Truncated {
                        at: answer.at,
                        expected: expected.unwrap_or(received),
                        received,
                        cause: broken.cause,
                        timed_out: broken.timed_out,
                    }),
                }
            },
        ))
    }
}
