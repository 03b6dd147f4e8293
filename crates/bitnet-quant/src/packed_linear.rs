//! `BitLinear` prepared for the kernels of this machine.

use bitnet_core::{FloatKernels, ThreadPool};

use crate::{BitLinear, InputNorm, Order, PackedMatrix, Packing, QuantizedActivations, Result};

/// `y = quantize(norm(x)) . W_q^T * weight_scale / activation_scale + bias`, with the weights in an [`Order`].
#[derive(Debug)]
pub struct PackedLinear {
    weight: PackedMatrix,
    bias: Option<Vec<f32>>,
    norm: Option<InputNorm>,
}

impl PackedLinear {
    /// Repacks a layer. The weights it was made from are given back to the system where they are a mapped file.
    pub fn new(pool: &ThreadPool, linear: BitLinear, order: Order, packing: Packing) -> Result<Self> {
        let (matrix, bias, norm) = linear.into_parts();
        let weight = PackedMatrix::new(pool, &matrix, order, packing)?;
        matrix.packed().release();
        Ok(Self { weight, bias, norm })
    }

    /// The weights.
    pub fn weight(&self) -> &PackedMatrix {
        &self.weight
    }

    /// One value per output, where there is a bias.
    pub fn bias(&self) -> Option<&[f32]> {
        self.bias.as_deref()
    }

    /// The norm in front of the quantization, where there is one.
    pub fn norm(&self) -> Option<&InputNorm> {
        self.norm.as_ref()
    }

    /// Normalises where the layer has a norm, then quantizes into `quantized`.
    ///
    /// Layers without a norm that share an input share the result.
    pub fn quantize_input(
        &self,
        pool: &ThreadPool,
        floats: &FloatKernels,
        x: &[f32],
        quantized: &mut QuantizedActivations,
    ) {
        match &self.norm {
            None => quantized.quantize(pool, floats, x, self.weight.cols()),
            Some(norm) => quantized.quantize_normed(pool, floats, x, &norm.weight, norm.eps),
        }
    }
}

#[cfg(test)]
mod tests {
    use bitnet_core::Isa;

    use super::*;
    use crate::{Product, TernaryKernel, TernaryMatrix, Then};

    #[test]
    fn the_norm_comes_before_the_quantization() {
        let weight = TernaryMatrix::from_codes(1, 2, &[1, 1], 2.0).unwrap();
        let norm = InputNorm { weight: vec![1.0, 3.0], eps: 0.0 };
        let layer = BitLinear::new(weight, Some(vec![0.5]), Some(norm)).unwrap();
        let pool = ThreadPool::new(1).unwrap();
        let layer = PackedLinear::new(&pool, layer, Order::Panels, Packing::Bits2).unwrap();
        let floats = FloatKernels::new(Isa::Scalar).unwrap();
        let mut quantized = QuantizedActivations::default();
        // mean square 1, so normalised [1, -3] and quantized [42, -127] at scale 127 / 3.
        layer.quantize_input(&pool, &floats, &[1.0, -1.0], &mut quantized);
        assert_eq!(quantized.codes(), [42, -127]);
        let mut out = [0.0];
        let product = Product { w: layer.weight(), bias: layer.bias(), out: &mut out, then: Then::Store };
        TernaryKernel::new(Isa::Scalar).unwrap().products(&pool, &quantized, [product]).unwrap();
        assert!((out[0] - (-85.0 * 2.0 / (127.0 / 3.0) + 0.5)).abs() < 1e-5);
    }
}
