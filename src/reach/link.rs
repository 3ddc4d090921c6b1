//! The objects of one program as one graph, with each symbol led to its definitions.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use super::capabilities::{self, Capabilities};
use super::graph::{Closure, CodeGraph, GraphTarget};
use super::location_flow::{CallParameter, Reference};
use super::object_code::{ContentDigests, ObjectCode};
use super::object_files::Sysroot;
use super::panicking::only_panics;
use super::program::{ProgramTables, SymbolOrigin};
use crate::model::{Digest, Digester};

/// A program's objects as a graph.
pub(super) struct LinkedGraph<'a> {
    objects: &'a [Arc<ObjectCode>],
    graph: CodeGraph,
    /// The first node of each object.
    starts: Vec<u32>,
    definitions: HashMap<&'a str, Vec<GraphTarget>>,
    /// Symbols that no known object defines; their nodes come after all others.
    leaves: Vec<&'a str>,
}

impl<'a> LinkedGraph<'a> {
    pub(super) fn new(
        objects: &'a [Arc<ObjectCode>],
        program: &ProgramTables,
        sysroot: &Sysroot,
    ) -> Self {
        let mut starts = Vec::with_capacity(objects.len());
        let mut definitions: HashMap<&str, Vec<GraphTarget>> = HashMap::new();
        let mut enclosed: HashMap<&str, Vec<GraphTarget>> = HashMap::new();
        let mut count = 0;
        for object in objects {
            starts.push(count);
            for definition in &object.definitions {
                let target =
                    GraphTarget { node: count + definition.node, offset: definition.offset };
                definitions
                    .entry(&object.names[definition.name as usize])
                    .or_default()
                    .push(target);
            }
            for (name, node) in &object.enclosed {
                let target = GraphTarget { node: count + node, offset: 0 };
                enclosed.entry(name).or_default().push(target);
            }
            count += object.nodes.len() as u32;
        }
        let mut this =
            Self { objects, graph: CodeGraph::new(), starts, definitions, leaves: Vec::new() };
        let panics = this.panic_locations(sysroot);
        let mut leaf_of: HashMap<&str, u32> = HashMap::new();
        for (object, start) in objects.iter().zip(&this.starts) {
            for (node, number) in object.nodes.iter().zip(*start..) {
                for reference in &node.references {
                    match reference {
                        Reference::Node(node) => {
                            this.graph.refer([GraphTarget { node: start + node, offset: 0 }]);
                        }
                        Reference::Symbol(name) => {
                            let name: &str = &object.names[*name as usize];
                            if let Some(targets) = this.definitions.get(name) {
                                this.graph.refer(targets.iter().copied());
                            } else {
                                let leaf = *leaf_of.entry(name).or_insert_with(|| {
                                    this.leaves.push(name);
                                    count + this.leaves.len() as u32 - 1
                                });
                                this.graph.refer([GraphTarget { node: leaf, offset: 0 }]);
                            }
                        }
                    }
                }
                let ContentDigests { strict, masked, .. } = node.content;
                let panics_masked = if panics.contains(&number) { masked } else { strict };
                let content = ContentDigests { strict, panics_masked, masked };
                this.graph.node(content, node.capabilities, node.hidden);
            }
        }
        for name in &this.leaves {
            let mut digester = Digester::new("reached symbol 1");
            digester.field(name.as_bytes());
            let digest = digester.finish();
            let section = name.strip_prefix("__start_").or_else(|| name.strip_prefix("__stop_"));
            let capabilities = match section.and_then(|section| enclosed.get(section)) {
                Some(targets) => {
                    this.graph.refer(targets.iter().copied());
                    Capabilities::default()
                }
                None => of_leaf(name, program, sysroot),
            };
            let content = ContentDigests::without_positions(digest);
            this.graph.node(content, capabilities, Capabilities::default());
        }
        this
    }

    /// The panic locations that nothing but a panic tells: every function that gets one only hands it on,
    /// at last to functions of the standard library that panic with it. The position of a test, which
    /// only the harness knows, is one of them.
    fn panic_locations(&self, sysroot: &Sysroot) -> HashSet<u32> {
        let all = self.objects.iter().zip(&self.starts);
        let count = all.clone().map(|(object, _)| object.nodes.len()).sum();
        // The parameters of each function, as bits, that end elsewhere.
        let mut lost = vec![u8::MAX; count];
        let mut handed_on: Vec<([usize; 2], [u8; 2])> = Vec::new();
        // Many calls lead to the same few functions, and a name takes long to read.
        let mut known: HashMap<&str, bool> = HashMap::new();
        let mut receivers = |object: &'a ObjectCode, start: u32, callee: Reference| match callee {
            Reference::Node(node) => Some(vec![start + node]),
            Reference::Symbol(name) => {
                let name: &str = &object.names[name as usize];
                match self.definitions.get(name) {
                    Some(all) if all.iter().all(|one| one.offset == 0) => {
                        Some(all.iter().map(|one| one.node).collect())
                    }
                    Some(_) => None,
                    None => {
                        let panics = || sysroot.symbols.contains(name) && only_panics(name);
                        known.entry(name).or_insert_with(panics).then(Vec::new)
                    }
                }
            }
        };
        for (object, start) in all.clone() {
            for (node, number) in object.nodes.iter().zip(*start..) {
                let Some(flow) = &node.parameters else { continue };
                let number = number as usize;
                lost[number] = flow.lost;
                for (parameter, CallParameter { callee, parameter: to }) in &flow.handed_on {
                    match receivers(object, *start, *callee) {
                        Some(all) => handed_on.extend(
                            all.iter().map(|one| ([number, *one as usize], [*parameter, *to])),
                        ),
                        None => lost[number] |= 1 << parameter,
                    }
                }
            }
        }
        let mut is_grown = true;
        while is_grown {
            is_grown = false;
            for ([from, to], [parameter, of]) in &handed_on {
                if lost[*to] & 1 << of != 0 && lost[*from] & 1 << parameter == 0 {
                    lost[*from] |= 1 << parameter;
                    is_grown = true;
                }
            }
        }
        let mut panics = HashSet::new();
        for (object, start) in all {
            let mut only_panics = |uses: &[CallParameter]| {
                uses.iter().all(|CallParameter { callee, parameter }| {
                    receivers(object, *start, *callee).is_some_and(|all| {
                        all.iter().all(|one| lost[*one as usize] & 1 << parameter == 0)
                    })
                })
            };
            for (node, uses) in &object.handed_on {
                if only_panics(uses) {
                    panics.insert(start + node);
                }
            }
            panics.extend(object.tests.iter().flatten().map(|test| start + test.node));
        }
        panics
    }

    /// Closes all that `entries` and the nodes that always count reach.
    pub(super) fn close(
        &self,
        program: &ProgramTables,
        sysroot: &Sysroot,
        entries: impl IntoIterator<Item = u32>,
    ) -> Closures<'_> {
        let roots = self.roots(program, sysroot);
        let closures = self.graph.close(roots.iter().copied().chain(entries));
        let mut loaded = Digester::new("loaded with the program 1");
        for list in [&program.libraries, &program.library_folders, &program.loading] {
            loaded.number(list.len() as u64);
            list.iter().for_each(|name| {
                loaded.field(name.as_bytes());
            });
        }
        let variables_of =
            |root: &u32| self.graph.reached_with(Capabilities::STATE, *root, &closures);
        let variables = roots.iter().flat_map(variables_of).collect();
        Closures { linked: self, always: roots, variables, loaded: loaded.finish(), closures }
    }

    /// The nodes that `symbol` is defined by.
    pub(super) fn defined(&self, symbol: &str) -> Option<&[GraphTarget]> {
        self.definitions.get(symbol).map(Vec::as_slice)
    }

    /// Every test that the objects hand to the harness, with its node; `None` if none does.
    pub(super) fn tests(&self) -> Option<Vec<(&str, u32)>> {
        let mut tests = None;
        for (object, start) in self.objects.iter().zip(&self.starts) {
            if let Some(found) = &object.tests {
                let found = found.iter().map(|test| (test.name.as_str(), start + test.node));
                tests.get_or_insert_with(Vec::new).extend(found);
            }
        }
        tests
    }

    /// Nodes that run, or that a library can call, whichever test runs: in link order.
    ///
    /// These are constructors and destructors, retained sections, the allocator, and every symbol
    /// that the sysroot or a shared library has or wants under the same name.
    fn roots(&self, program: &ProgramTables, sysroot: &Sysroot) -> Vec<u32> {
        let mut roots = Vec::new();
        for (object, start) in self.objects.iter().zip(&self.starts) {
            roots.extend(object.roots.iter().map(|node| start + node));
            for definition in &object.definitions {
                let name: &str = &object.names[definition.name as usize];
                // `main` calls all tests; generic code is in the sysroot and here alike.
                let called = program.exported.contains(name)
                    || sysroot.symbols.contains(name) && !is_rust(name);
                // A linker that is told to wrap a symbol calls this one instead.
                let wraps = name.starts_with("__wrap_");
                if wraps || name.contains("7___rustc") || called && name != "main" {
                    roots.push(start + definition.node);
                }
            }
        }
        roots
    }
}

/// The closures of all nodes that were reached.
pub(super) struct Closures<'a> {
    linked: &'a LinkedGraph<'a>,
    always: Vec<u32>,
    /// The variables that these reach, by their nodes.
    variables: BTreeSet<u32>,
    /// Digest of which shared libraries are loaded with the program, in order.
    loaded: Digest,
    closures: Vec<Option<Closure>>,
}

/// All that one entry reaches, with what always counts.
pub(super) struct ReachedAll {
    pub(super) strict: Digest,
    pub(super) panics_masked: Digest,
    pub(super) masked: Digest,
    pub(super) capabilities: Capabilities,
    /// The variables, by their nodes.
    pub(super) variables: BTreeSet<u32>,
    /// A symbol of unknown origin.
    pub(super) unknown: Option<String>,
}

impl Closures<'_> {
    /// Everything that the node `entry` reaches.
    pub(super) fn of(&self, entry: u32) -> ReachedAll {
        let mut strict = Digester::new("reached by an entry 3");
        strict.digest(&self.loaded);
        let (mut panics_masked, mut masked) = (strict.clone(), strict.clone());
        let mut capabilities = Capabilities::default();
        let graph = &self.linked.graph;
        let mut variables = graph.reached_with(Capabilities::STATE, entry, &self.closures);
        variables.extend(&self.variables);
        let mut unknown = None;
        let all = std::iter::once(entry).chain(self.always.iter().copied());
        // Every entry and every root was closed.
        for node in all {
            let Some(closure) = self.closures[node as usize] else { continue };
            strict.digest(&closure.digests.strict);
            panics_masked.digest(&closure.digests.panics_masked);
            masked.digest(&closure.digests.masked);
            capabilities |= closure.capabilities;
            unknown = unknown.or(closure.unknown);
        }
        let first_leaf = self.closures.len() - self.linked.leaves.len();
        let name = |node: u32| self.linked.leaves[node as usize - first_leaf].to_owned();
        ReachedAll {
            strict: strict.finish(),
            panics_masked: panics_masked.finish(),
            masked: masked.finish(),
            capabilities,
            variables,
            unknown: unknown.map(name),
        }
    }
}

/// Whether rustc has made up the name.
fn is_rust(name: &str) -> bool {
    name.starts_with("_R") || name.starts_with("_ZN")
}

/// Capabilities that a symbol gives that no known object defines.
fn of_leaf(name: &str, program: &ProgramTables, sysroot: &Sysroot) -> Capabilities {
    if name.contains("7___rustc") {
        return Capabilities::default();
    }
    if sysroot.symbols.contains(name) {
        // Helpers of the compiler have such names too.
        let helper = name.starts_with("__") || name.starts_with("rust_");
        return match is_rust(name) {
            true => capabilities::of_std(name),
            false if helper => Capabilities::default(),
            false => capabilities::of_library(name),
        };
    }
    let linker = name.starts_with("__start_") || name.starts_with("__stop_");
    match program.origins.get(name) {
        Some(SymbolOrigin::Library) => capabilities::of_library(name),
        Some(SymbolOrigin::Linked) if linker => Capabilities::default(),
        Some(SymbolOrigin::Linked) if capabilities::is_pure(name) => capabilities::of_library(name),
        // A weak symbol that nothing defines is absent, and so is one that the linker has
        // replaced.
        None if capabilities::is_pure(name) => capabilities::of_library(name),
        _ => Capabilities::UNKNOWN_SYMBOL | Capabilities::PROCESS_WIDE,
    }
}
