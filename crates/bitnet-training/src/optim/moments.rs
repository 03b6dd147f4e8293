//! What Adam keeps of a parameter.

use bitnet_core::Tensor;

use super::dynamic_code::{SIGNED, UNSIGNED};
use super::update::update;
use super::{State, state};
use crate::Result;
use crate::nn::Parameter;

/// How the moments of Adam are stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum MomentFormat {
    /// In float32: 8 bytes an element.
    #[default]
    Float32,
    /// In eight bits, in blocks of 256 elements with a scale each, where the parameter is the weight of a linear: 2.03
    /// bytes an element. Norms and embeddings keep float32, whose gradients differ most from row to row (Dettmers et
    /// al., arXiv 2110.02861, section 2.3).
    EightBit,
}

/// The moments of one parameter.
#[derive(Debug)]
pub(super) enum Moments {
    Float { first: Vec<f32>, second: Vec<f32> },
    EightBit(Vec<Block>),
}

/// Elements that share a scale. The paper has 2048; with fewer, a large element makes fewer neighbours coarse.
const BLOCK: usize = 256;

/// First and second moments of elements that lie side by side: code times scale, the largest magnitude.
#[derive(Debug, Clone)]
pub(super) struct Block {
    codes: [[u8; BLOCK]; 2],
    scales: [f32; 2],
}

const NAMES: [&str; 2] = ["first_moment", "second_moment"];
const SCALES: [&str; 2] = ["first_moment_scales", "second_moment_scales"];

impl Moments {
    /// Of 0.
    pub(super) fn new(parameter: &Parameter, format: MomentFormat) -> Self {
        let len = parameter.variable().value().len();
        if format == MomentFormat::EightBit && parameter.is_decayed() {
            return Self::EightBit(vec![Block::zeros(); len.div_ceil(BLOCK)]);
        }
        Self::Float { first: vec![0.0; len], second: vec![0.0; len] }
    }

    /// Replaces the value of a parameter by what `job(new, old, gradient, [first, second])` writes to `new`.
    pub(super) fn update(
        &mut self,
        parameter: &Parameter,
        gradient: &Tensor,
        job: impl Fn(&mut [f32], &[f32], &[f32], [&mut [f32]; 2]) + Sync,
    ) -> Result<()> {
        match self {
            Self::Float { first, second } => update(parameter, gradient, 1, [first, second], job),
            Self::EightBit(blocks) => {
                update(parameter, gradient, BLOCK, [blocks], |new, old, gradient, [blocks]| {
                    let elements = new.chunks_mut(BLOCK).zip(old.chunks(BLOCK)).zip(gradient.chunks(BLOCK));
                    for (((new, old), gradient), block) in elements.zip(blocks) {
                        let mut moments = block.decoded();
                        let len = new.len();
                        job(new, old, gradient, moments.each_mut().map(|moment| &mut moment[..len]));
                        block.encode(&moments);
                    }
                })
            }
        }
    }

    pub(super) fn write(&self, tensors: &mut State, parameter: &Parameter) -> Result<()> {
        match self {
            Self::Float { first, second } => {
                state::write(tensors, parameter, NAMES[0], first)?;
                state::write(tensors, parameter, NAMES[1], second)
            }
            Self::EightBit(blocks) => {
                for (moment, (codes, scales)) in NAMES.into_iter().zip(SCALES).enumerate() {
                    let all: Vec<u8> = blocks.iter().flat_map(|block| block.codes[moment]).collect();
                    state::write_of(tensors, parameter, codes, &[blocks.len(), BLOCK], all)?;
                    let all: Vec<f32> = blocks.iter().map(|block| block.scales[moment]).collect();
                    state::write_of(tensors, parameter, scales, &[blocks.len()], all)?;
                }
                Ok(())
            }
        }
    }

    /// The moments of a state, in the format that these have.
    pub(super) fn read(&self, tensors: &State, parameter: &Parameter) -> Result<Self> {
        match self {
            Self::Float { .. } => Ok(Self::Float {
                first: state::read(tensors, parameter, NAMES[0])?,
                second: state::read(tensors, parameter, NAMES[1])?,
            }),
            Self::EightBit(blocks) => {
                let mut read = vec![Block::zeros(); blocks.len()];
                for (moment, (codes, scales)) in NAMES.into_iter().zip(SCALES).enumerate() {
                    let codes: Vec<u8> = state::read_of(tensors, parameter, codes, &[blocks.len(), BLOCK])?;
                    let scales: Vec<f32> = state::read_of(tensors, parameter, scales, &[blocks.len()])?;
                    for ((block, codes), scale) in read.iter_mut().zip(codes.as_chunks().0).zip(scales) {
                        (block.codes[moment], block.scales[moment]) = (*codes, scale);
                    }
                }
                Ok(Self::EightBit(read))
            }
        }
    }
}

impl Block {
    fn zeros() -> Self {
        Self { codes: [[0; BLOCK]; 2], scales: [0.0; 2] }
    }

    fn decoded(&self) -> [[f32; BLOCK]; 2] {
        let (signed, unsigned) = (&*SIGNED, &*UNSIGNED);
        let [first, second] = self.scales;
        [
            self.codes[0].map(|code| signed.decode(code) * first),
            self.codes[1].map(|code| unsigned.decode(code) * second),
        ]
    }

    /// A second moment above 0 does not become 0: the step is divided by its root.
    fn encode(&mut self, [first, second]: &[[f32; BLOCK]; 2]) {
        let largest = |moment: &[f32; BLOCK]| moment.iter().fold(0.0_f32, |most, x| most.max(x.abs()));
        self.scales = [largest(first), largest(second)];
        let (signed, unsigned) = (&*SIGNED, &*UNSIGNED);
        // Of a block of zeros.
        let [of_first, of_second] = self.scales.map(|scale| if scale > 0.0 { scale } else { 1.0 });
        self.codes = [
            first.map(|x| signed.encode(x / of_first)),
            second.map(|x| unsigned.encode(x / of_second).max(u8::from(x > 0.0))),
        ];
    }
}
