//! The text of transformers, token by token.

use std::path::Path;
use std::sync::Arc;

use bitnet_core::ThreadPool;
use bitnet_inference::backend::metal::MetalBackend;
use bitnet_inference::backend::{Backend, KvType};
use bitnet_inference::{Checkpoint, GenerateOptions, LoadOptions, LoadedModel};
use serde::Deserialize;

use crate::device::{Device, Gpus, gpus};

#[derive(Deserialize)]
struct Golden {
    prompts: Vec<GoldenPrompt>,
}

#[derive(Deserialize)]
struct GoldenPrompt {
    text: String,
    greedy_ids: Vec<u32>,
}

/// Prompt and token at which the two best logits of transformers are 0.0024 apart, so that rounding decides:
/// see `tests/rust/golden.rs`.
const NEAR_TIE: (usize, usize) = (5, 12);

/// bitnet-tiny on a device.
pub fn on(gpu: Arc<Device>, kv_type: KvType) -> Arc<LoadedModel> {
    let prepare = |model, pool: Arc<ThreadPool>| {
        Ok(Arc::new(MetalBackend::new(gpu, model, &pool, kv_type)?) as Arc<dyn Backend>)
    };
    let options = LoadOptions { threads: Some(1), ..LoadOptions::default() };
    LoadedModel::from_checkpoint_on(&Checkpoint::embedded().unwrap(), &options, prepare).unwrap()
}

#[test]
fn greedy_tokens_are_those_of_transformers() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/fixtures/golden/bitnet-tiny.json");
    let golden: Golden = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
    for gpu in gpus(Gpus::One) {
        let model = on(gpu, KvType::F32);
        let eos = &model.config().eos;
        for (index, prompt) in golden.prompts.iter().enumerate() {
            let expected = prompt.greedy_ids.split(|id| eos.contains(id)).next().unwrap();
            let options =
                GenerateOptions { max_tokens: prompt.greedy_ids.len(), ..GenerateOptions::default() };
            let got = model.generate(prompt.text.as_str(), &options).unwrap().token_ids;
            match got.iter().zip(expected).position(|(a, b)| a != b) {
                Some(at) => assert_eq!((index, at), NEAR_TIE, "prompt {index} parts at token {at}"),
                None => assert_eq!(got, expected, "prompt {index}"),
            }
        }
    }
}
