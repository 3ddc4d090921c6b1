//! What is loaded of a program, by the cache's memo of it while the system says the same of the
//! program.

use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use crate::cache::{Cache, Input, InputState};
use crate::model::{Digest, Digester};
use crate::verdict::fingerprint::{Aspect, Fingerprints, digest_of_stamp};
use crate::workspace::PathStamp;

/// A program that cargo built.
#[derive(Clone, Debug)]
pub(super) struct BuiltProgram {
    /// Without symlinks, as the observer tells it.
    pub(super) path: PathBuf,
    /// As it was before it was digested.
    pub(super) stamp: PathStamp,
    /// What is loaded of it, whatever the letters of the workspace's root.
    pub(super) state: InputState,
}

impl BuiltProgram {
    pub(super) fn of(
        path: &Path,
        root: &Path,
        fingerprints: &mut Fingerprints,
    ) -> Result<Self, String> {
        let cannot = |error: std::io::Error| format!("`{}`: {error}", path.display());
        let path = path.canonicalize().map_err(cannot)?;
        let stamp = PathStamp::of(&path);
        let Input { state, .. } = fingerprints.read(root, &path, Aspect::Program)?;
        Ok(Self { path, stamp, state })
    }

    /// The program as it is, by the cache's memo if that still holds.
    ///
    /// # Errors
    /// If the program cannot be read.
    pub(super) fn known(
        program: &Path,
        root: &Path,
        fingerprints: &mut Fingerprints,
        cache: &Cache,
    ) -> Result<Self, String> {
        let error = |error: std::io::Error| format!("`{}`: {error}", program.display());
        let program = program.canonicalize().map_err(error)?;
        let stamp = PathStamp::of(&program);
        let proof = proof(&stamp, root);
        if let Some(state) = cache.program_digest(&program, &proof) {
            let state = InputState::Program(state);
            fingerprints.learn(root, &program, Aspect::Program, stamp, state);
            return Ok(Self { path: program, stamp, state });
        }
        let before = SystemTime::now();
        let found = Self::of(&program, root, fingerprints)?;
        if let InputState::Program(state) = &found.state
            && found.stamp == stamp
            && stamp.is_settled(before)
        {
            cache.store_program_digest(&program, &proof, state);
        }
        Ok(found)
    }
}

/// Under which proof the memo is kept of what is loaded of a program with this stamp.
fn proof(stamp: &PathStamp, root: &Path) -> Digest {
    let mut digester = Digester::new("program of a checkout 1");
    digester.digest(&digest_of_stamp(stamp)).field(root.as_os_str().as_bytes());
    digester.finish()
}

/// Sees to it that the cache knows what is loaded of this program of the workspace at `root`, so that no
/// answer has to read all of it. A program that cannot be read, or was made only just now, is left to the answer.
pub(crate) fn store_program_digest(file: &Path, root: &Path, cache: &Cache) {
    let mut fingerprints = Fingerprints::default();
    if let Err(error) = BuiltProgram::known(file, root, &mut fingerprints, cache) {
        tracing::debug!(%error, "a program is not looked at ahead");
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn what_was_looked_at_ahead_is_not_read_again_until_it_is_another() {
        let dir = tempfile::tempdir().unwrap();
        let cache = Cache::open(dir.path().join("cache"));
        let file = dir.path().canonicalize().unwrap().join("program");
        let root = dir.path();
        let proof = || proof(&PathStamp::of(&file), root);
        store_program_digest(&file, root, &cache);
        std::fs::write(&file, "one").unwrap();
        store_program_digest(&file, root, &cache);
        assert_eq!(cache.program_digest(&file, &proof()), None, "it can change unseen");
        let settled = || PathStamp::of(&file).is_settled(SystemTime::now());
        while !settled() {
            std::thread::park_timeout(Duration::from_millis(5));
        }
        store_program_digest(&file, root, &cache);
        let one = cache.program_digest(&file, &proof()).unwrap();
        let found = BuiltProgram::known(&file, root, &mut Fingerprints::default(), &cache).unwrap();
        assert_eq!(found.state, InputState::Program(one));
        assert_eq!(
            found.state,
            BuiltProgram::of(&file, root, &mut Fingerprints::default()).unwrap().state
        );
        std::fs::write(&file, "two").unwrap();
        assert_eq!(cache.program_digest(&file, &proof()), None);
        let found = BuiltProgram::known(&file, root, &mut Fingerprints::default(), &cache).unwrap();
        assert_ne!(found.state, InputState::Program(one));
    }
}
