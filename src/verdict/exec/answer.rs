//! Answers a call, or runs it and draws the conclusions.

use std::io::IsTerminal as _;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, UdpSocket};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use super::invocation::{Called, Invocation, SWITCH};
use super::nextest_limits::limits_of_nextest;
use super::reached::reached_by_call;
use super::stdin::Stdin;
use super::target::CalledTarget;
use crate::cache::{
    AnsweredTargets, Cache, FlakyTest, HistoryEvent, Limits, ProjectState, Record, UncachedCall,
};
use crate::compiler::{PlannedTarget, may_be_custom};
use crate::config::{self, Settings};
use crate::model::{
    Answer, End, Harness, Source, TargetAnswer, TargetId, TargetReport, Timestamp, Verdict,
};
use crate::observer::{Observation, ObserveOptions, Observer};
use crate::paths::Paths;
use crate::process::{self, ForegroundRun, Recording, Spec};
use crate::runner::{LibtestArguments, read_json_output, read_output};
use crate::verdict::binary::{
    Cacheability, PROGRAM, PlanContext, PlanOrigin, RunMoment, TargetFinding, TargetRecords,
    Uncacheable, named, temporary_dir, tests_of,
};
use crate::verdict::flaky::{self, FLAKY_LOST};
use crate::verdict::obstacles::BarReason;
use crate::verdict::options::limits;
use crate::verdict::patterns::MayAlwaysRun;
use crate::verdict::processor::features;
use crate::verdict::verify::{Disagreement, conclude};
use crate::workspace::{locate, until_settled};

/// The longest output that is kept, in bytes.
const OUTPUT_LIMIT: usize = 1 << 20;

/// Answers a call from its record, runs it, or passes.
#[must_use]
pub(crate) fn call(invocation: &Invocation, paths: &Paths) -> Called {
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
    let asked = LibtestArguments::of_call(args, environment);
    // What tests show on standard error is recorded where it is the same terminal.
    let shows_all = terminal && asked.wants_output;
    if !asked.is_recordable() || (shows_all && !process::is_one_terminal()) {
        return None;
    }
    // The same run again and again is what is asked for.
    let in_stress = environment.get("NEXTEST_STRESS_CURRENT").is_some_and(|run| run != "none");
    if in_stress {
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
        "input {} output {terminal} error {} {}{}",
        stdin.kind,
        std::io::stderr().is_terminal(),
        inherited()?,
        limits_of_nextest(&root, environment)?,
    );
    let planned = PlannedTarget {
        id: target.id(),
        program,
        args: args.clone(),
        dir: dir.clone(),
        environment: environment.clone(),
        harness: Harness::Libtest,
    };
    let reached = reached_by_call(&planned, &asked, settings, &cache);
    let context = PlanContext {
        cache: &cache,
        root: &root,
        settings,
        dir,
        environment,
        target_dirs: vec![target.target_dir.clone()],
        // No toolchain is part of the key: all that is looked for in its folders counts.
        covered: Vec::new(),
        origin: PlanOrigin::Call { surroundings, reached },
        asked: None,
    };
    let records = TargetRecords::look_up(context, std::slice::from_ref(&planned), None, |_| None);
    let loaded = records.subject(0)?.parts.get(PROGRAM).cloned();
    let flaky = target.flaky(&state);
    let is_distrusted = target.is_distrusted(&state);
    let recorded = match records.found(0) {
        TargetFinding::Green(record)
            if !is_distrusted && !runs_one_of(&record.targets[0], &flaky) =>
        {
            Some(Arc::clone(record))
        }
        _ => None,
    };
    if let Some(record) = &recorded
        && !verify
        && !is_sampled(settings.verify_percent)
    {
        if record.workspace_root != root {
            // By the record's own time, so that the next answer costs one look. If it cannot be written,
            // retention may remove the record earlier: no harm now.
            let _ = cache.claim(&root, record.code_hash, record, record.created);
        }
        let is_same_program = record.identity.get(PROGRAM) == loaded.as_ref();
        return Some(kept(record, is_same_program, root, &state));
    }
    if may_be_custom(&target.manifest_dir, &target.name) || Observer::available().is_err() {
        return None;
    }
    let why = match records.found(0) {
        TargetFinding::Nothing { why, .. } => why.clone(),
        TargetFinding::Green(_) if recorded.is_some() => "run to verify its record".to_owned(),
        TargetFinding::Green(_) if is_distrusted => BarReason::Distrusted.to_string(),
        TargetFinding::Green(_) => BarReason::Flaky.to_string(),
    };
    let limits = limits(&config.cache, settings);
    CallRun {
        invocation,
        asked,
        id: planned.id,
        cache: &cache,
        root: &root,
        settings,
        records,
        target,
        state: &state,
        stdin,
        limits,
        recorded,
        why,
    }
    .run()
}

/// What a program inherits besides its environment and can see: umask, user, groups, capabilities, whether
/// system calls are filtered, nice value, ignored and blocked signals, limits, the addresses of the own
/// machine, and what its processor can do. `None` if the system does not say.
fn inherited() -> Option<String> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let wanted = [
        "Umask:",
        "Uid:",
        "Gid:",
        "Groups:",
        "CapEff:",
        "CapBnd:",
        "NoNewPrivs:",
        "Seccomp:",
        "SigIgn:",
        "SigBlk:",
    ];
    let lines = status.lines().filter(|line| wanted.iter().any(|name| line.starts_with(name)));
    let mut all: Vec<_> = lines.map(str::to_owned).collect();
    let nice = rustix::process::getpriority_process(None).ok()?;
    all.push(format!("nice {nice}"));
    all.push(std::fs::read_to_string("/proc/self/limits").ok()?);
    all.push(format!("addresses {:?}", own_addresses()));
    // A call does not tell how its program was built.
    all.push(format!("processor {:?}", features()));
    Some(all.join("\n"))
}

/// Whether the own machine can be spoken to by either version of its address: not so in a new network
/// namespace. Nothing is sent.
fn own_addresses() -> [bool; 2] {
    [IpAddr::from(Ipv4Addr::LOCALHOST), IpAddr::from(Ipv6Addr::LOCALHOST)].map(|own| {
        let socket = UdpSocket::bind((own, 0));
        socket.and_then(|socket| socket.connect(socket.local_addr()?)).is_ok()
    })
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
    let tests = tests_of(report);
    let ran = |flaky: &&FlakyTest| {
        flaky.test.is_empty() || tests.iter().any(|test| test.name == flaky.test)
    };
    tests.is_empty() || flaky.iter().any(ran)
}

/// The answer of a record.
fn kept(record: &Record, is_same_program: bool, root: PathBuf, state: &ProjectState) -> Called {
    let report = &record.targets[0];
    let age = record.created.age(Timestamp::now()).unwrap_or_default();
    let place = match record.workspace_root == root {
        true => String::new(),
        false => format!(" in {}", record.workspace_root.display()),
    };
    let same = if is_same_program { "program" } else { "reached code" };
    let mut note = format!(
        "knhk-test-cache: {} is cached: same {same} and inputs as {} s ago{place}, when it took {} ms",
        report.id,
        age.as_secs(),
        report.duration_ms
    );
    if let Some(distrusted) = state.distrust_note() {
        note.push_str(&format!("\nknhk-test-cache: {distrusted}"));
    }
    let mut answered = AnsweredTargets::default();
    answered.hit(report.duration_ms);
    Called::Kept { stdout: report.output.clone(), note, root, answered }
}

/// A call that no record answers.
struct CallRun<'a> {
    invocation: &'a Invocation,
    asked: LibtestArguments,
    id: TargetId,
    cache: &'a Cache,
    root: &'a Path,
    settings: &'a Settings,
    /// Those of a plan with this one target.
    records: TargetRecords<'a>,
    target: CalledTarget,
    /// What was known of the project before.
    state: &'a ProjectState,
    stdin: Stdin,
    limits: Limits,
    /// The record that would have answered.
    recorded: Option<Arc<Record>>,
    /// Why it runs.
    why: String,
}

impl CallRun<'_> {
    /// Runs the program in our place, observed.
    fn run(mut self) -> Option<Called> {
        let Invocation { program, args, dir, environment } = self.invocation;
        let spec = Spec::new(program, dir, environment.clone());
        let spec = spec.args(args);
        let products = self.target.products(environment);
        std::thread::park_timeout(until_settled(&products, SystemTime::now()));
        let earlier = self.records.earlier(0);
        let with_errors = self.asked.wants_output && std::io::stdout().is_terminal();
        let recording = Recording { limit: OUTPUT_LIMIT, with_errors };
        let held = process::block_signals();
        let started = SystemTime::now();
        let Ok((spec, running)) = Observer::observe(&spec, ObserveOptions::default()) else {
            held.release();
            return None;
        };
        let Ok(ran) = process::run_in_foreground(&spec, recording, held) else {
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
        let note = (!is_stopped(end)).then(|| self.conclude(ran, &seen, started, earlier));
        Some(Called::Ran { end, note: note.flatten() })
    }

    /// Keeps what can be kept, removes what was seen to be wrong, and says what a person should
    /// know.
    fn conclude(
        &mut self,
        ran: ForegroundRun,
        observation: &Observation,
        started: SystemTime,
        mut earlier: Vec<Arc<Record>>,
    ) -> Option<String> {
        let text = ran.stdout.and_then(|bytes| String::from_utf8(bytes).ok()).unwrap_or_default();
        let read = if self.asked.json { read_json_output } else { read_output };
        let output = read(&text, ran.end, self.asked.only_test());
        let is_green = ran.end == End::Exit(0);
        let report = TargetReport {
            id: self.id.clone(),
            verdict: if is_green { Verdict::Pass } else { Verdict::Fail },
            end: ran.end,
            counts: output.counts.unwrap_or_default(),
            tests: output.tests,
            output: text,
            stderr: None,
            duration_ms: u64::try_from(ran.elapsed.as_millis()).unwrap_or(u64::MAX),
        };
        let mut answered = AnsweredTargets::default();
        answered.miss(report.id.to_string(), &self.why, report.duration_ms);
        self.cache.note_history(self.root, HistoryEvent::Answered(answered));
        self.records.disprove(0, &report, None, false);
        let cacheability = if !self.stdin.is_untouched() {
            Cacheability::Uncacheable(vec![Uncacheable::Input])
        } else if self.records.is_measured(0) {
            Cacheability::Uncacheable(vec![Uncacheable::Coverage])
        } else if observation.left_behind {
            // It may hold standard output, which then has no end.
            Cacheability::Uncacheable(vec![Uncacheable::LeftBehind])
        } else if is_readable(&report, output.counts.is_some()) {
            let Invocation { dir, environment, .. } = self.invocation;
            self.records.judge(0, observation, started, &temporary_dir(environment, dir))
        } else {
            Cacheability::Uncacheable(vec![Uncacheable::Output])
        };
        // Two outcomes of the same call are proof only if nothing that it depends on has changed.
        earlier.retain(|record| self.records.obstacle(record).is_none());
        let comparable = matches!(cacheability, Cacheability::Observed(_));
        let flaky = self.note_flaky(if comparable { &earlier } else { &[] }, &report);
        let recorded = self.recorded.take().filter(|_| comparable);
        let note = recorded.and_then(|record| self.verify(&record, &report));
        let distrust = || Some(format!("knhk-test-cache: {}", self.state.distrust_note()?));
        let note = note.or_else(distrust);
        match &cacheability {
            Cacheability::Observed(_) if !is_green || flaky.is_empty() => {
                self.keep(&slim(report), &cacheability);
            }
            _ if !is_green => {}
            Cacheability::Observed(_) => {
                let wanted = self.settings.flaky_runs;
                let agreed = flaky.iter().map(|flaky| flaky.agreed).min().unwrap_or_default();
                let tests = flaky.into_iter().map(|flaky| flaky.test).collect();
                self.note_uncacheable(&[Uncacheable::Flaky { tests, agreed, wanted }]);
            }
            Cacheability::WholeTree(_) => self.note_uncacheable(&[Uncacheable::Unseen]),
            Cacheability::Uncacheable(reasons) => self.note_uncacheable(reasons),
        }
        note
    }

    /// Keeps a run: a green one as an answer, one that failed to compare with.
    fn keep(&mut self, report: &TargetReport, cacheability: &Cacheability) {
        let is_green = report.verdict == Verdict::Pass;
        let moment = RunMoment { code_hash: None, still: None, when: Timestamp::now(), rest: None };
        let record = self.records.record(0, report, cacheability, moment);
        if let Err(error) = self.records.store(record.into_iter().collect(), self.limits) {
            tracing::warn!(%error, "a run is not kept");
        } else if is_green {
            self.records.forget_red(0);
        }
        if is_green {
            self.note_uncacheable(&[]);
        }
    }

    /// Takes the outcomes into account; what is flaky now of what it ran.
    fn note_flaky(&self, earlier: &[Arc<Record>], report: &TargetReport) -> Vec<FlakyTest> {
        let with_tests = |record: &Arc<Record>| {
            let report = &record.targets[0];
            TargetReport { tests: tests_of(report), ..report.clone() }
        };
        let other = earlier.iter().find(|record| record.verdict != report.verdict);
        let before = other.or(earlier.first()).map(with_tests);
        let known = self.target.flaky(self.state);
        if before.is_none() && known.is_empty() {
            return Vec::new();
        }
        let wanted = self.settings.flaky_runs;
        let mut flaky = Vec::new();
        self.cache.note_state(self.root, FLAKY_LOST, |state| {
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
        flaky.retain(|flaky| runs_one_of(report, &[flaky]));
        flaky
    }

    /// The record would have answered: was it right?
    fn verify(&self, record: &Arc<Record>, report: &TargetReport) -> Option<String> {
        let (id, run) = (report.id.clone(), Some(report.verdict));
        let is_wrong = record.verdict != report.verdict;
        let difference = Disagreement { id: id.clone(), recorded: Some(record.verdict), run };
        let now = Timestamp::now();
        let target = TargetAnswer::from_report(report, Source::Run, "verified", now);
        let answer = Answer { code_hash: None, targets: vec![target], not_kept: Vec::new() };
        let differences = is_wrong.then_some(difference).into_iter().collect();
        let verified = conclude(self.cache, self.root, differences, &[&**record], &answer);
        let place = verified.evidence.map(|path| format!(", with {}", path.display()));
        Some(match is_wrong {
            false => format!("knhk-test-cache: {id}: the run bears the record out"),
            true => format!(
                "knhk-test-cache: {id}: the run contradicts the record: please report this{}",
                place.unwrap_or_default()
            ),
        })
    }

    /// Notes for explanations why nothing is kept of this call; no reason means that it is kept.
    fn note_uncacheable(&self, reasons: &[Uncacheable]) {
        let args: Vec<_> = self.invocation.args.iter().map(|arg| arg.to_string_lossy()).collect();
        let (args, plain) = (args.join(" "), self.target.plain_name());
        let known = self.state.uncached_calls.get(&plain).filter(|known| known.args == args);
        let uncached = Uncacheable::told(reasons, Timestamp::now());
        let is_named = named(&self.state.targets, &plain).next().is_some()
            || self.state.called.contains(&self.id);
        if is_named && known.map_or(&[][..], |known| &known.uncached.why) == uncached.why {
            return;
        }
        let uncached = UncachedCall { args, uncached };
        self.cache.note_state(self.root, "why a call is not kept is forgotten", |state| {
            state.called.insert(self.id.clone());
            if uncached.uncached.why.is_empty() {
                state.uncached_calls.remove(&plain);
            } else {
                state.uncached_calls.insert(plain, uncached);
            }
        });
    }
}

/// Whether the developer ended the run: then its end says nothing about its tests.
fn is_stopped(end: End) -> bool {
    matches!(end, End::Signal(libc::SIGHUP | libc::SIGINT | libc::SIGQUIT))
}

/// Whether all that the run printed is known and is libtest's, or it failed by itself.
fn is_readable(report: &TargetReport, has_counts: bool) -> bool {
    if report.verdict == Verdict::Pass {
        return has_counts;
    }
    let was_ended = matches!(report.end, End::Signal(libc::SIGTERM | libc::SIGKILL));
    !was_ended && !report.output.is_empty()
}

/// A report as it is kept: what its output tells is not told twice.
fn slim(mut report: TargetReport) -> TargetReport {
    if !read_output(&report.output, report.end, None).tests.is_empty() {
        report.tests.clear();
    }
    report
}
