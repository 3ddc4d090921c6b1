//! Which test target a program is that cargo calls.

use std::path::{Path, PathBuf};

use crate::cache::{FlakyTest, ProjectState};
use crate::model::{TargetId, TargetKind};
use crate::process::Environment;
use crate::verdict::binary::{named, plain_name};
use crate::verdict::patterns::of_any_kind;

/// Which test target a program is, by where it lies and what cargo says of its package.
pub(super) struct CalledTarget {
    pub(super) program: PathBuf,
    pub(super) package: String,
    /// As it stands in the file's name: `-` has become `_`.
    pub(super) name: String,
    pub(super) manifest_dir: PathBuf,
    pub(super) target_dir: PathBuf,
}

impl CalledTarget {
    /// `None` if it does not look like one.
    pub(super) fn of(program: &Path, environment: &Environment) -> Option<Self> {
        let (name, hash) = program.file_name()?.to_str()?.rsplit_once('-')?;
        let is_hash = hash.len() == 16 && hash.bytes().all(|byte| byte.is_ascii_hexdigit());
        let deps = program.parent()?;
        let profile = deps.parent()?;
        if !is_hash || name.contains('-') || !deps.ends_with("deps") || !profile.is_absolute() {
            return None;
        }
        let is_target = |dir: &&Path| dir.join("CACHEDIR.TAG").is_file();
        let target_dir = profile.ancestors().take(4).find(is_target)?.to_owned();
        let manifest_dir = PathBuf::from(environment.get("CARGO_MANIFEST_DIR")?);
        let package = environment.get("CARGO_PKG_NAME")?.to_str()?.to_owned();
        let name = name.to_owned();
        (manifest_dir.is_absolute() && !manifest_dir.starts_with(&target_dir)).then(|| Self {
            program: program.to_owned(),
            package,
            name,
            manifest_dir,
            target_dir,
        })
    }

    /// The target's name, as far as it can be told without asking cargo.
    pub(super) fn id(&self) -> TargetId {
        let Self { package, name, manifest_dir, .. } = self;
        let there = |path: String| manifest_dir.join(path).exists();
        let hyphens = name.replace('_', "-");
        let file = [name, &hyphens].into_iter().find(|name| {
            there(format!("tests/{name}.rs")) || there(format!("tests/{name}/main.rs"))
        });
        let (target, kind) = match file {
            Some(file) => (file.clone(), TargetKind::Test),
            None if there("src/lib.rs".to_owned()) => (name.clone(), TargetKind::Lib),
            None => (name.clone(), TargetKind::Bin),
        };
        TargetId { package: package.clone(), target, kind }
    }

    /// See [`plain_name`].
    pub(super) fn plain_name(&self) -> String {
        plain_name(&self.package, &self.name)
    }

    /// The target's name as cargo itself gave it when it was last asked, else as far as it can be
    /// told.
    pub(super) fn id_in(&self, state: &ProjectState) -> TargetId {
        let (plain, guess) = (self.plain_name(), self.id());
        let known = named(&state.targets, &plain);
        known.min_by_key(|id| id.kind != guess.kind).cloned().unwrap_or(guess)
    }

    /// Under which names something of it is known to be flaky. Targets of one name that are of two
    /// kinds are not told apart.
    pub(super) fn flaky_names(&self, state: &ProjectState) -> Vec<String> {
        self.names_among(state.flaky.keys())
    }

    /// Whether a verified answer of it was wrong.
    pub(super) fn is_distrusted(&self, state: &ProjectState) -> bool {
        !self.names_among(state.distrusted.keys()).is_empty()
    }

    fn names_among<'a>(&self, names: impl Iterator<Item = &'a String>) -> Vec<String> {
        let plain = |id: &str| id.replace('-', "_");
        let ids = of_any_kind(&self.package, &self.name).map(|id| plain(&id.to_string()));
        // A target of two builds has the triple behind its name.
        let is_ours = |known: &&String| {
            let known = plain(known);
            ids.iter().any(|id| known == *id || known.starts_with(&format!("{id}@")))
        };
        names.filter(is_ours).cloned().collect()
    }

    /// The tests of it that are known to be flaky.
    pub(super) fn flaky<'a>(&self, state: &'a ProjectState) -> Vec<&'a FlakyTest> {
        self.flaky_names(state).iter().flat_map(|name| &state.flaky[name]).collect()
    }

    /// What cargo has made for this run, as far as it says.
    pub(super) fn products(&self, environment: &Environment) -> Vec<PathBuf> {
        let programs = environment
            .iter()
            .filter(|(name, _)| name.as_encoded_bytes().starts_with(b"CARGO_BIN_EXE_"));
        let programs = programs.map(|(_, path)| PathBuf::from(path));
        programs.chain([self.program.clone()]).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Timestamp;

    #[test]
    fn only_a_program_where_cargo_puts_tests_is_one() {
        let dir = tempfile::tempdir().unwrap();
        let target = dir.path().join("target");
        std::fs::create_dir_all(target.join("debug/deps")).unwrap();
        let mut environment = Environment::default();
        environment.set("CARGO_MANIFEST_DIR", dir.path());
        environment.set("CARGO_PKG_NAME", "p-q");
        let of = |path: &str, environment: &Environment| {
            CalledTarget::of(&target.join(path), environment).map(|target| target.id().to_string())
        };
        let good = "debug/deps/p_q-0123456789abcdef";
        assert_eq!(of(good, &environment), None, "no target folder");
        std::fs::write(target.join("CACHEDIR.TAG"), "").unwrap();
        assert_eq!(of(good, &environment), Some("p-q::bin/p_q".into()));
        for bad in ["debug/p_q", "debug/deps/p_q", "debug/deps/p_q-0123456789abcdeg"] {
            assert_eq!(of(bad, &environment), None, "{bad}");
        }
        environment.remove("CARGO_MANIFEST_DIR");
        assert_eq!(of(good, &environment), None);
    }

    #[test]
    fn what_is_known_of_a_target_is_found_in_cargo_s_own_spelling() {
        let target = CalledTarget {
            program: "/t/debug/deps/my_it-0123456789abcdef".into(),
            package: "p-q".into(),
            name: "my_it".into(),
            manifest_dir: "/nowhere".into(),
            target_dir: "/t".into(),
        };
        let flaky = |test: &str| FlakyTest { test: test.into(), since: Timestamp(0), agreed: 0 };
        let mut state = ProjectState::default();
        assert_eq!(target.id_in(&state).to_string(), "p-q::bin/my_it", "a guess");
        let id = |target: &str| TargetId {
            package: "p-q".into(),
            target: target.into(),
            kind: TargetKind::Test,
        };
        state.targets = vec![id("other"), id("my-it")];
        assert_eq!(target.id_in(&state), id("my-it"));
        for (name, test) in [("p-q::my-it", "a"), ("p-q::my_it@x86", "b"), ("p-q::my_it2", "c")] {
            state.flaky.insert(name.into(), vec![flaky(test)]);
        }
        let tests: Vec<_> = target.flaky(&state).into_iter().map(|flaky| &*flaky.test).collect();
        assert_eq!(tests, ["a", "b"]);
    }
}
