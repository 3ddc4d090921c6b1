//! Single edits of one source file, as text: a comment in place, a comment that moves lines, a
//! private function's body, a test's body, a new test, a public signature, a fixture, a manifest.
//!
//! Each edit is made on the original files and undoes the edit before, and none of them breaks the
//! build or a test: what is measured is the wait, not the failure.

use std::fs;
use std::path::{Path, PathBuf};

/// An edit: its name, and the whole content of each file that an edit of this play changes.
pub(crate) struct Edit {
    pub(crate) name: &'static str,
    pub(crate) files: Vec<(PathBuf, Vec<u8>)>,
}

/// The edits that `file` allows.
pub(crate) fn all(clone: &Path, file: &Path, fixture: Option<&Path>) -> Result<Vec<Edit>, String> {
    let manifest = manifest_of(clone, file)?;
    let mut originals = Vec::new();
    for path in [Some(file), fixture, Some(&manifest)].into_iter().flatten() {
        let bytes = fs::read(clone.join(path));
        let bytes = bytes.map_err(|error| format!("read {}: {error}", path.display()))?;
        originals.push((path.to_owned(), bytes));
    }
    let text = String::from_utf8(originals[0].1.clone())
        .map_err(|_| format!("{} is no UTF-8", file.display()))?;
    let with = |path: &Path, more: &[u8]| {
        let original = originals.iter().find(|(original, _)| original == path);
        original.map(|(_, bytes)| [bytes, more].concat())
    };
    let source = |edited: Option<String>| (Some(file), edited.map(String::into_bytes));
    let edited = [
        ("a comment in place", source(comment_in_place(&text))),
        ("a comment that moves lines", source(Some(format!("// edited\n{text}")))),
        ("a private function's body", source(private_body(&text))),
        ("a test's body", source(test_body(&text))),
        ("a new test", source(Some(format!("{text}{NEW_TEST}")))),
        ("a public signature", source(Some(format!("{text}{NEW_SIGNATURE}")))),
        ("a fixture", (fixture, fixture.and_then(|fixture| with(fixture, b"\n")))),
        ("a manifest", (Some(&*manifest), with(&manifest, NEW_METADATA))),
    ];
    let mut edits = Vec::new();
    for (name, (path, content)) in edited {
        let (Some(path), Some(content)) = (path, content) else {
            println!("{}: no place for {name}", file.display());
            continue;
        };
        let mut files = originals.clone();
        for (original, bytes) in &mut files {
            if original == path {
                bytes.clone_from(&content);
            }
        }
        edits.push(Edit { name, files });
    }
    Ok(edits)
}

/// Saves the files of an edit, as an editor does.
pub(crate) fn write(clone: &Path, files: &[(PathBuf, Vec<u8>)]) -> Result<(), String> {
    for (file, content) in files {
        let path = clone.join(file);
        // A file that is saved without a change would be built again.
        if fs::read(&path).is_ok_and(|now| now == *content) {
            continue;
        }
        fs::write(&path, content).map_err(|error| format!("write {}: {error}", path.display()))?;
    }
    Ok(())
}

const NEW_TEST: &str = "\n#[cfg(test)]\nmod edited {\n    #[test]\n    fn edited() {}\n}\n";
const NEW_METADATA: &[u8] = b"\n[package.metadata.edited]\nby = \"hand\"\n";
const NEW_SIGNATURE: &str = "\n/// Edited.\n#[doc(hidden)]\npub fn edited(_: u8) {}\n";

/// A word more in the first plain comment.
fn comment_in_place(text: &str) -> Option<String> {
    let is_comment = |line: &str| {
        let line = line.trim_start();
        line.starts_with("// ") && line.len() > 8
    };
    change_line(text, is_comment, |line| format!("{line} edited"))
}

/// A statement more in the first function that is private and no test.
fn private_body(text: &str) -> Option<String> {
    let mut after_attribute = false;
    let is_private = |line: &str| {
        let code = line.trim_start();
        let has_attribute = std::mem::replace(&mut after_attribute, code.starts_with("#["));
        !has_attribute && code.starts_with("fn ") && code.ends_with('{')
    };
    change_line(text, is_private, |line| format!("{line}\n{STATEMENT}"))
}

/// A statement more in the first test.
fn test_body(text: &str) -> Option<String> {
    let mut in_test = false;
    let is_test = |line: &str| {
        let code = line.trim_start();
        in_test |= code == "#[test]";
        in_test && code.starts_with("fn ") && code.ends_with('{')
    };
    change_line(text, is_test, |line| format!("{line}\n{STATEMENT}"))
}

/// Something that the optimizer leaves in a build for tests, and that no lint minds.
const STATEMENT: &str = "        let _edited = std::hint::black_box(1_u8);";

/// Changes the first line that is wanted.
fn change_line(
    text: &str,
    mut is_wanted: impl FnMut(&str) -> bool,
    change: impl Fn(&str) -> String,
) -> Option<String> {
    let at = text.lines().position(&mut is_wanted)?;
    let mut lines: Vec<_> = text.lines().map(str::to_owned).collect();
    lines[at] = change(&lines[at]);
    Some(lines.join("\n") + "\n")
}

/// The manifest of the package that `file` belongs to.
fn manifest_of(clone: &Path, file: &Path) -> Result<PathBuf, String> {
    let manifest = file.ancestors().skip(1).map(|folder| folder.join("Cargo.toml"));
    manifest
        .into_iter()
        .find(|manifest| clone.join(manifest).exists())
        .ok_or(format!("{} belongs to no package", file.display()))
}
