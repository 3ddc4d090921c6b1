//! Panics while the view has a terminal.

use std::fs::{self, File};
use std::io::{self, BufRead as _, BufReader, Read as _, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixListener;
use std::thread;

use rustix::process::{Signal, getpid, kill_process};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{Termios, Winsize, tcgetattr, tcsetwinsize};

use super::super::{ScreenSetup, watch_on_screen};
use super::project;
use crate::config::Notifications;
use crate::model::{State, StreamEvent, Verdict};
use crate::paths::Paths;
use crate::process::Environment;
use crate::protocol::{LiveState, Reply, encode, hello};
use crate::views::feed::Wanted;
use crate::views::notify::Notices;

const TAKEN: &str = "\x1b[?1049h";
const GIVEN_BACK: &str = "\x1b[?1049l";
/// Written to the terminal behind everything else.
const END: &str = "the test has ended";

fn modes(of: &Termios) -> impl PartialEq + std::fmt::Debug {
    (of.input_modes, of.output_modes, of.control_modes, of.local_modes)
}

/// Runs one of the ignored tests below on a terminal, which must be as before in the end. Gives what
/// was written to it.
#[expect(clippy::disallowed_methods, reason = "its streams are a terminal")]
fn on_a_terminal(test: &str) -> String {
    let screen = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
    grantpt(&screen).unwrap();
    unlockpt(&screen).unwrap();
    let name = ptsname(&screen, Vec::new()).unwrap().into_string().unwrap();
    let mut terminal = File::options().read(true).write(true).open(name).unwrap();
    let size = Winsize { ws_row: 24, ws_col: 80, ws_xpixel: 0, ws_ypixel: 0 };
    tcsetwinsize(&screen, size).unwrap();
    let before = tcgetattr(&terminal).unwrap();
    let reader = thread::spawn(move || {
        let mut screen = File::from(screen);
        let (mut shown, mut bytes) = (Vec::new(), [0; 4096]);
        while !shown.ends_with(END.as_bytes()) {
            let count = screen.read(&mut bytes).unwrap();
            shown.extend(&bytes[..count]);
        }
        // Without a screen there is no terminal any more.
        (screen, String::from_utf8(shown).unwrap())
    });
    let test = format!("views::screen::tests::panics::{test}");
    let stream = || terminal.try_clone().unwrap();
    std::process::Command::new(std::env::current_exe().unwrap())
        .args(["--exact", &test, "--ignored", "--nocapture"])
        .stdin(stream())
        .stdout(stream())
        .stderr(stream())
        .status()
        .unwrap();
    terminal.write_all(END.as_bytes()).unwrap();
    let (_screen, shown) = reader.join().unwrap();
    let after = tcgetattr(&terminal).unwrap();
    assert_eq!(modes(&after), modes(&before), "{shown}");
    shown
}

/// The view on this process's terminal, with a daemon that tells of a red project. The user is to be
/// told of that: then `act` acts, in the middle of the view's work.
fn view(act: impl Fn() + 'static) {
    let folder = tempfile::tempdir().unwrap();
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o700)).unwrap();
    let mut environment = Environment::default();
    for name in ["HOME", "XDG_CONFIG_HOME", "XDG_CACHE_HOME", "XDG_RUNTIME_DIR"] {
        environment.set(name, folder.path());
    }
    let paths = Paths::from_environment(&environment).unwrap();
    fs::create_dir_all(&paths.runtime_dir).unwrap();
    fs::set_permissions(&paths.runtime_dir, fs::Permissions::from_mode(0o700)).unwrap();
    let listener = UnixListener::bind(paths.socket()).unwrap();
    thread::spawn(move || {
        let (mut client, _) = listener.accept().unwrap();
        let mut from = BufReader::new(client.try_clone().unwrap());
        from.read_line(&mut String::new()).unwrap();
        client.write_all(&encode(&Reply::Subscribed).unwrap()).unwrap();
        let begun = [vec![hello()], project("/p", State::Testing), vec![StreamEvent::Synced]];
        let mut red = super::green("/p");
        if let StreamEvent::Verdict(verdict) = &mut red {
            verdict.verdict = Some(Verdict::Fail);
        }
        let ended = project("/p", State::Idle).into_iter().skip(1);
        for event in begun.concat().into_iter().chain([red]).chain(ended) {
            client.write_all(&encode(&Reply::Event { event }).unwrap()).unwrap();
        }
        // Until the view is gone.
        io::copy(&mut from, &mut io::sink())
    });
    let mut notifier = Notices::new(None, paths.desktop_lock(), move |_| {
        act();
        Notifications::Off
    });
    // It has seen that the project is being tested: all that follows may come at once.
    let mut state = LiveState::default();
    project("/p", State::Testing).into_iter().for_each(|event| state.apply(event));
    state.apply(StreamEvent::Synced);
    notifier.news(&state);
    let wanted = Wanted::All;
    watch_on_screen(ScreenSetup { paths, environment, wanted, has_color: true, notifier }).unwrap();
}

#[test]
fn a_panic_of_the_view_is_told_on_the_terminal_as_it_was() {
    let shown = on_a_terminal("the_view_panics");
    let (_, shown) = shown.split_once(TAKEN).expect(&shown);
    let (view, after) = shown.split_once(GIVEN_BACK).expect(shown);
    assert!(!view.contains("the view is broken"), "{view:?}");
    assert!(after.contains("the view is broken"), "{after:?}");
    assert!(!after.contains(TAKEN) && !after.contains(GIVEN_BACK), "{after:?}");
}

#[test]
#[ignore = "run by the test above"]
fn the_view_panics() {
    view(|| panic!("the view is broken"));
}

#[test]
fn a_panic_of_another_thread_is_told_when_the_view_has_ended() {
    let shown = on_a_terminal("another_thread_panics");
    let (_, shown) = shown.split_once(TAKEN).expect(&shown);
    let (view, after) = shown.split_once(GIVEN_BACK).expect(shown);
    assert!(!view.contains("a thread is broken"), "{view:?}");
    assert!(after.contains("a thread is broken"), "{after:?}");
}

#[test]
#[ignore = "run by the test above"]
fn another_thread_panics() {
    view(|| {
        thread::spawn(|| panic!("a thread is broken")).join().unwrap_err();
        kill_process(getpid(), Signal::TERM).unwrap();
    });
}
