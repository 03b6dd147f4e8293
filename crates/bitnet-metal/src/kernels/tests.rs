//! Dispatches as they are made, on a device that is made of paper.

use std::cell::RefCell;
use std::time::Duration;

use bitnet_core::Buffer;

use super::*;
use crate::panels::panel_bytes;
use crate::{Binding, DeviceInfo, Dispatch};

/// Remembers which kernels it was asked for.
#[derive(Debug)]
struct Paper {
    info: DeviceInfo,
}

/// So many bytes.
#[derive(Debug, PartialEq)]
struct Sheet(usize);

impl Memory for Sheet {
    fn size_bytes(&self) -> usize {
        self.0
    }

    fn write(&mut self, _: usize, _: &[u8]) {
        unreachable!("nothing is computed");
    }

    fn read(&self, _: usize, _: &mut [u8]) {
        unreachable!("nothing is computed");
    }
}

impl Gpu for Paper {
    type Memory = Sheet;
    /// Name and constants.
    type Pipeline = (String, Vec<Constant>);

    fn info(&self) -> &DeviceInfo {
        &self.info
    }

    fn allocate(&self, bytes: usize) -> Result<Sheet> {
        Ok(Sheet(bytes))
    }

    fn share(&self, bytes: &Buffer, _: usize) -> Result<Sheet> {
        Ok(Sheet(bytes.len()))
    }

    fn pipeline(&self, kernel: &str, constants: &[Constant], threads: usize) -> Result<Self::Pipeline> {
        assert!(threads.is_multiple_of(32) && threads <= 1024);
        COMPILED.with_borrow_mut(|compiled| compiled.push(kernel.to_owned()));
        Ok((kernel.to_owned(), constants.to_vec()))
    }

    fn run(&self, _: &[Dispatch<'_, Self>]) -> Result<Duration> {
        unreachable!("nothing is computed");
    }
}

thread_local! {
    static COMPILED: RefCell<Vec<String>> = const { RefCell::new(Vec::new()) };
}

fn paper() -> Paper {
    Paper {
        info: DeviceInfo {
            name: "paper".to_owned(),
            apple_family: None,
            has_metal3: false,
            has_unified_memory: true,
            recommended_working_set_bytes: 0,
            max_buffer_bytes: 0,
            max_threads_per_threadgroup: 1024,
            max_threadgroup_memory_bytes: 32 << 10,
        },
    }
}

/// The members of a struct of `metal/params.h`, in order.
fn members(name: &str) -> Vec<String> {
    let header = crate::source::source();
    let body = header.split(&format!("struct {name} {{")).nth(1).unwrap().split('}').next().unwrap();
    let lines = body.lines().map(str::trim).filter(|line| line.ends_with(';'));
    lines.map(|line| line.trim_end_matches(';').split(' ').nth(1).unwrap().to_owned()).collect()
}

/// Compares the parameters of a dispatch, by the names that the kernels have for them, in their order.
#[track_caller]
fn assert_params(dispatch: &Dispatch<'_, Paper>, name: &str, expected: &[(&str, u32)]) {
    let got: Vec<_> = members(name).into_iter().zip(dispatch.params.words().iter().copied()).collect();
    assert_eq!(dispatch.params.words().len(), members(name).len());
    assert_eq!(got.iter().map(|(name, value)| (&**name, *value)).collect::<Vec<_>>(), expected);
}

fn sizes(dispatch: &Dispatch<'_, Paper>) -> Vec<Option<usize>> {
    dispatch.buffers.iter().map(|binding| binding.map(Binding::size_bytes)).collect()
}

#[test]
fn every_kernel_is_compiled_once_for_its_constants() {
    let gpu = paper();
    let mut compiler = Compiler::new(&gpu);
    COMPILED.take();
    TernaryProduct::new(&mut compiler, false, false).unwrap();
    TernaryProduct::new(&mut compiler, false, false).unwrap();
    assert_eq!(COMPILED.take().len(), 5);
    TernaryProduct::new(&mut compiler, true, false).unwrap();
    assert_eq!(COMPILED.take().len(), 5);
}

#[test]
fn activations_are_quantized_token_by_token() {
    let gpu = paper();
    let mut compiler = Compiler::new(&gpu);
    let gated = Quantize::new(&mut compiler, true, Some(Gate::Relu2)).unwrap();
    let out = Quantized::new(&gpu, 3, 70).unwrap();
    let (x, norm) = (Sheet(3 * 160 * 4), Sheet(70 * 4));
    let dispatch = gated.dispatch(&x, 160, Some(&norm), 0.5, 3, 70, &out);
    assert_eq!(dispatch.pipeline.1, [has_norm(true), gate(1)]);
    assert_params(
        &dispatch,
        "QuantizeParams",
        &[("cols", 70), ("x_stride", 160), ("code_stride", 96), ("eps", 0.5_f32.to_bits())],
    );
    assert_eq!((dispatch.threadgroups, dispatch.threads), ([3, 1, 1], 512));
    assert_eq!(sizes(&dispatch), [Some(1920), Some(280), Some(288), Some(12), Some(12)]);
}

#[test]
#[should_panic(expected = "x: 1920 bytes of 1900")]
fn memory_that_is_too_small_is_found() {
    let gpu = paper();
    let quantize = Quantize::new(&mut Compiler::new(&gpu), false, None).unwrap();
    let out = Quantized::new(&gpu, 3, 160).unwrap();
    quantize.dispatch(&Sheet(1900), 160, None, 0.5, 3, 160, &out);
}

#[test]
fn a_norm_of_heads_begins_where_they_do() {
    let gpu = paper();
    let norm = Norm::new(&mut Compiler::new(&gpu), false).unwrap();
    let (x, weight) = (Sheet(2 * 96 * 4), Sheet(16 * 4));
    let shape = NormShape { tokens: 2, groups: 1, cols: 16, stride: 96, first: 64, out_stride: 96 };
    let dispatch = norm.dispatch(&x, &weight, 1e-5, shape, &x);
    assert_params(
        &dispatch,
        "NormParams",
        &[("cols", 16), ("x_stride", 96), ("out_stride", 96), ("eps", 1e-5_f32.to_bits())],
    );
    assert_eq!((dispatch.threadgroups, dispatch.threads), ([1, 2, 1], 32));
    let starts: Vec<_> = dispatch.buffers.iter().flatten().map(|binding| binding.offset).collect();
    assert_eq!(starts, [256, 0, 256]);
}

#[test]
fn a_product_takes_the_kernel_of_its_shape() {
    let gpu = paper();
    let product = TernaryProduct::new(&mut Compiler::new(&gpu), false, true).unwrap();
    // Rows, tokens, kernel, grid.
    let cases = [
        (640, 1, "ternary_gemv_t1_k4", [80, 1, 1]),
        (13_824, 1, "ternary_gemv_t1_k1", [432, 1, 1]),
        (640, 7, "ternary_gemv_t4_k4", [80, 2, 1]),
        (13_821, 8, "ternary_gemv_t4_k1", [432, 2, 1]),
        (13_824, 9, "ternary_gemm", [216, 1, 1]),
        (70, 512, "ternary_gemm", [2, 16, 1]),
    ];
    for (rows, tokens, kernel, grid) in cases {
        let panels = Sheet(panel_bytes(rows, 100));
        let weights = TernaryWeights { panels, scales: Sheet(rows * 4), bias: None, rows, cols: 100 };
        let x = Quantized::new(&gpu, tokens, 100).unwrap();
        let out = Sheet(tokens * rows * 4);
        let dispatch = product.dispatch(&weights, &x, tokens, &out, rows);
        assert_eq!((&*dispatch.pipeline.0, dispatch.threadgroups), (kernel, grid));
        let [rows, tokens] = [rows, tokens].map(|size| size as u32);
        assert_params(
            &dispatch,
            "TernaryParams",
            &[("rows", rows), ("cols", 100), ("tokens", tokens), ("code_stride", 128), ("out_stride", rows)],
        );
        assert_eq!((dispatch.buffers.params_index(), sizes(&dispatch)[6]), (7, None));
    }
}

#[test]
fn a_head_of_several_tokens_reads_its_rows_for_four_of_them() {
    let gpu = paper();
    let product = FloatProduct::new(&mut Compiler::new(&gpu), Element::F16, false).unwrap();
    let elements = Sheet(100 * 64 * 2);
    let weights = FloatWeights { elements, element: Element::F16, bias: None, rows: 100, cols: 64 };
    let (x, out) = (Sheet(7 * 64 * 4), Sheet(5 * 100 * 4));
    let dispatch = product.dispatch(&weights, &x, 2, 5, &out);
    assert_eq!((&*dispatch.pipeline.0, dispatch.threadgroups), ("float_gemv_f16_t4", [7, 2, 1]));
    assert_eq!(sizes(&dispatch)[1], Some(5 * 64 * 4));
    assert_params(
        &dispatch,
        "FloatGemvParams",
        &[("rows", 100), ("cols", 64), ("tokens", 5), ("x_stride", 64), ("out_stride", 100)],
    );
    assert_eq!(product.dispatch(&weights, &x, 6, 1, &out).threadgroups, [7, 1, 1]);
}

#[test]
fn attention_reads_one_layer_of_the_cache() {
    let gpu = paper();
    let mut compiler = Compiler::new(&gpu);
    let attention = Attention::new(&mut compiler, Element::F16).unwrap();
    let rope = Rope::new(&mut compiler, Element::F16).unwrap();
    // Two layers of three pages of five heads of 128.
    let layer = 3 * 5 * PAGE * 128 * 2;
    let (keys, values, rows, table) = (Sheet(2 * layer), Sheet(2 * layer), Sheet(4 * 4), Sheet(4 * 4 * 4));
    let cache = Cache {
        keys: &keys,
        values: &values,
        layer_bytes: layer..2 * layer,
        positions: &rows,
        sequences: &rows,
        page_table: &table,
        table_stride: 4,
    };
    let shape = RopeShape { tokens: 4, heads: 20, kv_heads: 5, head_dim: 128 };
    let (qkv, cosines, out) = (Sheet(4 * 3840 * 4), Sheet(256 * 128 * 4), Sheet(4 * 2560 * 4));
    let dispatch = rope.dispatch(&qkv, &cosines, &cache, shape);
    assert_eq!(dispatch.threadgroups, [30, 4, 1]);
    assert_params(
        &dispatch,
        "RopeParams",
        &[("heads", 20), ("kv_heads", 5), ("head_dim", 128), ("qkv_stride", 3840), ("table_stride", 4)],
    );
    assert_eq!(sizes(&dispatch)[5..], [Some(layer), Some(layer)]);

    let shape =
        AttentionShape { heads: 20, kv_heads: 5, head_dim: 128, q_stride: 3840, window: None, scale: 0.25 };
    assert_eq!(shape.tile_tokens(), 2);
    let partials = Partials::new(&gpu, 4, 20, 128, 3).unwrap();
    let decode = Decode { tokens: 4, pages: 3 };
    let [parts, merge] = attention.decode(&qkv, &cache, &shape, decode, &partials, &out);
    assert_eq!((&*parts.pipeline.0, parts.threadgroups), ("attention_decode_f16_q4", [3, 5, 4]));
    assert_eq!(parts.threadgroup_bytes, 4 * (128 + 64) * 4);
    assert_eq!((merge.threadgroups, merge.params), ([5, 4, 1], parts.params));
    let mut expected = [
        ("heads", 20),
        ("kv_heads", 5),
        ("head_dim", 128),
        ("q_stride", 3840),
        ("out_stride", 2560),
        ("table_stride", 4),
        ("pages", 3),
        ("window", 0),
        ("tile_heads", 4),
        ("scale", 0.25_f32.to_bits()),
    ];
    assert_params(&parts, "AttentionParams", &expected);

    let tiles = Prefill { tokens: 4, tiles: &Sheet(2 * 8), count: 2 };
    let prefill = attention.prefill(&qkv, &cache, &shape, tiles, &out);
    assert_eq!((&*prefill.pipeline.0, prefill.threadgroups), ("attention_prefill_f16_q8", [2, 5, 1]));
    expected[6].1 = 0;
    assert_params(&prefill, "AttentionParams", &expected);
}

#[test]
fn many_heads_of_a_key_go_in_several_groups() {
    let shape = AttentionShape { heads: 24, kv_heads: 2, head_dim: 8, q_stride: 0, window: None, scale: 1.0 };
    assert_eq!((shape.tiling(), shape.tile_tokens()), ((1, 8, 2), 1));
    let alone = AttentionShape { heads: 2, ..shape };
    assert_eq!((alone.tiling(), alone.tile_tokens()), ((0, 1, 1), 8));
}
