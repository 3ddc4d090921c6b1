//! Notifications of the desktop. Of several views, one shows them.

use std::fs::{File, TryLockError};
use std::path::PathBuf;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;

use super::Notice;
use crate::paths::create_private_folder;

/// Shows notifications on the desktop.
#[derive(Debug)]
pub(super) struct Desktop {
    lock_file: PathBuf,
    /// Held by the one view of the user that shows them.
    lock: Option<File>,
    problems: Receiver<String>,
    tell: Sender<String>,
}

impl Desktop {
    /// A desktop that has shown nothing. The view that holds `lock_file` is the one that shows.
    pub(super) fn new(lock_file: PathBuf) -> Self {
        let (tell, problems) = channel();
        Self { lock_file, lock: None, problems, tell }
    }

    /// Shows a notice, unless another view does. It does not wait for the desktop.
    pub(super) fn show(&mut self, notice: Notice) {
        let tell = self.tell.clone();
        let shown = self.takes_lock().and_then(|is_ours| {
            if is_ours {
                let show = move || show(&notice).or_else(|problem| tell.send(problem));
                thread::Builder::new().name("notice".to_owned()).spawn(show)?;
            }
            Ok(())
        });
        if let Err(error) = shown {
            let file = self.lock_file.display();
            // This very desktop holds the receiver.
            let _ = self.tell.send(format!("no notification is shown: {file}: {error}"));
        }
    }

    /// Why a notice was not shown; told once.
    pub(super) fn problem(&self) -> Option<String> {
        self.problems.try_recv().ok()
    }

    /// Whether this view is the one that shows notices.
    fn takes_lock(&mut self) -> std::io::Result<bool> {
        if self.lock.is_some() {
            return Ok(true);
        }
        self.lock_file.parent().map_or(Ok(()), create_private_folder)?;
        let file = File::options().create(true).append(true).open(&self.lock_file)?;
        match file.try_lock() {
            Ok(()) => self.lock = Some(file),
            Err(TryLockError::WouldBlock) => {}
            Err(TryLockError::Error(error)) => return Err(error),
        }
        Ok(self.lock.is_some())
    }
}

#[cfg(feature = "desktop-notifications")]
fn show(notice: &Notice) -> Result<(), String> {
    let mut shown = notify_rust::Notification::new();
    shown.appname("knhk-test-cache").summary(&notice.title);
    if let Some(text) = &notice.text {
        shown.body(text);
    }
    match shown.show() {
        Ok(_) => Ok(()),
        Err(error) => Err(format!("the desktop shows no notification: {error}")),
    }
}

#[cfg(not(feature = "desktop-notifications"))]
fn show(_: &Notice) -> Result<(), String> {
    Err("no notification is shown: build with the feature `desktop-notifications`".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_of_two_views_shows() {
        let folder = tempfile::tempdir().unwrap();
        let lock_file = folder.path().join("run/desktop.lock");
        let [mut first, mut second] = [(); 2].map(|()| Desktop::new(lock_file.clone()));
        assert!(first.takes_lock().unwrap() && first.takes_lock().unwrap());
        assert!(!second.takes_lock().unwrap());
        // The end of its process does the same.
        first.lock.take().unwrap().unlock().unwrap();
        assert!(second.takes_lock().unwrap());
    }

    #[cfg(not(feature = "desktop-notifications"))]
    #[test]
    fn a_build_without_notifications_says_so() {
        let folder = tempfile::tempdir().unwrap();
        let mut desktop = Desktop::new(folder.path().join("lock"));
        desktop.show(Notice { title: "p is red".to_owned(), text: None });
        let problem = desktop.problems.recv().unwrap();
        assert!(problem.contains("`desktop-notifications`"), "{problem}");
    }
}

#[cfg(all(test, feature = "desktop-notifications"))]
mod bus_tests {
    use std::io::{BufRead as _, BufReader, Read as _, Write as _};
    use std::os::unix::net::{UnixListener, UnixStream};
    use std::time::Duration;

    use super::*;
    use crate::process::{Environment, Spec, capture};

    /// A session bus on which someone shows notifications. Gives the call that asks for one.
    fn serve(mut to: UnixStream) -> Vec<u8> {
        let mut from = BufReader::new(to.try_clone().unwrap());
        let mut line = String::new();
        while line != "BEGIN\r\n" {
            line.clear();
            from.read_line(&mut line).unwrap();
            let answer = match line.trim_start_matches('\0').split_whitespace().next() {
                Some("AUTH") => "OK 00112233445566778899aabbccddeeff\r\n",
                Some("BEGIN") => "",
                _ => "ERROR\r\n",
            };
            to.write_all(answer.as_bytes()).unwrap();
        }
        loop {
            let mut head = [0; 16];
            from.read_exact(&mut head).unwrap();
            let number = |at: usize| u32::from_le_bytes(head[at..at + 4].try_into().unwrap());
            let (body, serial, fields) = (number(4), number(8), number(12));
            let mut call = vec![0; (fields.next_multiple_of(8) + body) as usize];
            from.read_exact(&mut call).unwrap();
            let has = |name: &str| call.windows(name.len()).any(|bytes| bytes == name.as_bytes());
            let (signature, body) = match has("Hello") {
                true => (b's', b"\x04\0\0\0:1.1\0".to_vec()),
                false => (b'u', 7u32.to_le_bytes().to_vec()),
            };
            // A method's return: the serial that it answers, and what its body is.
            let mut answer = b"l\x02\x01\x01".to_vec();
            for number in [u32::try_from(body.len()).unwrap(), serial, 15] {
                answer.extend(number.to_le_bytes());
            }
            answer.extend(b"\x05\x01u\0");
            answer.extend(serial.to_le_bytes());
            answer.extend([8, 1, b'g', 0, 1, signature, 0, 0]);
            to.write_all(&[answer, body].concat()).unwrap();
            if has("Notify") {
                return call;
            }
        }
    }

    #[test]
    fn a_notice_reaches_the_desktop() {
        let folder = tempfile::tempdir().unwrap();
        let socket = folder.path().join("bus");
        let listener = UnixListener::bind(&socket).unwrap();
        let bus = thread::spawn(move || serve(listener.accept().unwrap().0));
        let mut environment = Environment::inherited();
        let address = format!("unix:path={}", socket.display());
        environment.set("DBUS_SESSION_BUS_ADDRESS", address);
        let test = "views::notify::desktop::bus_tests::shows_a_notice";
        let spec = Spec::new(std::env::current_exe().unwrap(), folder.path(), environment).args([
            "--exact",
            test,
            "--ignored",
            "--nocapture",
        ]);
        let output = capture(&spec, Duration::from_secs(60)).unwrap();
        assert!(output.success(), "{output:?}");
        let call = String::from_utf8_lossy(&bus.join().unwrap()).into_owned();
        for part in ["org.freedesktop.Notifications", "knhk-test-cache", "p is red", "one fails"] {
            assert!(call.contains(part), "{part}: {call:?}");
        }
    }

    /// The half of the test above that has a session bus.
    #[test]
    #[ignore = "run by the test above"]
    fn shows_a_notice() {
        let text = Some("one fails".to_owned());
        show(&Notice { title: "p is red".to_owned(), text }).unwrap();
    }
}
