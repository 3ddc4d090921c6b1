//! The BPF program that the kernel runs before every system call of an observed process.
//!
//! Calls that are always allowed are decided by number and architecture alone. The kernel caches
//! that decision and does not run the program for them again.

use libc::sock_filter;

use super::syscall_table::{NEWEST, Trap, watched};

const LOAD: u16 = 0x20; // BPF_LD | BPF_W | BPF_ABS
const RETURN: u16 = 0x06; // BPF_RET | BPF_K
const IF_EQUAL: u16 = 0x15; // BPF_JMP | BPF_JEQ | BPF_K
const IF_AT_LEAST: u16 = 0x35; // BPF_JMP | BPF_JGE | BPF_K

const ALLOW: u32 = 0x7fff_0000;
const NOTIFY: u32 = 0x7fc0_0000;

/// Offsets in `struct seccomp_data`.
const NUMBER: u32 = 0;
const ARCHITECTURE: u32 = 4;
const ARGUMENTS: u32 = 16;

/// This architecture's number in `linux/audit.h`.
#[cfg(target_arch = "x86_64")]
pub(in crate::observer) const NATIVE: u32 = 0xC000_003E;
#[cfg(target_arch = "aarch64")]
pub(in crate::observer) const NATIVE: u32 = 0xC000_00B7;

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

/// Builds the program. It must be built before the fork, because it allocates.
pub(in crate::observer) fn program() -> Box<[sock_filter]> {
    let mut program = vec![step(LOAD, ARCHITECTURE)];
    // A call of another architecture (`int 0x80`) can do anything, by whatever number.
    program.extend([jump(IF_EQUAL, NATIVE, 1, 0), step(RETURN, NOTIFY)]);
    program.push(step(LOAD, NUMBER));
    program.extend([jump(IF_EQUAL, SKIPPED, 0, 1), step(RETURN, ALLOW)]);
    // x32 calls are among them.
    let newer = u32::try_from(NEWEST + 1).expect("call numbers are small and positive");
    program.extend([jump(IF_AT_LEAST, newer, 0, 1), step(RETURN, NOTIFY)]);
    for (number, when) in watched() {
        let number = u32::try_from(number).expect("call numbers are small and positive");
        let body = body(when);
        let length = u8::try_from(body.len()).expect("a body has a few steps");
        program.push(jump(IF_EQUAL, number, 0, length));
        program.extend(body);
    }
    program.push(step(RETURN, ALLOW));
    program.into()
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
    }
}

fn arg_index(arg: usize) -> u32 {
    u32::try_from(arg).expect("a call has six arguments")
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// The kernel's interpreter, as far as the program needs it.
    fn decide(program: &[sock_filter], architecture: u32, number: u32, args: &[u64; 6]) -> u32 {
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
                        offset => {
                            let (arg, half) = ((offset - 16) / 8, (offset - 16) % 8);
                            (args[arg as usize] >> (8 * half)) as u32
                        }
                    }
                }
                RETURN => return step.k,
                IF_EQUAL => branch(value == step.k),
                #[cfg(target_arch = "x86_64")]
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
        })
    }

    proptest! {
        #[test]
        fn the_program_decides_as_the_table_says(
            number in 0_u32..600,
            args in proptest::array::uniform6(prop_oneof![0_u64..50, any::<u64>()]),
        ) {
            let notified = decide(&program(), NATIVE, number, &args) == NOTIFY;
            prop_assert_eq!(notified, expected(number, &args));
        }

        #[test]
        fn every_path_through_the_program_ends(
            architecture in any::<u32>(), number in any::<u32>(),
            args in proptest::array::uniform6(any::<u64>()),
        ) {
            let answer = decide(&program(), architecture, number, &args);
            prop_assert!(answer == ALLOW || answer == NOTIFY);
        }
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
            }
            let number = u32::try_from(number).unwrap();
            assert_eq!(decide(&program(), NATIVE, number, &args), NOTIFY, "{number}");
        }
    }

    #[test]
    fn calls_of_another_architecture_are_notified() {
        assert_eq!(decide(&program(), 0x4000_0003, 5, &[0; 6]), NOTIFY);
        assert_eq!(decide(&program(), 0x4000_0003, 4, &[0; 6]), NOTIFY);
        #[cfg(target_arch = "x86_64")]
        {
            assert_eq!(decide(&program(), NATIVE, X32 | 2, &[0; 6]), NOTIFY);
        }
    }

    #[test]
    fn unknown_calls_are_notified_and_skipped_calls_are_not() {
        let newest = u32::try_from(NEWEST).unwrap();
        assert_eq!(decide(&program(), NATIVE, newest + 1, &[0; 6]), NOTIFY);
        assert_eq!(decide(&program(), NATIVE, SKIPPED, &[0; 6]), ALLOW);
    }
}
