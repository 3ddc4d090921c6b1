//! The graph of nodes and references, and a digest of all that each node reaches.
//!
//! A node's digest covers its content and the digests of what it refers to, in order. Nodes that
//! reach each other get their digests together: each is told apart by what it reaches in more and
//! more steps, until no further step tells more of them apart.

use std::collections::{BTreeSet, HashSet};

use super::capabilities::Capabilities;
use super::log_part::LogPart;
use super::object_code::ContentDigests;
use crate::model::{Digest, Digester};

/// A node that is referred to, and the offset in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct GraphTarget {
    pub(super) node: u32,
    pub(super) offset: u64,
    /// Whether another target of the same reference can take its place.
    pub(super) is_weak: bool,
}

impl GraphTarget {
    /// The start of `node`.
    pub(super) const fn start(node: u32) -> Self {
        Self { node, offset: 0, is_weak: false }
    }
}

/// A graph whose nodes are added one after the other, each with all its references.
#[derive(Default)]
pub(super) struct CodeGraph {
    contents: Vec<ContentDigests>,
    capabilities: Vec<Capabilities>,
    /// How each node takes part in keeping the lines of log messages.
    log_parts: Vec<LogPart>,
    /// The first reference of each node, and behind the last node the number of all.
    references: Vec<u32>,
    /// The first target of each reference, and behind the last the number of all.
    targets_of: Vec<u32>,
    targets: Vec<GraphTarget>,
}

/// A node's properties that follow from everything that it reaches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Closure {
    pub(super) digests: ContentDigests,
    pub(super) capabilities: Capabilities,
    /// A node of unknown origin that it reaches.
    pub(super) unknown: Option<u32>,
}

impl CodeGraph {
    pub(super) fn new() -> Self {
        Self { references: vec![0], targets_of: vec![0], ..Self::default() }
    }

    /// Adds a node; the references of [`Self::refer`] since the last node are its own.
    pub(super) fn node(
        &mut self,
        content: ContentDigests,
        capabilities: Capabilities,
        log_part: LogPart,
    ) {
        self.log_parts.push(log_part);
        self.contents.push(content);
        self.capabilities.push(capabilities);
        self.references.push(self.targets_of.len() as u32 - 1);
    }

    /// Adds a reference to all of `targets`: a symbol can have several definitions.
    pub(super) fn refer(&mut self, targets: impl IntoIterator<Item = GraphTarget>) {
        self.targets.extend(targets);
        self.targets_of.push(self.targets.len() as u32);
    }

    /// Everything that is reached from `roots`, by node.
    pub(super) fn close(&self, roots: impl IntoIterator<Item = u32>) -> Vec<Option<Closure>> {
        let mut search = ComponentSearch {
            graph: self,
            closed: vec![None; self.contents.len()],
            found: vec![0; self.contents.len()],
            lowest: vec![0; self.contents.len()],
            stack: Vec::new(),
            count: 0,
        };
        for root in roots {
            if search.found[root as usize] == 0 {
                search.run(root);
            }
        }
        search.closed
    }

    /// The nodes that have the capability `own` themselves and that `node` reaches. All of these are among
    /// `closed`.
    pub(super) fn reached_with(
        &self,
        own: Capabilities,
        node: u32,
        closed: &[Option<Closure>],
    ) -> BTreeSet<u32> {
        let leads = |node: &u32| {
            closed[*node as usize].is_some_and(|closure| closure.capabilities.contains(own))
        };
        let (mut found, mut seen) = (BTreeSet::new(), HashSet::from([node]));
        let mut todo: Vec<u32> = [node].into_iter().filter(leads).collect();
        while let Some(node) = todo.pop() {
            if self.capabilities[node as usize].contains(own) {
                found.insert(node);
            }
            let targets = self.targets[self.range(node)].iter().map(|target| target.node);
            todo.extend(targets.filter(|node| leads(node) && seen.insert(*node)));
        }
        found
    }

    /// The targets of all references of `node`, as places among all targets.
    fn range(&self, node: u32) -> std::ops::Range<usize> {
        let first = self.references[node as usize] as usize;
        let last = self.references[node as usize + 1] as usize;
        self.targets_of[first] as usize..self.targets_of[last] as usize
    }
}

/// Tarjan's search for strongly connected components. It closes a component after all that the
/// component reaches.
struct ComponentSearch<'a> {
    graph: &'a CodeGraph,
    closed: Vec<Option<Closure>>,
    /// When each node was found, from 1; 0 means not yet.
    found: Vec<u32>,
    lowest: Vec<u32>,
    stack: Vec<u32>,
    count: u32,
}

impl ComponentSearch<'_> {
    fn run(&mut self, root: u32) {
        let mut path = vec![self.enter(root)];
        while let Some((node, range)) = path.last_mut() {
            let node = *node;
            if let Some(at) = range.next() {
                let target = self.graph.targets[at].node;
                if self.found[target as usize] == 0 {
                    let entered = self.enter(target);
                    path.push(entered);
                } else if self.closed[target as usize].is_none() {
                    let lowest = self.found[target as usize].min(self.lowest[node as usize]);
                    self.lowest[node as usize] = lowest;
                }
                continue;
            }
            path.pop();
            if let Some((parent, _)) = path.last() {
                let lowest = self.lowest[node as usize].min(self.lowest[*parent as usize]);
                self.lowest[*parent as usize] = lowest;
            }
            if self.lowest[node as usize] == self.found[node as usize] {
                let start = self.stack.iter().rposition(|other| *other == node).unwrap_or(0);
                let members = self.stack.split_off(start);
                self.close_component(&members);
            }
        }
    }

    fn enter(&mut self, node: u32) -> (u32, std::ops::Range<usize>) {
        self.count += 1;
        self.found[node as usize] = self.count;
        self.lowest[node as usize] = self.count;
        self.stack.push(node);
        (node, self.graph.range(node))
    }

    fn close_component(&mut self, members: &[u32]) {
        let mut capabilities = Capabilities::default();
        let mut unknown = None;
        let mut cyclic = members.len() > 1;
        for node in members {
            let own = self.graph.capabilities[*node as usize];
            let stores = self.graph.log_parts[*node as usize] == LogPart::Stores;
            capabilities |= own;
            if own.contains(Capabilities::UNKNOWN_SYMBOL) {
                unknown = Some(*node);
            }
            for target in &self.graph.targets[self.graph.range(*node)] {
                match &self.closed[target.node as usize] {
                    Some(closure) => {
                        let part = self.graph.log_parts[target.node as usize];
                        capabilities |= match part {
                            LogPart::Reads if stores => {
                                closure.capabilities.without(Capabilities::LOCATIONS)
                            }
                            _ => closure.capabilities,
                        };
                        unknown = unknown.or(closure.unknown);
                    }
                    None => cyclic = true,
                }
            }
        }
        let strict = |digests: &ContentDigests| digests.strict;
        let panics_masked = |digests: &ContentDigests| digests.panics_masked;
        let masked = |digests: &ContentDigests| digests.masked;
        let strict_of = self.digests(members, cyclic, strict);
        // Without positions, as most code is, all forms are the same.
        let panics_masked_of = match self.are_alike(members, strict, panics_masked) {
            true => strict_of.clone(),
            false => self.digests(members, cyclic, panics_masked),
        };
        let masked_of = match self.are_alike(members, panics_masked, masked) {
            true => panics_masked_of.clone(),
            false => self.digests(members, cyclic, masked),
        };
        let all = members.iter().zip(strict_of).zip(panics_masked_of).zip(masked_of);
        for (((node, strict), panics_masked), masked) in all {
            let digests = ContentDigests { strict, panics_masked, masked };
            self.closed[*node as usize] = Some(Closure { digests, capabilities, unknown });
        }
    }

    /// Whether two forms of digests are the same for a component's members and all that these refer to.
    fn are_alike(
        &self,
        members: &[u32],
        one: impl Fn(&ContentDigests) -> Digest,
        other: impl Fn(&ContentDigests) -> Digest,
    ) -> bool {
        let is_alike = |digests: &ContentDigests| one(digests) == other(digests);
        members.iter().all(|node| {
            let mut targets = self.graph.targets[self.graph.range(*node)].iter();
            is_alike(&self.graph.contents[*node as usize])
                && targets.all(|target| {
                    let closed = &self.closed[target.node as usize];
                    closed.as_ref().is_none_or(|closure| is_alike(&closure.digests))
                })
        })
    }

    /// The digests of a component's members, in one form.
    fn digests(
        &self,
        members: &[u32],
        cyclic: bool,
        of: impl Fn(&ContentDigests) -> Digest,
    ) -> Vec<Digest> {
        let contents = members.iter().map(|node| of(&self.graph.contents[*node as usize]));
        let contents: Vec<_> = contents.collect();
        let mut sorted: Vec<_> = members.iter().copied().enumerate().map(|(a, b)| (b, a)).collect();
        sorted.sort_unstable();
        let step = |colours: &[Digest]| -> Vec<Digest> {
            let colour_of = |node: u32| match &self.closed[node as usize] {
                Some(closure) => of(&closure.digests),
                // Only a member of this component is found and not closed.
                None => sorted
                    .binary_search_by_key(&node, |(node, _)| *node)
                    .map_or(colours[0], |at| colours[sorted[at].1]),
            };
            let members = members.iter().zip(colours);
            members.map(|(node, colour)| self.combine(*node, colour, colour_of)).collect()
        };
        let mut colours = step(&contents);
        if !cyclic {
            return colours;
        }
        let mut different = distinct(&colours).len();
        loop {
            colours = step(&colours);
            let now = distinct(&colours).len();
            if now == different {
                break;
            }
            different = now;
        }
        let mut whole = Digester::new("reached cycle 1");
        let mut all = colours.clone();
        all.sort_unstable();
        all.iter().for_each(|colour| {
            whole.digest(colour);
        });
        let whole = whole.finish();
        let member = |colour: &Digest| {
            let mut digester = Digester::new("reached cycle's member 1");
            digester.digest(&whole).digest(colour);
            digester.finish()
        };
        colours.iter().map(member).collect()
    }

    fn combine(&self, node: u32, own: &Digest, colour_of: impl Fn(u32) -> Digest) -> Digest {
        let graph = self.graph;
        let first = graph.references[node as usize] as usize;
        let last = graph.references[node as usize + 1] as usize;
        let mut digester = Digester::new("reached node 2");
        digester.digest(own);
        for reference in first..last {
            let range =
                graph.targets_of[reference] as usize..graph.targets_of[reference + 1] as usize;
            digester.number(range.len() as u64);
            let are_several = range.len() > 1;
            for target in &graph.targets[range] {
                digester.number(target.offset).digest(&colour_of(target.node));
                // A definition that is alone is taken in any case.
                if are_several {
                    digester.number(target.is_weak.into());
                }
            }
        }
        digester.finish()
    }
}

fn distinct(colours: &[Digest]) -> Vec<Digest> {
    let mut colours = colours.to_vec();
    colours.sort_unstable();
    colours.dedup();
    colours
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// A graph by each node's content and references, each to one node.
    fn graph(nodes: &[(u8, Vec<usize>)]) -> CodeGraph {
        graph_of(nodes, |content| ContentDigests::without_positions(Digest::of(&[content])))
    }

    fn graph_of(nodes: &[(u8, Vec<usize>)], digests: impl Fn(u8) -> ContentDigests) -> CodeGraph {
        let mut graph = CodeGraph::new();
        for (content, targets) in nodes {
            for target in targets {
                graph.refer([GraphTarget::start(*target as u32)]);
            }
            let capabilities = match content {
                0 => Capabilities::FILES,
                1 => Capabilities::TIME,
                _ => Capabilities::default(),
            };
            graph.node(digests(*content), capabilities, LogPart::None);
        }
        graph
    }

    fn closures(nodes: &[(u8, Vec<usize>)]) -> Vec<Closure> {
        let all = 0..nodes.len() as u32;
        graph(nodes).close(all).into_iter().map(Option::unwrap).collect()
    }

    fn reached(nodes: &[(u8, Vec<usize>)], from: usize) -> BTreeSet<usize> {
        let (mut found, mut todo) = (BTreeSet::new(), vec![from]);
        while let Some(node) = todo.pop() {
            if found.insert(node) {
                todo.extend(&nodes[node].1);
            }
        }
        found
    }

    fn some_graph() -> impl Strategy<Value = Vec<(u8, Vec<usize>)>> {
        (1usize..12).prop_flat_map(|count| {
            prop::collection::vec((0u8..4, prop::collection::vec(0..count, 0..4)), count)
        })
    }

    proptest! {
        #[test]
        fn a_change_changes_exactly_what_reaches_it(nodes in some_graph(), at in 0usize..12) {
            prop_assume!(at < nodes.len());
            let mut changed = nodes.clone();
            changed[at].0 = 200;
            let (old, new) = (closures(&nodes), closures(&changed));
            for node in 0..nodes.len() {
                let differs = old[node].digests != new[node].digests;
                prop_assert_eq!(differs, reached(&nodes, node).contains(&at), "{}", node);
            }
        }

        /// What two forms have in common is computed once.
        #[test]
        fn each_form_of_a_digest_is_that_of_its_own_contents(nodes in some_graph()) {
            let forms = |content: u8| [content, content.min(2), content.min(1)];
            let digest = |content: u8| Digest::of(&[content]);
            let together = graph_of(&nodes, |content| {
                let [strict, panics_masked, masked] = forms(content).map(digest);
                ContentDigests { strict, panics_masked, masked }
            });
            let together = together.close(0..nodes.len() as u32);
            for form in 0..3 {
                let own = |(content, targets): &(u8, Vec<usize>)| {
                    (forms(*content)[form], targets.clone())
                };
                let alone = closures(&nodes.iter().map(own).collect::<Vec<_>>());
                for (one, other) in together.iter().zip(alone) {
                    let ContentDigests { strict, panics_masked, masked } = one.unwrap().digests;
                    let found = [strict, panics_masked, masked][form];
                    prop_assert_eq!(found, other.digests.strict);
                }
            }
        }

        #[test]
        fn numbering_does_not_matter(nodes in some_graph(), turn in 0usize..12) {
            let count = nodes.len();
            let moved = |node: usize| (node + turn) % count;
            let mut other = vec![(0, Vec::new()); count];
            for (node, (content, targets)) in nodes.iter().enumerate() {
                let targets = targets.iter().map(|target| moved(*target)).collect();
                other[moved(node)] = (*content, targets);
            }
            let (old, new) = (closures(&nodes), closures(&other));
            for node in 0..count {
                prop_assert_eq!(old[node], new[moved(node)]);
            }
        }

        /// Two nodes that look alike for as many steps as there are nodes behave alike.
        #[test]
        fn equal_digests_are_equal_behaviour(nodes in some_graph()) {
            let mut alike: Vec<usize> = nodes.iter().map(|(content, _)| (*content).into()).collect();
            for _ in 0..nodes.len() {
                let mut kinds = Vec::new();
                alike = nodes
                    .iter()
                    .zip(&alike)
                    .map(|((_, targets), own)| {
                        let targets: Vec<_> = targets.iter().map(|target| alike[*target]).collect();
                        let kind = (*own, targets);
                        kinds.iter().position(|other| *other == kind).unwrap_or_else(|| {
                            kinds.push(kind);
                            kinds.len() - 1
                        })
                    })
                    .collect();
            }
            let closures = closures(&nodes);
            for one in 0..nodes.len() {
                for other in 0..nodes.len() {
                    if closures[one].digests == closures[other].digests {
                        prop_assert_eq!(alike[one], alike[other]);
                    }
                }
            }
        }

        #[test]
        fn capabilities_are_those_of_all_that_is_reached(nodes in some_graph()) {
            for (node, closure) in closures(&nodes).iter().enumerate() {
                let reached = reached(&nodes, node);
                let has = |content| reached.iter().any(|node| nodes[*node].0 == content);
                prop_assert_eq!(closure.capabilities.contains(Capabilities::FILES), has(0));
                prop_assert_eq!(closure.capabilities.contains(Capabilities::TIME), has(1));
            }
        }

        #[test]
        fn nodes_with_a_capability_are_found_from_all_that_reach_them(nodes in some_graph()) {
            let graph = graph(&nodes);
            let closed = graph.close(0..nodes.len() as u32);
            for node in 0..nodes.len() {
                let found = graph.reached_with(Capabilities::FILES, node as u32, &closed);
                let found: BTreeSet<_> = found.into_iter().map(|node| node as usize).collect();
                let mut reached = reached(&nodes, node);
                reached.retain(|node| nodes[*node].0 == 0);
                prop_assert_eq!(found, reached, "{}", node);
            }
        }
    }

    #[test]
    fn references_have_an_order_an_offset_and_all_their_targets() {
        let look = |references: &[&[(u32, u64)]]| {
            let mut graph = graph(&[(2, Vec::new()), (3, Vec::new())]);
            for targets in references {
                let target = |(node, offset): &(u32, u64)| GraphTarget {
                    offset: *offset,
                    ..GraphTarget::start(*node)
                };
                graph.refer(targets.iter().map(target));
            }
            let digest = Digest::of(b"root");
            let content = ContentDigests::without_positions(digest);
            graph.node(content, Capabilities::default(), LogPart::None);
            graph.close([2])[2].unwrap().digests.strict
        };
        let all: [&[&[(u32, u64)]]; 6] = [
            &[&[(0, 0)], &[(1, 0)]],
            &[&[(1, 0)], &[(0, 0)]],
            &[&[(0, 0)], &[(1, 8)]],
            &[&[(0, 0), (1, 0)]],
            &[&[(0, 0)]],
            &[],
        ];
        let digests: BTreeSet<_> = all.iter().map(|references| look(references)).collect();
        assert_eq!(digests.len(), all.len());
    }

    #[test]
    fn strict_and_masked_are_apart_and_what_log_reads_itself_stays_below() {
        let look = |line: &[u8], part| {
            let mut graph = CodeGraph::new();
            let location = ContentDigests {
                masked: Digest::of(b""),
                ..ContentDigests::without_positions(Digest::of(line))
            };
            graph.node(location, Capabilities::LOCATIONS | Capabilities::TIME, part);
            graph.refer([GraphTarget::start(0)]);
            let content = ContentDigests::without_positions(Digest::of(b"f"));
            graph.node(content, Capabilities::default(), LogPart::Stores);
            graph.close([1])[1].unwrap()
        };
        let (one, other) = (look(b"1", LogPart::Reads), look(b"2", LogPart::Reads));
        assert_eq!(one.digests.masked, other.digests.masked);
        assert_ne!(one.digests.panics_masked, other.digests.panics_masked);
        assert_ne!(one.digests.strict, other.digests.strict);
        assert_eq!(one.capabilities, Capabilities::TIME);
        let logger = look(b"1", LogPart::None);
        assert_eq!(logger.capabilities, Capabilities::LOCATIONS | Capabilities::TIME);
    }

    #[test]
    fn a_long_chain_needs_no_deep_stack() {
        let count = 200_000;
        let nodes: Vec<_> = (0..count).map(|node| (2, vec![(node + 1) % count])).collect();
        let open: Vec<_> = nodes[..1000].iter().cloned().chain([(3, Vec::new())]).collect();
        assert_eq!(closures(&open).len(), 1001);
        // All alike, in one large cycle.
        let closures = graph(&nodes).close([0]);
        assert_eq!(closures[0], closures[count - 1]);
    }
}
