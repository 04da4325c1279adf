#include "convert/safetensors_writer.h"

#include <algorithm>
#include <cstdint>
#include <tuple>

#include "base/bytes.h"
#include "base/invariant.h"
#include "format/json.h"

namespace sluice::convert {
namespace {

std::string_view safetensors_name(format::DType dtype) {
  switch (dtype) {
    case format::DType::f32: return "F32";
    case format::DType::f16: return "F16";
    case format::DType::bf16: return "BF16";
    default: INVARIANT(!"weights are f32, f16 or bf16");
  }
}

}  // namespace

// Larger types first, as huggingface's own writer orders them: every tensor is then aligned to the size of
// its elements without any padding.
void sort_as_safetensors(std::vector<SafetensorsEntry>& entries) {
  std::ranges::sort(entries, [](const SafetensorsEntry& a, const SafetensorsEntry& b) {
    const auto a_bytes = format::size_bytes(a.dtype);
    const auto b_bytes = format::size_bytes(b.dtype);
    return std::tie(b_bytes, a.name) < std::tie(a_bytes, b.name);
  });
}

std::string encode_safetensors_header(const std::vector<SafetensorsEntry>& entries) {
  // "pt" means torch's layout; transformers refuses files without it.
  format::Json header = format::Json::object({{"__metadata__", format::Json::object({{"format", "pt"}})}});
  std::uint64_t offset_bytes = 0;
  for (const SafetensorsEntry& entry : entries) {
    const std::uint64_t end_bytes =
        offset_bytes + format::element_count(entry.shape).value() * format::size_bytes(entry.dtype);
    header.set(entry.name,
               format::Json::object({{"dtype", safetensors_name(entry.dtype)},
                                     {"shape", format::Json::array_of(entry.shape)},
                                     {"data_offsets", format::Json::array({offset_bytes, end_bytes})}}));
    offset_bytes = end_bytes;
  }
  std::string text = header.dump();
  // Spaces behind the object, so that the data begins at a multiple of 8.
  text.resize(base::align_up(text.size(), 8), ' ');
  std::string length(8, '\0');
  base::store_le(std::as_writable_bytes(std::span(length)), 0, std::uint64_t{text.size()});
  return length + text;
}

}  // namespace sluice::convert
