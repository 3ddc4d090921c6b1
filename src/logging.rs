//! Where the program's own log goes, and how it looks there.
//!
//! | started by | [`Format::Auto`] writes |
//! |---|---|
//! | a person | readable text to standard error, in colour on a terminal |
//! | systemd | to the journal, with fields |
//! | launchd | readable text to a file, rotated |
//!
//! # Fields
//!
//! Events and spans name their subject by the fields in [`crate::model::field`]. In the journal each
//! is `F_` and its name in capitals, so that
//! `journalctl --user -u knhk-test-cache F_PROJECT=/home/me/x` works.
//!
//! | field | in the journal | value |
//! |---|---|---|
//! | `project` | `F_PROJECT` | the workspace root, an absolute path |
//! | `package` | `F_PACKAGE` | the package's name, of a target's run |
//! | `target` | `F_TARGET` | the test target's name; on level `debug`, since there are many |
//! | `snapshot` | `F_SNAPSHOT` | the code hash, 64 hexadecimal digits |
//! | `duration` | `F_DURATION` | milliseconds, a whole number |
//! | `outcome` | `F_OUTCOME` | a word of [`crate::model::LogOutcome`]: `pass`, `fail`, `error` or `cancelled` |
//!
//! Values are recorded as text or with `%`, never with `?`, whose quotes would be part of the value.
//!
//! Priorities are the journal's own: an error is 3, a warning 4, information 6 and the rest 7.

mod journal;
mod rotate;

use std::io::{self, IsTerminal as _};
use std::path::{Path, PathBuf};

use tracing_subscriber::Layer as _;
use tracing_subscriber::filter::{EnvFilter, ParseError};
use tracing_subscriber::fmt::layer;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::registry::Registry;
use tracing_subscriber::util::SubscriberInitExt as _;

pub(crate) use rotate::RotatingFile;

/// How the log looks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Format {
    /// What fits where it goes.
    #[default]
    Auto,
    /// Readable text on standard error.
    Text,
    /// An object a line on standard error.
    Json,
}

/// Where the log goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Destination {
    /// The journal, with fields.
    Journal,
    /// Standard error, as text; in colour or not.
    Text {
        /// Whether there is colour.
        colour: bool,
    },
    /// Standard error, as JSON.
    Json,
    /// A file that is rotated.
    File(PathBuf),
}

/// Why there is no log.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LogError {
    /// The filter makes no sense.
    #[error("read the log filter `{filter}`: {source}; write a level (`info`) or `target=level,…`")]
    Filter {
        /// The filter as it was given.
        filter: String,
        /// What is wrong.
        source: ParseError,
    },
    /// The file cannot be written.
    #[error("write the log `{}`: {source}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Another log was set up before.
    #[error("set up the log: this process has one already")]
    Twice,
}

/// Sets up the process's log. `filter` is a level or what `tracing` calls directives; `file` is where
/// it goes under launchd ([`Format::Auto`] only), which keeps no log of its own.
///
/// # Errors
/// See [`LogError`]. A journal that cannot be reached is none: text goes to standard error then.
pub(crate) fn init(
    format: Format,
    filter: &str,
    file: Option<&Path>,
) -> Result<Destination, LogError> {
    let destination = choose(format, journal::is_standard_error(), file);
    let filter = EnvFilter::try_new(filter)
        .map_err(|source| LogError::Filter { filter: filter.to_owned(), source })?;
    let (destination, layer) = open(destination)?;
    let log = tracing_subscriber::registry().with(layer.with_filter(filter));
    log.try_init().map_err(|_| LogError::Twice)?;
    Ok(destination)
}

/// Decides where the log goes.
fn choose(format: Format, journal: bool, file: Option<&Path>) -> Destination {
    match (format, file) {
        (Format::Json, _) => Destination::Json,
        (Format::Auto, _) if journal => Destination::Journal,
        (Format::Auto, Some(file)) => Destination::File(file.to_owned()),
        _ => Destination::Text { colour: colour() },
    }
}

/// Whether a person with a colour terminal reads along (<https://no-color.org>).
fn colour() -> bool {
    let set = |name: &str| std::env::var_os(name).is_some_and(|value| !value.is_empty());
    io::stderr().is_terminal()
        && !set("NO_COLOR")
        && std::env::var_os("TERM").is_none_or(|t| t != "dumb")
}

type BoxedLayer = Box<dyn tracing_subscriber::Layer<Registry> + Send + Sync>;

/// Opens the destination; the journal falls back to text.
fn open(destination: Destination) -> Result<(Destination, BoxedLayer), LogError> {
    let text = |colour| layer().with_writer(io::stderr).with_ansi(colour).with_target(false);
    Ok(match destination {
        Destination::Journal => match journal::layer() {
            Ok(layer) => (Destination::Journal, layer.boxed()),
            // Standard error is a journal stream all the same: it stamps each line itself.
            Err(_) => (Destination::Text { colour: false }, text(false).without_time().boxed()),
        },
        Destination::Text { colour } => (Destination::Text { colour }, text(colour).boxed()),
        Destination::Json => (Destination::Json, layer().json().with_writer(io::stderr).boxed()),
        Destination::File(path) => {
            let file = RotatingFile::open(&path)
                .map_err(|source| LogError::File { path: path.clone(), source })?;
            let layer = layer().with_writer(std::sync::Mutex::new(file)).with_ansi(false);
            (Destination::File(path), layer.with_target(false).boxed())
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_log_goes_where_it_is_read() {
        let file = Some(Path::new("/l"));
        let text = Destination::Text { colour: colour() };
        assert_eq!(choose(Format::Auto, true, None), Destination::Journal);
        assert_eq!(choose(Format::Auto, true, file), Destination::Journal);
        assert_eq!(choose(Format::Auto, false, file), Destination::File("/l".into()));
        assert_eq!(choose(Format::Auto, false, None), text);
        assert_eq!(choose(Format::Text, true, file), text);
        assert_eq!(choose(Format::Json, true, file), Destination::Json);
    }

    #[test]
    fn a_filter_that_makes_no_sense_is_named() {
        let error = init(Format::Text, "knhk=loud", None).unwrap_err();
        assert!(error.to_string().contains("`knhk=loud`"), "{error}");
    }

    #[test]
    fn a_file_gets_readable_lines() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("logs/x.log");
        let (_, layer) = open(Destination::File(path.clone())).unwrap();
        let log = tracing_subscriber::registry().with(layer);
        tracing::subscriber::with_default(log, || {
            tracing::info!(project = %Path::new("/p").display(), duration = 3, "built");
        });
        let text = std::fs::read_to_string(path).unwrap();
        assert!(text.contains("INFO built project=/p duration=3"), "{text}");
        assert!(!text.contains('\u{1b}'));
    }
}
