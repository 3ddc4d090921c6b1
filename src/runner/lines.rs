//! The lines of libtest's stable output, one at a time and without any state.
//!
//! Shapes are those of rustc 1.95; what older and newer ones add (a time behind the outcome, a
//! reason behind `ignored`) is let through, everything else is no such line.

use std::borrow::Cow;

use crate::model::{Outcome, TestCounts};

/// What is between a test's name and its outcome.
const DOTS: &str = " ... ";

/// What libtest appends to the name of a test that is run in another way than most.
const MODES: [&str; 3] = [" - should panic", " - compile fail", " - compile"];

/// A `test result:` line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Summary {
    /// It says `ok`, not `FAILED`.
    pub(super) ok: bool,
    /// Its figures; what was measured counts as passed.
    pub(super) counts: TestCounts,
}

impl Summary {
    /// How many tests it speaks of: those that `running N tests` announced.
    pub(super) fn total(&self) -> u64 {
        let TestCounts { passed, failed, ignored, filtered: _ } = self.counts;
        passed.saturating_add(failed).saturating_add(ignored)
    }
}

/// `line` without colours.
pub(super) fn plain(line: &[u8]) -> Cow<'_, [u8]> {
    const ESCAPE: u8 = 0x1b;
    if !line.contains(&ESCAPE) {
        return Cow::Borrowed(line);
    }
    let mut out = Vec::with_capacity(line.len());
    let mut rest = line;
    while let Some((&first, after)) = rest.split_first() {
        rest = match (first, after) {
            // terminfo's reset on many terminals: `ESC ( B`.
            (ESCAPE, [b'(', _, after @ ..]) => after,
            (ESCAPE, [b'[', after @ ..]) => {
                let end = after.iter().position(u8::is_ascii_alphabetic);
                end.map_or(&[], |end| &after[end + 1..])
            }
            _ => {
                out.push(first);
                after
            }
        };
    }
    Cow::Owned(out)
}

/// `running N tests`.
pub(super) fn header(line: &str) -> Option<u64> {
    let rest = line.strip_prefix("running ")?;
    rest.strip_suffix(" tests").or_else(|| rest.strip_suffix(" test"))?.parse().ok()
}

/// `test result: …`, also behind something that a test printed without an end of line.
pub(super) fn summary(line: &str) -> Option<Summary> {
    // Both ends that the line can have, looked at first: they cost nothing on other lines.
    if !line.ends_with('s') && !line.ends_with("filtered out") {
        return None;
    }
    const MARK: &str = "test result: ";
    let rest = &line[line.rfind(MARK)? + MARK.len()..];
    let (word, figures) = rest.split_once(". ")?;
    let ok = match word {
        "ok" => true,
        "FAILED" => false,
        _ => return None,
    };
    let mut figures = figures.split("; ");
    let mut figure = |what: &str| -> Option<u64> {
        figures.next()?.strip_suffix(what)?.strip_suffix(' ')?.parse().ok()
    };
    let (passed, failed) = (figure("passed")?, figure("failed")?);
    let (ignored, measured) = (figure("ignored")?, figure("measured")?);
    let filtered = figure("filtered out")?;
    let time = figures.next().is_none_or(|time| time.starts_with("finished in "));
    let counts = TestCounts { passed: passed.checked_add(measured)?, failed, ignored, filtered };
    (time && figures.next().is_none() && ok == (failed == 0)).then_some(Summary { ok, counts })
}

/// What stands behind the dots.
pub(super) fn outcome(text: &str) -> Option<Outcome> {
    let text = match text.rsplit_once(" <") {
        Some((before, time)) if time.ends_with("s>") => before,
        _ => text,
    };
    match text {
        "ok" => Some(Outcome::Ok),
        "FAILED" => Some(Outcome::Failed),
        "ignored" => Some(Outcome::Ignored),
        _ if text.starts_with("FAILED (") => Some(Outcome::Failed),
        _ if text.starts_with("ignored, ") => Some(Outcome::Ignored),
        _ if text.starts_with("bench: ") && text.contains(" ns/iter (+/- ") => Some(Outcome::Ok),
        _ => None,
    }
}

/// The possible ways to read `test NAME ... REST`, shortest name first: both a name and the
/// reason behind `ignored` can hold the dots.
pub(super) fn claims(line: &str) -> impl Iterator<Item = (&str, &str)> {
    let rest = line.strip_prefix("test ").unwrap_or("");
    rest.match_indices(DOTS).map(|(at, dots)| (&rest[..at], &rest[at + dots.len()..]))
}

/// The places where such a claim could begin behind something that a test printed without an
/// end of line; none if the line does not end as a claim does.
pub(super) fn later_claims(line: &str) -> impl Iterator<Item = &str> {
    let ends = ["ok", "FAILED", "ignored"].iter().any(|end| line.ends_with(end));
    let line = if ends { line } else { "" };
    line.match_indices("test ").filter(|(at, _)| *at > 0).map(|(at, _)| &line[at..])
}

/// The name in a failed test's line of the terse format, `NAME --- FAILED`.
pub(super) fn terse_failure(line: &str) -> Option<&str> {
    line.strip_suffix(" --- FAILED")
}

/// A name without the mode that libtest appends, and without its padding.
pub(super) fn base_name(name: &str) -> &str {
    let name = name.trim_end();
    MODES.iter().find_map(|mode| name.strip_suffix(mode)).unwrap_or(name)
}

/// A name without the padding and the kind that libtest-mimic puts before it, and leaves out in
/// the list of failures.
pub(super) fn without_kind(name: &str) -> &str {
    let name = name.trim_start();
    let behind = name.strip_prefix('[').and_then(|rest| rest.split_once("] "));
    behind.map_or(name, |(_, name)| name.trim_start())
}

/// Whether rustdoc can have given this name: `FILE - ITEM (line N)`.
pub(super) fn is_doctest_name(name: &str) -> bool {
    let line = name.strip_suffix(')').and_then(|name| name.rsplit_once("(line "));
    line.is_some_and(|(before, number)| {
        !number.is_empty()
            && number.bytes().all(|digit| digit.is_ascii_digit())
            && before.ends_with(' ')
            && before.split_once(" - ").is_some_and(|(file, _)| !file.is_empty())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn summaries() {
        let text = "test result: FAILED. 3 passed; 2 failed; 1 ignored; 4 measured; 5 filtered out; finished in 0.10s";
        let counts = TestCounts { passed: 7, failed: 2, ignored: 1, filtered: 5 };
        let expected = Some(Summary { ok: false, counts });
        assert_eq!(summary(text), expected);
        assert_eq!(summary(&format!("noise{text}")), expected);
        assert_eq!(summary(text.split("; finished").next().unwrap()), expected);
        let colored = plain(b"test result: \x1b[31mFAILED\x1b(B\x1b[m. 3 passed").into_owned();
        assert_eq!(colored, b"test result: FAILED. 3 passed");
        for bad in [
            &text.replace("FAILED", "ok"),
            &text.replace("FAILED", "fine"),
            &text.replace("3 passed", "-3 passed"),
            &text.replace("3 passed", "99999999999999999999 passed"),
            &text.replace("; 1 ignored", ""),
            &format!("{text}; as"),
            "test result: ok. s",
        ] {
            assert_eq!(summary(bad), None, "{bad}");
        }
    }

    #[test]
    fn outcomes() {
        for (text, expected) in [
            ("ok", Some(Outcome::Ok)),
            ("ok <0.001s>", Some(Outcome::Ok)),
            ("FAILED", Some(Outcome::Failed)),
            ("FAILED (time limit exceeded)", Some(Outcome::Failed)),
            ("ignored", Some(Outcome::Ignored)),
            ("ignored, because ... ok", Some(Outcome::Ignored)),
            ("bench:           6.46 ns/iter (+/- 0.94)", Some(Outcome::Ok)),
            ("okay", None),
            ("hello ok", None),
            ("", None),
        ] {
            assert_eq!(outcome(text), expected, "{text}");
        }
    }

    #[test]
    fn headers_and_names() {
        assert_eq!((header("running 1 test"), header("running 0 tests")), (Some(1), Some(0)));
        assert_eq!((header("running late tests"), header("running 2 test runs")), (None, None));
        for name in ["src/lib.rs - f (line 3)", "src/lib.rs - (line 1)", "a b.md - x::y (line 12)"]
        {
            assert!(is_doctest_name(name), "{name}");
        }
        for name in ["f", "src/lib.rs - f", "src/lib.rs - f (line x)", "f (line 3)", " - (line 3)"]
        {
            assert!(!is_doctest_name(name), "{name}");
        }
        assert_eq!(base_name("a::b - should panic"), "a::b");
        assert_eq!(base_name("src/lib.rs - f (line 3) - compile fail"), "src/lib.rs - f (line 3)");
        assert_eq!(base_name("bench      "), "bench");
        for (name, expected) in [("a b", "a b"), ("     a", "a"), ("[kind] a", "a"), ("[a", "[a")] {
            assert_eq!(without_kind(name), expected, "{name}");
        }
    }
}
