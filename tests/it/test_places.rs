//! The places of tests in the source, against the names that a harness lists.

use std::fs;
use std::path::Path;

use knhk_test_cache::internals::model::TargetKind;
use knhk_test_cache::internals::process::{Environment, Spec, capture};
use knhk_test_cache::internals::workspace::{TestSources, target_root};

/// This program's own tests: as many as its harness lists, each where it stands.
#[test]
fn every_test_that_the_harness_lists_has_its_place() {
    let package = Path::new(env!("CARGO_MANIFEST_DIR"));
    let manifest = fs::read_to_string(package.join("Cargo.toml")).unwrap().parse().unwrap();
    let root = target_root(package, &manifest, TargetKind::Test, "it", Path::exists).unwrap();
    let places = TestSources::default().places(&root, &|file| fs::read_to_string(file).ok());

    let this = std::env::current_exe().unwrap();
    let list = Spec::new(this, package, Environment::inherited());
    let listed =
        capture(&list.args(["--list", "--format=terse"]), crate::home::LIMIT).unwrap().stdout;
    let listed = String::from_utf8(listed).unwrap();
    let names: Vec<_> = listed.lines().filter_map(|line| line.strip_suffix(": test")).collect();
    assert!(names.len() > 100, "{listed}");
    for name in names {
        let place = places.find(name).unwrap_or_else(|| panic!("{name} has no place"));
        let text = fs::read_to_string(&place.file).unwrap();
        let line = text.lines().nth(place.line - 1).unwrap();
        let function = name.rsplit("::").next().unwrap();
        assert!(line.contains(&format!("fn {function}(")), "{name}: {line}");
    }
}
