//! The order of the queue by example, and by its rules over all histories.

use proptest::prelude::*;

use super::*;

fn wish(name: &str) -> Wish {
    let project = Path::new("/").join(name);
    let target_dirs = vec![project.join("target")];
    Wish { project, name: name.to_owned(), target_dirs, what: "build" }
}

fn at(seconds: u64, start: Instant) -> Instant {
    start + Duration::from_secs(seconds)
}

/// Names in the order in which they are served, each ending at once.
fn served(order: &mut Order, now: Instant) -> Vec<String> {
    let mut names = Vec::new();
    loop {
        let ids: Vec<_> = order.entries.keys().copied().collect();
        let Some(id) = ids.into_iter().find(|id| order.turn(*id, now) == Turn::Now) else {
            return names;
        };
        names.push(order.entries[&id].wish.name.clone());
        order.leave(id, true, now);
    }
}

#[test]
fn the_edited_one_then_those_asked_for_then_the_rest() {
    let start = Instant::now();
    let mut order = Order::default();
    for name in ["rest", "asked", "later asked", "edited", "later edited"] {
        order.enter(wish(name), start);
    }
    order.edited(Path::new("/edited"), at(1, start));
    order.asked(Path::new("/asked"), at(2, start));
    order.asked(Path::new("/later asked"), at(3, start));
    order.edited(Path::new("/later edited"), at(4, start));
    let expected = ["later edited", "edited", "later asked", "asked", "rest"];
    assert_eq!(served(&mut order, at(5, start)), expected);
}

#[test]
fn one_at_a_time_and_everybody_is_told_where_they_stand() {
    let start = Instant::now();
    let mut order = Order::default();
    let [a, b, c] = ["a", "b", "c"].map(|name| order.enter(wish(name), start));
    assert_eq!(order.turn(a, start), Turn::Now);
    assert_eq!(order.turn(a, start), Turn::Now, "it has the place");
    let later = |position| Turn::Later { position, behind: Some("a's build".to_owned()) };
    assert_eq!(order.turn(b, start), later(1));
    assert_eq!(order.turn(c, start), later(2));
    order.edited(Path::new("/c"), start);
    assert_eq!(order.turn(b, start), later(2));
    order.leave(a, true, start);
    assert!(matches!(order.turn(b, start), Turn::Later { position: 2, behind: None }));
    assert_eq!(order.turn(c, start), Turn::Now);
}

#[test]
fn who_is_waited_for_begins_at_once_but_never_in_the_same_folder() {
    let start = Instant::now();
    let mut order = Order::default();
    let [a, b] = ["a", "b"].map(|name| order.enter(wish(name), start));
    assert_eq!(order.turn(a, start), Turn::Now);
    order.want(b);
    assert_eq!(order.turn(b, start), Turn::Now);
    let beside = Wish { target_dirs: wish("a").target_dirs, ..wish("worktree") };
    let beside = order.enter(beside, start);
    order.want(beside);
    assert!(matches!(order.turn(beside, start), Turn::Later { .. }));
    assert_eq!(order.contest(a, start), Some(Contest { by: "worktree".into(), must: true }));
    assert_eq!(order.contest(b, start), None, "it has a folder of its own, and is waited for");
    order.leave(a, false, start);
    let a = order.enter(wish("a"), start);
    assert_eq!(order.turn(beside, start), Turn::Now);
    order.leave(b, true, start);
    assert!(matches!(order.turn(a, start), Turn::Later { .. }));
}

#[test]
fn only_an_edit_interrupts_and_not_what_waited_too_long() {
    let start = Instant::now();
    let mut order = Order::default();
    let [a, b] = ["a", "b"].map(|name| order.enter(wish(name), start));
    assert_eq!(order.turn(a, start), Turn::Now);
    assert_eq!(order.contest(a, start), None);
    order.asked(Path::new("/b"), start);
    assert_eq!(order.contest(a, start), None, "a question is answered without");
    order.edited(Path::new("/b"), start);
    assert_eq!(order.contest(a, start), Some(Contest { by: "b".into(), must: false }));
    order.edited(Path::new("/a"), at(1, start));
    assert_eq!(order.contest(a, at(1, start)), None, "it is the one being edited");
    assert!(order.contest(a, start + EDITING + Duration::from_secs(2)).is_none());
    // The other way round: `b` waits too long, and then has its time.
    let late = start + PATIENCE;
    order.leave(a, false, late);
    order.enter(wish("a"), late);
    order.edited(Path::new("/a"), late);
    assert_eq!(order.turn(b, late), Turn::Now);
    order.edited(Path::new("/a"), at(1, late));
    assert_eq!(order.contest(b, at(1, late)), None);
}

#[test]
fn a_newer_snapshot_waits_as_long_as_the_one_that_it_replaces() {
    let start = Instant::now();
    let mut order = Order::default();
    let busy = order.enter(wish("busy"), start);
    assert_eq!(order.turn(busy, start), Turn::Now);
    let mut old = order.enter(wish("saved often"), start);
    for round in 1..700 {
        let now = at(round, start);
        order.leave(old, false, now);
        old = order.enter(wish("saved often"), now);
    }
    let fresh = order.enter(wish("fresh"), at(700, start));
    order.edited(Path::new("/fresh"), at(700, start));
    order.leave(busy, true, at(700, start));
    assert!(matches!(order.turn(fresh, at(700, start)), Turn::Later { position: 2, .. }));
    assert_eq!(order.turn(old, at(700, start)), Turn::Now);
}

#[test]
fn what_is_nearly_done_or_would_lose_more_than_it_saves_goes_on() {
    let seconds = Duration::from_secs;
    assert!(is_worth_it(seconds(0), None));
    assert!(is_worth_it(seconds(2), Some(seconds(60))));
    assert!(!is_worth_it(seconds(20), Some(seconds(5))));
    assert!(!is_worth_it(seconds(0), Some(Duration::from_millis(300))));
}

/// One thing that happens to a queue of few projects.
#[derive(Clone, Copy, Debug)]
enum Step {
    Enter(usize),
    Edit(usize),
    Ask(usize),
    GiveUp(usize),
    Pass(u64),
}

fn step(projects: usize) -> impl Strategy<Value = Step> {
    prop_oneof![
        3 => (0..projects).prop_map(Step::Enter),
        3 => (0..projects).prop_map(Step::Edit),
        1 => (0..projects).prop_map(Step::Ask),
        1 => (0..projects).prop_map(Step::GiveUp),
        2 => (1..60_u64).prop_map(Step::Pass),
    ]
}

proptest! {
    /// Builds take a minute, give way whenever they are asked to, and whoever edits does so all
    /// the time: still nobody waits longer than the patience and one round of builds.
    #[test]
    fn there_is_one_at_a_time_and_nobody_starves(steps in prop::collection::vec(step(4), 1..400)) {
        const BUILD: u64 = 60;
        let start = Instant::now();
        let mut order = Order::default();
        let mut queued: [Option<(Id, u64)>; 4] = [None; 4];
        let mut running: Option<(usize, u64)> = None;
        let mut clock = 0;
        let mut todo: Vec<_> = steps.into_iter().rev().collect();
        // Afterwards two of them are edited for an hour.
        let edits = (0..120).flat_map(|_| [Step::Edit(0), Step::Enter(0), Step::Edit(1), Step::Enter(1), Step::Pass(30)]);
        todo.splice(0..0, edits.collect::<Vec<_>>().into_iter().rev());
        while let Some(step) = todo.pop() {
            let now = at(clock, start);
            match step {
                Step::Enter(who) if queued[who].is_none() => {
                    queued[who] = Some((order.enter(wish(&who.to_string()), now), clock));
                }
                Step::Enter(_) => {}
                Step::Edit(who) => order.edited(&Path::new("/").join(who.to_string()), now),
                Step::Ask(who) => order.asked(&Path::new("/").join(who.to_string()), now),
                Step::GiveUp(who) => {
                    if let Some((id, _)) = queued[who].take() {
                        order.leave(id, false, now);
                        running = running.filter(|(other, _)| *other != who);
                    }
                }
                Step::Pass(seconds) => clock += seconds,
            }
            let now = at(clock, start);
            if let Some((who, begun)) = running {
                let (id, _) = queued[who].unwrap();
                if clock - begun >= BUILD {
                    order.leave(id, true, now);
                    (queued[who], running) = (None, None);
                } else if order.contest(id, now).is_some() {
                    order.leave(id, false, now);
                    queued[who] = Some((order.enter(wish(&who.to_string()), now), clock));
                    running = None;
                }
            }
            let mut began = Vec::new();
            for (who, entry) in queued.iter().enumerate() {
                let Some((id, _)) = entry else { continue };
                if running.is_some_and(|(other, _)| other == who) {
                    continue;
                }
                if order.turn(*id, now) == Turn::Now {
                    began.push(who);
                }
            }
            prop_assert!(began.len() + usize::from(running.is_some()) <= 1, "{began:?} {running:?}");
            if let [who] = began[..] {
                running = Some((who, clock));
            }
            let idle = running.is_none() && queued.iter().any(Option::is_some);
            prop_assert!(!idle, "somebody waits for nobody");
            for (who, entry) in queued.iter().enumerate() {
                let waits = entry.filter(|_| running.is_none_or(|(other, _)| other != who));
                if let Some((id, _)) = waits {
                    // Everybody else may be overdue as well, and time passes in steps.
                    let bound = PATIENCE + Duration::from_secs(4 * (BUILD + 60));
                    let waited = order.entries[&id].waited(now);
                    prop_assert!(waited <= bound, "{who} waits for {waited:?}");
                }
            }
        }
    }
}
