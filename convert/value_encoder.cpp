#include "convert/value_encoder.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "base/invariant.h"
#include "format/gguf/gguf_format.h"
#include "format/tensor.h"

namespace sluice::convert {
namespace {

using format::kGgufBlockWeights;
using format::kQ4BlockBytes;
using format::kQ8BlockBytes;

/// Rounds as roundf does, halves away from zero: adding the float just below 1/2 cannot carry a smaller
/// fraction over. roundf itself is a call for each value; the compiler vectorizes this arithmetic.
int round_away(float value) { return static_cast<int>(value + std::copysign(0x1.FFFFFEp-2F, value)); }

/// 0 for scales whose reciprocal is infinite: in f16 they are 0, so the codes make no difference.
float reciprocal(float scale) {
  const float inverse = scale != 0 ? 1.0F / scale : 0.0F;
  return std::isfinite(inverse) ? inverse : 0.0F;
}

void encode_q8_block(const float* values, std::byte* out) {
  float greatest = 0;
  for (std::uint64_t i = 0; i < kGgufBlockWeights; ++i) greatest = std::max(greatest, std::fabs(values[i]));
  // Codes use the scale before its rounding to f16, like quantize_row_q8_0_ref in ggml, so that the bytes are
  // those of llama.cpp.
  const float scale = greatest / 127.0F;
  const float inverse = reciprocal(scale);
  const std::uint16_t half = format::f32_to_f16(scale);
  std::memcpy(out, &half, sizeof(half));
  for (std::uint64_t i = 0; i < kGgufBlockWeights; ++i)
    out[2 + i] = static_cast<std::byte>(static_cast<std::int8_t>(round_away(values[i] * inverse)));
}

void encode_q4_block(const float* values, std::byte* out) {
  float greatest = 0;
  float extreme = 0;  // the value of largest magnitude, with its sign
  for (std::uint64_t i = 0; i < kGgufBlockWeights; ++i) {
    if (greatest >= std::fabs(values[i])) continue;
    greatest = std::fabs(values[i]);
    extreme = values[i];
  }
  // The extreme gets the code 0, which stands for -8, so its sign is that of the scale.
  const float scale = extreme / -8.0F;
  const float inverse = reciprocal(scale);
  const std::uint16_t half = format::f32_to_f16(scale);
  std::memcpy(out, &half, sizeof(half));
  const auto code = [&](std::uint64_t i) {
    return std::min(15, static_cast<int>(values[i] * inverse + 8.5F));
  };
  constexpr std::uint64_t kHalf = kGgufBlockWeights / 2;
  for (std::uint64_t i = 0; i < kHalf; ++i)
    out[2 + i] = static_cast<std::byte>(code(i) | code(i + kHalf) << 4);
}

}  // namespace

std::string_view to_string(ExportType type) {
  switch (type) {
    case ExportType::f32: return "f32";
    case ExportType::f16: return "f16";
    case ExportType::bf16: return "bf16";
    case ExportType::q8_0: return "q8";
    case ExportType::q4_0: return "q4";
  }
  INVARIANT(!"an ExportType without name");
}

std::uint64_t encoded_bytes(ExportType type, std::uint64_t count) {
  switch (type) {
    case ExportType::f32: return count * 4;
    case ExportType::f16:
    case ExportType::bf16: return count * 2;
    case ExportType::q8_0: return count / kGgufBlockWeights * kQ8BlockBytes;
    case ExportType::q4_0: return count / kGgufBlockWeights * kQ4BlockBytes;
  }
  INVARIANT(!"an ExportType without size");
}

void encode_values(ExportType type, std::span<const float> values, base::MutableBytes out) {
  INVARIANT(out.size() == encoded_bytes(type, values.size()));
  std::byte* const to = out.data();
  switch (type) {
    case ExportType::f32: std::memcpy(to, values.data(), out.size()); return;
    case ExportType::f16:
    case ExportType::bf16:
      for (std::size_t i = 0; i < values.size(); ++i) {
        const std::uint16_t bits =
            type == ExportType::bf16 ? format::f32_to_bf16(values[i]) : format::f32_to_f16(values[i]);
        std::memcpy(to + 2 * i, &bits, sizeof(bits));
      }
      return;
    case ExportType::q8_0:
      INVARIANT(values.size() % kGgufBlockWeights == 0);
      for (std::size_t block = 0; block * kGgufBlockWeights < values.size(); ++block)
        encode_q8_block(values.data() + block * kGgufBlockWeights, to + block * kQ8BlockBytes);
      return;
    case ExportType::q4_0:
      INVARIANT(values.size() % kGgufBlockWeights == 0);
      for (std::size_t block = 0; block * kGgufBlockWeights < values.size(); ++block)
        encode_q4_block(values.data() + block * kGgufBlockWeights, to + block * kQ4BlockBytes);
      return;
  }
}

}  // namespace sluice::convert
