//! Effects of code outside of the program, judged by the names of the symbols that it reaches.
//!
//! The standard library and the system's libraries are leaves: their code is not examined, so
//! their functions are judged by name. A function of the standard library is harmless unless its
//! module touches the outside; a function of any other library is harmless only if it is listed.

use std::fmt;
use std::ops::{BitOr, BitOrAssign};

/// A set of things that a test or a program can do besides computing.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
pub struct Capabilities(u32);

impl Capabilities {
    /// Reads, lists or writes files.
    pub const FILES: Self = Self(1);
    /// Reads or changes the environment.
    pub const ENVIRONMENT: Self = Self(1 << 1);
    /// Starts programs.
    pub const PROCESSES: Self = Self(1 << 2);
    /// Speaks to other processes or machines.
    pub const NETWORK: Self = Self(1 << 3);
    /// Reads a clock.
    pub const TIME: Self = Self(1 << 4);
    /// Looks up functions by name while it runs (`dlsym`).
    pub const SYMBOL_LOOKUP: Self = Self(1 << 5);
    /// Reads the line or column of a place in a source file that it was handed.
    pub const LOCATIONS: Self = Self(1 << 6);
    /// Captures a backtrace if the environment asks for it.
    pub const BACKTRACE: Self = Self(1 << 7);
    /// Knows its own program's path, so that it can start itself.
    pub const OWN_PATH: Self = Self(1 << 8);
    /// Reaches a symbol of unknown origin.
    pub(crate) const UNKNOWN_SYMBOL: Self = Self(1 << 9);
    /// Walks its own stack or its program's headers, so that it can see debug information.
    pub const STACK: Self = Self(1 << 10);

    /// Can change what other code of the process finds outside of the program: files, the current folder,
    /// open files, other processes.
    pub(crate) const WRITES: Self = Self(1 << 11);
    /// Can change the process for all of its code: ends it, sets a variable of its environment, a panic
    /// hook, a signal handler or a logger, or does something unknown.
    pub const PROCESS_WIDE: Self = Self(1 << 12);
    /// Reaches a variable of the program, thread-local or not.
    pub(super) const STATE: Self = Self(1 << 13);

    /// Can see the lines of panics: by a hook, or because it captures its own error output.
    pub const PANICS: Self = Self(1 << 14);

    /// Everything that a call of the system can do.
    pub(super) const OUTSIDE: Self = Self(0b1_1111);

    const CAPABILITY_NAMES: [(Self, &'static str); 15] = [
        (Self::FILES, "files"),
        (Self::ENVIRONMENT, "environment"),
        (Self::PROCESSES, "processes"),
        (Self::NETWORK, "network"),
        (Self::TIME, "time"),
        (Self::SYMBOL_LOOKUP, "symbol look-up"),
        (Self::LOCATIONS, "locations"),
        (Self::BACKTRACE, "backtrace"),
        (Self::OWN_PATH, "own path"),
        (Self::UNKNOWN_SYMBOL, "unknown symbol"),
        (Self::STACK, "stack"),
        (Self::WRITES, "writes"),
        (Self::PROCESS_WIDE, "process-wide"),
        (Self::STATE, "state"),
        (Self::PANICS, "panics"),
    ];

    /// Whether what it finds outside of the program can decide what it does. A clock is nobody's to change.
    #[must_use]
    pub(crate) fn reads_outside(self) -> bool {
        let known = [Self::FILES, Self::ENVIRONMENT, Self::PROCESSES, Self::NETWORK];
        let looks = [Self::BACKTRACE, Self::STACK, Self::OWN_PATH];
        known.iter().chain(&looks).any(|one| self.contains(*one))
    }

    /// This without `other`.
    pub(super) const fn without(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }

    /// Whether all of `other` is part of this.
    #[must_use]
    pub const fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }
}

impl BitOr for Capabilities {
    type Output = Self;

    fn bitor(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

impl BitOrAssign for Capabilities {
    fn bitor_assign(&mut self, other: Self) {
        self.0 |= other.0;
    }
}

impl fmt::Display for Capabilities {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names = Self::CAPABILITY_NAMES.iter().filter(|(one, _)| self.contains(*one));
        f.write_str(&names.map(|(_, name)| *name).collect::<Vec<_>>().join(", "))
    }
}

impl fmt::Debug for Capabilities {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Capabilities({self})")
    }
}

/// Capabilities that any symbol, defined in the objects or not, gives to the code that reaches it.
///
/// Functions of the standard library that are generic or inline are compiled into the objects, so
/// the readers of panic locations are found by name there too. Without optimization they are
/// never merged into their callers.
pub(super) fn of_any_symbol(name: &str) -> Capabilities {
    let mut found = Capabilities::default();
    let has = |part: &str| name.contains(part);
    let location = has("8Location") || has("location..Location");
    // `caller` only hands the location on; storing it is harmless.
    let harmless = has("8Location6caller") || has("8Location4file") || has("8LocationE6caller");
    if location && !harmless {
        found |= Capabilities::LOCATIONS;
    }
    // The harness captures panics and prints them to its standard output.
    if has("PanicHookInfo") || has("PanicInfo") || has("16test_main_static") {
        found |= Capabilities::PANICS;
    }
    // `log` stores lines in its `Record`, and only that gives them back.
    let copies = has("..clone..Clone$GT$5clone");
    let reads_record = has("6Record4line") || has("..Record") && !copies || has("5Debug");
    if (has("3log") || has("log..")) && reads_record {
        found |= Capabilities::LOCATIONS;
    }
    if has("9Backtrace7capture") {
        found |= Capabilities::BACKTRACE;
    }
    if has("9Backtrace13force_capture") {
        found |= Capabilities::STACK;
    }
    // One that puts a file in the place of its error output can read the lines of its own panics, and so
    // can one that captures them as the harness does.
    if has_word(name, "dup") || has("set_output_capture") {
        found |= Capabilities::PANICS;
    }
    if is_process_wide(name) {
        found |= Capabilities::PROCESS_WIDE;
    }
    // A generic function, which reaches one of another module.
    if has("3std3env15set_current_dir") {
        found |= Capabilities::WRITES;
    }
    found
}

/// Whether a function of the standard library or of the crate `log` changes the process for all of its code.
///
/// Generic ones are compiled into the objects and reach the hook itself.
fn is_process_wide(name: &str) -> bool {
    // The library itself reads variables, and so do those of C.
    const OF_STD: [&str; 15] = [
        "8set_hook",
        "9take_hook",
        "11update_hook",
        "9panicking4HOOK",
        "12always_abort",
        "19set_backtrace_style",
        "20set_alloc_error_hook",
        "14add_spawn_hook",
        "7process4exit",
        "7set_var",
        "8_set_var",
        // With the length's underscore in the newer form of names.
        "8__set_var",
        "10remove_var",
        "6setenv",
        "8unsetenv",
    ];
    const OF_LOG: [&str; 3] = ["set_logger", "set_boxed_logger", "set_max_level"];
    let has = |parts: &[&str]| parts.iter().any(|part| name.contains(part));
    let is_capture = name.contains("set_output_capture");
    is_capture || name.contains("3std") && has(&OF_STD) || name.contains("3log") && has(&OF_LOG)
}

/// Whether a variable of this name cannot carry anything from one test to another. The list is closed.
pub(super) fn is_inert_variable(name: &str) -> bool {
    let of = |krate: &str, path: &str| {
        name.starts_with(&format!("_ZN{krate}{path}"))
            || name.starts_with("_R") && name.contains(&format!("_{krate}{path}"))
    };
    // The address of the function that unwinds: the loader alone writes it.
    name.starts_with("DW.ref.")
        // The best function for this processor: the same for all.
        || of("6memchr", "4arch6x86_64") && name.contains("2FN")
        // A number for each thread: decides only which of several equal caches it uses.
        || of("14regex_automata", "4util4pool5inner")
            && (name.contains("7COUNTER") || name.contains("9THREAD_ID"))
        // What `log` is told by `set_logger` and `set_max_level`, which change the process for all.
        || of("3log", "6LOGGER") || of("3log", "5STATE") || of("3log", "20MAX_LOG_LEVEL_FILTER")
}

/// Whether `word` stands in a name, and no letter beside it: `dup2`, and not the closures of `Vec::dedup`,
/// which are called `5dedup28_…`.
fn has_word(name: &str, word: &str) -> bool {
    let is_letter = |c: char| c.is_ascii_alphabetic();
    name.match_indices(word).any(|(at, _)| {
        !name[..at].ends_with(is_letter) && !name[at + word.len()..].starts_with(is_letter)
    })
}

/// Capabilities that a function of the standard library gives, by its mangled name.
pub(super) fn of_std(name: &str) -> Capabilities {
    let mut found = of_any_symbol(name);
    if !name.contains("3std") {
        return found;
    }
    // Mangled names may abbreviate the crate, so a module is looked for on its own.
    let has = |parts: &[&str]| parts.iter().any(|part| name.contains(part));
    let files = ["2fs", "4path", "5stdin", "5Stdin", "21available_parallelism"];
    // Methods of `Path` that do not look at the disk.
    let of_names = [
        "10components",
        "9file_name",
        "9file_stem",
        "9extension",
        "6parent",
        "11starts_with",
        "9ends_with",
        "4join",
        "14with_extension",
        "14with_file_name",
        "12strip_prefix",
        "7display",
        "11is_absolute",
        "11is_relative",
        "7to_path_buf",
        "15to_string_lossy",
        "6to_str",
        "8_compare",
        "3cmp",
        "4hash",
        "3fmt",
        "9ancestors",
        "4iter",
    ];
    let only_names = name.contains("4path") && !name.contains("2fs") && has(&of_names);
    if has(&files) && !only_names {
        found |= Capabilities::FILES;
    }
    if has(&["3env"]) {
        found |= Capabilities::ENVIRONMENT;
        if has(&["3env4args", "3env7args_os", "3env11current_exe"]) || has(&["4Args", "6ArgsOs"]) {
            found |= Capabilities::OWN_PATH;
        }
        if has(&["11current_dir", "15set_current_dir", "11current_exe", "8temp_dir"]) {
            found |= Capabilities::FILES;
        }
    }
    let ends = ["7process5abort", "7process4exit", "7process2id", "7process8ExitCode"];
    if has(&["7process", "7Command"]) && !has(&ends) {
        found |= Capabilities::PROCESSES | Capabilities::ENVIRONMENT | Capabilities::FILES;
    }
    if has(&["3net"]) && !name.contains("4core3net") {
        found |= Capabilities::NETWORK | Capabilities::FILES;
    }
    if has(&["4time", "7Instant", "10SystemTime"]) && !name.contains("4core4time") {
        found |= Capabilities::TIME;
    }
    if has(&["2fd"]) {
        found |= Capabilities::FILES;
    }
    if has(&["3sys3pal"]) && !has(&["4time", "14stack_overflow"]) {
        found |= Capabilities::OUTSIDE;
    }
    // Every function of these modules may write, unless it is listed.
    let writers =
        ["2fs", "3env", "5stdin", "5Stdin", "7process", "7Command", "3net", "2fd", "3sys3pal"];
    let readers = [
        "2fs4read",
        "2fs14read_to_string",
        "2fs8metadata",
        "2fs16symlink_metadata",
        "2fs6exists",
        "2fs12canonicalize",
        "2fs9read_link",
        // With the length's underscore in the newer form of names.
        "3env4_var",
        "3env4__var",
        "3env7_var_os",
        "3env7__var_os",
        "3env11current_dir",
        "3env11current_exe",
        "3env8temp_dir",
        "3env4args",
        "3env7args_os",
    ];
    if found.reads_outside() && has(&writers) && !has(&readers) {
        found |= Capabilities::WRITES;
    }
    found
}

/// Capabilities that a function of the system's libraries gives, by its plain name.
pub(super) fn of_library(name: &str) -> Capabilities {
    let lookups = ["dlsym", "dlvsym", "dlopen", "dlmopen", "__libc_dlsym", "__libc_dlopen_mode"];
    if lookups.contains(&name) {
        return Capabilities::SYMBOL_LOOKUP | Capabilities::PROCESS_WIDE;
    }
    let walks =
        ["_Unwind_Backtrace", "dl_iterate_phdr", "backtrace", "backtrace_symbols", "getauxval"];
    if walks.contains(&name) {
        return Capabilities::STACK;
    }
    let of_name = if is_pure(name) { of_pure(name) } else { of_system(name) };
    of_name | of_any_symbol(name)
}

/// Capabilities that a function gives of a library that is not the system's, whatever its name.
pub(super) fn of_other_library(name: &str) -> Capabilities {
    let all = Capabilities::OUTSIDE | Capabilities::WRITES | Capabilities::PROCESS_WIDE;
    of_library(name) | all
}

/// Capabilities of a function that is not pure: those that its name says, or all.
fn of_system(name: &str) -> Capabilities {
    match name {
        "getenv" | "secure_getenv" => Capabilities::ENVIRONMENT,
        "environ" | "__environ" | "setenv" | "unsetenv" => {
            Capabilities::ENVIRONMENT | Capabilities::WRITES | Capabilities::PROCESS_WIDE
        }
        "clock_gettime" | "gettimeofday" | "time" | "clock" | "localtime_r" | "gmtime_r" => {
            Capabilities::TIME
        }
        "open" | "open64" | "openat" | "openat64" | "stat" | "stat64" | "lstat" | "lstat64"
        | "fstat" | "fstat64" | "statx" | "access" | "faccessat" | "readlink" | "opendir"
        | "readdir" | "readdir64" | "realpath" | "getcwd" | "fopen" | "fopen64" | "mkdir"
        | "rmdir" | "unlink" | "rename" | "chdir" | "lseek64" | "ftruncate64" | "mmap64"
        | "mmap" | "read" | "readv" | "pread" | "pread64" | "fcntl" | "fcntl64" | "dup"
        | "dup2" | "dup3" | "fdopendir" | "fstatat64" | "closedir" | "dirfd" | "isatty"
        | "sysconf" | "flock" => Capabilities::FILES | Capabilities::WRITES,
        _ => Capabilities::OUTSIDE | Capabilities::WRITES | Capabilities::PROCESS_WIDE,
    }
}

/// What a pure function can do to other code of the process nevertheless.
fn of_pure(name: &str) -> Capabilities {
    const PROCESS_WIDE: [&str; 21] = [
        "sig",
        "__sig",
        "pthread_",
        "__pthread_",
        "sem_",
        "__cxa_atexit",
        "__cxa_finalize",
        "__libc_start_main",
        "strtok",
        "strerror",
        "strsignal",
        "exit",
        "_exit",
        "_Exit",
        "atexit",
        "raise",
        "mprotect",
        "munmap",
        "madvise",
        "longjmp",
        "__longjmp_chk",
    ];
    match name {
        "write" | "writev" | "close" => Capabilities::WRITES,
        _ if PROCESS_WIDE.iter().any(|prefix| name.starts_with(prefix)) => {
            Capabilities::PROCESS_WIDE
        }
        _ => Capabilities::default(),
    }
}

/// Whether a C function only computes, allocates, synchronizes threads, ends the process or
/// writes to a file that is open already.
pub(super) fn is_pure(name: &str) -> bool {
    const PREFIXES: [&str; 12] = [
        "mem",
        "str",
        "__mem",
        "__str",
        "pthread_",
        "__pthread_",
        "_Unwind_",
        "__cxa_",
        "sig",
        "sem_",
        "wcs",
        "isw",
    ];
    const NAMES: [&str; 75] = [
        "malloc",
        "calloc",
        "realloc",
        "free",
        "posix_memalign",
        "aligned_alloc",
        "malloc_usable_size",
        "reallocarray",
        "bcmp",
        "bzero",
        "abort",
        "exit",
        "_exit",
        "_Exit",
        "atexit",
        "raise",
        "qsort",
        "bsearch",
        "abs",
        "labs",
        "atoi",
        "atol",
        "atof",
        "rand_r",
        "snprintf",
        "vsnprintf",
        "sprintf",
        "write",
        "writev",
        "close",
        "sched_yield",
        "munmap",
        "mprotect",
        "madvise",
        "__errno_location",
        "__tls_get_addr",
        "__xpg_strerror_r",
        "__stack_chk_fail",
        "__stack_chk_fail_local",
        "__assert_fail",
        "gnu_get_libc_version",
        "setjmp",
        "_setjmp",
        "longjmp",
        "__longjmp_chk",
        "__sigsetjmp",
        "toupper",
        "tolower",
        "isalpha",
        "isdigit",
        "isspace",
        "isalnum",
        "isupper",
        "islower",
        "ispunct",
        "isprint",
        "iscntrl",
        "isxdigit",
        "isgraph",
        "__ctype_b_loc",
        "__ctype_tolower_loc",
        "__ctype_toupper_loc",
        "__gmon_start__",
        "_ITM_deregisterTMCloneTable",
        "_ITM_registerTMCloneTable",
        "__dso_handle",
        "_GLOBAL_OFFSET_TABLE_",
        "rust_eh_personality",
        "nanosleep",
        "clock_nanosleep",
        "usleep",
        "sleep",
        "div",
        "ldiv",
        "__libc_start_main",
    ];
    const MATH: [&str; 44] = [
        "sin",
        "cos",
        "tan",
        "asin",
        "acos",
        "atan",
        "atan2",
        "sinh",
        "cosh",
        "tanh",
        "asinh",
        "acosh",
        "atanh",
        "exp",
        "exp2",
        "exp10",
        "expm1",
        "log",
        "log2",
        "log10",
        "log1p",
        "pow",
        "sqrt",
        "cbrt",
        "hypot",
        "floor",
        "ceil",
        "round",
        "trunc",
        "rint",
        "nearbyint",
        "roundeven",
        "fmod",
        "remainder",
        "fma",
        "fmin",
        "fmax",
        "fdim",
        "ldexp",
        "frexp",
        "modf",
        "tgamma",
        "lgamma_r",
        "sincos",
    ];
    const EXCEPTIONS: [&str; 2] = ["sem_open", "sigqueue"];
    let base = name.strip_suffix(['f', 'l']).unwrap_or(name);
    PREFIXES.iter().any(|prefix| name.starts_with(prefix)) && !EXCEPTIONS.contains(&name)
        || NAMES.contains(&name)
        || MATH.contains(&name)
        || MATH.contains(&base)
}

/// Whether machine code contains an instruction that enters the kernel: `syscall`, `sysenter` or
/// `int 0x80`.
///
/// The two bytes also occur as part of a small number, which zeros or ones follow.
pub(super) fn has_system_call(code: &[u8]) -> bool {
    code.windows(2).enumerate().any(|(at, bytes)| {
        matches!(bytes, [0x0f, 0x05 | 0x34] | [0xcd, 0x80])
            && !matches!(code.get(at + 2..at + 4), Some([0, 0] | [0xff, 0xff] | [0, _]))
    })
}

/// Capabilities that a constant, or one that optimization has put into code, gives by its text: a program finds itself below `/proc`, and one that
/// names the variables for backtraces may set them for itself.
pub(super) fn of_constant(bytes: &[u8]) -> Capabilities {
    let has = |text: &[u8]| bytes.windows(text.len()).any(|part| part == text);
    let mut found = Capabilities::default();
    if has(b"/proc/") {
        found |= Capabilities::OWN_PATH;
    }
    if has(b"_BACKTRACE") {
        found |= Capabilities::STACK;
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    const WRITES: Capabilities = Capabilities::WRITES;
    const WIDE: Capabilities = Capabilities::PROCESS_WIDE;

    #[test]
    fn functions_of_the_standard_library_are_judged_by_their_module() {
        let all = [
            ("_RNvMsC_NtCsjrHSEGnQ3l9_3std2fsNtB5_8DirEntry4path", Capabilities::FILES | WRITES),
            ("_RNvNvNtCsjrHSEGnQ3l9_3std2fs14read_to_string5inner", Capabilities::FILES),
            ("_RNvNvNtCsjrHSEGnQ3l9_3std2fs5write5inner", Capabilities::FILES | WRITES),
            ("_ZN3std3env8_set_var17h0123456789abcdefE", Capabilities::ENVIRONMENT | WRITES | WIDE),
            ("_ZN3std3sys3env4unix6setenv17h0123E", Capabilities::ENVIRONMENT | WRITES | WIDE),
            ("_RNvNtCsjrHSEGnQ3l9_3std9panicking8set_hook", WIDE),
            ("_ZN3std9panicking4HOOK17h0123456789abcdefE", WIDE),
            ("_RNvNtCsjrHSEGnQ3l9_3std7process4exit", WIDE),
            ("_RNvMNtCsjrHSEGnQ3l9_3std4pathNtB2_4Path6exists", Capabilities::FILES),
            ("_ZN3std4path4Path6exists17h0123456789abcdefE", Capabilities::FILES),
            ("_ZN3std4path4Path9file_name17h0123456789abcdefE", Capabilities::default()),
            ("_RNvNtCsjrHSEGnQ3l9_3std3env7__var_os", Capabilities::ENVIRONMENT),
            ("_RNvMNtCsjrHSEGnQ3l9_3std4timeNtB2_7Instant3now", Capabilities::TIME),
            ("_RNvMNtCsgEmfK2I1SDS_4core4timeNtB2_8Duration5as_ms", Capabilities::default()),
            ("_RNvNtCsjrHSEGnQ3l9_3std7process5abort", Capabilities::default()),
            ("_RNvNtCsjrHSEGnQ3l9_3std9panicking11begin_panic", Capabilities::default()),
            ("_RNvMNtNtCsgEmfK2I1SDS_4core5panic8location8Location4line", Capabilities::LOCATIONS),
            (
                "_ZN4core5panic8location8Location6caller17h0123456789abcdefE",
                Capabilities::default(),
            ),
        ];
        for (name, expected) in all {
            assert_eq!(of_std(name), expected, "{name}");
        }
        let starts = of_std("_RNvMsk_NtCsjrHSEGnQ3l9_3std7processNtB5_7Command5spawn");
        assert!(starts.contains(Capabilities::PROCESSES));
        let itself = of_std("_RNvNtCsjrHSEGnQ3l9_3std3env11current_exe");
        assert!(itself.contains(Capabilities::OWN_PATH | Capabilities::FILES));
        assert!(!itself.contains(WRITES) && starts.contains(WRITES));
        let socket = of_std("_RNvMs4_NtNtCsjrHSEGnQ3l9_3std3net3tcpNtB5_11TcpListener4bind");
        assert!(socket.contains(Capabilities::NETWORK));
    }

    #[test]
    fn functions_of_other_libraries_are_harmless_only_if_they_are_known() {
        for name in ["memcpy", "malloc", "strlen", "sinf", "_Unwind_Resume"] {
            assert_eq!(of_library(name), Capabilities::default(), "{name}");
        }
        for name in ["sem_open", "execve", "some_library_call", "socket", "fork", "system"] {
            assert_eq!(of_library(name), Capabilities::OUTSIDE | WRITES | WIDE, "{name}");
        }
        for name in ["pthread_create", "sigaction", "exit", "strtok", "longjmp", "mprotect"] {
            assert_eq!(of_library(name), WIDE, "{name}");
        }
        assert_eq!(of_library("close"), WRITES);
        assert_eq!(of_library("openat64"), Capabilities::FILES | WRITES);
        assert_eq!(of_library("getenv"), Capabilities::ENVIRONMENT);
        assert_eq!(of_library("setenv"), Capabilities::ENVIRONMENT | WRITES | WIDE);
        assert_eq!(of_library("dlsym"), Capabilities::SYMBOL_LOOKUP | WIDE);
        assert_eq!(of_library("_Unwind_Backtrace"), Capabilities::STACK);
        assert_eq!(of_library("getauxval"), Capabilities::STACK);
        assert_eq!(of_library("dup3"), Capabilities::FILES | WRITES | Capabilities::PANICS);
        for name in ["_ZN6rustix5stdio11dup2_stderr17h0E", "_RNvNtCs1_6rustix2io3dup", "dup"] {
            assert_eq!(of_any_symbol(name), Capabilities::PANICS, "{name}");
        }
        assert_eq!(of_any_symbol("_ZN4test16test_main_static17h0E"), Capabilities::PANICS);
        let captures = of_any_symbol("_ZN3std2io5stdio18set_output_capture17h0E");
        assert_eq!(captures, Capabilities::PANICS | WIDE);
        let closure = "_ZN5alloc3vec16Vec$LT$T$C$A$GT$5dedup28_$u7b$$u7b$closure$u7d$$u7d$17h0E";
        assert_eq!(of_any_symbol(closure), Capabilities::default());
        assert_eq!(of_any_symbol("_ZN1a9duplicate17h0E"), Capabilities::default());
    }

    #[test]
    fn a_record_of_log_keeps_lines_until_it_is_read() {
        let of = of_any_symbol;
        assert_eq!(of("_ZN3log13RecordBuilder4line17h0123456789abcdefE"), Capabilities::default());
        assert_eq!(of("_ZN3log6Record4line17h0123456789abcdefE"), Capabilities::LOCATIONS);
        let debug = "_ZN52_$LT$log..Record$u20$as$u20$core..fmt..Debug$GT$3fmt17h0123E";
        assert_eq!(of(debug), Capabilities::LOCATIONS);
        let logs = "_ZN3log13__private_api8log_impl17h0123456789abcdefE";
        assert_eq!(of(logs), Capabilities::default());
        let copies = "_ZN56_$LT$log..Record$u20$as$u20$core..clone..Clone$GT$5clone17h0123E";
        assert_eq!(of(copies), Capabilities::default());
        assert_eq!(of("_ZN3log13set_max_level17h0123456789abcdefE"), WIDE);
        assert_eq!(of("_ZN3log17set_boxed_logger17h0123456789abcdefE"), WIDE);
    }

    #[test]
    fn only_listed_variables_are_inert() {
        for name in [
            "DW.ref.rust_eh_personality",
            "_ZN6memchr4arch6x86_646memchr11memchr2_raw2FN17h0123456789abcdefE",
            "_RNvNvNtNtNtCscTPYGNvQQN5_6memchr4arch6x86_646memchr10memchr_raw2FN",
            "_ZN14regex_automata4util4pool5inner7COUNTER17h0123456789abcdefE",
            "_ZN3log5STATE17h0123456789abcdefE",
        ] {
            assert!(is_inert_variable(name), "{name}");
        }
        for name in [
            "_ZN5other6memchr4arch6x86_646memchr2FN17h0123456789abcdefE",
            "_ZN6memchr5STATE17h0123456789abcdefE",
            "_ZN4mine3log5STATE17h0123456789abcdefE",
            "_ZN4mine7COUNTER17h0123456789abcdefE",
            "COUNTER",
        ] {
            assert!(!is_inert_variable(name), "{name}");
        }
    }

    #[test]
    fn a_system_call_is_told_from_a_number() {
        assert!(has_system_call(b"\x48\x89\xc8\x0f\x05\xc3"));
        assert!(has_system_call(b"\x0f\x05"));
        assert!(has_system_call(b"\xcd\x80\xc3") && has_system_call(b"\x0f\x34\xc3"));
        assert!(!has_system_call(b"\xe9\x0f\x05\x00\x00"));
        assert!(!has_system_call(b"\x48\x0f\xaf\xc1"));
    }

    #[test]
    fn capabilities_are_printed() {
        let some = Capabilities::TIME | Capabilities::FILES;
        assert_eq!(format!("{some} {some:?}"), "files, time Capabilities(files, time)");
        assert_eq!(of_constant(b"/proc/self/exe"), Capabilities::OWN_PATH);
        assert_eq!(of_constant(b"/process"), Capabilities::default());
        assert_eq!(of_constant(b"RUST_LIB_BACKTRACE"), Capabilities::STACK);
    }
}
