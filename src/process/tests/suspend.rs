//! Suspending a child and everything it started, and resuming it.

use std::time::Duration;

use rustix::process::Pid;
use tokio_util::sync::CancellationToken;

use crate::model::End;
use crate::process::{Environment, Spec, Stream, Suspender, descendants, run};

const LIMIT: Duration = Duration::from_secs(20);

fn shell(script: &str, suspender: &Suspender) -> Spec {
    let environment = Environment::of(&[("PATH", "/usr/local/bin:/usr/bin:/bin")]);
    Spec::new("sh", "/", environment).args(["-c", script]).suspender(suspender)
}

/// Waits until all of these processes are suspended, or none is.
async fn until_all(pids: &[i32], stand: bool) {
    let stands = |pid: &i32| {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
        // A parent in `vfork` waits uninterruptibly for a child that is suspended before its exec.
        stat.contains(") T ") || stat.contains(") D ")
    };
    let so = async {
        while !pids.iter().all(|pid| stands(pid) == stand) {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(LIMIT, so).await.expect("they follow the switch");
}

/// A child, its child, and one that has left the group.
const FAMILY: &str = "setsid sh -c 'while :; do sleep 0.01; done' & \
                      (while :; do sleep 0.01; done) & echo $$ $!; wait";

#[tokio::test]
async fn everything_a_child_started_is_suspended_and_resumed() {
    let (suspender, cancel) = (Suspender::default(), CancellationToken::new());
    let (send, mut said) = tokio::sync::mpsc::unbounded_channel();
    let spec = shell(FAMILY, &suspender);
    let running = run(&spec, &cancel, None, move |_, bytes| {
        let _ = send.send(String::from_utf8_lossy(bytes).into_owned());
    });
    let driver = async {
        let said = said.recv().await.unwrap();
        let mut pids: Vec<i32> = said.split_whitespace().map(|pid| pid.parse().unwrap()).collect();
        let leader = Pid::from_raw(pids[0]).unwrap();
        // The one that left is found where it is by now.
        let left = |pids: &[i32]| {
            let of = |pid: Pid| pid.as_raw_nonzero().get();
            let all = descendants(leader).into_iter();
            let line = |pid| std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            let mut loops = all.map(of).filter(|pid| !pids.contains(pid));
            loops.find(|pid| String::from_utf8_lossy(&line(*pid)).contains("while"))
        };
        let found = async {
            loop {
                if let Some(pid) = left(&pids) {
                    return pid;
                }
                tokio::task::yield_now().await;
            }
        };
        pids.push(tokio::time::timeout(LIMIT, found).await.unwrap());
        for _ in 0..3 {
            suspender.set(true);
            until_all(&pids, true).await;
            suspender.set(false);
            until_all(&pids, false).await;
        }
        suspender.set(true);
        until_all(&pids, true).await;
        cancel.cancel();
        pids
    };
    let (finished, pids) = tokio::join!(running, driver);
    assert_eq!(finished.unwrap().end, End::Cancelled);
    let gone = async {
        let there = |pid: &i32| {
            let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
            !stat.is_empty() && !stat.contains(") Z ") && !stat.contains(") X ")
        };
        while pids.iter().any(there) {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(LIMIT, gone).await.expect("nothing is left of it");
}

#[tokio::test]
async fn a_suspended_child_can_handle_sigterm() {
    let (suspender, cancel) = (Suspender::default(), CancellationToken::new());
    let script = "trap 'echo bye; exit 0' TERM; echo $$; while :; do sleep 0.01; done";
    let spec = shell(script, &suspender);
    let mut said = String::new();
    let (send, mut pid) = tokio::sync::mpsc::unbounded_channel();
    let running = run(&spec, &cancel, None, |stream, bytes| {
        if stream == Stream::Out {
            said.push_str(&String::from_utf8_lossy(bytes));
            let _ = send.send(said.clone());
        }
    });
    let driver = async {
        let pid = pid.recv().await.unwrap().trim().parse().unwrap();
        suspender.set(true);
        until_all(&[pid], true).await;
        cancel.cancel();
    };
    let (finished, ()) = tokio::join!(running, driver);
    assert_eq!(finished.unwrap().end, End::Cancelled);
    assert!(said.ends_with("bye\n"), "{said}");
}

#[tokio::test]
async fn a_child_that_starts_while_suspended_is_suspended_at_once() {
    let (suspender, cancel) = (Suspender::default(), CancellationToken::new());
    suspender.set(true);
    // It cannot end before it is told to, however late it is suspended.
    let dir = tempfile::tempdir().unwrap();
    let go = dir.path().join("go");
    let script = format!("until [ -e {} ]; do sleep 0.05; done; echo done", go.display());
    let spec = shell(&script, &suspender);
    let (send, mut said) = tokio::sync::mpsc::unbounded_channel();
    let mut running = Box::pin(run(&spec, &cancel, None, move |_, bytes| {
        let _ = send.send(bytes.to_vec());
    }));
    let children = async {
        loop {
            let stands = |pid: &Pid| {
                let of = |what: &str| {
                    let file = format!("/proc/{}/{what}", pid.as_raw_nonzero());
                    std::fs::read_to_string(file).unwrap_or_default()
                };
                of("cmdline").contains("echo done") && of("stat").contains(") T ")
            };
            if descendants(rustix::process::getpid()).iter().any(stands) {
                return;
            }
            tokio::task::yield_now().await;
        }
    };
    tokio::select! {
        finished = &mut running => panic!("it was not suspended: {finished:?}"),
        seen = tokio::time::timeout(LIMIT, children) => seen.unwrap(),
    }
    std::fs::write(go, "").unwrap();
    assert!(said.try_recv().is_err());
    suspender.set(false);
    assert_eq!(running.await.unwrap().end, End::Exit(0));
    assert_eq!(said.recv().await.unwrap(), b"done\n");
}
