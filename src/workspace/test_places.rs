//! Where each test of a target stands in the source, read from the text and never from a build.
//!
//! The text decides: an editor's buffer has places as soon as it is typed. Whatever the text leaves
//! in doubt (a test that a macro makes, a name that occurs twice, a module that may be one of two
//! files) has no place, never a wrong one.

mod outline;
mod target_root;

pub(crate) use target_root::package_targets;
pub use target_root::target_root;

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use self::outline::{FileModule, InlineModule, Outline};
use crate::model::Digest;

/// Files inside one another: a file that declares itself as its module ends here.
const FILE_DEPTH: usize = 64;

/// A test function in the source.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TestPlace {
    /// The file, as it was named when it was read.
    pub file: PathBuf,
    /// The line of the function's name, from 1.
    pub line: usize,
    /// The function makes several tests, whose names begin with its own.
    pub has_cases: bool,
}

/// The test functions of one target by name, as libtest prints it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TestPlaces {
    /// None where a name occurs twice.
    functions: BTreeMap<String, Option<TestPlace>>,
}

impl TestPlaces {
    /// The place of a test.
    #[must_use]
    pub fn find(&self, test: &str) -> Option<&TestPlace> {
        let test: String = test.split("::").map(without_raw).collect::<Vec<_>>().join("::");
        let mut name = test.as_str();
        if let Some(function) = self.functions.get(name) {
            return function.as_ref();
        }
        // `function::case_1`, perhaps deeper.
        loop {
            name = name.rsplit_once("::")?.0;
            if let Some(function) = self.functions.get(name) {
                return function.as_ref().filter(|place| place.has_cases);
            }
        }
    }

    /// All functions whose place is known.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&str, &TestPlace)> {
        self.functions.iter().filter_map(|(name, place)| Some((name.as_str(), place.as_ref()?)))
    }
}

fn without_raw(segment: &str) -> &str {
    segment.strip_prefix("r#").unwrap_or(segment)
}

/// What is known of source files: each text is parsed once.
#[derive(Debug, Default)]
pub struct TestSources {
    outlines: HashMap<PathBuf, ParsedFile>,
}

#[derive(Debug)]
struct ParsedFile {
    content: Digest,
    outline: Option<Arc<Outline>>,
}

impl TestSources {
    /// The tests of the target whose source begins in the file `root`. `read` gives the text of a
    /// file, or nothing where there is none.
    pub fn places(&mut self, root: &Path, read: &dyn Fn(&Path) -> Option<String>) -> TestPlaces {
        let mut walk = ModuleWalk { sources: self, read, places: TestPlaces::default() };
        if let Some(text) = read(root) {
            let folder = Folder { dir: parent(root), relative: None };
            walk.file(root, &text, &folder, &mut Vec::new());
        }
        walk.places
    }

    fn outline(&mut self, file: &Path, text: &str) -> Option<Arc<Outline>> {
        let content = Digest::of(text.as_bytes());
        if let Some(parsed) = self.outlines.get(file).filter(|parsed| parsed.content == content) {
            return parsed.outline.clone();
        }
        let outline = Outline::of(text).map(Arc::new);
        self.outlines.insert(file.to_owned(), ParsedFile { content, outline: outline.clone() });
        outline
    }
}

/// Where rustc looks for the modules of a file.
#[derive(Clone)]
struct Folder {
    dir: PathBuf,
    /// The name of the folder below, for modules without a `path`.
    relative: Option<String>,
}

impl Folder {
    /// The folder of an inline module's own modules.
    fn inside(mut self, module: &InlineModule) -> Self {
        let relative = self.relative.take();
        match &module.path {
            Some(path) => self.dir.push(path),
            None => {
                self.dir.extend(relative);
                self.dir.push(&module.name);
            }
        }
        self
    }
}

struct ModuleWalk<'a> {
    sources: &'a mut TestSources,
    read: &'a dyn Fn(&Path) -> Option<String>,
    places: TestPlaces,
}

impl ModuleWalk<'_> {
    /// Adds the tests of a file and of its modules. `modules` is the file's own path of modules.
    fn file(&mut self, file: &Path, text: &str, folder: &Folder, modules: &mut Vec<String>) {
        let Some(outline) = self.sources.outline(file, text) else { return };
        for test in &outline.tests {
            let name: Vec<_> = modules.iter().chain(&test.path).map(String::as_str).collect();
            let place =
                TestPlace { file: file.to_owned(), line: test.line, has_cases: test.has_cases };
            let places = self.places.functions.entry(name.join("::"));
            places.and_modify(|twice| *twice = None).or_insert(Some(place));
        }
        for module in &outline.modules {
            let depth = modules.len();
            modules.extend(module.inside.iter().map(|inline| inline.name.clone()));
            modules.push(module.name.clone());
            if modules.len() < FILE_DEPTH
                && let Some((file, text, folder)) = self.module(module, folder)
            {
                self.file(&file, &text, &folder, modules);
            }
            modules.truncate(depth);
        }
    }

    /// The file of a module, its text, and where its own modules are.
    fn module(&self, module: &FileModule, folder: &Folder) -> Option<(PathBuf, String, Folder)> {
        let folder = module.inside.iter().fold(folder.clone(), Folder::inside);
        if let Some(path) = &module.path {
            let file = folder.dir.join(path);
            let text = (self.read)(&file)?;
            let folder = Folder { dir: parent(&file), relative: None };
            return Some((file, text, folder));
        }
        let mut dir = folder.dir;
        dir.extend(folder.relative);
        let beside = dir.join(format!("{}.rs", module.name));
        let below = dir.join(&module.name).join("mod.rs");
        match ((self.read)(&beside), (self.read)(&below)) {
            (Some(text), None) => {
                let folder = Folder { dir, relative: Some(module.name.clone()) };
                Some((beside, text, folder))
            }
            (None, Some(text)) => {
                let folder = Folder { dir: parent(&below), relative: None };
                Some((below, text, folder))
            }
            _ => None,
        }
    }
}

fn parent(file: &Path) -> PathBuf {
    file.parent().unwrap_or(Path::new("")).to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn places(files: &[(&str, &str)]) -> TestPlaces {
        let read = |path: &Path| {
            files.iter().find(|(file, _)| path == Path::new(file)).map(|(_, text)| (*text).into())
        };
        TestSources::default().places(Path::new(files[0].0), &read)
    }

    #[track_caller]
    fn assert_places(files: &[(&str, &str)], expected: &[(&str, &str)]) {
        let places = places(files);
        let found: Vec<_> =
            places.iter().map(|(name, place)| (name, place.file.to_str().unwrap())).collect();
        assert_eq!(found, expected, "{files:?}");
    }

    const TEST: &str = "#[test]\nfn t() {}\n";

    #[test]
    fn modules_lie_where_the_compiler_looks_for_them() {
        assert_places(
            &[
                ("src/lib.rs", "mod a;\nmod b;\nmod c { mod d; }\n#[path = \"odd/e.rs\"] mod e;"),
                ("src/a.rs", "mod x;\nmod y { mod z; }\n#[path = \"p.rs\"] mod p;"),
                ("src/a/x.rs", TEST),
                ("src/a/y/z.rs", TEST),
                ("src/p.rs", TEST),
                ("src/b/mod.rs", "mod x;"),
                ("src/b/x.rs", TEST),
                ("src/c/d.rs", TEST),
                ("src/odd/e.rs", "mod f;"),
                ("src/odd/f.rs", TEST),
                ("src/x.rs", TEST),
            ],
            &[
                ("a::p::t", "src/p.rs"),
                ("a::x::t", "src/a/x.rs"),
                ("a::y::z::t", "src/a/y/z.rs"),
                ("b::x::t", "src/b/x.rs"),
                ("c::d::t", "src/c/d.rs"),
                ("e::f::t", "src/odd/f.rs"),
            ],
        );
    }

    #[test]
    fn paths_inside_inline_modules_begin_with_the_modules_folder() {
        assert_places(
            &[
                ("src/lib.rs", "mod a;\nmod i { #[path = \"o.rs\"] mod o; }"),
                ("src/i/o.rs", TEST),
                (
                    "src/a.rs",
                    "mod i { #[path = \"o.rs\"] mod o; }\n#[path = \"q\"] mod j { mod k; }",
                ),
                ("src/a/i/o.rs", TEST),
                ("src/q/k.rs", TEST),
            ],
            &[
                ("a::i::o::t", "src/a/i/o.rs"),
                ("a::j::k::t", "src/q/k.rs"),
                ("i::o::t", "src/i/o.rs"),
            ],
        );
    }

    #[test]
    fn what_is_in_doubt_has_no_place() {
        let twice = "#[cfg(unix)]\n#[test] fn t() {}\n#[cfg(windows)]\n#[test] fn t() {}\n";
        assert_places(&[("src/lib.rs", twice)], &[]);
        let both = [("src/lib.rs", "mod a;"), ("src/a.rs", TEST), ("src/a/mod.rs", TEST)];
        assert_places(&both, &[]);
        let systems = "#[cfg(unix)] mod a;\n#[cfg(windows)]\n#[path = \"b.rs\"]\nmod a;\n";
        assert_places(&[("lib.rs", systems), ("a.rs", TEST), ("b.rs", TEST)], &[]);
        assert_places(&[("lib.rs", "mod a;"), ("a.rs", "#[test] fn t() {")], &[]);
        // A file that declares itself names each of its tests once for each depth.
        let cycle = [("lib.rs", "#[path = \"lib.rs\"]\nmod m;\n#[test] fn t() {}")];
        assert_eq!(places(&cycle).iter().count(), FILE_DEPTH);
    }

    #[test]
    fn a_case_stands_where_its_function_stands() {
        let text = "#[rstest]\nfn f() {}\n#[test]\nfn plain() {}\n#[test]\nfn r#try() {}\n";
        let places = places(&[("lib.rs", text)]);
        let line = |name: &str| places.find(name).map(|place| place.line);
        assert_eq!(line("f"), Some(2));
        assert_eq!(line("f::case_1"), Some(2));
        assert_eq!(line("f::case_1::x_2"), Some(2));
        assert_eq!(line("plain"), Some(4));
        assert_eq!(line("plain::case_1"), None);
        assert_eq!(line("r#try"), Some(6));
        assert_eq!(line("g::f::case_1"), None);
        assert_eq!(line("f2"), None);
    }

    #[test]
    fn an_edit_is_seen_and_nothing_else_is_parsed_again() {
        let mut sources = TestSources::default();
        let mut texts = HashMap::from([
            (PathBuf::from("lib.rs"), "mod a;".to_owned()),
            (PathBuf::from("a.rs"), TEST.to_owned()),
        ]);
        let read = |texts: &HashMap<PathBuf, String>, sources: &mut TestSources| {
            let places = sources.places(Path::new("lib.rs"), &|path| texts.get(path).cloned());
            places.find("a::t").map(|place| place.line)
        };
        assert_eq!(read(&texts, &mut sources), Some(2));
        let before = sources.outlines[Path::new("lib.rs")].outline.clone().unwrap();
        texts.insert("a.rs".into(), format!("\n\n{TEST}"));
        assert_eq!(read(&texts, &mut sources), Some(4));
        let after = sources.outlines[Path::new("lib.rs")].outline.clone().unwrap();
        assert!(Arc::ptr_eq(&before, &after));
        texts.remove(Path::new("a.rs"));
        assert_eq!(read(&texts, &mut sources), None);
    }

    /// Every test of this crate's library, against the names that its own harness knows.
    #[test]
    fn the_tests_of_this_crate_are_found_where_they_are() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/lib.rs");
        let read = |path: &Path| std::fs::read_to_string(path).ok();
        let mut sources = TestSources::default();
        let places = sources.places(&root, &read);
        for (name, place) in places.iter() {
            let text = read(&place.file).unwrap();
            let line = text.lines().nth(place.line - 1).unwrap();
            let function = name.rsplit("::").next().unwrap();
            assert!(line.contains(&format!("fn {function}(")), "{name}: {line}");
        }
        let this = std::thread::current().name().map(str::to_owned).unwrap();
        let place = places.find(&this).unwrap();
        assert_eq!(place.file, Path::new(env!("CARGO_MANIFEST_DIR")).join(file!()));
        assert!(places.iter().count() > 500);
    }
}
