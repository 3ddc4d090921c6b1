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

/// What a script of a package finds, which its test compares with this.
fn found(body: &str, expected: &str) -> [(&'static str, String); 2] {
    let script = format!(
        "fn main() {{ println!(\"cargo::rerun-if-changed=build.rs\");\n\
         println!(\"cargo::rustc-env=FOUND={{}}\", {{ {body} }}) }}\n"
    );
    let test = format!("#[test] fn t() {{ assert_eq!(env!(\"FOUND\"), \"{expected}\") }}\n");
    [("build.rs", script), ("src/lib.rs", test)]
}

/// Asks git on the sly.
fn asks_git(args: &str) -> String {
    format!(
        "let asked = std::process::Command::new(\"git\").args({args}).output().unwrap();\n\
         String::from_utf8(asked.stdout).unwrap().trim().to_owned()"
    )
}

/// A package for each script.
fn workspace(packages: &[(&str, [(&str, String); 2])]) -> Clones {
    let files: Vec<_> = packages
        .iter()
        .map(|(_, files)| files.each_ref().map(|(path, text)| (*path, text.as_str())))
        .collect();
    let packages: Vec<_> = packages
        .iter()
        .zip(&files)
        .map(|((name, _), files)| (*name, "[lib]\ndoctest=false\n", &files[..]))
        .collect();
    Clones::of(&packages, &[])
}

/// The same, whose tests are proven.
fn proven(packages: &[(&str, [(&str, String); 2])]) -> Clones {
    let clones = workspace(packages);
    clones.prove();
    clones
}

const READS_IGNORED: &str = "std::fs::read_to_string(\"../ignored.txt\").unwrap_or(\"1\".into())";
const READS_BESIDE: &str = "std::fs::read_to_string(\"../../settings\").unwrap_or(\"1\".into())";

#[test]
fn what_a_script_read_in_one_checkout_is_compared_in_another_one() {
    if takes_long() || !can_observe("build scripts") {
        return;
    }
    let hash = asks_git("[\"rev-parse\", \"--short=10\", \"HEAD\"]") + ".len().to_string()";
    let on_branch = asks_git("[\"branch\", \"--show-current\"]") + " == \"other\"";
    let clones = proven(&[
        ("ignored", found(READS_IGNORED, "1")),
        ("beside", found(READS_BESIDE, "1")),
        ("hash", found(&hash, "10")),
    ]);
    let place = |name: &str| clones.home.base.join(name);
    // Without a record of the whole, those of the targets answer likewise.
    let records = clones.home.paths().cache_dir.join("records");
    let forget_whole = || {
        let folders = fs::read_dir(&records).unwrap().map(|folder| folder.unwrap());
        let source = |name: &str| name.starts_with("source-");
        let of_wholes = folders.filter(|folder| source(folder.file_name().to_str().unwrap()));
        of_wholes.for_each(|folder| fs::remove_dir_all(folder.path()).unwrap());
    };
    for (number, is_whole) in [true, false].into_iter().enumerate() {
        let worktree = |kind: &str| {
            let path = format!("../{kind}-{number}");
            clones.home.git(&["worktree", "add", "-q", "-b", &format!("{kind}{number}"), &path]);
            if !is_whole {
                forget_whole();
            }
            place(&path[3..])
        };
        let same = worktree("same");
        clones.ask(&same, &[]).green_from("cache");
        assert!(!same.join("target").exists(), "nothing is built");
        let other = worktree("other");
        fs::write(other.join("ignored.txt"), "2").unwrap();
        let answer = clones.ask(&other, &[]);
        answer.red();
        let failed = answer.targets.iter().filter(|target| target["verdict"] == "fail");
        assert_eq!(failed.map(|target| &target["package"]).collect::<Vec<_>>(), ["ignored"]);
        // The red run has disproved what the others shared.
        clones.prove();
        let deep = format!("deep-{number}/w");
        clones.home.git(&["clone", "-q", ".", &format!("../{deep}")]);
        if !is_whole {
            forget_whole();
        }
        fs::write(place(&deep).with_file_name("settings"), "2").unwrap();
        clones.ask(&place(&deep), &[]).red();
        clones.prove();
    }
    // A linked worktree is as good a place for a proof.
    let clones = workspace(&[("hash", found(&hash, "10"))]);
    let linked = ["one", "two"].map(|name| {
        clones.home.git(&["worktree", "add", "-q", &format!("../{name}")]);
        clones.home.base.join(name)
    });
    for _ in 0..3 {
        clones.ask(&linked[0], &[]).green();
    }
    for other in [&linked[1], &clones.home.root] {
        clones.ask(other, &[]).green_from("cache");
        assert!(!other.join("target").exists(), "nothing is built");
    }
    let clones = proven(&[("branch", found(&on_branch, "false"))]);
    clones.home.git(&["worktree", "add", "-q", "-b", "other", "../other"]);
    clones.ask(&clones.home.base.join("other"), &[]).red();
}

#[test]
fn what_cargo_runs_again_in_the_same_checkout_reads_what_is_there_now() {
    if takes_long() || !can_observe("build scripts") {
        return;
    }
    let with_script = || proven(&[("reader", found(READS_IGNORED, "1"))]);
    let write_file = |path: &Path| fs::write(path, "2").unwrap();
    let with_macro = || {
        let clones = with_counting_macro();
        clones.prove();
        clones
    };
    let write_folder = |path: &Path| {
        fs::create_dir(path).unwrap();
        fs::write(path.join("x"), "").unwrap();
    };
    let remove_target = |root: &Path| fs::remove_dir_all(root.join("target")).unwrap();
    let save_script = |root: &Path| save(&root.join("reader/build.rs"));
    let save_user = |root: &Path| save(&root.join("uses/src/lib.rs"));
    type Act<'a> = &'a dyn Fn(&Path);
    let cases: [(&dyn Fn() -> Clones, Act<'_>, Act<'_>); 4] = [
        (&with_script, &write_file, &save_script),
        (&with_script, &write_file, &remove_target),
        (&with_macro, &write_folder, &save_user),
        (&with_macro, &write_folder, &remove_target),
    ];
    for (proven, write_ignored, touch) in cases {
        let clones = proven();
        let root = &clones.home.root;
        clones.ask(root, &[]).green_from("cache");
        write_ignored(&root.join("ignored.txt"));
        clones.ask(root, &[]).green_from("cache");
        let judge = || clones.home.cargo(&["test", "--offline", "--workspace"]).code;
        assert_eq!(judge(), Some(0), "nothing has run again");
        touch(root);
        clones.ask(root, &[]).red();
        assert_ne!(judge(), Some(0));
    }
}

#[test]
fn what_a_script_read_that_does_otherwise_when_it_is_run_again_is_known_to_nobody_elsewhere() {
    if takes_long() || !can_observe("build scripts") {
        return;
    }
    let again = format!(
        "let out = std::env::var(\"OUT_DIR\").unwrap();\n\
         if out.contains(\"knhk-test-cache-\") {{ std::process::exit(1) }} {READS_IGNORED}"
    );
    let clones = proven(&[("again", found(&again, "1"))]);
    clones.ask(&clones.home.root, &[]).green_from("cache");
    let other = clones.clone("other");
    fs::write(other.join("ignored.txt"), "2").unwrap();
    clones.ask(&other, &[]).red();
}

/// A macro that counts the files of an ignored folder.
fn with_counting_macro() -> Clones {
    let counts = "use proc_macro::TokenStream;\n\
                  #[proc_macro] pub fn count(_: TokenStream) -> TokenStream {\n    \
                  let folder = std::env::var(\"CARGO_MANIFEST_DIR\").unwrap() + \"/../ignored.txt\";\n    \
                  let found = std::fs::read_dir(folder).map_or(0, |found| found.count());\n    \
                  format!(\"{found}\").parse().unwrap()\n}\n";
    let test = "#[test] fn t() { assert_eq!(macros::count!(), 0) }\n";
    Clones::of(
        &[
            (
                "macros",
                "[lib]\nproc-macro=true\ndoctest=false\ntest=false\n",
                &[("src/lib.rs", counts)],
            ),
            (
                "uses",
                "[lib]\ndoctest=false\n[dependencies]\nmacros={path='../macros'}\n",
                &[("src/lib.rs", test)],
            ),
        ],
        &[],
    )
}

#[test]
fn what_a_macro_read_in_one_checkout_is_known_to_nobody_in_another_one() {
    if takes_long() || !can_observe("records of packages") {
        return;
    }
    let clones = with_counting_macro();
    clones.prove();
    clones.ask(&clones.home.root, &[]).green_from("cache");
    let other = clones.clone("other");
    fs::create_dir(other.join("ignored.txt")).unwrap();
    fs::write(other.join("ignored.txt/x"), "").unwrap();
    clones.ask(&other, &[]).red();
}
