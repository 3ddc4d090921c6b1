//! Which tools are asked, and what their answers depend on.

use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use super::memo;
use crate::model::Digest;
use crate::process::{Environment, SpawnError};
use crate::workspace::cargo_config::{CargoConfig, cargo_home};

/// Why there is no usable toolchain.
#[derive(Debug, thiserror::Error)]
pub enum ToolchainError {
    /// No cargo anywhere.
    #[error(
        "no `cargo` found: looked in {}; install Rust (https://rustup.rs) or put cargo's folder, \
         usually `~/.cargo/bin`, into PATH",
        list(looked)
    )]
    CargoMissing {
        /// Every folder that was looked in.
        looked: Vec<PathBuf>,
    },
    /// Cargo is there and no rustc.
    #[error("no `rustc` found beside `{}`: looked in {}", cargo.display(), list(looked))]
    RustcMissing {
        /// The cargo that was found.
        cargo: PathBuf,
        /// Every folder that was looked in.
        looked: Vec<PathBuf>,
    },
    /// A tool is there but refuses, for example because rustup has no such toolchain.
    #[error("`{command}` failed in `{}`: {message}", dir.display())]
    Refused {
        /// The command line.
        command: String,
        /// The folder in which it was run.
        dir: PathBuf,
        /// Its message, in full.
        message: String,
    },
    /// A tool cannot be started.
    #[error(transparent)]
    Spawn(#[from] SpawnError),
    /// A tool answers in a form that we do not know.
    #[error("`{command}` gave an answer that is not understood: {answer}")]
    Answer {
        /// The command line.
        command: String,
        /// Its output.
        answer: String,
    },
}

fn list(folders: &[PathBuf]) -> String {
    let folders: Vec<String> = folders.iter().map(|f| format!("`{}`", f.display())).collect();
    if folders.is_empty() {
        "no folder at all (PATH is empty)".to_owned()
    } else {
        folders.join(", ")
    }
}

/// The question, and the tools that are asked.
pub(super) struct ToolchainQuestion {
    pub(super) cargo: PathBuf,
    pub(super) rustc: PathBuf,
    /// Programs around the compiler: what they contain decides the build as well.
    pub(super) wrappers: Vec<(&'static str, PathBuf)>,
}

impl ToolchainQuestion {
    pub(super) fn new(
        dir: &Path,
        environment: &Environment,
        config: &CargoConfig,
    ) -> Result<Self, ToolchainError> {
        let fallback = fallback_folders(dir, environment);
        let find = |name: &str| {
            environment.find_program(Path::new(name), dir).or_else(|| {
                // A service's PATH is often without cargo's folder.
                fallback.iter().map(|folder| folder.join(name)).find(|file| file.is_file())
            })
        };
        let looked =
            || environment.path_folders(dir).chain(fallback.iter().cloned()).collect::<Vec<_>>();
        let cargo =
            find("cargo").ok_or_else(|| ToolchainError::CargoMissing { looked: looked() })?;
        let rustc = match config.rustc() {
            Some(rustc) => rustc,
            None => find("rustc").ok_or_else(|| ToolchainError::RustcMissing {
                cargo: cargo.clone(),
                looked: looked(),
            })?,
        };
        let mut wrappers = config.wrappers();
        // A file in the place of a tool is a wrapper too.
        if config.rustc().is_some() || is_script(&rustc) {
            wrappers.push(("rustc", rustc.clone()));
        }
        wrappers.extend(config.rustdoc().map(|rustdoc| ("rustdoc", rustdoc)));
        if is_script(&cargo) {
            wrappers.push(("cargo", cargo.clone()));
        }
        Ok(Self { cargo, rustc, wrappers })
    }

    /// Whether the tools' answer depends on [`Self::key`] and [`Self::guarded`] alone. It does for rustup's tools
    /// and for those of the toolchain itself. A shim of another version manager goes by files and variables of
    /// its own.
    pub(super) fn is_settled_by_guards(&self, sysroot: &Path) -> bool {
        let is_known = |tool: &Path| {
            let Ok(real) = tool.canonicalize() else { return false };
            let is_of_toolchain = || {
                let own = tool.file_name().map(|name| sysroot.join("bin").join(name));
                own.and_then(|own| own.canonicalize().ok()).is_some_and(|own| own == real)
            };
            is_rustup(&real) || is_of_toolchain()
        };
        [&self.cargo, &self.rustc].into_iter().all(|tool| is_known(tool))
    }

    /// Everything besides files that the answer depends on. The working folder stands for the
    /// `rust-toolchain` files above it, which are other files for another folder, and for
    /// rustup's overrides.
    pub(super) fn key(&self, dir: &Path, environment: &Environment) -> memo::Key {
        let mut key = memo::Key::new();
        key.add(dir.as_os_str());
        for path in [&self.cargo, &self.rustc] {
            key.add(path.as_os_str());
        }
        for (name, path) in &self.wrappers {
            key.add(name.as_ref()).add(path.as_os_str());
        }
        for (name, value) in environment.iter() {
            let text = name.to_string_lossy();
            let matters = matches!(&*text, "PATH" | "HOME" | "CARGO_HOME" | "LD_LIBRARY_PATH")
                || text.starts_with("RUSTUP_")
                || text.starts_with("RUSTC");
            if matters {
                key.add(name).add(value);
            }
        }
        key
    }

    /// Files that could change the answer, besides those in the toolchain itself.
    pub(super) fn guarded(&self, dir: &Path, environment: &Environment) -> Vec<PathBuf> {
        let mut files = vec![self.cargo.clone(), self.rustc.clone()];
        files.extend(self.wrappers.iter().map(|(_, path)| path.clone()));
        // A toolchain that is linked under a name can be linked anew under the same one.
        let rustup = rustup_home(dir, environment).into_iter();
        files.extend(rustup.flat_map(|home| ["settings.toml", "toolchains"].map(|f| home.join(f))));
        files.push("/etc/rustup/settings.toml".into());
        for folder in dir.ancestors() {
            files.push(folder.join("rust-toolchain"));
            files.push(folder.join("rust-toolchain.toml"));
        }
        files
    }
}

/// Whether a tool is rustup itself, under a name of its own: a link, or the same file beside it.
fn is_rustup(real: &Path) -> bool {
    let id = |path: &Path| path.metadata().ok().map(|metadata| (metadata.dev(), metadata.ino()));
    let is_named = real.file_name().is_some_and(|name| name == "rustup" || name == "rustup-init");
    !is_script(real)
        && (is_named || id(real).is_some_and(|own| id(&real.with_file_name("rustup")) == Some(own)))
}

/// Whether the file is for an interpreter: it can do anything, whatever version it tells.
fn is_script(path: &Path) -> bool {
    use std::io::Read as _;
    let mut magic = [0; 2];
    let read = std::fs::File::open(path).and_then(|mut file| file.read_exact(&mut magic));
    read.is_ok() && magic == *b"#!"
}

/// Files of an installed toolchain that an update, a removal or a rebuild touches.
pub(super) fn guarded_sysroot(sysroot: &Path) -> Vec<PathBuf> {
    let lib = sysroot.join("lib");
    let mut files = vec![sysroot.join("bin"), lib.clone(), lib.join("rustlib")];
    files.extend(["rustc", "cargo", "rustdoc"].map(|name| sysroot.join("bin").join(name)));
    files.extend(
        ["multirust-channel-manifest.toml", "multirust-config.toml", "components"]
            .map(|name| lib.join("rustlib").join(name)),
    );
    files.extend(compiler_libraries(&lib));
    files
}

/// `librustc_driver-*`: the compiler itself.
pub(super) fn compiler_libraries(lib: &Path) -> Vec<PathBuf> {
    let mut found: Vec<PathBuf> = std::fs::read_dir(lib)
        .into_iter()
        .flatten()
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| {
            path.file_name()
                .is_some_and(|name| name.to_string_lossy().starts_with("librustc_driver"))
        })
        .collect();
    found.sort();
    found
}

/// The usual place of cargo, for environments whose `PATH` does not name it.
fn fallback_folders(dir: &Path, environment: &Environment) -> Vec<PathBuf> {
    let home = environment.get("HOME").map(|home| Path::new(home).join(".cargo"));
    let mut folders: Vec<PathBuf> =
        cargo_home(dir, environment).into_iter().chain(home).map(|home| home.join("bin")).collect();
    folders.dedup();
    folders
}

fn rustup_home(dir: &Path, environment: &Environment) -> Option<PathBuf> {
    let given = environment.get("RUSTUP_HOME").map(|home| dir.join(home));
    given.or_else(|| environment.get("HOME").map(|home| Path::new(home).join(".rustup")))
}

/// The digest of a program's file; `None` if it cannot be read.
pub(super) fn content(path: &Path) -> Option<Digest> {
    let mut file = std::fs::File::open(path).ok()?;
    Digest::of_reader(&mut file, &mut vec![0; 64 * 1024]).ok().map(|(digest, _)| digest)
}
