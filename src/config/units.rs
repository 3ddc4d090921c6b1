//! Durations and sizes as people write them: `1h 30m`, `2GiB`.

use std::time::Duration;

/// The units of a duration, largest first, in milliseconds.
const TIMES: [(&str, u64); 5] =
    [("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1_000), ("ms", 1)];

/// The units of a size, largest first, in bytes.
const SIZES: [(&str, u64); 9] = [
    ("TiB", 1 << 40),
    ("TB", 1_000_000_000_000),
    ("GiB", 1 << 30),
    ("GB", 1_000_000_000),
    ("MiB", 1 << 20),
    ("MB", 1_000_000),
    ("KiB", 1 << 10),
    ("KB", 1_000),
    ("B", 1),
];

/// What a duration looks like, for the schema; [`parse_duration`] takes exactly this.
pub(super) const DURATION_PATTERN: &str = "^[0-9]+ ?(ms|[smhd])( ?[0-9]+ ?(ms|[smhd]))*$";

/// What a size looks like, for the schema; [`parse_size`] takes exactly this.
pub(super) const SIZE_PATTERN: &str = "^[0-9]+ ?([KMGT]i?)?B$";

/// Reads a duration: numbers with units, one after the other, added up.
///
/// # Errors
/// What is wrong, as the end of a sentence.
pub(crate) fn parse_duration(text: &str) -> Result<Duration, String> {
    let mut rest = text;
    let mut total = 0_u64;
    loop {
        let number;
        (number, rest) = split_number(rest);
        rest = rest.strip_prefix(' ').unwrap_or(rest);
        let unit;
        (unit, rest) = rest.split_at(rest.find(|c: char| !c.is_alphabetic()).unwrap_or(rest.len()));
        let value = amount(text, number, unit, &TIMES)?;
        total = total.checked_add(value).ok_or_else(|| format!("`{text}` is too long"))?;
        if rest.is_empty() {
            return Ok(Duration::from_millis(total));
        }
        rest = rest.strip_prefix(' ').unwrap_or(rest);
    }
}

/// Reads a size in bytes: one number with a unit.
///
/// # Errors
/// What is wrong, as the end of a sentence.
pub(super) fn parse_size(text: &str) -> Result<u64, String> {
    let (number, rest) = split_number(text);
    amount(text, number, rest.strip_prefix(' ').unwrap_or(rest), &SIZES)
}

fn split_number(text: &str) -> (&str, &str) {
    text.split_at(text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len()))
}

fn amount(text: &str, number: &str, unit: &str, units: &[(&str, u64)]) -> Result<u64, String> {
    if number.is_empty() {
        return Err(format!("`{text}` is not a whole number with a unit"));
    }
    let Some((_, factor)) = units.iter().find(|(name, _)| *name == unit) else {
        return Err(match unit {
            "" => format!("`{text}` has no unit"),
            unit => format!("`{text}` has no known unit (`{unit}`)"),
        });
    };
    let value = number.parse::<u64>().ok().and_then(|number| number.checked_mul(*factor));
    value.ok_or_else(|| format!("`{text}` is too large"))
}

/// What a percentage looks like, for the schema; [`parse_percent`] takes exactly this.
pub(super) const PERCENT_PATTERN: &str = "^[0-9]+ ?%$";

/// Reads a percentage: a whole number with its sign.
///
/// # Errors
/// What is wrong, as the end of a sentence.
pub(super) fn parse_percent(text: &str) -> Result<u64, String> {
    let (number, rest) = split_number(text);
    amount(text, number, rest.strip_prefix(' ').unwrap_or(rest), &[("%", 1)])
}

/// Writes a duration so that [`parse_duration`] reads it back (whole milliseconds).
#[must_use]
pub(crate) fn format_duration(duration: Duration) -> String {
    // What is parsed fits: the parser counts in u64 milliseconds.
    let mut rest = u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
    let mut parts = Vec::new();
    for (unit, factor) in TIMES {
        if rest >= factor {
            parts.push(format!("{}{unit}", rest / factor));
            rest %= factor;
        }
    }
    if parts.is_empty() { "0s".to_owned() } else { parts.join(" ") }
}

/// Writes a size exactly, in the largest unit that divides it.
pub(super) fn format_size(bytes: u64) -> String {
    // The unit with the smallest number in front of it, since 1 GB and 2 GiB both divide.
    let exact = SIZES.iter().filter(|(_, factor)| bytes.is_multiple_of(*factor));
    let (unit, factor) = exact.max_by_key(|(_, factor)| *factor).unwrap_or(&("B", 1));
    if bytes == 0 { "0B".to_owned() } else { format!("{}{unit}", bytes / factor) }
}

#[cfg(test)]
mod tests {
    use super::super::tests::cases;
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn durations_read_as_written() {
        for (text, millis) in [
            ("1h", 3_600_000),
            ("90s", 90_000),
            ("500ms", 500),
            ("1h 30m", 5_400_000),
            ("1h30m", 5_400_000),
            ("2 d", 172_800_000),
            ("0s", 0),
        ] {
            assert_eq!(parse_duration(text), Ok(Duration::from_millis(millis)), "{text}");
        }
        for bad in ["", " ", "h", "10", "1x", "1.5h", "-1s", "1h ", " 1h", "1H", "1h  1m", "١s"] {
            assert!(parse_duration(bad).is_err(), "{bad:?}");
        }
        let error = parse_duration("99999999999999999999d").unwrap_err();
        assert!(error.contains("too large"), "{error}");
        assert!(parse_duration("213503982334d 213503982334d").unwrap_err().contains("too long"));
    }

    #[test]
    fn sizes_read_as_written() {
        for (text, bytes) in [("2GiB", 2 << 30), ("1 MB", 1_000_000), ("7B", 7), ("0B", 0)] {
            assert_eq!(parse_size(text), Ok(bytes), "{text}");
        }
        for bad in ["", "2", "2G", "2gib", "1.5GiB", "GiB", "2GiB ", "99999999TiB"] {
            assert!(parse_size(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn percentages_read_as_written() {
        assert_eq!((parse_percent("40%"), parse_percent("0 %")), (Ok(40), Ok(0)));
        for bad in ["", "40", "%", "4.5%", "-1%", "40%%", "40 percent"] {
            assert!(parse_percent(bad).is_err(), "{bad:?}");
        }
    }

    proptest! {
        #![proptest_config(cases(256))]

        #[test]
        fn what_is_written_reads_back(millis in 0..1_u64 << 50, bytes: u64) {
            let duration = Duration::from_millis(millis);
            prop_assert_eq!(parse_duration(&format_duration(duration)), Ok(duration));
            prop_assert_eq!(parse_size(&format_size(bytes)), Ok(bytes));
        }

        #[test]
        fn the_schema_and_the_reader_take_the_same(text in "([0-9]{0,3} ?(ms|[smhdxiKGB]{0,3}|%) ?){0,3}") {
            let matches = |pattern: &str| {
                let schema = serde_json::json!({ "type": "string", "pattern": pattern });
                jsonschema::is_valid(&schema, &serde_json::json!(text))
            };
            prop_assert_eq!(parse_duration(&text).is_ok(), matches(DURATION_PATTERN));
            prop_assert_eq!(parse_size(&text).is_ok(), matches(SIZE_PATTERN));
            prop_assert_eq!(parse_percent(&text).is_ok(), matches(PERCENT_PATTERN));
        }
    }
}
