//! The package level: a test target whose packages are what they were when it was green, and that
//! would consult the same things, is green. It is known before any build.
//!
//! ```text
//! manifests, lock file, names of targets, selection, build identity ─▶ plan (what cargo built and ran)
//! plan, contents of the target's packages, user class, variables    ─▶ key
//! records under the key ─▶ every input as it was? ─▶ green, nothing built
//! else build and run the packages of the other targets (`-p`), or these alone (`--test`), if cargo gives
//! them the same features
//! ```
//!
//! **A plan is what cargo itself has said**, of a build of the whole under the same manifests, lock
//! file, names by which cargo finds targets, selection, toolchain, cargo configuration and build
//! variables: which targets there are, with which features each unit was built, where packages lie.
//! Nothing is guessed for a workspace that no build has told of.
//!
//! **The packages that a target is built from** are all that its own package reaches in the lock
//! file, tests' dependencies included: more than cargo takes, never less. All manifests and the whole
//! lock file count for every target, since they decide the features of each. A package's files are
//! all that count below its folder, less the packages that lie in it. Its program counts whole: other
//! targets of a package, among them those of `CARGO_BIN_EXE_…`, are built from the same files.
//!
//! **What cargo builds and nobody runs** can break a build too: examples, most of all. Those of a package with
//! tests are built from its files. What is built for no target at all counts as a part of one of them, which is
//! then built again with each of its edits.
//!
//! **Plain comments** of Rust sources are left out where nothing that builds or runs a target can see them: `code`
//! lists who could, and how each is known.
//!
//! **What a build reads besides**, by the compilers' and build scripts' own lists, is an input of the
//! record: ignored files, files of other packages, files outside, and variables by their names.
//! Whatever cargo's configuration or the compilers' flags name in the workspace counts for all targets:
//! a linker, a script for one. A list does not tell what a build script or a procedural macro reads on the sly:
//!
//! | built with | key |
//! |---|---|
//! | a macro whose library calls nothing that opens files or asks for variables | the packages |
//! | a macro that asks for variables; a registry's build script that links native code | the packages and all variables |
//! | a build script of the workspace's own; a macro that may open files or start programs; an unknown list | the whole tree and all variables |
//!
//! Where records are shared, the scripts of the last two rows are run once more, observed (`script_runs`).
//! What they consult then stands in the record, and the key is that of the first row. Nothing of the last row is
//! shared, and in another checkout a record of it answers only if all its scripts are known so (`unseen_reads`).
//!
//! Where cargo would not run the workspace's scripts again, whatever else they may have read does not count: a
//! record of this checkout alone holds as long as everything at which cargo looks before it calls a script's
//! last run fresh is untouched, with all that lies in the script's package, and so is what that run has left.
//!
//! The last row claims no more than the source level does. Any other build script of a registry or a
//! repository may ask for variables as well: it is searched for their names like the tests' own program.
//!
//! **What a run consults in a target directory** is covered by the packages if it is a product of
//! theirs. A target that consults anything else there has no record at this level: whether it is
//! there, and made from what, depends on what else was built.
//!
//! **The checkout's path does not count**, though programs hold it (`env!("CARGO_MANIFEST_DIR")`).
//! Whatever is found by it inside the tree is an input, by its path from the root and its content.
//! What a run looked for outside, on a way that leads elsewhere from another checkout, makes the
//! record one of its own checkout only. A test that fails for the letters of its path alone is the
//! one thing that nobody sees; the source level makes the same promise.
//!
//! **A record needs proof**: an observed run of a program that was made from the tree as it is, with
//! nothing changed since before the build. Its verdict, inputs and variables are those of the binary
//! level's record. A red run removes the records of its target under this tree's keys, and a build
//! that fails those of all targets.
//!
//! **A part is believed only if it is what the whole would be**: each unit has the features that the
//! plan says, every test passed, and no run consulted a product that was not built with it. Otherwise the whole is built, and its outcome is the answer. The loader's search path has fewer
//! folders in a part, those of other packages' build scripts; a run for which such a folder of the whole
//! has a library is not believed.
//!
//! **Where a package has records for some of its targets**, only the others are built. What such a build has
//! read is less than what the whole package reads. Its records therefore answer beside one of a build of the
//! whole package, never for a package alone, and no other machine gets them: one that publishes builds whole
//! packages. Once they have run, the other records must still answer: tests of one package share files.

/// Why a record of this level answers.
pub(super) const SAME_PACKAGES: &str = "same packages and inputs";

mod built_from;
mod code;
mod explained;
mod inputs;
mod keeping;
mod key;
mod listing;
mod look_up;
mod part;
mod scripts;

pub(super) use explained::PackageExplanation;
pub(super) use keeping::unseen_reads;
pub(super) use look_up::{
    BuildScope, KeptPackages, KnownTargets, PackageLevel, ProvenRun, ScriptedRecord, SharedKey,
};
pub(super) use part::{Partial, has_features_of};
