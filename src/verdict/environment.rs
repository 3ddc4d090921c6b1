//! Decides which variables count of those that differ between a record's run and the client.
//!
//! A record's key holds the variables that always count. The others are conditions of the record:
//! one that differs counts unless nothing that the run executed, loaded or read can name it. Files
//! are searched only for variables that differ, and what was found is remembered by content.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

pub(super) use self::package_variables::text_of_package;
use self::package_variables::{TEXTS_OF_PACKAGE, first_word};
use self::search::{search_in, with_told};
pub(super) use self::shown::{each_variable, named_by_build, variable};
use self::values::{is_named, with_word};
use super::facts::{Facts, Question};
use super::fingerprint::Fingerprints;
use super::patterns::{VariablePlace, VariableRules, is_system_header};
use crate::cache::{
    Cache, Input, InputState, KnownMentions, Record, RecordLevel, RecordedEnvironment,
};
use crate::compiler::sources_of_library;
use crate::hasher::{GOES_THROUGH_ALL, Mentions, SearchScope, has_word_of};
use crate::model::{Digest, Digester, OsText, TargetKind, TargetReport};
use crate::observer::is_shared_object;
use crate::process::Environment;
use crate::workspace::{PathStamp, Relevance, relevance, well_known_texts};

/// What may go through all variables contains this: the macros in a library.
const ALL_IN_A_MACRO: &str = "vars";

/// The words for that in a source.
const WORDS_FOR_ALL: [&str; 5] = ["vars", "vars_os", "environ", "_environ", "__environ"];

/// The name of the search path, and the text that stands for a use of its value.
pub(super) const PATH: &str = "PATH";

/// Variables that most machines have, each with a value of its own.
pub(super) const COMMON: [&str; 16] = [
    "HOME",
    "PATH",
    "USER",
    "LOGNAME",
    "MAIL",
    "SHELL",
    "LANG",
    "LANGUAGE",
    "HOSTNAME",
    "USERNAME",
    "TMPDIR",
    "XDG_CONFIG_HOME",
    "XDG_CACHE_HOME",
    "XDG_DATA_DIRS",
    "DEBIAN_FRONTEND",
    "CI_JOB",
];

/// The variables of a run that no key holds, and what else a name could be taken from.
#[derive(Clone, Debug, Default)]
pub(super) struct AskedEnvironment {
    variables: BTreeMap<String, Digest>,
    /// All variables, those of keys among them.
    environment: Environment,
    arguments: Vec<OsString>,
    /// The folders of `PATH`; `None` if one of them depends on the folder one is in.
    path: Option<Vec<PathBuf>>,
}

impl AskedEnvironment {
    /// The environment of a question.
    pub(super) fn of(question: &Question) -> Self {
        let words: Vec<_> = question.selection.program_words().map(ToOwned::to_owned).collect();
        let mut asked = Self::new(&question.environment, &words);
        each_variable(question, |name, value, place| {
            if place == VariablePlace::Beside {
                asked.insert(name, value);
            }
        });
        asked
    }

    /// The environment, without variables beside the key yet.
    pub(super) fn new(environment: &Environment, arguments: &[OsString]) -> Self {
        let folders = environment.get(PATH).map(std::env::split_paths).into_iter().flatten();
        let folders: Vec<PathBuf> = folders.collect();
        let path = folders.iter().all(|folder| folder.is_absolute()).then_some(folders);
        Self {
            variables: BTreeMap::new(),
            environment: environment.clone(),
            arguments: arguments.to_vec(),
            path,
        }
    }

    /// Adds a variable that belongs beside the key.
    pub(super) fn insert(&mut self, name: &OsStr, digest: Digest) {
        self.variables.insert(name.as_bytes().escape_ascii().to_string(), digest);
    }

    /// Leaves out a variable.
    pub(super) fn remove(&mut self, name: &str) {
        self.variables.remove(name);
    }

    /// The environment of a recorded run, with these of its variables as they are here.
    pub(super) fn in_place_of<'n>(
        &self,
        recorded: &RecordedEnvironment,
        names: impl Iterator<Item = &'n String>,
    ) -> Self {
        let mut variables = recorded.variables.clone();
        for name in names {
            match self.variables.get(name) {
                Some(value) => drop(variables.insert(name.clone(), *value)),
                None => drop(variables.remove(name)),
            }
        }
        Self { variables, ..self.clone() }
    }

    /// The variables that differ from these, of those beside the key.
    pub(super) fn differing<'v>(
        &'v self,
        then: &'v BTreeMap<String, Digest>,
    ) -> BTreeSet<&'v String> {
        let names = then.keys().chain(self.variables.keys());
        names.filter(|name| then.get(*name) != self.variables.get(*name)).collect()
    }

    /// The variables that a build names and that are not what they were for it.
    pub(super) fn differing_for_build<'v>(
        &self,
        then: &'v BTreeMap<String, Option<Digest>>,
        root: &Path,
    ) -> impl Iterator<Item = &'v String> {
        let is_other = |(name, then): &(&String, &Option<Digest>)| {
            variable(&self.environment, name, root) != **then
        };
        then.iter().filter(is_other).map(|(name, _)| name)
    }

    /// The variables beside the key, by their escaped names, with digests of their values.
    pub(super) fn variables(&self) -> &BTreeMap<String, Digest> {
        &self.variables
    }

    /// What a record of a run with these inputs says, `readers` being what it could read names from
    /// besides.
    pub(super) fn recorded(
        &self,
        root: &Path,
        inputs: &[Input],
        readers: Vec<Input>,
        is_complete: bool,
    ) -> RecordedEnvironment {
        RecordedEnvironment {
            variables: self.variables.clone(),
            readers,
            is_complete,
            programs: self.programs(root, inputs),
            build_variables: BTreeMap::new(),
            given: Vec::new(),
        }
    }

    /// The environment of a machine on which all of these variables have other values, and those that
    /// most machines have are set.
    pub(super) fn elsewhere(&self) -> Self {
        let other = Digest::of(b"of another machine");
        let known = COMMON.into_iter().map(str::to_owned).chain(self.variables.keys().cloned());
        Self { variables: known.map(|name| (name, other)).collect(), ..self.clone() }
    }

    /// The programs that a run with these inputs looked for in the folders of `PATH`.
    pub(super) fn programs(
        &self,
        root: &Path,
        inputs: &[Input],
    ) -> Option<BTreeMap<String, Vec<OsText>>> {
        let real = |folder: &PathBuf| folder.canonicalize().ok();
        let folders: BTreeSet<_> = self.path.as_ref()?.iter().filter_map(real).collect();
        if folders.is_empty() {
            return None;
        }
        let mut programs = BTreeMap::new();
        for input in inputs {
            let path = root.join(&input.path);
            if folders.contains(&path) && !matches!(input.state, InputState::Kind(_)) {
                return None;
            }
            if path.parent().is_some_and(|folder| folders.contains(folder)) {
                let name = path.file_name()?.to_str()?.to_owned();
                let places = self.places(&name)?;
                programs.insert(name, places);
            }
        }
        Some(programs)
    }

    /// All places in `PATH` where there is something of this name; `None` if that cannot be told.
    fn places(&self, name: &str) -> Option<Vec<OsText>> {
        let mut places = Vec::new();
        for folder in self.path.as_ref()? {
            let file = folder.join(name);
            let is_there = file.try_exists().or_else(|error| match error.kind() {
                std::io::ErrorKind::NotADirectory => Ok(false),
                _ => Err(error),
            });
            let place = OsText::from(&file);
            if is_there.ok()? && !places.contains(&place) {
                places.push(place);
            }
        }
        Some(places)
    }
}

/// A variable that differs, and why it counts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct VariableDifference {
    pub(super) name: String,
    /// `None` if it does not count.
    pub(super) why: Option<String>,
}

/// Judges the variables of one project's records.
#[derive(Debug)]
pub(super) struct EnvironmentJudge<'a> {
    pub(super) cache: &'a Cache,
    pub(super) root: &'a Path,
    /// Where cargo builds.
    pub(super) target_dirs: &'a [PathBuf],
    /// The toolchain's folders, without links. Its programs pass all variables on, and read only
    /// those that they name.
    pub(super) toolchain: Vec<PathBuf>,
    pub(super) rules: VariableRules,
    /// What is known of files, by their states: the targets of one question read the same libraries.
    pub(super) known: RefCell<BTreeMap<Digest, KnownMentions>>,
    /// What the signers of the judged records say of what is not here. It is never kept: a signer who is revoked
    /// has said nothing.
    pub(super) told: BTreeMap<Digest, KnownMentions>,
}

impl<'a> EnvironmentJudge<'a> {
    /// The judge of the variables of this question's records.
    pub(super) fn of(cache: &'a Cache, question: &'a Question, facts: &'a Facts) -> Self {
        Self {
            cache,
            root: &question.root,
            target_dirs: &facts.target_dirs,
            toolchain: facts.toolchain.folders(),
            rules: VariableRules::of(&question.settings),
            known: RefCell::default(),
            told: BTreeMap::new(),
        }
    }
}

impl AskedEnvironment {
    /// Whether something that is given to the run holds the name, or is its first word.
    fn is_named(&self, name: &str, word: &str, given: &[OsText]) -> Option<String> {
        is_named(&self.environment, &self.arguments, name, word, given)
    }
}

impl EnvironmentJudge<'_> {
    /// Why the record does not answer in the client's environment; `None` if it does.
    pub(super) fn obstacle(
        &self,
        record: &Record,
        asked: &AskedEnvironment,
        fingerprints: &mut Fingerprints,
    ) -> Option<String> {
        if let Some(why) = self.build_obstacle(&record.environment.build_variables, asked) {
            return Some(why);
        }
        if record.environment.variables == asked.variables {
            return None;
        }
        let differences = self.differences(record, asked, fingerprints);
        differences.into_iter().find_map(|VariableDifference { name, why }| {
            Some(format!("environment variable {name} differs: {}", why?))
        })
    }

    /// Why a build that names these variables would differ in the client's environment.
    pub(super) fn build_obstacle(
        &self,
        named: &BTreeMap<String, Option<Digest>>,
        asked: &AskedEnvironment,
    ) -> Option<String> {
        let name = asked.differing_for_build(named, self.root).next()?;
        Some(format!("environment variable {name} differs, which the build names"))
    }

    /// Every variable that differs, less the ones that the config ignores.
    pub(super) fn differences(
        &self,
        record: &Record,
        asked: &AskedEnvironment,
        fingerprints: &mut Fingerprints,
    ) -> Vec<VariableDifference> {
        let RecordedEnvironment { variables, is_complete, programs, given, .. } =
            &record.environment;
        let names = asked.differing(variables).into_iter();
        let names: Vec<_> = names.filter(|name| !self.rules.ignores(OsStr::new(name))).collect();
        if names.is_empty() {
            return Vec::new();
        }
        let all = |why: &str| {
            let difference = |name: &&String| VariableDifference {
                name: (*name).clone(),
                why: Some(why.to_owned()),
            };
            names.iter().map(difference).collect()
        };
        if !is_complete {
            return all("not all that the run could read is known");
        }
        let wanted: Vec<_> = names.iter().map(|name| (*name, text_of(name))).collect();
        let texts: BTreeSet<String> = wanted.iter().filter_map(|(_, text)| text.clone()).collect();
        let places = match self.search(record, texts, fingerprints) {
            Ok(places) => places,
            Err(why) => return all(&why),
        };
        let difference = |(name, text): (&String, Option<String>)| {
            let named = text.as_ref().and_then(|text| places.get(text));
            let why = match (&text, named) {
                (None, _) => Some("it always counts".to_owned()),
                (_, Some(place)) => Some(format!("`{place}` can name it")),
                (_, None) if name == PATH => programs_differ(programs.as_ref(), asked),
                (Some(text), None) => {
                    let word = first_word(name, text);
                    let is_named = asked.is_named(name, word, given);
                    is_named
                        .or_else(|| self.is_put_together(record, asked, name, word, fingerprints))
                }
            };
            VariableDifference { name: name.clone(), why }
        };
        wanted.into_iter().map(difference).collect()
    }

    /// Whether a variable that the run can name holds the first word of this one's name: a test may put the
    /// name together from it.
    fn is_put_together(
        &self,
        record: &Record,
        asked: &AskedEnvironment,
        name: &str,
        word: &str,
        fingerprints: &mut Fingerprints,
    ) -> Option<String> {
        let mut texts = BTreeSet::new();
        for giver in with_word(&asked.environment, name, word) {
            if self.rules.ignores(OsStr::new(giver)) {
                continue;
            }
            match text_of(giver) {
                Some(text) => drop(texts.insert(text)),
                // It always counts.
                None => return Some(format!("`{giver}` holds its first word")),
            }
        }
        if texts.is_empty() {
            return None;
        }
        match self.search(record, texts, fingerprints) {
            Ok(places) => places
                .values()
                .next()
                .map(|place| format!("`{place}` can name a variable that holds its first word")),
            Err(why) => Some(why),
        }
    }

    /// Where each of the texts was found that was.
    ///
    /// # Errors
    /// Why every variable counts.
    fn search(
        &self,
        record: &Record,
        mut texts: BTreeSet<String>,
        fingerprints: &mut Fingerprints,
    ) -> Result<BTreeMap<String, String>, String> {
        let inputs = match record.key.level {
            // The inputs of a whole are what its build has read.
            RecordLevel::Source => &[][..],
            _ => &record.inputs,
        };
        // Rustdoc is a part of a doctest's build: the key holds what rustdoc itself reads, as for every
        // build, and the examples' own files contain what the examples can name.
        let is_doc = record.targets.iter().all(|target| target.id.kind == TargetKind::Doc);
        let mut found = BTreeMap::new();
        // Readers are products, also those of another checkout.
        let readers = record.environment.readers.iter().map(|input| (input, true));
        let inputs = inputs.iter().map(|input| (input, self.is_built(&input.path)));
        for (input, is_built) in readers.chain(inputs) {
            let is_toolchain = self.toolchain.iter().any(|dir| input.path.starts_with(dir));
            if is_doc && is_toolchain {
                continue;
            }
            let Some(state) = content_of(&input.state) else { continue };
            let place = input.path.display();
            let is_crate = is_library(&input.path)
                && (is_built || input.path.extension() != Some("so".as_ref()));
            // Its generic functions are compiled into the programs of examples, which are gone.
            if is_doc
                && is_crate
                && !is_of(&input.path, &record.targets)
                && self.may_give_iteration(input, &state, fingerprints)
            {
                return Err(format!("`{place}` may go through all variables"));
            }
            let known = self
                .known(input, &state, &texts, fingerprints)
                .ok_or_else(|| format!("`{place}` is not what the run could read"))?;
            // The programs of examples are gone: their sources tell what they do.
            let is_text = !matches!(input.state, InputState::Link(_) | InputState::Listing(_));
            let is_other = is_library(&input.path) || is_system_header(&input.path);
            let is_source = is_doc && is_text && !is_other && !known.is_program;
            if is_source && self.source_iterates(input, &state, fingerprints) {
                return Err(format!("`{place}`: it may go through all variables"));
            }
            if input.path.ends_with("printenv") {
                return Err(format!("`{place}` prints all variables"));
            }
            if let Some(why) = known.any
                && !(is_toolchain && why == GOES_THROUGH_ALL)
            {
                return Err(format!("`{place}`: {why}"));
            }
            if is_built && known.is_stripped {
                return Err(format!("`{place}` has no symbols"));
            }
            let is_foreign_program = known.is_program && !is_built;
            let may_print_all =
                is_foreign_program && !is_toolchain && !is_shared_object(&input.path);
            texts.retain(|text| {
                let is_found = known.found.get(text) == Some(&true);
                // What others have built looks programs up by it.
                let counts = is_found && !(is_foreign_program && text == PATH)
                    || may_print_all && TEXTS_OF_PACKAGE.contains(&&**text);
                if counts {
                    found.insert(text.clone(), place.to_string());
                }
                !counts
            });
        }
        Ok(found)
    }

    /// Whether the programs that are compiled with a library may have code of it that goes through all
    /// variables: its generic functions, or what a macro makes.
    fn may_give_iteration(
        &self,
        input: &Input,
        state: &Digest,
        fingerprints: &mut Fingerprints,
    ) -> bool {
        if input.path.extension() == Some("so".as_ref()) {
            let texts = [ALL_IN_A_MACRO.to_owned()].into();
            let known = self.known(input, state, &texts, fingerprints);
            return known.is_none_or(|known| known.found.get(ALL_IN_A_MACRO) != Some(&false));
        }
        let of_library = |path: &Path| sources_iterate(path, self.root);
        self.may_iterate(SOURCES_OF_LIBRARY, input, state, fingerprints, of_library)
    }

    /// Whether sources may go through all variables, as `look` finds them to do; it is remembered for
    /// this kind of things in this state.
    fn may_iterate(
        &self,
        kind: &str,
        input: &Input,
        state: &Digest,
        fingerprints: &mut Fingerprints,
        look: impl FnOnce(&Path) -> Option<bool>,
    ) -> bool {
        let memo = iteration_memo(kind, state);
        if let Some(known) = self.cache.memo(&memo).or_else(|| self.told.get(&memo).cloned()) {
            return known.found.get(ALL_IN_A_MACRO) != Some(&false);
        }
        if !fingerprints.holds(self.root, input) {
            return true;
        }
        let iterates = look(&self.root.join(&input.path));
        let Some(iterates) = iterates.filter(|_| fingerprints.holds(self.root, input)) else {
            return true;
        };
        self.cache.store_memo(&memo, &known_iteration(iterates));
        iterates
    }

    /// Whether examples that are compiled with a library or a source may have code of it that goes
    /// through all variables, under the memo that says so. `None` where the record does not depend on that.
    pub(super) fn iteration_of(
        &self,
        record: &Record,
        input: &Input,
        fingerprints: &mut Fingerprints,
    ) -> Option<(Digest, bool)> {
        let state = content_of(&input.state)?;
        if record.targets.iter().any(|target| target.id.kind != TargetKind::Doc) {
            return None;
        }
        let end = input.path.extension().and_then(OsStr::to_str);
        let (kind, iterates) = match end {
            Some("rs") => (SOURCE, self.source_iterates(input, &state, fingerprints)),
            Some("rlib" | "rmeta") => {
                (SOURCES_OF_LIBRARY, self.may_give_iteration(input, &state, fingerprints))
            }
            _ => return None,
        };
        Some((iteration_memo(kind, &state), iterates))
    }

    /// Whether a source may go through all variables.
    fn source_iterates(
        &self,
        input: &Input,
        state: &Digest,
        fingerprints: &mut Fingerprints,
    ) -> bool {
        let has_words = |path: &Path| Some(has_word_of(&std::fs::read(path).ok()?, &WORDS_FOR_ALL));
        self.may_iterate(SOURCE, input, state, fingerprints, has_words)
    }

    /// Which variables something can name, of those that are set here and those that are well known.
    /// `None` if it is in another state now.
    pub(super) fn mentions_of(
        &self,
        input: &Input,
        asked: &AskedEnvironment,
        fingerprints: &mut Fingerprints,
    ) -> Option<KnownMentions> {
        let Some(state) = content_of(&input.state) else { return Some(KnownMentions::default()) };
        let names = asked.variables.keys().map(String::as_str).chain(COMMON);
        let texts = names.filter_map(text_of).chain([ALL_IN_A_MACRO.to_owned()]).collect();
        self.known(input, &state, &texts, fingerprints)
    }

    fn is_built(&self, path: &Path) -> bool {
        let path = self.root.join(path);
        self.target_dirs.iter().any(|dir| path.starts_with(dir))
    }

    /// What is known of a file in this state; it is searched for what is not known. `None` if it is
    /// in another state now.
    fn known(
        &self,
        input: &Input,
        state: &Digest,
        texts: &BTreeSet<String>,
        fingerprints: &mut Fingerprints,
    ) -> Option<KnownMentions> {
        let remembered = self.known.borrow().get(state).cloned();
        let mut known = remembered.unwrap_or_else(|| self.cache.memo(state).unwrap_or_default());
        self.known.borrow_mut().entry(*state).or_insert_with(|| known.clone());
        if texts.iter().all(|text| known.found.contains_key(text)) {
            return Some(known);
        }
        let told = self.told.get(state).map(|told| with_told(&known, told));
        if let Some(told) =
            told.filter(|told| texts.iter().all(|text| told.found.contains_key(text)))
        {
            return Some(told);
        }
        // One more text costs nothing beside the reading: the next terminal asks about these.
        let texts = texts.iter().cloned().chain(well_known_texts());
        let new: BTreeSet<String> = texts.filter(|text| !known.found.contains_key(text)).collect();
        let new: Vec<&str> = new.iter().map(String::as_str).collect();
        if !fingerprints.holds(self.root, input) {
            return None;
        }
        let path = self.root.join(&input.path);
        let scope = if known.found.is_empty() { SearchScope::All } else { SearchScope::Texts };
        let Mentions { found, any, is_stripped, is_program } =
            search_in(&path, &new, scope).ok()?;
        if !fingerprints.holds(self.root, input) {
            return None;
        }
        known.found.extend(new.into_iter().map(str::to_owned).zip(found));
        if scope == SearchScope::All {
            known.any = any.map(str::to_owned);
            (known.is_stripped, known.is_program) = (is_stripped, is_program);
        }
        self.cache.store_memo(state, &known);
        self.known.borrow_mut().insert(*state, known.clone());
        Some(known)
    }
}

/// Why another search path gives other programs than the run found.
pub(super) fn programs_differ(
    programs: Option<&BTreeMap<String, Vec<OsText>>>,
    asked: &AskedEnvironment,
) -> Option<String> {
    let Some(programs) = programs else {
        return Some("the run listed one of its folders, or looked in a relative one".to_owned());
    };
    programs.iter().find_map(|(name, then)| match asked.places(name) {
        None => Some(format!("one of its folders cannot be searched for `{name}`")),
        Some(now) if now != *then => Some(format!("`{name}` is found elsewhere")),
        Some(_) => None,
    })
}

/// Whether a file is a library that a compiler reads, whose symbols tell what it does.
fn is_library(path: &Path) -> bool {
    path.extension().is_some_and(|end| end == "rlib" || end == "rmeta" || end == "so")
}

/// Whether a source of a library has a word that may go through all variables; `None` if its sources
/// are not known, or have changed since it was compiled.
fn sources_iterate(library: &Path, root: &Path) -> Option<bool> {
    let made = library.metadata().ok()?.modified().ok()?;
    let mut iterates = false;
    for source in sources_of_library(library, root)? {
        let stamps = [PathStamp::of(&source), PathStamp::followed(&source)];
        if !stamps.iter().all(|stamp| stamp.kind().is_some() && stamp.is_settled(made)) {
            return None;
        }
        iterates |= has_word_of(&std::fs::read(&source).ok()?, &WORDS_FOR_ALL);
    }
    Some(iterates)
}

/// What is remembered of a source, or of those of a library, that was searched for words for all variables.
const SOURCE: &str = "source";
const SOURCES_OF_LIBRARY: &str = "sources of a library";

/// Under which digest it is remembered whether things of a kind, in this state, have such words.
fn iteration_memo(kind: &str, state: &Digest) -> Digest {
    let mut digester = Digester::new("words for all variables 1");
    digester.field(kind.as_bytes()).digest(state);
    digester.finish()
}

/// What is known of something that has such words, or has not.
pub(super) fn known_iteration(iterates: bool) -> KnownMentions {
    let found = [(ALL_IN_A_MACRO.to_owned(), iterates)].into();
    KnownMentions { found, ..KnownMentions::default() }
}

/// Whether a library is that of one of these targets.
fn is_of(library: &Path, targets: &[TargetReport]) -> bool {
    let name = library.file_name().unwrap_or_default().to_string_lossy();
    targets.iter().any(|TargetReport { id, .. }| {
        let rest =
            name.strip_prefix("lib").and_then(|n| n.strip_prefix(&id.target.replace('-', "_")));
        rest.is_some_and(|rest| rest.starts_with(['-', '.']))
    })
}

/// The text to look for; `None` if the variable counts anyway.
fn text_of(name: &str) -> Option<String> {
    match relevance(OsStr::new(name)) {
        Relevance::IfNamed(text) => Some(text),
        Relevance::SearchPath => Some(PATH.to_owned()),
        // It is beside a key only if it names the default.
        Relevance::Always if name == "CARGO_TARGET_DIR" => Some(name.to_ascii_lowercase()),
        Relevance::Always => text_of_package(OsStr::new(name)).map(str::to_owned),
    }
}

/// The digest that stands for what a run could read of an input.
pub(super) fn content_of(state: &InputState) -> Option<Digest> {
    match state {
        InputState::Digest(digest)
        | InputState::Listing(digest)
        | InputState::Link(digest)
        | InputState::File(digest)
        | InputState::Source(digest)
        | InputState::Program(digest)
        | InputState::Measured(digest)
        | InputState::Same(digest) => Some(*digest),
        _ => None,
    }
}

mod package_variables;
mod search;
mod shown;
#[cfg(test)]
mod tests;
mod values;
