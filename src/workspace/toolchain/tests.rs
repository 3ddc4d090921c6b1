//! The toolchain as fake and real programs give it.

use super::*;
use std::os::unix::fs::PermissionsExt as _;
use std::time::Duration;

/// A machine of its own: a fake cargo and rustc that log every call.
struct Machine {
    _dir: tempfile::TempDir,
    base: PathBuf,
    environment: Environment,
}

impl Machine {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let base = dir.path().canonicalize().unwrap();
        let mut environment = Environment::default();
        environment.set("PATH", format!("{}:/usr/bin:/bin", base.join("bin").display()));
        environment.set("HOME", base.join("home"));
        let this = Self { _dir: dir, base, environment };
        for folder in ["work/deep", "home", "sys/lib/rustlib", "sys/bin", "bin", "tmp"] {
            std::fs::create_dir_all(this.base.join(folder)).unwrap();
        }
        for tool in ["cargo", "rustc"] {
            let own = this.base.join("sys/bin").join(tool);
            std::os::unix::fs::symlink(own, this.base.join("bin").join(tool)).unwrap();
        }
        this.script("sys/bin/cargo", "echo cargo 1.95.0");
        this.rustc("1.95.0", "abc");
        this
    }

    fn rustc(&self, release: &str, hash: &str) {
        let sysroot = self.base.join("sys");
        let body = format!(
            "case $1 in -vV) printf 'rustc {release}\\nhost: h-os\\ncommit-hash: {hash}\\nrelease: \
             {release}\\n';; *) echo '{}';; esac",
            sysroot.display()
        );
        self.script("sys/bin/rustc", &body);
    }

    fn script(&self, name: &str, body: &str) {
        let path = self.base.join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        let log = self.base.join("calls");
        let text = format!("#!/bin/sh\necho \"{name} $@\" >> '{}'\n{body}\n", log.display());
        // Written elsewhere and renamed: a file that is open for writing cannot be executed, and
        // another test's child may hold it open for a moment.
        let new = self.base.join("tmp/new");
        std::fs::write(&new, text).unwrap();
        std::fs::set_permissions(&new, std::fs::Permissions::from_mode(0o755)).unwrap();
        std::fs::rename(&new, &path).unwrap();
    }

    /// Asks at a time when every file here is old enough, and counts the processes.
    fn find(&self) -> (Result<Toolchain, ToolchainError>, usize) {
        self.find_at(SystemTime::now() + Duration::from_secs(60))
    }

    fn find_at(&self, now: SystemTime) -> (Result<Toolchain, ToolchainError>, usize) {
        self.find_in("work/deep", now)
    }

    fn find_in(&self, dir: &str, now: SystemTime) -> (Result<Toolchain, ToolchainError>, usize) {
        let log = self.base.join("calls");
        let _ = std::fs::remove_file(&log);
        let dir = self.base.join(dir);
        let config = CargoConfig::read(&dir, &self.environment, &[]).unwrap();
        let memo = self.base.join("memo");
        let found = Toolchain::find_at(&dir, &self.environment, &config, &memo, now);
        let calls = std::fs::read_to_string(log).unwrap_or_default().lines().count();
        (found, calls)
    }
}

#[test]
fn a_warm_question_starts_no_process_and_answers_the_same() {
    let machine = Machine::new();
    let (cold, calls) = machine.find();
    assert_eq!(calls, 3);
    let (warm, calls) = machine.find();
    let (cold, warm) = (cold.unwrap(), warm.unwrap());
    assert_eq!((calls, &warm), (0, &cold));
    assert_eq!(warm.host, "h-os");
    assert_eq!(warm.sysroot, machine.base.join("sys"));
    assert_eq!(warm.cargo, machine.base.join("bin/cargo"));
    assert!(warm.identity.starts_with("cargo 1.95.0\nrustc 1.95.0\n"), "{}", warm.identity);
    assert!(!warm.identity.contains(machine.base.to_str().unwrap()), "{}", warm.identity);
}

#[test]
fn a_standard_library_that_is_removed_is_missed() {
    let machine = Machine::new();
    let toolchain = machine.find().0.unwrap();
    let library = |target: &str| machine.base.join("sys/lib/rustlib").join(target).join("lib");
    let targets = ["arm-os", "host-tuple", "mine.json"].map(str::to_owned);
    for target in ["arm-os", "h-os"] {
        std::fs::create_dir_all(library(target)).unwrap();
    }
    assert!(toolchain.missing_libraries(&targets).is_empty());
    std::fs::remove_dir(library("arm-os")).unwrap();
    assert_eq!(toolchain.missing_libraries(&targets), ["arm-os"].into());
    std::fs::remove_dir(library("h-os")).unwrap();
    assert_eq!(toolchain.missing_libraries(&[]), ["h-os"].into());
}

#[test]
fn whatever_could_change_the_answer_asks_again() {
    type Change = fn(&Machine);
    let changes: [(&str, Change); 7] = [
        ("toolchain file", |m| {
            std::fs::write(m.base.join("work/rust-toolchain.toml"), "").unwrap();
        }),
        ("old toolchain file", |m| std::fs::write(m.base.join("rust-toolchain"), "x").unwrap()),
        ("settings", |m| {
            std::fs::create_dir_all(m.base.join("home/.rustup")).unwrap();
            std::fs::write(m.base.join("home/.rustup/settings.toml"), "").unwrap();
        }),
        ("cargo", |m| m.script("sys/bin/cargo", "echo cargo 1.96.0")),
        ("compiler", |m| std::fs::write(m.base.join("sys/lib/librustc_driver-1.so"), "").unwrap()),
        ("binaries", |m| std::fs::write(m.base.join("sys/bin/rustdoc"), "").unwrap()),
        ("manifest", |m| {
            let file = m.base.join("sys/lib/rustlib/multirust-channel-manifest.toml");
            std::fs::write(file, "").unwrap();
        }),
    ];
    for (what, change) in changes {
        let machine = Machine::new();
        machine.find().0.unwrap();
        change(&machine);
        assert_eq!(machine.find().1, 3, "{what}");
        assert_eq!(machine.find().1, 0, "{what}");
    }
}

#[test]
fn a_shim_of_a_version_manager_is_always_asked() {
    let machine = Machine::new();
    let versions = machine.base.join("home/.tool-versions");
    let body = format!("read version < {}; echo cargo $version", versions.display());
    // In the place of the link to the toolchain's own.
    machine.script("bin/cargo", &body);
    for version in ["1.95.0", "1.96.0"] {
        std::fs::write(&versions, format!("{version}\n")).unwrap();
        let (found, calls) = machine.find();
        assert!(found.unwrap().identity.contains(&format!("cargo {version}\n")));
        assert_eq!(calls, 3);
    }
}

#[test]
fn rustup_is_known_by_its_name_or_by_the_file_beside_it() {
    let machine = Machine::new();
    std::fs::remove_file(machine.base.join("bin/cargo")).unwrap();
    let rustup = machine.base.join("bin/rustup");
    std::fs::write(&rustup, "a program").unwrap();
    let is_settled = |cargo: &str| {
        let cargo = machine.base.join("bin").join(cargo);
        let rustc = machine.base.join("bin/rustc");
        let question = ToolchainQuestion { cargo, rustc, wrappers: Vec::new() };
        question.is_settled_by_guards(&machine.base.join("sys"))
    };
    std::os::unix::fs::symlink("rustup", machine.base.join("bin/cargo")).unwrap();
    std::fs::hard_link(&rustup, machine.base.join("bin/cargo-2")).unwrap();
    std::fs::write(machine.base.join("bin/cargo-3"), "a program").unwrap();
    assert!(is_settled("cargo") && is_settled("cargo-2"));
    assert!(!is_settled("cargo-3") && !is_settled("absent"));
    std::fs::write(&rustup, "#!/bin/sh").unwrap();
    assert!(!is_settled("cargo") && !is_settled("cargo-2"));
}

#[test]
fn another_environment_is_another_question() {
    let mut machine = Machine::new();
    machine.find().0.unwrap();
    machine.environment.set("RUSTUP_TOOLCHAIN", "nightly");
    assert_eq!(machine.find().1, 3);
    machine.environment.set("UNRELATED", "x");
    assert_eq!(machine.find().1, 0);
    machine.environment.set("RUSTC", machine.base.join("bin/rustc"));
    assert_eq!(machine.find().1, 3);
}

#[test]
fn another_folder_is_another_question_with_other_toolchain_files() {
    let machine = Machine::new();
    let later = SystemTime::now() + Duration::from_secs(60);
    machine.find().0.unwrap();
    std::fs::create_dir_all(machine.base.join("home/.rustup/toolchains")).unwrap();
    std::fs::write(machine.base.join("tmp/rust-toolchain"), "one").unwrap();
    assert_eq!(machine.find_in("tmp", later).1, 3, "never asked there");
    assert_eq!(machine.find_in("tmp", later).1, 0);
    std::fs::write(machine.base.join("tmp/rust-toolchain"), "other").unwrap();
    assert_eq!(machine.find_in("tmp", later).1, 3, "a file that only this folder sees");
    let linked = machine.base.join("home/.rustup/toolchains/dev");
    std::os::unix::fs::symlink("/somewhere", linked).unwrap();
    assert_eq!(machine.find_in("tmp", later).1, 3, "linked to something else");
}

#[test]
fn young_files_and_odd_memos_are_not_trusted() {
    let machine = Machine::new();
    let now = SystemTime::now();
    assert_eq!(machine.find_at(now).1, 3);
    assert_eq!(machine.find_at(now).1, 3, "written this moment");
    machine.find().0.unwrap();
    let memo = std::fs::read_dir(machine.base.join("memo")).unwrap().next().unwrap().unwrap();
    let text = std::fs::read_to_string(memo.path()).unwrap();
    std::fs::write(memo.path(), text.replace("1.95.0", "1.00.0")).unwrap();
    let (found, calls) = machine.find();
    assert_eq!(calls, 3);
    assert!(found.unwrap().identity.contains("1.95.0"));
    std::fs::write(memo.path(), "").unwrap();
    assert_eq!(machine.find().1, 3);
}

#[test]
fn a_folder_for_memos_that_cannot_be_written_only_costs_time() {
    let machine = Machine::new();
    std::fs::write(machine.base.join("memo"), "a file in the way").unwrap();
    assert!(machine.find().0.is_ok());
    assert_eq!(machine.find().1, 3);
}

#[test]
fn a_compiler_under_development_is_known_by_its_files() {
    let machine = Machine::new();
    machine.rustc("1.97.0-dev", "unknown");
    let one = machine.find().0.unwrap().identity;
    std::fs::write(machine.base.join("sys/lib/librustc_driver-1.so"), "new").unwrap();
    assert_ne!(machine.find().0.unwrap().identity, one);
}

#[test]
fn the_content_of_a_wrapper_counts() {
    let mut machine = Machine::new();
    let plain = machine.find().0.unwrap().identity;
    machine.script("wrap", "exec \"$@\"");
    machine.environment.set("RUSTC_WRAPPER", machine.base.join("wrap"));
    let wrapped = machine.find().0.unwrap().identity;
    assert_ne!(wrapped, plain);
    machine.script("wrap", "exec \"$@\" # other");
    assert_ne!(machine.find().0.unwrap().identity, wrapped);
}

#[test]
fn a_missing_cargo_says_where_it_was_looked_for() {
    let mut machine = Machine::new();
    machine.environment.set("PATH", "/nowhere:relative");
    let error = machine.find().0.unwrap_err();
    let text = error.to_string();
    let home = machine.base.join("home/.cargo/bin");
    for part in ["`/nowhere`", "work/deep/relative`", home.to_str().unwrap(), "~/.cargo/bin"] {
        assert!(text.contains(part), "{part}: {text}");
    }
}

#[test]
fn cargo_is_found_in_its_home_when_path_does_not_name_it() {
    let mut machine = Machine::new();
    for name in ["cargo", "rustc"] {
        let folder = machine.base.join("home/.cargo/bin");
        std::fs::create_dir_all(&folder).unwrap();
        std::fs::rename(machine.base.join("bin").join(name), folder.join(name)).unwrap();
    }
    machine.environment.set("PATH", "/usr/bin:/bin");
    let found = machine.find().0.unwrap();
    assert_eq!(found.cargo, machine.base.join("home/.cargo/bin/cargo"));
    std::fs::remove_file(machine.base.join("home/.cargo/bin/rustc")).unwrap();
    // A real rustc may be installed in /usr/bin.
    machine.environment.set("PATH", "/nowhere");
    assert!(matches!(machine.find().0, Err(ToolchainError::RustcMissing { .. })));
}

#[test]
fn what_rustup_says_is_passed_on() {
    let machine = Machine::new();
    machine.script("bin/cargo", "echo \"error: toolchain 'x' is not installed\" >&2; exit 1");
    let error = machine.find().0.unwrap_err().to_string();
    assert!(error.contains("toolchain 'x' is not installed") && error.contains("work/deep"));
    machine.script("bin/cargo", "echo cargo");
    machine.script("bin/rustc", "echo nonsense");
    assert!(matches!(machine.find().0, Err(ToolchainError::Answer { .. })));
}
