//! Keys and values of the tokens so far.
//!
//! Within a group of 16 positions of a page keys are transposed, `[head_dim][16]`, so that the scores of 16 positions are
//! computed side by side; values are `[positions, head_dim]`. Stored as float32 they are read in place; the smaller types
//! are widened page by page, once for all query heads that share them.

use std::ops::Range;

use bitnet_core::{HybridMemoryPool, POSITIONS, PoolVec};
use half::f16;

use crate::Result;
use crate::backend::{KvType, PAGE, Page};
use crate::config::ModelConfig;

/// Per page, layer and KV head: keys and values of [`PAGE`] positions.
#[derive(Debug)]
pub(super) struct KvCache {
    keys: Store,
    values: Store,
    pages: usize,
    layers: usize,
    kv_heads: usize,
    head_dim: usize,
}

/// The elements in one of the types.
#[derive(Debug)]
enum Store {
    F32(PoolVec<f32>),
    F16(PoolVec<f16>),
    /// Codes, and one scale for each position of each head: `value = code * scale`.
    I8(PoolVec<i8>, PoolVec<f32>),
}

impl Store {
    fn new(kind: KvType, elements: usize, positions: usize) -> Result<Self> {
        // Zeroed pages take no memory before they are written, so a long context costs what is used of it.
        let pool = HybridMemoryPool::global();
        Ok(match kind {
            KvType::F32 => Self::F32(pool.zeroed(elements)?),
            KvType::F16 => Self::F16(pool.zeroed(elements)?),
            KvType::I8 => Self::I8(pool.zeroed(elements)?, pool.zeroed(positions)?),
        })
    }

    /// Writes `values`, all of one position, to `at(i)`.
    fn write(&mut self, position: usize, values: &[f32], at: impl Fn(usize) -> usize) {
        match self {
            Self::F32(elements) => {
                let elements = &mut **elements;
                values.iter().enumerate().for_each(|(i, value)| elements[at(i)] = *value);
            }
            Self::F16(elements) => {
                let elements = &mut **elements;
                values.iter().enumerate().for_each(|(i, value)| elements[at(i)] = f16::from_f32(*value));
            }
            Self::I8(codes, scales) => {
                let codes = &mut **codes;
                let scale = values.iter().fold(0.0_f32, |max, value| max.max(value.abs())) / 127.0;
                let inverse = if scale > 0.0 { 1.0 / scale } else { 0.0 };
                scales[position] = scale;
                for (i, value) in values.iter().enumerate() {
                    codes[at(i)] = (value * inverse).round_ties_even() as i8;
                }
            }
        }
    }

    /// Reads what [`Self::write`] wrote for one position, from `at(i)`.
    fn get(&self, position: usize, at: impl Fn(usize) -> usize, out: &mut [f32]) {
        let elements = out.iter_mut().enumerate();
        match self {
            Self::F32(values) => {
                let values = &**values;
                elements.for_each(|(i, out)| *out = values[at(i)]);
            }
            Self::F16(values) => {
                let values = &**values;
                elements.for_each(|(i, out)| *out = values[at(i)].to_f32());
            }
            Self::I8(codes, scales) => {
                let codes = &**codes;
                elements.for_each(|(i, out)| *out = f32::from(codes[at(i)]) * scales[position]);
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
                let scales = &**scales;
                for (i, (out, code)) in out.iter_mut().zip(&codes[start..start + len]).enumerate() {
                    *out = f32::from(*code) * scales[position + scale_of(i)];
                }
                &out[..len]
            }
        }
    }

    /// Appends the bytes of `positions`, each of `width` elements.
    fn read_bytes(&self, positions: Range<usize>, width: usize, bytes: &mut Vec<u8>) {
        let elements = positions.start * width..positions.end * width;
        match self {
            Self::F32(values) => bytes.extend_from_slice(bytemuck::cast_slice(&values[elements])),
            Self::F16(values) => bytes.extend_from_slice(bytemuck::cast_slice(&values[elements])),
            Self::I8(codes, scales) => {
                bytes.extend_from_slice(bytemuck::cast_slice(&codes[elements]));
                bytes.extend_from_slice(bytemuck::cast_slice(&scales[positions]));
            }
        }
    }

    /// Takes the bytes of `positions`, each of `width` elements, from the front of `bytes`.
    fn write_bytes(&mut self, positions: Range<usize>, width: usize, bytes: &mut &[u8]) {
        let elements = positions.start * width..positions.end * width;
        match self {
            Self::F32(values) => fill(&mut values[elements], bytes),
            Self::F16(values) => fill(&mut values[elements], bytes),
            Self::I8(codes, scales) => {
                fill(&mut codes[elements], bytes);
                fill(&mut scales[positions], bytes);
            }
        }
    }

    /// Copies `positions`, each of `width` elements, to those from `to` on.
    fn copy(&mut self, positions: Range<usize>, to: usize, width: usize) {
        let elements = positions.start * width..positions.end * width;
        match self {
            Self::F32(values) => values.copy_within(elements, to * width),
            Self::F16(values) => values.copy_within(elements, to * width),
            Self::I8(codes, scales) => {
                codes.copy_within(elements, to * width);
                scales.copy_within(positions, to);
            }
        }
    }
}

impl KvCache {
    /// Errors: those of the pool, for more pages than there is memory: without them a context that a config only claims
    /// would abort the process.
    pub(super) fn new(config: &ModelConfig, kind: KvType, pages: usize) -> Result<Self> {
        // Too many to be counted are too many for the pool.
        let positions = pages.saturating_mul(config.layers * config.kv_heads * PAGE);
        let store = || Store::new(kind, positions.saturating_mul(config.head_dim), positions);
        Ok(Self {
            keys: store()?,
            values: store()?,
            pages,
            layers: config.layers,
            kv_heads: config.kv_heads,
            head_dim: config.head_dim,
        })
    }

    /// Number of pages.
    pub(super) fn pages(&self) -> usize {
        self.pages
    }

    /// Width of a head.
    pub(super) fn head_dim(&self) -> usize {
        self.head_dim
    }

    /// Whether elements are read in place, so that nothing is gained by sharing a page between heads.
    pub(super) fn is_read_in_place(&self) -> bool {
        matches!(self.keys, Store::F32(_))
    }

    /// Bytes of keys and values of one position of one head.
    pub(super) fn position_bytes(&self) -> usize {
        let kind = match self.keys {
            Store::F32(_) => KvType::F32,
            Store::F16(_) => KvType::F16,
            Store::I8(..) => KvType::I8,
        };
        kind.position_bytes(self.head_dim)
    }

    /// Writes the keys and values (`[kv_heads * head_dim]` each) of one token of one layer to place `slot` of a page.
    pub(super) fn write(&mut self, layer: usize, page: Page, slot: usize, keys: &[f32], values: &[f32]) {
        let width = self.head_dim;
        for (head, (keys, values)) in keys.chunks_exact(width).zip(values.chunks_exact(width)).enumerate() {
            let (position, key, value) = self.place(layer, page, slot, head);
            self.keys.write(position, keys, |i| key + i * POSITIONS);
            self.values.write(position, values, |i| value + i);
        }
    }

    /// Reads what [`Self::write`] wrote, as far as its type kept it.
    pub(super) fn read_token(
        &self,
        layer: usize,
        page: Page,
        slot: usize,
        keys: &mut [f32],
        values: &mut [f32],
    ) {
        let width = self.head_dim;
        let heads = keys.chunks_exact_mut(width).zip(values.chunks_exact_mut(width));
        for (head, (keys, values)) in heads.enumerate() {
            let (position, key, value) = self.place(layer, page, slot, head);
            self.keys.get(position, |i| key + i * POSITIONS, keys);
            self.values.get(position, |i| value + i, values);
        }
    }

    /// Keys and values of the first `positions` of a page, filled up to a group of 16: `[16s][head_dim][16]` and
    /// `[positions, head_dim]`.
    pub(super) fn read<'a>(
        &'a self,
        layer: usize,
        page: Page,
        head: usize,
        positions: usize,
        buffers: &'a mut [Vec<f32>; 2],
    ) -> (&'a [f32], &'a [f32]) {
        let first = self.first_position(layer, page, head);
        let (width, len) = (self.head_dim, positions.next_multiple_of(POSITIONS) * self.head_dim);
        let [keys, values] = buffers;
        let group = width * POSITIONS;
        let key_scale = |i: usize| i / group * POSITIONS + i % POSITIONS;
        (
            self.keys.read(first * width, len, first, key_scale, keys),
            self.values.read(first * width, len, first, |i| i / width, values),
        )
    }

    /// Copies all of a page.
    pub(super) fn copy(&mut self, from: Page, to: Page) {
        let positions = self.layers * self.kv_heads * PAGE;
        let (from, to) = (from.0 as usize * positions, to.0 as usize * positions);
        for store in [&mut self.keys, &mut self.values] {
            store.copy(from..from + positions, to, self.head_dim);
        }
    }

    /// Position of a token of a head, its first key element, whose next ones are [`POSITIONS`] apart, and its first value.
    fn place(&self, layer: usize, page: Page, slot: usize, head: usize) -> (usize, usize, usize) {
        assert!(slot < PAGE, "place {slot} of {PAGE}");
        let (first, width) = (self.first_position(layer, page, head), self.head_dim);
        let group = (first + slot / POSITIONS * POSITIONS) * width + slot % POSITIONS;
        (first + slot, group, (first + slot) * width)
    }

    /// Appends the keys and values of a page, as [`crate::backend::Session::read_page`] has them.
    pub(super) fn read_page(&self, page: Page, bytes: &mut Vec<u8>) {
        for layer in 0..self.layers {
            let positions = self.positions(layer, page);
            for store in [&self.keys, &self.values] {
                store.read_bytes(positions.clone(), self.head_dim, bytes);
            }
        }
    }

    /// Takes the keys and values of a page.
    pub(super) fn write_page(&mut self, page: Page, mut bytes: &[u8]) {
        for layer in 0..self.layers {
            let positions = self.positions(layer, page);
            for store in [&mut self.keys, &mut self.values] {
                store.write_bytes(positions.clone(), self.head_dim, &mut bytes);
            }
        }
        assert!(bytes.is_empty(), "{} bytes more than a page has", bytes.len());
    }

    /// Positions of all heads of a layer in a page.
    fn positions(&self, layer: usize, page: Page) -> Range<usize> {
        let first = self.first_position(layer, page, 0);
        first..first + self.kv_heads * PAGE
    }

    fn first_position(&self, layer: usize, page: Page, head: usize) -> usize {
        ((page.0 as usize * self.layers + layer) * self.kv_heads + head) * PAGE
    }
}

/// Fills `values` from the front of `bytes`, which moves on.
fn fill<T: bytemuck::Pod>(values: &mut [T], bytes: &mut &[u8]) {
    let (front, rest) = bytes.split_at(size_of_val(values));
    bytemuck::cast_slice_mut(values).copy_from_slice(front);
    *bytes = rest;
}
