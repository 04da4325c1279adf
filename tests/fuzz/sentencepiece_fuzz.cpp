// Tokenizers from strangers: what is accepted can be written again, and is then the same.

#include <cstddef>
#include <cstdint>
#include <span>

#include "base/error.h"
#include "base/invariant.h"
#include "format/sentencepiece_model.h"

using namespace sluice;

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  try {
    auto model = format::parse_sentencepiece(std::as_bytes(std::span(data, size)), "fuzz");
    model.has_charsmap = false;
    const auto written = format::encode_sentencepiece(model);
    INVARIANT(format::parse_sentencepiece(written, "fuzz") == model);
  } catch (const base::Error& error) {
    INVARIANT(error.kind() == base::ErrorKind::malformed);
  }
  return 0;
}
