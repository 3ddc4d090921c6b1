//! What is loaded of a program, remembered in a small file by what the system says of the program:
//! while that is the same, its hundred megabytes need not be read.

use std::io::Write as _;
use std::path::Path;
use std::time::SystemTime;

use super::super::states::{States, Way, digest_of_stamp, is_settled};
use super::key::Program;
use crate::cache::InputState;
use crate::model::{Digest, Digester};
use crate::observer::Stamp;

/// The program as it is, by the memo in `file` if that still holds. A memo that cannot be read or
/// written only makes this slower.
///
/// # Errors
/// If the program cannot be read.
pub(super) fn program(program: &Path, states: &mut States, file: &Path) -> Result<Program, String> {
    let error = |error: std::io::Error| format!("`{}`: {error}", program.display());
    let program = program.canonicalize().map_err(error)?;
    let stamp = Stamp::of(&program);
    let proof = digest_of_stamp(&stamp);
    if let Some(state) = load(file, &program, &proof) {
        let state = InputState::Program(state);
        states.learn(&program, Way::Program, stamp, state);
        return Ok(Program { path: program, stamp, state });
    }
    let before = SystemTime::now();
    let found = Program::of(&program, states)?;
    if let InputState::Program(state) = &found.state
        && found.stamp == stamp
        && is_settled(&stamp, before)
    {
        store(file, &program, &proof, state);
    }
    Ok(found)
}

/// What makes a file that was cut short or written by others none.
fn check(program: &Path, proof: &Digest, state: &Digest) -> Digest {
    use std::os::unix::ffi::OsStrExt as _;
    let mut digester = Digester::new("program memo 1");
    digester.field(program.as_os_str().as_bytes()).digest(proof).digest(state);
    digester.finish()
}

fn load(file: &Path, program: &Path, proof: &Digest) -> Option<Digest> {
    let text = std::fs::read_to_string(file).ok()?;
    let (state, sum) = text.split_once(' ')?;
    let state: Digest = state.parse().ok()?;
    (sum == check(program, proof, &state).to_string()).then_some(state)
}

fn store(file: &Path, program: &Path, proof: &Digest, state: &Digest) {
    let Some(folder) = file.parent() else { return };
    let write = || -> std::io::Result<()> {
        std::fs::create_dir_all(folder)?;
        let mut fresh = tempfile::NamedTempFile::new_in(folder)?;
        write!(fresh, "{state} {}", check(program, proof, state))?;
        fresh.persist(file).map_err(|error| error.error)?;
        Ok(())
    };
    if let Err(error) = write() {
        tracing::debug!(%error, "a program is not remembered");
    }
}
