//! What one machine proves and signs answers on another one: another home, another checkout, no build.

mod above;
mod build_scripts;
#[cfg(all(target_os = "linux", target_arch = "x86_64"))]
mod by_reach;
mod leftovers;
#[cfg(all(target_os = "linux", target_arch = "x86_64", target_env = "gnu"))]
mod loader_cache;
mod roots;

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use serde_json::Value;

use crate::home::{Answered, EXE, Home, LIMIT, answered, can_observe, takes_long, until};

const LEAF: &str = "pub fn number() -> u32 { 1 }\n#[test] fn t() { assert_eq!(number(), 1) }\n";
/// Reads a file, and asks for the variable that another one names.
const READS: &str = "#[test] fn t() { assert_eq!(std::fs::read(\"data\").unwrap(), b\"1\") }\n\
                     #[test] fn named() {\n    let name = std::env::var(\"HOLDS\").unwrap();\n    \
                     assert!(std::env::var_os(name).is_none());\n}\n";
/// Reads a file of its user's.
const OF_HOME: &str = "#[test] fn t() {\n    let home = std::env::var(\"HOME\").unwrap();\n    \
                       let text = std::fs::read_to_string(home + \"/.settings\");\n    \
                       assert_eq!(text.unwrap(), \"1\");\n}\n";

/// A machine that proves and one that asks, with a folder between them.
struct Machines {
    writer: Home,
    reader: Home,
    store: PathBuf,
}

impl Machines {
    fn new() -> Self {
        Self::of(|writer| {
            let members = "[workspace]\nresolver='2'\nmembers=['base','top','reads']\n";
            writer.write("Cargo.toml", members);
            let packages = [
                ("base", "", "src/lib.rs", LEAF),
                ("top", "[dependencies]\nbase={path='../base'}\n", "src/lib.rs", OF_HOME),
                ("reads", "[lib]\ndoctest=false\n", "tests/it.rs", READS),
            ];
            for (name, rest, file, text) in packages {
                let head =
                    format!("[package]\nname='{name}'\nversion='0.1.0'\nedition='2021'\n{rest}\n");
                writer.write(&format!("{name}/Cargo.toml"), &head);
                writer.write(&format!("{name}/{file}"), text);
            }
            writer.write("reads/src/lib.rs", "");
            writer.write("reads/data", "1");
            writer.write(".cargo/config.toml", "[env]\nHOLDS='VERDICT_HELD'\n");
        })
    }

    /// Both machines, with the workspace that `fill` writes.
    fn of(fill: impl FnOnce(&Home)) -> Self {
        let (mut writer, mut reader) = (Home::new(), Home::new());
        for home in [&mut writer, &mut reader] {
            // With all of a user's folders below it.
            home.environment.set("HOME", &home.base);
        }
        // Not beside what lies in the home.
        writer.root = writer.base.join("checkouts/ws");
        fill(&writer);
        writer.write(".gitignore", "/target\n");
        writer.git(&["init", "-q"]);
        assert_eq!(writer.cargo(&["generate-lockfile", "--offline"]).code, Some(0));
        writer.git(&["add", "."]);
        writer.git(&["commit", "-qm", "one"]);
        reader.root = reader.base.join("quite/another/place/checkout");
        let paths = [&writer.root, &reader.root].map(|path| path.to_str().unwrap());
        let clone =
            reader.start_in(&reader.base, "git", &["clone", "-q", paths[0], paths[1]], false);
        assert_eq!(clone.end(LIMIT).code, Some(0));
        for home in [&writer, &reader] {
            fs::write(home.base.join(".settings"), "1").unwrap();
        }
        let machines = Self { store: writer.base.join("store"), writer, reader };
        let writer = &machines.writer;
        let args = ["-q", "-t", "ed25519", "-N", "", "-f"];
        let key = writer.base.join("key");
        let args = [&args[..], &[key.to_str().unwrap()]].concat();
        assert_eq!(writer.start("ssh-keygen", &args).end(LIMIT).code, Some(0));
        machines.trust("ci@example.com namespaces=\"verdict@knhk-test-cache\"");
        machines.configure(writer, &machines.writes());
        machines.configure(&machines.reader, "");
        machines
    }

    /// Has both machines trust the key in a line that begins so.
    fn trust(&self, line: &str) {
        let public = fs::read_to_string(self.writer.base.join("key.pub")).unwrap();
        for home in [&self.writer, &self.reader] {
            fs::write(home.base.join("signers"), format!("{line} {public}")).unwrap();
        }
    }

    fn configure(&self, home: &Home, more: &str) {
        self.configure_project(home, more, "");
    }

    /// With settings of the project.
    fn configure_project(&self, home: &Home, more: &str, settings: &str) {
        let (url, signers) =
            (format!("file://{}", self.store.display()), home.base.join("signers"));
        let text = format!("[shared]\nurl={url:?}\nallowed_signers={signers:?}\n{more}");
        home.config(&text, settings);
    }

    /// The part of the config that has the writer write.
    fn writes(&self) -> String {
        format!("write=true\nsign_with={:?}\n", self.writer.base.join("key"))
    }

    fn ask(&self, home: &Home) -> Answered {
        let line = ["test", "--format", "json", "--no-daemon"];
        self.patiently(home, || answered(home.start_in(&home.root, EXE, &line, false).end(LIMIT)))
    }

    /// Asks until the store was not too slow: how busy the machine is is not what is tested.
    fn patiently(&self, home: &Home, ask: impl Fn() -> Answered) -> Answered {
        until("the store answers in time", || {
            let answer = ask();
            if !answer.ran.stderr.contains("no answer within") {
                return Some(answer);
            }
            let _ = fs::remove_dir_all(home.root.join("target"));
            let _ = fs::remove_dir_all(home.paths().cache_dir);
            None
        })
    }

    /// The lines of `explain`.
    fn explain(&self, home: &Home) -> Vec<Value> {
        until("the store answers in time", || {
            let text = home.ok(&["explain", "--format", "json"]);
            let _ = fs::remove_file(home.paths().cache_dir.join("shared/store.json"));
            let lines = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
            (!text.contains("no answer within")).then_some(lines)
        })
    }

    /// How many objects of trees are in the store.
    fn trees(&self) -> usize {
        if !has_files(&self.store.join("v2")) {
            return 0;
        }
        let is_tree = |file: &PathBuf| file.parent().is_some_and(|dir| dir.ends_with("tree"));
        files(&self.store.join("v2")).iter().filter(|file| is_tree(file)).count()
    }

    /// Asks until all is proven and published.
    fn prove(&self) -> Answered {
        for _ in 0..2 {
            self.ask(&self.writer).green();
        }
        let last = self.ask(&self.writer);
        last.green();
        last
    }
}

fn has_files(dir: &Path) -> bool {
    fs::read_dir(dir).is_ok_and(|mut entries| entries.next().is_some())
}

fn reasons(answer: &Answered) -> Vec<String> {
    answer.targets.iter().map(|target| target["reason"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn a_fresh_clone_in_another_home_is_green_without_a_build() {
    if takes_long() {
        return;
    }
    if !can_observe("records for other machines") {
        return;
    }
    let mut machines = Machines::new();
    let proven = machines.prove();
    assert!(has_files(&machines.store.join("v2")), "{proven:#?}");
    // Another umask there.
    for manifest in ["base/Cargo.toml", "Cargo.toml"] {
        let mode = fs::Permissions::from_mode(0o660);
        fs::set_permissions(machines.reader.root.join(manifest), mode).unwrap();
    }
    let answer = machines.ask(&machines.reader);
    answer.green_from("cache");
    let by = "same packages and inputs, proven by ci@example.com";
    assert!(reasons(&answer).iter().all(|reason| reason == by), "{answer:#?}");
    assert!(!machines.reader.root.join("target").exists(), "nothing is built");

    // Nothing of a user, a value or a machine's name has left it.
    let folder = machines.writer.base.to_str().unwrap();
    for object in files(&machines.store.join("v2")) {
        let unpack = format!("LC_ALL=C sed '1,/END SSH/d' {} | gzip -dc", object.display());
        let text = machines.writer.start("sh", &["-ec", &unpack]).end(LIMIT).stdout;
        assert!(text.contains("\"records\"") && !text.contains(folder), "{text}");
    }

    // Another file of the user's is a miss for the target that reads it, and named. So is a variable that
    // only a value of cargo's configuration names.
    fs::write(machines.reader.base.join(".settings"), "2").unwrap();
    machines.reader.environment.set("VERDICT_HELD", "1");
    let answer = machines.ask(&machines.reader);
    answer.red();
    let said = &answer.ran.stderr;
    assert!(said.contains("settings") && said.contains("VERDICT_HELD differs"), "{answer:#?}");
    let is_red = |package: &str| {
        let of = |target: &&Value| target["package"] == package && target["verdict"] == "fail";
        answer.targets.iter().any(|target| of(&target))
    };
    assert!(is_red("top") && is_red("reads"), "{answer:#?}");
}

/// All files below a folder.
fn files(dir: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() { found.extend(files(&path)) } else { found.push(path) }
    }
    found
}

#[test]
fn a_revoked_signer_a_damaged_store_and_an_edit_answer_nothing() {
    if takes_long() {
        return;
    }
    if !can_observe("records for other machines") {
        return;
    }
    let machines = Machines::new();
    machines.prove();
    let fresh = |machines: &Machines| {
        let answer = machines.ask(&machines.reader);
        let _ = fs::remove_dir_all(machines.reader.root.join("target"));
        let _ = fs::remove_dir_all(machines.reader.paths().cache_dir);
        answer
    };
    fresh(&machines).green_from("cache");

    machines.trust("ci@example.com valid-before=\"20200101Z\"");
    let answer = fresh(&machines);
    answer.green_from("run");
    assert!(answer.ran.stderr.contains("does not believe ci@example.com now"), "{answer:#?}");

    machines.trust("peer,ci@example.com");
    let answer = fresh(&machines);
    answer.green_from("run");
    assert!(answer.ran.stderr.contains("is a peer"), "{answer:#?}");

    machines.trust("ci@example.com");
    machines.reader.write("base/src/lib.rs", &LEAF.replace("== 1", "== 2").replace(", 1)", ", 2)"));
    fresh(&machines).red();
    machines.reader.write("base/src/lib.rs", LEAF);
    fresh(&machines).green_from("cache");

    for object in files(&machines.store.join("v2")) {
        let mut bytes = fs::read(&object).unwrap();
        *bytes.last_mut().unwrap() ^= 1;
        fs::write(&object, bytes).unwrap();
    }
    let answer = fresh(&machines);
    answer.green_from("run");
    assert!(answer.ran.stderr.contains("does not fit its content"), "{answer:#?}");
}

#[test]
fn what_a_signer_says_of_a_build_is_not_kept() {
    if takes_long() || !can_observe("records for other machines") {
        return;
    }
    let machines = Machines::new();
    machines.prove();
    let reader = &machines.reader;
    // A part is built by the plan of the other machine, which says of what the targets are made.
    reader.write("top/src/lib.rs", &format!("{OF_HOME}#[test] fn more() {{}}\n"));
    let answer = machines.ask(reader);
    answer.green();
    assert!(answer.run().contains(&"top".to_owned()), "{answer:#?}");
    assert!(!answer.run().contains(&"base".to_owned()), "{answer:#?}");
    let plans = reader.paths().cache_dir.join("plans");
    assert!(!has_files(&plans), "{answer:#?}");
    // Without that machine, the whole is built before anything is known.
    machines.trust("ci@example.com valid-before=\"20200101Z\"");
    fs::remove_dir_all(reader.root.join("target")).unwrap();
    reader.write("NOTES.md", "");
    let answer = machines.ask(reader);
    answer.green();
    assert!(answer.run().contains(&"base".to_owned()), "{answer:#?}");
    assert!(has_files(&plans), "{answer:#?}");
}

#[test]
fn what_another_signer_says_of_a_build_is_not_signed_again() {
    if takes_long() || !can_observe("records for other machines") {
        return;
    }
    let machines = Machines::new();
    machines.prove();
    let (reader, proven) = (&machines.reader, machines.trees());
    let args = ["-q", "-t", "ed25519", "-N", "", "-f", "own-key"];
    assert_eq!(reader.start_in(&reader.base, "ssh-keygen", &args, false).end(LIMIT).code, Some(0));
    reader.write("top/src/lib.rs", &format!("{OF_HOME}#[test] fn more() {{}}\n"));
    let edited = |key: PathBuf| {
        let _ = fs::remove_dir_all(reader.root.join("target"));
        let _ = fs::remove_dir_all(reader.paths().cache_dir);
        machines.configure(reader, &format!("write=true\nsign_with={key:?}\n"));
        let answer = machines.ask(reader);
        answer.green();
        assert!(!answer.run().contains(&"base".to_owned()), "{answer:#?}");
        answer.ran.stderr
    };
    let said = edited(reader.base.join("own-key"));
    assert!(said.contains("another signer has said which there are"), "{said}");
    assert_eq!(machines.trees(), proven);
    // A job of CI believes what CI has signed.
    let said = edited(machines.writer.base.join("key"));
    assert!(machines.trees() > proven, "{said}");
}

#[test]
fn where_the_whole_is_built_another_machine_proves_no_part_of_it() {
    if takes_long() || !can_observe("records for other machines") {
        return;
    }
    let mut machines = Machines::of(|writer| {
        writer.write("Cargo.toml", "[package]\nname='p'\nversion='0.1.0'\nedition='2021'\n");
        let lib = "/// ```\n/// assert_eq!(p::one(), 1);\n/// ```\npub fn one() -> u32 { 1 }\n";
        writer.write("src/lib.rs", lib);
        writer.write(
            "tests/it.rs",
            &OF_HOME.replace("assert_eq!(text.unwrap(), \"1\")", "text.unwrap()"),
        );
    });
    // No record is shared that looked for a program in a home folder which is not $HOME.
    for home in [&mut machines.writer, &mut machines.reader] {
        let path = home.environment.get("PATH").unwrap().to_owned();
        let dirs = std::env::split_paths(&path);
        let kept = dirs.filter(|dir| dir.starts_with("/usr") || dir.join("cargo").exists());
        home.environment.set("PATH", std::env::join_paths(kept).unwrap());
    }
    machines.prove();
    // A machine that publishes builds whole packages.
    machines.configure(&machines.reader, &machines.writes());
    // Here `it` has to run, and the whole is built for it. Its record will be this machine's own.
    fs::write(machines.reader.base.join(".settings"), "2").unwrap();
    let example = || {
        let answer = machines.ask(&machines.reader);
        answer.green();
        let of = |target: &&Value| target["kind"] == "doc";
        answer.targets.iter().find(of).unwrap()["source"].as_str().unwrap().to_owned()
    };
    assert_eq!(example(), "run");
    machines.trust("ci@example.com valid-before=\"20200101Z\"");
    assert_eq!(example(), "cache");
}

#[test]
fn tests_do_not_see_the_agent_where_records_are_signed() {
    if takes_long() {
        return;
    }
    if !can_observe("records for other machines") {
        return;
    }
    let mut machines = Machines::new();
    let test = "#[test] fn t() { assert!(std::env::var_os(\"SSH_AUTH_SOCK\").is_none()) }\n";
    machines.writer.write("base/src/lib.rs", test);
    machines.writer.environment.set("SSH_AUTH_SOCK", "/nonexistent/agent");
    machines.ask(&machines.writer).green();
    machines.configure(&machines.writer, "");
    let line = ["test", "--format", "json", "--no-daemon", "--no-cache"];
    let writer = &machines.writer;
    answered(writer.start_in(&writer.root, EXE, &line, false).end(LIMIT)).red();
}

/// The reason of the shared store for the whole.
fn of_whole(lines: &[Value]) -> String {
    lines.last().unwrap()["shared"].as_str().unwrap().to_owned()
}

#[test]
fn explain_says_what_the_store_knows_of_each_target() {
    if takes_long() {
        return;
    }
    if !can_observe("records for other machines") {
        return;
    }
    let machines = Machines::new();
    machines.prove();
    let reader = &machines.reader;
    let lines = machines.explain(reader);
    let targets = &lines[..lines.len() - 1];
    let expected = |line: &Value| {
        let shared = &line["shared"];
        shared["answers"] == true && shared["signer"] == "ci@example.com"
    };
    assert!(targets.len() > 3 && targets.iter().all(expected), "{lines:#?}");

    fs::write(reader.base.join(".settings"), "2").unwrap();
    for line in machines.explain(reader).iter().filter(|line| line["type"] == "target") {
        let (shared, is_reader) = (&line["shared"], line["package"] == "top");
        let why = shared["reason"].as_str().unwrap();
        if is_reader && line["kind"] == "lib" {
            assert!(why.contains("by ci@example.com: ") && why.contains("/.settings"), "{line}");
            assert_eq!(shared["answers"], false);
        } else if !is_reader {
            assert_eq!(shared["answers"], true, "{line}");
        }
    }
    let text = reader.ok(&["explain", "top"]);
    assert!(text.contains("/.settings` is another one here"), "{text}");

    machines.trust("peer,ci@example.com");
    let said = of_whole(&machines.explain(reader));
    assert_eq!(said, "peer,ci@example.com is a peer, and peers are not trusted");
    machines.trust("ci@example.com");
    machines.configure_project(reader, "", "ttl='1ms'");
    let said = of_whole(&machines.explain(reader));
    assert_eq!(said, "a record by ci@example.com is older than `ttl`");
    machines.configure(reader, "read=false\n");
    assert_eq!(of_whole(&machines.explain(reader)), "`read` is off");
    machines.configure(reader, "");
    for object in files(&machines.store.join("v2")) {
        let text = fs::read(&object).unwrap();
        fs::write(&object, &text[..text.len() / 2]).unwrap();
    }
    assert!(of_whole(&machines.explain(reader)).contains("is not believed: "));
    fs::remove_dir_all(&machines.store).unwrap();
    assert!(of_whole(&machines.explain(reader)).contains("there is no folder"));
    fs::remove_file(reader.config_file()).unwrap();
    assert_eq!(machines.explain(reader).last().unwrap()["shared"], Value::Null);
}

#[test]
fn the_daemon_publishes_what_it_and_its_clients_prove() {
    if takes_long() {
        return;
    }
    if !can_observe("records for other machines") {
        return;
    }
    let machines = Machines::new();
    let writer = &machines.writer;
    let daemon = writer.daemon();
    let mut said = String::new();
    until("the run of a command is published", || {
        if machines.trees() == 0 {
            let answer = writer.test(&[]);
            answer.green();
            said.push_str(&answer.ran.stderr);
        }
        (machines.trees() > 0).then_some(())
    });
    assert!(said.contains("the daemon publishes"), "{said}");
    assert!(!said.contains("targets published"), "the command does not wait: {said}");

    let test = "#[test] fn unseen() { assert!(std::env::var_os(\"SSH_AUTH_SOCK\").is_none()) }\n";
    machines.configure_project(writer, &machines.writes(), "background_tests=true");
    for home in [writer, &machines.reader] {
        home.write("base/src/lib.rs", &format!("{LEAF}{test}"));
    }
    until("a run of its own is published", || (machines.trees() > 1).then_some(()));
    daemon.stop();
    let reader = &machines.reader;
    machines.ask(reader).green_from("cache");
    assert!(!reader.root.join("target").exists(), "nothing is built");

    // Nor does a daemon build that finds the clone, unless the store is too slow.
    until("nothing is built ahead", || {
        let _ = fs::remove_dir_all(reader.root.join("target"));
        let _ = fs::remove_dir_all(reader.paths().cache_dir);
        let daemon = reader.daemon();
        let rests = || (reader.project_status()["state"] == "idle").then_some(());
        until("the daemon has looked at the clone", rests);
        reader.test(&[]).green();
        until("the daemon has nothing to do", rests);
        daemon.stop();
        (!reader.root.join("target").exists()).then_some(())
    });
}

#[test]
fn a_wrong_answer_of_another_machine_is_found_and_its_signer_named() {
    if takes_long() {
        return;
    }
    if !can_observe("records for other machines") {
        return;
    }
    let machines = Machines::new();
    let (writer, reader) = (&machines.writer, &machines.reader);
    // The letters of its own path are the one thing that is no input.
    let test = "#[test] fn t() { assert!(!env!(\"CARGO_MANIFEST_DIR\").contains(\"/quite/\")) }\n";
    for home in [writer, reader] {
        home.write("base/src/lib.rs", &format!("pub fn number() -> u32 {{ 1 }}\n{test}"));
    }
    machines.prove();
    machines.configure_project(reader, "", "verify_percent=100");
    // What is built already is not asked of others.
    reader.ok(&["pause"]);
    let daemon = reader.daemon();
    let answer = machines.patiently(reader, || reader.test(&[]));
    answer.green_from("cache");
    assert!(reasons(&answer).iter().all(|reason| reason.contains("proven by ci@example.com")));
    reader.ok(&["resume"]);
    until("the answer is verified", || (reader.project_status()["wrong"] == 1).then_some(()));
    let stats = reader.ok(&["stats", "--format", "json"]);
    assert!(stats.contains("\"wrong_signers\":[\"ci@example.com\"]"), "{stats}");
    let doctor = reader.run(&["doctor"]).stdout;
    assert!(doctor.contains("base (by the record of ci@example.com)"), "{doctor}");
    let answer = reader.test(&[]);
    answer.red();
    assert!(answer.ran.stderr.contains("by the record of ci@example.com"), "{answer:#?}");
    daemon.stop();
    reader.ok(&["resume", "--trust"]);
    assert!(!reader.run(&["doctor"]).stdout.contains("by the record of"));
}

#[test]
fn what_has_failed_here_is_not_green_by_another_machine_before_a_run_of_it_is() {
    if takes_long() || !can_observe("records for other machines") {
        return;
    }
    let mut machines = Machines::new();
    // The letters of its own path are the one thing that is no input.
    let test = "#[test] fn t() { assert!(!env!(\"CARGO_MANIFEST_DIR\").contains(\"/quite/\")) }\n";
    for home in [&machines.writer, &machines.reader] {
        home.write("base/src/lib.rs", &format!("pub fn number() -> u32 {{ 1 }}\n{test}"));
    }
    // Nobody has proven anything yet.
    machines.ask(&machines.reader).red();
    machines.prove();
    let afresh = |machines: &Machines, notes: &str| {
        let _ = fs::remove_dir_all(machines.reader.root.join("target"));
        let _ = fs::remove_dir_all(machines.reader.paths().cache_dir.join("shared"));
        machines.reader.write("NOTES.md", notes);
        machines.ask(&machines.reader)
    };
    let answer = afresh(&machines, "1");
    answer.red();
    assert!(answer.ran.stderr.contains("it failed here"), "{answer:#?}");
    assert_eq!(answer.run(), ["base"], "{answer:#?}");
    // A build that fails says nothing else of it.
    machines.reader.write("reads/src/lib.rs", "no code");
    assert_eq!(machines.reader.run(&["test", "--no-daemon"]).code, Some(101));
    machines.reader.write("reads/src/lib.rs", "");
    afresh(&machines, "mended").red();

    // Once a run of the same packages is green, they are.
    let place = machines.reader.base.join("elsewhere");
    fs::rename(&machines.reader.root, &place).unwrap();
    machines.reader.root = place;
    afresh(&machines, "2").green();
    afresh(&machines, "3").green_from("cache");
}

/// Gives all files below a folder this age.
fn make_old(dir: &Path, age: Duration) {
    for path in files(dir) {
        let file = fs::File::options().write(true).open(path).unwrap();
        file.set_modified(SystemTime::now() - age).unwrap();
    }
}

#[test]
fn the_store_is_cleaned_up_by_age_and_project() {
    if takes_long() {
        return;
    }
    if !can_observe("records for other machines") {
        return;
    }
    let machines = Machines::new();
    machines.prove();
    let (writer, reader) = (&machines.writer, &machines.reader);
    let gc = |home: &Home, more: &[&str]| home.run(&[&["cache", "gc", "--shared"], more].concat());
    let ran = gc(writer, &[]);
    assert_eq!(ran.code, Some(0), "{ran:#?}");
    assert!(
        ran.stderr.contains("0 objects (0 B) of the shared store, older than 30d; "),
        "{ran:#?}"
    );
    make_old(&machines.store.join("v2"), Duration::from_secs(3 * 24 * 60 * 60));
    let all = files(&machines.store).len();
    let ran = gc(writer, &["--older-than", "2d", "--dry-run"]);
    assert_eq!(ran.code, Some(0), "{ran:#?}");
    let count = format!("{all} objects (");
    assert!(ran.stderr.contains("Would go") && ran.stderr.contains(&count), "{ran:#?}");
    assert_eq!(files(&machines.store).len(), all);
    let ran = gc(reader, &["--older-than", "2d"]);
    assert!(ran.code == Some(4) && ran.stderr.contains("`write` is off"), "{ran:#?}");

    let other = writer.base.join("other");
    fs::create_dir_all(other.join("src")).unwrap();
    fs::write(other.join("src/lib.rs"), "").unwrap();
    let manifest = "[package]\nname='elsewhere'\nversion='0.1.0'\nedition='2021'\n";
    fs::write(other.join("Cargo.toml"), manifest).unwrap();
    let of = |root: &Path| gc(writer, &["--older-than", "2d", "--project", root.to_str().unwrap()]);
    let ran = of(&other);
    assert!(ran.code == Some(0) && ran.stderr.contains("0 objects"), "{ran:#?}");
    assert_eq!(files(&machines.store).len(), all, "of another project");
    let ran = of(&writer.root);
    assert!(ran.code == Some(0) && ran.stderr.contains(&count), "{ran:#?}");
    assert_eq!(files(&machines.store.join("v2")), Vec::<PathBuf>::new());
    machines.ask(reader).green_from("run");

    fs::remove_dir_all(&machines.store).unwrap();
    fs::write(&machines.store, "no folder").unwrap();
    let ran = gc(writer, &[]);
    assert!(ran.code == Some(1) && ran.stderr.contains("shared store: "), "{ran:#?}");
    fs::remove_file(writer.config_file()).unwrap();
    let ran = gc(writer, &[]);
    assert!(ran.code == Some(4) && ran.stderr.contains("names no shared store"), "{ran:#?}");
}

#[test]
fn what_is_remembered_of_a_store_is_cleared_with_the_records() {
    let machines = Machines::new();
    let reader = &machines.reader;
    fs::write(&machines.store, "no folder").unwrap();
    let remembered = reader.paths().cache_dir.join("shared/store.json");
    let is_off = || {
        let _ = reader.run(&["explain"]);
        assert!(remembered.exists());
    };
    is_off();
    reader.ok(&["cache", "clear", "--project", reader.root.to_str().unwrap()]);
    assert!(remembered.exists(), "it is of all projects");
    reader.ok(&["cache", "clear"]);
    assert!(!remembered.exists());
    is_off();
    // No supervisor is needed to remove what is not installed, but nothing goes where one is missing.
    let ran = reader.run(&["uninstall", "--purge"]);
    assert!(ran.code == Some(0) || ran.code == Some(7), "{ran:#?}");
    assert_eq!(ran.code == Some(0), !remembered.exists(), "{ran:#?}");
}
