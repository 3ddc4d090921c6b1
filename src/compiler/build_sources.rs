//! What a build was made from, as the compiler and the build scripts tell it.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::time::SystemTime;

/// The sources of the workspace's packages, and of path dependencies outside it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BuildSources {
    /// Every path that the compiler read or a build script asked to watch (it may be absent),
    /// absolute, sorted, each once. Files that build scripts generated are left out: they follow
    /// from the rest.
    pub files: Vec<PathBuf>,
    /// The files that build scripts generated and the compiler read.
    pub generated: Vec<PathBuf>,
    /// The folders that build scripts asked to watch, with all below them: their files are among
    /// `files`, and a new name is a change too. Absolute, sorted, each once.
    pub folders: Vec<PathBuf>,
    /// The folders of the packages, in which cargo looks for targets by their names.
    pub packages: Vec<PathBuf>,
    /// Missing lists. If there is any, `files` is incomplete, and nothing may be recorded.
    pub missing: Vec<PathBuf>,
    /// Files whose content may differ from the compiled one although cargo calls the build fresh:
    /// moved here after the compilation, with a time from before it (`mv x.rs.bak x.rs`). Cargo
    /// compares times only and notices them after a `touch`. If there is any, nothing may be
    /// recorded.
    pub unseen: Vec<PathBuf>,
    /// Files at which cargo never looks and which are newer than what was made of them. If there is any, the
    /// build proves nothing of another one.
    pub unwatched: Vec<PathBuf>,
    /// What was compiled or run for the build, now or earlier.
    pub units: Vec<BuiltUnit>,
    /// What each unit has read, of packages from elsewhere too.
    pub inputs: Vec<UnitInputs>,
}

impl BuildSources {
    /// Whether the build is of the tree as it was then, as far as the compiler's lists tell: cargo may
    /// call one fresh that is not.
    #[must_use]
    pub(crate) fn are_of_tree(&self) -> bool {
        self.unseen.is_empty() && self.missing.is_empty()
    }
}

/// What one unit has read, by the word of the compiler or of the build script itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct UnitInputs {
    /// Cargo's own name for the package.
    pub package_id: String,
    /// The files that it has read, as in [`BuildSources::files`]; of a package from elsewhere only those apart
    /// from what was downloaded with it.
    pub files: Vec<PathBuf>,
    /// The variables that it names.
    pub variables: BTreeSet<String>,
    /// Whether it is a build script that links something that cargo has not built.
    pub links_native: bool,
    /// Where a build script writes.
    pub out_dir: Option<PathBuf>,
    /// When that build script's last run began.
    pub ran_at: Option<SystemTime>,
    /// The library of a procedural macro, which runs inside of the compiler and may read anything.
    pub macro_library: Option<PathBuf>,
    /// Whether its list is missing, or its macro is optimized, so that its symbols do not tell
    /// what it calls.
    pub is_unknown: bool,
}

/// One thing that was compiled, or a build script that ran, for a build.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BuiltUnit {
    /// The file that says what it was made from: the compiler's list, a build script's output; of
    /// a package from elsewhere the product itself.
    pub list: PathBuf,
    /// When it was made.
    pub made: SystemTime,
    /// Whether it was made in this very build, and by nobody for whom the build waited.
    pub is_new: bool,
    /// The files that it was made from, as far as that is told.
    pub files: Vec<PathBuf>,
    /// What cargo looks at before it calls the unit fresh.
    pub watched: WatchedByCargo,
}

/// What cargo looks at before it calls something fresh.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum WatchedByCargo {
    /// The files that the compiler says it has read. Macros may have read others.
    Listed,
    /// These files and folders, by a build script's own word. It may have read others.
    Declared(Vec<PathBuf>),
    /// Nothing: the sources in this folder of the workspace are of a registry, vendored, and are
    /// not expected to change.
    Vendored(PathBuf),
}
