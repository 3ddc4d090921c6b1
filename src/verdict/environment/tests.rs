//! Tests of the rules by which variables count.

use super::*;
use crate::compiler::UnitInputs;

#[test]
fn a_variable_that_cargo_sets_does_not_count_for_a_build() {
    let environment: Environment = [("A", "1"), ("CARGO_PKG_NAME", "x"), ("TERM", "y")]
        .map(|(n, v)| (n.into(), v.into()))
        .into_iter()
        .collect();
    let names = ["A", "B", "CARGO_PKG_NAME", "OUT_DIR", "TERM"].map(str::to_owned);
    let unit = UnitInputs { variables: names.into(), ..UnitInputs::default() };
    let variables = named_by_build([&unit].into_iter(), &environment, Path::new("/w"));
    // A package without a build script gets the `OUT_DIR` of the shell.
    assert_eq!(variables.keys().collect::<Vec<_>>(), ["A", "B", "OUT_DIR", "TERM"]);
    assert_eq!(variables["B"], None);
    assert_eq!(variables["A"], Some(Digest::of(b"1")));
}

#[test]
fn a_run_is_judged_by_what_differs_for_the_question_alone() {
    let of = |pairs: &[(&str, &str)]| -> BTreeMap<String, Digest> {
        pairs.iter().map(|(n, v)| ((*n).to_owned(), Digest::of(v.as_bytes()))).collect()
    };
    let asked = AskedEnvironment {
        variables: of(&[("MODE", "b"), ("NEW", "1"), ("SAME", "s")]),
        ..AskedEnvironment::default()
    };
    let then = of(&[("MODE", "a"), ("GONE", "1"), ("SAME", "s")]);
    let differing = asked.differing(&then);
    assert_eq!(differing.iter().collect::<Vec<_>>(), [&"GONE", &"MODE", &"NEW"]);
    // The configuration of cargo gives one to the run, and another value of one.
    let run = of(&[("MODE", "a"), ("GONE", "1"), ("SAME", "forced"), ("GIVEN", "g")]);
    let recorded = RecordedEnvironment { variables: run, ..RecordedEnvironment::default() };
    let there = asked.in_place_of(&recorded, differing.into_iter());
    let expected = of(&[("MODE", "b"), ("NEW", "1"), ("SAME", "forced"), ("GIVEN", "g")]);
    assert_eq!(there.variables, expected);
}

#[test]
fn a_folder_that_cannot_be_searched_is_told_apart_from_another_program() {
    let dir = tempfile::tempdir().unwrap();
    let (one, two) = (dir.path().join("one"), dir.path().join("two"));
    for folder in [&one, &two] {
        std::fs::create_dir(folder).unwrap();
    }
    let tool = one.join("tool");
    std::fs::write(&tool, "").unwrap();
    let programs = BTreeMap::from([("tool".to_owned(), vec![OsText::from(&tool)])]);
    let why = |folders: &[&Path]| {
        let folders = folders.iter().map(|folder| folder.to_path_buf()).collect();
        let asked = AskedEnvironment { path: Some(folders), ..AskedEnvironment::default() };
        programs_differ(Some(&programs), &asked).unwrap_or_default()
    };
    assert_eq!(why(&[&two, &one]), "");
    assert_eq!(why(&[&two]), "`tool` is found elsewhere");
    // As for a folder without permission, which the superuser may search.
    let endless = dir.path().join("endless");
    std::os::unix::fs::symlink(&endless, &endless).unwrap();
    assert_eq!(why(&[&endless, &one]), "one of its folders cannot be searched for `tool`");
}

#[test]
fn a_name_may_stand_in_what_cargo_gives_to_a_run() {
    let asked =
        AskedEnvironment { arguments: vec!["a HELD b".into()], ..AskedEnvironment::default() };
    let given = [OsText::from("see OTHER")];
    assert!(asked.is_named("HELD", "held", &given).is_some());
    assert!(
        asked.is_named("OTHER", "other", &given).is_some()
            && asked.is_named("OTHER", "other", &[]).is_none()
    );
}

#[test]
fn what_a_signer_says_of_a_file_that_is_not_here_is_never_kept() {
    let dir = tempfile::tempdir().unwrap();
    let cache = Cache::open(dir.path().join("cache"));
    let known = |found: &[(&str, bool)]| KnownMentions {
        found: found.iter().map(|(text, is_in)| ((*text).to_owned(), *is_in)).collect(),
        ..KnownMentions::default()
    };
    let state = Digest::of(b"a program that was built elsewhere");
    let input =
        Input { path: "target/debug/p".into(), state: InputState::Program(state), proof: None };
    let judge = |told: &[(&str, bool)]| EnvironmentJudge {
        cache: &cache,
        root: dir.path(),
        target_dirs: &[],
        toolchain: Vec::new(),
        rules: VariableRules::default(),
        known: RefCell::default(),
        told: if told.is_empty() { BTreeMap::new() } else { [(state, known(told))].into() },
    };
    let ask = |judge: &EnvironmentJudge<'_>, texts: &[&str]| {
        let texts = texts.iter().map(|text| (*text).to_owned()).collect();
        judge.known(&input, &state, &texts, &mut Fingerprints::default())
    };
    let told = [("mode", false), ("kind", false)];
    assert_eq!(ask(&judge(&told), &["mode"]), Some(known(&told)));
    assert_eq!(ask(&judge(&told), &["other"]), None, "nobody has looked for it");
    assert_eq!(cache.memo::<KnownMentions>(&state), None);
    assert_eq!(ask(&judge(&[]), &["mode"]), None, "of a record of this machine nobody says it");
    // What was found here comes first.
    cache.store_memo(&state, &known(&[("mode", true)]));
    let both = known(&[("mode", true), ("kind", false)]);
    assert_eq!(ask(&judge(&told), &["mode", "kind"]), Some(both));
    assert_eq!(cache.memo(&state), Some(known(&[("mode", true)])));
}
