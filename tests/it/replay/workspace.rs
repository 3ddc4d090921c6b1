//! A workspace with everything that decides a verdict: every kind of test target, fixtures read
//! in every way, a build script, a path dependency outside, a file that git ignores.

use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::time::{Duration, SystemTime};

use crate::home::Home;

/// The files, relative to the workspace.
const FILES: &[(&str, &str)] = &[
    ("Cargo.toml", "[workspace]\nmembers = ['app', 'util']\nresolver = '2'\n"),
    (".gitignore", "/target\ngenerated.txt\n.env\n"),
    (
        "util/Cargo.toml",
        "[package]\nname = 'util'\nversion = '0.1.0'\nedition = '2021'\n\
         [features]\nextra = []\n[dependencies]\nouter = { path = '../../outer' }\n",
    ),
    (
        "util/build.rs",
        "fn main() {\n    println!(\"cargo:rerun-if-changed=build-input.txt\");\n    \
         let text = std::fs::read_to_string(\"build-input.txt\").unwrap();\n    \
         println!(\"cargo:rustc-env=BUILT_FROM={}\", text.trim());\n}\n",
    ),
    ("util/build-input.txt", "4\n"),
    ("util/generated.txt", "generated"),
    ("util/fixtures/greeting.txt", "hello"),
    ("util/fixtures/other.txt", "other"),
    ("util/fixtures/tool.sh", "#!/bin/sh\n"),
    (
        "util/tests/reads.rs",
        "use std::os::unix::fs::PermissionsExt;\n\n\
         fn read(path: &str) -> String {\n    std::fs::read_to_string(path).unwrap()\n}\n\n\
         #[test]\nfn greeting() {\n    assert_eq!(read(\"fixtures/greeting.txt\"), \"hello\");\n}\n\n\
         #[test]\nfn not_executable() {\n    \
         let mode = std::fs::metadata(\"fixtures/tool.sh\").unwrap().permissions().mode();\n    \
         assert_eq!(mode & 0o111, 0);\n}\n\n\
         #[test]\nfn link() {\n    assert_eq!(read(\"fixtures/link\"), \"hello\");\n}\n\n\
         #[test]\nfn dotenv() {\n    \
         let text = std::fs::read_to_string(\"../.env\").unwrap_or_default();\n    \
         assert!(!text.contains(\"BAD\"));\n}\n\n\
         #[test]\nfn knob() {\n    assert_ne!(std::env::var(\"KNOB\").ok().as_deref(), Some(\"bad\"));\n}\n\n\
         #[test]\n#[ignore]\nfn ignored() {\n    panic!();\n}\n",
    ),
    (
        "app/Cargo.toml",
        "[package]\nname = 'app'\nversion = '0.1.0'\nedition = '2021'\n\
         [dependencies]\nutil = { path = '../util' }\n\
         [[test]]\nname = 'custom'\nharness = false\n[[example]]\nname = 'demo'\ntest = true\n",
    ),
    (
        "app/src/main.rs",
        "fn main() {\n    println!(\"{}\", util::double(21));\n}\n\n\
         #[test]\nfn in_the_binary() {}\n",
    ),
    (
        "app/tests/custom.rs",
        "fn main() {\n    println!(\"test result: ok. 7 passed; nothing of the kind\");\n    \
         assert_eq!(util::double(1), 2);\n}\n",
    ),
    ("app/examples/demo.rs", "fn main() {}\n\n#[test]\nfn in_the_example() {}\n"),
    ("../outer/src/lib.rs", "pub fn answer() -> u32 {\n    42\n}\n"),
];

/// Makes the workspace as a git repository with one commit, its lock file included.
pub(crate) fn make() -> Home {
    let home = Home::new();
    FILES.iter().for_each(|(path, text)| home.write(path, text));
    home.write(UTIL, &util("n * 2"));
    home.write(CLI, &cli(42));
    home.write(OUTER_MANIFEST, &outer_manifest("0.1.0"));
    symlink("greeting.txt", home.root.join("util/fixtures/link")).unwrap();
    set_mode(&home, "util/fixtures/tool.sh", 0o644);
    // Git does not know this one. What only the build knows must not have changed just now, or
    // nothing is kept.
    let file = std::fs::File::options().write(true).open(home.root.join("util/generated.txt"));
    let past = SystemTime::now() - Duration::from_secs(60);
    file.unwrap().set_modified(past).unwrap();
    let lock = home.cargo(&["generate-lockfile"]);
    assert_eq!(lock.code, Some(0), "{lock:#?}");
    home.git(&["init", "-q", "-b", "main"]);
    commit(&home);
    home
}

pub(crate) fn commit(home: &Home) {
    home.git(&["add", "-A"]);
    home.git(&["commit", "-q", "-m", "all"]);
}

pub(crate) fn set_mode(home: &Home, path: &str, mode: u32) {
    let mode = std::fs::Permissions::from_mode(mode);
    std::fs::set_permissions(home.root.join(path), mode).unwrap();
}

pub(crate) const UTIL: &str = "util/src/lib.rs";

/// A library whose `double` has this body.
pub(crate) fn util(body: &str) -> String {
    documented_util("Doubles.", body)
}

/// The same with this documentation.
pub(crate) fn documented_util(doc: &str, body: &str) -> String {
    format!(
        "/// {doc}\n///\n/// ```\n/// assert_eq!(util::double(2), 4);\n/// ```\n\
         pub fn double(n: i32) -> i32 {{\n    {body}\n}}\n\n\
         pub const GENERATED: &str = include_str!(\"../generated.txt\");\n\n\
         #[cfg(test)]\nmod tests {{\n    use super::*;\n\n    \
         #[test]\n    fn doubles() {{\n        assert_eq!(double(4), 8);\n    }}\n\n    \
         #[test]\n    fn outer_answers() {{\n        assert_eq!(outer::answer(), 42);\n    }}\n\n    \
         #[test]\n    fn built_from() {{\n        \
         assert_eq!(double(2).to_string(), env!(\"BUILT_FROM\"));\n    }}\n\n    \
         #[test]\n    fn generated() {{\n        assert_eq!(GENERATED, \"generated\");\n    }}\n\n    \
         #[cfg(feature = \"extra\")]\n    #[test]\n    fn only_with_extra() {{\n        \
         assert!(std::env::var_os(\"EXTRA_FAILS\").is_none());\n    }}\n}}\n"
    )
}

pub(crate) const CLI: &str = "app/tests/cli.rs";

/// A test of the program, which prints 42.
pub(crate) fn cli(expected: u32) -> String {
    format!(
        "#[test]\nfn prints() {{\n    \
         let out = std::process::Command::new(env!(\"CARGO_BIN_EXE_app\")).output().unwrap();\n    \
         assert_eq!(out.stdout, b\"{expected}\\n\");\n}}\n"
    )
}

pub(crate) const OUTER_MANIFEST: &str = "../outer/Cargo.toml";

pub(crate) fn outer_manifest(version: &str) -> String {
    format!("[package]\nname = 'outer'\nversion = '{version}'\nedition = '2021'\n")
}
