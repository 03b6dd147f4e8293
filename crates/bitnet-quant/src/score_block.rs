//! Scores of neighbouring rows, looked at together: hardly ever is one of them wanted.

/// Rows of a block.
pub const SCORE_BLOCK: usize = 64;

/// What is known of a block of scores (see [`crate::compact_rows`]).
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct ScoreBlock {
    /// The largest score; NaN where one is NaN.
    pub best: f32,
    /// The most that a product can be, the largest `score + distance`; NaN where one is NaN.
    pub reach: f32,
}

impl ScoreBlock {
    /// Of scores whose distances are `steps * margin`.
    pub(crate) fn new(scores: &[f32], steps: &[f32], margin: f32) -> Self {
        let reaches = scores.iter().zip(steps).map(|(score, step)| score + step * margin);
        Self { best: largest(scores.iter().copied()), reach: largest(reaches) }
    }
}

/// The largest of `values`; NaN where one is NaN.
fn largest(values: impl Iterator<Item = f32>) -> f32 {
    let (largest, is_nan) = values.fold((f32::NEG_INFINITY, false), |(largest, is_nan), value| {
        (largest.max(value), is_nan | value.is_nan())
    });
    if is_nan { f32::NAN } else { largest }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_number_is_not_hidden_by_what_is() {
        let ScoreBlock { best, reach } = ScoreBlock::new(&[1.0, 3.0, -2.0], &[4.0, 0.5, 0.0], 2.0);
        assert_eq!((best, reach), (3.0, 9.0));
        for at in 0..3 {
            let mut scores = [1.0, 3.0, -2.0];
            scores[at] = f32::NAN;
            assert!(ScoreBlock::new(&scores, &[1.0; 3], 1.0).best.is_nan());
            let mut steps = [1.0; 3];
            steps[at] = f32::NAN;
            let block = ScoreBlock::new(&[1.0, 3.0, -2.0], &steps, 1.0);
            assert!(block.best == 3.0 && block.reach.is_nan());
        }
    }
}
