//! A reader of the XML that floe writes, which takes nothing that is not well-formed.

/// The elements of an XML text in their order, each with its attributes. Panics
/// at what is not well-formed.
pub(crate) fn elements(text: &str) -> Vec<(String, Vec<(String, String)>)> {
    let (mut all, mut open) = (Vec::new(), Vec::new());
    let text = text.trim_start_matches("<?xml version=\"1.0\" encoding=\"UTF-8\"?>");
    assert!(
        text.chars().all(|c| c == '\n' || !c.is_control()),
        "{text:?}"
    );
    for piece in text.split('<').skip(1) {
        let (tag, between) = piece.split_once('>').expect("a tag's end");
        assert!(!between.contains('>'), "{piece}");
        if let Some(name) = tag.strip_prefix('/') {
            assert_eq!(open.pop().as_deref(), Some(name));
            continue;
        }
        let (name, rest) = tag.split_once(' ').unwrap_or((tag, ""));
        let values: Vec<&str> = rest.trim_end_matches('/').split('"').collect();
        let pairs = values.chunks(2).filter(|pair| pair.len() == 2);
        let attributes = pairs.map(|pair| {
            (
                pair[0].trim().trim_end_matches('=').to_owned(),
                pair[1].to_owned(),
            )
        });
        all.push((name.trim_end_matches('/').to_owned(), attributes.collect()));
        if !tag.ends_with('/') {
            open.push(name.to_owned());
        }
    }
    assert_eq!(open, [""; 0]);
    all
}
