//! What is built where records answer for only a part of the targets.

use super::*;

const NO_DOC: &str = "[lib]\ndoctest=false\n";
const NO_TEST: &str = "[lib]\ntest=false\ndoctest=false\n";

/// The names of the targets that ran.
fn ran(answer: &Answered) -> BTreeSet<String> {
    answer.run().into_iter().collect()
}

/// A workspace with a package that has only an example, which uses `base` and what `outside` holds.
fn with_untested() -> Clones {
    let example = "include!(\"../../outside\");\nfn main() { println!(\"{}\", base::number()) }\n";
    let top = "#[test] fn t() { assert_eq!(base::number(), 1) }\n";
    Clones::of(
        &[
            ("base", NO_DOC, &[("src/lib.rs", TESTED)]),
            (
                "top",
                "[lib]\ndoctest=false\n[dependencies]\nbase={path='../base'}\n",
                &[("src/lib.rs", top)],
            ),
            (
                "untested",
                &format!("{NO_TEST}[dependencies]\nbase={{path='../base'}}\n"),
                &[("src/lib.rs", ""), ("examples/shows.rs", example)],
            ),
        ],
        &[("outside", "")],
    )
}

/// Cargo builds the examples of a package that has no test at all. Nobody runs them.
#[test]
fn a_package_without_tests_must_still_build() {
    if takes_long() || !can_observe("records of packages") {
        return;
    }
    let clones = with_untested();
    clones.prove();
    let notes = clones.clone("notes");
    fs::write(notes.join("NOTES.md"), "of no package").unwrap();
    clones.ask(&notes, &[]).green_from("cache");
    assert!(!notes.join("target").exists(), "nothing is built");

    // Where the whole was built before, and where nothing was.
    let fresh = clones.clone("fresh");
    for root in [&clones.home.root, &fresh] {
        let path = root.join("untested/examples/shows.rs");
        let text = fs::read_to_string(&path).unwrap();
        fs::write(&path, text.replace("number", "digit")).unwrap();
        clones.ask(root, &[]).error();
        fs::write(&path, &text).unwrap();
        fs::write(root.join("outside"), "no Rust").unwrap();
        clones.ask(root, &[]).error();
        fs::write(root.join("outside"), "").unwrap();
        clones.ask(root, &[]).green();
    }
}

/// A part of the workspace is built with what has no tests, if an edit can have broken that.
#[test]
fn a_part_has_the_packages_without_tests_if_they_may_differ() {
    if takes_long() || !can_observe("records of packages") {
        return;
    }
    let clones = with_untested();
    clones.prove();
    let more = "#[test] fn t() { assert_eq!(base::number() + 1, 2) }\n";
    let top = clones.clone("top-edited");
    fs::write(top.join("top/src/lib.rs"), more).unwrap();
    let answer = clones.ask(&top, &[]);
    answer.green_from("mixed");
    assert_eq!(answer.run(), ["top"], "{answer:#?}");
    assert_eq!(compiled(&top), ["base", "top"]);

    // One target is built anew with the example, whatever it tests.
    let path = "untested/examples/shows.rs";
    let edited = clones.clone("edited");
    let text = fs::read_to_string(edited.join(path)).unwrap();
    fs::write(edited.join(path), text.replace("{}", "{}!")).unwrap();
    fs::write(edited.join("top/src/lib.rs"), more).unwrap();
    let answer = clones.ask(&edited, &[]);
    answer.green();
    // Its program is what it was.
    assert_eq!(reasons(&answer, "base"), ["same program and inputs"]);
    assert_eq!(reasons(&answer, "top"), ["same packages and inputs"]);
    assert_eq!(compiled(&edited), ["base", "untested"]);
    let again = clones.clone("again");
    fs::write(again.join(path), text.replace("{}", "{}!")).unwrap();
    clones.ask(&again, &[]).green_from("cache");

    let broken = clones.clone("broken");
    fs::write(broken.join("top/src/lib.rs"), more).unwrap();
    fs::write(broken.join(path), "fn main() { base::digit() }\n").unwrap();
    clones.ask(&broken, &[]).error();
}

/// Where a part runs the target again that carries a package without tests, the part has that package too: its
/// library alone would be built otherwise, and the example would be forgotten.
#[test]
fn the_target_that_carries_a_package_does_not_lose_it_in_a_part() {
    if takes_long() || !can_observe("records of packages") {
        return;
    }
    let reads = "#[test] fn t() { assert!(std::fs::read(\"../settings\").unwrap().len() < 3) }\n";
    let example = "include!(\"../../outside\");\nfn main() {}\n";
    let clones = Clones::of(
        &[
            (
                "a",
                "[lib]\ndoctest=false\n[dependencies]\nuntested={path='../untested'}\n",
                &[("src/lib.rs", "#[test] fn t() { untested::f() }\n"), ("tests/d.rs", reads)],
            ),
            ("b", NO_DOC, &[("src/lib.rs", TESTED)]),
            ("untested", NO_TEST, &[("src/lib.rs", "pub fn f() {}\n"), ("examples/e.rs", example)]),
            ("z", NO_DOC, &[("src/lib.rs", TESTED)]),
        ],
        &[("settings", "1"), ("outside", "")],
    );
    clones.prove();
    let edited = clones.clone("edited");
    fs::write(edited.join("settings"), "22").unwrap();
    let more = TESTED.to_owned() + "#[test] fn u() {}\n";
    fs::write(edited.join("b/src/lib.rs"), more).unwrap();
    let answer = clones.ask(&edited, &[]);
    answer.green_from("mixed");
    assert_eq!(reasons(&answer, "z"), ["same packages and inputs"]);
    assert_eq!(compiled(&edited), ["a", "b", "untested"]);
    let broken = clones.clone("broken");
    fs::write(broken.join("settings"), "22").unwrap();
    fs::write(broken.join("outside"), "no Rust").unwrap();
    clones.ask(&broken, &[]).error();
}

/// A workspace with a package of which one target reads a file outside of it, and an example another one.
fn with_reader() -> Clones {
    let reads = "#[test] fn t() { assert!(std::fs::read(\"../settings\").unwrap().len() < 3) }\n";
    let example = "include!(\"../../outside\");\nfn main() {}\n";
    Clones::of(
        &[
            (
                "reads",
                NO_DOC,
                &[
                    ("src/lib.rs", TESTED),
                    ("tests/other.rs", "#[test] fn t() { assert_eq!(reads::number(), 1) }\n"),
                    ("tests/reader.rs", reads),
                    ("examples/shows.rs", example),
                ],
            ),
            ("leaf", NO_DOC, &[("src/lib.rs", TESTED)]),
        ],
        &[("settings", "1"), ("outside", "")],
    )
}

#[test]
fn only_the_targets_run_that_something_outside_of_their_package_changes() {
    if takes_long() || !can_observe("records of packages") {
        return;
    }
    let clones = with_reader();
    clones.prove();
    let other = clones.clone("other");
    fs::write(other.join("settings"), "22").unwrap();
    let answer = clones.ask(&other, &[]);
    answer.green_from("mixed");
    assert_eq!(answer.run(), ["reader"], "{answer:#?}");
    let units = fs::read_dir(other.join("target/debug/deps")).unwrap().flatten();
    let names: Vec<_> = units.map(|unit| unit.file_name().into_string().unwrap()).collect();
    assert!(names.iter().any(|name| name.starts_with("reader-")), "{names:?}");
    assert!(!names.iter().any(|name| name.starts_with("other-")), "{names:?}");
    // That is known from now on, in other clones too.
    let again = clones.clone("again");
    fs::write(again.join("settings"), "22").unwrap();
    clones.ask(&again, &[]).green_from("cache");
    assert!(!again.join("target").exists(), "nothing is built");

    // A red target is told of the whole.
    let red = clones.clone("red");
    fs::write(red.join("settings"), "333").unwrap();
    let answer = clones.ask(&red, &[]);
    answer.red();
    assert_eq!(answer.results().failed.len(), 1, "{answer:#?}");
}

/// The record of a target that was built alone says nothing of the package's other targets.
#[test]
fn a_target_that_was_built_alone_proves_nothing_of_its_package() {
    if takes_long() || !can_observe("records of packages") {
        return;
    }
    let clones = with_reader();
    clones.prove();
    let settings = |root: &Path| fs::write(root.join("settings"), "22").unwrap();
    let outside = |root: &Path, text: &str| fs::write(root.join("outside"), text).unwrap();
    let other = clones.clone("other");
    settings(&other);
    assert_eq!(ran(&clones.ask(&other, &[])), ["reader".to_owned()].into());
    // The example is none of the targets with tests, and was not built with this one.
    for name in ["broken", "broken-too"] {
        let broken = clones.clone(name);
        settings(&broken);
        outside(&broken, "no Rust");
        clones.ask(&broken, &[]).error();
    }
    let fine = clones.clone("fine");
    settings(&fine);
    outside(&fine, "const NEW: u8 = 1;");
    let answer = clones.ask(&fine, &[]);
    answer.green();
    // Their programs are what they were.
    assert_eq!(reasons(&answer, "reads"), ["same program and inputs"; 3]);
}

/// What a test writes where only other tests of its package look is no part of the tree.
#[test]
fn a_target_that_runs_alone_can_break_those_that_were_answered() {
    if takes_long() || !can_observe("records of packages") {
        return;
    }
    let writes = "#[test] fn t() {\n\
                  let settings = std::fs::read(\"../settings\").unwrap();\n\
                  if settings != b\"1\" { std::fs::write(\"../ignored.txt\", settings).unwrap() } }\n";
    let reads =
        "#[test] fn t() { assert_eq!(std::fs::read(\"../ignored.txt\").unwrap(), b\"1\") }\n";
    let clones = Clones::of(
        &[
            ("p", NO_DOC, &[("src/lib.rs", ""), ("tests/a.rs", writes), ("tests/b.rs", reads)]),
            ("leaf", NO_DOC, &[("src/lib.rs", TESTED)]),
        ],
        &[("settings", "1"), ("ignored.txt", "1")],
    );
    clones.prove();
    let other = clones.clone("other");
    fs::write(other.join("ignored.txt"), "1").unwrap();
    fs::write(other.join("NOTES.md"), "").unwrap();
    clones.ask(&other, &[]).green_from("cache");
    fs::write(other.join("settings"), "2").unwrap();
    let answer = clones.ask(&other, &[]);
    answer.red();
    assert_eq!(answer.results().failed.len(), 1, "{answer:#?}");
}

/// A target without any record would have the part built and run, and then the whole.
#[test]
fn no_part_is_run_that_would_not_be_believed() {
    if takes_long() || !can_observe("records of packages") {
        return;
    }
    // The test speaks to a socket, so that its run leaves no record.
    let speaks = "#[test] fn t() {\n\
                  let socket = std::net::TcpListener::bind((\"127.0.0.1\", 0)).unwrap();\n\
                  std::net::TcpStream::connect(socket.local_addr().unwrap()).unwrap();\n\
                  std::fs::write(\"../ran.txt\", [std::fs::read(\"../ran.txt\").unwrap_or_default(), \
                  b\"x\".to_vec()].concat()).unwrap() }\n";
    let clones = Clones::of(
        &[
            ("speaks", NO_DOC, &[("src/lib.rs", ""), ("tests/it.rs", speaks)]),
            ("leaf", NO_DOC, &[("src/lib.rs", TESTED)]),
        ],
        &[],
    );
    clones.home.write(".gitignore", "/target\nran.txt\n");
    clones.home.git(&["commit", "-qam", "ignored"]);
    clones.prove();
    let other = clones.clone("other");
    let answer = clones.ask(&other, &[]);
    answer.green();
    assert!(ran(&answer).contains("it"), "{answer:#?}");
    assert_eq!(fs::read_to_string(other.join("ran.txt")).unwrap(), "x", "{answer:#?}");
}
