#pragma once
// Digest values. A digest is a result and a hasher (hasher.h) computes it; the two never share a name.

#include <array>
#include <compare>
#include <cstddef>
#include <optional>
#include <span>
#include <string>
#include <string_view>

namespace sluice::base {

/// N bytes that identify content. The tag makes digests of the same size different types.
template <std::size_t N, typename Tag>
struct Digest {
  static constexpr std::size_t kBytes = N;
  std::array<std::byte, N> bytes{};

  auto operator<=>(const Digest&) const = default;
};

using Md5 = Digest<16, struct Md5Tag>;
using Sha1 = Digest<20, struct Sha1Tag>;
using Sha256 = Digest<32, struct Sha256Tag>;
using Blake2b512 = Digest<64, struct Blake2b512Tag>;

/// Lower-case hex.
[[nodiscard]] std::string to_hex(std::span<const std::byte> bytes);

template <std::size_t N, typename Tag>
[[nodiscard]] std::string to_hex(const Digest<N, Tag>& digest) {
  return to_hex(std::span<const std::byte>(digest.bytes));
}

/// An empty text for no digest.
template <typename D>
[[nodiscard]] std::string to_hex_or_empty(const std::optional<D>& digest) {
  return digest ? to_hex(*digest) : std::string();
}

/// Fills `out` from exactly 2 * out.size() hex digits of either case; false for any other text.
[[nodiscard]] bool from_hex(std::string_view text, std::span<std::byte> out);

/// The digest of type D that `hex` spells; nothing for any other text.
template <typename D>
[[nodiscard]] std::optional<D> parse_digest(std::string_view hex) {
  D digest;
  if (!from_hex(hex, digest.bytes)) return std::nullopt;
  return digest;
}

}  // namespace sluice::base
