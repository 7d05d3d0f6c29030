//! Metadata values, the interned sets that rows share, and predicates over them.
//!
//! Rows of one partition mostly carry one of a few metadata sets, so a row holds the number of its set and a search
//! evaluates the predicate once per set, not once per row.

use std::cmp::Ordering;
use std::collections::BTreeMap;

use hashbrown::HashMap;

use crate::error::CoreError;

/// Most levels of a metadata expression; a plain guard against a stack overflow, far above what the server admits.
pub const MAX_DEPTH: usize = 64;

/// A metadata value.
#[derive(Debug, Clone, PartialEq)]
pub enum Scalar {
    /// Text, compared by bytes.
    Text(String),
    /// A whole number.
    Int(i64),
    /// A finite number.
    Float(f64),
    /// A truth value; never equal to a number.
    Bool(bool),
}

/// How a row's value compares with a condition's values.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Operator {
    /// Equal.
    Eq,
    /// Of the same type, and different.
    Ne,
    /// Greater.
    Gt,
    /// Greater or equal.
    Gte,
    /// Less.
    Lt,
    /// Less or equal.
    Lte,
    /// Equal to one of the values.
    In,
    /// A text that contains the value.
    Contains,
}

/// A boolean expression over metadata. A row that lacks a condition's key, or holds a value of another type, does not
/// match the condition, whatever its operator; integers and floats compare as numbers.
#[derive(Debug, Clone, PartialEq)]
pub enum Expression {
    /// One comparison.
    Condition {
        /// The metadata key.
        key: String,
        /// The comparison.
        operator: Operator,
        /// One value; for [`Operator::In`] at least one.
        values: Vec<Scalar>,
    },
    /// Holds when all do; an empty list holds.
    All(Vec<Expression>),
    /// Holds when at least one does; an empty list does not.
    Any(Vec<Expression>),
    /// Holds when the expression does not.
    Not(Box<Expression>),
}

impl Expression {
    /// Check the shape, the number and the types of all values.
    ///
    /// # Errors
    /// [`CoreError::InvalidCondition`], [`CoreError::NotFinite`] or [`CoreError::FilterTooDeep`].
    pub fn check(&self) -> Result<(), CoreError> {
        self.check_level(1)
    }

    fn check_level(&self, level: usize) -> Result<(), CoreError> {
        if level > MAX_DEPTH {
            return Err(CoreError::FilterTooDeep { limit: MAX_DEPTH });
        }
        match self {
            Self::Condition { key, operator, values } => {
                let refuse = |reason| Err(CoreError::InvalidCondition { key: key.clone(), reason });
                for (position, value) in values.iter().enumerate() {
                    check_scalar(value, position)?;
                }
                match (operator, values.as_slice()) {
                    (Operator::In, []) => refuse("IN takes at least one value"),
                    (Operator::Gt | Operator::Gte | Operator::Lt | Operator::Lte, [Scalar::Bool(_)]) => {
                        refuse("truth values have no order")
                    }
                    (Operator::Contains, [value]) if !matches!(value, Scalar::Text(_)) => refuse("CONTAINS takes text"),
                    (Operator::In, _) | (_, [_]) => Ok(()),
                    _ => refuse("the operator takes one value"),
                }
            }
            Self::All(list) | Self::Any(list) => list.iter().try_for_each(|inner| inner.check_level(level + 1)),
            Self::Not(inner) => inner.check_level(level + 1),
        }
    }

    /// Whether a metadata set matches.
    #[must_use]
    pub fn matches(&self, metadata: &MetadataSet) -> bool {
        match self {
            Self::Condition { key, operator, values } => {
                metadata.get(key).is_some_and(|actual| holds(actual, *operator, values))
            }
            Self::All(list) => list.iter().all(|inner| inner.matches(metadata)),
            Self::Any(list) => list.iter().any(|inner| inner.matches(metadata)),
            Self::Not(inner) => !inner.matches(metadata),
        }
    }
}

fn holds(actual: &Scalar, operator: Operator, values: &[Scalar]) -> bool {
    if operator == Operator::Contains {
        return match (actual, values) {
            (Scalar::Text(text), [Scalar::Text(part)]) => text.contains(part.as_str()),
            _ => false,
        };
    }
    values.iter().any(|value| {
        compare(actual, value).is_some_and(|ordering| match operator {
            Operator::Eq | Operator::In => ordering.is_eq(),
            Operator::Ne => ordering.is_ne(),
            Operator::Gt => ordering.is_gt(),
            Operator::Gte => ordering.is_ge(),
            Operator::Lt => ordering.is_lt(),
            Operator::Lte => ordering.is_le(),
            Operator::Contains => false,
        })
    })
}

/// Order of two values of the same type, numbers being one type; `None` for different types.
fn compare(a: &Scalar, b: &Scalar) -> Option<Ordering> {
    match (a, b) {
        (Scalar::Text(a), Scalar::Text(b)) => Some(a.as_bytes().cmp(b.as_bytes())),
        (Scalar::Bool(a), Scalar::Bool(b)) => Some(a.cmp(b)),
        (Scalar::Int(a), Scalar::Int(b)) => Some(a.cmp(b)),
        (Scalar::Float(a), Scalar::Float(b)) => a.partial_cmp(b),
        (Scalar::Int(a), Scalar::Float(b)) => Some(compare_int_float(*a, *b)),
        (Scalar::Float(a), Scalar::Int(b)) => Some(compare_int_float(*b, *a).reverse()),
        _ => None,
    }
}

/// Exact order of an integer and a finite float: turning the integer into a float would merge neighbours above 2^53.
fn compare_int_float(a: i64, b: f64) -> Ordering {
    const TWO_63: f64 = 9_223_372_036_854_775_808.0;
    if b >= TWO_63 {
        return Ordering::Less;
    }
    if b < -TWO_63 {
        return Ordering::Greater;
    }
    let whole = b.floor();
    // Within ±2^63 and whole, so the cast is exact.
    a.cmp(&(whole as i64)).then(if b > whole { Ordering::Less } else { Ordering::Equal })
}

/// Refuse values that have no order.
///
/// # Errors
/// [`CoreError::NotFinite`] for NaN and infinities; `position` is the entry named in it.
pub fn check_scalar(value: &Scalar, position: usize) -> Result<(), CoreError> {
    match value {
        Scalar::Float(x) if !x.is_finite() => Err(CoreError::NotFinite { field: "metadata", position }),
        _ => Ok(()),
    }
}

/// One row's metadata: pairs sorted by key.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct MetadataSet(Box<[(Box<str>, Scalar)]>);

impl MetadataSet {
    /// The value of a key.
    #[must_use]
    pub fn get(&self, key: &str) -> Option<&Scalar> {
        let position = self.0.binary_search_by(|(held, _)| (**held).cmp(key)).ok()?;
        self.0.get(position).map(|(_, value)| value)
    }

    /// The pairs, sorted by key.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Scalar)> {
        self.0.iter().map(|(key, value)| (&**key, value))
    }

    /// Bytes of heap.
    #[must_use]
    pub fn size_bytes(&self) -> usize {
        let texts = self
            .0
            .iter()
            .map(|(key, value)| key.len() + if let Scalar::Text(text) = value { text.capacity() } else { 0 });
        size_of_val(&*self.0) + texts.sum::<usize>()
    }

    /// A key under which equal sets, and no others, are found again.
    fn fingerprint(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        let mut put = |tag: u8, content: &[u8]| {
            bytes.push(tag);
            bytes.extend_from_slice(&(content.len() as u64).to_le_bytes());
            bytes.extend_from_slice(content);
        };
        for (key, value) in &self.0 {
            put(0, key.as_bytes());
            match value {
                Scalar::Text(text) => put(1, text.as_bytes()),
                Scalar::Int(x) => put(2, &x.to_le_bytes()),
                Scalar::Float(x) => put(3, &x.to_bits().to_le_bytes()),
                Scalar::Bool(x) => put(4, &[u8::from(*x)]),
            }
        }
        bytes
    }
}

impl From<&BTreeMap<String, Scalar>> for MetadataSet {
    fn from(map: &BTreeMap<String, Scalar>) -> Self {
        // A BTreeMap iterates in key order, which `get` relies on.
        Self(map.iter().map(|(key, value)| (key.as_str().into(), value.clone())).collect())
    }
}

/// The distinct metadata sets of a partition, each with the number of rows that hold it.
#[derive(Debug, Default)]
pub struct MetadataTable {
    sets: Vec<(MetadataSet, u32)>,
    numbers: HashMap<Box<[u8]>, u32>,
    free: Vec<u32>,
}

impl MetadataTable {
    /// The number of a set, counting one more row that holds it.
    pub fn acquire(&mut self, map: &BTreeMap<String, Scalar>) -> u32 {
        let set = MetadataSet::from(map);
        let fingerprint = set.fingerprint().into_boxed_slice();
        if let Some(&number) = self.numbers.get(&fingerprint) {
            if let Some((_, count)) = self.sets.get_mut(number as usize) {
                *count += 1;
            }
            return number;
        }
        let number = if let Some(number) = self.free.pop() {
            if let Some(slot) = self.sets.get_mut(number as usize) {
                *slot = (set, 1);
            }
            number
        } else {
            self.sets.push((set, 1));
            (self.sets.len() - 1) as u32
        };
        self.numbers.insert(fingerprint, number);
        number
    }

    /// Count one row less; the last one frees the set.
    pub fn release(&mut self, number: u32) {
        if let Some((set, count)) = self.sets.get_mut(number as usize) {
            *count = count.saturating_sub(1);
            if *count == 0 {
                self.numbers.remove(set.fingerprint().as_slice());
                *set = MetadataSet::default();
                self.free.push(number);
            }
        }
    }

    /// The set with a number.
    #[must_use]
    pub fn get(&self, number: u32) -> Option<&MetadataSet> {
        self.sets.get(number as usize).map(|(set, _)| set)
    }

    /// Numbers in use or free: all are below this.
    #[must_use]
    pub fn len(&self) -> usize {
        self.sets.len()
    }

    /// Whether no set was ever acquired.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.sets.is_empty()
    }

    /// Bytes of heap, roughly: fingerprints are about as long as their sets.
    #[must_use]
    pub fn size_bytes(&self) -> usize {
        let sets: usize = self.sets.iter().map(|(set, _)| set.size_bytes()).sum();
        let keys: usize = self.numbers.keys().map(|key| key.len()).sum();
        sets + keys + self.sets.capacity() * size_of::<(MetadataSet, u32)>() + self.numbers.allocation_size()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(pairs: &[(&str, Scalar)]) -> MetadataSet {
        let map: BTreeMap<String, Scalar> = pairs.iter().map(|(k, v)| ((*k).to_owned(), v.clone())).collect();
        MetadataSet::from(&map)
    }

    fn condition(operator: Operator, values: &[Scalar]) -> Expression {
        Expression::Condition { key: "k".to_owned(), operator, values: values.to_vec() }
    }

    #[test]
    fn missing_key_or_other_type_never_matches() {
        for operator in [Operator::Eq, Operator::Ne, Operator::In] {
            assert!(!condition(operator, &[Scalar::Int(1)]).matches(&set(&[])));
            assert!(!condition(operator, &[Scalar::Int(1)]).matches(&set(&[("k", Scalar::Bool(true))])));
            assert!(!condition(operator, &[Scalar::Text("1".to_owned())]).matches(&set(&[("k", Scalar::Int(1))])));
        }
    }

    #[test]
    fn integers_and_floats_compare_as_numbers() {
        let big = (1_i64 << 53) + 1;
        let held = set(&[("k", Scalar::Int(big))]);
        assert!(condition(Operator::Gt, &[Scalar::Float((1_i64 << 53) as f64)]).matches(&held));
        assert!(condition(Operator::Eq, &[Scalar::Float(2.0)]).matches(&set(&[("k", Scalar::Int(2))])));
        assert!(condition(Operator::Lt, &[Scalar::Float(-1.5)]).matches(&set(&[("k", Scalar::Int(-2))])));
        assert!(condition(Operator::Gt, &[Scalar::Float(-1.5)]).matches(&set(&[("k", Scalar::Int(-1))])));
        assert!(condition(Operator::Lt, &[Scalar::Float(1e300)]).matches(&set(&[("k", Scalar::Int(i64::MAX))])));
    }

    #[test]
    fn malformed_conditions_are_refused() {
        assert!(condition(Operator::Eq, &[]).check().is_err());
        assert!(condition(Operator::In, &[]).check().is_err());
        assert!(condition(Operator::Lt, &[Scalar::Bool(true)]).check().is_err());
        assert!(condition(Operator::Contains, &[Scalar::Int(1)]).check().is_err());
        assert!(condition(Operator::Eq, &[Scalar::Float(f64::NAN)]).check().is_err());
        let mut deep = condition(Operator::Eq, &[Scalar::Int(1)]);
        for _ in 0..MAX_DEPTH {
            deep = Expression::Not(Box::new(deep));
        }
        assert_eq!(deep.check(), Err(CoreError::FilterTooDeep { limit: MAX_DEPTH }));
    }

    #[test]
    fn released_sets_are_reused() {
        let mut table = MetadataTable::default();
        let a = BTreeMap::from([("a".to_owned(), Scalar::Int(1))]);
        let b = BTreeMap::from([("b".to_owned(), Scalar::Int(1))]);
        let number = table.acquire(&a);
        assert_eq!(table.acquire(&a), number);
        table.release(number);
        table.release(number);
        assert_eq!(table.acquire(&b), number);
        assert_eq!(table.len(), 1);
    }
}
