//! Jobs of CI: no daemon, no service manager, perhaps no home or one that cannot be written, as root
//! and as another user.

#![cfg(target_os = "linux")]

use crate::home::{Answered, EXE, Home, LIMIT, answered, skip};

/// What a job has of the user's folders.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum HomeFolder {
    /// `HOME` is not set, and the account has none.
    None,
    /// A file system that is mounted read-only.
    ReadOnly,
    /// The folder of the home alone.
    Writable,
}

/// Asks as a user with this number, in a namespace of its own; `None` where the system does not allow
/// one.
fn ask(home: &Home, folder: HomeFolder, user: u32) -> Option<Answered> {
    let script = "set -e\n\
                  [ \"$1\" != ReadOnly ] || mount -t tmpfs -o ro none \"$2\"\n\
                  [ \"$1\" = None ] || export HOME=\"$2\"\n\
                  exec unshare -U --map-user=\"$3\" --map-group=\"$3\" -- \"$4\" test --format json";
    let allowed = ["-Urm", "unshare", "-U", "--map-user=4242", "--map-group=4242", "true"];
    if home.start("unshare", &allowed).end(LIMIT).code != Some(0) {
        skip("a job of CI", "user namespaces are not allowed here");
        return None;
    }
    let (folder, user) = (format!("{folder:?}"), user.to_string());
    let path = home.base.join("home").display().to_string();
    let args = ["-Urm", "--", "sh", "-c", script, "sh", &folder, &path, &user, EXE];
    Some(answered(home.start("unshare", &args).end(LIMIT)))
}

fn job() -> Home {
    let mut home = Home::with(&[]);
    for name in ["HOME", "XDG_CONFIG_HOME", "XDG_CACHE_HOME", "XDG_RUNTIME_DIR"] {
        home.environment.remove(name);
    }
    home
}

#[test]
fn a_job_that_can_keep_nothing_is_answered_with_one_warning() {
    let home = job();
    // An account of this number exists on no machine.
    for (folder, user) in
        [(HomeFolder::None, 424_242), (HomeFolder::ReadOnly, 424_242), (HomeFolder::ReadOnly, 0)]
    {
        let Some(answer) = ask(&home, folder, user) else { return };
        answer.green_from("run");
        let told = answer.ran.stderr.lines().filter(|line| line.contains("XDG_CACHE_HOME"));
        assert_eq!(told.count(), 1, "{folder:?}, {user}: {answer:#?}");
    }
}

#[test]
fn a_job_with_a_home_alone_is_answered_from_its_records() {
    for user in [0, 424_242] {
        let home = job();
        let Some(answer) = ask(&home, HomeFolder::Writable, user) else { return };
        answer.green_from("run");
        ask(&home, HomeFolder::Writable, user).unwrap().green_from("cache");
        home.write("src/lib.rs", "#[test] fn one() { panic!() }\n");
        ask(&home, HomeFolder::Writable, user).unwrap().red();
    }
}

/// What needs the user's folders says so, and what to do.
#[test]
fn other_commands_name_the_missing_home() {
    let home = job();
    let script = "exec unshare -U --map-user=424242 --map-group=424242 -- \"$0\" list";
    let ran = home.start("sh", &["-c", script, EXE]).end(LIMIT);
    if ran.stderr.contains("unshare") {
        return skip("a user without an account", &ran.stderr);
    }
    assert_eq!(ran.code, Some(1), "{ran:#?}");
    assert!(ran.stderr.contains("HOME is not set"), "{ran:#?}");
}
