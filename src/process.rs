//! Child processes. Each child leads a process group of its own, is given its folder and
//! environment explicitly, is ended together with everything it started, and never outlives us.
//!
//! This is the only module that may create a `Command`. It knows nothing about what it runs.

mod environment;
#[cfg(target_os = "linux")]
mod foreground;
#[cfg(target_os = "linux")]
mod guardian;
mod run;
mod suspend;
#[cfg(test)]
mod tests;
mod tree;
mod writable;

pub use environment::Environment;
#[cfg(target_os = "linux")]
pub(crate) use foreground::{
    ForegroundRun, Recording, block_signals, end_as, is_one_terminal, run_in_foreground,
};
#[cfg(target_os = "linux")]
pub(crate) use guardian::{share_listener, withdraw_listener};
pub(crate) use run::{Completion, Stream, run};
pub use run::{Output, capture};
pub use suspend::Suspender;
pub use tree::descendants;
pub(crate) use writable::WritableFolders;

use std::ffi::{OsStr, OsString};
use std::fmt;
use std::io;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// How much of the machine a child may take.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Priority {
    /// The priority of the process that starts the child: somebody waits for the result.
    #[default]
    Foreground,
    /// Only the processor time and disk bandwidth that nothing else uses.
    Background,
}

/// What to run: program, arguments, folder and environment, all explicit.
#[derive(Clone, Debug)]
pub struct Spec {
    program: PathBuf,
    args: Vec<OsString>,
    dir: PathBuf,
    environment: Environment,
    priority: Priority,
    suspender: Suspender,
    writable: Option<WritableFolders>,
    before_exec: Option<PreExecHook>,
}

/// A function that the child calls last before `exec`.
#[derive(Clone)]
struct PreExecHook(Arc<dyn Fn() -> io::Result<()> + Send + Sync>);

impl fmt::Debug for PreExecHook {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PreExecHook")
    }
}

/// A program could not be started.
#[derive(Debug, thiserror::Error)]
#[error("cannot start `{}` in `{}`: {source}", program.display(), dir.display())]
pub struct SpawnError {
    /// The program as the caller named it.
    pub program: PathBuf,
    /// The folder in which it was to run.
    pub dir: PathBuf,
    /// The system's error.
    pub source: io::Error,
}

impl Spec {
    /// Describes a run of `program` in `dir` with exactly `environment`. A program name without a
    /// slash is looked up in that environment's `PATH`, not in ours.
    pub fn new(
        program: impl Into<PathBuf>,
        dir: impl Into<PathBuf>,
        environment: Environment,
    ) -> Self {
        Self {
            program: program.into(),
            args: Vec::new(),
            dir: dir.into(),
            environment,
            priority: Priority::Foreground,
            suspender: Suspender::default(),
            writable: None,
            before_exec: None,
        }
    }

    /// Adds one argument.
    #[must_use]
    pub fn arg(mut self, arg: impl AsRef<OsStr>) -> Self {
        self.args.push(arg.as_ref().to_owned());
        self
    }

    /// Adds several arguments.
    #[must_use]
    pub fn args<S: AsRef<OsStr>>(mut self, args: impl IntoIterator<Item = S>) -> Self {
        self.args.extend(args.into_iter().map(|arg| arg.as_ref().to_owned()));
        self
    }

    /// Sets the priority.
    #[must_use]
    pub(crate) fn priority(mut self, priority: Priority) -> Self {
        self.priority = priority;
        self
    }

    /// Lets `suspender` suspend and resume the child while [`run()`] runs it.
    #[must_use]
    pub(crate) fn suspender(mut self, suspender: &Suspender) -> Self {
        self.suspender = suspender.clone();
        self
    }

    /// Lets the child, and everything that it starts, write in these folders only.
    #[must_use]
    pub(crate) fn writes_only_in(mut self, folders: &WritableFolders) -> Self {
        self.writable = Some(folders.clone());
        self
    }

    /// Makes the child call `hook` last before `exec`, in its folder and its group. If the hook
    /// fails, the start fails. There is one hook: a second one replaces the first.
    ///
    /// # Safety
    /// The hook runs between fork and exec of a process that may have had other threads: it must
    /// not allocate, lock, panic, or call anything that is not async-signal-safe.
    #[expect(unsafe_code, reason = "code between fork and exec is bound to rules of its own")]
    #[must_use]
    pub(crate) unsafe fn before_exec(
        mut self,
        hook: impl Fn() -> io::Result<()> + Send + Sync + 'static,
    ) -> Self {
        self.before_exec = Some(PreExecHook(Arc::new(hook)));
        self
    }

    /// The command line as a person would type it, for messages.
    #[must_use]
    pub(crate) fn command_line(&self) -> String {
        let quote = |word: &OsStr| {
            let word = word.to_string_lossy();
            let plain = |c: char| c.is_alphanumeric() || "-_=./,:@%+".contains(c);
            if !word.is_empty() && word.chars().all(plain) {
                word.into_owned()
            } else {
                format!("'{}'", word.replace('\'', r"'\''"))
            }
        };
        std::iter::once(self.program.as_os_str())
            .chain(self.args.iter().map(OsString::as_os_str))
            .map(quote)
            .collect::<Vec<_>>()
            .join(" ")
    }

    /// The command, in a process group of its own, which dies with us.
    fn command(&self) -> Result<std::process::Command, SpawnError> {
        let mut command = self.bare_command()?;
        command
            .process_group(0)
            .stdin(std::process::Stdio::null())
            .stderr(std::process::Stdio::piped());
        prepare(&mut command, self, true);
        Ok(command)
    }

    /// The command in our own group, with our standard input and error, which dies with us.
    #[cfg(target_os = "linux")]
    fn command_in_place(&self) -> Result<std::process::Command, SpawnError> {
        let mut command = self.bare_command()?;
        prepare(&mut command, self, false);
        Ok(command)
    }

    /// The command before anything is added that depends on its group.
    #[expect(clippy::disallowed_methods, reason = "the one place that creates commands")]
    fn bare_command(&self) -> Result<std::process::Command, SpawnError> {
        let program = if self.program.components().count() > 1 || self.program.is_absolute() {
            self.program.clone()
        } else {
            self.environment.find_program(&self.program, &self.dir).ok_or_else(|| {
                self.error(io::Error::new(io::ErrorKind::NotFound, "not found in PATH"))
            })?
        };
        let mut command = std::process::Command::new(program);
        command
            .args(&self.args)
            .current_dir(&self.dir)
            .env_clear()
            .envs(self.environment.iter())
            .stdout(std::process::Stdio::piped());
        Ok(command)
    }

    fn error(&self, source: io::Error) -> SpawnError {
        SpawnError { program: self.program.clone(), dir: self.dir.clone(), source }
    }
}

/// Starts a program that outlives us: in a session of its own, without our terminal and our open
/// files. It writes both its streams to `log`.
///
/// # Errors
/// If it cannot be started.
#[expect(unsafe_code, reason = "pre_exec is the kernel's own interface for this")]
pub(crate) fn spawn_detached(
    spec: &Spec,
    log: std::fs::File,
) -> Result<std::process::Child, SpawnError> {
    let mut command = spec.bare_command()?;
    let streams = log.try_clone().map_err(|error| spec.error(error))?;
    command.stdin(std::process::Stdio::null()).stdout(streams).stderr(log);
    // SAFETY: the closure runs between fork and exec and makes system calls only.
    unsafe {
        command.pre_exec(|| {
            libc::setsid();
            // A program that waits for the end of a pipe of our caller must not wait for this process.
            #[cfg(target_os = "linux")]
            libc::syscall(libc::SYS_close_range, 3, u32::MAX, libc::CLOSE_RANGE_CLOEXEC);
            Ok(())
        });
    }
    command.spawn().map_err(|error| spec.error(error))
}

/// Runs a program of the user's to its end at our terminal: with our streams, in our group. It does
/// not die with us: an editor has what the user typed.
///
/// # Errors
/// If it cannot be started.
pub(crate) fn run_at_terminal(spec: &Spec) -> Result<std::process::ExitStatus, SpawnError> {
    let mut command = spec.bare_command()?;
    command.stdout(std::process::Stdio::inherit());
    command.status().map_err(|error| spec.error(error))
}

/// Becomes `program`: same process, environment, folder and streams. Returns only if that fails.
#[expect(clippy::disallowed_methods, reason = "the one place that creates commands")]
pub(crate) fn become_program(
    program: &Path,
    args: impl IntoIterator<Item = OsString>,
) -> SpawnError {
    let source = std::process::Command::new(program).args(args).exec();
    let dir = std::env::current_dir().unwrap_or_default();
    SpawnError { program: program.to_owned(), dir, source }
}

/// Returns unused memory to the system. Otherwise the allocator keeps for ever the peak that a
/// daemon's start needed.
#[cfg_attr(
    all(target_os = "linux", target_env = "gnu"),
    expect(unsafe_code, reason = "the allocator's own call for this")
)]
pub(crate) fn trim_memory() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    // SAFETY: it takes no pointer and may be called at any time from any thread.
    unsafe {
        libc::malloc_trim(0);
    }
}

/// Lowers the priority of the calling thread, on Linux and macOS. Elsewhere it does nothing.
#[cfg_attr(target_os = "macos", expect(unsafe_code, reason = "the system's own call for this"))]
pub(crate) fn lower_thread_priority() {
    // On Linux the number 0 means this thread, although POSIX says process.
    #[cfg(target_os = "linux")]
    let _ = rustix::process::setpriority_process(None, 19);
    // SAFETY: it takes no pointer.
    #[cfg(target_os = "macos")]
    unsafe {
        libc::setpriority(libc::PRIO_DARWIN_THREAD, 0, libc::PRIO_DARWIN_BG);
    }
}

/// Adds what the child does between fork and exec.
#[expect(unsafe_code, reason = "pre_exec is the kernel's own interface for this")]
fn prepare(command: &mut std::process::Command, spec: &Spec, leads_group: bool) {
    let background = spec.priority == Priority::Background;
    let last = spec.before_exec.clone();
    let writable = spec.writable.clone();
    #[cfg(target_os = "linux")]
    let (guardian, parent) = (guardian::socket(), std::process::id());
    #[cfg(not(target_os = "linux"))]
    let _ = leads_group;
    // SAFETY: the closure runs between fork and exec and makes system calls only: no
    // allocation, no lock, nothing of the parent's state. The hook's author promised the same.
    unsafe {
        command.pre_exec(move || {
            #[cfg(target_os = "linux")]
            {
                // The kernel kills the child alone, and when the thread dies that started it. Until it
                // has announced itself it has our end of the guardian's socket open, so that the guardian
                // cannot know of our death as long as it waits for us.
                libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL);
                if libc::getppid().cast_unsigned() != parent {
                    libc::_exit(1);
                }
            }
            if background {
                libc::setpriority(libc::PRIO_PROCESS, 0, 19);
                // Slow cores and throttled input and output. The child's children inherit it.
                #[cfg(target_os = "macos")]
                libc::setpriority(libc::PRIO_DARWIN_PROCESS, 0, libc::PRIO_DARWIN_BG);
                #[cfg(target_os = "linux")]
                {
                    const IOPRIO_WHO_PROCESS: libc::c_int = 1;
                    const IOPRIO_CLASS_IDLE: libc::c_int = 3 << 13;
                    libc::syscall(libc::SYS_ioprio_set, IOPRIO_WHO_PROCESS, 0, IOPRIO_CLASS_IDLE);
                    let none = libc::sched_param { sched_priority: 0 };
                    libc::sched_setscheduler(0, libc::SCHED_IDLE, &raw const none);
                }
            }
            // Before a hook has every later call observed.
            writable.as_ref().map_or(Ok(()), WritableFolders::enter)?;
            last.as_ref().map_or(Ok(()), |hook| (hook.0)())?;
            #[cfg(target_os = "linux")]
            if guardian.is_some_and(|socket| guardian::announce(socket, leads_group)) {
                libc::prctl(libc::PR_SET_PDEATHSIG, 0);
            }
            Ok(())
        });
    }
}
