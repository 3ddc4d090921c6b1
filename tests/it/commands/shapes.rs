//! The JSON and the exit statuses: names and types that do not change.

use serde_json::Value;

use crate::home::{EXE, Home, LIMIT, can_observe, until};

/// Asserts that an object has these fields of these types; `a?` may also be null.
#[track_caller]
fn shape(value: &Value, fields: &[(&str, &str)]) {
    for (name, wanted) in fields {
        let Some(field) = value.get(name) else { panic!("no `{name}` in {value:#}") };
        let found = match field {
            Value::Null => "null",
            Value::Bool(_) => "bool",
            Value::Number(_) => "number",
            Value::String(_) => "string",
            Value::Array(_) => "array",
            Value::Object(_) => "object",
        };
        let optional = wanted.strip_suffix('?');
        let fits = found == optional.unwrap_or(wanted) || (optional.is_some() && found == "null");
        assert!(fits, "`{name}` is {found}, not {wanted}: {value:#}");
    }
}

const TARGET: &[(&str, &str)] = &[
    ("type", "string"),
    ("package", "string"),
    ("target", "string"),
    ("kind", "string"),
    ("verdict", "string"),
    ("source", "string"),
    ("reason", "string"),
    ("passed", "number"),
    ("failed", "number"),
    ("ignored", "number"),
    ("failures", "array"),
];

const SUMMARY: &[(&str, &str)] = &[
    ("type", "string"),
    ("verdict", "string"),
    ("source", "string"),
    ("code_hash", "string?"),
    ("passed", "number"),
    ("failed", "number"),
    ("ignored", "number"),
    ("targets_cached", "number"),
    ("targets_run", "number"),
    ("elapsed_ms", "number"),
];

#[test]
fn the_json_of_test() {
    if !can_observe("the JSON of an answer for one target") {
        return;
    }
    let body =
        "#[test] fn good() {}\n#[test] fn bad() { panic!() }\n#[test] #[ignore] fn left() {}\n";
    let home = Home::with(&[("tests/it.rs", body)]);
    let answer = home.test(&["--no-daemon"]);
    answer.red();
    answer.targets.iter().for_each(|target| shape(target, TARGET));
    shape(&answer.summary, SUMMARY);
    let it = answer.targets.iter().find(|target| target["target"] == "it").unwrap();
    assert_eq!((&it["package"], &it["kind"]), (&"p".into(), &"test".into()));
    assert_eq!(it["failures"], serde_json::json!(["bad"]));
    let numbers = ["passed", "failed", "ignored"].map(|field| it[field].as_u64().unwrap());
    assert_eq!(numbers, [1, 1, 1]);
    assert_eq!(answer.code_hash().len(), 64);
    assert!(answer.ran.stderr.contains("panicked at"), "failures are readable: {answer:#?}");

    home.write("tests/it.rs", "#[test] fn good() {}\n");
    home.test(&["--no-daemon"]).green_from("mixed");
    let answer = home.test(&["--no-daemon"]);
    answer.green_from("cache");
    assert_eq!((answer.count("targets_cached"), answer.count("targets_run")), (2, 0));
    assert_eq!(answer.count("passed"), 3, "the counts are those of the run");
    assert_eq!(answer.targets[0]["source"], "cache");

    home.write("tests/it.rs", "#[test] fn good( {}\n");
    let answer = home.test(&["--no-daemon"]);
    answer.error();
    shape(&answer.summary, SUMMARY);
}

#[test]
fn the_json_of_everything_else() {
    let home = Home::with(&[]);
    home.config("", "debounce = '1h'");
    let status = home.status();
    assert_eq!(status["running"], false);
    let daemon = home.daemon();
    home.test(&[]).green_from("run");
    // The daemon notes a verdict after the client has gone.
    let running = until("the verdict is shown", || {
        Some(home.status()).filter(|status| !status["projects"][0]["last_verdict"].is_null())
    });
    let common = [("running", "bool"), ("version", "string"), ("socket", "string")];
    for status in [&status, &running] {
        shape(status, &common);
        shape(status, &[("pid", "number?"), ("config", "string"), ("projects", "array")]);
        let project = &status["projects"][0];
        shape(project, &[("path", "string"), ("state", "string"), ("code_hash", "string?")]);
        shape(
            project,
            &[("last_build", "object?"), ("last_verdict", "object?"), ("cache", "object")],
        );
        shape(&project["cache"], &[("entries", "number"), ("bytes", "number")]);
    }
    let project = &running["projects"][0];
    assert_eq!(project["last_verdict"]["verdict"], "pass");
    // One of the whole, two of its one target: by its program and by its packages.
    assert_eq!(project["cache"]["entries"], 3);
    assert_eq!(project["code_hash"].as_str(), Some(home.test(&[]).code_hash()));

    let explained = home.ok(&["explain", "--format", "json"]);
    let lines: Vec<Value> =
        explained.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let (last, targets) = lines.split_last().unwrap();
    shape(
        &targets[0],
        &[("type", "string"), ("package", "string"), ("source", "string"), ("reason", "string")],
    );
    shape(
        last,
        &[("type", "string"), ("source", "string"), ("reason", "string"), ("files", "array")],
    );
    assert_eq!(last["source"], "cache");

    let listed: Value = serde_json::from_str(&home.ok(&["list", "--format", "json"])).unwrap();
    shape(
        &listed,
        &[("path", "string"), ("written", "string"), ("line", "number"), ("problem", "string?")],
    );
    assert_eq!(listed["path"].as_str(), home.root.to_str());
    let stats: Value =
        serde_json::from_str(&home.ok(&["cache", "stats", "--format", "json"])).unwrap();
    shape(&stats, &[("entries", "number"), ("bytes", "number"), ("projects", "array")]);
    let schema: Value = serde_json::from_str(&home.ok(&["config", "schema"])).unwrap();
    shape(&schema, &[("properties", "object")]);
    assert_eq!(home.ok(&["config", "path"]).trim(), home.config_file().to_str().unwrap());
    assert!(home.ok(&["config", "show"]).contains("debounce"));
    home.ok(&["config", "check"]);
    assert!(home.ok(&["completions", "bash"]).contains("knhk-test-cache"));
    daemon.stop();
}

#[test]
fn every_exit_status() {
    let home = Home::with(&[]);
    let code = |args: &[&str]| home.run(args).code;
    assert_eq!(code(&["test", "--no-daemon"]), Some(0));
    assert_eq!(code(&["test", "--no-such-flag"]), Some(2));
    assert_eq!(code(&["sing"]), Some(2));
    assert_eq!(code(&["rebuild"]), Some(5));
    assert_eq!(code(&["list"]), Some(0), "no config is not an error");
    assert_eq!(code(&["remove"]), Some(4), "it is not in the config");
    assert_eq!(code(&["add"]), Some(0));
    assert_eq!(code(&["add"]), Some(0), "twice is once");
    assert_eq!(home.ok(&["list"]).trim(), home.root.to_str().unwrap());
    assert_eq!(code(&["status", home.base.to_str().unwrap()]), Some(4));
    assert_eq!(code(&["remove"]), Some(0));
    assert_eq!(home.ok(&["list"]), "");
    std::fs::write(home.config_file(), "[[project]]\n").unwrap();
    for args in [&["list"][..], &["test", "--no-daemon"], &["daemon"], &["config", "check"]] {
        let ran = home.run(args);
        assert_eq!(ran.code, Some(4), "{args:?}: {ran:#?}");
        assert!(ran.stderr.contains("config.toml:1"), "{args:?}: {ran:#?}");
    }
    let no_home =
        home.start("env", &["-u", "HOME", "-u", "XDG_CONFIG_HOME", EXE, "list"]).end(LIMIT);
    assert_eq!(no_home.code, Some(0), "the account's home is used: {no_home:#?}");
}

#[test]
fn text_for_people_goes_to_standard_error() {
    let home = Home::with(&[]);
    let ran = home.run(&["test", "--no-daemon"]);
    assert_eq!((ran.code, ran.stdout.as_str()), (Some(0), ""), "{ran:#?}");
    assert!(ran.stderr.contains("2 passed"), "{ran:#?}");
    let ran = home.run(&["test", "--no-daemon"]);
    assert!(ran.stderr.contains("Cached"), "{ran:#?}");
    let quiet = home.run(&["test", "--no-daemon", "--quiet"]);
    assert_eq!((quiet.stdout.as_str(), quiet.stderr.as_str()), ("", ""));
}
