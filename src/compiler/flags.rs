//! Flags for the compiler by which it could optimize a crate, although cargo says that it does not.
//!
//! Only flags that are known to merge no function into another one are let through: flags for the
//! linker, the processor, lints, conditions and checks. Unknown flags, and texts that cannot be read,
//! count as flags that optimize.

use crate::process::Environment;

/// Options of `-C` that merge nothing, in the spelling with hyphens.
const CODEGEN_OPTIONS_THAT_MERGE_NOTHING: [&str; 17] = [
    "codegen-units",
    "debug-assertions",
    "debuginfo",
    "link-arg",
    "link-args",
    "link-self-contained",
    "linker",
    "linker-features",
    "linker-flavor",
    "overflow-checks",
    "panic",
    "prefer-dynamic",
    "rpath",
    "split-debuginfo",
    "strip",
    "target-cpu",
    "target-feature",
];

/// Flags that are followed by a value, in a word of its own or behind `=`.
const LONG_FLAGS_WITH_VALUE: [&str; 8] = [
    "--allow",
    "--cap-lints",
    "--cfg",
    "--check-cfg",
    "--deny",
    "--forbid",
    "--remap-path-prefix",
    "--warn",
];

/// Flags whose value is the rest of their word or the next word.
const SHORT_FLAGS_WITH_VALUE: [&str; 5] = ["-A", "-D", "-F", "-L", "-W"];

/// What stands between two flags in `CARGO_ENCODED_RUSTFLAGS`.
const SEPARATOR: char = '\x1f';

/// Whether a name is one of flags for the compiler.
pub(super) fn has_flags(name: &[u8]) -> bool {
    let name = name.to_ascii_lowercase();
    name.windows(FLAGS.len()).any(|part| part == FLAGS.as_bytes())
}

const FLAGS: &str = "rustflags";

/// Whether a variable of this environment can have the compiler optimize.
pub(super) fn environment_can_optimize(environment: &Environment) -> bool {
    environment.iter().any(|(name, value)| {
        let words = || value.to_str().map(|value| value.split([' ', SEPARATOR]));
        match name.as_encoded_bytes() {
            // A stable compiler with it takes the flags of profiles, which cargo does not tell.
            b"RUSTC_BOOTSTRAP" => true,
            name if has_flags(name) => words().is_none_or(can_optimize),
            _ => false,
        }
    })
}

/// Whether a file of cargo's configuration can, on whichever platform.
pub(super) fn file_can_optimize(text: &[u8]) -> bool {
    has_flags(text)
        && std::str::from_utf8(text)
            .ok()
            .and_then(|text| text.parse::<toml::Table>().ok())
            .is_none_or(|table| table_can_optimize(&table))
}

fn table_can_optimize(table: &toml::Table) -> bool {
    table.iter().any(|(key, value)| match value {
        toml::Value::Table(inner) => table_can_optimize(inner),
        _ if !has_flags(key.as_bytes()) => false,
        toml::Value::String(words) => can_optimize(words.split(' ')),
        toml::Value::Array(words) => {
            let words: Option<Vec<&str>> = words.iter().map(toml::Value::as_str).collect();
            words.is_none_or(|words| can_optimize(words.into_iter()))
        }
        _ => true,
    })
}

fn can_optimize<'w>(words: impl Iterator<Item = &'w str>) -> bool {
    let mut words = words.map(str::trim).filter(|word| !word.is_empty());
    while let Some(word) = words.next() {
        let option = match word {
            "-C" | "--codegen" => words.next(),
            _ => word.strip_prefix("--codegen=").or_else(|| word.strip_prefix("-C")),
        };
        let is_harmless = match option {
            Some(option) => {
                let name = option.split('=').next().unwrap_or(option).replace('_', "-");
                CODEGEN_OPTIONS_THAT_MERGE_NOTHING.contains(&&*name)
            }
            None if LONG_FLAGS_WITH_VALUE.contains(&word)
                || SHORT_FLAGS_WITH_VALUE.contains(&word) =>
            {
                words.next().is_some()
            }
            None => {
                word == "-g"
                    || SHORT_FLAGS_WITH_VALUE.iter().any(|flag| word.starts_with(flag))
                    || word
                        .split_once('=')
                        .is_some_and(|(flag, _)| LONG_FLAGS_WITH_VALUE.contains(&flag))
            }
        };
        if !is_harmless {
            return true;
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    fn both(flags: &str) -> [bool; 3] {
        let environment = Environment::of(&[("CARGO_BUILD_RUSTFLAGS", flags)]);
        let words: Vec<_> = flags.split(' ').map(|word| format!("{word:?}")).collect();
        let file = format!("[target.'cfg(unix)']\nrustflags = [{}]\n", words.join(","));
        let text = format!("[build]\nrustflags = {flags:?}\n");
        let in_file = |text: &str| file_can_optimize(text.as_bytes());
        [environment_can_optimize(&environment), in_file(&file), in_file(&text)]
    }

    #[test]
    fn flags_that_cannot_optimize_are_told_from_those_that_could() {
        for plain in [
            "",
            "-C target-feature=+crt-static",
            "-Clink-arg=-fuse-ld=mold -Ctarget-cpu=native",
            "-Clinker-features=-lld -Clink-arg=-Wl,-O3",
            "--codegen target_cpu=native --cfg tokio_unstable --check-cfg=cfg(x)",
            "-Dwarnings -W unused -g --cap-lints warn -L/opt/lib",
            "-C debug-assertions=off -C panic=abort",
        ] {
            assert_eq!(both(plain), [false; 3], "{plain}");
        }
        for flags in [
            "-O",
            "-gO",
            "-vO",
            "-Copt-level=1",
            "-Copt_level=3",
            "--codegen opt_level=3",
            "--codegen=opt-level=s",
            "-C llvm-args=-x",
            "-C inline-threshold=9",
            "-Clto",
            "-Clinker-plugin-lto",
            "-Cprofile-use=x",
            "-Zmir-opt-level=2",
            "@file",
            "-C",
            "--cfg",
            "--extern x=y",
        ] {
            assert_eq!(both(flags), [true; 3], "{flags}");
        }
    }

    #[test]
    fn what_cannot_be_read_counts_and_what_is_no_flag_does_not() {
        assert!(!file_can_optimize(b"[profile.dev]\nopt-level = 1\n"), "cargo tells of it");
        assert!(file_can_optimize(b"rustflags = ["));
        assert!(file_can_optimize(b"rustflags = 'caf\xe9'"));
        assert!(file_can_optimize(b"[build]\nrustflags = 3\n"));
        assert!(file_can_optimize(b"[build]\nrustflags = [1]\n"));
        let with = |name, value| environment_can_optimize(&Environment::of(&[(name, value)]));
        assert!(with("CARGO_ENCODED_RUSTFLAGS", "-g\x1f-O"));
        assert!(!with("CARGO_ENCODED_RUSTFLAGS", "-g\x1f--cfg\x1fx"));
        assert!(with("RUSTC_BOOTSTRAP", "1") && with("CARGO_UNSTABLE_PROFILE_RUSTFLAGS", "true"));
        assert!(!with("PATH", "-O") && !with("RUSTDOCFLAGS", "-O"));
    }
}
