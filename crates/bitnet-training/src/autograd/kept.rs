//! What notes keep for the backward pass, and in which type.

use std::cell::Cell;

use bitnet_core::{Buffer, DType, Tensor};

use super::floats::elements;
use super::variable::is_recording;
use crate::Result;
use crate::named::named;

/// How the values are stored that an operation keeps for its gradient.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum NoteFormat {
    /// As they were computed.
    #[default]
    Float32,
    /// Rounded to bfloat16, half of the memory: a gradient is that of values which differ by up to 2^-9 of themselves.
    /// What is multiplied and added stays float32, and the forward pass knows nothing of it.
    BFloat16,
}

impl NoteFormat {
    /// Every format.
    pub const ALL: [Self; 2] = [Self::Float32, Self::BFloat16];

    /// Name on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::Float32 => "f32",
            Self::BFloat16 => "bf16",
        }
    }
}

named!(NoteFormat, "activation-dtype", "f32 or bf16");

thread_local! {
    static FORMAT: Cell<NoteFormat> = const { Cell::new(NoteFormat::Float32) };
}

/// Runs `work` with notes in a format.
pub fn with_notes<R>(format: NoteFormat, work: impl FnOnce() -> R) -> R {
    /// Puts back what was before, also when the closure panics.
    struct Restore(NoteFormat);
    impl Drop for Restore {
        fn drop(&mut self) {
            FORMAT.set(self.0);
        }
    }
    let _restore = Restore(FORMAT.replace(format));
    work()
}

/// A value that waits for the backward pass.
#[derive(Debug)]
pub(super) struct Kept(Tensor);

impl Kept {
    pub(super) fn new(value: &Tensor) -> Result<Self> {
        match FORMAT.get() {
            NoteFormat::BFloat16 if is_recording() => Ok(Self(value.to_dtype(DType::BF16)?)),
            NoteFormat::BFloat16 | NoteFormat::Float32 => Ok(Self(value.clone())),
        }
    }

    /// The elements, row-major, in float32.
    pub(super) fn elements(&self) -> Result<Buffer<f32>> {
        elements(&self.0.to_dtype(DType::F32)?)
    }
}

#[cfg(test)]
mod tests {
    use bitnet_inference::activation::Activation;

    use super::super::check::wave;
    use super::super::{Segments, Variable, attention, gate, no_grad, rms_norm};
    use super::*;

    fn leaf(dims: &[usize], seed: f64) -> Variable {
        let values: Vec<f32> = wave(dims.iter().product(), seed).iter().map(|&x| x as f32).collect();
        Variable::leaf(Tensor::from_vec(values, dims).unwrap()).unwrap()
    }

    /// The value of all operations that keep something, and the gradients of what goes in.
    fn run(format: NoteFormat) -> (Vec<f32>, [Vec<f32>; 5]) {
        let heads = [12, 2, 8];
        let inputs = [(0.3, &heads[..]), (1.4, &heads), (2.2, &heads), (0.7, &[16]), (3.1, &[12, 16])];
        let inputs = inputs.map(|(seed, dims)| leaf(dims, seed));
        let [q, k, v, w, up] = &inputs;
        let value = with_notes(format, || {
            let attended = attention(q, k, v, &Segments::new([5, 7]).unwrap(), 0.4).unwrap();
            let normed = rms_norm(&attended.reshape([12, 16]).unwrap(), w, 1e-5).unwrap();
            gate(Activation::Relu2, &normed, up).unwrap()
        });
        value.sum(None, false).unwrap().backward().unwrap();
        (value.value().to_vec().unwrap(), inputs.map(|input| input.gradient().unwrap().to_vec().unwrap()))
    }

    #[test]
    fn bfloat16_changes_gradients_a_little_and_values_not_at_all() {
        let (value, exact) = run(NoteFormat::Float32);
        let (value_of_half, rounded) = run(NoteFormat::BFloat16);
        assert_eq!(value_of_half, value);
        for (exact, rounded) in exact.iter().zip(&rounded) {
            let norm = |x: &mut dyn Iterator<Item = f32>| x.map(|x| f64::from(x).powi(2)).sum::<f64>().sqrt();
            let error =
                norm(&mut exact.iter().zip(rounded).map(|(a, b)| a - b)) / norm(&mut exact.iter().copied());
            assert!(error > 1e-5 && error < 1e-2, "{error}");
        }
    }

    #[test]
    fn what_is_kept_takes_half_where_there_is_a_backward_pass() {
        let value = leaf(&[100], 0.1).value();
        let bytes = || Kept::new(&value).unwrap().0.data().len();
        assert_eq!(bytes(), 400);
        assert_eq!(with_notes(NoteFormat::BFloat16, bytes), 200);
        assert_eq!(with_notes(NoteFormat::BFloat16, || no_grad(bytes)), 400);
        assert_eq!("bf16".parse::<NoteFormat>().unwrap(), NoteFormat::BFloat16);
        assert!("f16".parse::<NoteFormat>().is_err());
    }
}
