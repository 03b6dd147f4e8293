//! Runs BitNet b1.58 models: checkpoint -> model -> backend -> tokens -> text.
//!
//! ```
//! use bitnet_inference::{LoadedModel, LoadOptions, GenerateOptions};
//!
//! let model = LoadedModel::embedded(&LoadOptions::default())?;
//! let options = GenerateOptions { max_tokens: 8, ..GenerateOptions::default() };
//! let generation = model.generate("My fellow citizens, today we", &options)?;
//! assert!(!generation.text.is_empty());
//! # Ok::<(), bitnet_inference::Error>(())
//! ```

pub mod activation;
pub mod architecture;
pub mod atomic_file;
pub mod atomic_folder;
pub mod backend;
mod chat;
pub mod checkpoint;
pub mod config;
pub mod conversation;
pub mod convert;
mod detokenize;
pub mod drawing;
mod embed;
pub mod engine;
pub mod error;
mod generate;
#[cfg(feature = "hub")]
pub mod hub;
mod loaded_model;
pub mod model;
mod model_cache;
pub mod module_patterns;
pub mod monitor;
mod perplexity;
pub mod report;
pub mod rope;
mod sample;
mod source;
pub mod speculation;
mod stop_strings;
mod summary;
mod tokenizer;
pub mod verify;

pub use chat::{ChatTemplate, Message};
pub use checkpoint::{Checkpoint, GgufOptions};
pub use config::ModelConfig;
pub use conversation::Conversation;
pub use embed::{EmbedOptions, Pooling};
pub use engine::{EngineOptions, InferenceEngine, Request};
pub use error::{Error, Result};
pub use generate::{Chunk, FinishReason, GenerateOptions, Generation, Prompt, Step, Timings, TokenStream};
pub use loaded_model::{LoadOptions, LoadedModel};
pub use model::Model;
pub use model_cache::{ModelCache, ModelCacheStats};
pub use monitor::PerformanceMonitor;
pub use perplexity::Perplexity;
pub use sample::{
    Constraint, ConstraintSpec, DryOptions, Logprobs, MirostatOptions, Sampled, Sampler, SamplingOptions,
};
pub use speculation::Speculation;
pub use summary::Summary;
pub use tokenizer::Tokenizer;
