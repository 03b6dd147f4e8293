//! Products of low rank, added to those of a larger matrix.

use crate::{DisjointSlice, Error, FloatKernels, Result, Tensor, ThreadPool};

/// Inner values of a token that are held at once.
const BLOCK: usize = 64;

/// Tokens that a thread takes at once.
const TOKENS: usize = 4;

/// `y += factor B (A x)`, with `A` `[rank, inputs]` and `B` `[outputs, rank]` in float32: what LoRA adds to a linear
/// (arXiv 2106.09685).
///
/// ```text
/// t_j = factor * dot(A[j], x)
/// y  += t_j B[:, j], for j = 0, 1, ..
/// ```
///
/// A token's sum is always added in this order, so it does not depend on the tokens beside it, on threads, or on the
/// instruction set.
#[derive(Debug, Clone)]
pub struct LowRank {
    rank: usize,
    inputs: usize,
    outputs: usize,
    factor: f32,
    /// `A`, row-major.
    down: Vec<f32>,
    /// `B`, column by column: each is added as a whole.
    up: Vec<f32>,
}

impl LowRank {
    /// From `A` and `B`, of any floating-point type.
    ///
    /// Errors: [`Error::Rank`], [`Error::Empty`], [`Error::Shapes`] for two ranks, [`Error::DType`].
    pub fn new(a: &Tensor, b: &Tensor, factor: f32) -> Result<Self> {
        let operation = "a product of low rank";
        for side in [a, b] {
            let shape = || side.shape().clone();
            if side.rank() != 2 {
                return Err(Error::Rank { operation, expected: 2, shape: shape() });
            }
            if side.is_empty() {
                return Err(Error::Empty { operation, shape: shape() });
            }
        }
        let ([rank, inputs], [outputs, b_rank]) = ([a.dims()[0], a.dims()[1]], [b.dims()[0], b.dims()[1]]);
        if rank != b_rank {
            return Err(Error::Shapes { operation, a: a.shape().clone(), b: b.shape().clone() });
        }
        Ok(Self { rank, inputs, outputs, factor, down: a.to_f32()?, up: b.transpose()?.to_f32()? })
    }

    /// Rows of `A`.
    pub fn rank(&self) -> usize {
        self.rank
    }

    /// Number of inputs.
    pub fn inputs(&self) -> usize {
        self.inputs
    }

    /// Number of outputs.
    pub fn outputs(&self) -> usize {
        self.outputs
    }

    /// Elements of `A` and `B`.
    pub fn parameters(&self) -> usize {
        self.down.len() + self.up.len()
    }

    /// Bytes of both.
    pub fn size_bytes(&self) -> usize {
        size_of::<f32>() * self.parameters()
    }

    /// Adds the product of `x`, `[tokens, inputs]`, to `y`, `[tokens, outputs]`. Allocates nothing.
    ///
    /// Panics unless both have whole rows of the same number of tokens.
    #[expect(unsafe_code, reason = "threads write disjoint tokens")]
    pub fn add_product(&self, pool: &ThreadPool, kernels: &FloatKernels, x: &[f32], y: &mut [f32]) {
        let tokens = x.len() / self.inputs;
        let is_whole = x.len() == tokens * self.inputs && y.len() == tokens * self.outputs;
        assert!(is_whole, "x is [tokens, {}], y is [tokens, {}]", self.inputs, self.outputs);
        let y = DisjointSlice::new(y);
        pool.split(tokens, TOKENS, |range| {
            for token in range {
                // SAFETY: each token belongs to one thread.
                let y = unsafe { y.part(token * self.outputs..(token + 1) * self.outputs) };
                self.add_token(kernels, &x[token * self.inputs..][..self.inputs], y);
            }
        });
    }

    fn add_token(&self, kernels: &FloatKernels, x: &[f32], y: &mut [f32]) {
        let mut inner = [0.0; BLOCK];
        let rows = self.down.chunks(BLOCK * self.inputs).zip(self.up.chunks(BLOCK * self.outputs));
        for (down, up) in rows {
            // All of a block first: what they read does not wait for what is written.
            let down = down.chunks_exact(self.inputs);
            inner.iter_mut().zip(down).for_each(|(t, a)| *t = self.factor * kernels.dot_f32(a, x));
            up.chunks_exact(self.outputs).zip(inner).for_each(|(b, t)| kernels.add_scaled(y, t, b));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{DType, Isa};

    fn wave(len: usize, seed: f32) -> Vec<f32> {
        (0..len).map(|i| (i as f32 * 0.7 + seed).sin()).collect()
    }

    fn tensor(values: &[f32], dims: [usize; 2]) -> Tensor {
        Tensor::from_vec(values.to_vec(), dims).unwrap()
    }

    /// The definition, in float64.
    fn expected(sizes: [usize; 4], factor: f32, a: &[f32], b: &[f32], x: &[f32], y: &[f32]) -> Vec<f64> {
        let [rank, inputs, outputs, tokens] = sizes;
        let product = |token: usize, out: usize| {
            let inner = |j: usize| -> f64 {
                (0..inputs).map(|i| f64::from(a[j * inputs + i]) * f64::from(x[token * inputs + i])).sum()
            };
            (0..rank).map(|j| f64::from(b[out * rank + j]) * inner(j)).sum::<f64>() * f64::from(factor)
        };
        (0..tokens * outputs).map(|at| f64::from(y[at]) + product(at / outputs, at % outputs)).collect()
    }

    #[test]
    fn it_adds_the_product_of_any_rank() {
        let kernels = FloatKernels::new(Isa::selected().unwrap()).unwrap();
        for (rank, inputs, outputs, tokens) in
            [(1, 1, 1, 1), (3, 70, 5, 9), (64, 5, 130, 2), (150, 33, 17, 3)]
        {
            let (a, b) = (wave(rank * inputs, 0.1), wave(outputs * rank, 0.2));
            let (x, y) = (wave(tokens * inputs, 0.3), wave(tokens * outputs, 0.4));
            let (a_tensor, b_tensor) = (tensor(&a, [rank, inputs]), tensor(&b, [outputs, rank]));
            let product = LowRank::new(&a_tensor, &b_tensor, 1.7).unwrap();
            assert_eq!(product.size_bytes(), 4 * rank * (inputs + outputs));
            let run = |threads: usize, kernels: &FloatKernels, tokens: std::ops::Range<usize>| {
                let mut out = y[tokens.start * outputs..tokens.end * outputs].to_vec();
                let x = &x[tokens.start * inputs..tokens.end * inputs];
                product.add_product(&ThreadPool::new(threads).unwrap(), kernels, x, &mut out);
                out
            };
            let together = run(1, &kernels, 0..tokens);
            let exact = expected([rank, inputs, outputs, tokens], 1.7, &a, &b, &x, &y);
            for (got, exact) in together.iter().zip(exact) {
                let size = (rank * inputs) as f64;
                assert!((f64::from(*got) - exact).abs() < 1e-6 * size.max(4.0), "{got} {exact}");
            }
            assert_eq!(run(3, &kernels, 0..tokens), together);
            assert_eq!(run(1, &FloatKernels::new(Isa::Scalar).unwrap(), 0..tokens), together);
            let alone: Vec<f32> = (0..tokens).flat_map(|token| run(1, &kernels, token..token + 1)).collect();
            assert_eq!(alone, together);
        }
    }

    #[test]
    fn matrices_that_do_not_fit_are_refused() {
        let zeros = |dims: &[usize]| Tensor::zeros(dims.to_vec(), DType::F32).unwrap();
        assert!(matches!(LowRank::new(&zeros(&[2, 3]), &zeros(&[4, 3]), 1.0), Err(Error::Shapes { .. })));
        assert!(matches!(LowRank::new(&zeros(&[2]), &zeros(&[4, 2]), 1.0), Err(Error::Rank { .. })));
        assert!(matches!(LowRank::new(&zeros(&[0, 3]), &zeros(&[4, 0]), 1.0), Err(Error::Empty { .. })));
        let codes = Tensor::zeros([2, 3], DType::U8).unwrap();
        assert!(matches!(LowRank::new(&codes, &zeros(&[4, 2]), 1.0), Err(Error::DType { .. })));
    }
}
