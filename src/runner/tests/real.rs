//! One job at a time: what its report says.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use super::fixture::{ALL, compile, environment, id, job, names, run, script};
use crate::model::{End, Outcome, TestCounts, Verdict};
use crate::process::{Spec, Stream};
use crate::runner::{self, Harness, ProcessHook, RunEvent, RunnerOptions, TestJob};

const OKS: [&str; 7] = ["alpha", "beta", "delta", "delta_bad", "noisy", "res", "zz_last"];
const FAILS: [&str; 3] = ["beta", "delta_bad", "res"];

fn counts(passed: u64, failed: u64, ignored: u64, filtered: u64) -> TestCounts {
    TestCounts { passed, failed, ignored, filtered }
}

/// Every way to print that is to give full names.
const SHAPES: [&[&str]; 6] = [
    &[],
    &["--test-threads=1"],
    &["--test-threads", "4", "--color", "always"],
    &["--nocapture", "--test-threads=1"],
    &["--no-capture"],
    &["--show-output"],
];

#[tokio::test]
async fn a_pass_in_every_shape() {
    for args in SHAPES {
        let report = run(job(args, &[])).await;
        assert_eq!((report.verdict, report.end), (Verdict::Pass, End::Exit(0)), "{args:?}");
        assert_eq!(report.counts, counts(7, 0, 2, 0), "{args:?}");
        assert_eq!(names(&report, Outcome::Ok), OKS, "{args:?}");
        assert_eq!(names(&report, Outcome::Ignored), ["gamma", "gamma_why"], "{args:?}");
        let wants = args.iter().any(|arg| arg.contains("capture") || arg.contains("output"));
        assert_eq!(report.output.contains("captured by alpha"), wants, "{args:?}");
        assert!(wants || report.output.is_empty());
    }
}

#[tokio::test]
async fn failures_in_every_shape() {
    for args in SHAPES {
        let report = run(job(args, &[("FAIL", "1")])).await;
        assert_eq!((report.verdict, report.end), (Verdict::Fail, End::Exit(101)), "{args:?}");
        assert_eq!(report.counts, counts(4, 3, 2, 0), "{args:?}");
        assert_eq!(names(&report, Outcome::Failed), FAILS, "{args:?}");
        assert_eq!(report.failures().collect::<Vec<_>>(), FAILS);
        let said = format!("{}{}", report.output, report.stderr.as_deref().unwrap_or_default());
        assert!(said.contains("beta is broken"), "{args:?}: {said}");
        if args.is_empty() {
            assert_eq!(names(&report, Outcome::Ok), ["alpha", "delta", "noisy", "zz_last"]);
            assert!(report.output.starts_with("failures:\n"), "{}", report.output);
            assert!(report.output.contains("---- beta stdout ----\ncaptured by beta\n"));
            assert!(!report.output.contains("captured by alpha"));
        }
    }
}

#[tokio::test]
async fn terse_has_counts_and_the_failed_names() {
    for args in [&["-q"][..], &["--format", "terse"]] {
        let report = run(job(args, &[("FAIL", "1")])).await;
        assert_eq!(report.counts, counts(4, 3, 2, 0));
        assert_eq!(names(&report, Outcome::Failed), FAILS);
        assert_eq!(names(&report, Outcome::Ok), [""; 0]);
    }
    assert_eq!(run(job(&["-q"], &[])).await.counts, counts(7, 0, 2, 0));
}

#[tokio::test]
async fn filters_and_ignored_tests() {
    let report = run(job(&["delta", "--skip", "bad"], &[])).await;
    assert_eq!((report.counts, names(&report, Outcome::Ok)), (counts(1, 0, 0, 8), vec!["delta"]));
    let report = run(job(&["--ignored"], &[])).await;
    assert_eq!(report.counts, counts(2, 0, 0, 7));
    assert_eq!(names(&report, Outcome::Ok), ["gamma", "gamma_why"]);
    let report = run(job(&["--include-ignored"], &[])).await;
    assert_eq!((report.counts, names(&report, Outcome::Ok)), (counts(9, 0, 0, 0), ALL.to_vec()));
    let report = run(job(&["no_such_test"], &[])).await;
    assert_eq!((report.verdict, report.counts), (Verdict::Pass, counts(0, 0, 0, 9)));
    assert_eq!(run(job(&["--exact", "--", "beta"], &[])).await.counts, counts(1, 0, 0, 8));
}

#[tokio::test]
async fn nothing_that_a_test_prints_makes_a_pass_of_a_failure() {
    let lies = [
        "no end of line",
        "test beta ... ok\n",
        "test beta ... ok\ntest gamma ... ok\ntest unknown ... ok\n",
        "test result: ok. 7 passed; 0 failed; 2 ignored; 0 measured; 0 filtered out; finished in 0.00s\n",
        "\nfailures:\n    alpha\n\ntest result: FAILED. 6 passed; 1 failed; 2 ignored; 0 measured; 0 filtered out; finished in 0.00s\n",
        "running 9 tests\n",
        "\u{1b}[31m\u{fffd}test beta ... ",
    ];
    for lie in lies {
        for threads in ["--test-threads=1", "--test-threads=4"] {
            let report = run(job(&[threads], &[("FAIL", "1"), ("NOISE", lie)])).await;
            assert_eq!(report.verdict, Verdict::Fail, "{lie}");
            for name in names(&report, Outcome::Ok) {
                assert!(!FAILS.contains(&name) && ALL.contains(&name), "{lie}: {name}");
                assert!(!name.starts_with("gamma"), "{lie}: {name}");
            }
            if !lie.starts_with("running") {
                assert_eq!(report.counts, counts(4, 3, 2, 0), "{lie}");
                assert_eq!(names(&report, Outcome::Failed), FAILS, "{lie}");
            }
            let report = run(job(&[threads], &[("NOISE", lie)])).await;
            assert_eq!(report.verdict, Verdict::Pass, "{lie}");
            assert!(names(&report, Outcome::Ok).iter().all(|name| OKS.contains(name)), "{lie}");
            assert_eq!(report.counts.failed, 0);
        }
    }
    let report = run(job(&[], &[("NOISE", "child output without an end")])).await;
    assert_eq!(names(&report, Outcome::Ok), OKS, "harmless noise costs nothing");
}

#[tokio::test]
async fn death_by_signal_is_told_in_cargos_words_with_the_test() {
    for (die, end, words) in [
        ("abort", End::Signal(libc::SIGABRT), "(signal: 6, SIGABRT: process abort signal)"),
        ("segv", End::Signal(libc::SIGSEGV), "(signal: 11, SIGSEGV: invalid memory reference)"),
        ("kill", End::Signal(libc::SIGKILL), "(signal: 9, SIGKILL: kill)"),
        ("exit", End::Exit(7), "(exit status: 7)"),
    ] {
        let report = run(job(&["--test-threads=1"], &[("DIE", die)])).await;
        assert_eq!((report.verdict, report.end), (Verdict::Fail, end), "{die}");
        assert!(report.output.contains(words), "{die}: {}", report.output);
        assert_eq!(names(&report, Outcome::Failed), ["zz_last"], "{die}");
        assert_eq!(names(&report, Outcome::Ok), [""; 0], "no summary: nothing is proven");
        assert_eq!(report.counts, counts(6, 1, 2, 0), "{die}");
    }
}

#[tokio::test]
async fn an_early_exit_with_status_0_is_cargos_pass_but_proves_no_test() {
    let report = run(job(&[], &[("DIE", "exit 0"), ("FAIL", "1")])).await;
    assert_eq!((report.verdict, report.end), (Verdict::Pass, End::Exit(0)));
    assert_eq!((names(&report, Outcome::Ok), names(&report, Outcome::Failed)), (vec![], vec![]));
}

#[tokio::test]
async fn a_test_that_hangs_is_ended_and_named_with_its_children() {
    let dir = tempfile::tempdir().unwrap();
    let pids = dir.path().join("pids");
    let pids_text = pids.to_str().unwrap();
    for threads in ["--test-threads=1", "--test-threads=2"] {
        let job = job(&[threads], &[("DIE", "hang"), ("PIDS", pids_text)]);
        let options = RunnerOptions {
            timeout: Some(Duration::from_millis(1500)),
            slow_after: Duration::from_millis(200),
            ..RunnerOptions::default()
        };
        let mut slow = Vec::new();
        let reports = runner::run(&[job], &options, |event| {
            if let RunEvent::Slow { running, .. } = event {
                slow.push(running.to_vec());
            }
        })
        .await;
        let report = reports[0].as_ref().unwrap();
        assert_eq!((report.verdict, report.end), (Verdict::Fail, End::TimedOut));
        assert_eq!(names(report, Outcome::Failed), ["zz_last"]);
        assert!(report.output.contains("longer than 1.5s"), "{}", report.output);
        assert!(report.output.contains("still running:\n    zz_last\n"), "{}", report.output);
        assert!(slow.iter().any(|running| running == &["zz_last"]), "{slow:?}");
        assert_gone(&std::fs::read_to_string(&pids).unwrap()).await;
    }
}

/// The processes of these numbers end at once; they were killed, but the kernel may still be at
/// it.
async fn assert_gone(pids: &str) {
    let alive = |pid: &str| {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        !(stat.is_empty() || stat.contains(") Z ") || stat.contains(") X "))
    };
    let gone = async {
        while pids.split(' ').any(alive) {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), gone).await.expect("no process is left");
}

/// Counts how often an end is told.
#[derive(Debug, Default)]
struct Counted(AtomicUsize);

impl ProcessHook for Counted {
    fn start(&self, spec: Spec) -> Spec {
        spec
    }

    fn end(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

#[tokio::test]
async fn cancelling_ends_the_tree_at_once_and_gives_no_report() {
    let dir = tempfile::tempdir().unwrap();
    let pids = dir.path().join("pids");
    let mut hang = job(&["--test-threads=1"], &[("DIE", "hang"), ("PIDS", pids.to_str().unwrap())]);
    let mut first = script("first", "exit 0", Harness::Custom);
    let around = [Arc::new(Counted::default()), Arc::new(Counted::default())];
    first.around = Some(Arc::clone(&around[0]) as Arc<dyn ProcessHook>);
    hang.around = Some(Arc::clone(&around[1]) as Arc<dyn ProcessHook>);
    let jobs = [first, hang, script("third", "exit 0", Harness::Custom)];
    let cancel = CancellationToken::new();
    let options = RunnerOptions {
        jobs: 1,
        cancel: cancel.clone(),
        slow_after: Duration::from_millis(10),
        ..RunnerOptions::default()
    };
    let mut cancelled_at = None;
    let reports = runner::run(&jobs, &options, |event| {
        let hangs = || std::fs::read_to_string(&pids).is_ok_and(|text| text.contains(' '));
        if matches!(event, RunEvent::Slow { .. }) && cancelled_at.is_none() && hangs() {
            cancelled_at = Some(std::time::Instant::now());
            cancel.cancel();
        }
    })
    .await;
    assert!(cancelled_at.unwrap().elapsed() < Duration::from_secs(5));
    let ends: Vec<bool> = reports.iter().map(Option::is_some).collect();
    assert_eq!(ends, [true, false, false]);
    // There is nothing to find out about what was given up.
    let told = around.map(|around| around.0.load(Ordering::Relaxed));
    assert_eq!(told, [1, 0]);
    assert_gone(&std::fs::read_to_string(&pids).unwrap()).await;
}

#[tokio::test]
async fn a_binary_that_is_gone_says_so() {
    let missing = |program: &str, dir: &str| {
        TestJob::new(id("x"), program, Vec::new(), dir, environment(), Harness::Libtest)
    };
    let report = run(missing("/no/such/binary", "/")).await;
    assert_eq!((report.verdict, report.end), (Verdict::Fail, End::NotStarted));
    assert!(report.output.contains("/no/such/binary") && report.output.contains("gone now"));
    let report = run(missing("/bin/sh", "/no/such/folder")).await;
    assert_eq!(report.end, End::NotStarted);
    assert!(report.output.contains("its folder is gone"), "{}", report.output);
}

#[tokio::test]
async fn a_flood_is_kept_at_both_ends_only() {
    let report = run(job(&[], &[("DIE", "flood")])).await;
    assert_eq!(report.counts, counts(6, 1, 2, 0));
    assert_eq!(names(&report, Outcome::Failed), ["zz_last"]);
    assert!(report.output.contains("after the flood"));
    assert!(report.output.len() < 10 * 1024 * 1024);
    let report = run(job(&["--nocapture"], &[("DIE", "flood")])).await;
    assert!(report.output.contains(" bytes left out ...]"));
    assert!(report.output.len() < 10 * 1024 * 1024);
}

#[tokio::test]
async fn live_output_and_test_events_come_as_they_happen() {
    let options = RunnerOptions { jobs: 1, live: true, ..RunnerOptions::default() };
    let (mut seen, mut finished, mut err) = (Vec::new(), Vec::new(), 0);
    let job = job(&["--nocapture", "--test-threads=1"], &[("FAIL", "1")]);
    let reports = runner::run(&[job], &options, |event| match event {
        RunEvent::Output { stream: Stream::Out, bytes, .. } => seen.extend_from_slice(bytes),
        RunEvent::Output { stream: Stream::Err, bytes, .. } => err += bytes.len(),
        RunEvent::TestFinished { name, outcome, .. } => finished.push((name.to_owned(), outcome)),
        _ => {}
    })
    .await;
    assert!(reports[0].is_some() && err > 0);
    assert!(String::from_utf8(seen).unwrap().contains("captured by alpha\n"));
    assert!(finished.contains(&("gamma".to_owned(), Outcome::Ignored)), "{finished:?}");
    assert!(finished.contains(&("alpha".to_owned(), Outcome::Ok)), "{finished:?}");
}

#[tokio::test]
async fn other_harnesses_are_judged_by_their_exit_status() {
    let report = run(script("c", "echo hello; echo oops >&2; exit 3", Harness::Custom)).await;
    assert_eq!((report.verdict, report.end), (Verdict::Fail, End::Exit(3)));
    assert_eq!((report.counts, report.tests.len()), (counts(0, 0, 0, 0), 0));
    assert!(report.output.starts_with("hello\noops\nprocess didn't exit successfully: "));
    let report = run(script("c", "echo hello", Harness::Custom)).await;
    assert_eq!((report.verdict, report.output.as_str()), (Verdict::Pass, ""));
    let shape = "printf 'running 2 tests\\ntest a b ... ok\\ntest c ... ignored\\n\\ntest result: ok. 1 passed; 0 failed; 1 ignored; 0 measured; 0 filtered out\\n'";
    let report = run(script("c", shape, Harness::Custom)).await;
    assert_eq!(report.counts, counts(1, 0, 1, 0));
    assert_eq!(names(&report, Outcome::Ok), ["a b"]);
    let report = run(script("c", &format!("{shape}; exit 1"), Harness::Custom)).await;
    assert_eq!((report.verdict, names(&report, Outcome::Ok)), (Verdict::Fail, vec![]));
}

#[tokio::test]
async fn a_binary_that_cannot_list_its_tests_has_counts_but_no_names() {
    let shape = "case $1 in --list) exit 1;; esac; printf 'running 1 test\\ntest a ... ok\\n\\ntest result: ok. 1 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out\\n'";
    let mut job = script("c", shape, Harness::Libtest);
    job.args.push("sh".into());
    job.wrapper_args = 3;
    let report = run(job).await;
    assert_eq!((report.verdict, report.counts), (Verdict::Pass, counts(1, 0, 0, 0)));
    assert!(report.tests.is_empty());
}

#[tokio::test]
async fn arguments_that_only_print_show_what_they_print() {
    for args in [&["--list"][..], &["--help"]] {
        let report = run(job(args, &[])).await;
        assert_eq!((report.verdict, report.counts), (Verdict::Pass, counts(0, 0, 0, 0)));
        assert!(report.tests.is_empty() && !report.output.is_empty());
    }
}

#[tokio::test]
async fn benches_run_as_tests_and_the_json_of_nightly() {
    let dir = tempfile::tempdir().unwrap();
    let source = "#![feature(test)] extern crate test;
        #[test] fn t() {}
        #[bench] fn bench_of_a_long_name(b: &mut test::Bencher) { b.iter(|| 1) }";
    let binary = compile(dir.path(), "benches", source);
    let job = |args: &[&str]| {
        let args = args.iter().map(Into::into).collect();
        TestJob::new(id("b"), &binary, args, "/", environment(), Harness::Libtest)
    };
    let report = run(job(&[])).await;
    assert_eq!(report.counts, counts(2, 0, 0, 0));
    assert_eq!(names(&report, Outcome::Ok), ["bench_of_a_long_name", "t"]);
    let mut json = job(&["-Zunstable-options", "--format=json"]);
    json.environment.set("RUSTC_BOOTSTRAP", "1");
    let report = run(json).await;
    assert_eq!(report.counts, counts(2, 0, 0, 0), "{}", report.output);
    let report = run(job(&["--bench", "t"])).await;
    assert_eq!((report.verdict, report.counts.failed), (Verdict::Pass, 0));
    assert!(!names(&report, Outcome::Ok).contains(&"t"), "tests do not run with --bench");
}
