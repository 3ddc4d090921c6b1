//! The records of a bundle with what they have in common written once: most runs of a project consult
//! the same libraries and are asked for the same variables.
//!
//! A list or an object that occurs several times is a part. `{"": 7}` stands for the eighth part; in a
//! list, `{"": [7, 9]}` stands for three in a row. A part may hold earlier ones. A value is put together
//! when it is read, so that a record costs nothing until it is asked for.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use serde::de::{DeserializeOwned, Error as _};
use serde_json::{Error, Map, Value};

/// A shorter text is written again: a reference would not be shorter.
const SHORTEST_PART: usize = 24;

/// How many values all records together may have: a small object must not become a huge one.
const MAX_VALUES: usize = 1 << 21;

/// A text counts as one more value for each so many bytes.
const BYTES_OF_A_VALUE: usize = 64;

/// How deep a record may go: parts in parts must not exhaust the stack.
const MAX_DEPTH: usize = 128;

/// The key of a reference, which no object of a record has.
const REFERENCE: &str = "";

/// Values that refer to parts.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Packed {
    /// The parts.
    pub(super) parts: Vec<Value>,
    /// The values.
    pub(super) values: Vec<Value>,
}

/// Why a value is not whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
enum BadPacking {
    /// It refers to what there is not.
    #[error("it refers to a part that it does not have")]
    NoSuchPart,
    /// It would be too much.
    #[error("it has more than {MAX_VALUES} values")]
    TooMuch,
    /// It would go too deep.
    #[error("it has values more than {MAX_DEPTH} deep in one another")]
    TooDeep,
}

/// Writes what occurs several times once.
pub(super) fn pack(values: &[Value]) -> Packed {
    let mut packer = Packer::default();
    let numbers: Vec<usize> = values.iter().map(|value| packer.number(value)).collect();
    // What is inside is counted where it is met first.
    numbers.iter().for_each(|number| packer.known[*number].occurrences += 1);
    let values = numbers.into_iter().map(|number| packer.pack(number)).collect();
    Packed { parts: packer.parts, values }
}

/// All values, each once.
#[derive(Default)]
struct Packer<'v> {
    numbers: HashMap<Shape<'v>, usize>,
    known: Vec<KnownValue<'v>>,
    parts: Vec<Value>,
}

/// What makes two values equal: those inside them by their numbers.
#[derive(PartialEq, Eq, Hash)]
enum Shape<'v> {
    Plain(&'v Value),
    Items(Vec<usize>),
    Fields(Vec<(&'v str, usize)>),
}

/// A value that was met.
struct KnownValue<'v> {
    value: &'v Value,
    /// The values inside it.
    inner: Vec<usize>,
    /// The length of its text, more or less.
    length: usize,
    occurrences: usize,
    /// Which part it is.
    part: Option<usize>,
}

impl<'v> Packer<'v> {
    /// The number of a value, which equal ones have too.
    fn number(&mut self, value: &'v Value) -> usize {
        let (shape, inner): (_, Vec<usize>) = match value {
            Value::Array(items) => {
                let inner: Vec<usize> = items.iter().map(|item| self.number(item)).collect();
                (Shape::Items(inner.clone()), inner)
            }
            Value::Object(map) => {
                let inner: Vec<usize> = map.values().map(|item| self.number(item)).collect();
                let names = map.keys().map(String::as_str);
                (Shape::Fields(names.zip(inner.iter().copied()).collect()), inner)
            }
            plain => (Shape::Plain(plain), Vec::new()),
        };
        if let Some(number) = self.numbers.get(&shape) {
            return *number;
        }
        let own = match (&shape, value) {
            (Shape::Fields(fields), _) => fields.iter().map(|(name, _)| name.len() + 4).sum(),
            (_, Value::String(text)) => text.len() + 2,
            _ => inner.len() + 2,
        };
        let length = inner.iter().map(|number| self.known[*number].length).sum::<usize>() + own;
        inner.iter().for_each(|number| self.known[*number].occurrences += 1);
        let number = self.known.len();
        self.known.push(KnownValue { value, inner, length, occurrences: 0, part: None });
        self.numbers.insert(shape, number);
        number
    }

    fn pack(&mut self, number: usize) -> Value {
        let KnownValue { value, length, occurrences, part, .. } = self.known[number];
        if let Some(part) = part {
            return reference(part);
        }
        let inner = self.known[number].inner.clone().into_iter();
        let packed = match value {
            Value::Array(_) => Value::Array(in_rows(inner.map(|number| self.pack(number)))),
            Value::Object(map) => {
                let fields = map.keys().cloned().zip(inner);
                Value::Object(fields.map(|(name, number)| (name, self.pack(number))).collect())
            }
            plain => return plain.clone(),
        };
        if occurrences < 2 || length < SHORTEST_PART {
            return packed;
        }
        let part = self.parts.len();
        self.parts.push(packed);
        self.known[number].part = Some(part);
        reference(part)
    }
}

/// Writes references to parts in a row as one.
fn in_rows(items: impl Iterator<Item = Value>) -> Vec<Value> {
    let mut rows: Vec<Value> = Vec::new();
    for item in items {
        if let Some(next) = referred(&item).and_then(PartRow::single)
            && let Some(last) = rows.last_mut()
            && let Some(row) = referred(last)
            && row.last + 1 == next
        {
            *last =
                Value::Object(Map::from_iter([(REFERENCE.to_owned(), [row.first, next].into())]));
        } else {
            rows.push(item);
        }
    }
    rows
}

/// Parts in a row.
#[derive(Clone, Copy)]
struct PartRow {
    first: usize,
    last: usize,
}

impl PartRow {
    /// The part, if it is one alone.
    fn single(self) -> Option<usize> {
        (self.first == self.last).then_some(self.first)
    }
}

/// The parts that a reference stands for, if it is one.
fn referred(value: &Value) -> Option<PartRow> {
    let number = |value: &Value| value.as_u64().and_then(|number| usize::try_from(number).ok());
    match value.as_object()?.get(REFERENCE)? {
        Value::Array(ends) => match &ends[..] {
            [first, last] => Some(PartRow { first: number(first)?, last: number(last)? })
                .filter(|row| row.first <= row.last),
            _ => None,
        },
        single => number(single).map(|at| PartRow { first: at, last: at }),
    }
}

fn reference(number: usize) -> Value {
    Value::Object(Map::from_iter([(REFERENCE.to_owned(), number.into())]))
}

/// A value that refers to the parts of its object.
#[derive(Clone, Debug)]
pub(crate) struct PackedValue {
    object: Arc<PackedParts>,
    value: Value,
}

/// The parts of an object.
#[derive(Debug)]
struct PackedParts {
    parts: Vec<Value>,
    /// How many more values may be read.
    left: AtomicUsize,
}

impl From<Value> for PackedValue {
    fn from(value: Value) -> Self {
        Self { object: PackedParts::new(Vec::new()), value }
    }
}

impl PartialEq for PackedValue {
    fn eq(&self, other: &Self) -> bool {
        self.object.parts == other.object.parts && self.value == other.value
    }
}

impl PackedParts {
    fn new(parts: Vec<Value>) -> Arc<Self> {
        Arc::new(Self { parts, left: AtomicUsize::new(MAX_VALUES) })
    }
}

impl PackedValue {
    /// The values of an object.
    pub(super) fn all(packed: Packed) -> impl Iterator<Item = Self> {
        let object = PackedParts::new(packed.parts);
        packed.values.into_iter().map(move |value| Self { object: Arc::clone(&object), value })
    }

    /// What the value says, with the parts where it refers to them.
    ///
    /// # Errors
    /// If a part is missing, it is too much, or it is not of this type.
    pub(crate) fn read<T: DeserializeOwned>(&self) -> Result<T, Error> {
        let PackedParts { parts, left } = &*self.object;
        serde_json::from_value(unpack(&self.value, parts, 0, left).map_err(Error::custom)?)
    }
}

/// The value with the parts that it refers to in their places. It lies `depth` deep in a record, and
/// `left` is how many more values the records of its object may have.
fn unpack<'v>(
    mut value: &'v Value,
    mut parts: &'v [Value],
    depth: usize,
    left: &AtomicUsize,
) -> Result<Value, BadPacking> {
    if depth > MAX_DEPTH {
        return Err(BadPacking::TooDeep);
    }
    take(1, left)?;
    while value.as_object().is_some_and(|map| map.contains_key(REFERENCE)) {
        let at = referred(value).and_then(PartRow::single).ok_or(BadPacking::NoSuchPart)?;
        // A part refers to earlier ones, so that this ends.
        (parts, value) = part(parts, at)?;
        take(1, left)?;
    }
    match value {
        Value::Array(items) => {
            let mut whole = Vec::with_capacity(items.len());
            for item in items {
                let Some(PartRow { first, last }) = referred(item) else {
                    whole.push(unpack(item, parts, depth + 1, left)?);
                    continue;
                };
                for at in first..=last {
                    let (earlier, item) = part(parts, at)?;
                    whole.push(unpack(item, earlier, depth + 1, left)?);
                }
            }
            Ok(Value::Array(whole))
        }
        Value::Object(map) => {
            let whole = map.iter().map(|(name, value)| {
                take(name.len() / BYTES_OF_A_VALUE, left)?;
                Ok((name.clone(), unpack(value, parts, depth + 1, left)?))
            });
            whole.collect::<Result<_, _>>().map(Value::Object)
        }
        plain => {
            take(plain.as_str().map_or(0, str::len) / BYTES_OF_A_VALUE, left)?;
            Ok(plain.clone())
        }
    }
}

/// The parts that a part may refer to, and the part.
fn part(parts: &[Value], at: usize) -> Result<(&[Value], &Value), BadPacking> {
    let part = parts.get(at).ok_or(BadPacking::NoSuchPart)?;
    Ok((&parts[..at], part))
}

/// Takes some values of those that may still be read.
fn take(count: usize, left: &AtomicUsize) -> Result<(), BadPacking> {
    let taken =
        left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(count));
    taken.map(drop).map_err(|_| BadPacking::TooMuch)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    /// All values as they were.
    fn unpack_all(packed: Packed) -> Result<Vec<Value>, String> {
        PackedValue::all(packed).map(|value| value.read().map_err(|why| why.to_string())).collect()
    }

    #[test]
    fn what_occurs_several_times_is_written_once() {
        let library = json!({ "at": "/lib/libc.so.6", "state": "0123456789abcdef" });
        let values = vec![
            json!({ "inputs": [library, { "at": "/etc/hosts", "state": "a" }] }),
            json!({ "inputs": [library, 1] }),
            json!({ "inputs": [library, 1] }),
        ];
        let packed = pack(&values);
        assert_eq!(packed.parts.iter().filter(|part| **part == library).count(), 1);
        assert_eq!(packed.values[1], packed.values[2]);
        assert!(json!(packed.values).to_string().len() < json!(values).to_string().len());
        assert_eq!(unpack_all(packed), Ok(values));
    }

    #[test]
    fn parts_in_a_row_are_one_reference() {
        let library = |at: u32| json!({ "at": format!("/usr/lib/lib{at}.so"), "state": "x" });
        let libraries = |numbers: &[u32]| Value::from_iter(numbers.iter().map(|at| library(*at)));
        let all: Vec<u32> = (0..50).collect();
        let but_one: Vec<u32> = all.iter().copied().filter(|at| *at != 20).collect();
        let values = vec![libraries(&all), libraries(&but_one), libraries(&all[30..])];
        let packed = pack(&values);
        assert_eq!(packed.parts.len(), 49, "one is written in its place");
        assert!(json!(packed.values).to_string().len() < 200, "{:?}", packed.values);
        assert_eq!(unpack_all(packed), Ok(values));
    }

    #[test]
    fn references_to_nothing_and_to_too_much_are_refused() {
        let refused = |parts: Value, value: Value| {
            let parts = parts.as_array().unwrap().clone();
            unpack_all(Packed { parts, values: vec![value] }).unwrap_err()
        };
        let [none, much, deep] = [BadPacking::NoSuchPart, BadPacking::TooMuch, BadPacking::TooDeep];
        let (none, much, deep) = (none.to_string(), much.to_string(), deep.to_string());
        for number in [json!(0), json!(-1), json!("0"), json!(null)] {
            assert_eq!(refused(json!([]), json!({ "": number })), none);
        }
        assert_eq!(refused(json!([{ "": 0 }]), json!({ "": 0 })), none, "itself");
        assert_eq!(refused(json!([[{ "": 1 }], [1]]), json!({ "": 0 })), none, "a later one");
        for row in [json!({ "": [0, 1] }), json!([{ "": [0, 2] }]), json!({ "": [0, 0, 0] })] {
            assert_eq!(refused(json!([[1]]), row), none);
        }
        assert_eq!(refused(json!([[1], [2]]), json!({ "": [0, 1] })), none);
        // Each part is twice the one before.
        let twice = |count: usize| {
            let more = (0..count).map(|at| json!([{ "": at }, { "": at }]));
            json!([json!([1, 2])].into_iter().chain(more).collect::<Vec<_>>())
        };
        assert_eq!(refused(twice(60), json!({ "": 60 })), much);
        let (long, often) = ("x".repeat(1 << 20), vec![json!({ "": 0 }); 200]);
        assert_eq!(refused(json!([long]), json!(often)), much);
        assert_eq!(refused(json!([{ long: 1 }]), json!(often)), much);
        let once = (0..MAX_DEPTH * 100).map(|at| json!([{ "": at }]));
        let nested: Vec<_> = [json!([1])].into_iter().chain(once).collect();
        assert_eq!(refused(json!(nested), json!({ "": MAX_DEPTH * 100 })), deep);
    }

    fn any_value() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<i64>().prop_map(Value::from),
            "[a-z]{0,30}".prop_map(Value::from),
        ];
        leaf.prop_recursive(4, 40, 5, |inner| {
            prop_oneof![
                proptest::collection::vec(inner.clone(), 0..5).prop_map(Value::from),
                proptest::collection::btree_map("[a-c]{1,2}", inner, 0..4)
                    .prop_map(|map| Value::Object(map.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn all_comes_back(values in proptest::collection::vec(any_value(), 0..5)) {
            let twice = [values.clone(), values].concat();
            prop_assert_eq!(unpack_all(pack(&twice)), Ok(twice));
        }
    }
}
