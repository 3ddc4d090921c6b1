//! What a procedural macro can consult while it runs inside of the compiler.
//!
//! A macro's library contains the standard library, without the functions that nothing calls. So its
//! symbols tell what of the standard library it uses. Some of it is in every such library: the
//! code that prints a panic's backtrace reads files. Whatever else opens files, asks for variables or
//! starts programs is the macro's own doing. Code may also go past the standard library, to functions
//! of the C library: to one that the standard library does not import, or to the same one, which its
//! machine code tells. And it may enter the kernel by an instruction of its own.

use std::io;
use std::path::Path;

use aho_corasick::AhoCorasick;
use object::{
    Architecture, CompressionFormat, Object as _, ObjectSection as _, ObjectSymbol as _, ReadCache,
    SymbolKind,
};

use super::instructions::{kernel_entries, may_begin_at};
use super::machine_code::{
    Functions, LoadedPart, extent, import_slots, loaded_parts, readable, refers_to,
};

/// A larger library is not searched.
const LARGEST_LIBRARY: u64 = 1 << 28;

/// What a procedural macro can read besides its tokens.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum MacroReach {
    /// The tokens alone.
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

/// What every library of a macro imports because of the standard library, and what consults something
/// is called by that alone.
const CONSULTING_IMPORTS: &[&str] = &[
    "getcwd",
    "getenv",
    "getrandom",
    "open64",
    "read",
    "readlink",
    "realpath",
    "stat64",
    "statx",
    "syscall",
];

/// What the rest of such a library's imports begin with. None of them gives a file by its name.
const HARMLESS_IMPORTS: &[&str] = &[
    "_ITM_",
    "_Unwind_",
    "__cxa_",
    "__errno_location",
    "__gmon_start__",
    "__tls_get_addr",
    "__xpg_strerror_r",
    "abort",
    "bcmp",
    "calloc",
    "close",
    "dl_iterate_phdr",
    "free",
    "fstat64",
    "gettid",
    "lseek64",
    "malloc",
    "memc",
    "memmove",
    "memset",
    "mmap64",
    "munmap",
    "poll",
    "posix_memalign",
    "pthread_",
    "realloc",
    "strlen",
    "write",
];

/// Parts of symbols by which a macro learns more of the text around its tokens than where they begin: the
/// text itself, or numbers of bytes.
const SEEING_TEXT: &[&str] = &["source_text", "byte_range"];
/// Macros in what another one makes, which put the text of a file into the program.
const EMBEDDING: [&str; 2] = ["include_str", "include_bytes"];

/// Whether the macro in this library can see comments, or have the compiler embed a file.
///
/// # Errors
/// If the library cannot be read.
pub(crate) fn macro_sees_comments(library: &Path) -> io::Result<bool> {
    let content = std::fs::read(library)?;
    let Ok(parsed) = object::File::parse(&*content) else { return Ok(true) };
    let mut names = parsed.symbols().filter_map(|symbol| symbol.name().ok()).peekable();
    let embedding = AhoCorasick::new(EMBEDDING).map_err(io::Error::other)?;
    Ok(names.peek().is_none()
        || names.any(|name| SEEING_TEXT.iter().any(|part| name.contains(part)))
        || embedding.is_match(&content))
}

/// What the macro in this library can consult.
///
/// # Errors
/// If the library cannot be read.
pub(crate) fn macro_reach(library: &Path) -> io::Result<MacroReach> {
    if library.metadata()?.len() > LARGEST_LIBRARY {
        return Ok(MacroReach::Anything);
    }
    reach_of_library(&std::fs::read(library)?)
}

/// The same for a library's content.
pub(super) fn reach_of_library(content: &[u8]) -> io::Result<MacroReach> {
    let Ok(library) = object::File::parse(content) else { return Ok(MacroReach::Anything) };
    let names = library.symbols().filter_map(|symbol| symbol.name().ok());
    // Without symbols nothing is known.
    let reach = names.map(reach_of).max().unwrap_or(MacroReach::Anything);
    Ok(if goes_past_std(&library)? { MacroReach::Anything } else { reach })
}

/// Whether something of a library that is not of the standard library calls what could consult files,
/// variables or the kernel, or enters the kernel itself.
fn goes_past_std(library: &object::File<'_>) -> io::Result<bool> {
    if library.architecture() != Architecture::X86_64 {
        // The calls in its machine code are not read.
        return Ok(true);
    }
    let imports = library.dynamic_symbols().filter(object::Symbol::is_undefined);
    let is_known = |name: &[u8]| {
        let name = String::from_utf8_lossy(name);
        name.is_empty()
            || CONSULTING_IMPORTS.contains(&&*name)
            || HARMLESS_IMPORTS.iter().any(|start| name.starts_with(start))
    };
    if !imports.map(|symbol| symbol.name_bytes()).all(|name| name.is_ok_and(is_known)) {
        return Ok(true);
    }
    let mut of_std = Vec::new();
    for symbol in library.symbols() {
        let Ok(name) = symbol.name_bytes() else { continue };
        let name = readable(name);
        let path = name.trim_start_matches('<');
        // What drops a thing of the standard library is compiled from both.
        let path = path.strip_prefix("core::ptr::drop_in_place").unwrap_or(path);
        if path.trim_start_matches([':', '<']).starts_with("std::") {
            of_std.push(extent(&symbol));
        }
    }
    let parts = loaded_parts(library)?;
    let functions = library.symbols().filter(|symbol| symbol.kind() == SymbolKind::Text);
    if enters_kernel(&parts, &functions.map(|symbol| extent(&symbol)).collect()) {
        return Ok(true);
    }
    let of_std: Functions = of_std.into_iter().collect();
    let is_consulting =
        |name: &[u8]| CONSULTING_IMPORTS.iter().any(|import| import.as_bytes() == name);
    let slots = import_slots(library, is_consulting).into_iter().collect();
    Ok(refers_to(library, &parts, &slots, |at| !of_std.contain(at)))
}

/// Whether code of a program with these functions has an instruction that enters the kernel. The
/// standard library has none.
fn enters_kernel(parts: &[LoadedPart<'_>], functions: &Functions) -> bool {
    parts.iter().filter(|part| part.is_code).any(|part| {
        let offset = |address: u64| usize::try_from(address.saturating_sub(part.address));
        kernel_entries(part.content).any(|at| {
            let start = functions.code_start(part.address.wrapping_add(at as u64));
            let start = start.and_then(|start| offset(start).ok()).unwrap_or(0);
            may_begin_at(&part.content[start..], at - start)
        })
    })
}

/// What one symbol's presence says.
fn reach_of(symbol: &str) -> MacroReach {
    let has = |parts: &[&str]| parts.iter().any(|part| symbol.contains(part));
    if !has(CONSULTING) || has(IN_EVERY_MACRO) {
        return MacroReach::Tokens;
    }
    if has(VARIABLES) { MacroReach::Variables } else { MacroReach::Anything }
}

/// Whether what is not loaded of a program may have another length for other content: a part of it is
/// compressed, or it is not known.
pub(crate) fn may_change_length(program: &Path) -> bool {
    let Ok(file) = std::fs::File::open(program) else { return true };
    let content = ReadCache::new(file);
    let Ok(parsed) = object::File::parse(&content) else { return true };
    parsed.sections().any(|section| {
        let is_plain = |name: &str| !name.starts_with(".zdebug");
        let range = section.compressed_file_range();
        !range.is_ok_and(|range| range.format == CompressionFormat::None)
            || !section.name().is_ok_and(is_plain)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An ELF file with one section of this name and with these flags, which holds a header of
    /// compression (zlib) for one byte.
    fn program(name: &str, flags: u64) -> tempfile::NamedTempFile {
        let names = format!("\0{name}\0.shstrtab\0");
        let (content, strings) = (64_u64, 64 + 32_u64);
        let table = strings + names.len() as u64;
        let mut file = vec![0; 64];
        file[..7].copy_from_slice(b"\x7fELF\x02\x01\x01");
        for (at, value) in [(16, 2_u16), (18, 62), (52, 64), (58, 64), (60, 3), (62, 2)] {
            file[at..at + 2].copy_from_slice(&value.to_le_bytes());
        }
        file[20] = 1;
        file[40..48].copy_from_slice(&table.to_le_bytes());
        file.extend([1_u64, 1, 1, 0].iter().flat_map(|word| word.to_le_bytes()));
        file.extend(names.as_bytes());
        file.extend([0; 64]);
        let shstrtab = 2 + name.len() as u32;
        let sections =
            [(1_u32, 1_u32, flags, content, 32_u64), (shstrtab, 3, 0, strings, names.len() as u64)];
        for (name, kind, flags, offset, size) in sections {
            file.extend([name, kind].iter().flat_map(|word| word.to_le_bytes()));
            file.extend(
                [flags, 0, offset, size, 0, 1, 0].iter().flat_map(|word| word.to_le_bytes()),
            );
        }
        let written = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(written.path(), file).unwrap();
        written
    }

    #[test]
    fn what_is_compressed_in_a_program_may_change_its_length() {
        const COMPRESSED: u64 = 1 << 11;
        assert!(!may_change_length(program(".debug_line", 0).path()));
        assert!(may_change_length(program(".debug_line", COMPRESSED).path()));
        assert!(may_change_length(program(".zdebug_line", 0).path()));
        let text = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(text.path(), "no program").unwrap();
        assert!(may_change_length(text.path()));
        assert!(may_change_length(Path::new("/nowhere/at/all")));
    }

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
        ] {
            assert_eq!(reach_of(name), MacroReach::Anything, "{name}");
        }
    }

    #[cfg(all(target_os = "linux", target_arch = "x86_64"))]
    #[test]
    fn a_derive_macro_consults_only_its_tokens() {
        let own = std::env::current_exe().unwrap();
        let mut found = 0;
        for file in std::fs::read_dir(own.parent().unwrap()).unwrap() {
            let file = file.unwrap().path();
            let name = file.file_name().unwrap().to_string_lossy().into_owned();
            let is_derive = ["libserde_derive-", "libthiserror_impl-", "libclap_derive-"]
                .iter()
                .any(|start| name.starts_with(start) && name.ends_with(".so"));
            if is_derive {
                assert_ne!(macro_reach(&file).unwrap(), MacroReach::Anything, "{name}");
                assert!(!macro_sees_comments(&file).unwrap(), "{name}");
                found += 1;
            }
        }
        assert!(found > 0);
    }

    #[cfg(all(target_os = "linux", target_arch = "x86_64"))]
    #[test]
    fn a_program_that_enters_the_kernel_itself_is_found_out() {
        // rustix does.
        let content = std::fs::read(std::env::current_exe().unwrap()).unwrap();
        let program = object::File::parse(&*content).unwrap();
        let parts = loaded_parts(&program).unwrap();
        let functions = program.symbols().filter(|symbol| symbol.kind() == SymbolKind::Text);
        assert!(enters_kernel(&parts, &functions.map(|symbol| extent(&symbol)).collect()));
    }

    #[test]
    fn what_has_no_symbols_may_consult_anything() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "no library").unwrap();
        assert_eq!(macro_reach(file.path()).unwrap(), MacroReach::Anything);
        assert!(macro_reach(Path::new("/nowhere")).is_err());
    }
}
