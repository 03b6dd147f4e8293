//! Losses without the noise of batches.

/// Exponential moving averages: `m_t = b m_(t-1) + (1 - b) x_t` from 0, divided by `1 - b^t`, with `b = 2^(-1 / half_life)`.
/// What is no finite number is left out, and has the average before it.
///
/// `half_life` is in values, and above 0. Source of the correction: arXiv 1412.6980, section 3.
pub fn smoothed(values: impl IntoIterator<Item = f64>, half_life: f64) -> Vec<f64> {
    let decay = (-1.0 / half_life).exp2();
    let (mut average, mut weight) = (0.0, 0.0);
    let mut smooth = |value: f64| {
        if value.is_finite() {
            average = decay * average + (1.0 - decay) * value;
            weight = decay * weight + (1.0 - decay);
        }
        average / weight
    };
    values.into_iter().map(&mut smooth).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn averages_follow_the_formula_by_hand() {
        // b = 1 / 2: 4; (4/4 + 2/2) / (3/4); (4/8 + 2/4 + 1/2) / (7/8).
        let averages = smoothed([4.0, 2.0, 1.0], 1.0);
        for (average, expected) in averages.iter().zip([4.0, 8.0 / 3.0, 12.0 / 7.0]) {
            assert!((average - expected).abs() < 1e-12, "{average} {expected}");
        }
    }

    #[test]
    fn what_is_constant_stays_and_gaps_are_passed_over() {
        let averages = smoothed([3.0, 3.0, f64::NAN, f64::INFINITY, 3.0], 10.0);
        assert!(averages.iter().all(|average| (average - 3.0).abs() < 1e-12), "{averages:?}");
        assert!(smoothed([f64::NAN, 1.0], 2.0)[0].is_nan());
    }
}
