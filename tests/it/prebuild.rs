//! The edited package is built before the rest of its workspace.

use crate::home::{Home, Started, takes_long, until};

fn package(home: &Home, name: &str, more: &str) {
    let manifest = format!(
        "[package]\nname='{name}'\nversion='0.1.0'\nedition='2021'\n[lib]\ndoctest=false\n{more}\n"
    );
    home.write(&format!("{name}/Cargo.toml"), &manifest);
    let code = "pub fn f() -> u32 { 1 }\n#[test] fn one() {}\n";
    home.write(&format!("{name}/src/lib.rs"), code);
}

fn workspace(members: &str) -> Home {
    let home = Home::new();
    let manifest = format!("[workspace]\nresolver = '2'\nmembers = [{members}]\n");
    home.write("Cargo.toml", &manifest);
    home.git(&["init", "-q"]);
    home.write(".gitignore", "/target\n/go\n");
    home
}

/// Waits until all is built that there is to build.
fn built(home: &Home, times: usize, daemon: &Started) {
    until("it is built", || {
        let status = home.project_status();
        let ready = daemon.stderr().matches("the tests are ready").count();
        (status["state"] == "idle" && ready == times).then_some(())
    });
}

fn said(daemon: &Started, what: &str) -> usize {
    daemon.stderr().matches(what).count()
}

#[test]
fn the_edited_package_is_ready_before_its_dependents() {
    if takes_long() {
        return;
    }
    let home = workspace("'low', 'top'");
    package(&home, "low", "");
    package(&home, "top", "[dependencies]\nlow = { path = '../low' }");
    // With every edit of `low`, the build of `top` waits until it is let go.
    home.write(
        "top/build.rs",
        "fn main() {\n\
         \x20   println!(\"cargo::rerun-if-changed=../low/src/lib.rs\");\n\
         \x20   while !std::path::Path::new(\"../go\").exists() {\n\
         \x20       std::thread::sleep(std::time::Duration::from_millis(5));\n\
         \x20   }\n}\n",
    );
    home.write("go", "");
    assert_eq!(home.cargo(&["test", "--workspace", "--no-run"]).code, Some(0));
    home.config("", "debounce = '1ms'");
    let daemon = home.daemon();
    built(&home, 1, &daemon);
    std::fs::remove_file(home.root.join("go")).unwrap();
    home.write("low/src/lib.rs", "pub fn f() -> u32 { 2 }\n#[test] fn one() {}\n");
    until("the rest is being built", || {
        let status = home.project_status();
        let reason = status["reason"].as_str().unwrap_or_default();
        reason.starts_with("built low (edited), building the rest").then_some(())
    });
    // Its own tests are there: cargo finds all of them fresh as soon as it gets the lock.
    let by_hand = home.cargo(&["test", "-p", "low", "--no-run", "-v"]);
    assert_eq!(by_hand.code, Some(0), "{by_hand:#?}");
    assert!(!by_hand.stdout.contains("Running `rustc"), "{by_hand:#?}");
    home.write("go", "");
    built(&home, 2, &daemon);
    let by_hand = home.cargo(&["test", "--workspace", "--no-run", "-v"]);
    assert!(!by_hand.stdout.contains("Running `"), "{by_hand:#?}");
    // A package without dependents is not built first.
    home.write("top/src/lib.rs", "#[test] fn other() {}\n");
    built(&home, 3, &daemon);
    assert_eq!(said(&daemon, "built before the rest"), 1, "{}", daemon.stderr());
    daemon.stop();
}

#[test]
fn a_package_with_other_features_by_itself_is_not_prebuilt_again() {
    if takes_long() {
        return;
    }
    let home = workspace("'dep', 'a', 'b'");
    package(&home, "dep", "[features]\nloud = []");
    package(&home, "a", "[dependencies]\ndep = { path = '../dep' }");
    package(
        &home,
        "b",
        "[dependencies]\na = { path = '../a' }\ndep = { path = '../dep', features = ['loud'] }",
    );
    assert_eq!(home.cargo(&["test", "--workspace", "--no-run"]).code, Some(0));
    home.config("", "debounce = '1ms'");
    let daemon = home.daemon();
    built(&home, 1, &daemon);
    for round in 2..4 {
        home.write("a/src/lib.rs", &format!("#[test] fn number{round}() {{}}\n"));
        built(&home, round, &daemon);
        let by_hand = home.cargo(&["test", "--workspace", "--no-run", "-v"]);
        assert!(!by_hand.stdout.contains("Running `"), "{by_hand:#?}");
    }
    assert_eq!(said(&daemon, "not the same by itself"), 1, "{}", daemon.stderr());
    assert_eq!(said(&daemon, "built before the rest"), 0, "{}", daemon.stderr());
    daemon.stop();
    // The next daemon remembers that.
    let daemon = home.daemon();
    built(&home, 1, &daemon);
    home.write("a/src/lib.rs", "#[test] fn another() {}\n");
    built(&home, 2, &daemon);
    assert_eq!(said(&daemon, "a (edited)"), 0, "{}", daemon.stderr());
    daemon.stop();
}

/// Whether cargo has anything to build for this selection.
fn not_fresh(home: &Home, args: &[&str]) -> bool {
    let by_hand = home.cargo(&[&["test", "--no-run", "-v"], args].concat());
    assert_eq!(by_hand.code, Some(0), "{by_hand:#?}");
    by_hand.stdout.contains("Running `")
}

#[test]
fn a_selection_with_features_and_targets_has_stages_that_are_parts_of_it() {
    if takes_long() {
        return;
    }
    let home = workspace("'low', 'top', 'left-out'");
    package(&home, "low", "[features]\nf = []\ng = []");
    package(&home, "top", "[dependencies]\nlow = { path = '../low' }\n[features]\nh = []");
    package(&home, "left-out", "[dependencies]\nlow = { path = '../low', features = ['g'] }");
    for name in ["low", "top"] {
        home.write(&format!("{name}/tests/it.rs"), "#[test] fn it() {}\n");
        home.write(&format!("{name}/tests/other.rs"), "#[test] fn other() {}\n");
    }
    let whole = [
        "--workspace",
        "--exclude=left-out",
        "--features=low/f,h,top/h",
        "--no-default-features",
        "--lib",
        "--test=it",
    ];
    assert!(not_fresh(&home, &whole));
    home.config("", &format!("debounce = '1ms'\nargs = {whole:?}"));
    let daemon = home.daemon();
    built(&home, 1, &daemon);
    home.write("low/src/lib.rs", "pub fn f() -> u32 { 2 }\n#[test] fn one() {}\n");
    built(&home, 2, &daemon);
    assert_eq!(said(&daemon, "built before the rest"), 1, "{}", daemon.stderr());
    assert_eq!(said(&daemon, "not built first"), 0, "{}", daemon.stderr());
    assert!(!not_fresh(&home, &whole));
    // Only the selected part was prebuilt.
    assert!(not_fresh(&home, &["-p=low", "--features=f", "--test=other"]));
    daemon.stop();
}

#[test]
fn a_stage_that_cargo_refuses_is_tried_once() {
    if takes_long() {
        return;
    }
    let home = workspace("'low', 'top'");
    package(&home, "low", "[[test]]\nname='it'\nrequired-features=['f']\n[features]\nf=[]");
    package(
        &home,
        "top",
        "[dependencies]\nlow = { path = '../low' }\n[features]\nf = ['low/f']\ndefault = ['f']",
    );
    for name in ["low", "top"] {
        home.write(&format!("{name}/tests/it.rs"), "#[test] fn it() {}\n");
    }
    assert!(not_fresh(&home, &["--workspace", "--test=it"]));
    home.config("", "debounce = '1ms'\nargs = ['--workspace', '--test=it']");
    let daemon = home.daemon();
    built(&home, 1, &daemon);
    for round in 2..4 {
        home.write("low/src/lib.rs", &format!("pub fn f() -> u32 {{ {round} }}\n"));
        built(&home, round, &daemon);
        assert!(!not_fresh(&home, &["--workspace", "--test=it"]));
    }
    assert_eq!(said(&daemon, "cargo does not build it by itself"), 1, "{}", daemon.stderr());
    assert_eq!(said(&daemon, "built before the rest"), 0, "{}", daemon.stderr());
    daemon.stop();
}

#[test]
fn an_early_compile_error_is_reported_and_the_build_fails() {
    if takes_long() {
        return;
    }
    let home = workspace("'low', 'top'");
    package(&home, "low", "");
    package(&home, "top", "[dependencies]\nlow = { path = '../low' }");
    assert_eq!(home.cargo(&["test", "--workspace", "--no-run"]).code, Some(0));
    home.config("", "debounce = '1ms'");
    let daemon = home.daemon();
    built(&home, 1, &daemon);
    home.write("low/src/lib.rs", "pub fn f() -> u32 { nonsense }\n");
    let errors = until("the build has failed", || {
        let status = home.project_status();
        let failed = status["state"] == "failed";
        failed.then(|| status["last_build"]["errors"].as_str().unwrap().to_owned())
    });
    assert!(errors.contains("nonsense"), "{errors}");
    assert_eq!(said(&daemon, "low (edited)"), 1, "{}", daemon.stderr());
    home.write("low/src/lib.rs", "pub fn f() -> u32 { 3 }\n");
    built(&home, 2, &daemon);
    daemon.stop();
}
