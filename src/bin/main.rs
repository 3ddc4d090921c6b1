//! The command `knhk-test-cache`.

fn main() {
    // Cargo may have called us as the hook of a plan, by another name: that comes before
    // everything else.
    if let Some(status) = knhk_test_cache::compiler::record_invocation(std::env::args_os()) {
        std::process::exit(status);
    }
}
