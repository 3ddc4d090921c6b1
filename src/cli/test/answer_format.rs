//! The forms of the answer of `test`, one type each.

use std::io;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::cli::args::{TestArgs, TestFormat};
use crate::cli::context::Context;
use crate::cli::exit::{Exit, Stop};
use crate::cli::failure_log;
use crate::cli::output;
use crate::cli::progress::ProgressLevel;
use crate::cli::render::{
    AskedQuestion, Checkout, WARN, annotations, answer_lines, answer_report, error_annotations,
    error_lines, error_report, failures, green_line, groups, label, red_lines, statement,
    summary_error, summary_line, summary_table, target_line,
};
use crate::model::{Answer, Timestamp, Verdict};

/// An answer, and the question that it answers.
pub(super) struct Conclusion<'a> {
    pub(super) answer: &'a Answer,
    /// The targets of the project of which a verified answer was wrong.
    pub(super) distrusted: Vec<String>,
    pub(super) asked: AskedQuestion,
    pub(super) root: &'a Path,
    pub(super) elapsed: Duration,
    pub(super) now: Timestamp,
    /// Nothing is said of green.
    pub(super) is_quiet: bool,
}

impl Conclusion<'_> {
    fn is_green(&self) -> bool {
        self.answer.verdict() == Verdict::Pass
    }

    /// Tells a person on standard error.
    fn note(&self) {
        if self.is_quiet && self.is_green() {
            return;
        }
        for line in failures(self.answer) {
            output::note(line);
        }
        for line in answer_lines(self.answer, &self.asked, self.elapsed, self.now) {
            output::note(line);
        }
    }
}

/// Why a question has no answer.
pub(super) struct NoAnswer<'a> {
    pub(super) message: &'a str,
    /// The compiler's errors, if the build failed.
    pub(super) build_errors: &'a str,
    /// The workspace's root, if there is one.
    pub(super) root: Option<&'a Path>,
    pub(super) elapsed: Duration,
}

/// A form of the answer. What it is for goes to standard output; what a person reads besides goes to
/// standard error.
pub(super) trait AnswerFormat {
    /// How much is told before the answer.
    fn progress(&self) -> ProgressLevel {
        ProgressLevel::Full
    }

    /// Standard output may have the output of tests in it.
    fn prints_tests(&self) -> bool {
        false
    }

    /// It names the tests that passed.
    fn names_tests(&self) -> bool {
        false
    }

    /// Prints an answer.
    fn answered(&self, conclusion: &Conclusion<'_>) -> Result<(), Stop>;

    /// Prints why there is none, besides the message on standard error.
    fn unanswered(&self, why: &NoAnswer<'_>) -> Result<(), Stop>;
}

/// The forms that are asked for, that of standard output first.
pub(super) fn formats(
    context: &Context,
    args: &TestArgs,
    format: TestFormat,
) -> Result<Vec<Box<dyn AnswerFormat>>, Stop> {
    let mut formats: Vec<Box<dyn AnswerFormat>> = vec![match format {
        TestFormat::Text => Box::new(PlainText),
        TestFormat::Json => Box::new(Json),
        TestFormat::Terse => Box::new(Terse { cache_dir: context.paths.cache_dir.clone() }),
        TestFormat::Github => Box::new(Github::of(context)),
        TestFormat::Junit => Box::new(Junit { file: None }),
    }];
    if let Some(file) = &args.junit {
        formats.push(Box::new(Junit { file: Some(context.cwd.join(file)) }));
    }
    if let Some(file) = &args.attest {
        formats.push(Box::new(Attestation::begun(context.cwd.join(file))?));
    }
    Ok(formats)
}

/// For people.
struct PlainText;

impl AnswerFormat for PlainText {
    fn prints_tests(&self) -> bool {
        true
    }

    fn answered(&self, conclusion: &Conclusion<'_>) -> Result<(), Stop> {
        conclusion.note();
        Ok(())
    }

    fn unanswered(&self, why: &NoAnswer<'_>) -> Result<(), Stop> {
        output::note_text(why.build_errors);
        Ok(())
    }
}

/// One object a line.
struct Json;

impl AnswerFormat for Json {
    fn answered(&self, conclusion: &Conclusion<'_>) -> Result<(), Stop> {
        for target in &conclusion.answer.targets {
            output::line(target_line(target))?;
        }
        output::line(summary_line(
            Some(conclusion.answer),
            None,
            &conclusion.distrusted,
            conclusion.elapsed,
        ))?;
        conclusion.note();
        Ok(())
    }

    /// Scripts always get a last line.
    fn unanswered(&self, why: &NoAnswer<'_>) -> Result<(), Stop> {
        output::note_text(why.build_errors);
        let message = why.message.lines().next().unwrap_or("stopped");
        output::line(summary_line(None, Some(message), &[], why.elapsed))
    }
}

/// One line, or each failure and where all of it is.
struct Terse {
    cache_dir: PathBuf,
}

impl AnswerFormat for Terse {
    fn progress(&self) -> ProgressLevel {
        ProgressLevel::Alive
    }

    fn prints_tests(&self) -> bool {
        true
    }

    fn answered(&self, conclusion: &Conclusion<'_>) -> Result<(), Stop> {
        let Conclusion { answer, asked, elapsed, now, .. } = conclusion;
        if !conclusion.is_green() {
            for line in red_lines(answer, *elapsed, *now) {
                output::line(line)?;
            }
            return log_line(failure_log::keep_failures(&self.cache_dir, answer));
        }
        match conclusion.is_quiet {
            true => Ok(()),
            false => output::line(green_line(answer, asked.for_what, *elapsed, *now)),
        }
    }

    fn unanswered(&self, why: &NoAnswer<'_>) -> Result<(), Stop> {
        if why.build_errors.is_empty() {
            return Ok(());
        }
        for line in error_lines(why.build_errors) {
            output::line(line)?;
        }
        log_line(failure_log::keep(&self.cache_dir, why.build_errors))
    }
}

/// The last line of a terse red answer.
fn log_line(kept: io::Result<PathBuf>) -> Result<(), Stop> {
    match kept {
        Ok(path) => output::line(format_args!("log: {}", path.display())),
        Err(error) => {
            output::line(format_args!("log: not kept: {error}; `--format text` shows all"))
        }
    }
}

/// Workflow commands, and a table for the job's summary.
struct Github {
    cwd: PathBuf,
    /// The repository's root.
    repository: Option<PathBuf>,
    /// The file of the job's summary.
    summary: Option<PathBuf>,
}

impl Github {
    fn of(context: &Context) -> Self {
        let path = |name| {
            let value = context.environment.get(name).filter(|value| !value.is_empty());
            value.map(PathBuf::from)
        };
        Self {
            cwd: context.cwd.clone(),
            repository: path("GITHUB_WORKSPACE").and_then(|path| path.canonicalize().ok()),
            summary: path("GITHUB_STEP_SUMMARY"),
        }
    }

    fn checkout<'a>(&self, root: &'a Path) -> Checkout<'a> {
        Checkout { root, repository: self.repository.clone() }
    }

    fn summarize(&self, text: &str) {
        let Some(file) = &self.summary else { return };
        let appended = std::fs::OpenOptions::new().append(true).create(true).open(file);
        if let Err(error) = appended.and_then(|mut file| file.write_all(text.as_bytes())) {
            let text = format!("not written to {}: {error}", file.display());
            output::note(label(WARN, "Summary", text));
        }
    }
}

impl AnswerFormat for Github {
    fn progress(&self) -> ProgressLevel {
        ProgressLevel::Results
    }

    fn answered(&self, conclusion: &Conclusion<'_>) -> Result<(), Stop> {
        let Conclusion { answer, asked, root, elapsed, now, .. } = conclusion;
        self.summarize(&summary_table(answer, asked, *elapsed, *now));
        for line in groups(answer).into_iter().chain(annotations(answer, &self.checkout(root))) {
            output::line(line)?;
        }
        conclusion.note();
        Ok(())
    }

    fn unanswered(&self, why: &NoAnswer<'_>) -> Result<(), Stop> {
        self.summarize(&summary_error(why.message));
        output::note_text(why.build_errors);
        let checkout = self.checkout(why.root.unwrap_or(&self.cwd));
        for line in error_annotations(why.message, why.build_errors, &checkout) {
            output::line(line)?;
        }
        Ok(())
    }
}

/// A JUnit report.
struct Junit {
    /// Its file; none for standard output.
    file: Option<PathBuf>,
}

impl Junit {
    fn write<E: std::fmt::Display>(&self, report: Result<String, E>) -> Result<(), Stop> {
        let report = report.map_err(|error| Stop::new(Exit::Failure, error))?;
        match &self.file {
            Some(file) => write("the report", file, &report),
            None => output::bytes(report.as_bytes()),
        }
    }
}

impl AnswerFormat for Junit {
    fn names_tests(&self) -> bool {
        true
    }

    fn answered(&self, conclusion: &Conclusion<'_>) -> Result<(), Stop> {
        self.write(answer_report(conclusion.answer, conclusion.elapsed))?;
        if self.file.is_none() {
            conclusion.note();
        }
        Ok(())
    }

    fn unanswered(&self, why: &NoAnswer<'_>) -> Result<(), Stop> {
        if self.file.is_none() {
            output::note_text(why.build_errors);
        }
        self.write(error_report(why.message, why.build_errors, why.elapsed))
    }
}

/// Writes a file that was asked for.
fn write(what: &str, file: &Path, text: &str) -> Result<(), Stop> {
    std::fs::write(file, text).map_err(|error| {
        let text = format!("{what} cannot be written to {}: {error}", file.display());
        Stop::new(Exit::Failure, text)
    })
}

/// A statement for other programs to sign.
struct Attestation {
    file: PathBuf,
}

impl Attestation {
    /// Removes the statement of an earlier question: whatever ends this one, it does not stay.
    fn begun(file: PathBuf) -> Result<Self, Stop> {
        match std::fs::remove_file(&file) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                let text =
                    format!("the statement in {} cannot be replaced: {error}", file.display());
                Err(Stop::error(Exit::Failure, text))
            }
            _ => Ok(Self { file }),
        }
    }
}

impl AnswerFormat for Attestation {
    fn names_tests(&self) -> bool {
        true
    }

    fn answered(&self, conclusion: &Conclusion<'_>) -> Result<(), Stop> {
        match statement(conclusion.answer, &conclusion.asked) {
            Ok(statement) => write("the statement", &self.file, &format!("{statement}\n")),
            Err(why) => Err(Stop::new(Exit::Failure, format!("no statement was written: {why}"))),
        }
    }

    fn unanswered(&self, _: &NoAnswer<'_>) -> Result<(), Stop> {
        Ok(())
    }
}
