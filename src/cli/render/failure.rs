//! Failures as cargo shows them: each failed target's own words, then all the names once more,
//! where the eye ends up.

use super::{ERROR, label};
use crate::model::{Answer, Verdict};

/// The names at the end of a red answer.
pub(crate) fn failures(answer: &Answer) -> Vec<String> {
    let mut lines = Vec::new();
    for target in answer.targets.iter().filter(|target| target.verdict != Verdict::Pass) {
        if target.failures.is_empty() {
            lines.push(label(ERROR, "Failed", format!("{}: {}", target.id, target.end)));
        }
        for name in &target.failures {
            lines.push(label(ERROR, "Failed", format!("{} {name}", target.id)));
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Source, TargetAnswer, TargetId};

    #[test]
    fn every_failed_test_is_named_once() {
        let target = TargetAnswer {
            id: TargetId::sample("it"),
            verdict: Verdict::Fail,
            failures: vec!["a".into(), "b::c".into()],
            ..TargetAnswer::sample(Source::Run, &[])
        };
        let answer = Answer { code_hash: None, targets: vec![target], not_kept: vec![] };
        let text = anstream::adapter::strip_str(&failures(&answer).join("\n")).to_string();
        assert_eq!(text, "      Failed p::it a\n      Failed p::it b::c");
    }
}
