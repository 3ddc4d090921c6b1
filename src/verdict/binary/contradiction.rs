//! A run that failed, and the green records that it contradicts.
//!
//! A red run leaves no record that would answer green in its place: those of calls by cargo itself
//! and those of whole targets contradict each other as well.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use super::key::{
    PROGRAM, PROGRAM_FILE, REACHED, calls_text, named, packages_text, plain_name, selection_text,
    variable_of,
};
use crate::cache::{Cache, InputState, Record};
use crate::model::{TargetId, TargetReport, TestReport, Verdict};
use crate::runner;
use crate::verdict::environment::{AskedEnvironment, EnvironmentJudge};
use crate::verdict::fingerprint::{Aspect, Fingerprints};
use crate::verdict::patterns::of_any_kind;

/// A run that failed.
#[derive(Clone)]
pub(in crate::verdict) struct RedRun<'a> {
    /// See [`plain_name`].
    plain: String,
    /// What was loaded of its program; `None` if that is not known.
    program: Option<&'a str>,
    /// The tests that failed; none if they are not known.
    failed: BTreeSet<&'a str>,
    /// Its variables, if they can be compared with those of another call.
    environment: Option<CallEnvironment<'a>>,
}

/// The variables of a call that failed.
#[derive(Clone, Copy)]
pub(super) struct CallEnvironment<'a> {
    /// The parts of its key.
    pub(super) parts: &'a BTreeMap<String, String>,
    /// Those beside the key.
    pub(super) asked: &'a AskedEnvironment,
    pub(super) judge: &'a EnvironmentJudge<'a>,
}

/// Variables that cargo, nextest and rustup set, each in its own way: a difference in them explains
/// no failure.
const SET_BY_TOOLS: &[&str] = &["CARGO", "NEXTEST", "__NEXTEST", "RUSTUP_", "RUST_RECURSION_COUNT"];
/// Variables that cargo prepends folders to.
const SEARCH_PATHS: &[&str] = &["PATH", "LD_LIBRARY_PATH", "DYLD_FALLBACK_LIBRARY_PATH"];

impl<'a> RedRun<'a> {
    /// `None` if the run did not fail, or no test of it was ever started.
    pub(in crate::verdict) fn of(
        report: &'a TargetReport,
        program: Option<&'a str>,
    ) -> Option<Self> {
        let plain = plain_name(&report.id.package, &report.id.target);
        let failed = report.failures().collect();
        (report.verdict == Verdict::Fail).then_some(Self {
            plain,
            program,
            failed,
            environment: None,
        })
    }

    /// The run was a call with these variables: a call with others that count is another matter.
    pub(super) fn with_variables(self, environment: CallEnvironment<'a>) -> Self {
        Self { environment: Some(environment), ..self }
    }

    fn has_other_variables(&self, record: &Record, fingerprints: &mut Fingerprints) -> bool {
        fn variables(parts: &BTreeMap<String, String>) -> impl Iterator<Item = (&str, &String)> {
            parts.iter().filter_map(|(name, value)| {
                let name = variable_of(name)?;
                let set = SET_BY_TOOLS.iter().any(|start| name.starts_with(start));
                (!set && !SEARCH_PATHS.contains(&name)).then_some((name, value))
            })
        }
        self.environment.is_some_and(|CallEnvironment { parts, asked, judge }| {
            !variables(parts).eq(variables(&record.identity))
                || judge.obstacle(record, asked, fingerprints).is_some()
        })
    }

    /// Whether the record says green of a test that failed, run by the same program.
    fn contradicts(&self, record: &Record, fingerprints: &mut Fingerprints) -> bool {
        let [report] = &record.targets[..] else { return false };
        let program = record.identity.get(PROGRAM).map(String::as_str);
        let reached = self.environment.and_then(|environment| environment.parts.get(REACHED));
        let is_other = match (record.identity.get(REACHED), reached) {
            // One that goes by what its test reaches answers for other programs too.
            (Some(then), ours) => ours.is_some_and(|ours| then != ours),
            (None, _) => self.program.is_some_and(|ours| program.is_some_and(|then| then != ours)),
        };
        if record.verdict != Verdict::Pass
            || is_other
            || self.has_other_variables(record, fingerprints)
        {
            return false;
        }
        let ran = tests_of(report);
        // Where either is not known, it may be any.
        ran.is_empty()
            || self.failed.is_empty()
            || ran.iter().any(|test| self.failed.contains(&*test.name))
    }

    /// Whether the record would answer green in the checkout at `root`, for a test that failed there.
    fn contradicts_in(
        &self,
        root: &Path,
        record: &Record,
        fingerprints: &mut Fingerprints,
    ) -> bool {
        self.contradicts(record, fingerprints)
            && (record.workspace_root == root || self.runs_in(root, record, fingerprints))
            && fingerprints.first_changed(root, &record.inputs).is_none()
    }

    /// Whether the program of another checkout's record is the one that ran in the checkout at `root`.
    /// Targets of one name may be of projects that have nothing to do with each other.
    fn runs_in(&self, root: &Path, record: &Record, fingerprints: &mut Fingerprints) -> bool {
        let Some(then) = record.identity.get(PROGRAM) else { return false };
        if let Some(ours) = self.program {
            return then == ours;
        }
        let Some(file) = program_in(root, record) else { return false };
        fingerprints.read(root, &file, Aspect::Program).is_ok_and(
            |now| matches!(now.state, InputState::Program(digest) if digest.to_string() == *then),
        )
    }

    /// Removes the records of calls of the target that would answer green.
    pub(in crate::verdict) fn disprove_calls(
        &self,
        cache: &Cache,
        root: &Path,
        fingerprints: &mut Fingerprints,
    ) {
        for record in cache.records_anywhere(&calls_text(&self.plain)) {
            if self.contradicts_in(root, &record, fingerprints) {
                cache.disprove(&record.key);
            }
        }
    }

    /// Removes the records of the target, one of `known`, that would answer green, and those of the
    /// snapshots that they are part of.
    pub(super) fn disprove_targets(
        &self,
        cache: &Cache,
        root: &Path,
        known: &[TargetId],
        fingerprints: &mut Fingerprints,
    ) {
        for id in named(known, &self.plain) {
            let texts = [selection_text(id), packages_text(id)];
            for record in texts.iter().flat_map(|text| cache.records_anywhere(text)) {
                if self.contradicts_in(root, &record, fingerprints) {
                    cache.disprove_with_snapshots(&record.key);
                }
            }
        }
    }
}

/// Where the program of a call's record lies in the checkout at `root`.
pub(in crate::verdict) fn program_in(root: &Path, record: &Record) -> Option<PathBuf> {
    let file = Path::new(record.identity.get(PROGRAM_FILE)?);
    let below = file.strip_prefix(&record.workspace_root);
    Some(below.map_or_else(|_| file.to_owned(), |below| root.join(below)))
}

/// The tests that a call ran, with their outcomes, as far as the report tells: none if it cannot be
/// told which they all were.
pub(in crate::verdict) fn tests_of(report: &TargetReport) -> Vec<TestReport> {
    if report.tests.is_empty() {
        runner::read_output(&report.output, report.end, None).tests
    } else {
        report.tests.clone()
    }
}

/// Those of the targets that a call may be one of. Where cargo has named none, as in a checkout in which
/// only plain `cargo test` has run, all that it may be called.
pub(super) fn targets_named_like(call: &TargetId, mut known: Vec<TargetId>) -> Vec<TargetId> {
    let plain = plain_name(&call.package, &call.target);
    if named(&known, &plain).next().is_none() {
        let hyphens = call.target.replace('_', "-");
        known
            .extend([&call.target, &hyphens].map(|name| of_any_kind(&call.package, name)).concat());
    }
    known
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Digest, End};
    use crate::verdict::binary::key::variable;
    use crate::verdict::patterns::VariableRules;

    const OUTPUT: &str = "\nrunning 3 tests\ntest a::b ... ok\ntest c - should panic ... FAILED\n\
                          test d ... ignored, why not\n\nfailures:\n\n---- c stdout ----\n\
                          test x ... ok\n\nfailures:\n    c\n\ntest result: FAILED. 1 passed; \
                          1 failed; 1 ignored; 0 measured; 0 filtered out; finished in 0.00s\n";

    #[test]
    fn a_red_says_nothing_of_other_tests_and_programs() {
        let report = |output: &str, verdict| TargetReport {
            verdict,
            tests: runner::read_output(output, End::Exit(101), None).tests,
            output: output.to_owned(),
            ..TargetReport::sample(&[])
        };
        let record = |test: &str, program: &str| {
            let output = format!(
                "running 1 test\ntest {test} ... ok\n\ntest result: ok. 1 passed; \
                 0 failed; 0 ignored; 0 measured; 0 filtered out\n"
            );
            Record {
                selection: calls_text("p::t"),
                identity: [(PROGRAM.to_owned(), program.to_owned())].into(),
                ..Record::sample(report(&output, Verdict::Pass))
            }
        };
        let failed = report(OUTPUT, Verdict::Fail);
        let red = RedRun::of(&failed, Some("one")).unwrap();
        let contradicts =
            |red: &RedRun<'_>, record: &_| red.contradicts(record, &mut Fingerprints::default());
        assert!(contradicts(&red, &record("c", "one")));
        assert!(!contradicts(&red, &record("c", "other")), "another program");
        let mut reached = record("c", "other");
        reached.identity.insert(REACHED.to_owned(), "code".to_owned());
        assert!(contradicts(&red, &reached), "it answers for any program");
        assert!(!contradicts(&red, &record("a::b", "one")), "another test");
        let mut unknown = record("a::b", "one");
        unknown.targets[0].output.clear();
        unknown.targets[0].tests.clear();
        assert!(contradicts(&red, &unknown), "it may be any test");
        let mut other = record("c", "one");
        other.identity.insert(variable("MODE".as_ref()), "x".to_owned());
        other.identity.insert(variable("NEXTEST_X".as_ref()), "x".to_owned());
        assert!(contradicts(&red, &other), "variables cannot always be compared");
        let parts = record("c", "one").identity;
        let dir = tempfile::tempdir().unwrap();
        let cache = Cache::open(dir.path());
        let judge = EnvironmentJudge {
            cache: &cache,
            root: dir.path(),
            target_dirs: &[],
            toolchain: Vec::new(),
            rules: VariableRules::default(),
            known: std::cell::RefCell::default(),
            told: std::collections::BTreeMap::new(),
        };
        let (asked, mut more) = (AskedEnvironment::default(), AskedEnvironment::default());
        more.insert("FLAVOUR".as_ref(), Digest::of(b"x"));
        let red_with = |parts, asked, record: &_| {
            let environment = CallEnvironment { parts, asked, judge: &judge };
            let red = RedRun::of(&failed, Some("one")).unwrap().with_variables(environment);
            contradicts(&red, record)
        };
        assert!(!red_with(&parts, &asked, &other));
        let mut same = parts.clone();
        same.insert(variable("MODE".as_ref()), "x".to_owned());
        assert!(red_with(&same, &asked, &other));
        assert!(!red_with(&same, &more, &other), "what the record's run could name is not known");
        reached.identity.extend(same.clone());
        let of_code = |code: &str| {
            let code = (REACHED.to_owned(), code.to_owned());
            same.clone().into_iter().chain([code]).collect::<BTreeMap<_, _>>()
        };
        let (own, foreign) = (of_code("code"), of_code("other code"));
        reached.identity.insert(REACHED.to_owned(), "code".to_owned());
        assert!(red_with(&own, &asked, &reached) && !red_with(&foreign, &asked, &reached));
        let elsewhere = |root: &str, record: &_| {
            red.contradicts_in(Path::new(root), record, &mut Fingerprints::default())
        };
        assert!(elsewhere("/p", &record("c", "one")) && elsewhere("/q", &record("c", "one")));
        assert!(!elsewhere("/q", &record("a::b", "one")) && !elsewhere("/q", &record("c", "two")));
        let mut foreign = record("c", "one");
        foreign.identity.clear();
        assert!(elsewhere("/p", &foreign) && !elsewhere("/q", &foreign), "a namesake, perhaps");
        let killed = report("", Verdict::Fail);
        assert!(contradicts(&RedRun::of(&killed, None).unwrap(), &record("a::b", "other")));
        assert!(RedRun::of(&report(OUTPUT, Verdict::Pass), None).is_none());
    }
}
