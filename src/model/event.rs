//! The events of the one stream that every view reads, and that `watch --format json` prints one a
//! line.
//!
//! Every verdict carries the code hash of the tree it holds for. A verdict for another code hash
//! than that of the project's newest [`StreamEvent::Tree`] says nothing of the text as it is now.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::{Digest, Outcome, Source, State, TargetId, TestCounts, Timestamp, Verdict, os_text};

/// The version of the stream: it grows by fields and types, and the number changes where a reader
/// would be misled.
pub(crate) const STREAM_VERSION: u32 = 1;

/// One event of the stream.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum StreamEvent {
    /// The first event of a connection: all that was told before is void.
    Hello {
        /// [`STREAM_VERSION`] of the sender.
        version: u32,
        /// The sender's program version.
        tool: String,
        /// Whether the service tells; else the view watches by itself.
        daemon: bool,
    },
    /// The state at connection has been told; changes follow.
    Synced,
    /// The connection is lost: nothing is known until the next [`StreamEvent::Hello`].
    Disconnected {
        /// Why.
        reason: String,
        /// After how many milliseconds it is tried again.
        retry_ms: u64,
    },
    /// What a project is about; told whenever that changes.
    Project {
        /// The workspace's root.
        #[serde(with = "os_text")]
        project: PathBuf,
        /// What it is about.
        state: State,
        /// More about the state: progress, what is missing, what stands in the way.
        reason: Option<String>,
        /// Since when it is in this state.
        since: Timestamp,
    },
    /// A project has left the config.
    Gone {
        /// The workspace's root.
        #[serde(with = "os_text")]
        project: PathBuf,
    },
    /// The tree is another one, or may be: every verdict of the project that was told before is
    /// unknown for this text, until it is told again.
    Tree {
        /// The workspace's root.
        #[serde(with = "os_text")]
        project: PathBuf,
        /// The tree's code hash; none while it is not known.
        code_hash: Option<Digest>,
    },
    /// Every change of the project's files of before a client's question has been seen: what was
    /// told up to here holds for them.
    Confirmed {
        /// The workspace's root.
        #[serde(with = "os_text")]
        project: PathBuf,
        /// The client's number for the question.
        token: u64,
    },
    /// A background build has ended.
    Build(BuildEvent),
    /// Tests are about to run.
    Plan {
        /// The project and its tree.
        #[serde(flatten)]
        of: EventOf,
        /// So many targets will run.
        run: usize,
        /// So many others would have to, and run only when somebody asks.
        left: usize,
        /// So many of the first have ended.
        done: usize,
    },
    /// A target's tests have begun to run.
    Running {
        /// The project and its tree.
        #[serde(flatten)]
        of: EventOf,
        /// The target.
        #[serde(flatten)]
        id: TargetId,
        /// When.
        since: Timestamp,
    },
    /// The verdict of a target.
    Target(TargetEvent),
    /// Outcomes of tests of a target whose verdict has been told; a large target has several.
    Tests {
        /// The project and its tree.
        #[serde(flatten)]
        of: EventOf,
        /// The target.
        #[serde(flatten)]
        id: TargetId,
        /// From a record or from a run.
        source: Source,
        /// When they ran.
        when: Timestamp,
        /// The tests.
        tests: Vec<TestEntry>,
    },
    /// The answer for the whole project, or that there is none.
    Verdict(VerdictEvent),
}

/// The project that an event is about, and the tree it holds for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EventOf {
    /// The workspace's root.
    #[serde(with = "os_text")]
    pub project: PathBuf,
    /// The tree's code hash.
    pub code_hash: Digest,
}

/// How a background build came out.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct BuildEvent {
    /// The project and its tree.
    #[serde(flatten)]
    pub of: EventOf,
    /// When it ended.
    pub when: Timestamp,
    /// Whether the tests compile.
    pub success: bool,
    /// How long it took, in milliseconds.
    pub duration_ms: u64,
    /// What the compiler said, rendered.
    pub errors: String,
    /// Why it was given up, if it was.
    pub ended: Option<String>,
}

/// The verdict of a target.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TargetEvent {
    /// The project and its tree.
    #[serde(flatten)]
    pub of: EventOf,
    /// The target.
    #[serde(flatten)]
    pub id: TargetId,
    /// Pass or fail.
    pub verdict: Verdict,
    /// From a record or from a run.
    pub source: Source,
    /// Why it was kept or run, for a person.
    pub reason: String,
    /// When it ran.
    pub when: Timestamp,
    /// How long its process ran, in milliseconds.
    pub duration_ms: u64,
    /// How many tests.
    #[serde(flatten)]
    pub counts: TestCounts,
    /// What it said of a failure that no test is named for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
}

/// The outcome of a test.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TestEntry {
    /// The test's path inside its target, as libtest prints it.
    pub name: String,
    /// What it came to.
    pub outcome: Outcome,
    /// Where the test is written, where that is known.
    #[serde(flatten, skip_serializing_if = "Option::is_none")]
    pub place: Option<SourcePlace>,
    /// What a failed test said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// Where a failed test panicked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub panic: Option<SourcePlace>,
}

/// A place in a source file.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct SourcePlace {
    /// The file, relative to the workspace's root where it lies below it.
    pub file: String,
    /// The line, from 1.
    pub line: u32,
    /// The column, from 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub column: Option<u32>,
}

/// The answer for a whole project.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct VerdictEvent {
    /// The project and its tree.
    #[serde(flatten)]
    pub of: EventOf,
    /// Pass or fail; none while it is unknown.
    pub verdict: Option<Verdict>,
    /// Why it is unknown, or where it comes from.
    pub reason: Option<String>,
    /// From records, from a run, or both.
    pub source: Option<Source>,
    /// When the oldest of its results was run.
    pub when: Option<Timestamp>,
    /// How many tests.
    #[serde(flatten)]
    pub counts: TestCounts,
}

impl StreamEvent {
    /// The project and the tree that a verdict holds for; none for other events.
    #[must_use]
    pub(crate) fn of(&self) -> Option<&EventOf> {
        match self {
            Self::Plan { of, .. } | Self::Running { of, .. } | Self::Tests { of, .. } => Some(of),
            Self::Build(build) => Some(&build.of),
            Self::Target(target) => Some(&target.of),
            Self::Verdict(verdict) => Some(&verdict.of),
            Self::Hello { .. }
            | Self::Synced
            | Self::Disconnected { .. }
            | Self::Project { .. }
            | Self::Gone { .. }
            | Self::Confirmed { .. }
            | Self::Tree { .. } => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::TargetKind;

    #[test]
    fn a_verdict_is_one_flat_object_and_comes_back() {
        let of = EventOf { project: "/p".into(), code_hash: Digest::of(b"tree") };
        let id = TargetId { package: "p".into(), target: "it".into(), kind: TargetKind::Test };
        let place = SourcePlace { file: "tests/it.rs".into(), line: 3, column: Some(5) };
        let event = StreamEvent::Tests {
            of: of.clone(),
            id,
            source: Source::Run,
            when: Timestamp(7),
            tests: vec![
                TestEntry {
                    place: Some(place.clone()),
                    message: Some("left: 1\nright: 2".into()),
                    panic: Some(place),
                    ..TestEntry::sample("adds", Outcome::Failed)
                },
                TestEntry::sample("other", Outcome::Ok),
            ],
        };
        let json = serde_json::to_string(&event).unwrap();
        let shown = json.replace(&of.code_hash.to_string(), "HASH");
        insta::assert_snapshot!(shown, @r#"{"type":"tests","project":"/p","code_hash":"HASH","package":"p","target":"it","kind":"test","source":"run","when":7,"tests":[{"name":"adds","outcome":"failed","file":"tests/it.rs","line":3,"column":5,"message":"left: 1\nright: 2","panic":{"file":"tests/it.rs","line":3,"column":5}},{"name":"other","outcome":"ok"}]}"#);
        assert_eq!(serde_json::from_str::<StreamEvent>(&json).unwrap(), event);
    }
}
