//! Builds that only some processors can run.

use std::collections::BTreeSet;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use crate::model::Digest;
use crate::process::Environment;
use crate::workspace::Selection;

/// The name of the part that says which processor this is.
pub(super) const PROCESSOR: &str = "processor";

/// What has compilers build for a certain processor: the one at hand, or one that is named.
const FLAGS: [&str; 5] = ["=native", "target-cpu", "target-feature", "-march=", "-mcpu="];

/// Digest of what the processor can do, where a build goes by it: a variable, a word of the selection, the
/// workspace's manifest or one of these files of cargo's configuration has one of [`FLAGS`].
pub(super) fn processor<'c>(
    root: &Path,
    selection: &Selection,
    environment: &Environment,
    mut config: impl Iterator<Item = &'c Path>,
) -> Option<Digest> {
    let has =
        |text: &[u8], flag: &str| text.windows(flag.len()).any(|part| part == flag.as_bytes());
    let names_it = |text: &[u8]| FLAGS.iter().any(|flag| has(text, flag));
    let in_file = |path: &Path| std::fs::read(path).is_ok_and(|text| names_it(&text));
    let mut variables = environment.iter().map(|(_, value)| value);
    let mut words = selection.cargo.iter();
    let goes_by_it = variables.any(|value| names_it(value.as_bytes()))
        || words.any(|word| names_it(word.as_bytes()))
        || in_file(&root.join("Cargo.toml"))
        || config.any(in_file);
    goes_by_it.then(|| {
        let all = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        let is_feature = |line: &&str| line.starts_with("flags") || line.starts_with("Features");
        let features: BTreeSet<&str> = all.lines().filter(is_feature).collect();
        Digest::of(features.into_iter().collect::<Vec<_>>().join("\n").as_bytes())
    })
}

#[cfg(test)]
mod tests {
    use std::ffi::OsString;

    use super::*;

    #[test]
    fn a_build_for_a_processor_is_known_wherever_that_is_said() {
        let dir = tempfile::tempdir().unwrap();
        let (root, config) = (dir.path(), dir.path().join("config.toml"));
        let ask = |words: &[&str], flags: &str| {
            let selection = Selection::parse(root, words.iter().map(OsString::from));
            let environment = Environment::of(&[("RUSTFLAGS", flags)]);
            processor(root, &selection, &environment, [&*config].into_iter()).is_some()
        };
        assert!(!ask(&["--config", "build.rustflags=['-Lnative=lib']"], "-Lnative=x"));
        assert!(ask(&["--config", "build.rustflags=['-Ctarget-cpu=native']"], ""));
        for flags in ["-C target-cpu=native", "-Ctarget-cpu=x86-64-v3", "-C target-feature=+avx2"] {
            assert!(ask(&[], flags), "{flags}");
        }
        for file in [&root.join("Cargo.toml"), &config] {
            std::fs::write(file, "rustflags=['-Ctarget-cpu=native']").unwrap();
            assert!(ask(&[], ""), "{}", file.display());
            std::fs::remove_file(file).unwrap();
        }
    }
}
