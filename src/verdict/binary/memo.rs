//! What is loaded of a program, by the cache's memo of it while the system says the same of the
//! program.

use std::path::Path;
use std::time::SystemTime;

use super::super::states::{States, Way, digest_of_stamp, is_settled};
use super::key::Program;
use crate::cache::{Cache, InputState};
use crate::observer::Stamp;

/// The program as it is, by the cache's memo if that still holds.
///
/// # Errors
/// If the program cannot be read.
pub(super) fn program(
    program: &Path,
    states: &mut States,
    cache: &Cache,
) -> Result<Program, String> {
    let error = |error: std::io::Error| format!("`{}`: {error}", program.display());
    let program = program.canonicalize().map_err(error)?;
    let stamp = Stamp::of(&program);
    let proof = digest_of_stamp(&stamp);
    if let Some(state) = cache.known_program(&program, &proof) {
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
        cache.remember_program(&program, &proof, state);
    }
    Ok(found)
}
