//! Variables: one that something in a run can name counts, however it is named; one that nothing
//! can name does not. Each of the tests below fails if its variable says `bad`, so that an answer
//! from cache would be stale.

#![cfg(all(target_os = "linux", any(target_arch = "x86_64", target_arch = "aarch64")))]

mod real_crates;

use std::collections::HashSet;
use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use knhk_test_cache::internals::model::End;
use knhk_test_cache::internals::process::{Spec, capture};
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use serde_json::Value;

use crate::binary::{Client, play};
use crate::home::{Answered, Home, LIMIT, Ran, takes_long, until_old};

/// A test: its name, its text, the variable that it reads.
type Reader = (&'static str, &'static str, &'static str);

/// Those that go through all variables: every one counts for them.
const THROUGH_ALL: &[&str] = &["prefix", "suffix", "environ", "printed", "python"];

/// Tests that each read a variable in a way of their own. No other one has anything of its name.
const READERS: &[Reader] = &[
    ("literal", "assert_ne!(var(\"WEATHER_MODE\"), \"bad\")", "WEATHER_MODE"),
    ("prefixed", "assert_ne!(var(&format!(\"{}_STATE\", \"CLIMATE\")), \"bad\")", "CLIMATE_STATE"),
    ("numbered", "assert_ne!(var(&format!(\"GARDEN{}\", 1 + 1)), \"bad\")", "GARDEN2"),
    ("lower", "assert_ne!(var(\"orchard_state\"), \"bad\")", "orchard_state"),
    ("upper", "assert_ne!(var(&\"quarry_state\".to_uppercase()), \"bad\")", "QUARRY_STATE"),
    (
        "prefix",
        "assert!(!std::env::vars().any(|(n, v)| n.starts_with(\"PLANET_\") && v == \"bad\"))",
        "PLANET_X",
    ),
    (
        "suffix",
        "assert!(!std::env::vars_os().any(|(n, v)| n.to_str().unwrap().ends_with(\"_FIX\") \
         && v == \"bad\"))",
        "UNGUESSED_FIX",
    ),
    (
        "environ",
        "assert!(!std::fs::read(\"/proc/self/environ\").unwrap().ends_with(b\"=bad\\0\"))",
        "ZZZZZZ_LAST",
    ),
    ("shell", "run(\"sh\", &[\"-c\", \"test \\\"$HARBOUR_STATE\\\" != bad\"])", "HARBOUR_STATE"),
    ("script", "run(\"./data/check.sh\", &[])", "MEADOW_STATE"),
    ("inner", "run(\"sh\", &[\"-c\", \"sh data/outer.sh\"])", "VALLEY_STATE"),
    ("printed", "run(\"sh\", &[\"-c\", \"! printenv | grep -q =ba[d]\"])", "UNNAMED_BY_ALL"),
    (
        "configured",
        "let name = std::fs::read_to_string(\"data/config\").unwrap(); \
         assert_ne!(var(name.trim()), \"bad\")",
        "SUMMIT_STATE",
    ),
    (
        "joined",
        "assert_ne!(var(&format!(\"{}_STATE\", var(\"PLACE_HOLDER\").to_uppercase())), \"bad\")",
        "TUNDRA_STATE",
    ),
    (
        "short",
        "assert_ne!(var(&format!(\"{}_URL\", var(\"APP\").to_uppercase())), \"bad\")",
        "BAKERY_URL",
    ),
    ("indirect", "assert_ne!(var(&var(\"NAME_HOLDER\")), \"bad\")", "HELD_NAME"),
    (
        "listed",
        "for name in std::fs::read_dir(\"data/names\").unwrap() { \
      assert_ne!(var(name.unwrap().file_name().to_str().unwrap()), \"bad\") }",
        "CAVERN_STATE",
    ),
    ("compiled", "assert_ne!(option_env!(\"ISLAND_STATE\"), Some(\"bad\"))", "ISLAND_STATE"),
    ("log", "assert_ne!(var(\"RUST_LOG\"), \"bad\")", "RUST_LOG"),
    ("insta", "assert_ne!(var(\"INSTA_UPDATE\"), \"bad\")", "INSTA_UPDATE"),
    ("proptest", "assert_ne!(var(\"PROPTEST_CASES\"), \"bad\")", "PROPTEST_CASES"),
    ("git", "assert_ne!(var(\"GIT_PREFIX\"), \"bad\")", "GIT_PREFIX"),
    ("native", "run(\"data/native\", &[])", "GLACIER_STATE"),
    ("python", "run(\"python3\", &[\"data/check.py\"])", "LAGOON_STATE"),
];

/// Functions that the tests use.
const COMMON: &str = "#[allow(unused)] fn var(n: &str) -> String { \
    std::env::var(n).unwrap_or_default() }\n\
    #[allow(unused)] fn run(p: &str, a: &[&str]) { \
    assert!(std::process::Command::new(p).args(a).status().unwrap().success()) }\n";

const NATIVE: &str = "#include <stdlib.h>\n#include <string.h>\nint main(void) {\n\
    char *v = getenv(\"GLACIER_STATE\"); return v && !strcmp(v, \"bad\"); }\n";

/// Variables that terminals, prompts, version managers, agents and CI set.
const UNRELATED: &[&str] = &[
    "STARSHIP_SESSION_KEY",
    "ATUIN_SESSION",
    "ZELLIJ",
    "ZELLIJ_SESSION_NAME",
    "DIRENV_DIR",
    "__MISE_SESSION",
    "VIRTUAL_ENV",
    "LS_COLORS",
    "NIX_PATH",
    "CLAUDECODE",
    "CODEX_THREAD_ID",
    "GITHUB_RUN_ID",
    "TMUX_PANE",
    "SSH_CONNECTION",
    "WINDOWID",
    "TERM_SESSION_ID",
    "GIT_DIR",
    "GIT_INDEX_FILE",
    "GIT_EXEC_PATH",
];

fn make_executable(path: &Path) {
    fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
}

/// Whether a program ends well in the workspace.
fn succeeds(client: &Client, program: &str, args: &[&str]) -> bool {
    let spec = Spec::new(program, &client.home.root, client.home.environment.clone());
    capture(&spec.args(args), LIMIT).is_ok_and(|output| output.end == End::Exit(0))
}

/// Asks with one more variable.
fn ask_with(client: &mut Client, name: &str, value: &str) -> Answered {
    let before = client.home.environment.clone();
    client.home.environment.set(name, value);
    let answer = client.ask();
    client.home.environment = before;
    answer
}

/// What `check` says with one more variable.
fn check_with(client: &mut Client, name: impl AsRef<OsStr>, value: impl AsRef<OsStr>) -> Ran {
    let before = client.home.environment.clone();
    client.home.environment.set(name.as_ref(), value.as_ref());
    let checked = client.home.run(&["check"]);
    client.home.environment = before;
    checked
}

/// Writes what the readers need; those of them that can run here.
fn readers(client: &Client, goes_through_all: bool) -> Vec<&'static Reader> {
    for (path, text) in [
        ("data/check.sh", "#!/bin/sh\ntest \"$MEADOW_STATE\" != bad\n"),
        ("data/outer.sh", "sh data/inner.sh\n"),
        ("data/inner.sh", "test \"$VALLEY_STATE\" != bad\n"),
        ("data/config", "SUMMIT_STATE\n"),
        ("data/names/CAVERN_STATE", ""),
        ("data/native.c", NATIVE),
        ("data/check.py", "import os, sys\nsys.exit(os.environ.get('LAGOON_STATE') == 'bad')\n"),
    ] {
        client.home.write(path, text);
    }
    make_executable(&client.home.root.join("data/check.sh"));
    let has_native = succeeds(client, "cc", &["data/native.c", "-o", "data/native"]);
    let has_python = succeeds(client, "python3", &["-c", ""]);
    let is_here = |name: &str| match name {
        "native" => has_native,
        "python" => has_python,
        _ => true,
    };
    let readers: Vec<_> = READERS
        .iter()
        .filter(|(name, ..)| is_here(name) && THROUGH_ALL.contains(name) == goes_through_all)
        .collect();
    let test = |(name, test, _): &&Reader| format!("#[test] fn {name}() {{ {test} }}\n");
    if goes_through_all {
        for reader in &readers {
            client
                .home
                .write(&format!("tests/{}.rs", reader.0), &(COMMON.to_owned() + &test(reader)));
        }
    } else {
        let tests: String = readers.iter().map(test).collect();
        client.home.write("tests/names.rs", &(COMMON.to_owned() + &tests));
    }
    readers
}

#[test]
fn a_variable_counts_however_it_is_named() {
    if takes_long() {
        return;
    }
    play(&[], |client| {
        client.home.environment.set("NAME_HOLDER", "HELD_NAME");
        client.home.environment.set("PLACE_HOLDER", "tundra");
        client.home.environment.set("APP", "bakery");
        let readers = readers(client, false);
        client.ask().green_from("run");
        client.ask().green_from("cache");
        // Each alone makes the answer unknown, because of itself.
        for (name, _, variable) in &readers {
            let checked = check_with(client, variable, "bad");
            assert_eq!(checked.code, Some(10), "{name}: {checked:#?}");
            let why = match *name {
                // It always counts.
                "log" => "no record of this code".to_owned(),
                "compiled" => format!("environment variable {variable} differs, which the build"),
                // For other targets it counts as well: its first letters stand in another word of theirs, or
                // another variable holds its name.
                "insta" | "indirect" | "joined" | "short" => {
                    format!("environment variable {variable} differs")
                }
                _ => format!("p::names: environment variable {variable} differs"),
            };
            assert!(checked.stderr.contains(&why), "{name}: {checked:#?}");
        }
        // Each is seen by its test.
        for (.., variable) in &readers {
            client.home.environment.set(variable, "bad");
        }
        client.home.environment.set("NAME_HOLDER", "HELD_NAME");
        client.home.environment.set("PLACE_HOLDER", "tundra");
        client.home.environment.set("APP", "bakery");
        let answer = client.ask();
        answer.red();
        let target = answer.targets.iter().find(|target| target["target"] == "names").unwrap();
        assert_eq!(target["source"], "run");
        let failures: HashSet<_> = target["failures"].as_array().unwrap().iter().collect();
        let names: Vec<_> = readers.iter().map(|(name, ..)| Value::from(*name)).collect();
        assert_eq!(failures, names.iter().collect());
    });
}

#[test]
fn all_variables_count_for_what_goes_through_all() {
    if takes_long() {
        return;
    }
    play(&[], |client| {
        let readers = readers(client, true);
        client.ask().green_from("run");
        client.ask().green_from("cache");
        for (name, _, variable) in &readers {
            let answer = ask_with(client, variable, "bad");
            answer.red();
            assert!(answer.run().iter().any(|ran| ran == name), "{name}: {answer:#?}");
            client.ask().green();
        }
    });
}

#[test]
fn a_name_that_cargo_gives_to_a_run_counts_and_so_does_what_the_build_names() {
    if takes_long() {
        return;
    }
    let test = format!(
        "{COMMON}#[test] fn t() {{ assert_ne!(var(&var(\"NAME_HOLDER\")), \"bad\"); \
         assert_ne!(var(&var(\"NAME_OF_SCRIPT\")), \"bad\"); assert_ne!(env!(\"BAY\"), \"bad\") }}\n"
    );
    let script = "fn main() {\n\
        println!(\"cargo:rerun-if-env-changed=BAY_STATE\");\n\
        println!(\"cargo:rustc-env=BAY={}\", std::env::var(\"BAY_STATE\").unwrap_or_default());\n\
        println!(\"cargo:rustc-env=NAME_OF_SCRIPT=QUOKKA_STATE\");\n}\n";
    let config = "[env]\nNAME_HOLDER = 'ZEPHYR_STATE'\n";
    let files = [("tests/it.rs", &test[..]), ("build.rs", script), (".cargo/config.toml", config)];
    play(&files, |client| {
        client.ask().green_from("run");
        assert_eq!(check_with(client, "STARSHIP_SHELL", "x").code, Some(0));
        for name in ["ZEPHYR_STATE", "QUOKKA_STATE", "BAY_STATE"] {
            let checked = check_with(client, name, "bad");
            assert_eq!(checked.code, Some(10), "{name}: {checked:#?}");
            ask_with(client, name, "bad").red();
            client.ask().green();
        }
        // Cargo would compile in the other terminal's environment, which a build script may read.
        until_old(&client.home.root.join("tests/it.rs"));
        client.home.write("tests/it.rs", &test);
        let checked = check_with(client, "STARSHIP_SHELL", "x");
        assert_eq!(checked.code, Some(10), "{checked:#?}");
        assert!(checked.stderr.contains("may have to be built anew"), "{checked:#?}");
    });
}

#[test]
fn another_terminal_gets_the_answer_without_a_build() {
    if takes_long() {
        return;
    }
    let test = format!(
        "{COMMON}#[test] fn t() {{ var(\"QUOKKA_STATE\"); assert_ne!(var(\"WEATHER_MODE\"), \"bad\") }}\n"
    );
    let lib = "//! ```\n//! assert!(true);\n//! ```\n";
    play(&[("tests/it.rs", &test), ("src/lib.rs", lib)], |client| {
        client.ask().green_from("run");
        for name in UNRELATED {
            let checked = check_with(client, name, "some value");
            assert_eq!(checked.code, Some(0), "{name}: {checked:#?}");
        }
        let answer = ask_with(client, "STARSHIP_SHELL", "zsh");
        answer.green_from("cache");
        let reason = "same code and settings; no variable that differs counts";
        assert_eq!(answer.targets[0]["reason"], reason);
        assert_eq!(client.ask().targets[0]["reason"], "same code, settings and environment");
        let checked = check_with(client, "WEATHER_MODE", "bad");
        assert_eq!(checked.code, Some(10), "{checked:#?}");
        assert!(checked.stderr.contains("environment variable WEATHER_MODE differs: `"));
        // A value may be no text; a name that is none always counts.
        let odd = OsStr::from_bytes(b"caf\xe9");
        assert_eq!(check_with(client, "STARSHIP_SHELL", odd).code, Some(0));
        assert_eq!(check_with(client, odd, "x").code, Some(10));
        // Folders of `PATH` in which nothing can be looked up, as one without permission.
        let circle = client.home.base.join("out/circle");
        std::os::unix::fs::symlink("circle", &circle).unwrap();
        let path = client.home.environment.get("PATH").unwrap().to_owned();
        let path = [&circle, Path::new("/dev/null")]
            .into_iter()
            .map(Path::to_owned)
            .chain(std::env::split_paths(&path));
        let path = std::env::join_paths(path).unwrap();
        assert_eq!(check_with(client, "PATH", path).code, Some(0));
        // Cargo would compile in the other terminal's environment; the packages are what they were.
        until_old(&client.home.root.join("src/lib.rs"));
        client.home.write("src/lib.rs", lib);
        let checked = check_with(client, "STARSHIP_SHELL", "zsh");
        assert_eq!(checked.code, Some(0), "{checked:#?}");
        let answer = ask_with(client, "STARSHIP_SHELL", "zsh");
        answer.green_from("cache");
        assert_eq!(answer.targets[0]["reason"], "same packages and inputs");
        // Two count: the answer tells the one that differs from the most similar environment.
        ask_with(client, "WEATHER_MODE", "other").green();
        let explained = {
            client.home.environment.set("QUOKKA_STATE", "x");
            let explained = client.home.ok(&["explain", "it"]);
            client.home.environment.remove("QUOKKA_STATE");
            explained
        };
        assert!(explained.contains("environment variable QUOKKA_STATE differs"), "{explained}");
        assert!(!explained.contains("WEATHER_MODE"), "{explained}");
        let answer = ask_with(client, "QUOKKA_STATE", "x");
        let of_test = answer.targets.iter().find(|target| target["target"] == "it").unwrap();
        let reason = of_test["reason"].as_str().unwrap();
        assert!(reason.contains("environment variable QUOKKA_STATE differs"), "{reason}");
        // A red run of it is no longer green in any terminal.
        ask_with(client, "WEATHER_MODE", "bad").red();
        assert_eq!(check_with(client, "STARSHIP_SHELL", "fish").code, Some(10));
    });
}

#[test]
fn a_variable_that_nothing_can_name_does_not_count() {
    if takes_long() {
        return;
    }
    let test = format!(
        "{COMMON}#[test] fn t() {{ assert_ne!(var(\"WEATHER_MODE\"), \"bad\"); run(\"true\", &[]) }}\n"
    );
    play(&[("tests/it.rs", &test)], |client| {
        client.ask().green_from("run");
        for name in UNRELATED {
            let answer = ask_with(client, name, "some value");
            answer.green_from("cache");
            assert_eq!(answer.run(), [""; 0], "{name}: {answer:#?}");
        }
        let root = client.home.root.join("target");
        let answer = ask_with(client, "CARGO_TARGET_DIR", root.to_str().unwrap());
        answer.green();
        assert_eq!(answer.run(), [""; 0], "{answer:#?}");
        client.home.environment.set("STARSHIP_SHELL", "another value");
        client.home.environment.set("WEATHER_MODE", "other");
        let explained = client.home.ok(&["explain"]);
        for told in [
            "STARSHIP_SHELL is new: it does not count: nothing in the runs of the tests can name it",
            "WEATHER_MODE is new: it counts for p::it: `",
            "p::it (last: pass): environment variable WEATHER_MODE differs: `",
        ] {
            assert!(explained.contains(told), "{told}: {explained}");
        }
        let answer = ask_with(client, "WEATHER_MODE", "good");
        answer.green();
        assert_eq!(answer.run(), ["it"], "{answer:#?}");
    });
}

#[test]
fn the_search_path_counts_by_what_is_found_in_it() {
    if takes_long() {
        return;
    }
    let finds = format!("{COMMON}#[test] fn t() {{ run(\"tool-of-the-test\", &[]) }}\n");
    let reads = format!("{COMMON}#[test] fn t() {{ assert!(!var(\"PATH\").contains(\"bad\")) }}\n");
    let files = [("tests/finds.rs", &finds[..]), ("tests/reads.rs", &reads)];
    play(&files, |client| {
        let base = client.home.base.clone();
        let tool = |folder: &str, status: u8| {
            fs::create_dir_all(base.join(folder)).unwrap();
            let file = base.join(folder).join("tool-of-the-test");
            fs::write(&file, format!("#!/bin/sh\nexit {status}\n")).unwrap();
            make_executable(&file);
        };
        tool("good", 0);
        tool("other", 1);
        fs::create_dir_all(base.join("empty")).unwrap();
        let path = client.home.environment.get("PATH").unwrap().to_str().unwrap().to_owned();
        let with = |folders: &[&str]| {
            let folders = folders.iter().map(|folder| base.join(folder).display().to_string());
            folders.chain([path.clone()]).collect::<Vec<_>>().join(":")
        };
        client.home.environment.set("PATH", with(&["good"]));
        client.ask().green_from("run");
        client.ask().green_from("cache");
        let answer = ask_with(client, "PATH", &with(&["empty", "good", "missing"]));
        answer.green();
        assert_eq!(answer.run(), ["reads"], "{answer:#?}");
        let answer = ask_with(client, "PATH", &with(&["other", "good"]));
        answer.red();
        assert_eq!(answer.run(), ["finds", "reads"], "{answer:#?}");
        let answer = ask_with(client, "PATH", &with(&["bad", "good"]));
        answer.red();
        client.ask().green();
    });
}

#[test]
fn the_config_has_the_last_word_on_variables_and_can_take_it_back() {
    if takes_long() {
        return;
    }
    let test = format!("{COMMON}#[test] fn t() {{ assert_ne!(var(\"WEATHER_MODE\"), \"bad\") }}\n");
    play(&[("tests/it.rs", &test)], |client| {
        let settings = |client: &Client, more: &str| {
            client.home.config("", &format!("debounce = '1h'\n{more}"));
        };
        settings(client, "ignore_env = ['WEATHER_*']");
        client.home.environment.set("WEATHER_MODE", "fine");
        client.ask().green_from("run");
        let answer = ask_with(client, "WEATHER_MODE", "bad");
        answer.green();
        assert_eq!(answer.run(), [""; 0], "it is ignored: {answer:#?}");
        settings(client, "");
        ask_with(client, "WEATHER_MODE", "bad").red();
        settings(client, "extra_env = ['NEVER_NAMED', 'TERM']");
        client.ask().green();
        client.ask().green_from("cache");
        for name in ["NEVER_NAMED", "TERM"] {
            let answer = ask_with(client, name, "x");
            assert!(answer.run().contains(&"it".to_owned()), "{name}: {answer:#?}");
        }
    });
}

#[test]
fn what_a_manifest_says_counts_for_tests_that_can_name_it_and_where_the_config_says_so() {
    if takes_long() {
        return;
    }
    let manifest = |description: &str| {
        format!(
            "[package]\nname='p'\nversion='0.1.0'\nedition='2021'\ndescription='{description}'\n"
        )
    };
    let test = |name: &str| {
        format!("#[test] fn t() {{ assert_ne!(std::env::var({name}).as_deref(), Ok(\"bad\")) }}\n")
    };
    let files = [
        ("Cargo.toml", manifest("fine")),
        ("tests/names.rs", test("\"CARGO_PKG_DESCRIPTION\"")),
        ("tests/other.rs", test("\"UNSET_BY_ALL\"")),
        // Another program prints all that it has.
        (
            "tests/prints.rs",
            "#[test] fn t() { let all = std::process::Command::new(\"env\").output().unwrap();\n\
             let all = String::from_utf8(all.stdout).unwrap();\n\
             assert!(!all.lines().any(|line| line.ends_with(\"=bad\"))) }\n"
                .to_owned(),
        ),
    ];
    let files: Vec<_> = files.iter().map(|(path, text)| (*path, &**text)).collect();
    play(&files, |client| {
        client.ask().green_from("run");
        client.home.write("Cargo.toml", &manifest("good"));
        let answer = client.ask();
        answer.green();
        assert_eq!(answer.run(), ["names", "prints", "p (doc)"], "{answer:#?}");
        client.home.write("Cargo.toml", &manifest("bad"));
        client.ask().red();
        client.home.config("", "debounce = '1h'\nextra_env = ['CARGO_PKG_DESCRIPTION']");
        client.home.write("Cargo.toml", &manifest("fine"));
        client.ask().green();
        client.home.write("Cargo.toml", &manifest("other"));
        let answer = client.ask();
        answer.green();
        assert!(answer.run().contains(&"other".to_owned()), "{answer:#?}");
    });
}

/// A file that is edited between the questions.
const FILE: &str = "data/state";

/// How many sequences of random environments and edits are asked about, each with and without a daemon.
const SEQUENCES: u32 = 3;

#[test]
fn no_question_is_answered_for_another_environment_or_file() {
    if takes_long() {
        return;
    }
    let test = |name: &str, text: &str| {
        (format!("tests/{name}.rs"), format!("{COMMON}#[test] fn t() {{ {text} }}\n"))
    };
    let files = [
        test("weather", "assert_ne!(var(\"WEATHER_MODE\"), \"bad\")"),
        test(
            "climate",
            "assert_ne!(var(&format!(\"{}_STATE\", \"climate\").to_uppercase()), \"bad\")",
        ),
        test("island", "assert_ne!(option_env!(\"ISLAND_STATE\"), Some(\"bad\"))"),
        test("shell", "run(\"sh\", &[\"data/check.sh\"])"),
        test("tool", "run(\"tool-of-the-test\", &[])"),
    ];
    let files: Vec<_> = files.iter().map(|(path, text)| (&**path, &**text)).collect();
    const READ: &[&str] =
        &["WEATHER_MODE", "CLIMATE_STATE", "ISLAND_STATE", "HARBOUR_STATE", "PATH", FILE];
    let names = [READ, &UNRELATED[..6]].concat();
    let value = prop_oneof![Just(None), Just(Some("bad")), Just(Some("good"))];
    let steps = proptest::collection::vec((proptest::sample::select(names), value), 1..16);
    play(&files, |client| {
        let script = format!("test \"$HARBOUR_STATE\" != bad && test \"$(cat {FILE})\" != bad\n");
        client.home.write("data/check.sh", &script);
        let base = client.home.base.clone();
        for (folder, status) in [("plain", 0), ("good", 0), ("bad", 1)] {
            fs::create_dir_all(base.join(folder)).unwrap();
            let file = base.join(folder).join("tool-of-the-test");
            fs::write(&file, format!("#!/bin/sh\nexit {status}\n")).unwrap();
            make_executable(&file);
        }
        let path = client.home.environment.get("PATH").unwrap().to_str().unwrap().to_owned();
        let path = |folder: &str| format!("{}:{path}", base.join(folder).display());
        client.home.environment.set("PATH", path("plain"));
        let begin = client.home.environment.clone();
        client.home.write(FILE, "good");
        client.ask().green();
        let config = Config { cases: SEQUENCES, failure_persistence: None, ..Config::default() };
        let client = std::cell::RefCell::new(client);
        let result = TestRunner::new(config).run(&steps, |steps| {
            let mut client = client.borrow_mut();
            client.home.environment = begin.clone();
            client.home.write(FILE, "good");
            for (name, value) in steps {
                match (name, value) {
                    (FILE, value) => client.home.write(FILE, value.unwrap_or("")),
                    ("PATH", value) => {
                        client.home.environment.set(name, path(value.unwrap_or("plain")));
                    }
                    (_, Some(value)) => client.home.environment.set(name, value),
                    (_, None) => client.home.environment.remove(name),
                }
                let is_bad = |name: &&str| {
                    if *name == FILE {
                        return fs::read(client.home.root.join(FILE)).unwrap() == b"bad";
                    }
                    let value = client.home.environment.get(name).unwrap_or_default();
                    value == "bad" || value == &*path("bad")
                };
                let expected = if READ.iter().any(is_bad) { "fail" } else { "pass" };
                let answer = client.ask();
                prop_assert_eq!(answer.verdict(), expected, "{:#?}", client.home.environment);
            }
            Ok(())
        });
        result.unwrap_or_else(|error| panic!("{error}"));
    });
}

#[test]
fn a_variable_counts_for_examples_in_documentation() {
    if takes_long() {
        return;
    }
    let manifest = "[package]\nname='p'\nversion='0.1.0'\nedition='2021'\n";
    // A part of a word is no word.
    let rest = "pub const NAMES: [&str; 2] = [\"*.tfvars\", \"environment\"];\n";
    let example = |check: &str| format!("//! ```\n//! {check}\n//! ```\n{rest}");
    let literal = "assert_ne!(std::env::var(\"REEF_STATE\").as_deref(), Ok(\"bad\"));";
    let all = "assert!(!std::env::vars_os().any(|(n, v)| n.to_str().unwrap().ends_with(\"_FIX\") \
               && v == \"bad\"));";
    for (check, name) in [(literal, "REEF_STATE"), (all, "UNGUESSED_FIX")] {
        play(&[("src/lib.rs", &example(check)), ("Cargo.toml", manifest)], |client| {
            client.ask().green_from("run");
            if check == literal {
                ask_with(client, "EDITOR", "vi").green_from("cache");
            }
            ask_with(client, name, "bad").red();
        });
    }
}

#[test]
fn a_variable_counts_for_examples_that_call_another_crate() {
    if takes_long() {
        return;
    }
    let manifest = "[package]\nname='p'\nversion='0.1.0'\nedition='2021'\n\
                    [dependencies]\nd = { path = 'd' }\n[workspace]\n";
    let dependency = "[package]\nname='d'\nversion='0.1.0'\nedition='2021'\n";
    let clean = "pub fn is_clean<T>(_: T) -> bool { !std::env::vars_os().any(|(n, v)| \
                 n.to_str().unwrap().ends_with(\"_FIX\") && v == \"bad\") }\n";
    let files = [
        ("src/lib.rs", "//! ```\n//! assert!(d::is_clean(1));\n//! ```\n"),
        ("Cargo.toml", manifest),
        ("d/Cargo.toml", dependency),
        ("d/src/lib.rs", clean),
    ];
    play(&files, |client| {
        client.ask().green_from("run");
        ask_with(client, "UNGUESSED_FIX", "bad").red();
        // One that goes through no variables is known by its sources.
        until_old(&client.home.root.join("d/src/lib.rs"));
        client.home.write("d/src/lib.rs", "pub fn is_clean<T>(_: T) -> bool { true }\n");
        until_old(&client.home.root.join("d/src/lib.rs"));
        client.ask().green();
        assert_eq!(check_with(client, "STARSHIP_SHELL", "zsh").code, Some(0));
        ask_with(client, "STARSHIP_SHELL", "zsh").green_from("cache");
    });
}

#[test]
fn a_program_that_is_optimized_as_a_whole_counts_what_its_code_can_reach() {
    if takes_long() {
        return;
    }
    let all = "#[test] fn t() { assert!(!std::env::vars_os().any(|(n, v)| \
               n.to_str().unwrap().ends_with(\"_FIX\") && v == \"bad\")) }\n";
    let none =
        "#[test] fn t() { assert!(std::process::Command::new(\"true\").status().is_ok()) }\n";
    let profiles = [
        ("RELEASE", &["--release"][..], "fat"),
        ("DEV", &[], "fat"),
        ("RELEASE", &["--release"], "off"),
    ];
    for (profile, option, lto) in profiles {
        let mut home = Home::with(&[("tests/all.rs", all), ("tests/none.rs", none)]);
        home.environment.set(format!("CARGO_PROFILE_{profile}_LTO"), lto);
        home.environment.set(format!("CARGO_PROFILE_{profile}_CODEGEN_UNITS"), "1");
        let ask = |home: &Home| home.test(&[option, &["--no-daemon"]].concat());
        ask(&home).green_from("run");
        home.environment.set("UNGUESSED_FIX", "bad");
        let answer = ask(&home);
        answer.red();
        // The standard library's own use may be compiled into libtest, which then counts.
        let run = answer.run();
        assert!(run == ["all"] || (lto == "fat" && run.contains(&"all".to_owned())), "{answer:#?}");
    }
}
