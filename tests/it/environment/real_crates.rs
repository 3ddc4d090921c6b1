//! Variables that real crates read, under names that only they know: of clap's `env`, of dotenv files,
//! of snapshot and property tests. Each of the tests fails with the value that is given here.

use crate::home::{Home, can_observe, skip, takes_long, until_old};

const MANIFEST: &str = "[package]\nname = 'p'\nversion = '0.1.0'\nedition = '2024'\n\
    [dev-dependencies]\nclap = { version = '4', features = ['derive', 'env'] }\n\
    dotenvy = '0.15'\ninsta = { version = '1', default-features = false }\n\
    proptest = { version = '1', default-features = false, features = ['std'] }\n";

/// A test target, its source, the variable that it reads and a value for which it fails.
const READERS: &[(&str, &str, &str, &str)] = &[
    (
        "with_clap",
        "#[derive(clap::Parser)]\nstruct Arguments {\n    \
         #[arg(long, env = \"HARVEST_MODE\", default_value = \"good\")]\n    mode: String,\n}\n\
         #[test]\nfn t() {\n    let parsed = <Arguments as clap::Parser>::parse_from([\"p\"]);\n    \
         assert_ne!(parsed.mode, \"bad\");\n}\n",
        "HARVEST_MODE",
        "bad",
    ),
    (
        "with_dotenv",
        "#[test]\nfn t() {\n    dotenvy::dotenv().unwrap();\n    \
         let name = dotenvy::var(\"NAME_IN_FILE\").unwrap();\n    \
         assert_ne!(std::env::var(name).unwrap_or_default(), \"bad\");\n}\n",
        "ORCHID_STATE",
        "bad",
    ),
    (
        "with_insta",
        "#[test]\nfn t() {\n    insta::assert_snapshot!(\"value\", @\"value\");\n}\n",
        "INSTA_UPDATE",
        "no such way",
    ),
    (
        "with_proptest",
        "#[test]\nfn t() {\n    \
         assert_ne!(proptest::test_runner::Config::default().cases, 7);\n}\n",
        "PROPTEST_CASES",
        "7",
    ),
];

#[test]
fn a_variable_that_a_real_crate_reads_counts() {
    if takes_long() {
        return;
    }
    if !can_observe("variables of real crates") {
        return;
    }
    let mut home = Home::with(&[("Cargo.toml", MANIFEST), (".env", "NAME_IN_FILE=ORCHID_STATE\n")]);
    for (name, text, ..) in READERS {
        home.write(&format!("tests/{name}.rs"), text);
    }
    if home.cargo(&["fetch", "--quiet"]).code != Some(0) {
        home.environment.remove("CARGO_NET_OFFLINE");
        let fetched = home.cargo(&["fetch", "--quiet"]);
        if fetched.code != Some(0) {
            return skip("variables of real crates", &fetched.stderr);
        }
        home.environment.set("CARGO_NET_OFFLINE", "true");
    }
    until_old(&home.root.join("Cargo.lock"));
    let ask = |home: &Home| home.test(&["--no-daemon"]);
    ask(&home).green_from("run");
    ask(&home).green_from("cache");
    let before = home.environment.clone();
    for (name, _, variable, value) in READERS {
        home.environment.set(*variable, *value);
        assert_eq!(home.run(&["check"]).code, Some(10), "{variable} is not seen");
        let answer = ask(&home);
        answer.red();
        assert!(answer.run().iter().any(|ran| ran == name), "{name}: {answer:#?}");
        home.environment = before.clone();
        ask(&home).green();
    }
    home.environment.set("STARSHIP_SESSION_KEY", "another window");
    let answer = ask(&home);
    answer.green();
    // The others go through all variables.
    let run = answer.run();
    assert!(!run.contains(&"with_clap".to_owned()), "{answer:#?}");
    assert!(!run.contains(&"with_insta".to_owned()), "{answer:#?}");
}
