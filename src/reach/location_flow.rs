//! The calls that get a place in a source file, found in machine code.
//!
//! rustc hands the place of a call (`core::panic::Location`) to functions that are `#[track_caller]`, in
//! a register like any other argument. Without optimization a function loads the address of a constant
//! right before the call, and a function that hands its own caller's place on keeps it in a slot of its
//! stack. This follows both. A place that ends in any other way counts as lost: it is read, stored
//! elsewhere, returned, or handed to somebody unknown.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use iced_x86::{
    Decoder, DecoderOptions, FlowControl, Instruction, InstructionInfoFactory, Mnemonic, OpAccess,
    OpKind, Register,
};

/// The registers of a function's first parameters, in their order.
const PARAMETERS: [Register; 6] =
    [Register::RDI, Register::RSI, Register::RDX, Register::RCX, Register::R8, Register::R9];
/// A callee finds in them what its caller left there, and nobody looks.
const SCRATCH: [Register; 3] = [Register::RAX, Register::R10, Register::R11];
/// What these hold outlives a call.
const KEPT: [Register; 6] =
    [Register::RBX, Register::RBP, Register::R12, Register::R13, Register::R14, Register::R15];
/// So many places are followed at a time, beside the parameters.
const AT_A_TIME: usize = 64 - PARAMETERS.len();
/// A function in which more passes find more is given up.
const MOST_PASSES: usize = 12;

/// A reference of a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Reference {
    /// Another node of the same object.
    Node(u32),
    /// A symbol, by its place among the object's names.
    Symbol(u32),
}

/// What a relocation in a function leads to, as far as it matters here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum CodeMark {
    /// The place with this number.
    Place(u32),
    /// A function's first instruction.
    Function(Reference),
}

/// A parameter of a function that is called.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct CallParameter {
    pub(super) callee: Reference,
    /// From 0.
    pub(super) parameter: u8,
}

/// What a function does with what it gets.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct ParameterFlow {
    /// The parameters, as bits, that can end anywhere.
    pub(super) lost: u8,
    /// Those that the register of a second result holds at the end, whether there is one or not.
    pub(super) returned: u8,
    /// The parameters, from 0, that are handed on, each to one of another function.
    pub(super) handed_on: Vec<(u8, CallParameter)>,
}

/// What a function does with each place that it names, as often as it does: the parameters that get it;
/// `None` if it can end anywhere.
pub(super) type PlaceFlow = Vec<(u32, Option<Vec<CallParameter>>)>;

/// The uses of a panic location in its object.
#[derive(Debug, Default)]
pub(super) struct LocationUses {
    /// How many end anywhere, as far as known.
    pub(super) unknown: usize,
    /// The parameters that get it.
    pub(super) receivers: Vec<CallParameter>,
}

/// Follows the parameters of the function `code` and the places that it names. `marks` are by the offset
/// of their relocations.
pub(super) fn follow(code: &[u8], marks: &BTreeMap<u64, CodeMark>) -> (ParameterFlow, PlaceFlow) {
    let place = |(at, mark): (&u64, &CodeMark)| match mark {
        CodeMark::Place(place) => Some((*at, *place)),
        CodeMark::Function(_) => None,
    };
    let all: Vec<(u64, u32)> = marks.iter().filter_map(place).collect();
    let (mut parameters, mut places) = (None, PlaceFlow::new());
    for part in 0..all.len().div_ceil(AT_A_TIME).max(1) {
        let some = || all.iter().skip(part * AT_A_TIME).take(AT_A_TIME).zip(PARAMETERS.len()..);
        let labels = some().map(|((at, _), label)| (*at, label)).collect();
        let mut search = FlowSearch::new(marks, &labels);
        search.run(code);
        places.extend(some().map(|((_, place), label)| (*place, search.receivers(label))));
        parameters.get_or_insert_with(|| search.parameters());
    }
    (parameters.unwrap_or_default(), places)
}

/// What the registers hold before an instruction.
#[derive(Clone, Copy, Default, PartialEq)]
struct Registers {
    /// Followed values, as bits, by the register's number.
    labels: [u64; 16],
    /// Functions whose addresses are held.
    functions: [Option<Reference>; 16],
}

impl Registers {
    fn merge(&mut self, other: &Self) {
        for (one, other) in self.labels.iter_mut().zip(other.labels) {
            *one |= other;
        }
        for (one, other) in self.functions.iter_mut().zip(other.functions) {
            if *one != other {
                *one = None;
            }
        }
    }

    fn clear(&mut self, register: usize) {
        self.labels[register] = 0;
        self.functions[register] = None;
    }
}

struct FlowSearch<'a> {
    marks: &'a BTreeMap<u64, CodeMark>,
    /// The label of each place, by the offset of its relocation.
    labels: &'a HashMap<u64, usize>,
    factory: InstructionInfoFactory,
    /// What slots of the stack hold, by their distance from the caller's frame.
    slots: BTreeMap<i64, u64>,
    /// Slots that are loaded again: no arguments for a callee.
    loaded: BTreeSet<i64>,
    /// Reads of the stack in another way, with their sizes.
    reads: BTreeSet<(i64, i64)>,
    /// The lowest place on the stack whose address is taken.
    lowest_address: i64,
    /// The stack is used in a way that is not understood.
    is_odd: bool,
    lost: u64,
    returned: u64,
    receivers: BTreeSet<(usize, CallParameter)>,
    /// What is held where branches lead.
    joins: HashMap<u64, Registers>,
    grown: bool,
    /// How far the stack has grown.
    depth: i64,
    deepest: i64,
}

impl<'a> FlowSearch<'a> {
    fn new(marks: &'a BTreeMap<u64, CodeMark>, labels: &'a HashMap<u64, usize>) -> Self {
        Self {
            marks,
            labels,
            factory: InstructionInfoFactory::new(),
            slots: BTreeMap::new(),
            loaded: BTreeSet::new(),
            reads: BTreeSet::new(),
            lowest_address: i64::MAX,
            is_odd: false,
            lost: 0,
            returned: 0,
            receivers: BTreeSet::new(),
            joins: HashMap::new(),
            grown: false,
            depth: 0,
            deepest: 0,
        }
    }

    fn run(&mut self, code: &[u8]) {
        for _ in 0..MOST_PASSES {
            self.grown = false;
            self.pass(code);
            if !self.grown {
                return self.lose_slots();
            }
        }
        self.lost = u64::MAX;
    }

    fn receivers(&self, label: usize) -> Option<Vec<CallParameter>> {
        ((self.lost | self.returned) & 1 << label == 0).then(|| {
            let own = self.receivers.iter().filter(|(of, _)| *of == label);
            own.map(|(_, receiver)| *receiver).collect()
        })
    }

    fn parameters(&self) -> ParameterFlow {
        let of_parameters = (1_u64 << PARAMETERS.len()) - 1;
        let handed_on = self.receivers.iter().filter(|(label, _)| *label < PARAMETERS.len());
        let handed_on = handed_on.filter(|(label, _)| self.lost & 1 << label == 0);
        ParameterFlow {
            lost: (self.lost & of_parameters) as u8,
            returned: (self.returned & of_parameters) as u8,
            handed_on: handed_on.map(|(label, receiver)| (*label as u8, *receiver)).collect(),
        }
    }

    /// Goes through all instructions once.
    fn pass(&mut self, code: &[u8]) {
        let mut held = Registers::default();
        for (label, register) in PARAMETERS.iter().enumerate() {
            held.labels[register.number()] = 1 << label;
        }
        (self.depth, self.deepest) = (0, 0);
        for instruction in Decoder::new(64, code, DecoderOptions::NONE).iter() {
            if instruction.is_invalid() {
                self.lost = u64::MAX;
                return;
            }
            if let Some(joined) = self.joins.get(&instruction.ip()) {
                held.merge(joined);
            }
            match instruction.flow_control() {
                FlowControl::Next => self.step(&instruction, &mut held),
                FlowControl::ConditionalBranch => self.branch(&instruction, &held),
                FlowControl::UnconditionalBranch => {
                    self.branch(&instruction, &held);
                    self.leave(&mut held);
                }
                FlowControl::Call | FlowControl::IndirectCall => self.call(&instruction, &mut held),
                FlowControl::Return => {
                    self.lost |= held.labels[Register::RAX.number()];
                    self.returned |= held.labels[Register::RDX.number()];
                    self.leave(&mut held);
                }
                // A trap ends the program.
                FlowControl::Exception => self.leave(&mut held),
                _ => {
                    self.lose_all(&held);
                    self.leave(&mut held);
                }
            }
        }
    }

    /// What follows is reached by branches only, or while a panic unwinds: then no register holds
    /// anything, since none outlives a call.
    fn leave(&mut self, held: &mut Registers) {
        *held = Registers::default();
        self.depth = self.deepest;
    }

    fn lose_all(&mut self, held: &Registers) {
        held.labels.iter().for_each(|labels| self.lost |= labels);
    }

    /// What slots hold that others can read.
    fn lose_slots(&mut self) {
        for (slot, labels) in &self.slots {
            let is_read = self
                .reads
                .iter()
                .any(|(at, size)| *at < slot + 8 && *slot < at.saturating_add(*size));
            let is_shared = *slot >= self.lowest_address || !self.loaded.contains(slot);
            if self.is_odd || is_read || is_shared {
                self.lost |= labels;
            }
        }
    }

    fn mark(&self, instruction: &Instruction) -> Option<(u64, CodeMark)> {
        let within = instruction.ip()..instruction.next_ip();
        self.marks.range(within).next().map(|(at, mark)| (*at, *mark))
    }

    fn branch(&mut self, instruction: &Instruction, held: &Registers) {
        if self.mark(instruction).is_some() || instruction.op0_kind() != OpKind::NearBranch64 {
            // Into another function.
            return self.lose_all(held);
        }
        let target = instruction.near_branch_target();
        match self.joins.get_mut(&target) {
            Some(joined) => {
                let before = *joined;
                joined.merge(held);
                self.grown |= *joined != before;
            }
            None => {
                self.joins.insert(target, *held);
                self.grown = true;
            }
        }
    }

    fn call(&mut self, instruction: &Instruction, held: &mut Registers) {
        let mut callee = match self.mark(instruction) {
            Some((_, CodeMark::Function(function))) => Some(function),
            _ => None,
        };
        if instruction.op0_kind() == OpKind::Register {
            let register = instruction.op0_register().full_register().number();
            callee = held.functions[register];
            self.lost |= held.labels[register];
        }
        let held_labels = held.labels.into_iter().enumerate();
        for (register, labels) in held_labels.filter(|(_, labels)| *labels != 0) {
            let is = |other: &Register| other.number() == register;
            let parameter = PARAMETERS.iter().position(is);
            match (parameter, callee) {
                (Some(parameter), Some(callee)) => {
                    let receiver = CallParameter { callee, parameter: parameter as u8 };
                    let set = (0..64).filter(|label| labels & 1 << label != 0);
                    self.receivers.extend(set.map(|label| (label, receiver)));
                }
                (None, Some(_)) if SCRATCH.iter().any(is) => {}
                _ => self.lost |= labels,
            }
        }
        let before = std::mem::take(held);
        for register in KEPT {
            let register = register.number();
            held.labels[register] = before.labels[register];
            held.functions[register] = before.functions[register];
        }
    }

    /// Any other instruction.
    fn step(&mut self, instruction: &Instruction, held: &mut Registers) {
        if self.moves(instruction, held) || self.moves_stack(instruction, held) {
            return;
        }
        if let Some((at, CodeMark::Place(_))) = self.mark(instruction) {
            // Something else than the load of an address.
            self.lost |= self.labels.get(&at).map_or(0, |label| 1 << label);
        }
        if instruction.mnemonic() == Mnemonic::Lea && instruction.memory_base() == Register::RSP {
            let at = instruction.memory_displacement64().cast_signed() - self.depth;
            self.lowest_address = self.lowest_address.min(at);
        }
        // Any slot can be the one that is used then.
        self.is_odd |= instruction.memory_base() == Register::RSP
            && instruction.memory_index() != Register::None;
        // Another register leads into the stack then.
        let operands = 0..instruction.op_count();
        self.is_odd |= operands
            .filter(|operand| instruction.op_kind(*operand) == OpKind::Register)
            .any(|operand| instruction.op_register(operand).full_register() == Register::RSP);
        let info = self.factory.info(instruction);
        let memory = info.used_memory().iter();
        for used in memory.filter(|used| used.base() == Register::RSP) {
            let at = used.displacement().cast_signed() - self.depth;
            match used.access() {
                OpAccess::Write => {}
                _ => {
                    let size = i64::try_from(used.memory_size().size()).unwrap_or(i64::MAX);
                    // A size that is not known is that of all state of the processor at most.
                    self.reads.insert((at, if size == 0 { 1 << 14 } else { size }));
                }
            }
        }
        for used in info.used_registers() {
            let register = used.register().full_register();
            if !register.is_gpr() {
                continue;
            }
            let number = register.number();
            match used.access() {
                OpAccess::Write | OpAccess::CondWrite | OpAccess::None => {}
                _ => self.lost |= held.labels[number],
            }
            let is_whole = used.register().size() >= 4;
            if used.access() == OpAccess::Write && is_whole {
                held.clear(number);
            }
            if register == Register::RSP
                && !matches!(used.access(), OpAccess::Read | OpAccess::CondRead)
                || register == Register::RBP && used.access() != OpAccess::Read
            {
                // A frame that is aligned, or reached in two ways.
                self.is_odd = true;
            }
        }
    }

    /// Whether the instruction only moves a whole register, or loads an address that is known.
    fn moves(&mut self, instruction: &Instruction, held: &mut Registers) -> bool {
        let whole = |register: Register| register.is_gpr64().then(|| register.number());
        let [to, from] = [instruction.op0_kind(), instruction.op1_kind()];
        let slot = instruction.memory_base() == Register::RSP
            && instruction.memory_index() == Register::None;
        let slot = slot.then(|| instruction.memory_displacement64().cast_signed() - self.depth);
        let target = whole(instruction.op0_register()).filter(|_| to == OpKind::Register);
        match (instruction.mnemonic(), target, self.mark(instruction)) {
            (Mnemonic::Lea, Some(target), Some((at, CodeMark::Place(_)))) => {
                held.clear(target);
                held.labels[target] = self.labels.get(&at).map_or(0, |label| 1 << label);
            }
            (
                Mnemonic::Lea | Mnemonic::Mov,
                Some(target),
                Some((_, CodeMark::Function(function))),
            ) if from == OpKind::Memory => {
                held.clear(target);
                held.functions[target] = Some(function);
            }
            (Mnemonic::Mov, Some(target), None) if from == OpKind::Register => {
                let Some(source) = whole(instruction.op1_register()) else { return false };
                if [target, source].contains(&Register::RSP.number()) {
                    return false;
                }
                held.labels[target] = held.labels[source];
                held.functions[target] = held.functions[source];
            }
            (Mnemonic::Mov, Some(target), None) if from == OpKind::Memory => {
                let Some(slot) = slot else { return false };
                if target == Register::RSP.number() {
                    return false;
                }
                held.clear(target);
                held.labels[target] = self.slots.get(&slot).copied().unwrap_or_default();
                self.loaded.insert(slot);
                self.is_odd |= held.labels[target] != 0 && self.depth != self.deepest;
            }
            (Mnemonic::Mov, None, None) if to == OpKind::Memory && from == OpKind::Register => {
                let source = whole(instruction.op1_register());
                let (Some(slot), Some(source)) = (slot, source) else { return false };
                if source == Register::RSP.number() {
                    return false;
                }
                let labels = held.labels[source];
                let before = self.slots.get(&slot).copied().unwrap_or_default();
                if labels & !before != 0 {
                    self.slots.insert(slot, before | labels);
                    self.grown = true;
                }
            }
            _ => return false,
        }
        true
    }

    /// Whether the instruction only grows or shrinks the stack.
    fn moves_stack(&mut self, instruction: &Instruction, held: &mut Registers) -> bool {
        let register = instruction.op0_register();
        match instruction.mnemonic() {
            Mnemonic::Push
                if instruction.op0_kind() == OpKind::Register && register != Register::RSP =>
            {
                self.lost |= held.labels[register.full_register().number()];
                self.depth += 8;
            }
            Mnemonic::Pop if instruction.op0_kind() == OpKind::Register => {
                // A pop ends a function: its register was pushed at the start, or is dead.
                held.clear(register.full_register().number());
                self.depth -= 8;
            }
            Mnemonic::Sub | Mnemonic::Add
                if register == Register::RSP && instruction.op1_kind() != OpKind::Register =>
            {
                let Ok(by) = instruction.try_immediate(1) else { return false };
                let by = by.cast_signed();
                self.depth += if instruction.mnemonic() == Mnemonic::Sub { by } else { -by };
            }
            _ => return false,
        }
        self.deepest = self.deepest.max(self.depth);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The function that a mark leads to.
    const F: Reference = Reference::Symbol(1);
    const PLACE: &[u8] = b"\0\0\0\0 place";
    const CALLEE: &[u8] = b"\0\0\0\0 callee";
    const LEA_RDI: &[u8] = b"\x48\x8d\x3d";
    const LEA_RAX: &[u8] = b"\x48\x8d\x05";
    const CALL: &[u8] = b"\xe8";
    const LOAD_RAX: &[u8] = b"\x48\x8b\x05";
    const CALL_RAX: &[u8] = b"\xff\xd0";
    const GROW: &[u8] = b"\x48\x83\xec\x18";
    const SHRINK: &[u8] = b"\x48\x83\xc4\x18";
    const STORE_RDI: &[u8] = b"\x48\x89\x7c\x24\x08";
    const RELOAD_RDI: &[u8] = b"\x48\x8b\x7c\x24\x08";
    const RET: &[u8] = b"\xc3";

    /// What the function of these instructions does with its first parameter, and with the places that it
    /// names: the numbers of the parameters of `F` that get each.
    fn look(parts: &[&[u8]]) -> (Option<Vec<u8>>, Vec<Option<Vec<u8>>>) {
        let (mut code, mut marks) = (Vec::new(), BTreeMap::new());
        for part in parts {
            let mark = match *part {
                PLACE => Some(CodeMark::Place(7)),
                CALLEE => Some(CodeMark::Function(F)),
                _ => None,
            };
            match mark {
                Some(mark) => {
                    marks.insert(code.len() as u64, mark);
                    code.extend([0; 4]);
                }
                None => code.extend(*part),
            }
        }
        let (parameters, places) = follow(&code, &marks);
        let number = |to: &CallParameter| {
            assert_eq!(to.callee, F);
            to.parameter
        };
        let is_lost = (parameters.lost | parameters.returned) & 1 != 0;
        let first = parameters.handed_on.iter().filter(|(of, _)| *of == 0);
        let first = first.map(|(_, to)| number(to)).collect();
        let place = |(place, to): &(u32, Option<Vec<CallParameter>>)| {
            assert_eq!(*place, 7);
            to.as_ref().map(|to| to.iter().map(number).collect())
        };
        ((!is_lost).then_some(first), places.iter().map(place).collect())
    }

    fn place(parts: &[&[u8]]) -> Option<Vec<u8>> {
        let (_, places) = look(parts);
        let [place] = &places[..] else { panic!("{places:?}") };
        place.clone()
    }

    #[test]
    fn a_place_is_handed_to_the_next_call() {
        assert_eq!(place(&[LEA_RDI, PLACE, CALL, CALLEE, RET]), Some(vec![0]));
        // mov esi, 5
        let between = b"\xbe\x05\0\0\0";
        assert_eq!(place(&[LEA_RDI, PLACE, between, CALL, CALLEE, RET]), Some(vec![0]));
        // mov rsi, rdi
        let copied: &[u8] = b"\x48\x89\xfe";
        assert_eq!(place(&[LEA_RDI, PLACE, copied, CALL, CALLEE, RET]), Some(vec![0, 1]));
        // By the table of addresses.
        let parts = [LEA_RDI, PLACE, LOAD_RAX, CALLEE, CALL_RAX, RET];
        assert_eq!(place(&parts), Some(vec![0]));
        // xor edi, edi
        assert_eq!(place(&[LEA_RDI, PLACE, b"\x31\xff", CALL, CALLEE, RET]), Some(vec![]));
        let (_, both) = look(&[LEA_RDI, PLACE, CALL, CALLEE, LEA_RDI, PLACE, CALL, CALLEE, RET]);
        assert_eq!(both, [Some(vec![0]), Some(vec![0])]);
    }

    #[test]
    fn a_place_is_lost_in_any_other_way() {
        let ways: [&[&[u8]]; 12] = [
            &[LEA_RDI, PLACE, CALL_RAX, RET],
            &[LEA_RAX, PLACE, CALL_RAX, RET],
            &[LEA_RAX, PLACE, RET],
            // mov eax, [rdi+16]
            &[LEA_RDI, PLACE, b"\x8b\x47\x10", RET],
            // mov [rax], rdi
            &[LEA_RDI, PLACE, b"\x48\x89\x38", RET],
            // Nobody loads it but a callee.
            &[GROW, LEA_RDI, PLACE, STORE_RDI, CALL, CALLEE, SHRINK, RET],
            // mov rbx, rdi
            &[LEA_RDI, PLACE, b"\x48\x89\xfb", CALL, CALLEE, RET],
            // mov rax, [rip+place]: the place itself
            &[LOAD_RAX, PLACE, RET],
            // jmp rax
            &[LEA_RDI, PLACE, b"\xff\xe0"],
            // push rdi
            &[LEA_RDI, PLACE, b"\x57", RET],
            // rep movsb
            &[LEA_RDI, PLACE, b"\xf3\xa4", RET],
            // jmp callee
            &[LEA_RDI, PLACE, b"\xe9", CALLEE],
        ];
        for (at, way) in ways.iter().enumerate() {
            assert_eq!(place(way), None, "{at}");
        }
        // mov rdx, rdi: perhaps the second result
        assert_eq!(place(&[LEA_RDI, PLACE, b"\x48\x89\xfa", RET]), None);
        // What is not understood.
        assert_eq!(place(&[LEA_RDI, PLACE, CALL, CALLEE, b"\x06", RET]), None);
    }

    #[test]
    fn a_parameter_is_followed_through_the_stack() {
        let parameter = |parts: &[&[u8]]| look(parts).0;
        assert_eq!(parameter(&[RET]), Some(vec![]));
        assert_eq!(parameter(&[CALL, CALLEE, RET]), Some(vec![0]));
        let kept =
            [GROW, STORE_RDI, b"\x31\xff", CALL, CALLEE, RELOAD_RDI, CALL, CALLEE, SHRINK, RET];
        assert_eq!(parameter(&kept), Some(vec![0]));
        // Behind an early return the stack is as before it: je over `add rsp; ret`.
        let early: [&[u8]; 9] =
            [GROW, STORE_RDI, b"\x74\x05", SHRINK, RET, RELOAD_RDI, CALL, CALLEE, RET];
        assert_eq!(parameter(&early), Some(vec![0]));
        // A loop: mov rsi, rdi; call; mov rdi, [rsp+8]; jmp back
        let looped: [&[u8]; 7] =
            [GROW, STORE_RDI, b"\x48\x89\xfe", CALL, CALLEE, RELOAD_RDI, b"\xeb\xf1"];
        assert_eq!(parameter(&looped), Some(vec![0, 1]));
        // lea rax, [rsp+8]; movups xmm0, [rsp]; mov al, [rsp+8]; and rsp, -32; mov rax, rsp
        for seen in [
            &b"\x48\x8d\x44\x24\x08"[..],
            b"\x0f\x10\x04\x24",
            b"\x8a\x44\x24\x08",
            b"\x48\x83\xe4\xe0",
            b"\x48\x89\xe0",
        ] {
            let parts = [GROW, STORE_RDI, seen, RELOAD_RDI, CALL, CALLEE, SHRINK, RET];
            assert_eq!(parameter(&parts), None, "{seen:x?}");
        }
        // lea rax, [rsp+16] is the address of something else.
        let other = b"\x48\x8d\x44\x24\x10";
        let parts = [GROW, STORE_RDI, other, RELOAD_RDI, CALL, CALLEE, SHRINK, RET];
        assert_eq!(parameter(&parts), Some(vec![0]));
    }

    #[test]
    fn many_places_are_followed_in_turn() {
        let one: [&[u8]; 4] = [LEA_RDI, PLACE, CALL, CALLEE];
        let (_, places) = look(&one.repeat(3 * AT_A_TIME));
        assert_eq!(places, vec![Some(vec![0]); 3 * AT_A_TIME]);
    }
}
