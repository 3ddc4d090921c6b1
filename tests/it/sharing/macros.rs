//! Macros that may read anything, in libraries of other people: what they consult is checked on the other machine.

use std::fs;
use std::path::Path;

use super::Machines;
use super::build_scripts::reason;
use crate::home::{Home, LIMIT, can_observe, takes_long};

/// A macro that becomes the text of a file of its user's.
const EMBED: &str = "\
    #[proc_macro]\n\
    pub fn embed(_: proc_macro::TokenStream) -> proc_macro::TokenStream {\n    \
    let home = std::env::var(\"HOME\").unwrap();\n    \
    let text = std::fs::read_to_string(home + \"/embedded\").unwrap();\n    \
    let more = std::env::var(\"EMBEDDED_TOO\").unwrap_or_default();\n    \
    format!(\"{:?}\", text + &more).parse().unwrap()\n}\n";
const DATA: &str = "pub fn text() -> &'static str { embed::embed!() }\n";
/// Uses the library that has used the macro.
const USES: &str = "#[test] fn t() { assert_eq!(data::text(), \"1\") }\n";
/// Could use the macro itself.
const COULD: &str = "#[test] fn t() { assert_eq!(embed::embed!(), \"1\") }\n";

/// Writes a package.
fn package(folder: &Path, rest: &str, source: &str) {
    let name = folder.file_name().unwrap().to_str().unwrap();
    let head = format!("[package]\nname='{name}'\nversion='0.1.0'\nedition='2021'\n{rest}");
    fs::create_dir_all(folder.join("src")).unwrap();
    fs::write(folder.join("Cargo.toml"), head).unwrap();
    fs::write(folder.join("src/lib.rs"), source).unwrap();
}

/// Lets cargo fetch packages of a repository, which is a folder, into a folder of this user's.
fn may_fetch(home: &mut Home) {
    home.environment.remove("CARGO_HOME");
    home.environment.set("CARGO_NET_OFFLINE", "false");
}

/// Other people's packages, in a repository of theirs, and two that use them.
fn fill(writer: &mut Home) {
    may_fetch(writer);
    let theirs = writer.base.join("theirs");
    package(&theirs.join("embed-macros"), "[lib]\nproc-macro=true\n", EMBED);
    let handed_on = "[dependencies]\nembed-macros={path='../embed-macros'}\n";
    package(&theirs.join("embed"), handed_on, "pub use embed_macros::embed;\n");
    package(&theirs.join("data"), "[dependencies]\nembed={path='../embed'}\n", DATA);
    for args in [&["init", "-q"][..], &["add", "."], &["commit", "-qm", "one"]] {
        let ran = writer.start_in(&theirs, "git", args, false).end(LIMIT);
        assert_eq!(ran.code, Some(0), "{ran:#?}");
    }
    writer.write("Cargo.toml", "[workspace]\nresolver='2'\nmembers=['uses','could']\n");
    for (name, dependency, source) in [("uses", "data", USES), ("could", "embed", COULD)] {
        let from = format!("{dependency}={{git='file://{}'}}", theirs.display());
        let rest = format!("[lib]\ndoctest=false\n[dependencies]\n{from}\n");
        package(&writer.root.join(name), &rest, source);
    }
    let locked = writer.cargo(&["generate-lockfile"]);
    assert_eq!(locked.code, Some(0), "{locked:#?}");
    fs::write(writer.base.join("embedded"), "1").unwrap();
}

#[test]
fn what_macros_in_libraries_consult_is_checked_on_the_other_machine() {
    if takes_long() || !can_observe("records for other machines") {
        return;
    }
    let mut machines = Machines::of(fill);
    may_fetch(&mut machines.reader);
    let embedded = machines.reader.base.join("embedded");
    fs::write(&embedded, "1").unwrap();
    for (home, unrelated) in [(&mut machines.writer, "1"), (&mut machines.reader, "2")] {
        home.environment.set("UNRELATED_THING", unrelated);
        home.environment.set("EMBEDDED_TOO", "");
    }
    let proven = machines.prove();
    // Another file and another variable: whatever counts with the whole tree is not answered.
    machines.reader.write("notes", "");
    let lines = machines.explain(&machines.reader);
    assert_eq!(reason(&lines, "uses"), "", "{proven:#?}\n{lines:#?}");
    let could = reason(&lines, "could");
    assert!(could.contains("the macros of embed-macros may read any file"), "{could}");

    machines.reader.environment.set("EMBEDDED_TOO", "2");
    let lines = machines.explain(&machines.reader);
    assert!(reason(&lines, "uses").contains("EMBEDDED_TOO"), "{lines:#?}");
    machines.reader.environment.set("EMBEDDED_TOO", "");
    fs::write(&embedded, "2").unwrap();
    let lines = machines.explain(&machines.reader);
    assert!(reason(&lines, "uses").contains("/embedded"), "{lines:#?}");
    machines.ask(&machines.reader).red();
}
