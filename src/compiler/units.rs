//! The units of a build, and whether another build has the same ones.
//!
//! Cargo decides features over all packages that are selected at once, so that a package built by
//! itself can have other features, or dependencies with other features, than as a part of the whole
//! workspace. Such a build is useless for the whole. The file names tell: they contain cargo's
//! digest of all that.

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash, Hasher as _};
use std::path::PathBuf;

use super::message::{ArtifactMessage, ScriptMessage};

/// A unit that cargo built or found fresh.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Product {
    /// Cargo's own name for the package, which `-p` takes.
    pub package_id: String,
    /// The package's manifest.
    pub manifest: PathBuf,
    /// Whether the package is a folder of ours rather than from a registry.
    pub local: bool,
    /// The target's name.
    pub target: String,
    /// The target's kinds.
    pub kinds: Vec<String>,
    /// Whether it was built with its tests.
    pub test: bool,
    /// The package's features that are enabled in it.
    pub features: Vec<String>,
    /// Its files.
    pub files: Vec<PathBuf>,
    /// The program, where it is one.
    pub executable: Option<PathBuf>,
    /// The variables that its package's build script gives to the program's runs, by name and value.
    pub variables: Vec<(String, String)>,
}

impl Product {
    /// The unit of this message, after the build scripts that have run.
    pub(super) fn of(message: &ArtifactMessage, scripts: &[ScriptMessage]) -> Self {
        let scripts = scripts.iter().filter(|script| script.package_id == message.package_id);
        Self {
            package_id: message.package_id.clone(),
            manifest: message.manifest_path.clone(),
            local: message.is_local(),
            target: message.target.name.clone(),
            kinds: message.target.kind.clone(),
            test: message.profile.test,
            features: message.features.clone(),
            files: message.filenames.clone(),
            executable: message.executable.clone(),
            variables: scripts.flat_map(|script| script.env.iter().cloned()).collect(),
        }
    }

    /// Whether it is a test binary.
    #[must_use]
    pub(crate) fn is_test(&self) -> bool {
        self.test && self.executable.is_some()
    }

    fn key(&self) -> u64 {
        digest(&(&self.package_id, &self.target, &self.kinds, self.test))
    }
}

/// All units of a build.
#[derive(Clone, Debug, Default)]
pub(crate) struct Units(HashMap<u64, Vec<u64>>);

impl Units {
    /// The units of a build that succeeded.
    #[must_use]
    pub(crate) fn of(products: &[Product]) -> Self {
        let mut units: HashMap<u64, Vec<u64>> = HashMap::new();
        for product in products {
            // There can be two: one for the host and one for the target.
            units.entry(product.key()).or_default().push(digest(&product.files));
        }
        Self(units)
    }

    /// Whether `product` differs from the unit of this build that has its name. A local target
    /// without such a unit is new: nothing is known about it.
    #[must_use]
    pub(crate) fn is_other(&self, product: &Product) -> bool {
        match self.0.get(&product.key()) {
            Some(files) => !files.contains(&digest(&product.files)),
            None => !product.local,
        }
    }
}

/// A digest for this process only.
fn digest(what: &impl Hash) -> u64 {
    let mut hasher = DefaultHasher::new();
    what.hash(&mut hasher);
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn product(local: bool, target: &str, test: bool, file: &str) -> Product {
        Product {
            package_id: if local { "path+file:///w#0.1.0" } else { "registry+x#1.0.0" }.to_owned(),
            manifest: "/w/Cargo.toml".into(),
            local,
            target: target.to_owned(),
            kinds: vec!["lib".to_owned()],
            test,
            features: Vec::new(),
            files: vec![file.into()],
            executable: None,
            variables: Vec::new(),
        }
    }

    #[test]
    fn other_features_show_in_the_names_of_files() {
        let whole = Units::of(&[
            product(true, "w", false, "libw-1.rlib"),
            product(true, "w", true, "w-2"),
            product(false, "serde", false, "libserde-3.rlib"),
            // The same for a build script, with other features.
            product(false, "serde", false, "libserde-4.rlib"),
        ]);
        assert!(!whole.is_other(&product(true, "w", true, "w-2")));
        assert!(whole.is_other(&product(true, "w", true, "w-1")));
        assert!(!whole.is_other(&product(false, "serde", false, "libserde-4.rlib")));
        assert!(whole.is_other(&product(false, "serde", false, "libserde-5.rlib")));
        assert!(!whole.is_other(&product(true, "new test", true, "new_test-1")));
        assert!(whole.is_other(&product(false, "optional", false, "liboptional-1.rlib")));
    }
}
