//! What the arguments and environment of a job ask of libtest.
//!
//! Read only to understand the output: what is run stays exactly as it was given.

use std::ffi::{OsStr, OsString};

use crate::model::Harness;
use crate::process::Environment;

/// libtest's options that take the next argument as their value.
const WITH_VALUE: &[&str] =
    &["--logfile", "--test-threads", "--skip", "--color", "--format", "--shuffle-seed", "-Z"];

/// How libtest was asked to run and to print.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct LibtestArguments {
    /// One character a test instead of one line.
    pub(super) terse: bool,
    /// One JSON object a line (nightly only).
    pub(crate) json: bool,
    /// The person wants to see what passing tests print too.
    pub(crate) wants_output: bool,
    /// How many tests run at a time, where it is said.
    pub(super) threads: Option<usize>,
    /// Some tests were left out by a filter or `--skip`, or might have been.
    pub(super) filtered: bool,
    /// The run order is not the order of the list.
    pub(super) shuffled: bool,
    /// `--list` or `--help`: prints and runs nothing.
    pub(super) prints_only: bool,
    /// `--ignored` or `--include-ignored`: what is ignored is not simply what is marked so.
    pub(super) runs_ignored: bool,
    /// The filters.
    names: Vec<String>,
    /// `--exact`.
    exact: bool,
    /// There is more than the choice of tests, of their output and of how many run at a time, or
    /// something that no libtest understands.
    unusual: bool,
}

impl LibtestArguments {
    /// What these arguments of a test program ask for in this environment.
    pub(super) fn of(own: &[OsString], environment: &Environment, harness: Harness) -> Self {
        let mut request = match harness {
            Harness::Doctest => {
                let mut request = Self::parse(&rustdoc_test_args(own));
                request.wants_output |=
                    own.iter().any(|arg| arg == "--nocapture" || arg == "--no-capture");
                request
            }
            Harness::Libtest | Harness::Custom => Self::parse(own),
        };
        request.add_environment(environment);
        request
    }

    /// What these arguments of a libtest program ask for in this environment.
    pub(crate) fn of_call(args: &[OsString], environment: &Environment) -> Self {
        let mut request = Self::parse(args);
        request.add_environment(environment);
        request
    }

    /// Whether this is a run of tests of which a record can say all that it would say.
    pub(crate) fn is_recordable(&self) -> bool {
        !self.unusual && !self.shuffled && !self.prints_only
    }

    /// The one test that is asked for, as nextest does.
    pub(crate) fn only_test(&self) -> Option<&str> {
        match &self.names[..] {
            [name] if self.exact => Some(name),
            _ => None,
        }
    }

    fn parse(args: &[OsString]) -> Self {
        let mut request = Self::default();
        let mut args = args.iter();
        while let Some(arg) = args.next() {
            request.unusual |= arg.to_str().is_none();
            let arg = arg.to_string_lossy();
            if arg == "--" {
                request.unusual = true;
                request.filtered |= args.next().is_some();
                break;
            }
            match arg.split_once('=') {
                Some((name, value)) if name.starts_with("--") => request.option(name, Some(value)),
                _ if WITH_VALUE.contains(&&*arg) => {
                    let value = args.next();
                    request.unusual |= value.is_none_or(|value| value.to_str().is_none());
                    request.option(&arg, value.map(|value| value.to_string_lossy()).as_deref());
                }
                _ => request.option(&arg, None),
            }
        }
        request
    }

    fn option(&mut self, name: &str, value: Option<&str>) {
        match (name, value) {
            ("-q" | "--quiet", None) => self.terse = true,
            ("--format", Some(format)) => {
                self.terse = format == "terse";
                self.json = format == "json";
                self.unusual |= !["pretty", "terse", "json"].contains(&format);
            }
            ("--nocapture" | "--no-capture" | "--show-output", None) => self.wants_output = true,
            ("--test-threads", Some(value)) => self.threads = value.parse().ok(),
            ("--shuffle" | "--shuffle-seed", _) => self.shuffled = true,
            ("--list" | "--help" | "-h", _) => self.prints_only = true,
            ("--ignored" | "--include-ignored", None) => {
                self.runs_ignored = true;
                self.filtered = true;
            }
            ("--skip", Some(_)) => self.filtered = true,
            ("--color", Some(_)) | ("--test", None) | ("-Z", Some("unstable-options")) => {}
            ("--exact", None) => self.exact = true,
            (name, _) if !name.starts_with('-') => {
                self.filtered = true;
                self.names.push(name.to_owned());
            }
            // Another version's option may filter as well.
            (name, _) => {
                const FILTERING_NOTHING: &[&str] =
                    &["--exact", "--test", "--bench", "--report-time"];
                self.filtered |= !FILTERING_NOTHING.contains(&name) && !WITH_VALUE.contains(&name);
                self.unusual = true;
            }
        }
    }

    fn add_environment(&mut self, environment: &Environment) {
        let set = |name: &str| environment.get(name).filter(|value| *value != OsStr::new("0"));
        self.wants_output |= set("RUST_TEST_NOCAPTURE").is_some();
        self.shuffled |= set("RUST_TEST_SHUFFLE").is_some()
            || environment.get("RUST_TEST_SHUFFLE_SEED").is_some();
        if self.threads.is_none() {
            let value = environment.get("RUST_TEST_THREADS").and_then(OsStr::to_str);
            self.threads = value.and_then(|value| value.parse().ok());
        }
    }

    /// How many tests may run at a time.
    pub(super) fn concurrency(&self) -> usize {
        let machine = || std::thread::available_parallelism().map_or(1, usize::from);
        self.threads.unwrap_or_else(machine).max(1)
    }
}

/// The arguments that list the tests which a program with the arguments `own` would run: these, less
/// what says how to print, since libtest takes `--format` once only and would truncate the log file.
pub(super) fn listing(own: &[OsString], only_ignored: bool) -> Vec<OsString> {
    let mut args = Vec::new();
    args.extend(["--list", "--format", "terse"].map(OsString::from));
    args.extend(only_ignored.then(|| OsString::from("--ignored")));
    let mut own = own.iter();
    while let Some(arg) = own.next() {
        let text = arg.to_string_lossy();
        if text == "--" {
            args.push(arg.clone());
            args.extend(own.by_ref().cloned());
        } else if text == "--format" || text == "--logfile" {
            own.next();
        } else if WITH_VALUE.contains(&&*text) {
            args.push(arg.clone());
            args.extend(own.next().cloned());
        } else if !(text == "-q"
            || text == "--quiet"
            || text.starts_with("--format=")
            || text.starts_with("--logfile="))
        {
            args.push(arg.clone());
        }
    }
    args
}

/// rustdoc hands on to libtest what stands behind each `--test-args`, split at white space.
fn rustdoc_test_args(args: &[OsString]) -> Vec<OsString> {
    let mut found = Vec::new();
    let mut args = args.iter();
    while let Some(arg) = args.next() {
        let arg = arg.to_string_lossy();
        let value = match arg.strip_prefix("--test-args") {
            Some("") => args.next().map(|value| value.to_string_lossy().into_owned()),
            Some(rest) => rest.strip_prefix('=').map(str::to_owned),
            None => None,
        };
        found.extend(value.iter().flat_map(|value| value.split_whitespace()).map(OsString::from));
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(args: &[&str]) -> LibtestArguments {
        LibtestArguments::of(&words(args), &Environment::default(), Harness::Libtest)
    }

    fn words(words: &[&str]) -> Vec<OsString> {
        words.iter().map(OsString::from).collect()
    }

    #[test]
    fn the_shape_of_the_output_is_understood() {
        assert_eq!(request(&[]), LibtestArguments::default());
        assert!(request(&["-q"]).terse && request(&["--format=terse"]).terse);
        assert!(!request(&["-q", "--format", "pretty"]).terse);
        assert!(request(&["-Zunstable-options", "--format", "json"]).json);
        for flag in ["--nocapture", "--no-capture", "--show-output"] {
            assert!(request(&[flag]).wants_output);
        }
        assert_eq!(request(&["--test-threads", "3"]).threads, Some(3));
        assert_eq!(request(&["--test-threads=1"]).concurrency(), 1);
        assert!(request(&["--list"]).prints_only);
    }

    fn called(line: &str) -> LibtestArguments {
        let args: Vec<_> = line.split_whitespace().map(OsString::from).collect();
        LibtestArguments::of_call(&args, &Environment::default())
    }

    #[test]
    fn only_what_runs_tests_is_recordable() {
        for line in ["", "name --exact", "--skip x -q", "--test-threads=1 --ignored"] {
            assert!(called(line).is_recordable(), "{line}");
        }
        assert!(called("--color always --show-output").is_recordable());
        assert!(called("-Z unstable-options --format=json").is_recordable());
        for line in [
            "--list",
            "--bench",
            "--help",
            "-h",
            "--format=junit",
            "--shuffle",
            "-Z other-options",
            "--logfile x",
            "--skip",
            "--exact=1",
            "-- --list",
            "--report-time",
            "--unknown",
        ] {
            assert!(!called(line).is_recordable(), "{line}");
        }
        let environment = Environment::of(&[("RUST_TEST_SHUFFLE", "1")]);
        assert!(!LibtestArguments::of_call(&[], &environment).is_recordable());
    }

    #[test]
    fn the_one_test_that_nextest_asks_for() {
        assert_eq!(called("a::b --nocapture --exact").only_test(), Some("a::b"));
        assert_eq!(called("--exact a --color always --skip=b").only_test(), Some("a"));
        for line in ["", "a", "a b --exact", "--exact --skip a", "--skip a --exact"] {
            assert_eq!(called(line).only_test(), None, "{line}");
        }
    }

    #[test]
    fn a_value_is_not_a_filter_and_a_filter_is_no_option() {
        assert!(!request(&["--color", "always", "--test-threads", "2"]).filtered);
        assert!(request(&["name"]).filtered && request(&["--skip", "x"]).filtered);
        assert!(request(&["--", "--nocapture"]).filtered);
        assert!(!request(&["--", "--nocapture"]).wants_output);
    }

    #[test]
    fn the_environment_speaks_where_the_arguments_do_not() {
        let variables = [("RUST_TEST_THREADS", "1"), ("RUST_TEST_NOCAPTURE", "0")];
        let mut environment = Environment::of(&variables);
        let request = LibtestArguments::of(&[], &environment, Harness::Libtest);
        assert_eq!((request.threads, request.wants_output), (Some(1), false));
        environment.set("RUST_TEST_NOCAPTURE", "1");
        assert!(LibtestArguments::of(&[], &environment, Harness::Libtest).wants_output);
    }

    #[test]
    fn rustdoc_arguments_are_looked_through() {
        let args = ["--test", "src/lib.rs", "--test-args", "--test-threads 1 -q", "--nocapture"];
        let request =
            LibtestArguments::of(&words(&args), &Environment::default(), Harness::Doctest);
        assert!(request.terse && request.wants_output && !request.filtered);
        assert_eq!(request.threads, Some(1));
    }

    #[test]
    fn the_list_is_asked_for_with_the_same_selection() {
        let args = ["x::y", "-q", "--format", "terse", "--logfile=l", "--skip", "z", "--", "-q"];
        let expected =
            ["--list", "--format", "terse", "--ignored", "x::y", "--skip", "z", "--", "-q"];
        assert_eq!(listing(&words(&args), true), words(&expected));
    }
}
