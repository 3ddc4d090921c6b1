//! Records of single calls of test programs by cargo itself, or by nextest, beside those of whole
//! targets: which target a call is of, which tests it ran, and that a run that failed leaves no
//! record that would say otherwise.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use super::binary;
use super::fingerprint::Fingerprints;
use crate::cache::{Cache, Record};
use crate::model::{Outcome, TargetId, TargetKind, TargetReport, TestReport, Verdict};

/// What stands for the target of a call: its package, and its name as far as a program's file
/// tells it, in which `-` has become `_`; of whichever kind, and for whichever platform.
pub(super) fn plain_name(package: &str, target: &str) -> String {
    let name = target.split('@').next().unwrap_or_default();
    format!("{package}::{}", name.replace('-', "_"))
}

/// The text that stands for all calls of a target in place of a selection.
pub(super) fn selection_text(plain: &str) -> String {
    format!("calls of {plain}")
}

/// A run that failed.
pub(super) struct Red<'a> {
    /// What was loaded of its program; `None` if that is not known.
    pub(super) program: Option<&'a str>,
    /// The tests that failed; none if they are not known.
    failed: BTreeSet<&'a str>,
    /// The parts of its key, if they can be compared with those of another call.
    parts: Option<&'a BTreeMap<String, String>>,
}

/// What cargo, nextest and rustup set, each in its own way: the same of two calls or not, that
/// explains no failure.
const OF_CARGO: &[&str] = &["CARGO", "NEXTEST", "__NEXTEST", "RUSTUP_", "RUST_RECURSION_COUNT"];
const OF_LOADERS: &[&str] = &["PATH", "LD_LIBRARY_PATH", "DYLD_FALLBACK_LIBRARY_PATH"];

impl<'a> Red<'a> {
    /// `None` if the run did not fail, or no test of it was ever started.
    pub(super) fn of(report: &'a TargetReport, program: Option<&'a str>) -> Option<Self> {
        let is_red = report.verdict == Verdict::Fail;
        let failed = report.failures().collect();
        is_red.then_some(Self { program, failed, parts: None })
    }

    /// The run was a call with this key: what was called with other variables is another matter.
    pub(super) fn with_variables(self, parts: &'a BTreeMap<String, String>) -> Self {
        Self { parts: Some(parts), ..self }
    }

    fn has_other_variables(&self, record: &Record) -> bool {
        fn variables(parts: &BTreeMap<String, String>) -> impl Iterator<Item = (&str, &String)> {
            parts.iter().filter_map(|(name, value)| {
                let name = binary::variable_of(name)?;
                let set = OF_CARGO.iter().any(|start| name.starts_with(start));
                (!set && !OF_LOADERS.contains(&name)).then_some((name, value))
            })
        }
        self.parts.is_some_and(|parts| !variables(parts).eq(variables(&record.identity)))
    }

    /// Whether the record says green of a test that failed, run by the same program.
    fn contradicts(&self, record: &Record) -> bool {
        let [report] = &record.targets[..] else { return false };
        let program = record.identity.get(binary::PROGRAM).map(String::as_str);
        let is_other = self.program.is_some_and(|ours| program.is_some_and(|then| then != ours));
        if record.verdict != Verdict::Pass || is_other || self.has_other_variables(record) {
            return false;
        }
        let ran = tests_of(report);
        // Where either is not known, it may be any.
        ran.is_empty()
            || self.failed.is_empty()
            || ran.iter().any(|test| self.failed.contains(&*test.name))
    }
}

/// A target was red: records of its calls that would answer green are wrong.
pub(super) fn disprove_calls(
    (cache, root): (&Cache, &Path),
    plain: &str,
    red: &Red<'_>,
    fingerprints: &mut Fingerprints,
) {
    for record in cache.records_of(root, &selection_text(plain)) {
        if red.contradicts(&record) && fingerprints.first_changed(root, &record.inputs).is_none() {
            cache.disprove(&record.key);
        }
    }
}

/// A call was red: records of its target that would answer green are wrong, and so are those of the
/// snapshots that they are part of.
pub(super) fn disprove_targets<'a>(
    (cache, root): (&Cache, &Path),
    ids: impl Iterator<Item = &'a TargetId>,
    red: &Red<'_>,
    fingerprints: &mut Fingerprints,
) {
    for id in ids {
        for record in cache.records_of(root, &binary::selection_text(id)) {
            if red.contradicts(&record)
                && fingerprints.first_changed(root, &record.inputs).is_none()
            {
                cache.disprove_with_snapshots(root, &record.key);
            }
        }
    }
}

/// Of these targets those that have the plain name.
pub(super) fn named<'a>(ids: &'a [TargetId], plain: &str) -> impl Iterator<Item = &'a TargetId> {
    ids.iter().filter(move |id| {
        id.kind != TargetKind::Doc && plain_name(&id.package, &id.target) == plain
    })
}

/// The tests that a call ran, with their outcomes, as far as the report tells: none if it cannot be
/// told which they all were.
pub(super) fn tests_of(report: &TargetReport) -> Vec<TestReport> {
    if report.tests.is_empty() { tests_in(&report.output) } else { report.tests.clone() }
}

/// The tests in what libtest prints; none unless each has a line of its own, and as many as there
/// should be. Tests print as well.
pub(super) fn tests_in(stdout: &str) -> Vec<TestReport> {
    let mut lines = stdout.lines().map(plain).filter(|line| !line.is_empty());
    let header = lines.next();
    let number = header.as_deref().and_then(|line| line.strip_prefix("running "));
    let number = number.and_then(|rest| rest.split_once(" test")?.0.parse::<usize>().ok());
    let mut tests = Vec::new();
    let mut names = BTreeSet::new();
    for line in lines {
        if line == "failures:" || line.starts_with("test result: ") {
            break;
        }
        let parts = line.strip_prefix("test ").and_then(|rest| rest.rsplit_once(" ... "));
        let Some((name, outcome)) = parts else { continue };
        let name = name.strip_suffix(" - should panic").unwrap_or(name).to_owned();
        let outcome = match outcome.split([',', ' ']).next() {
            Some("ok") => Outcome::Ok,
            Some("FAILED") => Outcome::Failed,
            Some("ignored") => Outcome::Ignored,
            _ => continue,
        };
        if !names.insert(name.clone()) {
            return Vec::new();
        }
        tests.push(TestReport { name, outcome });
    }
    if number == Some(tests.len()) { tests } else { Vec::new() }
}

/// A line without its colours and the spaces around it.
fn plain(line: &str) -> String {
    let mut text = String::new();
    let mut rest = line;
    while let Some((before, escaped)) = rest.split_once("\u{1b}[") {
        text.push_str(before);
        let end = escaped.find(|c: char| c.is_ascii_alphabetic());
        rest = end.map_or("", |end| &escaped[end + 1..]);
        // What terminfo's reset begins with.
        rest = rest.strip_prefix("\u{f}").unwrap_or(rest);
    }
    text.push_str(rest);
    text.trim().replace("\u{1b}(B", "")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cache::{RecordKey, RecordLevel};
    use crate::model::{Digest, End, TestCounts, Timestamp};

    const OUTPUT: &str = "\nrunning 3 tests\ntest a::b ... ok\ntest c - should panic ... FAILED\n\
                          test d ... ignored, why not\n\nfailures:\n\n---- c stdout ----\n\
                          test x ... ok\n\nfailures:\n    c\n\ntest result: FAILED. 1 passed; \
                          1 failed; 1 ignored; 0 measured; 0 filtered out; finished in 0.00s\n";

    fn names(output: &str) -> Vec<(String, Outcome)> {
        tests_in(output).into_iter().map(|test| (test.name, test.outcome)).collect()
    }

    #[test]
    fn the_tests_of_an_output_are_all_of_them_or_none() {
        let known = [("a::b", Outcome::Ok), ("c", Outcome::Failed), ("d", Outcome::Ignored)];
        let known = known.map(|(name, outcome)| (name.to_owned(), outcome));
        assert_eq!(names(OUTPUT), known);
        let coloured = OUTPUT.replace(" ok\n", " \u{1b}[32mok\u{1b}(B\u{1b}[m\n");
        assert_eq!(names(&coloured), known);
        let torn = OUTPUT.replace("test a::b ... ok", "test a::b ... hello\nok");
        for bad in [&torn, &OUTPUT.replace("a::b", "d"), "", "running 1 test\n.\n"] {
            assert!(names(bad).is_empty(), "{bad}");
        }
    }

    #[test]
    fn a_target_has_one_plain_name_in_every_spelling() {
        assert_eq!(plain_name("p-q", "my-it"), "p-q::my_it");
        assert_eq!(plain_name("p-q", "my_it@x86_64-unknown-linux-gnu"), "p-q::my_it");
        let id = |target: &str, kind| TargetId { package: "p".into(), target: target.into(), kind };
        let ids = [id("my-it", TargetKind::Test), id("my_it", TargetKind::Doc)];
        assert_eq!(named(&ids, "p::my_it").collect::<Vec<_>>(), [&ids[0]]);
    }

    #[test]
    fn a_red_says_nothing_of_other_tests_and_programs() {
        let report = |output: &str, verdict| TargetReport {
            id: TargetId { package: "p".into(), target: "t".into(), kind: TargetKind::Test },
            verdict,
            end: End::Exit(0),
            counts: TestCounts::default(),
            tests: tests_in(output),
            output: output.to_owned(),
            duration_ms: 1,
        };
        let record = |test: &str, program: &str| {
            let output = format!("running 1 test\ntest {test} ... ok\n\ntest result: ok.\n");
            let digest = Digest::of(b"");
            Record {
                key: RecordKey { level: RecordLevel::Call, version: 1, digest },
                created: Timestamp(0),
                workspace_root: "/p".into(),
                code_hash: digest,
                selection: selection_text("p::t"),
                verdict: Verdict::Pass,
                inputs: Vec::new(),
                targets: vec![report(&output, Verdict::Pass)],
                duration_ms: 1,
                host: String::new(),
                tool_version: String::new(),
                identity: [(binary::PROGRAM.to_owned(), program.to_owned())].into(),
            }
        };
        let failed = report(OUTPUT, Verdict::Fail);
        let red = Red::of(&failed, Some("one")).unwrap();
        assert!(red.contradicts(&record("c", "one")));
        assert!(!red.contradicts(&record("c", "other")), "another program");
        assert!(!red.contradicts(&record("a::b", "one")), "another test");
        let mut unknown = record("a::b", "one");
        unknown.targets[0].output.clear();
        unknown.targets[0].tests.clear();
        assert!(red.contradicts(&unknown), "it may be any test");
        let mut other = record("c", "one");
        other.identity.insert(binary::variable("MODE".as_ref()), "x".to_owned());
        other.identity.insert(binary::variable("NEXTEST_X".as_ref()), "x".to_owned());
        assert!(red.contradicts(&other), "variables cannot always be compared");
        let parts = record("c", "one").identity;
        let with = |parts| Red::of(&failed, Some("one")).unwrap().with_variables(parts);
        assert!(!with(&parts).contradicts(&other));
        let mut same = parts.clone();
        same.insert(binary::variable("MODE".as_ref()), "x".to_owned());
        assert!(with(&same).contradicts(&other));
        let killed = report("", Verdict::Fail);
        assert!(Red::of(&killed, None).unwrap().contradicts(&record("a::b", "other")));
        assert!(Red::of(&report(OUTPUT, Verdict::Pass), None).is_none());
    }
}
