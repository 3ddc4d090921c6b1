//! `config cargo --write` and `--undo`: the file of cargo's configuration keeps what is in it, and
//! `doctor` tells whether plain `cargo test` is cached.

use std::fs;

use crate::home::Home;

const FILE: &str = ".cargo/config.toml";
const BEFORE: &str = "# mine\n[target.'cfg(all())']\nrustflags = [ \"-Cdebuginfo=1\" ] # kept\n";

fn doctor(home: &Home) -> String {
    let ran = home.run(&["doctor"]);
    let mut lines = ran.stdout.lines().chain(ran.stderr.lines());
    lines.find(|line| line.contains("runner: ")).unwrap_or_default().to_owned()
}

#[test]
fn an_edit_of_cargos_config_keeps_everything_and_is_taken_back() {
    let home = Home::with(&[(FILE, BEFORE)]);
    home.config("", "");
    let read = || fs::read_to_string(home.root.join(FILE)).unwrap();
    assert!(doctor(&home).contains("is not cached here"), "{}", doctor(&home));
    let written = home.run(&["config", "cargo", "--write"]);
    assert_eq!(written.code, Some(0), "{written:#?}");
    let text = read();
    for kept in ["# mine\n", "rustflags = [ \"-Cdebuginfo=1\" ] # kept\n", "\"exec\""] {
        assert!(text.contains(kept), "{text}");
    }
    assert!(!doctor(&home).contains("is not cached here"), "{}", doctor(&home));
    // Cargo still understands its config, and asks us.
    for _ in 0..2 {
        let ran = home.cargo(&["test", "--offline"]);
        assert_eq!(ran.code, Some(0), "{ran:#?}");
    }
    let again = home.run(&["config", "cargo", "--write"]);
    assert!(again.code == Some(0) && again.stderr.contains("already"), "{again:#?}");
    assert_eq!(read(), text);
    let undone = home.run(&["config", "cargo", "--undo"]);
    assert_eq!(undone.code, Some(0), "{undone:#?}");
    assert_eq!(read(), BEFORE);
    assert!(doctor(&home).contains("is not cached here"), "{}", doctor(&home));
    // A runner that was there goes on after ours, and nothing is said to be cached.
    fs::write(home.root.join(FILE), "[target.'cfg(all())']\nrunner = 'env A=1'\n").unwrap();
    let written = home.run(&["config", "cargo", "--write"]);
    for said in [written.stderr, doctor(&home)] {
        assert!(said.contains("not cached here: `exec` starts the runner `env A=1`"), "{said}");
    }
}
