//! Builds that only some processors can run.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use crate::model::Digest;
use crate::process::Environment;
use crate::workspace::{Selection, is_for_build};

/// The name of the part that says which processor this is.
pub(super) const PROCESSOR: &str = "processor";

/// What has compilers build for a certain processor: the one at hand, or one that is named.
const FLAGS: [&str; 7] =
    ["=native", "target-cpu", "target-feature", "-march=", "-mcpu=", "-mavx", "-msse"];

/// How the C library is linked is said by such a flag too.
const OF_LINKING: [&str; 2] = ["target-feature=+crt-static", "target-feature=-crt-static"];

/// Digest of what the processor can do, where a build goes by it: a variable for compilers, a word of the
/// selection, the workspace's manifest or one of these files of cargo's configuration has one of [`FLAGS`].
pub(super) fn processor<'c>(
    root: &Path,
    selection: &Selection,
    environment: &Environment,
    mut config: impl Iterator<Item = &'c Path>,
) -> Option<Digest> {
    let in_file = |path: &Path| std::fs::read(path).is_ok_and(|text| names_one(&text));
    let mut variables = environment.iter().filter(|(name, _)| is_for_compilers(name));
    let mut words = selection.cargo.iter();
    let goes_by_it = variables.any(|(_, value)| names_one(value.as_bytes()))
        || words.any(|word| names_one(word.as_bytes()))
        || in_file(&root.join("Cargo.toml"))
        || config.any(in_file);
    goes_by_it.then(|| Digest::of(format!("{:?}", features()).as_bytes()))
}

/// Whether compilers may be given flags by this variable.
pub(super) fn is_for_compilers(name: &OsStr) -> bool {
    is_for_build(name) || name.as_bytes().windows(5).any(|part| part == b"FLAGS")
}

/// Whether a text names a processor, or something that not all have.
fn names_one(text: &[u8]) -> bool {
    let mut text = String::from_utf8_lossy(text).into_owned();
    OF_LINKING.iter().for_each(|flag| text = text.replace(flag, ""));
    FLAGS.iter().any(|flag| text.contains(flag))
}

/// The features of these that the processor has.
#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
macro_rules! those_of {
    ($is_there:ident: $($name:tt)*) => {{
        let all = [$(($name, std::arch::$is_there!($name))),*];
        all.into_iter().filter_map(|(name, is_there)| is_there.then_some(name)).collect()
    }};
}

/// What the processor at hand can do, of what some of its kind cannot.
#[cfg(target_arch = "x86_64")]
pub(super) fn features() -> Vec<&'static str> {
    those_of![is_x86_feature_detected:
        "sse3" "ssse3" "sse4.1" "sse4.2" "sse4a" "popcnt" "cmpxchg16b" "movbe" "lzcnt" "bmi1" "bmi2"
        "tbm" "avx" "avx2" "fma" "f16c" "aes" "pclmulqdq" "sha" "adx" "rdrand" "rdseed" "fxsr"
        "xsave" "xsavec" "xsaveopt" "xsaves" "gfni" "vaes" "vpclmulqdq" "avx512f" "avx512bw"
        "avx512cd" "avx512dq" "avx512vl" "avx512ifma" "avx512vbmi" "avx512vbmi2" "avx512vnni"
        "avx512bitalg" "avx512vpopcntdq" "avx512bf16" "avx512vp2intersect" "avx512fp16" "avxvnni"
    ]
}

/// The same.
#[cfg(target_arch = "aarch64")]
pub(super) fn features() -> Vec<&'static str> {
    those_of![is_aarch64_feature_detected:
        "asimd" "aes" "sha2" "sha3" "crc" "lse" "lse2" "rdm" "rcpc" "rcpc2" "dotprod" "fp16" "fhm" "fcma"
        "jsconv" "sve" "sve2" "i8mm" "bf16" "paca" "pacg" "bti" "mte" "rand" "sm4" "dpb" "dpb2" "flagm"
    ]
}

/// No processor of another architecture is told from others of it.
#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
pub(super) fn features() -> Vec<&'static str> {
    Vec::new()
}

#[cfg(test)]
mod tests {
    use std::ffi::OsString;

    use super::*;

    #[test]
    fn a_build_for_a_processor_is_known_wherever_that_is_said() {
        let dir = tempfile::tempdir().unwrap();
        let (root, config) = (dir.path(), dir.path().join("config.toml"));
        let ask = |words: &[&str], variable: (&str, &str)| {
            let selection = Selection::parse(root, words.iter().map(OsString::from));
            let environment = Environment::of(&[variable]);
            processor(root, &selection, &environment, [&*config].into_iter()).is_some()
        };
        let none = ("HOME", "/home/a");
        let config_word = |flag: &str| format!("build.rustflags=['{flag}']");
        assert!(!ask(&["--config", &config_word("-Lnative=lib")], ("RUSTFLAGS", "-Lnative=x")));
        assert!(ask(&["--config", &config_word("-Ctarget-cpu=native")], none));
        for flags in ["-C target-cpu=native", "-Ctarget-cpu=x86-64-v3", "-C target-feature=+avx2"] {
            assert!(ask(&[], ("RUSTFLAGS", flags)), "{flags}");
            assert!(!ask(&[], ("NOTE", flags)), "{flags}");
        }
        assert!(ask(&[], ("HOST_CFLAGS", "-O2 -mavx2")));
        assert!(!ask(&[], ("RUSTFLAGS", "-C target-feature=+crt-static")));
        for file in [&root.join("Cargo.toml"), &config] {
            std::fs::write(file, "rustflags=['-Ctarget-cpu=native']").unwrap();
            assert!(ask(&[], none), "{}", file.display());
            std::fs::remove_file(file).unwrap();
        }
    }

    #[test]
    #[cfg(target_arch = "x86_64")]
    fn what_every_processor_of_this_kind_can_do_is_found() {
        assert!(features().contains(&"fxsr"), "{:?}", features());
    }
}
