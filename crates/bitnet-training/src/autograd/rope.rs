//! Rotary positions.

use std::sync::Arc;

use bitnet_core::Tensor;
use bitnet_inference::rope::RopeTable;

use super::floats::{Compute, by_rows, elements};
use super::{Segments, Variable};
use crate::{Error, Result};

/// Every head turned to the position of its token, as inference does; `x` is `[tokens, heads, head_dim]`.
///
/// The gradient is turned back: the rotation is orthogonal.
///
/// Errors: [`Error::Shape`] unless the tokens are those of `segments`; [`Error::InvalidOption`] for a document that is
/// longer than the table.
pub fn rope(x: &Variable, table: &Arc<RopeTable>, segments: &Segments) -> Result<Variable> {
    let value = x.value();
    let &[tokens, _, head_dim] = value.dims() else {
        let (operation, shape) = ("rope", value.shape().clone());
        return Err(Error::Core(bitnet_core::Error::Rank { operation, expected: 3, shape }));
    };
    if tokens != segments.tokens() || head_dim != table.head_dim() {
        let mut expected = value.dims().to_vec();
        (expected[0], expected[2]) = (segments.tokens(), table.head_dim());
        let (expected, got) = (expected.into(), value.shape().clone());
        return Err(Error::Shape { what: "what is rotated".to_owned(), expected, got });
    }
    if segments.longest() > table.positions() {
        let (expected, got) = ("at most the positions of the model", segments.longest().to_string());
        return Err(Error::InvalidOption { name: "the length of a document", expected, got });
    }
    let positions: Arc<[usize]> = segments.positions().collect();
    let y = turned(&value, table, &positions, RopeTable::rotate)?;
    let table = Arc::clone(table);
    Ok(Variable::result(y, [x], move |dy, _| {
        Ok([Some(turned(&dy, &table, &positions, RopeTable::rotate_back)?)])
    }))
}

fn turned(
    x: &Tensor,
    table: &RopeTable,
    positions: &[usize],
    turn: impl Fn(&RopeTable, usize, &mut [f32]) + Sync,
) -> Result<Tensor> {
    let width = x.len() / positions.len().max(1);
    let values = elements(x)?;
    by_rows(&Compute::new()?, x.shape(), width, |first, out| {
        out.copy_from_slice(&values[first * width..][..out.len()]);
        for (token, position) in out.chunks_exact_mut(width).zip(&positions[first..]) {
            for head in token.chunks_exact_mut(table.head_dim()) {
                turn(table, *position, head);
            }
        }
    })
}

#[cfg(test)]
mod tests {
    use bitnet_inference::rope::RopeScaling;

    use super::super::check::{check, wave};
    use super::*;

    #[test]
    fn heads_turn_and_gradients_turn_back() {
        let table = Arc::new(RopeTable::new(100.0, &RopeScaling::None, 4, 3));
        let segments = Segments::new([2, 3]).unwrap();
        check(
            &[(&[5, 2, 4], wave(40, 0.2))],
            |x| rope(&x[0], &table, &segments),
            |x| {
                let mut y = x[0].clone();
                for (position, token) in [0, 1, 0, 1, 2].into_iter().zip(y.chunks_mut(8)) {
                    for head in token.chunks_mut(4) {
                        for pair in 0..2 {
                            // What the table holds are float32 angles.
                            let angle =
                                f64::from(position as f32 * 100.0_f64.powf(-0.5 * pair as f64) as f32);
                            let (sin, cos) = angle.sin_cos();
                            let (a, b) = (head[pair], head[pair + 2]);
                            (head[pair], head[pair + 2]) = (a * cos - b * sin, b * cos + a * sin);
                        }
                    }
                }
                y
            },
        );
        let x = Variable::constant(Tensor::zeros([4, 1, 4], bitnet_core::DType::F32).unwrap()).unwrap();
        assert!(rope(&x, &table, &segments).is_err());
        assert!(rope(&x, &table, &Segments::new([4]).unwrap()).is_err());
    }
}
