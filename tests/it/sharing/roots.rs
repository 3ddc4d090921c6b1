//! Paths below a folder that has more names than one: the run may have gone by any of them.

use std::fs;
use std::path::Path;

use super::Machines;
use super::above::{afresh, machines};
use crate::home::{Home, can_observe, takes_long};

/// The machines, with a package of this test, once the writer has proven it. `arrange` gives both their
/// variables.
fn proven(test: &str, arrange: impl Fn(&mut Home, &mut Home)) -> Option<Machines> {
    if takes_long() || !can_observe("records for other machines") {
        return None;
    }
    let mut machines = machines(&[("asks", test)]);
    arrange(&mut machines.writer, &mut machines.reader);
    machines.configure(&machines.writer, &machines.writes());
    machines.prove();
    Some(machines)
}

/// Gives a machine a folder by a variable, by its path or below all of its folders.
fn set_folder(home: &mut Home, variable: &str, folder: &str) {
    let folder = home.base.join(folder);
    fs::create_dir_all(&folder).unwrap();
    home.environment.set(variable, folder);
}

/// Asserts that the reader is answered before it has this file, and not any more when it has.
#[track_caller]
fn assert_disproven_by(machines: &Machines, file: &Path) {
    let reader = &machines.reader;
    machines.ask(reader).green_from("cache");
    assert!(!reader.root.join("target").exists(), "nothing is built");
    fs::create_dir_all(file.parent().unwrap()).unwrap();
    fs::write(file, "").unwrap();
    afresh(machines, reader).red();
}

#[test]
fn the_path_of_the_usual_temporary_folder_counts_where_another_one_is_set() {
    // One that is not above the checkouts of tests.
    let usual = tempfile::tempdir_in("/var/tmp").unwrap();
    let marker = usual.path().join("marker");
    let test =
        format!("#[test] fn t() {{ assert!(!std::path::Path::new({marker:?}).exists()) }}\n");
    let machines = proven(&test, |writer, reader| {
        set_folder(writer, "TMPDIR", "/var/tmp");
        set_folder(reader, "TMPDIR", "scratch");
    });
    let Some(machines) = machines else { return };
    assert_disproven_by(&machines, &marker);
}

#[test]
fn a_folder_in_the_home_counts_by_the_home_where_it_lies_elsewhere() {
    let test = "#[test] fn t() {\n    \
        let home = std::path::PathBuf::from(std::env::var_os(\"HOME\").unwrap());\n    \
        assert!(!home.join(\".cargo/marker\").exists());\n}\n";
    let machines = proven(test, |writer, reader| {
        set_folder(writer, "CARGO_HOME", ".cargo");
        set_folder(reader, "CARGO_HOME", "cargo");
    });
    let Some(machines) = machines else { return };
    let marker = machines.reader.base.join(".cargo/marker");
    assert_disproven_by(&machines, &marker);
}

#[test]
fn a_search_from_the_temporary_folder_counts_in_all_folders_above_it() {
    let test = "#[test] fn t() {\n    \
        let from = std::env::temp_dir().join(\"start\");\n    \
        let found = from.ancestors().filter(|at| at.join(\"climbed-up.toml\").exists());\n    \
        assert_eq!(found.count(), 0);\n}\n";
    let machines = proven(test, |writer, reader| {
        set_folder(writer, "TMPDIR", "/tmp");
        set_folder(reader, "TMPDIR", "own/scratch");
    });
    let Some(machines) = machines else { return };
    // No folder above the checkout.
    let marker = machines.reader.base.join("own/climbed-up.toml");
    assert_disproven_by(&machines, &marker);
}

#[test]
fn what_lies_beside_a_checkout_in_the_home_counts_by_both_ways() {
    let test = "#[test] fn t() {\n    \
        let root = std::path::Path::new(env!(\"CARGO_MANIFEST_DIR\")).parent().unwrap();\n    \
        assert_eq!(std::fs::read(root.join(\"../fixture\")).unwrap(), b\"1\");\n}\n";
    let machines = proven(test, |writer, reader| {
        let root = writer.base.join("ws");
        fs::rename(std::mem::replace(&mut writer.root, root), &writer.root).unwrap();
        for folder in [writer.root.parent(), Some(&*reader.base), reader.root.parent()] {
            fs::write(folder.unwrap().join("fixture"), "1").unwrap();
        }
    });
    let Some(machines) = machines else { return };
    let beside = machines.reader.root.parent().unwrap().join("fixture");
    assert_disproven_by(&machines, &beside);
}
