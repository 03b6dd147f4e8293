// What kernels are told, one struct each: 32-bit members only, mirrored by the host.
#pragma once

struct QuantizeParams {
    uint cols;
    /// Elements from one token to the next.
    uint x_stride;
    /// `cols` rounded up to 32.
    uint code_stride;
    float eps;
};

struct NormParams {
    uint cols;
    uint x_stride;
    uint out_stride;
    float eps;
};

struct GateParams {
    uint cols;
    uint x_stride;
    uint out_stride;
};

struct AddParams {
    uint count;
};

struct EmbeddingParams {
    uint cols;
    float scale;
};

struct TernaryParams {
    uint rows;
    uint cols;
    uint tokens;
    uint code_stride;
    uint out_stride;
};

struct FloatGemvParams {
    uint rows;
    uint cols;
    uint tokens;
    uint x_stride;
    uint out_stride;
};

struct RopeParams {
    uint heads;
    uint kv_heads;
    uint head_dim;
    uint qkv_stride;
    /// Entries of the page table for each sequence.
    uint table_stride;
};

struct CopyPageParams {
    uint from;
    uint to;
    /// Units of 16 bytes.
    uint page_units;
    uint layer_units;
};

struct AttentionParams {
    uint heads;
    uint kv_heads;
    uint head_dim;
    uint q_stride;
    uint out_stride;
    uint table_stride;
    /// Pages for which there are partial results.
    uint pages;
    /// Positions that a token sees at most; 0 for all.
    uint window;
    /// Query heads of one KV head that go together.
    uint tile_heads;
    float scale;
};

struct ArgmaxParams {
    uint cols;
    uint stride;
};

struct TopKParams {
    uint cols;
    uint stride;
    uint k;
};

struct AbsSumsParams {
    uint rows;
    uint cols;
};

struct TernarizeParams {
    uint rows;
    uint cols;
    float inverse_scale;
};
