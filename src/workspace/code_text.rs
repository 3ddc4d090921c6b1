//! What the compiler takes from the text of a Rust source file: everything but its plain comments.
//!
//! Lines and columns of all tokens stay as they are, since nothing on a line stands behind a line comment.
//! Where the compiler of some edition could see other tokens than are seen here, nothing is taken out. Only
//! texts that the compiler accepts matter: an error stays the same error.

/// The text without its plain line comments and the blanks before them. `None` if it is not sure to be
/// understood.
pub(crate) fn without_comments(text: &str) -> Option<String> {
    let bytes = text.as_bytes();
    let start = if text.starts_with('\u{feff}') { '\u{feff}'.len_utf8() } else { 0 };
    let is_script = text[start..].starts_with("#!") && !text[start..].starts_with("#![");
    if is_script || text[start..].trim_start().starts_with("---") {
        return None;
    }
    let mut code = String::with_capacity(text.len());
    let (mut at, mut copied) = (start, 0);
    while let Some(&byte) = bytes.get(at) {
        let rest = &text[at..];
        at += match byte {
            b'/' if rest.starts_with("//") => {
                let line = rest.split('\n').next().unwrap_or(rest);
                // At the end of the file nothing else separates the last tokens.
                let is_last = line.len() == rest.len();
                let line = line.strip_suffix('\r').unwrap_or(line);
                if !is_last && !is_documentation(line) && line.chars().all(is_harmless) {
                    code.push_str(text[copied..at].trim_end_matches([' ', '\t']));
                    copied = at + line.len();
                }
                line.len()
            }
            b'/' if rest.starts_with("/*") => block_comment(rest)?,
            b'"' => with_suffix(rest, quoted(rest, 0)?)?,
            b'\'' => character_or_lifetime(rest)?,
            _ if is_word(rest.chars().next()?) => {
                let length = word(rest);
                match raw_string(&rest[..length], &rest[length..])? {
                    0 => length,
                    raw => with_suffix(rest, length + raw)?,
                }
            }
            _ if byte.is_ascii() => 1,
            // Perhaps a blank, perhaps a part of a name.
            _ => return None,
        };
    }
    code.push_str(&text[copied..]);
    Some(code)
}

fn is_documentation(comment: &str) -> bool {
    comment.starts_with("//!") || (comment.starts_with("///") && !comment.starts_with("////"))
}

/// Whether the compiler ignores the character in a comment. It refuses those that show a text in another
/// order than it has.
fn is_harmless(c: char) -> bool {
    let is_format = matches!(c, '\u{61c}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}'
        | '\u{2060}'..='\u{206f}' | '\u{feff}');
    c == '\t' || !(c.is_control() || is_format)
}

fn is_word(c: char) -> bool {
    c == '_' || c.is_alphanumeric()
}

/// The length of the word or number with which the text begins.
fn word(text: &str) -> usize {
    text.find(|c| !is_word(c)).unwrap_or(text.len())
}

/// The length of a literal with the word that belongs to it: `1u8`, `"x"suffix`.
fn with_suffix(text: &str, literal: usize) -> Option<usize> {
    Some(literal + word(text.get(literal..)?))
}

fn block_comment(text: &str) -> Option<usize> {
    let bytes = text.as_bytes();
    let (mut at, mut depth) = (2, 1);
    while depth > 0 {
        (at, depth) = match bytes.get(at..at + 2)? {
            b"/*" => (at + 2, depth + 1),
            b"*/" => (at + 2, depth - 1),
            _ => (at + 1, depth),
        };
    }
    Some(at)
}

/// The length of a text in quotes, which begin at `open`.
fn quoted(text: &str, open: usize) -> Option<usize> {
    let bytes = text.as_bytes();
    let mut at = open + 1;
    loop {
        match bytes.get(at)? {
            b'"' => return Some(at + 1),
            b'\\' => at += 2,
            _ => at += 1,
        }
    }
}

/// The length of what stands behind the word of a raw string; 0 if there is none. `None` if it is one in
/// some editions only.
fn raw_string(word: &str, rest: &str) -> Option<usize> {
    let hashes = rest.len() - rest.trim_start_matches('#').len();
    if !rest[hashes..].starts_with('"') {
        return Some(0);
    }
    match word {
        "r" | "br" => {
            let end = format!("\"{}", &rest[..hashes]);
            let open = hashes + 1;
            Some(open + rest[open..].find(&end)? + end.len())
        }
        "cr" => None,
        _ => Some(0),
    }
}

/// The length of `'c'` or `'lifetime`.
fn character_or_lifetime(text: &str) -> Option<usize> {
    let mut chars = text.char_indices().skip(1);
    let (_, first) = chars.next()?;
    let (second, after) = chars.next()?;
    if first == '\\' {
        // What is escaped may be a quote.
        let from = second + after.len_utf8();
        let end = text[from..].split('\n').next()?.find('\'')?;
        return with_suffix(text, from + end + 1);
    }
    if after == '\'' {
        return with_suffix(text, second + 1);
    }
    let length = 1 + word(&text[1..]);
    (length > 1 && !text[length..].starts_with('\'')).then_some(length)
}

/// Whether something that is compiled from this text could take the text of a Rust file into a program:
/// `include_str!` of anything but a file that is surely none.
pub(crate) fn may_embed_source(text: &str) -> bool {
    text.match_indices("include_").any(|(at, start)| {
        let is_inside = text[..at].chars().next_back().is_some_and(is_word);
        let name = &text[at..at + word(&text[at..])];
        match name {
            _ if is_inside => false,
            "include_str" | "include_bytes" => {
                let rest = &text[at + name.len()..];
                // Behind a backquote stands prose: no code has one.
                let is_prose = rest.strip_prefix('!').unwrap_or(rest).starts_with('`');
                !is_prose && !names_other_file(rest)
            }
            // Something may put the rest of the name behind it.
            _ => name == start,
        }
    })
}

/// Whether a call of a macro with these arguments names a file by a text that ends as no Rust file does.
fn names_other_file(rest: &str) -> bool {
    let Some(rest) = rest.trim_start().strip_prefix('!').map(str::trim_start) else { return false };
    let (mut at, mut depth) = (0, 0_usize);
    let mut last = None;
    while let Some(c) = rest[at..].chars().next() {
        at += match c {
            '(' | '[' | '{' => {
                depth += 1;
                1
            }
            ')' | ']' | '}' => {
                depth = depth.saturating_sub(1);
                1
            }
            ',' | '!' => 1,
            _ if c.is_whitespace() => c.len_utf8(),
            '"' => {
                let Some(length) = quoted(rest, at).map(|end| end - at) else { return false };
                let of_variable =
                    rest[..at].trim_end_matches(['(', '[', '{', ' ']).ends_with("env!");
                last = (!of_variable).then_some(&rest[at + 1..at + length - 1]);
                length
            }
            _ if is_word(c) => {
                let length = word(&rest[at..]);
                if !["concat", "env"].contains(&&rest[at..at + length]) {
                    return false;
                }
                last = None;
                length
            }
            _ => return false,
        };
        if depth == 0 {
            break;
        }
    }
    last.filter(|_| depth == 0).is_some_and(|name: &str| {
        let end = name.len().checked_sub(3).and_then(|at| name.get(at..));
        !name.contains('\\') && end.is_some_and(|end| !end.eq_ignore_ascii_case(".rs"))
    })
}

#[cfg(test)]
mod tests {
    use proc_macro2::{TokenStream, TokenTree};
    use proptest::prelude::*;

    use super::*;

    /// The tokens with the places where they begin and end.
    fn tokens(text: &str) -> Option<Vec<String>> {
        fn add(tokens: TokenStream, all: &mut Vec<String>) {
            for token in tokens {
                let span = token.span();
                let place = format!("{:?} {:?}", span.start(), span.end());
                match token {
                    TokenTree::Group(group) => {
                        all.push(format!("{:?} {place}", group.delimiter()));
                        add(group.stream(), all);
                    }
                    TokenTree::Punct(punct) => {
                        all.push(format!("{} {:?} {place}", punct.as_char(), punct.spacing()));
                    }
                    other => all.push(format!("{other} {place}")),
                }
            }
        }
        let mut all = Vec::new();
        let tokens = text.parse::<TokenStream>().ok().map(|tokens| add(tokens, &mut all));
        proc_macro2::extra::invalidate_current_thread_spans();
        tokens.map(|()| all)
    }

    #[test]
    fn plain_comments_are_taken_out_and_nothing_else() {
        for (text, code) in [
            ("a // one\nb", "a\nb"),
            ("// one\nb", "\nb"),
            ("a\t //// four\r\nb", "a\r\nb"),
            ("//\n", "\n"),
            ("let a = \"x // y\"; // z\n", "let a = \"x // y\";\n"),
            ("\"a \\\" // b\" // c\n", "\"a \\\" // b\"\n"),
            ("r\"\\\" // b\n", "r\"\\\"\n"),
            ("r#\"\" // b\"# // c\n", "r#\"\" // b\"#\n"),
            ("br##\"\"# // b\"## // c\n", "br##\"\"# // b\"##\n"),
            ("r#fn // b\n", "r#fn\n"),
            ("'\"' // b\n", "'\"'\n"),
            ("b'\\'' // \" b\n", "b'\\''\n"),
            ("'\\\\' // b\n", "'\\\\'\n"),
            ("'a: loop {} // '\n", "'a: loop {}\n"),
            ("'r\"x\\\" // y\" // z\n", "'r\"x\\\" // y\"\n"),
            ("1.0r\"x\\\" // y\" // z\n", "1.0r\"x\\\" // y\"\n"),
            ("\"a\"r\"b\\\" // y\" // z\n", "\"a\"r\"b\\\" // y\"\n"),
            ("a /* // \n */ b // c\n", "a /* // \n */ b\n"),
            ("/* /* */ // x\n */ // y\n", "/* /* */ // x\n */\n"),
            ("/*/ // x\n */ // y\n", "/*/ // x\n */\n"),
            ("\u{feff}a // b\n", "\u{feff}a\n"),
            ("#![allow(x)] // b\n", "#![allow(x)]\n"),
        ] {
            assert_eq!(without_comments(text).as_deref(), Some(code), "{text:?}");
        }
        for same in [
            "/// one\nfn a() {}\n",
            "//! one\n",
            "/** one */ /*! two */ /* three */\n",
            "a // at the end",
            "a // \u{202e} turned\n",
            "a // a\rb\n",
            "a // \u{0} b\n",
        ] {
            assert_eq!(without_comments(same).as_deref(), Some(same), "{same:?}");
        }
        for unknown in [
            "#!/usr/bin/env run // x\n",
            "#! [x] // y\n",
            "---\na\n---\n// x\n",
            "cr\"\\\" // b\n",
            "cr#\"a\"# // b\n",
            "\"open // b\n",
            "/* open // b\n",
            "r#\"open\" // b\n",
            "'ab' // c\n",
            "a \u{2028} // b\n",
        ] {
            assert_eq!(without_comments(unknown), None, "{unknown:?}");
        }
    }

    #[test]
    fn only_other_files_are_embedded_for_sure() {
        for text in [
            "",
            "include!(\"a.rs\");",
            "#![doc = include_str!(\"../README.md\")]",
            "include_bytes! [ \"a/b.bin\" , ]",
            "include_str!(concat!(env!(\"OUT_DIR\"), \"/text.txt\"))",
            "my_include_str!(\"a.rs\")",
            "include_dir!(\"src\")",
            "/// As `include_str!` or `include_bytes` does.",
        ] {
            assert!(!may_embed_source(text), "{text}");
        }
        for text in [
            "include_str!(\"a.rs\")",
            "include_str!(\"a.RS\")",
            "include_str!(\"rs\")",
            "include_str!(\"a\\u{2e}rs\")",
            "include_str!(r\"a.rs\")",
            "include_str!(file!())",
            "include_str!($path)",
            "include_str!(concat!(\"a.txt\", env!(\"END\")))",
            "include_str!(concat!(\"a.txt\", env! ( \"END.txt\")))",
            "include_bytes!(concat!(\"a.\", \"rs\"))",
            "use core::include_str as text; text!(\"a.rs\");",
            "m!(include_bytes)",
            "paste! { [<include_ str>]!(\"a.rs\") }",
            "/// include_str!(\n/// \"a.txt\")",
            "include_str!(\"a.txt\"",
            "include_str!",
        ] {
            assert!(may_embed_source(text), "{text}");
        }
    }

    #[test]
    fn the_sources_of_this_package_have_the_same_tokens_without_comments() {
        let mut folders = vec![std::path::PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("src")];
        let mut shorter = 0;
        while let Some(folder) = folders.pop() {
            for entry in std::fs::read_dir(folder).unwrap() {
                let path = entry.unwrap().path();
                if path.is_dir() {
                    folders.push(path);
                } else if path.extension().is_some_and(|end| end == "rs") {
                    let text = std::fs::read_to_string(&path).unwrap();
                    let code = without_comments(&text).unwrap();
                    shorter += usize::from(code.len() < text.len());
                    assert_eq!(tokens(&text), tokens(&code), "{}", path.display());
                }
            }
        }
        assert!(shorter > 100, "{shorter}");
    }

    proptest! {
        /// Whatever the text, taking comments out changes no token and no place of one.
        #[test]
        fn no_token_is_lost_or_moved(parts in proptest::collection::vec(
            prop_oneof![
                "[a-z ]{0,3}",
                Just("//".to_owned()), Just("/".to_owned()), Just("*".to_owned()),
                Just("/*".to_owned()), Just("*/".to_owned()), Just("\"".to_owned()),
                Just("\\".to_owned()), Just("'".to_owned()), Just("#".to_owned()),
                Just("r".to_owned()), Just("br".to_owned()), Just("b".to_owned()),
                Just("\n".to_owned()), Just("\r\n".to_owned()), Just("!".to_owned()),
                Just("+".to_owned()), Just("1.0".to_owned()), Just("ä".to_owned()),
                Just("r#\"".to_owned()), Just("\"#".to_owned()), Just("'a".to_owned()),
                Just("'\"'".to_owned()), Just("'\\''".to_owned()), Just("c".to_owned()),
            ], 0..24))
        {
            let text = parts.concat();
            if let (Some(code), Some(before)) = (without_comments(&text), tokens(&text)) {
                prop_assert_eq!(Some(before), tokens(&code), "{:?} {:?}", text, code);
                prop_assert_eq!(without_comments(&code), Some(code.clone()), "{:?}", code);
            }
        }
    }
}
