//! Random edits: whatever happened, looking at the touched folders alone gives what a hasher
//! without a past gives the whole tree, and the watches are where they must be.

use proptest::prelude::*;

use super::*;

#[derive(Clone, Debug)]
enum Edit {
    Write(String, u8),
    /// Into a file that is there, as through a memory map: nothing is told.
    WriteUnseen(String, u8),
    Ignore(String, usize),
    IgnoreUnseen(String, usize),
    Remove(String),
    Rename(String, String),
    Mkdir(String),
    Mode(String, bool),
    Link(String, String),
    HardLink(String, String),
    Track(String),
    Untrack(String),
}

/// Few names, so that edits meet.
fn path() -> impl Strategy<Value = String> {
    let name = prop::sample::select(vec![
        "a",
        "b",
        "c.log",
        "gen",
        ".env",
        "Cargo.toml",
        "build.rs",
        "target",
    ]);
    prop::collection::vec(name, 1..4).prop_map(|names| names.join("/"))
}

const RULES: [&str; 7] =
    ["", "gen\n", "*.log\n", "/a\n", "!gen\n!*.log\n", "b/\n!/b/a\n", "*\n!a\n"];

const MANIFESTS: [&[u8]; 4] = [
    b"[package]\n",
    b"[package]\nbuild = 'a'\n",
    b"[package]\ninclude = ['a']\n",
    b"[workspace]\n",
];

fn edit() -> impl Strategy<Value = Edit> {
    prop_oneof![
        4 => (path(), any::<u8>()).prop_map(|(path, byte)| Edit::Write(path, byte % 4)),
        2 => (path(), any::<u8>()).prop_map(|(path, byte)| Edit::WriteUnseen(path, byte % 4)),
        2 => (path(), 0..RULES.len()).prop_map(|(path, rule)| Edit::Ignore(path, rule)),
        1 => (path(), 0..RULES.len()).prop_map(|(path, rule)| Edit::IgnoreUnseen(path, rule)),
        2 => path().prop_map(Edit::Remove),
        3 => (path(), path()).prop_map(|(from, to)| Edit::Rename(from, to)),
        2 => path().prop_map(Edit::Mkdir),
        1 => (path(), any::<bool>()).prop_map(|(path, on)| Edit::Mode(path, on)),
        1 => (path(), path()).prop_map(|(text, at)| Edit::Link(text, at)),
        1 => (path(), path()).prop_map(|(from, to)| Edit::HardLink(from, to)),
        1 => path().prop_map(Edit::Track),
        1 => path().prop_map(Edit::Untrack),
    ]
}

fn text_of<'a>(path: &str, byte: &'a u8) -> &'a [u8] {
    match path.ends_with("Cargo.toml") {
        true => MANIFESTS[usize::from(*byte)],
        false => std::slice::from_ref(byte),
    }
}

/// Writes into a file of the tree that is there, and not through a link: its own folder is looked at.
fn write_into(file: &Path, text: &[u8]) {
    if file.symlink_metadata().is_ok_and(|meta| meta.is_file())
        && file.canonicalize().is_ok_and(|real| real == file)
    {
        fs::write(file, text).unwrap();
    }
}

/// Does the edit if it can be done, and tells the folders in which names changed, as events would.
fn apply(ground: &Ground, edit: &Edit) -> Vec<PathBuf> {
    // The kernel tells the real folder, whatever links led to it.
    let real = |folder: PathBuf| folder.canonicalize().unwrap_or(folder);
    let parent = |path: &str| real(ground.path(path).parent().unwrap().to_owned());
    let made = |path: &str| {
        // An event for every folder that had to be made.
        let folder = ground.path(path).parent().unwrap().to_owned();
        let missing: Vec<_> = folder
            .ancestors()
            .take_while(|folder| folder.symlink_metadata().is_err())
            .map(|folder| real(folder.parent().unwrap().to_owned()))
            .collect();
        let _ = fs::create_dir_all(&folder);
        missing
    };
    match edit {
        Edit::WriteUnseen(path, byte) => {
            write_into(&ground.path(path), text_of(path, byte));
            vec![]
        }
        Edit::IgnoreUnseen(folder, rule) => {
            write_into(&ground.path(folder).join(".gitignore"), RULES[*rule].as_bytes());
            vec![]
        }
        Edit::Write(path, byte) => {
            let mut told = made(path);
            let _ = fs::write(ground.path(path), text_of(path, byte));
            told.push(parent(path));
            told.extend(real(ground.path(path)).parent().map(Path::to_owned));
            told
        }
        Edit::Ignore(folder, rule) => {
            let _ = fs::write(ground.path(folder).join(".gitignore"), RULES[*rule]);
            vec![real(ground.path(folder))]
        }
        Edit::Remove(path) => {
            let at = ground.path(path);
            let mut told = vec![parent(path)];
            if at.symlink_metadata().is_ok_and(|meta| meta.is_dir()) {
                told.push(real(at.clone()));
                let _ = fs::remove_dir_all(at);
            } else {
                let _ = fs::remove_file(at);
            }
            told
        }
        Edit::Rename(from, to) => {
            let mut told = made(to);
            told.push(parent(from));
            let _ = fs::rename(ground.path(from), ground.path(to));
            told.extend([parent(from), parent(to)]);
            told
        }
        Edit::Mkdir(path) => {
            let told = made(&format!("{path}/x"));
            told.into_iter().chain([parent(path)]).collect()
        }
        Edit::Mode(path, on) => {
            let at = ground.path(path);
            if at.symlink_metadata().is_ok_and(|meta| meta.is_file()) {
                ground.set_executable(path, *on);
            }
            vec![parent(path)]
        }
        Edit::Link(text, at) => {
            let told = made(at);
            let _ = symlink(text, ground.path(at));
            told.into_iter().chain([parent(at)]).collect()
        }
        Edit::HardLink(from, to) => {
            let told = made(to);
            if ground.path(from).symlink_metadata().is_ok_and(|meta| meta.is_file()) {
                let _ = fs::hard_link(ground.path(from), ground.path(to));
            }
            told.into_iter().chain([parent(to)]).collect()
        }
        Edit::Track(path) | Edit::Untrack(path) => {
            let verb: &[&str] = if matches!(edit, Edit::Track(_)) {
                &["add", "-f", "--"]
            } else {
                &["rm", "-q", "--cached", "-r", "--ignore-unmatch", "--"]
            };
            if ground.path(".git").exists() && !path.contains('/') {
                let args: Vec<_> = verb.iter().copied().chain([path.as_str()]).collect();
                let spec = Spec::new("git", &ground.root, ground.environment()).args(args);
                // Some paths cannot be added: they are not there.
                process::capture(&spec, Duration::from_secs(60)).unwrap();
            }
            vec![]
        }
    }
}

fn replay(batches: &[Vec<Edit>], with_git: bool, settled: Option<bool>, extra: bool) {
    let ground = Ground::new();
    if with_git {
        ground.git(&["init", "-q"]);
    }
    let options = Options {
        extra_inputs: if extra { vec!["gen/**/b".to_owned()] } else { vec![] },
        exclude: if extra { vec!["**/target".to_owned()] } else { vec![] },
        ..ground.options()
    };
    let mut hasher = ground.hasher_with(options.clone());
    hasher.probe.settled = settled;
    let mut living = Living::new(hasher);
    let memo = ground.beside("memo");
    for (number, batch) in batches.iter().enumerate() {
        let mark = living.hasher.mark();
        let before = living.known();
        let told: Vec<PathBuf> = batch.iter().flat_map(|edit| apply(&ground, edit)).collect();
        let is_unseen =
            |edit: &Edit| matches!(edit, Edit::WriteUnseen(..) | Edit::IgnoreUnseen(..));
        match number % 4 {
            3 => living.scan(),
            1 => living.rescan_files(&told),
            _ if batch.iter().any(is_unseen) => living.rescan_files(&told),
            _ => living.rescan(&told),
        };
        let now = living.known();
        assert_eq!(now, ground.digest_with(options.clone()), "after {batch:?}");
        if now != before {
            assert!(!living.hasher.changed_since(mark).is_empty(), "after {batch:?}");
        }
        let mut remembering = ground.hasher_with(options.clone());
        remembering.probe.settled = settled;
        remembering.load_memo(&memo);
        remembering.scan(&mut |_| {});
        assert_eq!(known(&remembering), now, "with a memo, after {batch:?}");
        remembering.save_memo(&memo).unwrap();
        assert_eq!(living.rescan(&[]).folders_added, 0, "nothing is left to find");
        assert_eq!(living.known(), now);
    }
}

/// Patterns of every sort that git's manual describes.
const PATTERNS: [&str; 20] = [
    "a", "/a", "a/", "/a/b", "a/b", "**/b", "a/**", "a/**/c", "*.o", "!*.o", "!a", "!/a/", "[ab]",
    "[!a]", "?", "\\!x", "b*", "# a", "a ", "*",
];

proptest! {
    #![proptest_config(share_of_cases(12))]

    /// What counts is what git itself lists: tracked, or neither tracked nor ignored.
    #[test]
    fn git_agrees_about_what_counts(
        files in prop::collection::btree_set("[abcx](/[abcx]){0,3}(\\.o)?", 1..20),
        rules in prop::collection::vec(
            ("([abc](/[abc])?)?", prop::collection::vec(prop::sample::select(&PATTERNS[..]), 1..4)),
            0..4,
        ),
        tracked in prop::collection::vec(any::<prop::sample::Index>(), 0..3),
    ) {
        let ground = Ground::new();
        ground.git(&["init", "-q"]);
        let write = |file: &str, text: &str| {
            let path = ground.path(file);
            let _ = fs::create_dir_all(path.parent().unwrap());
            // Another file may be in the place of a folder.
            fs::write(path, text).is_ok()
        };
        let mut files: Vec<_> = files.into_iter().filter(|file| write(file, "")).collect();
        files.retain(|file| ground.path(file).is_file());
        for index in &tracked {
            if !files.is_empty() {
                ground.git(&["add", "-f", "--", &files[index.index(files.len())]]);
            }
        }
        for (folder, patterns) in &rules {
            let file = if folder.is_empty() { ".gitignore".into() } else { format!("{folder}/.gitignore") };
            write(&file, &(patterns.join("\n") + "\n"));
        }
        let list = ["ls-files", "-z", "--cached", "--others", "--exclude-standard"];
        let spec = Spec::new("git", &ground.root, ground.environment()).args(list);
        let output = process::capture(&spec, Duration::from_secs(60)).unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        let git: BTreeSet<String> = text.split_terminator('\0').map(str::to_owned).collect();
        // Git knows no folders, and we no files that are not there.
        let ours: BTreeSet<String> =
            ground.counted().into_iter().filter(|path| !ground.path(path).is_dir()).collect();
        prop_assert_eq!(ours, git);
    }
}

/// Each case is many scans: fewer than usual, but as many more as `PROPTEST_CASES` asks for.
fn share_of_cases(divisor: u32) -> ProptestConfig {
    let usual = ProptestConfig::default();
    ProptestConfig { cases: usual.cases.div_ceil(divisor), failure_persistence: None, ..usual }
}

proptest! {
    #![proptest_config(share_of_cases(10))]

    #[test]
    fn incremental_is_the_same_as_anew(
        batches in prop::collection::vec(prop::collection::vec(edit(), 1..6), 1..12),
        settled in prop::sample::select(vec![Some(true), None]),
        extra: bool,
    ) {
        replay(&batches, false, settled, extra);
    }
}

proptest! {
    #![proptest_config(share_of_cases(48))]

    #[test]
    fn incremental_is_the_same_as_anew_with_git(
        batches in prop::collection::vec(prop::collection::vec(edit(), 1..6), 1..8),
        settled in prop::sample::select(vec![Some(true), None]),
        extra: bool,
    ) {
        replay(&batches, true, settled, extra);
    }

    #[test]
    fn any_change_of_content_changes_the_digest(
        files in prop::collection::btree_map("[a-c]/[a-c]{1,2}", any::<Vec<u8>>(), 1..8),
        at: prop::sample::Index,
        other: Vec<u8>,
    ) {
        let ground = Ground::new();
        files.iter().for_each(|(file, bytes)| ground.write(file, bytes));
        let before = ground.digest();
        let (file, bytes) = files.iter().nth(at.index(files.len())).unwrap();
        ground.write(file, &other);
        prop_assert_eq!(ground.digest() == before, *bytes == other);
    }
}
