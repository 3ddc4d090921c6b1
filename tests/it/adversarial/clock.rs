//! The clock is set back and forward: ages then mean nothing and must give no hit.
//!
//! Only our own program sees another time, by a library that is loaded before the system's. That
//! removes itself from the environment, so that cargo and the tests know nothing of it.

use std::fs;
use std::time::{Duration, SystemTime};

use crate::home::{Answered, EXE, Home, LIMIT, Ran, can_observe, skip, takes_long, until_old};

const LIBRARY: &str = r#"
    use std::ffi::{c_char, c_int, c_long, c_longlong};
    use std::sync::atomic::{AtomicI64, Ordering};

    extern "C" {
        fn syscall(number: c_long, ...) -> c_long;
        fn getenv(name: *const c_char) -> *const c_char;
        fn unsetenv(name: *const c_char) -> c_int;
        fn atoll(text: *const c_char) -> c_longlong;
    }

    #[cfg(target_arch = "x86_64")]
    const CLOCK_GETTIME: c_long = 228;
    #[cfg(target_arch = "aarch64")]
    const CLOCK_GETTIME: c_long = 113;
    const REALTIME: [c_int; 2] = [0, 5];

    static OFFSET: AtomicI64 = AtomicI64::new(0);

    #[used]
    #[link_section = ".init_array"]
    static BEGIN: extern "C" fn() = begin;

    extern "C" fn begin() {
        unsafe {
            let text = getenv(c"CLOCK_OFFSET".as_ptr());
            if !text.is_null() {
                OFFSET.store(atoll(text), Ordering::SeqCst);
            }
            unsetenv(c"CLOCK_OFFSET".as_ptr());
            unsetenv(c"LD_PRELOAD".as_ptr());
        }
    }

    #[no_mangle]
    pub unsafe extern "C" fn clock_gettime(clock: c_int, time: *mut [i64; 2]) -> c_int {
        let result = syscall(CLOCK_GETTIME, clock, time);
        if result == 0 && REALTIME.contains(&clock) {
            (*time)[0] += OFFSET.load(Ordering::SeqCst);
        }
        result as c_int
    }
"#;

/// Seconds: more than the ttl.
const BACK: i64 = -2 * 3_600;
const AHEAD: i64 = 2 * 3_600;

struct Clocked {
    home: Home,
    library: String,
}

impl Clocked {
    /// With a test that reads `data`, built and old; `None` where programs cannot be told another
    /// time.
    fn new() -> Option<Self> {
        if !cfg!(any(target_arch = "x86_64", target_arch = "aarch64")) || cfg!(target_env = "musl")
        {
            skip("the clock moved back", "no library can be loaded into the program");
            return None;
        }
        let test =
            "#[test]\nfn text() { assert_eq!(std::fs::read(\"data\").unwrap(), b\"good\"); }\n";
        let home = Home::with(&[("tests/it.rs", test), ("data", "good")]);
        let source = home.base.join("out/clock.rs");
        fs::write(&source, LIBRARY).unwrap();
        let library = home.base.join("out/libclock.so").to_str().unwrap().to_owned();
        let args = ["--edition", "2021", "--crate-type", "cdylib", "-o", &library];
        let compiled = home.start("rustc", &[&args[..], &[source.to_str().unwrap()]].concat());
        let compiled = compiled.end(LIMIT);
        assert_eq!(compiled.code, Some(0), "{compiled:#?}");
        until_old(&home.root.join("data"));
        Some(Self { home, library })
    }

    /// Our program is told a time that is so many seconds later.
    fn at(&mut self, offset: i64) -> &Home {
        self.home.environment.set("LD_PRELOAD", &self.library);
        self.home.environment.set("CLOCK_OFFSET", offset.to_string());
        &self.home
    }

    #[track_caller]
    fn ask(&mut self, offset: i64) -> Answered {
        let answer = self.at(offset).test(&["--no-daemon"]);
        // The tests of the workspace may.
        assert!(!answer.ran.stderr.contains("panicked at src"), "{answer:#?}");
        answer
    }

    /// Plain `cargo test` through our program, which alone is told another time.
    #[track_caller]
    fn cargo(&self, offset: i64) -> Ran {
        let Self { home, library } = self;
        let clock = [format!("LD_PRELOAD={library}"), format!("CLOCK_OFFSET={offset}")];
        let [preload, clock] = &clock;
        let runner =
            format!("target.'cfg(all())'.runner=['env', {preload:?}, {clock:?}, {EXE:?}, 'exec']");
        let ran = home.start("cargo", &["--config", &runner, "test", "--test", "it"]).end(LIMIT);
        assert!(!ran.stderr.contains("panicked at src"), "{ran:#?}");
        ran
    }

    /// A file of the same size that says it was written then.
    fn write(&self, text: &str, when: SystemTime) {
        let path = self.home.root.join("data");
        fs::write(&path, text).unwrap();
        fs::File::options().append(true).open(path).unwrap().set_modified(when).unwrap();
    }
}

#[test]
fn a_record_from_the_future_is_a_miss() {
    let Some(mut clocked) = Clocked::new() else { return };
    clocked.ask(0).green_from("run");
    clocked.ask(0).green_from("cache");
    // The library does what it should, and a little is nothing.
    clocked.ask(60).green_from("cache");
    clocked.ask(BACK).green_from("run");
    clocked.ask(AHEAD).green_from("run");
    clocked.ask(AHEAD).green_from("cache");
    // What was recorded then is from the future again.
    clocked.ask(0).green_from("run");
    clocked.ask(0).green_from("cache");
}

#[test]
fn a_written_file_is_noticed_at_any_clock() {
    if takes_long() {
        return;
    }
    let Some(mut clocked) = Clocked::new() else { return };
    clocked.ask(0).green_from("run");
    let original = clocked.home.root.join("data").metadata().unwrap().modified().unwrap();
    let hours = |hours: u64| Duration::from_secs(hours * 3_600);
    let times =
        [original, SystemTime::now() - hours(3), SystemTime::now() + hours(3), SystemTime::now()];
    for offset in [BACK, 0, AHEAD] {
        for time in times {
            clocked.write("good", time);
            clocked.ask(offset).green();
            clocked.write("evil", time);
            clocked.ask(offset).red();
        }
    }
}

#[test]
fn a_daemon_with_a_clock_set_back_looks_at_the_files() {
    let Some(mut clocked) = Clocked::new() else { return };
    clocked.ask(0).green_from("run");
    let original = clocked.home.root.join("data").metadata().unwrap().modified().unwrap();
    let home = clocked.at(BACK);
    home.config("", "debounce = '1h'");
    let daemon = home.daemon();
    home.test(&[]).green_from("run");
    clocked.write("evil", original);
    clocked.home.test(&[]).red();
    clocked.write("good", original);
    clocked.home.test(&[]).green();
    let ended = daemon.stop();
    assert!(!ended.stderr.contains("panicked at src"), "{ended:#?}");
}

#[test]
fn plain_cargo_test_is_not_answered_by_a_record_from_the_future() {
    if !can_observe("exec and the clock") {
        return;
    }
    let Some(clocked) = Clocked::new() else { return };
    let built = clocked.home.start("cargo", &["test", "--no-run"]).end(LIMIT);
    assert_eq!(built.code, Some(0), "{built:#?}");
    let ask = |offset, cached| {
        let ran = clocked.cargo(offset);
        assert_eq!((ran.code, ran.stderr.contains("is cached:")), (Some(0), cached), "{ran:#?}");
    };
    ask(0, false);
    ask(0, true);
    ask(60, true);
    ask(BACK, false);
    ask(AHEAD, false);
    ask(AHEAD, true);
    ask(0, false);
    ask(0, true);
    clocked.write("evil", SystemTime::now() - Duration::from_secs(10_000));
    for offset in [BACK, 0, AHEAD] {
        assert_eq!(clocked.cargo(offset).code, Some(101));
    }
}
