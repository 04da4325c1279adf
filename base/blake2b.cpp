#include "base/blake2b.h"

#include <algorithm>
#include <array>
#include <bit>

#include "base/invariant.h"

namespace sluice::base {
namespace {

using Words = std::array<std::uint64_t, 16>;

// RFC 7693, 2.6: those of SHA-512.
constexpr std::array<std::uint64_t, 8> kInitial = {0x6a09e667f3bcc908, 0xbb67ae8584caa73b, 0x3c6ef372fe94f82b,
                                                   0xa54ff53a5f1d36f1, 0x510e527fade682d1, 0x9b05688c2b3e6c1f,
                                                   0x1f83d9abfb41bd6b, 0x5be0cd19137e2179};

// RFC 7693, 2.7: the order in which each round takes the message's words. Rounds 10 and 11 are 0 and 1 again.
constexpr std::array<std::array<std::uint8_t, 16>, 10> kSchedule = {{
    {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15},
    {14, 10, 4, 8, 9, 15, 13, 6, 1, 12, 0, 2, 11, 7, 5, 3},
    {11, 8, 12, 0, 5, 2, 15, 13, 10, 14, 3, 6, 7, 1, 9, 4},
    {7, 9, 3, 1, 13, 12, 11, 14, 2, 6, 5, 10, 4, 0, 15, 8},
    {9, 0, 5, 7, 2, 4, 10, 15, 14, 1, 11, 12, 6, 8, 3, 13},
    {2, 12, 6, 10, 0, 11, 8, 3, 4, 13, 7, 5, 15, 14, 1, 9},
    {12, 5, 1, 15, 14, 13, 4, 10, 0, 7, 6, 3, 9, 2, 8, 11},
    {13, 11, 7, 14, 12, 1, 3, 9, 5, 0, 15, 4, 8, 6, 2, 10},
    {6, 15, 14, 9, 11, 3, 0, 8, 12, 2, 13, 7, 1, 4, 10, 5},
    {10, 2, 8, 4, 7, 6, 1, 5, 15, 11, 9, 14, 3, 12, 13, 0},
}};

// The columns of the 4 x 4 state, then its diagonals.
constexpr std::array<std::array<std::uint8_t, 4>, 8> kLanes = {{{0, 4, 8, 12},
                                                                {1, 5, 9, 13},
                                                                {2, 6, 10, 14},
                                                                {3, 7, 11, 15},
                                                                {0, 5, 10, 15},
                                                                {1, 6, 11, 12},
                                                                {2, 7, 8, 13},
                                                                {3, 4, 9, 14}}};

// RFC 7693, 3.1: G.
void mix(Words& v, const std::array<std::uint8_t, 4>& lane, std::uint64_t x, std::uint64_t y) {
  auto& a = v[lane[0]];
  auto& b = v[lane[1]];
  auto& c = v[lane[2]];
  auto& d = v[lane[3]];
  a += b + x;
  d = std::rotr(d ^ a, 32);
  c += d;
  b = std::rotr(b ^ c, 24);
  a += b + y;
  d = std::rotr(d ^ a, 16);
  c += d;
  b = std::rotr(b ^ c, 63);
}

}  // namespace

void blake2b_block(Bytes message, MutableBytes digest) {
  INVARIANT(message.size() <= kBlake2bBlockBytes);
  INVARIANT(!digest.empty() && digest.size() <= 64);
  std::array<std::byte, kBlake2bBlockBytes> block{};
  std::ranges::copy(message, block.begin());
  Words words;
  for (std::size_t i = 0; i < words.size(); ++i) words[i] = load_le<std::uint64_t>(block, 8 * i);

  std::array<std::uint64_t, 8> state = kInitial;
  state[0] ^= 0x01010000 ^ digest.size();  // no key, one leaf
  Words v;
  std::ranges::copy(state, v.begin());
  std::ranges::copy(kInitial, v.begin() + 8);
  v[12] ^= message.size();
  v[14] = ~v[14];  // the last block

  for (std::size_t round = 0; round < 12; ++round) {
    const auto& order = kSchedule[round % kSchedule.size()];
    for (std::size_t i = 0; i < kLanes.size(); ++i)
      mix(v, kLanes[i], words[order[2 * i]], words[order[2 * i + 1]]);
  }
  std::array<std::byte, 64> out;
  for (std::size_t i = 0; i < state.size(); ++i)
    store_le<std::uint64_t>(out, 8 * i, state[i] ^ v[i] ^ v[i + 8]);
  std::ranges::copy_n(out.begin(), static_cast<std::ptrdiff_t>(digest.size()), digest.begin());
}

}  // namespace sluice::base
