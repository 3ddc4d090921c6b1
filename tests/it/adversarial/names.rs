//! Names that a run creates, folders that a path leads through, lengths and ports: each decides
//! whether a run passes, although nothing of them is read.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use knhk_test_cache::internals::observer::Observer;

use crate::home::{EXE, Home, LIMIT, Ran, skip, takes_long, until_old};

/// A test, and the change after which it fails.
struct Case {
    name: &'static str,
    body: &'static str,
    spoil: fn(&Path),
}

const CASES: &[Case] = &[
    Case {
        name: "create_dir",
        body: "fs::create_dir(\"fx/out\").unwrap(); fs::remove_dir(\"fx/out\").unwrap();",
        spoil: |fx| fs::create_dir(fx.join("out")).unwrap(),
    },
    Case {
        name: "create_new",
        body: "fs::File::create_new(\"fx/out\").unwrap(); fs::remove_file(\"fx/out\").unwrap();",
        spoil: |fx| fs::write(fx.join("out"), "").unwrap(),
    },
    Case {
        name: "symlink",
        body: "std::os::unix::fs::symlink(\"x\", \"fx/out\").unwrap();\n\
               fs::remove_file(\"fx/out\").unwrap();",
        spoil: |fx| symlink("y", fx.join("out")).unwrap(),
    },
    Case {
        name: "hard_link",
        body: "fs::hard_link(\"fx/x\", \"fx/out\").unwrap(); fs::remove_file(\"fx/out\").unwrap();",
        spoil: |fx| fs::write(fx.join("out"), "").unwrap(),
    },
    Case {
        name: "bind",
        body: "std::os::unix::net::UnixListener::bind(\"fx/out\").unwrap();\n\
               fs::remove_file(\"fx/out\").unwrap();",
        spoil: |fx| fs::write(fx.join("out"), "").unwrap(),
    },
    Case {
        name: "write",
        body: "fs::write(\"fx/out\", \"1\").unwrap(); fs::remove_file(\"fx/out\").unwrap();",
        spoil: |fx| fs::create_dir(fx.join("out")).unwrap(),
    },
    Case {
        name: "rename",
        body: "fs::write(\"fx/a\", \"1\").unwrap(); fs::rename(\"fx/a\", \"fx/out\").unwrap();\n\
               fs::remove_file(\"fx/out\").unwrap();",
        spoil: |fx| fs::create_dir(fx.join("out")).unwrap(),
    },
    Case {
        name: "append",
        body: "fs::File::options().append(true).open(\"fx/x\").unwrap();",
        spoil: |fx| fs::remove_file(fx.join("x")).unwrap(),
    },
    Case {
        name: "dot_dot",
        body: "assert_eq!(fs::read_to_string(\"fx/sub/../x\").unwrap(), \"good\");",
        spoil: |fx| fs::remove_dir_all(fx.join("sub")).unwrap(),
    },
];

/// A package with one target for each case.
fn workspace() -> Option<Home> {
    if let Err(reason) = Observer::available() {
        skip("names that a run creates", &reason.to_string());
        return None;
    }
    let home = Home::with(&[("fx/x", "good"), ("fx/sub/keep", "")]);
    for case in CASES {
        let text = format!("use std::fs;\n#[test] fn t() {{ {} }}\n", case.body);
        home.write(&format!("tests/{}.rs", case.name), &text);
    }
    until_old(&home.root.join("fx/x"));
    Some(home)
}

/// Brings the package back to where every test passes.
fn restore(fx: &Path) {
    let out = fx.join("out");
    let _ = fs::remove_file(&out);
    let _ = fs::remove_dir(&out);
    fs::create_dir_all(fx.join("sub")).unwrap();
    if !fx.join("x").exists() {
        fs::write(fx.join("x"), "good").unwrap();
    }
}

/// Plain cargo, with us as its runner.
fn exec(home: &Home, target: &str) -> Ran {
    let runner = format!("target.'cfg(all())'.runner=[{EXE:?}, 'exec']");
    home.start("cargo", &["--config", &runner, "test", "--test", target]).end(LIMIT)
}

#[test]
fn a_name_that_a_run_creates_is_an_input_of_test() {
    if takes_long() {
        return;
    }
    let Some(home) = workspace() else { return };
    let fx = home.root.join("fx");
    for case in CASES {
        let line = ["--no-daemon", "--test", case.name];
        home.test(&line).green_from("run");
        home.test(&line).green_from("cache");
        (case.spoil)(&fx);
        assert_eq!(home.test(&line).verdict(), "fail", "{}", case.name);
        restore(&fx);
    }
}

#[test]
fn a_name_that_a_run_creates_is_an_input_of_exec() {
    if takes_long() {
        return;
    }
    let Some(home) = workspace() else { return };
    let fx = home.root.join("fx");
    for case in CASES {
        let is_cached = |ran: &Ran| ran.stderr.contains("is cached:");
        assert_eq!(exec(&home, case.name).code, Some(0), "{}", case.name);
        until_old(&fx.join("x"));
        assert_eq!(exec(&home, case.name).code, Some(0), "{}", case.name);
        assert!(is_cached(&exec(&home, case.name)), "{}", case.name);
        (case.spoil)(&fx);
        assert_eq!(exec(&home, case.name).code, Some(101), "{}", case.name);
        restore(&fx);
    }
}

#[test]
fn a_run_that_leaves_a_name_behind_is_not_answered_while_it_exists() {
    let test = "#[test] fn t() { std::fs::create_dir(concat!(env!(\"CARGO_TARGET_TMPDIR\"), \"/x\")).unwrap() }\n";
    let home = Home::with(&[("tests/it.rs", test)]);
    if let Err(reason) = Observer::available() {
        return skip("names that a run leaves behind", &reason.to_string());
    }
    home.test(&["--no-daemon"]).green_from("run");
    home.test(&["--no-daemon"]).red();
    fs::remove_dir(home.root.join("target/tmp/x")).unwrap();
    home.test(&["--no-daemon"]).green();
}

#[test]
fn a_refused_connection_is_cached_until_somebody_listens() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    let test = format!(
        "#[test] fn t() {{ assert!(std::net::TcpStream::connect(\"{address}\").is_err()) }}\n"
    );
    let home = Home::with(&[("tests/it.rs", &test)]);
    if let Err(reason) = Observer::available() {
        return skip("refused connections", &reason.to_string());
    }
    home.test(&["--no-daemon"]).green_from("run");
    home.test(&["--no-daemon"]).green_from("cache");
    let _listener = std::net::TcpListener::bind(address).unwrap();
    home.test(&["--no-daemon"]).red();
}

#[test]
fn the_length_of_a_product_counts_once_it_was_asked_for() {
    let main = |name: &str| {
        let body = format!("let it = {name}(1); println!(\"{{}}\", it.0)");
        format!("struct {name}(u8);\nfn main() {{ {body} }}\n")
    };
    let test = "#[test] fn t() {\n\
                let length = std::fs::metadata(env!(\"CARGO_BIN_EXE_p\")).unwrap().len();\n\
                assert_eq!(length.to_string(), std::fs::read_to_string(\"len\").unwrap());\n}\n";
    let mut home = Home::with(&[("src/main.rs", &main("S")), ("len", "0"), ("tests/it.rs", test)]);
    // The name of a type is in the debug information only.
    home.environment.set("CARGO_PROFILE_DEV_DEBUG", "2");
    if let Err(reason) = Observer::available() {
        return skip("lengths of products", &reason.to_string());
    }
    assert_eq!(home.cargo(&["test", "--no-run"]).code, Some(0));
    let program = home.root.join("target/debug/p");
    home.write("len", &fs::metadata(program).unwrap().len().to_string());
    until_old(&home.root.join("len"));
    home.test(&["--no-daemon"]).green_from("run");
    home.test(&["--no-daemon"]).green_from("cache");
    // Only the debug information is another, and longer.
    home.write("src/main.rs", &main(&"S".repeat(200)));
    home.test(&["--no-daemon"]).red();
}
