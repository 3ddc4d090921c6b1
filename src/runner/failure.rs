//! What failed tests printed: the message and the place of the panic, for views.

use std::collections::BTreeMap;

/// At most so many bytes of a message are kept.
const MOST_MESSAGE: usize = 4096;

/// What a failed test said.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct FailureText {
    /// The panic's message, or all that was printed where there was no panic.
    pub message: String,
    /// Where it panicked.
    pub panic: Option<PanicPlace>,
}

/// The place of a panic, as the standard library prints it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct PanicPlace {
    /// The file: relative to the folder in which cargo called rustc.
    pub file: String,
    /// The line.
    pub line: u32,
    /// The column.
    pub column: u32,
}

/// The texts of the failed tests in an output, by the tests' names.
pub(crate) fn failure_texts(output: &str) -> BTreeMap<String, FailureText> {
    let output = anstream::adapter::strip_str(output).to_string();
    let mut sections: BTreeMap<String, Vec<&str>> = BTreeMap::new();
    let mut current = None;
    for line in output.lines() {
        let header = line.strip_prefix("---- ").and_then(|rest| rest.strip_suffix(" stdout ----"));
        if let Some(name) = header {
            current = Some(name.to_owned());
        } else if line == "failures:" {
            current = None;
        } else if let Some(name) = &current {
            sections.entry(name.clone()).or_default().push(line);
        } else if let Some((thread, _)) = panic_line(line) {
            // Not captured: what follows is of this thread, as far as can be told.
            current = Some(thread.to_owned());
            sections.entry(thread.to_owned()).or_default().push(line);
        }
    }
    let texts = sections.into_iter().map(|(name, lines)| {
        let text = failure_text(&name, &lines);
        (name, text)
    });
    texts.collect()
}

/// Message and place in what a test printed.
fn failure_text(name: &str, lines: &[&str]) -> FailureText {
    let own = lines.iter().position(|line| panic_line(line).is_some_and(|(of, _)| of == name));
    let at = own.or_else(|| lines.iter().rposition(|line| panic_line(line).is_some()));
    let panic = at.and_then(|at| panic_line(lines[at])).and_then(|(_, place)| parse_place(place));
    let is_over = |line: &&&str| {
        line.starts_with("stack backtrace:")
            || line.starts_with("note: run with `RUST_BACKTRACE")
            || panic_line(line).is_some()
    };
    let start = at.map_or(0, |at| at + 1);
    let message: Vec<_> =
        lines[start..].iter().take_while(|line| !is_over(line)).copied().collect();
    let message = message.join("\n");
    let mut end = message.trim_end().len().min(MOST_MESSAGE);
    while !message.is_char_boundary(end) {
        end -= 1;
    }
    FailureText { message: message[..end].trim_start_matches('\n').to_owned(), panic }
}

/// The thread's name and the place in a line that announces a panic.
fn panic_line(line: &str) -> Option<(&str, &str)> {
    let (thread, place) = line.strip_prefix("thread '")?.split_once(" panicked at ")?;
    // Newer releases add the thread's number: `thread 'a' (17) panicked at`.
    let (name, _) = thread.rsplit_once('\'')?;
    Some((name, place))
}

fn parse_place(place: &str) -> Option<PanicPlace> {
    let mut parts = place.trim_end_matches(':').rsplitn(3, ':');
    let column = parts.next()?.parse().ok()?;
    let line = parts.next()?.parse().ok()?;
    Some(PanicPlace { file: parts.next()?.to_owned(), line, column })
}

#[cfg(test)]
mod tests {
    use super::*;

    const OUTPUT: &str = "failures:\n\n---- a::adds stdout ----\nbefore\n\n\
        thread 'a::adds' (17) panicked at src/lib.rs:7:9:\nassertion `left == right` failed\n  \
        left: 1\n right: 2\nnote: run with `RUST_BACKTRACE=1` environment variable to display a \
        backtrace\n\n---- b stdout ----\nError: \"no\"\n\n\nfailures:\n    a::adds\n    b\n\ntest \
        result: FAILED.\n";

    #[test]
    fn message_and_place_of_each_failed_test_are_found() {
        let texts = failure_texts(OUTPUT);
        assert_eq!(texts.len(), 2);
        let adds = &texts["a::adds"];
        assert_eq!(adds.message, "assertion `left == right` failed\n  left: 1\n right: 2");
        let place = adds.panic.as_ref().unwrap();
        assert_eq!((&*place.file, place.line, place.column), ("src/lib.rs", 7, 9));
        assert_eq!(texts["b"], FailureText { message: "Error: \"no\"".into(), panic: None });
    }

    #[test]
    fn output_that_was_not_captured_is_told_by_its_threads() {
        let texts = failure_texts("x\nthread 'one' panicked at /a b/c.rs:1:2:\nboom\n");
        let one = &texts["one"];
        assert_eq!((&*one.message, one.panic.as_ref().unwrap().line), ("boom", 1));
    }

    #[test]
    fn a_panic_of_another_thread_counts_where_the_test_has_none() {
        let text = "---- t stdout ----\nthread '<unnamed>' panicked at src/w.rs:3:4:\nin a thread\n\
                    thread 't' panicked at src/t.rs:5:6:\nchild failed\n";
        assert_eq!(failure_texts(text)["t"].panic.as_ref().unwrap().file, "src/t.rs");
        let text =
            "---- t stdout ----\nthread '<unnamed>' panicked at src/w.rs:3:4:\nin a thread\n";
        assert_eq!(failure_texts(text)["t"].message, "in a thread");
    }

    #[test]
    fn a_long_message_is_cut_between_characters() {
        let text = format!("---- t stdout ----\n{}\n", "ü".repeat(MOST_MESSAGE));
        let message = &failure_texts(&text)["t"].message;
        assert!(message.len() <= MOST_MESSAGE && message.ends_with('ü'));
    }
}
