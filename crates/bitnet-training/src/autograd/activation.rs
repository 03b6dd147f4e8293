//! Nonlinearities of feed-forward networks, alone and as gates.

use std::f32::consts::{FRAC_1_SQRT_2, FRAC_2_PI, PI};

use bitnet_inference::activation::{Activation, gelu, gelu_tanh, relu2, silu};

use super::Variable;
use super::elementwise::wanted;
use super::floats::{Compute, by_elements, elements};
use super::kept::Kept;
use crate::{Error, Result};

/// A nonlinearity and its derivative.
trait Function {
    fn value(x: f32) -> f32;
    fn slope(x: f32) -> f32;
}

struct Relu2;
struct Silu;
struct Gelu;
struct GeluTanh;

impl Function for Relu2 {
    fn value(x: f32) -> f32 {
        relu2(x)
    }
    fn slope(x: f32) -> f32 {
        2.0 * x.max(0.0)
    }
}

impl Function for Silu {
    fn value(x: f32) -> f32 {
        silu(x)
    }
    fn slope(x: f32) -> f32 {
        let sigmoid = 1.0 / (1.0 + (-x).exp());
        sigmoid * (1.0 + x * (1.0 - sigmoid))
    }
}

impl Function for Gelu {
    fn value(x: f32) -> f32 {
        gelu(x)
    }
    /// The normal distribution up to `x`, and `x` times its density.
    fn slope(x: f32) -> f32 {
        0.5 * (1.0 + libm::erff(x * FRAC_1_SQRT_2)) + x * (-0.5 * x * x).exp() / (2.0 * PI).sqrt()
    }
}

impl Function for GeluTanh {
    fn value(x: f32) -> f32 {
        gelu_tanh(x)
    }
    fn slope(x: f32) -> f32 {
        let (root, cubic) = (FRAC_2_PI.sqrt(), 0.044_715);
        let tanh = libm::tanhf(root * (x + cubic * (x * x * x)));
        0.5 * (1.0 + tanh) + 0.5 * x * (1.0 - tanh * tanh) * root * (1.0 + 3.0 * cubic * x * x)
    }
}

/// Evaluates an expression with `$function` standing for the type of an [`Activation`].
macro_rules! dispatch {
    ($activation:expr, $function:ident => $body:expr) => {
        match $activation {
            Activation::Relu2 => dispatch!(@as Relu2, $function => $body),
            Activation::Silu => dispatch!(@as Silu, $function => $body),
            Activation::Gelu => dispatch!(@as Gelu, $function => $body),
            Activation::GeluTanh => dispatch!(@as GeluTanh, $function => $body),
        }
    };
    (@as $type:ty, $function:ident => $body:expr) => {{
        type $function = $type;
        $body
    }};
}

impl Variable {
    /// `act(x)`, as inference computes it.
    pub fn activated(&self, activation: Activation) -> Result<Self> {
        let value = self.value();
        let (shape, x) = (value.shape().clone(), elements(&value)?);
        let y = by_elements(&Compute::new()?, &shape, |start, out| {
            dispatch!(activation, F => zip(out, &x[start..], &x[start..], |x, _| F::value(x)));
        })?;
        Ok(Self::result(y, [self], move |dy, _| {
            let dy = elements(&dy)?;
            let dx = by_elements(&Compute::new()?, &shape, |start, out| {
                dispatch!(activation, F => zip(out, &x[start..], &dy[start..], |x, dy| dy * F::slope(x)));
            })?;
            Ok([Some(dx)])
        }))
    }
}

/// `y = act(gate) up`, element by element, as inference computes it.
///
/// `dgate = dy up act'(gate)`, `dup = dy act(gate)`.
///
/// Errors: [`Error::Shape`] when the shapes differ.
pub fn gate(activation: Activation, gate: &Variable, up: &Variable) -> Result<Variable> {
    let (g, u) = (gate.value(), up.value());
    if g.dims() != u.dims() {
        let (expected, got) = (g.shape().clone(), u.shape().clone());
        return Err(Error::Shape { what: "a gated branch".to_owned(), expected, got });
    }
    let shape = g.shape().clone();
    let kept = [Kept::new(&g)?, Kept::new(&u)?];
    let (g, u) = (elements(&g)?, elements(&u)?);
    let y = by_elements(&Compute::new()?, &shape, |start, out| {
        dispatch!(activation, F => zip(out, &g[start..], &u[start..], |g, u| F::value(g) * u));
    })?;
    Ok(Variable::result(y, [gate, up], move |dy, [wants_gate, wants_up]| {
        let (compute, dy) = (Compute::new()?, elements(&dy)?);
        let [g, u] = [kept[0].elements()?, kept[1].elements()?];
        let dgate = wanted(wants_gate, || {
            by_elements(&compute, &shape, |start, out| {
                dispatch!(activation, F => zip(out, &g[start..], &u[start..], |g, u| F::slope(g) * u));
                out.iter_mut().zip(&dy[start..]).for_each(|(out, dy)| *out *= dy);
            })
        })?;
        let dup = wanted(wants_up, || {
            by_elements(&compute, &shape, |start, out| {
                dispatch!(activation, F => zip(out, &g[start..], &dy[start..], |g, dy| F::value(g) * dy));
            })
        })?;
        Ok([dgate, dup])
    }))
}

fn zip(out: &mut [f32], a: &[f32], b: &[f32], f: impl Fn(f32, f32) -> f32) {
    out.iter_mut().zip(a).zip(b).for_each(|((out, a), b)| *out = f(*a, *b));
}

#[cfg(test)]
mod tests {
    use super::super::check::{check, wave};
    use super::*;

    fn exact(activation: Activation, x: f64) -> f64 {
        match activation {
            Activation::Relu2 => x.max(0.0).powi(2),
            Activation::Silu => x / (1.0 + (-x).exp()),
            Activation::Gelu => 0.5 * x * (1.0 + libm::erf(x / 2.0_f64.sqrt())),
            Activation::GeluTanh => {
                0.5 * x * (1.0 + ((2.0 / std::f64::consts::PI).sqrt() * (x + 0.044_715 * x.powi(3))).tanh())
            }
        }
    }

    #[test]
    fn nonlinearities_alone_and_as_gates() {
        for activation in Activation::ALL {
            let (g, u) = (wave(21, 0.4), wave(21, 1.9));
            check(
                &[(&[3, 7], g.clone())],
                |x| x[0].activated(activation),
                |x| x[0].iter().map(|&x| exact(activation, x)).collect(),
            );
            check(
                &[(&[3, 7], g), (&[3, 7], u)],
                |x| gate(activation, &x[0], &x[1]),
                |x| x[0].iter().zip(&x[1]).map(|(&g, u)| exact(activation, g) * u).collect(),
            );
        }
    }
}
