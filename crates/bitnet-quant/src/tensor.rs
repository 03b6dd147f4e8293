//! Packed ternary tensors: to and from codes, and their exact product with int8.
//!
//! The layout of [`DType::Ternary`] is that of [`TernaryMatrix`], so that one is the other without its scale, and the
//! memory is shared.

use bitnet_core::{DType, Error as CoreError, Isa, Tensor, ThreadPool};

use crate::{QuantizedActivations, Result, TernaryKernel, TernaryMatrix};

/// The codes of a matrix as a packed tensor `[rows, cols]` over the same memory.
pub fn packed_codes(matrix: &TernaryMatrix) -> Result<Tensor> {
    Ok(Tensor::new(DType::Ternary, [matrix.rows(), matrix.cols()], matrix.packed().clone())?)
}

/// A matrix of packed codes and a scale, over the same memory.
///
/// Errors: [`CoreError::DType`] for another type, [`Error::InvalidCode`](crate::Error::InvalidCode),
/// [`Error::InvalidScale`](crate::Error::InvalidScale).
pub fn ternary_matrix(codes: &Tensor, scale: f32) -> Result<TernaryMatrix> {
    let (DType::Ternary, &[rows, cols]) = (codes.dtype(), codes.dims()) else {
        return Err(CoreError::DType { expected: "ternary", got: codes.dtype() }.into());
    };
    TernaryMatrix::from_packed(rows, cols, codes.data().clone(), scale)
}

/// Packs a tensor of i8 codes `[rows, cols]`, each -1, 0 or +1.
///
/// Errors: [`CoreError::DType`] for another type, [`CoreError::Rank`] for another shape,
/// [`Error::InvalidCode`](crate::Error::InvalidCode).
pub fn pack(codes: &Tensor) -> Result<Tensor> {
    if codes.dtype() != DType::I8 {
        return Err(CoreError::DType { expected: "i8 codes", got: codes.dtype() }.into());
    }
    let &[rows, cols] = codes.dims() else {
        let shape = codes.shape().clone();
        return Err(CoreError::Rank { operation: "a ternary tensor", expected: 2, shape }.into());
    };
    packed_codes(&TernaryMatrix::from_codes(rows, cols, &codes.to_vec::<i8>()?, 1.0)?)
}

/// The codes of a packed tensor as i8.
///
/// Errors: [`CoreError::DType`] for another type, [`Error::InvalidCode`](crate::Error::InvalidCode) for a code 3.
pub fn unpack(codes: &Tensor) -> Result<Tensor> {
    let matrix = ternary_matrix(codes, 1.0)?;
    Ok(Tensor::from_vec(matrix.codes(), codes.shape().clone())?)
}

/// `W x` in 32-bit integers, exact: `w` is packed `[m, k]`, `x` is i8 `[k]` or `[k, n]`; the result is `[m]` or `[m, n]`.
///
/// The kernels want the columns of `x` in one piece each: `x` is best the transpose of a contiguous `[n, k]`, as tokens
/// are, and the result is that of `[n, m]`.
///
/// Errors: [`CoreError::DType`] for other types, [`CoreError::Shapes`], [`Error::InvalidCode`](crate::Error::InvalidCode)
/// for a code 3.
pub fn matmul(pool: &ThreadPool, w: &Tensor, x: &Tensor) -> Result<Tensor> {
    let w_matrix = ternary_matrix(w, 1.0)?;
    if x.dtype() != DType::I8 {
        return Err(CoreError::DType { expected: "i8 beside a ternary matrix", got: x.dtype() }.into());
    }
    let (rows, cols) = (w_matrix.rows(), w_matrix.cols());
    if !matches!(x.dims(), [k] | [k, _] if *k == cols) {
        let (a, b) = (w.shape().clone(), x.shape().clone());
        return Err(CoreError::Shapes { operation: "matmul", a, b }.into());
    }
    let mut dims = vec![rows];
    dims.extend(&x.dims()[1..]);
    if x.is_empty() || rows == 0 {
        return Ok(Tensor::zeros(dims, DType::I32)?);
    }
    let tokens = x.transpose()?.contiguous()?;
    let tokens = QuantizedActivations::from_codes(&tokens.to_vec::<i8>()?, cols);
    let mut out = vec![0; tokens.tokens() * rows];
    TernaryKernel::new(Isa::selected()?)?.matmul_i32(pool, &w_matrix, &tokens, &mut out)?;
    let out = Tensor::from_vec(out, [tokens.tokens(), rows])?;
    Ok(if x.rank() == 1 { out.reshape([rows])? } else { out.transpose()? })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    prop_compose! {
        fn operands()(m in 0_usize..9, k in 0_usize..70, n in 0_usize..5)
            (w in prop::collection::vec(-1_i8..=1, m * k), x in prop::collection::vec(any::<i8>(), k * n),
             m in Just(m), k in Just(k), n in Just(n)) -> (Tensor, Tensor) {
            (Tensor::from_vec(w, [m, k]).unwrap(), Tensor::from_vec(x, [k, n]).unwrap())
        }
    }

    proptest! {
        #[test]
        fn products_are_those_of_the_unpacked((w, x) in operands()) {
            let pool = ThreadPool::new(2).unwrap();
            let packed = pack(&w).unwrap();
            let wide = |x: &Tensor| x.to_dtype(DType::I32).unwrap();
            let expected = wide(&w).matmul(&wide(&x)).unwrap();
            let product = matmul(&pool, &packed, &x).unwrap();
            prop_assert_eq!(product.dims(), expected.dims());
            prop_assert_eq!(product.to_vec::<i32>().unwrap(), expected.to_vec::<i32>().unwrap());
            let columns = x.transpose().unwrap().contiguous().unwrap().transpose().unwrap();
            let product = matmul(&pool, &packed, &columns).unwrap();
            prop_assert_eq!(product.to_vec::<i32>().unwrap(), expected.to_vec::<i32>().unwrap());
            if x.dims()[1] > 0 {
                let first = x.select(1, 0).unwrap();
                let expected = expected.select(1, 0).unwrap();
                let product = matmul(&pool, &packed, &first).unwrap();
                prop_assert_eq!(product.to_vec::<i32>().unwrap(), expected.to_vec::<i32>().unwrap());
            }
        }

        #[test]
        fn codes_round_trip_over_one_memory((w, _) in operands()) {
            let packed = pack(&w.transpose().unwrap()).unwrap();
            let codes = unpack(&packed).unwrap();
            prop_assert_eq!(codes.to_vec::<i8>().unwrap(), w.transpose().unwrap().to_vec::<i8>().unwrap());
            let matrix = ternary_matrix(&packed, 0.5).unwrap();
            prop_assert_eq!(matrix.packed().as_ptr(), packed.data().as_ptr());
            prop_assert_eq!(packed_codes(&matrix).unwrap().data().as_ptr(), packed.data().as_ptr());
        }
    }

    #[test]
    fn what_is_no_product_is_refused() {
        let pool = ThreadPool::new(1).unwrap();
        let error = |result: Result<Tensor>| result.unwrap_err().to_string();
        let codes = Tensor::zeros([2, 3], DType::I8).unwrap();
        let packed = pack(&codes).unwrap();
        assert_eq!(error(pack(&packed)), "expected i8 codes, the tensor is ternary");
        assert_eq!(
            error(pack(&codes.select(0, 0).unwrap())),
            "a ternary tensor wants 2 dimensions, not shape [3]"
        );
        assert_eq!(
            error(pack(&Tensor::full([1, 2], 2, DType::I8).unwrap())),
            "row 0, column 0: 2 is not a ternary code"
        );
        assert_eq!(error(unpack(&codes)), "expected ternary, the tensor is i8");
        assert_eq!(error(matmul(&pool, &packed, &codes)), "cannot matmul shapes [2, 3] and [2, 3]");
        let floats = Tensor::zeros([3], DType::F32).unwrap();
        assert_eq!(
            error(matmul(&pool, &packed, &floats)),
            "expected i8 beside a ternary matrix, the tensor is f32"
        );
        let broken = Tensor::new(DType::Ternary, [1, 1], vec![3_u8].into()).unwrap();
        assert_eq!(error(unpack(&broken)), "row 0, column 0: 3 is not a ternary code");
    }
}
