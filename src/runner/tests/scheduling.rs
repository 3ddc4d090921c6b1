//! Several jobs: order, parallelism, reports in plan order.

use std::collections::HashSet;
use std::time::Duration;

use super::fixture::{id, script};
use crate::model::{TargetKind, Verdict};
use crate::runner::{self, Harness, RunEvent, RunnerOptions, TestJob};

fn jobs() -> Vec<TestJob> {
    let mut jobs: Vec<TestJob> =
        ["a", "b", "c", "d"].map(|name| script(name, "exit 0", Harness::Custom)).into();
    jobs[0].expected = Some(Duration::from_secs(1));
    jobs[1].expected = Some(Duration::from_secs(5));
    jobs[3].id.kind = TargetKind::Doc;
    jobs
}

#[test]
fn the_unknown_and_the_longest_start_first_unless_one_at_a_time() {
    assert_eq!(runner::start_order(&jobs(), 2), [3, 2, 1, 0]);
    assert_eq!(runner::start_order(&jobs(), 1), [0, 1, 2, 3]);
    assert_eq!(runner::start_order(&[], 4), [0; 0]);
}

#[tokio::test]
async fn reports_come_in_plan_order_and_events_in_pairs() {
    let options = RunnerOptions { jobs: 3, ..RunnerOptions::default() };
    let (mut started, mut finished) = (Vec::new(), Vec::new());
    let reports = runner::run(&jobs(), &options, |event| match event {
        RunEvent::Started { id } => started.push(id.target.clone()),
        RunEvent::Finished { report } => finished.push(report.id.target.clone()),
        _ => {}
    })
    .await;
    let targets: Vec<_> = reports.iter().map(|r| r.as_ref().unwrap().id.target.as_str()).collect();
    assert_eq!(targets, ["a", "b", "c", "d"]);
    assert_eq!(started, ["d", "c", "b", "a"]);
    assert_eq!(finished.into_iter().collect::<HashSet<_>>().len(), 4);
}

#[tokio::test]
async fn jobs_run_at_the_same_time() {
    // Each waits for the other's file: one at a time would never end.
    let dir = tempfile::tempdir().unwrap();
    let meet = |own: &str, other: &str| {
        let dir = dir.path().display();
        let text = format!("touch {dir}/{own}; until test -e {dir}/{other}; do sleep 0.01; done");
        let mut job = script(own, &text, Harness::Custom);
        job.id = id(own);
        job
    };
    let options = RunnerOptions {
        jobs: 2,
        timeout: Some(Duration::from_secs(30)),
        ..RunnerOptions::default()
    };
    let reports = runner::run(&[meet("x", "y"), meet("y", "x")], &options, |_| {}).await;
    assert!(reports.iter().all(|report| report.as_ref().unwrap().verdict == Verdict::Pass));
}

#[tokio::test]
async fn a_job_that_must_run_alone_overlaps_no_other() {
    // `mkdir` fails while another job is inside.
    let dir = tempfile::tempdir().unwrap();
    let inside = dir.path().join("inside");
    let text = format!("mkdir {0} && sleep 0.2 && rmdir {0}", inside.display());
    let alone = |name: &str| TestJob { alone: true, ..script(name, &text, Harness::Custom) };
    let jobs = [alone("a"), script("b", &text, Harness::Custom), alone("c")];
    let options = RunnerOptions { jobs: 3, ..RunnerOptions::default() };
    let reports = runner::run(&jobs, &options, |_| {}).await;
    let verdicts: Vec<_> = reports.iter().map(|report| report.as_ref().unwrap().verdict).collect();
    assert_eq!(verdicts, [Verdict::Pass; 3]);
}
