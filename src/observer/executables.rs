//! Reads what an executable file says about itself: interpreter, architecture, privileges.

use std::collections::HashMap;
use std::fs::File;
use std::io::Read as _;
use std::ops::Range;
use std::os::unix::fs::{FileExt as _, MetadataExt as _};

use super::resolve::as_path;
use crate::workspace::PathStamp;

/// How much of a script's first line the kernel reads.
const MAX_SHEBANG: usize = 256;
/// The number of the machine in an ELF header.
#[cfg(target_arch = "x86_64")]
const MACHINE: u16 = 62;
#[cfg(target_arch = "aarch64")]
const MACHINE: u16 = 183;
const PT_LOAD: u64 = 1;
const PT_INTERP: u64 = 3;
const PT_GNU_STACK: u64 = 0x6474_e551;
/// `PF_X` and `PF_W`: the part may be executed, and written.
const EXECUTABLE: u64 = 1;
const WRITABLE: u64 = 2;

/// The facts about one executable file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(in crate::observer) struct Executable {
    /// The script's interpreter or the ELF file's dynamic loader, as the file spells it.
    pub(in crate::observer) interpreter: Option<Vec<u8>>,
    /// It is an ELF file with a dynamic loader.
    pub(in crate::observer) has_loader: bool,
    /// Its stack may hold code.
    pub(in crate::observer) executable_stack: bool,
    /// It would run with more privileges than its caller.
    pub(in crate::observer) privileged: bool,
    /// It was built for another architecture.
    pub(in crate::observer) foreign: bool,
    /// It is neither ELF nor a script; a `binfmt_misc` handler may run it.
    pub(in crate::observer) unknown: bool,
}

/// A cache of inspected files: most runs execute few programs many times.
#[derive(Debug, Default)]
pub(in crate::observer) struct Executables(HashMap<Vec<u8>, (PathStamp, Executable)>);

impl Executables {
    pub(in crate::observer) fn inspect(&mut self, path: &[u8], stamp: PathStamp) -> Executable {
        match self.0.get(path) {
            Some((known, program)) if *known == stamp => program.clone(),
            _ => {
                let program = inspect(path);
                self.0.insert(path.to_vec(), (stamp, program.clone()));
                program
            }
        }
    }
}

fn inspect(path: &[u8]) -> Executable {
    let path = as_path(path);
    let mut program = Executable { privileged: is_privileged(path), ..Executable::default() };
    // The file may be executable but not readable.
    let Ok(file) = File::open(path) else {
        return Executable { unknown: true, ..program };
    };
    let mut start = Vec::with_capacity(MAX_SHEBANG);
    if (&file).take(MAX_SHEBANG as u64).read_to_end(&mut start).is_err() {
        return Executable { unknown: true, ..program };
    }
    if let Some(line) = start.strip_prefix(b"#!") {
        program.interpreter = script_interpreter(line);
    } else if start.starts_with(b"\x7fELF") {
        match program_headers(&file).and_then(|parts| Some((loader(&file, &parts)?, parts))) {
            Some((loader, parts)) => {
                program.has_loader = loader.is_some();
                program.interpreter = loader;
                let is_executable = |part: &ProgramHeader| part.flags & EXECUTABLE != 0;
                program.executable_stack =
                    parts.iter().any(|part| part.kind == PT_GNU_STACK && is_executable(part));
            }
            None => program.foreign = true,
        }
    } else {
        // A shell runs an empty file as an empty script.
        program.unknown = !start.is_empty();
    }
    program
}

/// Whether `no_new_privs` takes privileges from the program.
fn is_privileged(path: &std::path::Path) -> bool {
    const SET_USER: u32 = 0o4000;
    const SET_GROUP_AND_EXECUTE: u32 = 0o2010;
    let Ok(metadata) = path.metadata() else { return false };
    let (mode, user) = (metadata.mode(), rustix::process::geteuid().as_raw());
    let sets_user = mode & SET_USER != 0 && metadata.uid() != user;
    let sets_group = mode & SET_GROUP_AND_EXECUTE == SET_GROUP_AND_EXECUTE
        && metadata.gid() != rustix::process::getegid().as_raw();
    // The superuser's processes have every capability already.
    let mut value = [0_u8; 64];
    let capabilities =
        user != 0 && rustix::fs::getxattr(path, "security.capability", &mut value).is_ok();
    sets_user || sets_group || capabilities
}

/// The interpreter: the first word after `#!`.
fn script_interpreter(line: &[u8]) -> Option<Vec<u8>> {
    let line = line.split(|byte| *byte == b'\n').next()?;
    let word = line.split(|byte| matches!(byte, b' ' | b'\t' | 0)).find(|word| !word.is_empty())?;
    Some(word.to_vec())
}

/// An entry of an ELF file's table of segments.
struct ProgramHeader {
    kind: u64,
    flags: u64,
    /// Where it lies in the file.
    place: Range<u64>,
    /// Where it is mapped, below the address that the loader chooses.
    address: u64,
}

/// The segments of an ELF file. `None` if the file is broken or was built for another machine.
fn program_headers(file: &File) -> Option<Vec<ProgramHeader>> {
    let mut start = [0; 64];
    file.read_exact_at(&mut start, 0).ok()?;
    // 64 bits, little-endian.
    if start[4..6] != [2, 1] || number(&start, 18, 2) != u64::from(MACHINE) {
        return None;
    }
    let (offset, size, count) =
        (number(&start, 32, 8), number(&start, 54, 2), number(&start, 56, 2));
    let header = |index: u64| {
        let mut header = [0; 56];
        file.read_exact_at(&mut header, offset.checked_add(index * size)?).ok()?;
        let place = number(&header, 8, 8);
        let end = place.checked_add(number(&header, 32, 8))?;
        Some(ProgramHeader {
            kind: number(&header, 0, 4),
            flags: number(&header, 4, 4),
            place: place..end,
            address: number(&header, 16, 8),
        })
    };
    (0..count).map(header).collect()
}

/// A little-endian number.
pub(in crate::observer) fn number(bytes: &[u8], at: usize, length: usize) -> u64 {
    bytes[at..at + length].iter().rev().fold(0, |sum, byte| sum << 8 | u64::from(*byte))
}

/// The dynamic loader that an ELF file asks for, `Some(None)` if it needs none. `None` if the file
/// is broken.
fn loader(file: &File, parts: &[ProgramHeader]) -> Option<Option<Vec<u8>>> {
    let Some(part) = parts.iter().find(|part| part.kind == PT_INTERP) else { return Some(None) };
    let length = usize::try_from(part.place.end - part.place.start).ok()?.min(4096);
    let mut text = vec![0; length];
    file.read_exact_at(&mut text, part.place.start).ok()?;
    text.truncate(text.iter().position(|byte| *byte == 0).unwrap_or(length));
    Some(Some(text))
}

/// Where the code of an ELF file lies in it. `None` if the file is broken or was built for another
/// machine, or if the code can change itself.
pub(in crate::observer) fn executable_parts(file: &File) -> Option<Vec<Range<u64>>> {
    let parts = program_headers(file)?.into_iter();
    let code = parts.filter(|part| part.kind == PT_LOAD && part.flags & EXECUTABLE != 0);
    code.map(|part| (part.flags & WRITABLE == 0).then_some(part.place)).collect()
}

/// What an ELF file says about the libraries that it needs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(in crate::observer) struct NeededLibraries {
    pub(in crate::observer) names: Vec<Vec<u8>>,
    /// Folders for the search, separated by colons; empty if there are none (`DT_RUNPATH`).
    pub(in crate::observer) folders: Vec<u8>,
}

/// The libraries that an ELF file needs. `None` if the file is broken, or if it says more about the search
/// for them.
pub(in crate::observer) fn needed_libraries(file: &File) -> Option<NeededLibraries> {
    const PT_DYNAMIC: u64 = 2;
    const DT_NEEDED: u64 = 1;
    const DT_STRTAB: u64 = 5;
    const DT_STRSZ: u64 = 10;
    const DT_RUNPATH: u64 = 29;
    const DT_FLAGS_1: u64 = 0x6fff_fffb;
    const NO_DEFAULT_LIBRARIES: u64 = 0x800;
    // DT_RPATH, DT_CONFIG, DT_DEPAUDIT, DT_AUDIT, DT_AUXILIARY, DT_FILTER.
    const SEARCHING: [u64; 6] =
        [15, 0x6fff_fefa, 0x6fff_fefb, 0x6fff_fefc, 0x7fff_fffd, 0x7fff_ffff];
    const MAX_SIZE: u64 = 64 << 20;
    let parts = program_headers(file)?;
    // As the loader does: by address, wherever the table of segments says that it lies in the file.
    let read = |address: u64, length: u64| -> Option<Vec<u8>> {
        let part = parts.iter().filter(|part| part.kind == PT_LOAD).find(|part| {
            let size = part.place.end - part.place.start;
            (part.address..part.address.saturating_add(size)).contains(&address)
        })?;
        let place = part.place.start + (address - part.address);
        let length = usize::try_from(length.min(MAX_SIZE)).ok()?;
        let mut bytes = vec![0; length];
        file.read_exact_at(&mut bytes, place).ok()?;
        Some(bytes)
    };
    let mut dynamic = parts.iter().filter(|part| part.kind == PT_DYNAMIC);
    let (Some(part), None) = (dynamic.next(), dynamic.next()) else { return None };
    let table = read(part.address, part.place.end - part.place.start)?;
    let (mut needed, mut folders, mut texts, mut size) = (Vec::new(), None, None, None);
    let mut ends = false;
    for entry in table.chunks_exact(16) {
        let (tag, value) = (number(entry, 0, 8), number(entry, 8, 8));
        match tag {
            0 => {
                ends = true;
                break;
            }
            DT_NEEDED => needed.push(value),
            // The loader takes the last of several.
            DT_RUNPATH if folders.replace(value).is_some() => return None,
            DT_RUNPATH => {}
            DT_STRTAB => texts = Some(value),
            DT_STRSZ => size = Some(value),
            DT_FLAGS_1 if value & NO_DEFAULT_LIBRARIES != 0 => return None,
            _ if SEARCHING.contains(&tag) => return None,
            _ => {}
        }
    }
    if !ends {
        return None;
    }
    let has_texts = !needed.is_empty() || folders.is_some();
    let texts = if has_texts { read(texts?, size?)? } else { Vec::new() };
    let name = |at: u64| {
        let text = texts.get(usize::try_from(at).ok()?..)?;
        Some(text[..text.iter().position(|byte| *byte == 0)?].to_vec())
    };
    let names = needed.into_iter().map(name).collect::<Option<_>>()?;
    let folders = folders.map_or(Some(Vec::new()), name)?;
    Some(NeededLibraries { names, folders })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::ffi::OsStrExt as _;
    use std::os::unix::fs::PermissionsExt as _;

    fn program(bytes: &[u8]) -> Executable {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), bytes).unwrap();
        inspect(file.path().as_os_str().as_bytes())
    }

    #[test]
    fn a_script_names_its_interpreter() {
        let interpreter = |text: &str| program(text.as_bytes()).interpreter;
        assert_eq!(interpreter("#!/bin/sh\necho"), Some(b"/bin/sh".to_vec()));
        assert_eq!(interpreter("#! /usr/bin/env python3"), Some(b"/usr/bin/env".to_vec()));
        assert_eq!(interpreter("#!\n/bin/sh"), None);
    }

    #[test]
    fn the_test_program_itself_has_a_loader_and_no_privileges() {
        let own = std::env::current_exe().unwrap();
        let program = inspect(own.as_os_str().as_bytes());
        assert!(!program.privileged && !program.foreign && !program.unknown);
        if let Some(loader) = program.interpreter {
            assert!(as_path(&loader).exists());
        }
    }

    #[test]
    fn foreign_and_unknown_formats_are_recognised() {
        let mut elf = [0_u8; 64];
        elf[..6].copy_from_slice(b"\x7fELF\x01\x01");
        assert!(program(&elf).foreign, "32 bits");
        elf[4] = 2;
        assert!(program(&elf).foreign, "no such machine");
        elf[18] = MACHINE as u8;
        assert!(!program(&elf).foreign, "no program headers: static");
        assert!(program(b"\x7fELF").foreign, "cut off");
        assert!(program(b"\0asm1234").unknown);
        assert!(!program(b"").unknown);
    }

    #[test]
    fn set_user_id_matters_only_if_it_changes_the_user() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::set_permissions(file.path(), std::fs::Permissions::from_mode(0o4755)).unwrap();
        assert!(!is_privileged(file.path()));
        if rustix::process::geteuid().is_root() {
            std::os::unix::fs::chown(file.path(), Some(1), None).unwrap();
            std::fs::set_permissions(file.path(), std::fs::Permissions::from_mode(0o4755)).unwrap();
            assert!(is_privileged(file.path()));
        }
    }
}
