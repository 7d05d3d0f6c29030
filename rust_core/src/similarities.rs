//! How alike rows are: the cosines of some rows with each other, for an order that doesn't say one thing five times.

use crate::partition::Partition;
use crate::rows::Id;

impl Partition {
    /// Cosines of rows with each other at full precision, (views, n, n); NaN where one of the two isn't held or has no vector.
    #[must_use]
    pub fn similarities(&self, ids: &[Id]) -> Vec<f32> {
        let rows: Vec<Option<usize>> = ids.iter().map(|id| self.position(id)).collect();
        let count = rows.len();
        let mut cosines = Vec::with_capacity(self.vectors.len() * count * count);
        for store in &self.vectors {
            let start = cosines.len();
            for (i, &a) in rows.iter().enumerate() {
                for (j, &b) in rows.iter().enumerate() {
                    // The lower half mirrors the upper one, which is there by then.
                    let mirrored = if j < i { cosines.get(start + j * count + i).copied() } else { None };
                    cosines.push(mirrored.unwrap_or_else(|| {
                        let cosine = a.zip(b).and_then(|(a, b)| store.cosine_of_rows(a, b));
                        cosine.map_or(f32::NAN, |cosine| cosine as f32)
                    }));
                }
            }
        }
        cosines
    }
}

#[cfg(test)]
mod tests {
    use crate::engine::{Engine, EngineOptions};
    use crate::rows::Rows;

    #[test]
    fn cosines_of_each_view_and_nan_for_what_is_not_there() {
        let engine = Engine::new(&EngineOptions { dim: 2, views: 2, ..EngineOptions::default() }).unwrap();
        let mut rows = Rows::default();
        rows.push_turn([1; 16], &[1.0, 0.0, 0.0, 1.0], &["a", "b"], "s", 1);
        rows.push_turn([2; 16], &[0.6, 0.8, 0.0, -1.0], &["a", "b"], "s", 2);
        rows.push_turn([3; 16], &[0.0, 0.0, 0.6, 0.8], &["a", "b"], "s", 3);
        engine.load("p", 1, &rows).unwrap();
        let found = engine.similarities("p", &[[1; 16], [2; 16], [3; 16], [4; 16]]).unwrap().unwrap();
        let absent = f32::NAN;
        let expected = [
            [1.0, 0.6, absent, absent],
            [0.6, 1.0, absent, absent],
            [absent; 4],
            [absent; 4],
            [1.0, -1.0, 0.8, absent],
            [-1.0, 1.0, -0.8, absent],
            [0.8, -0.8, 1.0, absent],
            [absent; 4],
        ];
        assert_eq!(found.len(), 2 * 4 * 4);
        for (found, expected) in found.iter().zip(expected.as_flattened()) {
            assert!((found - expected).abs() < 1e-4 || (found.is_nan() && expected.is_nan()), "{found} for {expected}");
        }
        assert_eq!(engine.similarities("p", &[]).unwrap(), Some(Vec::new()));
        assert_eq!(engine.similarities("q", &[[1; 16]]).unwrap(), None);
    }
}
