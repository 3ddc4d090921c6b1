//! What a project is doing, for `status`, and why it does no more.

use super::builder::Builder;
use super::fresh_tree::FreshTree;
use super::verifier::Verifier;
use crate::protocol::{LastBuild, State};

/// The parts of a project that its state follows from.
pub(super) struct ProjectActivity<'a> {
    pub(super) tree: &'a FreshTree,
    pub(super) builder: &'a Builder,
    pub(super) verifier: &'a Verifier,
    /// A client builds by itself.
    pub(super) is_held: bool,
    /// Why the facts of the project's own question are not known.
    pub(super) prepare_error: Option<&'a str>,
    pub(super) last_build: Option<LastBuild>,
}

impl ProjectActivity<'_> {
    /// The state, and its reason.
    pub(super) fn state(self) -> (State, Option<String>) {
        let Self { tree, builder, verifier, .. } = self;
        let Some(look) = tree.look() else {
            return (State::Missing, Some(tree.trouble()));
        };
        if let Some((state, text)) = builder.activity() {
            return (state, Some(text));
        }
        let paused = |reason: &str| (State::Paused, Some(reason.to_owned()));
        if self.is_held {
            return paused("a client is testing in the foreground");
        }
        if let Some(reason) = tree.git_reason() {
            return paused(reason);
        }
        let tree_digest = look.digest.as_ref().ok();
        // A job of another tree changes nothing: another run may have proven this tree.
        if tree_digest.is_some()
            && builder.built_tree() == tree_digest
            && let Some(build) = self.last_build.filter(|build| !build.success)
        {
            let why = build.ended.unwrap_or_else(|| "the tests do not compile".to_owned());
            return (State::Failed, Some(why));
        }
        if let Some(reason) = builder.thrashing_reason() {
            return paused(&reason);
        }
        let reason = match look.digest {
            Err(ref why) => Some(why.join("; ")),
            Ok(_) if tree.has_leftover_lock() => {
                Some("a leftover `index.lock` of git is ignored".to_owned())
            }
            Ok(_) => {
                let error = self.prepare_error.map(str::to_owned);
                error.or_else(|| verifier.why_no_verdict(tree_digest))
            }
        };
        (State::Idle, reason)
    }
}
