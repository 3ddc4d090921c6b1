//! Tests of the edits: nothing of the user's text is lost.

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};

use proptest::prelude::*;

use super::super::error::Fault;
use super::super::load;
use super::super::tests::{Home, cases};
use super::*;

impl Home {
    fn add(&self, path: &Path) -> Result<AddedProject, EditError> {
        add(&self.paths, &self.environment, path)
    }

    fn remove(&self, path: &Path) -> Result<RemovedProject, EditError> {
        remove(&self.paths, &self.environment, path)
    }

    fn text(&self) -> String {
        fs::read_to_string(&self.paths.config_file).unwrap()
    }

    fn projects(&self) -> Vec<PathBuf> {
        self.load().unwrap().config.projects.into_iter().map(|project| project.path).collect()
    }
}

#[test]
fn the_first_project_makes_the_file() {
    let home = Home::new();
    let (one, two) = (home.folder("one"), home.folder("two $x"));
    assert_eq!(home.add(&one).unwrap(), AddedProject::New { path: one.clone(), created: true });
    assert_eq!(home.add(&two).unwrap(), AddedProject::New { path: two.clone(), created: false });
    assert_eq!(home.projects(), [one.clone(), two.clone()]);
    let text = home.text();
    assert!(text.starts_with("# The configuration of knhk-test-cache"), "{text}");
    assert!(text.ends_with("\"\n") && text.contains("\n# ttl = \"1h\"\n"), "{text}");
    let mode = fs::metadata(&home.paths.config_file).unwrap().permissions().mode();
    assert_eq!(mode & 0o600, 0o600);
    home.remove(&one).unwrap();
    home.remove(&two).unwrap();
    assert_eq!(home.text(), starting_text());
}

#[test]
fn the_template_is_the_default_with_nothing_pinned() {
    let home = Home::with(starting_text());
    assert_eq!(home.load().unwrap().config, Home::new().load().unwrap().config);
    let table = toml::from_str::<toml::Table>(&starting_text()).unwrap();
    assert!(table.values().all(|value| value.as_table().is_some_and(toml::Table::is_empty)));
}

#[test]
fn twice_is_said_and_changes_nothing() {
    let home = Home::new();
    let one = home.folder("one");
    symlink(&one, home.paths.home.join("link")).unwrap();
    home.write("# mine\n\n[[project]]\npath = '~/one'");
    for way in ["one", "link", "one/../one/", "./one"] {
        let added = home.add(&home.paths.home.join(way)).unwrap();
        assert_eq!(added, AddedProject::AlreadyThere { path: one.clone(), line: 3 }, "{way}");
    }
    assert_eq!(home.text(), "# mine\n\n[[project]]\npath = '~/one'");
}

#[test]
fn removing_keeps_what_is_around() {
    let home = Home::new();
    for name in ["a", "b", "c"] {
        home.folder(name);
    }
    home.write(
        "# head\n[[project]] # a\npath = '~/a'\n# above b\n  [[project]]\nargs = [ # why\n\
         \x20 '--lib',\n]\npath = '~/b' # b\n# below b\n\n# above c\n[[project]]\npath = '~/c'\n# end",
    );
    let path = home.paths.home.join("b");
    // Its folder may be gone.
    fs::remove_dir(&path).unwrap();
    assert_eq!(home.remove(&path).unwrap(), RemovedProject { path, entries: 1 });
    assert_eq!(
        home.text(),
        "# head\n[[project]] # a\npath = '~/a'\n# above b\n# below b\n\n# above c\n[[project]]\n\
         path = '~/c'\n# end"
    );
}

#[test]
fn an_unknown_project_is_answered_with_the_known_ones() {
    let home = Home::new();
    let error = |home: &Home| home.remove(Path::new("/no/such")).unwrap_err().to_string();
    assert_eq!(error(&home), "the project `/no/such` is not in the config; it lists none");
    assert!(!home.paths.config_file.parent().unwrap().exists(), "nothing is made for that");
    let one = home.folder("one");
    home.add(&one).unwrap();
    assert!(error(&home).ends_with(&format!("it lists `{}`", one.display())));
}

#[test]
fn a_repeated_entry_can_be_removed() {
    let home = Home::new();
    let (one, two) = (home.folder("one"), home.folder("two"));
    let entry = |name: &str| format!("[[project]]\npath = '~/{name}'\n");
    home.write([entry("one"), entry("two"), entry("one")].concat());
    assert!(home.load().is_err() && home.add(&home.folder("three")).is_err());
    assert_eq!(home.remove(&one).unwrap().entries, 2);
    assert_eq!(home.projects(), [two]);
}

#[test]
fn what_is_no_config_is_never_touched() {
    let home = Home::new();
    let one = home.folder("one");
    for bad in ["[defaults", "[defaults]\nfoo = 1\n", "[[project]]\npath = '$NO'\n", "project = 1"]
    {
        home.write(bad);
        assert!(matches!(home.add(&one), Err(EditError::Config(_))), "{bad}");
        assert!(matches!(home.remove(&one), Err(EditError::Config(_))), "{bad}");
        assert_eq!(home.text(), bad);
    }
    home.write(b"\xff");
    assert!(matches!(home.add(&one), Err(EditError::Config(_))));
    assert_eq!(fs::read(&home.paths.config_file).unwrap(), b"\xff");
    // Nor is one written.
    let good = "# good\n";
    home.write(good);
    let error = home.add(&home.paths.home.join("gone")).unwrap_err();
    let EditError::Config(error) = error else { panic!("{error}") };
    assert!(matches!(error.fault(), Fault::Missing(_)));
    assert!(matches!(home.add(Path::new("one")), Err(EditError::Relative(_))));
    assert!(matches!(home.remove(Path::new("one")), Err(EditError::Relative(_))));
    assert_eq!(home.text(), good);
}

#[test]
fn an_inline_list_is_left_to_its_author() {
    let home = Home::new();
    let one = home.folder("one");
    for text in ["project = []\n", "\n\nproject = [{ path = '~/two' }]\n"] {
        home.write(text);
        let error = home.add(&one).unwrap_err();
        let line = text.matches('\n').count();
        assert!(matches!(error, EditError::Inline { line: at, .. } if at == line), "{error}");
        assert_eq!(home.text(), text);
    }
    let error = home.remove(&home.paths.home.join("two")).unwrap_err();
    assert!(matches!(error, EditError::Inline { .. }), "{error}");
}

#[test]
fn a_linked_config_stays_linked_and_keeps_its_mode() {
    let home = Home::with("");
    let one = home.folder("one");
    let dotfiles = home.folder("dotfiles").join("cache.toml");
    let link = &home.paths.config_file;
    fs::rename(link, &dotfiles).unwrap();
    fs::set_permissions(&dotfiles, fs::Permissions::from_mode(0o640)).unwrap();
    symlink(&dotfiles, link).unwrap();
    home.add(&one).unwrap();
    assert_eq!(fs::read_link(link).unwrap(), dotfiles);
    assert_eq!(home.projects(), std::slice::from_ref(&one));
    assert_eq!(fs::metadata(&dotfiles).unwrap().permissions().mode() & 0o777, 0o640);
    fs::set_permissions(&dotfiles, fs::Permissions::from_mode(0o440)).unwrap();
    assert!(matches!(home.remove(&one), Err(EditError::ReadOnly(_))));
    assert_eq!(home.projects(), std::slice::from_ref(&one));
    fs::remove_file(&dotfiles).unwrap();
    assert!(matches!(home.add(&one), Err(EditError::Config(_))), "a dangling link is an error");
    assert!(fs::read_link(link).is_ok());
}

#[test]
fn names_that_toml_cannot_hold_are_refused() {
    use std::os::unix::ffi::OsStrExt as _;
    let home = Home::new();
    let odd = home.paths.home.join(std::ffi::OsStr::from_bytes(b"\xff"));
    assert!(matches!(home.add(&odd), Err(EditError::NotUtf8(_))));
}

#[test]
fn many_editors_at_once_lose_nothing() {
    let home = Home::new();
    let folders = (0..8).map(|i| home.folder(&format!("p{i}"))).collect::<Vec<_>>();
    let barrier = std::sync::Barrier::new(folders.len());
    std::thread::scope(|scope| {
        for folder in &folders {
            let (home, barrier) = (&home, &barrier);
            scope.spawn(move || {
                barrier.wait();
                home.add(folder).unwrap();
            });
        }
    });
    let mut projects = home.projects();
    projects.sort();
    assert_eq!(projects, folders);
    std::thread::scope(|scope| {
        for folder in &folders {
            scope.spawn(|| home.remove(folder).unwrap());
        }
    });
    assert_eq!(home.text(), starting_text());
    let left = fs::read_dir(home.paths.config_file.parent().unwrap()).unwrap().count();
    assert_eq!(left, 1, "no temporary or lock file is left");
}

#[test]
fn the_list_has_lines_and_problems() {
    let home = Home::with("# x\n[[project]]\npath = '~/one'\n\n[[project]]\npath = '~/two'\n");
    let one = home.folder("one");
    let listed = list(&home.paths, &home.environment).unwrap();
    assert_eq!(
        listed[0],
        ListedProject { path: one, written: "~/one".into(), line: 2, problem: None }
    );
    assert_eq!(listed[1].line, 5);
    assert!(matches!(listed[1].problem.as_ref().unwrap().fault(), Fault::Missing(_)));
}

/// Files as people write them, with comments everywhere.
fn any_config() -> impl Strategy<Value = String> {
    let comment = "(# [a-zä \\[\\]='\"]{0,12})?";
    let block = prop_oneof![
        comment.prop_map(|comment: String| format!("{comment}\n")),
        Just("\n".to_owned()),
        Just("   \n".to_owned()),
        (0..20_u8, comment, comment).prop_map(|(name, head, tail)| {
            format!("[[project]] {head}\n{tail}\npath = '/n/{name}' {tail}\n{head}\n")
        }),
        (0..20_u8, comment).prop_map(|(name, comment)| format!(
            "  [[ project ]]\nargs = [ {comment}\n  '--lib', # all\n]\n\tpath= \"/n/{name}\"\n"
        )),
    ];
    let head = prop_oneof![
        Just(""),
        Just("# top\n"),
        Just("[defaults]\nttl = '2h' # why\n\n# so\n"),
        Just("defaults.ttl = '2h'\n[log]\nlevel = 'warn'\n"),
    ];
    let blocks = proptest::collection::vec(block, 0..8);
    (any::<bool>(), head, blocks, any::<bool>(), any::<bool>()).prop_map(
        |(mark, head, blocks, windows, ended)| {
            let mut text = format!("{head}{}", blocks.concat());
            if !ended && text.ends_with('\n') {
                text.pop();
            }
            if windows {
                text = text.replace('\n', "\r\n");
            }
            if mark { format!("\u{feff}{text}") } else { text }
        },
    )
}

proptest! {
    #![proptest_config(cases(256))]

    #[test]
    fn what_is_added_and_removed_again_leaves_the_same_bytes(text in any_config()) {
        let home = Home::new();
        let folder = home.folder("new");
        home.write(&text);
        let Ok(before) = load(&home.paths, &home.environment) else {
            // The same project twice.
            prop_assert!(home.add(&folder).is_err());
            prop_assert_eq!(home.text(), text);
            return Ok(());
        };
        home.add(&folder).unwrap();
        prop_assert!(home.text().starts_with(&text));
        prop_assert_eq!(home.projects().pop(), Some(folder.clone()));
        home.remove(&folder).unwrap();
        prop_assert_eq!(home.text(), text);
        prop_assert_eq!(home.load().unwrap().config, before.config);
    }

    #[test]
    fn removing_any_project_takes_nothing_else(text in any_config(), which: prop::sample::Index) {
        let home = Home::with(&text);
        let Ok(before) = home.load() else { return Ok(()) };
        if before.config.projects.is_empty() {
            return Ok(());
        }
        let gone = which.get(&before.config.projects).path.clone();
        home.remove(&gone).unwrap();
        let mut expected = before.config;
        expected.projects.retain(|project| project.path != gone);
        prop_assert_eq!(home.load().unwrap().config, expected);
        // Each comment line outside of the entry, which has at most one, is still there.
        let lines = |text: &str| {
            let text = text.trim_start_matches('\u{feff}');
            text.lines().filter(|line| line.starts_with('#')).count()
        };
        prop_assert!(lines(&home.text()) + 1 >= lines(&text));
    }
}
