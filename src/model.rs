//! The words of the project as types: digests, test targets, outcomes, verdicts.
//!
//! Nothing here does any work or knows any file; every other module speaks in these types.

mod answer;
mod digest;
mod event;
mod log;
mod report;
#[cfg(test)]
mod samples;
mod state;
mod target;
mod text;
mod time;

pub(crate) use answer::{Answer, TargetAnswer};
pub use digest::Digest;
pub(crate) use digest::Digester;
pub(crate) use event::{
    BuildEvent, EventOf, STREAM_VERSION, SourcePlace, StreamEvent, TargetEvent, TestEntry,
    VerdictEvent,
};
pub use log::{LogOutcome, field};
pub use report::End;
pub(crate) use report::{Outcome, Source, TargetReport, TestCounts, TestReport, Verdict};
pub use state::State;
pub(crate) use target::TargetId;
pub use target::{Harness, TargetKind};
pub(crate) use text::{OsText, os_text};
pub use time::Timestamp;
