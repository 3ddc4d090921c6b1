//! Judges the claims in a test binary's output: counts and outcomes by name.
//!
//! The verdict is not decided here: it is the exit status alone, as it is for cargo. The rules,
//! for a binary whose tests are known from its list:
//!
//! 1. Believed is the last `test result:` line that agrees with the exit status (`ok` with 0,
//!    `FAILED` with anything else) and whose figures add up to the number of listed tests, as
//!    long as every `running N tests` of that number has such a line (a program that a test
//!    started can be the same binary). It gives the counts. Were there several such lines that
//!    differ, it still does, but no test is given as passed.
//! 2. The failed tests are those listed above that line, if they are as many as it says and
//!    nothing else stands between; the ignored ones are those that `--list --ignored` names, if they are as many as it says.
//! 3. With both known, the others passed. Left out nevertheless is every test for which any line
//!    claims something else and, in a run that failed, every test without a line that says `ok`.
//! 4. Where 1 or 2 does not hold, no test is given as passed. Tests with a claim of failure, and
//!    the ones that were running when the binary ended badly, are given as failed.
//!
//! For doctests, and for other harnesses that print as libtest does, there is no list: headers
//! and summaries must pair up one after the other, and the claims must add up to the summaries.

use std::collections::HashSet;

use crate::model::{End, Outcome, TestCounts, TestReport};

use super::lines::Summary;
use super::scan::{Claims, Listing, Names, OutputMark, Scan};

/// The proven counts and outcomes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Findings {
    pub(super) counts: TestCounts,
    pub(super) tests: Vec<TestReport>,
}

/// The facts besides the output.
#[derive(Clone, Debug)]
pub(super) struct Circumstances {
    pub(super) end: End,
    /// Tests may have been left out by a filter.
    pub(super) filtered: bool,
    /// The names that `--list --ignored` gave, where it was asked.
    pub(super) ignored: Option<HashSet<String>>,
    /// The tests that were running when the binary ended.
    pub(super) running: Vec<String>,
}

/// The summary that rule 1 believes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Believed<'a> {
    pub(super) summary: Summary,
    /// The names listed above it, if there is such a list.
    failures: Option<&'a [String]>,
    /// No other line with as good a claim says something else.
    undisputed: bool,
}

/// Looks for the summary that rule 1 believes.
pub(super) fn believed<'a>(
    scan: &'a Scan,
    listing: &Listing,
    end: End,
    filtered: bool,
) -> Option<Believed<'a>> {
    if scan.matching_summaries < scan.matching_headers {
        return None;
    }
    let matching = scan.marks.iter().rev().filter_map(|mark| match mark {
        OutputMark::Summary(summary, failures) if summary.total() == listing.len() => {
            Some((*summary, failures.as_deref()))
        }
        _ => None,
    });
    let remembers_all = matching.clone().count() as u64 == scan.matching_summaries;
    let mut agreeing = matching
        .filter(|(summary, _)| agrees(*summary, end) && (filtered || summary.counts.filtered == 0));
    let (summary, failures) = agreeing.next()?;
    let undisputed = remembers_all && agreeing.all(|other| other == (summary, failures));
    Some(Believed { summary, failures, undisputed })
}

/// Judges the output of a binary that is at its end.
pub(super) fn judge(scan: &Scan, about: &Circumstances) -> Findings {
    let passed = about.end == End::Exit(0);
    let mut findings = match &scan.names {
        Names::Known(listing) => match believed(scan, listing, about.end, about.filtered) {
            Some(believed) => settled(scan, listing, believed, about),
            None => unsettled(scan, about),
        },
        Names::Doctests | Names::Any | Names::Unknown => unlisted(scan, about),
    };
    if passed {
        // The exit status says that nothing failed: claims of failure are not believed.
        findings.tests.retain(|test| test.outcome != Outcome::Failed);
        findings.counts.failed = 0;
    }
    findings
}

/// Rules 2 and 3.
fn settled(
    scan: &Scan,
    listing: &Listing,
    Believed { summary, failures, undisputed }: Believed<'_>,
    about: &Circumstances,
) -> Findings {
    let counts = summary.counts;
    let same = |count: u64, len: usize| count == len as u64;
    let failures = if counts.failed == 0 { Some(&[][..]) } else { failures };
    let failed: Option<HashSet<&str>> = failures
        .filter(|failures| same(counts.failed, failures.len()))
        .map(|failures| failures.iter().map(String::as_str).collect::<HashSet<_>>())
        // A name that comes twice stands in the place of another.
        .filter(|failed| same(counts.failed, failed.len()));
    let ignored: Option<HashSet<&str>> = match &about.ignored {
        _ if counts.ignored == 0 => Some(HashSet::new()),
        Some(names)
            if same(counts.ignored, names.len())
                && names.iter().all(|name| listing.contains(name)) =>
        {
            Some(names.iter().map(String::as_str).collect())
        }
        _ => None,
    };
    let outcome = |name: &str| -> Option<Outcome> {
        let claims = scan.claims.get(name).copied().unwrap_or_default();
        let (Some(failed), Some(ignored)) = (&failed, &ignored) else {
            return doubtful(claims);
        };
        match (failed.contains(name), ignored.contains(name)) {
            (true, true) => None,
            (true, false) => Some(Outcome::Failed),
            (false, true) => Some(Outcome::Ignored),
            (false, false) => {
                let contradicted = claims.failed > 0 || claims.ignored > 0;
                let confirmed = summary.ok || claims.ok > 0;
                (undisputed && confirmed && !contradicted).then_some(Outcome::Ok)
            }
        }
    };
    let tests = listing.names.iter().filter_map(|name| Some(report(name, outcome(name)?)));
    Findings { counts, tests: tests.collect() }
}

/// Rule 4: nothing that proves a pass.
fn unsettled(scan: &Scan, about: &Circumstances) -> Findings {
    let mut names: Vec<&String> = scan.claims.keys().collect();
    if about.end != End::Exit(0) {
        names.extend(&about.running);
    }
    names.sort_unstable();
    names.dedup();
    let mut findings = Findings::default();
    for name in names {
        let claims = scan.claims.get(name).copied().unwrap_or_default();
        let clean = claims.failed == 0 && claims.ignored == 0 && claims.ok > 0;
        findings.counts.passed += u64::from(clean);
        let outcome =
            if about.running.contains(name) { Some(Outcome::Failed) } else { doubtful(claims) };
        if let Some(outcome) = outcome {
            count(&mut findings.counts, outcome);
            findings.tests.push(report(name, outcome));
        }
    }
    findings
}

/// The outcome that contradictory or incomplete claims allow: never a pass.
fn doubtful(claims: Claims) -> Option<Outcome> {
    match claims {
        Claims { failed: 1.., .. } => Some(Outcome::Failed),
        Claims { ok: 0, ignored: 1.., .. } => Some(Outcome::Ignored),
        _ => None,
    }
}

/// A summary, and the names listed above it.
type Block<'a> = (Summary, Option<&'a [String]>);

/// No list to compare with: the output must be consistent with itself.
fn unlisted(scan: &Scan, about: &Circumstances) -> Findings {
    let (blocks, orderly) = blocks(scan);
    let passed = about.end == End::Exit(0);
    let credible = if passed {
        blocks.iter().all(|(summary, _)| summary.ok)
    } else {
        blocks.iter().any(|(summary, _)| !summary.ok)
    };
    if blocks.is_empty() || (passed && !credible) {
        return unsettled(scan, about);
    }
    let mut counts = TestCounts::default();
    for (summary, _) in &blocks {
        let TestCounts { passed, failed, ignored, filtered } = summary.counts;
        counts.passed = counts.passed.saturating_add(passed);
        counts.failed = counts.failed.saturating_add(failed);
        counts.ignored = counts.ignored.saturating_add(ignored);
        counts.filtered = counts.filtered.saturating_add(filtered);
    }
    let listed = || blocks.iter().filter_map(|(_, failures)| *failures).flatten();
    let failures: HashSet<&str> = listed().map(String::as_str).collect();
    let claimed =
        |of: fn(&Claims) -> u32| scan.claims.values().map(|c| u64::from(of(c))).sum::<u64>();
    let proven = orderly
        && credible
        && !scan.overflow
        && counts.failed == listed().count() as u64
        && counts.passed == claimed(|claims| claims.ok)
        && counts.ignored == claimed(|claims| claims.ignored);
    let mut names: Vec<&str> = scan.claims.keys().map(String::as_str).collect();
    names.extend(&failures);
    names.sort_unstable();
    names.dedup();
    let outcome = |name: &str| {
        let claims = scan.claims.get(name).copied().unwrap_or_default();
        match claims {
            _ if failures.contains(name) => Some(Outcome::Failed),
            Claims { ok: 1.., failed: 0, ignored: 0 } if proven => Some(Outcome::Ok),
            _ => doubtful(claims),
        }
    };
    let tests = names.iter().filter_map(|name| Some(report(name, outcome(name)?))).collect();
    Findings { counts, tests }
}

/// The outermost pairs of a header and a summary of the same number, and whether there is
/// nothing but such pairs, one after the other.
fn blocks(scan: &Scan) -> (Vec<Block<'_>>, bool) {
    let mut open: Vec<u64> = Vec::new();
    let mut found = Vec::new();
    let mut orderly = true;
    for mark in &scan.marks {
        match mark {
            OutputMark::Header(count) => {
                orderly &= open.is_empty();
                open.push(*count);
            }
            OutputMark::Summary(summary, failures) => {
                match open.iter().rposition(|count| *count == summary.total()) {
                    Some(at) => open.truncate(at),
                    None => {
                        orderly = false;
                        continue;
                    }
                }
                if open.is_empty() {
                    found.push((*summary, failures.as_deref()));
                }
            }
        }
    }
    orderly &= open.is_empty();
    (found, orderly)
}

fn agrees(summary: Summary, end: End) -> bool {
    match end {
        End::Exit(code) => summary.ok == (code == 0),
        End::Signal(_) | End::TimedOut | End::Cancelled | End::NotStarted => false,
    }
}

fn report(name: &str, outcome: Outcome) -> TestReport {
    TestReport { name: name.to_owned(), outcome }
}

fn count(counts: &mut TestCounts, outcome: Outcome) {
    match outcome {
        Outcome::Ok => counts.passed += 1,
        Outcome::Failed => counts.failed += 1,
        Outcome::Ignored => counts.ignored += 1,
    }
}
