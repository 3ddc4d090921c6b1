//! The live view in a real terminal.

use std::fs;

use rustix::process::{Pid, Signal, kill_process};

use super::{GREEN, RED};
use crate::home::{EXE, Home, LIMIT, skip, takes_long, until};

/// A shell in tmux.
struct Tmux<'a> {
    home: &'a Home,
    socket: String,
}

impl<'a> Tmux<'a> {
    fn start(home: &'a Home) -> Self {
        let socket = home.base.join("out/tmux").display().to_string();
        let this = Self { home, socket };
        let shell = "env PS1=ready: sh";
        this.tmux(&["-f", "/dev/null", "new-session", "-d", "-x", "80", "-y", "24", shell]);
        this.wait_for("ready:");
        this
    }

    #[track_caller]
    fn tmux(&self, args: &[&str]) -> String {
        let ran = self.home.start("tmux", &[&["-u", "-S", &self.socket], args].concat()).end(LIMIT);
        assert_eq!(ran.code, Some(0), "{args:?}: {ran:#?}");
        ran.stdout
    }

    fn keys(&self, keys: &[&str]) {
        self.tmux(&[&["send-keys"], keys].concat());
    }

    /// A line for the shell.
    fn line(&self, text: &str) {
        self.keys(&["-l", text]);
        self.keys(&["Enter"]);
    }

    fn screen(&self) -> String {
        self.tmux(&["capture-pane", "-p"])
    }

    /// Waits until all of this is on the screen; gives it.
    #[track_caller]
    fn wait_for(&self, wanted: &str) -> String {
        let mut shown = String::new();
        until(&format!("{wanted:?} is shown"), || {
            shown = self.screen();
            shown.contains(wanted).then_some(())
        });
        shown
    }

    /// Whether a program has the whole screen.
    fn is_taken(&self) -> bool {
        self.tmux(&["display-message", "-p", "#{alternate_on}"]).trim() == "1"
    }

    /// Whether anything on the screen is red or green.
    fn has_colors(&self) -> bool {
        let screen = self.tmux(&["capture-pane", "-p", "-e"]);
        ["\x1b[31m", "\x1b[32m"].iter().any(|color| screen.contains(color))
    }

    /// Waits until the shell has the terminal, as it was when it wrote `before`.
    #[track_caller]
    fn is_given_back(&self, before: &str) {
        until("the screen is given back with its cursor", || {
            let flags = self.tmux(&["display-message", "-p", "#{alternate_on} #{cursor_flag}"]);
            (flags.trim() == "0 1").then_some(())
        });
        // The line may be shown before the shell's prompt: only the output has the word in one piece.
        self.line("stty -g >../out/after; echo do''ne");
        self.wait_for("done");
        let out = self.home.base.join("out");
        let modes = |file: &str| fs::read_to_string(out.join(file)).unwrap();
        assert_eq!(modes("after"), modes(before));
        self.line("clear; rm ../out/after");
    }
}

impl Drop for Tmux<'_> {
    fn drop(&mut self) {
        self.tmux(&["kill-server"]);
    }
}

#[test]
fn red_and_green_are_seen_and_the_terminal_is_given_back() {
    if takes_long() {
        return;
    }
    let mut home = Home::with(&[("src/lib.rs", GREEN)]);
    let has_tmux = std::env::var_os("PATH").is_some_and(|path| {
        std::env::split_paths(&path).any(|folder| folder.join("tmux").is_file())
    });
    if !has_tmux {
        return skip("the live view in a terminal", "tmux is not installed");
    }
    // Beside the workspace: a file in it is another tree.
    let out = home.base.join("out");
    let script = "cd ../out; echo \"$@\" >opened.new; mv opened.new opened\n";
    fs::write(out.join("editor"), script).unwrap();
    home.environment.set("EDITOR", format!("sh {}", out.join("editor").display()));
    home.config("", "debounce = '20ms'\nbackground_tests = true\nnotify = 'terminal'");
    let mut daemon = home.daemon();
    let tmux = Tmux::start(&home);
    let written = out.join("written");
    tmux.tmux(&["pipe-pane", &format!("cat >{}", written.display())]);
    tmux.line("stty -g >../out/before");
    // It has colours if its screen is a terminal, whatever the errors are.
    tmux.line(&format!("{EXE} watch 2>../out/errors"));
    let shown = tmux.wait_for("✓ ws  green, 1 passed");
    assert!(shown.contains("q quit  r run  f failed"), "{shown}");
    assert!(tmux.is_taken());
    assert!(tmux.has_colors());

    home.write("src/lib.rs", RED);
    let shown = tmux.wait_for("✗ one (p)");
    let failure = "✗ one (p)\n  src/lib.rs:3:5\n  assertion `left == right` failed\n    left: 1\n";
    assert!(shown.contains(failure), "{shown}");
    tmux.keys(&["o"]);
    let opened = out.join("opened");
    let words = until("the editor has opened the file", || fs::read_to_string(&opened).ok());
    assert_eq!(words.trim(), format!("+3 {}", home.root.join("src/lib.rs").display()));
    tmux.wait_for("✗ one (p)");
    tmux.keys(&["e"]);
    tmux.wait_for("p: why");
    tmux.keys(&["q"]);
    tmux.wait_for("✗ one (p)");

    // Other sizes, away and back, and no daemon for a while.
    tmux.tmux(&["resize-window", "-x", "1", "-y", "8"]);
    until("one column has the marks", || tmux.screen().starts_with("✗\n✗\n").then_some(()));
    tmux.tmux(&["resize-window", "-x", "40", "-y", "10"]);
    until("the view fits", || tmux.screen().contains("\nq quit r run f failed").then_some(()));
    tmux.keys(&["C-z"]);
    until("the shell has the terminal", || (!tmux.is_taken()).then_some(()));
    tmux.line("fg");
    tmux.wait_for("✗ one (p)");
    daemon.signal(Signal::KILL);
    tmux.wait_for("not connected");
    until("the daemon is gone", || daemon.has_ended().then_some(()));
    drop(daemon);
    daemon = home.daemon();
    tmux.wait_for("✗ ws  red");

    home.write("src/lib.rs", GREEN);
    tmux.wait_for("✓ ws  green, 1 passed");
    let times = |text: &str| fs::read_to_string(&written).unwrap().matches(text).count();
    until("the terminal is notified", || (times("]9;ws is green again") > 0).then_some(()));
    tmux.keys(&["q"]);
    tmux.is_given_back("before");
    // Each was told once, although the daemon has told the red twice.
    assert_eq!((times("]9;ws is red: one fails"), times("]9;ws is green again")), (1, 1));
    assert_eq!(fs::read_to_string(out.join("errors")).unwrap(), "");

    // Without colours, and ended from outside.
    tmux.line(&format!("sh -c 'echo $$ >../out/pid; NO_COLOR=1 exec {EXE} watch'"));
    tmux.wait_for("✓ ws  green, 1 passed");
    assert!(!tmux.has_colors());
    let pid = fs::read_to_string(out.join("pid")).unwrap().trim().parse().unwrap();
    kill_process(Pid::from_raw(pid).unwrap(), Signal::TERM).unwrap();
    tmux.is_given_back("before");

    tmux.line(&format!("{EXE} watch --lines"));
    tmux.wait_for("[Finished running. Exit status: 0]");
    assert!(!tmux.is_taken());
    tmux.keys(&["C-c"]);
    tmux.is_given_back("before");
    daemon.stop();

    // Without a daemon the view watches by itself, and a run by hand is seen.
    home.config("", "debounce = '20ms'");
    home.write("src/lib.rs", &format!("{GREEN}// another tree\n"));
    tmux.line(&format!("{EXE} watch"));
    tmux.wait_for("? ws  unknown");
    tmux.keys(&["r"]);
    tmux.wait_for("✓ ws  green, 1 passed");
    tmux.keys(&["q"]);
    tmux.is_given_back("before");
}
