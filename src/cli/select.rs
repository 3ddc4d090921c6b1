//! `select`: the test targets that `test` would run, for other programs that run tests.
//!
//! A target that is not known is selected: filters name what is left out, never what is run.

use std::path::Path;

use serde::Serialize;

use super::args::SelectFormat;
use super::context::Context;
use super::exit::Stop;
use super::explain::{Explained, explained};
use super::output;
use crate::model::{Digest, TargetId, TargetKind};
use crate::verdict::{Explanation, TargetExplanation};

#[derive(Serialize)]
struct SelectedTarget<'a> {
    r#type: &'static str,
    package: &'a str,
    target: &'a str,
    kind: TargetKind,
    selected: bool,
    reason: &'a str,
}

#[derive(Serialize)]
struct SelectionSummary<'a> {
    r#type: &'static str,
    /// Targets that are known and selected.
    selected: usize,
    /// Targets that are known and left out.
    cached: usize,
    /// Whether all that is not known is selected too.
    selects_unknown: bool,
    reason: &'a str,
    code_hash: Option<Digest>,
}

/// Prints what would run for the tree on disk; it builds nothing, runs nothing and asks no daemon.
pub(super) fn select(
    context: &Context,
    project: Option<&Path>,
    format: SelectFormat,
) -> Result<(), Stop> {
    let Explained { explanation, .. } = explained(context, project, false)?;
    match format {
        SelectFormat::NextestFilter => output::line(nextest_filter(&explanation)),
        SelectFormat::Json => json_lines(&explanation)?.iter().try_for_each(output::line),
    }
}

fn json_lines(explanation: &Explanation) -> Result<Vec<String>, Stop> {
    let line = |target: &TargetExplanation| {
        serde_json::to_string(&SelectedTarget {
            r#type: "target",
            package: &target.id.package,
            target: &target.id.target,
            kind: target.id.kind,
            selected: !target.cached,
            reason: &target.reason,
        })
    };
    let summary = SelectionSummary {
        r#type: "summary",
        selected: explanation.targets.iter().filter(|target| !target.cached).count(),
        cached: explanation.targets.iter().filter(|target| target.cached).count(),
        selects_unknown: !explanation.cached,
        reason: &explanation.reason,
        code_hash: explanation.code_hash,
    };
    let lines = explanation.targets.iter().map(line).chain([serde_json::to_string(&summary)]);
    lines.collect::<Result<_, _>>().map_err(|error| Stop::from(std::io::Error::from(error)))
}

/// The filterset of what is not cached.
fn nextest_filter(explanation: &Explanation) -> String {
    if explanation.cached {
        return "none()".to_owned();
    }
    let cached = explanation.targets.iter().filter(|target| target.cached);
    let ids: Vec<_> = cached.filter_map(|target| binary_id(&target.id)).collect();
    if ids.is_empty() {
        return "all()".to_owned();
    }
    // In one pattern: nextest refuses a filter with a part that matches none of its programs.
    format!("not binary_id(/^({})$/)", ids.join("|"))
}

/// The pattern of a target's name in nextest; `None` for doctests, which nextest does not run.
fn binary_id(id: &TargetId) -> Option<String> {
    let is_known = id.kind != TargetKind::Doc;
    is_known.then(|| {
        let escaped = |c: char| match c {
            'a'..='z' | 'A'..='Z' | '0'..='9' | '_' | '-' | ':' => c.to_string(),
            _ => format!("\\{c}"),
        };
        id.to_string().chars().map(escaped).collect()
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cache::SelectionRecord;

    fn explanation(is_cached: bool, targets: &[(&str, TargetKind, bool)]) -> Explanation {
        let target = |(name, kind, cached): &(&str, TargetKind, bool)| {
            let id = TargetId { package: "p".into(), target: (*name).into(), kind: *kind };
            TargetExplanation { cached: *cached, ..TargetExplanation::unrecorded(id, "why") }
        };
        Explanation {
            code_hash: None,
            cached: is_cached,
            reason: "the whole".into(),
            files: Vec::new(),
            settings: Vec::new(),
            last: None,
            targets: targets.iter().map(target).collect(),
            selection: SelectionRecord::default(),
        }
    }

    #[test]
    fn a_filter_names_only_what_is_left_out() {
        let filter = |is_cached, targets: &[_]| nextest_filter(&explanation(is_cached, targets));
        assert_eq!(filter(true, &[("p", TargetKind::Lib, true)]), "none()");
        assert_eq!(filter(false, &[]), "all()");
        let stale = ("it", TargetKind::Test, false);
        assert_eq!(filter(false, &[stale, ("p", TargetKind::Doc, true)]), "all()");
        let cached = [("p", TargetKind::Lib, true), stale, ("t.1", TargetKind::Bin, true)];
        assert_eq!(filter(false, &cached), r"not binary_id(/^(p|p::bin\/t\.1)$/)");
    }

    #[test]
    fn lines_say_of_each_target_whether_it_is_selected_and_why() {
        let known = [("it", TargetKind::Test, false), ("p", TargetKind::Lib, true)];
        let lines = json_lines(&explanation(false, &known)).unwrap();
        assert_eq!(
            lines,
            [
                r#"{"type":"target","package":"p","target":"it","kind":"test","selected":true,"reason":"why"}"#,
                r#"{"type":"target","package":"p","target":"p","kind":"lib","selected":false,"reason":"why"}"#,
                r#"{"type":"summary","selected":1,"cached":1,"selects_unknown":true,"reason":"the whole","code_hash":null}"#,
            ]
        );
    }
}
