//! What is built first, by example.

use std::time::Duration;

use super::*;

/// `low` below `mid` below `top1` to `top6`; and `alone`.
fn members() -> Members {
    let tops = (1..=6).map(|top| format!("top{top}"));
    let all = [("low".to_owned(), ""), ("mid".to_owned(), "low"), ("alone".to_owned(), "")];
    let all = all.into_iter().chain(tops.map(|top| (top, "mid")));
    Members::of(all.map(|(name, from)| {
        let needs =
            if from.is_empty() { String::new() } else { format!("{from}.path = '../{from}'") };
        (
            format!("{name}/Cargo.toml"),
            format!("[package]\nname='{name}'\n[dependencies]\n{needs}\n"),
        )
    }))
}

fn products(members: &Members) -> Vec<Product> {
    let product = |name: &str| Product {
        package_id: format!("path+file:///w/{name}#0.1.0"),
        manifest: format!("/w/{name}/Cargo.toml").into(),
        local: true,
        target: name.to_owned(),
        kinds: vec!["lib".to_owned()],
        test: true,
        features: Vec::new(),
        files: vec![format!("/w/target/{name}-1").into()],
        executable: Some(format!("/w/target/{name}-1").into()),
    };
    members.iter().map(|member| product(&member.name)).collect()
}

fn key(number: u8) -> Digest {
    let mut digester = crate::model::Digester::new("test");
    digester.number(number.into());
    digester.finish()
}

fn foresight() -> Foresight {
    let members = members();
    let known = Known::new(key(1), Path::new("/w"), &products(&members));
    let members = Some((key(0), Arc::new(members)));
    let mut foresight = Foresight { members, ..Foresight::default() };
    foresight.learn(known);
    foresight
}

fn edit(foresight: &mut Foresight, files: &[&str], now: Instant) {
    foresight.edited(&files.iter().map(PathBuf::from).collect::<Vec<_>>(), now);
}

fn chosen(foresight: &Foresight, now: Instant) -> Vec<String> {
    foresight.choose(key(1), now).into_iter().map(|choice| choice.what).collect()
}

#[test]
fn the_edited_package_comes_first_then_what_is_foreseen_of_those_built_from_it() {
    let now = Instant::now();
    let mut foresight = foresight();
    assert_eq!(chosen(&foresight, now), Vec::<String>::new(), "nothing was edited");
    edit(&mut foresight, &["low/src/lib.rs"], now);
    assert_eq!(chosen(&foresight, now)[..], ["low (edited)", "mid (next)"]);
    let commit = |name: &str| Commit { packages: BTreeSet::from([name.to_owned()]) };
    foresight.history = [commit("alone"), commit("top5"), commit("top5")].into();
    assert_eq!(chosen(&foresight, now)[1], "top5, mid (next)", "`alone` is not built from it");
    let specs = foresight.choose(key(1), now)[1].specs.clone();
    assert_eq!(specs, ["path+file:///w/mid#0.1.0", "path+file:///w/top5#0.1.0"]);
}

#[test]
fn where_nothing_else_is_to_be_built_the_whole_is_as_quick() {
    let now = Instant::now();
    let mut foresight = foresight();
    edit(&mut foresight, &["alone/src/lib.rs", "top1/tests/it.rs", "README.md"], now);
    assert_eq!(chosen(&foresight, now), Vec::<String>::new());
    edit(&mut foresight, &["mid/src/lib.rs"], now);
    assert_eq!(chosen(&foresight, now)[0], "mid, top1, alone (edited)");
}

#[test]
fn what_was_built_is_no_edit_any_more_and_a_checkout_is_none() {
    let now = Instant::now();
    let mut foresight = foresight();
    edit(&mut foresight, &["low/src/lib.rs"], now);
    foresight.is_built();
    assert_eq!(chosen(&foresight, now), Vec::<String>::new());
    edit(&mut foresight, &["mid/src/lib.rs"], now);
    assert_eq!(chosen(&foresight, now)[0], "mid (edited)");
    let many: Vec<_> = (0..=BY_HAND).map(|file| format!("low/src/{file}.rs")).collect();
    edit(&mut foresight, &many.iter().map(String::as_str).collect::<Vec<_>>(), now);
    assert_eq!(chosen(&foresight, now), Vec::<String>::new());
}

#[test]
fn nothing_is_chosen_by_what_another_manifest_made() {
    let now = Instant::now();
    let mut foresight = foresight();
    edit(&mut foresight, &["low/src/lib.rs"], now);
    assert!(foresight.choose(key(2), now).is_empty());
}

#[test]
fn what_is_another_one_by_itself_is_not_chosen_until_the_manifests_change() {
    let now = Instant::now();
    let mut foresight = foresight();
    edit(&mut foresight, &["low/src/lib.rs"], now);
    let first = foresight.choose(key(1), now).remove(0);
    foresight.learn_inseparable(key(2), first.specs.clone());
    assert_eq!(chosen(&foresight, now)[0], "low (edited)", "that was another one");
    foresight.learn_inseparable(key(1), first.specs.clone());
    assert_eq!(chosen(&foresight, now), ["mid (next)"]);
    let known = |number| Known::new(key(number), Path::new("/w"), &products(&members()));
    foresight.learn(known(1));
    assert_eq!(chosen(&foresight, now), ["mid (next)"], "as before");
    foresight.learn(known(3));
    assert_eq!(foresight.choose(key(3), now)[0].what, "low (edited)");
}

#[test]
fn what_an_earlier_daemon_has_learnt_is_not_learnt_again() {
    let now = Instant::now();
    let mut first = foresight();
    edit(&mut first, &["low/src/lib.rs"], now);
    let specs = first.choose(key(1), now).remove(0).specs;
    let known = first.learn_inseparable(key(1), specs.clone()).cloned().unwrap();
    assert_eq!(first.learn_inseparable(key(1), specs), None, "that is no news");
    let mut second = Foresight::new(known);
    second.members = first.members.take();
    second.learn(Known::new(key(1), Path::new("/w"), &products(&members())));
    edit(&mut second, &["low/src/lib.rs"], now);
    assert_eq!(chosen(&second, now), ["mid (next)"]);
}

#[test]
fn features_are_asked_for_where_a_package_has_them() {
    let now = Instant::now();
    let members = members();
    let mut products = products(&members);
    for product in &mut products {
        product.features = match product.target.as_str() {
            "low" => vec!["f".to_owned()],
            "mid" => vec!["g".to_owned()],
            _ => Vec::new(),
        };
    }
    let mut foresight =
        Foresight { members: Some((key(0), Arc::new(members))), ..Foresight::default() };
    foresight.learn(Known::new(key(1), Path::new("/w"), &products));
    edit(&mut foresight, &["mid/src/lib.rs"], now);
    let features = foresight.choose(key(1), now).remove(0).features;
    // Its own, those of what it is built from, and those of whom nothing is known.
    for feature in ["g", "mid/g", "low/f", "serde/derive"] {
        assert!(features.has(feature), "{feature}");
    }
    for feature in ["f", "mid/f", "alone/f", "top1/g"] {
        assert!(!features.has(feature), "{feature}");
    }
}

#[test]
fn beside_programs_a_package_is_likelier_the_same() {
    let now = Instant::now();
    let members = members();
    let mut products = products(&members);
    for product in products.iter_mut().filter(|product| product.target.starts_with("top")) {
        product.kinds = vec!["bin".to_owned()];
    }
    // One that has a target of the edited one's kind and name would be built as well.
    let mut test = products[0].clone();
    for name in ["low", "top2"] {
        test.package_id = format!("path+file:///w/{name}#0.1.0");
        test.manifest = format!("/w/{name}/Cargo.toml").into();
        (test.target, test.kinds) = ("it".to_owned(), vec!["test".to_owned()]);
        products.push(test.clone());
    }
    let known = Known::new(key(1), Path::new("/w"), &products);
    let mut foresight =
        Foresight { members: Some((key(0), Arc::new(members))), ..Foresight::default() };
    foresight.learn(known);
    edit(&mut foresight, &["low/src/lib.rs"], now);
    let first = foresight.choose(key(1), now).remove(0);
    let names: Vec<_> = first.specs.iter().map(|spec| &spec[15..spec.len() - 6]).collect();
    assert_eq!(names, ["low", "top1", "top3", "top4", "top5", "top6"]);
    assert_eq!(first.filters.iter().collect::<Vec<_>>(), ["--lib", "--test=it"]);
    assert!(first.only_filters);
    foresight.learn_inseparable(key(1), first.specs);
    let second = foresight.choose(key(1), now).remove(0);
    assert_eq!((second.specs.len(), second.only_filters), (1, false));
    foresight.learn_inseparable(key(1), second.specs);
    assert!(!chosen(&foresight, now).contains(&"low (edited)".to_owned()));
}

#[test]
fn a_session_is_bounded_and_its_programs_are_those_likely_to_be_wanted() {
    let now = Instant::now();
    let mut foresight = foresight();
    for number in 0..2 * SESSION {
        edit(&mut foresight, &[&format!("top1/src/{number}.rs")], now);
        foresight.asked(format!("p{number}"), now);
    }
    assert_eq!((foresight.edits.len(), foresight.asked.len()), (SESSION, SESSION));
    edit(&mut foresight, &["low/src/lib.rs"], now + Duration::from_secs(1));
    foresight.asked("top4".to_owned(), now);
    let programs = foresight.programs(now + Duration::from_secs(1));
    assert_eq!(programs[0], Path::new("/w/target/low-1"));
    assert!(programs.contains(&"/w/target/top4-1".into()), "{programs:?}");
}
