//! Which files are a project's: its folder, less the target folders, plus the path dependencies
//! outside, as the manifests of the very snapshot say.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use super::{Facts, Look, Question};
use crate::cache::Cache;
use crate::hasher::{Changes, CodeHasher, DirChange, GlobError, Mark, Options, Snapshot};
use crate::model::{Digest, Digester};
use crate::workspace::{Outside, outside_roots};

/// What to read again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refresh {
    /// Everything: nothing is known of what changed.
    All,
    /// These folders, absolute.
    Folders(BTreeSet<PathBuf>),
}

/// A project's tree that follows its manifests.
pub struct Scope {
    root: PathBuf,
    hasher: CodeHasher,
    options: Options,
    overrides: Vec<PathBuf>,
    /// The manifests for which `outside` was worked out.
    manifests: Option<Digest>,
    outside: Outside,
    /// The options changed: only a full scan tells what that means.
    stale: bool,
}

impl Scope {
    /// The scope of a question. Nothing is read yet.
    ///
    /// # Errors
    /// If a glob of the project's settings is none.
    pub fn new(question: &Question, facts: &Facts) -> Result<Self, GlobError> {
        let options = Options {
            exclude_dirs: facts.target_dirs.clone(),
            extra_inputs: question.settings.extra_inputs.clone(),
            exclude: question.settings.exclude.clone(),
            outside: Vec::new(),
            environment: question.environment.clone(),
        };
        Ok(Self {
            root: question.root.clone(),
            hasher: CodeHasher::with_options(&question.root, options.clone())?,
            options,
            overrides: facts.package_paths.clone(),
            manifests: None,
            outside: Outside::default(),
            stale: true,
        })
    }

    /// Takes over what another question's environment says: its target folders are left out too,
    /// and its path overrides looked at.
    pub fn follow(&mut self, facts: &Facts) {
        for dir in &facts.target_dirs {
            if !self.options.exclude_dirs.contains(dir) {
                self.options.exclude_dirs.push(dir.clone());
                self.stale = true;
            }
        }
        if self.overrides != facts.package_paths {
            self.overrides.clone_from(&facts.package_paths);
            self.manifests = None;
            self.stale = true;
        }
    }

    /// Reads again what `how` says, and everything if the manifests or settings demand it. Tells
    /// whether anything was read from disk that the memo does not hold.
    pub fn refresh(&mut self, how: Refresh, on_dir: &mut dyn FnMut(DirChange<'_>)) -> bool {
        let mut how = if self.stale { Refresh::All } else { how };
        let mut hashed = false;
        // Each round can find path dependencies that the one before did not know; cargo allows no
        // cycle, but what lies on disk may be anything.
        for _ in 0..8 {
            if self.stale {
                // The globs were accepted when the scope was made.
                let _ = self.hasher.set_options(self.options.clone());
                self.stale = false;
            }
            let changes = match &how {
                Refresh::All => self.hasher.scan(on_dir),
                Refresh::Folders(folders) => self.hasher.rescan(folders, on_dir),
            };
            hashed |= changes.read_files > 0;
            if !self.outside_changed(&changes) {
                return hashed;
            }
            self.stale = true;
            how = Refresh::All;
        }
        hashed
    }

    /// Works out the outside folders anew if a manifest changed; tells whether they did.
    fn outside_changed(&mut self, changes: &Changes) -> bool {
        if self.manifests.is_some() && changes.is_empty() && self.outside.is_current() {
            return false;
        }
        let manifests = self.hasher.manifests_digest();
        if self.manifests == Some(manifests) && self.outside.is_current() {
            return false;
        }
        self.manifests = Some(manifests);
        match outside_roots(&self.root, &self.hasher.manifests(), &self.overrides) {
            Ok(outside) => {
                self.outside = outside;
                let roots = &self.outside.roots;
                let changed = self.options.outside != *roots;
                self.options.outside.clone_from(roots);
                changed
            }
            // Cargo will say what is wrong with the manifest; until then what was known counts.
            Err(_) => false,
        }
    }

    /// The snapshot as the last refresh left it.
    #[must_use]
    pub fn look(&self) -> Look<Mark> {
        let digest = match self.hasher.snapshot() {
            Snapshot::Known { digest, .. } => Ok(digest),
            Snapshot::Unknown { why } => Err(why),
        };
        Look { digest, mark: self.hasher.mark() }
    }

    /// Which files were touched since `mark`, as far as the last refresh saw; workspace-relative.
    #[must_use]
    pub fn changed_since(&self, mark: &Mark) -> Vec<String> {
        let relative =
            |path: PathBuf| path.strip_prefix(&self.root).unwrap_or(&path).display().to_string();
        self.hasher.changed_since(*mark).into_iter().map(relative).collect()
    }

    /// Whether folders outside the root are read: path dependencies, there or not.
    #[must_use]
    pub fn reaches_beyond(&self) -> bool {
        // Told from the options and not from the folders, of which there may be thousands.
        self.stale || self.options.outside.iter().any(|path| !path.starts_with(&self.root))
    }

    /// Every folder that must be watched.
    pub fn directories(&self) -> impl Iterator<Item = PathBuf> {
        self.hasher.directories()
    }

    /// Keeps the listing of the snapshot `tree` for explanations, if that is what the last
    /// refresh left.
    pub fn keep_listing(&self, cache: &Cache, tree: &Digest, code_hash: &Digest) {
        if self.look().digest.as_ref() != Ok(tree) {
            return;
        }
        if let Err(error) = cache.put_manifest(*code_hash, self.hasher.manifest().as_bytes()) {
            tracing::warn!(%error, "the listing of a snapshot is not kept");
        }
    }

    /// The tree itself.
    #[must_use]
    pub fn hasher(&self) -> &CodeHasher {
        &self.hasher
    }

    /// Where the memo of this project lies.
    #[must_use]
    pub fn memo_file(&self, cache_dir: &Path) -> PathBuf {
        use std::os::unix::ffi::OsStrExt as _;
        let mut name = Digester::new("memo name 1");
        name.field(self.root.as_os_str().as_bytes());
        cache_dir.join("memo").join(name.finish().to_string())
    }

    /// Takes digests from a memo.
    pub fn load_memo(&mut self, file: &Path) {
        self.hasher.load_memo(file);
    }

    /// Keeps digests in a memo, unless the file holds them already.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn save_memo(&mut self, file: &Path) -> std::io::Result<()> {
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
        let mut scope = Scope::new(&question, &facts).unwrap();
        assert!(scope.reaches_beyond(), "nothing is known yet");
        let mut look = |scope: &mut Scope| {
            scope.refresh(Refresh::Folders(BTreeSet::from([root.clone()])), &mut |_| {});
            let walked = scope.directories().any(|folder| !folder.starts_with(&root));
            (scope.reaches_beyond(), walked)
        };
        assert_eq!(look(&mut scope), (false, false));
        std::fs::write(&manifest, &with).unwrap();
        assert_eq!(look(&mut scope), (true, true));
        std::fs::write(&manifest, package("w")).unwrap();
        assert_eq!(look(&mut scope), (false, false));
        // A dependency that is not there yet: its coming into being must be noticed.
        std::fs::write(&manifest, with.replace("../dep", "../later")).unwrap();
        assert!(look(&mut scope).0);
    }
}
