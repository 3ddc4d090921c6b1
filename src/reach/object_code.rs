//! One object as nodes: each allocated section with its content's digest and what it refers to.
//!
//! Only content counts. The names of functions and constants are not part of it, so the compiler
//! may number, move and rename them. Two names do count: those of writable sections, because two
//! variables with equal initial values are still two; and those of symbols that no known object
//! defines.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::ops::Range;

use object::LittleEndian as Endian;
use object::elf;
use object::read::elf::Sym;

use super::capabilities::{self, Capabilities};
use super::error::UnknownLayout;
use super::location_flow::{self, CallParameter, CodeMark, LocationUses, ParameterFlow, Reference};
use super::log_part::LogPart;
use super::panicking::{fails_with_last, has_no_result, never_returns_place, only_panics};
use super::reader::{ObjectReader, RelocationTarget};
use super::section::{ENDIAN, Relocation, Section};
use super::symbol_body::{NodePlace, SymbolBody};
use super::test_table::{self, ListedTest};
use super::unwind::Frame;
use crate::model::{Digest, Digester};

/// A content's digest as it is, and with positions in source files left out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct ContentDigests {
    pub(super) strict: Digest,
    /// Without the positions that only panics tell.
    pub(super) panics_masked: Digest,
    /// Without all positions.
    pub(super) masked: Digest,
}

impl ContentDigests {
    /// The digests of content without positions: all are the same.
    pub(super) const fn without_positions(digest: Digest) -> Self {
        Self { strict: digest, panics_masked: digest, masked: digest }
    }
}

/// Line and column of a panic location.
const LOCATION_PLACE: Range<usize> = 16..24;

/// One allocated section.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct CodeNode {
    pub(super) content: ContentDigests,
    pub(super) capabilities: Capabilities,
    /// How it takes part in keeping the lines of log messages.
    pub(super) log_part: LogPart,
    pub(super) references: Vec<Reference>,
    /// What it does with its parameters, if it is one function of rustc's.
    pub(super) parameters: Option<ParameterFlow>,
}

/// The definition of a symbol.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct SymbolDefinition {
    pub(super) name: u32,
    pub(super) node: u32,
    pub(super) offset: u64,
    /// Whether another definition can take its place.
    pub(super) is_weak: bool,
}

/// One object.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct ObjectCode {
    /// The name that the program has for it: with rustc, that of a code unit.
    pub(super) name: Box<str>,
    pub(super) nodes: Vec<CodeNode>,
    pub(super) names: Vec<Box<str>>,
    pub(super) definitions: Vec<SymbolDefinition>,
    /// Nodes that run or stay whether anything refers to them or not, in order.
    pub(super) roots: Vec<u32>,
    /// Sections that `__start_NAME` and `__stop_NAME` can enclose, in order.
    pub(super) enclosed: Vec<(Box<str>, u32)>,
    /// Functions and data that have a name.
    pub(super) bodies: Vec<SymbolBody>,
    /// The panic locations of which every use is known: each with the parameters that get it.
    pub(super) handed_on: Vec<(u32, Vec<CallParameter>)>,
    /// The tests, if the harness is called from here.
    pub(super) tests: Option<Vec<ListedTest>>,
}

impl ObjectCode {
    /// Whether rustc has compiled it as a part of the crate of this name.
    pub(super) fn is_of(&self, name: &str) -> bool {
        // `crate.hash-cgu.0`
        let unit = self.name.strip_prefix(name).and_then(|rest| rest.strip_prefix('.'));
        unit.is_some_and(|unit| unit.contains("-cgu."))
    }
}

/// Reads the object `data`, which is called `name` in messages.
///
/// Only in what rustc has compiled (`by_rustc`) are panic locations looked for.
pub(super) fn read_object(
    name: &str,
    data: &[u8],
    by_rustc: bool,
) -> Result<ObjectCode, UnknownLayout> {
    let reader = ObjectReader::open(name, data, by_rustc)?;
    let frames = reader.frames()?;
    let tests = test_table::find(&reader)?;
    let code = ObjectCode { name: name.into(), ..ObjectCode::default() };
    let (ids, pieces) = (HashMap::new(), Capabilities::default());
    let whole = HashMap::new();
    Collector { reader: &reader, code, ids, pieces, whole }.collect(&frames, tests)
}

/// Capabilities that the names of a section's symbols tell.
#[derive(Default)]
struct NamedCapabilities {
    capabilities: Capabilities,
    log_part: LogPart,
}

/// The bytes of a function or of data within its section, as the program has them too.
fn bytes_of<'data>(symbol: &elf::Sym64<Endian>, section: &Section<'data>) -> Option<&'data [u8]> {
    let is_known = [elf::STT_FUNC, elf::STT_OBJECT].contains(&symbol.st_type());
    if !is_known || section.kind == elf::SHT_NOBITS || section.is_merged() {
        return None;
    }
    let from = usize::try_from(symbol.st_value(ENDIAN)).ok()?;
    let to = from.checked_add(usize::try_from(symbol.st_size(ENDIAN)).ok()?)?;
    section.bytes.get(from..to).filter(|bytes| !bytes.is_empty())
}

/// Makes the nodes of an object.
struct Collector<'a> {
    reader: &'a ObjectReader<'a>,
    code: ObjectCode,
    ids: HashMap<&'a str, u32>,
    /// Capabilities that merged constants give to the section that refers to them.
    pieces: Capabilities,
    /// The sections that are one function each, with its name.
    whole: HashMap<usize, &'a str>,
}

impl<'a> Collector<'a> {
    fn collect(
        mut self,
        frames: &HashMap<u32, Vec<Frame>>,
        tests: Option<Vec<ListedTest>>,
    ) -> Result<ObjectCode, UnknownLayout> {
        let (labels, mut found) = self.symbols()?;
        let entries = tests.iter().flatten();
        let positions: HashMap<_, _> =
            entries.map(|test| (test.section, test.positions.clone())).collect();
        let mut uses = self.reader.location_uses()?;
        for (index, section) in self.reader.sections.iter().enumerate() {
            let Some(node) = section.node else { continue };
            let empty = Vec::new();
            let frames = frames.get(&node).unwrap_or(&empty);
            // Offsets and names of variables.
            let labels = labels.get(&index).map_or(&[][..], Vec::as_slice);
            let positions = match positions.get(&index) {
                Some(positions) => positions.clone(),
                None => uses.contains_key(&node).then_some(LOCATION_PLACE),
            };
            self.pieces = Capabilities::default();
            let (content, references) = self.content(section, labels, frames, positions)?;
            let NamedCapabilities { mut capabilities, log_part } =
                found.remove(&index).unwrap_or_default();
            if section.has(elf::SHF_EXECINSTR) && capabilities::has_system_call(section.bytes) {
                capabilities |= Capabilities::OUTSIDE | Capabilities::PROCESS_WIDE;
            }
            let is_inert = |(_, name): &(u64, &str)| capabilities::is_inert_variable(name);
            if section.is_variable() && (labels.is_empty() || !labels.iter().all(is_inert)) {
                capabilities |= Capabilities::STATE;
            }
            capabilities |= capabilities::of_constant(section.bytes) | self.pieces;
            let parameters = self.follow(index, section, &mut uses)?;
            self.code.nodes.push(CodeNode {
                content,
                capabilities,
                log_part,
                references,
                parameters,
            });
            if section.is_root() {
                self.code.roots.push(node);
            }
            let is_identifier = |c: u8| c.is_ascii_alphanumeric() || c == b'_';
            if section.name.bytes().all(is_identifier) {
                self.code.enclosed.push((section.name.into(), node));
            }
        }
        let exported: HashSet<u32> = self.code.definitions.iter().map(|one| one.node).collect();
        let known =
            uses.into_iter().filter(|(node, uses)| uses.unknown == 0 && !exported.contains(node));
        self.code.handed_on = known.map(|(node, uses)| (node, uses.receivers)).collect();
        self.code.tests = tests;
        Ok(self.code)
    }

    /// Follows panic locations through a function; what it does with its parameters, if it is one of
    /// rustc's.
    fn follow(
        &mut self,
        index: usize,
        section: &Section<'a>,
        uses: &mut BTreeMap<u32, LocationUses>,
    ) -> Result<Option<ParameterFlow>, UnknownLayout> {
        let Some(name) = self.whole.get(&index).filter(|_| self.reader.by_rustc) else {
            return Ok(None);
        };
        let name: &str = name;
        let mut marks = BTreeMap::new();
        for relocation in &section.relocations {
            let mark = match self.reader.start(relocation)? {
                Some(RelocationTarget::Node { node, .. }) if uses.contains_key(&node) => {
                    CodeMark::Place(node)
                }
                Some(RelocationTarget::Node { node, section, .. })
                    if self.whole.contains_key(&section) =>
                {
                    CodeMark::Function(Reference::Node(node))
                }
                Some(RelocationTarget::Symbol { name, .. }) => {
                    CodeMark::Function(Reference::Symbol(self.name(name)))
                }
                _ => continue,
            };
            marks.insert(relocation.offset, mark);
        }
        let (mut parameters, places) = location_flow::follow(section.bytes, &marks);
        for (node, receivers) in places {
            if let (Some(uses), Some(receivers)) = (uses.get_mut(&node), receivers) {
                uses.unknown -= 1;
                uses.receivers.extend(receivers);
            }
        }
        // What is left in the register of a second result is none where there is no result. Of the others, a
        // place is the last parameter, and what else they get is not a place that they panic with: a value,
        // which they return or store.
        let place = parameters.handed_on.iter().map(|(parameter, _)| *parameter).max();
        let place = place.map_or(0, |place| 1 << place) & parameters.returned;
        let is_left = match () {
            () if has_no_result(name) => parameters.returned,
            () if only_panics(name) || never_returns_place(name) => place,
            () => 0,
        };
        parameters.lost |= parameters.returned & !is_left;
        if fails_with_last(name) {
            // It hands the place on by the stack.
            let last = 7_u32.saturating_sub(parameters.lost.leading_zeros());
            parameters.lost &= !(1 << last);
        }
        Ok(Some(parameters))
    }

    /// Notes which symbols the object defines. Yields the names in each writable section with
    /// their offsets, and what the names in each section say of its capabilities.
    #[expect(clippy::type_complexity, reason = "two tables of one walk")]
    fn symbols(
        &mut self,
    ) -> Result<
        (HashMap<usize, Vec<(u64, &'a str)>>, HashMap<usize, NamedCapabilities>),
        UnknownLayout,
    > {
        let mut labels: HashMap<usize, Vec<(u64, &str)>> = HashMap::new();
        let mut found: HashMap<usize, NamedCapabilities> = HashMap::new();
        let sections = &self.reader.sections;
        for (index, symbol) in self.reader.symbols.enumerate() {
            let kind = symbol.st_type();
            if kind == elf::STT_FILE || kind == elf::STT_SECTION {
                continue;
            }
            let name = self.reader.symbol_name(symbol)?;
            if symbol.st_shndx(ENDIAN) == elf::SHN_COMMON {
                // Never written by rustc; such a variable is known by its name and size alone.
                return Err(self.reader.problem(format!("`{name}` is a common symbol")));
            }
            let Some(section) = self.reader.section_of(index, symbol)? else { continue };
            let within = &sections[section.0];
            let Some(node) = within.node else { continue };
            // A static has an address of its own, even if another one holds the same.
            let is_static = kind == elf::STT_OBJECT && !within.has(elf::SHF_EXECINSTR);
            if within.is_variable() || is_static {
                labels.entry(section.0).or_default().push((symbol.st_value(ENDIAN), name));
            }
            let named = found.entry(section.0).or_default();
            named.capabilities |= capabilities::of_any_symbol(name);
            let whole = symbol.st_value(ENDIAN) == 0 && symbol.st_size(ENDIAN) == within.size;
            if kind == elf::STT_FUNC && whole {
                named.log_part = LogPart::of(name);
                self.whole.insert(section.0, name);
            }
            let (offset, is_local) = (symbol.st_value(ENDIAN), symbol.is_local());
            if let Some(bytes) = bytes_of(symbol, within) {
                let name = self.name(name);
                let relocations = &within.relocations;
                self.code.bodies.push(SymbolBody::new(
                    name,
                    is_local,
                    NodePlace { node, offset },
                    bytes,
                    relocations,
                ));
            }
            if !is_local {
                let is_weak = symbol.st_bind() == elf::STB_WEAK;
                let name = self.name(name);
                self.code.definitions.push(SymbolDefinition { name, node, offset, is_weak });
            }
        }
        labels.values_mut().for_each(|labels| labels.sort_unstable());
        Ok((labels, found))
    }

    fn name(&mut self, name: &'a str) -> u32 {
        *self.ids.entry(name).or_insert_with(|| {
            self.code.names.push(name.into());
            self.code.names.len() as u32 - 1
        })
    }

    /// A section's content and references. `positions` are places in a source file.
    fn content(
        &mut self,
        section: &Section<'a>,
        labels: &[(u64, &str)],
        frames: &[Frame],
        positions: Option<Range<usize>>,
    ) -> Result<(ContentDigests, Vec<Reference>), UnknownLayout> {
        let mut references = Vec::new();
        let mut rest = Digester::new("reached section 3");
        // A section does the same in a group and alone.
        let flags = section.flags & !u64::from(elf::SHF_GROUP | elf::SHF_INFO_LINK);
        rest.number(flags).number(section.kind.into()).number(section.size).number(section.align);
        rest.field(if section.is_list_of_functions() { section.name.as_bytes() } else { b"" });
        rest.number(labels.len() as u64);
        for (offset, label) in labels {
            rest.number(*offset).field(label.as_bytes());
        }
        self.refer(&mut rest, &section.relocations, 0, &mut references)?;
        for frame in frames {
            rest.number(frame.offset);
            for record in [&frame.common, &frame.own] {
                rest.field(&record.bytes);
                self.refer(&mut rest, &record.relocations, record.start, &mut references)?;
            }
        }
        let mut strict = rest.clone();
        let strict = strict.field(section.bytes).clone().finish();
        let masked = match positions {
            Some(positions) => {
                let mut bytes = section.bytes.to_vec();
                bytes[positions].fill(0);
                rest.field(&bytes).clone().finish()
            }
            None => strict,
        };
        let digests = ContentDigests { strict, panics_masked: masked, masked };
        Ok((digests, references))
    }

    fn refer(
        &mut self,
        digester: &mut Digester,
        relocations: &[Relocation],
        start: u64,
        references: &mut Vec<Reference>,
    ) -> Result<(), UnknownLayout> {
        digester.number(relocations.len() as u64);
        for relocation in relocations {
            digester.number(relocation.offset - start).number(relocation.kind.into());
            match self.reader.destination(relocation)? {
                RelocationTarget::Node { node, offset, .. } => {
                    digester.field(b"node").number(offset);
                    references.push(Reference::Node(node));
                }
                RelocationTarget::Piece { bytes, skip } => {
                    digester.field(b"piece").number(skip.cast_unsigned()).field(bytes);
                    self.pieces |= capabilities::of_constant(bytes);
                }
                RelocationTarget::Symbol { name, addend } => {
                    digester.field(b"symbol").number(addend.cast_unsigned());
                    let name = self.name(name);
                    references.push(Reference::Symbol(name));
                }
                RelocationTarget::Number(number) => {
                    digester.field(b"number").number(number);
                }
                RelocationTarget::Nothing => {
                    return Err(self.reader.problem("a reference to something not loaded"));
                }
            }
        }
        Ok(())
    }
}
