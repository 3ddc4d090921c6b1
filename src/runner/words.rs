//! The end of a test binary in words, and the part of its output that a person needs.

use crate::model::End;

/// How a process ended, in cargo's words: `signal: 11, SIGSEGV: invalid memory reference`,
/// `exit status: 7`.
#[must_use]
pub(crate) fn describe_end(end: End) -> String {
    match end {
        End::Exit(code) => format!("exit status: {code}"),
        End::Signal(number) => match signal_words(number) {
            Some(words) => format!("signal: {number}, {words}"),
            None => format!("signal: {number}"),
        },
        End::TimedOut => "timed out".to_owned(),
        End::Cancelled => "cancelled".to_owned(),
        End::NotStarted => "not started".to_owned(),
    }
}

fn signal_words(number: i32) -> Option<&'static str> {
    Some(match number {
        libc::SIGABRT => "SIGABRT: process abort signal",
        libc::SIGALRM => "SIGALRM: alarm clock",
        libc::SIGBUS => "SIGBUS: access to undefined memory",
        libc::SIGFPE => "SIGFPE: erroneous arithmetic operation",
        libc::SIGHUP => "SIGHUP: hangup",
        libc::SIGILL => "SIGILL: illegal instruction",
        libc::SIGINT => "SIGINT: terminal interrupt signal",
        libc::SIGKILL => "SIGKILL: kill",
        libc::SIGPIPE => "SIGPIPE: write on a pipe with no one to read",
        libc::SIGQUIT => "SIGQUIT: terminal quit signal",
        libc::SIGSEGV => "SIGSEGV: invalid memory reference",
        libc::SIGSYS => "SIGSYS: bad system call",
        libc::SIGTERM => "SIGTERM: termination signal",
        libc::SIGTRAP => "SIGTRAP: trace/breakpoint trap",
        _ => return None,
    })
}

/// The failures in libtest's output: all from its first `failures:` on, which holds what the
/// failed tests printed, their names and the summary. `None` if there is no such part.
///
/// For showing only: a test can print the word too, and then more is shown than needed.
#[must_use]
pub(super) fn failure_sections(stdout: &[u8]) -> Option<&[u8]> {
    const MARK: &[u8] = b"failures:\n";
    let mut start = 0;
    while start < stdout.len() {
        if stdout[start..].starts_with(MARK) {
            return Some(&stdout[start..]);
        }
        let end = stdout[start..].iter().position(|byte| *byte == b'\n')?;
        start += end + 1;
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ends_are_told_as_cargo_tells_them() {
        let told = describe_end(End::Signal(libc::SIGSEGV));
        assert_eq!(told, "signal: 11, SIGSEGV: invalid memory reference");
        assert_eq!(describe_end(End::Signal(40)), "signal: 40");
        assert_eq!(describe_end(End::Exit(7)), "exit status: 7");
    }

    #[test]
    fn only_what_concerns_failures_is_cut_out() {
        let stdout = b"\nrunning 1 test\nno failures:\ntest a ... FAILED\n\nfailures:\n\n---- a stdout ----\nx\n";
        assert_eq!(failure_sections(stdout), Some(&b"failures:\n\n---- a stdout ----\nx\n"[..]));
        assert_eq!(failure_sections(b"failures: none"), None);
        assert_eq!(failure_sections(b""), None);
    }
}
