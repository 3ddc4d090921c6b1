//! A large team with one shared store, simulated from a real history.
//!
//! ```text
//! cargo bench --bench sharing -- REPOSITORY [COMMITS [BYTES_PER_RECORD]]
//! ```
//!
//! The last first-parent commits are merges that CI of the protected branch proves and publishes. Between
//! two of them, jobs of pull requests ask: each is a tree some merges back with the changes of a later
//! commit. Developers ask for merges that they have pulled. A target hits if a record under its key (the
//! files of its packages, and the plan: manifests, lock file, names of targets) is in the object of its
//! tree or among the latest of its plan, as the store of this program has them. Which packages a target is
//! built from is read from the manifests' paths at each commit.
//!
//! Prints a table in markdown, and the cost by the price list in [`PRICES`].

#![allow(clippy::disallowed_methods, reason = "git is run as a shell would run it")]

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::hash::{DefaultHasher, Hasher as _};
use std::process::{Command, ExitCode};

/// The team.
const DEVELOPERS: u64 = 300;
const JOBS_A_DAY: u64 = 2_000;
/// Merges into the protected branch: one for so many jobs.
const JOBS_A_MERGE: u64 = 10;
/// How often a developer asks after a pull or a change of branch, where nothing is built.
const PULLS_A_DAY: u64 = 4;
/// How many merges a branch is behind, at most.
const BEHIND: u64 = 20;
/// What is kept: `cache gc --shared`.
const DAYS_KEPT: u64 = 30;
/// The largest object.
const MAX_OBJECT: u64 = 1 << 20;

/// Amazon S3 Standard, US East (N. Virginia), as guides of 2024 and 2025 quote the public list, in dollars.
struct Prices {
    gigabyte_month: f64,
    thousand_puts: f64,
    thousand_gets: f64,
    gigabyte_out: f64,
}

const PRICES: Prices = Prices {
    gigabyte_month: 0.023,
    thousand_puts: 0.005,
    thousand_gets: 0.000_4,
    gigabyte_out: 0.09,
};

/// A tree as far as its keys go.
#[derive(Clone, Default)]
struct Tree {
    plan: u64,
    /// By the package's folder: the digest of its files.
    packages: BTreeMap<String, u64>,
    /// By the package's folder: the folders that it is built from.
    built_from: BTreeMap<String, BTreeSet<String>>,
    /// By the package's folder: how many test targets it has.
    targets: BTreeMap<String, u64>,
}

impl Tree {
    /// The key of a package's targets.
    fn key(&self, package: &str) -> u64 {
        let reach =
            self.built_from[package].iter().map(|folder| (folder, self.packages.get(folder)));
        digest(&(self.plan, package, reach.collect::<Vec<_>>()))
    }

    fn whole(&self) -> u64 {
        digest(&(self.plan, &self.packages))
    }
}

fn digest(value: &impl std::hash::Hash) -> u64 {
    let mut hasher = DefaultHasher::new();
    value.hash(&mut hasher);
    hasher.finish()
}

struct Repository {
    path: String,
    manifests: HashMap<String, String>,
}

impl Repository {
    fn git(&self, args: &[&str]) -> String {
        let output = Command::new("git").arg("-C").arg(&self.path).args(args).output();
        let output = output.expect("git runs");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    fn tree(&mut self, commit: &str) -> Tree {
        let listing = self.git(&["ls-tree", "-r", commit]);
        let files: BTreeMap<&str, &str> = listing
            .lines()
            .filter_map(|line| {
                let (head, path) = line.split_once('\t')?;
                Some((path, head.split(' ').nth(2)?))
            })
            .collect();
        let folder_of =
            |path: &str| path.rsplit_once('/').map_or("", |(folder, _)| folder).to_owned();
        let is_manifest = |path: &&&str| path.rsplit('/').next() == Some("Cargo.toml");
        let folders: BTreeSet<String> =
            files.keys().filter(is_manifest).map(|path| folder_of(path)).collect();
        let mut tree = Tree::default();
        let mut of_plan = Vec::new();
        let mut contents: BTreeMap<&str, Vec<(&str, &str)>> = BTreeMap::new();
        for (path, blob) in &files {
            let above = |folder: &&String| {
                folder.is_empty()
                    || path.strip_prefix(&***folder).is_some_and(|rest| rest.starts_with('/'))
            };
            let Some(owner) = folders.iter().filter(above).max_by_key(|folder| folder.len()) else {
                continue;
            };
            contents.entry(owner).or_default().push((path, blob));
            let name = path.rsplit('/').next().unwrap_or(path);
            let below = path.strip_prefix(&**owner).unwrap_or(path).trim_start_matches('/');
            let targets = match below {
                "src/lib.rs" => 2,
                "src/main.rs" => 1,
                _ => {
                    let is_file = below.matches('/').count() == 1 && below.ends_with(".rs");
                    let of = ["tests/", "examples/", "benches/", "src/bin/"];
                    u64::from(
                        of.iter().any(|of| below.starts_with(of)) && (is_file || name == "main.rs"),
                    )
                }
            };
            *tree.targets.entry(owner.clone()).or_default() += targets;
            match name {
                "Cargo.toml" | "Cargo.lock" => of_plan.push((*path, *blob)),
                _ if targets > 0 => of_plan.push((*path, "")),
                _ => {}
            }
        }
        tree.plan = digest(&of_plan);
        tree.packages =
            contents.iter().map(|(owner, files)| ((*owner).to_owned(), digest(files))).collect();
        let direct: BTreeMap<String, BTreeSet<String>> = folders
            .iter()
            .map(|folder| {
                let manifest = if folder.is_empty() {
                    "Cargo.toml".to_owned()
                } else {
                    format!("{folder}/Cargo.toml")
                };
                let blob = files[&*manifest].to_owned();
                let text = self.manifest(&blob).to_owned();
                (
                    folder.clone(),
                    paths_in(&text, folder).filter(|to| folders.contains(to)).collect(),
                )
            })
            .collect();
        for folder in &folders {
            let (mut reach, mut todo) = (BTreeSet::new(), vec![folder.clone()]);
            while let Some(next) = todo.pop() {
                if reach.insert(next.clone()) {
                    todo.extend(direct[&next].iter().cloned());
                }
            }
            tree.built_from.insert(folder.clone(), reach);
        }
        tree.targets.retain(|_, targets| *targets > 0);
        tree
    }

    fn manifest(&mut self, blob: &str) -> &str {
        if !self.manifests.contains_key(blob) {
            let text = self.git(&["cat-file", "blob", blob]);
            self.manifests.insert(blob.to_owned(), text);
        }
        &self.manifests[blob]
    }
}

/// The folders that a manifest names by `path = "…"`, from the root.
fn paths_in<'a>(text: &'a str, folder: &'a str) -> impl Iterator<Item = String> + 'a {
    let named = text.split("path").skip(1).filter_map(|rest| {
        let rest = rest.trim_start().strip_prefix('=')?.trim_start().strip_prefix('"')?;
        Some(rest.split('"').next()?.to_owned())
    });
    named.map(move |path| {
        let mut way: Vec<&str> = folder.split('/').filter(|part| !part.is_empty()).collect();
        for part in path.split('/') {
            match part {
                "" | "." => {}
                ".." => drop(way.pop()),
                part => way.push(part),
            }
        }
        way.join("/")
    })
}

/// The store.
#[derive(Default)]
struct Store {
    /// The keys in each tree's object.
    trees: HashMap<u64, HashSet<u64>>,
    /// The keys in each plan's latest object, the newest last.
    latest: HashMap<u64, Vec<u64>>,
    puts: u64,
    gets: u64,
    bytes_out: u64,
    /// Bytes of objects that stay: trees, and the last version of the latest ones.
    tree_bytes: u64,
    dropped: u64,
}

/// What came of the questions of one kind.
#[derive(Default)]
struct Tally {
    questions: u64,
    whole: u64,
    hits: u64,
    targets: u64,
}

impl Store {
    fn publish(&mut self, tree: &Tree, record: u64) {
        let keys: Vec<(u64, u64)> = tree.targets.iter().map(|(at, n)| (tree.key(at), *n)).collect();
        let count: u64 = keys.iter().map(|(_, n)| n).sum();
        self.tree_bytes += (count * record).min(MAX_OBJECT);
        self.trees.insert(tree.whole(), keys.iter().map(|(key, _)| *key).collect());
        let latest = self.latest.entry(tree.plan).or_default();
        latest.retain(|key| !keys.iter().any(|(own, _)| own == key));
        latest.extend(keys.iter().map(|(key, _)| *key));
        // A package's targets have one key here: its size is that of all of them.
        let most = usize::try_from(MAX_OBJECT / (record * count.max(1)).max(1)).unwrap_or(1).max(1);
        let most = most * keys.len();
        if latest.len() > most {
            self.dropped += (latest.len() - most) as u64;
            latest.drain(..latest.len() - most);
        }
        self.puts += 2;
        self.gets += 1;
    }

    fn ask(&mut self, tree: &Tree, record: u64, tally: &mut Tally) {
        self.gets += 2;
        let none = HashSet::new();
        let of_tree = self.trees.get(&tree.whole()).unwrap_or(&none);
        let of_plan: &[u64] = self.latest.get(&tree.plan).map_or(&[], Vec::as_slice);
        let per_package = tree.targets.values().sum::<u64>() / tree.targets.len().max(1) as u64;
        let keys = (of_tree.len() + of_plan.len()) as u64;
        self.bytes_out += (keys * per_package * record).min(2 * MAX_OBJECT);
        let (mut hits, mut targets) = (0, 0);
        for (at, count) in &tree.targets {
            let key = tree.key(at);
            targets += count;
            hits += if of_tree.contains(&key) || of_plan.contains(&key) { *count } else { 0 };
        }
        tally.questions += 1;
        tally.whole += u64::from(hits == targets);
        tally.hits += hits;
        tally.targets += targets;
    }
}

/// Numbers that look random and are the same each time.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u64) -> u64 {
        self.0 =
            self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % sides
    }
}

/// A tree with the changes that lead from one commit to the next.
fn with_changes(base: &Tree, from: &Tree, to: &Tree) -> Tree {
    let mut tree = base.clone();
    if from.plan != to.plan {
        tree.plan = digest(&(base.plan, to.plan));
    }
    for (folder, content) in &mut tree.packages {
        if from.packages.get(folder) != to.packages.get(folder) {
            *content = digest(&(*content, to.packages.get(folder)));
        }
    }
    tree
}

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).filter(|word| word != "--bench").collect();
    let Some(path) = words.first() else {
        eprintln!("cargo bench --bench sharing -- REPOSITORY [COMMITS [BYTES_PER_RECORD]]");
        return ExitCode::from(2);
    };
    let number = |at: usize, default: u64| {
        words.get(at).and_then(|word| word.parse().ok()).unwrap_or(default)
    };
    let (commits, record) = (number(1, 1_000), number(2, 1_500));
    let mut repository = Repository { path: path.clone(), manifests: HashMap::new() };
    let list = repository.git(&["rev-list", "--first-parent", &format!("-{commits}"), "HEAD"]);
    let mut trees: Vec<Tree> = list.lines().map(|commit| repository.tree(commit)).collect();
    trees.reverse();
    let (mut store, mut dice) = (Store::default(), Dice(1));
    let (mut pulls, mut jobs) = (Tally::default(), Tally::default());
    let merges_a_day = JOBS_A_DAY / JOBS_A_MERGE;
    let pulls_a_merge = DEVELOPERS * PULLS_A_DAY / merges_a_day;
    for at in 0..trees.len() {
        store.publish(&trees[at], record);
        let back =
            |dice: &mut Dice| at.saturating_sub(usize::try_from(dice.roll(BEHIND)).unwrap_or(0));
        for _ in 0..JOBS_A_MERGE {
            let base = &trees[back(&mut dice)];
            let later = 1 + usize::try_from(dice.roll(trees.len() as u64 - 1)).unwrap_or(0);
            let tree = with_changes(base, &trees[later - 1], &trees[later]);
            store.ask(&tree, record, &mut jobs);
        }
        for _ in 0..pulls_a_merge {
            let tree = &trees[back(&mut dice)];
            store.ask(tree, record, &mut pulls);
        }
    }
    let days = trees.len() as f64 / merges_a_day as f64;
    let a_day = |sum: u64| sum as f64 / days;
    let last = &trees[trees.len() - 1];
    let targets: u64 = last.targets.values().sum();
    let per_package = targets / last.targets.len().max(1) as u64;
    let latest_bytes = store
        .latest
        .values()
        .map(|keys| (keys.len() as u64 * per_package * record).min(MAX_OBJECT));
    let latest_bytes: u64 = latest_bytes.sum();
    let objects =
        (a_day(store.trees.len() as u64) + a_day(store.latest.len() as u64)) * DAYS_KEPT as f64;
    let gigabytes = a_day(store.tree_bytes + latest_bytes) * DAYS_KEPT as f64 / 1e9;
    let (puts, gets, out) = (a_day(store.puts), a_day(store.gets), a_day(store.bytes_out) / 1e9);
    let percent = |part: u64, whole: u64| 100.0 * part as f64 / whole.max(1) as f64;
    println!("| what | {path} |\n|---|--:|");
    println!(
        "| merges simulated, with {targets} targets in {} packages | {} |",
        last.targets.len(),
        trees.len()
    );
    println!("| build plans | {} |", store.latest.len());
    println!(
        "| targets from the store, jobs of pull requests | {:.1} % |",
        percent(jobs.hits, jobs.targets)
    );
    println!("| those jobs that need no build | {:.1} % |", percent(jobs.whole, jobs.questions));
    println!(
        "| targets from the store, developers after a pull | {:.1} % |",
        percent(pulls.hits, pulls.targets)
    );
    println!("| objects at {DAYS_KEPT} days | {objects:.0} |");
    println!("| gigabytes at {DAYS_KEPT} days, {record} bytes a record | {gigabytes:.2} |");
    println!("| uploads a day | {puts:.0} |");
    println!("| reads a day | {gets:.0} |");
    println!("| gigabytes read a day | {out:.2} |");
    println!("| keys that no longer fit into a latest object | {} |", store.dropped);
    let month = 30.0;
    let storage = gigabytes * PRICES.gigabyte_month;
    let requests = month * (puts * PRICES.thousand_puts + gets * PRICES.thousand_gets) / 1e3;
    let transfer = month * out * PRICES.gigabyte_out;
    println!("| dollars a month: storage, requests | {storage:.2}, {requests:.2} |");
    println!(
        "| dollars a month: transfer, if every reader is outside of the region | {transfer:.2} |"
    );
    ExitCode::SUCCESS
}
