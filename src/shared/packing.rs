//! The records of a bundle with what they have in common written once: most runs of a project consult
//! the same libraries and are asked for the same variables.
//!
//! A list or an object that occurs several times is a part. `{"": 7}` stands for the eighth part; in a
//! list, `{"": [7, 9]}` stands for three in a row. A part may hold earlier ones.

use std::collections::HashMap;

use serde_json::{Map, Value};

/// A shorter text is written again: a reference would not be shorter.
const SHORTEST_PART: usize = 24;

/// How many values all records together may have: a small object must not become a huge one.
const MAX_VALUES: usize = 1 << 21;

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

/// Why values are not whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum BadPacking {
    /// It refers to what there is not.
    #[error("it refers to a part that it does not have")]
    NoSuchPart,
    /// It would be too much.
    #[error("it has more than {MAX_VALUES} values")]
    TooMuch,
}

/// Writes what occurs several times once.
pub(super) fn pack(values: Vec<Value>) -> Packed {
    let mut packer = Packer::default();
    values.iter().for_each(|value| packer.count(value));
    let values = values.into_iter().map(|value| packer.pack(value)).collect();
    Packed { parts: packer.parts, values }
}

#[derive(Default)]
struct Packer {
    parts: Vec<Value>,
    seen: HashMap<String, Occurrence>,
}

enum Occurrence {
    Once,
    Several,
    Part(usize),
}

impl Packer {
    fn count(&mut self, value: &Value) {
        let Some(text) = text_of(value) else { return };
        match self.seen.get_mut(&text) {
            // What is inside is counted.
            Some(seen) => *seen = Occurrence::Several,
            None => {
                self.seen.insert(text, Occurrence::Once);
                match value {
                    Value::Array(items) => items.iter().for_each(|item| self.count(item)),
                    Value::Object(map) => map.values().for_each(|item| self.count(item)),
                    _ => {}
                }
            }
        }
    }

    fn pack(&mut self, value: Value) -> Value {
        let Some(text) = text_of(&value) else { return value };
        if let Some(Occurrence::Part(number)) = self.seen.get(&text) {
            return reference(*number);
        }
        let is_part = matches!(self.seen.get(&text), Some(Occurrence::Several));
        let value = match value {
            Value::Array(items) => {
                Value::Array(in_rows(items.into_iter().map(|item| self.pack(item))))
            }
            Value::Object(map) => {
                let packed = map.into_iter().map(|(key, item)| (key, self.pack(item)));
                Value::Object(packed.collect())
            }
            other => other,
        };
        if !is_part {
            return value;
        }
        let number = self.parts.len();
        self.parts.push(value);
        self.seen.insert(text, Occurrence::Part(number));
        reference(number)
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
            [first, last] => Some(PartRow { first: number(first)?, last: number(last)? }),
            _ => None,
        },
        single => number(single).map(|at| PartRow { first: at, last: at }),
    }
}

/// The text of a list or an object that is long enough.
fn text_of(value: &Value) -> Option<String> {
    let may_be_part = matches!(value, Value::Array(_) | Value::Object(_));
    may_be_part.then(|| value.to_string()).filter(|text| text.len() >= SHORTEST_PART)
}

fn reference(number: usize) -> Value {
    Value::Object(Map::from_iter([(REFERENCE.to_owned(), number.into())]))
}

/// Puts the parts back.
///
/// # Errors
/// If a part is missing, or it is too much.
pub(super) fn unpack(packed: Packed) -> Result<Vec<Value>, BadPacking> {
    let mut unpacker = Unpacker { parts: Vec::new(), left: MAX_VALUES };
    for part in packed.parts {
        let before = unpacker.left;
        let whole = unpacker.unpack(part)?;
        unpacker.parts.push((whole, before - unpacker.left));
    }
    packed.values.into_iter().map(|value| unpacker.unpack(value)).collect()
}

struct Unpacker {
    /// The whole parts, with how many values each has.
    parts: Vec<(Value, usize)>,
    left: usize,
}

impl Unpacker {
    fn take(&mut self, values: usize) -> Result<(), BadPacking> {
        self.left = self.left.checked_sub(values).ok_or(BadPacking::TooMuch)?;
        Ok(())
    }

    /// A part as a whole.
    fn part(&mut self, at: usize) -> Result<Value, BadPacking> {
        let &(_, values) = self.parts.get(at).ok_or(BadPacking::NoSuchPart)?;
        // Before it is copied.
        self.take(values)?;
        Ok(self.parts[at].0.clone())
    }

    fn unpack(&mut self, value: Value) -> Result<Value, BadPacking> {
        self.take(1)?;
        Ok(match value {
            Value::Array(items) => {
                let mut whole = Vec::with_capacity(items.len());
                for item in items {
                    match referred(&item) {
                        Some(row) => {
                            for at in row.first..=row.last {
                                whole.push(self.part(at)?);
                            }
                        }
                        None => whole.push(self.unpack(item)?),
                    }
                }
                Value::Array(whole)
            }
            Value::Object(map) => match map.get(REFERENCE) {
                Some(_) => {
                    let row = referred(&Value::Object(map)).and_then(PartRow::single);
                    self.part(row.ok_or(BadPacking::NoSuchPart)?)?
                }
                None => {
                    let items = map.into_iter().map(|(key, item)| Ok((key, self.unpack(item)?)));
                    Value::Object(items.collect::<Result<_, _>>()?)
                }
            },
            other => other,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    #[test]
    fn what_occurs_several_times_is_written_once() {
        let library = json!({ "at": "/lib/libc.so.6", "state": "0123456789abcdef" });
        let values = vec![
            json!({ "inputs": [library, { "at": "/etc/hosts", "state": "a" }] }),
            json!({ "inputs": [library, 1] }),
            json!({ "inputs": [library, 1] }),
        ];
        let packed = pack(values.clone());
        assert_eq!(packed.parts.iter().filter(|part| **part == library).count(), 1);
        assert_eq!(packed.values[1], packed.values[2]);
        assert!(json!(packed.values).to_string().len() < json!(values).to_string().len());
        assert_eq!(unpack(packed), Ok(values));
    }

    #[test]
    fn parts_in_a_row_are_one_reference() {
        let library = |at: u32| json!({ "at": format!("/usr/lib/lib{at}.so"), "state": "x" });
        let libraries = |numbers: &[u32]| Value::from_iter(numbers.iter().map(|at| library(*at)));
        let all: Vec<u32> = (0..50).collect();
        let but_one: Vec<u32> = all.iter().copied().filter(|at| *at != 20).collect();
        let values = vec![libraries(&all), libraries(&but_one), libraries(&all[30..])];
        let packed = pack(values.clone());
        assert_eq!(packed.parts.len(), 49, "one is written in its place");
        assert!(json!(packed.values).to_string().len() < 200, "{:?}", packed.values);
        assert_eq!(unpack(packed), Ok(values));
    }

    #[test]
    fn references_to_nothing_and_to_too_much_are_refused() {
        let refused = |parts: Value, value: Value| {
            let parts = parts.as_array().unwrap().clone();
            unpack(Packed { parts, values: vec![value] }).unwrap_err()
        };
        for number in [json!(0), json!(-1), json!("0"), json!(null)] {
            assert_eq!(refused(json!([]), json!({ "": number })), BadPacking::NoSuchPart);
        }
        assert_eq!(refused(json!([{ "": 0 }]), json!(1)), BadPacking::NoSuchPart, "itself");
        for row in [json!({ "": [0, 1] }), json!([{ "": [0, 2] }]), json!({ "": [0, 0, 0] })] {
            assert_eq!(refused(json!([[1]]), row), BadPacking::NoSuchPart);
        }
        assert_eq!(refused(json!([[1], [2]]), json!({ "": [0, 1] })), BadPacking::NoSuchPart);
        // Each part is twice the one before.
        let mut parts = vec![json!([1, 2])];
        parts.extend((0..60).map(|at| json!([{ "": at }, { "": at }])));
        assert_eq!(refused(json!(parts), json!(1)), BadPacking::TooMuch);
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
            prop_assert_eq!(unpack(pack(twice.clone())), Ok(twice));
        }
    }
}
