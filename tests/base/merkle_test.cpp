#include "base/merkle.h"

#include <doctest/doctest.h>

#include <bit>
#include <random>

using namespace sluice::base;

namespace {

std::vector<std::byte> random_bytes(std::size_t count, unsigned seed) {
  std::mt19937 random(seed);
  std::vector<std::byte> bytes(count);
  for (std::byte& b : bytes) b = static_cast<std::byte>(random());
  return bytes;
}

Sha256 sha256_of_two(const Sha256& left, const Sha256& right) {
  std::vector<std::byte> both(left.bytes.begin(), left.bytes.end());
  both.insert(both.end(), right.bytes.begin(), right.bytes.end());
  return hash<Sha256>(both);
}

/// BEP 52 in its own words: "the leaf hashes are padded with zeros to the next power of two".
Sha256 naive_root(std::vector<Sha256> row, std::size_t width) {
  row.resize(width);
  while (row.size() > 1) {
    std::vector<Sha256> above;
    for (std::size_t i = 0; i < row.size(); i += 2) above.push_back(sha256_of_two(row[i], row[i + 1]));
    row = above;
  }
  return row.front();
}

std::vector<Sha256> distinct_leaves(std::size_t count) {
  std::vector<Sha256> leaves;
  for (std::size_t i = 0; i < count; ++i) leaves.push_back(hash<Sha256>(as_bytes(std::to_string(i))));
  return leaves;
}

}  // namespace

TEST_CASE("roots of all trees of 1 to 40 leaves are those of the definition") {
  for (std::size_t count = 1; count <= 40; ++count) {
    CAPTURE(count);
    const auto leaves = distinct_leaves(count);
    const std::size_t width = std::bit_ceil(count);
    CHECK(merkle_root(leaves) == naive_root(leaves, width));
    for (std::size_t wider = width; wider <= 256; wider *= 2)
      CHECK(merkle_root(leaves, 0, wider) == naive_root(leaves, wider));
  }
}

// The "zero hashes" of Ethereum's deposit contract (consensus-specs, solidity_deposit_contract): SHA-256 of
// two of the one before, which BEP 52 fills its trees up with. The first is SHA-256 of 64 zero bytes.
TEST_CASE("trees of zero leaves have the published roots") {
  const char* const roots[] = {"f5a5fd42d16a20302798ef6ed309979b43003d2320d9f0e8ea9831a92759fb4b",
                               "db56114e00fdd4c1f85c892bf35ac9a89289aaecb1ebd0a96cde606a748b5d71",
                               "c78009fdf07fc56a11f122370658a353aaa542ed63e44c4bc15ff4cd105ab33c"};
  Sha256 below;
  for (unsigned height = 1; height <= 3; ++height) {
    const std::uint64_t width = std::uint64_t{1} << height;
    CHECK(to_hex(merkle_root(std::vector<Sha256>(1), 0, width)) == roots[height - 1]);
    CHECK(to_hex(merkle_root(std::vector<Sha256>(width))) == roots[height - 1]);
    CHECK(to_hex(merkle_root(std::vector<Sha256>{below}, height - 1, 2)) == roots[height - 1]);
    below = merkle_parent(below, below);
  }
}

TEST_CASE("a layer of any height has the same root as the leaves") {
  for (std::size_t count = 1; count <= 40; ++count) {
    const auto leaves = distinct_leaves(count);
    for (unsigned height = 0; height <= 4; ++height) {
      const std::size_t blocks = std::size_t{1} << height;
      CAPTURE(count);
      CAPTURE(blocks);
      const auto layer = merkle_layer(leaves, blocks);
      REQUIRE(layer.size() == divide_up(count, blocks));
      for (std::size_t node = 0; node < layer.size(); ++node) {
        const std::size_t end = std::min(count, (node + 1) * blocks);
        const std::vector<Sha256> below(leaves.begin() + static_cast<std::ptrdiff_t>(node * blocks),
                                        leaves.begin() + static_cast<std::ptrdiff_t>(end));
        CHECK(layer[node] == naive_root(below, blocks));
      }
      // Only a row that the tree really has: BEP 52 has no piece layer for files of one piece.
      if (count > blocks) CHECK(merkle_root(layer, height) == merkle_root(leaves));
    }
  }
}

TEST_CASE("every leaf and its position change the root") {
  auto leaves = distinct_leaves(13);
  const Sha256 root = merkle_root(leaves);
  for (std::size_t i = 0; i < leaves.size(); ++i) {
    auto changed = leaves;
    changed[i].bytes[7] ^= std::byte{1};
    CHECK(merkle_root(changed) != root);
    if (i > 0) {
      changed = leaves;
      std::swap(changed[i], changed[i - 1]);
      CHECK(merkle_root(changed) != root);
    }
  }
  leaves.push_back(Sha256{});  // a leaf of zeros is what the padding is: only the length tells them apart
  CHECK(merkle_root(leaves) == root);
}

TEST_CASE("leaves are the hashes of 16 KiB blocks, for any sizes of updates") {
  std::mt19937 random(2);
  for (const std::size_t size : {0u, 1u, 16383u, 16384u, 16385u, 32768u, 100000u}) {
    CAPTURE(size);
    const auto data = random_bytes(size, 3);
    std::vector<Sha256> expected;
    for (std::size_t at = 0; at < size; at += kMerkleBlockBytes)
      expected.push_back(hash<Sha256>(Bytes(data).subspan(at, std::min(kMerkleBlockBytes, size - at))));
    LeafHasher hasher;
    for (int round = 0; round < 5; ++round) {
      for (Bytes rest = data; !rest.empty();) {
        const auto take =
            std::uniform_int_distribution<std::size_t>(0, std::min<std::size_t>(rest.size(), 40000))(random);
        hasher.update(rest.first(take));
        rest = rest.subspan(take);
      }
      CHECK(hasher.final() == expected);
    }
    CHECK(merkle_digest(data) ==
          (size == 0 ? Sha256{} : naive_root(expected, std::bit_ceil(expected.size()))));
  }
}
