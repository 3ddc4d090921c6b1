//! Searching a file for names, and what others say of one that is not here.

use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use crate::cache::KnownMentions;
use crate::hasher::{Mentions, SearchScope, mentions, mentions_in_text};

/// Searches a file's content, a folder's names, a link's target.
pub(super) fn search_in(
    path: &Path,
    texts: &[&str],
    scope: SearchScope,
) -> std::io::Result<Mentions> {
    let kind = path.symlink_metadata()?.file_type();
    if kind.is_symlink() {
        return mentions_in_text(path.read_link()?.as_os_str().as_bytes(), texts);
    }
    if kind.is_dir() {
        let mut names = Vec::new();
        for entry in path.read_dir()? {
            names.extend_from_slice(entry?.file_name().as_bytes());
            names.push(0);
        }
        return mentions_in_text(&names, texts);
    }
    mentions(path, texts, scope)
}

/// What is known of a file with what a signer says of it. What was found here comes first.
pub(super) fn with_told(known: &KnownMentions, told: &KnownMentions) -> KnownMentions {
    let found = told.found.iter().chain(&known.found);
    let found = found.map(|(text, is_in)| (text.clone(), *is_in)).collect();
    let searched = if known.found.is_empty() { told } else { known };
    KnownMentions { found, ..searched.clone() }
}
