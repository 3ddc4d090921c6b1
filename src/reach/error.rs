//! Reasons for which nothing is known of a program's parts: then the whole program counts.

use std::io;
use std::path::{Path, PathBuf};

/// Why the functions that a program's tests reach are not known.
///
/// Each of these is an ordinary answer: the caller falls back to the digest of the whole program.
#[derive(Debug, thiserror::Error)]
pub enum UnknownLayout {
    /// A file could not be read.
    #[error("cannot read `{}`: {source}", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// The system's error.
        source: io::Error,
    },
    /// The program is of another format or for another processor.
    #[error("the program is not a 64-bit ELF program for x86-64")]
    Format,
    /// The program has no symbol table.
    #[error("the program has no symbol table (`strip` in its profile?)")]
    Stripped,
    /// Objects from which the program was linked do not exist any more.
    #[error(
        "`{object}` and {others} more of the program's objects are gone \
         (CARGO_INCREMENTAL=0, a release profile, LTO, or a build since?)"
    )]
    ObjectsGone {
        /// The first of them.
        object: String,
        /// The number of others.
        others: usize,
    },
    /// An object of another compiler is not where cargo has such objects.
    #[error("`{object}` is part of the program, and its object is unknown")]
    UnknownObject {
        /// The name of its source file.
        object: String,
    },
    /// Several objects could be the one from which the program was linked.
    #[error("the program was linked from one of several objects of `{name}`, which differ")]
    SeveralObjects {
        /// The name of its source file, or of a symbol that they define.
        name: String,
    },
    /// An object is newer than the program, so the program was not linked from it.
    #[error("`{}` was written after the program was linked", path.display())]
    Stale {
        /// The object, or the library that holds it.
        path: PathBuf,
    },
    /// A function or a constant differs in the program and in the object.
    #[error("the program was not linked from the objects as they are: `{symbol}` differs")]
    OtherCode {
        /// The first such function or constant.
        symbol: String,
    },
    /// The linker may lead a symbol to something else than its definition.
    #[error("the linker may take `{symbol}` for another symbol (`--wrap`, `--defsym` or `--icf`)")]
    Redirected {
        /// The symbol.
        symbol: String,
    },
    /// The program shares code of the workspace or of the standard library with other programs.
    #[error("the program loads `{library}`, which was built with it")]
    BuiltLibrary {
        /// The shared library.
        library: String,
    },
    /// The program changed while it was examined.
    #[error("the program was replaced while it was examined")]
    Replaced,
    /// An object has something in it that is not understood.
    #[error("object `{object}`: {problem}")]
    Object {
        /// The name of its code unit.
        object: String,
        /// The part that is not understood.
        problem: String,
    },
    /// The program has no function `main` in the objects.
    #[error("no known object defines the program's `main` (LTO?)")]
    NoMain,
    /// The program is not a test program of the standard harness.
    #[error("the program has no table of tests (`harness = false` or another framework?)")]
    NoTests,
    /// The table of tests has an unknown form.
    #[error("the table of tests has an unknown form: {0}")]
    TestTable(&'static str),
}

impl UnknownLayout {
    pub(super) fn unreadable(path: &Path, source: io::Error) -> Self {
        Self::Unreadable { path: path.to_owned(), source }
    }

    pub(super) fn object(object: &str, problem: impl Into<String>) -> Self {
        Self::Object { object: object.to_owned(), problem: problem.into() }
    }
}
