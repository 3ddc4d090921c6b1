//! Roots outside of the main one.

use super::*;

fn ground() -> Ground {
    let ground = Ground::with(&["Cargo.toml", "src/lib.rs"]);
    for file in ["dep/Cargo.toml", "dep/src/lib.rs", "dep/target/x", "dep/target/CACHEDIR.TAG"] {
        let path = ground.beside(file);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, "Signature: 8a477f597d28d172789f06886806bc55").unwrap();
    }
    ground
}

fn with_dep(ground: &Ground) -> Options {
    Options { outside: vec![ground.beside("dep")], ..ground.options() }
}

#[test]
fn an_outside_root_is_a_tree_of_its_own_with_the_same_rules() {
    let ground = ground();
    let options = with_dep(&ground);
    let expected = ["../dep/Cargo.toml", "../dep/src/lib.rs", "Cargo.toml", "src/lib.rs"];
    assert_eq!(ground.counted_with(options.clone()), expected);
    let mut living = Living::new(ground.hasher_with(options.clone()));
    let dep = ground.beside("dep");
    assert_eq!(living.hasher.manifests(), [ground.path("Cargo.toml"), dep.join("Cargo.toml")]);
    fs::write(dep.join("src/lib.rs"), "other").unwrap();
    living.rescan(&[dep.join("src")]);
    assert_eq!(living.known(), ground.digest_with(options.clone()));
    assert!(living.hasher.counts(&dep.join("src/lib.rs")));
    fs::write(dep.join(".gitignore"), "/src\n").unwrap();
    living.rescan(&[dep]);
    assert_eq!(living.known(), ground.digest_with(options));
}

#[test]
fn the_label_is_the_way_and_not_the_place() {
    let (one, two) = (ground(), ground());
    assert_eq!(one.digest_with(with_dep(&one)), two.digest_with(with_dep(&two)));
    assert_ne!(one.digest_with(with_dep(&one)), one.digest());
    fs::rename(two.beside("dep"), two.beside("moved")).unwrap();
    let moved = Options { outside: vec![two.beside("moved")], ..two.options() };
    assert_ne!(one.digest_with(with_dep(&one)), two.digest_with(moved));
}

#[test]
fn roots_come_and_go_with_the_options() {
    let ground = ground();
    let mut living = Living::new(ground.hasher());
    let alone = living.known();
    living.hasher.set_options(with_dep(&ground)).unwrap();
    living.rescan(&[]);
    assert_eq!(living.known(), ground.digest_with(with_dep(&ground)));
    let both =
        Options { outside: vec![ground.beside("a"), ground.beside("dep")], ..ground.options() };
    living.hasher.set_options(both).unwrap();
    living.rescan(&[]);
    assert!(unknown(&living.hasher)[0].contains("No such file"));
    living.hasher.set_options(ground.options()).unwrap();
    living.rescan(&[]);
    assert_eq!(living.known(), alone);
}

#[test]
fn a_root_inside_another_is_walked_once_and_even_if_ignored() {
    let ground = Ground::with(&["Cargo.toml", "vendor/dep/lib.rs", "vendor/x"]);
    ground.write(".gitignore", "vendor\n");
    let options = Options {
        outside: vec![ground.path("vendor/dep"), ground.root.parent().unwrap().to_owned()],
        ..ground.options()
    };
    let mut living = Living::new(ground.hasher_with(options.clone()));
    let listed = listed(&living.hasher);
    assert!(listed.contains(&"vendor/dep/lib.rs".to_owned()), "{listed:?}");
    assert!(!listed.contains(&"vendor/x".to_owned()), "{listed:?}");
    ground.write("vendor/dep/lib.rs", "other");
    living.rescan(&[ground.path("vendor/dep")]);
    assert_eq!(living.known(), ground.digest_with(options));
}

#[test]
fn a_memo_knows_outside_roots_too() {
    let ground = ground();
    let file = ground.beside("memo");
    let mut first = ground.hasher_with(with_dep(&ground));
    first.probe.settled = Some(true);
    first.scan(&mut |_| {});
    first.save_memo(&file).unwrap();
    let mut second = ground.hasher_with(with_dep(&ground));
    second.probe.settled = Some(true);
    second.load_memo(&file);
    assert_eq!(second.scan(&mut |_| {}).read_files, 0);
    assert_eq!(known(&second), known(&first));
}
