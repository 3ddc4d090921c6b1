//! From a snapshot, an identity and a selection to the key of a record.

use std::path::Path;

use crate::cache::{RecordKey, RecordLevel};
use crate::model::{Digest, Digester};
use crate::workspace::{Identity, Selection};

/// The rules by which source-level keys are made and their records judged. Raise it with every
/// change of either: an old record then is a miss.
const SOURCE_VERSION: u32 = 2;

/// The digest of the code: the files, and what decides how they are built. The same for the same
/// content in any checkout and on any machine with the same toolchain.
#[must_use]
pub fn code_hash(tree: &Digest, identity: &Identity) -> Digest {
    let mut digester = Digester::new("code hash 1");
    digester.digest(tree).digest(&identity.build_digest());
    digester.finish()
}

/// The key at the source level: the code, what of it is asked, by which runner, and everything
/// else that the tests could see.
#[must_use]
pub fn source_key(
    code_hash: &Digest,
    root: &Path,
    selection: &Selection,
    runner: &str,
    identity: &Identity,
) -> RecordKey {
    let mut digester = Digester::new("source key 1");
    digester
        .digest(code_hash)
        .field(&selection.canonical(root))
        .field(runner.as_bytes())
        .digest(&identity.run_digest());
    RecordKey { level: RecordLevel::Source, version: SOURCE_VERSION, digest: digester.finish() }
}
