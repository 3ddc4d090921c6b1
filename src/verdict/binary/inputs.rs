//! From what a run was seen to consult to what its record depends on, or why there can be none.

use std::collections::BTreeSet;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use super::super::fingerprint::{Aspect, Fingerprints, kind_of};
use super::super::patterns::{Excluded, Trusted};
use super::key::Subject;
use super::uncacheable::Uncacheable;
use crate::cache::{Input, InputState};
use crate::observer::{Observation, PathAccess, PathClass, Problem, Uses};
use crate::workspace::{FileKind, PathStamp};

/// So many reasons are told; the others are like them.
const REASONS: usize = 3;

/// What can be kept of a green run.
#[derive(Clone, Debug)]
pub(in crate::verdict) enum Cacheability {
    /// It depends on these, and on nothing else.
    Observed(Vec<Input>),
    /// Not all that it depends on is known: every file of the workspace counts, and these.
    WholeTree(Vec<Input>),
    /// Nothing, at no level: what it depends on was changing, or is nothing that a record can hold.
    Uncacheable(Vec<Uncacheable>),
}

/// What is known of a run besides what was seen of it.
#[derive(Debug)]
pub(super) struct InputJudge {
    pub(super) root: PathBuf,
    pub(super) subject: Subject,
    /// Where cargo builds.
    pub(super) target_dirs: Vec<PathBuf>,
    /// Folders of the toolchain, which the key tells of.
    pub(super) covered: Vec<PathBuf>,
    /// Where temporary files go.
    pub(super) temporary: PathBuf,
    /// What the project says never decides.
    pub(super) excluded: Excluded,
    /// Outside services that the project vouches for.
    pub(super) trusted: Trusted,
}

impl InputJudge {
    /// Judges a run that was started at `started` and has ended.
    pub(super) fn judge(
        &self,
        seen: &Observation,
        started: SystemTime,
        fingerprints: &mut Fingerprints,
    ) -> Cacheability {
        let mut doubts = Vec::new();
        for peer in &seen.peers {
            let address = peer.address.to_string();
            if !self.trusted.vouches_for(&address) {
                doubts.push(Uncacheable::Peer(address));
            }
        }
        if seen.left_behind {
            doubts.push(Uncacheable::LeftBehind);
        }
        let mut inputs = Vec::new();
        // What was seen counts all the same: the tree's digest tells of nothing outside.
        let mut with_tree = !seen.is_complete();
        // Another process's `/proc` is perhaps the run's own, in a place that we do not see.
        let is_elsewhere =
            seen.problems.iter().any(|problem| matches!(problem, Problem::Namespace(_)));
        if doubts.is_empty() {
            doubts.extend(self.program(seen, fingerprints).err());
        }
        let cleared = self.cleared(seen);
        for (path, what) in seen.inputs() {
            // Nobody reads more than a few.
            if doubts.len() >= REASONS {
                break;
            }
            if path.strip_prefix(&self.root).is_ok_and(|path| self.excluded.holds(path)) {
                continue;
            }
            let is_leftover = || path.ancestors().any(|folder| cleared.contains(folder));
            if what.is_scratch() && is_leftover() {
                continue;
            }
            // What was not seen of the run may have made it, and may change it.
            let own = !seen.is_complete() && self.may_be_its_own(path, &what.first, started);
            if own && what.uses.any(Uses::OUTPUT) {
                continue;
            }
            match self.input(path, what, started, fingerprints) {
                Ok(input) => inputs.extend(input),
                Err(Uncacheable::NoFile(_)) if is_elsewhere => {}
                Err(Uncacheable::Changed(_) | Uncacheable::Young(_)) if own => {}
                // What cargo has just made is decided by the tree.
                Err(Uncacheable::Young(_)) if self.is_product(path) => with_tree = true,
                Err(doubt) => doubts.push(doubt),
            }
        }
        match (doubts.is_empty(), with_tree) {
            (false, _) => Cacheability::Uncacheable(doubts),
            (true, true) => Cacheability::WholeTree(without_implied(inputs)),
            (true, false) => Cacheability::Observed(without_implied(inputs)),
        }
    }

    /// Whether the program that ran is the one that was digested.
    fn program(
        &self,
        seen: &Observation,
        fingerprints: &mut Fingerprints,
    ) -> Result<(), Uncacheable> {
        let Some(program) = &self.subject.program else { return Ok(()) };
        let used = match seen.paths.get(&program.path) {
            Some(used) => used,
            None if seen.is_complete() => return Err(Uncacheable::Program),
            // That it was executed is what was missed.
            None => return Ok(()),
        };
        let now = fingerprints.read(Path::new(""), &program.path, Aspect::Program);
        let now = now.map_err(|_| Uncacheable::Program)?;
        if used.first == program.stamp && now.state == program.state {
            Ok(())
        } else {
            Err(Uncacheable::Program)
        }
    }

    fn is_made(&self, path: &Path) -> bool {
        self.target_dirs.iter().any(|dir| path.starts_with(dir))
    }

    /// Whether cargo has made it, and not a test: those have a folder of their own there.
    fn is_product(&self, path: &Path) -> bool {
        let mut below = self.target_dirs.iter().filter_map(|dir| path.strip_prefix(dir).ok());
        below.any(|below| !below.starts_with("tmp"))
    }

    /// Whether only results and temporary files lie there.
    fn is_for_results(&self, path: &Path) -> bool {
        self.is_made(path) || (path.starts_with(&self.temporary) && !path.starts_with(&self.root))
    }

    /// Whether a run that was started at `started` may have made this for itself: processes, and
    /// temporary files that were there when they were first seen, and are no older than it.
    fn may_be_its_own(&self, path: &Path, first: &PathStamp, started: SystemTime) -> bool {
        let process = path.strip_prefix("/proc").ok().and_then(|below| below.iter().next());
        let is_process = process.is_some_and(|name| name.as_bytes().iter().all(u8::is_ascii_digit));
        let is_young = first.kind().is_some() && !first.is_settled(started);
        is_process || (is_young && self.is_for_results(path) && !self.is_product(path))
    }

    /// The folders for results that the run cleared away or made anew: what an earlier run left
    /// there is nothing that it depends on. Only its asking whether the folder was there at all
    /// is passed over.
    fn cleared<'a>(&self, seen: &'a Observation) -> BTreeSet<&'a Path> {
        let is_cleared = |(path, seen): &(&Path, &PathAccess)| {
            seen.is_scratch()
                && self.is_for_results(path)
                && (seen.first.kind() == Some(FileKind::Folder)
                    || (seen.first == PathStamp::Absent
                        && PathStamp::of(*path).kind() == Some(FileKind::Folder)))
        };
        seen.inputs().filter(is_cleared).map(|(path, _)| path).collect()
    }

    /// One input; none if the path does not count.
    fn input(
        &self,
        path: &Path,
        seen: &PathAccess,
        started: SystemTime,
        fingerprints: &mut Fingerprints,
    ) -> Result<Option<Input>, Uncacheable> {
        let short = || path.strip_prefix(&self.root).unwrap_or(path).display().to_string();
        if let PathStamp::Unknown(error) = seen.first {
            let error = std::io::Error::from_raw_os_error(error);
            return Err(Uncacheable::Unreadable(format!("`{}`: {error}", short())));
        }
        let own = self.subject.program.as_ref().is_some_and(|program| program.path == path);
        if own && !seen.uses.any(Uses::READ.with(Uses::ATTRIBUTES)) {
            // In the key.
            return Ok(None);
        }
        if seen.is_scratch() && self.is_for_results(path) {
            // Whether it was there counts, and not whether it is there now: the run saw to that.
            return Ok(Some(self.presence(path, seen)));
        }
        if seen.place == PathClass::Library
            && self.covered.iter().any(|folder| path.starts_with(folder))
            && !seen.uses.any(Uses::READ.with(Uses::LISTED).with(Uses::EXECUTED))
        {
            // Where the loader and the linker look for this and that in the toolchain's folders,
            // which are what the toolchain's identity in the key says.
            return Ok(None);
        }
        let way = self.way(path, seen).ok_or_else(|| Uncacheable::NoFile(short()))?;
        let changed = || Uncacheable::Changed(short());
        let now = PathStamp::of(path);
        if way == Aspect::Kind {
            // Times of devices, and of folders in which something is made, mean nothing.
            if kind_of(&now) != kind_of(&seen.first) {
                return Err(changed());
            }
        } else {
            if !seen.holds(&now) {
                return Err(changed());
            }
            if !seen.first.is_settled(started) {
                return Err(Uncacheable::Young(short()));
            }
        }
        let input = fingerprints.read(&self.root, path, way).map_err(Uncacheable::Unreadable)?;
        if way != Aspect::Kind && PathStamp::of(path) != now {
            return Err(changed());
        }
        Ok(Some(input))
    }

    /// How a path counts; `None` if nothing can describe what was learnt from it.
    fn way(&self, path: &Path, seen: &PathAccess) -> Option<Aspect> {
        let read = seen.uses.any(Uses::READ.with(Uses::LISTED).with(Uses::EXECUTED));
        let Some(kind) = seen.first.kind() else { return Some(Aspect::Content) };
        if kind == FileKind::Symlink {
            return Some(Aspect::Content);
        }
        if seen.place == PathClass::Machine {
            // The terminal: there or not, and nobody types into a test.
            return (!read || path == Path::new("/dev/tty")).then_some(Aspect::Kind);
        }
        if seen.uses.any(Uses::ATTRIBUTES) {
            return Some(Aspect::Same);
        }
        match kind {
            FileKind::Folder if seen.uses.any(Uses::LISTED) => Some(Aspect::Names),
            FileKind::Folder | FileKind::Socket => Some(Aspect::Kind),
            // The system's libraries and the toolchain's: large, and replaced, not edited.
            FileKind::File if seen.place == PathClass::Library => Some(Aspect::Same),
            FileKind::File if self.is_made(path) && !seen.uses.any(Uses::READ) => {
                Some(Aspect::Program)
            }
            // Read by whoever links it: rustdoc.
            FileKind::File
                if self.is_product(path) && path.extension() == Some("rlib".as_ref()) =>
            {
                Some(Aspect::Program)
            }
            FileKind::File => Some(Aspect::Content),
            _ => (!read).then_some(Aspect::Kind),
        }
    }

    fn presence(&self, path: &Path, seen: &PathAccess) -> Input {
        let state = kind_of(&seen.first);
        let path = path.strip_prefix(&self.root).unwrap_or(path).to_owned();
        Input { path, state, proof: None }
    }
}

/// Less what is not there because the folder around it is not there. The inputs are sorted by
/// their paths' parts.
fn without_implied(inputs: Vec<Input>) -> Vec<Input> {
    let mut kept: Vec<Input> = Vec::with_capacity(inputs.len());
    let mut missing: Option<PathBuf> = None;
    for input in inputs {
        let implied = missing.as_ref().is_some_and(|folder| input.path.starts_with(folder));
        if !(implied && input.state == InputState::Absent) {
            missing = (input.state == InputState::Absent).then(|| input.path.clone());
            kept.push(input);
        }
    }
    kept
}

#[cfg(test)]
mod tests;
