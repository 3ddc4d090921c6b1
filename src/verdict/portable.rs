//! Records of the package level in the form that machines share: no path of a user or a checkout, no
//! digest by which somebody without the sources could guess a value, no output.
//!
//! A writer turns each input into what another machine can check; a reader checks every one on its own
//! machine and gets a record as its own runs would have made it, or the name of what differs.

mod given_names;

use std::collections::{BTreeMap, BTreeSet};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use self::given_names::{perhaps_named, unnamed};
use super::environment::{AskedEnvironment, known_iteration};
use super::facts::{Facts, Question};
use super::fingerprint::{Aspect, Fingerprints, aspect_of, deciding_file};
use super::git_question::GitQuestion;
use super::package::SharedKey;
use super::roots::{PortablePath, RootPlace, SymbolicRoot, SymbolicRoots};
use crate::cache::{
    Input, InputState, KnownAnswer, KnownMentions, Record, RecordKey, RecordedEnvironment,
};
use crate::hasher::{FileDigest, file_digest};
use crate::model::{Digest, Digester, OsText, TargetId, TargetReport, Timestamp, Verdict};
use crate::observer::LOADER_CACHE;
use crate::process::Environment;
use crate::workspace::PathStamp;

/// The part of a record's identity that names the signer of a shared one.
pub(super) const SIGNER: &str = "signer";

/// A record as it is shared.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct PortableRecord {
    report: TargetReport,
    inputs: Vec<PortableInput>,
    /// The other names of the roots there.
    places: Vec<RootPlace>,
    readers: Vec<PortableReader>,
    /// Variables that always count, with keyed digests of their values.
    counted: BTreeMap<String, Digest>,
    /// Variables beside the key.
    variables: BTreeMap<String, Digest>,
    /// Those that the build names.
    build_variables: BTreeMap<String, Option<Digest>>,
    /// The places of programs that the run looked for in `PATH`.
    programs: Option<BTreeMap<String, Vec<PortablePath>>>,
    /// What build scripts asked of git.
    answers: Vec<PortableAnswer>,
    /// Beginnings of variables' names that no value holds which cargo gave to the run. From such a
    /// value the run could have taken any other name.
    unnamed: BTreeSet<String>,
}

impl PortableRecord {
    /// What the run found in the temporary folder.
    pub(super) fn temporary_folder(&self) -> TemporaryFolder {
        let is_found = |input: &PortableInput| {
            let is_free = matches!(
                input.state,
                PortableState::Plain(InputState::Absent | InputState::Overwritable)
            );
            input.at.is_in(SymbolicRoot::Temporary) && !is_free
        };
        match self.inputs.iter().any(is_found) {
            true => TemporaryFolder::Used,
            false => TemporaryFolder::Empty,
        }
    }
}

/// An input as it is shared.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct PortableInput {
    at: PortablePath,
    state: PortableState,
}

impl PortableInput {
    fn is_absent(&self) -> bool {
        self.state == PortableState::Plain(InputState::Absent)
    }
}

/// The state of an input, by what is alike on two machines.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum PortableState {
    /// A state that holds no digest.
    Plain(InputState),
    /// A file's content, links followed.
    Content(Digest),
    /// What is seen in this way, with owners by their class.
    Seen(Aspect, Digest),
    /// A library of the system, which counts as the very file here, by its content.
    Library(Digest),
    /// A file or a folder of the toolchain, whose version the key holds.
    Toolchain,
}

/// What git answered.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct PortableAnswer {
    dir: PortablePath,
    args: Vec<String>,
    answer: Digest,
}

/// Something that names of variables could be read from, and that a checkout without a build lacks.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct PortableReader {
    at: PortablePath,
    state: InputState,
    /// The texts that it holds, of those that it was searched for.
    found: BTreeSet<String>,
    searched: BTreeSet<String>,
    any: Option<String>,
    is_stripped: bool,
    is_program: bool,
    /// For examples that are compiled with it: what its sources were searched for.
    iteration: Option<(Digest, bool)>,
}

/// What a reader was searched for.
pub(super) struct SearchedReader {
    pub(super) known: KnownMentions,
    /// The memo that says whether code of it may go through all variables.
    pub(super) iteration: Option<(Digest, bool)>,
}

/// What only somebody with the same manifests and names of sources knows. All records of a build plan
/// have the same, so that an object holds what they have in common once.
struct PlanSecret(Digest);

impl PlanSecret {
    fn of(plan: &Digest) -> Self {
        let mut digester = Digester::new("shared secret 2");
        digester.digest(plan);
        Self(digester.finish())
    }

    fn keyed(&self, what: &str, value: &[u8]) -> Digest {
        let mut digester = Digester::new("shared value 2");
        digester.digest(&self.0).field(what.as_bytes()).field(value);
        digester.finish()
    }

    fn state(&self, state: &InputState) -> Option<Digest> {
        let (kind, digest) = match state {
            InputState::Listing(digest) => ("listing", digest),
            InputState::Targets(digest) => ("targets", digest),
            InputState::Link(digest) => ("link", digest),
            InputState::File(digest) => ("file", digest),
            InputState::Program(digest) => ("program", digest),
            InputState::Measured(digest) => ("measured", digest),
            InputState::Kind(digest) => ("kind", digest),
            InputState::Answer(digest) => ("answer", digest),
            InputState::Absent => return Some(self.keyed("absent", &[])),
            _ => return None,
        };
        Some(self.keyed(kind, digest.as_bytes()))
    }
}

/// What a run found in the temporary folder. Of each kind a shared object has one record of a key: where
/// somebody has run the tests, their leftovers lie there from then on, and elsewhere they do not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum TemporaryFolder {
    /// The run found none of the names that it looked for.
    Empty,
    /// The run found at least one of them.
    Used,
}

impl TemporaryFolder {
    /// Both states.
    pub(super) const ALL: [Self; 2] = [Self::Empty, Self::Used];
}

/// The name of a record in a shared object. The shared key itself stays here.
pub(super) fn shared_name(key: &RecordKey, found: TemporaryFolder) -> Digest {
    let mut digester = Digester::new("shared record 8");
    digester.digest(&key.digest).number(key.version.into());
    digester.number((found == TemporaryFolder::Used).into());
    digester.finish()
}

/// One machine's side of sharing.
pub(super) struct Machine<'a> {
    root: &'a Path,
    roots: SymbolicRoots,
    environment: &'a Environment,
    /// The toolchain's folders, as runs see them.
    toolchain: Vec<PathBuf>,
    secret: PlanSecret,
    /// The variables beside a key, as this machine's own runs record them.
    pub(super) asked: AskedEnvironment,
}

impl<'a> Machine<'a> {
    /// This machine for a question about a build plan. `key` is the signing key, which no shared run
    /// may have read.
    pub(super) fn of(
        question: &'a Question,
        facts: &Facts,
        plan: &Digest,
        key: Option<&Path>,
    ) -> Self {
        let (root, environment) = (&question.root, &question.environment);
        let toolchain = facts.toolchain.folders();
        // Below a prefix of all kinds of programs, names do not mean the same elsewhere.
        let sysroot = facts.toolchain.sysroot.canonicalize().ok();
        let alone = toolchain.iter().find(|folder| Some(*folder) == sysroot.as_ref());
        Self {
            root,
            roots: SymbolicRoots::of(
                root,
                &question.selection.start(),
                environment,
                alone.map(PathBuf::as_path),
                key,
            ),
            environment,
            toolchain,
            secret: PlanSecret::of(plan),
            asked: AskedEnvironment::of(question),
        }
    }

    /// The value of a variable, with folders by their symbols.
    fn value(&self, name: &str) -> Option<Digest> {
        let named = |(known, _): &(&std::ffi::OsStr, &std::ffi::OsStr)| {
            known.as_bytes().escape_ascii().to_string() == name
        };
        let (_, value) = self.environment.iter().find(named)?;
        let value = self.roots.text(value.as_bytes());
        Some(self.secret.keyed(name, &value))
    }

    fn counted(&self, key: &SharedKey) -> BTreeMap<String, Digest> {
        let value = |name: &String| Some((name.clone(), self.value(name)?));
        key.counted.iter().filter_map(value).collect()
    }

    /// The record in the form that is shared. `search` tells which variables something can name.
    ///
    /// # Errors
    /// Why it cannot be shared.
    pub(super) fn share(
        &self,
        record: &Record,
        key: &SharedKey,
        answers: &[KnownAnswer],
        seen: &mut SeenFiles,
        mut search: impl FnMut(&Input) -> Option<SearchedReader>,
    ) -> Result<PortableRecord, String> {
        let [report] = &record.targets[..] else {
            return Err("it has no single target".to_owned());
        };
        if record.products.without_siblings {
            return Err("it was built without the other targets of its package".to_owned());
        }
        if record.is_by_reach {
            return Err("tests of it were not run with this code (`selection = \"on\"`)".to_owned());
        }
        let absent_above = self.roots.absent_above(&record.inputs)?.into_iter();
        let absent_above = absent_above
            .map(|at| Ok(PortableInput { at, state: PortableState::Plain(InputState::Absent) }));
        // Whose the folders above a checkout are does not count, as their names do not.
        let is_above = |input: &&Input| {
            matches!(input.state, InputState::Kind(_)) && self.root.starts_with(&input.path)
        };
        let inputs = record.inputs.iter().filter(|input| !is_above(input));
        let inputs = inputs.map(|input| self.share_input(input, seen));
        let readers = record.environment.readers.iter().map(|input| {
            let name =
                || format!("it is not known which variables `{}` names", input.path.display());
            let SearchedReader { known, iteration } = search(input).ok_or_else(name)?;
            let KnownMentions { found, any, is_stripped, is_program } = known;
            Ok(PortableReader {
                at: self.roots.portable(&self.root.join(&input.path))?,
                state: input.state,
                searched: found.keys().cloned().collect(),
                found: found
                    .into_iter()
                    .filter_map(|(text, is_in)| is_in.then_some(text))
                    .collect(),
                any,
                is_stripped,
                is_program,
                iteration,
            })
        });
        let places = |places: &Vec<OsText>| {
            let each = places.iter().map(|place| self.roots.portable(Path::new(&place.0)));
            each.collect::<Result<Vec<_>, String>>()
        };
        let programs = record.environment.programs.as_ref().map(|programs| {
            let each = programs.iter().map(|(name, at)| Ok((name.clone(), places(at)?)));
            each.collect::<Result<BTreeMap<_, _>, String>>()
        });
        let value = |name: &String| self.value(name);
        let build_variables =
            record.environment.build_variables.keys().map(|name| (name.clone(), value(name)));
        let variables = record.environment.variables.keys();
        Ok(PortableRecord {
            report: TargetReport { output: String::new(), stderr: None, ..report.clone() },
            inputs: inputs.chain(absent_above).collect::<Result<_, _>>()?,
            places: self.roots.places(),
            readers: readers.collect::<Result<_, String>>()?,
            counted: self.counted(key),
            variables: variables.filter_map(|name| Some((name.clone(), value(name)?))).collect(),
            build_variables: build_variables.collect(),
            programs: programs.transpose()?,
            answers: answers
                .iter()
                .map(|known| self.share_answer(known))
                .collect::<Result<_, _>>()?,
            unnamed: unnamed(&record.environment.given, self.asked.variables().keys()),
        })
    }

    fn share_answer(&self, known: &KnownAnswer) -> Result<PortableAnswer, String> {
        Ok(PortableAnswer {
            dir: self.roots.portable(Path::new(&known.dir.0))?,
            args: known.args.clone(),
            answer: self.secret.keyed("answer", known.answer.as_bytes()),
        })
    }

    /// Has git asked here what it was asked there.
    fn check_answer(
        &self,
        shared: &PortableAnswer,
        places: &[RootPlace],
        seen: &mut SeenFiles,
    ) -> Result<(), String> {
        let args: Vec<_> = shared.args.iter().map(Into::into).collect();
        for dir in self.roots.readings(&shared.dir, places)? {
            let asked = GitQuestion::of(&args, &dir).filter(|_| dir.starts_with(self.root));
            let asked = asked.ok_or("it asks git what this version does not know")?;
            let answer = seen.answers.entry(asked.clone());
            let answer = answer.or_insert_with(|| asked.ask(self.environment)).clone()?;
            if self.secret.keyed("answer", answer.as_bytes()) != shared.answer {
                return Err(format!("`{asked}` answers differently here"));
            }
        }
        Ok(())
    }

    fn share_input(&self, input: &Input, seen: &mut SeenFiles) -> Result<PortableInput, String> {
        let secret = &self.secret;
        let path = self.root.join(&input.path);
        let changed = || format!("`{}` has changed since", input.path.display());
        let state = match &input.state {
            InputState::Digest(digest) => {
                PortableState::Content(secret.keyed("content", digest.as_bytes()))
            }
            InputState::Same(_) => {
                if !seen.own.holds(self.root, input) {
                    return Err(changed());
                }
                if self.is_of_toolchain(&path) && !is_of_installation(&path) {
                    PortableState::Toolchain
                } else if is_system_library(&path) || self.is_of_toolchain(&path) {
                    let now = seen.portable.read(self.root, &path, Aspect::Content)?;
                    PortableState::Library(secret.state(&now.state).ok_or_else(changed)?)
                } else {
                    return Err(format!("no other machine has the very same `{}`", path.display()));
                }
            }
            // Its permissions are those of whoever has installed it.
            InputState::Kind(_) if self.is_of_toolchain(&path) && path.is_dir() => {
                PortableState::Toolchain
            }
            state => match aspect_of(state) {
                None => PortableState::Plain(*state),
                Some(way) => {
                    let now = seen.portable.read(self.root, &path, way)?;
                    if !seen.own.holds(self.root, input) {
                        return Err(changed());
                    }
                    PortableState::Seen(way, secret.state(&now.state).ok_or_else(changed)?)
                }
            },
        };
        // An address is no path.
        let at = match input.state {
            InputState::Trusted | InputState::Excluded => PortablePath::plain(&input.path),
            // Perhaps in another user's home, where the reader must not get in either.
            InputState::Denied => {
                self.roots.portable(&path).unwrap_or_else(|_| PortablePath::plain(&path))
            }
            InputState::Absent => self.roots.portable_absent(&path)?,
            _ => self.roots.portable(&path)?,
        };
        Ok(PortableInput { at, state })
    }

    /// The record as a run on this machine would have made it, if everything that it depends on is here
    /// what it was there.
    ///
    /// # Errors
    /// The first thing that is not.
    pub(super) fn adopt(
        &self,
        shared: PortableRecord,
        found: AdoptedAs<'_>,
        seen: &mut SeenFiles,
    ) -> Result<(Record, Vec<(Digest, KnownMentions)>), String> {
        if shared.report.id != *found.target || shared.report.verdict != Verdict::Pass {
            return Err("it is of another target, or not green".to_owned());
        }
        let counted = self.counted(found.shared);
        let names = counted.keys().chain(shared.counted.keys());
        if let Some(name) =
            names.into_iter().find(|&name| counted.get(name) != shared.counted.get(name))
        {
            return Err(format!("environment variable {name} differs: it always counts"));
        }
        let (above, own): (Vec<_>, Vec<_>) =
            shared.inputs.iter().partition(|input| input.at.is_each_above());
        let places = &shared.places[..];
        let inputs = own.into_iter().map(|input| self.adopt_input(input, places, seen));
        let inputs = inputs.collect::<Result<Vec<_>, _>>()?.into_iter();
        let mut inputs: Vec<Input> = inputs.flatten().collect();
        inputs.extend(self.adopt_absent_above(&above, places, &shared.inputs)?);
        // After the inputs, among which git itself is.
        shared.answers.iter().try_for_each(|answer| self.check_answer(answer, places, seen))?;
        // A value that is the same gets the digest that it has here; another one matches nothing.
        let own = |name: &String, then: &Digest, here: Option<&Digest>| {
            let is_same = self.value(name) == Some(*then);
            here.copied().filter(|_| is_same).unwrap_or(*then)
        };
        // As if cargo had given the names themselves: the record answers this question alone.
        let names = self.asked.variables().keys().chain(shared.variables.keys());
        let given = perhaps_named(names, &shared.unnamed);
        let variables = shared.variables.iter();
        let variables = variables
            .map(|(name, then)| (name.clone(), own(name, then, self.asked.variables().get(name))))
            .collect();
        let build_variables = shared.build_variables.iter().map(|(name, then)| {
            let here = super::environment::variable(self.environment, name, self.root);
            (name.clone(), then.map(|then| own(name, &then, here.as_ref())))
        });
        let build_variables = build_variables.collect();
        let (mut readers, mut mentions) = (Vec::new(), Vec::new());
        for reader in shared.readers {
            let path = self.roots.local(&reader.at)?;
            let iteration = reader.iteration;
            mentions.extend(iteration.map(|(memo, iterates)| (memo, known_iteration(iterates))));
            if let Some(state) = super::environment::content_of(&reader.state) {
                let is_found = |text: String| (text.clone(), reader.found.contains(&text));
                mentions.push((
                    state,
                    KnownMentions {
                        found: reader.searched.into_iter().map(is_found).collect(),
                        any: reader.any,
                        is_stripped: reader.is_stripped,
                        is_program: reader.is_program,
                    },
                ));
            }
            readers.push(Input { path: self.short(&path), state: reader.state, proof: None });
        }
        let local = |at: &PortablePath| self.roots.local(at).map(|path| OsText::from(&path));
        let programs = shared.programs.map(|programs| {
            let places = |places: &Vec<PortablePath>| {
                places.iter().map(local).collect::<Result<Vec<_>, _>>()
            };
            let each = programs.iter().map(|(name, at)| Ok((name.clone(), places(at)?)));
            each.collect::<Result<BTreeMap<_, _>, String>>()
        });
        let programs = programs.transpose()?;
        let AdoptedAs { key, code_hash, .. } = found;
        let selection = super::binary::packages_text(&shared.report.id);
        let record = Record {
            created: found.created,
            // What a signer says is green; if its report is not, that is a flaw.
            verdict: Verdict::Pass,
            inputs,
            identity: [(SIGNER.to_owned(), found.signer.to_owned())].into(),
            environment: RecordedEnvironment {
                variables,
                readers,
                is_complete: true,
                programs,
                build_variables,
                given,
            },
            ..Record::new(key, self.root, code_hash, selection, vec![shared.report])
        };
        match record.flaw() {
            None => Ok((record, mentions)),
            Some(flaw) => Err(flaw),
        }
    }

    /// An input at each path where a run here would perhaps look for it.
    fn adopt_input(
        &self,
        input: &PortableInput,
        places: &[RootPlace],
        seen: &mut SeenFiles,
    ) -> Result<Vec<Input>, String> {
        if let PortableState::Plain(state @ (InputState::Trusted | InputState::Excluded)) =
            input.state
        {
            let path = PathBuf::from(&input.at.path.0);
            return Ok(vec![Input { path, state, proof: None }]);
        }
        // A toolchain has another name on most machines: cargo and rustc lead to what it has.
        let is_led_to = input.at.is_of(SymbolicRoot::Toolchain) && !input.is_absent();
        let places = if is_led_to { &[] } else { places };
        let readings = self.roots.readings(&input.at, places)?.into_iter();
        readings.map(|path| self.adopt_input_at(&path, input, seen)).collect()
    }

    fn adopt_input_at(
        &self,
        path: &Path,
        input: &PortableInput,
        seen: &mut SeenFiles,
    ) -> Result<Input, String> {
        let secret = &self.secret;
        let differs = || format!("`{}` is another one here", path.display());
        match &input.state {
            PortableState::Plain(state) if is_plain(state) => {
                Ok(Input { path: self.short(path), state: *state, proof: None })
            }
            PortableState::Plain(_) => Err(differs()),
            PortableState::Content(then) => match file_digest(path) {
                FileDigest::Known(now) if secret.keyed("content", now.as_bytes()) == *then => {
                    let state = InputState::Digest(now);
                    Ok(Input { path: self.short(path), state, proof: None })
                }
                _ => Err(differs()),
            },
            PortableState::Toolchain
                if self.is_of_toolchain(path) && !is_of_installation(path) && path.is_file() =>
            {
                seen.own.read(self.root, path, Aspect::Same)
            }
            PortableState::Toolchain if self.is_of_toolchain(path) && path.is_dir() => {
                seen.own.read(self.root, path, Aspect::Kind)
            }
            PortableState::Toolchain => Err(differs()),
            PortableState::Seen(..) | PortableState::Library(_) => {
                let (theirs, ours, then) = match &input.state {
                    PortableState::Seen(way, then) => (*way, *way, then),
                    PortableState::Library(then) => (Aspect::Content, Aspect::Same, then),
                    _ => return Err(differs()),
                };
                let file = deciding_file(path, Some(ours));
                let stamp = PathStamp::of(file);
                let now = seen.portable.read(self.root, path, theirs)?;
                let own = seen.own.read(self.root, path, ours)?;
                let is_same = secret.state(&now.state) == Some(*then);
                if is_same && PathStamp::of(file) == stamp { Ok(own) } else { Err(differs()) }
            }
        }
    }

    /// The names in folders above the checkout, or the temporary folder, that must be absent. What is cargo's
    /// or the toolchain's there counts as the record says.
    fn adopt_absent_above(
        &self,
        above: &[&PortableInput],
        places: &[RootPlace],
        all: &[PortableInput],
    ) -> Result<BTreeSet<Input>, String> {
        let of_tools = all.iter().filter(|input| input.at.is_of_tools());
        let of_tools = of_tools.map(|input| self.roots.local(&input.at));
        let of_tools = of_tools.collect::<Result<BTreeSet<PathBuf>, _>>()?;
        if !above.iter().all(|input| input.is_absent()) {
            return Err("it says of folders above what this version does not know".to_owned());
        }
        let is_searched =
            |input: &&PortableInput| input.at.is_in(SymbolicRoot::Temporary) && input.is_absent();
        let mut inputs = BTreeSet::new();
        for name in above.iter().copied().chain(all.iter().filter(is_searched)) {
            let absent = |path| Input { path, state: InputState::Absent, proof: None };
            let paths = self.roots.each_above(&name.at, places, &of_tools)?;
            inputs.extend(paths.into_iter().map(absent));
        }
        Ok(inputs)
    }

    fn is_of_toolchain(&self, path: &Path) -> bool {
        self.toolchain.iter().any(|folder| path.starts_with(folder))
    }

    fn short(&self, path: &Path) -> PathBuf {
        path.strip_prefix(self.root).unwrap_or(path).to_owned()
    }
}

/// Whether a file of a toolchain says what else is installed: two installations of one version differ in it.
fn is_of_installation(path: &Path) -> bool {
    path.parent().is_some_and(|folder| folder.ends_with("lib/rustlib"))
}

/// Whether a file counts for a run as it is, since it is replaced and not edited.
fn is_system_library(path: &Path) -> bool {
    let is_loaders = path == Path::new(LOADER_CACHE) || path == Path::new("/etc/ld.so.preload");
    is_loaders || ["/lib", "/lib32", "/lib64", "/usr"].iter().any(|dir| path.starts_with(dir))
}

/// Whether a state is whole without a digest.
fn is_plain(state: &InputState) -> bool {
    matches!(
        state,
        InputState::Absent | InputState::Overwritable | InputState::Refused | InputState::Denied
    )
}

/// What an adopted record is.
#[derive(Clone, Copy)]
pub(super) struct AdoptedAs<'a> {
    pub(super) target: &'a TargetId,
    pub(super) key: RecordKey,
    pub(super) shared: &'a SharedKey,
    pub(super) created: Timestamp,
    pub(super) code_hash: Digest,
    pub(super) signer: &'a str,
}

/// Looks at paths, by what counts here and by what is alike on two machines, and asks git.
pub(super) struct SeenFiles {
    own: Fingerprints,
    portable: Fingerprints,
    /// What git has answered.
    answers: BTreeMap<GitQuestion, Result<Digest, String>>,
}

impl Default for SeenFiles {
    fn default() -> Self {
        let (own, portable) = (Fingerprints::default(), Fingerprints::by_class());
        Self { own, portable, answers: BTreeMap::new() }
    }
}
