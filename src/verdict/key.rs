//! From a snapshot, an identity and a selection to the key of a record.

use std::os::unix::ffi::OsStrExt as _;

use super::facts::Question;
use super::patterns::VariableRules;
use crate::cache::{RecordKey, RecordLevel};
use crate::config::Settings;
use crate::model::{Digest, Digester};
use crate::workspace::Identity;

/// The rules by which source-level keys are made and their records judged. Raise it with every
/// change of either: an old record then is a miss.
const SOURCE_VERSION: u32 = 3;

/// The digest of the code: the files, and what decides how they are built. The same for the same
/// content in any checkout and on any machine with the same toolchain.
#[must_use]
pub(crate) fn code_hash(tree: &Digest, identity: &Identity) -> Digest {
    let mut digester = Digester::new("code hash 1");
    digester.digest(tree).digest(&identity.build_digest());
    digester.finish()
}

/// The key at the source level: the code, what of it is asked, by which runner, and everything
/// else that the tests could see.
pub(super) fn source_key(
    code_hash: &Digest,
    question: &Question,
    identity: &Identity,
) -> RecordKey {
    let Question { root, selection, settings, environment, .. } = question;
    let mut digester = Digester::new("source key 3");
    digester
        .digest(code_hash)
        .field(&selection.canonical(root))
        .field(settings.runner.as_str().as_bytes())
        .digest(&settings_of_tree(settings))
        .digest(&identity.run_digest());
    let rules = VariableRules::of(settings);
    for (name, value) in environment.iter().filter(|(name, _)| rules.adds(name)) {
        digester.field(name.as_bytes()).field(value.as_bytes());
    }
    RecordKey { level: RecordLevel::Source, version: SOURCE_VERSION, digest: digester.finish() }
}

/// The settings that decide which files a tree's digest is of, and which variables count: without
/// one of them, an equal digest may be that of other files.
pub(super) fn settings_of_tree(settings: &Settings) -> Digest {
    let mut digester = Digester::new("settings of a tree 2");
    let Settings { exclude, extra_inputs, ignore_env, extra_env, .. } = settings;
    for globs in [exclude, extra_inputs, ignore_env, extra_env] {
        digester.number(globs.len() as u64);
        for glob in globs {
            digester.field(glob.as_bytes());
        }
    }
    digester.finish()
}
