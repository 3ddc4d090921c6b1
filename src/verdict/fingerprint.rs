//! What the things that a record depends on are now, and whether that is what they were.
//!
//! A state is content, never a time: a file that is restored counts as it did. What makes this
//! cheap is [`Input::proof`]: while the system says the same of a file as when it was digested,
//! and said so at a time from which on every change shows, the file need not be read.

use std::collections::{HashMap, HashSet};
use std::ffi::OsStr;
use std::io::ErrorKind;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::FileTypeExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use serde::{Deserialize, Serialize};

use super::patterns::{Excluded, Trusted};
use super::permissions::{closed_folder, is_overwritable};
use crate::cache::{Cache, Input, InputState, KnownAbsences};
use crate::config::Settings;
use crate::hasher::{FileDigest, file_digest, program_digest};
use crate::model::{Digest, Digester, Timestamp};
use crate::observer::{LOADER_CACHE, LoaderCache, Observer};
use crate::workspace::{FileKind, PathStamp, Stamp};

/// So many inputs are looked at by two threads.
pub(super) const MANY: usize = 256;

/// A folder is looked at in place of so many names that were absent in it.
pub(super) const SEVERAL: usize = 3;

/// In which way something counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Aspect {
    /// A file's permissions and content; a folder's names; a link's text.
    Content,
    /// A program's permissions and what is loaded of it.
    Program,
    /// The same, and its length.
    MeasuredProgram,
    /// A folder's names.
    Names,
    /// Those of a folder's names by which cargo finds targets.
    Targets,
    /// Kind, permissions and owner.
    Kind,
    /// All that the system says of it.
    Same,
    /// What the dynamic loader's cache says of a library.
    Answer,
}

/// The way in which something in this state was looked at: with the same settled stamp it gives the same
/// state. None if the settings decide the state, or what links lead to, or other things on the way, or a server.
pub(super) fn aspect_of(state: &InputState) -> Option<Aspect> {
    Some(match state {
        InputState::File(_) | InputState::Source(_) | InputState::Link(_) => Aspect::Content,
        InputState::Program(_) => Aspect::Program,
        InputState::Measured(_) => Aspect::MeasuredProgram,
        InputState::Listing(_) => Aspect::Names,
        InputState::Targets(_) => Aspect::Targets,
        InputState::Kind(_) => Aspect::Kind,
        InputState::Same(_) => Aspect::Same,
        InputState::Answer(_) => Aspect::Answer,
        _ => return None,
    })
}

/// The file that decides what is at `path` if that counts in this way.
pub(super) fn deciding_file(path: &Path, way: Option<Aspect>) -> &Path {
    match way {
        Some(Aspect::Answer) => path.parent().unwrap_or(path),
        _ => path,
    }
}

/// Everything that a stamp says.
pub(super) fn digest_of_stamp(stamp: &PathStamp) -> Digest {
    let mut digester = Digester::new("stamp 3");
    if let PathStamp::Present(stamp) = stamp {
        digester.field(&stamp.to_bytes());
    }
    digester.finish()
}

/// The owner of an inode.
#[derive(Clone, Copy, Debug, Default)]
enum Owners {
    /// By the numbers of user and group.
    #[default]
    Numbers,
    /// By whether they are this process's own, for other machines.
    Classes,
}

impl Owners {
    /// No number of a user or group.
    const OWN: u64 = 1 << 40;

    fn of(self, stamp: &Stamp) -> [u64; 2] {
        let Stamp { user, group, .. } = *stamp;
        let class = |number: u32, own: u32| {
            if number == own { Self::OWN } else { number.into() }
        };
        match self {
            Self::Numbers => [user.into(), group.into()],
            Self::Classes => [
                class(user, rustix::process::geteuid().as_raw()),
                class(group, rustix::process::getegid().as_raw()),
            ],
        }
    }
}

/// What everybody can see of a thing without opening it, and what decides who may open it.
fn visible(digester: &mut Digester, stamp: &Stamp, owners: Owners) {
    let [user, group] = owners.of(stamp);
    for number in [number_of(stamp.kind()), stamp.permissions().into(), user, group] {
        digester.number(number);
    }
}

/// Part of stored digests: never changes.
fn number_of(kind: FileKind) -> u64 {
    match kind {
        FileKind::File => 1,
        FileKind::Folder => 2,
        FileKind::Symlink => 3,
        FileKind::Fifo => 4,
        FileKind::Socket => 5,
        FileKind::Character | FileKind::Block | FileKind::Odd => 6,
    }
}

/// Looks at paths, and remembers the digests of files for as long as their stamps prove them.
#[derive(Debug, Default)]
pub(super) struct Fingerprints {
    /// What the settings ignore now; nothing, unless they are given.
    excluded: Excluded,
    trusted: Trusted,
    owners: Owners,
    /// Since when runs may have made what they found absent.
    made_since: Option<Timestamp>,
    known: HashMap<(PathBuf, Aspect), (PathStamp, Input)>,
    absences: Option<Arc<KnownAbsences>>,
}

impl Fingerprints {
    /// With these settings, which decide whether something that a run ignored may still be ignored.
    pub(super) fn new(settings: &Settings) -> Self {
        let (excluded, trusted) = (Excluded::of(settings), Trusted::of(settings));
        Self { excluded, trusted, ..Self::default() }
    }

    /// The same, with the names that are known to be absent, if this process remembers them.
    pub(super) fn remembering(settings: &Settings, cache: &Cache) -> Self {
        Self { absences: cache.absences(), ..Self::new(settings) }
    }

    /// From now on, a path that a run has made after `asked` holds too while it is as that run left it.
    pub(super) fn accept_what_runs_left(&mut self, asked: Option<Timestamp>) {
        self.made_since = asked;
    }

    /// By what is alike on two machines. Such states are compared with each other alone.
    pub(super) fn by_class() -> Self {
        Self { owners: Owners::Classes, ..Self::default() }
    }

    /// The input that `path` is now, counted in this way.
    ///
    /// # Errors
    /// If that cannot be told: why, for a person.
    pub(super) fn read(&mut self, root: &Path, path: &Path, way: Aspect) -> Result<Input, String> {
        let file = deciding_file(path, Some(way));
        let stamp = PathStamp::of(file);
        let place = (path.to_owned(), way);
        if let Some((then, input)) = self.known.get(&place)
            && *then == stamp
        {
            return Ok(input.clone());
        }
        let before = SystemTime::now();
        let state = state(root, path, way, &stamp, self.owners)?;
        if PathStamp::of(file) != stamp {
            return Err(format!("`{}` changes while it is read", path.display()));
        }
        let is_costly = matches!(
            state,
            InputState::File(_)
                | InputState::Program(_)
                | InputState::Measured(_)
                | InputState::Listing(_)
                | InputState::Targets(_)
                | InputState::Answer(_)
        );
        let settled = is_costly && has_times(path) && stamp.is_settled(before);
        let proof = settled.then(|| digest_of_stamp(&stamp));
        let short = path.strip_prefix(root).unwrap_or(path).to_owned();
        let input = Input { path: short, state, proof };
        if settled {
            self.known.insert(place, (stamp, input.clone()));
        }
        Ok(input)
    }

    /// Takes over what another process has learnt of something with this stamp, which was settled
    /// then.
    pub(super) fn learn(
        &mut self,
        root: &Path,
        path: &Path,
        way: Aspect,
        stamp: PathStamp,
        state: InputState,
    ) {
        let proof = Some(digest_of_stamp(&stamp));
        let short = path.strip_prefix(root).unwrap_or(path).to_owned();
        let input = Input { path: short, state, proof };
        self.known.insert((path.to_owned(), way), (stamp, input));
    }

    /// Whether `input` is as it was.
    pub(super) fn holds(&mut self, root: &Path, input: &Input) -> bool {
        let path = root.join(&input.path);
        let file = deciding_file(&path, aspect_of(&input.state));
        self.holds_by(root, &path, input, || PathStamp::of(file))
    }

    /// The same of what is at `path`; `look` tells the stamp of the file that decides it.
    fn holds_by(
        &mut self,
        root: &Path,
        path: &Path,
        input: &Input,
        look: impl FnOnce() -> PathStamp,
    ) -> bool {
        match &input.state {
            // Links followed: what the compiler said it has read.
            InputState::Digest(then) => {
                return file_digest(path) == FileDigest::Known(*then);
            }
            InputState::Excluded => return self.excluded.holds(&input.path),
            InputState::Trusted => {
                return input
                    .path
                    .to_str()
                    .is_some_and(|address| self.trusted.vouches_for(address));
            }
            InputState::Absent => {
                // A file in the place of a folder before it gives another error.
                let is_absent = path.symlink_metadata();
                return is_absent.is_err_and(|error| error.kind() == ErrorKind::NotFound)
                    || self.is_as_left(path, input, &PathStamp::of(path));
            }
            InputState::Overwritable => return is_overwritable(path),
            InputState::Denied => return closed_folder(path).is_some(),
            InputState::Refused => return is_refused(path),
            InputState::Kind(_) => {
                let now = look();
                return kind_of(&now) == input.state || self.is_as_left(path, input, &now);
            }
            _ => {}
        }
        let Some(way) = aspect_of(&input.state) else { return false };
        if let Some(proof) = &input.proof
            && digest_of_stamp(&look()) == *proof
        {
            return true;
        }
        let then = match input.state {
            InputState::Source(content) => InputState::File(content),
            state => state,
        };
        self.read(root, path, way).is_ok_and(|now| now.state == then)
    }

    /// Whether this is what the run itself left there, and was not there when the question came.
    fn is_as_left(&self, path: &Path, input: &Input, now: &PathStamp) -> bool {
        let made = || path.symlink_metadata().and_then(|metadata| metadata.created());
        let made_after = |asked| made().is_ok_and(|made| Timestamp::from(made) > asked);
        !matches!(now, PathStamp::Unknown(_))
            && input.proof == Some(digest_of_stamp(now))
            && self.made_since.is_some_and(made_after)
    }

    /// The first of a record's inputs that is not as it was.
    pub(super) fn first_changed<'a>(
        &mut self,
        root: &Path,
        inputs: &'a [Input],
    ) -> Option<&'a Input> {
        // Most are looks at paths that are not there, which the system answers one by one.
        let (one, other) = inputs.split_at(if inputs.len() < MANY { 0 } else { inputs.len() / 2 });
        if one.is_empty() {
            return self.first_changed_of(root, other);
        }
        std::thread::scope(|scope| {
            // What is learnt there is lost: it is what had no proof, which is little.
            let mut second = Self {
                excluded: self.excluded.clone(),
                trusted: self.trusted.clone(),
                made_since: self.made_since,
                absences: self.absences.clone(),
                ..Self::default()
            };
            let other_half = scope.spawn(move || second.first_changed_of(root, other));
            let changed = self.first_changed_of(root, one);
            // A panic there has proven nothing: the first input is as good as any.
            changed.or(other_half.join().unwrap_or(inputs.first()))
        })
    }

    fn first_changed_of<'a>(&mut self, root: &Path, inputs: &'a [Input]) -> Option<&'a Input> {
        let known = self.absences.as_ref().map(|known| known_absent(known, root, inputs));
        let FolderLooks { absent, stamps } = known.unwrap_or_default();
        // One path can count in several ways: these follow each other.
        let mut last: Option<(&Path, PathStamp)> = None;
        inputs.iter().find(|input| {
            if absent.contains(&std::ptr::from_ref(*input)) {
                return false;
            }
            let path = root.join(&input.path);
            let short = deciding_file(&input.path, aspect_of(&input.state));
            let look = || {
                let same = last.filter(|(path, _)| *path == short).map(|(_, stamp)| stamp);
                let known = same.or_else(|| stamps.get(&path).copied());
                let stamp = known.unwrap_or_else(|| PathStamp::of(&root.join(short)));
                last = Some((short, stamp));
                stamp
            };
            !self.holds_by(root, &path, input, look)
        })
    }
}

/// What looks at the folders of absent names have told.
#[derive(Default)]
struct FolderLooks {
    /// The inputs that are absent.
    absent: HashSet<*const Input>,
    /// What is there in the folders' places.
    stamps: HashMap<PathBuf, PathStamp>,
}

/// Those of the inputs that are absent, as far as a look at their folders tells.
fn known_absent(known: &KnownAbsences, root: &Path, inputs: &[Input]) -> FolderLooks {
    let mut folders: HashMap<&Path, Vec<(&OsStr, &Input)>> = HashMap::new();
    for input in inputs.iter().filter(|input| input.state == InputState::Absent) {
        if let (Some(folder), Some(name)) = (folder_of(&input.path), input.path.file_name()) {
            folders.entry(folder).or_default().push((name, input));
        }
    }
    let mut looks = FolderLooks::default();
    for (folder, inputs) in folders.into_iter().filter(|(_, inputs)| inputs.len() >= SEVERAL) {
        let folder = root.join(folder);
        if !has_times(&folder) {
            continue;
        }
        let before = SystemTime::now();
        let all = inputs.iter().map(|(_, input)| std::ptr::from_ref(*input));
        let names = inputs.iter().map(|(name, _)| *name);
        let here = PathStamp::of(&folder);
        let is_link = here.kind() == Some(FileKind::Symlink);
        match if is_link { PathStamp::followed(&folder) } else { here } {
            // In the place of a folder a file gives another error.
            PathStamp::Absent if is_missing(&folder) => looks.absent.extend(all),
            PathStamp::Present(stamp) if stamp.kind() != FileKind::Folder => {}
            PathStamp::Present(stamp) if known.knows(&folder, &stamp, names.clone()) => {
                looks.absent.extend(all);
            }
            PathStamp::Present(stamp) if stamp.is_settled(before) => {
                let is_absent = |name| PathStamp::of(&folder.join(name)) == PathStamp::Absent;
                if names.clone().all(is_absent)
                    && PathStamp::followed(&folder) == PathStamp::Present(stamp)
                {
                    known.learn(&folder, stamp, names);
                    looks.absent.extend(all);
                }
            }
            _ => {}
        }
        looks.stamps.insert(folder, here);
    }
    looks
}

/// The folder in which a path names something, as it is spelled. None for a name in the root, and for a
/// path that ends in no name.
pub(super) fn folder_of(path: &Path) -> Option<&Path> {
    let bytes = path.as_os_str().as_bytes();
    let slash = bytes.iter().rposition(|byte| *byte == b'/')?;
    let (folder, name) = (&bytes[..slash], &bytes[slash + 1..]);
    let is_name = !folder.is_empty() && ![&b""[..], b".", b".."].contains(&name);
    is_name.then(|| Path::new(OsStr::from_bytes(folder)))
}

fn is_missing(folder: &Path) -> bool {
    folder.metadata().is_err_and(|error| error.kind() == ErrorKind::NotFound)
}

/// The kernel's own files change without another stamp.
pub(super) fn has_times(path: &Path) -> bool {
    !path.starts_with("/proc") && !path.starts_with("/sys")
}

/// The state of something of which only kind, permissions and owner count.
pub(super) fn kind_of(stamp: &PathStamp) -> InputState {
    match stamp {
        PathStamp::Present(stamp) => kind_by(stamp, Owners::Numbers),
        _ => InputState::Absent,
    }
}

fn kind_by(stamp: &Stamp, owners: Owners) -> InputState {
    let mut digester = Digester::new("state 2");
    visible(&mut digester, stamp, owners);
    InputState::Kind(digester.finish())
}

/// The folder of the paths that stand for connections. No such files exist.
pub(super) const REFUSED_FOLDER: &str = "/dev/tcp";

/// Whether a connection to the address that this path stands for would be refused.
fn is_refused(path: &Path) -> bool {
    let address = path.strip_prefix(REFUSED_FOLDER).ok().and_then(Path::to_str);
    let address = address.and_then(|address| address.parse().ok());
    address.is_some_and(Observer::is_refused)
}

/// What is at `path`, `stamp` being what the system says of it, in a workspace at `root`.
fn state(
    root: &Path,
    path: &Path,
    way: Aspect,
    stamp: &PathStamp,
    owners: Owners,
) -> Result<InputState, String> {
    let PathStamp::Present(present) = stamp else {
        return match stamp {
            PathStamp::Absent => Ok(InputState::Absent),
            _ => Err(format!("`{}` cannot be looked at", path.display())),
        };
    };
    let mut digester = Digester::new("state 2");
    visible(&mut digester, present, owners);
    let odd = |why: &str| Err(format!("`{}` {why}", path.display()));
    Ok(match (way, present.kind()) {
        (Aspect::Answer, _) => match answer(path, stamp) {
            Some(answer) => InputState::Answer(answer),
            None => return odd("cannot be told by the dynamic loader's cache"),
        },
        (Aspect::Same, _) => InputState::Same(digest_of_stamp(stamp)),
        (_, FileKind::Symlink) => {
            let text = std::fs::read_link(path)
                .map_err(|error| format!("`{}`: {error}", path.display()))?;
            InputState::Link(Digest::of(text.as_os_str().as_bytes()))
        }
        (Aspect::Kind, _) => kind_by(present, owners),
        (Aspect::Names, FileKind::Folder) => {
            names(path, &mut digester, |_, _| true)
                .map_err(|error| format!("`{}`: {error}", path.display()))?;
            InputState::Listing(digester.finish())
        }
        (Aspect::Targets, FileKind::Folder) => {
            // Who may look is no matter of names.
            let mut digester = Digester::new("targets 1");
            let is_target =
                |name: &OsStr, kind| kind == FOLDER || name.as_bytes().ends_with(b".rs");
            names(path, &mut digester, is_target)
                .map_err(|error| format!("`{}`: {error}", path.display()))?;
            InputState::Targets(digester.finish())
        }
        (Aspect::Content | Aspect::Program | Aspect::MeasuredProgram, FileKind::File) => {
            let digest = match way {
                Aspect::Content => file_digest(path),
                _ => program_digest(path, root),
            };
            match digest {
                FileDigest::Known(digest) => drop(digester.digest(&digest)),
                FileDigest::Absent => return odd("is gone"),
                FileDigest::Unknown(why) => return Err(why),
            }
            if way == Aspect::MeasuredProgram {
                digester.number(present.size);
            }
            let digest = digester.finish();
            match way {
                Aspect::Content => InputState::File(digest),
                Aspect::Program => InputState::Program(digest),
                _ => InputState::Measured(digest),
            }
        }
        _ => return odd("is neither a file nor a folder"),
    })
}

/// What is said of an input that is not as it was.
pub(super) fn describe_change(path: &Path) -> String {
    format!("`{}` changed", path.display())
}

/// What the dynamic loader's cache says of a library while it has this stamp.
fn answer(path: &Path, stamp: &PathStamp) -> Option<Digest> {
    let (_, cache) = LoaderCache::current().filter(|(now, _)| now == stamp)?;
    let name = path.as_os_str().as_bytes().strip_prefix(LOADER_CACHE.as_bytes())?;
    cache.answer(name.strip_prefix(b"/")?)
}

/// Part of stored digests: never changes.
const FOLDER: u64 = 2;

/// Those of the names in a folder that are wanted, with their kinds, sorted.
fn names(
    path: &Path,
    digester: &mut Digester,
    is_wanted: impl Fn(&OsStr, u64) -> bool,
) -> std::io::Result<()> {
    let mut names = Vec::new();
    for entry in std::fs::read_dir(path)? {
        let entry = entry?;
        let kind = entry.file_type()?;
        let kind = match kind {
            kind if kind.is_file() => 1,
            kind if kind.is_dir() => FOLDER,
            kind if kind.is_symlink() => 3,
            kind if kind.is_fifo() => 4,
            kind if kind.is_socket() => 5,
            _ => 6,
        };
        if is_wanted(&entry.file_name(), kind) {
            names.push((entry.file_name(), kind));
        }
    }
    names.sort();
    digester.number(names.len() as u64);
    for (name, kind) in names {
        digester.field(name.as_bytes()).number(kind);
    }
    Ok(())
}

#[cfg(test)]
mod tests;
