//! The query of a request, and lists in parts (`n`, `last`, `Link`; RFC 5988).

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

use crate::error::{Error, Result};

/// The most entries of one answer; a client follows `Link` for more.
const PAGE: usize = 10_000;

/// What needs no encoding in a query.
const PLAIN: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'.')
    .remove(b'_')
    .remove(b'/')
    .remove(b':');

/// Keys and values, decoded.
#[derive(Debug)]
pub(super) struct Query(Vec<(String, String)>);

impl Query {
    pub(super) fn parse(text: &str) -> Query {
        let pairs = url::form_urlencoded::parse(text.as_bytes());
        Query(pairs.into_owned().collect())
    }

    /// The first value of a key; an empty one is none.
    pub(super) fn get(&self, key: &str) -> Option<&str> {
        let found = self.0.iter().find(|(name, _)| name == key);
        found
            .map(|(_, value)| value.as_str())
            .filter(|value| !value.is_empty())
    }

    /// All values of a key.
    pub(super) fn all<'a>(&'a self, key: &'a str) -> impl Iterator<Item = &'a str> {
        let pairs = self.0.iter().filter(move |(name, _)| name == key);
        pairs.map(|(_, value)| value.as_str())
    }

    /// Which part of a list is asked for.
    pub(super) fn page(&self) -> Result<Page<'_>> {
        let n = match self.get("n") {
            None => PAGE,
            Some(n) => n.parse().map_err(|_| Error::Query("n is not a number"))?,
        };
        Ok(Page {
            n: n.min(PAGE),
            last: self.get("last"),
        })
    }
}

/// A part of a sorted list: at most `n` entries after `last`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Page<'a> {
    pub(super) n: usize,
    pub(super) last: Option<&'a str>,
}

impl Page<'_> {
    /// Cuts the part out of the sorted list; `true` when there is more to be had.
    pub(super) fn cut(&self, mut list: Vec<String>) -> (Vec<String>, bool) {
        if let Some(last) = self.last {
            let begin = list.partition_point(|entry| entry.as_str() <= last);
            list.drain(..begin);
        }
        let more = list.len() > self.n && self.n > 0;
        list.truncate(self.n);
        (list, more)
    }

    /// The `Link` to the part after `last`. `more` is the rest of the query.
    pub(super) fn link(&self, path: &str, last: &str, more: &[(&str, &str)]) -> String {
        let mut link = format!("<{path}?n={}&last={}", self.n, encode(last));
        for (key, value) in more {
            link.push_str(&format!("&{key}={}", encode(value)));
        }
        link.push_str(">; rel=\"next\"");
        link
    }
}

/// Encodes a value of a query.
pub(super) fn encode(value: &str) -> String {
    utf8_percent_encode(value, PLAIN).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cut(query: &str) -> (Vec<String>, bool) {
        let list = ["a", "b", "c", "d"].map(str::to_owned).to_vec();
        Query::parse(query).page().unwrap().cut(list)
    }

    #[test]
    fn a_list_is_cut_after_the_last_entry_seen() {
        assert_eq!(cut("n=2"), (vec!["a".into(), "b".into()], true));
        assert_eq!(cut("n=2&last=b"), (vec!["c".into(), "d".into()], false));
        // An entry that has gone meanwhile still says where to go on.
        assert_eq!(cut("last=bb"), (vec!["c".into(), "d".into()], false));
        assert_eq!(cut("n=0"), (vec![], false));
        assert_eq!(cut("last=z"), (vec![], false));
        Query::parse("n=-1").page().expect_err("no number");
        Query::parse("n=x").page().expect_err("no number");
    }

    #[test]
    fn a_link_leads_to_the_rest_and_nowhere_else() {
        let query = Query::parse("n=2");
        let link =
            query
                .page()
                .unwrap()
                .link("/v2/_catalog", "a b>\"\r\n", &[("artifactType", "x/y+z")]);
        assert_eq!(
            link,
            "</v2/_catalog?n=2&last=a%20b%3E%22%0D%0A&artifactType=x/y%2Bz>; rel=\"next\""
        );
    }
}
