//! Which of a shell's variables decide what cargo and the compilers make.

use std::ffi::OsStr;

use serde::{Deserialize, Serialize};

use crate::model::OsText;
use crate::process::Environment;

/// Variables that change what is built or where things are found.
const VARIABLE_NAMES: &[&str] = &[
    "AR",
    "ARFLAGS",
    "AS",
    "BINDGEN_EXTRA_CLANG_ARGS",
    "CARGO_CACHE_RUSTC_INFO",
    "CARGO_ENCODED_RUSTDOCFLAGS",
    "CARGO_ENCODED_RUSTFLAGS",
    "CARGO_HOME",
    "CARGO_INCREMENTAL",
    "CC",
    "CFLAGS",
    "CLANG_PATH",
    "CMAKE",
    "CMAKE_GENERATOR",
    "CMAKE_PREFIX_PATH",
    "CMAKE_TOOLCHAIN_FILE",
    "CPATH",
    "CPPFLAGS",
    "CROSS_COMPILE",
    "CXX",
    "CXXFLAGS",
    "CXXSTDLIB",
    "C_INCLUDE_PATH",
    "CPLUS_INCLUDE_PATH",
    "DEVELOPER_DIR",
    "IPHONEOS_DEPLOYMENT_TARGET",
    "LANG",
    "LC_ALL",
    "LD",
    "LDFLAGS",
    "LD_LIBRARY_PATH",
    "LIBCLANG_PATH",
    "LIBRARY_PATH",
    "LLVM_CONFIG_PATH",
    "MACOSX_DEPLOYMENT_TARGET",
    "NM",
    "OBJCOPY",
    "OPENSSL_DIR",
    "OPENSSL_INCLUDE_DIR",
    "OPENSSL_LIB_DIR",
    "OPENSSL_NO_VENDOR",
    "OPENSSL_STATIC",
    "PKG_CONFIG",
    "PROTOC",
    "PROTOC_INCLUDE",
    "PYO3_PYTHON",
    "RANLIB",
    "RUSTC",
    "RUSTC_BOOTSTRAP",
    "RUSTC_WORKSPACE_WRAPPER",
    "RUSTC_WRAPPER",
    "RUSTDOC",
    "RUSTDOCFLAGS",
    "RUSTFLAGS",
    "RUSTUP_HOME",
    "RUSTUP_TOOLCHAIN",
    "SDKROOT",
    "SOURCE_DATE_EPOCH",
    "STRIP",
    "XDG_CACHE_HOME",
    "XDG_CONFIG_HOME",
    "XDG_DATA_HOME",
];

/// Beginnings of such variables' names.
const PREFIXES: &[&str] = &[
    "AR_",
    "CARGO_BUILD_",
    "CARGO_HTTP_",
    "CARGO_NET_",
    "CARGO_PROFILE_",
    "CARGO_RESOLVER_",
    "CARGO_TARGET_",
    "CARGO_UNSTABLE_",
    "CC_",
    "CFLAGS_",
    "CXXFLAGS_",
    "CXX_",
    "HOST_",
    "PKG_CONFIG_",
    "SCCACHE_",
    "TARGET_",
];

/// Parts of names whose values nobody wants in a file.
const SECRET: &[&str] = &["TOKEN", "SECRET", "PASSWORD", "PASSWD", "CREDENTIAL", "_KEY"];

/// The variables that decide what is made, less `PATH`, and less what rustup's own `cargo` sets for
/// what it runs, us among it (`cargo run -- install`): kept for later it would outrank
/// `rust-toolchain.toml`, and point into one target.
pub(crate) fn build_variables(environment: &Environment) -> impl Iterator<Item = (&OsStr, &OsStr)> {
    let below_cargo = environment.get("RUST_RECURSION_COUNT").is_some();
    let by_cargo = move |name: &OsStr| {
        below_cargo && (name == "RUSTUP_TOOLCHAIN" || name == "LD_LIBRARY_PATH")
    };
    environment.iter().filter(move |(name, _)| decides_build(name) && !by_cargo(name))
}

/// Whether a variable's name says that its value is for nobody else to see.
#[must_use]
pub(crate) fn is_secret(name: &OsStr) -> bool {
    let name = name.to_string_lossy();
    SECRET.iter().any(|part| name.contains(part))
}

/// Whether a variable changes what is built.
pub(super) fn decides_build(name: &OsStr) -> bool {
    let name = name.to_string_lossy();
    VARIABLE_NAMES.contains(&&*name) || PREFIXES.iter().any(|prefix| name.starts_with(prefix))
}

/// The variables of a shell that decide a build, as they are kept over a restart: a build with them
/// leaves nothing to do for one from that shell. Secrets are not kept.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct BuildVariables(Vec<(OsText, OsText)>);

impl BuildVariables {
    /// The variables of this environment.
    #[must_use]
    pub(crate) fn of(environment: &Environment) -> Self {
        let path = environment.iter().filter(|(name, _)| *name == "PATH");
        let kept = build_variables(environment).filter(|(name, _)| !is_secret(name)).chain(path);
        Self(kept.map(|(name, value)| (OsText(name.into()), OsText(value.into()))).collect())
    }

    /// Another environment with these in the place of its own.
    #[must_use]
    pub(crate) fn within(&self, mut other: Environment) -> Environment {
        let own: Vec<_> = build_variables(&other).map(|(name, _)| name.to_owned()).collect();
        own.into_iter().filter(|name| !is_secret(name)).for_each(|name| other.remove(name));
        self.0.iter().for_each(|(name, value)| other.set(&name.0, &value.0));
        other
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_service_builds_like_the_shell_that_was_last_heard_of() {
        let shell = Environment::of(&[
            ("PATH", "/shell"),
            ("RUSTFLAGS", "-Cdebuginfo=0"),
            ("CARGO_TARGET_DIR", "/t"),
            ("SCCACHE_AZURE_KEY", "k"),
            ("GITHUB_TOKEN", "secret"),
            ("EDITOR", "vi"),
        ]);
        let service = Environment::of(&[
            ("PATH", "/service"),
            ("CC", "gcc"),
            ("SCCACHE_AZURE_KEY", "own"),
            ("LOGNAME", "me"),
        ]);
        let kept = BuildVariables::of(&shell);
        let text = serde_json::to_string(&kept).unwrap();
        assert!(!text.contains("secret") && !text.contains("vi"), "{text}");
        let kept: BuildVariables = serde_json::from_str(&text).unwrap();
        let expected = Environment::of(&[
            ("PATH", "/shell"),
            ("RUSTFLAGS", "-Cdebuginfo=0"),
            ("CARGO_TARGET_DIR", "/t"),
            ("SCCACHE_AZURE_KEY", "own"),
            ("LOGNAME", "me"),
        ]);
        assert_eq!(kept.within(service), expected);
    }

    #[test]
    fn what_rustup_set_for_one_call_is_not_kept() {
        let pairs = [("RUSTUP_TOOLCHAIN", "nightly"), ("RUST_RECURSION_COUNT", "1")];
        assert_eq!(build_variables(&Environment::of(&pairs)).count(), 0);
        assert_eq!(build_variables(&Environment::of(&pairs[..1])).count(), 1);
    }
}
