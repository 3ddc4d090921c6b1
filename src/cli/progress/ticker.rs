//! A line now and then, where no line can move.

use std::sync::mpsc::{self, RecvTimeoutError};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::cli::render::seconds;

/// Says what is going on at each interval until it is dropped.
pub(super) struct Ticker {
    doing: Arc<Mutex<String>>,
    /// Its end ends the thread.
    _running: mpsc::Sender<()>,
}

impl Ticker {
    pub(super) fn start(interval: Duration, say: impl Fn(&str) + Send + 'static) -> Self {
        let doing = Arc::new(Mutex::new(String::new()));
        let (running, ended) = mpsc::channel::<()>();
        let (seen, since) = (Arc::clone(&doing), Instant::now());
        // Without the thread nothing is said.
        let _ = std::thread::Builder::new().name("progress".to_owned()).spawn(move || {
            while ended.recv_timeout(interval) == Err(RecvTimeoutError::Timeout) {
                let doing = seen.lock().unwrap_or_else(PoisonError::into_inner).clone();
                if !doing.is_empty() {
                    say(&format!("{doing} ({})", seconds(since.elapsed())));
                }
            }
        });
        Self { doing, _running: running }
    }

    /// Takes note of what is going on.
    pub(super) fn doing(&self, what: String) {
        *self.doing.lock().unwrap_or_else(PoisonError::into_inner) = what;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_is_said_at_each_interval_until_the_end() {
        let (say, said) = mpsc::channel();
        let ticker =
            Ticker::start(Duration::from_millis(1), move |line| drop(say.send(line.to_owned())));
        ticker.doing("building: a".to_owned());
        ticker.doing("building: b".to_owned());
        let lines: Vec<_> = (0..2).map(|_| said.recv().unwrap()).collect();
        assert!(lines.iter().all(|line| line.starts_with("building: ")), "{lines:?}");
        assert!(lines[1].starts_with("building: b (0."), "{lines:?}");
        drop(ticker);
        // The sender goes with the thread.
        while said.recv_timeout(Duration::from_secs(20)).is_ok() {}
        assert_eq!(said.recv().ok(), None);
    }

    #[test]
    fn nothing_is_said_of_nothing() {
        let (say, said) = mpsc::channel();
        let ticker =
            Ticker::start(Duration::from_millis(1), move |line| drop(say.send(line.to_owned())));
        assert!(said.recv_timeout(Duration::from_millis(20)).is_err());
        drop(ticker);
    }
}
