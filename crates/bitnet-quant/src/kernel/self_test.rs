//! A quick check of every kernel this CPU can run, for `bitnet doctor`.

use bitnet_core::{Isa, ThreadPool};

use super::TernaryKernel;
use crate::{QuantizedActivations, Result, TernaryMatrix};

/// Outcome for one instruction set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SelfTest {
    /// The instruction set.
    pub isa: Isa,
    /// Products computed.
    pub products: usize,
    /// Products that differ from the reference; 0 on a sound machine.
    pub wrong: usize,
}

/// Multiplies matrices of several shapes with every instruction set and compares each product with the scalar
/// reference, bit for bit.
pub fn self_test(pool: &ThreadPool) -> Result<Vec<SelfTest>> {
    Isa::available().into_iter().map(|isa| test_isa(pool, isa)).collect()
}

fn test_isa(pool: &ThreadPool, isa: Isa) -> Result<SelfTest> {
    const SHAPES: [(usize, usize, usize); 5] =
        [(1, 1, 1), (7, 63, 3), (64, 256, 1), (130, 1031, 6), (640, 2560, 4)];
    let kernel = TernaryKernel::new(isa)?;
    let reference = TernaryKernel::new(Isa::Scalar)?;
    let mut outcome = SelfTest { isa, products: 0, wrong: 0 };
    for (rows, cols, tokens) in SHAPES {
        let mut bits = 0x9e37_79b9_7f4a_7c15_u64;
        let codes: Vec<i8> = (0..rows * cols).map(|_| (next(&mut bits) % 3) as i8 - 1).collect();
        let x: Vec<i8> = (0..tokens * cols).map(|_| next(&mut bits) as i8).collect();
        let w = TernaryMatrix::from_codes(rows, cols, &codes, 1.0)?;
        let x = QuantizedActivations::from_codes(x, cols);
        let (mut got, mut expected) = (vec![0; rows * tokens], vec![0; rows * tokens]);
        kernel.matmul_i32(pool, &w, &x, &mut got)?;
        reference.matmul_i32(pool, &w, &x, &mut expected)?;
        outcome.products += got.len();
        outcome.wrong += got.iter().zip(&expected).filter(|(got, expected)| got != expected).count();
    }
    Ok(outcome)
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
            assert_eq!(outcome.wrong, 0, "{}", outcome.isa);
            assert!(outcome.products > 3000);
        }
    }
}
