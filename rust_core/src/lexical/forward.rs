//! Which terms each row has, so that a row can be taken out of the lists without its texts.
//!
//! Read only when a row changes or goes, so it is kept small: 32 rows share a piece of heap, one after the other.
//!
//! ```text
//! row   bytes of what follows | first number | steps to the next ones, ascending      all as LEB128
//! ```

/// Rows that share a piece of heap. It is copied whenever one of them changes: a few kilobytes.
const GROUP: usize = 32;

/// The numbers of each row's terms. Rows are numbered without holes.
#[derive(Debug, Default)]
pub(crate) struct RowTerms {
    groups: Vec<Vec<u8>>,
    rows: usize,
    /// Heap of the groups.
    heap_bytes: usize,
}

impl RowTerms {
    /// Rows held.
    pub(crate) fn len(&self) -> usize {
        self.rows
    }

    /// Append a row with these terms, ascending.
    pub(crate) fn push(&mut self, numbers: &[u32]) {
        if self.rows.is_multiple_of(GROUP) {
            self.groups.push(Vec::new());
        }
        let end = self.groups.last().map_or(0, Vec::len);
        self.splice(self.rows / GROUP, end..end, numbers);
        self.rows += 1;
    }

    /// A row's terms, ascending.
    pub(crate) fn get(&self, row: usize) -> Vec<u32> {
        let found = self.group(row).and_then(|group| Some((group, locate(group, row)?)));
        found.and_then(|(group, range)| Some(decode(group.get(range)?))).unwrap_or_default()
    }

    /// Replace a row's terms.
    pub(crate) fn set(&mut self, row: usize, numbers: &[u32]) {
        if let Some(range) = self.group(row).and_then(|group| locate(group, row)) {
            self.splice(row / GROUP, range, numbers);
        }
    }

    /// Remove the last row, giving its terms.
    pub(crate) fn pop(&mut self) -> Vec<u32> {
        let Some(last) = self.rows.checked_sub(1) else { return Vec::new() };
        let numbers = self.get(last);
        self.rows = last;
        if last.is_multiple_of(GROUP) {
            self.heap_bytes -= self.groups.pop().map_or(0, |group| group.capacity());
        } else if let Some(group) = self.groups.last_mut() {
            group.truncate(locate(group, last).map_or(0, |range| range.start));
        }
        numbers
    }

    /// Bytes of heap.
    pub(crate) fn size_bytes(&self) -> usize {
        self.heap_bytes + self.groups.capacity() * size_of::<Vec<u8>>()
    }

    fn group(&self, row: usize) -> Option<&Vec<u8>> {
        self.groups.get(row / GROUP).filter(|_| row < self.rows)
    }

    fn splice(&mut self, group: usize, range: std::ops::Range<usize>, numbers: &[u32]) {
        let Some(group) = self.groups.get_mut(group) else { return };
        let before = group.capacity();
        let encoded = encode(numbers);
        group.reserve_exact(encoded.len().saturating_sub(range.len()));
        group.splice(range, encoded);
        self.heap_bytes = self.heap_bytes - before + group.capacity();
    }
}

/// Where a row lies within its group.
fn locate(group: &[u8], row: usize) -> Option<std::ops::Range<usize>> {
    let mut start = 0;
    for skipped in 0..=row % GROUP {
        let mut rest = group.get(start..)?;
        let before = rest.len();
        let length = read(&mut rest)? as usize;
        let end = start + (before - rest.len()) + length;
        if skipped == row % GROUP {
            return Some(start..end);
        }
        start = end;
    }
    None
}

fn encode(numbers: &[u32]) -> Vec<u8> {
    let mut steps = Vec::with_capacity(2 * numbers.len());
    let mut last = 0;
    for &number in numbers {
        write(&mut steps, number.wrapping_sub(last));
        last = number;
    }
    let mut encoded = Vec::with_capacity(2 + steps.len());
    write(&mut encoded, steps.len() as u32);
    encoded.extend(steps);
    encoded
}

fn decode(mut row: &[u8]) -> Vec<u32> {
    read(&mut row);
    let mut numbers = Vec::with_capacity(row.len());
    let mut last = 0_u32;
    while let Some(step) = read(&mut row) {
        last = last.wrapping_add(step);
        numbers.push(last);
    }
    numbers
}

/// LEB128: seven bits a byte, the lowest first; the highest bit says that more follow.
fn write(bytes: &mut Vec<u8>, mut value: u32) {
    while value >= 0x80 {
        bytes.push(value as u8 | 0x80);
        value >>= 7;
    }
    bytes.push(value as u8);
}

fn read(bytes: &mut &[u8]) -> Option<u32> {
    let mut value = 0;
    for shift in (0..u32::BITS).step_by(7) {
        let byte = bytes.split_off_first()?;
        value |= u32::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            break;
        }
    }
    Some(value)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::collection::{btree_set, vec};
    use proptest::prelude::*;

    use super::*;

    #[derive(Debug, Clone)]
    enum Change {
        Push(BTreeSet<u32>),
        Set(prop::sample::Index, BTreeSet<u32>),
        Pop,
    }

    fn changes() -> impl Strategy<Value = Change> {
        let numbers = || btree_set(prop_oneof![8 => 0_u32..300, 1 => any::<u32>()], 0..40);
        prop_oneof![
            4 => numbers().prop_map(Change::Push),
            2 => (any::<prop::sample::Index>(), numbers()).prop_map(|(row, numbers)| Change::Set(row, numbers)),
            1 => Just(Change::Pop),
        ]
    }

    proptest! {
        #[test]
        fn rows_keep_their_terms(changes in vec(changes(), 0..if cfg!(miri) { 12 } else { 150 })) {
            let mut rows = RowTerms::default();
            let mut model: Vec<Vec<u32>> = Vec::new();
            for change in changes {
                match change {
                    Change::Push(numbers) => {
                        model.push(numbers.into_iter().collect());
                        rows.push(model.last().unwrap());
                    }
                    Change::Set(row, numbers) if !model.is_empty() => {
                        let row = row.index(model.len());
                        model[row] = numbers.into_iter().collect();
                        rows.set(row, &model[row]);
                    }
                    Change::Pop => prop_assert_eq!(rows.pop(), model.pop().unwrap_or_default()),
                    Change::Set(..) => {}
                }
                prop_assert_eq!(rows.len(), model.len());
            }
            for (row, numbers) in model.iter().enumerate() {
                prop_assert_eq!(&rows.get(row), numbers);
            }
            prop_assert!(rows.get(model.len()).is_empty());
            prop_assert_eq!(rows.heap_bytes, rows.groups.iter().map(Vec::capacity).sum::<usize>());
        }
    }
}
