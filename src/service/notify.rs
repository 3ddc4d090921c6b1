//! The daemon's life, told to systemd in its notification protocol.

use std::io;
use std::time::Duration;

use sd_notify::NotifyState;

use super::state::LABEL;
use crate::daemon::Life;

/// What one [`Life::Starting`] asks for: a start that still makes progress has so long again.
const EXTENSION: Duration = Duration::from_secs(30);

/// The longest status line; a terminal shows no more anyway.
const MAX_STATUS_BYTES: usize = 400;

/// Tells the service manager that started this process how it is. Where none did, it does nothing.
#[derive(Debug, Default)]
pub(crate) struct Notifier {
    last_status: Option<String>,
}

impl Notifier {
    /// Speaks to the manager that the process's own environment names.
    #[must_use]
    pub(crate) fn new() -> Self {
        Self::default()
    }

    /// How often [`Life::Alive`] has to come at least: a third of what the manager allows, so that
    /// one late beat kills nobody. `None` where nobody watches.
    #[must_use]
    pub(crate) fn heartbeat() -> Option<Duration> {
        let own = std::process::id();
        let variable = |name: &str| std::env::var(name).ok();
        heartbeat(variable("WATCHDOG_USEC").as_deref(), variable("WATCHDOG_PID").as_deref(), own)
    }

    /// Passes one message on.
    ///
    /// # Errors
    /// If the manager's socket does not take it. The daemon lives on; it may say so in its log.
    pub(crate) fn tell(&mut self, life: &Life) -> io::Result<()> {
        match life {
            Life::Ready => sd_notify::notify(&[NotifyState::Ready]),
            Life::Reloading => {
                // In one message: systemd 253 and newer end a service that sends no stamp.
                let stamp = NotifyState::monotonic_usec_now()?;
                sd_notify::notify(&[NotifyState::Reloading, stamp])
            }
            Life::Starting => {
                let micros = u32::try_from(EXTENSION.as_micros()).unwrap_or(u32::MAX);
                sd_notify::notify(&[NotifyState::ExtendTimeoutUsec(micros)])
            }
            Life::Status(text) => {
                let line = status_line(text);
                if self.last_status.as_ref() == Some(&line) {
                    return Ok(());
                }
                sd_notify::notify(&[NotifyState::Status(&line)])?;
                self.last_status = Some(line);
                Ok(())
            }
            Life::Alive => sd_notify::notify(&[NotifyState::Watchdog]),
            Life::Stopping => sd_notify::notify(&[NotifyState::Stopping]),
        }
    }
}

/// Whether launchd started this process as the service: then its log goes to a file.
#[must_use]
pub(crate) fn started_by_launchd() -> bool {
    std::env::var_os("XPC_SERVICE_NAME").is_some_and(|name| name == LABEL)
}

/// One line: a newline would begin another assignment, and other control characters have no
/// place in `systemctl status`.
fn status_line(text: &str) -> String {
    let mut line: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    let end = (0..=MAX_STATUS_BYTES.min(line.len())).rev().find(|end| line.is_char_boundary(*end));
    line.truncate(end.unwrap_or(0));
    line
}

fn heartbeat(micros: Option<&str>, pid: Option<&str>, own: u32) -> Option<Duration> {
    if pid.is_some_and(|pid| pid.parse() != Ok(own)) {
        return None;
    }
    let micros: u64 = micros?.parse().ok()?;
    (micros > 0).then(|| Duration::from_micros(micros) / 3)
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixDatagram;

    use proptest::prelude::*;

    use super::super::tests::{CHILD, in_child};
    use super::*;

    #[test]
    fn a_status_is_one_line() {
        assert_eq!(status_line("3 projects\nREADY=1\r\t\u{7f}x"), "3 projects READY=1   x");
        assert_eq!(status_line(&"é".repeat(500)).len(), MAX_STATUS_BYTES);
    }

    proptest! {
        #[test]
        fn no_text_begins_another_assignment(text in any::<String>()) {
            let line = status_line(&text);
            prop_assert!(!line.contains('\n') && line.len() <= MAX_STATUS_BYTES);
        }
    }

    #[test]
    fn only_the_watched_process_beats() {
        let third = Some(Duration::from_secs(10));
        assert_eq!(heartbeat(Some("30000000"), None, 7), third);
        assert_eq!(heartbeat(Some("30000000"), Some("7"), 7), third);
        assert_eq!(heartbeat(Some("30000000"), Some("8"), 7), None);
        assert_eq!(heartbeat(Some("0"), None, 7), None);
        assert_eq!(heartbeat(None, Some("7"), 7), None);
    }

    #[test]
    fn the_manager_hears_each_step_once() {
        if std::env::var_os(CHILD).is_some() {
            let mut notifier = Notifier::new();
            for life in [
                Life::Starting,
                Life::Ready,
                Life::Status("a\nb".into()),
                Life::Status("a b".into()),
                Life::Alive,
                Life::Reloading,
                Life::Stopping,
            ] {
                notifier.tell(&life).unwrap();
            }
            return;
        }
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("notify");
        let socket = UnixDatagram::bind(&path).unwrap();
        let test = "service::notify::tests::the_manager_hears_each_step_once";
        in_child(test, &[("NOTIFY_SOCKET".as_ref(), path.as_os_str())]);
        socket.set_nonblocking(true).unwrap();
        let mut buffer = [0; 4096];
        let mut heard = Vec::new();
        while let Ok(count) = socket.recv(&mut buffer) {
            heard.push(String::from_utf8(buffer[..count].to_vec()).unwrap());
        }
        assert_eq!(
            heard[..4],
            ["EXTEND_TIMEOUT_USEC=30000000\n", "READY=1\n", "STATUS=a b\n", "WATCHDOG=1\n"]
        );
        let stamp = heard[4].strip_prefix("RELOADING=1\nMONOTONIC_USEC=").unwrap();
        assert!(stamp.trim().parse::<u64>().unwrap() > 0);
        assert_eq!(heard[5..], ["STOPPING=1\n"]);
    }
}
