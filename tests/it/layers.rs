//! Rules of the repository, as tests: imports between modules and files, the homes of foreign
//! crates, names, the length of files.

mod imports;
mod source;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::LazyLock;

use imports::Cycle;
use source::{Kind, Library};

/// Every module with its layer.
const LAYERS: [(&str, u8); 25] = [
    ("model", 0),
    ("paths", 0),
    ("process", 0),
    ("config", 1),
    ("workspace", 1),
    ("cache", 2),
    ("compiler", 2),
    ("hasher", 2),
    ("observer", 2),
    ("predict", 2),
    ("reach", 2),
    ("runner", 2),
    ("shared", 2),
    ("watcher", 2),
    ("client", 3),
    ("daemon", 3),
    ("protocol", 3),
    ("verdict", 3),
    ("cli", 4),
    ("guide", 4),
    ("logging", 4),
    ("service", 4),
    ("views", 4),
    ("bin", 5),
    ("fuzzing", 5),
];

/// Imports inside a layer.
const BESIDE: [(&str, &str); 11] = [
    ("paths", "process"),
    ("process", "model"),
    ("client", "protocol"),
    ("daemon", "protocol"),
    ("daemon", "verdict"),
    // What is known of an old failure travels in both.
    ("verdict", "protocol"),
    ("cli", "service"),
    ("cli", "guide"),
    ("cli", "logging"),
    ("cli", "views"),
    ("config", "workspace"),
];

/// Modules that engines and words must not know although they lie below: engines take plain
/// arguments.
const NEVER: [(&str, &str); 9] = [
    ("cache", "config"),
    ("compiler", "config"),
    ("hasher", "config"),
    ("observer", "config"),
    ("predict", "config"),
    ("reach", "config"),
    ("runner", "config"),
    ("shared", "config"),
    ("watcher", "config"),
];

/// Foreign crates with the only modules that may name them.
const HOMES: [(&str, &[&str]); 34] = [
    ("notify", &["watcher"]),
    ("notify_rust", &["views"]),
    ("clap", &["cli"]),
    ("clap_complete", &["cli"]),
    ("clap_mangen", &["cli"]),
    ("quick_junit", &["cli"]),
    ("service_manager", &["service"]),
    ("sd_notify", &["service"]),
    ("tracing_journald", &["logging"]),
    ("tracing_subscriber", &["logging"]),
    ("toml_edit", &["config"]),
    ("schemars", &["config"]),
    ("ignore", &["hasher"]),
    ("aho_corasick", &["hasher"]),
    ("iced_x86", &["hasher", "reach"]),
    ("rustc_demangle", &["hasher", "reach"]),
    ("object", &["hasher", "reach"]),
    ("indicatif", &["cli"]),
    ("flate2", &["shared"]),
    ("futures_util", &["shared"]),
    ("opendal_core", &["shared"]),
    ("opendal_http_transport_reqwest", &["shared"]),
    ("opendal_layer_retry", &["shared"]),
    ("opendal_service_fs", &["shared"]),
    ("opendal_service_redis", &["shared"]),
    ("opendal_service_s3", &["shared"]),
    ("reqwest", &["shared"]),
    ("ring", &["shared"]),
    ("rustls", &["shared"]),
    ("ssh_key", &["shared"]),
    ("proc_macro2", &["workspace"]),
    ("lsp_server", &["views"]),
    ("lsp_types", &["views"]),
    ("ratatui_core", &["views"]),
];

/// How many of the type names may stand for several types.
const AMBIGUOUS_TYPE_NAMES_PERCENT: f64 = 0.3;

/// What other crates may use: re-exports of the root, and the functions of the types among them.
const SURFACE: [&str; 15] = [
    "pub mod guide;",
    "pub use cache::Cache;",
    "pub use compiler::TestCompiler;",
    "pub use daemon::Daemon;",
    "pub use hasher::CodeHasher;",
    "Cache::dir",
    "Cache::open",
    "CodeHasher::new",
    "CodeHasher::root",
    "CodeHasher::scan",
    "CodeHasher::snapshot",
    "Daemon::new",
    "Daemon::start",
    "Daemon::status",
    "Daemon::stop",
];

/// How many parameters of functions may be tuples.
const TUPLE_PARAMETERS: usize = 2;

/// The longest file, tests included.
const LONGEST: usize = 700;

/// The library's own code.
static LIBRARY: LazyLock<Library> = LazyLock::new(|| Library::read(&root().join("src")));

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// All files of Rust below a folder.
fn rust_files(top: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut todo = vec![top.to_owned()];
    while let Some(dir) = todo.pop() {
        for entry in fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                todo.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                found.push(path);
            }
        }
    }
    found
}

fn sources() -> Vec<(String, PathBuf, String)> {
    let src = root().join("src");
    let with_module = |path: PathBuf| {
        let first = path.strip_prefix(&src).unwrap().components().next().unwrap().as_os_str();
        let module = Path::new(first).file_stem().unwrap().to_str().unwrap().to_owned();
        let text = fs::read_to_string(&path).unwrap();
        (module, path, text)
    };
    rust_files(&src).into_iter().map(with_module).collect()
}

/// The code without comments, so that prose may name what code may not, and without the tests
/// at a file's end, which may use what they like.
fn code(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let lines = text.lines().take_while(|line| *line != "mod tests {").enumerate();
    lines.filter(|(_, line)| !line.trim_start().starts_with("//")).map(|(at, line)| (at + 1, line))
}

fn is_tests(path: &Path) -> bool {
    path.components().any(|part| part.as_os_str() == "tests")
        || path.file_name().is_some_and(|name| name == "tests.rs")
}

#[test]
fn imports_go_downward() {
    let layers: BTreeMap<_, _> = LAYERS.into_iter().collect();
    let mut wrong = Vec::new();
    for (module, path, text) in sources() {
        if module == "lib" {
            continue;
        }
        let own = *layers.get(module.as_str()).unwrap_or_else(|| panic!("no layer for {module}"));
        for (line, text) in code(&text) {
            for prefix in ["crate::", "knhk_test_cache::"] {
                for (at, _) in text.match_indices(prefix) {
                    let rest = &text[at + prefix.len()..];
                    let end = rest.find(|c: char| !c.is_alphanumeric() && c != '_');
                    let name = &rest[..end.unwrap_or(rest.len())];
                    let Some(&other) = layers.get(name) else { continue };
                    let beside = BESIDE.contains(&(module.as_str(), name));
                    let never = NEVER.contains(&(module.as_str(), name));
                    if name != module && !is_tests(&path) && (never || !(other < own || beside)) {
                        wrong.push(format!("{}:{line}: {module} uses {name}", path.display()));
                    }
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// The documentation shows no more than other crates can use. What only this package's program, benches
/// and tests call is hidden.
#[test]
fn the_public_surface_is_as_agreed() {
    let library = &*LIBRARY;
    let root = fs::read_to_string(root().join("src/lib.rs")).unwrap();
    let hidden = |before: Option<&str>| before == Some("#[doc(hidden)]");
    let lines: Vec<&str> = root.lines().collect();
    let exports = lines.iter().enumerate().filter(|(_, line)| line.starts_with("pub "));
    let exports = exports.filter(|(at, _)| !hidden(at.checked_sub(1).map(|above| lines[above])));
    let mut found: BTreeSet<String> = exports.map(|(_, line)| (*line).to_owned()).collect();
    let types: Vec<_> =
        found.iter().filter_map(|line| line.rsplit_once("::")?.1.strip_suffix(';')).collect();
    let mut functions = BTreeSet::new();
    for item in library.modules.iter().flat_map(|module| &module.items) {
        if item.kind != Kind::Impl || !types.contains(&item.name.as_str()) {
            continue;
        }
        let mut is_hidden = false;
        for (at, token) in item.tokens.iter().enumerate() {
            match token.as_str() {
                "{" | "}" | ";" => is_hidden = false,
                "hidden" => is_hidden = true,
                "pub" if item.tokens[at + 1] != "(" && !is_hidden => {
                    let mut words = item.tokens[at..].iter().skip_while(|word| *word != "fn");
                    functions.insert(format!("{}::{}", item.name, words.nth(1).unwrap()));
                }
                _ => {}
            }
        }
    }
    found.extend(functions);
    assert_eq!(found, SURFACE.map(str::to_owned).into());
}

/// Two files that need each other can only be understood together.
#[test]
fn files_import_each_other_in_no_cycle() {
    let library = &*LIBRARY;
    assert_none(&imports::between_files(library));
}

#[test]
fn no_file_takes_from_its_facade_what_is_built_from_the_file() {
    let library = &*LIBRARY;
    assert_none(&imports::with_facades(library));
}

#[track_caller]
fn assert_none(cycles: &[Cycle]) {
    let told = cycles.iter().map(|Cycle { files, ties }| {
        format!("these files need each other: {files:?}\n  {}", ties.join("\n  "))
    });
    assert!(cycles.is_empty(), "{}", told.collect::<Vec<_>>().join("\n"));
}

/// A reader who meets a type's name must know which type it is.
#[test]
fn a_type_name_stands_for_one_type() {
    let library = &*LIBRARY;
    let mut places: BTreeMap<&str, BTreeSet<String>> = BTreeMap::new();
    // An inline module's types may be alternatives for other platforms.
    let of_files = library.modules.iter().filter(|module| {
        module.parent.is_none_or(|parent| library.modules[parent].file != module.file)
    });
    for module in of_files {
        for item in module.items.iter().filter(|item| item.kind == Kind::Type) {
            places.entry(&item.name).or_default().insert(module.path.join("::"));
        }
    }
    let total = places.len();
    places.retain(|_, modules| modules.len() > 1);
    let percent = 100.0 * places.len() as f64 / total as f64;
    assert!(
        percent <= AMBIGUOUS_TYPE_NAMES_PERCENT,
        "{percent:.1} % of {total} type names: {places:#?}"
    );
}

/// Grouped arguments are a type with names, not a tuple.
#[test]
fn parameters_are_no_tuples() {
    let library = &*LIBRARY;
    let mut found = Vec::new();
    for module in &library.modules {
        for item in &module.items {
            for parameter in source::parameters(&item.tokens) {
                let kind = parameter.iter().position(|token| token == ":").map_or(0, |at| at + 1);
                let kind = &parameter[kind..];
                let start = kind.iter().position(|token| !["&", "mut"].contains(&token.as_str()));
                let kind = &kind[start.unwrap_or(0)..];
                if kind.first().is_some_and(|token| token == "(") && kind.iter().any(|t| t == ",") {
                    found.push(format!("{}: {}", module.path.join("::"), parameter.join(" ")));
                }
            }
        }
    }
    assert!(found.len() <= TUPLE_PARAMETERS, "{}: {}", found.len(), found.join("\n"));
}

#[test]
fn foreign_crates_stay_at_home() {
    let mut wrong = Vec::new();
    for (module, path, text) in sources() {
        for (line, text) in code(&text).filter(|(_, text)| text.contains("::")) {
            for (name, homes) in HOMES {
                let is_used = text.match_indices(name).any(|(at, _)| {
                    let (before, after) =
                        (text[..at].chars().next_back(), &text[at + name.len()..]);
                    before.is_none_or(|c| [' ', '('].contains(&c)) && after.starts_with("::")
                });
                if !is_used || is_tests(&path) || homes.contains(&module.as_str()) {
                    continue;
                }
                // A module of our own can have a crate's name.
                if !root().join("src").join(&module).join(format!("{name}.rs")).exists() {
                    wrong.push(format!("{}:{line}: {name} outside {homes:?}", path.display()));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// Every dependency is named by some code. The check does not see a dependency that is named in
/// text or comments only, or a feature of one that nothing needs.
#[test]
fn every_dependency_is_used() {
    let manifest = fs::read_to_string(root().join("Cargo.toml")).unwrap();
    let manifest: toml::Table = manifest.parse().unwrap();
    let mut unused = Vec::new();
    for (table, folders) in
        [("dependencies", &["src"][..]), ("dev-dependencies", &["src", "tests"])]
    {
        let mut named = BTreeSet::new();
        for path in folders.iter().flat_map(|folder| rust_files(&root().join(folder))) {
            let text = fs::read_to_string(path).unwrap();
            let code = text.lines().filter(|line| !line.trim_start().starts_with("//"));
            for end in
                code.flat_map(|line| line.match_indices([':', ';']).map(move |at| (line, at.0)))
            {
                let (before, after) = end.0.split_at(end.1);
                let word = before.rsplit(|c: char| !c.is_alphanumeric() && c != '_').next();
                if after.starts_with("::") || after.starts_with(';') {
                    named.extend(word.map(str::to_owned));
                }
            }
        }
        let names = manifest[table].as_table().unwrap().keys();
        let is_unused = |name: &&String| !named.contains(&name.replace('-', "_"));
        unused.extend(names.filter(is_unused).map(|name| format!("{name} ({table})")));
    }
    assert!(unused.is_empty(), "named by no code: {}", unused.join(", "));
}

#[test]
fn no_mod_rs_no_endless_file_nothing_unfinished() {
    let mut wrong = Vec::new();
    for (_, path, text) in sources() {
        if path.file_name().is_some_and(|name| name == "mod.rs") {
            wrong.push(format!("{}: a module's file bears its name", path.display()));
        }
        let lines = text.lines().count();
        if lines > LONGEST {
            wrong.push(format!("{}: {lines} lines", path.display()));
        }
        if !text.starts_with("//!") {
            wrong.push(format!("{}: no `//!` at its top", path.display()));
        }
        for word in ["todo!(", "unimplemented!(", concat!("FIX", "ME"), concat!("XX", "X")] {
            if text.contains(word) {
                wrong.push(format!("{}: {word}", path.display()));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// A file that no module declares is not compiled, and tests in it never run.
#[test]
fn every_file_is_part_of_something() {
    let mut wrong = Vec::new();
    for top in ["src", "tests/it", "tests/bench"] {
        for path in rust_files(&root().join(top)) {
            let (folder, stem) = (path.parent().unwrap(), path.file_stem().unwrap());
            let stem = stem.to_str().unwrap();
            // Roots by cargo's rules, and programs that tests compile by themselves.
            let is_root = ["main", "lib"].contains(&stem)
                || folder.ends_with("src/bin")
                || folder.ends_with("tests/bench")
                || folder.ends_with("programs");
            let above =
                [folder.with_extension("rs"), folder.join("main.rs"), folder.join("lib.rs")];
            let declares = |file: &PathBuf| {
                let text = fs::read_to_string(file).unwrap_or_default();
                text.lines().any(|line| line.ends_with(&format!("mod {stem};")))
            };
            // A module's tests beside those of its folder, named by their path.
            let beside = folder.parent().unwrap().join(format!("{stem}.rs"));
            let by_path = fs::read_to_string(beside).unwrap_or_default();
            let named = by_path.contains(&format!("#[path = \"tests/{stem}.rs\"]"));
            if !is_root && !named && !above.iter().any(declares) {
                wrong.push(path.display().to_string());
            }
        }
    }
    assert!(wrong.is_empty(), "declared by no module: {}", wrong.join(", "));
}

#[test]
fn the_top_level_is_as_agreed() {
    let allowed = [
        "CHANGELOG.md",
        "Cargo.lock",
        "Cargo.toml",
        "LICENSE-APACHE",
        "LICENSE-MIT",
        "README.md",
        "clippy.toml",
        "config",
        "packaging",
        // Where proptest notes a failure; never kept.
        "proptest-regressions",
        "rustfmt.toml",
        "src",
        "target",
        "tests",
    ];
    let odd: Vec<_> = fs::read_dir(root())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| !name.starts_with('.') && !allowed.contains(&name.as_str()))
        .collect();
    assert!(odd.is_empty(), "{odd:?}");
}
