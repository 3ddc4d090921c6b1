//! Cargo's messages in JSON, as far as we need them. Unknown kinds and fields are ignored, because
//! newer cargos may add some.

use std::path::PathBuf;

use serde::Deserialize;

/// One line of `--message-format=json`.
#[derive(Debug, Deserialize)]
#[serde(tag = "reason", rename_all = "kebab-case")]
pub(super) enum CargoMessage {
    /// A unit was built, or was fresh.
    CompilerArtifact(ArtifactMessage),
    /// The compiler says something.
    #[serde(rename = "compiler-message")]
    Diagnostic {
        /// The diagnostic.
        message: Diagnostic,
    },
    /// A build script has run, now or earlier.
    BuildScriptExecuted(ScriptMessage),
    /// The end of the build.
    BuildFinished {
        /// Whether all went well.
        success: bool,
    },
    /// Any other message.
    #[serde(other)]
    Other,
}

/// `compiler-artifact`.
#[derive(Clone, Debug, Deserialize)]
pub(super) struct ArtifactMessage {
    pub(super) package_id: String,
    #[serde(default)]
    pub(super) manifest_path: PathBuf,
    pub(super) target: TargetMessage,
    pub(super) profile: ProfileMessage,
    #[serde(default)]
    pub(super) filenames: Vec<PathBuf>,
    pub(super) executable: Option<PathBuf>,
    #[serde(default)]
    pub(super) features: Vec<String>,
    pub(super) fresh: bool,
}

/// The target of an artifact.
#[derive(Clone, Debug, Deserialize)]
pub(super) struct TargetMessage {
    pub(super) name: String,
    pub(super) kind: Vec<String>,
    pub(super) src_path: PathBuf,
}

/// The profile of an artifact.
#[derive(Clone, Debug, Deserialize)]
pub(super) struct ProfileMessage {
    pub(super) test: bool,
    /// Empty where an older cargo does not say it as a text.
    #[serde(default)]
    pub(super) opt_level: String,
}

/// `build-script-executed`.
#[derive(Clone, Debug, Deserialize)]
pub(super) struct ScriptMessage {
    pub(super) package_id: String,
    #[serde(default)]
    pub(super) out_dir: PathBuf,
    /// The variables that it gives to its package (`cargo::rustc-env`), by name and value.
    #[serde(default)]
    pub(super) env: Vec<(String, String)>,
}

/// A diagnostic of rustc.
#[derive(Debug, Deserialize)]
pub(super) struct Diagnostic {
    pub(super) level: String,
    #[serde(default)]
    pub(super) message: String,
    pub(super) rendered: Option<String>,
}

impl ArtifactMessage {
    /// Whether the package's source is a folder of ours rather than a registry or git checkout.
    pub(super) fn is_local(&self) -> bool {
        is_local(&self.package_id)
    }

    /// Whether cargo would run it as a test.
    pub(super) fn is_test(&self) -> bool {
        self.profile.test && self.executable.is_some()
    }
}

/// `path+file:///…#name@1.0.0`; before cargo 1.77 `name 1.0.0 (path+file:///…)`.
pub(super) fn is_local(package_id: &str) -> bool {
    package_id.starts_with("path+") || package_id.contains("(path+")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_of_another_kind_or_with_more_fields_are_no_error() {
        let other: CargoMessage =
            serde_json::from_str(r#"{"reason":"timing-info","x":1}"#).unwrap();
        assert!(matches!(other, CargoMessage::Other));
        let finished = r#"{"reason":"build-finished","success":true,"new":[]}"#;
        let finished: CargoMessage = serde_json::from_str(finished).unwrap();
        assert!(matches!(finished, CargoMessage::BuildFinished { success: true }));
    }

    #[test]
    fn both_forms_of_a_package_id() {
        assert!(is_local("path+file:///w/a#0.1.0") && is_local("a 0.1.0 (path+file:///w/a)"));
        assert!(!is_local("registry+https://github.com/rust-lang/crates.io-index#path@0.1.0"));
        assert!(!is_local("git+https://example.org/path+x#0.1.0"));
    }
}
