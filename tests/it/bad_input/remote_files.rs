//! A project on a file system without events, whose files another host changes.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Instant;

use rustix::process::{Pid, Signal, kill_process};

use crate::home::{
    Answered, EXE, Home, LIMIT, SOON, Started, answered, is_gone, skip, takes_long, until,
};

/// A workspace that the service sees through a file system in user space.
struct Scene {
    home: Home,
    place: PathBuf,
    /// The daemon's process.
    pid: i32,
    /// The file server, around the daemon.
    _server: Started,
}

impl Scene {
    /// None where that is not possible.
    fn new() -> Option<Self> {
        let mut home = Home::with(&[]);
        // Cargo cannot write one there.
        assert_eq!(home.cargo(&["generate-lockfile"]).code, Some(0));
        let (place, program) = (home.base.join("place"), home.base.join("elsewhere"));
        fs::create_dir(&place).unwrap();
        let source =
            Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/programs/remote_files.rs");
        let words = ["--edition=2024", "-o", program.to_str().unwrap(), source.to_str().unwrap()];
        let compiled = home.start("rustc", &words).end(LIMIT);
        assert_eq!(compiled.code, Some(0), "{compiled:#?}");
        let line = |program: &str| {
            let [from, to] = [&home.root, &place].map(|path| path.display().to_string());
            ["-Urm", &home.base.join("elsewhere").display().to_string(), &from, &to, program]
                .map(str::to_owned)
        };
        let probe = line("true");
        let probe = home.start("unshare", &probe.each_ref().map(String::as_str)).end(LIMIT);
        if probe.code != Some(0) {
            skip("a file system that tells of no change", &probe.stderr);
            return None;
        }
        home.environment.set("CARGO_TARGET_DIR", home.base.join("target"));
        let file = home.config_file();
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        fs::write(file, format!("[[project]]\npath = {place:?}\ndebounce = '1ms'\n")).unwrap();
        let line = [&line(EXE)[..], &["daemon".to_owned()]].concat();
        let line: Vec<&str> = line.iter().map(String::as_str).collect();
        let daemon = home.start("unshare", &line);
        until("the daemon has built", || {
            let status = home.status();
            let project = &status["projects"][0];
            let built = project["state"] == "idle" && project["last_build"]["success"] == true;
            (status["running"] == true && built).then_some(())
        });
        let pid = i32::try_from(home.status()["pid"].as_i64().unwrap()).unwrap();
        Some(Self { home, place, pid, _server: daemon })
    }

    /// A question from the daemon's namespace.
    fn test(&self) -> Answered {
        let pid = self.pid.to_string();
        let place = self.place.display().to_string();
        let line = ["-t", &pid, "-U", "-m", "--preserve-credentials", EXE, "test", "--format"];
        let rest = ["json", "--project", &place];
        answered(self.home.start("nsenter", &[&line[..], &rest].concat()).end(LIMIT))
    }
}

impl Drop for Scene {
    /// The daemon is the file server's child, which does not pass its own end on.
    fn drop(&mut self) {
        let Some(pid) = Pid::from_raw(self.pid) else { return };
        let _ = kill_process(pid, Signal::TERM);
        let deadline = Instant::now() + SOON;
        while Instant::now() < deadline && !is_gone(self.pid) {
            std::thread::yield_now();
        }
    }
}

#[test]
fn without_events_every_question_scans_the_tree() {
    if takes_long() {
        return;
    }
    let Some(scene) = Scene::new() else { return };
    let watch = scene.home.project_status()["watch"].as_str().unwrap().to_owned();
    assert!(watch.starts_with("polling: ") && watch.contains("`fuse`"), "{watch}");
    assert!(scene.home.ok(&["status"]).contains(&watch), "said to people too");
    scene.test().green_from("run");
    scene.test().green_from("cache");
    // Another program writes, beyond the file system.
    let source = scene.home.root.join("src/lib.rs");
    let green = fs::read(&source).unwrap();
    fs::write(&source, "#[test] fn one() {}\n#[test] fn two() { panic!() }\n").unwrap();
    scene.test().red();
    fs::write(&source, green).unwrap();
    scene.test().green_from("cache");
    // A new file in a new folder, and its end.
    let folder = scene.home.root.join("tests");
    fs::create_dir(&folder).unwrap();
    fs::write(folder.join("more.rs"), "#[test] fn more() { panic!() }\n").unwrap();
    scene.test().red();
    fs::remove_dir_all(&folder).unwrap();
    scene.test().green_from("cache");
    // Polling finds a change without a question.
    let before = scene.home.project_status()["last_build"]["when"].clone();
    fs::write(&source, "#[test] fn three() {}\n").unwrap();
    until("it is built", || {
        let build = scene.home.project_status()["last_build"].clone();
        (build["when"] != before && build["success"] == true).then_some(())
    });
}
