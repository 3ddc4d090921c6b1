//! The live view: the whole screen of a terminal, with keys.
//!
//! One thread waits for events, keys, signals and the ends of commands, and paints. It wakes once a
//! minute for the ages, and once a second while tests run.

mod board;
mod commands;
mod input;
mod keys;
mod paint;
mod rows;
mod terminal;
#[cfg(test)]
mod tests;
mod wrap;

use std::io;
use std::os::fd::{AsFd as _, BorrowedFd};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use rustix::process::{Signal, kill_current_process_group};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc::{self, Receiver};
use tokio::time::{Instant, sleep, sleep_until};

use self::board::{Board, KeyWish};
use self::commands::Commands;
use self::input::ScreenInput;
use self::keys::{KeyReader, PressedKey};
use self::paint::Palette;
use self::terminal::ScreenTerminal;
use super::feed::{Feed, FeedError, Wanted};
use super::notify::Notices;
use crate::model::Timestamp;
use crate::paths::Paths;
use crate::process::Environment;

/// So many inputs may wait for the view. A view that does not get on is dropped by the daemon.
const WAITING_INPUTS: usize = 1024;
/// The time between two pictures, unless a key is pressed.
const BETWEEN_PICTURES: Duration = Duration::from_millis(50);
/// How long the rest of a key's bytes may take.
const KEY_REST: Duration = Duration::from_millis(50);
/// How long a signal to oneself may take to arrive.
const SUSPENSION_BEGIN: Duration = Duration::from_millis(100);
/// Ages are shown in minutes.
const AGES_CHANGE: Duration = Duration::from_secs(60);
/// What runs is shown with its seconds.
const SECONDS_CHANGE: Duration = Duration::from_secs(1);

/// What the live view works with.
pub(crate) struct ScreenSetup {
    pub(crate) paths: Paths,
    pub(crate) environment: Environment,
    pub(crate) wanted: Wanted,
    pub(crate) has_color: bool,
    pub(crate) notifier: Notices,
}

/// Why the live view has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ScreenEnd {
    /// The user has seen enough.
    Quit,
    /// Ctrl-C.
    Interrupted,
    /// SIGTERM, or SIGHUP of a terminal that is gone.
    Terminated,
}

/// Why there is no live view.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ScreenError {
    /// The terminal does not work.
    #[error("the terminal cannot be used: {0}")]
    Terminal(#[from] io::Error),
    /// There are no events.
    #[error(transparent)]
    Feed(#[from] FeedError),
    /// The thread that brings the events has panicked.
    #[error("watching has ended")]
    Ended,
}

/// Shows the live view until the user leaves.
///
/// # Errors
/// If the terminal does not work, or there is nothing to watch.
pub(crate) fn watch_on_screen(setup: ScreenSetup) -> Result<ScreenEnd, ScreenError> {
    let ScreenSetup { paths, environment, wanted, has_color, notifier } = setup;
    let (inputs, waiting) = mpsc::channel(WAITING_INPUTS);
    let feed = Feed::new(paths.clone(), environment.clone(), wanted);
    let handle = feed.handle();
    let commands = Commands { paths, environment, feed: handle.clone(), inputs: inputs.clone() };
    std::thread::Builder::new().name("feed".to_owned()).spawn(move || {
        let send = |event| inputs.blocking_send(ScreenInput::Event(event)).is_ok();
        // A view that hears nothing any more must not stay.
        let followed = catch_unwind(AssertUnwindSafe(|| feed.follow(send)));
        let followed = followed.unwrap_or(Err(FeedError::Ended));
        // The view may have ended.
        let _ = inputs.blocking_send(ScreenInput::FeedEnded(followed));
    })?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let result = runtime.block_on(async {
        let view = LiveView {
            board: Board::default(),
            terminal: ScreenTerminal::take()?,
            palette: Palette { has_color },
            keys: KeyReader::default(),
            commands,
            notifier,
            is_editing: false,
            is_dirty: true,
            painted: None,
        };
        view.run(waiting).await
    });
    handle.end();
    result
}

/// The live view at work.
struct LiveView {
    board: Board,
    terminal: ScreenTerminal,
    palette: Palette,
    keys: KeyReader,
    commands: Commands,
    notifier: Notices,
    /// The user's editor has the terminal.
    is_editing: bool,
    is_dirty: bool,
    painted: Option<Instant>,
}

impl LiveView {
    async fn run(mut self, mut inputs: Receiver<ScreenInput>) -> Result<ScreenEnd, ScreenError> {
        let stdin = io::stdin();
        let keyboard = keyboard(stdin.as_fd())?;
        let mut resized = signal(SignalKind::window_change())?;
        let mut resumed = signal(SignalKind::from_raw(Signal::CONT.as_raw()))?;
        let mut interrupted = signal(SignalKind::interrupt())?;
        let mut terminated = signal(SignalKind::terminate())?;
        let mut hung_up = signal(SignalKind::hangup())?;
        let mut ages = Instant::now();
        loop {
            if !self.is_editing && self.is_dirty && self.may_paint() {
                self.paint()?;
            }
            let age = if self.board.is_busy() { SECONDS_CHANGE } else { AGES_CHANGE };
            let mut wake = ages + age;
            if let Some(painted) = self.painted.filter(|_| self.is_dirty && !self.is_editing) {
                wake = wake.min(painted + BETWEEN_PICTURES);
            }
            if self.keys.is_waiting() {
                wake = wake.min(Instant::now() + KEY_REST);
            }
            tokio::select! {
                input = inputs.recv() => {
                    let mut next = input;
                    while let Some(input) = next {
                        self.take(input)?;
                        // After each, for it tells the work that led to a verdict as well.
                        for sequence in self.notifier.news(self.board.state()) {
                            self.terminal.send(&sequence)?;
                        }
                        next = inputs.try_recv().ok();
                    }
                    self.notifier.problem().into_iter().for_each(|it| self.board.note(it));
                }
                ready = keyboard.readable(), if !self.is_editing => {
                    let mut ready = ready?;
                    let mut bytes = [0; 1024];
                    match rustix::io::read(&stdin, &mut bytes) {
                        // The terminal is gone.
                        Ok(0) | Err(rustix::io::Errno::IO) => return Ok(ScreenEnd::Quit),
                        Ok(count) => {
                            let keys = self.keys.read(&bytes[..count]);
                            if let Some(end) = self.press(keys).await? {
                                return Ok(end);
                            }
                        }
                        Err(rustix::io::Errno::INTR | rustix::io::Errno::AGAIN) => {}
                        Err(error) => return Err(io::Error::from(error).into()),
                    }
                    if !has_more(&stdin) {
                        ready.clear_ready();
                    }
                }
                _ = resized.recv() => self.is_dirty = true,
                _ = resumed.recv() => if !self.is_editing {
                    self.take_again()?;
                },
                // In the editor it is the editor's.
                _ = interrupted.recv() => if !self.is_editing {
                    return Ok(ScreenEnd::Interrupted);
                },
                _ = terminated.recv() => return Ok(ScreenEnd::Terminated),
                _ = hung_up.recv() => return Ok(ScreenEnd::Terminated),
                () = sleep_until(wake) => {
                    if self.keys.is_waiting() {
                        let key = self.keys.give_up();
                        if let Some(end) = self.press(key).await? {
                            return Ok(end);
                        }
                    }
                    if ages + age <= Instant::now() {
                        ages = Instant::now();
                        self.board.tick();
                        self.is_dirty = true;
                    }
                }
            }
        }
    }

    fn may_paint(&self) -> bool {
        self.painted.is_none_or(|painted| painted.elapsed() >= BETWEEN_PICTURES)
    }

    fn paint(&mut self) -> io::Result<()> {
        let Self { board, terminal, palette, .. } = self;
        terminal.show(|buffer| board.paint(buffer, Timestamp::now(), *palette))?;
        (self.is_dirty, self.painted) = (false, Some(Instant::now()));
        Ok(())
    }

    fn take(&mut self, input: ScreenInput) -> Result<(), ScreenError> {
        match input {
            ScreenInput::Event(event) => self.board.apply(event),
            ScreenInput::FeedEnded(ended) => {
                ended?;
                return Err(ScreenError::Ended);
            }
            ScreenInput::CommandEnded(end) => match end.text {
                Some(text) => self.board.open_panel(end.title, &text),
                None => self.board.note(end.title),
            },
            ScreenInput::EditorEnded { note } => {
                self.is_editing = false;
                self.take_again()?;
                note.into_iter().for_each(|note| self.board.note(note));
            }
        }
        self.is_dirty = true;
        Ok(())
    }

    async fn press(
        &mut self,
        keys: impl IntoIterator<Item = PressedKey>,
    ) -> Result<Option<ScreenEnd>, ScreenError> {
        for key in keys {
            let wish = self.board.key(key);
            // At once, however short ago the last picture was.
            (self.is_dirty, self.painted) = (true, None);
            match wish {
                Some(KeyWish::Quit) => return Ok(Some(ScreenEnd::Quit)),
                Some(KeyWish::Interrupt) => return Ok(Some(ScreenEnd::Interrupted)),
                Some(wish) => self.carry_out(wish).await?,
                None => {}
            }
        }
        Ok(None)
    }

    async fn carry_out(&mut self, wish: KeyWish) -> io::Result<()> {
        match wish {
            // The board was asked to end.
            KeyWish::Quit | KeyWish::Interrupt => Ok(()),
            KeyWish::Suspend => self.suspend().await,
            KeyWish::Repaint => {
                self.terminal.forget();
                Ok(())
            }
            KeyWish::Run { project } => self.commands.run(project),
            KeyWish::RunFailed { project, tests } => self.commands.run_failed(project, tests),
            KeyWish::Explain { project, target } => self.commands.explain(project, target),
            KeyWish::Pause { project } => self.commands.pause(project),
            KeyWish::Edit(subject) => {
                self.terminal.leave();
                self.is_editing = true;
                self.commands.edit(subject)
            }
        }
    }

    /// Gives the terminal back, and is suspended until the shell says go on.
    async fn suspend(&mut self) -> io::Result<()> {
        self.terminal.leave();
        // All of the shell's job, as without the view. Where there is no shell, nothing happens.
        kill_current_process_group(Signal::TSTP)?;
        sleep(SUSPENSION_BEGIN).await;
        self.take_again()
    }

    fn take_again(&mut self) -> io::Result<()> {
        (self.is_dirty, self.painted) = (true, None);
        self.terminal.enter()
    }
}

/// Tells when something has been typed.
#[expect(unsafe_code, reason = "the runtime does not see that a borrowed descriptor stays open")]
fn keyboard(stdin: BorrowedFd<'_>) -> io::Result<AsyncFd<BorrowedFd<'_>>> {
    // SAFETY: the descriptor is open, and is the same one, as long as it is borrowed.
    let keyboard = unsafe { AsyncFd::register_with_interest(stdin, Interest::READABLE) };
    keyboard.map_err(io::Error::from)
}

/// Whether more has been typed.
fn has_more(keyboard: &io::Stdin) -> bool {
    use rustix::event::{PollFd, PollFlags, Timespec, poll};
    let mut fds = [PollFd::new(keyboard, PollFlags::IN)];
    poll(&mut fds, Some(&Timespec { tv_sec: 0, tv_nsec: 0 })).is_ok_and(|ready| ready > 0)
}
