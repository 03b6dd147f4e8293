//! Tensors: a data type, a shape and shared memory.

use half::{bf16, f16};

use crate::{Buffer, DType, Error, Result, Shape};

/// A contiguous, immutable tensor in row-major order, as a checkpoint stores it.
#[derive(Debug, Clone)]
pub struct Tensor {
    dtype: DType,
    shape: Shape,
    data: Buffer,
}

impl Tensor {
    /// A tensor over `data`, which is shared, not copied.
    ///
    /// Errors: [`Error::ByteLength`] when the bytes are not `elements x size` of the type, [`Error::ShapeOverflow`].
    pub fn new(dtype: DType, shape: impl Into<Shape>, data: Buffer) -> Result<Self> {
        let shape = shape.into();
        let expected = shape
            .elements()?
            .checked_mul(dtype.size_bytes())
            .ok_or_else(|| Error::ShapeOverflow(shape.clone()))?;
        if data.len() != expected {
            return Err(Error::ByteLength { dtype, shape, expected, got: data.len() });
        }
        Ok(Self { dtype, shape, data })
    }

    /// Element type.
    pub fn dtype(&self) -> DType {
        self.dtype
    }

    /// Dimensions.
    pub fn dims(&self) -> &[usize] {
        self.shape.dims()
    }

    /// The bytes, row-major, little-endian.
    pub fn data(&self) -> &Buffer {
        &self.data
    }

    /// The elements widened to float32, from any floating-point type that is not wider.
    ///
    /// Errors: [`Error::DType`] for integers and float64.
    pub fn to_f32(&self) -> Result<Vec<f32>> {
        Ok(match self.dtype {
            DType::F32 => self.data.typed::<f32>().to_vec(),
            DType::F16 => self.data.typed::<f16>().iter().map(|x| x.to_f32()).collect(),
            DType::BF16 => self.data.typed::<bf16>().iter().map(|x| x.to_f32()).collect(),
            got => return Err(Error::DType { expected: "floats of at most 32 bits", got }),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes<T: bytemuck::Pod>(values: &[T]) -> Buffer {
        Buffer::from_owner(bytemuck::cast_slice::<T, u8>(values).to_vec())
    }

    #[test]
    fn every_float_type_widens_exactly() {
        let values = [0.5_f32, -2.0, 1.5];
        let halves = values.map(f16::from_f32);
        let brains = values.map(bf16::from_f32);
        for (dtype, data) in
            [(DType::F32, bytes(&values)), (DType::F16, bytes(&halves)), (DType::BF16, bytes(&brains))]
        {
            assert_eq!(Tensor::new(dtype, [3], data).unwrap().to_f32().unwrap(), values);
        }
    }

    #[test]
    fn a_length_that_contradicts_the_shape_is_refused() {
        let error = Tensor::new(DType::F32, [2, 2], bytes(&[1.0_f32])).unwrap_err();
        assert_eq!(error.to_string(), "a f32 tensor of shape [2, 2] takes 16 bytes, not 4");
    }

    #[test]
    fn integers_are_not_widened() {
        let codes = Tensor::new(DType::U8, [1], bytes(&[1_u8])).unwrap();
        assert_eq!(
            codes.to_f32().unwrap_err().to_string(),
            "expected floats of at most 32 bits, the tensor is u8"
        );
    }
}
