//! Peak resident memory of a packed model. Alone in its file: the peak is of the whole process.
#![cfg(target_os = "linux")]

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::Path;

use bitnet_inference::{GenerateOptions, LoadOptions, LoadedModel, Prompt};

const LAYERS: usize = 10;
const HIDDEN: usize = 1024;
const INNER: usize = 4096;
const VOCAB: usize = 32_000;

/// Name, safetensors type, shape and the repeated bytes of a tensor.
struct Entry(String, &'static str, Vec<usize>, &'static [u8]);

impl Entry {
    fn bytes(&self) -> usize {
        let width = if self.1 == "U8" { 1 } else { 2 };
        self.2.iter().product::<usize>() * width
    }
}

/// bf16 0.0078 and -0.0078, 1, 0.02; codes of all kinds but 3.
const SMALL: &[u8] = &[0x00, 0x3c, 0x00, 0xbc];
const ONE: &[u8] = &[0x80, 0x3f];
const SCALE: &[u8] = &[0xa4, 0x3c];
const CODES: &[u8] = &[0b00_01_10_01, 0b10_00_01_10, 0b01_10_00_00, 0b01_01_01_10, 0b00_00_10_01];

fn entries() -> Vec<Entry> {
    let mut entries = vec![Entry("model.embed_tokens.weight".into(), "BF16", vec![VOCAB, HIDDEN], SMALL)];
    let mut norm = |name: String, width| entries.push(Entry(name, "BF16", vec![width], ONE));
    norm("model.norm.weight".into(), HIDDEN);
    let layer = |index: usize, name: &str| format!("model.layers.{index}.{name}");
    for index in 0..LAYERS {
        norm(layer(index, "input_layernorm.weight"), HIDDEN);
        norm(layer(index, "post_attention_layernorm.weight"), HIDDEN);
        norm(layer(index, "self_attn.attn_sub_norm.weight"), HIDDEN);
        norm(layer(index, "mlp.ffn_sub_norm.weight"), INNER);
    }
    for index in 0..LAYERS {
        let shapes = [
            ("self_attn.q_proj", HIDDEN, HIDDEN),
            ("self_attn.k_proj", HIDDEN / 4, HIDDEN),
            ("self_attn.v_proj", HIDDEN / 4, HIDDEN),
            ("self_attn.o_proj", HIDDEN, HIDDEN),
            ("mlp.gate_proj", INNER, HIDDEN),
            ("mlp.up_proj", INNER, HIDDEN),
            ("mlp.down_proj", HIDDEN, INNER),
        ];
        for (name, rows, cols) in shapes {
            let name = layer(index, name);
            entries.push(Entry(format!("{name}.weight_scale"), "BF16", vec![1], SCALE));
            entries.push(Entry(format!("{name}.weight"), "U8", vec![rows / 4, cols], CODES));
        }
    }
    entries
}

/// Writes the checkpoint piece by piece, so that writing it does not count; returns the size of its weights.
fn write_checkpoint(folder: &Path) -> usize {
    let config = serde_json::json!({
        "model_type": "bitnet", "vocab_size": VOCAB, "hidden_size": HIDDEN, "intermediate_size": INNER,
        "num_hidden_layers": LAYERS, "num_attention_heads": 16, "num_key_value_heads": 4,
        "max_position_embeddings": 4096, "tie_word_embeddings": true,
        "quantization_config": {"linear_class": "autobitlinear", "quantization_mode": "offline"},
    });
    std::fs::write(folder.join("config.json"), config.to_string()).unwrap();
    std::fs::copy(
        Path::new(env!("CARGO_MANIFEST_DIR")).join("models/bitnet-tiny/tokenizer.json"),
        folder.join("tokenizer.json"),
    )
    .unwrap();
    let entries = entries();
    let mut header = serde_json::Map::new();
    let mut end = 0;
    for entry in &entries {
        let start = end;
        end += entry.bytes();
        let Entry(name, dtype, shape, _) = entry;
        header.insert(
            name.clone(),
            serde_json::json!({"dtype": dtype, "shape": shape, "data_offsets": [start, end]}),
        );
    }
    let mut header = serde_json::Value::Object(header).to_string();
    // As the safetensors library writes it, so that every tensor is aligned and read in place.
    header.extend(std::iter::repeat_n(' ', header.len().next_multiple_of(8) - header.len()));
    let mut file = BufWriter::new(File::create(folder.join("model.safetensors")).unwrap());
    file.write_all(&(header.len() as u64).to_le_bytes()).unwrap();
    file.write_all(header.as_bytes()).unwrap();
    for entry in &entries {
        let block: Vec<u8> = entry.3.iter().copied().cycle().take(entry.3.len() * 4096).collect();
        let mut left = entry.bytes();
        while left > 0 {
            let now = left.min(block.len());
            file.write_all(&block[..now]).unwrap();
            left -= now;
        }
    }
    file.flush().unwrap();
    end
}

fn peak_resident_bytes() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    line.trim().trim_end_matches("kB").trim().parse::<usize>().unwrap() * 1024
}

#[test]
fn a_packed_model_stays_under_one_and_a_half_times_its_size() {
    let folder = tempfile::tempdir().unwrap();
    let checkpoint = write_checkpoint(folder.path());
    let model = LoadedModel::open(folder.path(), &LoadOptions::default()).unwrap();
    let ids: Vec<u32> = (0..200).collect();
    let options = GenerateOptions { max_tokens: 8, ..GenerateOptions::default() };
    model.generate(Prompt::Ids(&ids), &options).unwrap();
    let peak = peak_resident_bytes();
    println!(
        "checkpoint {checkpoint}, peak resident memory {peak}: {:.2} times",
        peak as f64 / checkpoint as f64
    );
    assert!(peak < checkpoint + checkpoint / 2, "{peak} bytes for a checkpoint of {checkpoint}");
}
