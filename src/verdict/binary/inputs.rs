//! From what a run was seen to consult to what its record depends on, or why there can be none.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use super::cargo_builds::CargoBuilds;
use super::key::Subject;
use super::uncacheable::Uncacheable;
use crate::cache::{Input, InputState};
use crate::model::TargetKind;
use crate::observer::{Address, Observation, PathAccess, PathClass, Reach, Uses, is_of_linker};
use crate::verdict::fingerprint::{Aspect, Fingerprints, REFUSED_FOLDER, digest_of_stamp, kind_of};
use crate::verdict::patterns::{Excluded, Trusted};
use crate::verdict::permissions::closed_folder;
use crate::workspace::{FileKind, PathStamp};

/// So many reasons are told; the others are like them.
const REASONS: usize = 3;

/// Whether a green run is cacheable, and by which inputs.
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
    /// A folder of our own for the run, which does not count.
    pub(super) own: Option<PathBuf>,
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
    /// Whether tests may be left out by what they reach, for which panics must be known.
    pub(super) selects: bool,
}

impl InputJudge {
    /// Judges a run that was started at `started` and has ended.
    pub(super) fn judge(
        &self,
        seen: &Observation,
        started: SystemTime,
        fingerprints: &mut Fingerprints,
    ) -> Cacheability {
        let (mut doubts, mut inputs) = (Vec::new(), Vec::new());
        // No digest covers what an unseen call reads: ignored files, products, files elsewhere.
        doubts.extend(seen.problems.iter().map(|why| Uncacheable::NotSeen(why.to_string())));
        for peer in &seen.peers {
            let address = peer.address.to_string();
            if self.trusted.vouches_for(&address) {
                inputs.push(ignored(address.into(), InputState::Trusted));
                continue;
            }
            match (&peer.address, peer.reach) {
                (Address::Inet(address), Reach::Nobody) => inputs.push(refused(*address)),
                _ => doubts.push(Uncacheable::Peer(address)),
            }
        }
        if seen.left_behind {
            doubts.push(Uncacheable::LeftBehind);
        }
        // A run that observation has changed is repeated unobserved.
        let mut with_tree = !seen.interference.is_empty();
        if doubts.is_empty() {
            doubts.extend(self.program(seen, fingerprints).err());
        }
        let cleared = self.cleared(seen);
        let builds = CargoBuilds::of(seen, &self.target_dirs);
        for (path, what) in seen.inputs() {
            // Nobody reads more than a few.
            if doubts.len() >= REASONS {
                break;
            }
            if let Ok(below) = path.strip_prefix(&self.root)
                && self.excluded.holds(below)
            {
                inputs.push(ignored(below.to_owned(), InputState::Excluded));
                continue;
            }
            let is_own = self.own.as_ref().is_some_and(|own| path.starts_with(own));
            if is_own || builds.keep_books_at(path) {
                continue;
            }
            let is_leftover = || path.ancestors().any(|folder| cleared.contains(folder));
            if what.is_scratch() && is_leftover() {
                continue;
            }
            if what.uses.and(Uses::INPUT) == Uses::ASKED {
                match self.answers(path, what, &seen.libraries, started, fingerprints) {
                    Ok(answers) => inputs.extend(answers),
                    Err(doubt) => doubts.push(doubt),
                }
                continue;
            }
            match self.input(path, what, started, fingerprints) {
                Ok(input) => inputs.extend(input),
                // What cargo has just made is decided by the tree.
                Err(Uncacheable::Young(_)) if self.is_product(path) => with_tree = true,
                Err(doubt) => doubts.push(doubt),
            }
        }
        let mut inputs = without_implied(inputs);
        match self.outputs(seen, fingerprints) {
            Ok(outputs) => inputs.extend(outputs),
            Err(doubt) => doubts.push(doubt),
        }
        match (doubts.is_empty(), with_tree) {
            (false, _) => Cacheability::Uncacheable(doubts),
            (true, true) => Cacheability::WholeTree(inputs),
            (true, false) => Cacheability::Observed(inputs),
        }
    }

    /// What the run left in the workspace. An answer in its place leaves nothing there, so that it
    /// must be there already.
    fn outputs(
        &self,
        seen: &Observation,
        fingerprints: &mut Fingerprints,
    ) -> Result<Vec<Input>, Uncacheable> {
        let mut outputs = Vec::new();
        for (path, used) in seen.used(Uses::OUTPUT) {
            let Ok(below) = path.strip_prefix(&self.root) else { continue };
            // The workspace itself may lie in the temporary folder.
            let is_temporary =
                self.temporary.starts_with(&self.root) && path.starts_with(&self.temporary);
            let is_left_alone = self.is_made(path)
                || is_temporary
                || self.excluded.holds(below)
                || below.iter().any(|name| name == ".git");
            if is_left_alone || used.uses.any(Uses::READ) {
                continue;
            }
            let aspect = match PathStamp::of(path).kind() {
                Some(FileKind::File | FileKind::Symlink) => Aspect::Content,
                Some(FileKind::Folder) => Aspect::Kind,
                // Made and removed again.
                None if used.first == PathStamp::Absent => continue,
                None => Aspect::Content,
                Some(_) => continue,
            };
            let output = fingerprints.read(&self.root, path, aspect);
            outputs.push(output.map_err(Uncacheable::Unreadable)?);
        }
        Ok(outputs)
    }

    /// Whether the program that ran is the one that was digested.
    fn program(
        &self,
        seen: &Observation,
        fingerprints: &mut Fingerprints,
    ) -> Result<(), Uncacheable> {
        let Some(program) = &self.subject.program else { return Ok(()) };
        let used = seen.paths.get(&program.path).ok_or(Uncacheable::Program)?;
        let now = fingerprints.read(&self.root, &program.path, Aspect::Program);
        let now = now.map_err(|_| Uncacheable::Program)?;
        if used.first.without_links() == program.stamp.without_links() && now.state == program.state
        {
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
    pub(super) fn is_for_results(&self, path: &Path) -> bool {
        self.is_made(path) || (path.starts_with(&self.temporary) && !path.starts_with(&self.root))
    }

    /// The folders for results that existed and that the run cleared: it does not depend on what an
    /// earlier run left there.
    fn cleared<'a>(&self, seen: &'a Observation) -> BTreeSet<&'a Path> {
        let is_cleared = |(path, seen): &(&Path, &PathAccess)| {
            seen.is_scratch()
                && self.is_for_results(path)
                && seen.first.kind() == Some(FileKind::Folder)
                && seen.uses.any(Uses::REMOVED)
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
            if error == rustix::io::Errno::ACCESS.raw_os_error()
                && closed_folder(path).is_some_and(|folder| folder.is_settled(started))
            {
                // Nor could the run, which is the same user.
                let path = path.strip_prefix(&self.root).unwrap_or(path).to_owned();
                return Ok(Some(Input { path, state: InputState::Denied, proof: None }));
            }
            let error = std::io::Error::from_raw_os_error(error);
            return Err(Uncacheable::Unreadable(format!("`{}`: {error}", short())));
        }
        let own = self.subject.program.as_ref().is_some_and(|program| program.path == path);
        let more = Uses::READ.with(Uses::ATTRIBUTES).with(Uses::PROBED);
        if own && !seen.uses.any(more.with(Uses::EXECUTED_AGAIN).with(Uses::LINKED)) {
            // The key has its loadable parts. A test that starts it again depends on all of them, whatever
            // the test reaches itself.
            return Ok(None);
        }
        let learnt = seen.uses.and(Uses::INPUT);
        if Uses::OVERWRITTEN.contains(learnt)
            && matches!(seen.first.kind(), None | Some(FileKind::File))
        {
            let path = path.strip_prefix(&self.root).unwrap_or(path).to_owned();
            return Ok(Some(Input { path, state: InputState::Overwritable, proof: None }));
        }
        let needs_name = Uses::NAME.contains(learnt);
        let is_leftover = seen.first == PathStamp::Absent || self.is_for_results(path);
        if needs_name || (seen.is_scratch() && is_leftover) {
            // Its state before the run counts. Its state now is the run's own doing.
            return Ok(Some(self.presence(path, seen)));
        }
        if seen.class == PathClass::Library
            && self.covered.iter().any(|folder| path.starts_with(folder))
            && !seen.uses.any(Uses::READ.with(Uses::LISTED).with(Uses::EXECUTED))
            && is_of_linker(path)
        {
            // Where the loader and the linker look for libraries in the toolchain's folders, which are what
            // the toolchain's identity in the key says. It does not say which components there are.
            return Ok(None);
        }
        let way = self.way(path, seen).ok_or_else(|| Uncacheable::NoFile(short()))?;
        let changed = || Uncacheable::Changed(short());
        let now = PathStamp::of(path);
        if seen.class == PathClass::Setting && way == Aspect::Content {
            if seen.text.is_some() && seen.text != std::fs::read(path).ok() {
                return Err(changed());
            }
            return fingerprints
                .read(&self.root, path, way)
                .map(Some)
                .map_err(Uncacheable::Unreadable);
        }
        if way == Aspect::Kind {
            // Times of devices, and of folders in which something is made, mean nothing.
            if kind_of(&now) != kind_of(&seen.first) {
                return Err(changed());
            }
        } else {
            // Cargo never writes into a product again. A hard link to it changes only its ctime.
            let by_content = self.is_product(path) || seen.uses.any(Uses::LINKED);
            let by = |stamp: &PathStamp| if by_content { stamp.without_links() } else { *stamp };
            if !(PathAccess { first: by(&seen.first), ..seen.clone() }).holds(&by(&now)) {
                return Err(changed());
            }
            if !by(&seen.first).is_settled(started) {
                return Err(Uncacheable::Young(short()));
            }
        }
        let input = fingerprints.read(&self.root, path, way).map_err(Uncacheable::Unreadable)?;
        if way != Aspect::Kind && PathStamp::of(path) != now {
            return Err(changed());
        }
        Ok(Some(match input.state {
            InputState::File(content) if self.is_compiled_only(path, seen) => {
                Input { state: InputState::Source(content), ..input }
            }
            _ => input,
        }))
    }

    /// What the dynamic loader's cache, which is at `path`, says of the libraries that it may have been asked
    /// for.
    fn answers(
        &self,
        path: &Path,
        seen: &PathAccess,
        names: &BTreeSet<OsString>,
        started: SystemTime,
        fingerprints: &mut Fingerprints,
    ) -> Result<Vec<Input>, Uncacheable> {
        let short = || path.display().to_string();
        let mut read = |name| fingerprints.read(&self.root, &path.join(name), Aspect::Answer);
        let answers = names.iter().map(|name| read(name).map_err(Uncacheable::Unreadable));
        let answers = answers.collect::<Result<_, _>>()?;
        if !seen.holds(&PathStamp::of(path)) {
            return Err(Uncacheable::Changed(short()));
        }
        if !seen.first.is_settled(started) {
            return Err(Uncacheable::Young(short()));
        }
        Ok(answers)
    }

    /// Whether nobody but rustdoc itself has looked at a source.
    fn is_compiled_only(&self, path: &Path, seen: &PathAccess) -> bool {
        let by_compiler = Uses::READ.with(Uses::PROBED);
        self.is_doctest()
            && path.extension() == Some("rs".as_ref())
            && seen.uses.any(Uses::READ)
            && by_compiler.contains(seen.uses)
    }

    /// How a path counts; `None` if nothing can describe what was learnt from it.
    fn way(&self, path: &Path, seen: &PathAccess) -> Option<Aspect> {
        let read = seen.uses.any(Uses::READ.with(Uses::LISTED).with(Uses::EXECUTED));
        let Some(kind) = seen.first.kind() else { return Some(Aspect::Content) };
        if kind == FileKind::Symlink {
            return Some(Aspect::Content);
        }
        if seen.class == PathClass::Setting {
            let listed = seen.uses.any(Uses::LISTED.with(Uses::MODIFIED));
            let way = if read { Aspect::Content } else { Aspect::Kind };
            return (!listed).then_some(way);
        }
        if seen.class == PathClass::Machine {
            // The terminal: there or not, and nobody types into a test.
            return (!read || path == Path::new("/dev/tty")).then_some(Aspect::Kind);
        }
        if seen.uses.any(Uses::ATTRIBUTES) {
            return Some(Aspect::Same);
        }
        match kind {
            // Where rustdoc looks for the libraries that it then reads.
            FileKind::Folder if self.is_doctest() && self.is_product(path) => Some(Aspect::Kind),
            FileKind::Folder if seen.uses.any(Uses::LISTED) => Some(Aspect::Names),
            FileKind::Folder | FileKind::Socket => Some(Aspect::Kind),
            // The system's libraries and the toolchain's: large, and replaced, not edited.
            FileKind::File if seen.class == PathClass::Library => Some(Aspect::Same),
            FileKind::File if self.is_made(path) && !seen.uses.any(Uses::READ) => {
                // Asking for metadata tells the length.
                let is_measured = seen.uses.any(Uses::PROBED);
                Some(if is_measured { Aspect::MeasuredProgram } else { Aspect::Program })
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

    pub(super) fn is_doctest(&self) -> bool {
        self.subject.id.kind == TargetKind::Doc
    }

    /// The state of a path before the run, and what the run has left there instead.
    fn presence(&self, path: &Path, seen: &PathAccess) -> Input {
        let (state, now) = (kind_of(&seen.first), PathStamp::of(path));
        let is_made = seen.uses.any(Uses::OUTPUT) && kind_of(&now) != state;
        let path = path.strip_prefix(&self.root).unwrap_or(path).to_owned();
        Input { path, state, proof: is_made.then(|| digest_of_stamp(&now)) }
    }
}

/// The input that nobody listens at this address of the machine itself. Its path is the one by which
/// shells name a connection; no such file exists.
fn refused(address: SocketAddr) -> Input {
    let path = Path::new(REFUSED_FOLDER).join(address.to_string());
    Input { path, state: InputState::Refused, proof: None }
}

/// What the settings had a run ignore: the record holds as long as they do.
fn ignored(path: PathBuf, state: InputState) -> Input {
    Input { path, state, proof: None }
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
