//! The outline of one source file: its test functions and the modules that it declares.
//!
//! The lexer is the one that procedural macros are tested with; items are told apart by their
//! first words. Bodies of functions are skipped unread, so that code that does not compile yet has
//! an outline as soon as its brackets match.

use proc_macro2::{Delimiter, Ident, TokenStream, TokenTree};

/// Inline modules inside one another; deeper ones are skipped.
const MODULE_DEPTH: usize = 64;

/// What one file says by itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Outline {
    pub(super) tests: Vec<OutlinedTest>,
    pub(super) modules: Vec<FileModule>,
}

/// A test function.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct OutlinedTest {
    /// The names of the modules around it in this file, and its own.
    pub(super) path: Vec<String>,
    /// The line of its name, from 1.
    pub(super) line: usize,
    /// Its attribute makes tests with names of their own below the function's: `#[rstest]`.
    pub(super) has_cases: bool,
}

/// `mod name;`
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct FileModule {
    /// The modules around it in this file.
    pub(super) inside: Vec<InlineModule>,
    pub(super) name: String,
    /// The value of its attribute `path`.
    pub(super) path: Option<String>,
}

/// `mod name { … }`
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct InlineModule {
    pub(super) name: String,
    /// The value of its attribute `path`.
    pub(super) path: Option<String>,
}

impl Outline {
    /// The outline of a file's text; `None` if that is not made of Rust's tokens.
    pub(super) fn of(text: &str) -> Option<Self> {
        let text = text.trim_start_matches('\u{feff}');
        // The lexer knows no `#!/usr/bin/env …`; the line stays, so that lines count right.
        let is_script = text.strip_prefix("#!").is_some_and(|rest| !is_attribute(rest));
        let text = if is_script { text.find('\n').map_or("", |end| &text[end..]) } else { text };
        let mut outline = Self::default();
        let lexed = text.parse().map(|tokens: TokenStream| {
            outline.items(tokens, &mut Vec::new());
        });
        // Else the lexer keeps the text of every file that it has ever read.
        proc_macro2::extra::invalidate_current_thread_spans();
        lexed.ok().map(|()| outline)
    }

    fn items(&mut self, tokens: TokenStream, inside: &mut Vec<InlineModule>) {
        let mut tokens = tokens.into_iter().peekable();
        let mut attributes = Attributes::default();
        while let Some(token) = tokens.next() {
            match token {
                TokenTree::Punct(punct) if punct.as_char() == '#' => {
                    if let Some(TokenTree::Group(group)) = tokens.peek()
                        && group.delimiter() == Delimiter::Bracket
                    {
                        attributes.add(group.stream());
                        tokens.next();
                    }
                }
                TokenTree::Ident(word) if word == "fn" => {
                    // Else it is the type of a function.
                    if let Some(TokenTree::Ident(name)) = tokens.peek() {
                        self.function(name, &attributes, inside);
                    }
                }
                TokenTree::Ident(word) if word == "mod" => {
                    let Some(TokenTree::Ident(name)) = tokens.peek() else { continue };
                    let name = plain(name);
                    tokens.next();
                    let content = tokens.next();
                    self.module(name, std::mem::take(&mut attributes), content, inside);
                }
                TokenTree::Ident(word) if tokens.peek().is_some_and(is_bang) => {
                    tokens.next();
                    // A macro may repeat the tests that it is given: `proptest!`. Each of the names
                    // occurs as it stands here, or it is no name of a test.
                    if let Some(TokenTree::Group(group)) = tokens.peek()
                        && word != "macro_rules"
                    {
                        self.functions_of_a_macro(group.stream(), inside);
                    }
                }
                TokenTree::Group(group) if group.delimiter() == Delimiter::Brace => {
                    attributes = Attributes::default();
                }
                TokenTree::Punct(punct) if punct.as_char() == ';' => {
                    attributes = Attributes::default();
                }
                _ => {}
            }
        }
    }

    /// The test functions that stand at the top of a macro's argument.
    fn functions_of_a_macro(&mut self, tokens: TokenStream, inside: &[InlineModule]) {
        let mut inner = Self::default();
        inner.items(tokens, &mut inside.to_vec());
        let depth = inside.len() + 1;
        self.tests.extend(inner.tests.into_iter().filter(|test| test.path.len() == depth));
    }

    fn function(&mut self, name: &Ident, attributes: &Attributes, inside: &[InlineModule]) {
        let Some(test) = attributes.test else { return };
        let modules = inside.iter().map(|module| module.name.clone());
        self.tests.push(OutlinedTest {
            path: modules.chain([plain(name)]).collect(),
            line: name.span().start().line,
            has_cases: test.has_cases,
        });
    }

    fn module(
        &mut self,
        name: String,
        attributes: Attributes,
        content: Option<TokenTree>,
        inside: &mut Vec<InlineModule>,
    ) {
        let path = match attributes.path {
            PathAttribute::None => None,
            PathAttribute::Known(path) => Some(path),
            // The files could be anywhere: their tests have no known place.
            PathAttribute::Unknown => return,
        };
        match content {
            Some(TokenTree::Group(group))
                if group.delimiter() == Delimiter::Brace && inside.len() < MODULE_DEPTH =>
            {
                inside.push(InlineModule { name, path });
                self.items(group.stream(), inside);
                inside.pop();
            }
            Some(TokenTree::Punct(punct)) if punct.as_char() == ';' => {
                self.modules.push(FileModule { inside: inside.clone(), name, path });
            }
            _ => {}
        }
    }
}

/// The attributes before an item, as far as they count.
#[derive(Default)]
struct Attributes {
    test: Option<TestAttribute>,
    path: PathAttribute,
}

#[derive(Clone, Copy)]
struct TestAttribute {
    has_cases: bool,
}

#[derive(Default)]
enum PathAttribute {
    #[default]
    None,
    Known(String),
    Unknown,
}

impl Attributes {
    /// Takes note of an attribute: what stands between its brackets.
    fn add(&mut self, attribute: TokenStream) {
        let mut tokens = attribute.into_iter();
        let mut name = String::new();
        let mut rest = None;
        for token in &mut tokens {
            match token {
                TokenTree::Ident(word) => name = plain(&word),
                TokenTree::Punct(punct) if punct.as_char() == ':' => {}
                other => {
                    rest = Some(other);
                    break;
                }
            }
        }
        match name.as_str() {
            "path" => {
                let value = tokens.next().and_then(|value| text_of(&value.to_string()));
                self.path = value.map_or(PathAttribute::Unknown, PathAttribute::Known);
            }
            // `cfg_attr(condition, attribute, …)`
            "cfg_attr" => {
                let Some(TokenTree::Group(group)) = rest else { return };
                let parts: Vec<_> = group.stream().into_iter().collect();
                for part in parts.split(is_comma).skip(1) {
                    self.add_conditional(part.iter().cloned().collect());
                }
            }
            "test" => self.test = self.test.or(Some(TestAttribute { has_cases: false })),
            _ if name.contains("test") || name == "quickcheck" || name == "parameterized" => {
                self.test = Some(TestAttribute { has_cases: true });
            }
            _ => {}
        }
    }

    fn add_conditional(&mut self, attribute: TokenStream) {
        let mut conditional = Self::default();
        conditional.add(attribute);
        self.test = self.test.or(conditional.test);
        if !matches!(conditional.path, PathAttribute::None) {
            self.path = PathAttribute::Unknown;
        }
    }
}

/// Whether `#!` begins an attribute and not the first line of a script.
fn is_attribute(mut rest: &str) -> bool {
    loop {
        rest = rest.trim_start();
        match rest.strip_prefix("//") {
            Some(comment) => rest = comment.find('\n').map_or("", |end| &comment[end..]),
            None => return rest.starts_with('['),
        }
    }
}

/// An identifier without `r#`.
fn plain(ident: &Ident) -> String {
    let text = ident.to_string();
    text.strip_prefix("r#").map_or_else(|| text.clone(), str::to_owned)
}

fn is_bang(token: &TokenTree) -> bool {
    matches!(token, TokenTree::Punct(punct) if punct.as_char() == '!')
}

fn is_comma(token: &TokenTree) -> bool {
    matches!(token, TokenTree::Punct(punct) if punct.as_char() == ',')
}

/// The text of a literal; none if that has escapes or is no text.
fn text_of(literal: &str) -> Option<String> {
    let raw = literal.strip_prefix('r').map(|rest| rest.trim_matches('#'));
    let quoted = raw.unwrap_or(literal);
    let inner = quoted.strip_prefix('"')?.strip_suffix('"')?;
    (raw.is_some() || !inner.contains('\\')).then(|| inner.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn tests(text: &str) -> Vec<(String, usize)> {
        let outline = Outline::of(text).unwrap();
        outline.tests.iter().map(|test| (test.path.join("::"), test.line)).collect()
    }

    #[track_caller]
    fn assert_tests(text: &str, expected: &[(&str, usize)]) {
        let found = tests(text);
        let found: Vec<_> = found.iter().map(|(name, line)| (name.as_str(), *line)).collect();
        assert_eq!(found, expected, "{text}");
    }

    #[test]
    fn a_test_has_the_line_of_its_name_and_the_path_of_its_modules() {
        assert_tests(
            "fn no() {}\n\n#[test]\nfn a() {}\n\n#[cfg(test)]\nmod tests {\n    use super::*;\n\n    \
             #[test]\n    #[should_panic(expected = \"x\")]\n    fn b() { fn c() {} }\n    mod deep {\n        \
             #[tokio::test(flavor = \"multi_thread\")]\n        pub(crate) async fn d() {}\n    }\n}\n",
            &[("a", 4), ("tests::b", 12), ("tests::deep::d", 15)],
        );
    }

    #[test]
    fn texts_comments_lifetimes_and_characters_hide_nothing_and_pretend_nothing() {
        assert_tests(
            "/* #[test] fn no() {} /* } */ */\nconst A: &str = r#\"\n#[test] fn no() {} \" } \"#;\n\
             const B: char = '{'; const C: u8 = b'\\'';\nfn f<'a>(x: &'a str) -> &'a str { \"}\\\"{\" }\n\
             //! #[test] fn no() {}\n#[test]\nfn yes() { let _ = '}'; }\nconst D: &CStr = c\"{\";\n\
             #[test] fn also() {}\n",
            &[("yes", 8), ("also", 10)],
        );
    }

    #[test]
    fn an_attribute_belongs_to_the_next_item_alone() {
        assert_tests(
            "#[test]\nstruct S { x: [u8; { 3 }] }\nfn no() {}\n#[test]\nconst F: fn(u8) = g;\nfn no2() {}\n\
             #[test] unsafe extern \"C\" fn yes() {}\nfn no3() {}\nimpl S { #[test] fn no4() {} }\n",
            &[("yes", 7)],
        );
    }

    #[test]
    fn attributes_of_other_crates_and_conditional_ones_count() {
        let text = "#[rstest]\n#[case(1)]\nfn a() {}\n#[test_case(1; \"one\")]\n#[test]\nfn b() {}\n\
                    #[cfg_attr(not(miri), test)]\nfn c() {}\n#[cfg_attr(miri, ignore)]\nfn no() {}\n\
                    #[cfg(test)]\nfn no2() {}\n#[test_log::test]\nfn d() {}\n";
        let outline = Outline::of(text).unwrap();
        let found: Vec<_> =
            outline.tests.iter().map(|test| (test.path[0].as_str(), test.has_cases)).collect();
        assert_eq!(found, [("a", true), ("b", true), ("c", false), ("d", false)]);
    }

    #[test]
    fn tests_that_a_macro_is_given_stand_where_they_are_written() {
        assert_tests(
            "mod m {\n    proptest! {\n        #![proptest_config(x())]\n        #[test]\n        \
             fn a(x in 0..9) { mod q {} }\n        mod n { #[test] fn no() {} }\n    }\n}\n\
             macro_rules! make { ($n:ident) => { #[test] fn $n() {} } }\n\
             macro_rules! fixed { () => { #[test] fn no() {} } }\nmake!(no2);\nfixed! {}\n",
            &[("m::a", 5)],
        );
    }

    #[test]
    fn declared_modules_know_what_is_around_them() {
        let text = "mod a;\n#[path = \"x/y.rs\"]\npub mod b;\nmod c { #[path = r\"d\"] mod d { mod e; } }\n\
                    #[cfg_attr(unix, path = \"u.rs\")]\nmod unknown;\n#[path = \"a\\\\b.rs\"] mod unknown2;\n\
                    mod r#try;\n";
        let outline = Outline::of(text).unwrap();
        let inline = |name: &str, path: Option<&str>| InlineModule {
            name: name.to_owned(),
            path: path.map(str::to_owned),
        };
        let file = |inside: &[InlineModule], name: &str, path: Option<&str>| FileModule {
            inside: inside.to_vec(),
            name: name.to_owned(),
            path: path.map(str::to_owned),
        };
        assert_eq!(
            outline.modules,
            [
                file(&[], "a", None),
                file(&[], "b", Some("x/y.rs")),
                file(&[inline("c", None), inline("d", Some("d"))], "e", None),
                file(&[], "try", None),
            ]
        );
    }

    #[test]
    fn scripts_and_byte_order_marks_do_not_shift_lines() {
        assert_tests("#!/usr/bin/env run\n#[test]\nfn a() {}\n", &[("a", 3)]);
        assert_tests("\u{feff}#![allow(x)]\r\n#[test]\r\nfn a() {}\r\n", &[("a", 3)]);
        assert_tests("#!// x\n[allow(x)]\n#[test] fn a() {}", &[("a", 3)]);
    }

    #[test]
    fn text_that_is_no_rust_has_no_outline() {
        for text in ["fn a() {", "#[test] fn a() }", "\"", "fn a() { (] }", "/*", "r#\"x\""] {
            assert_eq!(Outline::of(text), None, "{text}");
        }
        let deep = format!("#[test] fn a() {{ {}{} }}", "(".repeat(99_999), ")".repeat(99_999));
        assert_tests(&deep, &[("a", 1)]);
        let modules = format!("{}#[test] fn a() {{}}{}", "mod m {".repeat(9999), "}".repeat(9999));
        assert_tests(&modules, &[]);
    }

    proptest! {
        #[test]
        fn no_text_does_harm(parts in prop::collection::vec(
            prop::sample::select(vec![
                "#[test] ", "fn ", "a", " mod ", "b ", "{", "}", ";", "!", "(", ")", "#", "[path = \"x\"]",
                "#[cfg_attr(", ",", "'", "\"", "\n", "//", "/*", "*/", "r#", "é", "::",
            ]), 0..40,
        )) {
            let text = parts.concat();
            if let Some(outline) = Outline::of(&text) {
                for test in outline.tests {
                    let line = text.lines().nth(test.line - 1).unwrap();
                    prop_assert!(line.contains(test.path.last().unwrap().as_str()));
                }
            }
        }
    }
}
