//! What the compiler takes from the text of a Rust source file: everything but its plain comments.
//!
//! Lines and columns of all tokens stay as they are, since nothing on a line stands behind a line comment.
//! Where the compiler of some edition could see other tokens than are seen here, nothing is taken out. Only
//! texts that the compiler accepts matter: an error stays the same error.

/// The text without its plain line comments and the blanks before them. `None` if it is not sure to be
/// understood.
pub(crate) fn without_comments(text: &str) -> Option<String> {
    let start = start_of(text);
    let is_script = text[start..].starts_with("#!") && !text[start..].starts_with("#![");
    if is_script || text[start..].trim_start().starts_with("---") {
        return None;
    }
    let mut code = String::with_capacity(text.len());
    let (mut at, mut copied) = (start, 0);
    while at < text.len() {
        let (token, rest) = text[at..].split_at(token(&text[at..])?);
        // At the end of the file nothing else separates the last tokens.
        let is_ended = rest.starts_with('\n') || rest.starts_with("\r\n");
        let is_plain = token.starts_with("//") && !is_documentation(token);
        if is_plain && is_ended && token.chars().all(is_harmless) {
            code.push_str(text[copied..at].trim_end_matches([' ', '\t']));
            copied = at + token.len();
        }
        at += token.len();
    }
    code.push_str(&text[copied..]);
    Some(code)
}

/// The text of [`without_comments`] without the modules behind `#[cfg(test)]`, which the compiler checks for
/// their form and then drops where it does not compile tests. Whatever follows stays in its place. `None` if it
/// is not sure to be understood.
pub(crate) fn without_tests(code: &str) -> Option<String> {
    const HEAD: [&str; 8] = ["#", "[", "cfg", "(", "test", ")", "]", "mod"];
    let mut library = String::with_capacity(code.len());
    let (mut at, mut copied, mut depth) = (start_of(code), 0, 0_usize);
    // The first tokens of an item outside of all others, and where it begins.
    let (mut item, mut begin) = (Vec::new(), 0);
    let mut is_test = false;
    while at < code.len() {
        let token = &code[at..at + token(&code[at..])?];
        let end = at + token.len();
        let is_end = match token {
            "{" | "(" | "[" => {
                is_test |= token == "{" && depth == 0 && item.len() == 9 && item[..8] == HEAD;
                depth += 1;
                false
            }
            "}" | ")" | "]" => {
                depth = depth.checked_sub(1)?;
                token == "}" && depth == 0
            }
            _ => token == ";" && depth == 0,
        };
        if is_end && is_test {
            let (rest, lines) = (&code[end..], code[begin..end].matches('\n').count());
            if rest.trim().is_empty() || rest.starts_with('\n') {
                library.push_str(&code[copied..begin]);
                library.push_str(&"\n".repeat(lines));
                copied = end;
            }
        }
        if is_end {
            (is_test, item) = (false, Vec::new());
        } else if item.len() <= HEAD.len() && !token.trim().is_empty() {
            begin = if item.is_empty() { at } else { begin };
            item.push(token);
        }
        at = end;
    }
    library.push_str(&code[copied..]);
    // Nothing has its place behind the last item.
    library.truncate(library.trim_end().len());
    Some(library)
}

/// Where the tokens of a text begin.
fn start_of(text: &str) -> usize {
    if text.starts_with('\u{feff}') { '\u{feff}'.len_utf8() } else { 0 }
}

/// The length of the token, comment or character of white space with which a text begins.
fn token(text: &str) -> Option<usize> {
    let first = text.chars().next()?;
    Some(match first {
        '/' if text.starts_with("//") => {
            let line = text.split('\n').next().unwrap_or(text);
            line.strip_suffix('\r').unwrap_or(line).len()
        }
        '/' if text.starts_with("/*") => block_comment(text)?,
        '"' => with_suffix(text, quoted(text, 0)?)?,
        '\'' => character_or_lifetime(text)?,
        _ if is_word(first) => {
            let length = word(text);
            match raw_string(&text[..length], &text[length..])? {
                0 => length,
                raw => with_suffix(text, length + raw)?,
            }
        }
        _ if first.is_ascii() => 1,
        // Perhaps a blank, perhaps a part of a name.
        _ => return None,
    })
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
        tokens_of(text, |all| all)
    }

    /// The same without the modules of tests, as they stand behind an item.
    fn tokens_but_tests(text: &str) -> Option<Vec<String>> {
        let is_test = |all: &[TokenTree]| {
            let texts: Vec<_> = all.iter().map(ToString::to_string).collect();
            let [hash, cfg, module, _, body] = &texts[..] else { return false };
            let cfg: String = cfg.split_whitespace().collect();
            hash == "#" && cfg == "[cfg(test)]" && module == "mod" && body.starts_with('{')
        };
        tokens_of(text, |all| {
            let mut kept = Vec::new();
            let mut at = 0;
            while at < all.len() {
                let before: Option<&TokenTree> = kept.last();
                let is_item = before.is_none_or(|token| {
                    let text = token.to_string();
                    text == ";" || text.ends_with('}')
                });
                match all.get(at..at + 5).is_some_and(|next| is_item && is_test(next)) {
                    true => at += 5,
                    false => {
                        kept.push(all[at].clone());
                        at += 1;
                    }
                }
            }
            kept
        })
    }

    fn tokens_of(
        text: &str,
        choose: impl FnOnce(Vec<TokenTree>) -> Vec<TokenTree>,
    ) -> Option<Vec<String>> {
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
        let tokens = text.parse::<TokenStream>().ok();
        let chosen = tokens.map(|tokens| choose(tokens.into_iter().collect()));
        let tokens = chosen.map(|tokens| add(tokens.into_iter().collect(), &mut all));
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
    fn test_modules_are_taken_out_and_what_follows_stays_in_its_place() {
        let head = "fn a() {}\n";
        for (code, library) in [
            ("#[cfg(test)]\nmod tests {\n    b\n}\n", ""),
            (
                "#[cfg(test)]\nmod tests {\n    \"}\" '{' r#\"}\"#\n}\nfn c() {}\n",
                "\n\n\n\nfn c() {}",
            ),
            ("# [ cfg ( test ) ] mod t { { } ( ) }\n\n#[cfg(test)]\nmod u { }", ""),
            ("macro_rules! m {\n() => {\n#[cfg(test)]\nmod t {}\n} }\n", "same"),
            ("mod a {\n#[cfg(test)]\nmod t { x }\n}\n", "same"),
            ("#[cfg(test)] mod t { x } fn c() {}\n", "same"),
            ("#[cfg(not(test))]\nmod t { x }\n", "same"),
            ("#[cfg(test)]\nmod t;\nmod u { x }\n", "same"),
            ("#[cfg(test)]\nfn t() { x }\n", "same"),
            ("#[cfg(test)]\npub mod t { x }\n", "same"),
            ("#[changed]\n#[cfg(test)]\nmod t { x }\n", "same"),
            ("/// A\n#[cfg(test)]\nmod t { x }\n", "same"),
        ] {
            let library = if library == "same" { code.trim_end() } else { library };
            let expected = format!("{head}{library}");
            let found = without_tests(&format!("{head}{code}"));
            assert_eq!(found.as_deref(), Some(expected.trim_end()), "{code}");
        }
        for unknown in ["}\n", "\"open\n"] {
            assert_eq!(without_tests(unknown), None, "{unknown}");
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
        let (mut shorter, mut tested) = (0, 0);
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
                    let library = without_tests(&code).unwrap();
                    tested += usize::from(library.len() + 10 < code.len());
                    assert_eq!(tokens_but_tests(&code), tokens(&library), "{}", path.display());
                }
            }
        }
        assert!(shorter > 100 && tested > 100, "{shorter} {tested}");
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
