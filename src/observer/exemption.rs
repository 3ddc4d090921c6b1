//! Programs whose look-ups below some folders are not recorded, because the caller records what they
//! were asked and answered.

use std::ffi::OsString;
use std::fmt;
use std::os::unix::ffi::OsStringExt as _;
use std::path::PathBuf;
use std::sync::Arc;

use crate::process::Environment;

/// A program that a process of the run has become.
#[derive(Clone, Debug)]
pub(crate) struct ExecutedProgram {
    /// The file, without symlinks.
    pub(crate) file: PathBuf,
    /// All its arguments, its name first.
    pub(crate) args: Vec<OsString>,
    pub(crate) dir: PathBuf,
    pub(crate) environment: Environment,
}

type Decide = dyn Fn(&ExecutedProgram) -> Option<Vec<PathBuf>> + Send + Sync;

/// Decides about each program that starts: the folders, without symlinks, whose look-ups by this very
/// process count no more; `None` for almost every program.
#[derive(Clone)]
pub(crate) struct Exemption(Arc<Decide>);

impl Exemption {
    pub(crate) fn new(
        decide: impl Fn(&ExecutedProgram) -> Option<Vec<PathBuf>> + Send + Sync + 'static,
    ) -> Self {
        Self(Arc::new(decide))
    }

    pub(super) fn of(&self, thread: i32) -> Option<ExemptProcess> {
        let started = ExecutedProgram::of(thread)?;
        let folders = (self.0)(&started)?.into_iter();
        let folders = folders.map(|folder| folder.into_os_string().into_vec()).collect();
        Some(ExemptProcess { file: started.file, folders })
    }
}

impl fmt::Debug for Exemption {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Exemption")
    }
}

/// A process that was exempted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct ExemptProcess {
    file: PathBuf,
    folders: Vec<Vec<u8>>,
}

impl ExemptProcess {
    /// The folders, while the process is still that program.
    pub(super) fn folders(&self, thread: i32) -> Option<&[Vec<u8>]> {
        (file_of(thread)? == self.file).then_some(&self.folders)
    }
}

/// The program that a process is.
fn file_of(thread: i32) -> Option<PathBuf> {
    std::fs::read_link(format!("/proc/{thread}/exe")).ok()
}

impl ExecutedProgram {
    fn of(thread: i32) -> Option<Self> {
        let list = |name: &str| {
            let text = std::fs::read(format!("/proc/{thread}/{name}")).ok()?;
            let text = text.strip_suffix(b"\0").unwrap_or(&text).to_vec();
            let parts = text.split(|byte| *byte == 0).map(<[u8]>::to_vec);
            Some(parts.map(OsString::from_vec).collect::<Vec<_>>())
        };
        let pair = |text: OsString| {
            let text = text.into_vec();
            let end = text.iter().position(|byte| *byte == b'=')?;
            let (name, value) = (text[..end].to_vec(), text[end + 1..].to_vec());
            Some((OsString::from_vec(name), OsString::from_vec(value)))
        };
        Some(Self {
            file: file_of(thread)?,
            args: list("cmdline")?,
            dir: std::fs::read_link(format!("/proc/{thread}/cwd")).ok()?,
            environment: list("environ")?.into_iter().map(pair).collect::<Option<_>>()?,
        })
    }
}
