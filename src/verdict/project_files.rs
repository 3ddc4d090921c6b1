//! Which files are a project's: its folder, less the target folders, plus whatever lies beyond
//! it, as the manifests and links of the very snapshot say.

mod beyond;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use self::beyond::{Beyond, Loose, View};
use super::facts::{Facts, Question};
use super::tree::TreeState;
use crate::cache::Cache;
use crate::hasher::{
    self, CodeHasher, DirChange, GlobError, Manifest, Options, ScanChanges, Snapshot,
};
use crate::model::{Digest, Digester};
use crate::workspace::{Outside, outside_roots};

/// How often what lies beyond may lead to more of it before nothing is believed any more. Cargo
/// allows no cycle, but what lies on disk may be anything.
const ROUNDS: usize = 8;

/// What to read again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refresh {
    /// Everything: nothing is known of what changed.
    All,
    /// These folders, absolute.
    Folders(BTreeSet<PathBuf>),
    /// These folders, absolute, and each file that has changed.
    Files(BTreeSet<PathBuf>),
}

/// A moment in the life of a scope.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FilesMark {
    tree: hasher::ScanMark,
    loose: Loose,
    /// Which scope, following which question: another one counts other files.
    epoch: u64,
}

/// A project's tree that follows its manifests.
pub struct ProjectFiles {
    root: PathBuf,
    hasher: CodeHasher,
    options: Options,
    /// The options were not given to the hasher yet.
    stale: bool,
    overrides: Vec<PathBuf>,
    /// The manifests for which `outside` was worked out.
    manifests: Option<Digest>,
    outside: Outside,
    beyond: Beyond,
    /// Why the tree is not known, besides what the hasher says.
    doubts: Vec<String>,
    epoch: u64,
}

/// A number that no scope has had before.
fn new_epoch() -> u64 {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    NEXT.fetch_add(1, Ordering::Relaxed)
}

impl ProjectFiles {
    /// The scope of a question. Nothing is read yet.
    ///
    /// # Errors
    /// If a glob of the project's settings is none.
    pub fn new(question: &Question, facts: &Facts) -> Result<Self, GlobError> {
        let options = Options {
            exclude_dirs: facts.all_target_dirs.clone(),
            extra_inputs: question.settings.extra_inputs.clone(),
            exclude: question.settings.exclude.clone(),
            outside: Vec::new(),
            environment: question.environment.clone(),
        };
        let mut at_first = options.clone();
        // Those mean something only once the folders outside are known.
        at_first.extra_inputs.retain(|glob| !glob.starts_with(".."));
        Ok(Self {
            root: question.root.clone(),
            hasher: CodeHasher::with_options(&question.root, at_first)?,
            options,
            stale: true,
            overrides: facts.package_paths.clone(),
            manifests: None,
            outside: Outside::default(),
            beyond: Beyond::default(),
            doubts: Vec::new(),
            epoch: new_epoch(),
        })
    }

    /// Becomes the scope of another question about the same project: other folders may be target
    /// folders in its environment, and git may ignore other files. Tells whether it matters; then
    /// the snapshot is unknown until the next refresh, and moments from before mean nothing.
    ///
    /// Nothing is taken over from the question before: a folder that one client builds into is
    /// another one's source.
    pub(crate) fn follow(&mut self, question: &Question, facts: &Facts) -> bool {
        self.options.exclude_dirs.clone_from(&facts.all_target_dirs);
        self.options.environment.clone_from(&question.environment);
        // What is wrong with them now is a doubt of the next refresh.
        let mut changed = self.hasher.set_options(self.options.clone()).unwrap_or(true);
        if self.overrides != facts.package_paths {
            self.overrides.clone_from(&facts.package_paths);
            self.manifests = None;
            changed = true;
        }
        if changed {
            self.stale = true;
            self.epoch = new_epoch();
        }
        changed
    }

    /// Reads again what `how` says, and everything if the manifests or settings demand it. Tells
    /// whether anything was read from disk that the memo does not hold.
    pub fn refresh(&mut self, how: Refresh, on_dir: &mut dyn FnMut(DirChange<'_>)) -> bool {
        let mut how = if self.stale { Refresh::All } else { how };
        let mut hashed = false;
        let mut refused = None;
        for _ in 0..ROUNDS {
            if std::mem::take(&mut self.stale) {
                refused = self.hasher.set_options(self.options.clone()).err();
            }
            let changes = match &how {
                Refresh::All => self.hasher.scan(on_dir),
                Refresh::Folders(folders) => self.hasher.rescan(folders, on_dir),
                Refresh::Files(folders) => self.hasher.rescan_files(folders, on_dir),
            };
            hashed |= changes.read_files > 0;
            self.doubts = self.find_outside(&changes).err().into_iter().collect();
            if self.find_beyond() {
                // Options that were refused are tried again.
                self.stale = refused.is_some();
                self.doubts.extend(refused.map(|error| error.to_string()));
                return hashed;
            }
            self.stale = true;
            how = Refresh::All;
        }
        self.doubts.push("links and path dependencies lead to ever more folders".to_owned());
        hashed
    }

    /// Works out anew what the manifests name outside, if one changed; why it is not known, if
    /// so.
    fn find_outside(&mut self, changes: &ScanChanges) -> Result<(), String> {
        if self.manifests.is_some() && changes.is_empty() && self.outside.is_current() {
            return Ok(());
        }
        let manifests = self.hasher.manifests_digest();
        if self.manifests == Some(manifests) && self.outside.is_current() {
            return Ok(());
        }
        self.manifests = None;
        self.outside = outside_roots(&self.root, &self.hasher.manifests(), &self.overrides)
            .map_err(|error| error.to_string())?;
        self.manifests = Some(manifests);
        Ok(())
    }

    /// Looks at what lies beyond the root; tells whether all of it has been walked.
    fn find_beyond(&mut self) -> bool {
        let Self { root, hasher, outside, options, .. } = self;
        let (target_dirs, environment) = (&options.exclude_dirs, &options.environment);
        let view = View { root, hasher, outside, target_dirs, environment };
        self.beyond = self.beyond.look(&view);
        let folders: Vec<_> = self.beyond.folders.iter().cloned().collect();
        let walked = self.options.outside == folders;
        self.options.outside = folders;
        walked
    }

    /// The snapshot as the last refresh left it.
    #[must_use]
    pub fn look(&self) -> TreeState<FilesMark> {
        let mut doubts = self.doubts.clone();
        doubts.extend(self.beyond.doubts.iter().cloned());
        let digest = match self.hasher.snapshot() {
            Snapshot::Known { digest, .. } if doubts.is_empty() => {
                self.beyond.loose.join(&self.root, digest)
            }
            Snapshot::Known { .. } => Err(doubts),
            Snapshot::Unknown { why } => Err(doubts.into_iter().chain(why).collect()),
        };
        let (tree, loose) = (self.hasher.mark(), self.beyond.loose.clone());
        TreeState { digest, mark: FilesMark { tree, loose, epoch: self.epoch } }
    }

    /// Which files were touched since `mark`, as far as the last refresh saw; workspace-relative.
    /// `None` for a mark of another scope, or of this one when it followed another question.
    #[must_use]
    pub(crate) fn changed_since(&self, mark: &FilesMark) -> Option<Vec<String>> {
        if mark.epoch != self.epoch {
            return None;
        }
        let mut paths = self.hasher.changed_since(mark.tree);
        paths.extend(self.beyond.loose.changed_since(&mark.loose));
        let relative =
            |path: PathBuf| path.strip_prefix(&self.root).unwrap_or(&path).display().to_string();
        Some(paths.into_iter().map(relative).collect())
    }

    /// Whether folders outside the root are read: path dependencies, there or not.
    #[must_use]
    pub(crate) fn reaches_beyond(&self) -> bool {
        // Told from the options and not from the folders, of which there may be thousands.
        self.stale || self.options.outside.iter().any(|path| !path.starts_with(&self.root))
    }

    /// Every folder that must be watched.
    pub(crate) fn directories(&self) -> impl Iterator<Item = PathBuf> {
        self.hasher.directories()
    }

    /// The files of the snapshot as the last refresh left it.
    #[must_use]
    pub(crate) fn manifest(&self) -> Manifest {
        self.hasher.manifest_with(self.beyond.loose.files(&self.root))
    }

    /// Keeps the listing of the snapshot `tree` for explanations, if that is what the last
    /// refresh left.
    pub(crate) fn keep_listing(&self, cache: &Cache, tree: &Digest, code_hash: &Digest) {
        if self.look().digest.as_ref() != Ok(tree) {
            return;
        }
        if let Err(error) = cache.put_manifest(*code_hash, self.manifest().as_bytes()) {
            tracing::warn!(%error, "the listing of a snapshot is not kept");
        }
    }

    /// The tree itself.
    #[must_use]
    pub(crate) fn hasher(&self) -> &CodeHasher {
        &self.hasher
    }

    /// Where the memo of this project lies.
    #[must_use]
    pub(crate) fn memo_file(&self, cache_dir: &Path) -> PathBuf {
        use std::os::unix::ffi::OsStrExt as _;
        let mut name = Digester::new("memo name 1");
        name.field(self.root.as_os_str().as_bytes());
        cache_dir.join("memo").join(name.finish().to_string())
    }

    /// Takes digests from a memo.
    pub(crate) fn load_memo(&mut self, file: &Path) {
        self.hasher.load_memo(file);
    }

    /// Keeps digests in a memo, unless the file holds them already.
    ///
    /// # Errors
    /// If it cannot be written.
    pub(crate) fn save_memo(&mut self, file: &Path) -> std::io::Result<()> {
        self.hasher.save_memo(file)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::process::Environment;

    /// Events outside the root are dropped where nothing is read there, so this must never say
    /// no while a folder outside is walked.
    #[test]
    fn reaching_beyond_agrees_with_the_folders_that_are_walked() {
        let dir = tempfile::tempdir().unwrap();
        let base = dir.path().canonicalize().unwrap();
        let root = base.join("w");
        for folder in ["w/src", "dep/src"] {
            std::fs::create_dir_all(base.join(folder)).unwrap();
            std::fs::write(base.join(folder).join("lib.rs"), "").unwrap();
        }
        let package = |name: &str| format!("[package]\nname = '{name}'\nedition = '2021'\n");
        std::fs::write(base.join("dep/Cargo.toml"), package("dep")).unwrap();
        let manifest = root.join("Cargo.toml");
        let with = package("w") + "[dependencies]\ndep = { path = '../dep' }\n";
        std::fs::write(&manifest, package("w")).unwrap();

        let environment = Environment::inherited();
        let paths = crate::paths::Paths {
            home: base.clone(),
            config_file: base.join("config.toml"),
            cache_dir: base.join("cache"),
            runtime_dir: base.join("run"),
        };
        let settings = crate::config::load(&paths, &environment).unwrap().config;
        let settings = settings.settings_for(&root).clone();
        let question = Question::of_project(&root, environment, settings);
        let facts = Facts::gather(&question, &base.join("memo")).unwrap();
        let mut scope = ProjectFiles::new(&question, &facts).unwrap();
        assert!(scope.reaches_beyond(), "nothing is known yet");
        let look = |scope: &mut ProjectFiles| {
            scope.refresh(Refresh::Folders(BTreeSet::from([root.clone()])), &mut |_| {});
            let walked = scope.directories().any(|folder| !folder.starts_with(&root));
            (scope.reaches_beyond(), walked)
        };
        assert_eq!(look(&mut scope), (false, false));
        std::fs::write(&manifest, &with).unwrap();
        assert_eq!(look(&mut scope), (true, true));
        std::fs::write(&manifest, package("w")).unwrap();
        assert_eq!(look(&mut scope), (false, false));
        // A dependency that is not there yet is looked at every time: no folder of it to watch.
        std::fs::write(&manifest, with.replace("../dep", "../later")).unwrap();
        assert_eq!(look(&mut scope), (false, false));
        let before = scope.look().digest.unwrap();
        std::fs::create_dir_all(base.join("later/src")).unwrap();
        std::fs::write(base.join("later/Cargo.toml"), package("dep")).unwrap();
        scope.refresh(Refresh::Folders(BTreeSet::new()), &mut |_| {});
        assert!(scope.reaches_beyond());
        assert_ne!(scope.look().digest.unwrap(), before);
    }
}
