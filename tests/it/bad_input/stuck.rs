//! Background builds that stall: they time out, `status` says so, and the same tree is not built
//! again.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use serde_json::Value;

use crate::home::{Home, LIMIT, takes_long, until};

/// Waits until a build was ended; gives the state.
fn ended(home: &Home) -> Value {
    until("the build was ended", || {
        let status = home.project_status();
        (status["state"] == "failed").then_some(status)
    })
}

/// A cargo that stands before the real one: `script` sees its arguments and may fall through.
fn before_cargo(home: &mut Home, script: &str) {
    let folder = home.base.join("bin");
    fs::create_dir(&folder).unwrap();
    let real = home.environment.find_program(Path::new("cargo"), Path::new("/")).unwrap();
    let cargo = folder.join("cargo");
    let text = format!("#!/bin/sh\n{script}\nexec {} \"$@\"\n", real.display());
    fs::write(&cargo, text).unwrap();
    fs::set_permissions(&cargo, fs::Permissions::from_mode(0o755)).unwrap();
    let path = home.environment.get("PATH").unwrap().to_str().unwrap().to_owned();
    home.environment.set("PATH", format!("{}:{path}", folder.display()));
}

#[test]
fn a_build_script_that_never_ends() {
    if takes_long() {
        return;
    }
    let script = "fn main() {\n\
         \x20   println!(\"cargo::rerun-if-changed=build.rs\");\n\
         \x20   use std::io::Write;\n\
         \x20   let mut log = std::fs::File::options().create(true).append(true)\
         .open(std::env::var(\"HOME\").unwrap() + \"/begun\").unwrap();\n\
         \x20   writeln!(log, \"x\").unwrap();\n\
         \x20   loop { std::thread::sleep(std::time::Duration::from_secs(1)) }\n}\n";
    let home = Home::with(&[("build.rs", script)]);
    home.config("", "debounce = '1ms'\nbuild_timeout = '8s'");
    let begun = || {
        let text = fs::read_to_string(home.base.join("home/begun")).unwrap_or_default();
        text.lines().count()
    };
    let daemon = home.daemon();
    let status = ended(&home);
    let reason = status["reason"].as_str().unwrap();
    assert!(reason.contains("ended") && reason.contains("p(build)"), "{reason}");
    assert_eq!(status["last_build"]["ended"].as_str(), Some(reason));
    assert!(daemon.stderr().contains("p(build)"), "{}", daemon.stderr());
    assert!(home.left_over().iter().all(|line| !line.contains("build-script-build")));
    assert_eq!(begun(), 1);
    // The same tree is not built again, whatever happens meanwhile.
    home.write("target/noise", "");
    home.write(".git/noise", "");
    home.ok(&["explain"]);
    assert_eq!((begun(), &home.project_status()["state"]), (1, &Value::from("failed")));
    // An edit is another tree.
    home.write("src/lib.rs", "#[test] fn other() {}\n");
    until("it is tried again", || (begun() == 2).then_some(()));
    ended(&home);
    // A repaired build succeeds.
    home.write("build.rs", "fn main() {}\n");
    home.config("", "debounce = '1ms'");
    until("it is built", || {
        let status = home.project_status();
        (status["state"] == "idle" && status["last_build"]["success"] == true).then_some(())
    });
    daemon.stop();
}

#[test]
fn a_network_that_does_not_answer() {
    let mut home = Home::with(&[]);
    let calls = home.base.join("calls");
    // As a cargo that needs an index which it cannot reach.
    let script = format!(
        "case \"$*\" in\n\
         test*) echo \"$*\" >> {calls}\n\
         case \"$*\" in *--frozen*) echo 'error: failed to download' >&2; exit 101 ;; esac\n\
         printf '    Updating crates.io index\\n' >&2; sleep 1000 ;;\nesac",
        calls = calls.display()
    );
    before_cargo(&mut home, &script);
    home.write("Cargo.lock", "version = 4\n\n[[package]]\nname = \"p\"\nversion = \"0.1.0\"\n");
    home.config("", "debounce = '1ms'\nbuild_timeout = '1s'");
    let daemon = home.daemon();
    let reason = ended(&home)["reason"].as_str().unwrap().to_owned();
    assert!(reason.contains("Updating crates.io index"), "{reason}");
    let asked = fs::read_to_string(&calls).unwrap();
    let frozen: Vec<_> = asked.lines().map(|line| line.contains("--frozen")).collect();
    assert_eq!(frozen, [true, false], "the lock file first: {asked}");
    // Another project of the same service is not kept waiting for ever, nor is a command.
    assert_eq!(home.status()["running"], true);
    daemon.stop();
    assert_eq!(home.left_over(), Vec::<String>::new());
}

#[test]
fn a_complete_lock_file_needs_no_network_and_an_incomplete_one_is_written() {
    if takes_long() {
        return;
    }
    let mut home = Home::with(&[]);
    let calls = home.base.join("calls");
    let script = format!("case \"$1\" in test) echo \"$*\" >> {} ;; esac", calls.display());
    before_cargo(&mut home, &script);
    home.config("", "debounce = '1ms'");
    let frozen = || -> Vec<bool> {
        let text = fs::read_to_string(&calls).unwrap_or_default();
        text.lines().map(|line| line.contains("--frozen")).collect()
    };
    // After a step, all is at rest once a build of the very tree has ended.
    let step = |home: &Home, path: &str, text: &str| -> Vec<bool> {
        let before = home.project_status();
        let calls = frozen().len();
        // At one moment: an empty manifest is a build of its own.
        let file = home.base.join("step");
        fs::write(&file, text).unwrap();
        fs::rename(file, home.root.join(path)).unwrap();
        until("the step is built", || {
            let status = home.project_status();
            let other = |what: &str| status[what] != before[what];
            let built = status["last_build"]["when"] != before["last_build"]["when"];
            let done = status["state"] == "idle" && status["last_build"]["success"] == true;
            (other("code_hash") && built && done).then_some(())
        });
        frozen().split_off(calls)
    };
    let daemon = home.daemon();
    until("it is built, and the lock file seen", || {
        let status = home.project_status();
        let done = status["state"] == "idle" && status["last_build"]["success"] == true;
        (done && home.root.join("Cargo.lock").exists()).then_some(())
    });
    assert_eq!(frozen().first(), Some(&false), "there was no lock file");
    // It counts, so that there may have been another build when it came: two steps are sure.
    step(&home, "src/lib.rs", "#[test] fn one() {}\n");
    let calls = step(&home, "src/lib.rs", "#[test] fn other() {}\n");
    assert!(!calls.is_empty() && calls.iter().all(|frozen| *frozen), "{calls:?}");
    // Another version stands in the manifest than in the lock file.
    let manifest = fs::read_to_string(home.root.join("Cargo.toml")).unwrap();
    let calls = step(&home, "Cargo.toml", &manifest.replace("0.1.0", "0.1.1"));
    assert!(calls.starts_with(&[true, false]), "{calls:?}");
    let locked = || fs::read_to_string(home.root.join("Cargo.lock")).unwrap().contains("0.1.1");
    assert!(locked());
    until("it is at rest", || (home.project_status()["state"] == "idle").then_some(()));
    let by_hand = home.start("cargo", &["test", "--no-run", "--workspace", "-v"]).end(LIMIT);
    assert!(!by_hand.stderr.contains("Dirty"), "{by_hand:#?}");
    daemon.stop();
}
