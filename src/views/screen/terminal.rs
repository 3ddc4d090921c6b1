//! The terminal while the view has it. It is given back as it was, however the view ends.

use std::fmt::Write as _;
use std::io::{self, Write as _};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;

use ratatui_core::buffer::{Buffer, Cell};
use ratatui_core::layout::Rect;
use ratatui_core::style::{Color, Modifier};
use rustix::termios::{OptionalActions, Termios, tcgetattr, tcgetwinsize, tcsetattr};

/// The other screen, without a cursor.
const TAKE: &str = "\x1b[?1049h\x1b[?25l\x1b[2J";
const GIVE_BACK: &str = "\x1b[0m\x1b[?25h\x1b[?1049l";

/// How the terminal was, while the view has it: a panic must give it back before it says anything.
static BEFORE: Mutex<Option<Termios>> = Mutex::new(None);

/// The panics of other threads, which the view survives: they are told when the terminal is given back.
static PANICS: Mutex<Vec<String>> = Mutex::new(Vec::new());

/// The terminal.
pub(super) struct ScreenTerminal {
    /// What is on the screen.
    painted: Buffer,
}

impl ScreenTerminal {
    /// Takes the terminal.
    ///
    /// # Errors
    /// If the terminal does not do what it is told.
    pub(super) fn take() -> io::Result<Self> {
        let hook = std::panic::take_hook();
        let own = thread::current().id();
        std::panic::set_hook(Box::new(move |panic| {
            if thread::current().id() == own {
                give_back();
            }
            if locked(&BEFORE).is_some() {
                locked(&PANICS).push(panic.to_string());
            } else {
                hook(panic);
            }
        }));
        let mut this = Self { painted: Buffer::default() };
        this.enter()?;
        Ok(this)
    }

    /// Takes the terminal again after [`Self::leave`].
    ///
    /// # Errors
    /// If the terminal does not do what it is told.
    pub(super) fn enter(&mut self) -> io::Result<()> {
        let modes = tcgetattr(io::stdin())?;
        let mut raw = modes.clone();
        raw.make_raw();
        // It may have been taken already, and the shell has it back since.
        locked(&BEFORE).get_or_insert(modes);
        tcsetattr(io::stdin(), OptionalActions::Now, &raw)?;
        self.painted = Buffer::default();
        self.send(TAKE)
    }

    /// Gives the terminal back for a while.
    pub(super) fn leave(&self) {
        give_back();
    }

    /// Forgets what is on the screen, so that all of it is painted next.
    pub(super) fn forget(&mut self) {
        self.painted = Buffer::default();
    }

    /// Shows what `paint` paints. Only what has changed is sent.
    ///
    /// # Errors
    /// If the terminal is gone.
    pub(super) fn show(&mut self, paint: impl FnOnce(&mut Buffer)) -> io::Result<()> {
        let size = tcgetwinsize(io::stdout())?;
        let area = Rect::new(0, 0, size.ws_col, size.ws_row);
        let mut sequence = String::new();
        if self.painted.area != area {
            self.painted = Buffer::empty(area);
            sequence.push_str("\x1b[0m\x1b[2J");
        }
        let mut buffer = Buffer::empty(area);
        paint(&mut buffer);
        sequence += &changes(&self.painted, &buffer);
        self.painted = buffer;
        self.send(&sequence)
    }

    /// Sends a sequence to the terminal.
    ///
    /// # Errors
    /// If the terminal is gone.
    pub(super) fn send(&mut self, sequence: &str) -> io::Result<()> {
        let mut out = io::stdout().lock();
        out.write_all(sequence.as_bytes())?;
        out.flush()
    }
}

impl Drop for ScreenTerminal {
    fn drop(&mut self) {
        give_back();
    }
}

fn locked<T>(shared: &'static Mutex<T>) -> MutexGuard<'static, T> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Gives the terminal back, if the view has it.
fn give_back() {
    let modes = locked(&BEFORE).take();
    if let Some(modes) = modes {
        // A terminal that is gone needs nothing. Its modes come first: what is typed when the shell's
        // screen is back must be for the shell.
        let _ = tcsetattr(io::stdin(), OptionalActions::Now, &modes);
        let _ = io::stdout().write_all(GIVE_BACK.as_bytes());
        let _ = io::stdout().flush();
        for panic in locked(&PANICS).drain(..) {
            let _ = writeln!(io::stderr(), "{panic}");
        }
    }
}

/// The sequence that makes one screen the other.
fn changes(before: &Buffer, after: &Buffer) -> String {
    let mut sequence = String::new();
    let mut style = None;
    // Where the cursor is, after what was written last.
    let mut at = None;
    for (x, y, cell) in before.diff(after) {
        // A write to a string cannot fail.
        if at != Some((x, y)) {
            let _ = write!(sequence, "\x1b[{};{}H", y + 1, x + 1);
        }
        let wanted = (cell.fg, cell.modifier);
        if style != Some(wanted) {
            sequence += &style_sequence(cell);
            style = Some(wanted);
        }
        sequence.push_str(cell.symbol());
        // How wide the terminal takes other letters to be is not known for sure.
        at = cell.symbol().is_ascii().then(|| (x + 1, y));
    }
    if style.is_some() {
        sequence.push_str("\x1b[0m");
    }
    sequence
}

/// The colours and modes that the view uses.
fn style_sequence(cell: &Cell) -> String {
    let color = match cell.fg {
        Color::Red => ";31",
        Color::Green => ";32",
        Color::Yellow => ";33",
        Color::Cyan => ";36",
        _ => "",
    };
    let modes = [(Modifier::BOLD, ";1"), (Modifier::DIM, ";2"), (Modifier::REVERSED, ";7")];
    let modes = modes.into_iter().filter(|(mode, _)| cell.modifier.contains(*mode));
    format!("\x1b[0{}{color}m", modes.map(|(_, code)| code).collect::<String>())
}

#[cfg(test)]
mod tests {
    use super::*;
    use ratatui_core::style::Style;

    #[test]
    fn only_what_has_changed_is_sent() {
        let area = Rect::new(0, 0, 6, 2);
        let mut before = Buffer::empty(area);
        before.set_string(0, 0, "ab✗d", Style::new());
        let mut after = before.clone();
        assert_eq!(changes(&before, &after), "");
        let red = Style::new().fg(Color::Red).add_modifier(Modifier::BOLD);
        after.set_string(1, 0, "x✓d", red);
        after.set_string(0, 1, "end", Style::new());
        assert_eq!(
            changes(&before, &after),
            "\x1b[1;2H\x1b[0;1;31mx✓\x1b[1;4Hd\x1b[2;1H\x1b[0mend\x1b[0m"
        );
    }
}
