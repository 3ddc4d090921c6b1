//! Samples answers from records and verifies them, and runs tests in the background.

use std::sync::Arc;

use tokio::sync::mpsc;
use tracing::info;

use super::super::mailbox::Message;
use super::super::shared::Shared;
use super::background_tests::{self, BackgroundTestPlan, Purpose};
use super::job::{BackgroundJob, BuildKey};
use crate::model::Digest;
use crate::verdict::Question;

/// The first run that sees the tree change may have met an edit. After so many in a row, it is the
/// tests.
const DISTURBED_RUNS: u32 = 2;

/// The background test runs of a project.
pub(super) struct Verifier {
    shared: Arc<Shared>,
    /// For a run to speak to the project; weak, so that it does not keep the project alive.
    messages: mpsc::WeakUnboundedSender<Box<Message>>,
    /// Hundredths of a verification that are owed for answers from records.
    owed: u32,
    /// The answer to this question is to be verified.
    due: Option<Question>,
    /// The tree whose tests timed out, and why.
    timed_out: Option<(Digest, String)>,
    /// How many runs in a row have seen the tree change while they ran.
    disturbed_runs: u32,
    /// The last run is one of them.
    is_disturbed: bool,
}

impl Verifier {
    pub(super) fn new(
        shared: Arc<Shared>,
        messages: mpsc::WeakUnboundedSender<Box<Message>>,
    ) -> Self {
        Self {
            shared,
            messages,
            owed: 0,
            due: None,
            timed_out: None,
            disturbed_runs: 0,
            is_disturbed: false,
        }
    }

    /// Takes note of an answer from records; whether a verification is due now.
    pub(super) fn note_hit(&mut self, question: Question) -> bool {
        self.owed += question.settings.verify_percent;
        let is_due = self.owed >= 100;
        if is_due {
            self.owed -= 100;
            self.due = Some(question);
        }
        is_due
    }

    pub(super) fn is_due(&self) -> bool {
        self.due.is_some()
    }

    pub(super) fn take_due(&mut self) -> Option<Question> {
        self.due.take()
    }

    /// Begins a run of the tests of the plan's tree; none if the project is ending.
    pub(super) fn run(&mut self, plan: BackgroundTestPlan) -> Option<BackgroundJob> {
        self.is_disturbed = false;
        let messages = self.messages.upgrade()?;
        let BackgroundTestPlan { question, facts, purpose, first, .. } = &plan;
        let tree_digest = *first.digest.as_ref().ok()?;
        if *purpose == Purpose::Verify {
            let project = question.root.display();
            info!(%project, tree_digest = %tree_digest, "verifying an answer from records");
        }
        let of = BuildKey::new(tree_digest, question, facts);
        Some(background_tests::start(plan, of, messages, &self.shared))
    }

    /// The tree has changed; `in_run`: while tests ran, perhaps by themselves.
    pub(super) fn note_change(&mut self, in_run: bool) {
        if !in_run {
            self.disturbed_runs = 0;
        } else if !std::mem::replace(&mut self.is_disturbed, true) {
            self.disturbed_runs += 1;
        }
    }

    /// Whether the tests themselves change the tree, as far as that can be told: then their writes
    /// neither cancel a run nor start another one.
    pub(super) fn writes_into_tree(&self) -> bool {
        self.disturbed_runs >= DISTURBED_RUNS
    }

    /// The tests of this tree have timed out.
    pub(super) fn timed_out(&mut self, of: &BuildKey, why: String) {
        self.timed_out = Some((*of.tree_digest(), why));
    }

    /// A verdict was reached.
    pub(super) fn note_verdict(&mut self) {
        self.timed_out = None;
    }

    /// Why there is no verdict of this tree, if its tests are not run again.
    pub(super) fn why_no_verdict(&self, tree_digest: Option<&Digest>) -> Option<String> {
        if self.writes_into_tree() {
            let why = "the tests change files of the tree: not run again until another change";
            return Some(why.to_owned());
        }
        let (of, why) = self.timed_out.as_ref()?;
        (Some(of) == tree_digest).then(|| why.clone())
    }
}
