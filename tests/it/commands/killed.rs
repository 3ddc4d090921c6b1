//! `test` is killed, or its terminal is closed: nothing that its tests have started stays.

use std::fs;

use rustix::process::Signal;

use crate::home::{EXE, Home, can_observe, until};

#[test]
fn a_killed_question_leaves_nothing_that_its_tests_started() {
    // One child in the group of the test, and one that has left it.
    let test = "use std::process::Command;\n\
        #[test] fn t() {\n\
        let mut one = Command::new(\"sleep\").arg(\"1000\").spawn().unwrap();\n\
        Command::new(\"setsid\").args([\"sleep\", \"1000\"]).spawn().unwrap();\n\
        std::fs::write(std::env::var(\"MARK\").unwrap(), one.id().to_string()).unwrap();\n\
        one.wait().unwrap(); }\n";
    let mut home = Home::with(&[("tests/it.rs", test)]);
    let mark = home.base.join("out/mark");
    home.environment.set("MARK", &mark);
    assert_eq!(home.cargo(&["test", "--no-run"]).code, Some(0));
    for signal in [Signal::HUP, Signal::QUIT, Signal::KILL] {
        let _ = fs::remove_file(&mark);
        let question = home.start(EXE, &["test", "--no-daemon"]);
        until("the test has started its children", || {
            fs::read_to_string(&mark).ok()?.parse::<i32>().ok()
        });
        question.signal(signal);
        drop(question);
        assert_eq!(home.left_over(), Vec::<String>::new(), "{signal:?}");
    }
}

/// Calls of an observed process fail when nobody answers them.
#[test]
fn a_test_that_ends_over_a_call_which_nobody_answers_leaves_nothing() {
    if !can_observe("a test that ends over a call which nobody answers") {
        return;
    }
    let test = "use std::process::Command;\n\
        #[test] fn t() {\n\
        Command::new(\"setsid\").args([\"sleep\", \"1000\"]).spawn().unwrap();\n\
        std::fs::write(std::env::var(\"MARK\").unwrap(), \"started\").unwrap();\n\
        while std::fs::File::open(\"absent\").unwrap_err().kind() == std::io::ErrorKind::NotFound {}\n\
        std::process::exit(0); }\n";
    let mut home = Home::with(&[("tests/it.rs", test)]);
    let mark = home.base.join("out/mark");
    home.environment.set("MARK", &mark);
    assert_eq!(home.cargo(&["test", "--no-run"]).code, Some(0));
    let question = home.start(EXE, &["test", "--no-daemon"]);
    until("the test has started its child", || {
        fs::read_to_string(&mark).ok().filter(|text| text == "started")
    });
    question.signal(Signal::KILL);
    drop(question);
    assert_eq!(home.left_over(), Vec::<String>::new());
}
