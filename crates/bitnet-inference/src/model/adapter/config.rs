//! `adapter_config.json`.

use std::path::Path;

use serde::Deserialize;
use serde_json::{Map, Value, json};

use crate::checkpoint::map_file;
use crate::{Error, Result};

/// Name of the file.
pub(super) const CONFIG: &str = "adapter_config.json";

/// What the config of an adapter says.
#[derive(Debug, Clone, PartialEq)]
pub struct AdapterConfig {
    /// Rows of each `A`, columns of each `B`.
    pub rank: usize,
    /// Products are multiplied by `alpha / rank`.
    pub alpha: f64,
    /// By `alpha / sqrt(rank)` instead (rsLoRA, arXiv 2312.03732).
    pub is_rank_stabilized: bool,
    /// The model that it was trained beside, for who reads it.
    pub base_model: String,
}

/// The keys that matter, with the defaults of PEFT.
#[derive(Deserialize)]
struct Raw {
    peft_type: Option<String>,
    #[serde(default = "eight")]
    r: usize,
    #[serde(default = "eight_as_float")]
    lora_alpha: f64,
    base_model_name_or_path: Option<String>,
    bias: Option<String>,
    #[serde(default)]
    fan_in_fan_out: bool,
    #[serde(default)]
    use_rslora: bool,
    #[serde(default)]
    use_dora: bool,
    modules_to_save: Option<Vec<String>>,
    rank_pattern: Option<Map<String, Value>>,
    alpha_pattern: Option<Map<String, Value>>,
}

fn eight() -> usize {
    8
}

fn eight_as_float() -> f64 {
    8.0
}

impl Raw {
    /// What an adapter may have, and is not computed here.
    fn refused(&self) -> Option<String> {
        let is_some = |map: &Option<Map<String, Value>>| map.as_ref().is_some_and(|map| !map.is_empty());
        let kind = self.peft_type.as_deref().unwrap_or("none");
        let bias = self.bias.as_deref().unwrap_or("none");
        let saved = self.modules_to_save.as_deref().unwrap_or_default();
        [
            (kind != "LORA", format!("peft_type is {kind}; LORA is what runs")),
            (self.use_dora, "use_dora is true; DoRA does not run".to_owned()),
            (self.fan_in_fan_out, "fan_in_fan_out is true; the linears here are not transposed".to_owned()),
            (bias != "none", format!("bias is {bias}; trained biases do not run")),
            (
                !saved.is_empty(),
                format!("modules_to_save are {}; whole modules do not run", saved.join(", ")),
            ),
            (is_some(&self.rank_pattern), "rank_pattern has entries; one rank is what runs".to_owned()),
            (is_some(&self.alpha_pattern), "alpha_pattern has entries; one alpha is what runs".to_owned()),
            (self.r == 0, "r is 0; a rank of at least 1 is needed".to_owned()),
            (!self.lora_alpha.is_finite(), "lora_alpha is not finite".to_owned()),
        ]
        .into_iter()
        .find_map(|(is_so, fact)| is_so.then_some(fact))
    }
}

impl AdapterConfig {
    /// Reads the config in the folder of an adapter.
    ///
    /// Errors: [`Error::Checkpoint`] for a folder without one, [`Error::Config`].
    pub(super) fn read(folder: &Path) -> Result<Self> {
        let path = folder.join(CONFIG);
        let Some(bytes) = map_file(&path)? else {
            return Err(Error::checkpoint(folder, format!("is no adapter: it has no {CONFIG}")));
        };
        let raw: Raw =
            serde_json::from_slice(&bytes).map_err(|error| Error::config(&path, error.to_string()))?;
        match raw.refused() {
            Some(fact) => Err(Error::config(&path, fact)),
            None => Ok(Self {
                rank: raw.r,
                alpha: raw.lora_alpha,
                is_rank_stabilized: raw.use_rslora,
                base_model: raw.base_model_name_or_path.unwrap_or_default(),
            }),
        }
    }

    /// What products are multiplied by.
    pub fn factor(&self) -> f32 {
        let rank = self.rank as f64;
        (self.alpha / if self.is_rank_stabilized { rank.sqrt() } else { rank }) as f32
    }

    /// The config as PEFT writes it, of adapters on the linears of these last names.
    pub(super) fn to_json(&self, modules: &[&str]) -> Value {
        // PEFT has whole numbers where it can.
        let alpha = if self.alpha.fract() == 0.0 { json!(self.alpha as i64) } else { json!(self.alpha) };
        json!({
            "peft_type": "LORA",
            "task_type": "CAUSAL_LM",
            "base_model_name_or_path": self.base_model,
            "r": self.rank,
            "lora_alpha": alpha,
            "use_rslora": self.is_rank_stabilized,
            "target_modules": modules,
            "lora_dropout": 0.0,
            "bias": "none",
            "fan_in_fan_out": false,
            "use_dora": false,
            "modules_to_save": null,
            "inference_mode": true,
        })
    }
}
