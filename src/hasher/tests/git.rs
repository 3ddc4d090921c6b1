//! Git's own files, read by us.

use super::super::tests::Ground;
use super::*;

#[test]
fn the_config_is_understood_as_far_as_it_concerns_us() {
    let value =
        |text: &str| excludes_file_in(text.as_bytes()).map(|v| String::from_utf8(v).unwrap());
    assert_eq!(value("[core]\n\texcludesFile = /a b\n"), Some("/a b".into()));
    assert_eq!(value("[CORE] ExcludesFile=\"/a # b\" ; why\n"), Some("/a # b".into()));
    assert_eq!(value("[core]\nexcludesfile = /a\\\\b\n[core]\nexcludesfile=/c"), Some("/c".into()));
    assert_eq!(value("[user]\nexcludesfile = /a\n"), None);
    assert_eq!(value("[core \"x\"]\nexcludesfile = /a\n"), None);
    assert_eq!(value("[core]\nexcludesfile\n# excludesfile = /a\n"), None);
    assert_eq!(value("[core\nexcludesfile = /a\n"), None);
}

#[test]
fn the_users_ignore_file_is_where_git_looks_for_it() {
    let mut environment = Environment::default();
    environment.set("GIT_CONFIG_NOSYSTEM", "1");
    let ground = Ground::with(&["config"]);
    ground.git(&["init", "-q"]);
    let repository = Repository::at(&ground.root).unwrap();
    assert_eq!(excludes_file(&repository, &environment), None);
    environment.set("HOME", "/h");
    assert_eq!(excludes_file(&repository, &environment), Some("/h/.config/git/ignore".into()));
    environment.set("XDG_CONFIG_HOME", "/x");
    assert_eq!(excludes_file(&repository, &environment), Some("/x/git/ignore".into()));
    std::fs::write(ground.path("config"), "[core]\nexcludesFile = ~/mine\n").unwrap();
    environment.set("GIT_CONFIG_GLOBAL", ground.path("config"));
    assert_eq!(excludes_file(&repository, &environment), Some("/h/mine".into()));
    ground.git(&["config", "core.excludesFile", "/own"]);
    assert_eq!(excludes_file(&repository, &environment), Some("/own".into()));
    ground.git(&["config", "core.excludesFile", "in/it"]);
    assert_eq!(excludes_file(&repository, &environment), Some(ground.path("in/it")));
    ground.git(&["config", "--unset", "core.excludesFile"]);
    environment.set("GIT_CONFIG_GLOBAL", "");
    assert_eq!(excludes_file(&repository, &environment), Some("/x/git/ignore".into()));
}

#[test]
fn a_folder_that_only_looks_like_a_repository_is_none() {
    let ground = Ground::with(&["a/.git/x", "b/.git", "c/f"]);
    fs::remove_dir_all(ground.path(".git")).unwrap();
    ground.write("d/.git", "gitdir: nowhere\n");
    for folder in ["a", "b", "c", "d"] {
        assert_eq!(Repository::at(&ground.path(folder)), None, "{folder}");
    }
    assert_eq!(Repository::around(&ground.path("a")), None);
    ground.git(&["init", "-q"]);
    let around = Repository::around(&ground.path("c")).unwrap();
    assert_eq!(around.work(), ground.root);
}

#[test]
fn another_repository_that_the_environment_names_is_not_asked() {
    let ground = Ground::with(&["a", "b"]);
    ground.git(&["init", "-q"]);
    ground.git(&["add", "a"]);
    let mut environment = ground.environment();
    environment.set("GIT_DIR", "/nonexistent");
    environment.set("GIT_INDEX_FILE", "/nonexistent");
    let files = tracked(&ground.root, &environment).unwrap();
    assert_eq!(files, [ground.path("a").into_os_string().into_encoded_bytes()]);
}
