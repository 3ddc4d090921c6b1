//! The tests of a program of the standard harness, found where `main` hands them to the harness.
//!
//! Nothing here is an interface of rustc, so the form is found anew in each program: an array of
//! addresses, each of a constant of one size with a name and a function. Whatever is ambiguous is
//! an error.

use std::ops::Range;

use object::elf;

use super::error::UnknownLayout;
use super::reader::{ObjectReader, RelocationTarget};
use super::section::Section;

/// One test.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct ListedTest {
    pub(super) name: String,
    /// The section of its description, and that section's node.
    pub(super) section: usize,
    pub(super) node: u32,
    /// The part of the description that says where in its source file the test is.
    pub(super) positions: Option<Range<usize>>,
}

/// The known form of a description: its size, where its name is, and where its function; and the
/// four numbers of its place in the source file. Every byte of another form counts.
const KNOWN_FORM: (usize, u64, u64) = (152, 0x20, 0x88);
const KNOWN_POSITIONS: Range<usize> = 0x58..0x78;

/// The tests that this object hands to the harness; `None` if it does not call the harness.
pub(super) fn find(reader: &ObjectReader<'_>) -> Result<Option<Vec<ListedTest>>, UnknownLayout> {
    for section in reader.sections.iter().filter(|section| section.has(elf::SHF_EXECINSTR)) {
        let mut calls = false;
        let mut data = Vec::new();
        for relocation in &section.relocations {
            match reader.destination(relocation)? {
                RelocationTarget::Symbol { name, .. }
                    if name.contains("4test16test_main_static") =>
                {
                    calls = true;
                }
                RelocationTarget::Node { section, offset, .. }
                    if !reader.sections[section].has(elf::SHF_EXECINSTR) =>
                {
                    data.push((section, offset));
                }
                _ => {}
            }
        }
        if calls {
            return match data[..] {
                [] => Ok(Some(Vec::new())),
                [(array, _)] => tests(reader, &reader.sections[array]).map(Some),
                _ => Err(UnknownLayout::TestTable("`main` has several tables")),
            };
        }
    }
    Ok(None)
}

fn tests(reader: &ObjectReader<'_>, array: &Section<'_>) -> Result<Vec<ListedTest>, UnknownLayout> {
    let mut entries = Vec::new();
    for (at, relocation) in array.relocations.iter().enumerate() {
        let in_order = relocation.offset == 8 * at as u64 && relocation.kind == elf::R_X86_64_64;
        match reader.destination(relocation)? {
            RelocationTarget::Node { node, section, offset: 0 } if in_order => {
                entries.push((node, section));
            }
            _ => return Err(UnknownLayout::TestTable("not an array of addresses")),
        }
    }
    let size = entries.first().map_or(0, |(_, section)| reader.sections[*section].bytes.len());
    let equal = |(_, section): &(u32, usize)| reader.sections[*section].bytes.len() == size;
    if array.size != 8 * entries.len() as u64 || !entries.iter().all(equal) {
        return Err(UnknownLayout::TestTable("not an array of constants of one size"));
    }
    let (name_at, names) = names(reader, &entries)?;
    let known = (size, name_at, function_at(reader, &entries)?) == KNOWN_FORM;
    let positions = (known && has_positions(reader, &entries)).then_some(KNOWN_POSITIONS);
    let tests = entries.into_iter().zip(names).map(|((node, section), name)| ListedTest {
        name,
        section,
        node,
        positions: positions.clone(),
    });
    Ok(tests.collect())
}

/// The one offset at which every description has a text that can be a test's name, all different.
fn names(
    reader: &ObjectReader<'_>,
    entries: &[(u32, usize)],
) -> Result<(u64, Vec<String>), UnknownLayout> {
    let sections = || entries.iter().map(|(_, section)| &reader.sections[*section]);
    let Some(first) = sections().next() else { return Ok((0, Vec::new())) };
    let mut found = None;
    for candidate in &first.relocations {
        let at = candidate.offset;
        let texts = sections().map(|section| text_at(reader, section, at));
        let Some(texts) = texts.collect::<Result<Option<Vec<_>>, _>>()? else { continue };
        let mut distinct = texts.clone();
        distinct.sort_unstable();
        distinct.dedup();
        if distinct.len() == texts.len() && texts.iter().all(|text| is_test_name(text)) {
            if found.is_some() {
                return Err(UnknownLayout::TestTable("two texts could be the tests' names"));
            }
            found = Some((at, texts));
        }
    }
    found.ok_or(UnknownLayout::TestTable("no text could be the tests' names"))
}

/// The text whose address and length are at `at`.
fn text_at(
    reader: &ObjectReader<'_>,
    section: &Section<'_>,
    at: u64,
) -> Result<Option<String>, UnknownLayout> {
    let Some(relocation) = section.relocations.iter().find(|relocation| relocation.offset == at)
    else {
        return Ok(None);
    };
    let length = usize::try_from(at).ok().and_then(|at| section.bytes.get(at..)?.get(8..16));
    let Some(length) = length.and_then(|bytes| bytes.try_into().ok()).map(usize::from_le_bytes)
    else {
        return Ok(None);
    };
    let bytes = match reader.destination(relocation)? {
        RelocationTarget::Node { section, offset, .. } => {
            reader.sections[section].bytes.get(offset as usize..)
        }
        RelocationTarget::Piece { bytes, skip } => {
            usize::try_from(skip).ok().and_then(|skip| bytes.get(skip..))
        }
        _ => None,
    };
    let text = bytes.and_then(|bytes| bytes.get(..length));
    Ok(text.and_then(|text| std::str::from_utf8(text).ok()).map(str::to_owned))
}

/// Whether `text` is a path of identifiers.
fn is_test_name(text: &str) -> bool {
    text.split("::").all(|part| {
        !part.is_empty() && part.chars().all(|c| c.is_alphanumeric() || c == '_' || c == '#')
    })
}

/// The offset at which every description has the address of a function.
fn function_at(reader: &ObjectReader<'_>, entries: &[(u32, usize)]) -> Result<u64, UnknownLayout> {
    let mut common = None;
    for (_, section) in entries {
        let mut own = None;
        for relocation in &reader.sections[*section].relocations {
            let is_function = match reader.destination(relocation)? {
                RelocationTarget::Node { section, .. } => {
                    reader.sections[section].has(elf::SHF_EXECINSTR)
                }
                RelocationTarget::Symbol { .. } => true,
                _ => false,
            };
            if is_function && own.replace(relocation.offset).is_some() {
                return Err(UnknownLayout::TestTable("a test with two functions"));
            }
        }
        if own.is_none() || common.is_some_and(|common| Some(common) != own) {
            return Err(UnknownLayout::TestTable("a test without a function"));
        }
        common = own;
    }
    Ok(common.unwrap_or_default())
}

/// Whether the four numbers are a first and a last place: lines and columns from 1.
fn has_positions(reader: &ObjectReader<'_>, entries: &[(u32, usize)]) -> bool {
    entries.iter().all(|(_, section)| {
        let section = &reader.sections[*section];
        let numbers: Vec<u64> = section.bytes[KNOWN_POSITIONS]
            .chunks_exact(8)
            .filter_map(|bytes| bytes.try_into().ok().map(u64::from_le_bytes))
            .collect();
        let pointers = KNOWN_POSITIONS.start as u64..KNOWN_POSITIONS.end as u64;
        !section.relocations.iter().any(|relocation| pointers.contains(&relocation.offset))
            && matches!(numbers[..], [line, column, last_line, last_column]
                if line > 0 && column > 0 && last_column > 0
                    && (last_line, last_column) >= (line, column))
    })
}
