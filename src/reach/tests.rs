//! Objects made by hand: each part counts as it should, and no bytes do harm.

use std::sync::Arc;

use object::elf;
use proptest::prelude::*;

use super::capabilities::Capabilities;
use super::error::UnknownLayout;
use super::graph::Closure;
use super::link::LinkedGraph;
use super::object_code::{ObjectCode, read_object};
use super::program::{ProgramTables, SymbolOrigin, read_program};
use super::sysroot::Sysroot;

/// An object that is being made. Section 0 is empty, as the format wants it.
#[derive(Default)]
struct ObjectBytes {
    sections: Vec<MadeSection>,
    symbols: Vec<MadeSymbol>,
}

struct MadeSection {
    name: String,
    kind: u32,
    flags: u32,
    entry_size: u64,
    bytes: Vec<u8>,
    /// Offset, kind, symbol and addend of each relocation.
    relocations: Vec<(u64, u32, u32, i64)>,
}

struct MadeSymbol {
    name: String,
    info: u8,
    section: u16,
    value: u64,
}

const CODE: u32 = elf::SHF_ALLOC | elf::SHF_EXECINSTR;
const WRITABLE: u32 = elf::SHF_ALLOC | elf::SHF_WRITE;
const STRINGS: u32 = elf::SHF_ALLOC | elf::SHF_MERGE | elf::SHF_STRINGS;

impl ObjectBytes {
    /// Adds a section; yields its number.
    fn section(&mut self, name: &str, flags: u32, bytes: &[u8]) -> u16 {
        let entry_size = u64::from(flags & elf::SHF_MERGE != 0);
        self.sections.push(MadeSection {
            name: name.to_owned(),
            kind: elf::SHT_PROGBITS,
            flags,
            entry_size,
            bytes: bytes.to_vec(),
            relocations: Vec::new(),
        });
        self.sections.len() as u16
    }

    /// Adds a symbol; yields its number. Local ones have to come first.
    fn symbol(&mut self, name: &str, binding: u8, section: u16, value: u64) -> u32 {
        let info = binding << 4 | if name.is_empty() { elf::STT_SECTION } else { elf::STT_OBJECT };
        self.symbols.push(MadeSymbol { name: name.to_owned(), info, section, value });
        self.symbols.len() as u32
    }

    fn refer(&mut self, section: u16, offset: u64, symbol: u32, addend: i64) {
        let relocations = &mut self.sections[usize::from(section) - 1].relocations;
        relocations.push((offset, elf::R_X86_64_64, symbol, addend));
    }

    fn bytes(&self) -> Vec<u8> {
        let mut names = vec![0];
        let mut name = |text: &str| {
            names.extend(text.as_bytes());
            names.push(0);
            (names.len() - text.len() - 1) as u32
        };
        // Name, kind, flags, bytes, link, info, size of an entry.
        let mut headers = vec![(0, 0, 0, Vec::new(), 0, 0, 0)];
        for made in &self.sections {
            let name = name(&made.name);
            headers.push((name, made.kind, made.flags, made.bytes.clone(), 0, 0, made.entry_size));
        }
        let count = self.sections.len() as u32;
        let related = self.sections.iter().filter(|made| !made.relocations.is_empty()).count();
        let (symbols_at, names_at) = (count + related as u32 + 1, count + related as u32 + 2);
        for (at, made) in self.sections.iter().enumerate() {
            let mut bytes = Vec::new();
            for (offset, kind, symbol, addend) in &made.relocations {
                bytes.extend(offset.to_le_bytes());
                bytes.extend((u64::from(*symbol) << 32 | u64::from(*kind)).to_le_bytes());
                bytes.extend(addend.to_le_bytes());
            }
            if !bytes.is_empty() {
                headers.push((0, elf::SHT_RELA, 0, bytes, symbols_at, at as u32 + 1, 24));
            }
        }
        let mut bytes = vec![0; 24];
        for made in &self.symbols {
            let name = if made.name.is_empty() { 0 } else { name(&made.name) };
            bytes.extend(name.to_le_bytes());
            bytes.extend([made.info, 0]);
            bytes.extend(made.section.to_le_bytes());
            bytes.extend(made.value.to_le_bytes());
            bytes.extend(0u64.to_le_bytes());
        }
        let locals = self.symbols.iter().take_while(|made| made.info >> 4 == elf::STB_LOCAL);
        let locals = locals.count() as u32 + 1;
        headers.push((0, elf::SHT_SYMTAB, 0, bytes, names_at, locals, 24));
        headers.push((0, elf::SHT_STRTAB, 0, names, 0, 0, 0));

        let mut file = vec![0; 64];
        file[..7].copy_from_slice(b"\x7fELF\x02\x01\x01");
        file[16..18].copy_from_slice(&elf::ET_REL.to_le_bytes());
        file[18..20].copy_from_slice(&elf::EM_X86_64.to_le_bytes());
        file[20] = 1;
        let mut table = Vec::new();
        for (name, kind, flags, bytes, link, info, entry_size) in &headers {
            for number in [*name, *kind] {
                table.extend(number.to_le_bytes());
            }
            let (at, length) = (file.len() as u64, bytes.len() as u64);
            for number in [u64::from(*flags), 0, at, length] {
                table.extend(number.to_le_bytes());
            }
            for number in [*link, *info] {
                table.extend(number.to_le_bytes());
            }
            for number in [1, *entry_size] {
                table.extend(number.to_le_bytes());
            }
            file.extend(bytes);
        }
        let at = file.len() as u64;
        file[40..48].copy_from_slice(&at.to_le_bytes());
        file[52..54].copy_from_slice(&64u16.to_le_bytes());
        file[58..60].copy_from_slice(&64u16.to_le_bytes());
        file[60..62].copy_from_slice(&(headers.len() as u16).to_le_bytes());
        file[62..64].copy_from_slice(&(names_at as u16).to_le_bytes());
        file.extend(table);
        file
    }

    fn read(&self) -> Result<ObjectCode, UnknownLayout> {
        read_object("unit", &self.bytes(), true)
    }
}

/// Everything that the symbol `entry` reaches in a program of these objects.
fn closed(objects: &[&ObjectBytes], tables: &ProgramTables, entry: &str) -> (Closure, bool) {
    let objects: Vec<_> = objects.iter().map(|object| object.read().unwrap()).collect();
    closed_as(objects, tables, entry)
}

fn closed_as(objects: Vec<ObjectCode>, tables: &ProgramTables, entry: &str) -> (Closure, bool) {
    let objects: Vec<_> = objects.into_iter().map(Arc::new).collect();
    let sysroot = Sysroot {
        units: ["std-cgu.0".into()].into(),
        symbols: [
            ("_RNvNtCs1_3std2fs4read".to_owned(), Vec::new()),
            ("calloc".to_owned(), vec!["std-cgu.0".into()]),
        ]
        .into(),
    };
    let graph = LinkedGraph::new(&objects, tables, &sysroot);
    let node = graph.defined(entry).unwrap()[0].node;
    let reached = graph.close(tables, &sysroot, [node]);
    let all = reached.of(node);
    let digests = super::object_code::ContentDigests {
        strict: all.strict,
        panics_masked: all.panics_masked,
        masked: all.masked,
    };
    let closure = Closure { digests, capabilities: all.capabilities, unknown: None };
    (closure, all.unknown.is_some())
}

fn strict(object: &ObjectBytes) -> crate::model::Digest {
    closed(&[object], &ProgramTables::default(), "entry").0.digests.strict
}

/// `entry` refers to a string, to a variable and to a function.
fn object(text: &[u8], variable: &str, function: &[u8]) -> ObjectBytes {
    let mut object = ObjectBytes::default();
    let entry = object.section(".text.entry", CODE, &[1; 32]);
    let strings = object.section(".rodata.str1.1", STRINGS, text);
    let data = object.section(".data.v", WRITABLE, &[0; 4]);
    let called = object.section(".text.f", CODE, function);
    let string = object.symbol("", elf::STB_LOCAL, strings, 0);
    let data = object.symbol(variable, elf::STB_LOCAL, data, 0);
    let called = object.symbol("", elf::STB_LOCAL, called, 0);
    object.symbol("entry", elf::STB_GLOBAL, entry, 0);
    object.refer(entry, 0, string, 4);
    object.refer(entry, 8, data, 0);
    object.refer(entry, 16, called, 0);
    object
}

#[test]
fn what_is_referred_to_counts_and_neighbours_do_not() {
    let before = strict(&object(b"one\0two\0", "V", &[9]));
    assert_eq!(before, strict(&object(b"ONE\0two\0", "V", &[9])), "another string");
    assert_ne!(before, strict(&object(b"one\0TWO\0", "V", &[9])), "the string");
    assert_ne!(before, strict(&object(b"one\0two\0", "W", &[9])), "another variable");
    assert_ne!(before, strict(&object(b"one\0two\0", "V", &[8])), "the function");
    let mut more = object(b"one\0two\0", "V", &[9]);
    more.section(".text.unreached", CODE, &[7]);
    assert_eq!(before, strict(&more), "a function that nothing reaches");
    let retained = more.section(".data.used", WRITABLE | elf::SHF_GNU_RETAIN, &[7]);
    more.symbol("used", elf::STB_LOCAL, retained, 0);
    assert_ne!(before, strict(&more), "a variable that is retained");
}

#[test]
fn a_symbol_counts_with_all_its_definitions() {
    let user = || {
        let mut object = ObjectBytes::default();
        let entry = object.section(".text.entry", CODE, &[1; 16]);
        object.symbol("entry", elf::STB_GLOBAL, entry, 0);
        let other = object.symbol("other", elf::STB_GLOBAL, 0, 0);
        object.refer(entry, 0, other, 0);
        object
    };
    let definer_of = |byte, binding| {
        let mut object = ObjectBytes::default();
        let other = object.section(".text.other", CODE, &[byte]);
        object.symbol("other", binding, other, 0);
        object
    };
    let definer = |byte| definer_of(byte, elf::STB_WEAK);
    let tables = ProgramTables::default();
    let digest = |objects: &[&ObjectBytes]| closed(objects, &tables, "entry").0.digests.strict;
    let (one, two) = (definer(1), definer(2));
    let all = [
        digest(&[&user(), &one]),
        digest(&[&user(), &two]),
        digest(&[&user(), &one, &two]),
        digest(&[&user(), &two, &one]),
        digest(&[&user()]),
    ];
    for (at, digest) in all.iter().enumerate() {
        assert_eq!(all.iter().filter(|other| *other == digest).count(), 1, "{at}");
    }
    // Which one the linker takes depends on which one is weak. One that is alone is taken in any case.
    let strong = definer_of(2, elf::STB_GLOBAL);
    assert_ne!(digest(&[&user(), &one, &strong]), all[2]);
    assert_eq!(digest(&[&user(), &strong]), all[1]);
}

#[test]
fn the_origin_of_a_symbol_says_what_it_can_do() {
    let look_with = |name: &str, origin: Option<SymbolOrigin>, objects: &[&str]| {
        let mut object = ObjectBytes::default();
        let entry = object.section(".text.entry", CODE, &[1; 16]);
        object.symbol("entry", elf::STB_GLOBAL, entry, 0);
        let leaf = object.symbol(name, elf::STB_GLOBAL, 0, 0);
        object.refer(entry, 0, leaf, 0);
        let mut tables = ProgramTables::default();
        tables.origins.extend(origin.map(|origin| (name.to_owned(), origin)));
        tables.objects.extend(objects.iter().map(|name| (*name).to_owned()));
        let (closure, unknown) = closed(&[&object], &tables, "entry");
        (closure.capabilities, unknown)
    };
    let look = |name: &str, origin| look_with(name, origin, &[]);
    let (system, linked) = (Some(SymbolOrigin::System), Some(SymbolOrigin::Linked));
    let nothing = Capabilities::default();
    assert_eq!(look("memcpy", system), (nothing, false));
    assert_eq!(look("open", system), (Capabilities::FILES | Capabilities::WRITES, false));
    let wide = Capabilities::PROCESS_WIDE;
    assert_eq!(look("dlsym", system), (Capabilities::SYMBOL_LOOKUP | wide, false));
    assert_eq!(look("exit", system), (wide, false));
    assert_eq!(look("exit", None), (wide, false));
    assert_eq!(look("_RNvNtCs1_3std2fs4read", linked), (Capabilities::FILES, false));
    // An object that is not known defines it, or nothing at all does.
    let unknown = (Capabilities::UNKNOWN_SYMBOL | wide, true);
    assert_eq!(look("mystery", linked), unknown);
    assert_eq!(look("mystery", None), unknown);
    assert_eq!(look("_ZN5other1f17h0123456789abcdefE", linked), unknown);
    // Another library's function has no system version, whatever its name is.
    let all = Capabilities::OUTSIDE | Capabilities::WRITES | wide;
    let library = Some(SymbolOrigin::Library);
    for name in ["memcached_set", "strlen", "malloc"] {
        assert_eq!(look(name, library), (all, false), "{name}");
        assert_eq!(look(name, linked), unknown, "{name}");
    }
    assert_eq!(look("__gmon_start__", library), (nothing, false));
    assert_eq!(look("__dso_handle", linked), (nothing, false));
    assert_eq!(look("__start_list", linked), (nothing, false));
    // The sysroot defines it too, in a unit that is part of the program or is not.
    assert_eq!(look_with("calloc", linked, &["std-cgu.0"]), (nothing, false));
    assert_eq!(look_with("calloc", linked, &["other-cgu.0"]), unknown);
}

#[test]
fn the_crate_getrandom_looks_up_no_function_of_the_program() {
    let look = |unit: &str, origin| {
        let mut object = ObjectBytes::default();
        let entry = object.section(".text.entry", CODE, &[1; 16]);
        object.symbol("entry", elf::STB_GLOBAL, entry, 0);
        let leaf = object.symbol("dlsym", elf::STB_GLOBAL, 0, 0);
        object.refer(entry, 0, leaf, 0);
        let mut tables = ProgramTables::default();
        tables.origins.insert("dlsym".to_owned(), origin);
        let code = read_object(unit, &object.bytes(), true).unwrap();
        closed_as(vec![code], &tables, "entry").0.capabilities
    };
    let all = Capabilities::OUTSIDE | Capabilities::WRITES | Capabilities::PROCESS_WIDE;
    assert_eq!(look("getrandom.1f2e-cgu.0", SymbolOrigin::System), all);
    let units = ["getrandom_or_not.1f2e-cgu.0", "mine.1f2e-cgu.0", "getrandom.c"];
    for unit in units {
        let found = look(unit, SymbolOrigin::System);
        assert!(found.contains(Capabilities::SYMBOL_LOOKUP), "{unit}");
    }
    // Another library has taken its place.
    let found = look("getrandom.1f2e-cgu.0", SymbolOrigin::Library);
    assert!(found.contains(Capabilities::SYMBOL_LOOKUP));
}

#[test]
fn the_libraries_that_are_loaded_count_for_every_entry() {
    let look = |libraries: &[&str], folders: &[&str]| {
        let owned = |list: &[&str]| list.iter().map(|name| (*name).to_owned()).collect();
        let mut tables = ProgramTables::default();
        (tables.libraries, tables.library_folders) = (owned(libraries), owned(folders));
        closed(&[&object(b"one\0two\0", "V", &[9])], &tables, "entry").0.digests.masked
    };
    let before = look(&["liba.so", "libb.so"], &[]);
    assert_eq!(before, look(&["liba.so", "libb.so"], &[]));
    // The first one that has a symbol defines it.
    assert_ne!(before, look(&["libb.so", "liba.so"], &[]));
    assert_ne!(before, look(&["liba.so", "libb.so"], &["/opt"]));
    assert_ne!(before, look(&["liba.so"], &["libb.so"]));
}

#[test]
fn what_a_library_can_call_counts_for_every_entry() {
    let look = |byte: u8, name: &str, exported: bool| {
        let mut object = ObjectBytes::default();
        let entry = object.section(".text.entry", CODE, &[1]);
        let other = object.section(".text.other", CODE, &[byte]);
        object.symbol("entry", elf::STB_GLOBAL, entry, 0);
        object.symbol(name, elf::STB_GLOBAL, other, 0);
        let mut tables = ProgramTables::default();
        tables.exported.extend(exported.then(|| name.to_owned()));
        closed(&[&object], &tables, "entry").0.digests.strict
    };
    assert_eq!(look(1, "own", false), look(2, "own", false));
    assert_ne!(look(1, "own", true), look(2, "own", true));
    // The sysroot has it too, so its own code may call this one.
    assert_ne!(look(1, "calloc", false), look(2, "calloc", false));
    assert_ne!(
        look(1, "_RNvCs1_7___rustc12___rust_alloc", false),
        look(2, "_RNvCs1_7___rustc12___rust_alloc", false)
    );
}

#[test]
fn the_order_of_constructors_counts() {
    let look = |names: [&str; 2]| {
        let mut object = ObjectBytes::default();
        let entry = object.section(".text.entry", CODE, &[1]);
        for (byte, name) in (2..).zip(names) {
            object.section(name, WRITABLE, &[byte]);
        }
        object.symbol("entry", elf::STB_GLOBAL, entry, 0);
        strict(&object)
    };
    let before = look([".init_array.00101", ".init_array.00103"]);
    assert_eq!(before, look([".init_array.00101", ".init_array.00103"]));
    assert_ne!(before, look([".init_array.00101", ".init_array.00100"]));
    // Names of other sections tell nothing.
    assert_eq!(look([".data.a", ".data.b"]), look([".data.a", ".data.c"]));
}

#[test]
fn only_a_real_location_is_masked() {
    let look = |name: &str, text: &[u8], length: u64, line: u32, by_rustc: bool| {
        let mut object = ObjectBytes::default();
        let bytes =
            [&[0; 8][..], &length.to_le_bytes(), &line.to_le_bytes(), &[5, 0, 0, 0]].concat();
        let entry = object.section(name, WRITABLE, &bytes);
        let strings = object.section(".rodata.str1.1", STRINGS, text);
        let text = object.symbol("", elf::STB_LOCAL, strings, 0);
        object.symbol("entry", elf::STB_GLOBAL, entry, 0);
        object.refer(entry, 0, text, 0);
        let code = read_object("unit", &object.bytes(), by_rustc).unwrap();
        code.nodes[0].content
    };
    let masked = |name: &str, text: &[u8], length, by_rustc| {
        let (one, two) =
            (look(name, text, length, 1, by_rustc), look(name, text, length, 2, by_rustc));
        assert_ne!(one.strict, two.strict);
        one.masked == two.masked
    };
    assert!(masked(".data.rel.ro..L1", b"src/a.rs\0", 8, true));
    assert!(!masked(".data.rel.ro..L1", b"src/a.rs\0", 9, true), "its length counts the NUL");
    assert!(!masked(".data.rel.ro..L1", b"src/a.txt\0", 9, true), "no source file");
    assert!(!masked(".data.rel.ro..L1", b"src/a.rs\0", 8, false), "of another compiler");
    assert!(!masked(".data.v", b"src/a.rs\0", 8, true), "a variable");
}

#[test]
fn odd_objects_are_refused() {
    let refused = |object: &ObjectBytes| matches!(object.read(), Err(UnknownLayout::Object { .. }));
    let good = object(b"one\0two\0", "V", &[9]);
    assert!(good.read().is_ok());
    let mut outside = object(b"one\0two\0", "V", &[9]);
    outside.refer(1, 24, 1, 100);
    assert!(refused(&outside), "a string behind the last");
    let mut common = object(b"one\0two\0", "V", &[9]);
    common.symbol("c", elf::STB_GLOBAL, elf::SHN_COMMON, 8);
    assert!(refused(&common), "a common symbol");
    let mut bytes = good.bytes();
    bytes[18] = elf::EM_AARCH64 as u8;
    assert!(read_object("unit", &bytes, true).is_err(), "another processor");
    assert!(read_object("unit", b"BC\xc0\xde of LLVM", true).is_err(), "bitcode");
}

proptest! {
    /// Whatever the bytes are, there is an answer.
    #[test]
    fn broken_bytes_do_no_harm(
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..8),
        cut in any::<prop::sample::Index>(),
    ) {
        let mut bytes = object(b"one\0two\0", "V", &[9]).bytes();
        for (at, byte) in changes {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        // Errors are as good as objects.
        let _ = read_object("unit", &bytes, true);
        let _ = read_object("unit", &bytes[..cut.index(bytes.len())], true);
        bytes[16] = elf::ET_DYN as u8;
        let _ = read_program(&bytes);
    }
}
