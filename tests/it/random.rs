//! "Write, then ask at once": after any sequence of edits, in any terminal, a running daemon's answer is
//! about the tree as it is on disk at that moment. Nothing is compiled: the daemon's tree digest is enough,
//! so that hundreds of sequences take seconds.
//!
//! Three independent checks follow each edit:
//! - the daemon's digest is the one that a full scan without any memo computes, and the one that a
//!   command without a daemon computes with the memo on disk;
//! - the same digest never stands for two trees that differ in files that surely count;
//! - the same files always have the same digest, whatever happened in between.
//!
//! In a tree this small the daemon looks at every file for each question. That must never be what
//! finds a change: the daemon's log says when no event had told of one.

mod edits;
mod model;

use std::collections::HashMap;

use knhk_test_cache::internals::client::Connection;
use knhk_test_cache::internals::config;
use knhk_test_cache::internals::model::Digest;
use knhk_test_cache::internals::protocol::{Ask, Call, Reply};
use knhk_test_cache::internals::verdict::{
    Facts, LocalTree, ProjectFiles, ProjectTree as _, Question, Refresh,
};
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};

use self::edits::{Edit, edits};
use self::model::{Fingerprints, fingerprints};
use crate::home::{Home, Started, takes_long};

/// How many sequences; `KNHK_TEST_CACHE_SEQUENCES` asks for more.
const SEQUENCES: u32 = 200;

struct Bench {
    home: Home,
    daemon: Started,
    /// How much of the daemon's log was read.
    read: usize,
    connection: Connection,
    question: Question,
    facts: Facts,
    /// By files that surely count: what a digest stands for.
    meant: HashMap<Digest, Fingerprints>,
    /// By all files: their digest.
    known: HashMap<u64, Digest>,
    asked: u64,
}

impl Bench {
    fn new() -> Self {
        let home = Home::with(&[]);
        home.git(&["init", "-q"]);
        // A build that the daemon begins before the first question would write `Cargo.lock` between
        // two looks at the tree, however soon it is ended.
        let settings = "debounce = '1h'\nargs = ['--workspace', '--locked']";
        home.config("[log]\nlevel = 'debug'", settings);
        let daemon = home.daemon();
        let settings = config::load(&home.paths(), &home.environment).unwrap().config;
        let settings = settings.settings_for(&home.root).clone();
        let question = Question::of_project(&home.root, home.environment.clone(), settings);
        let facts = Facts::gather(&question, &home.paths().cache_dir).unwrap();
        let mut bench = Self {
            connection: home.connect(),
            daemon,
            read: 0,
            home,
            question,
            facts,
            meant: HashMap::new(),
            known: HashMap::new(),
            asked: 0,
        };
        // The miss holds background builds off until the connection is closed.
        bench.ask();
        bench
    }

    /// The tree that the daemon sees.
    fn ask(&mut self) -> Digest {
        let ask = Ask {
            project: self.home.root.clone(),
            dir: self.home.root.clone(),
            cargo: None,
            harness: Vec::new(),
            environment: self.home.environment.clone(),
            no_cache: false,
            only_known: false,
            names_tests: false,
            config_file: self.home.config_file(),
        };
        self.asked += 1;
        match self.connection.call(Call::Ask(ask), |_| {}).unwrap() {
            Reply::Miss(miss) => miss.tree.unwrap_or_else(|| panic!("unknown: {}", miss.reason)),
            other => panic!("{other:?}"),
        }
    }

    /// The tree as a full scan sees it that reads every file.
    fn scan(&self) -> Digest {
        let mut scope = ProjectFiles::new(&self.question, &self.facts).unwrap();
        scope.refresh(Refresh::All, &mut |_| {});
        scope.look().digest.unwrap()
    }

    /// The tree as `test --no-daemon` sees it.
    fn without_daemon(&self) -> Digest {
        let scope = ProjectFiles::new(&self.question, &self.facts).unwrap();
        let mut tree = LocalTree::new(scope, &self.home.paths().cache_dir);
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(tree.look()).unwrap().digest.unwrap()
    }

    /// The changes since the last call that the daemon found without an event.
    fn untold(&mut self) -> Vec<String> {
        let log = self.daemon.stderr();
        let new = log[std::mem::replace(&mut self.read, log.len())..].lines();
        new.filter(|line| line.contains("no event told of a change")).map(str::to_owned).collect()
    }

    fn check(&mut self, after: &Edit) -> Result<(), TestCaseError> {
        let seen = self.ask();
        let untold = self.untold();
        if !after.is_untold() {
            prop_assert_eq!(untold, Vec::<String>::new());
        }
        let now = fingerprints(&self.home.root);
        prop_assert_eq!(seen, self.scan(), "the daemon and a full scan");
        prop_assert_eq!(seen, self.without_daemon(), "the daemon and a command without it");
        let meant = self.meant.entry(seen).or_insert(now);
        prop_assert_eq!(meant.sure, now.sure, "an older tree's digest");
        let known = self.known.entry(now.all).or_insert(seen);
        prop_assert_eq!(*known, seen, "the same files, another digest");
        Ok(())
    }

    /// The next questions come from a terminal in which the variable has this value.
    fn set(&mut self, name: &str, value: Option<&str>) {
        match value {
            Some(value) => self.home.environment.set(name, value),
            None => self.home.environment.remove(name),
        }
        self.question.environment = self.home.environment.clone();
        self.facts = Facts::gather(&self.question, &self.home.paths().cache_dir).unwrap();
    }

    fn replay(&mut self, sequence: &[Edit]) -> Result<(), TestCaseError> {
        Edit::Reset.apply(&self.home.root);
        self.check(&Edit::Reset)?;
        for edit in sequence {
            edit.apply(&self.home.root);
            if let Edit::Variable(name, value) = edit {
                self.set(name, *value);
            }
            self.check(edit)?;
        }
        Ok(())
    }
}

#[test]
fn no_question_is_ever_answered_for_an_older_tree() {
    if takes_long() {
        return;
    }
    let sequences = std::env::var("KNHK_TEST_CACHE_SEQUENCES");
    let cases = sequences.map_or(SEQUENCES, |text| text.parse().unwrap());
    let config = Config { cases, failure_persistence: None, ..Config::default() };
    let bench = std::cell::RefCell::new(Bench::new());
    let result =
        TestRunner::new(config).run(&edits(), |sequence| bench.borrow_mut().replay(&sequence));
    let bench = bench.into_inner();
    let trees = bench.meant.len();
    eprintln!("{cases} sequences, {} questions, {trees} different trees", bench.asked);
    result.unwrap_or_else(|error| panic!("{error}"));
    assert!(trees > usize::try_from(cases).unwrap() / 2, "the edits change something");
}
