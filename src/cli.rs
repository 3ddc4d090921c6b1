//! The command line: takes it apart, calls the layers below, says what came of it.
//!
//! Standard output carries what was asked for (and nothing but JSON with `--format json`);
//! everything else goes to standard error. Every error ends in one of the statuses of [`Exit`].

mod agent;
mod args;
mod cargo_runner;
mod check;
mod complete;
mod context;
mod demo;
mod doctor;
mod exec;
mod exit;
mod explain;
mod failure_log;
mod help;
mod init;
mod interrupt;
mod lifecycle;
mod lsp;
mod maintain;
mod names;
mod output;
mod pause;
mod progress;
mod projects;
mod remote;
mod render;
mod select;
mod service;
mod stats;
mod status;
mod targets;
mod test;
mod trust;
mod watch;

pub(crate) use args::Cli;
pub use exec::run_for_cargo;
pub(crate) use exit::Exit;

use std::process::ExitCode;

use clap::{CommandFactory as _, Parser as _};

use self::args::{CliCommand, Color};
use self::context::Context;
use self::exit::Stop;
use self::render::{ERROR, fit};
use self::trust::Concerned;

/// Runs the program and gives its exit status.
#[must_use]
pub fn main() -> ExitCode {
    if let Some(completed) = complete::asked() {
        return completed.map_or_else(|stop| ended(&stop), |()| ExitCode::SUCCESS);
    }
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(said) => return parse_error(&said),
    };
    if let CliCommand::Exec { program, args } = cli.command {
        return exec::exec(&program, args);
    }
    let choice = match cli.color {
        Color::Auto => anstream::ColorChoice::Auto,
        Color::Always => anstream::ColorChoice::Always,
        Color::Never => anstream::ColorChoice::Never,
    };
    choice.write_global();
    match run(cli) {
        Ok(()) => ExitCode::from(Exit::Success.code()),
        Err(stop) => ended(&stop),
    }
}

/// Prints help, the version, or the error of a command line that cannot be parsed.
fn parse_error(said: &clap::Error) -> ExitCode {
    let printed = said.print();
    if said.use_stderr() {
        return ExitCode::from(Exit::Usage.code());
    }
    match output::written(printed) {
        Ok(()) => ExitCode::from(Exit::Success.code()),
        Err(stop) => ended(&stop),
    }
}

/// Prints the reason of a stop and gives its exit status.
fn ended(stop: &Stop) -> ExitCode {
    if !stop.message.is_empty() {
        output::note(format_args!("{ERROR}error{ERROR:#}: {}", fit(&stop.message)));
    }
    ExitCode::from(stop.exit.code())
}

fn run(cli: Cli) -> Result<(), Stop> {
    // What needs no user, no home and no folder.
    match &cli.command {
        CliCommand::Completions { shell } => return complete::script(*shell),
        CliCommand::Help { topic } => return help::help(topic.as_deref()),

        CliCommand::Man { dir } => {
            clap_mangen::generate_to(Cli::command(), dir)?;
            return Ok(());
        }
        _ => {}
    }
    // In a job of CI there may be no home: these answer all the same.
    let needs_home = !matches!(
        cli.command,
        CliCommand::Test(_)
            | CliCommand::Check(_)
            | CliCommand::Explain(_)
            | CliCommand::Select { .. }
    );
    let context = Context::new(cli.config_file.as_deref(), cli.color, needs_home)?;
    let concerned = Concerned::by(&cli.command);
    let result = run_in(&context, cli.command);
    concerned.warn(&context);
    result
}

/// Runs a command that needs folders or an environment.
fn run_in(context: &Context, command: CliCommand) -> Result<(), Stop> {
    match command {
        CliCommand::Test(args) => test::test(context, &args),
        CliCommand::Check(args) => check::check(context, &args),
        CliCommand::Watch(args) => watch::watch(context, &args),
        CliCommand::Lsp => lsp::lsp(context),
        CliCommand::Install { paths, dry_run, force } => {
            lifecycle::install(context, &paths, dry_run, force)
        }
        CliCommand::Uninstall { purge } => lifecycle::uninstall(context, purge),
        CliCommand::Start => lifecycle::start(context),
        CliCommand::Stop => lifecycle::stop(context),
        CliCommand::Restart => lifecycle::restart(context),
        CliCommand::Logs { follow, lines } => lifecycle::logs(context, follow, lines),
        CliCommand::Init { yes } => init::init(context, yes),
        CliCommand::Demo => demo::demo(context),
        CliCommand::Doctor { format } => doctor::doctor(context, format),
        CliCommand::Status { path, short: true, .. } => {
            status::short_status(context, path.as_deref())
        }
        CliCommand::Status { path, format, short: false } => {
            status::status(context, path.as_deref(), format)
        }
        CliCommand::Stats(args) => stats::stats(context, &args),
        CliCommand::Explain(args) => explain::explain(context, &args),
        CliCommand::Select { project, format } => {
            select::select(context, project.as_deref(), format)
        }
        CliCommand::Pause { duration, project } => {
            pause::pause(context, &duration, project.as_deref())
        }
        CliCommand::Resume { trust: true, project } => trust::trust(context, project.as_deref()),
        CliCommand::Resume { trust: false, project } => pause::resume(context, project.as_deref()),
        CliCommand::Rebuild { path } => status::rebuild(context, path.as_deref()),
        CliCommand::Add { path } => projects::add(context, path.as_deref()),
        CliCommand::Remove { path } => projects::remove(context, path.as_deref()),
        CliCommand::List { format } => projects::list(context, format),
        CliCommand::Config { what } => maintain::config(context, &what),
        CliCommand::Cache { what } => maintain::cache(context, what),
        CliCommand::Daemon { log_format, detached } => {
            service::daemon(context, log_format, detached)
        }
        // Done before.
        CliCommand::Completions { .. }
        | CliCommand::Help { .. }
        | CliCommand::Man { .. }
        | CliCommand::Exec { .. } => Ok(()),
    }
}
