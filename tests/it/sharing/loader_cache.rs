//! Machines on which other libraries are installed.

use std::fs;

use super::Machines;
use crate::bad_input::sandbox::in_sandbox;
use crate::home::{answered, can_observe, skip, takes_long};
use crate::loader_cache::{Cache, NEEDED, ask_with, copy_of_needed};

#[test]
fn a_machine_is_answered_where_other_libraries_are_installed_beside_the_needed_ones() {
    if takes_long() || !can_observe("records for other machines") {
        return;
    }
    let Some(cache) = Cache::of_machine() else {
        return skip("other libraries", "the loader's cache is unusual here");
    };
    let machines = Machines::of(|writer| {
        let head = "[package]\nname='p'\nversion='0.1.0'\nedition='2021'\n[lib]\ndoctest=false\n";
        writer.write("Cargo.toml", head);
        writer.write("src/lib.rs", "#[test] fn t() {}\n");
    });
    machines.prove();
    let reader = &machines.reader;
    let file = reader.base.join("ld.so.cache");
    if in_sandbox(reader, "true").is_none() {
        return skip("other libraries", "mount namespaces are not allowed here");
    }
    let ask = |cache: Cache| {
        cache.write(&file);
        let _ = fs::remove_dir_all(reader.paths().cache_dir);
        machines.patiently(reader, || answered(ask_with(reader, &file).unwrap()))
    };
    ask(cache.clone().with_others()).green_from("cache");
    assert!(!reader.root.join("target").exists(), "nothing is built");
    let moved = cache.clone().with_needed_at(&copy_of_needed(reader, &cache));
    let answer = ask(moved);
    answer.green_from("run");
    let why = format!("/etc/ld.so.cache/{NEEDED}` is another one here");
    assert!(answer.ran.stderr.contains(&why), "{answer:#?}");
}
