//! What is known without a run, because tests reach what they reached, stays on its machine.

use super::{LEAF, Machines};
use crate::commands::compared;
use crate::home::{can_observe, takes_long};

#[test]
fn what_no_test_has_run_on_is_not_shared() {
    if takes_long() || !can_observe("records for other machines") {
        return;
    }
    let mut machines = Machines::new();
    machines.writer.environment.set("CARGO_INCREMENTAL", "1");
    machines.reader.environment.set("CARGO_INCREMENTAL", "1");
    let Machines { writer, reader, .. } = &machines;
    let write = |more: &str, other: &str| {
        let text = format!(
            "{more}{LEAF}pub fn other() -> u32 {{ {other} }}\n\
             #[test] fn o() {{ assert_eq!(other(), 2) }}\n"
        );
        for home in [writer, reader] {
            home.write("base/src/lib.rs", &text);
        }
    };
    write("", "2");
    let log = format!("{}[log]\nlevel='debug'\n", machines.writes());
    machines.configure_project(writer, &log, "selection='on'\ndebounce='1h'");
    let daemon = writer.daemon();
    writer.test(&[]).green_from("run");
    compared(&daemon, 1);
    daemon.stop();
    const MORE: &str = "pub fn more() -> u32 { 2 }\n";
    write(MORE, "2");
    let answer = machines.ask(writer);
    answer.green();
    assert_eq!(answer.run(), ["base (doc)", "top (doc)"], "{answer:#?}");
    assert!(answer.ran.stderr.contains("tests of it were not run with this code"), "{answer:#?}");
    let answer = machines.ask(reader);
    answer.green();
    assert!(answer.run().contains(&"base".to_owned()), "{answer:#?}");
    // Nor where the record was found again.
    machines.ask(writer).green_from("cache");
    writer.write("base/notes.txt", "another tree\n");
    reader.write("base/notes.txt", "another tree\n");
    let again = machines.ask(writer);
    again.green();
    assert!(!again.run().contains(&"base".to_owned()), "{again:#?}");
    std::fs::remove_dir_all(reader.paths().cache_dir).unwrap();
    std::fs::remove_dir_all(reader.root.join("target")).unwrap();
    let answer = machines.ask(reader);
    answer.green();
    assert!(answer.run().contains(&"base".to_owned()), "{answer:#?}");

    // Nor where some of its tests have run.
    write(MORE, "std::hint::black_box(2)");
    let answer = machines.ask(writer);
    answer.green();
    let base = answer.targets.iter().find(|target| target["target"] == "base").unwrap();
    assert!(base["reason"].as_str().unwrap().starts_with("1 of 2 tests run"), "{answer:#?}");
    assert!(answer.ran.stderr.contains("tests of it were not run with this code"), "{answer:#?}");
    std::fs::remove_dir_all(reader.paths().cache_dir).unwrap();
    let answer = machines.ask(reader);
    answer.green();
    assert!(answer.run().contains(&"base".to_owned()), "{answer:#?}");
}
