// The facts about tokens in a container from strangers.

#include <cstddef>
#include <cstdint>
#include <string_view>

#include "base/error.h"
#include "base/invariant.h"
#include "format/hub/token_facts.h"

using namespace sluice;

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  constexpr std::uint64_t kVocabulary = 32'002;
  try {
    const auto facts = format::parse_token_facts(text, kVocabulary, "fuzz");
    for (const auto id : facts.end_ids) INVARIANT(id >= 0 && static_cast<std::uint64_t>(id) < kVocabulary);
    INVARIANT(format::parse_token_facts(format::to_text(facts), kVocabulary, "again") == facts);
  } catch (const base::Error& error) {
    INVARIANT(error.kind() == base::ErrorKind::malformed);
  }
  return 0;
}
