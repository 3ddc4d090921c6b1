//! Faults around the service, with the real command and a scripted supervisor. Each gives a message
//! with a remedy and its exit status, and leaves nothing half installed. `tests/systemd/run` does
//! the same with a real systemd.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};

use crate::home::{EXE, Home, LIMIT, Ran, skip};

/// `systemctl --user` as far as the command asks it: what is loaded is what lies in the folder of
/// the units, what runs is what was started.
const SYSTEMCTL: &str = r#"#!/bin/sh
cd "$(dirname "$0")" || exit 1
while :; do case $1 in --*) shift ;; *) break ;; esac; done
[ -e says ] && { cat says >&2; exit 1; }
unit=$XDG_CONFIG_HOME/systemd/user/knhk-test-cache.service
case $1 in
show)
    load=not-found
    [ -e "$unit" ] && load=loaded
    [ "$(readlink "$unit")" = /dev/null ] && load=masked
    echo Id=knhk-test-cache.service; echo LoadState=$load; echo "FragmentPath=$unit"
    echo "ActiveState=$(cat active 2>/dev/null || echo inactive)"; echo MainPID=0
    echo "Result=$(cat result 2>/dev/null || echo success)"
    echo; echo Id=knhk-test-cache.socket; echo ActiveState=inactive ;;
start|restart)
    case "$*" in *socket) exit 0 ;; esac
    if [ -e fails ]; then
        echo failed >active; echo exit-code >result
        echo 'Job for knhk-test-cache.service failed.' >&2; exit 1
    fi
    echo active >active ;;
stop) rm -f active ;;
esac
exit 0
"#;

/// A user with a supervisor.
struct Scene {
    home: Home,
    folder: PathBuf,
}

impl Scene {
    fn new() -> Self {
        let mut home = Home::with(&[]);
        let folder = home.base.join("supervisor");
        fs::create_dir(&folder).unwrap();
        program(&folder.join("systemctl"), SYSTEMCTL);
        program(&folder.join("journalctl"), "#!/bin/sh\necho 'a line of the log'\n");
        let path = home.environment.get("PATH").unwrap().to_str().unwrap().to_owned();
        home.environment.set("PATH", format!("{}:{path}", folder.display()));
        Self { home, folder }
    }

    /// Makes the supervisor say this, and fail.
    fn says(&self, text: &str) {
        fs::write(self.folder.join("says"), text).unwrap();
    }

    fn unit(&self) -> PathBuf {
        self.home.base.join("config/systemd/user/knhk-test-cache.service")
    }

    fn install(&self) {
        self.home.ok(&["install"]);
    }

    fn run_as(&self, exe: &Path, args: &[&str]) -> Ran {
        self.home.start(exe.to_str().unwrap(), args).end(LIMIT)
    }

    /// Runs it; it must fail so, with these words.
    #[track_caller]
    fn refuses(&self, args: &[&str], code: i32, words: &str) {
        refused(&self.home.run(args), code, words);
    }

    /// Without a manager the daemon is driven all the same.
    #[track_caller]
    fn runs_detached(&self) {
        for (command, words) in
            [("start", "Running process"), ("restart", "Running process"), ("stop", "Stopped")]
        {
            refused(&self.home.run(&[command]), 0, words);
        }
    }

    /// What installing writes is not there.
    #[track_caller]
    fn nothing_is_installed(&self) {
        assert!(self.unit().symlink_metadata().is_err());
        assert!(!self.folder.join("active").exists());
        let config = self.home.base.join("config");
        let left: Vec<_> = fs::read_dir(config).unwrap().map(|e| e.unwrap().file_name()).collect();
        assert_eq!(left, Vec::<std::ffi::OsString>::new());
    }
}

#[track_caller]
fn refused(ran: &Ran, code: i32, words: &str) {
    assert_eq!(ran.code, Some(code), "{ran:#?}");
    // Long messages are wrapped.
    let said = ran.stderr.split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(said.contains(words), "not said: {words}\n{said}");
}

fn program(path: &Path, text: &str) {
    fs::write(path, text).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
}

#[test]
fn no_user_bus() {
    let scene = Scene::new();
    scene.says("Failed to connect to user scope bus via local transport: No medium found");
    // Where systemd was not booted, that is what is said; where it was, it is the session's fault.
    let booted = Path::new("/run/systemd/system").exists();
    let words =
        if booted { "your session's service manager" } else { "`knhk-test-cache start` runs" };
    scene.refuses(&["install"], 7, words);
    scene.nothing_is_installed();
    scene.runs_detached();
    if booted {
        scene.refuses(&["doctor"], 8, "");
    }
}

#[test]
fn no_systemd() {
    let mut scene = Scene::new();
    scene.says("System has not been booted with systemd as init system (PID 1). Can't operate.");
    scene.refuses(&["install"], 7, "`knhk-test-cache start` runs the daemon detached");
    // Nor its programs: only what a build needs is to be found.
    let tools = scene.home.base.join("tools");
    fs::create_dir(&tools).unwrap();
    for tool in ["cargo", "rustc", "git", "cc"] {
        if let Some(path) = scene.home.environment.find_program(Path::new(tool), Path::new("/")) {
            std::os::unix::fs::symlink(path, tools.join(tool)).unwrap();
        }
    }
    scene.home.environment.set("PATH", &tools);
    scene.refuses(&["install"], 7, "`knhk-test-cache start` runs the daemon detached");
    // There is nothing to be removed, and that is no fault.
    scene.home.ok(&["uninstall"]);
    scene.nothing_is_installed();
    scene.runs_detached();
}

#[test]
fn a_masked_unit() {
    let scene = Scene::new();
    fs::create_dir_all(scene.unit().parent().unwrap()).unwrap();
    std::os::unix::fs::symlink("/dev/null", scene.unit()).unwrap();
    for args in [&["install"], &["start"], &["restart"]] {
        scene.refuses(args, 7, "systemctl --user unmask knhk-test-cache.service");
    }
    assert!(scene.unit().read_link().is_ok(), "not written through");
    assert_eq!(fs::read_dir(scene.unit().parent().unwrap()).unwrap().count(), 1);
}

#[test]
fn a_unit_edited_by_hand() {
    let scene = Scene::new();
    scene.install();
    let edited = fs::read_to_string(scene.unit()).unwrap().replace("Nice=10", "Nice=1");
    fs::write(scene.unit(), &edited).unwrap();
    refused(&scene.home.run(&["install"]), 0, "was changed by hand (`install --force` overwrites");
    assert_eq!(fs::read_to_string(scene.unit()).unwrap(), edited);
    scene.home.ok(&["install", "--force"]);
    assert!(fs::read_to_string(scene.unit()).unwrap().contains("Nice=10"));
}

#[test]
fn a_config_folder_that_cannot_be_written() {
    let scene = Scene::new();
    // A file in its place: that stops root too.
    fs::remove_dir(scene.home.base.join("config")).unwrap();
    fs::write(scene.home.base.join("config"), "").unwrap();
    scene.refuses(&["install"], 4, "config");
    fs::remove_file(scene.home.base.join("config")).unwrap();
    fs::create_dir(scene.home.base.join("config")).unwrap();
    fs::write(scene.home.base.join("config/systemd"), "").unwrap();
    scene.refuses(&["install"], 1, "make it writable, or set XDG_CONFIG_HOME");
    fs::remove_file(scene.home.base.join("config/systemd")).unwrap();
    scene.nothing_is_installed();
}

#[test]
fn a_program_that_has_moved() {
    let scene = Scene::new();
    let first = scene.home.base.join("first");
    let second = scene.home.base.join("second");
    fs::copy(EXE, &first).unwrap();
    assert_eq!(scene.run_as(&first, &["install"]).code, Some(0));
    fs::rename(&first, &second).unwrap();
    for args in [["start"], ["restart"]] {
        refused(&scene.run_as(&second, &args), 7, "it has moved since it was installed");
    }
    refused(&scene.run_as(&second, &["install"]), 0, "which is not there any more");
    let unit = fs::read_to_string(scene.unit()).unwrap();
    assert!(unit.contains(second.to_str().unwrap()), "{unit}");
}

#[test]
fn two_versions_at_once() {
    let scene = Scene::new();
    scene.install();
    let before = fs::read_to_string(scene.unit()).unwrap();
    let other = scene.home.base.join("other");
    let mut program = fs::read(EXE).unwrap();
    program.push(0);
    fs::write(&other, program).unwrap();
    fs::set_permissions(&other, fs::Permissions::from_mode(0o755)).unwrap();
    refused(&scene.run_as(&other, &["install"]), 7, "`install --force` to switch to this one");
    assert_eq!(fs::read_to_string(scene.unit()).unwrap(), before);
    assert_eq!(scene.run_as(&other, &["install", "--force"]).code, Some(0));
    assert_ne!(fs::read_to_string(scene.unit()).unwrap(), before);
}

#[test]
fn a_stale_socket_file() {
    let home = Home::with(&[]);
    home.config("", "");
    fs::create_dir_all(&home.paths().runtime_dir).unwrap();
    fs::set_permissions(&home.paths().runtime_dir, fs::Permissions::from_mode(0o700)).unwrap();
    drop(UnixListener::bind(home.paths().socket()).unwrap());
    // No daemon listens, which is no reason to warn.
    assert_eq!(home.status()["running"], false);
    let answer = home.test(&[]);
    answer.green_from("run");
    assert!(!answer.ran.stderr.contains("working without it"), "{answer:#?}");
    // The next one takes its place.
    home.daemon().stop();
    assert!(!home.paths().socket().exists());
}

#[test]
fn a_config_with_no_projects() {
    let scene = Scene::new();
    scene.install();
    let config = fs::read_to_string(scene.home.config_file()).unwrap();
    assert!(!config.lines().any(|line| line.starts_with("[[project]]")), "{config}");
    let daemon = scene.home.daemon();
    assert_eq!(scene.home.status()["projects"].as_array().map(Vec::len), Some(0));
    // The question is answered all the same.
    scene.home.test(&[]).green_from("run");
    scene.home.test(&[]).green_from("cache");
    daemon.stop();
}

#[test]
fn a_start_that_fails() {
    let scene = Scene::new();
    fs::write(scene.folder.join("fails"), "").unwrap();
    scene.refuses(&["install"], 7, "a line of the log");
    fs::remove_file(scene.folder.join("active")).unwrap_or_default();
    scene.nothing_is_installed();
}

/// All of it with the real systemd, in a machine of its own: takes minutes and wants root.
#[test]
#[ignore = "boots a machine with a real systemd: tests/systemd/run BINARY, as .ci/run does"]
fn on_a_real_systemd() {
    let home = Home::new();
    let run = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/systemd/run");
    let ran = home.start(run.to_str().unwrap(), &[EXE]).end(LIMIT);
    if ran.code == Some(77) {
        return skip("the service on a real systemd", &ran.stderr);
    }
    assert_eq!(ran.code, Some(0), "{}{}", ran.stdout, ran.stderr);
}
