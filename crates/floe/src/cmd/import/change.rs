//! `--change`: single instructions of a Containerfile, applied to what containers start with.
//!
//! Must never ignore an instruction: what cannot be applied is an error.

use image::config::ContainerConfig;
use serde_json::json;

use crate::failure::Failure;

/// Applies one instruction, as `CMD ["sh"]` or `CMD=sh`.
pub(crate) fn apply(config: &mut ContainerConfig, instruction: &str) -> Result<(), Failure> {
    let flawed = |why: String| Failure::new(format!("change {instruction:?}: {why}"));
    let (name, value) = instruction
        .trim()
        .split_once([' ', '\t', '='])
        .ok_or_else(|| flawed("write an instruction and its value".into()))?;
    let value = value.trim();
    if value.is_empty() {
        return Err(flawed("it has no value".into()));
    }
    match name.to_ascii_uppercase().as_str() {
        "CMD" => config.cmd = command(value),
        "ENTRYPOINT" => config.entrypoint = command(value),
        "ENV" => {
            for (key, value) in pairs(value).map_err(flawed)? {
                let same = format!("{key}=");
                config.env.retain(|old| !old.starts_with(&same));
                config.env.push(same + &value);
            }
        }
        "LABEL" => config.labels.extend(pairs(value).map_err(flawed)?),
        "EXPOSE" => {
            for port in value.split_whitespace() {
                config
                    .exposed_ports
                    .insert(exposed(port).map_err(flawed)?, json!({}));
            }
        }
        "VOLUME" => {
            let volumes = list(value)
                .map_or_else(|| words(value), Ok)
                .map_err(flawed)?;
            let volumes = volumes.into_iter().map(|path| (path, json!({})));
            config.volumes.extend(volumes);
        }
        "ONBUILD" => config.on_build.push(value.to_owned()),
        "STOPSIGNAL" => config.stop_signal = Some(value.to_owned()),
        "USER" => config.user = value.to_owned(),
        "WORKDIR" => config.working_dir = value.to_owned(),
        other => {
            return Err(flawed(format!(
                "there is no instruction {other} for images"
            )));
        }
    }
    Ok(())
}

/// A JSON list of words as it is; else a line for the shell.
fn command(value: &str) -> Vec<String> {
    list(value).unwrap_or_else(|| ["/bin/sh", "-c", value].map(str::to_owned).into())
}

fn list(value: &str) -> Option<Vec<String>> {
    serde_json::from_str(value).ok()
}

/// `80`, `80/udp`, `80-82/tcp`.
fn exposed(text: &str) -> Result<String, String> {
    let (ports, protocol) = text.split_once('/').unwrap_or((text, "tcp"));
    let mut numbers = ports.splitn(2, '-');
    let valid = numbers.all(|port| port.parse::<u16>().is_ok_and(|port| port > 0));
    match valid && matches!(protocol, "tcp" | "udp" | "sctp") {
        true => Ok(format!("{ports}/{protocol}")),
        false => Err(format!("{text:?} is no port")),
    }
}

/// `KEY=VALUE …`, or `KEY VALUE` to the end of the line.
fn pairs(value: &str) -> Result<Vec<(String, String)>, String> {
    let all = words(value)?;
    let first = all.first().map_or("", String::as_str);
    if !first.contains('=') {
        let (key, value) = value
            .split_once(char::is_whitespace)
            .ok_or_else(|| format!("{value:?} is no KEY=VALUE"))?;
        return Ok(vec![(key.to_owned(), value.trim().to_owned())]);
    }
    all.iter()
        .map(|word| match word.split_once('=') {
            Some((key, value)) if !key.is_empty() => Ok((key.to_owned(), value.to_owned())),
            _ => Err(format!("{word:?} is no KEY=VALUE")),
        })
        .collect()
}

/// Words between blanks, with quotes and backslashes undone.
pub(crate) fn words(text: &str) -> Result<Vec<String>, String> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut quote = None;
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        match (c, quote) {
            ('\\', Some('"') | None) => {
                let escaped = chars.next().ok_or("it ends with a backslash")?;
                word.get_or_insert_default().push(escaped);
            }
            (c, Some(open)) if c == open => quote = None,
            ('"' | '\'', None) => {
                quote = Some(c);
                word.get_or_insert_default();
            }
            (c, None) if c.is_whitespace() => words.extend(word.take()),
            (c, _) => word.get_or_insert_default().push(c),
        }
    }
    if quote.is_some() {
        return Err("a quote is not closed".into());
    }
    words.extend(word);
    Ok(words)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn changed(instructions: &[&str]) -> ContainerConfig {
        let mut config = ContainerConfig::default();
        for instruction in instructions {
            apply(&mut config, instruction).unwrap();
        }
        config
    }

    #[test]
    fn instructions_mean_what_they_mean_in_a_containerfile() {
        let config = changed(&[
            r#"CMD ["sh","-c","x y"]"#,
            "entrypoint foo bar",
            r#"ENV A=1 B="two words""#,
            "ENV A three words",
            "LABEL a.b='c d'",
            "EXPOSE 80 90-91/udp",
            r#"VOLUME ["/data"]"#,
            "VOLUME /one /two",
            "USER=1:2",
            "WORKDIR /w",
            "STOPSIGNAL SIGINT",
            "ONBUILD RUN x",
        ]);
        assert_eq!(config.cmd, ["sh", "-c", "x y"]);
        assert_eq!(config.entrypoint, ["/bin/sh", "-c", "foo bar"]);
        assert_eq!(config.env, ["B=two words", "A=three words"]);
        assert_eq!(config.labels["a.b"], "c d");
        let ports: Vec<_> = config.exposed_ports.keys().collect();
        assert_eq!(ports, ["80/tcp", "90-91/udp"]);
        let volumes: Vec<_> = config.volumes.keys().collect();
        assert_eq!(volumes, ["/data", "/one", "/two"]);
        assert_eq!(
            (config.user.as_str(), config.working_dir.as_str()),
            ("1:2", "/w")
        );
        assert_eq!(config.stop_signal.as_deref(), Some("SIGINT"));
        assert_eq!(config.on_build, ["RUN x"]);
    }

    #[test]
    fn what_is_no_instruction_is_refused_with_its_name() {
        for (bad, why) in [
            ("FROM x", "FROM"),
            ("CMD", "value"),
            ("CMD ", "value"),
            ("EXPOSE web", "\"web\" is no port"),
            ("EXPOSE 80/icmp", "no port"),
            ("ENV A", "KEY=VALUE"),
            ("LABEL a=b c", "KEY=VALUE"),
            ("ENV A=\"b", "quote"),
        ] {
            let mut config = ContainerConfig::default();
            let error = apply(&mut config, bad).unwrap_err().to_string();
            assert!(error.contains(why), "{bad}: {error}");
        }
    }
}
