//! Rows of a table.

use bitnet_core::Tensor;

use super::Variable;
use super::floats::{Compute, by_rows, elements};
use crate::{Error, Result};

/// `y[t] = table[ids[t]]`, `[tokens, width]`, of a table `[vocabulary, width]`.
///
/// The gradient of a row is the sum of those of its uses, in the order of the tokens.
///
/// Errors: [`Error::Token`] for an id outside of the table, [`bitnet_core::Error::Rank`].
pub fn embedding(table: &Variable, ids: &[u32]) -> Result<Variable> {
    let value = table.value();
    let &[vocab_size, width] = value.dims() else {
        let (operation, shape) = ("embedding", value.shape().clone());
        return Err(Error::Core(bitnet_core::Error::Rank { operation, expected: 2, shape }));
    };
    if let Some(&id) = ids.iter().find(|id| **id as usize >= vocab_size) {
        return Err(Error::Token { id, vocab_size });
    }
    let rows = elements(&value)?;
    let compute = Compute::new()?;
    let y = by_rows(&compute, &[ids.len(), width].into(), width, |first, out| {
        for (out, &id) in out.chunks_exact_mut(width).zip(&ids[first..]) {
            out.copy_from_slice(&rows[id as usize * width..][..width]);
        }
    })?;
    let ids = ids.to_vec();
    Ok(Variable::result(y, [table], move |dy, _| Ok([Some(scatter(&dy, &ids, vocab_size)?)])))
}

/// The rows of `dy`, added up by their ids.
fn scatter(dy: &Tensor, ids: &[u32], vocab_size: usize) -> Result<Tensor> {
    let width = dy.dims()[1];
    let compute = Compute::new()?;
    let dy = elements(dy)?;
    // By id, and by place where ids are the same: every row is written by one thread, in order.
    let mut uses: Vec<(u32, u32)> = (0..).zip(ids).map(|(place, id)| (*id, place)).collect();
    uses.sort_unstable();
    by_rows(&compute, &[vocab_size, width].into(), width, |first, out| {
        out.fill(0.0);
        let end = first + out.len() / width;
        let start = uses.partition_point(|(id, _)| (*id as usize) < first);
        for &(id, place) in uses[start..].iter().take_while(|(id, _)| (*id as usize) < end) {
            let row = &mut out[(id as usize - first) * width..][..width];
            compute.kernels.add_scaled(row, 1.0, &dy[place as usize * width..][..width]);
        }
    })
}

#[cfg(test)]
mod tests {
    use super::super::check::{check, wave};
    use super::*;

    #[test]
    fn a_row_collects_the_gradients_of_all_its_uses() {
        let ids = [4_u32, 0, 4, 2, 4];
        check(
            &[(&[5, 3], wave(15, 0.4))],
            |x| embedding(&x[0], &ids),
            |x| ids.iter().flat_map(|id| x[0][*id as usize * 3..][..3].to_vec()).collect(),
        );
        let table = Variable::constant(Tensor::zeros([5, 3], bitnet_core::DType::F32).unwrap()).unwrap();
        assert!(matches!(embedding(&table, &[0, 5]), Err(Error::Token { id: 5, vocab_size: 5 })));
    }
}
