//! Tests of loading: what a file means, and every way in which it can be wrong.

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};

use proptest::prelude::*;

use super::error::Fault;
use super::*;
use crate::paths::Paths;
use crate::process::Environment;

/// So many cases, and no file of failures beside the sources: a failure is to become a test.
pub(super) fn cases(cases: u32) -> ProptestConfig {
    ProptestConfig { cases, failure_persistence: None, ..ProptestConfig::default() }
}

/// A home of its own, with a config file in it.
pub(super) struct Home {
    _dir: tempfile::TempDir,
    pub(super) paths: Paths,
    pub(super) environment: Environment,
}

impl Home {
    pub(super) fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let home = dir.path().canonicalize().unwrap();
        let mut environment = Environment::default();
        environment.set("HOME", &home);
        environment.set("XDG_CONFIG_HOME", home.join("config"));
        let paths = Paths::from_environment(&environment).unwrap();
        Self { _dir: dir, paths, environment }
    }

    pub(super) fn with(text: impl AsRef<[u8]>) -> Self {
        let home = Self::new();
        home.write(text);
        home
    }

    pub(super) fn write(&self, text: impl AsRef<[u8]>) {
        fs::create_dir_all(self.paths.config_file.parent().unwrap()).unwrap();
        fs::write(&self.paths.config_file, text).unwrap();
    }

    /// A folder in the home, made.
    pub(super) fn folder(&self, name: &str) -> PathBuf {
        let folder = self.paths.home.join(name);
        fs::create_dir_all(&folder).unwrap();
        folder
    }

    pub(super) fn load(&self) -> Result<Loaded, ConfigError> {
        load(&self.paths, &self.environment)
    }

    /// The error of the file, without its own name in it.
    fn rendered(&self, error: &ConfigError) -> String {
        error.to_string().replace(self.paths.home.to_str().unwrap(), "~")
    }
}

/// The rendered error of a text.
fn error_of(text: &str) -> String {
    let home = Home::with(text);
    home.rendered(&home.load().unwrap_err())
}

#[test]
fn no_file_means_the_shipped_default() {
    let loaded = Home::new().load().unwrap();
    assert_eq!(loaded.source, None);
    assert!(loaded.problems.is_empty());
    let config = Config {
        cache: CacheSettings { max_size: 2 << 30, max_age: Some(Duration::from_secs(30 * 86_400)) },
        log: LogSettings { level: LogLevel::Info },
        background: BackgroundSettings {
            on_battery: Effort::Pause,
            battery_below: 40,
            power_save: Effort::Slow,
            memory_pressure: Some(10),
            session_locked: Effort::Run,
            processors_busy: Effort::Pause,
            jobs: None,
        },
        service: ServiceSettings { idle_timeout: Some(Duration::from_secs(4 * 3_600)) },
        shared: SharedSettings {
            url: None,
            read: true,
            write: false,
            sign_with: None,
            allowed_signers: None,
            trust_peers: false,
        },
        defaults: Settings {
            args: vec!["--workspace".into()],
            extra_inputs: vec![],
            exclude: vec![],
            ttl: Duration::from_secs(3_600),
            keep_snapshots: 10,
            debounce: Duration::from_secs(1),
            runner: Runner::Cargo,
            background_tests: BackgroundTests::Auto,
            selection: TestSelection::Shadow,
            verify_percent: 0,
            flaky_runs: 3,
            observe_budget: 20,
            timeout: Some(Duration::from_secs(3_600)),
            always_run: vec![],
            trusted_services: vec![],
            ignore_env: vec![],
            extra_env: vec![],
            target_dir: TargetDir::Cargo,
            build_timeout: Some(Duration::from_secs(1_800)),
            background_timeout: Some(Duration::from_secs(1_800)),
            clean_target: false,
            serial: false,
            notify: Notifications::Off,
        },
        projects: vec![],
    };
    assert_eq!(loaded.config, config);
    for same in ["", "\u{feff}", DEFAULT, "project = []"] {
        assert_eq!(Home::with(same).load().unwrap().config, config, "{same}");
    }
}

#[test]
fn a_shared_store_is_read_with_its_files_expanded() {
    let home = Home::with(
        "[shared]\nurl = 'file:///mnt/team'\nwrite = true\nsign_with = '~/.ssh/ci'\n\
         allowed_signers = '$HOME/signers'",
    );
    let loaded = home.load().unwrap();
    let shared = &loaded.config.shared;
    assert_eq!(shared.url.as_deref(), Some("file:///mnt/team"));
    assert_eq!(shared.sign_with, Some(home.paths.home.join(".ssh/ci")));
    assert_eq!(shared.allowed_signers, Some(home.paths.home.join("signers")));
    assert!(shared.read && shared.write && !shared.trust_peers);
    assert_eq!(Home::with(loaded.show()).load().unwrap().config, loaded.config);
    home.write("[shared]\nallowed_signers = '~/p/signers'\n[[project]]\npath = '~/p'");
    home.folder("p");
    let problems = home.load().unwrap().problems;
    assert!(home.rendered(&problems[0]).contains("a change to the code could change it"));
    let server = Home::with("[shared]\nurl = 's3://team/verdicts?region=x'").load().unwrap();
    assert_eq!(server.problems.is_empty(), cfg!(feature = "shared"), "{:?}", server.problems);
    for (bad, why) in [
        ("url = 'https://example.com'", "names no store that is supported"),
        ("url = true", "invalid type: boolean"),
        ("sign_with = 'key'", "`key` is relative"),
        ("allowed_signers = '$NOT_SET_ANYWHERE/x'", "is not set"),
        ("write = 'yes'", "invalid type: string"),
        ("token = 'x'", "token"),
    ] {
        let error = error_of(&format!("[shared]\n{bad}"));
        assert!(error.contains(why), "{bad}: {error}");
    }
}

#[test]
fn notifications_of_the_desktop_take_a_build_that_has_them() {
    let home =
        Home::with("[defaults]\nnotify = 'desktop'\n[[project]]\npath = '~/p'\nnotify = 'off'");
    home.folder("p");
    let loaded = home.load().unwrap();
    assert_eq!(loaded.config.defaults.notify, Notifications::Desktop);
    assert_eq!(loaded.config.projects[0].settings.notify, Notifications::Off);
    let told = loaded.problems.iter().map(|problem| home.rendered(problem)).collect::<String>();
    let is_told = told.contains("feature `desktop-notifications`");
    assert_eq!(is_told, !cfg!(feature = "desktop-notifications"), "{told}");
}

#[test]
fn every_key_of_the_shipped_default_is_explained() {
    let lines = DEFAULT.lines().collect::<Vec<_>>();
    for pair in lines.windows(2).filter(|pair| pair[1].starts_with(char::is_alphabetic)) {
        assert!(pair[0].starts_with("# "), "{}", pair[1]);
    }
}

#[test]
fn the_example_of_the_shipped_default_is_a_project() {
    let example = DEFAULT.split_once("# [[project]]").unwrap().1.replace("\n# ", "\n");
    let loaded = Home::with(format!("[[project]]{example}")).load().unwrap();
    assert_eq!(loaded.config.projects[0].name(), "my-workspace");
    assert_eq!(loaded.config.projects[0].settings.ttl, Duration::from_secs(8 * 3_600));
}

#[test]
fn layers_lie_over_one_another() {
    let mut home = Home::with(
        r#"
        log.level = "debug"
        [cache]
        max_size = "500MB"
        [background]
        on_battery = "slow"
        battery_below = "100%"
        power_save = "pause"
        memory_pressure = "0%"
        session_locked = "pause"
        processors_busy = "slow"
        jobs = 3
        [defaults]
        args = ["-p", "a", "--", "--ignored"]
        ttl = "90s"
        timeout = "0s"
        [[project]]
        path = "~/one"
        [[project]]
        path = "${WORK}/two$$"
        args = []
        extra_inputs = [".env.local", "fixtures/**"]
        exclude = ["*.md"]
        ttl = "1h 30m"
        keep_snapshots = 1
        debounce = "0s"
        runner = "nextest"
        background_tests = true
        selection = "off"
        verify_percent = 100
        flaky_runs = 1
        observe_budget = "100%"
        timeout = "500ms"
        always_run = ["*::network"]
        trusted_services = ["[[]::1]:80", "/run/x"]
        ignore_env = ["MY_PROMPT_*"]
        extra_env = ["TERM"]
        target_dir = "own"
        build_timeout = "0s"
        background_timeout = "90s"
        clean_target = true
        serial = true
        notify = "terminal"
        "#,
    );
    let one = home.folder("one");
    let two = home.folder("two$");
    home.environment.set("WORK", &home.paths.home);
    let Loaded { config, source, problems } = home.load().unwrap();
    assert_eq!(source.as_ref(), Some(&home.paths.config_file));
    assert_eq!(problems, []);
    assert_eq!(config.log.level, LogLevel::Debug);
    assert_eq!(config.cache.max_size, 500_000_000);
    assert_eq!(
        config.background,
        BackgroundSettings {
            on_battery: Effort::Slow,
            battery_below: 100,
            power_save: Effort::Pause,
            memory_pressure: None,
            session_locked: Effort::Pause,
            processors_busy: Effort::Slow,
            jobs: NonZeroUsize::new(3),
        }
    );
    assert_eq!(config.defaults.timeout, None);
    let [first, second] = &config.projects[..] else { panic!("{config:?}") };
    assert_eq!((&first.path, &*first.written), (&one, "~/one"));
    assert_eq!(first.settings, config.defaults);
    assert_eq!(first.settings.args, ["-p", "a", "--", "--ignored"]);
    assert_eq!(second.path, two);
    assert_eq!(
        second.settings,
        Settings {
            args: vec![],
            extra_inputs: vec![".env.local".into(), "fixtures/**".into()],
            exclude: vec!["*.md".into()],
            ttl: Duration::from_secs(5_400),
            keep_snapshots: 1,
            debounce: Duration::ZERO,
            runner: Runner::Nextest,
            background_tests: BackgroundTests::All,
            selection: TestSelection::Off,
            verify_percent: 100,
            flaky_runs: 1,
            observe_budget: 100,
            timeout: Some(Duration::from_millis(500)),
            always_run: vec!["*::network".into()],
            trusted_services: vec!["[[]::1]:80".into(), "/run/x".into()],
            ignore_env: vec!["MY_PROMPT_*".into()],
            extra_env: vec!["TERM".into()],
            target_dir: TargetDir::Own(home.paths.own_targets()),
            build_timeout: None,
            background_timeout: Some(Duration::from_secs(90)),
            clean_target: true,
            serial: true,
            notify: Notifications::Terminal,
        }
    );
}

#[test]
fn an_unknown_key_is_shown_where_it_stands() {
    insta::assert_snapshot!(error_of("[defaults]\n\tttl = '2h'\n\tdebonce = '1s'\n"), @"
    unknown key `debonce` in `[defaults]`
     --> ~/config/knhk-test-cache/config.toml:3:2
      |
    3 |  debonce = '1s'
      |  ^^^^^^^ did you mean `debounce`?
      |
      = allowed: `always_run`, `args`, `background_tests`, `background_timeout`, `build_timeout`, `clean_target`, `debounce`, `exclude`, `extra_env`, `extra_inputs`, `flaky_runs`, `ignore_env`, `keep_snapshots`, `notify`, `observe_budget`, `runner`, `selection`, `serial`, `target_dir`, `timeout`, `trusted_services`, `ttl`, `verify_percent`
    ");
}

#[test]
fn a_wrong_type_says_what_was_meant() {
    insta::assert_snapshot!(error_of("[[project]]\npath = '/a'\nargs = '-p core'"), @r#"
    `args`: invalid type: string "-p core"
     --> ~/config/knhk-test-cache/config.toml:3:8
      |
    3 | args = '-p core'
      |        ^^^^^^^^^
      |
      = allowed: a list with one word an entry, such as ["-p", "my-crate"]
    "#);
}

#[test]
fn what_is_no_toml_is_shown_where_it_ends() {
    insta::assert_snapshot!(error_of("[log]\nlevel = \"info\n"), @r#"
    the config is not TOML: invalid basic string, expected `"`
     --> ~/config/knhk-test-cache/config.toml:2:14
      |
    2 | level = "info
      |              ^
    "#);
}

#[test]
fn a_project_listed_twice_names_both_places() {
    let home = Home::new();
    let real = home.folder("real");
    symlink(&real, home.paths.home.join("link")).unwrap();
    home.write("[[project]]\npath = '~/real'\n[[project]]\npath = '~/link/'\n");
    let error = home.load().unwrap_err();
    assert_eq!(error.fault(), &Fault::Duplicate { path: real.clone(), first: 2 });
    assert_eq!((error.line(), error.column()), (Some(4), Some(8)));
    assert_eq!(error.project(), Some(&*real));
    // The same while the folder is gone.
    fs::remove_dir(&real).unwrap();
    assert_eq!(home.load().unwrap_err(), error);
}

/// Each line of text with what its error says and where: everything that one can get wrong.
#[test]
fn whatever_is_wrong_is_named_with_its_place() {
    for (text, place, says) in [
        ("port = 1", (1, 1), "unknown key `port` at the top of the file"),
        ("ttl = '1h'", (1, 1), "belongs in `[defaults]` or a `[[project]]`"),
        ("[defaults]\npath = '/a'", (2, 1), "belongs in a `[[project]]`"),
        ("[cache]\nmaxsize = '1GB'", (2, 1), "did you mean `max_size`?"),
        ("[log]\nfile = 'x'", (2, 1), "allowed: `level`"),
        ("[cahce]\n", (1, 2), "did you mean `cache`?"),
        ("defaults.foo.bar = 1", (1, 10), "unknown key `foo`"),
        ("[[project]]\npath = '/a'\n[project.env]\nA = 'b'", (3, 10), "unknown key `env`"),
        ("[[project]]\npath = '/a'\nname = 'b'", (3, 1), "unknown key `name` in `[[project]]`"),
        ("log = 'info'", (1, 7), "`log` must be a table, and is of type string"),
        ("[[defaults]]\n", (1, 1), "write [defaults]"),
        ("[project]\npath = '/a'", (1, 1), "write [[project]], with two brackets"),
        ("project = ['/a']", (1, 12), "`project` must be a list of tables, and is of type string"),
        ("[[project]]\nttl = '1h'", (1, 1), "a project has no `path`"),
        ("[[project]]\npath = 1", (2, 8), "`path` must be a string, and is of type integer"),
        ("[[project]]\npath = ''", (2, 8), "it is empty"),
        ("[[project]]\npath = 'src/a'", (2, 8), "`src/a` is relative"),
        ("[[project]]\npath = '$NO/a'", (2, 8), "`$NO` is not set"),
        ("[[project]]\npath = '~bob/a'", (2, 8), "`~` stands only for one's own home"),
        ("[[project]]\npath = '/a$'", (2, 8), "`$` must be followed by a name"),
        ("[[project]]\npath = \"/a\\u0000\"", (2, 8), "a zero character"),
        ("[defaults]\nargs = ['a', 1]", (2, 14), "`args`: invalid type: integer `1`"),
        ("[defaults]\nargs = ['']", (2, 9), "a word is empty"),
        ("[defaults]\nargs = [\"\\u0000\"]", (2, 9), "a zero character"),
        ("[defaults]\nextra_inputs = ['a[']", (2, 17), "`a[`: unclosed character class"),
        (
            "[defaults]\nextra_inputs = '*.env'",
            (2, 16),
            "allowed: a list of globs relative to the workspace",
        ),
        ("[defaults]\nexclude = ['a', '{b']", (2, 17), "`{b`: unclosed alternate group"),
        ("[defaults]\nexclude = ['/a']", (2, 12), "`/a` is not relative to the workspace"),
        ("[defaults]\nexclude = ['~/a']", (2, 12), "`~/a` is not relative to the workspace"),
        ("[defaults]\nexclude = ['../a']", (2, 12), "`../a` has a `.` or `..` in it"),
        ("[defaults]\nexclude = ['!a']", (2, 12), "there is no negation"),
        ("[defaults]\nexclude = ['a/']", (2, 12), "a folder's files are `a/**`"),
        ("[defaults]\nexclude = ['']", (2, 12), "a glob is empty"),
        ("[defaults]\nexclude = ['**']", (2, 12), "would exclude `Cargo.toml`"),
        ("[defaults]\nexclude = ['*.lock']", (2, 12), "would exclude `Cargo.lock`"),
        ("[defaults]\nignore_env = ['A=1']", (2, 15), "`A=1` holds a `=`"),
        ("[defaults]\nextra_env = ['a[']", (2, 14), "`a[`: unclosed character class"),
        ("[defaults]\nttl = 3600", (2, 7), "such as \"90s\" or \"1h 30m\""),
        ("[defaults]\nttl = true", (2, 7), "`ttl`: invalid type: boolean `true`"),
        ("[defaults]\nttl = 1979-05-27", (2, 7), "`ttl`: invalid type: "),
        ("[defaults]\nttl = '1 hour'", (2, 7), "`1 hour` has no known unit (`hour`)"),
        ("[defaults]\nttl = '0s'", (2, 7), "`ttl`: `0s` is out of range"),
        ("[defaults]\nttl = '4000d'", (2, 7), "allowed: 1ms to 3650d"),
        ("[defaults]\ndebounce = '2h'", (2, 12), "allowed: 0s to 1h"),
        ("[defaults]\ntimeout = '1.5h'", (2, 11), "`1.5h` has no unit"),
        ("[defaults]\nkeep_snapshots = 0", (2, 18), "allowed: 1 to 1000"),
        (
            "[defaults]\nkeep_snapshots = -1",
            (2, 18),
            "`keep_snapshots`: invalid value: integer `-1`",
        ),
        ("[defaults]\nkeep_snapshots = 0xfffffffff", (2, 18), "allowed: 1 to 1000"),
        ("[defaults]\nkeep_snapshots = '10'", (2, 18), "without quotes"),
        ("[defaults]\nkeep_snapshots = 1.5", (2, 18), "invalid type: floating point `1.5`"),
        (
            "[defaults]\nbackground_tests = 'true'",
            (2, 20),
            "allowed: `true` or `false` without quotes, or \"auto\"",
        ),
        ("[defaults]\nselection = 'shade'", (2, 13), "did you mean `shadow`?"),
        ("[defaults]\nselection = true", (2, 13), "allowed: `shadow`, `on` or `off`"),
        ("[defaults]\nbackground_tests = 1", (2, 20), "invalid type: integer `1`"),
        ("[defaults]\nrunner = 'nexttest'", (2, 10), "did you mean `nextest`?"),
        ("[defaults]\nnotify = 'terminals'", (2, 10), "did you mean `terminal`?"),
        ("[defaults]\nrunner = ['cargo']", (2, 10), "`runner`: "),
        ("[defaults]\ntarget_dir = 'carg'", (2, 14), "did you mean `cargo`?"),
        ("[defaults]\ntarget_dir = 'build'", (2, 14), "allowed: `cargo`, `own`, an absolute"),
        ("[defaults]\ntarget_dir = '$NO/x'", (2, 14), "`$NO` is not set"),
        ("[defaults]\ntarget_dir = '/'", (2, 14), "it is the root of all folders"),
        ("[defaults]\ntarget_dir = true", (2, 14), "invalid type: boolean `true`"),
        ("[defaults]\nbuild_timeout = 5", (2, 17), "written with the units d, h, m, s and ms"),
        ("[cache]\nmax_age = '30'", (2, 11), "has no unit"),
        ("[log]\nlevel = 'loud'", (2, 9), "allowed: one of `error`, `warn`, `info`"),
        ("[background]\non_batery = 'run'", (2, 1), "did you mean `on_battery`?"),
        ("[background]\non_battery = 'slows'", (2, 14), "did you mean `slow`?"),
        ("[background]\nbattery_below = 40", (2, 17), "with its sign, such as \"40%\""),
        ("[background]\nbattery_below = '0%'", (2, 17), "allowed: 1% to 100%"),
        ("[background]\nmemory_pressure = '101%'", (2, 19), "is out of range"),
        ("[background]\nmemory_pressure = '5'", (2, 19), "`5` has no unit"),
        ("[background]\njobs = 2000", (2, 8), "allowed: 0 to 1024"),
        ("[background]\nsession_locked = true", (2, 18), "`session_locked`: "),
        ("[defaults]\njobs = 1", (2, 1), "belongs in `[background]`"),
        ("[cache]\nmax_size = 10", (2, 12), "`max_size`: invalid type: integer `10`"),
        ("[cache]\nmax_size = '2G'", (2, 12), "has no known unit (`G`)"),
        ("[cache]\nmax_size = '1KB'", (2, 12), "allowed: 1MiB to 1024TiB"),
        ("[log]\nlevel = 'info'\nlevel = 'info'", (3, 1), "duplicate key"),
        ("[log]\r\nlevel = 'info'\r\nx = 1\r\n", (3, 1), "unknown key `x` in `[log]`"),
        ("\u{feff}ä = 1", (1, 1), "the config is not TOML"),
    ] {
        let home = Home::with(text);
        let error = home.load().expect_err(text);
        let shown = error.to_string();
        assert!(shown.contains(says), "{text}\n{shown}");
        assert_eq!((error.line().unwrap(), error.column().unwrap()), place, "{text}\n{shown}");
        assert_eq!(error.file(), home.paths.config_file);
        assert_eq!(error.one_line().lines().count(), 1);
        assert!(check(&home.paths, &home.environment).contains(&error), "{text}");
    }
}

#[test]
fn of_several_errors_the_first_is_reported_and_check_has_all() {
    let home = Home::with("[log]\nx = 1\n[[project]]\npath = '/no/such'\n[cache]\ny = 1\n");
    assert_eq!(home.load().unwrap_err().line(), Some(2));
    let lines = check(&home.paths, &home.environment);
    let lines = lines.iter().map(|error| error.line().unwrap()).collect::<Vec<_>>();
    assert_eq!(lines, [2, 4, 6]);
}

#[test]
fn a_project_that_is_not_there_is_a_problem_and_no_error() {
    let home = Home::with("[[project]]\npath = '~/gone'\n[[project]]\npath = '~/here'\n");
    home.folder("here");
    let gone = home.paths.home.join("gone");
    let loaded = home.load().unwrap();
    assert_eq!(loaded.config.projects.len(), 2);
    let problem = loaded.problem_of(&loaded.config.projects[0]).unwrap();
    assert_eq!(problem.fault(), &Fault::Missing(gone.clone()));
    assert_eq!((problem.line(), problem.column()), (Some(2), Some(8)));
    assert_eq!(loaded.problem_of(&loaded.config.projects[1]), None);
    assert_eq!(check(&home.paths, &home.environment), loaded.problems);
    // It comes back as the same project.
    fs::create_dir(&gone).unwrap();
    let back = home.load().unwrap();
    assert_eq!((back.config, back.problems), (loaded.config, vec![]));
    // A file in its place is another problem.
    fs::remove_dir(&gone).unwrap();
    fs::write(&gone, "").unwrap();
    let problem = home.load().unwrap().problems.remove(0);
    assert_eq!(problem.fault(), &Fault::NotAFolder(gone));
}

#[test]
fn what_is_no_readable_file_is_named() {
    let home = Home::new();
    let file = &home.paths.config_file;
    let fault = || home.load().unwrap_err().fault().clone();
    fs::create_dir_all(file).unwrap();
    assert_eq!(fault(), Fault::NotAFile("a folder"));
    fs::remove_dir(file).unwrap();

    symlink("nowhere", file).unwrap();
    assert_eq!(fault(), Fault::Dangling("nowhere".into()));
    fs::remove_file(file).unwrap();

    let socket = std::os::unix::net::UnixListener::bind(file).unwrap();
    assert_eq!(fault(), Fault::NotAFile("a device, pipe or socket"));
    drop(socket);
    fs::remove_file(file).unwrap();

    home.write("#".repeat((1 << 20) + 1));
    assert_eq!(fault(), Fault::TooLong(1 << 20));

    home.write(b"[log]\nlevel = '\xff\xfe'\n");
    let error = home.load().unwrap_err();
    assert_eq!(error.fault(), &Fault::NotUtf8);
    assert_eq!((error.line(), error.column()), (Some(2), Some(10)));

    home.write("");
    fs::set_permissions(file, fs::Permissions::from_mode(0o000)).unwrap();
    // The superuser reads everything, so there the file is simply empty.
    if fs::read(file).is_err() {
        assert!(matches!(fault(), Fault::Unreadable(_)));
    }

    fs::remove_file(file).unwrap();
    fs::remove_dir(file.parent().unwrap()).unwrap();
    fs::write(file.parent().unwrap(), "a file where the folder should be").unwrap();
    assert!(matches!(fault(), Fault::Unreadable(_)));
}

#[test]
fn the_innermost_project_is_the_one_of_a_folder() {
    let home = Home::new();
    let (outer, inner) = (home.folder("outer"), home.folder("outer/inner"));
    home.folder("outer/inner/src");
    home.folder("outerx");
    symlink(&inner, home.paths.home.join("link")).unwrap();
    home.write(
        "defaults.ttl = '1s'\n[[project]]\npath = '~/outer'\nttl = '2s'\n\
         [[project]]\npath = '~/outer/inner'\n",
    );
    let config = home.load().unwrap().config;
    let project = |dir: &str| config.project_for(&home.paths.home.join(dir)).map(|p| &p.path);
    assert_eq!(project("outer"), Some(&outer));
    assert_eq!(project("outer/elsewhere"), Some(&outer));
    assert_eq!(project("outer/inner/src"), Some(&inner));
    assert_eq!(project("link/src"), Some(&inner));
    assert_eq!(project("outerx"), None);
    assert_eq!(config.settings_for(&outer).ttl, Duration::from_secs(2));
    assert_eq!(config.settings_for(&home.paths.home).ttl, Duration::from_secs(1));
    assert_eq!(config.projects[1].name(), "inner");
}

#[test]
fn the_shown_config_says_its_source_and_reads_back() {
    let home = Home::with("[[project]]\npath = '~/a $b \"c'\nargs = [\"a'\\\"\\n\"]\n");
    assert!(home.load().is_err(), "`$b` is not set");
    home.write("[[project]]\npath = '~/a $$b \"c'\nargs = [\"a'\\\"\\n\"]\ntimeout = '0s'\n");
    let loaded = home.load().unwrap();
    let shown = loaded.show();
    assert!(shown.starts_with(&format!("# source: {}\n", home.paths.config_file.display())));
    assert!(shown.contains("does not exist"), "{shown}");
    assert!(Home::new().load().unwrap().show().starts_with("# source: the shipped default"));
    let mut again = Home::with(shown).load().unwrap().config;
    again.projects[0].written = loaded.config.projects[0].written.clone();
    assert_eq!(again, loaded.config);
}

#[test]
fn the_shown_default_is_the_shipped_one() {
    let shown = Home::new().load().unwrap().show();
    let values = |text: &str| toml::from_str::<toml::Table>(text).unwrap();
    assert_eq!(values(&shown), values(DEFAULT));
}

proptest! {
    #![proptest_config(cases(256))]

    #[test]
    fn any_text_is_a_config_or_an_error_with_a_place(
        text in "(\\[{0,2}(project|defaults|log|cache|x)\\]{0,2}|\n|(path|ttl|args|level|foo) = |\
                 '[^']{0,5}'|\\[|\\]|[0-9]{1,3}|#|\r\n|\\PC){0,12}",
    ) {
        let home = Home::with(&text);
        match home.load() {
            Ok(loaded) => {
                let shown = Home::with(loaded.show()).load();
                prop_assert_eq!(shown.unwrap().config.defaults, loaded.config.defaults);
            }
            Err(error) => prop_assert!(error.line().is_some() && error.column().is_some()),
        }
    }
}

#[test]
fn a_target_directory_is_the_projects_own_or_at_a_place() {
    let text = "[defaults]\ntarget_dir = '~/targets'\n[[project]]\npath = '~/a'\n\
                [[project]]\npath = '~/b'\ntarget_dir = 'own'\n\
                [[project]]\npath = '~/c'\ntarget_dir = 'own'\n\
                [[project]]\npath = '~/d'\ntarget_dir = 'cargo'\n";
    let home = Home::with(text);
    for name in ["a", "b", "c", "d"] {
        home.folder(name);
    }
    let config = home.load().unwrap().config;
    let dirs: Vec<_> = config.projects.iter().map(|p| p.settings.target_dir.of(&p.path)).collect();
    assert_eq!(dirs[0], Some(home.paths.home.join("targets")));
    assert_eq!(dirs[3], None);
    let own: Vec<_> = dirs[1..3].iter().map(|dir| dir.as_deref().unwrap()).collect();
    assert_ne!(own[0], own[1]);
    assert!(own.iter().all(|dir| dir.parent() == Some(&home.paths.own_targets())));
}
