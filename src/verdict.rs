//! One question from start to answer: facts → snapshot → records → build → run → store.
//!
//! The only module that knows this order. The daemon and the command line both call it: the
//! daemon to look up ([`LookUp`]) and to run in the background, the command line for
//! whatever the daemon cannot answer. What differs between the two is how a snapshot is had,
//! which is why [`ProjectTree`] is a trait with one implementation in each.
//!
//! The rule that outranks all others: a verdict is kept only if nothing that could have decided
//! it changed between the moment before the build and the moment after the last test.

mod binary;
mod built_units;
mod checkout;
mod exec;
mod execute;
mod explain;
mod extra_inputs;
mod facts;
mod failed;
mod fingerprint;
mod flaky;
mod keep;
mod key;
mod look_up;
mod options;
mod patterns;
mod project_files;
mod provenance;
mod ran;
mod remember;
mod run;
mod target_discovery;
mod tree;
mod verify;

pub use binary::store_program_digest;
pub use exec::{Called, Invocation, call};
pub use explain::{CallsExplanation, Explanation, explain};
pub use facts::{Facts, LEDGERS, Question};
pub use key::code_hash;
pub use look_up::{LookUp, Unanswered};
pub use options::{RunError, RunOptions, Step};
pub use project_files::{FilesMark, ProjectFiles, Refresh};
pub use remember::remember;
pub use run::{RunOutcome, run};
pub use tree::{LocalTree, ProjectTree, TreeError, TreeState};
pub use verify::verify;
