//! The graph of what takes what from which file, and its cycles.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use super::source::{Import, Item, Kind, Library, Segments, imports};

/// Files that need each other, and the imports that tie them.
pub(super) struct Cycle {
    pub(super) files: BTreeSet<PathBuf>,
    pub(super) ties: Vec<String>,
}

/// The cycles between files. A facade may use its children: such an import alone is no tie.
pub(super) fn between_files(library: &Library) -> Vec<Cycle> {
    let mut edges: BTreeMap<Node, BTreeSet<Node>> = BTreeMap::new();
    for Tie { from, to, through } in ties(library) {
        let from = library.modules[from.0].file;
        let to = library.modules[to.0].file;
        let path = |file: usize| library.files[file].with_extension("");
        let others = through.into_iter().filter(|file| !path(from).starts_with(path(*file)));
        for other in others.chain([to]) {
            let is_facade = path(other).starts_with(path(from));
            if !is_facade && library.files[from] != Path::new("lib.rs") {
                edges.entry((from, None)).or_default().insert((other, None));
            }
        }
    }
    cycles(library, &edges)
}

/// The cycles between a facade's items and its children: a child may use a type of its facade, but
/// none that the facade builds from the child.
pub(super) fn with_facades(library: &Library) -> Vec<Cycle> {
    let mut facades = BTreeSet::new();
    for module in &library.modules {
        let parent = module.parent.map(|parent| library.modules[parent].file);
        facades.extend(parent.filter(|parent| *parent != module.file));
    }
    let node = |(module, item): Place| {
        let module = &library.modules[module];
        let item = item.map(|item| [&module.path[..], &[item]].concat().join("::"));
        (module.file, item.filter(|_| facades.contains(&module.file)))
    };
    let mut edges: BTreeMap<Node, BTreeSet<Node>> = BTreeMap::new();
    for Tie { from, to, .. } in ties(library) {
        let (from, to) = (node(from), node(to));
        // A facade's own `use` is followed where one of its items needs it.
        let is_whole = |node: &Node| node.1.is_none() && facades.contains(&node.0);
        if !is_whole(&from) && !is_whole(&to) {
            edges.entry(from).or_default().insert(to);
        }
    }
    cycles(library, &edges)
}

/// A file, or an item in it.
type Node = (usize, Option<String>);

/// A module, and an item in it unless the module as a whole is meant.
type Place = (usize, Option<String>);

/// One import.
struct Tie {
    from: Place,
    to: Place,
    /// The files that hand the name on.
    through: BTreeSet<usize>,
}

fn cycles(library: &Library, edges: &BTreeMap<Node, BTreeSet<Node>>) -> Vec<Cycle> {
    let nodes: Vec<&Node> = edges.keys().collect();
    let number: BTreeMap<&Node, usize> = nodes.iter().enumerate().map(|(at, n)| (*n, at)).collect();
    // A node without imports is part of no cycle.
    let next: Vec<Vec<usize>> = nodes
        .iter()
        .map(|node| edges[*node].iter().filter_map(|to| number.get(to).copied()).collect())
        .collect();
    let reach: Vec<Vec<bool>> = (0..nodes.len()).map(|from| reached(from, &next)).collect();
    let name = |(file, item): &Node| {
        let file = library.files[*file].display();
        item.as_ref().map_or_else(|| file.to_string(), |item| format!("{file} ({item})"))
    };
    let mut found = Vec::new();
    for (node, reaches) in reach.iter().enumerate() {
        let tied: BTreeSet<usize> =
            (0..nodes.len()).filter(|other| reaches[*other] && reach[*other][node]).collect();
        let files: BTreeSet<usize> = tied.iter().map(|at| nodes[*at].0).collect();
        // Each cycle once, at its first node.
        if files.len() < 2 || tied.first() != Some(&node) {
            continue;
        }
        let mut ties = Vec::new();
        for from in &tied {
            let inside = next[*from].iter().filter(|to| tied.contains(to));
            let inside = inside.filter(|to| nodes[**to].0 != nodes[*from].0);
            ties.extend(
                inside.map(|to| format!("{} uses {}", name(nodes[*from]), name(nodes[*to]))),
            );
        }
        let files = files.into_iter().map(|file| library.files[file].clone()).collect();
        found.push(Cycle { files, ties });
    }
    found
}

fn reached(from: usize, next: &[Vec<usize>]) -> Vec<bool> {
    let mut reached = vec![false; next.len()];
    let mut todo = vec![from];
    while let Some(node) = todo.pop() {
        for to in &next[node] {
            if !std::mem::replace(&mut reached[*to], true) {
                todo.push(*to);
            }
        }
    }
    reached
}

/// Everything that one place of the library takes from another.
fn ties(library: &Library) -> Vec<Tie> {
    let methods = distant_methods(library);
    let mut found = Vec::new();
    let mut add = |from: &Place, (to, through): (Place, BTreeSet<usize>)| {
        found.push(Tie { from: from.clone(), to, through });
    };
    for (at, module) in library.modules.iter().enumerate() {
        for item in &module.items {
            let from = (at, Some(item.name.clone()));
            taken_by(library, at, item).into_iter().for_each(|taken| add(&from, taken));
            let home = (item.kind == Kind::Impl).then(|| library.home(at, &item.name)).flatten();
            for name in called_on_self(&item.tokens) {
                let method = home.clone().and_then(|home| methods.get(&(home, name.clone())));
                method.into_iter().for_each(|to| add(&from, (to.clone(), BTreeSet::new())));
            }
        }
        for import in &module.imports {
            let taken = library.resolve(at, &import.path);
            taken.into_iter().for_each(|taken| add(&(at, None), taken));
        }
    }
    found
}

/// The methods that stand in another file than their type, by type and name.
fn distant_methods(library: &Library) -> BTreeMap<(Place, String), Place> {
    let mut found = BTreeMap::new();
    for (at, module) in library.modules.iter().enumerate() {
        for item in module.items.iter().filter(|item| item.kind == Kind::Impl) {
            let Some(home) = library.home(at, &item.name) else { continue };
            if library.modules[home.0].file != module.file {
                for pair in item.tokens.windows(2).filter(|pair| pair[0] == "fn") {
                    let place = (at, Some(item.name.clone()));
                    found.insert((home.clone(), pair[1].clone()), place);
                }
            }
        }
    }
    found
}

fn called_on_self(tokens: &[String]) -> impl Iterator<Item = &String> {
    let calls = tokens.windows(4).filter(|four| four[0] == "self" && four[1] == ".");
    calls.filter(|four| four[3] == "(").map(|four| &four[2])
}

/// What the paths in an item lead to.
fn taken_by(library: &Library, module: usize, item: &Item) -> Vec<(Place, BTreeSet<usize>)> {
    let mut local: BTreeMap<String, Segments> = BTreeMap::new();
    let tokens = &item.tokens;
    let mut taken = Vec::new();
    let mut at = 0;
    while at < tokens.len() {
        if tokens[at] == "use" {
            let end = at + tokens[at..].iter().position(|token| token == ";").unwrap();
            for import in imports(&tokens[at + 1..end]) {
                taken.extend(library.resolve(module, &import.path));
                local.insert(import.name, import.path);
            }
            at = end;
        } else if is_name(&tokens[at]) && (at == 0 || tokens[at - 1] != ".") {
            let mut path = vec![tokens[at].clone()];
            while at + 2 < tokens.len() && tokens[at + 1] == "::" && is_name(&tokens[at + 2]) {
                path.push(tokens[at + 2].clone());
                at += 2;
            }
            if path.len() > 1 || may_be_item(tokens, at) {
                if let Some(before) = local.get(&path[0]) {
                    path = [&before[..], &path[1..]].concat();
                }
                taken.extend(library.resolve(module, &path));
            }
        }
        at += 1;
    }
    taken
}

fn is_name(token: &str) -> bool {
    token.starts_with(|c: char| c.is_alphabetic() || c == '_') && token != "_"
}

/// Whether a name alone can be an item: neither a variable nor a parameter nor a field.
fn may_be_item(tokens: &[String], at: usize) -> bool {
    let name = &tokens[at];
    let after = tokens.get(at + 1).map_or("", String::as_str);
    if name.starts_with(char::is_uppercase) || after == "(" {
        return true;
    }
    let before = if at == 0 { "" } else { &tokens[at - 1] };
    let is_bound = tokens.windows(2).any(|pair| {
        (&pair[1] == name && ["let", "mut", "ref", "|"].contains(&pair[0].as_str()))
            || (&pair[0] == name && [":", "|", "@"].contains(&pair[1].as_str()))
    });
    ["(", ","].contains(&before) && [")", ","].contains(&after) && !is_bound
}

impl Library {
    /// Where a type is declared that a module names.
    fn home(&self, module: usize, name: &str) -> Option<Place> {
        self.resolve(module, &[name.to_owned()]).map(|(place, _)| place)
    }

    /// Follows a path from a module, and notes the files whose `use` it goes through. Nothing for
    /// other crates, variables and fields.
    fn resolve(&self, module: usize, path: &[String]) -> Option<(Place, BTreeSet<usize>)> {
        let mut through = BTreeSet::new();
        let place = self.follow(module, path, 0, &mut through)?;
        through.remove(&self.modules[module].file);
        through.remove(&self.modules[place.0].file);
        Some((place, through))
    }

    fn follow(
        &self,
        module: usize,
        path: &[String],
        depth: u32,
        through: &mut BTreeSet<usize>,
    ) -> Option<Place> {
        let this = &self.modules[module];
        let Some((first, rest)) = path.split_first() else { return Some((module, None)) };
        let start = match first.as_str() {
            "crate" | "knhk_test_cache" => Some(0),
            "self" => Some(module),
            "super" => Some(this.parent?),
            _ => None,
        };
        if let Some(start) = start {
            return self.follow(start, rest, depth, through);
        }
        // A glob may lead back to where it is.
        if depth > 12 {
            return None;
        }
        let child = this.children.get(first).copied();
        if let Some(child) = child.filter(|_| !rest.is_empty()) {
            let found = self.follow(child, rest, depth + 1, through);
            if found.is_some() {
                return found;
            }
        }
        if this.items.iter().any(|item| item.name == *first && item.kind != Kind::Impl) {
            return Some((module, Some(first.clone())));
        }
        let mut by_import = |import: &Import| {
            let whole = match import.name.as_str() {
                "*" => [&import.path[..import.path.len() - 1], path].concat(),
                name if name == first => [&import.path[..], rest].concat(),
                _ => return None,
            };
            let found = self.follow(module, &whole, depth + 1, through)?;
            through.insert(this.file);
            Some(found)
        };
        this.imports.iter().find_map(&mut by_import).or(child.map(|child| (child, None)))
    }
}
