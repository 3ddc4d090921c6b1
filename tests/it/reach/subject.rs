//! A small package that is built for real, and what its tests reach.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use knhk_test_cache::internals::reach::{ReachReader, Reached, UnknownLayout};

/// One package in a folder of its own.
pub(super) struct Subject {
    dir: tempfile::TempDir,
    /// The package's folder.
    root: PathBuf,
    /// Variables for cargo.
    variables: Vec<(String, String)>,
}

/// Each test with what it reaches.
pub(super) type Tests = BTreeMap<String, Reached>;

impl Subject {
    /// A package of these files in a folder `folder`.
    pub(super) fn new(folder: &str, files: &[(&str, &str)]) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().join(folder);
        let this = Self { dir, root, variables: Vec::new() };
        let manifest = "[package]\nname = 'subject'\nversion = '0.1.0'\nedition = '2024'\n";
        this.write("Cargo.toml", manifest);
        for (path, text) in files {
            this.write(path, text);
        }
        this
    }

    pub(super) fn variable(mut self, name: &str, value: &str) -> Self {
        self.variables.push((name.to_owned(), value.to_owned()));
        self
    }

    pub(super) fn path(&self, path: &str) -> PathBuf {
        self.root.join(path)
    }

    pub(super) fn write(&self, path: &str, text: &str) {
        let path = self.path(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    pub(super) fn append(&self, path: &str, text: &str) {
        let old = fs::read_to_string(self.path(path)).unwrap();
        self.write(path, &(old + text));
    }

    pub(super) fn run(&self, program: &Path, args: &[&str]) -> Output {
        let mut command = Command::new(program);
        command.args(args).current_dir(&self.root).env_clear();
        for name in ["PATH", "HOME", "RUSTUP_HOME", "RUSTUP_TOOLCHAIN", "CARGO_HOME"] {
            if let Some(value) = std::env::var_os(name) {
                command.env(name, value);
            }
        }
        // Without it cargo would look for the network, and debug information only takes time.
        command.env("CARGO_NET_OFFLINE", "true").env("CARGO_PROFILE_DEV_DEBUG", "0");
        command.env("TMPDIR", self.dir.path());
        command.envs(self.variables.iter().map(|(name, value)| (name, value)));
        command.output().unwrap()
    }

    /// Builds, and yields the program of the target `target` of that kind.
    pub(super) fn build(&self, args: &[&str], kind: &str, target: &str) -> PathBuf {
        let args = [args, &["--message-format=json"]].concat();
        let output = self.run(Path::new("cargo"), &args);
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{said}");
        let output = String::from_utf8_lossy(&output.stdout).into_owned();
        let messages = output.lines().map(|line| serde_json::from_str(line).unwrap());
        let is_it = |message: &serde_json::Value| {
            message["target"]["kind"][0] == kind && message["target"]["name"] == target
        };
        let found = messages
            .filter(is_it)
            .find_map(|message| message["executable"].as_str().map(PathBuf::from));
        found.unwrap_or_else(|| panic!("no program {target} in {output}"))
    }

    /// The library's test program.
    pub(super) fn program(&self) -> PathBuf {
        self.build(&["test", "--no-run", "--lib"], "lib", "subject")
    }

    pub(super) fn try_tests(&self) -> Result<Tests, UnknownLayout> {
        reader().tests(&self.program())
    }

    pub(super) fn tests(&self) -> Tests {
        self.try_tests().unwrap()
    }

    /// The names of the tests, as the harness lists them.
    pub(super) fn listed(&self) -> BTreeSet<String> {
        let output = self.run(&self.program(), &["--list", "--format=terse"]).stdout;
        let output = String::from_utf8(output).unwrap();
        output.lines().filter_map(|line| line.strip_suffix(": test").map(str::to_owned)).collect()
    }

    /// Replaces the one `from` in `path` by `to`, looks, and puts it back.
    pub(super) fn edited(&self, path: &str, from: &str, to: &str) -> Tests {
        let old = fs::read_to_string(self.path(path)).unwrap();
        assert_eq!(old.matches(from).count(), 1, "{from}");
        self.write(path, &old.replace(from, to));
        let tests = self.tests();
        self.write(path, &old);
        tests
    }
}

/// A reader for the toolchain that builds the subjects.
pub(super) fn reader() -> ReachReader {
    let output = Command::new("rustc").args(["--print", "sysroot"]).output().unwrap();
    ReachReader::new(Path::new(String::from_utf8(output.stdout).unwrap().trim())).unwrap()
}

/// The tests whose strict digest differs, or that are new.
pub(super) fn strict_changes<'a>(old: &Tests, new: &'a Tests) -> BTreeSet<&'a str> {
    changes(old, new, |reached| reached.strict.to_string())
}

/// The tests whose masked digest differs, or that are new.
pub(super) fn masked_changes<'a>(old: &Tests, new: &'a Tests) -> BTreeSet<&'a str> {
    changes(old, new, |reached| reached.masked.to_string())
}

fn changes<'a>(old: &Tests, new: &'a Tests, of: impl Fn(&Reached) -> String) -> BTreeSet<&'a str> {
    let differs =
        |(name, reached): &(&String, &Reached)| old.get(*name).map(&of) != Some(of(reached));
    new.iter().filter(differs).map(|(name, _)| name.as_str()).collect()
}
