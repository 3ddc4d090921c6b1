//! One test program that cargo, or nextest, runs by itself, through us as its `runner`.
//!
//! Either the call is surely one of a libtest program, with arguments that are understood: then its
//! record answers, or it runs in our place, observed, and is recorded if it is green. Or it is
//! anything else: then it is to be run as if we were not there.
//!
//! **What the run sees of us**: its standard output is a pipe. Everything else (terminal, group,
//! standard input and error, environment, folder) is what cargo gave. Which of the streams are
//! terminals is part of the key, and a run that had anything to read on its standard input is none
//! that is kept.

mod request;

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use crate::model::End;
use crate::paths::Paths;
use crate::process::Environment;

/// The variable that, with the value `off`, has every program run as it is. Whoever runs tests to see
/// what they come to now sets it.
pub(super) const SWITCH: &str = "KNHK_TEST_CACHE_EXEC";

/// What cargo wants to be run.
#[derive(Clone, Debug)]
pub struct Invocation {
    /// The program.
    pub program: PathBuf,
    /// Its arguments.
    pub args: Vec<OsString>,
    /// The folder.
    pub dir: PathBuf,
    /// All variables.
    pub environment: Environment,
}

/// What came of a call.
#[derive(Debug)]
pub enum Called {
    /// Green by its record.
    Kept {
        /// What it printed on its standard output.
        stdout: String,
        /// Where that comes from, for a person.
        note: String,
    },
    /// It ran, and this is how it ended; all that it printed has been printed.
    Ran(End),
    /// Nothing is known about it, and nothing may come between it and who called: the program is
    /// to be run by `process::become_program`. If it has a reason for a person, it ran already.
    Pass(Option<String>),
}

/// Answers a call from its record, runs it, or passes.
#[cfg(not(target_os = "linux"))]
#[must_use]
pub fn call(_: &Invocation, _: &Paths) -> Called {
    Called::Pass(None)
}

#[cfg(target_os = "linux")]
pub use self::linux::call;

#[cfg(target_os = "linux")]
mod linux {
    use std::io::IsTerminal as _;
    use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
    use std::time::{Duration, SystemTime};

    use super::super::binary::{Call, Subject, memo_of};
    use super::super::patterns::{MayAlwaysRun, of_any_kind};
    use super::super::states::{States, until_settled};
    use super::{Called, End, Environment, Invocation, Path, PathBuf, Paths, SWITCH, request};
    use crate::cache::{Cache, Limits, Record};
    use crate::compiler::may_be_custom;
    use crate::config;
    use crate::model::{TargetId, TargetKind, TargetReport, Timestamp, Verdict};
    use crate::observer::{Observer, Options};
    use crate::process::{self, Spec};
    use crate::workspace::locate;

    /// The longest output that is kept, in bytes.
    const MOST: usize = 1 << 20;

    /// Answers a call from its record, runs it, or passes.
    #[must_use]
    pub fn call(invocation: &Invocation, paths: &Paths) -> Called {
        answered_or_run(invocation, paths).unwrap_or(Called::Pass(None))
    }

    /// `None`: there is a doubt, whichever.
    fn answered_or_run(invocation: &Invocation, paths: &Paths) -> Option<Called> {
        let Invocation { args, dir, environment, .. } = invocation;
        if environment.get(SWITCH).is_some_and(|value| value == "off") {
            return None;
        }
        let terminal = std::io::stdout().is_terminal();
        if !request::is_understood(args, environment, terminal) {
            return None;
        }
        let stdin = Stdin::now()?;
        let program = dir.join(&invocation.program);
        let target = Target::of(&program, environment)?;
        let root = locate(&target.manifest_dir).ok()?;
        let config = config::load(paths, environment).ok()?.config;
        let settings = config.settings_for(&root);
        let always = MayAlwaysRun::of(settings).may_name(&target.package, &target.name);
        let cache = Cache::open(&paths.cache_dir);
        if always || is_flaky(&cache, &root, &target) {
            return None;
        }
        let surroundings = format!(
            "input {} output {terminal} error {}",
            stdin.kind,
            std::io::stderr().is_terminal()
        );
        let mut states = States::default();
        let subject = Subject::of_call(
            target.id(),
            &root,
            (&program, args, dir, environment),
            &surroundings,
            (&mut states, &memo_of(&cache, &program)),
        );
        let subject = subject.ok()?;
        let mut call = Call { subject, root: &root, settings, cache: &cache, states };
        if let Some(record) = call.find() {
            return Some(kept(&record));
        }
        if may_be_custom(&target.manifest_dir, &target.name) || Observer::available().is_err() {
            return None;
        }
        let limits = Limits {
            keep_snapshots: settings.keep_snapshots as usize,
            max_bytes: config.cache.max_size,
            max_age: config.cache.max_age,
        };
        run(invocation, &mut call, &target, &stdin, terminal, limits)
    }

    /// The answer of a record.
    fn kept(record: &Record) -> Called {
        let report = &record.targets[0];
        let age = record.created.age(Timestamp::now()).unwrap_or_default();
        let note = format!(
            "knhk-test-cache: {} is cached: same program and inputs as {} s ago, when it took {} ms",
            report.id,
            age.as_secs(),
            report.duration_ms
        );
        Called::Kept { stdout: report.output.clone(), note }
    }

    /// Runs the program in our place, observed.
    fn run(
        invocation: &Invocation,
        call: &mut Call<'_>,
        target: &Target,
        stdin: &Stdin,
        terminal: bool,
        limits: Limits,
    ) -> Option<Called> {
        let Invocation { program, args, dir, environment } = invocation;
        let mut spec = Spec::new(program, dir, environment.clone());
        if terminal && !args.iter().any(|arg| arg.as_encoded_bytes().starts_with(b"--color")) {
            // It would find out by itself, had it the terminal.
            spec = spec.args(["--color", "always"]);
        }
        let spec = spec.args(args);
        std::thread::park_timeout(until_settled(&target.products(environment), SystemTime::now()));
        let held = process::hold_signals();
        let started = SystemTime::now();
        let Ok((spec, running)) = Observer::observe(&spec, Options::default()) else {
            held.release();
            return None;
        };
        let Ok(ran) = process::run_in_place(&spec, MOST, held) else {
            // Whoever becomes the program meets the same error, and tells it.
            held.release();
            return None;
        };
        let seen = running.finish();
        if ran.end != End::Exit(0) {
            if !seen.interference.is_empty() {
                held.release();
                let why: Vec<_> = seen.interference.iter().map(ToString::to_string).collect();
                let why = format!("{}: it failed while it was observed: once more", why.join(", "));
                return Some(Called::Pass(Some(why)));
            }
            call.disprove();
            return Some(Called::Ran(ran.end));
        }
        let stdout = ran.stdout.and_then(|bytes| String::from_utf8(bytes).ok());
        if let Some(stdout) = stdout
            && let Some(counts) = request::counts_of(&stdout)
            && stdin.is_untouched()
        {
            let report = TargetReport {
                id: target.id(),
                verdict: Verdict::Pass,
                end: ran.end,
                counts,
                tests: Vec::new(),
                output: stdout,
                duration_ms: u64::try_from(ran.elapsed.as_millis()).unwrap_or(u64::MAX),
            };
            let temporary = environment.get("TMPDIR").map_or_else(|| "/tmp".into(), PathBuf::from);
            let folders = (&*target.target_dir, &*dir.join(temporary));
            call.keep(report, (&seen, started), folders, limits);
        }
        Some(Called::Ran(ran.end))
    }

    /// Whether the target may be one of which tests were seen to be flaky.
    fn is_flaky(cache: &Cache, root: &Path, target: &Target) -> bool {
        let flaky = cache.state(root).flaky;
        let plain = |id: &str| id.replace('-', "_");
        let ids = of_any_kind(&target.package, &target.name).map(|id| plain(&id.to_string()));
        // A target of two builds has the triple behind its name.
        flaky
            .keys()
            .map(|id| plain(id))
            .any(|id| ids.iter().any(|known| id == *known || id.starts_with(&format!("{known}@"))))
    }

    /// Which test target a program is, by where it lies and what cargo says of its package.
    struct Target {
        program: PathBuf,
        package: String,
        /// As it stands in the file's name: `-` has become `_`.
        name: String,
        manifest_dir: PathBuf,
        target_dir: PathBuf,
    }

    impl Target {
        /// `None` if it does not look like one.
        fn of(program: &Path, environment: &Environment) -> Option<Self> {
            let (name, hash) = program.file_name()?.to_str()?.rsplit_once('-')?;
            let is_hash = hash.len() == 16 && hash.bytes().all(|byte| byte.is_ascii_hexdigit());
            let deps = program.parent()?;
            let profile = deps.parent()?;
            if !is_hash || name.contains('-') || !deps.ends_with("deps") || !profile.is_absolute() {
                return None;
            }
            let is_target = |dir: &&Path| dir.join("CACHEDIR.TAG").is_file();
            let target_dir = profile.ancestors().take(4).find(is_target)?.to_owned();
            let manifest_dir = PathBuf::from(environment.get("CARGO_MANIFEST_DIR")?);
            let package = environment.get("CARGO_PKG_NAME")?.to_str()?.to_owned();
            let name = name.to_owned();
            (manifest_dir.is_absolute() && !manifest_dir.starts_with(&target_dir)).then(|| Self {
                program: program.to_owned(),
                package,
                name,
                manifest_dir,
                target_dir,
            })
        }

        /// The target's name, as far as it can be told without asking cargo.
        fn id(&self) -> TargetId {
            let Self { package, name, manifest_dir, .. } = self;
            let there = |path: String| manifest_dir.join(path).exists();
            let hyphens = name.replace('_', "-");
            let file = [name, &hyphens].into_iter().find(|name| {
                there(format!("tests/{name}.rs")) || there(format!("tests/{name}/main.rs"))
            });
            let (target, kind) = match file {
                Some(file) => (file.clone(), TargetKind::Test),
                None if there("src/lib.rs".to_owned()) => (name.clone(), TargetKind::Lib),
                None => (name.clone(), TargetKind::Bin),
            };
            TargetId { package: package.clone(), target, kind }
        }

        /// What cargo has made for this run, as far as it says.
        fn products(&self, environment: &Environment) -> Vec<PathBuf> {
            let programs = environment
                .iter()
                .filter(|(name, _)| name.as_encoded_bytes().starts_with(b"CARGO_BIN_EXE_"));
            let programs = programs.map(|(_, path)| PathBuf::from(path));
            programs.chain([self.program.clone()]).collect()
        }
    }

    /// What can be read from standard input.
    struct Stdin {
        kind: &'static str,
        /// A pipe's time of change: nobody has written into it while that is the same.
        written: Option<(i64, i64)>,
    }

    impl Stdin {
        /// `None` if there is or may be something to read.
        fn now() -> Option<Self> {
            let stdin = std::io::stdin();
            if stdin.is_terminal() {
                return Some(Self { kind: "terminal", written: None });
            }
            // Through the descriptor itself, not through a name of it.
            let file = std::fs::File::from(rustix::io::dup(&stdin).ok()?);
            let metadata = file.metadata().ok()?;
            let kind = metadata.file_type();
            let time = (metadata.mtime(), metadata.mtime_nsec());
            let null = std::fs::metadata("/dev/null").ok()?;
            if kind.is_char_device() && metadata.rdev() == null.rdev() {
                return Some(Self { kind: "null", written: None });
            }
            // A later write shows, however coarse the clock.
            let since = SystemTime::now().duration_since(metadata.modified().ok()?).ok()?;
            if since < Duration::from_millis(25) {
                return None;
            }
            let empty = || rustix::io::ioctl_fionread(&file).is_ok_and(|count| count == 0);
            (kind.is_fifo() && empty()).then_some(Self { kind: "pipe", written: Some(time) })
        }

        /// Whether there was nothing to read all the time.
        fn is_untouched(&self) -> bool {
            Self::now().is_some_and(|now| now.kind == self.kind && now.written == self.written)
        }
    }

    #[cfg(test)]
    mod tests {
        use super::*;

        #[test]
        fn only_a_program_where_cargo_puts_tests_is_one() {
            let dir = tempfile::tempdir().unwrap();
            let target = dir.path().join("target");
            std::fs::create_dir_all(target.join("debug/deps")).unwrap();
            let mut environment = Environment::default();
            environment.set("CARGO_MANIFEST_DIR", dir.path());
            environment.set("CARGO_PKG_NAME", "p-q");
            let of = |path: &str, environment: &Environment| {
                Target::of(&target.join(path), environment).map(|target| target.id().to_string())
            };
            let good = "debug/deps/p_q-0123456789abcdef";
            assert_eq!(of(good, &environment), None, "no target folder");
            std::fs::write(target.join("CACHEDIR.TAG"), "").unwrap();
            assert_eq!(of(good, &environment), Some("p-q::bin/p_q".into()));
            for bad in ["debug/p_q", "debug/deps/p_q", "debug/deps/p_q-0123456789abcdeg"] {
                assert_eq!(of(bad, &environment), None, "{bad}");
            }
            environment.remove("CARGO_MANIFEST_DIR");
            assert_eq!(of(good, &environment), None);
        }
    }
}
