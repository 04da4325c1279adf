#pragma once
// Makes the header of a safetensors file: u64 length, JSON, spaces up to a multiple of 8. Source: README of
// huggingface/safetensors.

#include <string>
#include <vector>

#include "format/tensor.h"

namespace sluice::convert {

struct SafetensorsEntry {
  std::string name;
  format::DType dtype = format::DType::bf16;  ///< f32, bf16 or f16
  format::Shape shape;
};

/// Sorts into the order in which huggingface's implementation writes: wide types first, then by name, so that
/// every tensor is aligned to its type.
void sort_as_safetensors(std::vector<SafetensorsEntry>& entries);

/// The header for data that follows in the order of `entries`, without gaps.
[[nodiscard]] std::string encode_safetensors_header(const std::vector<SafetensorsEntry>& entries);

}  // namespace sluice::convert
