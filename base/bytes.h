#pragma once
// Bytes as numbers: little-endian access, and arithmetic that reports overflow instead of wrapping around.

#include <bit>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <limits>
#include <optional>
#include <span>
#include <string>
#include <string_view>

namespace sluice::base {

using Bytes = std::span<const std::byte>;
using MutableBytes = std::span<std::byte>;

// Every machine that Sluice runs on is little-endian; the formats are too.
static_assert(std::endian::native == std::endian::little);

/// Reads a little-endian T at `offset`, in bytes. The caller has checked the length.
template <typename T>
requires std::integral<T> || std::floating_point<T>
[[nodiscard]] T load_le(Bytes bytes, std::size_t offset = 0) {
  T value;
  std::memcpy(&value, bytes.subspan(offset, sizeof(T)).data(), sizeof(T));
  return value;
}

template <typename T>
requires std::integral<T> || std::floating_point<T>
void store_le(MutableBytes bytes, std::size_t offset, T value) {
  std::memcpy(bytes.subspan(offset, sizeof(T)).data(), &value, sizeof(T));
}

/// a + b, or nothing when it does not fit 64 bits. For numbers that are read from files or the network.
[[nodiscard]] constexpr std::optional<std::uint64_t> checked_add(std::uint64_t a, std::uint64_t b) {
  if (b > std::numeric_limits<std::uint64_t>::max() - a) return std::nullopt;
  return a + b;
}

/// a * b, or nothing when it does not fit 64 bits.
[[nodiscard]] constexpr std::optional<std::uint64_t> checked_mul(std::uint64_t a, std::uint64_t b) {
  if (a != 0 && b > std::numeric_limits<std::uint64_t>::max() / a) return std::nullopt;
  return a * b;
}

[[nodiscard]] constexpr std::uint64_t divide_up(std::uint64_t value, std::uint64_t by) {
  return value / by + (value % by != 0);
}

/// The smallest multiple of `alignment` that is not below `value`. Both must be far below 2^63.
[[nodiscard]] constexpr std::uint64_t align_up(std::uint64_t value, std::uint64_t alignment) {
  return divide_up(value, alignment) * alignment;
}

/// The bytes of a string, without a copy.
[[nodiscard]] inline Bytes as_bytes(std::string_view text) {
  return {reinterpret_cast<const std::byte*>(text.data()), text.size()};
}

/// Bytes as text, without a copy; nothing says that it is UTF-8.
[[nodiscard]] inline std::string_view as_text(Bytes bytes) {
  return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

/// True when every byte is zero. Padding in containers and torrents must be.
[[nodiscard]] bool all_zero(Bytes bytes);

}  // namespace sluice::base
