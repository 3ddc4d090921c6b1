//! The compiler against the real cargo, in workspaces without dependencies and without network.

mod errors;
mod fixture;
mod plan;

use std::num::NonZeroUsize;

use fixture::{Place, files};
use knhk_test_cache::internals::compiler::BuildProgress;
use tokio_util::sync::CancellationToken;

#[tokio::test]
async fn builds_by_hand_and_by_the_service_are_fresh_for_each_other() {
    let place = Place::new(&files());
    let build = place.compiler(&["--workspace"]).build(&CancellationToken::new(), |_| {}).await;
    let build = build.unwrap();
    assert!(!build.fresh);
    assert_eq!(place.stale_by_hand(&["--workspace"]), Vec::<String>::new());
    place.compiler(&["--workspace"]).plan(&CancellationToken::new()).await.unwrap();
    assert_eq!(place.stale_by_hand(&["--workspace"]), Vec::<String>::new(), "after a plan");

    // A selection with other fingerprints, first by hand.
    let other = ["-p", "a", "--profile", "dev", "--features", "extra"];
    assert!(!place.stale_by_hand(&other).is_empty());
    let build = place.compiler(&other).build(&CancellationToken::new(), |_| {}).await.unwrap();
    assert!(build.fresh);
}

#[tokio::test]
async fn a_build_with_one_job_is_the_same_build() {
    let script = "fn main() {\n\
         \x20   println!(\"cargo::rerun-if-changed=build.rs\");\n\
         \x20   let file = concat!(env!(\"CARGO_MANIFEST_DIR\"), \"/jobs\");\n\
         \x20   std::fs::write(file, std::env::var(\"NUM_JOBS\").unwrap()).unwrap();\n}\n";
    let mut files = files();
    files.push(("w s/b/build.rs", script));
    let place = Place::new(&files);
    let one = place.compiler(&["--workspace", "-j7"]).with_jobs(NonZeroUsize::new(1));
    one.build(&CancellationToken::new(), |_| {}).await.unwrap();
    assert_eq!(std::fs::read_to_string(place.root.join("b/jobs")).unwrap(), "1");
    assert_eq!(place.stale_by_hand(&["--workspace"]), Vec::<String>::new());
    let all = place.compiler(&["--workspace"]);
    assert!(all.build(&CancellationToken::new(), |_| {}).await.unwrap().fresh);
}

#[tokio::test]
async fn a_build_tells_its_progress_warnings_and_artifacts() {
    let place = Place::new(&files());
    let mut events = Vec::new();
    let compiler = place.compiler(&["--workspace"]);
    let build = compiler.build(&CancellationToken::new(), |event| events.push(event)).await;
    let build = build.unwrap();
    let bars = events.iter().filter_map(|event| match event {
        BuildProgress::Building { done, total, what } => Some((*done, *total, what.clone())),
        _ => None,
    });
    let bars: Vec<_> = bars.collect();
    assert!(bars.iter().all(|(done, total, _)| done <= total), "{bars:?}");
    assert!(bars.iter().any(|(_, _, what)| what.contains("b")), "{bars:?}");
    assert!(
        events
            .iter()
            .any(|e| matches!(e, BuildProgress::Status(s) if s.starts_with("Compiling b")))
    );
    let [warning] = &build.warnings[..] else { panic!("{:?}", build.warnings) };
    assert!(warning.contains("unused variable: `unused`"), "{warning}");
    assert!(!warning.contains('\u{1b}'), "no colour was asked for");
    let mut names: Vec<String> = build.artifacts.iter().map(|a| a.id.to_string()).collect();
    names.sort();
    let expected = ["a", "a::bin/a", "a::custom", "a::example/ex", "a::it", "b"];
    assert_eq!(names, expected);
    assert!(build.artifacts.iter().all(|artifact| artifact.executable.is_file()));
    // Warnings are said again although nothing is compiled.
    let again = compiler.build(&CancellationToken::new(), |_| {}).await.unwrap();
    assert!(again.fresh);
    assert_eq!(again.warnings, build.warnings);
}

#[tokio::test]
async fn the_sources_of_a_build_are_known() {
    let place = Place::new(&files());
    let compiler = place.compiler(&["--workspace"]);
    for round in ["built", "fresh"] {
        let build = compiler.build(&CancellationToken::new(), |_| {}).await.unwrap();
        assert_eq!(build.sources.missing, Vec::<std::path::PathBuf>::new(), "{round}");
        for file in [
            "w s/a/src/lib.rs",
            "w s/a/src/main.rs",
            "w s/a/build.rs",
            "w s/a/tests/it.rs",
            "w s/a/ignored file.txt",
            "outside.txt",
            "w s/a/watched",
            "dep/src/lib.rs",
        ] {
            let file = place.base.join(file);
            assert!(build.sources.files.contains(&file), "{round}: {}", file.display());
        }
        let target = place.root.join("target");
        let generated = build.sources.files.iter().find(|file| file.starts_with(&target));
        assert_eq!(generated, None, "{round}");
    }
}

#[tokio::test]
async fn waiting_for_another_cargo_is_reported() {
    let place = Place::new(&files());
    let compiler = place.compiler(&["-p", "b"]);
    compiler.build(&CancellationToken::new(), |_| {}).await.unwrap();
    let lock = std::fs::File::open(place.root.join("target/debug/.cargo-lock")).unwrap();
    lock.lock().unwrap();
    let mut blocked = Vec::new();
    let never = CancellationToken::new();
    let build = compiler.build(&never, |event| {
        if let BuildProgress::Blocked(what) = event {
            lock.unlock().unwrap();
            blocked.push(what);
        }
    });
    build.await.unwrap();
    assert!(blocked[0].contains("waiting for file lock"), "{blocked:?}");
}
