//! Where the instructions of x86_64 machine code begin, and which of them enter the kernel.
//!
//! No operand is understood, only each instruction's length. The bytes of an instruction that enters
//! the kernel also occur inside of addresses and numbers; only the way from the start of a function
//! tells one from the other.

/// The instructions that enter the kernel: `syscall`, `sysenter` and `int 0x80`.
const KERNEL_ENTRIES: [[u8; 2]; 3] = [[0x0f, 0x05], [0x0f, 0x34], [0xcd, 0x80]];

/// The places in `code` at which the bytes of an instruction stand that enters the kernel.
pub(super) fn kernel_entries(code: &[u8]) -> impl Iterator<Item = usize> + use<'_> {
    let places = code.windows(2).enumerate();
    places.filter(|(_, bytes)| KERNEL_ENTRIES.iter().any(|entry| entry == bytes)).map(|(at, _)| at)
}

/// Whether an instruction of the function `code` begins at `at`. What is not understood up to there may
/// be one.
pub(super) fn may_begin_at(code: &[u8], at: usize) -> bool {
    let mut next = 0;
    while next < at {
        let Some(length) = code.get(next..).and_then(length) else { return true };
        next += length;
    }
    next == at
}

/// The operands of an instruction besides its code.
struct Operands {
    /// Whether a byte tells of registers and addresses.
    has_address: bool,
    /// How many bytes of a number follow.
    number: usize,
}

/// The prefixes of an instruction, as far as they change lengths.
#[derive(Clone, Copy, Default)]
struct Prefixes {
    /// Numbers have two bytes in place of four.
    is_short: bool,
    /// Addresses have four bytes in place of eight.
    has_short_address: bool,
    /// Registers have eight bytes.
    is_wide: bool,
}

/// The length of the first instruction of `code`; `None` if it is none.
fn length(code: &[u8]) -> Option<usize> {
    let mut prefixes = Prefixes::default();
    let mut at = 0;
    loop {
        match code.get(at)? {
            0x66 => prefixes.is_short = true,
            0x67 => prefixes.has_short_address = true,
            0xf0 | 0xf2 | 0xf3 | 0x2e | 0x36 | 0x3e | 0x26 | 0x64 | 0x65 => {}
            _ => break,
        }
        at += 1;
    }
    if let rex @ 0x40..=0x4f = code.get(at)? {
        prefixes.is_wide = rex & 8 != 0;
        at += 1;
    }
    let first = *code.get(at)?;
    let next = |distance: usize| code.get(at + distance).copied();
    let (operands, code_length) = match first {
        0x0f => match next(1)? {
            0x38 => (map_2(), 3),
            0x3a => (map_3(), 3),
            second => (map_1(second, prefixes)?, 2),
        },
        0xc4 => (vector(next(1)? & 0x1f, next(3)?)?, 4),
        0xc5 => (vector(1, next(2)?)?, 3),
        0x62 => (vector(next(1)? & 7, next(4)?)?, 5),
        _ => (one_byte(first, next(1), prefixes)?, 1),
    };
    at += code_length;
    if operands.has_address {
        at += address_length(code.get(at..)?)?;
    }
    let end = at + operands.number;
    (end <= code.len()).then_some(end)
}

/// The operands of an instruction with a code of one byte; `next` is the byte after it.
fn one_byte(first: u8, next: Option<u8>, prefixes: Prefixes) -> Option<Operands> {
    let number = if prefixes.is_short { 2 } else { 4 };
    // Two groups of instructions have a number in two of eight cases.
    let tests = |number| if next.is_some_and(|byte| byte & 0x30 == 0) { number } else { 0 };
    let (has_address, number) = match first {
        0x00..=0x3f => match first & 7 {
            0..=3 => (true, 0),
            4 => (false, 1),
            5 => (false, number),
            _ => return None,
        },
        0x63 | 0x84..=0x8f | 0xd0..=0xd3 | 0xd8..=0xdf | 0xfe | 0xff => (true, 0),
        0x69 | 0x81 | 0xc7 => (true, number),
        0x6b | 0x80 | 0x83 | 0xc0 | 0xc1 | 0xc6 => (true, 1),
        0xf6 => (true, tests(1)),
        0xf7 => (true, tests(number)),
        0x68 | 0xa9 => (false, number),
        0x6a | 0x70..=0x7f | 0xa8 | 0xb0..=0xb7 | 0xcd | 0xe0..=0xe7 | 0xeb => (false, 1),
        // Calls and jumps.
        0xe8 | 0xe9 => (false, 4),
        0xa0..=0xa3 => (false, if prefixes.has_short_address { 4 } else { 8 }),
        0xb8..=0xbf => (false, if prefixes.is_wide { 8 } else { number }),
        0xc2 | 0xca => (false, 2),
        0xc8 => (false, 3),
        0x60..=0x62 | 0x82 | 0x9a | 0xce | 0xd4..=0xd6 | 0xea => return None,
        _ => (false, 0),
    };
    Some(Operands { has_address, number })
}

/// The operands of an instruction with the code `0f SECOND`.
fn map_1(second: u8, prefixes: Prefixes) -> Option<Operands> {
    let (has_address, number) = match second {
        0x04 | 0x0a | 0x0c | 0x24..=0x27 | 0x36 | 0x39..=0x3f => return None,
        0x05..=0x09 | 0x0b | 0x0e | 0x30..=0x37 | 0x77 | 0xa0..=0xa2 | 0xa8..=0xaa => (false, 0),
        0xc8..=0xcf => (false, 0),
        // Jumps.
        0x80..=0x8f => (false, if prefixes.is_short { return None } else { 4 }),
        0x0f | 0x70..=0x73 | 0xa4 | 0xac | 0xba | 0xc2 | 0xc4..=0xc6 => (true, 1),
        _ => (true, 0),
    };
    Some(Operands { has_address, number })
}

/// The operands of an instruction with the code `0f 38 THIRD`.
fn map_2() -> Operands {
    Operands { has_address: true, number: 0 }
}

/// The operands of an instruction with the code `0f 3a THIRD`.
fn map_3() -> Operands {
    Operands { has_address: true, number: 1 }
}

/// The operands of a vector instruction, whose prefix names the map of its code.
fn vector(map: u8, code: u8) -> Option<Operands> {
    match (map, code) {
        (1, 0x77) => Some(Operands { has_address: false, number: 0 }),
        (1, _) => map_1(code, Prefixes::default()).map(|one| Operands { has_address: true, ..one }),
        (2 | 5 | 6, _) => Some(map_2()),
        (3, _) => Some(map_3()),
        _ => None,
    }
}

/// The length of an address: the byte that tells its form, and what that says follows.
fn address_length(bytes: &[u8]) -> Option<usize> {
    let form = *bytes.first()?;
    let (kind, register) = (form >> 6, form & 7);
    if kind == 3 {
        return Some(1);
    }
    let has_index = register == 4;
    let base = if has_index { *bytes.get(1)? & 7 } else { register };
    let distance = match kind {
        0 if base == 5 => 4,
        0 => 0,
        1 => 1,
        _ => 4,
    };
    Some(1 + usize::from(has_index) + distance)
}

#[cfg(test)]
mod tests {
    use object::{Object as _, ObjectSection as _, ObjectSymbol as _, SymbolKind};

    use super::*;

    #[test]
    fn a_call_of_the_kernel_is_told_from_a_number() {
        let enters = |code: &[u8]| kernel_entries(code).any(|at| may_begin_at(code, at));
        // mov eax, 39; syscall; ret
        assert!(enters(b"\xb8\x27\0\0\0\x0f\x05\xc3"));
        assert!(enters(b"\x31\xc0\xcd\x80"));
        assert!(enters(b"\x48\x89\xe5\x0f\x34"));
        // call +0x50f; mov eax, 0x50f; lea rax, [rip + 0x80cd]; movabs rax, 0x340f
        assert!(!enters(b"\xe8\x0f\x05\0\0\xc3"));
        assert!(!enters(b"\xb8\x0f\x05\0\0\xc3"));
        assert!(!enters(b"\x48\x8d\x05\xcd\x80\0\0"));
        assert!(!enters(b"\x48\xb8\x0f\x34\0\0\0\0\0\0"));
        // After what is not understood anything may follow.
        assert!(enters(b"\x06\x90\xe8\x0f\x05\0\0"));
    }

    /// The instructions of a compiler end where its functions end.
    #[cfg(all(target_os = "linux", target_arch = "x86_64"))]
    #[test]
    fn the_functions_of_this_program_are_understood_to_their_ends() {
        let content = std::fs::read(std::env::current_exe().unwrap()).unwrap();
        let program = object::File::parse(&*content).unwrap();
        let text = program.section_by_name(".text").unwrap();
        let (start, code) = (text.address(), text.data().unwrap());
        let (mut functions, mut odd) = (0, Vec::new());
        for symbol in program.symbols().filter(|symbol| symbol.kind() == SymbolKind::Text) {
            let from =
                symbol.address().checked_sub(start).map(|from| usize::try_from(from).unwrap());
            let size = usize::try_from(symbol.size()).unwrap();
            let Some(body) = from.and_then(|from| code.get(from..from + size)) else { continue };
            if size == 0 || functions == 20_000 {
                continue;
            }
            functions += 1;
            let mut at = 0;
            while let Some(length) = body.get(at..).filter(|rest| !rest.is_empty()).and_then(length)
            {
                at += length;
            }
            if at != size {
                odd.push(symbol.name().unwrap().to_owned());
            }
        }
        assert!(functions > 1_000 && odd.is_empty(), "{} of {functions}: {odd:?}", odd.len());
    }
}
