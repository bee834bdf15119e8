//! Sizes as people write them: `64m`, `1.5GiB`; and quantities as Kubernetes does: `64Mi`.

/// `1048576`, `64m`, `1.5GiB`: bytes, units by 1024, as docker and podman read them. `None` for what is
/// no size or too large.
#[must_use]
pub fn parse(text: &str) -> Option<i64> {
    let lower = text.trim().to_ascii_lowercase();
    let digits = lower.find(|c: char| !c.is_ascii_digit() && c != '.');
    let (number, unit) = lower.split_at(digits.unwrap_or(lower.len()));
    let unit = unit.trim_start();
    let unit = unit
        .strip_suffix("ib")
        .or(unit.strip_suffix('b'))
        .unwrap_or(unit);
    let power = match unit {
        "" => 0,
        "k" => 1,
        "m" => 2,
        "g" => 3,
        "t" => 4,
        "p" => 5,
        _ => return None,
    };
    if let Ok(whole) = number.parse::<i64>() {
        return whole.checked_mul(1 << (10 * power));
    }
    let bytes = number.parse::<f64>().ok()? * 1024f64.powi(power);
    (bytes < i64::MAX as f64).then_some(bytes as i64)
}

/// A quantity of Kubernetes (`64Mi`, `1G`, `65536`) that is a whole number, written as one; `None` for anything else.
#[must_use]
pub fn quantity(text: &str) -> Option<u64> {
    let digits = text.find(|c: char| !c.is_ascii_digit());
    let (number, unit) = text.split_at(digits.unwrap_or(text.len()));
    let factor: u64 = match unit {
        "" => 1,
        "k" => 1000,
        "M" => 1_000_000,
        "G" => 1_000_000_000,
        "T" => 1_000_000_000_000,
        "Ki" => 1 << 10,
        "Mi" => 1 << 20,
        "Gi" => 1 << 30,
        "Ti" => 1 << 40,
        _ => return None,
    };
    number.parse::<u64>().ok()?.checked_mul(factor)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn units_are_powers_of_1024() {
        for (text, bytes) in [
            ("0", 0),
            ("1048576", 1 << 20),
            ("64m", 64 << 20),
            ("1.5GiB", 3 << 29),
            ("2 kb", 2048),
            (" 1T ", 1 << 40),
            ("9223372036854775807", i64::MAX),
        ] {
            assert_eq!(parse(text), Some(bytes), "{text}");
        }
        for text in [
            "",
            "m",
            "-1",
            "1x",
            "1..5",
            "99999999999g",
            "9999999p",
            "1e3",
        ] {
            assert_eq!(parse(text), None, "{text}");
        }
    }

    #[test]
    fn quantities_are_read_as_kubernetes_does() {
        assert_eq!(quantity("10M"), Some(10_000_000));
        assert_eq!(quantity("2Ki"), Some(2048));
        assert_eq!(quantity("7"), Some(7));
        for bad in ["", "M", "1.5M", "10m", "99999999999999T"] {
            assert_eq!(quantity(bad), None, "{bad}");
        }
        for (text, value) in [
            ("64Mi", Some(64 << 20)),
            ("1G", Some(1_000_000_000)),
            ("65536", Some(65536)),
            ("", None),
            ("-1", None),
            ("1.5Gi", None),
            ("99999999999Ti", None),
            ("1x", None),
        ] {
            assert_eq!(quantity(text), value, "{text}");
        }
    }
}
