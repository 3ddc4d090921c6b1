//! What surrounds the command: completion in shells, manual pages, `cargo knhk`.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use crate::home::{EXE, Home, LIMIT, can_observe, skip};

const MODULE: &str = "mod inner { #[test] fn one() {} #[test] fn two() {} }\n";

/// A user who has the command in `PATH`.
fn installed(files: &[(&str, &str)]) -> Home {
    let mut home = Home::with(files);
    let own = Path::new(EXE).parent().unwrap().to_owned();
    let path = home.environment.get("PATH").unwrap().to_owned();
    let path = std::iter::once(own).chain(std::env::split_paths(&path));
    let path = std::env::join_paths(path).unwrap();
    home.environment.set("PATH", path);
    home
}

/// The words of a command line as bash sees them: a colon is a word of its own.
fn words(line: &str) -> Vec<String> {
    let mut words = Vec::new();
    for part in line.split(' ') {
        let mut word = String::new();
        for c in part.chars() {
            if (c == ':') != word.ends_with(':') && !word.is_empty() {
                words.push(std::mem::take(&mut word));
            }
            word.push(c);
        }
        words.push(word);
    }
    words
}

/// What bash offers after the line.
fn offered(home: &Home, line: &str) -> Vec<String> {
    let script = "eval \"$(knhk-test-cache completions bash)\" && complete -p knhk-test-cache >&2\n\
                  COMP_WORDS=(\"$@\"); COMP_CWORD=$(($# - 1)); COMP_TYPE=9\n\
                  _knhk_test_cache; printf '%s\\n' \"${COMPREPLY[@]}\"";
    let words = words(line);
    let mut args = vec!["--norc", "--noprofile", "-c", script, "bash"];
    args.extend(words.iter().map(String::as_str));
    let ran = home.start("bash", &args).end(LIMIT);
    assert!(ran.stderr.contains("-F _knhk_test_cache knhk-test-cache"), "{ran:#?}");
    assert_eq!(ran.code, Some(0), "{ran:#?}");
    ran.stdout.lines().map(str::to_owned).filter(|line| !line.is_empty()).collect()
}

#[test]
fn bash_completes_commands_packages_targets_and_tests() {
    let home = installed(&[
        ("src/lib.rs", MODULE),
        ("tests/smoke.rs", "#[test] fn smokes() {}\n"),
        ("examples/show.rs", "fn main() {}\n"),
    ]);
    // Nothing is known of this workspace.
    assert_eq!(offered(&home, "knhk-test-cache test --test "), [""; 0]);
    home.test(&["--no-daemon"]).green_from("run");
    for (line, expected) in [
        ("knhk-test-cache expl", &["explain"][..]),
        ("knhk-test-cache test --format te", &["text", "terse"]),
        ("knhk-test-cache test -p ", &["p"]),
        ("knhk-test-cache test --exclude ", &["p"]),
        ("knhk-test-cache test --test ", &["smoke"]),
        ("knhk-test-cache test --bench ", &[]),
        ("knhk-test-cache test smo", &["smokes"]),
        ("knhk-test-cache test inn", &["inner::one", "inner::two"]),
        // Bash puts in what follows the last colon.
        ("knhk-test-cache test inner::", &["one", "two"]),
        ("knhk-test-cache test inner::t", &["two"]),
        ("knhk-test-cache explain p::", &["smoke"]),
        ("knhk-test-cache help in-the", &["in-the-background"]),
    ] {
        let found: BTreeSet<_> = offered(&home, line).into_iter().collect();
        let expected: BTreeSet<_> = expected.iter().map(|word| (*word).to_owned()).collect();
        assert_eq!(found, expected, "{line}");
    }
}

/// What the scripts of other shells ask is answered too.
#[test]
fn other_shells_ask_the_same_way() {
    let home = installed(&[("src/lib.rs", MODULE)]);
    home.test(&["--no-daemon"]).green_from("run");
    for shell in ["zsh", "fish", "elvish", "powershell"] {
        let script = home.ok(&["completions", shell]);
        assert!(script.contains("KNHK_TEST_CACHE_COMPLETE"), "{shell}: {script}");
        let words = format!("KNHK_TEST_CACHE_COMPLETE={shell}");
        let index = "_CLAP_COMPLETE_INDEX=3";
        let args = [&words, index, EXE, "--", "knhk-test-cache", "test", "-p", ""];
        let ran = home.start("env", &args).end(LIMIT);
        assert_eq!((ran.code, ran.stdout.trim()), (Some(0), "p"), "{shell}: {ran:#?}");
    }
    let start = "command -v fish >/dev/null || exit 77; exec fish --no-config -c \"$0\"";
    let offered =
        "knhk-test-cache completions fish | source; complete -C 'knhk-test-cache test in'";
    let ran = home.start("sh", &["-c", start, offered]).end(LIMIT);
    if ran.code == Some(77) {
        skip("completion in fish", "there is no fish");
    } else {
        assert_eq!((ran.code, &*ran.stdout), (Some(0), "inner::one\ninner::two\n"), "{ran:#?}");
    }
}

/// Paths of the manual pages of a command and of those below it.
fn pages(home: &Home, command: &str) -> Vec<String> {
    let words: Vec<_> = command.split('-').skip(3).collect();
    let help = home.ok(&[&words[..], &["--help"]].concat());
    let mut found = vec![format!("{command}.1")];
    let below = help.lines().skip_while(|line| *line != "Commands:").skip(1);
    for line in below.take_while(|line| !line.is_empty()) {
        // A command starts in the second column; what is said of it may take several lines.
        if let Some(name) = line.strip_prefix("  ").filter(|line| !line.starts_with(' ')) {
            let name = name.split_whitespace().next().unwrap();
            found.extend(pages(home, &format!("{command}-{name}")));
        }
    }
    found
}

#[test]
fn each_command_has_a_manual_page() {
    let home = Home::new();
    let folder = home.base.join("out/man");
    std::fs::create_dir(&folder).unwrap();
    home.ok(&["man", folder.to_str().unwrap()]);
    let pages = pages(&home, "knhk-test-cache");
    assert!(pages.len() > 20, "{pages:?}");
    for page in pages {
        let text = std::fs::read_to_string(folder.join(&page));
        let text = text.unwrap_or_else(|error| panic!("{page}: {error}"));
        assert!(text.contains(".SH SYNOPSIS"), "{page}: {text}");
    }
}

/// The installed pair, in a folder of its own.
fn pair(home: &Home) -> PathBuf {
    let folder = home.base.join("bin");
    std::fs::create_dir(&folder).unwrap();
    for program in [EXE, env!("CARGO_BIN_EXE_cargo-knhk")] {
        let program = Path::new(program);
        std::os::unix::fs::symlink(program, folder.join(program.file_name().unwrap())).unwrap();
    }
    folder
}

#[test]
fn cargo_knhk_is_the_same_command() {
    if !can_observe("cargo knhk") {
        return;
    }
    let mut home = Home::with(&[]);
    let path = home.environment.get("PATH").unwrap().to_owned();
    let path = [std::env::split_paths(&path).collect(), vec![pair(&home)]].concat();
    home.environment.set("PATH", std::env::join_paths(path).unwrap());
    let version = home.start("cargo", &["knhk", "--version"]).end(LIMIT);
    assert!(version.stdout.starts_with("knhk-test-cache "), "{version:#?}");
    home.test(&["--no-daemon"]).green_from("run");
    // What cargo and rustup set for a subcommand changes no answer.
    let args = ["knhk", "test", "--no-daemon", "--format", "json"];
    let answer = crate::home::answered(home.start("cargo", &args).end(LIMIT));
    answer.green_from("cache");
    home.write("src/lib.rs", "#[test] fn one() { panic!() }\n");
    let red = home.start("cargo", &["knhk", "test"]).end(LIMIT);
    assert_eq!(red.code, Some(101), "{red:#?}");
    // The words after the first one belong to the command.
    let help = home.start("cargo", &["knhk", "help", "knhk"]).end(LIMIT);
    assert!(help.stderr.contains("no topic `knhk`"), "{help:#?}");
}
