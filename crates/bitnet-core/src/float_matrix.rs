//! Matrices of floating-point weights, in the type they were stored in.

use half::{bf16, f16};

use crate::float::Weight;
use crate::{Buffer, DType, DisjointSlice, Error, FloatKernels, Result, Tensor, ThreadPool};

/// Rows x columns of float32, float16 or bfloat16, read in place: embeddings, heads and linears that are not ternary.
#[derive(Debug, Clone)]
pub struct FloatMatrix {
    rows: usize,
    cols: usize,
    elements: Elements,
}

#[derive(Debug, Clone)]
enum Elements {
    F32(Buffer<f32>),
    F16(Buffer<f16>),
    BF16(Buffer<bf16>),
}

impl FloatMatrix {
    /// The matrix a two-dimensional tensor holds; its memory is shared.
    ///
    /// Errors: [`Error::DType`] for integers or another rank.
    pub fn new(tensor: &Tensor) -> Result<Self> {
        let &[rows, cols] = tensor.dims() else {
            return Err(Error::DType { expected: "a matrix", got: tensor.dtype() });
        };
        let elements = match tensor.dtype() {
            DType::F32 => Elements::F32(tensor.data().typed()),
            DType::F16 => Elements::F16(tensor.data().typed()),
            DType::BF16 => Elements::BF16(tensor.data().typed()),
            got => return Err(Error::DType { expected: "a floating-point type", got }),
        };
        Ok(Self { rows, cols, elements })
    }

    /// Number of rows (outputs, or tokens of a vocabulary).
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Number of columns (inputs).
    pub fn cols(&self) -> usize {
        self.cols
    }

    /// Size of the elements in bytes.
    pub fn size_bytes(&self) -> usize {
        match &self.elements {
            Elements::F32(elements) => size_of_val(&**elements),
            Elements::F16(elements) => size_of_val(&**elements),
            Elements::BF16(elements) => size_of_val(&**elements),
        }
    }

    /// The elements as they are stored, row after row, sharing the memory.
    pub fn stored(&self) -> (DType, Buffer) {
        match &self.elements {
            Elements::F32(elements) => (DType::F32, elements.bytes()),
            Elements::F16(elements) => (DType::F16, elements.bytes()),
            Elements::BF16(elements) => (DType::BF16, elements.bytes()),
        }
    }

    /// Widens row `row` into `out` (`cols` elements).
    pub fn read_row(&self, row: usize, out: &mut [f32]) {
        fn widen<W: Weight>(row: &[W], out: &mut [f32]) {
            for (out, w) in out.iter_mut().zip(row) {
                *out = w.widen();
            }
        }
        let range = row * self.cols..(row + 1) * self.cols;
        match &self.elements {
            Elements::F32(elements) => widen(&elements[range], out),
            Elements::F16(elements) => widen(&elements[range], out),
            Elements::BF16(elements) => widen(&elements[range], out),
        }
    }

    /// Says that `rows` will not be read for a while: see [`Buffer::release`].
    pub fn release_rows(&self, rows: std::ops::Range<usize>) {
        let range = rows.start * self.cols..rows.end * self.cols;
        match &self.elements {
            Elements::F32(elements) => elements.slice(range).release(),
            Elements::F16(elements) => elements.slice(range).release(),
            Elements::BF16(elements) => elements.slice(range).release(),
        }
    }

    /// `sum_c W[row, c] x[c]`, the same bits as [`Self::matmul`] gives.
    pub fn row_dot(&self, kernels: &FloatKernels, row: usize, x: &[f32]) -> f32 {
        let range = row * self.cols..(row + 1) * self.cols;
        match &self.elements {
            Elements::F32(w) => kernels.dot_f32(&w[range], x),
            Elements::F16(w) => kernels.dot_f16(&w[range], x),
            Elements::BF16(w) => kernels.dot_bf16(&w[range], x),
        }
    }

    /// `out[t, r] = sum_c W[r, c] x[t, c]`: `x` is `[tokens, cols]`, `out` is `[tokens, rows]`.
    pub fn matmul(&self, pool: &ThreadPool, kernels: &FloatKernels, x: &[f32], out: &mut [f32]) {
        match &self.elements {
            Elements::F32(w) => self.matmul_with(pool, w, x, out, |w, x| kernels.dot_f32(w, x)),
            Elements::F16(w) => self.matmul_with(pool, w, x, out, |w, x| kernels.dot_f16(w, x)),
            Elements::BF16(w) => self.matmul_with(pool, w, x, out, |w, x| kernels.dot_bf16(w, x)),
        }
    }

    #[expect(unsafe_code, reason = "threads write disjoint outputs")]
    fn matmul_with<W: Weight>(
        &self,
        pool: &ThreadPool,
        w: &[W],
        x: &[f32],
        out: &mut [f32],
        dot: impl Fn(&[W], &[f32]) -> f32 + Sync,
    ) {
        assert_eq!(x.len() / self.cols * self.rows, out.len(), "x is [tokens, cols], out is [tokens, rows]");
        let out = DisjointSlice::new(out);
        pool.split(self.rows, 16, |rows| {
            for row in rows {
                let w = &w[row * self.cols..(row + 1) * self.cols];
                for (token, x) in x.chunks_exact(self.cols).enumerate() {
                    // SAFETY: column `row` of the output belongs to the thread that has the row.
                    unsafe { out.write(token * self.rows + row, dot(w, x)) };
                }
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Isa;

    #[test]
    fn matmul_and_rows_agree_with_the_definition_in_every_type() {
        let w = [1.0_f32, -2.0, 0.5, 4.0, 0.0, -1.0];
        let x = [1.0_f32, 2.0, 3.0, -1.0, 0.0, 2.0];
        let expected = [-1.5, 1.0, 0.0, -6.0];
        let store = |bytes: &[u8], dtype| {
            FloatMatrix::new(&Tensor::new(dtype, [2, 3], Buffer::from_owner(bytes.to_vec())).unwrap())
                .unwrap()
        };
        let matrices = [
            store(bytemuck::cast_slice(&w), DType::F32),
            store(bytemuck::cast_slice(&w.map(f16::from_f32)), DType::F16),
            store(bytemuck::cast_slice(&w.map(bf16::from_f32)), DType::BF16),
        ];
        let pool = ThreadPool::new(2).unwrap();
        for matrix in matrices {
            let mut out = [0.0; 4];
            matrix.matmul(&pool, &FloatKernels::new(Isa::Scalar).unwrap(), &x, &mut out);
            assert_eq!(out, expected);
            let kernels = FloatKernels::new(Isa::Scalar).unwrap();
            matrix.release_rows(0..1);
            let (dtype, bytes) = matrix.stored();
            assert_eq!(bytes.len(), w.len() * dtype.size_bytes());
            assert_eq!(matrix.row_dot(&kernels, 1, &x[3..]), expected[3]);
            let mut row = [0.0; 3];
            matrix.read_row(1, &mut row);
            assert_eq!(row, [4.0, 0.0, -1.0]);
        }
    }

    #[test]
    fn integers_and_vectors_are_refused() {
        let codes = Tensor::new(DType::U8, [1, 1], vec![0_u8].into()).unwrap();
        assert!(FloatMatrix::new(&codes).is_err());
    }
}
