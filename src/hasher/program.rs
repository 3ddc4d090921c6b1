//! The digest of the parts of a program that are loaded when it runs.
//!
//! Rebuilding after an edit to a comment often gives the same program with other debug
//! information. Of an ELF file counts what the kernel and the loader use: the header, the program
//! headers and the content of all segments. What only debuggers and readers of the file see does
//! not: sections that are not loaded, where the table of sections lies, the build id. A program
//! that reads its own file sees those too; for it the whole file must count.
//!
//! **A checkout's path.** A program may hold the path of the workspace that it was built from
//! (`env!("CARGO_MANIFEST_DIR")`). Where it stands counts, and how long it is: a longer one moves all that
//! follows. Its letters do not, so that two checkouts with paths of one length agree.
//!
//! Of a library that rustc has made (an archive) counts each member, but not the part of a member's
//! name that rustc makes up anew in each call: nobody who links it sees that.
//!
//! Everything that is not understood to the last byte (other formats, scripts, odd headers) is
//! its whole file. That includes Mach-O, whose loader takes part of its tables from the segment
//! that holds the debug symbols as well.

use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use aho_corasick::AhoCorasick;
use object::elf::{self, FileHeader32, FileHeader64};
use object::read::archive::ArchiveFile;
use object::read::elf::{FileHeader, ProgramHeader};
use object::{Endianness, ReadCache, ReadRef};

use super::read::{FileDigest, file_digest};
use crate::model::{Digest, Digester};

/// A larger segment is not read into memory at once; such a program is its whole file.
const LARGEST_SEGMENT: u64 = 1 << 30;

/// The digest of what is loaded of the program at `path`, links followed, whatever the letters of
/// `root`; of anything but an ELF program, of the whole file.
///
/// The caller sees to it that the file does not change meanwhile, by stamps before and after.
#[must_use]
pub(crate) fn program_digest(path: &Path, root: &Path) -> FileDigest {
    let unknown = |error: io::Error| FileDigest::Unknown(format!("`{}`: {error}", path.display()));
    // Nothing else may be opened: a pipe would wait for ever.
    match path.metadata() {
        Ok(metadata) if metadata.is_file() => {}
        _ => return file_digest(path),
    }
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) => return unknown(error),
    };
    let loaded = loaded(&ReadCache::new(file), root);
    loaded.map_or_else(|| file_digest(path), FileDigest::Known)
}

/// The digest of what is loaded; `None` for whatever is its whole file.
pub(super) fn loaded<'data>(data: impl ReadRef<'data>, root: &Path) -> Option<Digest> {
    let ident = data.read_bytes_at(0, 16).ok()?;
    match (&ident[..4], ident[4]) {
        (b"\x7fELF", elf::ELFCLASS32) => of_elf::<FileHeader32<Endianness>>(data, root),
        (b"\x7fELF", elf::ELFCLASS64) => of_elf::<FileHeader64<Endianness>>(data, root),
        _ if ident.starts_with(&object::archive::MAGIC) => of_archive(data),
        _ => None,
    }
}

/// The members in their order; the tables of symbols and of long names follow from them.
fn of_archive<'data>(data: impl ReadRef<'data>) -> Option<Digest> {
    let archive = ArchiveFile::parse(data).ok()?;
    if archive.is_thin() {
        return None;
    }
    let mut digester = Digester::new("archive 1");
    for member in archive.members() {
        let member = member.ok()?;
        digester.field(&lasting_name(member.name())).field(member.data(data).ok()?);
    }
    Some(digester.finish())
}

/// `crate-hash.unit.rcgu.o` of `crate-hash.unit.call.rcgu.o`; every other name as it is.
fn lasting_name(name: &[u8]) -> Vec<u8> {
    let parts: Vec<&[u8]> = name.split(|byte| *byte == b'.').collect();
    match parts[..] {
        [krate, unit, _, b"rcgu", b"o"] => [krate, unit, b"rcgu", b"o"].join(&b'.'),
        _ => name.to_vec(),
    }
}

/// Bytes of the file that no one sees when the program runs, as offset and length.
type Hidden = Vec<(u64, u64)>;

/// `None` for whatever is not an ordinary program.
fn of_elf<'data, Elf: FileHeader<Endian = Endianness>>(
    data: impl ReadRef<'data>,
    root: &Path,
) -> Option<Digest> {
    let header = Elf::parse(data).ok()?;
    let endian = header.endian().ok()?;
    if !matches!(header.e_type(endian), elf::ET_EXEC | elf::ET_DYN) {
        return None;
    }
    let segments = header.program_headers(endian, data).ok()?;
    let loads = |range: (u64, u64)| {
        segments.iter().any(|segment| {
            let (at, length) = segment.file_range(endian);
            segment.p_type(endian) == elf::PT_LOAD
                && at <= range.0
                && range.0.checked_add(range.1) <= at.checked_add(length)
        })
    };
    let mut hidden = section_table::<Elf>();
    let mut digester = Digester::new("loaded program 1");
    digester
        .field(&[header.e_ident().class, header.e_ident().data, header.e_ident().os_abi])
        .field(&[header.e_ident().abi_version])
        .number(header.e_type(endian).into())
        .number(header.e_machine(endian).into())
        .number(header.e_flags(endian).into())
        .number(header.e_entry(endian).into())
        .number(segments.len() as u64);
    for segment in segments {
        let range = segment.file_range(endian);
        digester
            .number(segment.p_type(endian).into())
            .number(segment.p_flags(endian).into())
            .number(range.0)
            .number(segment.p_vaddr(endian).into())
            .number(segment.p_paddr(endian).into())
            .number(range.1)
            .number(segment.p_memsz(endian).into())
            .number(segment.p_align(endian).into());
        match segment.p_type(endian) {
            elf::PT_LOAD => {}
            // Its meaning lies outside of what is read below.
            _ if range.1 > 0 && !loads(range) => return None,
            elf::PT_NOTE => hide_build_id(segment, endian, data, &mut hidden)?,
            _ => {}
        }
    }
    for segment in segments.iter().filter(|segment| segment.p_type(endian) == elf::PT_LOAD) {
        let (at, length) = segment.file_range(endian);
        if length > LARGEST_SEGMENT {
            return None;
        }
        let mut content = data.read_bytes_at(at, length).ok()?.to_vec();
        blank(&mut content, at, &hidden);
        let places = blank_paths(&mut content, root)?;
        digester.field(&content);
        for place in &places {
            digester.number(place.start as u64).number(place.len() as u64);
        }
    }
    Some(digester.finish())
}

/// Where the header tells of the table of sections: it lies behind the debug information.
fn section_table<Elf: FileHeader>() -> Hidden {
    // `e_shoff`; and `e_shnum` with `e_shstrndx`, the last two fields of the header.
    if size_of::<Elf>() == 64 { vec![(40, 8), (60, 4)] } else { vec![(32, 4), (48, 4)] }
}

/// Adds the build id's place. It is made from all of the file, debug information too.
fn hide_build_id<'data, P: ProgramHeader<Endian = Endianness>>(
    segment: &P,
    endian: Endianness,
    data: impl ReadRef<'data>,
    hidden: &mut Hidden,
) -> Option<()> {
    let (start, _) = segment.file_range(endian);
    let bytes = segment.data(endian, data).ok()?;
    let mut notes = segment.notes(endian, data).ok()??;
    while let Some(note) = notes.next().ok()? {
        if note.n_type(endian) == elf::NT_GNU_BUILD_ID && note.name() == elf::ELF_NOTE_GNU {
            let id = note.desc();
            // Both are slices of one buffer.
            let offset = (id.as_ptr() as usize).checked_sub(bytes.as_ptr() as usize)?;
            if offset + id.len() > bytes.len() {
                return None;
            }
            hidden.push((start + offset as u64, id.len() as u64));
        }
    }
    Some(())
}

/// Zeroes what is hidden in `content`, which lies at `start` in the file.
fn blank(content: &mut [u8], start: u64, hidden: &Hidden) {
    let end = start.saturating_add(content.len() as u64);
    for (at, length) in hidden {
        let (from, to) = ((*at).clamp(start, end), at.saturating_add(*length).clamp(start, end));
        // Within the content's length, which is a `usize`.
        #[expect(clippy::cast_possible_truncation, reason = "clamped to the slice above")]
        content[(from - start) as usize..(to - start) as usize].fill(0);
    }
}

/// Zeroes every path in `content` that begins with `root`, as far as `root` goes, and says where they
/// are. No path is as short as `/`.
fn blank_paths(content: &mut [u8], root: &Path) -> Option<Vec<Range<usize>>> {
    let root = root.as_os_str().as_bytes();
    if root.len() < 2 {
        return Some(Vec::new());
    }
    let finder = AhoCorasick::new([root]).ok()?;
    let places: Vec<_> = finder.find_iter(&*content).map(|hit| hit.range()).collect();
    places.iter().for_each(|place| content[place.clone()].fill(0));
    Some(places)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn digest(bytes: &[u8]) -> FileDigest {
        digest_in("", bytes)
    }

    fn digest_in(root: &str, bytes: &[u8]) -> FileDigest {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), bytes).unwrap();
        program_digest(file.path(), Path::new(root))
    }

    /// A program of one loaded segment (header and all), one note in it, and a rest that is not
    /// loaded.
    fn program(code: &[u8], build_id: [u8; 4], debug: &[u8]) -> Vec<u8> {
        let mut bytes = vec![0_u8; 64 + 2 * 56];
        bytes[..16].copy_from_slice(b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0");
        let note_at = bytes.len();
        for number in [4_u32, 4, elf::NT_GNU_BUILD_ID] {
            bytes.extend(number.to_le_bytes());
        }
        bytes.extend(b"GNU\0");
        bytes.extend(build_id);
        let note_length = bytes.len() - note_at;
        bytes.extend(code);
        let loaded = bytes.len();
        let mut put = |at: usize, value: u64, size: usize| {
            bytes[at..at + size].copy_from_slice(&value.to_le_bytes()[..size]);
        };
        put(16, 3, 2); // ET_DYN
        put(18, 62, 2);
        put(20, 1, 4);
        put(32, 64, 8); // program headers
        put(40, (loaded + debug.len()) as u64, 8); // sections
        put(52, 64, 2);
        put(54, 56, 2);
        put(56, 2, 2);
        put(58, 64, 2);
        put(62, debug.len() as u64 % 7, 2);
        put(64, u64::from(elf::PT_LOAD), 4);
        put(68, 5, 4);
        put(64 + 32, loaded as u64, 8);
        put(64 + 40, loaded as u64, 8);
        put(64 + 48, 4096, 8);
        put(120, u64::from(elf::PT_NOTE), 4);
        put(120 + 8, note_at as u64, 8);
        put(120 + 32, note_length as u64, 8);
        put(120 + 48, 4, 8);
        bytes.extend(debug);
        bytes
    }

    #[test]
    fn scripts_and_other_files_are_all_of_their_bytes() {
        for bytes in [&b""[..], b"#!/bin/sh\n", b"\x7fELF", b"\x7fELF\x02\x01 and no more of it"] {
            assert_eq!(digest(bytes), FileDigest::Known(Digest::of(bytes)));
        }
        assert_eq!(program_digest(Path::new("/nowhere/at/all"), Path::new("")), FileDigest::Absent);
        assert!(matches!(program_digest(Path::new("/"), Path::new("")), FileDigest::Unknown(_)));
    }

    #[test]
    fn a_truncated_program_is_its_whole_file() {
        let whole = program(b"code", *b"1234", b"");
        let cut = &whole[..whole.len() - 2];
        assert_eq!(digest(cut), FileDigest::Known(Digest::of(cut)));
    }

    #[test]
    fn a_loaded_part_outside_of_every_loaded_segment_is_not_understood() {
        let mut odd = program(b"code", *b"1234", b"more");
        odd[120..124].copy_from_slice(&elf::PT_INTERP.to_le_bytes());
        let end = odd.len() as u64;
        odd[128..136].copy_from_slice(&(end - 4).to_le_bytes());
        odd[152..160].copy_from_slice(&4_u64.to_le_bytes());
        assert_eq!(digest(&odd), FileDigest::Known(Digest::of(&odd)));
    }

    /// An archive as GNU's tools write it, of names up to 15 bytes.
    fn archive(members: &[(&str, &[u8])]) -> Vec<u8> {
        let mut bytes = b"!<arch>\n".to_vec();
        for (name, content) in members {
            let name = format!("{name}/");
            let head =
                format!("{name:<16}{:<12}{:<6}{:<6}{:<8}{:<10}`\n", 0, 0, 0, 644, content.len());
            bytes.extend(head.as_bytes());
            bytes.extend(*content);
            bytes.extend((content.len() % 2 == 1).then_some(b'\n'));
        }
        bytes
    }

    #[test]
    fn of_a_library_count_its_members_and_what_lasts_of_their_names() {
        let of = |name: &str, code: &[u8]| digest(&archive(&[("lib.rmeta", b"m"), (name, code)]));
        let one = of("a.b.x1.rcgu.o", b"code");
        assert_ne!(one, FileDigest::Known(Digest::of(&archive(&[]))));
        assert_eq!(one, of("a.b.y2.rcgu.o", b"code"));
        for (name, code) in [
            ("a.b.x1.rcgu.o", &b"kode"[..]),
            ("a.c.x1.rcgu.o", b"code"),
            ("b.b.x1.rcgu.o", b"code"),
            ("a.b.x1.o", b"code"),
        ] {
            assert_ne!(one, of(name, code), "{name}");
        }
        let swapped = archive(&[("a.b.x1.rcgu.o", b"code"), ("lib.rmeta", b"m")]);
        assert_ne!(one, digest(&swapped));
        let cut = &swapped[..swapped.len() - 2];
        assert_eq!(digest(cut), FileDigest::Known(Digest::of(cut)));
    }

    #[test]
    fn checkouts_with_paths_of_one_length_have_the_same_program() {
        let of = |root: &str, code: &str| digest_in(root, &program(code.as_bytes(), *b"1234", b""));
        let one = of("/w/one", "in /w/one/data and /w/one");
        assert_eq!(one, of("/w/two", "in /w/two/data and /w/two"));
        for (root, code) in [
            ("/w/two", "in /w/one/data and /w/one"),
            ("/w/two", "in /w/two/data and /w/one"),
            ("/w/two", "in /w/two/date and /w/two"),
            ("/w/two", "in \0\0\0\0\0\0/data and \0\0\0\0\0\0"),
            ("/w/longer", "in /w/longer/data and /w/longer"),
            ("", "in /w/one/data and /w/one"),
        ] {
            assert_ne!(one, of(root, code), "{root} {code}");
        }
        assert_eq!(of("/w/one", "no path"), of("/elsewhere/two", "no path"));
        assert_eq!(of("/", "a/b"), of("", "a/b"));
    }

    #[test]
    fn our_own_program_is_understood() {
        if cfg!(target_os = "linux") {
            let own = std::env::current_exe().unwrap();
            let digest = program_digest(&own, Path::new(""));
            assert_ne!(digest, file_digest(&own));
            assert!(matches!(digest, FileDigest::Known(_)));
        }
    }

    proptest! {
        #[test]
        fn only_what_is_loaded_counts(
            code in prop::collection::vec(any::<u8>(), 1..60),
            debug in prop::collection::vec(any::<u8>(), 0..60),
            id in any::<[u8; 4]>(),
            other_id in any::<[u8; 4]>(),
            at: prop::sample::Index,
            bit in 0..8_u32,
        ) {
            let one = digest(&program(&code, id, b"debug"));
            prop_assert_eq!(&one, &digest(&program(&code, other_id, &debug)));
            let mut changed = code.clone();
            let at = at.index(changed.len());
            changed[at] ^= 1 << bit;
            prop_assert_ne!(&one, &digest(&program(&changed, id, b"debug")));
        }

        #[test]
        fn every_bit_of_the_headers_but_the_hidden_ones_counts(
            at in 0_usize..176,
            bit in 0..8_u32,
        ) {
            let plain = program(b"some code", *b"1234", b"debug");
            let mut other = plain.clone();
            other[at] ^= 1 << bit;
            let hidden = (40..48).contains(&at) || (60..64).contains(&at);
            prop_assert_eq!(digest(&plain) == digest(&other), hidden, "{}", at);
        }

        #[test]
        fn no_bytes_make_it_panic(tail in prop::collection::vec(any::<u8>(), 0..300)) {
            let mut bytes = b"\x7fELF\x02\x01\x01".to_vec();
            bytes.extend(tail);
            prop_assert!(matches!(digest(&bytes), FileDigest::Known(_)));
        }
    }
}
