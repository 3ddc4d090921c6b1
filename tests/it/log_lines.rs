//! Every log line of the program: the shared fields hold what the journal's readers expect.

use std::path::Path;

/// The outcomes that `F_OUTCOME` may have.
const OUTCOMES: [&str; 4] = ["pass", "fail", "error", "cancelled"];
const MACROS: [&str; 5] = ["trace!(", "debug!(", "info!(", "warn!(", "error!("];

/// The text up to the parenthesis that closes the one before it.
fn arguments(text: &str) -> &str {
    let (mut depth, mut quoted, mut escaped) = (1, false, false);
    for (at, c) in text.char_indices() {
        match c {
            _ if escaped => escaped = false,
            '\\' if quoted => escaped = true,
            '"' => quoted = !quoted,
            '(' if !quoted => depth += 1,
            ')' if !quoted => depth -= 1,
            _ => {}
        }
        if depth == 0 {
            return &text[..at];
        }
    }
    text
}

/// What is wrong with a log call, if anything. `before`: the source up to it.
fn fault(before: &str, call: &str) -> Option<String> {
    let fields = call.split_once('"').map_or(call, |(fields, _)| fields);
    for name in ["project", "outcome", "snapshot", "duration"] {
        if call.contains(&format!("?{name}")) || call.contains(&format!("{name} = ?")) {
            return Some(format!("`{name}` is recorded with quotes"));
        }
    }
    if let Some((_, value)) = call.split_once("outcome = \"") {
        let word = value.split('"').next().unwrap_or_default();
        if !OUTCOMES.contains(&word) {
            return Some(format!("`{word}` is no outcome"));
        }
    }
    if call.contains(".short()") {
        return Some("a digest is cut short".to_owned());
    }
    // The root's path, here or where the variable was made.
    let path = |text: &str| text.contains(".display()");
    if let Some((_, value)) = call.split_once("project = ") {
        let value = value.split(',').next().unwrap_or_default();
        return (!path(value)).then(|| format!("`project = {value}` is no path"));
    }
    if fields.contains("%project") {
        let made = before.rfind("let project =").max(before.rfind("let (project,"));
        let made = made.map(|at| before[at..].split(';').next().unwrap_or_default());
        return (!made.is_some_and(path)).then(|| "`project` is no path".to_owned());
    }
    None
}

fn check(folder: &Path, count: &mut usize, faults: &mut Vec<String>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            check(&path, count, faults);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let text = std::fs::read_to_string(&path).unwrap();
            for name in MACROS {
                for (at, _) in text.match_indices(name) {
                    let line = text[..at].lines().last().unwrap_or_default();
                    if line.trim_start().starts_with("//") {
                        continue;
                    }
                    *count += 1;
                    let call = arguments(&text[at + name.len()..]);
                    let fault = fault(&text[..at], call);
                    faults.extend(fault.map(|why| format!("{}: {why}: {call}", path.display())));
                }
            }
        }
    }
}

#[test]
fn project_outcome_and_snapshot_are_what_the_journal_promises() {
    let (mut count, mut faults) = (0, Vec::new());
    check(Path::new("src"), &mut count, &mut faults);
    assert!(faults.is_empty(), "{faults:#?}");
    assert!(count > 50, "only {count} log calls were found");
}

#[test]
fn faults_are_found() {
    let of = |before: &str, text: &str| fault(before, arguments(text));
    assert_eq!(of("", "project = %root.display(), outcome = \"pass\", \"x\")"), None);
    assert!(of("", "outcome = \"gave way\", \"x\")").is_some());
    assert!(of("", "project = %self.name, \"x (y)\")").is_some());
    assert!(of("", "?project, \"x\")").is_some());
    assert!(of("let project = name;", "%project, \"x\")").is_some());
    assert_eq!(of("let project = root.display();", "%project, \"x\")"), None);
    assert!(of("", "snapshot = %tree.short(), \"x\")").is_some());
}
