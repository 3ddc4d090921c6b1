//! The tests of a workspace as `cargo nextest list --message-format json` names them.

use std::path::PathBuf;

use serde_json::{Value, json};

use crate::model::{TargetId, TargetKind};

/// One test binary.
#[derive(Clone, Debug)]
pub(super) struct Suite {
    pub(super) id: TargetId,
    /// Its path.
    pub(super) binary: PathBuf,
    /// nextest's own name for it, as its report for people prints it.
    pub(super) binary_id: String,
    /// How events name it: package and binary.
    pub(super) prefix: String,
    /// Every test that is selected.
    pub(super) selected: Vec<String>,
    /// Those that are marked `#[ignore]` and were not asked for.
    pub(super) ignored: Vec<String>,
    /// How many a filter left out.
    pub(super) filtered: u64,
}

/// All test binaries, sorted by target.
#[derive(Clone, Debug, Default)]
pub(super) struct Suites(pub(super) Vec<Suite>);

impl Suites {
    /// Reads the list.
    pub(super) fn parse(json: &[u8]) -> Result<Self, String> {
        let list: Value = serde_json::from_slice(json).map_err(|error| error.to_string())?;
        let suites = list.get("rust-suites").and_then(Value::as_object);
        let suites = suites.ok_or("it has no `rust-suites`")?;
        let mut found = Vec::new();
        for (binary_id, suite) in suites {
            // A binary that the selection leaves out as a whole: cargo would not run it.
            if suite.get("status").and_then(Value::as_str) == Some("skipped") {
                continue;
            }
            found.push(Suite::parse(binary_id, suite)?);
        }
        found.sort_by(|a, b| a.id.cmp(&b.id));
        Ok(Self(found))
    }
}

/// The binaries of a list of tests, as `cargo nextest run --binaries-metadata` takes them.
pub(super) fn binaries(list: &[u8]) -> Result<Vec<u8>, String> {
    const OF_BINARY: [&str; 6] =
        ["binary-id", "binary-name", "package-id", "kind", "binary-path", "build-platform"];
    let list: Value = serde_json::from_slice(list).map_err(|error| error.to_string())?;
    let suites = list.get("rust-suites").and_then(Value::as_object).ok_or("it has no suites")?;
    let binary = |suite: &Value| -> serde_json::Map<String, Value> {
        let fields = OF_BINARY.iter();
        fields.filter_map(|name| Some(((*name).to_owned(), suite.get(name)?.clone()))).collect()
    };
    let binaries: serde_json::Map<String, Value> =
        suites.iter().map(|(id, suite)| (id.clone(), binary(suite).into())).collect();
    let build = list.get("rust-build-meta").ok_or("it does not describe the build")?;
    let all = json!({"rust-build-meta": build, "rust-binaries": binaries});
    serde_json::to_vec(&all).map_err(|error| error.to_string())
}

impl Suite {
    /// How events name one of its tests.
    pub(super) fn event_name(&self, test: &str) -> String {
        format!("{}${test}", self.prefix)
    }

    fn parse(binary_id: &str, suite: &Value) -> Result<Self, String> {
        let text = |key: &str| {
            let value = suite.get(key).and_then(Value::as_str);
            value.ok_or_else(|| format!("`{binary_id}` has no `{key}`"))
        };
        let kind = match text("kind")? {
            "lib" | "proc-macro" => TargetKind::Lib,
            other => other.parse().map_err(|error| format!("`{binary_id}`: {error}"))?,
        };
        let (package, target) = (text("package-name")?.to_owned(), text("binary-name")?.to_owned());
        let prefix = format!("{package}::{target}");
        let id = TargetId { package, target, kind };
        let mut this = Self {
            id,
            binary: text("binary-path")?.into(),
            binary_id: binary_id.to_owned(),
            prefix,
            selected: Vec::new(),
            ignored: Vec::new(),
            filtered: 0,
        };
        let tests = suite.get("testcases").and_then(Value::as_object);
        let tests = tests.ok_or_else(|| format!("`{binary_id}` has no `testcases`"))?;
        for (name, test) in tests {
            let filter = test.get("filter-match").ok_or("a test without `filter-match`")?;
            let word = |key: &str| filter.get(key).and_then(Value::as_str);
            // With `--ignored`, the reason of all the others is `ignored` too.
            let marked = test.get("ignored").and_then(Value::as_bool).unwrap_or(false);
            match (word("status"), word("reason")) {
                (Some("matches"), _) => this.selected.push(name.clone()),
                (Some("mismatch"), Some("ignored")) if marked => this.ignored.push(name.clone()),
                (Some("mismatch"), _) => this.filtered += 1,
                _ => return Err(format!("`{binary_id}` has a test of unknown status: {name}")),
            }
        }
        Ok(this)
    }
}
