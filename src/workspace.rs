//! Facts about a cargo workspace, read from files and never asked of a running cargo: where its
//! root is, which folders outside belong to it, what a selection of tests means, which cargo
//! configuration and toolchain apply.
//!
//! All of it lies on the path of an answer from the cache, so nothing here starts a process when
//! it has been asked before ([`Toolchain::find`] keeps a memo with guards). Nothing here guesses
//! either: what cannot be read is an error, because an unknown fact must become a run.

mod build_script;
mod build_variables;
mod cargo_config;
mod code_text;
mod identity;
mod linked_files;
mod locate;
mod lock_file;
mod members;
mod mounts;
mod outside;
mod repository;
mod selection;
mod stamp;
mod test_places;
mod toml_file;
mod toolchain;
mod variables;

pub(crate) use build_script::BuildScript;
pub(crate) use build_variables::{BuildVariables, build_variables, is_secret};
pub use cargo_config::CargoConfig;
pub(crate) use cargo_config::{
    CargoConfigError, CargoConfigFile, RunnerShape, is_configured_apart,
};
pub(crate) use code_text::{may_embed_source, without_comments, without_tests};
pub(crate) use identity::{
    Identity, is_session_variable, is_terminal_variable, replace_folder, without_root,
};
pub(crate) use linked_files::paths_in_flags;
pub(crate) use locate::locate;
pub(crate) use lock_file::LockFile;
pub use members::Members;
pub(crate) use mounts::{MountWatch, Mounted, overlay_layers};
pub(crate) use outside::{Outside, is_member, outside_roots, packages_inside};
pub(crate) use repository::{LockId, Operation, Repository};
pub use selection::Selection;
pub(crate) use selection::SelectionPart;
pub use stamp::PathStamp;
pub(crate) use stamp::{FileKind, Stamp, is_missing, nanoseconds, until_settled};
pub(crate) use test_places::package_targets;
pub use test_places::{TestPlace, TestPlaces, TestSources, target_root};
pub use toolchain::Toolchain;
pub(crate) use toolchain::ToolchainError;
pub(crate) use variables::{
    Relevance, is_for_build, names_default_target_dir, relevance, well_known_beginnings,
    well_known_texts,
};
