//! A generated workspace and the real cargo in it.

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use knhk_test_cache::internals::compiler::{BuildSpec, TestCompiler};
use knhk_test_cache::internals::process::{
    Environment, Output, Priority, Spec, Suspender, capture,
};
use knhk_test_cache::internals::workspace::{CargoConfig, Selection, Toolchain};

use crate::home::machine;

/// The workspace is `w s`: a space in every path.
pub(crate) struct Place {
    _dir: tempfile::TempDir,
    pub(crate) base: PathBuf,
    pub(crate) root: PathBuf,
    pub(crate) environment: Environment,
}

/// A workspace with every kind of test target, a build script, a path dependency outside, and
/// files that only the compiler knows to be read.
pub(crate) fn files() -> Vec<(&'static str, &'static str)> {
    vec![
        ("w s/Cargo.toml", "[workspace]\nmembers=['a','b']\nresolver='2'\n"),
        (
            "w s/a/Cargo.toml",
            "[package]\nname='a'\nversion='0.1.0'\nedition='2021'\n[features]\nextra=[]\n\
             [dependencies]\nb={path='../b'}\ndep={path='../../dep'}\n\
             [[test]]\nname='custom'\nharness=false\n[[example]]\nname='ex'\ntest=true\n",
        ),
        (
            "w s/a/build.rs",
            "fn main() {\n println!(\"cargo:rerun-if-changed=watched\");\n \
             println!(\"cargo:rustc-env=DOC={}\", std::env::var(\"RUSTDOC\").unwrap());\n \
             let out = std::env::var(\"OUT_DIR\").unwrap();\n \
             std::fs::write(format!(\"{out}/made.rs\"), \"pub const MADE: u8 = 1;\").unwrap();\n}",
        ),
        ("w s/a/watched", ""),
        ("w s/a/ignored file.txt", "x"),
        ("outside.txt", "x"),
        (
            "w s/a/src/lib.rs",
            "//! ```\n//! assert_eq!(a::IGNORED, \"x\");\n\
             //! if let Ok(to) = std::env::var(\"DUMP\") {\n\
             //!     let env: Vec<_> = std::env::vars_os().collect();\n\
             //!     let dir = std::env::current_dir();\n\
             //!     std::fs::write(to, format!(\"{env:#?}{dir:?}\")).unwrap();\n//! }\n//! ```\n\
             include!(concat!(env!(\"OUT_DIR\"), \"/made.rs\"));\n\
             pub const DOC: &str = env!(\"DOC\");\n\
             pub const IGNORED: &str = include_str!(\"../ignored file.txt\");\n\
             #[test] fn one() { let unused = 1; }\n#[test] #[ignore] fn two() {}\n",
        ),
        (
            "w s/a/src/main.rs",
            "#[cfg(not(test))] const OUT: &str = include_str!(\"../../../outside.txt\");\n\
             fn main() { #[cfg(not(test))] print!(\"{OUT}\"); }\n",
        ),
        ("w s/a/tests/it.rs", "#[test] fn it() { assert!(!env!(\"CARGO_BIN_EXE_a\").is_empty()) }"),
        (
            "w s/a/tests/custom.rs",
            "fn main() { if let Ok(to) = std::env::var(\"DUMP\") {\n \
             let env: Vec<_> = std::env::vars_os().collect();\n \
             let args: Vec<_> = std::env::args_os().collect();\n \
             let dir = std::env::current_dir();\n \
             std::fs::write(to, format!(\"{env:#?}{args:?}{dir:?}\")).unwrap(); } }",
        ),
        ("w s/a/examples/ex.rs", "fn main() {}\n#[test] fn in_example() {}"),
        ("w s/b/Cargo.toml", "[package]\nname='b'\nversion='0.1.0'\nedition='2021'\n"),
        ("w s/b/src/lib.rs", "/// ```\n/// b::f();\n/// ```\npub fn f() {}\n#[test] fn t() {}\n"),
        ("dep/Cargo.toml", "[package]\nname='dep'\nversion='0.1.0'\nedition='2021'\n"),
        ("dep/src/lib.rs", ""),
    ]
}

impl Place {
    pub(crate) fn new(files: &[(&str, &str)]) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let base = dir.path().canonicalize().unwrap();
        let root = base.join("w s");
        let place = Self { _dir: dir, root, environment: machine(&base), base };
        files.iter().for_each(|(path, text)| place.write(path, text));
        place
    }

    pub(crate) fn write(&self, path: &str, text: &str) {
        let path = self.base.join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }

    /// The compiler for `cargo test <line>` in the root.
    pub(crate) fn compiler(&self, line: &[&str]) -> TestCompiler {
        TestCompiler::new(self.spec(line))
    }

    pub(crate) fn spec(&self, line: &[&str]) -> BuildSpec {
        let selection = Selection::parse(&self.root, line.iter().map(OsString::from));
        let config =
            CargoConfig::read(&self.root, &self.environment, &selection.configs()).unwrap();
        let memo = self.base.join("memo");
        let toolchain = Toolchain::find(&self.root, &self.environment, &config, &memo).unwrap();
        BuildSpec {
            target_dir: None,
            workspace_root: self.root.clone(),
            selection,
            environment: self.environment.clone(),
            toolchain,
            config,
            priority: Priority::Foreground,
            jobs: None,
            brake: Suspender::default(),
            colour: false,
            hook: env!("CARGO_BIN_EXE_knhk-test-cache").into(),
        }
    }

    /// `cargo test <line>` as a person types it.
    pub(crate) fn by_hand(&self, line: &[&str]) -> Output {
        let spec = Spec::new("cargo", &self.root, self.environment.clone()).arg("test").args(line);
        capture(&spec, Duration::from_secs(300)).unwrap()
    }

    /// The units that a build by hand compiled.
    pub(crate) fn stale_by_hand(&self, line: &[&str]) -> Vec<String> {
        let mut line = line.to_vec();
        line.extend(["--no-run", "-v"]);
        let output = self.by_hand(&line);
        let text = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.end.to_string(), "exit status 0", "{text}");
        assert!(text.contains("Finished"), "{text}");
        let stale = ["Compiling", "Dirty", "Running"];
        let lines =
            text.lines().filter(|line| stale.iter().any(|verb| line.trim().starts_with(verb)));
        lines.map(str::to_owned).collect()
    }
}
