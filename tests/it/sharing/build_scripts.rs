//! Build scripts of the workspace's own: what they consult is checked on the other machine.

use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::time::{Duration, Instant, SystemTime};
use std::{env, fs};

use serde_json::Value;

use super::Machines;
use crate::home::{EXE, Home, LIMIT, answered, can_observe, takes_long, until};

/// A package for each script, whose test holds whatever the script says.
fn fill(writer: &Home, scripts: &[(&str, &str)]) {
    let names: Vec<_> = scripts.iter().map(|(name, _)| format!("'{name}'")).collect();
    let members = format!("[workspace]\nresolver='2'\nmembers=[{}]\n", names.join(","));
    writer.write("Cargo.toml", &members);
    for (name, body) in scripts {
        let head = format!(
            "[package]\nname='{name}'\nversion='0.1.0'\nedition='2021'\n[lib]\ndoctest=false\n"
        );
        let script = format!(
            "#![allow(unused)]\nuse std::{{env, fs, process::Command}};\nfn main() {{\n\
             let out = env::var(\"OUT_DIR\").unwrap();\n\
             let said = |text: String| println!(\"cargo:rustc-env=SAID={{text}}\");\n{body}\n}}\n"
        );
        writer.write(&format!("{name}/Cargo.toml"), &head);
        writer.write(&format!("{name}/build.rs"), &script);
        let test = "#[test] fn t() { assert!(option_env!(\"SAID\").is_some()) }\n";
        writer.write(&format!("{name}/src/lib.rs"), test);
    }
}

/// The machines, with the same programs in `PATH`.
pub(super) fn machines(scripts: &[(&str, &str)]) -> Machines {
    let mut machines = Machines::of(|writer| fill(writer, scripts));
    for home in [&mut machines.writer, &mut machines.reader] {
        // Without folders of a user whose home is another one.
        let path = home.environment.get("PATH").unwrap().to_owned();
        let is_shared = |folder: &PathBuf| ["/usr", "/bin"].iter().any(|of| folder.starts_with(of));
        let is_cargos = |folder: &PathBuf| folder.join("cargo").exists();
        let folders: Vec<_> = env::split_paths(&path).collect();
        let folders = folders.into_iter().filter(|folder| is_shared(folder) || is_cargos(folder));
        home.environment.set("PATH", env::join_paths(folders).unwrap());
    }
    machines
}

/// What the store has to say of a package's target on the reading machine: nothing, if its record answers.
fn reason(lines: &[Value], package: &str) -> String {
    let is_of = |line: &&Value| line["package"] == package && line["kind"] == "lib";
    let shared =
        &lines.iter().find(is_of).unwrap_or_else(|| panic!("{package}: {lines:#?}"))["shared"];
    match shared["answers"].as_bool() {
        Some(true) => String::new(),
        _ => shared["reason"].as_str().unwrap().to_owned(),
    }
}

const ASKS_GIT: &str = "\
    let asked = Command::new(\"git\").args([\"rev-parse\", \"--short=10\", \"HEAD\"]).output();\n\
    said(String::from_utf8(asked.unwrap().stdout).unwrap());";
const ASKS_VARIABLE: &str = "said(env::var(\"SCRIPTED_MODE\").unwrap_or(\"none\".into()));";
const READS_OUTSIDE: &str = "\
    let home = env::var(\"HOME\").unwrap();\n\
    said(fs::read_to_string(home + \"/.settings\").unwrap());";
const GENERATES: &str = "\
    fs::write(format!(\"{out}/gen.rs\"), format!(\"const PLACE: &str = {out:?};\")).unwrap();\n\
    said(fs::read_dir(\".\").unwrap().count().to_string());";

#[test]
fn what_build_scripts_consult_is_checked_on_the_other_machine() {
    if takes_long() || !can_observe("records for other machines") {
        return;
    }
    let scripts = [
        ("asks-git", ASKS_GIT),
        ("asks-variable", ASKS_VARIABLE),
        ("reads-outside", READS_OUTSIDE),
        ("generates", GENERATES),
    ];
    let mut machines = machines(&scripts);
    machines.writer.environment.set("STARSHIP_SESSION_KEY", "1");
    machines.reader.environment.set("STARSHIP_SESSION_KEY", "2");
    for (name, value) in [("QT_IM_MODULE", "ibus"), ("ZSH", "/opt")] {
        machines.reader.environment.set(name, value);
    }
    // No folder below the user's own.
    let session = tempfile::tempdir().unwrap();
    machines.reader.environment.set("XDG_RUNTIME_DIR", session.path());
    machines.writer.environment.set("SCRIPTED_MODE", "1");
    machines.reader.environment.set("SCRIPTED_MODE", "1");
    machines.prove();
    let lines = machines.explain(&machines.reader);
    for (package, _) in scripts {
        assert_eq!(reason(&lines, package), "", "{package}");
    }
    machines.ask(&machines.reader).green_from("cache");
    assert!(!machines.reader.root.join("target").exists(), "nothing is built");

    machines.reader.environment.set("SCRIPTED_MODE", "2");
    fs::write(machines.reader.base.join(".settings"), "2").unwrap();
    let lines = machines.explain(&machines.reader);
    assert!(reason(&lines, "asks-variable").contains("SCRIPTED_MODE"), "{lines:#?}");
    assert!(reason(&lines, "reads-outside").contains("/.settings` is another one"), "{lines:#?}");
    assert_eq!(reason(&lines, "asks-git"), "");
    assert_eq!(reason(&lines, "generates"), "");

    machines.reader.git(&["commit", "-q", "--allow-empty", "-m", "two"]);
    let lines = machines.explain(&machines.reader);
    let why = reason(&lines, "asks-git");
    assert!(why.contains("`git rev-parse --short=10 HEAD` answers differently here"), "{why}");
    assert_eq!(reason(&lines, "generates"), "");

    machines.reader.git(&["reset", "-q", "--hard", "HEAD~1"]);
    let other = machines.reader.base.join("bin");
    fs::create_dir(&other).unwrap();
    fs::write(other.join("git"), "#!/bin/sh\necho 0123456789\n").unwrap();
    fs::set_permissions(other.join("git"), fs::Permissions::from_mode(0o755)).unwrap();
    let path = machines.reader.environment.get("PATH").unwrap().to_owned();
    let path = format!("{}:{}", other.display(), path.to_str().unwrap());
    machines.reader.environment.set("PATH", path);
    let why = reason(&machines.explain(&machines.reader), "asks-git");
    assert!(why.contains("git"), "{why}");
}

/// Bytes of a name that stands nowhere: `HIDDEN_MODE`, each less by one.
const COMPUTED: &str = "\
    let name: String = b\"GHCCDM^LNCD\".iter().map(|byte| (byte + 1) as char).collect();\n\
    said(env::var(name).unwrap_or(\"none\".into()));";
const ALL_VARIABLES: &str = "said(env::vars().filter(|(n, _)| n.len() == 11).count().to_string());";
const TIME: &str = "\
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();\n\
    said(now.as_nanos().to_string());";
const RANDOM: &str = "said(fs::read_to_string(\"/proc/sys/kernel/random/uuid\").unwrap());";
const OTHERWISE: &str = "\
    let mark = format!(\"{}/mark\", env::var(\"HOME\").unwrap());\n\
    if fs::metadata(&mark).is_ok() { return said(\"second\".into()); }\n\
    fs::write(mark, \"\").unwrap();\n\
    said(\"first\".into());";
const WRITES_ELSEWHERE: &str = "\
    fs::write(env::var(\"HOME\").unwrap() + \"/made\", \"1\").unwrap();\n\
    said(String::new());";
const STARTS_DAEMON: &str = "\
    let null = || fs::File::options().write(true).open(\"/dev/null\").unwrap();\n\
    Command::new(\"sleep\").arg(\"5\").stdout(null()).stderr(null()).spawn().unwrap();\n\
    said(String::new());";
const OTHER_PROCESS: &str =
    "said(fs::read_to_string(\"/proc/1/cmdline\").map_or(0, |_| 1).to_string());";
const DIES: &str =
    "if out.contains(\"knhk-test-cache-\") { std::process::abort(); } said(String::new());";
const LOOKS_AROUND: &str =
    "said(fs::read_dir(format!(\"{out}/../..\")).unwrap().count().to_string());";
const ASKS_GIT_OTHERWISE: &str = "\
    let asked = Command::new(\"git\").args([\"rev-parse\", \"HEAD\"]).env(\"GIT_X\", \"1\").output();\n\
    said(String::from_utf8(asked.unwrap().stdout).unwrap());";

#[test]
fn a_build_script_of_which_not_all_is_known_answers_nobody() {
    if takes_long() || !can_observe("records for other machines") {
        return;
    }
    // A server that a fresh clone would not find.
    let server = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = server.local_addr().unwrap().to_string();
    let connects =
        format!("std::net::TcpStream::connect({address:?}).unwrap(); said(String::new());");
    let sends = format!(
        "let socket = std::net::UdpSocket::bind(\"127.0.0.1:0\").unwrap();\n\
         socket.send_to(b\"x\", {address:?}).unwrap(); said(String::new());"
    );
    let scripts = [
        ("computed", COMPUTED, "variables differ that it does not name"),
        ("all-variables", ALL_VARIABLES, "HIDDEN_MODE differs"),
        ("time", TIME, "came to something else"),
        ("random", RANDOM, "came to something else"),
        ("otherwise", OTHERWISE, "came to something else"),
        ("writes-elsewhere", WRITES_ELSEWHERE, "ended with exit status 101"),
        ("starts-daemon", STARTS_DAEMON, "starts-daemon"),
        ("other-process", OTHER_PROCESS, "/proc/1"),
        ("dies", DIES, "ended with signal 6"),
        ("looks-around", LOOKS_AROUND, "it consults"),
        ("git-otherwise", ASKS_GIT_OTHERWISE, ".git"),
        ("connects", &connects, &address),
        ("sends", &sends, &address),
    ];
    let named: Vec<_> = scripts.iter().map(|(name, body, _)| (*name, *body)).collect();
    let mut machines = machines(&named);
    machines.writer.environment.set("HIDDEN_MODE", "1");
    machines.reader.environment.set("HIDDEN_MODE", "2");
    let ask = || machines.ask(&machines.writer);
    ask().green();
    let made = machines.writer.base.join("made");
    let written = || fs::metadata(&made).unwrap().modified().unwrap();
    let first = written();
    ask().green();
    assert_eq!(written(), first, "run again, it cannot write there");
    let lines = machines.explain(&machines.reader);
    for (package, _, expected) in scripts {
        let why = reason(&lines, package);
        assert!(why.contains(expected), "{package}: {why}");
    }
}

#[test]
fn a_build_script_that_cargo_runs_again_before_it_is_run_once_more_is_of_another_build() {
    if takes_long() || !can_observe("records for other machines") {
        return;
    }
    let server = TcpListener::bind("127.0.0.1:0").unwrap();
    server.set_nonblocking(true).unwrap();
    let address = server.local_addr().unwrap().to_string();
    // The publication rests in the second run of the first script.
    let waits = format!(
        "if out.contains(\"knhk-test-cache-\") {{\n\
         let mut end = std::net::TcpStream::connect({address:?}).unwrap();\n\
         std::io::Read::read_to_end(&mut end, &mut Vec::new()).unwrap();\n}}\n\
         said(String::new());"
    );
    let reads = format!("println!(\"cargo:rerun-if-changed=trigger\");\n{READS_OUTSIDE}");
    let mut machines = machines(&[("a-waits", &waits), ("b-reads", &reads)]);
    // So that nothing answers by the whole tree.
    machines.writer.environment.set("HIDDEN_MODE", "1");
    machines.reader.environment.set("HIDDEN_MODE", "2");
    let (writer, reader) = (&machines.writer, &machines.reader);
    for home in [writer, reader] {
        home.write("b-reads/trigger", "");
        home.write("b-reads/src/lib.rs", "#[test] fn t() { assert_eq!(env!(\"SAID\"), \"1\") }\n");
    }
    let line = ["test", "--format", "json", "--no-daemon"];
    let asked = writer.start_in(&writer.root, EXE, &line, false);
    let waiting = until("the first script is run once more", || server.accept().ok());
    for home in [writer, reader] {
        fs::write(home.base.join(".settings"), "2").unwrap();
    }
    let trigger = fs::File::options().write(true).open(writer.root.join("b-reads/trigger"));
    trigger.unwrap().set_modified(SystemTime::now()).unwrap();
    assert_eq!(writer.cargo(&["build", "--workspace"]).code, Some(0));
    drop(waiting);
    answered(asked.end(LIMIT)).green();
    machines.ask(reader).red();
}

#[test]
fn a_question_to_git_counts_by_its_files_where_cargo_names_another_repository() {
    if takes_long() || !can_observe("records for other machines") {
        return;
    }
    let machines = machines(&[("asks-git", ASKS_GIT)]);
    let named = "[env]\nGIT_DIR={value='.git/modules/other',relative=true}\n";
    for home in [&machines.writer, &machines.reader] {
        home.write(".cargo/config.toml", named);
    }
    machines.writer.git(&["clone", "-q", "--bare", ".", ".git/modules/other"]);
    machines.prove();
    let why = reason(&machines.explain(&machines.reader), "asks-git");
    assert!(why.contains(".git/modules/other"), "{why}");
}

/// Ends when cargo runs it, and never when it is run once more.
const HANGS: &str = "\
    if out.contains(\"knhk-test-cache-\") { loop { std::thread::park() } }\n\
    said(String::new());";

#[test]
fn a_build_script_that_never_ends_is_given_up_and_not_waited_for_again() {
    if takes_long() || !can_observe("records for other machines") {
        return;
    }
    let machines = machines(&[("hangs", HANGS), ("asks-git", ASKS_GIT)]);
    let ask = |name: &str| {
        machines.writer.write("hangs/src/lib.rs", &format!("#[test] fn {name}() {{}}\n"));
        let began = Instant::now();
        machines.ask(&machines.writer).green();
        began.elapsed()
    };
    // A minute is waited for the script, and nothing for it from then on.
    let (first, second) = (ask("one"), ask("two"));
    assert!(first > Duration::from_secs(60), "{first:?}");
    assert!(second < Duration::from_secs(60), "{second:?}");
    let lines = machines.explain(&machines.reader);
    let why = reason(&lines, "hangs");
    assert!(why.contains("run again, it does not end"), "{why}");
    assert_eq!(reason(&lines, "asks-git"), "", "others are shared");
}
