//! How test targets behaved when they were last observed: whether nobody notices another run, so
//! that the background may run them without being asked.

use std::os::unix::ffi::OsStrExt as _;
use std::time::Duration;

use super::patterns::AlwaysRun;
use super::{Question, RunScope};
use crate::cache::{ObservationCost, ProjectState, RunConduct};
use crate::config::{BackgroundTests, Runner};
use crate::model::{Digest, Digester, TargetId, TargetReport};

/// A target that took longer is not run without being asked.
const LONGEST_UNASKED_MS: u64 = 30_000;
/// Nobody notices an observation that costs less, whatever its share.
const LEAST_COST: Duration = Duration::from_millis(50);

/// Digest of the words that a question hands to test programs: another filter runs other tests.
fn words_of(question: &Question) -> Digest {
    let mut digester = Digester::new("words of test programs 1");
    for word in question.selection.program_words() {
        digester.field(word.as_bytes());
    }
    digester.finish()
}

/// The conduct of a run of `report`'s target, with what its observation holds against another run;
/// `None` if it says nothing about the project's own question, which runs other tests.
pub(super) fn conduct_of(
    question: &Question,
    report: &TargetReport,
    observed: &[String],
) -> Option<RunConduct> {
    let Question { root, environment, settings, .. } = question;
    let own = Question::of_project(root, environment.clone(), settings.clone());
    let words = words_of(&own);
    let mut obstacles = observed.to_vec();
    if report.duration_ms > LONGEST_UNASKED_MS {
        obstacles.push(format!("it took {} s", report.duration_ms / 1_000));
    }
    (!obstacles.is_empty() || words_of(question) == words)
        .then_some(RunConduct { words, obstacles })
}

/// What observing a run of `report`'s target has cost, if that is more than the configured share of
/// the run. Each of its observed `calls` took as long as `call`.
pub(super) fn over_budget(
    question: &Question,
    report: &TargetReport,
    calls: u64,
    call: Duration,
) -> Option<ObservationCost> {
    let call_ns = u64::try_from(call.as_nanos()).ok()?;
    let cost = ObservationCost { calls, call_ns, run_ms: report.duration_ms };
    let is_over = cost.percent() > question.settings.observe_budget.into();
    (is_over && cost.total() >= LEAST_COST).then_some(cost)
}

/// Whether the background may run the target without being asked.
pub(super) fn may_run_unasked(state: &ProjectState, question: &Question, id: &TargetId) -> bool {
    let name = id.to_string();
    let is_quiet =
        |conduct: &RunConduct| conduct.obstacles.is_empty() && conduct.words == words_of(question);
    // No record would answer for these two.
    state.conduct.get(&name).is_some_and(is_quiet)
        && !state.flaky.contains_key(&name)
        && !AlwaysRun::of(&question.settings).names(id)
}

/// What the background runs of the project's own question; `None` if it runs nothing.
#[must_use]
pub(crate) fn background_scope(question: &Question, state: &ProjectState) -> Option<RunScope> {
    match question.settings.background_tests {
        BackgroundTests::Off => None,
        BackgroundTests::All => Some(RunScope::All),
        // A run by cargo-nextest is observed as one.
        BackgroundTests::Auto if question.settings.runner == Runner::Nextest => None,
        BackgroundTests::Auto => {
            let mut known = state.targets.iter();
            known.any(|id| may_run_unasked(state, question, id)).then_some(RunScope::Unasked)
        }
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::cache::Uncached;
    use crate::config::{Settings, shipped_settings as settings};
    use crate::model::Timestamp;
    use crate::process::Environment;

    fn question(typed: Option<&[&str]>, settings: Settings) -> Question {
        let typed = typed.map(|words| words.iter().map(Into::into).collect());
        let (root, environment) = (Path::new("/w"), Environment::default());
        Question::asked(root, root, typed, Vec::new(), environment, settings)
    }

    fn report(duration_ms: u64) -> TargetReport {
        TargetReport { duration_ms, ..TargetReport::sample(&[]) }
    }

    fn state(conduct: RunConduct) -> ProjectState {
        let id = report(0).id;
        let conduct = [(id.to_string(), conduct)].into();
        let mut state = ProjectState::default();
        (state.conduct, state.targets) = (conduct, vec![id]);
        state
    }

    #[test]
    fn a_short_quiet_run_of_all_tests_may_be_repeated_unasked() {
        let own = question(None, settings());
        let quiet = state(conduct_of(&own, &report(20), &[]).unwrap());
        assert_eq!(background_scope(&own, &quiet), Some(RunScope::Unasked));
        let part = question(Some(&["-p", "p"]), settings());
        assert_eq!(conduct_of(&part, &report(20), &[]), conduct_of(&own, &report(20), &[]));
        let nothing = ProjectState::default();
        assert_eq!(background_scope(&own, &nothing), None, "never observed");
    }

    #[test]
    fn noise_length_and_other_words_are_obstacles() {
        let own = question(None, settings());
        let noisy = conduct_of(&own, &report(20), &["it spoke to [::1]:80".to_owned()]).unwrap();
        assert_eq!(background_scope(&own, &state(noisy)), None);
        let long = conduct_of(&own, &report(LONGEST_UNASKED_MS + 1), &[]).unwrap();
        assert_eq!(long.obstacles, ["it took 30 s"]);
        assert_eq!(background_scope(&own, &state(long)), None);
        // A few tests of it say nothing about the others, unless they were noisy.
        let filtered = question(Some(&["--workspace", "one"]), settings());
        let mut ignored = own.clone();
        ignored.selection.harness = vec!["--ignored".into()];
        for some in [filtered, ignored] {
            assert_eq!(conduct_of(&some, &report(20), &[]), None, "{some:?}");
            assert!(conduct_of(&some, &report(20), &["it wrote".to_owned()]).is_some());
        }
        let quiet = state(conduct_of(&own, &report(20), &[]).unwrap());
        let args = vec!["--workspace".to_owned(), "--".to_owned(), "--ignored".to_owned()];
        let others = question(None, Settings { args, ..settings() });
        assert_eq!(background_scope(&others, &quiet), None, "these were not observed");
    }

    #[test]
    fn an_observation_is_told_of_if_it_took_more_than_its_share_and_is_noticed() {
        let own = question(None, Settings { observe_budget: 20, ..settings() });
        let over = |ms, calls| over_budget(&own, &report(ms), calls, Duration::from_nanos(11_800));
        let cost = over(930, 52_600).unwrap();
        assert_eq!(cost.percent(), 66);
        let told = "620 ms of 930 ms (66 %): 52600 calls of 11.8 µs each";
        assert_eq!(cost.to_string(), told);
        assert_eq!(over(9_300, 52_600), None, "6 %");
        assert_eq!(over(0, 400), None, "nobody notices 5 ms");
        assert_eq!(over(62, 52_600).unwrap().percent(), 1_001, "several programs at a time");
    }

    #[test]
    fn what_no_record_answers_for_and_other_runners_do_not_run_unasked() {
        let own = question(None, settings());
        let quiet = state(conduct_of(&own, &report(20), &[]).unwrap());
        let with = |change: fn(&mut Settings)| {
            let mut settings = settings();
            change(&mut settings);
            background_scope(&question(None, settings), &quiet)
        };
        assert_eq!(with(|settings| settings.always_run = vec!["p".to_owned()]), None);
        assert_eq!(with(|settings| settings.runner = Runner::Nextest), None);
        assert_eq!(with(|settings| settings.background_tests = BackgroundTests::Off), None);
        let all = with(|settings| settings.background_tests = BackgroundTests::All);
        assert_eq!(all, Some(RunScope::All));
        let mut flaky = quiet.clone();
        flaky.flaky.insert(report(0).id.to_string(), Vec::new());
        assert_eq!(background_scope(&own, &flaky), None);
        let mut uncached = quiet.clone();
        let reason = Uncached { when: Timestamp(1), why: Vec::new(), advice: Vec::new() };
        uncached.uncached.insert(report(0).id.to_string(), reason);
        assert_eq!(background_scope(&own, &uncached), Some(RunScope::Unasked));
    }
}
