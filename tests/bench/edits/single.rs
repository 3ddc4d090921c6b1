//! Single edits of one source file, as text: a comment in place, a comment that moves lines, a
//! private function's body, a test's body, a new test, a public signature, a fixture, a manifest.
//!
//! Each edit is made on the original files, not on top of the edit before, and none of them breaks
//! the build or a test: what is measured is the wait, not the failure.

use std::fs;
use std::path::{Path, PathBuf};

/// An edit: its name, and the whole content of each file that differs from the commit.
pub(crate) struct Edit {
    pub(crate) name: &'static str,
    pub(crate) files: Vec<(PathBuf, Vec<u8>)>,
}

/// The edits that `file` allows, each followed by the way back to the original.
pub(crate) fn all(clone: &Path, file: &Path, fixture: Option<&Path>) -> Result<Vec<Edit>, String> {
    let read = |file: &Path| {
        let bytes = fs::read(clone.join(file));
        bytes.map_err(|error| format!("read {}: {error}", file.display()))
    };
    let original = read(file)?;
    let text = String::from_utf8(original.clone())
        .map_err(|_| format!("{} is no UTF-8", file.display()))?;
    let sources = [
        ("a comment in place", comment_in_place(&text)),
        ("a comment that moves lines", Some(format!("// edited\n{text}"))),
        ("a private function's body", private_body(&text)),
        ("a test's body", test_body(&text)),
        ("a new test", Some(format!("{text}{NEW_TEST}"))),
        ("a public signature", Some(format!("{text}{NEW_SIGNATURE}"))),
    ];
    let mut edits = Vec::new();
    let mut add = |name, file: &Path, edited: Vec<u8>, original: &[u8]| {
        edits.push(Edit { name, files: vec![(file.to_owned(), edited)] });
        edits.push(Edit { name: "back", files: vec![(file.to_owned(), original.to_vec())] });
    };
    for (name, edited) in sources {
        match edited {
            Some(edited) => add(name, file, edited.into_bytes(), &original),
            None => println!("{} has no place for {name}", file.display()),
        }
    }
    if let Some(fixture) = fixture {
        let original = read(fixture)?;
        add("a fixture", fixture, [&original[..], b"\n"].concat(), &original);
    }
    let manifest = manifest_of(clone, file)?;
    let original = read(&manifest)?;
    let edited = [&original[..], b"\n[package.metadata.edited]\nby = \"hand\"\n"].concat();
    add("a manifest", &manifest, edited, &original);
    Ok(edits)
}

/// Saves the files of an edit, as an editor does.
pub(crate) fn write(clone: &Path, files: &[(PathBuf, Vec<u8>)]) -> Result<(), String> {
    for (file, content) in files {
        let path = clone.join(file);
        fs::write(&path, content).map_err(|error| format!("write {}: {error}", path.display()))?;
    }
    Ok(())
}

const NEW_TEST: &str = "\n#[cfg(test)]\nmod edited {\n    #[test]\n    fn edited() {}\n}\n";
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
