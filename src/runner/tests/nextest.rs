//! A small workspace through the real cargo-nextest; skipped, and said so, where it is missing.

use std::ffi::OsString;
use std::path::Path;
use std::sync::OnceLock;
use std::time::Duration;

use tempfile::TempDir;
use tokio_util::sync::CancellationToken;

use super::fixture::{environment, names};
use crate::model::{End, Outcome, TargetKind, TargetReport, Verdict};
use crate::runner::nextest::{self, NextestError, NextestRequest, NextestRun};
use crate::runner::{RunEvent, RunnerOptions};

const FILES: [(&str, &str); 6] = [
    (
        "Cargo.toml",
        "[package]\nname = \"nx-tests\"\nversion = \"0.1.0\"\nedition = \"2024\"\n[workspace]\n[[bin]]\nname = \"nx_tests\"\npath = \"src/main.rs\"\n",
    ),
    (
        "src/lib.rs",
        "fn var(n: &str) -> bool { std::env::var_os(n).is_some() }
#[test] fn shared() {}
#[test] fn lib_ok() {}
#[test] #[ignore] fn lib_ignored() {}
#[test] fn lib_fails() { println!(\"said before\"); assert!(!var(\"FAIL\"), \"boom\"); }
#[test] fn dies() { if var(\"ABORT\") { std::process::abort() } }
",
    ),
    (
        "src/main.rs",
        "fn main() {}
#[test] fn shared() { assert!(std::env::var_os(\"FAIL_SHARED\").is_none()) }
#[test] fn bin_ok() {}
",
    ),
    (
        "tests/it.rs",
        "#[test] fn it_ok() {}
#[test] fn flaky() {
    let Some(file) = std::env::var_os(\"FLAKY\") else { return };
    let first = !std::path::Path::new(&file).exists();
    std::fs::write(file, \"\").unwrap();
    assert!(!first);
}
#[test] fn hangs() { while std::env::var_os(\"HANG\").is_some() { std::thread::park() } }
",
    ),
    ("tests/empty.rs", ""),
    (".config/nextest.toml", "[profile.strict]\nretries = 1\nflaky-result = \"fail\"\n"),
];

/// The workspace, or `None` without cargo-nextest.
fn workspace() -> Option<&'static Path> {
    static DIR: OnceLock<Option<TempDir>> = OnceLock::new();
    let dir = DIR.get_or_init(|| {
        let environment = environment();
        let home = environment.get("CARGO_HOME").map(Into::into);
        let home = home.or_else(|| Some(Path::new(environment.get("HOME")?).join(".cargo")));
        let beside =
            home.is_some_and(|home: std::path::PathBuf| home.join("bin/cargo-nextest").is_file());
        if !beside && environment.find_program("cargo-nextest".as_ref(), "/".as_ref()).is_none() {
            return None;
        }
        let dir = tempfile::tempdir().unwrap();
        for (file, text) in FILES {
            let path = dir.path().join(file);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        }
        Some(dir)
    });
    if dir.is_none() {
        eprintln!("SKIPPED: cargo-nextest is not installed");
    }
    dir.as_ref().map(TempDir::path)
}

fn request(dir: &Path, selection: &[&str], harness: &[&str], variables: &[&str]) -> NextestRequest {
    let mut environment = environment();
    for variable in variables {
        let (name, value) = variable.split_once('=').unwrap_or((variable, "1"));
        environment.set(name, value);
    }
    let own = |args: &[&str]| args.iter().map(OsString::from).collect();
    NextestRequest {
        cargo: "cargo".into(),
        dir: dir.to_owned(),
        environment,
        selection: own(selection),
        harness: own(harness),
        hook: None,
    }
}

async fn run(selection: &[&str], harness: &[&str], variables: &[&str]) -> Option<NextestRun> {
    let request = request(workspace()?, selection, harness, variables);
    let ran = nextest::run(&request, &RunnerOptions::default(), |_| {}).await;
    Some(ran.unwrap().expect("not cancelled"))
}

fn report(ran: &NextestRun, kind: TargetKind) -> &TargetReport {
    let mut found = ran.reports.iter().filter(|report| report.id.kind == kind);
    found.find(|report| report.id.target != "empty").unwrap()
}

#[tokio::test]
async fn a_pass_reports_every_binary() {
    let Some(ran) = run(&["--workspace"], &[], &[]).await else { return };
    let ids: Vec<String> = ran.reports.iter().map(|report| report.id.to_string()).collect();
    assert_eq!(ids, ["nx-tests::empty", "nx-tests::it", "nx-tests", "nx-tests::bin/nx_tests"]);
    assert!(ran.reports.iter().all(|report| report.verdict == Verdict::Pass));
    assert!(ran.reports.iter().all(|report| report.end == End::Exit(0)));
    assert!(ran.reports.iter().all(|report| report.output.is_empty()));
    let lib = report(&ran, TargetKind::Lib);
    assert_eq!((lib.counts.passed, lib.counts.ignored), (4, 1));
    assert_eq!(names(lib, Outcome::Ok), ["dies", "lib_fails", "lib_ok", "shared"]);
    assert_eq!(names(lib, Outcome::Ignored), ["lib_ignored"]);
    assert!(ran.text.contains("9 tests run: 9 passed"), "{}", ran.text);
}

#[tokio::test]
async fn failures_and_signals_are_told() {
    let Some(ran) = run(&[], &[], &["FAIL", "ABORT"]).await else { return };
    let lib = report(&ran, TargetKind::Lib);
    assert_eq!((lib.verdict, lib.end), (Verdict::Fail, End::Exit(100)));
    assert_eq!(names(lib, Outcome::Failed), ["dies", "lib_fails"]);
    assert_eq!(names(lib, Outcome::Ok), ["lib_ok", "shared"]);
    assert_eq!((lib.counts.passed, lib.counts.failed), (2, 2));
    assert!(lib.output.contains("---- lib_fails stdout ----"), "{}", lib.output);
    assert!(lib.output.contains("said before\n") && lib.output.contains("boom"));
    assert!(lib.output.contains("SIGABRT"), "{}", lib.output);
    assert_eq!(report(&ran, TargetKind::Bin).verdict, Verdict::Pass);
    assert_eq!(report(&ran, TargetKind::Test).verdict, Verdict::Pass);
}

#[tokio::test]
async fn a_name_that_two_binaries_share_is_failed_in_both() {
    let Some(ran) = run(&[], &[], &["FAIL_SHARED"]).await else { return };
    for kind in [TargetKind::Lib, TargetKind::Bin] {
        let report = report(&ran, kind);
        assert_eq!(report.verdict, Verdict::Fail);
        assert_eq!(names(report, Outcome::Failed), ["shared"]);
    }
}

#[tokio::test]
async fn retries_pass_or_fail_as_nextest_says() {
    let dir = tempfile::tempdir().unwrap();
    let flaky = |name: &str| format!("FLAKY={}", dir.path().join(name).display());
    let Some(ran) = run(&["--retries", "1"], &[], &[&flaky("a")]).await else { return };
    let it = report(&ran, TargetKind::Test);
    assert_eq!(
        (it.verdict, names(it, Outcome::Ok)),
        (Verdict::Pass, vec!["flaky", "hangs", "it_ok"])
    );
    let strict = run(&["-P", "strict"], &[], &[&flaky("b")]).await.unwrap();
    let it = report(&strict, TargetKind::Test);
    assert_eq!((it.verdict, names(it, Outcome::Failed)), (Verdict::Fail, vec!["flaky"]));
    assert_eq!(report(&strict, TargetKind::Lib).verdict, Verdict::Pass);
}

#[tokio::test]
async fn selections_filters_and_no_capture() {
    let Some(ran) = run(&["--lib"], &["--ignored", "--nocapture"], &[]).await else { return };
    assert_eq!(ran.reports.len(), 1);
    assert_eq!((ran.reports[0].counts.passed, ran.reports[0].counts.filtered), (1, 4));
    let ran = run(&["--test", "it"], &["it_ok", "--exact"], &[]).await.unwrap();
    assert_eq!(names(&ran.reports[0], Outcome::Ok), ["it_ok"]);
    let ran = run(&["--lib"], &["--nocapture"], &["FAIL"]).await.unwrap();
    assert_eq!(names(&ran.reports[0], Outcome::Failed), ["lib_fails"]);
    assert_eq!(names(&ran.reports[0], Outcome::Ok), [""; 0], "the stream is the tests' too");
    assert!(ran.text.contains("said before"), "{}", ran.text);
}

#[tokio::test]
async fn errors_say_what_to_do() {
    let Some(dir) = workspace() else { return };
    let broken = tempfile::tempdir().unwrap();
    std::fs::create_dir(broken.path().join("src")).unwrap();
    std::fs::write(broken.path().join("src/lib.rs"), "this is no rust").unwrap();
    std::fs::write(broken.path().join("Cargo.toml"), FILES[0].1.split("[[bin]]").next().unwrap())
        .unwrap();
    let fail = |request: NextestRequest| async move {
        nextest::run(&request, &RunnerOptions::default(), |_| {}).await.unwrap_err()
    };
    let error = fail(request(broken.path(), &[], &[], &[])).await;
    assert!(
        matches!(&error, NextestError::Build { stderr } if stderr.contains("error")),
        "{error}"
    );
    let error = fail(request(dir, &["--test", "empty"], &[], &[])).await;
    assert!(matches!(error, NextestError::NoTests), "{error}");
    let error = fail(request(dir, &["--no-such-option"], &[], &[])).await;
    assert!(error.to_string().contains("--no-such-option"), "{error}");
    let error = fail(request(dir, &["--doc"], &[], &[])).await;
    assert!(error.to_string().contains("doctests"), "{error}");
    let error =
        fail(NextestRequest { cargo: "/no/cargo".into(), ..request(dir, &[], &[], &[]) }).await;
    assert!(matches!(error, NextestError::Spawn(_)), "{error}");
}

#[tokio::test]
async fn a_cargo_without_nextest_says_how_to_get_it() {
    let bin = tempfile::tempdir().unwrap();
    let cargo = bin.path().join("cargo");
    let text = "#!/bin/sh\necho 'error: no such command: `nextest`' >&2\nexit 101\n";
    std::fs::write(&cargo, text).unwrap();
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    std::fs::set_permissions(&cargo, mode).unwrap();
    let request = NextestRequest { cargo: "/bin/sh".into(), ..request(bin.path(), &[], &[], &[]) };
    // Through the shell: the file was open for writing a moment ago, which another test's fork
    // may have inherited.
    let request = NextestRequest { selection: Vec::new(), ..request };
    let link = bin.path().join("nextest");
    std::os::unix::fs::symlink(&cargo, link).unwrap();
    let error = nextest::run(&request, &RunnerOptions::default(), |_| {}).await.unwrap_err();
    assert!(matches!(error, NextestError::NotInstalled { .. }), "{error}");
    assert!(error.to_string().contains("cargo install --locked cargo-nextest"), "{error}");
}

#[tokio::test]
async fn a_hang_is_bounded_named_and_cancellable() {
    let Some(dir) = workspace() else { return };
    let request = request(dir, &["--test", "it"], &["hangs", "it_ok"], &["HANG"]);
    let cancel = CancellationToken::new();
    let options = RunnerOptions {
        // Enough for a busy machine to come to the test.
        timeout: Some(Duration::from_secs(8)),
        cancel: cancel.clone(),
        slow_after: Duration::from_millis(100),
        ..RunnerOptions::default()
    };
    let mut slow = Vec::new();
    let ran = nextest::run(&request, &options, |event| {
        if let RunEvent::Slow { running, .. } = event {
            slow.push(running.to_vec());
        }
    })
    .await
    .unwrap()
    .unwrap();
    assert_eq!((ran.reports[0].verdict, ran.reports[0].end), (Verdict::Fail, End::TimedOut));
    assert!(ran.reports[0].output.contains("hangs"), "{}", ran.reports[0].output);
    assert!(slow.iter().any(|running| running == &["hangs"]), "{slow:?}");
    let options = RunnerOptions { timeout: None, ..options };
    let ran = nextest::run(&request, &options, |event| {
        if matches!(event, RunEvent::Slow { .. }) {
            cancel.cancel();
        }
    })
    .await;
    assert!(ran.unwrap().is_none());
}
