//! For all noise: a test that failed, was ignored or is unknown is never given as passed.

use std::collections::HashSet;

use proptest::prelude::*;

use crate::model::{End, Outcome};
use crate::runner::evidence::{Circumstances, Findings, judge};
use crate::runner::scan::{Listing, Names, Scan};

const NAMES: [&str; 6] = ["a", "a::b", "tests::it works", "with ... dots", "zu", "ähm"];

/// What libtest does in one run.
#[derive(Clone, Debug)]
struct Run {
    outcomes: Vec<Outcome>,
    one_thread: bool,
    /// Noise and the piece of output before which it comes, counted from the start.
    noise: Vec<(usize, Vec<u8>)>,
    /// How it ends; `None` is as libtest ends by itself.
    cut: Option<(usize, End)>,
}

impl Run {
    /// libtest's own writes, one piece for each, up to the last outcome; then the rest.
    fn pieces(&self) -> (Vec<String>, Vec<String>) {
        let tests = || NAMES.iter().zip(&self.outcomes);
        let word = |outcome: &Outcome| match outcome {
            Outcome::Ok => "ok",
            Outcome::Failed => "FAILED",
            Outcome::Ignored => "ignored",
        };
        let mut pieces = vec![format!("\nrunning {} tests\n", self.outcomes.len())];
        for (name, outcome) in tests() {
            let start = ["test ".to_owned(), (*name).to_owned(), " ... ".to_owned()];
            if self.one_thread {
                pieces.push(start.concat());
            } else {
                pieces.extend(start);
            }
            pieces.extend([word(outcome).to_owned(), "\n".to_owned()]);
        }
        let count = |what| self.outcomes.iter().filter(|outcome| **outcome == what).count();
        let failed = count(Outcome::Failed);
        let mut end = Vec::new();
        if failed > 0 {
            end.push(
                "\nfailures:\n\n---- x stdout ----\n    at somewhere\n\nfailures:\n".to_owned(),
            );
            let names = tests().filter(|(_, outcome)| **outcome == Outcome::Failed);
            end.extend(names.map(|(name, _)| format!("    {name}\n")));
        }
        end.push(format!(
            "\ntest result: {}. {} passed; {failed} failed; {} ignored; 0 measured; 0 filtered out; finished in 0.00s\n\n",
            if failed > 0 { "FAILED" } else { "ok" },
            count(Outcome::Ok),
            count(Outcome::Ignored),
        ));
        (pieces, end)
    }

    fn end(&self) -> End {
        let failed = self.outcomes.contains(&Outcome::Failed);
        self.cut.map_or(End::Exit(if failed { 101 } else { 0 }), |(_, end)| end)
    }

    /// All output. `inside` lets noise come between the lines of the last block too.
    fn output(&self, inside: bool) -> Vec<u8> {
        let (mut pieces, end) = self.pieces();
        if inside {
            pieces.extend(end);
        } else {
            pieces.push(end.concat());
        }
        if let Some((at, _)) = self.cut {
            // Never the whole: a summary would be there.
            pieces.truncate(at % pieces.len());
        }
        let mut output = Vec::new();
        for (index, piece) in pieces.iter().map(String::as_bytes).chain([&b""[..]]).enumerate() {
            let here = self.noise.iter().filter(|(at, _)| at % (pieces.len() + 1) == index);
            output.extend(here.flat_map(|(_, noise)| noise.iter().copied()));
            output.extend_from_slice(piece);
        }
        output
    }

    fn listing(&self) -> Listing {
        let names = NAMES[..self.outcomes.len()].iter();
        Listing::parse(names.map(|name| format!("{name}: test\n")).collect::<String>().as_bytes())
            .unwrap()
    }

    fn judge(&self, output: &[u8], chunk: usize, names: Names) -> Findings {
        let mut scan = Scan::new(names, false);
        for piece in output.chunks(chunk) {
            scan.feed(piece, &mut |_, _| {});
        }
        scan.finish(&mut |_, _| {});
        let ignored = NAMES.iter().zip(&self.outcomes).filter(|(_, o)| **o == Outcome::Ignored);
        let ignored: HashSet<String> = ignored.map(|(name, _)| (*name).to_owned()).collect();
        let running = scan.running(if self.one_thread { 1 } else { 2 }, true);
        let about =
            Circumstances { end: self.end(), filtered: false, ignored: Some(ignored), running };
        judge(&scan, &about)
    }

    /// The rule itself.
    fn check(&self, findings: &Findings) -> Result<(), TestCaseError> {
        for test in &findings.tests {
            let truth = NAMES[..self.outcomes.len()].iter().position(|name| *name == test.name);
            prop_assert!(truth.is_some(), "unknown: {}", test.name);
            if test.outcome == Outcome::Ok {
                prop_assert_eq!(self.outcomes[truth.unwrap()], Outcome::Ok, "{}", test.name);
                prop_assert!(self.cut.is_none(), "nothing is proven without an end");
            }
        }
        Ok(())
    }
}

fn outcomes() -> impl Strategy<Value = Vec<Outcome>> {
    let one = prop_oneof![Just(Outcome::Ok), Just(Outcome::Failed), Just(Outcome::Ignored)];
    proptest::collection::vec(one, 1..=NAMES.len())
}

/// Any bytes, and everything that looks like libtest's own. `whole` lets a lie be a complete
/// block of results with the right number of tests.
fn noise(whole: bool) -> impl Strategy<Value = Vec<u8>> {
    let name =
        prop_oneof![proptest::sample::select(&NAMES[..]).prop_map(str::to_owned), "[a-z]{1,3}",];
    let word = proptest::sample::select(&["ok", "FAILED", "ignored", "ignored, x ... ok", ""][..]);
    let line = (name.clone(), word).prop_map(|(name, word)| format!("test {name} ... {word}\n"));
    let total = if whole { 0u64..7 } else { 100u64..101 };
    let block = (0u64..5, total, name).prop_map(|(failed, total, name)| {
        let list = if failed > 0 { format!("failures:\n    {name}\n\n") } else { String::new() };
        let word = if failed > 0 { "FAILED" } else { "ok" };
        let passed = total.saturating_sub(failed);
        format!("{list}test result: {word}. {passed} passed; {failed} failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.00s\n")
    });
    let small = proptest::sample::select(
        &[
            "ok\n",
            "ok",
            "\n",
            "FAILED",
            "test ",
            " ... ",
            "failures:\n",
            "    a\n",
            "running 3 tests\n",
            "\u{1b}[32mok\u{1b}(B\u{1b}[m\n",
            "a --- FAILED\n",
        ][..],
    );
    prop_oneof![
        line.prop_map(String::into_bytes),
        block.prop_map(String::into_bytes),
        small.prop_map(|text| text.as_bytes().to_vec()),
        proptest::collection::vec(any::<u8>(), 0..20),
        "[ -~\n]{0,30}".prop_map(String::into_bytes),
    ]
}

fn run(whole: bool, ends: bool) -> impl Strategy<Value = Run> {
    let noise = proptest::collection::vec((0usize..200, noise(whole)), 0..8);
    let end = prop_oneof![
        Just(End::Signal(6)),
        Just(End::TimedOut),
        Just(End::Exit(101)),
        Just(End::Exit(0)),
        Just(End::Exit(3))
    ];
    let cut = if ends { (0usize..100, end).prop_map(Some).boxed() } else { Just(None).boxed() };
    (outcomes(), any::<bool>(), noise, cut).prop_map(|(outcomes, one_thread, noise, cut)| Run {
        outcomes,
        one_thread,
        noise,
        cut,
    })
}

proptest! {
    // No file of past failures: they become examples in `shapes`. `PROPTEST_CASES` asks for more.
    #![proptest_config(ProptestConfig {
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn whole_lies_around_an_intact_end(run in run(true, false), chunk in 1usize..50) {
        let output = run.output(false);
        run.check(&run.judge(&output, chunk, Names::Known(run.listing())))?;
    }

    #[test]
    fn noise_inside_everything(run in run(false, false), chunk in 1usize..50) {
        let output = run.output(true);
        run.check(&run.judge(&output, chunk, Names::Known(run.listing())))?;
    }

    #[test]
    fn a_run_that_is_cut_off_proves_no_pass(run in run(false, true), chunk in 1usize..50) {
        let output = run.output(true);
        run.check(&run.judge(&output, chunk, Names::Known(run.listing())))?;
    }

    #[test]
    fn chunk_boundaries_do_not_matter(run in run(true, false), chunk in 1usize..50) {
        let output = run.output(true);
        for names in [Names::Known(run.listing()), Names::Any, Names::Doctests, Names::Unknown] {
            let whole = run.judge(&output, usize::MAX, names.clone());
            prop_assert_eq!(whole, run.judge(&output, chunk, names));
        }
    }

    #[test]
    fn without_noise_all_is_known(mut run in run(true, false)) {
        run.noise.clear();
        let findings = run.judge(&run.output(false), 7, Names::Known(run.listing()));
        let outcomes: Vec<Outcome> = findings.tests.iter().map(|test| test.outcome).collect();
        prop_assert_eq!(&outcomes, &run.outcomes);
    }

    #[test]
    fn a_pass_with_noise_still_names_every_test_that_nobody_speaks_against(
        bytes in proptest::collection::vec((0usize..200, proptest::collection::vec(any::<u8>(), 0..9)), 0..8),
        one_thread: bool,
    ) {
        // Noise without libtest's words, at least none that these few bytes can form.
        let noise = bytes.into_iter().filter(|(_, noise)| !noise.contains(&b'F') && !noise.contains(&b'i'));
        let run = Run { outcomes: vec![Outcome::Ok; 4], one_thread, noise: noise.collect(), cut: None };
        let findings = run.judge(&run.output(false), 11, Names::Known(run.listing()));
        prop_assert_eq!(findings.tests.len(), 4);
    }
}
