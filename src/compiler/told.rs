//! What the lists of compilers say, and the output of build scripts.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::path::{Path, PathBuf};

/// The files of a list in make's form: `target: file file`, a space in a name as `\ `.
pub(super) fn dependencies(bytes: &[u8]) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for line in bytes.split(|byte| *byte == b'\n') {
        let Some(cut) = line.windows(2).position(|pair| pair == b": ") else { continue };
        if line.starts_with(b"#") {
            continue;
        }
        let mut name = Vec::new();
        let mut rest = line[cut + 2..].iter().peekable();
        while let Some(&byte) = rest.next() {
            match byte {
                b'\\' if rest.next_if(|next| **next == b' ').is_some() => name.push(b' '),
                b' ' if name.is_empty() => {}
                b' ' => found.push(std::mem::take(&mut name)),
                b'\r' => {}
                byte => name.push(byte),
            }
        }
        if !name.is_empty() {
            found.push(name);
        }
    }
    found.into_iter().map(|name| OsString::from_vec(name).into()).collect()
}

/// Whether a build script says anything of when it is to run again.
pub(super) fn declares_something(output: &[u8]) -> bool {
    output.split(|byte| *byte == b'\n').any(|line| {
        let line = line.strip_prefix(b"cargo:").unwrap_or_default();
        line.strip_prefix(b":").unwrap_or(line).starts_with(b"rerun-if-")
    })
}

/// The paths of `cargo:rerun-if-changed=` lines.
pub(super) fn watched(output: &[u8]) -> impl Iterator<Item = &Path> {
    directives(output, "rerun-if-changed=").map(|path| Path::new(OsStr::from_bytes(path)))
}

/// What stands behind `cargo:WHAT` in the lines that begin so.
pub(super) fn directives<'a>(output: &'a [u8], what: &str) -> impl Iterator<Item = &'a [u8]> {
    output.split(|byte| *byte == b'\n').filter_map(move |line| {
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        let line = line.strip_prefix(b"cargo:")?;
        line.strip_prefix(b":").unwrap_or(line).strip_prefix(what.as_bytes())
    })
}

/// The folders in which a build script has the linker look for libraries.
pub(super) fn library_folders(output: &[u8]) -> impl Iterator<Item = &Path> {
    const KINDS: [&[u8]; 5] = [b"dependency", b"crate", b"native", b"framework", b"all"];
    let folders = directives(output, "rustc-link-search=").chain(flags(output, b"-L"));
    folders.map(|text| {
        let (kind, path) = in_two(text);
        let path = path.filter(|_| KINDS.contains(&kind)).unwrap_or(text);
        Path::new(OsStr::from_bytes(path))
    })
}

/// The static libraries that a build script has linked, whose compiler runs in `dir`: those that are in its folders,
/// unless a shared one beside it comes first. The C library's own (`libpthread.a`) are empty.
pub(super) fn static_libraries(output: &[u8], dir: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for library in directives(output, "rustc-link-lib=").chain(flags(output, b"-l")) {
        let (kind, name) = match in_two(library) {
            (kind, Some(name)) => (kind, name),
            (name, None) => (&b""[..], name),
        };
        let is_static = kind.starts_with(b"static");
        if !is_static && kind != b"" && kind != b"dylib" {
            continue;
        }
        let name = name.split(|byte| *byte == b':').next().unwrap_or_default();
        for folder in library_folders(output).map(|folder| dir.join(folder)) {
            let is_of_system = ["/usr", "/lib", "/lib64"].iter().any(|of| folder.starts_with(of))
                && !folder.starts_with("/usr/local");
            let file = |end: &[u8]| folder.join(OsStr::from_bytes(&[b"lib", name, end].concat()));
            let archive = file(b".a");
            if archive.is_file() && (is_static || !is_of_system && !file(b".so").exists()) {
                found.push(archive);
            }
        }
    }
    found
}

/// What a build script gives to the compiler by this flag: `-L x`, `-Lx`.
fn flags<'a>(output: &'a [u8], flag: &'static [u8]) -> impl Iterator<Item = &'a [u8]> {
    directives(output, "rustc-flags=").flat_map(move |line| {
        let mut words = line.split(u8::is_ascii_whitespace).filter(|word| !word.is_empty());
        std::iter::from_fn(move || {
            let rest = words.find_map(|word| word.strip_prefix(flag))?;
            if rest.is_empty() { words.next() } else { Some(rest) }
        })
    })
}

/// What stands before the first `=` of a text, and behind it.
pub(super) fn in_two(text: &[u8]) -> (&[u8], Option<&[u8]>) {
    match text.iter().position(|byte| *byte == b'=') {
        Some(at) => (&text[..at], Some(&text[at + 1..])),
        None => (text, None),
    }
}

/// The variables that a compiler's list names: `# env-dep:NAME` or `# env-dep:NAME=value`.
pub(super) fn variables(list: &[u8]) -> impl Iterator<Item = String> + '_ {
    let lines = list.split(|byte| *byte == b'\n');
    lines.filter_map(|line| line.strip_prefix(b"# env-dep:")).map(name_of)
}

/// The variable's name before `=`.
pub(super) fn name_of(text: &[u8]) -> String {
    let name = text.split(|byte| *byte == b'=').next().unwrap_or_default();
    String::from_utf8_lossy(name).trim_end().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_are_read_with_spaces_and_without_remarks() {
        let text = b"/t/a\\ b-1.d: src/lib.rs a\\ b/x.txt ../out\n\n/t/a: src/lib.rs\n\n\
                     src/lib.rs:\n\n# env-dep:FOO=a: b\n# checksum: x\n";
        let found = dependencies(text);
        let expected = ["src/lib.rs", "a b/x.txt", "../out", "src/lib.rs"].map(PathBuf::from);
        assert_eq!(found, expected);
    }

    #[test]
    fn a_build_script_without_a_word_on_when_it_runs_declares_nothing() {
        for line in ["cargo:rerun-if-changed=x", "cargo::rerun-if-env-changed=X"] {
            assert!(declares_something(line.as_bytes()), "{line}");
        }
        assert!(!declares_something(b"x\ncargo:rustc-env=A=cargo:rerun-if-changed=x\n"));
    }

    #[test]
    fn variables_are_named_by_lists_and_by_build_scripts() {
        let list = b"/t/a.d: a.rs\n\n# env-dep:A=x=y\n# env-dep:B\n# checksum: env-dep:C\n";
        assert_eq!(variables(list).collect::<Vec<_>>(), ["A", "B"]);
        let output = b"cargo:rerun-if-env-changed=X\ncargo::rerun-if-env-changed=Y\r\n";
        let named = directives(output, "rerun-if-env-changed=").map(name_of);
        assert_eq!(named.collect::<Vec<_>>(), ["X", "Y"]);
    }

    #[test]
    fn both_forms_of_a_build_scripts_line() {
        let output = b"cargo:rerun-if-changed=a b\ncargo::rerun-if-changed=/c\r\nx\n\
                       cargo:rerun-if-env-changed=X\ncargo:warning=cargo:rerun-if-changed=no\n";
        assert_eq!(watched(output).collect::<Vec<_>>(), [Path::new("a b"), Path::new("/c")]);
    }

    #[test]
    fn static_libraries_are_found_in_the_folders_that_a_script_names() {
        let dir = tempfile::tempdir().unwrap();
        for name in ["libone.a", "libtwo.a", "libtwo.so", "libthree.so"] {
            std::fs::write(dir.path().join(name), "").unwrap();
        }
        let found = |library: &str| {
            let search = format!("cargo::rustc-link-search=native={}\n", dir.path().display());
            let text = format!("{search}cargo:rustc-link-lib={library}\n");
            let found = static_libraries(text.as_bytes(), dir.path());
            found.iter().map(|file| file.ends_with("libone.a")).collect::<Vec<_>>()
        };
        for library in
            ["one", "static=one", "static:+whole-archive=one", "static=one:other", "dylib=one"]
        {
            assert_eq!(found(library), [true], "{library}");
        }
        assert_eq!(found("static=two"), [false], "another one");
        let by_flags = b"cargo:rustc-flags=-L native=. -lstatic=one\n";
        assert_eq!(static_libraries(by_flags, dir.path()), [dir.path().join("./libone.a")]);
        for library in ["two", "three", "static=four", "framework=one"] {
            assert!(found(library).is_empty(), "{library}");
        }
    }
}
