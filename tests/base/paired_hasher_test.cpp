#include "base/paired_hasher.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include "tests/support/random_bytes.h"

using namespace sluice::base;
using sluice::tests::random_bytes;

namespace {

std::size_t below(std::mt19937& random, std::size_t limit) {
  return std::uniform_int_distribution<std::size_t>(0, limit - 1)(random);
}

/// A stretch of `rest`, at times none or all of it, which is taken off.
Bytes take_some(Bytes& rest, std::mt19937& random) {
  const std::size_t limit = below(random, 2) == 0 ? std::min<std::size_t>(rest.size(), 150) : rest.size();
  const Bytes taken = rest.first(below(random, limit + 1));
  rest = rest.subspan(taken.size());
  return taken;
}

template <typename D>
void check_random_streams(bool a_has_unit, bool b_has_unit) {
  std::mt19937 random(11);
  PairedHasher<D> a(a_has_unit);
  PairedHasher<D> b(b_has_unit);
  for (int round = 0; round < 2000; ++round) {
    CAPTURE(round);
    const auto first = random_bytes(random, below(random, 1500));
    const auto second = random_bytes(random, below(random, 2) == 0 ? first.size() : below(random, 1500));
    Bytes rest_of_a = first;
    Bytes rest_of_b = second;
    while (!rest_of_a.empty() || !rest_of_b.empty()) {
      switch (below(random, 4)) {
        case 0: a.update(take_some(rest_of_a, random)); break;
        case 1: b.update(take_some(rest_of_b, random)); break;
        default: {
          const Bytes for_a = take_some(rest_of_a, random);
          PairedHasher<D>::update_pair(a, for_a, b, take_some(rest_of_b, random));
        }
      }
    }
    CHECK(a.final() == hash<D>(first));
    CHECK(b.final() == hash<D>(second));
  }
}

/// Checks the digests of `a` and `b` when they are hashed as a pair, in either order.
template <typename D>
void check_pair(const std::string& a, const char* hex_of_a, const std::string& b, const char* hex_of_b) {
  PairedHasher<D> lanes[2];
  PairedHasher<D>::update_pair(lanes[0], as_bytes(a), lanes[1], as_bytes(b));
  CHECK(to_hex(lanes[0].final()) == hex_of_a);
  CHECK(to_hex(lanes[1].final()) == hex_of_b);
}

}  // namespace

TEST_CASE("streams fed in pairs by random chunks have the digests that OpenSSL computes") {
  const bool unit = has_sha_unit();
  for (const auto& [a, b] : {std::pair{unit, unit}, {false, false}, {unit, false}}) {
    check_random_streams<Sha1>(a, b);
    check_random_streams<Sha256>(a, b);
  }
}

// FIPS 180-2, appendices A and B (the same examples accompany FIPS 180-4)
TEST_CASE("a pair of hashers gives the published digests") {
  const std::string two_blocks = "abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq";
  const std::string million(1000000, 'a');
  check_pair<Sha1>("abc", "a9993e364706816aba3e25717850c26c9cd0d89d", two_blocks,
                   "84983e441c3bd26ebaae4aa1f95129e5e54670f1");
  check_pair<Sha1>(million, "34aa973cd4c4daa4f61eeb2bdbad27316534016f", million,
                   "34aa973cd4c4daa4f61eeb2bdbad27316534016f");
  check_pair<Sha256>("abc", "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad", two_blocks,
                     "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1");
  check_pair<Sha256>(million, "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0", million,
                     "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0");
}

TEST_CASE("a stream that is interleaved with messages of any number, length and position has its digest") {
  std::mt19937 random(13);
  for (const bool unit : {has_sha_unit(), false}) {
    for (int round = 0; round < 200; ++round) {
      CAPTURE(round);
      const std::size_t begun = below(random, 3) == 0 ? below(random, 100) : 64 * below(random, 3);
      const std::size_t length = below(random, 3) == 0 ? below(random, 300) : 64 * below(random, 9);
      const std::size_t count = below(random, 2) == 0 ? 16 : below(random, 18);
      const auto stream = random_bytes(random, begun + below(random, 4 * length + 100));
      const auto content = random_bytes(random, count * length);
      const Bytes bytes(stream);
      std::vector<Bytes> messages;
      for (std::size_t i = 0; i < count; ++i) messages.push_back(Bytes(content).subspan(i * length, length));
      if (count > 0 && below(random, 4) == 0) messages.back() = messages.back().first(length / 2);
      PairedHasher<Sha256> hasher(unit);
      hasher.update(bytes.first(begun));
      std::vector<Sha256> digests(count);
      const std::size_t fed = hasher.update_interleaved(bytes.subspan(begun), messages, digests);
      REQUIRE(fed <= bytes.size() - begun);
      hasher.update(bytes.subspan(begun + fed));
      CHECK(hasher.final() == hash<Sha256>(bytes));
      for (std::size_t i = 0; i < count; ++i) CHECK(digests[i] == hash<Sha256>(messages[i]));
    }
  }
}

// 2^32 bits are 512 MiB: the length in the padding does not fit 32 bits.
TEST_CASE("the length of a long message is counted in 64 bits") {
  const std::vector<std::byte> chunk(std::size_t{32} << 20, std::byte{'a'});
  PairedHasher<Sha1> lane;
  Hasher<Sha1> plain;
  for (int i = 0; i < 17; ++i) {
    lane.update(chunk);
    plain.update(chunk);
  }
  CHECK(lane.final() == plain.final());
}
