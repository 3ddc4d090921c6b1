//! Tests that leave folders behind in the temporary folder: machines with and without leftovers.

use std::fs;

use super::Machines;
use crate::home::{Home, can_observe, takes_long};

/// As the tests of ripgrep: a numbered folder each, which stays. One removes its own again.
const LEAVES: &str = "\
    use std::{env, fs};\n\
    fn scratch(name: &str) -> std::path::PathBuf {\n    \
        let dir = env::temp_dir().join(\"left-behind\").join(name).join(\"0\");\n    \
        if dir.exists() { fs::remove_dir_all(&dir).unwrap() }\n    \
        fs::create_dir_all(&dir).unwrap();\n    \
        fs::write(dir.join(\"f\"), \"1\").unwrap();\n    dir\n}\n\
    #[test] fn stays() { scratch(\"stays\"); }\n\
    #[test] fn goes() { fs::remove_dir_all(scratch(\"goes\")).unwrap() }\n";

/// Gives a machine an empty temporary folder, in the same place in each home.
fn fresh_temporary_folder(home: &mut Home) {
    let folder = home.base.join("tmp");
    let _ = fs::remove_dir_all(&folder);
    fs::create_dir(&folder).unwrap();
    home.environment.set("TMPDIR", &folder);
}

#[test]
fn a_machine_is_answered_whether_leftovers_lie_in_its_temporary_folder_or_not() {
    if takes_long() || !can_observe("records for other machines") {
        return;
    }
    let mut machines = Machines::of(|writer| {
        let head =
            "[package]\nname='left'\nversion='0.1.0'\nedition='2021'\n[lib]\ndoctest=false\n";
        writer.write("Cargo.toml", head);
        writer.write("src/lib.rs", "");
        writer.write("tests/it.rs", LEAVES);
    });
    fresh_temporary_folder(&mut machines.writer);
    fresh_temporary_folder(&mut machines.reader);
    // The first run can be kept: that its folders exist now is its own doing.
    let first = machines.ask(&machines.writer);
    first.green_from("run");
    assert!(!first.ran.stderr.contains("Not cached"), "{first:#?}");
    machines.ask(&machines.reader).green_from("cache");

    // The next one has found leftovers. Its record stands beside the first.
    let second = machines.ask(&machines.writer);
    second.green();
    assert_eq!(second.run(), ["it"]);
    let clean = |machines: &mut Machines| {
        fs::remove_dir_all(machines.reader.paths().cache_dir).unwrap();
        fresh_temporary_folder(&mut machines.reader);
    };
    clean(&mut machines);
    machines.ask(&machines.reader).green_from("cache");
    clean(&mut machines);
    for name in ["stays", "goes"] {
        fs::create_dir_all(machines.reader.base.join("tmp/left-behind").join(name)).unwrap();
    }
    let stays = machines.reader.base.join("tmp/left-behind/stays/0");
    fs::create_dir(&stays).unwrap();
    fs::write(stays.join("f"), "1").unwrap();
    machines.ask(&machines.reader).green_from("cache");
    assert!(!machines.reader.root.join("target").exists(), "nothing is built");
}
