//! Clients in a container or sandbox, where a path can name another file than for the daemon.

#![cfg(target_os = "linux")]

use crate::home::{EXE, Home, LIMIT, Ran, answered, is_root, skip};

/// Runs a shell command in a mount namespace of its own; none where the system does not allow that.
fn in_sandbox(home: &Home, script: &str) -> Option<Ran> {
    let flags: &[&str] = if is_root() { &["--mount"] } else { &["--mount", "--user", "-r"] };
    let sandbox = |script: &str| {
        let args = [flags, &["--propagation", "private", "sh", "-c", script]].concat();
        home.start("unshare", &args).end(LIMIT)
    };
    let allowed = sandbox("true").code == Some(0);
    allowed.then(|| sandbox(script))
}

#[test]
fn a_client_that_sees_another_tree_answers_by_itself() {
    let home = Home::with(&[]);
    home.config("", "debounce = '1h'");
    let daemon = home.daemon();
    home.test(&[]).green_from("run");
    home.test(&[]).green_from("cache");
    // The daemon sees the green tree at this path, the client a red one.
    let red = home.base.join("red");
    std::fs::create_dir_all(red.join("src")).unwrap();
    for file in ["Cargo.toml", "Cargo.lock"] {
        std::fs::copy(home.root.join(file), red.join(file)).unwrap();
    }
    std::fs::write(red.join("src/lib.rs"), "#[test] fn one() { panic!() }\n").unwrap();
    let root = home.root.display();
    let script = format!(
        "mount --bind {} {root} && cd {root} && exec {EXE} test --format json",
        red.display()
    );
    let Some(ran) = in_sandbox(&home, &script) else {
        return skip("a client in a sandbox", "mount namespaces are not allowed here");
    };
    assert!(ran.stderr.contains("container or sandbox"), "{ran:#?}");
    assert!(ran.stderr.contains("working without it"), "{ran:#?}");
    answered(ran).red();
    assert!(daemon.stderr().contains("refused a connection"), "{}", daemon.stderr());
    home.test(&[]).green_from("cache");
    daemon.stop();
}
