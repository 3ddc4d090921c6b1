//! A writer without a key that the reader trusts makes nothing green.

use proptest::prelude::*;

use super::*;
use crate::shared::bundle::MAX_PAYLOAD_BYTES;
use crate::shared::signature::NAMESPACE;

fn object(number: u8, namespace: &str) -> Vec<u8> {
    sealed(&bundle(ObjectKind::Tree).json(), number, namespace)
}

/// The parts of an object: its first line, its signature, its payload.
fn parts(object: &[u8]) -> [&[u8]; 3] {
    const END: &[u8] = b"-----END SSH SIGNATURE-----\n";
    let line = object.iter().position(|byte| *byte == b'\n').unwrap() + 1;
    let end = object.windows(END.len()).position(|part| part == END).unwrap() + END.len();
    [&object[..line], &object[line..end], &object[end..]]
}

#[test]
fn an_object_as_it_should_be_is_believed() {
    let team = Team::new();
    team.plant(CI, &object(CI, NAMESPACE));
    assert_eq!(bodies(&team.look_up()), ["a"]);
}

#[test]
fn an_unsigned_object_never_answers() {
    let team = Team::new();
    let object = object(CI, NAMESPACE);
    let [line, _, payload] = parts(&object);
    team.plant(CI, &[line, payload].concat());
    assert_missed(&team.look_up(), "it is not signed");
    team.plant(CI, payload);
    assert_missed(&team.look_up(), "it is no shared record");
}

#[test]
fn another_signer_in_a_trusted_folder_never_answers() {
    let team = Team::new();
    team.plant(CI, &object(MALLORY, NAMESPACE));
    assert_missed(&team.look_up(), "another key than that of its folder");
}

#[test]
fn a_signer_that_is_not_trusted_is_not_even_read() {
    let team = Team::new();
    assert_eq!(publish(&team.writer(MALLORY), 1, &["a"]), Ok(1));
    assert_missed(&team.look_up(), "no record by ci@example.com");
}

#[test]
fn a_signature_for_something_else_never_answers() {
    let team = Team::new();
    team.plant(CI, &object(CI, "git"));
    assert_missed(&team.look_up(), "it is signed for `git`");
    let (other, object) = (sealed("{}", CI, NAMESPACE), object(CI, NAMESPACE));
    let ([line, signature, _], [.., payload]) = (parts(&other), parts(&object));
    team.plant(CI, &[line, signature, payload].concat());
    assert_missed(&team.look_up(), "does not fit its content");
}

#[test]
fn swapped_objects_never_answer() {
    let team = Team::new();
    let writer = team.writer(CI);
    publish(&writer, 1, &["other"]).unwrap();
    publish(&writer, 2, &["a"]).unwrap();
    // The object of another tree, signed by the right signer.
    let other = team.object(CI, ObjectKind::Tree).with_file_name(place(2).tree.to_string());
    fs::copy(other, team.object(CI, ObjectKind::Tree)).unwrap();
    fs::remove_file(team.object(CI, ObjectKind::Latest)).unwrap();
    assert_missed(&team.look_up(), "it was signed under another name");
    // The latest records in the place of a tree's.
    publish(&writer, 3, &["a"]).unwrap();
    fs::rename(team.object(CI, ObjectKind::Latest), team.object(CI, ObjectKind::Tree)).unwrap();
    assert_missed(&team.look_up(), "it was signed under another name");
}

#[test]
fn objects_of_other_projects_and_machines_never_answer() {
    for other in [
        BundleSubject { project: digest("other"), ..subject() },
        BundleSubject { host: "aarch64 linux".to_owned(), ..subject() },
    ] {
        let team = Team::new();
        let bundle = Bundle { subject: other, ..bundle(ObjectKind::Tree) };
        team.plant(CI, &sealed(&bundle.json(), CI, NAMESPACE));
        assert_missed(&team.look_up(), "another project or another class of machines");
    }
}

#[test]
fn a_revoked_or_expired_signer_never_answers() {
    let team = Team::new();
    publish(&team.writer(CI), 1, &["a"]).unwrap();
    let public = key(CI).public_key().to_openssh().unwrap();
    team.trust(&format!("ci@example.com valid-before=\"20200101Z\" {public}\n"));
    assert_missed(&team.look_up(), "does not believe ci@example.com now");
    team.trust(&format!("ci@example.com valid-after=\"29990101Z\" {public}\n"));
    assert_missed(&team.look_up(), "does not believe ci@example.com now");
    team.trust(&line("else@example.com", 9));
    assert_missed(&team.look_up(), "no record by else@example.com");
    team.trust("");
    assert_missed(&team.look_up(), "names no signer");
}

#[test]
fn a_record_from_before_its_signer_was_believed_never_answers() {
    let team = Team::new();
    let mut bundle = bundle(ObjectKind::Tree);
    bundle.signed = Timestamp(Timestamp::now().0 - 3 * 86_400_000);
    team.plant(CI, &sealed(&bundle.json(), CI, NAMESPACE));
    assert_eq!(bodies(&team.look_up()), ["a"]);
    let public = key(CI).public_key().to_openssh().unwrap();
    let after = time_text(Timestamp(Timestamp::now().0 - 86_400_000));
    team.trust(&format!("ci@example.com valid-after=\"{after}\" {public}\n"));
    assert_missed(&team.look_up(), "not believed when it was signed");
}

/// The start of the day, as a file of signers has it.
fn time_text(time: Timestamp) -> String {
    let (mut left, mut year) = (time.day(), 1970);
    let is_leap = |year: u64| {
        year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400))
    };
    let length = |year: u64| 365 + u64::from(is_leap(year));
    while left >= length(year) {
        left -= length(year);
        year += 1;
    }
    let february = length(year) - 337;
    let mut month = 1;
    for days in [31, february, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31] {
        if left < days {
            break;
        }
        left -= days;
        month += 1;
    }
    format!("{year:04}{month:02}{:02}Z", left + 1)
}

#[test]
fn the_tree_under_test_names_no_signer_and_holds_no_key() {
    let team = Team::new();
    publish(&team.writer(MALLORY), 1, &["a"]).unwrap();
    let inside = team.path("workspace/allowed_signers");
    fs::write(&inside, line("ci@example.com", MALLORY)).unwrap();
    let options = StoreOptions { allowed_signers: Some(inside.clone()), ..team.options() };
    assert_missed(&look_up(&SharedStore::open(options).unwrap()), "lies in the code under test");
    // Not by a link from outside either.
    let link = team.path("link");
    std::os::unix::fs::symlink(&inside, &link).unwrap();
    let options = StoreOptions { allowed_signers: Some(link), ..team.options() };
    assert_missed(&look_up(&SharedStore::open(options).unwrap()), "lies in the code under test");
    let key_file = team.path("workspace/key");
    fs::copy(team.key_file(CI), &key_file).unwrap();
    let options = StoreOptions { write: true, sign_with: Some(key_file), ..team.options() };
    let error = publish(&SharedStore::open(options).unwrap(), 1, &["a"]).unwrap_err();
    assert!(error.contains("lies in the code under test"), "{error}");
}

#[test]
fn another_format_is_a_miss_with_its_number() {
    let team = Team::new();
    let object = object(CI, NAMESPACE);
    let [_, signature, payload] = parts(&object);
    for format in [1, 3] {
        let line = format!("knhk-test-cache shared {format}\n");
        team.plant(CI, &[line.as_bytes(), signature, payload].concat());
        assert_missed(&team.look_up(), &format!("it has format {format}, and this version reads"));
    }
    // An older one, signed at its time by a trusted signer, under this version's first line.
    let old = Bundle { format: 1, ..bundle(ObjectKind::Tree) };
    team.plant(CI, &sealed(&old.json(), CI, NAMESPACE));
    assert_missed(&team.look_up(), "it has format 1, and this version reads");
    let newer = bundle(ObjectKind::Tree).json().replacen('{', "{\"strict\":true,", 1);
    team.plant(CI, &sealed(&newer, CI, NAMESPACE));
    assert_missed(&team.look_up(), "damaged");
}

#[test]
fn a_small_object_does_not_become_a_huge_one() {
    let team = Team::new();
    let padded = bundle(ObjectKind::Tree).json() + &" ".repeat(MAX_PAYLOAD_BYTES);
    team.plant(CI, &sealed(&padded, CI, NAMESPACE));
    assert_missed(&team.look_up(), "it is larger than");
}

#[test]
fn records_from_the_future_never_answer() {
    let team = Team::new();
    let mut bundle = bundle(ObjectKind::Tree);
    bundle.signed = Timestamp(Timestamp::now().0 + 3_600_000);
    team.plant(CI, &sealed(&bundle.json(), CI, NAMESPACE));
    assert_missed(&team.look_up(), "from the future");
}

#[test]
fn peers_are_shown_and_answer_only_where_the_config_says_so() {
    let team = Team::new();
    team.trust(&line("peer,eve@example.com", 3));
    publish(&team.writer(3), 1, &["a"]).unwrap();
    let answers = |trust_peers| {
        let answer = team.look_up_with(&StoreOptions { trust_peers, ..team.options() });
        answer.records.iter().map(|found| found.may_answer).collect::<BTreeSet<_>>()
    };
    assert_eq!(answers(false), BTreeSet::from([false]));
    assert_eq!(answers(true), BTreeSet::from([true]));
}

#[test]
fn odd_things_in_the_place_of_an_object_are_misses() {
    let team = Team::new();
    let path = team.object(CI, ObjectKind::Tree);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    let huge = fs::File::create(&path).unwrap();
    huge.set_len(1 << 40).unwrap();
    assert_missed(&team.look_up(), "it is no object of at most");
    fs::remove_file(&path).unwrap();
    fs::write(&path, vec![b'x'; MAX_OBJECT_BYTES + 1]).unwrap();
    assert_missed(&team.look_up(), "it is no object of at most");
    // A pipe that nobody writes to.
    fs::remove_file(&path).unwrap();
    rustix::fs::mkfifoat(rustix::fs::CWD, &path, rustix::fs::Mode::RWXU).unwrap();
    assert_missed(&team.look_up(), "it is no object of at most");
    fs::remove_file(&path).unwrap();
    fs::create_dir(&path).unwrap();
    let answer = team.look_up();
    assert_eq!(answer.records, []);
    assert!(!answer.misses.is_empty());
}

#[test]
fn every_truncated_object_is_a_miss() {
    let key = key(CI);
    let name = bundle(ObjectKind::Tree).name;
    let object = object(CI, NAMESPACE);
    let open = |object: &[u8]| {
        Bundle::open(object, key.public_key().key_data(), &name, &subject(), Timestamp::now())
    };
    assert!(open(&object).is_ok());
    for length in 0..object.len() {
        assert!(open(&object[..length]).is_err(), "{length}");
    }
}

proptest! {
    #[test]
    fn a_damaged_object_is_a_miss_or_says_the_same(at in 0usize..900, bit in 0u8..8) {
        let (signed, mut bytes) = (bundle(ObjectKind::Tree), object(CI, NAMESPACE));
        let at = at % bytes.len();
        bytes[at] ^= 1 << bit;
        let key = key(CI);
        let opened = Bundle::open(
            &bytes, key.public_key().key_data(), &signed.name, &subject(), Timestamp::now(),
        );
        if let Ok(opened) = opened {
            prop_assert_eq!(opened.records.keys().collect::<Vec<_>>(), signed.records.keys().collect::<Vec<_>>());
            let body = |bundle: &Bundle| {
                bundle.records.values().next().unwrap().body.read::<Value>().unwrap()
            };
            prop_assert_eq!(body(&opened), body(&signed));
        }
    }
}
