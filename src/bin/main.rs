//! The command `knhk-test-cache`.

use std::process::ExitCode;

fn main() -> ExitCode {
    // Cargo may have called us as the hook of a plan, by another name: that comes before
    // everything else.
    if let Some(status) =
        knhk_test_cache::internals::compiler::record_invocation(std::env::args_os())
    {
        return ExitCode::from(u8::try_from(status).unwrap_or(1));
    }
    // Cargo may be calling us as its runner, for every test program.
    if let Some(status) = knhk_test_cache::internals::cli::run_for_cargo(std::env::args_os()) {
        return status;
    }
    knhk_test_cache::internals::cli::main()
}
