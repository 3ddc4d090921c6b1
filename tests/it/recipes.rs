//! The recipes of the guide's page about CI, job by job: the lines of shell that they run, in a bare
//! container and a fresh clone each time, with what their steps for the cache save and restore.

use std::fs;
use std::path::{Path, PathBuf};

use crate::home::{EXE, Home, LIMIT, Ran, skip, takes_long};

const PAGE: &str = include_str!("../../src/guide/in-ci.md");

/// The line that no test runs: it builds the program from a repository at a placeholder's address.
const INSTALL: &str =
    "cargo install --locked knhk-test-cache --git https://git.example.com/knhk-test-cache";

/// Makes a container in which there is no service manager, no bus, no network and no process but the
/// job's. A shell is the command.
const CONTAINER: &str = "exec unshare --map-root-user --mount --pid --fork --mount-proc --net --ipc \
                         --uts sh -c 'mount -t tmpfs none /run && exec \"$@\"' sh \"$@\"";

/// The block of the page below a heading.
fn block(heading: &str) -> &'static str {
    let below = PAGE.split_once(&format!("## {heading}\n")).unwrap().1;
    below.split_once("```yaml\n").unwrap().1.split_once("```").unwrap().0
}

/// The lines that are indented deeper than the line of this key, which is the first one so written.
fn below<'a>(text: &'a str, key: &str) -> Vec<&'a str> {
    let depth = |line: &str| line.len() - line.trim_start().len();
    let mut lines = text.lines().skip_while(|line| line.trim() != key);
    let own = depth(lines.next().unwrap_or_else(|| panic!("no `{key}` in {text}")));
    lines.take_while(|line| depth(line) > own).collect()
}

/// What a job of the recipe for GitHub runs.
fn github(job: &str) -> Vec<&'static str> {
    let lines = below(block("GitHub Actions"), &format!("{job}:"));
    lines.iter().filter_map(|line| line.trim().strip_prefix("- run: ")).collect()
}

/// What a job of the recipe for GitLab runs.
fn gitlab(job: &str) -> Vec<&'static str> {
    let text = block("GitLab");
    let own = below(text, &format!("{job}:"));
    let own = own.into_iter().skip_while(|line| line.trim() != "script:").skip(1);
    let own = own.take_while(|line| line.trim().starts_with("- "));
    let lines = below(text, "before_script:").into_iter().chain(own);
    lines.filter_map(|line| line.trim().strip_prefix("- ")).collect()
}

/// Runs jobs one after the other, each in a fresh clone at the same place.
struct Runner {
    home: Home,
    /// What the cache of the service has.
    saved: PathBuf,
    clone: PathBuf,
    /// The folders that the recipe saves.
    paths: Vec<PathBuf>,
}

impl Runner {
    /// `None` where the system allows no container.
    fn new(variables: &[(&str, &str)], paths: &[&str]) -> Option<Self> {
        let mut home = Home::with(&[("tests/it.rs", "#[test] fn it() {}\n")]);
        home.git(&["init", "-q", "-b", "main"]);
        let (saved, clone) = (home.base.join("saved"), home.base.join("clone"));
        for name in ["XDG_CONFIG_HOME", "XDG_CACHE_HOME", "XDG_RUNTIME_DIR"] {
            home.environment.remove(name);
        }
        let places = |text: &str| {
            let user = home.base.join("home");
            text.replace('~', user.to_str().unwrap()).replace("CLONE", clone.to_str().unwrap())
        };
        let bin = home.base.join("home/bin");
        let variables: Vec<_> =
            variables.iter().map(|(name, text)| (*name, places(text))).collect();
        let paths = paths.iter().map(|path| PathBuf::from(places(path))).collect();
        for (name, value) in variables {
            home.environment.set(name, value);
        }
        let old = home.environment.get("PATH").unwrap().to_owned();
        let path = std::iter::once(bin).chain(std::env::split_paths(&old));
        home.environment.set("PATH", std::env::join_paths(path).unwrap());
        let runner = Self { home, saved, clone, paths };
        let is_allowed = runner.contained(&runner.home.root, &["true"]).code == Some(0);
        if !is_allowed {
            skip("the recipes for CI", "containers are not allowed here");
        }
        is_allowed.then_some(runner)
    }

    /// Runs a command in a container.
    fn contained(&self, dir: &Path, command: &[&str]) -> Ran {
        let line = [&["-c", CONTAINER, "sh"], command].concat();
        self.home.start_in(dir, "sh", &line, false).end(LIMIT)
    }

    /// Runs the lines on what is in the workspace now.
    fn job(&self, lines: &[&str]) -> Ran {
        self.home.git(&["add", "."]);
        self.home.git(&["commit", "-q", "--allow-empty", "-m", "next"]);
        for gone in self.paths.iter().chain([&self.clone, &self.home.base.join("home/bin")]) {
            let _ = fs::remove_dir_all(gone);
        }
        self.home.git(&["clone", "-q", ".", self.clone.to_str().unwrap()]);
        for (number, path) in self.paths.iter().enumerate() {
            copy(&self.home, &self.saved.join(number.to_string()), path);
        }
        // What the recipes install, and nothing else.
        assert_eq!(lines[0], INSTALL);
        fs::create_dir(self.home.base.join("home/bin")).unwrap();
        std::os::unix::fs::symlink(EXE, self.home.base.join("home/bin/knhk-test-cache")).unwrap();
        let script = lines[1..].join("\n");
        assert!(!script.is_empty());
        self.contained(&self.clone, &["bash", "-eo", "pipefail", "-c", &script])
    }

    /// As the last step of a job on the main branch does.
    fn save(&self) {
        fs::create_dir_all(&self.saved).unwrap();
        for (number, path) in self.paths.iter().enumerate() {
            copy(&self.home, path, &self.saved.join(number.to_string()));
        }
    }

    /// The number of cases of the last report, and of those from records.
    fn cases(&self) -> (usize, usize) {
        let text = fs::read_to_string(self.clone.join("target/junit.xml")).unwrap();
        let report = quick_junit::Report::deserialize_from_str(&text).unwrap();
        let cases = report.test_suites.iter().flat_map(|suite| &suite.test_cases);
        let cached =
            cases.filter(|case| case.properties.iter().any(|one| one.name.as_str() == "cached"));
        (report.tests, cached.count())
    }

    /// Pushes to the main branch, pull requests and nights.
    fn weeks(&self, tests: &[&str], nightly: &[&str]) -> Ran {
        let first = self.job(tests);
        assert_eq!(first.code, Some(0), "{first:#?}");
        assert_eq!(self.cases(), (3, 0), "{first:#?}");
        self.save();
        // A pull request that changes nothing that counts.
        let same = self.job(tests);
        assert_eq!(same.code, Some(0), "{same:#?}");
        assert_eq!(self.cases(), (3, 3), "{same:#?}");
        let night = self.job(nightly);
        assert_eq!(night.code, Some(0), "{night:#?}");
        assert!(night.stderr.contains("the run confirms the record"), "{night:#?}");
        // A pull request that breaks a test: its records reach nobody.
        self.home.write("tests/it.rs", "#[test]\nfn it() {\n    panic!(\"no\");\n}\n");
        let red = self.job(tests);
        assert_eq!(red.code, Some(101), "{red:#?}");
        assert_eq!(self.cases().0, 3, "{red:#?}");
        let again = self.job(tests);
        assert_eq!(again.code, Some(101), "{again:#?}");
        red
    }
}

/// Copies a folder with its times, as the caches of CI do.
fn copy(home: &Home, from: &Path, to: &Path) {
    if from.exists() {
        let _ = fs::remove_dir_all(to);
        fs::create_dir_all(to.parent().unwrap()).unwrap();
        let args = ["-a", from.to_str().unwrap(), to.to_str().unwrap()];
        assert_eq!(home.start("cp", &args).end(LIMIT).code, Some(0));
    }
}

#[test]
fn the_recipe_for_github_actions() {
    if takes_long() {
        return;
    }
    let variables = [("GITHUB_WORKSPACE", "CLONE"), ("GITHUB_STEP_SUMMARY", "~/summary.md")];
    let paths = ["~/.cache/knhk-test-cache", "CLONE/target"];
    let Some(runner) = Runner::new(&variables, &paths) else { return };
    let red = runner.weeks(&github("tests"), &github("nightly"));
    assert!(red.stdout.contains("::error file=tests/it.rs,line=3,"), "{red:#?}");
    let summary = fs::read_to_string(runner.home.base.join("home/summary.md")).unwrap();
    assert!(summary.contains("| p::it | pass | 1 | 0 | 0 | cache, run "), "{summary}");
    assert!(summary.contains("| p::it | **fail** | "), "{summary}");
    // The steps of the cache carry what the test has carried.
    let text = block("GitHub Actions");
    assert_eq!(
        text.matches("            ~/.cache/knhk-test-cache\n            target\n").count(),
        3
    );
    assert_eq!(text.matches("actions/cache/save").count(), 1);
}

#[test]
fn the_recipe_for_gitlab() {
    if takes_long() {
        return;
    }
    let variables = [("XDG_CACHE_HOME", "CLONE/target/ci")];
    let Some(runner) = Runner::new(&variables, &["CLONE/target"]) else { return };
    runner.weeks(&gitlab("tests"), &gitlab("nightly"));
    let text = block("GitLab");
    assert!(text.contains("\n  XDG_CACHE_HOME: $CI_PROJECT_DIR/target/ci\n"), "{text}");
    assert_eq!(below(text, "paths:"), ["      - target"]);
}
