//! What flags name outside of the workspace: no list of a compiler has it.

use std::fs;

use super::Clones;
use crate::home::{can_observe, takes_long};

#[test]
fn a_file_outside_that_flags_name_decides_what_is_built() {
    if takes_long() || !can_observe("records of packages") {
        return;
    }
    let linked = "extern \"C\" { static answer: u8; }\n\
                  #[test] fn t() { assert_eq!(&raw const answer as usize & 0xff, 42) }\n";
    let clones = Clones::of(
        &[("linked", "[lib]\ndoctest=false\n", &[("src/lib.rs", linked)])],
        &[
            (".cargo/config.toml", "build.rustflags=['-Clink-arg=@../apart/arguments']\n"),
            ("../apart/arguments", "-Wl,--defsym=answer=42\n"),
        ],
    );
    clones.prove();
    clones.ask(&clones.clone("same"), &[]).green_from("cache");
    fs::write(clones.home.base.join("apart/arguments"), "-Wl,--defsym=answer=43\n").unwrap();
    // Cargo finds all fresh that was linked with the old arguments.
    let root = &clones.home.root;
    clones.prove();
    assert_eq!(clones.home.cargo(&["test", "--offline", "--workspace"]).code, Some(0));
    // The same tree, and the same packages in another one.
    let other = clones.clone("other");
    clones.ask(&other, &[]).red();
    fs::remove_dir_all(other.join("target")).unwrap();
    fs::write(other.join("NOTES.md"), "").unwrap();
    clones.ask(&other, &[]).red();
    fs::remove_dir_all(root.join("target")).unwrap();
    clones.ask(root, &[]).red();
}
