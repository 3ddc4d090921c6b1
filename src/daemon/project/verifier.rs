//! Samples answers from records and verifies them, and runs tests in the background.

use std::sync::Arc;

use tokio::sync::mpsc;
use tracing::info;

use super::super::mailbox::Message;
use super::super::shared::Shared;
use super::background_tests::{self, Purpose, TestPlan};
use super::job::{BuildKey, Job};
use crate::model::Digest;
use crate::protocol::Mark;
use crate::verdict::{Facts, Question, TreeState};

/// The background test runs of a project.
pub(super) struct Verifier {
    shared: Arc<Shared>,
    /// For a run to speak to the project; weak, so that it does not keep the project alive.
    messages: mpsc::WeakUnboundedSender<Message>,
    /// Hundredths of a verification that are owed for answers from records.
    owed: u32,
    /// The answer to this question is to be verified.
    due: Option<Question>,
    /// The tree whose tests timed out, and why.
    timed_out: Option<(Digest, String)>,
}

impl Verifier {
    pub(super) fn new(shared: Arc<Shared>, messages: mpsc::WeakUnboundedSender<Message>) -> Self {
        Self { shared, messages, owed: 0, due: None, timed_out: None }
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

    /// Begins a run of the tests of `first`; none if the project is ending.
    pub(super) fn run(
        &self,
        question: Question,
        facts: Facts,
        purpose: Purpose,
        first: TreeState<Mark>,
    ) -> Option<Job> {
        let messages = self.messages.upgrade()?;
        let tree_digest = *first.digest.as_ref().ok()?;
        if purpose == Purpose::Verify {
            let project = question.root.display();
            info!(%project, tree_digest = %tree_digest, "verifying an answer from records");
        }
        let of = BuildKey::new(tree_digest, &question, &facts);
        let plan = TestPlan { question, facts, purpose, first };
        Some(background_tests::start(plan, of, messages, &self.shared))
    }

    /// The tests of this tree have timed out.
    pub(super) fn timed_out(&mut self, of: &BuildKey, why: String) {
        self.timed_out = Some((*of.tree_digest(), why));
    }

    /// A verdict was reached.
    pub(super) fn note_verdict(&mut self) {
        self.timed_out = None;
    }

    /// Why there is no verdict of this tree, if its tests have timed out.
    pub(super) fn why_no_verdict(&self, tree_digest: Option<&Digest>) -> Option<String> {
        let (of, why) = self.timed_out.as_ref()?;
        (Some(of) == tree_digest).then(|| why.clone())
    }
}
