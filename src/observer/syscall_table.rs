//! The table of trapped system calls, and the meaning of their arguments. No call is made here.

use libc::{c_int, c_long};

use crate::observer::Uses;

/// Trap a call is worth a notification. Everything else of the call runs at full speed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::observer) enum Trap {
    Always,
    /// If the low half of an argument is one of these.
    OneOf {
        arg: usize,
        values: &'static [u32],
    },
    /// If the low half of an argument is none of these.
    NoneOf {
        arg: usize,
        values: &'static [u32],
    },
    /// If an argument is not zero: a pointer that is given, a key that is not private.
    NotZero {
        arg: usize,
    },
    /// If the low half of an argument has one of these bits.
    AnyBit {
        arg: usize,
        bits: u32,
    },
}

/// A path argument: where the text lies in the caller's memory, and where a relative path starts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::observer) struct PathArgument {
    /// `AT_FDCWD` or a descriptor of the caller.
    pub(in crate::observer) at: c_int,
    /// The address of the text.
    pub(in crate::observer) text: u64,
    /// An empty text means the descriptor itself.
    pub(in crate::observer) empty: bool,
}

/// What a call asks the kernel to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::observer) enum SyscallRequest {
    Open {
        name: PathArgument,
        flags: c_int,
    },
    /// The flags and the way to resolve lie in memory.
    Open2 {
        name: PathArgument,
        how: u64,
    },
    /// Queries an existing path.
    Ask {
        name: PathArgument,
        follow: bool,
        uses: Uses,
    },
    Execute {
        name: PathArgument,
        follow: bool,
    },
    /// Changes metadata, attributes or length of an existing path.
    Modify {
        name: PathArgument,
        follow: bool,
        replace: bool,
    },
    /// Creates something that must not exist yet.
    Make {
        name: PathArgument,
        link: bool,
    },
    Remove {
        name: PathArgument,
        folder: bool,
    },
    Rename {
        from: PathArgument,
        to: PathArgument,
        flags: u32,
    },
    FollowedLink {
        from: PathArgument,
        to: PathArgument,
        follow: bool,
    },
    Connect {
        socket: c_int,
        address: u64,
        length: u64,
    },
    Bind {
        socket: c_int,
        address: u64,
        length: u64,
    },
    Listen {
        socket: c_int,
    },
    /// `sendmsg` and `sendmmsg`: `count` headers of `stride` bytes, with an address in each.
    Send {
        socket: c_int,
        headers: u64,
        count: u64,
        stride: u64,
    },
    /// A socket of another family than the three usual ones.
    Family(c_int),
    /// Makes a socket for addresses of IP's version 6.
    Ipv6Socket,
    Ipc(&'static str),
    Namespace(&'static str),
    Nameless(&'static str),
    IoUring,
    Seccomp,
    Landlock,
    /// Makes memory executable, or moves what is, or asks for memory among the stacks.
    MakeCode,
    /// Writes this text to the error output.
    Complain {
        text: u64,
        length: u64,
    },
    /// Writes `count` texts to the error output, the addresses and lengths of which are at `parts`.
    ComplainInParts {
        parts: u64,
        count: u64,
    },
    /// Reads an open file. Of the dynamic loader only.
    Read(c_int),
    Unknown,
}

/// Flags of `renameat2` and others that libc spells differently from one platform to the next.
pub(in crate::observer) const RENAME_EXCHANGE: u32 = 2;
pub(in crate::observer) const RENAME_NOREPLACE: u32 = 1;
const AT_FDCWD: c_int = libc::AT_FDCWD;
/// Those of IP's version 6 can be off, so that a socket of them is an input.
const USUAL_FAMILIES: &[u32] = &[libc::AF_UNIX as u32, libc::AF_INET as u32];
const ERROR_OUTPUT: &[u32] = &[libc::STDERR_FILENO as u32];
/// `PR_GET_SECCOMP`, `PR_SET_SECCOMP`, `PR_GET_NO_NEW_PRIVS`: the answer is not what it would be.
const PRCTL: &[u32] = &[21, 22, 39];

/// The trapped calls that every architecture has. `clone` and `unshare` are not among them: a new
/// mount namespace starts as a copy of the old one, and only a mount in it changes paths.
const COMMON: &[(c_long, Trap)] = &[
    // First, because programs write often.
    (libc::SYS_write, Trap::OneOf { arg: 0, values: ERROR_OUTPUT }),
    (libc::SYS_writev, Trap::OneOf { arg: 0, values: ERROR_OUTPUT }),
    (libc::SYS_openat, Trap::Always),
    (libc::SYS_openat2, Trap::Always),
    (libc::SYS_statx, Trap::Always),
    (libc::SYS_newfstatat, Trap::Always),
    (libc::SYS_faccessat, Trap::Always),
    (libc::SYS_faccessat2, Trap::Always),
    (libc::SYS_readlinkat, Trap::Always),
    (libc::SYS_execve, Trap::Always),
    (libc::SYS_execveat, Trap::Always),
    (libc::SYS_chdir, Trap::Always),
    (libc::SYS_statfs, Trap::Always),
    (libc::SYS_mkdirat, Trap::Always),
    (libc::SYS_mknodat, Trap::Always),
    (libc::SYS_unlinkat, Trap::Always),
    (libc::SYS_renameat2, Trap::Always),
    (libc::SYS_linkat, Trap::Always),
    (libc::SYS_symlinkat, Trap::Always),
    (libc::SYS_truncate, Trap::Always),
    (libc::SYS_fchmodat, Trap::Always),
    (SYS_FCHMODAT2, Trap::Always),
    (libc::SYS_fchownat, Trap::Always),
    (libc::SYS_utimensat, Trap::Always),
    (libc::SYS_getxattr, Trap::Always),
    (libc::SYS_lgetxattr, Trap::Always),
    (libc::SYS_listxattr, Trap::Always),
    (libc::SYS_llistxattr, Trap::Always),
    (libc::SYS_fgetxattr, Trap::Always),
    (libc::SYS_flistxattr, Trap::Always),
    (libc::SYS_setxattr, Trap::Always),
    (libc::SYS_lsetxattr, Trap::Always),
    (libc::SYS_removexattr, Trap::Always),
    (libc::SYS_lremovexattr, Trap::Always),
    (SYS_SETXATTRAT, Trap::Always),
    (SYS_GETXATTRAT, Trap::Always),
    (SYS_LISTXATTRAT, Trap::Always),
    (SYS_REMOVEXATTRAT, Trap::Always),
    (SYS_FILE_GETATTR, Trap::Always),
    (SYS_FILE_SETATTR, Trap::Always),
    (libc::SYS_getdents64, Trap::Always),
    (libc::SYS_inotify_add_watch, Trap::Always),
    (libc::SYS_name_to_handle_at, Trap::Always),
    (libc::SYS_open_by_handle_at, Trap::Always),
    (libc::SYS_fanotify_init, Trap::Always),
    (libc::SYS_pidfd_getfd, Trap::Always),
    (libc::SYS_io_uring_setup, Trap::Always),
    (libc::SYS_bpf, Trap::Always),
    (libc::SYS_chroot, Trap::Always),
    (libc::SYS_pivot_root, Trap::Always),
    (libc::SYS_mount, Trap::Always),
    (libc::SYS_umount2, Trap::Always),
    (libc::SYS_setns, Trap::Always),
    (libc::SYS_open_tree, Trap::Always),
    (SYS_OPEN_TREE_ATTR, Trap::Always),
    (libc::SYS_move_mount, Trap::Always),
    (libc::SYS_fsopen, Trap::Always),
    (libc::SYS_fspick, Trap::Always),
    (libc::SYS_fsmount, Trap::Always),
    (libc::SYS_mount_setattr, Trap::Always),
    (libc::SYS_connect, Trap::Always),
    (libc::SYS_bind, Trap::Always),
    (libc::SYS_listen, Trap::Always),
    (libc::SYS_sendto, Trap::NotZero { arg: 4 }),
    (libc::SYS_sendmsg, Trap::Always),
    (libc::SYS_sendmmsg, Trap::Always),
    (libc::SYS_socket, Trap::NoneOf { arg: 0, values: USUAL_FAMILIES }),
    (libc::SYS_socketpair, Trap::NoneOf { arg: 0, values: USUAL_FAMILIES }),
    (libc::SYS_shmget, Trap::NotZero { arg: 0 }),
    (libc::SYS_msgget, Trap::NotZero { arg: 0 }),
    (libc::SYS_semget, Trap::NotZero { arg: 0 }),
    (libc::SYS_mq_open, Trap::Always),
    (libc::SYS_add_key, Trap::Always),
    (libc::SYS_request_key, Trap::Always),
    (libc::SYS_keyctl, Trap::Always),
    (libc::SYS_landlock_restrict_self, Trap::Always),
    // SECCOMP_SET_MODE_STRICT and SECCOMP_SET_MODE_FILTER.
    (libc::SYS_seccomp, Trap::OneOf { arg: 0, values: &[0, 1] }),
    (libc::SYS_prctl, Trap::OneOf { arg: 0, values: PRCTL }),
];

/// Trapped too where calls are told apart by the code that makes them. `mmap` by the dynamic loader is
/// not among them.
pub(in crate::observer) const CODE_MAKING: &[(c_long, Trap)] = &[
    (libc::SYS_mmap, Trap::AnyBit { arg: 2, bits: libc::PROT_EXEC as u32 }),
    (libc::SYS_mprotect, Trap::AnyBit { arg: 2, bits: libc::PROT_EXEC as u32 }),
    (libc::SYS_pkey_mprotect, Trap::AnyBit { arg: 2, bits: libc::PROT_EXEC as u32 }),
    (libc::SYS_mremap, Trap::AnyBit { arg: 3, bits: libc::MREMAP_FIXED as u32 }),
    (libc::SYS_shmat, Trap::AnyBit { arg: 2, bits: SHM_EXEC }),
    // Asking, and the default.
    (libc::SYS_personality, Trap::NoneOf { arg: 0, values: &[u32::MAX, 0] }),
];
const SHM_EXEC: u32 = 0o100_000;

// Newer than the oldest supported libc crate; the number is the same on every architecture.
const SYS_FCHMODAT2: c_long = 452;
const SYS_SETXATTRAT: c_long = 463;
const SYS_GETXATTRAT: c_long = 464;
const SYS_LISTXATTRAT: c_long = 465;
const SYS_REMOVEXATTRAT: c_long = 466;
const SYS_OPEN_TREE_ATTR: c_long = 467;
const SYS_FILE_GETATTR: c_long = 468;
const SYS_FILE_SETATTR: c_long = 469;
/// The newest call that the table knows. The effect of newer ones is unknown.
pub(in crate::observer) const NEWEST: c_long = 469;

/// The older calls, which only the older architecture has.
#[cfg(target_arch = "x86_64")]
const OLDER: &[(c_long, Trap)] = &[
    (libc::SYS_open, Trap::Always),
    (libc::SYS_creat, Trap::Always),
    (libc::SYS_stat, Trap::Always),
    (libc::SYS_lstat, Trap::Always),
    (libc::SYS_access, Trap::Always),
    (libc::SYS_readlink, Trap::Always),
    (libc::SYS_mkdir, Trap::Always),
    (libc::SYS_rmdir, Trap::Always),
    (libc::SYS_mknod, Trap::Always),
    (libc::SYS_unlink, Trap::Always),
    (libc::SYS_rename, Trap::Always),
    (libc::SYS_renameat, Trap::Always),
    (libc::SYS_link, Trap::Always),
    (libc::SYS_symlink, Trap::Always),
    (libc::SYS_chmod, Trap::Always),
    (libc::SYS_chown, Trap::Always),
    (libc::SYS_lchown, Trap::Always),
    (libc::SYS_utime, Trap::Always),
    (libc::SYS_utimes, Trap::Always),
    (libc::SYS_futimesat, Trap::Always),
    (libc::SYS_uselib, Trap::Always),
    (libc::SYS_getdents, Trap::Always),
];
#[cfg(target_arch = "aarch64")]
const OLDER: &[(c_long, Trap)] = &[(libc::SYS_renameat, Trap::Always)];

/// Every trapped call of this architecture.
pub(in crate::observer) fn watched() -> impl Iterator<Item = (c_long, Trap)> {
    COMMON.iter().chain(OLDER).copied()
}

/// Decodes a call from its number and arguments.
pub(in crate::observer) fn request(number: c_long, args: &[u64; 6]) -> SyscallRequest {
    #[cfg(target_arch = "x86_64")]
    if let Some(request) = older(number, args) {
        return request;
    }
    let here = |index: usize| PathArgument { at: AT_FDCWD, text: args[index], empty: false };
    let flags = |index: usize| low(args[index]);
    let follow = |index: usize| flags(index) & libc::AT_SYMLINK_NOFOLLOW == 0;
    let at =
        |index: usize| PathArgument { at: low(args[index]), text: args[index + 1], empty: false };
    let at_flags = |index: usize, flag: usize| PathArgument {
        empty: flags(flag) & libc::AT_EMPTY_PATH != 0,
        ..at(index)
    };
    let ask = |name, follow, uses| SyscallRequest::Ask { name, follow, uses };
    let modify = |name, follow| SyscallRequest::Modify { name, follow, replace: false };
    match number {
        libc::SYS_openat => SyscallRequest::Open { name: at(0), flags: flags(2) },
        libc::SYS_openat2 => SyscallRequest::Open2 { name: at(0), how: args[2] },
        libc::SYS_statx => ask(at_flags(0, 2), follow(2), Uses::PROBED),
        libc::SYS_newfstatat | libc::SYS_faccessat2 => ask(at_flags(0, 3), follow(3), Uses::PROBED),
        libc::SYS_faccessat => ask(at(0), true, Uses::PROBED),
        libc::SYS_readlinkat => ask(PathArgument { empty: true, ..at(0) }, false, Uses::FOLLOWED),
        libc::SYS_execve => SyscallRequest::Execute { name: here(0), follow: true },
        libc::SYS_execveat => SyscallRequest::Execute { name: at_flags(0, 4), follow: follow(4) },
        libc::SYS_chdir | libc::SYS_statfs => ask(here(0), true, Uses::PROBED),
        libc::SYS_mkdirat | libc::SYS_mknodat => SyscallRequest::Make { name: at(0), link: false },
        libc::SYS_symlinkat => SyscallRequest::Make { name: at(1), link: true },
        libc::SYS_unlinkat => {
            SyscallRequest::Remove { name: at(0), folder: flags(2) & libc::AT_REMOVEDIR != 0 }
        }
        libc::SYS_renameat => SyscallRequest::Rename { from: at(0), to: at(2), flags: 0 },
        libc::SYS_renameat2 => {
            SyscallRequest::Rename { from: at(0), to: at(2), flags: flags(4).cast_unsigned() }
        }
        libc::SYS_linkat => SyscallRequest::FollowedLink {
            from: at_flags(0, 4),
            to: at(2),
            follow: flags(4) & libc::AT_SYMLINK_FOLLOW != 0,
        },
        libc::SYS_truncate => {
            SyscallRequest::Modify { name: here(0), follow: true, replace: args[1] == 0 }
        }
        libc::SYS_fchmodat => modify(at(0), true),
        SYS_FCHMODAT2 => modify(at_flags(0, 3), follow(3)),
        libc::SYS_fchownat => modify(at_flags(0, 4), follow(4)),
        // Without a path the call means the descriptor.
        libc::SYS_utimensat => modify(PathArgument { empty: args[1] == 0, ..at(0) }, follow(3)),
        libc::SYS_getxattr | libc::SYS_listxattr => ask(here(0), true, Uses::ATTRIBUTES),
        libc::SYS_lgetxattr | libc::SYS_llistxattr => ask(here(0), false, Uses::ATTRIBUTES),
        libc::SYS_fgetxattr | libc::SYS_flistxattr => {
            ask(PathArgument { at: flags(0), text: 0, empty: true }, true, Uses::ATTRIBUTES)
        }
        SYS_GETXATTRAT | SYS_LISTXATTRAT => ask(at_flags(0, 2), follow(2), Uses::ATTRIBUTES),
        SYS_FILE_GETATTR => ask(at_flags(0, 4), follow(4), Uses::ATTRIBUTES),
        libc::SYS_setxattr | libc::SYS_removexattr => modify(here(0), true),
        libc::SYS_lsetxattr | libc::SYS_lremovexattr => modify(here(0), false),
        SYS_SETXATTRAT | SYS_REMOVEXATTRAT => modify(at_flags(0, 2), follow(2)),
        SYS_FILE_SETATTR => modify(at_flags(0, 4), follow(4)),
        libc::SYS_getdents64 => list(args),
        libc::SYS_inotify_add_watch => {
            ask(PathArgument { text: args[1], ..here(1) }, true, Uses::PROBED)
        }
        libc::SYS_name_to_handle_at => {
            ask(at_flags(0, 4), flags(4) & libc::AT_SYMLINK_FOLLOW != 0, Uses::PROBED)
        }
        libc::SYS_open_by_handle_at => SyscallRequest::Nameless("open_by_handle_at"),
        libc::SYS_fanotify_init => SyscallRequest::Nameless("fanotify"),
        libc::SYS_pidfd_getfd => SyscallRequest::Nameless("pidfd_getfd"),
        libc::SYS_bpf => SyscallRequest::Nameless("bpf"),
        libc::SYS_io_uring_setup => SyscallRequest::IoUring,
        libc::SYS_chroot | libc::SYS_pivot_root => SyscallRequest::Namespace("chroot"),
        libc::SYS_mount
        | libc::SYS_umount2
        | libc::SYS_open_tree
        | SYS_OPEN_TREE_ATTR
        | libc::SYS_move_mount
        | libc::SYS_fsopen
        | libc::SYS_fspick
        | libc::SYS_fsmount
        | libc::SYS_mount_setattr => SyscallRequest::Namespace("mount"),
        libc::SYS_setns => SyscallRequest::Namespace("setns"),
        libc::SYS_connect => {
            SyscallRequest::Connect { socket: flags(0), address: args[1], length: args[2] }
        }
        libc::SYS_sendto => {
            SyscallRequest::Connect { socket: flags(0), address: args[4], length: args[5] }
        }
        libc::SYS_bind => {
            SyscallRequest::Bind { socket: flags(0), address: args[1], length: args[2] }
        }
        libc::SYS_listen => SyscallRequest::Listen { socket: flags(0) },
        libc::SYS_sendmsg => {
            SyscallRequest::Send { socket: flags(0), headers: args[1], count: 1, stride: 0 }
        }
        // `struct mmsghdr` is a `msghdr` of 56 bytes and a length, padded.
        libc::SYS_sendmmsg => {
            SyscallRequest::Send { socket: flags(0), headers: args[1], count: args[2], stride: 64 }
        }
        libc::SYS_socket if flags(0) == libc::AF_INET6 => SyscallRequest::Ipv6Socket,
        libc::SYS_socket | libc::SYS_socketpair => SyscallRequest::Family(flags(0)),
        libc::SYS_shmget => SyscallRequest::Ipc("shared memory"),
        libc::SYS_msgget | libc::SYS_mq_open => SyscallRequest::Ipc("message queue"),
        libc::SYS_semget => SyscallRequest::Ipc("semaphores"),
        libc::SYS_add_key | libc::SYS_request_key | libc::SYS_keyctl => {
            SyscallRequest::Ipc("kernel keyring")
        }
        libc::SYS_seccomp | libc::SYS_prctl => SyscallRequest::Seccomp,
        libc::SYS_landlock_restrict_self => SyscallRequest::Landlock,
        libc::SYS_mmap
        | libc::SYS_mprotect
        | libc::SYS_pkey_mprotect
        | libc::SYS_mremap
        | libc::SYS_shmat
        | libc::SYS_personality => SyscallRequest::MakeCode,
        libc::SYS_read => SyscallRequest::Read(flags(0)),
        libc::SYS_write => SyscallRequest::Complain { text: args[1], length: args[2] },
        libc::SYS_writev => SyscallRequest::ComplainInParts { parts: args[1], count: args[2] },
        _ => SyscallRequest::Unknown,
    }
}

#[cfg(target_arch = "x86_64")]
fn older(number: c_long, args: &[u64; 6]) -> Option<SyscallRequest> {
    let here = |index: usize| PathArgument { at: AT_FDCWD, text: args[index], empty: false };
    let ask = |follow, uses| SyscallRequest::Ask { name: here(0), follow, uses };
    let modify = |follow| SyscallRequest::Modify { name: here(0), follow, replace: false };
    Some(match number {
        libc::SYS_open => SyscallRequest::Open { name: here(0), flags: low(args[1]) },
        libc::SYS_creat => SyscallRequest::Open {
            name: here(0),
            flags: libc::O_CREAT | libc::O_WRONLY | libc::O_TRUNC,
        },
        libc::SYS_stat | libc::SYS_access => ask(true, Uses::PROBED),
        libc::SYS_lstat => ask(false, Uses::PROBED),
        libc::SYS_readlink => ask(false, Uses::FOLLOWED),
        libc::SYS_mkdir | libc::SYS_mknod => SyscallRequest::Make { name: here(0), link: false },
        libc::SYS_symlink => SyscallRequest::Make { name: here(1), link: true },
        libc::SYS_rmdir => SyscallRequest::Remove { name: here(0), folder: true },
        libc::SYS_unlink => SyscallRequest::Remove { name: here(0), folder: false },
        libc::SYS_rename => SyscallRequest::Rename { from: here(0), to: here(1), flags: 0 },
        libc::SYS_link => {
            SyscallRequest::FollowedLink { from: here(0), to: here(1), follow: false }
        }
        libc::SYS_chmod | libc::SYS_chown | libc::SYS_utime | libc::SYS_utimes => modify(true),
        libc::SYS_lchown => modify(false),
        libc::SYS_futimesat => SyscallRequest::Modify {
            name: PathArgument { at: low(args[0]), text: args[1], empty: args[1] == 0 },
            follow: true,
            replace: false,
        },
        libc::SYS_uselib => SyscallRequest::Nameless("uselib"),
        libc::SYS_getdents => list(args),
        _ => return None,
    })
}

/// Listing an open folder.
fn list(args: &[u64; 6]) -> SyscallRequest {
    let name = PathArgument { at: low(args[0]), text: 0, empty: true };
    SyscallRequest::Ask { name, follow: true, uses: Uses::LISTED }
}

/// The low half of an argument, which is all that the kernel reads of an `int`.
#[expect(clippy::cast_possible_truncation, reason = "that is what the kernel does")]
fn low(argument: u64) -> c_int {
    argument as c_int
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_trapped_call_is_decoded_and_listed_once() {
        let mut seen = std::collections::HashSet::new();
        for (number, _) in watched().chain(CODE_MAKING.iter().copied()) {
            assert!(seen.insert(number), "{number} twice");
            let request = request(number, &[1, 2, 3, 4, 5, 6]);
            assert_ne!(request, SyscallRequest::Unknown, "{number}");
        }
        assert_eq!(request(libc::SYS_lseek, &[0; 6]), SyscallRequest::Unknown);
    }

    #[test]
    fn the_flags_of_a_call_decide_whether_a_link_at_the_end_is_followed() {
        let nofollow = libc::AT_SYMLINK_NOFOLLOW.cast_unsigned().into();
        let ask = |number, args| match request(number, &args) {
            SyscallRequest::Ask { follow, .. } => follow,
            other => panic!("{other:?}"),
        };
        assert!(ask(libc::SYS_newfstatat, [0, 1, 2, 0, 0, 0]));
        assert!(!ask(libc::SYS_newfstatat, [0, 1, 2, nofollow, 0, 0]));
        assert!(!ask(libc::SYS_statx, [0, 1, nofollow, 0, 0, 0]));
        assert!(!ask(libc::SYS_readlinkat, [0, 1, 2, 0, 0, 0]));
    }

    #[test]
    fn a_negative_descriptor_keeps_its_sign() {
        let args = [u64::from(libc::AT_FDCWD.cast_unsigned()), 9, 0, 0, 0, 0];
        let SyscallRequest::Open { name, .. } = request(libc::SYS_openat, &args) else { panic!() };
        assert_eq!(name, PathArgument { at: libc::AT_FDCWD, text: 9, empty: false });
    }
}
