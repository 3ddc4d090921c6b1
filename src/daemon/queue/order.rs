//! Whose turn it is, as a matter of times alone.
//!
//! Nobody here builds or waits: entries come, are served, give way and go, each call with the time
//! as an argument.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// How many builds and test runs there may be at once that nobody waits for. Cargo fills all
/// cores by itself: two builds side by side end no earlier than one after the other, the first
/// one ends later, and both need their memory at the same time.
const PLACES: usize = 1;
/// For so long after its last edit a project is one that is being edited.
const EDITING: Duration = Duration::from_secs(30 * 60);
/// For so long a question tells which project will be asked about next.
const ASKED: Duration = Duration::from_secs(30 * 60);
/// Who has waited so long is served before those that matter more, and to the end.
const PATIENCE: Duration = Duration::from_secs(10 * 60);
/// Who comes back so soon, of a newer snapshot mostly, has been waiting all the time.
const BACK_SOON: Duration = Duration::from_secs(60);
/// What would go on for less is not interrupted.
const NEARLY_DONE: Duration = Duration::from_secs(1);

/// An entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(in super::super) struct Id(u64);

/// What one wants to do.
#[derive(Clone, Debug)]
pub(in super::super) struct Wish {
    /// Whose work it is.
    pub(in super::super) project: PathBuf,
    /// How people call the project.
    pub(in super::super) name: String,
    /// Where it builds.
    pub(in super::super) target_dirs: Vec<PathBuf>,
    /// As in "waiting for p's build".
    pub(in super::super) what: &'static str,
}

#[derive(Debug)]
struct Entry {
    wish: Wish,
    /// Since when it waits, if it does.
    since: Instant,
    /// How long it had waited before that.
    waited: Duration,
    /// Somebody sits and waits for the end.
    wanted: bool,
    running: bool,
    /// It began because it had waited too long: it is not interrupted for what matters more.
    overdue: bool,
}

impl Entry {
    /// How long it has waited by now, all in all.
    fn waited(&self, now: Instant) -> Duration {
        let last =
            if self.running { Duration::ZERO } else { now.saturating_duration_since(self.since) };
        self.waited + last
    }
}

/// What is known of a project besides its entries.
#[derive(Clone, Copy, Debug, Default)]
struct Known {
    edited: Option<Instant>,
    asked: Option<Instant>,
    /// How long it had waited when it went without being served, and when it went.
    waited: Option<(Duration, Instant)>,
}

/// How much a piece of work matters; less is more.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Rank {
    /// Somebody waits for it.
    Wanted,
    /// It has waited too long; how long.
    Overdue(Reverse<Duration>),
    /// How long ago the project was edited.
    Edited(Duration),
    /// How long ago it was asked about.
    Asked(Duration),
    Rest,
}

/// Why something that runs should give way, and to whom.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in super::super) struct Contest {
    /// The project that matters more.
    pub(in super::super) by: String,
    /// Somebody sits and waits for that one: whatever it costs.
    pub(in super::super) must: bool,
}

/// Where one stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in super::super) enum Turn {
    /// Begin.
    Now,
    /// Wait.
    Later {
        /// 1 is the next.
        position: usize,
        /// What runs: "p's build".
        behind: Option<String>,
    },
}

/// What waits and what runs.
#[derive(Debug, Default)]
pub(in super::super) struct Order {
    entries: BTreeMap<Id, Entry>,
    known: BTreeMap<PathBuf, Known>,
    next: u64,
}

impl Order {
    /// A file of the project was edited.
    pub(in super::super) fn edited(&mut self, project: &Path, now: Instant) {
        self.known.entry(project.to_owned()).or_default().edited = Some(now);
    }

    /// Somebody asked about the project.
    pub(in super::super) fn asked(&mut self, project: &Path, now: Instant) {
        self.known.entry(project.to_owned()).or_default().asked = Some(now);
    }

    /// The project has left.
    pub(in super::super) fn forget(&mut self, project: &Path) {
        self.known.remove(project);
    }

    /// Enters the queue.
    pub(in super::super) fn enter(&mut self, wish: Wish, now: Instant) -> Id {
        let known = self.known.entry(wish.project.clone()).or_default();
        let back = known.waited.take().filter(|(_, went)| now - *went <= BACK_SOON);
        let waited = back.map_or(Duration::ZERO, |(waited, went)| waited + (now - went));
        let id = Id(self.next);
        self.next += 1;
        let entry =
            Entry { wish, since: now, waited, wanted: false, running: false, overdue: false };
        self.entries.insert(id, entry);
        id
    }

    /// Somebody waits for it now.
    pub(in super::super) fn want(&mut self, id: Id) {
        if let Some(entry) = self.entries.get_mut(&id) {
            entry.wanted = true;
        }
    }

    /// Leaves: at its end (`served`), or given up, perhaps to come back.
    pub(in super::super) fn leave(&mut self, id: Id, served: bool, now: Instant) {
        let Some(entry) = self.entries.remove(&id) else { return };
        if !served && let Some(known) = self.known.get_mut(&entry.wish.project) {
            known.waited = Some((entry.waited(now), now));
        }
    }

    /// Whether it is the turn of `id`; it runs from here on if so.
    pub(in super::super) fn turn(&mut self, id: Id, now: Instant) -> Turn {
        let waiting = self.waiting(now);
        let Some(at) = waiting.iter().position(|(_, other)| *other == id) else {
            // Running already.
            return Turn::Now;
        };
        let free = |entry: &Entry| !self.running().any(|running| share(&running.wish, &entry.wish));
        let room = self.running().count() < PLACES;
        let first = waiting
            .iter()
            .find(|(rank, id)| (room || *rank == Rank::Wanted) && free(&self.entries[id]));
        // Who is waited for begins beside others of its kind.
        let own = waiting[at].0 == Rank::Wanted && free(&self.entries[&id]);
        if own || first.is_some_and(|(_, first)| *first == id) {
            let overdue = matches!(waiting[at].0, Rank::Overdue(_));
            if let Some(entry) = self.entries.get_mut(&id) {
                entry.waited = entry.waited(now);
                (entry.running, entry.overdue) = (true, overdue);
            }
            return Turn::Now;
        }
        let own = &self.entries[&id].wish;
        let in_the_way = self.running().find(|running| share(&running.wish, own));
        let behind = in_the_way.or_else(|| self.running().next());
        let behind = behind.map(|entry| format!("{}'s {}", entry.wish.name, entry.wish.what));
        Turn::Later { position: at + 1, behind }
    }

    /// Who matters more than `id`, which runs, and could begin in its place.
    pub(in super::super) fn contest(&self, id: Id, now: Instant) -> Option<Contest> {
        let entry = self.entries.get(&id).filter(|entry| entry.running)?;
        if entry.wanted {
            return None;
        }
        let own = self.rank(entry, now);
        let others = self.waiting(now);
        let (rank, better) = others.into_iter().find(|(rank, other)| {
            let dir_is_ours = share(&self.entries[other].wish, &entry.wish);
            match rank {
                Rank::Wanted => dir_is_ours,
                // Only for the hands at the keyboard: all others can wait for a build to end.
                Rank::Edited(_) => !entry.overdue && *rank < own,
                _ => false,
            }
        })?;
        let by = self.entries[&better].wish.name.clone();
        Some(Contest { by, must: rank == Rank::Wanted })
    }

    fn running(&self) -> impl Iterator<Item = &Entry> {
        self.entries.values().filter(|entry| entry.running)
    }

    /// Who waits, the next first.
    fn waiting(&self, now: Instant) -> Vec<(Rank, Id)> {
        let waiting = self.entries.iter().filter(|(_, entry)| !entry.running);
        let mut ranked: Vec<_> = waiting.map(|(id, entry)| (self.rank(entry, now), *id)).collect();
        ranked.sort_by_key(|(rank, id)| (*rank, Reverse(self.entries[id].waited(now)), *id));
        ranked
    }

    fn rank(&self, entry: &Entry, now: Instant) -> Rank {
        let known = self.known.get(&entry.wish.project).copied().unwrap_or_default();
        let ago = |when: Option<Instant>, limit| {
            when.map(|when| now.saturating_duration_since(when)).filter(|ago| *ago < limit)
        };
        if entry.wanted {
            Rank::Wanted
        } else if !entry.running && entry.waited(now) >= PATIENCE {
            Rank::Overdue(Reverse(entry.waited(now)))
        } else if let Some(ago) = ago(known.edited, EDITING) {
            Rank::Edited(ago)
        } else if let Some(ago) = ago(known.asked, ASKED) {
            Rank::Asked(ago)
        } else {
            Rank::Rest
        }
    }
}

/// Whether two would want the same lock of cargo.
fn share(one: &Wish, other: &Wish) -> bool {
    one.target_dirs.iter().any(|dir| other.target_dirs.contains(dir))
}

/// Whether to interrupt something that would lose what it did in the last `lost`, so that what
/// matters more need not wait for the `left` that it would still take (unknown at its beginning).
/// Nothing is lost but time that the machine had to spare; who waits is a developer.
pub(in super::super) fn is_worth_it(lost: Duration, left: Option<Duration>) -> bool {
    left.is_none_or(|left| left >= lost.max(NEARLY_DONE))
}

#[cfg(test)]
mod tests;
