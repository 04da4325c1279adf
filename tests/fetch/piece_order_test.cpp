#include "fetch/disk/piece_order.h"

#include <doctest/doctest.h>

#include "base/bytes.h"

using namespace sluice;

namespace {

constexpr std::uint64_t kMiB = 1 << 20;

/// A v1 torrent's files, end to end, in pieces of 4 MiB.
format::ReleaseLayout make_layout(const std::vector<std::pair<std::string, std::uint64_t>>& files) {
  format::ReleaseLayout layout;
  layout.name = "model";
  layout.piece_bytes = 4 * kMiB;
  layout.infohash_v1.emplace();
  for (const auto& [path, length] : files)
    layout.files.push_back(
        {.path = path, .length_bytes = length, .root = {}, .piece_layer = {}, .leaves = {}});
  layout.v1_pieces.resize(base::divide_up(layout.payload_bytes(), layout.piece_bytes));
  return layout;
}

}  // namespace

TEST_CASE("small files come first, then shards by their number") {
  const auto layout = make_layout({{"model-10.safetensors", 20 * kMiB},
                                   {"model-9.safetensors", 20 * kMiB},
                                   {"params.json", 4 * kMiB},
                                   {"model-0002.safetensors", 20 * kMiB},
                                   {"tokenizer.model", 4 * kMiB}});
  const fetch::PieceMap map(layout);
  const fetch::PieceOrder order(layout, map, std::vector<bool>(layout.files.size(), true));
  CHECK((order.pieces() ==
         std::vector<std::uint32_t>{10, 16, 11, 12, 13, 14, 15, 5, 6, 7, 8, 9, 0, 1, 2, 3, 4}));
}

TEST_CASE("of the wanted files only the wanted pieces are asked for") {
  const auto layout = make_layout({{"model.bin", 20 * kMiB}, {"params.json", 4 * kMiB}});
  const fetch::PieceMap map(layout);
  std::vector<bool> wanted_pieces(map.piece_count(), false);
  wanted_pieces[1] = wanted_pieces[3] = wanted_pieces[5] = true;
  const fetch::PieceOrder order(layout, map, {true, true}, wanted_pieces);
  CHECK((order.pieces() == std::vector<std::uint32_t>{5, 1, 3}));
  CHECK(order.wanted_bytes(1) == 4 * kMiB);
  CHECK_FALSE(order.wanted(0));
}

TEST_CASE("pieces of files that are not wanted are not asked for, but shared ones are") {
  const auto layout = make_layout({{"a.bin", 6 * kMiB}, {"b.bin", 9 * kMiB}, {"c.bin", 6 * kMiB}});
  const fetch::PieceMap map(layout);
  const fetch::PieceOrder order(layout, map, {false, true, false});
  CHECK((order.pieces() == std::vector<std::uint32_t>{1, 2, 3}));
  CHECK_FALSE(order.wanted(0));
  CHECK(order.wanted_bytes(1) == 2 * kMiB);
  CHECK(order.wanted_bytes(3) == 3 * kMiB);
}

TEST_CASE("the window moves on with what is there") {
  const auto layout = make_layout({{"a.bin", 4096 * kMiB}});
  const fetch::PieceMap map(layout);
  fetch::PieceOrder order(layout, map, {true});
  std::vector<bool> have(map.piece_count(), false);
  const auto first = order.next(have);
  REQUIRE(first.size() == 128);  // 512 MiB
  CHECK(first.front() == 0);
  CHECK(order.next(have).empty());
  have[1] = true;  // not the first that is missing
  CHECK(order.next(have).empty());
  have[0] = true;
  CHECK((order.next(have) == std::vector<std::uint64_t>{128, 129}));
}
