//! The folders in which nothing lies but a toolchain.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};

use super::Toolchain;

/// The folder of a toolchain's libraries and sources, below its sysroot.
const RUSTLIB: &str = "lib/rustlib";
/// The folders of a toolchain.
const FOLDERS: [&str; 5] = ["bin", "etc", "lib", "libexec", "share"];
/// How the names of its programs begin.
const PROGRAMS: [&str; 4] = ["rust", "cargo", "clippy", "miri"];
/// Prefixes for programs of all kinds, whatever lies there now.
const OF_ALL: [&str; 4] = ["/", "/usr", "/usr/local", "/opt"];

impl Toolchain {
    /// The folders, without symlinks, in which nothing lies but the toolchain, so that its version says
    /// what is in them. A toolchain of a distribution has but one below `/usr`.
    #[must_use]
    pub(crate) fn folders(&self) -> Vec<PathBuf> {
        let Ok(sysroot) = self.sysroot.canonicalize() else { return Vec::new() };
        let is_alone = !OF_ALL.iter().any(|prefix| sysroot == Path::new(prefix))
            && all(&sysroot, |name, is_folder| {
                !is_folder || FOLDERS.iter().any(|own| name == *own)
            })
            && all(&sysroot.join("bin"), |name, _| {
                let name = name.to_str().unwrap_or_default();
                PROGRAMS.iter().any(|own| name.starts_with(own))
            });
        vec![if is_alone { sysroot } else { sysroot.join(RUSTLIB) }]
    }
}

/// Whether all that lies in a folder is so; told are the name and whether it is a folder or a link.
fn all(folder: &Path, is_so: impl Fn(&OsStr, bool) -> bool) -> bool {
    std::fs::read_dir(folder).is_ok_and(|mut entries| {
        entries.all(|entry| {
            entry.is_ok_and(|entry| {
                let is_file = entry.file_type().is_ok_and(|kind| kind.is_file());
                is_so(&entry.file_name(), !is_file)
            })
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_prefix_with_other_programs_is_no_folder_of_a_toolchain() {
        let dir = tempfile::tempdir().unwrap();
        let sysroot = dir.path().canonicalize().unwrap();
        for folder in ["bin", "lib/rustlib", "share"] {
            std::fs::create_dir_all(sysroot.join(folder)).unwrap();
        }
        let write = |name: &str| std::fs::write(sysroot.join(name), "").unwrap();
        let remove = |name: &str| std::fs::remove_file(sysroot.join(name)).unwrap();
        for file in ["bin/rustc", "bin/cargo-fmt", "lib/librustc_driver.so", "README.md"] {
            write(file);
        }
        let toolchain = |sysroot: &Path| Toolchain {
            cargo: "/c".into(),
            rustc: "/c".into(),
            rustdoc: "/c".into(),
            sysroot: sysroot.to_owned(),
            host: String::new(),
            identity: String::new(),
        };
        assert_eq!(toolchain(&sysroot).folders(), [&*sysroot]);
        let rustlib = sysroot.join(RUSTLIB);
        write("bin/python3");
        assert_eq!(toolchain(&sysroot).folders(), [&*rustlib]);
        remove("bin/python3");
        std::fs::create_dir(sysroot.join("include")).unwrap();
        assert_eq!(toolchain(&sysroot).folders(), [&*rustlib]);
        assert_eq!(toolchain(Path::new("/usr")).folders(), [Path::new("/usr/lib/rustlib")]);
        assert_eq!(toolchain(&sysroot.join("none")).folders(), [] as [PathBuf; 0]);
    }
}
