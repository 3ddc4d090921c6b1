//! Records of other machines: asked for where none here answers, and published after a green run.
//!
//! The shared store holds nothing but records of the package level, whose keys are known before any
//! build and alike on all machines. What is found is believed for one question alone, and only after
//! everything outside of its key has been looked at here; it is not kept, so that a signer who is
//! revoked is so at once.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use super::environment::EnvironmentJudge;
use super::facts::{Facts, Question};
use super::fingerprint::Fingerprints;
use super::look_up::LookUp;
use super::package::{KeptPackages, KnownTargets, PackageLevel, SharedKey};
use super::portable::{
    AdoptedAs, Machine, PortableRecord, SIGNER, SearchedReader, SeenFiles, TemporaryFolder,
    shared_name,
};
use super::processor::PROCESSOR;
use super::script_runs::ScriptRuns;
use crate::cache::{KeyBasis, KnownAnswer, Record, WorkspacePlan};
use crate::config::SharedSettings;
use crate::model::{Digest, Digester, TargetId, Timestamp};
use crate::process::Environment;
use crate::shared::{
    BundlePlace, BundleSubject, FoundRecord, Publication, SharedError, SharedRecord, SharedStore,
    StoreFinding, StoreOptions, WantedRecords,
};

/// The folder below the records for what is remembered of the store.
const STATE_DIR: &str = "shared";

/// The folder below that one for uploads that wait.
const WAITING_DIR: &str = "waiting";

/// As much of a project's name is in its objects' paths.
const LONGEST_PROJECT_NAME: usize = 40;

/// The store that the config names, for the workspace at `root`; none if it names none.
///
/// # Errors
/// If there is no such store.
pub(crate) fn open_store(
    settings: &SharedSettings,
    root: &Path,
    cache_dir: &Path,
    environment: &Environment,
) -> Option<Result<SharedStore, SharedError>> {
    let url = settings.url.clone()?;
    Some(SharedStore::open(StoreOptions {
        url,
        read: settings.read,
        write: settings.write,
        sign_with: settings.sign_with.clone(),
        allowed_signers: settings.allowed_signers.clone(),
        trust_peers: settings.trust_peers,
        workspace_root: root.to_owned(),
        state_dir: cache_dir.join(STATE_DIR),
        environment: environment.clone(),
    }))
}

/// What the store that [`open_store`] gives is like; nothing if the config names none.
pub(crate) async fn probe_store(
    store: Option<Result<SharedStore, SharedError>>,
) -> Vec<StoreFinding> {
    match store {
        None => Vec::new(),
        Some(Ok(store)) => store.probe().await,
        Some(Err(error)) => vec![StoreFinding { is_good: false, what: error.to_string() }],
    }
}

/// The folder of the uploads that wait for the store.
pub(crate) fn waiting_uploads(cache_dir: &Path) -> PathBuf {
    cache_dir.join(STATE_DIR).join(WAITING_DIR)
}

/// Forgets what is remembered of the store: the next question asks it. Whether that is done.
pub(crate) fn forget_store(cache_dir: &Path) -> bool {
    match std::fs::remove_dir_all(cache_dir.join(STATE_DIR)) {
        Ok(()) => true,
        Err(error) => error.kind() == std::io::ErrorKind::NotFound,
    }
}

/// The signer of a record, if the record is another machine's.
pub(crate) fn signer_of(record: &Record) -> Option<&str> {
    record.identity.get(SIGNER).map(String::as_str)
}

/// A proven run, as far as it may be shared.
#[derive(Clone, Debug)]
pub(crate) struct Shareable {
    plan_digest: Digest,
    tree: Digest,
    plan: WorkspacePlan,
    /// That plan is another signer's word.
    is_plan_of_others: bool,
    kept: KeptPackages,
    /// The keys that other machines agree on.
    keys: BTreeMap<TargetId, SharedKey>,
    /// Those of targets that could be narrower.
    narrower_keys: BTreeMap<TargetId, SharedKey>,
}

impl Shareable {
    /// What a level has proven; none if it does not know what is built.
    pub(super) fn of(level: &PackageLevel<'_>, kept: KeptPackages) -> Option<Self> {
        let (plan_digest, tree) = (level.plan_digest(), level.tree());
        let plan = level.plan()?.clone();
        let keys = level.shared_keys(&plan);
        let mut narrower = plan.clone();
        for target in &mut narrower.targets {
            if let Some(scripted) = kept.scripted.get(&target.id) {
                target.basis = scripted.basis;
            }
        }
        let narrower_keys = level.shared_keys(&narrower);
        let is_plan_of_others = level.has_plan_of_others();
        Some(Self { plan_digest, tree, plan, is_plan_of_others, kept, keys, narrower_keys })
    }
}

/// What can be published of a run.
#[derive(Debug)]
pub(crate) struct Published {
    /// The records; none if no target can be shared.
    pub publication: Option<Publication>,
    /// The targets that cannot be shared, and why.
    pub kept_back: Vec<String>,
}

/// This machine, as far as it publishes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Publishing<'a> {
    /// The file that no shared run may have read.
    pub signing_key: Option<&'a Path>,
    /// Our own executable, for what is run once more.
    pub hook: &'a Path,
}

/// Runs the workspace's build scripts once more after a run, so that the record answers in other checkouts too.
/// With `longest`, only those of which cargo's own run took no longer.
pub(crate) fn remember_scripts(
    hook: &Path,
    look_up: &LookUp<'_>,
    run: &Shareable,
    longest: Option<Duration>,
) {
    let LookUp { cache, question, facts } = *look_up;
    let judge = EnvironmentJudge::of(cache, question, facts);
    ScriptRuns::of(look_up, hook, &judge, run.plan_digest).remember(&run.kept, longest);
}

/// Brings what a run has proven into the form that machines share. It is made where the run's
/// environment is at hand, after the answer: build scripts are run once more for it.
pub(crate) fn publication(
    publishing: &Publishing<'_>,
    look_up: &LookUp<'_>,
    run: &Shareable,
) -> Published {
    let LookUp { cache, question, facts } = *look_up;
    if run.is_plan_of_others {
        // A reader may trust this machine and not that signer. The plan would still be that signer's.
        let why = "all targets: another signer has said which there are, and only some were built";
        return Published { publication: None, kept_back: vec![why.to_owned()] };
    }
    let machine = Machine::of(question, facts, &run.plan_digest, publishing.signing_key);
    let judge = EnvironmentJudge::of(cache, question, facts);
    let mut scripts = ScriptRuns::of(look_up, publishing.hook, &judge, run.plan_digest);
    let (mut fingerprints, mut seen) = (Fingerprints::default(), SeenFiles::default());
    let (mut records, mut kept_back) = (Vec::new(), run.kept.refused.clone());
    let mut plan = run.plan.clone();
    for record in &run.kept.records {
        let target = record.targets.first().map(|report| &report.id);
        let Some(planned) = plan.targets.iter_mut().find(|planned| Some(&planned.id) == target)
        else {
            kept_back.push("a target is not in the plan".to_owned());
            continue;
        };
        let id = planned.id.clone();
        let mut share =
            |record: &Record, keys: &BTreeMap<TargetId, SharedKey>, answers: &[KnownAnswer]| {
                let key = keys.get(&id).ok_or_else(|| "it has no key".to_owned())?;
                let search = |input: &_| {
                    let known = judge.mentions_of(input, &machine.asked, &mut fingerprints)?;
                    let iteration = judge.iteration_of(record, input, &mut fingerprints);
                    Some(SearchedReader { known, iteration })
                };
                let portable = machine.share(record, key, answers, &mut seen, search)?;
                let name = shared_name(&key.key, portable.temporary_folder());
                let body = serde_json::to_value(portable).map_err(|error| error.to_string())?;
                Ok(SharedRecord { key: name, created: record.created, body })
            };
        let narrower = run.kept.scripted.get(&id).map(|scripted| {
            let narrower = scripts.complete(scripted)?;
            let shared = share(&narrower.record, &run.narrower_keys, &narrower.answers)?;
            Ok::<_, String>((shared, scripted.basis))
        });
        let shared = match narrower {
            Some(Ok((shared, basis))) => {
                planned.basis = basis;
                planned.wider_because.clear();
                Ok(shared)
            }
            not_narrower => {
                if let Some(Err(why)) = not_narrower {
                    planned.wider_because = format!("{}: {why}", planned.wider_because);
                }
                // Nobody knows what decided its build.
                match planned.basis {
                    KeyBasis::Tree => Err(planned.wider_because.clone()),
                    _ => share(record, &run.keys, &[]),
                }
            }
        };
        match shared {
            Ok(record) => records.push(record),
            Err(why) => kept_back.push(format!("{id}: {why}")),
        }
    }
    if records.is_empty() {
        return Published { publication: None, kept_back };
    }
    // Without the plan nobody knows which targets there are.
    let plan = match serde_json::to_value(&plan) {
        Ok(plan) => plan,
        Err(error) => {
            kept_back.push(format!("all targets: {error}"));
            return Published { publication: None, kept_back };
        }
    };
    let (key, created) = (plan_name(&run.plan_digest), Timestamp::now());
    records.push(SharedRecord { key, created, body: plan });
    let place = place(question, facts, &run.plan_digest, &run.tree);
    Published { publication: Some(Publication { place, records }), kept_back }
}

/// What the shared store adds to a level.
#[derive(Debug, Default)]
pub(super) struct Asked {
    /// What the user should hear once.
    pub(super) news: Option<String>,
    /// There are records of this build.
    pub(super) has_records: bool,
    /// Why the store does not answer, or some of its signers do not.
    misses: BTreeSet<String>,
    /// Why the records of single targets do not answer.
    of_targets: BTreeMap<TargetId, String>,
}

impl Asked {
    /// Why the store as a whole has no more to say.
    pub(super) fn why(&self) -> String {
        self.misses.iter().map(String::as_str).collect::<Vec<_>>().join("; ")
    }

    /// Why no record of another machine answers for a target; `found` is what the level says of it.
    pub(super) fn why_not(&self, target: &TargetId, found: &str) -> String {
        match self.of_targets.get(target) {
            Some(why) => why.clone(),
            None if self.has_records => found.to_owned(),
            None => self.why(),
        }
    }

    /// All reasons, each once: those of the store, and those of targets that the level has no record
    /// of.
    pub(super) fn lines(&self, level: &PackageLevel<'_>) -> Vec<String> {
        let mut lines: Vec<String> = self.misses.iter().cloned().collect();
        let Ok(known) = level.find() else {
            let of_targets = self.of_targets.iter();
            lines.extend(of_targets.map(|(target, why)| format!("{target}: {why}")));
            lines.extend(self.has_records.then(|| OTHER_TARGETS.to_owned()));
            return lines;
        };
        for (target, found) in known.targets {
            let Err(found) = found else { continue };
            match self.of_targets.get(&target) {
                Some(why) if self.misses.contains(why) => {}
                None if !self.has_records => {}
                _ => lines.push(format!("{target}: {}", self.why_not(&target, &found))),
            }
        }
        lines
    }
}

/// Why no record answers where cargo would build other targets than there.
pub(super) const OTHER_TARGETS: &str = "other targets are found here";

/// Asks the store for what the level lacks.
pub(super) async fn ask(
    store: &SharedStore,
    question: &Question,
    facts: &Facts,
    level: &mut PackageLevel<'_>,
) -> Asked {
    let place = place(question, facts, &level.plan_digest(), &level.tree());
    let wanted = WantedRecords { place, ttl: question.settings.ttl };
    let answer = store.look_up(&wanted).await;
    let (mut asked, mut refused) = (Asked::default(), answer.refused);
    asked.news = answer.news;
    asked.misses.extend(answer.misses);
    let name_of_plan = plan_name(&level.plan_digest());
    let (mut plan, mut records) = (None, BTreeMap::<Digest, Vec<FoundRecord>>::new());
    for found in answer.records {
        if !found.may_answer {
            let why = format!("{} is a peer, and peers are not trusted", found.signer);
            refused.insert(found.key, why.clone());
            asked.misses.insert(why);
        } else if found.key != name_of_plan {
            records.entry(found.key).or_default().push(found);
        } else if plan.is_none() {
            let read = found.body.read::<WorkspacePlan>().ok();
            plan = read.map(|plan| (plan, found.is_own));
        }
    }
    asked.has_records = plan.is_some() || !records.is_empty();
    let machine = Machine::of(question, facts, &level.plan_digest(), None);
    let (code_hash, mut seen) = (level.code_hash(), SeenFiles::default());
    let mut here = Fingerprints::new(&question.settings);
    if let Some((plan, is_own)) = plan {
        level.adopt_plan(plan, is_own);
    }
    let keys = level.keys_of_others();
    level.adopt(|target, key| {
        let shared = keys.get(target)?;
        let names = TemporaryFolder::ALL.map(|found| shared_name(&shared.key, found));
        let mut reasons: Vec<String> =
            names.iter().filter_map(|name| refused.remove(name)).collect();
        let found = names.iter().filter_map(|name| records.remove(name)).flatten();
        let mut found: Vec<_> = found.collect();
        // The tree's object and the latest records have the same one.
        found.dedup_by(|one, other| one.created == other.created && one.signer == other.signer);
        let (is_alone, mut first) = (found.len() == 1, None);
        for FoundRecord { body, created, signer, .. } in found {
            let found = AdoptedAs { target, key, shared, created, code_hash, signer: &signer };
            let adopted = body
                .read::<PortableRecord>()
                .map_err(|error| error.to_string())
                .and_then(|portable| machine.adopt(portable, found, &mut seen));
            match adopted {
                Ok((record, told)) => {
                    let record = Arc::new(record);
                    if is_alone || here.first_changed(&question.root, &record.inputs).is_none() {
                        return Some((record, told));
                    }
                    // Why it does not answer is told later.
                    first.get_or_insert((record, told));
                }
                Err(why) => reasons.push(format!("by {signer}: {why}")),
            }
        }
        if first.is_none() && !reasons.is_empty() {
            asked.of_targets.insert(target.clone(), reasons.join("; "));
        }
        first
    });
    asked
}

/// Whether a question about this tree, whose listing is kept, would be answered without a build by
/// records of other machines, and of this one. False where a build is already here: there nobody is asked.
pub(crate) async fn answers_for_all(
    store: &SharedStore,
    look_up: &LookUp<'_>,
    tree_digest: &Digest,
) -> bool {
    let LookUp { cache, question, facts } = *look_up;
    if question.is_built(facts, cache.dir()) {
        return false;
    }
    let level = PackageLevel::kept(cache, question, facts, tree_digest);
    let Some(mut level) = level else { return false };
    ask(store, question, facts, &mut level).await;
    level.find().is_ok_and(|KnownTargets { targets }| {
        !targets.is_empty() && targets.iter().all(|(_, found)| found.is_ok())
    })
}

/// The name of a plan in a shared object.
fn plan_name(digest: &Digest) -> Digest {
    derived("shared plan record 2", &[digest])
}

/// Where the records of a tree are. Names are made of digests that only somebody with the sources has.
fn place(question: &Question, facts: &Facts, plan: &Digest, tree: &Digest) -> BundlePlace {
    BundlePlace {
        project: project_label(&question.root),
        tree: derived("shared tree 2", &[plan, tree]),
        latest: derived("shared plan 2", &[plan]),
        subject: BundleSubject { project: derived("shared salt 2", &[plan]), host: host(facts) },
    }
}

/// The project of a workspace, as a part of an object's path: the name of its package, or what its
/// manifest says of its members.
pub(crate) fn project_label(root: &Path) -> String {
    let manifest = std::fs::read_to_string(root.join("Cargo.toml")).unwrap_or_default();
    let manifest: toml::Table = manifest.parse().unwrap_or_default();
    let of = |table: &str, key: &str| Some(manifest.get(table)?.get(key)?.to_string());
    let whole = of("package", "name").or_else(|| of("workspace", "members")).unwrap_or_default();
    let is_plain = |c: &char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_');
    let name = of("package", "name").unwrap_or_else(|| "workspace".to_owned());
    let name: String = name.chars().filter(is_plain).take(LONGEST_PROJECT_NAME).collect();
    format!("{name}-{}", Digest::of(whole.as_bytes()).short())
}

fn derived(domain: &str, digests: &[&Digest]) -> Digest {
    let mut digester = Digester::new(domain);
    for digest in digests {
        digester.digest(digest);
    }
    digester.finish()
}

/// The class of this machine: the platform, and the processor where a build goes by it.
fn host(facts: &Facts) -> String {
    let processor = facts.identity.build.get(PROCESSOR).map(|digest| format!(" {digest}"));
    format!("{}{}", facts.toolchain.host, processor.unwrap_or_default())
}
