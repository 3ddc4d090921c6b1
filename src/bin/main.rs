//! The command `knhk-test-cache`.

use std::process::ExitCode;

fn main() -> ExitCode {
    // Cargo may be calling us in place of a test binary, to learn what it would run.
    if let Some(status) = knhk_test_cache::compiler::record_invocation(std::env::args_os()) {
        return ExitCode::from(u8::try_from(status).unwrap_or(1));
    }
    knhk_test_cache::cli::main()
}
