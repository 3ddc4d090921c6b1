//! What one machine proves and signs answers on another one: another home, another checkout, no build.

use std::fs;
use std::path::{Path, PathBuf};

use crate::home::{Answered, EXE, Home, LIMIT, answered, can_observe};

const LEAF: &str = "pub fn number() -> u32 { 1 }\n#[test] fn t() { assert_eq!(number(), 1) }\n";
const READS: &str = "#[test] fn t() { assert_eq!(std::fs::read(\"data\").unwrap(), b\"1\") }\n";
/// Reads a file of its user's.
const OF_HOME: &str = "#[test] fn t() {\n    let home = std::env::var(\"HOME\").unwrap();\n    \
                       let text = std::fs::read_to_string(home + \"/settings\");\n    \
                       assert_eq!(text.unwrap(), \"1\");\n}\n";

/// A machine that proves and one that asks, with a folder between them.
struct Machines {
    writer: Home,
    reader: Home,
    store: PathBuf,
}

impl Machines {
    fn new() -> Self {
        let (mut writer, mut reader) = (Home::new(), Home::new());
        for home in [&mut writer, &mut reader] {
            // With all of a user's folders below it.
            home.environment.set("HOME", &home.base);
        }
        writer.write("Cargo.toml", "[workspace]\nresolver='2'\nmembers=['base','top','reads']\n");
        writer.write(".gitignore", "/target\n");
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
            fs::write(home.base.join("settings"), "1").unwrap();
        }
        let machines = Self { store: writer.base.join("store"), writer, reader };
        let writer = &machines.writer;
        let args = ["-q", "-t", "ed25519", "-N", "", "-f"];
        let key = writer.base.join("key");
        let args = [&args[..], &[key.to_str().unwrap()]].concat();
        assert_eq!(writer.start("ssh-keygen", &args).end(LIMIT).code, Some(0));
        machines.trust("ci@example.com namespaces=\"verdict@knhk-test-cache\"");
        let write = format!("write=true\nsign_with={key:?}\n");
        machines.configure(writer, &write);
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
        let (url, signers) =
            (format!("file://{}", self.store.display()), home.base.join("signers"));
        home.config(&format!("[shared]\nurl={url:?}\nallowed_signers={signers:?}\n{more}"), "");
    }

    fn ask(&self, home: &Home) -> Answered {
        let line = ["test", "--format", "json", "--no-daemon"];
        answered(home.start_in(&home.root, EXE, &line, false).end(LIMIT))
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
    if !can_observe("records for other machines") {
        return;
    }
    let machines = Machines::new();
    let proven = machines.prove();
    assert!(has_files(&machines.store.join("v1")), "{proven:#?}");
    let answer = machines.ask(&machines.reader);
    answer.green_from("cache");
    let by = "same packages and inputs, proven by ci@example.com";
    assert!(reasons(&answer).iter().all(|reason| reason == by), "{answer:#?}");
    assert!(!machines.reader.root.join("target").exists(), "nothing is built");

    // Nothing of a user, a value or a machine's name has left it.
    let folder = machines.writer.base.to_str().unwrap();
    for object in files(&machines.store.join("v1")) {
        let text = fs::read_to_string(&object).unwrap();
        assert!(!text.contains(folder), "{text}");
    }

    // Another file of the user's is a miss for the target that reads it, and named.
    fs::write(machines.reader.base.join("settings"), "2").unwrap();
    let answer = machines.ask(&machines.reader);
    answer.red();
    assert!(answer.ran.stderr.contains("settings"), "{answer:#?}");
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

    for object in files(&machines.store.join("v1")) {
        let text = fs::read_to_string(&object).unwrap();
        fs::write(&object, text.replacen("\"records\"", "\"record5\"", 1)).unwrap();
    }
    let answer = fresh(&machines);
    answer.green_from("run");
    assert!(answer.ran.stderr.contains("does not fit its content"), "{answer:#?}");
}

#[test]
fn tests_do_not_see_the_agent_where_records_are_signed() {
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
