//! From tokens to a loss, or to logits.

use std::sync::Arc;

use bitnet_core::tensor::lent_threads;
use bitnet_core::{FloatKernels, FloatMatrix, Isa, Tensor};
use bitnet_inference::ModelConfig;
use bitnet_inference::rope::RopeTable;

use super::Block;
use super::block::{Heads, Pass};
use crate::autograd::{Estimator, Segments, linear_cross_entropy, no_grad, uncleared};
use crate::nn::{Embedding, Linear, Module, Parameter, RmsNorm};
use crate::{Error, Result, Variable};

/// A decoder-only transformer, with ternary linears or ordinary ones.
#[derive(Debug, Clone)]
pub struct Decoder {
    pub(super) config: ModelConfig,
    pub(super) embedding: Embedding,
    pub(super) blocks: Vec<Block>,
    pub(super) norm: RmsNorm,
    /// None where the head is the embedding.
    pub(super) head: Option<Linear>,
    pub(super) rope: Arc<RopeTable>,
}

/// What a forward pass has in front of the head.
#[derive(Debug)]
pub struct States {
    /// What the head multiplies, `[tokens, hidden_size]`.
    pub hidden: Variable,
    /// The heads of the layer that was asked for.
    pub heads: Option<Heads>,
}

impl Decoder {
    /// What the checkpoint says of the model.
    pub fn config(&self) -> &ModelConfig {
        &self.config
    }

    /// The blocks, first to last.
    pub fn blocks(&self) -> &[Block] {
        &self.blocks
    }

    /// Mean negative log-likelihood of `targets`, in nats, over those that are not [`crate::autograd::IGNORED`].
    ///
    /// `tokens` are documents that lie one behind the other, as `segments` says, with a target for each.
    ///
    /// Errors: [`Error::Token`], [`Error::Shape`], [`Error::NoTargets`], [`Error::InvalidOption`] for a document beyond the
    /// context.
    pub fn loss(
        &self,
        tokens: &[u32],
        targets: &[u32],
        segments: &Segments,
        estimator: Estimator,
    ) -> Result<Variable> {
        let hidden = self.hidden(tokens, segments, estimator)?;
        linear_cross_entropy(&hidden, self.head().variable(), targets)
    }

    /// Logits of all tokens, `[tokens, vocabulary]`, without notes for gradients: those of inference, bit for bit.
    ///
    /// Errors: as [`Self::loss`].
    pub fn logits(&self, tokens: &[u32], segments: &Segments) -> Result<Tensor> {
        let hidden = no_grad(|| self.hidden(tokens, segments, Estimator::Plain))?.value();
        let head = FloatMatrix::new(&self.head().variable().value().contiguous()?)?;
        let mut logits = uncleared(tokens.len() * head.rows())?;
        let (pool, kernels) = (lent_threads()?, FloatKernels::new(Isa::selected()?)?);
        head.matmul(&pool, &kernels, &hidden.contiguous()?.data().typed(), &mut logits);
        Ok(Tensor::from_pool(logits, [tokens.len(), head.rows()])?)
    }

    /// What the head multiplies, `[tokens, hidden_size]`. Errors: as [`Self::loss`].
    pub fn hidden(&self, tokens: &[u32], segments: &Segments, estimator: Estimator) -> Result<Variable> {
        Ok(self.states(tokens, segments, estimator, None)?.hidden)
    }

    /// The same, with the heads of a layer. Errors: as [`Self::loss`].
    pub fn states(
        &self,
        tokens: &[u32],
        segments: &Segments,
        estimator: Estimator,
        layer: Option<usize>,
    ) -> Result<States> {
        if tokens.len() != segments.tokens() {
            let (expected, got) = ([segments.tokens()].into(), [tokens.len()].into());
            return Err(Error::Shape { what: "tokens".to_owned(), expected, got });
        }
        let (mut x, mut of_layer) = (self.embedding.forward(tokens)?, None);
        for (index, block) in self.blocks.iter().enumerate() {
            let (y, heads) = block.forward(&x, Pass { segments, rope: &self.rope, estimator })?;
            x = y;
            if layer == Some(index) {
                of_layer = Some(heads);
            }
        }
        Ok(States { hidden: self.norm.forward(&x)?, heads: of_layer })
    }

    /// The weights of the head: the embedding where it is tied.
    pub fn head(&self) -> &Parameter {
        self.head.as_ref().map_or(&self.embedding.weight, |head| &head.weight)
    }
}

impl Module for Decoder {
    /// Those that are trained: where adapters are, they alone.
    fn parameters(&self) -> Vec<Parameter> {
        let mut parameters = self.embedding.parameters();
        parameters.extend(self.blocks.iter().flat_map(Module::parameters));
        parameters.extend(self.norm.parameters());
        parameters.extend(self.head.parameters());
        parameters.retain(|parameter| parameter.variable().wants_gradient());
        parameters
    }
}
