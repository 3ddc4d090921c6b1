//! Rust code for fixtures that wait until the test lets them go.

/// A build script that notes each start in `target/begun` and ends once `target/go` exists.
/// `at_start` and `while_waiting` are statements of its own.
pub(crate) fn build_script(at_start: &str, while_waiting: &str) -> String {
    let waits = waits(at_start, while_waiting);
    format!("fn main() {{\n    println!(\"cargo::rerun-if-changed=src/lib.rs\");\n{waits}}}\n")
}

/// A test of this name that does the same.
pub(crate) fn test(name: &str) -> String {
    format!("#[test] fn {name}() {{\n{}}}\n", waits("", ""))
}

fn waits(at_start: &str, while_waiting: &str) -> String {
    format!(
        "    use std::io::Write;
    {at_start}
    let begun = std::fs::File::options().create(true).append(true).open(\"target/begun\");
    begun.unwrap().write_all(b\"x\").unwrap();
    while !std::path::Path::new(\"target/go\").exists() {{
        {while_waiting}
        std::thread::sleep(std::time::Duration::from_millis(5));
    }}
"
    )
}
