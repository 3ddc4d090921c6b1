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
        variables: Vec::new(),
    };
    members.iter().map(|member| product(&member.name)).collect()
}

fn key(number: u8) -> Digest {
    let mut digester = crate::model::Digester::new("test");
    digester.number(number.into());
    digester.finish()
}

fn order() -> BuildOrder {
    let members = members();
    let whole = WholeBuild::new(key(1), Path::new("/w"), &products(&members));
    let members = Some((key(0), Arc::new(members)));
    let mut order = BuildOrder { members, ..BuildOrder::default() };
    order.learn(whole);
    order
}

fn edit(order: &mut BuildOrder, files: &[&str], now: Instant) {
    order.edited(&files.iter().map(PathBuf::from).collect::<Vec<_>>(), now);
}

fn chosen(order: &BuildOrder, now: Instant) -> Vec<String> {
    order.choose(key(1), now).into_iter().map(|choice| choice.what).collect()
}

#[test]
fn the_edited_package_comes_first_then_what_is_foreseen_of_those_built_from_it() {
    let now = Instant::now();
    let mut order = order();
    assert_eq!(chosen(&order, now), Vec::<String>::new(), "nothing was edited");
    edit(&mut order, &["low/src/lib.rs"], now);
    assert_eq!(chosen(&order, now)[..], ["low (edited)", "mid (next)"]);
    let commit = |name: &str| Commit { packages: BTreeSet::from([name.to_owned()]) };
    order.history = [commit("alone"), commit("top5"), commit("top5")].into();
    assert_eq!(chosen(&order, now)[1], "top5, mid (next)", "`alone` is not built from it");
    let specs = order.choose(key(1), now)[1].specs.clone();
    assert_eq!(specs, ["path+file:///w/mid#0.1.0", "path+file:///w/top5#0.1.0"]);
}

#[test]
fn where_nothing_else_is_to_be_built_the_whole_is_as_quick() {
    let now = Instant::now();
    let mut order = order();
    edit(&mut order, &["alone/src/lib.rs", "top1/tests/it.rs", "README.md"], now);
    assert_eq!(chosen(&order, now), Vec::<String>::new());
    edit(&mut order, &["mid/src/lib.rs"], now);
    assert_eq!(chosen(&order, now)[0], "mid, top1, alone (edited)");
}

#[test]
fn what_was_built_is_no_edit_any_more_and_a_checkout_is_none() {
    let now = Instant::now();
    let mut order = order();
    edit(&mut order, &["low/src/lib.rs"], now);
    order.is_built();
    assert_eq!(chosen(&order, now), Vec::<String>::new());
    edit(&mut order, &["mid/src/lib.rs"], now);
    assert_eq!(chosen(&order, now)[0], "mid (edited)");
    let many: Vec<_> = (0..=LARGEST_EDIT).map(|file| format!("low/src/{file}.rs")).collect();
    edit(&mut order, &many.iter().map(String::as_str).collect::<Vec<_>>(), now);
    assert_eq!(chosen(&order, now), Vec::<String>::new());
}

#[test]
fn nothing_is_chosen_by_what_another_manifest_made() {
    let now = Instant::now();
    let mut order = order();
    edit(&mut order, &["low/src/lib.rs"], now);
    assert!(order.choose(key(2), now).is_empty());
}

#[test]
fn what_is_another_one_by_itself_is_not_chosen_until_the_manifests_change() {
    let now = Instant::now();
    let mut order = order();
    edit(&mut order, &["low/src/lib.rs"], now);
    let first = order.choose(key(1), now).remove(0);
    order.learn_inseparable(key(2), first.specs.clone());
    assert_eq!(chosen(&order, now)[0], "low (edited)", "that was another one");
    order.learn_inseparable(key(1), first.specs.clone());
    assert_eq!(chosen(&order, now), ["mid (next)"]);
    let known = |number| WholeBuild::new(key(number), Path::new("/w"), &products(&members()));
    order.learn(known(1));
    assert_eq!(chosen(&order, now), ["mid (next)"], "as before");
    order.learn(known(3));
    assert_eq!(order.choose(key(3), now)[0].what, "low (edited)");
}

#[test]
fn what_an_earlier_daemon_has_learnt_is_not_learnt_again() {
    let now = Instant::now();
    let mut first = order();
    edit(&mut first, &["low/src/lib.rs"], now);
    let specs = first.choose(key(1), now).remove(0).specs;
    let known = first.learn_inseparable(key(1), specs.clone()).cloned().unwrap();
    assert_eq!(first.learn_inseparable(key(1), specs), None, "that is no news");
    let mut second = BuildOrder::new(known);
    second.members = first.members.take();
    second.learn(WholeBuild::new(key(1), Path::new("/w"), &products(&members())));
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
    let mut order =
        BuildOrder { members: Some((key(0), Arc::new(members))), ..BuildOrder::default() };
    order.learn(WholeBuild::new(key(1), Path::new("/w"), &products));
    edit(&mut order, &["mid/src/lib.rs"], now);
    let features = order.choose(key(1), now).remove(0).features;
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
    let whole = WholeBuild::new(key(1), Path::new("/w"), &products);
    let mut order =
        BuildOrder { members: Some((key(0), Arc::new(members))), ..BuildOrder::default() };
    order.learn(whole);
    edit(&mut order, &["low/src/lib.rs"], now);
    let first = order.choose(key(1), now).remove(0);
    let names: Vec<_> = first.specs.iter().map(|spec| &spec[15..spec.len() - 6]).collect();
    assert_eq!(names, ["low", "top1", "top3", "top4", "top5", "top6"]);
    assert_eq!(first.filters.iter().collect::<Vec<_>>(), ["--lib", "--test=it"]);
    assert!(first.only_filters);
    order.learn_inseparable(key(1), first.specs);
    let second = order.choose(key(1), now).remove(0);
    assert_eq!((second.specs.len(), second.only_filters), (1, false));
    order.learn_inseparable(key(1), second.specs);
    assert!(!chosen(&order, now).contains(&"low (edited)".to_owned()));
}

#[test]
fn a_session_is_bounded_and_its_programs_are_those_likely_to_be_wanted() {
    let now = Instant::now();
    let mut order = order();
    for number in 0..2 * REMEMBERED_EVENTS {
        edit(&mut order, &[&format!("top1/src/{number}.rs")], now);
        order.asked(format!("p{number}"), now);
    }
    assert_eq!((order.edits.len(), order.asked.len()), (REMEMBERED_EVENTS, REMEMBERED_EVENTS));
    edit(&mut order, &["low/src/lib.rs"], now + Duration::from_secs(1));
    order.asked("top4".to_owned(), now);
    let programs = order.programs(now + Duration::from_secs(1));
    assert_eq!(programs[0], Path::new("/w/target/low-1"));
    assert!(programs.contains(&"/w/target/top4-1".into()), "{programs:?}");
}
