//! Names that a run looked for in vain in the folders above its checkout.

use std::fs;
use std::os::unix::fs::symlink;

use super::Machines;
use crate::home::{Answered, Home, can_observe, takes_long};

/// Looks for a file in every folder above, as cargo does and many test libraries do.
const CLIMBS: &str = "#[test] fn t() {\n    \
    let from = std::env::var(\"PWD\").unwrap_or(env!(\"CARGO_MANIFEST_DIR\").into());\n    \
    let folders = std::path::Path::new(&from).ancestors();\n    \
    let found = folders.filter(|folder| folder.join(\"climbed.toml\").exists());\n    \
    assert_eq!(found.count(), 0);\n}\n";
/// Looks beside the checkout for a name that is made of the checkout's own.
const BESIDE: &str = "#[test] fn t() {\n    \
    let root = std::path::Path::new(env!(\"CARGO_MANIFEST_DIR\")).parent().unwrap();\n    \
    assert!(!std::path::Path::new(&format!(\"{}-data\", root.display())).exists());\n}\n";

/// The machines, with a package for each of these tests.
pub(super) fn machines(tests: &[(&str, &str)]) -> Machines {
    Machines::of(|writer| {
        let names: Vec<_> = tests.iter().map(|(name, _)| format!("'{name}'")).collect();
        let members = format!("[workspace]\nresolver='2'\nmembers=[{}]\n", names.join(","));
        writer.write("Cargo.toml", &members);
        for (name, test) in tests {
            let head = format!(
                "[package]\nname='{name}'\nversion='0.1.0'\nedition='2021'\n[lib]\ndoctest=false\n"
            );
            writer.write(&format!("{name}/Cargo.toml"), &head);
            writer.write(&format!("{name}/src/lib.rs"), test);
        }
    })
}

/// The answer of a machine that has neither a build nor a record.
pub(super) fn afresh(machines: &Machines, home: &Home) -> Answered {
    let _ = fs::remove_dir_all(home.root.join("target"));
    let _ = fs::remove_dir_all(home.paths().cache_dir);
    machines.ask(home)
}

#[test]
fn what_is_absent_above_one_checkout_is_looked_for_above_another() {
    if takes_long() || !can_observe("records for other machines") {
        return;
    }
    let mut machines = machines(&[("climbs", CLIMBS)]);
    machines.prove();
    machines.ask(&machines.reader).green_from("cache");
    assert!(!machines.reader.root.join("target").exists(), "nothing is built");

    // The writer's checkout lies less deep: it has no such folder. Here the file appears after an answer.
    let base = machines.reader.base.clone();
    assert!(
        machines.writer.root.components().count() + 1 < machines.reader.root.components().count()
    );
    for folder in ["quite/another/place", "quite/another", "quite", ""] {
        let file = base.join(folder).join("climbed.toml");
        fs::write(&file, "").unwrap();
        machines.ask(&machines.reader).red();
        let answer = afresh(&machines, &machines.reader);
        answer.red();
        let said = format!("`{}` changed", file.display());
        assert!(answer.ran.stderr.contains(&said), "{answer:#?}");
        fs::remove_file(&file).unwrap();
    }
    afresh(&machines, &machines.reader).green_from("cache");

    // A link to the checkout has other folders above it.
    let link = base.join("links/checkout");
    fs::create_dir(base.join("links")).unwrap();
    symlink(&machines.reader.root, &link).unwrap();
    machines.reader.environment.set("PWD", &link);
    afresh(&machines, &machines.reader).green_from("cache");
    fs::write(base.join("links/climbed.toml"), "").unwrap();
    afresh(&machines, &machines.reader).red();
}

#[test]
fn a_daemon_does_not_answer_once_a_file_appears_above_the_checkout() {
    if takes_long() || !can_observe("records for other machines") {
        return;
    }
    let machines = machines(&[("climbs", CLIMBS)]);
    machines.prove();
    let reader = &machines.reader;
    reader.ok(&["pause"]);
    let daemon = reader.daemon();
    machines.patiently(reader, || reader.test(&[])).green_from("cache");
    fs::write(reader.base.join("quite/climbed.toml"), "").unwrap();
    machines.patiently(reader, || reader.test(&[])).red();
    daemon.stop();
}

#[test]
fn what_is_named_after_the_checkout_is_not_shared() {
    if takes_long() || !can_observe("records for other machines") {
        return;
    }
    let machines = machines(&[("beside", BESIDE), ("climbs", CLIMBS)]);
    machines.prove();
    let reader = &machines.reader;
    let answer = machines.ask(reader);
    answer.green();
    assert_eq!(answer.run(), ["beside"], "{answer:#?}");
    fs::write(format!("{}-data", reader.root.display()), "").unwrap();
    afresh(&machines, reader).red();
}
