// The head of a GGUF file, built in memory (docs/export.md; format: ggml-org/ggml, docs/gguf.md). Pairs and
// tensors are collected as bytes in two strings, because the counts come before both in the file and are
// known only at the end.

#include "format/gguf/gguf_writer.h"

#include <type_traits>

#include "base/bytes.h"
#include "base/invariant.h"

namespace sluice::format {
namespace {

template <typename T>
void put(std::string& out, T value) {
  out.append(reinterpret_cast<const char*>(&value), sizeof(value));  // the machine is little-endian too
}

void put_string(std::string& out, std::string_view text) {
  put(out, std::uint64_t{text.size()});
  out += text;
}

std::uint32_t number(auto type) { return static_cast<std::uint32_t>(type); }

}  // namespace

std::uint64_t gguf_tensor_bytes(GgufTensorType type, const Shape& shape) {
  const std::uint64_t weights = element_count(shape).value();
  switch (type) {
    case GgufTensorType::f32: return weights * 4;
    case GgufTensorType::f16:
    case GgufTensorType::bf16: return weights * 2;
    case GgufTensorType::q8_0: return weights / kGgufBlockWeights * kQ8BlockBytes;
    case GgufTensorType::mxfp4: return weights / kGgufBlockWeights * kMxfp4BlockBytes;
    case GgufTensorType::q4_0: return weights / kGgufBlockWeights * kQ4BlockBytes;
  }
  INVARIANT(!"a GgufTensorType without size");
}

void GgufHeader::begin_pair(std::string_view key, GgufValueType type) {
  put_string(pairs_, key);
  put(pairs_, number(type));
  ++pair_count_;
}

void GgufHeader::begin_array(std::string_view key, GgufValueType type, std::uint64_t count) {
  begin_pair(key, GgufValueType::array);
  put(pairs_, number(type));
  put(pairs_, count);
}

void GgufHeader::set_u32(std::string_view key, std::uint32_t value) {
  begin_pair(key, GgufValueType::u32);
  put(pairs_, value);
}

void GgufHeader::set_f32(std::string_view key, float value) {
  begin_pair(key, GgufValueType::f32);
  put(pairs_, value);
}

void GgufHeader::set_bool(std::string_view key, bool value) {
  begin_pair(key, GgufValueType::boolean);
  put(pairs_, static_cast<std::uint8_t>(value));
}

void GgufHeader::set_string(std::string_view key, std::string_view value) {
  begin_pair(key, GgufValueType::string);
  put_string(pairs_, value);
}

void GgufHeader::set_strings(std::string_view key, std::span<const std::string> values) {
  begin_array(key, GgufValueType::string, values.size());
  for (const std::string& value : values) put_string(pairs_, value);
}

void GgufHeader::set_f32s(std::string_view key, std::span<const float> values) {
  begin_array(key, GgufValueType::f32, values.size());
  for (const float value : values) put(pairs_, value);
}

void GgufHeader::set_i32s(std::string_view key, std::span<const std::int32_t> values) {
  begin_array(key, GgufValueType::i32, values.size());
  for (const std::int32_t value : values) put(pairs_, value);
}

// Tensors must be added in the order in which their data is written: each one's offset is the sum of the
// padded sizes before it. Axes are stored innermost first, the reverse of a Shape.
void GgufHeader::add_tensor(std::string_view name, GgufTensorType type, const Shape& shape) {
  put_string(tensors_, name);
  put(tensors_, static_cast<std::uint32_t>(shape.size()));
  for (std::size_t axis = shape.size(); axis-- > 0;) put(tensors_, shape[axis]);
  put(tensors_, number(type));
  put(tensors_, data_bytes_);
  data_bytes_ += base::align_up(gguf_tensor_bytes(type, shape), kGgufAlignmentBytes);
  ++tensor_count_;
}

std::string GgufHeader::encode() const {
  std::string text(kGgufMagic);
  put(text, kGgufVersion);
  put(text, tensor_count_);
  put(text, pair_count_);
  text += pairs_;
  text += tensors_;
  // Padding before the data. std::string fills with zeros, which GGUF expects.
  text.resize(base::align_up(text.size(), kGgufAlignmentBytes));
  return text;
}

}  // namespace sluice::format
