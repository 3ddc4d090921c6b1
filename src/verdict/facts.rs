//! What is known of a question before any file of the workspace is read: the toolchain, cargo's
//! configuration, the environment.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use super::built_units::{self, BuildContext};
use super::processor::{PROCESSOR, processor};
use crate::compiler::{Build, BuildLedger};
use crate::config::Settings;
use crate::hasher::is_cargo_target;
use crate::model::{Digest, Digester, Timestamp};
use crate::process::Environment;
use crate::workspace::{
    CargoConfig, CargoConfigError, CargoConfigFile, Identity, PathStamp, Selection, Toolchain,
    ToolchainError, is_configured_apart,
};
use crate::{cache, config};

/// The folder of ledgers below the records.
pub(crate) const LEDGERS: &str = "built";

/// "Are the tests green?", with everything that it depends on.
#[derive(Clone, Debug)]
pub struct Question {
    /// The workspace's root.
    pub root: PathBuf,
    /// Which tests.
    pub selection: Selection,
    /// The client's environment, for the build and the tests.
    pub environment: Environment,
    /// The project's settings.
    pub settings: Settings,
    /// Where the tests are built, if the config or the selection says so.
    pub target_dir: Option<PathBuf>,
}

/// Where something is built: the target folders of a question, and those of other workspaces.
pub(super) struct ProductFolders(Vec<PathBuf>);

impl ProductFolders {
    pub(super) fn of(target_dirs: &[PathBuf]) -> Self {
        let real = |dir: &PathBuf| dir.canonicalize().unwrap_or_else(|_| dir.clone());
        Self(target_dirs.iter().map(real).collect())
    }

    /// Whether a path without links lies there.
    pub(super) fn hold(&self, real: &Path) -> bool {
        real.ancestors()
            .any(|folder| self.0.iter().any(|dir| dir == folder) || is_cargo_target(folder))
    }

    /// Those of the paths that are links to something there.
    pub(super) fn links(&self, paths: &[PathBuf]) -> Vec<PathBuf> {
        let links = paths.iter().filter(|path| path.is_symlink());
        links
            .filter(|path| path.canonicalize().is_ok_and(|real| self.hold(&real)))
            .cloned()
            .collect()
    }
}

impl Question {
    /// Whether cargo-nextest runs one test at a time.
    pub(super) fn is_serial(&self) -> bool {
        self.settings.serial || self.selection.jobs().is_some_and(|jobs| jobs == "1")
    }

    /// The question that is meant when no selection is typed: the project's own, asked in its
    /// root.
    #[must_use]
    pub fn of_project(root: &Path, environment: Environment, settings: Settings) -> Self {
        Self::asked(root, root, None, Vec::new(), environment, settings)
    }

    /// The question that is asked in the folder `dir`: cargo's arguments if any were typed, else
    /// the project's own selection; and `harness`, the words after `--`. Everybody who asks makes
    /// it here, or equal questions would differ.
    ///
    /// The project's own selection means the same in every folder, and is asked in the root, unless
    /// cargo would be configured in another way in `dir`.
    #[must_use]
    pub(crate) fn asked(
        root: &Path,
        dir: &Path,
        typed: Option<Vec<OsString>>,
        harness: Vec<OsString>,
        environment: Environment,
        settings: Settings,
    ) -> Self {
        let selection = match typed {
            Some(cargo) => Selection { dir: dir.to_owned(), cargo, harness },
            None => {
                let dir = if is_configured_apart(dir, root) { dir } else { root };
                let mut own = Selection::parse(dir, settings.args.iter().map(Into::into));
                own.harness.extend(harness);
                own
            }
        };
        // What is typed comes first.
        let target_dir = selection.target_dir().or_else(|| settings.target_dir.of(root));
        Self { root: root.to_owned(), selection, environment, settings, target_dir }
    }

    /// Says whose the folder is that is about to be built into, where the project has one to
    /// itself. Without it, one that is not wanted any more is found out later.
    pub(crate) fn mark_target(&self) {
        let Some(target) = &self.target_dir else { return };
        let config::TargetDir::Own(below) = &self.settings.target_dir else { return };
        if let Err(error) = cache::mark_own_target_dir(below, target, &self.root) {
            tracing::debug!(%error, folder = %target.display(), "cannot say whose it is");
        }
    }

    /// Where it is noted what our builds of the workspace at `root` have made.
    #[must_use]
    pub(crate) fn ledger_file(root: &Path, cache_dir: &Path) -> PathBuf {
        let name = Digest::of(root.as_os_str().as_bytes());
        cache_dir.join(LEDGERS).join(format!("{name}.json"))
    }

    /// Where it is noted in which environment they were made.
    pub(super) fn units_file(&self, cache_dir: &Path) -> PathBuf {
        Self::ledger_file(&self.root, cache_dir).with_extension("units")
    }

    /// Where the plans of the workspace's runs are remembered.
    pub(super) fn plans_file(&self, cache_dir: &Path) -> PathBuf {
        Self::ledger_file(&self.root, cache_dir).with_extension("plans")
    }

    /// Takes note of what a build for this question has made: nothing else of a target directory
    /// is ever removed. Without the note, that stays too.
    pub(crate) fn note_build(&self, identity: &Identity, build: &Build, cache_dir: &Path) {
        let context = BuildContext::new(&self.root, &self.environment, identity);
        built_units::note(&self.units_file(cache_dir), context, &build.sources.units);
        let file = Self::ledger_file(&self.root, cache_dir);
        let mut ledger = BuildLedger::load(&file);
        if ledger.note(&self.ledger_entry(), &build.named, Timestamp::now())
            && let Err(error) = ledger.save(&file)
        {
            tracing::debug!(%error, file = %file.display(), "cannot note what was built");
        }
    }

    /// Under which name builds for this question are noted.
    fn ledger_entry(&self) -> String {
        let mut digester = Digester::new("builds of 1");
        digester.field(&self.selection.canonical(&self.root));
        let place = self.target_dir.as_deref().unwrap_or(Path::new(""));
        digester.field(place.as_os_str().as_bytes());
        digester.finish().to_string()
    }

    /// Whether a build for this question has been made here, and is still there.
    pub(super) fn is_built(&self, facts: &Facts, cache_dir: &Path) -> bool {
        let ledger = BuildLedger::load(&Self::ledger_file(&self.root, cache_dir));
        let is_there = |dir: &PathBuf| dir.is_dir();
        ledger.knows(&self.ledger_entry()) && facts.target_dirs.iter().any(is_there)
    }

    /// The selection for people and for finding the last record of the same one.
    #[must_use]
    pub(crate) fn selection_text(&self) -> String {
        let Selection { dir, cargo, harness } = &self.selection;
        let mut words = vec!["cargo test".to_owned()];
        words.extend(cargo.iter().map(|arg| arg.to_string_lossy().into_owned()));
        if !harness.is_empty() {
            words.push("--".to_owned());
            words.extend(harness.iter().map(|arg| arg.to_string_lossy().into_owned()));
        }
        if let Some(below) = dir.strip_prefix(&self.root).ok().filter(|dir| *dir != Path::new("")) {
            words.push(format!("(in {})", below.display()));
        }
        words.join(" ")
    }
}

/// Why the facts cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum FactsError {
    /// No cargo, no rustc, or a toolchain that is not installed.
    #[error(transparent)]
    Toolchain(#[from] ToolchainError),
    /// A configuration file of cargo that cannot be read.
    #[error(transparent)]
    Config(#[from] CargoConfigError),
}

/// The facts of one question.
#[derive(Clone, Debug)]
pub struct Facts {
    /// Cargo, rustc and where they are.
    pub toolchain: Toolchain,
    /// Cargo's configuration where the question is asked.
    pub cargo_config: CargoConfig,
    /// What decides the build and the run besides files.
    pub identity: Identity,
    /// Every folder into which cargo builds, absolute.
    pub target_dirs: Vec<PathBuf>,
    /// Those, and the ones that the developer's cargo would build into: no sources either.
    pub all_target_dirs: Vec<PathBuf>,
    /// `paths` overrides of cargo's configuration.
    pub package_paths: Vec<PathBuf>,
    /// Which files cargo's configuration was read from, each as it was.
    config_files: Vec<(PathBuf, PathStamp)>,
}

impl Facts {
    /// Gathers the facts; starts no process where the memo in `memo_dir` still holds.
    ///
    /// # Errors
    /// If the toolchain or cargo's configuration cannot be had.
    pub fn gather(question: &Question, memo_dir: &Path) -> Result<Self, FactsError> {
        let Question { root, selection, environment, .. } = question;
        let cargo_config = CargoConfig::read(&selection.dir, environment, &selection.configs())?;
        let stamped = |file: &CargoConfigFile| (file.path.clone(), PathStamp::followed(&file.path));
        let config_files = cargo_config.files().iter().map(stamped).collect();
        let memo_dir = memo_dir.join("toolchain");
        let toolchain = Toolchain::find(&selection.dir, environment, &cargo_config, &memo_dir)?;
        let mut identity = Identity::of(root, &toolchain, &cargo_config, environment);
        let asked = selection.targets();
        let targets = if asked.is_empty() { cargo_config.build_targets() } else { asked };
        let missing = toolchain.missing_libraries(&targets).into_iter();
        let part = |target| format!("missing standard library for {target}");
        identity.build.extend(missing.map(|target| (part(target), Digest::of(b"missing"))));
        for target in targets.iter().filter(|target| target.ends_with(".json")) {
            let text = std::fs::read(selection.dir.join(target)).unwrap_or_default();
            identity.build.insert(format!("target {target}"), Digest::of(&text));
        }
        let files = cargo_config.files().iter().map(|file| &*file.path);
        let processor = processor(root, selection, environment, files);
        identity.build.extend(processor.map(|digest| (PROCESSOR.to_owned(), digest)));
        let theirs = cargo_config.target_dirs(root, selection.target_dir());
        let target_dirs = match &question.target_dir {
            Some(own) if selection.target_dir().is_none() => {
                let outside = !root.starts_with(own);
                outside.then(|| own.clone()).into_iter().collect()
            }
            _ => theirs.clone(),
        };
        let all: BTreeSet<PathBuf> = target_dirs.iter().cloned().chain(theirs).collect();
        let all_target_dirs = all.into_iter().collect();
        let package_paths = cargo_config.package_paths();
        Ok(Self {
            toolchain,
            cargo_config,
            identity,
            target_dirs,
            all_target_dirs,
            package_paths,
            config_files,
        })
    }

    /// Whether cargo makes what is there.
    pub(super) fn is_made(&self, path: &Path) -> bool {
        self.target_dirs.iter().any(|dir| path.starts_with(dir))
    }

    /// A target directory in which cargo looks for targets or members as well.
    #[must_use]
    pub(crate) fn target_among_sources(&self, root: &Path) -> Option<&Path> {
        const OF_TARGETS: [&str; 4] = ["src", "tests", "examples", "benches"];
        let has_manifest = |dir: &Path| dir.join("Cargo.toml").exists();
        let is_among = |dir: &&PathBuf| {
            let below = std::fs::read_dir(dir).into_iter().flatten().flatten();
            dir.starts_with(root)
                && (OF_TARGETS.iter().any(|name| dir.ends_with(name))
                    || has_manifest(dir)
                    || below.into_iter().any(|entry| has_manifest(&entry.path())))
        };
        self.all_target_dirs.iter().find(is_among).map(PathBuf::as_path)
    }

    /// Names what is not as it was when `before` was gathered for the same question; a
    /// configuration file that was written and says the same is named too.
    #[must_use]
    pub(crate) fn changed_since(&self, before: &Self) -> Vec<String> {
        let mut changed = self.identity.diff(&before.identity);
        let mut also = |is_other: bool, what: &str| {
            if is_other && changed.is_empty() {
                changed.push(what.to_owned());
            }
        };
        also(self.config_files != before.config_files, "cargo's configuration was written");
        also(self.toolchain != before.toolchain, "the toolchain has changed");
        also(self.all_target_dirs != before.all_target_dirs, "the target directory has changed");
        also(self.package_paths != before.package_paths, "path overrides have changed");
        changed
    }
}
