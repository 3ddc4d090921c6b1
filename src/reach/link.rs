//! The objects of one program as one graph, with each symbol led to its definitions.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use super::capabilities::{self, Capabilities};
use super::graph::{Closure, CodeGraph, GraphTarget};
use super::location_flow::{CallParameter, Reference};
use super::log_part::{LogPart, is_place_of_log};
use super::object_code::{ContentDigests, ObjectCode, SymbolDefinition};
use super::panicking::only_panics;
use super::program::{ProgramTables, SymbolOrigin};
use super::sysroot::{Sysroot, is_rust};
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

/// The locations of which it is known who gets them, by their nodes.
#[derive(Default)]
struct KnownLocations {
    /// Those that nothing but a panic tells.
    panics: HashSet<u32>,
    /// The same, and those that are stored with messages of the crate `log`.
    panics_and_logs: HashSet<u32>,
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
                let SymbolDefinition { node, offset, is_weak, .. } = *definition;
                let target = GraphTarget { node: count + node, offset, is_weak };
                definitions
                    .entry(&object.names[definition.name as usize])
                    .or_default()
                    .push(target);
            }
            for (name, node) in &object.enclosed {
                enclosed.entry(name).or_default().push(GraphTarget::start(count + node));
            }
            count += object.nodes.len() as u32;
        }
        let mut this =
            Self { objects, graph: CodeGraph::new(), starts, definitions, leaves: Vec::new() };
        let locations = this.locations(sysroot);
        let mut leaf_of: HashMap<&str, u32> = HashMap::new();
        for (object, start) in objects.iter().zip(&this.starts) {
            for (node, number) in object.nodes.iter().zip(*start..) {
                for reference in &node.references {
                    match reference {
                        Reference::Node(node) => {
                            this.graph.refer([GraphTarget::start(start + node)]);
                        }
                        Reference::Symbol(name) => {
                            let name: &str = &object.names[*name as usize];
                            if let Some(targets) = this.definitions.get(name) {
                                this.graph.refer(targets.iter().copied());
                            } else {
                                let is_for_random = name == LOOKUP && object.is_of("getrandom");
                                let name = if is_for_random { LOOKUP_OF_GETRANDOM } else { name };
                                let leaf = *leaf_of.entry(name).or_insert_with(|| {
                                    this.leaves.push(name);
                                    count + this.leaves.len() as u32 - 1
                                });
                                this.graph.refer([GraphTarget::start(leaf)]);
                            }
                        }
                    }
                }
                let ContentDigests { strict, masked, .. } = node.content;
                let masked_in = |set: &HashSet<u32>| {
                    if set.contains(&number) { masked } else { strict }
                };
                let content = ContentDigests {
                    strict,
                    panics_masked: masked_in(&locations.panics),
                    masked: masked_in(&locations.panics_and_logs),
                };
                this.graph.node(content, node.capabilities, node.log_part);
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
            this.graph.node(content, capabilities, LogPart::of(name));
        }
        this
    }

    /// The locations that no code of the program reads by itself: every function that gets one only hands
    /// it on, at last to functions of the standard library that panic with it, or to that of the crate `log`
    /// which gets nothing else. A constant of the program's own can have the very form of a location, and
    /// is none of them. The position of a test, which only the harness knows, is one.
    fn locations(&self, sysroot: &Sysroot) -> KnownLocations {
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
                        let panics = || sysroot.symbols.contains_key(name) && only_panics(name);
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
        let mut found = KnownLocations::default();
        for (object, start) in all {
            let mut only_panics = |CallParameter { callee, parameter }: &CallParameter| {
                receivers(object, *start, *callee).is_some_and(|all| {
                    all.iter().all(|one| lost[*one as usize] & 1 << parameter == 0)
                })
            };
            let logs = |given: &CallParameter| match given.callee {
                Reference::Symbol(name) => is_place_of_log(&object.names[name as usize]),
                Reference::Node(_) => false,
            };
            for (node, uses) in &object.handed_on {
                if uses.iter().filter(|given| !logs(given)).all(&mut only_panics) {
                    found.panics_and_logs.insert(start + node);
                    if !uses.iter().any(logs) {
                        found.panics.insert(start + node);
                    }
                }
            }
            for test in object.tests.iter().flatten() {
                found.panics.insert(start + test.node);
                found.panics_and_logs.insert(start + test.node);
            }
        }
        found
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
                    || sysroot.symbols.contains_key(name) && !is_rust(name);
                if name.contains("7___rustc") || called && name != "main" {
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
        let mut strict = Digester::new("reached by an entry 4");
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

/// The C library's look-up of a function by its name.
const LOOKUP: &str = "dlsym";
/// What stands for it in the crate `getrandom`, which looks up nothing but `getrandom` of the C library
/// (that is so in all of its versions from 0.1 to 0.4).
const LOOKUP_OF_GETRANDOM: &str = "dlsym for getrandom";

/// Symbols that the linker makes, or that the C compiler's own objects define, which every program has.
const OF_LINKER: [&str; 5] =
    ["__dso_handle", "_GLOBAL_OFFSET_TABLE_", "__stack_chk_fail_local", "atexit", "pthread_atfork"];
/// Symbols that the C compiler's own objects look for, and that nothing defines as a rule.
const WANTED: [&str; 3] =
    ["__gmon_start__", "_ITM_deregisterTMCloneTable", "_ITM_registerTMCloneTable"];

/// Capabilities that a symbol gives that no known object defines.
fn of_leaf(name: &str, program: &ProgramTables, sysroot: &Sysroot) -> Capabilities {
    if name.contains("7___rustc") {
        return Capabilities::default();
    }
    if name == LOOKUP_OF_GETRANDOM {
        return match program.origins.get(LOOKUP) {
            Some(SymbolOrigin::System) => capabilities::of_library("getrandom"),
            _ => of_leaf(LOOKUP, program, sysroot),
        };
    }
    let units = sysroot.symbols.get(name);
    let of_known = || match units {
        None => capabilities::of_library(name),
        Some(_) if is_rust(name) => capabilities::of_std(name),
        // Helpers of the compiler have such names too.
        Some(_) if name.starts_with("__") || name.starts_with("rust_") => Capabilities::default(),
        Some(_) => capabilities::of_library(name),
    };
    // Assembler leaves no name of a file in the program, so another definition can stand there.
    let is_of_sysroot = || {
        units.is_some_and(|units| {
            is_rust(name)
                || units.iter().any(|unit| program.objects.iter().any(|one| **one == **unit))
        })
    };
    let is_bound = name.starts_with("__start_") || name.starts_with("__stop_");
    match program.origins.get(name) {
        Some(SymbolOrigin::System) => of_known(),
        Some(SymbolOrigin::Library) if WANTED.contains(&name) => of_known(),
        Some(SymbolOrigin::Library) => capabilities::of_other_library(name),
        Some(SymbolOrigin::Linked) if is_bound => Capabilities::default(),
        Some(SymbolOrigin::Linked) if is_of_sysroot() || OF_LINKER.contains(&name) => of_known(),
        // A weak symbol that nothing defines is absent, and so is one that the linker has
        // replaced.
        None if units.is_some() || capabilities::is_pure(name) => of_known(),
        _ => Capabilities::UNKNOWN_SYMBOL | Capabilities::PROCESS_WIDE,
    }
}
