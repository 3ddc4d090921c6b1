//! Completion in shells: the scripts, and the answers to what they ask at each keystroke.

use std::ffi::OsString;
use std::io;
use std::path::Path;

use clap::CommandFactory as _;
use clap_complete::Shell;
use clap_complete::env::{self, CompleteEnv, EnvCompleter, Shells};

use super::args::Cli;
use super::exit::{Exit, Stop};
use super::output;

/// The variable with which a script asks: the shell's name.
const SHELL_VARIABLE: &str = "KNHK_TEST_CACHE_COMPLETE";

/// The command that is completed.
const COMMAND: &str = "knhk-test-cache";

const SHELLS: Shells<'static> =
    Shells(&[&Bash, &env::Elvish, &env::Fish, &env::Powershell, &env::Zsh]);

/// Prints the script of a shell.
pub(super) fn script(shell: Shell) -> Result<(), Stop> {
    let mut script = Vec::new();
    if let Some(completer) = SHELLS.completer(&shell.to_string()) {
        completer.write_registration(SHELL_VARIABLE, COMMAND, COMMAND, COMMAND, &mut script)?;
    }
    output::bytes(&script)
}

/// Answers a script; `None` if none asks.
pub(super) fn asked() -> Option<Result<(), Stop>> {
    let here = std::env::current_dir().ok();
    let completion = CompleteEnv::with_factory(Cli::command).var(SHELL_VARIABLE).shells(SHELLS);
    match completion.try_complete(std::env::args_os(), here.as_deref()) {
        Ok(false) => None,
        Ok(true) => Some(Ok(())),
        Err(error) => Some(Err(Stop::new(Exit::Failure, error))),
    }
}

/// Bash ends words at colons, which names of tests have: this script puts them together.
struct Bash;

impl EnvCompleter for Bash {
    fn name(&self) -> &'static str {
        env::Bash.name()
    }

    fn is(&self, name: &str) -> bool {
        env::Bash.is(name)
    }

    fn write_registration(
        &self,
        _: &str,
        _: &str,
        _: &str,
        _: &str,
        buffer: &mut dyn io::Write,
    ) -> io::Result<()> {
        buffer.write_all(include_bytes!("complete/knhk-test-cache.bash"))
    }

    fn write_complete(
        &self,
        command: &mut clap::Command,
        args: Vec<OsString>,
        current_dir: Option<&Path>,
        buffer: &mut dyn io::Write,
    ) -> io::Result<()> {
        env::Bash.write_complete(command, args, current_dir, buffer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_script_of_bash_asks_as_the_others_do() {
        let script = include_str!("complete/knhk-test-cache.bash");
        assert!(script.contains(&format!("{SHELL_VARIABLE}=bash {COMMAND} -- ")), "{script}");
    }
}
