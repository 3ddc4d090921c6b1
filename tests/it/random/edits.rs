//! The edits of files that happen while a developer works.

use std::fs;
use std::io::Write as _;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};

use proptest::prelude::*;

/// Folders and files of the game, all below the root or beside it, in the dependency outside.
const FOLDERS: &[&str] = &["src", "src/a", "src/a/b", "data", "data/x", "new/deep/er", "../outer"];
const NAMES: &[&str] = &["f", "g.rs", "ignored-1", "ignored-2", "h.txt"];
/// None of these matches a name that the model takes for one that surely counts.
const PATTERNS: &[&str] = &["", "ignored-*\n", "ignored-1\n", "*-2\n!ignored-2\n", "/data/x\n"];

/// One step.
#[derive(Clone, Debug)]
pub(super) enum Edit {
    /// The tree as each sequence begins: everything goes, a few files come.
    Reset,
    Write(PathBuf, u8),
    /// In place, without the file being opened anew for nothing: same inode, same length.
    Overwrite(PathBuf, u8),
    /// As editors save.
    SaveByRename(PathBuf, u8),
    Rename(PathBuf, PathBuf),
    /// A new chain of folders and a file in the last one, at once.
    Nest(PathBuf, u8),
    Delete(PathBuf),
    Link(PathBuf, PathBuf),
    Mode(PathBuf, bool),
    Ignore(PathBuf, usize),
    /// As a checkout does: many files in many folders, some new, some gone.
    Checkout(u8),
    /// Whatever is there becomes a file; a file becomes a folder with a file in it.
    Swap(PathBuf, u8),
    /// A name elsewhere. Making it is not seen by anyone who watches the file's folder: inotify
    /// reports it on the file alone.
    OtherName(PathBuf),
    /// A write through that name, which is not seen either.
    ThroughOtherName(u8),
    /// A second name in the tree, and not one that is ignored: that is as good as elsewhere.
    SecondName(PathBuf, PathBuf),
    /// The dependency outside comes or goes.
    Depend(bool),
    /// Two folders change places.
    Exchange(PathBuf, PathBuf),
    /// Another terminal asks from now on, in which the variable has another value or none.
    Variable(&'static str, Option<&'static str>),
}

/// Variables that are no matter of the tree.
const VARIABLES: &[&str] = &["STARSHIP_SHELL", "EDITOR", "WEATHER_MODE", "RUST_LOG", "LANG", "CI"];

/// Sequences of edits.
pub(super) fn edits() -> impl Strategy<Value = Vec<Edit>> {
    let folder = || prop::sample::select(FOLDERS).prop_map(PathBuf::from);
    let file = || {
        let name = prop::sample::select(NAMES);
        (folder(), name).prop_map(|(folder, name)| folder.join(name))
    };
    let place = || prop_oneof![3 => file(), 1 => folder()];
    let counted = || {
        let folder = prop::sample::select(vec!["src", "src/a", "src/a/b"]);
        let name = prop::sample::select(vec!["f", "g.rs", "h.txt"]);
        (folder, name).prop_map(|(folder, name)| PathBuf::from(folder).join(name))
    };
    let byte = || any::<u8>();
    let edit = prop_oneof![
        4 => (file(), byte()).prop_map(|(path, byte)| Edit::Write(path, byte)),
        4 => (file(), byte()).prop_map(|(path, byte)| Edit::Overwrite(path, byte)),
        2 => (file(), byte()).prop_map(|(path, byte)| Edit::SaveByRename(path, byte)),
        3 => (place(), place()).prop_map(|(from, to)| Edit::Rename(from, to)),
        3 => (folder(), byte()).prop_map(|(path, byte)| Edit::Nest(path, byte)),
        2 => place().prop_map(Edit::Delete),
        2 => (file(), place()).prop_map(|(at, to)| Edit::Link(at, to)),
        2 => (file(), any::<bool>()).prop_map(|(path, on)| Edit::Mode(path, on)),
        2 => (folder(), 0..PATTERNS.len()).prop_map(|(path, which)| Edit::Ignore(path, which)),
        1 => byte().prop_map(Edit::Checkout),
        2 => (place(), byte()).prop_map(|(path, byte)| Edit::Swap(path, byte)),
        2 => file().prop_map(Edit::OtherName),
        2 => byte().prop_map(Edit::ThroughOtherName),
        1 => (counted(), counted()).prop_map(|(from, to)| Edit::SecondName(from, to)),
        1 => any::<bool>().prop_map(Edit::Depend),
        1 => (folder(), folder()).prop_map(|(one, other)| Edit::Exchange(one, other)),
        3 => (prop::sample::select(VARIABLES), prop::sample::select(vec![None, Some("a"), Some("b")]))
            .prop_map(|(name, value)| Edit::Variable(name, value)),
    ];
    prop::collection::vec(edit, 1..10)
}

impl Edit {
    /// Whether no event in the tree's folders tells of it.
    pub(super) fn is_untold(&self) -> bool {
        matches!(self, Self::OtherName(_) | Self::ThroughOtherName(_))
    }

    /// Does it. Where the tree does not allow it (no such file, a folder in the way), as much of
    /// it happens as can: what was done is read from the disk, not from here.
    pub(super) fn apply(&self, root: &Path) {
        let at = |path: &PathBuf| root.join(path);
        match self {
            Self::Reset => reset(root),
            Self::Write(path, byte) => write(&at(path), &content(*byte)),
            Self::Overwrite(path, byte) => overwrite(&at(path), *byte),
            Self::SaveByRename(path, byte) => {
                let fresh = at(path).with_extension("swp");
                write(&fresh, &content(*byte));
                if fs::rename(&fresh, at(path)).is_err() {
                    remove(&fresh);
                }
            }
            Self::Rename(from, to) => drop(fs::rename(at(from), at(to))),
            Self::Nest(path, byte) => {
                let folder = at(path).join(format!("n{}", byte % 3)).join("b").join("c");
                write(&folder.join("f"), &content(*byte));
            }
            Self::Delete(path) => remove(&at(path)),
            Self::Link(path, to) => {
                remove(&at(path));
                // Relative, so that a link may hit, dangle or lead back to itself.
                let _ = symlink(to, at(path));
            }
            Self::Mode(path, on) => {
                let mode = fs::Permissions::from_mode(if *on { 0o755 } else { 0o644 });
                // A link's target may be anything; only the game's own files are changed.
                if fs::symlink_metadata(at(path)).is_ok_and(|file| file.is_file()) {
                    fs::set_permissions(at(path), mode).unwrap();
                }
            }
            Self::Ignore(path, which) => write(&at(path).join(".gitignore"), PATTERNS[*which]),
            Self::Checkout(byte) => checkout(root, *byte),
            Self::Swap(path, byte) => {
                let was_file = fs::symlink_metadata(at(path)).is_ok_and(|file| file.is_file());
                remove(&at(path));
                let file = if was_file { at(path).join("g.rs") } else { at(path) };
                write(&file, &content(*byte));
            }
            Self::OtherName(path) => {
                remove(&other_name(root));
                let _ = fs::hard_link(at(path), other_name(root));
            }
            Self::ThroughOtherName(byte) => overwrite(&other_name(root), *byte),
            // A link's text cannot be changed through another name of the link.
            Self::SecondName(from, to) => {
                if fs::symlink_metadata(at(from)).is_ok_and(|file| file.is_file()) {
                    let _ = fs::hard_link(at(from), at(to));
                }
            }
            Self::Depend(on) => manifest(root, *on),
            Self::Exchange(one, other) => {
                let aside = root.join("src/aside");
                remove(&aside);
                if fs::rename(at(one), &aside).is_ok() {
                    let _ = fs::rename(at(other), at(one));
                    let _ = fs::rename(&aside, at(other));
                }
                remove(&aside);
            }
            // Nothing in the tree.
            Self::Variable(..) => {}
        }
    }
}

fn other_name(root: &Path) -> PathBuf {
    root.with_file_name("out").join("other-name")
}

fn content(byte: u8) -> String {
    "x".repeat(usize::from(byte % 4)) + &byte.to_string()
}

fn write(path: &Path, text: &str) {
    // Never through a link: it may lead anywhere.
    if fs::symlink_metadata(path).is_ok_and(|file| file.is_symlink()) {
        remove(path);
    }
    if let Some(folder) = path.parent() {
        let _ = fs::create_dir_all(folder);
    }
    let _ = fs::write(path, text);
}

fn overwrite(path: &Path, byte: u8) {
    let plain = fs::symlink_metadata(path).is_ok_and(|file| file.is_file());
    let Ok(length) = fs::metadata(path).map(|file| file.len()) else { return };
    if plain {
        let mut file = fs::OpenOptions::new().write(true).open(path).unwrap();
        let bytes = vec![b'a' + byte % 26; usize::try_from(length).unwrap()];
        file.write_all(&bytes).unwrap();
    }
}

fn remove(path: &Path) {
    match fs::symlink_metadata(path) {
        Ok(file) if file.is_dir() => fs::remove_dir_all(path).unwrap(),
        Ok(_) => fs::remove_file(path).unwrap(),
        Err(_) => {}
    }
}

fn manifest(root: &Path, outside: bool) {
    let dependency = if outside { "outer = { path = '../outer' }\n" } else { "" };
    let text = format!(
        "[package]\nname = 'p'\nversion = '0.1.0'\nedition = '2021'\n[dependencies]\n{dependency}"
    );
    write(&root.join("Cargo.toml"), &text);
}

fn checkout(root: &Path, byte: u8) {
    for (number, folder) in (0..60u8).zip(FOLDERS.iter().cycle()) {
        let file = root.join(folder).join(format!("many-{number}"));
        if (number ^ byte).is_multiple_of(4) {
            remove(&file);
        } else {
            write(&file, &content(number ^ byte));
        }
    }
}

fn reset(root: &Path) {
    for entry in fs::read_dir(root).unwrap().flatten() {
        if entry.file_name() != ".git" {
            remove(&entry.path());
        }
    }
    let outer = root.with_file_name("outer");
    remove(&outer);
    write(&outer.join("Cargo.toml"), "[package]\nname = 'outer'\nversion = '0.1.0'\n");
    write(&outer.join("f"), "outside");
    manifest(root, false);
    write(&root.join("src/lib.rs"), "");
    for folder in ["src", "src/a", "src/a/b", "data", "data/x"] {
        write(&root.join(folder).join("f"), folder);
    }
}
