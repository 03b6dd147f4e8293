//! The nonlinearities of feed-forward networks.

/// The nonlinearity of the gated feed-forward network.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Activation {
    /// `relu(x)^2`
    Relu2,
    /// `x / (1 + exp(-x))`
    Silu,
    /// `x (1 + erf(x / sqrt 2)) / 2`
    Gelu,
    /// `x (1 + tanh(sqrt(2 / pi) (x + 0.044715 x^3))) / 2`
    GeluTanh,
}

impl Activation {
    /// Every nonlinearity.
    pub const ALL: [Self; 4] = [Self::Relu2, Self::Silu, Self::Gelu, Self::GeluTanh];

    /// Name in `hidden_act`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Relu2 => "relu2",
            Self::Silu => "silu",
            Self::Gelu => "gelu",
            Self::GeluTanh => "gelu_pytorch_tanh",
        }
    }
}
