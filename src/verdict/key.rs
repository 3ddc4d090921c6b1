//! From a snapshot, an identity and a selection to the key of a record.

use std::os::unix::ffi::OsStrExt as _;

use super::environment::each_variable;
use super::facts::Question;
use super::patterns::{VariablePlace, VariableRules};
use crate::cache::{RecordKey, RecordLevel};
use crate::config::{Runner, Settings};
use crate::model::{Digest, Digester};
use crate::workspace::Identity;

/// The rules by which source-level keys are made and their records judged. Raise it with every
/// change of either: an old record then is a miss.
const SOURCE_VERSION: u32 = 5;

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
        .field(runner_name(question).as_bytes())
        .digest(&settings_of_tree(settings))
        .digest(&identity.run_digest());
    let rules = VariableRules::of(settings);
    for (name, value) in environment.iter().filter(|(name, _)| rules.adds(name)) {
        digester.field(name.as_bytes()).field(value.as_bytes());
    }
    RecordKey { level: RecordLevel::Source, version: SOURCE_VERSION, digest: digester.finish() }
}

/// Variables by which cargo finds what is its own, or builds something else, although their names do
/// not say so.
const OF_CARGO: &[&str] = &["HOME"];
/// How the names of others of this kind begin.
const OF_CARGO_PREFIX: &str = "__CARGO";

/// What the records of a whole in all environments have in common: all that is in [`source_key`] but
/// the variables that count only if something can name them; and the checkout, since its products
/// count.
pub(super) fn whole_digest(code_hash: &Digest, question: &Question) -> Digest {
    let Question { root, selection, settings, .. } = question;
    let mut digester = Digester::new("whole in any environment 1");
    digester
        .field(root.as_os_str().as_bytes())
        .digest(code_hash)
        .field(&selection.canonical(root))
        .field(runner_name(question).as_bytes())
        .digest(&settings_of_tree(settings))
        .number(rustix::process::geteuid().as_raw().into());
    each_variable(question, |name, value, place| {
        let is_of_cargo = OF_CARGO.iter().any(|known| name == *known)
            || name.as_bytes().starts_with(OF_CARGO_PREFIX.as_bytes());
        if place == VariablePlace::Key || (place == VariablePlace::Beside && is_of_cargo) {
            digester.field(name.as_bytes()).digest(&value);
        }
    });
    digester.finish()
}

/// The runner as far as it decides outcomes. Cargo-nextest runs the tests of all programs beside each
/// other, unless `serial` forbids it, and some tests pass only one at a time.
fn runner_name(question: &Question) -> &'static str {
    match question.settings.runner {
        Runner::Nextest if question.is_serial() => "nextest, one test at a time",
        runner => runner.as_str(),
    }
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

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::config::shipped_settings;
    use crate::process::Environment;

    #[test]
    fn a_run_one_by_one_proves_nothing_of_nextest_s_runs_side_by_side() {
        let whole = |runner, serial| {
            let settings = Settings { runner, serial, ..shipped_settings() };
            let question = Question::of_project(Path::new("/w"), Environment::default(), settings);
            whole_digest(&Digest::of(b"code"), &question)
        };
        assert_ne!(whole(Runner::Nextest, true), whole(Runner::Nextest, false));
        assert_eq!(whole(Runner::Cargo, true), whole(Runner::Cargo, false));
        let with_jobs = |jobs: &str| {
            let settings = Settings { runner: Runner::Nextest, ..shipped_settings() };
            let mut question =
                Question::of_project(Path::new("/w"), Environment::default(), settings);
            question.selection.cargo.push(jobs.into());
            whole_digest(&Digest::of(b"code"), &question)
        };
        assert_ne!(with_jobs("-j1"), with_jobs("-j2"));
    }
}
