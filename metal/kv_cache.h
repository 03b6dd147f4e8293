// Where keys and values lie: `[pages, kv_heads, PAGE, head_dim]` for each layer, keys and values alike.
#pragma once

#include "common.h"

/// The first element of a KV head in a page.
inline ulong page_start(uint page, uint kv_heads, uint kv_head, uint head_dim) {
    return (ulong(page) * kv_heads + kv_head) * PAGE * head_dim;
}
