//! Whether a file can name a variable: a search for names in all that a run can see of the file.
//!
//! The search covers the loaded parts of a program, not its debug information, which names everything
//! and is read by no run.

use std::collections::BTreeSet;
use std::fs::File;
use std::io;
use std::path::Path;

use aho_corasick::{AhoCorasick, AhoCorasickKind};
use object::{
    Architecture, BinaryFormat, Object as _, ObjectSection as _, ObjectSymbol as _, ReadCache,
    ReadRef,
};

use super::machine_code::{
    Functions, LoadedPart, extent, import_slots, loaded_parts, readable, refers_to,
};

/// A larger file is not searched.
const LARGEST_SEARCHED_FILE: u64 = 1 << 30;

/// What symbols of a Rust library contain that goes through all variables, in both manglings.
const ITERATION: [&[u8]; 4] =
    [b"_4VarsNt", b"_6VarsOsNt", b"std..env..Vars$u20$as", b"std..env..VarsOs$u20$as"];
/// Why any name may be in such a program.
pub(crate) const GOES_THROUGH_ALL: &str = "it goes through all variables";
/// How the names of the functions begin that give all variables.
const GIVE_ALL: [&str; 2] = ["std::env::vars", "<std::env::Vars"];
/// How the names of the standard library's own functions begin that use these, to pass variables on
/// to a child.
const PASS_ALL_ON: [&str; 10] = [
    "std::env::vars",
    "<std::env::Vars",
    "std::sys::process::",
    "<std::sys::process::",
    "std::process::Command::output",
    "std::process::Command::spawn",
    "std::process::Command::status",
    "<std::process::Command>::output",
    "<std::process::Command>::spawn",
    "<std::process::Command>::status",
];
/// The names of the C library's list of all variables.
const LIST_OF_ALL: [&str; 3] = ["environ", "__environ", "_environ"];
/// The kernel's list of a process's variables.
const ENVIRONMENT_FILE: &[u8] = b"/environ";
/// How compressed files begin: gzip, zip, xz, zstd, bzip2, 7z.
const COMPRESSED: [&[u8]; 6] =
    [b"\x1f\x8b", b"PK\x03\x04", b"\xfd7zXZ", b"\x28\xb5\x2f\xfd", b"BZh", b"7z\xbc\xaf"];
/// How the shell names variables by other variables' values, or by parts of their names.
const INDIRECTION: &[u8] = b"${!";
/// What a compressed program contains.
const PACKED: &[u8] = b"UPX!";

/// The text that stands for a use of the value of `PATH`.
const SEARCH_PATH: &str = "PATH";
/// The function of libtest that says `--logfile PATH`, in both manglings.
const LIBTEST_OPTIONS: &str = "4test3cli9optgroups";

/// What a search is to find out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SearchScope {
    /// All that a [`Mentions`] says.
    All,
    /// Which texts there are: all else is known of this content.
    Texts,
}

/// The result of a search.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Mentions {
    /// For each text whether it was found.
    pub found: Vec<bool>,
    /// Why any name may be in it, found or not.
    pub any: Option<&'static str>,
    /// It is a program without symbols: whether it goes through all variables is not known.
    pub is_stripped: bool,
    /// It is a program or a library.
    pub is_program: bool,
}

/// Searches the file at `path`, links followed, for `texts`, which are in lower case, in UTF-8 and UTF-16. The case of
/// what is found does not matter. The text `PATH` is found where something uses the variable by this
/// name: where it stands alone in a text, or code of a program refers to it.
///
/// # Errors
/// If the file cannot be read, or is no regular file.
pub(crate) fn mentions(path: &Path, texts: &[&str], scope: SearchScope) -> io::Result<Mentions> {
    let metadata = path.metadata()?;
    if !metadata.is_file() {
        return Err(io::Error::other("it is no regular file"));
    }
    if metadata.len() > LARGEST_SEARCHED_FILE {
        let any = Some("it is too large to be searched");
        return Ok(Mentions { found: vec![true; texts.len()], any, ..Mentions::default() });
    }
    let content = ReadCache::new(File::open(path)?);
    // The kernel's own files have other lengths than they say.
    mentions_of(&content, || std::fs::read(path), texts, scope)
}

/// The same for a file's content; `whole` reads all of it.
pub(super) fn mentions_of<'data>(
    content: impl ReadRef<'data>,
    whole: impl FnOnce() -> io::Result<Vec<u8>>,
    texts: &[&str],
    scope: SearchScope,
) -> io::Result<Mentions> {
    let program = object::File::parse(content).ok();
    match program.filter(|program| program.format() == BinaryFormat::Elf) {
        Some(program) if program.segments().next().is_some() => {
            let parts = loaded_parts(&program)?;
            let symbols = program.section_by_name(".strtab");
            let symbols = symbols.and_then(|section| section.data().ok());
            let is_used = || uses_search_path(&program, &parts);
            let mut mentions = mentions_in(&parts, &[], texts, scope, is_used)?;
            if scope == SearchScope::All
                && mentions.any.is_none()
                && symbols.is_some()
                && goes_through_all(&program, &parts)
            {
                mentions.any = Some(GOES_THROUGH_ALL);
            }
            Ok(Mentions { is_stripped: symbols.is_none(), is_program: true, ..mentions })
        }
        _ => {
            let whole = whole()?;
            let parts =
                [LoadedPart { content: &whole, address: 0, is_code: false, is_writable: false }];
            mentions_in(&parts, &whole, texts, scope, || has_word(&whole, SEARCH_PATH.as_bytes()))
        }
    }
}

/// Searches a text that is no file's content: a folder's names, a link's target.
///
/// # Errors
/// If there are too many texts.
pub(crate) fn mentions_in_text(content: &[u8], texts: &[&str]) -> io::Result<Mentions> {
    let parts = [LoadedPart { content, address: 0, is_code: false, is_writable: false }];
    let scope = SearchScope::All;
    mentions_in(&parts, &[], texts, scope, || has_word(content, SEARCH_PATH.as_bytes()))
}

fn mentions_in(
    parts: &[LoadedPart<'_>],
    library: &[u8],
    texts: &[&str],
    scope: SearchScope,
    uses_search_path: impl FnOnce() -> bool,
) -> io::Result<Mentions> {
    let mut builder = AhoCorasick::builder();
    let names: Vec<_> = texts.iter().filter(|text| **text != SEARCH_PATH).collect();
    let encoded = names.iter().map(|text| text.as_bytes().to_vec());
    let encoded = encoded.chain(names.iter().map(|text| in_utf_16(text)));
    // As fast with many texts as with few.
    builder.ascii_case_insensitive(true).kind(Some(AhoCorasickKind::DFA));
    let finder = builder.build(encoded).map_err(io::Error::other)?;
    let mut are_found = vec![false; names.len()];
    for part in parts {
        for hit in finder.find_overlapping_iter(part.content) {
            are_found[hit.pattern().as_usize() % names.len()] = true;
        }
    }
    let exact = |texts: &[&[u8]]| {
        let finder = AhoCorasick::new(texts).map_err(io::Error::other)?;
        io::Result::Ok(parts.iter().any(|part| finder.is_match(part.content)))
    };
    let begins =
        |start: &&[u8]| parts.first().is_some_and(|first| first.content.starts_with(start));
    let iteration = AhoCorasick::new(ITERATION).map_err(io::Error::other)?;
    let indirection = AhoCorasick::new([INDIRECTION]).map_err(io::Error::other)?;
    let environment = AhoCorasick::new([ENVIRONMENT_FILE]).map_err(io::Error::other)?;
    // In the text of a program in C, `<bits/environments.h>` is another file.
    let is_other = |rest: &[u8]| !library.is_empty() && rest.starts_with(b"ments.h");
    let names_environment = |part: &LoadedPart<'_>| {
        environment.find_iter(part.content).any(|hit| !is_other(&part.content[hit.end()..]))
    };
    let any = if scope == SearchScope::Texts {
        None
    } else if COMPRESSED.iter().any(begins) || exact(&[PACKED])? {
        Some("it is compressed")
    } else if parts.iter().any(names_environment) {
        Some("it reads /proc/PID/environ")
    } else if parts.iter().any(|part| makes_up_names(part, &indirection)) {
        Some("it makes up names of variables")
    } else if iteration.is_match(library) {
        Some(GOES_THROUGH_ALL)
    } else {
        None
    };
    let is_used =
        texts.contains(&SEARCH_PATH) && (exact(&[&in_utf_16(SEARCH_PATH)])? || uses_search_path());
    let mut are_found = are_found.into_iter();
    let found = texts.iter().map(|text| match *text {
        SEARCH_PATH => is_used,
        _ => are_found.next().unwrap_or(true),
    });
    Ok(Mentions { found: found.collect(), any, ..Mentions::default() })
}

/// A text in UTF-16, without the zero at one end that depends on the byte order.
fn in_utf_16(text: &str) -> Vec<u8> {
    text.bytes().flat_map(|byte| [0, byte]).skip(1).collect()
}

/// Whether the shell's way to name variables by others stands in a text of it. These three bytes are
/// in code and tables by chance as well: there no text surrounds them.
fn makes_up_names(part: &LoadedPart<'_>, finder: &AhoCorasick) -> bool {
    let is_text = |byte: &u8| byte.is_ascii_graphic() || byte.is_ascii_whitespace();
    finder.find_iter(part.content).any(|hit| {
        let before =
            |count: usize| hit.start().checked_sub(count).and_then(|at| part.content.get(at));
        if part.is_code {
            // A piece of a literal that an instruction holds.
            return before(1).is_some_and(is_text) && before(2).is_some_and(is_text);
        }
        match part.content.get(hit.end()) {
            None | Some(0) => before(1).is_none_or(is_text),
            Some(next) => is_text(next),
        }
    })
}

/// Whether a file, links followed, holds the text anywhere.
///
/// # Errors
/// The system's error, or that the file is too large.
pub(crate) fn holds_text(path: &Path, text: &[u8]) -> io::Result<bool> {
    let metadata = path.metadata()?;
    if !metadata.is_file() || metadata.len() > LARGEST_SEARCHED_FILE {
        return Err(io::Error::other("no file of a size that is searched"));
    }
    let finder = AhoCorasick::new([text]).map_err(io::Error::other)?;
    Ok(finder.is_match(&std::fs::read(path)?))
}

/// Whether one of the words stands in the text with nothing around it that belongs to a name.
pub(crate) fn has_word_of(content: &[u8], words: &[&str]) -> bool {
    words.iter().any(|word| has_word(content, word.as_bytes()))
}

/// Whether the word stands in the text with nothing around it that belongs to a name.
fn has_word(content: &[u8], word: &[u8]) -> bool {
    let ends = |byte: Option<&u8>| byte.is_none_or(|b| !b.is_ascii_alphanumeric() && *b != b'_');
    let mut places = content.windows(word.len()).enumerate().filter(|(_, part)| *part == word);
    places.any(|(at, _)| {
        ends(at.checked_sub(1).and_then(|before| content.get(before)))
            && ends(content.get(at + word.len()))
    })
}

/// Whether something in a program refers to a place where `PATH` stands. Literals lie beside each
/// other with no mark between them, and most such places are parts of longer ones.
fn uses_search_path<'data>(
    program: &object::File<'data, impl ReadRef<'data>>,
    parts: &[LoadedPart<'_>],
) -> bool {
    let word = SEARCH_PATH.as_bytes();
    let mut places = BTreeSet::new();
    // The standard library has it in its code, to look programs up.
    for part in parts.iter().filter(|part| !part.is_code) {
        let starts = part.content.windows(word.len()).enumerate().filter(|(_, at)| *at == word);
        places.extend(starts.map(|(at, _)| part.address.wrapping_add(at as u64)));
    }
    if program.architecture() != Architecture::X86_64 || places.is_empty() {
        return !places.is_empty();
    }
    let libtest: Functions = program
        .symbols()
        .filter(|symbol| symbol.name().is_ok_and(|name| name.contains(LIBTEST_OPTIONS)))
        .map(|symbol| extent(&symbol))
        .collect();
    refers_to(program, parts, &places, |at| !libtest.contain(at))
}

/// Whether something in a program with symbols goes through all variables: it refers to what gives
/// them, and is no function of the standard library that passes them on to a child. Optimization of
/// the whole program may compile what gives them into what uses them; the C library's list remains.
fn goes_through_all<'data>(
    program: &object::File<'data, impl ReadRef<'data>>,
    parts: &[LoadedPart<'_>],
) -> bool {
    let mut places = BTreeSet::new();
    let mut own = Vec::new();
    for symbol in program.symbols() {
        let Ok(name) = symbol.name_bytes() else { continue };
        let name = readable(name);
        if symbol.is_definition() && gives_all(&name) {
            places.insert(symbol.address());
        }
        if PASS_ALL_ON.iter().any(|start| name.starts_with(start)) {
            own.push(extent(&symbol));
        }
    }
    if program.architecture() != Architecture::X86_64 {
        // Its code is not searched; what only passes variables on is linked everywhere.
        return !places.is_empty();
    }
    places.extend(import_slots(program, |name| gives_all(&readable(name))));
    let own: Functions = own.into_iter().collect();
    refers_to(program, parts, &places, |at| !own.contain(at))
}

fn gives_all(name: &str) -> bool {
    LIST_OF_ALL.contains(&name) || GIVE_ALL.iter().any(|start| name.starts_with(start))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(content: &[u8], texts: &[&str]) -> Mentions {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), content).unwrap();
        mentions(file.path(), texts, SearchScope::All).unwrap()
    }

    #[test]
    fn names_are_found_in_any_case_and_beside_each_other() {
        let texts = ["database", "base_url", "flavour", "mode"];
        let mentions = found(b"xDATABASE_URLxFlavoUrx", &texts);
        assert_eq!(mentions.found, [true, true, true, false]);
        assert_eq!(mentions.any, None);
    }

    #[test]
    fn the_search_path_is_used_where_its_name_stands_alone() {
        let uses = |text: &str| found(text.as_bytes(), &["path", "PATH"]).found;
        assert_eq!(uses("export PATH=/x"), [true, true]);
        assert_eq!(uses("LIBRARY_PATH Path PATHS"), [true, false]);
    }

    #[test]
    fn names_are_found_in_utf_16_of_either_byte_order() {
        let wide = |text: &str, to_bytes: fn(u16) -> [u8; 2]| -> Vec<u8> {
            text.encode_utf16().flat_map(to_bytes).collect()
        };
        for to_bytes in [u16::to_le_bytes, u16::to_be_bytes] {
            for before in ["", "a", "\0"] {
                let content = [before.as_bytes(), &wide("DATABASE_URL", to_bytes), b"xy"].concat();
                let texts = ["database", "base_url", "mode", "PATH"];
                assert_eq!(found(&content, &texts).found, [true, true, false, false], "{before:?}");
            }
            assert_eq!(found(&wide("x PATH x", to_bytes), &["PATH"]).found, [true]);
        }
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn a_file_of_the_kernel_is_searched_whatever_length_it_says() {
        let texts = ["linux", "no such text"];
        let mentions = mentions(Path::new("/proc/version"), &texts, SearchScope::All).unwrap();
        assert_eq!(mentions.found, [true, false]);
    }

    #[test]
    fn a_file_that_hides_names_may_contain_any() {
        for content in
            [&b"PK\x03\x04rest"[..], b"\x1f\x8b\x08", b"open /proc/self/environ", b"echo ${!NICK*}"]
        {
            assert!(found(content, &["x"]).any.is_some());
        }
        assert_eq!(found(b"the environment", &["x"]).any, None);
        assert_eq!(found(b"#include <bits/environments.h>", &["x"]).any, None);
        assert!(found(b"/proc/self/environment", &["x"]).any.is_some());
    }

    #[test]
    fn bytes_that_look_like_the_shells_by_chance_name_nothing() {
        let is_found = |content: &[u8], is_code| {
            let finder = AhoCorasick::new([INDIRECTION]).unwrap();
            makes_up_names(
                &LoadedPart { content, address: 0, is_code, is_writable: false },
                &finder,
            )
        };
        for text in [&b"echo ${!NICK*}"[..], b"${!", b"echo ${!\0rest", b"\0\0${!NAME}"] {
            assert!(is_found(text, false), "{text:?}");
        }
        assert!(is_found(b"\x48\xb8echo ${!\x48", true), "a literal in an instruction");
        // A call and a load over this distance, and an address in a table.
        assert!(!is_found(b"\xdf\xe8${!\0\xcc", true) && !is_found(b"\x48\x8d=${!\0\xe8", true));
        assert!(!is_found(b"\0\0\0\0${!\0\0\0\0\0", false));
    }

    #[test]
    fn only_what_is_loaded_of_a_program_is_searched() {
        let own = std::env::current_exe().unwrap();
        // Literals are loaded; the names of files are in the debug information, too.
        let all = SearchScope::All;
        let mentions = mentions(&own, &["literal of this very test"], all).unwrap();
        assert_eq!(mentions.found, [true]);
        assert!(!mentions.is_stripped);
        // These tests go through their environment.
        assert!(std::env::vars_os().count() > 0 && mentions.any.is_some());
        assert!(super::mentions(Path::new("/"), &[], all).is_err());
        assert_eq!(super::mentions(&own, &["PATH"], all).unwrap().found, [true]);
        let texts = super::mentions(&own, &["vars", "PATH"], SearchScope::Texts).unwrap();
        assert_eq!((texts.found, texts.any), (vec![true, true], None));
    }
}
