//! One question from start to answer: facts → snapshot → records → build → run → store.
//!
//! The only module that knows this order. The daemon and the command line both call it: the
//! daemon to look up ([`Finding`]) and to run in the background, the command line for
//! whatever the daemon cannot answer. What differs between the two is how a snapshot is had,
//! which is why [`Tree`] is a trait with one implementation in each.
//!
//! The rule that outranks all others: a verdict is kept only if nothing that could have decided
//! it changed between the moment before the build and the moment after the last test.

mod besides;
mod binary;
mod calls;
mod checkout;
mod exec;
mod execute;
mod explain;
mod facts;
mod failed;
mod flaky;
mod key;
mod look_up;
mod names;
mod patterns;
mod remember;
mod run;
mod scope;
mod states;
mod tree;
mod verify;

pub use binary::store_program_digest;
pub use exec::{Called, Invocation, call};
pub use explain::{CallsExplanation, Explanation, TargetExplanation, explain};
pub use facts::{Facts, FactsError, LEDGERS, Question, Settings};
pub use key::{code_hash, source_key};
pub use look_up::{Finding, answer_of, known_failure};
pub use remember::remember;
pub use run::{Outcome, RunError, RunOptions, Step, run};
pub use scope::{Mark, Refresh, Scope};
pub use tree::{LocalTree, Look, Tree, TreeError};
pub use verify::{Difference, Verification, verify};
