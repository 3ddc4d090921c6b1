//! Records for tests.

use std::collections::BTreeMap;

use super::{
    Input, InputState, Limits, Record, RecordKey, RecordLevel, RecordedEnvironment,
    RecordedProducts,
};
use crate::model::{
    Digest, End, Outcome, TargetId, TargetKind, TargetReport, TestCounts, TestReport, Timestamp,
    Verdict,
};

/// When sample records are made.
pub(super) const NOW: Timestamp = Timestamp(1_000_000_000_000);

/// Bounds that no test reaches by chance.
pub(super) const LIMITS: Limits =
    Limits { keep_snapshots: 1_000, max_bytes: 1 << 30, max_age: None };

pub(super) fn key(number: u64) -> RecordKey {
    RecordKey { level: RecordLevel::Source, version: 1, digest: Digest::of(&number.to_le_bytes()) }
}

pub(super) fn code_hash(number: u64) -> Digest {
    Digest::of(format!("code {number}").as_bytes())
}

/// A green record of its own snapshot in the project `/p`.
pub(super) fn record(number: u64) -> Record {
    sized(number, 1, 3)
}

/// The same, red.
pub(super) fn failing(number: u64) -> Record {
    let mut record = record(number);
    record.verdict = Verdict::Fail;
    let target = &mut record.targets[0];
    target.verdict = Verdict::Fail;
    target.end = End::Exit(101);
    target.counts = TestCounts { passed: 2, failed: 1, ..TestCounts::default() };
    target.tests[0].outcome = Outcome::Failed;
    "it failed".clone_into(&mut target.output);
    record
}

/// A green record with so many targets of so many tests.
pub(super) fn sized(number: u64, targets: usize, tests: usize) -> Record {
    let target = |n: usize| TargetReport {
        id: TargetId {
            package: format!("package-{n}"),
            target: "integration".to_owned(),
            kind: TargetKind::Test,
        },
        counts: TestCounts { passed: tests as u64, ..TestCounts::default() },
        tests: (0..tests)
            .map(|n| TestReport {
                name: format!("module::tests::a_name_of_the_usual_length_{n}"),
                outcome: Outcome::Ok,
            })
            .collect(),
        duration_ms: 12,
        ..TargetReport::sample(&[])
    };
    Record {
        key: key(number),
        created: NOW,
        code_hash: code_hash(number),
        selection: "--workspace".to_owned(),
        inputs: vec![
            Input { path: ".env".into(), state: InputState::Absent, proof: None },
            Input {
                path: "/etc/x".into(),
                state: InputState::Digest(Digest::of(b"x")),
                proof: None,
            },
        ],
        targets: (0..targets).map(target).collect(),
        duration_ms: 1_234,
        host: "host".to_owned(),
        tool_version: "0.1.0".to_owned(),
        identity: BTreeMap::from([("toolchain".to_owned(), "rustc 1.95.0".to_owned())]),
        ..Record::sample(TargetReport::sample(&[]))
    }
}

impl Record {
    /// The record of a call of `/p` with this report, which holds without an input.
    pub(crate) fn sample(report: TargetReport) -> Self {
        let digest = Digest::of(b"");
        Self {
            key: RecordKey { level: RecordLevel::Call, version: 1, digest },
            created: Timestamp(1),
            workspace_root: "/p".into(),
            code_hash: digest,
            selection: String::new(),
            verdict: report.verdict,
            inputs: Vec::new(),
            targets: vec![report],
            duration_ms: 1,
            host: String::new(),
            tool_version: String::new(),
            identity: BTreeMap::new(),
            environment: RecordedEnvironment::default(),
            products: RecordedProducts::default(),
            is_quiet: false,
            is_by_reach: false,
        }
    }
}
