//! Programs that cargo built and that tests start: they count by what their `main` reaches where their
//! content differs.
//!
//! A test sees of a program what that does: its output, its exit status, the files that it touches. The
//! observer sees every file that one of its processes opens, its own included. So a program that was
//! built anew and reaches what it reached is as good as the one before, unless its processes have seen
//! more of it:
//!
//! - its length, if one of them has asked for it, and its permissions;
//! - the lines of its panics, if a process has told of one at its error output.
//!
//! A program that was read counts by its whole content, as any file does.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use super::fingerprint::{Aspect, Fingerprints, aspect_of, describe_change};
use super::unreached_base::{
    BuiltPrograms, StartedProgram, StartedPrograms, check_size, reader_of, stamp_of,
};
use crate::cache::{Input, InputState, Record};
use crate::model::Digest;
use crate::reach::{Masking, Policy, ReachReader, TestIdentity};

/// What has come in the place of the programs that a run started.
#[derive(Debug)]
pub(super) struct ReplacedPrograms {
    /// Each as it was and as it is now.
    programs: Vec<(Input, Input)>,
    /// Whether the run must not have told of a panic.
    needs_quiet: bool,
    /// What is to be said of them; nothing if all are as they were.
    pub(super) note: String,
    /// One that counts as another one, and why.
    different: Option<(PathBuf, String)>,
}

impl ReplacedPrograms {
    /// Whether `record`, of another run of the same tests, is of the same use.
    pub(super) fn is_like(&self, record: &Record) -> bool {
        self.programs.is_empty() || record.is_quiet || !self.needs_quiet
    }

    /// Whether the program at this place is one that counts as another one.
    pub(super) fn is_different(&self, path: &Path) -> bool {
        self.different.as_ref().is_some_and(|(different, _)| different == path)
    }

    /// `why` a record is not as it was, with the reason for which its program counts as another one.
    pub(super) fn explain(&self, why: String) -> String {
        match &self.different {
            Some((path, reason)) if why == describe_change(path) => format!("{why}: {reason}"),
            _ => why,
        }
    }

    /// The record with the programs as they are now, for tests that reach what they reached.
    pub(super) fn record_of(&self, record: &Record) -> Record {
        let mut record = Record { is_by_reach: true, ..record.clone() };
        for input in &mut record.inputs {
            let is_it = |(then, _): &&(Input, Input)| {
                (&then.path, then.state) == (&input.path, input.state)
            };
            if let Some((_, now)) = self.programs.iter().find(is_it) {
                *input = now.clone();
            }
        }
        record
    }
}

/// Whether the input is a program that nobody has read as a file.
pub(super) fn is_program(input: &Input) -> bool {
    matches!(input.state, InputState::Program(_) | InputState::Measured(_))
}

/// Reads what programs reach.
pub(super) struct StartedReader<'a> {
    pub(super) root: &'a Path,
    pub(super) built: BuiltPrograms<'a>,
    pub(super) fingerprints: &'a mut Fingerprints,
    pub(super) reader: &'a mut Option<ReachReader>,
    /// Programs of which it is certain that no crate in them was optimized.
    pub(super) unoptimized: &'a BTreeSet<PathBuf>,
    pub(super) known: &'a mut KnownPrograms,
}

/// What is known of programs, each with the stamp that it had: several targets start the same ones.
#[derive(Debug, Default)]
pub(super) struct KnownPrograms(BTreeMap<(PathBuf, [bool; 2]), (Digest, StartedProgram)>);

impl StartedReader<'_> {
    /// What the programs among the inputs of `record` reach, as far as they are those that ran.
    pub(super) fn started(&mut self, record: &Record) -> StartedPrograms {
        let is_quiet = record.is_quiet;
        let mut programs = BTreeMap::new();
        for input in record.inputs.iter().filter(|input| is_program(input)) {
            let stamp = stamp_of(&self.root.join(&input.path));
            let found = self.look(input, is_quiet);
            // Whether it is what ran is asked last, so that it was so when it was read.
            let is_it = self.fingerprints.holds(self.root, input)
                && stamp_of(&self.root.join(&input.path)) == stamp;
            let found = if is_it { found } else { Err("it was built anew meanwhile".to_owned()) };
            programs.insert(input.path.clone(), found);
        }
        StartedPrograms { is_quiet, programs }
    }

    /// Those of the programs among the inputs of `record` that are others now, and reach what they reached.
    pub(super) fn replaced(&mut self, record: &Record, then: &StartedPrograms) -> ReplacedPrograms {
        let (mut programs, mut names, mut moved) = (Vec::new(), Vec::new(), true);
        let mut different = None;
        for input in record.inputs.iter().filter(|input| is_program(input)) {
            if self.fingerprints.holds(self.root, input) {
                continue;
            }
            let (before, now, state) = match self.same(input, then) {
                Ok(same) => same,
                // The record does not answer then, whatever the others are.
                Err(why) => {
                    different = Some((input.path.clone(), why));
                    break;
                }
            };
            moved &= before.strict != now.strict;
            let name = input.path.file_name().unwrap_or_default();
            names.push(format!("`{}`", name.to_string_lossy()));
            programs.push((input.clone(), state));
        }
        let note = match names.len() {
            0 => String::new(),
            _ => {
                let lines = if moved { ": only lines moved" } else { "" };
                let verb = if names.len() == 1 { "reaches" } else { "reach" };
                let it = if names.len() == 1 { "it" } else { "they" };
                format!(", and {} {verb} what {it} reached{lines}", names.join(", "))
            }
        };
        ReplacedPrograms { programs, needs_quiet: then.is_quiet, note, different }
    }

    /// The program of then and of now, and the input that it is now, if it reaches what it reached.
    ///
    /// # Errors
    /// Why it counts as another one.
    fn same<'t>(
        &mut self,
        input: &Input,
        then: &'t StartedPrograms,
    ) -> Result<(&'t StartedProgram, StartedProgram, Input), String> {
        let before = then.programs.get(&input.path).ok_or("it was not looked at")?.as_ref()?;
        let path = self.root.join(&input.path);
        let aspect = aspect_of(&input.state).ok_or("it is no program")?;
        let state = self.fingerprints.read(self.root, &path, aspect)?;
        let now = self.look(input, then.is_quiet)?;
        let why = match before {
            before if now.reached != before.reached => "it reaches something else",
            before if now.length != before.length => {
                "its length is another one, which was asked for"
            }
            before if now.permissions != before.permissions => "its permissions are others",
            _ if self.fingerprints.read(self.root, &path, aspect)? != state => {
                "it was built anew meanwhile"
            }
            _ => return Ok((before, now, state)),
        };
        Err(why.to_owned())
    }

    /// What the program at the place of `input` reaches now.
    fn look(&mut self, input: &Input, is_quiet: bool) -> Result<StartedProgram, String> {
        let path = self.root.join(&input.path);
        check_size(&path)?;
        let permissions = self.fingerprints.read(self.root, &path, Aspect::Kind)?.state;
        let stamp = stamp_of(&path);
        let is_measured = matches!(input.state, InputState::Measured(_));
        let masks = is_quiet && self.unoptimized.contains(&path);
        let (key, is) = ((path.clone(), [masks, is_measured]), permissions);
        if let Some((then, known)) = self.known.0.get(&key)
            && *then == stamp
            && known.permissions == is
        {
            return Ok(known.clone());
        }
        let reader = reader_of(self.reader, self.built.sysroot)?;
        let reached = reader.main(&path);
        reader.end_round();
        let reached = reached.map_err(|error| error.to_string())?;
        let masking = if masks { Masking::All } else { Masking::Nothing };
        // The programs that it starts in turn, itself among them, are inputs of their own.
        let programs = Digest::from_bytes([0; 32]);
        let policy = Policy { masking, programs, starts_itself: false };
        let reached = |policy| match reached.identity(&policy) {
            TestIdentity::Reached(digest) => Ok(digest),
            TestIdentity::WholeProgram(why) => Err(why),
        };
        let strict = reached(Policy { masking: Masking::Nothing, ..policy })?;
        let reached = reached(policy)?;
        let length = std::fs::metadata(&path).map_err(|error| error.to_string())?.len();
        let length = is_measured.then_some(length);
        if stamp_of(&path) != stamp {
            return Err("it was built anew meanwhile".to_owned());
        }
        let found = StartedProgram { reached, strict, length, permissions: is };
        self.known.0.insert(key, (stamp, found.clone()));
        Ok(found)
    }
}
