//! A check of every kernel this CPU can run, for `bitnet doctor` and for the tests.

use bitnet_core::{DisjointSlice, Isa, ThreadPool};

use super::{Product, SparseScratch, TernaryKernel, Then, definition};
use crate::{Order, PackedMatrix, Packing, QuantizedActivations, Result, TernaryMatrix};

/// Outcome for one instruction set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SelfTest {
    /// The instruction set.
    pub isa: Isa,
    /// Products computed.
    pub products: usize,
    /// Products that differ from the definition; 0 on a sound machine.
    pub wrong: usize,
}

impl SelfTest {
    fn count<T: PartialEq>(&mut self, got: &[T], expected: &[T]) {
        self.products += got.len();
        self.wrong += got.iter().zip(expected).filter(|(got, expected)| got != expected).count();
    }
}

/// Multiplies matrices of several shapes with every instruction set, from every layout, and compares each product with
/// [`definition`], bit for bit.
pub fn self_test(pool: &ThreadPool) -> Result<Vec<SelfTest>> {
    const SHAPES: [(usize, usize, usize); 5] =
        [(1, 1, 1), (7, 63, 3), (64, 256, 1), (130, 1031, 6), (400, 2561, 1)];
    let mut outcomes = Vec::new();
    for isa in Isa::available() {
        let mut outcome = SelfTest { isa, products: 0, wrong: 0 };
        for (rows, cols, tokens) in SHAPES {
            let mut bits = 0x9e37_79b9_7f4a_7c15_u64;
            let codes: Vec<i8> = (0..rows * cols).map(|_| (next(&mut bits) % 3) as i8 - 1).collect();
            // Half of the activations are 0, as behind a ReLU.
            let x: Vec<i8> = (0..tokens * cols)
                .map(|_| if next(&mut bits).is_multiple_of(2) { 0 } else { next(&mut bits) as i8 })
                .collect();
            let w = TernaryMatrix::from_codes(rows, cols, &codes, 1.0)?;
            compare(pool, isa, &w, &QuantizedActivations::from_codes(&x, cols), &mut outcome)?;
        }
        outcomes.push(outcome);
    }
    Ok(outcomes)
}

/// Compares every product of `w` and `x` that there is on `isa` with the definition. Scales must be 1.
pub(super) fn compare(
    pool: &ThreadPool,
    isa: Isa,
    w: &TernaryMatrix,
    x: &QuantizedActivations,
    outcome: &mut SelfTest,
) -> Result<()> {
    let kernel = TernaryKernel::new(isa)?;
    let expected = definition(w, x);
    let mut out = vec![i32::MIN; expected.len()];
    kernel.matmul_i32(pool, w, x, &mut out)?;
    outcome.count(&out, &expected);
    for packing in Packing::ALL.into_iter().filter(|packing| kernel.supports(*packing)) {
        for order in [Order::Panels, Order::Rows, Order::Columns] {
            let packed = PackedMatrix::new(pool, w, order, packing)?;
            out.fill(i32::MIN);
            kernel.packed_matmul_i32(pool, &packed, x, &mut out)?;
            outcome.count(&out, &expected);
            let (got, expected) = by_order(pool, &kernel, &packed, x, &expected)?;
            outcome.count(&got, &expected);
        }
    }
    Ok(())
}

/// The products in the way that the order is for, and what they must be: all of them, or some of the last token.
fn by_order(
    pool: &ThreadPool,
    kernel: &TernaryKernel,
    packed: &PackedMatrix,
    x: &QuantizedActivations,
    expected: &[i32],
) -> Result<(Vec<f32>, Vec<f32>)> {
    let expected = match packed.order() {
        Order::Panels => expected,
        Order::Rows | Order::Columns => &expected[expected.len() - packed.rows()..],
    };
    let last = x.one(x.tokens() - 1);
    let mut out = vec![f32::NAN; expected.len()];
    match packed.order() {
        Order::Panels => {
            kernel.products(
                pool,
                x,
                [Product { w: packed, bias: None, out: &mut out, then: Then::Store }],
            )?;
        }
        Order::Rows => {
            let rows: Vec<u32> = (0..packed.rows() as u32).filter(|row| row % 3 != 1).collect();
            out.truncate(rows.len());
            let shared = DisjointSlice::new(&mut out);
            kernel.row_product(pool, packed, last, &rows, |range, products| {
                #[expect(unsafe_code, reason = "threads write disjoint pieces")]
                // SAFETY: every piece of the list is given once.
                unsafe { shared.part(range) }.copy_from_slice(products);
            })?;
            return Ok((out, rows.iter().map(|&row| expected[row as usize] as f32).collect()));
        }
        Order::Columns => {
            let is_not_zero = |col: &u32| last.codes[*col as usize] != 0;
            let columns: Vec<u32> = (0..packed.cols() as u32).filter(is_not_zero).collect();
            let mut scratch = SparseScratch::new(packed.rows(), pool.threads());
            kernel.column_product(pool, packed, last, &columns, &mut scratch, &mut out)?;
        }
    }
    Ok((out, expected.iter().map(|&sum| sum as f32).collect()))
}

/// Xorshift (Marsaglia 2003): test data, not randomness.
fn next(state: &mut u64) -> u64 {
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    *state >> 32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_instruction_set_of_this_machine_passes() {
        let outcomes = self_test(&ThreadPool::new(2).unwrap()).unwrap();
        assert_eq!(outcomes.len(), Isa::available().len());
        for outcome in outcomes {
            // `tests/cross/run.sh` reads these lines.
            println!("tested {}: {} products", outcome.isa, outcome.products);
            assert_eq!(outcome.wrong, 0, "{}", outcome.isa);
            assert!(outcome.products > 3000);
        }
    }
}
