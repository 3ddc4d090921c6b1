//! What is built with a build script of the workspace, in a checkout in which cargo would not run it again.

use std::fs;
use std::path::Path;

use super::{Clones, reasons};
use crate::home::{Answered, can_observe, takes_long};

const BASE: &str = "// right\npub fn number() -> u32 { 1 }\n";
const ON_BASE: &str = "[lib]\ndoctest=false\n[dependencies]\nbase={path='../base'}\n";
/// The script has seen both texts as they should be.
const TEST: &str =
    "#[test] fn t() { assert_eq!((env!(\"SEEN\"), base::number()), (\"true\", 1)) }\n";

/// A script that reads a source and a note on the sly, and prints this for cargo besides.
fn script(printed: &str) -> String {
    format!(
        "fn main() {{ {printed}\n\
         let read = |path| std::fs::read_to_string(path).unwrap();\n\
         let seen = read(\"../base/src/lib.rs\").starts_with(\"// right\") && read(\"../note\") == \"right\";\n\
         println!(\"cargo::rustc-env=SEEN={{seen}}\"); }}\n"
    )
}

/// Edits the comment of a source; nothing moves.
fn comment(root: &Path, from: &str, to: &str) {
    let file = root.join("base/src/lib.rs");
    let text = fs::read_to_string(&file).unwrap();
    assert!(text.contains(from), "{text}");
    fs::write(file, text.replace(from, to)).unwrap();
}

/// Saves a file as it is.
fn save(file: &Path) {
    fs::write(file, fs::read(file).unwrap()).unwrap();
}

fn are_same_packages(answer: &Answered) {
    answer.green_from("cache");
    for target in &answer.targets {
        assert_eq!(target["reason"], "same packages and inputs", "{answer:#?}");
    }
}

#[test]
fn a_script_that_cargo_does_not_run_again_reads_nothing_more() {
    if takes_long() || !can_observe("records of packages") {
        return;
    }
    let sly = script("");
    let watches = script("println!(\"cargo::rerun-if-changed=../watched\");");
    let clones = Clones::of(
        &[
            ("base", "[lib]\ndoctest=false\n", &[("src/lib.rs", BASE)]),
            ("sly", ON_BASE, &[("build.rs", &sly), ("src/lib.rs", TEST)]),
            ("watches", ON_BASE, &[("build.rs", &watches), ("src/lib.rs", TEST)]),
        ],
        &[("note", "right"), ("watched", "")],
    );
    let root = &clones.home.root;
    let judge = || clones.home.cargo(&["test", "--offline", "--workspace"]).code == Some(0);
    // Whatever was before, both scripts run and see what they should.
    let renew = || {
        fs::write(root.join("note"), "right").unwrap();
        fs::write(root.join("base/src/lib.rs"), BASE).unwrap();
        save(&root.join("sly/build.rs"));
        save(&root.join("watches/build.rs"));
        // The first run is too soon after a save to be believed for longer than the tree is this one.
        for _ in 0..2 {
            clones.ask(root, &["--no-cache"]).green();
        }
    };
    for (file, package) in [("sly/src/lib.rs", "sly"), ("watched", "watches")] {
        renew();
        comment(root, "// right", "// other");
        are_same_packages(&clones.ask(root, &[]));
        fs::write(root.join("note"), "wrong").unwrap();
        are_same_packages(&clones.ask(root, &[]));
        assert!(judge(), "the scripts have not run again");
        // Another file of the package, or a watched one, has cargo run one of them again.
        comment(root, "// other", "// third");
        save(&root.join(file));
        let answer = clones.ask(root, &[]);
        answer.red();
        let failed = answer.targets.iter().filter(|target| target["verdict"] == "fail");
        assert_eq!(failed.map(|target| &target["package"]).collect::<Vec<_>>(), [package]);
        assert!(!judge());
    }
    // Without what the scripts have left, they run again.
    renew();
    comment(root, "// right", "// other");
    fs::remove_dir_all(root.join("target")).unwrap();
    clones.ask(root, &[]).red();
    // In another checkout they run for the first time.
    let other = clones.clone("other");
    comment(&other, "// right", "// other");
    let answer = clones.ask(&other, &[]);
    answer.red();
    assert_ne!(reasons(&answer, "sly"), ["same packages and inputs"], "{answer:#?}");
}

#[test]
fn a_script_that_cargo_runs_again_after_an_edited_comment_sees_it() {
    if takes_long() || !can_observe("records of packages") {
        return;
    }
    let folder = script("println!(\"cargo::rerun-if-changed=../base/src\");");
    let file = script("println!(\"cargo::rerun-if-changed=../base/src/lib.rs\");");
    let links = script("assert_eq!(base::number(), 1);");
    let on_base = format!("{ON_BASE}[build-dependencies]\nbase={{path='../base'}}\n");
    for (manifest, script) in [(ON_BASE, &folder), (ON_BASE, &file), (&*on_base, &links)] {
        let clones = Clones::of(
            &[
                ("base", "[lib]\ndoctest=false\n", &[("src/lib.rs", BASE)]),
                ("scripted", manifest, &[("build.rs", script), ("src/lib.rs", TEST)]),
            ],
            &[("note", "right")],
        );
        let root = &clones.home.root;
        clones.prove();
        comment(root, "// right", "// other");
        clones.ask(root, &[]).red();
    }
}
