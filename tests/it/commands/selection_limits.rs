//! With `selection = "on"`: builds of others in the same target folder, and runs that observing would change.

// Runs can be observed, and objects are read, on this platform only.
#![cfg(all(target_os = "linux", target_arch = "x86_64"))]

use std::os::unix::fs::{PermissionsExt, chown};

use super::selection::compared;
use crate::home::{Home, Started, can_observe, is_root, skip, takes_long};

/// A workspace with one target, whose tests these are, and that has run and was looked at.
fn home(tests: &str) -> Option<(Home, Started)> {
    if takes_long() || !can_observe("the limits of a selection") {
        return None;
    }
    let mut home = Home::with(&[("src/lib.rs", tests)]);
    home.environment.set("CARGO_INCREMENTAL", "1");
    home.config("[log]\nlevel = 'debug'", "debounce = '1h'\nselection = 'on'");
    let daemon = home.daemon();
    home.test(&[]).green_from("run");
    compared(&daemon, 1);
    Some((home, daemon))
}

#[test]
fn objects_of_another_cargo_in_the_same_folder_do_not_count() {
    let code = |number: u32| {
        format!(
            "static TABLE: [u32; 2] = [1, {number}];\n\
             pub fn number(at: usize) -> u32 {{ TABLE[at] }}\n\
             #[test] fn sees() {{ assert_eq!(number(std::hint::black_box(1)), 2); }}\n\
             #[test] fn other() {{}}\n"
        )
    };
    let Some((mut home, _daemon)) = home(&code(2)) else { return };
    let others: [&[(&'static str, &'static str)]; 3] = [
        &[("RUSTFLAGS", "-Coverflow-checks=off")],
        &[("CARGO_PROFILE_DEV_OVERFLOW_CHECKS", "false")],
        &[],
    ];
    // All of them build into the same folders.
    let build = |home: &mut Home, variables: &[(&'static str, &'static str)]| {
        variables.iter().for_each(|(name, value)| home.environment.set(*name, *value));
        assert_eq!(home.cargo(&["test", "--no-run"]).code, Some(0));
        variables.iter().for_each(|(name, _)| home.environment.remove(*name));
    };
    others.iter().for_each(|variables| build(&mut home, variables));
    home.write("src/lib.rs", &format!("// a comment\n{}", code(2)));
    home.test(&[]).green();
    // What was built with this change is red, whoever has built it.
    home.write("src/lib.rs", &code(3));
    for variables in others {
        build(&mut home, variables);
        home.test(&[]).red();
    }
    home.write("src/lib.rs", &format!("// another comment\n{}", code(2)));
    home.test(&[]).green();
}

#[test]
fn a_test_that_starts_a_privileged_program_is_known_by_its_whole_program() {
    if !is_root() {
        return skip("a privileged program", "only root can make one");
    }
    let base = tempfile::tempdir().unwrap();
    let program = base.path().join("privileged");
    std::fs::copy("/bin/true", &program).unwrap();
    chown(&program, Some(1), None).unwrap();
    std::fs::set_permissions(&program, PermissionsExt::from_mode(0o4755)).unwrap();
    let tests = format!(
        "#[test] fn starts() {{ \
         assert!(std::process::Command::new({program:?}).status().unwrap().success()); }}\n\
         #[test] fn other() {{}}\n"
    );
    let Some((home, daemon)) = home(&tests) else { return };
    home.test(&[]).green_from("cache");
    home.write("src/lib.rs", &format!("// a comment\n{tests}"));
    let explained = home.ok(&["explain"]);
    assert!(explained.contains("needs privileges that an observed run cannot get"), "{explained}");
    let answer = home.test(&[]);
    answer.green_from("run");
    let reason = answer.targets[0]["reason"].as_str().unwrap();
    assert_eq!(reason, "no earlier run is known to compare with");
    compared(&daemon, 2);
    std::fs::remove_file(program).unwrap();
    home.write("src/lib.rs", &format!("// another comment\n{tests}"));
    home.test(&[]).red();
}
