//! Whether what build scripts and macros read unseen is the same where cargo would run them again.
//!
//! Cargo does not know what they read. In one checkout it does not run them again until something is touched
//! at which it looks, so that their results are those of then; in another one it runs them for the first time.
//! Where they would run, a record answers only if each of its scripts was run once more, observed, and would
//! consult the same.

use std::ffi::OsString;
use std::path::Path;

use super::checkout::is_found_elsewhere;
use super::environment::AskedEnvironment;
use super::facts::Question;
use super::fingerprint::Fingerprints;
use super::git_question::GitQuestion;
use crate::cache::{Cache, KnownAnswer, KnownScriptRun, Record, RecordedProducts, UnseenReads};

/// Why a build in the checkout that is asked about may have read something else than the build of a
/// record; `None` if it has read the same.
pub(super) fn may_read_otherwise(
    record: &Record,
    cache: &Cache,
    question: &Question,
    fingerprints: &mut Fingerprints,
) -> Option<String> {
    let (then, root) = (&record.workspace_root, &question.root);
    let may = |reader: &str| match then == root {
        true => format!("cargo would run {reader} again, which may read other files now"),
        false => {
            format!("its record is of {}, where {reader} may have read other files", then.display())
        }
    };
    let RecordedProducts { unseen, compared, .. } = &record.products;
    let scripts = match unseen {
        UnseenReads::Nothing => return None,
        _ if then == root
            && let Some(compared) = compared
            && fingerprints.first_changed(root, compared).is_none() =>
        {
            return None;
        }
        UnseenReads::Scripts(scripts) => scripts,
        UnseenReads::Anything => return Some(may("a build script or a macro")),
    };
    let asked = AskedEnvironment::of(question);
    let mut holds = |known: KnownScriptRun| {
        known.refused.is_none() && comes_to_the_same(&known, then, question, &asked, fingerprints)
    };
    let is_same =
        scripts.iter().all(|memo| cache.memo::<KnownScriptRun>(memo).is_some_and(&mut holds));
    (!is_same).then(|| may("a build script"))
}

/// Whether a script that ran in the checkout at `then` would consult the same in the one that is asked
/// about, and come to the same.
pub(super) fn comes_to_the_same(
    known: &KnownScriptRun,
    then: &Path,
    question: &Question,
    asked: &AskedEnvironment,
    fingerprints: &mut Fingerprints,
) -> bool {
    let Question { root, environment, .. } = question;
    let now = asked.variables();
    let counts = |name: &&String| !known.harmless.contains(*name);
    let is_same = known.counted.iter().all(|(name, value)| now.get(name) == Some(value))
        && now.keys().filter(counts).all(|name| known.counted.contains_key(name));
    let answers_so = |answer: &KnownAnswer| {
        let args: Vec<OsString> = answer.args.iter().map(OsString::from).collect();
        let dir = Path::new(&answer.dir.0);
        let dir = match dir.strip_prefix(then) {
            Ok(below) => root.join(below),
            Err(_) if then == root => dir.to_owned(),
            Err(_) => return false,
        };
        let asked = GitQuestion::of(&args, &dir);
        let now = asked.and_then(|asked| asked.ask(environment).ok());
        now == Some(answer.answer)
    };
    is_same
        && is_found_elsewhere(&known.inputs, then, root, environment, fingerprints).is_none()
        && fingerprints.first_changed(root, &known.inputs).is_none()
        && known.answers.iter().all(answers_so)
}
