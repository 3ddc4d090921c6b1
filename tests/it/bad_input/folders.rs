//! Folders that are full, occupied by a file, or too deep.

use std::fs;

use crate::home::{Answered, EXE, Home, LIMIT, answered, skip, takes_long, until};

/// A right answer, and one warning that says where the trouble is.
#[track_caller]
fn right_with_one_warning(answer: &Answered, about: &str) {
    answer.green_from("run");
    assert_eq!(answer.count("passed"), 2);
    let told: Vec<_> = answer.ran.stderr.lines().filter(|line| line.contains(about)).collect();
    assert_eq!(told.len(), 1, "one warning about {about}: {answer:#?}");
}

#[test]
fn a_cache_folder_that_cannot_be_written() {
    let home = Home::with(&[]);
    let place = home.paths().cache_dir;
    fs::write(&place, "in the way").unwrap();
    for _ in 0..2 {
        right_with_one_warning(&home.test(&["--no-daemon"]), &place.display().to_string());
    }
    home.config("", "debounce = '1h'");
    let daemon = home.daemon();
    right_with_one_warning(&home.test(&[]), &place.display().to_string());
    until("nothing stands in its way", || (home.project_status()["state"] == "idle").then_some(()));
    fs::remove_file(&place).unwrap();
    home.test(&[]).green_from("run");
    home.test(&[]).green_from("cache");
    daemon.stop();
}

#[test]
fn a_full_disk_under_the_cache() {
    let home = Home::with(&[]);
    let place = home.paths().cache_dir;
    fs::create_dir_all(&place).unwrap();
    let unshared = home.start("unshare", &["-Urm", "true"]).end(LIMIT);
    if unshared.code != Some(0) {
        return skip("a full disk", &unshared.stderr);
    }
    // Room for the folders, and then for nothing more.
    let script = "mount -t tmpfs -o size=128k none \"$1\" || exit 99\n\
                  exe=$2; shift 2\n\
                  \"$exe\" test --no-daemon --no-run >/dev/null 2>&1\n\
                  cat /dev/zero > \"$XDG_CACHE_HOME/knhk-test-cache/fill\" 2>/dev/null\n\
                  exec \"$exe\" \"$@\"";
    let place = place.display().to_string();
    let line = ["-Urm", "sh", "-c", script, "sh", &place, EXE, "test", "--format", "json"];
    let answer = answered(home.start("unshare", &line).end(LIMIT));
    right_with_one_warning(&answer, &place);
    assert!(answer.ran.stderr.to_lowercase().contains("no space"), "{answer:#?}");
}

#[test]
fn a_socket_path_that_is_too_long_for_the_system() {
    let mut home = Home::with(&[]);
    let long = home.base.join("run").join("x".repeat(120));
    fs::create_dir(&long).unwrap();
    home.environment.set("XDG_RUNTIME_DIR", &long);
    home.config("", "");
    let daemon = home.run(&["daemon"]);
    assert_eq!(daemon.code, Some(1), "{daemon:#?}");
    assert!(daemon.stderr.contains("XDG_RUNTIME_DIR"), "what to do: {daemon:#?}");
    let answer = home.test(&[]);
    answer.green_from("run");
    assert!(answer.ran.stderr.contains("XDG_RUNTIME_DIR"), "{answer:#?}");
    home.test(&[]).green_from("cache");
    let status = home.run(&["status"]);
    assert!(status.stderr.contains("XDG_RUNTIME_DIR"), "{status:#?}");
}

#[test]
fn a_runtime_folder_that_is_open_to_others() {
    use std::os::unix::fs::PermissionsExt as _;
    let home = Home::with(&[]);
    home.config("", "");
    let dir = home.paths().runtime_dir;
    fs::create_dir(&dir).unwrap();
    fs::set_permissions(&dir, fs::Permissions::from_mode(0o755)).unwrap();
    let daemon = home.run(&["daemon"]);
    assert_eq!(daemon.code, Some(1), "{daemon:#?}");
    assert!(daemon.stderr.contains("chmod 700"), "{daemon:#?}");
}

#[test]
fn a_project_folder_that_vanishes_and_comes_back() {
    let home = Home::with(&[]);
    home.config("", "debounce = '50ms'");
    let _daemon = home.daemon();
    home.test(&[]).green_from("run");
    let aside = home.base.join("aside");
    fs::rename(&home.root, &aside).unwrap();
    until("the daemon notices", || {
        let status = home.start_in(&home.base, EXE, &["status", "--format", "json"], false);
        let status: serde_json::Value = serde_json::from_str(&status.end(LIMIT).stdout).unwrap();
        (status["projects"][0]["state"] == "missing").then_some(())
    });
    fs::rename(&aside, &home.root).unwrap();
    let answer = home.test(&[]);
    answer.green_from("cache");
    home.write("src/lib.rs", "#[test] fn one() { panic!() }\n");
    home.test(&[]).red();
}

#[test]
fn a_target_directory_that_two_projects_share() {
    if takes_long() {
        return;
    }
    let home = Home::with(&[]);
    let other = home.base.join("other");
    fs::create_dir_all(other.join("src")).unwrap();
    let manifest = fs::read_to_string(home.root.join("Cargo.toml")).unwrap();
    fs::write(other.join("Cargo.toml"), manifest.replace("'p'", "'o'")).unwrap();
    fs::write(other.join("src/lib.rs"), "#[test] fn one() {}\n").unwrap();
    // One project configures it, the other links to it.
    let shared = home.base.join("shared");
    fs::create_dir(&shared).unwrap();
    home.write(".cargo/config.toml", &format!("[build]\ntarget-dir = {shared:?}\n"));
    std::os::unix::fs::symlink(&shared, other.join("target")).unwrap();
    home.config(&format!("[[project]]\npath = {other:?}"), "debounce = '1ms'");
    let daemon = home.daemon();
    let projects = until("both are built", || {
        let status = home.status();
        let projects = status["projects"].as_array().unwrap().clone();
        let built = |project: &serde_json::Value| {
            project["state"] == "idle" && project["last_build"]["success"] == true
        };
        projects.iter().all(built).then_some(projects)
    });
    for (project, with) in projects.iter().zip([&home.root, &other]) {
        let said = format!("shares the target directory {} with", shared.display());
        let notes = project["notes"].to_string();
        assert!(notes.contains(&said), "{with:?}: {project:#?}");
    }
    assert!(home.ok(&["status"]).contains("one build at a time"));
    home.test(&[]).green();
    home.test(&["--project", other.to_str().unwrap()]).green();
    home.test(&[]).green_from("cache");
    home.test(&["--project", other.to_str().unwrap()]).green_from("cache");
    daemon.stop();
}

#[test]
fn every_folder_below_the_cache_is_for_its_user_alone() {
    use std::os::unix::fs::PermissionsExt as _;
    let home = Home::with(&[]);
    home.config("", "debounce = '1h'\ntarget_dir = 'own'");
    let daemon = home.daemon();
    home.test(&[]).green();
    home.test(&["--no-daemon", "--no-cache"]).green();
    home.ok(&["pause", "1h"]);
    home.run(&["test", "--no-daemon", "--format", "terse", "--", "--skip", "one"]);
    daemon.stop();
    let mut open = Vec::new();
    let mut todo = vec![home.paths().cache_dir];
    let mut seen = 0;
    while let Some(folder) = todo.pop() {
        seen += 1;
        let mode = fs::metadata(&folder).unwrap().permissions().mode() & 0o777;
        // Cargo makes what lies in a target directory.
        let is_targets = folder.ends_with("targets");
        if mode != 0o700 {
            open.push((folder.clone(), mode));
        }
        let inside = fs::read_dir(&folder).unwrap().flatten().map(|entry| entry.path());
        todo.extend(inside.filter(|path| !is_targets && path.is_dir() && !path.is_symlink()));
    }
    assert!(seen > 5 && open.is_empty(), "{seen} folders, open: {open:?}");
}
