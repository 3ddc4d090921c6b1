//! The answer as an in-toto statement of the predicate `test-result` v0.1, unsigned.

use std::collections::BTreeMap;

use serde::Serialize;

use super::AskedQuestion;
use crate::model::{Answer, Digest, Outcome, Source, Verdict};

const STATEMENT: &str = "https://in-toto.io/Statement/v1";
const PREDICATE: &str = "https://in-toto.io/attestation/test-result/v0.1";

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Statement<'a> {
    #[serde(rename = "_type")]
    statement: &'static str,
    subject: [Resource<'a>; 1],
    predicate_type: &'static str,
    predicate: TestResult<'a>,
}

/// A thing that is named by a digest.
#[derive(Serialize)]
struct Resource<'a> {
    name: &'a str,
    digest: BTreeMap<&'static str, Digest>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    annotations: BTreeMap<&'static str, Source>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct TestResult<'a> {
    result: &'static str,
    configuration: [Resource<'a>; 1],
    passed_tests: Vec<String>,
    failed_tests: Vec<String>,
}

/// The statement of an answer whose targets name their tests.
///
/// # Errors
/// Why the answer states nothing: it must be one of a verdict for a tree that is known.
pub(crate) fn statement(answer: &Answer, asked: &AskedQuestion) -> Result<String, String> {
    if let Some(why) = super::text::nothing_ran(answer, asked.for_what) {
        return Err(why);
    }
    if let Some(why) = answer.not_kept.first() {
        return Err(why.clone());
    }
    let code_hash = answer.code_hash.ok_or("the tree is not known")?;
    let resource = |name, digest, annotations| Resource {
        name,
        digest: BTreeMap::from([("sha256", digest)]),
        annotations,
    };
    let source = BTreeMap::from([("source", answer.source())]);
    let selection = Digest::of(asked.scope.as_bytes());
    let statement = Statement {
        statement: STATEMENT,
        subject: [resource("code_hash", code_hash, source)],
        predicate_type: PREDICATE,
        predicate: TestResult {
            result: if answer.verdict() == Verdict::Pass { "PASSED" } else { "FAILED" },
            configuration: [resource(&asked.scope, selection, BTreeMap::new())],
            passed_tests: names(answer, Outcome::Ok),
            failed_tests: failed(answer),
        },
    };
    serde_json::to_string(&statement).map_err(|error| error.to_string())
}

fn names(answer: &Answer, outcome: Outcome) -> Vec<String> {
    let named = answer.targets.iter().flat_map(|target| {
        let tests = target.tests.iter().filter(move |test| test.outcome == outcome);
        tests.map(|test| format!("{} {}", target.id, test.name))
    });
    named.collect()
}

/// The failed tests, and the targets that failed without naming one.
fn failed(answer: &Answer) -> Vec<String> {
    let unnamed = answer
        .targets
        .iter()
        .filter(|target| target.verdict != Verdict::Pass && target.failures.is_empty());
    let unnamed = unnamed.map(|target| target.id.to_string());
    names(answer, Outcome::Failed).into_iter().chain(unnamed).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::render::AskedFor;
    use crate::model::{TargetAnswer, TargetId};

    fn answer(tests: &[(&str, Outcome)], verdict: Verdict) -> Answer {
        let sample = TargetAnswer::sample(Source::Cache, tests);
        let target = TargetAnswer { id: TargetId::sample("it"), verdict, ..sample };
        Answer { code_hash: Some(Digest::of(b"")), targets: vec![target], not_kept: Vec::new() }
    }

    fn asked(for_what: AskedFor) -> AskedQuestion {
        AskedQuestion { scope: "ws".into(), for_what }
    }

    #[test]
    fn the_form_of_a_statement() {
        let tests = [("a", Outcome::Ok), ("b", Outcome::Ignored)];
        let text = statement(&answer(&tests, Verdict::Pass), &asked(AskedFor::Verdict)).unwrap();
        let expected = format!(
            r#"{{"_type":"https://in-toto.io/Statement/v1","subject":[{{"name":"code_hash","digest":{{"sha256":"{}"}},"annotations":{{"source":"cache"}}}}],"predicateType":"https://in-toto.io/attestation/test-result/v0.1","predicate":{{"result":"PASSED","configuration":[{{"name":"ws","digest":{{"sha256":"{}"}}}}],"passedTests":["p::it a"],"failedTests":[]}}}}"#,
            Digest::of(b""),
            Digest::of(b"ws"),
        );
        assert_eq!(text, expected);
    }

    #[test]
    fn what_failed_is_named() {
        let of = |tests: &[_]| {
            statement(&answer(tests, Verdict::Fail), &asked(AskedFor::Verdict)).unwrap()
        };
        assert!(of(&[("a", Outcome::Failed)]).contains(r#""failedTests":["p::it a"]"#));
        let crashed = of(&[("a", Outcome::Ok)]);
        assert!(crashed.contains(r#""result":"FAILED""#), "{crashed}");
        assert!(crashed.contains(r#""failedTests":["p::it"]"#), "{crashed}");
    }

    #[test]
    fn nothing_is_stated_of_what_is_not_known() {
        let green = || answer(&[("a", Outcome::Ok)], Verdict::Pass);
        let disturbed = Answer { not_kept: vec!["a.txt changed".into()], ..green() };
        let unknown = Answer { code_hash: None, ..green() };
        for answer in [&disturbed, &unknown] {
            assert!(statement(answer, &asked(AskedFor::Verdict)).is_err());
        }
        assert!(statement(&green(), &asked(AskedFor::Build)).is_err());
        assert!(statement(&green(), &asked(AskedFor::List)).is_err());
    }
}
