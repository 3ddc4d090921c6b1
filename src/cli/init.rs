//! `init`: the first minutes in one's own workspace, step by step. Each step is a command of its own,
//! is asked for first, and can be declined.

use std::io::{BufRead as _, IsTerminal as _, Write as _};

use super::args::{OutputFormat, TestArgs};
use super::cargo_runner::{RunnerRequest, config_cargo};
use super::context::Context;
use super::exit::Stop;
use super::render::{ERROR, NOTE, fit, label};
use super::{doctor, lifecycle, output, projects, test};

/// A step.
struct InitStep {
    /// The command that does the same.
    command: &'static str,
    /// What it does, as a question begins.
    what: String,
    run: fn(&Context) -> Result<(), Stop>,
    /// Without it the others make no sense.
    is_needed: bool,
}

/// Asks for each step and does it; with `yes` does all; where nobody can be asked, tells them.
pub(super) fn init(context: &Context, yes: bool) -> Result<(), Stop> {
    let root = context.workspace(None)?;
    // A config that cannot be used is said before anything is done.
    context.config()?;
    let has_manager = lifecycle::has_manager(context);
    let (service_command, service_what, service): (_, _, fn(&Context) -> _) = if has_manager {
        ("install", "Install the service for your session, and start it", |context| {
            lifecycle::install(context, &[], false, false)
        })
    } else {
        ("start", "Start the daemon (no service manager runs here)", lifecycle::start)
    };
    let step = |command, what: &str, run| InitStep {
        command,
        what: what.to_owned(),
        run,
        is_needed: false,
    };
    let steps = [
        InitStep {
            command: "add",
            what: format!("Add {} to {}", root.display(), context.paths.config_file.display()),
            run: |context| projects::add(context, None),
            is_needed: true,
        },
        step(service_command, service_what, service),
        step(
            "config cargo --write",
            "Have plain `cargo test` cached too, by a line in the workspace's .cargo/config.toml",
            |context| {
                config_cargo(context, RunnerRequest { write: true, undo: false, global: false })
            },
        ),
        step("doctor", "Check the installation", |context| {
            doctor::doctor(context, OutputFormat::Text)
        }),
        step(
            "test",
            "Ask whether the tests are green (the first answer builds everything)",
            |context| test::test(context, &TestArgs::default()),
        ),
    ];
    if !yes && !std::io::stdin().is_terminal() {
        return tell(&steps);
    }
    let mut failed = None;
    for step in &steps {
        output::note(label(
            NOTE,
            "Step",
            format!("{} (`knhk-test-cache {}`)", step.what, step.command),
        ));
        if !yes && !is_wanted() {
            if step.is_needed {
                output::note(label(NOTE, "Unchanged", "nothing was done"));
                return Ok(());
            }
            continue;
        }
        let Err(stop) = (step.run)(context) else { continue };
        if step.is_needed {
            return Err(stop);
        }
        // The other steps do not depend on it.
        if !stop.message.is_empty() {
            output::note(format_args!("{ERROR}error{ERROR:#}: {}", fit(&stop.message)));
        }
        failed.get_or_insert(stop.exit);
    }
    failed.map_or(Ok(()), |exit| Err(Stop::silent(exit)))
}

/// Where nobody answers: what `init` would do.
fn tell(steps: &[InitStep]) -> Result<(), Stop> {
    output::line("Standard input is no terminal; `knhk-test-cache init --yes` does all of this:")?;
    steps.iter().try_for_each(|step| {
        output::line(format_args!("  knhk-test-cache {:<21} # {}", step.command, step.what))
    })
}

/// Asks; no answer at all is no.
fn is_wanted() -> bool {
    let _ = write!(anstream::stderr().lock(), "{:>12} [Y/n] ", "");
    let mut answer = String::new();
    let read = std::io::stdin().lock().read_line(&mut answer);
    read.is_ok_and(|bytes| bytes > 0) && accepts(&answer)
}

fn accepts(answer: &str) -> bool {
    matches!(answer.trim().to_lowercase().as_str(), "" | "y" | "yes")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_yes_and_the_plain_return_key_accept() {
        for yes in ["\n", "y\n", "YES\n", " y "] {
            assert!(accepts(yes), "{yes:?}");
        }
        for no in ["n\n", "no\n", "what?\n", "q"] {
            assert!(!accepts(no), "{no:?}");
        }
    }
}
