//! Texts inside unit files and property lists, so that what is read back is what was meant.
//!
//! systemd reads a value in three passes: words are split and unquoted, `%` specifiers are
//! expanded, and in command lines `$` variables are substituted. The unit's `ExecStart=` begins with
//! a colon, which turns the third pass off; the first two are undone here.

use std::ffi::OsStr;

/// Why a text cannot stand in a unit file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Unwritable {
    /// systemd and launchd read UTF-8.
    #[error("it is not UTF-8")]
    NotUtf8,
    /// A newline would end the line, and the other control characters are refused by systemd.
    #[error("it holds a control character, such as a newline")]
    Control,
}

/// The text, if it can be written at all.
///
/// # Errors
/// If it is not UTF-8 or holds a control character.
pub(super) fn writable(text: &OsStr) -> Result<&str, Unwritable> {
    let text = text.to_str().ok_or(Unwritable::NotUtf8)?;
    if text.chars().any(char::is_control) { Err(Unwritable::Control) } else { Ok(text) }
}

/// One word of a systemd value (`ExecStart=:` or `Environment=`): always quoted, specifiers and
/// escapes neutral.
///
/// # Errors
/// See [`writable`].
pub(super) fn systemd_word(text: &OsStr) -> Result<String, Unwritable> {
    let text = writable(text)?;
    let mut word = String::with_capacity(text.len() + 2);
    word.push('"');
    for c in text.chars() {
        match c {
            '"' | '\\' => word.extend(['\\', c]),
            '%' => word.push_str("%%"),
            _ => word.push(c),
        }
    }
    word.push('"');
    Ok(word)
}

/// The words of a systemd value as systemd itself reads them, with `%%` and `%h` (the user's `home`)
/// as the only specifiers. `None` for what only systemd can tell (the others) or what it refuses
/// (open quotes).
#[must_use]
pub(super) fn systemd_words(value: &str, home: &str) -> Option<Vec<String>> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut quote = None;
    let mut chars = value.chars();
    while let Some(c) = chars.next() {
        match (c, quote) {
            (c, Some(open)) if c == open => quote = None,
            ('"' | '\'', None) => {
                quote = Some(c);
                word.get_or_insert_default();
            }
            ('\\', _) => word.get_or_insert_default().push(unescape(&mut chars)?),
            ('%', _) => match chars.next() {
                Some('%') => word.get_or_insert_default().push('%'),
                Some('h') => word.get_or_insert_default().push_str(home),
                _ => return None,
            },
            (c, None) if c.is_ascii_whitespace() => words.extend(word.take()),
            (c, _) => word.get_or_insert_default().push(c),
        }
    }
    words.extend(word);
    quote.is_none().then_some(words)
}

/// What stands after a backslash, of the escapes that a person writes.
fn unescape(chars: &mut std::str::Chars<'_>) -> Option<char> {
    Some(match chars.next()? {
        'n' => '\n',
        't' => '\t',
        's' => ' ',
        c @ ('"' | '\'' | '\\') => c,
        'x' => {
            let code = u8::from_str_radix(chars.as_str().get(..2)?, 16).ok()?;
            chars.nth(1);
            code.is_ascii().then_some(char::from(code))?
        }
        _ => return None,
    })
}

/// Text inside an XML element.
///
/// # Errors
/// See [`writable`].
pub(super) fn xml(text: &OsStr) -> Result<String, Unwritable> {
    let mut escaped = String::with_capacity(text.len());
    for c in writable(text)?.chars() {
        match c {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            // Not characters of XML at all.
            '\u{fffe}' | '\u{ffff}' => return Err(Unwritable::Control),
            _ => escaped.push(c),
        }
    }
    Ok(escaped)
}

/// Fills `@NAME@` places of a template in one pass: a value that looks like a place stays as it is.
#[must_use]
pub(super) fn fill(template: &str, values: &[(&str, &str)]) -> String {
    let mut filled = String::with_capacity(template.len() + 1024);
    let mut rest = template;
    while let Some(at) = rest.find('@') {
        filled.push_str(&rest[..at]);
        rest = &rest[at..];
        let place = values.iter().find_map(|(name, value)| {
            let after = rest[1..].strip_prefix(name)?.strip_prefix('@')?;
            Some((value, after))
        });
        match place {
            Some((value, after)) => {
                filled.push_str(value);
                rest = after;
            }
            None => {
                filled.push('@');
                rest = &rest[1..];
            }
        }
    }
    filled.push_str(rest);
    filled
}

#[cfg(test)]
mod tests {
    use std::os::unix::ffi::OsStrExt as _;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_a_path_may_hold_is_written_so_that_it_is_read_back() {
        for (text, written) in [
            ("/usr/bin/x", r#""/usr/bin/x""#),
            ("/a b/c", r#""/a b/c""#),
            (r#"/a"b'c"#, r#""/a\"b'c""#),
            (r"/a\nb", r#""/a\\nb""#),
            ("/100%h/$HOME", r#""/100%%h/$HOME""#),
            ("", r#""""#),
        ] {
            assert_eq!(systemd_word(OsStr::new(text)).as_deref(), Ok(written));
            assert_eq!(systemd_words(written, "/h"), Some(vec![text.to_owned()]));
        }
    }

    #[test]
    fn what_cannot_be_written_is_refused() {
        assert_eq!(systemd_word(OsStr::new("/a\nb")), Err(Unwritable::Control));
        assert_eq!(xml(OsStr::new("/a\u{7}b")), Err(Unwritable::Control));
        assert_eq!(systemd_word(OsStr::from_bytes(b"/\xff")), Err(Unwritable::NotUtf8));
    }

    #[test]
    fn words_are_read_as_systemd_reads_them() {
        let words = |value| systemd_words(value, "/h").map(|words| words.join("|"));
        assert_eq!(words(r#"a 'b c'  "d\x41\s" e"#).as_deref(), Some("a|b c|dA |e"));
        assert_eq!(words(r#"A="b c""#).as_deref(), Some("A=b c"));
        assert_eq!(words("%h/bin").as_deref(), Some("/h/bin"));
        assert_eq!(words("%t/bin"), None, "only systemd knows");
        assert_eq!(words("\"open"), None);
        assert_eq!(words(r"\q"), None);
        assert_eq!(words(r"\xé9"), None);
    }

    #[test]
    fn places_are_filled_once() {
        let filled = fill("a@b @X@ @Y@ @Z@", &[("X", "@Y@"), ("Y", "y")]);
        assert_eq!(filled, "a@b @Y@ y @Z@");
    }

    proptest! {
        #[test]
        fn every_printable_text_survives(text in "\\PC*", other in "\\PC*") {
            let line = format!(
                "{} {}",
                systemd_word(OsStr::new(&text)).unwrap(),
                systemd_word(OsStr::new(&other)).unwrap(),
            );
            prop_assert!(!line.contains('\n'));
            prop_assert_eq!(systemd_words(&line, "/h"), Some(vec![text, other]));
        }

        #[test]
        fn xml_survives(text in "[\\PC&&[^\u{fffe}\u{ffff}]]*") {
            let document = format!(
                "<plist version=\"1.0\"><string>{}</string></plist>",
                xml(OsStr::new(&text)).unwrap()
            );
            let value: plist::Value = plist::from_bytes(document.as_bytes()).unwrap();
            prop_assert_eq!(value.as_string(), Some(text.as_str()));
        }
    }
}
