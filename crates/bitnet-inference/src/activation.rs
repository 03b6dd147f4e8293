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

/// See [`Activation::Relu2`].
pub fn relu2(x: f32) -> f32 {
    let positive = x.max(0.0);
    positive * positive
}

/// See [`Activation::Silu`].
pub fn silu(x: f32) -> f32 {
    x / (1.0 + (-x).exp())
}

/// See [`Activation::Gelu`].
pub fn gelu(x: f32) -> f32 {
    x * 0.5 * (1.0 + libm::erff(x * std::f32::consts::FRAC_1_SQRT_2))
}

/// See [`Activation::GeluTanh`].
pub fn gelu_tanh(x: f32) -> f32 {
    let inner = (2.0 / std::f32::consts::PI).sqrt() * (x + 0.044_715 * (x * x * x));
    x * 0.5 * (1.0 + libm::tanhf(inner))
}
