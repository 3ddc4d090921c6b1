//! How cargo runs a build script: in which folder, with which variables.
//!
//! Cargo itself is asked. It builds once more, into a mirror of the target directory in which a hook
//! stands in the script's place: the hook notes how it was called and fails, and cargo stops. What the
//! mirror has of the target directory are symbolic links, and cargo can write in the mirror alone, so that
//! nothing of the developer's changes.

use std::ffi::OsStr;
use std::fs::{self, File, FileTimes};
use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use tempfile::TempDir;

use super::cargo::{CargoArguments, command};
use super::hook::HookFolder;
use super::script_files::{script_output, script_ran_at};
use super::told::{directives, in_two, library_folders};
use super::{BuildSpec, TestCompiler};
use crate::process::{Environment, WritableFolders, capture};

/// Cargo looks whether everything else is fresh, and builds nothing. If it does build, it is too late.
const CALL_WAIT: Duration = Duration::from_secs(20);
/// What a mirror needs nothing of.
const NOT_MIRRORED: [&str; 2] = [".cargo-lock", "incremental"];
const RUSTC_INFO: &str = ".rustc_info.json";
const FINGERPRINTS: &str = ".fingerprint";
const UNITS: &str = "build";
/// A pipe to the cargo that made the call, which has ended.
const OF_THIS_CARGO: &str = "CARGO_MAKEFLAGS";

/// A build script that cargo has built and run.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct BuiltScript {
    /// The name of its package.
    pub(crate) package: String,
    /// Its program.
    pub(crate) program: PathBuf,
    /// Where its run has written.
    pub(crate) out_dir: PathBuf,
    /// Whether it is the workspace's own.
    pub(crate) is_own: bool,
    /// When that run began.
    pub(crate) ran_at: SystemTime,
}

impl BuiltScript {
    /// Whether cargo has not run it since: what it came to is what the build was made with.
    pub(crate) fn is_last_run(&self) -> bool {
        script_ran_at(&self.out_dir) == Some(self.ran_at)
    }
}

/// How cargo runs a build script.
#[derive(Debug)]
pub(crate) struct ScriptCall {
    pub(crate) dir: PathBuf,
    pub(crate) environment: Environment,
    /// The folder into which it may write this time, without symlinks. It lies in the mirror.
    pub(crate) out_dir: PathBuf,
    /// What cargo's own run has printed.
    pub(crate) printed: Vec<u8>,
    mirror: TempDir,
}

impl ScriptCall {
    /// The folder that goes with this value.
    pub(crate) fn mirror(&self) -> &Path {
        self.mirror.path()
    }
}

impl TestCompiler {
    /// How cargo runs this script of its last build.
    ///
    /// # Errors
    /// Why that is not known.
    pub(crate) fn script_call(&self, script: &BuiltScript) -> Result<ScriptCall, String> {
        let cannot = |error: io::Error| format!("its call cannot be mirrored: {error}");
        let spec = &self.spec;
        if spec.selection.target_dir().is_some() || spec.config.has_build_dir() {
            return Err("its target directory has been chosen by hand".to_owned());
        }
        let (_, printed) = script_output(&script.out_dir).ok_or("its output is gone")?;
        if links_others(&printed, &script.out_dir) {
            return Err("it has something linked that it has not made".to_owned());
        }
        let hook = HookFolder::new(&spec.hook, &spec.toolchain.rustdoc, 0);
        let hook = hook.map_err(|error| error.to_string())?;
        let base = std::env::temp_dir().canonicalize().map_err(cannot)?;
        let mirror = tempfile::Builder::new().prefix("knhk-test-cache-").tempdir_in(base);
        let mirror = mirror.map_err(cannot)?;
        let unit = fill(mirror.path(), script, &hook).map_err(cannot)?;
        let folders = [mirror.path(), hook.path()];
        let arguments = CargoArguments {
            no_run: true,
            frozen: true,
            writable: Some(WritableFolders::only(&folders).map_err(cannot)?),
            ..CargoArguments::default()
        };
        let target_dir = Some(mirror.path().to_owned());
        let child = command(&BuildSpec { target_dir, ..spec.clone() }, &arguments);
        capture(&child, CALL_WAIT).map_err(|error| error.to_string())?;
        let calls = hook.calls().map_err(|error| error.to_string())?;
        let [call] = &calls[..] else {
            return Err("cargo does not run it again".to_owned());
        };
        let mut environment = call.environment();
        environment.remove(OF_THIS_CARGO);
        let out_dir = unit.join("out");
        if environment.get("OUT_DIR") != Some(out_dir.as_os_str()) {
            return Err("cargo runs it elsewhere".to_owned());
        }
        Ok(ScriptCall { dir: call.dir.clone(), environment, out_dir, printed, mirror })
    }
}

/// Whether a script's package is linked with something that the script has not made: nobody sees what the
/// linker takes for it.
fn links_others(printed: &[u8], out_dir: &Path) -> bool {
    const TO_LINKER: [&str; 3] = ["rustc-link-arg", "rustc-cdylib-link-arg", "rustc-flags"];
    let folders: Vec<_> = library_folders(printed).collect();
    let is_made = |library: &[u8]| {
        let name = in_two(library).1.unwrap_or(library);
        let name = name.split(|byte| *byte == b':').next().unwrap_or_default();
        let file = [&b"lib"[..], name, b".a"].concat();
        folders.iter().any(|folder| folder.join(OsStr::from_bytes(&file)).is_file())
    };
    TO_LINKER.iter().any(|what| directives(printed, what).next().is_some())
        || folders.iter().any(|folder| !folder.starts_with(out_dir))
        || !directives(printed, "rustc-link-lib=").all(is_made)
}

/// Fills the mirror of a target directory. Gives the folder in it of the script's run.
fn fill(mirror: &Path, script: &BuiltScript, hook: &HookFolder) -> io::Result<PathBuf> {
    let unknown = || io::Error::other("cargo lays out its target directory in another way");
    let run = script.out_dir.parent().ok_or_else(unknown)?;
    let made = script.program.parent().ok_or_else(unknown)?;
    let units = run.parent().filter(|units| units.ends_with(UNITS)).ok_or_else(unknown)?;
    let profile = units.parent().ok_or_else(unknown)?;
    let target_dir = profile.parent().filter(|_| made.parent() == Some(units));
    let target_dir = target_dir.ok_or_else(unknown)?;
    let name = |path: &Path| path.file_name().map(ToOwned::to_owned).ok_or_else(unknown);
    // Without it cargo asks the compiler once more.
    let _ = fs::copy(target_dir.join(RUSTC_INFO), mirror.join(RUSTC_INFO));
    let mirrored = mirror.join(name(profile)?);
    link_all(profile, &mirrored, |entry| {
        NOT_MIRRORED.iter().any(|name| entry == *name) || entry == FINGERPRINTS || entry == UNITS
    })?;
    // Cargo notes here that what depends on the script is not fresh.
    let unit = name(run)?;
    copy_all(&profile.join(FINGERPRINTS), &mirrored.join(FINGERPRINTS), &unit)?;
    let units_mirrored = mirrored.join(UNITS);
    let (run_name, made_name) = (name(run)?, name(made)?);
    link_all(units, &units_mirrored, |entry| entry == run_name || entry == made_name)?;
    let is_program = {
        let program = fs::metadata(&script.program)?;
        move |path: &Path| {
            let same =
                |file: fs::Metadata| (file.dev(), file.ino()) == (program.dev(), program.ino());
            fs::metadata(path).is_ok_and(same)
        }
    };
    let made_mirrored = units_mirrored.join(&made_name);
    link_all(made, &made_mirrored, |entry| is_program(&made.join(entry)))?;
    for entry in fs::read_dir(made)? {
        let (entry, file) = (entry?, made_mirrored.clone());
        if is_program(&entry.path()) {
            let file = file.join(entry.file_name());
            fs::write(&file, format!("#!{}\n", hook.script().display()))?;
            fs::set_permissions(&file, fs::Permissions::from_mode(0o755))?;
            keep_time(&entry.path(), &file)?;
        }
    }
    Ok(units_mirrored.join(run_name))
}

/// Makes a folder with links to the entries of another one, except for some.
fn link_all(folder: &Path, mirror: &Path, is_left_out: impl Fn(&OsStr) -> bool) -> io::Result<()> {
    fs::create_dir(mirror)?;
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        if !is_left_out(&entry.file_name()) {
            symlink(entry.path(), mirror.join(entry.file_name()))?;
        }
    }
    Ok(())
}

/// Copies a folder of folders with files, as old as they are, except for the folder of one name.
fn copy_all(folder: &Path, mirror: &Path, left_out: &OsStr) -> io::Result<()> {
    fs::create_dir(mirror)?;
    for unit in fs::read_dir(folder)? {
        let unit = unit?;
        if unit.file_name() == left_out {
            continue;
        }
        let copy = mirror.join(unit.file_name());
        fs::create_dir(&copy)?;
        for file in fs::read_dir(unit.path())? {
            let file = file?;
            let to = copy.join(file.file_name());
            fs::copy(file.path(), &to)?;
            keep_time(&file.path(), &to)?;
        }
    }
    Ok(())
}

/// Makes a file as old as another one.
fn keep_time(of: &Path, file: &Path) -> io::Result<()> {
    let modified = fs::metadata(of)?.modified()?;
    File::options().append(true).open(file)?.set_times(FileTimes::new().set_modified(modified))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_script_has_linked_is_its_own_or_unknown() {
        let dir = tempfile::tempdir().unwrap();
        let out_dir = dir.path().join("out");
        fs::create_dir_all(out_dir.join("lib")).unwrap();
        fs::write(out_dir.join("lib/libown.a"), "").unwrap();
        let own = format!("cargo:rustc-link-search=native={}/lib\n", out_dir.display());
        let others = |text: &str| links_others(format!("{own}{text}\n").as_bytes(), &out_dir);
        for text in ["", "cargo:rustc-link-lib=static=own", "cargo::rustc-link-lib=own:renamed"] {
            assert!(!others(text), "{text}");
        }
        for text in [
            "cargo:rustc-link-lib=ssl",
            "cargo:rustc-link-lib=static:+whole-archive=z",
            "cargo:rustc-link-search=/usr/lib",
            "cargo:rustc-link-search=framework=/usr/lib",
            "cargo:rustc-link-arg-bin=x=/w/x.o",
            "cargo::rustc-flags=-l ssl",
        ] {
            assert!(others(text), "{text}");
        }
    }
}
