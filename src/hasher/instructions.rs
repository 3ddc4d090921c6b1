//! Where the instructions of x86_64 machine code begin, and which of them enter the kernel.
//!
//! The bytes of an instruction that enters
//! the kernel also occur inside of addresses and numbers; only the way from the start of a function
//! tells one from the other.

use iced_x86::{Decoder, DecoderOptions};

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
    let mut decoder = Decoder::new(64, code, DecoderOptions::NONE);
    while decoder.position() < at {
        if decoder.decode().is_invalid() {
            return true;
        }
    }
    decoder.position() == at
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
            let mut decoder = Decoder::new(64, body, DecoderOptions::NONE);
            if decoder.iter().any(|instruction| instruction.is_invalid()) {
                odd.push(symbol.name().unwrap().to_owned());
            }
        }
        assert!(functions > 1_000 && odd.is_empty(), "{} of {functions}: {odd:?}", odd.len());
    }
}
