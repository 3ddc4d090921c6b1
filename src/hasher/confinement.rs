//! What a procedural macro can consult while it runs inside of the compiler.
//!
//! A macro's library contains the standard library, without the functions that nothing calls. So its
//! symbols tell what of the standard library it uses. Some of it is in every such library: the
//! code that prints a panic's backtrace reads files. Whatever else opens files, asks for variables or
//! starts programs is the macro's own doing.

use std::io;
use std::path::Path;

use object::{Object as _, ObjectSymbol as _};

/// A larger library is not searched.
const LARGEST_LIBRARY: u64 = 1 << 28;

/// What a procedural macro can consult besides the tokens that it is given.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum MacroReach {
    /// Nothing.
    Tokens,
    /// Variables by their names.
    Variables,
    /// Files, programs, the network, or it is not known what.
    Anything,
}

/// Parts of the standard library that consult something, as they stand in symbols of either mangling.
const CONSULTING: &[&str] = &[
    "3std2fs",
    "3std3env",
    "3std3net",
    "3std7process",
    "3std2os",
    "3sys2fs",
    "3sys3env",
    "3sys3net",
    "3sys7process",
    "4Path6exists",
    "4Path7is_file",
    "4Path6is_dir",
    "4Path8metadata",
    "4Path10try_exists",
    "4Path10is_symlink",
    "10SystemTime3now",
];

/// The calls among these that every library of a macro contains.
const IN_EVERY_MACRO: &[&str] = &[
    "2fs24buffer_capacity_required",
    "3env11current_exe",
    "3env11current_dir",
    "3env4unix8ENV_LOCK",
    "3env4unix6getenv",
    "7process5abort",
    "2fs4unix4stat",
    "2fs4unix12canonicalize",
    "2fs4unix9try_statx",
    "2fs4unix8readlink",
    "3sys2fs8metadata",
    "4File4open0",
    "4File6open_c",
    "4FileNtNtB7_2io4Read14read_to_string",
];

/// Reading a variable by its name.
const VARIABLES: &[&str] = &["3env4__var", "3env3var", "3env7_var_os", "3env6var_os"];

/// Functions of the C library by which code could go past the standard library.
const FOREIGN: &[&str] =
    &["fopen", "execve", "execvp", "posix_spawn", "popen", "dlopen", "opendir"];

/// What the macro in this library can consult.
///
/// # Errors
/// If the library cannot be read.
pub(crate) fn macro_reach(library: &Path) -> io::Result<MacroReach> {
    if library.metadata()?.len() > LARGEST_LIBRARY {
        return Ok(MacroReach::Anything);
    }
    let content = std::fs::read(library)?;
    let Ok(library) = object::File::parse(&*content) else { return Ok(MacroReach::Anything) };
    let names = library.symbols().filter_map(|symbol| symbol.name().ok());
    let mut reach = None;
    for name in names {
        reach = reach.max(Some(reach_of(name)));
    }
    // Without symbols nothing is known.
    Ok(reach.unwrap_or(MacroReach::Anything))
}

/// What one symbol's presence says.
fn reach_of(symbol: &str) -> MacroReach {
    let has = |parts: &[&str]| parts.iter().any(|part| symbol.contains(part));
    let plain = symbol.split('@').next().unwrap_or(symbol);
    if FOREIGN.contains(&plain) {
        return MacroReach::Anything;
    }
    if !has(CONSULTING) || has(IN_EVERY_MACRO) {
        return MacroReach::Tokens;
    }
    if has(VARIABLES) { MacroReach::Variables } else { MacroReach::Anything }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn symbols_tell_what_a_macro_consults() {
        for name in [
            "_RNvNtCsjrHSEGnQ3l9_3std2fs24buffer_capacity_required",
            "_RNvXs7_NtCsx_3std2fsRNtB5_4FileNtNtB7_2io4Read14read_to_string",
            "_RNvMsi_NtNtNtCsx_3std3sys2fs4unixNtB5_4File6open_c",
            "_ZN11serde_derive3ser16expand_derive17h0E",
            "getenv@GLIBC_2.2.5",
        ] {
            assert_eq!(reach_of(name), MacroReach::Tokens, "{name}");
        }
        for name in ["_RNvNtCsx_3std3env4__var", "_ZN3std3env3var17h7455a840caadb45eE"] {
            assert_eq!(reach_of(name), MacroReach::Variables, "{name}");
        }
        for name in [
            "_RNvMsl_NtCsx_3std2fsNtB5_11OpenOptions5__open",
            "_RNvNvNtCsx_3std2fs14read_to_string5inner",
            "_ZN3std2fs8metadata17h528163bb5061748aE",
            "_ZN3std4path4Path6exists17hcf43d85d63af0710E",
            "_ZN3std7process7Command3new17h69ea9874807d666aE",
            "_RNvNtCsx_3std3env7vars_os",
            "_RNvNtCsx_3std3env8temp_dir",
            "_RNvMs5_NtCsx_3std4timeNtB5_10SystemTime3now",
            "dlopen@GLIBC_2.34",
        ] {
            assert_eq!(reach_of(name), MacroReach::Anything, "{name}");
        }
    }

    #[test]
    fn what_has_no_symbols_may_consult_anything() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "no library").unwrap();
        assert_eq!(macro_reach(file.path()).unwrap(), MacroReach::Anything);
        assert!(macro_reach(Path::new("/nowhere")).is_err());
    }
}
