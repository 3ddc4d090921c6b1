//! Why a build failed.

use std::path::PathBuf;

use super::progress::without_escapes;
use crate::model::End;
use crate::process::SpawnError;
use crate::workspace::{CargoConfigError, ToolchainError};

/// Why there are no test binaries, or no plan.
#[derive(Debug, thiserror::Error)]
pub enum CompileError {
    /// The code does not compile, or a build script failed.
    #[error("the build failed with {count} error{}", if *count == 1 { "" } else { "s" })]
    Failed {
        /// How many errors the compiler reported; 1 if it was a build script or the linker.
        count: usize,
        /// Every error once, rendered as the compiler does.
        errors: Vec<String>,
        /// Cargo's own text.
        text: String,
        /// Cargo's exit status.
        status: i32,
    },
    /// A manifest or the lock file is missing, broken or contradicts another.
    #[error("cargo cannot load the workspace: {}", first_line(text))]
    Manifest {
        /// Cargo's text, in full.
        text: String,
        /// Cargo's exit status.
        status: i32,
    },
    /// The toolchain is not installed.
    #[error("{}", first_line(text))]
    ToolchainMissing {
        /// Rustup's text, in full.
        text: String,
        /// Its exit status.
        status: i32,
    },
    /// Cargo refused the call: an unknown argument, no such package, a network that is away.
    #[error("cargo refused: {}", first_line(text))]
    Refused {
        /// Cargo's text, in full.
        text: String,
        /// Cargo's exit status.
        status: i32,
    },
    /// Someone or something newer ended the build.
    #[error("the build was cancelled")]
    Cancelled,
    /// Cargo itself was ended by a signal.
    #[error("cargo ended by {end}: {}", first_line(text))]
    Ended {
        /// How.
        end: End,
        /// Its text until then.
        text: String,
    },
    /// Cargo cannot be started.
    #[error(transparent)]
    Spawn(#[from] SpawnError),
    /// Cargo's configuration contradicts itself.
    #[error(transparent)]
    Config(#[from] CargoConfigError),
    /// Rustc was asked and did not answer.
    #[error(transparent)]
    Toolchain(#[from] ToolchainError),
    /// The folder for the hook cannot be made or read.
    #[error("cannot {what} `{}`: {source}", path.display())]
    Hook {
        /// The failed operation.
        what: &'static str,
        /// On which path.
        path: PathBuf,
        /// The system's error.
        source: std::io::Error,
    },
    /// Cargo's answer does not make sense to us: better no plan than a wrong one.
    #[error("cargo's answer is not understood: {0}")]
    BadOutput(String),
}

impl CompileError {
    /// All that a person needs to see, in the compiler's and cargo's own words.
    #[must_use]
    pub fn rendered(&self) -> String {
        match self {
            Self::Failed { errors, text, .. } => {
                let mut all = errors.concat();
                all.push_str(text);
                all
            }
            Self::Manifest { text, .. }
            | Self::ToolchainMissing { text, .. }
            | Self::Refused { text, .. } => text.clone(),
            Self::Ended { text, .. } => format!("{text}error: {self}\n"),
            other => format!("error: {other}\n"),
        }
    }
}

/// The error for a call of cargo that did not succeed.
pub(super) fn classify(end: End, errors: Vec<String>, text: String) -> CompileError {
    let status = match end {
        End::Cancelled => return CompileError::Cancelled,
        End::Exit(status) => status,
        end => return CompileError::Ended { end, text },
    };
    let plain = without_escapes(&text);
    let says = |parts: &[&str]| parts.iter().any(|part| plain.contains(part));
    let build = ["could not compile", "failed to run custom build command", "failed to link"];
    if !errors.is_empty() || says(&build) {
        return CompileError::Failed { count: errors.len().max(1), errors, text, status };
    }
    if plain.contains("toolchain") && says(&["is not installed", "is not installable"]) {
        return CompileError::ToolchainMissing { text, status };
    }
    let manifest = [
        "failed to load manifest",
        "failed to parse manifest",
        "failed to read `",
        "failed to parse lock file",
        "could not find `Cargo.toml`",
        "couldn't read `",
        "Cargo.toml:",
        "manifest path `",
        "believes it's in a workspace when it's not",
        "no targets specified in the manifest",
    ];
    if says(&manifest) {
        return CompileError::Manifest { text, status };
    }
    CompileError::Refused { text, status }
}

/// Cargo's text without the compiler's whole command line after each crate that does not compile,
/// which it adds where it is asked to be verbose.
pub(super) fn without_command_lines(text: &str) -> String {
    let lines: Vec<&str> = text.split_inclusive('\n').collect();
    let plain: Vec<String> = lines.iter().map(|line| without_escapes(line)).collect();
    let mut kept = String::new();
    let mut at = 0;
    while at < lines.len() {
        kept.push_str(lines[at]);
        let added = plain[at].starts_with("error: could not compile")
            && plain.get(at + 1).is_some_and(|line| line.trim().is_empty())
            && plain.get(at + 2).is_some_and(|line| line.starts_with("Caused by:"))
            && plain.get(at + 3).is_some_and(|line| {
                // One that was killed is told in any case, and how.
                line.trim_start().starts_with("process didn't exit successfully: `")
                    && line.contains("` (exit status: ")
            });
        at += if added { 4 } else { 1 };
    }
    kept
}

fn first_line(text: &str) -> String {
    let plain = without_escapes(text);
    let line = plain.lines().find(|line| !line.trim().is_empty()).unwrap_or("it said nothing");
    line.trim().trim_start_matches("error: ").to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(text: &str) -> CompileError {
        classify(End::Exit(101), Vec::new(), text.to_owned())
    }

    #[test]
    fn the_compilers_command_line_is_left_out_and_nothing_else() {
        let plain = "error: could not compile `p` (lib) due to 1 previous error\n\
                     warning: build failed, waiting for other jobs to finish...\n\
                     error: could not compile `q` (lib)\n\nCaused by:\n  process didn't exit \
                     successfully: `/rustc q` (signal: 9, SIGKILL: kill)\n\
                     error: failed to run custom build command for `b`\n\nCaused by:\n  process \
                     didn't exit successfully: `/build` (exit status: 1)\n  --- stderr\n  boom\n";
        let more =
            "\nCaused by:\n  process didn't exit successfully: `/rustc p` (exit status: 1)\n";
        let first = plain.lines().next().unwrap();
        let verbose = plain.replacen(&format!("{first}\n"), &format!("{first}\n{more}"), 1);
        assert_eq!(without_command_lines(&verbose), plain);
        assert_eq!(without_command_lines(plain), plain);
        assert_eq!(without_command_lines(first), first);
    }

    #[test]
    fn each_kind_is_recognised_by_cargos_words() {
        assert!(matches!(
            of("error: \u{1b}[1munexpected character\n --> a/Cargo.toml:3:9\n"),
            CompileError::Manifest { .. }
        ));
        assert!(matches!(
            of("error: toolchain '1.70' is not installed"),
            CompileError::ToolchainMissing { status: 101, .. }
        ));
        assert!(matches!(
            of("error: package ID specification `x` did not match any packages"),
            CompileError::Refused { .. }
        ));
        let script = of("error: failed to run custom build command for `a`\n--- stderr\nboom");
        assert!(matches!(&script, CompileError::Failed { count: 1, .. }));
        assert!(script.rendered().contains("boom"));
        let two = classify(End::Exit(101), vec!["e1\n".into(), "e2\n".into()], "t".into());
        assert_eq!(
            (two.to_string(), two.rendered()),
            ("the build failed with 2 errors".to_owned(), "e1\ne2\nt".to_owned())
        );
        assert!(matches!(classify(End::Cancelled, vec![], String::new()), CompileError::Cancelled));
        let killed = classify(End::Signal(9), vec![], "x\n".into());
        assert_eq!(killed.to_string(), "cargo ended by signal 9: x");
    }
}
