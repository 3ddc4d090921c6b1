//! Running one child to its end: streaming its output, bounded in time, cancellable.

use std::io::{self, Read as _};
use std::os::unix::process::ExitStatusExt as _;
use std::process::ExitStatus;
use std::sync::mpsc;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal};
use tokio::io::{AsyncRead, AsyncReadExt as _};
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use super::brake::Braked;
use super::tree::signal_tree;
use super::{SpawnError, Spec};
use crate::model::End;

/// How long a tree that was asked to end may take before it is killed.
const GRACE: Duration = Duration::from_millis(500);
/// How long, and how often, to wait for a program that somebody still writes.
const BUSY_PAUSE: Duration = Duration::from_millis(5);
const BUSY_TRIES: u32 = 40;
/// How long a pipe may stay open after the child itself has ended: a process that it left behind
/// can hold it for ever.
const DRAIN: Duration = Duration::from_millis(200);
/// More than any pipe holds. What comes beyond this once the child has ended (and [`DRAIN`] is
/// over) was written by a process that it left behind, perhaps without end.
const PIPES: usize = 4 * 1024 * 1024;

/// Which of the child's two streams.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stream {
    /// Standard output.
    Out,
    /// Standard error.
    Err,
}

/// How a child ended, and when.
#[derive(Clone, Copy, Debug)]
pub struct Finished {
    /// Exit status, signal, time-out or cancellation.
    pub end: End,
    /// From start to end.
    pub elapsed: Duration,
}

/// A finished child and all that it printed.
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

/// Runs `spec` to its end and hands every piece of output to `sink` as it comes.
///
/// When `cancel` fires, `timeout` passes or the future is dropped, the whole tree is ended: asked
/// first, killed after a moment. Must be awaited on the thread that lives as long as the process
/// (see `Spec`): children die with the thread that started them.
///
/// # Errors
/// Only if the program cannot be started.
pub async fn run(
    spec: &Spec,
    cancel: &CancellationToken,
    timeout: Option<Duration>,
    mut sink: impl FnMut(Stream, &[u8]),
) -> Result<Finished, SpawnError> {
    let started = Instant::now();
    let mut command = tokio::process::Command::from(spec.command()?);
    let mut tries = BUSY_TRIES;
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
    let mut braked = spec.brake.follow();
    let status = loop {
        tokio::select! {
            biased;
            () = cancel.cancelled(), if asked_to_end.is_none() => {
                asked_to_end = Some(End::Cancelled);
                tree.ask_to_end(&braked);
                kill_at = Box::pin(sleep(GRACE));
            }
            () = &mut deadline, if asked_to_end.is_none() => {
                asked_to_end = Some(End::TimedOut);
                tree.ask_to_end(&braked);
                kill_at = Box::pin(sleep(GRACE));
            }
            signal = braked.order(), if asked_to_end.is_none() => tree.signal(signal),
            () = &mut kill_at, if asked_to_end.is_some() => {
                tree.signal(Signal::KILL);
                kill_at = Box::pin(sleep(GRACE));
            }
            // Before the pipes: a process that it left behind may keep them full for ever.
            status = child.wait() => break status,
            piece = out.read() => sink(Stream::Out, piece),
            piece = err.read() => sink(Stream::Err, piece),
        }
    };
    let elapsed = started.elapsed();
    let mut drained = Box::pin(sleep(DRAIN));
    let mut left = 0;
    while (out.is_open() || err.is_open()) && !(left > PIPES && drained.is_elapsed()) {
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
    Ok(Finished { end, elapsed })
}

/// Whether somebody has the program open for writing. One that was only just made is, for a moment,
/// by whoever another thread of its maker was starting then.
fn is_busy(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::ExecutableFileBusy
}

/// Runs a short query (`rustc -vV`, `git ls-files`) to its end on this thread and keeps all that
/// it prints. Whatever it takes longer than `limit` for, it is ended.
///
/// # Errors
/// Only if the program cannot be started.
pub fn capture(spec: &Spec, limit: Duration) -> Result<Output, SpawnError> {
    let mut command = spec.command()?;
    let mut tries = BUSY_TRIES;
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

/// The tree that a child leads; killed if it is dropped while armed.
struct Tree(Option<Pid>);

impl Tree {
    fn signal(&self, signal: Signal) {
        if let Some(leader) = self.0 {
            signal_tree(leader, signal);
        }
    }

    /// Asks politely; what stands still has to go on to hear it.
    fn ask_to_end(&self, braked: &Braked) {
        self.signal(Signal::TERM);
        if braked.stands() {
            self.signal(Signal::CONT);
        }
    }

    /// The leader is reaped: its number may belong to someone else from here on.
    fn disarm(&mut self) {
        self.0 = None;
    }
}

impl Drop for Tree {
    fn drop(&mut self) {
        self.signal(Signal::KILL);
    }
}

/// One of the child's pipes; `read` never returns once it is closed.
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::process::{Environment, Priority, descendants};

    fn shell(script: &str) -> Spec {
        let mut environment = Environment::default();
        environment.set("PATH", "/usr/local/bin:/usr/bin:/bin");
        Spec::new("sh", "/", environment).args(["-c", script])
    }

    /// The process has been killed; the kernel may still be at it.
    async fn gone(pid: i32) {
        let gone = || {
            let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
            stat.is_empty() || stat.contains(") Z ") || stat.contains(") X ")
        };
        let ended = async {
            while !gone() {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(Duration::from_secs(20), ended).await.expect("it was killed");
    }

    #[tokio::test]
    async fn streams_both_outputs_and_tells_the_status() {
        let (mut out, mut err) = (Vec::new(), Vec::new());
        let finished = run(
            &shell("echo out; echo err >&2; exit 3"),
            &CancellationToken::new(),
            None,
            |stream, bytes| match stream {
                Stream::Out => out.extend_from_slice(bytes),
                Stream::Err => err.extend_from_slice(bytes),
            },
        )
        .await
        .unwrap();
        assert_eq!(finished.end, End::Exit(3));
        assert_eq!((&out[..], &err[..]), (&b"out\n"[..], &b"err\n"[..]));
    }

    #[test]
    fn a_program_that_is_still_being_written_is_waited_for_but_not_for_ever() {
        use std::io::Write as _;
        use std::os::unix::fs::OpenOptionsExt as _;
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("program");
        let mut options = std::fs::File::options();
        let mut file = options.create(true).write(true).mode(0o755).open(&path).unwrap();
        file.write_all(b"#!/bin/sh\nexit 0\n").unwrap();
        let spec = Spec::new(&path, "/", Environment::default());
        let error = capture(&spec, Duration::from_secs(20)).unwrap_err();
        assert!(is_busy(&error.source), "{error}");
        let writer = std::thread::spawn(move || drop(file));
        assert!(capture(&spec, Duration::from_secs(20)).unwrap().success());
        writer.join().unwrap();
    }

    #[tokio::test]
    async fn a_signal_is_told_apart_from_an_exit() {
        let finished =
            run(&shell("kill -ABRT $$"), &CancellationToken::new(), None, |_, _| {}).await.unwrap();
        assert_eq!(finished.end, End::Signal(libc::SIGABRT));
    }

    #[tokio::test]
    async fn the_time_limit_ends_even_what_ignores_a_polite_request() {
        let finished = run(
            &shell("trap '' TERM; while :; do sleep 1; done"),
            &CancellationToken::new(),
            Some(Duration::from_millis(50)),
            |_, _| {},
        )
        .await
        .unwrap();
        assert_eq!(finished.end, End::TimedOut);
    }

    #[tokio::test]
    async fn cancelling_ends_a_grandchild_that_left_the_group() {
        let cancel = CancellationToken::new();
        let mut seen = Vec::new();
        let finished =
            run(&shell("setsid sleep 1000 & echo $!; wait"), &cancel, None, |_, bytes| {
                seen.extend_from_slice(bytes);
                cancel.cancel();
            })
            .await
            .unwrap();
        assert_eq!(finished.end, End::Cancelled);
        let pid: i32 = String::from_utf8(seen).unwrap().trim().parse().unwrap();
        gone(pid).await;
    }

    #[tokio::test]
    async fn a_process_left_behind_with_the_pipe_does_not_hang_us() {
        let spec = shell("sleep 1000 & echo $!");
        let mut seen = Vec::new();
        let finished = tokio::time::timeout(
            Duration::from_secs(20),
            run(&spec, &CancellationToken::new(), None, |_, bytes| seen.extend_from_slice(bytes)),
        )
        .await
        .expect("bounded")
        .unwrap();
        assert_eq!(finished.end, End::Exit(0));
        let pid: i32 = String::from_utf8(seen).unwrap().trim().parse().unwrap();
        let _ = rustix::process::kill_process(Pid::from_raw(pid).unwrap(), Signal::KILL);
    }

    #[tokio::test]
    async fn a_process_left_behind_that_writes_without_end_does_not_hang_us() {
        let spec = shell("yes & echo $! >&2");
        let mut err = Vec::new();
        let finished = tokio::time::timeout(
            Duration::from_secs(20),
            run(&spec, &CancellationToken::new(), None, |stream, bytes| {
                if stream == Stream::Err {
                    err.extend_from_slice(bytes);
                }
            }),
        )
        .await
        .expect("bounded")
        .unwrap();
        assert_eq!(finished.end, End::Exit(0));
        // Our end of its pipe is closed, so that its next write ends it: nothing to kill.
        assert!(!err.is_empty());
    }

    #[tokio::test]
    async fn dropping_the_future_ends_the_tree() {
        let spec = shell("sleep 1000 & echo $!; wait");
        let (send, mut receive) = tokio::sync::mpsc::unbounded_channel();
        let cancel = CancellationToken::new();
        let mut running = Box::pin(run(&spec, &cancel, None, move |_, bytes| {
            let _ = send.send(String::from_utf8_lossy(bytes).into_owned());
        }));
        let pid = tokio::select! {
            _ = &mut running => panic!("it waits for ever"),
            pid = receive.recv() => pid.unwrap().trim().parse::<i32>().unwrap(),
        };
        drop(running);
        gone(pid).await;
    }

    /// What the kernel says of the priority of a process: nice value, scheduling policy, class of
    /// input and output.
    #[cfg(target_os = "linux")]
    #[expect(unsafe_code, reason = "the system call has no wrapper")]
    fn priority_of(pid: i32) -> (i64, i64, i64) {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
        // The third field of all follows the name in brackets.
        let fields: Vec<_> = stat.rsplit_once(')').unwrap().1.split_whitespace().collect();
        let field = |number: usize| fields[number - 3].parse().unwrap();
        // SAFETY: it takes no pointer.
        let io = unsafe { libc::syscall(libc::SYS_ioprio_get, 1, pid) };
        (field(19), field(41), io >> 13)
    }

    #[cfg(target_os = "linux")]
    #[tokio::test]
    async fn nobody_waits_for_the_background_and_it_waits_for_everybody() {
        const IDLE: (i64, i64, i64) = (19, libc::SCHED_IDLE as i64, 3);
        for (priority, idle) in [(Priority::Background, true), (Priority::Foreground, false)] {
            let cancel = CancellationToken::new();
            let mut seen = Vec::new();
            // The child's own child, as a compiler is cargo's.
            let spec = shell("sleep 1000 & echo $! $$; wait").priority(priority);
            let finished = run(&spec, &cancel, None, |_, bytes| {
                let pids = String::from_utf8_lossy(bytes);
                seen.extend(pids.split_whitespace().map(|pid| priority_of(pid.parse().unwrap())));
                cancel.cancel();
            });
            assert_eq!(finished.await.unwrap().end, End::Cancelled);
            assert_eq!(seen.len(), 2);
            // Our own may be anything, but nobody else's is idle in all three ways.
            assert!(seen.iter().all(|found| (*found == IDLE) == idle), "{priority:?}: {seen:?}");
        }
    }

    #[test]
    fn capture_is_bounded_and_keeps_the_output() {
        let output = capture(&shell("echo hi"), Duration::from_secs(20)).unwrap();
        assert!(output.success());
        assert_eq!(output.stdout, b"hi\n");
        let output = capture(&shell("sleep 1000"), Duration::from_millis(30)).unwrap();
        assert_eq!(output.end, End::TimedOut);
    }

    #[test]
    fn a_missing_program_names_itself_and_the_folder() {
        let spec = Spec::new("no-such-program", "/", Environment::default());
        let error = capture(&spec, Duration::from_secs(1)).unwrap_err().to_string();
        assert!(
            error.contains("no-such-program") && error.contains("not found in PATH"),
            "{error}"
        );
    }

    #[test]
    fn we_have_no_descendants_that_we_did_not_start() {
        let own = rustix::process::getpid();
        assert!(!descendants(own).contains(&own));
    }
}
