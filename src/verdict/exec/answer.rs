//! Answers a call, or runs it and draws the conclusions.

use std::io::IsTerminal as _;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::SystemTime;

use super::super::binary::{Cacheability, CallRecords, PROGRAM, Subject, Uncacheable};
use super::super::calls::{self, Red};
use super::super::fingerprint::Fingerprints;
use super::super::flaky;
use super::super::patterns::MayAlwaysRun;
use super::super::verify::{Difference, conclude};
use super::stdin::Stdin;
use super::target::CalledTarget;
use super::{Called, Invocation, SWITCH, request};
use crate::cache::{Cache, FlakyTest, Limits, ProjectState, Record, Uncached, UncachedCall};
use crate::compiler::may_be_custom;
use crate::config;
use crate::model::{
    Answer, End, Source, TargetAnswer, TargetReport, TestCounts, Timestamp, Verdict,
};
use crate::observer::{Observation, ObserveOptions, Observer};
use crate::paths::Paths;
use crate::process::{self, ForegroundRun, Spec};
use crate::workspace::{locate, until_settled};

/// The longest output that is kept, in bytes.
const MOST: usize = 1 << 20;

/// Answers a call from its record, runs it, or passes.
#[must_use]
pub fn call(invocation: &Invocation, paths: &Paths) -> Called {
    let switch = invocation.environment.get(SWITCH).and_then(|value| value.to_str());
    let called = match switch {
        Some("off") => None,
        Some("verify") => {
            // The run is to be the one that the record is of.
            let mut invocation = invocation.clone();
            invocation.environment.remove(SWITCH);
            answered_or_run(&invocation, paths, true)
        }
        _ => answered_or_run(invocation, paths, false),
    };
    called.unwrap_or(Called::Pass(None))
}

/// `None`: there is a doubt, whichever.
fn answered_or_run(invocation: &Invocation, paths: &Paths, verify: bool) -> Option<Called> {
    let Invocation { args, dir, environment, .. } = invocation;
    let terminal = std::io::stdout().is_terminal();
    if !request::is_understood(args, environment, terminal) {
        return None;
    }
    let stdin = Stdin::now()?;
    let program = dir.join(&invocation.program);
    let target = CalledTarget::of(&program, environment)?;
    let root = locate(&target.manifest_dir).ok()?;
    let config = config::load(paths, environment).ok()?.config;
    let settings = config.settings_for(&root);
    if MayAlwaysRun::of(settings).may_name(&target.package, &target.name) {
        return None;
    }
    let cache = Cache::open(&paths.cache_dir);
    let state = cache.state(&root);
    let surroundings = format!(
        "input {} output {terminal} error {} {}",
        stdin.kind,
        std::io::stderr().is_terminal(),
        inherited()?
    );
    let mut fingerprints = Fingerprints::default();
    let subject = Subject::of_call(
        target.id(),
        &root,
        (&program, args, dir, environment),
        &surroundings,
        (&mut fingerprints, &cache),
    );
    let (subject, plain) = (subject.ok()?, target.plain_name());
    let mut call =
        CallRecords { subject, plain, root: &root, settings, cache: &cache, fingerprints };
    let flaky = target.flaky(&state);
    let recorded = call.find().filter(|record| !runs_one_of(&record.targets[0], &flaky));
    if let Some(record) = &recorded
        && !verify
        && !is_sampled(settings.verify_percent)
    {
        return Some(kept(record));
    }
    if may_be_custom(&target.manifest_dir, &target.name) || Observer::available().is_err() {
        return None;
    }
    let limits = Limits {
        keep_snapshots: settings.keep_snapshots as usize,
        max_bytes: config.cache.max_size,
        max_age: config.cache.max_age,
    };
    let state = &state;
    CallRun { invocation, call, target, state, stdin, terminal, limits, recorded }.run()
}

/// What a program inherits besides its environment and that may have it fail: the mask of
/// permissions, groups and limits of the process. `None` if the system does not say.
fn inherited() -> Option<String> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let wanted = ["Umask:", "Gid:", "Groups:", "CapEff:"];
    let lines = status.lines().filter(|line| wanted.iter().any(|name| line.starts_with(name)));
    let mut all: Vec<_> = lines.map(str::to_owned).collect();
    all.push(std::fs::read_to_string("/proc/self/limits").ok()?);
    Some(all.join("\n"))
}

/// Whether an answer is run all the same, this time.
fn is_sampled(percent: u32) -> bool {
    use std::hash::BuildHasher as _;
    // Another number in each process, by the system's own chance.
    let chance = || std::hash::RandomState::new().hash_one(0) % 100;
    percent > 0 && chance() < u64::from(percent)
}

/// Whether a call ran, or may have run, one of these tests.
fn runs_one_of(report: &TargetReport, flaky: &[&FlakyTest]) -> bool {
    if flaky.is_empty() {
        return false;
    }
    let tests = calls::tests_of(report);
    let ran = |flaky: &&FlakyTest| {
        flaky.test.is_empty() || tests.iter().any(|test| test.name == flaky.test)
    };
    tests.is_empty() || flaky.iter().any(ran)
}

/// The answer of a record.
fn kept(record: &Record) -> Called {
    let report = &record.targets[0];
    let age = record.created.age(Timestamp::now()).unwrap_or_default();
    let note = format!(
        "knhk-test-cache: {} is cached: same program and inputs as {} s ago, when it took {} ms",
        report.id,
        age.as_secs(),
        report.duration_ms
    );
    Called::Kept { stdout: report.output.clone(), note }
}

/// A call that no record answers.
struct CallRun<'a> {
    invocation: &'a Invocation,
    call: CallRecords<'a>,
    target: CalledTarget,
    /// What was known of the project before.
    state: &'a ProjectState,
    stdin: Stdin,
    terminal: bool,
    limits: Limits,
    /// The record that would have answered.
    recorded: Option<Arc<Record>>,
}

impl CallRun<'_> {
    /// Runs the program in our place, observed.
    fn run(mut self) -> Option<Called> {
        let Invocation { program, args, dir, environment } = self.invocation;
        let mut spec = Spec::new(program, dir, environment.clone());
        if self.terminal && !args.iter().any(|arg| arg.as_encoded_bytes().starts_with(b"--color")) {
            // It would find out by itself, had it the terminal.
            spec = spec.args(["--color", "always"]);
        }
        let spec = spec.args(args);
        let products = self.target.products(environment);
        std::thread::park_timeout(until_settled(&products, SystemTime::now()));
        let earlier = self.call.earlier();
        let held = process::block_signals();
        let started = SystemTime::now();
        let Ok((spec, running)) = Observer::observe(&spec, ObserveOptions::default()) else {
            held.release();
            return None;
        };
        let Ok(ran) = process::run_in_foreground(&spec, MOST, held) else {
            // Whoever becomes the program meets the same error, and tells it.
            held.release();
            return None;
        };
        let seen = running.finish();
        if ran.end != End::Exit(0) && !seen.interference.is_empty() {
            held.release();
            let why: Vec<_> = seen.interference.iter().map(ToString::to_string).collect();
            let why = format!("{}: it failed while it was observed: once more", why.join(", "));
            return Some(Called::Pass(Some(why)));
        }
        let end = ran.end;
        let note = (!is_stopped(end)).then(|| self.conclude(ran, (&seen, started), earlier));
        Some(Called::Ran { end, note: note.flatten() })
    }

    /// Keeps what can be kept, takes away what was seen to be wrong, and says what a person should
    /// know.
    fn conclude(
        &mut self,
        ran: ForegroundRun,
        observed: (&Observation, SystemTime),
        mut earlier: Vec<Arc<Record>>,
    ) -> Option<String> {
        let text = ran.stdout.and_then(|bytes| String::from_utf8(bytes).ok());
        let elapsed = u64::try_from(ran.elapsed.as_millis()).unwrap_or(u64::MAX);
        let report = self.report(ran.end, text, elapsed);
        let is_red = report.verdict != Verdict::Pass;
        if is_red {
            self.disprove(&report);
        }
        let cacheability = self.cacheability(&report, observed);
        // Two outcomes of the same call are proof only if nothing that it depends on has changed.
        earlier.retain(|record| self.call.still_holds(record));
        let comparable = matches!(cacheability, Cacheability::Observed(_));
        let flaky = self.note_flaky(if comparable { &earlier } else { &[] }, &report);
        let recorded = self.recorded.take().filter(|_| comparable);
        let note = recorded.and_then(|record| self.verify(&record, &report));
        match cacheability {
            Cacheability::Observed(inputs) if is_red => {
                self.call.keep(slim(report), inputs, self.limits);
            }
            _ if is_red => {}
            Cacheability::Observed(inputs) if flaky.is_empty() => {
                self.call.keep(slim(report), inputs, self.limits);
                self.tell_doubts(&[]);
            }
            Cacheability::Observed(_) => {
                let wanted = self.call.settings.flaky_runs;
                let agreed = flaky.iter().map(|flaky| flaky.agreed).min().unwrap_or_default();
                let tests = flaky.into_iter().map(|flaky| flaky.test).collect();
                self.tell_doubts(&[Uncacheable::Flaky { tests, agreed, wanted }]);
            }
            Cacheability::WholeTree(_) => self.tell_doubts(&[Uncacheable::Unseen]),
            Cacheability::Uncacheable(doubts) => self.tell_doubts(&doubts),
        }
        note
    }

    /// What the run came to.
    fn report(&self, end: End, text: Option<String>, duration_ms: u64) -> TargetReport {
        let is_green = end == End::Exit(0);
        let output = text.unwrap_or_default();
        let counts = request::counts_of(&output);
        let mut tests = calls::tests_in(&output);
        if let Some(name) = request::only_test(&self.invocation.args)
            && tests.is_empty()
        {
            tests.extend(request::outcome_of(name, &output, is_green));
        }
        TargetReport {
            id: self.call.subject.id.clone(),
            verdict: if is_green { Verdict::Pass } else { Verdict::Fail },
            end,
            counts: counts.filter(|_| is_green).unwrap_or_default(),
            tests,
            output,
            duration_ms,
        }
    }

    /// What the run depends on, if it can be kept.
    fn cacheability(
        &mut self,
        report: &TargetReport,
        observed: (&Observation, SystemTime),
    ) -> Cacheability {
        if !self.stdin.is_untouched() {
            return Cacheability::Uncacheable(vec![Uncacheable::Input]);
        }
        let is_green = report.verdict == Verdict::Pass;
        let understood = if is_green {
            request::counts_of(&report.output).is_some()
        } else {
            // It was ended by somebody, or nobody could read what it printed.
            let ended = matches!(report.end, End::Signal(libc::SIGTERM | libc::SIGKILL));
            !ended && !report.output.is_empty()
        };
        if !understood {
            return Cacheability::Uncacheable(vec![Uncacheable::Output]);
        }
        let Invocation { dir, environment, .. } = self.invocation;
        let temporary = environment.get("TMPDIR").map_or_else(|| "/tmp".into(), PathBuf::from);
        self.call.judge(observed, (&self.target.target_dir, &dir.join(temporary)))
    }

    /// It was red: what says otherwise is wrong.
    fn disprove(&mut self, report: &TargetReport) {
        let call = &mut self.call;
        let program = call.subject.parts.get(PROGRAM).map(String::as_str);
        let Some(red) = Red::of(report, program) else { return };
        let place = (call.cache, call.root);
        let ids = calls::named(&self.state.targets, &call.plain);
        calls::disprove_targets(place, ids, &red, &mut call.fingerprints);
        let red = red.with_variables(&call.subject.parts);
        calls::disprove_calls(place, &call.plain, &red, &mut call.fingerprints);
    }

    /// Takes the outcomes into account; what is flaky now of what it ran.
    fn note_flaky(&self, earlier: &[Arc<Record>], report: &TargetReport) -> Vec<FlakyTest> {
        let with_tests = |record: &Arc<Record>| {
            let report = &record.targets[0];
            TargetReport { tests: calls::tests_of(report), ..report.clone() }
        };
        let other = earlier.iter().find(|record| record.verdict != report.verdict);
        let before = other.or(earlier.first()).map(with_tests);
        let known = self.target.flaky(self.state);
        if before.is_none() && known.is_empty() {
            return Vec::new();
        }
        let wanted = self.call.settings.flaky_runs;
        let mut flaky = Vec::new();
        let noted = self.call.cache.update_state(self.call.root, |state| {
            let name = self.target.id_in(state).to_string();
            let mut names = self.target.flaky_names(state);
            if !names.contains(&name) {
                names.push(name.clone());
            }
            for each in names {
                let known = state.flaky.remove(&each).unwrap_or_default();
                // Some of its tests say nothing of the whole.
                let (whole, tests): (Vec<_>, Vec<_>) = known
                    .into_iter()
                    .partition(|flaky| flaky.test.is_empty() && report.counts.filtered > 0);
                let before = before.as_ref().filter(|_| each == name);
                let now = flaky::note(tests, before, report, wanted, Timestamp::now());
                let all: Vec<_> = whole.into_iter().chain(now).collect();
                flaky.extend(all.iter().cloned());
                if !all.is_empty() {
                    state.flaky.insert(each, all);
                }
            }
        });
        if let Err(error) = noted {
            tracing::warn!(%error, "what is known of flaky tests is not kept");
        }
        flaky.retain(|flaky| runs_one_of(report, &[flaky]));
        flaky
    }

    /// The record would have answered: was it right?
    fn verify(&self, record: &Arc<Record>, report: &TargetReport) -> Option<String> {
        let (id, run) = (report.id.clone(), Some(report.verdict));
        let is_wrong = record.verdict != report.verdict;
        let difference = Difference { id: id.clone(), recorded: Some(record.verdict), run };
        let now = Timestamp::now();
        let target = TargetAnswer::from_report(report, Source::Run, "verified", now);
        let answer = Answer { code_hash: None, targets: vec![target], not_kept: Vec::new() };
        let differences = is_wrong.then_some(difference).into_iter().collect();
        let place = (self.call.cache, self.call.root);
        let verified = conclude(place, differences, &[&**record], &answer);
        let place = verified.evidence.map(|path| format!(", with {}", path.display()));
        Some(match is_wrong {
            false => format!("knhk-test-cache: {id}: the run bears the record out"),
            true => format!(
                "knhk-test-cache: {id}: the run contradicts the record: please report this{}",
                place.unwrap_or_default()
            ),
        })
    }

    /// Notes for explanations why nothing is kept of this call; none: it is kept.
    fn tell_doubts(&self, doubts: &[Uncacheable]) {
        let args: Vec<_> = self.invocation.args.iter().map(|arg| arg.to_string_lossy()).collect();
        let (args, plain) = (args.join(" "), self.call.plain.clone());
        let known = self.state.uncached_calls.get(&plain).filter(|known| known.args == args);
        let why: Vec<_> = doubts.iter().map(ToString::to_string).collect();
        if known.map_or(&[][..], |known| &known.uncached.why) == why {
            return;
        }
        let advice = doubts.iter().map(Uncacheable::advice).collect();
        let uncached =
            UncachedCall { args, uncached: Uncached { when: Timestamp::now(), why, advice } };
        let noted = self.call.cache.update_state(self.call.root, |state| {
            if uncached.uncached.why.is_empty() {
                state.uncached_calls.remove(&plain);
            } else {
                state.uncached_calls.insert(plain, uncached);
            }
        });
        if let Err(error) = noted {
            tracing::warn!(%error, "why a call is not kept is forgotten");
        }
    }
}

/// Whether the developer ended the run: then its end says nothing about its tests.
fn is_stopped(end: End) -> bool {
    matches!(end, End::Signal(libc::SIGHUP | libc::SIGINT | libc::SIGQUIT))
}

/// A report as it is kept: what its output tells is not told twice.
fn slim(mut report: TargetReport) -> TargetReport {
    if !calls::tests_in(&report.output).is_empty() {
        report.tests.clear();
    }
    report.counts =
        if report.verdict == Verdict::Pass { report.counts } else { TestCounts::default() };
    report
}
