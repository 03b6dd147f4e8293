//! What scores read of a token, and how far they may be from its products.

use super::{CENTRE, Dither};
use crate::packing::LINE;

/// `c` of [`super`].
const DEVIATIONS: f32 = 2.84;
/// For float32 sums of products of up to 4 steps, in the approximation and in the product itself, in parts of `|x|`.
const FLOATS: f32 = 0.02;
/// Of the rounding of activations: half a place of their dither, and what float32 loses of `x / U`.
const PLACES: f32 = 1.0 / 128.0;
/// How much of the bound rounding to one byte may add, as a part of it.
const LARGEST_SHARE: f32 = 0.125;
/// The largest integers of one byte and of two, whose high byte fits after rounding, with half a step of dither.
const LARGEST_NARROW: f32 = 126.0;
const LARGEST_WIDE: f32 = 32_511.0;

/// The activations of one token as [`CompactRows::scores`](super::CompactRows::scores) reads them, allocated once and used
/// again.
#[derive(Debug, Clone, Default)]
pub struct RoundedActivations {
    /// Behind what takes it to the start of a cache line, which vectors then do not lie across: the integers, padded with
    /// zeros to whole blocks; of two bytes the low ones behind the high ones.
    bytes: Vec<i8>,
    start: usize,
    is_wide: bool,
    /// What an integer of 1 stands for.
    unit: f32,
    /// The sum of the integers.
    total: f32,
    /// What to subtract from a sum of codes and integers, `sum of (3.5 + u) n`.
    offset: f32,
    margin: Option<Margin>,
}

/// What is known of the products of one token: how many steps of its row a product is from its score at most.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Margin {
    pub(super) score: f32,
    pub(super) refined: f32,
}

impl RoundedActivations {
    /// How far scores may be from the products; `None` when the token was not finite, and its scores say nothing.
    pub fn margin(&self) -> Option<Margin> {
        self.margin
    }

    /// Whether an integer has two bytes.
    pub(super) fn is_wide(&self) -> bool {
        self.is_wide
    }

    /// The integers, where they have one byte.
    pub(super) fn bytes(&self) -> &[i8] {
        &self.bytes[self.start..]
    }

    /// The high bytes of the integers and the low ones, where they have two.
    pub(super) fn halves(&self) -> [&[i8]; 2] {
        let bytes = self.bytes();
        bytes.split_at(bytes.len() / 2).into()
    }

    /// The product, in steps of the row, that a sum of codes and integers stands for; `offset` is that of the row.
    pub(super) fn steps(&self, sum: f32, offset: f32) -> f32 {
        (sum - self.offset - offset) * self.unit
    }

    /// The steps that the fourth bits of a row add; `product(x)` is that of its bits with bytes.
    pub(super) fn steps_of_bits(&self, product: impl Fn(&[i8]) -> i32) -> f32 {
        let set = if self.is_wide {
            let [high, low] = self.halves();
            256.0 * product(high) as f32 + product(low) as f32
        } else {
            product(self.bytes()) as f32
        };
        (0.5 * set - 0.25 * self.total) * self.unit
    }

    /// Rounds `x` to one byte or two, for rows of which `|w'| / s` is up to `norm`; to nothing but zeros when it is not
    /// finite.
    pub(super) fn fill(&mut self, x: &[f32], dither: &Dither, norm: f32) {
        let padded = dither.of_activations.len();
        let squares: f64 = x.iter().map(|x| f64::from(*x) * f64::from(*x)).sum();
        let norm_of_x = squares.sqrt() as f32;
        if !norm_of_x.is_finite() || x.iter().any(|x| !x.is_finite()) {
            self.zero(padded);
            (self.is_wide, self.unit, self.total, self.offset, self.margin) = (false, 0.0, 0.0, 0.0, None);
            return;
        }
        // Less than that is rounded to 0, and the reciprocal of its unit would be infinite.
        let largest = x.iter().fold(1e-30_f32, |largest, x| largest.max(x.abs()));
        let narrow = largest / LARGEST_NARROW;
        self.is_wide = narrow * norm > LARGEST_SHARE * norm_of_x;
        self.unit = if self.is_wide { largest / LARGEST_WIDE } else { narrow };
        self.zero(padded * (1 + usize::from(self.is_wide)));
        self.round(x, dither);
        self.margin = Some(Margin::new(norm_of_x, self.unit * norm, x.len()));
    }

    /// Makes all of `len` bytes zeros.
    fn zero(&mut self, len: usize) {
        self.bytes.clear();
        self.bytes.reserve(len + LINE - 1);
        self.start = self.bytes.as_ptr().align_offset(LINE).min(LINE - 1);
        self.bytes.resize(self.start + len, 0);
    }

    fn round(&mut self, x: &[f32], dither: &Dither) {
        /// Adding it rounds to the next whole number, the even one of two.
        const ROUND: f32 = 12_582_912.0;
        let (is_wide, scale) = (self.is_wide, 1.0 / self.unit);
        let (high, low) =
            self.bytes[self.start..].split_at_mut(if is_wide { dither.of_activations.len() } else { 0 });
        let (mut total, mut offset) = (0, 0.0);
        for (col, (x, (u, v))) in x.iter().zip(dither.of_rows.iter().zip(&dither.of_activations)).enumerate()
        {
            let integer = ((x * scale + f32::from(*v) / 256.0) + ROUND - ROUND) as i32;
            let rest = if is_wide {
                let upper = (integer + 128) >> 8;
                high[col] = upper as i8;
                integer - 256 * upper
            } else {
                integer
            };
            low[col] = rest as i8;
            total += i64::from(integer);
            offset += f64::from(integer) * f64::from(CENTRE + u);
        }
        (self.total, self.offset) = (total as f32, offset as f32);
    }
}

impl Margin {
    /// Of activations of the norm `of_x`, rounded to units so that rows have norms up to `of_rows` in steps and units.
    fn new(of_x: f32, of_rows: f32, cols: usize) -> Self {
        let floats = FLOATS * of_x + PLACES * (cols as f32).sqrt() * of_rows;
        Self {
            score: DEVIATIONS * (of_x + of_rows) + floats,
            // Without the product of the fourth bits and the dither of activations, which is less than half of the other
            // term: `|b / 2 - 1/4| = sqrt(cols) / 4`.
            refined: DEVIATIONS * (0.5 * of_x + 1.5 * of_rows) + floats,
        }
    }
}
