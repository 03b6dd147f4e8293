//! Causal attention with grouped queries, of memory linear in the sequence length.
//!
//! `p_ij = exp(scale q_i . k_j - l_i)`, `o_i = sum_j p_ij v_j` over the `j <= i` of the same document, where
//! `l_i = log sum_j exp(scale q_i . k_j)`. The forward pass keeps `o` and `l`; the backward pass computes `p` again, block
//! by block of queries and keys (arXiv 2205.14135):
//!
//! ```text
//! D_i = do_i . o_i        ds_ij = scale p_ij (do_i . v_j - D_i)
//! dv_j = sum_i p_ij do_i  dk_j = sum_i ds_ij q_i  dq_i = sum_j ds_ij k_j
//! ```

mod backward;
mod forward;

use std::ops::Range;

use bitnet_core::{Buffer, PoolVec, Tensor};

use self::backward::backward;
use self::forward::forward;
use super::floats::{Compute, elements};
use super::kept::Kept;
use super::{Segments, Variable};
use crate::{Error, Result};

/// Attention of every token to those up to it in its document: `[tokens, heads, head_dim]`.
///
/// `q` is `[tokens, heads, head_dim]`, `k` and `v` are `[tokens, kv_heads, head_dim]`; neighbouring heads share keys and
/// values. The forward pass gives what inference gives, bit for bit.
///
/// Errors: [`Error::Shape`].
pub fn attention(
    q: &Variable,
    k: &Variable,
    v: &Variable,
    segments: &Segments,
    scale: f32,
) -> Result<Variable> {
    let (q_value, k_value, v_value) = (q.value(), k.value(), v.value());
    let sizes = Sizes::new(&q_value, &k_value, &v_value, segments)?;
    let segments = segments.clone();
    let (of_q, of_k, of_v) = (elements(&q_value)?, elements(&k_value)?, elements(&v_value)?);
    let input = Input { sizes, segments, scale, q: of_q, k: of_k, v: of_v };
    let (o, logs) = forward(&Compute::new()?, &input)?;
    let o = Tensor::from_pool(o, q_value.shape().clone())?;
    let segments = input.segments;
    let kept = [Kept::new(&q_value)?, Kept::new(&k_value)?, Kept::new(&v_value)?, Kept::new(&o)?];
    Ok(Variable::result(o, [q, k, v], move |d_o, _| {
        let [q, k, v, o] = kept.each_ref().map(Kept::elements);
        let input = Input { sizes, segments, scale, q: q?, k: k?, v: v? };
        let output = Output { o: o?, logs, d_o: elements(&d_o)? };
        let [dq, dk, dv] = backward(&Compute::new()?, &input, &output)?;
        let Sizes { tokens, heads, kv_heads, head_dim } = sizes;
        let tensor = |d: PoolVec<f32>, heads: usize| Tensor::from_pool(d, [tokens, heads, head_dim]);
        Ok([Some(tensor(dq, heads)?), Some(tensor(dk, kv_heads)?), Some(tensor(dv, kv_heads)?)])
    }))
}

#[derive(Debug, Clone, Copy)]
struct Sizes {
    tokens: usize,
    heads: usize,
    kv_heads: usize,
    head_dim: usize,
}

impl Sizes {
    fn new(q: &Tensor, k: &Tensor, v: &Tensor, segments: &Segments) -> Result<Self> {
        let expected = |tensor: &Tensor, dims: [usize; 3]| {
            if tensor.dims() == dims {
                return Ok(());
            }
            let (expected, got) = (dims.into(), tensor.shape().clone());
            Err(Error::Shape { what: "queries, keys and values".to_owned(), expected, got })
        };
        let tokens = segments.tokens();
        let (&[_, heads, head_dim], &[_, kv_heads, _]) = (q.dims(), k.dims()) else {
            let (operation, shape) = ("attention", q.shape().clone());
            return Err(Error::Core(bitnet_core::Error::Rank { operation, expected: 3, shape }));
        };
        expected(q, [tokens, heads, head_dim])?;
        expected(k, [tokens, kv_heads, head_dim])?;
        expected(v, [tokens, kv_heads, head_dim])?;
        if kv_heads == 0 || !heads.is_multiple_of(kv_heads) || head_dim == 0 {
            let (expected, got) = ("a multiple of the heads of keys and values", heads.to_string());
            return Err(Error::InvalidOption { name: "the number of heads", expected, got });
        }
        Ok(Self { tokens, heads, kv_heads, head_dim })
    }

    /// Query heads that share keys and values.
    fn group(&self) -> usize {
        self.heads / self.kv_heads
    }

    /// Elements of some heads of a token, of those `of` there are.
    fn part(&self, token: usize, of: usize, heads: Range<usize>) -> Range<usize> {
        (token * of + heads.start) * self.head_dim..(token * of + heads.end) * self.head_dim
    }
}

/// What attention is computed of.
struct Input {
    sizes: Sizes,
    segments: Segments,
    scale: f32,
    q: Buffer<f32>,
    k: Buffer<f32>,
    v: Buffer<f32>,
}

/// What the backward pass knows of the forward pass.
struct Output {
    o: Buffer<f32>,
    /// `l`, `[heads, tokens]`.
    logs: PoolVec<f32>,
    d_o: Buffer<f32>,
}

impl Input {
    /// Documents and heads of keys and values: the work that is shared out. Longest first would not do: documents of a
    /// batch are alike.
    fn units(&self) -> usize {
        self.segments.count() * self.sizes.kv_heads
    }

    /// The tokens and the head of a unit.
    fn unit(&self, unit: usize) -> (Range<usize>, usize) {
        (self.segments.range(unit / self.sizes.kv_heads), unit % self.sizes.kv_heads)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use bitnet_core::ThreadPool;
    use bitnet_core::tensor::with_threads;

    use super::super::check::{check, wave};
    use super::*;

    const SCALE: f64 = 0.4;

    /// By the formula, in float64.
    fn exact(x: &[Vec<f64>], lengths: &[usize], [heads, kv_heads, head_dim]: [usize; 3]) -> Vec<f64> {
        let mut out = Vec::new();
        let mut start = 0;
        for &length in lengths {
            for i in start..start + length {
                for head in 0..heads {
                    let row = |x: &[f64], token: usize, heads: usize, head: usize| {
                        x[(token * heads + head) * head_dim..][..head_dim].to_vec()
                    };
                    let kv = head / (heads / kv_heads);
                    let q = row(&x[0], i, heads, head);
                    let weight = |j: usize| {
                        let k = row(&x[1], j, kv_heads, kv);
                        (q.iter().zip(&k).map(|(q, k)| q * k).sum::<f64>() * SCALE).exp()
                    };
                    let total: f64 = (start..=i).map(weight).sum();
                    for d in 0..head_dim {
                        let v = |j: usize| row(&x[2], j, kv_heads, kv)[d];
                        out.push((start..=i).map(|j| weight(j) / total * v(j)).sum());
                    }
                }
            }
            start += length;
        }
        out
    }

    #[test]
    fn follows_its_formula() {
        for (lengths, sizes) in [(&[5, 1, 3][..], [4, 2, 6]), (&[7], [3, 3, 4]), (&[6, 2], [2, 1, 5])] {
            let [heads, kv_heads, head_dim] = sizes;
            let segments = Segments::new(lengths.iter().copied()).unwrap();
            let tokens = segments.tokens();
            let input = |heads: usize, seed| wave(tokens * heads * head_dim, seed);
            let dims = [heads, kv_heads, kv_heads].map(|heads| [tokens, heads, head_dim]);
            let inputs = [
                (&dims[0][..], input(heads, 0.3)),
                (&dims[1][..], input(kv_heads, 1.4)),
                (&dims[2][..], input(kv_heads, 2.2)),
            ];
            check(
                &inputs,
                |x| attention(&x[0], &x[1], &x[2], &segments, SCALE as f32),
                |x| exact(x, lengths, sizes),
            );
        }
    }

    fn leaves(tokens: usize, [heads, kv_heads, head_dim]: [usize; 3]) -> [Variable; 3] {
        [(heads, 0.3), (kv_heads, 1.4), (kv_heads, 2.2)].map(|(heads, seed)| {
            let values = wave(tokens * heads * head_dim, seed).iter().map(|&x| x as f32).collect::<Vec<_>>();
            Variable::leaf(Tensor::from_vec(values, [tokens, heads, head_dim]).unwrap()).unwrap()
        })
    }

    fn gradients(threads: usize, lengths: &[usize], sizes: [usize; 3]) -> (Tensor, [Vec<f32>; 3]) {
        with_threads(&Arc::new(ThreadPool::new(threads).unwrap()), || {
            let segments = Segments::new(lengths.iter().copied()).unwrap();
            let [q, k, v] = leaves(segments.tokens(), sizes);
            let o = attention(&q, &k, &v, &segments, SCALE as f32).unwrap();
            o.mul(&q).unwrap().sum(None, false).unwrap().backward().unwrap();
            (o.value(), [q, k, v].map(|x| x.gradient().unwrap().to_vec().unwrap()))
        })
    }

    /// Documents longer than a page of the forward pass and several blocks of the backward pass.
    #[test]
    fn blocks_are_those_of_the_whole_and_threads_change_no_bit() {
        let (lengths, sizes) = ([150, 70], [2, 1, 8]);
        let (o, gradients_of_blocks) = gradients(1, &lengths, sizes);
        let [q, k, v] = leaves(220, sizes).map(|x| x.value().to_f32().unwrap());
        let wide = [&q, &k, &v].map(|x| x.iter().map(|&x| f64::from(x)).collect::<Vec<_>>());
        for (got, expected) in o.to_f32().unwrap().iter().zip(exact(&wide, &lengths, sizes)) {
            assert!((f64::from(*got) - expected).abs() < 2e-6, "{got} {expected}");
        }
        // The gradient of one direction, against a difference in float64.
        for input in 0..3 {
            let direction = wave(wide[input].len(), 5.0 + input as f64);
            let loss = |by: f64| -> f64 {
                let mut x = wide.clone();
                x[input].iter_mut().zip(&direction).for_each(|(x, d)| *x += by * d);
                exact(&x, &lengths, sizes).iter().zip(&x[0]).map(|(o, q)| o * q).sum()
            };
            let expected = (loss(1e-5) - loss(-1e-5)) / 2e-5;
            let got: f64 =
                gradients_of_blocks[input].iter().zip(&direction).map(|(g, d)| f64::from(*g) * d).sum();
            assert!((got - expected).abs() < 1e-4 * expected.abs().max(1.0), "{input}: {got} {expected}");
        }
        let (again, others) = gradients(3, &lengths, sizes);
        assert_eq!(again.to_f32().unwrap(), o.to_f32().unwrap());
        assert_eq!(others, gradients_of_blocks);
    }

    #[test]
    fn what_does_not_fit_is_an_error() {
        let [q, k, v] = leaves(4, [2, 1, 4]);
        let run = |q: &Variable, k: &Variable, tokens: usize| {
            attention(q, k, &v, &Segments::new([tokens]).unwrap(), 1.0).is_err()
        };
        assert!(!run(&q, &k, 4) && run(&q, &k, 3) && run(&k, &q, 4));
        let [odd, ..] = leaves(4, [3, 1, 5]);
        assert!(run(&odd, &k, 4));
    }
}
