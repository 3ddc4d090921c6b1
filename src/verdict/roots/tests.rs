//! Paths of one machine, looked at on another one.

use super::*;
use crate::cache::InputState;

fn roots(home: &str, workspace: &str) -> SymbolicRoots {
    roots_by(&[("HOME", home)], workspace)
}

fn roots_by(variables: &[(&str, &str)], workspace: &str) -> SymbolicRoots {
    let environment = Environment::of(variables);
    let home = environment.get("HOME").unwrap();
    let (toolchain, key) = (Path::new(home).join("rust"), Path::new("/keys/ci"));
    let workspace = Path::new(workspace);
    SymbolicRoots::of(workspace, workspace, &environment, Some(&toolchain), Some(key))
}

#[test]
fn a_path_leads_to_the_same_thing_on_another_machine() {
    let (one, other) = (roots("/home/a", "/home/a/src/w"), roots("/root", "/build/w"));
    for (path, there) in [
        ("/home/a/src/w/tests/data", "/build/w/tests/data"),
        ("/home/a/src/w", "/build/w"),
        ("/home/a/src", "/build"),
        ("/home/a/.gitconfig", "/root/.gitconfig"),
        ("/home/a/.cargo/registry/x", "/root/.cargo/registry/x"),
        ("/home/a/rust/lib/rustlib", "/root/rust/lib/rustlib"),
        ("/tmp/x", "/tmp/x"),
        ("/etc/hosts", "/etc/hosts"),
    ] {
        let shared = one.portable(Path::new(path)).unwrap();
        assert!(!shared.path.0.to_string_lossy().contains("home"), "{shared:?}");
        assert_eq!(other.local(&shared), Ok(PathBuf::from(there)), "{path}");
    }
    for (path, why) in [("/home/b/x", "home folder"), ("/keys/ci", "signing key")] {
        assert!(one.portable(Path::new(path)).unwrap_err().contains(why));
    }
    let shared = one.portable(Path::new("/home/a/rust/lib/rustlib")).unwrap();
    assert_eq!(shared.root, Some(SymbolicRoot::Toolchain));
    let (environment, workspace) = (Environment::default(), Path::new("/w"));
    let without = SymbolicRoots::of(workspace, workspace, &environment, None, None);
    assert!(without.local(&shared).is_err(), "its toolchain lies among other things");
    let up = one.portable(Path::new("/home/a/src/w/..")).unwrap();
    assert!(other.local(&up).is_err(), "no way out of a folder");
    assert!(other.local(&PortablePath::plain(Path::new("x"))).is_err());
    let high = PortablePath { root: Some(SymbolicRoot::Above(9)), path: OsText::from("") };
    assert!(other.local(&high).is_err());
}

fn inputs(paths: &[&str], state: InputState) -> Vec<Input> {
    paths.iter().map(|path| Input { path: path.into(), state, proof: None }).collect()
}

const FOUND: InputState = InputState::Overwritable;

/// Where a run of a reader would look for what a writer's run has consulted.
#[track_caller]
fn assert_readings(writer: &SymbolicRoots, reader: &SymbolicRoots, path: &str, expected: &[&str]) {
    let shared = writer.portable(Path::new(path)).unwrap();
    let readings = reader.readings(&shared, &writer.places()).unwrap();
    assert_eq!(readings, expected.iter().map(PathBuf::from).collect(), "{path}");
}

#[test]
fn a_path_counts_by_every_name_of_its_root() {
    let writer = roots("/home/a", "/home/a/src/w");
    let alike = roots("/home/b", "/build/w");
    let tools = [("CARGO_HOME", "/usr/local/cargo"), ("RUSTUP_HOME", "/usr/local/rustup")];
    let homes = [("HOME", "/home/b"), ("TMPDIR", "/scratch"), tools[0], tools[1]];
    let other = roots_by(&homes, "/build/w");
    for (path, by_alike, by_other) in [
        ("/tmp/x", "/tmp/x", &["/scratch/x", "/tmp/x"][..]),
        ("/home/a/.cargo/x", "/home/b/.cargo/x", &["/usr/local/cargo/x", "/home/b/.cargo/x"]),
        ("/home/a/.rustup/x", "/home/b/.rustup/x", &["/usr/local/rustup/x", "/home/b/.rustup/x"]),
        ("/home/a/.gitconfig", "/home/b/.gitconfig", &["/home/b/.gitconfig"]),
        ("/home/a/src/w/x", "/build/w/x", &["/build/w/x"]),
        ("/etc/hosts", "/etc/hosts", &["/etc/hosts"]),
    ] {
        assert_readings(&writer, &alike, path, &[by_alike]);
        assert_readings(&writer, &other, path, by_other);
    }
    // A folder above the checkout that a variable names, too.
    assert_readings(&writer, &alike, "/home/a", &["/", "/home/b"]);

    // Beside a checkout that lies directly in the home.
    let beside = roots_by(&[("HOME", "/home/a"), ("TMPDIR", "/home/a/tmp")], "/home/a/w");
    assert_readings(&beside, &alike, "/home/a/data/x", &["/home/b/data/x", "/build/data/x"]);
    assert_readings(&beside, &roots("/home/c", "/home/c/v"), "/home/a/x", &["/home/c/x"]);
    assert_readings(&beside, &alike, "/home/a/tmp/x", &["/tmp/x", "/home/b/tmp/x", "/build/tmp/x"]);
    assert_readings(&beside, &alike, "/home/a/.cargo/x", &["/home/b/.cargo/x"]);

    // Two folders below it: perhaps `../../data`.
    let deeper = roots("/home/b", "/home/b/deep/er/w");
    assert_readings(&writer, &deeper, "/home/a/x", &["/home/b/x", "/home/b/deep/x"]);
    assert_readings(&writer, &deeper, "/home/a/.gitconfig", &["/home/b/.gitconfig"]);

    let inside =
        roots_by(&[("HOME", "/home/a"), ("CARGO_HOME", "/projects/w/.cargo")], "/projects/w");
    let by_both = ["/home/b/.cargo/x", "/build/w/.cargo/x"];
    assert_readings(&inside, &alike, "/projects/w/.cargo/x", &by_both);
    let same = roots_by(&[("HOME", "/tmp")], "/projects/w");
    assert_readings(&same, &other, "/tmp/x", &["/scratch/x", "/home/b/x", "/tmp/x"]);
    let checkout = roots("/projects/w", "/projects/w");
    assert_readings(
        &checkout,
        &alike,
        "/projects/w/.gitconfig",
        &["/build/w/.gitconfig", "/home/b/.gitconfig"],
    );
}

#[test]
fn a_search_on_the_way_up_from_the_temporary_folder_passes_other_folders_elsewhere() {
    let by = |temporary: &str| {
        roots_by(&[("HOME", "/home/a"), ("TMPDIR", temporary)], "/projects/deep/w")
    };
    let in_home = by("/home/a/own/tmp");
    let looked_for = |reader: &SymbolicRoots, writer: &SymbolicRoots, path: &str| {
        let name = writer.portable(Path::new(path)).unwrap();
        let paths = reader.each_above(&name, &writer.places(), &BTreeSet::new()).unwrap();
        paths.iter().map(|path| path.display().to_string()).collect::<Vec<_>>()
    };
    let above = ["/.git", "/home/.git", "/home/a/.git", "/home/a/own/.git"];
    assert_eq!(looked_for(&in_home, &by("/tmp"), "/tmp/.git"), above);
    assert_eq!(looked_for(&by("/tmp"), &by("/tmp"), "/tmp/.git"), [""; 0]);

    // What was looked for above the writer's.
    let names = |temporary: &str, absent: &[&str]| {
        let names = by(temporary).absent_above(&inputs(absent, InputState::Absent))?;
        Ok::<_, String>(names.into_iter().map(|name| name.path.0).collect::<Vec<_>>())
    };
    let of_ci = names("/data/ci/tmp", &["/data/ci/.git", "/etc/x"]);
    assert_eq!(of_ci.unwrap(), [".git", "data/ci/.git"]);
    assert_eq!(names("/home/a/own/tmp", &["/home/a/.git"]).unwrap(), [".git"]);
    let searched = PortablePath { root: Some(SymbolicRoot::EachAbove), path: OsText::from(".git") };
    let paths = in_home.each_above(&searched, &by("/tmp").places(), &BTreeSet::new()).unwrap();
    for folder in ["/", "/projects/deep", "/home/a/own"] {
        assert!(paths.contains(&Path::new(folder).join(".git")), "{folder}: {paths:?}");
    }
    assert!(names("/data/ci/tmp", &["/data/ci/tmp-2"]).is_err(), "it is made of the folder's name");
    let mut found = inputs(&["/home/a/.git"], FOUND);
    assert!(in_home.absent_above(&found).is_ok(), "by `$HOME`");
    found.extend(inputs(&["/home/a/own/tmp/.git"], InputState::Absent));
    assert!(in_home.absent_above(&found).is_err(), "perhaps by a search");
}

#[test]
fn what_a_search_from_the_checkout_finds_is_not_shared() {
    let roots = roots("/home/a", "/home/a/src/w");
    let check = |paths: &[&str]| roots.absent_above(&inputs(paths, FOUND));
    let is_shared = |paths: &[&str]| check(paths) == Ok(Vec::new());
    let known = ["/etc/hosts", "/home/a/.gitconfig", "tests/data", "/home/a/.cargo/config"];
    assert!(is_shared(&known));
    assert!(is_shared(&["/home/a/src", "/home/a", "/home", "/", "/settings"]));
    let lib = inputs(&["lib", "/lib"], InputState::Kind(crate::model::Digest::of(b"")));
    assert_eq!(roots.absent_above(&lib), Ok(Vec::new()));
    for found in [
        &["/home/a/src/settings"][..],
        &["/home/settings"],
        &["/home/a/settings", "/home/a/src/settings"],
        &["/home/a/settings", "settings"],
        &["/settings", "settings"],
    ] {
        assert!(check(found).is_err(), "{found:?}");
    }
}

#[test]
fn what_is_looked_for_in_vain_on_the_way_up_is_absent_above_other_checkouts() {
    let names = |workspace: &str, paths: &[&str]| -> Result<Vec<PathBuf>, String> {
        let shared =
            roots("/home/a", workspace).absent_above(&inputs(paths, InputState::Absent))?;
        assert!(shared.iter().all(PortablePath::is_each_above));
        Ok(shared.into_iter().map(|name| PathBuf::from(name.path.0)).collect())
    };
    let of = |paths: &[&str]| names("/home/a/src/w", paths);
    let found = |names: &[&str]| Ok(names.iter().map(PathBuf::from).collect());
    assert_eq!(of(&["/etc/settings", "tests/data", "/home/a/.cargo/x"]), found(&[]));
    assert_eq!(of(&["/home/a/src/x", "/home/a/x", "/home/x", "/x"]), found(&["x"]));
    assert_eq!(of(&["/home/a/src/.cargo/c", "/y"]), found(&[".cargo/c", "y"]));
    assert_eq!(of(&["/home/a/.gitconfig"]), found(&[".gitconfig"]), "perhaps `../../.gitconfig`");
    assert_eq!(of(&["/home/.cargo/c", "/.cargo/c"]), found(&[".cargo/c"]));
    assert_eq!(names("/w", &["/settings", "/etc/settings"]), found(&["settings"]));
    assert_eq!(names("/w", &["settings/x", "/settings/x"]), found(&["settings/x"]));
    assert_eq!(names("/app", &["/fixtures/data.json"]), found(&["fixtures/data.json"]));
    assert_eq!(names("/build/app", &["/x/y", "/etc/x", "/usr/x"]), found(&["x/y"]));
    let of_homes = roots("/home/a", "/home/a/src/w");
    let plain = |path: &str| of_homes.portable_absent(Path::new(path)).map(|path| path.root);
    assert_eq!(plain("/home/.cargo/config.toml"), Ok(None));
    assert_eq!(plain("/home/x"), Ok(None));
    assert!(plain("/home/other/.cargo").is_err(), "another user's");
    let checkout = |paths: &[&str]| names("/build/toml", paths);
    assert_eq!(checkout(&["/build/Cargo.toml"]), found(&["Cargo.toml"]));
    assert!(checkout(&["/build/.toml.lock"]).is_err() && checkout(&["/build/mytoml"]).is_err());
    for made_of_the_way in
        ["/home/a/src/w-data", "/home/a/src.lock", "/home2", "/home/a/.w.lock", "/home/.w"]
    {
        assert!(of(&[made_of_the_way]).is_err(), "{made_of_the_way}");
    }
    let in_home = roots("/home/a", "/home/a/w").absent_above(&inputs(&["/home/a/w.lock"], FOUND));
    assert!(in_home.is_err(), "not named by `$HOME`");
    let mut both = inputs(&["/home/a/src/x"], FOUND);
    both.extend(inputs(&["/home/a/x"], InputState::Absent));
    assert!(roots("/home/a", "/home/a/src/w").absent_above(&both).is_err());
}

#[test]
fn an_absent_name_is_looked_for_in_every_folder_above() {
    let reader = roots("/home/b", "/home/b/deep/er/w");
    let name =
        |text: &str| PortablePath { root: Some(SymbolicRoot::EachAbove), path: OsText::from(text) };
    let paths = |named: &[&str], text: &str| {
        let named = named.iter().map(PathBuf::from).collect();
        let paths = reader.each_above(&name(text), &[], &named)?;
        Ok::<Vec<_>, String>(paths.iter().map(|path| path.display().to_string()).collect())
    };
    let all = ["/x", "/home/x", "/home/b/x", "/home/b/deep/x", "/home/b/deep/er/x"];
    assert_eq!(paths(&[], "x").unwrap(), all);
    assert_eq!(paths(&["/home/b/x", "/home/b/deep/er/w/x"], "x").unwrap().len(), all.len() - 1);
    for odd in ["../x", "/etc/passwd", "x/../..", "", ".", ".."] {
        assert!(paths(&[], odd).is_err(), "{odd}");
    }
    assert_eq!(paths(&[], "x/.").unwrap(), all, "a file there is no absence");
    assert!(reader.local(&name("x")).is_err(), "it is no single path");
}

#[test]
fn folders_above_a_link_are_above_what_it_leads_to() {
    let dir = tempfile::tempdir().unwrap();
    let base = dir.path().canonicalize().unwrap();
    let (workspace, link) = (base.join("real/w"), base.join("links/w"));
    for folder in [&workspace.join("sub"), link.parent().unwrap()] {
        std::fs::create_dir_all(folder).unwrap();
    }
    std::os::unix::fs::symlink(&workspace, &link).unwrap();
    let above = |start: &Path, pwd: &Path| {
        let mut environment = Environment::default();
        environment.set("PWD", pwd);
        let roots = SymbolicRoots::of(&workspace, start, &environment, None, None);
        assert!(roots.above.contains(&base.join("real")) && roots.above.contains(&base));
        assert!(!roots.above.iter().any(|folder| folder.ends_with("w")), "{roots:?}");
        roots.above.contains(&base.join("links"))
    };
    assert!(!above(&workspace, &workspace));
    assert!(above(&link, &workspace));
    assert!(above(&workspace, &link.join("sub")));
    assert!(!above(&workspace, &base.join("links")), "it is not inside");
    let mut environment = Environment::default();
    environment.set("PWD", &link);
    let roots = SymbolicRoots::of(&workspace, &workspace, &environment, None, None);
    let beside = base.join("links/sibling.toml");
    let looked = inputs(&[beside.to_str().unwrap()], InputState::Absent);
    let names = roots.absent_above(&looked).unwrap();
    assert_eq!(names.len(), 1, "it lies beside the link: {names:?}");
}

#[test]
fn values_hold_symbols() {
    let (one, other) = (roots("/home/a", "/home/a/src/w"), roots("/root", "/build/w"));
    let text = |roots: &SymbolicRoots, text: &str| roots.text(text.as_bytes());
    assert_eq!(text(&one, "/home/a"), text(&other, "/root"));
    assert_eq!(text(&one, "x:/home/a/bin"), text(&other, "x:/root/bin"));
    assert_eq!(text(&one, "/home/a/src/w/x"), text(&other, "/build/w/x"));
    assert_ne!(text(&one, "/home/a"), text(&other, "/build/w"));
    assert_ne!(text(&one, "/home/alice"), text(&other, "/rootlice"));
}

#[test]
fn names_that_are_made_of_a_users_number_are_known() {
    for path in ["/tmp/app-1000.lock", "/run/user/1000", "/tmp/krb5cc_1000", "1000"] {
        assert!(has_number(Path::new(path), 1000), "{path}");
    }
    for path in ["/tmp/app-10001.lock", "/tmp/21000", "/usr/lib/libx.so.10", "/etc/hosts"] {
        assert!(!has_number(Path::new(path), 1000), "{path}");
    }
    assert!(!has_number(Path::new("/dev/fd/0"), 0) && !has_number(Path::new("/x33"), 33));
}
