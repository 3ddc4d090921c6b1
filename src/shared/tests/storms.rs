//! The store is killed, slowed, filled and emptied at random moments of questions: no answer is wrong,
//! none is late, and nothing is lost of what lies beside the state of the store: the local records.

use std::time::Instant;

use super::*;

/// How many moments there are: all of them where changes are checked before they land.
fn moments() -> u64 {
    if Environment::inherited().get("KNHK_TEST_CACHE_CI").is_some() { 200 } else { 20 }
}

/// Far more than a question may take, for machines that are busy.
const LATEST: Duration = Duration::from_secs(120);

/// The names of the records that are true; each names itself in its body.
const NAMES: [&str; 3] = ["a", "b", "c"];

/// Numbers that look random and are the same each time.
pub(super) struct Dice(u64);

impl Dice {
    pub(super) fn roll(&mut self, sides: u64) -> u64 {
        self.0 =
            self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % sides
    }
}

/// Asks and publishes again and again, and does `harm` somewhere in between; `mend` undoes it. In the end
/// all is as before.
pub(super) fn storm(
    reader: &StoreOptions,
    writer: &StoreOptions,
    mut harm: impl FnMut(&mut Dice),
    mut mend: impl FnMut(),
) {
    let mut dice = Dice(7);
    let publish_all = || {
        let store = SharedStore::open(writer.clone()).unwrap();
        publish(&store, 1, &NAMES)
    };
    let all = || {
        let answer = look_up(&SharedStore::open(reader.clone()).unwrap());
        assert_true(&answer);
        answer.records.len()
    };
    // What earlier moments have taught would keep the next one from asking.
    let forget = || {
        for options in [reader, writer] {
            let _ = fs::remove_dir_all(&options.state_dir);
        }
    };
    let records = reader.state_dir.parent().unwrap().join("records");
    fs::create_dir_all(&records).unwrap();
    let names: Vec<String> = (0..50).map(|number| format!("{number}.json")).collect();
    names.iter().for_each(|name| fs::write(records.join(name), name).unwrap());
    let is_kept =
        |name: &String| fs::read_to_string(records.join(name)).is_ok_and(|is| is == *name);
    for moment in 0..moments() {
        forget();
        let started = Instant::now();
        let yields = dice.roll(2_000);
        std::thread::scope(|scope| {
            let asking = scope.spawn(all);
            let publishing = (moment % 4 == 0).then(|| scope.spawn(publish_all));
            (0..yields).for_each(|_| std::thread::yield_now());
            harm(&mut dice);
            asking.join().unwrap();
            // A fault of the upload is told, and no more.
            let _ = publishing.map(|publishing| publishing.join().unwrap());
        });
        let took = started.elapsed();
        assert!(took < LATEST, "moment {moment} took {took:?}");
        assert!(names.iter().all(is_kept), "moment {moment}: a local record is lost");
        mend();
    }
    let started = Instant::now();
    loop {
        forget();
        let is_there = publish_all().is_ok() && all() == 2 * NAMES.len();
        if is_there {
            return;
        }
        assert!(started.elapsed() < 4 * LATEST, "the store does not come back");
    }
}

/// Whatever may answer is what its signer said.
#[track_caller]
fn assert_true(answer: &SharedAnswer) {
    for found in &answer.records {
        let body: Value = found.body.read().unwrap();
        let name = body["of"].as_str().unwrap();
        assert!(NAMES.contains(&name) && found.key == digest(name), "{found:?}");
        assert!(found.may_answer && found.signer == "ci@example.com", "{found:?}");
    }
}

#[test]
fn a_folder_that_comes_and_goes() {
    let team = Team::new();
    let (store, gone) = (team.path("store"), team.path("gone"));
    let sign_with = Some(team.key_file(CI));
    let writer = StoreOptions { write: true, sign_with, ..team.options() };
    publish(&SharedStore::open(writer.clone()).unwrap(), 1, &NAMES).unwrap();
    let object = team.object(CI, ObjectKind::Tree);
    let whole = fs::read(&object).unwrap();
    let folder = object.parent().unwrap();
    // Each may meet a writer that has just removed or made the same.
    let harm = |dice: &mut Dice| match dice.roll(7) {
        0 => drop(fs::rename(&store, &gone)),
        1 => drop(fs::remove_dir_all(&store)),
        2 => drop(fs::remove_file(&object)),
        3 => {
            let cut = usize::try_from(dice.roll(whole.len() as u64)).unwrap();
            let _ = fs::write(&object, &whole[..cut]);
        }
        4 => {
            let mut damaged = whole.clone();
            let at = usize::try_from(dice.roll(whole.len() as u64)).unwrap();
            damaged[at] ^= 1;
            let _ = fs::write(&object, damaged);
        }
        5 => {
            let _ = fs::File::create(&object).and_then(|file| file.set_len(1 << 40));
        }
        _ => {
            let _ = fs::remove_file(&object);
            let mode = rustix::fs::Mode::RWXU;
            let _ = rustix::fs::mkfifoat(rustix::fs::CWD, &object, mode);
        }
    };
    let mend = || {
        if gone.exists() {
            let _ = fs::remove_dir_all(&store);
            fs::rename(&gone, &store).unwrap();
        }
        let _ = fs::remove_file(&object);
        fs::create_dir_all(folder).unwrap();
        fs::write(&object, &whole).unwrap();
    };
    storm(&team.options(), &writer, harm, mend);
}
