//! What is said over the control socket: one JSON object a line, both ways.
//!
//! A connection carries any number of requests, one after the other. Every request names the
//! protocol and the version of the program that speaks, so that a daemon and a command of
//! different versions notice each other before a word can be misunderstood: the command then
//! works without the daemon. A request is answered by any number of [`Reply::Working`] lines,
//! at least one every [`HEARTBEAT`], and then one other line.

mod framing;
mod live_state;
mod status;

#[cfg(test)]
pub(crate) use framing::MAX_MESSAGE;
pub(crate) use framing::{FrameError, LineBuffer, encode};
pub(crate) use live_state::{LiveProject, LiveState, LiveTarget, hello, tests_events};
pub use status::ProjectStatus;
pub(crate) use status::{CacheUse, InterruptionStats, LastBuild, StatusReport};

pub(crate) use crate::cache::LastVerdict;
use crate::cache::RecordKey;
pub use crate::model::State;
pub(crate) use crate::model::StreamEvent;

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::model::{Answer, Digest, OsText, TargetId, TestReport, Timestamp, os_text};
use crate::process::Environment;
use crate::shared::{Publication, StoreFinding};

/// The number of this protocol; another number is another language.
pub(crate) const PROTOCOL: u32 = 1;

/// The version of this program: keys and records mean the same only within one version.
pub(crate) const VERSION: &str = env!("CARGO_PKG_VERSION");

/// How often a client that waits for events hears of a daemon that has none.
pub(crate) const EVENTLESS_HEARTBEAT: Duration = Duration::from_secs(10);

/// How often a daemon that is still at work says so.
pub(crate) const HEARTBEAT: Duration = Duration::from_millis(250);

/// One request.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Request {
    /// [`PROTOCOL`] of the sender.
    pub protocol: u32,
    /// [`VERSION`] of the sender.
    pub version: String,
    /// What is asked.
    pub call: Call,
}

impl Request {
    /// A request from this program.
    #[must_use]
    pub(crate) fn new(call: Call) -> Self {
        Self { protocol: PROTOCOL, version: VERSION.to_owned(), call }
    }
}

/// What can be asked of a daemon.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "method", rename_all = "snake_case")]
pub enum Call {
    /// Are the tests green for the tree as it stands now? [`Reply::Answer`], [`Reply::Miss`] or
    /// [`Reply::Unwatched`]. After a miss the daemon builds nothing for this project until the
    /// connection closes: the client builds.
    Ask(Ask),
    /// What has changed since `mark`? [`Reply::Settled`].
    Settle {
        /// The workspace's root.
        #[serde(with = "os_text")]
        project: PathBuf,
        /// The mark of the miss.
        mark: Mark,
    },
    /// Which of these files does the snapshot not count? [`Reply::Paths`].
    Uncounted {
        /// The workspace's root.
        #[serde(with = "os_text")]
        project: PathBuf,
        /// Absolute paths.
        paths: Vec<OsText>,
    },
    /// Keep the listing of this snapshot for explanations. [`Reply::Done`].
    KeepListing {
        /// The workspace's root.
        #[serde(with = "os_text")]
        project: PathBuf,
        /// The snapshot; another one is not kept.
        tree: Digest,
        /// What its records are filed under.
        code_hash: Digest,
    },
    /// Wait until no background build of the project is running. [`Reply::Done`].
    Join {
        /// The workspace's root.
        #[serde(with = "os_text")]
        project: PathBuf,
    },
    /// A verdict was reached by a run. [`Reply::Done`].
    Report {
        /// The workspace's root.
        #[serde(with = "os_text")]
        project: PathBuf,
        /// What it was.
        verdict: LastVerdict,
        /// The programs that ran, if they are to be compared with earlier runs.
        #[serde(default)]
        ran: Vec<RanProgram>,
        /// What each target came to; none if the tree changed meanwhile.
        #[serde(default)]
        answer: Option<Answer>,
        /// Records of other machines have answered for some targets.
        #[serde(default)]
        by_others: bool,
    },
    /// Sign these records and upload them in the background. [`Reply::Done`] or [`Reply::Error`].
    Publish {
        /// The workspace's root.
        #[serde(with = "os_text")]
        project: PathBuf,
        /// The records.
        publication: Publication,
    },
    /// [`Reply::Status`].
    Status,
    /// Build the tests now. [`Reply::Built`].
    Rebuild {
        /// The workspace's root.
        #[serde(with = "os_text")]
        project: PathBuf,
        /// The environment to build with.
        environment: Environment,
    },
    /// Pauses by hand were written or removed: take note. [`Reply::Done`].
    Pauses,
    /// What is the shared store like, as the daemon sees it? [`Reply::Store`].
    ProbeStore {
        /// The workspace's root.
        #[serde(with = "os_text")]
        project: PathBuf,
    },
    /// Read the config again. [`Reply::Done`] or [`Reply::Error`].
    Reload,
    /// See every change of the project up to now, and tell those who watch it that this was done:
    /// [`StreamEvent::Confirmed`] after whatever the changes have brought about. [`Reply::Done`].
    Confirm {
        /// The workspace's root.
        project: OsText,
        /// The client's number for this question.
        token: u64,
    },
    /// Tell the state and then every change until the connection closes: [`Reply::Subscribed`], and
    /// then [`Reply::Event`]s, with [`Reply::Working`] in between as a sign of life.
    Subscribe {
        /// The workspace's root; none for every project of the config.
        project: Option<OsText>,
    },
}

/// A test program that has run to its end, to be compared with an earlier run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RanProgram {
    /// Its target.
    pub id: TargetId,
    /// The program.
    #[serde(with = "os_text")]
    pub program: PathBuf,
    /// Digest of its stamp when it ran.
    pub stamp: Digest,
    /// Digest of everything besides the program, its path and the variables that decides the outcome and is
    /// known beforehand.
    pub context: Digest,
    /// Digest of the variables of which each decides the outcome only if something in the run can name it.
    pub variables: Digest,
    /// The record of the run that names all its inputs, and when that was made; none for another
    /// run.
    pub record: Option<(RecordKey, Timestamp)>,
    /// Whether it is certain that no crate in it was optimized.
    #[serde(default)]
    pub unoptimized: bool,
    /// Whether only some of its tests ran, and the others keep the outcomes of earlier runs.
    #[serde(default)]
    pub is_part: bool,
    /// The programs that cargo built and the run consulted, with digests of their stamps.
    #[serde(default)]
    pub started: Vec<(OsText, Digest)>,
    /// Those of them of which it is certain that no crate in them was optimized.
    #[serde(default)]
    pub started_unoptimized: Vec<OsText>,
    /// The outcomes.
    pub tests: Vec<TestReport>,
}

/// The question.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Ask {
    /// The workspace's root.
    #[serde(with = "os_text")]
    pub project: PathBuf,
    /// The folder in which cargo would be called.
    #[serde(with = "os_text")]
    pub dir: PathBuf,
    /// Cargo's own arguments; `None` for the project's selection.
    pub cargo: Option<Vec<OsText>>,
    /// The arguments after `--`.
    pub harness: Vec<OsText>,
    /// The client's environment.
    pub environment: Environment,
    /// Look at no record: the client runs everything.
    pub no_cache: bool,
    /// After a miss the client neither builds nor runs: background work continues.
    pub only_known: bool,
    /// The answer names each test.
    #[serde(default)]
    pub names_tests: bool,
    /// The config file that the client uses: with another one, the question means something else.
    #[serde(with = "os_text")]
    pub config_file: PathBuf,
}

impl Ask {
    /// Cargo's arguments as the system's strings.
    #[must_use]
    pub(crate) fn cargo_args(&self) -> Option<Vec<OsString>> {
        self.cargo.as_ref().map(|args| args.iter().map(|arg| arg.0.clone()).collect())
    }

    /// The harness's arguments as the system's strings.
    #[must_use]
    pub(crate) fn harness_args(&self) -> Vec<OsString> {
        self.harness.iter().map(|arg| arg.0.clone()).collect()
    }
}

/// A moment in the life of a project's tree, known only to the daemon that gave it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mark {
    /// Which daemon: another one does not know the moment.
    pub daemon: u64,
    /// Which moment.
    pub moment: u64,
}

/// What a daemon says.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum Reply {
    /// Still at work on the request: what at.
    Working {
        /// For a progress line: `building ripgrep 41/88`.
        what: String,
    },
    /// Green from records.
    Answer(Answer),
    /// No record answers.
    Miss(Miss),
    /// The config does not list this project.
    Unwatched,
    /// What has changed since the mark.
    Settled {
        /// The tree's digest now, or why it is not known.
        tree: Result<Digest, Vec<String>>,
        /// The mark for the next question of this kind.
        mark: Mark,
        /// Up to 20 files that changed since the mark, workspace-relative; `None` if that cannot
        /// be told.
        changed: Option<Vec<String>>,
    },
    /// Some of the paths that were asked about.
    Paths {
        /// Absolute paths.
        paths: Vec<OsText>,
    },
    /// The state of everything.
    Status(StatusReport),
    /// How the build came out.
    Built(LastBuild),
    /// The shared store, as the daemon sees it.
    Store {
        /// One for each thing that was looked at; none if the config names no store.
        findings: Vec<StoreFinding>,
    },
    /// It is done.
    Done,
    /// Events follow.
    Subscribed,
    /// Something has changed.
    Event {
        /// What.
        event: StreamEvent,
    },
    /// It could not be done.
    Error {
        /// What failed, on what, what to do.
        message: String,
    },
    /// Spoken by another version or another user: nothing is answered on this connection.
    Refused {
        /// The daemon's version.
        version: String,
        /// Why.
        reason: String,
    },
}

/// No record answers: what the client needs to continue.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Miss {
    /// The tree's digest; none if a file could not be read.
    pub tree: Option<Digest>,
    /// The moment at which that digest was true.
    pub mark: Mark,
    /// Why no record answers.
    pub reason: String,
    /// When this very code was last seen to fail, if it was, and which tests.
    pub known_failure: Option<KnownFailure>,
    /// The packages that were edited last, the newest edit first.
    #[serde(default)]
    pub edited: Vec<String>,
}

/// A failure that is known for the tree as it stands: shown at once, never given as the answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KnownFailure {
    /// When it failed.
    pub when: Timestamp,
    /// `target: test` names, the first 20.
    pub failures: Vec<String>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_is_one_line_of_json_and_comes_back() {
        let request = Request::new(Call::Ask(Ask {
            project: "/p".into(),
            dir: "/p/sub".into(),
            cargo: Some(vec![OsText::from("--workspace")]),
            harness: vec![OsText::from("--ignored")],
            environment: [("A".into(), "line\nbreak".into())].into_iter().collect(),
            no_cache: false,
            only_known: false,
            names_tests: false,
            config_file: "/c".into(),
        }));
        let line = encode(&request).unwrap();
        assert_eq!(line.iter().filter(|byte| **byte == b'\n').count(), 1);
        assert_eq!(serde_json::from_slice::<Request>(&line).unwrap(), request);
    }

    #[test]
    fn the_newest_words_are_refused_not_misread() {
        let unknown = r#"{"protocol":1,"version":"9","call":{"method":"sing"}}"#;
        assert!(serde_json::from_str::<Request>(unknown).is_err());
    }
}
