//! Having a child and all that it started stand still for a while.

use rustix::process::Signal;
use tokio::sync::watch;

/// Stops children where they are, and lets them go on. All clones are the same brake. Which
/// children it acts on is said where they are described (`Spec::brake`).
///
/// What stands still keeps its files, its locks and its memory; it is ended as anything else is.
/// If we are killed, a child goes with us, and what it started is hung up and let go on by the
/// kernel, as a stopped group that nobody of its session outside of it looks after any more: for
/// that, children have groups of their own, not sessions.
#[derive(Clone, Debug)]
pub struct Brake(watch::Sender<bool>);

impl Default for Brake {
    /// One that is not put on.
    fn default() -> Self {
        Self(watch::Sender::new(false))
    }
}

impl Brake {
    /// Has the children stand still, or go on.
    pub fn put(&self, on: bool) {
        self.0.send_if_modified(|now| std::mem::replace(now, on) != on);
    }

    /// Whether they are to stand still.
    #[must_use]
    pub fn is_on(&self) -> bool {
        *self.0.borrow()
    }

    /// For one child, which moves.
    pub(super) fn follow(&self) -> Braked {
        Braked { brake: self.0.subscribe(), stands: false }
    }
}

/// One child's view of its brake.
pub(super) struct Braked {
    brake: watch::Receiver<bool>,
    stands: bool,
}

impl Braked {
    /// Waits until the child is to be told something else than before: what to send it.
    pub(super) async fn order(&mut self) -> Signal {
        let stands = self.stands;
        if self.brake.wait_for(|on| *on != stands).await.is_err() {
            // Nobody can say anything any more.
            std::future::pending::<()>().await;
        }
        self.stands = !self.stands;
        if self.stands { Signal::STOP } else { Signal::CONT }
    }

    /// Whether the child was told to stand still.
    pub(super) fn stands(&self) -> bool {
        self.stands
    }
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use std::time::Duration;

    use rustix::process::Pid;
    use tokio_util::sync::CancellationToken;

    use super::*;
    use crate::model::End;
    use crate::process::{Environment, Spec, Stream, descendants, run};

    const LIMIT: Duration = Duration::from_secs(20);

    fn shell(script: &str, brake: &Brake) -> Spec {
        let mut environment = Environment::default();
        environment.set("PATH", "/usr/local/bin:/usr/bin:/bin");
        Spec::new("sh", "/", environment).args(["-c", script]).brake(brake)
    }

    /// Waits until all of these processes stand still, or none does.
    async fn until_all(pids: &[i32], stand: bool) {
        let stands = |pid: &i32| {
            let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
            // Or it waits for a child that has not become its program yet, and stands itself.
            stat.contains(") T ") || stat.contains(") D ")
        };
        let so = async {
            while !pids.iter().all(|pid| stands(pid) == stand) {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(LIMIT, so).await.expect("they follow the brake");
    }

    /// A child, its child, and one that has left the group.
    const FAMILY: &str = "setsid sh -c 'while :; do sleep 0.01; done' & \
                          (while :; do sleep 0.01; done) & echo $$ $!; wait";

    #[tokio::test]
    async fn all_that_a_child_has_started_stands_still_and_goes_on() {
        let (brake, cancel) = (Brake::default(), CancellationToken::new());
        let (send, mut said) = tokio::sync::mpsc::unbounded_channel();
        let spec = shell(FAMILY, &brake);
        let running = run(&spec, &cancel, None, move |_, bytes| {
            let _ = send.send(String::from_utf8_lossy(bytes).into_owned());
        });
        let driver = async {
            let said = said.recv().await.unwrap();
            let mut pids: Vec<i32> =
                said.split_whitespace().map(|pid| pid.parse().unwrap()).collect();
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
                brake.put(true);
                until_all(&pids, true).await;
                brake.put(false);
                until_all(&pids, false).await;
            }
            brake.put(true);
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
    async fn what_stands_still_can_take_its_leave() {
        let (brake, cancel) = (Brake::default(), CancellationToken::new());
        let script = "trap 'echo bye; exit 0' TERM; echo $$; while :; do sleep 0.01; done";
        let spec = shell(script, &brake);
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
            brake.put(true);
            until_all(&[pid], true).await;
            cancel.cancel();
        };
        let (finished, ()) = tokio::join!(running, driver);
        assert_eq!(finished.unwrap().end, End::Cancelled);
        assert!(said.ends_with("bye\n"), "{said}");
    }

    #[tokio::test]
    async fn what_is_started_under_the_brake_stands_at_once() {
        let (brake, cancel) = (Brake::default(), CancellationToken::new());
        brake.put(true);
        let spec = shell("sleep 0.05; echo done", &brake);
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
            finished = &mut running => panic!("it did not stand: {finished:?}"),
            seen = tokio::time::timeout(LIMIT, children) => seen.unwrap(),
        }
        assert!(said.try_recv().is_err());
        brake.put(false);
        assert_eq!(running.await.unwrap().end, End::Exit(0));
        assert_eq!(said.recv().await.unwrap(), b"done\n");
    }
}
