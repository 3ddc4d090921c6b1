//! The live view on screens of several sizes, without a terminal.

mod panics;

use std::time::Instant;

use ratatui_core::backend::TestBackend;
use ratatui_core::style::{Color, Modifier};
use ratatui_core::terminal::Terminal;

use super::board::{Board, KeyWish};
use super::keys::PressedKey;
use super::paint::Palette;
use crate::model::{
    BuildEvent, Digest, EventOf, Outcome, STREAM_VERSION, Source, SourcePlace, State, StreamEvent,
    TargetEvent, TargetId, TargetKind, TestCounts, TestEntry, Timestamp, Verdict, VerdictEvent,
};
use crate::protocol::tests_events;

const NOW: Timestamp = Timestamp(600_000);

fn of(project: &str) -> EventOf {
    EventOf { project: project.into(), code_hash: Digest::of(b"tree") }
}

fn id(package: &str, target: &str) -> TargetId {
    let kind = if package == target { TargetKind::Lib } else { TargetKind::Test };
    TargetId { package: package.into(), target: target.into(), kind }
}

/// The begin of a project's story.
fn project(project: &str, state: State) -> Vec<StreamEvent> {
    let of = of(project);
    vec![
        StreamEvent::Tree { project: of.project.clone(), code_hash: Some(of.code_hash) },
        StreamEvent::Project { project: of.project, state, reason: None, since: NOW },
    ]
}

/// A target with its tests: a failed one has a message.
fn target(project: &str, id: TargetId, tests: &[(&str, Option<&str>)]) -> Vec<StreamEvent> {
    let failed = tests.iter().filter(|(_, message)| message.is_some()).count() as u64;
    let counts = TestCounts { passed: tests.len() as u64 - failed, failed, ..Default::default() };
    let is_green = failed == 0;
    let verdict = if is_green { Verdict::Pass } else { Verdict::Fail };
    let event = TargetEvent {
        source: if is_green { Source::Cache } else { Source::Run },
        reason: if is_green { "same code, settings and environment" } else { "run" }.into(),
        when: Timestamp(0),
        counts,
        ..TargetEvent::sample(of(project), id, verdict)
    };
    let panic = SourcePlace { file: "src/lib.rs".into(), line: 3, column: Some(5) };
    let entry = |(name, message): &(&str, Option<&str>)| TestEntry {
        message: message.map(str::to_owned),
        panic: message.map(|_| panic.clone()),
        ..TestEntry::sample(name, if message.is_some() { Outcome::Failed } else { Outcome::Ok })
    };
    let tests: Vec<_> = tests.iter().map(entry).collect();
    let tests = tests_events(&event, tests).collect::<Vec<_>>();
    std::iter::once(StreamEvent::Target(event)).chain(tests).collect()
}

fn green(project: &str) -> StreamEvent {
    StreamEvent::Verdict(VerdictEvent {
        source: Some(Source::Cache),
        when: Some(Timestamp(0)),
        counts: TestCounts { passed: 12, ..TestCounts::default() },
        ..VerdictEvent::sample(of(project), Verdict::Pass)
    })
}

fn board(events: impl IntoIterator<Item = StreamEvent>) -> Board {
    let mut board = Board::default();
    let hello = StreamEvent::Hello { version: STREAM_VERSION, tool: String::new(), daemon: true };
    board.apply(hello);
    events.into_iter().for_each(|event| board.apply(event));
    board.apply(StreamEvent::Synced);
    board
}

/// The screen's text.
fn screen(board: &mut Board, width: u16, height: u16) -> String {
    let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
    let palette = Palette { has_color: true };
    terminal.draw(|frame| board.paint(frame.buffer_mut(), NOW, palette)).unwrap();
    let cells = terminal.backend().buffer();
    let line = |y| (0..width).map(|x| cells[(x, y)].symbol()).collect::<String>();
    (0..height).map(|y| line(y).trim_end().to_owned()).collect::<Vec<_>>().join("\n")
}

/// A project in the middle of a run.
fn running() -> Vec<StreamEvent> {
    let message =
        "assertion `left == right` failed: the sum of all the parts\n  left: 1\n right: 2";
    let mut events = project("/w/calc", State::Testing);
    let of = of("/w/calc");
    events.push(StreamEvent::Plan { of: of.clone(), run: 3, left: 2, done: 0 });
    events.extend(target("/w/calc", id("calc", "calc"), &[("one", None), ("two", None)]));
    for target in ["it", "slow"] {
        let id = id("calc", target);
        events.push(StreamEvent::Running { of: of.clone(), id, since: Timestamp(588_000) });
    }
    let tests = [("tests::adds", Some(message)), ("tests::subs", None)];
    events.extend(target("/w/calc", id("calc", "it"), &tests));
    events
}

#[test]
fn failures_come_first_then_what_runs_then_what_is_known() {
    let mut board = board(running());
    insta::assert_snapshot!(screen(&mut board, 80, 24), @r"
    ✗ calc  red, 3 passed, 1 failed, 10m ago, run and cached (testing)
    ✗ tests::adds (calc::it)
      src/lib.rs:3:5
      assertion `left == right` failed: the sum of all the parts
        left: 1
       right: 2
    ▶ calc::slow  12s
      2 of 3 targets left, 2 wait until you ask
    ✓ calc  2 passed, 10m ago, cached: same code, settings and environment
    ✗ calc::it  1 passed, 1 failed, 10m ago, run: run













    q quit  r run  f failed  e explain  o open  p pause  / filter  t tests
    ");
}

#[test]
fn a_small_pane_shows_what_matters() {
    let mut board = board(running());
    insta::assert_snapshot!(screen(&mut board, 40, 10), @r"
    ✗ calc  red, 3 passed, 1 failed, 10m ago
    ✗ tests::adds (calc::it)
      src/lib.rs:3:5
      assertion `left == right` failed: the
      sum of all the parts
        left: 1
       right: 2
    ▶ calc::slow  12s
      2 of 3 targets left, 2 wait until you
    q quit r run f failed e explain o open
    ");
}

#[test]
fn no_screen_is_too_small() {
    for width in 0..12 {
        for height in 0..12 {
            for events in [Vec::new(), running(), project("/w/ü", State::Idle)] {
                let mut board = board(events);
                screen(&mut board, width, height);
                for key in [
                    PressedKey::Down,
                    PressedKey::End,
                    PressedKey::PageUp,
                    PressedKey::Char('t'),
                    PressedKey::Char('/'),
                ] {
                    board.key(key);
                    screen(&mut board, width, height);
                }
                board.open_panel("why".into(), "a\nb\nc");
                board.key(PressedKey::End);
                screen(&mut board, width, height);
            }
        }
    }
    insta::assert_snapshot!(screen(&mut board(running()), 1, 8), @r"
    ✗
    ✗





    q
    ");
}

#[test]
fn each_project_has_a_line_and_those_without_room_are_counted() {
    let mut events = Vec::new();
    for name in ["/w/one", "/w/two"] {
        events.extend(project(name, State::Idle));
        events.extend(target(name, id("p", "p"), &[("t", None)]));
        events.push(green(name));
    }
    events.extend(project("/w/zoo", State::Failed));
    events.push(StreamEvent::Build(BuildEvent {
        of: of("/w/zoo"),
        when: NOW,
        success: false,
        duration_ms: 1,
        errors: "\x1b[1merror[E0425]\x1b[0m: cannot find value `x`\n --> src/lib.rs:1:2\n  |\n\
                 1 | x\n\nerror: could not compile `zoo`\n"
            .into(),
        ended: None,
    }));
    let mut board = board(events);
    insta::assert_snapshot!(screen(&mut board, 80, 12), @r"
    ✓ one  green, 12 passed, 10m ago, cached
    ✓ two  green, 12 passed, 10m ago, cached
    ✗ zoo  red, the tests do not compile
    ✗ zoo: error[E0425]: cannot find value `x`
      src/lib.rs:1:2
        |
      1 | x
    ✓ one: p  1 passed, 10m ago, cached: same code, settings and environment
    ✓ two: p  1 passed, 10m ago, cached: same code, settings and environment


    q quit  r run  f failed  e explain  o open  p pause  / filter  t tests
    ");
    insta::assert_snapshot!(screen(&mut board, 40, 6), @r"
    ✓ one  green, 12 passed, 10m ago, cached
    +2 projects, 1 of them red
    ✗ zoo: error[E0425]: cannot find value
      `x`
      src/lib.rs:1:2
    q quit r run f failed e explain o open
    ");
}

#[test]
fn many_failures_scroll_and_the_row_at_the_cursor_decides_what_a_key_is_about() {
    let names: Vec<_> = (0..500).map(|number| format!("t{number:03}")).collect();
    let tests: Vec<_> = names.iter().map(|name| (name.as_str(), Some("no"))).collect();
    let mut events = project("/w/p", State::Idle);
    events.extend(target("/w/p", id("p", "p"), &tests));
    let mut board = board(events);
    screen(&mut board, 40, 10);
    for _ in 0..4 {
        board.key(PressedKey::Down);
    }
    let shown = screen(&mut board, 40, 10);
    assert!(shown.contains("✗ t001 (p)"), "{shown}");
    let Some(KeyWish::Edit(subject)) = board.key(PressedKey::Char('o')) else { panic!("{shown}") };
    assert_eq!(subject.test.as_deref(), Some("t001"));
    assert_eq!(subject.place.map(|place| place.line), Some(3));
    let wish = board.key(PressedKey::Char('e'));
    let (project, target) = ("/w/p".into(), Some(id("p", "p")));
    assert_eq!(wish, Some(KeyWish::Explain { project, target }));
    let Some(KeyWish::RunFailed { tests, .. }) = board.key(PressedKey::Char('f')) else { panic!() };
    assert_eq!(tests[&id("p", "p")].len(), 500);

    board.key(PressedKey::End);
    insta::assert_snapshot!(screen(&mut board, 40, 6), @r"
    ✗ p  red, 0 passed, 500 failed, 10m ago,
    ✗ t499 (p)
      src/lib.rs:3:5
      no
    ✗ p  0 passed, 500 failed, 10m ago, run:
    q quit r run f failed e explain o open
    ");
    // The tree changes: nothing is known, and what failed last can still be run.
    board.apply(StreamEvent::Tree { project: "/w/p".into(), code_hash: None });
    let shown = screen(&mut board, 40, 10);
    assert!(!shown.contains("t499"), "{shown}");
    assert!(matches!(board.key(PressedKey::Char('f')), Some(KeyWish::RunFailed { .. })));
}

#[test]
fn a_filter_finds_tests_and_is_taken_back() {
    let mut board = board(running());
    screen(&mut board, 40, 10);
    for key in "/SUB".chars() {
        board.key(PressedKey::Char(key));
    }
    insta::assert_snapshot!(screen(&mut board, 40, 10), @r"
    ✗ calc  red, 3 passed, 1 failed, 10m ago
    ✗ calc::it  1 passed, 1 failed, 10m ago,
      ✓ tests::subs






    /SUB_
    ");
    board.key(PressedKey::Enter);
    assert_eq!(board.key(PressedKey::Char('q')), Some(KeyWish::Quit), "no longer typed");
    board.key(PressedKey::Escape);
    assert!(screen(&mut board, 40, 10).contains("tests::adds"));
}

#[test]
fn a_text_lies_over_the_rows_until_it_is_closed() {
    let mut board = board(running());
    board.open_panel("calc: why".into(), "one\n\ttwo\nthree\nfour\nfive");
    board.key(PressedKey::Down);
    insta::assert_snapshot!(screen(&mut board, 40, 6), @r"
    ✗ calc  red, 3 passed, 1 failed, 10m ago
    calc: why
        two
    three
    four
    q back  j k scroll  g G ends
    ");
    insta::assert_snapshot!(screen(&mut board, 6, 6), @r"
    ✗ calc
    calc:
        tw
    o
    three
    q back
    ");
    assert_eq!(board.key(PressedKey::Char('q')), None);
    assert!(screen(&mut board, 40, 10).contains("tests::adds"));
}

#[test]
fn a_lost_connection_leaves_nothing_on_the_screen() {
    let mut board = board(running());
    board.apply(StreamEvent::Disconnected { reason: "gone".into(), retry_ms: 1 });
    let shown = screen(&mut board, 40, 4);
    assert!(shown.starts_with("not connected: gone\n\n\n"), "{shown}");
}

#[test]
fn without_colours_there_are_none() {
    let mut terminal = Terminal::new(TestBackend::new(40, 10)).unwrap();
    let mut board = board(running());
    let palette = Palette { has_color: false };
    terminal.draw(|frame| board.paint(frame.buffer_mut(), NOW, palette)).unwrap();
    let cells = terminal.backend().buffer().content();
    assert!(cells.iter().all(|cell| cell.fg == Color::Reset && cell.bg == Color::Reset));
    assert!(cells.iter().any(|cell| cell.modifier.contains(Modifier::BOLD)));
}

/// No time is asserted: what a picture costs is printed with `--nocapture`.
#[test]
fn a_hundred_thousand_tests_are_counted_and_only_those_in_sight_are_made() {
    let names: Vec<_> = (0..100_000).map(|number| format!("module::test_{number:06}")).collect();
    let tests: Vec<_> = names.iter().map(|name| (name.as_str(), None)).collect();
    let mut events = project("/w/p", State::Idle);
    events.extend(target("/w/p", id("p", "p"), &tests));
    let begin = Instant::now();
    let mut board = board(events);
    screen(&mut board, 80, 24);
    let first = begin.elapsed();
    board.key(PressedKey::Char('t'));
    screen(&mut board, 80, 24);
    let begin = Instant::now();
    board.key(PressedKey::End);
    let shown = screen(&mut board, 80, 24);
    println!("first picture {first:?}, one at the end {:?}", begin.elapsed());
    assert!(shown.contains("✓ module::test_099999"), "{shown}");
    board.key(PressedKey::Up);
    let Some(KeyWish::Edit(subject)) = board.key(PressedKey::Enter) else { panic!("{shown}") };
    assert_eq!(subject.test.as_deref(), Some("module::test_099998"));
}
