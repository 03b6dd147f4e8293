//! How the tokens of a document are related, compared with another model.
//!
//! `R_ij = softmax over j of x_i . x_j / sqrt(d)` for the vectors `x` of a relation head, `d` wide, and all tokens of a document:
//! what multi-head attention relations are (arXiv 2012.15828, section 3.2), of which arXiv 2510.13998 takes the
//! divergence from those of a teacher. Heads are cut anew, so that two models need not have as many, nor as wide ones.

use std::cell::RefCell;
use std::ops::Range;

use bitnet_core::gemm::{MatrixRef, sgemm};
use bitnet_core::{Buffer, DisjointSlice, PoolVec, Tensor};

use super::divergence::divergence;
use super::floats::{Compute, elements, uncleared};
use super::variable::is_recorded;
use super::{Segments, Variable};
use crate::{Error, Result};

/// `mean over tokens i and relation heads of sum_j P_ij log(P_ij / R_ij)`, `R` the relations of `x`, `P` those of `teacher`.
///
/// `x` and `teacher` are `[tokens, ..]`: the vector of a token is cut into `heads` parts. The relations of one document and head
/// are in memory at a time, on each thread.
///
/// With `G = (R - P) / (tokens heads sqrt(d))`: `dx = (G + G^T) x`.
///
/// Errors: [`Error::Shape`], [`Error::InvalidOption`] where `heads` does not divide a vector.
pub fn relation_divergence(
    x: &Variable,
    teacher: &Tensor,
    segments: &Segments,
    heads: usize,
) -> Result<Variable> {
    let value = x.value();
    let relations = Relations {
        compute: Compute::new()?,
        x: Vectors::new(&value, segments, heads)?,
        teacher: Vectors::new(teacher, segments, heads)?,
        segments,
        heads,
    };
    let (divergence, dx) = relations.run(is_recorded(&[x]))?;
    let dx = dx.map(|dx| Tensor::from_pool(dx, value.shape().clone())).transpose()?;
    let divergence = Tensor::from_vec(vec![divergence as f32], [])?;
    Ok(Variable::result(divergence, [x], move |dy, _| {
        Ok([Some(dx.ok_or(Error::NoGradient)?.mul(dy.to_vec::<f32>()?[0])?)])
    }))
}

/// Vectors of all tokens.
struct Vectors {
    values: Buffer<f32>,
    /// Of a token.
    width: usize,
    /// Of a relation head.
    head_width: usize,
}

impl Vectors {
    fn new(x: &Tensor, segments: &Segments, heads: usize) -> Result<Self> {
        let tokens = segments.tokens();
        if x.dims().first() != Some(&tokens) || x.is_empty() {
            let (expected, got) = ([tokens].into(), x.shape().clone());
            return Err(Error::Shape { what: "tokens of relations".to_owned(), expected, got });
        }
        let width = x.len() / tokens;
        if heads == 0 || !width.is_multiple_of(heads) {
            let expected = "a divisor of the widths of queries, keys and values";
            return Err(Error::InvalidOption { name: "relation heads", expected, got: heads.to_string() });
        }
        Ok(Self { values: elements(x)?, width, head_width: width / heads })
    }

    /// A head of some tokens.
    fn head(&self, tokens: &Range<usize>, head: usize) -> MatrixRef<'_> {
        let first = tokens.start * self.width + head * self.head_width;
        MatrixRef::new(&self.values, first, [tokens.len(), self.head_width], [self.width as isize, 1])
    }

    /// Of the products of two vectors.
    fn scale(&self) -> f32 {
        1.0 / (self.head_width as f32).sqrt()
    }
}

struct Relations<'a> {
    compute: Compute,
    x: Vectors,
    teacher: Vectors,
    segments: &'a Segments,
    heads: usize,
}

/// Memory of a thread, grown once.
#[derive(Default)]
struct Buffers {
    /// `[tokens, tokens]` of a document.
    scores: Vec<f32>,
    teacher: Vec<f32>,
    /// Of a token.
    difference: Vec<f32>,
    /// Of a head.
    dx: Vec<f32>,
}

thread_local! {
    static BUFFERS: RefCell<Buffers> = RefCell::default();
}

impl Relations<'_> {
    /// The divergence, and its gradient where that is wanted.
    fn run(&self, wants_gradient: bool) -> Result<(f64, Option<PoolVec<f32>>)> {
        let mut sums = vec![0.0; self.segments.count() * self.heads];
        let mut dx = wants_gradient.then(|| uncleared(self.x.values.len())).transpose()?;
        let shared = dx.as_deref_mut().map(DisjointSlice::new);
        self.compute.pool.split_rows(&mut sums, 1, |units, sums| {
            BUFFERS.with_borrow_mut(|buffers| {
                for (unit, sum) in units.zip(sums) {
                    let (document, head) = (unit / self.heads, unit % self.heads);
                    *sum = self.unit(&self.segments.range(document), head, shared.as_ref(), buffers);
                }
            });
        });
        let rows = self.segments.tokens() * self.heads;
        Ok((sums.iter().sum::<f64>() / rows as f64, dx))
    }

    /// The sum of the divergences of a document and head.
    fn unit(
        &self,
        tokens: &Range<usize>,
        head: usize,
        dx: Option<&DisjointSlice<'_, f32>>,
        Buffers { scores, teacher, difference, dx: of_head }: &mut Buffers,
    ) -> f64 {
        let len = tokens.len();
        for (vectors, products) in [(&self.x, &mut *scores), (&self.teacher, &mut *teacher)] {
            products.resize(len * len, 0.0);
            let x = vectors.head(tokens, head);
            sgemm(x, x.transposed(), 0.0, products);
            let scale = vectors.scale();
            for product in &mut *products {
                *product *= scale;
            }
        }
        difference.resize(len, 0.0);
        let factor = self.x.scale() / (self.segments.tokens() * self.heads) as f32;
        let rows = scores.chunks_exact_mut(len).zip(teacher.chunks_exact_mut(len));
        let of_row = |(scores, teacher): (&mut [f32], &mut [f32])| {
            divergence(&self.compute.kernels, scores, teacher, difference, factor)
        };
        let sum = rows.map(of_row).sum();
        if let Some(dx) = dx {
            let (g, x) = (MatrixRef::row_major(scores, len), self.x.head(tokens, head));
            of_head.resize(len * self.x.head_width, 0.0);
            sgemm(g, x, 0.0, of_head);
            sgemm(g.transposed(), x, 1.0, of_head);
            self.store(tokens, head, of_head, dx);
        }
        sum
    }

    /// Puts the gradient of a head among those of all.
    #[expect(unsafe_code, reason = "threads write disjoint heads")]
    fn store(&self, tokens: &Range<usize>, head: usize, of_head: &[f32], dx: &DisjointSlice<'_, f32>) {
        let width = self.x.head_width;
        for (token, of_token) in tokens.clone().zip(of_head.chunks_exact(width)) {
            let first = token * self.x.width + head * width;
            // SAFETY: a head of a document belongs to one thread.
            unsafe { dx.part(first..first + width) }.copy_from_slice(of_token);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use bitnet_core::ThreadPool;
    use bitnet_core::tensor::with_threads;

    use super::super::check::{check, wave};
    use super::super::no_grad;
    use super::*;

    const LENGTHS: [usize; 3] = [5, 1, 3];
    const TOKENS: usize = 9;

    fn tensor(dims: &[usize], seed: f64) -> Tensor {
        let values = wave(dims.iter().product(), seed).iter().map(|&x| x as f32).collect::<Vec<_>>();
        Tensor::from_vec(values, dims.to_vec()).unwrap()
    }

    /// Logarithms of the relations of a token, by the formula.
    fn log_relations(x: &[f64], tokens: &Range<usize>, token: usize, head: usize, width: usize) -> Vec<f64> {
        let of = |token: usize| &x[token * x.len() / TOKENS + head * width..][..width];
        let score = |other: usize| {
            of(token).iter().zip(of(other)).map(|(a, b)| a * b).sum::<f64>() / (width as f64).sqrt()
        };
        let total = tokens.clone().map(|other| score(other).exp()).sum::<f64>();
        tokens.clone().map(|other| score(other) - total.ln()).collect()
    }

    fn exact(x: &[f64], teacher: &[f64], heads: usize) -> f64 {
        let (segments, mut sum) = (Segments::new(LENGTHS).unwrap(), 0.0);
        for document in 0..segments.count() {
            let tokens = segments.range(document);
            for (token, head) in tokens.clone().flat_map(|token| (0..heads).map(move |head| (token, head))) {
                let [r, p] =
                    [x, teacher].map(|x| log_relations(x, &tokens, token, head, x.len() / TOKENS / heads));
                sum += p.iter().zip(r).map(|(p, r)| p.exp() * (p - r)).sum::<f64>();
            }
        }
        sum / (TOKENS * heads) as f64
    }

    /// Of the same heads, of wider ones, and of heads that are cut anew.
    #[test]
    fn follows_its_formula() {
        let segments = Segments::new(LENGTHS).unwrap();
        for (dims, of_teacher, heads) in [
            ([TOKENS, 2, 4], [TOKENS, 2, 4], 2),
            ([TOKENS, 2, 4], [TOKENS, 2, 6], 2),
            ([TOKENS, 2, 6], [TOKENS, 4, 3], 3),
            ([TOKENS, 1, 5], [TOKENS, 1, 1], 1),
        ] {
            let teacher = tensor(&of_teacher, 1.4);
            let wide: Vec<f64> = teacher.to_f32().unwrap().into_iter().map(f64::from).collect();
            check(
                &[(&dims, wave(dims.iter().product(), 0.3))],
                |x| relation_divergence(&x[0], &teacher, &segments, heads),
                |x| vec![exact(&x[0], &wide, heads)],
            );
        }
    }

    #[test]
    fn equal_vectors_have_no_divergence_and_no_gradient() {
        let segments = Segments::new(LENGTHS).unwrap();
        let x = Variable::leaf(tensor(&[TOKENS, 6], 0.2)).unwrap();
        let divergence = relation_divergence(&x, &x.value(), &segments, 3).unwrap();
        assert_eq!(divergence.value().to_f32().unwrap(), [0.0]);
        divergence.backward().unwrap();
        assert!(x.gradient().unwrap().to_f32().unwrap().iter().all(|dx| *dx == 0.0));
    }

    #[test]
    fn threads_change_no_bit_and_evaluation_gives_the_same() {
        let run = |threads: usize| {
            with_threads(&Arc::new(ThreadPool::new(threads).unwrap()), || {
                let segments = Segments::new([70, 150]).unwrap();
                let x = Variable::leaf(tensor(&[220, 12], 0.2)).unwrap();
                let teacher = tensor(&[220, 12], 0.9);
                let divergence = relation_divergence(&x, &teacher, &segments, 4).unwrap();
                let evaluated = no_grad(|| relation_divergence(&x, &teacher, &segments, 4)).unwrap();
                divergence.scaled(0.5).unwrap().backward().unwrap();
                let vec = |tensor: Tensor| tensor.to_vec::<f32>().unwrap();
                assert_eq!(vec(divergence.value()), vec(evaluated.value()));
                (vec(divergence.value()), vec(x.gradient().unwrap()))
            })
        };
        assert_eq!(run(3), run(1));
    }

    #[test]
    fn what_does_not_fit_is_an_error() {
        let segments = Segments::new(LENGTHS).unwrap();
        let x = Variable::leaf(tensor(&[TOKENS, 6], 0.2)).unwrap();
        let refused = |dims: &[usize], heads: usize| {
            relation_divergence(&x, &tensor(dims, 0.1), &segments, heads).is_err()
        };
        assert!(!refused(&[TOKENS, 4], 2));
        assert!(refused(&[TOKENS, 4], 3) && refused(&[TOKENS, 4], 0) && refused(&[TOKENS - 1, 4], 2));
    }
}
