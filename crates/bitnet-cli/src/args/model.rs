//! Which model, and how it runs.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use bitnet_core::Device;
use bitnet_inference::backend::KvType;
use bitnet_inference::backend::cpu::CpuOptions;
use bitnet_inference::config::ActivationMode;
use bitnet_inference::{GgufOptions, LoadOptions, LoadedModel};
use bitnet_quant::Packing;
use clap::Args as ClapArgs;
use clap::builder::NonEmptyStringValueParser;

use super::values::count;
use crate::failure::Failure;
use crate::interrupt;

/// The model and where it runs.
#[derive(Debug, Clone, ClapArgs)]
pub(crate) struct ModelArgs {
    /// A folder, a GGUF file, or a hub id like microsoft/bitnet-b1.58-2B-4T; without one the embedded bitnet-tiny
    #[arg(value_parser = NonEmptyStringValueParser::new())]
    model: Option<String>,
    /// Number of threads [default: the physical cores this process may use]
    #[arg(long, value_name = "N", value_parser = count, allow_negative_numbers = true)]
    threads: Option<usize>,
    /// Where to run: auto, cpu or metal
    #[arg(long, value_name = "DEVICE", default_value = "auto")]
    device: Device,
    #[command(flatten)]
    cpu: CpuArgs,
    #[command(flatten)]
    gguf: GgufArgs,
    #[command(flatten)]
    activations: ActivationArgs,
    #[command(flatten)]
    adapter: AdapterArgs,
}

/// What is added to the linears.
#[derive(Debug, Clone, Default, ClapArgs)]
pub(crate) struct AdapterArgs {
    #[arg(
        long = "adapter",
        value_name = "DIR",
        help = "Folder of an adapter to run beside the model: adapter_config.json and adapter_model.safetensors"
    )]
    pub(crate) path: Option<PathBuf>,
}

/// What ternary linears multiply.
#[derive(Debug, Clone, Copy, Default, ClapArgs)]
pub(crate) struct ActivationArgs {
    /// What ternary weights multiply: int8 or float [default: what the checkpoint says, see `bitnet inspect`]
    #[arg(long = "activations", value_name = "MODE")]
    pub(crate) mode: Option<ActivationMode>,
}

/// What a GGUF file leaves open.
#[derive(Debug, Clone, Default, ClapArgs)]
pub(crate) struct GgufArgs {
    #[arg(
        long = "gguf",
        value_name = "WHAT",
        default_value = "",
        hide_default_value = true,
        help = "Decide what a GGUF file leaves open: activation=relu2|silu|gelu, i2_s=128|64, pre=NAME, with commas"
    )]
    pub(crate) options: GgufOptions,
}

/// How a model runs on the CPU.
#[derive(Debug, Clone, Copy, ClapArgs)]
pub(crate) struct CpuArgs {
    /// How keys and values are stored: f32 loses nothing, f16 and int8 take less memory
    #[arg(long, value_name = "TYPE", default_value = "f32")]
    kv_cache: KvType,
    /// How ternary weights are packed: bits2 or base3 [default: the faster one, measured]
    #[arg(long, value_name = "PACKING")]
    packing: Option<Packing>,
}

impl CpuArgs {
    pub(crate) fn options(self) -> CpuOptions {
        CpuOptions { isa: None, packing: self.packing, kv_cache: self.kv_cache }
    }
}

impl ModelArgs {
    /// The model, as it was named.
    pub(crate) fn name(&self) -> Option<&str> {
        self.model.as_deref()
    }

    /// The folder of its adapter.
    pub(crate) fn adapter(&self) -> Option<&Path> {
        self.adapter.path.as_deref()
    }

    /// How keys and values are stored.
    pub(crate) fn kv_type(&self) -> KvType {
        self.cpu.kv_cache
    }

    /// Another model, to run beside this one.
    pub(crate) fn beside(&self, model: String) -> Self {
        Self {
            model: Some(model),
            threads: self.threads,
            device: self.device,
            cpu: self.cpu,
            gguf: GgufArgs::default(),
            activations: ActivationArgs::default(),
            adapter: AdapterArgs::default(),
        }
    }

    /// Loads the model, unless Ctrl-C comes first.
    pub(crate) fn load(self) -> Result<Arc<LoadedModel>, Failure> {
        let options = LoadOptions {
            device: self.device,
            threads: self.threads,
            cpu: self.cpu.options(),
            gguf: self.gguf.options,
            activations: self.activations.mode,
            adapter: self.adapter.path,
        };
        interrupt::or_done(move || Ok(LoadedModel::load(self.model.as_deref(), &options)?))
    }
}
