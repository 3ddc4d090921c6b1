//! Proves a record by looks that are remembered, so that the same question is answered again by one
//! look at each thing that counts.
//!
//! Whatever was there when an input was found to hold decides it: while a settled stamp is the
//! same, so are content, names, kind and owner, and a folder with the same stamp has no more names. A
//! look that shows something else decides nothing; the inputs that it stood for are then looked at
//! one by one, as if nothing was remembered.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use super::fingerprint::{
    Fingerprints, MANY, SEVERAL, aspect_of, deciding_file, folder_of, has_times,
};
use crate::cache::{Found, Input, InputState, Look, Looks, Record, RecordProof};
use crate::hasher::parallel;
use crate::workspace::{FileKind, PathStamp, Stamp, is_missing};

/// What proves a record now, all of whose inputs have just been found to hold.
pub(super) fn proof_of(
    record: &Record,
    root: &Path,
    fingerprints: &mut Fingerprints,
) -> RecordProof {
    let all = counting(record);
    RecordProof { root: root.to_owned(), looks: looks_at(root, &all, 0..all.len(), fingerprints) }
}

/// The same proof with new looks in the place of those that went stale, after all inputs were found to hold
/// nevertheless; `None` if there are no such looks, or none can be had yet.
pub(super) fn renewed(
    record: &Record,
    proof: &RecordProof,
    stale: &[usize],
    fingerprints: &mut Fingerprints,
) -> Option<RecordProof> {
    if stale.is_empty() {
        return None;
    }
    let RecordProof { root, looks } = proof;
    let looks = renewed_looks(looks, stale, root, &counting(record), fingerprints)?;
    Some(RecordProof { root: root.clone(), looks })
}

/// What a record's answer depends on, in the order in which a proof has it.
fn counting(record: &Record) -> Vec<&Input> {
    record.products.consulted.iter().chain(&record.inputs).collect()
}

/// What proves these inputs now, all of which have just been found to hold.
pub(super) fn looks_of(root: &Path, inputs: &[Input], fingerprints: &mut Fingerprints) -> Looks {
    looks_at(root, &inputs.iter().collect::<Vec<_>>(), 0..inputs.len(), fingerprints)
}

/// Whether all of these inputs still hold.
pub(super) fn hold(
    looks: &Looks,
    root: &Path,
    inputs: &[Input],
    fingerprints: &mut Fingerprints,
) -> bool {
    undecided(looks, &stale(looks)).all(|at| fingerprints.holds(root, &inputs[at]))
}

/// The first differences between a record and what is there now.
pub(super) struct Changes<'r> {
    /// The first such product.
    pub(super) product: Option<&'r Input>,
    /// The first such input.
    pub(super) input: Option<&'r Input>,
    /// The looks of the proof that show something else by now, by their places.
    pub(super) stale: Vec<usize>,
}

/// Looks for differences since the record was proven.
pub(super) fn changes<'r>(
    record: &'r Record,
    proof: &RecordProof,
    fingerprints: &mut Fingerprints,
) -> Changes<'r> {
    let products = &record.products.consulted;
    let stale = stale(&proof.looks);
    let (doubtful, behind): (Vec<_>, Vec<_>) =
        undecided(&proof.looks, &stale).partition(|at| *at < products.len());
    let mut has_changed = |input: &&Input| !fingerprints.holds(&proof.root, input);
    Changes {
        product: doubtful.into_iter().map(|at| &products[at]).find(&mut has_changed),
        input: behind.into_iter().map(|at| &record.inputs[at - products.len()]).find(has_changed),
        stale,
    }
}

/// The places of those looks that show something else now, in their order.
fn stale(looks: &Looks) -> Vec<usize> {
    let threads = if looks.looks.len() < MANY { 1 } else { 2 };
    let same = parallel::map(&looks.looks, threads, &mut (), |(), look| is_same(look));
    same.into_iter().enumerate().filter(|(_, is_same)| !is_same).map(|(at, _)| at).collect()
}

/// The places of those inputs that no look decides while these are `stale`.
fn undecided<'l>(looks: &'l Looks, stale: &'l [usize]) -> impl Iterator<Item = usize> + 'l {
    let doubtful = stale.iter().flat_map(move |at| &looks.looks[*at].decides);
    doubtful.chain(&looks.rest).copied()
}

/// The looks, with new ones in the place of those that are `stale`. `None` if something has only just changed:
/// its stamp would prove nothing, and single looks at all names in a folder would stay.
fn renewed_looks(
    looks: &Looks,
    stale: &[usize],
    root: &Path,
    inputs: &[&Input],
    fingerprints: &mut Fingerprints,
) -> Option<Looks> {
    let before = SystemTime::now();
    let is_settled = |at: &usize| {
        let path = &looks.looks[*at].path;
        PathStamp::of(path).is_settled(before) && PathStamp::followed(path).is_settled(before)
    };
    if !stale.iter().all(is_settled) {
        return None;
    }
    let places = stale.iter().flat_map(|at| looks.looks[*at].decides.iter().copied());
    let mut renewed = looks_at(root, inputs, places, fingerprints);
    let all = looks.looks.iter().enumerate();
    let same = all.filter(|(at, _)| stale.binary_search(at).is_err());
    renewed.looks.extend(same.map(|(_, look)| look.clone()));
    renewed.rest.extend(&looks.rest);
    Some(renewed)
}

fn is_same(look: &Look) -> bool {
    match &look.found {
        Found::Here(stamp) => PathStamp::of(&look.path) == PathStamp::Present(*stamp),
        Found::Led(stamp) => PathStamp::followed(&look.path) == PathStamp::Present(*stamp),
        Found::Nothing => is_missing(&look.path),
    }
}

/// Finds looks that decide those of the inputs that have these places.
fn looks_at(
    root: &Path,
    inputs: &[&Input],
    places: impl IntoIterator<Item = usize>,
    fingerprints: &mut Fingerprints,
) -> Looks {
    let before = SystemTime::now();
    let is_lasting = |path: &Path, stamp: &Stamp| stamp.is_settled(before) && has_times(path);
    let mut here: BTreeMap<PathBuf, (Stamp, Vec<usize>)> = BTreeMap::new();
    let mut absent: BTreeMap<PathBuf, Vec<usize>> = BTreeMap::new();
    let mut rest = Vec::new();
    for at in places {
        let input = inputs[at];
        let path = root.join(&input.path);
        if input.state == InputState::Absent {
            match folder_of(&path) {
                Some(folder) => absent.entry(folder.to_owned()).or_default().push(at),
                None => rest.push(at),
            }
            continue;
        }
        let aspect = aspect_of(&input.state);
        let path = deciding_file(&path, aspect).to_owned();
        let PathStamp::Present(stamp) = PathStamp::of(&path) else {
            rest.push(at);
            continue;
        };
        let holds = aspect.is_some()
            && is_lasting(&path, &stamp)
            && fingerprints.holds(root, input)
            && PathStamp::of(&path) == PathStamp::Present(stamp);
        match here.get_mut(&path) {
            Some((known, decides)) if holds && *known == stamp => decides.push(at),
            None if holds => drop(here.insert(path, (stamp, vec![at]))),
            _ => rest.push(at),
        }
    }
    let mut looks = Vec::new();
    for (folder, names) in absent {
        if is_missing(&folder) {
            looks.push(Look { path: folder, found: Found::Nothing, decides: names });
            continue;
        }
        let is_known = here.contains_key(&folder);
        // The stamp of the folder by which none of the names can be in it.
        let stamp_without = |look: fn(&Path) -> PathStamp| {
            let stamp = *look(&folder).present()?;
            let is_proof = (is_known || names.len() >= SEVERAL)
                && stamp.kind() == FileKind::Folder
                && is_lasting(&folder, &stamp)
                && names.iter().all(|at| is_missing(&root.join(&inputs[*at].path)))
                && look(&folder) == PathStamp::Present(stamp);
            is_proof.then_some(stamp)
        };
        if let Some(stamp) = stamp_without(|path| PathStamp::of(path)) {
            let (known, decides) = here.entry(folder).or_insert((stamp, Vec::new()));
            if *known == stamp { decides } else { &mut rest }.extend(names);
        } else if let Some(stamp) = stamp_without(|path| PathStamp::followed(path)) {
            looks.push(Look { path: folder, found: Found::Led(stamp), decides: names });
        } else {
            looks.extend(names.into_iter().map(|at| Look {
                path: root.join(&inputs[at].path),
                found: Found::Nothing,
                decides: vec![at],
            }));
        }
    }
    looks.extend(here.into_iter().map(|(path, (stamp, decides))| Look {
        path,
        found: Found::Here(stamp),
        decides,
    }));
    Looks { looks, rest }
}

#[cfg(test)]
mod tests {
    use std::fs::{self, Permissions};
    use std::os::unix::fs::{PermissionsExt as _, symlink};

    use proptest::prelude::*;

    use super::*;
    use crate::observer::{LOADER_CACHE, LoaderCache};
    use crate::verdict::fingerprint::Aspect;

    const ALL: [Aspect; 4] = [Aspect::Content, Aspect::Names, Aspect::Kind, Aspect::Same];

    fn inputs(root: &Path, names: &[&str]) -> Vec<Input> {
        let mut fingerprints = Fingerprints::default();
        let each = names.iter().flat_map(|name| ALL.map(|way| (root.join(name), way)));
        each.filter_map(|(path, way)| fingerprints.read(root, &path, way).ok()).collect()
    }

    fn learnt(root: &Path, inputs: &[Input]) -> Looks {
        looks_of(root, inputs, &mut Fingerprints::default())
    }

    fn changed<'a>(looks: &Looks, root: &Path, inputs: &'a [Input]) -> Option<&'a Path> {
        let stale = stale(looks);
        let undecided = undecided(looks, &stale).map(|at| &inputs[at]);
        let mut fingerprints = Fingerprints::default();
        let mut changed = undecided.filter(|input| !fingerprints.holds(root, input));
        changed.next().map(|input| &*input.path)
    }

    fn renew(looks: &Looks, root: &Path, inputs: &[Input]) -> Option<Looks> {
        let all: Vec<_> = inputs.iter().collect();
        renewed_looks(looks, &stale(looks), root, &all, &mut Fingerprints::default())
    }

    fn until_settled(path: &Path) {
        while PathStamp::of(path)
            .present()
            .is_some_and(|stamp| !stamp.is_settled(SystemTime::now()))
        {
            std::thread::yield_now();
        }
    }

    #[test]
    fn settled_things_and_absent_names_are_decided_by_one_look_each() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path();
        fs::create_dir(root.join("folder")).unwrap();
        fs::write(root.join("folder/file"), "one").unwrap();
        symlink("file", root.join("folder/link")).unwrap();
        until_settled(&root.join("folder"));
        until_settled(&root.join("folder/link"));
        let names =
            ["folder", "folder/file", "folder/link", "folder/a", "folder/b", "no/a", "no/b"];
        let inputs = inputs(root, &names);
        let looks = learnt(root, &inputs);
        assert!(looks.rest.is_empty(), "{looks:?}");
        assert_eq!(changed(&looks, root, &inputs), None);
        let paths: Vec<_> = looks.looks.iter().map(|look| look.path.clone()).collect();
        // The names that are absent in the folder need no look of their own.
        let expected = ["no", "folder", "folder/file", "folder/link"];
        assert_eq!(paths, expected.map(|name| root.join(name)));
        fs::write(root.join("folder/b"), "").unwrap();
        assert_eq!(changed(&looks, root, &inputs), Some(Path::new("folder")));
        fs::remove_file(root.join("folder/b")).unwrap();
        fs::create_dir(root.join("no")).unwrap();
        let absent: Vec<_> =
            inputs.iter().filter(|input| input.state == InputState::Absent).cloned().collect();
        let looks = learnt(root, &absent);
        assert_eq!(changed(&looks, root, &absent), None, "another stamp, and still nothing in it");
        fs::write(root.join("no/b"), "").unwrap();
        assert_eq!(changed(&looks, root, &absent), Some(Path::new("no/b")));
    }

    #[test]
    fn answers_of_the_loaders_cache_are_decided_by_one_look_at_it() {
        if LoaderCache::current().is_none() {
            return;
        }
        let dir = tempfile::tempdir().unwrap();
        let mut fingerprints = Fingerprints::default();
        let inputs = ["libc.so.6", "libnowhere-at-all.so"].map(|name| {
            let path = Path::new(LOADER_CACHE).join(name);
            fingerprints.read(dir.path(), &path, Aspect::Answer).unwrap()
        });
        let mut looks = learnt(dir.path(), &inputs);
        let [look] = &looks.looks[..] else { panic!("{looks:?}") };
        assert_eq!((look.path.to_str(), &look.decides[..]), (Some(LOADER_CACHE), &[0, 1][..]));
        assert!(looks.rest.is_empty());
        assert_eq!(changed(&looks, dir.path(), &inputs), None);
        // Another file in its place: the answers are looked at again.
        looks.looks[0].path = dir.path().to_owned();
        assert_eq!(changed(&looks, dir.path(), &inputs), None);
        let mut inputs = inputs;
        inputs[1] = Input { state: inputs[0].state, proof: None, ..inputs[1].clone() };
        assert_eq!(changed(&looks, dir.path(), &inputs), Some(&*inputs[1].path));
    }

    #[test]
    fn a_file_in_the_place_of_a_folder_is_not_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let inputs = inputs(dir.path(), &["no/a", "no/b", "no/c"]);
        let looks = learnt(dir.path(), &inputs);
        assert_eq!(changed(&looks, dir.path(), &inputs), None);
        fs::write(dir.path().join("no"), "").unwrap();
        assert_eq!(changed(&looks, dir.path(), &inputs), Some(Path::new("no/a")));
    }

    #[test]
    fn what_is_too_young_is_looked_at_as_if_nothing_was_remembered() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("file");
        fs::write(&file, "one").unwrap();
        let later = SystemTime::now() + std::time::Duration::from_secs(3_600);
        fs::File::options().write(true).open(&file).unwrap().set_modified(later).unwrap();
        let inputs = inputs(dir.path(), &["file"]);
        let looks = learnt(dir.path(), &inputs);
        assert!(looks.looks.is_empty() && looks.rest.len() == inputs.len(), "{looks:?}");
    }

    #[test]
    fn looks_that_went_stale_are_taken_anew_once_what_is_there_has_settled() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path();
        let folder = root.join("folder");
        fs::create_dir(&folder).unwrap();
        fs::write(root.join("file"), "one").unwrap();
        until_settled(&folder);
        until_settled(&root.join("file"));
        let inputs = inputs(root, &["file", "folder/a", "folder/b", "folder/c", "no/a"]);
        let looks = learnt(root, &inputs);
        assert!(stale(&looks).is_empty());
        fs::write(folder.join("other"), "").unwrap();
        let undecided_of = |looks: &Looks| undecided(looks, &stale(looks)).count();
        assert_eq!(undecided_of(&looks), 3 * ALL.len(), "each name of that folder");
        until_settled(&folder);
        let looks = renew(&looks, root, &inputs).unwrap();
        assert_eq!((undecided_of(&looks), looks.looks.len()), (0, 3), "{looks:?}");
        let mut decided: Vec<_> = looks.looks.iter().flat_map(|look| &look.decides).collect();
        decided.sort_unstable();
        assert!(decided.into_iter().copied().eq(0..inputs.len()), "each input by one look");
        fs::write(folder.join("b"), "").unwrap();
        assert_eq!(changed(&looks, root, &inputs), Some(Path::new("folder/b")));
        let later = SystemTime::now() + std::time::Duration::from_secs(3_600);
        fs::File::open(&folder).unwrap().set_modified(later).unwrap();
        assert!(renew(&looks, root, &inputs).is_none(), "another name could come unnoticed");
    }

    /// Something that happens to a small tree.
    #[derive(Clone, Debug)]
    enum Event {
        Write(usize, u8),
        Remove(usize),
        Folder(usize),
        Link(usize, usize),
        Rename(usize, usize),
        Mode(usize, u32),
    }

    const NAMES: [&str; 8] = ["a", "b", "a/x", "a/y", "a/z", "b/x", "b/y", "b/z"];

    fn event() -> impl Strategy<Value = Event> {
        let name = || 0..NAMES.len();
        prop_oneof![
            (name(), any::<u8>()).prop_map(|(at, byte)| Event::Write(at, byte % 3)),
            name().prop_map(Event::Remove),
            name().prop_map(Event::Folder),
            (name(), name()).prop_map(|(at, to)| Event::Link(at, to)),
            (name(), name()).prop_map(|(from, to)| Event::Rename(from, to)),
            (name(), prop::sample::select(vec![0o600, 0o700, 0o755]))
                .prop_map(|(at, mode)| Event::Mode(at, mode)),
        ]
    }

    fn happen(root: &Path, event: &Event) {
        let path = |at: usize| root.join(NAMES[at]);
        // Some cannot happen.
        let _ = match event {
            Event::Write(at, byte) => fs::write(path(*at), [*byte]),
            Event::Remove(at) => fs::remove_file(path(*at)).or(fs::remove_dir_all(path(*at))),
            Event::Folder(at) => fs::create_dir(path(*at)),
            Event::Link(at, to) => symlink(path(*to), path(*at)),
            Event::Rename(from, to) => fs::rename(path(*from), path(*to)),
            Event::Mode(at, mode) => fs::set_permissions(path(*at), Permissions::from_mode(*mode)),
        };
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        /// Remembered looks say the same as looks at everything, whatever happened, and so do renewed
        /// ones.
        #[test]
        fn remembered_looks_say_what_new_ones_say(
            before in prop::collection::vec(event(), 0..12),
            since in prop::collection::vec(event(), 0..4),
            then in prop::collection::vec(event(), 0..4),
        ) {
            let dir = tempfile::tempdir().unwrap();
            let root = dir.path().canonicalize().unwrap();
            before.iter().for_each(|event| happen(&root, event));
            NAMES.iter().for_each(|name| until_settled(&root.join(name)));
            let mut inputs = inputs(&root, &NAMES);
            // Below a file nothing can be absent.
            inputs.retain(|input| Fingerprints::default().holds(&root, input));
            let looks = learnt(&root, &inputs);
            prop_assert_eq!(changed(&looks, &root, &inputs), None);
            since.iter().for_each(|event| happen(&root, event));
            let mut fingerprints = Fingerprints::default();
            let holds = inputs.iter().all(|input| fingerprints.holds(&root, input));
            prop_assert_eq!(changed(&looks, &root, &inputs).is_none(), holds);
            if !holds {
                return Ok(());
            }
            NAMES.iter().for_each(|name| until_settled(&root.join(name)));
            let looks = renew(&looks, &root, &inputs).unwrap_or(looks);
            then.iter().for_each(|event| happen(&root, event));
            let mut fingerprints = Fingerprints::default();
            let holds = inputs.iter().all(|input| fingerprints.holds(&root, input));
            prop_assert_eq!(changed(&looks, &root, &inputs).is_none(), holds);
        }
    }
}
