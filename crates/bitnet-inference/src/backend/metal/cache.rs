//! Keys and values on the device: two blocks of memory, in each `[layers, pages, kv_heads, PAGE, head_dim]`.

use std::ops::Range;

use bitnet_metal::kernels::Element;
use bitnet_metal::{Gpu, Memory};

use super::page_layout::{PageShape, keys_from_device, keys_to_device};
use crate::backend::{KvType, PAGE, Page};
use crate::config::ModelConfig;
use crate::{Error, Result};

/// The cache of a session.
#[derive(Debug)]
pub(super) struct KvCache<M> {
    keys: M,
    values: M,
    pages: usize,
    layers: usize,
    shape: PageShape,
}

/// The element type of the kernels.
///
/// Errors: [`Error::Unsupported`] for int8.
pub(super) fn element(kv_type: KvType) -> Result<Element> {
    match kv_type {
        KvType::F32 => Ok(Element::F32),
        KvType::F16 => Ok(Element::F16),
        KvType::I8 => Err(Error::Unsupported { what: "keep keys and values as int8" }),
    }
}

impl<M: Memory> KvCache<M> {
    pub(super) fn new<G: Gpu<Memory = M>>(
        gpu: &G,
        config: &ModelConfig,
        kv_type: KvType,
        pages: usize,
    ) -> Result<Self> {
        let element_bytes = element(kv_type)?.size_bytes();
        let shape = PageShape { heads: config.kv_heads, head_dim: config.head_dim, element_bytes };
        // Too many to be counted are too many for the device.
        let half = pages.saturating_mul(kv_type.page_bytes(config)) / 2;
        let (keys, values) = (gpu.allocate(half)?, gpu.allocate(half)?);
        Ok(Self { keys, values, pages, layers: config.layers, shape })
    }

    pub(super) fn keys(&self) -> &M {
        &self.keys
    }

    pub(super) fn values(&self) -> &M {
        &self.values
    }

    /// Number of pages.
    pub(super) fn pages(&self) -> usize {
        self.pages
    }

    /// Bytes of keys and values of one position of one layer.
    pub(super) fn position_bytes(&self) -> usize {
        2 * self.shape.size_bytes() / PAGE
    }

    /// Where a layer lies, in the keys as in the values.
    pub(super) fn layer_bytes(&self, layer: usize) -> Range<usize> {
        let bytes = self.pages * self.shape.size_bytes();
        layer * bytes..(layer + 1) * bytes
    }

    fn page_start(&self, layer: usize, page: Page) -> usize {
        (layer * self.pages + page.0 as usize) * self.shape.size_bytes()
    }

    /// Copies all of a page.
    pub(super) fn copy(&mut self, from: Page, to: Page) {
        let mut moved = vec![0; self.shape.size_bytes()];
        for layer in 0..self.layers {
            let (from, to) = (self.page_start(layer, from), self.page_start(layer, to));
            for memory in [&mut self.keys, &mut self.values] {
                memory.read(from, &mut moved);
                memory.write(to, &moved);
            }
        }
    }

    /// Appends a page, as [`crate::backend::Session::read_page`] has it.
    pub(super) fn read_page(&self, page: Page, bytes: &mut Vec<u8>) {
        let mut keys = vec![0; self.shape.size_bytes()];
        for layer in 0..self.layers {
            let at = self.page_start(layer, page);
            self.keys.read(at, &mut keys);
            let start = bytes.len();
            bytes.resize(start + 2 * keys.len(), 0);
            let (to_keys, to_values) = bytes[start..].split_at_mut(keys.len());
            keys_from_device(self.shape, &keys, to_keys);
            self.values.read(at, to_values);
        }
    }

    /// Takes a page.
    pub(super) fn write_page(&mut self, page: Page, bytes: &[u8]) {
        let half = self.shape.size_bytes();
        assert_eq!(bytes.len(), 2 * half * self.layers, "bytes of a page");
        let mut keys = vec![0; half];
        for (layer, bytes) in bytes.chunks_exact(2 * half).enumerate() {
            let at = self.page_start(layer, page);
            keys_to_device(self.shape, &bytes[..half], &mut keys);
            self.keys.write(at, &keys);
            self.values.write(at, &bytes[half..]);
        }
    }
}
