//! The workspace of the demo: three packages without dependencies on others, a fixture that a test
//! reads, a child process, doctests.

use std::fs;
use std::io;
use std::path::Path;

/// The library whose code the demo edits.
pub(super) const SHAPES: &str = "shapes/src/lib.rs";
/// The fixture that one test reads.
pub(super) const FIXTURE: &str = "report/fixtures/orders.txt";

/// The files, by their paths.
const FILES: [(&str, &str); 11] = [
    ("Cargo.toml", "[workspace]\nmembers = [\"shapes\", \"report\", \"tool\"]\nresolver = \"2\"\n"),
    (".gitignore", "/target\n"),
    ("shapes/Cargo.toml", "[package]\nname = \"shapes\"\nversion = \"0.1.0\"\nedition = \"2021\"\n"),
    (
        SHAPES,
        "//! Areas.

/// The area of a rectangle.
///
/// ```
/// assert_eq!(shapes::area(2, 3), 6);
/// ```
pub fn area(width: u32, height: u32) -> u32 {
    // The product of both sides.
    width * height
}

#[cfg(test)]
mod tests {
    use super::area;

    #[test]
    fn a_square() {
        assert_eq!(area(4, 4), 16, \"the area of a square\");
    }

    #[test]
    fn nothing() {
        assert_eq!(area(0, 9), 0);
    }
}
",
    ),
    ("report/Cargo.toml", "[package]\nname = \"report\"\nversion = \"0.1.0\"\nedition = \"2021\"\n"),
    (
        "report/src/lib.rs",
        "//! Sums of orders.

/// The sum of all numbers; other lines are remarks.
///
/// ```
/// assert_eq!(report::total(\"1\\n# two\\n3\"), 4);
/// ```
pub fn total(orders: &str) -> u32 {
    orders.lines().filter_map(|line| line.trim().parse::<u32>().ok()).sum()
}

#[cfg(test)]
mod tests {
    #[test]
    fn remarks_do_not_count() {
        assert_eq!(super::total(\"# 5\\n6\"), 6);
    }
}
",
    ),
    (FIXTURE, "# orders\n20\n22\n"),
    (
        "report/tests/orders.rs",
        "#[test]
fn the_orders_of_the_fixture() {
    // Real tests take their time, too.
    std::thread::sleep(std::time::Duration::from_secs(1));
    let orders = std::fs::read_to_string(\"fixtures/orders.txt\").unwrap();
    assert_eq!(report::total(&orders), 42);
}
",
    ),
    (
        "tool/Cargo.toml",
        "[package]\nname = \"tool\"\nversion = \"0.1.0\"\nedition = \"2021\"\n[dependencies]\nshapes = { path = \"../shapes\" }\n",
    ),
    (
        "tool/src/main.rs",
        "fn main() {
    let sides: Vec<u32> = std::env::args().skip(1).filter_map(|side| side.parse().ok()).collect();
    println!(\"{}\", shapes::area(sides[0], sides[1]));
}
",
    ),
    (
        "tool/tests/output.rs",
        "#[test]
fn it_prints_the_area() {
    let tool = std::process::Command::new(env!(\"CARGO_BIN_EXE_tool\")).args([\"5\", \"6\"]).output();
    assert_eq!(String::from_utf8(tool.unwrap().stdout).unwrap(), \"30\\n\");
}
",
    ),
];

/// Writes the workspace.
pub(super) fn write(root: &Path) -> io::Result<()> {
    for (path, text) in FILES {
        let path = root.join(path);
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder)?;
        }
        fs::write(path, text)?;
    }
    Ok(())
}

/// Replaces the one place of `from` in a file.
pub(super) fn edit(file: &Path, from: &str, to: &str) -> io::Result<()> {
    let text = fs::read_to_string(file)?;
    fs::write(file, text.replacen(from, to, 1))
}
