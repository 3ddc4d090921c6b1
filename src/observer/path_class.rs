//! Classifies paths: by content, by identity, or not digestible at all.

use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

/// How the content of a path can be described.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PathClass {
    /// An ordinary file, described by its content.
    Ordinary,
    /// A shared library of the system, the loader's cache, or a file below a covered folder:
    /// described by its stamp.
    Library,
    /// A setting of the kernel, described by its content, because its times never change.
    Setting,
    /// A momentary fact about this machine (`/sys`, `/proc`, devices), which no digest describes.
    Machine,
}

/// Devices that carry no information, or that belong to the process itself.
const EMPTY_DEVICES: &[&str] = &[
    "null", "zero", "full", "random", "urandom", "ptmx", "pts", "fd", "stdin", "stdout", "stderr",
];

/// Files that tell the size, load and age of the machine, as `sysinfo`, `uname` and
/// `sched_getaffinity` do, and files that differ at each reading. Most of them are read in every
/// run, by libtest, allocators and runtimes. They are no inputs; this is the whole list:
///
/// - processors, memory and their limits, which a control group sets for each terminal session;
/// - load, uptime, mounts, and counts of open files, inodes and processes;
/// - the calling process itself, and random numbers.
const CAPACITY: &[&str] = &[
    "/proc/cpuinfo",
    "/proc/loadavg",
    "/proc/meminfo",
    "/proc/mounts",
    "/proc/self",
    "/proc/stat",
    "/proc/sys/fs/aio-nr",
    "/proc/sys/fs/dentry-state",
    "/proc/sys/fs/file-nr",
    "/proc/sys/fs/inode-nr",
    "/proc/sys/fs/inode-state",
    "/proc/sys/kernel/ns_last_pid",
    "/proc/sys/kernel/pty/nr",
    "/proc/sys/kernel/random/entropy_avail",
    "/proc/sys/kernel/random/uuid",
    "/proc/thread-self",
    "/proc/uptime",
    "/sys/devices/system/cpu",
    "/sys/devices/system/node",
    "/sys/fs/cgroup",
];

/// Small files of the kernel whose content seldom changes, and which have no times of their own.
const SETTINGS: &[&str] =
    &["/proc/filesystems", "/proc/sys", "/proc/version", "/sys/kernel/mm/transparent_hugepage"];

const LIBRARY_FOLDERS: &[&str] =
    &["/lib", "/lib32", "/lib64", "/usr/lib", "/usr/lib32", "/usr/lib64", "/usr/local/lib"];

/// The class of an absolute path without symlinks. `None` if it is no input at all: the run's own
/// processes, empty devices, the capacity of the machine. `ours` says whether a process id belongs
/// to the run.
pub(super) fn class_of(
    path: &Path,
    covered: &[PathBuf],
    ours: impl Fn(i32) -> bool,
) -> Option<PathClass> {
    let bytes = path.as_os_str().as_bytes();
    if is_one_of(CAPACITY, path) {
        return None;
    }
    if is_one_of(SETTINGS, path) {
        return Some(PathClass::Setting);
    }
    if let Some(rest) = below(bytes, b"/proc") {
        let mut parts = rest.split(|b| *b == b'/');
        let number = parts.next().unwrap_or_default();
        let pid = std::str::from_utf8(number).ok().and_then(|number| number.parse().ok());
        // `/proc/PID/net` shows the network of all processes.
        let own = pid.is_some_and(ours) && parts.next() != Some(b"net");
        return (!own && !rest.is_empty()).then_some(PathClass::Machine);
    }
    if below(bytes, b"/sys").is_some() {
        return (bytes != b"/sys").then_some(PathClass::Machine);
    }
    if let Some(rest) = below(bytes, b"/dev") {
        let first = rest.split(|b| *b == b'/').next().unwrap_or_default();
        return match first {
            // Files in memory, with names like any others.
            b"shm" | b"hugepages" => Some(PathClass::Ordinary),
            b"" => None,
            first if EMPTY_DEVICES.iter().any(|name| name.as_bytes() == first) => None,
            _ => Some(PathClass::Machine),
        };
    }
    let library = covered.iter().any(|folder| path.starts_with(folder))
        || bytes == b"/etc/ld.so.cache"
        || bytes == b"/etc/ld.so.preload"
        || (is_shared_object(path) && LIBRARY_FOLDERS.iter().any(|dir| path.starts_with(dir)));
    Some(if library { PathClass::Library } else { PathClass::Ordinary })
}

/// The rest of `path` below `folder`, without a leading slash; empty for the folder itself.
fn below<'a>(path: &'a [u8], folder: &[u8]) -> Option<&'a [u8]> {
    let rest = path.strip_prefix(folder)?;
    if rest.is_empty() { Some(rest) } else { rest.strip_prefix(b"/") }
}

/// Whether the path is one of these, or lies below one.
fn is_one_of(known: &[&str], path: &Path) -> bool {
    known.iter().any(|known| path.starts_with(known))
}

/// Whether the path is a setting of the kernel, whose content describes it.
pub(super) fn is_setting(path: &Path) -> bool {
    is_one_of(SETTINGS, path) && !is_one_of(CAPACITY, path)
}

/// Whether the name is that of a shared object: `libc.so`, `libc.so.6`, `ld-linux-x86-64.so.2`.
pub(crate) fn is_shared_object(path: &Path) -> bool {
    let name = path.file_name().unwrap_or_default().as_bytes();
    name.ends_with(b".so") || name.windows(4).any(|part| part == b".so.")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn class(path: &str) -> Option<PathClass> {
        class_of(Path::new(path), &[PathBuf::from("/tools/rust")], |pid| pid == 7)
    }

    #[test]
    fn own_processes_and_the_capacity_of_the_machine_are_no_inputs() {
        for path in [
            "/proc/self/maps",
            "/proc/7/status",
            "/proc/meminfo",
            "/dev/null",
            "/dev/pts/3",
            "/sys/fs/cgroup/user.slice/cpu.max",
            "/sys/devices/system/cpu/online",
        ] {
            assert_eq!(class(path), None, "{path}");
        }
    }

    #[test]
    fn settings_of_the_kernel_count_by_content_but_not_its_counters() {
        for path in ["/proc/sys/net/core/somaxconn", "/proc/sys/kernel/hostname", "/proc/version"] {
            assert_eq!(class(path), Some(PathClass::Setting), "{path}");
        }
        for path in ["/proc/sys/kernel/random/uuid", "/proc/sys/fs/file-nr"] {
            assert_eq!(class(path), None, "{path}");
        }
    }

    #[test]
    fn other_processes_and_devices_are_facts_of_the_machine() {
        for path in [
            "/proc/8/status",
            "/proc/7/net/tcp",
            "/proc/net/tcp",
            "/sys/class/net",
            "/dev/sda",
            "/dev/tty",
        ] {
            assert_eq!(class(path), Some(PathClass::Machine), "{path}");
        }
    }

    #[test]
    fn only_system_and_covered_libraries_are_libraries() {
        for path in [
            "/etc/ld.so.cache",
            "/usr/lib/x86_64-linux-gnu/libc.so.6",
            "/lib64/ld-linux-x86-64.so.2",
            "/tools/rust/bin/rustc",
        ] {
            assert_eq!(class(path), Some(PathClass::Library), "{path}");
        }
        for path in [
            "/usr/lib/os-release",
            "/w/libx.so",
            "/etc/hosts",
            "/dev/shm/x",
            "/system",
            "/devices",
            "/tools/rusty",
            "/usr/lib/solid",
        ] {
            assert_eq!(class(path), Some(PathClass::Ordinary), "{path}");
        }
    }
}
