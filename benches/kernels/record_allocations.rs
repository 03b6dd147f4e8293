//! Records the blocks of a training step and of a generation, as `memory.rs` replays them.
//!
//! `cargo bench -p bitnet-benchmarks --bench record_allocations -- benches/record/allocations` writes them into that
//! folder. Of training, those that tensors take from the memory pool; of generation, those from 1 KiB that anybody takes,
//! from the pool or elsewhere.

use std::alloc::{GlobalAlloc, Layout, System};
use std::collections::HashMap;
use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

use bitnet_benchmarks::allocation_trace::{Allocation, AllocationTrace};
use bitnet_core::memory_pool::MemoryEvent;
use bitnet_core::{DType, HybridMemoryPool, Result, Tensor};
use bitnet_inference::{GenerateOptions, LoadOptions, LoadedModel};

/// Room for what is recorded: the recorder must not allocate.
const MOST: usize = 1 << 18;
/// Of generation: less than that is text and lists, not buffers.
const LEAST: usize = 1 << 10;

#[derive(Clone, Copy)]
enum Event {
    Taken { address: usize, bytes: usize, zeroed: bool },
    Given { address: usize },
}

static POOL_IS_ON: AtomicBool = AtomicBool::new(false);
static SYSTEM_IS_ON: AtomicBool = AtomicBool::new(false);
static EVENTS: Mutex<Vec<Event>> = Mutex::new(Vec::new());

fn record(is_on: &AtomicBool, event: Event) {
    if is_on.load(Ordering::Relaxed) {
        let mut events = EVENTS.lock().unwrap();
        assert!(events.len() < MOST, "more is allocated than there is room for");
        events.push(event);
    }
}

struct Recorder;

#[global_allocator]
static RECORDER: Recorder = Recorder;

/// Blocks that start at a cache line are those of the pool, which tells of them itself.
fn is_ours(layout: Layout) -> bool {
    layout.align() < 64 && layout.size() >= LEAST
}

#[expect(unsafe_code, reason = "an allocator that records")]
// SAFETY: every call goes to the system allocator unchanged.
unsafe impl GlobalAlloc for Recorder {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller's contract is passed on.
        let start = unsafe { System.alloc(layout) };
        if is_ours(layout) {
            let (address, bytes) = (start as usize, layout.size());
            record(&SYSTEM_IS_ON, Event::Taken { address, bytes, zeroed: false });
        }
        start
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller's contract is passed on.
        let start = unsafe { System.alloc_zeroed(layout) };
        if is_ours(layout) {
            let (address, bytes) = (start as usize, layout.size());
            record(&SYSTEM_IS_ON, Event::Taken { address, bytes, zeroed: true });
        }
        start
    }

    unsafe fn dealloc(&self, start: *mut u8, layout: Layout) {
        if is_ours(layout) {
            record(&SYSTEM_IS_ON, Event::Given { address: start as usize });
        }
        // SAFETY: the caller's contract is passed on.
        unsafe { System.dealloc(start, layout) }
    }
}

/// What `work` takes and gives back; addresses become numbers.
fn trace(system: bool, work: impl FnOnce()) -> AllocationTrace {
    SYSTEM_IS_ON.store(system, Ordering::Relaxed);
    POOL_IS_ON.store(true, Ordering::Relaxed);
    work();
    POOL_IS_ON.store(false, Ordering::Relaxed);
    SYSTEM_IS_ON.store(false, Ordering::Relaxed);
    let events: Vec<Event> = EVENTS.lock().unwrap().drain(..).collect();
    let (mut numbers, mut taken) = (HashMap::new(), 0);
    let mut number = |event| match event {
        Event::Taken { address, bytes, zeroed } => {
            numbers.insert(address, taken);
            taken += 1;
            Some(Allocation::Take { bytes, zeroed })
        }
        Event::Given { address } => numbers.remove(&address).map(|block| Allocation::Give { block }),
    };
    AllocationTrace::new(events.into_iter().filter_map(&mut number).collect::<Vec<_>>())
}

const SEQUENCES: usize = 4;
const TOKENS: usize = 128;
const HIDDEN: usize = 256;
const INNER: usize = 1024;
const HEADS: usize = 4;
const LAYERS: usize = 4;
const VOCAB: usize = 8192;
const STEPS: usize = 3;

/// The matrices of a layer: queries, keys, values, output; gate, up, down.
type Layer = [Tensor; 7];

/// What the backward pass needs of a layer.
struct Saved {
    normed: Tensor,
    weights: Tensor,
    values: Tensor,
    attended: Tensor,
    normed_again: Tensor,
    gate: Tensor,
    up: Tensor,
    product: Tensor,
}

fn weights(rows: usize, cols: usize) -> Result<Tensor> {
    Tensor::arange(0, (rows * cols) as i64, 1, DType::F32)?.sin()?.mul(0.05)?.reshape([rows, cols])
}

fn layer() -> Result<Layer> {
    let square = || weights(HIDDEN, HIDDEN);
    Ok([
        square()?,
        square()?,
        square()?,
        square()?,
        weights(HIDDEN, INNER)?,
        weights(HIDDEN, INNER)?,
        weights(INNER, HIDDEN)?,
    ])
}

/// `[tokens, hidden]` as `[sequences, heads, tokens, head]`.
fn split_heads(x: &Tensor) -> Result<Tensor> {
    x.reshape([SEQUENCES, TOKENS, HEADS, HIDDEN / HEADS])?.swap_axes(1, 2)
}

fn join_heads(x: &Tensor) -> Result<Tensor> {
    x.swap_axes(1, 2)?.reshape([SEQUENCES * TOKENS, HIDDEN])
}

fn forward(x: &Tensor, [q, k, v, o, gate, up, down]: &Layer) -> Result<(Tensor, Saved)> {
    let normed = x.rms_norm(None, 1e-5)?;
    let [queries, keys, values] = [q, k, v].map(|w| normed.matmul(w).and_then(|x| split_heads(&x)));
    let (queries, keys, values) = (queries?, keys?, values?);
    let weights = queries.matmul(&keys.swap_axes(-1, -2)?)?.mul(0.125)?.softmax(-1)?;
    let attended = join_heads(&weights.matmul(&values)?)?;
    let x = x.add(&attended.matmul(o)?)?;
    let normed_again = x.rms_norm(None, 1e-5)?;
    let (gate, up) = (normed_again.matmul(gate)?.relu()?, normed_again.matmul(up)?);
    let product = gate.mul(&gate)?.mul(&up)?;
    let out = x.add(&product.matmul(down)?)?;
    Ok((out, Saved { normed, weights, values, attended, normed_again, gate, up, product }))
}

/// The gradient of `x w` by `w`, and by `x`.
fn linear(x: &Tensor, w: &Tensor, d: &Tensor) -> Result<(Tensor, Tensor)> {
    Ok((x.transpose()?.matmul(d)?, d.matmul(&w.transpose()?)?))
}

/// The gradient of the input, and the layer after a step against its own; norms and scores pass gradients as they are.
fn backward(d: &Tensor, [q, k, v, o, gate, up, down]: Layer, saved: &Saved) -> Result<(Tensor, Layer)> {
    let step = |w: Tensor, d: Tensor| w.sub(&d.mul(1e-3)?);
    let (d_down, d_product) = linear(&saved.product, &down, d)?;
    let d_up = d_product.mul(&saved.gate.mul(&saved.gate)?)?;
    let d_gate = d_product.mul(&saved.up)?.mul(&saved.gate)?.mul(2.0)?;
    let (d_w_up, d_x_up) = linear(&saved.normed_again, &up, &d_up)?;
    let (d_w_gate, d_x_gate) = linear(&saved.normed_again, &gate, &d_gate)?;
    let d = d.add(&d_x_up.add(&d_x_gate)?)?;
    let (d_o, d_attended) = linear(&saved.attended, &o, &d)?;
    let d_attended = split_heads(&d_attended)?;
    let d_values = join_heads(&saved.weights.swap_axes(-1, -2)?.matmul(&d_attended)?)?;
    let d_weights = d_attended.matmul(&saved.values.swap_axes(-1, -2)?)?;
    let mean = d_weights.mul(&saved.weights)?.sum(Some(&[-1]), true)?;
    let d_scores = saved.weights.mul(&d_weights.sub(&mean)?)?;
    let d_queries = join_heads(&d_scores.matmul(&saved.values)?)?;
    let d_keys = join_heads(&d_scores.swap_axes(-1, -2)?.matmul(&saved.values)?)?;
    let (d_v, d_x_v) = linear(&saved.normed, &v, &d_values)?;
    let (d_q, d_x_q) = linear(&saved.normed, &q, &d_queries)?;
    let (d_k, d_x_k) = linear(&saved.normed, &k, &d_keys)?;
    let d = d.add(&d_x_v.add(&d_x_q)?.add(&d_x_k)?)?;
    let layer = [
        step(q, d_q)?,
        step(k, d_k)?,
        step(v, d_v)?,
        step(o, d_o)?,
        step(gate, d_w_gate)?,
        step(up, d_w_up)?,
        step(down, d_down)?,
    ];
    Ok((d, layer))
}

/// Some steps of a small transformer: tokens, loss, gradients, new weights.
fn training() -> Result<()> {
    let mut embedding = weights(VOCAB, HIDDEN)?;
    let mut layers = (0..LAYERS).map(|_| layer()).collect::<Result<Vec<_>>>()?;
    let ids = Tensor::arange(0, (SEQUENCES * TOKENS) as i64, 1, DType::I64)?;
    let targets = ids.reshape([SEQUENCES * TOKENS, 1])?;
    for _ in 0..STEPS {
        let mut x = embedding.take(&ids, 0)?;
        let mut tape = Vec::new();
        for layer in &layers {
            let (out, saved) = forward(&x, layer)?;
            tape.push(saved);
            x = out;
        }
        let log_chances = x.matmul(&embedding.transpose()?)?.log_softmax(-1)?;
        let loss = log_chances.gather(&targets, -1)?.mean(None, false)?.neg()?;
        assert!(loss.item()?.to_f64().is_finite(), "the loss is a number");
        let d_logits = log_chances.exp()?.div((SEQUENCES * TOKENS) as i64)?;
        let d_embedding = d_logits.transpose()?.matmul(&x)?;
        let mut d = d_logits.matmul(&embedding)?;
        let mut stepped = Vec::new();
        while let (Some(layer), Some(saved)) = (layers.pop(), tape.pop()) {
            let (before, layer) = backward(&d, layer, &saved)?;
            d = before;
            stepped.push(layer);
        }
        layers.extend(stepped.into_iter().rev());
        embedding = embedding.sub(&d_embedding.mul(1e-3)?)?;
    }
    Ok(())
}

fn main() {
    let Some(folder) = std::env::args().skip(1).find(|arg| !arg.starts_with("--")) else {
        println!("name the folder to write to");
        return;
    };
    EVENTS.lock().unwrap().reserve(MOST);
    let is_observed = HybridMemoryPool::global().observe(|event| {
        let event = match event {
            MemoryEvent::Taken { address, bytes } => Event::Taken { address, bytes, zeroed: false },
            MemoryEvent::Given { address } => Event::Given { address },
        };
        record(&POOL_IS_ON, event);
    });
    assert!(is_observed, "nobody else observes");
    let model = LoadedModel::embedded(&LoadOptions { threads: Some(1), ..LoadOptions::default() }).unwrap();
    let options = GenerateOptions { max_tokens: 32, ..GenerateOptions::default() };
    let generate = || drop(model.generate("My fellow citizens, today we", &options).unwrap());
    // The first one also makes what lives as long as the process.
    generate();
    let traces = [
        ("training", trace(false, || training().unwrap())),
        ("generation", trace(true, || (0..3).for_each(|_| generate()))),
    ];
    for (name, trace) in traces {
        let (blocks, bytes) = trace.taken();
        println!("{name}: {blocks} blocks, {bytes} bytes");
        std::fs::write(Path::new(&folder).join(name).with_extension("txt"), trace.to_string()).unwrap();
    }
}
