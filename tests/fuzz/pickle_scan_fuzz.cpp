// Pickles from strangers, of all protocols, read for what they would do, and the members of lenient zip
// files.

#include <cstddef>
#include <cstdint>
#include <span>

#include "base/invariant.h"
#include "base/text.h"
#include "base/zip_codec.h"
#include "format/pickle_scan.h"
#include "format/zip_sweep.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace sluice;
  const auto scan = format::scan_pickle(std::as_bytes(std::span(data, size)));
  INVARIANT(scan.end_bytes <= size && scan.act_count >= scan.acts.size());
  const std::string sentence = format::to_sentence(scan);
  INVARIANT(base::to_printable(sentence) == sentence);
  // The same bytes as a zip file.
  const auto file = std::as_bytes(std::span(data, size));
  static_cast<void>(format::may_be_zip(file));
  format::SweptMember member;
  for (std::size_t from = 0; format::next_member(file, from, member);) {
    INVARIANT(from <= size && member.offset_bytes <= size);
    static_cast<void>(base::inflate(file.subspan(member.offset_bytes), 1u << 12));
  }
  return 0;
}
