//! What a manifest says about the build script of its package, and about the files that cargo takes
//! for its inputs.

use std::path::Path;

use super::toml_file;

/// A package's build script, as far as its manifest decides it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct BuildScript {
    /// The manifest names a build script.
    pub(crate) is_named: bool,
    /// The package has a build script if a file `build.rs` lies beside the manifest.
    pub(crate) is_looked_for: bool,
    /// The manifest lists the files of the package in `include`: cargo does not ask git then.
    pub(crate) has_include: bool,
}

impl BuildScript {
    /// Reads a manifest. One that cannot be understood may say anything.
    pub(crate) fn of(manifest: &[u8]) -> Self {
        let Ok(table) = toml_file::parse(Path::new(""), manifest) else {
            return Self { is_named: true, is_looked_for: true, has_include: true };
        };
        let package = ["package", "project"].iter().find_map(|name| table.get(*name));
        let build = package.and_then(|package| package.get("build"));
        Self {
            is_named: build.is_some_and(|build| build.as_bool() != Some(false)),
            is_looked_for: package.is_some() && build.is_none(),
            has_include: package.is_some_and(|package| package.get("include").is_some()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(manifest: &str) -> (bool, bool, bool) {
        let script = BuildScript::of(manifest.as_bytes());
        (script.is_named, script.is_looked_for, script.has_include)
    }

    #[test]
    fn a_build_script_is_named_looked_for_or_ruled_out() {
        assert_eq!(of("[package]\nname = 'p'\n"), (false, true, false));
        assert_eq!(of("[package]\nbuild = 'make.rs'\n"), (true, false, false));
        assert_eq!(of("[package]\nbuild = true\n"), (true, false, false));
        assert_eq!(of("[package]\nbuild = ['a.rs', 'b.rs']\n"), (true, false, false));
        assert_eq!(of("[package]\nbuild = false\n"), (false, false, false));
        assert_eq!(of("[project]\nbuild = 'make.rs'\n"), (true, false, false));
        assert_eq!(of("[workspace]\nmembers = ['a']\n"), (false, false, false));
    }

    #[test]
    fn a_list_of_files_and_an_unknown_manifest_are_told() {
        assert_eq!(of("[package]\ninclude = ['src']\n"), (false, true, true));
        assert_eq!(of("[package]\ninclude.workspace = true\n"), (false, true, true));
        assert_eq!(of("[package]\nexclude = ['x']\n"), (false, true, false));
        assert_eq!(of("[package\n"), (true, true, true));
        assert!(BuildScript::of(b"\xff").is_named);
    }
}
