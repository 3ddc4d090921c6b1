//! cargo test's selection in cargo-nextest's words.

use std::ffi::OsString;

use super::NextestError;

/// Options of `cargo nextest run` that `cargo nextest list` does not know, without a value.
const RUN_ONLY_FLAGS: &[&str] = &[
    "--no-output-indent",
    "--hide-progress-bar",
    "--no-input-handler",
    "--no-capture",
    "--nocapture",
];

/// The same with a value.
const RUN_ONLY_OPTIONS: &[&str] = &[
    "--test-threads",
    "--retries",
    "--flaky-result",
    "--no-tests",
    "--failure-output",
    "--success-output",
    "--status-level",
    "--final-status-level",
    "--max-progress-running",
];

/// Options of cargo's that decide only what is built, without a value: a run of built tests does not
/// take them.
const BUILD_FLAGS: &[&str] = &[
    "--workspace",
    "--all",
    "--lib",
    "--bins",
    "--examples",
    "--tests",
    "--benches",
    "--all-targets",
    "--all-features",
    "--no-default-features",
    "-r",
    "--release",
    "--frozen",
    "--locked",
    "--offline",
    "--ignore-rust-version",
    "--future-incompat-report",
    "--cargo-quiet",
    "--cargo-verbose",
];

/// The same with a value.
const BUILD_OPTIONS: &[&str] = &[
    "-p",
    "--package",
    "--exclude",
    "--bin",
    "--example",
    "--test",
    "--bench",
    "-F",
    "--features",
    "--build-jobs",
    "--cargo-profile",
    "--target",
    "--target-dir",
    "--manifest-path",
];

/// Options that decide about a run too, and that a run of built tests does not take.
const ONLY_WITH_BUILD: &[&str] = &["--config", "-Z", "--unit-graph", "--timings", "--archive-file"];

/// Options with which the events could not be matched with the list of tests.
const UNSUPPORTED: &[(&str, &str)] = &[
    ("--doc", "it does not run doctests; take `runner = \"cargo\"` for them"),
    ("--no-run", "nothing would be run"),
    ("--fail-fast", "every test target gets its verdict"),
    ("--ff", "every test target gets its verdict"),
    ("--max-fail", "every test target gets its verdict"),
    ("--rerun", "only a run of all selected tests has a verdict"),
    ("-R", "only a run of all selected tests has a verdict"),
    ("--stress-count", "a verdict is that of one run"),
    ("--stress-duration", "a verdict is that of one run"),
    ("--debugger", "nobody could talk to it"),
    ("--tracer", "it changes what is run"),
];

/// The arguments of both calls.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct NextestArguments {
    /// For `run`, before `--`.
    pub(super) run: Vec<OsString>,
    /// For `list`, before `--`.
    pub(super) list: Vec<OsString>,
    /// For `run`, after `--`.
    pub(super) harness: Vec<OsString>,
    /// For `list`, after `--`.
    pub(super) list_harness: Vec<OsString>,
    /// The tests print to the same stream as the events.
    pub(super) no_capture: bool,
}

/// The arguments of a run of tests that are built.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct BuiltArguments {
    /// For `cargo metadata`.
    pub(super) metadata: Vec<OsString>,
    /// For `cargo nextest run`, before `--`.
    pub(super) run: Vec<OsString>,
}

impl NextestArguments {
    /// Translates what means something else, or nothing, to nextest.
    pub(super) fn translate(
        selection: &[OsString],
        harness: &[OsString],
    ) -> Result<Self, NextestError> {
        let mut this = Self::default();
        this.selection(selection)?;
        this.harness(harness);
        Ok(this)
    }

    /// The arguments without those that only decide what is built.
    ///
    /// # Errors
    /// The option that a run of built tests does not take.
    pub(super) fn without_build(&self) -> Result<BuiltArguments, String> {
        let mut built = BuiltArguments::default();
        let mut args = self.run.iter();
        while let Some(arg) = args.next() {
            let text = arg.to_string_lossy();
            let (name, inline) = match text.split_once('=') {
                Some((name, _)) if name.starts_with("--") => (name, true),
                // `-pNAME`
                _ if text.len() > 2 && BUILD_OPTIONS.contains(&&text[..2]) => (&text[..2], true),
                _ => (&*text, false),
            };
            if ONLY_WITH_BUILD.contains(&name) || name.starts_with("-Z") {
                return Err(name.to_owned());
            }
            if BUILD_FLAGS.contains(&name) {
                if matches!(name, "--frozen" | "--locked" | "--offline") {
                    built.metadata.push(arg.clone());
                }
            } else if BUILD_OPTIONS.contains(&name) {
                let value = if inline { None } else { args.next().cloned() };
                if name == "--manifest-path" {
                    built.metadata.push(arg.clone());
                    built.metadata.extend(value);
                }
            } else {
                built.run.push(arg.clone());
            }
        }
        Ok(built)
    }

    fn both(&mut self, args: impl IntoIterator<Item = OsString>) {
        for arg in args {
            self.run.push(arg.clone());
            self.list.push(arg);
        }
    }

    fn selection(&mut self, args: &[OsString]) -> Result<(), NextestError> {
        let mut args = args.iter();
        while let Some(arg) = args.next() {
            let text = arg.to_string_lossy();
            let (name, inline) = match text.split_once('=') {
                Some((name, value)) if name.starts_with("--") => (name, Some(value.into())),
                _ => (&*text, None),
            };
            if let Some((option, why)) = UNSUPPORTED.iter().find(|(option, _)| *option == name) {
                return Err(NextestError::Unsupported { option: (*option).to_owned(), why });
            }
            let mut value = || inline.clone().or_else(|| args.next().cloned());
            match name {
                "-q" | "--quiet" | "-v" | "-vv" | "--verbose" | "--no-fail-fast" | "--nff" => {}
                // Ours, and cargo's own has no tests to report.
                "--message-format" | "--message-format-version" => drop(value()),
                "--profile" => self.both(["--cargo-profile".into()].into_iter().chain(value())),
                "-j" | "--jobs" => self.both(["--build-jobs".into()].into_iter().chain(value())),
                _ if name.starts_with("-j") => {
                    self.both(["--build-jobs".into(), name["-j".len()..].into()]);
                }
                _ if RUN_ONLY_FLAGS.contains(&name) => {
                    self.no_capture |= name.ends_with("capture");
                    self.run.push(arg.clone());
                }
                _ if RUN_ONLY_OPTIONS.contains(&name) => {
                    self.run.push(name.into());
                    self.run.extend(value());
                }
                _ => self.both([arg.clone()]),
            }
        }
        Ok(())
    }

    fn harness(&mut self, args: &[OsString]) {
        let mut args = args.iter();
        while let Some(arg) = args.next() {
            let text = arg.to_string_lossy();
            match &*text {
                // How to print: nextest's own options, or nothing.
                "-q" | "--quiet" => {}
                "--show-output" => {
                    self.run.extend(["--success-output", "immediate"].map(Into::into));
                }
                "--color" | "--format" => drop(args.next()),
                _ if text.starts_with("--color=") || text.starts_with("--format=") => {}
                "--nocapture" | "--no-capture" => {
                    self.no_capture = true;
                    self.harness.push(arg.clone());
                }
                "--test-threads" => {
                    self.run.push(arg.clone());
                    self.run.extend(args.next().cloned());
                }
                _ if text.starts_with("--test-threads=") => self.run.push(arg.clone()),
                _ => {
                    self.harness.push(arg.clone());
                    self.list_harness.push(arg.clone());
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn translate(selection: &[&str], harness: &[&str]) -> Result<NextestArguments, NextestError> {
        let own = |args: &[&str]| args.iter().map(OsString::from).collect::<Vec<_>>();
        NextestArguments::translate(&own(selection), &own(harness))
    }

    fn own(args: &[&str]) -> Vec<OsString> {
        args.iter().map(OsString::from).collect()
    }

    #[test]
    fn a_run_of_built_tests_has_no_option_of_the_build() {
        let args = [
            "--workspace",
            "-pa",
            "-p",
            "b",
            "--features=x",
            "--manifest-path",
            "m",
            "--locked",
            "--retries",
            "2",
            "-E",
            "test(x)",
            "name",
        ];
        let built = translate(&args, &[]).unwrap().without_build().unwrap();
        assert_eq!(built.run, own(&["--retries", "2", "-E", "test(x)", "name"]));
        assert_eq!(built.metadata, own(&["--manifest-path", "m", "--locked"]));
        let error = translate(&["--config", "a.b=1"], &[]).unwrap().without_build();
        assert_eq!(error, Err("--config".to_owned()));
    }

    #[test]
    fn cargo_tests_meaning_is_preserved() {
        let args = ["--workspace", "-q", "--profile=ci", "-j4", "--jobs", "2", "name"];
        let translated = translate(&args, &["--skip", "x"]).unwrap();
        let expected = [
            "--workspace",
            "--cargo-profile",
            "ci",
            "--build-jobs",
            "4",
            "--build-jobs",
            "2",
            "name",
        ];
        assert_eq!(translated.run, own(&expected));
        assert_eq!(translated.list, translated.run);
        assert_eq!(translated.harness, own(&["--skip", "x"]));
    }

    #[test]
    fn the_list_is_not_given_what_only_a_run_knows() {
        let args = [
            "--retries",
            "2",
            "--no-tests=pass",
            "--no-capture",
            "-E",
            "test(a)",
            "--no-fail-fast",
        ];
        let translated =
            translate(&args, &["--nocapture", "--test-threads=1", "--show-output"]).unwrap();
        assert_eq!(translated.list, own(&["-E", "test(a)"]));
        let run = [
            "--retries",
            "2",
            "--no-tests",
            "pass",
            "--no-capture",
            "-E",
            "test(a)",
            "--test-threads=1",
            "--success-output",
            "immediate",
        ];
        assert_eq!(translated.run, own(&run));
        assert_eq!((translated.list_harness, translated.no_capture), (own(&[]), true));
    }

    #[test]
    fn an_unsupported_option_is_named() {
        for (option, _) in UNSUPPORTED {
            let error = translate(&[option], &[]).unwrap_err().to_string();
            assert!(error.contains(option), "{error}");
        }
    }
}
