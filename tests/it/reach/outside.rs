//! Capabilities of tests, and the identities that follow from them.

use knhk_test_cache::internals::model::Digest;
use knhk_test_cache::internals::reach::{Capabilities, Masking, Policy, TestIdentity};

use super::subject::{Subject, Tests};

const CODE: &str = "// A comment.\n\
use std::ffi::{CStr, c_char, c_void};\n\
unsafe extern \"C\" { fn dlsym(handle: *mut c_void, name: *const c_char) -> *mut c_void; }\n\
pub fn look_up(name: &CStr) -> bool { unsafe { !dlsym(std::ptr::null_mut(), name.as_ptr()).is_null() } }\n\
#[track_caller] pub fn line() -> u32 { std::panic::Location::caller().line() }\n\
#[cfg(test)]\n\
mod tests {\n\
    use super::*;\n\
    #[test] fn nothing() { assert_eq!(\"a\".repeat(2), \"aa\"); }\n\
    #[test] fn files() { std::fs::read_to_string(\"x\").unwrap_err(); }\n\
    #[test] fn paths() { assert!(!std::path::Path::new(\"x\").exists()); }\n\
    #[test] fn variables() { assert!(std::env::var(\"x\").is_err()); }\n\
    #[test] fn programs() { std::process::Command::new(\"true\").status().unwrap(); }\n\
    #[test] fn itself() { std::process::Command::new(std::env::current_exe().unwrap()).arg(\"--list\").status().unwrap(); }\n\
    #[test] fn sockets() { std::net::TcpListener::bind(\"127.0.0.1:0\").unwrap(); }\n\
    #[test] fn clocks() { assert!(std::time::Instant::now().elapsed().as_secs() < 9); }\n\
    #[test] fn lookups() { assert!(!look_up(c\"no_such_function\")); }\n\
    #[test] fn lines() { assert!(line() > 0); }\n\
    #[test] fn hooks() { std::panic::set_hook(Box::new(|info| println!(\"{info}\"))); }\n\
    #[test] fn backtraces() { println!(\"{}\", std::backtrace::Backtrace::capture()); }\n\
    #[test] fn forced() { println!(\"{}\", std::backtrace::Backtrace::force_capture()); }\n\
    #[test] fn calls() { let pid: u32; unsafe { std::arch::asm!(\"syscall\", inout(\"rax\") 39 => pid, out(\"rcx\") _, out(\"r11\") _) }; assert!(pid > 0); }\n\
    #[test] fn exits() { if std::env::consts::OS.is_empty() { std::process::abort(); } }\n\
}\n";

const POLICY: Policy =
    Policy { masking: Masking::All, programs: Digest::from_bytes([0; 32]), starts_itself: true };

fn identity(tests: &Tests, name: &str, policy: &Policy) -> TestIdentity {
    tests[&format!("tests::{name}")].identity(policy)
}

#[test]
fn capabilities_are_seen() {
    let tests = Subject::new("w", &[("src/lib.rs", CODE)]).tests();
    let of = |name: &str| tests[&format!("tests::{name}")].capabilities;
    let one = [
        ("files", Capabilities::FILES),
        ("paths", Capabilities::FILES),
        ("variables", Capabilities::ENVIRONMENT),
        ("clocks", Capabilities::TIME),
        ("lookups", Capabilities::SYMBOL_LOOKUP),
        ("lines", Capabilities::LOCATIONS),
        ("hooks", Capabilities::PANICS),
    ];
    for (name, expected) in one {
        assert!(of(name).contains(expected), "{name}: {}", of(name));
    }
    assert!(of("programs").contains(Capabilities::PROCESSES));
    assert!(!of("programs").contains(Capabilities::OWN_PATH));
    assert!(of("itself").contains(Capabilities::PROCESSES));
    assert!(of("itself").contains(Capabilities::OWN_PATH));
    assert!(of("sockets").contains(Capabilities::NETWORK));
    assert!(of("backtraces").contains(Capabilities::BACKTRACE));
    assert!(of("forced").contains(Capabilities::STACK));
    assert!(of("calls").contains(Capabilities::FILES));
    assert!(of("calls").contains(Capabilities::PROCESSES));
    for name in ["nothing", "exits"] {
        assert_eq!(of(name), Capabilities::default(), "{name}");
    }
    for name in ["variables", "clocks", "lines"] {
        assert!(!of(name).contains(Capabilities::FILES), "{name}: {}", of(name));
        assert!(!of(name).contains(Capabilities::PROCESSES), "{name}: {}", of(name));
    }
    assert!(tests.values().all(|reached| reached.unknown_symbol.is_none()));
}

#[test]
fn an_identity_follows_the_capabilities() {
    let subject = Subject::new("w", &[("src/lib.rs", CODE)]);
    let tests = subject.tests();
    let moved = subject.edited("src/lib.rs", "// A comment.", "// A comment.\n// And another.\n");
    let same = |name, policy| identity(&tests, name, policy) == identity(&moved, name, policy);
    // A test that can read its line depends on it, the others do not.
    assert!(same("nothing", &POLICY) && same("files", &POLICY));
    assert!(!same("lines", &POLICY) && !same("hooks", &POLICY));
    // With optimization nobody can tell which these are.
    assert!(!same("nothing", &Policy { masking: Masking::Nothing, ..POLICY }));

    let other = Policy { programs: Digest::from_bytes([1; 32]), ..POLICY };
    let alike = |name| identity(&tests, name, &POLICY) == identity(&tests, name, &other);
    assert!(alike("files") && alike("nothing"));
    assert!(!alike("programs") && !alike("calls"));

    let whole =
        |name, policy| matches!(identity(&tests, name, policy), TestIdentity::WholeProgram(_));
    assert!(whole("lookups", &POLICY) && whole("forced", &POLICY) && whole("itself", &POLICY));
    assert!(!whole("itself", &Policy { starts_itself: false, ..POLICY }));
    // What it shows, it reads from its own file.
    assert!(!whole("backtraces", &POLICY));
    assert!(!whole("programs", &POLICY) && !whole("files", &POLICY));
}
