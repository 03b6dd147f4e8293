//! The parts of attention, for the heads of one token that share keys and values.
//!
//! Heads go in pairs: what is loaded of keys and values then serves two of them, and one head's additions do not wait
//! for each other alone.

use std::hint::black_box;

use super::LANES;

/// Positions whose scores are computed side by side.
pub const POSITIONS: usize = 16;

/// Scores of 16 positions, for each of `N` heads.
type Scores<const N: usize> = [[f32; POSITIONS]; N];

#[inline(always)]
fn join<const N: usize>(mut sums: Scores<N>, others: Scores<N>) -> Scores<N> {
    for head in 0..N {
        for position in 0..POSITIONS {
            sums[head][position] += others[head][position];
        }
    }
    sums
}

#[inline(always)]
fn add_products<const N: usize>(sums: &mut Scores<N>, q: [f32; N], keys: &[f32; POSITIONS]) {
    for head in 0..N {
        for position in 0..POSITIONS {
            sums[head][position] += q[head] * keys[position];
        }
    }
}

/// Adds lanes as `sum_of_lanes` does.
#[inline(always)]
fn sum_of_scores<const N: usize>(lanes: &mut [Scores<N>]) -> Scores<N> {
    let mut width = lanes.len() / 2;
    while width > 0 {
        for lane in 0..width {
            lanes[lane] = join(lanes[lane], lanes[lane + width]);
        }
        width /= 2;
    }
    lanes[0]
}

/// Lanes that `sum_of_scores` is left with once `tree` has joined those 32, 16 and 8 apart.
const ROOTS: usize = 8;

/// Queries and keys by the lane of `dot_generic` modulo `ROOTS`.
type Queries<'a, const N: usize> = [&'a [[f32; ROOTS]]; N];
type Keys<'a> = &'a [[[f32; POSITIONS]; ROOTS]];

/// Products of the lane `ROOTS * branch + root`.
#[inline(always)]
fn leaf<const N: usize>(q: Queries<'_, N>, keys: Keys<'_>, root: usize, branch: usize) -> Scores<N> {
    // Adding to -0 changes nothing, so that the first addition falls away.
    let mut sums = [[-0.0; POSITIONS]; N];
    for i in (branch..keys.len()).step_by(LANES / ROOTS) {
        add_products(&mut sums, q.map(|q| q[i][root]), &keys[i][root]);
    }
    sums
}

/// Levels of the tree in which `sum_of_lanes` adds.
macro_rules! levels {
    ($($name:ident = $below:ident, $apart:literal;)*) => {$(
        #[inline(always)]
        fn $name<const N: usize>(q: Queries<'_, N>, keys: Keys<'_>, root: usize, branch: usize) -> Scores<N> {
            join($below(q, keys, root, branch), $below(q, keys, root, branch + $apart / ROOTS))
        }
    )*};
}

levels! {
    pair = leaf, 32;
    four = pair, 16;
    tree = four, 8;
}

/// Scores where `head_dim` is known, a multiple of 64: each root of the tree is straight code.
#[inline(always)]
fn scores_by_tree<const N: usize, const HEAD_DIM: usize>(
    q: [&[f32]; N],
    keys: &[[f32; POSITIONS]],
) -> Scores<N> {
    const { assert!(HEAD_DIM.is_multiple_of(LANES)) };
    let q = q.map(|q| &q.as_chunks::<ROOTS>().0[..HEAD_DIM / ROOTS]);
    let keys = &keys.as_chunks::<ROOTS>().0[..HEAD_DIM / ROOTS];
    let mut roots = [[[0.0; POSITIONS]; N]; ROOTS];
    // A loop that the compiler cannot unroll: it would keep more sums alive than there are registers.
    for (root, sums) in roots.iter_mut().enumerate().take(black_box(ROOTS)) {
        *sums = tree(q, keys, root, 0);
    }
    sum_of_scores(&mut roots)
}

#[inline(always)]
fn scores_by_lanes<const N: usize>(q: [&[f32]; N], keys: &[[f32; POSITIONS]]) -> Scores<N> {
    let mut lanes = [[[0.0; POSITIONS]; N]; LANES];
    for (d, keys) in keys.iter().enumerate() {
        add_products(&mut lanes[d % LANES], q.map(|q| q[d]), keys);
    }
    sum_of_scores(&mut lanes)
}

/// See `FloatKernels::scores`.
#[inline(always)]
pub(super) fn scores(
    q: &[f32],
    head_dim: usize,
    keys: &[f32],
    scale: f32,
    mut scores: &mut [f32],
    row: usize,
) {
    let mut pairs = q.chunks_exact(2 * head_dim);
    for q in pairs.by_ref() {
        let (first, others) = scores.split_at_mut(row);
        scores_of([&q[..head_dim], &q[head_dim..]], keys, scale, [first, others]);
        scores = others.get_mut(row..).unwrap_or_default();
    }
    if !pairs.remainder().is_empty() {
        scores_of([pairs.remainder()], keys, scale, [scores]);
    }
}

#[inline(always)]
fn scores_of<const N: usize>(q: [&[f32]; N], keys: &[f32], scale: f32, mut scores: [&mut [f32]; N]) {
    let head_dim = q[0].len();
    for (group, keys) in keys.chunks_exact(POSITIONS * head_dim).enumerate() {
        let (keys, _) = keys.as_chunks::<POSITIONS>();
        let sums = match head_dim {
            64 => scores_by_tree::<N, 64>(q, keys),
            128 => scores_by_tree::<N, 128>(q, keys),
            _ => scores_by_lanes(q, keys),
        };
        for (scores, sums) in scores.iter_mut().zip(sums) {
            let scores = &mut scores[group * POSITIONS..][..POSITIONS];
            for (score, sum) in scores.iter_mut().zip(sums) {
                *score = sum * scale;
            }
        }
    }
}

/// See `FloatKernels::max`.
#[inline(always)]
pub(super) fn max(x: &[f32], floor: f32) -> f32 {
    let mut lanes = [floor; POSITIONS];
    let (blocks, tail) = x.as_chunks::<POSITIONS>();
    for block in blocks {
        for i in 0..POSITIONS {
            lanes[i] = lanes[i].max(block[i]);
        }
    }
    lanes.iter().chain(tail).copied().fold(floor, f32::max)
}

/// See `FloatKernels::softmax_weights`.
#[inline(always)]
pub(super) fn softmax_weights(scores: &mut [f32], max: f32) {
    for score in scores {
        *score = exp_of_negative(*score - max);
    }
}

/// `exp(x)` for `x <= 0`, rounded correctly but for one value in some millions; 0 below -87, where float32 ends.
///
/// In float64: `x = n ln 2 + r` with `|r| <= ln 2 / 2`, `exp(r)` by its Taylor polynomial of degree 9, times `2^n`.
#[inline(always)]
fn exp_of_negative(x: f32) -> f32 {
    /// Adding it leaves a number rounded to an integer in the lowest bits.
    const ROUND: f64 = 6_755_399_441_055_744.0;
    const COEFFICIENTS: [f64; 9] =
        [1.0 / 40320.0, 1.0 / 5040.0, 1.0 / 720.0, 1.0 / 120.0, 1.0 / 24.0, 1.0 / 6.0, 0.5, 1.0, 1.0];
    let wide = f64::from(x);
    let shifted = wide * std::f64::consts::LOG2_E + ROUND;
    let r = wide - (shifted - ROUND) * std::f64::consts::LN_2;
    let mut power = 1.0 / 362_880.0;
    for coefficient in COEFFICIENTS {
        power = power * r + coefficient;
    }
    let scale = f64::from_bits(shifted.to_bits().wrapping_add(1023) << 52);
    if x < -87.0 { 0.0 } else { (power * scale) as f32 }
}

/// See `FloatKernels::add_weighted`. Of two heads, `COLUMNS` elements each are summed over all positions in registers.
#[inline(always)]
pub(super) fn add_weighted<const COLUMNS: usize>(
    out: &mut [f32],
    weights: &[f32],
    row: usize,
    vectors: &[f32],
    totals: &mut [f32],
) {
    let width = out.len() / totals.len();
    let mut outs = out.chunks_exact_mut(2 * width);
    let mut weights = weights.chunks(row);
    let mut next = || weights.next().expect("a row for each head");
    let (pairs, last) = totals.as_chunks_mut::<2>();
    for (out, totals) in outs.by_ref().zip(pairs) {
        let (out, other) = out.split_at_mut(width);
        add_weighted_of::<2, COLUMNS>(&mut [out, other], [next(), next()], vectors, totals);
    }
    if let [total] = last {
        let total = std::array::from_mut(total);
        add_weighted_of::<1, COLUMNS>(&mut [outs.into_remainder()], [next()], vectors, total);
    }
}

#[inline(always)]
fn add_weighted_of<const N: usize, const COLUMNS: usize>(
    out: &mut [&mut [f32]; N],
    weights: [&[f32]; N],
    vectors: &[f32],
    totals: &mut [f32; N],
) {
    let width = out[0].len();
    let positions = vectors.len() / width;
    let weights = weights.map(|weights| &weights[..positions]);
    let mut start = 0;
    while start + COLUMNS <= width {
        let mut sums = [[0.0; COLUMNS]; N];
        for head in 0..N {
            sums[head].copy_from_slice(&out[head][start..start + COLUMNS]);
        }
        for (position, vector) in vectors.chunks_exact(width).enumerate() {
            let vector: &[f32; COLUMNS] = vector[start..start + COLUMNS].try_into().expect("of that length");
            for head in 0..N {
                let weight = weights[head][position];
                for i in 0..COLUMNS {
                    sums[head][i] += weight * vector[i];
                }
                // Beside the vectors, which hide that each addition waits for the last.
                if start == 0 {
                    totals[head] += weight;
                }
            }
        }
        for head in 0..N {
            out[head][start..start + COLUMNS].copy_from_slice(&sums[head]);
        }
        start += COLUMNS;
    }
    for (position, vector) in vectors.chunks_exact(width).enumerate() {
        for head in 0..N {
            let weight = weights[head][position];
            for (out, x) in out[head][start..].iter_mut().zip(&vector[start..]) {
                *out += weight * x;
            }
            if start == 0 {
                totals[head] += weight;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::values;
    use super::super::{FloatKernels, baseline};
    use super::*;
    use crate::Isa;

    #[test]
    fn exp_is_rounded_correctly() {
        let mut wrong = 0;
        for i in 0..=870_000 {
            let x = i as f32 * -1e-4;
            let exact = f64::from(x).exp();
            assert!((f64::from(exp_of_negative(x)) / exact - 1.0).abs() < 6.1e-8, "exp({x})");
            wrong += usize::from(exp_of_negative(x) != exact as f32);
        }
        assert!(wrong < 5, "{wrong}");
        assert_eq!(exp_of_negative(0.0), 1.0);
        assert_eq!(exp_of_negative(f32::NEG_INFINITY), 0.0);
        assert_eq!(exp_of_negative(-1e30), 0.0);
        assert!(exp_of_negative(f32::NAN).is_nan());
    }

    #[test]
    fn the_maximum_is_that_of_all() {
        let kernels = FloatKernels::new(Isa::selected().unwrap()).unwrap();
        for n in [0, 1, 15, 16, 17, 64, 100] {
            let x = values(n, 0.4);
            assert_eq!(kernels.max(&x, -9.0), x.iter().copied().fold(-9.0, f32::max), "{n}");
            assert_eq!(kernels.max(&x, 9.0), 9.0);
        }
    }

    /// Scores, weights, totals and results of some heads over some positions.
    fn attend(kernels: &FloatKernels, heads: usize, head_dim: usize, positions: usize) -> [Vec<f32>; 4] {
        const ROW: usize = 64;
        let (q, keys) = (values(heads * head_dim, 0.3), values(head_dim * ROW, 0.5));
        let groups = positions.div_ceil(POSITIONS);
        let mut scores = vec![0.0; heads * ROW];
        kernels.scores(&q, head_dim, &keys[..groups * POSITIONS * head_dim], 0.125, &mut scores, ROW);
        let mut weights = scores.clone();
        for weights in weights.chunks_exact_mut(ROW) {
            let max = kernels.max(&weights[..positions], f32::NEG_INFINITY);
            kernels.softmax_weights(&mut weights[..positions], max);
        }
        let (mut out, mut totals) = (vec![0.0; heads * head_dim], vec![0.5; heads]);
        kernels.add_weighted(&mut out, &weights, ROW, &keys[..positions * head_dim], &mut totals);

        for head in 0..heads {
            let q = &q[head * head_dim..][..head_dim];
            let (scores, weights) = (&scores[head * ROW..][..ROW], &weights[head * ROW..][..ROW]);
            for position in 0..positions {
                let at = |d| (position / POSITIONS * head_dim + d) * POSITIONS + position % POSITIONS;
                let key: Vec<f32> = (0..head_dim).map(|d| keys[at(d)]).collect();
                assert_eq!(scores[position], kernels.dot_f32(q, &key) * 0.125);
            }
            let total: f32 = weights[..positions].iter().sum();
            assert!((totals[head] - 0.5 - total).abs() < 1e-5);
            for d in 0..head_dim {
                let exact: f32 = (0..positions).map(|p| weights[p] * keys[p * head_dim + d]).sum();
                assert!((out[head * head_dim + d] - exact).abs() < 1e-4);
            }
        }
        [scores, weights, totals, out]
    }

    #[test]
    fn attention_follows_its_formulas_on_every_instruction_set() {
        let baseline = FloatKernels(baseline::VERSIONS);
        for (heads, head_dim) in [(1, 2), (2, 6), (3, 64), (4, 80), (5, 128)] {
            for positions in [1, 16, 23, 64] {
                let expected = attend(&baseline, heads, head_dim, positions);
                for isa in Isa::available() {
                    let kernels = FloatKernels::new(isa).unwrap();
                    assert_eq!(attend(&kernels, heads, head_dim, positions), expected, "{isa}");
                }
            }
        }
    }
}
