// Any bytes as a conversion's journal, and behind a header that fits, so that the records are reached too.

#include <cstddef>
#include <cstdint>
#include <vector>

#include "convert/conversion_journal.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace sluice;
  const convert::ConversionIdentity identity{5, {}, {}, {}};
  const base::Bytes bytes(reinterpret_cast<const std::byte*>(data), size);
  if (convert::parse_conversion_journal(bytes, identity).finished.size() > identity.tensors) __builtin_trap();
  auto framed = convert::conversion_journal_header(identity);
  framed.insert(framed.end(), bytes.begin(), bytes.end());
  const auto found = convert::parse_conversion_journal(framed, identity);
  if (!found.refusal.empty() || found.finished.size() > identity.tensors) __builtin_trap();
  return 0;
}
