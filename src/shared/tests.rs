//! The store as its readers, its writers and its enemies see it.

mod attacks;
#[cfg(feature = "shared")]
mod faults;
#[cfg(feature = "shared")]
mod nginx;
mod openssh;
mod retention;
#[cfg(feature = "shared")]
mod servers;
mod storms;

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::{Value, json};
use ssh_key::private::Ed25519Keypair;
use ssh_key::{LineEnding, PrivateKey};

use super::bundle::{Bundle, BundledRecord, FORMAT, MAX_OBJECT_BYTES};
use super::signature::fingerprint;
use super::store::SharedStore;
use super::{
    BundleName, BundlePlace, BundleSubject, FoundRecord, ObjectKind, Publication, SharedAnswer,
    SharedRecord, StoreOptions, WantedRecords,
};
use crate::model::{Digest, Timestamp};
use crate::process::Environment;

/// A team with a folder for a store.
struct Team {
    dir: tempfile::TempDir,
    url: String,
}

/// The key of a member; equal numbers are equal keys.
fn key(number: u8) -> PrivateKey {
    PrivateKey::from(Ed25519Keypair::from_seed(&[number; 32]))
}

const CI: u8 = 1;
const MALLORY: u8 = 2;

impl Team {
    /// A team that trusts [`CI`].
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let url = format!("file://{}", dir.path().join("store").display());
        let team = Self { dir, url };
        fs::create_dir(team.path("workspace")).unwrap();
        team.trust(&line("ci@example.com", CI));
        team
    }

    #[cfg(feature = "shared")]
    fn at(url: &str) -> Self {
        Self { url: url.to_owned(), ..Self::new() }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn trust(&self, lines: &str) {
        fs::write(self.path("allowed_signers"), lines).unwrap();
    }

    fn options(&self) -> StoreOptions {
        StoreOptions {
            url: self.url.clone(),
            read: true,
            write: false,
            sign_with: None,
            allowed_signers: Some(self.path("allowed_signers")),
            trust_peers: false,
            workspace_root: self.path("workspace"),
            state_dir: self.path("state"),
            environment: Environment::inherited(),
        }
    }

    fn key_file(&self, number: u8) -> PathBuf {
        let path = self.path(&format!("key-{number}"));
        if !path.exists() {
            key(number).write_openssh_file(&path, LineEnding::LF).unwrap();
        }
        path
    }

    fn writer(&self, number: u8) -> SharedStore {
        let sign_with = Some(self.key_file(number));
        SharedStore::open(StoreOptions { write: true, sign_with, ..self.options() }).unwrap()
    }

    /// The file of an object of a folder store.
    fn object(&self, signer: u8, kind: ObjectKind) -> PathBuf {
        let kind = match kind {
            ObjectKind::Tree => "tree",
            ObjectKind::Latest => "latest",
        };
        let name = place(1).tree;
        let name = if kind == "tree" { name } else { place(1).latest };
        let folder = fingerprint(key(signer).public_key().key_data());
        self.path("store").join("v2").join(folder).join("project").join(kind).join(name.to_string())
    }

    /// Writes an object as if it were `folder`'s.
    fn plant(&self, folder: u8, object: &[u8]) {
        for kind in [ObjectKind::Tree, ObjectKind::Latest] {
            let path = self.object(folder, kind);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, object).unwrap();
        }
    }

    fn look_up(&self) -> SharedAnswer {
        self.look_up_with(&self.options())
    }

    /// Asks until the store, which serves, is not too slow: how busy the machine is is not what is tested.
    fn look_up_with(&self, options: &StoreOptions) -> SharedAnswer {
        for _ in 0..100 {
            let answer = look_up(&SharedStore::open(options.clone()).unwrap());
            if !answer.misses.iter().any(|why| why.contains("no answer within")) {
                return answer;
            }
            let _ = fs::remove_dir_all(&options.state_dir);
        }
        panic!("the store was too slow a hundred times");
    }
}

/// The environment with credentials that no server has.
#[cfg(feature = "shared")]
fn with_credentials() -> Environment {
    let mut environment = Environment::inherited();
    environment.set("AWS_ACCESS_KEY_ID", "test");
    environment.set("AWS_SECRET_ACCESS_KEY", "test");
    environment
}

/// The line of a member in a file of signers.
fn line(principals: &str, number: u8) -> String {
    format!("{principals} {}\n", key(number).public_key().to_openssh().unwrap())
}

fn digest(text: &str) -> Digest {
    Digest::of(text.as_bytes())
}

fn subject() -> BundleSubject {
    BundleSubject { project: digest("project"), host: "x86_64 linux".to_owned() }
}

/// The objects of a tree of the project.
fn place(tree: u64) -> BundlePlace {
    BundlePlace {
        project: "project".to_owned(),
        tree: digest(&format!("tree {tree}")),
        latest: digest("latest"),
        subject: subject(),
    }
}

fn record(name: &str) -> SharedRecord {
    SharedRecord { key: digest(name), created: Timestamp::now(), body: json!({ "of": name }) }
}

fn wanted(tree: u64) -> WantedRecords {
    WantedRecords { place: place(tree), ttl: Duration::from_secs(3600) }
}

/// What a bundle of [`place`] has.
fn bundle(kind: ObjectKind) -> Bundle {
    let SharedRecord { key, created, body } = record("a");
    let records = [(key, BundledRecord { created, body: body.into() })].into();
    let digest = if kind == ObjectKind::Tree { place(1).tree } else { place(1).latest };
    let name = BundleName { project: "project".to_owned(), kind, digest };
    let signed = Timestamp::now();
    Bundle { format: FORMAT, name, subject: subject(), signed, records }
}

/// The object of a payload's text that a member signs for a namespace.
fn sealed(json: &str, number: u8, namespace: &str) -> Vec<u8> {
    let payload = Bundle::payload(json);
    let signature = key(number).sign(namespace, ssh_key::HashAlg::Sha512, &payload);
    Bundle::seal(&payload, &signature.unwrap().to_pem(LineEnding::LF).unwrap())
}

fn block_on<T>(future: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(future)
}

fn look_up(store: &SharedStore) -> SharedAnswer {
    block_on(store.look_up(&wanted(1)))
}

fn publish(store: &SharedStore, tree: u64, names: &[&str]) -> Result<usize, String> {
    let records = names.iter().map(|name| record(name)).collect();
    let publication = Publication { place: place(tree), records };
    block_on(store.publish(publication)).map_err(|error| error.to_string())
}

fn bodies(answer: &SharedAnswer) -> Vec<Value> {
    let body = |found: &FoundRecord| found.body.read::<Value>().unwrap()["of"].clone();
    answer.records.iter().map(body).collect()
}

#[track_caller]
fn assert_missed(answer: &SharedAnswer, why: &str) {
    assert_eq!(answer.records, [], "{:?}", answer.misses);
    assert!(answer.misses.iter().any(|miss| miss.contains(why)), "{why}: {:?}", answer.misses);
}

fn exists(path: &Path) -> bool {
    path.symlink_metadata().is_ok()
}

#[test]
fn what_one_machine_proves_another_finds() {
    let team = Team::new();
    assert_eq!(publish(&team.writer(CI), 1, &["a", "b"]), Ok(2));
    let answer = team.look_up();
    let found = answer.records.iter().map(|found| found.key).collect::<BTreeSet<_>>();
    assert_eq!(found, BTreeSet::from(["a", "b"].map(digest)));
    assert!(answer.records.iter().all(|found| found.may_answer));
    assert!(answer.records.iter().all(|found| found.signer == "ci@example.com"));
    assert_eq!((answer.misses, answer.news), (Vec::new(), None));
    assert!(!exists(&team.path("state")), "a store that answers is nothing to remember");
}

#[test]
fn the_latest_records_answer_for_what_an_edit_has_not_touched() {
    let team = Team::new();
    let writer = team.writer(CI);
    assert_eq!(publish(&writer, 7, &["a"]), Ok(1));
    assert_eq!(publish(&writer, 8, &["b"]), Ok(1));
    let answer = team.look_up();
    let found: BTreeSet<_> = bodies(&answer).iter().map(ToString::to_string).collect();
    assert_eq!(found, BTreeSet::from(["\"a\"".to_owned(), "\"b\"".to_owned()]));
}

#[test]
fn a_reader_makes_no_folder() {
    let team = Team::new();
    let answer = team.look_up();
    assert_missed(&answer, "there is no folder");
    assert!(!exists(&team.path("store")));
}

#[test]
fn records_that_are_too_old_are_not_found() {
    let team = Team::new();
    publish(&team.writer(CI), 1, &["a"]).unwrap();
    let store = SharedStore::open(team.options()).unwrap();
    let mut wanted = wanted(1);
    wanted.ttl = Duration::ZERO;
    let deadline = Timestamp::now();
    while Timestamp::now() <= deadline {}
    let answer = block_on(store.look_up(&wanted));
    assert_missed(&answer, "a record by ci@example.com is older than `ttl`");
    assert_eq!(answer.refused.keys().collect::<Vec<_>>(), [&digest("a")]);
}

#[test]
fn nothing_is_written_or_read_unless_the_config_says_so() {
    let team = Team::new();
    publish(&team.writer(CI), 1, &["a"]).unwrap();
    let open = |options| SharedStore::open(options).unwrap();
    let silent = open(StoreOptions { read: false, ..team.options() });
    assert_eq!(look_up(&silent), SharedAnswer::default());
    let reader = open(StoreOptions { sign_with: Some(team.key_file(CI)), ..team.options() });
    assert_eq!(publish(&reader, 2, &["b"]).unwrap_err(), "`write` is off");
    let keyless = open(StoreOptions { write: true, ..team.options() });
    assert_eq!(publish(&keyless, 2, &["b"]).unwrap_err(), "`sign_with` is not set");
    let nobody = open(StoreOptions { allowed_signers: None, ..team.options() });
    assert_missed(&look_up(&nobody), "`allowed_signers` is not set");
}

#[test]
fn an_object_has_a_limit_and_the_newest_records_fit() {
    let team = Team::new();
    let writer = team.writer(CI);
    // Nothing that could be packed.
    let text = |index: u64| -> String {
        (0..4_700).map(|at| digest(&format!("{index} {at}")).to_string()).collect()
    };
    let large = |index: u64| SharedRecord {
        key: digest(&format!("large {index}")),
        created: Timestamp(Timestamp::now().0 - index * 1000),
        body: json!(text(index)),
    };
    let publication = Publication { place: place(1), records: (0..12).map(large).collect() };
    let count = block_on(writer.publish(publication)).unwrap();
    assert!((3..=7).contains(&count), "{count}");
    let size = fs::metadata(team.object(CI, ObjectKind::Tree)).unwrap().len();
    assert!(size <= MAX_OBJECT_BYTES as u64 && size > MAX_OBJECT_BYTES as u64 / 2, "{size}");
    let found = team.look_up();
    let found = found.records.iter().map(|found| found.key).collect::<BTreeSet<_>>();
    let key = |index: usize| digest(&format!("large {index}"));
    assert_eq!(found, (0..count).map(key).collect());
}

/// A record as those of ripgrep are: most of what a run consults is consulted by others too.
fn usual_record(index: u64) -> SharedRecord {
    let input = |at: u64, of: &str| json!({ "at": format!("{of}/{at}"), "state": digest(&format!("{of} {at}")) });
    let common =
        (0..300).filter(|at| !(at + index).is_multiple_of(7)).map(|at| input(at, "/usr/lib"));
    let own = (0..4).map(|at| input(at, &format!("tests/{index}")));
    let test =
        |at: u64| json!({ "name": format!("module_{}::test_{at}", index % 40), "outcome": "pass" });
    let tests: Vec<Value> = (0..20).map(test).collect();
    let inputs: Vec<Value> = common.chain(own).collect();
    let body = json!({ "of": index, "inputs": inputs, "tests": tests });
    SharedRecord { body, ..record(&index.to_string()) }
}

#[test]
fn a_thousand_records_fit_into_one_object() {
    let team = Team::new();
    let records: Vec<_> = (0..1000).map(usual_record).collect();
    let publication = Publication { place: place(1), records: records.clone() };
    assert_eq!(block_on(team.writer(CI).publish(publication)).unwrap(), 1000);
    let object = fs::read(team.object(CI, ObjectKind::Tree)).unwrap();
    assert!(object.len() < 500_000, "{} bytes", object.len());
    let (name, now) = (bundle(ObjectKind::Tree).name, Timestamp::now());
    let started = std::time::Instant::now();
    let key = key(CI);
    let opened =
        Bundle::open(&object, key.public_key().key_data(), &name, &subject(), now).unwrap();
    let verified = started.elapsed();
    let whole = |record: &SharedRecord| opened.records[&record.key].whole(record.key);
    assert!(records.iter().all(|record| whole(record).as_ref() == Some(record)));
    let (all, size) = (started.elapsed(), object.len());
    eprintln!("1,000 records: {size} bytes, verified in {verified:?}, all read in {all:?}");
}

#[test]
fn doctor_learns_what_the_config_comes_to() {
    let team = Team::new();
    team.trust(&(line("ci@example.com", CI) + &line("peer,eve", 3) + "nonsense\n"));
    let told = |store: &SharedStore| {
        let found = block_on(store.probe());
        found
            .into_iter()
            .map(|found| format!("{} {}", found.is_good, found.what))
            .collect::<Vec<_>>()
    };
    let told = told(&team.writer(MALLORY));
    assert_eq!(told[0], format!("true {} may be read", team.url));
    assert_eq!(told[1], "true 1 trusted signers, 1 peers");
    assert!(told[2].starts_with("false `allowed_signers` is not read in full: line 3"), "{told:?}");
    assert_eq!(told[3], format!("true {} may be written", team.url));
    assert!(told[4].contains("which `allowed_signers` here does not name"), "{told:?}");
    let keyless = StoreOptions { write: true, allowed_signers: None, ..team.options() };
    let found = block_on(SharedStore::open(keyless).unwrap().probe());
    let bad = found.iter().filter(|found| !found.is_good).map(|found| &*found.what);
    let expected = ["`allowed_signers` is not set, so that no signer is trusted"];
    let unset = "`write` is on and `sign_with` is not set";
    assert_eq!(bad.collect::<Vec<_>>(), [expected[0], unset]);
}
