//! The language server, by an editor that plays its part.

mod editor;
mod neovim;

use std::fs;
use std::io::Read as _;

use serde_json::{Value, json};

use self::editor::{Editor, uri};
use crate::home::{Home, takes_long, until};

const GREEN: &str = "#[test]\nfn one() {\n    assert_eq!(1, 1);\n}\n\n#[test]\nfn two() {}\n";
const RED: &str = "#[test]\nfn one() {\n    assert_eq!(1, 2);\n}\n\n#[test]\nfn two() {}\n";
const UNKNOWN: [(u64, &str); 2] = [(1, "unknown"), (6, "unknown")];
const PASSED: [(u64, &str); 2] = [(1, "passed"), (6, "passed")];

/// A user whose workspace has `text` as its library, all of it green and known.
fn known(text: &str) -> Home {
    let home = Home::with(&[("src/lib.rs", text)]);
    home.config("", "debounce = '20ms'");
    home
}

#[test]
fn marks_are_those_of_the_text_on_the_screen() {
    let home = known(GREEN);
    let daemon = home.daemon();
    home.test(&[]).green();
    let path = home.root.join("src/lib.rs");
    let mut editor = Editor::new(&home);
    editor.open(&path, GREEN);
    editor.wait_for_marks(&path, &PASSED);
    let all = json!({"start": {"line": 0, "character": 0}, "end": {"line": 9, "character": 0}});
    let hints = json!({"textDocument": {"uri": uri(&path)}, "range": all});
    let hints = editor.request("textDocument/inlayHint", hints).unwrap();
    assert_eq!(hints[0]["position"], json!({"line": 1, "character": 10}), "{hints:#}");
    assert!(hints[0]["label"].as_str().unwrap().starts_with("✓ passed"), "{hints:#}");

    let refreshes = editor.refreshes;
    editor.types(&path, &GREEN.replace("(1, 1)", "(1, 12)"));
    // The very next answer has no mark for the text of before.
    assert_eq!(editor.marks(&path), UNKNOWN.map(|(line, word)| (line, word.to_owned())));
    until("the editor is told that the marks are others", || {
        editor.marks(&path);
        (editor.refreshes > refreshes).then_some(())
    });
    editor.types(&path, GREEN);
    assert_eq!(editor.marks(&path), PASSED.map(|(line, word)| (line, word.to_owned())), "undone");

    // Saved: unknown until it has run, and where it fails, it says so at its line.
    editor.types(&path, RED);
    home.write("src/lib.rs", RED);
    editor.saved(&path);
    assert_eq!(editor.marks(&path), UNKNOWN.map(|(line, word)| (line, word.to_owned())));
    home.test(&[]).red();
    editor.wait_for_marks(&path, &[(1, "failed"), (6, "passed")]);
    let failure = until("the failure is shown", || {
        editor.marks(&path);
        editor.diagnostics.get(&uri(&path)).and_then(|all| all.first()).cloned()
    });
    assert_eq!(failure["range"]["start"], json!({"line": 2, "character": 4}), "{failure:#}");
    assert_eq!(failure["source"], "knhk-test-cache");
    let message = failure["message"].as_str().unwrap();
    assert!(message.contains("left: 1") && message.contains("right: 2"), "{message}");
    let related = &failure["relatedInformation"][0];
    assert_eq!(related["location"]["range"]["start"]["line"], 1, "{failure:#}");

    editor.types(&path, GREEN);
    until("the failure is no longer shown", || {
        editor.marks(&path);
        editor.diagnostics[&uri(&path)].is_empty().then_some(())
    });
    home.write("src/lib.rs", GREEN);
    editor.saved(&path);
    editor.wait_for_marks(&path, &PASSED);
    assert_eq!(editor.leave(), Some(0));
    daemon.stop();
}

/// Questions of the editor take nothing away from the daemon's own work.
#[test]
fn a_save_is_built_and_run_in_the_background_while_an_editor_watches() {
    if takes_long() {
        return;
    }
    let home = known(GREEN);
    home.config("", "debounce = '20ms'\nbackground_tests = true");
    let daemon = home.daemon();
    let path = home.root.join("src/lib.rs");
    let mut editor = Editor::new(&home);
    editor.open(&path, GREEN);
    editor.wait_for_marks(&path, &PASSED);
    editor.types(&path, RED);
    home.write("src/lib.rs", RED);
    editor.saved(&path);
    editor.wait_for_marks(&path, &[(1, "failed"), (6, "passed")]);
    until("the editor is told of the end of the work", || {
        editor.marks(&path);
        editor.progress.last().is_some_and(|kind| kind == "end").then_some(())
    });
    assert!(editor.progress.iter().any(|kind| kind == "begin"), "{:?}", editor.progress);
    assert_eq!(editor.leave(), Some(0));
    daemon.stop();
}

#[test]
fn a_daemon_that_is_gone_takes_its_marks_along() {
    let home = known(GREEN);
    let daemon = home.daemon();
    home.test(&[]).green();
    let path = home.root.join("src/lib.rs");
    let mut editor = Editor::new(&home);
    editor.open(&path, GREEN);
    editor.wait_for_marks(&path, &PASSED);
    daemon.signal(rustix::process::Signal::KILL);
    editor.wait_for_marks(&path, &UNKNOWN);
    drop(daemon);
    let daemon = home.daemon();
    editor.wait_for_marks(&path, &PASSED);
    assert_eq!(editor.leave(), Some(0));
    daemon.stop();
}

#[test]
fn without_a_daemon_the_server_watches_by_itself() {
    let home = known(GREEN);
    home.test(&[]).green();
    let path = home.root.join("src/lib.rs");
    let mut editor = Editor::new(&home);
    editor.open(&path, GREEN);
    editor.wait_for_marks(&path, &PASSED);
    editor.types(&path, RED);
    assert_eq!(editor.marks(&path), UNKNOWN.map(|(line, word)| (line, word.to_owned())));
    assert_eq!(editor.leave(), Some(0));
    assert_eq!(home.left_over(), Vec::<String>::new());
}

#[test]
fn a_test_can_be_run_and_its_output_opened() {
    let home = known(GREEN);
    let daemon = home.daemon();
    let path = home.root.join("src/lib.rs");
    let mut editor = Editor::new(&home);
    editor.open(&path, GREEN);
    editor.wait_for_marks(&path, &UNKNOWN);
    let actions = |editor: &mut Editor| -> Vec<Value> {
        let at = json!({"line": 2, "character": 0});
        let params = json!({
            "textDocument": {"uri": uri(&path)},
            "range": {"start": at, "end": at},
            "context": {"diagnostics": []},
        });
        let actions = editor.request("textDocument/codeAction", params).unwrap();
        actions.as_array().unwrap().clone()
    };
    let found = actions(&mut editor);
    let titles: Vec<_> = found.iter().map(|action| action["title"].as_str().unwrap()).collect();
    let expected = ["Run test one", "Explain the verdict of p", "Run failed and unknown tests"];
    assert_eq!(titles, expected);
    editor.request("workspace/executeCommand", found[1].clone()).unwrap();
    until("the verdict is explained", || {
        editor.marks(&path);
        editor.shown.iter().any(|shown| shown.contains("no record")).then_some(())
    });
    for (action, told) in [(&found[0], "test one passed"), (&found[2], "test passed")] {
        editor.request("workspace/executeCommand", action.clone()).unwrap();
        until(told, || {
            editor.marks(&path);
            editor.shown.iter().any(|shown| shown == told).then_some(())
        });
    }
    editor.wait_for_marks(&path, &PASSED);
    let log = actions(&mut editor).pop().unwrap();
    assert_eq!(log["title"], "Open the output of the last run");
    editor.request("workspace/executeCommand", log).unwrap();
    let shown = editor.shown.last().unwrap().clone();
    let output = shown.strip_prefix("the output is in ").unwrap();
    assert!(fs::read_to_string(output).unwrap().contains("Green"), "{shown}");
    let unknown = json!({"command": "knhk-test-cache.sing"});
    assert!(editor.request("workspace/executeCommand", unknown).is_err());
    assert_eq!(editor.leave(), Some(0));
    daemon.stop();
}

#[test]
fn what_makes_no_sense_is_refused_and_does_no_harm() {
    let home = known(GREEN);
    let early = Editor::silent(&home).request("shutdown", Value::Null).unwrap_err();
    assert_eq!(early["code"], -32002);

    let mut garbage = Editor::silent(&home);
    garbage.write(b"Content-Length: 3\r\n\r\n{]}");
    assert_eq!(garbage.end(), Some(1));
    assert_eq!(Editor::new(&home).end(), Some(1), "left without a word");
    let mut rude = Editor::new(&home);
    rude.notify("exit", Value::Null);
    assert_eq!(rude.end(), Some(1));

    let mut editor = Editor::new(&home);
    let code = |answer: Result<Value, Value>| answer.unwrap_err()["code"].as_i64();
    assert_eq!(code(editor.request("textDocument/sing", json!({}))), Some(-32601));
    assert_eq!(code(editor.request("textDocument/codeLens", json!({"x": 1}))), Some(-32602));
    assert_eq!(code(editor.request("initialize", json!({}))), Some(-32600));
    editor.notify("textDocument/didChange", json!([1, 2]));
    editor.notify("$/cancelRequest", json!({"id": 77}));
    let untitled = json!({"uri": "untitled:1", "languageId": "rust", "version": 1, "text": GREEN});
    editor.notify("textDocument/didOpen", json!({ "textDocument": untitled }));
    let lenses = json!({"textDocument": {"uri": "untitled:1"}});
    assert_eq!(editor.request("textDocument/codeLens", lenses).unwrap(), json!([]));
    assert_eq!(editor.leave(), Some(0));
}

/// Edits, saves, undos, runs and switches of branches at random: a mark of another text than the one
/// on the screen is never shown.
#[test]
fn no_history_shows_a_mark_of_another_text() {
    if takes_long() {
        return;
    }
    let home = known(GREEN);
    let daemon = home.daemon();
    let path = home.root.join("src/lib.rs");
    // A text's one test fails where its number is odd.
    let text = |number: u32| {
        format!("pub const N: u32 = {number};\n#[test]\nfn even() {{ assert_eq!(N % 2, 0); }}\n")
    };
    let (mut screen, mut disk) = (0, 0);
    let mut has_run = [false; 4];
    home.git(&["init", "--quiet"]);
    for number in (0..4).rev() {
        home.write("src/lib.rs", &text(number));
        home.git(&["add", "."]);
        home.git(&["commit", "--quiet", "-m", "another number"]);
        home.git(&["branch", &format!("number-{number}")]);
    }
    let mut editor = Editor::new(&home);
    editor.open(&path, &text(0));
    let mut random = fs::File::open("/dev/urandom").unwrap();
    let mut history = Vec::new();
    for _ in 0..500 {
        let mut byte = [0; 2];
        random.read_exact(&mut byte).unwrap();
        let number = u32::from(byte[1] % 4);
        let step = match byte[0] % 64 {
            0..=24 => "types",
            25..=37 => "undoes all",
            38..=52 => "saves",
            53..=57 => "another program writes",
            58..=60 => "switches to a branch",
            _ => "runs",
        };
        history.push((step, number));
        match step {
            "types" => screen = number,
            "undoes all" => screen = disk,
            "saves" => disk = screen,
            "another program writes" | "switches to a branch" => disk = number,
            _ => {}
        }
        match step {
            "types" | "undoes all" => editor.types(&path, &text(screen)),
            "saves" => {
                home.write("src/lib.rs", &text(disk));
                editor.saved(&path);
            }
            "another program writes" => home.write("src/lib.rs", &text(disk)),
            "switches to a branch" => {
                home.git(&["switch", "--quiet", "--force", &format!("number-{number}")]);
            }
            _ => {
                let answered = home.test(&[]);
                assert_eq!(answered.verdict() == "pass", disk % 2 == 0, "{history:?}");
                has_run[disk as usize] = true;
            }
        }
        let marks = editor.marks(&path);
        let word = marks.first().map(|(_, word)| word.as_str()).unwrap_or_default();
        let is_right = match word {
            "passed" => screen % 2 == 0 && has_run[screen as usize],
            "failed" => screen % 2 == 1 && has_run[screen as usize],
            word => word == "unknown" || word == "running",
        };
        assert!(is_right, "{word} for {screen} on the screen, {disk} on disk: {history:?}");
    }
    // And once all is quiet, the mark is there.
    home.write("src/lib.rs", &text(2));
    editor.types(&path, &text(2));
    editor.saved(&path);
    home.test(&[]).green();
    editor.wait_for_marks(&path, &[(2, "passed")]);
    assert_eq!(editor.leave(), Some(0));
    daemon.stop();
}
