// Pickles from strangers, of all protocols, read for what they would do.

#include <cstddef>
#include <cstdint>
#include <span>

#include "base/invariant.h"
#include "base/text.h"
#include "format/pickle_scan.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace sluice;
  const auto scan = format::scan_pickle(std::as_bytes(std::span(data, size)));
  INVARIANT(scan.end_bytes <= size && scan.act_count >= scan.acts.size());
  const std::string sentence = format::to_sentence(scan);
  INVARIANT(base::to_printable(sentence) == sentence);
  return 0;
}
