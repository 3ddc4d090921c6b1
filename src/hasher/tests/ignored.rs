//! What git ignores, and what counts all the same.

use super::*;

#[test]
fn ignore_files_hold_at_every_level_and_hidden_files_count() {
    let ground = Ground::with(&[".github/x", "a/x.log", "a/keep.log", "b/build/o", "b/x", "top"]);
    ground.write(".gitignore", "*.log\nbuild/\n/top\n");
    ground.write("a/.gitignore", "!keep.log\n");
    ground.write("a/b/top", "not the anchored one");
    ground.write(".ignore", "b\n");
    let expected =
        [".github/x", ".gitignore", ".ignore", "a/.gitignore", "a/b/top", "a/keep.log", "b/x"];
    assert_eq!(ground.counted(), expected, ".ignore is not git's");
}

#[test]
fn what_is_never_counted() {
    let ground = Ground::with(&[".test-cache/x", "sub/.test-cache/x", "out/x", "f"]);
    ground.git(&["init", "-q"]);
    let options = Options { exclude_dirs: vec![ground.path("out")], ..ground.options() };
    assert_eq!(ground.counted_with(options), ["f", "sub"]);
}

#[test]
fn cargos_own_target_folder_is_known_by_its_tag() {
    let ground = Ground::with(&["Cargo.toml", "target/debug/x", "sub/target/x"]);
    assert_eq!(ground.counted(), ["Cargo.toml", "sub/target/x", "target/debug/x"]);
    let mut living = Living::new(ground.hasher());
    ground.write("target/CACHEDIR.TAG", "Signature: 8a477f597d28d172789f06886806bc55\n# cargo\n");
    ground.write("sub/target/CACHEDIR.TAG", "Signature: 8a477f597d28d172789f06886806bc55\n");
    living.rescan(&[ground.path("target"), ground.path("sub/target")]);
    let expected = ["Cargo.toml", "sub/target/CACHEDIR.TAG", "sub/target/x"];
    assert_eq!(listed(&living.hasher), expected, "beside a manifest only");
    assert_eq!(ground.counted(), expected);
}

#[test]
fn some_files_count_even_if_ignored() {
    let always = ["Cargo.lock", ".env", ".env.local", "rust-toolchain", "rust-toolchain.toml"];
    let ground = Ground::with(&always);
    always.iter().for_each(|file| ground.write(&format!("deep/er/{file}"), ""));
    ground.write("deep/.cargo/config.toml", "");
    ground.write("deep/.cargo/config", "");
    ground.write("deep/.cargo/credentials.toml", "");
    ground.write("gone/Cargo.lock", "in a folder that is not walked");
    ground.write("venv/.env/lib/x", "a folder of that name is no such file");
    ground.write(".gitignore", "*\n!/deep\n!/deep/er\n!/venv\n!.gitignore\n");
    let mut expected: Vec<String> = always.iter().map(|file| (*file).to_owned()).collect();
    expected.extend(always.iter().map(|file| format!("deep/er/{file}")));
    expected.extend(
        [".gitignore", "deep/.cargo/config", "deep/.cargo/config.toml", "venv"].map(str::to_owned),
    );
    expected.sort();
    assert_eq!(ground.counted(), expected);
}

#[test]
fn tracked_files_count_even_if_ignored() {
    // An index that is too young is asked about again anyway.
    [Some(true), None].into_iter().for_each(tracked_files_count);
}

fn tracked_files_count(settled: Option<bool>) {
    let ground = Ground::with(&["gen/a.rs", "gen/b.rs", "gen/deep/c.rs", "x.log", "y.log", "f"]);
    ground.write(".gitignore", "gen/\n*.log\n");
    ground.git(&["init", "-q"]);
    ground.git(&["add", "."]);
    assert_eq!(ground.counted(), [".gitignore", "f"]);
    let mut hasher = ground.hasher();
    hasher.probe.settled = settled;
    let mut living = Living::new(hasher);
    ground.git(&["add", "-f", "gen/deep/c.rs", "x.log"]);
    let with = [".gitignore", "f", "gen/deep/c.rs", "x.log"];
    assert_eq!(ground.counted(), with);
    // Nothing in the tree changed; the index did.
    living.rescan(&[]);
    assert_eq!(listed(&living.hasher), with);
    ground.write("gen/deep/c.rs", "edited");
    living.rescan(&[ground.path("gen/deep")]);
    assert_eq!(living.known(), ground.digest());
    ground.git(&["rm", "-q", "-f", "--cached", "gen/deep/c.rs"]);
    living.rescan(&[]);
    assert_eq!(listed(&living.hasher), [".gitignore", "f", "x.log"]);
    assert_eq!(living.known(), ground.digest());
}

#[test]
fn a_tracked_file_that_comes_back_counts_though_the_index_never_changed() {
    let ground = Ground::with(&["gen/a.rs", "sub/x.log", "sub/.gitignore", "f"]);
    ground.write(".gitignore", "gen/\n");
    ground.write("sub/.gitignore", "*.log\n");
    ground.git(&["init", "-q"]);
    ground.git(&["add", "-f", "."]);
    ground.remove("gen");
    ground.remove("sub");
    let mut living = Living::new(ground.hasher());
    assert_eq!(listed(&living.hasher), [".gitignore", "f"]);
    ground.write("gen/a.rs", "again");
    ground.write("sub/.gitignore", "*.log\n");
    ground.write("sub/x.log", "again");
    living.rescan(std::slice::from_ref(&ground.root));
    let all = [".gitignore", "f", "gen/a.rs", "sub/.gitignore", "sub/x.log"];
    assert_eq!(listed(&living.hasher), all);
    assert_eq!(living.known(), ground.digest());
}

#[test]
fn a_new_rule_that_hides_tracked_files_hides_nothing() {
    let ground = Ground::with(&["a/x.rs", "a/y.rs", "b/z.rs"]);
    ground.git(&["init", "-q"]);
    ground.git(&["add", "a/x.rs"]);
    let mut living = Living::new(ground.hasher());
    ground.write(".gitignore", "/a/\nb\n");
    living.rescan(std::slice::from_ref(&ground.root));
    assert_eq!(listed(&living.hasher), [".gitignore", "a/x.rs"]);
    assert_eq!(living.known(), ground.digest());
    ground.remove(".gitignore");
    living.rescan(std::slice::from_ref(&ground.root));
    assert_eq!(listed(&living.hasher), ["a/x.rs", "a/y.rs", "b/z.rs"]);
}

#[test]
fn tracked_files_in_a_target_folder_count_and_nothing_else_there() {
    let ground = Ground::with(&["out/fixture", "out/debug/x", "out/debug/.env"]);
    ground.git(&["init", "-q"]);
    ground.git(&["add", "out/fixture"]);
    let options = Options {
        exclude_dirs: vec![ground.path("out")],
        extra_inputs: vec!["**/x".to_owned()],
        ..ground.options()
    };
    assert_eq!(ground.counted_with(options), ["out/fixture"]);
}

#[test]
fn without_the_git_program_the_ignore_files_still_hold() {
    let ground = Ground::with(&["a", "b.log"]);
    ground.write(".gitignore", "*.log\n");
    ground.git(&["init", "-q"]);
    ground.git(&["add", "-f", "b.log"]);
    let mut options = ground.options();
    options.environment.set("PATH", "/nonexistent");
    assert_eq!(ground.counted_with(options), [".gitignore", "a"]);
}

#[test]
fn the_users_and_the_repositorys_own_ignore_files_hold_and_are_noticed() {
    let ground = Ground::with(&["a.user", "a.repo", "a.rs"]);
    ground.git(&["init", "-q"]);
    let mut living = Living::new(ground.hasher());
    assert_eq!(listed(&living.hasher), ["a.repo", "a.rs", "a.user"]);
    let home = ground.beside("home");
    fs::create_dir_all(home.join(".config/git")).unwrap();
    fs::write(home.join(".config/git/ignore"), "*.user\n").unwrap();
    ground.write(".git/info/exclude", "*.repo\n");
    living.rescan(&[]);
    assert_eq!(listed(&living.hasher), ["a.rs"]);
    assert_eq!(living.known(), ground.digest());
    fs::write(home.join(".gitconfig"), "[core]\n\texcludesFile = ~/mine # not here\n").unwrap();
    fs::write(home.join("mine"), "*.rs\n").unwrap();
    living.rescan(&[]);
    assert_eq!(listed(&living.hasher), ["a.user"]);
    assert_eq!(living.known(), ground.digest());
}

#[test]
fn a_root_below_the_repositorys_top_obeys_the_files_above_it() {
    let ground = Ground::with(&["ws/a.o", "ws/a.rs", "ws/gone/x", "ws/in/a.tmp"]);
    ground.git(&["init", "-q"]);
    ground.write(".gitignore", "*.o\n/ws/gone\n");
    let options = || ground.options();
    let mut living = Living::new(CodeHasher::with_options(ground.path("ws"), options()).unwrap());
    assert_eq!(listed(&living.hasher), ["a.rs", "in/a.tmp"]);
    ground.write(".gitignore", "*.tmp\n");
    living.rescan(&[]);
    assert_eq!(listed(&living.hasher), ["a.o", "a.rs", "gone/x", "in"]);
    ground.git(&["add", "-f", "ws/in/a.tmp"]);
    living.rescan(&[]);
    assert_eq!(listed(&living.hasher), ["a.o", "a.rs", "gone/x", "in/a.tmp"]);
    // A home folder under git that ignores all but its own dotfiles.
    ground.write(".gitignore", "*\n");
    living.rescan(&[]);
    assert_eq!(listed(&living.hasher), ["a.o", "a.rs", "gone/x", "in/a.tmp"]);
}

#[test]
fn nested_repositories_and_submodules_are_walked_by_their_own_rules() {
    let ground = Ground::with(&["f"]);
    ground.write(".gitignore", "*.o\n");
    ground.git(&["init", "-q"]);
    for name in ["nested", "module"] {
        let folder = if name == "nested" { ground.path(name) } else { ground.beside(name) };
        fs::create_dir_all(&folder).unwrap();
        ground.git_in(&folder, &["init", "-q"]);
        fs::write(folder.join(".gitignore"), "*.x\n").unwrap();
        for file in ["a.o", "a.x", "b.x", "c.y"] {
            fs::write(folder.join(file), file).unwrap();
        }
        ground.git_in(&folder, &["add", "-f", ".gitignore", "a.o", "b.x"]);
        ground.git_in(&folder, &["commit", "-q", "-m", "x"]);
    }
    let module = ground.beside("module");
    ground.git(&["submodule", "add", "-q", module.to_str().unwrap(), "module"]);
    let mut living = Living::new(ground.hasher());
    let mut expected = vec![
        ".gitignore",
        ".gitmodules",
        "f",
        "module/.gitignore",
        "module/a.o",
        "module/b.x",
        "nested/.gitignore",
        "nested/a.o",
        "nested/b.x",
        "nested/c.y",
    ];
    assert_eq!(listed(&living.hasher), expected, "the outer `*.o` ends where they begin");
    fs::write(ground.path("nested/.git/info/exclude"), "*.y\n").unwrap();
    ground.git_in(&ground.path("nested"), &["add", "-f", "a.x"]);
    living.rescan(&[]);
    expected.retain(|file| *file != "nested/c.y");
    expected.insert(8, "nested/a.x");
    assert_eq!(listed(&living.hasher), expected);
    assert_eq!(living.known(), ground.digest());
    ground.remove("nested/.git");
    living.rescan(&[ground.path("nested")]);
    assert_eq!(living.known(), ground.digest());
    assert!(!living.hasher.counts(&ground.path("nested/a.o")), "the outer rules reach in again");
}

#[test]
fn a_worktree_of_a_repository_has_its_own_index() {
    let ground = Ground::with(&["x.log", "f"]);
    ground.write(".gitignore", "*.log\n");
    ground.git(&["init", "-q"]);
    ground.git(&["add", "-f", "."]);
    ground.git(&["commit", "-q", "-m", "x"]);
    let tree = ground.beside("tree");
    ground.git(&["worktree", "add", "-q", tree.to_str().unwrap(), "-b", "other"]);
    ground.write(".git/info/exclude", "*.tmp\n");
    fs::write(tree.join("y.tmp"), "shared excludes").unwrap();
    let mut hasher = CodeHasher::with_options(&tree, ground.options()).unwrap();
    hasher.scan(&mut |_| {});
    assert_eq!(listed(&hasher), [".gitignore", "f", "x.log"]);
    assert_eq!(known(&hasher), ground.digest());
}

#[test]
fn extra_inputs_and_exclusions() {
    let ground = Ground::with(&["gen/a/1.bin", "gen/a/1.txt", "gen/b/2.bin", "data/x/y", "docs/z"]);
    ground.write("src/lib.rs", "");
    ground.write(".gitignore", "gen\ndata\n*.local\n");
    ground.write("src/a.local", "");
    let options = |extra: &[&str], exclude: &[&str]| Options {
        extra_inputs: extra.iter().map(|glob| (*glob).to_owned()).collect(),
        exclude: exclude.iter().map(|glob| (*glob).to_owned()).collect(),
        ..ground.options()
    };
    let counted = |extra: &[&str], exclude: &[&str]| ground.counted_with(options(extra, exclude));
    let usual = [".gitignore", "docs/z", "src/lib.rs"];
    assert_eq!(counted(&[], &[]), usual);
    assert_eq!(counted(&["none/**"], &["nothing"]), usual, "an open folder does not count itself");
    assert_eq!(
        counted(&["gen/**/*.bin"], &[]),
        [".gitignore", "docs/z", "gen/a/1.bin", "gen/b/2.bin", "src/lib.rs"]
    );
    assert_eq!(
        counted(&["data", "src/*.local"], &["docs"]),
        [".gitignore", "data/x/y", "src/a.local", "src/lib.rs"]
    );
    assert_eq!(
        counted(&["gen/**/*.bin"], &["gen/b", "**/*.rs"]),
        [".gitignore", "docs/z", "gen/a/1.bin", "src"]
    );

    let mut living = Living::new(ground.hasher());
    assert!(!living.hasher.set_options(ground.options()).unwrap());
    assert!(living.hasher.set_options(options(&["gen/**"], &["docs"])).unwrap());
    unknown(&living.hasher);
    living.rescan(&[]);
    assert_eq!(living.known(), ground.digest_with(options(&["gen/**"], &["docs"])));
    ground.write("gen/new/file", "");
    living.rescan(&[ground.path("gen")]);
    assert_eq!(living.known(), ground.digest_with(options(&["gen/**"], &["docs"])));
    assert!(living.hasher.set_options(options(&["/absolute"], &[])).is_err());
    assert_eq!(living.known(), ground.digest_with(options(&["gen/**"], &["docs"])));
}

#[test]
fn outside_of_a_repository_no_ignore_file_is_in_force() {
    let ground = Ground::with(&["gen/x", "sub/y.log", "f", ".jj/repo"]);
    ground.write(".gitignore", "/gen\n*.log\n");
    ground.write("sub/.gitignore", "y*\n");
    assert_eq!(ground.counted(), [".gitignore", "f", "sub/.gitignore"]);
    let mut living = Living::new(ground.hasher());
    fs::remove_dir_all(ground.path(".git")).unwrap();
    living.rescan(std::slice::from_ref(&ground.root));
    let all = [".gitignore", "f", "gen/x", "sub/.gitignore", "sub/y.log"];
    assert_eq!(ground.counted(), all);
    assert_eq!(living.known(), ground.digest());
    let before = living.known();
    ground.write("gen/x", "other");
    living.rescan(&[ground.path("gen")]);
    assert_ne!(living.known(), before);
    ground.git(&["init", "-q"]);
    living.rescan(std::slice::from_ref(&ground.root));
    assert_eq!(living.known(), ground.digest());
    assert_eq!(ground.counted(), [".gitignore", "f", "sub/.gitignore"]);
}

#[test]
fn each_root_has_ignore_files_only_in_a_repository_of_its_own() {
    let ground = Ground::with(&["f"]);
    for file in [".gitignore", "gen"] {
        fs::create_dir_all(ground.beside("dep")).unwrap();
        fs::write(ground.beside("dep").join(file), "gen\n").unwrap();
    }
    let options = Options { outside: vec![ground.beside("dep")], ..ground.options() };
    assert_eq!(ground.counted_with(options), ["../dep/.gitignore", "../dep/gen", "f"]);
}

const PACKAGE: &str = "[package]\nname = \"p\"\n";

/// Cargo lists a package's files for its build script: with git if the manifest is in the index.
#[test]
fn ignore_files_have_no_force_in_a_package_that_git_does_not_know() {
    let ground = Ground::with(&["build.rs", "gen/x", "a/gen/x", "a/src/lib.rs"]);
    ground.write(".gitignore", "gen\n");
    ground.write("Cargo.toml", PACKAGE);
    ground.write("a/Cargo.toml", PACKAGE);
    ground.git(&["init", "-q"]);
    let mut living = Living::new(ground.hasher());
    let tracked = [".gitignore", "Cargo.toml", "a/Cargo.toml", "a/src/lib.rs", "build.rs"];
    let all = [".gitignore", "Cargo.toml", "a/Cargo.toml", "a/src/lib.rs", "build.rs", "gen/x"];
    assert_eq!(listed(&living.hasher), all, "`a` has no build script");
    let before = living.known();
    ground.write("gen/x", "other");
    living.rescan(&[ground.path("gen")]);
    assert_ne!(living.known(), before);
    // Nothing in the tree changes; the index does.
    ground.git(&["add", "Cargo.toml"]);
    living.rescan(&[]);
    assert_eq!(listed(&living.hasher), tracked);
    assert_eq!(living.known(), ground.digest());
    ground.git(&["rm", "-q", "--cached", "Cargo.toml"]);
    living.rescan(&[]);
    assert_eq!(listed(&living.hasher), all);
    assert_eq!(living.known(), ground.digest());
}

#[test]
fn a_package_that_lists_its_files_itself_has_no_ignore_files() {
    let ground = Ground::with(&["gen/x", "sub/gen/x", "script.rs", "n/gen/y", "n/build.rs"]);
    ground.write(".gitignore", "gen\n");
    ground.write("Cargo.toml", PACKAGE);
    ground.write("n/Cargo.toml", PACKAGE);
    ground.git(&["init", "-q"]);
    ground.git(&["add", "."]);
    let mut living = Living::new(ground.hasher());
    let tracked = [".gitignore", "Cargo.toml", "n/Cargo.toml", "n/build.rs", "script.rs", "sub"];
    assert_eq!(listed(&living.hasher), tracked);
    ground.write("Cargo.toml", format!("{PACKAGE}build = \"script.rs\"\n"));
    living.rescan(std::slice::from_ref(&ground.root));
    assert_eq!(listed(&living.hasher), tracked);
    ground.write("Cargo.toml", format!("{PACKAGE}build = \"script.rs\"\ninclude = [\"gen\"]\n"));
    living.rescan(std::slice::from_ref(&ground.root));
    let own = [
        ".gitignore",
        "Cargo.toml",
        "gen/x",
        "n/Cargo.toml",
        "n/build.rs",
        "script.rs",
        "sub/gen/x",
    ];
    assert_eq!(listed(&living.hasher), own, "another package's folder has its own rules");
    assert_eq!(living.known(), ground.digest());
    ground.write("Cargo.toml", format!("{PACKAGE}build = false\ninclude = [\"gen\"]\n"));
    living.rescan(std::slice::from_ref(&ground.root));
    assert_eq!(listed(&living.hasher), tracked);
    assert_eq!(living.known(), ground.digest());
}

#[test]
fn a_repository_in_a_package_that_git_does_not_know_has_no_ignore_files_either() {
    let ground = Ground::with(&["build.rs", "n/gen/x"]);
    ground.write("Cargo.toml", PACKAGE);
    ground.git_in(&ground.path("n"), &["init", "-q"]);
    ground.write("n/.gitignore", "gen\n");
    assert_eq!(ground.counted(), ["Cargo.toml", "build.rs", "n/.gitignore", "n/gen/x"]);
    ground.remove("build.rs");
    assert_eq!(ground.counted(), ["Cargo.toml", "n/.gitignore"]);
}
