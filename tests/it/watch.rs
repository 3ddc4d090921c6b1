//! `watch`: the state as lines, once and as it changes, and as a live view.

mod clients;
mod terminal;

use std::io::{BufRead as _, BufReader};
use std::process::{Child, Stdio};
use std::sync::mpsc::channel;

use crate::home::{EXE, Home, LIMIT, takes_long, until};

const GREEN: &str = "#[test]\nfn one() {\n    assert_eq!(1, 1);\n}\n";
const RED: &str = "#[test]\nfn one() {\n    assert_eq!(1, 2);\n}\n";

#[test]
fn once_tells_the_state_as_it_is_and_ends() {
    let home = Home::with(&[("src/lib.rs", GREEN)]);
    home.config("", "debounce = '20ms'");
    let daemon = home.daemon();
    home.test(&[]).green();
    let ran = home.run(&["watch", "--once"]);
    assert_eq!(ran.code, Some(0), "{ran:#?}");
    assert!(ran.stdout.contains(": green, 1 passed, "), "{ran:#?}");

    home.write("src/lib.rs", RED);
    home.test(&[]).red();
    let ran = home.run(&["watch", "--once"]);
    assert_eq!(ran.code, Some(101), "{ran:#?}");
    let failure = "error: test one failed: assertion `left == right` failed; left: 1; right: 2\n \
                   --> src/lib.rs:3:5\n";
    assert!(ran.stdout.starts_with(failure), "{ran:#?}");
    assert!(ran.stdout.contains(": red, 0 passed, 1 failed, "), "{ran:#?}");
    daemon.stop();
}

/// Cargo compares times only, and calls a build fresh whose file was replaced by an older one.
#[test]
fn a_build_that_cargo_wrongly_calls_fresh_is_not_told_as_this_tree() {
    let home = Home::with(&[("src/lib.rs", RED)]);
    home.config("", "debounce = '20ms'\nbackground_tests = true");
    let (lib, backup) = (home.root.join("src/lib.rs"), home.base.join("backup.rs"));
    // A copy would be younger than the build.
    std::fs::rename(&lib, &backup).unwrap();
    home.write("src/lib.rs", GREEN);
    let daemon = home.daemon();
    home.test(&[]).green();
    let mut watch = watch_on_a_pipe(&home, &[]);
    let mut lines = BufReader::new(watch.stdout.take().unwrap()).lines().map_while(Result::ok);
    assert!(lines.any(|line| line.ends_with("Exit status: 0]")), "green before");

    std::fs::rename(&backup, &lib).unwrap();
    let ran = home.test(&[]);
    ran.green();
    assert!(ran.summary["not_kept"].to_string().contains("src/lib.rs"), "{ran:#?}");
    let once = home.run(&["watch", "--once"]);
    assert_eq!(once.code, Some(10), "{once:#?}");

    // Another green is told only once cargo has seen the file, which is red.
    let touched = std::fs::File::options().append(true).open(&lib).unwrap();
    touched.set_modified(std::time::SystemTime::now()).unwrap();
    home.test(&[]).red();
    let next = lines.find(|line| line.starts_with("[Finished running.") && !line.ends_with(" 10]"));
    let next = next.unwrap();
    assert_eq!(next, "[Finished running. Exit status: 101]");
    watch.kill().unwrap();
    watch.wait().unwrap();
    daemon.stop();
}

/// `watch` on a pipe.
#[expect(clippy::disallowed_methods, reason = "the pipe's other end is to be closed")]
fn watch_on_a_pipe(home: &Home, args: &[&str]) -> Child {
    std::process::Command::new(EXE)
        .arg("watch")
        .args(args)
        .current_dir(&home.root)
        .env_clear()
        .envs(home.environment.iter())
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap()
}

#[test]
fn a_failure_after_an_edit_is_told_on_a_pipe_until_that_is_closed() {
    if takes_long() {
        return;
    }
    let home = Home::with(&[("src/lib.rs", GREEN)]);
    home.config("", "debounce = '20ms'\nbackground_tests = true");
    let daemon = home.daemon();
    let mut watch = watch_on_a_pipe(&home, &[]);
    let stdout = BufReader::new(watch.stdout.take().unwrap());
    let (tell, lines) = channel();
    // The pipe is closed when nobody hears the lines any more.
    let reader = std::thread::spawn(move || {
        stdout.lines().map_while(Result::ok).try_for_each(|line| tell.send(line)).is_err()
    });
    let mut block = Vec::new();
    let mut wait_for_end = |status: &str| {
        let end = format!("[Finished running. Exit status: {status}]");
        loop {
            let line = lines.recv_timeout(LIMIT).unwrap_or_else(|error| {
                panic!("waited in vain for {end}: {error}: {block:#?}");
            });
            if line.starts_with("[Running ") {
                block.clear();
            }
            block.push(line);
            if *block.last().unwrap() == end {
                return block.clone();
            }
        }
    };
    let green = wait_for_end("0");
    assert_eq!(green.len(), 3, "{green:#?}");
    home.write("src/lib.rs", RED);
    let red = wait_for_end("101");
    assert_eq!(red[0], "[Running 'cargo test']");
    assert!(red[1].starts_with("error: test one failed: "), "{red:#?}");
    assert_eq!(red[2], " --> src/lib.rs:3:5");
    assert!(red[3].contains(": red, 0 passed, 1 failed, "), "{red:#?}");
    assert_eq!(red.len(), 5, "{red:#?}");

    drop(lines);
    home.write("src/lib.rs", GREEN);
    assert!(reader.join().unwrap(), "the pipe was closed by this side");
    let status = until("watch ends", || watch.try_wait().unwrap());
    assert_eq!(status.code(), Some(141));
    let stderr = std::io::read_to_string(watch.stderr.take().unwrap()).unwrap();
    assert_eq!(stderr, "");
    daemon.stop();
}
