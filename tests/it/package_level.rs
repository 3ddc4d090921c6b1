//! Answers in a checkout in which nothing has been built: by the packages that a target is built from.

mod linked;
mod parts;
mod scripts;

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::home::{Answered, EXE, Home, LIMIT, answered, can_observe, takes_long, until_old};

/// A package's name, its manifest's end and its files.
type Package<'a> = (&'a str, &'a str, &'a [(&'a str, &'a str)]);

/// A workspace under git, and clones of it beside it.
struct Clones {
    home: Home,
}

impl Clones {
    /// A workspace of these packages and other files.
    fn of(packages: &[Package<'_>], files: &[(&str, &str)]) -> Self {
        let home = Home::new();
        let names: Vec<_> = packages.iter().map(|(name, ..)| format!("'{name}'")).collect();
        let workspace = format!("[workspace]\nresolver='2'\nmembers=[{}]\n", names.join(","));
        home.write("Cargo.toml", &workspace);
        home.write(".gitignore", "/target\nignored.txt\n");
        for (name, rest, files) in packages {
            let head =
                format!("[package]\nname='{name}'\nversion='0.1.0'\nedition='2021'\n{rest}\n");
            home.write(&format!("{name}/Cargo.toml"), &head);
            files.iter().for_each(|(path, text)| home.write(&format!("{name}/{path}"), text));
        }
        files.iter().for_each(|(path, text)| home.write(path, text));
        home.git(&["init", "-q"]);
        assert_eq!(home.cargo(&["generate-lockfile", "--offline"]).code, Some(0));
        home.git(&["add", "."]);
        home.git(&["commit", "-qm", "one"]);
        Self { home }
    }

    fn clone(&self, name: &str) -> PathBuf {
        self.home.git(&["clone", "-q", ".", &format!("../{name}")]);
        self.home.base.join(name)
    }

    fn ask(&self, root: &Path, more: &[&str]) -> Answered {
        let line = [&["test", "--format", "json", "--no-daemon"], more].concat();
        answered(self.home.start_in(root, EXE, &line, false).end(LIMIT))
    }

    /// What `explain` says of each target.
    fn explain(&self, root: &Path) -> Vec<Value> {
        let ran = self.home.start_in(root, EXE, &["explain", "--format", "json"], false).end(LIMIT);
        assert_eq!(ran.code, Some(0), "{ran:?}");
        let lines = ran.stdout.lines().map(|line| serde_json::from_str(line).unwrap());
        lines.filter(|line: &Value| line["type"] == "target").collect()
    }

    /// Asks in the first checkout until all is kept.
    fn prove(&self) {
        for _ in 0..3 {
            self.ask(&self.home.root, &[]).green();
        }
    }

    /// Forgets that the whole has been built anywhere.
    fn forget_builds(&self) {
        let _ = fs::remove_dir_all(self.home.paths().cache_dir.join("built"));
    }
}

/// The names of crates that were compiled in a checkout.
fn compiled(root: &Path) -> Vec<String> {
    let units =
        fs::read_dir(root.join("target/debug/.fingerprint")).into_iter().flatten().flatten();
    let name = |unit: fs::DirEntry| {
        let name = unit.file_name().into_string().unwrap();
        name.rsplit_once('-').unwrap().0.to_owned()
    };
    let mut names: Vec<_> = units.map(name).collect();
    names.sort();
    names.dedup();
    names
}

fn reasons(answer: &Answered, package: &str) -> Vec<String> {
    let of = answer.targets.iter().filter(|target| target["package"] == package);
    of.map(|target| target["reason"].as_str().unwrap().to_owned()).collect()
}

const TESTED: &str = "pub fn number() -> u32 { 1 }\n#[test] fn t() { assert_eq!(number(), 1) }\n";

fn three() -> Clones {
    let top = "#[test] fn t() { assert_eq!(base::number(), 1) }\n";
    let reads = "#[test] fn t() { assert_eq!(std::fs::read(\"data\").unwrap(), b\"1\") }\n";
    Clones::of(
        &[
            ("base", "", &[("src/lib.rs", TESTED)]),
            ("top", "[dependencies]\nbase={path='../base'}\n", &[("src/lib.rs", top)]),
            (
                "leaf",
                "[lib]\ndoctest=false\n",
                &[("src/lib.rs", ""), ("data", "1"), ("tests/it.rs", reads)],
            ),
        ],
        &[],
    )
}

#[test]
fn a_plain_comment_counts_where_something_can_see_it() {
    if takes_long() || !can_observe("records of packages") {
        return;
    }
    let plain = format!(
        "// right\n/// ```\n/// assert_eq!(base::number(), 1); // one\n/// ```\n{TESTED} // right\n\
         #[cfg(test)]\nmod tests {{\n    #[test] fn u() {{ assert_eq!(super::number(), 1) }}\n}}\n"
    );
    let top = "#[test] fn t() { assert_eq!(base::number(), 1) } // right\n";
    let reads = "// right\n#[test] fn t() { let text = std::fs::read_to_string(\"src/lib.rs\"); \
                 assert!(text.unwrap().starts_with(\"// right\")) }\n";
    let embeds = "// right\n#[test] fn t() { assert!(include_str!(\"lib.rs\").starts_with(\"// right\")) }\n";
    let gives =
        "#[macro_export]\nmacro_rules! text { ($path:literal) => { include_str!($path) } }\n";
    let takes = "// right\n#[test] fn t() { assert!(gives::text!(\"lib.rs\").starts_with(\"// right\")) }\n";
    let macros = "use proc_macro::TokenStream;\n#[proc_macro]\npub fn text(input: TokenStream) -> TokenStream {\n\
                  let text = input.into_iter().next().unwrap().span().source_text().unwrap();\n\
                  format!(\"{text:?}\").parse().unwrap()\n}\n";
    let sees = "#[test] fn t() { assert!(macros::text!({ 1 // right\n }).contains(\"right\")) }\n";
    let example = "// right\n/// ```\n/// let text = std::fs::read_to_string(\"src/lib.rs\").unwrap();\n\
                   /// assert!(text.starts_with(\"// right\"));\n/// ```\npub fn f() {}\n";
    let literal = "#[test] fn t() { let text = \"// right\";\nassert_eq!(text.len(), 8) }\n";
    let lines = "/* */// right\n#[test] fn t() { assert_eq!(line!(), 2) }\n";
    let clones = Clones::of(
        &[
            ("base", "", &[("src/lib.rs", &plain)]),
            ("top", "[dependencies]\nbase={path='../base'}\n", &[("src/lib.rs", top)]),
            ("reads", "", &[("src/lib.rs", reads)]),
            ("embeds", "", &[("src/lib.rs", embeds)]),
            ("gives", "", &[("src/lib.rs", gives)]),
            ("takes", "[dependencies]\ngives={path='../gives'}\n", &[("src/lib.rs", takes)]),
            ("macros", "[lib]\nproc-macro=true\n", &[("src/lib.rs", macros)]),
            ("sees", "[dependencies]\nmacros={path='../macros'}\n", &[("src/lib.rs", sees)]),
            ("example", "", &[("src/lib.rs", example)]),
            ("literal", "", &[("src/lib.rs", literal)]),
            ("lines", "", &[("src/lib.rs", lines)]),
        ],
        &[],
    );
    let edit = |root: &Path, packages: &[&str], right: &str, wrong: &str| {
        for package in packages {
            let file = root.join(package).join("src/lib.rs");
            let text = fs::read_to_string(&file).unwrap();
            assert!(text.contains(right), "{text}");
            fs::write(file, text.replacen(right, wrong, 1)).unwrap();
        }
    };
    clones.prove();
    // Nothing sees these.
    let unseen = clones.clone("unseen");
    for root in [&unseen, &clones.home.root] {
        edit(root, &["base", "top"], "// right", "// nobody reads this");
        let answer = clones.ask(root, &[]);
        answer.green();
        for target in &answer.targets {
            assert_eq!(target["reason"], "same packages and inputs", "{answer:#?}");
        }
    }
    assert!(compiled(&unseen).is_empty());
    // Examples are compiled with their comments, and their lines are told.
    edit(&unseen, &["base"], "; // one", "; // 1");
    let answer = clones.ask(&unseen, &[]);
    answer.green();
    assert!(reasons(&answer, "base").iter().any(|why| why != "same packages and inputs"));
    // Examples are compiled without tests.
    let root = &clones.home.root;
    edit(root, &["base"], "super::number(), 1", "super::number() + 1, 2");
    let answer = clones.ask(root, &[]);
    answer.green();
    assert_eq!(answer.run(), ["base"], "{answer:#?}");
    edit(root, &["base"], "{ 1 }", "{ std::hint::black_box(1) }");
    let mut run = clones.ask(root, &[]).run();
    run.sort();
    assert_eq!(run, ["base", "base (doc)", "top", "top (doc)"]);
    let traps = ["reads", "embeds", "takes", "sees", "example", "literal", "lines"];
    let seen = clones.clone("seen");
    edit(&seen, &traps[..6], "// right", "// it is wrong");
    edit(&seen, &traps[6..], "/* */", "/*\n*/");
    let answer = clones.ask(&seen, &[]);
    answer.red();
    let red = answer.targets.iter().filter(|target| target["verdict"] == "fail");
    let red: BTreeSet<_> = red.map(|target| target["package"].as_str().unwrap()).collect();
    assert_eq!(red, traps.into(), "{answer:#?}");
}

#[test]
fn only_what_depends_on_an_edit_is_built_and_run_in_a_fresh_clone() {
    if takes_long() {
        return;
    }
    if !can_observe("records of packages") {
        return;
    }
    let clones = three();
    clones.prove();
    let proven = clones.clone("notes");
    fs::write(proven.join("NOTES.md"), "of no package").unwrap();
    let answer = clones.ask(&proven, &[]);
    answer.green_from("cache");
    assert_eq!(reasons(&answer, "leaf"), ["same packages and inputs"; 2]);
    assert!(!proven.join("target").exists(), "nothing is built");

    let more = TESTED.to_owned() + "pub fn more() -> u64 { 2 }\n#[test] fn u() { more(); }\n";
    let edited = clones.clone("edited");
    fs::write(edited.join("base/src/lib.rs"), &more).unwrap();
    let answer = clones.ask(&edited, &[]);
    answer.green_from("mixed");
    // The program of `top` is what it was.
    assert_eq!(reasons(&answer, "leaf"), ["same packages and inputs"; 2]);
    assert!(answer.run().contains(&"base".to_owned()), "{answer:#?}");
    assert_eq!(compiled(&edited), ["base", "top"]);
    // Green parts are known from now on, here and in other clones.
    let again = clones.clone("again");
    fs::write(again.join("base/src/lib.rs"), &more).unwrap();
    clones.ask(&again, &[]).green_from("cache");
    assert!(!again.join("target").exists());

    let top = clones.clone("top-edited");
    fs::write(top.join("top/src/lib.rs"), "#[test] fn t() { assert_eq!(base::number(), 2) }\n")
        .unwrap();
    let answer = clones.ask(&top, &[]);
    answer.red();
    // A failure is told of the whole: nothing that is missing has caused it.
    let results = answer.results();
    assert_eq!(results.failed.len(), 1, "{answer:#?}");
    fs::write(top.join("leaf/data"), "2").unwrap();
    clones.ask(&top, &[]).red();
}

/// What the package level says of the first target of a package.
fn level<'a>(explained: &'a [Value], package: &str) -> &'a Value {
    let target = explained.iter().find(|target| target["package"] == package).unwrap();
    let levels = target["levels"].as_array().unwrap();
    let names: Vec<_> = levels.iter().map(|level| level["level"].as_str().unwrap()).collect();
    assert_eq!(names, ["source", "package", "binary"]);
    &levels[1]
}

fn differences(level: &Value) -> Vec<&str> {
    level["differences"].as_array().unwrap().iter().map(|text| text.as_str().unwrap()).collect()
}

#[test]
fn explain_names_what_differs_before_any_build() {
    if !can_observe("records of packages") {
        return;
    }
    let mut clones = three();
    clones.prove();
    let root = clones.clone("other");
    fs::write(root.join("NOTES.md"), "of no package").unwrap();
    let explained = clones.explain(&root);
    assert_eq!(explained.len(), 6, "{explained:#?}");
    for target in &explained {
        assert_eq!(
            (&target["source"], &target["levels"][0]["answers"]),
            (&"cache".into(), &false.into())
        );
        assert_eq!(target["levels"][1]["answers"], true, "{target}");
    }

    fs::write(root.join("base/src/lib.rs"), TESTED.to_owned() + "// edited\n").unwrap();
    let explained = clones.explain(&root);
    assert_eq!(level(&explained, "leaf")["answers"], true);
    for package in ["base", "top"] {
        let level = level(&explained, package);
        assert_eq!(level["answers"], false, "{level}");
        assert_eq!(differences(level), ["package base: base/src/lib.rs changed"], "{level}");
        assert_eq!(level["compared_with"], clones.home.root.to_str().unwrap());
    }
    clones.home.git(&["-C", root.to_str().unwrap(), "checkout", "-q", "."]);

    let manifest = fs::read_to_string(root.join("leaf/Cargo.toml")).unwrap();
    for root in [&root, &clones.home.root] {
        fs::write(root.join("leaf/Cargo.toml"), format!("{manifest}[features]\nmore=[]\n"))
            .unwrap();
    }
    assert!(clones.explain(&root).is_empty(), "nothing is known of its targets");
    let explained = clones.explain(&clones.home.root);
    let of_top = level(&explained, "top");
    assert_eq!(of_top["reason"], "no build of the whole with these manifests is known");
    assert_eq!(differences(of_top), ["leaf/Cargo.toml changed"]);
    clones.home.git(&["-C", root.to_str().unwrap(), "checkout", "-q", "."]);
    clones.home.git(&["checkout", "-q", "."]);

    clones.home.environment.set("TZ", "UTC");
    let explained = clones.explain(&root);
    let of_top = level(&explained, "top");
    assert_eq!(differences(of_top), ["environment variable TZ"], "{of_top}");
}

#[test]
fn a_checkout_that_was_built_is_answered_by_packages_if_all_of_them_are_proven() {
    if takes_long() {
        return;
    }
    if !can_observe("records of packages") {
        return;
    }
    let clones = three();
    clones.prove();
    let more = TESTED.to_owned() + "pub fn more() -> u64 { 2 }\n#[test] fn u() { more(); }\n";
    let branch = clones.clone("branch");
    fs::write(branch.join("base/src/lib.rs"), &more).unwrap();
    clones.ask(&branch, &[]).green();
    // The same sources in a tree that nobody has asked about, and where the whole was built before.
    let root = &clones.home.root;
    fs::write(root.join("NOTES.md"), "of no package").unwrap();
    fs::write(root.join("base/src/lib.rs"), &more).unwrap();
    let answer = clones.ask(root, &[]);
    answer.green_from("cache");
    for package in ["base", "top", "leaf"] {
        let reasons = reasons(&answer, package);
        assert!(reasons.iter().all(|reason| reason == "same packages and inputs"), "{answer:#?}");
    }
    // One of them is not proven: the whole is built, as before.
    fs::write(root.join("leaf/data"), "2").unwrap();
    let answer = clones.ask(root, &[]);
    answer.red();
    assert_eq!(answer.results().failed.len(), 1, "{answer:#?}");
}

#[test]
fn a_red_run_removes_what_packages_have_proven() {
    if !can_observe("records of packages") {
        return;
    }
    let test = "#[test] fn t() { assert_eq!(std::fs::read(\"../settings\").unwrap(), b\"1\") }\n";
    let clones = Clones::of(
        &[
            ("reads", "[lib]\ndoctest=false\n", &[("src/lib.rs", test)]),
            ("leaf", "[lib]\ndoctest=false\n", &[("src/lib.rs", TESTED)]),
        ],
        &[("settings", "1")],
    );
    clones.prove();
    let other = clones.clone("other");
    fs::write(other.join("settings"), "2").unwrap();
    clones.ask(&other, &[]).red();
    let third = clones.clone("third");
    fs::write(third.join("NOTES.md"), "").unwrap();
    let answer = clones.ask(&third, &[]);
    answer.green();
    assert_eq!(compiled(&third), ["reads"], "{answer:#?}");
    assert_eq!(reasons(&answer, "leaf"), ["same packages and inputs"]);
}

/// A test that executes a program of a package that it does not depend on.
#[test]
fn a_product_of_another_package_is_what_the_whole_build_makes_it() {
    if takes_long() {
        return;
    }
    if !can_observe("records of packages") {
        return;
    }
    let prints = "fn main() { print!(\"1\") }\n";
    let executes = "#[test] fn t() {\n\
                    let program = concat!(env!(\"CARGO_MANIFEST_DIR\"), \"/../target/debug/prints\");\n\
                    let ran = std::process::Command::new(program).output().unwrap();\n\
                    assert_eq!(ran.stdout, b\"1\") }\n";
    let no_doc = "[lib]\ndoctest=false\n";
    let clones = Clones::of(
        &[
            ("executes", no_doc, &[("src/lib.rs", executes)]),
            ("leaf", no_doc, &[("src/lib.rs", TESTED)]),
            ("prints", "", &[("src/main.rs", prints), ("tests/it.rs", "#[test] fn t() {}\n")]),
        ],
        &[],
    );
    clones.prove();
    let root = clones.clone("notes");
    fs::write(root.join("NOTES.md"), "").unwrap();
    let answer = clones.ask(&root, &[]);
    answer.green();
    assert_ne!(reasons(&answer, "executes"), ["same packages and inputs"]);
    clones.forget_builds();
    // The program of before is still there, and no package that is built anew makes it.
    fs::write(root.join("prints/src/main.rs"), "fn main() { print!(\"2\") }\n").unwrap();
    fs::write(root.join("executes/src/new.rs"), "").unwrap();
    clones.ask(&root, &[]).red();
}

/// Everything that decides what a target is built into, or what its run finds, and lies in none of the
/// packages that it is built from.
#[test]
fn nothing_that_could_differ_is_answered_by_packages() {
    if takes_long() {
        return;
    }
    if !can_observe("records of packages") {
        return;
    }
    let no_doc = "[lib]\ndoctest=false\n";
    let includes =
        "#[test] fn t() { assert_eq!(include_str!(\"../../shared/included.txt\"), \"1\") }\n";
    let ignored = "#[test] fn t() { assert_eq!(include_str!(\"ignored.txt\"), \"1\") }\n";
    let script = "fn main() { println!(\"cargo:rerun-if-changed=build.rs\");\n\
                  let text = std::fs::read_to_string(\"../shared/script.txt\").unwrap();\n\
                  println!(\"cargo:rustc-env=READ={text}\") }\n";
    let by_script = "#[test] fn t() { assert_eq!(env!(\"READ\"), \"1\") }\n";
    let makes = "use proc_macro::TokenStream;\n#[proc_macro] pub fn text(_: TokenStream) -> TokenStream {\n\
                 let dir = std::env::var(\"CARGO_MANIFEST_DIR\").unwrap();\n\
                 let text = std::fs::read_to_string(format!(\"{dir}/../shared/macro.txt\")).unwrap();\n\
                 format!(\"{text:?}\").parse().unwrap() }\n";
    // Past the standard library, by a function that this itself calls.
    let foreign = "use proc_macro::TokenStream;\n\
                   unsafe extern \"C\" { fn open64(path: *const i8, how: i32) -> i32;\n\
                                         fn read(fd: i32, to: *mut u8, most: usize) -> isize; }\n\
                   #[proc_macro] pub fn text(_: TokenStream) -> TokenStream { unsafe {\n\
                   let mut byte = [0u8];\n\
                   let fd = open64(c\"../shared/foreign.txt\".as_ptr().cast(), 0);\n\
                   let fd = if fd < 0 { open64(c\"shared/foreign.txt\".as_ptr().cast(), 0) } else { fd };\n\
                   assert_eq!(read(fd, byte.as_mut_ptr(), 1), 1);\n\
                   format!(\"{:?}\", byte[0] as char).parse().unwrap() } }\n";
    let by_foreign = "#[test] fn t() { assert_eq!(calls::text!(), '1') }\n";
    let by_macro = "#[test] fn t() { assert_eq!(makes::text!(), \"1\") }\n";
    let variable = "#[test] fn t() { assert_eq!(option_env!(\"BUILD_KNOB\"), None) }\n";
    let reads =
        "#[test] fn t() { assert_eq!(std::fs::read(\"../shared/read.txt\").unwrap(), b\"1\") }\n";
    let switch = "pub const ON: bool = cfg!(feature = \"on\");\n";
    let switched = "#[test] fn t() { assert!(!switch::ON) }\n";
    let outside = "#[test] fn t() { assert_eq!(outside::NUMBER, 1) }\n";
    let linked = "#[test] fn t() { assert_eq!(include_str!(\"../data/linked.txt\"), \"1\") }\n";
    let dependency = |name: &str| format!("{no_doc}[dependencies]\n{name}={{path='../{name}'}}\n");
    let (on_makes, on_calls) = (dependency("makes"), dependency("calls"));
    let on_switch = dependency("switch");
    let on_outside = format!("{no_doc}[dependencies]\noutside={{path='../../outside'}}\n");
    let makes_manifest = format!("{no_doc}proc-macro=true\n");
    let switch_manifest = format!("{no_doc}[features]\non=[]\n");
    let with = |text: &'static str| [("src/lib.rs", text)];
    let outside_manifest =
        "[package]\nname='outside'\nversion='0.1.0'\nedition='2021'\n[workspace]\n";
    let clones = Clones::of(
        &[
            ("includes", no_doc, &with(includes)),
            ("ignores", no_doc, &[("src/lib.rs", ignored), ("src/ignored.txt", "1")]),
            ("scripted", no_doc, &[("build.rs", script), ("src/lib.rs", by_script)]),
            ("makes", &makes_manifest, &with(makes)),
            ("made", &on_makes, &with(by_macro)),
            ("calls", &makes_manifest, &with(foreign)),
            ("called", &on_calls, &with(by_foreign)),
            ("variable", no_doc, &with(variable)),
            ("reads", no_doc, &with(reads)),
            ("switch", &switch_manifest, &with(switch)),
            ("switched", &on_switch, &with(switched)),
            ("extern", &on_outside, &with(outside)),
            ("linked", no_doc, &with(linked)),
            ("plain", &on_switch, &with("#[test] fn t() {}\n")),
        ],
        &[
            ("shared/included.txt", "1"),
            ("shared/script.txt", "1"),
            ("shared/macro.txt", "1"),
            ("shared/foreign.txt", "1"),
            ("shared/read.txt", "1"),
            ("shared/linked/linked.txt", "1"),
            ("../outside/Cargo.toml", outside_manifest),
            ("../outside/src/lib.rs", "pub const NUMBER: u32 = 1;\n"),
        ],
    );
    std::os::unix::fs::symlink("../shared/linked", clones.home.root.join("linked/data")).unwrap();
    clones.home.git(&["add", "."]);
    clones.home.git(&["commit", "-qm", "link"]);
    let mut clones = clones;
    clones.prove();
    let root = clones.clone("clone");
    fs::write(root.join("ignores/src/ignored.txt"), "1").unwrap();
    fs::write(root.join("NOTES.md"), "of no package").unwrap();
    let answer = clones.ask(&root, &[]);
    answer.green();
    // What no key of packages can hold is built, without the rest where that is the same.
    let built = ["called", "calls", "linked", "made", "makes", "scripted"];
    assert_eq!(compiled(&root), built, "{answer:#?}");
    for target in &answer.targets {
        let package = target["package"].as_str().unwrap();
        let is_built = built.contains(&package);
        assert_eq!(target["reason"] == "same packages and inputs", !is_built, "{target}");
    }
    for (file, text, package) in [
        ("shared/included.txt", "2", "includes"),
        ("ignores/src/ignored.txt", "2", "ignores"),
        ("shared/script.txt", "2", "scripted"),
        ("shared/macro.txt", "2", "made"),
        ("shared/foreign.txt", "2", "called"),
        ("shared/read.txt", "2", "reads"),
        ("shared/linked/linked.txt", "2", "linked"),
        ("../outside/src/lib.rs", "pub const NUMBER: u32 = 2;\n", "extern"),
        (
            "plain/Cargo.toml",
            "[package]\nname='plain'\nversion='0.1.0'\nedition='2021'\n\
          [dependencies]\nswitch={path='../switch',features=['on']}\n",
            "switched",
        ),
    ] {
        let before = fs::read(root.join(file)).unwrap();
        fs::write(root.join(file), text).unwrap();
        // Cargo does not see what a script or a macro reads on the sly.
        let _ = fs::remove_dir_all(root.join("target"));
        clones.forget_builds();
        let answer = clones.ask(&root, &[]);
        answer.red();
        let failed: Vec<_> =
            answer.targets.iter().filter(|target| target["verdict"] == "fail").collect();
        assert!(failed.iter().any(|target| target["package"] == package), "{file}: {answer:#?}");
        fs::write(root.join(file), before).unwrap();
    }
    clones.home.environment.set("BUILD_KNOB", "1");
    let _ = fs::remove_dir_all(root.join("target"));
    clones.forget_builds();
    let answer = clones.ask(&root, &[]);
    answer.red();
    assert_eq!(answer.results().failed.len(), 1, "{answer:#?}");
}

/// What is no package's, and no list of the compiler names it: it decides what is built all the same.
#[test]
fn nothing_beside_the_packages_is_overlooked() {
    if takes_long() {
        return;
    }
    if !can_observe("records of packages") {
        return;
    }
    let no_doc = "[lib]\ndoctest=false\n";
    let linked = "extern \"C\" { static answer: u8; }\n\
                  #[test] fn t() { assert_eq!(&raw const answer as usize & 0xff, 42) }\n";
    let module = "#[path = \"../../shared/m/mod.rs\"] mod m;\n\
                  #[test] fn t() { assert_eq!(m::inner::NUMBER, 1) }\n";
    let inherits = "#[test] fn t() { assert_eq!(outside::TEXT, \"good\") }\n";
    let on_outside = format!("{no_doc}[dependencies]\noutside={{path='../../apart/outside'}}\n");
    let searches =
        "#[test] fn t() { assert!(!std::env::var(\"PATH\").unwrap().contains(\"/bad\")) }\n";
    let with = |text: &'static str| [("src/lib.rs", text)];
    let clones = Clones::of(
        &[
            ("linked", no_doc, &with(linked)),
            ("module", no_doc, &with(module)),
            ("inherits", &on_outside, &with(inherits)),
            ("searches", no_doc, &with(searches)),
            ("plain", no_doc, &with("#[test] fn t() {}\n")),
        ],
        &[
            (".cargo/config.toml", "build.rustflags=['-Clink-arg=@tools/arguments']\n"),
            ("tools/arguments", "-Wl,--defsym=answer=42\n"),
            ("shared/m/mod.rs", "pub mod inner;\n"),
            ("shared/m/inner.rs", "pub const NUMBER: u32 = 1;\n"),
            (
                "../apart/Cargo.toml",
                "[workspace]\nmembers=['outside']\n[workspace.package]\ndescription='good'\n",
            ),
            (
                "../apart/outside/Cargo.toml",
                "[package]\nname='outside'\nversion='0.1.0'\nedition='2021'\n\
                 description.workspace=true\n",
            ),
            (
                "../apart/outside/src/lib.rs",
                "pub const TEXT: &str = env!(\"CARGO_PKG_DESCRIPTION\");\n",
            ),
        ],
    );
    let mut clones = clones;
    clones.prove();
    clones.ask(&clones.clone("same"), &[]).green_from("cache");
    let root = clones.clone("clone");
    for (file, text) in [
        ("tools/arguments", Some("-Wl,--defsym=answer=43\n")),
        ("shared/m/inner/mod.rs", Some("pub const NUMBER: u32 = 2;\n")),
        (
            "../apart/Cargo.toml",
            Some("[workspace]\nmembers=['outside']\n[workspace.package]\ndescription='bad'\n"),
        ),
        ("PATH", None),
    ] {
        let _ = fs::remove_dir_all(root.join("target"));
        clones.forget_builds();
        let Some(text) = text else {
            let path = clones.home.environment.get("PATH").unwrap().to_str().unwrap().to_owned();
            clones.home.environment.set("PATH", format!("{path}:/bad"));
            clones.ask(&root, &[]).red();
            continue;
        };
        let before = fs::read(root.join(file)).ok();
        fs::create_dir_all(root.join(file).parent().unwrap()).unwrap();
        fs::write(root.join(file), text).unwrap();
        let answer = clones.ask(&root, &[]);
        assert_ne!(answer.verdict(), "pass", "{file}: {answer:#?}");
        match before {
            Some(before) => fs::write(root.join(file), before).unwrap(),
            None => fs::remove_dir_all(root.join(file).parent().unwrap()).unwrap(),
        }
    }
}

/// A workspace of `user`, which depends on a repository with these files, and `plain`. `DATA` is a folder beside.
fn on_repository(files: &[(&str, &str)], test: &str) -> Clones {
    let mut clones = Clones::of(
        &[
            ("user", "[lib]\ndoctest=false\n[dependencies]\n", &[("src/lib.rs", "")]),
            ("plain", "[lib]\ndoctest=false\n", &[("src/lib.rs", "#[test] fn t() {}\n")]),
        ],
        &[(
            "../asks/Cargo.toml",
            "[package]\nname='asks'\nversion='0.1.0'\nedition='2021'\n[workspace]\n",
        )],
    );
    for (path, text) in files {
        clones.home.write(&format!("../asks/{path}"), text);
    }
    let home = &mut clones.home;
    home.environment.set("CARGO_HOME", home.base.join("cargo"));
    home.environment.set("DATA", home.base.join("data"));
    // The repository is a folder.
    home.environment.set("CARGO_NET_OFFLINE", "false");
    for line in [&["init", "-q", "../asks"][..], &["-C", "../asks", "add", "."]] {
        home.git(line);
    }
    home.git(&["-C", "../asks", "commit", "-qm", "one"]);
    let manifest = format!(
        "[package]\nname='user'\nversion='0.1.0'\nedition='2021'\n[lib]\ndoctest=false\n\
         [dependencies]\nasks={{git='file://{}'}}\n",
        home.base.join("asks").display()
    );
    home.write("user/Cargo.toml", &manifest);
    home.write("user/src/lib.rs", test);
    assert_eq!(home.cargo(&["generate-lockfile"]).code, Some(0));
    home.git(&["commit", "-qam", "two"]);
    clones
}

/// A build script of somebody else's package may ask for a variable without saying so.
#[test]
fn a_variable_that_a_dependency_s_build_script_can_name_counts() {
    if takes_long() {
        return;
    }
    if !can_observe("records of packages") {
        return;
    }
    let script = "fn main() { println!(\"cargo:rerun-if-changed=build.rs\");\n\
                  let text = std::env::var(\"FLAVOUR\").unwrap_or_else(|_| \"none\".into());\n\
                  println!(\"cargo:rustc-env=READ={text}\") }\n";
    let mut clones = on_repository(
        &[("src/lib.rs", "pub const FLAVOUR: &str = env!(\"READ\");\n"), ("build.rs", script)],
        "#[test] fn t() { assert_eq!(asks::FLAVOUR, \"none\") }\n",
    );
    clones.prove();
    let root = clones.clone("clone");
    clones.home.environment.set("STARSHIP_SESSION_KEY", "another terminal");
    clones.ask(&root, &[]).green_from("cache");
    clones.home.environment.set("FLAVOUR", "bad");
    clones.ask(&root, &[]).red();
}

/// Cargo does not look at it again, and a build in another checkout reads what is there now.
#[test]
fn what_a_dependency_reads_apart_from_its_repository_counts() {
    if takes_long() || !can_observe("records of packages") {
        return;
    }
    let clones = on_repository(
        &[("src/lib.rs", "include!(concat!(env!(\"DATA\"), \"/number.rs\"));\n")],
        "#[test] fn t() { assert_eq!(asks::NUMBER, 1) }\n",
    );
    clones.home.write("../data/number.rs", "pub const NUMBER: u32 = 1;\n");
    until_old(&clones.home.base.join("data/number.rs"));
    clones.prove();
    let root = clones.clone("clone");
    clones.ask(&root, &[]).green_from("cache");
    clones.home.write("../data/number.rs", "pub const NUMBER: u32 = 2;\n");
    clones.ask(&root, &[]).red();
    clones.ask(&clones.home.root, &[]).red();
}

/// A folder above it was renamed, or another one mounted there: cargo goes by times.
#[test]
fn another_checkout_in_the_same_place_is_not_what_was_built() {
    let text = |is_true: bool| format!("#[test] fn t() {{ assert!({is_true}); }}\n");
    let mut home = Home::with(&[("src/lib.rs", &text(true))]);
    home.environment.set("CARGO_TARGET_DIR", home.base.join("out/target"));
    assert_eq!(home.cargo(&["generate-lockfile", "--offline"]).code, Some(0));
    let root = home.root.to_str().unwrap();
    let copy = home.start_in(&home.base, "cp", &["-r", root, "other"], false).end(LIMIT);
    assert_eq!(copy.code, Some(0));
    let other = home.base.join("other");
    fs::write(other.join("src/lib.rs"), text(false)).unwrap();
    until_old(&other.join("src/lib.rs"));
    home.test(&["--no-daemon"]).green_from("run");
    fs::rename(&home.root, home.base.join("first")).unwrap();
    fs::rename(&other, &home.root).unwrap();
    // For cargo the build is fresh.
    home.test(&["--no-daemon"]).green();
    home.write("src/lib.rs", &text(false));
    let check = home.run(&["check"]);
    assert_eq!(check.code, Some(10), "{check:#?}");
    home.test(&["--no-daemon"]).red();
}
