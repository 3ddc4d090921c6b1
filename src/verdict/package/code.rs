//! What counts of a package's files where nothing can see a plain comment in a source.
//!
//! The compiler drops comments, and all lines and columns stay as they are: only a reader of a source's text
//! can see them. Each possible reader is known by something, or counts as one that sees them:
//!
//! | reader | known by |
//! |---|---|
//! | a test, or what it starts | the observation of its run: a source that it read counts by content |
//! | rustdoc, as the compiler of examples | the same: only what its first process alone has read counts as compiled |
//! | `include_str!` of a source | the texts of all sources, those of a registry too |
//! | a procedural macro | its library: symbols of the functions that give text, names of those macros |
//! | a build script of the workspace, a macro that opens files | the whole tree counts then |
//! | a wrapper around the compiler, a compiler of one's own | cargo's configuration |
//! | a test that reads its own program's debug information | its observation |
//!
//! A text that is not sure to be understood, and a comment in which the compiler refuses a character, counts
//! as it is.

use std::cell::RefCell;
use std::collections::HashMap;
use std::path::{Path, PathBuf};

use super::listing::{SourceListing, from_root};
use crate::cache::{Cache, KnownMentions, SourceCode};
use crate::compiler::{Product, UnitInputs, sources_of_library};
use crate::hasher::{ListedEntry, macro_sees_comments};
use crate::model::{Digest, Digester};
use crate::verdict::fingerprint::digest_of_stamp;
use crate::workspace::{PathStamp, may_embed_source, without_comments, without_tests};

/// What stands in the memo of a library.
const SEES_COMMENTS: &str = "comments";

/// Tells whether a build has a reader of its sources' text.
pub(super) struct SourceReaders<'a> {
    pub(super) root: &'a Path,
    pub(super) cache: &'a Cache,
    pub(super) listing: &'a SourceListing,
    pub(super) code: &'a CodeDigests,
    /// Whether there is a program around the compiler.
    pub(super) has_wrapper: bool,
    /// What is known of libraries.
    pub(super) known: RefCell<HashMap<PathBuf, bool>>,
}

impl SourceReaders<'_> {
    /// Whether a comment can be seen by what compiles these units and products.
    pub(super) fn see_comments<'b>(
        &self,
        mut units: impl Iterator<Item = &'b UnitInputs>,
        mut products: impl Iterator<Item = &'b Product>,
    ) -> bool {
        let embeds = |file: &PathBuf| match self.listing.entry(&from_root(self.root, file)) {
            Some(entry) => self.code.embeds(entry),
            None => embeds_source(file),
        };
        let sees = |library: &PathBuf| {
            let known = self.known.borrow().get(library).copied();
            known.unwrap_or_else(|| {
                let sees = library_sees_comments(library, self.root, self.cache);
                self.known.borrow_mut().insert(library.clone(), sees);
                sees
            })
        };
        let is_macro = |product: &Product| product.kinds.iter().any(|kind| kind == "proc-macro");
        self.has_wrapper
            || units.any(|unit| unit.is_unknown || unit.files.iter().any(embeds))
            || products.any(|product| {
                // What a package of the workspace embeds, its units tell.
                (!product.local || is_macro(product))
                    && product.files.iter().filter(|file| is_library(file)).any(sees)
            })
    }
}

/// What counts of sources, by the digests of their contents.
#[derive(Debug)]
pub(super) struct CodeDigests(HashMap<Digest, SourceCode>);

impl CodeDigests {
    /// The digests for all listed sources of the workspace at `root`.
    pub(super) fn of(listing: &SourceListing, root: &Path, cache: &Cache) -> Self {
        use std::os::unix::ffi::OsStrExt as _;
        // Another number for other rules of what is left of a text.
        let mut workspace = Digester::new("sources without comments 1");
        workspace.field(root.as_os_str().as_bytes());
        let workspace = workspace.finish();
        let remembered: Vec<SourceCode> = cache.memo(&workspace).unwrap_or_default();
        let remembered: HashMap<Digest, SourceCode> =
            remembered.into_iter().map(|source| (source.content, source)).collect();
        let mut is_new = false;
        let look = |entry: &ListedEntry| {
            let known = remembered.get(&entry.content).copied();
            let source = known.or_else(|| {
                is_new = true;
                source_code(root, entry)
            })?;
            Some((entry.content, source))
        };
        let sources = listing.files().filter(|entry| is_source(&entry.path));
        let all: HashMap<Digest, SourceCode> = sources.filter_map(look).collect();
        if is_new {
            cache.store_memo(&workspace, &all.values().copied().collect::<Vec<_>>());
        }
        Self(all)
    }

    fn source(&self, entry: &ListedEntry) -> Option<&SourceCode> {
        self.0.get(&entry.content).filter(|_| is_source(&entry.path))
    }

    /// What counts of a file.
    pub(super) fn content(&self, entry: &ListedEntry) -> Digest {
        self.source(entry).map_or(entry.content, |source| source.code)
    }

    /// What counts of a file for what is compiled without tests, if the compiler has accepted the file.
    pub(super) fn library(&self, entry: &ListedEntry) -> Digest {
        self.source(entry).map_or(entry.content, |source| source.library)
    }

    /// Whether the compiler may embed a source because of this file.
    pub(super) fn embeds(&self, entry: &ListedEntry) -> bool {
        is_source(&entry.path) && self.source(entry).is_none_or(|source| source.embeds)
    }
}

/// Whether a compiler links it.
pub(super) fn is_library(path: &Path) -> bool {
    path.extension()
        .is_some_and(|end| ["rlib", "rmeta", "so"].iter().any(|library| end == *library))
}

fn is_source(path: &Path) -> bool {
    path.extension().is_some_and(|end| end == "rs")
}

/// A listed source; `None` if it is another one by now.
fn source_code(root: &Path, entry: &ListedEntry) -> Option<SourceCode> {
    let content = entry.content;
    let text = std::fs::read(root.join(&entry.path)).ok();
    let text = text.filter(|text| Digest::of(text) == content)?;
    let whole = |text: &str| {
        let embeds = may_embed_source(text);
        SourceCode { content, code: content, library: content, embeds }
    };
    let Ok(text) = String::from_utf8(text) else {
        // It cannot have been compiled.
        return Some(whole(""));
    };
    let Some(code) = without_comments(&text) else { return Some(whole(&text)) };
    let digest = |text: &str| {
        let mut digester = Digester::new("source without comments 1");
        digester.field(text.as_bytes());
        digester.finish()
    };
    let library = without_tests(&code);
    let library = library.map_or_else(|| digest(&code), |library| digest(&library));
    Some(SourceCode { code: digest(&code), library, ..whole(&code) })
}

/// Whether the source at this path may have the compiler embed another one.
pub(super) fn embeds_source(file: &Path) -> bool {
    let may_embed = |text: String| {
        let code = without_comments(&text);
        may_embed_source(&code.unwrap_or(text))
    };
    is_source(file) && std::fs::read_to_string(file).map_or(true, may_embed)
}

/// Whether the sources of a library may have the compiler embed a source, or its macros see comments;
/// remembered by the library's stamp.
pub(super) fn library_sees_comments(library: &Path, root: &Path, cache: &Cache) -> bool {
    use std::os::unix::ffi::OsStrExt as _;
    let stamp = PathStamp::of(library);
    let mut state = Digester::new("comments and a library 1");
    state.field(library.as_os_str().as_bytes()).digest(&digest_of_stamp(&stamp));
    let state = state.finish();
    if let Some(known) = cache.memo::<KnownMentions>(&state) {
        return known.found.get(SEES_COMMENTS) != Some(&false);
    }
    let is_macro = library.extension().is_some_and(|end| end == "so");
    let sources = || sources_of_library(library, root);
    let sees = (is_macro && macro_sees_comments(library).unwrap_or(true))
        || sources().is_none_or(|sources| sources.iter().any(|file| embeds_source(file)));
    if PathStamp::of(library) == stamp {
        let found = [(SEES_COMMENTS.to_owned(), sees)].into();
        cache.store_memo(&state, &KnownMentions { found, ..KnownMentions::default() });
    }
    sees
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(path: &str, text: &str) -> ListedEntry {
        ListedEntry { path: path.into(), sort: b'f', content: Digest::of(text.as_bytes()) }
    }

    #[test]
    fn a_source_counts_without_comments_if_it_is_still_the_listed_one() {
        let dir = tempfile::tempdir().unwrap();
        let cache = Cache::open(dir.path().join("cache"));
        let root = dir.path();
        let code = |path: &str, listed: &str, there: &str| {
            std::fs::write(root.join(path), there).unwrap();
            let entry = entry(path, listed);
            let listing = SourceListing::of_entries([entry.clone()]);
            let code = CodeDigests::of(&listing, root, &cache);
            (code.content(&entry), code.embeds(&entry), entry.content)
        };
        let (one, embeds, whole) = code("a.rs", "a(); // one\n", "a(); // one\n");
        assert!(one != whole && !embeds);
        let (other, ..) = code("a.rs", "a(); // other\n", "a(); // other\n");
        assert_eq!(one, other);
        let (code_of, ..) = code("a.rs", "b(); // one\n", "b(); // one\n");
        assert_ne!(one, code_of);
        // What is remembered of a content needs no file.
        assert_eq!(code("a.rs", "b(); // one\n", "c();\n").0, code_of);
        let (edited, embeds, whole) = code("a.rs", "d(); // one\n", "e();\n");
        assert!(edited == whole && embeds, "it is another one by now");
        let (text, embeds, whole) = code("a.txt", "a // one\n", "a // one\n");
        assert!(text == whole && !embeds, "no source");
        let (open, _, whole) = code("a.rs", "\" // one\n", "\" // one\n");
        assert_eq!(open, whole, "not understood");
        assert!(code("a.rs", "include_str!(\"b.rs\")", "include_str!(\"b.rs\")").1);
        assert!(!code("a.rs", "// include_str!(\"b.rs\")\n", "// include_str!(\"b.rs\")\n").1);
    }
}
