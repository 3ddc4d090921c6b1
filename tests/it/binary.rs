//! Hits for single targets, whose program and inputs are unchanged, with and without a daemon.

#![cfg(all(target_os = "linux", any(target_arch = "x86_64", target_arch = "aarch64")))]

use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::symlink;

use knhk_test_cache::internals::observer::{ObserveOptions, Observer};
use knhk_test_cache::internals::process::{Output, Spec, capture};

use crate::home::{Answered, EXE, Home, LIMIT, SOON, answered, can_observe, takes_long, until};

/// A workspace, and the arguments of its questions.
pub(crate) struct Client {
    pub(crate) home: Home,
    way: &'static [&'static str],
    rounds: u32,
}

impl Client {
    pub(crate) fn ask(&self) -> Answered {
        self.home.test(self.way)
    }

    /// Asks where nothing can be observed: a process tree has one observer at most, and this one
    /// keeps the command from observing.
    fn ask_unobserved(&self, more: &[&str]) -> Output {
        let line = [&["test", "--format", "json"], self.way, more].concat();
        let spec = Spec::new(EXE, &self.home.root, self.home.environment.clone()).args(line);
        let (spec, running) = Observer::observe(&spec, ObserveOptions::default()).unwrap();
        let output = capture(&spec, LIMIT).unwrap();
        drop(running);
        output
    }

    /// Asks about a tree that no record of the whole workspace covers. All targets must be green;
    /// returns those that ran.
    #[track_caller]
    fn ran(&mut self) -> Vec<String> {
        self.rounds += 1;
        self.home.write("note", &self.rounds.to_string());
        let answer = self.ask();
        answer.green();
        answer.run()
    }

    #[track_caller]
    fn runs(&mut self, expected: &[&str]) {
        assert_eq!(self.ran(), expected);
    }
}

/// Plays a scene twice, without a daemon and with one, in a package `p` with these files.
pub(crate) fn play(files: &[(&str, &str)], scene: impl Fn(&mut Client)) {
    if !can_observe("answers by single targets") {
        return;
    }
    for way in [&["--no-daemon"][..], &[]] {
        let home = Home::with(&[("src/lib.rs", "")]);
        files.iter().for_each(|(path, text)| home.write(path, text));
        home.config("", "debounce = '1h'");
        let daemon = way.is_empty().then(|| home.daemon());
        let mut client = Client { home, way, rounds: 0 };
        scene(&mut client);
        drop(daemon);
    }
}

#[test]
fn edits_that_change_no_program_run_nothing() {
    if takes_long() {
        return;
    }
    let lib = |comment: &str, value: u32| {
        format!(
            "// a {comment}\npub fn f() -> u32 {{ {value} }}\n#[test] fn t() {{ assert!(f() > 0) }}\n"
        )
    };
    let first = lib("comment", 1);
    let files =
        [("src/lib.rs", &first[..]), ("tests/it.rs", "#[test] fn t() { assert!(p::f() > 0) }\n")];
    play(&files, |client| {
        client.ask().green_from("run");
        client.home.write("src/lib.rs", &lib("remark", 1));
        let answer = client.ask();
        answer.green_from("cache");
        assert_eq!(answer.targets[0]["reason"], "same packages and inputs", "{answer:#?}");
        client.home.write("src/lib.rs", &format!("{first}fn unused() {{}}\n"));
        client.runs(&[]);
        // Touched.
        client.home.write("src/lib.rs", &first);
        client.runs(&[]);
        client.home.write("src/lib.rs", &lib("comment", 2));
        client.runs(&["p", "it"]);
        client.home.write("src/lib.rs", &first);
        client.runs(&[]);
        client.home.write("src/lib.rs", &lib("comment", 0));
        client.ask().red();
        client.home.write("src/lib.rs", &first);
        client.runs(&[]);
    });
}

#[test]
fn read_listed_and_absent_files_rerun_only_their_target() {
    if takes_long() {
        return;
    }
    let read = |path: &str| format!("#[test] fn t() {{ std::fs::read({path:?}).unwrap(); }}\n");
    let list = "#[test] fn t() { assert!(std::fs::read_dir(\"data\").unwrap().count() > 1) }\n";
    let optional = "#[test] fn t() { let _ = std::fs::read(\"settings\"); }\n";
    let child = "#[test] fn t() { let status = std::process::Command::new(\"sh\")\n\
                 .args([\"-c\", \"cat < data/b >/dev/null\"]).status().unwrap();\n\
                 assert!(status.success()) }\n";
    let files = [
        ("data/a", "1"),
        ("data/b", "1"),
        ("tests/a.rs", &read("data/a")[..]),
        ("tests/child.rs", child),
        ("tests/list.rs", list),
        ("tests/optional.rs", optional),
        ("tests/z.rs", &read("link")),
    ];
    play(&files, |client| {
        let link = client.home.root.join("link");
        symlink("data/a", &link).unwrap();
        client.ask().green_from("run");
        client.runs(&[]);
        client.home.write("data/a", "2");
        client.runs(&["a", "z"]);
        client.home.write("data/a", "1");
        client.runs(&[]);
        client.home.write("data/a", "2");
        client.runs(&[]);
        client.home.write("data/b", "2");
        client.runs(&["child"]);
        client.home.write("data/c", "");
        client.runs(&["list"]);
        client.home.write("data/c", "not read");
        client.runs(&[]);
        client.home.write("settings", "");
        client.runs(&["optional"]);
        fs::remove_file(client.home.root.join("settings")).unwrap();
        client.runs(&[]);
        fs::remove_file(&link).unwrap();
        symlink("data/b", &link).unwrap();
        client.runs(&["z"]);
    });
}

#[test]
fn a_changed_file_with_its_old_time_and_size_is_noticed() {
    if takes_long() {
        return;
    }
    let test = "#[test] fn t() { assert_eq!(std::fs::read(\"data\").unwrap(), b\"one\") }\n";
    play(&[("data", "one"), ("tests/it.rs", test)], |client| {
        client.ask().green_from("run");
        let path = client.home.root.join("data");
        let then = path.metadata().unwrap().modified().unwrap();
        client.home.write("data", "two");
        fs::File::options().append(true).open(&path).unwrap().set_modified(then).unwrap();
        client.ask().red();
        client.home.write("data", "one");
        client.runs(&[]);
    });
}

#[test]
fn workspace_programs_count_by_their_loadable_parts() {
    if takes_long() {
        return;
    }
    let main = |prints: &str, comment: &str| {
        format!("fn main() {{ println!(\"{prints}\") }} // a {comment}\n")
    };
    let test = "#[test] fn t() { let out = std::process::Command::new(env!(\"CARGO_BIN_EXE_p\"))\n\
                .output().unwrap(); assert!(out.status.success() && out.stdout.len() == 2) }\n";
    play(&[("src/main.rs", &main("1", "comment")), ("tests/cli.rs", test)], |client| {
        // With a digest of the source in the program.
        client.home.environment.set("CARGO_PROFILE_DEV_DEBUG", "2");
        client.ask().green_from("run");
        client.home.write("src/main.rs", &main("1", "remark"));
        client.runs(&[]);
        client.home.write("src/main.rs", &main("2", "comment"));
        assert!(client.ran().contains(&"cli".to_owned()));
        client.home.write("src/main.rs", &main("22", "comment"));
        client.ask().red();
    });
}

#[test]
fn variables_count_except_those_of_the_terminal() {
    if takes_long() {
        return;
    }
    let test = "#[test] fn t() { assert!(std::env::var(\"MODE\") != Ok(\"bad\".into())) }\n";
    play(&[("tests/it.rs", test)], |client| {
        client.ask().green_from("run");
        client.home.environment.set("TERM", "other");
        client.runs(&[]);
        client.home.environment.set("MODE", "good");
        client.runs(&["p", "it"]);
        client.home.environment.remove("MODE");
        client.runs(&[]);
        client.home.environment.set("MODE", "bad");
        client.ask().red();
    });
}

#[test]
fn a_fixture_edited_during_its_test_makes_the_run_uncacheable() {
    let test = "#[test] fn t() {\n\
                let read = || std::fs::read_to_string(\"data\").unwrap();\n\
                let first = read();\n\
                std::fs::write(std::env::var(\"MARK\").unwrap(), \"\").unwrap();\n\
                while first == \"1\" && read() == \"1\" { std::thread::yield_now() } }\n";
    play(&[("data", "1"), ("tests/it.rs", test)], |client| {
        let mark = client.home.base.join("out/mark");
        client.home.environment.set("MARK", &mark);
        let line = [&["test", "--format", "json"], client.way].concat();
        let started = client.home.start(EXE, &line);
        until("the test has read", || mark.exists().then_some(()));
        client.home.write("data", "2");
        let answer = answered(started.end(SOON));
        answer.green_from("run");
        let why = answer.summary["not_kept"].to_string();
        assert!(why.contains("`data` changed while it ran"), "{answer:#?}");
        assert_eq!(client.ask().run(), ["it"]);
        client.runs(&[]);
    });
}

#[test]
fn a_file_that_the_test_writes_is_cacheable_once_it_is_stable() {
    if takes_long() {
        return;
    }
    let test = "#[test] fn t() { match std::fs::read(\"tests/it.snap\") {\n\
                Ok(text) => assert_eq!(text, b\"1\"),\n\
                Err(_) => std::fs::write(\"tests/it.snap\", \"1\").unwrap() } }\n";
    play(&[("tests/it.rs", test)], |client| {
        let first = client.ask();
        first.green_from("run");
        assert!(!first.summary["not_kept"].is_null(), "{first:#?}");
        assert_eq!(client.ask().run(), ["it"]);
        client.ask().green_from("cache");
        client.runs(&[]);
        client.home.write("tests/it.snap", "2");
        client.ask().red();
    });
}

#[test]
fn a_file_left_by_one_test_reruns_the_test_that_reads_it() {
    if takes_long() {
        return;
    }
    let writes = "#[test] fn t() { let text = std::fs::read(\"data\").unwrap();\n\
                  std::fs::write(std::env::var(\"SHARED\").unwrap(), text).unwrap() }\n";
    let reads = "#[test] fn t() { let text = std::fs::read(std::env::var(\"SHARED\").unwrap());\n\
                 assert!(text.map_or(true, |text| text != b\"bad\")) }\n";
    let files = [("data", "1"), ("tests/a_writes.rs", writes), ("tests/reads.rs", reads)];
    play(&files, |client| {
        let shared = client.home.base.join("out/shared");
        fs::write(&shared, "1").unwrap();
        client.home.environment.set("SHARED", &shared);
        client.ask().green();
        // In the first run the two targets changed each other's inputs.
        client.ran();
        client.runs(&[]);
        client.home.write("data", "2");
        client.runs(&["a_writes", "reads"]);
        client.ran();
        client.runs(&[]);
        client.home.write("data", "bad");
        client.ask().red();
    });
}

#[test]
fn a_run_that_reached_an_outside_socket_is_uncacheable() {
    if takes_long() {
        return;
    }
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let test = "#[test] fn t() {\n\
                std::net::TcpStream::connect(std::env::var(\"PEER\").unwrap()).unwrap(); }\n";
    let own = "#[test] fn t() {\n\
               let own = std::net::TcpListener::bind(\"127.0.0.1:0\").unwrap();\n\
               std::net::TcpStream::connect(own.local_addr().unwrap()).unwrap(); }\n";
    play(&[("tests/outside.rs", test), ("tests/own.rs", own)], |client| {
        client.home.environment.set("PEER", &address);
        client.ask().green_from("run");
        for _ in 0..2 {
            let answer = client.ask();
            answer.green_from("mixed");
            assert_eq!(answer.run(), ["outside"]);
            let why = answer.summary["not_kept"].to_string();
            assert!(why.contains(&format!("it spoke to {address}")), "{answer:#?}");
        }
    });
}

#[test]
fn a_test_that_reads_its_own_program_depends_on_the_whole_file() {
    if takes_long() {
        return;
    }
    // Only the debug information holds line numbers.
    let test = |body: &str, space: &str| {
        format!(
            "#[test] fn t() {{ f() }}\n{space}fn f() {{ let own = std::env::current_exe();\n\
             if {body} {{ std::process::exit(1) }} }}\n"
        )
    };
    let (reads, asks) = ("own.and_then(std::fs::read).is_err()", "own.is_err()");
    let files = [("tests/asks.rs", &test(asks, "")[..]), ("tests/reads.rs", &test(reads, ""))];
    play(&files, |client| {
        client.home.environment.set("CARGO_PROFILE_DEV_DEBUG", "2");
        client.ask().green_from("run");
        client.home.write("tests/asks.rs", &test(asks, "\n"));
        client.home.write("tests/reads.rs", &test(reads, "\n"));
        client.runs(&["reads"]);
        client.runs(&[]);
    });
}

#[test]
fn examples_in_documentation_depend_on_what_rustdoc_reads() {
    if takes_long() {
        return;
    }
    let lib = |value: u32| {
        format!("//! ```\n//! assert_eq!(p::f(), 1)\n//! ```\npub fn f() -> u32 {{ {value} }}\n")
    };
    let manifest = "[package]\nname='p'\nversion='0.1.0'\nedition='2021'\n";
    let files = [("Cargo.toml", manifest), ("src/lib.rs", &lib(1)[..]), ("tests/it.rs", "")];
    play(&files, |client| {
        client.ask().green_from("run");
        client.runs(&[]);
        client.home.write("tests/it.rs", "#[test] fn t() {}\n");
        client.runs(&["it"]);
        client.home.write("src/lib.rs", &lib(2));
        client.ask().red();
    });
}

#[test]
fn always_run_and_trusted_services_are_respected() {
    if takes_long() {
        return;
    }
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let test = "#[test] fn t() {\n\
                std::net::TcpStream::connect(std::env::var(\"PEER\").unwrap()).unwrap(); }\n";
    play(&[("tests/outside.rs", test)], |client| {
        client.home.environment.set("PEER", &address);
        let settings = |text: &str| client.home.config("", &format!("debounce = '1h'\n{text}"));
        settings(&format!("trusted_services = ['{address}']"));
        // A daemon reads a new config a moment later.
        until("the service is vouched for", || {
            let answer = client.ask();
            answer.green();
            (answer.source() == "cache").then_some(())
        });
        settings(&format!("trusted_services = ['{address}']\nalways_run = ['*::outside']"));
        until("the target is always run", || {
            let answer = client.ask();
            answer.green();
            (answer.run() == ["outside"]).then_some(())
        });
        let answer = client.ask();
        assert_eq!(answer.run(), ["outside"]);
        assert_eq!(answer.targets[1]["reason"], "the config has it always run", "{answer:#?}");
    });
}

#[test]
fn explain_names_the_difference_and_the_remedy() {
    if takes_long() {
        return;
    }
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let reads = "#[test] fn t() { std::fs::read(\"data\").unwrap(); }\n";
    let peer = "#[test] fn t() {\n\
                std::net::TcpStream::connect(std::env::var(\"PEER\").unwrap()).unwrap(); }\n";
    let files = [("data", "1"), ("tests/outside.rs", peer), ("tests/reads.rs", reads)];
    play(&files, |client| {
        client.home.environment.set("PEER", &address);
        client.ask().green_from("run");
        client.home.write("data", "2");
        let text = client.home.ok(&["explain", "reads"]);
        assert!(text.contains("p::reads: `data` changed"), "{text}");
        assert!(!text.contains("outside"), "{text}");
        let text = client.home.ok(&["explain", "outside"]);
        assert!(text.contains(&format!("it spoke to {address}")), "{text}");
        assert!(text.contains("trusted_services"), "{text}");
        let lines = client.home.ok(&["explain", "--format", "json"]);
        let lib: serde_json::Value = serde_json::from_str(lines.lines().next().unwrap()).unwrap();
        assert!(
            lib["reason"].as_str().unwrap().starts_with("inputs unchanged; cached if"),
            "{lib:#}"
        );
    });
}

/// Inputs of the build alone: the target that depends on them runs.
#[test]
fn build_only_inputs_count_through_the_program() {
    if takes_long() {
        return;
    }
    let lib = "pub const TEXT: &str = include_str!(\"../../outside.txt\");\n\
               pub const MODE: &str = env!(\"MODE_OF_BUILD\");\n";
    let build = "fn main() {\n\
                 println!(\"cargo:rerun-if-env-changed=KNOB\");\n\
                 let knob = std::env::var(\"KNOB\").unwrap_or_default();\n\
                 println!(\"cargo:rustc-env=MODE_OF_BUILD=mode{knob}\"); }\n";
    let uses = "#[test] fn t() { assert!(p::TEXT.len() + p::MODE.len() > 4) }\n";
    let files = [
        ("build.rs", build),
        ("src/lib.rs", lib),
        ("../outside.txt", "1"),
        ("tests/other.rs", "#[test] fn t() {}\n"),
        ("tests/uses.rs", uses),
    ];
    play(&files, |client| {
        client.ask().green_from("run");
        client.runs(&[]);
        client.home.write("../outside.txt", "2");
        client.runs(&["uses"]);
        client.home.write("../outside.txt", "1");
        client.runs(&[]);
        client.home.environment.set("KNOB", "1");
        // A variable that every test sees.
        client.runs(&["p", "other", "uses"]);
        client.home.environment.remove("KNOB");
        client.runs(&[]);
    });
}

#[test]
fn two_checkouts_answer_for_themselves() {
    if takes_long() {
        return;
    }
    let test = "#[test] fn t() { assert_eq!(std::fs::read(\"data\").unwrap(), b\"1\") }\n";
    play(&[("data", "1"), ("tests/it.rs", test)], |client| {
        client.ask().green_from("run");
        let git = |args: &[&str]| client.home.git(args);
        git(&["init", "-q"]);
        git(&["add", "."]);
        git(&["-c", "user.name=a", "-c", "user.email=a@b", "commit", "-qm", "one"]);
        git(&["worktree", "add", "-q", "../other"]);
        let other = client.home.base.join("other");
        fs::write(other.join("data"), "2").unwrap();
        let line = ["test", "--format", "json", "--no-daemon"];
        answered(client.home.start_in(&other, EXE, &line, false).end(LIMIT)).red();
        fs::write(other.join("data"), "1").unwrap();
        answered(client.home.start_in(&other, EXE, &line, false).end(LIMIT)).green();
        // A link to the workspace leads to the same records.
        symlink(&client.home.root, client.home.base.join("link")).unwrap();
        let link = client.home.base.join("link");
        answered(client.home.start_in(&link, EXE, &line, false).end(LIMIT)).green_from("cache");
        client.home.write("data", "2");
        answered(client.home.start_in(&link, EXE, &line, false).end(LIMIT)).red();
    });
}

#[test]
fn an_uncacheable_run_still_gives_the_right_answer() {
    if takes_long() {
        return;
    }
    // Leaves a process behind; fails the first time that it is run at all.
    let leaves = "#[test] fn t() { let _ = std::process::Command::new(\"sleep\").arg(\"30\")\n\
                  .stdin(std::process::Stdio::null()).stdout(std::process::Stdio::null())\n\
                  .stderr(std::process::Stdio::null()).spawn().unwrap(); }\n";
    let fickle = "#[test] fn t() { let mark = std::env::var(\"MARK\").unwrap();\n\
                  let first = !std::path::Path::new(&mark).exists();\n\
                  std::fs::write(&mark, \"\").unwrap(); assert!(!first) }\n";
    play(&[("tests/fickle.rs", fickle), ("tests/leaves.rs", leaves)], |client| {
        let mark = client.home.base.join("out/mark");
        client.home.environment.set("MARK", &mark);
        let answer = client.ask();
        answer.green();
        let why = answer.summary["not_kept"].to_string();
        assert!(why.contains("left a process behind"), "{answer:#?}");
        // The failed test passed when it was repeated alone, observed.
        assert_eq!(client.ask().run(), ["leaves"]);
        // Its recorded input is gone.
        fs::remove_file(&mark).unwrap();
        assert_eq!(client.ask().run(), ["fickle", "leaves"]);
    });
}

#[test]
fn without_an_observer_every_file_counts() {
    if takes_long() {
        return;
    }
    let files = [
        ("src/lib.rs", "#[test] fn t() {}\n"),
        ("tests/it.rs", "#[test] fn t() { std::fs::read(\"data\").unwrap(); }\n"),
        ("data", "1"),
    ];
    play(&files, |client| {
        let ask = |more: &[&str]| {
            let output = client.ask_unobserved(more);
            assert!(output.success(), "{}", String::from_utf8_lossy(&output.stderr));
            String::from_utf8(output.stdout).unwrap()
        };
        let ran = |text: &str| text.matches("\"source\":\"run\"").count();
        let first = ask(&[]);
        // Each target, and the summary.
        assert_eq!(ran(&first), 3, "{first}");
        let again = ask(&[]);
        assert_eq!(ran(&again), 0, "{again}");
        // Another selection may have built other programs for the test to execute.
        let lib = ask(&["--lib"]);
        assert_eq!(ran(&lib), 2, "{lib}");
        client.home.write("note", "nobody reads it");
        let again = ask(&[]);
        assert_eq!(ran(&again), 3, "{again}");
    });
}

#[test]
fn without_an_observer_a_stale_build_proves_nothing_of_its_tree() {
    if takes_long() {
        return;
    }
    let lib = |value: u32| format!("pub fn f() -> u32 {{ {value} }}\n");
    let test = "#[test] fn t() { let out = std::process::Command::new(env!(\"CARGO_BIN_EXE_p\"))\n\
                .output().unwrap(); assert_eq!(out.stdout, b\"1\") }\n";
    let main = "fn main() { print!(\"{}\", p::f()) }\n";
    let bad = lib(2);
    play(&[("src/lib.rs", &bad), ("src/main.rs", main), ("tests/cli.rs", test)], |client| {
        let (file, backup) = (client.home.root.join("src/lib.rs"), client.home.base.join("backup"));
        // A copy would be younger than the build.
        fs::rename(&file, &backup).unwrap();
        client.home.write("src/lib.rs", &lib(1));
        assert!(client.ask_unobserved(&[]).success());
        fs::rename(&backup, &file).unwrap();
        // Cargo compares times and does not see the older file.
        assert!(client.ask_unobserved(&[]).success());
        let touched = fs::File::options().append(true).open(&file).unwrap();
        touched.set_modified(std::time::SystemTime::now()).unwrap();
        let red = client.ask_unobserved(&[]);
        assert!(!red.success(), "{}", String::from_utf8_lossy(&red.stdout));
    });
}

#[test]
fn a_run_that_observation_would_change_runs_unobserved_and_counts_every_file() {
    if takes_long() {
        return;
    }
    // A listener of its own (flag 8) on a filter that allows everything: there can be one only.
    let wants = |first: &str, then: &str| {
        let head = "#![allow(unsafe_code)]\n\
            unsafe extern \"C\" { fn prctl(what: i32, ...) -> i32; fn syscall(number: i64, ...) -> i64; }\n\
            #[test] fn t() { unsafe {\n";
        let tail = "let mut allow = [0x7fff_0000_0000_0006_u64];\n\
            let filter = (1_u64, allow.as_mut_ptr());\n\
            prctl(38, 1, 0, 0, 0);\n\
            let number = if cfg!(target_arch = \"x86_64\") { 317 } else { 277 };\n\
            let made = syscall(number, 1, 8, &filter) >= 0;\n";
        format!("{head}{first}{tail}{then}assert!(made) }} }}\n")
    };
    play(&[("src/lib.rs", "#[test] fn t() {}\n"), ("tests/wants.rs", &wants("", ""))], |client| {
        client.ask().green_from("run");
        client.ask().green_from("cache");
        let text = client.home.ok(&["explain", "wants"]);
        assert!(text.contains("same code"), "{text}");
        client.home.write("note", "nobody reads it");
        let text = client.home.ok(&["explain", "wants"]);
        assert!(text.contains("every file counts for it: the run uses seccomp itself"), "{text}");
        client.runs(&["wants"]);
        // Once the test uses no seccomp, its inputs are observed.
        client.home.write("tests/wants.rs", "#[test] fn t() {}\n");
        client.runs(&["wants"]);
        client.runs(&[]);
        client.home.write("note", "again");
        let text = client.home.ok(&["explain", "wants"]);
        assert!(!text.contains("every file"), "{text}");
        // What can never be kept is not observed again after each edit. The call is `io_uring_setup`.
        let untraceable = wants(
            "let ran = std::fs::read(\"target/ran\").unwrap_or_default();\n\
             std::fs::write(\"target/ran\", [&ran[..], b\"r\"].concat()).unwrap();\n\
             syscall(425, 4_i64, [0_u8; 120].as_mut_ptr());\n",
            "while !made { std::thread::sleep(std::time::Duration::from_secs(1000)) }\n",
        );
        let ran = || fs::read(client.home.root.join("target/ran")).unwrap().len();
        client.home.write("tests/wants.rs", &untraceable);
        client.ask().green();
        let before = ran();
        assert!(before >= 2, "observed until that was seen, and as it is");
        client.home.write("tests/wants.rs", &format!("{untraceable}// edited\n"));
        client.ask().green();
        assert_eq!(ran(), before + 1);
        let text = client.home.ok(&["explain", "wants"]);
        assert!(text.contains("it runs unobserved"), "{text}");
    });
}

#[test]
fn a_failure_is_confirmed_by_the_failed_tests_alone() {
    let count = "use std::io::Write;\n\
         fn ran(name: &str) {\n\
         \x20   let mut file = std::fs::OpenOptions::new().create(true).append(true).open(\"target/ran\").unwrap();\n\
         \x20   file.write_all(name.as_bytes()).unwrap();\n}\n\
         #[test] fn holds() { ran(\"h\") }\n\
         #[test] fn fails() { ran(\"f\"); panic!() }\n";
    let home = Home::with(&[("tests/it.rs", count)]);
    let asked = home.test(&["--test", "it"]);
    asked.red();
    assert_eq!((asked.count("passed"), asked.count("failed")), (1, 1));
    let ran = std::fs::read_to_string(home.root.join("target/ran")).unwrap();
    let times = |name: char| ran.chars().filter(|ran| *ran == name).count();
    let observed = usize::from(Observer::available().is_ok());
    assert_eq!((times('h'), times('f')), (1, 1 + observed), "{ran}");
}
