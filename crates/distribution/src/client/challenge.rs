//! `WWW-Authenticate` (RFC 9110, section 11): how a registry wants us to log in.
//!
//! Input is hostile; must never panic or loop, and ignores what it does not understand.

use reqwest::header::{HeaderMap, WWW_AUTHENTICATE};

/// A way to log in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Challenge {
    /// User name and password with each request.
    Basic,
    /// An access token of this token service.
    Bearer {
        realm: String,
        service: Option<String>,
    },
}

impl Challenge {
    /// The best of all challenges of an answer: Bearer, or else Basic.
    pub(super) fn find(headers: &HeaderMap) -> Option<Challenge> {
        let all = headers.get_all(WWW_AUTHENTICATE).iter();
        let mut found = None;
        for challenge in all.filter_map(|value| value.to_str().ok()).flat_map(parse) {
            match challenge {
                Challenge::Bearer { .. } => return Some(challenge),
                Challenge::Basic => found = Some(Challenge::Basic),
            }
        }
        found
    }
}

/// One part of the header: a scheme begins a challenge, parameters follow it.
enum Part {
    Scheme(String),
    Parameter(String, String),
}

fn parse(header: &str) -> Vec<Challenge> {
    let mut challenges: Vec<(String, Vec<(String, String)>)> = Vec::new();
    for part in parts(header) {
        match (part, challenges.last_mut()) {
            (Part::Scheme(scheme), _) => challenges.push((scheme, Vec::new())),
            (Part::Parameter(key, value), Some((_, parameters))) => parameters.push((key, value)),
            (Part::Parameter(..), None) => {}
        }
    }
    challenges
        .into_iter()
        .filter_map(|(scheme, parameters)| known(&scheme, parameters))
        .collect()
}

fn known(scheme: &str, parameters: Vec<(String, String)>) -> Option<Challenge> {
    let find = |wanted: &str| {
        let mut all = parameters.iter();
        all.find(|(key, _)| key.eq_ignore_ascii_case(wanted))
            .map(|(_, value)| value.clone())
    };
    if scheme.eq_ignore_ascii_case("basic") {
        return Some(Challenge::Basic);
    }
    if !scheme.eq_ignore_ascii_case("bearer") {
        return None;
    }
    Some(Challenge::Bearer {
        realm: find("realm")?,
        service: find("service"),
    })
}

fn parts(header: &str) -> Vec<Part> {
    let mut parts = Vec::new();
    let mut rest = header;
    loop {
        rest = rest.trim_start_matches([' ', '\t', ',']);
        let end = rest.find([' ', '\t', ',', '=']).unwrap_or(rest.len());
        let (word, after) = rest.split_at(end);
        if word.is_empty() {
            // A stray `=`, or the end.
            match after.strip_prefix('=') {
                Some(after) => rest = after,
                None => return parts,
            }
            continue;
        }
        match after.trim_start_matches([' ', '\t']).strip_prefix('=') {
            Some(value) => {
                let (value, after) = take_value(value.trim_start_matches([' ', '\t']));
                parts.push(Part::Parameter(word.to_owned(), value));
                rest = after;
            }
            None => {
                parts.push(Part::Scheme(word.to_owned()));
                rest = after;
            }
        }
    }
}

/// A token, or a quoted string with its escapes undone.
fn take_value(text: &str) -> (String, &str) {
    let Some(quoted) = text.strip_prefix('"') else {
        let end = text.find([' ', '\t', ',']).unwrap_or(text.len());
        return (text[..end].to_owned(), &text[end..]);
    };
    let mut value = String::new();
    let mut chars = quoted.char_indices();
    while let Some((at, c)) = chars.next() {
        match c {
            '"' => return (value, &quoted[at + 1..]),
            '\\' => value.extend(chars.next().map(|(_, escaped)| escaped)),
            other => value.push(other),
        }
    }
    (value, "")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bearer(realm: &str, service: Option<&str>) -> Challenge {
        Challenge::Bearer {
            realm: realm.to_owned(),
            service: service.map(str::to_owned),
        }
    }

    fn find(values: &[&str]) -> Option<Challenge> {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(WWW_AUTHENTICATE, value.parse().unwrap());
        }
        Challenge::find(&headers)
    }

    #[test]
    fn challenges_are_read_as_registries_write_them() {
        let hub = r#"Bearer realm="https://auth.docker.io/token",service="registry.docker.io",scope="repository:a/b:pull,push""#;
        assert_eq!(
            find(&[hub]),
            Some(bearer(
                "https://auth.docker.io/token",
                Some("registry.docker.io")
            ))
        );
        assert_eq!(
            find(&[r#"bearer  service = x , Realm="r\"q""#]),
            Some(bearer("r\"q", Some("x")))
        );
        assert_eq!(find(&["Basic realm=\"a, b\""]), Some(Challenge::Basic));
        assert_eq!(find(&["basic"]), Some(Challenge::Basic));
        assert_eq!(
            find(&["Negotiate abc==, Basic realm=x, Bearer realm=y"]),
            Some(bearer("y", None))
        );
        assert_eq!(
            find(&["Basic realm=x", "Bearer realm=y"]),
            Some(bearer("y", None))
        );
    }

    #[test]
    fn nonsense_is_no_challenge() {
        for text in [
            "",
            ",",
            "=",
            "==,=",
            "Bearer",
            "Bearer service=x",
            "Digest realm=x",
            "\"",
            "realm=x",
            "Bearer realm",
        ] {
            assert_eq!(find(&[text]), None, "{text}");
        }
        assert_eq!(
            find(&["Bearer realm=\"unterminated"]),
            Some(bearer("unterminated", None))
        );
        assert_eq!(find(&[r#"Bearer realm="\"#]), Some(bearer("", None)));
    }
}
