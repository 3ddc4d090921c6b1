//! Child processes: each in a group of its own, with an explicit folder and environment, ended
//! as a whole, and never outliving the process that started it.
//!
//! The only place that may create a `Command`. Nothing here knows what it runs.

mod brake;
mod environment;
#[cfg(target_os = "linux")]
mod in_place;
mod run;
mod tree;

pub use brake::Brake;
pub use environment::Environment;
#[cfg(target_os = "linux")]
pub use in_place::{Held, InPlace, end_as, hold_signals, run_in_place};
pub use run::{Finished, Output, Stream, capture, run};
pub use tree::descendants;

use std::ffi::{OsStr, OsString};
use std::fmt;
use std::io;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// How much of the machine a child may take.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Priority {
    /// As the process that starts it: someone is waiting.
    #[default]
    Foreground,
    /// Nobody is waiting: what the machine would else leave idle, of processors and of input and
    /// output.
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
    brake: Brake,
    before_exec: Option<Hook>,
}

/// What the child does last before it becomes the program.
#[derive(Clone)]
struct Hook(Arc<dyn Fn() -> io::Result<()> + Send + Sync>);

impl fmt::Debug for Hook {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Hook")
    }
}

/// A program could not be started.
#[derive(Debug, thiserror::Error)]
#[error("cannot start `{}` in `{}`: {source}", program.display(), dir.display())]
pub struct SpawnError {
    /// The program as it was asked for.
    pub program: PathBuf,
    /// The folder in which it was to run.
    pub dir: PathBuf,
    /// What the system said.
    pub source: io::Error,
}

impl Spec {
    /// Runs `program` in `dir` with exactly `environment`. A program without a slash is looked
    /// for in that environment's `PATH`, not in ours.
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
            brake: Brake::default(),
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
    pub fn priority(mut self, priority: Priority) -> Self {
        self.priority = priority;
        self
    }

    /// Has the child, under [`run()`], stand still while this brake is on.
    #[must_use]
    pub fn brake(mut self, brake: &Brake) -> Self {
        self.brake = brake.clone();
        self
    }

    /// Has the child call `hook` last before it becomes the program, in its folder and its group.
    /// An error of the hook is an error of the start. One hook; a second one replaces the first.
    ///
    /// # Safety
    /// The hook runs between fork and exec of a process that may have had other threads: it must
    /// not allocate, lock, panic, or call anything that is not async-signal-safe.
    #[expect(unsafe_code, reason = "code between fork and exec is bound to rules of its own")]
    #[must_use]
    pub unsafe fn before_exec(
        mut self,
        hook: impl Fn() -> io::Result<()> + Send + Sync + 'static,
    ) -> Self {
        self.before_exec = Some(Hook(Arc::new(hook)));
        self
    }

    /// The program that is run.
    #[must_use]
    pub fn program(&self) -> &Path {
        &self.program
    }

    /// The command line as a person would type it, for messages.
    #[must_use]
    pub fn command_line(&self) -> String {
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

    /// The command, in a process group of its own that dies with us.
    fn command(&self) -> Result<std::process::Command, SpawnError> {
        let mut command = self.command_in_place()?;
        command
            .process_group(0)
            .stdin(std::process::Stdio::null())
            .stderr(std::process::Stdio::piped());
        Ok(command)
    }

    /// The command in our own group, with our standard input and error, which dies with us.
    #[expect(clippy::disallowed_methods, reason = "the one place that creates commands")]
    fn command_in_place(&self) -> Result<std::process::Command, SpawnError> {
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
        prepare(&mut command, self.priority, self.before_exec.clone());
        Ok(command)
    }

    fn error(&self, source: io::Error) -> SpawnError {
        SpawnError { program: self.program.clone(), dir: self.dir.clone(), source }
    }
}

/// Becomes `program`: same process, environment, folder and streams. Returns only if that fails.
#[expect(clippy::disallowed_methods, reason = "the one place that creates commands")]
pub fn become_program(program: &Path, args: impl IntoIterator<Item = OsString>) -> SpawnError {
    let source = std::process::Command::new(program).args(args).exec();
    let dir = std::env::current_dir().unwrap_or_default();
    SpawnError { program: program.to_owned(), dir, source }
}

/// Gives memory back to the system that was only needed for a while; where the allocator keeps it,
/// a daemon would hold for ever what its start took.
#[cfg_attr(
    all(target_os = "linux", target_env = "gnu"),
    expect(unsafe_code, reason = "the allocator's own call for this")
)]
pub fn trim_memory() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    // SAFETY: it takes no pointer and may be called at any time from any thread.
    unsafe {
        libc::malloc_trim(0);
    }
}

/// Lets everybody else go first before what this thread does from here on. On Linux and macOS it is
/// the thread's own matter; elsewhere nothing happens.
#[cfg_attr(target_os = "macos", expect(unsafe_code, reason = "the system's own call for this"))]
pub fn step_back() {
    // The number 0 is this thread's there, whatever POSIX says of processes.
    #[cfg(target_os = "linux")]
    let _ = rustix::process::setpriority_process(None, 19);
    // SAFETY: it takes no pointer.
    #[cfg(target_os = "macos")]
    unsafe {
        libc::setpriority(libc::PRIO_DARWIN_THREAD, 0, libc::PRIO_DARWIN_BG);
    }
}

/// What happens in the child between fork and exec.
#[expect(unsafe_code, reason = "pre_exec is the kernel's own interface for this")]
fn prepare(command: &mut std::process::Command, priority: Priority, last: Option<Hook>) {
    let background = priority == Priority::Background;
    // SAFETY: the closure runs between fork and exec and makes system calls only: no
    // allocation, no lock, nothing of the parent's state. The hook's author promised the same.
    unsafe {
        command.pre_exec(move || {
            #[cfg(target_os = "linux")]
            {
                // The thread that spawns is the main thread of a current-thread runtime, so the
                // death of the thread is the death of the process.
                libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL);
            }
            if background {
                libc::setpriority(libc::PRIO_PROCESS, 0, 19);
                // Slow cores, throttled input and output; what the child starts inherits it.
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
            last.as_ref().map_or(Ok(()), |hook| (hook.0)())
        });
    }
}
