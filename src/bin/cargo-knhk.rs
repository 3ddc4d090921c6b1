//! The command `cargo knhk`: the same as `knhk-test-cache`, which lies beside it.

use std::ffi::OsString;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

/// The status of a shell for a program that is not there.
const NOT_FOUND: u8 = 127;

#[expect(clippy::disallowed_methods, reason = "this process becomes the program")]
fn main() -> ExitCode {
    // Cargo says the name of the subcommand first.
    let args = std::env::args_os().skip(1).enumerate();
    let args = args.filter(|(at, word)| *at > 0 || word != "knhk").map(|(_, word)| word);
    let beside = std::env::current_exe().map(|own| own.with_file_name("knhk-test-cache"));
    let program = beside.ok().filter(|program| program.is_file());
    let program = program.unwrap_or_else(|| PathBuf::from("knhk-test-cache"));
    let mut command = Command::new(&program);
    command.args(args);
    as_the_shell_has_it(&mut command);
    let error = command.exec();
    eprintln!("cargo knhk: cannot run `{}`: {error}", program.display());
    ExitCode::from(NOT_FOUND)
}

/// Takes back what cargo and rustup set for a subcommand: the shell's environment decides what is
/// built, and the folder which toolchain builds it.
fn as_the_shell_has_it(command: &mut Command) {
    let cargo = std::env::var_os("CARGO").map(PathBuf::from);
    for name in ["CARGO", "RUST_RECURSION_COUNT", "RUSTUP_TOOLCHAIN_SOURCE"] {
        command.env_remove(name);
    }
    let source = std::env::var_os("RUSTUP_TOOLCHAIN_SOURCE");
    if source.is_some_and(|source| source != "env") {
        command.env_remove("RUSTUP_TOOLCHAIN");
    }
    let Some(libraries) = std::env::var_os("LD_LIBRARY_PATH") else { return };
    let of_toolchain = cargo.as_deref().and_then(Path::parent).and_then(Path::parent);
    let of_toolchain = of_toolchain.map(|top| top.join("lib"));
    let rest: Vec<_> = std::env::split_paths(&libraries)
        .skip_while(|folder| Some(folder.as_path()) == of_toolchain.as_deref())
        .collect();
    match std::env::join_paths(rest).unwrap_or(libraries) {
        rest if rest == OsString::new() => command.env_remove("LD_LIBRARY_PATH"),
        rest => command.env("LD_LIBRARY_PATH", rest),
    };
}
