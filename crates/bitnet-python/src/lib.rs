//! The bridge to Python: conversion and errors, no maths. `python/bitnet_rust` re-exports what is here.
#![allow(clippy::doc_markdown, reason = "the comments become docstrings, which are plain text")]

mod array;
mod backend;
mod byte_size;
mod config;
mod convert;
mod engine;
mod error;
mod generate_options;
mod generation;
mod ids;
mod memory;
mod model;
mod model_cache;
mod model_part;
mod nn;
mod optim;
mod prompt;
mod quantize;
mod sampling;
mod stream;
mod tensor;
mod testing;
mod tokenizer;
mod train;

use std::ffi::OsString;

use pyo3::prelude::*;
use pyo3::types::PyTuple;

/// Runs the `bitnet` command with `args`, the program's name first, and returns the exit status.
#[pyfunction]
fn run_cli(py: Python<'_>, args: Vec<OsString>) -> u8 {
    py.detach(|| bitnet_cli::main(args))
}

/// The native part of `bitnet_rust`.
#[pymodule]
fn _native(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add("__version__", env!("CARGO_PKG_VERSION"))?;
    module.add_class::<model::Model>()?;
    module.add_class::<model_cache::ModelCache>()?;
    module.add_class::<model_part::ModelPart>()?;
    module.add_class::<config::ModelConfig>()?;
    module.add_class::<tokenizer::Tokenizer>()?;
    module.add_class::<generation::Generation>()?;
    module.add_class::<generation::Timings>()?;
    module.add_class::<generation::Chunk>()?;
    module.add_class::<generation::Logprobs>()?;
    module.add_class::<stream::Stream>()?;
    module.add_class::<engine::Engine>()?;
    module.add_class::<engine::GenerationFuture>()?;
    module.add_class::<engine::EngineStats>()?;
    module.add_class::<engine::RequestStats>()?;
    module.add_class::<engine::PhaseStats>()?;
    module.add_class::<engine::BatchStats>()?;
    module.add_class::<engine::KvPageStats>()?;
    module.add_class::<engine::PrefixCacheStats>()?;
    module.add_class::<engine::SpeculationStats>()?;
    module.add_class::<engine::Distribution>()?;
    module.add_class::<memory::MemoryStats>()?;
    module.add_class::<backend::PyWork>()?;
    module.add_class::<quantize::TernaryMatrix>()?;
    module.add_class::<tensor::Tensor>()?;
    module.add_class::<nn::Parameter>()?;
    module.add_class::<optim::Optimizer>()?;
    module.add_class::<optim::AdamW>()?;
    module.add_class::<optim::Sgd>()?;
    module.add_class::<optim::Schedule>()?;
    module.add_class::<optim::Recipe>()?;
    module.add_class::<train::TrainStep>()?;
    module.add_class::<train::TrainResult>()?;
    module.add_class::<quantize::IntMatrix>()?;
    module.add_class::<quantize::ErrorMetrics>()?;
    module.add_class::<quantize::Statistics>()?;
    module.add_class::<quantize::Recommendation>()?;
    module.add_class::<quantize::QuantizationReport>()?;
    module.add_class::<quantize::LayerReport>()?;
    module.add("FORMATS", PyTuple::new(module.py(), quantize::formats())?)?;
    module.add_function(wrap_pyfunction!(model::load, module)?)?;
    module.add_function(wrap_pyfunction!(convert::convert, module)?)?;
    module.add_function(wrap_pyfunction!(convert::merge, module)?)?;
    module.add_function(wrap_pyfunction!(convert::verify, module)?)?;
    module.add_function(wrap_pyfunction!(memory::memory_stats, module)?)?;
    module.add_function(wrap_pyfunction!(memory::memory_trim, module)?)?;
    module.add_function(wrap_pyfunction!(quantize::quantize_weights, module)?)?;
    module.add_function(wrap_pyfunction!(quantize::quantize_activations, module)?)?;
    module.add_function(wrap_pyfunction!(quantize::quantize_int, module)?)?;
    module.add_function(wrap_pyfunction!(quantize::pack, module)?)?;
    module.add_function(wrap_pyfunction!(quantize::unpack, module)?)?;
    module.add_function(wrap_pyfunction!(quantize::packed_size, module)?)?;
    module.add_function(wrap_pyfunction!(quantize::measure_error, module)?)?;
    module.add_function(wrap_pyfunction!(quantize::recommend, module)?)?;
    module.add_function(wrap_pyfunction!(quantize::report, module)?)?;
    module.add_function(wrap_pyfunction!(tensor::set_recording, module)?)?;
    module.add_function(wrap_pyfunction!(nn::manual_seed, module)?)?;
    module.add_function(wrap_pyfunction!(nn::new_linear, module)?)?;
    module.add_function(wrap_pyfunction!(nn::new_embedding, module)?)?;
    module.add_function(wrap_pyfunction!(nn::new_rms_norm, module)?)?;
    module.add_function(wrap_pyfunction!(nn::bit_linear, module)?)?;
    module.add_function(wrap_pyfunction!(nn::embedding, module)?)?;
    module.add_function(wrap_pyfunction!(nn::cross_entropy, module)?)?;
    module.add_function(wrap_pyfunction!(nn::linear_cross_entropy, module)?)?;
    module.add_function(wrap_pyfunction!(nn::relu2, module)?)?;
    module.add_function(wrap_pyfunction!(nn::gelu, module)?)?;
    module.add_function(wrap_pyfunction!(nn::rope, module)?)?;
    module.add_function(wrap_pyfunction!(nn::attention, module)?)?;
    module.add_function(wrap_pyfunction!(optim::clip_grad_norm, module)?)?;
    module.add_function(wrap_pyfunction!(train::train, module)?)?;
    module.add_function(wrap_pyfunction!(testing::backend_violations, module)?)?;
    module.add_function(wrap_pyfunction!(testing::greedy_tokens, module)?)?;
    module.add_function(wrap_pyfunction!(run_cli, module)?)?;
    let stop_notifiers = wrap_pyfunction!(engine::stop_notifiers, module)?;
    module.py().import("atexit")?.call_method1("register", (stop_notifiers,))?;
    Ok(())
}
