//! What a question costs, end to end, against the named peers: `cargo bench --bench figures`.
//!
//! Everything is the real program in its own process, with a home and caches of its own. Both
//! sides of a ratio alternate in one run, so that neither has a quieter machine; figures are
//! medians. The last thing that is printed is a table in markdown.
//!
//! Names of parts choose: `cargo bench --bench figures -- question save idle`: also `foreground`, `alternate`, `beside`, `many`.
//!
//! - `KNHK_BENCH_RIPGREP`: a checkout of ripgrep (it is built there, and one comment in it is
//!   edited and put back). Without it, a generated workspace of eleven packages stands in.
//! - `KNHK_BENCH_WORKSPACE` and `KNHK_BENCH_FILE`: any other workspace, and a source file in it that is
//!   edited instead.
//! - `KNHK_BENCH_TREE`: a folder for the tree of 100,000 files, made if it is not there, kept.

#![allow(clippy::disallowed_methods, reason = "peers are run as a shell would run them")]

mod beside;
mod foreground;
mod idle;
mod many;
mod question;
mod save;
mod stage;
mod table;
mod workspaces;

use stage::Stage;
use table::Table;
use workspaces::Workspaces;

fn main() {
    let parts: Vec<String> = std::env::args().skip(1).filter(|a| !a.starts_with('-')).collect();
    let wanted = |part: &str| parts.is_empty() || parts.iter().any(|name| name == part);
    let stage = Stage::new();
    let workspaces = Workspaces::new(&stage);
    let mut table = Table::new(&workspaces.real_name);
    if wanted("question") {
        question::measure(&stage, &workspaces, &mut table);
    }
    if wanted("save") {
        save::measure(&stage, &workspaces, &mut table);
    }
    if wanted("idle") {
        idle::measure(&stage, &workspaces, &mut table);
    }
    if wanted("foreground") {
        foreground::measure(&stage, &workspaces, &mut table);
    }
    if wanted("alternate") {
        foreground::alternate(&stage, &workspaces, &mut table);
    }
    if wanted("beside") {
        beside::measure(&stage, &workspaces, &mut table);
    }
    if wanted("many") {
        many::measure(&stage, &mut table);
    }
    table.print();
}
