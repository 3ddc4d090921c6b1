//! Running one child to its end, within limits.

use std::time::Duration;

use rustix::process::{Pid, Signal};
use tokio_util::sync::CancellationToken;

use super::super::run::is_busy;
use crate::model::End;
use crate::process::{Environment, Priority, Spec, Stream, capture, descendants, run};

fn shell(script: &str) -> Spec {
    let environment = Environment::of(&[("PATH", "/usr/local/bin:/usr/bin:/bin")]);
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
async fn both_streams_and_the_exit_status_are_reported() {
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
fn a_program_open_for_writing_is_retried_a_limited_number_of_times() {
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
async fn a_signal_is_not_an_exit() {
    let finished =
        run(&shell("kill -ABRT $$"), &CancellationToken::new(), None, |_, _| {}).await.unwrap();
    assert_eq!(finished.end, End::Signal(libc::SIGABRT));
}

#[tokio::test]
async fn the_time_limit_kills_a_child_that_ignores_sigterm() {
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
async fn cancelling_kills_a_grandchild_that_left_the_group() {
    let cancel = CancellationToken::new();
    let mut seen = Vec::new();
    let finished = run(&shell("setsid sleep 1000 & echo $!; wait"), &cancel, None, |_, bytes| {
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
async fn a_leftover_process_that_holds_the_pipe_does_not_block_us() {
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
async fn a_leftover_process_that_writes_for_ever_does_not_block_us() {
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
async fn background_children_have_idle_priority() {
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
    assert!(error.contains("no-such-program") && error.contains("not found in PATH"), "{error}");
}

#[test]
fn a_process_is_not_its_own_descendant() {
    let own = rustix::process::getpid();
    assert!(!descendants(own).contains(&own));
}

/// Where the process that is to be killed writes, for the two tests below.
#[cfg(target_os = "linux")]
const WAITING: &str = "KNHK_TEST_CACHE_TEST_WAITING";

/// Until a child is its program it has all of our descriptors open, the guardian's pipe among them.
#[cfg(target_os = "linux")]
#[tokio::test]
async fn a_child_that_waits_before_its_program_starts_dies_with_us() {
    let file = tempfile::NamedTempFile::new().unwrap();
    let mut environment = Environment::inherited();
    environment.set(WAITING, file.path());
    let spec = Spec::new(std::env::current_exe().unwrap(), "/", environment)
        .args(["--exact", "process::tests::run::starts_a_child_that_waits"]);
    let cancel = CancellationToken::new();
    let parent = tokio::spawn({
        let cancel = cancel.clone();
        async move { run(&spec, &cancel, None, |_, _| {}).await }
    });
    let written = async {
        loop {
            let bytes = std::fs::read(file.path()).unwrap();
            if let Ok(bytes) = <[u8; 8]>::try_from(bytes) {
                break bytes;
            }
            tokio::task::yield_now().await;
        }
    };
    let [a, b, c, d, rest @ ..] =
        tokio::time::timeout(Duration::from_secs(60), written).await.expect("it was started");
    let (waiting, starter) = (i32::from_ne_bytes([a, b, c, d]), i32::from_ne_bytes(rest));
    rustix::process::kill_process(Pid::from_raw(starter).unwrap(), Signal::KILL).unwrap();
    gone(waiting).await;
    cancel.cancel();
    parent.await.unwrap().unwrap();
}

/// The half of the test above that is killed; does nothing when it is run by itself.
#[cfg(target_os = "linux")]
#[expect(unsafe_code, reason = "code between fork and exec is bound to rules of its own")]
#[test]
fn starts_a_child_that_waits() {
    use std::os::fd::IntoRawFd as _;
    let Some(path) = std::env::var_os(WAITING) else { return };
    let file = std::fs::File::options().write(true).open(path).unwrap().into_raw_fd();
    // SAFETY: system calls on numbers and on memory of its own.
    let spec = unsafe {
        shell("true").before_exec(move || {
            let told = [libc::getpid(), libc::getppid()];
            libc::write(file, told.as_ptr().cast(), size_of_val(&told));
            loop {
                libc::pause();
            }
        })
    };
    let _ = capture(&spec, Duration::from_secs(60));
}
