//! The words of the project as types: digests, test targets, outcomes, verdicts.
//!
//! Nothing here does any work or knows any file; every other module speaks in these types.

mod answer;
mod digest;
mod log;
mod report;
mod target;
mod text;
mod time;

pub use answer::{Answer, TargetAnswer};
pub use digest::{Digest, Digester};
pub use log::{LogOutcome, field};
pub use report::{End, Outcome, Source, TargetReport, TestCounts, TestReport, Verdict};
pub use target::{Harness, TargetId, TargetKind};
pub use text::{OsText, os_text};
pub use time::Timestamp;
