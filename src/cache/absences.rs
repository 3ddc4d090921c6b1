//! Names that were absent in a folder, for as long as the folder's stamp proves that no name was added.

use std::collections::{HashMap, HashSet};
use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::workspace::Stamp;

/// So many folders are remembered. With more, all are forgotten.
const MOST_FOLDERS: usize = 20_000;

/// What was found absent, by folder. Only in memory: most inputs of a run that starts programs are
/// names that were looked for in vain, and the daemon looks for the same ones at each question.
#[derive(Debug, Default)]
pub(crate) struct KnownAbsences {
    folders: Mutex<HashMap<PathBuf, AbsentNames>>,
}

#[derive(Debug)]
struct AbsentNames {
    stamp: Stamp,
    names: HashSet<OsString>,
}

impl KnownAbsences {
    /// Whether all of these names are known to be absent in the folder that has this stamp now.
    pub(crate) fn knows<'a>(
        &self,
        folder: &Path,
        stamp: &Stamp,
        mut names: impl Iterator<Item = &'a OsStr>,
    ) -> bool {
        let folders = self.folders();
        let known = folders.get(folder).filter(|known| known.stamp == *stamp);
        known.is_some_and(|known| names.all(|name| known.names.contains(name)))
    }

    /// Remembers that these names were absent while the folder had this stamp. The caller has made
    /// sure that it is settled, and that the folder had it before and after.
    pub(crate) fn learn<'a>(
        &self,
        folder: &Path,
        stamp: Stamp,
        names: impl Iterator<Item = &'a OsStr>,
    ) {
        let mut folders = self.folders();
        if folders.len() >= MOST_FOLDERS {
            folders.clear();
        }
        let known = folders.entry(folder.to_owned());
        let known = known.or_insert_with(|| AbsentNames { stamp, names: HashSet::new() });
        if known.stamp != stamp {
            *known = AbsentNames { stamp, names: HashSet::new() };
        }
        known.names.extend(names.map(OsStr::to_owned));
    }

    /// A poisoned lock is harmless: what was inserted was true.
    fn folders(&self) -> MutexGuard<'_, HashMap<PathBuf, AbsentNames>> {
        self.folders.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_known_while_the_folder_has_the_stamp() {
        let known = KnownAbsences::default();
        let (folder, other) = (Path::new("/f"), Path::new("/g"));
        let (old, new) = (Stamp { changed: 1, ..Stamp::default() }, Stamp::default());
        let names = |names: &'static [&str]| names.iter().map(OsStr::new);
        known.learn(folder, old, names(&["a"]));
        known.learn(folder, old, names(&["b"]));
        assert!(known.knows(folder, &old, names(&["b", "a"])));
        assert!(!known.knows(folder, &old, names(&["a", "c"])));
        assert!(
            !known.knows(folder, &new, names(&["a"])) && !known.knows(other, &old, names(&["a"]))
        );
        known.learn(folder, new, names(&["c"]));
        assert!(known.knows(folder, &new, names(&["c"])));
        assert!(!known.knows(folder, &new, names(&["a"])), "of another stamp");
    }
}
