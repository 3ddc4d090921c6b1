//! Whether a program measures coverage: then it is run for what it writes, and never answered from
//! records.

use std::io::{Read as _, Seek as _, SeekFrom};
use std::path::Path;

use crate::process::Environment;

/// Variables by which tools say where measurements go.
const VARIABLES: [&str; 3] = ["LLVM_PROFILE_FILE", "GCOV_PREFIX", "CARGO_LLVM_COV"];
/// Variables with flags of the compiler.
const FLAGS: [&str; 4] =
    ["RUSTFLAGS", "CARGO_ENCODED_RUSTFLAGS", "RUSTDOCFLAGS", "CARGO_BUILD_RUSTFLAGS"];
/// Flags that have a program write measurements.
const MEASURING: [&str; 3] = ["instrument-coverage", "profile-generate", "-Zprofile"];
/// The name of the section with an instrumented program's counters.
const SECTION: &[u8] = b"__llvm_prf_cnts";
/// The names of sections stand within so many bytes from a program's end.
const TAIL: u64 = 1 << 16;

/// Whether this environment, or the program itself, has it measure coverage.
pub(super) fn is_measured(environment: &Environment, program: &Path) -> bool {
    let has_flag = |name: &str| {
        let flags = environment.get(name).map(|flags| flags.to_string_lossy());
        flags.is_some_and(|flags| MEASURING.iter().any(|flag| flags.contains(flag)))
    };
    VARIABLES.iter().any(|name| environment.get(name).is_some())
        || FLAGS.iter().any(|name| has_flag(name))
        || has_counters(program).unwrap_or(false)
}

fn has_counters(program: &Path) -> std::io::Result<bool> {
    let mut file = std::fs::File::open(program)?;
    let length = file.metadata()?.len();
    file.seek(SeekFrom::Start(length.saturating_sub(TAIL)))?;
    let mut tail = Vec::new();
    file.take(TAIL).read_to_end(&mut tail)?;
    Ok(tail.windows(SECTION.len()).any(|name| name == SECTION))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn coverage_is_told_by_variables_flags_and_the_program() {
        let dir = tempfile::tempdir().unwrap();
        let program = dir.path().join("p");
        std::fs::write(&program, "plain").unwrap();
        let is = |name, value| is_measured(&Environment::of(&[(name, value)]), &program);
        assert!(is("LLVM_PROFILE_FILE", "x") && is("RUSTFLAGS", "-C instrument-coverage"));
        assert!(is("CARGO_ENCODED_RUSTFLAGS", "-C\x1finstrument-coverage"));
        assert!(!is("RUSTFLAGS", "-C opt-level=1") && !is("PATH", "/llvm"));
        std::fs::write(&program, [&[0; 10][..], SECTION, &[0; 100]].concat()).unwrap();
        assert!(is("PATH", "/bin"));
    }
}
