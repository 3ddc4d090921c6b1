//! Which names git ignores: a chain of ignore files, the nearest one first.

use std::borrow::Cow;
use std::fmt;
use std::path::Path;
use std::sync::{Arc, OnceLock};

use ignore::gitignore::{Gitignore, GitignoreBuilder};

use crate::model::{Digest, Digester};

/// The ignore files that are in force in a folder. The default is a folder outside of every
/// repository, where no ignore file is: git reads none there, and neither does cargo.
#[derive(Clone, Default)]
pub(super) struct Rules {
    nearest: Option<Arc<Level>>,
    /// Nothing is ignored here: cargo lists the files of this package without git.
    suspended: bool,
}

/// One ignore file.
struct Level {
    /// The ignore file further out, asked only if this one says nothing.
    outer: Option<Arc<Level>>,
    anchor: Anchor,
    text: Box<[u8]>,
    /// Compiled when the first name must be matched: most folders' names are known already.
    matcher: OnceLock<Gitignore>,
    /// The digest of this file and all further out, and of where they are.
    digest: Digest,
}

/// The place of an ignore file, seen from the root of the walk; its patterns are relative to it.
#[derive(Clone, Debug)]
pub(super) enum Anchor {
    /// In this folder at or below the root (empty: the root itself).
    Inside(Box<[u8]>),
    /// In a folder from which this path leads to the root.
    Above(Box<[u8]>),
}

impl Anchor {
    /// In `folder`, relative to the root of the walk.
    pub(super) fn inside(folder: &[u8]) -> Self {
        Self::Inside(folder.into())
    }

    /// The path that this ignore file's patterns are matched against.
    fn candidate<'a>(&self, path: &'a [u8], joined: &'a mut Vec<u8>) -> Option<&'a [u8]> {
        match self {
            Self::Inside(folder) if folder.is_empty() => Some(path),
            Self::Inside(folder) => path.strip_prefix(&**folder)?.strip_prefix(b"/"),
            Self::Above(way) => {
                joined.clear();
                joined.extend_from_slice(way);
                joined.push(b'/');
                joined.extend_from_slice(path);
                Some(joined)
            }
        }
    }
}

impl Rules {
    /// The rules of a repository without any ignore file.
    pub(super) fn of_repository() -> Self {
        let level = Level {
            outer: None,
            anchor: Anchor::inside(b""),
            text: Box::default(),
            matcher: OnceLock::new(),
            digest: Digester::new("ignore rules of a repository 1").finish(),
        };
        Self { nearest: Some(Arc::new(level)), suspended: false }
    }

    /// Whether the folder belongs to a repository, so that ignore files are in force.
    pub(super) fn is_in_repository(&self) -> bool {
        self.nearest.is_some()
    }

    /// The same ignore files, without force if `suspended`.
    pub(super) fn suspend(&self, suspended: bool) -> Self {
        Self { nearest: self.nearest.clone(), suspended }
    }

    /// Whether no ignore file has any force here.
    pub(super) fn is_suspended(&self) -> bool {
        self.suspended
    }

    /// These rules, and nearer than all of them the ignore file `text` at `anchor`.
    pub(super) fn with(&self, anchor: Anchor, text: Vec<u8>) -> Self {
        if text.is_empty() || !self.is_in_repository() {
            return self.clone();
        }
        let mut digester = Digester::new("ignore rules 1");
        digester.digest(&self.chain_digest());
        match &anchor {
            Anchor::Inside(folder) => digester.number(0).field(folder),
            Anchor::Above(way) => digester.number(1).field(way),
        };
        digester.field(&text);
        let level = Level {
            outer: self.nearest.clone(),
            anchor,
            text: text.into_boxed_slice(),
            matcher: OnceLock::new(),
            digest: digester.finish(),
        };
        Self { nearest: Some(Arc::new(level)), suspended: self.suspended }
    }

    /// Equal only for the same texts in the same places, in force or not.
    pub(super) fn digest(&self) -> Digest {
        if self.suspended {
            let mut digester = Digester::new("suspended ignore rules 1");
            digester.digest(&self.chain_digest());
            return digester.finish();
        }
        self.chain_digest()
    }

    fn chain_digest(&self) -> Digest {
        self.nearest.as_ref().map_or(Digest::from_bytes([0; 32]), |level| level.digest)
    }

    /// Whether git ignores `path` (relative to the root of the walk), seen that no folder above
    /// it is ignored. The nearest file with an opinion decides.
    pub(super) fn ignore(&self, path: &[u8], is_folder: bool) -> bool {
        if self.suspended {
            return false;
        }
        let mut joined = Vec::new();
        let mut next = &self.nearest;
        while let Some(level) = next {
            if !level.text.is_empty()
                && let Some(candidate) = level.anchor.candidate(path, &mut joined)
            {
                let matcher = level.matcher.get_or_init(|| compile(&level.text));
                let found = matcher.matched(bytes_path(candidate), is_folder);
                if !found.is_none() {
                    return found.is_ignore();
                }
            }
            next = &level.outer;
        }
        false
    }
}

impl fmt::Debug for Rules {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Rules").field(&self.digest()).finish()
    }
}

fn bytes_path(bytes: &[u8]) -> &Path {
    use std::os::unix::ffi::OsStrExt as _;
    Path::new(std::ffi::OsStr::from_bytes(bytes))
}

/// Compiles an ignore file. Where it cannot be understood, more is counted rather than less.
fn compile(text: &[u8]) -> Gitignore {
    let mut builder = GitignoreBuilder::new("");
    let text = text.strip_prefix(b"\xef\xbb\xbf").unwrap_or(text);
    for line in text.split(|byte| *byte == b'\n') {
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        let negated = line.starts_with(b"!");
        let line = match std::str::from_utf8(line) {
            Ok(line) => line.to_owned(),
            // The matcher takes text only. A wildcard for each odd byte lets too much in.
            Err(_) if negated => line
                .utf8_chunks()
                .flat_map(|chunk| [chunk.valid().to_owned(), "?".repeat(chunk.invalid().len())])
                .collect(),
            Err(_) => continue,
        };
        if builder.add_line(None, &escape_braces(&line)).is_err() && negated {
            let _ = builder.add_line(None, "!*");
        }
    }
    builder.build().unwrap_or_else(|_| Gitignore::empty())
}

/// The line with braces that stand for themselves: to git they always do, to the matcher they hold
/// alternatives.
fn escape_braces(line: &str) -> Cow<'_, str> {
    if !line.contains(['{', '}']) {
        return line.into();
    }
    let (mut escaped, mut chars) = (String::with_capacity(line.len() + 4), line.chars().peekable());
    while let Some(c) = chars.next() {
        match c {
            '\\' => {
                escaped.push(c);
                escaped.extend(chars.next());
                continue;
            }
            '{' | '}' => escaped.push('\\'),
            // A class ends with the first `]` that is not its first member.
            '[' => {
                escaped.push(c);
                escaped.extend(chars.next_if(|c| matches!(c, '!' | '^')));
                escaped.extend(chars.next_if_eq(&']'));
                for c in chars.by_ref() {
                    escaped.push(c);
                    if c == ']' {
                        break;
                    }
                }
                continue;
            }
            _ => {}
        }
        escaped.push(c);
    }
    escaped.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn inside(folder: &str) -> Anchor {
        Anchor::inside(folder.as_bytes())
    }

    fn rules(levels: &[(&str, &str)]) -> Rules {
        levels.iter().fold(Rules::of_repository(), |rules, (folder, text)| {
            rules.with(inside(folder), (*text).into())
        })
    }

    #[test]
    fn braces_are_no_alternatives() {
        let rules = rules(&[("", "*.{json,bin}\na\\{b\n[{]x\n")]);
        assert!(!rules.ignore(b"s.json", false) && rules.ignore(b"s.{json,bin}", false));
        assert!(rules.ignore(b"a{b", false) && rules.ignore(b"{x", false));
        assert_eq!(escape_braces("[]{]{"), "[]{]\\{");
        assert_eq!(escape_braces("[!{}]\\}}"), "[!{}]\\}\\}");
    }

    #[test]
    fn the_nearest_file_with_an_opinion_decides() {
        let rules = rules(&[("", "*.log\n/top\nbuild/\n"), ("a", "!keep.log\nown\n")]);
        let ignored = |path: &str, folder| rules.ignore(path.as_bytes(), folder);
        assert!(ignored("x.log", false) && ignored("a/x.log", false));
        assert!(!ignored("a/keep.log", false));
        assert!(ignored("top", false) && !ignored("a/top", false), "anchored");
        assert!(ignored("a/b/build", true) && !ignored("a/b/build", false), "folders only");
        assert!(ignored("a/own", false) && !ignored("own", false), "only below its folder");
    }

    #[test]
    fn outside_of_a_repository_nothing_is_ignored() {
        let rules = Rules::default().with(inside(""), b"*".into());
        assert!(!rules.is_in_repository() && !rules.ignore(b"x", false));
        assert_ne!(Rules::default().digest(), Rules::of_repository().digest());
    }

    #[test]
    fn files_above_the_root_see_the_path_from_where_they_are() {
        let rules = Rules::of_repository()
            .with(Anchor::Above((*b"ws/sub").into()), b"/ws/sub/gone\nx\n".into());
        assert!(rules.ignore(b"gone", false));
        assert!(!rules.ignore(b"a/gone", false));
        assert!(rules.ignore(b"a/x", false));
    }

    #[test]
    fn the_digest_knows_the_place_as_well_as_the_text() {
        assert_ne!(rules(&[("", "/x")]).digest(), rules(&[("a", "/x")]).digest());
        assert_ne!(rules(&[("", "/x")]).digest(), rules(&[("", "/y")]).digest());
        assert_eq!(rules(&[("", "/x"), ("a", "")]).digest(), rules(&[("", "/x")]).digest());
    }

    #[test]
    fn names_and_patterns_need_not_be_text() {
        let rules =
            Rules::of_repository().with(inside(""), b"*\n!caf\xe9\n\xff\xfe\n*.o\r\n".into());
        assert!(!rules.ignore(b"caf\xe9", false), "let in again");
        assert!(rules.ignore(b"\xff\xfe", false), "by the star");
        let rules = Rules::of_repository().with(inside(""), b"\xef\xbb\xbf*.o\r\n\xff\n".into());
        assert!(rules.ignore(b"\xe9.o", false), "a BOM and a CR are no part of the pattern");
        assert!(!rules.ignore(b"\xff", false), "not understood: counted");
    }

    #[test]
    fn a_negation_that_is_not_understood_lets_everything_in() {
        assert!(GitignoreBuilder::new("").add_line(None, "![z-a]").is_err());
        let text = b"*\n![z-a]\n".to_vec();
        assert!(!Rules::of_repository().with(inside(""), text).ignore(b"x", false));
    }
}
