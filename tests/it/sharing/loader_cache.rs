//! Machines on which other libraries are installed.

use std::fs;

use super::build_scripts::machines;
use crate::bad_input::sandbox::in_sandbox;
use crate::home::{answered, can_observe, skip, takes_long};
use crate::loader_cache::{Cache, NEEDED, ask_with, copy_of_needed};

const STARTS_A_SHELL: &str = "\
    assert!(Command::new(\"sh\").args([\"-c\", \"true\"]).status().unwrap().success());\n\
    said(\"started\".into());";
const READS_ALL: &str = "\
    let list = Command::new(\"/sbin/ldconfig\").arg(\"-p\").output().unwrap();\n\
    said((list.stdout.len() > 10).to_string());";

/// Tests, and the build scripts of their packages.
#[test]
fn a_machine_is_answered_where_other_libraries_are_installed_beside_the_needed_ones() {
    if takes_long() || !can_observe("records for other machines") {
        return;
    }
    let Some(cache) = Cache::of_machine() else {
        return skip("other libraries", "the loader's cache is unusual here");
    };
    let machines = machines(&[("shell", STARTS_A_SHELL), ("all", READS_ALL)]);
    machines.prove();
    let reader = &machines.reader;
    if in_sandbox(reader, "true").is_none() {
        return skip("other libraries", "mount namespaces are not allowed here");
    }
    let file = reader.base.join("ld.so.cache");
    let ask = |cache: Cache| {
        cache.write(&file);
        let _ = fs::remove_dir_all(reader.paths().cache_dir);
        let _ = fs::remove_dir_all(reader.root.join("target"));
        let answer = machines.patiently(reader, || answered(ask_with(reader, &file).unwrap()));
        answer.green();
        answer
    };
    let answer = ask(cache.clone().with_others());
    assert_eq!(answer.run(), ["all"], "{answer:#?}");
    assert!(answer.ran.stderr.contains("`/etc/ld.so.cache` is another one here"), "{answer:#?}");
    let answer = ask(cache.clone().with_needed_at(&copy_of_needed(reader, &cache)));
    assert_eq!(answer.run().len(), 2, "{answer:#?}");
    let why = format!("/etc/ld.so.cache/{NEEDED}` is another one here");
    assert!(answer.ran.stderr.contains(&why), "{answer:#?}");
}
