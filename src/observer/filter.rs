//! The BPF program that the kernel runs before every system call of an observed process.
//!
//! Calls that are always allowed are decided by number and architecture alone. The kernel caches
//! that decision and does not run the program for them again.

use libc::sock_filter;

use super::loader::{KnownLoader, LIBRARIES};
use super::syscall_table::{CODE_MAKING, NEWEST, Trap, watched};

const LOAD: u16 = 0x20; // BPF_LD | BPF_W | BPF_ABS
const RETURN: u16 = 0x06; // BPF_RET | BPF_K
const IF_EQUAL: u16 = 0x15; // BPF_JMP | BPF_JEQ | BPF_K
const IF_AT_LEAST: u16 = 0x35; // BPF_JMP | BPF_JGE | BPF_K
const IF_ANY_BIT: u16 = 0x45; // BPF_JMP | BPF_JSET | BPF_K
const KEEP_BITS: u16 = 0x54; // BPF_ALU | BPF_AND | BPF_K

const ALLOW: u32 = 0x7fff_0000;
const NOTIFY: u32 = 0x7fc0_0000;

/// Offsets in `struct seccomp_data`.
const NUMBER: u32 = 0;
const ARCHITECTURE: u32 = 4;
const INSTRUCTION: u32 = 8;
const ARGUMENTS: u32 = 16;

/// This architecture's number in `linux/audit.h`.
#[cfg(target_arch = "x86_64")]
pub(in crate::observer) const NATIVE: u32 = 0xC000_003E;
#[cfg(target_arch = "aarch64")]
pub(in crate::observer) const NATIVE: u32 = 0xC000_00B7;

/// The upper half of the addresses of the first thread's stack, and of nothing else: all that the kernel
/// maps lies at least 16 GiB below 0x7fff_ffff_f000, as far as a stack may begin (`mmap_base` in
/// arch/x86/mm/mmap.c). [`super::loader`] knows that addresses are random.
const STACK: u32 = 0x7ffc;
const PLACE_IN_PAGE: u32 = 0xfff;

/// Set in the number of a call of the x32 ABI, whose arguments have another layout.
#[cfg(target_arch = "x86_64")]
pub(in crate::observer) const X32: u32 = 0x4000_0000;
/// The number that a tracer sets to skip a call.
const SKIPPED: u32 = u32::MAX;

const fn step(code: u16, k: u32) -> sock_filter {
    sock_filter { code, jt: 0, jf: 0, k }
}

const fn jump(code: u16, k: u32, jt: u8, jf: u8) -> sock_filter {
    sock_filter { code, jt, jf, k }
}

/// Builds the program, which lets the search of this loader pass. It must be built before the fork,
/// because it allocates.
pub(in crate::observer) fn program(
    loader: Option<&KnownLoader>,
    tells_panics: bool,
) -> Box<[sock_filter]> {
    let mut program = vec![step(LOAD, ARCHITECTURE)];
    // A call of another architecture (`int 0x80`) can do anything, by whatever number.
    program.extend([jump(IF_EQUAL, NATIVE, 1, 0), step(RETURN, NOTIFY)]);
    program.push(step(LOAD, NUMBER));
    program.extend([jump(IF_EQUAL, SKIPPED, 0, 1), step(RETURN, ALLOW)]);
    // x32 calls are among them.
    let newer = u32::try_from(NEWEST + 1).expect("call numbers are small and positive");
    program.extend([jump(IF_AT_LEAST, newer, 0, 1), step(RETURN, NOTIFY)]);
    let search = loader.and_then(|loader| loader.search.as_ref());
    if let Some(search) = search {
        // First, because programs read often.
        program.extend(for_number(libc::SYS_read, read_by_loader(&search.reads)));
    }
    let code_making = loader.map_or(&[][..], |_| CODE_MAKING).iter().copied();
    let is_error_output = |number| matches!(number, libc::SYS_write | libc::SYS_writev);
    let watched = watched().filter(|(number, _)| tells_panics || !is_error_output(*number));
    for (number, when) in watched.chain(code_making) {
        let passing = loader.and_then(|loader| match number {
            libc::SYS_newfstatat => Some(&loader.asks),
            libc::SYS_mmap => Some(&loader.maps),
            _ => None,
        });
        let mut body = body(when);
        if let Some(sites) = passing {
            body.splice(..0, from(sites, ALLOW));
        }
        match (number, search) {
            (libc::SYS_openat, Some(search)) => {
                body.splice(..0, attempt(&search.opens));
            }
            // Memory that a program asks for among the stacks could hold a name.
            (libc::SYS_mmap, Some(_)) => {
                let steps = [
                    step(LOAD, ARGUMENTS + 4),
                    jump(IF_AT_LEAST, STACK, 0, 1),
                    step(RETURN, NOTIFY),
                ];
                body.splice(..0, steps);
            }
            _ => {}
        }
        program.extend(for_number(number, body));
    }
    program.push(step(RETURN, ALLOW));
    program.into()
}

/// Steps for one call only, the number of which is loaded. They always end in a return.
fn for_number(number: libc::c_long, mut steps: Vec<sock_filter>) -> Vec<sock_filter> {
    let number = u32::try_from(number).expect("call numbers are small and positive");
    let length = u8::try_from(steps.len()).expect("a body has a few steps");
    steps.insert(0, jump(IF_EQUAL, number, 0, length));
    steps
}

/// Decides on a call that a library makes from one of these places in a page.
fn from(sites: &[u16], decision: u32) -> Vec<sock_filter> {
    let mut steps = vec![step(LOAD, INSTRUCTION), step(KEEP_BITS, PLACE_IN_PAGE)];
    for site in sites {
        steps.extend([jump(IF_EQUAL, u32::from(*site), 0, 1), step(RETURN, decision)]);
    }
    let length = u8::try_from(steps.len()).expect("a loader calls from a few places");
    steps.splice(..0, [step(LOAD, INSTRUCTION + 4), jump(IF_AT_LEAST, LIBRARIES, 0, length)]);
    steps
}

/// Notifies a read by the loader.
fn read_by_loader(sites: &[u16]) -> Vec<sock_filter> {
    let mut steps = from(sites, NOTIFY);
    steps.push(step(RETURN, ALLOW));
    steps
}

/// Lets an attempt of the loader to open a library pass, if the name lies on the first thread's stack.
fn attempt(sites: &[u16]) -> Vec<sock_filter> {
    let mut steps = from(sites, ALLOW);
    let length = u8::try_from(steps.len()).expect("a loader opens from a few places");
    steps.splice(
        ..0,
        [
            step(LOAD, ARGUMENTS + 8 + 4),
            jump(IF_AT_LEAST, STACK, 0, length + 2),
            step(LOAD, ARGUMENTS + 2 * 8),
            jump(IF_EQUAL, (libc::O_RDONLY | libc::O_CLOEXEC).cast_unsigned(), 0, length),
        ],
    );
    steps
}

/// The part that decides on the arguments of one call. It always ends in a return.
fn body(when: Trap) -> Vec<sock_filter> {
    // Both supported architectures are little-endian: the low half comes first.
    let low = |arg: usize| step(LOAD, ARGUMENTS + 8 * arg_index(arg));
    let high = |arg: usize| step(LOAD, ARGUMENTS + 8 * arg_index(arg) + 4);
    match when {
        Trap::Always => vec![step(RETURN, NOTIFY)],
        Trap::OneOf { arg, values } | Trap::NoneOf { arg, values } => {
            let (listed, other) =
                if matches!(when, Trap::OneOf { .. }) { (NOTIFY, ALLOW) } else { (ALLOW, NOTIFY) };
            let mut steps = vec![low(arg)];
            for value in values {
                steps.extend([jump(IF_EQUAL, *value, 0, 1), step(RETURN, listed)]);
            }
            steps.push(step(RETURN, other));
            steps
        }
        Trap::NotZero { arg } => vec![
            low(arg),
            jump(IF_EQUAL, 0, 1, 0),
            step(RETURN, NOTIFY),
            high(arg),
            jump(IF_EQUAL, 0, 1, 0),
            step(RETURN, NOTIFY),
            step(RETURN, ALLOW),
        ],
        Trap::AnyBit { arg, bits } => {
            vec![low(arg), jump(IF_ANY_BIT, bits, 0, 1), step(RETURN, NOTIFY), step(RETURN, ALLOW)]
        }
    }
}

fn arg_index(arg: usize) -> u32 {
    u32::try_from(arg).expect("a call has six arguments")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::observer::LoaderCalls;
    use proptest::prelude::*;

    /// The kernel's interpreter, as far as the program needs it.
    fn decide(program: &[sock_filter], architecture: u32, number: u32, args: &[u64; 6]) -> u32 {
        decide_at(program, 0x5555_5555_0000, architecture, number, args)
    }

    fn decide_at(
        program: &[sock_filter],
        instruction: u64,
        architecture: u32,
        number: u32,
        args: &[u64; 6],
    ) -> u32 {
        let (mut at, mut value) = (0, 0_u32);
        loop {
            let step = program[at];
            at += 1;
            let mut branch = |taken: bool| at += usize::from(if taken { step.jt } else { step.jf });
            match step.code {
                LOAD => {
                    value = match step.k {
                        NUMBER => number,
                        ARCHITECTURE => architecture,
                        INSTRUCTION => instruction as u32,
                        offset if offset == INSTRUCTION + 4 => (instruction >> 32) as u32,
                        offset => {
                            let (arg, half) = ((offset - 16) / 8, (offset - 16) % 8);
                            (args[arg as usize] >> (8 * half)) as u32
                        }
                    }
                }
                RETURN => return step.k,
                KEEP_BITS => value &= step.k,
                IF_EQUAL => branch(value == step.k),
                IF_ANY_BIT => branch(value & step.k != 0),
                IF_AT_LEAST => branch(value >= step.k),
                code => panic!("unknown step {code}"),
            }
        }
    }

    fn expected(number: u32, args: &[u64; 6]) -> bool {
        let low = |arg: usize| args[arg] as u32;
        let number = i64::from(number);
        let known = number <= NEWEST;
        watched().find(|(n, _)| *n == number).map_or(!known, |(_, when)| match when {
            Trap::Always => true,
            Trap::OneOf { arg, values } => values.contains(&low(arg)),
            Trap::NoneOf { arg, values } => !values.contains(&low(arg)),
            Trap::NotZero { arg } => args[arg] != 0,
            Trap::AnyBit { arg, bits } => low(arg) & bits != 0,
        })
    }

    proptest! {
        #[test]
        fn the_program_decides_as_the_table_says(
            number in 0_u32..600,
            args in proptest::array::uniform6(prop_oneof![0_u64..50, any::<u64>()]),
        ) {
            let notified = decide(&program(None, true), NATIVE, number, &args) == NOTIFY;
            prop_assert_eq!(notified, expected(number, &args));
        }

        #[test]
        fn every_path_through_the_program_ends(
            architecture in any::<u32>(), number in any::<u32>(),
            args in proptest::array::uniform6(any::<u64>()),
        ) {
            let answer = decide(&program(None, true), architecture, number, &args);
            prop_assert!(answer == ALLOW || answer == NOTIFY);
        }
    }

    #[test]
    #[cfg(target_arch = "x86_64")]
    fn only_the_loaders_questions_and_maps_pass_and_only_from_where_libraries_lie() {
        let Some(loader) = KnownLoader::current(LoaderCalls::SearchPasses) else { return };
        let program = program(Some(&loader), true);
        let code = [0, 0, u64::from(libc::PROT_EXEC.cast_unsigned()), 0, 0, 0];
        let asks_at = |number: libc::c_long, at: u64| {
            let number = u32::try_from(number).unwrap();
            decide_at(&program, at, NATIVE, number, &code) == NOTIFY
        };
        let (ask, map) = (u64::from(loader.asks[0]), u64::from(loader.maps[0]));
        let page = 0x7f12_3456_7000;
        assert!(!asks_at(libc::SYS_newfstatat, page + ask));
        assert!(!asks_at(libc::SYS_mmap, page + map));
        assert!(asks_at(libc::SYS_mmap, page + ask));
        assert!(asks_at(libc::SYS_newfstatat, page + map));
        assert!(asks_at(libc::SYS_newfstatat, page + ask + 1));
        assert!(asks_at(libc::SYS_newfstatat, 0x5555_5555_5000 + ask), "a program");
        assert!(asks_at(libc::SYS_newfstatat, 0x40_0000 + ask), "a program at a fixed place");
        assert!(asks_at(libc::SYS_openat, page + ask), "what is opened is always told");
        assert!(asks_at(libc::SYS_mprotect, page + map), "code made by whomever");
        assert!(asks_at(libc::SYS_mmap, page), "code mapped by others");
        let data = u32::try_from(libc::SYS_mmap).unwrap();
        assert_eq!(decide_at(&program, page, NATIVE, data, &[0; 6]), ALLOW);
    }

    #[test]
    #[cfg(target_arch = "x86_64")]
    fn attempts_pass_for_names_on_the_first_stack_and_reads_by_the_loader_are_told() {
        let Some(loader) = KnownLoader::current(LoaderCalls::SearchPasses) else { return };
        let Some(search) = &loader.search else { return };
        let program = program(Some(&loader), true);
        let (open, read) = (u64::from(search.opens[0]), u64::from(search.reads[0]));
        let (page, stack) = (0x7f12_3456_7000, 0x7ffc_0000_0000);
        let flags = u64::from((libc::O_RDONLY | libc::O_CLOEXEC).cast_unsigned());
        let opens = |at: u64, name: u64, flags: u64| {
            let number = u32::try_from(libc::SYS_openat).unwrap();
            decide_at(&program, at, NATIVE, number, &[0, name, flags, 0, 0, 0]) == ALLOW
        };
        assert!(opens(page + open, stack, flags) && opens(page + open, 0x7fff_1234_5678, flags));
        assert!(!opens(page + open, stack - 1, flags), "a heap, or another thread's stack");
        assert!(!opens(page + open, 0x5555_0000_0000, flags));
        assert!(!opens(page + open + 1, stack, flags), "a library");
        assert!(!opens(0x5555_5555_5000 + open, stack, flags), "a program");
        assert!(!opens(page + open, stack, 0), "flags of another function");
        let reads = |at| {
            let number = u32::try_from(libc::SYS_read).unwrap();
            decide_at(&program, at, NATIVE, number, &[3, stack, 832, 0, 0, 0]) == NOTIFY
        };
        assert!(reads(page + read));
        assert!(!reads(page + read + 1) && !reads(0x5555_5555_5000 + read));
        let maps = |at: u64| {
            let number = u32::try_from(libc::SYS_mmap).unwrap();
            decide_at(&program, page, NATIVE, number, &[at, 4096, 0, 0, 0, 0]) == NOTIFY
        };
        assert!(maps(stack) && !maps(0) && !maps(stack - 4096));
    }

    #[test]
    fn every_watched_call_with_matching_arguments_is_notified() {
        for (number, when) in watched() {
            let mut args = [0_u64; 6];
            match when {
                Trap::Always => {}
                Trap::OneOf { arg, values } => args[arg] = values[0].into(),
                Trap::NoneOf { arg, .. } => args[arg] = 16,
                // A pointer whose low half is zero is a pointer all the same.
                Trap::NotZero { arg } => args[arg] = 1 << 40,
                Trap::AnyBit { arg, bits } => args[arg] = bits.into(),
            }
            let number = u32::try_from(number).unwrap();
            assert_eq!(decide(&program(None, true), NATIVE, number, &args), NOTIFY, "{number}");
        }
    }

    #[test]
    fn calls_of_another_architecture_are_notified() {
        assert_eq!(decide(&program(None, true), 0x4000_0003, 5, &[0; 6]), NOTIFY);
        assert_eq!(decide(&program(None, true), 0x4000_0003, 4, &[0; 6]), NOTIFY);
        #[cfg(target_arch = "x86_64")]
        {
            assert_eq!(decide(&program(None, true), NATIVE, X32 | 2, &[0; 6]), NOTIFY);
        }
    }

    #[test]
    fn unknown_calls_are_notified_and_skipped_calls_are_not() {
        let newest = u32::try_from(NEWEST).unwrap();
        assert_eq!(decide(&program(None, true), NATIVE, newest + 1, &[0; 6]), NOTIFY);
        assert_eq!(decide(&program(None, true), NATIVE, SKIPPED, &[0; 6]), ALLOW);
    }
}
