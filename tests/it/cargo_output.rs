//! The reader of cargo's output, which the other tests compare answers with.

use serde_json::json;

use crate::results::Results;

/// The output of cargo when the one test of `tests/cli.rs` fails.
fn of_cargo(again: &str) -> Results {
    let output = format!(
        "     Running tests/cli.rs (target/debug/deps/cli-0123456789abcdef)\n\
         test result: FAILED. 0 passed; 1 failed; 0 ignored; 0 measured\n\
         error: test failed, to rerun pass `{again}`\n\
         error: 1 target failed:\n    `{again}`\n"
    );
    Results::of_cargo(Some(101), &output, &[])
}

fn of_answer(target: &str, failed: u64) -> Results {
    let verdict = if failed > 0 { "fail" } else { "pass" };
    let target = json!({"package": "p", "target": target, "kind": "test", "verdict": verdict,
        "passed": 0, "failed": failed, "ignored": 0});
    Results::of_answer(&[target], &json!({"verdict": verdict}))
}

#[test]
fn cargo_names_the_package_of_what_failed_only_where_there_are_several() {
    for again in ["-p p --test cli", "--test cli"] {
        let cargo = of_cargo(again);
        assert!(!cargo.error, "{cargo:?}");
        assert!(of_answer("cli", 1).agrees_with(&cargo), "{cargo:?}");
        assert!(!of_answer("cli", 0).agrees_with(&cargo), "{cargo:?}");
        assert!(!of_answer("other", 1).agrees_with(&cargo), "{cargo:?}");
    }
    assert!(!of_answer("cli", 1).agrees_with(&of_cargo("-p q --test cli")));
}
