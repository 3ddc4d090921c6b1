//! The command `knhk-test-cache`.

fn main() {}
