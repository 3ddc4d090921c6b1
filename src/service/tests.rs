//! Installing and driving against managers that only record what they are told. `service-manager`
//! takes the process's own environment, so each scene plays in a process of its own.

use std::ffi::OsStr;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::install::Action;
use super::unit::{Definition, service_unit, socket_unit};
use super::*;
use crate::process::{Spec, capture};

/// Set in the process in which a scene plays.
pub(super) const CHILD: &str = "KNHK_TEST_CHILD";

/// A clean environment for such a process.
pub(super) fn child_environment(more: &[(&OsStr, &OsStr)]) -> Environment {
    let mut environment = Environment::default();
    environment.set("PATH", "/usr/local/bin:/usr/bin:/bin");
    for (name, value) in more {
        environment.set(*name, *value);
    }
    environment
}

/// Runs one test of this binary again, with exactly this environment and [`CHILD`].
pub(super) fn in_child(test: &str, more: &[(&OsStr, &OsStr)]) {
    let mut environment = child_environment(more);
    environment.set(CHILD, "1");
    let spec = Spec::new(std::env::current_exe().unwrap(), "/", environment).args([
        "--exact",
        test,
        "--nocapture",
    ]);
    let output = capture(&spec, Duration::from_secs(120)).unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    let complaint = String::from_utf8_lossy(&output.stderr);
    assert!(output.success() && text.contains("1 passed"), "{text}\n{complaint}");
}

/// A home with a fake manager and a fake toolchain.
struct Scene {
    home: PathBuf,
    service: Service,
    exe: PathBuf,
}

/// A model of `systemctl --user`: state in files, every call in `calls`.
const SYSTEMCTL: &str = r#"#!/bin/sh
cd "$HOME/manager" || exit 1
while :; do case $1 in --*) shift ;; *) break ;; esac; done
echo "$*" >>calls
[ -e broken-bus ] && { echo 'Failed to connect to bus: No medium found' >&2; exit 1; }
[ -e not-booted ] && { echo 'System has not been booted with systemd as init system (PID 1).' >&2; exit 1; }
units="$HOME/.config/systemd/user"
verb=$1; shift
case $verb in
show)
    load=not-found fragment=
    [ -e "$units/knhk-test-cache.service" ] && load=loaded fragment="$units/knhk-test-cache.service"
    [ -e masked ] && load=masked
    echo Id=knhk-test-cache.service; echo LoadState=$load; echo "FragmentPath=$fragment"
    echo "ActiveState=$(cat active 2>/dev/null || echo inactive)"; echo SubState=x; echo MainPID=0
    echo "Result=$(cat result 2>/dev/null || echo success)"
    [ -e enabled ] && echo UnitFileState=enabled
    echo; echo Id=knhk-test-cache.socket
    echo "ActiveState=$(cat listening 2>/dev/null || echo inactive)" ;;
start|restart)
    case "$*" in *socket) echo active >listening; exit 0 ;; esac
    if [ -e crashes ]; then
        echo failed >active; echo exit-code >result
        echo 'Job for knhk-test-cache.service failed.' >&2; exit 1
    fi
    echo active >active ;;
stop) for u; do case $u in *socket) rm -f listening ;; *) rm -f active ;; esac; done ;;
enable) touch enabled ;;
disable) rm -f enabled ;;
esac
exit 0
"#;

/// The same for `launchctl`.
const LAUNCHCTL: &str = r#"#!/bin/sh
cd "$HOME/manager" || exit 1
echo "$*" >>calls
case $1 in
print)
    case $2 in user/*) exit 113 ;; esac
    [ -e loaded ] || { echo 'Could not find service' >&2; exit 113; }
    printf 'x = {\n\tstate = %s\n' "$(cat state)"
    [ "$(cat state)" = running ] && printf '\tpid = 17\n'
    printf '\tlast exit code = %s\n}\n' "$(cat exit 2>/dev/null || echo 0)" ;;
load) touch loaded
    if [ -e crashes ]; then echo 'not running' >state; echo 1 >exit; else echo running >state; fi ;;
remove) rm -f loaded state ;;
start|kickstart) echo running >state ;;
stop) echo 'not running' >state ;;
esac
exit 0
"#;

fn executable(path: &Path, text: &str) {
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(path, text).unwrap();
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755)).unwrap();
}

impl Scene {
    /// Plays `act` in a process whose home is a new folder.
    fn play(test: &str, platform: Platform, act: impl Fn(&Scene)) {
        if std::env::var_os(CHILD).is_none() {
            let dir = tempfile::tempdir().unwrap();
            let home = dir.path().join("home of \"me\" 100% $x");
            let bin = home.join("bin");
            executable(&bin.join("systemctl"), SYSTEMCTL);
            executable(&bin.join("launchctl"), LAUNCHCTL);
            executable(&bin.join("journalctl"), "#!/bin/sh\necho 'a line of the log'\n");
            executable(&home.join(".cargo/bin/cargo"), "");
            executable(&home.join(".cargo/bin/rustc"), "");
            executable(&home.join("opt/a b/knhk-test-cache"), "one");
            std::fs::create_dir(home.join("manager")).unwrap();
            let path = format!("{}:/usr/bin:/bin", bin.display());
            let variables = [
                ("HOME", home.as_os_str()),
                ("PATH", path.as_ref()),
                ("XDG_RUNTIME_DIR", home.as_os_str()),
                ("RUSTFLAGS", "-C opt-level=1 \"%h\"".as_ref()),
            ];
            in_child(test, &variables.map(|(name, value)| (name.as_ref(), value)));
            return;
        }
        let environment = Environment::inherited();
        let paths = Paths::from_environment(&environment).unwrap();
        let home = paths.home.clone();
        let exe = home.join("opt/a b/knhk-test-cache");
        let mut service = Service::new(platform, environment, paths);
        service.context.root = home.join("manager/root");
        std::fs::create_dir_all(service.context.root.join("run/systemd/system")).unwrap();
        act(&Self { service, home, exe });
    }

    fn options(&self) -> InstallOptions {
        InstallOptions { exe: self.exe.clone(), ..InstallOptions::default() }
    }

    fn install(&self) -> Report {
        self.service.install(&self.options()).unwrap()
    }

    fn unit(&self) -> PathBuf {
        self.home.join(".config/systemd/user/knhk-test-cache.service")
    }

    fn list(&self) -> PathBuf {
        self.home.join("Library/LaunchAgents/com.knhk.test-cache.plist")
    }

    /// Sets a switch of the fake manager.
    fn switch(&self, name: &str, on: bool) {
        let file = self.home.join("manager").join(name);
        if on { std::fs::write(file, "") } else { std::fs::remove_file(file) }.unwrap();
    }

    /// What the manager was told since the last time, questions left out.
    fn calls(&self) -> Vec<String> {
        let file = self.home.join("manager/calls");
        let calls = std::fs::read_to_string(&file).unwrap_or_default();
        std::fs::write(file, "").unwrap();
        let home = self.home.to_str().unwrap();
        calls
            .lines()
            .filter(|line| !line.starts_with("show") && !line.starts_with("print"))
            .map(|line| line.replace(home, "~"))
            .collect()
    }

    /// Everything below the home but the stage itself.
    fn files(&self) -> Vec<String> {
        let mut found = Vec::new();
        let mut folders = vec![self.home.clone()];
        while let Some(folder) = folders.pop() {
            for entry in std::fs::read_dir(folder).unwrap() {
                let path = entry.unwrap().path();
                let name = path.strip_prefix(&self.home).unwrap().to_str().unwrap().to_owned();
                if ["bin", "manager", "opt", ".cargo"].contains(&name.as_str()) {
                    continue;
                }
                if path.is_dir() {
                    folders.push(path);
                }
                found.push(name);
            }
        }
        found.sort();
        found
    }
}

/// The test's own path, and its scene.
macro_rules! scene {
    ($name:ident, $platform:ident, $act:expr) => {
        #[test]
        fn $name() {
            Scene::play(concat!("service::tests::", stringify!($name)), Platform::$platform, $act);
        }
    };
}

scene!(install_is_repeatable_and_uninstall_leaves_nothing, Systemd, |scene: &Scene| {
    let report = scene.install();
    assert!(report.state.unwrap().is_running());
    let unit = std::fs::read_to_string(scene.unit()).unwrap();
    let written = unit::read_unit(&unit, &scene.home);
    assert_eq!(written.exe.as_ref(), Some(&scene.exe));
    assert_eq!(written.variables["RUSTFLAGS"], "-C opt-level=1 \"%h\"");
    let cargo = scene.home.join(".cargo/bin");
    assert!(written.variables["PATH"].ends_with(cargo.to_str().unwrap()));
    let folder = "~/.config/systemd/user/knhk-test-cache";
    assert_eq!(
        scene.calls(),
        [
            "daemon-reload",
            &format!("enable {folder}.socket {folder}.service"),
            "reset-failed knhk-test-cache.service knhk-test-cache.socket",
            "start knhk-test-cache.socket",
            "reset-failed knhk-test-cache.service knhk-test-cache.socket",
            // service-manager's own call: `systemctl --user start NAME`.
            "start knhk-test-cache",
        ]
    );
    let again = scene.install();
    assert!(again.actions.contains(&Action::Unchanged(scene.unit())));
    assert_eq!(std::fs::read_to_string(scene.unit()).unwrap(), unit);
    assert!(scene.calls().contains(&"restart knhk-test-cache.service".to_owned()));
    std::fs::create_dir_all(scene.home.join("knhk-test-cache")).unwrap();
    scene.service.uninstall(false).unwrap();
    assert_eq!(scene.files(), [".config"], "an empty folder that any program makes");
    assert!(!scene.home.join("manager/enabled").exists());
    let again = scene.service.uninstall(true).unwrap();
    assert_eq!(again.actions, []);
    assert!(matches!(scene.service.start(), Err(ServiceError::NotInstalled)));
    assert!(matches!(scene.service.stop(), Err(ServiceError::NotInstalled)));
});

scene!(a_dry_run_touches_nothing, Systemd, |scene: &Scene| {
    let options = InstallOptions { dry_run: true, config: Some("x = 1".into()), ..scene.options() };
    let report = scene.service.install(&options).unwrap();
    assert!(report.dry_run && report.texts[1].1.contains("ExecStart="));
    // Three files, and the steps after them.
    let said: Vec<_> = report.actions.iter().map(ToString::to_string).collect();
    assert_eq!(said.len(), 6, "{said:?}");
    assert!(said[3].contains("systemctl --user daemon-reload"), "{said:?}");
    assert_eq!(scene.files(), Vec::<String>::new());
    assert_eq!(scene.calls(), Vec::<String>::new());
});

scene!(a_unit_changed_by_hand_is_kept_unless_forced, Systemd, |scene: &Scene| {
    scene.install();
    let edited = std::fs::read_to_string(scene.unit()).unwrap().replace("Nice=10", "Nice=1");
    std::fs::write(scene.unit(), &edited).unwrap();
    let report = scene.install();
    assert!(report.actions.contains(&Action::Kept(scene.unit())));
    assert_eq!(std::fs::read_to_string(scene.unit()).unwrap(), edited);
    let report = scene.service.install(&InstallOptions { force: true, ..scene.options() }).unwrap();
    assert!(report.actions.contains(&Action::Replaced(scene.unit())));
    assert!(std::fs::read_to_string(scene.unit()).unwrap().contains("Nice=10"));
});

scene!(an_install_that_fails_is_taken_back, Systemd, |scene: &Scene| {
    scene.switch("crashes", true);
    let options = InstallOptions { config: Some("x = 1".into()), ..scene.options() };
    let error = scene.service.install(&options).unwrap_err();
    assert!(matches!(&error, ServiceError::Ended { result, .. } if result == "exit-code"));
    assert!(error.to_string().contains("a line of the log"), "{error}");
    assert_eq!(scene.files(), Vec::<String>::new());
    assert!(!scene.home.join("manager/enabled").exists());
    assert!(!scene.home.join("manager/listening").exists());
    // One that was there before comes back.
    scene.switch("crashes", false);
    scene.install();
    let old = std::fs::read_to_string(scene.unit()).unwrap().replace("Nice=10", "Nice=1");
    std::fs::write(scene.unit(), &old).unwrap();
    scene.switch("crashes", true);
    let options = InstallOptions { force: true, ..scene.options() };
    scene.service.install(&options).unwrap_err();
    assert_eq!(std::fs::read_to_string(scene.unit()).unwrap(), old);
    assert!(scene.home.join("manager/enabled").exists());
});

scene!(no_manager_and_no_bus_are_told_apart, Systemd, |scene: &Scene| {
    scene.switch("broken-bus", true);
    for error in
        [scene.service.install(&scene.options()).unwrap_err(), scene.service.query().unwrap_err()]
    {
        assert!(matches!(&error, ServiceError::NoBus { said, .. } if said.contains("No medium")));
    }
    assert_eq!(scene.service.uninstall(false).unwrap().actions, []);
    // No bus either where systemd is not the one that was booted.
    std::fs::remove_dir(scene.service.context.root.join("run/systemd/system")).unwrap();
    assert!(matches!(scene.service.query(), Err(ServiceError::NoSupervisor { .. })));
    scene.switch("not-booted", true);
    scene.switch("broken-bus", false);
    assert!(matches!(scene.service.query(), Err(ServiceError::NoSupervisor { .. })));
    std::fs::remove_file(scene.home.join("bin/systemctl")).unwrap();
    let mut bare = scene.service.clone();
    bare.context.environment.set("PATH", scene.home.join("bin"));
    assert!(matches!(bare.query(), Err(ServiceError::NoSupervisor { .. })));
    assert_eq!(scene.files(), Vec::<String>::new());
});

scene!(a_masked_unit_is_not_written_through, Systemd, |scene: &Scene| {
    let folder = scene.unit().parent().unwrap().to_owned();
    std::fs::create_dir_all(&folder).unwrap();
    std::os::unix::fs::symlink("/dev/null", scene.unit()).unwrap();
    let error = scene.service.install(&scene.options()).unwrap_err();
    assert!(matches!(&error, ServiceError::Masked { .. }));
    assert!(error.to_string().contains("systemctl --user unmask knhk-test-cache.service"));
    assert!(scene.unit().read_link().is_ok());
    scene.switch("masked", true);
    assert!(matches!(scene.service.start(), Err(ServiceError::Masked { .. })));
});

scene!(a_config_folder_that_cannot_be_written_is_named, Systemd, |scene: &Scene| {
    // A file where the folder should be: refused to root too, whom modes do not stop.
    std::fs::write(scene.home.join(".config"), "").unwrap();
    let error = scene.service.install(&scene.options()).unwrap_err();
    assert!(matches!(&error, ServiceError::Write { path, .. } if path.starts_with(&scene.home)));
    assert!(!scene.calls().iter().any(|call| call.starts_with("enable")));
});

scene!(a_program_that_moved_is_said_and_healed, Systemd, |scene: &Scene| {
    scene.install();
    let moved = scene.home.join("opt/moved/knhk-test-cache");
    std::fs::create_dir(moved.parent().unwrap()).unwrap();
    std::fs::rename(&scene.exe, &moved).unwrap();
    for error in [scene.service.restart().unwrap_err(), scene.service.start().unwrap_err()] {
        assert!(matches!(&error, ServiceError::Moved { exe } if *exe == scene.exe));
    }
    assert!(matches!(scene.service.install(&scene.options()), Err(ServiceError::NoProgram { .. })));
    let report =
        scene.service.install(&InstallOptions { exe: moved.clone(), ..scene.options() }).unwrap();
    assert!(report.notes.iter().any(|note| note.contains("not there any more")));
    assert_eq!(report.state.unwrap().written.unwrap().exe, Some(moved));
});

scene!(another_copy_is_not_replaced_unasked, Systemd, |scene: &Scene| {
    scene.install();
    let other = scene.home.join("opt/other/knhk-test-cache");
    executable(&other, "two");
    let options = InstallOptions { exe: other.clone(), ..scene.options() };
    let error = scene.service.install(&options).unwrap_err();
    assert!(matches!(&error, ServiceError::OtherCopy { installed, .. } if *installed == scene.exe));
    let forced = InstallOptions { force: true, ..options.clone() };
    assert!(scene.service.install(&forced).is_ok());
    // The same program at another place is no other copy.
    std::fs::copy(&other, &scene.exe).unwrap();
    assert!(scene.service.install(&scene.options()).is_ok());
});

scene!(no_toolchain_and_odd_paths_are_refused, Systemd, |scene: &Scene| {
    let odd = scene.home.join("opt/a\nb/knhk-test-cache");
    executable(&odd, "one");
    let options = InstallOptions { exe: odd, ..scene.options() };
    assert!(matches!(scene.service.install(&options), Err(ServiceError::Unwritable { .. })));
    std::fs::remove_file(scene.home.join(".cargo/bin/cargo")).unwrap();
    let mut bare = scene.service.clone();
    bare.context.environment.set("PATH", scene.home.join("bin"));
    let error = bare.install(&scene.options()).unwrap_err();
    assert!(matches!(error, ServiceError::NoToolchain { tool: "cargo" }));
    assert_eq!(scene.files(), Vec::<String>::new());
});

scene!(launchd_is_driven_through_its_adapter, Launchd, |scene: &Scene| {
    let report = scene.install();
    assert!(report.state.unwrap().is_running());
    assert_eq!(scene.calls(), ["version", "load ~/Library/LaunchAgents/com.knhk.test-cache.plist"]);
    let text = std::fs::read_to_string(scene.list()).unwrap();
    let value: plist::Value = plist::from_bytes(text.as_bytes()).unwrap();
    let program = value.as_dictionary().unwrap()["ProgramArguments"].as_array().unwrap()[0].clone();
    assert_eq!(program.as_string(), scene.exe.to_str());
    assert!(scene.home.join("Library/Logs/knhk-test-cache").is_dir());
    scene.install();
    let kickstart = scene.calls();
    assert!(kickstart[0].starts_with("kickstart -k gui/"), "{kickstart:?}");
    assert!(!scene.service.stop().unwrap().is_running());
    assert_eq!(scene.calls(), ["stop com.knhk.test-cache"]);
    assert!(scene.service.start().unwrap().is_running());
    assert_eq!(scene.calls(), ["start com.knhk.test-cache"]);
    scene.service.restart().unwrap();
    assert!(scene.calls()[0].starts_with("kickstart -k gui/"));
    scene.service.uninstall(false).unwrap();
    assert_eq!(scene.calls(), ["remove com.knhk.test-cache", "version", "version"]);
    let left = scene.files();
    assert!(left.iter().all(|file| scene.home.join(file).is_dir()), "{left:?}");
    assert!(!scene.service.query().unwrap().is_installed());
    assert_eq!(scene.service.uninstall(false).unwrap().actions, []);
});

scene!(launchd_install_that_fails_is_taken_back, Launchd, |scene: &Scene| {
    scene.switch("crashes", true);
    let error = scene.service.install(&scene.options()).unwrap_err();
    assert!(matches!(&error, ServiceError::Ended { result, .. } if result == "exit code 1"));
    assert!(!scene.list().exists());
    assert!(!scene.home.join("manager/loaded").exists());
});

#[test]
fn the_link_on_the_path_is_the_better_name() {
    let dir = tempfile::tempdir().unwrap();
    let real = dir.path().join("Cellar/1.0/knhk-test-cache");
    executable(&real, "");
    let link = dir.path().join("bin/knhk-test-cache");
    std::fs::create_dir(link.parent().unwrap()).unwrap();
    std::os::unix::fs::symlink(&real, &link).unwrap();
    let mut environment = Environment::default();
    let real = real.canonicalize().unwrap();
    assert_eq!(stable_path(&real, &environment), Some(real.clone()));
    environment.set("PATH", link.parent().unwrap());
    assert_eq!(stable_path(&real, &environment), Some(link));
    assert_eq!(stable_path(Path::new("/x/knhk-test-cache (deleted)"), &environment), None);
}

/// Has the real systemd read what we write.
#[test]
fn systemd_itself_finds_no_fault_with_the_units() {
    let environment = Environment::inherited();
    if environment.find_program(Path::new("systemd-analyze"), Path::new("/")).is_none() {
        eprintln!("skipped: no systemd-analyze here");
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let exe = dir.path().join("a \"b\" 'c' 100%h $HOME \\n é/knhk-test-cache");
    executable(&exe, "#!/bin/sh\n");
    let variables = [("PATH", "/a b:/%h/$x"), ("CC", "clang \"x\" \\"), ("RUSTFLAGS", "'%'")];
    let variables = variables.map(|(n, v)| (n.to_owned(), v.to_owned())).into();
    let text = service_unit(&Definition { exe: &exe, variables: &variables }).unwrap();
    let units = [("knhk-test-cache.service", text), ("knhk-test-cache.socket", socket_unit())]
        .map(|(name, text)| (dir.path().join(name), text));
    for (path, text) in &units {
        std::fs::write(path, text).unwrap();
    }
    let mut environment = child_environment(&[]);
    for name in ["HOME", "XDG_RUNTIME_DIR"] {
        environment.set(name, dir.path());
    }
    let verify = |manager: &str| {
        let spec = Spec::new("systemd-analyze", "/", environment.clone())
            .args([manager, "--recursive-errors=no", "verify"])
            .args(units.iter().map(|(path, _)| path));
        let output = capture(&spec, Duration::from_secs(60)).unwrap();
        (output.success(), String::from_utf8_lossy(&output.stderr).into_owned())
    };
    assert_eq!(verify("--user"), (true, String::new()));
}
