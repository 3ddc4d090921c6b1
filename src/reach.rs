//! The code and data that each test of a linked program can reach, read from the build's objects.
//!
//! A test's identity is a digest of all code and data that its function can reach in the objects
//! from which its program was linked. No flag, no other compiler and no second build is needed:
//! after the link the objects still lie in the target folder, and their relocations say which
//! function and which constant refers to which. A test whose digest is the same as when it passed
//! cannot behave differently, unless something outside of the program differs.
//!
//! # Contents of a digest
//!
//! Each allocated section of an object is a node: with rustc, that is one function, constant or
//! variable. Its digest covers its bytes, its relocations and the digests of what these lead to
//! ([`graph`]). Names of functions and constants do not count, so the compiler may move, number and
//! rename them, and the digest is the same after a clean rebuild and in another checkout.
//!
//! - Names of variables count, because two variables with equal initial values are still two.
//! - Strings and constants that the linker merges count with what refers to them, piece by piece.
//! - Unwind information counts with its function.
//! - The standard library and the system's libraries are leaves: their functions count by name.
//!   The caller's key has the toolchain, and a run's observed inputs have the shared libraries.
//! - The shared libraries that are loaded with the program count for every test, by name and order.
//! - Constructors, destructors, the allocator, `#[used]` statics and everything that a library can
//!   call by name count for every test. The order of constructors counts.
//!
//! A panic's location names a line, so a comment at the top of a file changes every digest below
//! it. The masked digest leaves lines and columns out that nothing but a panic or a message of the crate
//! `log` tells. It holds only for tests that cannot read them, and only without optimization, which merges
//! the functions that read them into others.
//!
//! These locations are found in the machine code: [`location_flow`] follows each one to the calls that get
//! it, and [`LinkedGraph`] through the functions that hand it on, to those of the standard library that
//! [`panicking`] lists, or to the one of `log`. Any other location counts, for it can be a constant of
//! the program's own, of the same form, that its code reads by itself.
//!
//! A test that reads some lines, such as those of a log, does not read those of panics. So a third
//! digest leaves out only the locations that nothing but a panic tells.
//!
//! # Fallbacks to the whole program
//!
//! [`UnknownLayout`] names each reason for which nothing is known of a program:
//!
//! - its objects are gone (`CARGO_INCREMENTAL=0`, a release profile, LTO), newer than the program,
//!   or hold other functions than the program;
//! - it contains an object of unknown origin, or one of several that differ, or loads a shared library
//!   that was built with it;
//! - the linker leads a symbol to something else than its definition (`--wrap`, `--defsym`, `--icf`);
//! - it was stripped, is for another processor, or has a test harness of its own.
//!
//! [`TestIdentity::WholeProgram`] names the reason for one test: it looks up functions by name
//! while it runs, can see its debug information, can start its own program again, or reaches a
//! symbol of unknown origin.
//!
//! # Limits
//!
//! Only x86-64 programs on Linux are read. Lines that the crate `log` stores in its records count
//! for the readers of records only. A test that closes its error output and opens a file in its place
//! (by `close` or `F_DUPFD`; `dup2` is known) can read the lines of its own panics unnoticed. A program
//! that a test starts cannot: the observer sees what it writes.
//!
//! [`Capabilities`] say what a test can do besides computing; files, environment, network and clock
//! are inputs that the caller has to observe. The program's own file is one of them: the standard library
//! opens it to tell the functions and lines of a backtrace, for which `RUST_BACKTRACE` asks. A backtrace that
//! nobody looks at tells nothing. A test that starts programs depends on the programs
//! of its workspace too ([`Policy::programs`]). Tests that share a process share its state: a test
//! whose digest is unchanged can still fail because of what another test did before it.
//! [`Reached::variables`] and the capabilities say by what two tests can affect each other. Code that
//! is written while the program runs is covered as far as the code that writes it.
//!
//! State of the standard library that has no name in the program, such as a lock of the error output that is
//! held forever, is not seen to be shared.

mod capabilities;
mod error;
mod graph;
mod link;
mod location_flow;
mod log_part;
mod merged;
mod object_code;
mod object_files;
mod panicking;
mod program;
mod reader;
mod section;
mod symbol_body;
mod sysroot;
mod test_table;
#[cfg(test)]
mod tests;
mod unwind;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

pub use capabilities::Capabilities;
pub use error::UnknownLayout;

use link::{LinkedGraph, ReachedAll};
use object_code::ObjectCode;
use object_files::ObjectFiles;
use program::ProgramTables;
use sysroot::Sysroot;

use crate::model::{Digest, Digester};

/// Everything that one test, or one program's `main`, can reach.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reached {
    /// The digest of all of it.
    pub strict: Digest,
    /// The same without lines and columns of the test itself and of panic locations that nothing but a
    /// panic tells.
    pub panics_masked: Digest,
    /// The same without lines and columns of locations that are handed to `log` with a message, too.
    pub masked: Digest,
    /// Its effects on and inputs from outside of the program.
    pub capabilities: Capabilities,
    /// The variables of the program that it reaches, by numbers that hold within this program: those by
    /// which tests of one process can share state. Thread-local ones are among them, for threads can be
    /// shared too.
    pub variables: BTreeSet<u32>,
    /// A symbol that it reaches and no known file defines.
    pub unknown_symbol: Option<String>,
}

/// Facts that only the caller knows: of the build, of earlier runs, of the environment.
#[derive(Clone, Copy, Debug)]
pub struct Policy {
    /// The positions in source files that count for nobody, at most. None unless every crate in the
    /// program was compiled without optimization: else their readers cannot be seen.
    pub masking: Masking,
    /// The digest of the programs that tests may start, by [`ReachReader::programs`].
    pub programs: Digest,
    /// Whether a test may start its own program. Only a complete observation of an earlier run
    /// can rule it out.
    pub starts_itself: bool,
}

/// Which lines and columns in source files do not count.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Masking {
    /// All of them count.
    Nothing,
    /// Those that nothing but a panic tells.
    Panics,
    /// Those that nothing but a panic or a message of `log` tells.
    All,
}

/// The code that a test's verdict depends on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TestIdentity {
    /// Only on what it reaches.
    Reached(Digest),
    /// On the whole program, for this reason.
    WholeProgram(String),
}

impl Reached {
    /// The positions that it cannot see, in a program without optimization whose panics nobody sees.
    #[must_use]
    pub(crate) fn masking(&self) -> Masking {
        match () {
            () if self.capabilities.contains(Capabilities::PANICS) => Masking::Nothing,
            () if self.capabilities.contains(Capabilities::LOCATIONS) => Masking::Panics,
            () => Masking::All,
        }
    }

    /// The test's identity under `policy`.
    #[must_use]
    pub fn identity(&self, policy: &Policy) -> TestIdentity {
        let can = |capability| self.capabilities.contains(capability);
        if let Some(symbol) = &self.unknown_symbol {
            return TestIdentity::WholeProgram(format!("it reaches `{symbol}`, of unknown origin"));
        }
        if can(Capabilities::SYMBOL_LOOKUP) {
            return TestIdentity::WholeProgram("it can look up functions by name".to_owned());
        }
        if can(Capabilities::STACK) {
            return TestIdentity::WholeProgram("it can see its debug information".to_owned());
        }
        let starts = can(Capabilities::PROCESSES);
        if starts && policy.starts_itself && can(Capabilities::OWN_PATH) {
            return TestIdentity::WholeProgram("it can start its own program".to_owned());
        }
        let reached = match policy.masking.min(self.masking()) {
            Masking::Nothing => &self.strict,
            Masking::Panics => &self.panics_masked,
            Masking::All => &self.masked,
        };
        let mut digester = Digester::new("reached by a test 1");
        digester.digest(reached);
        if starts {
            digester.digest(&policy.programs);
        }
        TestIdentity::Reached(digester.finish())
    }
}

/// Reads what programs reach, and keeps what it has read of objects for the next program.
#[derive(Debug)]
pub struct ReachReader {
    sysroot: Sysroot,
    files: ObjectFiles,
}

/// One program with its objects.
struct LinkedProgram {
    tables: ProgramTables,
    objects: Vec<Arc<ObjectCode>>,
}

impl ReachReader {
    /// A reader for programs of the toolchain at `sysroot`.
    ///
    /// # Errors
    /// The toolchain's libraries cannot be read.
    pub fn new(sysroot: &Path) -> Result<Self, UnknownLayout> {
        Ok(Self { sysroot: Sysroot::read(sysroot)?, files: ObjectFiles::default() })
    }

    /// Forgets the objects that no program has needed since the last call of this.
    ///
    /// A caller that keeps the reader calls it when it has looked at all programs of a build.
    pub fn end_round(&mut self) {
        self.files.end_round();
    }

    /// Reads the code that each test of the test program at `program` reaches, by the test's name.
    ///
    /// `program` is the path in the target folder, as cargo reports it.
    ///
    /// # Errors
    /// Something is not understood; then the whole program counts.
    pub fn tests(&mut self, program: &Path) -> Result<BTreeMap<String, Reached>, UnknownLayout> {
        let linked = self.open(program)?;
        let graph = LinkedGraph::new(&linked.objects, &linked.tables, &self.sysroot);
        let tests = graph.tests().ok_or(UnknownLayout::NoTests)?;
        let entries = tests.iter().map(|(_, node)| *node);
        let closures = graph.close(&linked.tables, &self.sysroot, entries);
        let count = tests.len();
        let reached: BTreeMap<_, _> = tests
            .into_iter()
            .map(|(name, node)| (name.to_owned(), closures.of(node).into()))
            .collect();
        if reached.len() == count {
            Ok(reached)
        } else {
            Err(UnknownLayout::TestTable("two tests of one name"))
        }
    }

    /// Reads the code that `main` of the program at `program` reaches.
    ///
    /// # Errors
    /// Something is not understood; then the whole program counts.
    pub fn main(&mut self, program: &Path) -> Result<Reached, UnknownLayout> {
        let linked = self.open(program)?;
        let graph = LinkedGraph::new(&linked.objects, &linked.tables, &self.sysroot);
        let Some([main]) = graph.defined("main") else { return Err(UnknownLayout::NoMain) };
        let closures = graph.close(&linked.tables, &self.sysroot, [main.node]);
        Ok(closures.of(main.node).into())
    }

    /// The digest of `programs`, for tests that may start any of them: of what each one's `main`
    /// reaches, or of the whole file where that is not known or not enough.
    ///
    /// # Errors
    /// A program cannot be read.
    pub fn programs(&mut self, programs: &[PathBuf]) -> Result<Digest, UnknownLayout> {
        let whole = [Capabilities::SYMBOL_LOOKUP, Capabilities::UNKNOWN_SYMBOL];
        let mut sorted: Vec<_> = programs.iter().collect();
        sorted.sort_unstable_by_key(|path| path.file_name());
        let mut digester = Digester::new("reached programs 1");
        for program in sorted {
            let name = program.file_name().unwrap_or_default();
            digester.field(name.as_encoded_bytes());
            match self.main(program) {
                Ok(reached) if !whole.iter().any(|one| reached.capabilities.contains(*one)) => {
                    // A program shows its panics' lines to the test that starts it.
                    digester.field(b"main").digest(&reached.strict);
                }
                _ => {
                    let bytes = fs::read(program)
                        .map_err(|error| UnknownLayout::unreadable(program, error))?;
                    digester.field(b"file").digest(&Digest::of(&bytes));
                }
            }
        }
        Ok(digester.finish())
    }

    fn open(&mut self, program: &Path) -> Result<LinkedProgram, UnknownLayout> {
        let linked = modified(program)?;
        let bytes = fs::read(program).map_err(|error| UnknownLayout::unreadable(program, error))?;
        let tables = program::read_program(&bytes)?;
        if let Some(library) = object_files::built_library(program, &tables.libraries) {
            return Err(UnknownLayout::BuiltLibrary { library: library.clone() });
        }
        let objects = self.files.of_program(program, linked, &tables, &self.sysroot)?;
        tables.check(&bytes, &objects, &self.sysroot)?;
        if modified(program)? != linked {
            return Err(UnknownLayout::Replaced);
        }
        Ok(LinkedProgram { tables, objects })
    }
}

fn modified(program: &Path) -> Result<SystemTime, UnknownLayout> {
    let metadata = fs::metadata(program).and_then(|metadata| metadata.modified());
    metadata.map_err(|error| UnknownLayout::unreadable(program, error))
}

impl From<ReachedAll> for Reached {
    fn from(all: ReachedAll) -> Self {
        Self {
            strict: all.strict,
            panics_masked: all.panics_masked,
            masked: all.masked,
            capabilities: all.capabilities,
            variables: all.variables,
            unknown_symbol: all.unknown,
        }
    }
}

/// Reads `bytes` as an object and as a program.
#[cfg(feature = "fuzzing")]
pub(crate) fn fuzz(bytes: &[u8]) {
    // Any answer will do.
    let _ = object_code::read_object("fuzz", bytes, true);
    let _ = program::read_program(bytes);
}
