//! Notifications of the terminal and of the desktop: a project has turned red in the background, or
//! is green again.
//!
//! Each is sent once. While git is in the middle of an operation none is: every commit of a rebase
//! is another tree.

mod desktop;

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};

use self::desktop::Desktop;
use super::summary::{Standing, has_failed_build, standing};
use crate::config::Notifications;
use crate::model::{Outcome, Verdict};
use crate::process::Environment;
use crate::protocol::{LiveProject, LiveState, State};
use crate::workspace::Repository;

/// Finds out what there is to be told.
pub(crate) struct Notices {
    /// The terminal's form; none without a terminal.
    form: Option<NoticeForm>,
    desktop: Desktop,
    /// How the user wants to be told of a project; asked when there is something to tell.
    wanted: Box<dyn Fn(&Path) -> Notifications>,
    /// What was seen of each project.
    seen: BTreeMap<PathBuf, SeenProject>,
}

impl fmt::Debug for Notices {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { form, desktop, seen, wanted: _ } = self;
        let mut shown = f.debug_struct("Notices");
        shown.field("form", form).field("desktop", desktop).field("seen", seen).finish()
    }
}

/// What was seen of a project.
#[derive(Debug, Default)]
struct SeenProject {
    is_red: bool,
    /// The user was told that it is red, and not yet that it is green again.
    is_told: bool,
    /// The service was at work on it, or has failed to build it.
    was_at_work: bool,
}

/// What the user is told.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Notice {
    title: String,
    text: Option<String>,
}

impl Notice {
    /// All of it in one line.
    fn line(&self) -> String {
        let Self { title, text } = self;
        text.as_ref().map_or_else(|| title.clone(), |text| format!("{title}: {text}"))
    }
}

/// Which escape sequence the terminal knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NoticeForm {
    /// `OSC 9`, as most know it.
    Osc9,
    /// `OSC 777`, for foot, rxvt and the terminals of GNOME's library.
    Osc777,
    /// `OSC 9` through tmux to the terminal around it, where `allow-passthrough` is on.
    Tmux,
}

impl NoticeForm {
    /// The form that the terminal of this environment knows.
    pub(crate) fn of(environment: &Environment) -> Self {
        let term = environment.get("TERM").unwrap_or_default().to_string_lossy();
        if environment.get("TMUX").is_some() {
            Self::Tmux
        } else if environment.get("VTE_VERSION").is_some()
            || ["foot", "rxvt"].iter().any(|name| term.starts_with(name))
        {
            Self::Osc777
        } else {
            Self::Osc9
        }
    }

    /// The sequence that has the terminal show a notice.
    fn sequence(self, notice: &Notice) -> String {
        let shown = |char: char| if char.is_control() || char == ';' { ' ' } else { char };
        let text: String = notice.line().chars().map(shown).collect();
        match self {
            Self::Osc9 => format!("\x1b]9;{text}\x1b\\"),
            Self::Osc777 => format!("\x1b]777;notify;knhk-test-cache;{text}\x1b\\"),
            // Escapes inside are doubled.
            Self::Tmux => format!("\x1bPtmux;\x1b\x1b]9;{text}\x07\x1b\\"),
        }
    }
}

impl Notices {
    /// A notifier that has told nothing. `form`: that of the terminal, if there is one. Of several
    /// views, the one that holds `desktop_lock` tells the desktop.
    pub(crate) fn new(
        form: Option<NoticeForm>,
        desktop_lock: PathBuf,
        wanted: impl Fn(&Path) -> Notifications + 'static,
    ) -> Self {
        let desktop = Desktop::new(desktop_lock);
        Self { form, desktop, wanted: Box::new(wanted), seen: BTreeMap::new() }
    }

    /// Tells the desktop what there is to be told, now that the state is this; gives the sequences to
    /// send to the terminal.
    pub(crate) fn news(&mut self, state: &LiveState) -> Vec<String> {
        let is_in_operation = |root: &Path| {
            Repository::around(root).is_some_and(|repository| repository.under_way().is_some())
        };
        let mut sequences = Vec::new();
        for (wanted, notice) in self.notices(state, is_in_operation) {
            match wanted {
                Notifications::Off => {}
                Notifications::Terminal => {
                    sequences.extend(self.form.map(|form| form.sequence(&notice)));
                }
                Notifications::Desktop => self.desktop.show(notice),
            }
        }
        sequences
    }

    /// Why the desktop has not shown what it was to show; told once.
    pub(crate) fn problem(&self) -> Option<String> {
        self.desktop.problem()
    }

    fn notices(
        &mut self,
        state: &LiveState,
        is_in_operation: impl Fn(&Path) -> bool,
    ) -> Vec<(Notifications, Notice)> {
        // The first state is no news; without a connection nothing is known.
        if state.lost.is_some() {
            return Vec::new();
        }
        let mut notices = Vec::new();
        for (root, project) in &state.projects {
            let is_new = !self.seen.contains_key(root);
            let seen = self.seen.entry(root.clone()).or_default();
            let doing = project.activity.as_ref().map(|activity| activity.state);
            let was_at_work = std::mem::replace(
                &mut seen.was_at_work,
                matches!(doing, Some(State::Building | State::Testing | State::Failed)),
            );
            if matches!(doing, Some(State::Hashing | State::Building | State::Testing)) {
                continue;
            }
            let standing = standing(project);
            let is_news = match standing {
                Standing::Red => !seen.is_red,
                Standing::Green => seen.is_red,
                // Until the new tree is known, it is as it was.
                Standing::Unknown => false,
            };
            // The end of an operation is another change, and the time to look again.
            if !is_news || is_in_operation(root) {
                continue;
            }
            seen.is_red = standing == Standing::Red;
            let was_told = std::mem::take(&mut seen.is_told);
            let is_in_background = was_at_work || seen.was_at_work;
            if is_new || !state.is_synced {
                seen.is_told = was_told && seen.is_red;
                continue;
            }
            let name = root.file_name().unwrap_or(root.as_os_str()).to_string_lossy();
            let (title, text) = match standing {
                Standing::Red if is_in_background => {
                    (format!("{name} is red"), Some(why_red(project)))
                }
                Standing::Green if was_told => (format!("{name} is green again"), None),
                _ => continue,
            };
            let wanted = (self.wanted)(root);
            if wanted != Notifications::Off {
                seen.is_told = seen.is_red;
                notices.push((wanted, Notice { title, text }));
            }
        }
        self.seen.retain(|root, _| state.projects.contains_key(root) || !state.is_synced);
        notices
    }
}

fn why_red(project: &LiveProject) -> String {
    if has_failed_build(project) {
        return "the tests do not compile".to_owned();
    }
    let red = project.targets.values().filter(|it| it.event.verdict != Verdict::Pass);
    let mut names = red.flat_map(|target| {
        let failed = target.tests.values().filter(|it| it.outcome == Outcome::Failed);
        failed.map(|test| test.name.clone())
    });
    match names.next() {
        Some(name) => match names.count() {
            0 => format!("{name} fails"),
            more => format!("{name} and {more} other tests fail"),
        },
        None => "tests fail".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{EventOf, STREAM_VERSION, StreamEvent, Timestamp, VerdictEvent};

    fn of(tree: u8) -> EventOf {
        EventOf::sample(tree)
    }

    fn doing(state: State) -> StreamEvent {
        let (reason, since) = (None, Timestamp(0));
        StreamEvent::Project { project: "/p".into(), state, reason, since }
    }

    fn verdict(tree: u8, verdict: Verdict) -> StreamEvent {
        StreamEvent::Verdict(VerdictEvent::sample(of(tree), verdict))
    }

    /// A watched project and all that was told of it.
    struct Watched {
        notifier: Notices,
        state: LiveState,
        is_in_operation: bool,
    }

    impl Watched {
        /// It is green.
        fn new() -> Self {
            let notifier = Notices::new(None, PathBuf::new(), |_| Notifications::Terminal);
            let mut this = Self { notifier, state: LiveState::default(), is_in_operation: false };
            assert_eq!(this.settles(0, State::Testing, Verdict::Pass), [""; 0]);
            this.state.apply(StreamEvent::Synced);
            assert_eq!(this.settles(0, State::Testing, Verdict::Pass), [""; 0]);
            this
        }

        fn tell(&mut self, event: StreamEvent) -> Vec<String> {
            self.state.apply(event);
            let is_in_operation = self.is_in_operation;
            let notices = self.notifier.notices(&self.state, |_| is_in_operation).into_iter();
            notices.map(|(_, notice)| notice.line()).collect()
        }

        /// A tree gets its verdict after this work.
        fn settles(&mut self, tree: u8, work: State, pass: Verdict) -> Vec<String> {
            let project = "/p".into();
            let code_hash = Some(of(tree).code_hash);
            let events = [
                StreamEvent::Tree { project, code_hash },
                doing(State::Hashing),
                doing(work),
                verdict(tree, pass),
                doing(State::Idle),
                verdict(tree, pass),
            ];
            events.into_iter().flat_map(|event| self.tell(event)).collect()
        }
    }

    #[test]
    fn red_and_green_again_are_told_once_each() {
        let mut watched = Watched::new();
        let red = ["p is red: tests fail"];
        assert_eq!(watched.settles(1, State::Testing, Verdict::Fail), red);
        assert_eq!(watched.settles(2, State::Testing, Verdict::Fail), [""; 0], "as before");
        watched.tell(StreamEvent::Disconnected { reason: String::new(), retry_ms: 1 });
        let (version, tool) = (STREAM_VERSION, String::new());
        watched.tell(StreamEvent::Hello { version, tool, daemon: true });
        assert_eq!(watched.settles(2, State::Testing, Verdict::Fail), [""; 0]);
        watched.tell(StreamEvent::Synced);
        assert_eq!(watched.settles(3, State::Testing, Verdict::Pass), ["p is green again"]);
        assert_eq!(watched.settles(4, State::Testing, Verdict::Pass), [""; 0]);
    }

    #[test]
    fn what_the_user_has_run_is_known_to_the_user() {
        let mut watched = Watched::new();
        assert_eq!(watched.settles(1, State::Idle, Verdict::Fail), [""; 0]);
        assert_eq!(watched.settles(2, State::Idle, Verdict::Pass), [""; 0]);
    }

    #[test]
    fn an_operation_of_git_is_let_alone() {
        let mut watched = Watched::new();
        watched.is_in_operation = true;
        assert_eq!(watched.settles(1, State::Testing, Verdict::Fail), [""; 0]);
        assert_eq!(watched.settles(2, State::Testing, Verdict::Pass), [""; 0]);
        assert_eq!(watched.settles(3, State::Testing, Verdict::Fail), [""; 0]);
        watched.is_in_operation = false;
        assert_eq!(watched.settles(4, State::Testing, Verdict::Fail).len(), 1);
        watched.is_in_operation = true;
        assert_eq!(watched.settles(5, State::Testing, Verdict::Pass), [""; 0]);
        watched.is_in_operation = false;
        assert_eq!(watched.settles(6, State::Testing, Verdict::Pass).len(), 1);
    }

    #[test]
    fn nobody_is_told_who_does_not_want_to_be() {
        let mut watched = Watched::new();
        watched.notifier.wanted = Box::new(|_| Notifications::Off);
        assert_eq!(watched.settles(1, State::Testing, Verdict::Fail), [""; 0]);
        assert_eq!(watched.settles(2, State::Testing, Verdict::Pass), [""; 0]);
    }

    #[test]
    fn a_sequence_ends_where_it_should() {
        for (vars, expected) in [
            (&[("TERM", "xterm")][..], "\x1b]9;a b  c\x1b\\"),
            (&[("TERM", "foot")], "\x1b]777;notify;knhk-test-cache;a b  c\x1b\\"),
            (&[("TMUX", "x"), ("TERM", "tmux")], "\x1bPtmux;\x1b\x1b]9;a b  c\x07\x1b\\"),
        ] {
            let notice = Notice { title: "a;b\x1b\x07c".to_owned(), text: None };
            assert_eq!(NoticeForm::of(&Environment::of(vars)).sequence(&notice), expected);
        }
    }
}
