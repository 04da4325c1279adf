// Any bytes as a journal, and behind a header that fits, so that the records are reached too.

#include <cstddef>
#include <cstdint>
#include <vector>

#include "fetch/disk/journal.h"
#include "fetch/disk/resume.h"

namespace {

sluice::format::ReleaseLayout make_layout() {
  sluice::format::ReleaseLayout layout;
  layout.name = "t";
  layout.piece_bytes = 16384;
  layout.infohash_v1.emplace();
  layout.v1_pieces.resize(4);
  layout.files.push_back(
      {.path = "a", .length_bytes = 60'000, .pad = false, .root = {}, .piece_layer = {}, .leaves = {}});
  return layout;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const auto layout = make_layout();
  const sluice::base::Bytes bytes(reinterpret_cast<const std::byte*>(data), size);
  const sluice::fetch::PieceMap map(layout);
  const sluice::fetch::PieceVerifier verifier(layout, map);
  sluice::fetch::JournalState state(map, verifier, layout.files.size());
  const auto take = [&](const sluice::fetch::JournalRecord& record) { state.take(record); };
  static_cast<void>(sluice::fetch::parse_journal(bytes, layout, take));
  auto framed = sluice::fetch::journal_header(layout);
  framed.insert(framed.end(), bytes.begin(), bytes.end());
  if (!sluice::fetch::parse_journal(framed, layout, take)) __builtin_trap();
  return 0;
}
