//! Scores of neighbouring rows, looked at together: hardly ever is one of them wanted.

/// Rows of a block.
pub const SCORE_BLOCK: usize = 64;

/// What is known of a block of scores (see [`super`]).
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct ScoreBlock {
    /// The largest score; NaN where one is NaN.
    pub best: f32,
    /// The most that a product can be, the largest `score + distance`; NaN where one is NaN.
    pub reach: f32,
}

impl ScoreBlock {
    /// Of at most [`SCORE_BLOCK`] scores whose distances are `steps * margin`.
    pub(super) fn new(scores: &[f32], steps: &[f32], margin: f32) -> Self {
        let mut reaches = [0.0; SCORE_BLOCK];
        let reaches = &mut reaches[..scores.len()];
        for (reach, (score, step)) in reaches.iter_mut().zip(scores.iter().zip(steps)) {
            *reach = score + step * margin;
        }
        Self { best: largest(scores), reach: largest(reaches) }
    }
}

/// The largest of `values`; NaN where one is NaN.
fn largest(values: &[f32]) -> f32 {
    /// Places that are compared side by side, which the compiler makes vectors of.
    const LANES: usize = 8;
    let (mut largest, mut is_nan) = ([f32::NEG_INFINITY; LANES], [false; LANES]);
    for values in values.chunks(LANES) {
        for (lane, value) in values.iter().enumerate() {
            largest[lane] = if *value > largest[lane] { *value } else { largest[lane] };
            is_nan[lane] |= value.is_nan();
        }
    }
    if is_nan.contains(&true) { f32::NAN } else { largest.into_iter().fold(f32::NEG_INFINITY, f32::max) }
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
