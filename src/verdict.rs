//! One question from start to answer: facts → snapshot → records → build → run → store.
//!
//! The only module that knows this order. The daemon and the command line both call it: the
//! daemon to look up ([`LookUp`]) and to run in the background, the command line for
//! whatever the daemon cannot answer. What differs between the two is how a snapshot is had,
//! which is why [`ProjectTree`] is a trait with one implementation in each.
//!
//! The rule that outranks all others: a verdict is kept only if nothing that could have decided
//! it changed between the moment before the build and the moment after the last test.

mod altered;
mod binary;
mod built_units;
mod by_nextest;
mod by_packages;
mod checkout;
mod conduct;
mod early;
mod environment;
mod exec;
mod execute;
mod explain;
mod extra_inputs;
mod facts;
mod failed;
mod fingerprint;
mod flaky;
mod git_question;
mod in_full;
mod isolation;
mod keep;
mod key;
mod local_tree;
mod look_up;
mod obstacles;
mod options;
mod other_environments;
mod package;
mod partial;
mod patterns;
mod permissions;
mod portable;
mod processor;
mod project_files;
mod proof;
mod provenance;
mod ran;
mod remember;
mod roots;
mod run;
mod script_runs;
mod shadow;
mod shared_store;
mod started_programs;
mod target_discovery;
mod tree;
mod unreached;
mod unreached_base;
mod unseen_reads;
mod verify;

pub(crate) use binary::store_program_digest;
pub(crate) use by_packages::answer_by_packages;
pub(crate) use conduct::background_scope;
pub(crate) use exec::{Called, Invocation, call};
pub(crate) use explain::{
    CallsExplanation, Explanation, LevelExplanation, SharedReason, SharedReasons,
    TargetExplanation, explain, shared_reasons,
};
pub(crate) use facts::LEDGERS;
pub use facts::{Facts, Question};
pub(crate) use key::code_hash;
pub use local_tree::LocalTree;
pub(crate) use look_up::{KnownRecord, LookUp, Unanswered};
pub(crate) use options::{RunError, RunOptions, RunScope, Step, limits};
pub(crate) use project_files::FilesMark;
pub use project_files::{ProjectFiles, Refresh};
pub(crate) use remember::remember;
pub(crate) use run::{RunOutcome, run};
pub(crate) use shadow::ShadowComparison;
pub(crate) use shared_store::{
    Publishing, Shareable, answers_for_all, forget_store, open_store, probe_store, project_label,
    publication, remember_scripts, signer_of, waiting_uploads,
};
pub use tree::ProjectTree;
pub(crate) use tree::{TreeError, TreeState};
pub(crate) use verify::verify;
