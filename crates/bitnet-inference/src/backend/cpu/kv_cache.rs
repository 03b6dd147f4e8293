//! Keys and values of the tokens so far.
//!
//! Positions lie in blocks. Within a group of 16 positions keys are transposed, `[head_dim][16]`, so that the scores of 16
//! positions are computed side by side; values are `[positions, head_dim]`. Stored as float32 they are read in place;
//! the smaller types are widened block by block, once for all query heads that share them.

use bitnet_core::POSITIONS;
use half::f16;

use crate::backend::KvType;
use crate::config::ModelConfig;
use crate::{Error, Result};

/// Positions whose scores are held at once.
pub(super) const BLOCK: usize = 64;

/// Per layer and KV head: keys and values of `capacity` positions.
#[derive(Debug)]
pub(super) struct KvCache {
    keys: Store,
    values: Store,
    kv_heads: usize,
    head_dim: usize,
    /// A multiple of 16.
    capacity: usize,
    len: usize,
}

/// The elements in one of the types.
#[derive(Debug)]
enum Store {
    F32(Vec<f32>),
    F16(Vec<f16>),
    /// Codes, and one scale for each position of each head: `value = code * scale`.
    I8(Vec<i8>, Vec<f32>),
}

impl Store {
    fn new(kind: KvType, elements: usize, positions: usize) -> Self {
        // Zeroed pages take no memory before they are written, so a long context costs what is used of it.
        match kind {
            KvType::F32 => Self::F32(vec![0.0; elements]),
            KvType::F16 => Self::F16(bytemuck::allocation::zeroed_vec(elements)),
            KvType::I8 => Self::I8(vec![0; elements], vec![0.0; positions]),
        }
    }

    /// Writes `values`, all of one position, to `at(i)`.
    fn write(&mut self, position: usize, values: &[f32], at: impl Fn(usize) -> usize) {
        match self {
            Self::F32(elements) => {
                values.iter().enumerate().for_each(|(i, value)| elements[at(i)] = *value);
            }
            Self::F16(elements) => {
                values.iter().enumerate().for_each(|(i, value)| elements[at(i)] = f16::from_f32(*value));
            }
            Self::I8(codes, scales) => {
                let scale = values.iter().fold(0.0_f32, |max, value| max.max(value.abs())) / 127.0;
                let inverse = if scale > 0.0 { 1.0 / scale } else { 0.0 };
                scales[position] = scale;
                for (i, value) in values.iter().enumerate() {
                    codes[at(i)] = (value * inverse).round_ties_even() as i8;
                }
            }
        }
    }

    /// Elements `start..start + len`, in place or widened into `out`. `scale_of(i)` is the place of the scale of the
    /// `i`-th among them, counted from `position`.
    fn read<'a>(
        &'a self,
        start: usize,
        len: usize,
        position: usize,
        scale_of: impl Fn(usize) -> usize,
        out: &'a mut [f32],
    ) -> &'a [f32] {
        match self {
            Self::F32(elements) => &elements[start..start + len],
            Self::F16(elements) => {
                use half::slice::HalfFloatSliceExt;
                elements[start..start + len].convert_to_f32_slice(&mut out[..len]);
                &out[..len]
            }
            Self::I8(codes, scales) => {
                for (i, (out, code)) in out.iter_mut().zip(&codes[start..start + len]).enumerate() {
                    *out = f32::from(*code) * scales[position + scale_of(i)];
                }
                &out[..len]
            }
        }
    }
}

impl KvCache {
    /// Whether keys and values of `capacity` tokens can be allocated.
    ///
    /// Errors: [`Error::OutOfMemory`]. Without this a context that a config only claims would abort the process.
    pub(super) fn check_memory(config: &ModelConfig, kind: KvType, capacity: usize) -> Result<()> {
        let factors = [2, config.layers, config.kv_heads, config.head_dim, kind.size_bytes()];
        let padded = capacity.checked_add(POSITIONS);
        let bytes = padded.and_then(|positions| {
            factors.iter().try_fold(positions, |product, &factor| product.checked_mul(factor))
        });
        let fits = bytes.is_some_and(|bytes| Vec::<u8>::new().try_reserve_exact(bytes).is_ok());
        if fits { Ok(()) } else { Err(Error::OutOfMemory { tokens: capacity }) }
    }

    pub(super) fn new(config: &ModelConfig, kind: KvType, capacity: usize) -> Self {
        let capacity = capacity.next_multiple_of(POSITIONS);
        let positions = config.layers * config.kv_heads * capacity;
        let store = || Store::new(kind, positions * config.head_dim, positions);
        Self {
            keys: store(),
            values: store(),
            kv_heads: config.kv_heads,
            head_dim: config.head_dim,
            capacity,
            len: 0,
        }
    }

    /// Tokens held in every layer.
    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// Width of a head.
    pub(super) fn head_dim(&self) -> usize {
        self.head_dim
    }

    /// Counts tokens whose keys and values all layers have written.
    pub(super) fn advance(&mut self, tokens: usize) {
        self.len += tokens;
    }

    /// Whether elements are read in place, so that nothing is gained by sharing a block between heads.
    pub(super) fn is_read_in_place(&self) -> bool {
        matches!(self.keys, Store::F32(_))
    }

    /// Bytes of keys and values of one position of one head.
    pub(super) fn position_bytes(&self) -> usize {
        2 * match self.keys {
            Store::F32(_) => 4 * self.head_dim,
            Store::F16(_) => 2 * self.head_dim,
            Store::I8(..) => self.head_dim + 4,
        }
    }

    /// Writes the keys and values (`[kv_heads * head_dim]` each) of one token of one layer.
    pub(super) fn write(&mut self, layer: usize, position: usize, keys: &[f32], values: &[f32]) {
        assert!(position < self.capacity, "position {position} of {}", self.capacity);
        let width = self.head_dim;
        for (head, (keys, values)) in keys.chunks_exact(width).zip(values.chunks_exact(width)).enumerate() {
            let first = self.first_position(layer, head);
            let group = (first + position / POSITIONS * POSITIONS) * width + position % POSITIONS;
            self.keys.write(first + position, keys, |i| group + i * POSITIONS);
            self.values.write(first + position, values, |i| (first + position) * width + i);
        }
    }

    /// Keys and values of the block of positions that begins at `start`, filled up to a group of 16: `[16s][head_dim][16]`
    /// and `[positions, head_dim]`.
    pub(super) fn block<'a>(
        &'a self,
        layer: usize,
        head: usize,
        start: usize,
        buffers: &'a mut [Vec<f32>; 2],
    ) -> (&'a [f32], &'a [f32]) {
        let positions = BLOCK.min(self.capacity - start);
        let first = self.first_position(layer, head) + start;
        let (width, len) = (self.head_dim, positions * self.head_dim);
        let [keys, values] = buffers;
        let group = width * POSITIONS;
        let key_scale = |i: usize| i / group * POSITIONS + i % POSITIONS;
        (
            self.keys.read(first * width, len, first, key_scale, keys),
            self.values.read(first * width, len, first, |i| i / width, values),
        )
    }

    fn first_position(&self, layer: usize, head: usize) -> usize {
        (layer * self.kv_heads + head) * self.capacity
    }
}
