//! Runs one child to its end: output is streamed, time is limited, and the run can be cancelled.

use std::io::{self, Read as _};
use std::os::unix::process::ExitStatusExt as _;
use std::process::ExitStatus;
use std::sync::mpsc;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal};
use tokio::io::{AsyncRead, AsyncReadExt as _};
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use super::suspend::Suspension;
use super::tree::signal_tree;
use super::{SpawnError, Spec};
use crate::model::End;

/// How long a child may take to end after `SIGTERM` before it is killed.
const TERMINATION_WAIT: Duration = Duration::from_millis(500);
/// The pause before a program that is still open for writing is tried again.
const BUSY_PAUSE: Duration = Duration::from_millis(5);
/// How often such a program is tried again.
const BUSY_RETRIES: u32 = 40;
/// How long we read on after the child has ended. A process that it left behind can hold the pipe
/// for ever.
pub(super) const DRAIN_WAIT: Duration = Duration::from_millis(200);
/// How much is read after the child has ended and [`DRAIN_WAIT`] is over. No pipe holds this much:
/// the rest comes from a process that the child left behind and that may never stop writing.
const MAX_DRAINED: usize = 4 * 1024 * 1024;

/// Which of the child's two streams.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stream {
    /// Standard output.
    Out,
    /// Standard error.
    Err,
}

/// How a child ended, and how long it ran.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Completion {
    /// Exit status, signal, time-out or cancellation.
    pub end: End,
    /// From start to end.
    pub elapsed: Duration,
}

/// A finished child and everything it printed.
#[derive(Clone, Debug)]
pub struct Output {
    /// How it ended.
    pub end: End,
    /// Standard output.
    pub stdout: Vec<u8>,
    /// Standard error.
    pub stderr: Vec<u8>,
}

impl Output {
    /// Whether it exited with status 0.
    #[must_use]
    pub fn success(&self) -> bool {
        self.end == End::Exit(0)
    }
}

/// Runs `spec` to its end and passes every piece of output to `sink` as it comes.
///
/// When `cancel` fires, `timeout` passes or the future is dropped, the whole process tree is ended:
/// by `SIGTERM` first, by `SIGKILL` half a second later. It must be awaited on a thread that lives
/// as long as the process: where there is no guardian, children die with the thread that started them.
///
/// # Errors
/// Only if the program cannot be started.
pub(crate) async fn run(
    spec: &Spec,
    cancel: &CancellationToken,
    timeout: Option<Duration>,
    mut sink: impl FnMut(Stream, &[u8]),
) -> Result<Completion, SpawnError> {
    let started = Instant::now();
    let mut command = tokio::process::Command::from(spec.command()?);
    let mut tries = BUSY_RETRIES;
    let mut child = loop {
        match command.spawn() {
            Err(error) if is_busy(&error) && tries > 0 => tries -= 1,
            result => break result.map_err(|error| spec.error(error))?,
        }
        sleep(BUSY_PAUSE).await;
    };
    let leader = child.id().and_then(|id| Pid::from_raw(id.cast_signed()));
    let mut tree = Tree(leader);
    let mut out = Pipe::new(child.stdout.take());
    let mut err = Pipe::new(child.stderr.take());

    let mut asked_to_end: Option<End> = None;
    let mut deadline = Box::pin(async {
        match timeout {
            Some(limit) => sleep(limit).await,
            None => std::future::pending().await,
        }
    });
    let mut kill_at = Box::pin(sleep(Duration::MAX));
    let mut suspension = spec.suspender.subscribe(child.id());
    let status = loop {
        tokio::select! {
            biased;
            () = cancel.cancelled(), if asked_to_end.is_none() => {
                asked_to_end = Some(End::Cancelled);
                tree.ask_to_end(&suspension);
                kill_at = Box::pin(sleep(TERMINATION_WAIT));
            }
            () = &mut deadline, if asked_to_end.is_none() => {
                asked_to_end = Some(End::TimedOut);
                tree.ask_to_end(&suspension);
                kill_at = Box::pin(sleep(TERMINATION_WAIT));
            }
            signal = suspension.next_signal(), if asked_to_end.is_none() => tree.signal(signal),
            () = &mut kill_at, if asked_to_end.is_some() => {
                tree.signal(Signal::KILL);
                kill_at = Box::pin(sleep(TERMINATION_WAIT));
            }
            // Before the pipes: a process that the child left behind may keep them full for ever.
            status = child.wait() => break status,
            piece = out.read() => sink(Stream::Out, piece),
            piece = err.read() => sink(Stream::Err, piece),
        }
    };
    let elapsed = started.elapsed();
    let mut drained = Box::pin(sleep(DRAIN_WAIT));
    let mut left = 0;
    while (out.is_open() || err.is_open()) && !(left > MAX_DRAINED && drained.is_elapsed()) {
        tokio::select! {
            biased;
            piece = out.read() => { left += piece.len(); sink(Stream::Out, piece); }
            piece = err.read() => { left += piece.len(); sink(Stream::Err, piece); }
            () = &mut drained => break,
        }
    }
    if asked_to_end.is_some() {
        tree.signal(Signal::KILL);
    }
    tree.disarm();
    let end = match (asked_to_end, status) {
        (Some(end), _) => end,
        (None, Ok(status)) => end_of(status),
        (None, Err(error)) => return Err(spec.error(error)),
    };
    Ok(Completion { end, elapsed })
}

/// Whether the program is open for writing. A program that was just written is, for a moment, if
/// another thread of its writer forked meanwhile.
pub(super) fn is_busy(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::ExecutableFileBusy
}

/// Runs a short query (`rustc -vV`, `git ls-files`) on this thread and returns everything it
/// prints. A query that takes longer than `limit` is killed.
///
/// # Errors
/// Only if the program cannot be started.
pub fn capture(spec: &Spec, limit: Duration) -> Result<Output, SpawnError> {
    let mut command = spec.command()?;
    let mut tries = BUSY_RETRIES;
    let mut child = loop {
        match command.spawn() {
            Err(error) if is_busy(&error) && tries > 0 => tries -= 1,
            result => break result.map_err(|error| spec.error(error))?,
        }
        #[expect(clippy::disallowed_methods, reason = "nothing tells when the file is closed")]
        std::thread::sleep(BUSY_PAUSE);
    };
    let mut tree = Tree(Pid::from_raw(child.id().cast_signed()));
    let (send, receive) = mpsc::channel();
    for (stream, mut pipe) in [
        (Stream::Out, child.stdout.take().map(|p| Box::new(p) as Box<dyn io::Read + Send>)),
        (Stream::Err, child.stderr.take().map(|p| Box::new(p) as Box<dyn io::Read + Send>)),
    ] {
        let send = send.clone();
        std::thread::spawn(move || {
            let mut bytes = Vec::new();
            if let Some(pipe) = &mut pipe {
                let _ = pipe.read_to_end(&mut bytes);
            }
            let _ = send.send((stream, bytes));
        });
    }
    let deadline = Instant::now() + limit;
    let (mut stdout, mut stderr, mut timed_out) = (Vec::new(), Vec::new(), false);
    for _ in 0..2 {
        match receive.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
            Ok((Stream::Out, bytes)) => stdout = bytes,
            Ok((Stream::Err, bytes)) => stderr = bytes,
            Err(_) => {
                timed_out = true;
                tree.signal(Signal::KILL);
                break;
            }
        }
    }
    let status = child.wait().map_err(|error| spec.error(error))?;
    tree.disarm();
    let end = if timed_out { End::TimedOut } else { end_of(status) };
    Ok(Output { end, stdout, stderr })
}

/// The process tree that a child leads. It is killed if this value is dropped while armed.
struct Tree(Option<Pid>);

impl Tree {
    fn signal(&self, signal: Signal) {
        if let Some(leader) = self.0 {
            signal_tree(leader, signal);
        }
    }

    /// Sends `SIGTERM`, and resumes a suspended tree so that it can react.
    fn ask_to_end(&self, suspension: &Suspension) {
        self.signal(Signal::TERM);
        if suspension.is_suspended() {
            self.signal(Signal::CONT);
        }
    }

    /// Forgets the leader, which has been reaped: another process may get its number.
    fn disarm(&mut self) {
        if let Some(leader) = self.0.take() {
            #[cfg(target_os = "linux")]
            super::guardian::forget(leader);
            #[cfg(not(target_os = "linux"))]
            let _ = leader;
        }
    }
}

impl Drop for Tree {
    fn drop(&mut self) {
        self.signal(Signal::KILL);
        self.disarm();
    }
}

/// One of the child's pipes. `read` never returns once the pipe is closed.
struct Pipe<R> {
    reader: Option<R>,
    buffer: Box<[u8]>,
}

impl<R: AsyncRead + Unpin> Pipe<R> {
    fn new(reader: Option<R>) -> Self {
        Self { reader, buffer: vec![0; 64 * 1024].into_boxed_slice() }
    }

    fn is_open(&self) -> bool {
        self.reader.is_some()
    }

    async fn read(&mut self) -> &[u8] {
        let Some(reader) = &mut self.reader else { return std::future::pending().await };
        let count = reader.read(&mut self.buffer).await.unwrap_or(0);
        if count == 0 {
            self.reader = None;
        }
        &self.buffer[..count]
    }
}

fn end_of(status: ExitStatus) -> End {
    match (status.code(), status.signal()) {
        (Some(code), _) => End::Exit(code),
        (None, signal) => End::Signal(signal.unwrap_or(0)),
    }
}
