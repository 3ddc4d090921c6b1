//! A background build: calls cargo as the scheduler allows, however many attempts that takes.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use tracing::info;

use super::super::schedule::{JobAction, Limit, News};
use super::super::scheduler::JobControl;
use super::super::sync::{lock, off_thread};
use super::super::time::milliseconds;
use super::build_order::{Lesson, WholeBuild};
use super::job::{JobEnd, Worker};
use super::prebuild::{NOT_SAME, Prebuild, PrebuildProgress, REFUSED};
use crate::compiler::{Build, BuildProgress, BuildSpec, CompileError, TestCompiler};
use crate::model::{Digest, Timestamp};
use crate::protocol::{LastBuild, State};

/// How long cargo may say nothing before it has begun to compile: until then it only asks the
/// network.
const LONGEST_CARGO_SILENCE: Duration = Duration::from_secs(120);
/// At most so many artifacts that were built again are remembered.
const REPEATED_ARTIFACTS: usize = 100;

/// What to build.
pub(super) struct BuildPlan {
    /// The whole build.
    pub(super) spec: BuildSpec,
    /// Identifies what the whole build is made of.
    pub(super) key: Digest,
    /// The builds that come first.
    pub(super) prebuilds: Vec<Prebuild>,
    /// How long a build may finish nothing.
    pub(super) stall_limit: Option<Duration>,
    /// Is told of the whole build.
    pub(super) note: Arc<dyn Fn(&Build) + Send + Sync>,
    /// Is told what was learned.
    pub(super) teach: Box<dyn Fn(Lesson) + Send + Sync>,
}

impl BuildPlan {
    fn compiler(&self, prebuild: Option<&Prebuild>, limit: &Limit) -> TestCompiler {
        let mut spec = self.spec.clone();
        if let Some(prebuild) = prebuild {
            spec.selection = prebuild.selection.clone();
        }
        TestCompiler::new(spec).with_jobs(limit.jobs)
    }
}

/// The outcome of one call of cargo.
enum CallEnd {
    Ended(Result<Build, CompileError>),
    /// It yielded to another program, for this reason.
    Yielded(String),
    /// It finished nothing for too long: why it was ended.
    Stalled(String),
    /// A prebuild made something that is no part of the whole build.
    NotSame,
}

/// Builds to the end. Ends with the whole build, however the prebuilds came out.
pub(super) async fn build(plan: &BuildPlan, worker: &mut Worker) -> JobEnd {
    let workspace_root = &plan.spec.workspace_root;
    let project = workspace_root.display();
    let mut progress = PrebuildProgress::new(&plan.prebuilds);
    // The artifacts of prebuilds, and those that cancelled attempts built again, are news as well.
    let (mut earlier, repeated) = (Vec::new(), Mutex::new(Vec::new()));
    // If cargo takes the whole build, it refused these because they are parts.
    let mut refused: Vec<Vec<String>> = Vec::new();
    while let Some(limit) = worker.granted().await {
        let started = Instant::now();
        let end = loop {
            let prebuild = progress.next();
            let call = CargoCall { plan, prebuild, intro: progress.intro(prebuild), limit: &limit };
            let end = call.run(worker, &repeated).await;
            let Some(prebuild) = prebuild else { break end };
            match end {
                CallEnd::Ended(Err(CompileError::Cancelled)) => break end,
                CallEnd::Ended(Err(
                    CompileError::Refused { .. } | CompileError::Manifest { .. },
                )) => {
                    progress.skip(workspace_root, REFUSED);
                    refused.push(prebuild.specs.clone());
                }
                CallEnd::Ended(result) => {
                    progress.ended(result.is_ok(), workspace_root);
                    earlier.extend(result);
                }
                CallEnd::NotSame => {
                    progress.skip(workspace_root, NOT_SAME);
                    (plan.teach)(Lesson::Inseparable(plan.key, prebuild.specs.clone()));
                }
                CallEnd::Yielded(_) | CallEnd::Stalled(_) => break end,
            }
        };
        match end {
            CallEnd::Ended(Err(CompileError::Cancelled)) => return JobEnd::Cancelled,
            CallEnd::Ended(result) => {
                let mut result = result.map(|mut build| {
                    earlier.iter().for_each(|earlier| build.comes_after(earlier));
                    let whole = WholeBuild::new(plan.key, workspace_root, &build.products);
                    (plan.teach)(Lesson::Whole(whole));
                    for specs in refused.drain(..) {
                        (plan.teach)(Lesson::Inseparable(plan.key, specs));
                    }
                    build
                });
                if let Ok(build) = result {
                    let note = Arc::clone(&plan.note);
                    let noted = off_thread(move || {
                        note(&build);
                        build
                    });
                    result = Ok(noted.await);
                }
                let mut last = last_build(result.map_err(|error| error.rendered()), started);
                for line in lock(&repeated).drain(..) {
                    if !last.dirty.contains(&line) {
                        last.dirty.push(line);
                    }
                }
                return JobEnd::Built(last);
            }
            CallEnd::Stalled(why) => {
                let last = last_build(Err(format!("error: {why}\n")), started);
                return JobEnd::Built(LastBuild { ended: Some(why), ..last });
            }
            CallEnd::Yielded(reason) => {
                info!(%project, %reason, "the build yields");
                worker.ticket.requeue();
            }
            // Only prebuilds are compared.
            CallEnd::NotSame => worker.ticket.requeue(),
        }
    }
    JobEnd::Cancelled
}

fn last_build(result: Result<Build, String>, started: Instant) -> LastBuild {
    let (success, errors, rebuilt, dirty) = match result {
        Ok(build) => (true, build.warnings.concat(), build.rebuilt, build.dirty),
        Err(errors) => (false, errors, 0, Vec::new()),
    };
    LastBuild {
        when: Timestamp::now(),
        success,
        duration_ms: milliseconds(started.elapsed()),
        errors,
        rebuilt: rebuilt as u64,
        dirty,
        ended: None,
    }
}

/// One call of cargo.
struct CargoCall<'a> {
    plan: &'a BuildPlan,
    /// None for the whole build.
    prebuild: Option<&'a Prebuild>,
    /// The beginning of its texts for `status`.
    intro: String,
    limit: &'a Limit,
}

impl CargoCall<'_> {
    /// Builds until the end, or until the scheduler says otherwise.
    async fn run(&self, worker: &mut Worker, repeated: &Mutex<Vec<String>>) -> CallEnd {
        let compiler = self.plan.compiler(self.prebuild, self.limit);
        let (brake, cancel) = (&compiler.spec().brake, worker.cancel.child_token());
        brake.set(false);
        worker.ticket.begin_attempt(Some(brake));
        let (teller, control) = (worker.teller(), worker.ticket.control());
        let output = Mutex::new(BuildOutput::new(self.text("building")));
        teller.tell(State::Building, &lock(&output).text);
        control.report(self.news(&lock(&output)));
        let on_progress = |progress: BuildProgress| {
            let mut output = lock(&output);
            if let BuildProgress::Status(line) = &progress {
                note_repeated(&mut lock(repeated), line);
            }
            if self.note(&mut output, progress, &control) {
                cancel.cancel();
            }
            // The last words of a suspended build may come late.
            if !brake.is_suspended() {
                teller.tell(State::Building, &output.text);
            }
        };
        let mut build = std::pin::pin!(compiler.build(&cancel, on_progress));
        let mut stopped = None;
        let result = loop {
            let action = tokio::select! {
                biased;
                result = &mut build => break result,
                action = worker.ticket.next_action(), if stopped.is_none() => action,
            };
            match action {
                JobAction::Run(_) => {
                    brake.set(false);
                    teller.tell(State::Building, &lock(&output).text);
                }
                JobAction::Suspend(reason) => {
                    brake.set(true);
                    teller.tell(State::Paused, reason);
                }
                JobAction::Yield(reason) => stopped = Some(CallEnd::Yielded(reason)),
                JobAction::TimeOut(silence) => {
                    stopped = Some(CallEnd::Stalled(lock(&output).stalled(silence)));
                }
                JobAction::Wait(_) => {}
            }
            if stopped.is_some() {
                cancel.cancel();
            }
        };
        if lock(&output).is_other && !worker.cancel.is_cancelled() {
            return CallEnd::NotSame;
        }
        match (result, stopped) {
            (Err(CompileError::Cancelled), Some(stopped)) if !worker.cancel.is_cancelled() => {
                stopped
            }
            // It ended just then.
            (result, _) => CallEnd::Ended(result),
        }
    }

    /// A text for `status`.
    fn text(&self, doing: &str) -> String {
        let text = match (self.intro.as_str(), doing) {
            ("", doing) => doing.to_owned(),
            (intro, "building") => intro.to_owned(),
            (intro, doing) => format!("{intro}: {doing}"),
        };
        self.limit.describe(&text)
    }

    fn news(&self, output: &BuildOutput) -> News {
        let limit = self.plan.stall_limit;
        let stall_limit = match output.units {
            Some(_) => limit,
            None => limit.map(|limit| limit.min(LONGEST_CARGO_SILENCE)),
        };
        News { finished_unit: false, is_blocked: output.is_blocked, stall_limit }
    }

    /// Takes note of what cargo says; whether it makes something that is no part of the whole.
    fn note(
        &self,
        output: &mut BuildOutput,
        progress: BuildProgress,
        control: &JobControl,
    ) -> bool {
        match progress {
            BuildProgress::Building { done, total, what } => {
                output.text = self.text(&format!("building {what} {done}/{total}"));
                output.at = what;
                output.is_blocked = false;
                let before = output.units.replace(done);
                // A build script that chatters finishes nothing.
                if before != Some(done) {
                    control.report(News { finished_unit: before.is_some(), ..self.news(output) });
                }
            }
            BuildProgress::Blocked(what) => {
                output.is_blocked = true;
                output.text = self.text(&format!("{what} (another cargo builds)"));
                control.report(self.news(output));
            }
            BuildProgress::Made(product) => {
                output.is_other |=
                    self.prebuild.is_some_and(|prebuild| prebuild.units.is_other(&product));
            }
            BuildProgress::Status(line) => {
                // Packages of ours are named with their folders. The whole build has all packages
                // of a registry that it needs.
                let foreign = line.starts_with("Compiling ") && !line.ends_with(')');
                output.is_other |= self.prebuild.is_some() && foreign;
                if output.units.is_none() {
                    output.at = line;
                    control.report(self.news(output));
                }
            }
            BuildProgress::Diagnostic(_) => {}
        }
        output.is_other
    }
}

/// What cargo has said so far.
struct BuildOutput {
    /// The units that are finished, once it compiles.
    units: Option<u32>,
    is_blocked: bool,
    /// It made, or set out to make, something that is no part of the whole build.
    is_other: bool,
    /// What it does, in its own words.
    at: String,
    /// The text for `status`.
    text: String,
}

impl BuildOutput {
    fn new(text: String) -> Self {
        Self { units: None, is_blocked: false, is_other: false, at: String::new(), text }
    }

    /// Why it was ended after this silence.
    fn stalled(&self, silence: Duration) -> String {
        let what = match (self.units, self.at.as_str()) {
            (Some(_), "") => "nothing was finished".to_owned(),
            (Some(_), at) => format!("nothing was finished but {at} begun"),
            (None, "") => "cargo said nothing".to_owned(),
            (None, at) => format!("cargo said nothing after `{at}`"),
        };
        format!("the build was ended: {what} for {} s", silence.as_secs())
    }
}

/// Takes note of an artifact that is built again, once and up to a limit.
fn note_repeated(repeated: &mut Vec<String>, status: &str) {
    let Some(line) = status.strip_prefix("Dirty ") else { return };
    if repeated.len() < REPEATED_ARTIFACTS && !repeated.iter().any(|known| known == line) {
        repeated.push(line.to_owned());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stalled_build_says_what_it_was_doing() {
        let mut output = BuildOutput::new(String::new());
        let silence = Duration::from_millis(65_900);
        assert_eq!(output.stalled(silence), "the build was ended: cargo said nothing for 65 s");
        output.at = "Updating crates.io index".to_owned();
        assert!(output.stalled(silence).contains("nothing after `Updating crates.io index`"));
        output.units = Some(3);
        output.at = "p(build)".to_owned();
        assert!(output.stalled(silence).contains("nothing was finished but p(build) begun for 65"));
    }

    #[test]
    fn repeated_artifacts_are_noted_once_and_bounded() {
        let mut repeated = Vec::new();
        for number in (0..2 * REPEATED_ARTIFACTS).chain(0..3) {
            note_repeated(&mut repeated, &format!("Dirty p{number} v1: why"));
            note_repeated(&mut repeated, "Compiling p");
        }
        assert_eq!(repeated.len(), REPEATED_ARTIFACTS);
        assert_eq!(repeated[0], "p0 v1: why");
    }
}
