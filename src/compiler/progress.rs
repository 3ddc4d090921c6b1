//! Cargo's standard error, split into progress, status lines and everything else.

use super::Product;

/// The progress of a build.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BuildProgress {
    /// Cargo's progress bar.
    Building {
        /// How many units are done.
        done: u32,
        /// How many units there are.
        total: u32,
        /// The units being compiled, as cargo lists them; may be cut short.
        what: String,
    },
    /// Another cargo holds a lock; the text is cargo's own: `waiting for file lock on …`.
    Blocked(String),
    /// A status line without its indentation: `Compiling ripgrep v15.1.0`.
    Status(String),
    /// A unit is built, or was fresh.
    Made(Box<Product>),
    /// An error or warning of the compiler, rendered.
    Diagnostic(String),
}

/// Splits the stream as it comes.
#[derive(Default)]
pub(super) struct ErrorStream {
    pending: Vec<u8>,
    /// Everything that is neither progress nor status, as it came.
    text: String,
}

/// The verbs of cargo's status column. Any other line stays in the text.
const STATUS_VERBS: &[&str] = &[
    "Adding",
    "Blocking",
    "Building",
    "Checking",
    "Compiling",
    "Credential",
    "Dirty",
    "Doc-tests",
    "Downgrading",
    "Downloaded",
    "Downloading",
    "Executable",
    "Fetch",
    "Finished",
    "Fresh",
    "Locking",
    "Removing",
    "Running",
    "Unchanged",
    "Unpacking",
    "Updating",
    "Upgrading",
    "Vendoring",
    "Waiting",
];

impl ErrorStream {
    /// Reads another piece and reports its progress.
    pub(super) fn push(&mut self, bytes: &[u8], progress: &mut impl FnMut(BuildProgress)) {
        for &byte in bytes {
            match byte {
                b'\n' | b'\r' => {
                    let line = std::mem::take(&mut self.pending);
                    self.line(&line, byte == b'\n', progress);
                }
                _ => self.pending.push(byte),
            }
        }
    }

    /// The text that is left when the stream has ended.
    pub(super) fn finish(mut self, progress: &mut impl FnMut(BuildProgress)) -> String {
        let line = std::mem::take(&mut self.pending);
        if !line.is_empty() {
            self.line(&line, true, progress);
        }
        self.text
    }

    fn line(&mut self, line: &[u8], whole: bool, progress: &mut impl FnMut(BuildProgress)) {
        let line = String::from_utf8_lossy(line);
        let plain = without_escapes(&line);
        match status(&plain) {
            Some(event) => progress(event),
            // A bar that was cut off by the end of the stream, or an empty redraw.
            None if !whole && plain.trim().is_empty() => {}
            None => {
                self.text.push_str(&line);
                self.text.push('\n');
            }
        }
    }
}

/// The progress in a line of cargo's status column; `None` for any other text.
fn status(line: &str) -> Option<BuildProgress> {
    let trimmed = line.trim();
    let (verb, rest) = trimmed.split_once(' ')?;
    // The verb stands right-aligned in 12 columns.
    let indent = line.len() - line.trim_start().len();
    if indent + verb.len() != 12 || !STATUS_VERBS.contains(&verb) {
        return None;
    }
    let rest = rest.trim_start();
    match verb {
        "Building" if rest.starts_with('[') => bar(rest),
        "Blocking" => Some(BuildProgress::Blocked(rest.to_owned())),
        _ => Some(BuildProgress::Status(trimmed.to_owned())),
    }
}

/// `[====>   ] 41/88: ripgrep, serde`.
fn bar(text: &str) -> Option<BuildProgress> {
    let (_, text) = text.split_once(']')?;
    let (numbers, what) = text.split_once(':').unwrap_or((text, ""));
    let (done, total) = numbers.trim().split_once('/')?;
    Some(BuildProgress::Building {
        done: done.trim().parse().ok()?,
        total: total.trim().parse().ok()?,
        what: what.trim().to_owned(),
    })
}

/// The text without terminal control sequences.
pub(super) fn without_escapes(text: &str) -> String {
    let mut plain = String::with_capacity(text.len());
    let mut rest = text.chars().peekable();
    while let Some(c) = rest.next() {
        if c != '\u{1b}' {
            plain.push(c);
        } else if rest.next_if_eq(&'[').is_some() {
            // CSI: parameters up to a final letter.
            while rest.next_if(|c| !('@'..='~').contains(c)).is_some() {}
            rest.next();
        } else if rest.next_if_eq(&']').is_some() {
            // OSC, as for links and progress: up to BEL or ESC \.
            while rest.next_if(|c| !matches!(c, '\u{7}' | '\u{1b}')).is_some() {}
            if rest.next() == Some('\u{1b}') {
                rest.next_if_eq(&'\\');
            }
        }
    }
    plain
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn read(bytes: &[u8]) -> (Vec<BuildProgress>, String) {
        let mut events = Vec::new();
        let mut stream = ErrorStream::default();
        stream.push(bytes, &mut |event| events.push(event));
        let text = stream.finish(&mut |event| events.push(event));
        (events, text)
    }

    const REAL: &[u8] =
        b"   Compiling b v0.1.0 (/w/b)\n    Building [===>   ] 2/12: a(build.rs), b(test)     \r\
        \x1b[1m\x1b[92m    Blocking\x1b[0m waiting for file lock on build directory\n\
        error: could not compile `a` (lib) due to 1 previous error\n\
        warning: build failed, waiting for other jobs to finish...\n\
        \x1b[1m\x1b[32m    Finished\x1b[0m `test` profile target(s) in 0.50s\n";

    #[test]
    fn progress_status_and_text_are_told_apart() {
        let (events, text) = read(REAL);
        assert_eq!(
            events,
            [
                BuildProgress::Status("Compiling b v0.1.0 (/w/b)".into()),
                BuildProgress::Building { done: 2, total: 12, what: "a(build.rs), b(test)".into() },
                BuildProgress::Blocked("waiting for file lock on build directory".into()),
                BuildProgress::Status("Finished `test` profile target(s) in 0.50s".into()),
            ]
        );
        assert!(text.starts_with("error: could not compile"), "{text}");
        assert_eq!(text.lines().count(), 2);
    }

    #[test]
    fn a_line_that_only_looks_like_status_stays_in_the_text() {
        let script =
            b"  --- stderr\n  Compiling my thing\n   Frobbing x\nCaused by:\n  Running x\n";
        let (events, text) = read(script);
        assert!(events.is_empty(), "{events:?}");
        assert_eq!(text.as_bytes(), script);
    }

    proptest! {
        #[test]
        fn pieces_do_not_matter(cut in 0..REAL.len()) {
            let mut events = Vec::new();
            let mut stream = ErrorStream::default();
            stream.push(&REAL[..cut], &mut |event| events.push(event));
            stream.push(&REAL[cut..], &mut |event| events.push(event));
            let text = stream.finish(&mut |event| events.push(event));
            prop_assert_eq!((events, text), read(REAL));
        }

        #[test]
        fn nothing_panics(bytes: Vec<u8>, text in "[\u{1b}\\[\\]m;0-9a-z ]*") {
            read(&bytes);
            without_escapes(&text);
        }
    }
}
