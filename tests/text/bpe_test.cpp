#include "text/bpe.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <random>
#include <string>
#include <vector>

#include "tests/text/random_text.h"

using namespace sluice;
using namespace sluice::tests;
using namespace sluice::text;

using Ids = std::vector<TokenId>;

namespace {

struct PairMerge {
  TokenId left;
  TokenId right;
  TokenId product;
};

/// Random merges over the bytes of a small alphabet, in the order of their ranks. Every product has other
/// bytes.
struct RandomModel {
  BpeModel model;
  std::vector<PairMerge> merges;
};

RandomModel random_model(std::mt19937& random, std::size_t merge_count, std::string_view alphabet) {
  RandomModel out;
  PieceTable& pieces = out.model.pieces;
  std::vector<TokenId> known;
  for (TokenId byte = 0; byte < 256; ++byte) {
    pieces.set(byte, std::string(1, static_cast<char>(byte)));
    REQUIRE(pieces.index(byte));
    out.model.byte_ids[static_cast<std::size_t>(byte)] = byte;
    if (alphabet.find(static_cast<char>(byte)) != std::string_view::npos) known.push_back(byte);
  }
  for (std::size_t tries = 0; out.merges.size() < merge_count && tries < 20 * merge_count; ++tries) {
    const TokenId left = known[random() % known.size()];
    const TokenId right = known[random() % known.size()];
    const std::string bytes = std::string(pieces.bytes(left)) + std::string(pieces.bytes(right));
    if (pieces.find(bytes)) continue;
    const auto product = static_cast<TokenId>(256 + out.merges.size());
    pieces.set(product, bytes);
    REQUIRE(pieces.index(product));
    known.push_back(product);
    out.merges.push_back({left, right, product});
  }
  // A release's ranks are not in the order of its ids.
  std::ranges::shuffle(out.merges, random);
  out.model.merges = MergeTable(out.merges.size());
  for (std::uint32_t rank = 0; rank < out.merges.size(); ++rank)
    out.model.merges.set(out.merges[rank].left, out.merges[rank].right, {rank, out.merges[rank].product});
  return out;
}

/// Applies the merges one by one, each time the one of the lowest rank at its leftmost place.
Ids slow_merge(const std::vector<PairMerge>& merges, std::string_view text) {
  Ids ids;
  for (const char byte : text) ids.push_back(static_cast<unsigned char>(byte));
  for (std::size_t rank = 0; rank < merges.size();) {
    std::size_t at = 0;
    while (at + 1 < ids.size() && (ids[at] != merges[rank].left || ids[at + 1] != merges[rank].right)) ++at;
    if (at + 1 >= ids.size()) {
      ++rank;
      continue;
    }
    ids[at] = merges[rank].product;
    ids.erase(ids.begin() + static_cast<std::ptrdiff_t>(at) + 1);
    rank = 0;  // the new token may be a part of an earlier merge
  }
  return ids;
}

Ids encode(const Bpe& bpe, std::string_view piece) {
  Ids ids;
  bpe.encode(piece, ids);
  return ids;
}

}  // namespace

TEST_CASE("short and long pieces are merged as by a slow twin, over random vocabularies") {
  std::mt19937 random(5);
  for (int round = 0; round < 60; ++round) {
    RandomModel made = random_model(random, 1 + random() % 60, round % 2 == 0 ? "ab" : "abcdefg");
    const Bpe bpe(std::move(made.model));
    for (int text = 0; text < 40; ++text) {
      std::string piece;
      for (std::size_t length = random() % (text % 4 == 0 ? 300 : 60); length > 0; --length)
        piece += static_cast<char>('a' + random() % (round % 2 == 0 ? 2 : 7));
      if (piece.empty()) continue;
      const Ids expected = slow_merge(made.merges, piece);
      CHECK(encode(bpe, piece) == expected);
      CHECK(encode(bpe, piece) == expected);  // what is remembered of a piece changes nothing
    }
  }
}

TEST_CASE("a piece of a megabyte is merged like its parts") {
  std::mt19937 random(6);
  RandomModel made = random_model(random, 40, "ab");
  const auto merges = made.merges;
  made.model.merges.set('x', 'x', {});  // no merge: x stays between the parts
  const Bpe bpe(std::move(made.model));
  std::string part;
  for (int i = 0; i < 199; ++i) part += "ab"[random() % 2];
  const Ids expected = slow_merge(merges, part);
  std::string text;
  while (text.size() < 1000000) text += part + "x";
  const Ids ids = encode(bpe, text);
  REQUIRE(ids.size() == text.size() / 200 * (expected.size() + 1));
  for (std::size_t i = 0; i < ids.size(); ++i) {
    const std::size_t within = i % (expected.size() + 1);
    if (ids[i] != (within == expected.size() ? 'x' : expected[within])) FAIL("token " << i << " differs");
  }
}

TEST_CASE("a byte without a token becomes U+FFFD, and a character without one its bytes") {
  std::mt19937 random(7);
  BpeModel model = random_model(random, 0, "a").model;
  model.byte_ids[0xFF] = BpeModel::kNoToken;
  CHECK(encode(Bpe(std::move(model)), "a\xFF") == Ids{'a', 0xEF, 0xBF, 0xBD});
  model = random_model(random, 0, "a").model;
  model.start = StartSymbols::characters;
  model.pieces.set(300, "é");
  CHECK(model.pieces.index(300));
  CHECK(encode(Bpe(std::move(model)), "aéß\xC3") == Ids{'a', 300, 0xC3, 0x9F, 0xC3});
}

TEST_CASE("tables find what was put in, and nothing else") {
  PieceTable pieces;
  std::mt19937 random(8);
  std::vector<std::string> texts;
  for (TokenId id = 0; id < 5000; ++id) {
    texts.push_back(random_text(random, 8) + std::to_string(id));
    pieces.set(2 * id, texts.back());
    if (id % 2 == 0) CHECK(pieces.index(2 * id));
  }
  for (TokenId id = 0; id < 5000; ++id) {
    const auto found = pieces.find(texts[static_cast<std::size_t>(id)]);
    CHECK(found == (id % 2 == 0 ? std::optional<TokenId>(2 * id) : std::nullopt));
    CHECK(pieces.bytes(2 * id) == texts[static_cast<std::size_t>(id)]);
    CHECK(!pieces.has(2 * id + 1));
  }
  CHECK(pieces.bytes(-1).empty());
  CHECK(pieces.bytes(100000).empty());
  CHECK(!pieces.find(""));
  pieces.set(20001, texts[0]);
  CHECK(!pieces.index(20001));  // another id has these bytes
  MergeTable merges(1000);
  for (TokenId id = 0; id < 1000; ++id) merges.set(id, id + 1, {static_cast<std::uint32_t>(id), 2 * id});
  merges.set(7, 8, {5000, 1});
  for (TokenId id = 0; id < 1000; ++id) {
    CHECK(merges.find(id, id + 1).rank == (id == 7 ? 5000U : static_cast<std::uint32_t>(id)));
    CHECK(merges.find(id + 1, id).rank == Merge::kNone);
  }
  CHECK(MergeTable(0).find(0, 0).rank == Merge::kNone);
}
