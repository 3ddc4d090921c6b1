//! What of `cargo test` is meant: folder, cargo's arguments, the test harness's arguments.

mod narrowed;

pub(crate) use narrowed::SelectionPart;

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::path::{Path, PathBuf};

/// A selection of tests, as one would type it after `cargo test`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Selection {
    /// Where cargo is called, absolute.
    pub dir: PathBuf,
    /// Arguments for cargo: those before `--`.
    pub cargo: Vec<OsString>,
    /// Arguments for the test binaries: those after `--`.
    pub harness: Vec<OsString>,
}

/// One argument or option of cargo with its value, taken apart.
enum SelectionWord<'a> {
    /// A long option with its value, glued or apart.
    Long { name: &'a str, value: Option<&'a OsStr>, words: &'a [OsString] },
    /// One short option out of a word such as `-vj4`.
    Short { name: u8, value: Option<&'a OsStr> },
    /// Anything else: a test's name, or bytes that are no option of cargo.
    Plain(&'a OsStr),
}

/// Long options that only change what is shown or how fast, and whether a value follows in the
/// next word.
const COSMETIC: &[(&str, bool)] = &[
    ("quiet", false),
    ("verbose", false),
    ("no-fail-fast", false),
    ("future-incompat-report", false),
    ("keep-going", false),
    ("timings", false),
    ("color", true),
    ("jobs", true),
    ("message-format", true),
    ("target-dir", true),
];

/// The other long options of `cargo test` that take their value from the next word, unless that
/// starts with `-`: of some the value is optional.
const VALUED: &[&str] = &[
    "exclude",
    "features",
    "profile",
    "manifest-path",
    "lockfile-path",
    "config",
    "artifact-dir",
    "target",
    "package",
    "bin",
    "test",
    "example",
    "bench",
];

impl Selection {
    /// Takes apart what stands after `cargo test`: everything after the first `--` is the
    /// harness's.
    pub fn parse(dir: impl Into<PathBuf>, args: impl IntoIterator<Item = OsString>) -> Self {
        let mut cargo: Vec<OsString> = args.into_iter().collect();
        let cut = cargo.iter().position(|arg| arg == "--");
        let harness = cut.map(|at| cargo.split_off(at)).unwrap_or_default();
        Self { dir: dir.into(), cargo, harness: harness.into_iter().skip(1).collect() }
    }

    /// Bytes that are equal for two selections that must come to the same tests and the same
    /// verdict. What only changes the display, the speed or the place of the artifacts is left
    /// out; the rest keeps its order. `root` is the workspace's.
    #[must_use]
    pub(crate) fn canonical(&self, root: &Path) -> Vec<u8> {
        let mut bytes = Vec::new();
        let mut field = |text: &OsStr| {
            bytes.extend_from_slice(&(text.len() as u64).to_le_bytes());
            bytes.extend_from_slice(text.as_bytes());
        };
        field(OsStr::new("selection 2"));
        if self.depends_on_dir() {
            field(self.dir.strip_prefix(root).unwrap_or(&self.dir).as_os_str());
        } else {
            field(OsStr::new("anywhere"));
        }
        let cargo = self.kept(|name| COSMETIC.iter().any(|(cosmetic, _)| *cosmetic == name));
        for list in [&cargo, &self.harness] {
            field(OsStr::new(&list.len().to_string()));
            list.iter().for_each(|arg| field(arg));
        }
        bytes
    }

    /// Only a selection of the whole workspace without any path in it means the same everywhere, and
    /// without features by name: with the first resolver they are the ones of the package in `dir`.
    /// (Which configuration files and toolchain apply in `dir` is in the identity by content.)
    fn depends_on_dir(&self) -> bool {
        let whole = self.has("workspace") || self.has("all");
        let paths = ["config", "manifest-path", "lockfile-path", "target"];
        let features = ["features", "no-default-features"];
        let has_feature = |word| matches!(word, SelectionWord::Short { name: b'F', .. });
        !whole
            || paths.into_iter().chain(features).any(|name| self.has(name))
            || self.words().any(has_feature)
            || self.short_with_path()
    }

    /// `-p path/to/package` and `--exclude`, where the value is a path or an address.
    fn short_with_path(&self) -> bool {
        let is_path = |value: &OsStr| value.as_bytes().iter().any(|byte| b"/.:".contains(byte));
        self.words().any(|word| match word {
            SelectionWord::Long { name: "package" | "exclude", value, .. }
            | SelectionWord::Short { name: b'p', value } => value.is_none_or(is_path),
            _ => false,
        })
    }

    /// The words that cargo hands on to test programs: a filter, and what follows `--`.
    pub(crate) fn program_words(&self) -> impl Iterator<Item = &OsStr> {
        let plain = self.words().filter_map(|word| match word {
            SelectionWord::Plain(word) => Some(word),
            _ => None,
        });
        plain.chain(self.harness.iter().map(OsString::as_os_str))
    }

    /// The arguments for our own calls of cargo: without those that we give ourselves or that
    /// would change the shape of the output.
    #[must_use]
    pub(crate) fn build_args(&self) -> Vec<OsString> {
        const OURS: &[&str] =
            &["quiet", "verbose", "color", "message-format", "no-run", "no-fail-fast"];
        self.kept(|name| OURS.contains(&name))
    }

    /// The packages that are named.
    #[must_use]
    pub(crate) fn packages(&self) -> Vec<String> {
        let named = self.words().filter_map(|word| match word {
            SelectionWord::Long { name: "package", value, .. }
            | SelectionWord::Short { name: b'p', value } => value,
            _ => None,
        });
        named.map(|name| name.to_string_lossy().into_owned()).collect()
    }

    /// The same without a number of jobs.
    #[must_use]
    pub(crate) fn build_args_but_jobs(&self) -> Vec<OsString> {
        let rest = Self { cargo: self.build_args(), ..self.clone() };
        rest.kept(|name| name == "jobs")
    }

    /// The number of jobs that is asked for: `-j N` or `--jobs N`, as written.
    #[must_use]
    pub(crate) fn jobs(&self) -> Option<String> {
        let value = |word| match word {
            SelectionWord::Long { name: "jobs", value, .. }
            | SelectionWord::Short { name: b'j', value } => value,
            _ => None,
        };
        self.words().filter_map(value).last().map(|value| value.to_string_lossy().into_owned())
    }

    /// The folder or manifest from which cargo would look for the workspace.
    #[must_use]
    pub(crate) fn start(&self) -> PathBuf {
        self.value("manifest-path").map_or_else(|| self.dir.clone(), |path| self.dir.join(path))
    }

    /// Every `--target`, in order.
    #[must_use]
    pub(crate) fn targets(&self) -> Vec<String> {
        self.values("target").map(|value| value.to_string_lossy().into_owned()).collect()
    }

    /// Every `--config`, in order: `KEY=VALUE` or a file.
    #[must_use]
    pub fn configs(&self) -> Vec<OsString> {
        self.values("config").map(OsStr::to_owned).collect()
    }

    /// `--target-dir`, made absolute.
    #[must_use]
    pub(crate) fn target_dir(&self) -> Option<PathBuf> {
        self.value("target-dir").map(|path| self.dir.join(path))
    }

    /// The profile that is asked for: `--profile NAME`, or `release` for `--release` and `-r`.
    #[cfg(test)]
    pub(crate) fn profile(&self) -> Option<String> {
        let short =
            self.words().any(|word| matches!(word, SelectionWord::Short { name: b'r', .. }));
        let release = self.has("release") || short;
        let named = self.value("profile").map(|name| name.to_string_lossy().into_owned());
        named.or_else(|| release.then(|| "release".to_owned()))
    }

    /// Whether only doctests are asked for (`--doc`).
    #[must_use]
    pub(crate) fn is_doc_only(&self) -> bool {
        self.has("doc")
    }

    /// Whether nothing is to be run (`--no-run`).
    #[must_use]
    pub(crate) fn is_no_run(&self) -> bool {
        self.has("no-run")
    }

    /// Whether it says what cargo may fetch and write: `--locked`, `--offline`, `--frozen`.
    #[must_use]
    pub(crate) fn is_about_network(&self) -> bool {
        ["locked", "offline", "frozen"].into_iter().any(|name| self.has(name))
    }

    fn has(&self, wanted: &str) -> bool {
        self.words().any(|word| matches!(word, SelectionWord::Long { name, .. } if name == wanted))
    }

    /// The last value wins, as far as cargo allows an option twice at all.
    fn value(&self, wanted: &'static str) -> Option<&OsStr> {
        self.values(wanted).last()
    }

    fn values(&self, wanted: &'static str) -> impl Iterator<Item = &OsStr> {
        self.words().filter_map(move |word| match word {
            SelectionWord::Long { name, value, .. } if name == wanted => value,
            _ => None,
        })
    }

    /// The arguments without the options that `drop` names; short ones are known by their long
    /// names.
    fn kept(&self, drop: impl Fn(&str) -> bool) -> Vec<OsString> {
        let mut kept = Vec::new();
        for word in self.words() {
            match word {
                SelectionWord::Long { name, .. } if drop(name) => {}
                SelectionWord::Long { words, .. } => kept.extend_from_slice(words),
                SelectionWord::Short { name, .. } if long_name(name).is_some_and(&drop) => {}
                SelectionWord::Short { name, value } => {
                    let mut text = vec![b'-', name];
                    text.extend_from_slice(value.unwrap_or_default().as_bytes());
                    kept.push(OsString::from_vec(text));
                }
                SelectionWord::Plain(word) => kept.push(word.to_owned()),
            }
        }
        kept
    }

    fn words(&self) -> impl Iterator<Item = SelectionWord<'_>> {
        let mut rest: &[OsString] = &self.cargo;
        let mut cluster: &[u8] = &[];
        std::iter::from_fn(move || {
            if cluster.is_empty() {
                let (word, after) = rest.split_first()?;
                match word.as_bytes() {
                    [b'-', b'-', long @ ..] if !long.is_empty() => {
                        let (found, used) = long_option(long, rest);
                        rest = &rest[used..];
                        return Some(found.unwrap_or(SelectionWord::Plain(word)));
                    }
                    [b'-', short @ ..] if !short.is_empty() => cluster = short,
                    _ => {
                        rest = after;
                        return Some(SelectionWord::Plain(word));
                    }
                }
                rest = after;
            }
            let name = cluster[0];
            let glued = cluster[1..].strip_prefix(b"=").unwrap_or(&cluster[1..]);
            if !b"jpFZ".contains(&name) {
                cluster = &cluster[1..];
                return Some(SelectionWord::Short { name, value: None });
            }
            cluster = &[];
            if !glued.is_empty() {
                return Some(SelectionWord::Short { name, value: Some(OsStr::from_bytes(glued)) });
            }
            // A value in the next word; `-p` alone lists the packages and has none.
            let next = rest.first().filter(|next| !next.as_bytes().starts_with(b"-"));
            rest = &rest[usize::from(next.is_some())..];
            Some(SelectionWord::Short { name, value: next.map(OsString::as_os_str) })
        })
    }
}

/// The long option at the start of `rest` (`long` is its first word without the dashes), and how
/// many words it takes.
fn long_option<'a>(long: &'a [u8], rest: &'a [OsString]) -> (Option<SelectionWord<'a>>, usize) {
    let cut = long.iter().position(|byte| *byte == b'=');
    let Ok(name) = std::str::from_utf8(&long[..cut.unwrap_or(long.len())]) else {
        return (None, 1);
    };
    if let Some(cut) = cut {
        let value = Some(OsStr::from_bytes(&long[cut + 1..]));
        return (Some(SelectionWord::Long { name, value, words: &rest[..1] }), 1);
    }
    let valued = VALUED.contains(&name)
        || COSMETIC.iter().any(|(cosmetic, valued)| *valued && *cosmetic == name);
    let next = rest.get(1).filter(|next| valued && !next.as_bytes().starts_with(b"-"));
    let used = 1 + usize::from(next.is_some());
    (
        Some(SelectionWord::Long {
            name,
            value: next.map(OsString::as_os_str),
            words: &rest[..used],
        }),
        used,
    )
}

fn long_name(short: u8) -> Option<&'static str> {
    match short {
        b'q' => Some("quiet"),
        b'v' => Some("verbose"),
        b'j' => Some("jobs"),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn selection(line: &str) -> Selection {
        Selection::parse("/w/a", line.split_whitespace().map(OsString::from))
    }

    fn canonical(line: &str) -> Vec<u8> {
        selection(line).canonical(Path::new("/w"))
    }

    #[test]
    fn what_is_cosmetic_does_not_count() {
        let plain = canonical("-p x --features f name -- --ignored");
        for line in [
            "-q -p x --features f name -- --ignored",
            "-p x -vv --features f name -- --ignored",
            "-p x --features f -qj4 name -- --ignored",
            "-p x --features f -j 4 name -- --ignored",
            "-px --jobs=4 --color never --features f --message-format=json name -- --ignored",
            "--target-dir /t --timings -p x --no-fail-fast --features f name -- --ignored",
            "--color=always -p x --verbose --features f --keep-going name -- --ignored",
        ] {
            assert_eq!(canonical(line), plain, "{line}");
        }
    }

    #[test]
    fn everything_else_counts() {
        let lines = [
            "",
            "x",
            "-p x",
            "-p y",
            "-r",
            "--release",
            "--profile x",
            "--doc",
            "--lib",
            "--bins",
            "--no-run",
            "-F x",
            "--features x",
            "--all-features",
            "--target t",
            "--test x",
            "--test=x",
            "--exclude x --workspace",
            "--workspace",
            "--workspace -p ../x",
            "--locked",
            "--config a.b=1",
            "-Z x",
            "--manifest-path ../Cargo.toml",
            "-- x",
            "-- --ignored",
            "-- -q",
            "-- --color never",
            "--frozen",
            "--unheard-of",
            "x y",
            "y x",
        ];
        let mut seen = std::collections::BTreeMap::new();
        for line in lines {
            assert_eq!(seen.insert(canonical(line), line), None, "{line}");
        }
    }

    #[test]
    fn packages_are_named_in_all_forms() {
        assert_eq!(selection("-p a --package=b --package c name").packages(), ["a", "b", "c"]);
    }

    #[test]
    fn the_folder_counts_unless_the_whole_workspace_is_meant() {
        let at = |dir: &str, line: &str| {
            let args = line.split_whitespace().map(OsString::from);
            Selection::parse(dir, args).canonical(Path::new("/w"))
        };
        assert_ne!(at("/w/a", ""), at("/w/b", ""));
        assert_eq!(at("/w/a", "--workspace"), at("/w/b", "--workspace"));
        assert_eq!(at("/w/a", "--all --exclude x"), at("/w", "--all --exclude x"));
        assert_ne!(at("/w/a", "--workspace -p ../x"), at("/w/b", "--workspace -p ../x"));
        assert_ne!(
            at("/w/a", "--workspace --config c.toml"),
            at("/w", "--workspace --config c.toml")
        );
        for feature in ["--features f", "-Ff", "-qF f", "--no-default-features"] {
            let line = format!("--workspace {feature}");
            assert_ne!(at("/w/a", &line), at("/w", &line), "{line}");
        }
        let all = "--workspace --all-features";
        assert_eq!(at("/w/a", all), at("/w", all));
        let elsewhere = Selection::parse("/v/a", []).canonical(Path::new("/v"));
        assert_eq!(at("/w/a", ""), elsewhere, "another checkout");
    }

    #[test]
    fn facts_are_read_in_all_forms() {
        let all =
            selection("--target=a --target b --manifest-path ../C.toml --profile=p --config x=1");
        assert_eq!(all.targets(), ["a", "b"]);
        assert_eq!(all.start(), Path::new("/w/a/../C.toml"));
        assert_eq!(all.profile().as_deref(), Some("p"));
        assert_eq!(all.configs(), ["x=1"]);
        assert_eq!(selection("-vr").profile().as_deref(), Some("release"));
        assert_eq!(selection("--release").profile().as_deref(), Some("release"));
        assert_eq!(selection("-p r").profile(), None);
        assert_eq!(selection("--target-dir t").target_dir(), Some("/w/a/t".into()));
        assert!(selection("--doc").is_doc_only() && !selection("-- --doc").is_doc_only());
        assert!(selection("--no-run").is_no_run() && !selection("--test --no-run").is_doc_only());
        assert!(selection("--test --no-run").is_no_run(), "a dash is never an optional value");
    }

    #[test]
    fn our_own_calls_drop_what_we_set_and_keep_what_builds() {
        let args =
            selection("-qp x -j2 --color=never --target-dir t --no-run -v name").build_args();
        assert_eq!(args, ["-px", "-j2", "--target-dir", "t", "name"]);
        let all = selection("-qp x -j2 --jobs 3 --jobs=4 name");
        assert_eq!(all.build_args_but_jobs(), ["-px", "name"]);
        assert_eq!(all.jobs().as_deref(), Some("4"));
        assert_eq!(
            (selection("-vj2").jobs().as_deref(), selection("-v").jobs()),
            (Some("2"), None)
        );
    }

    #[test]
    fn non_utf8_survives() {
        let odd = OsString::from_vec(b"--te\xff".to_vec());
        let selection = Selection::parse("/w", [odd.clone(), "-q".into()]);
        assert_eq!(selection.build_args(), [odd]);
    }

    proptest! {
        #[test]
        fn no_boundary_between_arguments_is_lost(words in proptest::collection::vec("[a-z]{0,3}", 0..5),
                                                 others in proptest::collection::vec("[a-z]{0,3}", 0..5)) {
            let of = |words: &[String]| {
                Selection::parse("/w", words.iter().map(OsString::from)).canonical(Path::new("/w"))
            };
            prop_assert_eq!(words == others, of(&words) == of(&others));
        }

        #[test]
        fn nothing_panics(words in proptest::collection::vec("[-a-z=]{0,6}", 0..8)) {
            let selection = Selection::parse("/w", words.iter().map(OsString::from));
            let _ = (selection.canonical(Path::new("/w")), selection.build_args(), selection.profile());
        }
    }
}
