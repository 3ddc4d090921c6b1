//! cargo-nextest's events, and the reports that follow from them.

use std::collections::{BTreeSet, HashMap, HashSet};

use serde_json::Value;

use crate::model::{End, Outcome, TargetId, TargetReport, TestCounts, TestReport, Verdict};

use super::super::RunEvent;
use super::super::bounded::Bounded;
use super::TESTS_FAILED;
use super::suites::{Suite, Suites};

/// The longest event that is read, in bytes: a failed test's whole output is one line.
const MOST_EVENT_BYTES: usize = 64 * 1024 * 1024;
/// How many bytes of one failed test's output are stored.
const MOST_TEST_OUTPUT: usize = 1024 * 1024;

/// The events about the tests of one name: usually one test, more if suites share the name.
#[derive(Clone, Debug, Default)]
struct TestEvents {
    started: u64,
    ok: u64,
    failed: u64,
    /// It passed only when it was run again.
    flaky: bool,
    output: String,
    seconds: f64,
}

/// Reads the events as they come.
#[derive(Debug)]
pub(super) struct EventReader {
    suites: Vec<Suite>,
    no_capture: bool,
    line: Vec<u8>,
    /// The suites that have selected a test, by its name in events: `prefix$test`.
    index: HashMap<String, Vec<usize>>,
    said: HashMap<String, TestEvents>,
    begun: BTreeSet<TargetId>,
}

impl EventReader {
    pub(super) fn new(suites: Suites, no_capture: bool) -> Self {
        let mut index: HashMap<String, Vec<usize>> = HashMap::new();
        for (position, suite) in suites.0.iter().enumerate() {
            for name in &suite.selected {
                index.entry(suite.event_name(name)).or_default().push(position);
            }
        }
        Self {
            suites: suites.0,
            no_capture,
            line: Vec::new(),
            index,
            said: HashMap::new(),
            begun: BTreeSet::new(),
        }
    }

    pub(super) fn suites(&self) -> &[Suite] {
        &self.suites
    }

    /// Reads the next piece of standard output. A line that is no event was printed by a test and
    /// goes to `text`.
    pub(super) fn feed(
        &mut self,
        bytes: &[u8],
        text: &mut Bounded,
        events: &mut impl FnMut(RunEvent<'_>),
    ) {
        for piece in bytes.split_inclusive(|byte| *byte == b'\n') {
            let room = MOST_EVENT_BYTES.saturating_sub(self.line.len());
            self.line.extend_from_slice(&piece[..piece.len().min(room)]);
            if piece.ends_with(b"\n") {
                let line = std::mem::take(&mut self.line);
                match parse(&line) {
                    Some(event) => self.event(&event, events),
                    None if self.no_capture && line == b"\"}\n" => {}
                    None => text.push(&line),
                }
            }
        }
    }

    /// The output has ended: an incomplete last line is no event.
    pub(super) fn finish(&mut self, text: &mut Bounded) {
        text.push(&std::mem::take(&mut self.line));
    }

    fn event(&mut self, event: &Value, events: &mut impl FnMut(RunEvent<'_>)) {
        let text = |key: &str| event.get(key).and_then(Value::as_str);
        let (Some("test"), Some(what), Some(name)) = (text("type"), text("event"), text("name"))
        else {
            return;
        };
        let Some((name, again)) = self.resolve(name) else { return };
        let sharers = self.index.get(name).map(Vec::as_slice).unwrap_or_default();
        let said = self.said.entry(name.to_owned()).or_default();
        let outcome = match what {
            "started" => {
                said.started += 1;
                for suite in sharers.iter().map(|position| &self.suites[*position]) {
                    if self.begun.insert(suite.id.clone()) {
                        events(RunEvent::Started { id: &suite.id });
                    }
                }
                return;
            }
            "ok" => {
                said.ok += 1;
                said.flaky |= again;
                Outcome::Ok
            }
            "failed" | "timeout" => {
                said.failed += 1;
                said.output.push_str(text("stdout").unwrap_or_default());
                if let Some(reason) = text("reason") {
                    said.output.push_str(reason);
                }
                cut(&mut said.output);
                Outcome::Failed
            }
            _ => return,
        };
        said.seconds += event.get("exec_time").and_then(Value::as_f64).unwrap_or(0.0);
        if let (Some(_), Some((_, name))) = (sharers.first(), name.split_once('$')) {
            events(RunEvent::TestFinished { name, outcome });
        }
    }

    /// The name of a selected test, and whether it was run more than once (`name#2`).
    fn resolve<'a>(&self, name: &'a str) -> Option<(&'a str, bool)> {
        if self.index.contains_key(name) {
            return Some((name, false));
        }
        let (base, number) = name.rsplit_once('#')?;
        (number.parse::<u32>().is_ok() && self.index.contains_key(base)).then_some((base, true))
    }

    fn said(&self, suite: &Suite, name: &str) -> Option<&TestEvents> {
        self.said.get(&suite.event_name(name))
    }

    /// Targets with tests that have begun and not ended, and those tests.
    pub(super) fn running(&self) -> Vec<(&TargetId, Vec<String>)> {
        let unfinished = |suite: &Suite| -> Vec<String> {
            let running = |name: &&String| {
                self.said(suite, name).is_some_and(|said| said.started > said.ok + said.failed)
            };
            suite.selected.iter().filter(running).cloned().collect()
        };
        let running = self.suites.iter().map(|suite| (&suite.id, unfinished(suite)));
        running.filter(|(_, names)| !names.is_empty()).collect()
    }

    /// The reports of a run that ended with `end`; `text` is nextest's own for people.
    pub(super) fn reports(&self, end: End, text: &str) -> Vec<TargetReport> {
        let passed = end == End::Exit(0);
        let outcome = |suite: &Suite, name: &String| -> Option<Outcome> {
            let sharers = self.index.get(&suite.event_name(name))?.len() as u64;
            match self.said(suite, name)? {
                // Fail in doubt: a flaky pass can be what failed the run, by nextest's config.
                said if !passed && (said.failed > 0 || said.flaky) => Some(Outcome::Failed),
                // The tests could have written the events themselves.
                _ if !passed && self.no_capture => None,
                said if said.failed == 0 && said.ok == sharers => Some(Outcome::Ok),
                _ => None,
            }
        };
        let mut reports: Vec<TargetReport> = Vec::new();
        for suite in &self.suites {
            let tests = suite.selected.iter().filter_map(|name| {
                Some(TestReport { name: name.clone(), outcome: outcome(suite, name)? })
            });
            reports.push(self.report(suite, end, tests.collect(), text));
        }
        // Something failed. If nothing shows what, it can be anything that was run.
        if end == End::Exit(TESTS_FAILED)
            && reports.iter().all(|report| report.verdict == Verdict::Pass)
        {
            for (report, suite) in reports.iter_mut().zip(&self.suites) {
                if !suite.selected.is_empty() {
                    report.verdict = Verdict::Fail;
                    report.end = end;
                    report.output = text.to_owned();
                    report.tests.retain(|test| test.outcome != Outcome::Ok);
                }
            }
        }
        reports
    }

    fn report(
        &self,
        suite: &Suite,
        end: End,
        mut tests: Vec<TestReport>,
        text: &str,
    ) -> TargetReport {
        let count = |what| tests.iter().filter(|test| test.outcome == what).count() as u64;
        let (ok, failed) = (count(Outcome::Ok), count(Outcome::Failed));
        let complete = ok == suite.selected.len() as u64;
        let passed = end == End::Exit(0) || complete;
        let counts = TestCounts {
            // All selected tests ran if nextest says so; a name may be missing even then.
            passed: if passed { suite.selected.len() as u64 } else { ok },
            failed,
            ignored: suite.ignored.len() as u64,
            filtered: suite.filtered,
        };
        let mut output = String::new();
        if !passed {
            for test in tests.iter().filter(|test| test.outcome == Outcome::Failed) {
                self.failure(suite, &test.name, text, &mut output);
            }
            let named: HashSet<&str> = tests.iter().map(|test| test.name.as_str()).collect();
            let missing = suite.selected.iter().filter(|name| !named.contains(name.as_str()));
            for name in missing.take(20) {
                output.push_str(&format!("no outcome was reported for {name}\n"));
            }
        }
        let ignored = suite.ignored.iter();
        tests.extend(
            ignored.map(|name| TestReport { name: name.clone(), outcome: Outcome::Ignored }),
        );
        tests.sort_by(|a, b| a.name.cmp(&b.name));
        let said = suite.selected.iter().filter_map(|name| self.said(suite, name));
        let seconds: f64 = said.map(|said| said.seconds).sum();
        TargetReport {
            id: suite.id.clone(),
            verdict: if passed { Verdict::Pass } else { Verdict::Fail },
            end: if passed { End::Exit(0) } else { end },
            counts,
            tests,
            output,
            stderr: None,
            duration_ms: std::time::Duration::try_from_secs_f64(seconds)
                .map_or(0, |duration| u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)),
        }
    }

    /// One failed test's section: nextest's line for it, which names a signal, and its output.
    fn failure(&self, suite: &Suite, name: &str, text: &str, output: &mut String) {
        let label = format!("{} {name}", suite.binary_id);
        output.push_str(&format!("---- {name} stdout ----\n"));
        let status = |line: &&str| line.trim_end().ends_with(&label) && line.contains(" [");
        if let Some(line) = text.lines().find(status) {
            output.push_str(line.trim());
            output.push('\n');
        }
        if let Some(said) = self.said(suite, name) {
            output.push_str(&said.output);
        }
        if !output.ends_with('\n') {
            output.push('\n');
        }
        output.push('\n');
    }
}

/// One line's event. Where output is not captured, nextest 0.9.143 writes an end of line as it is
/// into the text of a failed test's event, which ends up on two lines: the first has all that is
/// needed.
fn parse(line: &[u8]) -> Option<Value> {
    let event = serde_json::from_slice::<Value>(line).ok().or_else(|| {
        let torn = line.strip_suffix(b"\n").filter(|_| line.starts_with(b"{\"type\":\"test\","))?;
        serde_json::from_slice(&[torn, b"\"}"].concat()).ok()
    });
    event.filter(Value::is_object)
}

/// Keeps the end of a text that is too long.
fn cut(text: &mut String) {
    if text.len() > MOST_TEST_OUTPUT {
        let mut start = text.len() - MOST_TEST_OUTPUT;
        while !text.is_char_boundary(start) {
            start += 1;
        }
        *text = format!("[... {start} bytes left out ...]\n{}", &text[start..]);
    }
}
