#pragma once
// Makes the head of a GGUF file: the pairs and the list of tensors.

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "format/gguf/gguf_format.h"
#include "format/tensor.h"

namespace sluice::format {

/// Bytes of a tensor's data. For q8_0 and q4_0 the last extent must be a multiple of 32.
[[nodiscard]] std::uint64_t gguf_tensor_bytes(GgufTensorType type, const Shape& shape);

/// Keys and tensors are in the file in the order of the calls.
class GgufHeader final {
 public:
  void set_u32(std::string_view key, std::uint32_t value);
  void set_f32(std::string_view key, float value);
  void set_bool(std::string_view key, bool value);
  void set_string(std::string_view key, std::string_view value);
  void set_strings(std::string_view key, std::span<const std::string> values);
  void set_f32s(std::string_view key, std::span<const float> values);
  void set_i32s(std::string_view key, std::span<const std::int32_t> values);

  /// `shape` has the outermost extent first, as everywhere in Sluice.
  void add_tensor(std::string_view name, GgufTensorType type, const Shape& shape);

  /// All bytes before the data, including padding. The data follows in the order of add_tensor(), each tensor
  /// padded with zeros to the alignment.
  [[nodiscard]] std::string encode() const;

 private:
  void begin_pair(std::string_view key, GgufValueType type);
  void begin_array(std::string_view key, GgufValueType type, std::uint64_t count);

  std::string pairs_;
  std::string tensors_;
  std::uint64_t pair_count_ = 0;
  std::uint64_t tensor_count_ = 0;
  std::uint64_t data_bytes_ = 0;
};

}  // namespace sluice::format
