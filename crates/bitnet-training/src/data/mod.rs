//! Training data: files -> tokens, once -> sequences -> batches, in an order that a seed decides.
//!
//! A file is read by the end of its name:
//!
//! | name | what it holds |
//! |---|---|
//! | `.jsonl`, `.ndjson` | a JSON object a line: `{"text": "..."}`, or `{"messages": [{"role": "...", "content": "..."}]}` |
//! | `.npy` | token ids of NumPy, one dimension of `uint8`, `uint16`, `uint32`, `int32` or `int64` |
//! | `.safetensors` | tokens as the cache has them, below |
//! | any other | one text in UTF-8 |
//!
//! A text, or an object of a line, is a document. Its tokens are those that inference reads, with what the tokenizer puts
//! around them, and the token that ends a text, where one is named. In an array of NumPy a document ends with that token.
//!
//! Everything but `.safetensors` is tokenized once, into a file of this form, which is memory-mapped:
//!
//! | tensor | type | shape | |
//! |---|---|---|---|
//! | `ids` | int32 | `[tokens]` | |
//! | `documents` | int64 | `[documents]` | where each begins: 0 first, ascending; without it there is one |
//! | `loss` | uint8 | `[tokens]` | 1 for tokens that are to be learnt, else 0; without it all are |

mod batch;
mod conversation;
mod dataset;
mod documents;
mod encoder;
mod in_order;
mod loader;
mod npy;
mod order;
mod packing;
mod source;
mod token_cache;
mod token_file;

#[cfg(test)]
mod tests;

pub use self::batch::Batch;
pub use self::dataset::Dataset;
pub use self::loader::Loader;
pub use self::order::{Order, Position};
pub use self::packing::{PackOptions, Packing};
pub use self::token_cache::TokenCache;
pub use self::token_file::TokenFile;
