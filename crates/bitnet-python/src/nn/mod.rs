//! What `bitnet_rust.nn` is made of: parameters, new layers, operations that layers are.

mod functions;
mod initial;
mod parameter;

pub(crate) use self::functions::{
    attention, bit_linear, cross_entropy, embedding, gelu, linear_cross_entropy, relu2, rope,
};
pub(crate) use self::initial::{manual_seed, new_embedding, new_linear, new_rms_norm};
pub(crate) use self::parameter::Parameter;
