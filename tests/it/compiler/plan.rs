//! The plan of a run: what cargo would run, exactly as it would run it.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStringExt as _;

use knhk_test_cache::internals::compiler::{PlannedTarget, TestPlan};
use knhk_test_cache::internals::model::{End, Harness};
use knhk_test_cache::internals::process::{Spec, capture};
use tokio_util::sync::CancellationToken;

use super::fixture::{Place, files};
use crate::home::takes_long;

async fn plan(place: &Place, line: &[&str]) -> TestPlan {
    let compiler = place.compiler(line);
    compiler.build(&CancellationToken::new(), |_| {}).await.unwrap();
    let plan = compiler.plan(&CancellationToken::new()).await.unwrap();
    assert!(plan.fresh);
    plan
}

fn names(plan: &TestPlan) -> Vec<String> {
    plan.targets.iter().map(|planned| planned.id.to_string()).collect()
}

fn find<'a>(plan: &'a TestPlan, name: &str) -> &'a PlannedTarget {
    plan.targets.iter().find(|planned| planned.id.to_string() == name).unwrap()
}

fn run(planned: &PlannedTarget) {
    let spec =
        Spec::new(&planned.program, &planned.dir, planned.environment.clone()).args(&planned.args);
    let output = capture(&spec, std::time::Duration::from_secs(120)).unwrap();
    assert_eq!(output.end, End::Exit(0), "{}", String::from_utf8_lossy(&output.stdout));
}

#[tokio::test]
async fn every_target_in_cargos_order_with_its_harness() {
    let place = Place::new(&files());
    let plan = plan(&place, &["--workspace"]).await;
    let found: Vec<(String, Harness)> =
        plan.targets.iter().map(|planned| (planned.id.to_string(), planned.harness)).collect();
    let expected = [
        ("a", Harness::Libtest),
        ("a::bin/a", Harness::Libtest),
        ("a::custom", Harness::Custom),
        ("a::it", Harness::Libtest),
        ("a::example/ex", Harness::Libtest),
        ("b", Harness::Libtest),
        ("a (doc)", Harness::Doctest),
        ("b (doc)", Harness::Doctest),
    ];
    assert_eq!(found, expected.map(|(name, harness)| (name.to_owned(), harness)));
    plan.targets.iter().for_each(run);
}

#[tokio::test]
async fn processes_see_exactly_what_cargo_shows_them() {
    let mut place = Place::new(&files());
    place.environment.set("ODD", OsString::from_vec(b"a\xff\nb".to_vec()));
    place.write("w s/.cargo/config.toml", "[env]\nFROM_CONFIG='1'\n");
    let dump = place.base.join("dump");
    place.environment.set("DUMP", &dump);
    let read = || {
        let text = std::fs::read_to_string(&dump).unwrap();
        std::fs::remove_file(&dump).unwrap();
        // A doctest is compiled to a new folder each time, and rustdoc counts its children.
        text.lines().filter(|line| !line.contains("/rustdoctest")).collect::<Vec<_>>().join("\n")
    };
    let custom = ["-p", "a", "--test", "custom", "--", "--some", "flag"];
    assert_eq!(place.by_hand(&custom).end, End::Exit(0));
    let by_cargo = read();
    assert!(by_cargo.contains("FROM_CONFIG") && by_cargo.contains("\\xFF"), "{by_cargo}");
    let plan_ = plan(&place, &custom).await;
    assert!(!dump.exists(), "nothing is run for a plan");
    run(find(&plan_, "a::custom"));
    assert_eq!(read(), by_cargo);

    assert_eq!(place.by_hand(&["-p", "a", "--doc"]).end, End::Exit(0));
    let by_cargo = read();
    let plan_ = plan(&place, &["-p", "a", "--doc"]).await;
    run(find(&plan_, "a (doc)"));
    assert_eq!(read(), by_cargo);
    assert_eq!(
        place.stale_by_hand(&["-p", "a"]).iter().filter(|l| l.contains("build.rs")).count(),
        0
    );
}

#[tokio::test]
async fn selections_mean_what_they_mean_to_cargo() {
    let place = Place::new(&files());
    assert_eq!(names(&plan(&place, &["-p", "b"]).await), ["b", "b (doc)"]);
    assert_eq!(names(&plan(&place, &["-qp", "a", "--test", "it"]).await), ["a::it"]);
    assert_eq!(names(&plan(&place, &["--workspace", "--lib", "-v"]).await), ["a", "b"]);
    assert_eq!(names(&plan(&place, &["--doc", "-p", "b"]).await), ["b (doc)"]);
    let filtered = plan(&place, &["-p", "b", "name", "--", "--ignored", "x y"]).await;
    assert_eq!(find(&filtered, "b").args, ["name", "--ignored", "x y"].map(OsString::from));
    assert_eq!(filtered.targets.len(), 1, "a test's name leaves doctests out: ask cargo");
    let filtered = plan(&place, &["-p", "b", "--", "name", "--ignored", "x y"]).await;
    let doctest = &find(&filtered, "b (doc)").args;
    assert!(!doctest.iter().any(|arg| arg == "--error-format" || arg == "--test-runtool"));
    for word in ["name", "--ignored", "x y"] {
        assert!(doctest.iter().any(|arg| arg == word), "{word}: {doctest:?}");
    }
    assert!(plan(&place, &["-p", "b", "--no-run"]).await.targets.is_empty());
    assert!(place.base.join("w s/target/debug").is_dir());
    let elsewhere = ["-p", "b", "--target-dir", "elsewhere", "--release"];
    let release = plan(&place, &elsewhere).await;
    assert!(find(&release, "b").program.starts_with(place.root.join("elsewhere/release")));
}

#[tokio::test]
async fn the_developers_runner_stays_in_front() {
    let mut place = Place::new(&files());
    let host = place.spec(&[]).toolchain.host.clone();
    let variable = format!("CARGO_TARGET_{}_RUNNER", host.to_uppercase().replace('-', "_"));
    let mut expected: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    let text = format!("[target.{host}]\nrunner='env A=1'\n");
    let array = format!("[target.{host}]\nrunner=['env', 'A=b c']\n");
    let ours = format!("[target.{host}]\nrunner=['/x/knhk-test-cache', 'exec']\n");
    expected.insert(&text, vec!["env", "A=1"]);
    expected.insert(&array, vec!["env", "A=b c"]);
    expected.insert("[target.'cfg(unix)']\nrunner='env A=2'\n", vec!["env", "A=2"]);
    expected.insert("[target.'cfg(windows)']\nrunner='env A=2'\n", vec![]);
    expected.insert(&ours, vec![]);
    let check = |planned: &TestPlan, runner: &[&str], what: &str| {
        let lib = find(planned, "b");
        let mut line: Vec<&OsStr> = vec![lib.program.as_os_str()];
        line.extend(lib.args.iter().map(OsString::as_os_str));
        assert_eq!(line[..runner.len()], *runner, "{what}");
        assert_eq!(line.len(), runner.len() + 1, "{what}");
        assert!(line[runner.len()].to_str().unwrap().contains("/deps/b-"), "{what}");
        let doctest = &find(planned, "b (doc)").args;
        let tools: Vec<_> = doctest
            .windows(2)
            .filter(|pair| pair[0].to_str().unwrap().starts_with("--test-runtool"))
            .map(|pair| &pair[1])
            .collect();
        assert_eq!(tools, runner, "{what}");
    };
    for (config, runner) in expected {
        place.write("w s/.cargo/config.toml", config);
        let planned = plan(&place, &["-p", "b"]).await;
        check(&planned, &runner, config);
        if !runner.is_empty() {
            planned.targets.iter().for_each(run);
        }
    }
    place.environment.set(&variable, "env A=3");
    check(&plan(&place, &["-p", "b"]).await, &["env", "A=3"], "environment");
}

#[tokio::test]
async fn a_named_target_platform_is_built_for_and_planned() {
    let place = Place::new(&files());
    let host = place.spec(&[]).toolchain.host.clone();
    let planned = plan(&place, &["-p", "b", "--target", &host]).await;
    assert_eq!(names(&planned), ["b", "b (doc)"]);
    assert!(find(&planned, "b").program.starts_with(place.root.join("target").join(&host)));
    planned.targets.iter().for_each(run);
}

#[tokio::test]
async fn a_custom_rustdoc_is_planned_and_its_variable_restored() {
    let mut place = Place::new(&files());
    let rustdoc = place.spec(&[]).toolchain.rustdoc.clone();
    let own = place.base.join("my rustdoc");
    std::os::unix::fs::symlink(&rustdoc, &own).unwrap();
    place.environment.set("RUSTDOC", &own);
    let compiler = place.compiler(&["-p", "b"]);
    compiler.build(&CancellationToken::new(), |_| {}).await.unwrap();
    let planned = compiler.plan(&CancellationToken::new()).await.unwrap();
    assert_eq!(find(&planned, "b (doc)").program, own);
    for target in &planned.targets {
        assert_eq!(target.environment.get("RUSTDOC"), Some(own.as_os_str()));
    }
}

#[tokio::test]
async fn a_tree_that_changed_after_the_build_is_noticed() {
    let place = Place::new(&files());
    let compiler = place.compiler(&["-p", "b"]);
    compiler.build(&CancellationToken::new(), |_| {}).await.unwrap();
    // Long enough after the build for cargo's comparison of times, without waiting.
    let file = std::fs::File::options().write(true).open(place.root.join("b/src/lib.rs")).unwrap();
    let later = std::time::SystemTime::now() + std::time::Duration::from_secs(60);
    file.set_modified(later).unwrap();
    assert!(!compiler.plan(&CancellationToken::new()).await.unwrap().fresh);
}

#[tokio::test]
async fn a_plan_is_repeated_only_while_all_that_decides_it_is_the_same() {
    if takes_long() {
        return;
    }
    let mut place = Place::new(&files());
    let memo = place.base.join("notes/w.plans");
    let cancel = CancellationToken::new();
    let marked = || std::fs::read_to_string(&memo).unwrap().contains("marked by hand");
    // The mark shows from where a plan comes.
    let mark = || {
        let text = std::fs::read_to_string(&memo).unwrap();
        let mut known: serde_json::Value = serde_json::from_str(&text).unwrap();
        let target = &mut known["plans"][0]["targets"][0];
        target["args"].as_array_mut().unwrap().push("marked by hand".into());
        std::fs::write(&memo, known.to_string()).unwrap();
    };
    let ask = async |place: &Place, line: &[&str], again: bool| {
        let compiler = place.compiler(line);
        let build = compiler.build(&cancel, |_| {}).await.unwrap();
        let plan = compiler.plan_of(&build, &memo, again, &cancel).await.unwrap();
        let is_marked =
            plan.targets.iter().any(|planned| planned.args.iter().any(|a| a == "marked by hand"));
        let fresh = compiler.plan(&cancel).await.unwrap();
        if !is_marked {
            assert!(plan.targets == fresh.targets, "{:?}", names(&fresh));
        }
        (plan, is_marked)
    };
    let line = ["--workspace"];
    assert!(!ask(&place, &line, false).await.1);
    mark();
    assert!(ask(&place, &line, false).await.1);
    place.write("w s/b/src/lib.rs", "pub fn f() { let _a = 1; }\n#[test] fn t() {}\n");
    assert!(ask(&place, &line, false).await.1, "another body");
    place.environment.set("TERM", "another");
    let (plan, is_marked) = ask(&place, &line, false).await;
    assert!(is_marked, "another terminal");
    assert!(plan.targets.iter().all(|p| p.environment.get("TERM") == Some("another".as_ref())));
    assert!(!ask(&place, &["-p", "b"], false).await.1, "another selection");
    assert!(!ask(&place, &["--workspace", "--", "x"], false).await.1, "another filter");
    assert!(!ask(&place, &line, true).await.1 && !marked(), "cargo is asked in any case");

    type Change<'a> = (&'a str, &'a str, &'a str);
    let script = files().iter().find(|(path, _)| *path == "w s/a/build.rs").unwrap().1;
    let script = script.replace("fn main() {", "fn main() { println!(\"cargo:rustc-env=NEW=1\");");
    let manifest = "[package]\nname='b'\nversion='0.1.0'\nedition='2021'\ndescription='d'\n";
    let root = "[workspace]\nmembers=['a','b']\nresolver='2'\n[workspace.package]\nreadme='x'\n";
    let changes: [Change<'_>; 6] = [
        ("a field of a manifest", "w s/b/Cargo.toml", manifest),
        ("the workspace's manifest", "w s/Cargo.toml", root),
        ("a readme", "w s/b/README.md", ""),
        ("what a build script prints", "w s/a/build.rs", &script),
        ("a new target", "w s/b/tests/new.rs", "#[test] fn t() {}"),
        ("a variable of cargo's configuration", "w s/.cargo/config.toml", "[env]\nA='1'\n"),
    ];
    for (what, path, text) in changes {
        mark();
        place.write(path, text);
        assert!(!ask(&place, &line, false).await.1, "{what}");
    }
    mark();
    place.environment.set("ANY", "1");
    assert!(!ask(&place, &line, false).await.1, "a variable");
    std::fs::write(&memo, "{").unwrap();
    assert!(!ask(&place, &line, false).await.1, "a damaged memo");
    mark();
    assert!(ask(&place, &line, false).await.1);
}
