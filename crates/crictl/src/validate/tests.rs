//! What holds of the checks as they are written, and of what is told of them.

use std::collections::BTreeSet;
use std::time::Duration;

use super::check::Fault;
use super::report::{Done, Summary};
use super::{GROUPS, Selection, judged, junit, report};
use crate::failure::Failure;
use crate::mutator;

#[test]
fn checks_are_numbered_and_named_once() {
    let all = GROUPS.iter().enumerate();
    let all =
        all.flat_map(|(place, group)| group.checks.iter().map(move |one| (place, group, one)));
    let all: Vec<_> = all.collect();
    let names: BTreeSet<String> = all
        .iter()
        .map(|(_, group, one)| group.full_name(one))
        .collect();
    assert_eq!(names.len(), all.len());
    assert!(all.is_sorted_by(|(.., one), (.., other)| one.number < other.number));
    // Its name is that of its pods too.
    let mut parts = BTreeSet::new();
    for (place, group, check) in all {
        assert_eq!(usize::from(check.number) / 100, place + 1, "{}", check.name);
        let is_plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
        assert!(check.name.chars().all(is_plain), "{}", check.name);
        assert!(group.full_name(check).len() < 34, "{}", check.name);
        assert!(!check.proves.is_empty() && !check.rule.is_empty());
        parts.insert(check.number);
    }
    assert!(parts.len() > 100, "{}", parts.len());
}

fn summary(words: &str) -> Summary {
    let group = &GROUPS[0];
    let verdicts = [
        Ok(()),
        Err(Fault::Skipped(words.to_owned())),
        Err(Fault::Failed {
            expected: words.to_owned(),
            found: words.to_owned(),
        }),
    ];
    let done = verdicts.into_iter().zip(group.checks);
    let done = done.map(|(verdict, check)| Done {
        group: group.name,
        check,
        verdict,
        took: Duration::from_millis(1500),
    });
    Summary {
        run: "floe-validate-1".to_owned(),
        version: cri::VersionResponse {
            runtime_name: words.to_owned(),
            ..Default::default()
        },
        image: words.to_owned(),
        without_image: None,
        broken_off: None,
        left: Vec::new(),
        took: Duration::from_secs(3),
        done: done.collect(),
    }
}

/// Whether every element is closed, every entity known, and every character one of XML's.
fn is_well_formed(text: &str) -> bool {
    let Some(mut rest) = text.strip_prefix("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n") else {
        return false;
    };
    let mut open = Vec::new();
    while let Some((before, tag)) = rest.split_once('<') {
        let Some((tag, after)) = tag.split_once('>') else {
            return false;
        };
        let entities = |text: &str| {
            text.split('&').skip(1).all(|rest| {
                ["amp;", "lt;", "gt;", "quot;", "apos;", "#10;", "#9;"]
                    .iter()
                    .any(|known| rest.starts_with(known))
            })
        };
        if !entities(before) || !entities(tag) || before.contains('>') {
            return false;
        }
        let name = tag
            .split([' ', '/'])
            .find(|part| !part.is_empty())
            .unwrap_or_default();
        match (tag.starts_with('/'), tag.ends_with('/')) {
            (true, _) if open.pop() != Some(name) => return false,
            (true, _) | (_, true) => {}
            (false, false) => open.push(name),
        }
        if !tag.starts_with('/') && tag.matches('"').count() % 2 != 0 {
            return false;
        }
        rest = after;
    }
    open.is_empty()
        && text
            .chars()
            .all(|c| c == '\n' || (!c.is_control() && c < '\u{fffe}' || c > '\u{ffff}'))
}

#[test]
fn no_words_of_a_runtime_break_what_is_told() {
    let corpus: &[&[u8]] = &[
        b"code = NotFound desc = no such thing",
        b"]]></failure><testcase name='x'/><!-- \" & &amp; \x1b[2J\x00 \xff\xfe -->",
        "\u{202e}\u{ffff}\u{fffe}\u{85}\n\t\r".as_bytes(),
    ];
    mutator::run(2_000, corpus, |bytes| {
        let words = String::from_utf8_lossy(bytes);
        let summary = summary(&words);
        let xml = junit::text(&summary);
        assert!(is_well_formed(&xml), "{xml}");
        for done in &summary.done {
            let line = report::line_text(done);
            assert!(
                line.chars().all(|c| c == '\n' || !c.is_control()),
                "{line:?}"
            );
        }
    });
    let xml = junit::text(&summary("a<b"));
    assert!(
        xml.contains("tests=\"3\" failures=\"1\" skipped=\"1\""),
        "{xml}"
    );
    assert!(xml.contains(">found a&lt;b</failure>"), "{xml}");
    assert_eq!(report::value(&summary("x"))["checks"][2]["found"], "x");
}

#[test]
fn the_end_is_a_code() {
    let code = |change: fn(&mut Summary)| {
        let mut summary = summary("x");
        change(&mut summary);
        match judged(&summary) {
            Ok(()) => 0,
            Err(Failure::Coded(code, _)) => code,
            Err(other) => panic!("{other:?}"),
        }
    };
    let pass = |summary: &mut Summary| summary.done.truncate(2);
    assert_eq!(code(|_| {}), 1);
    assert_eq!(code(pass), 0);
    assert_eq!(code(|summary| summary.broken_off = Some(String::new())), 2);
    assert_eq!(
        code(|summary| {
            summary.done.truncate(2);
            summary.without_image = Some(String::new());
        }),
        2
    );
    assert_eq!(
        code(|summary| {
            summary.done.truncate(2);
            summary.left = vec!["pod".to_owned()];
        }),
        1
    );
}

#[test]
fn checks_are_chosen_by_patterns() {
    let chosen = |wanted, unwanted| {
        let selection = Selection::new(GROUPS, wanted, unwanted);
        selection
            .map(|one| one.checks.len())
            .map_err(|error| format!("{error:?}"))
    };
    assert_eq!(
        chosen(Some("^runtime/"), Some("version")),
        Ok(GROUPS[0].checks.len() - 1)
    );
    assert!(
        chosen(Some("nothing"), None)
            .unwrap_err()
            .contains("--list")
    );
    assert!(chosen(Some("("), None).unwrap_err().contains("--run"));
}
